//! The oracle: a decoder's forward pass, slow and obvious (`numeric.md` §11). No cache, no batch, no vectors: the engine must give
//! these bits.

use std::collections::BTreeMap;

use super::architecture::{Architecture, Part, Role};
use super::{Checkpoint, LlmError};
use crate::numeric::elementary::{cos, exp, sin};
use crate::numeric::{BLOCK, canonical_f32, contract_f32, maximum, sum};

/// A decoder with its weights in memory.
#[derive(Debug)]
pub struct Reference {
    architecture: Architecture,
    weights: BTreeMap<Role, Vec<f32>>,
    frequencies: Vec<f32>,
}

impl Reference {
    /// Reads every weight of `checkpoint`.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn load(checkpoint: &Checkpoint<'_>) -> Result<Self, LlmError> {
        let architecture = checkpoint.architecture().clone();
        let mut weights = BTreeMap::new();
        for (role, _, _) in checkpoint.weights() {
            weights.insert(role, checkpoint.read(role)?);
        }
        let factors = weights.get(&Role::RopeFactors).map_or(&[][..], Vec::as_slice);
        let frequencies = architecture.rope.frequencies(architecture.head_dim, factors);
        Ok(Self { architecture, weights, frequencies })
    }

    /// What the decoder computes.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// Logits after each of `tokens`, one row of the vocabulary's length a token. `None` if a token is outside the vocabulary.
    pub fn logits(&self, tokens: &[u32]) -> Option<Vec<Vec<f32>>> {
        let a = &self.architecture;
        let embedding = self.weight(Role::Embedding)?;
        let row = |token: u32| {
            let start = usize::try_from(token).ok()?.checked_mul(a.hidden)?;
            embedding.get(start..start.checked_add(a.hidden)?).map(<[f32]>::to_vec)
        };
        let mut states: Vec<Vec<f32>> = tokens.iter().map(|&token| row(token)).collect::<Option<_>>()?;
        for layer in 0..a.layers {
            self.layer(layer, &mut states)?;
        }
        let head = if a.tied { embedding } else { self.weight(Role::Head)? };
        let norm = self.weight(Role::Norm)?;
        Some(states.iter().map(|x| linear(&rms_norm(x, norm, a.epsilon), head, None)).collect())
    }

    fn weight(&self, role: Role) -> Option<&[f32]> {
        self.weights.get(&role).map(Vec::as_slice)
    }

    fn layer(&self, layer: usize, states: &mut [Vec<f32>]) -> Option<()> {
        let a = &self.architecture;
        let part = |part| self.weight(Role::Layer(layer, part));
        let (mut queries, mut keys, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for (position, x) in states.iter().enumerate() {
            let n = rms_norm(x, part(Part::AttentionNorm)?, a.epsilon);
            let mut q = linear(&n, part(Part::Query)?, part(Part::QueryBias));
            let mut k = linear(&n, part(Part::Key)?, part(Part::KeyBias));
            self.turn(&mut q, part(Part::QueryNorm), position);
            self.turn(&mut k, part(Part::KeyNorm), position);
            queries.push(q);
            keys.push(k);
            values.push(linear(&n, part(Part::Value)?, part(Part::ValueBias)));
        }
        for (position, x) in states.iter_mut().enumerate() {
            let seen = position + 1;
            let o = self.attention(queries.get(position)?, keys.get(..seen)?, values.get(..seen)?);
            *x = add(&linear(&o, part(Part::Output)?, part(Part::OutputBias)), x);
            let m = rms_norm(x, part(Part::MlpNorm)?, a.epsilon);
            let gate = linear(&m, part(Part::Gate)?, None);
            let up = linear(&m, part(Part::Up)?, None);
            let h: Vec<f32> = gate.iter().zip(&up).map(|(&g, &u)| canonical_f32(silu(g) * u)).collect();
            *x = add(&linear(&h, part(Part::Down)?, None), x);
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
