//! Contractions of float32 matrices with exactly the bits of `numeric.md` §3.
//!
//! Every output is one chain of fused multiply-adds over ascending k for each block of 512, block sums added ascending. Lanes,
//! tiles and threads span different outputs, so neither the instruction set nor the number of threads shows in a bit.
//!
//! ```
//! use hallmark_engine::kernels::gemm::{Ctx, Epilogue, Matrix, PackedB, gemm};
//! use hallmark_engine::{Isa, threads::Pool};
//!
//! let pool = Pool::new(1);
//! let cx = Ctx::new(Isa::detect(), &pool);
//! let weights = PackedB::new(Isa::detect(), Matrix::row_major(&[1.0, 2.0, 3.0, 4.0], 2), 2, 2);
//! let mut out = [0.0; 2];
//! gemm(&cx, 1, 2, 2, Matrix::row_major(&[10.0, 1.0], 2), &weights, &mut out, &Epilogue::default());
//! assert_eq!(out, [13.0, 24.0]);
//! ```
#![allow(unsafe_code)] // Outputs are written by several threads, each its own part; tiles take pointers.

pub(crate) mod drive;
pub(crate) mod pack;
pub(crate) mod table;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod vector;

pub use pack::PackedB;

use crate::isa::Isa;
use crate::threads::Pool;
use drive::{Left, Operands, Right};
use pack::{Scratch, Shared};
use table::{Addend, End, Table, table};

/// k's of a block (§3).
pub const BLOCK: usize = hallmark_model::numeric::BLOCK;

/// Instruction set and threads that a kernel computes with.
#[derive(Clone, Copy, Debug)]
pub struct Ctx<'a> {
    isa: Isa,
    pool: &'a Pool,
}

impl<'a> Ctx<'a> {
    /// With `isa` where the processor has it, else the portable path.
    pub fn new(isa: Isa, pool: &'a Pool) -> Self {
        Self { isa: isa.or_portable(), pool }
    }

    /// The instruction set.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The threads.
    pub fn pool(&self) -> &'a Pool {
        self.pool
    }

    pub(crate) fn table(&self) -> &'static Table {
        table(self.isa)
    }
}

/// A view of a matrix: element (i, j) is `data[i * row + j * column]`.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// Elements, from (0, 0) on.
    pub data: &'a [f32],
    /// Distance of rows, in elements.
    pub row: usize,
    /// Distance of columns, in elements.
    pub column: usize,
}

impl<'a> Matrix<'a> {
    /// Rows of `columns` elements.
    pub fn row_major(data: &'a [f32], columns: usize) -> Self {
        Self { data, row: columns, column: 1 }
    }

    /// The transpose of a row-major matrix whose rows have `rows` elements.
    pub fn transposed(data: &'a [f32], rows: usize) -> Self {
        Self { data, row: 1, column: rows }
    }

    /// Rows and columns exchanged.
    pub fn t(self) -> Self {
        Self { data: self.data, row: self.column, column: self.row }
    }

    /// The view `at` elements further on.
    fn from(self, at: usize) -> Self {
        Self { data: self.data.get(at..).unwrap_or(&[]), ..self }
    }

    /// # Panics
    /// If `rows` x `columns` elements reach beyond `data`.
    pub(crate) fn check(&self, rows: usize, columns: usize) {
        let last = (rows.saturating_sub(1).checked_mul(self.row))
            .zip(columns.saturating_sub(1).checked_mul(self.column))
            .and_then(|(row, column)| row.checked_add(column));
        let inside = rows == 0 || columns == 0 || last.is_some_and(|last| last < self.data.len());
        assert!(inside, "{rows} x {columns} elements in {}", self.data.len());
    }
}

/// What is added to `alpha * A.B`, after a factor `beta`.
#[derive(Clone, Copy, Debug, Default)]
pub enum Add<'a> {
    /// Nothing; not even +0.
    #[default]
    None,
    /// One number.
    Scalar(f32),
    /// One number for each output row.
    Rows(&'a [f32]),
    /// One number for each output column.
    Columns(&'a [f32]),
    /// A matrix of the output's shape and layout; it may serve all of a batch.
    Full(&'a [f32]),
}

/// The last step before an output is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Clamp {
    /// As it is.
    #[default]
    None,
    /// `max(x, +0)`.
    Relu,
    /// `min(max(x, lo), hi)`.
    Range(f32, f32),
}

/// What follows a contraction: `clamp((alpha * p + beta * add) + residual)`, every step rounded, then the one NaN. The bits
/// are those of separate operators.
#[derive(Clone, Copy, Debug)]
pub struct Epilogue<'a> {
    /// Factor of the product; 1 multiplies nothing.
    pub alpha: f32,
    /// Factor of `add`; 1 multiplies nothing.
    pub beta: f32,
    /// First addend.
    pub add: Add<'a>,
    /// Second addend, of the output's whole shape (batch included).
    pub residual: Option<&'a [f32]>,
    /// Activation.
    pub clamp: Clamp,
}

impl Default for Epilogue<'_> {
    fn default() -> Self {
        Self { alpha: 1.0, beta: 1.0, add: Add::None, residual: None, clamp: Clamp::None }
    }
}

impl<'a> Epilogue<'a> {
    /// With one bias for each output column.
    pub fn columns(bias: &'a [f32]) -> Self {
        Self { add: Add::Columns(bias), ..Self::default() }
    }

    /// With one bias for each output row.
    pub fn rows(bias: &'a [f32]) -> Self {
        Self { add: Add::Rows(bias), ..Self::default() }
    }

