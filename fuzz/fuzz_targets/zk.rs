//! Any JSON as the evidence of a good bundle, and changes to its own evidence: what parses is written back as it was understood, and
//! nothing but the vectors' own proof is a proof.
#![no_main]

mod changed;

use hallmark_receipt::json::Value;
use hallmark_receipt::{Bundle, EvidenceKind};
use hallmark_verdict::{CheckId, Context, Policy, judge};

use changed::changed;

const GOOD: &[u8] = include_bytes!("../../vectors/receipt/valid-proved.receipt.json");

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(Value::Object(mut members)) = Value::parse(GOOD, 1 << 24) else { panic!("a good bundle") };
    let Some(Value::Array(own)) = members.get("evidence") else { panic!("evidence of a good bundle") };
    let good = own[own.len() - 1].canonical();
    let parsed =
        Value::parse(bytes, 1 << 24).or_else(|_| Value::parse(&changed(good.as_bytes(), bytes), 1 << 24));
    let Ok(evidence) = parsed else { return };
    members.insert("evidence".to_owned(), Value::Array(vec![evidence]));
    let text = Value::Object(members).canonical();
    let Ok(bundle) = Bundle::parse(text.as_bytes()) else { return };
    assert_eq!(Bundle::parse(bundle.to_json().as_bytes()).as_ref(), Ok(&bundle));
    let verdict = judge(text.as_bytes(), &Policy::default_policy(), &Context::at(1_800_000_000_000), None);
    assert!(!verdict.is_accepted());
    if verdict.check(CheckId::Proof).is_some_and(|check| check.has_passed()) {
        let good = Bundle::parse(GOOD).unwrap();
        let own = |bundle: &Bundle| bundle.evidence.iter().find(|e| e.kind() == EvidenceKind::Zk).cloned();
        assert_eq!(own(&bundle), own(&good));
    }
});
