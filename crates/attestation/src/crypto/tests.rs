//! Both libraries give the same answers, on good signatures and on each with one bit changed.
#![allow(clippy::unwrap_used)]

use p256::ecdsa::signature::Signer as _;

use super::{Form, PublicKey, Scheme, native, portable};

/// One case: key, scheme, form, signature over [`MESSAGE`].
type Case = (Vec<u8>, Scheme, Form, Vec<u8>);

const MESSAGE: &[u8] = b"what was signed";

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let key = p256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap();
    let point = key.verifying_key().to_sec1_point(false).as_bytes().to_vec();
    let signature: p256::ecdsa::Signature = key.sign(MESSAGE);
    cases.push((point.clone(), Scheme::EcdsaP256, Form::Fixed, signature.to_bytes().to_vec()));
    cases.push((point, Scheme::EcdsaP256, Form::Der, signature.to_der().as_bytes().to_vec()));
    let key = p384::ecdsa::SigningKey::from_slice(&[7; 48]).unwrap();
    let point = key.verifying_key().to_sec1_point(false).as_bytes().to_vec();
    let signature: p384::ecdsa::Signature = key.sign(MESSAGE);
    cases.push((point.clone(), Scheme::EcdsaP384, Form::Fixed, signature.to_bytes().to_vec()));
    cases.push((point, Scheme::EcdsaP384, Form::Der, signature.to_der().as_bytes().to_vec()));
    cases
}

fn key<'a>(case: &'a Case) -> PublicKey<'a> {
    match case.1 {
        Scheme::EcdsaP256 => PublicKey::P256(&case.0),
        Scheme::EcdsaP384 => PublicKey::P384(&case.0),
        Scheme::RsaPss384 => PublicKey::Rsa(&case.0),
    }
}

#[test]
fn both_libraries_agree() {
    for case in &cases() {
        let (_, scheme, form, signature) = case;
        assert_eq!(native::verify(key(case), *scheme, *form, MESSAGE, signature), Ok(()), "{case:?}");
        assert_eq!(portable::verify(key(case), *scheme, *form, MESSAGE, signature), Ok(()), "{case:?}");
        for bit in 0..signature.len() * 8 {
            let mut changed = signature.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let answers = [native::verify, portable::verify]
                .map(|verify| verify(key(case), *scheme, *form, MESSAGE, &changed).is_ok());
            assert_eq!(answers, [false, false], "bit {bit} of {case:?}");
        }
        for verify in [native::verify, portable::verify] {
            assert!(verify(key(case), *scheme, *form, b"what was not", signature).is_err());
        }
    }
}
