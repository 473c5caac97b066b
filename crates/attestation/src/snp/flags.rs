//! The named bits of a report: the guest's policy and the platform's settings (56860).

use serde::Deserialize;

/// A bit of the guest's policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuestFlag {
    /// The host may run two threads a core.
    Smt = 16,
    /// A migration agent may be tied to it: another guest, which gets its keys.
    MigrationAgent = 18,
    /// The host may read and write its memory.
    Debug = 19,
    /// It runs on one socket alone.
    SingleSocket = 20,
    /// CXL devices and memory may be there.
    Cxl = 21,
    /// Memory is encrypted with AES-256-XTS.
    Aes256Xts = 22,
    /// Running average power limits are off.
    RaplDisabled = 23,
    /// The host does not see ciphertext.
    CiphertextHiding = 24,
    /// The host cannot move or swap its pages.
    PageSwapDisabled = 25,
}

impl GuestFlag {
    const ALL: [Self; 9] = [
        Self::Smt,
        Self::MigrationAgent,
        Self::Debug,
        Self::SingleSocket,
        Self::Cxl,
        Self::Aes256Xts,
        Self::RaplDisabled,
        Self::CiphertextHiding,
        Self::PageSwapDisabled,
    ];

    /// Its name in policies.
    pub fn name(self) -> &'static str {
        match self {
            Self::Smt => "smt",
            Self::MigrationAgent => "migration-agent",
            Self::Debug => "debug",
            Self::SingleSocket => "single-socket",
            Self::Cxl => "cxl",
            Self::Aes256Xts => "aes256-xts",
            Self::RaplDisabled => "rapl-disabled",
            Self::CiphertextHiding => "ciphertext-hiding",
            Self::PageSwapDisabled => "page-swap-disabled",
        }
    }

    /// Its bit.
    pub fn mask(self) -> u64 {
        1 << (self as u32)
    }

    /// Every bit that has a name.
    pub(super) fn known() -> u64 {
        Self::ALL.iter().fold(0, |bits, flag| bits | flag.mask())
    }

    /// The names of the bits that are set.
    pub fn names(bits: u64) -> Vec<&'static str> {
        Self::ALL.into_iter().filter(|flag| bits & flag.mask() != 0).map(Self::name).collect()
    }
}

/// A bit of the platform's settings. Others may be set: later firmware has more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlatformFlag {
    /// Two threads a core.
    Smt = 0,
    /// All memory is encrypted.
    Tsme = 1,
    /// Memory has error-correcting codes.
    Ecc = 2,
    /// Running average power limits are off.
    RaplDisabled = 3,
    /// The host does not see ciphertext.
    CiphertextHiding = 4,
    /// Memory was checked for addresses that alias (CVE-2024-21944).
    AliasCheck = 5,
    /// Devices may be trusted (SEV-TIO).
    Tio = 7,
}

impl PlatformFlag {
    const ALL: [Self; 7] = [
        Self::Smt,
        Self::Tsme,
        Self::Ecc,
        Self::RaplDisabled,
        Self::CiphertextHiding,
        Self::AliasCheck,
        Self::Tio,
    ];

    /// Its name in policies.
    pub fn name(self) -> &'static str {
        match self {
            Self::Smt => "smt",
            Self::Tsme => "tsme",
            Self::Ecc => "ecc",
            Self::RaplDisabled => "rapl-disabled",
            Self::CiphertextHiding => "ciphertext-hiding",
            Self::AliasCheck => "alias-check",
            Self::Tio => "tio",
        }
    }

    /// Its bit.
    pub fn mask(self) -> u64 {
        1 << (self as u32)
    }

    /// The names of the bits that are set and have one.
    pub fn names(bits: u64) -> Vec<&'static str> {
        Self::ALL.into_iter().filter(|flag| bits & flag.mask() != 0).map(Self::name).collect()
    }
}
