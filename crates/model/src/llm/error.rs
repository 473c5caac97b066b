//! Why files are not a language model that this build runs.

use hallmark_receipt::FormatError;

use crate::onnx::{ExternalDataError, PathFault};

/// Why files are not a language model that this build runs. Names from files are cut at 128 characters.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum LlmError {
    #[error("file `{name}`: {source}")]
    File { name: String, source: ExternalDataError },
    #[error("file `{name}` {fault}")]
    Path { name: String, fault: PathFault },
    #[error("file `{name}` has {got} bytes, the limit is {limit}")]
    FileTooLarge { name: String, got: u64, limit: u64 },
    #[error("a language model's folder needs {what}")]
    FileMissing { what: &'static str },
    #[error("`{name}` is not a file of such a model")]
    FileUnknown { name: String },
    #[error("{what} is not JSON as expected: {why}")]
    Json { what: &'static str, why: String },
    #[error("`{key}` occurs twice in {what}")]
    Duplicate { what: &'static str, key: String },
    #[error("config: `{key}` is missing")]
    ConfigMissing { key: &'static str },
    #[error("config: `{key}` is not {expected}")]
    ConfigKind { key: &'static str, expected: &'static str },
    #[error("config: `{key}` is {got}; supported: {supported}")]
    ConfigUnsupported { key: &'static str, got: String, supported: &'static str },
    #[error("{what}: {got}, allowed are 1 to {limit}")]
    Bound { what: &'static str, got: u64, limit: u64 },
    #[error("{what} is {got}, expected a positive finite number")]
    Number { what: &'static str, got: String },
    #[error("{what}")]
    Inconsistent { what: &'static str },
    #[error("safetensors `{file}`: {fault}")]
    Safetensors { file: String, fault: SafetensorsFault },
    #[error("gguf: {0}")]
    Gguf(#[from] GgufFault),
    #[error("tensor `{name}` is missing")]
    TensorMissing { name: String },
    #[error("tensor `{name}` has shape {got:?}, expected {expected:?}")]
    TensorShape { name: String, expected: Vec<usize>, got: Vec<u64> },
    #[error("tensor `{name}` is not one of this architecture")]
    TensorExtra { name: String },
    #[error("tensor `{name}` is in two files, or twice in one")]
    TensorTwice { name: String },
    #[error("tensor `{name}` has element type {got}; supported: {supported}")]
    TensorType { name: String, got: String, supported: &'static str },
    #[error(transparent)]
    Format(#[from] FormatError),
    #[error("file `{name}` has {got} bytes, the manifest says {expected}")]
    FileSize { name: String, expected: u64, got: u64 },
    #[error("file `{name}` has {kind} {got}, the manifest says {expected}")]
    FileDigest { name: String, kind: &'static str, expected: String, got: String },
    #[error("the manifest is not one of a decoder")]
    NotDecoder,
    #[error("the manifest is not one of an encoder")]
    NotEncoder,
    #[error("{what}: expected {expected}, got {got}")]
    Version { what: &'static str, expected: u32, got: u32 },
    #[error("the {what} is {got}, the manifest says {expected}")]
    Differs { what: &'static str, expected: String, got: String },
}

/// What is wrong with a safetensors file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum SafetensorsFault {
    #[error("the file is shorter than its header")]
    Short,
    #[error("the header has {got} bytes, the limit is {limit}")]
    HeaderTooLarge { got: u64, limit: u64 },
    #[error("more than {limit} tensors")]
    TooMany { limit: usize },
    #[error("tensor `{name}` has more than {limit} axes")]
    Rank { name: String, limit: usize },
    #[error("tensor `{name}`: {got} bytes do not hold its shape, which needs {expected}")]
    Size { name: String, expected: u64, got: u64 },
    #[error(
        "tensor `{name}` starts at byte {got}, expected {expected}: tensors must follow each other without gap or overlap"
    )]
    Offset { name: String, expected: u64, got: u64 },
    #[error("tensors end at byte {expected} of the data, the file at byte {got}")]
    End { expected: u64, got: u64 },
    #[error("the index places tensor `{name}` in `{expected}`, but it is in `{got}`")]
    Index { name: String, expected: String, got: String },
}

/// What is wrong with a GGUF file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum GgufFault {
    #[error("the file does not start with `GGUF`")]
    Magic,
    #[error("version {got}; supported: 2 and 3")]
    Version { got: u32 },
    #[error("the header ends early, or is longer than {limit} bytes")]
    Short { limit: u64 },
    #[error("{what}: {got}, the limit is {limit}")]
    TooMany { what: &'static str, got: u64, limit: u64 },
    #[error("value type {got} does not exist")]
    ValueType { got: u32 },
    #[error("arrays nested deeper than {limit}")]
    Depth { limit: usize },
    #[error("a name is not UTF-8")]
    Utf8,
    #[error("metadata `{key}` is missing")]
    Missing { key: String },
    #[error("metadata `{key}` is not {expected}")]
    Kind { key: String, expected: &'static str },
    #[error("metadata `{key}` is {got}; supported: {supported}")]
    Unsupported { key: String, got: String, supported: &'static str },
    #[error("the alignment {got} is not a power of two of at most {limit}")]
    Alignment { got: u64, limit: u64 },
    #[error("tensor `{name}`: rows of {got} elements are not whole blocks of {block}")]
    Block { name: String, got: u64, block: u64 },
    #[error("tensor `{name}` starts at byte {got} of the data, expected {expected}")]
    Offset { name: String, expected: u64, got: u64 },
    #[error("tensors need {expected} bytes, the file has {got}")]
    End { expected: u64, got: u64 },
}

/// `name`, cut where it may be long.
pub(crate) fn cut(name: &str) -> String {
    name.chars().take(128).collect()
}
