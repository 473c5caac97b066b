//! What a device's certificate says of its firmware: TCG DICE extensions (`attestation.md` §7.3).
//!
//! Hopper and its switches carry `CompositeDeviceID` under 2.23.133.5.4.1 (TCG DICE of 2018), later devices `DiceTcbInfo` (DICE
//! Attestation Architecture 1.2, appendix A) under 2.23.133.5.4.1 or its alias 2.23.133.5.4.1.1.

use der::asn1::{AnyRef, ObjectIdentifier, OctetStringRef};
use der::{Decode as _, Reader as _, SliceReader, Tag, TagNumber, Tagged as _};
use hallmark_receipt::json::{Object, Value, object};
use hallmark_receipt::wire::to_hex;

use crate::x509::Certificate;

/// `tcg-dice-TcbInfo`.
pub const TCB_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.5.4.1");
/// Its alias, which later devices use.
pub const TCB_INFO_ALIAS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.5.4.1.1");

const NOT_SECURE: u8 = 0x40;
const RECOVERY: u8 = 0x20;
const DEBUG: u8 = 0x10;

/// The firmware's identity and state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Firmware<'a> {
    /// Its digest, the first of the list.
    pub id: Option<&'a [u8]>,
    /// The first eight flags (`OperationalFlags`), where the certificate has them.
    pub flags: Option<u8>,
}

impl<'a> Firmware<'a> {
    /// What `certificate` says, if it says something.
    pub fn of(certificate: &Certificate<'a>) -> der::Result<Option<Self>> {
        let value = certificate.extension(TCB_INFO_ALIAS).or_else(|| certificate.extension(TCB_INFO));
        value.map(Self::parse).transpose()
    }

    /// Reads an extension's value, to its last byte.
    pub fn parse(value: &'a [u8]) -> der::Result<Self> {
        let mut reader = SliceReader::new(value)?;
        let firmware = reader.sequence(|reader| -> der::Result<_> {
            let composite = !reader.is_finished() && Tag::peek(reader)? == Tag::Integer;
            if composite { composite_device_id(reader) } else { tcb_info(reader) }
        })?;
        reader.finish()?;
        Ok(firmware)
    }

    /// How the certificate says that the device is not in its production state, if it does.
    pub fn debug(&self) -> Option<&'static str> {
        let flags = self.flags?;
        match () {
            () if flags & DEBUG != 0 => Some("the certificate's flag `debug`"),
            () if flags & RECOVERY != 0 => Some("the certificate's flag `recovery`"),
            () if flags & NOT_SECURE != 0 => Some("the certificate's flag `notSecure`"),
            () => None,
        }
    }

    /// Every field, decoded.
    pub fn fields(&self) -> Object {
        const NAMES: [&str; 8] = [
            "notConfigured",
            "notSecure",
            "recovery",
            "debug",
            "notReplayProtected",
            "notIntegrityProtected",
            "notRuntimeMeasured",
            "notImmutable",
        ];
        let id = self.id.map_or_else(|| "none".to_owned(), to_hex);
        let flags = self.flags.unwrap_or_default();
        let set = NAMES.iter().enumerate().filter(|(bit, _)| flags & (0x80_u8 >> bit) != 0);
        object([
            ("fwid", Value::Str(id)),
            ("flags", Value::Array(set.map(|(_, name)| Value::from(*name)).collect())),
        ])
    }
}

/// `version INTEGER, subjectPublicKeyInfo, fwid`.
fn composite_device_id<'a>(reader: &mut SliceReader<'a>) -> der::Result<Firmware<'a>> {
    u8::decode(reader)?;
    reader.tlv_bytes()?;
    Ok(Firmware { id: Some(digest(reader)?), flags: None })
}

/// Implicitly tagged fields, ascending, each at most once; what is not used here is skipped.
fn tcb_info<'a>(reader: &mut SliceReader<'a>) -> der::Result<Firmware<'a>> {
    const FWIDS: TagNumber = TagNumber(6);
    const FLAGS: TagNumber = TagNumber(7);
    const LAST: u32 = 11;
    let mut firmware = Firmware { id: None, flags: None };
    let mut least = 0;
    while !reader.is_finished() {
        let field = AnyRef::decode(reader)?;
        let Tag::ContextSpecific { number, .. } = field.tag() else {
            return Err(field.tag().unexpected_error(None).into());
        };
        if !(least..=LAST).contains(&number.0) {
            return Err(field.tag().unexpected_error(None).into());
        }
        least = number.0.saturating_add(1);
        match number {
            FWIDS => firmware.id = digests(field.value())?,
            FLAGS => firmware.flags = Some(first_flags(field)?),
            _ => {}
        }
    }
    Ok(firmware)
}

/// The first digest of a list, every one read.
fn digests(list: &[u8]) -> der::Result<Option<&[u8]>> {
    let mut reader = SliceReader::new(list)?;
    let mut first = None;
    while !reader.is_finished() {
        let digest = digest(&mut reader)?;
        first = first.or(Some(digest));
    }
    Ok(first)
}

/// `FWID`: the hash function, the digest.
fn digest<'a>(reader: &mut SliceReader<'a>) -> der::Result<&'a [u8]> {
    reader.sequence(|reader| -> der::Result<_> {
        let _function: ObjectIdentifier = ObjectIdentifier::decode(reader)?;
        Ok(<&OctetStringRef>::decode(reader)?.as_bytes())
    })
}

/// The first byte of a bit string of at most 32 bits; unused ones do not count.
fn first_flags(field: AnyRef<'_>) -> der::Result<u8> {
    match field.value() {
        [unused @ 0..=7, flags, rest @ ..] if rest.len() <= 3 => {
            let kept = if rest.is_empty() { 0xff_u8 << unused } else { 0xff };
            Ok(flags & kept)
        }
        [0] => Ok(0),
        _ => Err(field.tag().length_error().into()),
    }
}
