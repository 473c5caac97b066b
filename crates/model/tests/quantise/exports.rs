//! Models as exporters write them: patterns of many operators, files of other quantisers, inputs of any size.

use hallmark_model::graph::{Attr, Dim, Graph, TypeInfo};
use hallmark_model::onnx::{Limits, NoExternalData, Writer, import};
use hallmark_model::ops::Domain;
use hallmark_model::quantise::{ByReference, Quantised, quantise};
use hallmark_receipt::{DType, Tensor};

use super::net::{Net, Noise, check, check_form, error, typed};

/// The last axis, kept.
const ROW: [(&str, Attr); 1] = [("keepdims", Attr::Int(1))];

fn scalar(net: &mut Net, x: f32) -> String {
    net.given(&Tensor::scalar(x))
}

fn names(quantised: &Quantised) -> Vec<&'static str> {
    quantised.graph.nodes.iter().map(|node| node.op.name).collect()
}

/// `mean(x)` over the last axis, and `d = x - mean(x)`.
fn centred(net: &mut Net, x: &str, axes: &str) -> (String, String) {
    let mean = net.op("ReduceMean", &[x, axes], &ROW);
    let d = net.op("Sub", &[x, &mean], &[]);
    (mean, d)
}

#[test]
fn normalisations_are_known_however_they_are_written() {
    let forms: [fn(&mut Net, &str, &str) -> String; 6] = [
        // PyTorch before opset 17.
        |net, x, axes| {
            let (_, d) = centred(net, x, axes);
            let [two, epsilon] = [2.0, 1e-5].map(|x| scalar(net, x));
            let squares = net.op("Pow", &[&d, &two], &[]);
            let variance = net.op("ReduceMean", &[&squares, axes], &ROW);
            let sum = net.op("Add", &[&variance, &epsilon], &[]);
            let root = net.op("Sqrt", &[&sum], &[]);
            net.op("Div", &[&d, &root], &[])
        },
        // The same in a quantised file: what is added is bounded before and after.
        |net, x, axes| {
            let (_, d) = centred(net, x, axes);
            let squares = net.op("Mul", &[&d, &d], &[]);
            let variance = net.op("ReduceMean", &[&squares, axes], &ROW);
            let [zero, most, epsilon] = [0.0, 40.0, 1e-5].map(|x| scalar(net, x));
            let variance = net.op("Clip", &[&variance, &zero, &most], &[]);
            let sum = net.op("Add", &[&variance, &epsilon], &[]);
            let sum = net.op("Clip", &[&sum, &zero, &most], &[]);
            let root = net.op("Sqrt", &[&sum], &[]);
            net.op("Div", &[&d, &root], &[])
        },
        // The difference written twice, the factor before the quotient.
        |net, x, axes| {
            let (mean, d) = centred(net, x, axes);
            let again = net.op("Sub", &[x, &mean], &[]);
            let squares = net.op("Mul", &[&again, &again], &[]);
            let variance = net.op("ReduceMean", &[&squares, axes], &ROW);
            let (half, factor) = (scalar(net, 0.5), net.constant(&[16], 1.0));
            let root = net.op("Pow", &[&variance, &half], &[]);
            let scaled = net.op("Mul", &[&factor, &d], &[]);
            net.op("Div", &[&scaled, &root], &[])
        },
        // The root of the mean square.
        |net, x, axes| {
            let [two, epsilon] = [2.0, 1e-6].map(|x| scalar(net, x));
            let squares = net.op("Pow", &[x, &two], &[]);
            let mean = net.op("ReduceMean", &[&squares, axes], &ROW);
            let sum = net.op("Add", &[&mean, &epsilon], &[]);
            let root = net.op("Sqrt", &[&sum], &[]);
            let inverse = net.op("Reciprocal", &[&root], &[]);
            let normal = net.op("Mul", &[x, &inverse], &[]);
            let factor = net.constant(&[16], 1.0);
            net.op("Mul", &[&factor, &normal], &[])
        },
        // Unit length.
        |net, x, axes| {
            let length = net.op("ReduceL2", &[x, axes], &ROW);
            let least = scalar(net, 1e-12);
            let length = net.op("Clip", &[&length, &least], &[]);
            net.op("Div", &[x, &length], &[])
        },
        // Keras.
        |net, x, axes| {
            let (mean, d) = centred(net, x, axes);
            let squares = net.op("Mul", &[&d, &d], &[]);
            let variance = net.op("ReduceMean", &[&squares, axes], &ROW);
            let epsilon = scalar(net, 1e-3);
            let sum = net.op("Add", &[&variance, &epsilon], &[]);
            let root = net.op("Sqrt", &[&sum], &[]);
            let inverse = net.op("Reciprocal", &[&root], &[]);
            let (scale, bias) = (net.constant(&[16], 1.0), net.constant(&[16], 0.3));
            let factor = net.op("Mul", &[&inverse, &scale], &[]);
            let left = net.op("Mul", &[x, &factor], &[]);
            let taken = net.op("Mul", &[&mean, &factor], &[]);
            let right = net.op("Sub", &[&bias, &taken], &[]);
            net.op("Add", &[&left, &right], &[])
        },
    ];
    for (index, form) in forms.into_iter().enumerate() {
        let mut net = Net::new(&[1, 4, 8], 20 + index as u64);
        let axes = net.given(&Tensor::vector(vec![-1_i64]));
        let w = net.constant(&[8, 16], 0.4);
        let x = net.then("MatMul", &[&w], &[]);
        form(&mut net, &x, &axes);
        let w = net.constant(&[16, 3], 0.3);
        net.then("MatMul", &[&w], &[]);
        let quantised = check(net, 0.03, &["IntegerNormalize", "MatMulInteger"]);
        let names = names(&quantised);
        assert_eq!(names.iter().filter(|name| **name == "Requantize").count(), 2, "form {index}: {names:?}");
    }
}

