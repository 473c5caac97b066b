//! From a finished run to a bundle.

use std::sync::Arc;

use crate::Digest;
use crate::bundle::{Bundle, MAX_ENVELOPES, MAX_GRAPH, model_id};
use crate::certificate::{Certificate, CertificateError, Purpose};
use crate::claim::{Claim, Model, Nonce, RequestId};
use crate::commit::{MAX_TENSORS, Opening, commitment};
use crate::domain::{INPUTS, OUTPUTS};
use crate::dsse::{Envelope, PayloadType};
use crate::environment::Environment;
use crate::evidence::Evidence;
use crate::json::Object;
use crate::keys::{KeyId, SignError, Signer};
use crate::statement::{Price, Receipt};
use crate::wire::FormatError;

/// A finished run, with everything that its receipt will say.
#[derive(Clone, Debug)]
pub struct Work {
    /// The network that the receipt is for.
    pub network: String,
    /// The request's id: 16 random bytes.
    pub request_id: RequestId,
    /// The request's nonce: 32 random bytes, the requester's where it sent one.
    pub nonce: Nonce,
    /// The model.
    pub model: Model,
    /// Inputs with their salts, in the model's order.
    pub inputs: Vec<Opening>,
    /// Outputs with their salts, in the model's order.
    pub outputs: Vec<Opening>,
    /// How the model was run, beyond its inputs; empty for a plain run.
    pub parameters: Object,
    /// Ids of the claims whose outputs went into this one.
    pub parents: Vec<Digest>,
    /// When: milliseconds since 1970.
    pub time: u64,
    /// What the answer costs.
    pub price: Option<Price>,
    /// Which evidence to put in.
    pub evidence: Wanted,
    /// The model's manifest; needed unless the model is only named.
    pub manifest: Option<Object>,
    /// The model's graph without its weights, if it should travel along.
    pub graph: Option<Vec<u8>>,
    /// What publishers say about the model, in any order; the bundle holds them in the order of their keys' ids.
    pub publications: Vec<Envelope>,
}

/// Which evidence a receipt should carry; at least one piece.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Sign the claim's id.
    pub signature: bool,
    /// Promise that the outputs follow bit for bit under this version of `spec/numeric.md`.
    pub replay: Option<u32>,
    /// Show the environment that the receipt key lives in. Its hardware must bind the key: nothing here looks.
    pub environment: Option<Arc<Environment>>,
}

