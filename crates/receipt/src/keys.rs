//! Keys and signatures (`receipt.md` §5).
//!
//! Ed25519 is the default; P-256 is there for chains and hardware that want it. Both are checked strictly: one encoding for a
//! key, one for a signature, no weak keys, so that nobody can turn a signed document into another valid one.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::Signer as _;
use p256::ecdsa::signature::Verifier as _;

use crate::domain::KEY;
use crate::json::{Value, object};
use crate::wire::{Fields, FormatError, from_hex, to_hex};
use crate::{Digest, digest};

/// A signature algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Alg {
    /// Ed25519 (RFC 8032), verified strictly.
    Ed25519,
    /// ECDSA over P-256 with SHA-256; the signature is `r || s` with low `s`.
    P256,
}

impl Alg {
    /// Every algorithm.
    pub const ALL: [Self; 2] = [Self::Ed25519, Self::P256];

    /// Its name in documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::P256 => "p256",
        }
    }

    /// The algorithm of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|alg| alg.name() == name)
    }
}

impl fmt::Display for Alg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The id of a public key: a digest over its algorithm and bytes. A node *is* the id of its identity key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub Digest);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl FromStr for KeyId {
    type Err = digest::ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// A public key that is valid for its algorithm.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum PublicKey {
    /// An Ed25519 key: canonically encoded, not of small order.
    Ed25519(ed25519_dalek::VerifyingKey),
    /// A P-256 key; its bytes are the compressed SEC 1 form.
    P256(p256::ecdsa::VerifyingKey),
}

/// What stands before the bytes of an Ed25519 key.
const SPKI_ED25519: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// What stands before the uncompressed point of a P-256 key.
const SPKI_P256: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Why a public key is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// An algorithm that this version does not know.
    #[error("unknown key algorithm")]
    Algorithm,
    /// Bytes that are no key of the algorithm, or not in its one encoding.
    #[error("not a {0} public key in its canonical encoding")]
    Encoding(Alg),
    /// An Ed25519 key of small order, under which one signature fits many messages.
    #[error("an Ed25519 key of small order")]
    Weak,
}

/// Why a signature is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// The signature names another algorithm than the key has.
    #[error("expected a signature by {expected}, got {got}")]
    Algorithm {
        /// The key's algorithm.
        expected: Alg,
        /// The signature's algorithm.
        got: Alg,
    },
    /// The signature names another key.
    #[error("expected a signature by key {expected}, got one by {got}")]
    KeyId {
        /// The key's id.
        expected: KeyId,
        /// The id beside the signature.
        got: KeyId,
    },
    /// Not 64 bytes, or numbers out of range.
    #[error("not a {0} signature in its fixed-size encoding")]
    Encoding(Alg),
    /// A P-256 signature whose `s` is in the upper half.
    #[error("a P-256 signature with high s")]
    HighS,
    /// The signature is not the key's over these bytes.
    #[error("the signature does not fit the key and the signed bytes")]
    Mismatch,
}

impl PublicKey {
    /// The key of `alg` with these bytes: 32 for Ed25519, 33 for P-256.
    pub fn from_bytes(alg: Alg, bytes: &[u8]) -> Result<Self, KeyError> {
        let encoding = KeyError::Encoding(alg);
        match alg {
            Alg::Ed25519 => {
                let bytes: &[u8; 32] = bytes.try_into().map_err(|_| encoding)?;
                let key = ed25519_dalek::VerifyingKey::from_bytes(bytes).map_err(|_| encoding)?;
                if key.is_weak() {
                    return Err(KeyError::Weak);
                }
                // Decompression reduces y mod p; only the reduced encoding is the key's.
                if key.to_edwards().compress().as_bytes() != bytes {
                    return Err(encoding);
                }
                Ok(Self::Ed25519(key))
            }
            Alg::P256 => {
                if bytes.len() != 33 {
                    return Err(encoding);
                }
                p256::ecdsa::VerifyingKey::from_sec1_bytes(bytes).map(Self::P256).map_err(|_| encoding)
            }
        }
    }

    /// The key's algorithm.
    pub fn alg(&self) -> Alg {
        match self {
            Self::Ed25519(_) => Alg::Ed25519,
            Self::P256(_) => Alg::P256,
        }
    }

