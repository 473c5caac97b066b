//! Which integer form each value of the float graph takes (`quantised.md` §3.1): found from the outputs backwards, so that only
//! what is needed is planned, and refused by name before any work.

use std::collections::BTreeMap;

use hallmark_receipt::DType;

use super::QuantiseError;
use super::pattern::{self, Core, Fused};
use super::source::Source;
use super::unary::Ancestors;
use crate::graph::{Dim, Node, ValueId};
use crate::ops::Domain;
use crate::ops::index::wrap;

/// How one value is made.
#[derive(Clone, Debug)]
pub(super) enum Plan {
    /// A float input of the graph, quantised.
    Input,
    /// A float input after factors and addends that differ from element to element, or what was made of inputs that are no floats: computed in
    /// floats, then quantised.
    Start { reads: Vec<ValueId> },
    /// An input or a value of another kind than float: the node as it stands.
    Integer,
    /// The integers of `x`, moved, picked or compared, on its scale.
    Same { x: ValueId },
    /// Several values side by side, brought to one scale.
    Concat { parts: Vec<ValueId> },
    /// The integers of `x` on a scale that is `by` times its own.
    Scaled { x: ValueId, by: f64 },
    /// A sum of products, then a factor and an addend, then bounds.
    Fused(Box<Fused>),
    /// A function of the one value `base`.
    Table { base: ValueId },
    /// IntegerSoftmax.
    Softmax { x: ValueId, axis: i64 },
    /// Rows of a constant table.
    Embedding { ids: ValueId },
}

/// The plans of all values that are needed, and in which form they are.
#[derive(Debug, Default)]
pub(super) struct Plans {
    /// By value; values that float operators of the end make are not among them.
    pub plans: BTreeMap<ValueId, Plan>,
    /// Values that float operators, or the caller, read as floats.
    pub floats: Vec<bool>,
    /// Values that are read as integers.
    pub integers: Vec<bool>,
    /// By node: whether it is a float operator of the end.
    pub end: Vec<bool>,
}

/// Operators that the end may begin with: no weights, no contraction.
const END: &[&str] = &[
    "ArgMax",
    "ArgMin",
    "Cast",
    "Flatten",
    "Hardmax",
    "Identity",
    "LogSoftmax",
    "ReduceL2",
    "Reshape",
    "Sigmoid",
    "Softmax",
    "Squeeze",
    "Tanh",
    "Transpose",
    "Unsqueeze",
];

/// Operators that may follow those of the end. Where they come first they are quantised.
const LATER: &[&str] = &[
    "Abs",
    "Add",
    "And",
    "ArrayFeatureExtractor",
    "Ceil",
    "Clip",
    "Concat",
    "Div",
    "Equal",
    "Erf",
    "Exp",
    "Expand",
    "Floor",
    "Gather",
    "Greater",
    "Less",
    "Log",
    "Max",
    "Min",
    "Mul",
    "Neg",
    "Normalizer",
    "Not",
    "Or",
    "Pow",
    "Reciprocal",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceSum",
    "Relu",
    "Round",
    "Shape",
    "Sign",
    "Slice",
    "Split",
    "Sqrt",
    "Sub",
    "Where",
];

/// Operators that may make floats of inputs that are none (masks, mostly) before QuantizeLinear.
const MASKS: &[&str] = &[
    "Abs",
    "Add",
    "And",
    "Cast",
    "Clip",
    "Concat",
    "Div",
    "Equal",
    "Expand",
    "Flatten",
    "Greater",
    "Less",
    "Max",
    "Min",
    "Mul",
    "Neg",
    "Not",
    "Or",
    "Reshape",
    "Shape",
    "Slice",
    "Squeeze",
    "Sub",
    "Transpose",
    "Unsqueeze",
    "Where",
];

/// Operators that move or pick integers without reading them; the first input is the data.
const SAME: &[&str] = &[
    "DepthToSpace",
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "MaxPool",
    "Pad",
    "ReduceMax",
    "Reshape",
    "Slice",
    "SpaceToDepth",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
];

impl Plans {
    /// Plans `source` from its outputs backwards.
    pub fn of(source: &Source) -> Result<Self, QuantiseError> {
        let graph = &source.graph;
        let count = graph.values.len();
        let ancestors = Ancestors::of(source);
        let masks = masks(source);
        let mut plans = Self {
            plans: BTreeMap::new(),
            floats: vec![false; count],
            integers: vec![false; count],
            end: end(source),
        };
        for id in &graph.outputs {
            if let Some(slot) = plans.floats.get_mut(id.0) {
                *slot = true;
            }
        }
        for (index, node) in graph.nodes.iter().enumerate().rev() {
            if plans.end.get(index).copied().unwrap_or(false) {
                for id in node.inputs.iter().flatten() {
                    plans.need(*id, true);
                }
                continue;
            }
            for id in node.outputs.iter().flatten() {
                if plans.is_needed(*id) && source.constant(*id).is_none() {
                    let variable = node.inputs.iter().flatten().filter(|id| source.constant(**id).is_none());
                    let plan = match starts(source, *id) {
                        Some((x, differs)) if differs || plans.only_float(*id) => {
                            Plan::Start { reads: vec![x] }
                        }
                        _ if masks.get(id.0) == Some(&true) => {
                            Plan::Start { reads: variable.copied().collect() }
                        }
                        _ => plan(source, &ancestors, *id, node)?,
                    };
                    let float = matches!(plan, Plan::Start { .. });
                    for id in reads(&plan, node, source) {
                        plans.need(id, float);
                    }
                    plans.plans.insert(*id, plan);
                }
            }
        }
        for id in &graph.inputs {
            if plans.is_needed(*id) {
                plans.plans.insert(*id, if source.is_float(*id) { Plan::Input } else { Plan::Integer });
            }
        }
        Ok(plans)
    }

