//! Evidence: why a claim should be believed (`receipt.md` §9). Each piece binds the claim's id; a receipt signs its digest.
//!
//! To add a kind, add one variant to [`Evidence`] and [`EvidenceKind`], and one row to their `match`es.

use std::sync::Arc;

use crate::Digest;
use crate::canonical::{self, Members};
use crate::domain::EVIDENCE;
use crate::dsse::PayloadType;
use crate::environment::Environment;
use crate::json::{Value, object};
use crate::keys::{Alg, KeyId, PublicKey, SignError, SignatureError, Signer, alg_field};
use crate::proof::Proof;
use crate::wire::{Fields, FormatError, to_base64};

/// The kinds of evidence, in the order in which receipts list them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum EvidenceKind {
    /// The word of an identity.
    Signature,
    /// The promise that anyone who re-runs the model gets the same bits.
    Replay,
    /// The word of a key that lives in an attested environment.
    Tee,
    /// A proof that the model made the output from the input.
    Zk,
}

impl EvidenceKind {
    /// Every kind, in order.
    pub const ALL: [Self; 4] = [Self::Signature, Self::Replay, Self::Tee, Self::Zk];

    /// Its name in documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Signature => "signature",
            Self::Replay => "replay",
            Self::Tee => "tee",
            Self::Zk => "zk",
        }
    }

    /// Whether evidence of this kind stands without a signature. Receipts never list it: bundles gain it when it is made and lose
    /// it when they are redacted, for it depends on what was opened.
    pub fn proves_itself(self) -> bool {
        matches!(self, Self::Zk)
    }

    /// The kind of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// One piece of evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Evidence {
    /// The receipt key's signature over the bare claim id, which a contract can check without reading JSON.
    Signature {
        /// The claim that it speaks for.
        claim_id: Digest,
        /// The signature's algorithm.
        alg: Alg,
        /// The key.
        key_id: KeyId,
        /// The signature: 64 bytes.
        signature: Vec<u8>,
    },
    /// The node's word that the outputs follow bit for bit under a version of the numeric specification. It shows nothing until
    /// somebody re-runs.
    Replay {
        /// The claim that it speaks for.
        claim_id: Digest,
        /// The version of `spec/numeric.md`.
        numeric: u32,
    },
    /// The receipt key's signature over the claim id and the environment that the key lives in, whose hardware binds the key.
    Tee {
        /// The claim that it speaks for.
        claim_id: Digest,
        /// What the hardware reports.
        environment: Arc<Environment>,
        /// The signature's algorithm.
        alg: Alg,
        /// The key.
        key_id: KeyId,
        /// The signature: 64 bytes.
        signature: Vec<u8>,
    },
    /// A proof. It needs no signature: its statement holds the claim's id.
    Zk {
        /// The claim that it speaks for.
        claim_id: Digest,
        /// The proof.
        proof: Arc<Proof>,
    },
}

impl Evidence {
    /// A proof for one of its claims.
    ///
    /// # Errors
    /// What is outside the format's bounds; a claim that is not exactly once among the proof's.
    pub fn prove(claim_id: Digest, proof: Arc<Proof>) -> Result<Self, FormatError> {
        proof.check(&claim_id, "proof")?;
        Ok(Self::Zk { claim_id, proof })
    }

    /// Signs a claim's id.
    pub fn sign(claim_id: Digest, signer: &dyn Signer) -> Result<Self, SignError> {
        let signature = signer.sign(&PayloadType::ClaimId.encode(claim_id.as_bytes()))?;
        let (alg, key_id) = (signer.public_key().alg(), signer.key_id());
        Ok(Self::Signature { claim_id, alg, key_id, signature })
    }

    /// Signs a claim's id together with the environment that the signer lives in.
    pub fn attest(
        claim_id: Digest,
        environment: Arc<Environment>,
        signer: &dyn Signer,
    ) -> Result<Self, SignError> {
        let signature = signer.sign(&attested_claim(claim_id, &environment))?;
        let (alg, key_id) = (signer.public_key().alg(), signer.key_id());
        Ok(Self::Tee { claim_id, environment, alg, key_id, signature })
    }

    /// The kind.
    pub fn kind(&self) -> EvidenceKind {
        match self {
            Self::Signature { .. } => EvidenceKind::Signature,
            Self::Replay { .. } => EvidenceKind::Replay,
            Self::Tee { .. } => EvidenceKind::Tee,
            Self::Zk { .. } => EvidenceKind::Zk,
        }
    }

    /// The claim that it speaks for.
    pub fn claim_id(&self) -> Digest {
        match self {
            Self::Signature { claim_id, .. }
            | Self::Replay { claim_id, .. }
            | Self::Tee { claim_id, .. }
            | Self::Zk { claim_id, .. } => *claim_id,
        }
    }

