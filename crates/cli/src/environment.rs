//! The environment of a node's keys, and what a verifier takes of others'.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use hallmark_attestation::Binding;
#[cfg(feature = "simulated")]
use hallmark_attestation::anchors;
use hallmark_attestation::encoding::MAX_FILE;
#[cfg(feature = "simulated")]
use hallmark_attestation::simulated::{Form, Provider};
use hallmark_environment::collateral::{Cache, Collecting, Collector, Config, Intel, Sources};
#[cfg(target_os = "linux")]
use hallmark_environment::device;
use hallmark_environment::{Attester, SharedProducer};
use hallmark_receipt::{Digest, PublicKey, Purpose};
use hallmark_verdict::Hardware;

use crate::args::{Dangers, HardwareArgs};
use crate::cmd::App;
use crate::console;
use crate::disk;
use crate::fault::Note;
use crate::time;

/// The most files of one sort.
const MAX_FILES: usize = 64;
/// How long evidence serves before it is made anew, in seconds.
const REFRESH_SECONDS: u64 = 3600;
/// The name of this machine's own hardware.
const HARDWARE: &str = "hardware";
/// The development form that stands in for hardware.
#[cfg(feature = "simulated")]
const STAND_IN: Form = Form::TdxV4;

/// What collects collateral, and keeps it in `home`; from a cache of Intel's services (PCCS) if there is one.
pub fn collector(app: &App, pccs: Option<&str>) -> Result<Collector> {
    let intel = pccs.map_or_else(Intel::default, Intel::pccs);
    let cache = Cache::new(app.home.root().join("collateral"));
    let sources = Sources { intel, ..Sources::default() };
    Collector::new(Config { sources, cache: Some(cache), ..Config::default() })
        .context("collateral cannot be collected")
}

/// Evidence of `producer` that binds the receipt key.
pub fn attester(producer: SharedProducer, key: &PublicKey) -> Result<Attester> {
    if producer.is_simulated() {
        let kind = producer.kind().name();
        console::note(&format!(
            "SIMULATED {kind} evidence: no hardware is behind it, and verifiers take it only with --dangerously-accept-simulated"
        ));
    }
    let binding = Binding::default().with_key(Purpose::Receipt, key)?;
    Attester::new(producer, binding, REFRESH_SECONDS, time::now() / 1000).context("no evidence could be made")
}

/// The producer of this name; without one, this machine's hardware or what stands in for it.
pub fn producer(app: &App, name: Option<&str>) -> Result<SharedProducer> {
    match name {
        Some(HARDWARE) => hardware_here(app),
        None => hardware_here(app).or_else(|error| development(None).ok_or(error)),
        Some(name) => development(Some(name)).ok_or_else(|| {
            let mut names = vec![HARDWARE];
            names.extend(development_names());
            Note::usage(format!("there is no environment `{name}`"))
                .hint(format!("there are {}", names.join(", ")))
                .error()
        }),
    }
}

/// This machine's hardware, which gives evidence with its collateral.
#[cfg(target_os = "linux")]
fn hardware_here(app: &App) -> Result<SharedProducer> {
    let none = || Note::unreachable("no hardware here vouches for this machine");
    let device = device::detect().map(|devices| devices.into_iter().next()).with_context(none)?;
    let device = device.ok_or_else(|| none().error())?;
    Ok(Box::new(Collecting::new(device, collector(app, None)?)))
}

/// Nobody knows such hardware here.
#[cfg(not(target_os = "linux"))]
fn hardware_here(_: &App) -> Result<SharedProducer> {
    Err(Note::unreachable("hardware is asked on Linux alone").error())
}

/// The development form of this name, or the one that stands in for hardware.
#[cfg(feature = "simulated")]
fn development(name: Option<&str>) -> Option<SharedProducer> {
    let name = name.unwrap_or(STAND_IN.name());
    let form = Form::ALL.into_iter().find(|form| form.name() == name && binds_keys(form))?;
    Some(Box::new(Provider::new(form)))
}

#[cfg(feature = "simulated")]
fn development_names() -> Vec<&'static str> {
    Form::ALL.into_iter().filter(binds_keys).map(Form::name).collect()
}

#[cfg(feature = "simulated")]
fn binds_keys(form: &Form) -> bool {
    form.kind() != hallmark_attestation::Kind::Nvidia
}

/// This program was built without development evidence.
#[cfg(not(feature = "simulated"))]
fn development(_: Option<&str>) -> Option<SharedProducer> {
    None
}

#[cfg(not(feature = "simulated"))]
fn development_names() -> Vec<&'static str> {
    Vec::new()
}

/// What the arguments say of others' hardware.
pub fn hardware(args: &HardwareArgs) -> Result<Hardware> {
    let collateral = if args.collateral.is_empty() { None } else { Some(read_all(&args.collateral)?) };
    Ok(Hardware {
        collateral,
        accept_simulated: development_roots(&args.dangers),
        accept_debug: args.dangers.dangerously_accept_debug,
    })
}

/// The development roots to take: none, unless asked.
#[cfg(feature = "simulated")]
pub fn development_roots(args: &Dangers) -> Vec<Digest> {
    if args.dangerously_accept_simulated { anchors::development() } else { Vec::new() }
}

/// None: this program was built without development evidence.
#[cfg(not(feature = "simulated"))]
pub fn development_roots(_: &Dangers) -> Vec<Digest> {
    Vec::new()
}

/// A file of evidence or of what belongs to it.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    disk::read(path, MAX_FILE as u64).with_context(|| Note::new(format!("{} cannot be read", path.display())))
}

/// The files, and those of the folders, in the order of their names.
pub fn read_all(paths: &[PathBuf]) -> Result<Vec<Vec<u8>>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let unreadable = || Note::new(format!("{} cannot be read", path.display()));
        let mut inside = Vec::new();
        for entry in path.read_dir().with_context(unreadable)?.take(MAX_FILES.saturating_add(1)) {
            let entry = entry.with_context(unreadable)?.path();
            if entry.is_file() {
                inside.push(entry);
            }
        }
        inside.sort();
        files.extend(inside);
    }
    if files.len() > MAX_FILES {
        return Err(Note::usage(format!("more than {MAX_FILES} files of one sort")).error());
    }
    files.iter().map(|file| read(file)).collect()
}
