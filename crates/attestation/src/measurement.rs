//! Measurements: what runs, as hardware measured it. Each is tagged with its register, and a register belongs to one kind, so that
//! no PCR is ever taken for an RTMR.

use std::collections::BTreeMap;
use std::fmt;

use crate::Kind;

/// A register that hardware measures into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Register {
    /// Nitro: a platform configuration register, 0 to 31.
    Pcr(u8),
    /// TDX: a run-time measurement register, 0 to 3.
    Rtmr(u8),
    /// TDX: what was loaded at first.
    MrTd,
    /// TDX: the configuration that the owner named.
    MrConfigId,
    /// TDX: the owner.
    MrOwner,
    /// TDX: the owner's own configuration.
    MrOwnerConfig,
    /// TDX: the TDX module.
    MrSeam,
    /// TDX: its signer.
    MrSignerSeam,
    /// TDX: the service trust domains that are bound.
    MrServiceTd,
    /// SGX: what was loaded.
    MrEnclave,
    /// SGX: SHA-256 of the key that signed it.
    MrSigner,
    /// SGX: the signer's product, two bytes, the higher first.
    IsvProdId,
    /// SGX: the configuration that the loader named.
    ConfigId,
}

/// The registers that have no number.
const NAMED: &[(&str, Register)] = &[
    ("mrtd", Register::MrTd),
    ("mrconfigid", Register::MrConfigId),
    ("mrowner", Register::MrOwner),
    ("mrownerconfig", Register::MrOwnerConfig),
    ("mrseam", Register::MrSeam),
    ("mrsignerseam", Register::MrSignerSeam),
    ("mrservicetd", Register::MrServiceTd),
    ("mrenclave", Register::MrEnclave),
    ("mrsigner", Register::MrSigner),
    ("isvprodid", Register::IsvProdId),
    ("configid", Register::ConfigId),
];

/// What each register holds.
pub type Measurements = BTreeMap<Register, Vec<u8>>;

/// A release that a policy allows: every register that it names must hold the named value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Its name, for the row.
    pub name: String,
    /// The values, at least one.
    pub registers: Measurements,
}

impl Register {
    /// The kind that it belongs to, where two kinds share a form.
    pub fn is_of(self, kind: Kind) -> bool {
        match self {
            Self::Pcr(_) => kind == Kind::Nitro,
            Self::Rtmr(_)
            | Self::MrTd
            | Self::MrConfigId
            | Self::MrOwner
            | Self::MrOwnerConfig
            | Self::MrSeam
            | Self::MrSignerSeam
            | Self::MrServiceTd => kind == Kind::Tdx,
            Self::MrEnclave | Self::MrSigner | Self::IsvProdId | Self::ConfigId => kind == Kind::Sgx,
        }
    }

    /// The register of this name: `pcr0`, `mrtd`.
    pub fn from_name(name: &str) -> Option<Self> {
        let numbered = |prefix: &str, most: u8| {
            let digits = name.strip_prefix(prefix)?;
            let number: u8 = digits.parse().ok().filter(|number| *number <= most)?;
            (number.to_string() == digits).then_some(number)
        };
        NAMED
            .iter()
            .find(|(named, _)| *named == name)
            .map(|(_, register)| *register)
            .or_else(|| numbered("pcr", 31).map(Self::Pcr))
            .or_else(|| numbered("rtmr", 3).map(Self::Rtmr))
    }
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pcr(number) => write!(f, "pcr{number}"),
            Self::Rtmr(number) => write!(f, "rtmr{number}"),
            _ => {
                let named = NAMED.iter().find(|(_, register)| register == self);
                f.write_str(named.map_or("", |(name, _)| name))
            }
        }
    }
}
