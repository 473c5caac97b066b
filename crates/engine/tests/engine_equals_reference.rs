//! Every operator with a fast kernel gives the reference's bits: all instruction sets, 1, 2 and 4 threads, special values.

mod common;

use common::{Build, Seed, check};
use hallmark_model::graph::Attr;

const OPSET: u32 = 17;

fn one(op: &str, opset: u32, attrs: &[(&str, Attr)], inputs: &[hallmark_receipt::Tensor]) {
    let mut b = Build::default();
    let ids: Vec<_> = inputs.iter().map(|t| b.input(t.clone())).collect();
    let out = b.node(op, opset, attrs, &ids);
    let shapes: Vec<_> = inputs.iter().map(|t| t.shape().to_vec()).collect();
    check(b.output(out), &format!("{op} {attrs:?} {shapes:?}"));
}

#[test]
fn unary() {
    let mut seed = Seed(1);
    let ops: &[(&str, &[(&str, Attr)])] = &[
        ("Relu", &[]),
        ("Neg", &[]),
        ("Abs", &[]),
        ("Sqrt", &[]),
        ("Reciprocal", &[]),
        ("Floor", &[]),
        ("Ceil", &[]),
        ("Round", &[]),
        ("Exp", &[]),
        ("Log", &[]),
        ("Tanh", &[]),
        ("Erf", &[]),
        ("Sigmoid", &[]),
        ("Softplus", &[]),
        ("Softsign", &[]),
        ("Mish", &[]),
        ("HardSwish", &[]),
        ("HardSigmoid", &[]),
        ("HardSigmoid", &[("alpha", Attr::Float(0.3)), ("beta", Attr::Float(0.1))]),
        ("LeakyRelu", &[]),
        ("LeakyRelu", &[("alpha", Attr::Float(-0.5))]),
        ("Elu", &[("alpha", Attr::Float(2.0))]),
        ("Gelu", &[]),
        ("Gelu", &[("approximate", Attr::Str(b"tanh".to_vec()))]),
        ("Identity", &[]),
    ];
    for (op, attrs) in ops {
        for shape in [&[][..], &[1], &[0, 3], &[33], &[3, 700]] {
            one(op, 20, attrs, &[seed.special(shape)]);
        }
    }
    one("Tanh", OPSET, &[], &[seed.special(&[30, 1025])]);
}

#[test]
fn binary() {
    let mut seed = Seed(2);
    let shapes: &[(&[usize], &[usize])] = &[
        (&[3, 5], &[3, 5]),
        (&[3, 5], &[5]),
        (&[3, 5], &[3, 1]),
        (&[2, 3, 4, 5], &[3, 1, 1]),
        (&[2, 1, 4, 1], &[3, 1, 5]),
        (&[7], &[]),
        (&[], &[2, 2]),
        (&[2, 1500], &[1500]),
        (&[1, 1], &[3]),
        (&[2, 3], &[4]),
        (&[0, 3], &[1, 3]),
        (&[200, 1030], &[200, 1030]),
    ];
    for op in ["Add", "Sub", "Mul", "Div", "Max", "Min", "PRelu", "Pow"] {
        for (a, b) in shapes {
            if op == "Pow" && a.len() == 2 && a[0] == 200 {
                continue;
            }
            one(op, OPSET, &[], &[seed.special(a), seed.special(b)]);
        }
    }
}

#[test]
fn rows() {
    let mut seed = Seed(3);
    for shape in [&[5][..], &[2, 1], &[4, 10], &[3, 2, 64], &[2, 0], &[0, 4], &[300, 257]] {
        for op in ["Softmax", "LogSoftmax"] {
            one(op, 13, &[], &[seed.special(shape)]);
            one(op, 13, &[("axis", Attr::Int(0))], &[seed.special(shape)]);
            one(op, 11, &[], &[seed.plain(shape, 50.0)]);
        }
        let row = &shape[shape.len() - 1..];
        let layer = [("axis", Attr::Int(-1)), ("epsilon", Attr::Float(1e-3))];
        one("LayerNormalization", 17, &layer, &[seed.special(shape), seed.special(row), seed.special(row)]);
        one("LayerNormalization", 17, &layer, &[seed.plain(shape, 3.0), seed.plain(row, 1.0)]);
        one("RMSNormalization", 23, &layer, &[seed.plain(shape, 3.0), seed.special(row)]);
    }
    let two = [("axis", Attr::Int(1))];
    one("LayerNormalization", 17, &two, &[seed.plain(&[2, 3, 5], 3.0), seed.plain(&[3, 5], 1.0)]);
    one("LayerNormalization", 17, &two, &[seed.plain(&[2, 3, 5], 3.0), seed.plain(&[5], 1.0)]);
}

