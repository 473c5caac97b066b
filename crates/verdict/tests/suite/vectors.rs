//! The vectors in `vectors/receipt`: valid and tampered bundles with their expected outcomes, for every implementation.
//!
//! `HALLMARK_REGENERATE=1 cargo test -p hallmark-verdict --test suite vectors` writes them anew; a change of them is a change of
//! the format, and is reviewed as one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use hallmark_attestation::simulated::{Form, Provider};
use hallmark_receipt::json::{Object, Value, object};
use hallmark_receipt::proof::Security;
use hallmark_receipt::{
    Bundle, Certificate, DType, Envelope, Evidence, Model, Opening, PayloadType, Purpose, Receipt, Salt,
    Signer as _, Tensor, Wanted, Work,
};
use hallmark_verdict::{Cause as _, Check, Outcome};

use crate::fixture::*;
use crate::forgery::{EDITS, edited, places};
use crate::hardware::{attested, environment_of};
use crate::proof;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../vectors/receipt")
}

/// Names and contents. `valid-*` hold together, `tampered-*` do not, `forged-*` hold together but are nobody's word that counts.
fn cases() -> BTreeMap<String, String> {
    let mut cases = BTreeMap::new();
    let mut add = |name: &str, text: String| {
        assert!(cases.insert(format!("{name}.receipt.json"), text).is_none(), "{name} twice");
    };
    let [full, p256, plain, redacted]: [Bundle; 4] = bundles().try_into().unwrap();
    add("valid-ed25519", full.to_json());
    add("valid-p256", p256.to_json());
    add("valid-replay-only", plain.to_json());
    add("valid-redacted", redacted.to_json());
    add("valid-every-type", sign(every_type(), &alice()).to_json());
    add("valid-compact", Value::parse(full.to_json().as_bytes(), 1 << 20).unwrap().canonical());
    add("valid-escaped", full.to_json().replace("\"envelope\"", "\"\\u0065nvelope\""));
    // Held together, and by no hardware: refused by whoever did not ask for development evidence.
    add("simulated-attested", attested(Form::Nitro).to_json());
    add("simulated-key-elsewhere", key_elsewhere().to_json());
    let [tiny, _] = proof::models();
    add("valid-proved", proof::proved(tiny, &[1], Security::Standard)[0].to_json());
    add("valid-proved-together", proof::proved(tiny, &[1, 2], Security::High)[1].to_json());
    for (name, bundle) in proof::tampered() {
        add(&format!("tampered-{name}"), bundle.to_json());
    }
    add("forged-re-signed", sign(work("first", 1), &mallory()).to_json());
    for (name, bundle) in tampered_bundles(&full, &p256) {
        add(&format!("tampered-{name}"), bundle.to_json());
    }
    for (name, from, to) in tampered_texts() {
        let text = full.to_json();
        assert!(text.contains(from), "{name}: {from}");
        add(&format!("tampered-{name}"), text.replacen(from, to, 1));
    }
    cases
}

/// The environment of another's key.
fn key_elsewhere() -> Bundle {
    let mut work = work("first", 8);
    work.evidence.environment =
        Some(environment_of(&Provider::new(Form::Nitro), &mallory().key.public_key()));
    sign(work, &alice())
}

/// A model that is only named, with inputs of every element type.
fn every_type() -> Work {
    let bytes = [1_u8, 0, 1, 0, 1, 0, 1, 0];
    let inputs = DType::ALL
        .into_iter()
        .map(|dtype| {
            let tensor = match dtype.size() {
                Some(size) => {
                    let data =
                        hallmark_receipt::commit::decode_data(dtype, bytes.len() / size, &bytes).unwrap();
                    Tensor::new(vec![bytes.len() / size, 1], data).unwrap()
                }
                None => Tensor::vector(vec!["naïve \u{1f600}".to_owned(), String::new()]),
            };
            Opening::new(dtype.name(), tensor, Salt([u8::try_from(dtype as usize).unwrap(); 32])).unwrap()
        })
        .collect();
    Work {
        model: Model::Claimed { provider: "acme".into(), name: "big".into() },
        manifest: None,
        graph: None,
        evidence: Wanted { signature: true, replay: None, environment: None },
        inputs,
        outputs: vec![opening("nan", &[f32::NAN, f32::INFINITY, -0.0], 1)],
        parameters: object([("seed", Value::Int(7)), ("temperature", "0.7".into())]),
        ..work("first", 7)
    }
}

