//! Products, and the security versions of their parts.

use std::fmt;

use hallmark_receipt::json::{Object, Value};
use serde::Deserialize;

use super::report::Cpuid;

/// A line of processors with a root of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Product {
    /// EPYC 7003.
    Milan,
    /// EPYC 9004, 97x4 (Bergamo) and 8004 (Siena).
    Genoa,
    /// EPYC 9005.
    Turin,
}

/// The parts whose security versions a report names, by the last arc of their certificate extension.
const NAMES: &[(u8, &str)] = &[(9, "fmc"), (1, "bootloader"), (2, "tee"), (3, "snp"), (8, "microcode")];

impl Product {
    /// Every product.
    pub const ALL: [Self; 3] = [Self::Milan, Self::Genoa, Self::Turin];

    /// Its name, as AMD's certificates write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Milan => "Milan",
            Self::Genoa => "Genoa",
            Self::Turin => "Turin",
        }
    }

    /// The product of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|product| product.name() == name)
    }

    /// The product that a signing key's certificate names, stepping included: `Milan-B0`. Bergamo and Siena have Genoa's keys.
    pub fn from_certificate(name: &str) -> Option<Self> {
        match name.split('-').next()? {
            "Bergamo" | "Siena" => Some(Self::Genoa),
            line => Self::from_name(line),
        }
    }

    /// The product that a processor belongs to (AMD 57230; Bergamo and Siena have Genoa's keys).
    pub fn of_cpu(cpu: Cpuid) -> Option<Self> {
        match (cpu.family, cpu.model) {
            (0x19, 0x00..=0x0f) => Some(Self::Milan),
            (0x19, 0x10..=0x1f | 0xa0..=0xaf) => Some(Self::Genoa),
            (0x1a, 0x00..=0x1f) => Some(Self::Turin),
            _ => None,
        }
    }

    /// A chip's id as its certificate has it: all of the report's field, of Turin the first 8 bytes.
    pub fn hardware_id(self, field: &[u8; 64]) -> &[u8] {
        match self {
            Self::Milan | Self::Genoa => field,
            Self::Turin => field.first_chunk::<8>().map_or(&[], |id| id),
        }
    }

    /// How its security versions lie: for each byte the last arc of the certificate extension that certifies it
    /// (1.3.6.1.4.1.3704.1.3.*, AMD 57230). 4 to 7 are reserved.
    fn layout(self) -> [u8; 8] {
        match self {
            Self::Milan | Self::Genoa => [1, 2, 4, 5, 6, 7, 3, 8],
            Self::Turin => [9, 1, 2, 3, 5, 6, 7, 8],
        }
    }
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A `TCB_VERSION`: the security versions of a platform's parts, as the report has them. Which byte is which, the product says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tcb(pub [u8; 8]);

/// One part of a platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The last arc of its certificate extension.
    pub arc: u8,
    /// Its security version.
    pub version: u8,
}

impl Part {
    /// Its name; reserved ones have none.
    pub fn name(self) -> Option<&'static str> {
        NAMES.iter().find(|(arc, _)| *arc == self.arc).map(|(_, name)| *name)
    }
}

impl Tcb {
    /// Its parts, in the order of its bytes.
    pub fn parts(self, product: Product) -> impl Iterator<Item = Part> {
        product.layout().into_iter().zip(self.0).map(|(arc, version)| Part { arc, version })
    }

    /// Whether no part is newer than the same one of `other`.
    pub fn is_at_most(self, other: Self) -> bool {
        self.0.iter().zip(other.0).all(|(this, other)| *this <= other)
    }

    /// The first part that is older than `minimum` asks for.
    pub fn below(self, product: Product, minimum: &MinimumTcb) -> Option<(Part, u8)> {
        self.parts(product).find_map(|part| {
            let least = minimum.of(part.arc);
            (part.version < least).then_some((part, least))
        })
    }

    /// Its named parts.
    pub fn fields(self, product: Product) -> Object {
        let named = self.parts(product).filter_map(|part| Some((part.name()?, part.version)));
        named.map(|(name, version)| (name.to_owned(), Value::Int(version.into()))).collect()
    }

    /// Its named parts in words.
    pub fn text(self, product: Product) -> String {
        let named = self.parts(product).filter_map(|part| Some((part.name()?, part.version)));
        named.map(|(name, version)| format!("{name} {version}")).collect::<Vec<_>>().join(", ")
    }
}

/// The least security versions of a product, by part; a part that is left out may be any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MinimumTcb {
    /// First code of the secure processor, of Turin.
    pub fmc: u8,
    /// Its boot loader.
    pub bootloader: u8,
    /// Its operating system.
    pub tee: u8,
    /// The SNP firmware.
    pub snp: u8,
    /// The cores' microcode.
    pub microcode: u8,
}

impl MinimumTcb {
    fn of(&self, arc: u8) -> u8 {
        match arc {
            9 => self.fmc,
            1 => self.bootloader,
            2 => self.tee,
            3 => self.snp,
            8 => self.microcode,
            _ => 0,
        }
    }
}
