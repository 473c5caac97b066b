//! The oracle: a decoder's forward pass, slow and obvious (`numeric.md` §11). No cache, no batch, no vectors: the engine must give
//! these bits.

use std::collections::BTreeMap;

use super::architecture::{Architecture, Arithmetic, Part, Role};
use super::{Checkpoint, LlmError};
use crate::numeric::elementary::{cos, exp, sin};
use crate::numeric::int8::Quantised;
use crate::numeric::{BLOCK, canonical_f32, contract_f32, maximum, sum};

/// A matrix, row by row, as it is computed with.
#[derive(Debug)]
enum Matrix {
    Float32(Vec<f32>),
    Int8(Vec<Quantised>),
}

impl Matrix {
    /// The numbers of a row of `len` elements.
    fn row(&self, index: usize, len: usize) -> Option<Vec<f32>> {
        match self {
            Self::Float32(values) => {
                let start = index.checked_mul(len)?;
                values.get(start..start.checked_add(len)?).map(<[f32]>::to_vec)
            }
            Self::Int8(rows) => rows.get(index).map(Quantised::values),
        }
    }

    /// One output a row.
    fn linear(&self, x: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
        let rows = match self {
            Self::Float32(weight) => return linear(x, weight, bias),
            Self::Int8(rows) => rows,
        };
        let x = Quantised::of(x);
        let y: Vec<f32> = rows.iter().map(|row| x.dot(row)).collect();
        bias.map_or(y.clone(), |bias| add(&y, bias))
    }
}

/// A decoder with its weights in memory.
#[derive(Debug)]
pub struct Reference {
    architecture: Architecture,
    matrices: BTreeMap<Role, Matrix>,
    vectors: BTreeMap<Role, Vec<f32>>,
    frequencies: Vec<f32>,
}

impl Reference {
    /// Reads every weight of `checkpoint`.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn load(checkpoint: &Checkpoint<'_>) -> Result<Self, LlmError> {
        let architecture = checkpoint.architecture().clone();
        let (mut matrices, mut vectors) = (BTreeMap::new(), BTreeMap::new());
        for (role, shape, _) in checkpoint.weights() {
            let values = checkpoint.read(role)?;
            match (architecture.arithmetic, shape) {
                (Arithmetic::Float32, [_, _]) => drop(matrices.insert(role, Matrix::Float32(values))),
                (Arithmetic::Int8, [_, k]) => {
                    let rows = values.chunks(*k).map(Quantised::of).collect();
                    matrices.insert(role, Matrix::Int8(rows));
                }
                _ => drop(vectors.insert(role, values)),
            }
        }
        let factors = vectors.get(&Role::RopeFactors).map_or(&[][..], Vec::as_slice);
        let frequencies = architecture.rope.frequencies(architecture.head_dim, factors);
        Ok(Self { architecture, matrices, vectors, frequencies })
    }

    /// What the decoder computes.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// Logits after each of `tokens`, one row of the vocabulary's length a token. `None` if a token is outside the vocabulary.
    pub fn logits(&self, tokens: &[u32]) -> Option<Vec<Vec<f32>>> {
        let a = &self.architecture;
        let embedding = self.matrices.get(&Role::Embedding)?;
        let row = |token: &u32| embedding.row(usize::try_from(*token).ok()?, a.hidden);
        let mut states: Vec<Vec<f32>> = tokens.iter().map(row).collect::<Option<_>>()?;
        for layer in 0..a.layers {
            self.layer(layer, &mut states)?;
        }
        let head = if a.tied { embedding } else { self.matrices.get(&Role::Head)? };
        let norm = self.vectors.get(&Role::Norm)?;
        Some(states.iter().map(|x| head.linear(&rms_norm(x, norm, a.epsilon), None)).collect())
    }

    fn layer(&self, layer: usize, states: &mut [Vec<f32>]) -> Option<()> {
        let a = &self.architecture;
        let part = |part| self.vectors.get(&Role::Layer(layer, part)).map(Vec::as_slice);
        let matrix = |part| self.matrices.get(&Role::Layer(layer, part));
        let (mut queries, mut keys, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for (position, x) in states.iter().enumerate() {
            let n = rms_norm(x, part(Part::AttentionNorm)?, a.epsilon);
            let mut q = matrix(Part::Query)?.linear(&n, part(Part::QueryBias));
            let mut k = matrix(Part::Key)?.linear(&n, part(Part::KeyBias));
            self.turn(&mut q, part(Part::QueryNorm), position);
            self.turn(&mut k, part(Part::KeyNorm), position);
            queries.push(q);
            keys.push(k);
            values.push(matrix(Part::Value)?.linear(&n, part(Part::ValueBias)));
        }
        for (position, x) in states.iter_mut().enumerate() {
            let seen = position + 1;
            let o = self.attention(queries.get(position)?, keys.get(..seen)?, values.get(..seen)?);
            *x = add(&matrix(Part::Output)?.linear(&o, part(Part::OutputBias)), x);
            let m = rms_norm(x, part(Part::MlpNorm)?, a.epsilon);
            let gate = matrix(Part::Gate)?.linear(&m, None);
            let up = matrix(Part::Up)?.linear(&m, None);
            let h: Vec<f32> = gate.iter().zip(&up).map(|(&g, &u)| canonical_f32(silu(g) * u)).collect();
            *x = add(&matrix(Part::Down)?.linear(&h, None), x);
        }
        Some(())
    }

    /// QK-norm where the model has it, then the rotary embedding, of each head of `x`.
    fn turn(&self, x: &mut [f32], norm: Option<&[f32]>, position: usize) {
        let d = self.architecture.head_dim;
        for head in x.chunks_exact_mut(d) {
            if let Some(norm) = norm {
                head.copy_from_slice(&rms_norm(head, norm, self.architecture.epsilon));
            }
            let (low, high) = head.split_at_mut(d / 2);
            for ((x, y), f) in low.iter_mut().zip(high).zip(&self.frequencies) {
                let angle = position as f32 * f;
                let (c, s) = (cos(angle), sin(angle));
                (*x, *y) = (canonical_f32(*x * c - *y * s), canonical_f32(*y * c + *x * s));
            }
        }
    }

    fn attention(&self, q: &[f32], keys: &[Vec<f32>], values: &[Vec<f32>]) -> Vec<f32> {
        let a = &self.architecture;
        attention(q, keys, values, a.head_dim, a.heads / a.kv_heads)
    }
}

