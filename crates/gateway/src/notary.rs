//! From an answer to its receipt, and from a node's keys to the keys that sign streams.

use std::sync::{Arc, PoisonError, RwLock};

use hallmark_environment::Attester;
use hallmark_receipt::{
    Certificate, Digest, Envelope, IssueError, Issuer, KeyId, Model, Nonce, Opening, Purpose, RequestId,
    Salt, SignError, Signer as _, Tensor, Wanted, Work, stream,
};

use crate::backend::{ModelCard, Replay};
use crate::chat::{Completed, Usage};
use crate::error::ApiError;
use crate::host::{Host, NoRandomness};
use crate::signing::{Key, NativeKey};
use crate::store::{Capability, Filed, ReceiptStore, StoreError};

/// The name of the answer's tensor among a claim's outputs.
pub const RESPONSE: &str = "response";
/// How long a stream key signs: a quarter of its certificate's day.
const SESSION: u64 = 6 * 3_600_000;
const SESSION_VALIDITY: u64 = 24 * 3_600_000;
/// Verifiers' clocks may be behind ours.
const SKEW: u64 = 300_000;

/// Why there is no receipt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotaryError {
    /// No random bytes.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// Not issued.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// A tensor that cannot be committed to.
    #[error(transparent)]
    Opening(#[from] hallmark_receipt::OpeningError),
    /// The session key could not be certified.
    #[error(transparent)]
    Certificate(#[from] hallmark_receipt::CertificateError),
    /// Not signed.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// Not kept.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<NotaryError> for ApiError {
    fn from(error: NotaryError) -> Self {
        // The cause is the operator's business; it holds no part of the request.
        tracing::error!(%error, "no receipt");
        Self::Receipt
    }
}

/// A key that signs the events of streams, with what shows whose it is.
#[derive(Debug)]
pub struct Session {
    key: NativeKey,
    envelope: Envelope,
    renew_at: u64,
}

/// Issues receipts and certifies session keys. One for each node.
pub struct Notary {
    issuer: Issuer<Key>,
    network: String,
    host: Arc<dyn Host>,
    store: Arc<dyn ReceiptStore>,
    /// Where the receipt key lives, if hardware vouches for that.
    attester: Option<Arc<Attester>>,
    /// Replaced when its time is over; nothing else writes.
    session: RwLock<Arc<Session>>,
}

/// A request that will get a receipt.
pub struct Ticket {
    request: Opening,
    request_salt: Salt,
    chain_salt: Salt,
    response_salt: Salt,
    drawn: [u8; 32],
    marks: Marks,
}

/// What makes a claim unlike any other, and who may open it.
struct Marks {
    request_id: RequestId,
    nonce: Nonce,
    capability: Capability,
}

impl Marks {
    /// From random bytes, and the requester's nonce where it sent one.
    fn new([id, own, capability]: [[u8; 32]; 3], nonce: Option<Nonce>) -> Self {
        Self {
            // Shorter than the others.
            request_id: RequestId(std::array::from_fn(|at| id[at])),
            nonce: nonce.unwrap_or(Nonce(own)),
            capability: Capability(capability),
        }
    }
}

/// A receipt that was issued and filed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The claim's id.
    pub id: Digest,
    /// What fetches the openings, once.
    pub capability: Capability,
    /// The request's id.
    pub request_id: RequestId,
}

impl Ticket {
    /// The salted commitment to the request.
    pub fn commitment(&self) -> Digest {
        self.request.commitment()
    }

    /// Random bytes of the node's, for a seed that nobody else chose.
    pub fn drawn(&self) -> [u8; 32] {
        self.drawn
    }

    /// What will fetch the openings.
    pub fn capability(&self) -> &Capability {
        &self.marks.capability
    }

    /// The request's id.
    pub fn request_id(&self) -> RequestId {
        self.marks.request_id
    }
}

impl Notary {
    /// A notary for the node that certified `key` for receipts.
    pub fn new(
        network: String,
        certificate: Envelope,
        key: Key,
        host: Arc<dyn Host>,
        store: Arc<dyn ReceiptStore>,
    ) -> Result<Self, NotaryError> {
        let issuer = Issuer::new(certificate, key)?;
        let session = RwLock::new(Arc::new(new_session(&issuer, &*host)?));
        Ok(Self { issuer, network, host, store, attester: None, session })
    }

    /// Puts evidence of the environment into every receipt.
    #[must_use]
    pub fn with_environment(self, attester: Option<Arc<Attester>>) -> Self {
        Self { attester, ..self }
    }

    /// The node.
    pub fn node(&self) -> KeyId {
        self.issuer.certificate().identity.id()
    }

    /// The receipt key's certificate.
    pub fn certificate(&self) -> &Envelope {
        self.issuer.envelope()
    }

    /// The place where receipts are kept.
    pub fn store(&self) -> &Arc<dyn ReceiptStore> {
        &self.store
    }

    /// Whether receipts can be issued now.
    pub fn is_ready(&self) -> bool {
        self.issuer.certificate().is_valid_at(self.host.now())
    }

