//! `hallmark attest collect`: the one command of `attest` that asks somebody.

use anyhow::{Context as _, Result};
use hallmark_attestation::{Context, Dangers, Input, Kind, Policy, verify};
use hallmark_environment::collateral::{CollectError, Collected, Origin};
use serde_json::json;

use super::slices;
use crate::args::AttestCollect;
use crate::cmd::App;
use crate::cmd::chat::runtime;
use crate::console::{self, Progress};
use crate::disk::{Access, Disk};
use crate::environment::{collector, development_roots, read, read_all};
use crate::fault::{Exit, Note};
use crate::time;

/// Collects, and writes what was collected even if some is missing.
pub fn run(app: &App, args: &AttestCollect) -> Result<Exit> {
    let kind: Kind = args.kind.into();
    let evidence = read(&args.file)?;
    let certificates = read_all(&args.cert)?;
    let certificates = slices(&certificates);
    let input = Input { evidence: &evidence, certificates: &certificates, ..Input::default() };
    let now = time::now() / 1000;
    refuse_rejected(kind, &input, args, now)?;
    let collector = collector(app, args.pccs.as_deref())?;
    let collected = {
        let _progress = Progress::new("asking the makers");
        runtime()?.block_on(collector.collect(kind, &input, now))
    };
    let (collected, failed) = match collected {
        Ok(collected) => (collected, Vec::new()),
        Err(CollectError::Incomplete { collected, failed }) => (*collected, failed),
        Err(error) => return Err(error).context("it cannot be said what this evidence needs"),
    };
    Disk::default().write(&args.output, collected.snapshot.to_json().as_bytes(), Access::Public)?;
    let output = args.output.display().to_string();
    app.show(
        || {
            let items: Vec<_> = collected
                .origins
                .iter()
                .map(|(need, from)| json!({ "need": need.to_string(), "from": origin(from) }))
                .collect();
            let failed: Vec<_> = failed.iter().map(ToString::to_string).collect();
            json!({ "snapshot": output, "items": items, "left_out": left_out(&collected), "failed": failed })
        },
        || {
            let items = collected.origins.iter().map(|(need, from)| format!("{need}: {}", origin(from)));
            let left_out = left_out(&collected)
                .into_iter()
                .map(|need| format!("{need}: not brought yet, give it as collateral"));
            items.chain(left_out).collect()
        },
    );
    for error in &collected.unkept {
        console::note(&format!("not kept: {error}"));
    }
    let Some(first) = failed.first() else { return Ok(Exit::Accepted) };
    let failed: Vec<_> = failed.iter().map(ToString::to_string).collect();
    Err(Note::unreachable(format!("{output} lacks {}", failed.join("; "))).hint(first.hint()).error())
}

/// Evidence says what is asked for, and where: only what is not rejected as it is may. An issuer that is missing may be what is to be brought.
fn refuse_rejected(kind: Kind, input: &Input<'_>, args: &AttestCollect, now: u64) -> Result<()> {
    let policy = Policy::genuine();
    let roots = development_roots(&args.dangers);
    let dangers = Dangers { accept_simulated: &roots, accept_debug: args.dangers.dangerously_accept_debug };
    let report = verify(kind, input, &Context { dangers, ..Context::new(now, &policy) });
    let is_open = |code: &str| matches!(code, "no-issuer");
    let wrong = report.reasons().find(|(_, reason)| !is_open(hallmark_receipt::check::Cause::code(*reason)));
    match wrong {
        None => Ok(()),
        Some((id, reason)) => Err(Note::new(format!("the evidence is rejected as it is: {id}: {reason}"))
            .hint("see all rows: hallmark attest verify FILE --kind KIND")
            .error()),
    }
}

fn origin(origin: &Origin) -> String {
    match origin {
        Origin::Source => "fetched".to_owned(),
        Origin::Cache => "kept from before".to_owned(),
        Origin::Kept(error) => format!("kept from before, and old: {error}"),
        _ => "had".to_owned(),
    }
}

fn left_out(collected: &Collected) -> Vec<String> {
    collected.left_out.iter().map(ToString::to_string).collect()
}
