//! Attested TLS (`attestation.md` §10.5): behind a TLS 1.3 handshake the server shows evidence that binds the key of this very
//! session, and the client, if the server wants it, does so too. A stream comes out once that was accepted, and not before.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use hallmark_attestation::Policy;
//! use hallmark_environment::tls::{Connector, Requirements};
//! use tokio::io::AsyncWriteExt as _;
//!
//! # async fn talk(policy: Policy) -> Result<(), Box<dyn std::error::Error>> {
//! // The policy pins which code may run there; evidence is made for this connection, which lives an hour.
//! let requirements =
//!     Requirements { fresh: true, reattest_after: Duration::from_secs(3600), ..Requirements::new(policy) };
//! let connector = Connector::new(requirements)?;
//! let tcp = tokio::net::TcpStream::connect("192.0.2.1:443").await?;
//! let (mut stream, peer) = connector.connect(tcp).await?;
//! println!("{:?}: {:?}", peer.attested().kind(), peer.reports());
//! stream.write_all(b"a prompt that only this code may see").await?;
//! # Ok(())
//! # }
//! ```

mod accept;
mod connect;
mod frame;
mod leaf;
mod presenter;
mod stream;

use std::time::{Duration, SystemTime};

use hallmark_attestation::presentation::{Code, Wants};
use hallmark_attestation::presentation::{MessageError, Peer, Presentation, Refusal};
use hallmark_attestation::{Dangers, Expected, Policy, ProduceError, Session};
use hallmark_receipt::{Digest, PublicKey, SignError};

pub use accept::Acceptor;
pub use connect::Connector;
pub use leaf::LeafError;
pub use presenter::Presenter;
pub use stream::{AttestedStream, ReattestationDue};

/// The protocol, as ALPN names it.
pub const ALPN: &[u8] = b"hallmark-attested/1";
/// The time that handshake and exchange may take together, if nothing else was said.
pub const EXCHANGE: Duration = Duration::from_secs(10);
/// The time after which a connection must be made anew, if nothing else was said.
pub const REATTEST: Duration = Duration::from_secs(3600);
/// How many connections of a server may be in the exchange at once, if nothing else was said.
pub const PENDING: usize = 256;

/// What a side requires of the other side's environment.
#[derive(Clone, Debug)]
pub struct Requirements {
    /// What is asked of evidence.
    pub policy: Policy,
    /// Which code may run there: by default only what the policy pins.
    pub code: Code,
    /// Whether evidence must be made for this very connection. Otherwise it may be of any age that the policy takes.
    pub fresh: bool,
    /// How long a connection lives. Then its stream gives [`ReattestationDue`], and a new connection attests anew.
    pub reattest_after: Duration,
    /// Development roots, by their SHA-256: whoever names one talks to anybody.
    pub dangerously_accept_simulated: Vec<Digest>,
    /// Debug mode, where the policy says so too.
    pub dangerously_accept_debug: bool,
}

impl Requirements {
    /// Code that the policy pins, on hardware that it takes; evidence need not be fresh; connections live for [`REATTEST`].
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            code: Code::Pinned,
            fresh: false,
            reattest_after: REATTEST,
            dangerously_accept_simulated: Vec::new(),
            dangerously_accept_debug: false,
        }
    }

    fn wants(&self) -> Wants {
        if self.fresh { Wants::Fresh } else { Wants::Presentation }
    }

    /// Judges what the other side showed, now.
    fn judge(&self, message: &[u8], session: &Session<'_>, key: &PublicKey) -> Result<Peer, TlsError> {
        let expected = Expected {
            at: now(),
            policy: &self.policy,
            dangers: Dangers {
                accept_simulated: &self.dangerously_accept_simulated,
                accept_debug: self.dangerously_accept_debug,
            },
            code: self.code,
            fresh: self.fresh,
        };
        let peer = Presentation::parse(message)?.verify(session, key, &expected);
        peer.map_err(|refusal| TlsError::Refused(Box::new(refusal)))
    }
}

/// Why there is no attested connection. No byte of the application was sent or taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A configuration that TLS does not take.
    #[error("no TLS can be made of this: {0}")]
    Config(#[from] rustls::Error),
    /// The TLS handshake failed.
    #[error("the TLS handshake failed: {0}")]
    Handshake(#[source] std::io::Error),
    /// The connection broke or ended in the exchange.
    #[error("the connection ended in the exchange: {0}")]
    Closed(#[source] std::io::Error),
    /// The other side speaks another protocol.
    #[error("the other side did not agree to the protocol `hallmark-attested/1`")]
    Protocol,
    /// The other side's certificate.
    #[error(transparent)]
    Leaf(#[from] LeafError),
    /// It all took too long.
    #[error("handshake and exchange took more than {limit:?}")]
    TimedOut {
        /// The limit.
        limit: Duration,
    },
    /// A message that is announced as longer than any of its type.
    #[error("a message of {got} bytes, where at most {most} are due")]
    TooLong {
        /// The most.
        most: usize,
        /// How many were announced.
        got: u32,
    },
    /// A message that cannot be read, or credentials that no message has room for.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// A client that wants nothing shown.
    #[error("the client asks for no presentation")]
    NothingWanted,
    /// The server wants an environment, and this client has none.
    #[error("the server wants a presentation, and this client has no environment")]
    NoEnvironment,
    /// The other side's presentation is refused.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// As many connections as allowed are in the exchange.
    #[error("{most} connections are in the exchange already")]
    Busy {
        /// How many may be.
        most: usize,
    },
    /// There is no evidence of one's own.
    #[error("no evidence of one's own: {0}")]
    Produce(#[from] ProduceError),
    /// The thread that makes evidence is gone.
    #[error("the making of evidence was cut off")]
    Aborted,
    /// A binding that cannot be made.
    #[error(transparent)]
    Binding(#[from] hallmark_attestation::binding::BindingError),
    /// The key did not sign.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The system gave no random bytes.
    #[error("the system gave no random bytes: {0}")]
    Random(getrandom::Error),
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// 32 random bytes.
fn nonce() -> Result<[u8; 32], TlsError> {
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce).map_err(TlsError::Random)?;
    Ok(nonce)
}

/// The digest by which a session names a leaf.
fn digest(key: &PublicKey) -> Digest {
    Digest::of(&[&key.to_spki()])
}

/// `EXPORTER-Channel-Binding` (RFC 9266) of a connection that speaks the protocol.
fn exporter<D>(connection: &rustls::ConnectionCommon<D>) -> Result<[u8; 32], TlsError> {
    if connection.alpn_protocol() != Some(ALPN) {
        return Err(TlsError::Protocol);
    }
    Ok(connection.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", None)?)
}

#[cfg(test)]
mod tests;
