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
    /// NVIDIA: a measurement block, from 1.
    Block(u8),
}

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
            Self::Block(_) => kind == Kind::Nvidia,
        }
    }

    /// The register of this name: `pcr0`, `block.12`.
    pub fn from_name(name: &str) -> Option<Self> {
        let numbered = |prefix: &str, most: u8| {
            let digits = name.strip_prefix(prefix)?;
            let number: u8 = digits.parse().ok().filter(|number| *number <= most)?;
            (number.to_string() == digits).then_some(number)
        };
        numbered("pcr", 31).map(Self::Pcr).or_else(|| numbered("block.", u8::MAX).map(Self::Block))
    }
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pcr(number) => write!(f, "pcr{number}"),
            Self::Block(number) => write!(f, "block.{number}"),
        }
    }
}
