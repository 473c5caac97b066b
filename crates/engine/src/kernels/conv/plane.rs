//! Padded planes, and what runs along their lines: depthwise convolutions and pools.
#![allow(unsafe_code)] // Lines are pointers; instruction sets chosen at run time.

use hallmark_model::ops::window::Axis;

use super::fill::every;
use crate::kernels::gemm::table::Table;
use crate::kernels::gemm::vector::Vector;

/// How one channel is laid out for windows: padded, its columns sorted by their remainder by the stride, so that neighbouring
/// outputs read neighbouring elements.
#[derive(Clone, Debug)]
pub(crate) struct Plane {
    height: Axis,
    width: Axis,
    /// Padded lines.
    lines: usize,
    /// Elements of one remainder's columns in a line.
    phase: usize,
    /// Outputs in a row, rounded up to vectors.
    row: usize,
    /// For each kernel column: where its first output's element lies in a line.
    columns: Vec<usize>,
}

/// One row of outputs: windows into a padded plane.
#[derive(Clone, Debug)]
pub(crate) struct Line<'a> {
    /// The first kernel row's line.
    from: *const f32,
    /// Distance of kernel rows.
    step: usize,
    kernel_rows: usize,
    columns: &'a [usize],
    /// Outputs, rounded up to vectors.
    len: usize,
    to: *mut f32,
}

impl Plane {
    /// `None` for three axes, and where padding makes the plane far larger than input and output are.
    pub(crate) fn new(table: &Table, axes: &[Axis; 3], input: usize) -> Option<Self> {
        let &[depth, height, width] = axes;
        if (depth.input, depth.kernel, depth.output) != (1, 1, 1) {
            return None;
        }
        let row = width.output.checked_next_multiple_of(table.lanes)?;
        let last = (width.kernel - 1).checked_mul(width.dilation)?;
        let phase = row.checked_add(last / width.stride)?.checked_add(1)?;
        let span = (height.kernel - 1).checked_mul(height.dilation)?;
        let lines =
            height.output.checked_sub(1)?.checked_mul(height.stride)?.checked_add(span)?.checked_add(1)?;
        let len = lines.checked_mul(phase)?.checked_mul(width.stride)?;
        let outputs = height.output.checked_mul(row)?;
        let fair = input.max(outputs).saturating_mul(width.stride.min(8)).saturating_mul(4);
        if len > fair.saturating_add(1 << 16) {
            return None;
        }
        let columns = (0..width.kernel)
            .map(|k| k * width.dilation % width.stride * phase + k * width.dilation / width.stride)
            .collect();
        Some(Self { height, width, lines, phase, row, columns })
    }

    /// Elements of a padded plane.
    pub(crate) fn len(&self) -> usize {
        self.lines * self.line_len()
    }

    fn line_len(&self) -> usize {
        self.phase * self.width.stride
    }

    /// Elements that a row of results takes.
    pub(crate) fn row_len(&self) -> usize {
        self.row
    }

    /// Output rows.
    pub(crate) fn rows(&self) -> usize {
        self.height.output
    }

    /// Outputs in a row.
    pub(crate) fn columns(&self) -> usize {
        self.width.output
    }

    /// Lays out channel `x`, each element times `factor`, `pad` around it.
    ///
    /// # Safety
    /// `dst` has room for [`Plane::len`] elements; the processor has `V`'s instruction set.
    #[inline(always)]
    pub(crate) unsafe fn fill<V: Vector>(&self, x: &[f32], pad: f32, factor: f32, dst: *mut f32) {
        let (stride, begin) = (self.width.stride, self.width.pad_begin);
        for line in 0..self.lines {
            // SAFETY: the caller's promise.
            let to =
                unsafe { std::slice::from_raw_parts_mut(dst.add(line * self.line_len()), self.line_len()) };
            let from = line.checked_sub(self.height.pad_begin).filter(|&h| h < self.height.input);
            let Some(from) = from.and_then(|h| x.get(h * self.width.input..(h + 1) * self.width.input))
            else {
                to.fill(pad);
                continue;
            };
            for (phase, to) in to.chunks_mut(self.phase).enumerate() {
                // Padded column of element i: i * stride + phase.
                let first = begin.saturating_sub(phase).div_ceil(stride).min(to.len());
                let past = (begin + from.len()).saturating_sub(phase).div_ceil(stride).clamp(first, to.len());
                to[..first].fill(pad);
                to[past..].fill(pad);
                if first == past {
                    continue;
                }
                let start = first * stride + phase - begin;
                let to = &mut to[first..past];
                // SAFETY: element `past - 1` has its column inside the line; the caller's promise.
                unsafe {
                    let (at, readable) = (from.as_ptr().add(start), from.len() - start);
                    every::<V>(at, stride, to.len(), readable, V::splat(factor), to.as_mut_ptr());
                }
            }
        }
    }

