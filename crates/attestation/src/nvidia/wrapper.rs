//! The devices in a file: a report alone, or one of the lists that collectors write (`attestation.md` §7.4).
//!
//! Nothing signs a list. What it says beside reports and certificates (architecture, nonce, versions) must agree with them.

use hallmark_receipt::json::{JsonError, Object, Value};
use hallmark_receipt::wire::{from_hex, to_hex};

use super::spdm::Report;
use crate::encoding::{self, EncodingError, MAX_FILE};
use crate::{Input, x509};

/// The most devices of one file: a rack has 72 GPUs and 18 switches.
pub const MAX_DEVICES: usize = 128;

/// One device of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Its report.
    pub report: Vec<u8>,
    /// Its certificates, leaf first.
    pub certificates: Vec<Vec<u8>>,
    stated: Stated,
}

/// What a list says of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Stated {
    architecture: Option<String>,
    nonce: Option<Vec<u8>>,
    driver_version: Option<String>,
    vbios_version: Option<String>,
}

/// Why a file is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WrapperError {
    /// Its encoding.
    #[error("{0}")]
    Encoding(#[from] EncodingError),
    /// Not JSON.
    #[error("not a list of devices: {0}")]
    Json(#[from] JsonError),
    /// A service's token in place of a device's report.
    #[error("a token: a service's word, and no service's key is pinned here")]
    Token,
    /// Another structure.
    #[error("not a list of devices: `{0}` is missing, or not in its form")]
    Member(&'static str),
    /// A member that lists do not have.
    #[error("a member that lists of devices do not have: `{0}`")]
    UnknownMember(String),
    /// No device, or too many.
    #[error("{got} devices, where a file has 1 to {MAX_DEVICES}")]
    Devices {
        /// How many.
        got: usize,
    },
    /// What the list says is not what the device signed.
    #[error("the list's `{member}` is not the report's")]
    Differs {
        /// Which.
        member: &'static str,
        /// What the device signed.
        expected: String,
        /// What the list says.
        got: String,
    },
    /// An architecture without a rule here.
    #[error("an architecture that is not known here: `{0}`")]
    Architecture(String),
}

impl WrapperError {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Encoding(_) => "encoding",
            Self::Json(_) => "list-json",
            Self::Token => "token",
            Self::Member(_) => "list-member",
            Self::UnknownMember(_) => "list-unknown-member",
            Self::Devices { .. } => "list-devices",
            Self::Differs { .. } => "list-differs",
            Self::Architecture(_) => "list-architecture",
        }
    }
}

/// Architectures as collectors name them, and how the names of their chips start.
const ARCHITECTURES: &[(&str, &str)] =
    &[("HOPPER", "GH"), ("BLACKWELL", "GB"), ("RUBIN", "GR"), ("LS10", "LS_10")];

/// What lists inside an object are called: by NVIDIA's remote service, by Confidential Containers' attester, by `nvattest`.
const LISTS: [&str; 3] = ["evidence_list", "device_evidence_list", "evidences"];

/// The devices of a file, in order.
pub fn devices(input: &Input<'_>) -> Result<Vec<Device>, WrapperError> {
    let bytes = encoding::decode(input.evidence)?;
    let start = bytes.trim_ascii_start();
    let devices = match start.first() {
        Some(b'{' | b'[') => list(Value::parse(&bytes, MAX_FILE)?)?,
        _ if is_token(start) => return Err(WrapperError::Token),
        _ => {
            let certificates = encoding::items(input.certificates)?;
            vec![Device { report: bytes, certificates, stated: Stated::default() }]
        }
    };
    match devices.len() {
        1..=MAX_DEVICES => Ok(devices),
        got => Err(WrapperError::Devices { got }),
    }
}

impl Device {
    /// What the list says of the device is what the device signed.
    pub fn agrees(&self, report: &Report<'_>) -> Result<(), WrapperError> {
        let same = |member, stated: &Option<String>, signed: Option<String>| match stated {
            Some(got) if signed.as_ref().is_none_or(|signed| !signed.eq_ignore_ascii_case(got)) => {
                let expected = signed.unwrap_or_else(|| "none".to_owned());
                Err(WrapperError::Differs { member, expected, got: got.clone() })
            }
            _ => Ok(()),
        };
        same("nonce", &self.stated.nonce.as_deref().map(to_hex), Some(to_hex(report.nonce)))?;
        same("driver_version", &self.stated.driver_version, report.opaque.driver_version())?;
        same("vbios_version", &self.stated.vbios_version, report.opaque.vbios_version())
    }

    /// The architecture that the list names is the one in the name of the leaf.
    pub fn agrees_with_leaf(&self, leaf: &x509::Certificate<'_>) -> Result<(), WrapperError> {
        let Some(got) = &self.stated.architecture else { return Ok(()) };
        let known = ARCHITECTURES.iter().find(|(name, _)| name.eq_ignore_ascii_case(got));
        let (_, chip) = known.ok_or_else(|| WrapperError::Architecture(got.chars().take(64).collect()))?;
        let expected = leaf.subject_text();
        if expected.starts_with(chip) {
            return Ok(());
        }
        Err(WrapperError::Differs { member: "arch", expected, got: got.clone() })
    }
}

/// Three parts of base64url, the first a JSON object.
fn is_token(bytes: &[u8]) -> bool {
    bytes.starts_with(b"eyJ") && bytes.iter().filter(|byte| **byte == b'.').count() == 2
}

