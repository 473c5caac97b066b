//! Intel TDX and SGX: quotes (`attestation.md` §5), judged with what Intel publishes about platforms, as its quote verification library
//! ([DCAP](https://github.com/intel/confidential-computing.tee.dcap)) does.

mod body;
mod claims;
mod collateral;
mod eventlog;
mod pck;
mod published;
mod quote;
mod state;
mod tcb;

use hallmark_receipt::json::{Object, Value};
use sha2::{Digest as _, Sha256};

pub use body::{EnclaveReport, Td15, Td15Extended, TdAttribute, TdReport};
pub use collateral::{Collateral, CollateralError, Signed};
pub use eventlog::{Event, EventLog, EventLogError};
pub use pck::{Platform, PlatformError};
pub use published::{EnclaveIdentity, TcbInfo, TcbStatus};
pub use quote::{Body, Certification, Quote, QuoteError};
pub use state::{SgxPolicy, StateError, TdxPolicy};
pub use tcb::{TcbError, TcbPolicy};

use crate::bytes::is_zero;
use crate::check::{CheckId, Reason, Why};
use crate::crypto::{self, Form, PublicKey, Scheme};
use crate::measurement::Register;
use crate::report::{Context, Judgement, Report};
use crate::x509::{Certificate, Chain, ChainError, Rules, certificate_text};
use crate::{Input, Kind, encoding};
use published::Date;
use tcb::Reached;

/// Platform, its authority, root.
const RULES: Rules = Rules { longest: 3, schemes: &[Scheme::EcdsaP256], known: &[] };
/// What Intel publishes is signed by a key that the root itself certifies: no platform's key can pass for it.
const SIGNER_RULES: Rules = Rules { longest: 2, ..RULES };

const ALWAYS: &[CheckId] = &[
    CheckId::Format,
    CheckId::Collateral,
    CheckId::Root,
    CheckId::Chain,
    CheckId::Validity,
    CheckId::Signature,
    CheckId::Debug,
    CheckId::QeReport,
    CheckId::QeIdentity,
    CheckId::TcbInfo,
    CheckId::Tcb,
    CheckId::Attributes,
    CheckId::Platform,
];

