//! Runs models fast with exactly the bits of `spec/numeric.md`.
