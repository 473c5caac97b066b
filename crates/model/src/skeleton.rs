//! The skeleton: a graph without its weights (`spec/model.md` §4). Its encoding is what the graph digest hashes and what a
//! bundle carries.
//!
//! Names inside the graph are left out; names of inputs and outputs are part of it, because callers use them.

use std::collections::BTreeMap;
use std::sync::Arc;

use hallmark_receipt::{DType, Digest, Tensor, domain};

use crate::graph::{Attr, Attrs, Dim, Graph, Node, TypeInfo, Value, ValueId};
use crate::ops::Domain;
use crate::weights::Layout;

mod codec;

pub use codec::{MAX_BYTES, MAX_DEPTH, SkeletonError};

/// Elements up to which any constant stays in the skeleton.
pub const INLINE: usize = 8;
/// Elements up to which constants of int64 and bool, which mostly are shapes, axes and labels, stay in the skeleton, and floats around integers.
pub const INLINE_SHAPES: usize = 4096;

/// A graph without its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Skeleton {
    /// The model's inputs.
    pub inputs: Vec<Input>,
    /// The model's outputs.
    pub outputs: Vec<Output>,
    /// What is computed.
    pub body: Body,
}

/// An input of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: DType,
    /// Its axes; `None` where even the rank is open.
    pub shape: Option<Vec<Axis>>,
}

/// The size of an input's axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// Open, and bound to nothing else.
    Open,
    /// Open, and equal to every axis with the same number; numbered by first appearance.
    Shared(usize),
    /// Fixed.
    Fixed(usize),
}

/// An output of the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// Its name.
    pub name: String,
    /// Where the file declares a sequence of maps: the keys of the columns.
    pub keys: Option<Arc<Tensor>>,
}

/// A graph or subgraph. Values are numbered as `spec/model.md` §2 says: inputs, captures, then for each node the constants
/// that it is the first to use and its outputs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Body {
    /// Number of inputs.
    pub inputs: usize,
    /// Number of captures.
    pub captures: usize,
    /// Constants by value.
    pub constants: BTreeMap<ValueId, Constant>,
    /// Operators in canonical order.
    pub nodes: Vec<SkeletonNode>,
    /// The values of the outputs.
    pub outputs: Vec<ValueId>,
}

/// A constant.
#[derive(Clone, Debug, PartialEq)]
pub enum Constant {
    /// One that is part of the skeleton.
    Inline(Arc<Tensor>),
    /// One that the weight tree holds.
    Weight(Weight),
}

/// A constant of which the skeleton says only the form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weight {
    /// Its element type, which is never text.
    pub dtype: DType,
    /// Its shape.
    pub shape: Vec<usize>,
    /// How its elements fall into leaves.
    pub layout: Layout,
}

/// One application of an operator.
#[derive(Clone, Debug, PartialEq)]
pub struct SkeletonNode {
    /// The operator's domain.
    pub domain: Domain,
    /// The operator's name.
    pub op: String,
    /// The operator's version in force.
    pub version: u32,
    /// Attributes by name.
    pub attrs: BTreeMap<String, SkeletonAttr>,
    /// Declared inputs, then captures of the subgraphs.
    pub inputs: Vec<Option<ValueId>>,
    /// How many of `inputs` are declared ones.
    pub declared_inputs: usize,
    /// Outputs.
    pub outputs: Vec<Option<ValueId>>,
}

/// An attribute's value.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum SkeletonAttr {
    Plain(Attr),
    Graph(Body),
}

impl PartialEq for SkeletonAttr {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Graph(a), Self::Graph(b)) => a == b,
            (Self::Plain(a), Self::Plain(b)) => same(a, b),
            _ => false,
        }
    }
}

fn same(a: &Attr, b: &Attr) -> bool {
    match (a, b) {
        (Attr::Int(a), Attr::Int(b)) => a == b,
        (Attr::Float(a), Attr::Float(b)) => a.to_bits() == b.to_bits(),
        (Attr::Str(a), Attr::Str(b)) => a == b,
        (Attr::Tensor(a), Attr::Tensor(b)) => a.same_bits(b),
        (Attr::Ints(a), Attr::Ints(b)) => a == b,
        (Attr::Floats(a), Attr::Floats(b)) => a.iter().map(|x| x.to_bits()).eq(b.iter().map(|x| x.to_bits())),
        (Attr::Strs(a), Attr::Strs(b)) => a == b,
        _ => false,
    }
}

