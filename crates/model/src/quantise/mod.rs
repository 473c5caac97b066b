//! Post-training quantisation (`quantised.md` §3): from a float graph and sample inputs to a graph of integers that can be proved.
//!
//! ```text
//! Graph -> Source (constants) -> Plans (which form each value takes; refuses) -> observe (ranges on samples)
//!       -> emit, once for each way of clipping -> ONNX bytes -> import, bounds, differences -> the best of them
//! ```
//! Pure: whoever calls runs the graphs ([`Calibration`]). The same graph and samples give the same bytes on every machine.

use std::collections::BTreeMap;

use hallmark_receipt::{Tensor, TensorError};

use crate::graph::{Graph, Node};
use crate::infer::InferError;
use crate::onnx::{ImportError, Limits, NoExternalData, import};
use crate::ops::OpError;

mod accumulate;
mod array;
pub mod bounds;
mod calibrate;
mod contract;
mod emit;
mod modern;
mod pattern;
mod plan;
mod report;
mod scale;
mod source;
mod unary;
mod unquantise;

pub use bounds::{BoundError, Bounds, Interval, bounds, hold_beyond};
pub use calibrate::{ByReference, Calibration, CalibrationError, Clip};
pub use report::Difference;

/// Why a graph was not quantised.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuantiseError {
    /// An operator that has no integer form where it stands.
    #[error("node `{node}` ({op}, version {version}) cannot be quantised: {why}")]
    Unsupported {
        /// The node's name.
        node: String,
        /// Its operator.
        op: &'static str,
        /// The operator's version.
        version: u32,
        /// Why.
        why: &'static str,
    },
    /// Nothing in the graph computes with floats.
    #[error("nothing in the model computes with floats that depend on its inputs")]
    NoFloats,
    /// A value that is read as integers and has no such form.
    #[error("value `{value}` has no integer form")]
    NoForm {
        /// The value's name.
        value: String,
    },
    /// No sample was given.
    #[error("quantisation needs at least one sample")]
    NoSamples,
    /// A sample could not be run.
    #[error("a sample cannot be run")]
    Run(#[source] CalibrationError),
    /// A constant function of one value failed.
    #[error("node `{node}` ({op}) fails on constants")]
    Operator {
        /// The node's name.
        node: String,
        /// Its operator.
        op: &'static str,
        /// Why.
        source: OpError,
    },
    /// Shape and data disagree: a defect of the quantiser.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// A quantised file's float form has no types: a defect of the quantiser.
    #[error("the float form of the quantised model is refused")]
    Infer(#[from] InferError),
    /// The file that was written is none: a defect of the quantiser.
    #[error("the quantised file is refused")]
    Import(#[from] ImportError),
    /// A sum of the quantised graph could leave its bounds.
    #[error("the quantised graph leaves its bounds")]
    Bound(#[from] BoundError),
}

impl QuantiseError {
    fn unsupported(node: &Node, why: &'static str) -> Self {
        Self::Unsupported { node: node.name.clone(), op: node.op.name, version: node.version, why }
    }

    /// What a calibration says; an error that came from here stays itself.
    fn run(error: CalibrationError) -> Self {
        error.downcast::<Self>().map_or_else(Self::Run, |own| *own)
    }
}

/// A quantised model.
#[derive(Clone, Debug)]
pub struct Quantised {
    /// The ONNX file.
    pub onnx: Vec<u8>,
    /// Its graph.
    pub graph: Graph,
    /// The way of clipping that came out best.
    pub clip: Clip,
    /// For each output, how far it is from the float model's on the samples.
    pub differences: Vec<Difference>,
}

/// Quantises `graph` for inputs like those that `calibration` runs.
///
/// # Errors
/// An operator outside `quantised.md` §3.1, by name and before anything runs; samples that do not run; sums that could leave their bounds.
pub fn quantise(graph: &Graph, calibration: &mut dyn Calibration) -> Result<Quantised, QuantiseError> {
    let source = source::Source::new(unquantise::unquantise(graph)?)?;
    let plans = plan::Plans::of(&source)?;
    let seen = calibrate::observe(&source, &plans, calibration)?;
    let mut expected: Vec<Vec<Tensor>> = Vec::new();
    let keep = &mut |outputs: &[Tensor]| {
        expected.push(outputs.to_vec());
        Ok(())
    };
    calibration.each(graph, keep).map_err(QuantiseError::run)?;
    let mut best: Option<Quantised> = None;
    let mut tried: Vec<Vec<u8>> = Vec::new();
    for clip in Clip::ALL {
        let ranges: BTreeMap<_, _> = seen.iter().map(|(id, seen)| (*id, seen.range(clip))).collect();
        let onnx = emit::emit(&source, &plans, &ranges)?;
        if tried.contains(&onnx) {
            continue;
        }
        let quantised = import(&onnx, &NoExternalData, &Limits::default())?;
        bounds(&quantised)?;
        let differences = compare(&quantised, &expected, calibration)?;
        tried.push(onnx.clone());
        let candidate = Quantised { onnx, graph: quantised, clip, differences };
        if best.as_ref().is_none_or(|best| error(&candidate) < error(best)) {
            best = Some(candidate);
        }
    }
    best.ok_or(QuantiseError::NoSamples)
}

/// What the best is chosen by.
fn error(quantised: &Quantised) -> f64 {
    quantised.differences.iter().map(Difference::rms_relative).sum()
}

/// How far the outputs of `graph` are from `expected`, the outputs of another on the same samples.
fn compare(
    graph: &Graph,
    expected: &[Vec<Tensor>],
    calibration: &mut dyn Calibration,
) -> Result<Vec<Difference>, QuantiseError> {
    let mut differences = vec![Difference::default(); graph.outputs.len()];
    let mut samples = expected.iter();
    let each = &mut |outputs: &[Tensor]| {
        let expected = samples.next().map_or(&[][..], Vec::as_slice);
        for ((difference, float), quantised) in differences.iter_mut().zip(expected).zip(outputs) {
            difference.add(float, quantised);
        }
        Ok(())
    };
    calibration.each(graph, each).map_err(QuantiseError::run)?;
    Ok(differences)
}
