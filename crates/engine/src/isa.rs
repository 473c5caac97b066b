//! Instruction sets that kernels are compiled for, and which of them this processor has.

use std::fmt;
use std::str::FromStr;

/// An instruction set. Every one gives the same bits; a caller may force a lower one than [`Isa::detect`] finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// x86-64 with AVX-512 F, VL, DQ, BW and FMA.
    Avx512,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// aarch64, whose baseline has NEON and fused multiply-add.
    Neon,
    /// What the compiler's baseline has; fused multiply-adds are emulated exactly where the baseline lacks them.
    Portable,
}

/// A name that is no instruction set's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown instruction set {got:?}: expected avx512, avx2, neon or portable")]
pub struct UnknownIsa {
    /// The name.
    pub got: String,
}

impl Isa {
    /// Every instruction set, the fastest first.
    pub const ALL: [Self; 4] = [Self::Avx512, Self::Avx2, Self::Neon, Self::Portable];

    /// The fastest that this processor has.
    pub fn detect() -> Self {
        Self::ALL.into_iter().find(|isa| isa.is_available()).unwrap_or(Self::Portable)
    }

    /// Those that this processor has, the fastest first.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|isa| isa.is_available())
    }

    /// Whether this processor has it.
    pub fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                use std::arch::is_x86_feature_detected as has;
                has!("avx512f") && has!("avx512vl") && has!("avx512dq") && has!("avx512bw") && has!("fma")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
            }
            Self::Neon => cfg!(target_arch = "aarch64"),
            Self::Portable => true,
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx512 | Self::Avx2 => false,
        }
    }

    /// Itself where this processor has it, else the portable one.
    pub fn or_portable(self) -> Self {
        if self.is_available() { self } else { Self::Portable }
    }

    /// Its name: `avx512`, `avx2`, `neon`, `portable`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Neon => "neon",
            Self::Portable => "portable",
        }
    }
}

/// Whether this processor reads memory fastest from one place on, in order, with nothing asked for ahead of time. AMD's with AVX-512 do
/// (measured on Zen 4); others read faster from several places at a time.
pub(crate) fn reads_in_order() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        static IN_ORDER: std::sync::LazyLock<bool> = std::sync::LazyLock::new(|| {
            let vendor = std::arch::x86_64::__cpuid(0);
            let amd =
                [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).as_flattened() == b"AuthenticAMD";
            amd && Isa::Avx512.is_available()
        });
        *IN_ORDER
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Isa {
    type Err = UnknownIsa;

    fn from_str(name: &str) -> Result<Self, UnknownIsa> {
        Self::ALL
            .into_iter()
            .find(|isa| isa.name() == name)
            .ok_or_else(|| UnknownIsa { got: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_order() {
        for isa in Isa::ALL {
            assert_eq!(isa.name().parse(), Ok(isa));
            assert!(isa.or_portable().is_available());
        }
        assert!("sse".parse::<Isa>().is_err());
        assert_eq!(Isa::available().next(), Some(Isa::detect()));
        assert_eq!(Isa::available().last(), Some(Isa::Portable));
    }
}
