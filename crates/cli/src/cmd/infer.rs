//! `hallmark infer`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use hallmark_engine::{Options, Program};
use hallmark_model::graph::Dim;
use hallmark_receipt::json::Object;
use hallmark_receipt::{
    Bundle, Data, Evidence, Model, Nonce, Opening, Receipt, RequestId, Salt, Signer as _, Tensor, Wanted,
    Work, issue,
};
use serde_json::{Value, json};

use super::App;
use super::receipts::SUFFIX;
use crate::args::{EvidenceArg, Infer};
use crate::console::{self, Progress};
use crate::disk::{self, Access, Disk};
use crate::environment;
use crate::fault::{Exit, Note};
use crate::keys::{self, KeysError};
use crate::model::{self, Copy};
use crate::proof;
use crate::shipped::Shipped;
use crate::store::Area;
use crate::tensor_io::{self, Limits, convert, json as tensor_json, npz};
use crate::time;

/// The network that receipts are for, as long as there is only this machine.
pub const NETWORK: &str = "local";
/// How many values of an output people are shown.
const SHOWN: usize = 10;

/// Named tensors.
pub type Named = Vec<(String, Tensor)>;

/// Runs `infer`.
pub fn run(app: &App, args: &Infer) -> Result<Exit> {
    let copy = model::resolve(&app.home, &args.model)?;
    let rows = read_inputs(&copy, args)?;
    let asked = Asked::from(args);
    let outputs = compute(app, &copy, &rows)?;
    // Everything is staged before anything gets its name: a failure leaves nothing behind.
    let disk = Disk::default();
    let mut staged = Vec::new();
    if let (Some(path), Some(outputs)) = (&args.output, outputs.first()) {
        let bytes = npz::write(outputs).context("the outputs do not fit an .npz file")?;
        staged.push(disk.stage(path, &bytes, Access::Public)?);
    }
    let wants_receipt = args.receipt.is_some() || !args.evidence.is_empty();
    let mut kept = Vec::new();
    if wants_receipt {
        let paths = bundle_paths(args, rows.len())?;
        for path in &paths {
            // Whether it can be written at all shows before keys are made.
            drop(disk.stage(path, b"", Access::Private)?);
        }
        let answers = rows.into_iter().zip(outputs.iter().cloned()).collect();
        let mut paths = paths.into_iter();
        let mut texts = Vec::new();
        for (bundle, receipt) in receipts(app, &copy, answers, &asked)? {
            let (text, name) = (bundle.to_json(), format!("{}{SUFFIX}", receipt.claim_id));
            let path = paths.next();
            if let Some(path) = &path {
                staged.push(disk.stage(path, text.as_bytes(), Access::Private)?);
            }
            kept.push((receipt, path.unwrap_or_else(|| app.home.path(Area::Receipts, &name))));
            texts.push((name, text));
        }
        let home = app.home.write()?;
        texts.iter().try_for_each(|(name, text)| home.put(Area::Receipts, name, text.as_bytes()))?;
    }
    staged.into_iter().try_for_each(disk::Staged::commit)?;
    app.show(
        || {
            let keys = output_keys(&copy);
            let answer = |(index, outputs): (usize, &Named)| {
                let mut value = json!({ "outputs": tensor_json::write_all(outputs) });
                if !keys.is_empty() {
                    value["output_keys"] = tensor_json::write_all(&keys);
                }
                if let Some((receipt, path)) = kept.get(index) {
                    value["receipt"] =
                        json!({ "id": receipt.claim_id.to_string(), "path": path.display().to_string() });
                }
                value
            };
            let mut answers: Vec<Value> = outputs.iter().enumerate().map(answer).collect();
            let mut value =
                if args.rows { json!({ "rows": answers }) } else { answers.pop().unwrap_or_default() };
            value["model"] = copy.id().to_string().into();
            value
        },
        || outputs.iter().flat_map(|outputs| people(&copy, args.from.sample, outputs)).collect(),
    );
    for (receipt, path) in &kept {
        console::note(&format!("receipt {} in {}", receipt.claim_id, path.display()));
    }
    if let Some((_, path)) = kept.first() {
        console::note(&format!("check it: hallmark verify {}", path.display()));
    }
    Ok(Exit::Accepted)
}

