//! `hallmark verify`.

use std::path::Path;
use std::str::FromStr;
use std::time::Instant;

use anyhow::{Context as _, Result};
use hallmark_receipt::json::Value as Strict;
use hallmark_receipt::{KeyId, PublicKey};
use hallmark_verdict::{CheckId, Context, Decision, Policy, Replayer, Trust, Verdict, judge, render};
use serde_json::{Value, json};

use super::App;
use super::receipts::read_bundle;
use crate::args::{HardwareArgs, Verify};
use crate::console::{self, BOLD, DIM, GREEN, Progress, RED, YELLOW, styled};
use crate::disk;
use crate::environment;
use crate::fault::{self, Exit, Note};
use crate::keys;
use crate::language::Copies;
use crate::model::{self, Copy};
use crate::time;

/// Runs `verify`: the worst outcome is the exit code.
pub fn run(app: &App, args: &Verify) -> Result<Exit> {
    let mut policy = policy(args.policy.as_deref().unwrap_or(&app.config.policy.value))?;
    policy.proof_bits = args.proof_bits.unwrap_or(policy.proof_bits);
    let copy = args.model.as_deref().map(|text| model::resolve(&app.home, text)).transpose()?;
    let context = context(app, &args.trust, copy.as_ref(), &args.hardware)?;
    let replayer = Copies::new(app, copy.as_ref());
    let mut exit = Exit::Accepted;
    let mut results = Vec::new();
    for (index, path) in args.bundles.iter().enumerate() {
        let result = read_bundle(path).map(|bytes| {
            let _progress = Progress::new("checking");
            let begun = Instant::now();
            let verdict = judge(&bytes, &policy, &context, Some(&replayer as &dyn Replayer));
            // What is left beside the re-run is the proof, but for a handful of signatures and hashes.
            (verdict, begun.elapsed().saturating_sub(replayer.take_spent()))
        });
        match result {
            Ok((verdict, checking)) => {
                exit = exit.worst(exit_of(&verdict));
                if app.json {
                    results.push(to_json(path, &verdict)?);
                } else {
                    if args.bundles.len() > 1 {
                        let gap = if index > 0 { "\n" } else { "" };
                        console::out(&format!(
                            "{gap}{}",
                            styled(BOLD, &console::plain(&path.display().to_string()))
                        ));
                    }
                    render::text(&verdict).lines().for_each(|line| console::out(&paint(line)));
                    if verdict.check(CheckId::Proof).is_some_and(|check| check.has_passed()) {
                        console::note(&format!("the proof was checked in {} ms", checking.as_millis()));
                    }
                }
            }
            Err(error) => {
                let error = anyhow::Error::new(error).context("the bundle cannot be read");
                exit = exit.worst(fault::report(&error, false));
                results.push(json!({ "bundle": path.display().to_string(), "error": format!("{error:#}") }));
            }
        }
    }
    if app.json {
        // One bundle is one object; several are a list of such objects.
        let value =
            if args.bundles.len() == 1 { results.pop().unwrap_or_default() } else { Value::Array(results) };
        console::json(&value);
    }
    Ok(exit)
}

/// A built-in policy, or the one in a TOML file.
pub fn policy(name: &str) -> Result<Policy> {
    if let Some(policy) = Policy::named(name) {
        return Ok(policy);
    }
    let note = || {
        Note::usage(format!("there is no policy `{name}`"))
            .hint("policies are `default`, `replay`, or a TOML file")
    };
    let bytes =
        disk::read(Path::new(name), hallmark_verdict::policy::MAX_POLICY as u64).with_context(note)?;
    let text = String::from_utf8(bytes).with_context(note)?;
    Policy::parse(&text).with_context(|| Note::usage(format!("the policy {name} is not understood")))
}

/// What this verifier knows: the time, its pins and revocations, and what the command line names: identities to trust, a model, what is
/// known of hardware.
pub fn context(app: &App, trust: &[String], copy: Option<&Copy>, hardware: &HardwareArgs) -> Result<Context> {
    let known = keys::pins(&app.home)?.into_iter().map(|pin| pin.key.id()).collect();
    let named = trust.iter().map(|text| trusted(text)).collect::<Result<_>>()?;
    let revocations: Vec<_> =
        keys::revocations(&app.home)?.into_iter().map(|(_, revocation)| revocation).collect();
    Ok(Context {
        trust: Trust { named, known },
        revocations: (!revocations.is_empty()).then_some(revocations),
        expected_model: copy.map(|copy| copy.id()),
        hardware: environment::hardware(hardware)?,
        ..Context::at(time::now())
    })
}

fn trusted(text: &str) -> Result<KeyId> {
    identity(text).context(
        Note::usage("--trust takes a public key, or the id of an identity")
            .hint("the node's owner gets it from `hallmark keys export`; never take it from the bundle"),
    )
}

/// A public key's id, or an id.
pub fn identity(text: &str) -> Result<KeyId, <PublicKey as FromStr>::Err> {
    let key = PublicKey::from_str(text).map(|key| key.id());
    key.or_else(|error| KeyId::from_str(text).map_err(|_| error))
}

/// The exit code of a verdict.
pub fn exit_of(verdict: &Verdict) -> Exit {
    match verdict.decision {
        Decision::Accepted(_) => Exit::Accepted,
        Decision::Rejected => Exit::Rejected,
        Decision::Undecided(_) => Exit::Undecided,
    }
}

/// A line of the judge with colour on its mark, which is a word by itself.
pub fn paint(line: &str) -> String {
    if let Some(rest) = line.strip_prefix("SIMULATED ") {
        return format!("{} {}", styled(RED, "SIMULATED"), paint(rest));
    }
    // Rows of the hardware's own stand deeper.
    if let Some(rest) = line.strip_prefix("    ") {
        return format!("    {}", paint(rest));
    }
    for (mark, style) in [("  ok  ", GREEN), ("  no  ", RED), ("  --  ", YELLOW)] {
        if let Some(rest) = line.strip_prefix(mark) {
            return format!("{}{rest}", styled(style, mark));
        }
    }
    for (word, style) in [("accepted", GREEN), ("rejected", RED), ("undecided", YELLOW), ("not shown", DIM)] {
        if let Some(rest) = line.strip_prefix(word) {
            return format!("{}{rest}", styled(style, word));
        }
    }
    if line.ends_with('?') { styled(BOLD, line) } else { line.to_owned() }
}

fn to_json(path: &Path, verdict: &Verdict) -> Result<Value> {
    let text = Strict::Object(render::to_object(verdict)).canonical();
    let mut value: Value = serde_json::from_str(&text)?;
    value["bundle"] = path.display().to_string().into();
    Ok(value)
}