/// A list as NVIDIA's SDK writes it, alone or inside an object, or a collection of conceptual messages (`__cmwc_t`) as its later
/// versions write it.
fn list(value: Value) -> Result<Vec<Device>, WrapperError> {
    match value {
        Value::Array(items) => items.into_iter().map(|item| device(item, &Stated::default())).collect(),
        Value::Object(mut members) if members.contains_key("__cmwc_t") => collection(&mut members),
        Value::Object(mut members) => {
            let shared = Stated {
                architecture: text(&mut members, "arch")?,
                nonce: nonce(&mut members)?,
                ..Stated::default()
            };
            text(&mut members, "claims_version")?;
            text(&mut members, "result_message")?;
            if !matches!(members.remove("result_code"), None | Some(Value::Int(0))) {
                return Err(WrapperError::Member("result_code"));
            }
            let items = LISTS.iter().find_map(|name| members.remove(*name));
            let Some(Value::Array(items)) = items else { return Err(WrapperError::Member("evidence_list")) };
            nothing_left(&members)?;
            items.into_iter().map(|item| device(item, &shared)).collect()
        }
        _ => Err(WrapperError::Member("evidence_list")),
    }
}

/// One entry of a list; what it leaves out is as `shared`.
fn device(item: Value, shared: &Stated) -> Result<Device, WrapperError> {
    let mut members = match item {
        Value::Object(members) => members,
        // What the remote service answers: ["JWT", token].
        Value::Array(items) if items.first() == Some(&Value::from("JWT")) => return Err(WrapperError::Token),
        _ => return Err(WrapperError::Member("evidence")),
    };
    let required = |members: &mut Object, name| text(members, name)?.ok_or(WrapperError::Member(name));
    let report = encoding::decode(required(&mut members, "evidence")?.as_bytes())?;
    let certificates = encoding::der(required(&mut members, "certificate")?.as_bytes())?;
    let stated = Stated {
        architecture: text(&mut members, "arch")?.or_else(|| shared.architecture.clone()),
        nonce: nonce(&mut members)?.or_else(|| shared.nonce.clone()),
        driver_version: text(&mut members, "driver_version")?,
        vbios_version: text(&mut members, "vbios_version")?,
    };
    match text(&mut members, "version")?.as_deref() {
        None | Some("1.0") => {}
        Some(_) => return Err(WrapperError::Member("version")),
    }
    // A name that the driver gives; the report has none to compare it with.
    text(&mut members, "uuid")?;
    nothing_left(&members)?;
    Ok(Device { report, certificates, stated })
}

const COLLECTION: &str = "tag:nvidia.com,2026:verifier-input/profiles/base/pre-1.0.0";
const ITEM: &str = "tag:nvidia.com,2026:evidence-item/v1";

/// A collection of conceptual messages: devices by name.
fn collection(members: &mut Object) -> Result<Vec<Device>, WrapperError> {
    kind(members, COLLECTION)?;
    let shared = record(members, "nonce", "application/octet-stream")?;
    record(members, "appraisal-settings", "application/json")?;
    let mut devices = Vec::new();
    for (_, item) in std::mem::take(members) {
        let Value::Object(mut item) = item else { return Err(WrapperError::Member("evidence")) };
        kind(&mut item, ITEM)?;
        let report = record(&mut item, "evidence", "application/vnd.nvidia.spdm-measurement-transcript")?;
        let chain = record(&mut item, "certificate", "application/vnd.nvidia.pem-cert-chain")?;
        let nonce = record(&mut item, "nonce", "application/octet-stream")?.or_else(|| shared.clone());
        // Hints say where to look for reference values: nothing is taken from them.
        record(&mut item, "hints", "application/json")?;
        nothing_left(&item)?;
        devices.push(Device {
            report: report.ok_or(WrapperError::Member("evidence"))?,
            certificates: encoding::der(&chain.ok_or(WrapperError::Member("certificate"))?)?,
            stated: Stated { nonce, ..Stated::default() },
        });
    }
    Ok(devices)
}

fn kind(members: &mut Object, expected: &str) -> Result<(), WrapperError> {
    match members.remove("__cmwc_t") {
        Some(Value::Str(got)) if got == expected => Ok(()),
        _ => Err(WrapperError::Member("__cmwc_t")),
    }
}

/// A record: its media type, its bytes in base64url.
fn record(
    members: &mut Object,
    name: &'static str,
    media_type: &str,
) -> Result<Option<Vec<u8>>, WrapperError> {
    let Some(record) = members.remove(name) else { return Ok(None) };
    match record {
        Value::Array(parts) => match parts.as_slice() {
            [Value::Str(got), Value::Str(value)] if got == media_type => {
                let decoded = base64url(value).ok_or(WrapperError::Member(name))?;
                Ok(Some(decoded))
            }
            _ => Err(WrapperError::Member(name)),
        },
        _ => Err(WrapperError::Member(name)),
    }
}

fn base64url(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).ok()
}

fn text(members: &mut Object, name: &'static str) -> Result<Option<String>, WrapperError> {
    match members.remove(name) {
        None => Ok(None),
        Some(Value::Str(text)) => Ok(Some(text)),
        Some(_) => Err(WrapperError::Member(name)),
    }
}

fn nonce(members: &mut Object) -> Result<Option<Vec<u8>>, WrapperError> {
    let Some(digits) = text(members, "nonce")? else { return Ok(None) };
    let digits = digits.strip_prefix("0x").unwrap_or(&digits).to_ascii_lowercase();
    from_hex(&digits).map(Some).ok_or(WrapperError::Member("nonce"))
}

fn nothing_left(members: &Object) -> Result<(), WrapperError> {
    match members.keys().next() {
        Some(name) => Err(WrapperError::UnknownMember(name.chars().take(64).collect())),
        None => Ok(()),
    }
}
