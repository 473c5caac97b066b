//! Answers of an authority about single certificates (OCSP, RFC 6960).

use der::asn1::{AnyRef, BitStringRef, GeneralizedTime, Null, ObjectIdentifier, OctetStringRef};
use der::{Decode as _, Reader as _, SliceReader, Tag, TagNumber, Tagged as _};
use hallmark_receipt::time::when;
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use super::certificate::{Certificate, CertificateError, explicit, name, scheme, time, unknown_critical};
use super::chain::{Rules, usage};
use super::encode::{item, octet_string, sequence};
use crate::crypto::{self, Form, PublicKey, Scheme};

/// The most bytes of a response.
pub const MAX_RESPONSE: usize = 64 << 10;
/// The most certificates that travel in one: the delegate's, and what it hangs on.
const MAX_CERTIFICATES: usize = 4;

/// What a delegate's certificate may carry critically.
const DELEGATE: Rules = Rules { longest: 1, schemes: &[], known: &[EXTENDED_KEY_USAGE] };

const BASIC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.1");
const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");
const OCSP_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.9");
const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
const SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");

/// A response; it borrows the bytes that it was read from. An answer counts as [`Response::status`] gives it, not before.
#[derive(Clone, Debug, PartialEq)]
pub struct Response<'a> {
    tbs: &'a [u8],
    scheme: Scheme,
    signature: &'a [u8],
    /// The responder's name, where it names itself by it.
    responder: Option<&'a [u8]>,
    /// When it was signed, in seconds since 1970.
    pub produced_at: u64,
    answers: Vec<Answer<'a>>,
    certificates: Vec<Certificate<'a>>,
}

/// Which certificate is asked about (RFC 6960 §4.1.1), by hashes of SHA-384.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CertificateId {
    /// Of the issuer's name, DER.
    pub issuer_name_hash: [u8; 48],
    /// Of the issuer's key.
    pub issuer_key_hash: [u8; 48],
    /// The serial number: the content of its INTEGER.
    pub serial: Vec<u8>,
}

impl CertificateId {
    /// Names `certificate`, which `issuer` made.
    pub fn of(certificate: &Certificate<'_>, issuer: &Certificate<'_>) -> Self {
        let (PublicKey::P256(key) | PublicKey::P384(key) | PublicKey::Rsa(key)) = issuer.key;
        Self {
            issuer_name_hash: Sha384::digest(issuer.subject).into(),
            issuer_key_hash: Sha384::digest(key).into(),
            serial: certificate.serial.to_vec(),
        }
    }

    /// The request for an answer about it, DER, without a nonce: the answer may be kept for others.
    pub fn request(&self) -> Vec<u8> {
        let id = sequence(&[
            sequence(&[item(0x06, SHA384.as_bytes()), item(0x05, &[])]),
            octet_string(&self.issuer_name_hash),
            octet_string(&self.issuer_key_hash),
            item(0x02, &self.serial),
        ]);
        // OCSPRequest, tbsRequest, requestList, Request.
        (0..4).fold(id, |inner, _| sequence(&[inner]))
    }
}

