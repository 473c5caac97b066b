//! From evidence alone to its acceptance, by way of makers that serve, fail, stall and lie. Sockets are real, the makers are ours.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod maker;

use std::sync::Arc;
use std::time::{Duration, Instant};

use hallmark_attestation::collateral::{ContentError, Need, Snapshot, Wanted};
use hallmark_attestation::simulated::{Flaw, Form, Provider};
use hallmark_attestation::snp::Product;
use hallmark_attestation::{
    CheckId, Context, Dangers, Decision, Evidence, Input, Kind, Policy, Producer as _, Report, Request,
    anchors, verify,
};
use hallmark_environment::collateral::{
    Amd, Cache, CollectError, Collected, Collector, Config, FetchCause, FetchError, Intel, Lists, Nvidia,
    Origin, Patience, Sources,
};
use maker::{Act, Maker};

const AT: u64 = 1_770_000_000;
const DAY: u64 = 86_400;

/// Evidence of this form, its report data or nonce that of nobody.
fn produce(provider: &Provider) -> Evidence {
    let provider = provider.clone().with_distribution_points();
    let nonce = if provider.kind() == Kind::Nvidia { vec![7; 32] } else { Vec::new() };
    provider.produce(&Request { report_data: Vec::new(), nonce, at: AT }).unwrap()
}

/// The certificates that come with evidence: NVIDIA's chain; AMD's VLEK, which nobody else can have. Everything else is to be brought.
fn given(form: Form, evidence: &Evidence) -> Vec<&[u8]> {
    let all = evidence.certificates.iter().map(Vec::as_slice);
    match form {
        Form::Nvidia => all.collect(),
        Form::SnpVlek => all.take(1).collect(),
        _ => Vec::new(),
    }
}

/// Long enough for a machine that does other things, short in its pauses.
fn patience() -> Patience {
    let seconds = Duration::from_secs;
    Patience {
        connect: seconds(10),
        head: seconds(10),
        between: seconds(10),
        body: seconds(10),
        attempts: 3,
        pause: Duration::from_millis(20),
        longest_pause: Duration::from_millis(1500),
        whole: seconds(30),
    }
}

/// For makers that stall.
fn hasty(base: &str) -> Collector {
    let millis = Duration::from_millis;
    let patience = Patience { head: millis(700), between: millis(400), body: millis(800), ..patience() };
    Collector::new(Config { patience, ..config(base) }).unwrap()
}

fn config(base: &str) -> Config {
    let sources = Sources {
        intel: Intel { base: base.to_owned(), root_crl: format!("{base}/IntelSGXRootCA.der") },
        amd: Amd { base: base.to_owned() },
        nvidia: Nvidia { ocsp: base.to_owned() },
        lists: Lists { hosts: vec!["crl.simulated.invalid".to_owned()], mirror: Some(format!("{base}/")) },
    };
    let wanted = Wanted { product: Some(Product::Milan), ..Wanted::default() };
    Config { sources, patience: patience(), cache: None, wanted }
}

/// A maker that publishes what `provider`'s evidence needs, and a collector that asks it and nobody else.
async fn published(provider: &Provider, form: Form) -> (Maker, Evidence) {
    let (maker, evidence) = (Maker::start().await, produce(provider));
    maker.publish(form, &evidence);
    (maker, evidence)
}

async fn collect(
    collector: &Collector,
    form: Form,
    evidence: &Evidence,
    at: u64,
) -> Result<Collected, CollectError> {
    let certificates = given(form, evidence);
    let input = Input { certificates: &certificates, ..Input::of(&evidence.evidence) };
    collector.collect(form.kind(), &input, at).await
}

/// The verdict on the evidence, what was given with it, and a snapshot's file; revocation is required.
fn judge(form: Form, evidence: &Evidence, snapshot: Option<&str>) -> Report {
    let snapshot = snapshot.map(|file| Snapshot::parse(file.as_bytes()).unwrap()).unwrap_or_default();
    let kind = form.kind();
    let given = given(form, evidence);
    let input = Input { certificates: &given, ..Input::of(&evidence.evidence) };
    let selection = snapshot.for_evidence(kind, &input).unwrap();
    let certificates = [&given[..], &selection.certificates].concat();
    let input = Input { certificates: &certificates, collateral: &selection.collateral, ..input };
    let policy = format!("name = 'revocation'\n[{}]\nrequire = ['revocation']", kind.name());
    let policy = Policy::parse(&policy).unwrap();
    let roots = anchors::development();
    let dangers = Dangers { accept_simulated: &roots, ..Dangers::default() };
    verify(kind, &input, &Context { dangers, ..Context::new(AT, &policy) })
}

