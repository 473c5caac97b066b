//! Which nodes run as one kernel. Every fusion keeps every bit: it changes where intermediate values are kept, never how they
//! are computed.

use std::collections::BTreeMap;

use hallmark_model::graph::{Graph, Node, ValueId};
use hallmark_model::ops::Domain;

use super::contract::contraction;
use super::quantised;
use super::rows::{Form, Norm};
use super::select::{axes, map_of};
use super::spatial::convolution;
use super::tape::{Instr, Src, Tape};
use crate::plan::{Constants, Group};
use crate::program::Exec;

/// The most operations of one elementwise chain.
const MOST_OPERATIONS: usize = 12;

/// Who makes and who reads each value.
pub(crate) struct Links<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) constants: &'a Constants,
    pub(crate) exec: &'a Exec,
    folded: &'a [bool],
    maker: BTreeMap<ValueId, usize>,
    readers: BTreeMap<ValueId, Vec<usize>>,
    taken: Vec<bool>,
}

impl<'a> Links<'a> {
    fn new(graph: &'a Graph, constants: &'a Constants, folded: &'a [bool], exec: &'a Exec) -> Self {
        let mut maker = BTreeMap::new();
        let mut readers: BTreeMap<ValueId, Vec<usize>> = BTreeMap::new();
        for (index, node) in graph.nodes.iter().enumerate() {
            for id in node.outputs.iter().flatten() {
                maker.insert(*id, index);
            }
            for id in node.inputs.iter().flatten() {
                readers.entry(*id).or_default().push(index);
            }
        }
        // The caller reads outputs; it counts as a reader that no group can hold.
        for id in &graph.outputs {
            readers.entry(*id).or_default().push(usize::MAX);
        }
        Self { graph, constants, exec, folded, maker, readers, taken: vec![false; graph.nodes.len()] }
    }

    /// Node `index`, unless it is folded or in a group already.
    pub(crate) fn free(&self, index: usize) -> Option<&'a Node> {
        self.free_of_any(index).filter(|node| node.op.domain == Domain::Onnx)
    }

    /// [`Links::free`], of whatever domain.
    fn free_of_any(&self, index: usize) -> Option<&'a Node> {
        let busy =
            self.folded.get(index).copied().unwrap_or(true) || self.taken.get(index).copied().unwrap_or(true);
        self.graph.nodes.get(index).filter(|_| !busy)
    }

    /// [`Links::only_reader`], of whatever domain.
    pub(crate) fn only_reader_of_any(&self, id: ValueId) -> Option<(usize, &'a Node)> {
        match self.readers(id) {
            [index] => Some((*index, self.free_of_any(*index)?)),
            _ => None,
        }
    }

    /// The free node that makes `id`, and its index.
    pub(crate) fn maker(&self, id: ValueId) -> Option<(usize, &'a Node)> {
        let index = *self.maker.get(&id)?;
        Some((index, self.free(index)?))
    }

    /// The nodes that read `id`, once for each time they do.
    pub(crate) fn readers(&self, id: ValueId) -> &[usize] {
        self.readers.get(&id).map_or(&[], Vec::as_slice)
    }

    /// The free node that alone reads `id`, once.
    pub(crate) fn only_reader(&self, id: ValueId) -> Option<(usize, &'a Node)> {
        match self.readers(id) {
            [index] => Some((*index, self.free(*index)?)),
            _ => None,
        }
    }

    /// The single-element float32 constant `id`, of at most one axis.
    pub(crate) fn scalar(&self, id: ValueId) -> Option<f32> {
        let tensor = self.constants.get(&id).filter(|t| t.shape().len() <= 1)?;
        match tensor.as_slice::<f32>()? {
            [x] => Some(*x),
            _ => None,
        }
    }

    fn take(&mut self, nodes: &[usize]) {
        for &index in nodes {
            if let Some(slot) = self.taken.get_mut(index) {
                *slot = true;
            }
        }
    }
}

