//! Forgeries with keys: edited bundles signed again, consistently, under fresh keys with fresh certificates.
//!
//! A re-run says what a model computes, not who ran it. So a re-signed bundle whose computation is true is accepted by a verifier
//! who re-runs and pins nobody, and only that: [`TRUE_COMPUTATION`] lists every such edit. With the original identity pinned,
//! all of them are refused.

use hallmark_receipt::json::{Object, Value, object};
use hallmark_receipt::{
    Bundle, Digest, Envelope, Evidence, Model, Nonce, PayloadType, Price, Receipt, RequestId, Signer as _,
    Tensor, Wanted, Work, model_id,
};
use hallmark_receipt::{Opening, Salt};
use hallmark_verdict::{Basis, Cause as _, CheckId, Decision, Outcome, Verdict, Why};

use crate::fixture::*;
use crate::forgery::{EDITS, Edit, edited, name, places};

/// Edits of the work itself, every part of the bundle made anew to fit. With each, what a verifier who re-runs says: `Ok` if it
/// accepts, the code of the failed reason, or the check that is lacking.
fn forged_works() -> Vec<(&'static str, Work, Result<(), &'static str>)> {
    let base = || work("first", 1);
    let with = |change: &dyn Fn(&mut Work)| {
        let mut work = base();
        change(&mut work);
        work
    };
    let a = |values: &[f32]| opening("a", values, 1);
    let y = |values: &[f32]| opening("y", values, 1);
    vec![
        // No part of the computation: true whoever says it.
        ("nothing but the keys", base(), Ok(())),
        ("network", with(&|w| w.network = "main".into()), Ok(())),
        ("request id", with(&|w| w.request_id = RequestId([9; 16])), Ok(())),
        ("nonce", with(&|w| w.nonce = Nonce([9; 32])), Ok(())),
        ("time", with(&|w| w.time = TIME + 1), Ok(())),
        ("price", with(&|w| w.price = Some(Price { amount: "1".into(), asset: "OPG".into() })), Ok(())),
        ("parents", with(&|w| w.parents = vec![Digest([1; 32])]), Ok(())),
        ("no evidence signature", with(&|w| w.evidence.signature = false), Ok(())),
        ("no evidence replay", with(&|w| w.evidence.replay = None), Ok(())),
        ("graph left out", with(&|w| w.graph = None), Ok(())),
        ("salts", with(&|w| w.inputs[0] = opening("a", &[1.0, -1.5, 0.25], 99)), Ok(())),
        ("another input with its true output", work("first", 5), Ok(())),
        // The computation.
        ("input", with(&|w| w.inputs[0] = a(&[2.0, -1.5, 0.25])), Err("output-value")),
        ("input's name", with(&|w| w.inputs[0] = opening("c", &[1.0, -1.5, 0.25], 1)), Err("replay-refused")),
        ("input left out", with(&|w| w.inputs.truncate(1)), Err("replay-refused")),
        ("input's shape", with(&|w| w.inputs[0] = a(&[1.0, -1.5])), Err("output-type")),
        ("output", with(&|w| w.outputs[0] = y(&[2.0, 0.0, 0.25])), Err("output-value")),
        ("output's zero", with(&|w| w.outputs[0] = y(&[1.0, -0.0, 0.25])), Err("output-value")),
        ("output by one bit", with(&|w| w.outputs[0] = y(&[1.0, 0.0, 0.250_000_03])), Err("output-value")),
        ("output's name", with(&|w| w.outputs[0] = opening("x", &[1.0, 0.0, 0.25], 1)), Err("output-names")),
        ("output left out", with(&|w| w.outputs.truncate(1)), Err("output-names")),
        ("outputs swapped", with(&|w| w.outputs.reverse()), Err("output-names")),
        ("output's type", with(&|w| w.outputs[0] = double("y")), Err("output-type")),
        ("output's shape", with(&|w| w.outputs[0] = column("y")), Err("output-type")),
        ("parameters", with(&|w| w.parameters = object([("seed", Value::Int(1))])), Err("replay")),
        ("model", with(&|w| swap_model(w, "other")), Err("replay")),
        ("model only named", with(&name_only), Err("replay")),
        ("graph", with(&|w| w.graph = Some(b"y = -a".to_vec())), Err("graph")),
        ("numeric specification", with(&|w| w.evidence.replay = Some(2)), Err("numeric")),
        (
            "another model's publication",
            with(&|w| w.publications = vec![publication("second", 30)]),
            Err("publication-of-other"),
        ),
        (
            "one publication twice",
            with(&|w| w.publications = vec![publication("first", 30), publication("first", 30)]),
            Err("publication-order"),
        ),
        ("time in the future", with(&|w| w.time = NOW + 3_600_000), Err("from-the-future")),
    ]
}

fn double(name: &str) -> Opening {
    Opening::new(name, Tensor::vector(vec![1.0_f64, 0.0, 0.25]), Salt([1; 32])).unwrap()
}

