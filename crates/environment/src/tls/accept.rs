//! The server's side.

use std::sync::Arc;
use std::time::Duration;

use hallmark_attestation::presentation::{DONE, MAX_MESSAGE, Wants};
use hallmark_attestation::{Hello, Peer, Role, Session};
use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::leaf::{self, Provisional};
use super::{
    ALPN, AttestedStream, EXCHANGE, PENDING, Presenter, Requirements, TlsError, digest, exporter, frame,
    nonce,
};

/// The bytes of a hello.
pub(super) const HELLO: usize = 34;

/// Accepts connections and shows each one an environment.
pub struct Acceptor {
    pub(super) tls: TlsAcceptor,
    presenter: Arc<Presenter>,
    /// Of clients; without any it talks to everybody.
    requirements: Option<Requirements>,
    exchange: Duration,
    most: usize,
    /// One permit for each connection that may be in the exchange.
    pending: Semaphore,
}

impl Acceptor {
    /// Shows itself to everybody.
    pub fn new(presenter: Arc<Presenter>) -> Result<Self, TlsError> {
        Self::over(presenter, None)
    }

    /// Talks to clients alone that show an environment of their own.
    pub fn requiring(presenter: Arc<Presenter>, of_clients: Requirements) -> Result<Self, TlsError> {
        Self::over(presenter, Some(of_clients))
    }

    /// With another limit of the time that handshake and exchange may take together.
    #[must_use]
    pub fn with_exchange_limit(self, exchange: Duration) -> Self {
        Self { exchange, ..self }
    }

    /// With another limit of connections in the exchange.
    #[must_use]
    pub fn with_most_pending(self, most: usize) -> Self {
        Self { most, pending: Semaphore::new(most.min(Semaphore::MAX_PERMITS)), ..self }
    }

    fn over(presenter: Arc<Presenter>, requirements: Option<Requirements>) -> Result<Self, TlsError> {
        let provider = leaf::provider();
        let config =
            ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&[&TLS13])?;
        let config = match requirements {
            Some(_) => config.with_client_cert_verifier(Arc::new(Provisional(provider))),
            None => config.with_no_client_auth(),
        };
        let mut config = config.with_cert_resolver(leaf::resolver(presenter.signer())?);
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self {
            tls: TlsAcceptor::from(Arc::new(config)),
            presenter,
            requirements,
            exchange: EXCHANGE,
            most: PENDING,
            pending: Semaphore::new(PENDING),
        })
    }

    /// Handshake and exchange over `io`. What the client is, if this side requires an environment of it.
    pub async fn accept<IO>(&self, io: IO) -> Result<(AttestedStream<IO>, Option<Peer>), TlsError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let _place = self.pending.try_acquire().map_err(|_| TlsError::Busy { most: self.most })?;
        let exchange = tokio::time::timeout(self.exchange, self.exchange(io)).await;
        exchange.map_err(|_| TlsError::TimedOut { limit: self.exchange })?
    }

    async fn exchange<IO>(&self, io: IO) -> Result<(AttestedStream<IO>, Option<Peer>), TlsError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let mut stream = self.tls.accept(io).await.map_err(TlsError::Handshake)?;
        let connection = stream.get_ref().1;
        let exporter = exporter(connection)?;
        let client = match &self.requirements {
            Some(requirements) => Some((requirements, leaf::key(connection.peer_certificates())?)),
            None => None,
        };
        let hello = Hello::parse(&frame::read(&mut stream, HELLO).await?)?;
        if hello.wants == Wants::Nothing {
            return Err(TlsError::NothingWanted);
        }
        let session = Session {
            role: Role::Server,
            exporter: &exporter,
            server_leaf: digest(self.presenter.key()),
            client_leaf: client.as_ref().map(|(_, key)| digest(key)),
            nonce: &hello.nonce,
        };
        let presentation = self.presenter.present(&session, hello.wants == Wants::Fresh).await?;
        let nonce = nonce()?;
        let wants = client.as_ref().map_or(Wants::Nothing, |(requirements, _)| requirements.wants());
        frame::write(&mut stream, &[&Hello { nonce, wants }.encode(), &presentation]).await?;
        let Some((requirements, key)) = client else {
            return Ok((AttestedStream::new(stream.into(), None), None));
        };
        let presentation = frame::read(&mut stream, MAX_MESSAGE).await?;
        let session = Session { role: Role::Client, nonce: &nonce, ..session };
        let peer = requirements.judge(&presentation, &session, &key)?;
        frame::write(&mut stream, &[&DONE]).await?;
        Ok((AttestedStream::new(stream.into(), Some(requirements.reattest_after)), Some(peer)))
    }
}
