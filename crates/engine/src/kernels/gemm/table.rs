//! The innermost kernels, compiled once for each instruction set, and the table that leads to them.
#![allow(unsafe_code)] // Pointers into operands; instruction sets chosen at run time.
#![allow(clippy::needless_range_loop)] // Several arrays of registers are indexed alike.

use super::pack::LINE;
use super::vector::{Portable, Vector};
use crate::isa::{Isa, reads_in_order};
use crate::kernels::attention::{self, Mix, Scores};
use crate::kernels::conv::fill::Patches;
use crate::kernels::conv::plane::{self, Line, Plane};
use crate::kernels::simd::unrolled;

/// One tile of outputs over one block of k.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tile {
    /// Element (0, 0) of the left operand; (i, k) lies `i * a_row + k * a_k` further.
    pub(crate) a: *const f32,
    /// Distance of rows; 1 for tiles by columns.
    pub(crate) a_row: usize,
    /// Distance of k; 1 for tiles by rows.
    pub(crate) a_k: usize,
    /// Element (0, 0) of the right operand; a row of a panel is contiguous.
    pub(crate) b: *const f32,
    /// Distance of k.
    pub(crate) b_k: usize,
    /// Distance of panels, for kernels that take several.
    pub(crate) b_panel: usize,
    /// Output (0, 0); columns are contiguous.
    pub(crate) c: *mut f32,
    /// Distance of output rows.
    pub(crate) c_row: usize,
    /// Length of the block.
    pub(crate) k: usize,
    /// The block is the first one: its sum is stored; otherwise it is added to the output.
    pub(crate) first: bool,
    /// What tiles of one panel ask for meanwhile.
    pub(crate) next: Next,
}

/// Memory that will be needed next. It is asked for in [`STREAMS`] places in turns: processors fetch ahead of each, and from one place
/// alone they do not read as fast as memory can be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Next {
    /// Any address will do.
    at: *const u8,
    /// Bytes from one place to the next one.
    stream: usize,
    /// Bytes that one round of places goes on.
    step: usize,
}

/// Places that memory is asked for at.
const STREAMS: usize = 4;

impl Next {
    /// Nothing but what lies at `at`, again and again.
    pub(crate) fn nothing(at: *const u8) -> Self {
        Self { at, stream: 0, step: 0 }
    }

    /// `bytes` from `at` on, over a tile of `k`.
    pub(crate) fn new(at: *const u8, bytes: usize, k: usize) -> Self {
        Self { at, stream: bytes / STREAMS, step: bytes / k.max(1) }
    }

    /// What is to be asked for at `k`.
    #[inline(always)]
    pub(crate) fn at(&self, k: usize) -> *const f32 {
        self.at.wrapping_add(k % STREAMS * self.stream + k / STREAMS * self.step).cast()
    }
}

/// What follows a contraction, as pointers; see `Epilogue`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    /// Factor of the sum, if not 1.
    pub(crate) alpha: Option<f32>,
    /// Factor of what is added, if not 1.
    pub(crate) beta: Option<f32>,
    /// What is added, element (0, 0).
    pub(crate) add: Option<Addend>,
    /// A second addend, element (0, 0), with the output's layout.
    pub(crate) residual: Option<*const f32>,
    /// Least and greatest output.
    pub(crate) clamp: Option<(f32, f32)>,
}

// SAFETY: addresses of slices that are only read.
unsafe impl Sync for End {}

/// An addend: element (i, j) lies `i * row + j * column` further; `column` is 0 or 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addend {
    pub(crate) at: *const f32,
    pub(crate) row: usize,
    pub(crate) column: usize,
}

/// Outputs that an [`End`] is applied to: `rows` x `columns` of them from (`row`, `column`) on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    /// The last block's sum of output (`row`, `column`). It comes from a buffer of its own: outputs seldom lie at cache lines,
    /// and reading what was just stored across two of them stalls.
    pub(crate) sums: *const f32,
    pub(crate) sums_row: usize,
    /// The last block is the first one too; otherwise the output holds the blocks before it.
    pub(crate) first: bool,
    /// Output (`row`, `column`).
    pub(crate) c: *mut f32,
    pub(crate) c_row: usize,
    pub(crate) row: usize,
    pub(crate) rows: usize,
    pub(crate) column: usize,
    pub(crate) columns: usize,
}

pub(crate) type TileFn = unsafe fn(&Tile);

/// Tiles of some few rows, the left operand by rows, for right operands that are read once: they ask for memory ahead of time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Thin {
    /// Panels that `several` takes. Few rows alone do not hide how long a multiply-add takes.
    panels: usize,
    /// That many panels of float32, and of upper halves.
    pub(crate) several: [TileFn; 2],
    /// One panel of float32, and of upper halves.
    pub(crate) one: [TileFn; 2],
}

