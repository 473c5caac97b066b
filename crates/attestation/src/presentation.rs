//! What an environment shows to whoever it talks to, and how that is judged (`attestation.md` §10.4, §10.6). Bytes, policy, time and
//! what the verifier knows of the session go in; a [`Peer`] comes out, or a refusal.

use hallmark_receipt::{Digest, PublicKey, Purpose};

use crate::binding::{ReadError, Session};
use crate::bytes::Bytes;
use crate::check::{Check, CheckId, Reason, Why};
use crate::report::{Attested, Context, Dangers, Decision, Report};
use crate::{Binding, Evidence, Kind, Policy};

/// The most bytes of a message.
pub const MAX_MESSAGE: usize = 1 << 20;
/// The most pieces of evidence of one environment.
pub const MAX_ITEMS: usize = 4;
/// The most certificates, and the most files of collateral, of one piece of evidence.
pub const MAX_FILES: usize = 32;
/// The bytes of a signature.
pub const SIGNATURE: usize = 64;

const HELLO: u8 = 1;
const PRESENTATION: u8 = 2;

/// The last message of a session in which both sides show themselves.
pub const DONE: [u8; 1] = [3];

/// The first message of either side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Random bytes, which the other side's key signs.
    pub nonce: [u8; 32],
    /// What it asks for.
    pub wants: Wants,
}

/// What a side asks of the other one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// Nothing: it talks to anybody.
    Nothing,
    /// A presentation.
    Presentation,
    /// A presentation whose evidence binds its nonce.
    Fresh,
}

/// What an environment shows of itself, whoever asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Its keys.
    pub binding: Binding,
    /// Evidence that binds them: of the CPU first, then of devices. 1 to [`MAX_ITEMS`].
    pub items: Vec<Item>,
}

/// One piece of evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its kind.
    pub kind: Kind,
    /// All that belongs to it.
    pub evidence: Evidence,
}

/// Credentials, and the signature of one session by the key that they bind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presentation {
    /// Whose session it is.
    pub credentials: Credentials,
    /// The signature over [`Session::to_be_signed`].
    pub signature: [u8; SIGNATURE],
}

/// Why bytes are no message of §10.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// More bytes than a message has.
    #[error("a message of {got} bytes, where at most {MAX_MESSAGE} are allowed")]
    TooLong {
        /// How many.
        got: usize,
    },
    /// The bytes end inside it.
    #[error("the message ends early")]
    Truncated,
    /// Bytes behind its end.
    #[error("{got} bytes follow the message")]
    Trailing {
        /// How many.
        got: usize,
    },
    /// Another message is due.
    #[error("expected {expected}")]
    Unexpected {
        /// Which one.
        expected: &'static str,
    },
    /// A number that stands for nothing.
    #[error("`wants` is {got}, which means nothing")]
    Wants {
        /// Which.
        got: u8,
    },
    /// A binding that cannot be read.
    #[error("not a binding: {0}")]
    Binding(#[from] ReadError),
    /// A kind without a name here.
    #[error("evidence of an unknown kind")]
    Kind,
    /// More of something than there may be, or none.
    #[error("{got} {what}, where {least} to {most} are allowed")]
    Count {
        /// Of what.
        what: &'static str,
        /// The least.
        least: usize,
        /// The most.
        most: usize,
        /// How many.
        got: usize,
    },
}

impl Hello {
    /// The message.
    pub fn encode(&self) -> Vec<u8> {
        let wants = match self.wants {
            Wants::Nothing => 0,
            Wants::Presentation => 1,
            Wants::Fresh => 2,
        };
        [&[HELLO][..], &self.nonce, &[wants]].concat()
    }

    /// Reads the message.
    pub fn parse(message: &[u8]) -> Result<Self, MessageError> {
        let mut bytes = open(message, HELLO, "a hello")?;
        let nonce = *all(bytes.array())?;
        let wants = match all(bytes.u8())? {
            0 => Wants::Nothing,
            1 => Wants::Presentation,
            2 => Wants::Fresh,
            got => return Err(MessageError::Wants { got }),
        };
        close(bytes)?;
        Ok(Self { nonce, wants })
    }
}

impl Credentials {
    /// A presentation's message without its signature, which goes behind it; an error, if nobody would read it.
    pub fn encode(&self) -> Result<Vec<u8>, MessageError> {
        let mut out = vec![PRESENTATION];
        out.extend(self.binding.encode());
        out.push(count("pieces of evidence", self.items.len(), 1, MAX_ITEMS)?);
        for Item { kind, evidence } in &self.items {
            out.push(count("bytes of a kind's name", kind.name().len(), 1, usize::from(u8::MAX))?);
            out.extend_from_slice(kind.name().as_bytes());
            file(&mut out, &evidence.evidence)?;
            for (what, files) in
                [("certificates", &evidence.certificates), ("files of collateral", &evidence.collateral)]
            {
                out.push(count(what, files.len(), 0, MAX_FILES)?);
                files.iter().try_for_each(|bytes| file(&mut out, bytes))?;
            }
            out.push(evidence.event_log.is_some().into());
            evidence.event_log.iter().try_for_each(|bytes| file(&mut out, bytes))?;
        }
        let got = out.len().saturating_add(SIGNATURE);
        if got > MAX_MESSAGE { Err(MessageError::TooLong { got }) } else { Ok(out) }
    }
}

