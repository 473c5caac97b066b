//! The arrows between crates are those of ARCHITECTURE.md's table, and no others.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cargo_metadata::{DependencyKind, MetadataCommand};

/// The table: crate -> the crates that it may depend on.
fn table(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let cells = |line: &str| -> Vec<String> { line.split('|').map(|cell| cell.trim().to_owned()).collect() };
    // The first table of the page; others have rows that look alike.
    let lines =
        text.lines().skip_while(|line| !line.starts_with("| `")).take_while(|line| line.starts_with('|'));
    let rows: Vec<Vec<String>> = lines.map(cells).collect();
    let names: BTreeSet<String> = rows.iter().map(|row| row[1].trim_matches('`').to_owned()).collect();
    let allowed = |name: &str, cell: &str| match cell {
        "-" => BTreeSet::new(),
        "all" => names.iter().filter(|other| *other != name).cloned().collect(),
        list => list.split(", ").map(str::to_owned).collect(),
    };
    rows.iter()
        .map(|row| {
            let name = row[1].trim_matches('`').to_owned();
            let allowed = allowed(&name, &row[3]);
            (name, allowed)
        })
        .collect()
}

#[test]
fn the_arrows_are_those_of_the_table() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let table = table(&std::fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap());
    assert!(table.len() >= 5, "the table of ARCHITECTURE.md was not found");
    let metadata = MetadataCommand::new()
        .current_dir(&root)
        .no_deps()
        .other_options(vec!["--offline".into()])
        .exec()
        .unwrap();
    let mut seen = BTreeSet::new();
    for package in &metadata.packages {
        let Some(name) = package.name.strip_prefix("hallmark-") else {
            panic!("package {} is not called hallmark-..", package.name);
        };
        let allowed =
            table.get(name).unwrap_or_else(|| panic!("crate `{name}` is not in ARCHITECTURE.md's table"));
        seen.insert(name.to_owned());
        // Tests may reach further; what ships may not.
        let shipped = package.dependencies.iter().filter(|d| d.kind != DependencyKind::Development);
        for other in shipped.filter_map(|dependency| dependency.name.strip_prefix("hallmark-")) {
            assert!(
                allowed.contains(other),
                "`{name}` depends on `{other}`, which ARCHITECTURE.md does not allow"
            );
        }
    }
    let listed: BTreeSet<String> = table.into_keys().collect();
    assert_eq!(seen, listed, "crates, and rows of ARCHITECTURE.md's table");
}
