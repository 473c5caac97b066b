//! The loop: infer, verify, tamper, redact, trust, revoke.

use serde_json::{Value, json};

use super::{Place, Run};

/// Infers with a receipt and gives the bundle's text.
fn receipt(place: &Place, path: &str) -> String {
    place.ok(&["infer", "tumour-trees", "--sample", "1", "--receipt", path]);
    std::fs::read_to_string(place.path(path)).unwrap()
}

fn verdict(place: &Place, arguments: &[&str]) -> (i32, Value) {
    let run: Run = place.run(&[&["verify", "--json"], arguments].concat());
    (run.code, serde_json::from_str(&run.out).unwrap())
}

fn outcome<'v>(verdict: &'v Value, id: &str) -> &'v str {
    let checks = verdict["checks"].as_array().unwrap();
    checks.iter().find(|check| check["id"] == id).map_or("absent", |check| check["outcome"].as_str().unwrap())
}

#[test]
fn an_honest_answer_is_accepted_by_a_stranger() {
    let place = Place::new();
    receipt(&place, "a.receipt.json");
    let stranger = Place::new();
    let bundle = place.path("a.receipt.json").display().to_string();
    let (code, verdict) = verdict(&stranger, &[&bundle]);
    assert_eq!((code, verdict["decision"].as_str()), (0, Some("accepted")), "{verdict}");
    assert_eq!(outcome(&verdict, "replay"), "passed");
    assert!(!stranger.home().exists(), "verifying made a home");
    let (code, verdict) = self::verdict(&stranger, &[&bundle, "--model", "tumour-mlp"]);
    assert_eq!((code, outcome(&verdict, "expected-model")), (1, "failed"));
    // Text for people: every question, and what was not shown.
    let text = stranger.ok(&["verify", &bundle]);
    for part in
        ["Which model?", "In which environment?", "Is it settled?", "accepted by policy", "not shown:"]
    {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
}

#[test]
fn tampering_is_refused() {
    let place = Place::new();
    let text = receipt(&place, "a.receipt.json");
    let other = receipt(&place, "b.receipt.json");
    let good: Value = serde_json::from_str(&text).unwrap();
    let other: Value = serde_json::from_str(&other).unwrap();
    // What is changed, the check that catches it, and how.
    type Case<'a> = (&'a str, &'a str, &'a dyn Fn(&mut Value));
    let cases: [Case<'_>; 4] = [
        ("output", "outputs", &|bundle| bundle["openings"]["outputs"] = other["openings"]["outputs"].clone()),
        ("evidence", "evidence", &|bundle| bundle["evidence"] = other["evidence"].clone()),
        ("envelope", "evidence", &|bundle| bundle["envelope"] = other["envelope"].clone()),
        ("manifest", "manifest", &|bundle| bundle["manifest"]["numeric"] = json!(2)),
    ];
    for (name, caught_by, change) in cases {
        let mut forged = good.clone();
        change(&mut forged);
        let path = place.file("forged.receipt.json", forged.to_string());
        let (code, verdict) = verdict(&place, &[&path]);
        assert_eq!((code, outcome(&verdict, caught_by)), (1, "failed"), "{name}: {verdict}");
    }
    // Formatting alone changes nothing.
    let path = place.file("compact.receipt.json", good.to_string());
    assert_eq!(verdict(&place, &[&path]).0, 0);
    let cut = place.file("cut.receipt.json", &text.as_bytes()[..text.len() / 2]);
    let (code, verdict) = verdict(&place, &[&cut]);
    assert_eq!((code, outcome(&verdict, "bundle")), (1, "failed"));
}

#[test]
fn several_bundles_the_worst_counts() {
    let place = Place::new();
    let text = receipt(&place, "a.receipt.json");
    let redacted = "red.receipt.json";
    place.ok(&["receipts", "redact", "a.receipt.json", "--output", redacted]);
    let bad = place.file("bad.receipt.json", text.replacen("\"sig\": \"", "\"sig\": \"A", 1));
    let run = |bundles: &[&str]| place.run(&[&["verify"], bundles].concat());
    assert_eq!(run(&["a.receipt.json"]).code, 0);
    assert_eq!(run(&["a.receipt.json", redacted]).code, 3);
    assert_eq!(run(&[redacted, "absent.receipt.json"]).code, 4);
    let all = run(&["a.receipt.json", redacted, "absent.receipt.json", &bad]);
    assert_eq!(all.code, 1);
    for name in ["a.receipt.json", redacted, "bad.receipt.json"] {
        assert!(all.out.contains(name), "{}", all.out);
    }
    assert!(all.err.contains("absent.receipt.json"), "{}", all.err);
    let (_, verdicts) = verdict(&place, &["a.receipt.json", redacted]);
    assert_eq!(verdicts.as_array().unwrap().len(), 2);
}

