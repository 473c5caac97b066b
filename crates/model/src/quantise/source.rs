//! The float graph as the quantiser reads it: constants computed, who makes and who reads each value.

use std::sync::Arc;

use hallmark_receipt::{DType, Tensor};

use super::QuantiseError;
use super::array::Array;
use crate::graph::{Attr, Dim, Graph, Node, TypeInfo, ValueId};
use crate::infer::infer_with;
use crate::ops::{Domain, EvalCx};

/// Bytes that all constants computed ahead may take together.
const FOLD_BYTES: usize = 1 << 30;

/// A graph with what is known of it.
#[derive(Debug)]
pub(super) struct Source {
    pub graph: Graph,
    /// Values that do not depend on the inputs.
    constants: Vec<Option<Arc<Tensor>>>,
    maker: Vec<Option<usize>>,
    /// Reads of each value: nodes, once for each time; outputs of the graph count as `usize::MAX`.
    readers: Vec<Vec<usize>>,
}

impl Source {
    /// Computes the constants of `graph`. A node with a subgraph is refused.
    pub fn new(graph: Graph) -> Result<Self, QuantiseError> {
        let count = graph.values.len();
        let (mut constants, mut maker) = (vec![None; count], vec![None; count]);
        let mut readers = vec![Vec::new(); count];
        // What inference learns of shapes counts as constant, though it reads inputs.
        let types: Vec<_> = graph.inputs.iter().map(|id| info(&graph, *id)).collect();
        let unknown = vec![None; types.len()];
        if let Ok(known) = infer_with(&graph, &types, &unknown, usize::MAX) {
            constants = known.constants;
        }
        let mut left = FOLD_BYTES;
        for (index, node) in graph.nodes.iter().enumerate() {
            if node.attrs.0.values().any(|attr| matches!(attr, Attr::Graph(_))) {
                return Err(QuantiseError::unsupported(node, "it has a subgraph"));
            }
            for id in node.inputs.iter().flatten() {
                if let Some(list) = readers.get_mut(id.0) {
                    list.push(index);
                }
            }
            for id in node.outputs.iter().flatten() {
                if let Some(slot) = maker.get_mut(id.0) {
                    *slot = Some(index);
                }
            }
            fold(node, &mut constants, &mut left);
        }
        for id in &graph.outputs {
            if let Some(list) = readers.get_mut(id.0) {
                list.push(usize::MAX);
            }
        }
        Ok(Self { graph, constants, maker, readers })
    }

    /// The value of `id`, if it does not depend on the inputs.
    pub fn constant(&self, id: ValueId) -> Option<&Arc<Tensor>> {
        self.constants.get(id.0)?.as_ref()
    }

    /// Input `index` of `node`.
    pub fn input(node: &Node, index: usize) -> Option<ValueId> {
        node.inputs.get(index).copied().flatten()
    }

    /// Input `index` of `node`, where it is a constant.
    pub fn constant_input(&self, node: &Node, index: usize) -> Option<&Arc<Tensor>> {
        self.constant(Self::input(node, index)?)
    }

    /// Input `index` of `node` as a float constant.
    pub fn array(&self, node: &Node, index: usize) -> Option<Array> {
        Array::of(self.constant_input(node, index)?)
    }

    /// The constant that `id` is, or that it stretches along the batch.
    pub fn spread(&self, id: ValueId) -> Option<Array> {
        if let Some(tensor) = self.constant(id) {
            return Array::of(tensor);
        }
        let (_, node) = self.maker(id).filter(|(_, node)| node.op.name == "Expand")?;
        let array = self.array(node, 0)?;
        let dims = self.dims(id)?;
        let same = |(&size, dim): (&usize, &Dim)| *dim == Dim::Known(size);
        let whole = array.shape.len() == dims.len() && array.shape.iter().zip(dims).skip(1).all(same);
        (whole && array.shape.first() == Some(&1)).then_some(array)
    }

    /// Input `index` of `node`, where it depends on the graph's inputs.
    pub fn variable(&self, node: &Node, index: usize) -> Option<ValueId> {
        Self::input(node, index).filter(|id| self.constant(*id).is_none())
    }

    /// The node that makes `id`, and its index.
    pub fn maker(&self, id: ValueId) -> Option<(usize, &Node)> {
        let index = self.maker.get(id.0).copied().flatten()?;
        Some((index, self.graph.nodes.get(index)?))
    }

    /// The nodes that read `id`.
    pub fn readers(&self, id: ValueId) -> &[usize] {
        self.readers.get(id.0).map_or(&[], Vec::as_slice)
    }

    /// Whether exactly one node reads `id`, once.
    pub fn read_once(&self, id: ValueId) -> bool {
        matches!(self.readers(id), [index] if *index != usize::MAX)
    }

    /// The element type of `id`.
    pub fn dtype(&self, id: ValueId) -> Option<DType> {
        self.graph.values.get(id.0)?.info.dtype
    }

    /// The axes of `id`.
    pub fn dims(&self, id: ValueId) -> Option<&[Dim]> {
        self.graph.values.get(id.0)?.info.shape.as_deref()
    }

    /// Whether `id` is of a floating-point type.
    pub fn is_float(&self, id: ValueId) -> bool {
        matches!(self.dtype(id), Some(DType::F32 | DType::F64 | DType::F16 | DType::BF16))
    }
}

fn info(graph: &Graph, id: ValueId) -> TypeInfo {
    graph.values.get(id.0).map(|value| value.info.clone()).unwrap_or_default()
}

/// Computes a node whose inputs are all known. One that fails is left to be refused where it stands.
fn fold(node: &Node, constants: &mut [Option<Arc<Tensor>>], left: &mut usize) {
    let known: Option<Vec<Option<Arc<Tensor>>>> = node
        .inputs
        .iter()
        .map(|id| id.map_or(Some(None), |id| constants.get(id.0)?.clone().map(Some)))
        .collect();
    let Some(known) = known.filter(|_| node.op.domain == Domain::Onnx) else { return };
    let inputs: Vec<Option<&Tensor>> = known.iter().map(Option::as_deref).collect();
    let Ok(results) = (node.op.eval)(&EvalCx { node, inputs: &inputs, budget: *left }) else { return };
    for (id, tensor) in node.outputs.iter().zip(results) {
        *left = left.saturating_sub(tensor.len().saturating_mul(8));
        if let Some(slot) = id.and_then(|id| constants.get_mut(id.0)) {
            *slot = Some(Arc::new(tensor));
        }
    }
}
