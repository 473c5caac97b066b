//! Signatures as evidence carries them: one function, one library a target.
//!
//! Natively AWS-LC checks them, in WebAssembly RustCrypto's crates do; a test holds both to the same answers.

#[cfg(not(target_family = "wasm"))]
mod native;
#[cfg(any(test, target_family = "wasm"))]
mod portable;

/// A public key as certificates and quotes hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublicKey<'a> {
    /// A point of P-256: 65 bytes, uncompressed SEC 1.
    P256(&'a [u8]),
    /// A point of P-384: 97 bytes, uncompressed SEC 1.
    P384(&'a [u8]),
    /// An RSA key of 2048 to 8192 bits: DER of PKCS #1 `RSAPublicKey`.
    Rsa(&'a [u8]),
}

/// A signature scheme with its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// ECDSA over P-256 with SHA-256.
    EcdsaP256,
    /// ECDSA over P-384 with SHA-384.
    EcdsaP384,
    /// RSASSA-PSS with SHA-384, MGF1 with SHA-384, a salt of 48 bytes.
    RsaPss384,
}

/// How the two numbers of an ECDSA signature are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `r || s`, each as long as the curve's order.
    Fixed,
    /// DER, as certificates have it.
    Der,
}

/// The signature is not the key's over these bytes, or key and scheme do not go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not fit the key and the signed bytes")]
pub struct Mismatch;

/// Checks `signature` over `message`. `form` is for ECDSA alone.
pub fn verify(
    key: PublicKey<'_>,
    scheme: Scheme,
    form: Form,
    message: &[u8],
    signature: &[u8],
) -> Result<(), Mismatch> {
    #[cfg(not(target_family = "wasm"))]
    return native::verify(key, scheme, form, message, signature);
    #[cfg(target_family = "wasm")]
    return portable::verify(key, scheme, form, message, signature);
}

#[cfg(all(test, not(target_family = "wasm")))]
mod tests;
