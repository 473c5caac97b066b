//! Envelopes: DSSE v1.0 with exactly one signature and an explicit algorithm (`receipt.md` §6).

use crate::json::{Value, object};
use crate::keys::{Alg, KeyId, PublicKey, SignError, SignatureError, Signer, alg_field};
use crate::wire::{Fields, FormatError, to_base64};

/// The most bytes of a signed document.
pub const MAX_PAYLOAD: usize = 1 << 20;

/// What a signed document is. Each has its own media type, so that a signature for one is none for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PayloadType {
    /// An in-toto statement: a receipt, or a publisher's word about a model.
    Statement,
    /// An identity certifies a key.
    Certificate,
    /// An identity revokes a key.
    Revocation,
    /// A bare claim id: the evidence `signature`.
    ClaimId,
    /// The state of a signed stream after an event (`stream.md` §4).
    StreamEvent,
    /// The state of a signed stream after its last event, and the claim that it led to.
    StreamSeal,
    /// A claim, signed by a key that hardware attests: the evidence `tee` (`receipt.md` §9.1).
    AttestedClaim,
    /// A TLS session, signed by a key that hardware attests (`attestation.md` §10.2).
    Session,
}

impl PayloadType {
    /// Every type.
    pub const ALL: [Self; 8] = [
        Self::Statement,
        Self::Certificate,
        Self::Revocation,
        Self::ClaimId,
        Self::StreamEvent,
        Self::StreamSeal,
        Self::AttestedClaim,
        Self::Session,
    ];

    /// The media type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Statement => "application/vnd.in-toto+json",
            Self::Certificate => "application/vnd.hallmark.certificate+json",
            Self::Revocation => "application/vnd.hallmark.revocation+json",
            Self::ClaimId => "application/vnd.hallmark.claim-id",
            Self::StreamEvent => "application/vnd.hallmark.stream-event",
            Self::StreamSeal => "application/vnd.hallmark.stream-seal",
            Self::AttestedClaim => "application/vnd.hallmark.attested-claim",
            Self::Session => "application/vnd.hallmark.session",
        }
    }

    /// DSSE's pre-authentication encoding of `payload`: the bytes that are signed.
    pub fn encode(self, payload: &[u8]) -> Vec<u8> {
        let name = self.name();
        let mut out = format!("DSSEv1 {} {name} {} ", name.len(), payload.len()).into_bytes();
        out.extend_from_slice(payload);
        out
    }
}

/// A signed document. Nothing in it is believed before [`Envelope::verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// What the document is.
    pub payload_type: PayloadType,
    /// The document.
    pub payload: Vec<u8>,
    /// The algorithm that the signature names.
    pub alg: Alg,
    /// The key that the signature names.
    pub key_id: KeyId,
    /// The signature: 64 bytes.
    pub signature: Vec<u8>,
}

impl Envelope {
    /// Signs `payload`.
    pub fn sign(payload_type: PayloadType, payload: Vec<u8>, signer: &dyn Signer) -> Result<Self, SignError> {
        let signature = signer.sign(&payload_type.encode(&payload))?;
        let (alg, key_id) = (signer.public_key().alg(), signer.key_id());
        Ok(Self { payload_type, payload, alg, key_id, signature })
    }

    /// Checks that `key` signed the document, and that the envelope says so.
    pub fn verify(&self, key: &PublicKey) -> Result<(), SignatureError> {
        if self.key_id != key.id() {
            return Err(SignatureError::KeyId { expected: key.id(), got: self.key_id });
        }
        key.verify(self.alg, &self.payload_type.encode(&self.payload), &self.signature)
    }

    /// The envelope as JSON.
    pub fn to_value(&self) -> Value {
        let signature = object([
            ("alg", self.alg.name().into()),
            ("keyid", self.key_id.to_string().into()),
            ("sig", to_base64(&self.signature).into()),
        ]);
        Value::Object(object([
            ("payload", to_base64(&self.payload).into()),
            ("payloadType", self.payload_type.name().into()),
            ("signatures", Value::Array(vec![Value::Object(signature)])),
        ]))
    }

    /// Reads an envelope whose document must be a `payload_type`.
    pub fn from_value(value: Value, path: &str, payload_type: PayloadType) -> Result<Self, FormatError> {
        let mut fields = Fields::new(value, path)?;
        fields.constant("payloadType", payload_type.name())?;
        let payload = fields.base64("payload", MAX_PAYLOAD)?;
        let signatures_path = fields.path("signatures");
        let mut signatures = fields.array("signatures", 1)?;
        let (path, signature) = signatures
            .pop()
            .ok_or(FormatError::Value { path: signatures_path, expected: "exactly one signature" })?;
        let mut signature = Fields::new(signature, &path)?;
        let alg = alg_field(&mut signature)?;
        let key_id = KeyId(signature.digest("keyid")?);
        let bytes = signature.base64("sig", 64)?;
        signature.finish()?;
        fields.finish()?;
        Ok(Self { payload_type, payload, alg, key_id, signature: bytes })
    }

    /// Reads an envelope that stands in a file of its own.
    pub fn parse(bytes: &[u8], payload_type: PayloadType) -> Result<Self, FormatError> {
        let value = Value::parse(bytes, MAX_PAYLOAD.saturating_mul(2))
            .map_err(|source| FormatError::Json { path: "envelope".to_owned(), source })?;
        Self::from_value(value, "envelope", payload_type)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::SecretKey;

    #[test]
    fn encoding_is_dsse() {
        assert_eq!(
            PayloadType::Statement.encode(b"hello world"),
            b"DSSEv1 28 application/vnd.in-toto+json 11 hello world"
        );
    }

    #[test]
    fn types_are_distinct_and_signatures_do_not_cross_them() {
        let key = SecretKey::from_seed(Alg::Ed25519, &[1; 32]).unwrap();
        for (i, a) in PayloadType::ALL.into_iter().enumerate() {
            let envelope = Envelope::sign(a, b"{}".to_vec(), &key).unwrap();
            assert_eq!(envelope.verify(&key.public_key()), Ok(()));
            assert_eq!(Envelope::from_value(envelope.to_value(), "e", a), Ok(envelope.clone()));
            for b in PayloadType::ALL.into_iter().skip(i + 1) {
                assert_ne!(a.name(), b.name());
                let crossed = Envelope { payload_type: b, ..envelope.clone() };
                assert_eq!(crossed.verify(&key.public_key()), Err(SignatureError::Mismatch));
            }
        }
    }
}
