//! Products of integers, `out[i, j] = rows[i, ..] . panels[.., j]`, exact modulo 2^32, so that no order and no way of computing them matters.
//!
//! Where the processor multiplies unsigned bytes by signed ones and adds four of the products (VNNI), operands are bytes; elsewhere they
//! are widened to int16, of which every instruction set multiplies and adds pairs.
#![allow(unsafe_code)] // Pointers into operands; instruction sets chosen at run time.
#![allow(clippy::needless_range_loop)] // Several arrays of registers are indexed alike.

use std::ops::Range;

use super::words::{Form, LANES, Panels, Rows};
use crate::isa::Isa;

/// Which operand holds the weights; the other one has the activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weights {
    /// A matrix's columns.
    Panels,
    /// An image's filters.
    Rows,
}

/// Where results go: `out[i * row + j]`, counted from the first row and panel of a product.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) out: *mut i32,
    pub(super) row: usize,
}

/// Some rows times some panels.
struct Tile {
    words: usize,
    rows: *const i32,
    panels: *const i32,
    place: Place,
    /// Columns that the panels have.
    columns: usize,
}

type TileFn = unsafe fn(&Tile);

/// Kernels of one instruction set, for one place of the weights.
#[derive(Debug)]
pub(super) struct Kernels {
    pub(super) form: Form,
    /// Panels of a wide tile.
    panels: usize,
    /// Tiles of `i + 1` rows by [`Kernels::panels`].
    wide: &'static [TileFn],
    /// The same by one panel.
    one: &'static [TileFn],
}

impl Kernels {
    /// Those of `isa`, or of the portable path where the processor lacks it; weights of uint8 have no place in signed bytes.
    pub(super) fn of(isa: Isa, weights: Weights, signed: bool) -> &'static Self {
        #[cfg(not(target_arch = "x86_64"))]
        let _ = signed; // Only the instructions of x86 multiply signed bytes.
        let [panels, rows] = match isa.or_portable() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 if signed && std::arch::is_x86_feature_detected!("avx512vnni") => {
                [&vnni512_panels::KERNELS, &vnni512_rows::KERNELS]
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => [&avx512::KERNELS; 2],
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 if signed && std::arch::is_x86_feature_detected!("avxvnni") => {
                [&vnni256_panels::KERNELS, &vnni256_rows::KERNELS]
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => [&avx2::KERNELS; 2],
            _ => [&portable::KERNELS; 2],
        };
        match weights {
            Weights::Panels => panels,
            Weights::Rows => rows,
        }
    }

    /// Products of some rows with all panels.
    ///
    /// # Safety
    /// `place` has room for all of them, and nobody else writes there.
    pub(super) unsafe fn products(&self, rows: &Rows, range: Range<usize>, panels: &Panels, place: Place) {
        let words = panels.words;
        assert_eq!(rows.words, words, "rows and columns of one length");
        let (data, lines) = (&rows.data[range.start * words..range.end * words], panels.lines.as_slice());
        assert_eq!(lines.len(), panels.columns.div_ceil(LANES) * words, "a line for each word");
        let mut column = 0;
        while column < panels.columns {
            let wide = panels.columns - column > (self.panels - 1) * LANES;
            let (tiles, width) = if wide { (self.wide, self.panels * LANES) } else { (self.one, LANES) };
            let columns = width.min(panels.columns - column);
            for (i, rows) in data.chunks(tiles.len() * words.max(1)).enumerate() {
                let out = place.out.wrapping_add(i * tiles.len() * place.row + column);
                let tile = Tile {
                    words,
                    rows: rows.as_ptr(),
                    panels: lines[column / LANES * words..].as_ptr().cast(),
                    place: Place { out, ..place },
                    columns,
                };
                // SAFETY: the rows and panels of the tile exist, and the caller promises the room; whoever chose these kernels saw that the
                // processor has the instruction set.
                unsafe { tiles[rows.len() / words - 1](&tile) };
            }
            column += width;
        }
    }
}

