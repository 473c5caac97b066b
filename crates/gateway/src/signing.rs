//! Ed25519 at native speed behind `receipt`'s seam; the signatures are those of RFC 8032, bit for bit.

use std::sync::Arc;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use hallmark_receipt::{Alg, KeyId, PublicKey, SignError, Signer};

/// A signing key that threads share.
pub type Key = Arc<dyn Signer + Send + Sync>;

/// An Ed25519 key in memory.
pub struct NativeKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
    id: KeyId,
}

impl std::fmt::Debug for NativeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NativeKey({})", self.id)
    }
}

impl NativeKey {
    /// The key of these 32 secret random bytes.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, SignError> {
        let refused = || SignError::Unavailable { reason: "the library refuses the seed".to_owned() };
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| refused())?;
        let public =
            PublicKey::from_bytes(Alg::Ed25519, pair.public_key().as_ref()).map_err(|_| refused())?;
        Ok(Self { pair, public, id: public.id() })
    }
}

impl Signer for NativeKey {
    fn public_key(&self) -> PublicKey {
        self.public
    }

    fn key_id(&self) -> KeyId {
        self.id
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        Ok(self.pair.sign(message).as_ref().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_signs_as_the_portable_key_does() {
        let portable = hallmark_receipt::SecretKey::from_seed(Alg::Ed25519, &[7; 32]).unwrap();
        let native = NativeKey::from_seed(&[7; 32]).unwrap();
        assert_eq!(native.public_key(), portable.public_key());
        assert_eq!(native.sign(b"x"), portable.sign(b"x"));
    }
}
