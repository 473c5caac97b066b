//! Two sides over loopback, and those who come between them. Whoever is refused gets no byte of the application.
#![allow(clippy::unwrap_used)]

mod attacks;
mod bounds;
mod honest;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hallmark_attestation::simulated::{DEFAULT_SEED, Form, Provider, roots};
use hallmark_attestation::{Binding, CheckId, Evidence, Kind, Producer, Reason, Report, Request};
use hallmark_receipt::{Alg, SecretKey};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::{SharedProducer, SharedSigner};

/// What the application says, in tests of what it may say.
const SECRET: &[u8] = b"a prompt that nobody else may see";
const HOUR: Duration = Duration::from_secs(3600);

fn signer(alg: Alg, seed: u8) -> SharedSigner {
    Arc::new(SecretKey::from_seed(alg, &[seed; 32]).unwrap())
}

/// The TLS key of the environment with this seed: of either algorithm.
fn signer_of(seed: u8) -> SharedSigner {
    signer(if seed.is_multiple_of(2) { Alg::Ed25519 } else { Alg::P256 }, seed)
}

/// An environment with its own key and producers.
fn presenter_of(seed: u8, producers: Vec<SharedProducer>) -> Arc<Presenter> {
    Arc::new(Presenter::new(signer_of(seed), Binding::default(), producers, HOUR).unwrap())
}

fn presenter(form: Form, seed: u8) -> Arc<Presenter> {
    presenter_of(seed, vec![Box::new(Provider::new(form))])
}

/// Any genuine environment, if development roots count.
fn requirements(fresh: bool) -> Requirements {
    let dangerously_accept_simulated = roots(DEFAULT_SEED).unwrap();
    let policy = Policy::genuine();
    Requirements { code: Code::Any, fresh, dangerously_accept_simulated, ..Requirements::new(policy) }
}

fn connector(fresh: bool) -> Connector {
    Connector::new(requirements(fresh)).unwrap()
}

/// Both ends of a connection over loopback: the opener's, the acceptor's.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (opened, accepted) =
        tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (opened.unwrap(), accepted.unwrap().0)
}

/// The client's application: says its secret on the stream, if it gets one.
async fn say<IO: AsyncRead + AsyncWrite + Unpin>(connector: &Connector, io: IO) -> Result<Peer, TlsError> {
    let (mut stream, peer) = connector.connect(io).await?;
    stream.write_all(SECRET).await.unwrap();
    stream.shutdown().await.unwrap();
    Ok(peer)
}

/// The server's application: what it hears.
async fn hear<IO: AsyncRead + AsyncWrite + Unpin>(
    acceptor: &Acceptor,
    io: IO,
) -> (Vec<u8>, Result<Option<Peer>, TlsError>) {
    match acceptor.accept(io).await {
        Ok((stream, peer)) => (all(stream).await, Ok(peer)),
        Err(error) => (Vec::new(), Err(error)),
    }
}

/// Everything that comes until the other side ends, however it does.
async fn all(mut io: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut heard = Vec::new();
    let _ = io.read_to_end(&mut heard).await;
    heard
}

/// The reasons of a refusal.
fn reasons(refused: Result<Peer, TlsError>) -> Vec<(CheckId, Reason)> {
    match refused.unwrap_err() {
        TlsError::Refused(refusal) => {
            let report: &Report = refusal.report().unwrap();
            report.reasons().map(|(id, reason)| (id, reason.clone())).collect()
        }
        other => panic!("{other}"),
    }
}

fn ids(refused: Result<Peer, TlsError>) -> Vec<CheckId> {
    reasons(refused).into_iter().map(|(id, _)| id).collect()
}

/// A producer that changes what is asked, and counts.
struct Twisted {
    inner: Provider,
    twist: fn(Request) -> Request,
    asked: Arc<AtomicUsize>,
}

impl Producer for Twisted {
    fn kind(&self) -> Kind {
        self.inner.kind()
    }

    fn produce(&self, request: &Request) -> Result<Evidence, ProduceError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.inner.produce(&(self.twist)(request.clone()))
    }
}

fn twisted(form: Form, twist: fn(Request) -> Request) -> (SharedProducer, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    (Box::new(Twisted { inner: Provider::new(form), twist, asked: Arc::clone(&asked) }), asked)
}
