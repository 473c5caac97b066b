use std::sync::Arc;

use super::*;
use crate::evidence::Evidence;
use crate::json::Value;

fn proof(claims: &[u8]) -> Proof {
    Proof {
        claims: claims.iter().map(|byte| Digest([*byte; 32])).collect(),
        integers: vec![1, -2, i32::MIN],
        bytes: vec![7; 5],
        security: Security::High,
        version: 1,
    }
}

fn evidence() -> Evidence {
    Evidence::prove(Digest([2; 32]), Arc::new(proof(&[1, 2, 3]))).unwrap()
}

/// What parsing says after member `name` became `value`.
fn parse_with(name: &str, value: Value) -> Result<Evidence, FormatError> {
    let Value::Object(mut members) = evidence().to_value() else { panic!("an object") };
    members.insert(name.to_owned(), value);
    Evidence::from_value(Value::Object(members), "evidence[0]")
}

#[test]
fn it_is_written_in_one_form_and_read_back() {
    let evidence = evidence();
    let value = evidence.to_value();
    let text = value.canonical();
    // The digest is of exactly this text, though it is written without a value between.
    assert_eq!(evidence.digest(), crate::domain::EVIDENCE.hash(&[text.as_bytes()]));
    assert_eq!(Evidence::from_value(value, "evidence[0]"), Ok(evidence));
    let golden = concat!(
        r#"{"claim_id":"0202020202020202020202020202020202020202020202020202020202020202","claims":["#,
        r#""0101010101010101010101010101010101010101010101010101010101010101","#,
        r#""0202020202020202020202020202020202020202020202020202020202020202","#,
        r#""0303030303030303030303030303030303030303030303030303030303030303"],"#,
        r#""integers":"AQAAAP7///8AAACA","kind":"zk","proof":"BwcHBwc=","security":"high","version":1}"#,
    );
    assert_eq!(text, golden);
}

#[test]
fn members_are_bounded_and_typed() {
    let digest = |byte: u8| Value::from(Digest([byte; 32]).to_string());
    let value =
        |path: &str, expected| Err(FormatError::Value { path: format!("evidence[0].{path}"), expected });
    let own = "the own claim exactly once";
    assert_eq!(parse_with("claims", Value::Array(vec![digest(1)])), value("claims", own));
    assert_eq!(parse_with("claims", Value::Array(vec![digest(2), digest(2)])), value("claims", own));
    assert_eq!(parse_with("claims", Value::Array(Vec::new())), value("claims", "at least one"));
    assert_eq!(parse_with("integers", "AQID".into()), value("integers", "4 bytes for each integer"));
    assert_eq!(parse_with("proof", "".into()), value("proof", "at least one"));
    assert_eq!(parse_with("security", "low".into()), value("security", "`standard` or `high`"));
    assert_eq!(parse_with("version", Value::Int(1 << 32)), value("version", "a version below 2^32"));
    let many = Value::Array(vec![digest(1); MAX_CLAIMS + 1]);
    let too_long = |limit, got| FormatError::TooLong { path: "evidence[0].claims".into(), limit, got };
    assert_eq!(parse_with("claims", many), Err(too_long(MAX_CLAIMS, MAX_CLAIMS + 1)));
    let long = "A".repeat((MAX_PROOF / 3 + 1) * 4);
    assert!(matches!(parse_with("proof", long.into()), Err(FormatError::TooLong { limit: MAX_PROOF, .. })));
    assert!(matches!(parse_with("sig", "AA==".into()), Err(FormatError::Unknown { .. })));
}
