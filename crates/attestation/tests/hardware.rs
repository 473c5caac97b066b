//! Evidence from real hardware, one row of `cases.tsv` a case: each gets its verdict, at its time, under its policy.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};

use hallmark_attestation::dcap::{EventLog, Quote};
use hallmark_attestation::{CheckId, Context, Decision, Input, Kind, Policy, Report, verify};
use hallmark_receipt::check::Cause as _;

/// Where evidence from hardware lies, beside the repository; none is part of it.
fn vectors() -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/attestation-vectors");
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: {} is not present", folder.display());
    None
}

fn shown(report: &Report) -> String {
    report
        .checks
        .iter()
        .map(|check| format!("{:<16}{:?} {:?}\n", check.title, check.outcome, check.got))
        .collect()
}

#[test]
fn nitro() {
    let Some(folder) = vectors() else { return };
    let policy = Policy::genuine();
    for (file, at, failed) in [
        ("nitro/og-evm-attestation_doc.bin", 1_770_918_962, None),
        ("nitro/og-evm-attestation_doc.bin", 1_770_929_800, Some((CheckId::Validity, "expired"))),
        ("nitro/evervault/beta/valid-attestation-doc-bytes", 1_665_651_482, None),
        (
            "nitro/evervault/beta/debug-mode-attestation-doc-bytes",
            1_665_582_606,
            Some((CheckId::Debug, "debug")),
        ),
        ("nitro/evervault/valid-attestation-doc-base64", 1_695_049_410, Some((CheckId::Debug, "debug"))),
        (
            "nitro/forged/attacker-root-in-cabundle.cose",
            1_770_918_962,
            Some((CheckId::Chain, "chain-issuer")),
        ),
    ] {
        let evidence = std::fs::read(folder.join(file)).unwrap();
        let report = verify(Kind::Nitro, &Input::of(&evidence), &Context::new(at, &policy));
        let found: Vec<_> = report.reasons().map(|(id, reason)| (id, reason.code())).collect();
        println!("{file}\n{}", shown(&report));
        assert_eq!(found, failed.into_iter().collect::<Vec<_>>(), "{file}");
        assert_eq!(matches!(report.decision, Decision::Accepted(_)), failed.is_none(), "{file}");
    }
}