impl Presentation {
    /// Reads the message, to its last byte.
    pub fn parse(message: &[u8]) -> Result<Self, MessageError> {
        let mut bytes = open(message, PRESENTATION, "a presentation")?;
        let binding = Binding::read(&mut bytes)?;
        let many = count("pieces of evidence", all(bytes.u8())?.into(), 1, MAX_ITEMS)?;
        let items = (0..many).map(|_| item(&mut bytes)).collect::<Result<_, _>>()?;
        let signature = *all(bytes.array())?;
        close(bytes)?;
        Ok(Self { credentials: Credentials { binding, items }, signature })
    }
}

fn item(bytes: &mut Bytes<'_>) -> Result<Item, MessageError> {
    let length = all(bytes.u8())?.into();
    let name = std::str::from_utf8(all(bytes.take(length))?).ok();
    let kind = name.and_then(Kind::from_name).ok_or(MessageError::Kind)?;
    let evidence = all(bytes.prefixed_be())?.to_vec();
    let mut files = |what, most| -> Result<Vec<Vec<u8>>, MessageError> {
        let many = count(what, all(bytes.u8())?.into(), 0, most)?;
        (0..many).map(|_| Ok(all(bytes.prefixed_be())?.to_vec())).collect()
    };
    let certificates = files("certificates", MAX_FILES)?;
    let collateral = files("files of collateral", MAX_FILES)?;
    let event_log = files("event logs", 1)?.pop();
    Ok(Item { kind, evidence: Evidence { evidence, certificates, collateral, event_log } })
}

/// Of a message of this type, what is behind the type.
fn open<'a>(message: &'a [u8], of: u8, expected: &'static str) -> Result<Bytes<'a>, MessageError> {
    if message.len() > MAX_MESSAGE {
        return Err(MessageError::TooLong { got: message.len() });
    }
    match message.split_first() {
        Some((first, rest)) if *first == of => Ok(Bytes(rest)),
        _ => Err(MessageError::Unexpected { expected }),
    }
}

/// Something that is there whole.
fn all<T>(read: Option<T>) -> Result<T, MessageError> {
    read.ok_or(MessageError::Truncated)
}

fn close(Bytes(rest): Bytes<'_>) -> Result<(), MessageError> {
    if rest.is_empty() { Ok(()) } else { Err(MessageError::Trailing { got: rest.len() }) }
}

fn count(what: &'static str, got: usize, least: usize, most: usize) -> Result<u8, MessageError> {
    let error = MessageError::Count { what, least, most, got };
    if (least..=most).contains(&got) { u8::try_from(got).map_err(|_| error) } else { Err(error) }
}

fn file(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), MessageError> {
    let length = u32::try_from(bytes.len()).map_err(|_| MessageError::TooLong { got: bytes.len() })?;
    out.extend(length.to_be_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

/// What a verifier asks of the other side's environment.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The time to judge at, in seconds since 1970.
    pub at: u64,
    /// What is asked of evidence.
    pub policy: &'a Policy,
    /// What is accepted beyond production hardware.
    pub dangers: Dangers<'a>,
    /// Which code.
    pub code: Code,
    /// Whether the evidence must bind the nonce of this session.
    pub fresh: bool,
}

/// Which code may run on the other side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Code {
    /// A release that the policy pins.
    #[default]
    Pinned,
    /// Any: that the hardware is genuine is enough. It says where the other side runs, and nothing of what it does.
    Any,
}

/// An environment whose presentation was accepted. Only [`Presentation::verify`] makes one.
#[derive(Clone, Debug, PartialEq)]
pub struct Peer {
    key: PublicKey,
    binding: Binding,
    attested: Attested,
    reports: Vec<Report>,
}

impl Peer {
    /// Its key of the session.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// All its keys, and what else its evidence binds.
    pub fn binding(&self) -> &Binding {
        &self.binding
    }

    /// What the CPU's evidence attests.
    pub fn attested(&self) -> &Attested {
        &self.attested
    }

    /// One report for each piece of evidence, all accepted; the first one is the CPU's, with the rows of the session.
    pub fn reports(&self) -> &[Report] {
        &self.reports
    }
}

