//! The innermost kernels, compiled once for each instruction set.
#![allow(unsafe_code)] // Pointers into operands; instruction sets chosen at run time.
#![allow(clippy::needless_range_loop)] // Several arrays of registers are indexed alike.

use hallmark_model::numeric::int8::INT8_BLOCK;

use super::super::gemm::pack::LINE;
use super::super::gemm::table::Next;
use super::super::gemm::vector::{Portable, Vector};
use super::super::simd::unrolled;
use super::pack::Rows;
use crate::isa::{Isa, reads_in_order};

/// Integers of one column side by side.
pub(super) const GROUP: usize = 4;
/// Groups of a block.
pub(super) const GROUPS: usize = INT8_BLOCK / GROUP;

/// Tiles of several panels ask for weights so many cache lines before they need them.
const AHEAD: usize = 32;

/// Some rows times some panels.
pub(super) struct Tile<'a> {
    pub(super) rows: &'a Rows,
    /// The first row.
    pub(super) row: usize,
    /// The first panel.
    pub(super) weight: *const f32,
    /// Distance of panels.
    pub(super) stride: usize,
    /// What follows these panels in memory.
    pub(super) next: Next,
    /// Where the outputs go.
    pub(super) sums: *mut f32,
    /// Distance of their rows.
    pub(super) sums_row: usize,
}

pub(super) type TileFn = unsafe fn(&Tile<'_>);

/// Tiles of some number of rows.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    /// Panels that [`Shape::several`] takes.
    pub(super) panels: usize,
    pub(super) several: TileFn,
    /// One panel.
    pub(super) one: TileFn,
}

/// Kernels of one instruction set.
pub(super) struct Kernels {
    /// Lanes of a vector: columns of a panel.
    pub(super) lanes: usize,
    /// What a weight's byte is combined with.
    pub(super) flip: u8,
    /// Tiles of `i + 1` rows, for products of few rows, where reading weights takes the time.
    few: &'static [Shape],
    /// The same for products of many rows, all of as many panels.
    many: &'static [Shape],
}

impl Kernels {
    /// Elements of a block of a panel: scales and integers.
    pub(super) fn block(&self) -> usize {
        self.lanes * (1 + GROUPS)
    }

    /// Elements of a panel.
    pub(super) fn panel(&self, blocks: usize) -> usize {
        blocks * self.block()
    }

    /// Which tiles a product of `m` rows takes, and their panels.
    pub(super) fn shapes(&self, m: usize) -> (&'static [Shape], usize) {
        match self.few.get(m - 1) {
            Some(_) if in_order(m) => (&self.few[..m], 1),
            Some(shape) => (&self.few[..m], shape.panels),
            None => (self.many, self.many[0].panels),
        }
    }
}

/// Whether products of `m` rows read panel after panel and ask for nothing ahead of time. More rows take so long for a block that the
/// processor by itself does not fetch far enough ahead.
pub(super) fn in_order(m: usize) -> bool {
    m <= 2 && reads_in_order()
}

/// Kernels of `isa`, or of the portable path where the processor lacks it.
pub(super) fn kernels(isa: Isa) -> &'static Kernels {
    match isa.or_portable() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 if std::arch::is_x86_feature_detected!("avx512vnni") => &vnni::KERNELS,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Avx2 => &avx2::KERNELS,
        _ => &portable::KERNELS,
    }
}

/// Lanes that sum products of integers, four at a time, beside lanes of float32.
///
/// # Safety
/// As [`Vector`]'s; weights are [`GROUP`] bytes a lane, activations [`GROUP`] bytes.
trait Dot: Vector {
    type Ints: Copy;
    /// What a weight's byte is combined with. Where it flips the highest bit, weights are 128 too great, and sums start from -128 times
    /// the activations' sum.
    const FLIP: u8;
    /// All lanes `start`, where weights are flipped, else 0.
    unsafe fn start(start: i32) -> Self::Ints;
    /// Weights of a group.
    unsafe fn weights(at: *const f32) -> Self::Ints;
    /// `sums + weights . activations`.
    unsafe fn dot(sums: Self::Ints, weights: Self::Ints, activations: *const i8) -> Self::Ints;
    /// Integers below 2^24.
    unsafe fn floats(sums: Self::Ints) -> Self;
}

