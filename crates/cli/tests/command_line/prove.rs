//! Evidence `zk` from end to end: commit, infer, prove, verify, and what is refused.

use std::path::Path;

use serde_json::Value;

use crate::onnx::{Model, node};
use crate::{Place, npy};

/// A model of `vectors/proof`, brought into the home and committed to under its name.
fn committed(place: &Place, name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../vectors/proof/{name}.onnx"));
    place.ok(&["model", "add", &path.display().to_string(), "--name", name]);
    let made = place.json(&["model", "commit", name]);
    assert_eq!(made["names"][0], name);
    made["id"].as_str().unwrap().to_owned()
}

const ROW: &str = "[[0.5, -1.5, 0.25, 1, 0, -0.125, 1.75, -1]]";
const ROWS: &str =
    "[[0.5, -1.5, 0.25, 1, 0, -0.125, 1.75, -1], [1, 1, 1, 1, -1, -1, 0, 0.5], [0, 0, 0, 0, 0, 0, 0, 0]]";

/// The check `id` of one verdict.
fn check<'a>(verdict: &'a Value, id: &str) -> &'a Value {
    let checks = verdict["checks"].as_array().unwrap();
    checks.iter().find(|check| check["id"] == id).unwrap_or_else(|| panic!("no check {id} in {verdict}"))
}

/// What a verifier says of `bundle`, with its exit code.
fn verdict(place: &Place, arguments: &[&str]) -> (i32, Value) {
    let all: Vec<&str> = [&["verify"], arguments, &["--json"]].concat();
    let run = place.run(&all);
    (run.code, serde_json::from_str(&run.out).unwrap())
}

/// A bundle of a proved answer, read as JSON.
fn read(path: &str) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn zk(bundle: &mut Value) -> &mut Value {
    let evidence = bundle["evidence"].as_array_mut().unwrap();
    evidence.iter_mut().find(|item| item["kind"] == "zk").unwrap()
}

#[test]
fn an_answer_is_proved_as_it_is_given() {
    let place = Place::new();
    let id = committed(&place, "tiny");
    let input = place.file("x.json", ROW);
    let bundle = place.path("a.receipt.json").display().to_string();
    place.ok(&["infer", "tiny", "--input", &input, "--evidence", "zk", "--receipt", &bundle]);
    // Who holds the model: the commitment is worked out again, and the proof is one more basis.
    let (code, whole) = verdict(&place, &[&bundle]);
    assert_eq!(code, 0, "{whole}");
    for id in ["proof", "commitment", "replay", "evidence"] {
        assert_eq!(check(&whole, id)["outcome"], "passed", "{id}: {whole}");
    }
    // Who holds nothing and names nothing: the proof holds, and nobody vouches for the model.
    let stranger = Place::new();
    let (code, alone) = verdict(&stranger, &[&bundle]);
    assert_eq!((code, &check(&alone, "proof")["outcome"]), (3, &"passed".into()), "{alone}");
    assert_eq!(check(&alone, "commitment")["outcome"], "not checked");
    let found = check(&alone, "proof")["got"].as_str().unwrap();
    assert!(found.contains("bits composed; the statement binds model, input and output"), "{found}");
    // Whoever asks for more bits than there are refuses.
    let (code, more) = verdict(&stranger, &[&bundle, "--proof-bits", "150"]);
    assert_eq!((code, &check(&more, "proof")["code"]), (1, &"proof-bits".into()));
    let policy =
        stranger.file("p.toml", format!("name = \"named\"\nmodels = [\"{id}\"]\nrequire = [\"proof\"]\n"));
    let run = stranger.run(&["verify", &bundle, "--policy", &policy]);
    assert_eq!(run.code, 0, "{}{}", run.out, run.err);
    assert!(run.out.contains("a proof shows that the network behind the model's commitment"), "{}", run.out);
    assert!(run.out.contains("a proof hides nothing"), "{}", run.out);
    assert!(run.err.contains("the proof was checked in"), "{}", run.err);
    // Redacted, the proof is gone: it tells something of what was opened.
    let redacted = place.path("r.receipt.json").display().to_string();
    place.ok(&["receipt", "redact", &bundle, "--output", &redacted]);
    assert!(!std::fs::read_to_string(&redacted).unwrap().contains("\"zk\""));
    let (code, hidden) = verdict(&stranger, &[&redacted, "--policy", &policy]);
    assert_eq!((code, &hidden["decision"]), (3, &"undecided".into()), "{hidden}");
    // One side opened is not enough.
    let mut half = read(&bundle);
    half["openings"].as_object_mut().unwrap().remove("inputs");
    let half = stranger.file("half.json", half.to_string());
    let (code, hidden) = verdict(&stranger, &[&half, "--policy", &policy]);
    assert_eq!((code, &check(&hidden, "proof")["outcome"]), (3, &"not checked".into()), "{hidden}");
    let why = check(&hidden, "proof")["reason"].as_str().unwrap();
    assert!(why.contains("openings of input and output"), "{why}");
}

