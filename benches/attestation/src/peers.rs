//! The other verifiers: `dcap-qvl` for Intel's quotes, `sev` for AMD's reports.

use std::panic::{AssertUnwindSafe, catch_unwind};

use dcap_qvl::verify::QuoteVerifier;
use dcap_qvl::{QuoteCollateralV3, QuotePolicy, TcbStatus};
use hallmark_attestation::{Kind, encoding};
use sev::certs::snp::{Certificate, Chain, Verifiable as _, builtin::milan, ca};
use sev::firmware::guest::AttestationReport;
use sev::parser::ByteParser as _;

use crate::cases::{Allowed, Case};

/// What a peer says, or why it cannot be asked.
pub type Answer = Result<Result<(), String>, &'static str>;

/// The peer's verdict on a case.
pub fn judge(case: &Case) -> Answer {
    match case.kind {
        Kind::Tdx | Kind::Sgx => quote(case),
        Kind::SevSnp => Ok(guarded(|| report(case))),
        _ => Err("no peer"),
    }
}

/// The verifier of Intel's quotes, by the policy nearest to the case's. Its `verify` alone would take every status but `Revoked`.
fn quote(case: &Case) -> Answer {
    let [collateral] = &case.collateral[..] else { return Err("collateral is not in one file") };
    Ok(guarded(|| {
        let collateral: QuoteCollateralV3 =
            serde_json::from_slice(collateral).map_err(|error| error.to_string())?;
        let quote = encoding::decode(&case.evidence).map_err(|error| error.to_string())?;
        verify_quote(case, &quote, collateral)
    }))
}

/// The same on what has been read before.
pub fn verify_quote(case: &Case, quote: &[u8], collateral: QuoteCollateralV3) -> Result<(), String> {
    let mut policy = QuotePolicy::strict(case.at)
        .allow_status(TcbStatus::SWHardeningNeeded)
        .allow_dynamic_platform(true)
        .allow_cached_keys(true)
        .allow_smt(true);
    if case.allowed == Allowed::Configuration {
        policy = policy.allow_status(TcbStatus::ConfigurationAndSWHardeningNeeded);
    }
    let verifier = QuoteVerifier::new_prod().allow_service_td(case.allowed == Allowed::ServiceTd);
    verifier
        .verify_with_policy(quote, collateral, case.at, &policy)
        .map(|_| ())
        .map_err(|error| format!("{error:#}"))
}

/// AMD's VLEK authority of Milan, which `sev` does not carry.
const MILAN_ASVK: &[u8] = include_bytes!("../../../crates/attestation/src/roots/milan-asvk.der");

/// The verifier of AMD's reports: signatures from the root down, and nothing else. All reports at hand are of Milan.
pub fn report(case: &Case) -> Result<(), String> {
    let words = |error: std::io::Error| error.to_string();
    let bytes = encoding::decode(&case.evidence).map_err(|error| error.to_string())?;
    let report = AttestationReport::from_bytes(&bytes).map_err(words)?;
    let certificates: Vec<&[u8]> = case.certificates.iter().map(Vec::as_slice).collect();
    let certificates = encoding::items(&certificates).map_err(|error| error.to_string())?;
    let leaf = certificates.first().ok_or("no certificate")?;
    let signer =
        if report.key_info.signing_key() == 1 { Certificate::from_der(MILAN_ASVK) } else { milan::ask() };
    let ca = ca::Chain { ark: milan::ark().map_err(words)?, ask: signer.map_err(words)? };
    let chain = Chain { ca, vek: Certificate::from_der(leaf).map_err(words)? };
    (&chain, &report).verify().map_err(words)
}

/// A peer may panic on changed bytes; that is a refusal.
fn guarded(judge: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(judge)).unwrap_or_else(|_| Err("panicked".to_owned()))
}
