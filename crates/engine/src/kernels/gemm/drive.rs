//! From a product to its tiles.
#![allow(unsafe_code)] // Tiles take pointers.

use std::ops::Range;

use super::Matrix;
use super::pack::{LINE, Scratch};
use super::table::{End, Next, Part, Table, Tile, TileFn};
use crate::isa::reads_in_order;
use crate::threads::Pool;

/// Tiles of rows that are packed together: their k-block stays in the second-level cache.
const CHUNK: usize = 8;

/// Elements of a right operand that no second-level cache holds.
const FAR: usize = 1 << 19;

/// The left operand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Left {
    at: *const f32,
    row: usize,
    k: usize,
}

impl Left {
    pub(crate) fn of(a: Matrix<'_>) -> Self {
        Self { at: a.data.as_ptr(), row: a.row, k: a.column }
    }
}

/// The right operand: panels of contiguous columns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Right {
    /// Element (0, 0).
    pub(crate) at: *const f32,
    /// Distance of k.
    pub(crate) k: usize,
    /// Distance of panels.
    pub(crate) panel: usize,
    /// The last panel where it lies apart, packed.
    pub(crate) edge: Option<*const f32>,
    /// The panels as upper halves, packed; then `at` means nothing.
    pub(crate) halves: Option<*const u16>,
}

/// A product `c[m, n] = end(left[m, k] . right[k, n])`, `c` row-major and not empty.
#[derive(Clone, Copy)]
pub(crate) struct Operands {
    pub(crate) table: &'static Table,
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    /// k's of a block.
    pub(crate) block: usize,
    pub(crate) left: Left,
    pub(crate) right: Right,
    pub(crate) c: *mut f32,
    pub(crate) end: End,
}

// SAFETY: plain addresses of operands that are only read and of outputs of which every thread writes its own.
unsafe impl Sync for Operands {}

impl Operands {
    /// With all threads of the pool.
    pub(crate) fn run(&self, pool: &Pool) {
        let threads = pool.threads();
        let (tiles, panels) = (self.m.div_ceil(self.table.rows()), self.n.div_ceil(self.table.panel()));
        // What no second-level cache holds is better read by one thread each than all of it by all threads.
        let large = self.k * self.n > FAR;
        // Below some tens of microseconds of work, waking others costs more than they bring.
        if threads == 1 || self.m * self.n * self.k.max(1) < 1 << 17 {
            self.alone();
        } else if (tiles >= 4 * threads || tiles >= panels) && !(large && panels >= 4 * threads) {
            pool.run_ranges(self.m, self.m.div_ceil(tiles), |rows| self.region(rows, 0..panels));
        } else {
            // Every part packs the left operand for itself: two a thread, where it is packed at all.
            let grain = match self.table.thin.get(self.m - 1) {
                Some(thin) => thin.panels(),
                None => panels.div_ceil(2 * threads),
            };
            pool.run_ranges(panels, grain, |panels| self.region(0..self.m, panels));
        }
    }

    /// On the calling thread.
    pub(crate) fn alone(&self) {
        self.region(0..self.m, 0..self.n.div_ceil(self.table.panel()));
    }

    /// The outputs of some rows and panels.
    fn region(&self, rows: Range<usize>, panels: Range<usize>) {
        if rows.is_empty() || panels.is_empty() {
            return;
        }
        if rows.len() <= self.table.thin.len() && self.left.k == 1 {
            // SAFETY: rows and panels are within the operands, as below.
            unsafe { self.thin(&rows, &panels) };
            return;
        }
        let most = self.table.rows();
        let height = rows.len().div_ceil(rows.len().div_ceil(most));
        let by_rows = self.left.k == 1 || rows.len() == 1;
        // Packing pays where it is read several times, and must be done where neither distance is 1.
        let pack = if by_rows {
            panels.len() > 3 || (self.left.row.is_multiple_of(1024) && height > 7 && self.k > 16)
        } else {
            self.left.row != 1 || (panels.len() > 3 && self.left.k.is_multiple_of(512))
        };
        let mut scratch = Scratch::take();
        let edge = scratch.tile.at_least(most * self.table.panel());
        let mut first = rows.start;
        while first < rows.end {
            let chunk = first..rows.end.min(first + CHUNK * height);
            let mut start = 0;
            loop {
                let len = (self.k - start).min(self.block);
                let packed = pack.then(|| {
                    let dst = scratch.left.at_least(chunk.len() * len + LINE);
                    // SAFETY: the buffer has room for the chunk's block and the spill.
                    unsafe { self.pack_left(&chunk, height, start, len, dst) };
                    dst.cast_const()
                });
                // SAFETY: rows, panels and k's are within the operands that the callers of this crate's public functions
                // gave and that were checked there; the buffers are as large as the tiles.
                unsafe {
                    if let Some(halves) = self.right.halves {
                        let size = len * self.right.k;
                        let wide = scratch.wide.at_least(size);
                        for panel in panels.clone() {
                            let from = panel * self.right.panel + start * self.right.k;
                            (self.table.widen)(halves.add(from), size, wide);
                            let mut ops = *self;
                            ops.right.at = wide.cast_const().wrapping_sub(from);
                            ops.block(&chunk, &(panel..panel + 1), height, start, len, packed, by_rows, edge);
                        }
                    } else {
                        self.block(&chunk, &panels, height, start, len, packed, by_rows, edge);
                    }
                }
                start += len;
                if start >= self.k {
                    break;
                }
            }
            first = chunk.end;
        }
    }

