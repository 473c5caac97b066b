//! `hallmark attest produce`: evidence without hardware.

use std::path::Path;

use anyhow::{Context as _, Result};
use hallmark_attestation::simulated::{Flaw, Form, Provider};
use hallmark_attestation::{Kind, Producer as _, Request};
use serde_json::json;

use super::{hex, instant};
use crate::args::AttestProduce;
use crate::cmd::App;
use crate::console;
use crate::disk::{Access, Disk};
use crate::fault::{Exit, Note};
use crate::time;

/// Makes evidence, writes it with what belongs to it, and says how it is judged.
pub fn run(app: &App, args: &AttestProduce) -> Result<Exit> {
    let kind: Kind = args.kind.into();
    let mut provider = Provider::new(form(kind, args.form.as_deref())?);
    if let Some(name) = &args.flaw {
        provider = provider.with_flaw(flaw(name)?);
    }
    let request = Request {
        report_data: args.report_data.as_deref().map_or(Ok(Vec::new()), |text| hex("--report-data", text))?,
        nonce: args.nonce.as_deref().map_or(Ok(Vec::new()), |text| hex("--nonce", text))?,
        at: args.at.as_deref().map_or(Ok(time::now() / 1000), instant)?,
    };
    let evidence = provider.produce(&request).with_context(|| Note::usage("no such evidence can be made"))?;
    let disk = Disk::default();
    disk.create_folder(&args.output, Access::Public)?;
    let write = |name: &str, bytes: &[u8]| -> Result<String> {
        let path = args.output.join(name);
        disk.write(&path, bytes, Access::Public)?;
        Ok(path.display().to_string())
    };
    let file = write("evidence.bin", &evidence.evidence)?;
    let mut command: Vec<String> =
        ["hallmark", "attest", "verify", &file, "--kind", kind.name()].map(String::from).into();
    for (flag, folder, files) in [
        ("--cert", "certificates", &evidence.certificates),
        ("--collateral", "collateral", &evidence.collateral),
    ] {
        let path = args.output.join(folder);
        // What an earlier run left would be taken for this one's.
        disk.remove(&path)?;
        if files.is_empty() {
            continue;
        }
        disk.create_folder(&path, Access::Public)?;
        for (number, bytes) in files.iter().enumerate() {
            write(&Path::new(folder).join(format!("{number:02}")).display().to_string(), bytes)?;
        }
        command.extend([flag.to_owned(), path.display().to_string()]);
    }
    if let Some(log) = &evidence.event_log {
        command.extend(["--event-log".to_owned(), write("event-log.bin", log)?]);
    }
    for (flag, text) in [("--nonce", &args.nonce), ("--report-data", &args.report_data)] {
        command.extend(text.iter().flat_map(|text| [flag.to_owned(), text.clone()]));
    }
    command.extend(["--at".to_owned(), request.at.to_string(), "--dangerously-accept-simulated".to_owned()]);
    if app.json {
        console::json(&json!({ "evidence": file, "verify": command }));
    } else {
        console::out(&command.join(" "));
    }
    Ok(Exit::Accepted)
}

fn form(kind: Kind, name: Option<&str>) -> Result<Form> {
    let forms = || Form::ALL.into_iter().filter(|form| form.kind() == kind);
    let found = match name {
        None => forms().next(),
        Some(name) => forms().find(|form| form.name() == name),
    };
    found.ok_or_else(|| {
        let names: Vec<_> = forms().map(Form::name).collect();
        let what = format!("{} has no form `{}`", kind.name(), name.unwrap_or_default());
        Note::usage(what).hint(format!("it has {}", names.join(", "))).error()
    })
}

fn flaw(name: &str) -> Result<Flaw> {
    Flaw::from_name(name).ok_or_else(|| {
        let names: Vec<_> = Flaw::ALL.iter().map(|flaw| flaw.name()).collect();
        Note::usage(format!("there is no flaw `{name}`"))
            .hint(format!("there are {}", names.join(", ")))
            .error()
    })
}
