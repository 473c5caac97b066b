//! Types and shapes over a whole graph, before anything runs (`spec/model.md` §3).

use std::sync::Arc;

use hallmark_receipt::{DType, Tensor};

use crate::graph::{Attr, Dim, Graph, Node, TypeInfo, ValueId};
use crate::onnx::schema;
use crate::ops::{Domain, EvalCx, InferCx, OpError};

/// Elements of the largest constant that is computed ahead of the run.
pub const FOLD_ELEMENTS: usize = 4096;
/// Work that computing ahead may take in one graph: the sum, over such nodes, of elements in times elements out. After
/// that, shapes that depend on more of it stay open.
const FOLD_WORK: usize = 1 << 30;

/// The most axes of a value.
pub const MAX_RANK: usize = 64;

/// Why types cannot be given to a graph.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InferError {
    /// A node refuses the types of its inputs.
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
    /// A value would have more elements than the limit.
    #[error(
        "value `{value}` of node `{node}` would have shape {shape:?}, above the limit of {limit} elements"
    )]
    TooLarge {
        /// The node's name.
        node: String,
        /// The value's name.
        value: String,
        /// Its shape; axes that are not known count as 1 and are shown so.
        shape: Vec<usize>,
        /// The limit.
        limit: usize,
    },
    /// A value would have more than [`MAX_RANK`] axes.
    #[error("value `{value}` of node `{node}` would have {got} axes, above the limit of {MAX_RANK}")]
    Rank {
        /// The node's name.
        node: String,
        /// The value's name.
        value: String,
        /// Its number of axes.
        got: usize,
    },
    /// The number of given input types is not the graph's.
    #[error("expected the types of {expected} inputs, got {got}")]
    InputCount {
        /// The graph's number of inputs and captures.
        expected: usize,
        /// The number given.
        got: usize,
    },
}

/// What is known of every value of a graph, by [`ValueId`].
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Types.
    pub types: Vec<TypeInfo>,
    /// Values that do not depend on the inputs: constants, and small results computed from constants.
    pub constants: Vec<Option<Arc<Tensor>>>,
    /// What is left of [`FOLD_WORK`].
    work: usize,
}

/// Infers the type of every value of a top-level `graph` and its subgraphs from its inputs' declared types and writes them
/// into `values`. A value of more than `limit` elements is refused.
pub fn infer(graph: &mut Graph, limit: usize) -> Result<(), InferError> {
    let inputs: Vec<_> = graph.inputs.iter().map(|id| info(graph, *id)).collect();
    let none = vec![None; inputs.len()];
    fill(graph, &inputs, &none, limit)
}

/// [`infer_with`], written into the graph and its subgraphs.
fn fill(
    graph: &mut Graph,
    inputs: &[TypeInfo],
    values: &[Option<Arc<Tensor>>],
    limit: usize,
) -> Result<(), InferError> {
    let mut known = Known::start(graph, inputs, values)?;
    let mut nodes = std::mem::take(&mut graph.nodes);
    for node in &mut nodes {
        fill_subgraphs(node, &known, limit)?;
        known.node(graph, node, limit)?;
    }
    graph.nodes = nodes;
    for (value, info) in graph.values.iter_mut().zip(known.types) {
        value.info = info;
    }
    Ok(())
}

/// Types inside a node's subgraphs, from what is known where the node stands.
fn fill_subgraphs(node: &mut Node, known: &Known, limit: usize) -> Result<(), InferError> {
    if !node.attrs.0.values().any(|attr| matches!(attr, Attr::Graph(_))) {
        return Ok(());
    }
    let of = |id: &Option<ValueId>| id.and_then(|id| known.types.get(id.0)).cloned().unwrap_or_default();
    let declared: Vec<_> = node.inputs.iter().take(node.declared_inputs).map(of).collect();
    let mut captured = node.inputs.iter().skip(node.declared_inputs);
    for attr in node.attrs.0.values_mut() {
        let Attr::Graph(graph) = attr else { continue };
        let graph = Arc::make_mut(graph);
        let mut types = subgraph_inputs(node.op.name, &declared, graph.inputs.len());
        let mut values = vec![None; types.len()];
        for id in captured.by_ref().take(graph.captures.len()) {
            types.push(of(id));
            values.push(id.and_then(|id| known.constants.get(id.0)?.clone()));
        }
        fill(graph, &types, &values, limit)?;
    }
    Ok(())
}

