//! Whole proofs of small models, honest and not.

mod bytes;
mod complete;
mod models;
mod refused;
mod sound;
