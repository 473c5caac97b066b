//! `hallmark prove`.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use hallmark_receipt::{Bundle, Digest, Evidence, EvidenceKind, Model, Opening, Receipt, Tensor};
use serde_json::json;

use super::App;
use super::receipts;
use crate::args::Prove;
use crate::console;
use crate::disk::{self, Access, Disk};
use crate::fault::{Exit, Note};
use crate::model::{self, Copy};
use crate::proof::{self, Asked, Prover, Request};

/// A bundle that is to have a proof.
struct Answer {
    path: PathBuf,
    bundle: Bundle,
    receipt: Receipt,
    model: Digest,
}

/// Runs `prove`.
pub fn run(app: &App, args: &Prove) -> Result<Exit> {
    let mut answers = Vec::new();
    for which in &args.bundles {
        let answer = read(app, which).with_context(|| format!("`{which}` gets no proof"))?;
        if answers.iter().any(|other: &Answer| other.receipt.claim_id == answer.receipt.claim_id) {
            return Err(Note::usage(format!("`{which}` is given twice")).error());
        }
        answers.push(answer);
    }
    let Some(first) = answers.first() else { return Ok(Exit::Accepted) };
    if let Some(other) = answers.iter().find(|answer| answer.model != first.model) {
        return Err(Note::usage("the bundles are of different models, and one proof is of one model")
            .hint(format!("prove {} in a call of its own", other.path.display()))
            .error());
    }
    let copy = model::by_id(&app.home, &first.model)?.ok_or_else(|| {
        Note::new(format!("there is no copy of model {} here", first.model))
            .hint("only who holds the model can prove; `hallmark model add` and `model commit` bring it here")
            .error()
    })?;
    let program = proof::program(&copy)?;
    let requests = answers.iter().map(|answer| request(&copy, answer)).collect::<Result<Vec<_>>>()?;
    let Some(example) = requests.first() else { return Ok(Exit::Accepted) };
    let prover =
        Prover::new(app, &copy, &program, &example.inputs, requests.len(), Asked::from(&args.proof))?;
    let shapes = |request: &Request| -> Vec<Vec<usize>> {
        request.inputs.iter().map(|tensor| tensor.shape().to_vec()).collect()
    };
    if let Some(index) = requests.iter().position(|request| shapes(request) != shapes(example)) {
        let path = answers.get(index).map(|answer| answer.path.display().to_string()).unwrap_or_default();
        return Err(Note::usage("the bundles' inputs have different shapes, and one proof is of one shape")
            .hint(format!("prove {path} in a call of its own"))
            .error());
    }
    let begun = Instant::now();
    let proofs = prover.prove(&requests)?;
    let seconds = begun.elapsed().as_secs_f64();
    let bytes = proofs.first().map_or(0, |proof| proof.bytes.len());
    let disk = Disk::default();
    let mut staged = Vec::new();
    for (answer, proof) in answers.iter_mut().zip(proofs) {
        answer.bundle.evidence.push(Evidence::prove(answer.receipt.claim_id, proof)?);
        staged.push(disk.stage(&answer.path, answer.bundle.to_json().as_bytes(), Access::Private)?);
    }
    staged.into_iter().try_for_each(disk::Staged::commit)?;
    let paths: Vec<String> = answers.iter().map(|answer| answer.path.display().to_string()).collect();
    app.show(
        || json!({ "bundles": paths, "proof_bytes": bytes, "seconds": (seconds * 1000.0).round() / 1000.0 }),
        || {
            let line = |path: &String| format!("{path}: proved");
            paths.iter().map(line).collect()
        },
    );
    console::note(&format!("one proof of {} kB in {seconds:.1} s", bytes.div_ceil(1024)));
    Ok(Exit::Accepted)
}

fn read(app: &App, which: &str) -> Result<Answer> {
    let (path, bundle, receipt) = receipts::load(app, which)?;
    if bundle.evidence.iter().any(|item| item.kind() == EvidenceKind::Zk) {
        return Err(Note::usage("it has a proof already").hint("`hallmark verify` checks it").error());
    }
    match receipt.claim.model {
        Model::Id(model) if receipt.graph => Ok(Answer { path, bundle, receipt, model }),
        Model::Id(_) => {
            Err(Note::new("its receipt came without the model's graph, which checking a proof takes").error())
        }
        _ => Err(Note::new("its model is only named, so nothing about it can be proved").error()),
    }
}

/// What the bundle opens, in the model's order.
fn request(copy: &Copy, answer: &Answer) -> Result<Request> {
    let redacted = || {
        Note::new(format!("{} does not open its inputs and outputs", answer.path.display()))
            .hint("only who has the openings can prove; the home keeps them")
            .error()
    };
    let inputs = answer.bundle.inputs.as_deref().ok_or_else(redacted)?;
    let outputs = answer.bundle.outputs.as_deref().ok_or_else(redacted)?;
    let ordered = |names: Vec<String>, openings: &[Opening]| -> Result<Vec<Tensor>> {
        let find = |name: &String| openings.iter().find(|opening| opening.name() == name);
        let found = names.iter().map(|name| Some(find(name)?.tensor().clone())).collect::<Option<Vec<_>>>();
        found
            .filter(|_| names.len() == openings.len())
            .with_context(|| format!("{} has other inputs or outputs than the model", answer.path.display()))
    };
    Ok(Request {
        claim: answer.receipt.claim_id,
        inputs: ordered(copy.inputs()?.into_iter().map(|spec| spec.name).collect(), inputs)?,
        outputs: ordered(copy.outputs()?.into_iter().map(|spec| spec.name).collect(), outputs)?,
    })
}
