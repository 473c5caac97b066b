//! Signed streams: an answer that is believed piece by piece (`stream.md`).
//!
//! [`Signer`] makes the comment line before each event, [`Reader`] takes the stream's bytes and gives events whose
//! signature held. An answer that comes at once is a stream of one event ([`Signer::whole`], [`Reader::whole`]). Salts, keys
//! and times come from the caller.

use crate::certificate::{Certificate, CertificateError, Purpose};
use crate::commit::{Opening, OpeningError, Salt};
use crate::domain::{STREAM, STREAM_EVENT};
use crate::dsse::{Envelope, PayloadType};
use crate::json::{Value, object};
use crate::keys::{Alg, KeyId, PublicKey, SignError, SignatureError};
use crate::wire::{Fields, FormatError, as_digest, to_base64, to_hex};
use crate::{Digest, Tensor};

/// `format` of a preamble.
pub const FORMAT: &str = "hallmark-stream/1";
/// The most bytes of one line.
pub const MAX_LINE: usize = 1 << 20;
/// The name of an event whose wire form has none.
pub const DEFAULT_NAME: &str = "message";
/// The name of the request's tensor among a claim's inputs.
pub const REQUEST: &str = "request";
/// The name of the one event that stands for an answer which comes at once (§6).
pub const WHOLE: &str = "whole";

const STREAM_WORD: &str = "hallmark-stream";
const EVENT_WORD: &str = "hallmark-event";
const SEAL_WORD: &str = "hallmark-seal";

/// Why a stream is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// A preamble or signature line that is not of the format.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A certificate does not hold.
    #[error("a certificate of the stream does not hold: {0}")]
    Certificate(#[from] CertificateError),
    /// Another node than the expected one.
    #[error("the stream is from node {got}, expected {expected}")]
    Node {
        /// The node that the verifier expects.
        expected: KeyId,
        /// The node in the certificate.
        got: KeyId,
    },
    /// A certificate for another purpose.
    #[error("a certificate is for `{}`, expected `{}`", got.name(), expected.name())]
    Purpose {
        /// The purpose that belongs there.
        expected: Purpose,
        /// The purpose found.
        got: Purpose,
    },
    /// A certificate that is not in force.
    #[error("a certificate is valid from {not_before} to {not_after}, not at {now}")]
    Validity {
        /// First millisecond.
        not_before: u64,
        /// Last millisecond.
        not_after: u64,
        /// The verifier's time.
        now: u64,
    },
    /// The session key is certified by another key than the receipt key.
    #[error("the session key is certified by {got}, expected {expected}")]
    Issuer {
        /// The receipt key.
        expected: KeyId,
        /// The key that certified the session key.
        got: KeyId,
    },
    /// The request cannot be committed to.
    #[error("the request cannot be committed to: {0}")]
    Request(#[from] OpeningError),
    /// An event came out of turn: one before it is missing, or it was there already.
    #[error("event {got} where event {expected} was to come")]
    Index {
        /// The next index.
        expected: u64,
        /// The index found.
        got: u64,
    },
    /// The signature does not fit: the event, one before it, or the request is another.
    #[error("event {index}: {source}")]
    Signature {
        /// The event.
        index: u64,
        /// Why.
        source: SignatureError,
    },
    /// An event without a signature line, or with two.
    #[error("event {index} has {got} signatures, expected one")]
    Signatures {
        /// The event.
        index: u64,
        /// How many.
        got: usize,
    },
    /// An event whose data is not one line.
    #[error("event {index} has {got} data lines, expected one")]
    DataLines {
        /// The event.
        index: u64,
        /// How many.
        got: usize,
    },
    /// The preamble is missing, late, or there twice.
    #[error("expected exactly one preamble, before every event")]
    Preamble,
    /// Something came after the seal.
    #[error("an event after the seal")]
    AfterSeal,
    /// The stream ended without a seal: its tail is missing.
    #[error("the stream ends after {events} events without a seal")]
    Cut {
        /// How many events held.
        events: u64,
    },
    /// A line longer than [`MAX_LINE`], or not UTF-8, or with a carriage return.
    #[error("a line that is too long or not plain UTF-8 text")]
    Line,
}

/// What a stream says first: who signs, and the salts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preamble {
    /// The receipt key's certificate, by the identity.
    pub receipt: Envelope,
    /// The session key's certificate, by the receipt key.
    pub session: Envelope,
    /// The salt of the request's commitment.
    pub request_salt: Salt,
    /// The secret from which the chain starts.
    pub salt: Salt,
}

impl Preamble {
    /// The preamble's line, with its line feed.
    pub fn to_line(&self) -> String {
        format!(": {STREAM_WORD} {}\n", self.to_text())
    }

