//! Operands in the order in which tiles read them.
#![allow(unsafe_code)] // Packing writes through pointers, several threads at a time, each its own panels.

use std::cell::RefCell;
use std::fmt;

use super::Matrix;
use super::drive::Right;
use super::table::{Table, table};
use crate::isa::Isa;
use crate::threads::Pool;

/// Elements of a cache line.
pub(crate) const LINE: usize = 16;

/// A cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

/// Memory that starts at a cache line.
#[derive(Clone, Default)]
pub(crate) struct Lines(Vec<Line>);

/// An empty vector with room for `len` elements; a large one lies in huge pages where the system has them. A token reads every weight, and
/// looking up the addresses of small pages takes a few percent of that.
pub(crate) fn roomy<T>(len: usize) -> Vec<T> {
    let vec = Vec::<T>::with_capacity(len);
    #[cfg(target_os = "linux")]
    if len.saturating_mul(size_of::<T>()) >= 4 << 20 {
        unsafe extern "C" {
            fn madvise(start: *const u8, bytes: usize, advice: i32) -> i32;
        }
        const PAGE: usize = 4096;
        const HUGE_PAGES: i32 = 14;
        let (start, bytes) = (vec.as_ptr().cast::<u8>(), vec.capacity() * size_of::<T>());
        let skipped = start.align_offset(PAGE);
        // SAFETY: whole pages of one allocation, and the advice changes no byte of them. The system may refuse it (where pages are larger
        // than ours, say), and all is as before.
        unsafe {
            madvise(start.wrapping_add(skipped), bytes.saturating_sub(skipped) / PAGE * PAGE, HUGE_PAGES)
        };
    }
    vec
}

impl Lines {
    /// +0, at least `len` of them.
    pub(crate) fn zeroed(len: usize) -> Self {
        let mut lines = Self::default();
        lines.at_least(len);
        lines
    }

    /// At least `len` elements, of any values.
    pub(crate) fn at_least(&mut self, len: usize) -> *mut f32 {
        let lines = len.div_ceil(LINE);
        if self.0.len() < lines {
            self.0 = roomy(lines);
            self.0.resize(lines, Line([0.0; LINE]));
        }
        self.0.as_mut_ptr().cast()
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        self.0.len() * size_of::<Line>()
    }

    pub(crate) fn ptr(&self) -> *const f32 {
        self.0.as_ptr().cast()
    }

    /// All elements.
    pub(crate) fn as_slice(&self) -> &[f32] {
        // SAFETY: lines are arrays of float32 that lie side by side.
        unsafe { std::slice::from_raw_parts(self.ptr(), self.0.len() * LINE) }
    }

    /// All elements.
    pub(crate) fn as_mut_slice(&mut self) -> &mut [f32] {
        // SAFETY: as above, and nobody else holds them.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() * LINE) }
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lines({})", self.0.len())
    }
}

/// A pointer that threads share, each writing its own part.
#[derive(Clone, Copy)]
pub(crate) struct Shared<T = f32>(pub(crate) *mut T);

// SAFETY: a plain address; who writes through it answers for the parts being disjoint.
unsafe impl<T: Send> Sync for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T> Shared<T> {
    pub(crate) fn get(&self) -> *mut T {
        self.0
    }
}

/// A constant right operand of `k` x `n`, packed for one instruction set: panels of so many columns as a tile is wide, one after the
/// other, each k by k, the last one filled up with +0.
#[derive(Clone, Debug)]
pub struct PackedB {
    pub(crate) isa: Isa,
    pub(crate) k: usize,
    pub(crate) n: usize,
    panels: Panels,
}

/// Elements of packed panels.
#[derive(Clone, Debug)]
enum Panels {
    F32(Lines),
    /// The upper halves, where all lower ones are zero: half the memory, the same numbers.
    BF16(Vec<u16>),
}

impl PackedB {
    /// Packs `b`, of `k` rows and `n` columns.
    ///
    /// # Panics
    /// If the view is smaller.
    pub fn new(isa: Isa, b: Matrix<'_>, k: usize, n: usize) -> Self {
        b.check(k, n);
        let isa = isa.or_portable();
        let table = table(isa);
        let width = table.panel();
        let count = n.div_ceil(width);
        let mut panels = Lines::zeroed(count * width * k + 8);
        let dst = panels.at_least(0);
        for panel in 0..count {
            // SAFETY: the view was checked, and there is room for `count` panels and eight elements.
            unsafe { pack_panel(table, b, k, n, panel, dst.add(panel * width * k)) };
        }
        Self { isa, k, n, panels: Panels::F32(panels) }
    }

    /// Rows and columns.
    pub fn size(&self) -> (usize, usize) {
        (self.k, self.n)
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        match &self.panels {
            Panels::F32(lines) => lines.bytes(),
            Panels::BF16(halves) => size_of_val(halves.as_slice()),
        }
    }

    /// The same matrix in half the memory if every element is a bfloat16, else as it is. Products read it at the speed of memory and
    /// widen it on the way.
    pub fn narrowed(self) -> Self {
        let Panels::F32(lines) = &self.panels else { return self };
        let bits = || lines.as_slice().iter().map(|x| x.to_bits());
        if bits().any(|bits| bits & 0xffff != 0) {
            return self;
        }
        let mut halves = roomy(bits().len());
        halves.extend(bits().map(|bits| (bits >> 16) as u16));
        Self { panels: Panels::BF16(halves), ..self }
    }

