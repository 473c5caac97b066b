//! The texts that Intel signs: TCB info (versions 2 and 3) and identities of enclaves (version 2), as the API of its provisioning
//! certification service describes them. Members that are not named here are signed too, and are passed over.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;

use super::collateral::from_hex;

/// The most levels of one list.
const MAX_LEVELS: usize = 1024;

/// What security versions platforms of one kind have, and what each is worth.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TcbInfo {
    /// `SGX` or `TDX`; version 2, which is SGX's alone, does not say.
    #[serde(default = "sgx")]
    pub id: String,
    /// Its version.
    pub version: u32,
    /// When it was made.
    pub issue_date: Date,
    /// When the next one is due.
    pub next_update: Date,
    /// The platforms that it is about.
    pub fmspc: Hex<6>,
    /// Their provisioning certification enclave.
    pub pce_id: Hex<2>,
    /// How components are compared; 0: each by itself.
    pub tcb_type: u32,
    /// Rises with every recovery of security that Intel makes.
    #[serde(default)]
    pub tcb_evaluation_data_number: u64,
    /// TDX: the module, where no identity of its major version is given.
    pub tdx_module: Option<ModuleIdentity>,
    /// TDX: the modules by their major versions.
    #[serde(default)]
    pub tdx_module_identities: Vec<ModuleIdentity>,
    /// The levels.
    #[serde(deserialize_with = "bounded")]
    pub tcb_levels: Vec<Level<PlatformTcb>>,
}

/// A TDX module.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModuleIdentity {
    /// `TDX_01` and so on; of the default, nothing.
    #[serde(default)]
    pub id: String,
    /// Its signer.
    pub mrsigner: Hex<48>,
    /// Its attributes.
    pub attributes: Hex<8>,
    /// Which of them count.
    pub attributes_mask: Hex<8>,
    /// Its levels.
    #[serde(default, deserialize_with = "bounded")]
    pub tcb_levels: Vec<Level<IsvSvn>>,
}

/// A quoting enclave.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnclaveIdentity {
    /// `QE` or `TD_QE`.
    pub id: String,
    /// Its version.
    pub version: u32,
    /// When it was made.
    pub issue_date: Date,
    /// When the next one is due.
    pub next_update: Date,
    /// Rises with every recovery of security that Intel makes.
    #[serde(default)]
    pub tcb_evaluation_data_number: u64,
    /// What it saves when it is left.
    pub miscselect: Hex<4>,
    /// Which bits of it count.
    pub miscselect_mask: Hex<4>,
    /// Its attributes.
    pub attributes: Hex<16>,
    /// Which of them count.
    pub attributes_mask: Hex<16>,
    /// Its signer.
    pub mrsigner: Hex<32>,
    /// Its product.
    pub isvprodid: u16,
    /// Its levels.
    #[serde(deserialize_with = "bounded")]
    pub tcb_levels: Vec<Level<IsvSvn>>,
}

/// What a state of the software is worth.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Level<T> {
    /// The security versions that reach it.
    pub tcb: T,
    /// When the level was the newest.
    pub tcb_date: Date,
    /// What it is worth.
    pub tcb_status: TcbStatus,
    /// Intel's advisories that apply.
    #[serde(default, rename = "advisoryIDs")]
    pub advisories: Vec<String>,
}

/// The security versions of a platform.
#[derive(Clone, Debug, PartialEq)]
pub struct PlatformTcb {
    /// Of processor and firmware.
    pub sgx: [u16; 16],
    /// Of the TDX module and what it stands on.
    pub tdx: Option<[u16; 16]>,
    /// Of the provisioning certification enclave.
    pub pce_svn: u16,
}

/// The security version of an enclave or module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct IsvSvn {
    /// The version.
    pub isvsvn: u16,
}

/// What a level is worth. The last two come from comparing a trust domain's launch with now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum TcbStatus {
    /// All known weaknesses are mended.
    UpToDate,
    /// Software must defend itself.
    SWHardeningNeeded,
    /// The platform must be configured.
    ConfigurationNeeded,
    /// Both.
    ConfigurationAndSWHardeningNeeded,
    /// Known weaknesses are not mended.
    OutOfDate,
    /// And it must be configured.
    OutOfDateConfigurationNeeded,
    /// Its keys are no longer trusted.
    Revoked,
    /// The platform is up to date now, and was not when the trust domain was launched.
    TDRelaunchAdvised,
    /// And it must be configured.
    TDRelaunchAdvisedConfigurationNeeded,
}

