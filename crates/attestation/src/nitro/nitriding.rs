//! The user data of enclaves behind nitriding, a common proxy: which TLS certificate and which signing key live in the enclave.

use hallmark_receipt::Digest;

/// A multihash's code and length: SHA-256, 32 bytes.
const SHA256: [u8; 2] = [0x12, 0x20];

/// Two SHA-256 digests, 68 bytes: `12 20 || certificate || 12 20 || key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoundKeys {
    /// Of the TLS certificate, DER.
    pub tls_certificate: Digest,
    /// Of the signing key's `SubjectPublicKeyInfo`, DER.
    pub signing_key: Digest,
}

impl BoundKeys {
    /// Reads user data of this form.
    pub fn parse(user_data: &[u8]) -> Option<Self> {
        let user_data: &[u8; 68] = user_data.try_into().ok()?;
        let (certificate, key) = user_data.split_at(34);
        let digest = |part: &[u8]| part.strip_prefix(&SHA256)?.try_into().ok().map(Digest);
        Some(Self { tls_certificate: digest(certificate)?, signing_key: digest(key)? })
    }

    /// The user data that binds them.
    pub fn to_bytes(self) -> Vec<u8> {
        [&SHA256[..], self.tls_certificate.as_bytes(), &SHA256, self.signing_key.as_bytes()].concat()
    }
}
