//! AWS-LC.

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};

use super::{Form, Mismatch, PublicKey, Scheme};

pub fn verify(
    key: PublicKey<'_>,
    scheme: Scheme,
    form: Form,
    message: &[u8],
    signature: &[u8],
) -> Result<(), Mismatch> {
    let (algorithm, key): (&'static dyn VerificationAlgorithm, _) = match (scheme, key, form) {
        (Scheme::EcdsaP256, PublicKey::P256(key), Form::Fixed) => (&signature::ECDSA_P256_SHA256_FIXED, key),
        (Scheme::EcdsaP256, PublicKey::P256(key), Form::Der) => (&signature::ECDSA_P256_SHA256_ASN1, key),
        (Scheme::EcdsaP384, PublicKey::P384(key), Form::Fixed) => (&signature::ECDSA_P384_SHA384_FIXED, key),
        (Scheme::EcdsaP384, PublicKey::P384(key), Form::Der) => (&signature::ECDSA_P384_SHA384_ASN1, key),
        (Scheme::RsaPss384, PublicKey::Rsa(key), _) => (&signature::RSA_PSS_2048_8192_SHA384, key),
        _ => return Err(Mismatch),
    };
    UnparsedPublicKey::new(algorithm, key).verify(message, signature).map_err(|_| Mismatch)
}