fn tampered_bundles(full: &Bundle, p256: &Bundle) -> Vec<(&'static str, Bundle)> {
    let node = alice();
    let other = sign(work("first", 6), &node);
    let change = |change: &dyn Fn(&mut Bundle)| {
        let mut bundle = full.clone();
        change(&mut bundle);
        bundle
    };
    // The statement changed and signed again by the same key: what only a node itself could do.
    let restate = |change: &dyn Fn(&mut Receipt)| {
        let mut receipt = Receipt::parse(&full.envelope.payload).unwrap();
        change(&mut receipt);
        let envelope = Envelope::sign(PayloadType::Statement, receipt.to_payload(), &node.key).unwrap();
        Bundle { envelope, ..full.clone() }
    };
    let certify = |change: &dyn Fn(&mut Certificate)| {
        let mut certificate = Certificate {
            identity: node.identity.public_key(),
            key: node.key.public_key(),
            purpose: Purpose::Receipt,
            not_before: TIME,
            not_after: TIME,
        };
        change(&mut certificate);
        Bundle { certificates: vec![certificate.sign(&node.identity).unwrap()], ..full.clone() }
    };
    let spaced = [b" ".as_slice(), &full.envelope.payload].concat();
    vec![
        (
            "output",
            change(&|b| {
                b.outputs = Some(vec![opening("y", &[2.0, 0.0, 0.25], 2), opening("z", &[0.0, 7.0], 5)])
            }),
        ),
        ("inputs-of-another", change(&|b| b.inputs = other.inputs.clone())),
        ("evidence-of-another", change(&|b| b.evidence = other.evidence.clone())),
        ("evidence-missing", change(&|b| b.evidence.truncate(1))),
        ("evidence-unlisted", restate(&|r| r.evidence.truncate(1))),
        ("evidence-numeric", {
            let mut bundle = restate(&|r| {
                let item = Evidence::Replay { claim_id: r.claim_id, numeric: 2 };
                r.evidence[1].1 = item.digest();
            });
            bundle.evidence[1] = Evidence::Replay { claim_id: bundle.evidence[0].claim_id(), numeric: 2 };
            bundle
        }),
        ("manifest", change(&|b| b.manifest = Some(manifest("second")))),
        ("manifest-missing", change(&|b| b.manifest = None)),
        ("graph", change(&|b| b.graph = Some(b"y = -a".to_vec()))),
        ("graph-missing", change(&|b| b.graph = None)),
        ("graph-unlisted", restate(&|r| r.graph = false)),
        ("publication-of-another", change(&|b| b.publications = vec![publication("second", 30)])),
        ("publication-twice", change(&|b| b.publications = vec![b.publications[0].clone(); 2])),
        ("signature", change(&|b| b.envelope.signature[5] ^= 1)),
        ("signature-malleable-ed25519", change(&|b| add_order(&mut b.envelope.signature))),
        ("signature-malleable-p256", {
            let mut bundle = p256.clone();
            high_s(&mut bundle.envelope.signature);
            bundle
        }),
        ("envelope-of-another", change(&|b| b.envelope = other.envelope.clone())),
        ("statement-not-canonical", {
            let envelope = Envelope::sign(PayloadType::Statement, spaced, &node.key).unwrap();
            Bundle { envelope, ..full.clone() }
        }),
        ("claim-id", restate(&|r| r.claim_id.0[0] ^= 1)),
        ("subject", restate(&|r| r.subject.0[0] ^= 1)),
        ("signer", restate(&|r| r.signer.0.0[0] ^= 1)),
        ("node", restate(&|r| r.claim.node = bob().id())),
        ("certificate-of-another", change(&|b| b.certificates = vec![mallory().certificate])),
        ("certificate-purpose", certify(&|c| c.purpose = Purpose::Stream)),
        ("certificate-over", certify(&|c| (c.not_before, c.not_after) = (1, TIME - 1))),
        ("certificate-signature", change(&|b| b.certificates[0].signature[40] ^= 1)),
        ("certificate-missing", change(&|b| b.certificates.clear())),
        ("certificate-twice", change(&|b| b.certificates = vec![b.certificates[0].clone(); 2])),
        ("identity-of-small-order", small_order(full)),
    ]
}

/// A certificate by an identity key of small order, under which a signature of zeros passes lax implementations.
fn small_order(full: &Bundle) -> Bundle {
    let mut bundle = full.clone();
    let mut payload = String::from_utf8(bundle.certificates[0].payload.clone()).unwrap();
    let identity = alice().identity.public_key().to_string().replace("ed25519:", "");
    let weak = format!("01{}", "00".repeat(31));
    payload = payload.replacen(&identity, &weak, 1);
    bundle.certificates[0].payload = payload.into_bytes();
    bundle.certificates[0].signature = [vec![1], vec![0; 63]].concat();
    bundle
}