    /// Output row `row` of the plane at `plane`, results to `to`.
    ///
    /// # Safety
    /// `plane` is a filled plane, `row` below [`Plane::rows`].
    pub(crate) unsafe fn line(&self, row: usize, plane: *const f32, to: *mut f32) -> Line<'_> {
        Line {
            // SAFETY: the caller's promise.
            from: unsafe { plane.add(row * self.height.stride * self.line_len()) },
            step: self.height.dilation * self.line_len(),
            kernel_rows: self.height.kernel,
            columns: &self.columns,
            len: self.row,
            to,
        }
    }
}

/// Chains over the kernel's positions, from +0 (§4; one channel is one block).
///
/// # Safety
/// The line is one of [`Plane::line`], its results have room for [`Plane::row_len`]; `kernel` has its positions; the
/// processor has `V`'s instruction set.
#[inline(always)]
pub(crate) unsafe fn taps<V: Vector>(line: &Line<'_>, kernel: &[f32]) {
    // SAFETY: the caller's promise.
    unsafe { windows::<V, TAPS>(line, kernel.as_ptr()) }
}

/// The least element under each window, -0 below +0, a NaN where there is one.
///
/// # Safety
/// As of [`taps`].
#[inline(always)]
pub(crate) unsafe fn least<V: Vector>(line: &Line<'_>) {
    // SAFETY: the caller's promise.
    unsafe { windows::<V, LEAST>(line, std::ptr::null()) }
}

/// The sum under each window, row-major from +0 (§5): padding of +0 changes nothing, because such a sum is never -0.
///
/// # Safety
/// As of [`taps`].
#[inline(always)]
pub(crate) unsafe fn sum<V: Vector>(line: &Line<'_>) {
    // SAFETY: the caller's promise.
    unsafe { windows::<V, SUM>(line, std::ptr::null()) }
}

const TAPS: u8 = 0;
const LEAST: u8 = 1;
const SUM: u8 = 2;

#[inline(always)]
unsafe fn windows<V: Vector, const WHAT: u8>(line: &Line<'_>, kernel: *const f32) {
    let mut j = 0;
    // SAFETY: the caller's promise.
    unsafe {
        // Four chains at a time, so that one need not wait for another.
        while j + 4 * V::LANES <= line.len {
            chains::<V, WHAT, 4>(line, kernel, j);
            j += 4 * V::LANES;
        }
        while j < line.len {
            chains::<V, WHAT, 1>(line, kernel, j);
            j += V::LANES;
        }
    }
}

#[inline(always)]
unsafe fn chains<V: Vector, const WHAT: u8, const N: usize>(line: &Line<'_>, kernel: *const f32, j: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut acc = [if WHAT == LEAST { V::splat(f32::INFINITY) } else { V::zero() }; N];
        let mut w = kernel;
        for kh in 0..line.kernel_rows {
            let from = line.from.add(kh * line.step + j);
            for &column in line.columns {
                let weight = if WHAT == TAPS { V::splat(*w) } else { V::zero() };
                for (v, acc) in acc.iter_mut().enumerate() {
                    let x = V::load(from.add(column + v * V::LANES));
                    *acc = match WHAT {
                        TAPS => acc.fma(x, weight),
                        LEAST => acc.min(x),
                        _ => acc.add(x),
                    };
                }
                w = w.wrapping_add(1);
            }
        }
        for (v, acc) in acc.into_iter().enumerate() {
            acc.store(line.to.add(j + v * V::LANES));
        }
    }
}

/// The sum of §5: sixteen partial sums, then the fixed tree.
///
/// # Safety
/// The processor has `V`'s instruction set.
#[inline(always)]
pub(crate) unsafe fn sum16<V: Vector>(x: &[f32]) -> f32 {
    // SAFETY: sixteen lanes are a whole number of vectors on every instruction set; chunks have sixteen elements.
    unsafe {
        let vectors = 16 / V::LANES;
        let mut acc = [V::zero(); 16];
        let chunks = x.chunks_exact(16);
        let rest = chunks.remainder();
        for chunk in chunks {
            for (v, acc) in acc.iter_mut().enumerate().take(vectors) {
                *acc = acc.add(V::load(chunk.as_ptr().add(v * V::LANES)));
            }
        }
        let mut p = [0.0_f32; 16];
        for (v, acc) in acc.into_iter().enumerate().take(vectors) {
            acc.store(p.as_mut_ptr().add(v * V::LANES));
        }
        for (p, x) in p.iter_mut().zip(rest) {
            *p += x;
        }
        for half in [8, 4, 2, 1] {
            for j in 0..half {
                p[j] += p[j + half];
            }
        }
        p[0]
    }
}
