//! One certificate, read strictly: DER, version 3, every byte accounted for.

use der::asn1::{AnyRef, BitStringRef, GeneralizedTime, ObjectIdentifier, OctetStringRef, UtcTime};
use der::{Decode as _, Reader, SliceReader, Tag, TagNumber, Tagged as _};

use crate::crypto::{self, Form, Mismatch, PublicKey, Scheme};

/// The most bytes of a certificate.
pub const MAX_CERTIFICATE: usize = 16 << 10;
/// The most extensions of one.
const MAX_EXTENSIONS: usize = 64;

/// A certificate; it borrows the bytes that it was read from.
#[derive(Clone, Debug, PartialEq)]
pub struct Certificate<'a> {
    /// All of it.
    pub der: &'a [u8],
    /// The signed part, as it stands in the certificate.
    pub tbs: &'a [u8],
    /// The serial number: the content of its INTEGER.
    pub serial: &'a [u8],
    /// The issuer's name, DER.
    pub issuer: &'a [u8],
    /// The subject's name, DER.
    pub subject: &'a [u8],
    /// First second of its validity, since 1970.
    pub not_before: u64,
    /// Last second of its validity.
    pub not_after: u64,
    /// The key that it certifies.
    pub key: PublicKey<'a>,
    /// The certified key as `SubjectPublicKeyInfo`, DER.
    pub spki: &'a [u8],
    /// The extensions, in order.
    pub extensions: Vec<Extension<'a>>,
    /// How it is signed.
    pub scheme: Scheme,
    /// The signature.
    pub signature: &'a [u8],
}

/// One extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension<'a> {
    /// Its identifier.
    pub id: ObjectIdentifier,
    /// Whether who does not know it must refuse.
    pub critical: bool,
    /// Its value: the content of the OCTET STRING.
    pub value: &'a [u8],
}

/// Why a certificate is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// Longer than any.
    #[error("{got} bytes are more than the {MAX_CERTIFICATE} of a certificate")]
    TooLong {
        /// Its length.
        got: usize,
    },
    /// Not DER, or another structure.
    #[error("not the DER of a certificate: {0}")]
    Der(der::ErrorKind),
    /// Not version 3.
    #[error("not of version 3")]
    Version,
    /// The algorithm beside the signature is not the one inside the signed part.
    #[error("the algorithm beside the signature is not the signed one")]
    AlgorithmDiffers,
    /// A signature algorithm that no maker of such hardware uses.
    #[error("unknown signature algorithm")]
    Algorithm,
    /// A key that is none of P-256, P-384 or RSA.
    #[error("unknown kind of key")]
    Key,
    /// The same extension twice.
    #[error("extension {0} stands twice")]
    DuplicateExtension(ObjectIdentifier),
    /// More extensions than any.
    #[error("more than {MAX_EXTENSIONS} extensions")]
    TooManyExtensions,
}

impl From<der::Error> for CertificateError {
    fn from(error: der::Error) -> Self {
        Self::Der(error.kind())
    }
}

const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const PRIME256V1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const SECP384R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const ECDSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
const RSASSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");
const SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
const MGF1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.8");

impl<'a> Certificate<'a> {
    /// Reads a certificate, to its last byte.
    pub fn parse(der: &'a [u8]) -> Result<Self, CertificateError> {
        if der.len() > MAX_CERTIFICATE {
            return Err(CertificateError::TooLong { got: der.len() });
        }
        let Signed { tbs, algorithm, signature } = Signed::read(der)?;
        let mut reader = SliceReader::new(tbs)?;
        let mut certificate = reader.sequence(|tbs_reader| -> Result<Self, CertificateError> {
            let version = explicit(tbs_reader, 0)?.map(u8::try_from).transpose()?;
            if version != Some(2) {
                return Err(CertificateError::Version);
            }
            let serial = AnyRef::decode(tbs_reader)?;
            serial.tag().assert_eq(Tag::Integer)?;
            if tbs_reader.tlv_bytes()? != algorithm {
                return Err(CertificateError::AlgorithmDiffers);
            }
            let issuer = name(tbs_reader)?;
            let (not_before, not_after) = tbs_reader
                .sequence(|validity| -> der::Result<_> { Ok((time(validity)?, time(validity)?)) })?;
            let subject = name(tbs_reader)?;
            let spki = tbs_reader.tlv_bytes()?;
            let extensions = explicit(tbs_reader, 3)?.map_or_else(|| Ok(Vec::new()), extensions)?;
            Ok(Self {
                der,
                tbs,
                serial: serial.value(),
                issuer,
                subject,
                not_before,
                not_after,
                key: public_key(spki)?,
                spki,
                extensions,
                scheme: scheme(algorithm)?,
                signature: &[],
            })
        })?;
        reader.finish()?;
        certificate.signature = signature;
        Ok(certificate)
    }