/// The groups of `graph`.
pub(crate) fn fuse(graph: &Graph, constants: &Constants, folded: &[bool], exec: &Exec) -> Vec<Group> {
    let mut links = Links::new(graph, constants, folded, exec);
    let mut groups = Vec::new();
    let finders: [fn(&Links<'_>, usize) -> Option<Group>; 5] =
        [written_layer_norm, contraction, convolution, quantised::fused, chain];
    for finder in finders {
        // From the end, so that a chain is found from its last node and as long as it gets.
        for index in (0..graph.nodes.len()).rev() {
            if let Some(group) = finder(&links, index) {
                links.take(&group.nodes);
                groups.push(group);
            }
        }
    }
    groups
}

/// The node's inputs where it has exactly two.
fn pair(node: &Node) -> Option<(ValueId, ValueId)> {
    match node.inputs.as_slice() {
        [Some(a), Some(b)] => Some((*a, *b)),
        _ => None,
    }
}

fn output(node: &Node) -> Option<ValueId> {
    node.outputs.first().copied().flatten()
}

/// The mean over the last axis, kept as 1.
fn is_row_mean(node: &Node, links: &Links<'_>) -> bool {
    let rank = node
        .inputs
        .first()
        .copied()
        .flatten()
        .and_then(|id| Some(links.graph.values.get(id.0)?.info.shape.as_ref()?.len()));
    let last = |axis: i64| axis == -1 || rank.is_some_and(|rank| usize::try_from(axis) == Ok(rank - 1));
    node.op.name == "ReduceMean"
        && node.attrs.int("keepdims", 1) == 1
        && axes(node, links.constants).is_some_and(|axes| matches!(axes.as_slice(), [axis] if last(*axis)))
}

/// LayerNormalization as PyTorch writes it out before opset 17, found from its first ReduceMean:
/// `(d / Sqrt(ReduceMean(Pow(d, 2)) + eps)) * scale + bias` with `d = x - ReduceMean(x)`.
fn written_layer_norm(links: &Links<'_>, start: usize) -> Option<Group> {
    let mean = links.free(start).filter(|node| is_row_mean(node, links))?;
    let x = mean.inputs.first().copied().flatten()?;
    let (sub_at, sub) = links.only_reader(output(mean)?)?;
    if sub.op.name != "Sub" || pair(sub)? != (x, output(mean)?) {
        return None;
    }
    let d = output(sub)?;
    let is = |index: usize, name: &str| links.free(index).is_some_and(|node| node.op.name == name);
    let (square_at, div_at) = match *links.readers(d) {
        [a, b] if is(a, "Div") => (b, a),
        [a, b] if is(b, "Div") => (a, b),
        [a, b, c] if a == b && is(a, "Mul") && is(c, "Div") => (a, c),
        [a, b, c] if b == c && is(b, "Mul") && is(a, "Div") => (b, a),
        _ => return None,
    };
    let square = links.free(square_at)?;
    let squares = match square.op.name {
        "Pow" => pair(square)?.0 == d && links.scalar(pair(square)?.1) == Some(2.0),
        "Mul" => pair(square)? == (d, d),
        _ => false,
    };
    if !squares {
        return None;
    }
    let (var_at, var) = links.only_reader(output(square)?).filter(|(_, node)| is_row_mean(node, links))?;
    let (add_at, add) = links.only_reader(output(var)?).filter(|(_, node)| node.op.name == "Add")?;
    let epsilon = links.scalar(other(add, output(var)?)?)?;
    let (sqrt_at, sqrt) = links.only_reader(output(add)?).filter(|(_, node)| node.op.name == "Sqrt")?;
    let (at, div) = links.only_reader(output(sqrt)?)?;
    if at != div_at || pair(div)? != (d, output(sqrt)?) {
        return None;
    }
    let (mul_at, mul) = links.only_reader(output(div)?).filter(|(_, node)| node.op.name == "Mul")?;
    let scale = other(mul, output(div)?)?;
    let (last_at, last) = links.only_reader(output(mul)?).filter(|(_, node)| node.op.name == "Add")?;
    let bias = other(last, output(mul)?)?;
    if !links.constants.contains_key(&scale) || !links.constants.contains_key(&bias) {
        return None;
    }
    let mut nodes = vec![start, sub_at, square_at, var_at, add_at, sqrt_at, div_at, mul_at, last_at];
    nodes.sort_unstable();
    Some(Group {
        nodes,
        inputs: vec![Some(x), Some(scale), Some(bias)],
        outputs: last.outputs.clone(),
        kernel: Box::new(Norm { axis: -1, epsilon, form: Form::LayerWritten }),
    })
}

/// The operand of a two-operand node that is not `id`.
pub(crate) fn other(node: &Node, id: ValueId) -> Option<ValueId> {
    match pair(node)? {
        (a, b) if a == id && b != id => Some(b),
        (a, b) if b == id && a != id => Some(a),
        _ => None,
    }
}

/// A chain of elementwise operations that ends in node `end`: producers join while only the chain reads them and they are known to
/// have the shape of the result.
fn chain(links: &Links<'_>, end: usize) -> Option<Group> {
    map_of(links.free(end)?, links.constants)?;
    let result = links.graph.values.get(output(links.free(end)?)?.0)?.info.clone();
    result.shape.as_ref()?;
    let mut nodes = vec![end];
    let mut grown = true;
    while grown && nodes.len() < MOST_OPERATIONS {
        grown = false;
        let inputs: Vec<ValueId> = nodes
            .iter()
            .filter_map(|&index| links.graph.nodes.get(index))
            .flat_map(|node| node.inputs.iter().take(arity(node, links)).flatten().copied())
            .collect();
        for id in inputs {
            let Some((index, node)) = links.maker(id) else { continue };
            let joins = !nodes.contains(&index)
                && nodes.len() < MOST_OPERATIONS
                && map_of(node, links.constants).is_some()
                && links.readers(id).iter().all(|reader| nodes.contains(reader))
                && links.graph.values.get(id.0).is_some_and(|value| value.info == result);
            if joins {
                nodes.push(index);
                grown = true;
            }
        }
    }
    if nodes.len() < 2 {
        return None;
    }
    nodes.sort_unstable();
    let mut inputs: Vec<ValueId> = Vec::new();
    let mut made: BTreeMap<ValueId, usize> = BTreeMap::new();
    let mut code = Vec::new();
    for &index in &nodes {
        let node = links.graph.nodes.get(index)?;
        let op = map_of(node, links.constants)?;
        let mut args = [Src::Input(0); 2];
        for (slot, id) in args.iter_mut().zip(node.inputs.iter().take(op.arity())) {
            let id = (*id)?;
            *slot = match made.get(&id) {
                Some(&at) => Src::Made(at),
                None => Src::Input(inputs.iter().position(|&other| other == id).unwrap_or_else(|| {
                    inputs.push(id);
                    inputs.len() - 1
                })),
            };
        }
        made.insert(output(node)?, code.len());
        code.push(Instr { op, args });
    }
    Some(Group {
        inputs: inputs.into_iter().map(Some).collect(),
        outputs: links.graph.nodes.get(end)?.outputs.clone(),
        kernel: Box::new(Tape::new(code)),
        nodes,
    })
}

fn arity(node: &Node, links: &Links<'_>) -> usize {
    map_of(node, links.constants).map_or(0, super::map::Map::arity)
}
