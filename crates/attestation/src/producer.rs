//! Producers of evidence, all behind one trait: `/dev/nsm`, configfs-tsm and devices where the hardware is (outside this crate), and
//! the development provider where none is (`simulated`).

use crate::cbor::CborError;
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
    /// A device that could not be asked, or did not answer as it should.
    #[error("{device}: {what}: {why}")]
    Device {
        /// Its file.
        device: String,
        /// What was done to it.
        what: &'static str,
        /// What went wrong.
        why: DeviceError,
    },
}

/// What goes wrong with a device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The system refused.
    #[error("{kind}{}", .code.map_or_else(String::new, |code| format!(" (error {code})")))]
    System {
        /// What kind of error.
        kind: std::io::ErrorKind,
        /// The system's own number for it.
        code: Option<i32>,
    },
    /// The device refused, in its own words.
    #[error("it answers `{0}`")]
    Refused(String),
    /// More bytes than an answer has.
    #[error("an answer of more than {most} bytes")]
    TooLong {
        /// The most.
        most: usize,
    },
    /// No bytes at all.
    #[error("an empty answer")]
    Empty,
    /// Not what the device's interface says.
    #[error("an answer of another form: {0}")]
    Form(#[from] CborError),
    /// A word or number that is none of those which the interface has.
    #[error("an unknown answer: `{0}`")]
    Unknown(String),
    /// Somebody else wrote to the entry in between.
    #[error("{got} changes of the entry, where {expected} were ours")]
    Raced {
        /// How many this side made.
        expected: u64,
        /// How many the entry counts.
        got: u64,
    },
}

impl From<std::io::Error> for DeviceError {
    fn from(error: std::io::Error) -> Self {
        Self::System { kind: error.kind(), code: error.raw_os_error() }
    }
}

impl Request {
    /// Report data or nonce, for kinds that have one field of 64 bytes for both; zeros behind it.
    pub fn one_field(&self) -> Result<[u8; 64], ProduceError> {
        let (field, asked) = match (self.report_data.is_empty(), self.nonce.is_empty()) {
            (false, false) => return Err(ProduceError::OneField),
            (true, _) => ("nonce", &self.nonce),
            _ => ("report data", &self.report_data),
        };
        let mut out = [0; 64];
        let room =
            out.get_mut(..asked.len()).ok_or(ProduceError::TooLong { field, most: 64, got: asked.len() })?;
        room.copy_from_slice(asked);
        Ok(out)
    }
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
