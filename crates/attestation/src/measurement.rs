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
    /// SEV-SNP: a field of the report.
    Snp(SnpRegister),
    /// NVIDIA: a measurement block, from 1.
    Block(u8),
}

/// A field of a SEV-SNP report that says what runs, for whom or where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum SnpRegister {
    /// The launch digest, 48 bytes.
    Measurement,
    /// The host's data, 32 bytes.
    HostData,
    /// SHA-384 of the ID key.
    IdKeyDigest,
    /// SHA-384 of the author key.
    AuthorKeyDigest,
    /// The family's id, 16 bytes.
    FamilyId,
    /// The image's id, 16 bytes.
    ImageId,
    /// The guest's own id, 32 bytes.
    ReportId,
    /// Its migration agent's, 32 bytes.
    ReportIdMa,
    /// The chip, 64 bytes.
    ChipId,
}

impl SnpRegister {
    const ALL: [Self; 9] = [
        Self::Measurement,
        Self::HostData,
        Self::IdKeyDigest,
        Self::AuthorKeyDigest,
        Self::FamilyId,
        Self::ImageId,
        Self::ReportId,
        Self::ReportIdMa,
        Self::ChipId,
    ];

    /// Its name in policies.
    pub fn name(self) -> &'static str {
        match self {
            Self::Measurement => "measurement",
            Self::HostData => "host_data",
            Self::IdKeyDigest => "id_key_digest",
            Self::AuthorKeyDigest => "author_key_digest",
            Self::FamilyId => "family_id",
            Self::ImageId => "image_id",
            Self::ReportId => "report_id",
            Self::ReportIdMa => "report_id_ma",
            Self::ChipId => "chip_id",
        }
    }
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
            Self::Snp(_) => kind == Kind::SevSnp,
            Self::Rtmr(_)
            | Self::MrTd
            | Self::MrConfigId
            | Self::MrOwner
            | Self::MrOwnerConfig
            | Self::MrSeam
            | Self::MrSignerSeam
            | Self::MrServiceTd => kind == Kind::Tdx,
            Self::MrEnclave | Self::MrSigner | Self::IsvProdId | Self::ConfigId => kind == Kind::Sgx,
            Self::Block(_) => kind == Kind::Nvidia,
        }
    }

    /// The register of this name: `pcr0`, `mrtd`, `block.12`.
    pub fn from_name(name: &str) -> Option<Self> {
        let numbered = |prefix: &str, most: u8| {
            let digits = name.strip_prefix(prefix)?;
            let number: u8 = digits.parse().ok().filter(|number| *number <= most)?;
            (number.to_string() == digits).then_some(number)
        };
        let snp = || SnpRegister::ALL.into_iter().find(|register| register.name() == name).map(Self::Snp);
        NAMED
            .iter()
            .find(|(named, _)| *named == name)
            .map(|(_, register)| *register)
            .or_else(|| numbered("pcr", 31).map(Self::Pcr))
            .or_else(|| numbered("rtmr", 3).map(Self::Rtmr))
            .or_else(|| numbered("block.", u8::MAX).map(Self::Block))
            .or_else(snp)
    }
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pcr(number) => write!(f, "pcr{number}"),
            Self::Snp(register) => f.write_str(register.name()),
            Self::Rtmr(number) => write!(f, "rtmr{number}"),
            Self::Block(number) => write!(f, "block.{number}"),
            _ => {
                let named = NAMED.iter().find(|(_, register)| register == self);
                f.write_str(named.map_or("", |(name, _)| name))
            }
        }
    }
}
