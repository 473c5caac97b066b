//! What flows through Hallmark: identities, canonical encodings, commitments, claims, receipts and bundles.
//!
//! Byte formats are specified in `spec/receipt.md`. This crate is pure: no clock, disk, network or environment.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

pub mod digest;
pub mod tensor;

pub use digest::Digest;
pub use tensor::{DType, Data, Element, Tensor, TensorError};
