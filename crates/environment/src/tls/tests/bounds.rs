//! Other protocols, broken and endless exchanges, limits of time and number.

use hallmark_attestation::Hello;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, SupportedProtocolVersion};
use tokio::io::DuplexStream;

use super::*;

/// Both ends of a connection in memory. Nothing waits for the system there, so that a paused clock runs on exactly when both sides
/// wait for time.
fn pipe() -> (DuplexStream, DuplexStream) {
    tokio::io::duplex(1 << 16)
}

/// A client of TLS that trusts everybody and says nothing.
fn client(version: &'static SupportedProtocolVersion, alpn: Option<&[u8]>) -> tokio_rustls::TlsConnector {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(leaf::Provisional(provider)))
        .with_no_client_auth();
    config.alpn_protocols = alpn.map(<[u8]>::to_vec).into_iter().collect();
    Arc::new(config).into()
}

fn name() -> rustls::pki_types::ServerName<'static> {
    rustls::pki_types::ServerName::try_from("server.invalid").unwrap()
}

fn acceptor() -> Acceptor {
    Acceptor::new(presenter(Form::Nitro, 1)).unwrap()
}

/// A server that gets through the handshake, and what it does then.
async fn after_handshake<F>(
    connector: &Connector,
    then: impl FnOnce(tokio_rustls::server::TlsStream<DuplexStream>) -> F,
) -> TlsError
where
    F: Future<Output = ()>,
{
    let (ours, theirs) = pipe();
    let acceptor = acceptor();
    let server = async { then(acceptor.tls.accept(theirs).await.unwrap()).await };
    let ((), said) = tokio::join!(server, say(connector, ours));
    said.unwrap_err()
}

/// The same for a client.
async fn after_hello<F>(
    acceptor: &Acceptor,
    then: impl FnOnce(tokio_rustls::client::TlsStream<DuplexStream>) -> F,
) -> TlsError
where
    F: Future<Output = ()>,
{
    let (ours, theirs) = pipe();
    let connector = connector(false);
    let client = async { then(connector.tls.connect(name(), ours).await.unwrap()).await };
    let ((), (heard, client)) = tokio::join!(client, hear(acceptor, theirs));
    assert!(heard.is_empty());
    client.unwrap_err()
}

