//! Runs a graph node by node with the scalar reference: slow, obvious, the oracle of the engine.

use std::sync::Arc;

use hallmark_receipt::Tensor;

use crate::graph::{Graph, ValueId};
use crate::ops::{EvalCx, OpError};

/// Why a run stopped.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The number of inputs is not the graph's.
    #[error("expected {expected} inputs, got {got}")]
    InputCount {
        /// The graph's number of inputs.
        expected: usize,
        /// The number given.
        got: usize,
    },
    /// A node refused.
    #[error("node `{node}` ({op}, version {version}): {source}")]
    Node {
        /// The node's name.
        node: String,
        /// Its operator.
        op: &'static str,
        /// The operator's version.
        version: u32,
        /// Why.
        source: OpError,
    },
}

/// Runs `graph` on `inputs` (its inputs, then its captures) and gives its outputs, each in the graph's order.
/// `budget` bounds the bytes of each single result.
pub fn run(graph: &Graph, inputs: &[&Tensor], budget: usize) -> Result<Vec<Tensor>, RunError> {
    let expected = graph.inputs.len() + graph.captures.len();
    if inputs.len() != expected {
        return Err(RunError::InputCount { expected, got: inputs.len() });
    }
    let mut values: Vec<Option<Arc<Tensor>>> = vec![None; graph.values.len()];
    for (id, tensor) in graph.inputs.iter().chain(&graph.captures).zip(inputs) {
        set(&mut values, *id, Arc::new((*tensor).clone()));
    }
    for (id, tensor) in &graph.constants {
        set(&mut values, *id, Arc::clone(tensor));
    }
    for node in &graph.nodes {
        let fail = |source| RunError::Node {
            node: node.name.clone(),
            op: node.op.name,
            version: node.version,
            source,
        };
        let inputs: Vec<Option<&Tensor>> =
            node.inputs.iter().map(|id| id.and_then(|id| values.get(id.0)?.as_deref())).collect();
        let outputs = (node.op.eval)(&EvalCx { node, inputs: &inputs, budget }).map_err(fail)?;
        for (id, mut tensor) in node.outputs.iter().zip(outputs) {
            tensor.canonicalize_nan();
            if let Some(id) = id {
                set(&mut values, *id, Arc::new(tensor));
            }
        }
    }
    graph
        .outputs
        .iter()
        .map(|id| values.get(id.0).and_then(Option::as_deref).cloned())
        .enumerate()
        .map(|(index, value)| {
            value.ok_or(RunError::Node {
                node: String::new(),
                op: "output",
                version: 0,
                source: OpError::MissingInput { index },
            })
        })
        .collect()
}

fn set(values: &mut [Option<Arc<Tensor>>], id: ValueId, tensor: Arc<Tensor>) {
    if let Some(slot) = values.get_mut(id.0) {
        *slot = Some(tensor);
    }
}