/// Where the bundles go beside the home: the file of `--receipt`, which with `--rows` is a folder.
fn bundle_paths(args: &Infer, rows: usize) -> Result<Vec<PathBuf>> {
    let Some(path) = &args.receipt else { return Ok(Vec::new()) };
    if !args.rows {
        return Ok(vec![path.clone()]);
    }
    Disk::default().create_folder(path, Access::Private)?;
    Ok((0..rows).map(|row| path.join(format!("{row}{SUFFIX}"))).collect())
}

/// The model's outputs for each row, by name and in its order.
pub fn compute(app: &App, copy: &Copy, rows: &[Named]) -> Result<Vec<Named>> {
    let _progress = Progress::new("running the model");
    let program = Program::compile(Arc::clone(copy.graph()?), options(app))?;
    let names: Vec<String> = copy.outputs()?.into_iter().map(|spec| spec.name).collect();
    let run = |inputs: &Named| {
        let mut outputs = program.run(&tensors(inputs)).context("the model does not run on this input")?;
        outputs.iter_mut().for_each(Tensor::canonicalize_nan);
        Ok(names.iter().cloned().zip(outputs).collect())
    };
    rows.iter().map(run).collect()
}

/// Without their names.
pub fn tensors(named: &Named) -> Vec<Tensor> {
    named.iter().map(|(_, tensor)| tensor.clone()).collect()
}

/// How this machine runs models. None of it changes a bit.
pub fn options(app: &App) -> Options {
    let limit = app.config.time_limit.value;
    Options {
        threads: app.config.threads.value,
        memory_limit: app.config.memory_mib.value.saturating_mul(1 << 20),
        time_limit: (limit > 0).then(|| Duration::from_secs(limit)),
        ..Options::default()
    }
}

/// Which evidence a bundle is to have; both of `signature` and `replay` where the receipt would list nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// The kinds.
    pub evidence: &'a [EvidenceArg],
    /// The environment of `tee`.
    pub environment: Option<&'a str>,
    /// How to make a proof.
    pub proof: proof::Asked,
}

impl<'a> From<&'a Infer> for Asked<'a> {
    fn from(args: &'a Infer) -> Self {
        let environment = args.environment.as_deref();
        Self { evidence: &args.evidence, environment, proof: proof::Asked::from(&args.proof) }
    }
}

/// Issues a receipt, with keys made on first use.
pub fn receipt(
    app: &App,
    copy: &Copy,
    inputs: Named,
    outputs: Named,
    asked: &Asked<'_>,
) -> Result<(Bundle, Receipt)> {
    let mut receipts = receipts(app, copy, vec![(inputs, outputs)], asked)?;
    receipts.pop().context("no receipt was issued")
}