impl Skeleton {
    /// The skeleton of a model's top-level graph.
    ///
    /// # Errors
    /// A graph that is not canonical (made by hand rather than by the importer), or too large to encode.
    pub fn of(graph: &Graph) -> Result<Self, SkeletonError> {
        let mut count = BTreeMap::new();
        for dim in graph.inputs.iter().filter_map(|id| shape(graph, *id)).flatten() {
            if let Dim::Symbol(name) = dim {
                *count.entry(name.as_str()).or_insert(0_usize) += 1;
            }
        }
        let mut symbols: BTreeMap<&str, usize> = BTreeMap::new();
        let mut axis = |dim| match dim {
            &Dim::Known(n) => Axis::Fixed(n),
            Dim::Symbol(name) if count.get(name.as_str()).is_some_and(|n| *n > 1) => {
                let next = symbols.len();
                Axis::Shared(*symbols.entry(name).or_insert(next))
            }
            Dim::Symbol(_) | Dim::Unknown => Axis::Open,
        };
        let mut inputs = Vec::with_capacity(graph.inputs.len());
        for id in &graph.inputs {
            let value = graph.values.get(id.0).ok_or(SkeletonError::NotCanonical)?;
            inputs.push(Input {
                name: value.name.clone(),
                dtype: value.info.dtype.ok_or(SkeletonError::InputType)?,
                shape: value.info.shape.as_ref().map(|dims: &Vec<Dim>| dims.iter().map(&mut axis).collect()),
            });
        }
        let name = |id: &ValueId| graph.values.get(id.0).map(|value| value.name.clone());
        let output = |id| Some(Output { name: name(id)?, keys: graph.output_keys.get(id).cloned() });
        let outputs =
            graph.outputs.iter().map(output).collect::<Option<_>>().ok_or(SkeletonError::NotCanonical)?;
        let skeleton = Self { inputs, outputs, body: body(graph, 0)? };
        skeleton.check()?;
        Ok(skeleton)
    }

    /// The graph's digest: SHA-256 over the encoding, in its own domain.
    pub fn digest(&self) -> Digest {
        domain::GRAPH.hash(&[&self.encode()])
    }

    /// The weights' forms in the order of the weight tree: those of each graph by value, a node's subgraphs (by attribute
    /// name) after the graph that holds the node.
    pub fn weights(&self) -> Vec<&Weight> {
        let mut all = Vec::new();
        collect(&self.body, &mut all);
        all
    }
}

fn collect<'a>(body: &'a Body, all: &mut Vec<&'a Weight>) {
    for constant in body.constants.values() {
        if let Constant::Weight(weight) = constant {
            all.push(weight);
        }
    }
    for attr in body.nodes.iter().flat_map(|node| node.attrs.values()) {
        if let SkeletonAttr::Graph(body) = attr {
            collect(body, all);
        }
    }
}

fn shape(graph: &Graph, id: ValueId) -> Option<&Vec<Dim>> {
    graph.values.get(id.0)?.info.shape.as_ref()
}

/// Whether a constant stays in the skeleton. `integers`: whether its graph has an operator of `ai.hallmark`. There floats are scales
/// and offsets around the integers, which whoever checks a proof computes with.
pub fn is_inline(dtype: DType, elements: usize, integers: bool) -> bool {
    let shapes = matches!(dtype, DType::I64 | DType::Bool) || integers && dtype == DType::F32;
    elements <= INLINE || shapes && elements <= INLINE_SHAPES || dtype == DType::Str
}

/// Whether one of the domains is that of integer operators.
pub(crate) fn has_integers(mut domains: impl Iterator<Item = Domain>) -> bool {
    domains.any(|domain| domain == Domain::Hallmark)
}

fn body(graph: &Graph, depth: usize) -> Result<Body, SkeletonError> {
    if depth > MAX_DEPTH {
        return Err(SkeletonError::TooDeep { limit: MAX_DEPTH });
    }
    let mut nodes = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let mut attrs = BTreeMap::new();
        for (name, attr) in &node.attrs.0 {
            let attr = match attr {
                Attr::Graph(graph) => SkeletonAttr::Graph(body(graph, depth + 1)?),
                plain => SkeletonAttr::Plain(plain.clone()),
            };
            attrs.insert(name.clone(), attr);
        }
        nodes.push(SkeletonNode {
            domain: node.op.domain,
            op: node.op.name.to_owned(),
            version: node.version,
            attrs,
            inputs: node.inputs.clone(),
            declared_inputs: node.declared_inputs,
            outputs: node.outputs.clone(),
        });
    }
    let layouts = layouts(graph);
    let integers = has_integers(graph.nodes.iter().map(|node| node.op.domain));
    let constant = |(id, tensor): (&ValueId, &Arc<Tensor>)| {
        let constant = if is_inline(tensor.dtype(), tensor.len(), integers) {
            Constant::Inline(Arc::clone(tensor))
        } else {
            let layout = layouts.get(id).copied().unwrap_or_else(|| Layout::flat(tensor.len()));
            Constant::Weight(Weight { dtype: tensor.dtype(), shape: tensor.shape().to_vec(), layout })
        };
        (*id, constant)
    };
    Ok(Body {
        inputs: graph.inputs.len(),
        captures: graph.captures.len(),
        constants: graph.constants.iter().map(constant).collect(),
        nodes,
        outputs: graph.outputs.clone(),
    })
}