fn add_order(signature: &mut [u8]) {
    let order =
        hallmark_receipt::wire::from_hex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
    let mut carry = 0_u16;
    for (byte, add) in signature[32..].iter_mut().zip(order.unwrap()) {
        carry += u16::from(*byte) + u16::from(add);
        *byte = u8::try_from(carry & 0xff).unwrap();
        carry >>= 8;
    }
}

/// `s` becomes `n - s`.
fn high_s(signature: &mut [u8]) {
    let order =
        hallmark_receipt::wire::from_hex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");
    let mut borrow = 0_i16;
    for (byte, n) in signature[32..].iter_mut().zip(order.unwrap()).rev() {
        let difference = i16::from(n) - i16::from(*byte) - borrow;
        borrow = i16::from(difference < 0);
        *byte = u8::try_from(difference & 0xff).unwrap();
    }
}

/// Edits of the text: what a strict parser refuses.
fn tampered_texts() -> Vec<(&'static str, &'static str, &'static str)> {
    vec![
        ("format", "hallmark-receipt/1", "hallmark-receipt/2"),
        ("unknown-member", "{\n", "{\n  \"extra\": true,\n"),
        ("duplicate-member", "{\n", "{\n  \"format\": \"hallmark-receipt/1\",\n"),
        ("duplicate-escaped-member", "{\n", "{\n  \"form\\u0061t\": \"hallmark-receipt/1\",\n"),
        ("null", "{\n", "{\n  \"log\": null,\n"),
        ("float", "\"numeric\": 1\n", "\"numeric\": 1.0\n"),
        ("exponent", "\"numeric\": 1\n", "\"numeric\": 1e0\n"),
        ("integer-beyond-2-53", "\"numeric\": 1\n", "\"numeric\": 9007199254740993\n"),
        ("trailing", "{\n", "{} {\n"),
        ("upper-case-hex", "\"keyid\": \"acfc", "\"keyid\": \"ACFC"),
        ("payload-type", "application/vnd.in-toto+json", "application/json"),
        ("base64-url", "\"data\": \"AACAPwAAwL8AAIA+\"", "\"data\": \"AACAPwAAwL8AAIA-\""),
        (
            "base64-unpadded",
            "\"graph\": \"eSA9IFJlbHUoYSk7IHogPSBSZWx1KGIp\"",
            "\"graph\": \"eSA9IFJlbHUoYSk7IHogPSBSZWx1KGI\"",
        ),
        ("kind", "\"kind\": \"replay\"", "\"kind\": \"belief\""),
        ("dtype", "\"dtype\": \"float32\"", "\"dtype\": \"int32\""),
        ("shape", "\"shape\": [3]", "\"shape\": [1, 3]"),
        ("tensor-name", "\"name\": \"a\"", "\"name\": \"c\""),
        ("no-signature", "\"signatures\": [", "\"signatures\": [], \"s\": ["),
    ]
}

fn outcome(check: &Check) -> &'static str {
    match check.outcome {
        Outcome::Passed => "passed",
        Outcome::Failed(_) => "failed",
        Outcome::NotChecked(_) => "not checked",
    }
}

/// What the judge says of a case when it re-runs, pins nobody and knows nothing else.
fn expectation(text: &str) -> Value {
    let verdict = Verifier::Model.judge(text.as_bytes());
    let checks: Object =
        verdict.checks.iter().map(|check| (check.id.name().to_owned(), outcome(check).into())).collect();
    let reasons: Object =
        verdict.reasons().map(|(id, reason)| (id.name().to_owned(), reason.code().into())).collect();
    let trusting = Verifier::Pin.judge(text.as_bytes());
    Value::Object(object([
        ("checks", Value::Object(checks)),
        ("exit_code_replayed", Value::Int(verdict.exit_code().into())),
        ("exit_code_pinned", Value::Int(trusting.exit_code().into())),
        ("reasons", Value::Object(reasons)),
    ]))
}

fn expected_table(cases: &BTreeMap<String, String>) -> String {
    let table: Object = cases.iter().map(|(name, text)| (name.clone(), expectation(text))).collect();
    Value::Object(table).pretty()
}

