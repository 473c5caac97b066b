//! The document: a COSE_Sign1 message (RFC 9052) around a CBOR map.

use std::collections::BTreeMap;

use hallmark_receipt::json::{Object, Value, object};
use hallmark_receipt::time;
use hallmark_receipt::wire::to_hex;

use super::BoundKeys;
use crate::cbor::{CborError, Reader};
use crate::x509::certificate_text;

/// The most bytes of a document.
pub const MAX_DOCUMENT: usize = 32 << 10;
/// Bounds of AWS's description.
const MAX_CERTIFICATE: usize = 1024;
const MAX_FIELD: usize = 1024;
const MAX_MODULE_ID: usize = 256;
const MAX_BUNDLE: u64 = 16;
const PCRS: u64 = 32;
const PCR_BYTES: usize = 48;
/// A signature of ES384: `r || s`.
const SIGNATURE: usize = 96;
/// COSE's tag for COSE_Sign1; the Nitro hypervisor leaves it out.
const COSE_SIGN1: u64 = 18;
/// COSE: the header label `alg`, and ES384.
const ALG: i128 = 1;
const ES384: i128 = -35;

/// A document; it borrows the bytes that it was read from. Being one shows nothing yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document<'a> {
    protected: &'a [u8],
    payload: &'a [u8],
    /// `r || s`, 96 bytes.
    pub signature: &'a [u8],
    /// The hypervisor's name for the enclave.
    pub module_id: &'a str,
    /// When it was made, in milliseconds since 1970.
    pub timestamp_ms: u64,
    /// Registers: number to 48 bytes.
    pub pcrs: BTreeMap<u8, &'a [u8]>,
    /// The leaf certificate, DER.
    pub certificate: &'a [u8],
    /// The other certificates, root first.
    pub cabundle: Vec<&'a [u8]>,
    /// What the enclave calls its key: 1 to 1024 bytes.
    pub public_key: Option<&'a [u8]>,
    /// The enclave's own data: at most 1024 bytes.
    pub user_data: Option<&'a [u8]>,
    /// The requester's nonce: at most 1024 bytes.
    pub nonce: Option<&'a [u8]>,
}

/// Why bytes are no document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// Longer than any.
    #[error("{got} bytes are more than the {MAX_DOCUMENT} of a document")]
    TooLong {
        /// Its length.
        got: usize,
    },
    /// Not the CBOR due there.
    #[error("`{part}`: {error}")]
    Cbor {
        /// The part of the document.
        part: &'static str,
        /// Why.
        error: CborError,
    },
    /// A tag other than COSE_Sign1's.
    #[error("tagged {got}, not as COSE_Sign1 (18)")]
    Tag {
        /// The tag.
        got: u64,
    },
    /// COSE_Sign1 has four parts.
    #[error("{got} parts, where COSE_Sign1 has 4")]
    Parts {
        /// How many.
        got: u64,
    },
    /// The protected header says anything but ES384.
    #[error("the protected header is not {{alg: ES384}}")]
    Algorithm,
    /// The unprotected header, which nothing signs, is not empty.
    #[error("the unprotected header is not empty")]
    Unprotected,
    /// A signature of another length.
    #[error("a signature of {got} bytes, where ES384 has {SIGNATURE}")]
    SignatureLength {
        /// Its length.
        got: usize,
    },
    /// A field that documents do not have.
    #[error("a field that documents do not have")]
    UnknownField,
    /// A field that stands twice.
    #[error("field `{0}` stands twice")]
    DuplicateField(&'static str),
    /// A field that is missing.
    #[error("field `{0}` is missing")]
    MissingField(&'static str),
    /// A field with a length out of its bounds.
    #[error("field `{field}` has {got} bytes or items, out of its bounds")]
    Length {
        /// Which.
        field: &'static str,
        /// Its length.
        got: u64,
    },
    /// Digests of another function.
    #[error("`digest` is not SHA384")]
    Digest,
    /// A register out of range, or one that stands twice.
    #[error("register {0} is out of range, or stands twice")]
    Register(u64),
}

impl DocumentError {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "document-too-long",
            Self::Cbor { error: CborError::Trailing(_), .. } => "document-trailing",
            Self::Cbor { error: CborError::Truncated, .. } => "document-truncated",
            Self::Cbor { .. } => "document-cbor",
            Self::Tag { .. } => "document-tag",
            Self::Parts { .. } => "document-parts",
            Self::Algorithm => "document-algorithm",
            Self::Unprotected => "document-unprotected",
            Self::SignatureLength { .. } => "document-signature-length",
            Self::UnknownField => "document-unknown-field",
            Self::DuplicateField(_) => "document-duplicate-field",
            Self::MissingField(_) => "document-missing-field",
            Self::Length { .. } => "document-field-length",
            Self::Digest => "document-digest",
            Self::Register(_) => "document-register",
        }
    }
}

