//! Proofs on the command line: what can be proved of a model, its commitment, and the proving.

use anyhow::{Context, Result};
use hallmark_model::manifest::Model;
use hallmark_proof::program::Program;
use hallmark_receipt::{Digest, Tensor};
use hallmark_verdict::Policy;

use crate::args::ProofArgs;
use crate::fault::Note;
use crate::model::{Copy, Kind};

#[cfg(not(feature = "prove"))]
#[path = "proof/absent.rs"]
mod make;
#[cfg(feature = "prove")]
mod make;

pub use make::{Prover, commitment};

/// One request to prove.
#[derive(Clone, Debug)]
pub struct Request {
    /// The id of the claim about it.
    pub claim: Digest,
    /// The inputs, in the model's order.
    pub inputs: Vec<Tensor>,
    /// The outputs, in the model's order.
    pub outputs: Vec<Tensor>,
}

/// How to prove.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The fewest bits, all errors together.
    pub bits: u32,
    /// Whether to tell the progress where standard error is no terminal.
    pub progress: bool,
}

impl Default for Asked {
    fn default() -> Self {
        Self { bits: Policy::PROOF_BITS, progress: false }
    }
}

impl From<&ProofArgs> for Asked {
    fn from(args: &ProofArgs) -> Self {
        Self { bits: args.proof_bits.unwrap_or(Policy::PROOF_BITS), progress: args.progress }
    }
}

/// The parts of a model that matter to a proof.
pub fn program(copy: &Copy) -> Result<Program> {
    Program::new(onnx(copy)?.skeleton()).context("nothing about this model can be proved")
}

/// An ONNX model; others cannot be proved.
pub fn onnx(copy: &Copy) -> Result<&Model> {
    match &copy.kind {
        Kind::Graph(model) => Ok(model),
        _ => Err(Note::usage("only quantised ONNX models can be proved").error()),
    }
}
