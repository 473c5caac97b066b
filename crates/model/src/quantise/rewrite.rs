//! Graphs rewritten node by node, before anything is planned: from operators that the quantiser does not plan to ones that it does.

use std::collections::BTreeMap;
use std::sync::Arc;

use hallmark_receipt::{DType, Tensor};

use super::QuantiseError;
use super::source::Source;
use crate::graph::{Attr, Attrs, Graph, Node, Value, ValueId};
use crate::infer::{infer, type_of};
use crate::ops::{self, Domain};

/// A graph in the making.
pub(super) struct Rewrite<'a> {
    /// The graph as it was.
    pub source: &'a Source,
    /// What is made of it.
    pub graph: Graph,
    /// Values that are another's.
    pub alias: BTreeMap<ValueId, ValueId>,
}

/// `graph` with each node as `each` writes it. What is constant is computed ahead.
pub(super) fn rewrite(
    graph: &Graph,
    mut each: impl FnMut(&mut Rewrite<'_>, &Node) -> Result<(), QuantiseError>,
) -> Result<Graph, QuantiseError> {
    let source = Source::new(graph.clone())?;
    let mut work = Rewrite { source: &source, graph: graph.clone(), alias: BTreeMap::new() };
    work.graph.nodes.clear();
    for node in &graph.nodes {
        let known = node.outputs.iter().flatten().all(|id| source.constant(*id).is_some());
        if known {
            for id in node.outputs.iter().flatten() {
                if let Some(tensor) = source.constant(*id) {
                    work.graph.constants.insert(*id, Arc::clone(tensor));
                }
            }
        } else {
            each(&mut work, node)?;
        }
    }
    let mut graph = work.graph;
    // Types may have changed: what was int8 between quantised operators is float32 now.
    infer(&mut graph, usize::MAX)?;
    Ok(graph)
}

impl Rewrite<'_> {
    /// The value that `id` is now.
    pub fn named(&self, id: ValueId) -> ValueId {
        self.alias.get(&id).copied().unwrap_or(id)
    }

    /// The node as it is; what it makes of floats is floats.
    pub fn keep(&mut self, node: &Node) {
        let mut node = node.clone();
        for id in node.inputs.iter_mut().flatten() {
            *id = self.alias.get(id).copied().unwrap_or(*id);
        }
        let float = node.inputs.first().copied().flatten().is_some_and(|id| self.is_float(id));
        for id in node.outputs.iter().flatten() {
            if float
                && matches!(self.source.dtype(*id), Some(DType::I8 | DType::U8 | DType::I16 | DType::U16))
            {
                self.float(*id);
            }
        }
        self.graph.nodes.push(node);
    }

    /// Whether `id` is of float32 now.
    pub fn is_float(&self, id: ValueId) -> bool {
        self.graph.values.get(id.0).is_some_and(|value| value.info.dtype == Some(DType::F32))
    }

    /// Makes `id` float32.
    pub fn float(&mut self, id: ValueId) {
        if let Some(value) = self.graph.values.get_mut(id.0) {
            value.info.dtype = Some(DType::F32);
        }
    }

    /// A new constant.
    pub fn constant(&mut self, tensor: Tensor) -> ValueId {
        let id = ValueId(self.graph.values.len());
        self.graph.values.push(Value { name: format!("rewritten {}", id.0), info: type_of(&tensor) });
        self.graph.constants.insert(id, Arc::new(tensor));
        id
    }

    /// A new value of the type of `like`.
    pub fn value(&mut self, like: ValueId) -> ValueId {
        let id = ValueId(self.graph.values.len());
        let info = self.graph.values.get(like.0).map(|value| value.info.clone()).unwrap_or_default();
        self.graph.values.push(Value { name: format!("rewritten {}", id.0), info });
        id
    }

    /// A new node in the place of `like`, in the operator's newest version, that makes `output`.
    pub fn push(
        &mut self,
        like: &Node,
        op: &str,
        attrs: Attrs,
        inputs: Vec<ValueId>,
        output: ValueId,
    ) -> Result<(), QuantiseError> {
        let refuse = || QuantiseError::unsupported(like, "its other form is not known");
        let op = ops::find(Domain::Onnx, op).ok_or_else(refuse)?;
        let version = *op.versions.last().ok_or_else(refuse)?;
        let declared_inputs = inputs.len();
        let inputs = inputs.into_iter().map(Some).collect();
        let (name, outputs) = (like.name.clone(), vec![Some(output)]);
        self.graph.nodes.push(Node { name, op, version, attrs, inputs, declared_inputs, outputs });
        Ok(())
    }

    /// [`Rewrite::push`] of a new value, of the type of `kind`.
    pub fn then(
        &mut self,
        like: &Node,
        op: &str,
        attrs: &[(&str, Attr)],
        inputs: Vec<ValueId>,
        kind: ValueId,
    ) -> Result<ValueId, QuantiseError> {
        let output = self.value(kind);
        let attrs = attrs.iter().map(|(name, attr)| ((*name).to_owned(), attr.clone())).collect();
        self.push(like, op, Attrs(attrs), inputs, output)?;
        Ok(output)
    }
}