fn column(name: &str) -> Opening {
    let tensor = Tensor::from_vec(vec![3, 1], vec![1.0_f32, 0.0, 0.25]).unwrap();
    Opening::new(name, tensor, Salt([1; 32])).unwrap()
}

fn swap_model(work: &mut Work, name: &str) {
    work.model = Model::Id(model_id(&manifest(name)));
    work.manifest = Some(manifest(name));
}

fn name_only(work: &mut Work) {
    work.model = Model::Claimed { provider: "acme".into(), name: "first".into() };
    work.manifest = None;
    work.graph = None;
    work.evidence = Wanted { signature: true, replay: None, environment: None };
}

fn codes(verdict: &Verdict) -> Vec<&'static str> {
    verdict.reasons().map(|(_, reason)| reason.code()).collect()
}

#[test]
fn wholly_re_signed_works_are_judged_by_what_is_re_run() {
    for (what, work, expected) in forged_works() {
        let bundle = sign(work, &mallory()).to_json();
        let look = |verifier: Verifier| verifier.judge(bundle.as_bytes());

        // Nothing outside the bundle: never accepted.
        let bare = look(Verifier::Bare);
        assert!(!bare.is_accepted(), "{what}");

        // The verifier's own copy of the model.
        let model = look(Verifier::Model);
        match expected {
            Ok(()) => match &model.decision {
                Decision::Accepted(verified) => assert_eq!(verified.basis(), [Basis::Replay], "{what}"),
                other => panic!("{what}: {other:?}"),
            },
            Err("replay") => {
                assert_eq!(model.exit_code(), 3, "{what}");
                assert!(!model.check(CheckId::Replay).unwrap().has_passed(), "{what}");
            }
            Err(code) => assert_eq!(codes(&model), [code], "{what}"),
        }

        // The original identity, named: refused, whatever else is true.
        for verifier in [Verifier::Pin, Verifier::Both] {
            let verdict = look(verifier);
            assert_eq!(verdict.exit_code(), 1, "{what}");
            assert!(codes(&verdict).contains(&"not-trusted"), "{what}: {:?}", codes(&verdict));
        }
    }
}

/// The members of the statement that say nothing about the computation: a re-signed bundle that differs in them alone is as true
/// as the original.
const TRUE_COMPUTATION: &[(&str, &[Edit])] = &[
    ("predicate.claim.network", &[Edit::Alter]),
    ("predicate.claim.nonce", &[Edit::Alter, Edit::Swap]),
    ("predicate.claim.request_id", &[Edit::Alter, Edit::Swap]),
    ("predicate.claim.parents", &[Edit::Swap, Edit::Delete, Edit::Duplicate, Edit::Alter]),
    ("predicate.time", &[Edit::Alter]),
    ("predicate.price", &[Edit::Delete, Edit::Swap]),
    ("predicate.price.amount", &[Edit::Alter]),
    ("predicate.price.asset", &[Edit::Alter]),
];

/// Signs an edited statement again as `node`: certificate, node, signer, claim id and evidence all made to fit, except for the
/// member that was edited.
fn re_sign(original: &Bundle, statement: &str, edited: &str, node: &NodeKeys) -> Bundle {
    let mut bundle = original.clone();
    bundle.certificates = vec![node.certificate.clone()];
    let mut payload = statement.as_bytes().to_vec();
    if let Ok(mut receipt) = Receipt::parse(&payload) {
        if edited != "predicate.claim.node" {
            receipt.claim.node = node.id();
        }
        if edited != "predicate.signer" {
            receipt.signer = node.key.public_key().id();
        }
        if edited != "predicate.claim_id" {
            receipt.claim_id = receipt.claim.id();
        }
        for item in &mut bundle.evidence {
            *item = match item {
                Evidence::Replay { numeric, .. } => {
                    Evidence::Replay { claim_id: receipt.claim_id, numeric: *numeric }
                }
                _ => Evidence::sign(receipt.claim_id, &node.key).unwrap(),
            };
        }
        if !edited.starts_with("predicate.evidence") {
            receipt.evidence = bundle.evidence.iter().map(|item| (item.kind(), item.digest())).collect();
        }
        payload = receipt.to_payload();
    }
    bundle.envelope = Envelope::sign(PayloadType::Statement, payload, &node.key).unwrap();
    bundle
}