/// One tile: `MR` rows by `P` panels.
#[inline(always)]
unsafe fn tile<D: Dot, const MR: usize, const P: usize>(t: &Tile<'_>) {
    // SAFETY: the caller promises a tile whose every element is in bounds, and the instruction set.
    unsafe {
        let blocks = t.rows.blocks;
        let first = t.row * blocks;
        let (mut scales, mut starts) = (t.rows.scales.as_ptr().add(first), t.rows.starts.as_ptr().add(first));
        let mut x = t.rows.integers.as_ptr().add(first * INT8_BLOCK);
        let mut weight = t.weight;
        let mut sums = [[D::zero(); P]; MR];
        for block in 0..blocks {
            let mut ints = [[D::start(0); P]; MR];
            unrolled!(MR, i => {
                ints[i] = [D::start(*starts.add(i * blocks)); P];
            });
            macro_rules! groups {
                ($($group:literal)*) => {$(
                    if P == 1 {
                        let at = block * (1 + GROUPS) + $group;
                        D::ask(t.next.at(at + 1));
                        if $group == 0 {
                            D::ask(t.next.at(at));
                        }
                    }
                    let mut w = [D::start(0); P];
                    for p in 0..P {
                        if P > 1 {
                            let ahead = weight.wrapping_add(p * t.stride + AHEAD * LINE);
                            D::ask(ahead.wrapping_add((1 + $group) * D::LANES));
                            if $group == 0 {
                                D::ask(ahead);
                            }
                        }
                        w[p] = D::weights(weight.add(p * t.stride + (1 + $group) * D::LANES));
                    }
                    unrolled!(MR, i => {
                        for p in 0..P {
                            ints[i][p] = D::dot(ints[i][p], w[p], x.add(i * blocks * INT8_BLOCK + $group * GROUP));
                        }
                    });
                )*};
            }
            groups!(0 1 2 3 4 5 6 7);
            unrolled!(MR, i => {
                let scale = D::splat(*scales.add(i * blocks));
                for p in 0..P {
                    let scale = scale.mul(D::load(weight.add(p * t.stride)));
                    sums[i][p] = sums[i][p].fma(D::floats(ints[i][p]), scale);
                }
            });
            weight = weight.add(D::LANES * (1 + GROUPS));
            (scales, starts, x) = (scales.add(1), starts.add(1), x.add(INT8_BLOCK));
        }
        for i in 0..MR {
            for p in 0..P {
                sums[i][p].store(t.sums.add(i * t.sums_row + p * D::LANES));
            }
        }
    }
}

