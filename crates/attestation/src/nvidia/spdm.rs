//! The report: what a device answers to SPDM 1.1 `GET_MEASUREMENTS` (DMTF DSP0274 §10.11), request and response in one
//! (`attestation.md` §7.1).

use hallmark_receipt::json::{Object, Value};
use hallmark_receipt::wire::to_hex;

use super::opaque::{Opaque, OpaqueError};
use crate::bytes::Bytes;

/// The most bytes of a report: a measurement record has at most 2^24, no device comes near.
pub const MAX_REPORT: usize = 256 << 10;

const VERSION: u8 = 0x11;
const GET_MEASUREMENTS: u8 = 0xe0;
const MEASUREMENTS: u8 = 0x60;
/// Param1 of the request: a signature is asked for.
const SIGNED: u8 = 0x01;
/// Param2 of the request: every block is asked for.
const ALL_BLOCKS: u8 = 0xff;
/// Certificate chains are kept in eight slots.
const SLOTS: u8 = 8;
/// `MeasurementSpecification` of blocks in DMTF's format.
const DMTF: u8 = 0x01;
/// The bit of a value's type that says that the value is raw, not a digest.
const RAW: u8 = 0x80;
/// ECDSA P-384: `r || s`.
const SIGNATURE: usize = 96;

/// A report; it borrows the bytes that it was read from.
#[derive(Clone, Debug, PartialEq)]
pub struct Report<'a> {
    /// What the signature is over: request and response up to it, as they stand in the report.
    pub signed: &'a [u8],
    /// The requester's nonce, 32 bytes.
    pub nonce: &'a [u8],
    /// The slot of the certificate chain.
    pub slot: u8,
    /// The measurements, by ascending index.
    pub blocks: Vec<Block<'a>>,
    /// The device's nonce, 32 bytes.
    pub responder_nonce: &'a [u8],
    /// What NVIDIA adds: versions, identities, states.
    pub opaque: Opaque<'a>,
    /// The signature, `r || s`.
    pub signature: &'a [u8],
}

/// One measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block<'a> {
    /// Its index, from 1.
    pub index: u8,
    /// What is measured: `DMTFSpecMeasurementValueType`.
    pub value_type: u8,
    /// A digest, or the raw value if [`Block::is_raw`].
    pub value: &'a [u8],
}

impl Block<'_> {
    /// Whether the value stands for itself; else it is a digest.
    pub fn is_raw(&self) -> bool {
        self.value_type & RAW != 0
    }
}

/// Why bytes are not a report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// Longer than any.
    #[error("{got} bytes are more than the {MAX_REPORT} of a report")]
    TooLong {
        /// Its length.
        got: usize,
    },
    /// It ends early.
    #[error("it ends inside {0}")]
    Truncated(&'static str),
    /// Bytes left over.
    #[error("{0} bytes follow its end")]
    Trailing(usize),
    /// Another version of SPDM.
    #[error("{message} of SPDM version {got:#04x}, where devices sign version 1.1 (0x11)")]
    Version {
        /// Request or response.
        message: &'static str,
        /// The version's byte.
        got: u8,
    },
    /// Another message.
    #[error("a message of code {got:#04x} in place of {expected:#04x}")]
    Code {
        /// What stands in a report.
        expected: u8,
        /// What stands there.
        got: u8,
    },
    /// A parameter that a signed report of all measurements does not have.
    #[error("parameter {name} is {got:#04x}")]
    Parameter {
        /// Which.
        name: &'static str,
        /// Its value.
        got: u8,
    },
    /// No measurement.
    #[error("it has no measurements")]
    NoBlocks,
    /// Indices out of order, or one that stands twice.
    #[error("measurement {got} follows measurement {after}")]
    Order {
        /// The earlier index.
        after: u8,
        /// The index that follows.
        got: u8,
    },
    /// Another format of measurements.
    #[error("measurement {index} is of specification {got:#04x}, not DMTF's")]
    Specification {
        /// Which.
        index: u8,
        /// Its specification.
        got: u8,
    },
    /// Lengths that do not agree.
    #[error("measurement {index}: a value of {value} bytes in a measurement of {block}")]
    Size {
        /// Which.
        index: u8,
        /// The measurement's length.
        block: usize,
        /// The value's length.
        value: usize,
    },
    /// A digest of a length that no hash function here has.
    #[error("measurement {index}: a digest of {got} bytes")]
    Digest {
        /// Which.
        index: u8,
        /// Its length.
        got: usize,
    },
    /// Opaque data that cannot be read.
    #[error("opaque data: {0}")]
    Opaque(#[from] OpaqueError),
}

impl ReportError {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "report-too-long",
            Self::Truncated(_) => "report-truncated",
            Self::Trailing(_) => "report-trailing",
            Self::Version { .. } => "report-version",
            Self::Code { .. } => "report-code",
            Self::Parameter { .. } => "report-parameter",
            Self::NoBlocks => "report-no-blocks",
            Self::Order { .. } => "report-order",
            Self::Specification { .. } => "report-specification",
            Self::Size { .. } => "report-size",
            Self::Digest { .. } => "report-digest",
            Self::Opaque(_) => "report-opaque",
        }
    }
}

