//! Which kernel a single node gets.

use hallmark_model::graph::{Graph, Node, ValueId};
use hallmark_model::ops::Domain;

use super::layout::{Concat, Transpose, View};
use super::map::Map;
use super::rows::{Form, Norm, Reduce, Softmax};
use super::tape::{Instr, Src, Tape};
use super::{Kernel, control};
use crate::plan::Constants;
use crate::program::Exec;

/// The fast kernel of a single node.
pub(crate) fn select(
    node: &Node,
    graph: &Graph,
    constants: &Constants,
    exec: &Exec,
) -> Option<Box<dyn Kernel>> {
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

/// The elementwise operation that `node` is.
pub(crate) fn map_of(node: &Node, constants: &Constants) -> Option<Map> {
    if node.op.name == "Pow" {
        let exponent = constants.get(&node.inputs.get(1).copied().flatten()?)?;
        let is_two = exponent.shape().len() <= 1 && exponent.as_slice::<f32>() == Some(&[2.0]);
        return is_two.then_some(Map::Square);
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
