//! Evidence from mathematics: a proof that the committed network turned this input into this output.
//!
//! The primitives are here, from the bottom up: the [`field`], the [`transcript`] that draws every challenge,
//! multilinear extensions ([`mle`]), the polynomial commitment ([`pcs`]), the [`sumcheck`] of products, and
//! the [`lookup`] argument. Byte formats and error terms are specified in `spec/proof.md`. The crate is pure:
//! no clock, disk, threads, environment or randomness. A verifier needs no feature; the prover is behind
//! `prove`.
//!
//! A proof made here is *verifiable*; it hides nothing about its witness.

pub mod budget;
pub mod circuit;
pub mod codec;
#[cfg(feature = "prove")]
pub mod estimate;
pub mod field;
pub mod lookup;
pub mod lower;
pub mod mle;
#[cfg(feature = "prove")]
mod packed;
pub mod pcs;
pub mod plain;
pub mod program;
pub mod protocol;
pub mod sumcheck;
#[cfg(test)]
#[cfg(feature = "prove")]
mod testing;
#[cfg(test)]
#[cfg(feature = "prove")]
mod tests;
pub mod transcript;
#[cfg(feature = "prove")]
pub mod witness;
mod witness_row;
