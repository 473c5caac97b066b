//! Verdicts in words and in JSON: the same for the command line, the page and the browser module. No colour, no terminal.

use hallmark_receipt::check::{Catalog, Cause as _, Check, Outcome, Question};
use hallmark_receipt::json::{Object, Value, object};
use hallmark_receipt::{Digest, Receipt};

use crate::check::{CheckId, model_text};
use crate::judge::{Basis, Decision, Lacking, Verdict};
use crate::time;

pub mod attestation;

/// The verdict as a table: one row a check, grouped under the questions, then the closing sentences.
pub fn text(verdict: &Verdict) -> String {
    let mut out = String::new();
    if let Some(receipt) = &verdict.stated {
        out.push_str(&headline(receipt));
        out.push('\n');
    }
    let hardware = |check: &Check<CheckId>| match (&verdict.hardware, check.id) {
        (Some(report), CheckId::Hardware) => {
            report.checks.iter().map(|row| format!("    {}", self::row(row))).collect()
        }
        _ => Vec::new(),
    };
    push_table(&mut out, &verdict.checks, hardware, closing(verdict));
    out.lines().map(|line| marked(verdict.is_simulated(), format!("{line}\n"))).collect()
}

/// Rows under their questions, each with those below it, then the closing sentences.
fn push_table<C: Catalog>(
    out: &mut String,
    checks: &[Check<C>],
    below: impl Fn(&Check<C>) -> Vec<String>,
    closing: Vec<String>,
) {
    for question in Question::ALL {
        let mut rows = checks.iter().filter(|check| check.question == question).peekable();
        if rows.peek().is_none() {
            continue;
        }
        out.push_str(question.text());
        out.push('\n');
        for check in rows {
            for line in std::iter::once(row(check)).chain(below(check)) {
                out.push_str(&line);
                out.push('\n');
            }
        }
    }
    for line in closing {
        out.push_str(&line);
        out.push('\n');
    }
}

/// What the bundle says of itself, in one line: claim, model, time, node.
pub fn headline(receipt: &Receipt) -> String {
    let model = match &receipt.claim.model {
        hallmark_receipt::Model::Id(id) => short(id),
        other => model_text(other),
    };
    safe(&format!(
        "receipt {}   model {model}   {}   node {}",
        short(&receipt.claim_id),
        time::text(receipt.time),
        short(&receipt.claim.node.0)
    ))
}

/// One row: a mark (`ok`, `no`, `--`), the title, and what was found or why not.
pub fn row<C: Catalog>(check: &Check<C>) -> String {
    let (mark, detail) = match &check.outcome {
        Outcome::Passed => ("ok", check.got.clone().unwrap_or_default()),
        Outcome::Failed(reason) => {
            let mut detail = reason.to_string();
            if let (Some(expected), Some(got)) = reason.expected_and_got()
                && !detail.contains(&got)
            {
                detail = format!("{detail}: expected {expected}, got {got}");
            }
            ("no", detail)
        }
        Outcome::NotChecked(why) => ("--", format!("not checked: {why}")),
    };
    safe(&format!("  {mark}  {:<15} {}", check.title, shorten(&detail)))
}

/// The closing sentences: the decision with what it stands on, and what was not shown.
pub fn closing(verdict: &Verdict) -> Vec<String> {
    let policy = &verdict.policy;
    let decision = match &verdict.decision {
        Decision::Accepted(_) => format!("accepted by policy `{policy}`: {}.", shown(verdict).join("; ")),
        Decision::Rejected => {
            let failed: Vec<&str> =
                verdict.checks.iter().filter(|check| check.has_failed()).map(|check| check.title).collect();
            format!("rejected by policy `{policy}`: {} failed.", failed.join(", "))
        }
        Decision::Undecided(lacking) => {
            let lacking: Vec<String> = lacking.iter().map(|item| lacking_text(*item)).collect();
            format!("undecided by policy `{policy}`: {}.", lacking.join("; "))
        }
    };
    let mut lines = vec![safe(&decision)];
    let not_shown = not_shown(verdict);
    if !verdict_is_rejected(verdict) && !not_shown.is_empty() {
        lines.push(format!("not shown: {}.", not_shown.join("; ")));
    }
    lines
}

