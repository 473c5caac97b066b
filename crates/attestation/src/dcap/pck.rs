//! The SGX extension of a platform's certificate (PCK): which platform it is, and the security versions that its key stands for
//! (Intel, "SGX PCK Certificate and Certificate Revocation List Profile Specification").

use der::asn1::{AnyRef, ObjectIdentifier, OctetStringRef};
use der::{Decode as _, Reader as _, SliceReader, Tag, Tagged as _};
use hallmark_receipt::json::{Object, Value};

use super::body::fields;
use crate::x509::Certificate;

/// What the extension says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Platform<'a> {
    /// The platform's identifier.
    pub ppid: &'a [u8],
    /// Security versions of the 16 components of the processor and its firmware.
    pub components: [u8; 16],
    /// Security version of the provisioning certification enclave.
    pub pce_svn: u16,
    /// The provisioning certification enclave.
    pub pce_id: &'a [u8; 2],
    /// Family, model, stepping, platform type and custom product.
    pub fmspc: &'a [u8; 6],
    /// 0: standard, 1: scalable, 2: scalable with integrity.
    pub sgx_type: u8,
    /// The instance, of platforms with more than one processor.
    pub instance_id: Option<&'a [u8]>,
    /// Whether processors may be added.
    pub dynamic: Option<bool>,
    /// Whether Intel keeps the platform's root keys.
    pub cached_keys: Option<bool>,
    /// Whether threads share cores.
    pub smt: Option<bool>,
}

/// Why there is no such extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlatformError {
    /// The certificate does not have it.
    #[error("the leaf is no platform's certificate: it has no SGX extension")]
    Absent,
    /// Not DER, or another structure.
    #[error("the SGX extension is not of its form: {0}")]
    Der(der::ErrorKind),
    /// A member that is missing.
    #[error("the SGX extension lacks {0}")]
    Missing(&'static str),
    /// A member that stands twice.
    #[error("the SGX extension has {0} twice")]
    Duplicate(ObjectIdentifier),
}

impl From<der::Error> for PlatformError {
    fn from(error: der::Error) -> Self {
        Self::Der(error.kind())
    }
}

const SGX: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1");
const PPID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.1");
const TCB: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.2");
const PCE_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.3");
const FMSPC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.4");
const SGX_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.5");
const INSTANCE_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.6");
const CONFIGURATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1.7");

/// Whether the certificate has the extension.
pub fn is_platform(certificate: &Certificate<'_>) -> bool {
    certificate.extension(SGX).is_some()
}

impl<'a> Platform<'a> {
    /// Reads the extension of a certificate.
    pub fn of(certificate: &Certificate<'a>) -> Result<Self, PlatformError> {
        let members = members(certificate.extension(SGX).ok_or(PlatformError::Absent)?)?;
        let tcb = find(&members, TCB, "TCB")?;
        let tcb = members_of(tcb)?;
        let mut components = [0; 16];
        for (number, component) in (1..).zip(&mut components) {
            *component = u8::try_from(numbered(&tcb, TCB, number)?)?;
        }
        let configuration = optional(&members, CONFIGURATION).map(members_of).transpose()?;
        let flag = |number: u32| -> Result<Option<bool>, PlatformError> {
            let Some(configuration) = &configuration else { return Ok(None) };
            Ok(child(CONFIGURATION, number)
                .and_then(|id| optional(configuration, id))
                .map(bool::try_from)
                .transpose()?)
        };
        Ok(Self {
            ppid: octets(find(&members, PPID, "PPID")?)?,
            components,
            pce_svn: u16::try_from(numbered(&tcb, TCB, 17)?)?,
            pce_id: exactly(octets(find(&members, PCE_ID, "PCEID")?)?, "PCEID")?,
            fmspc: exactly(octets(find(&members, FMSPC, "FMSPC")?)?, "FMSPC")?,
            sgx_type: enumerated(find(&members, SGX_TYPE, "the SGX type")?)?,
            instance_id: optional(&members, INSTANCE_ID).map(octets).transpose()?,
            dynamic: flag(1)?,
            cached_keys: flag(2)?,
            smt: flag(3)?,
        })
    }

    /// Every field, decoded.
    pub fn fields(&self) -> Object {
        let mut bytes: Vec<(&str, &[u8])> = vec![
            ("ppid", self.ppid),
            ("components", &self.components),
            ("pce_id", self.pce_id),
            ("fmspc", self.fmspc),
        ];
        bytes.extend(self.instance_id.map(|id| ("instance_id", id)));
        let numbers = [("pce_svn", u64::from(self.pce_svn)), ("sgx_type", self.sgx_type.into())];
        let mut object = fields(&bytes, &numbers, []);
        let flags = [("dynamic", self.dynamic), ("cached_keys", self.cached_keys), ("smt", self.smt)];
        object
            .extend(flags.into_iter().filter_map(|(name, flag)| Some((name.to_owned(), Value::Bool(flag?)))));
        object
    }
}

/// The members of a sequence of pairs: identifier and value.
type Members<'a> = Vec<(ObjectIdentifier, AnyRef<'a>)>;

fn members(value: &[u8]) -> Result<Members<'_>, PlatformError> {
    members_of(AnyRef::from_der(value)?)
}

fn members_of(sequence: AnyRef<'_>) -> Result<Members<'_>, PlatformError> {
    sequence.tag().assert_eq(Tag::Sequence)?;
    let mut reader = SliceReader::new(sequence.value())?;
    let mut members: Members<'_> = Vec::new();
    while !reader.is_finished() {
        let member = reader.sequence(|pair| -> der::Result<_> {
            Ok((ObjectIdentifier::decode(pair)?, AnyRef::decode(pair)?))
        })?;
        if members.iter().any(|(id, _)| *id == member.0) {
            return Err(PlatformError::Duplicate(member.0));
        }
        members.push(member);
    }
    Ok(members)
}

fn optional<'a>(members: &Members<'a>, id: ObjectIdentifier) -> Option<AnyRef<'a>> {
    members.iter().find(|(found, _)| *found == id).map(|(_, value)| *value)
}

fn find<'a>(
    members: &Members<'a>,
    id: ObjectIdentifier,
    name: &'static str,
) -> Result<AnyRef<'a>, PlatformError> {
    optional(members, id).ok_or(PlatformError::Missing(name))
}

fn child(parent: ObjectIdentifier, number: u32) -> Option<ObjectIdentifier> {
    parent.push_arc(number).ok()
}

fn numbered<'a>(
    members: &Members<'a>,
    parent: ObjectIdentifier,
    number: u32,
) -> Result<AnyRef<'a>, PlatformError> {
    child(parent, number)
        .and_then(|id| optional(members, id))
        .ok_or(PlatformError::Missing("a security version"))
}

fn octets(value: AnyRef<'_>) -> Result<&[u8], PlatformError> {
    Ok(<&OctetStringRef>::try_from(value)?.as_bytes())
}

fn exactly<'a, const N: usize>(bytes: &'a [u8], name: &'static str) -> Result<&'a [u8; N], PlatformError> {
    bytes.try_into().map_err(|_| PlatformError::Missing(name))
}

fn enumerated(value: AnyRef<'_>) -> Result<u8, PlatformError> {
    value.tag().assert_eq(Tag::Enumerated)?;
    match value.value() {
        [number] => Ok(*number),
        _ => Err(PlatformError::Missing("the SGX type")),
    }
}
