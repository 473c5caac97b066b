use hallmark_model::numeric::{canonical_f32, contract_f32, max_f32, min_f32};

use super::*;

/// Pseudo-random numbers; one in sixteen is special if asked for.
pub(crate) fn numbers(seed: u64, len: usize, special: bool) -> Vec<f32> {
    const SPECIAL: [f32; 8] =
        [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 1e-40, f32::MIN_POSITIVE, f32::MAX, -1e-45];
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let bits = (state >> 33) as u32;
            if special && bits.is_multiple_of(16) {
                SPECIAL[(bits >> 8) as usize % 8]
            } else {
                (bits as f32 / (1_u32 << 30) as f32 - 1.0) * [1.0, 1e-20, 1e3, 0.1][(bits >> 5) as usize % 4]
            }
        })
        .collect()
}

pub(crate) fn assert_same(got: &[f32], want: &[f32], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert_eq!(g.to_bits(), w.to_bits(), "{what}: output {i} is {g:e}, not {w:e}");
    }
}

/// The epilogue of one output, step by step.
pub(crate) fn finished(
    p: f32,
    row: usize,
    column: usize,
    columns: usize,
    at: usize,
    e: &Epilogue<'_>,
) -> f32 {
    let mut y = canonical_f32(p);
    if e.alpha != 1.0 {
        y *= e.alpha;
    }
    let add = match e.add {
        Add::None => None,
        Add::Scalar(x) => Some(x),
        Add::Rows(x) => Some(x[row]),
        Add::Columns(x) => Some(x[column]),
        Add::Full(x) => Some(x[row * columns + column]),
    };
    if let Some(c) = add {
        y += if e.beta == 1.0 { c } else { e.beta * c };
    }
    if let Some(residual) = e.residual {
        y += residual[at];
    }
    y = canonical_f32(y);
    match e.clamp {
        Clamp::None => y,
        Clamp::Relu => max_f32(y, 0.0),
        Clamp::Range(lo, hi) => min_f32(max_f32(y, lo), hi),
    }
}

fn expected(
    m: usize,
    n: usize,
    k: usize,
    a: Matrix<'_>,
    b: Matrix<'_>,
    e: &Epilogue<'_>,
    base: usize,
) -> Vec<f32> {
    let mut out = Vec::with_capacity(m * n);
    for i in 0..m {
        for j in 0..n {
            let pairs = (0..k).map(|k| (a.data[i * a.row + k * a.column], b.data[k * b.row + j * b.column]));
            out.push(finished(contract_f32(pairs, BLOCK), i, j, n, base + i * n + j, e));
        }
    }
    out
}

/// All instruction sets, 1, 2 and 4 threads, both kinds of right operand.
fn check(m: usize, n: usize, k: usize, a: Matrix<'_>, b: Matrix<'_>, e: &Epilogue<'_>) {
    let want = expected(m, n, k, a, b, e, 0);
    for threads in [1, 2, 4] {
        let pool = Pool::new(threads);
        for isa in Isa::available() {
            let cx = Ctx::new(isa, &pool);
            let what = format!(
                "{m} x {n} x {k}, {isa}, {threads} threads, {:?}",
                (a.row, a.column, b.row, b.column)
            );
            let mut out = vec![7.0; m * n];
            gemm(&cx, m, n, k, a, &PackedB::new(isa, b, k, n), &mut out, e);
            assert_same(&out, &want, &format!("packed {what}"));
            out.fill(7.0);
            matmul(&cx, m, n, k, (a, &[0]), (b, &[0]), &mut out, e);
            assert_same(&out, &want, &format!("dynamic {what}"));
        }
    }
}

#[test]
fn every_length_of_k() {
    for k in [0, 1, 2, 7, 8, 9, 511, 512, 513, 1024, 1500] {
        let (m, n) = (3, 21);
        let (a, b) = (numbers(1, m * k, false), numbers(2, k * n, false));
        check(m, n, k, Matrix::row_major(&a, k), Matrix::row_major(&b, n), &Epilogue::default());
    }
}

#[test]
fn weights_that_no_cache_holds() {
    let (m, n, k) = (120, 901, 600);
    let (a, b) = (numbers(7, m * k, false), numbers(8, k * n, false));
    let (a, b) = (Matrix::row_major(&a, k), Matrix::transposed(&b, k));
    // The portable path emulates every multiply-add, and splits in the same way.
    for isa in Isa::available().filter(|&isa| isa != Isa::Portable) {
        let packed = PackedB::new(isa, b, k, n);
        let product = |threads| {
            let (pool, mut out) = (Pool::new(threads), vec![7.0; m * n]);
            gemm(&Ctx::new(isa, &pool), m, n, k, a, &packed, &mut out, &Epilogue::default());
            out
        };
        let one = product(1);
        for row in [0, 13, 14, 119] {
            let want = expected(1, n, k, a.from(row * k), b, &Epilogue::default(), 0);
            assert_same(&one[row * n..(row + 1) * n], &want, &format!("row {row}, {isa}"));
        }
        for threads in [2, 4] {
            assert_same(&product(threads), &one, &format!("{threads} threads, {isa}"));
        }
    }
}