    /// Commits to a request's canonical JSON. `nonce` is the requester's, where it sent one.
    pub fn ticket(&self, request: &str, nonce: Option<Nonce>) -> Result<Ticket, NotaryError> {
        let [request_salt, chain_salt, response_salt, drawn, marks @ ..] = self.host.draws::<7>()?;
        let [request_salt, chain_salt, response_salt] = [request_salt, chain_salt, response_salt].map(Salt);
        let request = stream::request(request, request_salt)?;
        let marks = Marks::new(marks, nonce);
        Ok(Ticket { request, request_salt, chain_salt, response_salt, drawn, marks })
    }

    /// Issues the receipt for an answer whose text is `response`, and keeps it. Gives the claim's id.
    pub fn settle(
        &self,
        ticket: Ticket,
        card: &ModelCard,
        response: String,
        replay: Option<Replay>,
        usage: Option<Usage>,
    ) -> Result<Digest, NotaryError> {
        let inputs = vec![ticket.request];
        let outputs = vec![Opening::new(RESPONSE, Tensor::vector(vec![response]), ticket.response_salt)?];
        let price = card.price.as_ref().zip(usage).map(|(price, usage)| price.of(usage));
        let work = (inputs, outputs, replay.unwrap_or_default());
        self.file(&ticket.marks, card.model.clone(), work, price)
    }

    /// Issues the receipt for a run of an ONNX model, whose inputs and outputs are all that the claim holds, and keeps it.
    /// `nonce` is the requester's, where it sent one.
    pub fn settle_run(
        &self,
        model: Digest,
        nonce: Option<Nonce>,
        replay: Replay,
    ) -> Result<Settled, NotaryError> {
        let marks = Marks::new(self.host.draws()?, nonce);
        let id = self.file(&marks, Model::Id(model), (Vec::new(), Vec::new(), replay), None)?;
        Ok(Settled { id, capability: marks.capability, request_id: marks.request_id })
    }

    /// `work`: openings that come first, and what follows them.
    fn file(
        &self,
        marks: &Marks,
        model: Model,
        work: (Vec<Opening>, Vec<Opening>, Replay),
        price: Option<hallmark_receipt::Price>,
    ) -> Result<Digest, NotaryError> {
        let (mut inputs, mut outputs, replay) = work;
        for (side, tensors) in [(&mut inputs, replay.inputs), (&mut outputs, replay.outputs)] {
            for (name, tensor) in tensors {
                side.push(Opening::new(name, tensor, Salt(self.host.draw()?))?);
            }
        }
        let now = self.host.now();
        let environment = self.attester.as_ref().map(|attester| attester.environment(now / 1000));
        let bundle = self.issuer.issue(Work {
            network: self.network.clone(),
            request_id: marks.request_id,
            nonce: marks.nonce,
            model,
            inputs,
            outputs,
            parameters: replay.parameters,
            parents: Vec::new(),
            time: now,
            price,
            evidence: Wanted { signature: true, replay: replay.numeric, environment },
            manifest: replay.manifest,
            graph: replay.graph,
            publications: replay.publications,
        })?;
        let id = bundle.evidence.first().map(hallmark_receipt::Evidence::claim_id);
        let id = id.ok_or(IssueError::NoEvidence)?;
        self.store.put(id, Filed { bundle, capability: marks.capability.digest() })?;
        Ok(id)
    }

    /// The signer of one stream, and what opens it.
    pub fn stream(
        &self,
        ticket: &Ticket,
    ) -> Result<(stream::Signer<SessionKey>, stream::Preamble), NotaryError> {
        let session = self.session()?;
        let preamble = stream::Preamble {
            receipt: self.issuer.envelope().clone(),
            session: session.envelope.clone(),
            request_salt: ticket.request_salt,
            salt: ticket.chain_salt,
        };
        let signer = stream::Signer::new(ticket.commitment(), &ticket.chain_salt, SessionKey(session));
        Ok((signer, preamble))
    }

    fn session(&self) -> Result<Arc<Session>, NotaryError> {
        let current = self.session.read().unwrap_or_else(PoisonError::into_inner).clone();
        if self.host.now() < current.renew_at {
            return Ok(current);
        }
        let mut slot = self.session.write().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have been first.
        if self.host.now() >= slot.renew_at {
            *slot = Arc::new(new_session(&self.issuer, &*self.host)?);
        }
        Ok(slot.clone())
    }
}

fn new_session(issuer: &Issuer<Key>, host: &dyn Host) -> Result<Session, NotaryError> {
    let seed = zeroize::Zeroizing::new(host.draw()?);
    let key = NativeKey::from_seed(&seed)?;
    let (now, receipt) = (host.now(), issuer.certificate());
    let certificate = Certificate {
        identity: issuer.signer().public_key(),
        key: key.public_key(),
        purpose: Purpose::Stream,
        not_before: now.saturating_sub(SKEW).max(receipt.not_before),
        not_after: now.saturating_add(SESSION_VALIDITY).min(receipt.not_after),
    };
    let envelope = certificate.sign(issuer.signer())?;
    Ok(Session { key, envelope, renew_at: now.saturating_add(SESSION) })
}

/// A shared session key.
#[derive(Clone, Debug)]
pub struct SessionKey(Arc<Session>);

impl hallmark_receipt::Signer for SessionKey {
    fn public_key(&self) -> hallmark_receipt::PublicKey {
        self.0.key.public_key()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        self.0.key.sign(message)
    }
}

/// What a receipt's `response` commits to.
pub fn response_text(done: &Completed) -> String {
    crate::json::canonical(&done.message())
}
