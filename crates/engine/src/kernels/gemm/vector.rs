//! Vectors of float32 lanes: the few operations that the contraction kernels need, for every instruction set.
//!
//! Functions are unsafe because they may only run where the instruction set is present. They are inlined into functions that
//! enable its features (`table.rs`), never called from elsewhere.
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop)] // Lanes of three arrays are indexed alike.

use hallmark_model::numeric::{FMA, fma_f32_emulated, max_f32, min_f32};

/// The one NaN of `numeric.md` §2.
const NAN: f32 = f32::from_bits(0x7fc0_0000);

/// Some lanes of float32.
///
/// # Safety
/// Of every function: the processor has the instruction set, pointers are valid for [`Vector::LANES`] elements.
pub(crate) trait Vector: Copy {
    /// Lanes.
    const LANES: usize;
    /// All lanes +0.
    unsafe fn zero() -> Self;
    /// All lanes `x`.
    unsafe fn splat(x: f32) -> Self;
    /// From memory, any alignment.
    unsafe fn load(p: *const f32) -> Self;
    /// From the upper halves of float32 whose lower ones are zero, any alignment.
    unsafe fn load_halves(p: *const u16) -> Self;
    /// Asks for the cache line at `p`, any address, where the processor takes such hints.
    #[inline(always)]
    unsafe fn ask(p: *const f32) {
        let _ = p;
    }
    /// To memory, any alignment.
    unsafe fn store(self, p: *mut f32);
    /// `fma(a, b, self)`, rounded once.
    unsafe fn fma(self, a: Self, b: Self) -> Self;
    /// Sum.
    unsafe fn add(self, other: Self) -> Self;
    /// Product.
    unsafe fn mul(self, other: Self) -> Self;
    /// Maximum with +0 above -0; lanes with a NaN are anything.
    unsafe fn max(self, other: Self) -> Self;
    /// Minimum with -0 below +0; a NaN where either has one, of any bits.
    unsafe fn min(self, other: Self) -> Self;
    /// The even lanes of `self`, then those of `other`.
    unsafe fn even(self, other: Self) -> Self;
    /// The one NaN where `test` is a NaN, else `self`.
    unsafe fn nan_where(self, test: Self) -> Self;
}

/// One lane, for the ends of rows.
impl Vector for f32 {
    const LANES: usize = 1;
    #[inline(always)]
    unsafe fn zero() -> Self {
        0.0
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        x
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the caller's promise.
        unsafe { *p }
    }
    #[inline(always)]
    unsafe fn load_halves(p: *const u16) -> Self {
        // SAFETY: the caller's promise.
        f32::from_bits(u32::from(unsafe { *p }) << 16)
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { *p = self }
    }
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        portable_fma(a, b, self)
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self + other
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self * other
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        max_f32(self, other)
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        min_f32(self, other)
    }
    #[inline(always)]
    unsafe fn even(self, _: Self) -> Self {
        self
    }
    #[inline(always)]
    unsafe fn nan_where(self, test: Self) -> Self {
        if test.is_nan() { NAN } else { self }
    }
}

/// What the compiler makes of four lanes on its baseline.
#[derive(Clone, Copy)]
pub(crate) struct Portable([f32; 4]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        let (a, b) = (self.0, other.0);
        Self([f(a[0], b[0]), f(a[1], b[1]), f(a[2], b[2]), f(a[3], b[3])])
    }
}

impl Vector for Portable {
    const LANES: usize = 4;
    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0.0; 4])
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self([x; 4])
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { p.cast::<[f32; 4]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn load_halves(p: *const u16) -> Self {
        // SAFETY: the caller's promise.
        let halves = unsafe { p.cast::<[u16; 4]>().read_unaligned() };
        Self(halves.map(|half| f32::from_bits(u32::from(half) << 16)))
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<[f32; 4]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        let mut out = self.0;
        for lane in 0..4 {
            out[lane] = portable_fma(a.0[lane], b.0[lane], out[lane]);
        }
        Self(out)
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        self.zip(other, max_f32)
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        self.zip(other, min_f32)
    }
    #[inline(always)]
    unsafe fn even(self, other: Self) -> Self {
        let (a, b) = (self.0, other.0);
        Self([a[0], a[2], b[0], b[2]])
    }
    #[inline(always)]
    unsafe fn nan_where(self, test: Self) -> Self {
        self.zip(test, |a, t| if t.is_nan() { NAN } else { a })
    }
}

