//! Certificate revocation lists (RFC 5280 §5), complete ones, of version 2.

use der::asn1::{AnyRef, ObjectIdentifier};
use der::{Decode as _, Reader as _, SliceReader, Tag, Tagged as _};
use hallmark_receipt::time::when;

use super::certificate::{
    Certificate, CertificateError, Signed, explicit, name, name_text, scheme, time, unknown_critical,
};
use super::chain::may_sign_lists;
use crate::crypto::{self, Form, Scheme};

/// The most bytes of a list.
pub const MAX_CRL: usize = 1 << 20;

/// A list; it borrows the bytes that it was read from. It counts once [`Crl::verify`] has passed.
#[derive(Clone, Debug, PartialEq)]
pub struct Crl<'a> {
    /// The signed part, as it stands in the list.
    pub tbs: &'a [u8],
    /// The issuer's name, DER.
    pub issuer: &'a [u8],
    /// When it was made, in seconds since 1970.
    pub this_update: u64,
    /// When the next one is due.
    pub next_update: u64,
    revoked: &'a [u8],
    /// How it is signed.
    pub scheme: Scheme,
    /// The signature.
    pub signature: &'a [u8],
}

/// Why a list is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CrlError {
    /// Longer than any.
    #[error("{got} bytes are more than the {MAX_CRL} of a revocation list")]
    TooLong {
        /// Its length.
        got: usize,
    },
    /// Not DER, or another structure.
    #[error("not the DER of a revocation list: {0}")]
    Der(der::ErrorKind),
    /// Not version 2.
    #[error("not of version 2")]
    Version,
    /// Its algorithm.
    #[error("{0}")]
    Algorithm(CertificateError),
    /// A critical extension that is not understood, as of partial lists.
    #[error("the critical extension {0} is not understood here")]
    UnknownCritical(ObjectIdentifier),
    /// Another authority's.
    #[error("another authority's list")]
    Issuer,
    /// An authority that may not sign lists.
    #[error("its issuer's keyUsage lacks cRLSign")]
    KeyUsage,
    /// The authority's key did not sign it.
    #[error("it is not signed by its issuer's key")]
    Signature,
    /// It is of a later time.
    #[error("it was made later, on {}", when(*this_update))]
    NotYet {
        /// When.
        this_update: u64,
    },
    /// The next list was due.
    #[error("the next list was due on {}", when(*next_update))]
    Stale {
        /// When.
        next_update: u64,
    },
}

impl From<der::Error> for CrlError {
    fn from(error: der::Error) -> Self {
        Self::Der(error.kind())
    }
}

impl<'a> Crl<'a> {
    /// Reads a list, to its last byte.
    pub fn parse(der: &'a [u8]) -> Result<Self, CrlError> {
        if der.len() > MAX_CRL {
            return Err(CrlError::TooLong { got: der.len() });
        }
        let Signed { tbs, algorithm, signature } = Signed::read(der)?;
        let mut reader = SliceReader::new(tbs)?;
        let crl = reader.sequence(|reader| -> Result<Self, CrlError> {
            if Tag::peek(reader)? != Tag::Integer || u8::decode(reader)? != 1 {
                return Err(CrlError::Version);
            }
            if reader.tlv_bytes()? != algorithm {
                return Err(CrlError::Algorithm(CertificateError::AlgorithmDiffers));
            }
            let issuer = name(reader)?;
            let this_update = time(reader)?;
            let next_update = time(reader)?;
            let revoked = match reader.is_finished() {
                false if Tag::peek(reader)? == Tag::Sequence => AnyRef::decode(reader)?.value(),
                _ => &[],
            };
            if let Some(list) = explicit(reader, 0)? {
                refuse_critical(list)?;
            }
            let scheme = scheme(algorithm).map_err(CrlError::Algorithm)?;
            Ok(Self { tbs, issuer, this_update, next_update, revoked, scheme, signature })
        })?;
        reader.finish()?;
        // Every entry can be read, so that later searches cannot fail.
        let mut entries = SliceReader::new(crl.revoked)?;
        let mut last = None;
        while !entries.is_finished() {
            let Entry { extensions, .. } = entry(&mut entries)?;
            // Of reasons and the like no use is made; an entry of another authority's certificate would say so critically. Most say
            // the same.
            if let Some(list) = extensions.filter(|_| extensions != last) {
                refuse_critical(AnyRef::from_der(list)?)?;
            }
            last = extensions;
        }
        Ok(crl)
    }

