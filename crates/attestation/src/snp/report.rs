//! The report: `ATTESTATION_REPORT` of AMD's 56860, "SEV Secure Nested Paging Firmware ABI Specification", 0x4a0 bytes,
//! little-endian.

use hallmark_receipt::json::{Object, Value, object};
use hallmark_receipt::wire::to_hex;

use super::flags::{GuestFlag, PlatformFlag};
use super::tcb::{Product, Tcb};
use crate::bytes::{Bytes, is_zero};

/// The bytes of a report.
pub const REPORT: usize = 0x4a0;
/// The bytes of it that are signed; the signature follows.
pub const SIGNED: usize = 0x2a0;
/// ECDSA P-384 with SHA-384.
const ECDSA_P384_SHA384: u32 = 1;

/// A report; it borrows the bytes that it was read from. Being one shows nothing yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttestationReport<'a> {
    /// What is signed: its first 0x2a0 bytes, as they came.
    pub signed: &'a [u8],
    /// The signature: `r || s`, 48 bytes each, big-endian.
    pub signature: [u8; 96],
    /// 2 to 5.
    pub version: u32,
    /// The guest's security version number.
    pub guest_svn: u32,
    /// The guest's policy.
    pub guest_policy: GuestPolicy,
    /// The family, as the guest's owner calls it.
    pub family_id: &'a [u8; 16],
    /// The image, as the guest's owner calls it.
    pub image_id: &'a [u8; 16],
    /// The privilege level that asked for it, 0 to 3, 0 the highest; 0xffffffff where the host asked.
    pub vmpl: u32,
    /// What the platform runs now.
    pub current_tcb: Tcb,
    /// The platform's settings: see [`PlatformFlag`].
    pub platform_info: u64,
    /// Whether an author key signed the guest's ID key.
    pub author_key: bool,
    /// Whether the host keeps chip keys from signing.
    pub mask_chip_key: bool,
    /// The kind of key that signed.
    pub signing_key: SigningKey,
    /// The guest's own data.
    pub report_data: &'a [u8; 64],
    /// The launch digest: what the guest started with.
    pub measurement: &'a [u8; 48],
    /// The host's data, given at launch.
    pub host_data: &'a [u8; 32],
    /// SHA-384 of the key that signed the guest's ID block; zero without one.
    pub id_key_digest: &'a [u8; 48],
    /// SHA-384 of the key that signed the ID key; zero without one.
    pub author_key_digest: &'a [u8; 48],
    /// The guest's own id, from launch on.
    pub report_id: &'a [u8; 32],
    /// Its migration agent's id; all ones without one.
    pub report_id_ma: &'a [u8; 32],
    /// What the platform says it runs, and what the signing key is derived from.
    pub reported_tcb: Tcb,
    /// The processor, from version 3 on.
    pub cpuid: Option<Cpuid>,
    /// The chip; zero where the host masks it.
    pub chip_id: &'a [u8; 64],
    /// What the platform cannot go back behind.
    pub committed_tcb: Tcb,
    /// The firmware that runs: major, minor, build.
    pub current_firmware: Firmware,
    /// The firmware that the platform cannot go back behind.
    pub committed_firmware: Firmware,
    /// What the platform ran when the guest was launched.
    pub launch_tcb: Tcb,
    /// Mitigations in force when the guest was launched, from version 4 on.
    pub launch_mitigations: u64,
    /// Mitigations in force now, from version 4 on.
    pub current_mitigations: u64,
}

/// A firmware's version: major, minor, build.
pub type Firmware = [u8; 3];

/// A processor: family, model and stepping as CPUID function 1 gives them, extensions added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpuid {
    /// Family.
    pub family: u8,
    /// Model.
    pub model: u8,
    /// Stepping.
    pub stepping: u8,
}

/// The guest's policy, which its owner gave at launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestPolicy(pub u64);

impl GuestPolicy {
    /// Whether it says so.
    pub fn has(self, flag: GuestFlag) -> bool {
        self.0 & flag.mask() != 0
    }

    /// The least ABI of the firmware: major, minor.
    pub fn abi(self) -> [u8; 2] {
        let [minor, major, ..] = self.0.to_le_bytes();
        [major, minor]
    }
}

/// The kinds of key that sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SigningKey {
    /// The chip's own: Versioned Chip Endorsement Key.
    Vcek,
    /// One of a cloud, which all its chips may have: Versioned Loaded Endorsement Key.
    Vlek,
    /// None: the report is not signed.
    #[serde(skip)]
    None,
}

impl SigningKey {
    /// AMD's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vcek => "VCEK",
            Self::Vlek => "VLEK",
            Self::None => "none",
        }
    }
}

