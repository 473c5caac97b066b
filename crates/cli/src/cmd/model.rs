//! `hallmark model`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use hallmark_gateway::local::{Embedder, Local, LocalError};
use hallmark_model::llm::{Arithmetic, DecoderModel, EncoderModel, Network};
use serde_json::{Value, json};

use super::App;
use crate::args::ModelCommand;
use crate::console::table;
use crate::fault::{Exit, Note};
use crate::model::{self, Copy, Kind};
use crate::proof;
use crate::shipped::{LANGUAGES, SHIPPED, Shipped, ShippedLanguage};
use crate::store::Area;
use crate::tensor_io::InputSpec;

mod quantize;

/// Runs `model COMMAND`.
pub fn run(app: &App, command: ModelCommand) -> Result<Exit> {
    match command {
        ModelCommand::Add { file, name, int8 } => {
            let arithmetic = int8.then_some(Arithmetic::Int8);
            add(app, &file, name.as_deref(), arithmetic)
        }
        ModelCommand::Quantize(args) => quantize::run(app, &args),
        ModelCommand::Commit { model, name } => commit(app, &model, name.as_deref()),
        ModelCommand::List => list(app),
        ModelCommand::Show { model } => show(app, &model),
    }
    .map(|()| Exit::Accepted)
}

fn commit(app: &App, which: &str, name: Option<&str>) -> Result<()> {
    check_free(name)?;
    let failed = "the model was not committed to";
    let copy = model::resolve(&app.home, which)?;
    let old = copy.id();
    let entry = proof::commitment(app, proof::onnx(&copy)?).context(failed)?;
    let Kind::Graph(model) = copy.kind else { return Err(Note::usage(failed).error()) };
    let copy = Copy { kind: Kind::Graph(model.with_proof(Some(entry))), ..copy };
    let (id, manifest) = (copy.id(), copy.manifest().to_json());
    let files: Vec<(String, Vec<u8>)> =
        copy.files.iter().map(|(path, bytes)| (path.clone(), bytes.clone())).collect();
    let own: Vec<String> =
        app.home.names()?.into_iter().filter(|(_, id)| *id == old).map(|(name, _)| name).collect();
    let writer = app.home.write()?;
    // A name of the model itself moves; any other must be free.
    let other = name.filter(|name| !own.iter().any(|own| own == name));
    writer.add_model(&id, manifest.as_bytes(), &files, other).context(failed)?;
    let moving: Vec<&String> = own.iter().filter(|own| name.is_none_or(|name| name == *own)).collect();
    for name in &moving {
        writer.put(Area::Names, name, format!("{id}\n").as_bytes()).context(failed)?;
    }
    let commitment = hallmark_receipt::Digest(entry.commitment);
    let names: Vec<&str> = other.into_iter().chain(moving.iter().map(|name| name.as_str())).collect();
    app.show(
        || json!({ "id": id.to_string(), "commitment": commitment.to_string(), "names": names, "from": old.to_string() }),
        || {
            let also = if names.is_empty() { String::new() } else { format!(" as {}", names.join(", ")) };
            vec![format!("committed: model {id}{also}"), format!("commitment {commitment}")]
        },
    );
    Ok(())
}

fn add(app: &App, file: &Path, name: Option<&str>, arithmetic: Option<Arithmetic>) -> Result<()> {
    check_free(name)?;
    let copy = Copy::from_path(file, arithmetic).context("the model was not added")?;
    usable(&copy)
        .with_context(|| format!("{} is refused", file.display()))
        .context("the model was not added")?;
    let files: Vec<(String, Vec<u8>)> =
        copy.files.iter().map(|(path, bytes)| (path.clone(), bytes.clone())).collect();
    let manifest = copy.manifest().to_json();
    app.home
        .write()?
        .add_model(&copy.id(), manifest.as_bytes(), &files, name)
        .context("the model was not added")?;
    app.show(
        || json!({ "id": copy.id().to_string(), "name": name, "files": sizes(&copy) }),
        || vec![format!("added {}{}", copy.id(), name.map(|name| format!(" as {name}")).unwrap_or_default())],
    );
    Ok(())
}

