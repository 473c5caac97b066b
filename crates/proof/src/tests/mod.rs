//! Whole proofs of small models, honest and not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod bytes;
mod complete;
pub mod models;
mod refused;
mod shipped;
mod sound;
