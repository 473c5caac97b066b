//! What is bound.
#![allow(clippy::unwrap_used)]

use hallmark_receipt::{Alg, SecretKey, Signer};

use super::*;

fn key(seed: u8) -> PublicKey {
    SecretKey::from_seed(Alg::Ed25519, &[seed; 32]).unwrap().public_key()
}

/// RFC 8032 §7.1, test 1.
fn known_key() -> PublicKey {
    let bytes = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    PublicKey::from_bytes(Alg::Ed25519, &hallmark_receipt::wire::from_hex(bytes).unwrap()).unwrap()
}

#[test]
fn the_digest_is_that_of_the_specification() {
    // Both by Python's hashlib, from the text of §10.1.
    let one = Binding::default().with_key(Purpose::Receipt, &known_key()).unwrap();
    assert_eq!(one.digest().to_string(), "49fdf648dbbc04642caae624bd8bacb5479bd9d122847968d38dd75151193a79");
    let policy = Digest(std::array::from_fn(|at| u8::try_from(at).unwrap()));
    let two = one.with_bytes(Purpose::Hpke, vec![1, 2, 3]).unwrap().with_policy(policy);
    let two = two.with_nonce(b"abc".to_vec()).unwrap();
    assert_eq!(two.digest().to_string(), "0555274613d6f1608dd63195670a99ae53bd30b02a598249d3596db4df0ec050");
}

#[test]
fn each_part_counts() {
    let base = || Binding::default().with_key(Purpose::Receipt, &key(1)).unwrap();
    let others = [
        Binding::default(),
        Binding::default().with_key(Purpose::Receipt, &key(2)).unwrap(),
        Binding::default().with_key(Purpose::Tls, &key(1)).unwrap(),
        base().with_key(Purpose::Tls, &key(1)).unwrap(),
        base().with_policy(Digest([1; 32])),
        base().with_nonce(vec![0]).unwrap(),
        base().with_nonce(vec![0, 0]).unwrap(),
    ];
    for (at, other) in others.iter().enumerate() {
        assert_ne!(other.digest(), base().digest(), "{at}");
    }
    assert!(base().holds(Purpose::Receipt, &key(1)));
    assert!(!base().holds(Purpose::Receipt, &key(2)) && !base().holds(Purpose::Tls, &key(1)));
}

#[test]
fn what_cannot_be_bound_is_refused() {
    let base = || Binding::default().with_key(Purpose::Receipt, &key(1)).unwrap();
    assert_eq!(base().with_key(Purpose::Receipt, &key(2)), Err(BindingError::Twice(Purpose::Receipt)));
    assert_eq!(base().with_bytes(Purpose::Hpke, vec![]), Err(BindingError::KeyLength { got: 0 }));
    assert_eq!(base().with_bytes(Purpose::Hpke, vec![0; 1025]), Err(BindingError::KeyLength { got: 1025 }));
    assert_eq!(base().with_nonce(vec![0; 65]), Err(BindingError::NonceLength { got: 65 }));
}

#[test]
fn sessions_differ_in_every_part() {
    let leaf = |byte| Digest([byte; 32]);
    let session = Session {
        role: Role::Server,
        exporter: &[1; 32],
        server_leaf: leaf(2),
        client_leaf: None,
        nonce: &[3; 32],
    };
    let signed = session.to_be_signed();
    for other in [
        Session { role: Role::Client, ..session },
        Session { exporter: &[4; 32], ..session },
        Session { server_leaf: leaf(5), ..session },
        Session { client_leaf: Some(leaf(6)), ..session },
        Session { nonce: &[7; 32], ..session },
    ] {
        assert_ne!(other.to_be_signed(), signed, "{other:?}");
    }
}
