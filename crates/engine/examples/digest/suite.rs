//! The fixed suite whose digest must be the same everywhere: elementary functions on a dense sample, kernels of every shape class,
//! a batch beside its rows, the shipped models on their samples, answers of decoders.

use std::sync::Arc;

use hallmark_engine::{Isa, Options, Program};
use hallmark_model::graph::{Attr, Graph, ValueId};
use hallmark_model::numeric::elementary;
use hallmark_model::onnx::{self, Limits, NoExternalData};
use hallmark_receipt::{Data, Digest, Tensor};

use crate::common::{Build, Seed};
use crate::decoders;

macro_rules! model {
    ($name:literal) => {
        (
            $name,
            include_bytes!(concat!("../../../../models/", $name, "/model.onnx")),
            include_bytes!(concat!("../../../../models/", $name, "/samples.npz")),
        )
    };
}

/// The shipped models: name, file, samples (a stored, not compressed, `.npz` with one array an input). Add new ones here.
const MODELS: &[(&str, &[u8], &[u8])] =
    &[model!("digits-cnn"), model!("phrase-language"), model!("tumour-mlp"), model!("tumour-trees")];

/// Why the suite stopped.
pub type Failure = String;

/// The digest of the suite, computed with `isa` and `threads`.
pub fn digest(isa: Isa, threads: usize) -> Result<Digest, Failure> {
    let mut parts: Vec<Digest> = vec![elementary_functions()];
    let run = |graph: Graph, inputs: &[Tensor]| -> Result<Vec<Tensor>, Failure> {
        let options = Options { threads, isa, ..Options::default() };
        let program = Program::compile(Arc::new(graph), options).map_err(|e| e.to_string())?;
        program.run(inputs).map_err(|e| e.to_string())
    };
    for (graph, inputs) in kernels() {
        parts.push(of_tensors(&run(graph, &inputs)?));
    }
    for (name, build) in NETWORKS {
        let mut seed = Seed(7);
        let whole = network(*build, seed.plain(&[64, 3, 12, 12], 1.0))?;
        let expected = run(whole.0, &whole.1)?;
        parts.push(of_tensors(&expected));
        let rows = rows_of(&whole.1[0])?;
        for (index, row) in rows.into_iter().enumerate() {
            let (graph, inputs) = network(*build, row)?;
            let single = run(graph, &inputs)?;
            let same =
                single[0].as_slice::<f32>().zip(expected[0].as_slice::<f32>()).is_some_and(|(one, all)| {
                    let of_row = &all[index * one.len()..(index + 1) * one.len()];
                    one.iter().zip(of_row).all(|(a, b)| a.to_bits() == b.to_bits())
                });
            if !same {
                return Err(format!("{name}: row {index} alone differs from row {index} of a batch of 64"));
            }
        }
    }
    for (name, file, samples) in MODELS {
        let graph =
            onnx::import(file, &NoExternalData, &Limits::default()).map_err(|e| format!("{name}: {e}"))?;
        let inputs = arrays(samples).ok_or_else(|| format!("{name}: samples"))?;
        parts.push(of_tensors(&run(graph, &inputs).map_err(|e| format!("{name}: {e}"))?));
    }
    parts.push(decoders::digest(isa, threads, decoders::SHORT)?);
    let bytes: Vec<&[u8]> = parts.iter().map(|part| &part.as_bytes()[..]).collect();
    Ok(Digest::of(&bytes))
}

/// Every function on every 65,521st float32.
fn elementary_functions() -> Digest {
    let sample: Vec<f32> = (0..=u32::MAX / 65_521).map(|i| f32::from_bits(i * 65_521)).collect();
    let mut bytes = Vec::new();
    for (name, function, slice) in elementary::FUNCTIONS {
        bytes.extend(name.as_bytes());
        let mut y = vec![0.0; sample.len()];
        slice(&sample, &mut y);
        for (x, y) in sample.iter().zip(y) {
            bytes.extend(y.to_le_bytes());
            if x.to_bits() % 16 == 0 {
                bytes.extend(function(*x).to_le_bytes());
            }
        }
    }
    for x in sample.iter().step_by(7) {
        for y in [2.5, -1.5, 0.333, 7.0] {
            bytes.extend(elementary::pow(x.abs(), y).to_le_bytes());
        }
    }
    Digest::of(&[&bytes])
}