#[test]
fn every_shape_and_layout() {
    let sizes = [
        (1, 1, 5),
        (1, 130, 33),
        (2, 200, 20),
        (3, 64, 17),
        (4, 97, 530),
        (5, 33, 8),
        (7, 10, 64),
        (8, 16, 40),
        (13, 31, 9),
        (14, 32, 64),
        (15, 49, 24),
        (29, 1, 70),
        (64, 64, 32),
        (130, 5, 11),
        (61, 140, 19),
        (1, 300, 600),
    ];
    for (i, (m, n, k)) in sizes.into_iter().enumerate() {
        let (a, b) = (numbers(3, m * k, i % 3 == 2), numbers(4, k * n, i % 3 == 2));
        let lefts = [Matrix::row_major(&a, k), Matrix::transposed(&a, m)];
        let rights = [Matrix::row_major(&b, n), Matrix::transposed(&b, k)];
        let e = Epilogue { clamp: if i % 2 == 0 { Clamp::None } else { Clamp::Relu }, ..Epilogue::default() };
        check(m, n, k, lefts[i % 2], rights[i / 2 % 2], &e);
        check(m, n, k, lefts[(i + 1) % 2], rights[(i / 2 + 1) % 2], &e);
    }
}

#[test]
fn strides_that_are_not_one_and_powers_of_two() {
    let (m, n, k) = (20, 40, 70);
    let (a, b) = (numbers(5, 2 * m * 1024, false), numbers(6, 3 * k * 128, false));
    let a = Matrix { data: &a, row: 2048, column: 3 };
    let b = Matrix { data: &b, row: 256, column: 3 };
    check(m, n, k, a, b, &Epilogue::default());
    check(
        m,
        n,
        k,
        Matrix { row: 1024, column: 1, ..a },
        Matrix { row: 1, column: 96, ..b },
        &Epilogue::default(),
    );
    check(m, n, k, Matrix { row: 1, column: 512, ..a }, b, &Epilogue::default());
}

#[test]
fn epilogues() {
    let (m, n, k) = (17, 53, 20);
    let (a, b) = (numbers(7, m * k, true), numbers(8, k * n, false));
    let (full, residual) = (numbers(9, m * n, true), numbers(10, m * n, true));
    let adds =
        [Add::None, Add::Scalar(-0.0), Add::Rows(&full[..m]), Add::Columns(&full[..n]), Add::Full(&full)];
    let clamps = [
        Clamp::None,
        Clamp::Relu,
        Clamp::Range(-0.0, 6.0),
        Clamp::Range(-1.0, -0.0),
        Clamp::Range(f32::NEG_INFINITY, f32::INFINITY),
        Clamp::Range(2.0, 1.0),
        Clamp::Range(f32::NAN, 1.0),
    ];
    for (i, add) in adds.into_iter().enumerate() {
        for (j, clamp) in clamps.into_iter().enumerate() {
            let alpha = if (i + j) % 2 == 0 { 1.0 } else { 0.3 };
            let beta = if (i + j) % 3 == 0 { 1.0 } else { -1.7 };
            let residual = (j % 2 == 1).then_some(&residual[..]);
            let e = Epilogue { alpha, beta, add, residual, clamp };
            check(m, n, k, Matrix::row_major(&a, k), Matrix::row_major(&b, n), &e);
        }
    }
    // One column: rows and columns change places inside.
    let e = Epilogue { add: Add::Rows(&full[..m]), ..Epilogue::default() };
    check(m, 1, k, Matrix::row_major(&a, k), Matrix::row_major(&b, 1), &e);
}

#[test]
fn batches_and_broadcasts() {
    let (m, n, k) = (9, 35, 40);
    let (a, b) = (numbers(11, 6 * m * k, false), numbers(12, 6 * k * n, false));
    let residual = numbers(13, 6 * m * n, false);
    let a_at: [usize; 6] = std::array::from_fn(|i| i * m * k);
    for b_at in [std::array::from_fn(|i| i * k * n), [0; 6], std::array::from_fn(|i| i / 3 * k * n)] {
        for transposed in [false, true] {
            let left = Matrix::row_major(&a, k);
            let right = if transposed { Matrix::transposed(&b, k) } else { Matrix::row_major(&b, n) };
            let e = Epilogue { alpha: 0.125, residual: Some(&residual), ..Epilogue::default() };
            let mut want = Vec::new();
            for (i, &b_at) in b_at.iter().enumerate() {
                want.extend(expected(m, n, k, left.from(a_at[i]), right.from(b_at), &e, i * m * n));
            }
            for threads in [1, 2, 4] {
                let pool = Pool::new(threads);
                for isa in Isa::available() {
                    let mut out = vec![7.0; 6 * m * n];
                    matmul(&Ctx::new(isa, &pool), m, n, k, (left, &a_at), (right, &b_at), &mut out, &e);
                    assert_same(&out, &want, &format!("{isa}, {threads} threads, {b_at:?}"));
                }
            }
        }
    }
}

#[test]
fn a_row_of_a_batch_has_the_bits_it_has_alone() {
    let (m, n, k) = (64, 70, 784);
    let (a, b, bias) = (numbers(14, m * k, false), numbers(15, n * k, false), numbers(16, n, false));
    let pool = Pool::new(2);
    let e = Epilogue { clamp: Clamp::Relu, ..Epilogue::columns(&bias) };
    for isa in Isa::available() {
        let cx = Ctx::new(isa, &pool);
        let weights = PackedB::new(isa, Matrix::transposed(&b, k), k, n);
        let mut all = vec![0.0; m * n];
        gemm(&cx, m, n, k, Matrix::row_major(&a, k), &weights, &mut all, &e);
        for i in 0..m {
            let mut one = vec![0.0; n];
            gemm(&cx, 1, n, k, Matrix::row_major(&a[i * k..], k), &weights, &mut one, &e);
            assert_same(&one, &all[i * n..(i + 1) * n], &format!("row {i}, {isa}"));
        }
    }
}
