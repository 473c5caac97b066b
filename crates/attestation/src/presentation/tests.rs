//! Messages: one encoding each, bounded. How presentations are judged: `tests/presentation.rs`.
#![allow(clippy::unwrap_used)]

use hallmark_receipt::{Alg, SecretKey, Signer as _};

use super::*;
use crate::binding::BindingError;

fn key(seed: u8) -> PublicKey {
    SecretKey::from_seed(Alg::P256, &[seed; 32]).unwrap().public_key()
}

fn credentials() -> Credentials {
    let binding = Binding::default().with_key(Purpose::Tls, &key(1)).unwrap();
    let binding = binding.with_bytes(Purpose::Hpke, vec![4; 32]).unwrap().with_policy(Digest([5; 32]));
    let evidence = Evidence {
        evidence: b"evidence".to_vec(),
        certificates: vec![b"a".to_vec(), vec![]],
        collateral: vec![b"list".to_vec()],
        event_log: Some(b"log".to_vec()),
    };
    let gpu = Evidence { evidence: b"report".to_vec(), ..Evidence::default() };
    let item = |kind, evidence| Item { kind, evidence };
    Credentials {
        binding: binding.with_nonce(vec![6; 32]).unwrap(),
        items: vec![item(Kind::Tdx, evidence), item(Kind::Nvidia, gpu)],
    }
}

fn message(credentials: &Credentials) -> Vec<u8> {
    [&credentials.encode().unwrap()[..], &[9; SIGNATURE]].concat()
}

#[test]
fn a_hello_is_what_the_specification_says() {
    for (byte, wants) in [(0, Wants::Nothing), (1, Wants::Presentation), (2, Wants::Fresh)] {
        let hello = Hello { nonce: [7; 32], wants };
        assert_eq!(hello.encode(), [&[1][..], &[7; 32], &[byte]].concat());
        assert_eq!(Hello::parse(&hello.encode()), Ok(hello));
    }
    let parse = |change: fn(&mut Vec<u8>)| {
        let mut bytes = Hello { nonce: [7; 32], wants: Wants::Fresh }.encode();
        change(&mut bytes);
        Hello::parse(&bytes).unwrap_err()
    };
    assert_eq!(parse(|bytes| bytes[33] = 3), MessageError::Wants { got: 3 });
    assert_eq!(parse(|bytes| bytes[0] = 2), MessageError::Unexpected { expected: "a hello" });
    assert_eq!(parse(Vec::clear), MessageError::Unexpected { expected: "a hello" });
    assert_eq!(parse(|bytes| bytes.push(0)), MessageError::Trailing { got: 1 });
    assert_eq!(parse(|bytes| bytes.truncate(33)), MessageError::Truncated);
}

#[test]
fn a_presentation_is_what_the_specification_says() {
    let binding = Binding::default().with_bytes(Purpose::Tls, vec![0xaa; 2]).unwrap();
    let evidence = Evidence { evidence: b"doc".to_vec(), ..Evidence::default() };
    let small = Credentials { binding, items: vec![Item { kind: Kind::Nitro, evidence }] };
    let expected = [
        &b"\x02\x01\x03tls\x00\x02\xaa\xaa"[..],
        &[0; 32],
        b"\x00\x01\x05nitro\x00\x00\x00\x03doc\x00\x00\x00",
        &[9; 64],
    ];
    assert_eq!(message(&small), expected.concat());
    for credentials in [small, credentials()] {
        let parsed = Presentation::parse(&message(&credentials)).unwrap();
        assert_eq!(parsed, Presentation { credentials, signature: [9; 64] });
    }
}

#[test]
fn a_message_ends_where_it_ends() {
    let whole = message(&credentials());
    for length in 0..whole.len() {
        assert!(Presentation::parse(&whole[..length]).is_err(), "{length}");
    }
    let more = [&whole[..], &[0]].concat();
    assert_eq!(Presentation::parse(&more), Err(MessageError::Trailing { got: 1 }));
    let long = vec![2; MAX_MESSAGE + 1];
    assert_eq!(Presentation::parse(&long), Err(MessageError::TooLong { got: MAX_MESSAGE + 1 }));
}

#[test]
fn every_message_that_can_be_read_has_one_form() {
    let whole = message(&credentials());
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut changed = whole.clone();
            changed[at] ^= 1 << bit;
            if let Ok(read) = Presentation::parse(&changed) {
                assert_eq!([&read.credentials.encode().unwrap()[..], &read.signature].concat(), changed);
            }
        }
    }
}

#[test]
fn bindings_are_read_strictly() {
    let tail = [&[0; 33][..], b"\x01\x05nitro\x00\x00\x00\x03doc\x00\x00\x00", &[9; 64]].concat();
    for (keys, expected) in [
        (&b"\x01\x03dns\x00\x01k"[..], ReadError::Purpose),
        (b"\x01\x02\xff\xfe\x00\x01k", ReadError::Purpose),
        (b"\x02\x04hpke\x00\x01k\x03tls\x00\x01k", ReadError::Order),
        (b"\x02\x03tls\x00\x01k\x03tls\x00\x01k", ReadError::Order),
        (b"\x01\x03tls\x00\x00", ReadError::Binding(BindingError::KeyLength { got: 0 })),
    ] {
        let bytes = [&[2][..], keys, &tail].concat();
        assert_eq!(Presentation::parse(&bytes), Err(MessageError::Binding(expected)), "{keys:?}");
    }
}

#[test]
fn what_nobody_would_read_is_not_written() {
    let with = |change: fn(&mut Credentials)| {
        let mut changed = credentials();
        change(&mut changed);
        changed.encode().unwrap_err()
    };
    let count = |what, least, most, got| MessageError::Count { what, least, most, got };
    assert_eq!(with(|all| all.items.clear()), count("pieces of evidence", 1, 4, 0));
    assert_eq!(with(|all| all.items = vec![all.items[0].clone(); 5]), count("pieces of evidence", 1, 4, 5));
    let many = with(|all| all.items[0].evidence.certificates = vec![vec![]; 33]);
    assert_eq!(many, count("certificates", 0, 32, 33));
    let long = with(|all| all.items[0].evidence.evidence = vec![0; MAX_MESSAGE]);
    assert!(matches!(long, MessageError::TooLong { got } if got > MAX_MESSAGE));
}