/// Issues a receipt for each pair of inputs and outputs; a proof is one for all.
fn receipts(
    app: &App,
    copy: &Copy,
    answers: Vec<(Named, Named)>,
    asked: &Asked<'_>,
) -> Result<Vec<(Bundle, Receipt)>> {
    let has = |kind| asked.evidence.contains(&kind);
    // What cannot be had shows before keys are made.
    let producer =
        has(EvidenceArg::Tee).then(|| environment::producer(app, asked.environment)).transpose()?;
    let program = has(EvidenceArg::Zk).then(|| proof::program(copy)).transpose()?;
    let prover = match (&program, answers.first()) {
        (Some(program), Some((inputs, _))) => {
            let inputs = tensors(inputs);
            Some(proof::Prover::new(app, copy, program, &inputs, answers.len(), asked.proof)?)
        }
        _ => None,
    };
    let (key, made) = keys::ready(&app.home, &time::now).context("the receipt cannot be signed")?;
    if let Some(made) = made {
        if let Some(identity) = made.identity {
            console::note(&format!("made an identity: {identity}"));
        }
        console::note(&format!("made a receipt key: {} (`hallmark keys show`)", made.receipt));
    }
    let environment = match producer {
        Some(producer) => {
            let attester = environment::attester(producer, &key.secret.public_key())?;
            Some(attester.environment(time::now() / 1000))
        }
        None => None,
    };
    // A proof stands by itself: what the receipt lists is as if it had not been asked for.
    let all = asked.evidence.iter().all(|kind| *kind == EvidenceArg::Zk);
    let wanted = Wanted {
        signature: all || has(EvidenceArg::Signature),
        replay: (all || has(EvidenceArg::Replay)).then_some(copy.manifest().numeric),
        environment,
    };
    let make = |(inputs, outputs): (Named, Named)| {
        let work = Work {
            network: NETWORK.to_owned(),
            request_id: RequestId(keys::random()?),
            nonce: Nonce(keys::random()?),
            model: Model::Id(copy.id()),
            inputs: open(inputs)?,
            outputs: open(outputs)?,
            parameters: Object::new(),
            parents: Vec::new(),
            time: time::now(),
            price: None,
            evidence: wanted.clone(),
            manifest: Some(copy.manifest().to_object()),
            graph: Some(copy.skeleton()),
            publications: Vec::new(),
        };
        let bundle = issue(work, &key.certificate, &key.secret).context("no receipt was issued")?;
        let receipt = Receipt::parse(&bundle.envelope.payload)?;
        Ok((bundle, receipt))
    };
    let mut receipts = answers.into_iter().map(make).collect::<Result<Vec<_>>>()?;
    if let Some(prover) = prover {
        let request = |(bundle, receipt): &(Bundle, Receipt)| proof::Request {
            claim: receipt.claim_id,
            inputs: opened(bundle.inputs.as_deref()),
            outputs: opened(bundle.outputs.as_deref()),
        };
        let requests: Vec<proof::Request> = receipts.iter().map(request).collect();
        for ((bundle, receipt), proof) in receipts.iter_mut().zip(prover.prove(&requests)?) {
            bundle.evidence.push(Evidence::prove(receipt.claim_id, proof)?);
        }
    }
    Ok(receipts)
}

/// The tensors of openings.
fn opened(openings: Option<&[Opening]>) -> Vec<Tensor> {
    openings.unwrap_or_default().iter().map(|opening| opening.tensor().clone()).collect()
}

fn open(tensors: Named) -> Result<Vec<Opening>> {
    let open = |(name, tensor)| {
        let salt = Salt(keys::random().map_err(|error: KeysError| anyhow::Error::new(error))?);
        Opening::new(name, tensor, salt).context("the answer cannot be committed to")
    };
    tensors.into_iter().map(open).collect()
}

/// The inputs: one request, or with `--rows` one for each row of them.
fn read_inputs(copy: &Copy, args: &Infer) -> Result<Vec<Named>> {
    let from = &args.from;
    let mut specs = copy.inputs()?;
    if let Some(index) = from.sample {
        let shipped = copy.shipped.ok_or_else(|| {
            Note::usage("this model has no samples").hint("only shipped models have; give --input").error()
        })?;
        return Ok(vec![sample(shipped, index)?]);
    }
    if args.rows {
        for spec in &mut specs {
            // How many rows there are is the file's to say.
            match spec.shape.as_mut().map(|axes| axes.first_mut()) {
                Some(Some(first)) => *first = Dim::Unknown,
                Some(None) => {
                    return Err(
                        Note::usage(format!("input `{}` has no rows: it is one number", spec.name)).error()
                    );
                }
                None => {}
            }
        }
    }
    let path = from.input.as_deref().unwrap_or(Path::new("-"));
    let limits = Limits::default();
    let bytes = disk::read(path, limits.file)?;
    let inputs =
        tensor_io::read_inputs(&bytes, &specs, &limits).context("the input does not fit the model")?;
    if args.rows { rows(&inputs) } else { Ok(vec![inputs]) }
}

