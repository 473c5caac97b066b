//! Runs models fast with exactly the bits of `spec/numeric.md`.

pub mod isa;
pub mod threads;

pub use isa::Isa;