    /// The outputs of some panels and few rows: a panel is read once, from its first k to its last, which is as memory likes it.
    unsafe fn thin(&self, rows: &Range<usize>, panels: &Range<usize>) {
        let width = self.table.panel();
        let thin = self.table.thin[rows.len() - 1];
        let most = thin.panels();
        let mut scratch = Scratch::take();
        let sums = scratch.tile.at_least(rows.len() * most * width);
        let left = self.left.at.wrapping_add(rows.start * self.left.row);
        let whole = if self.right.edge.is_some() { self.n / width } else { panels.end };
        let row_bytes = self.right.k * if self.right.halves.is_some() { 2 } else { 4 };
        let mut panel = panels.start;
        while panel < panels.end {
            let taken = if panel + most <= panels.end.min(whole) { most } else { 1 };
            let tiles = if taken > 1 { thin.several } else { thin.one };
            let kernel = tiles[usize::from(self.right.halves.is_some())];
            let (column, first) = (panel * width, panel * self.right.panel);
            let (b, b_k) = match (self.right.halves, self.right.edge) {
                (Some(halves), _) => (halves.wrapping_add(first).cast(), self.right.k),
                (None, Some(edge)) if panel >= whole => (edge, width),
                _ => (self.right.at.wrapping_add(first), self.right.k),
            };
            let mut start = 0;
            loop {
                let k = (self.k - start).min(self.block);
                let b = match self.right.halves {
                    Some(_) => b.cast::<u16>().wrapping_add(start * b_k).cast(),
                    None => b.wrapping_add(start * b_k),
                };
                let next = match reads_in_order() {
                    true => Next::nothing(b.cast()),
                    false => Next::new(b.wrapping_byte_add(k * row_bytes).cast(), k * row_bytes, k),
                };
                let tile = Tile {
                    a: left.wrapping_add(start),
                    a_row: self.left.row,
                    a_k: 1,
                    b,
                    b_k,
                    b_panel: self.right.panel,
                    c: sums,
                    c_row: taken * width,
                    k,
                    first: start == 0,
                    next,
                };
                // SAFETY: the caller's promise; the sums have room for the tile.
                unsafe { kernel(&tile) };
                start += k;
                if start >= self.k {
                    break;
                }
            }
            let (row, columns) = (rows.start, (self.n - column).min(taken * width));
            let part = Part {
                sums,
                sums_row: taken * width,
                first: true,
                c: self.c.wrapping_add(row * self.n + column),
                c_row: self.n,
                row,
                rows: rows.len(),
                column,
                columns,
            };
            // SAFETY: the caller's promise; `columns` of the outputs are inside.
            unsafe { (self.table.finish)(&self.end, &part) };
            panel += taken;
        }
    }

    /// Packs rows `chunk`, k's `start..start + len`, in tiles of `height` rows.
    unsafe fn pack_left(&self, chunk: &Range<usize>, height: usize, start: usize, len: usize, dst: *mut f32) {
        // Ascending: what a tile spills over its end, the next one overwrites.
        for first in chunk.clone().step_by(height) {
            let rows = (chunk.end - first).min(height);
            // SAFETY: the caller's promise; rows and k's are within the left operand.
            unsafe {
                let dst = dst.add((first - chunk.start) * len);
                let src = self.left.at.wrapping_add(first * self.left.row + start * self.left.k);
                if self.left.k == 1 {
                    (self.table.pack)(src, self.left.row, rows, rows, len, dst);
                } else {
                    for k in 0..len {
                        for i in 0..rows {
                            *dst.add(k * rows + i) = *src.add(i * self.left.row + k * self.left.k);
                        }
                    }
                }
            }
        }
    }

