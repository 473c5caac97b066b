//! Products of rows of integers: `out[i, j] = a[i, ..] . w[j, ..]`, exact in int32, so that no order matters.
//!
//! Operands are widened to int16 once: every instruction set multiplies and adds pairs of those.
#![allow(unsafe_code)] // Pointers into operands; instruction sets chosen at run time.

use crate::isa::Isa;

/// Rows are filled up with 0 to a multiple of this: no kernel has a remainder.
pub(super) const STEP: usize = 32;

/// Rows of int16 of one length, each filled up to a whole number of [`STEP`]s.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    /// Elements of a row, filled up.
    pub(super) stride: usize,
    pub(super) data: Vec<i16>,
}

impl Rows {
    /// So many rows of `k` elements, all 0.
    pub(super) fn zeroed(rows: usize, k: usize) -> Self {
        let stride = k.next_multiple_of(STEP);
        Self { stride, data: vec![0; rows * stride] }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.data.len() / self.stride.max(1)
    }

    /// Row `i`.
    pub(super) fn row_mut(&mut self, i: usize) -> &mut [i16] {
        &mut self.data[i * self.stride..(i + 1) * self.stride]
    }
}

/// Where results go: `out[i * row + j * column]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) out: *mut i32,
    pub(super) row: usize,
    pub(super) column: usize,
}

/// All products of the rows of `a` with the rows of `w`.
///
/// # Safety
/// `place` has room for all of them, and nobody else writes there; the processor has `isa`.
pub(super) unsafe fn products(isa: Isa, a: &Rows, w: &Rows, place: Place) {
    assert_eq!(a.stride, w.stride, "rows of one length");
    // SAFETY: the caller's promise, and the operands' own sizes.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => avx512::run(a, w, place),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::run(a, w, place),
            _ => portable::run(a, w, place),
        }
    }
}

/// Lanes of sums.
///
/// # Safety
/// The processor has the instruction set; pointers have [`Dot::LEN`] elements.
trait Dot: Copy {
    /// Elements of a load; divides [`STEP`].
    const LEN: usize;
    unsafe fn zero() -> Self;
    unsafe fn load(at: *const i16) -> Self;
    /// `self + a . b`, spread over the lanes.
    unsafe fn add(self, a: Self, b: Self) -> Self;
    /// The sum over the lanes of each.
    unsafe fn sums(all: [Self; 4]) -> [i32; 4];
}

/// `R` rows of `a` with four of `w`. Plain loops: a closure would be compiled without the instruction set, and not become a part of this.
#[inline(always)]
#[allow(clippy::needless_range_loop)]
unsafe fn tile<D: Dot, const R: usize>(
    a: *const i16,
    w: *const i16,
    k: usize,
    stride: usize,
) -> [[i32; 4]; R] {
    // SAFETY: the caller promises rows of `k` elements, `stride` apart, and the instruction set.
    unsafe {
        let mut sums = [[D::zero(); 4]; R];
        let mut p = 0;
        while p < k {
            let mut x = [D::zero(); R];
            for i in 0..R {
                x[i] = D::load(a.add(i * stride + p));
            }
            for j in 0..4 {
                let y = D::load(w.add(j * stride + p));
                for i in 0..R {
                    sums[i][j] = sums[i][j].add(x[i], y);
                }
            }
            p += D::LEN;
        }
        let mut out = [[0; 4]; R];
        for i in 0..R {
            out[i] = D::sums(sums[i]);
        }
        out
    }
}

#[inline(always)]
unsafe fn run_body<D: Dot>(a: &Rows, w: &Rows, place: Place) {
    let (m, n, stride) = (a.count(), w.count(), a.stride);
    let mut j = 0;
    while j < n {
        let columns = (n - j).min(4);
        // Fewer than four rows are left: a copy that is filled up.
        let mut filled = Vec::new();
        if columns < 4 {
            filled.extend_from_slice(&w.data[j * stride..]);
            filled.resize(4 * stride, 0);
        }
        let four = if columns == 4 { w.data[j * stride..].as_ptr() } else { filled.as_ptr() };
        let write = |i: usize, sums: &[i32; 4]| {
            for (c, sum) in sums.iter().take(columns).enumerate() {
                // SAFETY: the caller promises room for `m` by `n` results.
                unsafe { *place.out.add(i * place.row + (j + c) * place.column) = *sum };
            }
        };
        let mut i = 0;
        while i < m {
            let at = a.data[i * stride..].as_ptr();
            // SAFETY: rows i and those after it that a tile takes exist; `four` has four rows.
            unsafe {
                if i + 3 <= m {
                    let sums = tile::<D, 3>(at, four, stride, stride);
                    (0..3).for_each(|r| write(i + r, &sums[r]));
                    i += 3;
                } else {
                    let sums = tile::<D, 1>(at, four, stride, stride);
                    write(i, &sums[0]);
                    i += 1;
                }
            }
        }
        j += columns;
    }
}

