//! Random small networks, of the layers that exporters write: the engine's bits are the reference's.

#![allow(clippy::unwrap_used)] // Helpers of tests, outside of `#[test]` functions.

mod common;

use common::{Build, Seed, check};
use hallmark_model::graph::{Attr, ValueId};

/// A graph in the making, with the shape of its last value.
struct Net {
    b: Build,
    seed: Seed,
    at: ValueId,
    shape: Vec<usize>,
}

impl Net {
    fn op(&mut self, op: &str, attrs: &[(&str, Attr)], more: &[ValueId]) {
        let inputs: Vec<ValueId> = std::iter::once(self.at).chain(more.iter().copied()).collect();
        self.at = self.b.node(op, 20, attrs, &inputs);
    }

    fn weight(&mut self, shape: &[usize]) -> ValueId {
        let scale = 2.0 / (shape.iter().skip(1).product::<usize>() as f32).sqrt();
        let tensor = self.seed.plain(shape, scale);
        self.b.constant(tensor)
    }

    fn linear(&mut self) {
        let (k, n) = (self.shape[self.shape.len() - 1], 1 + self.seed.below(40));
        let (w, bias) = (self.weight(&[k, n]), self.weight(&[n]));
        if self.shape.len() == 2 && self.seed.below(2) == 0 {
            self.op("Gemm", &[], &[w, bias]);
        } else {
            self.op("MatMul", &[], &[w]);
            self.op("Add", &[], &[bias]);
        }
        *self.shape.last_mut().unwrap() = n;
    }

    fn activation(&mut self) {
        let ops = [
            "Relu",
            "Tanh",
            "Sigmoid",
            "Gelu",
            "Erf",
            "Softmax",
            "HardSwish",
            "LeakyRelu",
            "Softplus",
            "Exp",
            "Abs",
        ];
        let op = ops[self.seed.below(ops.len())];
        self.op(op, &[], &[]);
    }

    fn residual(&mut self) {
        let before = self.at;
        self.activation();
        self.op("Mul", &[], &[before]);
        self.op("Add", &[], &[before]);
    }

    fn norm(&mut self) {
        let row = [*self.shape.last().unwrap()];
        let (scale, bias) = (self.weight(&row), self.weight(&row));
        self.op("LayerNormalization", &[], &[scale, bias]);
    }

    fn conv(&mut self) {
        let filters = 1 + self.seed.below(20);
        let channels = self.shape[1];
        let (w, bias) = (self.weight(&[filters, channels, 3, 3]), self.weight(&[filters]));
        self.op("Conv", &[("pads", Attr::Ints(vec![1; 4]))], &[w, bias]);
        self.shape[1] = filters;
    }

    fn attention(&mut self) {
        let values = self.at;
        self.op("Transpose", &[("perm", Attr::Ints(vec![0, 2, 1]))], &[]);
        let keys = self.at;
        self.at = self.b.node("MatMul", 20, &[], &[values, keys]);
        let scale = self.b.scalar(3.0);
        self.op("Div", &[], &[scale]);
        self.op("Softmax", &[], &[]);
        self.op("MatMul", &[], &[values]);
    }
}

#[test]
fn random_networks() {
    for round in 0..40_u64 {
        let mut seed = Seed(round);
        let kind = seed.below(3);
        let mut shape = vec![1 + seed.below(5), 2 + seed.below(60)];
        match kind {
            0 => {}
            1 => shape = vec![1 + seed.below(2), 1 + seed.below(4), 3 + seed.below(9), 3 + seed.below(9)],
            _ => shape.insert(1, 1 + seed.below(12)),
        }
        let mut b = Build::default();
        let x = if seed.below(4) == 0 { seed.special(&shape) } else { seed.plain(&shape, 2.0) };
        let at = b.input(x);
        let mut net = Net { b, seed, at, shape };
        for _ in 0..2 + net.seed.below(4) {
            match (net.seed.below(3), kind) {
                (0, 1) => net.conv(),
                (0, _) => net.linear(),
                (1, 2) => net.attention(),
                (1, 0) => net.norm(),
                (2, _) => net.residual(),
                _ => net.activation(),
            }
            if net.seed.below(5) == 0 {
                net.b.graph.outputs.push(net.at);
            }
        }
        let at = net.at;
        check(net.b.output(at), &format!("round {round}"));
    }
}
