//! Products of quantised activations and weights with exactly the bits of `numeric.md` §11.1.
//!
//! Sums of integers are exact, so only the chain over the blocks has an order; lanes, tiles and threads span different outputs.
#![allow(unsafe_code)] // Outputs are written by several threads, each its own part; tiles take pointers.

mod pack;
mod tile;

use std::ops::Range;

use super::gemm::pack::{Lines, Scratch};
use super::gemm::table::{End, Next, Part, Table};
use super::gemm::{Ctx, Epilogue};
use pack::Rows;
use tile::{GROUPS, Kernels, Shape, Tile, in_order};

pub use pack::PackedInt8;

/// Panels, at least, whose outputs are finished together where they have few rows.
const GATHERED: usize = 8;

/// `out[m, n] = epilogue(x[m, k] . weight[k, n])`, all row-major, for the size (k, n) of `weight`.
///
/// # Panics
/// If an operand, the output or an addend has another size.
pub fn product(
    cx: &Ctx<'_>,
    m: usize,
    x: &[f32],
    weight: &PackedInt8,
    out: &mut [f32],
    epilogue: &Epilogue<'_>,
) {
    let (k, n) = weight.size();
    assert_eq!(Some(x.len()), m.checked_mul(k), "the activations' size");
    assert_eq!(Some(out.len()), m.checked_mul(n), "the output's size");
    if out.is_empty() {
        return;
    }
    let kernels = weight.kernels();
    let rows = Rows::of(cx, x, k, kernels.flip);
    let job = Job {
        kernels,
        table: cx.table(),
        rows: &rows,
        m,
        n,
        weight: weight.at(),
        end: epilogue.end(m, n, out.len()),
        c: out.as_mut_ptr(),
    };
    let panels = n.div_ceil(kernels.lanes);
    // Below some tens of microseconds of work, waking others costs more than they bring.
    if cx.pool().threads() == 1 || m * n * k < 1 << 18 {
        job.region(0..panels);
    } else {
        cx.pool().run_ranges(panels, kernels.shapes(m).1, |panels| job.region(panels));
    }
}

/// One product.
struct Job<'a> {
    kernels: &'static Kernels,
    table: &'static Table,
    rows: &'a Rows,
    m: usize,
    n: usize,
    weight: *const f32,
    end: End,
    c: *mut f32,
}

// SAFETY: addresses of operands that are only read and of outputs of which every thread writes its own.
unsafe impl Sync for Job<'_> {}

impl Job<'_> {
    /// The outputs of some panels. Each is read once from memory: what follows for further rows finds it in a cache.
    fn region(&self, panels: Range<usize>) {
        let (shapes, most) = self.kernels.shapes(self.m);
        // The rows of one tile finish several tiles' outputs at once; one after the other takes a few percent of the time.
        let gathered = if self.m <= shapes.len() { GATHERED.next_multiple_of(most) } else { most };
        let mut scratch = Scratch::take();
        let sums = scratch.tile.at_least(shapes.len() * gathered * self.kernels.lanes);
        for first in panels.clone().step_by(gathered) {
            let panels = first..panels.end.min(first + gathered);
            for row in (0..self.m).step_by(shapes.len()) {
                let rows = (self.m - row).min(shapes.len());
                self.tiles(&shapes[rows - 1], row, panels.clone(), most, sums);
                self.finish(row..row + rows, &panels, sums);
            }
        }
    }

    /// Sums of the rows of `shape` from `row` on, `most` panels a tile.
    fn tiles(&self, shape: &Shape, row: usize, panels: Range<usize>, most: usize, sums: *mut f32) {
        let (lanes, blocks) = (self.kernels.lanes, self.rows.blocks);
        let stride = self.kernels.panel(blocks);
        let mut panel = panels.start;
        while panel < panels.end {
            let count = if panel + most <= panels.end { most } else { 1 };
            let kernel = if count == 1 { shape.one } else { shape.several };
            let weight = self.weight.wrapping_add(panel * stride);
            // The first rows ask for what the next panels are; others find all that they need in a cache.
            let next = if row > 0 || in_order(self.m) {
                Next::nothing(weight.cast())
            } else {
                let bytes = 4 * count * stride;
                Next::new(weight.wrapping_byte_add(bytes).cast(), bytes, blocks * (1 + GROUPS))
            };
            let tile = Tile {
                rows: self.rows,
                row,
                weight,
                stride,
                next,
                sums: sums.wrapping_add((panel - panels.start) * lanes),
                sums_row: panels.len() * lanes,
            };
            // SAFETY: the panels and rows are within the operands, whose sizes were checked; the sums have room for all tiles; the processor
            // has the instruction set of the kernels, which were chosen by it.
            unsafe { kernel(&tile) };
            panel += count;
        }
    }

    /// What becomes of the sums of some rows and panels.
    fn finish(&self, rows: Range<usize>, panels: &Range<usize>, sums: *const f32) {
        let (lanes, column) = (self.kernels.lanes, panels.start * self.kernels.lanes);
        let part = Part {
            sums,
            sums_row: panels.len() * lanes,
            first: true,
            c: self.c.wrapping_add(rows.start * self.n + column),
            c_row: self.n,
            row: rows.start,
            rows: rows.len(),
            column,
            columns: (self.n - column).min(panels.len() * lanes),
        };
        // SAFETY: outputs within the checked size; the processor has the instruction set of the table.
        unsafe { (self.table.finish)(&self.end, &part) };
    }
}

#[cfg(test)]
mod tests;
