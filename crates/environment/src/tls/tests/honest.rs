//! Honest sides.

use hallmark_attestation::x509::Certificate;

use super::*;

#[tokio::test]
async fn every_form_of_evidence_carries_a_connection() {
    for (seed, form) in Form::ALL.into_iter().filter(|form| form.kind() != Kind::Nvidia).enumerate() {
        for fresh in [false, true] {
            let presenter = presenter(form, u8::try_from(seed + 1).unwrap());
            let acceptor = Acceptor::new(Arc::clone(&presenter)).unwrap();
            let connector = connector(fresh);
            let (ours, theirs) = pair().await;
            let ((heard, client), peer) = tokio::join!(hear(&acceptor, theirs), say(&connector, ours));
            let peer = peer.unwrap_or_else(|error| panic!("{form:?}, fresh {fresh}: {error}"));
            assert_eq!((&heard[..], client.unwrap()), (SECRET, None), "{form:?}");
            assert_eq!((peer.attested().kind(), peer.attested().is_simulated()), (form.kind(), true));
            assert_eq!(peer.key(), presenter.key());
            let report = &peer.reports()[0];
            for id in [CheckId::TlsKey, CheckId::Session, CheckId::Binding] {
                assert!(report.check(id).unwrap().has_passed(), "{form:?}: {id}");
            }
            assert_eq!(report.check(CheckId::Freshness).unwrap().has_passed(), fresh);
            let session = report.check(CheckId::Session).unwrap().got.clone().unwrap();
            assert_eq!(
                session,
                "role, exporter, nonce, the server's leaf, no leaf of a client, who showed none"
            );
        }
    }
}

#[tokio::test]
async fn bytes_go_both_ways() {
    let acceptor = Acceptor::new(presenter(Form::TdxV5, 1)).unwrap();
    let connector = connector(false);
    let (ours, theirs) = pair().await;
    let ((accepted, _), (connected, _)) = {
        let (accepted, connected) = tokio::join!(acceptor.accept(theirs), connector.connect(ours));
        (accepted.unwrap(), connected.unwrap())
    };
    assert!(accepted.deadline().is_none() && connected.deadline().is_some());
    let (mut from, mut to) = tokio::io::split(accepted);
    let echo = tokio::spawn(async move {
        tokio::io::copy(&mut from, &mut to).await.unwrap();
        to.shutdown().await.unwrap();
    });
    let sent: Vec<u8> = (0..1_000_000_u32).map(|at| at.to_le_bytes()[0]).collect();
    let (from, mut to) = tokio::io::split(connected);
    let writing = async {
        to.write_all(&sent).await.unwrap();
        to.shutdown().await.unwrap();
    };
    let ((), heard) = tokio::join!(writing, all(from));
    assert!(heard == sent);
    echo.await.unwrap();
}

#[tokio::test]
async fn a_gpu_is_paired_by_the_digest_of_the_keys() {
    let with_gpu = || -> Vec<SharedProducer> {
        vec![Box::new(Provider::new(Form::SnpV5)), Box::new(Provider::new(Form::Nvidia))]
    };
    let acceptor = Acceptor::new(presenter_of(1, with_gpu())).unwrap();
    let connector = connector(true);
    let (ours, theirs) = pair().await;
    let ((heard, _), peer) = tokio::join!(hear(&acceptor, theirs), say(&connector, ours));
    let peer = peer.unwrap();
    assert_eq!(heard, SECRET);
    let [_, gpu] = peer.reports() else { panic!() };
    assert!(gpu.check(CheckId::Pairing).unwrap().has_passed() && gpu.check(CheckId::TlsKey).is_none());

    // A GPU that answers something else, and a GPU alone: nothing is said.
    let (elsewhere, _) = twisted(Form::Nvidia, |request| Request { nonce: vec![1; 32], ..request });
    let others = [vec![Box::new(Provider::new(Form::SnpV5)), elsewhere], with_gpu().split_off(1)];
    for producers in others {
        let acceptor = Acceptor::new(presenter_of(1, producers)).unwrap();
        let (ours, theirs) = pair().await;
        let ((heard, _), peer) = tokio::join!(hear(&acceptor, theirs), say(&connector, ours));
        assert!(heard.is_empty() && matches!(peer, Err(TlsError::Refused(_))));
    }
}

