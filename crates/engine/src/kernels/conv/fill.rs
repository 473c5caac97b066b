//! Panels of patches.
#![allow(unsafe_code)] // Copies through pointers; instruction sets chosen at run time.

use std::ops::Range;

use hallmark_model::ops::window::Axis;

use crate::kernels::gemm::vector::Vector;

/// Consecutive output positions of one output row, as they lie in a panel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// Output position: plane, row, first column.
    at: [usize; 3],
    len: usize,
    /// First column of the panel.
    to: usize,
}

impl Row {
    /// The rows that output positions `first..first + len` make up.
    pub(crate) fn of_positions(axes: &[Axis; 3], first: usize, len: usize, rows: &mut Vec<Self>) {
        rows.clear();
        let (height, width) = (axes[1].output, axes[2].output);
        let mut to = 0;
        while to < len {
            let position = first + to;
            let column = position % width;
            let at = [position / width / height, position / width % height, column];
            let row = Self { at, len: (width - column).min(len - to), to };
            rows.push(row);
            to += row.len;
        }
    }
}

/// What a panel of patches is made of: for every channel and kernel position one row of `width` elements, the input under
/// it for each of the panel's positions, +0 in the padding.
#[derive(Debug)]
pub(crate) struct Patches<'a> {
    pub(crate) axes: &'a [Axis; 3],
    pub(crate) rows: &'a [Row],
    /// All channels of the image's group.
    pub(crate) x: &'a [f32],
    /// Elements of a channel.
    pub(crate) plane: usize,
    pub(crate) channels: Range<usize>,
    pub(crate) width: usize,
}

impl Patches<'_> {
    /// Makes the panel. Columns beyond the last position keep what they hold.
    ///
    /// # Safety
    /// `dst` has room for it; the processor has `V`'s instruction set.
    #[inline(always)]
    pub(crate) unsafe fn fill<V: Vector>(&self, dst: *mut f32) {
        let [depth, height, line] = self.axes;
        let volume = depth.kernel * height.kernel * line.kernel;
        for row in self.rows {
            for kd in 0..depth.kernel {
                let d = depth.position(row.at[0], kd);
                for kh in 0..height.kernel {
                    let h = height.position(row.at[1], kh);
                    let inside = d.zip(h).map(|(d, h)| (d * height.input + h) * line.input);
                    for kw in 0..line.kernel {
                        let k = (kd * height.kernel + kh) * line.kernel + kw;
                        let columns = self.columns(row, kw);
                        for (i, channel) in self.channels.clone().enumerate() {
                            // SAFETY: the row's columns lie inside the panel; those in `columns` have their input inside
                            // the channel's line.
                            unsafe {
                                let to = dst.add((i * volume + k) * self.width + row.to);
                                match inside {
                                    None => fill_zero::<V>(to, row.len),
                                    Some(start) => {
                                        let at = channel * self.plane + start;
                                        self.copy::<V>(row, &columns, at.wrapping_add(columns.from), to);
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    /// The columns of `row` whose input under kernel position `kw` is inside the line, and the first one's input.
    #[inline(always)]
    fn columns(&self, row: &Row, kw: usize) -> Columns {
        let axis = &self.axes[2];
        // Input column of the row's column j: start + j * stride - pad_begin.
        let start = row.at[2] * axis.stride + kw * axis.dilation;
        let first = axis.pad_begin.saturating_sub(start).div_ceil(axis.stride).min(row.len);
        let past = (axis.pad_begin + axis.input).saturating_sub(start).div_ceil(axis.stride);
        let past = past.clamp(first, row.len);
        Columns { first, past, from: (start + first * axis.stride).wrapping_sub(axis.pad_begin) }
    }

    /// Copies a row whose first column inside the line is the input's element `at`.
    #[inline(always)]
    unsafe fn copy<V: Vector>(&self, row: &Row, columns: &Columns, at: usize, to: *mut f32) {
        let stride = self.axes[2].stride;
        // SAFETY: as in `fill`.
        unsafe {
            // Mostly the elements before and behind the line are there to be read: then whole vectors are, and what belongs to
            // the padding is put right.
            if let Some(first) = at.checked_sub(columns.first * stride)
                && columns.first < columns.past
                && first + row.len * stride <= self.x.len()
            {
                every::<V>(self.x.as_ptr().add(first), stride, row.len, row.len * stride, V::splat(1.0), to);
                for j in 0..columns.first {
                    *to.add(j) = 0.0;
                }
                for j in columns.past..row.len {
                    *to.add(j) = 0.0;
                }
                return;
            }
            fill_zero::<V>(to, row.len);
            for j in columns.first..columns.past {
                *to.add(j) = self.x[at + (j - columns.first) * stride];
            }
        }
    }
}

/// `to[j] = from[j * stride] * factor` for j below `len`.
///
/// # Safety
/// `readable` elements from `from` on may be read, at least `(len - 1) * stride + 1`; `to` has room for `len`; the processor
/// has `V`'s instruction set.
#[inline(always)]
pub(crate) unsafe fn every<V: Vector>(
    from: *const f32,
    stride: usize,
    len: usize,
    readable: usize,
    factor: V,
    to: *mut f32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut j = 0;
        if stride == 1 {
            while j + V::LANES <= len {
                V::load(from.add(j)).mul(factor).store(to.add(j));
                j += V::LANES;
            }
        } else if stride == 2 {
            while j + V::LANES <= len && 2 * (j + V::LANES) <= readable {
                let from = from.add(2 * j);
                V::load(from).even(V::load(from.add(V::LANES))).mul(factor).store(to.add(j));
                j += V::LANES;
            }
        }
        let mut one = [0.0_f32; 16];
        factor.store(one.as_mut_ptr());
        while j < len {
            *to.add(j) = *from.add(j * stride) * one[0];
            j += 1;
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Columns {
    first: usize,
    past: usize,
    from: usize,
}

#[inline(always)]
unsafe fn fill_zero<V: Vector>(to: *mut f32, len: usize) {
    // SAFETY: the caller promises `len` elements.
    unsafe {
        let mut j = 0;
        while j + V::LANES <= len {
            V::zero().store(to.add(j));
            j += V::LANES;
        }
        while j < len {
            *to.add(j) = 0.0;
            j += 1;
        }
    }
}