/// Names the part of the document that a CBOR error belongs to.
fn at<T>(part: &'static str, result: Result<T, CborError>) -> Result<T, DocumentError> {
    result.map_err(|error| DocumentError::Cbor { part, error })
}

impl<'a> Document<'a> {
    /// Reads a document, to its last byte.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DocumentError> {
        if bytes.len() > MAX_DOCUMENT {
            return Err(DocumentError::TooLong { got: bytes.len() });
        }
        let mut message = Reader::new(bytes);
        match at("message", message.tag())? {
            None | Some(COSE_SIGN1) => {}
            Some(got) => return Err(DocumentError::Tag { got }),
        }
        match at("message", message.array())? {
            4 => {}
            got => return Err(DocumentError::Parts { got }),
        }
        let protected = at("protected header", message.bytes())?;
        if at("unprotected header", message.map())? != 0 {
            return Err(DocumentError::Unprotected);
        }
        let payload = at("payload", message.bytes())?;
        let signature = at("signature", message.bytes())?;
        at("message", message.end())?;
        algorithm(protected)?;
        if signature.len() != SIGNATURE {
            return Err(DocumentError::SignatureLength { got: signature.len() });
        }
        Fields::read(payload)?.into_document(protected, payload, signature)
    }

    /// Whether it says of itself that no hardware made it (`attestation.md` §11).
    pub fn is_marked(&self) -> bool {
        self.module_id.starts_with("SIMULATED")
    }

    /// Every field, for people.
    pub fn fields(&self) -> Object {
        let maybe = |bytes: Option<&[u8]>| Value::Str(bytes.map_or_else(|| "none".to_owned(), to_hex));
        let pcrs =
            self.pcrs.iter().map(|(number, pcr)| (format!("pcr{number}"), to_hex(pcr).into())).collect();
        let bundle = self.cabundle.iter().map(|der| certificate_text(der)).collect();
        let mut fields = object([
            ("cabundle", Value::Array(bundle)),
            ("certificate", certificate_text(self.certificate)),
            ("digest", "SHA384".into()),
            ("module_id", self.module_id.into()),
            ("nonce", maybe(self.nonce)),
            ("pcrs", Value::Object(pcrs)),
            ("public_key", maybe(self.public_key)),
            ("timestamp", time::text(self.timestamp_ms).into()),
            ("user_data", maybe(self.user_data)),
        ]);
        if let Some(keys) = self.user_data.and_then(BoundKeys::parse) {
            let keys = object([
                ("signing_key_sha256", keys.signing_key.to_string().into()),
                ("tls_certificate_sha256", keys.tls_certificate.to_string().into()),
            ]);
            fields.insert("user_data_nitriding".to_owned(), Value::Object(keys));
        }
        fields
    }

    /// What the signature is over: `Sig_structure` of RFC 9052 §4.4, around the bytes as they stand in the document.
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.payload.len().saturating_add(64));
        out.extend_from_slice(b"\x84\x6aSignature1");
        byte_string(&mut out, self.protected);
        byte_string(&mut out, &[]);
        byte_string(&mut out, self.payload);
        out
    }
}

/// A byte string of at most 65,535 bytes in its shortest form.
fn byte_string(out: &mut Vec<u8>, bytes: &[u8]) {
    // A document is shorter than 2^16, and so is every part of it.
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    match u8::try_from(length) {
        Ok(length @ 0..=23) => out.push(0x40 | length),
        Ok(length) => out.extend_from_slice(&[0x58, length]),
        Err(_) => {
            out.push(0x59);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
    out.extend_from_slice(bytes);
}

fn algorithm(protected: &[u8]) -> Result<(), DocumentError> {
    let mut header = Reader::new(protected);
    let read = |header: &mut Reader<'_>| -> Result<bool, CborError> {
        Ok(header.map()? == 1 && header.signed()? == ALG && header.signed()? == ES384)
    };
    let is_es384 = at("protected header", read(&mut header))?;
    if !is_es384 {
        return Err(DocumentError::Algorithm);
    }
    at("protected header", header.end())
}

/// The payload's fields as they come.
#[derive(Default)]
struct Fields<'a> {
    module_id: Option<&'a str>,
    digest: Option<&'a str>,
    timestamp: Option<u64>,
    pcrs: Option<BTreeMap<u8, &'a [u8]>>,
    certificate: Option<&'a [u8]>,
    cabundle: Option<Vec<&'a [u8]>>,
    public_key: Option<Option<&'a [u8]>>,
    user_data: Option<Option<&'a [u8]>>,
    nonce: Option<Option<&'a [u8]>>,
}

