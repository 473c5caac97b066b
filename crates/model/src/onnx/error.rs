//! Why a file is not a model that this crate runs.

use hallmark_receipt::DType;

use super::external::{ExternalDataError, PathFault};
use crate::infer::InferError;

/// Why an import stopped. Every variant is one cause; `node` is the node's name in the file, or its operator and first
/// output where it has none.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum ImportError {
    #[error("the file has {got} bytes, above the limit of {limit}")]
    FileTooLarge { got: usize, limit: usize },
    #[error("the file ends in the middle of the field at byte {offset}")]
    Truncated { offset: usize },
    #[error("not a protobuf message: bad {what} at byte {offset}")]
    Wire { offset: usize, what: &'static str },
    #[error("more than {limit} protobuf messages")]
    TooManyMessages { limit: usize },
    #[error("protobuf messages are nested deeper than {limit}")]
    MessagesTooDeep { limit: usize },
    #[error("not an ONNX model: {why}")]
    Malformed { why: String },
    #[error("the file holds no graph")]
    NoGraph,
    #[error("opset of domain `{domain}` is declared twice")]
    DuplicateOpset { domain: String },
    #[error("opset {got} of domain `{domain}` is outside the supported {oldest} to {newest}")]
    OpsetRange { domain: String, got: i64, oldest: u32, newest: u32 },
    #[error("node `{node}` uses `{op}` of domain `{domain}`, whose opset the model does not declare")]
    OpsetMissing { node: String, op: String, domain: String },
    #[error("node `{node}`: operator `{op}` of domain `{domain}` is unknown at opset {opset}")]
    UnknownOperator { node: String, op: String, domain: String, opset: i64 },
    #[error(
        "node `{node}`: operator `{op}` (domain `{domain}`, version {version}, opset {opset}) is not supported"
    )]
    UnsupportedOperator { node: String, op: String, domain: String, version: u32, opset: u32 },
    #[error(
        "node `{node}`: opset {opset} means version {version} of operator `{op}`, which is not supported (supported: {supported:?})"
    )]
    UnsupportedVersion { node: String, op: String, version: u32, opset: u32, supported: Vec<u32> },
    #[error("node `{node}`: operator `{op}` was removed from ONNX at version {version}, opset is {opset}")]
    RemovedOperator { node: String, op: String, version: u32, opset: u32 },
    #[error("node `{node}`: operator `{op}` version {version} has no attribute `{attribute}`")]
    UnknownAttribute { node: String, op: String, version: u32, attribute: String },
    #[error("node `{node}`: operator `{op}` version {version}: attribute `{attribute}` is not supported")]
    UnsupportedAttribute { node: String, op: String, version: u32, attribute: String },
    #[error("node `{node}`: attribute `{attribute}` is given twice")]
    DuplicateAttribute { node: String, attribute: String },
    #[error("node `{node}`: operator `{op}` version {version} needs attribute `{attribute}`")]
    MissingAttribute { node: String, op: String, version: u32, attribute: String },
    #[error("node `{node}`: attribute `{attribute}` has attribute type {got}, which does not fit")]
    AttributeType { node: String, attribute: String, got: i32 },
    #[error("node `{node}`: operator `{op}` version {version} takes {min} to {max} inputs, got {got}")]
    InputCount { node: String, op: String, version: u32, min: usize, max: usize, got: usize },
    #[error("node `{node}`: operator `{op}` version {version} gives {min} to {max} outputs, got {got}")]
    OutputCount { node: String, op: String, version: u32, min: usize, max: usize, got: usize },
    #[error("value `{name}` is defined twice")]
    DuplicateName { name: String },
    #[error("node `{node}` reads value `{name}`, which nothing defines")]
    UndefinedInput { node: String, name: String },
    #[error("graph output `{name}` is defined by nothing")]
    UndefinedOutput { name: String },
    #[error("graph {role} {index} has no name")]
    Unnamed { role: &'static str, index: usize },
    #[error("the graph has a cycle through node `{node}`")]
    Cycle { node: String },
    #[error("more than {limit} nodes after functions are expanded")]
    TooManyNodes { limit: usize },
    #[error("more than {limit} values")]
    TooManyValues { limit: usize },
    #[error("subgraphs or functions are nested deeper than {limit}")]
    NestedTooDeep { limit: usize },
    #[error("the graph has no output")]
    NoOutput,
    #[error("function `{name}` of domain `{domain}` is defined twice")]
    DuplicateFunction { domain: String, name: String },
    #[error("function `{name}` calls itself")]
    RecursiveFunction { name: String },
    #[error("node `{node}` refers to attribute `{attribute}` of a function outside any function")]
    AttributeReference { node: String, attribute: String },
    #[error("tensor `{name}` has data type {got}, which is not supported")]
    TensorType { name: String, got: i32 },
    #[error("tensor `{name}`: {what}")]
    Tensor { name: String, what: &'static str },
    #[error("tensor `{name}` of shape {shape:?} needs {expected} {unit}, got {got}")]
    TensorLength { name: String, shape: Vec<usize>, unit: &'static str, expected: usize, got: usize },
    #[error("tensor `{name}` has dimension {got}")]
    TensorDimension { name: String, got: i64 },
    #[error("tensor `{name}` of dimensions {dims:?} is above the limit of {limit} elements")]
    TensorTooLarge { name: String, dims: Vec<i64>, limit: usize },
    #[error("all constants together are above the limit of {limit} bytes")]
    ConstantsTooLarge { limit: usize },
    #[error("tensor `{name}` is sparse, which is not supported")]
    Sparse { name: String },
    #[error("tensor `{name}`: external data path `{path}`: {fault}")]
    ExternalPath { name: String, path: String, fault: PathFault },
    #[error("tensor `{name}`: external data entry `{key}` {what}")]
    ExternalEntry { name: String, key: String, what: &'static str },
    #[error("tensor `{name}`: external data `{path}`: {source}")]
    External { name: String, path: String, source: ExternalDataError },
    #[error("value `{name}` has a type that is not supported: {what}")]
    ValueType { name: String, what: &'static str },
    #[error("value `{name}` declares dimension {got}")]
    Dimension { name: String, got: i64 },
    #[error("node `{node}`: {what}")]
    ZipMap { node: String, what: &'static str },
    #[error("output `{name}` is declared as {}, but is {}", expected.name(), got.name())]
    OutputType { name: String, expected: DType, got: DType },
    #[error(transparent)]
    Infer(#[from] InferError),
}