#[test]
fn redaction_keeps_what_can_be_checked_and_nothing_else() {
    let place = Place::new();
    let text = receipt(&place, "a.receipt.json");
    let bundle: Value = serde_json::from_str(&text).unwrap();
    let id = place.json(&["receipts", "list"])["receipts"][0]["id"].as_str().unwrap().to_owned();
    let redacted = place.ok(&["receipts", "redact", &id[..8]]);
    for side in ["inputs", "outputs"] {
        for opening in bundle["openings"][side].as_array().unwrap() {
            for key in ["data", "salt"] {
                assert!(!redacted.contains(opening[key].as_str().unwrap()), "{side} {key} is still there");
            }
        }
    }
    let path = place.file("red.receipt.json", &redacted);
    let (code, verdict) = verdict(&place, &[&path]);
    assert_eq!(
        (code, outcome(&verdict, "signature"), outcome(&verdict, "inputs")),
        (3, "passed", "not checked")
    );
    // A pinned identity vouches for it, and its revocation ends that.
    let key = place.ok(&["keys", "export"]);
    let stranger = Place::new();
    assert_eq!(stranger.run(&["verify", &path, "--trust", key.trim()]).code, 0);
    stranger.ok(&["keys", "trust", key.trim(), "--label", "node"]);
    assert_eq!(stranger.run(&["verify", &path]).code, 0);
    assert_eq!(stranger.run(&["verify", &path, "--policy", "replay"]).code, 3);
    let receipt_key = place.json(&["keys", "show"])["receipt_keys"][0]["id"].as_str().unwrap().to_owned();
    place.ok(&["keys", "revoke", &receipt_key[..8]]);
    let export = place.path("identity.json").display().to_string();
    place.ok(&["keys", "export", "--output", &export]);
    stranger.ok(&["keys", "trust", &export]);
    let (code, verdict) = self::verdict(&stranger, &[&path]);
    assert_eq!((code, outcome(&verdict, "revocation")), (1, "failed"));
    stranger.ok(&["keys", "trust", "--remove", key.trim()]);
    let other = Place::new();
    other.ok(&["keys", "new", "--alg", "p256"]);
    let other_key = other.ok(&["keys", "export"]);
    assert_eq!(Place::new().run(&["verify", &path, "--trust", other_key.trim()]).code, 1);
}

#[test]
fn openings_appear_in_no_list() {
    let place = Place::new();
    let text = receipt(&place, "a.receipt.json");
    let bundle: Value = serde_json::from_str(&text).unwrap();
    let opening = &bundle["openings"]["inputs"][0];
    let id = place.json(&["receipts", "list"])["receipts"][0]["id"].as_str().unwrap().to_owned();
    for arguments in [&["receipts", "list"][..], &["receipts", "show", &id], &["verify", "a.receipt.json"]] {
        for json in [false, true] {
            let run = place.run(&[arguments, if json { &["--json"] } else { &[] }].concat());
            for key in ["data", "salt"] {
                let secret = opening[key].as_str().unwrap();
                assert!(!run.out.contains(secret) && !run.err.contains(secret), "{arguments:?} shows {key}");
            }
        }
    }
}

#[test]
fn inputs_and_outputs_round_trip_through_files() {
    let place = Place::new();
    let first = place.json(&["infer", "tumour-trees", "--sample", "--output", "out.npz"]);
    let outputs = &first["outputs"];
    assert_eq!(outputs["probabilities"]["dtype"], "float32");
    assert_eq!(outputs["probabilities"]["shape"], json!([1, 2]));
    let npz = std::fs::read(place.path("out.npz")).unwrap();
    let arrays =
        hallmark_cli::tensor_io::npz::read(&npz, &hallmark_cli::tensor_io::Limits::default()).unwrap();
    for (name, tensor) in &arrays {
        assert_eq!(hallmark_cli::tensor_io::json::write(tensor), outputs[name]);
    }
    // The same input as JSON, as .npz and from standard input gives the same bits.
    let shipped = hallmark_cli::shipped::Shipped::named("tumour-trees").unwrap();
    let samples = hallmark_cli::tensor_io::npz::read(shipped.samples, &Default::default()).unwrap();
    let row = hallmark_cli::tensor_io::convert::rows(&samples[0].1, 0, 1).unwrap();
    let named = [(samples[0].0.clone(), row)];
    let text = hallmark_cli::tensor_io::json::write_all(&named).to_string();
    let npz = hallmark_cli::tensor_io::npz::write(&named).unwrap();
    for file in [place.file("in.json", text), place.file("in.npz", npz)] {
        assert_eq!(place.json(&["infer", "tumour-trees", "--input", &file])["outputs"], *outputs);
    }
}

#[test]
fn every_command_speaks_json() {
    let place = Place::new();
    receipt(&place, "a.receipt.json");
    let id = place.json(&["receipts", "list"])["receipts"][0]["id"].as_str().unwrap().to_owned();
    for arguments in [
        &["model", "list"][..],
        &["model", "show", "tumour-trees"],
        &["receipts", "show", &id],
        &["receipt", "redact", &id, "--output", "r.json"],
        &["keys", "show"],
        &["keys", "rotate"],
        &["keys", "export"],
        &["config"],
        &["verify", "a.receipt.json"],
    ] {
        assert!(place.json(arguments).is_object(), "{arguments:?}");
    }
    assert!(place.ok(&["--version"]).contains("(commit "));
    for shell in ["bash", "zsh", "fish"] {
        assert!(place.ok(&["completions", shell]).contains("hallmark"));
    }
}
