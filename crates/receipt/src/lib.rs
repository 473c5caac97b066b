//! What flows through Hallmark: identities, canonical encodings, commitments, claims, receipts and bundles.
//!
//! A **claim** says what was computed; its id is a Merkle root over its fields. **Evidence** binds that id. A **receipt** is a
//! signed in-toto statement about the claim; a **bundle** is the file that carries the receipt with everything that a
//! stranger needs to check it offline. Byte formats are specified in `spec/receipt.md`. This crate is pure: no clock, disk,
//! network, environment or randomness; times, salts and nonces come from the caller. It judges nothing: a parsed
//! bundle is well formed, not true (see `hallmark-verdict`).
//!
//! ```
//! use hallmark_receipt::{Alg, Bundle, Certificate, Model, Nonce, Opening, Purpose, RequestId, Salt, SecretKey};
//! use hallmark_receipt::{Signer, Tensor, Wanted, Work, issue, json, model_id};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // The node: an identity key, kept offline, certifies a receipt key for a while.
//! let identity = SecretKey::from_seed(Alg::Ed25519, &[1; 32])?; // 32 random bytes in earnest
//! let key = SecretKey::from_seed(Alg::Ed25519, &[2; 32])?;
//! let now = 1_795_000_000_000; // milliseconds since 1970
//! let certificate = Certificate {
//!     identity: identity.public_key(),
//!     key: key.public_key(),
//!     purpose: Purpose::Receipt,
//!     not_before: now,
//!     not_after: now + 30 * 86_400_000,
//! }
//! .sign(&identity)?;
//!
//! // A run: inputs and outputs, each with a salt of its own.
//! let manifest = json::object([("name", "doubler".into())]);
//! let bundle = issue(
//!     Work {
//!         network: "local".into(),
//!         request_id: RequestId([3; 16]),
//!         nonce: Nonce([4; 32]),
//!         model: Model::Id(model_id(&manifest)),
//!         inputs: vec![Opening::new("x", Tensor::vector(vec![1.0_f32]), Salt([5; 32]))?],
//!         outputs: vec![Opening::new("y", Tensor::vector(vec![2.0_f32]), Salt([6; 32]))?],
//!         parameters: json::Object::new(),
//!         parents: Vec::new(),
//!         time: now,
//!         price: None,
//!         evidence: Wanted { signature: true, replay: Some(1), environment: None },
//!         manifest: Some(manifest),
//!         graph: None,
//!         publications: Vec::new(),
//!     },
//!     &certificate,
//!     &key,
//! )?;
//! let file = bundle.to_json();
//! assert_eq!(Bundle::parse(file.as_bytes())?, bundle);
//! // A redacted bundle keeps the signatures and loses the data.
//! assert!(bundle.redact().inputs.is_none());
//! # Ok(()) }
//! ```
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

pub mod bundle;
mod canonical;
pub mod certificate;
pub mod check;
pub mod claim;
pub mod commit;
pub mod digest;
pub mod domain;
pub mod dsse;
pub mod environment;
pub mod evidence;
pub mod issue;
pub mod json;
pub mod keys;
pub mod merkle;
pub mod proof;
pub mod publication;
pub mod statement;
pub mod stream;
pub mod tensor;
pub mod time;
pub mod wire;

pub use bundle::{Bundle, model_id};
pub use certificate::{Certificate, CertificateError, Purpose, Revocation, RevocationReason};
pub use claim::{Claim, ClaimField, Model, Nonce, RequestId};
pub use commit::{Opening, OpeningError, Salt};
pub use digest::Digest;
pub use dsse::{Envelope, PayloadType};
pub use environment::Environment;
pub use evidence::{Evidence, EvidenceKind};
pub use issue::{IssueError, Issuer, Wanted, Work, issue};
pub use keys::{Alg, KeyId, PublicKey, SecretKey, SignError, SignatureError, Signer};
pub use proof::Proof;
pub use publication::{Publication, PublicationError};
pub use statement::{Price, Receipt};
pub use tensor::{DType, Data, Element, Tensor, TensorError};
pub use wire::FormatError;
