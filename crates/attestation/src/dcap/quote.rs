//! Quotes of versions 3, 4 and 5 (Intel's `sgx_quote_3.h`, `sgx_quote_4.h`, `sgx_quote_5.h`), with ECDSA keys on P-256.

use hallmark_receipt::json::{Object, Value};
use hallmark_receipt::wire::to_hex;

use super::body::{EnclaveReport, TdReport, fields};
use crate::Kind;
use crate::bytes::{Bytes, is_zero};

/// The most bytes of a quote, its padding included: the largest buffer that Linux asks the host to fill.
pub const MAX_QUOTE: usize = 128 << 10;
/// ECDSA over P-256.
pub(super) const ECDSA_P256: u16 = 2;
/// Intel's quoting enclaves.
pub(super) const INTEL: [u8; 16] =
    [0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07];
pub(super) const TEE_SGX: u32 = 0;
pub(super) const TEE_TDX: u32 = 0x81;

/// A quote; it borrows the bytes that it was read from. Being one shows nothing yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote<'a> {
    /// Version, 3 to 5.
    pub version: u16,
    /// The quoting enclave's version, as the header has it.
    pub qe_svn: u16,
    /// The provisioning certification enclave's version, as the header has it.
    pub pce_svn: u16,
    /// The first 16 bytes name the platform to the quoting enclave's host.
    pub user_data: &'a [u8; 20],
    /// What it reports.
    pub body: Body<'a>,
    /// Header and body: what `signature` is over.
    pub signed: &'a [u8],
    /// `r || s` by the attestation key.
    pub signature: &'a [u8; 64],
    /// `x || y`.
    pub attestation_key: &'a [u8; 64],
    /// The quoting enclave's own report, which vouches for the attestation key.
    pub qe_report: EnclaveReport<'a>,
    /// `r || s` by the platform's key (PCK) over the quoting enclave's report.
    pub qe_report_signature: &'a [u8; 64],
    /// What the quoting enclave's report binds beside the attestation key.
    pub qe_auth_data: &'a [u8],
    /// How the platform's key is certified.
    pub certification: Certification<'a>,
    /// Zeros behind the end.
    pub padding: usize,
}

/// What a quote reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
// Both are lists of references, read once a quote.
#[allow(clippy::large_enum_variant)]
pub enum Body<'a> {
    /// An enclave.
    Enclave(EnclaveReport<'a>),
    /// A trust domain.
    Td(TdReport<'a>),
}

/// How a quote says whose key the platform's is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certification<'a> {
    /// Type 5: a PEM of the PCK certificate, its authority's and the root.
    Chain(&'a [u8]),
    /// Types 1 to 3: the platform's identifier, plain or encrypted, with its security versions. The chain comes from elsewhere.
    Platform {
        /// The type.
        kind: u16,
        /// What is there.
        data: &'a [u8],
    },
}

/// Why bytes are no quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuoteError {
    /// Longer than any.
    #[error("{got} bytes are more than the {MAX_QUOTE} of a quote")]
    TooLong {
        /// Its length.
        got: usize,
    },
    /// It ends early.
    #[error("`{part}` ends early")]
    Truncated {
        /// Where.
        part: &'static str,
    },
    /// Bytes behind the end of a part.
    #[error("{got} bytes behind the end of `{part}`")]
    Trailing {
        /// Behind what.
        part: &'static str,
        /// How many.
        got: usize,
    },
    /// Another version.
    #[error("version {got}, where 3, 4 and 5 are known")]
    Version {
        /// The version.
        got: u16,
    },
    /// Another kind of key.
    #[error("attestation key type {got}, where ECDSA on P-256 is 2")]
    KeyType {
        /// The type.
        got: u16,
    },
    /// Another kind of environment.
    #[error("environment type {got:#x}, where SGX is 0 and TDX 0x81")]
    Tee {
        /// The type.
        got: u32,
    },
    /// Another maker's quoting enclave.
    #[error("another maker's quoting enclave")]
    Vendor,
    /// Another body.
    #[error("body type {kind} of {length} bytes, which is none of this environment")]
    Body {
        /// The type.
        kind: u16,
        /// Its length.
        length: u32,
    },
    /// Another kind of certification data.
    #[error("certification data of type {kind} and {length} bytes")]
    Certification {
        /// The type.
        kind: u16,
        /// Its length.
        length: usize,
    },
    /// A quote of the other kind.
    #[error("a quote of {}", got.name())]
    Kind {
        /// The kind.
        got: Kind,
    },
}

