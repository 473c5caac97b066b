//! The event log of a confidential computer (CCEL): what was measured into the run-time registers, event by event, in the form of the
//! TCG's PC Client Platform Firmware Profile (§10): one event of the old form that names the digests, then events with digests.

use hallmark_receipt::json::{Object, Value};
use hallmark_receipt::wire::to_hex;
use sha2::{Digest as _, Sha384};

use super::body::fields;
use crate::bytes::Bytes;

/// The most bytes of a log.
pub const MAX_LOG: usize = 4 << 20;
/// The most events of one.
const MAX_EVENTS: usize = 1 << 16;
/// The most kinds of digest.
const MAX_ALGORITHMS: u32 = 8;
/// An event that is measured nowhere.
pub(super) const EV_NO_ACTION: u32 = 3;
/// SHA-384, of the TCG's algorithm registry.
const SHA384: u16 = 0x000c;

/// A log; it borrows the bytes that it was read from. It counts once a quote's registers are what it replays to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventLog<'a> {
    /// The events, in order.
    pub events: Vec<Event<'a>>,
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// Where it is measured: 0 is MRTD, 1 to 4 are RTMR0 to RTMR3.
    pub register: u32,
    /// Its type.
    pub kind: u32,
    /// What was measured: SHA-384.
    pub digest: &'a [u8; 48],
    /// What it says of itself. Only the digest is measured; of many types it is not the digest of these bytes.
    pub data: &'a [u8],
}

/// Why bytes are no log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventLogError {
    /// Longer than any.
    #[error("{got} bytes are more than the {MAX_LOG} of an event log")]
    TooLong {
        /// Its length.
        got: usize,
    },
    /// It ends inside an event.
    #[error("event {number} ends early")]
    Truncated {
        /// Which, from 0.
        number: usize,
    },
    /// The first event does not say which digests follow.
    #[error("it does not begin with a `Spec ID Event03` that names SHA-384")]
    Header,
    /// More events than any.
    #[error("more than {MAX_EVENTS} events")]
    TooMany,
    /// An event without a digest of SHA-384, with one twice, or with one that was not announced.
    #[error("event {number} has not the digests that were announced")]
    Digests {
        /// Which, from 0.
        number: usize,
    },
    /// A register that does not exist.
    #[error("event {number} is of register {register}, where 0 to 4 exist")]
    Register {
        /// Which, from 0.
        number: usize,
        /// The register.
        register: u32,
    },
    /// Something behind the last event.
    #[error("something else behind event {number}")]
    Trailing {
        /// Which, from 0.
        number: usize,
    },
}

impl EventLogError {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "event-log-too-long",
            Self::Truncated { .. } => "event-log-truncated",
            Self::Header => "event-log-header",
            Self::TooMany => "event-log-too-many",
            Self::Digests { .. } => "event-log-digests",
            Self::Register { .. } => "event-log-register",
            Self::Trailing { .. } => "event-log-trailing",
        }
    }
}

impl<'a> EventLog<'a> {
    /// Reads a log. Firmware hands over the whole area: behind the last event all bytes are 0, or all 0xff.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, EventLogError> {
        if bytes.len() > MAX_LOG {
            return Err(EventLogError::TooLong { got: bytes.len() });
        }
        let mut reader = Bytes(bytes);
        let algorithms = header(&mut reader)?;
        let mut events = Vec::new();
        loop {
            let number = events.len();
            match reader.0.first_chunk() {
                // Too few bytes for an event.
                None if reader.0.is_empty() => break,
                Some([0xff, 0xff, 0xff, 0xff]) => break only(&reader, 0xff, number)?,
                Some([0, 0, 0, 0]) if only(&reader, 0, number).is_ok() => break,
                _ => {}
            }
            if number == MAX_EVENTS {
                return Err(EventLogError::TooMany);
            }
            events.push(event(&mut reader, &algorithms, number)?);
        }
        Ok(Self { events })
    }

    /// What RTMR0 to RTMR3 hold if these events, and no others, were measured: each starts as zero, and becomes
    /// SHA-384(register || digest). None where no event is of the register.
    pub fn replay(&self) -> [Option<[u8; 48]>; 4] {
        let mut registers = [None; 4];
        for (register, value) in (1..).zip(&mut registers) {
            for event in self.events.iter().filter(|event| event.register == register) {
                if event.kind != EV_NO_ACTION {
                    let old: [u8; 48] = value.unwrap_or([0; 48]);
                    *value =
                        Some(Sha384::new().chain_update(old).chain_update(event.digest).finalize().into());
                }
            }
        }
        registers
    }

    /// Every event, decoded.
    pub fn fields(&self) -> Object {
        let events = self.events.iter().map(|event| {
            let numbers = [("register", event.register.into()), ("type", event.kind.into())];
            let name = [("name", Value::from(name(event.kind)))];
            Value::Object(fields(&[("digest", event.digest), ("data", event.data)], &numbers, name))
        });
        let registers = (0..)
            .zip(self.replay())
            .filter_map(|(number, value)| Some((format!("rtmr{number}"), Value::Str(to_hex(&value?)))));
        registers.chain([("events".to_owned(), Value::Array(events.collect()))]).collect()
    }
}