#[test]
fn parts_of_channels_are_normalised() {
    let mut net = Net::new(&[1, 2, 6, 6], 30);
    net.conv(2, 6, 3, 1);
    let (scale, bias) = (net.constant(&[6], 1.0), net.constant(&[6], 0.3));
    net.then("GroupNormalization", &[&scale, &bias], &[("num_groups", Attr::Int(2))]);
    net.then("Relu", &[], &[]);
    net.conv(6, 6, 3, 1);
    net.then("InstanceNormalization", &[&scale, &bias], &[]);
    net.then("Flatten", &[], &[]);
    net.gemm(216, 3);
    check(net, 0.05, &["IntegerNormalize", "ConvInteger"]);
}

#[test]
fn pools_slopes_and_maxima() {
    let ints = |list: &[i64]| Attr::Ints(list.to_vec());
    let mut net = Net::new(&[1, 2, 7, 7], 31);
    net.conv(2, 6, 3, 1);
    let slope = net.given(&Tensor::from_vec(vec![6, 1, 1], vec![0.3_f32, -0.5, 0.0, 1.2, 0.1, 0.7]).unwrap());
    net.then("PRelu", &[&slope], &[]);
    // 3, 2 and 1 rows and columns of a window lie inside.
    let pads = [("kernel_shape", ints(&[3, 3])), ("pads", ints(&[1, 1, 1, 1])), ("strides", ints(&[2, 2]))];
    let pool = net.then("AveragePool", &[], &pads);
    let best = net.op("GlobalMaxPool", &[&pool], &[]);
    net.op("Max", &[&pool, &best], &[]);
    let uneven = [("kernel_shape", ints(&[2, 2])), ("strides", ints(&[2, 2])), ("ceil_mode", Attr::Int(1))];
    net.then("AveragePool", &[], &uneven);
    net.then("Flatten", &[], &[]);
    net.gemm(24, 4);
    let quantised = check(net, 0.05, &["ConvInteger", "ReduceMax", "Table"]);
    assert!(!names(&quantised).contains(&"PRelu"));
}