/// Judges a quote of this kind.
pub fn verify(kind: Kind, input: &Input<'_>, context: &Context<'_>) -> Report {
    let policy = context.policy;
    let (common, asked) = match kind {
        Kind::Sgx => ((&policy.sgx).into(), &policy.sgx.own.tcb),
        _ => ((&policy.tdx).into(), &policy.tdx.own.tcb),
    };
    let mut judgement = Judgement::new(kind, context, common);
    let mut always = ALWAYS.to_vec();
    always.extend((kind == Kind::Tdx).then_some(CheckId::ServiceTd));
    // 1. The form: every byte of the quote has its place.
    let bytes = match encoding::decode(input.evidence) {
        Ok(bytes) => bytes,
        Err(error) => {
            judgement.record(CheckId::Format, Err::<&str, _>(error));
            return judgement.finish(&always, None);
        }
    };
    let quote = match parse(kind, &bytes) {
        Ok(quote) => quote,
        Err(error) => {
            judgement.record(CheckId::Format, Err::<&str, _>(error));
            return judgement.finish(&always, None);
        }
    };
    judgement.record(CheckId::Format, Ok::<_, Reason>(format!("quote of version {}", quote.version)));
    judgement.marked = quote.is_marked();
    // 2. What Intel publishes, as far as it was given.
    let collateral = match Collateral::read(input) {
        Ok(collateral) => collateral,
        Err(error) => {
            judgement.record(CheckId::Collateral, Err::<&str, _>(error));
            Collateral::default()
        }
    };
    // 3. The platform's certificate, and what it says of the platform.
    let der = platform_chain(&quote, &collateral);
    let chain = der.as_ref().map(|der| parse_chain(der, &RULES));
    let readable = chain.as_ref().and_then(|chain| chain.as_ref().ok());
    let leaf = readable.map(Chain::leaf);
    let platform = leaf.and_then(|leaf| match Platform::of(leaf) {
        Ok(platform) => {
            judgement.record(CheckId::Platform, state::platform(&platform, asked));
            Some(platform)
        }
        Err(error) => {
            judgement.record(CheckId::Platform, Err::<&str, _>(error));
            None
        }
    });
    if leaf.is_none() {
        judgement.skip(CheckId::Platform, Why::After(CheckId::Chain));
    }
    // 4. The published texts that are about this platform and its quoting enclave.
    let about = platform.map(|platform| *platform.fmspc);
    let info = select(&collateral.tcb_infos, |info: &TcbInfo| about == Some(info.fmspc.0));
    let id = if kind == Kind::Tdx { "TD_QE" } else { "QE" };
    let identity = select(&collateral.identities, |identity: &EnclaveIdentity| identity.id == id);
    let signers = [&info.as_ref().map(|(signed, _)| *signed), &identity.as_ref().map(|(signed, _)| *signed)]
        .map(|signed| signed.and_then(|signed| collateral.signer(signed)));
    collateral_row(&mut judgement, info.is_some(), identity.is_some(), &signers);
    // As a rule Intel signs both texts with one key, and the lists' issuer is the platform's: the same chain over again.
    let [info_signer, identity_signer] = &signers;
    let info_chain = info_signer.as_deref().map(signer_chain);
    let identity_chain = if info_signer == identity_signer {
        info_chain.clone()
    } else {
        identity_signer.as_deref().map(signer_chain)
    };
    // 5. - 7. Root, chain, validity and revocation, of everything that is signed.
    let lists = readable.and_then(|platform| {
        let issuers = collateral.list_issuers.as_ref()?.iter().map(Vec::as_slice);
        let der = std::iter::once(platform.leaf().der).chain(issuers);
        let is_seen = platform.certificates().iter().map(|certificate| certificate.der).eq(der.clone());
        (!is_seen).then(|| Chain::parse(der, &RULES).map_err(of("revocation lists")))
    });
    let other_identity_chain = if info_signer == identity_signer { &None } else { &identity_chain };
    let chains = [
        (&chain, &RULES),
        (&info_chain, &SIGNER_RULES),
        (other_identity_chain, &SIGNER_RULES),
        (&lists, &RULES),
    ];
    chain_rows(&mut judgement, chains, context.at);
    let parsed: Vec<&Chain<'_>> =
        chains.iter().filter_map(|(chain, _)| chain.as_ref()?.as_ref().ok()).collect();
    judgement.revocation(0, &parsed, &collateral.lists);
    // 8. The attestation key signed the quote, 9. and the quoting enclave, which the platform's key signed, vouches for that key.
    signature(&mut judgement, &quote);
    match leaf {
        Some(leaf) => judgement.record(CheckId::QeReport, qe_report(&quote, leaf.key)),
        None => judgement.skip(CheckId::QeReport, Why::After(CheckId::Chain)),
    }
    // 10. The quoting enclave is Intel's, 11. the platform's TCB info is.
    let without = |given: bool| if given { CheckId::Chain } else { CheckId::Collateral };
    let [has_info, has_identity] = [&info_chain, &identity_chain].map(|chain| chain.is_some());
    let qe = match (identity, &identity_chain) {
        (Some((signed, identity)), Some(Ok(chain))) => {
            let result = signed.verify(chain.leaf()).and_then(|()| {
                let identity = identity?;
                let reached = identity.verify(kind, &quote.qe_report, context.at)?;
                Ok((reached, identity.issue_date, identity.tcb_evaluation_data_number))
            });
            record(&mut judgement, CheckId::QeIdentity, result, |(reached, issued, _): &Found<Reached>| {
                format!("{} ({}), issued {}", id, reached.status, when(*issued))
            })
        }
        _ => {
            judgement.skip(CheckId::QeIdentity, Why::After(without(has_identity)));
            None
        }
    };
    let info = match (info, &info_chain, &platform) {
        (Some((signed, info)), Some(Ok(chain)), Some(platform)) => {
            let result = signed.verify(chain.leaf()).and_then(|()| {
                let info = info?;
                info.verify(kind, platform, context.at)?;
                let (issued, evaluation) = (info.issue_date, info.tcb_evaluation_data_number);
                Ok((info, issued, evaluation))
            });
            record(&mut judgement, CheckId::TcbInfo, result, |(info, issued, _): &Found<TcbInfo>| {
                format!("{} levels, issued {}", info.tcb_levels.len(), when(*issued))
            })
        }
        (Some(_), Some(Ok(_)), None) => {
            judgement.skip(CheckId::TcbInfo, Why::After(CheckId::Platform));
            None
        }
        _ => {
            judgement.skip(CheckId::TcbInfo, Why::After(without(has_info)));
            None
        }
    };
    // 12. What the platform is worth, 13. by an evaluation that is new enough.
    let td = match &quote.body {
        Body::Td(report) => Some(report),
        Body::Enclave(_) => None,
    };
    match (&info, &qe, &platform) {
        (Some((info, _, evaluation)), Some((qe, _, qe_evaluation)), Some(platform)) => {
            let worth = info.appraise(platform, td);
            if let Ok(worth) = &worth {
                let evaluation = *evaluation.min(qe_evaluation);
                let event_log = input.event_log;
                judgement.claim(|| claims::of(&quote, &worth.together(qe), evaluation, platform, event_log));
            }
            judgement.record(CheckId::Tcb, worth.and_then(|worth| worth.judge(qe, asked, context.at)));
        }
        (None, ..) => judgement.skip(CheckId::Tcb, Why::After(CheckId::TcbInfo)),
        _ => judgement.skip(CheckId::Tcb, Why::After(CheckId::QeIdentity)),
    }
    match (&info, &qe, asked.min_evaluation) {
        (Some((.., info)), Some((.., qe)), Some(least)) => {
            let got = *info.min(qe);
            let result = if got < least {
                Err(TcbError::Evaluation { least, got })
            } else {
                Ok(format!("evaluation {got}"))
            };
            judgement.record(CheckId::Evaluation, result);
        }
        (Some((.., info)), Some((.., qe)), None) => {
            judgement.skip(CheckId::Evaluation, Why::NoMinimum { got: *info.min(qe) });
        }
        _ => judgement.skip(CheckId::Evaluation, Why::After(CheckId::TcbInfo)),
    }
    // 14. - 16. The state that it runs in.
    let measurements = match &quote.body {
        Body::Td(report) => {
            judgement.debug(state::td_debug(report), "neither debugged nor profiled");
            judgement.record(CheckId::Attributes, state::td_attributes(report, &policy.tdx.own));
            judgement.record(CheckId::ServiceTd, state::service_td(report, &policy.tdx.own));
            report.measurements()
        }
        Body::Enclave(report) => {
            let debug = report.is_debug().then_some("the enclave's DEBUG attribute is set");
            judgement.debug(debug, "the enclave's DEBUG attribute is not set");
            judgement.record(CheckId::Attributes, state::enclave_attributes(report, &policy.sgx.own));
            report.measurements()
        }
    };
    // 17. - 22. What runs, for whom, and when.
    judgement.measurements(&measurements);
    if let Some(td) = td {
        event_log(&mut judgement, td, input.event_log);
    }
    judgement.skip(CheckId::Log, Why::NoLog);
    let data = quote.report_data();
    judgement.padded_nonce(data);
    judgement.binding("report data", data);
    match &info {
        Some((_, issued, _)) => judgement.skip(CheckId::Age, Why::CollateralOnly { issued: when(*issued) }),
        None => judgement.age(None),
    }
    judgement.finish(&always, Some((measurements, data.to_vec())))
}