    /// `issuer` made the list, and it is the current one at `now` (seconds since 1970). The issuer's own certificate is the
    /// caller's to check.
    pub fn verify(&self, issuer: &Certificate<'_>, now: u64) -> Result<(), CrlError> {
        if self.issuer != issuer.subject {
            return Err(CrlError::Issuer);
        }
        if !may_sign_lists(issuer) {
            return Err(CrlError::KeyUsage);
        }
        crypto::verify(issuer.key, self.scheme, Form::Der, self.tbs, self.signature)
            .map_err(|_| CrlError::Signature)?;
        if now < self.this_update {
            return Err(CrlError::NotYet { this_update: self.this_update });
        }
        if now > self.next_update {
            return Err(CrlError::Stale { next_update: self.next_update });
        }
        Ok(())
    }

    /// The issuer in words: its common name, else the hexadecimal digits of its DER.
    pub fn issuer_text(&self) -> String {
        name_text(self.issuer)
    }

    /// When the certificate of this serial number was revoked, if it was.
    pub fn revocation(&self, serial: &[u8]) -> Option<u64> {
        let mut entries = SliceReader::new(self.revoked).ok()?;
        while !entries.is_finished() {
            let whole = entries.tlv_bytes().ok()?;
            // Times are read of the one alone.
            let mut inside = SliceReader::new(AnyRef::from_der(whole).ok()?.value()).ok()?;
            if AnyRef::decode(&mut inside).ok()?.value() == serial {
                return entry(&mut SliceReader::new(whole).ok()?).ok().map(|entry| entry.time);
            }
        }
        None
    }
}

/// One revoked certificate, of the serial number that stands first.
struct Entry<'a> {
    time: u64,
    /// DER, if there are any.
    extensions: Option<&'a [u8]>,
}

fn entry<'a>(reader: &mut SliceReader<'a>) -> Result<Entry<'a>, CrlError> {
    reader.sequence(|reader| {
        AnyRef::decode(reader)?.tag().assert_eq(Tag::Integer)?;
        let time = time(reader)?;
        let extensions = (!reader.is_finished()).then(|| reader.tlv_bytes()).transpose()?;
        Ok(Entry { time, extensions })
    })
}

fn refuse_critical(list: AnyRef<'_>) -> Result<(), CrlError> {
    match unknown_critical(list)? {
        Some(id) => Err(CrlError::UnknownCritical(id)),
        None => Ok(()),
    }
}

/// The most URLs that are taken from one certificate, and the most bytes of one.
const MAX_URLS: usize = 8;
const MAX_URL: usize = 400;
const DISTRIBUTION_POINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.31");

/// Where a certificate says that its issuer's list can be had (RFC 5280 §4.2.1.13): the URLs of its distribution points. Whoever made
/// the certificate chose them.
pub fn distribution_points<'a>(certificate: &Certificate<'a>) -> Result<Vec<&'a str>, CrlError> {
    let mut urls = Vec::new();
    let Some(value) = certificate.extension(DISTRIBUTION_POINTS) else { return Ok(urls) };
    let list = AnyRef::from_der(value)?;
    list.tag().assert_eq(Tag::Sequence)?;
    let mut points = SliceReader::new(list.value())?;
    while !points.is_finished() {
        let point = AnyRef::decode(&mut points)?;
        point.tag().assert_eq(Tag::Sequence)?;
        // distributionPoint [0], fullName [0], names; what else a point may have names reasons and other issuers.
        let mut point = SliceReader::new(point.value())?;
        let Some(full) = inside(&mut point)? else { continue };
        let Some(names) = inside(&mut SliceReader::new(full)?)? else { continue };
        let mut names = SliceReader::new(names)?;
        while !names.is_finished() {
            let name = AnyRef::decode(&mut names)?;
            let is_url = name.tag() == Tag::ContextSpecific { constructed: false, number: der::TagNumber(6) };
            let url = std::str::from_utf8(name.value()).ok().filter(|url| is_url && url.len() <= MAX_URL);
            urls.extend(url.filter(|_| urls.len() < MAX_URLS));
        }
    }
    Ok(urls)
}

/// The content of the constructed context tag 0, if that stands here.
fn inside<'a>(reader: &mut SliceReader<'a>) -> der::Result<Option<&'a [u8]>> {
    let tag = Tag::ContextSpecific { constructed: true, number: der::TagNumber(0) };
    if reader.is_finished() || Tag::peek(reader)? != tag {
        return Ok(None);
    }
    Ok(Some(AnyRef::decode(reader)?.value()))
}