/// Why a presentation is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Credentials without evidence.
    #[error("no evidence")]
    NoEvidence,
    /// Evidence that cannot stand where it does: the first piece is of a CPU, further ones are of devices.
    #[error("evidence of kind `{}` in place {at}", .got.name())]
    Kind {
        /// From 0.
        at: usize,
        /// Its kind.
        got: Kind,
    },
    /// Evidence, or the session, is not accepted.
    #[error("evidence of kind `{}` is not accepted: {}", .0.kind.name(), why(.0))]
    Report(Box<Report>),
    /// Genuine hardware, on which any code may run: the policy pins none of this kind, and the verifier did not say that this is enough.
    #[error("evidence of kind `{}` is genuine, but the policy pins no code of that kind", .0.kind.name())]
    NotPinned(Box<Report>),
}

impl Refusal {
    /// The report that it follows from, if it came to one.
    pub fn report(&self) -> Option<&Report> {
        match self {
            Self::NoEvidence | Self::Kind { .. } => None,
            Self::Report(report) | Self::NotPinned(report) => Some(report),
        }
    }
}

/// What failed first, or what was not made.
fn why(report: &Report) -> String {
    match (report.reasons().next(), &report.decision) {
        (Some((id, reason)), _) => format!("`{id}`: {reason}"),
        (None, Decision::Undecided(missing)) => {
            let names: Vec<String> = missing.iter().map(|id| format!("`{id}`")).collect();
            format!("not checked: {}", names.join(", "))
        }
        (None, _) => String::new(),
    }
}

impl Presentation {
    /// Judges it (§10.6). `session` is as the verifier knows it: its own nonce, the other side's role, the leaves that it saw and
    /// showed. `key` is the other side's leaf.
    pub fn verify(
        &self,
        session: &Session<'_>,
        key: &PublicKey,
        expected: &Expected<'_>,
    ) -> Result<Peer, Refusal> {
        let Credentials { binding, items } = &self.credentials;
        let beside = [
            Check::of(CheckId::TlsKey, tls_key(binding, session, key)),
            Check::of(CheckId::Session, self.session(session, key)),
            freshness(binding, session, expected.fresh),
        ];
        let digest = binding.digest();
        let mut reports = Vec::new();
        let mut attested = None;
        for (at, Item { kind, evidence }) in items.iter().enumerate() {
            let data = binding.report_data(*kind);
            let context = Context { dangers: expected.dangers, ..Context::new(expected.at, expected.policy) };
            let context = match &data {
                Some(data) if at == 0 => Context {
                    binding: Some(data),
                    nonce: (*kind == Kind::Nitro && expected.fresh).then_some(session.nonce),
                    beside: &beside,
                    ..context
                },
                None if at > 0 => {
                    Context { nonce: Some(digest.as_bytes()), pairing: Some(digest.as_bytes()), ..context }
                }
                _ => return Err(Refusal::Kind { at, got: *kind }),
            };
            let report = evidence.judge(*kind, &context);
            let Decision::Accepted(accepted) = &report.decision else {
                return Err(Refusal::Report(Box::new(report)));
            };
            if at == 0 {
                let pinned = report.check(CheckId::Measurements).is_some_and(Check::has_passed);
                if !pinned && expected.code == Code::Pinned {
                    return Err(Refusal::NotPinned(Box::new(report)));
                }
                attested = Some((**accepted).clone());
            }
            reports.push(report);
        }
        let attested = attested.ok_or(Refusal::NoEvidence)?;
        Ok(Peer { key: *key, binding: binding.clone(), attested, reports })
    }

    fn session(&self, session: &Session<'_>, key: &PublicKey) -> Result<String, Reason> {
        key.verify(key.alg(), &session.to_be_signed(), &self.signature).map_err(Reason::Session)?;
        let client = match session.client_leaf {
            Some(_) => "the client's leaf",
            None => "no leaf of a client, who showed none",
        };
        Ok(format!("role, exporter, nonce, the server's leaf, {client}"))
    }
}

fn tls_key(binding: &Binding, session: &Session<'_>, key: &PublicKey) -> Result<String, Reason> {
    let leaf = Digest::of(&[&key.to_spki()]);
    let bound = binding.keys().get(&Purpose::Tls);
    if binding.holds(Purpose::Tls, key) && session.leaf() == Some(leaf) {
        Ok(key.to_string())
    } else {
        Err(Reason::TlsKey { expected: bound.cloned().unwrap_or_default(), got: key.to_bytes() })
    }
}

fn freshness(binding: &Binding, session: &Session<'_>, asked: bool) -> Check {
    let id = CheckId::Freshness;
    match binding.nonce() {
        got if got == session.nonce => Check::passed(id, "the evidence binds this session's nonce"),
        got if asked => {
            Check::failed(id, Reason::Nonce { expected: session.nonce.to_vec(), got: got.to_vec() })
        }
        _ => Check::not_checked(id, Why::NotAskedFor),
    }
}

#[cfg(test)]
mod tests;
