//! The graph between the file and the canonical form: every name resolved to a value, in the file's order, with nodes
//! that only rename values still in place.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use hallmark_receipt::Tensor;

use crate::graph::{Attr, TypeInfo};
use crate::ops::OpDef;

/// Index of a value in [`LooseGraph::values`].
pub(super) type Id = usize;

/// A graph or subgraph.
#[derive(Debug, Default)]
pub(super) struct LooseGraph {
    pub values: Vec<LooseValue>,
    pub nodes: Vec<LooseNode>,
    pub inputs: Vec<Id>,
    /// Names of outputs and their values.
    pub outputs: Vec<(String, Id)>,
    /// Values of the enclosing graph that are used here: theirs -> ours.
    pub captures: HashMap<Id, Id>,
}

#[derive(Debug)]
pub(super) struct LooseValue {
    pub name: String,
    pub def: Def,
    /// Declared type, of inputs.
    pub info: TypeInfo,
    /// Where the value is a sequence of maps: the maps' keys.
    pub keys: Option<Arc<Tensor>>,
}

/// Where a value comes from.
#[derive(Clone, Debug)]
pub(super) enum Def {
    Input,
    /// A value of the enclosing graph.
    Capture(Id),
    Constant(Arc<Tensor>),
    /// An output of some node.
    Node,
}

#[derive(Debug)]
pub(super) struct LooseNode {
    pub label: String,
    pub kind: Kind,
    pub inputs: Vec<Option<Id>>,
    pub outputs: Vec<Option<Id>>,
}

#[derive(Debug)]
pub(super) enum Kind {
    /// Output 0 is input 0.
    Alias,
    Apply {
        op: &'static OpDef,
        version: u32,
        attrs: BTreeMap<String, Attr>,
        graphs: BTreeMap<String, LooseGraph>,
    },
}
