//! Convolutions of float32 with exactly the bits of `numeric.md` §4: an implicit matrix product.
//!
//! For one image and group, `out[filters, positions] = weights[filters, k] . patches[k, positions]` with k in the order
//! (channel, kernel axes). Patches are made panel by panel, for one block of k at a time, and never as a whole. Where every
//! group is one channel (depthwise), lanes run along the rows of the output instead.
#![allow(unsafe_code)] // Outputs are written by several threads, each its own part; tiles take pointers.

pub(crate) mod fill;
pub(crate) mod plane;
#[cfg(test)]
mod tests;

use std::ops::Range;

use hallmark_model::numeric::BLOCK;
use hallmark_model::ops::conv::ConvShape;
use hallmark_model::ops::window::Axis;

use super::gemm::drive::TileJob;
use super::gemm::pack::{LINE, Lines, Scratch, Shared};
use super::gemm::table::{End, Next, Part, Table, Tile, table};
use super::gemm::{Ctx, Epilogue};
use crate::isa::Isa;
use fill::{Patches, Row};
use plane::Plane;

/// A kernel volume above which a block of one channel would need buffers out of proportion.
const MOST_VOLUME: usize = 1 << 14;

/// Positions for which patches are made together, so that a tile of weights is read once for all of them.
const POSITIONS: usize = 128;

/// A convolution whose weights are packed for one instruction set.
///
/// ```
/// use hallmark_engine::kernels::conv::Conv;
/// use hallmark_engine::kernels::gemm::{Ctx, Epilogue};
/// use hallmark_engine::{Isa, threads::Pool};
/// use hallmark_model::graph::Attrs;
/// use hallmark_model::ops::conv::ConvShape;
///
/// let shape = ConvShape::new(&Attrs::default(), &[1, 1, 2, 2], &[1, 1, 2, 2])?;
/// let conv = Conv::new(Isa::detect(), &[1.0, 10.0, 100.0, 1000.0], 1, 1, 1, &[2, 2]).ok_or("too large")?;
/// let (pool, mut out) = (Pool::new(1), [0.0]);
/// let cx = Ctx::new(Isa::detect(), &pool);
/// assert!(conv.run(&cx, &shape, &[1.0, 2.0, 3.0, 4.0], &mut out, &Epilogue::rows(&[0.5])));
/// assert_eq!(out, [4321.5]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Conv {
    isa: Isa,
    filters: usize,
    channels: usize,
    groups: usize,
    kernel: Vec<usize>,
    weights: Weights,
}

#[derive(Clone, Debug)]
enum Weights {
    /// One matrix a group.
    Packed(Vec<PackedA>),
    /// As they are: one kernel a filter.
    Depthwise(Vec<f32>),
}

impl Conv {
    /// Packs `weights` [filters, channels, kernel...], where `channels` are those of one group. `None` for what is left to
    /// the reference: more than three spatial axes, nothing at all, or a huge kernel.
    ///
    /// # Panics
    /// If `weights` has another length.
    pub fn new(
        isa: Isa,
        weights: &[f32],
        filters: usize,
        channels: usize,
        groups: usize,
        kernel: &[usize],
    ) -> Option<Self> {
        let volume = kernel.iter().try_fold(1_usize, |n, &k| n.checked_mul(k))?;
        let k = channels.checked_mul(volume)?;
        assert_eq!(Some(weights.len()), filters.checked_mul(k), "the filter's size");
        if !(1..=3).contains(&kernel.len()) || weights.is_empty() || volume > MOST_VOLUME || groups == 0 {
            return None;
        }
        let isa = isa.or_portable();
        let each = filters / groups;
        if each == 0 || !filters.is_multiple_of(groups) {
            return None;
        }
        let depthwise = channels == 1 && groups > 1 && kernel.len() <= 2 && each <= 2;
        let weights = if depthwise {
            Weights::Depthwise(weights.to_vec())
        } else {
            let block = block(volume);
            Weights::Packed(weights.chunks(each * k).map(|w| PackedA::new(isa, w, each, k, block)).collect())
        };
        Some(Self { isa, filters, channels, groups, kernel: kernel.to_vec(), weights })
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        match &self.weights {
            Weights::Packed(groups) => groups.iter().map(PackedA::bytes).sum(),
            Weights::Depthwise(weights) => size_of_val(&weights[..]),
        }
    }