    /// The preamble's JSON, on one line.
    pub fn to_text(&self) -> String {
        let certificates = Value::Array(vec![self.receipt.to_value(), self.session.to_value()]);
        let value = Value::Object(object([
            ("certificates", certificates),
            ("format", FORMAT.into()),
            ("request_salt", to_hex(&self.request_salt.0).into()),
            ("salt", to_hex(&self.salt.0).into()),
        ]));
        value.canonical()
    }

    fn parse(text: &str) -> Result<Self, FormatError> {
        let mut fields = Fields::signed(text.as_bytes(), "stream", MAX_LINE)?;
        fields.constant("format", FORMAT)?;
        let path = fields.path("certificates");
        let mut certificates = fields.array("certificates", 2)?;
        let (Some((b, session)), Some((a, receipt))) = (certificates.pop(), certificates.pop()) else {
            return Err(FormatError::Value { path, expected: "two certificates" });
        };
        let receipt = Envelope::from_value(receipt, &a, PayloadType::Certificate)?;
        let session = Envelope::from_value(session, &b, PayloadType::Certificate)?;
        let (request_salt, salt) = (Salt(fields.hex("request_salt")?), Salt(fields.hex("salt")?));
        fields.finish()?;
        Ok(Self { receipt, session, request_salt, salt })
    }

    /// The receipt key's certificate and the session key, if `node` stands behind both at `now` (milliseconds since 1970).
    fn verify(&self, node: KeyId, now: u64) -> Result<(Certificate, PublicKey), StreamError> {
        let receipt = in_force(&self.receipt, Purpose::Receipt, now)?;
        if receipt.identity.id() != node {
            return Err(StreamError::Node { expected: node, got: receipt.identity.id() });
        }
        let session = in_force(&self.session, Purpose::Stream, now)?;
        if session.identity != receipt.key {
            let (expected, got) = (receipt.key.id(), session.identity.id());
            return Err(StreamError::Issuer { expected, got });
        }
        Ok((receipt, session.key))
    }
}

fn in_force(envelope: &Envelope, expected: Purpose, now: u64) -> Result<Certificate, StreamError> {
    let certificate = Certificate::verify(envelope)?;
    if certificate.purpose != expected {
        return Err(StreamError::Purpose { expected, got: certificate.purpose });
    }
    if !certificate.is_valid_at(now) {
        let Certificate { not_before, not_after, .. } = certificate;
        return Err(StreamError::Validity { not_before, not_after, now });
    }
    Ok(certificate)
}

/// The opening of a request: the string tensor `request` with the request's canonical JSON.
pub fn request(text: &str, salt: Salt) -> Result<Opening, OpeningError> {
    Opening::new(REQUEST, Tensor::vector(vec![text.to_owned()]), salt)
}

/// Where a stream stands: the request, the number of events, and the head of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Chain {
    request: Digest,
    index: u64,
    head: Digest,
}

impl Chain {
    fn new(request: Digest, salt: &Salt) -> Self {
        Self { request, index: 0, head: STREAM.hash(&[&salt.0, request.as_bytes()]) }
    }

    /// Takes an event in; gives what is signed about it.
    fn step(&mut self, name: &str, data: &str, claim: Option<&Digest>) -> Vec<u8> {
        let length = u32::try_from(name.len()).unwrap_or(u32::MAX).to_le_bytes();
        self.head = STREAM_EVENT.hash(&[self.head.as_bytes(), &length, name.as_bytes(), data.as_bytes()]);
        let mut payload = self.request.as_bytes().to_vec();
        payload.extend_from_slice(&self.index.to_be_bytes());
        payload.extend_from_slice(self.head.as_bytes());
        self.index = self.index.saturating_add(1);
        match claim {
            None => PayloadType::StreamEvent.encode(&payload),
            Some(claim) => {
                payload.extend_from_slice(claim.as_bytes());
                PayloadType::StreamSeal.encode(&payload)
            }
        }
    }
}

/// Signs the events of one stream.
#[derive(Debug)]
pub struct Signer<K> {
    chain: Chain,
    key: K,
}

impl<K: crate::keys::Signer> Signer<K> {
    /// A stream that answers the request with this commitment. `salt` is drawn by the caller for this stream alone; `key` is the session key.
    pub fn new(request: Digest, salt: &Salt, key: K) -> Self {
        Self { chain: Chain::new(request, salt), key }
    }

    /// The line that goes before the next event. `name` is [`DEFAULT_NAME`] where the wire shows none; `data` has one line.
    pub fn event(&mut self, name: &str, data: &str) -> Result<String, SignError> {
        let index = self.chain.index;
        let signature = self.key.sign(&self.chain.step(name, data, None))?;
        Ok(format!(": {EVENT_WORD} {index} {}\n", to_base64(&signature)))
    }

