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
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4_K,
    Q5_K,
    Q6_K,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q4_K,
        Self::Q5_K,
        Self::Q6_K,
    ];

    /// Its name in files and manifests.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q4_K => "Q4_K",
            Self::Q5_K => "Q5_K",
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
            Self::Q4_1 => (32, 20),
            Self::Q5_0 => (32, 22),
            Self::Q5_1 => (32, 24),
            Self::Q8_0 => (32, 34),
            Self::Q4_K => (256, 144),
            Self::Q5_K => (256, 176),
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
            Self::Q4_0 => bytes.as_chunks::<18>().0.iter().for_each(|[d0, d1, quants @ ..]| {
                around(half([*d0, *d1]), 8.0, bits(&[], quants), out);
            }),
            Self::Q4_1 => bytes.as_chunks::<20>().0.iter().for_each(|[d0, d1, m0, m1, quants @ ..]| {
                above(half([*d0, *d1]), half([*m0, *m1]), bits(&[], quants), out);
            }),
            Self::Q5_0 => bytes.as_chunks::<22>().0.iter().for_each(|[d0, d1, rest @ ..]| {
                let (fifth, quants) = rest.split_at(4);
                around(half([*d0, *d1]), 16.0, bits(fifth, quants), out);
            }),
            Self::Q5_1 => bytes.as_chunks::<24>().0.iter().for_each(|[d0, d1, m0, m1, rest @ ..]| {
                let (fifth, quants) = rest.split_at(4);
                above(half([*d0, *d1]), half([*m0, *m1]), bits(fifth, quants), out);
            }),
            Self::Q8_0 => bytes.as_chunks::<34>().0.iter().for_each(|[d0, d1, quants @ ..]| {
                let d = half([*d0, *d1]);
                out.extend(quants.iter().map(|&q| canonical_f32(d * f32::from(q.cast_signed()))));
            }),
            Self::Q4_K => bytes.as_chunks::<144>().0.iter().for_each(|block| groups(block, 0, out)),
            Self::Q5_K => bytes.as_chunks::<176>().0.iter().for_each(|block| groups(block, 32, out)),
            Self::Q6_K => bytes.as_chunks::<210>().0.iter().for_each(|block| q6_k(block, out)),
        }
    }
}

fn half(bytes: [u8; 2]) -> f32 {
    canonical_f32(f16::from_le_bytes(bytes).to_f32())
}

/// Low nibbles of sixteen bytes, then the high ones, each with a bit of `fifth` above it where there are any.
fn bits(fifth: &[u8], quants: &[u8]) -> impl Iterator<Item = f32> {
    let nibbles = quants.iter().map(|q| q & 15).chain(quants.iter().map(|q| q >> 4));
    nibbles.enumerate().map(|(i, low)| {
        let fifth = fifth.get(i / 8).map_or(0, |bits| bits >> (i % 8) & 1);
        f32::from(low | fifth << 4)
    })
}

/// `d * (q - zero)`.
fn around(d: f32, zero: f32, quants: impl Iterator<Item = f32>, out: &mut Vec<f32>) {
    out.extend(quants.map(|q| canonical_f32(d * (q - zero))));
}

/// `d * q + m`.
fn above(d: f32, m: f32, quants: impl Iterator<Item = f32>, out: &mut Vec<f32>) {
    out.extend(quants.map(|q| canonical_f32(d * q + m)));
}

/// Eight groups of 32, each with a scale and a minimum of six bits: `(d * scale) * q - (dmin * minimum)`. A fifth bit of q lies in
/// `fifth` bytes, one for each column, group 0 lowest.
fn groups(block: &[u8], fifth: usize, out: &mut Vec<f32>) {
    let (head, rest) = block.split_at(4);
    let (packed, rest) = rest.split_at(12);
    let (fifth, quants) = rest.split_at(fifth);
    let [d, dmin] = [0, 2].map(|at| head.get(at..).and_then(<[u8]>::first_chunk).map_or(0.0, |d| half(*d)));
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
        let row = quants.iter().skip(32 * (group / 2)).take(32);
        out.extend(row.enumerate().map(|(i, q)| {
            let fifth = fifth.get(i).map_or(0, |bits| bits >> group & 1);
            let q = q >> (4 * (group % 2)) & 15 | fifth << 4;
            canonical_f32(scale * f32::from(q) - minimum)
        }));
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
