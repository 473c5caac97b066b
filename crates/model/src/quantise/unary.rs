//! Values that are a function of one other value: what a table can hold, however many operators write it
//! (`x * Sigmoid(x)`, `0.5 x (1 + Erf(x / sqrt 2))`, ...).

use std::sync::Arc;

use hallmark_receipt::{DType, Tensor};

use super::QuantiseError;
use super::source::Source;
use crate::graph::{Node, ValueId};
use crate::ops::{Domain, EvalCx};

/// Elementwise operators.
const ELEMENTWISE: &[&str] = &[
    "Abs",
    "Add",
    "And",
    "Cast",
    "Ceil",
    "Celu",
    "Clip",
    "Cos",
    "Div",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "Greater",
    "GreaterOrEqual",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "IsInf",
    "IsNaN",
    "LeakyRelu",
    "Less",
    "LessOrEqual",
    "Log",
    "Max",
    "Mean",
    "Min",
    "Mish",
    "Mul",
    "Neg",
    "Not",
    "Or",
    "PRelu",
    "Pow",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Sub",
    "Sum",
    "Swish",
    "Tanh",
    "ThresholdedRelu",
    "Where",
];

/// Ancestors that are kept for one value: no activation function is written with more steps.
const MOST: usize = 24;

/// For each value, what it is a function of, itself last.
#[derive(Debug)]
pub(super) struct Ancestors(Vec<Vec<ValueId>>);

impl Ancestors {
    /// Looks at every node once.
    pub fn of(source: &Source) -> Self {
        let graph = &source.graph;
        // Only float32 is quantised; what is compared on the way is not.
        let float = |id: ValueId| source.dtype(id) == Some(DType::F32);
        let own = |id| if float(ValueId(id)) { vec![ValueId(id)] } else { Vec::new() };
        let mut all: Vec<Vec<ValueId>> = (0..graph.values.len()).map(own).collect();
        for node in &graph.nodes {
            let Some(id) = node.outputs.first().copied().flatten() else { continue };
            let Some(mut common) = common(source, node, &all) else { continue };
            if float(id) {
                common.push(id);
            }
            let from = common.len().saturating_sub(MOST);
            if let Some(slot) = all.get_mut(id.0) {
                *slot = common.split_off(from);
            }
        }
        Self(all)
    }

    /// The earliest value that `id` is a function of; `None` if there is none but itself.
    pub fn base(&self, id: ValueId) -> Option<ValueId> {
        self.0.get(id.0)?.first().copied().filter(|base| *base != id)
    }
}

/// What the inputs of an elementwise node have in common.
fn common(source: &Source, node: &Node, all: &[Vec<ValueId>]) -> Option<Vec<ValueId>> {
    if node.op.domain != Domain::Onnx || !ELEMENTWISE.contains(&node.op.name) || node.outputs.len() != 1 {
        return None;
    }
    let mut common: Option<Vec<ValueId>> = None;
    for id in node.inputs.iter().flatten() {
        if let Some(constant) = source.constant(*id) {
            // The same number everywhere, or it is no function of the value alone.
            if constant.len() != 1 {
                return None;
            }
            continue;
        }
        let own = all.get(id.0)?;
        common = Some(match common {
            None => own.clone(),
            Some(others) => others.into_iter().filter(|id| own.contains(id)).collect(),
        });
    }
    common.filter(|common| !common.is_empty())
}

/// The function from `base` to `id`, at each of `points`, by the reference.
pub(super) fn evaluate(
    source: &Source,
    base: ValueId,
    id: ValueId,
    points: Vec<f32>,
) -> Result<Vec<f32>, QuantiseError> {
    let count = points.len();
    let mut known = std::collections::BTreeMap::from([(base, Arc::new(Tensor::vector(points)))]);
    let last = source.maker(id).map_or(0, |(index, _)| index);
    // From the end: which nodes lie between.
    let mut wanted = vec![id];
    let mut between = Vec::new();
    for index in (0..=last).rev() {
        let Some(node) = source.graph.nodes.get(index) else { continue };
        let Some(made) = node.outputs.first().copied().flatten().filter(|made| wanted.contains(made)) else {
            continue;
        };
        if made == base {
            continue;
        }
        let variable =
            node.inputs.iter().flatten().filter(|id| **id != base && source.constant(**id).is_none());
        wanted.extend(variable.copied());
        between.push((made, node));
        if wanted.iter().all(|id| *id == base || between.iter().any(|(made, _)| made == id)) {
            break;
        }
    }
    for (made, node) in between.into_iter().rev() {
        let inputs: Vec<Option<Arc<Tensor>>> = node
            .inputs
            .iter()
            .map(|id| id.and_then(|id| known.get(&id).or_else(|| source.constant(id)).map(Arc::clone)))
            .collect();
        let inputs: Vec<Option<&Tensor>> = inputs.iter().map(Option::as_deref).collect();
        let result =
            (node.op.eval)(&EvalCx { node, inputs: &inputs, budget: 1 << 20 }).map_err(|source| {
                QuantiseError::Operator { node: node.name.clone(), op: node.op.name, source }
            })?;
        if let Some(tensor) = result.into_iter().next() {
            known.insert(made, Arc::new(tensor));
        }
    }
    let values = known.get(&id).and_then(|tensor| tensor.as_slice::<f32>().map(<[f32]>::to_vec));
    match (values, source.maker(id)) {
        (Some(values), _) if values.len() == count => Ok(values),
        (_, Some((_, node))) => Err(QuantiseError::unsupported(node, "it is no function of float32 numbers")),
        (_, None) => Err(QuantiseError::NoFloats),
    }
}