/// Sums of [`LANES`] columns.
///
/// # Safety
/// The processor has the instruction set; pointers have [`LANES`] elements.
trait Sums: Copy {
    /// What words hold.
    const FORM: Form;
    unsafe fn zero() -> Self;
    unsafe fn load(at: *const i32) -> Self;
    unsafe fn splat(word: i32) -> Self;
    /// `self + row . panel`, lane by lane.
    unsafe fn add(self, row: Self, panel: Self) -> Self;
    unsafe fn store(self, at: *mut i32);
}

/// One tile: `R` rows by `P` panels.
#[inline(always)]
unsafe fn tile<S: Sums, const R: usize, const P: usize>(t: &Tile) {
    // SAFETY: the caller promises a tile whose every element is in bounds, and the instruction set.
    unsafe {
        let mut sums = [[S::zero(); P]; R];
        // Written out: the compiler does not unroll loops of so many rows, and accumulators in memory would be the end.
        macro_rules! rows {
            ($i:ident, $body:block) => {
                rows!(@ $i $body 0 1 2 3 4 5)
            };
            (@ $i:ident $body:block $($row:literal)*) => {$(
                if $row < R {
                    #[allow(non_upper_case_globals)]
                    const $i: usize = $row;
                    $body
                }
            )*};
        }
        for word in 0..t.words {
            let mut panels = [S::zero(); P];
            for p in 0..P {
                panels[p] = S::load(t.panels.add((p * t.words + word) * LANES));
            }
            rows!(i, {
                let row = S::splat(*t.rows.add(i * t.words + word));
                for p in 0..P {
                    sums[i][p] = sums[i][p].add(row, panels[p]);
                }
            });
        }
        for i in 0..R {
            for p in 0..P {
                let (out, left) = (t.place.out.add(i * t.place.row + p * LANES), t.columns - p * LANES);
                if left >= LANES {
                    sums[i][p].store(out);
                } else {
                    let mut all = [0; LANES];
                    sums[i][p].store(all.as_mut_ptr());
                    out.copy_from_nonoverlapping(all.as_ptr(), left);
                }
            }
        }
    }
}