#[tokio::test]
async fn both_sides_may_show_themselves() {
    for fresh in [false, true] {
        let acceptor = Acceptor::requiring(presenter(Form::Nitro, 1), requirements(fresh)).unwrap();
        let connector = Connector::showing(presenter(Form::SnpV3, 2), requirements(fresh)).unwrap();
        let (ours, theirs) = pair().await;
        let ((heard, client), server) = tokio::join!(hear(&acceptor, theirs), say(&connector, ours));
        let (client, server) = (client.unwrap().unwrap(), server.unwrap());
        assert_eq!(heard, SECRET);
        assert_eq!((server.attested().kind(), client.attested().kind()), (Kind::Nitro, Kind::SevSnp));
        for peer in [&server, &client] {
            let session = peer.reports()[0].check(CheckId::Session).unwrap().got.clone().unwrap();
            assert_eq!(session, "role, exporter, nonce, the server's leaf, the client's leaf");
        }
    }
    // An environment that nobody asks for stays unshown.
    let acceptor = Acceptor::new(presenter(Form::Nitro, 1)).unwrap();
    let connector = Connector::showing(presenter(Form::SnpV3, 2), requirements(false)).unwrap();
    let (ours, theirs) = pair().await;
    let ((heard, client), server) = tokio::join!(hear(&acceptor, theirs), say(&connector, ours));
    assert_eq!((&heard[..], client.unwrap()), (SECRET, None));
    assert!(server.is_ok());
}

#[tokio::test]
async fn evidence_is_kept_until_its_time_and_fresh_evidence_is_not() {
    for (refresh_every, expected) in [(HOUR, 1), (Duration::ZERO, 3)] {
        let (producer, asked) = twisted(Form::Nitro, |request| request);
        let signer = signer(Alg::P256, 1);
        let presenter = Presenter::new(signer, Binding::default(), vec![producer], refresh_every).unwrap();
        let acceptor = Acceptor::new(Arc::new(presenter)).unwrap();
        for (fresh, expected) in [(false, expected), (true, expected + 3)] {
            for _ in 0..3 {
                let (ours, theirs) = pair().await;
                let connector = connector(fresh);
                let ((heard, _), _) = tokio::join!(hear(&acceptor, theirs), say(&connector, ours));
                assert_eq!(heard, SECRET);
            }
            assert_eq!(asked.load(Ordering::SeqCst), expected);
        }
    }
}

/// Makes evidence once.
struct Once(AtomicUsize);

impl Producer for Once {
    fn kind(&self) -> Kind {
        Kind::Nitro
    }

    fn produce(&self, request: &Request) -> Result<Evidence, ProduceError> {
        match self.0.fetch_add(1, Ordering::SeqCst) {
            0 => Provider::new(Form::Nitro).produce(request),
            _ => Err(ProduceError::Seed),
        }
    }
}

#[tokio::test]
async fn old_evidence_outlives_a_device_and_fresh_evidence_needs_one() {
    let producers: Vec<SharedProducer> = vec![Box::new(Once(AtomicUsize::new(0)))];
    let presenter =
        Presenter::new(signer(Alg::P256, 1), Binding::default(), producers, Duration::ZERO).unwrap();
    let acceptor = Acceptor::new(Arc::new(presenter)).unwrap();
    for (fresh, expected) in [(false, SECRET), (false, SECRET), (true, b"")] {
        let (ours, theirs) = pair().await;
        let connector = connector(fresh);
        let ((heard, accepted), _) = tokio::join!(hear(&acceptor, theirs), say(&connector, ours));
        assert_eq!(heard, expected);
        assert_eq!(matches!(accepted, Err(TlsError::Produce(ProduceError::Seed))), fresh);
    }
}

/// A device that answers when it is let.
struct Slow {
    begun: tokio::sync::mpsc::UnboundedSender<()>,
    go_on: std::sync::Mutex<std::sync::mpsc::Receiver<()>>,
}