/// Refuses a local name that a shipped model has.
fn check_free(name: Option<&str>) -> Result<()> {
    match name.filter(|name| Shipped::named(name).is_some() || ShippedLanguage::named(name).is_some()) {
        Some(name) => Err(Note::usage(format!("`{name}` is the name of a shipped model"))
            .hint("choose another")
            .error()),
        None => Ok(()),
    }
}

/// A model that takes text has what text needs: what could never answer is not stored.
fn usable(copy: &Copy) -> Result<(), LocalError> {
    match &copy.kind {
        Kind::Graph(_) => Ok(()),
        Kind::Decoder(model) => Local::check(model, &copy.files),
        Kind::Encoder(model) => Embedder::check(model, &copy.files),
    }
}

fn list(app: &App) -> Result<()> {
    struct Row {
        id: String,
        names: Vec<String>,
        kind: &'static str,
        title: String,
        bytes: u64,
    }
    let mut rows = Vec::new();
    for (shipped, copy) in SHIPPED.iter().zip(model::shipped_copies()) {
        rows.push(Row {
            id: copy?.id().to_string(),
            names: vec![shipped.name.to_owned()],
            kind: "shipped",
            title: shipped.meta().map(|meta| meta.title).unwrap_or_default(),
            bytes: shipped.onnx.len() as u64,
        });
    }
    for shipped in LANGUAGES {
        rows.push(Row {
            id: model::shipped_language(shipped)?.id().to_string(),
            names: vec![shipped.name.to_owned()],
            kind: "shipped",
            title: shipped.title.to_owned(),
            bytes: shipped.files.iter().map(|(_, bytes)| bytes.len() as u64).sum(),
        });
    }
    let names = app.home.names()?;
    for id in app.home.models()? {
        let names = names.iter().filter(|(_, other)| *other == id).map(|(name, _)| name.clone()).collect();
        let bytes = folder_size(&app.home.model_folder(&id).join("files"));
        rows.push(Row { id: id.to_string(), names, kind: "stored", title: String::new(), bytes });
    }
    app.show(
        || {
            let list = rows.iter().map(|row| {
                json!({ "id": row.id, "names": row.names, "kind": row.kind, "title": row.title, "bytes": row.bytes })
            });
            json!({ "models": list.collect::<Vec<Value>>() })
        },
        || {
            let cells = rows.iter().map(|row| {
                let id = row.id.chars().take(12).collect();
                vec![row.names.join(", "), id, row.kind.to_owned(), size(row.bytes), row.title.clone()]
            });
            table(&cells.collect::<Vec<_>>())
        },
    );
    Ok(())
}

fn show(app: &App, which: &str) -> Result<()> {
    let copy = model::resolve(&app.home, which)?;
    let mut names: Vec<String> = copy.shipped.iter().map(|shipped| shipped.name.to_owned()).collect();
    names.extend(app.home.names()?.into_iter().filter(|(_, id)| *id == copy.id()).map(|(name, _)| name));
    let (members, about) = match &copy.kind {
        Kind::Graph(_) => graph_about(&copy)?,
        Kind::Decoder(model) => decoder_about(model),
        Kind::Encoder(model) => encoder_about(model),
    };
    let manifest: Value = serde_json::from_str(&copy.manifest().to_json())?;
    app.show(
        || {
            let mut all = json!({
                "id": copy.id().to_string(),
                "names": names,
                "files": sizes(&copy),
                "manifest": manifest,
            });
            for (name, value) in members {
                all[name] = value;
            }
            all
        },
        || {
            let mut rows = vec![vec!["id".to_owned(), copy.id().to_string()]];
            if !names.is_empty() {
                rows.push(vec!["names".to_owned(), names.join(", ")]);
            }
            for (path, bytes) in &copy.files {
                rows.push(vec!["file".to_owned(), format!("{path}, {}", size(bytes.len() as u64))]);
            }
            rows.extend(about);
            let mut lines = table(&rows);
            let language = ShippedLanguage::named(which).map(|shipped| shipped.card);
            if let Some(card) = copy.shipped.map(|shipped| shipped.card).or(language) {
                lines.push(String::new());
                lines.extend(card.trim_end().lines().map(str::to_owned));
            }
            lines
        },
    );
    Ok(())
}