/// `fma(a, b, c)`: the hardware's where every processor of the target has it, else the exact emulation, which the compiler
/// can vectorise (a call of the C library's it cannot).
#[inline(always)]
pub(crate) fn portable_fma(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { fma_f32_emulated(a, b, c) }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{NAN, Vector};
    use std::arch::x86_64::*;

    // SAFETY of all blocks below: the caller promises the instruction set and the pointers.
    impl Vector for __m512 {
        const LANES: usize = 16;
        #[inline(always)]
        unsafe fn zero() -> Self {
            unsafe { _mm512_setzero_ps() }
        }
        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            unsafe { _mm512_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> Self {
            unsafe { _mm512_loadu_ps(p) }
        }
        #[inline(always)]
        unsafe fn load_halves(p: *const u16) -> Self {
            unsafe {
                let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
            }
        }
        #[inline(always)]
        unsafe fn ask(p: *const f32) {
            unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
        }
        #[inline(always)]
        unsafe fn store(self, p: *mut f32) {
            unsafe { _mm512_storeu_ps(p, self) }
        }
        #[inline(always)]
        unsafe fn fma(self, a: Self, b: Self) -> Self {
            unsafe { _mm512_fmadd_ps(a, b, self) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            unsafe { _mm512_add_ps(self, other) }
        }
        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            unsafe { _mm512_mul_ps(self, other) }
        }
        // The instruction returns its second operand for two zeros: both orders, and the sign bits joined.
        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            unsafe { _mm512_and_ps(_mm512_max_ps(self, other), _mm512_max_ps(other, self)) }
        }
        #[inline(always)]
        unsafe fn min(self, other: Self) -> Self {
            unsafe { _mm512_or_ps(_mm512_min_ps(self, other), _mm512_min_ps(other, self)) }
        }
        #[inline(always)]
        unsafe fn even(self, other: Self) -> Self {
            unsafe {
                let lanes = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
                _mm512_permutex2var_ps(self, lanes, other)
            }
        }
        #[inline(always)]
        unsafe fn nan_where(self, test: Self) -> Self {
            unsafe {
                let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(test, test);
                _mm512_mask_mov_ps(self, nan, _mm512_set1_ps(NAN))
            }
        }
    }

    impl Vector for __m256 {
        const LANES: usize = 8;
        #[inline(always)]
        unsafe fn zero() -> Self {
            unsafe { _mm256_setzero_ps() }
        }
        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            unsafe { _mm256_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> Self {
            unsafe { _mm256_loadu_ps(p) }
        }
        #[inline(always)]
        unsafe fn load_halves(p: *const u16) -> Self {
            unsafe {
                let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()));
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
            }
        }
        #[inline(always)]
        unsafe fn ask(p: *const f32) {
            unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
        }
        #[inline(always)]
        unsafe fn store(self, p: *mut f32) {
            unsafe { _mm256_storeu_ps(p, self) }
        }
        #[inline(always)]
        unsafe fn fma(self, a: Self, b: Self) -> Self {
            unsafe { _mm256_fmadd_ps(a, b, self) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            unsafe { _mm256_add_ps(self, other) }
        }
        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            unsafe { _mm256_mul_ps(self, other) }
        }
        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            unsafe { _mm256_and_ps(_mm256_max_ps(self, other), _mm256_max_ps(other, self)) }
        }
        #[inline(always)]
        unsafe fn min(self, other: Self) -> Self {
            unsafe { _mm256_or_ps(_mm256_min_ps(self, other), _mm256_min_ps(other, self)) }
        }
        #[inline(always)]
        unsafe fn even(self, other: Self) -> Self {
            unsafe {
                let mixed = _mm256_castps_pd(_mm256_shuffle_ps::<0x88>(self, other));
                _mm256_castpd_ps(_mm256_permute4x64_pd::<0xd8>(mixed))
            }
        }
        #[inline(always)]
        unsafe fn nan_where(self, test: Self) -> Self {
            unsafe { _mm256_blendv_ps(self, _mm256_set1_ps(NAN), _mm256_cmp_ps::<_CMP_UNORD_Q>(test, test)) }
        }
    }

    /// `dst[j * dst_row + i] = src[i * src_row + j]` for i, j below 8.
    ///
    /// # Safety
    /// AVX2 is present; eight rows of eight elements are valid on both sides. Rows are written in ascending order.
    #[inline(always)]
    pub(crate) unsafe fn transpose8(src: [*const f32; 8], dst: *mut f32, dst_row: usize) {
        unsafe {
            let r = src.map(|p| _mm256_loadu_ps(p));
            let t0 = _mm256_unpacklo_ps(r[0], r[1]);
            let t1 = _mm256_unpackhi_ps(r[0], r[1]);
            let t2 = _mm256_unpacklo_ps(r[2], r[3]);
            let t3 = _mm256_unpackhi_ps(r[2], r[3]);
            let t4 = _mm256_unpacklo_ps(r[4], r[5]);
            let t5 = _mm256_unpackhi_ps(r[4], r[5]);
            let t6 = _mm256_unpacklo_ps(r[6], r[7]);
            let t7 = _mm256_unpackhi_ps(r[6], r[7]);
            let s0 = _mm256_shuffle_ps::<0x44>(t0, t2);
            let s1 = _mm256_shuffle_ps::<0xee>(t0, t2);
            let s2 = _mm256_shuffle_ps::<0x44>(t1, t3);
            let s3 = _mm256_shuffle_ps::<0xee>(t1, t3);
            let s4 = _mm256_shuffle_ps::<0x44>(t4, t6);
            let s5 = _mm256_shuffle_ps::<0xee>(t4, t6);
            let s6 = _mm256_shuffle_ps::<0x44>(t5, t7);
            let s7 = _mm256_shuffle_ps::<0xee>(t5, t7);
            _mm256_storeu_ps(dst, _mm256_permute2f128_ps::<0x20>(s0, s4));
            _mm256_storeu_ps(dst.add(dst_row), _mm256_permute2f128_ps::<0x20>(s1, s5));
            _mm256_storeu_ps(dst.add(2 * dst_row), _mm256_permute2f128_ps::<0x20>(s2, s6));
            _mm256_storeu_ps(dst.add(3 * dst_row), _mm256_permute2f128_ps::<0x20>(s3, s7));
            _mm256_storeu_ps(dst.add(4 * dst_row), _mm256_permute2f128_ps::<0x31>(s0, s4));
            _mm256_storeu_ps(dst.add(5 * dst_row), _mm256_permute2f128_ps::<0x31>(s1, s5));
            _mm256_storeu_ps(dst.add(6 * dst_row), _mm256_permute2f128_ps::<0x31>(s2, s6));
            _mm256_storeu_ps(dst.add(7 * dst_row), _mm256_permute2f128_ps::<0x31>(s3, s7));
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::transpose8;

#[cfg(target_arch = "aarch64")]
mod arm {
    use super::{NAN, Vector};
    use std::arch::aarch64::*;

    // SAFETY of all blocks below: NEON is in the baseline; the caller promises the pointers.
    impl Vector for float32x4_t {
        const LANES: usize = 4;
        #[inline(always)]
        unsafe fn zero() -> Self {
            unsafe { vdupq_n_f32(0.0) }
        }
        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            unsafe { vdupq_n_f32(x) }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> Self {
            unsafe { vld1q_f32(p) }
        }
        #[inline(always)]
        unsafe fn load_halves(p: *const u16) -> Self {
            unsafe { vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(p))) }
        }
        #[inline(always)]
        unsafe fn store(self, p: *mut f32) {
            unsafe { vst1q_f32(p, self) }
        }
        #[inline(always)]
        unsafe fn fma(self, a: Self, b: Self) -> Self {
            unsafe { vfmaq_f32(self, a, b) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            unsafe { vaddq_f32(self, other) }
        }
        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            unsafe { vmulq_f32(self, other) }
        }
        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            unsafe { vmaxq_f32(self, other) }
        }
        #[inline(always)]
        unsafe fn min(self, other: Self) -> Self {
            unsafe { vminq_f32(self, other) }
        }
        #[inline(always)]
        unsafe fn even(self, other: Self) -> Self {
            unsafe { vuzp1q_f32(self, other) }
        }
        #[inline(always)]
        unsafe fn nan_where(self, test: Self) -> Self {
            unsafe { vbslq_f32(vceqq_f32(test, test), self, vdupq_n_f32(NAN)) }
        }
    }
}