#[test]
fn padding_with_elements_and_numbers() {
    let mut net = Net::new(&[1, 2, 6, 5], 33);
    let by = |mode: &str| [("mode", Attr::Str(mode.into()))];
    net.conv(2, 4, 3, 1);
    let pads = net.given(&Tensor::vector(vec![0_i64, 0, 2, 1, 0, 0, 1, -1]));
    net.then("Pad", &[&pads], &by("reflect"));
    let (pads, axes) = (net.given(&Tensor::vector(vec![1_i64, 2])), net.given(&Tensor::vector(vec![-1_i64])));
    net.then("Pad", &[&pads, "", &axes], &by("edge"));
    let (pads, value) = (net.given(&Tensor::vector(vec![0_i64, 0, 1, 1, 0, 0, 1, 0])), scalar(&mut net, 0.7));
    net.then("Pad", &[&pads, &value], &by("constant"));
    net.conv(4, 4, 3, 1);
    net.then("Flatten", &[], &[]);
    net.gemm(4 * 11 * 9, 3);
    let quantised = check(net, 0.05, &["Gather", "Pad", "ConvInteger"]);
    assert_eq!(names(&quantised).iter().filter(|name| **name == "Pad").count(), 1);
}

#[test]
fn sums_of_products_by_equation() {
    let mut net = Net::new(&[2, 4, 8], 32);
    let by = |equation: &str| [("equation", Attr::Str(equation.into()))];
    let heads: Vec<String> = (0..3)
        .map(|_| {
            let w = net.constant(&[8, 2, 3], 0.6);
            net.op("Einsum", &["x", &w], &by("bld,dhk->blhk"))
        })
        .collect();
    let scores = net.op("Einsum", &[&heads[0], &heads[1]], &by("blhk,bmhk->bhlm"));
    let shares = net.op("Softmax", &[&scores], &[]);
    net.op("Einsum", &[&shares, &heads[2]], &by("bhlm,bmhk->blhk"));
    let w = net.constant(&[2, 3, 5], 0.6);
    net.then("Einsum", &[&w], &by("blhk,hkd->bdl"));
    // Weights first, then an outer product, then a sum.
    let (w, last) = (net.constant(&[6, 5], 0.5), net.last.clone());
    let rows = net.op("Einsum", &[&w, &last], &by("ed,bdl->ble"));
    net.op("Einsum", &[&rows, &rows], &by("b l e, b l f -> b e l f"));
    net.then("Einsum", &[], &by("...lf->...f"));
    let quantised = check(net, 0.08, &["MatMulInteger", "IntegerSoftmax"]);
    assert!(!names(&quantised).contains(&"Einsum"));
}

/// The graph over the request's inputs, with output `last`.
fn finish(mut net: Net, outputs: &[&str]) -> Graph {
    for output in outputs {
        net.writer.output(output, &TypeInfo::default());
    }
    import(&net.writer.finish(21), &NoExternalData, &Limits::default()).unwrap()
}

