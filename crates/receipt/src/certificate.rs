//! Certificates and revocations: what an identity key says about the keys that work for it (`receipt.md` §7).

use crate::dsse::{Envelope, PayloadType};
use crate::json::{Value, object};
use crate::keys::{KeyId, PublicKey, SignError, SignatureError, Signer};
use crate::wire::{Fields, FormatError};

/// `_type` of a certificate.
pub const CERTIFICATE_TYPE: &str = "https://hallmark.network/certificate/v1";
/// `_type` of a revocation.
pub const REVOCATION_TYPE: &str = "https://hallmark.network/revocation/v1";
const MAX_STATEMENT: usize = 4096;

/// The one thing that a certified key may sign or do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Purpose {
    /// Sign receipts.
    Receipt,
    /// Sign the events of streams.
    Stream,
    /// Sign OpenGradient's TEE hashes.
    OpenGradientRsa,
    /// End TLS.
    Tls,
    /// Receive confidential requests.
    Hpke,
}

impl Purpose {
    /// Every purpose.
    pub const ALL: [Self; 5] = [Self::Receipt, Self::Stream, Self::OpenGradientRsa, Self::Tls, Self::Hpke];

    /// Its name in documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Receipt => "receipt",
            Self::Stream => "stream",
            Self::OpenGradientRsa => "opengradient-rsa",
            Self::Tls => "tls",
            Self::Hpke => "hpke",
        }
    }

    /// The purpose of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.name() == name)
    }
}

/// An identity's word that a key works for it, for one purpose, from `not_before` to `not_after` (both included, in
/// milliseconds since 1970).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The identity key. Its id is the node.
    pub identity: PublicKey,
    /// The certified key.
    pub key: PublicKey,
    /// What the key may do.
    pub purpose: Purpose,
    /// First millisecond of validity.
    pub not_before: u64,
    /// Last millisecond of validity.
    pub not_after: u64,
}

/// Why a certificate or revocation is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// Not of the format.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// Not signed by the identity that it names.
    #[error("not signed by the identity that it names: {0}")]
    Signature(#[from] SignatureError),
    /// The signer is another key than the identity in the document.
    #[error("signed by {got}, but the document names identity {expected}")]
    Signer {
        /// The identity in the document.
        expected: KeyId,
        /// The key at hand.
        got: KeyId,
    },
    /// The key could not sign.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// A time beyond 2^53 - 1, or an empty validity.
    #[error("validity from {not_before} to {not_after} is empty or out of range")]
    Validity {
        /// First millisecond.
        not_before: u64,
        /// Last millisecond.
        not_after: u64,
    },
}

impl Certificate {
    /// Signs the certificate with the identity key.
    pub fn sign(&self, identity: &dyn Signer) -> Result<Envelope, CertificateError> {
        same_identity(&self.identity, identity)?;
        let validity = CertificateError::Validity { not_before: self.not_before, not_after: self.not_after };
        let (Some(not_before), Some(not_after), true) =
            (Value::int(self.not_before), Value::int(self.not_after), self.not_before <= self.not_after)
        else {
            return Err(validity);
        };
        let statement = Value::Object(object([
            ("_type", CERTIFICATE_TYPE.into()),
            ("identity", self.identity.to_value()),
            ("key", self.key.to_value()),
            ("not_after", not_after),
            ("not_before", not_before),
            ("purpose", self.purpose.name().into()),
        ]));
        Ok(Envelope::sign(PayloadType::Certificate, statement.canonical().into_bytes(), identity)?)
    }

    /// Reads a certificate and checks that the identity which it names signed it. Says nothing about who that identity is.
    pub fn verify(envelope: &Envelope) -> Result<Self, CertificateError> {
        let mut fields = Fields::signed(&envelope.payload, "certificate", MAX_STATEMENT)?;
        fields.constant("_type", CERTIFICATE_TYPE)?;
        let identity = PublicKey::from_fields(fields.fields("identity")?)?;
        let key = PublicKey::from_fields(fields.fields("key")?)?;
        let path = fields.path("purpose");
        let purpose = Purpose::from_name(&fields.text("purpose", 32)?)
            .ok_or(FormatError::Value { path, expected: "one purpose" })?;
        let not_before = fields.integer("not_before")?;
        let not_after = fields.integer("not_after")?;
        fields.finish()?;
        if not_before > not_after {
            return Err(CertificateError::Validity { not_before, not_after });
        }
        envelope.verify(&identity)?;
        Ok(Self { identity, key, purpose, not_before, not_after })
    }

    /// Whether `time` (milliseconds since 1970) is within the validity.
    pub fn is_valid_at(&self, time: u64) -> bool {
        (self.not_before..=self.not_after).contains(&time)
    }
}

/// Why a key was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum RevocationReason {
    /// Somebody else may have the key: nothing that it signed counts, whenever it claims to be from.
    Compromised,
    /// The key was replaced: what it signed before the revocation's time still counts.
    Retired,
}