    /// Whether anyone reads `id`, in whatever form.
    pub fn is_needed(&self, id: ValueId) -> bool {
        let set = |list: &[bool]| list.get(id.0).copied().unwrap_or(false);
        set(&self.floats) || set(&self.integers)
    }

    /// Whether `id` is read as a float, and by no one as integers.
    pub fn only_float(&self, id: ValueId) -> bool {
        let set = |list: &[bool]| list.get(id.0).copied().unwrap_or(false);
        set(&self.floats) && !set(&self.integers)
    }

    /// Whether something is added that may stand for minus infinity: a constant, or a value that the start makes.
    pub fn masks(&self, fused: &Fused) -> bool {
        let start = |id: &ValueId| matches!(self.plans.get(id), Some(Plan::Start { .. }));
        fused.masks() || matches!(&fused.core, Core::Sum { terms } if terms.iter().any(|(x, _)| start(x)))
    }

    fn need(&mut self, id: ValueId, float: bool) {
        let list = if float { &mut self.floats } else { &mut self.integers };
        if let Some(slot) = list.get_mut(id.0) {
            *slot = true;
        }
    }
}

/// Which nodes are of the end: those from which only float operators without weights lead to the outputs.
fn end(source: &Source) -> Vec<bool> {
    let nodes = &source.graph.nodes;
    let variable = |node: &Node, index: usize| source.variable(node, index);
    let mut followed = vec![false; nodes.len()];
    for (index, node) in nodes.iter().enumerate().rev() {
        let ends = |id: &ValueId| {
            let mut readers = source.readers(*id).iter();
            readers.all(|&reader| reader == usize::MAX || followed.get(reader).copied().unwrap_or(false))
        };
        let named = END.contains(&node.op.name) || LATER.contains(&node.op.name);
        let mut outputs = node.outputs.iter().flatten();
        // What nobody reads is no end.
        let read = outputs.clone().any(|id| !source.readers(*id).is_empty());
        let ends = named && read && outputs.all(ends);
        if let Some(slot) = followed.get_mut(index) {
            *slot = ends;
        }
    }
    let mut end = vec![false; nodes.len()];
    for (index, node) in nodes.iter().enumerate() {
        // What is moved, not computed, stays with the integers unless a float operator comes before it.
        let float = variable(node, 0).is_some_and(|id| source.is_float(id));
        let rest_known = (1..node.inputs.len()).all(|index| variable(node, index).is_none());
        let quotient = node.op.name == "Div" && variable(node, 1).is_some();
        let first = float && (END.contains(&node.op.name) && rest_known || quotient);
        let after =
            node.inputs.iter().flatten().any(|id| {
                source.maker(*id).is_some_and(|(maker, _)| end.get(maker).copied().unwrap_or(false))
            });
        let ends = followed.get(index) == Some(&true) && (first || after);
        if let Some(slot) = end.get_mut(index) {
            *slot = ends;
        }
    }
    end
}

/// Which values are made of constants and of inputs that are no floats, without weights.
fn masks(source: &Source) -> Vec<bool> {
    let graph = &source.graph;
    let mut masks = vec![false; graph.values.len()];
    for id in &graph.inputs {
        if let Some(slot) = masks.get_mut(id.0) {
            *slot = !source.is_float(*id);
        }
    }
    for node in &graph.nodes {
        let made = |id: &ValueId| masks.get(id.0) == Some(&true) || source.constant(*id).is_some();
        let all = MASKS.contains(&node.op.name) && node.inputs.iter().flatten().all(made);
        for id in node.outputs.iter().flatten() {
            if let Some(slot) = masks.get_mut(id.0) {
                *slot = all;
            }
        }
    }
    masks
}

/// What `id` is factors and addends of, if that leads to an input; and whether they differ from element to element: one scale for all would fit
/// none of them.
fn starts(source: &Source, id: ValueId) -> Option<(ValueId, bool)> {
    let (_, node) = source.maker(id)?;
    let (first, mut differs) = pattern::factors(source, node)?;
    let mut at = first;
    while !source.graph.inputs.contains(&at) {
        let (_, node) = source.maker(at)?;
        let (x, more) = pattern::factors(source, node)?;
        (at, differs) = (x, differs || more);
    }
    source.is_float(at).then_some((first, differs))
}