    /// The digest that a receipt signs: `H(EVIDENCE, canonical JSON)`.
    pub fn digest(&self) -> Digest {
        let mut out = String::with_capacity(384);
        canonical::object(&mut out, |members| self.write(members));
        EVIDENCE.hash(&[out.as_bytes()])
    }

    /// For kinds that are signed: whether `key` did it. `None` for others.
    pub fn verify_signature(&self, key: &PublicKey) -> Option<Result<(), SignatureError>> {
        let (message, alg, key_id, signature) = match self {
            Self::Signature { claim_id, alg, key_id, signature } => {
                (PayloadType::ClaimId.encode(claim_id.as_bytes()), alg, key_id, signature)
            }
            Self::Tee { claim_id, environment, alg, key_id, signature } => {
                (attested_claim(*claim_id, environment), alg, key_id, signature)
            }
            Self::Replay { .. } | Self::Zk { .. } => return None,
        };
        if *key_id != key.id() {
            return Some(Err(SignatureError::KeyId { expected: key.id(), got: *key_id }));
        }
        Some(key.verify(*alg, &message, signature))
    }

    /// The members in their canonical order.
    fn write(&self, members: &mut Members<'_>) {
        match self {
            Self::Signature { claim_id, alg, key_id, signature } => {
                members.text("alg", alg.name());
                members.hex("claim_id", claim_id.as_bytes());
                members.hex("keyid", key_id.0.as_bytes());
                members.text("kind", self.kind().name());
                members.base64("sig", signature);
            }
            Self::Replay { claim_id, numeric } => {
                members.hex("claim_id", claim_id.as_bytes());
                members.text("kind", self.kind().name());
                members.plain("numeric", numeric);
            }
            Self::Tee { claim_id, environment, alg, key_id, signature } => {
                members.text("alg", alg.name());
                members.hex("claim_id", claim_id.as_bytes());
                members.object("environment", |members| environment.write(members));
                members.hex("keyid", key_id.0.as_bytes());
                members.text("kind", self.kind().name());
                members.base64("sig", signature);
            }
            Self::Zk { claim_id, proof } => proof.write(claim_id, self.kind().name(), members),
        }
    }

    pub(crate) fn to_value(&self) -> Value {
        let mut members =
            object([("claim_id", self.claim_id().to_string().into()), ("kind", self.kind().name().into())]);
        if let Self::Tee { environment, .. } = self {
            members.insert("environment".to_owned(), environment.to_value());
        }
        match self {
            Self::Signature { alg, key_id, signature, .. } | Self::Tee { alg, key_id, signature, .. } => {
                members.extend(object([
                    ("alg", alg.name().into()),
                    ("keyid", key_id.to_string().into()),
                    ("sig", to_base64(signature).into()),
                ]));
            }
            Self::Replay { numeric, .. } => {
                members.extend(object([("numeric", Value::Int((*numeric).into()))]));
            }
            Self::Zk { proof, .. } => members.extend(proof.members()),
        }
        Value::Object(members)
    }

    pub(crate) fn from_value(value: Value, path: &str) -> Result<Self, FormatError> {
        let mut fields = Fields::new(value, path)?;
        let kind = kind_field(&mut fields)?;
        let claim_id = fields.digest("claim_id")?;
        let evidence = match kind {
            EvidenceKind::Signature => Self::Signature {
                claim_id,
                alg: alg_field(&mut fields)?,
                key_id: KeyId(fields.digest("keyid")?),
                signature: fields.base64("sig", 64)?,
            },
            EvidenceKind::Replay => {
                let numeric = fields.integer("numeric")?;
                let path = fields.path("numeric");
                let numeric = u32::try_from(numeric)
                    .map_err(|_| FormatError::Value { path, expected: "a version below 2^32" })?;
                Self::Replay { claim_id, numeric }
            }
            EvidenceKind::Tee => Self::Tee {
                claim_id,
                environment: Arc::new(Environment::from_value(
                    fields.value("environment")?,
                    &fields.path("environment"),
                )?),
                alg: alg_field(&mut fields)?,
                key_id: KeyId(fields.digest("keyid")?),
                signature: fields.base64("sig", 64)?,
            },
            EvidenceKind::Zk => {
                Self::Zk { claim_id, proof: Arc::new(Proof::take(&mut fields, &claim_id, path)?) }
            }
        };
        fields.finish()?;
        Ok(evidence)
    }
}

/// `receipt.md` §9: what the evidence `tee` signs.
fn attested_claim(claim_id: Digest, environment: &Environment) -> Vec<u8> {
    let digest = environment.digest();
    PayloadType::AttestedClaim.encode(&[*claim_id.as_bytes(), *digest.as_bytes()].concat())
}

pub(crate) fn kind_field(fields: &mut Fields) -> Result<EvidenceKind, FormatError> {
    let path = fields.path("kind");
    EvidenceKind::from_name(&fields.text("kind", 32)?)
        .ok_or(FormatError::Value { path, expected: "a known kind of evidence" })
}