/// The kernels of one instruction set in one module.
macro_rules! kernels {
    ($name:ident, $vector:ty, $($features:literal)?, few $($few_rows:literal x $few:literal)*, many $many:literal x $($many_rows:literal)*) => {
        mod $name {
            use super::*;

            // SAFETY: callers hold a `Kernels`, and `kernels` hands one out only where the processor has the instruction set; the
            // tile is the caller's promise.
            $(#[target_feature(enable = $features)])?
            unsafe fn kernel<const MR: usize, const P: usize>(t: &Tile<'_>) {
                unsafe { tile::<$vector, MR, P>(t) }
            }

            const fn shape<const MR: usize, const P: usize>() -> Shape {
                Shape { panels: P, several: kernel::<MR, P>, one: kernel::<MR, 1> }
            }

            pub(super) static KERNELS: Kernels = Kernels {
                lanes: <$vector as Vector>::LANES,
                flip: <$vector as Dot>::FLIP,
                few: &[$(shape::<$few_rows, $few>()),*],
                many: &[$(shape::<$many_rows, $many>()),*],
            };
        }
    };
}

kernels!(portable, Portable, , few 1 x 1 2 x 1 3 x 1 4 x 1, many 1 x 1 2 3 4);
#[cfg(target_arch = "x86_64")]
kernels!(avx2, std::arch::x86_64::__m256, "avx2,fma", few 1 x 1 2 x 1 3 x 1 4 x 1, many 1 x 1 2 3 4);
#[cfg(target_arch = "x86_64")]
kernels!(
    vnni, std::arch::x86_64::__m512, "avx512f,avx512vl,avx512dq,avx512bw,avx512vnni,fma",
    few 1 x 4 2 x 4 3 x 3 4 x 2 5 x 1 6 x 1 7 x 1 8 x 1, many 2 x 1 2 3 4 5 6
);

impl Dot for Portable {
    type Ints = [i32; 4];
    const FLIP: u8 = 0;
    #[inline(always)]
    unsafe fn start(_: i32) -> Self::Ints {
        [0; 4]
    }
    /// The bytes as they lie.
    #[inline(always)]
    unsafe fn weights(at: *const f32) -> Self::Ints {
        // SAFETY: the caller's promise.
        unsafe { *at.cast() }
    }
    #[inline(always)]
    unsafe fn dot(sums: Self::Ints, weights: Self::Ints, activations: *const i8) -> Self::Ints {
        // SAFETY: the caller's promise.
        let x: [i8; GROUP] = unsafe { *activations.cast() };
        std::array::from_fn(|lane| {
            let w = weights[lane].to_ne_bytes();
            (0..GROUP).fold(sums[lane], |sum, i| sum + i32::from(w[i].cast_signed()) * i32::from(x[i]))
        })
    }
    #[inline(always)]
    unsafe fn floats(sums: Self::Ints) -> Self {
        // SAFETY: as many elements as lanes.
        unsafe { Self::load(sums.map(|sum| sum as f32).as_ptr()) }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Dot;
    use std::arch::x86_64::*;

    // SAFETY of all blocks below: the caller promises the instruction set and the pointers.
    impl Dot for __m512 {
        type Ints = __m512i;
        const FLIP: u8 = 0x80;
        #[inline(always)]
        unsafe fn start(start: i32) -> __m512i {
            unsafe { _mm512_set1_epi32(start) }
        }
        #[inline(always)]
        unsafe fn weights(at: *const f32) -> __m512i {
            unsafe { _mm512_loadu_si512(at.cast()) }
        }
        #[inline(always)]
        unsafe fn dot(sums: __m512i, weights: __m512i, activations: *const i8) -> __m512i {
            unsafe {
                let x = _mm512_set1_epi32(activations.cast::<i32>().read_unaligned());
                _mm512_dpbusd_epi32(sums, weights, x)
            }
        }
        #[inline(always)]
        unsafe fn floats(sums: __m512i) -> Self {
            unsafe { _mm512_cvtepi32_ps(sums) }
        }
    }

    impl Dot for __m256 {
        type Ints = __m256i;
        const FLIP: u8 = 0;
        #[inline(always)]
        unsafe fn start(_: i32) -> __m256i {
            unsafe { _mm256_setzero_si256() }
        }
        #[inline(always)]
        unsafe fn weights(at: *const f32) -> __m256i {
            unsafe { _mm256_loadu_si256(at.cast()) }
        }
        /// Magnitudes of weights times activations with the weights' signs: two products stay below 2^15.
        #[inline(always)]
        unsafe fn dot(sums: __m256i, weights: __m256i, activations: *const i8) -> __m256i {
            unsafe {
                let x = _mm256_set1_epi32(activations.cast::<i32>().read_unaligned());
                let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(x, weights));
                _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
            }
        }
        #[inline(always)]
        unsafe fn floats(sums: __m256i) -> Self {
            unsafe { _mm256_cvtepi32_ps(sums) }
        }
    }
}
