//! Tensors in files: numpy's `.npy` and `.npz`, and JSON, bound to what a model declares.
//!
//! Everything here reads untrusted bytes: every length is bounded before it is believed ([`Limits`]).

use std::fmt;

use hallmark_model::graph::{self, Dim};
use hallmark_receipt::{DType, Tensor};

pub mod convert;
pub mod json;
pub mod npy;
pub mod npz;

pub use convert::ConvertError;
pub use json::JsonError;
pub use npy::NpyError;
pub use npz::NpzError;

/// What readers accept at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a file.
    pub file: u64,
    /// Bytes of a JSON file: its numbers take several times their text in memory.
    pub json: u64,
    /// Bytes of all arrays of an `.npz` together, decompressed.
    pub unpacked: u64,
    /// Arrays in an `.npz`.
    pub entries: usize,
    /// How many times its compressed size an array may grow beyond the first 16 MiB.
    pub ratio: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { file: 1 << 30, json: 64 << 20, unpacked: 1 << 30, entries: 1024, ratio: 200 }
    }
}

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

impl fmt::Display for InputSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.dtype.map_or("any", DType::name), show_dims(self.shape.as_deref()))
    }
}

/// `[batch, 1, 8, 8]`; `[..]` where the rank is open.
pub fn show_dims(shape: Option<&[Dim]>) -> String {
    shape.map_or_else(|| "[..]".to_owned(), graph::show)
}

/// The formats of tensor files, told by their first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One array.
    Npy,
    /// Arrays by name in a zip archive.
    Npz,
    /// Text.
    Json,
}

impl Format {
    /// The format of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        if bytes.starts_with(npy::MAGIC) {
            Self::Npy
        } else if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06") {
            Self::Npz
        } else {
            Self::Json
        }
    }
}

/// Why a file does not give a model its inputs.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// The `.npy` file is malformed.
    #[error("the .npy file is not readable")]
    Npy(#[source] NpyError),
    /// The `.npz` file is malformed.
    #[error("the .npz file is not readable")]
    Npz(#[source] NpzError),
    /// The JSON text is malformed.
    #[error("the JSON input is not readable")]
    Json(#[source] JsonError),
    /// A model input that the file does not give.
    #[error("input `{name}` ({spec}) is missing; the file has {}", list(found))]
    Missing {
        /// The model's input.
        name: String,
        /// Its type and shape.
        spec: String,
        /// The names in the file.
        found: Vec<String>,
    },
    /// A name in the file that is no input of the model.
    #[error("`{name}` is no input of this model; its inputs are {}", list(expected))]
    Unknown {
        /// The name in the file.
        name: String,
        /// The model's inputs.
        expected: Vec<String>,
    },
    /// An array without a name for a model with several inputs.
    #[error("the file holds one array without a name, and the model has the inputs {}", list(expected))]
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
        /// The shape in the file.
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

fn list(names: &[String]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Reads the inputs that `specs` ask for from the bytes of a `.npy`, `.npz` or JSON file. They come in the order of
/// `specs`, with the declared element types, NaN made canonical.
pub fn read_inputs(
    bytes: &[u8],
    specs: &[InputSpec],
    limits: &Limits,
) -> Result<Vec<(String, Tensor)>, InputError> {
    let found = match Format::of(bytes) {
        Format::Npy => {
            let tensor = npy::read(bytes).map_err(InputError::Npy)?;
            vec![(only_input(specs)?.name.clone(), tensor)]
        }
        Format::Npz => npz::read(bytes, limits).map_err(InputError::Npz)?,
        Format::Json => return bind(json::read_inputs(bytes, specs, limits)?, specs),
    };
    bind(found, specs)
}

fn only_input(specs: &[InputSpec]) -> Result<&InputSpec, InputError> {
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

#[cfg(test)]
mod tests;
