//! Writes the first inputs of the fuzz targets: development evidence of every form, good and with each flaw, and where evidence from
//! hardware lies beside the repository, that too. Called by `./x fuzz`.
//!
//!     cargo run -p hallmark-attestation --features simulated --example fuzz_corpus -- fuzz/corpus

use std::error::Error;
use std::fs;
use std::path::Path;

use hallmark_attestation::nvidia::ReferenceManifest;
use hallmark_attestation::simulated::{DEFAULT_SEED, Flaw, Form, Provider, roots};
use hallmark_attestation::{Context, Kind, Policy, Producer as _, Request, policy};

/// As the targets have it.
const AT: u64 = 1_590_000_000;
/// The longest file that is worth changing byte by byte.
const LONGEST: u64 = 1 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).ok_or("where to?")?;
    let put = |target: &str, name: &str, bytes: &[u8]| -> std::io::Result<()> {
        let folder = Path::new(&folder).join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(name), bytes)
    };
    let (genuine, roots) = (Policy::genuine(), roots(DEFAULT_SEED)?);
    let mut context = Context::new(AT, &genuine);
    context.dangers.accept_simulated = &roots;
    put("policy", "template", policy::TEMPLATE.as_bytes())?;
    for form in Form::ALL {
        let flaws = Flaw::ALL.iter().copied().filter(|flaw| flaw.forms().contains(&form));
        for flaw in std::iter::once(None).chain(flaws.map(Some)) {
            let provider = Provider::new(form);
            let provider = match flaw {
                Some(flaw) => provider.with_flaw(flaw),
                None => provider.with_reference_manifests(),
            };
            let nonce = if form.kind() == Kind::Nvidia { vec![7; 32] } else { Vec::new() };
            let evidence = provider.produce(&Request { nonce, at: AT, ..Request::default() })?;
            // Some are none to a verifier that was told nothing of code and nonce: genuine evidence of something else.
            if flaw.is_some() && evidence.judge(form.kind(), &context).is_accepted() {
                continue;
            }
            let name = format!("{}-{}", form.name(), flaw.map_or("good", Flaw::name));
            put(target(form.kind()), &name, &evidence.evidence)?;
            for (number, file) in evidence.certificates.iter().enumerate() {
                put("x509", &format!("{name}-certificate-{number}"), file)?;
                put("encoding", &format!("{name}-certificate-{number}"), file)?;
            }
            for (number, file) in evidence.collateral.iter().enumerate() {
                let target = match form.kind() {
                    Kind::Tdx | Kind::Sgx => "collateral",
                    Kind::Nvidia if ReferenceManifest::is_one(file) => "rim",
                    _ => "x509",
                };
                put(target, &format!("{name}-collateral-{number}"), file)?;
            }
            if let Some(log) = &evidence.event_log {
                put("event_log", &name, log)?;
            }
        }
    }
    let hardware = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/attestation-vectors");
    for (kind, folder) in [
        (Kind::Nitro, "nitro"),
        (Kind::Tdx, "tdx"),
        (Kind::Sgx, "sgx"),
        (Kind::SevSnp, "sev-snp"),
        (Kind::Nvidia, "nvidia-gpu"),
    ] {
        let mut folders = vec![hardware.join(folder)];
        while let Some(at) = folders.pop() {
            for entry in fs::read_dir(&at).into_iter().flatten() {
                let (path, metadata) = {
                    let entry = entry?;
                    (entry.path(), entry.metadata()?)
                };
                if metadata.is_dir() {
                    folders.push(path);
                } else if metadata.len() <= LONGEST {
                    let name = path.strip_prefix(&hardware)?.to_string_lossy().replace('/', "-");
                    let bytes = fs::read(&path)?;
                    put(target(kind), &name, &bytes)?;
                    put("encoding", &name, &bytes)?;
                    let others: &[&str] = match kind {
                        Kind::Tdx if name.contains("ccel") || name.contains("CCEL") => &["event_log"],
                        Kind::Tdx | Kind::Sgx => &["collateral", "x509"],
                        _ => &["x509"],
                    };
                    others.iter().try_for_each(|other| put(other, &name, &bytes))?;
                }
            }
        }
    }
    Ok(())
}

/// The target of a kind's evidence.
fn target(kind: Kind) -> &'static str {
    match kind {
        Kind::Nitro => "nitro",
        Kind::SevSnp => "snp",
        Kind::Nvidia => "nvidia",
        _ => "quote",
    }
}
