//! The prover.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use hallmark_model::manifest::{Model, ProofEntry};
use hallmark_proof::circuit::Circuit;
use hallmark_proof::estimate::Cost;
use hallmark_proof::pcs::Root;
use hallmark_proof::program::{Opened, Placed, Program, VERSION, scheme};
use hallmark_proof::protocol::Bits;
use hallmark_proof::protocol::prove::{Committed, Stage, prove};
use hallmark_receipt::proof::Security;
use hallmark_receipt::{Digest, Proof, Tensor};

use super::{Asked, Request, onnx};
use crate::cmd::App;
use crate::config::Origin;
use crate::console::Stages;
use crate::fault::Note;
use crate::model::Copy;

/// Commits to a model's weights (`model.md` §6.1), unless that would take more memory than there is.
pub fn commitment(app: &App, model: &Model) -> Result<ProofEntry> {
    let program = Program::new(model.skeleton())?;
    let circuit = program.smallest()?.circuit(1)?;
    if circuit.part(true).next().is_none() {
        return Err(Note::new("the model has no weights that a commitment could be to")
            .hint("whoever has its file computes it: evidence `replay` shows as much")
            .error());
    }
    let needed = Cost::of(&circuit).commit;
    enough(app, needed, "committing to its weights")?;
    let committed = Committed::new(&scheme(Security::Standard), &circuit, model.graph())?;
    Ok(ProofEntry { commitment: committed.root.0, version: VERSION })
}

/// Requests of one shape, found to be provable here before anything is run.
#[derive(Debug)]
pub struct Prover<'a> {
    model: &'a Model,
    placed: Placed<'a>,
    circuit: Circuit,
    commitment: Root,
    security: Security,
    expected: Duration,
    asked: Asked,
}

impl<'a> Prover<'a> {
    /// For `requests` requests like `inputs` of the model in `copy`, whose parts are `program`.
    pub fn new(
        app: &App,
        copy: &'a Copy,
        program: &'a Program,
        inputs: &[Tensor],
        requests: usize,
        asked: Asked,
    ) -> Result<Self> {
        let model = onnx(copy)?;
        let entry = model.manifest().proof.ok_or_else(|| {
            Note::usage("the model's manifest has no commitment that a proof could open")
                .hint("`hallmark model commit MODEL` adds one; the model so made has an id of its own")
                .error()
        })?;
        if entry.version != VERSION {
            return Err(Note::new(format!("the commitment is for proofs of version {}", entry.version))
                .hint(format!("this build makes version {VERSION}"))
                .error());
        }
        let placed = program.place_for(inputs).context("this request cannot be proved")?;
        let circuit = placed.circuit(requests).context("these requests cannot be proved together")?;
        let security = level(&circuit, asked.bits)?;
        let cost = Cost::of(&circuit);
        enough(app, cost.prove, "proving it")?;
        let (commitment, expected) = (Root(entry.commitment), Duration::from_secs_f64(cost.seconds));
        Ok(Self { model, placed, circuit, commitment, security, expected, asked })
    }

    /// One proof for all `requests`, as the evidence of each holds it. What comes out is checked before it is handed out.
    pub fn prove(&self, requests: &[Request]) -> Result<Vec<Arc<Proof>>> {
        let failed = "there is no proof";
        let mut stages = Stages::new(self.asked.progress, self.expected);
        let scheme = scheme(self.security);
        stages.begin("committing to the weights");
        let model = Committed::new(&scheme, &self.circuit, self.model.graph()).context(failed)?;
        if model.root != self.commitment {
            return Err(Note::new("the commitment in the model's manifest is not that of its weights")
                .hint("add the model's file anew, and commit to it with `hallmark model commit`")
                .error());
        }
        let core = requests.iter().map(|request| self.placed.before(&request.inputs));
        let core: Vec<Vec<Tensor>> = core.collect::<Result<_, _>>().context(failed)?;
        let claims: Vec<Digest> = requests.iter().map(|request| request.claim).collect();
        let statement = self.placed.statement(model.root, claims.clone());
        let mut stage = |stage| stages.begin(name(stage));
        let (bytes, witness) =
            prove(&scheme, &self.circuit, &statement, &model, &core, &mut stage).context(failed)?;
        stages.begin("checking the proof");
        let made = requests.iter().enumerate().map(|(index, request)| {
            let integers = witness.outputs(&self.circuit, index);
            let (inputs, outputs) = (&request.inputs, &request.outputs);
            if index == 0 {
                let opened = Opened { index, inputs, outputs, integers: &integers };
                self.placed.check(&scheme, &statement, opened, &bytes, self.asked.bits).context(failed)?;
            } else {
                // The argument is the same for all: what differs is whether the outputs follow.
                let found = self.placed.after(inputs, &self.placed.integers(&integers)?)?;
                let same =
                    found.len() == outputs.len() && found.iter().zip(outputs).all(|(a, b)| a.same_bits(b));
                if !same {
                    return Err(Note::new("the outputs are not what the model gives").error());
                }
            }
            let claims = claims.clone();
            let (bytes, security) = (bytes.clone(), self.security);
            Ok(Arc::new(Proof { claims, integers, bytes, security, version: VERSION }))
        });
        made.collect()
    }
}

/// The lowest level that has the bits asked for.
fn level(circuit: &Circuit, wanted: u32) -> Result<Security> {
    let mut most = 0.0_f64;
    for security in [Security::Standard, Security::High] {
        let bits = Bits::of(circuit, &scheme(security)).composed();
        if bits >= f64::from(wanted) {
            return Ok(security);
        }
        most = most.max(bits);
    }
    Err(Note::usage(format!("a proof of this has {most:.1} bits of security, and {wanted} are asked for"))
        .hint("ask for fewer with --proof-bits, or prove fewer requests at once")
        .error())
}

/// Refuses what would take more memory than there is.
fn enough(app: &App, needed: u64, what: &str) -> Result<()> {
    let setting = &app.config.memory_mib;
    let set = (setting.value as u64).saturating_mul(1 << 20);
    let limit = if setting.origin == Origin::Default { available().unwrap_or(set) } else { set };
    if needed <= limit {
        return Ok(());
    }
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    Err(Note::new(format!(
        "{what} takes about {} MiB of memory, and {} MiB may be used",
        mib(needed),
        mib(limit)
    ))
    .hint("set --memory-mib to allow more, or prove fewer requests at once")
    .error())
}

/// Bytes of memory that the system says are free for use, where it says so.
fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn name(stage: Stage) -> &'static str {
    match stage {
        Stage::Witness => "running the circuit",
        Stage::Commit => "committing to the run",
        Stage::Lookups => "lookups",
        Stage::Products => "products",
        Stage::Views => "views",
        Stage::OpenWitness => "opening the run",
        Stage::OpenModel => "opening the weights",
    }
}