/// What `show` says of one kind of model: JSON members, and rows for people.
type About = (Vec<(&'static str, Value)>, Vec<Vec<String>>);

fn graph_about(copy: &Copy) -> Result<About> {
    let (inputs, outputs) = (copy.inputs()?, copy.outputs()?);
    let mut operators: BTreeMap<&str, usize> = BTreeMap::new();
    for node in &copy.graph()?.nodes {
        *operators.entry(node.op.name).or_default() += 1;
    }
    let mut rows = Vec::new();
    for (label, specs) in [("input", &inputs), ("output", &outputs)] {
        rows.extend(specs.iter().map(|spec| vec![label.to_owned(), format!("{}: {spec}", spec.name)]));
    }
    let list: Vec<String> = operators.iter().map(|(name, n)| format!("{n} {name}")).collect();
    rows.push(vec!["operators".to_owned(), list.join(", ")]);
    let specs = |specs: &[InputSpec]| specs.iter().map(InputSpec::to_json).collect::<Vec<Value>>().into();
    let members =
        vec![("inputs", specs(&inputs)), ("outputs", specs(&outputs)), ("operators", json!(operators))];
    Ok((members, rows))
}

fn decoder_about(model: &DecoderModel) -> About {
    let a = model.skeleton().architecture();
    let facts = [
        ("layers", a.layers),
        ("hidden", a.hidden),
        ("heads", a.heads),
        ("key_value_heads", a.kv_heads),
        ("vocabulary", a.vocabulary),
        ("context", a.context),
        ("parameters", parameters(a)),
    ];
    let (mut members, mut rows) = network_about("decoder", a.family.name(), &facts);
    members.push(("arithmetic", json!(a.arithmetic.name())));
    rows.push(vec!["arithmetic".to_owned(), a.arithmetic.name().to_owned()]);
    (members, rows)
}

fn encoder_about(model: &EncoderModel) -> About {
    let a = model.skeleton().architecture();
    let facts = [
        ("layers", a.layers),
        ("dimensions", a.hidden),
        ("heads", a.heads),
        ("vocabulary", a.vocabulary),
        ("tokens", a.tokens),
        ("parameters", parameters(a)),
    ];
    network_about("encoder", "bert", &facts)
}

/// Elements of all weights.
fn parameters<N: Network>(network: &N) -> usize {
    let weights = network.weights();
    weights.iter().map(|(_, shape)| shape.iter().product::<usize>()).fold(0, usize::saturating_add)
}

fn network_about(kind: &'static str, family: &str, facts: &[(&str, usize)]) -> About {
    let mut rows = vec![vec!["family".to_owned(), family.to_owned()]];
    let words = |name: &str| name.replacen('_', "/", 1).replace('_', " ");
    rows.extend(facts.iter().map(|(name, n)| vec![words(name), n.to_string()]));
    let mut about = json!({ "family": family });
    for (name, n) in facts {
        about[*name] = (*n).into();
    }
    (vec![(kind, about)], rows)
}

fn sizes(copy: &Copy) -> Value {
    copy.files.iter().map(|(path, bytes)| json!({ "path": path, "bytes": bytes.len() })).collect()
}

fn folder_size(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => folder_size(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} kB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MB", bytes as f64 / 1_048_576.0),
    }
}

impl App {
    /// A name for the model `id`: shipped, or local.
    pub fn name_of(&self, id: &hallmark_receipt::Digest) -> Option<String> {
        let local = self.home.names().ok()?.into_iter().find(|(_, other)| other == id).map(|(name, _)| name);
        local.or_else(|| {
            let mut copies = SHIPPED.iter().zip(model::shipped_copies());
            copies
                .find(|(_, copy)| copy.as_ref().is_ok_and(|copy| copy.id() == *id))
                .map(|(s, _)| s.name.to_owned())
        })
    }
}
