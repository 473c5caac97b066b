//! Products beside the scalar rule.

use hallmark_model::numeric::int8::Quantised;

use super::{PackedInt8, product};
use crate::isa::Isa;
use crate::kernels::gemm::{Ctx, Epilogue};
use crate::threads::Pool;

/// Numbers of many magnitudes, the same everywhere.
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32
    };
    let number = |_| {
        let unit = next() as f32 / (1_u64 << 30) as f32 - 1.0;
        unit * [1.0, 1.0, 0.01, 8.0, 0.0, 1e-30, 1e-42][next() as usize % 7]
    };
    (0..count).map(number).collect()
}

fn check(m: usize, k: usize, n: usize, x: &[f32], columns: &[f32]) {
    let weights: Vec<Quantised> = columns.chunks(k).map(Quantised::of).collect();
    let rows: Vec<Quantised> = x.chunks(k).map(Quantised::of).collect();
    let bias = numbers(n, 3);
    let want: Vec<u32> = (rows.iter())
        .flat_map(|row| weights.iter().zip(&bias).map(|(weight, bias)| row.dot(weight) + bias))
        .map(|y| hallmark_model::numeric::canonical_f32(y).to_bits())
        .collect();
    for isa in Isa::available() {
        let packed = PackedInt8::new(isa, columns, k);
        assert_eq!(packed.size(), (k, n));
        for (column, weight) in weights.iter().enumerate() {
            let mut values = vec![0.0; k];
            packed.column(column, &mut values);
            let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&values), bits(&weight.values()), "{isa} column {column}");
        }
        for threads in [1, 3] {
            let pool = Pool::new(threads);
            let mut out = vec![0.0; m * n];
            product(&Ctx::new(isa, &pool), m, x, &packed, &mut out, &Epilogue::columns(&bias));
            let got: Vec<u32> = out.iter().map(|y| y.to_bits()).collect();
            assert_eq!(got, want, "{isa} {m} x {k} x {n}, {threads} threads");
        }
    }
}

#[test]
fn products_equal_the_rule() {
    let sizes = [
        (1, 1, 1),
        (1, 32, 16),
        (2, 33, 17),
        (3, 100, 5),
        (8, 64, 70),
        (9, 96, 33),
        (23, 7, 40),
        (5, 1000, 130),
        (1, 40, 300),
        (2, 70, 290),
        (3, 65, 230),
    ];
    for (m, k, n) in sizes {
        check(m, k, n, &numbers(m * k, 1), &numbers(n * k, 2));
    }
    // Enough for several threads.
    check(13, 320, 100, &numbers(13 * 320, 4), &numbers(100 * 320, 5));
}

#[test]
fn extremes() {
    let (m, k, n) = (3, 64, 33);
    // The greatest sums there are, of both signs; rounding at ties.
    let ones = |count| vec![1.0; count];
    check(m, k, n, &ones(m * k), &ones(n * k));
    check(m, k, n, &ones(m * k), &vec![-1.0; n * k]);
    let ties: Vec<f32> =
        (0..m * k).map(|i| if i % 32 == 0 { 127.0 } else { i as f32 % 60.0 - 29.5 }).collect();
    check(m, k, n, &ties, &numbers(n * k, 6));
    for bad in [f32::NAN, f32::INFINITY, f32::MAX, f32::from_bits(1), f32::MIN_POSITIVE] {
        let (mut x, mut columns) = (numbers(m * k, 7), numbers(n * k, 8));
        (x[k + 5], columns[2 * k + 40]) = (bad, -bad);
        check(m, k, n, &x, &columns);
    }
}