/// What an authority says of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is not revoked.
    Good {
        /// As of when, in seconds since 1970.
        this_update: u64,
    },
    /// It is revoked, or on hold.
    Revoked {
        /// Since when, in seconds since 1970.
        since: u64,
        /// The reason (RFC 5280 §5.3.1).
        reason: &'static str,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Answer<'a> {
    hash: ObjectIdentifier,
    issuer_name_hash: &'a [u8],
    issuer_key_hash: &'a [u8],
    serial: &'a [u8],
    said: Said,
    this_update: u64,
    next_update: Option<u64>,
}

/// The status as it stands in an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Said {
    Good,
    Revoked { since: u64, reason: &'static str },
    Unknown,
}

/// Why a response is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OcspError {
    /// Longer than any.
    #[error("{got} bytes are more than the {MAX_RESPONSE} of a response")]
    TooLong {
        /// Its length.
        got: usize,
    },
    /// Not DER, or another structure.
    #[error("not the DER of an OCSP response: {0}")]
    Der(der::ErrorKind),
    /// The responder answered with an error.
    #[error("the responder answered with error {0}")]
    Unsuccessful(u8),
    /// Its algorithm, or a certificate in it.
    #[error("{0}")]
    Certificate(CertificateError),
    /// Too many certificates.
    #[error("more than {MAX_CERTIFICATES} certificates")]
    TooManyCertificates,
    /// A critical extension that is not understood.
    #[error("the critical extension {0} is not understood here")]
    UnknownCritical(ObjectIdentifier),
    /// A certificate named by a hash function that is not followed here.
    #[error("it names the certificate by hashes of {0}: SHA-256, SHA-384 or SHA-512 is asked for")]
    Hash(ObjectIdentifier),
    /// Not signed by the certificate's issuer, nor by a delegate of it.
    #[error("neither the issuer nor a delegate of it signed the response")]
    Signature,
    /// A delegate without `id-kp-OCSPSigning`, out of force, or an authority.
    #[error("the delegate's certificate does not make it one: {0}")]
    Delegate(&'static str),
    /// It is of a later time.
    #[error("it was made later, on {}", when(*this_update))]
    NotYet {
        /// When.
        this_update: u64,
    },
    /// A newer answer was due.
    #[error("a newer answer was due on {}", when(*next_update))]
    Stale {
        /// When.
        next_update: u64,
    },
    /// It does not say how long it holds.
    #[error("it does not say until when it holds (nextUpdate)")]
    NoNextUpdate,
    /// The responder does not know the certificate.
    #[error("the responder does not know the certificate")]
    Unknown,
}

impl From<der::Error> for OcspError {
    fn from(error: der::Error) -> Self {
        Self::Der(error.kind())
    }
}

impl From<der::ErrorKind> for OcspError {
    fn from(kind: der::ErrorKind) -> Self {
        Self::Der(kind)
    }
}

impl From<CertificateError> for OcspError {
    fn from(error: CertificateError) -> Self {
        Self::Certificate(error)
    }
}

/// Whether DER starts as a response does: with its status, where a revocation list starts with what is signed.
pub fn is_response(der: &[u8]) -> bool {
    let inside = SliceReader::new(der).and_then(|mut reader| AnyRef::decode(&mut reader));
    inside.is_ok_and(|outer| outer.value().first() == Some(&0x0a))
}

impl<'a> Response<'a> {
    /// Reads a response, to its last byte.
    pub fn parse(der: &'a [u8]) -> Result<Self, OcspError> {
        if der.len() > MAX_RESPONSE {
            return Err(OcspError::TooLong { got: der.len() });
        }
        let basic = basic(der)?;
        let mut reader = SliceReader::new(basic)?;
        let (tbs, scheme, signature, certificates) = reader.sequence(|reader| -> Result<_, OcspError> {
            let tbs = reader.tlv_bytes()?;
            let scheme = scheme(reader.tlv_bytes()?)?;
            let signature = BitStringRef::decode(reader)?;
            let signature = signature.as_bytes().ok_or_else(|| Tag::BitString.value_error())?;
            Ok((tbs, scheme, signature, certificates(explicit(reader, 0)?)?))
        })?;
        reader.finish()?;
        let mut reader = SliceReader::new(tbs)?;
        let response = reader.sequence(|reader| -> Result<Self, OcspError> {
            if explicit(reader, 0)?.is_some() {
                // Version 1 is the only one, and DER leaves a default out.
                return Err(Tag::Integer.value_error().into());
            }
            let responder = responder(reader)?;
            let produced_at = time(reader)?;
            let answers = answers(AnyRef::decode(reader)?)?;
            refuse_critical(explicit(reader, 1)?)?;
            Ok(Self { tbs, scheme, signature, responder, produced_at, answers, certificates })
        })?;
        reader.finish()?;
        Ok(response)
    }

    /// From when to when the answer about the certificate `id` holds, in seconds since 1970; none where there is no answer. Nothing
    /// is verified.
    pub fn validity(&self, id: &CertificateId) -> Result<Option<(u64, u64)>, OcspError> {
        let is_it = |answer: &&Answer<'_>| {
            answer.hash == SHA384
                && answer.issuer_name_hash == id.issuer_name_hash
                && answer.issuer_key_hash == id.issuer_key_hash
                && answer.serial == id.serial
        };
        let Some(answer) = self.answers.iter().find(is_it) else { return Ok(None) };
        let to = answer.next_update.ok_or(OcspError::NoNextUpdate)?;
        Ok(Some((answer.this_update.max(self.produced_at), to)))
    }

    /// What `issuer` says of `certificate` here at `now` (seconds since 1970), if it says something. The issuer's own certificate is
    /// the caller's to check.
    pub fn status(
        &self,
        certificate: &Certificate<'_>,
        issuer: &Certificate<'_>,
        now: u64,
    ) -> Result<Option<Status>, OcspError> {
        // 1. The answer about this certificate.
        let mut found = None;
        for answer in self.answers.iter().filter(|answer| answer.serial == certificate.serial) {
            if answer.is_of(issuer)? {
                found = Some(answer);
            }
        }
        let Some(answer) = found else { return Ok(None) };
        // 2. Signed by who may.
        self.verify(issuer, now)?;
        // 3. Current.
        let this_update = answer.this_update;
        if now < this_update || now < self.produced_at {
            return Err(OcspError::NotYet { this_update: this_update.max(self.produced_at) });
        }
        let next_update = answer.next_update.ok_or(OcspError::NoNextUpdate)?;
        if now > next_update {
            return Err(OcspError::Stale { next_update });
        }
        // 4. What it says.
        match answer.said {
            Said::Good => Ok(Some(Status::Good { this_update })),
            Said::Revoked { since, reason } => Ok(Some(Status::Revoked { since, reason })),
            Said::Unknown => Err(OcspError::Unknown),
        }
    }

    /// RFC 6960 §4.2.2.2: signed by the issuer, or by a delegate that the issuer certified to be one.
    fn verify(&self, issuer: &Certificate<'_>, now: u64) -> Result<(), OcspError> {
        if self.is_signed_by(issuer) {
            return Ok(());
        }
        let delegate = self.certificates.iter().find(|certificate| self.is_signed_by(certificate));
        let delegate = delegate.ok_or(OcspError::Signature)?;
        if delegate.issuer != issuer.subject || delegate.verify_signature(issuer).is_err() {
            return Err(OcspError::Signature);
        }
        if !(delegate.not_before..=delegate.not_after).contains(&now) {
            return Err(OcspError::Delegate("it is out of force"));
        }
        if !is_for_ocsp(delegate)? {
            return Err(OcspError::Delegate("no extended key usage OCSPSigning"));
        }
        usage(0, delegate, &DELEGATE).map_err(|_| OcspError::Delegate("it may not sign"))
    }

    fn is_signed_by(&self, certificate: &Certificate<'_>) -> bool {
        self.responder.is_none_or(|name| name == certificate.subject)
            && crypto::verify(certificate.key, self.scheme, Form::Der, self.tbs, self.signature).is_ok()
    }
}