impl QuoteError {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "quote-too-long",
            Self::Truncated { .. } => "quote-truncated",
            Self::Trailing { .. } => "quote-trailing",
            Self::Version { .. } => "quote-version",
            Self::KeyType { .. } => "quote-key-type",
            Self::Tee { .. } => "quote-environment",
            Self::Vendor => "quote-vendor",
            Self::Body { .. } => "quote-body",
            Self::Certification { .. } => "quote-certification",
            Self::Kind { .. } => "quote-kind",
        }
    }
}

/// Names the part that ended early.
fn at<T>(part: &'static str, read: Option<T>) -> Result<T, QuoteError> {
    read.ok_or(QuoteError::Truncated { part })
}

/// Nothing may be left of a part.
fn end(part: &'static str, reader: &Bytes<'_>) -> Result<(), QuoteError> {
    match reader.0.len() {
        0 => Ok(()),
        got => Err(QuoteError::Trailing { part, got }),
    }
}

impl<'a> Quote<'a> {
    /// Reads a quote, to its last byte. Zeros behind its end are padding: hosts return the whole buffer that they were given, sized
    /// for the longest form.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, QuoteError> {
        if bytes.len() > MAX_QUOTE {
            return Err(QuoteError::TooLong { got: bytes.len() });
        }
        let mut reader = Bytes(bytes);
        let header = Header::read(&mut reader)?;
        let body = body(&header, &mut reader)?;
        // What was read so far is what is signed.
        let length = bytes.len().saturating_sub(reader.0.len());
        let signed = at("header", Bytes(bytes).take(length))?;
        let mut signature_data = Bytes(at("signature data", reader.prefixed())?);
        let padding = reader.0.len();
        if !is_zero(reader.0) {
            return Err(QuoteError::Trailing { part: "quote", got: padding });
        }
        let signature = at("signature", signature_data.array())?;
        let attestation_key = at("attestation key", signature_data.array())?;
        // From version 4 the rest is wrapped as certification data of type 6.
        if header.version > 3 {
            let (kind, data) = certification(&mut signature_data)?;
            end("signature data", &signature_data)?;
            if kind != 6 {
                return Err(QuoteError::Certification { kind, length: data.len() });
            }
            signature_data = Bytes(data);
        }
        let qe_report = at("QE report", signature_data.array().and_then(EnclaveReport::read))?;
        let qe_report_signature = at("QE report's signature", signature_data.array())?;
        let length = at("QE authentication data", signature_data.u16())?;
        let qe_auth_data = at("QE authentication data", signature_data.take(length.into()))?;
        let (kind, data) = certification(&mut signature_data)?;
        end("QE report certification data", &signature_data)?;
        Ok(Self {
            version: header.version,
            qe_svn: header.qe_svn,
            pce_svn: header.pce_svn,
            user_data: header.user_data,
            body,
            signed,
            signature,
            attestation_key,
            qe_report,
            qe_report_signature,
            qe_auth_data,
            certification: Certification::read(kind, data)?,
            padding,
        })
    }

    /// Whether it says of itself that no hardware made it (`attestation.md` §11).
    pub fn is_marked(&self) -> bool {
        self.user_data.starts_with(b"SIMULATED")
    }

    /// The kind of evidence that it is.
    pub fn kind(&self) -> Kind {
        match self.body {
            Body::Enclave(_) => Kind::Sgx,
            Body::Td(_) => Kind::Tdx,
        }
    }

    /// What the environment binds itself to.
    pub fn report_data(&self) -> &'a [u8; 64] {
        match &self.body {
            Body::Enclave(report) => report.report_data,
            Body::Td(report) => report.report_data,
        }
    }

    /// Every field, decoded.
    pub fn fields(&self) -> Object {
        let body = match &self.body {
            Body::Enclave(report) => report.fields(),
            Body::Td(report) => report.fields(),
        };
        let certification = match self.certification {
            Certification::Chain(pem) => String::from_utf8_lossy(pem).trim_end_matches('\0').into(),
            Certification::Platform { data, .. } => Value::Str(to_hex(data)),
        };
        let kind = match self.certification {
            Certification::Chain(_) => 5,
            Certification::Platform { kind, .. } => kind,
        };
        let bytes: [(&str, &[u8]); 5] = [
            ("user_data", self.user_data),
            ("signature", self.signature),
            ("attestation_key", self.attestation_key),
            ("qe_report_signature", self.qe_report_signature),
            ("qe_auth_data", self.qe_auth_data),
        ];
        let numbers = [
            ("version", u64::from(self.version)),
            ("qe_svn", self.qe_svn.into()),
            ("pce_svn", self.pce_svn.into()),
            ("certification_type", kind.into()),
            ("padding", u64::try_from(self.padding).unwrap_or(u64::MAX)),
        ];
        let others = [
            ("kind", Value::from(self.kind().name())),
            ("body", Value::Object(body)),
            ("qe_report", Value::Object(self.qe_report.fields())),
            ("certification", certification),
        ];
        fields(&bytes, &numbers, others)
    }
}