impl Producer for Slow {
    fn kind(&self) -> Kind {
        Kind::Nitro
    }

    fn produce(&self, request: &Request) -> Result<Evidence, ProduceError> {
        self.begun.send(()).unwrap();
        self.go_on.lock().unwrap().recv().unwrap();
        Provider::new(Form::Nitro).produce(request)
    }
}

#[tokio::test(start_paused = true)]
async fn evidence_that_nobody_waits_for_any_more_is_kept_all_the_same() {
    let (begun, mut has_begun) = tokio::sync::mpsc::unbounded_channel();
    let (go, go_on) = std::sync::mpsc::channel();
    let producer = Box::new(Slow { begun, go_on: go_on.into() });
    let acceptor = Acceptor::new(presenter_of(1, vec![producer])).unwrap();
    let connector = connector(false);
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let too_late = async {
        has_begun.recv().await.unwrap();
        tokio::time::advance(HOUR).await;
    };
    let ((heard, accepted), said, ()) =
        tokio::join!(hear(&acceptor, theirs), say(&connector, ours), too_late);
    assert!(heard.is_empty() && matches!((accepted, said), (Err(TlsError::TimedOut { .. }), Err(_))));
    // Once: a second time the device would not be let.
    go.send(()).unwrap();
    drop(go);
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let ((heard, _), said) = tokio::join!(hear(&acceptor, theirs), say(&connector, ours));
    assert!(said.is_ok() && heard == SECRET);
}

#[tokio::test]
async fn pinned_code_is_the_default() {
    let acceptor = Acceptor::new(presenter(Form::Nitro, 1)).unwrap();
    let judged = async |requirements: Requirements| {
        let connector = Connector::new(requirements).unwrap();
        let (ours, theirs) = pair().await;
        let ((heard, _), peer) = tokio::join!(hear(&acceptor, theirs), say(&connector, ours));
        assert_eq!(heard.is_empty(), peer.is_err());
        peer
    };
    let pinned = |policy: Policy| Requirements { policy, code: Code::Pinned, ..requirements(false) };
    let error = judged(pinned(Policy::genuine())).await.unwrap_err();
    assert!(error.to_string().contains("pins no code"), "{error}");
    let peer = judged(requirements(false)).await.unwrap();
    let pcr0 = peer.attested().measurements().values().next().unwrap();
    let release = |value: &str| {
        let text = format!("name = 'p'\n[[nitro.measurements]]\nname = 'r'\npcr0 = '{value}'");
        pinned(Policy::parse(&text).unwrap())
    };
    assert!(judged(release(&hallmark_receipt::wire::to_hex(pcr0))).await.is_ok());
    assert_eq!(ids(judged(release(&"11".repeat(48))).await), [CheckId::Measurements]);
}

#[test]
fn a_leaf_is_a_certificate_that_its_key_signed() {
    use rustls::client::ResolvesClientCert as _;
    for alg in Alg::ALL {
        let signer = signer(alg, 5);
        let shown = leaf::resolver(Arc::clone(&signer)).unwrap().resolve(&[], &[]).unwrap();
        assert_eq!(leaf::key(Some(&shown.cert)), Ok(signer.public_key()));
        let two = [&shown.cert[..], &shown.cert[..]].concat();
        assert_eq!(leaf::key(Some(&two)), Err(LeafError::Count { got: 2 }));
        assert_eq!(leaf::key(None), Err(LeafError::Count { got: 0 }));
        let cut = shown.cert[0].to_vec();
        let cut = [rustls::pki_types::CertificateDer::from(cut[..cut.len() - 1].to_vec())];
        assert_eq!(leaf::key(Some(&cut)), Err(LeafError::Form));
        if alg == Alg::P256 {
            let certificate = Certificate::parse(&shown.cert[0]).unwrap();
            assert_eq!(certificate.verify_signature(&certificate), Ok(()));
            assert_eq!((certificate.not_before, certificate.not_after), (0, 253_402_300_799));
        }
    }
}