fn of_tensors(tensors: &[Tensor]) -> Digest {
    let mut bytes = Vec::new();
    for tensor in tensors {
        bytes.extend(tensor.dtype().name().as_bytes());
        tensor.shape().iter().for_each(|&d| bytes.extend((d as u64).to_le_bytes()));
        match tensor.data() {
            Data::F32(v) => v.iter().for_each(|x| bytes.extend(x.to_bits().to_le_bytes())),
            Data::I64(v) => v.iter().for_each(|x| bytes.extend(x.to_le_bytes())),
            other => bytes.extend(format!("{other:?}").into_bytes()),
        }
    }
    Digest::of(&[&bytes])
}

/// One graph for each kernel and shape class.
fn kernels() -> Vec<(Graph, Vec<Tensor>)> {
    let mut seed = Seed(1);
    let mut all = Vec::new();
    let mut one = |op: &str, attrs: &[(&str, Attr)], inputs: &[Tensor], constant_from: usize| {
        let mut b = Build::default();
        let ids: Vec<ValueId> = inputs
            .iter()
            .enumerate()
            .map(|(i, t)| if i < constant_from { b.input(t.clone()) } else { b.constant(t.clone()) })
            .collect();
        let out = b.node(op, 20, attrs, &ids);
        all.push(b.output(out));
    };
    let dense = Tensor::vector((0..16_384_u32).map(|i| f32::from_bits(i * 262_147)).collect::<Vec<f32>>());
    for op in [
        "Relu",
        "Sqrt",
        "Reciprocal",
        "Exp",
        "Log",
        "Tanh",
        "Erf",
        "Sigmoid",
        "Softplus",
        "Softsign",
        "Mish",
        "HardSwish",
        "LeakyRelu",
        "Elu",
        "Gelu",
        "Sin",
        "Cos",
        "Round",
    ] {
        one(op, &[], std::slice::from_ref(&dense), 1);
    }
    for op in ["Add", "Sub", "Mul", "Div", "Max", "Min", "Pow"] {
        one(op, &[], &[seed.special(&[5, 67]), seed.special(&[67])], 2);
        one(op, &[], &[seed.special(&[2, 3, 9, 5]), seed.special(&[3, 1, 5])], 2);
    }
    for (m, k, n) in
        [(1, 1, 1), (1, 511, 33), (1, 1100, 130), (3, 512, 17), (7, 513, 16), (33, 1025, 65), (64, 96, 100)]
    {
        for constant_from in [1, 2] {
            one("MatMul", &[], &[seed.plain(&[m, k], 1.0), seed.plain(&[k, n], 1.0)], constant_from);
            let gemm = [("transB", Attr::Int(1)), ("alpha", Attr::Float(0.7)), ("beta", Attr::Float(1.3))];
            let inputs = [seed.plain(&[m, k], 1.0), seed.plain(&[n, k], 1.0), seed.plain(&[n], 1.0)];
            one("Gemm", &gemm, &inputs, constant_from);
        }
        one("Gemm", &[("transA", Attr::Int(1))], &[seed.special(&[k, m]), seed.plain(&[k, n], 1.0)], 2);
    }
    one("MatMul", &[], &[seed.plain(&[2, 3, 5, 70], 1.0), seed.plain(&[3, 70, 9], 1.0)], 2);
    for (x, w, attrs) in [
        (&[1, 3, 15, 15][..], &[8, 3, 3, 3][..], &[("pads", vec![1, 1, 1, 1]), ("strides", vec![2, 2])][..]),
        (&[2, 70, 6, 7], &[20, 70, 3, 3], &[("pads", vec![1, 1, 1, 1])]),
        (&[1, 600, 5, 5], &[33, 600, 1, 1], &[]),
        (&[1, 4, 9, 9], &[4, 1, 5, 5], &[("dilations", vec![2, 1])]),
        (&[1, 3, 20], &[5, 3, 4], &[]),
    ] {
        let mut attrs: Vec<(&str, Attr)> = attrs.iter().map(|(k, v)| (*k, Attr::Ints(v.clone()))).collect();
        attrs.push(("group", Attr::Int((x[1] / w[1]) as i64)));
        one("Conv", &attrs, &[seed.plain(x, 1.0), seed.plain(w, 1.0), seed.plain(&w[..1], 1.0)], 1);
    }
    let window = [("kernel_shape", Attr::Ints(vec![3, 3])), ("strides", Attr::Ints(vec![2, 2]))];
    for op in ["MaxPool", "AveragePool"] {
        one(op, &window, &[seed.special(&[1, 5, 11, 9])], 1);
    }
    for op in ["GlobalAveragePool", "Softmax", "LogSoftmax", "Transpose"] {
        one(op, &[], &[seed.special(&[2, 5, 7, 33])], 1);
    }
    for op in
        ["ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceProd", "ReduceLogSumExp"]
    {
        one(op, &[], &[seed.special(&[3, 77])], 1);
        let axes = Tensor::vector(vec![0_i64]);
        one(op, &[], &[seed.plain(&[40, 19], 2.0), axes], 1);
    }
    let row = [seed.plain(&[6, 100], 2.0), seed.plain(&[100], 1.0), seed.plain(&[100], 1.0)];
    one("LayerNormalization", &[], &row, 1);
    let channels: Vec<Tensor> = (0..4).map(|_| seed.plain(&[5], 1.0)).collect();
    let mut batch = vec![seed.plain(&[2, 5, 6, 6], 2.0)];
    batch.extend(channels);
    one("InstanceNormalization", &[], &batch[..3], 1);
    batch[4] = Tensor::vector(vec![0.5_f32, 1.0, 2.0, 1e-3, 7.0]);
    one("BatchNormalization", &[], &batch, 1);
    all
}