impl std::fmt::Display for TcbStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl TcbStatus {
    /// Whether only age tells against it.
    pub fn is_out_of_date(self) -> bool {
        matches!(self, Self::OutOfDate | Self::OutOfDateConfigurationNeeded)
    }

    fn needs_configuration(self) -> bool {
        matches!(
            self,
            Self::ConfigurationNeeded
                | Self::ConfigurationAndSWHardeningNeeded
                | Self::OutOfDateConfigurationNeeded
                | Self::TDRelaunchAdvisedConfigurationNeeded
        )
    }

    /// A platform's status with that of a part that it runs: only one that is out of date or revoked lowers it, as in Intel's library.
    pub fn with_part(self, part: Self) -> Self {
        match (part, self) {
            (Self::Revoked, _) => Self::Revoked,
            (Self::OutOfDate, Self::UpToDate | Self::SWHardeningNeeded) => Self::OutOfDate,
            (Self::OutOfDate, Self::ConfigurationNeeded | Self::ConfigurationAndSWHardeningNeeded) => {
                Self::OutOfDateConfigurationNeeded
            }
            _ => self,
        }
    }

    /// The status at launch with that of now.
    pub fn relaunched(self, now: Self) -> Self {
        match (self.is_out_of_date(), now) {
            (_, Self::Revoked) => Self::Revoked,
            (true, now) if !now.is_out_of_date() => {
                if self.needs_configuration() || now.needs_configuration() {
                    Self::TDRelaunchAdvisedConfigurationNeeded
                } else {
                    Self::TDRelaunchAdvised
                }
            }
            _ => self,
        }
    }
}

/// Bytes in hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hex<const N: usize>(pub [u8; N]);

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = from_hex(&text).and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| D::Error::custom(format!("expected {N} bytes in hexadecimal digits")))
    }
}

/// Seconds since 1970, written as `2026-03-16T22:16:03Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date(pub u64);

impl<'de> Deserialize<'de> for Date {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let date: der::DateTime = text.parse().map_err(|_| D::Error::custom("expected a time in UTC"))?;
        Ok(Self(date.unix_duration().as_secs()))
    }
}

fn sgx() -> String {
    "SGX".to_owned()
}

fn bounded<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let levels = Vec::deserialize(deserializer)?;
    if levels.len() > MAX_LEVELS {
        return Err(D::Error::custom("too many levels"));
    }
    Ok(levels)
}

impl<'de> Deserialize<'de> for PlatformTcb {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Component {
            svn: u16,
        }
        #[derive(Deserialize)]
        struct Members {
            sgxtcbcomponents: Option<Vec<Component>>,
            tdxtcbcomponents: Option<Vec<Component>>,
            pcesvn: u16,
            /// Version 2 has each component as a member of its own.
            #[serde(flatten)]
            others: BTreeMap<String, Value>,
        }
        let sixteen = |components: Vec<Component>| -> Result<[u16; 16], D::Error> {
            let svns: Vec<u16> = components.into_iter().map(|component| component.svn).collect();
            svns.try_into().map_err(|_| D::Error::custom("expected 16 components"))
        };
        let members = Members::deserialize(deserializer)?;
        let sgx = match members.sgxtcbcomponents {
            Some(components) => sixteen(components)?,
            None => {
                let mut svns = [0; 16];
                for (number, svn) in (1..).zip(&mut svns) {
                    let value = members.others.get(&format!("sgxtcbcomp{number:02}svn"));
                    *svn = value
                        .and_then(Value::as_u64)
                        .and_then(|value| u16::try_from(value).ok())
                        .ok_or_else(|| D::Error::custom("expected 16 components"))?;
                }
                svns
            }
        };
        let tdx = members.tdxtcbcomponents.map(sixteen).transpose()?;
        Ok(Self { sgx, tdx, pce_svn: members.pcesvn })
    }
}