/// What a plan reads: as floats at the start, else as integers.
fn reads(plan: &Plan, node: &Node, source: &Source) -> Vec<ValueId> {
    match plan {
        Plan::Input => Vec::new(),
        Plan::Integer => node.inputs.iter().flatten().copied().collect(),
        Plan::Same { x } => {
            // Indices and shapes that are computed, too.
            let rest = node.inputs.iter().skip(1).flatten().filter(|id| source.constant(**id).is_none());
            std::iter::once(*x).chain(rest.copied()).collect()
        }
        Plan::Concat { parts } => {
            parts.iter().copied().filter(|part| source.spread(*part).is_none()).collect()
        }
        Plan::Start { reads } => reads.clone(),
        Plan::Scaled { x, .. } | Plan::Softmax { x, .. } => vec![*x],
        Plan::Fused(fused) => fused.reads(),
        Plan::Table { base } => vec![*base],
        Plan::Embedding { ids } => vec![*ids],
    }
}

/// The plan of `id`, which `node` makes.
fn plan(source: &Source, ancestors: &Ancestors, id: ValueId, node: &Node) -> Result<Plan, QuantiseError> {
    let refuse = |why| Err(QuantiseError::unsupported(node, why));
    if node.op.domain != Domain::Onnx {
        return refuse("it is not an operator of ai.onnx");
    }
    if !source.is_float(id) {
        return integer(source, node);
    }
    if source.dtype(id) != Some(DType::F32) {
        return refuse("it computes in another type than float32");
    }
    if let Some(fused) = pattern::fused(source, ancestors, id) {
        return Ok(Plan::Fused(Box::new(fused)));
    }
    if let Some((x, by)) = pattern::scaled(source, node) {
        return Ok(Plan::Scaled { x, by });
    }
    if let Some(base) = ancestors.base(id) {
        return Ok(Plan::Table { base });
    }
    if let Some(fused) = pattern::affine(source, id) {
        return Ok(Plan::Fused(Box::new(fused)));
    }
    let Some(x) = Source::input(node, 0) else { return refuse("it has no input") };
    let rank = source.dims(x).map(<[Dim]>::len);
    match node.op.name {
        "Softmax" => {
            let Some(rank) = rank else { return refuse("the rank of its input is not known") };
            let axis = node.attrs.int("axis", if node.version < 13 { 1 } else { -1 });
            // Before version 13 everything from the axis on was one row.
            if node.version < 13 && wrap(axis, rank) != rank.checked_sub(1) {
                return refuse("before version 13 only softmax over the last axis can be quantised");
            }
            Ok(Plan::Softmax { x, axis })
        }
        "GroupNormalization" | "InstanceNormalization" | "LayerNormalization" | "RMSNormalization" => refuse(
            "it is quantised over axes of known sizes (the last one, or all behind the channels), with constant scale and bias, and one output",
        ),
        "Gather" if source.constant(x).is_some() => match Source::input(node, 1) {
            Some(ids) if node.attrs.int("axis", 0) == 0 && source.array(node, 0).is_some() => {
                Ok(Plan::Embedding { ids })
            }
            _ => refuse("only rows of a table of floats are picked"),
        },
        "Concat" => {
            let parts: Option<Vec<ValueId>> = node.inputs.iter().copied().collect();
            parts.map_or_else(|| refuse("an input is missing"), |parts| Ok(Plan::Concat { parts }))
        }
        "Pad" if !pads_with_zero(source, node) => refuse("only padding with the constant 0 can be quantised"),
        "MaxPool" if node.outputs.len() > 1 => refuse("its indices cannot be quantised"),
        name if SAME.contains(&name) && source.constant(x).is_none() => Ok(Plan::Same { x }),
        _ => refuse("the quantiser has no integer form of it in this place"),
    }
}

/// A value that is no float: its node stays, and its own inputs are no floats, but for ArgMax and the like, which only compare.
fn integer(source: &Source, node: &Node) -> Result<Plan, QuantiseError> {
    let floats = node.inputs.iter().flatten().any(|id| source.is_float(*id));
    match node.op.name {
        _ if !floats => Ok(Plan::Integer),
        "ArgMax" | "ArgMin" | "Shape" | "Size" => {
            let x = Source::input(node, 0);
            Ok(x.map_or(Plan::Integer, |x| Plan::Same { x }))
        }
        _ => Err(QuantiseError::unsupported(node, "it makes integers of floats")),
    }
}

fn pads_with_zero(source: &Source, node: &Node) -> bool {
    let constant = node.attrs.str("mode", "constant") == "constant";
    let value = match node.inputs.get(2).copied().flatten() {
        Some(_) => source.array(node, 2).and_then(|value| value.single()),
        None => Some(node.attrs.float("value", 0.0).into()),
    };
    constant && value == Some(0.0)
}