/// A small network over images of [n, 3, 12, 12].
type Network = fn(&mut Build, ValueId) -> ValueId;

/// Networks whose rows must not know each other.
const NETWORKS: &[(&str, Network)] = &[("mlp", mlp), ("cnn", cnn), ("attention", attention)];

fn network(build: Network, images: Tensor) -> Result<(Graph, Vec<Tensor>), Failure> {
    let mut b = Build::default();
    let x = b.input(images);
    let out = build(&mut b, x);
    Ok(b.output(out))
}

fn linear(b: &mut Build, seed: &mut Seed, x: ValueId, k: usize, n: usize) -> ValueId {
    let w = b.constant(seed.plain(&[k, n], 0.1));
    let bias = b.constant(seed.plain(&[n], 0.1));
    let product = b.node("MatMul", 20, &[], &[x, w]);
    b.node("Add", 20, &[], &[product, bias])
}

fn mlp(b: &mut Build, x: ValueId) -> ValueId {
    let mut seed = Seed(11);
    let flat = b.node("Flatten", 20, &[], &[x]);
    let h = linear(b, &mut seed, flat, 432, 70);
    let h = b.node("Relu", 20, &[], &[h]);
    let y = linear(b, &mut seed, h, 70, 10);
    b.node("Softmax", 20, &[], &[y])
}

fn cnn(b: &mut Build, x: ValueId) -> ValueId {
    let mut seed = Seed(12);
    let (w, bias) = (b.constant(seed.plain(&[20, 3, 3, 3], 0.3)), b.constant(seed.plain(&[20], 0.1)));
    let h = b.node("Conv", 20, &[("pads", Attr::Ints(vec![1; 4]))], &[x, w, bias]);
    let h = b.node("Relu", 20, &[], &[h]);
    let pool = [("kernel_shape", Attr::Ints(vec![2, 2])), ("strides", Attr::Ints(vec![2, 2]))];
    let h = b.node("MaxPool", 20, &pool, &[h]);
    let w = b.constant(seed.plain(&[33, 20, 3, 3], 0.2));
    let h = b.node("Conv", 20, &[], &[h, w]);
    let h = b.node("GlobalAveragePool", 20, &[], &[h]);
    b.node("Flatten", 20, &[], &[h])
}