#[test]
fn masks_of_the_request_are_added_as_far_below_everything() {
    let mut writer = Writer::default();
    writer.input("x", &typed(DType::F32, &[1, 5, 8]));
    writer.input("mask", &typed(DType::I64, &[1, 5]));
    let mut net = Net { writer, noise: Noise(40), shape: vec![], last: "x".into(), made: 0 };
    let (axis, one, much) =
        (net.given(&Tensor::vector(vec![1_i64])), scalar(&mut net, 1.0), scalar(&mut net, -10000.0));
    let mask = net.op("Unsqueeze", &["mask", &axis], &[]);
    let mask = net.op("Cast", &[&mask], &[("to", Attr::Int(1))]);
    let mask = net.op("Sub", &[&one, &mask], &[]);
    let mask = net.op("Mul", &[&mask, &much], &[]);
    let [q, k, v] = [0, 1, 2].map(|_| {
        let w = net.constant(&[8, 8], 0.6);
        net.op("MatMul", &["x", &w], &[])
    });
    let k = net.op("Transpose", &[&k], &[("perm", Attr::Ints(vec![0, 2, 1]))]);
    net.op("MatMul", &[&q, &k], &[]);
    net.then("Add", &[&mask], &[]);
    net.then("Softmax", &[], &[("axis", Attr::Int(-1))]);
    net.then("MatMul", &[&v], &[]);
    let w = net.constant(&[8, 2], 0.4);
    let last = net.then("MatMul", &[&w], &[]);
    let mut noise = Noise(41);
    let samples = (0..8_i64).map(|i| {
        let mask = (0..5).map(|j| i64::from(j <= i % 5)).collect();
        vec![noise.tensor(&[1, 5, 8], 1.0), Tensor::from_vec(vec![1, 5], mask).unwrap()]
    });
    let samples = samples.collect();
    let quantised = quantise(&finish(net, &[&last]), &mut ByReference { samples }).unwrap();
    assert!(error(&quantised) < 0.05, "{}", error(&quantised));
    assert!(names(&quantised).contains(&"IntegerSoftmax"));
}

#[test]
fn labels_are_picked_after_the_integers() {
    let mut net = Net::new(&[2, 6], 50);
    net.gemm(6, 8);
    net.then("Relu", &[], &[]);
    net.gemm(8, 3);
    let shares = net.then("Softmax", &[], &[("axis", Attr::Int(1))]);
    let best = net.op("ArgMax", &[&shares], &[("axis", Attr::Int(1)), ("keepdims", Attr::Int(0))]);
    let labels = net.given(&Tensor::vector(vec![7_i64, 8, 9]));
    let attrs = Vec::new();
    net.writer.node(Domain::OnnxMl, "ArrayFeatureExtractor", vec![labels, best], vec!["label".into()], attrs);
    let mut noise = Noise(51);
    let samples = (0..8).map(|_| vec![noise.tensor(&[2, 6], 2.0)]).collect();
    let quantised = quantise(&finish(net, &["label", &shares]), &mut ByReference { samples }).unwrap();
    check_form(&quantised);
    // The label follows from the float logits: it is wrong only where they all but agree.
    assert!(error(&quantised) < 0.1, "{}", error(&quantised));
    let names = names(&quantised);
    assert!(names.contains(&"Softmax") && names.contains(&"ArrayFeatureExtractor"), "{names:?}");
}

#[test]
fn dynamically_quantised_layers_and_tables_are_floats_again() {
    let mut writer = Writer::default();
    writer.input("ids", &typed(DType::I64, &[1, 5]));
    let mut net = Net { writer, noise: Noise(60), shape: vec![], last: "ids".into(), made: 0 };
    let table = (0..80).map(|i| ((i * 53) % 251) as u8).collect();
    let table = net.given(&Tensor::from_vec(vec![10, 8], table).unwrap());
    let (scale, zero) = (scalar(&mut net, 0.01), net.given(&Tensor::scalar(120_u8)));
    let rows = net.op("Gather", &[&table, "ids"], &[]);
    let x = net.op("DequantizeLinear", &[&rows, &scale, &zero], &[]);
    let made = ["q", "qs", "qz"].map(str::to_owned).to_vec();
    net.writer.node(Domain::Onnx, "DynamicQuantizeLinear", vec![x], made, Vec::new());
    let w = (0..24).map(|i| ((i * 37) % 255) as u8).collect();
    let w = net.given(&Tensor::from_vec(vec![8, 3], w).unwrap());
    let wz = net.given(&Tensor::vector(vec![120_u8, 128, 130]));
    net.op("MatMulInteger", &["q", &w, "qz", &wz], &[]);
    let sums = net.then("Cast", &[], &[("to", Attr::Int(1))]);
    let ws = net.given(&Tensor::vector(vec![0.004_f32, 0.01, 0.002]));
    let factor = net.op("Mul", &["qs", &ws], &[]);
    let last = net.op("Mul", &[&sums, &factor], &[]);
    let mut noise = Noise(61);
    let ids = |noise: &mut Noise| (0..5).map(|_| ((noise.next() + 1.0) * 4.99) as i64).collect();
    let samples = (0..8).map(|_| vec![Tensor::from_vec(vec![1, 5], ids(&mut noise)).unwrap()]).collect();
    let quantised = quantise(&finish(net, &[&last]), &mut ByReference { samples }).unwrap();
    assert!(error(&quantised) < 0.03, "{}", error(&quantised));
    assert!(!names(&quantised).contains(&"DynamicQuantizeLinear"));
}