    /// All tiles of some rows and panels over one block of k.
    #[allow(clippy::too_many_arguments)]
    unsafe fn block(
        &self,
        chunk: &Range<usize>,
        panels: &Range<usize>,
        height: usize,
        start: usize,
        len: usize,
        packed: Option<*const f32>,
        by_rows: bool,
        edge: *mut f32,
    ) {
        let width = self.table.panel();
        let whole = if self.right.edge.is_some() { self.n / width } else { usize::MAX };
        let mut panel = panels.start;
        // SAFETY: as the caller says.
        unsafe {
            while panel < panels.end {
                let (b, b_k) = match self.right.edge {
                    Some(edge) if panel >= whole => (edge.wrapping_add(start * width), width),
                    _ => (
                        self.right.at.wrapping_add(panel * self.right.panel + start * self.right.k),
                        self.right.k,
                    ),
                };
                // Each tile asks for its share of the next panel.
                let apart = self.right.panel <= self.right.k || panel + 1 >= panels.end.min(whole);
                let (next, share) = if apart {
                    (b, 0)
                } else {
                    (b.wrapping_add(self.right.panel), len * self.right.k / chunk.len().div_ceil(height))
                };
                let column = panel * width;
                for first in chunk.clone().step_by(height) {
                    let rows = (chunk.end - first).min(height);
                    let (a, a_row, a_k) = match packed {
                        Some(left) => (left.add((first - chunk.start) * len), 1, rows),
                        None => {
                            let at = self.left.at.wrapping_add(first * self.left.row + start * self.left.k);
                            (at, self.left.row, self.left.k)
                        }
                    };
                    let tile = Tile {
                        a,
                        a_row,
                        a_k,
                        b,
                        b_k,
                        b_panel: self.right.panel,
                        c: self.c.add(first * self.n + column),
                        c_row: self.n,
                        k: len,
                        first: start == 0,
                        next: Next::new(
                            next.wrapping_add((first - chunk.start) / height * share).cast(),
                            4 * share,
                            len,
                        ),
                    };
                    let rows_now = by_rows && packed.is_none();
                    let columns = (self.n - column).min(width);
                    let kernels = if rows_now { self.table.by_rows } else { self.table.by_columns };
                    let job = TileJob {
                        kernel: kernels[rows - 1][usize::from(columns > self.table.lanes)],
                        end: (start + len >= self.k).then_some(&self.end),
                        row: first,
                        rows,
                        column,
                        columns,
                    };
                    job.run(self.table, tile, edge);
                }
                panel += 1;
            }
        }
    }
}

/// One tile and what becomes of it.
pub(crate) struct TileJob<'a> {
    pub(crate) kernel: TileFn,
    /// After the last block.
    pub(crate) end: Option<&'a End>,
    pub(crate) row: usize,
    pub(crate) rows: usize,
    pub(crate) column: usize,
    /// Outputs in a row; the kernel may be wider.
    pub(crate) columns: usize,
}

impl TileJob<'_> {
    /// Computes it; `edge` has room for the kernel's whole width and starts at a cache line.
    ///
    /// # Safety
    /// The tile's operands are valid, `columns` outputs in each of `rows` rows too; the processor has the table's instruction
    /// set.
    pub(crate) unsafe fn run(&self, table: &Table, mut tile: Tile, edge: *mut f32) {
        let width = if self.columns <= table.lanes {
            table.lanes
        } else {
            self.columns.next_multiple_of(table.panel())
        };
        let (c, c_row, first) = (tile.c, tile.c_row, tile.first);
        // SAFETY: the caller's promise; what is wider than its outputs, or not finished, is computed in `edge`.
        unsafe {
            if let Some(end) = self.end {
                (tile.c, tile.c_row, tile.first) = (edge, width, true);
                (self.kernel)(&tile);
                let &Self { row, rows, column, columns, .. } = self;
                let part = Part { sums: edge, sums_row: width, first, c, c_row, row, rows, column, columns };
                (table.finish)(end, &part);
            } else if self.columns == width {
                (self.kernel)(&tile);
            } else {
                (tile.c, tile.c_row) = (edge, width);
                for i in 0..if first { 0 } else { self.rows } {
                    std::ptr::copy_nonoverlapping(c.add(i * c_row), edge.add(i * width), self.columns);
                }
                (self.kernel)(&tile);
                for i in 0..self.rows {
                    std::ptr::copy_nonoverlapping(edge.add(i * width), c.add(i * c_row), self.columns);
                }
            }
        }
    }
}
