//! Graphs by hand, seeded values with the special ones among them, and the comparison with the reference.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)] // Each test file uses its part; helpers are outside of `#[test]`.

use std::sync::Arc;

use hallmark_engine::{Isa, Options, Program};
use hallmark_model::graph::{Attr, Attrs, Dim, Graph, Node, TypeInfo, Value, ValueId};
use hallmark_model::ops::{self, Domain, InferCx};
use hallmark_model::reference;
use hallmark_receipt::Tensor;

/// SplitMix64.
pub struct Seed(pub u64);

impl Seed {
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

    /// Between -1 and 1.
    pub fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// Ordinary values up to `scale`.
    pub fn plain(&mut self, shape: &[usize], scale: f32) -> Tensor {
        let n = shape.iter().product();
        Tensor::from_vec(shape.to_vec(), (0..n).map(|_| self.unit() * scale).collect()).unwrap()
    }

    /// Ordinary values with special ones among them: NaN, both zeros and infinities, subnormals, huge and tiny ones.
    pub fn special(&mut self, shape: &[usize]) -> Tensor {
        const SPECIAL: [f32; 12] = [
            f32::NAN,
            0.0,
            -0.0,
            f32::INFINITY,
            f32::NEG_INFINITY,
            1e-42,
            -1e-42,
            f32::MAX,
            f32::MIN,
            f32::MIN_POSITIVE,
            1.0,
            -1.0,
        ];
        let n = shape.iter().product();
        let mut value = || match self.below(8) {
            0 => SPECIAL[self.below(SPECIAL.len())],
            1 => self.unit() * 100.0,
            _ => self.unit() * 4.0,
        };
        let values = (0..n).map(|_| value()).collect();
        Tensor::from_vec(shape.to_vec(), values).unwrap()
    }
}

/// A graph in the making.
#[derive(Default)]
pub struct Build {
    pub graph: Graph,
    pub inputs: Vec<Tensor>,
}

pub fn info_of(tensor: &Tensor) -> TypeInfo {
    let shape = tensor.shape().iter().map(|&n| Dim::Known(n)).collect();
    TypeInfo { dtype: Some(tensor.dtype()), shape: Some(shape) }
}

impl Build {
    fn value(&mut self, info: TypeInfo) -> ValueId {
        let id = ValueId(self.graph.values.len());
        self.graph.values.push(Value { name: format!("v{}", id.0), info });
        id
    }

    pub fn input(&mut self, tensor: Tensor) -> ValueId {
        let id = self.value(info_of(&tensor));
        self.graph.inputs.push(id);
        self.inputs.push(tensor);
        id
    }

    pub fn constant(&mut self, tensor: Tensor) -> ValueId {
        let id = self.value(info_of(&tensor));
        self.graph.constants.insert(id, Arc::new(tensor));
        id
    }

    pub fn scalar(&mut self, x: f32) -> ValueId {
        self.constant(Tensor::scalar(x))
    }

    pub fn ints(&mut self, x: &[i64]) -> ValueId {
        self.constant(Tensor::vector(x.to_vec()))
    }

    /// Adds a node of the operator's version in force at `opset`; gives its first output.
    pub fn node(&mut self, op: &str, opset: u32, attrs: &[(&str, Attr)], inputs: &[ValueId]) -> ValueId {
        let own = ops::find(Domain::Hallmark, op);
        let op = ops::find(Domain::Onnx, op).or(own).unwrap_or_else(|| panic!("no operator {op}"));
        let version = op.versions.iter().copied().filter(|&v| v <= opset).max().unwrap();
        let mut node = Node {
            name: format!("n{}", self.graph.nodes.len()),
            op,
            version,
            attrs: Attrs(attrs.iter().map(|(name, attr)| ((*name).to_owned(), attr.clone())).collect()),
            inputs: inputs.iter().map(|&id| Some(id)).collect(),
            declared_inputs: inputs.len(),
            outputs: vec![],
        };
        let types: Vec<Option<TypeInfo>> =
            inputs.iter().map(|id| Some(self.graph.values[id.0].info.clone())).collect();
        let constants: Vec<Option<Arc<Tensor>>> =
            inputs.iter().map(|id| self.graph.constants.get(id).cloned()).collect();
        let inferred = (op.infer)(&InferCx { node: &node, types: &types, constants: &constants });
        let out = self
            .value(inferred.ok().and_then(|mut v| (!v.is_empty()).then(|| v.remove(0))).unwrap_or_default());
        node.outputs = vec![Some(out)];
        self.graph.nodes.push(node);
        out
    }

    pub fn output(mut self, id: ValueId) -> (Graph, Vec<Tensor>) {
        self.graph.outputs.push(id);
        (self.graph, self.inputs)
    }
}

/// Runs `graph` by the reference and by the engine on every instruction set with 1, 2 and 4 threads, twice each, and asks for equal
/// bits; where the reference refuses, the engine must too.
pub fn check((graph, inputs): (Graph, Vec<Tensor>), what: &str) {
    let refs: Vec<&Tensor> = inputs.iter().collect();
    let expected = reference::run(&graph, &refs, 1 << 30);
    let graph = Arc::new(graph);
    for isa in Isa::available() {
        for threads in [1, 2, 4] {
            let options = Options { threads, isa, ..Options::default() };
            let program = Program::compile(Arc::clone(&graph), options).unwrap();
            for run in 0..2 {
                let got = program.run(&inputs);
                match (&expected, &got) {
                    (Ok(expected), Ok(got)) => {
                        assert_eq!(expected.len(), got.len());
                        for (e, g) in expected.iter().zip(got) {
                            assert_same(e, g, &format!("{what}: {isa}, {threads} threads, run {run}"));
                        }
                    }
                    (Err(_), Err(_)) => {}
                    _ => panic!("{what}: {isa}: reference {expected:?}, engine {got:?}"),
                }
            }
        }
    }
}

/// Panics at the first element whose bits differ.
pub fn assert_same(expected: &Tensor, got: &Tensor, what: &str) {
    if expected.same_bits(got) {
        return;
    }
    assert_eq!(expected.shape(), got.shape(), "{what}: shape");
    if let (Some(e), Some(g)) = (expected.as_slice::<f32>(), got.as_slice::<f32>()) {
        let at = e.iter().zip(g).position(|(e, g)| e.to_bits() != g.to_bits()).unwrap();
        panic!(
            "{what}: element {at} of {:?} is {:?} ({:#x}), expected {:?} ({:#x})",
            expected.shape(),
            g[at],
            g[at].to_bits(),
            e[at],
            e[at].to_bits()
        );
    }
    panic!("{what}: expected {:?}, got {:?}", expected.dtype(), got.dtype());
}