/// One request for each row of all inputs.
fn rows(inputs: &Named) -> Result<Vec<Named>> {
    let counts = inputs.iter().map(|(_, tensor)| tensor.shape().first().copied().unwrap_or(0));
    let (least, most) = counts.fold((usize::MAX, 0), |(least, most), n| (least.min(n), most.max(n)));
    if least != most || most == 0 {
        return Err(Note::new(format!("the inputs have from {} to {most} rows", least.min(most)))
            .hint("--rows makes one request of each row: all inputs have equally many, at least one")
            .error());
    }
    let row = |index: usize| {
        let one =
            |(name, tensor): &(String, Tensor)| Ok((name.clone(), convert::rows(tensor, index, index + 1)?));
        inputs.iter().map(one).collect()
    };
    (0..most).map(row).collect()
}

/// One held-out sample.
pub fn sample(shipped: &Shipped, index: usize) -> Result<Named> {
    let samples = npz::read(shipped.samples, &Limits::default())?;
    let count = samples.iter().filter_map(|(_, tensor)| tensor.shape().first()).min().copied().unwrap_or(0);
    if index >= count {
        return Err(Note::usage(format!("there is no sample {index}"))
            .hint(format!("{} has samples 0 to {}", shipped.name, count.saturating_sub(1)))
            .error());
    }
    let row = |(name, tensor): (String, Tensor)| Ok((name, convert::rows(&tensor, index, index + 1)?));
    samples.into_iter().map(row).collect()
}

/// The keys of outputs that the file declares as maps.
fn output_keys(copy: &Copy) -> Named {
    let Ok(graph) = copy.graph() else { return Named::new() };
    let name = |id: &hallmark_model::graph::ValueId| graph.values.get(id.0).map(|value| value.name.clone());
    let keys = graph.output_keys.iter();
    keys.filter_map(|(id, keys)| Some((name(id)?, keys.as_ref().clone()))).collect()
}

/// Outputs for people: the answer in words where it is known, then type, shape and the first values.
fn people(copy: &Copy, sample: Option<usize>, outputs: &Named) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some((shipped, meta)) = copy.shipped.and_then(|shipped| Some((shipped, shipped.meta().ok()?))) {
        for row in 0..answers(shipped, outputs).len() {
            if let Some(answer) = answer(shipped, outputs, row) {
                let truth =
                    sample.and_then(|index| meta.expected.get(index)).and_then(|c| meta.classes.get(*c));
                let truth = truth.map(|truth| format!("  (in truth: {truth})")).unwrap_or_default();
                lines.push(format!("{}: {answer}{truth}", meta.title));
            }
        }
    }
    for (name, tensor) in outputs {
        let value = tensor_json::write(tensor);
        let values: Vec<String> = match value.get("data") {
            Some(Value::Array(values)) => values.iter().take(SHOWN).map(ToString::to_string).collect(),
            _ => Vec::new(),
        };
        let more = if tensor.len() > SHOWN { ", .." } else { "" };
        lines.push(format!(
            "{name}: {} {:?} [{}{more}]",
            tensor.dtype().name(),
            tensor.shape(),
            values.join(", ")
        ));
    }
    lines
}

/// For each row, the best class and its score.
fn answers(shipped: &Shipped, outputs: &Named) -> Vec<(usize, f32)> {
    let Ok(meta) = shipped.meta() else { return Vec::new() };
    let scores = outputs.iter().find(|(name, _)| *name == meta.answer);
    let Some(Data::F32(scores)) = scores.map(|(_, tensor)| tensor.data()) else { return Vec::new() };
    scores
        .chunks(meta.classes.len().max(1))
        .filter_map(|row| {
            row.iter().copied().enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best })
        })
        .collect()
}

/// The answer of a shipped model in words: `benign (98.2 %)`.
pub fn answer(shipped: &Shipped, outputs: &Named, row: usize) -> Option<String> {
    let (class, score) = answers(shipped, outputs).get(row).copied()?;
    Some(format!("{} ({:.1} %)", shipped.meta().ok()?.classes.get(class)?, score * 100.0))
}