/// A case: evidence, the file or folder of collateral, time, policy (without one, `genuine`), and the checks that fail, with their codes.
type Case = (Kind, &'static str, &'static str, u64, &'static str, &'static [(CheckId, &'static str)]);

const SERVED: &str = "name = 'served'\n[tdx]\nallow_service_td = true";
const CONFIGURED: &str = "name = 'configured'\n[sgx.tcb]\nallow = ['ConfigurationAndSWHardeningNeeded']";

const QUOTES: &[Case] = &[
    (Kind::Tdx, "tdx/dcap-qvl/tdx_quote", "tdx/dcap-qvl/tdx_quote_collateral.json", 1_750_329_200, "", &[]),
    (
        Kind::Tdx,
        "tdx/dcap-qvl/tdx_quote",
        "tdx/dcap-qvl/tdx_quote_collateral.json",
        1_755_600_000,
        "",
        &[
            (CheckId::Revocation, "revocation-list"),
            (CheckId::QeIdentity, "published-stale"),
            (CheckId::TcbInfo, "published-stale"),
        ],
    ),
    (
        Kind::Tdx,
        "tdx/dcap-qvl/tdx_quote_td15ex",
        "tdx/dcap-qvl/tdx_quote_td15ex_collateral.json",
        1_791_419_400,
        "",
        &[(CheckId::ServiceTd, "service-td")],
    ),
    (
        Kind::Tdx,
        "tdx/dcap-qvl/tdx_quote_td15ex",
        "tdx/dcap-qvl/tdx_quote_td15ex_collateral.json",
        1_791_419_400,
        SERVED,
        &[],
    ),
    (
        Kind::Tdx,
        "tdx/dcap-qvl/tdx_quote_outdated",
        "tdx/dcap-qvl/tdx_quote_outdated_collateral.json",
        1_771_498_731,
        "",
        &[(CheckId::Tcb, "no-tcb-level")],
    ),
    (
        Kind::Tdx,
        "tdx/trustee/tdx_quote_4.dat",
        "tdx/composed/trustee-tdx_quote_4-DEBUG.collateral.json",
        1_773_786_090,
        "",
        &[(CheckId::Debug, "debug"), (CheckId::Tcb, "tcb-status")],
    ),
    // The answers of Intel's service one by one, of two kinds of platform.
    (
        Kind::Tdx,
        "tdx/trustee/tdx_quote_4.dat",
        "tdx/attestation-rs/collateral",
        1_773_786_090,
        "",
        &[(CheckId::Debug, "debug"), (CheckId::Tcb, "tcb-status")],
    ),
    (
        Kind::Tdx,
        "tdx/trustee/tdx_quote_5.dat",
        "tdx/composed/trustee-tdx_quote_5.collateral.json",
        1_773_785_169,
        "",
        &[(CheckId::Tcb, "no-tcb-level"), (CheckId::ServiceTd, "service-td")],
    ),
    // A chain of samples: DER where quotes have PEM, under a root that is not Intel's.
    (
        Kind::Tdx,
        "tdx/intel-qvl-sample/quote.dat",
        "tdx/intel-qvl-sample",
        1_700_000_000,
        "",
        &[
            (CheckId::Root, "unknown-root"),
            (CheckId::Chain, "encoding"),
            (CheckId::QeIdentity, "other-enclave"),
            (CheckId::Attributes, "attribute-missing"),
        ],
    ),
    (
        Kind::Sgx,
        "sgx/dcap-qvl/sgx_quote",
        "sgx/dcap-qvl/sgx_quote_collateral.json",
        1_750_330_600,
        CONFIGURED,
        &[],
    ),
    (
        Kind::Sgx,
        "sgx/dcap-qvl/sgx_quote",
        "sgx/dcap-qvl/sgx_quote_collateral.json",
        1_750_330_600,
        "",
        &[(CheckId::Tcb, "tcb-status")],
    ),
    (Kind::Sgx, "sgx/trustee/occlum_quote.dat", "", 1_700_000_000, "", &[(CheckId::Debug, "debug")]),
    (
        Kind::Sgx,
        "sgx/intel-qvl-sample/quote.dat",
        "sgx/intel-qvl-sample",
        1_700_000_000,
        "",
        &[(CheckId::Format, "quote-certification")],
    ),
    // A quote of the other kind.
    (Kind::Sgx, "tdx/dcap-qvl/tdx_quote", "", 1_750_329_200, "", &[(CheckId::Format, "quote-kind")]),
];

/// The file at `path`, or those of a folder; nothing at the folder of all.
fn files(folder: &Path, path: &str) -> Vec<Vec<u8>> {
    let at = folder.join(path);
    let paths = match at.is_dir() {
        _ if path.is_empty() => Vec::new(),
        true => std::fs::read_dir(at).unwrap().map(|entry| entry.unwrap().path()).collect(),
        false => vec![at],
    };
    let is_quote = |path: &PathBuf| path.file_name().is_some_and(|name| name == "quote.dat");
    paths.iter().filter(|path| !is_quote(path)).map(|path| std::fs::read(path).unwrap()).collect()
}

#[test]
fn quotes() {
    let Some(folder) = vectors() else { return };
    for (kind, file, with, at, policy, failed) in QUOTES {
        let policy = if policy.is_empty() { Policy::genuine() } else { Policy::parse(policy).unwrap() };
        let evidence = std::fs::read(folder.join(file)).unwrap();
        let collateral = files(&folder, with);
        let collateral: Vec<&[u8]> = collateral.iter().map(Vec::as_slice).collect();
        let input = Input { evidence: &evidence, collateral: &collateral, ..Input::default() };
        let report = verify(*kind, &input, &Context::new(*at, &policy));
        let found: Vec<_> = report.reasons().map(|(id, reason)| (id, reason.code())).collect();
        println!("{file}\n{}", shown(&report));
        assert_eq!(found, *failed, "{file}");
        assert_eq!(report.is_accepted(), failed.is_empty(), "{file}");
    }
}

#[test]
fn quotes_without_collateral_are_undecided() {
    let Some(folder) = vectors() else { return };
    let policy = Policy::genuine();
    for file in [
        "tdx/dcap-qvl/quote-from-tappd.hex",
        "tdx/dcap-qvl/tdx-quote.hex",
        "tdx/dcap-qvl/tdx_quote",
        "tdx/trustee/tdx_quote_6.dat",
        "tdx/go-tdx-guest/ccel/cos-113-tdx-quote.dat",
    ] {
        let evidence = std::fs::read(folder.join(file)).unwrap();
        let report = verify(Kind::Tdx, &Input::of(&evidence), &Context::new(1_750_329_200, &policy));
        println!("{file}\n{}", shown(&report));
        let missing = vec![CheckId::Collateral, CheckId::QeIdentity, CheckId::TcbInfo, CheckId::Tcb];
        assert_eq!(report.decision, Decision::Undecided(missing), "{file}");
    }
}

#[test]
fn event_logs() {
    let Some(folder) = vectors() else { return };
    let read = |file: &str| std::fs::read(folder.join(file)).unwrap();
    let evidence = read("tdx/go-tdx-guest/ccel/cos-113-tdx-quote.dat");
    let (policy, nonce) = (Policy::genuine(), read("tdx/go-tdx-guest/ccel/nonce.dat"));
    let context = Context { nonce: Some(&nonce), ..Context::new(1_750_329_200, &policy) };
    for (file, code) in [
        ("tdx/go-tdx-guest/ccel/ccel_data.dat", None),
        ("tdx/trustee/CCEL_data", Some("event-log-replay")),
        ("tdx/trustee/CCEL_data_ovmf", Some("event-log-replay")),
        ("tdx/go-tdx-guest/ccel/ccel_table.dat", Some("event-log-truncated")),
    ] {
        let log = read(file);
        let input = Input { event_log: Some(&log), ..Input::of(&evidence) };
        let report = verify(Kind::Tdx, &input, &context);
        println!("{file}\n{}", shown(&report));
        let found: Vec<_> = report.reasons().map(|(id, reason)| (id, reason.code())).collect();
        assert_eq!(
            found,
            code.map(|code| (CheckId::EventLog, code)).into_iter().collect::<Vec<_>>(),
            "{file}"
        );
        assert_eq!(report.check(CheckId::EventLog).unwrap().has_passed(), code.is_none(), "{file}");
        assert!(report.check(CheckId::Nonce).unwrap().has_passed());
    }
    // An event less, and it is another history; a digest changed, too.
    let log = read("tdx/go-tdx-guest/ccel/ccel_data.dat");
    let log = EventLog::parse(&log).unwrap();
    let quote = Quote::parse(&evidence).unwrap();
    let rtmr0 = quote.fields()["body"].clone();
    let mut less = log.clone();
    less.events.remove(0);
    assert_ne!(less.replay(), log.replay());
    assert_eq!(log.fields()["rtmr0"], hallmark_receipt::wire::as_object(rtmr0, "body").unwrap()["rtmr0"]);
}
