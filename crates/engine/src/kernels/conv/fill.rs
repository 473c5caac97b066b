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
                                        let from = self.x.as_ptr().add(channel * self.plane + start);
                                        self.copy::<V>(row, &columns, from.wrapping_add(columns.from), to);
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

    #[inline(always)]
    unsafe fn copy<V: Vector>(&self, row: &Row, columns: &Columns, from: *const f32, to: *mut f32) {
        let stride = self.axes[2].stride;
        // SAFETY: as in `fill`.
        unsafe {
            if columns.first > 0 {
                fill_zero::<V>(to, columns.first);
            }
            let (to_inside, len) = (to.add(columns.first), columns.past - columns.first);
            if stride == 1 {
                let mut j = 0;
                while j + V::LANES <= len {
                    V::load(from.add(j)).store(to_inside.add(j));
                    j += V::LANES;
                }
                while j < len {
                    *to_inside.add(j) = *from.add(j);
                    j += 1;
                }
            } else {
                for j in 0..len {
                    *to_inside.add(j) = *from.add(j * stride);
                }
            }
            if columns.past < row.len {
                fill_zero::<V>(to.add(columns.past), row.len - columns.past);
            }
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