#[test]
fn re_signed_edits_of_every_field_of_the_statement() {
    let honest: Vec<Bundle> = bundles().into_iter().take(3).collect();
    let statement = |bundle: &Bundle| Value::parse(&bundle.envelope.payload, 1 << 20).unwrap();
    let mut accepted = std::collections::BTreeSet::new();
    let mut edits = 0_usize;
    for (number, bundle) in honest.iter().enumerate() {
        let document = statement(bundle);
        let other = statement(&honest[(number + 1) % honest.len()]);
        for place in places(&document) {
            for edit in EDITS {
                let Some(text) = edited(&document, &other, &place, edit) else { continue };
                edits += 1;
                let member = name(&place);
                let forged = re_sign(bundle, &text, &member, &mallory()).to_json();
                let what = format!("bundle {number}: {edit:?} {place:?}");
                // Members that the forger must set to sign at all are repaired, so that the edit is none.
                let repaired = matches!(edit, Edit::Alter | Edit::Swap)
                    && Receipt::parse(text.as_bytes()).is_ok()
                    && re_sign(bundle, &document.canonical(), "", &mallory()).to_json() == forged;
                for verifier in VERIFIERS {
                    let verdict = verifier.judge(forged.as_bytes());
                    match verifier {
                        Verifier::Bare => assert!(!verdict.is_accepted(), "{what}"),
                        Verifier::Pin | Verifier::Both => assert_eq!(verdict.exit_code(), 1, "{what}"),
                        Verifier::Model => {
                            let listed =
                                TRUE_COMPUTATION.iter().any(|(m, e)| *m == member && e.contains(&edit));
                            if verdict.is_accepted() {
                                assert!(listed || repaired, "{what} is accepted");
                                accepted.insert(member.clone());
                            } else {
                                let why = !codes(&verdict).is_empty() || verdict.exit_code() == 3;
                                assert!(why, "{what}");
                            }
                        }
                    }
                }
            }
        }
    }
    assert!(edits > 200, "{edits}");
    // The list names nothing that is not accepted.
    for (member, _) in TRUE_COMPUTATION {
        assert!(accepted.contains(*member), "{member} among {accepted:?}");
    }
}

#[test]
fn certificates_cannot_be_borrowed() {
    let honest = bundles().remove(0);
    let forger = mallory();
    let codes_with = |bundle: &Bundle| codes(&Verifier::Both.judge(bundle.to_json().as_bytes()));
    // The forger signs and keeps the honest certificate.
    let envelope =
        Envelope::sign(PayloadType::Statement, honest.envelope.payload.clone(), &forger.key).unwrap();
    assert_eq!(codes_with(&Bundle { envelope, ..honest.clone() }), ["signature"]);
    // The forger's certificate under the honest node's claim.
    let certificates = vec![forger.certificate.clone()];
    let codes = codes_with(&Bundle { certificates, ..honest.clone() });
    assert_eq!(
        codes,
        ["certificate", "not-trusted", "signature", "statement", "word"].map(|code| match code {
            "certificate" => "other-node",
            "statement" => "signer",
            other => other,
        })
    );
    // Two certificates.
    let certificates = vec![alice().certificate, forger.certificate];
    assert_eq!(codes_with(&Bundle { certificates, ..honest.clone() }), ["certificate-count"]);
    assert_eq!(codes_with(&Bundle { certificates: vec![], ..honest.clone() }), ["certificate-count"]);
    // A certificate of the honest identity for another purpose, and one that is over.
    for (purpose, not_after, code) in [
        (hallmark_receipt::Purpose::Stream, TIME + 1, "purpose"),
        (hallmark_receipt::Purpose::Receipt, TIME - 1, "not-in-force"),
    ] {
        let node = alice();
        let certificate = hallmark_receipt::Certificate {
            identity: node.identity.public_key(),
            key: node.key.public_key(),
            purpose,
            not_before: TIME - 10,
            not_after,
        };
        let certificates = vec![certificate.sign(&node.identity).unwrap()];
        assert_eq!(codes_with(&Bundle { certificates, ..honest.clone() }), [code]);
    }
}

#[test]
fn evidence_of_another_request_is_refused_by_name() {
    let ours = sign(work("first", 1), &alice());
    let other = sign(work("first", 6), &alice());
    let look = |bundle: Bundle| Verifier::Both.judge(bundle.to_json().as_bytes());
    let verdict = look(Bundle { evidence: other.evidence.clone(), ..ours.clone() });
    assert_eq!(codes(&verdict), ["evidence-of-other"]);
    let verdict = look(Bundle { evidence: ours.evidence[..1].to_vec(), ..ours.clone() });
    assert_eq!(codes(&verdict), ["evidence-missing"]);
    let verdict = look(Bundle { inputs: other.inputs.clone(), ..ours.clone() });
    assert_eq!(codes(&verdict), ["commitment"]);
    let verdict = look(Bundle { manifest: None, ..ours.clone() });
    assert_eq!(codes(&verdict)[0], "manifest-missing");
    let manifest: Object = manifest("second");
    assert_eq!(codes(&look(Bundle { manifest: Some(manifest), ..ours.clone() })), ["manifest"]);
    assert_eq!(codes(&look(Bundle { graph: None, ..ours.clone() })), ["graph-missing"]);
    let verdict = look(Bundle { inputs: None, ..ours });
    assert_eq!(verdict.check(CheckId::Replay).unwrap().outcome, Outcome::NotChecked(Why::Redacted));
}