/// The kernels of one instruction set in one module: tiles of up to `R` rows, by `P` panels and by one.
macro_rules! kernels {
    ($name:ident, $sums:ty, $($features:literal)?, $panels:literal x $($rows:literal)*) => {
        mod $name {
            use super::*;

            // SAFETY: callers hold a `Kernels`, and `Kernels::of` hands one out only where the processor has the instruction set; the
            // tile is the caller's promise.
            $(#[target_feature(enable = $features)])?
            unsafe fn kernel<const R: usize, const P: usize>(t: &Tile) {
                unsafe { tile::<$sums, R, P>(t) }
            }

            pub(super) static KERNELS: Kernels = Kernels {
                form: <$sums as Sums>::FORM,
                panels: $panels,
                wide: &[$(kernel::<$rows, $panels>),*],
                one: &[$(kernel::<$rows, 1>),*],
            };
        }
    };
}

kernels!(portable, [i32; LANES], , 1 x 1 2);
#[cfg(target_arch = "x86_64")]
kernels!(avx2, x86::Two<x86::Pairs>, "avx2,fma", 1 x 1 2 3 4 5 6);
#[cfg(target_arch = "x86_64")]
kernels!(vnni256_panels, x86::Two<x86::SignedPanels>, "avx2,fma,avxvnni", 1 x 1 2 3 4 5 6);
#[cfg(target_arch = "x86_64")]
kernels!(vnni256_rows, x86::Two<x86::SignedRows>, "avx2,fma,avxvnni", 1 x 1 2 3 4 5 6);
#[cfg(target_arch = "x86_64")]
kernels!(avx512, x86::One<x86::Pairs>, "avx512f,avx512bw,avx512vl,avx2", 4 x 1 2 3 4 5 6);
#[cfg(target_arch = "x86_64")]
kernels!(vnni512_panels, x86::One<x86::SignedPanels>, "avx512f,avx512bw,avx512vl,avx512vnni,avx2", 4 x 1 2 3 4 5 6);
#[cfg(target_arch = "x86_64")]
kernels!(vnni512_rows, x86::One<x86::SignedRows>, "avx512f,avx512bw,avx512vl,avx512vnni,avx2", 4 x 1 2 3 4 5 6);

// SAFETY of all blocks below: the caller promises the instruction set and the pointers.
impl Sums for [i32; LANES] {
    const FORM: Form = Form::Pairs;
    #[inline(always)]
    unsafe fn zero() -> Self {
        [0; LANES]
    }
    #[inline(always)]
    unsafe fn load(at: *const i32) -> Self {
        unsafe { at.cast::<Self>().read() }
    }
    #[inline(always)]
    unsafe fn splat(word: i32) -> Self {
        [word; LANES]
    }
    #[inline(always)]
    unsafe fn add(mut self, row: Self, panel: Self) -> Self {
        for lane in 0..LANES {
            let (a, b) = (row[lane], panel[lane]);
            let low = i32::from(a as i16).wrapping_mul(i32::from(b as i16));
            let high = (a >> 16).wrapping_mul(b >> 16);
            self[lane] = self[lane].wrapping_add(low).wrapping_add(high);
        }
        self
    }
    #[inline(always)]
    unsafe fn store(self, at: *mut i32) {
        unsafe { at.cast::<Self>().write(self) }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Form, Sums};
    use std::arch::x86_64::*;
    use std::marker::PhantomData;

    /// How a vector of words is multiplied.
    ///
    /// # Safety
    /// The processor has the instruction set.
    pub(super) trait Multiply: Copy {
        const FORM: Form;
        /// `sums + row . panel`.
        unsafe fn add_256(sums: __m256i, row: __m256i, panel: __m256i) -> __m256i;
        /// The same.
        unsafe fn add_512(sums: __m512i, row: __m512i, panel: __m512i) -> __m512i;
    }

    /// Pairs of int16.
    #[derive(Clone, Copy)]
    pub(super) struct Pairs;
    /// Bytes, those of rows signed.
    #[derive(Clone, Copy)]
    pub(super) struct SignedRows;
    /// Bytes, those of panels signed.
    #[derive(Clone, Copy)]
    pub(super) struct SignedPanels;

    // SAFETY of all blocks below: the caller promises the instruction set and the pointers.
    impl Multiply for Pairs {
        const FORM: Form = Form::Pairs;
        /// Operands are at most 255 in magnitude, so that the pair's sum is far from int32's ends.
        #[inline(always)]
        unsafe fn add_256(sums: __m256i, row: __m256i, panel: __m256i) -> __m256i {
            unsafe { _mm256_add_epi32(sums, _mm256_madd_epi16(row, panel)) }
        }
        #[inline(always)]
        unsafe fn add_512(sums: __m512i, row: __m512i, panel: __m512i) -> __m512i {
            unsafe { _mm512_add_epi32(sums, _mm512_madd_epi16(row, panel)) }
        }
    }

    impl Multiply for SignedRows {
        const FORM: Form = Form::Quads;
        #[inline(always)]
        unsafe fn add_256(sums: __m256i, row: __m256i, panel: __m256i) -> __m256i {
            unsafe { _mm256_dpbusd_avx_epi32(sums, panel, row) }
        }
        #[inline(always)]
        unsafe fn add_512(sums: __m512i, row: __m512i, panel: __m512i) -> __m512i {
            unsafe { _mm512_dpbusd_epi32(sums, panel, row) }
        }
    }

    impl Multiply for SignedPanels {
        const FORM: Form = Form::Quads;
        #[inline(always)]
        unsafe fn add_256(sums: __m256i, row: __m256i, panel: __m256i) -> __m256i {
            unsafe { _mm256_dpbusd_avx_epi32(sums, row, panel) }
        }
        #[inline(always)]
        unsafe fn add_512(sums: __m512i, row: __m512i, panel: __m512i) -> __m512i {
            unsafe { _mm512_dpbusd_epi32(sums, row, panel) }
        }
    }

    /// Two vectors of 256 bits.
    #[derive(Clone, Copy)]
    pub(super) struct Two<M>([__m256i; 2], PhantomData<M>);
    /// One of 512.
    #[derive(Clone, Copy)]
    pub(super) struct One<M>(__m512i, PhantomData<M>);

    impl<M: Multiply> Sums for Two<M> {
        const FORM: Form = M::FORM;
        #[inline(always)]
        unsafe fn zero() -> Self {
            unsafe { Self([_mm256_setzero_si256(); 2], PhantomData) }
        }
        #[inline(always)]
        unsafe fn load(at: *const i32) -> Self {
            let all =
                unsafe { [_mm256_loadu_si256(at.cast()), _mm256_loadu_si256(at.wrapping_add(8).cast())] };
            Self(all, PhantomData)
        }
        #[inline(always)]
        unsafe fn splat(word: i32) -> Self {
            unsafe { Self([_mm256_set1_epi32(word); 2], PhantomData) }
        }
        #[inline(always)]
        unsafe fn add(self, row: Self, panel: Self) -> Self {
            let (s, r, p) = (self.0, row.0, panel.0);
            unsafe { Self([M::add_256(s[0], r[0], p[0]), M::add_256(s[1], r[1], p[1])], PhantomData) }
        }
        #[inline(always)]
        unsafe fn store(self, at: *mut i32) {
            unsafe {
                _mm256_storeu_si256(at.cast(), self.0[0]);
                _mm256_storeu_si256(at.add(8).cast(), self.0[1]);
            }
        }
    }

    impl<M: Multiply> Sums for One<M> {
        const FORM: Form = M::FORM;
        #[inline(always)]
        unsafe fn zero() -> Self {
            unsafe { Self(_mm512_setzero_si512(), PhantomData) }
        }
        #[inline(always)]
        unsafe fn load(at: *const i32) -> Self {
            unsafe { Self(_mm512_loadu_si512(at.cast()), PhantomData) }
        }
        #[inline(always)]
        unsafe fn splat(word: i32) -> Self {
            unsafe { Self(_mm512_set1_epi32(word), PhantomData) }
        }
        #[inline(always)]
        unsafe fn add(self, row: Self, panel: Self) -> Self {
            unsafe { Self(M::add_512(self.0, row.0, panel.0), PhantomData) }
        }
        #[inline(always)]
        unsafe fn store(self, at: *mut i32) {
            unsafe { _mm512_storeu_si512(at.cast(), self.0) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every set of kernels that this processor has, with its name.
    fn all(weights: Weights) -> Vec<(String, &'static Kernels)> {
        let mut all: Vec<_> = (Isa::available())
            .flat_map(|isa| [true, false].map(|signed| (isa, signed)))
            .map(|(isa, signed)| (format!("{isa} {signed}"), Kernels::of(isa, weights, signed)))
            .collect();
        // What a processor with AVX-VNNI would not take.
        #[cfg(target_arch = "x86_64")]
        if Isa::Avx2.is_available() {
            all.push(("avx2 without VNNI".to_owned(), &avx2::KERNELS));
        }
        all
    }

    #[test]
    fn products_are_the_sums_on_every_instruction_set() {
        let number = |i: usize| ((i * 2_654_435_761) >> 7) as u8;
        for (m, n, k) in [(1, 1, 1), (3, 4, 32), (4, 17, 33), (7, 64, 100), (13, 100, 31), (2, 3, 1000)] {
            // Both ends of both ranges are among them.
            let activation = |i: usize, p: usize| match (i + p) % 7 {
                0 => 255,
                _ => i16::from(number(i * k + p)),
            };
            let weight = |p: usize, j: usize| match (j + p) % 5 {
                0 => -128,
                _ => i16::from(number(j * k + p + 77).cast_signed()),
            };
            for weights in [Weights::Panels, Weights::Rows] {
                let row = |i, p| if weights == Weights::Panels { activation(i, p) } else { weight(p, i) };
                let column = |p, j| if weights == Weights::Panels { weight(p, j) } else { activation(j, p) };
                let one = |i, j| (0..k).map(|p| i32::from(row(i, p)) * i32::from(column(p, j))).sum::<i32>();
                let want: Vec<i32> = (0..m).flat_map(|i| (0..n).map(move |j| one(i, j))).collect();
                for (name, kernels) in all(weights) {
                    let (rows, panels) =
                        (Rows::of(kernels.form, m, k, row), Panels::of(kernels.form, n, k, column));
                    let mut out = vec![0; m * n];
                    // SAFETY: the output has room.
                    unsafe {
                        kernels.products(&rows, 0..m, &panels, Place { out: out.as_mut_ptr(), row: n })
                    };
                    assert_eq!(out, want, "{name} {weights:?} {m} x {n} x {k}");
                }
            }
        }
    }
}