/// Why bytes are no report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// Another length.
    #[error("{got} bytes, where a report has {REPORT}")]
    Length {
        /// Its length.
        got: usize,
    },
    /// A version that is not known here.
    #[error("version {got}, where 2 to 5 are known")]
    Version {
        /// The version.
        got: u32,
    },
    /// Another signature algorithm.
    #[error("signature algorithm {got}, where ECDSA P-384 with SHA-384 is 1")]
    Algorithm {
        /// The algorithm.
        got: u32,
    },
    /// A kind of signing key that is not known here.
    #[error("signing key {got}, where 0 (VCEK), 1 (VLEK) and 7 (none) are known")]
    SigningKey {
        /// The kind.
        got: u32,
    },
    /// A reserved byte or bit that is not as it must be.
    #[error("what is reserved behind {after} is set")]
    Reserved {
        /// The field before it.
        after: &'static str,
    },
    /// The reserved bit 17 of the guest's policy, which is always set, is not.
    #[error("bit 17 of the guest policy, which is always set, is not")]
    PolicyBit17,
}

impl ReportError {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Length { .. } => "report-length",
            Self::Version { .. } => "report-version",
            Self::Algorithm { .. } => "report-algorithm",
            Self::SigningKey { .. } => "report-signing-key",
            Self::Reserved { .. } => "report-reserved",
            Self::PolicyBit17 => "report-policy-bit-17",
        }
    }
}

/// Takes fields off the front.
struct Fields<'a>(Bytes<'a>);

impl<'a> Fields<'a> {
    fn bytes<const N: usize>(&mut self) -> Result<&'a [u8; N], ReportError> {
        let got = self.0.left();
        self.0.array().ok_or(ReportError::Length { got })
    }

    fn u32(&mut self) -> Result<u32, ReportError> {
        self.bytes().map(|bytes| u32::from_le_bytes(*bytes))
    }

    fn u64(&mut self) -> Result<u64, ReportError> {
        self.bytes().map(|bytes| u64::from_le_bytes(*bytes))
    }

    fn tcb(&mut self) -> Result<Tcb, ReportError> {
        self.bytes().map(|bytes| Tcb(*bytes))
    }

    /// `N` bytes that must be zero.
    fn zero<const N: usize>(&mut self, after: &'static str) -> Result<(), ReportError> {
        let bytes: &[u8; N] = self.bytes()?;
        if is_zero(bytes) { Ok(()) } else { Err(ReportError::Reserved { after }) }
    }

    fn firmware(&mut self, name: &'static str) -> Result<Firmware, ReportError> {
        let [build, minor, major] = *self.bytes()?;
        self.zero::<1>(name)?;
        Ok([major, minor, build])
    }

    /// One number of the signature: 72 bytes, little-endian, of which P-384 fills 48. Big-endian.
    fn number(&mut self, name: &'static str) -> Result<[u8; 48], ReportError> {
        let mut number: [u8; 48] = *self.bytes()?;
        self.zero::<24>(name)?;
        number.reverse();
        Ok(number)
    }
}

