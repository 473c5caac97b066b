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
use tile::{GROUPS, Kernels, Tile};

pub use pack::PackedInt8;

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
        let (lanes, stride) = (self.kernels.lanes, self.kernels.panel(self.rows.blocks));
        let mut scratch = Scratch::take();
        let sums = scratch.tile.at_least(shapes.len() * most * lanes);
        let mut panel = panels.start;
        while panel < panels.end {
            let count = if panel + most <= panels.end { most } else { 1 };
            let column = panel * lanes;
            let mut row = 0;
            while row < self.m {
                let rows = (self.m - row).min(shapes.len());
                let shape = &shapes[rows - 1];
                let kernel = if count == 1 { shape.one } else { shape.several };
                let weight = self.weight.wrapping_add(panel * stride);
                // The first rows ask for what the next panels are; others find all that they need in a cache.
                let ahead = if row == 0 { count * stride } else { 0 };
                let next = Next::new(weight.wrapping_add(ahead).cast(), 4 * ahead, self.rows.blocks * GROUPS);
                let tile = Tile { rows: self.rows, row, weight, stride, next, sums };
                let part = Part {
                    sums,
                    sums_row: count * lanes,
                    first: true,
                    c: self.c.wrapping_add(row * self.n + column),
                    c_row: self.n,
                    row,
                    rows,
                    column,
                    columns: (self.n - column).min(count * lanes),
                };
                // SAFETY: the panels and rows are within the operands, whose sizes were checked; the sums have room for a tile; the
                // processor has the instruction sets of both tables, which were chosen by it.
                unsafe {
                    kernel(&tile);
                    (self.table.finish)(&self.end, &part);
                }
                row += rows;
            }
            panel += count;
        }
    }
}

#[cfg(test)]
mod tests;