fn fetch_error(result: Result<Collected, CollectError>) -> FetchError {
    match result {
        Err(CollectError::Incomplete { mut failed, .. }) => failed.remove(0),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn evidence_of_every_form_is_accepted_with_what_was_collected_for_it() {
    for form in Form::ALL {
        let (maker, evidence) = published(&Provider::new(form), form).await;
        let folder = tempfile::tempdir().unwrap();
        let cache = Some(Cache::new(folder.path()));
        let collector = Collector::new(Config { cache, ..config(&maker.base) }).unwrap();
        assert!(!judge(form, &evidence, None).is_accepted(), "{form:?}");
        let collected = collect(&collector, form, &evidence, AT).await.unwrap();
        assert!(collected.origins.iter().all(|(_, origin)| *origin == Origin::Source), "{form:?}");
        assert_eq!(maker.asked(), collected.origins.len() as u32, "{form:?}");
        let file = collected.snapshot.to_json();
        let report = judge(form, &evidence, Some(&file));
        assert!(report.is_accepted(), "{form:?}: {:?} {:?}", report.decision, report.checks);
        assert!(report.check(CheckId::Revocation).unwrap().has_passed());
        assert_eq!(collected.left_out.is_empty(), form != Form::Nvidia);
        // Once more, from the cache: nobody is asked.
        let again = collect(&collector, form, &evidence, AT).await.unwrap();
        assert!(again.origins.iter().all(|(_, origin)| *origin == Origin::Cache), "{form:?}");
        assert_eq!((again.snapshot.to_json(), maker.asked()), (file, 0));
        assert_eq!(collected.unkept, []);
    }
}

/// One snapshot may serve many: what belongs to others is not handed to the verifier.
#[tokio::test]
async fn one_snapshot_serves_evidence_of_several_makers() {
    let mut all = Snapshot::default();
    let mut pieces = Vec::new();
    for form in Form::ALL {
        let (maker, evidence) = published(&Provider::new(form), form).await;
        let collected =
            collect(&Collector::new(config(&maker.base)).unwrap(), form, &evidence, AT).await.unwrap();
        collected.snapshot.items().for_each(|item| all.insert(item.clone()));
        pieces.push((form, evidence));
    }
    for (form, evidence) in pieces {
        // TDX 1.0 and 1.5 have one platform here, and TCB infos of one name.
        let report = judge(form, &evidence, Some(&all.to_json()));
        assert!(report.is_accepted(), "{form:?}: {:?}", report.checks);
    }
}

#[tokio::test]
async fn makers_that_fail_are_given_up_on_in_time() {
    const LIST: &str = "/vlek/v1/Milan/crl";
    let form = Form::SnpVlek;
    let (maker, evidence) = published(&Provider::new(form), form).await;
    let collector = hasty(&maker.base);
    let busy = |seconds: &str| Act::Status(429, vec![("retry-after", seconds.to_owned())]);
    /// How the list is answered, how often it is asked for, and the error.
    type Case = (Act, u32, fn(&FetchCause) -> bool);
    let cases: [Case; 13] = [
        (Act::Status(500, Vec::new()), 3, |cause| *cause == FetchCause::Status { status: 500 }),
        (Act::Status(404, Vec::new()), 1, |cause| *cause == FetchCause::Status { status: 404 }),
        (Act::Status(204, Vec::new()), 1, |cause| *cause == FetchCause::Status { status: 204 }),
        (Act::Status(302, vec![("location", maker.base.clone())]), 1, |cause| {
            *cause == FetchCause::Redirect { status: 302 }
        }),
        (Act::Status(503, Vec::new()), 3, |cause| {
            *cause == FetchCause::Busy { status: 503, retry_after: None }
        }),
        // A pause that is longer than anybody waits here.
        (busy("3600"), 1, |cause| matches!(cause, FetchCause::Busy { status: 429, retry_after: Some(_) })),
        (busy("99999999999999999999"), 3, |cause| {
            matches!(cause, FetchCause::Busy { retry_after: None, .. })
        }),
        (Act::Silence, 3, |cause| matches!(cause, FetchCause::NoAnswer { .. })),
        (Act::HalfThenSilence, 3, |cause| matches!(cause, FetchCause::Stalled { .. })),
        (Act::HalfThenClose, 3, |cause| matches!(cause, FetchCause::Cut { .. })),
        (Act::Endless, 1, |cause| matches!(cause, FetchCause::TooLarge { .. })),
        (Act::EndlessHead, 3, |cause| matches!(cause, FetchCause::Cut { .. })),
        (Act::Serve(Vec::new(), b"<html>garbage</html>".to_vec()), 1, |cause| {
            matches!(cause, FetchCause::Content(ContentError::Crl(_)))
        }),
    ];
    for (act, attempts, is_expected) in cases {
        maker.on(LIST, act.clone());
        maker.asked();
        let start = Instant::now();
        let error = fetch_error(collect(&collector, form, &evidence, AT).await);
        let took = start.elapsed();
        println!("{took:?} {act:?}: {error}; {}", error.hint());
        assert!(is_expected(&error.cause), "{act:?}: {error:?}");
        assert_eq!((error.attempts, error.path.as_str()), (attempts, LIST), "{act:?}");
        assert_eq!(format!("http://{}", error.host), maker.base);
        // The chain was asked for too, once.
        assert!(maker.asked() <= attempts + 1, "{act:?}");
        // Three times the longest wait for a head or a body, the pauses, and what a busy machine adds.
        assert!(took < Duration::from_millis(3 * 800 + 2000), "{act:?}: {took:?}");
    }
}

/// With what there is a verifier says what it can, and does not accept.
#[tokio::test]
async fn what_could_be_collected_is_handed_out_all_the_same() {
    let form = Form::SnpVlek;
    let (maker, evidence) = published(&Provider::new(form), form).await;
    maker.on("/vlek/v1/Milan/crl", Act::Status(404, Vec::new()));
    let result = collect(&Collector::new(config(&maker.base)).unwrap(), form, &evidence, AT).await;
    let Err(CollectError::Incomplete { collected, failed }) = result else { panic!("{result:?}") };
    assert_eq!((collected.origins.len(), failed.len()), (1, 1));
    let report = judge(form, &evidence, Some(&collected.snapshot.to_json()));
    assert_eq!(report.decision, Decision::Undecided(vec![CheckId::Revocation]));
}

#[tokio::test]
async fn a_maker_that_fails_for_a_while_is_asked_again() {
    let form = Form::SnpVlek;
    let (maker, evidence) = published(&Provider::new(form), form).await;
    let collector = hasty(&maker.base);
    for first in [
        vec![Act::Status(500, Vec::new()), Act::Silence],
        vec![Act::HalfThenClose, Act::HalfThenSilence, Act::Status(502, Vec::new())],
    ] {
        maker.first(first.clone());
        collect(&collector, form, &evidence, AT).await.unwrap();
        assert_eq!(maker.asked(), first.len() as u32 + 2);
    }
    // A pause that is asked for is kept.
    let pause = || Act::Status(429, vec![("retry-after", "1".to_owned())]);
    maker.first(vec![pause(), pause()]);
    let start = Instant::now();
    collect(&collector, form, &evidence, AT).await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert_eq!(maker.asked(), 4);
}

#[tokio::test]
async fn everything_together_has_an_end() {
    let form = Form::TdxV4;
    let (maker, evidence) = published(&Provider::new(form), form).await;
    let whole = Duration::from_millis(600);
    let patience = Patience { attempts: 1000, head: Duration::from_secs(30), whole, ..patience() };
    let collector = Collector::new(Config { patience, ..config(&maker.base) }).unwrap();
    for act in [Act::Silence, Act::Status(500, Vec::new())] {
        maker.first(vec![act; 200]);
        let start = Instant::now();
        let error = fetch_error(collect(&collector, form, &evidence, AT).await);
        assert!(start.elapsed() < whole + Duration::from_secs(3), "{error:?}");
        assert!(
            matches!(error.cause, FetchCause::Deadline | FetchCause::Status { status: 500 }),
            "{error:?}"
        );
        assert!(error.attempts < 10, "{error:?}");
    }
    // TLS with somebody who does not speak it: the handshake has no end of its own.
    let tls = maker.base.replace("http://", "https://");
    let start = Instant::now();
    let error = fetch_error(collect(&hasty(&tls), form, &evidence, AT).await);
    assert!(matches!(error.cause, FetchCause::NoAnswer { .. } | FetchCause::Connect { .. }), "{error:?}");
    assert!(error.attempts == 3 && start.elapsed() < Duration::from_secs(5), "{error:?}");
    // Nobody there at all.
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    let error = fetch_error(collect(&Collector::new(config(&base)).unwrap(), form, &evidence, AT).await);
    assert!(matches!(error.cause, FetchCause::Connect { .. }) && error.attempts == 3, "{error:?}");
}

/// What comes is about what was asked for, and holds; whether it is signed, the verifier says.
#[tokio::test]
async fn answers_about_something_else_or_out_of_date_are_refused() {
    type Expected = fn(&ContentError) -> bool;
    let other: Expected = |error| matches!(error, ContentError::Other { .. });
    let expired: Expected = |error| matches!(error, ContentError::Expired { .. });
    let not_yet: Expected = |error| matches!(error, ContentError::NotYet { .. });
    for (form, flaw, expected) in [
        (Form::TdxV4, Flaw::OtherPlatform, other),
        (Form::Sgx, Flaw::TcbInfoId, other),
        (Form::TdxV5, Flaw::TcbInfoStale, expired),
        (Form::Sgx, Flaw::TcbInfoNotYet, not_yet),
        (Form::TdxV4, Flaw::QeIdentityStale, expired),
        (Form::TdxV4, Flaw::ListStale, expired),
        (Form::SnpV3, Flaw::ListNotYet, not_yet),
        (Form::Nvidia, Flaw::ListStale, expired),
        // A chip's certificate for other security versions, or of another chip.
        (Form::SnpV5, Flaw::OtherTcb, other),
        (Form::SnpV3, Flaw::ChipId, other),
        // Over plain HTTP anybody may answer: the list's signature is looked at before it is kept.
        (Form::Nitro, Flaw::ListSigner, |error| matches!(error, ContentError::Crl(_))),
    ] {
        let (maker, evidence) = published(&Provider::new(form).with_flaw(flaw), form).await;
        let folder = tempfile::tempdir().unwrap();
        let cache = Some(Cache::new(folder.path()));
        let collector = Collector::new(Config { cache, ..config(&maker.base) }).unwrap();
        let error = fetch_error(collect(&collector, form, &evidence, AT).await);
        let FetchCause::Content(content) = &error.cause else { panic!("{form:?} {flaw:?}: {error:?}") };
        assert!(expected(content), "{form:?} {flaw:?}: {error}");
    }
    // Something of the right form about another certificate.
    let form = Form::Nvidia;
    let evidence = produce(&Provider::new(form));
    let bare = Maker::start().await;
    bare.on("/", Act::Serve(Vec::new(), evidence.collateral[0].clone()));
    let error = fetch_error(collect(&Collector::new(config(&bare.base)).unwrap(), form, &evidence, AT).await);
    assert!(matches!(error.cause, FetchCause::Content(ContentError::Other { .. })), "{error:?}");
    // A signer's certificates that are none, or do not come.
    for headers in [Vec::new(), vec![("tcb-info-issuer-chain", "none%20".to_owned())]] {
        let form = Form::TdxV4;
        let (maker, evidence) = published(&Provider::new(form), form).await;
        let body = b"{\"tcbInfo\":{},\"signature\":\"00\"}".to_vec();
        maker.on("/tdx/certification/v4/tcb?fmspc=514D554C0000&update=standard", Act::Serve(headers, body));
        let error =
            fetch_error(collect(&Collector::new(config(&maker.base)).unwrap(), form, &evidence, AT).await);
        assert!(matches!(error.cause, FetchCause::Content(_) | FetchCause::Header { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn hosts_that_only_a_certificate_names_are_not_asked() {
    let form = Form::Nitro;
    let (maker, evidence) = published(&Provider::new(form), form).await;
    let mut config = config(&maker.base);
    config.sources.lists.hosts = Lists::default().hosts;
    let error = fetch_error(collect(&Collector::new(config).unwrap(), form, &evidence, AT).await);
    assert_eq!((error.cause, error.host.as_str()), (FetchCause::HostNotAllowed, "crl.simulated.invalid"));
    assert_eq!((error.attempts, maker.asked()), (0, 0));
}

#[tokio::test]
async fn a_maker_that_is_down_is_replaced_by_what_still_holds() {
    let form = Form::TdxV4;
    let (maker, evidence) = published(&Provider::new(form), form).await;
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::new(folder.path());
    let collector = Collector::new(Config { cache: Some(cache.clone()), ..config(&maker.base) }).unwrap();
    let fresh = collect(&collector, form, &evidence, AT).await.unwrap();
    // A day and a second later the cache is too old to be used unasked.
    let later = AT + DAY + 1;
    let again = collect(&collector, form, &evidence, later).await.unwrap();
    assert!(again.origins.iter().all(|(_, origin)| *origin == Origin::Source));
    let down = Maker::start().await;
    let collector = Collector::new(Config { cache: Some(cache), ..config(&down.base) }).unwrap();
    let kept = collect(&collector, form, &evidence, later + DAY + 1).await.unwrap();
    assert_eq!(kept.origins.len(), fresh.origins.len());
    for (need, origin) in &kept.origins {
        let Origin::Kept(error) = origin else { panic!("{need}: {origin:?}") };
        assert_eq!(error.cause, FetchCause::Status { status: 404 });
    }
    // The lists hold for seven days, and are no longer served after that.
    let error = fetch_error(collect(&collector, form, &evidence, AT + 7 * DAY + 1).await);
    assert!(error.what.contains("crl"), "{error}");
    // What is corrupt is as if it were not there.
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 100;
        bytes[last] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    fetch_error(collect(&collector, form, &evidence, later).await);
}

#[tokio::test]
async fn what_is_about_to_expire_is_renewed_ahead() {
    let form = Form::TdxV4;
    let (maker, evidence) = published(&Provider::new(form), form).await;
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache { max_age: Duration::from_secs(30 * DAY), ..Cache::new(folder.path()) };
    let collector = Collector::new(Config { cache: Some(cache), ..config(&maker.base) }).unwrap();
    collect(&collector, form, &evidence, AT).await.unwrap();
    maker.asked();
    // Lists hold for seven days, texts for thirty.
    let refreshed = collector.refresh(AT + 5 * DAY, DAY).await;
    assert_eq!((refreshed, maker.asked()), (Default::default(), 0));
    let refreshed = collector.refresh(AT + 6 * DAY, DAY).await;
    let lists = |needs: &[Need]| needs.iter().all(|need| matches!(need, Need::PckCrl(_) | Need::SgxRootCrl));
    assert!(refreshed.renewed.len() == 2 && lists(&refreshed.renewed), "{refreshed:?}");
    assert_eq!(maker.asked(), 2);
    // A maker that is down takes nothing away.
    maker.first(vec![Act::Status(500, Vec::new()); 6]);
    let refreshed = collector.refresh(AT + 6 * DAY, DAY).await;
    assert!(refreshed.failed.len() == 2 && refreshed.renewed.is_empty(), "{refreshed:?}");
    maker.asked();
    let collected = collect(&collector, form, &evidence, AT + 6 * DAY).await.unwrap();
    assert!(collected.origins.iter().all(|(_, origin)| *origin == Origin::Cache));
    // What expired long ago is forgotten, and nobody is asked for it.
    let refreshed = collector.refresh(AT + 61 * DAY, DAY).await;
    assert_eq!((refreshed.dropped.len(), refreshed.renewed.len(), maker.asked()), (4, 0, 0), "{refreshed:?}");
}

/// Who can answer for a maker can still not go back behind what was known: an older list may lack a revocation.
#[tokio::test]
async fn what_is_older_than_what_is_kept_does_not_replace_it() {
    let form = Form::TdxV4;
    let (maker, evidence) = published(&Provider::new(form), form).await;
    let folder = tempfile::tempdir().unwrap();
    let cache = Some(Cache::new(folder.path()));
    let collector = Collector::new(Config { cache, ..config(&maker.base) }).unwrap();
    let first = collect(&collector, form, &evidence, AT).await.unwrap();
    let before = Request { at: AT - 3600, ..Request::default() };
    maker.publish(form, &Provider::new(form).produce(&before).unwrap());
    let later = collect(&collector, form, &evidence, AT + 2 * DAY).await.unwrap();
    assert_eq!(later.snapshot, first.snapshot);
    for (need, origin) in later.origins {
        let Origin::Kept(error) = origin else { panic!("{need}: {origin:?}") };
        assert_eq!(error.cause, FetchCause::Older { kept: AT - DAY, got: AT - DAY - 3600 }, "{need}");
    }
    assert_eq!(collector.refresh(AT + 2 * DAY, 0).await.failed.len(), 4);
    assert_eq!(collect(&collector, form, &evidence, AT).await.unwrap().snapshot, first.snapshot);
}

/// Two collections at once, of one folder, each get all of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn collectors_share_a_cache() {
    let form = Form::SnpV3;
    let (maker, evidence) = published(&Provider::new(form), form).await;
    let folder = tempfile::tempdir().unwrap();
    let evidence = Arc::new(evidence);
    let runs = (0..6).map(|_| {
        let cache = Some(Cache::new(folder.path()));
        let collector = Collector::new(Config { cache, ..config(&maker.base) }).unwrap();
        let evidence = evidence.clone();
        tokio::spawn(async move { collect(&collector, form, &evidence, AT).await })
    });
    for run in runs.collect::<Vec<_>>() {
        let file = run.await.unwrap().unwrap().snapshot.to_json();
        assert!(judge(form, &evidence, Some(&file)).is_accepted());
    }
}