/// Every field of a quote, for people.
pub fn show(kind: Kind, file: &[u8]) -> Result<Object, Reason> {
    let bytes = encoding::decode(file)?;
    let quote = parse(kind, &bytes)?;
    let mut fields = quote.fields();
    // Where it has a chain, the certificates and what the first says of the platform.
    if let Certification::Chain(pem) = quote.certification {
        let chain = pem_chain(pem)?;
        let certificates = chain.iter().map(|der| certificate_text(der)).collect();
        fields.insert("certification".to_owned(), Value::Array(certificates));
        let leaf = chain.first().and_then(|der| Certificate::parse(der).ok());
        if let Some(platform) = leaf.and_then(|leaf| Platform::of(&leaf).ok()) {
            fields.insert("platform".to_owned(), Value::Object(platform.fields()));
        }
    }
    Ok(fields)
}

/// The platform's chain, DER, leaf first: the quote's own, else the one that was given.
pub(crate) fn platform_certificates(kind: Kind, input: &Input<'_>) -> Result<Option<Vec<Vec<u8>>>, Reason> {
    let bytes = encoding::decode(input.evidence)?;
    platform_chain(&parse(kind, &bytes)?, &Collateral::read(input)?).transpose()
}

/// Step 1: a quote of this kind.
fn parse(kind: Kind, bytes: &[u8]) -> Result<Quote<'_>, QuoteError> {
    let quote = Quote::parse(bytes)?;
    if quote.kind() == kind { Ok(quote) } else { Err(QuoteError::Kind { got: quote.kind() }) }
}