    /// The value of the extension `id`.
    pub fn extension(&self, id: ObjectIdentifier) -> Option<&'a [u8]> {
        self.extensions.iter().find(|extension| extension.id == id).map(|extension| extension.value)
    }

    /// Whether `issuer`'s key signed it.
    pub fn verify_signature(&self, issuer: &Certificate<'_>) -> Result<(), Mismatch> {
        crypto::verify(issuer.key, self.scheme, Form::Der, self.tbs, self.signature)
    }

    /// The subject in words: its common name, else the hexadecimal digits of its DER.
    pub fn subject_text(&self) -> String {
        name_text(self.subject)
    }

    /// The issuer in words, likewise.
    pub fn issuer_text(&self) -> String {
        name_text(self.issuer)
    }
}

/// What certificates and revocation lists share: a signed part, its algorithm and the signature.
pub(super) struct Signed<'a> {
    pub tbs: &'a [u8],
    pub algorithm: &'a [u8],
    pub signature: &'a [u8],
}

impl<'a> Signed<'a> {
    /// Reads the three parts, to the last byte.
    pub fn read(der: &'a [u8]) -> der::Result<Self> {
        let mut reader = SliceReader::new(der)?;
        let signed = reader.sequence(|outer| -> der::Result<_> {
            let tbs = outer.tlv_bytes()?;
            let algorithm = outer.tlv_bytes()?;
            let signature = whole_bytes(BitStringRef::decode(outer)?)?;
            Ok(Self { tbs, algorithm, signature })
        })?;
        reader.finish()?;
        Ok(signed)
    }
}

/// The item inside the explicit context tag `number`, if that stands here.
pub(super) fn explicit<'a>(reader: &mut SliceReader<'a>, number: u32) -> der::Result<Option<AnyRef<'a>>> {
    let tag = Tag::ContextSpecific { constructed: true, number: TagNumber(number) };
    if reader.is_finished() || Tag::peek(reader)? != tag {
        return Ok(None);
    }
    AnyRef::from_der(AnyRef::decode(reader)?.value()).map(Some)
}

/// The first critical extension of a list in which no extension is followed.
pub(super) fn unknown_critical(list: AnyRef<'_>) -> der::Result<Option<ObjectIdentifier>> {
    list.tag().assert_eq(Tag::Sequence)?;
    let mut reader = SliceReader::new(list.value())?;
    let mut found = None;
    while !reader.is_finished() {
        reader.sequence(|reader| -> der::Result<()> {
            let id = ObjectIdentifier::decode(reader)?;
            if Tag::peek(reader)? == Tag::Boolean && bool::decode(reader)? {
                found = found.or(Some(id));
            }
            <&OctetStringRef>::decode(reader).map(|_| ())
        })?;
    }
    Ok(found)
}

/// A name: its DER.
pub(super) fn name<'a>(reader: &mut SliceReader<'a>) -> der::Result<&'a [u8]> {
    Tag::peek(reader)?.assert_eq(Tag::Sequence)?;
    reader.tlv_bytes()
}

/// Seconds since 1970 of a `Time`.
pub(super) fn time(reader: &mut SliceReader<'_>) -> der::Result<u64> {
    match Tag::peek(reader)? {
        Tag::UtcTime => Ok(UtcTime::decode(reader)?.to_unix_duration().as_secs()),
        _ => Ok(GeneralizedTime::decode(reader)?.to_unix_duration().as_secs()),
    }
}

/// The signature scheme of an `AlgorithmIdentifier`, its parameters checked.
pub(super) fn scheme(algorithm: &[u8]) -> Result<Scheme, CertificateError> {
    let mut reader = SliceReader::new(algorithm)?;
    let (id, parameters) = identifier(&mut reader)?;
    match (id, parameters) {
        (ECDSA_SHA256, None) => Ok(Scheme::EcdsaP256),
        (ECDSA_SHA384, None) => Ok(Scheme::EcdsaP384),
        (RSASSA_PSS, Some(parameters)) if is_pss_384(parameters)? => Ok(Scheme::RsaPss384),
        _ => Err(CertificateError::Algorithm),
    }
}

fn identifier<'a>(reader: &mut SliceReader<'a>) -> der::Result<(ObjectIdentifier, Option<AnyRef<'a>>)> {
    reader.sequence(|reader| -> der::Result<_> {
        let id = ObjectIdentifier::decode(reader)?;
        let parameters = if reader.is_finished() { None } else { Some(AnyRef::decode(reader)?) };
        Ok((id, parameters))
    })
}