/// What the inputs of a node's subgraph are. The state of a loop keeps its element type, but its shape may change.
fn subgraph_inputs(op: &str, declared: &[TypeInfo], count: usize) -> Vec<TypeInfo> {
    let scalar = |dtype| TypeInfo { dtype: Some(dtype), shape: Some(Vec::new()) };
    let only_dtype = |info: &TypeInfo| TypeInfo { dtype: info.dtype, shape: None };
    let mut types = match op {
        "Loop" => {
            let states = declared.iter().skip(2).map(only_dtype);
            [scalar(DType::I64), scalar(DType::Bool)].into_iter().chain(states).collect()
        }
        "Scan" => declared.iter().skip(declared.len().saturating_sub(count)).map(only_dtype).collect(),
        _ => Vec::new(),
    };
    types.resize(count, TypeInfo::default());
    types
}

/// What is known of every value when the inputs (then the captures) have the types `inputs` and, where `values` says so,
/// the values `values`. Both are in the order of `graph.inputs` then `graph.captures`.
pub fn infer_with(
    graph: &Graph,
    inputs: &[TypeInfo],
    values: &[Option<Arc<Tensor>>],
    limit: usize,
) -> Result<Known, InferError> {
    let mut known = Known::start(graph, inputs, values)?;
    for node in &graph.nodes {
        known.node(graph, node, limit)?;
    }
    Ok(known)
}

/// The type of a tensor that exists.
pub fn type_of(tensor: &Tensor) -> TypeInfo {
    let shape = tensor.shape().iter().copied().map(Dim::Known).collect();
    TypeInfo { dtype: Some(tensor.dtype()), shape: Some(shape) }
}

fn info(graph: &Graph, id: ValueId) -> TypeInfo {
    graph.values.get(id.0).map(|value| value.info.clone()).unwrap_or_default()
}

impl Known {
    /// What is known before any node.
    fn start(graph: &Graph, inputs: &[TypeInfo], values: &[Option<Arc<Tensor>>]) -> Result<Self, InferError> {
        let expected = graph.inputs.len() + graph.captures.len();
        if inputs.len() != expected || values.len() != expected {
            return Err(InferError::InputCount { expected, got: inputs.len().min(values.len()) });
        }
        let mut known = Self {
            types: vec![TypeInfo::default(); graph.values.len()],
            constants: vec![None; graph.values.len()],
            work: FOLD_WORK,
        };
        for ((id, info), value) in graph.inputs.iter().chain(&graph.captures).zip(inputs).zip(values) {
            known.set(*id, info.clone(), value.clone());
        }
        for (id, tensor) in &graph.constants {
            known.set(*id, type_of(tensor), Some(Arc::clone(tensor)));
        }
        Ok(known)
    }

    fn set(&mut self, id: ValueId, info: TypeInfo, value: Option<Arc<Tensor>>) {
        if let (Some(slot), Some(constant)) = (self.types.get_mut(id.0), self.constants.get_mut(id.0)) {
            *slot = info;
            *constant = value;
        }
    }

    fn node(&mut self, graph: &Graph, node: &Node, limit: usize) -> Result<(), InferError> {
        let fail = |source| InferError::Node {
            node: node.name.clone(),
            op: node.op.name,
            version: node.version,
            source,
        };
        let types: Vec<_> =
            node.inputs.iter().map(|id| id.and_then(|id| self.types.get(id.0)).cloned()).collect();
        let constants: Vec<_> =
            node.inputs.iter().map(|id| id.and_then(|id| self.constants.get(id.0)?.clone())).collect();
        check_types(node, &types).map_err(fail)?;
        let outputs =
            (node.op.infer)(&InferCx { node, types: &types, constants: &constants }).map_err(fail)?;
        let values = fold(node, &types, &constants, &outputs, &mut self.work);
        for (index, id) in node.outputs.iter().enumerate() {
            let Some(id) = id else { continue };
            let value = values.get(index).cloned();
            let info = match &value {
                Some(value) => type_of(value),
                None => outputs.get(index).cloned().unwrap_or_default(),
            };
            check_size(graph, node, *id, &info, limit)?;
            self.set(*id, info, value);
        }
        Ok(())
    }
}

/// The known size of `info` against `limit`, before anything is allocated.
fn check_size(
    graph: &Graph,
    node: &Node,
    id: ValueId,
    info: &TypeInfo,
    limit: usize,
) -> Result<(), InferError> {
    let Some(dims) = &info.shape else { return Ok(()) };
    let name = || graph.values.get(id.0).map(|value| value.name.clone()).unwrap_or_default();
    if dims.len() > MAX_RANK {
        return Err(InferError::Rank { node: node.name.clone(), value: name(), got: dims.len() });
    }
    let shape: Vec<_> = dims.iter().map(|dim| if let Dim::Known(n) = dim { *n } else { 1 }).collect();
    if hallmark_receipt::tensor::count(&shape).is_some_and(|n| n <= limit) {
        return Ok(());
    }
    Err(InferError::TooLarge { node: node.name.clone(), value: name(), shape, limit })
}

