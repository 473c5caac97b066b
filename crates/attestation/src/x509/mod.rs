//! Certificates, revocation lists (RFC 5280) and answers about certificates (RFC 6960), for chains that come in order and end in a
//! pinned root.
//!
//! A chain is what the hardware's maker documents: leaf first, root last, nothing to search. The root counts by its SHA-256 alone
//! ([`crate::anchors`]).

use hallmark_receipt::json::{Value, object};
use hallmark_receipt::wire::to_hex;
use hallmark_receipt::{Digest, time};

pub mod certificate;
pub mod chain;
pub mod crl;
pub mod encode;
pub mod memo;
pub mod ocsp;
#[cfg(any(test, feature = "simulated"))]
pub mod write;

pub use certificate::{Certificate, CertificateError, Extension};
pub use chain::{Chain, ChainError, Rules};
pub use crl::{Crl, CrlError};
pub use memo::Memo;
pub use ocsp::{CertificateId, OcspError};

/// A certificate for people: whom it names and when it is in force, or why it cannot be read.
pub fn certificate_text(der: &[u8]) -> Value {
    let when = |seconds: u64| Value::Str(time::when(seconds));
    match Certificate::parse(der) {
        Err(error) => error.to_string().into(),
        Ok(certificate) => Value::Object(object([
            ("from", when(certificate.not_before)),
            ("serial", to_hex(certificate.serial).into()),
            ("sha256", Digest::of(&[der]).to_string().into()),
            ("subject", certificate.subject_text().into()),
            ("to", when(certificate.not_after)),
        ])),
    }
}