/// Step 3: the chain that came in the quote. Where the quote has none, or beside it, one may have been given; if there are two, they
/// must be the same.
fn platform_chain(quote: &Quote<'_>, collateral: &Collateral) -> Option<Result<Vec<Vec<u8>>, Reason>> {
    let owned = |chain: Vec<&[u8]>| chain.into_iter().map(<[u8]>::to_vec).collect();
    match quote.certification {
        Certification::Chain(pem) => Some(pem_chain(pem).and_then(|chain| match &collateral.platform {
            Some(given) if *given != chain => Err(Reason::ChainDiffers),
            _ => Ok(chain),
        })),
        Certification::Platform { .. } => collateral.platform().map(|chain| Ok(owned(chain))),
    }
}

/// The quote's PEM.
fn pem_chain(pem: &[u8]) -> Result<Vec<Vec<u8>>, Reason> {
    let text = std::str::from_utf8(pem).map_err(|_| encoding::EncodingError::Pem { number: 1 })?;
    Ok(collateral::pem(text)?)
}

fn parse_chain<'a>(der: &'a Result<Vec<Vec<u8>>, Reason>, rules: &Rules) -> Result<Chain<'a>, Reason> {
    let der = der.as_ref().map_err(Clone::clone)?;
    Ok(Chain::parse(der.iter().map(Vec::as_slice), rules)?)
}

fn signer_chain<'a>(der: &[&'a [u8]]) -> Result<Chain<'a>, Reason> {
    Chain::parse(der.iter().copied(), &SIGNER_RULES).map_err(of("TCB info or identity"))
}

/// Says whose chain does not hold.
fn of(whose: &'static str) -> impl Fn(ChainError) -> Reason {
    move |error| Reason::ChainOf { whose, error }
}

/// Step 4: the first text that fits; if none does, the first.
fn select<T: serde::de::DeserializeOwned>(
    signed: &[Signed],
    fits: impl Fn(&T) -> bool,
) -> Option<(&Signed, Result<T, TcbError>)> {
    let mut first = None;
    for signed in signed {
        let read = signed.read::<T>();
        if read.as_ref().is_ok_and(&fits) {
            return Some((signed, read));
        }
        first.get_or_insert((signed, read));
    }
    first
}

/// Step 4: whether what Intel publishes was given.
fn collateral_row(
    judgement: &mut Judgement<'_>,
    has_info: bool,
    has_identity: bool,
    signers: &[Option<Vec<&[u8]>>; 2],
) {
    if judgement.made(CheckId::Collateral) {
        return;
    }
    let missing = match signers {
        _ if !has_info => "TCB info",
        _ if !has_identity => "identity of the quoting enclave",
        [Some(_), Some(_)] => {
            return judgement.record(CheckId::Collateral, Ok::<_, Reason>("TCB info and QE identity"));
        }
        _ => "certificate of their signer",
    };
    judgement.skip(CheckId::Collateral, Why::NoCollateral { missing });
}