#[tokio::test]
async fn other_versions_and_protocols_are_refused() {
    for (version, alpn) in [(&TLS12, Some(ALPN)), (&TLS13, Some(&b"h2"[..])), (&TLS13, None)] {
        let (ours, theirs) = pair().await;
        let acceptor = acceptor();
        let (opened, (heard, accepted)) =
            tokio::join!(client(version, alpn).connect(name(), ours), hear(&acceptor, theirs));
        assert!(heard.is_empty());
        match alpn {
            Some(_) => assert!(opened.is_err() && matches!(accepted, Err(TlsError::Handshake(_)))),
            None => assert!(matches!(accepted, Err(TlsError::Protocol))),
        }
    }
    // A server of TLS 1.2, and one that does not know the protocol.
    for (versions, old) in [([&TLS12], true), ([&TLS13], false)] {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(leaf::resolver(signer(Alg::P256, 1)).unwrap());
        let server = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let (ours, theirs) = pair().await;
        let connector = connector(false);
        let (accepted, said) = tokio::join!(server.accept(theirs), say(&connector, ours));
        assert_eq!(accepted.is_err(), old);
        assert!(matches!(
            (old, said),
            (true, Err(TlsError::Handshake(_))) | (false, Err(TlsError::Protocol))
        ));
        if let Ok(stream) = accepted {
            assert!(all(stream).await.is_empty());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_takes_too_long_is_let_go() {
    // Nothing at all; a handshake and no hello; a hello that does not end.
    let acceptor = acceptor().with_exchange_limit(HOUR);
    let (_silent, theirs) = pipe();
    let (heard, error) = hear(&acceptor, theirs).await;
    assert!(heard.is_empty() && matches!(error, Err(TlsError::TimedOut { limit: HOUR })));
    for part in [&b""[..], b"\0\0\0", b"\0\0\0\x22\x01"] {
        let error = after_hello(&acceptor, |mut stream| async move {
            stream.write_all(part).await.unwrap();
            all(stream).await;
        });
        assert!(matches!(error.await, TlsError::TimedOut { limit: HOUR }));
    }
    let connector = connector(false).with_exchange_limit(HOUR);
    let error = after_handshake(&connector, |mut stream| async move {
        stream.write_all(b"\0\0\0\x22\x01").await.unwrap();
        // The hello, and nothing more.
        assert_eq!(all(stream).await.len(), 38);
    });
    assert!(matches!(error.await, TlsError::TimedOut { limit: HOUR }));
}

#[tokio::test]
async fn messages_are_bounded_whole_and_of_the_type_that_is_due() {
    let hello = Hello { nonce: [1; 32], wants: Wants::Nothing }.encode();
    let framed = |message: &[u8]| [&u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat();
    let too_long = [&framed(&hello)[..], &u32::MAX.to_be_bytes()].concat();
    let cut = [&framed(&hello)[..], b"\0\0\x10\0rest"].concat();
    let empty = [framed(&hello), framed(b"")].concat();
    let twice = [framed(&hello), framed(&hello)].concat();
    type IsExpected = fn(&TlsError) -> bool;
    let checks: [(Vec<u8>, IsExpected); 7] = [
        (too_long, |error| matches!(error, TlsError::TooLong { most: 1_048_576, got: u32::MAX })),
        (cut, |error| matches!(error, TlsError::Closed(_))),
        (vec![], |error| matches!(error, TlsError::Closed(_))),
        (framed(&[1; 35]), |error| matches!(error, TlsError::TooLong { most: 34, got: 35 })),
        (framed(&hello[..33]), |error| matches!(error, TlsError::Message(MessageError::Truncated))),
        (empty, |error| matches!(error, TlsError::Message(MessageError::Unexpected { .. }))),
        (twice, |error| matches!(error, TlsError::Message(MessageError::Unexpected { .. }))),
    ];
    for (at, (bytes, is_expected)) in checks.into_iter().enumerate() {
        let connector = connector(false);
        let error = after_handshake(&connector, |mut stream| async move {
            let mut hello = [0; 38];
            stream.read_exact(&mut hello).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
            stream.shutdown().await.unwrap();
            assert!(all(stream).await.is_empty());
        });
        let error = error.await;
        assert!(is_expected(&error), "{at}: {error}");
    }
    let acceptor = acceptor();
    let nothing = framed(&hello);
    let error = after_hello(&acceptor, |mut stream| async move {
        stream.write_all(&nothing).await.unwrap();
        all(stream).await;
    });
    assert!(matches!(error.await, TlsError::NothingWanted));
}

#[tokio::test]
async fn more_than_so_many_are_refused_at_once() {
    let acceptor = Arc::new(acceptor().with_most_pending(1).with_exchange_limit(HOUR));
    let (first, theirs) = pair().await;
    let waiting = tokio::spawn({
        let acceptor = Arc::clone(&acceptor);
        async move { acceptor.accept(theirs).await.map(|_| ()) }
    });
    tokio::task::yield_now().await;
    let (ours, theirs) = pair().await;
    assert!(matches!(acceptor.accept(theirs).await, Err(TlsError::Busy { most: 1 })));
    drop(ours);
    drop(first);
    assert!(waiting.await.unwrap().is_err());
    // The place is free again.
    let (ours, theirs) = pair().await;
    let connector = connector(false);
    let ((heard, _), _) = tokio::join!(hear(&acceptor, theirs), say(&connector, ours));
    assert_eq!(heard, SECRET);
}

#[tokio::test(start_paused = true)]
async fn after_its_time_a_connection_carries_nothing() {
    for reattest_after in [Duration::ZERO, HOUR] {
        let requirements = || Requirements { reattest_after, ..requirements(false) };
        let acceptor = Acceptor::requiring(presenter(Form::Nitro, 1), requirements()).unwrap();
        let connector = Connector::showing(presenter(Form::Nitro, 2), requirements()).unwrap();
        let (ours, theirs) = pipe();
        let (accepted, connected) = tokio::join!(acceptor.accept(theirs), connector.connect(ours));
        for mut stream in [accepted.unwrap().0, connected.unwrap().0] {
            assert!(stream.deadline().is_some());
            // A read that waits is woken; a write is refused, and nothing was written: the other side reads nothing.
            let error = stream.read_u8().await.unwrap_err();
            assert_eq!(ReattestationDue::of(&error), Some(ReattestationDue { after: reattest_after }));
            let error = stream.write_all(SECRET).await.unwrap_err();
            assert_eq!(ReattestationDue::of(&error), Some(ReattestationDue { after: reattest_after }));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_direction_is_woken_at_the_deadline() {
    let requirements = Requirements { reattest_after: HOUR, ..requirements(false) };
    let acceptor = acceptor();
    let connector = Connector::new(requirements).unwrap();
    let (ours, theirs) = pipe();
    let (accepted, connected) = tokio::join!(acceptor.accept(theirs), connector.connect(ours));
    let _unread = accepted.unwrap();
    let (mut from, mut to) = tokio::io::split(connected.unwrap().0);
    let reading = tokio::spawn(async move { from.read_u8().await.unwrap_err() });
    // Writes until nobody takes any more, and so waits.
    let writing = tokio::spawn(async move {
        loop {
            if let Err(error) = to.write_all(&[0; 65536]).await {
                return error;
            }
        }
    });
    for waiting in [reading, writing] {
        assert!(ReattestationDue::of(&waiting.await.unwrap()).is_some());
    }
}