#[test]
fn reductions() {
    let mut seed = Seed(4);
    for op in ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceSumSquare", "ReduceL2"] {
        for (shape, axes) in [
            (&[40][..], &[0][..]),
            (&[3, 70], &[-1]),
            (&[33, 70], &[0]),
            (&[2, 35, 3, 5], &[1, 2]),
            (&[2, 5, 3, 70], &[-1, -2]),
            (&[2, 5, 3, 7], &[0, 2]),
            (&[4, 0], &[1]),
            (&[300, 401], &[1]),
        ] {
            for keep in [0, 1] {
                let attrs = [("axes", Attr::Ints(axes.to_vec())), ("keepdims", Attr::Int(keep))];
                if op == "ReduceSum" {
                    let mut b = Build::default();
                    let x = b.input(seed.special(shape));
                    let axes = b.ints(axes);
                    let out = b.node(op, 13, &attrs[1..], &[x, axes]);
                    check(b.output(out), &format!("{op} {shape:?}"));
                } else {
                    one(op, OPSET, &attrs, &[seed.special(shape)]);
                }
            }
        }
    }
    for shape in [&[2, 3, 4, 5][..], &[1, 2, 300], &[1, 1, 2, 2, 2]] {
        one("GlobalAveragePool", OPSET, &[], &[seed.special(shape)]);
    }
}

#[test]
fn layout() {
    let mut seed = Seed(5);
    for (shape, perm) in [
        (&[3, 5][..], &[1, 0][..]),
        (&[2, 3, 4, 5], &[0, 2, 1, 3]),
        (&[2, 3, 4, 5], &[3, 2, 1, 0]),
        (&[2, 33, 17], &[0, 2, 1]),
        (&[17, 2, 33], &[2, 0, 1]),
        (&[1, 3, 1, 4], &[2, 1, 0, 3]),
        (&[2, 0, 3], &[2, 1, 0]),
        (&[2, 3], &[0, 0]),
        (&[40, 64, 64], &[2, 1, 0]),
    ] {
        one("Transpose", OPSET, &[("perm", Attr::Ints(perm.to_vec()))], &[seed.special(shape)]);
        one("Transpose", OPSET, &[], &[seed.special(shape)]);
    }
    for (axis, b) in [(0, [4, 3]), (1, [2, 5]), (-1, [2, 0]), (1, [3, 3]), (2, [2, 3])] {
        one("Concat", OPSET, &[("axis", Attr::Int(axis))], &[seed.special(&[2, 3]), seed.special(&b)]);
    }
    for axis in [0, 1, 2, -1, 3, 4] {
        one("Flatten", OPSET, &[("axis", Attr::Int(axis))], &[seed.special(&[2, 3, 4])]);
    }
    for shape in [&[6, 4][..], &[-1], &[0, -1], &[2, 0, 2, -1], &[5, -1], &[0, 0, 0, 1], &[-1, -1], &[-2, 3]]
    {
        let mut b = Build::default();
        let x = b.input(seed.special(&[2, 3, 4]));
        let shape_id = b.ints(shape);
        let out = b.node("Reshape", OPSET, &[], &[x, shape_id]);
        check(b.output(out), &format!("Reshape {shape:?}"));
    }
    for (op, axes) in [("Squeeze", &[1][..]), ("Squeeze", &[0]), ("Unsqueeze", &[0, -1]), ("Unsqueeze", &[9])]
    {
        let mut b = Build::default();
        let x = b.input(seed.special(&[2, 1, 4]));
        let axes_id = b.ints(axes);
        let out = b.node(op, OPSET, &[], &[x, axes_id]);
        check(b.output(out), &format!("{op} {axes:?}"));
    }
    one("Squeeze", OPSET, &[], &[seed.special(&[2, 1, 4, 1])]);
}