/// Whoever quotes a single line about evidence without hardware behind it must quote this too.
fn marked(is_simulated: bool, line: String) -> String {
    if is_simulated { format!("SIMULATED {line}") } else { line }
}

/// What an accepted verdict shows; empty otherwise.
pub fn shown(verdict: &Verdict) -> Vec<String> {
    let Decision::Accepted(verified) = &verdict.decision else { return Vec::new() };
    verified
        .basis()
        .iter()
        .map(|basis| match basis {
            Basis::Replay => "this model gives this output for this input, re-run bit for bit".to_owned(),
            Basis::Proof => {
                "a proof shows that the network behind the model's commitment gives this output for this input"
                    .to_owned()
            }
            Basis::TrustedIdentity => {
                format!(
                    "node {}, which you trust, signed that this happened",
                    short(&verified.value().claim.node.0)
                )
            }
            Basis::Hardware { kind, simulated: false } => {
                format!(
                    "{} hardware running code that the policy pins holds the key that signed this",
                    kind.name()
                )
            }
            Basis::Hardware { kind, simulated: true } => {
                format!("SIMULATED {} evidence pins the code, and no hardware made it", kind.name())
            }
        })
        .collect()
}

/// What remains unknown: one entry for each check that was not made.
pub fn not_shown(verdict: &Verdict) -> Vec<&'static str> {
    verdict
        .checks
        .iter()
        .filter(|check| matches!(check.outcome, Outcome::NotChecked(_)))
        // The graph and the bare word only add to what other rows show.
        .filter(|check| !matches!(check.id, CheckId::Graph | CheckId::Word))
        // A proof that holds shows what a re-run would, as far as the row `commitment` says.
        .filter(|check| check.id != CheckId::Replay || !has_proof(verdict))
        .map(|check| check.id.not_shown())
        .chain(of_hardware(verdict))
        .chain(of_proof(verdict))
        .collect()
}

/// What accepted evidence of hardware leaves open.
fn of_hardware(verdict: &Verdict) -> Vec<&'static str> {
    let passed = verdict.check(CheckId::Hardware).is_some_and(Check::has_passed);
    verdict
        .hardware
        .as_ref()
        .filter(|_| passed)
        .map(|report| attestation::not_shown(report))
        .unwrap_or_default()
}

/// What a proof that holds leaves open.
fn of_proof(verdict: &Verdict) -> Option<&'static str> {
    has_proof(verdict).then_some(
        "that anything stays hidden (checking the proof takes the opened input and output, and a proof hides nothing)",
    )
}

fn has_proof(verdict: &Verdict) -> bool {
    verdict.check(CheckId::Proof).is_some_and(Check::has_passed)
}

/// The verdict as a JSON document (indented, ends with a line feed).
pub fn json(verdict: &Verdict) -> String {
    Value::Object(to_object(verdict)).pretty()
}

