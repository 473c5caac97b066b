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

/// Why tensors are not the inputs of a graph.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum InputError {
    #[error("the model has no input `{name}`")]
    Unknown { name: String },
    #[error("input `{name}` is given twice")]
    Twice { name: String },
    #[error("input `{name}` is missing")]
    Missing { name: String },
    #[error("the model takes {expected} inputs, got {got}")]
    Count { expected: usize, got: usize },
    #[error("input `{name}` is {}, must be {}", got.name(), expected.name())]
    Type { name: String, expected: DType, got: DType },
    #[error("input `{name}` has shape {got:?}, must be {expected}")]
    Shape { name: String, expected: String, got: Vec<usize> },
    #[error("input `{name}` has {got} for `{symbol}`, which another input has as {first}")]
    Symbol { name: String, symbol: String, first: usize, got: usize },
}

impl Graph {
    /// The name of value `id`; empty where there is none.
    pub fn name(&self, id: ValueId) -> &str {
        self.values.get(id.0).map_or("", |value| value.name.as_str())
    }

    /// Puts `inputs`, given by name in any order, into the graph's order and checks them.
    pub fn bind_inputs<'a>(&self, inputs: &'a [(String, Tensor)]) -> Result<Vec<&'a Tensor>, InputError> {
        let known = |name: &str| self.inputs.iter().any(|id| self.name(*id) == name);
        if let Some((name, _)) = inputs.iter().find(|(name, _)| !known(name)) {
            return Err(InputError::Unknown { name: name.clone() });
        }
        let find = |id: &ValueId| {
            let name = self.name(*id);
            let mut given = inputs.iter().filter(|(other, _)| other == name).map(|(_, tensor)| tensor);
            match (given.next(), given.next()) {
                (Some(tensor), None) => Ok(tensor),
                (None, _) => Err(InputError::Missing { name: name.to_owned() }),
                (Some(_), Some(_)) => Err(InputError::Twice { name: name.to_owned() }),
            }
        };
        let bound = self.inputs.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        self.check_inputs(&bound)?;
        Ok(bound)
    }

    /// Checks `inputs`, in the graph's order, against the declared types: element type, rank, fixed axes, and equal sizes
    /// where axes share a name.
    pub fn check_inputs(&self, inputs: &[&Tensor]) -> Result<(), InputError> {
        if inputs.len() != self.inputs.len() {
            return Err(InputError::Count { expected: self.inputs.len(), got: inputs.len() });
        }
        let mut symbols: BTreeMap<&str, usize> = BTreeMap::new();
        for (id, tensor) in self.inputs.iter().zip(inputs) {
            let Some(Value { name, info }) = self.values.get(id.0) else { continue };
            if let Some(expected) = info.dtype
                && expected != tensor.dtype()
            {
                return Err(InputError::Type { name: name.clone(), expected, got: tensor.dtype() });
            }
            let Some(dims) = &info.shape else { continue };
            let shape = tensor.shape();
            let fits = |(dim, n): (&Dim, &usize)| !matches!(dim, Dim::Known(known) if known != n);
            if dims.len() != shape.len() || !dims.iter().zip(shape).all(fits) {
                let (expected, got) = (show(dims), shape.to_vec());
                return Err(InputError::Shape { name: name.clone(), expected, got });
            }
            for (dim, &got) in dims.iter().zip(shape) {
                let Dim::Symbol(symbol) = dim else { continue };
                let first = *symbols.entry(symbol).or_insert(got);
                if first != got {
                    let (name, symbol) = (name.clone(), symbol.clone());
                    return Err(InputError::Symbol { name, symbol, first, got });
                }
            }
        }
        Ok(())
    }
}

/// Dimensions as people read them: `[2, N, ?]`.
pub fn show(shape: &[Dim]) -> String {
    let dims: Vec<_> = shape
        .iter()
        .map(|dim| match dim {
            Dim::Known(n) => n.to_string(),
            Dim::Symbol(name) => name.clone(),
            Dim::Unknown => "?".to_owned(),
        })
        .collect();
    format!("[{}]", dims.join(", "))
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
