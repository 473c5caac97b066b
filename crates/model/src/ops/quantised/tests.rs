//! The operators beside the formulas of `quantised.md` §2, written a second time in rationals.

use proptest::prelude::*;

use super::*;
use crate::graph::Attr;
use crate::ops::test::{hallmark, hallmark_one};

fn ints(list: &[(&'static str, i64)]) -> Vec<(&'static str, Attr)> {
    list.iter().map(|(name, value)| (*name, Attr::Int(*value))).collect()
}

fn with_table(table: Vec<i64>, list: &[(&'static str, i64)]) -> Vec<(&'static str, Attr)> {
    let mut attrs = ints(list);
    attrs.push(("table", Attr::Ints(table)));
    attrs
}

/// The nearest integer to `a / b`, halves upwards.
fn nearest(a: i128, b: i128) -> i128 {
    let (quotient, rest) = (a.div_euclid(b), a.rem_euclid(b));
    if 2 * rest >= b { quotient + 1 } else { quotient }
}

const I8: i64 = 3;
const U8: i64 = 2;

fn requantize(x: &Tensor, m: &Tensor, attrs: &[(&'static str, i64)]) -> Result<Tensor, OpError> {
    let all = [("bits", 24), ("low", -128), ("high", 127), ("to", I8), ("shift", 8)];
    let mut given = ints(attrs);
    given.extend(ints(&all).into_iter().filter(|(name, _)| attrs.iter().all(|(other, _)| other != name)));
    Ok(hallmark("Requantize", &given, &[x, m])?.swap_remove(0))
}

#[test]
fn halves_go_up_and_the_clamp_comes_last() {
    let x = Tensor::vector(vec![-3_i32, -2, -1, 0, 1, 2, 3, 600, -600]);
    let y = requantize(&x, &Tensor::scalar(1_i32), &[("shift", 1)]).unwrap();
    assert_eq!(y, Tensor::vector(vec![-1_i8, -1, 0, 0, 1, 1, 2, 127, -128]));
    let y = requantize(&x, &Tensor::scalar(2_i32), &[("shift", 1), ("to", U8), ("low", 0), ("high", 6)]);
    assert_eq!(y.unwrap(), Tensor::vector(vec![0_u8, 0, 0, 0, 1, 2, 3, 6, 0]));
}

#[test]
fn multipliers_run_along_the_axis() {
    let x = Tensor::from_vec(vec![1, 2, 2], vec![100_i32, 101, 100, 101]).unwrap();
    let m = Tensor::vector(vec![1_i32, 2]);
    let along = |axis| requantize(&x, &m, &[("shift", 1), ("axis", axis)]).unwrap();
    assert_eq!(along(1), Tensor::from_vec(vec![1, 2, 2], vec![50_i8, 51, 100, 101]).unwrap());
    assert_eq!(along(-1), Tensor::from_vec(vec![1, 2, 2], vec![50_i8, 101, 50, 101]).unwrap());
    assert!(requantize(&x, &m, &[("axis", 0)]).is_err());
}

#[test]
fn what_is_out_of_range_is_refused() {
    let (x, one) = (Tensor::vector(vec![1_i32]), Tensor::scalar(1_i32));
    for m in [0, -1, 32_769] {
        assert!(requantize(&x, &Tensor::scalar(m), &[]).is_err(), "{m}");
    }
    assert!(requantize(&x, &Tensor::scalar(32_768_i32), &[]).is_ok());
    let bad = [("shift", 0), ("shift", 31), ("bits", 0), ("bits", 25), ("low", 1), ("high", 128), ("to", 6)];
    for attr in bad {
        assert!(requantize(&x, &one, &[attr]).is_err(), "{attr:?}");
    }
    assert!(requantize(&x, &Tensor::from_vec(vec![1, 1], vec![1_i32]).unwrap(), &[]).is_err());
    let one = [&Tensor::vector(vec![1_i8])];
    assert!(hallmark("IntegerSoftmax", &with_table(vec![0; 256], &[]), &one).is_err());
    assert!(hallmark("Table", &with_table(vec![0; 255], &[("to", 3)]), &one).is_err());
    assert!(hallmark("Table", &with_table(vec![128; 256], &[("to", 3)]), &one).is_err());
    assert!(hallmark("Table", &with_table(vec![127; 256], &[("to", 3)]), &one).is_ok());
    let wide = Tensor::vector(vec![1_i8; 1024]);
    let normalize = |shift| {
        let attrs = ints(&[("center", 1), ("shift", shift), ("epsilon", 1), ("gain", 1)]);
        hallmark("IntegerNormalize", &attrs, &[&wide])
    };
    assert!(normalize(7).is_err());
    assert!(normalize(9).is_ok());
}

proptest! {
    #[test]
    fn requantize_is_the_nearest_integer(x in any::<i32>(), m in 1..=32_768_i32, shift in 1..=30_i64) {
        let got = requantize(&Tensor::vector(vec![x]), &Tensor::scalar(m), &[("shift", shift)]).unwrap();
        let want = nearest(i128::from(x) * i128::from(m), 1 << shift).clamp(-128, 127);
        prop_assert_eq!(got.as_slice::<i8>().unwrap()[0], want as i8);
    }

    #[test]
    fn tables_are_looked_up(x in any::<i8>(), y in any::<u8>()) {
        let table = with_table((0..256).map(|i| i * 7 - 900).collect(), &[("to", 6)]);
        let got = hallmark_one("Table", &table, &[&Tensor::vector(vec![x])]);
        prop_assert_eq!(got, Tensor::vector(vec![(i32::from(x) + 128) * 7 - 900]));
        let got = hallmark_one("Table", &table, &[&Tensor::vector(vec![y])]);
        prop_assert_eq!(got, Tensor::vector(vec![i32::from(y) * 7 - 900]));
    }

    #[test]
    fn softmax_shares_sum_to_about_one(x in prop::collection::vec(any::<i8>(), 1..40), step in 1..60_i64) {
        let table: Vec<i64> = (0..256).map(|i| (4095 - i * step).max(0)).collect();
        let y = hallmark_one("IntegerSoftmax", &with_table(table.clone(), &[]), &[&Tensor::vector(x.clone())]);
        let y = y.as_slice::<u8>().unwrap();
        let most = i128::from(*x.iter().max().unwrap());
        let e = |x: i8| i128::from(table[(most - i128::from(x)) as usize]);
        let sum: i128 = x.iter().map(|x| e(*x)).sum();
        for (y, x) in y.iter().zip(&x) {
            prop_assert_eq!(i128::from(*y), nearest(255 * e(*x), sum));
        }
        let total: usize = y.iter().map(|y| usize::from(*y)).sum();
        prop_assert!(total.abs_diff(255) <= x.len().div_ceil(2));
    }

    #[test]
    fn normalize_is_the_written_formula(
        x in prop::collection::vec(any::<i8>(), 1..40), center in 0..=1_i64, shift in 4..=8_i64, epsilon in 1..1000_i64,
    ) {
        let attrs = ints(&[("center", center), ("shift", shift), ("epsilon", epsilon), ("gain", 4095)]);
        let y = hallmark_one("IntegerNormalize", &attrs, &[&Tensor::vector(x.clone())]);
        let y = y.as_slice::<i16>().unwrap();
        let (n, sum) = (x.len() as i128, x.iter().map(|x| i128::from(*x)).sum::<i128>());
        let d = |x: i8| nearest(n * i128::from(x) - sum * i128::from(center), 1 << shift);
        let squares: i128 = x.iter().map(|x| d(*x) * d(*x)).sum::<i128>() + i128::from(epsilon);
        let root = (0_i128..).take_while(|s| s * s <= squares).last().unwrap();
        for (y, x) in y.iter().zip(&x) {
            prop_assert_eq!(i128::from(*y), nearest(4095 * d(*x), root));
        }
    }
}

#[test]
fn rows_lie_along_any_axis() {
    let x = Tensor::from_vec(vec![3, 2], vec![10_i8, 1, 20, 1, 30, 1]).unwrap();
    let table = (0..256).map(|i| if i == 0 { 100 } else { 0 }).collect();
    let y = hallmark_one("IntegerSoftmax", &with_table(table, &[("axis", 0)]), &[&x]);
    assert_eq!(y, Tensor::from_vec(vec![3, 2], vec![0_u8, 85, 0, 85, 255, 85]).unwrap());
}
