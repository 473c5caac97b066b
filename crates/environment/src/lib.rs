//! Evidence where it is made and used. `hallmark-attestation` judges, and touches nothing; this crate has the devices that make
//! evidence, the makers' services that publish its collateral, and TLS whose ends show evidence to each other.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

pub mod attester;
pub mod collateral;

pub use attester::Attester;
