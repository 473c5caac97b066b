//! The opaque data of a report: NVIDIA's own fields, a list of type, length and value (`attestation.md` §7.2).

use std::collections::BTreeMap;

use hallmark_receipt::json::{Object, Value};
use hallmark_receipt::wire::to_hex;

use crate::bytes::Bytes;

/// How the newer form starts; the older one has no header.
const MAGIC: &[u8] = b"NVDAOD";
/// The newest form known: entries carry the type of their value.
const MAX_MAJOR: u8 = 2;

/// Fields by their number, each at most once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opaque<'a> {
    entries: BTreeMap<usize, &'a [u8]>,
}

/// Why opaque data is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpaqueError {
    /// It ends inside a field.
    #[error("it ends inside a field")]
    Truncated,
    /// A form that is not known.
    #[error("profile {profile} of version {major}, which is not known here")]
    Version {
        /// The profile.
        profile: usize,
        /// The major version.
        major: u8,
    },
    /// A field that stands twice.
    #[error("field {0} stands twice")]
    Duplicate(usize),
    /// A field of another length than its kind has.
    #[error("field {field} has {got} bytes")]
    Length {
        /// Which.
        field: usize,
        /// Its length.
        got: usize,
    },
}

/// How a field's bytes are to be read.
#[derive(Clone, Copy)]
enum Form {
    Bytes,
    /// ASCII, zeroes behind it.
    Text,
    /// Numbers of four bytes.
    Counts,
    /// Device identifiers of eight bytes.
    Identifiers,
}

/// The field that says SIMULATED in development evidence; NVIDIA's have numbers below 64.
pub const MARK_FIELD: u16 = 0x5349;

const DRIVER_VERSION: usize = 3;
const VBIOS_VERSION: usize = 6;
const NVDEC0_STATUS: usize = 11;
const CHIP_SKU: usize = 15;
const PROJECT: usize = 17;
const PROJECT_SKU: usize = 18;
const FWID: usize = 20;

/// The fields that NVIDIA's verifiers know: number, name, form.
const FIELDS: &[(usize, &str, Form)] = &[
    (1, "certificate_issuer_name", Form::Bytes),
    (2, "certificate_authority_key_identifier", Form::Bytes),
    (DRIVER_VERSION, "driver_version", Form::Text),
    (4, "gpu_info", Form::Bytes),
    (5, "sku", Form::Bytes),
    (VBIOS_VERSION, "vbios_version", Form::Bytes),
    (7, "manufacturer_id", Form::Bytes),
    (8, "tamper_detection", Form::Bytes),
    (9, "smc", Form::Bytes),
    (10, "vpr", Form::Bytes),
    (NVDEC0_STATUS, "nvdec0_status", Form::Bytes),
    (12, "measurement_counts", Form::Counts),
    (13, "cpr_info", Form::Bytes),
    (14, "board_id", Form::Bytes),
    (CHIP_SKU, "chip_sku", Form::Text),
    (16, "chip_sku_mod", Form::Text),
    (PROJECT, "project", Form::Text),
    (PROJECT_SKU, "project_sku", Form::Text),
    (19, "project_sku_mod", Form::Text),
    (FWID, "fwid", Form::Bytes),
    (21, "protected_pcie_status", Form::Bytes),
    (22, "device_identifiers", Form::Identifiers),
    (23, "disabled_ports", Form::Bytes),
    (24, "switch_position", Form::Bytes),
    (25, "switch_lock_status", Form::Bytes),
    (26, "switch_gpu_identifiers", Form::Identifiers),
    (32, "gpu_link_connections", Form::Bytes),
    (33, "system_enable_status", Form::Bytes),
    (34, "opaque_data_version", Form::Bytes),
    (35, "chip_info", Form::Text),
    (36, "feature_flag", Form::Bytes),
    (MARK_FIELD as usize, "simulated", Form::Text),
];