#[test]
fn lengths_that_integers_need_are_those_of_the_samples() {
    let mut writer = Writer::default();
    let dims = vec![Dim::Symbol("n".into()), Dim::Symbol("t".into()), Dim::Known(4)];
    writer.input("x", &TypeInfo { dtype: Some(DType::F32), shape: Some(dims) });
    let mut net = Net { writer, noise: Noise(70), shape: vec![], last: "x".into(), made: 0 };
    let k = net.op("Transpose", &["x"], &[("perm", Attr::Ints(vec![0, 2, 1]))]);
    net.op("MatMul", &["x", &k], &[]);
    net.then("Softmax", &[], &[("axis", Attr::Int(-1))]);
    // The inner length is the free one.
    let last = net.then("MatMul", &["x"], &[]);
    let mut noise = Noise(71);
    let samples = (1..6).map(|n| vec![noise.tensor(&[n, 6, 4], 1.0)]).collect();
    let quantised = quantise(&finish(net, &[&last]), &mut ByReference { samples }).unwrap();
    let input = &quantised.graph.values[quantised.graph.inputs[0].0].info;
    let dims = input.shape.clone().unwrap();
    assert!(matches!(dims[0], Dim::Symbol(_)));
    assert_eq!(dims[1..], [Dim::Known(6), Dim::Known(4)]);
}

#[test]
fn a_rectifier_that_a_zero_point_stands_for_is_kept() {
    let mut net = Net::new(&[4, 8], 80);
    net.gemm(8, 16);
    let (scale, middle, zero) =
        (scalar(&mut net, 0.02), net.given(&Tensor::scalar(128_u8)), net.given(&Tensor::scalar(0_u8)));
    let shape = net.given(&Tensor::vector(vec![4_i64, 2, 8]));
    let flat = net.given(&Tensor::vector(vec![4_i64, 16]));
    net.then("QuantizeLinear", &[&scale, &middle], &[]);
    net.then("DequantizeLinear", &[&scale, &middle], &[]);
    net.then("Reshape", &[&shape], &[]);
    // Nothing below 0 comes through here, though what is moved went below it.
    net.then("QuantizeLinear", &[&scale, &zero], &[]);
    net.then("DequantizeLinear", &[&scale, &zero], &[]);
    net.then("Reshape", &[&flat], &[]);
    net.gemm(16, 3);
    check(net, 0.03, &["MatMulInteger"]);
}

#[test]
fn parts_of_both_signs_are_joined() {
    let mut net = Net::new(&[1, 3, 8, 8], 81);
    net.conv(3, 4, 3, 1);
    let grown = net.then("Relu", &[], &[]);
    net.op("Concat", &["x", &grown], &[("axis", Attr::Int(1))]);
    net.conv(7, 4, 3, 1);
    net.then("Relu", &[], &[]);
    net.then("Flatten", &[], &[]);
    net.gemm(256, 3);
    check(net, 0.03, &["Concat", "ConvInteger"]);
}