    /// The line that goes before the last event, and names the claim.
    pub fn seal(mut self, name: &str, data: &str, claim: &Digest) -> Result<String, SignError> {
        Ok(format!(": {SEAL_WORD} {}\n", self.seal_text(name, data, claim)?))
    }

    /// The seal of an answer that comes at once, of which `body` is every byte: `0 <claim> <signature>`.
    pub fn whole(mut self, body: &[u8], claim: &Digest) -> Result<String, SignError> {
        self.seal_text(WHOLE, &whole_data(body), claim)
    }

    fn seal_text(&mut self, name: &str, data: &str, claim: &Digest) -> Result<String, SignError> {
        let index = self.chain.index;
        let signature = self.key.sign(&self.chain.step(name, data, Some(claim)))?;
        Ok(format!("{index} {claim} {}", to_base64(&signature)))
    }
}

/// The data of the event that stands for `body`.
fn whole_data(body: &[u8]) -> String {
    Digest::of(&[body]).to_string()
}

/// An event whose signature held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its name.
    pub name: String,
    /// Its data.
    pub data: String,
}

/// Reads a stream's bytes and gives events whose signatures held. After an error it gives nothing more.
#[derive(Debug)]
pub struct Reader {
    node: KeyId,
    request: String,
    now: u64,
    line: Vec<u8>,
    /// The receipt key's certificate, once the preamble held.
    signer: Option<Certificate>,
    state: State,
    pending: Pending,
}

#[derive(Debug)]
enum State {
    Start,
    Open { chain: Chain, key: PublicKey },
    Sealed(Digest),
    Failed(StreamError),
}

/// The lines of the event that is being read.
#[derive(Debug, Default)]
struct Pending {
    mark: Option<Mark>,
    name: Option<String>,
    data: Option<String>,
}

#[derive(Debug)]
struct Mark {
    index: u64,
    claim: Option<Digest>,
    signature: Vec<u8>,
}

impl Reader {
    /// A reader for the answer of `node` to `request` (its canonical JSON) at `now` (milliseconds since 1970).
    pub fn new(node: KeyId, request: impl Into<String>, now: u64) -> Self {
        let (line, pending) = (Vec::new(), Pending::default());
        Self { node, request: request.into(), now, line, signer: None, state: State::Start, pending }
    }

    /// Reads an answer that came at once: its preamble and its seal, as its headers give them, and its `body`, every byte. Gives
    /// the receipt key's certificate and the claim.
    pub fn whole(
        mut self,
        preamble: &str,
        seal: &str,
        body: &[u8],
    ) -> Result<(Certificate, Digest), StreamError> {
        self.open(preamble)?;
        self.pending.mark = Some(Mark::parse(seal, true)?);
        self.pending.name = Some(WHOLE.to_owned());
        self.pending.data = Some(whole_data(body));
        self.dispatch()?;
        match (self.signer, self.state) {
            (Some(signer), State::Sealed(claim)) => Ok((signer, claim)),
            _ => Err(StreamError::Cut { events: 1 }),
        }
    }

    /// Takes the next bytes, in any cut, and adds the events that they complete to `events`: also those that came before an
    /// error.
    pub fn feed(&mut self, bytes: &[u8], events: &mut Vec<Event>) -> Result<(), StreamError> {
        if let State::Failed(error) = &self.state {
            return Err(error.clone());
        }
        let result = self.take(bytes, events);
        if let Err(error) = &result {
            self.state = State::Failed(error.clone());
        }
        result
    }

    /// The receipt key's certificate, once the preamble held. The reader knows no revocations: whoever does looks here.
    pub fn signer(&self) -> Option<&Certificate> {
        self.signer.as_ref()
    }

    /// The claim that the seal names, once it came. Whether anything follows shows only at the end: [`Reader::finish`].
    pub fn sealed(&self) -> Option<Digest> {
        if let State::Sealed(claim) = self.state { Some(claim) } else { None }
    }

    /// The claim that the whole stream led to.
    pub fn finish(self) -> Result<Digest, StreamError> {
        match self.state {
            State::Sealed(_) if !self.line.is_empty() || !self.pending.is_empty() => {
                Err(StreamError::AfterSeal)
            }
            State::Sealed(claim) => Ok(claim),
            State::Failed(error) => Err(error),
            State::Open { chain, .. } => Err(StreamError::Cut { events: chain.index }),
            State::Start => Err(StreamError::Cut { events: 0 }),
        }
    }

