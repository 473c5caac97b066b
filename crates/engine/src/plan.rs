//! What is decided before the first run: which values are constants, which nodes run as one kernel, when buffers die.

use std::collections::BTreeMap;
use std::sync::Arc;

use hallmark_model::graph::{Attr, Graph, Node, ValueId};
use hallmark_model::ops::EvalCx;
use hallmark_receipt::Tensor;

use crate::kernels::{self, Kernel};
use crate::memory;
use crate::program::Exec;

/// The least that constant folding may produce, in bytes; beyond it the sum of the graph's own constants is the bound.
const FOLD_BYTES: usize = 1 << 20;

/// Operators whose work grows faster than what they read and make: they run in the run, under its time limit and by fast kernels.
const NOT_FOLDED: &[&str] = &[
    "MatMul",
    "Gemm",
    "Conv",
    "ConvTranspose",
    "Einsum",
    "LSTM",
    "GRU",
    "RNN",
    "MatMulInteger",
    "QLinearMatMul",
];

/// A group of nodes that runs as one.
#[derive(Debug)]
pub(crate) struct Step {
    /// The node that errors name, an index into the graph's nodes: the last one of the group.
    pub(crate) node: usize,
    /// The fast kernel, if there is one.
    pub(crate) kernel: Option<Box<dyn Kernel>>,
    /// Values that it reads; for a single node, the node's inputs.
    pub(crate) inputs: Vec<Option<ValueId>>,
    /// For each input, whether the kernel may take the buffer because nobody reads it afterwards.
    pub(crate) owned: Vec<bool>,
    /// Values that it makes.
    pub(crate) outputs: Vec<Option<ValueId>>,
    /// Values that nobody reads after this step.
    pub(crate) frees: Vec<ValueId>,
    /// In a fused group, its nodes one by one, for the cases that the fused kernel declines.
    pub(crate) parts: Vec<Step>,
}

/// Nodes that one kernel computes.
#[derive(Debug)]
pub(crate) struct Group {
    /// Indices of its nodes, ascending. The group runs at the place of the last one.
    pub(crate) nodes: Vec<usize>,
    /// Values that it reads.
    pub(crate) inputs: Vec<Option<ValueId>>,
    /// Values that it makes and that are read outside of it.
    pub(crate) outputs: Vec<Option<ValueId>>,
    /// The kernel.
    pub(crate) kernel: Box<dyn Kernel>,
}

/// Constants of the graph and those that folding adds.
pub(crate) type Constants = BTreeMap<ValueId, Arc<Tensor>>;

/// Evaluates the nodes whose inputs are all constants, by the reference, as far as the results stay small. Returns all
/// constants and, per node, whether it is folded.
pub(crate) fn fold(graph: &Graph) -> (Constants, Vec<bool>) {
    let mut constants = graph.constants.clone();
    let own: usize = constants.values().fold(0, |sum, t| sum.saturating_add(memory::bytes(t)));
    let mut left = own.max(FOLD_BYTES);
    let mut folded = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        folded.push(fold_node(node, &mut constants, &mut left).is_some());
    }
    (constants, folded)
}

/// A node that fails here is left to fail in the run, where the error has its place.
fn fold_node(node: &Node, constants: &mut Constants, left: &mut usize) -> Option<()> {
    let has_subgraph = node.attrs.0.values().any(|attr| matches!(attr, Attr::Graph(_)));
    if has_subgraph || NOT_FOLDED.contains(&node.op.name) {
        return None;
    }
    let known: Vec<Option<Arc<Tensor>>> = node
        .inputs
        .iter()
        .map(|id| match id {
            None => Some(None),
            Some(id) => constants.get(id).map(|t| Some(Arc::clone(t))),
        })
        .collect::<Option<_>>()?;
    let read: usize = known.iter().flatten().fold(0, |sum, t| sum.saturating_add(memory::bytes(t)));
    if read > (*left).saturating_mul(2) {
        return None;
    }
    let inputs: Vec<Option<&Tensor>> = known.iter().map(Option::as_deref).collect();
    let results = (node.op.eval)(&EvalCx { node, inputs: &inputs, budget: *left }).ok()?;
    let made: usize = results.iter().fold(0, |sum, t| sum.saturating_add(memory::bytes(t)));
    *left = left.checked_sub(made)?;
    if node.outputs.iter().skip(results.len()).any(Option::is_some) {
        return None;
    }
    for (id, mut tensor) in node.outputs.iter().zip(results) {
        tensor.canonicalize_nan();
        if let Some(id) = id {
            constants.insert(*id, Arc::new(tensor));
        }
    }
    Some(())
}

