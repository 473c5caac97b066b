//! `docs/operators.md` names every operator with its versions, and no other. Its counts are checked by
//! `conformance --check` (an example of `hallmark-engine`), which needs the tests of the `onnx` package.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use hallmark_model::ops::{Domain, FAMILIES};

#[test]
fn the_page_is_current() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operators.md");
    let page = std::fs::read_to_string(path).unwrap();
    for (domain, title) in
        Domain::ALL.into_iter().zip(["## ai.onnx\n", "## ai.onnx.ml\n", "## ai.hallmark\n"])
    {
        let section = page.split(title).nth(1).and_then(|rest| rest.split("## ").next()).unwrap();
        let rows = section.lines().filter_map(|line| {
            let mut cells = line.strip_prefix("| ")?.split(" | ");
            Some((cells.next()?.to_string(), cells.next()?.to_string()))
        });
        let named: BTreeSet<_> = rows.filter(|(name, _)| name != "operator").collect();
        let ops = FAMILIES.iter().copied().flatten().filter(|op| op.domain == domain);
        let known: BTreeSet<_> = ops
            .map(|op| {
                let versions: Vec<String> = op.versions.iter().map(u32::to_string).collect();
                (op.name.to_string(), versions.join(", "))
            })
            .collect();
        assert_eq!(named, known, "run `conformance FOLDER --write docs/operators.md`");
    }
}
