use hallmark_receipt::Tensor;
use proptest::prelude::*;

use crate::graph::Attr;
use crate::ops::OpError;
use crate::ops::test::{eval, one};

fn iota(shape: &[usize]) -> Tensor {
    Tensor::from_vec(shape.to_vec(), (0..shape.iter().product::<usize>() as i32).collect()).unwrap()
}

fn ints(v: &[i64]) -> Tensor {
    Tensor::vector(v.to_vec())
}

proptest! {
    #[test]
    fn transpose_undoes_itself(shape in prop::collection::vec(1_usize..4, 0..5), seed in any::<u64>()) {
        let mut perm: Vec<i64> = (0..shape.len() as i64).collect();
        for i in (1..perm.len()).rev() {
            perm.swap(i, (seed as usize >> i) % (i + 1));
        }
        let mut inverse = vec![0; perm.len()];
        for (i, &p) in perm.iter().enumerate() {
            inverse[p as usize] = i as i64;
        }
        let x = iota(&shape);
        let there = one("Transpose", &[("perm", Attr::Ints(perm))], &[&x]);
        prop_assert_eq!(one("Transpose", &[("perm", Attr::Ints(inverse))], &[&there]), x);
    }

    #[test]
    fn slice_is_the_loop(n in 1_i64..7, start in -9_i64..9, end in -9_i64..9, step in prop::sample::select(vec![-3_i64, -1, 1, 2, i64::MAX, i64::MIN])) {
        let (lo, hi) = if step > 0 { (0, n) } else { (-1, n - 1) };
        let wrap = |v: i64| if v < 0 { v + n } else { v };
        let (mut i, end_at) = (wrap(start).clamp(0, hi), wrap(end).clamp(lo, hi));
        let mut want = Vec::new();
        while if step > 0 { i < end_at } else { i > end_at } {
            want.push(i as i32);
            i = i.saturating_add(step);
        }
        let got = one("Slice", &[], &[&iota(&[n as usize]), &ints(&[start]), &ints(&[end]), &ints(&[0]), &ints(&[step])]);
        prop_assert_eq!(got, Tensor::vector(want));
    }

    #[test]
    fn split_then_concat(parts in prop::collection::vec(0_usize..4, 1..4), outer in 1_usize..3) {
        let total: usize = parts.iter().sum();
        let x = iota(&[outer, total, 2]);
        let mut at = 0;
        let pieces: Vec<Tensor> = parts.iter().map(|&p| {
            let (a, b) = (at as i64, (at + p) as i64);
            at += p;
            one("Slice", &[], &[&x, &ints(&[a]), &ints(&[b]), &ints(&[1])])
        }).collect();
        let pieces: Vec<&Tensor> = pieces.iter().collect();
        prop_assert_eq!(one("Concat", &[("axis", Attr::Int(1))], &pieces), x);
    }

    #[test]
    fn space_and_depth_are_inverse(b in 1_usize..4, c in 1_usize..3, h in 1_usize..3, crd in any::<bool>()) {
        let attrs = [("blocksize", Attr::Int(b as i64)), ("mode", Attr::Str(if crd { "CRD" } else { "DCR" }.into()))];
        let x = iota(&[2, c, h * b, b]);
        let deep = one("SpaceToDepth", &attrs, &[&x]);
        prop_assert_eq!(one("DepthToSpace", &attrs, &[&deep]), x);
    }
}

#[test]
fn tile_and_expand() {
    let x = iota(&[1, 2]);
    assert_eq!(
        one("Tile", &[], &[&x, &ints(&[2, 2])]),
        Tensor::from_vec(vec![2, 4], vec![0, 1, 0, 1, 0, 1, 0, 1]).unwrap()
    );
    assert_eq!(
        one("Expand", &[], &[&x, &ints(&[2, 1])]),
        Tensor::from_vec(vec![2, 2], vec![0, 1, 0, 1]).unwrap()
    );
}

#[test]
fn sizes_from_the_data_are_charged() {
    let x = iota(&[1]);
    let huge = ints(&[1 << 40]);
    for (op, inputs) in [("Expand", [&x, &huge]), ("Tile", [&x, &huge])] {
        let refused = eval(op, 13, &[], &inputs.map(Some));
        assert!(matches!(refused, Err(OpError::Budget { .. })), "{op}: {refused:?}");
    }
    let refused = eval("ConstantOfShape", 9, &[], &[Some(&huge)]);
    assert!(matches!(refused, Err(OpError::Budget { .. })));
    assert!(eval("Reshape", 14, &[], &[Some(&x), Some(&huge)]).is_err());
    let range = [0, i64::MAX, 1].map(Tensor::scalar);
    let refused = eval("Range", 11, &[], &[Some(&range[0]), Some(&range[1]), Some(&range[2])]);
    assert!(matches!(refused, Err(OpError::Budget { .. })));
}

#[test]
fn empty_shapes_with_huge_axes() {
    let x = Tensor::from_vec::<f32>(vec![1 << 60, 1 << 60, 0], vec![]).unwrap();
    assert_eq!(one("Transpose", &[], &[&x]).shape(), [0, 1 << 60, 1 << 60]);
    let lengths = Tensor::from_vec::<i64>(vec![0], vec![]).unwrap();
    assert!(eval("ReverseSequence", 10, &[], &[Some(&x), Some(&lengths)]).is_err());
    assert_eq!(one("Trilu", &[], &[&x]), x);
}

#[test]
fn reverse_and_triangle() {
    let x = iota(&[3, 2]);
    let lengths = ints(&[3, 2]);
    assert_eq!(
        one("ReverseSequence", &[], &[&x, &lengths]),
        Tensor::from_vec(vec![3, 2], vec![4, 3, 2, 1, 0, 5]).unwrap()
    );
    let lower = [("upper", Attr::Int(0))];
    assert_eq!(
        one("Trilu", &lower, &[&x, &Tensor::scalar(-1_i64)]),
        Tensor::from_vec(vec![3, 2], vec![0, 0, 2, 0, 4, 5]).unwrap()
    );
}

#[test]
fn gather_and_scatter() {
    let x = iota(&[2, 3]);
    let at = Tensor::from_vec(vec![2, 1], vec![-1_i64, 0]).unwrap();
    let axis = [("axis", Attr::Int(1))];
    assert_eq!(one("GatherElements", &axis, &[&x, &at]), Tensor::from_vec(vec![2, 1], vec![2, 3]).unwrap());
    assert_eq!(
        one("Gather", &axis, &[&x, &ints(&[2, -3])]),
        Tensor::from_vec(vec![2, 2], vec![2, 0, 5, 3]).unwrap()
    );
    let updates = Tensor::from_vec(vec![2, 1], vec![10, 20]).unwrap();
    let add = [("axis", Attr::Int(1)), ("reduction", Attr::Str("add".into()))];
    assert_eq!(
        one("ScatterElements", &add, &[&x, &at, &updates]),
        Tensor::from_vec(vec![2, 3], vec![0, 1, 12, 23, 4, 5]).unwrap()
    );
    let rows = Tensor::from_vec(vec![1, 1], vec![1_i64]).unwrap();
    let row = Tensor::from_vec(vec![1, 3], vec![7, 8, 9]).unwrap();
    assert_eq!(
        one("ScatterND", &[], &[&x, &rows, &row]),
        Tensor::from_vec(vec![2, 3], vec![0, 1, 2, 7, 8, 9]).unwrap()
    );
    for bad in [3, -4, i64::MIN] {
        assert!(matches!(
            eval("Gather", 13, &axis, &[Some(&x), Some(&ints(&[bad]))]),
            Err(OpError::Value { .. })
        ));
    }
}