impl<'a> Opaque<'a> {
    /// Reads opaque data, to its last byte.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, OpaqueError> {
        let mut reader = Bytes(bytes);
        let typed = bytes.starts_with(MAGIC);
        if typed {
            header(&mut reader)?;
        }
        let mut entries = BTreeMap::new();
        while reader.left() > 0 {
            let field = usize::from(reader.u16().ok_or(OpaqueError::Truncated)?);
            if typed {
                reader.u16().ok_or(OpaqueError::Truncated)?;
            }
            let length = usize::from(reader.u16().ok_or(OpaqueError::Truncated)?);
            let value = reader.take(length).ok_or(OpaqueError::Truncated)?;
            let unit = match FIELDS.iter().find(|(number, ..)| *number == field) {
                Some((_, _, Form::Counts)) => 4,
                Some((_, _, Form::Identifiers)) => 8,
                _ => 1,
            };
            if value.len().checked_rem(unit) != Some(0) {
                return Err(OpaqueError::Length { field, got: value.len() });
            }
            if entries.insert(field, value).is_some() {
                return Err(OpaqueError::Duplicate(field));
            }
        }
        Ok(Self { entries })
    }

    fn field(&self, number: usize) -> Option<&'a [u8]> {
        self.entries.get(&number).copied()
    }

    /// Whether it says of itself that no hardware made it (`attestation.md` §11).
    pub fn is_marked(&self) -> bool {
        self.field(MARK_FIELD.into()) == Some(b"SIMULATED")
    }

    /// The digest of the firmware, as the device's certificate has it too; switches leave it out.
    pub fn firmware_id(&self) -> Option<&'a [u8]> {
        self.field(FWID)
    }

    /// The driver's version, as of 590.12; switches have none.
    pub fn driver_version(&self) -> Option<String> {
        self.field(DRIVER_VERSION).and_then(text)
    }

    /// The firmware's version, as of 96.00.a5.00.01: GPUs keep eight bytes, switches the text.
    pub fn vbios_version(&self) -> Option<String> {
        match self.field(VBIOS_VERSION)? {
            [a, b, c, d, e, ..] if self.field(VBIOS_VERSION)?.len() == 8 => {
                Some(format!("{d:02x}.{c:02x}.{b:02x}.{a:02x}.{e:02x}"))
            }
            other => text(other).map(|text| text.to_ascii_lowercase()),
        }
    }

    /// Whether the first decoder (NVDEC0) is off: then the measurement of its firmware says nothing.
    pub fn is_decoder_off(&self) -> bool {
        const DISABLED: &[u8] = &[0x55];
        self.field(NVDEC0_STATUS) == Some(DISABLED)
    }

    /// The names under which NVIDIA's service has the reference manifests (RIM) of driver and firmware; `chip` is the first word of
    /// the leaf's name. Switches have no driver, and do not say what board they are on: LS10's is the only one published.
    pub fn manifests(&self, chip: &str) -> Vec<String> {
        let board = |number| self.field(number).and_then(text);
        let board = match self.driver_version() {
            None => Some("SWITCH_BIOS_5612_0002_890".to_owned()),
            Some(_) => board(PROJECT).zip(board(PROJECT_SKU)).zip(board(CHIP_SKU)).map(
                |((project, project_sku), chip_sku)| format!("GPU_VBIOS_{project}_{project_sku}_{chip_sku}"),
            ),
        };
        let driver = self.driver_version().map(|version| format!("NV_GPU_DRIVER_{chip}_{version}"));
        let firmware = board
            .zip(self.vbios_version())
            .map(|(board, version)| format!("NV_{board}_{}", version.replace('.', "").to_ascii_uppercase()));
        driver.into_iter().chain(firmware).collect()
    }

    /// Every field, decoded.
    pub fn fields(&self) -> Object {
        self.entries
            .iter()
            .map(|(&field, &value)| {
                let known = FIELDS.iter().find(|(number, ..)| *number == field);
                let name = known.map_or_else(|| format!("field_{field}"), |(_, name, _)| (*name).to_owned());
                (name, self.shown(field, value, known.map_or(Form::Bytes, |(_, _, form)| *form)))
            })
            .collect()
    }

    fn shown(&self, field: usize, value: &[u8], form: Form) -> Value {
        let hex = |bytes: &[u8]| Value::Str(to_hex(bytes));
        let version = (field == VBIOS_VERSION).then(|| self.vbios_version()).flatten();
        match form {
            _ if version.is_some() => Value::Str(version.unwrap_or_default()),
            Form::Text => text(value).map_or_else(|| hex(value), Value::Str),
            Form::Counts => Value::Array(
                value
                    .chunks_exact(4)
                    .map(|chunk| {
                        Bytes(chunk).u32().map_or_else(|| hex(chunk), |number| Value::Int(number.into()))
                    })
                    .collect(),
            ),
            Form::Identifiers => Value::Array(value.chunks_exact(8).map(hex).collect()),
            Form::Bytes => hex(value),
        }
    }
}

/// Profile 0; version; two bytes without a meaning.
fn header(reader: &mut Bytes<'_>) -> Result<(), OpaqueError> {
    let mut read = || {
        reader.take(MAGIC.len())?;
        let found = (reader.u16()?, reader.u8()?);
        reader.take(3)?;
        Some(found)
    };
    match read().ok_or(OpaqueError::Truncated)? {
        (0, 0..=MAX_MAJOR) => Ok(()),
        (profile, major) => Err(OpaqueError::Version { profile: profile.into(), major }),
    }
}

/// Printable ASCII up to the zeroes at the end.
fn text(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?.trim_end_matches('\0');
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '))
        .then(|| text.to_owned())
}