struct Header<'a> {
    version: u16,
    tee: u32,
    qe_svn: u16,
    pce_svn: u16,
    user_data: &'a [u8; 20],
}

impl<'a> Header<'a> {
    fn read(reader: &mut Bytes<'a>) -> Result<Self, QuoteError> {
        let version = at("header", reader.u16())?;
        if !(3..=5).contains(&version) {
            return Err(QuoteError::Version { got: version });
        }
        let key_type = at("header", reader.u16())?;
        if key_type != ECDSA_P256 {
            return Err(QuoteError::KeyType { got: key_type });
        }
        let tee = at("header", reader.u32())?;
        // Version 3 is SGX's alone: there the field is reserved.
        if tee != TEE_SGX && (version == 3 || tee != TEE_TDX) {
            return Err(QuoteError::Tee { got: tee });
        }
        let qe_svn = at("header", reader.u16())?;
        let pce_svn = at("header", reader.u16())?;
        if *at("header", reader.array::<16>())? != INTEL {
            return Err(QuoteError::Vendor);
        }
        let user_data = at("header", reader.array())?;
        Ok(Self { version, tee, qe_svn, pce_svn, user_data })
    }
}

/// Before version 5 the environment says which body follows; there the body says so itself.
fn body<'a>(header: &Header<'_>, reader: &mut Bytes<'a>) -> Result<Body<'a>, QuoteError> {
    let length = match (header.version, header.tee) {
        (5, tee) => {
            let (kind, length) = (at("body", reader.u16())?, at("body", reader.u32())?);
            let known = match (tee, kind) {
                (TEE_SGX, 1) => Some(EnclaveReport::LENGTH),
                (TEE_TDX, 2) => Some(TdReport::LENGTH_10),
                (TEE_TDX, 3) => Some(TdReport::LENGTH_15),
                (TEE_TDX, 4) => Some(TdReport::LENGTH_15_EXTENDED),
                _ => None,
            };
            known
                .filter(|known| usize::try_from(length) == Ok(*known))
                .ok_or(QuoteError::Body { kind, length })?
        }
        (_, TEE_TDX) => TdReport::LENGTH_10,
        _ => EnclaveReport::LENGTH,
    };
    if header.tee == TEE_TDX {
        at("body", reader.take(length).and_then(TdReport::read)).map(Body::Td)
    } else {
        at("body", reader.array().and_then(EnclaveReport::read)).map(Body::Enclave)
    }
}

/// Certification data: its type, and what it is.
fn certification<'a>(reader: &mut Bytes<'a>) -> Result<(u16, &'a [u8]), QuoteError> {
    let part = "certification data";
    Ok((at(part, reader.u16())?, at(part, reader.prefixed())?))
}

impl<'a> Certification<'a> {
    fn read(kind: u16, data: &'a [u8]) -> Result<Self, QuoteError> {
        let refuse = QuoteError::Certification { kind, length: data.len() };
        match (kind, data.len()) {
            (5, _) => Ok(Self::Chain(data)),
            // A plain identifier of 16 bytes, or one encrypted with RSA-2048 or RSA-3072; CPUSVN, PCESVN, PCEID.
            (1, 36) | (2, 276) | (3, 404) => Ok(Self::Platform { kind, data }),
            _ => Err(refuse),
        }
    }
}
