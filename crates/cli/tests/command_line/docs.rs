//! `docs/cli.md` is what the program says of itself. `HALLMARK_BLESS=1 cargo test -p hallmark-cli docs` writes it anew.

use std::path::Path;

use clap::{Command, CommandFactory};

#[test]
fn the_manual_is_the_programs_own_words() {
    let mut root = hallmark_cli::args::Cli::command();
    root.build();
    let mut text = String::from(
        "# The command line\n\nGenerated from the program's own help; a test keeps it so. Every command also takes\nthe global options of the first page.\n",
    );
    page(&mut root, &mut text);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
    if std::env::var_os("HALLMARK_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == text,
        "docs/cli.md is not what the program says; write it anew with HALLMARK_BLESS=1"
    );
}

fn page(command: &mut Command, text: &mut String) {
    let name = command.get_bin_name().unwrap_or("hallmark").to_owned();
    let help = command.render_long_help().to_string();
    let sub = name.contains(' ');
    // The options of every command stand on the first page alone.
    let help = help.lines().map(str::trim_end).take_while(|line| !(sub && *line == "Global options:"));
    let help: Vec<&str> = help.collect();
    text.push_str(&format!("\n## `{name}`\n\n```text\n{}\n```\n", help.join("\n").trim_end()));
    for sub in command.get_subcommands_mut().filter(|sub| sub.get_name() != "help") {
        page(sub, text);
    }
}
