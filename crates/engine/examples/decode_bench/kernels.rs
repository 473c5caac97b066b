//! Products alone: how fast they read weights at few rows, and how fast they compute at many.

use std::time::Instant;

use hallmark_engine::Isa;
use hallmark_engine::kernels::gemm::{Ctx, Epilogue, Matrix, PackedB, gemm};
use hallmark_engine::kernels::int8::{PackedInt8, product};

use crate::shape::{COMPUTE, CONFIG, Shape, WEIGHTS};

/// An arithmetic in which weights are packed and multiplied.
pub struct Arithmetic {
    pub name: &'static str,
    /// Files of a model that is computed in it.
    pub files: &'static [&'static str],
    /// Packs a row-major [out, k] matrix.
    pack: fn(Isa, &[f32], usize) -> Box<dyn Product>,
}

/// Every arithmetic; each is a row of the table.
pub const ARITHMETICS: [Arithmetic; 2] = [
    Arithmetic {
        name: "f32",
        files: &[CONFIG, WEIGHTS],
        pack: |isa, weights, k| {
            Box::new(PackedB::new(isa, Matrix::transposed(weights, k), k, weights.len() / k))
        },
    },
    Arithmetic {
        name: "int8",
        files: &[CONFIG, WEIGHTS, COMPUTE],
        pack: |isa, weights, k| Box::new(PackedInt8::new(isa, weights, k)),
    },
];

/// Packed weights.
trait Product {
    /// k and columns.
    fn size(&self) -> (usize, usize);
    /// Bytes that a product reads.
    fn bytes(&self) -> usize;
    /// `out = x[m, k] . weights`.
    fn run(&self, cx: &Ctx<'_>, m: usize, x: &[f32], out: &mut [f32]);
}

impl Product for PackedB {
    fn size(&self) -> (usize, usize) {
        self.size()
    }

    fn bytes(&self) -> usize {
        self.bytes()
    }

    fn run(&self, cx: &Ctx<'_>, m: usize, x: &[f32], out: &mut [f32]) {
        let (k, n) = self.size();
        gemm(cx, m, n, k, Matrix::row_major(x, k), self, out, &Epilogue::default());
    }
}

impl Product for PackedInt8 {
    fn size(&self) -> (usize, usize) {
        self.size()
    }

    fn bytes(&self) -> usize {
        self.bytes()
    }

    fn run(&self, cx: &Ctx<'_>, m: usize, x: &[f32], out: &mut [f32]) {
        product(cx, m, x, self, out, &Epilogue::default());
    }
}

/// The products of some layers, packed.
pub struct Layers {
    products: Vec<Box<dyn Product>>,
    x: Vec<f32>,
    out: Vec<f32>,
}

/// The most rows of a product here.
pub const ROWS: usize = 512;

impl Layers {
    /// As many layers as have `bytes`, one at least.
    pub fn new(arithmetic: &Arithmetic, isa: Isa, shape: &Shape, bytes: usize) -> Self {
        let &Shape { hidden, intermediate, heads, kv_heads, .. } = shape;
        let qkv = hidden + 2 * hidden / heads * kv_heads;
        let sizes = [(hidden, qkv), (hidden, hidden), (hidden, 2 * intermediate), (intermediate, hidden)];
        let (widest, deepest) = (qkv.max(2 * intermediate), hidden.max(intermediate));
        let weights: Vec<f32> =
            (0..hidden * widest.max(intermediate)).map(|i| (i % 251) as f32 * 0.01 - 1.003).collect();
        let mut layers =
            Self { products: Vec::new(), x: vec![0.7; ROWS * deepest], out: vec![0.0; ROWS * widest] };
        while layers.products.is_empty() || layers.bytes() < bytes {
            let packed = sizes.iter().map(|&(k, n)| (arithmetic.pack)(isa, &weights[..k * n], k));
            layers.products.extend(packed);
        }
        layers
    }

    /// Bytes of weights.
    pub fn bytes(&self) -> usize {
        self.products.iter().map(|product| product.bytes()).sum()
    }

    /// Floating-point operations of all products with `m` rows.
    pub fn operations(&self, m: usize) -> usize {
        self.products.iter().map(|product| 2 * m * product.size().0 * product.size().1).sum()
    }

    /// Seconds that all products with `m` rows take.
    pub fn run(&mut self, cx: &Ctx<'_>, m: usize) -> f64 {
        let start = Instant::now();
        for product in &self.products {
            let (k, n) = product.size();
            product.run(cx, m, &self.x[..m * k], &mut self.out[..m * n]);
        }
        start.elapsed().as_secs_f64()
    }
}
