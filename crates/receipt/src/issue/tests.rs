use super::*;
use crate::json::{Value, object};
use crate::keys::{Alg, SecretKey};
use crate::{Salt, Tensor};

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(Alg::Ed25519, &[seed; 32]).unwrap()
}

fn certificate(purpose: Purpose) -> Envelope {
    Certificate {
        identity: key(1).public_key(),
        key: key(2).public_key(),
        purpose,
        not_before: 10,
        not_after: 20,
    }
    .sign(&key(1))
    .unwrap()
}

fn work() -> Work {
    let manifest = object([("name", "m".into())]);
    Work {
        network: "local".into(),
        request_id: RequestId([3; 16]),
        nonce: Nonce([4; 32]),
        model: Model::Id(model_id(&manifest)),
        inputs: vec![Opening::new("x", Tensor::vector(vec![1.0_f32]), Salt([5; 32])).unwrap()],
        outputs: vec![Opening::new("y", Tensor::vector(vec![f32::NAN]), Salt([6; 32])).unwrap()],
        parameters: object([("seed", Value::Int(5))]),
        parents: vec![Digest([9; 32])],
        time: 15,
        price: Some(Price { amount: "120".into(), asset: "OPG".into() }),
        evidence: Wanted { signature: true, replay: Some(1), environment: None },
        manifest: Some(manifest),
        graph: Some(vec![1, 2, 3]),
        publications: Vec::new(),
    }
}

#[test]
fn bundles_round_trip() {
    let bundle = issue(work(), &certificate(Purpose::Receipt), &key(2)).unwrap();
    let text = bundle.to_json();
    // NaN is unlike itself, so compare the writing.
    assert_eq!(Bundle::parse(text.as_bytes()).unwrap().to_json(), text);
    let canonical = Value::parse(text.as_bytes(), 1 << 20).unwrap().canonical();
    assert_eq!(Bundle::parse(canonical.as_bytes()).unwrap().to_json(), text);
    let redacted = bundle.clone().redact();
    assert_eq!(Bundle::parse(redacted.to_json().as_bytes()), Ok(redacted.clone()));
    assert_eq!(redacted.envelope, bundle.envelope);
    let receipt = Receipt::parse(&bundle.envelope.payload).unwrap();
    assert_eq!(receipt.claim.id(), receipt.claim_id);
    assert_eq!(receipt.price, work().price);
    // The documents print without the data.
    assert!(!format!("{bundle:?}").contains("NaN"));
}

#[test]
fn what_cannot_be_checked_is_not_issued() {
    let receipt = certificate(Purpose::Receipt);
    let errors = [
        issue(work(), &certificate(Purpose::Tls), &key(2)),
        issue(work(), &receipt, &key(3)),
        issue(Work { time: 21, ..work() }, &receipt, &key(2)),
        issue(Work { evidence: Wanted::default(), ..work() }, &receipt, &key(2)),
        issue(Work { manifest: None, ..work() }, &receipt, &key(2)),
        issue(Work { inputs: [work().inputs, work().inputs].concat(), ..work() }, &receipt, &key(2)),
        issue(Work { network: "\n".into(), ..work() }, &receipt, &key(2)),
    ]
    .map(|result| result.unwrap_err());
    let expected = [
        IssueError::Purpose { got: Purpose::Tls },
        IssueError::OtherKey { expected: key(2).public_key().id(), got: key(3).public_key().id() },
        IssueError::Validity { not_before: 10, not_after: 20, time: 21 },
        IssueError::NoEvidence,
        IssueError::Manifest { expected: work().model, got: None },
        IssueError::Tensors { what: "inputs" },
        IssueError::Format(FormatError::Value {
            path: "claim.network".into(),
            expected: "text without control characters",
        }),
    ];
    assert_eq!(errors, expected);
}

#[test]
fn models_that_are_only_named_have_no_manifest() {
    let model = Model::Claimed { provider: "acme".into(), name: "big".into() };
    let named = Work { model, manifest: None, graph: None, ..work() };
    let bundle = issue(named.clone(), &certificate(Purpose::Receipt), &key(2)).unwrap();
    assert!(Bundle::parse(bundle.to_json().as_bytes()).unwrap().manifest.is_none());
    let with = Work { manifest: work().manifest, ..named };
    assert!(matches!(issue(with, &certificate(Purpose::Receipt), &key(2)), Err(IssueError::Manifest { .. })));
}
