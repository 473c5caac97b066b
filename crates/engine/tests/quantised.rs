//! Operators of quantised graphs, alone and in the chains that one kernel takes: the reference's bits on every instruction set.
#![allow(clippy::unwrap_used)] // Helpers are outside of `#[test]` functions.

mod common;

use common::{Build, Seed, check};
use hallmark_model::graph::{Attr, ValueId};
use hallmark_receipt::{Data, Tensor};

const OPSET: u32 = 21;

fn bytes(seed: &mut Seed, shape: &[usize], signed: bool) -> Tensor {
    let n = shape.iter().product();
    let values: Vec<u8> = (0..n).map(|_| seed.next() as u8).collect();
    let data = match signed {
        true => Data::I8(values.into_iter().map(u8::cast_signed).collect()),
        false => Data::U8(values),
    };
    Tensor::new(shape.to_vec(), data).unwrap()
}

fn numbers(seed: &mut Seed, shape: &[usize], below: usize) -> Tensor {
    let n = shape.iter().product();
    let values = (0..n).map(|_| seed.below(2 * below) as i32 - below as i32).collect();
    Tensor::from_vec(shape.to_vec(), values).unwrap()
}

/// Requantize to uint8 (`to` 2) or int8 (3).
fn requantise(axis: i64, shift: i64, to: i64) -> Vec<(&'static str, Attr)> {
    let (low, high) = if to == 2 { (0, 250) } else { (-127, 100) };
    let all = [("axis", axis), ("bits", 24), ("high", high), ("low", low), ("shift", shift), ("to", to)];
    all.map(|(name, value)| (name, Attr::Int(value))).to_vec()
}

fn multipliers(seed: &mut Seed, n: usize, most: usize) -> Tensor {
    let values: Vec<i32> = (0..n).map(|_| 1 + seed.below(most) as i32).collect();
    if n == 1 { Tensor::scalar(values[0]) } else { Tensor::vector(values) }
}

/// What follows a product along `axis`, in all combinations: nothing, a bias, Requantize, both.
fn chains(
    seed: &mut Seed,
    op: &str,
    attrs: &[(&str, Attr)],
    x: &Tensor,
    w: &Tensor,
    (axis, rank, n): (usize, usize, usize),
) {
    for (bias, requantised, to) in [(false, 0, 2), (true, 0, 2), (true, 1, 2), (true, n, 3), (false, n, 2)] {
        let mut b = Build::default();
        let (x_id, w_id) = (b.input(x.clone()), b.constant(w.clone()));
        let mut last = b.node(op, OPSET, attrs, &[x_id, w_id]);
        if bias {
            let shape: Vec<usize> = (axis..rank).map(|i| if i == axis { n } else { 1 }).collect();
            let addend = b.constant(numbers(seed, &shape, 100_000));
            last = b.node("Add", OPSET, &[], &[last, addend]);
        }
        if requantised > 0 {
            // Products of 32 bits and of more.
            let m = multipliers(seed, requantised, if to == 2 { 200 } else { 32_768 });
            let m = b.constant(m);
            last = b.node("Requantize", 1, &requantise(axis as i64, 14, to), &[last, m]);
        }
        let shape = (x.shape().to_vec(), w.shape().to_vec());
        check(b.output(last), &format!("{op} {attrs:?} {shape:?} bias {bias} requantised {requantised}"));
    }
}

#[test]
fn matrices() {
    let mut seed = Seed(1);
    for (m, k, n) in [(1, 1, 1), (2, 33, 5), (7, 64, 4), (9, 200, 17), (130, 300, 40)] {
        for signed in [true, false] {
            let (x, w) = (bytes(&mut seed, &[m, k], signed), bytes(&mut seed, &[k, n], true));
            chains(&mut seed, "MatMulInteger", &[], &x, &w, (1, 2, n));
        }
    }
    // Weights above 127.
    for signed in [true, false] {
        let (x, w) = (bytes(&mut seed, &[5, 37], signed), bytes(&mut seed, &[37, 19], false));
        chains(&mut seed, "MatMulInteger", &[], &x, &w, (1, 2, 19));
    }
    let (x, w) = (bytes(&mut seed, &[2, 3, 40], true), bytes(&mut seed, &[40, 6], true));
    chains(&mut seed, "MatMulInteger", &[], &x, &w, (2, 3, 6));
}