    /// `out[batch, filters, positions] = epilogue(x * weights)`. In the epilogue a row is a filter and a column is a
    /// position; the bias is [`Epilogue::rows`]. `false`, before anything is written, for what is left to the reference:
    /// a padded depthwise plane out of proportion.
    ///
    /// # Panics
    /// If `shape` is not of these weights, or `x`, `out` or an addend has another size.
    pub fn run(
        &self,
        cx: &Ctx<'_>,
        shape: &ConvShape,
        x: &[f32],
        out: &mut [f32],
        epilogue: &Epilogue<'_>,
    ) -> bool {
        let axes = &shape.window.axes;
        let same = (shape.filters, shape.channels, shape.groups)
            == (self.filters, self.channels, self.groups)
            && axes.iter().map(|axis| axis.kernel).eq(self.kernel.iter().copied());
        assert!(same, "shapes of other weights");
        let plane = product(axes.iter().map(|axis| axis.input));
        let positions = product(axes.iter().map(|axis| axis.output));
        let image = product([plane, self.channels, self.groups]);
        assert_eq!(x.len(), product([shape.batch, image]), "the input's size");
        let total = product([shape.batch, self.filters, positions]);
        assert_eq!(out.len(), total, "the output's size");
        let end = epilogue.end(self.filters, positions, total);
        if out.is_empty() {
            return true;
        }
        let job = Job {
            table: table(self.isa),
            conv: self,
            axes: three(axes),
            x,
            plane,
            positions,
            out: Shared(out.as_mut_ptr()),
            end,
        };
        match &self.weights {
            Weights::Packed(groups) => {
                job.dense(cx, groups, shape.batch);
                true
            }
            Weights::Depthwise(weights) => job.depthwise(cx, weights, shape.batch),
        }
    }
}

/// The product, or the greatest number, which is no slice's length.
fn product(sizes: impl IntoIterator<Item = usize>) -> usize {
    sizes.into_iter().try_fold(1_usize, |n, size| n.checked_mul(size)).unwrap_or(usize::MAX)
}

/// k's of a block (§4).
fn block(volume: usize) -> usize {
    (BLOCK / volume).max(1) * volume
}

/// Three spatial axes, the missing ones of size 1 in front.
fn three(axes: &[Axis]) -> [Axis; 3] {
    let one = Axis { input: 1, output: 1, kernel: 1, stride: 1, dilation: 1, pad_begin: 0, pad_end: 0 };
    let mut all = [one; 3];
    let missing = 3 - axes.len();
    all[missing..].copy_from_slice(axes);
    all
}

/// One call of [`Conv::run`].
struct Job<'a> {
    table: &'static Table,
    conv: &'a Conv,
    axes: [Axis; 3],
    x: &'a [f32],
    /// Elements of an input channel.
    plane: usize,
    /// Elements of an output channel.
    positions: usize,
    out: Shared,
    end: End,
}

