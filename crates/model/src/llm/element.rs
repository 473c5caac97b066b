//! How weights are stored, and their exact float32 values (`model.md` §7.3).

use half::{bf16, f16};

use crate::numeric::canonical_f32;

/// An element type or block format of a stored weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, non_camel_case_types)]
#[non_exhaustive]
pub enum Kind {
    F32,
    F16,
    BF16,
    Q4_0,
    Q8_0,
    Q4_K,
    Q6_K,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 7] =
        [Self::F32, Self::F16, Self::BF16, Self::Q4_0, Self::Q8_0, Self::Q4_K, Self::Q6_K];

    /// Its name in files and manifests.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::Q4_0 => "Q4_0",
            Self::Q8_0 => "Q8_0",
            Self::Q4_K => "Q4_K",
            Self::Q6_K => "Q6_K",
        }
    }

    /// The kind called `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Elements and bytes of a block.
    pub fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::BF16 => (1, 2),
            Self::Q4_0 => (32, 18),
            Self::Q8_0 => (32, 34),
            Self::Q4_K => (256, 144),
            Self::Q6_K => (256, 210),
        }
    }

    /// Bytes of `elements`, a whole number of blocks; `None` if it is none, or too many.
    pub fn bytes(self, elements: u64) -> Option<u64> {
        let (block, bytes) = self.block();
        let (block, bytes) = (block as u64, bytes as u64);
        elements.is_multiple_of(block).then(|| (elements / block).checked_mul(bytes)).flatten()
    }

    /// Appends the values of the whole blocks in `bytes`. Every NaN is the canonical one.
    pub fn widen(self, bytes: &[u8], out: &mut Vec<f32>) {
        match self {
            Self::F32 => {
                out.extend(bytes.as_chunks::<4>().0.iter().map(|b| canonical_f32(f32::from_le_bytes(*b))))
            }
            Self::F16 => out.extend(bytes.as_chunks::<2>().0.iter().map(|b| half(*b))),
            Self::BF16 => {
                let value = |b: &[u8; 2]| canonical_f32(bf16::from_le_bytes(*b).to_f32());
                out.extend(bytes.as_chunks::<2>().0.iter().map(value));
            }
            Self::Q4_0 => bytes.as_chunks::<18>().0.iter().for_each(|block| q4_0(block, out)),
            Self::Q8_0 => bytes.as_chunks::<34>().0.iter().for_each(|[d0, d1, quants @ ..]| {
                let d = half([*d0, *d1]);
                out.extend(quants.iter().map(|&q| canonical_f32(d * f32::from(q.cast_signed()))));
            }),
            Self::Q4_K => bytes.as_chunks::<144>().0.iter().for_each(|block| q4_k(block, out)),
            Self::Q6_K => bytes.as_chunks::<210>().0.iter().for_each(|block| q6_k(block, out)),
        }
    }
}

fn half(bytes: [u8; 2]) -> f32 {
    canonical_f32(f16::from_le_bytes(bytes).to_f32())
}

/// Low nibbles of sixteen bytes, then the high ones; `d * (q - 8)`.
fn q4_0([d0, d1, quants @ ..]: &[u8; 18], out: &mut Vec<f32>) {
    let d = half([*d0, *d1]);
    let value = |q: u8| canonical_f32(d * (f32::from(q) - 8.0));
    out.extend(quants.iter().map(|q| value(q & 15)));
    out.extend(quants.iter().map(|q| value(q >> 4)));
}

/// Eight groups of 32, each with a scale and a minimum of six bits: `(d * scale) * q - (dmin * minimum)`.
fn q4_k([d0, d1, m0, m1, rest @ ..]: &[u8; 144], out: &mut Vec<f32>) {
    let (d, dmin) = (half([*d0, *d1]), half([*m0, *m1]));
    let (packed, quants) = rest.split_at(12);
    let byte = |i: usize| packed.get(i).copied().unwrap_or(0);
    for group in 0..8 {
        let (scale, minimum) = if group < 4 {
            (byte(group) & 63, byte(group + 4) & 63)
        } else {
            let both = byte(group + 4);
            let (low, high) = (byte(group - 4), byte(group));
            ((both & 15) | ((low >> 2) & 48), (both >> 4) | ((high >> 2) & 48))
        };
        let (scale, minimum) = (d * f32::from(scale), dmin * f32::from(minimum));
        let shift = 4 * (group % 2);
        let group = quants.iter().skip(32 * (group / 2)).take(32);
        out.extend(group.map(|q| canonical_f32(scale * f32::from((q >> shift) & 15) - minimum)));
    }
}

/// Sixteen groups of 16, each with a scale of eight bits: `(d * scale) * (q - 32)`, q of four low and two high bits.
fn q6_k(block: &[u8; 210], out: &mut Vec<f32>) {
    let (low, rest) = block.split_at(128);
    let (high, rest) = rest.split_at(64);
    let (scales, d) = rest.split_at(16);
    let d = d.first_chunk::<2>().map_or(0.0, |d| half(*d));
    let byte = |from: &[u8], i: usize| from.get(i).copied().unwrap_or(0);
    for i in 0..256 {
        // Halves of 128, each of four rows of 32: nibbles of 64 bytes, pairs of bits of 32.
        let (part, row, column) = (i / 128, i / 32 % 4, i % 32);
        let nibble = byte(low, part * 64 + row % 2 * 32 + column) >> (4 * (row / 2)) & 15;
        let pair = byte(high, part * 32 + column) >> (2 * row) & 3;
        let scale = d * f32::from(byte(scales, i / 16).cast_signed());
        out.push(canonical_f32(scale * (f32::from(nibble | pair << 4) - 32.0)));
    }
}
