//! RustCrypto.

use p256::ecdsa::signature::Verifier as _;
use rsa::pkcs1::DecodeRsaPublicKey as _;
use rsa::traits::PublicKeyParts as _;
use sha2::Sha384;

use super::{Form, Mismatch, PublicKey, Scheme};

pub fn verify(
    key: PublicKey<'_>,
    scheme: Scheme,
    form: Form,
    message: &[u8],
    signature: &[u8],
) -> Result<(), Mismatch> {
    match (scheme, key) {
        (Scheme::EcdsaP256, PublicKey::P256(key)) => {
            let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(key).map_err(|_| Mismatch)?;
            let signature = match form {
                Form::Fixed => p256::ecdsa::Signature::from_slice(signature),
                Form::Der => p256::ecdsa::Signature::from_der(signature),
            };
            key.verify(message, &signature.map_err(|_| Mismatch)?).map_err(|_| Mismatch)
        }
        (Scheme::EcdsaP384, PublicKey::P384(key)) => {
            let key = p384::ecdsa::VerifyingKey::from_sec1_bytes(key).map_err(|_| Mismatch)?;
            let signature = match form {
                Form::Fixed => p384::ecdsa::Signature::from_slice(signature),
                Form::Der => p384::ecdsa::Signature::from_der(signature),
            };
            key.verify(message, &signature.map_err(|_| Mismatch)?).map_err(|_| Mismatch)
        }
        (Scheme::RsaPss384, PublicKey::Rsa(key)) => {
            let key = rsa::PublicKey::from_pkcs1_der(key).map_err(|_| Mismatch)?;
            if !(2048..=8192).contains(&key.n().bit_width()) {
                return Err(Mismatch);
            }
            let signature = rsa::pss::Signature::try_from(signature).map_err(|_| Mismatch)?;
            rsa::pss::VerifyingKey::<Sha384>::new(key).verify(message, &signature).map_err(|_| Mismatch)
        }
        _ => Err(Mismatch),
    }
}
