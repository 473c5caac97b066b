//! Producers of evidence, all behind one trait: `/dev/nsm`, configfs-tsm and devices where the hardware is (outside this crate), and
//! the development provider where none is (`simulated`).

use crate::report::{Context, Report};
use crate::{Input, Kind, verify};

/// What evidence is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// What the environment binds itself to: Nitro's user data (0 to 1,024 bytes), report data of TDX, SGX and SEV-SNP (0 to 64
    /// bytes, zeros behind them). NVIDIA's devices have none.
    pub report_data: Vec<u8>,
    /// The verifier's nonce: of Nitro 0 to 1,024 bytes, of NVIDIA 32; of TDX, SGX and SEV-SNP 0 to 64 bytes in place of report data.
    pub nonce: Vec<u8>,
    /// The time, in seconds since 1970. Hardware has its own, or none.
    pub at: u64,
}

/// Evidence with all that belongs to it: what [`Input`] borrows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// The evidence.
    pub evidence: Vec<u8>,
    /// Certificates that do not come inside it.
    pub certificates: Vec<Vec<u8>>,
    /// Collateral, and revocation lists.
    pub collateral: Vec<Vec<u8>>,
    /// The log of events behind runtime measurements.
    pub event_log: Option<Vec<u8>>,
}

/// Why a producer gives no evidence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProduceError {
    /// A field that this kind of evidence has no room for.
    #[error("`{field}` of {got} bytes, where this kind has room for {most}")]
    TooLong {
        /// Which.
        field: &'static str,
        /// The most bytes.
        most: usize,
        /// How many were given.
        got: usize,
    },
    /// A nonce of another length than the kind's.
    #[error("a nonce of {got} bytes, where this kind has {expected}")]
    NonceLength {
        /// The kind's.
        expected: usize,
        /// How many were given.
        got: usize,
    },
    /// Both of report data and nonce, where the kind has one field for them.
    #[error("report data and nonce, where this kind has one field for both")]
    OneField,
    /// A time that the producer's certificates are not in force at.
    #[error("no certificate is in force at {got}; the producer's are from {from} to {to}")]
    Time {
        /// The first second.
        from: u64,
        /// The last second.
        to: u64,
        /// The time that was asked for.
        got: u64,
    },
    /// A flaw that this form cannot have.
    #[error("evidence of form `{form}` cannot have the flaw `{flaw}`")]
    Flaw {
        /// The form's name.
        form: &'static str,
        /// The flaw's name.
        flaw: &'static str,
    },
    /// A register that this kind does not have, or a value of another length.
    #[error("no register {register} of {got} bytes")]
    Register {
        /// Its name.
        register: String,
        /// The value's length.
        got: usize,
    },
    /// A seed that makes no key: one in four thousand million.
    #[error("this seed makes no key: take another")]
    Seed,
}

/// Whoever can make evidence of a kind.
pub trait Producer {
    /// The kind that it makes.
    fn kind(&self) -> Kind;

    /// Whether no hardware stands behind it.
    fn is_simulated(&self) -> bool {
        false
    }

    /// Makes evidence.
    fn produce(&self, request: &Request) -> Result<Evidence, ProduceError>;
}

impl Evidence {
    /// Judges it as evidence of `kind`.
    pub fn judge(&self, kind: Kind, context: &Context<'_>) -> Report {
        let certificates: Vec<&[u8]> = self.certificates.iter().map(Vec::as_slice).collect();
        let collateral: Vec<&[u8]> = self.collateral.iter().map(Vec::as_slice).collect();
        let input = Input {
            evidence: &self.evidence,
            certificates: &certificates,
            collateral: &collateral,
            event_log: self.event_log.as_deref(),
        };
        verify(kind, &input, context)
    }
}
