//! Tensors as JSON, bound to what a model declares: one reader for the command line's files and for `/v1/infer`.
//!
//! Everything here reads untrusted bytes: every length is bounded before it is believed.

use std::fmt;

use hallmark_model::graph::{self, Dim, Graph, ValueId};
use hallmark_receipt::{DType, Tensor};

pub mod convert;
pub mod json;

pub use convert::ConvertError;
pub use json::JsonError;

/// The greatest number of axes that a file may give a tensor.
pub const MAX_RANK: usize = 32;

/// What a model says of one of its inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct InputSpec {
    /// Its name.
    pub name: String,
    /// Its element type, if declared.
    pub dtype: Option<DType>,
    /// Its axes, if declared.
    pub shape: Option<Vec<Dim>>,
}

impl InputSpec {
    /// What `graph` says of these values: its inputs or outputs.
    pub fn of(graph: &Graph, ids: &[ValueId]) -> Vec<Self> {
        let spec = |id: &ValueId| {
            let value = graph.values.get(id.0).cloned().unwrap_or_default();
            Self { name: value.name, dtype: value.info.dtype, shape: value.info.shape }
        };
        ids.iter().map(spec).collect()
    }

    /// As `/v1/models` and `hallmark model show --json` have it: name, dtype, shape (as text).
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({"name": self.name, "dtype": self.dtype.map(DType::name), "shape": show_dims(self.shape.as_deref())})
    }
}

impl fmt::Display for InputSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.dtype.map_or("any", DType::name), show_dims(self.shape.as_deref()))
    }
}

/// `[batch, 1, 8, 8]`; `[..]` where the rank is open.
pub fn show_dims(shape: Option<&[Dim]>) -> String {
    shape.map_or_else(|| "[..]".to_owned(), graph::show)
}

/// Why tensors are not a model's inputs.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// The JSON text is malformed.
    #[error("the JSON input is not readable")]
    Json(#[source] JsonError),
    /// An input that is no tensor of its type.
    #[error("input `{name}` ({spec}) is not readable")]
    Value {
        /// The model's input.
        name: String,
        /// Its type and shape.
        spec: String,
        /// Why.
        source: JsonError,
    },
    /// A model input that is not given.
    #[error("input `{name}` ({spec}) is missing; given are {}", list(found))]
    Missing {
        /// The model's input.
        name: String,
        /// Its type and shape.
        spec: String,
        /// The names given.
        found: Vec<String>,
    },
    /// A name that is no input of the model.
    #[error("`{name}` is no input of this model; its inputs are {}", list(expected))]
    Unknown {
        /// The name given.
        name: String,
        /// The model's inputs.
        expected: Vec<String>,
    },
    /// A tensor without a name for a model with several inputs.
    #[error("one tensor without a name is given, and the model has the inputs {}", list(expected))]
    Unnamed {
        /// The model's inputs.
        expected: Vec<String>,
    },
    /// A value of another element type that does not convert without loss.
    #[error("input `{name}` does not convert to {}", expected.name())]
    Convert {
        /// The input.
        name: String,
        /// The type that the model takes.
        expected: DType,
        /// Why.
        source: ConvertError,
    },
    /// A shape that the model does not take.
    #[error("input `{name}` has shape {got:?}, the model takes {expected}")]
    Shape {
        /// The input.
        name: String,
        /// The shape that the model declares.
        expected: String,
        /// The shape given.
        got: Vec<usize>,
    },
    /// One axis name stands for two sizes.
    #[error("axis `{symbol}` is {first} in one input and {second} in `{name}`")]
    Symbol {
        /// The axis.
        symbol: String,
        /// Its first size.
        first: usize,
        /// Its second size.
        second: usize,
        /// The input with the second size.
        name: String,
    },
}

impl InputError {
    /// The input at fault, where it is one.
    pub fn input(&self) -> Option<&str> {
        match self {
            Self::Json(_) | Self::Unnamed { .. } => None,
            Self::Value { name, .. }
            | Self::Missing { name, .. }
            | Self::Unknown { name, .. }
            | Self::Convert { name, .. }
            | Self::Shape { name, .. }
            | Self::Symbol { name, .. } => Some(name),
        }
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Reads the inputs that `specs` ask for from JSON text of at most `limit` bytes. They come in the order of `specs`, with the
/// declared element types, NaN made canonical.
///
/// # Errors
/// Text that is no such tensors; names, types and shapes that the model does not take.
pub fn read(bytes: &[u8], specs: &[InputSpec], limit: u64) -> Result<Vec<(String, Tensor)>, InputError> {
    bind(json::read_inputs(bytes, specs, limit)?, specs)
}

/// The one input of a model that has one.
pub fn only_input(specs: &[InputSpec]) -> Result<&InputSpec, InputError> {
    match specs {
        [one] => Ok(one),
        _ => Err(InputError::Unnamed { expected: names(specs) }),
    }
}

fn names(specs: &[InputSpec]) -> Vec<String> {
    specs.iter().map(|spec| spec.name.clone()).collect()
}

/// Orders `found` as `specs` say and checks types and shapes.
pub fn bind(
    mut found: Vec<(String, Tensor)>,
    specs: &[InputSpec],
) -> Result<Vec<(String, Tensor)>, InputError> {
    if let Some((name, _)) = found.iter().find(|(name, _)| !specs.iter().any(|spec| spec.name == *name)) {
        return Err(InputError::Unknown { name: name.clone(), expected: names(specs) });
    }
    let mut symbols: Vec<(&str, usize)> = Vec::new();
    let mut bound = Vec::with_capacity(specs.len());
    for spec in specs {
        let Some(at) = found.iter().position(|(name, _)| *name == spec.name) else {
            return Err(InputError::Missing {
                name: spec.name.clone(),
                spec: spec.to_string(),
                found: found.iter().map(|(name, _)| name.clone()).collect(),
            });
        };
        let (name, tensor) = found.swap_remove(at);
        let mut tensor =
            match spec.dtype {
                Some(expected) => convert::lossless(tensor, expected)
                    .map_err(|source| InputError::Convert { name: name.clone(), expected, source })?,
                None => tensor,
            };
        check_shape(&name, tensor.shape(), spec, &mut symbols)?;
        tensor.canonicalize_nan();
        bound.push((name, tensor));
    }
    Ok(bound)
}

fn check_shape<'a>(
    name: &str,
    got: &[usize],
    spec: &'a InputSpec,
    symbols: &mut Vec<(&'a str, usize)>,
) -> Result<(), InputError> {
    let Some(dims) = &spec.shape else { return Ok(()) };
    let wrong =
        || InputError::Shape { name: name.to_owned(), expected: show_dims(Some(dims)), got: got.to_vec() };
    if dims.len() != got.len() {
        return Err(wrong());
    }
    for (dim, &size) in dims.iter().zip(got) {
        match dim {
            Dim::Known(n) if *n != size => return Err(wrong()),
            Dim::Known(_) | Dim::Unknown => {}
            Dim::Symbol(symbol) => match symbols.iter().find(|(known, _)| known == symbol) {
                None => symbols.push((symbol, size)),
                Some(&(_, first)) if first != size => {
                    let (symbol, second, name) = (symbol.clone(), size, name.to_owned());
                    return Err(InputError::Symbol { symbol, first, second, name });
                }
                Some(_) => {}
            },
        }
    }
    Ok(())
}
