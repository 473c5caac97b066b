//! Float models beside what the quantiser makes of them (`quantised.md` §3, §5).

#![allow(clippy::unwrap_used, clippy::panic)]

mod exports;
mod net;

use hallmark_model::graph::{Attr, Graph};
use hallmark_model::onnx::Writer;
use hallmark_model::ops::Domain;
use hallmark_model::quantise::{ByReference, Calibration, CalibrationError, QuantiseError, bounds, quantise};
use hallmark_receipt::{DType, Tensor};

use net::{Net, Noise, check, check_form, error, typed};

#[test]
fn dense_layers() {
    let mut net = Net::new(&[3, 20], 1);
    net.gemm(20, 32);
    net.then("Relu", &[], &[]);
    net.gemm(32, 16);
    net.then("Tanh", &[], &[]);
    net.gemm(16, 5);
    net.then("Softmax", &[], &[]);
    let quantised =
        check(net, 0.02, &["MatMulInteger", "Requantize", "Table", "DequantizeLinear", "Softmax"]);
    // Relu is part of a Requantize to uint8, and the last accumulators leave with one scale a channel.
    assert!(!quantised.graph.nodes.iter().any(|node| node.op.name == "Relu"));
    let last = quantised.graph.nodes.iter().find(|node| node.op.name == "DequantizeLinear").unwrap();
    let scales = last.inputs[1].unwrap();
    assert_eq!(quantised.graph.constants[&scales].shape(), [5]);
}

#[test]
fn columns_of_other_sizes_are_standardised_in_floats() {
    let mut net = Net::new(&[2, 6], 4);
    let sizes = [1.0_f32, 1000.0, 0.01, 5.0, 1.0, 30.0];
    let mean = net.given(&Tensor::vector(sizes.map(|x| x * 0.1).to_vec()));
    let deviation = net.given(&Tensor::vector(sizes.map(|x| x * 2.0).to_vec()));
    let size = net.given(&Tensor::vector(sizes.to_vec()));
    net.then("Mul", &[&size], &[]);
    net.then("Sub", &[&mean], &[]);
    net.then("Div", &[&deviation], &[]);
    net.gemm(6, 8);
    net.then("Relu", &[], &[]);
    net.gemm(8, 2);
    let quantised = net.quantised();
    assert!(error(&quantised) < 0.02, "{}", error(&quantised));
    let names: Vec<&str> = quantised.graph.nodes.iter().map(|node| node.op.name).collect();
    assert_eq!(names[..4], ["Mul", "Sub", "Div", "QuantizeLinear"]);
    assert!(!names[4..].contains(&"Table"));
}

#[test]
fn convolutions_pooling_and_residuals() {
    let mut net = Net::new(&[1, 3, 8, 8], 2);
    net.conv(3, 8, 3, 1);
    let (s, b) = (net.constant(&[8], 1.0), net.constant(&[8], 0.3));
    let (m, v) = (net.constant(&[8], 0.3), net.given(&Tensor::vector(vec![0.7_f32; 8])));
    net.then("BatchNormalization", &[&s, &b, &m, &v], &[]);
    let skip = net.then("Relu", &[], &[]);
    net.conv(8, 8, 3, 8);
    net.then("Clip", &[], &[]);
    net.conv(8, 8, 1, 1);
    net.then("Add", &[&skip], &[]);
    net.then("Relu", &[], &[]);
    let pool = [("kernel_shape", Attr::Ints(vec![2, 2])), ("strides", Attr::Ints(vec![2, 2]))];
    net.then("MaxPool", &[], &pool);
    net.then("AveragePool", &[], &pool);
    net.then("GlobalAveragePool", &[], &[]);
    net.then("Flatten", &[], &[]);
    net.gemm(8, 4);
    let quantised = check(net, 0.04, &["ConvInteger", "MaxPool", "ReduceSum"]);
    assert!(!quantised.graph.nodes.iter().any(|node| node.op.name == "BatchNormalization"));
}