impl Answer<'_> {
    fn is_of(&self, issuer: &Certificate<'_>) -> Result<bool, OcspError> {
        let (PublicKey::P256(key) | PublicKey::P384(key) | PublicKey::Rsa(key)) = issuer.key;
        let digest = |bytes: &[u8]| match self.hash {
            SHA256 => Ok(Sha256::digest(bytes).to_vec()),
            SHA384 => Ok(Sha384::digest(bytes).to_vec()),
            SHA512 => Ok(Sha512::digest(bytes).to_vec()),
            other => Err(OcspError::Hash(other)),
        };
        Ok(self.issuer_name_hash == digest(issuer.subject)? && self.issuer_key_hash == digest(key)?)
    }
}

/// `OCSPResponse`: a status, and the bytes of a basic response.
fn basic(der: &[u8]) -> Result<&[u8], OcspError> {
    let mut reader = SliceReader::new(der)?;
    let basic = reader.sequence(|reader| -> Result<_, OcspError> {
        let status = AnyRef::decode(reader)?;
        match (status.tag(), status.value()) {
            (Tag::Enumerated, [0]) => {}
            (Tag::Enumerated, [status]) => return Err(OcspError::Unsuccessful(*status)),
            _ => return Err(Tag::Enumerated.value_error().into()),
        }
        let bytes = explicit(reader, 0)?.ok_or_else(|| Tag::Sequence.value_error())?;
        bytes.tag().assert_eq(Tag::Sequence)?;
        let mut inner = SliceReader::new(bytes.value())?;
        if ObjectIdentifier::decode(&mut inner)? != BASIC {
            return Err(Tag::ObjectIdentifier.value_error().into());
        }
        let basic = <&OctetStringRef>::decode(&mut inner)?.as_bytes();
        inner.finish()?;
        Ok(basic)
    })?;
    reader.finish()?;
    Ok(basic)
}