/// Behind the last event there is nothing but `filler`.
fn only(reader: &Bytes<'_>, filler: u8, number: usize) -> Result<(), EventLogError> {
    let filled = reader.0.iter().all(|byte| *byte == filler);
    if filled { Ok(()) } else { Err(EventLogError::Trailing { number }) }
}

/// The first event, of the old form: which digests follow, and how long each is.
fn header(reader: &mut Bytes<'_>) -> Result<Vec<(u16, u16)>, EventLogError> {
    let read = |reader: &mut Bytes<'_>| -> Option<Result<Vec<(u16, u16)>, EventLogError>> {
        let (register, kind) = (reader.u32()?, reader.u32()?);
        reader.take(20)?;
        let mut data = Bytes(reader.prefixed()?);
        // It is measured nowhere: firmware writes 0 or 1.
        if register > 4 || kind != EV_NO_ACTION || data.array()? != b"Spec ID Event03\0" {
            return Some(Err(EventLogError::Header));
        }
        // Platform class, versions, size of pointers.
        data.take(8)?;
        let count = data.u32()?;
        if count > MAX_ALGORITHMS {
            return Some(Err(EventLogError::Header));
        }
        let mut algorithms = Vec::new();
        for _ in 0..count {
            algorithms.push((data.u16()?, data.u16()?));
        }
        let vendor = data.u8()?;
        data.take(vendor.into())?;
        let names_sha384 = data.0.is_empty() && algorithms.contains(&(SHA384, 48));
        Some(if names_sha384 { Ok(algorithms) } else { Err(EventLogError::Header) })
    };
    read(reader).unwrap_or(Err(EventLogError::Truncated { number: 0 }))
}

fn event<'a>(
    reader: &mut Bytes<'a>,
    algorithms: &[(u16, u16)],
    number: usize,
) -> Result<Event<'a>, EventLogError> {
    let short = EventLogError::Truncated { number };
    let (register, kind) = (reader.u32().ok_or(short)?, reader.u32().ok_or(short)?);
    if register > 4 {
        return Err(EventLogError::Register { number, register });
    }
    let refuse = EventLogError::Digests { number };
    let count = reader.u32().ok_or(short)?;
    if count > MAX_ALGORITHMS {
        return Err(refuse);
    }
    let mut digest = None;
    for _ in 0..count {
        let algorithm = reader.u16().ok_or(short)?;
        let (_, length) = algorithms.iter().find(|(id, _)| *id == algorithm).ok_or(refuse)?;
        let bytes = reader.take((*length).into()).ok_or(short)?;
        if algorithm == SHA384 && digest.replace(bytes).is_some() {
            return Err(refuse);
        }
    }
    let digest = digest.and_then(|digest| digest.try_into().ok()).ok_or(refuse)?;
    Ok(Event { register, kind, digest, data: reader.prefixed().ok_or(short)? })
}

/// The profile's name of a type of event (§10.4.1).
pub(super) fn name(kind: u32) -> &'static str {
    match kind {
        0x0000_0000 => "EV_PREBOOT_CERT",
        0x0000_0001 => "EV_POST_CODE",
        0x0000_0003 => "EV_NO_ACTION",
        0x0000_0004 => "EV_SEPARATOR",
        0x0000_0005 => "EV_ACTION",
        0x0000_0006 => "EV_EVENT_TAG",
        0x0000_0007 => "EV_S_CRTM_CONTENTS",
        0x0000_0008 => "EV_S_CRTM_VERSION",
        0x0000_0009 => "EV_CPU_MICROCODE",
        0x0000_000a => "EV_PLATFORM_CONFIG_FLAGS",
        0x0000_000b => "EV_TABLE_OF_DEVICES",
        0x0000_000c => "EV_COMPACT_HASH",
        0x0000_000d => "EV_IPL",
        0x8000_0001 => "EV_EFI_VARIABLE_DRIVER_CONFIG",
        0x8000_0002 => "EV_EFI_VARIABLE_BOOT",
        0x8000_0003 => "EV_EFI_BOOT_SERVICES_APPLICATION",
        0x8000_0004 => "EV_EFI_BOOT_SERVICES_DRIVER",
        0x8000_0005 => "EV_EFI_RUNTIME_SERVICES_DRIVER",
        0x8000_0006 => "EV_EFI_GPT_EVENT",
        0x8000_0007 => "EV_EFI_ACTION",
        0x8000_0008 => "EV_EFI_PLATFORM_FIRMWARE_BLOB",
        0x8000_0009 => "EV_EFI_HANDOFF_TABLES",
        0x8000_000a => "EV_EFI_PLATFORM_FIRMWARE_BLOB2",
        0x8000_000b => "EV_EFI_HANDOFF_TABLES2",
        0x8000_000c => "EV_EFI_VARIABLE_BOOT2",
        0x8000_0010 => "EV_EFI_HCRTM_EVENT",
        0x8000_00e0 => "EV_EFI_VARIABLE_AUTHORITY",
        0x8000_00e1 => "EV_EFI_SPDM_FIRMWARE_BLOB",
        0x8000_00e2 => "EV_EFI_SPDM_FIRMWARE_CONFIG",
        _ => "unknown",
    }
}
