//! Attention over pages of keys and values (`numeric.md` §11).
//!
//! A page holds [`PAGE`] positions. Its keys lie element by element ([head_dim][PAGE]), so that lanes are positions; its values
//! position by position ([PAGE][padded]), so that lanes are elements. Either way every lane is one output's chain.
#![allow(unsafe_code)] // Pointers into pages; called through the table of an instruction set.
#![allow(clippy::needless_range_loop)] // Several arrays of registers are indexed alike.

use super::gemm::BLOCK;
use super::gemm::table::Table;
use super::gemm::vector::Vector;
use super::rows;
use crate::isa::Isa;

/// Positions of a page. It divides a block, so that no page is in two.
pub(crate) const PAGE: usize = 32;
/// Values of a head are padded to a multiple of this: the widest vector.
pub(crate) const PAD: usize = 16;

/// Some query heads against the keys of one key head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scores<'a> {
    /// Heads one after the other, `head_dim` elements each.
    pub(crate) queries: *const f32,
    pub(crate) rows: usize,
    pub(crate) head_dim: usize,
    /// Factor of each product.
    pub(crate) scale: f32,
    /// Keys of the pages, [head_dim][PAGE] each.
    pub(crate) keys: &'a [*const f32],
    /// A row of `stride` scores for each query, [`PAGE`] for each page.
    pub(crate) out: *mut f32,
    pub(crate) stride: usize,
}

/// Weighed values of one value head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mix<'a> {
    /// A row of `stride` weights for each query.
    pub(crate) weights: *const f32,
    pub(crate) stride: usize,
    pub(crate) rows: usize,
    /// Positions that take part.
    pub(crate) count: usize,
    /// Values of the pages, [PAGE][padded] each.
    pub(crate) values: &'a [*const f32],
    pub(crate) padded: usize,
    /// `padded` elements for each query.
    pub(crate) out: *mut f32,
}

/// # Safety
/// All pointers are valid for what [`Scores`] says; the processor has the vector's instruction set.
#[inline(always)]
pub(crate) unsafe fn scores<V: Vector>(job: &Scores<'_>) {
    // SAFETY: the caller's promise; rows and vectors stay inside.
    unsafe {
        for (page, &keys) in job.keys.iter().enumerate() {
            let mut at = 0;
            while at < PAGE {
                let out = job.out.add(page * PAGE + at);
                let mut row = 0;
                while row + 4 <= job.rows {
                    score_tile::<V, 4, 2>(job, row, keys.add(at), out);
                    row += 4;
                }
                while row < job.rows {
                    score_tile::<V, 1, 2>(job, row, keys.add(at), out);
                    row += 1;
                }
                at += 2 * V::LANES;
            }
        }
    }
}

/// `MR` queries from `first` on against `NV` vectors of positions.
#[inline(always)]
unsafe fn score_tile<V: Vector, const MR: usize, const NV: usize>(
    job: &Scores<'_>,
    first: usize,
    keys: *const f32,
    out: *mut f32,
) {
    // SAFETY: as in `scores`.
    unsafe {
        let queries = job.queries.add(first * job.head_dim);
        let mut total = [[V::zero(); NV]; MR];
        let mut start = 0;
        while start < job.head_dim {
            let end = job.head_dim.min(start + BLOCK);
            let mut acc = [[V::zero(); NV]; MR];
            for d in start..end {
                for v in 0..NV {
                    let key = V::load(keys.add(d * PAGE + v * V::LANES));
                    for i in 0..MR {
                        acc[i][v] = acc[i][v].fma(V::splat(*queries.add(i * job.head_dim + d)), key);
                    }
                }
            }
            for i in 0..MR {
                for v in 0..NV {
                    total[i][v] = if start == 0 { acc[i][v] } else { total[i][v].add(acc[i][v]) };
                }
            }
            start = end;
        }
        for i in 0..MR {
            for v in 0..NV {
                let z = total[i][v].mul(V::splat(job.scale));
                z.nan_where(z).store(out.add((first + i) * job.stride + v * V::LANES));
            }
        }
    }
}

/// # Safety
/// All pointers are valid for what [`Mix`] says; the processor has the vector's instruction set.
#[inline(always)]
pub(crate) unsafe fn mix<V: Vector>(job: &Mix<'_>) {
    // SAFETY: the caller's promise; rows and vectors stay inside.
    unsafe {
        let mut at = 0;
        while at < job.padded {
            let two = at + 2 * V::LANES <= job.padded;
            let mut row = 0;
            while two && row + 4 <= job.rows {
                mix_tile::<V, 4, 2>(job, row, at);
                row += 4;
            }
            while row < job.rows {
                if two {
                    mix_tile::<V, 1, 2>(job, row, at);
                } else {
                    mix_tile::<V, 1, 1>(job, row, at);
                }
                row += 1;
            }
            at += if two { 2 * V::LANES } else { V::LANES };
        }
    }
}

