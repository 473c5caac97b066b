//! `hallmark attest`.

mod collect;
#[cfg(feature = "simulated")]
mod produce;

use std::path::Path;

use anyhow::{Context as _, Result};
use hallmark_attestation::policy::{MAX_POLICY, TEMPLATE};
use hallmark_attestation::rego;
use hallmark_attestation::{Context, Dangers, Input, Kind, Policy, show, verify};
use hallmark_receipt::json::Value as Strict;
use hallmark_receipt::wire::from_hex;
use hallmark_verdict::render;

use super::App;
use super::verify::paint;
use crate::args::{AttestCommand, AttestPolicyCommand, AttestVerify, KindArg};
use crate::console;
use crate::disk;
use crate::environment::{development_roots, read, read_all};
use crate::fault::{Exit, Note};
use crate::time;

/// Runs `attest COMMAND`.
pub fn run(app: &App, command: AttestCommand) -> Result<Exit> {
    match command {
        AttestCommand::Verify(args) => judge(app, &args),
        AttestCommand::Collect(args) => collect::run(app, &args),
        AttestCommand::Show { file, kind } => fields(&file, kind.into()),
        #[cfg(feature = "simulated")]
        AttestCommand::Produce(args) => produce::run(app, &args),
        AttestCommand::Policy { command: AttestPolicyCommand::Init } => {
            console::out(TEMPLATE.trim_end());
            Ok(Exit::Accepted)
        }
    }
}

impl From<KindArg> for Kind {
    fn from(kind: KindArg) -> Self {
        match kind {
            KindArg::Nitro => Self::Nitro,
            KindArg::Tdx => Self::Tdx,
            KindArg::Sgx => Self::Sgx,
            KindArg::SevSnp => Self::SevSnp,
            KindArg::Nvidia => Self::Nvidia,
        }
    }
}

fn judge(app: &App, args: &AttestVerify) -> Result<Exit> {
    let policy = policy(&args.policy)?;
    let rego = rego(args)?;
    let at = args.at.as_deref().map_or(Ok(time::now() / 1000), instant)?;
    let nonce = args.nonce.as_deref().map(|text| hex("--nonce", text)).transpose()?;
    let pairing = args.cpu_nonce.as_deref().map(|text| hex("--cpu-nonce", text)).transpose()?;
    let report_data = args.report_data.as_deref().map(|text| hex("--report-data", text)).transpose()?;
    let evidence = read(&args.file)?;
    let certificates = read_all(&args.cert)?;
    let collateral = read_all(&args.collateral)?;
    let event_log = args.event_log.as_deref().map(read).transpose()?;
    let (certificates, collateral) = (slices(&certificates), slices(&collateral));
    let input = Input {
        evidence: &evidence,
        certificates: &certificates,
        collateral: &collateral,
        event_log: event_log.as_deref(),
    };
    let roots = development_roots(&args.dangers);
    let context = Context {
        nonce: nonce.as_deref(),
        binding: report_data.as_deref(),
        pairing: pairing.as_deref(),
        rego: rego.as_ref(),
        dangers: Dangers { accept_simulated: &roots, accept_debug: args.dangers.dangerously_accept_debug },
        ..Context::new(at, &policy)
    };
    let report = verify(args.kind.into(), &input, &context);
    if app.json {
        console::out(Strict::Object(render::attestation::to_object(&report)).pretty().trim_end());
    } else {
        render::attestation::text(&report).lines().for_each(|line| console::out(&paint(line)));
    }
    Ok(match report.exit_code() {
        0 => Exit::Accepted,
        1 => Exit::Rejected,
        _ => Exit::Undecided,
    })
}

/// Every field, as JSON: nested, and the same for people and programs.
fn fields(file: &Path, kind: Kind) -> Result<Exit> {
    let fields = show(kind, &read(file)?).with_context(|| {
        Note::new(format!("{} is no evidence of kind {}", file.display(), kind.name()))
            .hint("is --kind the right one?")
    })?;
    console::out(Strict::Object(fields).pretty().trim_end());
    Ok(Exit::Accepted)
}

fn policy(name: &str) -> Result<Policy> {
    if name == "genuine" {
        return Ok(Policy::genuine());
    }
    let note = || {
        Note::usage(format!("there is no policy `{name}`"))
            .hint("it is `genuine`, or a TOML file as `hallmark attest policy init` prints it")
    };
    let text = String::from_utf8(disk::read(Path::new(name), MAX_POLICY as u64).with_context(note)?)
        .with_context(note)?;
    Policy::parse(&text).with_context(|| Note::usage(format!("the policy {name} is not understood")))
}

/// The policy in Rego, if one was given.
#[cfg(feature = "rego")]
fn rego(args: &AttestVerify) -> Result<Option<rego::Policy>> {
    let Some(path) = &args.rego else { return Ok(None) };
    let unreadable = |path: &Path| Note::usage(format!("{} cannot be read", path.display()));
    let text = disk::read(path, rego::MAX_POLICY as u64).with_context(|| unreadable(path))?;
    let text = String::from_utf8(text).with_context(|| unreadable(path))?;
    let reference = args
        .reference
        .as_deref()
        .map(|path| disk::read(path, rego::MAX_REFERENCE as u64).with_context(|| unreadable(path)));
    let policy = rego::Policy::parse(&text, reference.transpose()?.as_deref()).with_context(|| {
        Note::usage(format!("the policy {} is not understood", path.display()))
            .hint("docs/attestation.md says which policies in Rego are, and shows one")
    })?;
    Ok(Some(policy))
}

/// None: this program was built without Rego.
#[cfg(not(feature = "rego"))]
fn rego(_: &AttestVerify) -> Result<Option<rego::Policy>> {
    Ok(None)
}

/// Seconds since 1970, or a date and time.
fn instant(text: &str) -> Result<u64> {
    let seconds = text.parse().ok().or_else(|| hallmark_verdict::time::parse(text).map(|ms| ms / 1000));
    seconds.ok_or_else(|| {
        Note::usage(format!("--at: `{text}` is no time"))
            .hint("give seconds since 1970, or UTC as 2026-11-21T08:12:44Z")
            .error()
    })
}

fn hex(flag: &str, text: &str) -> Result<Vec<u8>> {
    from_hex(&text.to_ascii_lowercase())
        .ok_or_else(|| Note::usage(format!("{flag} takes pairs of hexadecimal digits")).error())
}

fn slices(files: &[Vec<u8>]) -> Vec<&[u8]> {
    files.iter().map(Vec::as_slice).collect()
}
