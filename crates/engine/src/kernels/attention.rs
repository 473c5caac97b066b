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
use super::simd::unrolled;
use crate::isa::Isa;

/// Positions of a page. It divides a block, so that no page is in two.
pub(crate) const PAGE: usize = 32;
const _: () = assert!(PAGE.is_multiple_of(rows::LANES));
/// Values of a head are padded to a multiple of this: the widest vector.
pub(crate) const PAD: usize = 16;
/// Lanes of vectors of which there are registers enough for tiles of eight queries: AVX-512's.
const MANY_REGISTERS: usize = 16;

/// Some queries, of one position or of several, against the keys of one key head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scores<'a> {
    /// One after the other, `head_dim` elements each.
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
    /// For each query how many positions take part.
    pub(crate) counts: &'a [usize],
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
                while V::LANES == MANY_REGISTERS && row + 8 <= job.rows {
                    score_tile::<V, 8, 2>(job, row, keys.add(at), out);
                    row += 8;
                }
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
                let mut key = [V::zero(); NV];
                for v in 0..NV {
                    key[v] = V::load(keys.add(d * PAGE + v * V::LANES));
                }
                unrolled!(MR, i => {
                    let query = V::splat(*queries.add(i * job.head_dim + d));
                    for v in 0..NV {
                        acc[i][v] = acc[i][v].fma(query, key[v]);
                    }
                });
            }
            unrolled!(MR, i => {
                for v in 0..NV {
                    total[i][v] = if start == 0 { acc[i][v] } else { total[i][v].add(acc[i][v]) };
                }
            });
            start = end;
        }
        unrolled!(MR, i => {
            for v in 0..NV {
                let z = total[i][v].mul(V::splat(job.scale));
                z.nan_where(z).store(out.add((first + i) * job.stride + v * V::LANES));
            }
        });
    }
}

/// # Safety
/// All pointers are valid for what [`Mix`] says; the processor has the vector's instruction set.
#[inline(always)]
pub(crate) unsafe fn mix<V: Vector>(job: &Mix<'_>) {
    // SAFETY: the caller's promise; rows and vectors stay inside.
    unsafe {
        let (mut at, rows) = (0, job.counts.len());
        while at < job.padded {
            let two = at + 2 * V::LANES <= job.padded;
            let mut row = 0;
            while V::LANES == MANY_REGISTERS && two && row + 8 <= rows {
                mix_tile::<V, 8, 2>(job, row, at);
                row += 8;
            }
            while two && row + 4 <= rows {
                mix_tile::<V, 4, 2>(job, row, at);
                row += 4;
            }
            while row < rows {
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
        let counts: &[usize; MR] = &*job.counts.as_ptr().add(first).cast();
        let (mut all, mut some) = (counts[0], counts[0]);
        for count in counts {
            (all, some) = (all.min(*count), some.max(*count));
        }
        let value = |u: usize, v: usize| {
            let page = *job.values.get_unchecked(u / PAGE);
            V::load(page.add(u % PAGE * job.padded + at + v * V::LANES))
        };
        let mut total = [[V::zero(); NV]; MR];
        let mut start = 0;
        while start < some {
            let end = some.min(start + BLOCK);
            let mut acc = [[V::zero(); NV]; MR];
            let shared = end.min(all);
            let mut u = start;
            while u < shared {
                let page = (*job.values.get_unchecked(u / PAGE)).add(at);
                let stop = shared.min((u / PAGE + 1) * PAGE);
                while u < stop {
                    let at = page.add(u % PAGE * job.padded);
                    let mut value = [V::zero(); NV];
                    for v in 0..NV {
                        value[v] = V::load(at.add(v * V::LANES));
                    }
                    unrolled!(MR, i => {
                        let weight = V::splat(*weights.add(i * job.stride + u));
                        for v in 0..NV {
                            acc[i][v] = acc[i][v].fma(weight, value[v]);
                        }
                    });
                    u += 1;
                }
            }
            // Positions that only some of the queries see: a weight of 0 instead could change a bit.
            for u in shared.max(start)..end {
                unrolled!(MR, i => {
                    if u < counts[i] {
                        let weight = V::splat(*weights.add(i * job.stride + u));
                        for v in 0..NV {
                            acc[i][v] = acc[i][v].fma(weight, value(u, v));
                        }
                    }
                });
            }
            unrolled!(MR, i => {
                for v in 0..NV {
                    if start == 0 {
                        total[i][v] = acc[i][v];
                    } else if start < counts[i] {
                        total[i][v] = total[i][v].add(acc[i][v]);
                    }
                }
            });
            start = end;
        }
        unrolled!(MR, i => {
            for v in 0..NV {
                let x = total[i][v];
                x.nan_where(x).store(job.out.add((first + i) * job.padded + at + v * V::LANES));
            }
        });
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

/// Attention of the queries in `queries`, each over as many of the first positions of `head` as `counts` says, into `out` of the same size.
/// Queries side by side find the pages in a cache.
///
/// # Panics
/// If the pages are too few or too small, or the sizes do not fit.
pub(crate) fn attend(
    (isa, table): (Isa, &Table),
    head: &Head<'_>,
    queries: &[f32],
    counts: &[usize],
    out: &mut [f32],
    scratch: &mut AttentionScratch,
) {
    let (d, padded) = (head.head_dim, head.padded);
    let (rows, pages) = (counts.len(), counts.iter().max().map_or(0, |count| count.div_ceil(PAGE)));
    let stride = pages * PAGE;
    assert!(padded.is_multiple_of(PAD) && padded >= d, "sizes of a head");
    assert!(queries.len() == rows * d && out.len() == rows * d, "sizes of attention");
    assert!(counts.iter().all(|count| *count > 0), "a query of no position");
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
    // SAFETY: `rows` queries are there, every page is large enough, and the buffers hold a row for each query; the table is of
    // an instruction set that this processor has.
    unsafe { (table.scores)(&job) };
    for (row, &count) in scratch.scores.chunks_exact_mut(stride).zip(counts) {
        // Filled up to whole vectors with what adds a zero to the sum.
        let whole = count.next_multiple_of(rows::LANES);
        row[count..whole].fill(f32::NEG_INFINITY);
        rows::softmax(isa, &mut row[..whole], whole, false);
    }
    let mixed = scratch.mixed.as_mut_ptr();
    let job = Mix { weights: scratch.scores.as_ptr(), stride, counts, values: &values, padded, out: mixed };
    // SAFETY: as above.
    unsafe { (table.mix)(&job) };
    for (out, mixed) in out.chunks_exact_mut(d).zip(scratch.mixed.chunks_exact(padded)) {
        out.copy_from_slice(&mixed[..d]);
    }
}
