//! Certificates and revocation lists (RFC 5280), for chains that come in order and end in a pinned root.
//!
//! A chain is what the hardware's maker documents: leaf first, root last, nothing to search. The root counts by its SHA-256 alone
//! ([`crate::anchors`]).

pub mod certificate;
pub mod chain;
pub mod crl;

pub use certificate::{Certificate, CertificateError, Extension};
pub use chain::{Chain, ChainError, Rules};
pub use crl::{Crl, CrlError};