#[test]
fn what_has_no_integer_form_is_named_before_anything_runs() {
    struct Never;
    impl Calibration for Never {
        fn each(
            &mut self,
            _: &Graph,
            _: &mut dyn FnMut(&[Tensor]) -> Result<(), QuantiseError>,
        ) -> Result<(), CalibrationError> {
            panic!("nothing may run")
        }
    }
    let mut net = Net::new(&[1, 4], 3);
    net.gemm(4, 4);
    let axis = net.given(&Tensor::scalar(1_i64));
    net.then("CumSum", &[&axis], &[]);
    net.gemm(4, 4);
    let error = quantise(&net.graph(), &mut Never).unwrap_err();
    assert!(error.to_string().contains("(CumSum, version 14) cannot be quantised"), "{error}");
}

#[test]
fn a_transformer_block() {
    let (tokens, width, heads) = (6, 16, 2);
    let mut net = Net::new(&[2, tokens, width], 5);
    let ints = |list: &[i64]| Tensor::vector(list.to_vec());
    let each = (width / heads) as i64;
    let (split, joined) = (net.given(&ints(&[0, 0, heads as i64, each])), net.given(&ints(&[0, 0, -1])));
    let perm = |list: &[i64]| [("perm", Attr::Ints(list.to_vec()))];
    let (scale, bias) = (net.constant(&[width], 1.0), net.constant(&[width], 0.2));
    let normal = net.op("LayerNormalization", &["x", &scale, &bias], &[("axis", Attr::Int(-1))]);
    let mut parts = Vec::new();
    for order in [[0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]] {
        let (w, b) = (net.constant(&[width, width], 0.4), net.constant(&[width], 0.1));
        let product = net.op("MatMul", &[&normal, &w], &[]);
        let sum = net.op("Add", &[&product, &b], &[]);
        let shaped = net.op("Reshape", &[&sum, &split], &[]);
        parts.push(net.op("Transpose", &[&shaped], &perm(&order)));
    }
    let root = net.given(&Tensor::scalar((each as f32).sqrt()));
    net.op("MatMul", &[&parts[0], &parts[1]], &[]);
    net.then("Div", &[&root], &[]);
    let mask: Vec<f32> =
        (0..tokens * tokens).map(|i| if i % tokens > i / tokens { -1e9 } else { 0.0 }).collect();
    let mask = net.given(&Tensor::from_vec(vec![1, 1, tokens, tokens], mask).unwrap());
    net.then("Add", &[&mask], &[]);
    net.then("Softmax", &[], &[("axis", Attr::Int(-1))]);
    net.then("MatMul", &[&parts[2]], &[]);
    net.then("Transpose", &[], &perm(&[0, 2, 1, 3]));
    net.then("Reshape", &[&joined], &[]);
    let (w, b) = (net.constant(&[width, width], 0.3), net.constant(&[width], 0.1));
    net.then("MatMul", &[&w], &[]);
    net.then("Add", &[&b], &[]);
    let residual = net.then("Add", &["x"], &[]);
    let w = net.constant(&[width, 24], 0.3);
    let up = net.op("MatMul", &[&residual, &w], &[]);
    // GELU as exporters write it.
    let [two, one, half] = [2.0_f32.sqrt(), 1.0, 0.5].map(|x| net.given(&Tensor::scalar(x)));
    net.op("Div", &[&up, &two], &[]);
    net.then("Erf", &[], &[]);
    net.then("Add", &[&one], &[]);
    net.then("Mul", &[&up], &[]);
    net.then("Mul", &[&half], &[]);
    let w = net.constant(&[24, width], 0.3);
    net.then("MatMul", &[&w], &[]);
    net.then("Add", &[&residual], &[]);
    let axes = net.given(&ints(&[1]));
    net.then("ReduceMean", &[&axes], &[("keepdims", Attr::Int(0))]);
    net.gemm(width, 3);
    let operators = ["IntegerNormalize", "IntegerSoftmax", "Table", "MatMulInteger", "ReduceSum"];
    let quantised = check(net, 0.08, &operators);
    let count = |name: &str| quantised.graph.nodes.iter().filter(|node| node.op.name == name).count();
    assert_eq!((count("Table"), count("Erf"), count("Div")), (1, 0, 0));
}

