//! Why a program is not made, and why a run stops.

use std::time::Duration;

use hallmark_model::graph::{self, Dim, Graph, Node};
use hallmark_model::ops::OpError;
use hallmark_receipt::{DType, TensorError};

/// Why a graph does not become a [`Program`](crate::Program).
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// The graph breaks an invariant of [`Graph`]: a defect of whoever built it.
    #[error("the graph is not well formed: {what} (node `{node}`)")]
    Malformed {
        /// The invariant.
        what: &'static str,
        /// The node at fault; empty for the graph's own lists.
        node: String,
    },
    /// The processor does not have the instruction set asked for.
    #[error("this processor does not have the instruction set {isa}")]
    IsaAbsent {
        /// Its name.
        isa: &'static str,
    },
    /// A number of threads outside 1..=256.
    #[error("the number of threads must be 1 to {most}, got {got}")]
    Threads {
        /// The most that is taken.
        most: usize,
        /// The number given.
        got: usize,
    },
    /// A time limit on a platform that has no clock.
    #[error("a time limit of {limit:?} was asked for, and this platform has no clock")]
    NoClock {
        /// The limit given.
        limit: Duration,
    },
}

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
    /// An input's element type is not the declared one.
    #[error("input `{name}` takes {}, got {}", expected.name(), got.name())]
    InputType {
        /// The input's name.
        name: String,
        /// The declared type.
        expected: DType,
        /// The type given.
        got: DType,
    },
    /// An input's shape does not fit the declared one.
    #[error("input `{name}` takes shape {}, got {got:?}", graph::show(expected))]
    InputShape {
        /// The input's name.
        name: String,
        /// The declared shape.
        expected: Vec<Dim>,
        /// The shape given.
        got: Vec<usize>,
    },
    /// Two axes of one name have different sizes.
    #[error("axis `{symbol}` is {first} in an earlier input and {got} in input `{name}`")]
    InputSymbol {
        /// The input's name.
        name: String,
        /// The axis' name.
        symbol: String,
        /// Its size where it was first seen.
        first: usize,
        /// Its size here.
        got: usize,
    },
    /// The run would hold more bytes than the caller allows.
    #[error(
        "node `{node}` ({op}, version {version}): {live} bytes are held and {needed} more are needed, above the limit of {limit}"
    )]
    Memory {
        /// The node's name; `inputs` while inputs are taken in.
        node: String,
        /// Its operator.
        op: &'static str,
        /// The operator's version.
        version: u32,
        /// Bytes held by the run.
        live: usize,
        /// Bytes asked for.
        needed: usize,
        /// The caller's limit in bytes.
        limit: usize,
    },
    /// The run took longer than the caller allows.
    #[error("before node `{node}` ({op}, version {version}): the time limit of {limit:?} has passed")]
    Time {
        /// The node's name.
        node: String,
        /// Its operator.
        op: &'static str,
        /// The operator's version.
        version: u32,
        /// The caller's limit.
        limit: Duration,
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
    /// An output was not produced: a defect of an operator's implementation.
    #[error("output `{name}` was not produced")]
    OutputMissing {
        /// The output's name.
        name: String,
    },
}

impl RunError {
    /// Whether it was this machine or this build that stopped the run - a limit that the caller set, a feature outside this
    /// version - and not the model on these inputs: elsewhere the same run may end.
    pub fn is_local(&self) -> bool {
        fn local(error: &OpError) -> bool {
            match error {
                OpError::Budget { .. } | OpError::Unsupported { .. } => true,
                OpError::Subgraph { source, .. } => local(source),
                _ => false,
            }
        }
        match self {
            Self::Memory { .. } | Self::Time { .. } => true,
            Self::Node { source, .. } => local(source),
            _ => false,
        }
    }
}

/// Why a kernel stopped; the executor adds the node.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The memory limit.
    Memory { live: usize, needed: usize, limit: usize },
    /// The operator refused.
    Op(OpError),
    /// A subgraph's run stopped.
    Inner(Box<RunError>),
}

impl From<OpError> for Stop {
    fn from(source: OpError) -> Self {
        Self::Op(source)
    }
}

impl From<TensorError> for Stop {
    fn from(source: TensorError) -> Self {
        Self::Op(source.into())
    }
}

impl Stop {
    /// The run's error, naming `node`.
    pub(crate) fn at(self, node: &Node) -> RunError {
        let (name, op, version) = (node.name.clone(), node.op.name, node.version);
        match self {
            Self::Memory { live, needed, limit } => {
                RunError::Memory { node: name, op, version, live, needed, limit }
            }
            Self::Op(source) => RunError::Node { node: name, op, version, source },
            Self::Inner(error) => *error,
        }
    }
}

/// Checks the invariants of [`Graph`] that the executor relies on.
pub(crate) fn check_graph(graph: &Graph) -> Result<(), CompileError> {
    let mut defined = vec![false; graph.values.len()];
    let malformed = |what, node: &str| CompileError::Malformed { what, node: node.to_owned() };
    let mut define = |id: usize, node: &str| match defined.get_mut(id) {
        None => Err(malformed("an id is out of range", node)),
        Some(true) => Err(malformed("a value is defined twice", node)),
        Some(slot) => {
            *slot = true;
            Ok(())
        }
    };
    for id in graph.inputs.iter().chain(&graph.captures).chain(graph.constants.keys()) {
        define(id.0, "")?;
    }
    let mut seen: Vec<bool> = defined.clone();
    let is_defined = |seen: &[bool], id: usize| seen.get(id).copied().unwrap_or(false);
    for node in &graph.nodes {
        for id in node.inputs.iter().flatten() {
            if !is_defined(&seen, id.0) {
                return Err(malformed("a value is used before it is defined", &node.name));
            }
        }
        for id in node.outputs.iter().flatten() {
            match seen.get_mut(id.0) {
                None => return Err(malformed("an id is out of range", &node.name)),
                Some(true) => return Err(malformed("a value is defined twice", &node.name)),
                Some(slot) => *slot = true,
            }
        }
    }
    if graph.outputs.iter().any(|id| !is_defined(&seen, id.0)) {
        return Err(malformed("an output is never defined", ""));
    }
    Ok(())
}