impl<'a> AttestationReport<'a> {
    /// Reads a report of exactly 0x4a0 bytes.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ReportError> {
        let length = ReportError::Length { got: bytes.len() };
        let whole: &'a [u8; REPORT] = bytes.try_into().map_err(|_| length)?;
        let (signed, signature) = whole.split_first_chunk::<SIGNED>().ok_or(length)?;
        let mut fields = Fields(Bytes(signed));
        let version = fields.u32()?;
        if !(2..=5).contains(&version) {
            return Err(ReportError::Version { got: version });
        }
        let guest_svn = fields.u32()?;
        let guest_policy = guest_policy(fields.u64()?)?;
        let (family_id, image_id) = (fields.bytes()?, fields.bytes()?);
        let vmpl = fields.u32()?;
        match fields.u32()? {
            ECDSA_P384_SHA384 => {}
            got => return Err(ReportError::Algorithm { got }),
        }
        let current_tcb = fields.tcb()?;
        let platform_info = fields.u64()?;
        let key_info = fields.u32()?;
        let signing_key = signing_key(key_info)?;
        fields.zero::<4>("KEY_INFO")?;
        let (report_data, measurement) = (fields.bytes()?, fields.bytes()?);
        let host_data = fields.bytes()?;
        let (id_key_digest, author_key_digest) = (fields.bytes()?, fields.bytes()?);
        let (report_id, report_id_ma) = (fields.bytes()?, fields.bytes()?);
        let reported_tcb = fields.tcb()?;
        let [family, model, stepping] = *fields.bytes()?;
        let cpuid = match version {
            2 if [family, model, stepping] != [0; 3] => {
                return Err(ReportError::Reserved { after: "REPORTED_TCB" });
            }
            2 => None,
            _ => Some(Cpuid { family, model, stepping }),
        };
        fields.zero::<21>("CPUID_STEP")?;
        let chip_id = fields.bytes()?;
        let committed_tcb = fields.tcb()?;
        let (current_firmware, committed_firmware) =
            (fields.firmware("CURRENT_MAJOR")?, fields.firmware("COMMITTED_MAJOR")?);
        let launch_tcb = fields.tcb()?;
        let (launch_mitigations, current_mitigations) = (fields.u64()?, fields.u64()?);
        if version < 4 && (launch_mitigations, current_mitigations) != (0, 0) {
            return Err(ReportError::Reserved { after: "LAUNCH_TCB" });
        }
        fields.zero::<152>("CURRENT_MIT_VECTOR")?;
        Ok(Self {
            signed,
            signature: read_signature(signature)?,
            version,
            guest_svn,
            guest_policy,
            family_id,
            image_id,
            vmpl,
            current_tcb,
            platform_info,
            author_key: key_info & 1 != 0,
            mask_chip_key: key_info & 2 != 0,
            signing_key,
            report_data,
            measurement,
            host_data,
            id_key_digest,
            author_key_digest,
            report_id,
            report_id_ma,
            reported_tcb,
            cpuid,
            chip_id,
            committed_tcb,
            current_firmware,
            committed_firmware,
            launch_tcb,
            launch_mitigations,
            current_mitigations,
        })
    }

    /// Whether it says of itself that no hardware made it (`attestation.md` §11).
    pub fn is_marked(&self) -> bool {
        self.image_id.starts_with(b"SIMULATED")
    }

    /// Whether the host masks the chip's id.
    pub fn is_chip_id_masked(&self) -> bool {
        self.chip_id.iter().all(|byte| *byte == 0)
    }

    /// Every field, for people. Security versions have names where the processor says how they lie, else they are its bytes.
    pub fn fields(&self) -> Object {
        let product = self.cpuid.and_then(Product::of_cpu);
        let hex = |bytes: &[u8]| Value::Str(to_hex(bytes));
        let version = |[major, minor, build]: Firmware| Value::Str(format!("{major}.{minor}.{build}"));
        let tcb = |tcb: Tcb| product.map_or(hex(&tcb.0), |product| Value::Object(tcb.fields(product)));
        let names = |names: Vec<&str>| Value::Array(names.into_iter().map(Value::from).collect());
        let [abi_major, abi_minor] = self.guest_policy.abi();
        let mut fields = object([
            ("author_key", Value::Bool(self.author_key)),
            ("author_key_digest", hex(self.author_key_digest)),
            ("chip_id", hex(self.chip_id)),
            ("committed_firmware", version(self.committed_firmware)),
            ("committed_tcb", tcb(self.committed_tcb)),
            ("current_firmware", version(self.current_firmware)),
            ("current_tcb", tcb(self.current_tcb)),
            ("family_id", hex(self.family_id)),
            ("guest_policy", names(GuestFlag::names(self.guest_policy.0))),
            ("guest_svn", Value::Int(self.guest_svn.into())),
            ("host_data", hex(self.host_data)),
            ("id_key_digest", hex(self.id_key_digest)),
            ("image_id", hex(self.image_id)),
            ("launch_tcb", tcb(self.launch_tcb)),
            ("mask_chip_key", Value::Bool(self.mask_chip_key)),
            ("measurement", hex(self.measurement)),
            ("minimum_abi", Value::Str(format!("{abi_major}.{abi_minor}"))),
            ("platform_info", names(PlatformFlag::names(self.platform_info))),
            ("platform_info_bits", Value::Str(format!("{:#x}", self.platform_info))),
            ("report_data", hex(self.report_data)),
            ("report_id", hex(self.report_id)),
            ("report_id_ma", hex(self.report_id_ma)),
            ("reported_tcb", tcb(self.reported_tcb)),
            ("signature", hex(&self.signature)),
            ("signing_key", self.signing_key.name().into()),
            ("version", Value::Int(self.version.into())),
            ("vmpl", Value::Int(self.vmpl.into())),
        ]);
        if let Some(Cpuid { family, model, stepping }) = self.cpuid {
            let cpu = format!("family {family:#x}, model {model:#x}, stepping {stepping}");
            fields.insert("processor".to_owned(), cpu.into());
        }
        if self.version >= 4 {
            let bits = |bits: u64| Value::Str(format!("{bits:#x}"));
            fields.insert("current_mitigations".to_owned(), bits(self.current_mitigations));
            fields.insert("launch_mitigations".to_owned(), bits(self.launch_mitigations));
        }
        fields
    }
}

fn guest_policy(bits: u64) -> Result<GuestPolicy, ReportError> {
    const ALWAYS: u64 = 1 << 17;
    if bits & ALWAYS == 0 {
        return Err(ReportError::PolicyBit17);
    }
    if bits & !(0xffff | ALWAYS | GuestFlag::known()) != 0 {
        return Err(ReportError::Reserved { after: "POLICY" });
    }
    Ok(GuestPolicy(bits))
}

fn signing_key(key_info: u32) -> Result<SigningKey, ReportError> {
    if key_info >> 5 != 0 {
        return Err(ReportError::Reserved { after: "SIGNING_KEY" });
    }
    match key_info >> 2 {
        0 => Ok(SigningKey::Vcek),
        1 => Ok(SigningKey::Vlek),
        7 => Ok(SigningKey::None),
        got => Err(ReportError::SigningKey { got }),
    }
}

fn read_signature(bytes: &[u8]) -> Result<[u8; 96], ReportError> {
    let mut fields = Fields(Bytes(bytes));
    let (r, s) = (fields.number("R")?, fields.number("S")?);
    fields.zero::<368>("S")?;
    let mut signature = [0; 96];
    for (to, from) in signature.iter_mut().zip(r.iter().chain(&s)) {
        *to = *from;
    }
    Ok(signature)
}