/// `MR` queries from `first` on, `NV` vectors of elements from `at` on.
#[inline(always)]
unsafe fn mix_tile<V: Vector, const MR: usize, const NV: usize>(job: &Mix<'_>, first: usize, at: usize) {
    // SAFETY: as in `mix`.
    unsafe {
        let weights = job.weights.add(first * job.stride);
        let mut total = [[V::zero(); NV]; MR];
        let mut start = 0;
        while start < job.count {
            let end = job.count.min(start + BLOCK);
            let mut acc = [[V::zero(); NV]; MR];
            let mut u = start;
            while u < end {
                let page = (*job.values.get_unchecked(u / PAGE)).add(at);
                let stop = end.min((u / PAGE + 1) * PAGE);
                while u < stop {
                    let value = page.add(u % PAGE * job.padded);
                    for v in 0..NV {
                        let value = V::load(value.add(v * V::LANES));
                        for i in 0..MR {
                            acc[i][v] = acc[i][v].fma(V::splat(*weights.add(i * job.stride + u)), value);
                        }
                    }
                    u += 1;
                }
            }
            for i in 0..MR {
                for v in 0..NV {
                    total[i][v] = if start == 0 { acc[i][v] } else { total[i][v].add(acc[i][v]) };
                }
            }
            start = end;
        }
        for i in 0..MR {
            for v in 0..NV {
                let x = total[i][v];
                x.nan_where(x).store(job.out.add((first + i) * job.padded + at + v * V::LANES));
            }
        }
    }
}

/// One key/value head, as its pages hold it.
#[derive(Debug)]
pub(crate) struct Head<'a> {
    /// Keys of each page, [head_dim][PAGE].
    pub(crate) keys: &'a [&'a [f32]],
    /// Values of each page, [PAGE][padded].
    pub(crate) values: &'a [&'a [f32]],
    pub(crate) head_dim: usize,
    /// `head_dim`, up to a multiple of [`PAD`].
    pub(crate) padded: usize,
}

/// Buffers of [`attend`].
#[derive(Debug, Default)]
pub(crate) struct AttentionScratch {
    scores: Vec<f32>,
    mixed: Vec<f32>,
}

/// Attention of the query heads in `queries` over the first `count` positions of `head`, into `out` of the same size.
///
/// # Panics
/// If the pages are too few or too small.
pub(crate) fn attend(
    (isa, table): (Isa, &Table),
    head: &Head<'_>,
    queries: &[f32],
    count: usize,
    out: &mut [f32],
    scratch: &mut AttentionScratch,
) {
    let (d, padded) = (head.head_dim, head.padded);
    let (rows, pages) = (queries.len() / d, count.div_ceil(PAGE));
    let stride = pages * PAGE;
    assert!(padded.is_multiple_of(PAD) && padded >= d && out.len() >= rows * d, "sizes of attention");
    let at = |pages: &[&[f32]], least: usize| -> Vec<*const f32> {
        assert!(pages.iter().all(|page| page.len() >= least), "a page is too small");
        pages.iter().map(|page| page.as_ptr()).collect()
    };
    let (keys, values) = (at(&head.keys[..pages], d * PAGE), at(&head.values[..pages], PAGE * padded));
    scratch.scores.resize(rows * stride, 0.0);
    scratch.mixed.resize(rows * padded, 0.0);
    let scale = 1.0 / (d as f32).sqrt();
    let scores = scratch.scores.as_mut_ptr();
    let job =
        Scores { queries: queries.as_ptr(), rows, head_dim: d, scale, keys: &keys, out: scores, stride };
    // SAFETY: `rows` heads are in `queries`, every page is large enough, and the buffers hold a row for each query; the table is of
    // an instruction set that this processor has.
    unsafe { (table.scores)(&job) };
    for row in scratch.scores.chunks_exact_mut(stride) {
        rows::softmax(isa, &mut row[..count], count, false);
    }
    let mixed = scratch.mixed.as_mut_ptr();
    let job =
        Mix { weights: scratch.scores.as_ptr(), stride, rows, count, values: &values, padded, out: mixed };
    // SAFETY: as above.
    unsafe { (table.mix)(&job) };
    for (out, mixed) in out.chunks_exact_mut(d).zip(scratch.mixed.chunks_exact(padded)) {
        out.copy_from_slice(&mixed[..d]);
    }
}
