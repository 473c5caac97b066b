//! The oracle: an encoder's pass, slow and obvious (`numeric.md` §12).

use std::collections::BTreeMap;

use super::super::checkpoint::CheckpointOf;
use super::super::error::LlmError;
use super::super::reference::{add, attention, linear};
use super::{Encoder, Part, Role};
use crate::numeric::{canonical_f32, sum};
use crate::ops::activation::gelu_erf;

/// An encoder with its weights in memory.
#[derive(Debug)]
pub struct Reference {
    encoder: Encoder,
    weights: BTreeMap<Role, Vec<f32>>,
}

impl Reference {
    /// Reads every weight of `checkpoint`.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn load(checkpoint: &CheckpointOf<'_, Encoder>) -> Result<Self, LlmError> {
        let mut weights = BTreeMap::new();
        for (role, _, _) in checkpoint.weights() {
            weights.insert(role, checkpoint.values(role)?);
        }
        Ok(Self { encoder: checkpoint.architecture().clone(), weights })
    }

    /// The vector of `tokens`. `None` if there are none, more than there are positions, or one outside the vocabulary.
    pub fn embed(&self, tokens: &[u32]) -> Option<Vec<f32>> {
        let a = &self.encoder;
        let weight = |role| self.weights.get(&role).map(Vec::as_slice);
        let row = |role, index: usize| {
            let start = index.checked_mul(a.hidden)?;
            weight(role)?.get(start..start.checked_add(a.hidden)?)
        };
        let mut states = Vec::new();
        for (position, &token) in tokens.iter().enumerate() {
            let x = add(row(Role::Word, usize::try_from(token).ok()?)?, row(Role::Type, 0)?);
            let x = add(&x, row(Role::Position, position)?);
            states.push(layer_norm(&x, weight(Role::Norm)?, weight(Role::NormBias)?, a.epsilon));
        }
        for layer in 0..a.layers {
            let part = |part| weight(Role::Layer(layer, part));
            let each = |weight, bias| -> Option<Vec<Vec<f32>>> {
                let (weight, bias) = (part(weight)?, part(bias));
                Some(states.iter().map(|x| linear(x, weight, bias)).collect())
            };
            let queries = each(Part::Query, Part::QueryBias)?;
            let keys = each(Part::Key, Part::KeyBias)?;
            let values = each(Part::Value, Part::ValueBias)?;
            for (x, q) in states.iter_mut().zip(&queries) {
                let o = attention(q, &keys, &values, a.head_dim(), 1);
                let o = linear(&o, part(Part::Output)?, part(Part::OutputBias));
                let n = add(&o, x);
                let n = layer_norm(&n, part(Part::AttentionNorm)?, part(Part::AttentionNormBias)?, a.epsilon);
                let h = linear(&n, part(Part::Up)?, part(Part::UpBias));
                let h: Vec<f32> = h.into_iter().map(|x| canonical_f32(gelu_erf(x))).collect();
                let y = add(&linear(&h, part(Part::Down)?, part(Part::DownBias)), &n);
                *x = layer_norm(&y, part(Part::Norm)?, part(Part::NormBias)?, a.epsilon);
            }
        }
        (!states.is_empty()).then(|| a.pool(&states.concat()))
    }
}

/// §7's LayerNormalization of one row.
fn layer_norm(x: &[f32], scale: &[f32], bias: &[f32], epsilon: f32) -> Vec<f32> {
    let n = x.len() as f32;
    let mean = canonical_f32(sum(x.iter().copied()) / n);
    let d: Vec<f32> = x.iter().map(|x| x - mean).collect();
    let r = 1.0 / (sum(d.iter().map(|d| d * d)) / n + epsilon).sqrt();
    d.iter()
        .zip(scale.iter().zip(bias))
        .map(|(d, (scale, bias))| canonical_f32((d * r) * scale + bias))
        .collect()
}
