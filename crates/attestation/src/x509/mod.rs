//! Certificates, revocation lists (RFC 5280) and answers about certificates (RFC 6960), for chains that come in order and end in a pinned root.
//!
//! A chain is what the hardware's maker documents: leaf first, root last, nothing to search. The root counts by its SHA-256 alone
//! ([`crate::anchors`]).

pub mod certificate;
pub mod chain;
pub mod crl;
pub mod ocsp;
#[cfg(test)]
pub(crate) mod write;

pub use certificate::{Certificate, CertificateError, Extension};
pub use chain::{Chain, ChainError, Rules};
pub use crl::{Crl, CrlError};
pub use ocsp::OcspError;
