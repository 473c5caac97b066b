//! Whole proofs of small models, honest and not.

mod complete;
mod models;
