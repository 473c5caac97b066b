//! The home: unreadable, full, shared.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use super::onnx::{Model, node};
use super::{Place, Run};

#[test]
fn an_unreadable_home_is_named() {
    let place = Place::new();
    std::fs::write(place.home(), b"a file where a folder should be").unwrap();
    for command in [&["model", "list"][..], &["receipts", "list"], &["keys", "show"], &["keys", "new"]] {
        place.refuse(command, 4, &["is not usable"]);
    }
}

#[test]
fn damaged_documents_are_named() {
    let place = Place::new();
    let model = place.file("m.onnx", Model::new(vec![node("Relu", &["x"], &["y"])]).bytes());
    let id = place.json(&["model", "add", &model, "--name", "m"])["id"].as_str().unwrap().to_owned();
    let stored = place.home().join("models").join(&id).join("files/model.onnx");
    let mut bytes = std::fs::read(&stored).unwrap();
    // Another node name: the same computation, other bytes.
    let at = bytes.windows(8).position(|window| window == b"the_relu").unwrap();
    bytes[at] = b'T';
    std::fs::write(&stored, bytes).unwrap();
    place.refuse(&["model", "show", "m"], 4, &["is damaged", "SHA-256"]);
    place.refuse(&["model", "show", &id[..8]], 4, &["is damaged"]);
    std::fs::write(place.home().join("names/n"), "nonsense").unwrap();
    place.refuse(&["model", "list"], 4, &["is damaged"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_nothing_behind() {
    let place = Place::new();
    let run =
        place.refuse(&["infer", "tumour-trees", "--sample", "--output", "/dev/full"], 4, &["no room left"]);
    assert_eq!(run.out, "");
    // No file may grow beyond 8 blocks: the receipt does not fit, neither in the home nor where it was asked for.
    place.ok(&["keys", "new"]);
    let before = place.snapshot();
    let program = env!("CARGO_BIN_EXE_hallmark");
    let script = format!(
        "trap '' XFSZ; ulimit -f 8; exec {program} infer tumour-trees --sample --receipt r.receipt.json"
    );
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &script]).current_dir(place.folder.path());
    shell.env("HALLMARK_HOME", place.home()).env("HALLMARK_CONFIG", place.path("none"));
    let run = Run::from(shell.output().unwrap());
    assert_eq!(run.code, 4, "{}", run.err);
    assert!(run.err.contains("no room left"), "{}", run.err);
    assert_eq!(place.snapshot(), before);
    assert!(!place.path("r.receipt.json").exists());
}

#[test]
fn a_home_that_another_process_writes_to_is_waited_for_then_refused() {
    let place = Place::new();
    place.ok(&["keys", "new"]);
    let lock = std::fs::File::options().write(true).open(place.home().join("lock")).unwrap();
    lock.lock().unwrap();
    place.file("config.toml", "lock_wait = 0");
    place.refuse(&["keys", "rotate"], 4, &["another process is writing", "hint"]);
    // Readers need no lock.
    place.ok(&["keys", "show"]);
    place.file("config.toml", "lock_wait = 60");
    let mut waiting = place.command(&["keys", "rotate"]).stdout(Stdio::piped()).spawn().unwrap();
    lock.unlock().unwrap();
    let mut line = String::new();
    BufReader::new(waiting.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("receipt key"), "{line}");
    assert!(waiting.wait().unwrap().success());
}

#[test]
fn processes_that_write_at_once_all_succeed() {
    let place = Place::new();
    let infer = ["infer", "tumour-trees", "--sample", "--evidence", "signature"];
    let spawn = |_| place.command(&infer).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let runs: Vec<_> = (0..3).map(spawn).collect();
    for run in runs {
        let run = Run::from(run.wait_with_output().unwrap());
        assert_eq!(run.code, 0, "{}", run.err);
    }
    assert_eq!(place.json(&["receipts", "list"])["receipts"].as_array().unwrap().len(), 3);
    let keys = place.json(&["keys", "show"]);
    assert_eq!(
        keys["receipt_keys"].as_array().unwrap().len(),
        1,
        "one process made the keys, the others used them"
    );
}
