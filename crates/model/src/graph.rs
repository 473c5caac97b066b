//! The canonical graph: what a model computes, without the names and the layout of the file that it came from.

use std::collections::BTreeMap;
use std::sync::Arc;

use hallmark_receipt::{DType, Tensor};

use crate::ops::OpDef;

/// Index of a value in [`Graph::values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(pub usize);

/// The size of one axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dim {
    /// A fixed size.
    Known(usize),
    /// A size that the caller chooses; equal names are equal sizes.
    Symbol(String),
    /// A size that only the run tells.
    Unknown,
}

/// What is known about a value before the run.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TypeInfo {
    /// Element type.
    pub dtype: Option<DType>,
    /// Axes, outermost first; `None` where even the rank is unknown.
    pub shape: Option<Vec<Dim>>,
}

/// A value of the graph: the name it had in the file (for messages and for inputs and outputs) and its type.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Value {
    /// The name in the file.
    pub name: String,
    /// Its type as far as it is known.
    pub info: TypeInfo,
}

/// A graph in static single assignment form.
///
/// *Invariant*: nodes are in topological order, every value is defined once (as an input, a capture, a constant or one
/// node's output) before it is used, and every id is below `values.len()`.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// All values.
    pub values: Vec<Value>,
    /// The caller's inputs, in the file's order.
    pub inputs: Vec<ValueId>,
    /// In a subgraph, the values taken from the enclosing graph; empty at the top. The owning node lists the outer
    /// values after its own inputs, in the order of its subgraphs and of their captures.
    pub captures: Vec<ValueId>,
    /// The outputs, in the file's order.
    pub outputs: Vec<ValueId>,
    /// Weights and other constants.
    pub constants: BTreeMap<ValueId, Arc<Tensor>>,
    /// Operators in topological order.
    pub nodes: Vec<Node>,
    /// For an output that the file declares as a sequence of maps (ZipMap): the keys of its columns.
    pub output_keys: BTreeMap<ValueId, Arc<Tensor>>,
}

/// One application of an operator.
#[derive(Clone, Debug)]
pub struct Node {
    /// The name in the file, for messages only.
    pub name: String,
    /// The operator.
    pub op: &'static OpDef,
    /// The operator's version in force: the greatest of its versions not above the model's opset.
    pub version: u32,
    /// Attributes by name.
    pub attrs: Attrs,
    /// Declared inputs (`None` where an optional one is left out), then the captures of the subgraphs.
    pub inputs: Vec<Option<ValueId>>,
    /// How many of `inputs` are declared ones.
    pub declared_inputs: usize,
    /// Outputs; `None` where an optional one is not asked for.
    pub outputs: Vec<Option<ValueId>>,
}

/// An attribute's value.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Attr {
    Int(i64),
    Float(f32),
    Str(Vec<u8>),
    Tensor(Arc<Tensor>),
    Graph(Arc<Graph>),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    Strs(Vec<Vec<u8>>),
}

/// Attributes of a node, by name.
#[derive(Clone, Debug, Default)]
pub struct Attrs(pub BTreeMap<String, Attr>);

impl Attrs {
    /// The integer `name`, or `default`.
    pub fn int(&self, name: &str, default: i64) -> i64 {
        self.opt_int(name).unwrap_or(default)
    }

    /// The integer `name`.
    pub fn opt_int(&self, name: &str) -> Option<i64> {
        if let Some(Attr::Int(v)) = self.0.get(name) { Some(*v) } else { None }
    }

    /// The float `name`, or `default`.
    pub fn float(&self, name: &str, default: f32) -> f32 {
        self.opt_float(name).unwrap_or(default)
    }

    /// The float `name`.
    pub fn opt_float(&self, name: &str) -> Option<f32> {
        if let Some(Attr::Float(v)) = self.0.get(name) { Some(*v) } else { None }
    }

    /// The text `name`, or `default`; text that is not UTF-8 reads as absent.
    pub fn str<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        if let Some(Attr::Str(v)) = self.0.get(name) {
            std::str::from_utf8(v).unwrap_or(default)
        } else {
            default
        }
    }

    /// The integers `name`.
    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        if let Some(Attr::Ints(v)) = self.0.get(name) { Some(v) } else { None }
    }

    /// The floats `name`.
    pub fn floats(&self, name: &str) -> Option<&[f32]> {
        if let Some(Attr::Floats(v)) = self.0.get(name) { Some(v) } else { None }
    }

    /// The texts `name`.
    pub fn strs(&self, name: &str) -> Option<&[Vec<u8>]> {
        if let Some(Attr::Strs(v)) = self.0.get(name) { Some(v) } else { None }
    }

    /// The tensor `name`.
    pub fn tensor(&self, name: &str) -> Option<&Arc<Tensor>> {
        if let Some(Attr::Tensor(v)) = self.0.get(name) { Some(v) } else { None }
    }

    /// The subgraph `name`.
    pub fn graph(&self, name: &str) -> Option<&Arc<Graph>> {
        if let Some(Attr::Graph(v)) = self.0.get(name) { Some(v) } else { None }
    }
}