/// The leaf layouts of `graph`'s own constants: each one's first reader decides.
pub(crate) fn layouts(graph: &Graph) -> BTreeMap<ValueId, Layout> {
    let mut layouts = BTreeMap::new();
    for node in &graph.nodes {
        let ints = |name: &str| node.attrs.int(name, 0);
        for (index, id) in node.inputs.iter().enumerate() {
            let Some((id, tensor)) = id.and_then(|id| Some((id, graph.constants.get(&id)?))) else {
                continue;
            };
            layouts.entry(id).or_insert_with(|| read_layout(node, index, tensor.shape(), &ints));
        }
    }
    layouts
}

fn read_layout(node: &Node, index: usize, shape: &[usize], int: &dyn Fn(&str) -> i64) -> Layout {
    Layout::of(node.op.domain, node.op.name, index, shape, int)
}

impl Skeleton {
    /// The graph that this is the skeleton of, as far as it can be told without the weights: those are its captures, in the
    /// order of their values, with their types. Whoever gives them as further inputs can run it; whoever has not can still
    /// infer types and read its structure.
    ///
    /// # Errors
    /// An operator that this build does not have, or a subgraph: skeletons of models with control flow have no such graph.
    pub fn graph(&self) -> Result<Graph, SkeletonError> {
        let body = &self.body;
        let mut graph = Graph { outputs: body.outputs.clone(), ..Graph::default() };
        let mut values: BTreeMap<ValueId, Value> = BTreeMap::new();
        for (index, input) in self.inputs.iter().enumerate() {
            let axis = |(at, axis): (usize, &Axis)| match axis {
                Axis::Fixed(n) => Dim::Known(*n),
                Axis::Shared(number) => Dim::Symbol(format!("axis {number}")),
                Axis::Open => Dim::Symbol(format!("input {index} axis {at}")),
            };
            let shape = input.shape.as_ref().map(|axes| axes.iter().enumerate().map(axis).collect());
            let info = TypeInfo { dtype: Some(input.dtype), shape };
            values.insert(ValueId(index), Value { name: input.name.clone(), info });
            graph.inputs.push(ValueId(index));
        }
        for (id, constant) in &body.constants {
            let value = match constant {
                Constant::Inline(tensor) => {
                    graph.constants.insert(*id, Arc::clone(tensor));
                    Value { name: String::new(), info: crate::infer::type_of(tensor) }
                }
                Constant::Weight(weight) => {
                    graph.captures.push(*id);
                    let shape = weight.shape.iter().copied().map(Dim::Known).collect();
                    let info = TypeInfo { dtype: Some(weight.dtype), shape: Some(shape) };
                    Value { name: String::new(), info }
                }
            };
            values.insert(*id, value);
        }
        for (index, node) in body.nodes.iter().enumerate() {
            let op = crate::ops::find(node.domain, &node.op).ok_or(SkeletonError::NotCanonical)?;
            let mut attrs = BTreeMap::new();
            for (name, attr) in &node.attrs {
                let SkeletonAttr::Plain(attr) = attr else { return Err(SkeletonError::NotCanonical) };
                attrs.insert(name.clone(), attr.clone());
            }
            graph.nodes.push(Node {
                name: format!("{} {index}", node.op),
                op,
                version: node.version,
                attrs: Attrs(attrs),
                inputs: node.inputs.clone(),
                declared_inputs: node.declared_inputs,
                outputs: node.outputs.clone(),
            });
            for id in node.outputs.iter().flatten() {
                values.entry(*id).or_default();
            }
        }
        for (id, output) in body.outputs.iter().zip(&self.outputs) {
            values.entry(*id).or_default().name.clone_from(&output.name);
            if let Some(keys) = &output.keys {
                graph.output_keys.insert(*id, Arc::clone(keys));
            }
        }
        let count = values.last_key_value().map_or(0, |(id, _)| id.0 + 1);
        graph.values = (0..count).map(|id| values.remove(&ValueId(id)).unwrap_or_default()).collect();
        Ok(graph)
    }
}
