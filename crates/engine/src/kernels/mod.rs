//! Fast kernels, each with exactly the reference's bits.
//!
//! A kernel that does not cover a case (a type, a shape, an attribute) says so before it touches anything, and the scalar
//! reference takes over: that is also how every refusal gets the reference's words.

pub(crate) mod attention;
mod contract;
mod control;
pub mod conv;
mod fuse;
pub mod gemm;
pub mod int8;
mod layout;
pub(crate) mod map;
pub(crate) mod par;
pub mod pool;
mod quantised;
pub(crate) mod rows;
mod select;
pub(crate) mod simd;
mod spatial;
mod tape;

use std::fmt::Debug;

use hallmark_model::ops::OpError;
use hallmark_receipt::{DType, Data, Tensor};

use crate::error::Stop;
use crate::memory::Arena;
use crate::program::Exec;

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

    /// The shape of input `index`, if it is given and float32.
    pub(crate) fn f32_shape(&self, index: usize) -> Option<Vec<usize>> {
        self.input(index).filter(|t| t.dtype() == DType::F32).map(|t| t.shape().to_vec())
    }

    /// The elements of input `index`, which is float32, to write over: its own buffer if nobody else reads it, else a copy.
    pub(crate) fn own_f32(&mut self, index: usize) -> Result<Vec<f32>, Stop> {
        if let Some(tensor) = self.take(index) {
            let (shape, data) = tensor.into_parts();
            return match data {
                Data::F32(buffer) => Ok(buffer),
                other => Err(OpError::InputType { index, got: Tensor::new(shape, other)?.dtype() }.into()),
            };
        }
        let n = self.input(index).map_or(0, Tensor::len);
        let mut copy = self.arena.take(n)?;
        if let Some(x) = self.input(index).and_then(|t| t.as_slice::<f32>()) {
            copy.copy_from_slice(x);
        }
        Ok(copy)
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

pub(crate) use fuse::fuse;
pub(crate) use select::select;
