//! Float models, made and shipped, beside what the quantiser makes of them.

use hallmark_receipt::DType;

use super::*;
use crate::graph::{Attr, Dim, TypeInfo};
use crate::onnx::Writer;
use crate::ops::Domain;

/// Numbers between -1 and 1, the same everywhere.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 40) as f32) / (1 << 23) as f32 - 1.0
    }

    fn tensor(&mut self, shape: &[usize], by: f32) -> Tensor {
        let n = shape.iter().product();
        Tensor::from_vec(shape.to_vec(), (0..n).map(|_| self.next() * by).collect::<Vec<f32>>()).unwrap()
    }
}

/// A small model in the making; each step reads the value before it.
struct Net {
    writer: Writer,
    noise: Noise,
    shape: Vec<usize>,
    last: String,
    made: usize,
}

impl Net {
    fn new(shape: &[usize], seed: u64) -> Self {
        let mut writer = Writer::default();
        writer.input("x", &typed(DType::F32, shape));
        Self { writer, noise: Noise(seed), shape: shape.to_vec(), last: "x".into(), made: 0 }
    }

    fn constant(&mut self, shape: &[usize], by: f32) -> String {
        let tensor = self.noise.tensor(shape, by);
        self.given(&tensor)
    }

    fn given(&mut self, tensor: &Tensor) -> String {
        self.made += 1;
        let name = format!("c{}", self.made);
        self.writer.constant(&name, tensor);
        name
    }

    fn op(&mut self, op: &str, inputs: &[&str], attrs: &[(&str, Attr)]) -> String {
        self.made += 1;
        let output = format!("v{}", self.made);
        let attrs: Vec<_> = attrs.iter().map(|(name, attr)| ((*name).to_owned(), attr.clone())).collect();
        let inputs = inputs.iter().map(|name| (*name).to_owned()).collect();
        self.writer.node(Domain::Onnx, op, inputs, vec![output.clone()], attrs);
        self.last.clone_from(&output);
        output
    }

    /// The operator on the last value.
    fn then(&mut self, op: &str, more: &[&str], attrs: &[(&str, Attr)]) -> String {
        let last = self.last.clone();
        let inputs: Vec<&str> = std::iter::once(last.as_str()).chain(more.iter().copied()).collect();
        self.op(op, &inputs, attrs)
    }

    fn gemm(&mut self, k: usize, n: usize) -> String {
        let (w, b) = (self.constant(&[n, k], 1.0 / (k as f32).sqrt()), self.constant(&[n], 0.1));
        self.then("Gemm", &[&w, &b], &[("transB", Attr::Int(1))])
    }

    fn conv(&mut self, from: usize, to: usize, kernel: usize, group: usize) -> String {
        let by = 1.0 / ((from / group * kernel * kernel) as f32).sqrt();
        let (w, b) = (self.constant(&[to, from / group, kernel, kernel], by), self.constant(&[to], 0.1));
        let pad = (kernel / 2) as i64;
        let attrs = [("pads", Attr::Ints(vec![pad; 4])), ("group", Attr::Int(group as i64))];
        self.then("Conv", &[&w, &b], &attrs)
    }

    fn graph(mut self) -> Graph {
        let last = self.last.clone();
        self.writer.output(&last, &TypeInfo::default());
        import(&self.writer.finish(21), &NoExternalData, &Limits::default()).unwrap()
    }

    /// Quantised on 8 inputs.
    fn quantised(self) -> Quantised {
        let (shape, mut noise) = (self.shape.clone(), Noise(99));
        let samples = (0..8).map(|_| vec![noise.tensor(&shape, 2.0)]).collect();
        quantise(&self.graph(), &mut ByReference { samples }).unwrap()
    }
}

fn typed(dtype: DType, shape: &[usize]) -> TypeInfo {
    TypeInfo { dtype: Some(dtype), shape: Some(shape.iter().copied().map(Dim::Known).collect()) }
}

/// The form of §1: floats before QuantizeLinear and after DequantizeLinear alone, and bounds that hold in a run.
fn check_form(quantised: &Quantised) {
    let graph = &quantised.graph;
    let float = |id: &Option<crate::graph::ValueId>| {
        id.is_some_and(|id| {
            graph.values[id.0].info.dtype == Some(DType::F32) && !graph.constants.contains_key(&id)
        })
    };
    let mut after: std::collections::BTreeSet<_> = graph.inputs.iter().copied().collect();
    for node in &graph.nodes {
        let end = node.op.name == "DequantizeLinear"
            || node.inputs.iter().flatten().any(|id| after.contains(id) && !graph.inputs.contains(id));
        if end {
            after.extend(node.outputs.iter().flatten());
        } else if node.op.name != "QuantizeLinear" {
            assert!(!node.inputs.iter().any(float), "{} reads floats", node.op.name);
            assert!(!node.outputs.iter().any(float), "{} makes floats", node.op.name);
        }
    }
    bounds(graph).unwrap();
}

fn check(net: Net, most: f64, operators: &[&str]) -> Quantised {
    let quantised = net.quantised();
    check_form(&quantised);
    let error = error(&quantised);
    assert!(error < most, "{error} with {}", quantised.clip.name());
    for name in operators {
        assert!(quantised.graph.nodes.iter().any(|node| node.op.name == *name), "no {name}");
    }
    quantised
}

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
