//! Quantised graphs made by hand.

use std::collections::BTreeMap;
use std::sync::Arc;

use hallmark_model::graph::{Attr, Attrs, Dim, Graph, Node, TypeInfo, Value, ValueId};
use hallmark_model::ops::{Domain, find};
use hallmark_receipt::{DType, Tensor};

/// What a node reads.
pub enum In {
    /// A value made before.
    Of(ValueId),
    /// A constant.
    Is(Tensor),
}

/// A graph in the making: values are numbered as the importer numbers them.
#[derive(Default)]
pub struct Make {
    graph: Graph,
}

impl Make {
    pub fn input(dtype: DType, shape: &[usize]) -> (Self, ValueId) {
        let mut make = Self::default();
        let id = make.value("x", Some((dtype, shape)));
        make.graph.inputs.push(id);
        (make, id)
    }

    fn value(&mut self, name: &str, info: Option<(DType, &[usize])>) -> ValueId {
        let info = info.map_or_else(TypeInfo::default, |(dtype, shape)| TypeInfo {
            dtype: Some(dtype),
            shape: Some(shape.iter().copied().map(Dim::Known).collect()),
        });
        self.graph.values.push(Value { name: name.to_owned(), info });
        ValueId(self.graph.values.len() - 1)
    }

    pub fn node(&mut self, name: &str, attrs: &[(&str, Attr)], inputs: Vec<In>) -> ValueId {
        self.nodes(name, attrs, inputs, 1)[0]
    }

    /// A node with several outputs.
    pub fn nodes(
        &mut self,
        name: &str,
        attrs: &[(&str, Attr)],
        inputs: Vec<In>,
        count: usize,
    ) -> Vec<ValueId> {
        let op = find(Domain::Hallmark, name).or_else(|| find(Domain::Onnx, name)).expect("an operator");
        let inputs: Vec<Option<ValueId>> = inputs
            .into_iter()
            .map(|input| match input {
                In::Of(id) => Some(id),
                In::Is(tensor) => {
                    let id = self.value("", Some((tensor.dtype(), tensor.shape())));
                    self.graph.constants.insert(id, Arc::new(tensor));
                    Some(id)
                }
            })
            .collect();
        let outputs: Vec<ValueId> = (0..count).map(|_| self.value("", None)).collect();
        let attrs: BTreeMap<String, Attr> = attrs.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
        self.graph.nodes.push(Node {
            name: format!("{name} {}", self.graph.nodes.len()),
            op,
            version: *op.versions.last().expect("a version"),
            attrs: Attrs(attrs),
            declared_inputs: inputs.len(),
            inputs,
            outputs: outputs.iter().copied().map(Some).collect(),
        });
        outputs
    }

    pub fn done(mut self, outputs: &[ValueId]) -> Graph {
        for (index, id) in outputs.iter().enumerate() {
            self.graph.values[id.0].name = format!("y{index}");
        }
        self.graph.outputs = outputs.to_vec();
        self.graph
    }
}

/// A generator of test values: SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub fn int8(&mut self, shape: &[usize]) -> Tensor {
        let n = shape.iter().product();
        Tensor::from_vec(
            shape.to_vec(),
            (0..n).map(|_| (self.next() % 255) as i64 as i8).collect::<Vec<i8>>(),
        )
        .expect("a tensor")
    }

    pub fn int32(&mut self, shape: &[usize], below: i64) -> Tensor {
        let n = shape.iter().product();
        let one = |r: u64| (r % (2 * below as u64)) as i64 - below;
        Tensor::from_vec(shape.to_vec(), (0..n).map(|_| one(self.next()) as i32).collect::<Vec<i32>>())
            .expect("a tensor")
    }

    pub fn multipliers(&mut self, n: usize) -> Tensor {
        Tensor::from_vec(vec![n], (0..n).map(|_| (self.next() % 24 + 8) as i32).collect::<Vec<i32>>())
            .expect("a tensor")
    }

    pub fn float(&mut self, shape: &[usize]) -> Tensor {
        let n = shape.iter().product();
        let one = |r: u64| (r % 2001) as f32 / 1000.0 - 1.0;
        Tensor::from_vec(shape.to_vec(), (0..n).map(|_| one(self.next())).collect::<Vec<f32>>())
            .expect("a tensor")
    }
}

/// An attribute of several integers.
pub fn ints(v: &[i64]) -> Attr {
    Attr::Ints(v.to_vec())
}

pub fn quantise(make: &mut Make, x: ValueId) -> ValueId {
    let (scale, zero) = (Tensor::scalar(1.0_f32 / 127.0), Tensor::scalar(0_i8));
    make.node("QuantizeLinear", &[], vec![In::Of(x), In::Is(scale), In::Is(zero)])
}