/// The verdict as a JSON object.
pub fn to_object(verdict: &Verdict) -> Object {
    let list = |items: Vec<String>| Value::Array(items.into_iter().map(Value::Str).collect());
    let decision = match &verdict.decision {
        Decision::Accepted(_) => "accepted",
        Decision::Rejected => "rejected",
        Decision::Undecided(_) => "undecided",
    };
    let mut members = object([
        ("checks", Value::Array(verdict.checks.iter().map(check_value).collect())),
        ("decision", decision.into()),
        ("exit_code", Value::Int(verdict.exit_code().into())),
        ("not_shown", list(not_shown(verdict).into_iter().map(str::to_owned).collect())),
        ("policy", verdict.policy.as_str().into()),
        ("shown", list(shown(verdict))),
        ("simulated", Value::Bool(verdict.is_simulated())),
        (
            "summary",
            list(closing(verdict).into_iter().map(|line| marked(verdict.is_simulated(), line)).collect()),
        ),
    ]);
    if let Decision::Undecided(lacking) = &verdict.decision {
        let lacking = lacking.iter().map(|item| lacking_text(*item)).collect();
        members.insert("lacking".to_owned(), list(lacking));
    }
    if let Some(report) = &verdict.hardware {
        members.insert("hardware".to_owned(), Value::Object(attestation::to_object(report)));
    }
    if let Some(receipt) = &verdict.stated {
        let stated = object([
            ("claim_id", receipt.claim_id.to_string().into()),
            ("model", model_text(&receipt.claim.model).into()),
            ("network", receipt.claim.network.as_str().into()),
            ("node", receipt.claim.node.to_string().into()),
            ("request_id", receipt.claim.request_id.to_string().into()),
            ("signer", receipt.signer.to_string().into()),
            ("time", time::text(receipt.time).into()),
        ]);
        members.insert("stated".to_owned(), Value::Object(stated));
    }
    members
}

fn check_value<C: Catalog>(check: &Check<C>) -> Value {
    let outcome = match &check.outcome {
        Outcome::Passed => "passed",
        Outcome::Failed(_) => "failed",
        Outcome::NotChecked(_) => "not checked",
    };
    let mut members = object([
        ("id", check.id.name().into()),
        ("outcome", outcome.into()),
        ("question", check.question.text().into()),
        ("source", check.source.into()),
        ("title", check.title.into()),
    ]);
    match &check.outcome {
        Outcome::Passed => {}
        Outcome::Failed(reason) => {
            members.insert("code".to_owned(), reason.code().into());
            members.insert("reason".to_owned(), safe(&reason.to_string()).into());
        }
        Outcome::NotChecked(why) => {
            members.insert("reason".to_owned(), safe(&why.to_string()).into());
        }
    }
    for (name, value) in [("expected", &check.expected), ("got", &check.got)] {
        if let Some(value) = value {
            members.insert(name.to_owned(), safe(value).into());
        }
    }
    Value::Object(members)
}

fn lacking_text(lacking: Lacking) -> String {
    match lacking {
        Lacking::Required(id) => format!("the required check `{id}` was not made"),
        Lacking::Anchor => {
            "nothing outside the bundle vouches for it: it needs a re-run on your own copy of the model, an identity that you trust, hardware whose code your policy pins, or a proof for a model that you name"
                .to_owned()
        }
    }
}

fn verdict_is_rejected(verdict: &Verdict) -> bool {
    matches!(verdict.decision, Decision::Rejected)
}

/// A digest cut to its ends.
pub fn short(digest: &Digest) -> String {
    shorten(&digest.to_string())
}

/// Cuts every run of 64 hexadecimal digits to its ends.
fn shorten(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut run = String::new();
    for c in text.chars().chain(std::iter::once('\0')) {
        if c.is_ascii_hexdigit() && !c.is_ascii_uppercase() {
            run.push(c);
            continue;
        }
        match (run.len(), run.get(..4), run.get(62..)) {
            (64, Some(head), Some(tail)) => {
                out.push_str(head);
                out.push_str("..");
                out.push_str(tail);
            }
            _ => out.push_str(&run),
        }
        run.clear();
        if c != '\0' {
            out.push(c);
        }
    }
    out
}

/// Replaces what could steer a terminal or turn text around: control characters and directional marks. Names in a bundle are
/// the sender's choice.
fn safe(text: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    text.chars().map(|c| if steers(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_cut_and_names_cannot_steer() {
        let digest = Digest([0xab; 32]);
        assert_eq!(shorten(&format!("x {digest}, {digest}.")), "x abab..ab, abab..ab.");
        assert_eq!(shorten("deadbeef é"), "deadbeef é");
        assert_eq!(safe("a\u{1b}[2J\u{202e}b"), "a\u{fffd}[2J\u{fffd}b");
    }
}
