//! Small models in the making, and what is asked of their integers.

use hallmark_model::graph::{Attr, Dim, Graph, TypeInfo, ValueId};
use hallmark_model::onnx::{Limits, NoExternalData, Writer, import};
use hallmark_model::ops::Domain;
use hallmark_model::quantise::{ByReference, Difference, Quantised, bounds, quantise};
use hallmark_receipt::{DType, Tensor};

/// Numbers between -1 and 1, the same everywhere.
pub struct Noise(pub u64);

impl Noise {
    pub fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 40) as f32) / (1 << 23) as f32 - 1.0
    }

    pub fn tensor(&mut self, shape: &[usize], by: f32) -> Tensor {
        let n = shape.iter().product();
        Tensor::from_vec(shape.to_vec(), (0..n).map(|_| self.next() * by).collect::<Vec<f32>>()).unwrap()
    }
}

/// A small model in the making; each step reads the value before it.
pub struct Net {
    pub writer: Writer,
    pub noise: Noise,
    pub shape: Vec<usize>,
    pub last: String,
    pub made: usize,
}

impl Net {
    pub fn new(shape: &[usize], seed: u64) -> Self {
        let mut writer = Writer::default();
        writer.input("x", &typed(DType::F32, shape));
        Self { writer, noise: Noise(seed), shape: shape.to_vec(), last: "x".into(), made: 0 }
    }

    pub fn constant(&mut self, shape: &[usize], by: f32) -> String {
        let tensor = self.noise.tensor(shape, by);
        self.given(&tensor)
    }

    pub fn given(&mut self, tensor: &Tensor) -> String {
        self.made += 1;
        let name = format!("c{}", self.made);
        self.writer.constant(&name, tensor);
        name
    }

    pub fn op(&mut self, op: &str, inputs: &[&str], attrs: &[(&str, Attr)]) -> String {
        self.made += 1;
        let output = format!("v{}", self.made);
        let attrs: Vec<_> = attrs.iter().map(|(name, attr)| ((*name).to_owned(), attr.clone())).collect();
        let inputs = inputs.iter().map(|name| (*name).to_owned()).collect();
        self.writer.node(Domain::Onnx, op, inputs, vec![output.clone()], attrs);
        self.last.clone_from(&output);
        output
    }

    /// The operator on the last value.
    pub fn then(&mut self, op: &str, more: &[&str], attrs: &[(&str, Attr)]) -> String {
        let last = self.last.clone();
        let inputs: Vec<&str> = std::iter::once(last.as_str()).chain(more.iter().copied()).collect();
        self.op(op, &inputs, attrs)
    }

    pub fn gemm(&mut self, k: usize, n: usize) -> String {
        let (w, b) = (self.constant(&[n, k], 1.0 / (k as f32).sqrt()), self.constant(&[n], 0.1));
        self.then("Gemm", &[&w, &b], &[("transB", Attr::Int(1))])
    }

    pub fn conv(&mut self, from: usize, to: usize, kernel: usize, group: usize) -> String {
        let by = 1.0 / ((from / group * kernel * kernel) as f32).sqrt();
        let (w, b) = (self.constant(&[to, from / group, kernel, kernel], by), self.constant(&[to], 0.1));
        let pad = (kernel / 2) as i64;
        let attrs = [("pads", Attr::Ints(vec![pad; 4])), ("group", Attr::Int(group as i64))];
        self.then("Conv", &[&w, &b], &attrs)
    }

    pub fn graph(mut self) -> Graph {
        let last = self.last.clone();
        self.writer.output(&last, &TypeInfo::default());
        import(&self.writer.finish(21), &NoExternalData, &Limits::default()).unwrap()
    }

    /// Quantised on 8 inputs.
    pub fn quantised(self) -> Quantised {
        let (shape, mut noise) = (self.shape.clone(), Noise(99));
        let samples = (0..8).map(|_| vec![noise.tensor(&shape, 2.0)]).collect();
        quantise(&self.graph(), &mut ByReference { samples }).unwrap()
    }
}

pub fn typed(dtype: DType, shape: &[usize]) -> TypeInfo {
    TypeInfo { dtype: Some(dtype), shape: Some(shape.iter().copied().map(Dim::Known).collect()) }
}

/// The relative root mean square difference of all outputs.
pub fn error(quantised: &Quantised) -> f64 {
    quantised.differences.iter().map(Difference::rms_relative).sum()
}

/// The form of §1: floats before QuantizeLinear and after DequantizeLinear alone, and bounds that hold in a run.
pub fn check_form(quantised: &Quantised) {
    let graph = &quantised.graph;
    let float = |id: &Option<ValueId>| {
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

pub fn check(net: Net, most: f64, operators: &[&str]) -> Quantised {
    let quantised = net.quantised();
    check_form(&quantised);
    let error = error(&quantised);
    assert!(error < most, "{error} with {}", quantised.clip.name());
    for name in operators {
        assert!(quantised.graph.nodes.iter().any(|node| node.op.name == *name), "no {name}");
    }
    quantised
}