impl<'a> Fields<'a> {
    fn read(payload: &'a [u8]) -> Result<Self, DocumentError> {
        let mut fields = Self::default();
        let mut reader = Reader::new(payload);
        let mut left = at("payload", reader.open_map())?;
        while reader.another(&mut left) {
            let reader = &mut reader;
            match at("payload", reader.text())? {
                "module_id" => set("module_id", &mut fields.module_id, at("module_id", reader.text())?)?,
                "digest" => set("digest", &mut fields.digest, at("digest", reader.text())?)?,
                "timestamp" => set("timestamp", &mut fields.timestamp, at("timestamp", reader.unsigned())?)?,
                "pcrs" => set("pcrs", &mut fields.pcrs, registers(reader)?)?,
                "certificate" => {
                    set("certificate", &mut fields.certificate, at("certificate", reader.bytes())?)?;
                }
                "cabundle" => set("cabundle", &mut fields.cabundle, bundle(reader)?)?,
                "public_key" => {
                    set("public_key", &mut fields.public_key, at("public_key", reader.maybe_bytes())?)?;
                }
                "user_data" => {
                    set("user_data", &mut fields.user_data, at("user_data", reader.maybe_bytes())?)?;
                }
                "nonce" => set("nonce", &mut fields.nonce, at("nonce", reader.maybe_bytes())?)?,
                _ => return Err(DocumentError::UnknownField),
            }
        }
        at("payload", reader.end())?;
        Ok(fields)
    }

    fn into_document(
        self,
        protected: &'a [u8],
        payload: &'a [u8],
        signature: &'a [u8],
    ) -> Result<Document<'a>, DocumentError> {
        let missing = DocumentError::MissingField;
        if self.digest.ok_or(missing("digest"))? != "SHA384" {
            return Err(DocumentError::Digest);
        }
        let module_id = self.module_id.ok_or(missing("module_id"))?;
        bounded("module_id", module_id.as_bytes(), 1, MAX_MODULE_ID)?;
        let certificate = self.certificate.ok_or(missing("certificate"))?;
        bounded("certificate", certificate, 1, MAX_CERTIFICATE)?;
        let public_key = self.public_key.flatten();
        bounded("public_key", public_key.unwrap_or(&[0]), 1, MAX_FIELD)?;
        let (user_data, nonce) = (self.user_data.flatten(), self.nonce.flatten());
        bounded("user_data", user_data.unwrap_or_default(), 0, MAX_FIELD)?;
        bounded("nonce", nonce.unwrap_or_default(), 0, MAX_FIELD)?;
        Ok(Document {
            protected,
            payload,
            signature,
            module_id,
            timestamp_ms: self.timestamp.ok_or(missing("timestamp"))?,
            pcrs: self.pcrs.ok_or(missing("pcrs"))?,
            certificate,
            cabundle: self.cabundle.ok_or(missing("cabundle"))?,
            public_key,
            user_data,
            nonce,
        })
    }
}

fn set<T>(name: &'static str, field: &mut Option<T>, value: T) -> Result<(), DocumentError> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(DocumentError::DuplicateField(name)),
    }
}

fn bounded(field: &'static str, bytes: &[u8], least: usize, most: usize) -> Result<(), DocumentError> {
    if (least..=most).contains(&bytes.len()) {
        Ok(())
    } else {
        Err(DocumentError::Length { field, got: bytes.len() as u64 })
    }
}

fn registers<'a>(reader: &mut Reader<'a>) -> Result<BTreeMap<u8, &'a [u8]>, DocumentError> {
    let field = "pcrs";
    let count = at(field, reader.map())?;
    if !(1..=PCRS).contains(&count) {
        return Err(DocumentError::Length { field, got: count });
    }
    let mut pcrs = BTreeMap::new();
    for _ in 0..count {
        let number = at(field, reader.unsigned())?;
        let bytes = at(field, reader.bytes())?;
        bounded(field, bytes, PCR_BYTES, PCR_BYTES)?;
        let index = u8::try_from(number).ok().filter(|index| u64::from(*index) < PCRS);
        let index = index.ok_or(DocumentError::Register(number))?;
        if pcrs.insert(index, bytes).is_some() {
            return Err(DocumentError::Register(number));
        }
    }
    Ok(pcrs)
}

fn bundle<'a>(reader: &mut Reader<'a>) -> Result<Vec<&'a [u8]>, DocumentError> {
    let field = "cabundle";
    let count = at(field, reader.array())?;
    if !(1..=MAX_BUNDLE).contains(&count) {
        return Err(DocumentError::Length { field, got: count });
    }
    let mut bundle = Vec::new();
    for _ in 0..count {
        let certificate = at(field, reader.bytes())?;
        bounded(field, certificate, 1, MAX_CERTIFICATE)?;
        bundle.push(certificate);
    }
    Ok(bundle)
}