#[test]
fn convolutions() {
    let mut seed = Seed(2);
    let ints = |list: &[i64]| Attr::Ints(list.to_vec());
    // (input, filters, attributes)
    type Case<'a> = (&'a [usize], &'a [usize], Vec<(&'a str, Attr)>);
    let cases: Vec<Case<'_>> = vec![
        (&[2, 3, 7, 6], &[5, 3, 3, 3], vec![("pads", ints(&[1, 1, 1, 1]))]),
        (&[1, 4, 9, 9], &[8, 2, 3, 2], vec![("group", Attr::Int(2)), ("strides", ints(&[2, 3]))]),
        (&[1, 2, 12, 12], &[3, 2, 3, 3], vec![("dilations", ints(&[2, 3])), ("pads", ints(&[0, 2, 1, 3]))]),
        (&[2, 6, 8, 5], &[6, 1, 3, 3], vec![("group", Attr::Int(6)), ("pads", ints(&[1, 1, 1, 1]))]),
        (&[1, 6, 8, 5], &[12, 1, 2, 2], vec![("group", Attr::Int(6))]),
        (
            &[1, 3, 20],
            &[4, 3, 5],
            vec![("strides", ints(&[2])), ("auto_pad", Attr::Str(b"SAME_UPPER".to_vec()))],
        ),
        (&[1, 2, 4, 4, 4], &[3, 2, 2, 2, 2], vec![]),
        // More filters than are made at a time; channels that fill no word.
        (&[1, 5, 9, 9], &[50, 5, 1, 1], vec![]),
        (&[1, 6, 5, 20], &[10, 3, 3, 3], vec![("group", Attr::Int(2)), ("pads", ints(&[1, 1, 1, 1]))]),
        (&[1, 16, 30, 30], &[24, 16, 3, 3], vec![("pads", ints(&[1, 1, 1, 1]))]),
    ];
    for (x, w, attrs) in cases {
        for signed in [true, false] {
            let (x, w) = (bytes(&mut seed, x, signed), bytes(&mut seed, w, true));
            let (rank, n) = (x.shape().len(), w.shape()[0]);
            chains(&mut seed, "ConvInteger", &attrs, &x, &w, (1, rank, n));
        }
    }
}

fn one(op: &str, opset: u32, attrs: &[(&str, Attr)], x: Tensor, constants: &[Tensor]) {
    let mut b = Build::default();
    let mut ids: Vec<ValueId> = vec![b.input(x)];
    ids.extend(constants.iter().map(|tensor| b.constant(tensor.clone())));
    let out = b.node(op, opset, attrs, &ids);
    check(b.output(out), &format!("{op} {attrs:?}"));
}

#[test]
fn what_is_around_them() {
    let mut seed = Seed(3);
    for (axis, n) in [(1, 1), (1, 3), (2, 5), (-1, 5)] {
        for to in [2, 3, 5] {
            let (x, m) = (numbers(&mut seed, &[2, 3, 5], 1 << 30), multipliers(&mut seed, n, 32_768));
            one("Requantize", 1, &requantise(axis, 27, to), x, &[m]);
        }
    }
    one("Requantize", 1, &requantise(1, 3, 3), numbers(&mut seed, &[0, 3], 9), &[Tensor::scalar(1_i32)]);
    for signed in [true, false] {
        let x = bytes(&mut seed, &[300], signed);
        for (to, least, many) in [(3, -128, 256), (2, 0, 256), (5, -9000, 18_000), (6, -(1 << 20), 1 << 21)] {
            let entries = (0..256).map(|_| least + seed.below(many) as i64).collect();
            let attrs = [("table", Attr::Ints(entries)), ("to", Attr::Int(to))];
            one("Table", 1, &attrs, x.clone(), &[]);
        }
        for (kernel, strides, pads) in
            [([2, 2], [2, 2], [0; 4]), ([3, 2], [1, 2], [1, 0, 1, 1]), ([3, 3], [2, 1], [2, 2, 0, 0])]
        {
            let attrs =
                [("kernel_shape", kernel.to_vec()), ("strides", strides.to_vec()), ("pads", pads.to_vec())];
            let attrs = attrs.map(|(name, list)| (name, Attr::Ints(list)));
            one("MaxPool", OPSET, &attrs, bytes(&mut seed, &[2, 3, 9, 8], signed), &[]);
        }
    }
    for x in [
        bytes(&mut seed, &[3, 5, 7], true),
        bytes(&mut seed, &[3, 5, 7], false),
        numbers(&mut seed, &[3, 5, 7], 1 << 30),
    ] {
        for (axis, n) in [(0, 3), (1, 5), (2, 7), (-1, 7), (1, 1), (1, 4)] {
            let scales = seed.plain(&[n], 1.0);
            one("DequantizeLinear", OPSET, &[("axis", Attr::Int(axis))], x.clone(), &[scales]);
        }
        one("DequantizeLinear", OPSET, &[], x, &[Tensor::scalar(f32::NAN)]);
    }
    let zero = Tensor::scalar(0_i8);
    one("QuantizeLinear", OPSET, &[], seed.special(&[40, 9]), &[Tensor::scalar(0.031_f32), zero.clone()]);
    let halves = (-600..600).map(|i| i as f32 * 0.25).collect();
    one("QuantizeLinear", OPSET, &[], Tensor::vector(halves), &[Tensor::scalar(0.5_f32), zero]);
}