pub fn requantise(make: &mut Make, x: ValueId, by: Tensor, shift: i64, relu: bool, axis: i64) -> ValueId {
    let (to, low, high) = if relu { (2, 0, 255) } else { (3, -128, 127) };
    let attrs = [
        ("shift", Attr::Int(shift)),
        ("bits", Attr::Int(15)),
        ("low", Attr::Int(low)),
        ("high", Attr::Int(high)),
        ("to", Attr::Int(to)),
        ("axis", Attr::Int(axis)),
    ];
    make.node("Requantize", &attrs, vec![In::Of(x), In::Is(by)])
}

/// A requantisation with a table of few rows.
pub fn small(make: &mut Make, x: ValueId, by: Tensor, shift: i64) -> ValueId {
    let attrs = [
        ("shift", Attr::Int(shift)),
        ("bits", Attr::Int(12)),
        ("low", Attr::Int(-128)),
        ("high", Attr::Int(127)),
        ("to", Attr::Int(3)),
        ("axis", Attr::Int(1)),
    ];
    make.node("Requantize", &attrs, vec![In::Of(x), In::Is(by)])
}

pub fn dense(make: &mut Make, random: &mut Random, x: ValueId, [k, n]: [usize; 2]) -> ValueId {
    let y = make.node("MatMulInteger", &[], vec![In::Of(x), In::Is(random.int8(&[k, n]))]);
    make.node("Add", &[], vec![In::Of(y), In::Is(random.int32(&[n], 1000))])
}

pub fn dequantise(make: &mut Make, x: ValueId) -> ValueId {
    make.node("DequantizeLinear", &[], vec![In::Of(x), In::Is(Tensor::scalar(0.01_f32))])
}

/// A perceptron: one number a layer's width.
pub fn mlp(seed: u64, widths: &[usize]) -> Graph {
    let mut random = Random(seed);
    let (mut make, x) = Make::input(DType::F32, &[1, widths[0]]);
    let mut at = quantise(&mut make, x);
    for (layer, pair) in widths.windows(2).enumerate() {
        at = dense(&mut make, &mut random, at, [pair[0], pair[1]]);
        if layer + 2 < widths.len() {
            at = requantise(&mut make, at, random.multipliers(pair[1]), 14, true, 1);
        }
    }
    let y = dequantise(&mut make, at);
    make.done(&[y])
}

/// A convolutional network in LeNet's shape.
pub fn lenet(seed: u64, side: usize) -> Graph {
    let mut random = Random(seed);
    let (mut make, x) = Make::input(DType::F32, &[1, 1, side, side]);
    let mut at = quantise(&mut make, x);
    let (mut channels, mut size) = (1, side);
    for (filters, pad) in [(6, 2), (16, 0)] {
        let weight = random.int8(&[filters, channels, 5, 5]);
        at = make.node(
            "ConvInteger",
            &[("pads", ints(&[pad, pad, pad, pad]))],
            vec![In::Of(at), In::Is(weight)],
        );
        at = make.node("Add", &[], vec![In::Of(at), In::Is(random.int32(&[1, filters, 1, 1], 1000))]);
        at = requantise(&mut make, at, random.multipliers(filters), 14, true, 1);
        let pool = [("kernel_shape", ints(&[2, 2])), ("strides", ints(&[2, 2]))];
        at = make.node("MaxPool", &pool, vec![In::Of(at)]);
        size = (size + 2 * pad as usize - 4) / 2;
        channels = filters;
    }
    let flat = channels * size * size;
    let shape = Tensor::vector(vec![1_i64, flat as i64]);
    at = make.node("Reshape", &[], vec![In::Of(at), In::Is(shape)]);
    for (layer, [k, n]) in [[flat, 120], [120, 84], [84, 10]].into_iter().enumerate() {
        at = dense(&mut make, &mut random, at, [k, n]);
        if layer < 2 {
            at = requantise(&mut make, at, random.multipliers(n), 15, true, 1);
        }
    }
    let y = dequantise(&mut make, at);
    make.done(&[y])
}

