//! `hallmark receipts`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use hallmark_receipt::bundle::MAX_BUNDLE;
use hallmark_receipt::{Bundle, Digest, Model, Receipt};
use hallmark_verdict::time;
use serde_json::{Value, json};

use super::App;
use crate::args::ReceiptsCommand;
use crate::console::{self, table};
use crate::disk::{self, Access, Disk, DiskError};
use crate::fault::{Exit, Note};
use crate::store::{Area, Home, StoreError};

/// How kept bundles are called: their claim's id and this.
pub const SUFFIX: &str = ".receipt.json";

/// Runs `receipts COMMAND`.
pub fn run(app: &App, command: ReceiptsCommand) -> Result<Exit> {
    match command {
        ReceiptsCommand::List => list(app),
        ReceiptsCommand::Show { receipt } => show(app, &receipt),
        ReceiptsCommand::Redact { receipt, output } => redact(app, &receipt, output.as_deref()),
    }
    .map(|()| Exit::Accepted)
}

/// Reads a bundle of at most [`MAX_BUNDLE`] bytes.
pub fn read_bundle(path: &Path) -> Result<Vec<u8>, DiskError> {
    disk::read(path, MAX_BUNDLE as u64)
}

fn list(app: &App) -> Result<()> {
    let mut rows = Vec::new();
    for id in ids(&app.home)? {
        let path = app.home.path(Area::Receipts, &format!("{id}{SUFFIX}"));
        let summary = read_bundle(&path).map_err(anyhow::Error::from).and_then(|bytes| parse(&bytes));
        // One damaged file does not hide the others.
        rows.push((id, path, summary));
    }
    rows.sort_by_key(|(id, _, summary)| {
        std::cmp::Reverse((summary.as_ref().ok().map(|(_, receipt)| receipt.time), *id))
    });
    app.show(
        || {
            let list = rows.iter().map(|(id, path, summary)| match summary {
                Ok((bundle, receipt)) => {
                    let mut value = describe(bundle, receipt);
                    value["path"] = path.display().to_string().into();
                    value
                }
                Err(error) => json!({ "id": id.to_string(), "path": path.display().to_string(), "error": error.to_string() }),
            });
            json!({ "receipts": list.collect::<Vec<Value>>() })
        },
        || {
            if rows.is_empty() {
                console::note("no receipts yet; `hallmark infer digits-cnn --sample --receipt first.receipt.json` makes one");
            }
            let cells = rows.iter().map(|(id, _, summary)| match summary {
                Ok((_, receipt)) => vec![
                    short(id),
                    time::text(receipt.time),
                    model_name(app, &receipt.claim.model),
                    receipt.evidence.iter().map(|(kind, _)| kind.name()).collect::<Vec<_>>().join(","),
                ],
                Err(_) => vec![short(id), "unreadable".to_owned()],
            });
            table(&cells.collect::<Vec<_>>())
        },
    );
    Ok(())
}

fn show(app: &App, which: &str) -> Result<()> {
    let (_, bundle, receipt) = load(app, which)?;
    app.show(
        || describe(&bundle, &receipt),
        || {
            let claim = &receipt.claim;
            let opened = match (&bundle.inputs, &bundle.outputs) {
                (Some(inputs), Some(outputs)) => {
                    format!("inputs ({}) and outputs ({})", inputs.len(), outputs.len())
                }
                (None, None) => "redacted".to_owned(),
                (Some(_), None) => "inputs only".to_owned(),
                (None, Some(_)) => "outputs only".to_owned(),
            };
            let evidence: Vec<&str> = receipt.evidence.iter().map(|(kind, _)| kind.name()).collect();
            let rows = [
                ("receipt", receipt.claim_id.to_string()),
                ("model", model_name(app, &claim.model)),
                ("time", format!("{}, by the node's word", time::text(receipt.time))),
                ("node", claim.node.to_string()),
                ("signed by", receipt.signer.to_string()),
                ("network", claim.network.clone()),
                ("request", claim.request_id.to_string()),
                ("inputs", claim.inputs.to_string()),
                ("outputs", claim.outputs.to_string()),
                ("evidence", evidence.join(", ")),
                ("openings", opened),
            ];
            table(&rows.map(|(key, value)| vec![key.to_owned(), value]))
        },
    );
    console::note("shown as it stands; `hallmark verify` checks it");
    Ok(())
}