#[test]
fn what_is_tampered_with_is_refused_with_its_own_reason() {
    let place = Place::new();
    committed(&place, "tiny");
    committed(&place, "other");
    let input = place.file("x.json", ROW);
    let prove = |model: &str, name: &str| {
        let path = place.path(name).display().to_string();
        let bits = ["--proof-bits", "118"];
        place.ok(&[&["infer", model, "--input", &input, "--evidence", "zk", "--receipt", &path], &bits[..]]
            .concat());
        read(&path)
    };
    let (honest, again) = (prove("tiny", "a.json"), prove("tiny", "b.json"));
    // So small a model's columns are sent whole, which the lower level does as well.
    assert_eq!(zk(&mut honest.clone())["security"], "standard");
    let refuse = |name: &str, bundle: &Value, row: &str, code: &str| {
        let path = place.file(name, bundle.to_string());
        let (exit, verdict) = verdict(&place, &[&path]);
        assert_eq!((exit, &check(&verdict, row)["code"]), (1, &Value::from(code)), "{name}: {verdict}");
    };
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut bundle = honest.clone();
        change(zk(&mut bundle));
        bundle
    };
    // The evidence of another claim, whole or with this claim's name on it.
    let foreign = zk(&mut again.clone()).clone();
    refuse("moved.json", &changed(&|zk| *zk = foreign.clone()), "evidence", "evidence-of-other");
    let renamed = changed(&|zk| {
        let id = zk["claim_id"].clone();
        *zk = foreign.clone();
        (zk["claims"], zk["claim_id"]) = (Value::Array(vec![id.clone()]), id);
    });
    refuse("renamed.json", &renamed, "proof", "proof");
    let absent = changed(&|zk| zk["claims"] = serde_json::json!(["00".repeat(32)]));
    refuse("absent.json", &absent, "bundle", "format");
    // The same proof, said to be at another level.
    refuse("level.json", &changed(&|zk| zk["security"] = "high".into()), "proof", "proof");
    let flip = |zk: &mut Value, member: &str, at: usize| {
        use base64::Engine as _;
        let engine = base64::engine::general_purpose::STANDARD;
        let mut bytes = engine.decode(zk[member].as_str().unwrap()).unwrap();
        let at = at.min(bytes.len() - 1);
        bytes[at] ^= 1;
        zk[member] = engine.encode(bytes).into();
    };
    refuse("integer.json", &changed(&|zk| flip(zk, "integers", 0)), "proof", "proof-output");
    for at in [0, 32, 1000, usize::MAX] {
        let bundle = changed(&|zk| flip(zk, "proof", at));
        let path = place.file("flip.json", bundle.to_string());
        assert_eq!(verdict(&place, &[&path]).0, 1, "byte {at}");
    }
}

#[test]
fn proofs_are_added_later_and_shared() {
    let place = Place::new();
    committed(&place, "tiny");
    let input = place.file("x.json", ROWS);
    let folder = place.path("rows").display().to_string();
    let answers = place.json(&["infer", "tiny", "--input", &input, "--rows", "--receipt", &folder]);
    let rows = answers["rows"].as_array().unwrap();
    let paths: Vec<&str> = rows.iter().map(|row| row["receipt"]["path"].as_str().unwrap()).collect();
    assert_eq!(paths.len(), 3);
    let run = place.run(&[&["prove", "--progress"], &paths[..]].concat());
    assert_eq!(run.code, 0, "{}{}", run.out, run.err);
    assert!(run.err.contains(": lookups") && run.err.contains("one proof of"), "{}", run.err);
    for path in &paths {
        let (code, whole) = verdict(&place, &[path]);
        assert_eq!((code, &check(&whole, "proof")["outcome"]), (0, &"passed".into()), "{whole}");
        assert!(check(&whole, "proof")["got"].as_str().unwrap().contains("one of 3 claims"));
        assert!(check(&whole, "evidence")["got"].as_str().unwrap().contains("zk: by itself"));
    }
    // Another row of the same proof.
    let (mut first, second) = (read(paths[0]), read(paths[1]));
    let integers = zk(&mut second.clone())["integers"].clone();
    zk(&mut first)["integers"] = integers;
    let path = place.file("row.json", first.to_string());
    assert_eq!(check(&verdict(&place, &[&path]).1, "proof")["code"], "proof-output");
    let mut swapped = read(paths[0]);
    zk(&mut swapped)["claims"].as_array_mut().unwrap().swap(0, 1);
    let path = place.file("swapped.json", swapped.to_string());
    assert_eq!(verdict(&place, &[&path]).0, 1);
    // Proved once is enough.
    place.refuse(&["prove", paths[0]], 2, &["has a proof already"]);
    // Rows proved as they are given: one proof, listed.
    let folder = place.path("proved").display().to_string();
    place.ok(&["infer", "tiny", "--input", &input, "--rows", "--receipt", &folder, "--evidence", "zk"]);
    for row in 0..3 {
        let path = format!("{folder}/{row}.receipt.json");
        let (code, whole) = verdict(&place, &[&path]);
        assert_eq!((code, &check(&whole, "proof")["outcome"]), (0, &"passed".into()), "{whole}");
    }
}