#[test]
fn embeddings_gates_and_joins() {
    let mut writer = Writer::default();
    let mut noise = Noise(7);
    writer.input("ids", &typed(DType::I64, &[1, 5]));
    let mut net = Net { writer, noise: Noise(8), shape: vec![], last: "ids".into(), made: 0 };
    let table = net.constant(&[10, 12], 1.0);
    let x = net.op("Gather", &[&table, "ids"], &[]);
    let (a, b) = (net.constant(&[12, 12], 0.4), net.constant(&[12, 12], 0.4));
    let gate = net.op("MatMul", &[&x, &a], &[]);
    let sigmoid = net.op("Sigmoid", &[&gate], &[]);
    let silu = net.op("Mul", &[&gate, &sigmoid], &[]);
    let up = net.op("MatMul", &[&x, &b], &[]);
    let product = net.op("Mul", &[&silu, &up], &[]);
    net.op("Concat", &[&product, &x], &[("axis", Attr::Int(-1))]);
    let w = net.constant(&[24, 4], 0.3);
    net.then("MatMul", &[&w], &[]);
    net.then("ArgMax", &[], &[("axis", Attr::Int(-1)), ("keepdims", Attr::Int(0))]);
    let ids = |noise: &mut Noise| {
        let row = (0..5).map(|_| ((noise.next() + 1.0) * 4.99) as i64).collect();
        vec![Tensor::from_vec(vec![1, 5], row).unwrap()]
    };
    let samples = (0..12).map(|_| ids(&mut noise)).collect();
    let quantised = quantise(&net.graph(), &mut ByReference { samples }).unwrap();
    check_form(&quantised);
    let ops: Vec<&str> = quantised.graph.nodes.iter().map(|node| node.op.name).collect();
    assert!(!ops.contains(&"QuantizeLinear") && ops.contains(&"Table") && ops.contains(&"Mul"), "{ops:?}");
    // The same answers but for at most a few near ties.
    assert!(error(&quantised) < 0.3, "{}", error(&quantised));
}

#[test]
fn quantised_files_are_read_as_the_floats_that_they_mean() {
    let mut net = Net::new(&[1, 2, 6, 6], 11);
    let scale = |net: &mut Net, x: f32| net.given(&Tensor::scalar(x));
    let (s, z) = (scale(&mut net, 2.0 / 127.0), net.given(&Tensor::scalar(0_i8)));
    // A convolution by QLinearConv, its Relu in the zero point; then MaxPool on the integers, then a dense layer between Q and DQ.
    let q = net.op("QuantizeLinear", &["x", &s, &z], &[]);
    let ints: Vec<i8> = (0..4 * 2 * 9).map(|i| ((i * 37) % 255 - 127) as i8).collect();
    let w = net.given(&Tensor::from_vec(vec![4, 2, 3, 3], ints).unwrap());
    let ws = net.given(&Tensor::vector(vec![0.002_f32, 0.003, 0.001, 0.002]));
    let wz = net.given(&Tensor::vector(vec![0_i8; 4]));
    let (ys, yz) = (scale(&mut net, 0.01), net.given(&Tensor::scalar(-128_i8)));
    let bias = net.given(&Tensor::vector(vec![100_i32, -2000, 300, 0]));
    net.op("QLinearConv", &[&q, &s, &z, &w, &ws, &wz, &ys, &yz, &bias], &[]);
    let pool = [("kernel_shape", Attr::Ints(vec![2, 2])), ("strides", Attr::Ints(vec![2, 2]))];
    net.then("MaxPool", &[], &pool);
    net.then("DequantizeLinear", &[&ys, &yz], &[]);
    let flat = net.then("Flatten", &[], &[]);
    let ints =
        net.given(&Tensor::from_vec(vec![16, 3], (0..48).map(|i| (i * 5 - 120) as i8).collect()).unwrap());
    let ds = scale(&mut net, 0.004);
    let w = net.op("DequantizeLinear", &[&ints, &ds], &[]);
    net.op("MatMul", &[&flat, &w], &[]);
    let quantised = check(net, 0.03, &["ConvInteger", "MatMulInteger", "MaxPool"]);
    assert!(!quantised.graph.nodes.iter().any(|node| node.op.name.starts_with("QLinear")));
}