/// One block of a transformer's encoder: attention with `heads` heads, a feed-forward part, both with residuals and norms.
pub fn encoder(seed: u64, [tokens, width, heads]: [usize; 3], layers: usize) -> Graph {
    let mut random = Random(seed);
    let shape = |v: &[usize]| Tensor::vector(v.iter().map(|&n| n as i64).collect::<Vec<i64>>());
    let (mut make, x) = Make::input(DType::F32, &[1, tokens, width]);
    let mut at = quantise(&mut make, x);
    let head = width / heads;
    let exponentials: Vec<i64> = (0..256).map(|i| (4095.0 * (-f64::from(i) / 24.0).exp()) as i64).collect();
    for _ in 0..layers {
        let part = |make: &mut Make, random: &mut Random, order: &[i64]| {
            let y = dense(make, random, at, [width, width]);
            let y = requantise(make, y, random.multipliers(width), 14, false, 2);
            let y = make.node("Reshape", &[], vec![In::Of(y), In::Is(shape(&[1, tokens, heads, head]))]);
            make.node("Transpose", &[("perm", ints(order))], vec![In::Of(y)])
        };
        let q = part(&mut make, &mut random, &[0, 2, 1, 3]);
        let k = part(&mut make, &mut random, &[0, 2, 3, 1]);
        let v = part(&mut make, &mut random, &[0, 2, 1, 3]);
        let scores = make.node("MatMulInteger", &[], vec![In::Of(q), In::Of(k)]);
        let scores = requantise(&mut make, scores, Tensor::scalar(9_i32), 12, false, 1);
        let attrs = [("axis", Attr::Int(-1)), ("table", ints(&exponentials))];
        let weights = make.node("IntegerSoftmax", &attrs, vec![In::Of(scores)]);
        let mixed = make.node("MatMulInteger", &[], vec![In::Of(weights), In::Of(v)]);
        let mixed = requantise(&mut make, mixed, Tensor::scalar(16_i32), 12, false, 1);
        let mixed = make.node("Transpose", &[("perm", ints(&[0, 2, 1, 3]))], vec![In::Of(mixed)]);
        let mixed = make.node("Reshape", &[], vec![In::Of(mixed), In::Is(shape(&[1, tokens, width]))]);
        let mixed = dense(&mut make, &mut random, mixed, [width, width]);
        let mixed = requantise(&mut make, mixed, random.multipliers(width), 13, false, 2);
        at = normed(&mut make, &mut random, at, mixed, width);
        let wide = dense(&mut make, &mut random, at, [width, 2 * width]);
        let wide = requantise(&mut make, wide, random.multipliers(2 * width), 14, false, 2);
        let gelu: Vec<i64> = (-128..128).map(|v| if v < 0 { v / 16 } else { v }).collect();
        let wide = make.node("Table", &[("table", ints(&gelu)), ("to", Attr::Int(3))], vec![In::Of(wide)]);
        let back = dense(&mut make, &mut random, wide, [2 * width, width]);
        let back = requantise(&mut make, back, random.multipliers(width), 14, false, 2);
        at = normed(&mut make, &mut random, at, back, width);
    }
    let y = dequantise(&mut make, at);
    make.done(&[y])
}

/// The norm of a sum of two int8 values, with its gain and bias.
fn normed(make: &mut Make, random: &mut Random, a: ValueId, b: ValueId, width: usize) -> ValueId {
    let to = |n| [("to", Attr::Int(n))];
    let [a, b] = [a, b].map(|x| make.node("Cast", &to(6), vec![In::Of(x)]));
    let sum = make.node("Add", &[], vec![In::Of(a), In::Of(b)]);
    let sum = requantise(make, sum, Tensor::scalar(3_i32), 2, false, 1);
    let shift = (usize::BITS - (width * width * 16).leading_zeros()) as i64 / 2;
    let attrs = [
        ("axis", Attr::Int(-1)),
        ("center", Attr::Int(1)),
        ("shift", Attr::Int(shift)),
        ("epsilon", Attr::Int(3)),
        ("gain", Attr::Int(1448)),
    ];
    let u = make.node("IntegerNormalize", &attrs, vec![In::Of(sum)]);
    let u = make.node("Cast", &to(6), vec![In::Of(u)]);
    let u = make.node("Mul", &[], vec![In::Of(u), In::Is(random.int32(&[width], 300))]);
    let u = make.node("Add", &[], vec![In::Of(u), In::Is(random.int32(&[width], 3000))]);
    requantise(make, u, Tensor::scalar(24_i32), 15, false, 1)
}

/// A convolutional network of 264 thousand parameters for 32 x 32 colour images: three stages of two convolutions, the first of a stage
/// with stride 2 but for the first stage's, then global average and a dense layer.
pub fn cnn(seed: u64) -> Graph {
    let mut random = Random(seed);
    let ints = |v: &[i64]| Attr::Ints(v.to_vec());
    let (mut make, x) = Make::input(DType::F32, &[1, 3, 32, 32]);
    let mut at = quantise(&mut make, x);
    let mut channels = 3;
    for (filters, stride) in [(32, 1), (32, 1), (64, 2), (64, 1), (96, 2), (164, 1)] {
        let weight = random.int8(&[filters, channels, 3, 3]);
        let attrs = [("pads", ints(&[1, 1, 1, 1])), ("strides", ints(&[stride, stride]))];
        at = make.node("ConvInteger", &attrs, vec![In::Of(at), In::Is(weight)]);
        at = make.node("Add", &[], vec![In::Of(at), In::Is(random.int32(&[1, filters, 1, 1], 1000))]);
        at = requantise(&mut make, at, random.multipliers(filters), 16, true, 1);
        channels = filters;
    }
    at = make.node("Cast", &[("to", Attr::Int(6))], vec![In::Of(at)]);
    let axes = Tensor::vector(vec![2_i64, 3]);
    at = make.node("ReduceSum", &[("keepdims", Attr::Int(0))], vec![In::Of(at), In::Is(axes)]);
    at = requantise(&mut make, at, Tensor::scalar(16_i32), 10, true, 1);
    at = dense(&mut make, &mut random, at, [channels, 10]);
    let y = dequantise(&mut make, at);
    make.done(&[y])
}