/// Orders the nodes into steps and finds out where values die.
pub(crate) fn steps(graph: &Graph, constants: &Constants, folded: &[bool], exec: &Exec) -> Vec<Step> {
    let is_folded = |index: usize| folded.get(index).copied().unwrap_or(false);
    let mut group_of: BTreeMap<usize, usize> = BTreeMap::new();
    let mut groups: Vec<Option<Group>> = Vec::new();
    for group in kernels::fuse(graph, constants, folded, exec) {
        group_of.extend(group.nodes.iter().map(|&node| (node, groups.len())));
        groups.push(Some(group));
    }
    let mut steps: Vec<Step> = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate().filter(|(index, _)| !is_folded(*index)) {
        let single = |index: usize, node: &Node| Step {
            node: index,
            kernel: kernels::select(node, graph, constants, exec),
            inputs: node.inputs.clone(),
            owned: Vec::new(),
            outputs: node.outputs.clone(),
            frees: Vec::new(),
            parts: Vec::new(),
        };
        let Some(&slot) = group_of.get(&index) else {
            steps.push(single(index, node));
            continue;
        };
        let last = groups.get(slot).and_then(Option::as_ref).and_then(|g| g.nodes.last()).copied();
        if last != Some(index) {
            continue;
        }
        if let Some(group) = groups.get_mut(slot).and_then(Option::take) {
            let parts = group.nodes.iter().filter_map(|&n| Some(single(n, graph.nodes.get(n)?))).collect();
            steps.push(Step {
                node: index,
                kernel: Some(group.kernel),
                inputs: group.inputs,
                owned: Vec::new(),
                outputs: group.outputs,
                frees: Vec::new(),
                parts,
            });
        }
    }
    mark_deaths(graph, constants, &mut steps);
    steps
}

/// Walks the steps backwards and notes each value's last reader.
fn mark_deaths(graph: &Graph, constants: &Constants, steps: &mut [Step]) {
    let mut live = vec![false; graph.values.len()];
    // Constants and outputs never die; nor do the caller's inputs, but only owned ones are ever taken.
    for id in graph.outputs.iter().chain(constants.keys()) {
        if let Some(slot) = live.get_mut(id.0) {
            *slot = true;
        }
    }
    for step in steps.iter_mut().rev() {
        let mut inner = live.clone();
        for part in step.parts.iter_mut().rev() {
            mark_step(part, &mut inner);
        }
        mark_step(step, &mut live);
    }
}

fn mark_step(step: &mut Step, live: &mut [bool]) {
    for id in step.outputs.iter().flatten() {
        if !live.get(id.0).copied().unwrap_or(true) {
            step.frees.push(*id);
        }
    }
    let mut dying = Vec::new();
    for id in step.inputs.iter().flatten() {
        if let Some(slot) = live.get_mut(id.0)
            && !*slot
        {
            *slot = true;
            dying.push(*id);
        }
    }
    step.owned = step
        .inputs
        .iter()
        .map(|id| {
            id.is_some_and(|id| {
                dying.contains(&id) && step.inputs.iter().flatten().filter(|&&x| x == id).count() == 1
            })
        })
        .collect();
    step.frees.extend(dying);
}