    /// Copies column `column` to `out`, `k` elements at most; nothing where there is no such column.
    pub fn column(&self, column: usize, out: &mut [f32]) {
        let width = table(self.isa).panel();
        if column < self.n {
            let start = column / width * width * self.k + column % width;
            for (i, to) in out.iter_mut().take(self.k).enumerate() {
                let at = start + i * width;
                *to = match &self.panels {
                    Panels::F32(lines) => lines.as_slice()[at],
                    Panels::BF16(halves) => f32::from_bits(u32::from(halves[at]) << 16),
                };
            }
        }
    }

    pub(crate) fn right(&self) -> Right {
        let width = table(self.isa).panel();
        let (at, halves) = match &self.panels {
            Panels::F32(lines) => (lines.ptr(), None),
            Panels::BF16(halves) => (std::ptr::null(), Some(halves.as_ptr())),
        };
        Right { at, k: width, panel: width * self.k, edge: None, halves }
    }
}

/// Packs one panel, `k` rows of the panel's width.
///
/// # Safety
/// `b` is `k` x `n`; `dst` has room for the panel and seven elements more; the processor has the table's instruction set.
unsafe fn pack_panel(table: &Table, b: Matrix<'_>, k: usize, n: usize, panel: usize, dst: *mut f32) {
    let width = table.panel();
    let start = panel * width;
    let columns = (n - start).min(width);
    if k == 0 {
        return;
    }
    // SAFETY: elements (0.., start..start + columns) of `b` are inside.
    unsafe {
        let src = b.data.as_ptr().add(start * b.column);
        if b.column == 1 {
            for i in 0..k {
                let row = dst.add(i * width);
                std::ptr::copy_nonoverlapping(src.add(i * b.row), row, columns);
                std::ptr::write_bytes(row.add(columns), 0, width - columns);
            }
        } else if b.row == 1 {
            // In blocks that stay in the first-level cache.
            let mut i = 0;
            while i < k {
                let len = (k - i).min(64);
                (table.pack)(src.add(i), b.column, columns, width, len, dst.add(i * width));
                i += len;
            }
        } else {
            for i in 0..k {
                for j in 0..width {
                    let from = src.add(i * b.row + j.min(columns - 1) * b.column);
                    *dst.add(i * width + j) = *from;
                }
            }
        }
    }
}

/// Buffers of one thread, kept from call to call.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Packed right operand, or its last panel.
    right: Lines,
    /// A block of packed left rows.
    pub(crate) left: Lines,
    /// A tile at the output's edge.
    pub(crate) tile: Lines,
    /// Widened panels.
    pub(crate) wide: Lines,
}

thread_local! {
    static SCRATCH: RefCell<Vec<Scratch>> = const { RefCell::new(Vec::new()) };
}

/// A thread's buffers on loan.
#[derive(Debug)]
pub(crate) struct Loan(Scratch);

impl Scratch {
    /// Takes this thread's buffers; they go back when the loan ends.
    pub(crate) fn take() -> Loan {
        Loan(SCRATCH.with_borrow_mut(Vec::pop).unwrap_or_default())
    }

    /// Whether tiles read `b` as it is: contiguous rows, so few of them or so short that no address bits collide.
    fn direct(table: &Table, b: Matrix<'_>, k: usize, n: usize, m: usize) -> bool {
        b.column == 1 && (m <= table.rows() || (k * n <= 32 * 1024 && !b.row.is_multiple_of(1024)))
    }

    /// Room for `len` elements where the right operand goes.
    pub(crate) fn right_buffer(&mut self, len: usize) -> *mut f32 {
        self.right.at_least(len)
    }

    /// Packs what of `b` has to be packed, with `pool`'s threads if given.
    pub(crate) fn right(
        &mut self,
        table: &Table,
        b: Matrix<'_>,
        k: usize,
        n: usize,
        m: usize,
        pool: Option<&Pool>,
    ) {
        let width = table.panel();
        let count = n.div_ceil(width);
        if Self::direct(table, b, k, n, m) {
            if !n.is_multiple_of(width) {
                let dst = self.right.at_least(width * k + 8);
                // SAFETY: the caller checked the view; there is room for one panel.
                unsafe { pack_panel(table, b, k, n, count - 1, dst) };
            }
            return;
        }
        let dst = Shared(self.right.at_least(count * width * k + 8));
        let pack = |panels: std::ops::Range<usize>| {
            // Descending: seven elements may spill over a panel's end. The last panel of another range may be spilled into
            // only by transposing, which writes full rows where the width is a multiple of eight, as all tables' widths are.
            for panel in panels.rev() {
                // SAFETY: the caller checked the view; each panel is one range's.
                unsafe { pack_panel(table, b, k, n, panel, dst.get().add(panel * width * k)) };
            }
        };
        match pool {
            Some(pool) if k * n > 64 * 1024 => pool.run_ranges(count, 1, pack),
            _ => pack(0..count),
        }
    }

    /// Where [`Scratch::right`] has put what.
    pub(crate) fn packed(&self, table: &Table, b: Matrix<'_>, k: usize, n: usize, m: usize) -> Right {
        let width = table.panel();
        if Self::direct(table, b, k, n, m) {
            let edge = (!n.is_multiple_of(width)).then(|| self.right.ptr());
            Right { at: b.data.as_ptr(), k: b.row, panel: width, edge, halves: None }
        } else {
            Right { at: self.right.ptr(), k: width, panel: width * k, edge: None, halves: None }
        }
    }
}

impl std::ops::Deref for Loan {
    type Target = Scratch;
    fn deref(&self) -> &Scratch {
        &self.0
    }
}

impl std::ops::DerefMut for Loan {
    fn deref_mut(&mut self) -> &mut Scratch {
        &mut self.0
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let scratch = std::mem::take(&mut self.0);
        SCRATCH.with_borrow_mut(|all| all.push(scratch));
    }
}
