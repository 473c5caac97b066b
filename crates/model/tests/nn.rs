//! Convolution, pooling and normalisation on small cases worked by hand. The conformance suite covers the rest.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use hallmark_model::graph::{Attr, Attrs, Node};
use hallmark_model::ops::{self, Domain, EvalCx, OpError};
use hallmark_receipt::Tensor;

fn run_as(
    op: &str,
    version: u32,
    attrs: &[(&str, Attr)],
    inputs: &[Option<&Tensor>],
) -> Result<Vec<Tensor>, OpError> {
    let op = ops::find(Domain::Onnx, op).expect("the operator exists");
    assert!(op.versions.contains(&version));
    for (name, _) in attrs {
        assert!(op.attrs.contains(name), "{name}");
    }
    let node = Node {
        name: "test".into(),
        op,
        version,
        attrs: Attrs(attrs.iter().map(|(k, v)| (k.to_string(), v.clone())).collect()),
        inputs: Vec::new(),
        declared_inputs: inputs.len(),
        outputs: Vec::new(),
    };
    (op.eval)(&EvalCx { node: &node, inputs, budget: 1 << 20 })
}

fn run(op: &str, attrs: &[(&str, Attr)], inputs: &[&Tensor]) -> Vec<Tensor> {
    let version = *ops::find(Domain::Onnx, op).expect("the operator exists").versions.last().unwrap();
    let inputs: Vec<_> = inputs.iter().map(|t| Some(*t)).collect();
    run_as(op, version, attrs, &inputs).unwrap()
}

fn f32s(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_vec(shape.to_vec(), values.to_vec()).unwrap()
}

fn iota(shape: &[usize]) -> Tensor {
    let n: usize = shape.iter().product();
    f32s(shape, &(0..n).map(|i| i as f32).collect::<Vec<_>>())
}

fn ints(v: &[i64]) -> Attr {
    Attr::Ints(v.to_vec())
}

#[test]
fn conv_with_pads_strides_groups_and_bias() {
    let x = iota(&[1, 2, 3, 3]);
    let w = f32s(&[2, 1, 3, 3], &[1.0; 18]);
    let b = f32s(&[2], &[0.5, -0.5]);
    let attrs = [("group", Attr::Int(2)), ("pads", ints(&[1, 1, 1, 1])), ("strides", ints(&[2, 2]))];
    let y = run("Conv", &attrs, &[&x, &w, &b]);
    // Corner windows of the first plane: 0+1+3+4, 1+2+4+5, 3+4+6+7, 4+5+7+8; the second plane is 9 a cell higher.
    let want = [8.5, 12.5, 20.5, 24.5, 43.5, 47.5, 55.5, 59.5];
    assert!(y[0].same_bits(&f32s(&[1, 2, 2, 2], &want)), "{:?}", y[0]);
}

#[test]
fn conv_blocks_whole_windows() {
    // 3x3: a block is 56 channels. The first block's sum absorbs the 1s one by one; the second block adds its 9 at once.
    let channels = 57;
    let mut x = vec![0.0_f32; channels * 9];
    x[0] = 16_777_216.0;
    x[56 * 9..].fill(1.0);
    let w = f32s(&[1, channels, 3, 3], &vec![1.0; channels * 9]);
    let y = run("Conv", &[], &[&f32s(&[1, channels, 3, 3], &x), &w]);
    assert_eq!(y[0].as_slice::<f32>().unwrap(), [16_777_224.0]);
}

