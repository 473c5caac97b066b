//! In place of the prover, where it is not built in.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::sync::Arc;

use anyhow::Result;
use hallmark_model::manifest::{Model, ProofEntry};
use hallmark_proof::program::Program;
use hallmark_receipt::{Proof, Tensor};

use super::{Asked, Request};
use crate::cmd::App;
use crate::fault::Note;
use crate::model::Copy;

fn absent() -> anyhow::Error {
    Note::usage("this build makes no proofs, it only checks them")
        .hint("build it with the feature `prove`, which is on by default")
        .error()
}

/// Refuses.
pub fn commitment(_: &App, _: &Model) -> Result<ProofEntry> {
    Err(absent())
}

/// There is none.
#[derive(Debug)]
pub struct Prover<'a> {
    never: Infallible,
    _model: PhantomData<&'a Copy>,
}

impl<'a> Prover<'a> {
    /// Refuses.
    pub fn new(_: &App, _: &'a Copy, _: &'a Program, _: &[Tensor], _: usize, _: Asked) -> Result<Self> {
        Err(absent())
    }

    /// Never runs.
    pub fn prove(&self, _: &[Request]) -> Result<Vec<Arc<Proof>>> {
        match self.never {}
    }
}