impl Thin {
    /// Panels of a tile, on this processor.
    pub(crate) fn panels(&self) -> usize {
        if reads_in_order() { 1 } else { self.panels }
    }
}

/// Kernels of one instruction set.
pub(crate) struct Table {
    /// Lanes of a vector; a panel has twice as many columns.
    pub(crate) lanes: usize,
    /// Tiles of `i + 1` rows, the left operand by rows: of one vector and of one panel.
    pub(crate) by_rows: &'static [[TileFn; 2]],
    /// The same with the left operand by columns, as packed.
    pub(crate) by_columns: &'static [[TileFn; 2]],
    /// Tiles of `i + 1` rows for products with few of them.
    pub(crate) thin: &'static [Thin],
    /// Applies an [`End`].
    pub(crate) finish: unsafe fn(&End, &Part),
    /// Packs rows into columns; see [`pack_transposed`].
    pub(crate) pack: unsafe fn(*const f32, usize, usize, usize, usize, *mut f32),
    /// Widens so many upper halves.
    pub(crate) widen: unsafe fn(*const u16, usize, *mut f32),
    /// Makes a panel of patches.
    pub(crate) fill: unsafe fn(&Patches<'_>, *mut f32),
    /// Lays out a padded plane.
    pub(crate) lay: unsafe fn(&Plane, &[f32], f32, f32, *mut f32),
    /// Depthwise chains of a row of outputs.
    pub(crate) taps: unsafe fn(&Line<'_>, &[f32]),
    /// Least element under each window of a row of outputs.
    pub(crate) least: unsafe fn(&Line<'_>),
    /// Sum under each window of a row of outputs.
    pub(crate) sum: unsafe fn(&Line<'_>),
    /// Sum of a sequence in sixteen partial sums (§5).
    pub(crate) sum16: unsafe fn(&[f32]) -> f32,
    /// Queries against the keys of some pages.
    pub(crate) scores: unsafe fn(&Scores<'_>),
    /// Values of some pages, weighed.
    pub(crate) mix: unsafe fn(&Mix<'_>),
}

impl Table {
    /// Columns of a panel.
    pub(crate) fn panel(&self) -> usize {
        2 * self.lanes
    }

    /// The most rows of a tile.
    pub(crate) fn rows(&self) -> usize {
        self.by_rows.len()
    }
}

/// Kernels of `isa`, or of the portable path where the processor lacks it.
pub(crate) fn table(isa: Isa) -> &'static Table {
    match isa.or_portable() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => &avx512::TABLE,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => &avx2::TABLE,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => &neon::TABLE,
        _ => &portable::TABLE,
    }
}

/// How tiles read their operands.
const COLUMNS: u8 = 0;
/// The left operand by rows.
const ROWS: u8 = 1;
/// By rows, and the right operand from far away.
const FAR: u8 = 2;
/// As `FAR`, the right operand as upper halves.
const HALVES: u8 = 3;

/// Tiles of several panels ask for the right operand so many k's before they need it.
const AHEAD: usize = 16;

/// One tile: `MR` rows by `P` panels of `NV` vectors. Each lane is one output's chain over ascending k, from +0.
#[inline(always)]
unsafe fn tile<V: Vector, const MR: usize, const NV: usize, const P: usize, const HOW: u8>(t: &Tile) {
    // SAFETY: the caller promises a tile whose every element is in bounds, and the instruction set.
    unsafe {
        let mut acc = [[[V::zero(); NV]; P]; MR];
        let (mut a, mut b, mut halves) = (t.a, t.b, t.b.cast::<u16>());
        // By rows: three rows share a pointer, which keeps the pointers of a high tile in registers.
        let base = |i: usize| if HOW != COLUMNS && i < MR { t.a.add(i * t.a_row) } else { t.a };
        let bases = [base(0), base(3), base(6), base(9), base(12)];
        for k in 0..t.k {
            let mut right = [[V::zero(); NV]; P];
            for p in 0..P {
                for v in 0..NV {
                    let at = p * t.b_panel + v * V::LANES;
                    if HOW == HALVES {
                        right[p][v] = V::load_halves(halves.add(at));
                        if P > 1 && v * V::LANES % (2 * LINE) == 0 {
                            V::ask(halves.wrapping_add(at + 2 * AHEAD * t.b_k).cast());
                        }
                        continue;
                    }
                    right[p][v] = V::load(b.add(at));
                    if HOW == FAR && P > 1 && v * V::LANES % LINE == 0 {
                        V::ask(b.wrapping_add(at + AHEAD * t.b_k));
                    }
                }
            }
            unrolled!(MR, i => {
                let left = if HOW != COLUMNS { *bases[i / 3].add(i % 3 * t.a_row + k) } else { *a.add(i) };
                let left = V::splat(left);
                for p in 0..P {
                    for v in 0..NV {
                        acc[i][p][v] = acc[i][p][v].fma(left, right[p][v]);
                    }
                }
            });
            if P == 1 && HOW != ROWS {
                V::ask(t.next.at(k));
                V::ask(t.next.at(k).wrapping_add(LINE));
            }
            if HOW == COLUMNS {
                a = a.add(t.a_k);
            }
            if HOW == HALVES {
                halves = halves.add(t.b_k);
            } else {
                b = b.add(t.b_k);
            }
        }
        let mut c = t.c;
        for row in acc {
            for p in 0..P {
                for v in 0..NV {
                    let at = c.add((p * NV + v) * V::LANES);
                    let sum = if t.first { row[p][v] } else { V::load(at).add(row[p][v]) };
                    sum.store(at);
                }
            }
            c = c.wrapping_add(t.c_row);
        }
    }
}

/// Total, alpha, addend, residual, clamp, canonical NaN, in this order, each step rounded.
#[inline(always)]
unsafe fn finish<V: Vector>(end: &End, part: &Part) {
    // Copies, which no store through a pointer can change: so they stay in registers.
    let (mut end, mut part) = (*end, *part);
    // SAFETY: the caller promises the part's outputs, its addends and the instruction set.
    unsafe {
        if part.first && end.alpha.is_none() && end.beta.is_none() && end.residual.is_none() {
            // The usual case, without what it does not have.
            part.first = true;
            (end.alpha, end.beta, end.residual) = (None, None, None);
            finish_all::<V>(&end, &part);
        } else {
            finish_all::<V>(&end, &part);
        }
    }
}

#[inline(always)]
unsafe fn finish_all<V: Vector>(end: &End, part: &Part) {
    // SAFETY: as in `finish`.
    unsafe {
        for i in 0..part.rows {
            let whole = part.columns / V::LANES * V::LANES;
            let mut j = 0;
            while j < whole {
                finish_at::<V>(end, part, i, j);
                j += V::LANES;
            }
            while j < part.columns {
                finish_at::<f32>(end, part, i, j);
                j += 1;
            }
        }
    }
}

#[inline(always)]
unsafe fn finish_at<V: Vector>(end: &End, part: &Part, i: usize, j: usize) {
    // SAFETY: as in `finish`; lanes j.. of row i are inside.
    unsafe {
        let at = part.c.add(i * part.c_row + j);
        let (row, column) = (part.row + i, part.column + j);
        let mut x = V::load(part.sums.add(i * part.sums_row + j));
        if !part.first {
            x = V::load(at).add(x);
        }
        if let Some(alpha) = end.alpha {
            x = x.mul(V::splat(alpha));
        }
        if let Some(add) = &end.add {
            let p = add.at.add(row * add.row + column * add.column);
            let mut c = if add.column == 1 { V::load(p) } else { V::splat(*p) };
            if let Some(beta) = end.beta {
                c = c.mul(V::splat(beta));
            }
            x = x.add(c);
        }
        if let Some(residual) = end.residual {
            x = x.add(V::load(residual.add(row * part.c_row + column)));
        }
        let test = x;
        if let Some((lo, hi)) = end.clamp {
            x = x.max(V::splat(lo));
            if hi < f32::INFINITY {
                x = x.min(V::splat(hi));
            }
        }
        x.nan_where(test).store(at);
    }
}

/// `dst[k * width + i] = src[i * src_row + k]` for k below `len`, i below `rows`; lanes from `rows` to `width` repeat the last
/// row. Blocks of eight rows go highest first, because each write is eight long and may spill into what a lower block writes
/// next: `dst` has seven spare elements.
#[inline(always)]
unsafe fn pack_transposed<const FAST: bool>(
    src: *const f32,
    src_row: usize,
    rows: usize,
    width: usize,
    len: usize,
    dst: *mut f32,
) {
    // SAFETY: the caller promises `rows` rows of `len` elements, `width * len + 7` elements of `dst`.
    unsafe {
        let mut group = width.div_ceil(8);
        while group > 0 {
            group -= 1;
            let start = group * 8;
            let mut from = [src; 8];
            for (i, p) in from.iter_mut().enumerate() {
                *p = src.add((start + i).min(rows - 1) * src_row);
            }
            let mut k = 0;
            #[cfg(target_arch = "x86_64")]
            if FAST {
                while k + 8 <= len {
                    super::vector::transpose8(from.map(|p| p.add(k)), dst.add(k * width + start), width);
                    k += 8;
                }
            }
            let lanes = (width - start).min(8);
            while k < len {
                for (i, p) in from.iter().enumerate().take(lanes) {
                    *dst.add(k * width + start + i) = *p.add(k);
                }
                k += 1;
            }
        }
    }
}

/// `dst[i]` is the float32 whose upper half is `src[i]`.
#[inline(always)]
unsafe fn widen_all(src: *const u16, len: usize, dst: *mut f32) {
    // SAFETY: the caller promises `len` elements on both sides, which do not overlap.
    let (src, dst) =
        unsafe { (std::slice::from_raw_parts(src, len), std::slice::from_raw_parts_mut(dst, len)) };
    for (dst, src) in dst.iter_mut().zip(src) {
        *dst = f32::from_bits(u32::from(*src) << 16);
    }
}

/// The kernels of one instruction set in one module.
macro_rules! kernels {
    ($name:ident, $vector:ty, $($features:literal)?, $fast:literal, rows $($mr:literal)*, thin $($rows:literal x $panels:literal)*) => {
        mod $name {
            use super::*;

            // SAFETY of all functions: their callers hold a `Table`, and `table` hands one out only where the processor has
            // the instruction set; the pointers are the caller's promise.
            $(#[target_feature(enable = $features)])?
            unsafe fn by_rows<const MR: usize, const NV: usize>(t: &Tile) {
                unsafe { tile::<$vector, MR, NV, 1, ROWS>(t) }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn by_columns<const MR: usize, const NV: usize>(t: &Tile) {
                unsafe { tile::<$vector, MR, NV, 1, COLUMNS>(t) }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn far<const MR: usize, const P: usize>(t: &Tile) {
                unsafe { tile::<$vector, MR, 2, P, FAR>(t) }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn halves<const MR: usize, const P: usize>(t: &Tile) {
                unsafe { tile::<$vector, MR, 2, P, HALVES>(t) }
            }

            const fn thin<const MR: usize, const P: usize>() -> Thin {
                let (several, one) = ([far::<MR, P> as TileFn, halves::<MR, P>], [far::<MR, 1> as TileFn, halves::<MR, 1>]);
                Thin { panels: P, several, one }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn end(end: &End, part: &Part) {
                unsafe { finish::<$vector>(end, part) }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn pack(s: *const f32, row: usize, rows: usize, width: usize, len: usize, d: *mut f32) {
                unsafe { pack_transposed::<$fast>(s, row, rows, width, len, d) }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn widen(src: *const u16, len: usize, dst: *mut f32) {
                unsafe { widen_all(src, len, dst) }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn fill(patches: &Patches<'_>, dst: *mut f32) {
                unsafe { patches.fill::<$vector>(dst) }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn lay(plane: &Plane, x: &[f32], pad: f32, factor: f32, dst: *mut f32) {
                unsafe { plane.fill::<$vector>(x, pad, factor, dst) }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn taps(line: &Line<'_>, kernel: &[f32]) {
                unsafe { plane::taps::<$vector>(line, kernel) }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn least(line: &Line<'_>) {
                unsafe { plane::least::<$vector>(line) }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn sum(line: &Line<'_>) {
                unsafe { plane::sum::<$vector>(line) }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn sum16(x: &[f32]) -> f32 {
                unsafe { plane::sum16::<$vector>(x) }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn scores(job: &Scores<'_>) {
                unsafe { attention::scores::<$vector>(job) }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn mix(job: &Mix<'_>) {
                unsafe { attention::mix::<$vector>(job) }
            }

            pub(super) static TABLE: Table = Table {
                lanes: <$vector as Vector>::LANES,
                by_rows: &[$([by_rows::<$mr, 1>, by_rows::<$mr, 2>]),*],
                by_columns: &[$([by_columns::<$mr, 1>, by_columns::<$mr, 2>]),*],
                thin: &[$(thin::<$rows, $panels>()),*],
                finish: end,
                pack,
                widen,
                fill,
                lay,
                taps,
                least,
                sum,
                sum16,
                scores,
                mix,
            };
        }
    };
}

kernels!(portable, Portable, , false, rows 1 2 3 4, thin 1 x 2 2 x 1 3 x 1 4 x 1);
#[cfg(target_arch = "x86_64")]
kernels!(
    avx512, std::arch::x86_64::__m512, "avx512f,avx512vl,avx512dq,avx512bw,fma", true,
    rows 1 2 3 4 5 6 7 8 9 10 11 12 13 14, thin 1 x 4 2 x 4 3 x 2 4 x 2 5 x 1 6 x 1 7 x 1 8 x 1
);
#[cfg(target_arch = "x86_64")]
kernels!(avx2, std::arch::x86_64::__m256, "avx2,fma", true, rows 1 2 3 4 5 6, thin 1 x 4 2 x 2 3 x 2 4 x 1 5 x 1 6 x 1);
#[cfg(target_arch = "aarch64")]
kernels!(
    neon, std::arch::aarch64::float32x4_t, "neon", false,
    rows 1 2 3 4 5 6 7 8 9 10 11 12, thin 1 x 4 2 x 4 3 x 2 4 x 2 5 x 1 6 x 1 7 x 1 8 x 1
);