#[test]
fn conv_transpose_is_the_conv_of_the_stuffed_input() {
    let x = f32s(&[1, 1, 2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let w = iota(&[1, 1, 2, 2]);
    let y = run("ConvTranspose", &[("strides", ints(&[2, 2]))], &[&x, &w]);
    let want = [0., 1., 0., 2., 2., 3., 4., 6., 0., 3., 0., 4., 6., 9., 8., 12.];
    assert!(y[0].same_bits(&f32s(&[1, 1, 4, 4], &want)), "{:?}", y[0]);
    let y = run("ConvTranspose", &[("strides", ints(&[2, 2])), ("output_shape", ints(&[5, 5]))], &[&x, &w]);
    assert_eq!(y[0].shape(), [1, 1, 5, 5]);
}

#[test]
fn integer_convolutions() {
    let x = Tensor::from_vec(vec![1, 1, 2, 2], vec![2_u8, 3, 4, 5]).unwrap();
    let w = Tensor::from_vec(vec![1, 1, 1, 1], vec![-2_i8]).unwrap();
    let zero = Tensor::scalar(1_u8);
    let y = run("ConvInteger", &[], &[&x, &w, &zero]);
    assert_eq!(y[0].as_slice::<i32>().unwrap(), [-2, -4, -6, -8]);
    let (s, zi, zo) = (Tensor::scalar(0.5_f32), Tensor::scalar(0_i8), Tensor::scalar(7_u8));
    let y = run("QLinearConv", &[], &[&x, &s, &zero, &w, &s, &zi, &s, &zo]);
    // -2 * 0.5 * 0.5 / 0.5 + 7 = 6, and so on.
    assert_eq!(y[0].as_slice::<u8>().unwrap(), [6, 5, 4, 3]);
}

#[test]
fn max_pool_indices_and_zeros() {
    let x = f32s(&[1, 1, 1, 4], &[-0.0, 0.0, f32::NAN, 7.0]);
    let y = run("MaxPool", &[("kernel_shape", ints(&[1, 2])), ("strides", ints(&[1, 2]))], &[&x]);
    assert_eq!(y[0].as_slice::<f32>().unwrap()[0].to_bits(), 0);
    assert!(y[0].as_slice::<f32>().unwrap()[1].is_nan());
    assert_eq!(y[1].as_slice::<i64>().unwrap(), [0, 2]);
    let back =
        run("MaxUnpool", &[("kernel_shape", ints(&[1, 2])), ("strides", ints(&[1, 2]))], &[&y[0], &y[1]]);
    assert_eq!(back[0].shape(), [1, 1, 1, 4]);
}

#[test]
fn average_pool_divisors() {
    let x = iota(&[1, 1, 3]);
    let attrs = |include| {
        [
            ("kernel_shape", ints(&[3])),
            ("pads", ints(&[1, 1])),
            ("strides", ints(&[2])),
            ("count_include_pad", Attr::Int(include)),
        ]
    };
    let y = run("AveragePool", &attrs(0), &[&x]);
    assert_eq!(y[0].as_slice::<f32>().unwrap(), [0.5, 1.5]);
    let y = run("AveragePool", &attrs(1), &[&x]);
    assert_eq!(y[0].as_slice::<f32>().unwrap(), [1.0 / 3.0, 1.0]);
}

#[test]
fn half_is_widened() {
    use half::f16;
    let x = Tensor::from_vec(vec![1, 1, 2], vec![f16::from_f32(1.0), f16::from_f32(2.0)]).unwrap();
    let y = run("GlobalAveragePool", &[], &[&x]);
    assert_eq!(y[0].as_slice::<f16>().unwrap(), [f16::from_f32(1.5)]);
}

#[test]
fn normalisation_is_two_pass() {
    let x = f32s(&[1, 4], &[1e4, 1e4 + 1.0, 1e4 + 2.0, 1e4 + 3.0]);
    let ones = f32s(&[4], &[1.0; 4]);
    let y = run("LayerNormalization", &[("epsilon", Attr::Float(0.0))], &[&x, &ones]);
    let r = 1.0 / 1.25_f32.sqrt();
    let want: Vec<f32> = [-1.5_f32, -0.5, 0.5, 1.5].iter().map(|d| d * r).collect();
    assert!(y[0].same_bits(&f32s(&[1, 4], &want)));
    assert_eq!((y[1].shape(), y[2].shape()), (&[1, 1][..], &[1, 1][..]));
    let (zero, one) = (f32s(&[1], &[0.0]), f32s(&[1], &[1.0]));
    let image = f32s(&[1, 1, 1, 4], x.as_slice::<f32>().unwrap());
    let eps = ("epsilon", Attr::Float(0.0));
    let y = run("InstanceNormalization", std::slice::from_ref(&eps), &[&image, &one, &zero]);
    assert_eq!(y[0].as_slice::<f32>().unwrap(), want);
    let y = run("GroupNormalization", &[eps, ("num_groups", Attr::Int(1))], &[&image, &one, &zero]);
    assert_eq!(y[0].as_slice::<f32>().unwrap(), want);
}

#[test]
fn hostile_inputs_are_errors() {
    let x = iota(&[1, 1, 3]);
    let refused = |op: &str, attrs: &[(&str, Attr)], inputs: &[&Tensor]| {
        let version = *ops::find(Domain::Onnx, op).unwrap().versions.last().unwrap();
        let inputs: Vec<_> = inputs.iter().map(|t| Some(*t)).collect();
        run_as(op, version, attrs, &inputs).is_err()
    };
    assert!(refused("MaxPool", &[("kernel_shape", ints(&[4]))], &[&x]));
    assert!(refused("MaxPool", &[("kernel_shape", ints(&[0]))], &[&x]));
    assert!(refused(
        "AveragePool",
        &[("kernel_shape", ints(&[1])), ("pads", ints(&[1 << 30, 1 << 30]))],
        &[&x]
    ));
    assert!(refused("Conv", &[("group", Attr::Int(0))], &[&x, &x]));
    assert!(refused("Conv", &[("dilations", ints(&[i64::MAX]))], &[&x, &x]));
    let shape = ("output_shape", ints(&[1 << 40]));
    assert!(refused("ConvTranspose", &[shape], &[&x, &x]));
    let index = Tensor::from_vec(vec![1, 1, 3], vec![0_i64, 1, 99]).unwrap();
    assert!(refused("MaxUnpool", &[("kernel_shape", ints(&[1]))], &[&x, &index]));
    assert!(refused("BatchNormalization", &[], &[&x, &x, &x, &x, &x]));
    assert!(refused("LayerNormalization", &[("axis", Attr::Int(i64::MIN))], &[&x, &x]));
}