fn redact(app: &App, which: &str, output: Option<&Path>) -> Result<()> {
    let (_, bundle, receipt) = load(app, which)?;
    let text = bundle.redact().to_json();
    match output {
        Some(path) => {
            Disk::default().write(path, text.as_bytes(), Access::Public)?;
            let id = receipt.claim_id;
            app.show(
                || json!({ "id": id.to_string(), "output": path.display().to_string() }),
                || {
                    vec![format!(
                        "{}: receipt {} without its inputs, outputs and salts",
                        path.display(),
                        short(&id)
                    )]
                },
            );
        }
        None => console::out(text.trim_end()),
    }
    Ok(())
}

fn ids(home: &Home) -> Result<Vec<Digest>, StoreError> {
    let names = home.list(Area::Receipts)?;
    Ok(names.iter().filter_map(|name| name.strip_suffix(SUFFIX)?.parse().ok()).collect())
}

/// A bundle by its path or its receipt's id, and where it lies.
pub fn load(app: &App, which: &str) -> Result<(PathBuf, Bundle, Receipt)> {
    let is_id = which.len() >= 4 && which.len() <= 64 && which.bytes().all(|b| b.is_ascii_hexdigit());
    let found: Vec<Digest> = if is_id {
        ids(&app.home)?.into_iter().filter(|id| id.to_string().starts_with(which)).collect()
    } else {
        Vec::new()
    };
    let path = match found.as_slice() {
        [id] => app.home.path(Area::Receipts, &format!("{id}{SUFFIX}")),
        [] => Path::new(which).to_owned(),
        many => {
            return Err(Note::usage(format!("{} receipts start with {which}", many.len()))
                .hint("give more digits")
                .error());
        }
    };
    let bytes = read_bundle(&path).context(
        Note::new(format!("no receipt `{which}`")).hint("`hallmark receipts list` shows those in the home"),
    )?;
    let (bundle, receipt) = parse(&bytes)?;
    Ok((path, bundle, receipt))
}

fn parse(bytes: &[u8]) -> Result<(Bundle, Receipt)> {
    let bundle = Bundle::parse(bytes).context("not a receipt's bundle")?;
    let receipt = Receipt::parse(&bundle.envelope.payload).context("not a receipt's bundle")?;
    Ok((bundle, receipt))
}

/// What a receipt says, without its openings.
fn describe(bundle: &Bundle, receipt: &Receipt) -> Value {
    let claim = &receipt.claim;
    let model = match &claim.model {
        Model::Id(id) => json!(id.to_string()),
        Model::Claimed { provider, name } => json!({ "provider": provider, "name": name }),
        _ => Value::Null,
    };
    json!({
        "id": receipt.claim_id.to_string(),
        "model": model,
        "time": receipt.time,
        "node": claim.node.to_string(),
        "signer": receipt.signer.to_string(),
        "network": claim.network,
        "request_id": claim.request_id.to_string(),
        "inputs": claim.inputs.to_string(),
        "outputs": claim.outputs.to_string(),
        "evidence": receipt.evidence.iter().map(|(kind, _)| kind.name()).collect::<Vec<_>>(),
        "redacted": bundle.inputs.is_none() && bundle.outputs.is_none(),
    })
}

/// The first twelve digits of an id.
pub fn short(id: &Digest) -> String {
    id.to_string().chars().take(12).collect()
}

fn model_name(app: &App, model: &Model) -> String {
    match model {
        Model::Id(id) => match app.name_of(id) {
            Some(name) => format!("{name} ({})", short(id)),
            None => short(id),
        },
        Model::Claimed { provider, name } => format!("{provider}/{name} (claimed)"),
        _ => "unknown".to_owned(),
    }
}