/// GELU and LayerNormalization as PyTorch writes them out, residuals around them, values that live on.
#[test]
fn fused() {
    let mut seed = Seed(6);
    for (rows, width) in [(3, 40), (2, 1030), (220, 512)] {
        for special in [false, true] {
            let mut b = Build::default();
            let shape = [rows, width];
            let x = b.input(if special { seed.special(&shape) } else { seed.plain(&shape, 3.0) });
            let (root2, one, half) = (b.scalar(std::f32::consts::SQRT_2), b.scalar(1.0), b.scalar(0.5));
            let d = b.node("Div", OPSET, &[], &[x, root2]);
            let e = b.node("Erf", OPSET, &[], &[d]);
            let a = b.node("Add", OPSET, &[], &[e, one]);
            let m = b.node("Mul", OPSET, &[], &[x, a]);
            let gelu = b.node("Mul", OPSET, &[], &[m, half]);
            let r = b.node("Add", OPSET, &[], &[gelu, x]);
            let axes = [("axes", Attr::Ints(vec![-1]))];
            let mean = b.node("ReduceMean", OPSET, &axes, &[r]);
            let sub = b.node("Sub", OPSET, &[], &[r, mean]);
            let two = b.scalar(2.0);
            let pow = b.node("Pow", OPSET, &[], &[sub, two]);
            let var = b.node("ReduceMean", OPSET, &axes, &[pow]);
            let eps = b.scalar(1e-5);
            let add = b.node("Add", OPSET, &[], &[var, eps]);
            let sqrt = b.node("Sqrt", OPSET, &[], &[add]);
            let div = b.node("Div", OPSET, &[], &[sub, sqrt]);
            let (scale, bias) =
                (b.constant(seed.plain(&[width], 1.0)), b.constant(seed.plain(&[width], 1.0)));
            let mul = b.node("Mul", OPSET, &[], &[div, scale]);
            let norm = b.node("Add", OPSET, &[], &[mul, bias]);
            b.graph.outputs.push(gelu);
            b.graph.outputs.push(norm);
            check(b.output(x), &format!("gelu and norm {shape:?}"));
        }
    }
}

#[test]
fn products() {
    let mut seed = Seed(7);
    for (a, b) in [
        (&[1, 784][..], &[784, 70][..]),
        (&[5, 512], &[512, 16]),
        (&[33, 1100], &[1100, 31]),
        (&[2, 3, 5, 40], &[40, 24]),
        (&[2, 3, 5, 40], &[2, 3, 40, 7]),
        (&[2, 1, 5, 40], &[3, 40, 7]),
        (&[5, 40], &[3, 40, 1]),
        (&[7], &[7, 3]),
        (&[4, 7], &[7]),
        (&[4, 0], &[0, 3]),
        (&[4, 3], &[2, 3]),
        (&[130, 300], &[300, 130]),
    ] {
        let inputs = [seed.special(a), seed.plain(b, 1.0)];
        one("MatMul", OPSET, &[], &inputs);
        let mut g = Build::default();
        let (x, w) = (g.input(inputs[0].clone()), g.constant(inputs[1].clone()));
        let out = g.node("MatMul", OPSET, &[], &[x, w]);
        check(g.output(out), &format!("MatMul of weights {a:?} {b:?}"));
    }
    for (ta, tb) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        for (m, k, n) in [(1, 30, 50), (6, 513, 33), (64, 70, 40)] {
            let a = if ta == 1 { [k, m] } else { [m, k] };
            let b = if tb == 1 { [n, k] } else { [k, n] };
            for c in [vec![n], vec![1, n], vec![m, n], vec![m, 1], vec![1], vec![]] {
                for (alpha, beta) in [(1.0, 1.0), (0.5, -1.5)] {
                    let attrs = [
                        ("transA", Attr::Int(ta)),
                        ("transB", Attr::Int(tb)),
                        ("alpha", Attr::Float(alpha)),
                        ("beta", Attr::Float(beta)),
                    ];
                    let mut g = Build::default();
                    let x = g.input(seed.plain(&a, 1.0));
                    let w = g.constant(seed.plain(&b, 1.0));
                    let c = g.input(seed.special(&c));
                    let y = g.node("Gemm", OPSET, &attrs, &[x, w, c]);
                    let out = g.node("Relu", OPSET, &[], &[y]);
                    check(g.output(out), &format!("Gemm {ta} {tb} {m} {k} {n}"));
                }
            }
        }
    }
}

