//! Evidence where it is made and used. `hallmark-attestation` judges, and touches nothing; this crate has the devices that make
//! evidence, the makers' services that publish its collateral, and TLS whose ends show evidence to each other.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

pub mod attester;
pub mod collateral;
#[cfg(target_os = "linux")]
pub mod device;
pub mod tls;

pub use attester::Attester;

use hallmark_attestation::Producer;
use hallmark_receipt::Signer;

/// A producer that any thread may ask.
pub type SharedProducer = Box<dyn Producer + Send + Sync>;
/// A signer that any thread may ask.
pub type SharedSigner = std::sync::Arc<dyn Signer + Send + Sync>;