/// The results of a node whose inputs are all known, if they are small. A node that fails here may never run (a branch
/// not taken), so its error is left to the run.
fn fold(
    node: &Node,
    types: &[Option<TypeInfo>],
    constants: &[Option<Arc<Tensor>>],
    outputs: &[TypeInfo],
    work: &mut usize,
) -> Vec<Arc<Tensor>> {
    if let Some(tensor) = shape_of(node, types) {
        return vec![Arc::new(tensor)];
    }
    let all_known = node.inputs.iter().zip(constants).all(|(id, value)| id.is_none() || value.is_some());
    let small = |n: Option<usize>| n.is_some_and(|n| n <= FOLD_ELEMENTS);
    let small_inputs = constants.iter().flatten().all(|tensor| small(Some(tensor.len())));
    let small_outputs = outputs.iter().all(|info| small(elements(info)));
    if !all_known || !small_inputs || !small_outputs || node.inputs.len() > node.declared_inputs {
        return Vec::new();
    }
    if node.attrs.0.values().any(|attr| matches!(attr, Attr::Graph(_))) {
        return Vec::new();
    }
    let read: usize = constants.iter().flatten().map(|tensor| tensor.len()).sum();
    let made: usize = outputs.iter().filter_map(elements).sum();
    let Some(left) = work.checked_sub(read.saturating_add(1).saturating_mul(made.saturating_add(1))) else {
        return Vec::new();
    };
    *work = left;
    let inputs: Vec<_> = constants.iter().map(Option::as_deref).collect();
    let budget = FOLD_ELEMENTS * 64;
    let result = (node.op.eval)(&EvalCx { node, inputs: &inputs, budget }).unwrap_or_default();
    let canonical = |mut tensor: Tensor| {
        tensor.canonicalize_nan();
        Arc::new(tensor)
    };
    result.into_iter().map(canonical).collect()
}

fn elements(info: &TypeInfo) -> Option<usize> {
    let known = |dim: &Dim| if let Dim::Known(n) = dim { Some(*n) } else { None };
    let shape: Vec<_> = info.shape.as_ref()?.iter().map(known).collect::<Option<_>>()?;
    hallmark_receipt::tensor::count(&shape)
}

/// `Shape` and `Size` of an input whose axes are known, whatever its values.
fn shape_of(node: &Node, types: &[Option<TypeInfo>]) -> Option<Tensor> {
    if node.op.domain != Domain::Onnx || !matches!(node.op.name, "Shape" | "Size") {
        return None;
    }
    let dims = types.first()?.as_ref()?.shape.as_ref()?;
    let rank = i64::try_from(dims.len()).ok()?;
    let bound = |name, default| {
        let at = node.attrs.int(name, default);
        usize::try_from(if at < 0 { at.saturating_add(rank) } else { at }.clamp(0, rank)).ok()
    };
    let (start, end) = (bound("start", 0)?, bound("end", rank)?);
    let size = |dim: &Dim| if let Dim::Known(n) = dim { i64::try_from(*n).ok() } else { None };
    if node.op.name == "Size" {
        let sizes = dims.iter().map(size).collect::<Option<Vec<_>>>()?;
        return Some(Tensor::scalar(sizes.into_iter().try_fold(1_i64, i64::checked_mul)?));
    }
    let sizes = dims.get(start..end.max(start))?.iter().map(size).collect::<Option<Vec<_>>>()?;
    Some(Tensor::vector(sizes))
}

/// Element types against the operator's ONNX schema: each input's own, and those that must be equal.
fn check_types(node: &Node, types: &[Option<TypeInfo>]) -> Result<(), OpError> {
    let schema = schema::in_force(node.op.domain, node.op.name, node.version);
    let Some(schema) = schema.filter(|schema| schema.since == node.version) else { return Ok(()) };
    let mut groups: Vec<(&str, DType)> = Vec::new();
    let declared = types.iter().take(node.declared_inputs).enumerate();
    for (index, info) in declared {
        let Some(got) = info.as_ref().and_then(|info| info.dtype) else { continue };
        let Some(formal) = schema.input_types.get(index).or(schema.input_types.last()) else { continue };
        let bit = DType::ALL.iter().position(|dtype| *dtype == got).unwrap_or(14);
        if formal.mask >> bit & 1 == 0 {
            return Err(OpError::InputType { index, got });
        }
        let Some(group) = formal.group.filter(|_| !formal.heterogeneous) else { continue };
        match groups.iter().find(|(name, _)| *name == group) {
            Some((_, first)) if *first != got => return Err(OpError::InputType { index, got }),
            Some(_) => {}
            None => groups.push((group, got)),
        }
    }
    Ok(())
}