    fn take(&mut self, bytes: &[u8], events: &mut Vec<Event>) -> Result<(), StreamError> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let ends = piece.ends_with(b"\n");
            if self.line.len().saturating_add(piece.len()) > MAX_LINE {
                return Err(StreamError::Line);
            }
            self.line.extend_from_slice(piece);
            if ends {
                let mut line = std::mem::take(&mut self.line);
                line.pop();
                let line = String::from_utf8(line).map_err(|_| StreamError::Line)?;
                events.extend(self.line(&line)?);
            }
        }
        Ok(())
    }

    fn line(&mut self, line: &str) -> Result<Option<Event>, StreamError> {
        if line.contains('\r') {
            return Err(StreamError::Line);
        }
        if line.is_empty() {
            return if self.pending.is_empty() { Ok(None) } else { self.dispatch().map(Some) };
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => self.comment(value)?,
            "event" => self.pending.name = Some(value.to_owned()),
            // What is too much is refused at once, not stored.
            "data" if self.pending.data.is_none() => self.pending.data = Some(value.to_owned()),
            "data" => return Err(StreamError::DataLines { index: self.index(), got: 2 }),
            // Other fields mean nothing to the readers of these streams.
            _ => {}
        }
        Ok(None)
    }

    fn comment(&mut self, text: &str) -> Result<(), StreamError> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        match word {
            STREAM_WORD => {
                if !matches!(self.state, State::Start) {
                    return Err(StreamError::Preamble);
                }
                self.open(rest)?;
            }
            EVENT_WORD | SEAL_WORD if self.pending.mark.is_some() => {
                return Err(StreamError::Signatures { index: self.index(), got: 2 });
            }
            EVENT_WORD => self.pending.mark = Some(Mark::parse(rest, false)?),
            SEAL_WORD => self.pending.mark = Some(Mark::parse(rest, true)?),
            _ => {}
        }
        Ok(())
    }

    fn open(&mut self, preamble: &str) -> Result<(), StreamError> {
        let preamble = Preamble::parse(preamble)?;
        let (signer, key) = preamble.verify(self.node, self.now)?;
        let request = request(&self.request, preamble.request_salt)?.commitment();
        self.signer = Some(signer);
        self.state = State::Open { chain: Chain::new(request, &preamble.salt), key };
        Ok(())
    }

    fn index(&self) -> u64 {
        if let State::Open { chain, .. } = &self.state { chain.index } else { 0 }
    }

    fn dispatch(&mut self) -> Result<Event, StreamError> {
        let pending = std::mem::take(&mut self.pending);
        let (chain, key) = match &mut self.state {
            State::Open { chain, key } => (chain, *key),
            State::Sealed(_) => return Err(StreamError::AfterSeal),
            State::Start | State::Failed(_) => return Err(StreamError::Preamble),
        };
        let index = chain.index;
        let mark = pending.mark.ok_or(StreamError::Signatures { index, got: 0 })?;
        if mark.index != index {
            return Err(StreamError::Index { expected: index, got: mark.index });
        }
        let data = pending.data.ok_or(StreamError::DataLines { index, got: 0 })?;
        let name = pending.name.unwrap_or_else(|| DEFAULT_NAME.to_owned());
        let signed = chain.step(&name, &data, mark.claim.as_ref());
        key.verify(Alg::Ed25519, &signed, &mark.signature)
            .map_err(|source| StreamError::Signature { index, source })?;
        if let Some(claim) = mark.claim {
            self.state = State::Sealed(claim);
        }
        Ok(Event { name, data })
    }
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.mark.is_none() && self.name.is_none() && self.data.is_none()
    }
}

impl Mark {
    /// `<index> <signature>`, or for a seal `<index> <claim> <signature>`.
    fn parse(text: &str, seal: bool) -> Result<Self, FormatError> {
        let wrong = |expected| FormatError::Value { path: "stream".to_owned(), expected };
        let words: Vec<&str> = text.splitn(4, ' ').collect();
        let (index, claim, signature) = match (words.as_slice(), seal) {
            ([index, signature], false) => (*index, None, *signature),
            ([index, claim, signature], true) => (*index, Some(*claim), *signature),
            _ => return Err(wrong("an index, a claim in a seal, and a signature")),
        };
        // One text for a number: no sign, no leading zeros.
        let value = index.parse::<u64>().ok().filter(|value| value.to_string() == index);
        let claim = claim.map(|claim| as_digest(&claim.into(), "stream.claim")).transpose()?;
        let mut fields = Fields::new(Value::Object(object([("sig", signature.into())])), "stream")?;
        Ok(Self { index: value.ok_or(wrong("an index"))?, claim, signature: fields.base64("sig", 64)? })
    }
}

#[cfg(test)]
mod tests;