fn attention(b: &mut Build, x: ValueId) -> ValueId {
    let mut seed = Seed(13);
    let shape = b.ints(&[0, 12, 36]);
    let x = b.node("Reshape", 20, &[], &[x, shape]);
    let [q, k, v] = [0; 3].map(|_| linear(b, &mut seed, x, 36, 24));
    let k = b.node("Transpose", 20, &[("perm", Attr::Ints(vec![0, 2, 1]))], &[k]);
    let scores = b.node("MatMul", 20, &[], &[q, k]);
    let scale = b.scalar(24_f32.sqrt());
    let scores = b.node("Div", 20, &[], &[scores, scale]);
    let weights = b.node("Softmax", 20, &[], &[scores]);
    let h = b.node("MatMul", 20, &[], &[weights, v]);
    let (scale, bias) = (b.constant(seed.plain(&[24], 1.0)), b.constant(seed.plain(&[24], 1.0)));
    let h = b.node("LayerNormalization", 20, &[], &[h, scale, bias]);
    b.node("Gelu", 20, &[], &[h])
}

/// Each row of `tensor` as a batch of one.
fn rows_of(tensor: &Tensor) -> Result<Vec<Tensor>, Failure> {
    let values = tensor.as_slice::<f32>().ok_or("images are float32")?;
    let mut shape = tensor.shape().to_vec();
    let n = std::mem::replace(&mut shape[0], 1);
    values
        .chunks_exact(values.len() / n)
        .map(|row| Tensor::from_vec(shape.clone(), row.to_vec()).map_err(|e| e.to_string()))
        .collect()
}

/// The arrays of a stored `.npz`, in the file's order.
fn arrays(file: &[u8]) -> Option<Vec<Tensor>> {
    let mut arrays = Vec::new();
    let mut rest = file;
    while rest.get(..4)? == b"PK\x03\x04" {
        let number = |at: usize, n: usize| -> Option<usize> {
            Some(rest.get(at..at + n)?.iter().rev().fold(0, |sum, &b| sum << 8 | usize::from(b)))
        };
        let (name, extra) = (number(26, 2)?, number(28, 2)?);
        let start = 30 + name + extra;
        // numpy writes sizes beyond 32 bits in the extra field always: uncompressed, then compressed.
        let size = match number(18, 4)? {
            0xffff_ffff => number(30 + name + 4 + 8, 8)?,
            size => size,
        };
        arrays.push(array(rest.get(start..start + size)?)?);
        rest = rest.get(start + size..)?;
    }
    Some(arrays)
}

/// One `.npy` of version 1 in C order.
fn array(npy: &[u8]) -> Option<Tensor> {
    let header = usize::from(u16::from_le_bytes([*npy.get(8)?, *npy.get(9)?]));
    let text = std::str::from_utf8(npy.get(10..10 + header)?).ok()?;
    let data = npy.get(10 + header..)?;
    let shape: Vec<usize> = text
        .split_once("'shape': (")?
        .1
        .split_once(')')?
        .0
        .split(',')
        .filter_map(|n| n.trim().parse().ok())
        .collect();
    let kind = text.split_once("'descr': '")?.1.split_once('\'')?.0;
    match kind {
        "<f4" => {
            let values: Vec<f32> = data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            Tensor::from_vec(shape, values).ok()
        }
        "<i8" => {
            let values: Vec<i64> = data.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect();
            Tensor::from_vec(shape, values).ok()
        }
        "<i4" => {
            let values: Vec<i32> = data.as_chunks::<4>().0.iter().map(|b| i32::from_le_bytes(*b)).collect();
            Tensor::from_vec(shape, values).ok()
        }
        _ => None,
    }
}
