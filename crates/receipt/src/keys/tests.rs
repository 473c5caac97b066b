use super::*;

fn key(alg: Alg, seed: u8) -> SecretKey {
    SecretKey::from_seed(alg, &[seed; 32]).unwrap()
}

#[test]
fn ed25519_is_rfc_8032() {
    // RFC 8032 §7.1, test 2.
    let seed: [u8; 32] = from_hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
        .unwrap()
        .try_into()
        .unwrap();
    let key = SecretKey::from_seed(Alg::Ed25519, &seed).unwrap();
    assert_eq!(
        key.public_key().to_string(),
        "ed25519:3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    );
    assert_eq!(
        to_hex(&key.sign(&[0x72]).unwrap()),
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    );
}

#[test]
fn signatures_verify_under_their_key_and_message_only() {
    for alg in Alg::ALL {
        let (ours, other) = (key(alg, 1), key(alg, 2));
        let signature = ours.sign(b"m").unwrap();
        let public = ours.public_key();
        assert_eq!(public.verify(alg, b"m", &signature), Ok(()));
        assert_eq!(public.verify(alg, b"n", &signature), Err(SignatureError::Mismatch));
        assert_eq!(other.public_key().verify(alg, b"m", &signature), Err(SignatureError::Mismatch));
        assert_eq!(public.verify(alg, b"m", &signature[..63]), Err(SignatureError::Encoding(alg)));
        assert_eq!(public.verify(alg, b"m", &[0; 65]), Err(SignatureError::Encoding(alg)));
        for byte in 0..64 {
            let mut bad = signature.clone();
            bad[byte] ^= 1;
            assert!(public.verify(alg, b"m", &bad).is_err(), "{alg} byte {byte}");
        }
        assert_eq!(public.to_string().parse(), Ok(public));
        assert_eq!(PublicKey::from_bytes(alg, &public.to_bytes()), Ok(public));
    }
    assert_eq!(
        key(Alg::P256, 1).public_key().verify(Alg::Ed25519, b"m", &[0; 64]),
        Err(SignatureError::Algorithm { expected: Alg::P256, got: Alg::Ed25519 })
    );
}

#[test]
fn malleable_signatures_are_refused() {
    // Ed25519: s + L verifies in lax implementations.
    let ours = key(Alg::Ed25519, 3);
    let mut signature = ours.sign(b"m").unwrap();
    let order = from_hex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010").unwrap();
    let mut carry = 0_u16;
    for (byte, add) in signature[32..].iter_mut().zip(order) {
        carry += u16::from(*byte) + u16::from(add);
        *byte = carry as u8;
        carry >>= 8;
    }
    assert!(ours.public_key().verify(Alg::Ed25519, b"m", &signature).is_err());

    // P-256: n - s verifies in lax implementations.
    let ours = key(Alg::P256, 3);
    let signature = p256::ecdsa::Signature::from_slice(&ours.sign(b"m").unwrap()).unwrap();
    let (r, s) = signature.split_scalars();
    let high = p256::ecdsa::Signature::from_scalars(r, -s).unwrap();
    assert_eq!(ours.public_key().verify(Alg::P256, b"m", &high.to_bytes()), Err(SignatureError::HighS));
}

#[test]
fn weak_and_non_canonical_keys_are_refused() {
    let ed = |hex: &str| PublicKey::from_bytes(Alg::Ed25519, &from_hex(hex).unwrap());
    // The neutral element, a point of order 8, and y = p + 3, the other encoding of a good point.
    assert_eq!(ed(&format!("01{}", "00".repeat(31))), Err(KeyError::Weak));
    assert_eq!(ed("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), Err(KeyError::Weak));
    assert_eq!(ed(&format!("f0{}7f", "ff".repeat(30))), Err(KeyError::Encoding(Alg::Ed25519)));
    assert!(ed(&format!("03{}", "00".repeat(31))).is_ok());
    let p256 = key(Alg::P256, 1).public_key();
    let PublicKey::P256(inner) = p256 else { unreachable!() };
    let long = inner.to_sec1_point(false);
    assert_eq!(PublicKey::from_bytes(Alg::P256, long.as_bytes()), Err(KeyError::Encoding(Alg::P256)));
    assert_eq!(PublicKey::from_bytes(Alg::P256, &[0; 33]), Err(KeyError::Encoding(Alg::P256)));
}

#[test]
fn secrets_are_not_printed() {
    let text = format!("{:?}", SecretKey::from_seed(Alg::Ed25519, &[0xab; 32]).unwrap());
    assert!(!text.contains("abab") && !text.contains("171, 171"), "{text}");
}

#[test]
fn keys_have_one_subject_public_key_info() {
    // RFC 8410 §10.1; RFC 8032's test 1 has another key, so the key is that example's.
    let example = "302a300506032b657003210019bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1";
    let spki = from_hex(example).unwrap();
    let key = PublicKey::from_spki(&spki).unwrap();
    assert_eq!((key.alg(), key.to_spki()), (Alg::Ed25519, spki));
    for alg in Alg::ALL {
        let key = key_of(alg);
        let spki = key.to_spki();
        assert_eq!(PublicKey::from_spki(&spki), Ok(key));
        assert!(PublicKey::from_spki(&spki[..spki.len() - 1]).is_err());
        assert!(PublicKey::from_spki(&[&spki[..], &[0]].concat()).is_err());
        assert!(PublicKey::from_spki(&[&[0x31], &spki[1..]].concat()).is_err());
    }
    // The point compressed, under the prefix of an uncompressed one.
    let key = key_of(Alg::P256);
    let compressed = [&key.to_spki()[..26], &key.to_bytes()].concat();
    assert_eq!(PublicKey::from_spki(&compressed), Err(KeyError::Encoding(Alg::P256)));
}

fn key_of(alg: Alg) -> PublicKey {
    key(alg, 3).public_key()
}