fn certificates(list: Option<AnyRef<'_>>) -> Result<Vec<Certificate<'_>>, OcspError> {
    let Some(list) = list else { return Ok(Vec::new()) };
    list.tag().assert_eq(Tag::Sequence)?;
    let mut reader = SliceReader::new(list.value())?;
    let mut certificates = Vec::new();
    while !reader.is_finished() {
        if certificates.len() == MAX_CERTIFICATES {
            return Err(OcspError::TooManyCertificates);
        }
        certificates.push(Certificate::parse(reader.tlv_bytes()?)?);
    }
    Ok(certificates)
}

/// The responder's name; one named by its key's SHA-1 is known by its signature alone.
fn responder<'a>(reader: &mut SliceReader<'a>) -> Result<Option<&'a [u8]>, OcspError> {
    if Tag::peek(reader)? == (Tag::ContextSpecific { constructed: true, number: TagNumber(1) }) {
        let mut inner = SliceReader::new(AnyRef::decode(reader)?.value())?;
        let by_name = name(&mut inner)?;
        inner.finish()?;
        return Ok(Some(by_name));
    }
    let by_key = explicit(reader, 2)?.ok_or_else(|| Tag::Sequence.value_error())?;
    by_key.tag().assert_eq(Tag::OctetString)?;
    Ok(None)
}

fn answers(list: AnyRef<'_>) -> Result<Vec<Answer<'_>>, OcspError> {
    list.tag().assert_eq(Tag::Sequence)?;
    let mut reader = SliceReader::new(list.value())?;
    let mut answers = Vec::new();
    while !reader.is_finished() {
        answers.push(reader.sequence(answer)?);
    }
    Ok(answers)
}

fn answer<'a>(reader: &mut SliceReader<'a>) -> Result<Answer<'a>, OcspError> {
    let (hash, issuer_name_hash, issuer_key_hash, serial) = reader.sequence(|reader| -> der::Result<_> {
        let hash = reader.sequence(|reader| -> der::Result<_> {
            let hash = ObjectIdentifier::decode(reader)?;
            if !reader.is_finished() {
                Null::decode(reader)?;
            }
            Ok(hash)
        })?;
        let name = <&OctetStringRef>::decode(reader)?.as_bytes();
        let key = <&OctetStringRef>::decode(reader)?.as_bytes();
        let serial = AnyRef::decode(reader)?;
        serial.tag().assert_eq(Tag::Integer)?;
        Ok((hash, name, key, serial.value()))
    })?;
    let said = said(AnyRef::decode(reader)?)?;
    let this_update = time(reader)?;
    let next_update = explicit(reader, 0)?.map(GeneralizedTime::try_from).transpose()?;
    let next_update = next_update.map(|time| time.to_unix_duration().as_secs());
    refuse_critical(explicit(reader, 1)?)?;
    Ok(Answer { hash, issuer_name_hash, issuer_key_hash, serial, said, this_update, next_update })
}

/// `CertStatus`.
fn said(status: AnyRef<'_>) -> der::Result<Said> {
    let Tag::ContextSpecific { constructed, number } = status.tag() else {
        return Err(status.tag().value_error().into());
    };
    match (number.0, constructed, status.value()) {
        (0, false, []) => Ok(Said::Good),
        (2, false, []) => Ok(Said::Unknown),
        (1, true, value) => {
            let mut reader = SliceReader::new(value)?;
            let since = time(&mut reader)?;
            let reason = match explicit(&mut reader, 0)? {
                None => "no reason given",
                Some(reason) => {
                    reason.tag().assert_eq(Tag::Enumerated)?;
                    revocation_reason(reason.value())
                }
            };
            reader.finish()?;
            Ok(Said::Revoked { since, reason })
        }
        _ => Err(status.tag().value_error().into()),
    }
}

/// RFC 5280 §5.3.1.
fn revocation_reason(code: &[u8]) -> &'static str {
    match code {
        [0] => "unspecified",
        [1] => "keyCompromise",
        [2] => "cACompromise",
        [3] => "affiliationChanged",
        [4] => "superseded",
        [5] => "cessationOfOperation",
        [6] => "certificateHold",
        [8] => "removeFromCRL",
        [9] => "privilegeWithdrawn",
        [10] => "aACompromise",
        _ => "a reason that is not known here",
    }
}

/// Whether the extended key usage names `id-kp-OCSPSigning`.
fn is_for_ocsp(certificate: &Certificate<'_>) -> der::Result<bool> {
    let Some(value) = certificate.extension(EXTENDED_KEY_USAGE) else { return Ok(false) };
    let mut reader = SliceReader::new(value)?;
    let found = reader.sequence(|reader| -> der::Result<bool> {
        let mut found = false;
        while !reader.is_finished() {
            found |= ObjectIdentifier::decode(reader)? == OCSP_SIGNING;
        }
        Ok(found)
    })?;
    reader.finish()?;
    Ok(found)
}

fn refuse_critical(list: Option<AnyRef<'_>>) -> Result<(), OcspError> {
    match list.map(unknown_critical).transpose()?.flatten() {
        Some(id) => Err(OcspError::UnknownCritical(id)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
