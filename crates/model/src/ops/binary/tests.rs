use hallmark_receipt::Tensor;
use proptest::prelude::*;

use crate::graph::Attr;
use crate::ops::OpError;
use crate::ops::test::{eval, one};

fn tensor(shape: &[usize], seed: u32) -> Tensor {
    let n = shape.iter().product::<usize>() as u32;
    let values = (0..n).map(|i| ((i * 7 + seed) % 23) as f32 - 11.0).collect();
    Tensor::from_vec(shape.to_vec(), values).unwrap()
}

proptest! {
    #[test]
    fn broadcast_is_expand_then_pointwise(dims in prop::collection::vec((1_usize..4, any::<bool>(), any::<bool>()), 0..4)) {
        let full: Vec<usize> = dims.iter().map(|d| d.0).collect();
        let a: Vec<usize> = dims.iter().map(|d| if d.1 { 1 } else { d.0 }).collect();
        let b: Vec<usize> = dims.iter().map(|d| if d.2 { 1 } else { d.0 }).collect();
        let (a, b) = (tensor(&a, 1), tensor(&b, 5));
        let zeros = tensor(&full, 0);
        let zeros = one("Mul", &[], &[&zeros, &Tensor::scalar(0.0_f32)]);
        let wide = |t: &Tensor| one("Add", &[], &[t, &zeros]);
        let got = one("Sub", &[], &[&a, &b]);
        let want = one("Sub", &[], &[&wide(&a), &wide(&b)]);
        let got = one("Add", &[], &[&got, &zeros]);
        prop_assert_eq!(got, want);
    }
}

#[test]
fn integer_division_refuses() {
    let t = |v: Vec<i32>| Tensor::vector(v);
    assert_eq!(one("Div", &[], &[&t(vec![-7, 7]), &t(vec![2])]), t(vec![-3, 3]));
    for (a, b) in [(1, 0), (i32::MIN, -1)] {
        assert_eq!(eval("Div", 14, &[], &[Some(&t(vec![a])), Some(&t(vec![b]))]), Err(OpError::Division));
    }
}

#[test]
fn shifts_past_the_width() {
    let dir = |d: &str| [("direction", Attr::Str(d.into()))];
    let x = Tensor::vector(vec![-8_i8, 5]);
    let by = Tensor::vector(vec![8_i8]);
    assert_eq!(one("BitShift", &dir("RIGHT"), &[&x, &by]), Tensor::vector(vec![-1_i8, 0]));
    assert_eq!(one("BitShift", &dir("LEFT"), &[&x, &by]), Tensor::vector(vec![0_i8, 0]));
    assert_eq!(one("BitShift", &dir("RIGHT"), &[&x, &Tensor::scalar(1_i8)]), Tensor::vector(vec![-4_i8, 2]));
}

#[test]
fn integer_powers() {
    let x = Tensor::vector(vec![2_i32, -1, 3]);
    assert_eq!(
        one("Pow", &[], &[&x, &Tensor::vector(vec![10.0_f32, 3.0, -1.0])]),
        Tensor::vector(vec![1024, -1, 0])
    );
    assert!(eval("Pow", 15, &[], &[Some(&x), Some(&Tensor::scalar(0.5_f32))]).is_err());
}

#[test]
fn fold_and_select() {
    let a = Tensor::vector(vec![1.0_f32, f32::NAN, -0.0]);
    let b = Tensor::scalar(0.0_f32);
    let max = one("Max", &[], &[&a, &b]);
    assert!(max.same_bits(&Tensor::vector(vec![1.0_f32, f32::from_bits(0x7fc0_0000), 0.0])));
    let c = Tensor::from_vec(vec![2, 1], vec![true, false]).unwrap();
    let s = Tensor::vector(vec!["x".to_owned(), "y".to_owned()]);
    let z = Tensor::scalar("z".to_owned());
    let want = ["x", "y", "z", "z"].map(str::to_owned).to_vec();
    assert_eq!(one("Where", &[], &[&c, &s, &z]), Tensor::from_vec(vec![2, 2], want).unwrap());
}