impl Job<'_> {
    /// The end for one image: its residual lies further on.
    fn end_of(&self, image: usize) -> End {
        let mut end = self.end;
        end.residual = end.residual.map(|p| p.wrapping_add(image * self.conv.filters * self.positions));
        end
    }

    fn dense(&self, cx: &Ctx<'_>, groups: &[PackedA], batch: usize) {
        let threads = cx.pool().threads();
        let width = self.table.panel();
        let panels = self.positions.div_ceil(width);
        let most = (POSITIONS / width).max(1);
        // Two units a thread, so that one that was held up is helped. Where positions are too few for all threads, filters are
        // shared out as well, though each share makes the patches anew.
        let spread = if threads == 1 { 1 } else { (2 * threads).div_ceil(batch * groups.len()) };
        let at_once = panels.div_ceil(panels.div_ceil(most).max(spread.min(panels)));
        let chunks = panels.div_ceil(at_once);
        let tiles = groups[0].tiles();
        let splits = threads.div_ceil(batch * groups.len() * chunks).min(tiles);
        let units = batch * groups.len() * chunks * splits;
        let unit = |unit: usize| {
            let (unit, split) = (unit / splits, unit % splits);
            let (unit, chunk) = (unit / chunks, unit % chunks);
            let (image, group) = (unit / groups.len(), unit % groups.len());
            let tiles = tiles * split / splits..tiles * (split + 1) / splits;
            let panels = chunk * at_once..panels.min((chunk + 1) * at_once);
            self.unit(&groups[group], image, group, panels, tiles);
        };
        cx.pool().run_ranges(units, 1, |range| range.for_each(unit));
    }

    /// Some panels of positions and some tiles of filters, of one image and group.
    fn unit(&self, weights: &PackedA, image: usize, group: usize, panels: Range<usize>, tiles: Range<usize>) {
        let (conv, width) = (self.conv, self.table.panel());
        let volume: usize = conv.kernel.iter().product();
        let (k, each) = (conv.channels * volume, conv.filters / conv.groups);
        let first_channel = (image * conv.groups + group) * conv.channels;
        let x = &self.x[first_channel * self.plane..(first_channel + conv.channels) * self.plane];
        let end = self.end_of(image);
        let block = block(volume);
        let mut scratch = Scratch::take();
        let edge = scratch.tile.at_least(self.table.rows() * width);
        let stride = block.min(k) * width;
        let right = scratch.right_buffer(panels.len() * stride);
        let mut rows = Vec::new();
        let mut start = 0;
        while start < k {
            let len = (k - start).min(block);
            for (i, panel) in panels.clone().enumerate() {
                let columns = (self.positions - panel * width).min(width);
                Row::of_positions(&self.axes, panel * width, columns, &mut rows);
                let patches = Patches {
                    axes: &self.axes,
                    rows: &rows,
                    x,
                    plane: self.plane,
                    channels: start / volume..(start + len) / volume,
                    width,
                };
                // SAFETY: the buffer has room for `stride` elements a panel; the table is of an instruction set that the
                // processor has.
                unsafe { (self.table.fill)(&patches, right.add(i * stride)) };
            }
            for tile in tiles.clone() {
                let first = tile * weights.rows;
                let rows = (each - first).min(weights.rows);
                for (i, panel) in panels.clone().enumerate() {
                    let column = panel * width;
                    let columns = (self.positions - column).min(width);
                    let row = group * each + first;
                    let job = TileJob {
                        kernel: self.table.by_columns[rows - 1][usize::from(columns > self.table.lanes)],
                        end: (start + len == k).then_some(&end),
                        row,
                        rows,
                        column,
                        columns,
                    };
                    let at = (image * conv.filters + row) * self.positions + column;
                    // SAFETY: the output's size was checked, and this unit alone writes these filters and positions; the
                    // packed operands hold `len` k's.
                    unsafe {
                        let tile = Tile {
                            a: weights.tile(start, len, first),
                            a_row: 1,
                            a_k: rows,
                            b: right.add(i * stride),
                            b_k: width,
                            b_panel: 0,
                            c: self.out.get().add(at),
                            c_row: self.positions,
                            k: len,
                            first: start == 0,
                            next: Next::nothing(right.cast()),
                        };
                        job.run(self.table, tile, edge);
                    }
                }
            }
            start += len;
        }
    }

    fn depthwise(&self, cx: &Ctx<'_>, weights: &[f32], batch: usize) -> bool {
        let Some(layout) = Plane::new(self.table, &self.axes, self.plane) else { return false };
        let conv = self.conv;
        let (each, volume) = (conv.filters / conv.groups, conv.kernel.iter().product::<usize>());
        cx.pool().run_ranges(batch * conv.groups, 1, |range| {
            let mut scratch = Scratch::take();
            let buffer = scratch.right_buffer(layout.len());
            let sums = scratch.tile.at_least(layout.row_len());
            for channel in range {
                let (image, group) = (channel / conv.groups, channel % conv.groups);
                let end = self.end_of(image);
                // SAFETY: the buffers are as large as the layout says; this channel's outputs are this part's alone.
                unsafe {
                    let x = &self.x[channel * self.plane..(channel + 1) * self.plane];
                    (self.table.lay)(&layout, x, 0.0, 1.0, buffer);
                    for row in group * each..(group + 1) * each {
                        let kernel = &weights[row * volume..(row + 1) * volume];
                        for line in 0..layout.rows() {
                            (self.table.taps)(&layout.line(line, buffer, sums), kernel);
                            let column = line * layout.columns();
                            let at = (image * conv.filters + row) * self.positions + column;
                            let part = Part {
                                sums,
                                sums_row: 0,
                                first: true,
                                c: self.out.get().add(at),
                                c_row: self.positions,
                                row,
                                rows: 1,
                                column,
                                columns: layout.columns(),
                            };
                            (self.table.finish)(&end, &part);
                        }
                    }
                }
            }
        });
        true
    }
}

/// A constant left operand of `m` x `k`, packed for one instruction set: block by block of k, tiles of `rows` rows, k by k. The
/// convolution's weights.
#[derive(Clone, Debug)]
struct PackedA {
    /// Rows of a tile.
    rows: usize,
    m: usize,
    data: Lines,
}

impl PackedA {
    /// Packs row-major `a` in blocks of `block` k's.
    fn new(isa: Isa, a: &[f32], m: usize, k: usize, block: usize) -> Self {
        let table = table(isa);
        let tiles = m.div_ceil(table.rows()).max(1);
        let rows = m.div_ceil(tiles);
        let mut data = Lines::zeroed(m * k + 8 * LINE);
        let dst = data.at_least(0);
        let mut at = 0;
        let mut start = 0;
        while start < k {
            let len = (k - start).min(block);
            for first in (0..m).step_by(rows) {
                let height = (m - first).min(rows);
                for i in 0..height {
                    for j in 0..len {
                        // SAFETY: `at` counts the elements before this tile; all tiles hold m * k elements.
                        unsafe { *dst.add(at + j * height + i) = a[(first + i) * k + start + j] };
                    }
                }
                at += height * len;
            }
            start += len;
        }
        Self { rows, m, data }
    }

    /// Tiles of all rows.
    fn tiles(&self) -> usize {
        self.m.div_ceil(self.rows)
    }

    /// The tile that starts at row `first`, in the block of `len` k's that starts at `start`: its address; its k distance is
    /// its height.
    fn tile(&self, start: usize, len: usize, first: usize) -> *const f32 {
        self.data.ptr().wrapping_add(start * self.m + first * len)
    }

    fn bytes(&self) -> usize {
        self.data.bytes()
    }
}
