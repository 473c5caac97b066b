//! Whoever has no environment, another one, or another's words.

use hallmark_attestation::presentation::{Credentials, DONE, Item, MAX_MESSAGE};
use hallmark_attestation::{Hello, Role};
use hallmark_receipt::{Purpose, Signer};
use tokio_rustls::server::TlsStream;

use super::*;

/// TLS with a leaf of this key, and nothing else of the protocol.
async fn handshake(key: u8, mutual: bool, io: TcpStream) -> TlsStream<TcpStream> {
    let presenter = presenter(Form::Nitro, key);
    let acceptor = match mutual {
        true => Acceptor::requiring(presenter, requirements(false)),
        false => Acceptor::new(presenter),
    };
    acceptor.unwrap().tls.accept(io).await.unwrap()
}

/// The same on the client's side.
async fn open(connector: &Connector, io: TcpStream) -> tokio_rustls::client::TlsStream<TcpStream> {
    let name = rustls::pki_types::ServerName::try_from("server.invalid").unwrap();
    connector.tls.connect(name, io).await.unwrap()
}

/// The genuine environment's credentials for this binding, if `key` is whose TLS key it binds.
fn credentials(key: &PublicKey, nonce: &[u8]) -> Credentials {
    let binding = Binding::default().with_key(Purpose::Tls, key).unwrap().with_nonce(nonce.to_vec()).unwrap();
    let kind = Kind::Nitro;
    let evidence = Provider::new(Form::Nitro).produce(&binding.request(kind, now())).unwrap();
    Credentials { binding, items: vec![Item { kind, evidence }] }
}

