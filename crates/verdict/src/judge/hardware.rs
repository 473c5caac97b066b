//! The environment that the receipt's key lives in (`receipt.md` §13.16).

use std::sync::Arc;

use hallmark_attestation::environment;
use hallmark_attestation::{Binding, Dangers, Decision, Report};
use hallmark_receipt::{Bundle, Certificate, Digest, Environment, Evidence, EvidenceKind, Purpose, Receipt};

use super::Context;
use crate::check::{Check, CheckId, HardwareFault, Reason, Why};
use crate::policy::Policy;
use crate::time;

/// What the verifier knows about hardware, and takes beyond the real thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hardware {
    /// Today's collateral, in place of the environment's own.
    pub collateral: Option<Vec<Vec<u8>>>,
    /// The development roots to take; none unless the caller was told so.
    pub accept_simulated: Vec<Digest>,
    /// Whether to take debug mode, where the policy says so too.
    pub accept_debug: bool,
}

/// What was found about the environment.
pub struct Findings {
    /// The rows.
    pub checks: Vec<Check>,
    /// Every row of the hardware's own, judged at the claimed time.
    pub report: Option<Report>,
}

/// Step 16.
pub fn judge(
    bundle: &Bundle,
    receipt: &Receipt,
    certificate: Option<&Certificate>,
    policy: &Policy,
    context: &Context,
) -> Findings {
    let tee = bundle.evidence.iter().find(|item| item.kind() == EvidenceKind::Tee);
    let Some((item, Evidence::Tee { environment, .. })) = tee.map(|item| (item, item)) else {
        let checks = vec![Check::not_checked(CheckId::Hardware, Why::NoHardware)];
        return Findings { checks, report: None };
    };
    let mut checks = vec![attested_key(item, environment, receipt, certificate)];
    let then = judge_at(environment, None, receipt.time, policy, context);
    let hardware = match &then {
        Ok(report) => at_claimed_time(environment, report),
        Err(error) => Check::not_checked(CheckId::Hardware, Why::HardwareKind(error.clone())),
    };
    let id = CheckId::HardwareNow;
    checks.push(if hardware.has_passed() {
        let collateral = context.hardware.collateral.as_deref();
        let now = judge_at(environment, collateral, context.now, policy, context);
        now.map_or_else(
            |error| Check::not_checked(id, Why::HardwareKind(error)),
            |report| at_verifiers_time(&report, collateral.is_some()),
        )
    } else {
        Check::not_checked(id, Why::After(CheckId::Hardware))
    });
    checks.push(hardware);
    Findings { checks, report: then.ok() }
}

fn judge_at(
    environment: &Environment,
    collateral: Option<&[Vec<u8>]>,
    milliseconds: u64,
    policy: &Policy,
    context: &Context,
) -> Result<Report, environment::EnvironmentError> {
    let Hardware { accept_simulated, accept_debug, .. } = &context.hardware;
    let dangers = Dangers { accept_simulated, accept_debug: *accept_debug };
    let at = milliseconds / 1000;
    let context =
        hallmark_attestation::Context { dangers, ..hallmark_attestation::Context::new(at, &policy.hardware) };
    environment::judge(environment, collateral, &context)
}

/// The key that signed the receipt is the one that the environment names, and signed claim and environment.
fn attested_key(
    item: &Evidence,
    environment: &Arc<Environment>,
    receipt: &Receipt,
    certificate: Option<&Certificate>,
) -> Check {
    let id = CheckId::AttestedKey;
    let Some(certificate) = certificate else {
        return Check::not_checked(id, Why::After(CheckId::Certificate));
    };
    if item.claim_id() != receipt.claim_id {
        return Check::not_checked(id, Why::After(CheckId::Evidence));
    }
    let holds = |binding: Binding| binding.holds(Purpose::Receipt, &certificate.key);
    if !environment::binding(environment).is_ok_and(holds) {
        return Check::failed(id, Reason::KeyElsewhere { expected: certificate.key.id() });
    }
    match item.verify_signature(&certificate.key) {
        Some(Ok(())) => {
            Check::passed(id, format!("key {} signed claim and environment", certificate.key.id()))
        }
        Some(Err(error)) => Check::failed(id, Reason::Word(error)),
        None => Check::not_checked(id, Why::NoEvidence),
    }
}

fn at_claimed_time(environment: &Environment, report: &Report) -> Check {
    let id = CheckId::Hardware;
    if let Some(fault) = HardwareFault::first(report) {
        return Check::failed(id, Reason::Hardware(fault));
    }
    if environment.simulated != report.simulated {
        return Check::failed(id, Reason::HardwareMark { simulated: report.simulated });
    }
    match &report.decision {
        Decision::Accepted(_) if has_passed(report, hallmark_attestation::CheckId::Binding) => {
            Check::passed(id, format!("{}, {}", report.kind.name(), code(report)))
        }
        Decision::Undecided(lacking) => {
            Check::not_checked(id, Why::HardwareUndecided { lacking: lacking.clone() })
        }
        _ => {
            let lacking = vec![hallmark_attestation::CheckId::Binding];
            Check::not_checked(id, Why::HardwareUndecided { lacking })
        }
    }
}

fn at_verifiers_time(report: &Report, todays: bool) -> Check {
    use hallmark_attestation::CheckId as Row;
    let id = CheckId::HardwareNow;
    let at = time::when(report.at);
    let mut faults = report.reasons();
    if let Decision::Accepted(_) = report.decision {
        let whose = if todays { "the collateral that you gave" } else { "its own collateral" };
        return Check::passed(id, format!("still good at {at}, by {whose}"));
    }
    let Some((first, reason)) = faults.next() else {
        let lacking = match &report.decision {
            Decision::Undecided(lacking) => lacking.clone(),
            _ => Vec::new(),
        };
        return Check::not_checked(id, Why::HardwareUndecided { lacking });
    };
    // What held at the claimed time and does not now, of the same bytes, ran out; only what is new can say more.
    let ran_out = |row: Row| matches!(row, Row::Validity | Row::Age);
    let news = report.reasons().find(|(row, _)| !ran_out(*row)).filter(|_| todays);
    match news {
        Some((row, reason)) => {
            let fault = HardwareFault { kind: report.kind, row, reason: Box::new(reason.clone()) };
            Check::failed(id, Reason::Hardware(fault))
        }
        None => Check::not_checked(id, Why::RanOut { row: first, reason: reason.to_string() }),
    }
}

/// What runs there, as far as the policy asks.
fn code(report: &Report) -> String {
    let row = report.check(hallmark_attestation::CheckId::Measurements);
    match row.filter(|row| row.has_passed()).and_then(|row| row.got.clone()) {
        Some(release) => release,
        None => "genuine; the policy pins no code".to_owned(),
    }
}

/// Whether `row` of the report passed.
pub fn has_passed(report: &Report, row: hallmark_attestation::CheckId) -> bool {
    report.check(row).is_some_and(hallmark_attestation::Check::has_passed)
}