/// QuantizeLinear, one product with `k` weights of 127, an addend, Requantize.
fn product(k: usize, addend: i32, multiplier: i32, shift: i64, bits: i64) -> Graph {
    let mut net = Net::new(&[1, k], 1);
    let (s, z) = (net.given(&Tensor::scalar(1.0_f32)), net.given(&Tensor::scalar(0_i8)));
    net.then("QuantizeLinear", &[&s, &z], &[]);
    let w = net.given(&Tensor::from_vec(vec![k, 1], vec![127_i8; k]).unwrap());
    net.then("MatMulInteger", &[&w], &[]);
    let b = net.given(&Tensor::vector(vec![addend]));
    net.then("Add", &[&b], &[]);
    let m = net.given(&Tensor::scalar(multiplier));
    let attrs = [("bits", bits), ("low", -127), ("high", 127), ("shift", shift), ("to", 3)];
    let attrs = attrs.map(|(name, value)| (name.to_owned(), Attr::Int(value)));
    net.writer.node(Domain::Hallmark, "Requantize", vec![net.last.clone(), m], vec!["y".to_owned()], attrs);
    net.last = "y".into();
    net.graph()
}

#[test]
fn bounds_hold_to_the_last_integer() {
    const LIMIT: i64 = (1 << 30) - (1 << 24);
    // 65,019 products of 127 and -128 stay below the limit, one more does not.
    assert_eq!(65_019 * 127 * 128, LIMIT - 15_744);
    let words = |graph: &Graph| bounds(graph).map_err(|error| error.to_string()).map(|_| ());
    assert!(words(&product(65_019, -15_000, 1, 8, 24)).is_ok());
    assert!(
        words(&product(65_020, 0, 1, 8, 24)).unwrap_err().contains("(MatMulInteger) could make 1056965120")
    );
    // With the addend, then with the multiplier and the half unit.
    assert!(words(&product(65_019, -15_744, 1, 8, 24)).unwrap_err().contains("(Add) could make 1056964608"));
    assert!(words(&product(100, 0, 650, 8, 24)).is_ok());
    assert!(
        words(&product(100, 0, 651, 8, 24)).unwrap_err().contains("could reach 1058265728 before it shifts")
    );
    // The promise: 2^12 * 127 * 128 / 2^8 needs 18 bits.
    let within = |bits| words(&product(4096, 0, 1, 8, bits));
    assert!(within(18).is_ok());
    assert!(within(17).unwrap_err().contains("promises 17 bits"));
    let graph = product(16, 3, 1, 4, 16);
    let known = bounds(&graph).unwrap();
    let of = |op: &str| {
        let node = graph.nodes.iter().find(|node| node.op.name == op).unwrap();
        known.interval(node.outputs[0].unwrap()).unwrap()
    };
    assert_eq!((of("MatMulInteger").low, of("MatMulInteger").high), (-16 * 127 * 128, 16 * 127 * 127));
    assert_eq!((of("Add").low, of("Requantize").high), (-16 * 127 * 128 + 3, 127));
}