impl RevocationReason {
    /// Its name in documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Compromised => "compromised",
            Self::Retired => "retired",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Compromised, Self::Retired].into_iter().find(|reason| reason.name() == name)
    }
}

/// An identity's word that a key of its own (or itself) no longer works for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// The identity key.
    pub identity: PublicKey,
    /// The revoked key.
    pub key: KeyId,
    /// Why.
    pub reason: RevocationReason,
    /// From when on, in milliseconds since 1970.
    pub time: u64,
}

impl Revocation {
    /// Signs the revocation with the identity key.
    pub fn sign(&self, identity: &dyn Signer) -> Result<Envelope, CertificateError> {
        same_identity(&self.identity, identity)?;
        let time = Value::int(self.time)
            .ok_or(CertificateError::Validity { not_before: self.time, not_after: self.time })?;
        let statement = Value::Object(object([
            ("_type", REVOCATION_TYPE.into()),
            ("identity", self.identity.to_value()),
            ("key", self.key.to_string().into()),
            ("reason", self.reason.name().into()),
            ("time", time),
        ]));
        Ok(Envelope::sign(PayloadType::Revocation, statement.canonical().into_bytes(), identity)?)
    }

    /// Reads a revocation and checks that the identity which it names signed it.
    pub fn verify(envelope: &Envelope) -> Result<Self, CertificateError> {
        let mut fields = Fields::signed(&envelope.payload, "revocation", MAX_STATEMENT)?;
        fields.constant("_type", REVOCATION_TYPE)?;
        let identity = PublicKey::from_fields(fields.fields("identity")?)?;
        let key = KeyId(fields.digest("key")?);
        let path = fields.path("reason");
        let reason = RevocationReason::from_name(&fields.text("reason", 32)?)
            .ok_or(FormatError::Value { path, expected: "compromised or retired" })?;
        let time = fields.integer("time")?;
        fields.finish()?;
        envelope.verify(&identity)?;
        Ok(Self { identity, key, reason, time })
    }

    /// Whether this revocation takes `certificate` (or its identity) out of force at `time`.
    pub fn applies(&self, certificate: &Certificate, time: u64) -> bool {
        let named = self.key == certificate.key.id() || self.key == certificate.identity.id();
        let when = self.reason == RevocationReason::Compromised || time >= self.time;
        self.identity == certificate.identity && named && when
    }
}

fn same_identity(expected: &PublicKey, signer: &dyn Signer) -> Result<(), CertificateError> {
    let got = signer.public_key();
    if got == *expected {
        Ok(())
    } else {
        Err(CertificateError::Signer { expected: expected.id(), got: got.id() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{Alg, SecretKey};

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_seed(Alg::Ed25519, &[seed; 32]).unwrap()
    }

    fn certificate() -> Certificate {
        Certificate {
            identity: key(1).public_key(),
            key: key(2).public_key(),
            purpose: Purpose::Receipt,
            not_before: 10,
            not_after: 20,
        }
    }

    #[test]
    fn certificates_round_trip_and_bind_their_signer() {
        let envelope = certificate().sign(&key(1)).unwrap();
        assert_eq!(Certificate::verify(&envelope), Ok(certificate()));
        assert!(matches!(certificate().sign(&key(3)), Err(CertificateError::Signer { .. })));
        // The same statement under another key.
        let forged = Envelope::sign(PayloadType::Certificate, envelope.payload.clone(), &key(3)).unwrap();
        assert!(matches!(
            Certificate::verify(&forged),
            Err(CertificateError::Signature(SignatureError::KeyId { .. }))
        ));
        let spaced = [b" ".as_slice(), &envelope.payload].concat();
        let spaced = Envelope::sign(PayloadType::Certificate, spaced, &key(1)).unwrap();
        assert!(matches!(
            Certificate::verify(&spaced),
            Err(CertificateError::Format(FormatError::NotCanonical { .. }))
        ));
        assert_eq!([9, 10, 20, 21].map(|t| certificate().is_valid_at(t)), [false, true, true, false]);
        let empty = Certificate { not_before: 21, ..certificate() };
        assert!(matches!(empty.sign(&key(1)), Err(CertificateError::Validity { .. })));
    }

    #[test]
    fn revocations_apply_by_reason_and_time() {
        let mut revocation = Revocation {
            identity: key(1).public_key(),
            key: key(2).public_key().id(),
            reason: RevocationReason::Retired,
            time: 15,
        };
        let envelope = revocation.sign(&key(1)).unwrap();
        assert_eq!(Revocation::verify(&envelope), Ok(revocation.clone()));
        assert_eq!([14, 15].map(|t| revocation.applies(&certificate(), t)), [false, true]);
        revocation.reason = RevocationReason::Compromised;
        assert!(revocation.applies(&certificate(), 14));
        revocation.identity = key(3).public_key();
        assert!(!revocation.applies(&certificate(), 14), "another identity's word");
    }
}
