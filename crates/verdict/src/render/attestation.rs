//! Reports on hardware evidence, in words and in JSON.

use hallmark_attestation::{Decision, Kind, Report};
use hallmark_receipt::check::{Catalog as _, Outcome};
use hallmark_receipt::json::{Object, Value, object};
use hallmark_receipt::wire::to_hex;

use super::{check_value, push_table, safe};
use crate::time;

/// The report as a table: one row a check, then the closing sentences.
pub fn text(report: &Report) -> String {
    let mut out = headline(report);
    out.push('\n');
    push_table(&mut out, &report.checks, |_| Vec::new(), closing(report));
    if report.simulated { mark(&out) } else { out }
}

/// Whoever quotes a single line of it must quote this too.
pub(super) fn mark(text: &str) -> String {
    text.lines().map(|line| format!("SIMULATED {line}\n")).collect()
}

fn headline(report: &Report) -> String {
    format!("{} evidence, judged at {}", report.kind.name(), time::when(report.at))
}

/// The closing sentences: the decision, and what was not shown.
pub fn closing(report: &Report) -> Vec<String> {
    let policy = &report.policy;
    let decision = match &report.decision {
        Decision::Accepted(_) if report.simulated => {
            format!("accepted by policy `{policy}`: a development root signed this; no hardware did.")
        }
        Decision::Accepted(_) => format!("accepted by policy `{policy}`: {}.", meaning(report.kind)),
        Decision::Rejected => {
            let failed: Vec<&str> = report.reasons().map(|(id, _)| id.name()).collect();
            format!("rejected by policy `{policy}`: {} failed.", failed.join(", "))
        }
        Decision::Undecided(lacking) => {
            let lacking: Vec<_> =
                lacking.iter().map(|id| format!("the required check `{id}` was not made")).collect();
            format!("undecided by policy `{policy}`: {}.", lacking.join("; "))
        }
    };
    let mut lines = vec![safe(&decision)];
    let not_shown = not_shown(report);
    if !not_shown.is_empty() && report.decision != Decision::Rejected {
        lines.push(format!("not shown: {}.", not_shown.join("; ")));
    }
    lines
}

/// What accepted evidence of a kind means.
fn meaning(kind: Kind) -> &'static str {
    match kind {
        Kind::Nitro => "an AWS Nitro hypervisor measured an enclave and signed this",
        Kind::Tdx => {
            "an Intel TDX module measured a trust domain, and the platform's quoting enclave signed this"
        }
        Kind::Sgx => {
            "an Intel SGX processor measured an enclave, and the platform's quoting enclave signed this"
        }
        Kind::SevSnp => "an AMD SEV-SNP processor measured a guest and signed this",
        Kind::Nvidia => "an NVIDIA device measured its firmware and signed this",
        _ => "hardware signed this",
    }
}

fn not_shown(report: &Report) -> Vec<&'static str> {
    let unmade = report.checks.iter().filter(|check| matches!(check.outcome, Outcome::NotChecked(_)));
    unmade.map(|check| check.id.not_shown()).collect()
}

/// The report as a JSON object.
pub fn to_object(report: &Report) -> Object {
    let list = |items: Vec<String>| Value::Array(items.into_iter().map(Value::Str).collect());
    let decision = match &report.decision {
        Decision::Accepted(_) => "accepted",
        Decision::Rejected => "rejected",
        Decision::Undecided(_) => "undecided",
    };
    let mut members = object([
        ("at", time::when(report.at).into()),
        ("checks", Value::Array(report.checks.iter().map(check_value).collect())),
        ("decision", decision.into()),
        ("exit_code", Value::Int(report.exit_code().into())),
        ("kind", report.kind.name().into()),
        ("not_shown", list(not_shown(report).into_iter().map(str::to_owned).collect())),
        ("policy", report.policy.as_str().into()),
        ("simulated", Value::Bool(report.simulated)),
        ("summary", list(closing(report))),
    ]);
    match &report.decision {
        Decision::Accepted(attested) => {
            let measurements = attested.measurements().iter();
            let measurements =
                measurements.map(|(register, value)| (register.to_string(), to_hex(value).into()));
            members.insert("data".to_owned(), to_hex(attested.data()).into());
            members.insert("measurements".to_owned(), Value::Object(measurements.collect()));
        }
        Decision::Undecided(lacking) => {
            let lacking = lacking.iter().map(|id| id.name().to_owned()).collect();
            members.insert("lacking".to_owned(), list(lacking));
        }
        Decision::Rejected => {}
    }
    members
}
