//! The client's side.

use std::sync::Arc;
use std::time::Duration;

use hallmark_attestation::presentation::{DONE, MAX_MESSAGE, MessageError, Wants};
use hallmark_attestation::{Hello, Peer, Role, Session};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::version::TLS13;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::accept::HELLO;
use super::leaf::{self, Provisional};
use super::{
    ALPN, AttestedStream, EXCHANGE, Presenter, Requirements, TlsError, digest, exporter, frame, nonce,
};

/// Opens connections to servers whose environment it accepts.
pub struct Connector {
    pub(super) tls: TlsConnector,
    requirements: Requirements,
    /// What it shows of itself to a server that wants it.
    presenter: Option<Arc<Presenter>>,
    exchange: Duration,
}

impl Connector {
    /// A plain client: it shows nothing of itself.
    pub fn new(requirements: Requirements) -> Result<Self, TlsError> {
        Self::over(requirements, None)
    }

    /// A client in an environment of its own, which it shows to servers that want it.
    pub fn showing(presenter: Arc<Presenter>, requirements: Requirements) -> Result<Self, TlsError> {
        Self::over(requirements, Some(presenter))
    }

    /// With another limit of the time that handshake and exchange may take together.
    #[must_use]
    pub fn with_exchange_limit(self, exchange: Duration) -> Self {
        Self { exchange, ..self }
    }

    fn over(requirements: Requirements, presenter: Option<Arc<Presenter>>) -> Result<Self, TlsError> {
        let provider = leaf::provider();
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Provisional(provider)));
        let mut config = match &presenter {
            Some(presenter) => config.with_client_cert_resolver(leaf::resolver(presenter.signer())?),
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        let tls = TlsConnector::from(Arc::new(config));
        Ok(Self { tls, requirements, presenter, exchange: EXCHANGE })
    }

    /// Handshake and exchange over `io`. Who the server is does not depend on where it was found: its environment alone counts.
    pub async fn connect<IO>(&self, io: IO) -> Result<(AttestedStream<IO>, Peer), TlsError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let exchange = tokio::time::timeout(self.exchange, self.exchange(io)).await;
        exchange.map_err(|_| TlsError::TimedOut { limit: self.exchange })?
    }

    async fn exchange<IO>(&self, io: IO) -> Result<(AttestedStream<IO>, Peer), TlsError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        // A name that nobody sees: it is not sent, and no certificate is compared with it.
        let name = ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into());
        let mut stream = self.tls.connect(name, io).await.map_err(TlsError::Handshake)?;
        let connection = stream.get_ref().1;
        let exporter = exporter(connection)?;
        let key = leaf::key(connection.peer_certificates())?;
        let nonce = nonce()?;
        let hello = Hello { nonce, wants: self.requirements.wants() };
        frame::write(&mut stream, &[&hello.encode()]).await?;
        let hello = Hello::parse(&frame::read(&mut stream, HELLO).await?)?;
        // A server that wants a presentation has asked for the client's leaf in the handshake (§10.5).
        let shown = match (hello.wants, &self.presenter) {
            (Wants::Nothing, _) => None,
            (_, Some(presenter)) => Some(presenter),
            (_, None) => return Err(TlsError::NoEnvironment),
        };
        let session = Session {
            role: Role::Server,
            exporter: &exporter,
            server_leaf: digest(&key),
            client_leaf: shown.map(|presenter| digest(presenter.key())),
            nonce: &nonce,
        };
        let presentation = frame::read(&mut stream, MAX_MESSAGE).await?;
        let peer = self.requirements.judge(&presentation, &session, &key)?;
        if let Some(presenter) = shown {
            let session = Session { role: Role::Client, nonce: &hello.nonce, ..session };
            let presentation = presenter.present(&session, hello.wants == Wants::Fresh).await?;
            frame::write(&mut stream, &[&presentation]).await?;
            if frame::read(&mut stream, DONE.len()).await? != DONE {
                return Err(MessageError::Unexpected { expected: "done" }.into());
            }
        }
        Ok((AttestedStream::new(stream.into(), Some(self.requirements.reattest_after)), peer))
    }
}