/// Steps 5 to 7: root, chain and validity of the platform's chain and of the others that are there.
fn chain_rows<'a>(
    judgement: &mut Judgement<'_>,
    chains: [(&Option<Result<Chain<'a>, Reason>>, &Rules); 4],
    at: u64,
) {
    if matches!(chains, [(None, _), ..]) {
        return [CheckId::Root, CheckId::Chain, CheckId::Validity]
            .into_iter()
            .for_each(|id| judgement.skip(id, Why::NoCertificates));
    }
    let names = ["platform", "TCB info", "QE identity", "revocation lists"];
    let chains = chains
        .into_iter()
        .zip(names)
        .filter_map(|((chain, rules), name)| Some((chain.as_ref()?, rules, name)));
    let chains: Vec<_> = chains.collect();
    let readable = || chains.iter().filter_map(|(chain, _, name)| Some((chain.as_ref().ok()?, *name)));
    let mut root = Ok("");
    for (chain, _) in readable() {
        root = root.and(judgement.find_root(chain.root().der));
    }
    if readable().next().is_some() {
        judgement.record(CheckId::Root, root);
    }
    let (mut length, memo) = (0_usize, judgement.memo());
    let holds = chains.iter().try_for_each(|(chain, rules, name)| {
        let chain = chain.as_ref().map_err(Clone::clone)?;
        length = length.saturating_add(chain.certificates().len());
        chain.verify(rules, memo).map_err(of(name))
    });
    judgement.record(
        CheckId::Chain,
        holds.map(|()| match chains.len() {
            1 => format!("{length} certificates"),
            chains => format!("{length} certificates in {chains} chains"),
        }),
    );
    let in_force = readable().try_for_each(|(chain, name)| chain.verify_validity(at).map_err(of(name)));
    let end = readable().map(|(chain, _)| chain.validity().1).min().unwrap_or(0);
    if readable().next().is_some() {
        judgement
            .record(CheckId::Validity, in_force.map(|()| format!("all in force, to {}", when(Date(end)))));
    }
}

/// Step 8: header and body, as they came.
fn signature(judgement: &mut Judgement<'_>, quote: &Quote<'_>) {
    let key = point(quote.attestation_key);
    let result =
        crypto::verify(PublicKey::P256(&key), Scheme::EcdsaP256, Form::Fixed, quote.signed, quote.signature);
    judgement
        .record(CheckId::Signature, result.map(|()| "by the attestation key").map_err(|_| Reason::Signature));
}

/// Step 9: the platform's key signed the quoting enclave's report, whose data is the digest of attestation key and authentication data.
fn qe_report(quote: &Quote<'_>, key: PublicKey<'_>) -> Result<&'static str, Reason> {
    let (bytes, signature) = (quote.qe_report.bytes, quote.qe_report_signature);
    crypto::verify(key, Scheme::EcdsaP256, Form::Fixed, bytes, signature).map_err(|_| Reason::Signature)?;
    let digest =
        Sha256::new().chain_update(quote.attestation_key).chain_update(quote.qe_auth_data).finalize();
    let mut expected = [0; 64];
    expected.iter_mut().zip(digest).for_each(|(byte, digest)| *byte = digest);
    let got = quote.qe_report.report_data;
    if *got != expected {
        let (expected, got) = (expected.to_vec(), got.to_vec());
        return Err(Reason::Binding { field: "the quoting enclave's report data", expected, got });
    }
    Ok("by the platform's key, for the attestation key")
}

/// A text that holds, its date, its evaluation.
type Found<T> = (T, Date, u64);

fn record<T>(
    judgement: &mut Judgement<'_>,
    id: CheckId,
    result: Result<T, TcbError>,
    words: impl Fn(&T) -> String,
) -> Option<T> {
    match result {
        Ok(found) => {
            judgement.record(id, Ok::<_, Reason>(words(&found)));
            Some(found)
        }
        Err(error) => {
            judgement.record(id, Err::<&str, _>(error));
            None
        }
    }
}

/// Step 18: the events are those that RTMR0 to RTMR3 were made of.
fn event_log(judgement: &mut Judgement<'_>, td: &TdReport<'_>, log: Option<&[u8]>) {
    let Some(log) = log else { return judgement.skip(CheckId::EventLog, Why::NoEventLog) };
    let bytes = match encoding::decode(log) {
        Ok(bytes) => bytes,
        Err(error) => return judgement.record(CheckId::EventLog, Err::<&str, _>(error)),
    };
    let log = match EventLog::parse(&bytes) {
        Ok(log) => log,
        Err(error) => return judgement.record(CheckId::EventLog, Err::<&str, _>(error)),
    };
    let registers = || (0..).map(Register::Rtmr).zip(td.rtmr).zip(log.replay());
    for ((register, got), replayed) in registers() {
        if let Some(replayed) = replayed.filter(|replayed| replayed != got) {
            let (expected, got) = (got.to_vec(), replayed.to_vec());
            return judgement
                .record(CheckId::EventLog, Err::<&str, _>(Reason::Replay { register, expected, got }));
        }
    }
    let silent = registers().find(|((_, got), replayed)| replayed.is_none() && !is_zero(*got));
    match silent {
        // What was measured there later, by software, stands in another log.
        Some(((register, _), _)) => judgement.skip(CheckId::EventLog, Why::NoEvents { register }),
        None => judgement.record(
            CheckId::EventLog,
            Ok::<_, Reason>(format!("{} events replay to RTMR0 to RTMR3", log.events.len())),
        ),
    }
}

/// A key of 64 bytes as a point.
fn point(key: &[u8; 64]) -> [u8; 65] {
    let mut point = [4; 65];
    point.iter_mut().skip(1).zip(key).for_each(|(byte, key)| *byte = *key);
    point
}

fn when(date: Date) -> String {
    hallmark_receipt::time::when(date.0)
}