macro_rules! kernels {
    ($name:ident, $lanes:ty, $($features:literal)?) => {
        mod $name {
            use super::*;

            // SAFETY: callers promise the instruction set and the room.
            $(#[target_feature(enable = $features)])?
            pub(super) unsafe fn run(a: &Rows, w: &Rows, place: Place) {
                unsafe { run_body::<$lanes>(a, w, place) }
            }
        }
    };
}

kernels!(portable, Portable,);
#[cfg(target_arch = "x86_64")]
kernels!(avx2, x86::Two, "avx2");
#[cfg(target_arch = "x86_64")]
kernels!(avx512, x86::Five, "avx512f,avx512bw,avx512vl,avx2");

/// Lanes of any processor.
#[derive(Clone, Copy)]
struct Portable([i32; 8]);

impl Dot for Portable {
    const LEN: usize = 8;
    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0; 8])
    }
    #[inline(always)]
    unsafe fn load(at: *const i16) -> Self {
        // SAFETY: the caller's promise.
        Self(std::array::from_fn(|i| unsafe { i32::from(*at.add(i)) }))
    }
    #[inline(always)]
    unsafe fn add(self, a: Self, b: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i].wrapping_add(a.0[i].wrapping_mul(b.0[i]))))
    }
    #[inline(always)]
    unsafe fn sums(all: [Self; 4]) -> [i32; 4] {
        all.map(|lanes| lanes.0.iter().fold(0, |sum: i32, x| sum.wrapping_add(*x)))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Dot;
    use std::arch::x86_64::*;

    #[derive(Clone, Copy)]
    pub(super) struct Two(__m256i);
    #[derive(Clone, Copy)]
    pub(super) struct Five(__m512i);

    impl Five {
        /// The sum of the lower and the upper half.
        #[inline(always)]
        unsafe fn halves(self) -> Two {
            // SAFETY: the caller promises the instruction set.
            unsafe {
                let low = _mm512_castsi512_si256(self.0);
                Two(_mm256_add_epi32(low, _mm512_extracti64x4_epi64(self.0, 1)))
            }
        }
    }

    // SAFETY of all blocks below: the caller promises the instruction set and the pointers.
    impl Dot for Two {
        const LEN: usize = 16;
        #[inline(always)]
        unsafe fn zero() -> Self {
            unsafe { Self(_mm256_setzero_si256()) }
        }
        #[inline(always)]
        unsafe fn load(at: *const i16) -> Self {
            unsafe { Self(_mm256_loadu_si256(at.cast())) }
        }
        /// Operands are at most 255 in magnitude, so that the pair's sum is far from int32's ends.
        #[inline(always)]
        unsafe fn add(self, a: Self, b: Self) -> Self {
            unsafe { Self(_mm256_add_epi32(self.0, _mm256_madd_epi16(a.0, b.0))) }
        }
        #[inline(always)]
        unsafe fn sums(all: [Self; 4]) -> [i32; 4] {
            unsafe {
                let [Self(a), Self(b), Self(c), Self(d)] = all;
                let pairs = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
                let sums = _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
                let mut out = [0; 4];
                _mm_storeu_si128(out.as_mut_ptr().cast(), sums);
                out
            }
        }
    }

    impl Dot for Five {
        const LEN: usize = 32;
        #[inline(always)]
        unsafe fn zero() -> Self {
            unsafe { Self(_mm512_setzero_si512()) }
        }
        #[inline(always)]
        unsafe fn load(at: *const i16) -> Self {
            unsafe { Self(_mm512_loadu_si512(at.cast())) }
        }
        #[inline(always)]
        unsafe fn add(self, a: Self, b: Self) -> Self {
            unsafe { Self(_mm512_add_epi32(self.0, _mm512_madd_epi16(a.0, b.0))) }
        }
        #[inline(always)]
        unsafe fn sums(all: [Self; 4]) -> [i32; 4] {
            unsafe {
                let [a, b, c, d] = all;
                Two::sums([a.halves(), b.halves(), c.halves(), d.halves()])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_the_sums_on_every_instruction_set() {
        let number = |i: usize| ((i * 2_654_435_761) >> 7) as u8;
        for (m, n, k) in [(1, 1, 1), (3, 4, 32), (4, 5, 33), (7, 9, 100), (2, 3, 1000)] {
            let (mut a, mut w) = (Rows::zeroed(m, k), Rows::zeroed(n, k));
            for i in 0..m {
                a.row_mut(i)[..k].iter_mut().enumerate().for_each(|(p, x)| *x = number(i * k + p).into());
            }
            for j in 0..n {
                let signed = |p: usize| i16::from(number(j * k + p + 77).cast_signed());
                w.row_mut(j)[..k].iter_mut().enumerate().for_each(|(p, x)| *x = signed(p));
            }
            let mut want = vec![0; m * n];
            for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
                let pair = |p| i32::from(a.data[i * a.stride + p]) * i32::from(w.data[j * w.stride + p]);
                want[j * m + i] = (0..k).map(pair).sum();
            }
            for isa in Isa::available() {
                let mut out = vec![0; m * n];
                // SAFETY: the output has room, and the processor has the instruction set.
                unsafe { products(isa, &a, &w, Place { out: out.as_mut_ptr(), row: 1, column: m }) };
                assert_eq!(out, want, "{isa} {m} x {n} x {k}");
            }
        }
    }
}