/// RFC 4055: SHA-384, MGF1 with SHA-384, a salt of 48 bytes, trailer 1 (said or left out).
fn is_pss_384(parameters: AnyRef<'_>) -> der::Result<bool> {
    parameters.tag().assert_eq(Tag::Sequence)?;
    let mut reader = SliceReader::new(parameters.value())?;
    let is_sha384 = |content: &[u8]| -> der::Result<bool> {
        let mut reader = SliceReader::new(content)?;
        let id = ObjectIdentifier::decode(&mut reader)?;
        let null = reader.is_finished() || AnyRef::decode(&mut reader)?.is_null();
        reader.finish()?;
        Ok(id == SHA384 && null)
    };
    let (Some(hash), Some(mask), Some(salt)) =
        (explicit(&mut reader, 0)?, explicit(&mut reader, 1)?, explicit(&mut reader, 2)?)
    else {
        return Ok(false);
    };
    let trailer = explicit(&mut reader, 3)?;
    reader.finish()?;
    let mut mask = SliceReader::new(mask.value())?;
    let generator = ObjectIdentifier::decode(&mut mask)?;
    let inner = AnyRef::decode(&mut mask)?;
    mask.finish()?;
    Ok(is_sha384(hash.value())?
        && generator == MGF1
        && is_sha384(inner.value())?
        && u8::try_from(salt)? == 48
        && trailer.is_none_or(|trailer| trailer.value() == [1]))
}

/// The key of a `SubjectPublicKeyInfo`.
pub fn public_key(spki: &[u8]) -> Result<PublicKey<'_>, CertificateError> {
    let mut reader = SliceReader::new(spki)?;
    let key = reader.sequence(|reader| -> Result<_, CertificateError> {
        let (id, parameters) = identifier(reader)?;
        let bits = whole_bytes(BitStringRef::decode(reader)?)?;
        let curve = parameters.filter(|_| id == EC_PUBLIC_KEY).map(ObjectIdentifier::try_from).transpose()?;
        let uncompressed = bits.first() == Some(&4);
        match (id, curve, bits.len()) {
            (EC_PUBLIC_KEY, Some(PRIME256V1), 65) if uncompressed => Ok(PublicKey::P256(bits)),
            (EC_PUBLIC_KEY, Some(SECP384R1), 97) if uncompressed => Ok(PublicKey::P384(bits)),
            (RSA_ENCRYPTION, None, _) if parameters.is_some_and(|any| any.is_null()) => {
                Ok(PublicKey::Rsa(bits))
            }
            _ => Err(CertificateError::Key),
        }
    })?;
    reader.finish()?;
    Ok(key)
}

fn extensions(list: AnyRef<'_>) -> Result<Vec<Extension<'_>>, CertificateError> {
    list.tag().assert_eq(Tag::Sequence)?;
    let mut reader = SliceReader::new(list.value())?;
    let mut extensions: Vec<Extension<'_>> = Vec::new();
    while !reader.is_finished() {
        let extension = reader.sequence(|reader| -> der::Result<_> {
            let id = ObjectIdentifier::decode(reader)?;
            let critical = if Tag::peek(reader)? == Tag::Boolean { bool::decode(reader)? } else { false };
            let value = <&OctetStringRef>::decode(reader)?.as_bytes();
            Ok(Extension { id, critical, value })
        })?;
        if extensions.iter().any(|earlier| earlier.id == extension.id) {
            return Err(CertificateError::DuplicateExtension(extension.id));
        }
        if extensions.len() == MAX_EXTENSIONS {
            return Err(CertificateError::TooManyExtensions);
        }
        extensions.push(extension);
    }
    Ok(extensions)
}

/// A bit string of whole bytes.
fn whole_bytes(bits: BitStringRef<'_>) -> der::Result<&[u8]> {
    bits.as_bytes().ok_or_else(|| Tag::BitString.value_error().into())
}

/// A name in words: its common name, else the hexadecimal digits of its DER.
pub(super) fn name_text(name: &[u8]) -> String {
    common_name(name).unwrap_or_else(|| hallmark_receipt::wire::to_hex(name))
}

/// The last common name in a name.
fn common_name(name: &[u8]) -> Option<String> {
    const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
    let mut reader = SliceReader::new(name).ok()?;
    let mut found = None;
    reader
        .sequence(|names| -> der::Result<()> {
            while !names.is_finished() {
                let set = AnyRef::decode(names)?;
                let mut parts = SliceReader::new(set.value())?;
                let (id, value) = identifier(&mut parts)?;
                if let (COMMON_NAME, Some(value)) = (id, value) {
                    found = std::str::from_utf8(value.value()).ok().map(str::to_owned);
                }
            }
            Ok(())
        })
        .ok()?;
    found
}