    /// As pointers, for `rows` x `columns` outputs a matrix, `total` of them in all.
    ///
    /// # Panics
    /// If an addend has another length.
    pub(crate) fn end(&self, rows: usize, columns: usize, total: usize) -> End {
        let (got, want) = match self.add {
            Add::None | Add::Scalar(_) => (0, 0),
            Add::Rows(x) => (x.len(), rows),
            Add::Columns(x) => (x.len(), columns),
            Add::Full(x) => (x.len(), rows * columns),
        };
        assert_eq!(got, want, "an addend's length");
        assert!(self.residual.is_none_or(|x| x.len() == total), "the residual's length");
        let factor = |x: f32| if x == 1.0 { None } else { Some(x) };
        let (mut alpha, clamp) = (
            factor(self.alpha),
            match self.clamp {
                Clamp::None => None,
                Clamp::Relu => Some((0.0, f32::INFINITY)),
                Clamp::Range(lo, hi) => Some((lo, hi)),
            },
        );
        // A bound that is a NaN makes every output the NaN; vectors compare numbers only.
        if clamp.is_some_and(|(lo, hi)| lo.is_nan() || hi.is_nan()) {
            alpha = Some(f32::NAN);
        }
        let add = match &self.add {
            Add::None => None,
            Add::Scalar(x) => Some(Addend { at: x, row: 0, column: 0 }),
            Add::Rows(x) => Some(Addend { at: x.as_ptr(), row: 1, column: 0 }),
            Add::Columns(x) => Some(Addend { at: x.as_ptr(), row: 0, column: 1 }),
            Add::Full(x) => Some(Addend { at: x.as_ptr(), row: columns, column: 1 }),
        };
        End { alpha, beta: factor(self.beta), add, residual: self.residual.map(<[f32]>::as_ptr), clamp }
    }
}

/// `out[m, n] = epilogue(A[m, k] . B[k, n])`, row-major, with weights packed beforehand.
///
/// # Panics
/// If a view, the output or an addend has another size, or `b` is not `k` x `n`.
#[allow(clippy::too_many_arguments)]
pub fn gemm(
    cx: &Ctx<'_>,
    m: usize,
    n: usize,
    k: usize,
    a: Matrix<'_>,
    b: &PackedB,
    out: &mut [f32],
    epilogue: &Epilogue<'_>,
) {
    assert_eq!((b.k, b.n), (k, n), "packed weights' size");
    assert_eq!(Some(out.len()), m.checked_mul(n), "the output's size");
    a.check(m, k);
    if out.is_empty() {
        return;
    }
    let table = table(b.isa);
    let ops = Operands {
        table,
        m,
        n,
        k,
        block: BLOCK,
        left: Left::of(a),
        right: b.right(),
        c: out.as_mut_ptr(),
        end: epilogue.end(m, n, out.len()),
    };
    ops.run(cx.pool);
}

/// A batch of products of two operands that are known at run time only: matrix `i` is
/// `out[i] = epilogue(A(a_at[i]) . B(b_at[i]))`, where `a_at` and `b_at` are offsets into the views' data, so that either may
/// be broadcast. Outputs are row-major, one after the other.
///
/// # Panics
/// If a view, the output or an addend has another size, or the numbers of offsets differ.
#[allow(clippy::too_many_arguments)]
pub fn matmul(
    cx: &Ctx<'_>,
    m: usize,
    n: usize,
    k: usize,
    (a, a_at): (Matrix<'_>, &[usize]),
    (b, b_at): (Matrix<'_>, &[usize]),
    out: &mut [f32],
    epilogue: &Epilogue<'_>,
) {
    let (batch, size) = (a_at.len(), m * n);
    assert_eq!(b_at.len(), batch, "offsets of the batch");
    assert_eq!(Some(out.len()), m.checked_mul(n).and_then(|x| x.checked_mul(batch)), "the output's size");
    for (&a_at, &b_at) in a_at.iter().zip(b_at) {
        a.from(a_at).check(m, k);
        b.from(b_at).check(k, n);
    }
    if out.is_empty() {
        return;
    }
    // One column fills no vector; the one row of the transposed product does. Its outputs lie in the same order, and a product
    // is the same in either order.
    let mut epilogue = *epilogue;
    let (m, n, (a, a_at), (b, b_at)) = if n == 1 && m > 1 {
        epilogue.add = match epilogue.add {
            Add::Rows(x) => Add::Columns(x),
            Add::Columns(x) => Add::Rows(x),
            add => add,
        };
        (n, m, (b.t(), b_at), (a.t(), a_at))
    } else {
        (m, n, (a, a_at), (b, b_at))
    };

    let table = cx.table();
    let end = epilogue.end(m, n, out.len());
    let c = Shared(out.as_mut_ptr());
    let threads = cx.pool.threads();
    let operands = |i: usize, right: Right| {
        let mut end = end;
        end.residual = end.residual.map(|p| p.wrapping_add(i * size));
        let left = Left::of(a.from(a_at[i]));
        Operands { table, m, n, k, block: BLOCK, left, right, c: c.get().wrapping_add(i * size), end }
    };
    let same_b = b_at.windows(2).all(|pair| pair[0] == pair[1]);
    if (threads > 1 && batch < 2 * threads) || batch == 1 || same_b {
        // Threads share each product.
        let mut scratch = Scratch::take();
        for i in 0..batch {
            if i == 0 || b_at[i] != b_at[i - 1] {
                scratch.right(table, b.from(b_at[i]), k, n, m, Some(cx.pool));
            }
            let right = scratch.packed(table, b.from(b_at[i]), k, n, m);
            operands(i, right).run(cx.pool);
        }
    } else {
        cx.pool.run_ranges(batch, 1, |range| {
            let mut scratch = Scratch::take();
            for i in range {
                let b = b.from(b_at[i]);
                scratch.right(table, b, k, n, m, None);
                let right = scratch.packed(table, b, k, n, m);
                operands(i, right).alone();
            }
        });
    }
}