/// A linear layer as PyTorch exports it for three axes, with its residual and activation.
#[test]
fn linear_layers() {
    let mut seed = Seed(8);
    for (last, residual) in [("Relu", true), ("Clip", true), ("Gelu", false), ("Relu", false), ("Add", true)]
    {
        let mut b = Build::default();
        let x = b.input(seed.special(&[2, 9, 40]));
        let r = b.input(seed.special(&[2, 9, 24]));
        let (w, bias) = (b.constant(seed.plain(&[40, 24], 1.0)), b.constant(seed.plain(&[24], 1.0)));
        let mut y = b.node("MatMul", OPSET, &[], &[x, w]);
        y = b.node("Add", OPSET, &[], &[bias, y]);
        if residual {
            y = b.node("Add", OPSET, &[], &[r, y]);
        }
        let y = match last {
            "Clip" => {
                let (lo, hi) = (b.scalar(-0.5), b.scalar(6.0));
                b.node("Clip", OPSET, &[], &[y, lo, hi])
            }
            "Add" => b.node("Add", OPSET, &[], &[y, y]),
            op => b.node(op, 20, &[], &[y]),
        };
        check(b.output(y), &format!("linear {last} {residual}"));
    }
}

#[test]
fn images() {
    let mut seed = Seed(9);
    let ints = |v: &[i64]| Attr::Ints(v.to_vec());
    let pads = ("pads", ints(&[1, 1, 1, 1]));
    let strides = ("strides", ints(&[2, 2]));
    #[allow(clippy::type_complexity)]
    let cases: &[(&[usize], &[usize], &[(&str, Attr)])] = &[
        (&[2, 3, 15, 14], &[8, 3, 3, 3], &[pads.clone(), strides.clone()]),
        (&[1, 70, 6, 7], &[20, 70, 3, 3], std::slice::from_ref(&pads)),
        (&[1, 520, 5, 5], &[33, 520, 1, 1], &[]),
        (&[1, 6, 9, 9], &[6, 1, 3, 3], &[pads.clone(), ("group", Attr::Int(6))]),
        (&[1, 4, 9, 9], &[6, 2, 3, 3], &[("group", Attr::Int(2)), ("dilations", ints(&[2, 1]))]),
        (&[1, 3, 20], &[5, 3, 4], &[]),
        (&[1, 3, 9, 9], &[4, 3, 2, 2], &[("auto_pad", Attr::Str(b"SAME_UPPER".to_vec()))]),
        (&[1, 3, 4, 4], &[4, 2, 2, 2], &[]),
    ];
    for (x, w, attrs) in cases {
        for special in [false, true] {
            let mut b = Build::default();
            let x_id = b.input(if special { seed.special(x) } else { seed.plain(x, 1.0) });
            let (w_id, bias) = (b.constant(seed.plain(w, 1.0)), b.constant(seed.plain(&w[..1], 1.0)));
            let y = b.node("Conv", OPSET, attrs, &[x_id, w_id, bias]);
            let again = b.node("Conv", OPSET, attrs, &[x_id, w_id]);
            let sum = b.node("Add", OPSET, &[], &[y, again]);
            let out = b.node("Relu", OPSET, &[], &[sum]);
            check(b.output(out), &format!("Conv {x:?} {w:?} {attrs:?}"));
        }
    }
    let kernel = ("kernel_shape", ints(&[3, 2]));
    for op in ["MaxPool", "AveragePool"] {
        for attrs in [
            vec![kernel.clone()],
            vec![kernel.clone(), pads.clone(), strides.clone()],
            vec![kernel.clone(), strides.clone(), ("ceil_mode", Attr::Int(1))],
        ] {
            one(op, OPSET, &attrs, &[seed.special(&[2, 3, 9, 8])]);
        }
    }
    one(
        "AveragePool",
        OPSET,
        &[kernel, pads, ("count_include_pad", Attr::Int(1))],
        &[seed.special(&[1, 2, 7, 7])],
    );
}