#[test]
fn what_cannot_be_proved_says_so_first() {
    let place = Place::new();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors/proof/tiny.onnx");
    let path = path.display().to_string();
    place.refuse(&["model", "commit", "digits-cnn"], 1, &["node `", "cannot be proved"]);
    place.refuse(&["model", "commit", "tiny-chat"], 2, &["only quantised ONNX models can be proved"]);
    place.refuse(&["model", "commit", &path, "--name", "digits-cnn"], 2, &["name of a shipped model"]);
    place.refuse(&["model", "commit", &path, "--memory-mib", "0"], 2, &["memory_mib"]);
    let input = place.file("x.json", ROW);
    let infer = ["infer", &path, "--input", &input, "--evidence", "zk"];
    place.refuse(&infer, 2, &["no commitment that a proof could open", "hallmark model commit"]);
    committed(&place, "tiny");
    let infer = ["infer", "tiny", "--input", &input, "--evidence", "zk", "--proof-bits", "150"];
    place.refuse(&infer, 2, &["bits of security, and 150 are asked for", "--proof-bits"]);
    let many = place.file("many.json", format!("[{}]", vec!["[0, 0, 0, 0, 0, 0, 0, 0]"; 512].join(",")));
    let infer = ["infer", "tiny", "--rows", "--input", &many, "--evidence", "zk", "--memory-mib", "1"];
    place.refuse(&infer, 1, &["MiB of memory, and 1 MiB may be used", "--memory-mib"]);
    place.refuse(&["prove", "absent.json"], 4, &["absent.json"]);
    // Committing twice changes nothing.
    let again = place.json(&["model", "commit", "tiny"]);
    assert_eq!(again["id"], again["from"]);
}

/// Proofs are verifiable and hide nothing. No text may say more of them.
#[test]
fn no_text_claims_that_proofs_hide_anything() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = Vec::new();
    let folders = [
        "",
        "docs",
        "spec",
        "crates/cli/src",
        "crates/proof/src",
        "crates/receipt/src",
        "crates/verdict/src",
    ];
    for folder in folders {
        texts(&root.join(folder), !folder.is_empty(), &mut files);
    }
    assert!(files.len() > 60, "{}", files.len());
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap().to_lowercase();
        for line in text.lines() {
            let of_proofs = ["proof", "prove", "`zk`"].iter().any(|word| line.contains(word));
            let claims = ["zero-knowledge", "zero knowledge"].iter().any(|word| line.contains(word))
                || of_proofs && ["private", "confidential", "secret"].iter().any(|word| line.contains(word));
            assert!(!claims, "{}: {line}", path.display());
        }
    }
}

/// The `.md` and `.rs` files of a folder.
fn texts(folder: &Path, below: bool, files: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && below {
            texts(&path, below, files);
        } else if path.extension().is_some_and(|ending| ending == "md" || ending == "rs") {
            files.push(path);
        }
    }
}

#[test]
fn a_model_without_weights_is_not_committed_to() {
    let place = Place::new();
    let model = place.file("relu.onnx", Model::new(vec![node("Relu", &["x"], &["y"])]).bytes());
    let samples = place.file("two.npy", npy(&[1, 2]));
    place.ok(&["model", "quantize", &model, "--calibrate", &samples, "--name", "relu8"]);
    place.refuse(&["model", "commit", "relu8"], 1, &["no weights that a commitment could be to", "`replay`"]);
}
