//! Whole proofs of small models, honest and not.

mod complete;
pub mod models;
