//! Post-training quantisation (`quantised.md` §3): from a float graph and sample inputs to a graph of integers that can be proved.
//!
//! ```text
//! Graph -> Source (constants) -> Plans (which form each value takes; refuses) -> observe (ranges on samples)
//!       -> emit, once for each way of clipping -> ONNX bytes -> import, bounds, differences -> the best of them
//! ```
//! Pure: whoever calls runs the graphs ([`Calibration`]). The same graph and samples give the same bytes on every machine.

use std::collections::BTreeMap;

use hallmark_receipt::{Tensor, TensorError};

use crate::graph::{Dim, Graph, Node, TypeInfo};
use crate::infer::{InferError, infer};
use crate::onnx::{ImportError, Limits, NoExternalData, import};
use crate::ops::OpError;

mod accumulate;
mod array;
pub mod bounds;
mod calibrate;
mod contract;
mod einsum;
mod emit;
mod modern;
mod normal;
mod pattern;
mod plan;
mod report;
mod rewrite;
mod scale;
mod simplify;
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

/// Quantises `graph` for inputs like those that `calibration` runs. Free axes stay free where the integers allow it; where they do not, they
/// get the sizes that all samples have in common: all but the first, then that too, if it is 1.
///
/// # Errors
/// An operator outside `quantised.md` §3.1, by name and before anything runs; samples that do not run; sums that could leave their bounds.
pub fn quantise(graph: &Graph, calibration: &mut dyn Calibration) -> Result<Quantised, QuantiseError> {
    let mut refused = match quantise_as_is(graph, calibration) {
        Err(error @ (QuantiseError::Unsupported { .. } | QuantiseError::Bound(_))) => error,
        done => return done,
    };
    for rows in [false, true] {
        let Some(sized) = sized(graph, calibration, rows)? else { continue };
        refused = match quantise_as_is(&sized, calibration) {
            Err(error @ (QuantiseError::Unsupported { .. } | QuantiseError::Bound(_))) => error,
            done => return done,
        };
    }
    Err(refused)
}

/// `graph` with the free axes of its inputs at the sizes that all samples have: those behind the first, and with `rows` the first, too, if it is 1.
/// `None` where there are none such.
fn sized(
    graph: &Graph,
    calibration: &mut dyn Calibration,
    rows: bool,
) -> Result<Option<Graph>, QuantiseError> {
    let from = usize::from(!rows);
    let free =
        |info: &TypeInfo| info.shape.iter().flatten().skip(from).any(|dim| !matches!(dim, Dim::Known(_)));
    let infos = || graph.inputs.iter().filter_map(|id| Some(&graph.values.get(id.0)?.info));
    if !infos().any(free) {
        return Ok(None);
    }
    // What a graph without nodes gives is what the samples are.
    let nodes = Vec::new();
    let probe = Graph { outputs: graph.inputs.clone(), nodes, output_keys: BTreeMap::new(), ..graph.clone() };
    let mut shapes: Vec<Vec<Option<usize>>> = Vec::new();
    let see = &mut |inputs: &[Tensor]| {
        shapes.resize_with(inputs.len(), Vec::new);
        for (shape, input) in shapes.iter_mut().zip(inputs) {
            if shape.is_empty() {
                *shape = input.shape().iter().copied().map(Some).collect();
            }
            for (size, now) in shape.iter_mut().zip(input.shape()) {
                *size = size.filter(|size| size == now);
            }
        }
        Ok(())
    };
    calibration.each(&probe, see).map_err(QuantiseError::run)?;
    let mut sized = graph.clone();
    let mut changed = false;
    for (id, shape) in graph.inputs.iter().zip(&shapes) {
        let dims = sized.values.get_mut(id.0).and_then(|value| value.info.shape.as_mut());
        for (at, (dim, size)) in dims.into_iter().flatten().zip(shape).enumerate().skip(from) {
            if let (false, Some(size)) = (matches!(dim, Dim::Known(_)), size)
                && (at > 0 || *size == 1)
            {
                (*dim, changed) = (Dim::Known(*size), true);
            }
        }
    }
    infer(&mut sized, usize::MAX)?;
    Ok(changed.then_some(sized))
}

fn quantise_as_is(graph: &Graph, calibration: &mut dyn Calibration) -> Result<Quantised, QuantiseError> {
    let source = source::Source::new(simplify::simplify(&unquantise::unquantise(graph)?)?)?;
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
