//! Fast kernels, each with exactly the reference's bits.
//!
//! A kernel that does not cover a case (a type, a shape, an attribute) says so before it touches anything, and the scalar
//! reference takes over: that is also how every refusal gets the reference's words.

mod control;
pub mod gemm;
mod map;
mod par;
mod simd;
mod tape;

use std::fmt::Debug;

use hallmark_model::graph::{Graph, Node};
use hallmark_receipt::Tensor;

use crate::error::Stop;
use crate::memory::Arena;
use crate::plan::{Constants, Group};
use crate::program::Exec;
use tape::{Instr, Src, Tape};

/// One input of a running step.
#[derive(Debug)]
pub(crate) enum Arg<'a> {
    /// Left out.
    Absent,
    /// Somebody else's.
    Ref(&'a Tensor),
    /// Nobody reads it afterwards: its buffer may be taken.
    Own(Tensor),
}

/// What a kernel works with.
#[derive(Debug)]
pub(crate) struct Cx<'a> {
    /// Inputs of the step.
    pub(crate) args: Vec<Arg<'a>>,
    /// Buffers and the memory limit.
    pub(crate) arena: &'a mut Arena,
    /// Instruction set and threads.
    pub(crate) exec: &'a Exec,
    /// The end of the run's time.
    pub(crate) deadline: Option<crate::program::Deadline>,
}

impl Cx<'_> {
    /// Input `index`, if it is given.
    pub(crate) fn input(&self, index: usize) -> Option<&Tensor> {
        match self.args.get(index) {
            Some(Arg::Ref(tensor)) => Some(tensor),
            Some(Arg::Own(tensor)) => Some(tensor),
            _ => None,
        }
    }

    /// Takes input `index` if nobody else reads it.
    pub(crate) fn take(&mut self, index: usize) -> Option<Tensor> {
        let arg = self.args.get_mut(index)?;
        if !matches!(arg, Arg::Own(_)) {
            return None;
        }
        match std::mem::replace(arg, Arg::Absent) {
            Arg::Own(tensor) => Some(tensor),
            _ => None,
        }
    }
}

/// A fast form of one operator, or of a group of them.
pub(crate) trait Kernel: Send + Sync + Debug {
    /// Computes the outputs. `None`, before any input is taken, where this kernel does not cover the case.
    fn run(&self, cx: &mut Cx<'_>) -> Result<Option<Vec<Tensor>>, Stop>;
}

/// The fast kernel of a single node.
pub(crate) fn select(node: &Node, _: &Graph, _: &Constants, exec: &Exec) -> Option<Box<dyn Kernel>> {
    if node.op.name == "If" {
        return Some(Box::new(control::Branches::new(node, exec)?));
    }
    if let Some(op) = map::Map::of(node)
        && node.declared_inputs == op.arity()
    {
        let args = [Src::Input(0), Src::Input(op.arity() - 1)];
        return Some(Box::new(Tape::new(vec![Instr { op, args }])));
    }
    None
}

/// Groups of nodes that run as one kernel.
pub(crate) fn fuse(_: &Graph, _: &Constants, _: &[bool], _: &Exec) -> Vec<Group> {
    Vec::new()
}