/// A server with the TLS key `key`, which answers a hello with what `answer` makes of it. What the client tells it after that.
async fn lying_server(key: u8, io: TcpStream, answer: impl FnOnce(Session<'_>) -> Vec<u8>) -> Vec<u8> {
    let mut stream = handshake(key, false, io).await;
    let exporter = exporter(stream.get_ref().1).unwrap();
    let hello = Hello::parse(&frame::read(&mut stream, 34).await.unwrap()).unwrap();
    let presentation = answer(Session {
        role: Role::Server,
        exporter: &exporter,
        server_leaf: digest(&signer_of(key).public_key()),
        client_leaf: None,
        nonce: &hello.nonce,
    });
    let hello = Hello { nonce: [0; 32], wants: Wants::Nothing };
    frame::write(&mut stream, &[&hello.encode(), &presentation]).await.unwrap();
    all(stream).await
}

fn signed(credentials: &Credentials, session: &Session<'_>, key: u8) -> Vec<u8> {
    let signature = signer_of(key).sign(&session.to_be_signed()).unwrap();
    [credentials.encode().unwrap(), signature].concat()
}

/// What a client that talks to such a server says: no byte more than its hello.
async fn refused(key: u8, fresh: bool, answer: impl FnOnce(Session<'_>) -> Vec<u8>) -> Vec<CheckId> {
    let (ours, theirs) = pair().await;
    let connector = connector(fresh);
    let (heard, said) = tokio::join!(lying_server(key, theirs, answer), say(&connector, ours));
    assert!(heard.is_empty());
    ids(said)
}

#[tokio::test]
async fn who_passes_on_anothers_evidence_is_refused() {
    let genuine = Acceptor::new(presenter(Form::Nitro, 1)).unwrap();
    for fresh in [false, true] {
        let ((victim, taken), (onward, at_genuine)) = (pair().await, pair().await);
        // It ends both sessions itself and passes on every byte in clear, both ways.
        let relay = async {
            let mut front = handshake(2, false, taken).await;
            let mut back = open(&connector(false), onward).await;
            let hello = frame::read(&mut front, 34).await.unwrap();
            frame::write(&mut back, &[&hello]).await.unwrap();
            for most in [34, MAX_MESSAGE] {
                let message = frame::read(&mut back, most).await.unwrap();
                frame::write(&mut front, &[&message]).await.unwrap();
            }
            let heard = all(&mut front).await;
            back.write_all(&heard).await.unwrap();
            back.shutdown().await.unwrap();
            heard
        };
        let connector = connector(fresh);
        let (heard, said, (at_server, _)) =
            tokio::join!(relay, say(&connector, victim), hear(&genuine, at_genuine));
        let reasons = reasons(said);
        assert!(matches!(
            &reasons[..],
            [(CheckId::TlsKey, Reason::TlsKey { .. }), (CheckId::Session, Reason::Session(_))]
        ));
        assert!(heard.is_empty() && at_server.is_empty());
    }
}

#[tokio::test]
async fn the_genuine_credentials_do_not_help_another_key() {
    use CheckId::{Binding, Session, TlsKey};
    let theirs = signer_of(1).public_key();
    // Signed by the liar's own key, under the genuine binding.
    assert_eq!(refused(2, false, |session| signed(&credentials(&theirs, b""), &session, 2)).await, [TlsKey]);
    // The binding rewritten: it is not what the evidence says.
    let rewritten = refused(2, false, |session| {
        let genuine = credentials(&theirs, b"");
        let own = credentials(&signer_of(2).public_key(), b"");
        signed(&Credentials { binding: own.binding, items: genuine.items }, &session, 2)
    });
    assert_eq!(rewritten.await, [Binding]);
    // Its own TLS key bound under another purpose.
    let purpose = refused(2, false, |session| {
        let own = credentials(&signer_of(2).public_key(), b"");
        let key = signer_of(2).public_key();
        let binding = hallmark_attestation::Binding::default().with_key(Purpose::Receipt, &key).unwrap();
        signed(&Credentials { binding, ..own }, &session, 2)
    });
    assert_eq!(purpose.await, [Binding, TlsKey]);
    // The genuine key's leaf named in the session, which is not this one's.
    let leaf = refused(2, false, |session| {
        let session = super::Session { server_leaf: digest(&theirs), ..session };
        signed(&credentials(&theirs, b""), &session, 1)
    });
    assert_eq!(leaf.await, [TlsKey, Session]);
}

#[tokio::test]
async fn a_signature_counts_for_one_session_one_role_and_one_nonce() {
    let own = || credentials(&signer_of(1).public_key(), b"");
    let control = |session: Session<'_>| signed(&own(), &session, 1);
    // Nothing is wrong: the same server is accepted.
    let (ours, theirs) = pair().await;
    let honest = connector(false);
    let (heard, said) = tokio::join!(lying_server(1, theirs, control), say(&honest, ours));
    assert!(said.is_ok() && heard == SECRET);
    let wrong: [fn(Session<'_>) -> Vec<u8>; 5] = [
        |session| Session { role: Role::Client, ..session }.to_be_signed(),
        |session| Session { nonce: &[9; 32], ..session }.to_be_signed(),
        |session| Session { exporter: &[9; 32], ..session }.to_be_signed(),
        |session| Session { client_leaf: Some(session.server_leaf), ..session }.to_be_signed(),
        |session| Session { server_leaf: Digest([9; 32]), ..session }.to_be_signed(),
    ];
    for wrong in wrong {
        let answer = |session: Session<'_>| {
            [own().encode().unwrap(), signer_of(1).sign(&wrong(session)).unwrap()].concat()
        };
        assert_eq!(refused(1, false, answer).await, [CheckId::Session]);
    }
}

#[tokio::test]
async fn an_old_session_cannot_be_played_again() {
    let acceptor = Acceptor::new(presenter(Form::Nitro, 1)).unwrap();
    // What the genuine server said to somebody, taken down by that somebody.
    let (ours, theirs) = pair().await;
    let listening = connector(false);
    let taking_down = async {
        let mut stream = open(&listening, ours).await;
        let hello = Hello { nonce: [7; 32], wants: Wants::Fresh };
        frame::write(&mut stream, &[&hello.encode()]).await.unwrap();
        frame::read(&mut stream, 34).await.unwrap();
        frame::read(&mut stream, MAX_MESSAGE).await.unwrap()
    };
    let (taken_down, _) = tokio::join!(taking_down, hear(&acceptor, theirs));
    // Even who has the key by now signs nothing with an old signature; fresh evidence is of its own session.
    let replayed = refused(1, true, |_| taken_down.clone()).await;
    assert_eq!(replayed, [CheckId::Nonce, CheckId::Session, CheckId::Freshness]);
}

#[tokio::test]
async fn fresh_evidence_must_be_fresh() {
    let key = || signer_of(1).public_key();
    let stale = refused(1, true, |session| signed(&credentials(&key(), b""), &session, 1)).await;
    assert_eq!(stale, [CheckId::Nonce, CheckId::Freshness]);
    let others = refused(1, true, |session| signed(&credentials(&key(), &[5; 32]), &session, 1)).await;
    assert_eq!(others, [CheckId::Nonce, CheckId::Freshness]);
}

#[tokio::test]
async fn old_evidence_is_refused_by_a_policy_that_sets_an_age() {
    let (producer, _) = twisted(Form::Nitro, |request| Request { at: request.at - 3600, ..request });
    let acceptor = Acceptor::new(presenter_of(1, vec![producer])).unwrap();
    let policy = Policy::parse("name = 'p'\n[nitro]\nmax_age_seconds = 600").unwrap();
    let connector = Connector::new(Requirements { policy, ..requirements(false) }).unwrap();
    let (ours, theirs) = pair().await;
    let ((heard, _), said) = tokio::join!(hear(&acceptor, theirs), say(&connector, ours));
    assert!(heard.is_empty());
    assert!(matches!(&reasons(said)[..], [(CheckId::Age, Reason::TooOld { limit_seconds: 600, .. })]));
}

#[tokio::test]
async fn development_evidence_is_refused_unless_asked_for() {
    for form in [Form::Nitro, Form::TdxV4, Form::SnpV2] {
        let acceptor = Acceptor::new(presenter(form, 1)).unwrap();
        let plain = Requirements { dangerously_accept_simulated: Vec::new(), ..requirements(false) };
        let connector = Connector::new(plain).unwrap();
        let (ours, theirs) = pair().await;
        let ((heard, _), said) = tokio::join!(hear(&acceptor, theirs), say(&connector, ours));
        assert!(heard.is_empty());
        assert!(matches!(&reasons(said)[..], [(CheckId::Root, Reason::SimulatedRoot { .. })]), "{form:?}");
    }
}

#[tokio::test]
async fn a_client_that_reflects_the_servers_words_is_refused() {
    let acceptor = Acceptor::requiring(presenter(Form::Nitro, 1), requirements(false)).unwrap();
    // It has an environment's TLS key of its own, and only the server's evidence.
    let connector = Connector::showing(presenter(Form::Nitro, 2), requirements(false)).unwrap();
    let (ours, theirs) = pair().await;
    let mirror = async {
        let mut stream = open(&connector, ours).await;
        let hello = Hello { nonce: [7; 32], wants: Wants::Presentation };
        frame::write(&mut stream, &[&hello.encode()]).await.unwrap();
        // The server asks with a nonce of its own; the answer to ours is thrown back at it, and words of the application behind.
        frame::read(&mut stream, 34).await.unwrap();
        let presentation = frame::read(&mut stream, MAX_MESSAGE).await.unwrap();
        frame::write(&mut stream, &[&presentation]).await.unwrap();
        stream.write_all(SECRET).await.unwrap();
        all(stream).await
    };
    let (answered, (heard, client)) = tokio::join!(mirror, hear(&acceptor, theirs));
    assert!(answered.is_empty() && heard.is_empty());
    assert_eq!(ids(client.map(Option::unwrap)), [CheckId::TlsKey, CheckId::Session]);
}

#[tokio::test]
async fn a_server_that_reflects_the_clients_words_is_refused() {
    // The same environment opens connections and accepts them, both with its one key.
    let own = presenter(Form::Nitro, 2);
    let connector = Connector::showing(Arc::clone(&own), requirements(false)).unwrap();
    let accepting = Acceptor::new(own).unwrap();
    let ((ours, taken), (onward, at_own)) = (pair().await, pair().await);
    let mirror = async {
        let mut front = handshake(3, true, taken).await;
        let mut back = open(&super::connector(false), onward).await;
        let hello = frame::read(&mut front, 34).await.unwrap();
        frame::write(&mut back, &[&hello]).await.unwrap();
        frame::read(&mut back, 34).await.unwrap();
        let presentation = frame::read(&mut back, MAX_MESSAGE).await.unwrap();
        drop(back);
        let hello = Hello { nonce: [7; 32], wants: Wants::Presentation };
        frame::write(&mut front, &[&hello.encode(), &presentation]).await.unwrap();
        all(front).await
    };
    let (heard, said, _) = tokio::join!(mirror, say(&connector, ours), hear(&accepting, at_own));
    assert_eq!(ids(said), [CheckId::TlsKey, CheckId::Session]);
    // Neither its presentation nor its secret came.
    assert!(heard.is_empty());
}

#[tokio::test]
async fn a_required_environment_must_be_there_and_be_accepted() {
    let acceptor = Acceptor::requiring(presenter(Form::Nitro, 1), requirements(false)).unwrap();
    // A plain client: TLS itself refuses it.
    let (ours, theirs) = pair().await;
    let plain = connector(false);
    let ((heard, client), said) = tokio::join!(hear(&acceptor, theirs), say(&plain, ours));
    assert!(heard.is_empty() && said.is_err());
    assert!(matches!(client, Err(TlsError::Handshake(_))));
    // One whose evidence ends in a root of its own.
    let other: SharedProducer = Box::new(Provider::new(Form::SnpV2).with_seed([9; 32]));
    let connector = Connector::showing(presenter_of(2, vec![other]), requirements(false)).unwrap();
    let (ours, theirs) = pair().await;
    let ((heard, client), said) = tokio::join!(hear(&acceptor, theirs), say(&connector, ours));
    assert!(heard.is_empty() && matches!(said, Err(TlsError::Closed(_))));
    assert_eq!(ids(client.map(Option::unwrap)), [CheckId::Root]);
}

#[tokio::test]
async fn a_server_that_wants_an_environment_of_a_plain_client_gets_nothing() {
    let (ours, theirs) = pair().await;
    let server = async {
        let mut stream = handshake(1, false, theirs).await;
        frame::read(&mut stream, 34).await.unwrap();
        let hello = Hello { nonce: [0; 32], wants: Wants::Presentation };
        frame::write(&mut stream, &[&hello.encode(), &DONE]).await.unwrap();
        all(stream).await
    };
    let connector = connector(false);
    let (heard, said) = tokio::join!(server, say(&connector, ours));
    assert!(heard.is_empty() && matches!(said, Err(TlsError::NoEnvironment)));
}

/// Shows a key that it has not got.
struct Thief {
    shown: PublicKey,
    own: SharedSigner,
}

impl Signer for Thief {
    fn public_key(&self) -> PublicKey {
        self.shown
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        self.own.sign(message)
    }
}

#[tokio::test]
async fn a_leaf_without_its_key_ends_the_handshake() {
    let thief = || {
        let signer = Arc::new(Thief { shown: signer_of(1).public_key(), own: signer_of(3) });
        let producers: Vec<SharedProducer> = vec![Box::new(Provider::new(Form::Nitro))];
        Arc::new(Presenter::new(signer, Binding::default(), producers, HOUR).unwrap())
    };
    let acceptor = Acceptor::new(thief()).unwrap();
    let honest = connector(false);
    let (ours, theirs) = pair().await;
    let ((heard, _), said) = tokio::join!(hear(&acceptor, theirs), say(&honest, ours));
    assert!(heard.is_empty() && matches!(said, Err(TlsError::Handshake(_))));

    let acceptor = Acceptor::requiring(presenter(Form::Nitro, 5), requirements(false)).unwrap();
    let connector = Connector::showing(thief(), requirements(false)).unwrap();
    let (ours, theirs) = pair().await;
    let ((heard, client), said) = tokio::join!(hear(&acceptor, theirs), say(&connector, ours));
    assert!(heard.is_empty() && said.is_err());
    assert!(matches!(client, Err(TlsError::Handshake(_))));
}