    /// The key's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Ed25519(key) => key.to_bytes().to_vec(),
            Self::P256(key) => key.to_sec1_point(true).as_bytes().to_vec(),
        }
    }

    /// The key's `SubjectPublicKeyInfo`, DER (RFC 8410 §4; RFC 5480 §2, the point uncompressed).
    pub fn to_spki(&self) -> Vec<u8> {
        match self {
            Self::Ed25519(key) => [SPKI_ED25519, &key.to_bytes()[..]].concat(),
            Self::P256(key) => [SPKI_P256, key.to_sec1_point(false).as_bytes()].concat(),
        }
    }

    /// The key of a `SubjectPublicKeyInfo` that is what [`PublicKey::to_spki`] gives.
    pub fn from_spki(spki: &[u8]) -> Result<Self, KeyError> {
        if let Some(key) = spki.strip_prefix(SPKI_ED25519) {
            return Self::from_bytes(Alg::Ed25519, key);
        }
        let point = spki.strip_prefix(SPKI_P256).ok_or(KeyError::Algorithm)?;
        let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(point)
            .map(Self::P256)
            .map_err(|_| KeyError::Encoding(Alg::P256))?;
        if key.to_spki() == spki { Ok(key) } else { Err(KeyError::Encoding(Alg::P256)) }
    }

    /// The key's id: `H(KEY, name of the algorithm, 0, bytes)`.
    pub fn id(&self) -> KeyId {
        KeyId(KEY.hash(&[self.alg().name().as_bytes(), &[0], &self.to_bytes()]))
    }

    /// Checks a signature of `alg` over `message`.
    pub fn verify(&self, alg: Alg, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        if alg != self.alg() {
            return Err(SignatureError::Algorithm { expected: self.alg(), got: alg });
        }
        let encoding = SignatureError::Encoding(alg);
        match self {
            Self::Ed25519(key) => {
                let signature = ed25519_dalek::Signature::from_slice(signature).map_err(|_| encoding)?;
                key.verify_strict(message, &signature).map_err(|_| SignatureError::Mismatch)
            }
            Self::P256(key) => {
                let signature = p256::ecdsa::Signature::from_slice(signature).map_err(|_| encoding)?;
                if signature.normalize_s() != signature {
                    return Err(SignatureError::HighS);
                }
                key.verify(message, &signature).map_err(|_| SignatureError::Mismatch)
            }
        }
    }

    pub(crate) fn to_value(self) -> Value {
        Value::Object(object([("alg", self.alg().name().into()), ("key", to_hex(&self.to_bytes()).into())]))
    }

    pub(crate) fn from_fields(mut fields: Fields) -> Result<Self, FormatError> {
        let alg = alg_field(&mut fields)?;
        let expected = "a public key of its algorithm, canonically encoded and not weak";
        let path = fields.path("key");
        let key = fields.text("key", 66)?;
        let key = from_hex(&key)
            .and_then(|bytes| Self::from_bytes(alg, &bytes).ok())
            .ok_or(FormatError::Value { path, expected })?;
        fields.finish()?;
        Ok(key)
    }
}

pub(crate) fn alg_field(fields: &mut Fields) -> Result<Alg, FormatError> {
    let path = fields.path("alg");
    Alg::from_name(&fields.text("alg", 16)?).ok_or(FormatError::Value { path, expected: "ed25519 or p256" })
}

impl fmt::Display for PublicKey {
    /// `ed25519:` or `p256:` and the bytes in hexadecimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.alg(), to_hex(&self.to_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (alg, key) = text.split_once(':').ok_or(KeyError::Algorithm)?;
        let alg = Alg::from_name(alg).ok_or(KeyError::Algorithm)?;
        Self::from_bytes(alg, &from_hex(key).ok_or(KeyError::Encoding(alg))?)
    }
}

/// Something that holds a private key: a key in memory, a hardware module, a service.
pub trait Signer {
    /// The public half.
    fn public_key(&self) -> PublicKey;
    /// Its id; for a signer that keeps it at hand.
    fn key_id(&self) -> KeyId {
        self.public_key().id()
    }
    /// The signature over `message`: 64 bytes, in the algorithm's one form.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError>;
}

impl<S: Signer + ?Sized> Signer for &S {
    fn public_key(&self) -> PublicKey {
        (**self).public_key()
    }

    fn key_id(&self) -> KeyId {
        (**self).key_id()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        (**self).sign(message)
    }
}

impl<S: Signer + ?Sized> Signer for std::sync::Arc<S> {
    fn public_key(&self) -> PublicKey {
        (**self).public_key()
    }

    fn key_id(&self) -> KeyId {
        (**self).key_id()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        (**self).sign(message)
    }
}

/// Why a signer gave no signature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The place where the key lives did not answer or refused.
    #[error("the key is not available: {reason}")]
    Unavailable {
        /// What the place said.
        reason: String,
    },
}

/// A private key in memory; overwritten when dropped, never printed.
pub struct SecretKey(Secret);

enum Secret {
    Ed25519(ed25519_dalek::SigningKey),
    P256(p256::ecdsa::SigningKey),
}

impl SecretKey {
    /// The private key of `alg` with these 32 secret bytes, which the caller draws at random. For P-256, about one seed in
    /// 2^32 is not a private key.
    pub fn from_seed(alg: Alg, seed: &[u8; 32]) -> Result<Self, KeyError> {
        match alg {
            Alg::Ed25519 => Ok(Self(Secret::Ed25519(ed25519_dalek::SigningKey::from_bytes(seed)))),
            Alg::P256 => p256::ecdsa::SigningKey::from_slice(seed)
                .map(|key| Self(Secret::P256(key)))
                .map_err(|_| KeyError::Encoding(alg)),
        }
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({})", self.public_key().id())
    }
}

impl Signer for SecretKey {
    fn public_key(&self) -> PublicKey {
        match &self.0 {
            Secret::Ed25519(key) => PublicKey::Ed25519(key.verifying_key()),
            Secret::P256(key) => PublicKey::P256(*key.verifying_key()),
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        Ok(match &self.0 {
            Secret::Ed25519(key) => key.sign(message).to_bytes().to_vec(),
            Secret::P256(key) => {
                let signature: p256::ecdsa::Signature = key.sign(message);
                signature.normalize_s().to_bytes().to_vec()
            }
        })
    }
}

#[cfg(test)]
mod tests;