#[test]
fn vectors_are_current_and_judged_as_expected() {
    let cases = cases();
    let table = expected_table(&cases);
    if std::env::var_os("HALLMARK_REGENERATE").is_some() {
        std::fs::create_dir_all(folder()).unwrap();
        for (name, text) in &cases {
            std::fs::write(folder().join(name), text).unwrap();
        }
        std::fs::write(folder().join("expected.json"), &table).unwrap();
    }
    for (name, text) in &cases {
        assert_eq!(std::fs::read_to_string(folder().join(name)).unwrap_or_default(), *text, "{name}");
        let verdict = Verifier::Model.judge(text.as_bytes());
        let pinned = Verifier::Pin.judge(text.as_bytes());
        if name.starts_with("tampered-") || name.starts_with("simulated-") {
            assert_eq!((verdict.exit_code(), pinned.exit_code()), (1, 1), "{name}");
        } else {
            assert_eq!(verdict.reasons().count(), 0, "{name}");
            assert_eq!(pinned.exit_code() == 1, name.starts_with("forged-"), "{name}");
        }
    }
    assert_eq!(std::fs::read_to_string(folder().join("expected.json")).unwrap_or_default(), table);
    let files = std::fs::read_dir(folder()).unwrap().count();
    assert_eq!(files, cases.len() + 1, "files that no case makes");
}

/// A Python that can run the second verifiers. `None`, and a note, where there is none.
pub fn python() -> Option<String> {
    let python = std::env::var("HALLMARK_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let ready = Command::new(&python).args(["-c", "import cryptography"]).output();
    if !ready.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: {python} with the package `cryptography` is not present (set HALLMARK_PYTHON)");
        return None;
    }
    Some(python)
}

/// The second verifier: its outcomes by file and check.
fn second_verifier(folder: &Path, files: &BTreeMap<String, Vec<u8>>) -> Option<Object> {
    let python = python()?;
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../clients/python/verify_receipt.py");
    let output =
        Command::new(python).arg(script).arg("--json").args(files.keys()).current_dir(folder).output();
    let output = output.unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let Ok(Value::Object(results)) = Value::parse(&output.stdout, 1 << 24) else { panic!("no JSON") };
    assert_eq!(results.len(), files.len());
    Some(results)
}

fn assert_agreement(folder: &Path, files: &BTreeMap<String, Vec<u8>>) {
    // The checks that need nothing but the bundle.
    let made = [
        "attested-key",
        "bundle",
        "certificate",
        "claim",
        "evidence",
        "graph",
        "inputs",
        "manifest",
        "outputs",
        "publisher",
        "signature",
        "statement",
        "word",
    ];
    let Some(mut results) = second_verifier(folder, files) else { return };
    for (name, bytes) in files {
        // It checks no proofs, and says so where there is one.
        if let Some(Value::Object(found)) = results.get_mut(name)
            && let Some(proof) = found.remove("proof")
        {
            assert_eq!(proof, "not checked".into(), "{name}");
        }
        let expected: Object = Verifier::Bare
            .judge(bytes)
            .checks
            .iter()
            .filter(|check| made.contains(&check.id.name()))
            .map(|check| (check.id.name().to_owned(), outcome(check).into()))
            .collect();
        assert_eq!(
            results.get(name),
            Some(&Value::Object(expected)),
            "{name}: {}",
            String::from_utf8_lossy(bytes)
        );
    }
}

/// The second verifier reaches the same outcome for every check that it makes.
#[test]
fn the_second_verifier_agrees_on_the_vectors() {
    let cases: BTreeMap<String, Vec<u8>> =
        cases().into_iter().map(|(name, text)| (name, text.into_bytes())).collect();
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in &cases {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    assert_agreement(folder.path(), &cases);
}

/// So it does on edits of every field and on flipped bits.
#[test]
fn the_second_verifier_agrees_on_edits() {
    let mut cases = BTreeMap::new();
    let attested = attested(Form::Nitro);
    let documents: Vec<Value> = bundles()
        .iter()
        .chain([&attested])
        .map(|b| Value::parse(b.to_json().as_bytes(), 1 << 20).unwrap())
        .collect();
    for (number, document) in documents.iter().enumerate() {
        let other = &documents[(number + 1) % documents.len()];
        for place in places(document) {
            for edit in EDITS {
                if let Some(text) = edited(document, other, &place, edit) {
                    cases.insert(format!("edit-{}", cases.len()), text.into_bytes());
                }
            }
        }
        let bytes = document.canonical().into_bytes();
        for bit in (0..bytes.len() * 8).step_by(331) {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            cases.insert(format!("flip-{}", cases.len()), flipped);
        }
    }
    assert!(cases.len() > 1000, "{}", cases.len());
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in &cases {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    assert_agreement(folder.path(), &cases);
}