/// Why no receipt was issued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The certificate does not hold.
    #[error("the receipt key's certificate does not hold: {0}")]
    Certificate(#[from] CertificateError),
    /// The certificate is for another key.
    #[error("the certificate is for key {expected}, the signer has {got}")]
    OtherKey {
        /// The certified key.
        expected: KeyId,
        /// The signer's key.
        got: KeyId,
    },
    /// The certificate is for another purpose.
    #[error("the certificate is for `{}`, not for receipts", got.name())]
    Purpose {
        /// The certified purpose.
        got: Purpose,
    },
    /// The certificate is not in force.
    #[error("the certificate is valid from {not_before} to {not_after}, not at {time}")]
    Validity {
        /// First millisecond.
        not_before: u64,
        /// Last millisecond.
        not_after: u64,
        /// The run's time.
        time: u64,
    },
    /// No kind of evidence was asked for.
    #[error("a receipt needs at least one kind of evidence")]
    NoEvidence,
    /// The manifest is missing, or not the model's.
    #[error("the manifest has id {got:?}, the model is {expected:?}")]
    Manifest {
        /// The model.
        expected: Model,
        /// The id of the manifest given.
        got: Option<Digest>,
    },
    /// Too many tensors, or two of one name.
    #[error("{what} must be at most {MAX_TENSORS} tensors, each name once")]
    Tensors {
        /// `inputs` or `outputs`.
        what: &'static str,
    },
    /// Something is outside the format's bounds.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The key could not sign.
    #[error(transparent)]
    Sign(#[from] SignError),
}

/// A receipt key with its certificate, checked once, for whoever issues many receipts.
#[derive(Debug)]
pub struct Issuer<S> {
    envelope: Envelope,
    certificate: Certificate,
    node: KeyId,
    key: KeyId,
    signer: S,
}

/// Issues a receipt for `work`, signed by `signer`, whose key `certificate` certifies for receipts.
pub fn issue(work: Work, certificate: &Envelope, signer: &dyn Signer) -> Result<Bundle, IssueError> {
    Issuer::new(certificate.clone(), signer)?.issue(work)
}

impl<S: Signer> Issuer<S> {
    /// Pairs `signer` with the certificate of its key for receipts.
    pub fn new(envelope: Envelope, signer: S) -> Result<Self, IssueError> {
        let certificate = verify_certificate(&envelope, &signer)?;
        let (node, key) = (certificate.identity.id(), certificate.key.id());
        Ok(Self { envelope, certificate, node, key, signer })
    }

    /// The certificate, in force or not.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The signed certificate.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// The receipt key.
    pub fn signer(&self) -> &S {
        &self.signer
    }

    /// Issues a receipt for `work`.
    pub fn issue(&self, work: Work) -> Result<Bundle, IssueError> {
        if !self.certificate.is_valid_at(work.time) {
            let Certificate { not_before, not_after, .. } = self.certificate;
            return Err(IssueError::Validity { not_before, not_after, time: work.time });
        }
        let expected = match &work.model {
            Model::Id(id) => Some(*id),
            Model::Claimed { .. } => None,
        };
        let got = work.manifest.as_ref().map(model_id);
        if got != expected {
            return Err(IssueError::Manifest { expected: work.model, got });
        }
        verify_names(&work.inputs, "inputs")?;
        verify_names(&work.outputs, "outputs")?;
        verify_bounds(&work)?;
        let claim = Claim {
            network: work.network,
            node: self.node,
            request_id: work.request_id,
            nonce: work.nonce,
            model: work.model,
            inputs: commitment(INPUTS, &work.inputs),
            outputs: commitment(OUTPUTS, &work.outputs),
            parameters: work.parameters,
            parents: work.parents,
        };
        let claim_id = claim.id();
        let mut evidence = Vec::new();
        if work.evidence.signature {
            evidence.push(Evidence::sign(claim_id, &self.signer)?);
        }
        if let Some(numeric) = work.evidence.replay {
            evidence.push(Evidence::Replay { claim_id, numeric });
        }
        if let Some(environment) = work.evidence.environment {
            environment.check("environment")?;
            evidence.push(Evidence::attest(claim_id, environment, &self.signer)?);
        }
        if evidence.is_empty() {
            return Err(IssueError::NoEvidence);
        }
        let receipt = Receipt {
            subject: claim.outputs,
            claim,
            claim_id,
            time: work.time,
            signer: self.key,
            evidence: evidence.iter().map(|item| (item.kind(), item.digest())).collect(),
            graph: work.graph.is_some(),
            price: work.price,
        };
        // What the format would refuse is not signed.
        receipt.check()?;
        let payload = receipt.to_payload();
        let mut publications = work.publications;
        publications.sort_by_key(|envelope| envelope.key_id);
        Ok(Bundle {
            envelope: Envelope::sign(PayloadType::Statement, payload, &self.signer)?,
            certificates: vec![self.envelope.clone()],
            inputs: Some(work.inputs),
            outputs: Some(work.outputs),
            evidence,
            manifest: work.manifest,
            graph: work.graph,
            publications,
        })
    }
}

fn verify_certificate(certificate: &Envelope, signer: &dyn Signer) -> Result<Certificate, IssueError> {
    let certificate = Certificate::verify(certificate)?;
    let (expected, got) = (certificate.key.id(), signer.public_key().id());
    if expected != got {
        return Err(IssueError::OtherKey { expected, got });
    }
    if certificate.purpose != Purpose::Receipt {
        return Err(IssueError::Purpose { got: certificate.purpose });
    }
    Ok(certificate)
}

fn verify_names(openings: &[Opening], what: &'static str) -> Result<(), IssueError> {
    let names: std::collections::BTreeSet<&str> = openings.iter().map(Opening::name).collect();
    if openings.len() > MAX_TENSORS || names.len() != openings.len() {
        return Err(IssueError::Tensors { what });
    }
    Ok(())
}

fn verify_bounds(work: &Work) -> Result<(), FormatError> {
    let too_long = |path: &str, limit, got| FormatError::TooLong { path: path.to_owned(), limit, got };
    if let Some(graph) = work.graph.as_ref().filter(|graph| graph.len() > MAX_GRAPH) {
        return Err(too_long("graph", MAX_GRAPH, graph.len()));
    }
    if work.publications.len() > MAX_ENVELOPES {
        return Err(too_long("publications", MAX_ENVELOPES, work.publications.len()));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