impl<'a> Report<'a> {
    /// Reads a report, to its last byte.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ReportError> {
        if bytes.len() > MAX_REPORT {
            return Err(ReportError::TooLong { got: bytes.len() });
        }
        let mut reader = Bytes(bytes);
        let (nonce, slot) = request(&mut reader)?;
        let short = |part| move || ReportError::Truncated(part);
        header(&mut reader, "the response", MEASUREMENTS)?;
        // Param1 counts blocks only where that was the question; the lower half of Param2 repeats the slot.
        parameter(&mut reader, "1 of the response", |got| got == 0)?;
        parameter(&mut reader, "2 of the response", |got| got == slot)?;
        let count = reader.u8().ok_or_else(short("the number of blocks"))?;
        let length = reader.u24().ok_or_else(short("the record's length"))?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let record = reader.take(length).ok_or_else(short("the measurements"))?;
        let blocks = blocks(record, count)?;
        let responder_nonce = reader.take(32).ok_or_else(short("the device's nonce"))?;
        let length = reader.u16().ok_or_else(short("the opaque data's length"))?;
        let opaque = Opaque::parse(reader.take(length.into()).ok_or_else(short("the opaque data"))?)?;
        let signed = bytes.get(..bytes.len().saturating_sub(reader.left())).unwrap_or_default();
        let signature = reader.take(SIGNATURE).ok_or_else(short("the signature"))?;
        match reader.left() {
            0 => Ok(Self { signed, nonce, slot, blocks, responder_nonce, opaque, signature }),
            left => Err(ReportError::Trailing(left)),
        }
    }

    /// Every field, decoded.
    pub fn fields(&self) -> Object {
        let hex = |bytes: &[u8]| Value::Str(to_hex(bytes));
        let blocks = self.blocks.iter().map(|block| {
            let value = [
                ("type", Value::Str(format!("{:#04x}", block.value_type))),
                (if block.is_raw() { "raw" } else { "digest" }, hex(block.value)),
            ];
            (format!("block.{}", block.index), Value::Object(hallmark_receipt::json::object(value)))
        });
        hallmark_receipt::json::object([
            ("spdm", Value::from("1.1")),
            ("nonce", hex(self.nonce)),
            ("slot", Value::Int(self.slot.into())),
            ("measurements", Value::Object(blocks.collect())),
            ("responder_nonce", hex(self.responder_nonce)),
            ("opaque", Value::Object(self.opaque.fields())),
            ("signature", hex(self.signature)),
        ])
    }
}

/// The request: nonce and slot.
fn request<'a>(reader: &mut Bytes<'a>) -> Result<(&'a [u8], u8), ReportError> {
    header(reader, "the request", GET_MEASUREMENTS)?;
    parameter(reader, "1 of the request", |got| got == SIGNED)?;
    parameter(reader, "2 of the request", |got| got == ALL_BLOCKS)?;
    let nonce = reader.take(32).ok_or(ReportError::Truncated("the nonce"))?;
    let slot = parameter(reader, "`slot` of the request", |got| got < SLOTS)?;
    Ok((nonce, slot))
}

fn header(reader: &mut Bytes<'_>, message: &'static str, expected: u8) -> Result<(), ReportError> {
    match reader.u8() {
        Some(VERSION) => {}
        Some(got) => return Err(ReportError::Version { message, got }),
        None => return Err(ReportError::Truncated(message)),
    }
    match reader.u8() {
        Some(got) if got == expected => Ok(()),
        Some(got) => Err(ReportError::Code { expected, got }),
        None => Err(ReportError::Truncated(message)),
    }
}

fn parameter(
    reader: &mut Bytes<'_>,
    name: &'static str,
    fits: impl Fn(u8) -> bool,
) -> Result<u8, ReportError> {
    match reader.u8() {
        Some(got) if fits(got) => Ok(got),
        Some(got) => Err(ReportError::Parameter { name, got }),
        None => Err(ReportError::Truncated(name)),
    }
}

/// The measurement record: exactly `count` blocks, nothing behind them.
fn blocks(record: &[u8], count: u8) -> Result<Vec<Block<'_>>, ReportError> {
    let mut reader = Bytes(record);
    let mut blocks = Vec::new();
    let mut after = 0;
    for _ in 0..count {
        let block = block(&mut reader)?;
        if block.index <= after {
            return Err(ReportError::Order { after, got: block.index });
        }
        after = block.index;
        blocks.push(block);
    }
    match reader.left() {
        0 if blocks.is_empty() => Err(ReportError::NoBlocks),
        0 => Ok(blocks),
        left => Err(ReportError::Trailing(left)),
    }
}

fn block<'a>(reader: &mut Bytes<'a>) -> Result<Block<'a>, ReportError> {
    let short = || ReportError::Truncated("a measurement");
    let index = reader.u8().ok_or_else(short)?;
    match reader.u8().ok_or_else(short)? {
        DMTF => {}
        got => return Err(ReportError::Specification { index, got }),
    }
    let size = usize::from(reader.u16().ok_or_else(short)?);
    let mut inner = Bytes(reader.take(size).ok_or_else(short)?);
    let value_type = inner.u8().ok_or_else(short)?;
    let value_size = usize::from(inner.u16().ok_or_else(short)?);
    if value_size != inner.left() {
        return Err(ReportError::Size { index, block: size, value: value_size });
    }
    let block = Block { index, value_type, value: inner.take(value_size).ok_or_else(short)? };
    if !block.is_raw() && !matches!(value_size, 32 | 48 | 64) {
        return Err(ReportError::Digest { index, got: value_size });
    }
    Ok(block)
}