/// Attention of the heads in `q`, `d` elements each, of which `group` share a head of `keys` and `values` (§11).
pub(super) fn attention(
    q: &[f32],
    keys: &[Vec<f32>],
    values: &[Vec<f32>],
    d: usize,
    group: usize,
) -> Vec<f32> {
    let scale = 1.0 / (d as f32).sqrt();
    let mut out = Vec::with_capacity(q.len());
    for (j, q) in q.chunks_exact(d).enumerate() {
        let at = j / group.max(1) * d;
        let score = |k: &Vec<f32>| {
            let k = k.get(at..at + d).unwrap_or_default();
            canonical_f32(contract_f32(q.iter().copied().zip(k.iter().copied()), BLOCK) * scale)
        };
        let z: Vec<f32> = keys.iter().map(score).collect();
        let m = maximum(z.iter().copied());
        let e: Vec<f32> = z.iter().map(|z| exp(canonical_f32(z - m))).collect();
        let s = sum(e.iter().copied());
        let w: Vec<f32> = e.iter().map(|e| canonical_f32(e / s)).collect();
        for i in at..at + d {
            let column = values.iter().map(|v| v.get(i).copied().unwrap_or_default());
            out.push(contract_f32(w.iter().copied().zip(column), BLOCK));
        }
    }
    out
}

/// `(x * (1 / sqrt(mean(x * x) + eps))) * scale`.
fn rms_norm(x: &[f32], scale: &[f32], epsilon: f32) -> Vec<f32> {
    let squares = sum(x.iter().map(|x| x * x)) / x.len() as f32;
    let r = 1.0 / (squares + epsilon).sqrt();
    x.iter().zip(scale).map(|(x, scale)| canonical_f32((x * r) * scale)).collect()
}

/// One output a row of `weight`.
pub(super) fn linear(x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    let dot = |row: &[f32]| contract_f32(x.iter().copied().zip(row.iter().copied()), BLOCK);
    let mut y: Vec<f32> = weight.chunks_exact(x.len().max(1)).map(dot).collect();
    if let Some(bias) = bias {
        y = add(&y, bias);
    }
    y
}

pub(super) fn add(x: &[f32], y: &[f32]) -> Vec<f32> {
    x.iter().zip(y).map(|(x, y)| canonical_f32(x + y)).collect()
}

fn silu(x: f32) -> f32 {
    x * (1.0 / (1.0 + exp(-x)))
}
