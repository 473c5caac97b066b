//! Which kernel a single node gets.

use hallmark_model::graph::{Graph, Node, ValueId};
use hallmark_model::ops::Domain;

use super::contract::Contract;
use super::gemm::Clamp;
use super::layout::{Concat, Transpose, View};
use super::map::Map;
use super::rows::{Form, Norm, Reduce, Softmax};
use super::spatial::{Convolution, Pool};
use super::tape::{Instr, Src, Tape};
use super::{Kernel, control, quantised};
use crate::plan::Constants;
use crate::program::Exec;

/// The fast kernel of a single node.
pub(crate) fn select(
    node: &Node,
    graph: &Graph,
    constants: &Constants,
    exec: &Exec,
) -> Option<Box<dyn Kernel>> {
    if let Some(kernel) = quantised::select(node, constants, exec) {
        return Some(kernel);
    }
    if node.op.domain != Domain::Onnx {
        return None;
    }
    if let Some(op) = map_of(node, constants) {
        let args = [Src::Input(0), Src::Input(op.arity() - 1)];
        return Some(Box::new(Tape::new(vec![Instr { op, args }])));
    }
    let attrs = &node.attrs;
    Some(match node.op.name {
        "If" => Box::new(control::Branches::new(node, exec)?),
        "MatMul" | "Gemm" => Box::new(Contract::new(node, constants, exec)?),
        "Conv" => Box::new(Convolution::new(node, constants, exec)?),
        "MaxPool" | "AveragePool" if only_first_output(node) => Box::new(Pool::new(node)),
        "Softmax" | "LogSoftmax" => Box::new(Softmax::new(node)),
        "LayerNormalization" if only_first_output(node) => Box::new(Norm {
            axis: attrs.int("axis", -1),
            epsilon: attrs.float("epsilon", 1e-5),
            form: Form::Layer,
        }),
        "RMSNormalization" => Box::new(Norm {
            axis: attrs.int("axis", -1),
            epsilon: attrs.float("epsilon", 1e-5),
            form: Form::Rms,
        }),
        "GlobalAveragePool" => {
            let x = node.inputs.first().copied().flatten()?;
            let rank = graph.values.get(x.0)?.info.shape.as_ref()?.len();
            Box::new(Reduce::global_average(rank))
        }
        name if name.starts_with("Reduce") => Box::new(Reduce::new(node, axes(node, constants)?)?),
        "Reshape" => Box::new(View::Reshape { zero_is_empty: attrs.int("allowzero", 0) != 0 }),
        "Flatten" => Box::new(View::Flatten(attrs.int("axis", 1))),
        "Squeeze" if node.declared_inputs == 1 && attrs.ints("axes").is_none() => {
            Box::new(View::Squeeze(Vec::new()))
        }
        "Squeeze" => Box::new(View::Squeeze(axes(node, constants).filter(|axes| !axes.is_empty())?)),
        "Unsqueeze" => Box::new(View::Unsqueeze(axes(node, constants)?)),
        "Identity" => Box::new(View::Identity),
        "Dropout" if only_first_output(node) && node.declared_inputs == 1 => Box::new(View::Identity),
        "Transpose" => Box::new(Transpose::new(node)?),
        "Concat" => Box::new(Concat { axis: attrs.opt_int("axis")? }),
        _ => return None,
    })
}

/// The clamp that `node` is: Relu, or Clip between constants.
pub(crate) fn clamp_of(node: &Node, constants: &Constants) -> Option<Clamp> {
    match node.op.name {
        "Relu" => Some(Clamp::Relu),
        "Clip" if node.version < 11 => {
            let (lo, hi) = (f32::NEG_INFINITY, f32::INFINITY);
            Some(Clamp::Range(node.attrs.float("min", lo), node.attrs.float("max", hi)))
        }
        "Clip" => {
            let bound = |index: usize, absent: f32| match node.inputs.get(index).copied().flatten() {
                None => Some(absent),
                Some(id) => match constants.get(&id).filter(|t| t.shape().is_empty())?.as_slice::<f32>()? {
                    [x] => Some(*x),
                    _ => None,
                },
            };
            Some(Clamp::Range(bound(1, f32::NEG_INFINITY)?, bound(2, f32::INFINITY)?))
        }
        _ => None,
    }
}

/// The elementwise operation that `node` is.
pub(crate) fn map_of(node: &Node, constants: &Constants) -> Option<Map> {
    if node.op.name == "Pow" {
        let exponent = constants.get(&node.inputs.get(1).copied().flatten()?)?;
        let is_two = exponent.shape().len() <= 1 && exponent.as_slice::<f32>() == Some(&[2.0]);
        return is_two.then_some(Map::Square);
    }
    if node.op.name == "Clip" {
        return match clamp_of(node, constants)? {
            Clamp::Range(lo, hi) => Some(Map::Clip(lo, hi)),
            _ => None,
        };
    }
    Map::of(node).filter(|op| node.declared_inputs == op.arity())
}

/// The axes of `node`, from its attribute or its constant second input.
pub(crate) fn axes(node: &Node, constants: &Constants) -> Option<Vec<i64>> {
    if let Some(axes) = node.attrs.ints("axes") {
        return Some(axes.to_vec());
    }
    let id: ValueId = node.inputs.get(1).copied().flatten()?;
    constants.get(&id)?.as_slice::<i64>().map(<[i64]>::to_vec)
}

fn only_first_output(node: &Node) -> bool {
    node.outputs.iter().skip(1).all(Option::is_none)
}
