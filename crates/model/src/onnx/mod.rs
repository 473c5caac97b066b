//! ONNX import: bytes from anywhere to the canonical [`Graph`] (`spec/model.md` §2).
//!
//! ```text
//! bytes -> wire::scan -> prost -> lower (names, versions, functions) -> canonical (order, dead code) -> infer
//! ```
//! Nothing of the file is trusted: every length is bounded by [`Limits`] before memory is taken, and every refusal is an
//! [`ImportError`] of its own that names the node, the operator and the opset. Only bit-preserving rewrites are made.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;

use crate::graph::Graph;
use crate::infer;
use crate::ops::Domain;

mod attributes;
mod canonical;
mod contrib;
mod error;
mod external;
mod loose;
mod lower;
mod proto;
pub mod schema;
mod tensor;
mod types;
mod wire;
mod write;

pub use error::ImportError;
pub use external::{ExternalData, ExternalDataError, NoExternalData, PATH_LIMIT, PathFault, check_path};
pub use write::Writer;

/// What an import may take. The defaults suit a trusted-size model on a server; all are checked before allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the model file, and of all function bodies after expansion.
    pub bytes: usize,
    /// Protobuf messages and strings in the file.
    pub messages: usize,
    /// Nodes after functions are expanded, in all subgraphs together.
    pub nodes: usize,
    /// Values, in all subgraphs together.
    pub values: usize,
    /// Nesting of subgraphs and function calls.
    pub depth: usize,
    /// Elements of one constant.
    pub elements: usize,
    /// Axes of one constant or input.
    pub rank: usize,
    /// Bytes of all constants together, external data included.
    pub constant_bytes: usize,
    /// Elements that any one value may be inferred to have.
    pub value_elements: usize,
}

impl Default for Limits {
    fn default() -> Self {
        // On 32-bit targets the address space is the smaller limit.
        let large = |log2: u32| 1_usize.checked_shl(log2).unwrap_or(usize::MAX);
        Self {
            bytes: large(31),
            messages: 4_000_000,
            nodes: 1_000_000,
            values: 4_000_000,
            depth: 16,
            elements: large(32),
            rank: 16,
            constant_bytes: large(35),
            value_elements: large(34),
        }
    }
}

/// A graph and what else the import found out.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The canonical graph, with types inferred.
    pub graph: Graph,
    /// The opsets that the file declares for the domains that this crate knows.
    pub opsets: BTreeMap<Domain, u32>,
    /// The external files that were read.
    pub external_files: BTreeSet<String>,
}

/// The canonical graph of the ONNX model `bytes`.
pub fn import(bytes: &[u8], external: &dyn ExternalData, limits: &Limits) -> Result<Graph, ImportError> {
    import_model(bytes, external, limits).map(|imported| imported.graph)
}

/// The canonical graph of the ONNX model `bytes`, its opsets and the external files that it takes.
pub fn import_model(
    bytes: &[u8],
    external: &dyn ExternalData,
    limits: &Limits,
) -> Result<Imported, ImportError> {
    if bytes.len() > limits.bytes {
        return Err(ImportError::FileTooLarge { got: bytes.len(), limit: limits.bytes });
    }
    wire::scan(bytes, limits)?;
    let model = proto::Model::decode(bytes).map_err(|e| ImportError::Malformed { why: e.to_string() })?;
    let lowered = lower::lower(model, external, limits)?;
    let declared = lowered.outputs;
    let mut graph = canonical::canonical(lowered.graph, lowered.identity_version)?;
    infer::infer(&mut graph, limits.value_elements)?;
    types::check_outputs(&graph, &declared)?;
    Ok(Imported { graph, opsets: lowered.opsets, external_files: lowered.external_files })
}

#[cfg(test)]
mod tests;
