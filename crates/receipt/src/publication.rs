//! Publications: a publisher's signed word that a model id is theirs (`receipt.md` §11).

use crate::Digest;
use crate::dsse::{Envelope, PayloadType};
use crate::json::{Value, object};
use crate::keys::{PublicKey, SignError, SignatureError, Signer};
use crate::statement::STATEMENT_TYPE;
use crate::wire::{Fields, FormatError};

/// `predicateType` of a publication.
pub const PUBLICATION_TYPE: &str = "https://hallmark.network/publication/v1";

/// A publisher's word about a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The model: SHA-256 of its manifest.
    pub model: Digest,
    /// The publisher's key.
    pub key: PublicKey,
    /// The publisher's name for itself: no more than a label.
    pub publisher: String,
}

/// Why a publication is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublicationError {
    /// Not of the format.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// Not signed by the key that it names.
    #[error("not signed by the key that it names: {0}")]
    Signature(#[from] SignatureError),
    /// The key could not sign.
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl Publication {
    /// Signs a publication of `model` under the signer's key.
    pub fn sign(model: Digest, publisher: &str, signer: &dyn Signer) -> Result<Envelope, PublicationError> {
        let subject = object([
            ("digest", Value::Object(object([("sha256", model.to_string().into())]))),
            ("name", "manifest".into()),
        ]);
        let predicate = object([("key", signer.public_key().to_value()), ("publisher", publisher.into())]);
        let statement = Value::Object(object([
            ("_type", STATEMENT_TYPE.into()),
            ("predicate", Value::Object(predicate)),
            ("predicateType", PUBLICATION_TYPE.into()),
            ("subject", Value::Array(vec![Value::Object(subject)])),
        ]));
        let payload = statement.canonical().into_bytes();
        Self::parse(&payload)?;
        Ok(Envelope::sign(PayloadType::Statement, payload, signer)?)
    }

    /// Reads a publication and checks that the key which it names signed it. Says nothing about whose key that is.
    pub fn verify(envelope: &Envelope) -> Result<Self, PublicationError> {
        let publication = Self::parse(&envelope.payload)?;
        envelope.verify(&publication.key)?;
        Ok(publication)
    }

    fn parse(payload: &[u8]) -> Result<Self, FormatError> {
        let mut fields = Fields::signed(payload, "publication", 4096)?;
        fields.constant("_type", STATEMENT_TYPE)?;
        fields.constant("predicateType", PUBLICATION_TYPE)?;
        let subject_path = fields.path("subject");
        let (path, subject) = fields
            .array("subject", 1)?
            .pop()
            .ok_or(FormatError::Value { path: subject_path, expected: "exactly one subject" })?;
        let mut subject = Fields::new(subject, &path)?;
        subject.constant("name", "manifest")?;
        let mut digest = subject.fields("digest")?;
        let model = digest.digest("sha256")?;
        digest.finish()?;
        subject.finish()?;
        let mut predicate = fields.fields("predicate")?;
        fields.finish()?;
        let key = PublicKey::from_fields(predicate.fields("key")?)?;
        let publisher = crate::claim::name(&mut predicate, "publisher")?;
        predicate.finish()?;
        Ok(Self { model, key, publisher })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{Alg, SecretKey};

    #[test]
    fn publications_round_trip_and_bind_their_key() {
        let key = SecretKey::from_seed(Alg::P256, &[5; 32]).unwrap();
        let envelope = Publication::sign(Digest([1; 32]), "acme-models", &key).unwrap();
        let publication = Publication::verify(&envelope).unwrap();
        assert_eq!((publication.model, publication.key), (Digest([1; 32]), key.public_key()));
        let other = SecretKey::from_seed(Alg::P256, &[6; 32]).unwrap();
        let forged = Envelope::sign(PayloadType::Statement, envelope.payload, &other).unwrap();
        assert!(matches!(Publication::verify(&forged), Err(PublicationError::Signature(_))));
        assert!(Publication::sign(Digest([1; 32]), "a\nb", &key).is_err());
    }
}
