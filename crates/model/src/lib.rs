//! What is run: manifests and content addresses, ONNX import, the canonical graph, and the slow, obvious scalar
//! reference of the numeric specification (`spec/numeric.md`).
//!
//! ```text
//! ONNX bytes -> onnx::import -> Graph -> reference::run   (slow, obvious)
//!                                     -> hallmark-engine  (fast, the same bits)
//! ```

pub mod graph;
pub mod infer;
pub mod llm;
pub mod manifest;
pub mod numeric;
pub mod onnx;
pub mod ops;
pub mod quantise;
pub mod reference;
pub mod skeleton;
pub mod weights;
