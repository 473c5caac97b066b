//! What a decoder computes: one typed description for every family and file format.

use std::fmt;

use super::LlmError;
use crate::numeric::elementary::pow;

/// Bounds on what a description may ask for; everything beyond is absurd or hostile.
pub mod bounds {
    /// Layers.
    pub const LAYERS: usize = 1024;
    /// Elements of a hidden state.
    pub const HIDDEN: usize = 65_536;
    /// Elements between the two matrices of an MLP.
    pub const INTERMEDIATE: usize = 1 << 20;
    /// Query heads.
    pub const HEADS: usize = 1024;
    /// Elements of a head.
    pub const HEAD_DIM: usize = 1024;
    /// Tokens of the vocabulary.
    pub const VOCABULARY: usize = 1 << 21;
    /// Positions: float32 holds each exactly.
    pub const CONTEXT: usize = 1 << 24;
    /// Elements of all weights together.
    pub const PARAMETERS: u64 = 1 << 40;
}

/// A family of models: which parts a layer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Family {
    /// Llama and what shares its shape (SmolLM, TinyLlama).
    Llama,
    /// Mistral, up to where its sliding window ends.
    Mistral,
    /// Qwen2: biases on q, k and v.
    Qwen2,
    /// Qwen3: RMSNorm on each head of q and k.
    Qwen3,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 4] = [Self::Llama, Self::Mistral, Self::Qwen2, Self::Qwen3];

    /// `model_type` of config.json.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }
}

/// How rotary frequencies are scaled (`numeric.md` §11).
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Scaling {
    /// As they are.
    None,
    /// All divided by a factor.
    Linear {
        /// The factor.
        factor: f32,
    },
    /// Llama 3.1's: low frequencies divided, high ones kept, a ramp between.
    Llama3 {
        /// The factor.
        factor: f32,
        /// Wavelengths above `original / low` are divided.
        low: f32,
        /// Wavelengths below `original / high` stay.
        high: f32,
        /// Positions that the model was first trained for.
        original: f32,
    },
    /// Each divided by an entry of the weight [`Role::RopeFactors`].
    Factors,
}

/// What matrices are computed with (`model.md` §7.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Arithmetic {
    /// `numeric.md` §11.
    #[default]
    Float32,
    /// Blocks of integers that share a scale: `numeric.md` §11.1.
    Int8,
}

impl Arithmetic {
    /// Every arithmetic.
    pub const ALL: [Self; 2] = [Self::Float32, Self::Int8];

    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Int8 => "int8",
        }
    }

    /// The arithmetic called `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }
}

/// Rotary embedding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rope {
    /// The base.
    pub theta: f32,
    /// What is done to the frequencies.
    pub scaling: Scaling,
}

impl Rope {
    /// The frequencies of a head of `head_dim` elements, half as many (`numeric.md` §11). `factors` is read by
    /// [`Scaling::Factors`] only, which checked its length.
    pub fn frequencies(&self, head_dim: usize, factors: &[f32]) -> Vec<f32> {
        let frequency = |i: usize| {
            let exponent = (2 * i) as f32 / head_dim as f32;
            let f = 1.0 / pow(self.theta, exponent);
            match self.scaling {
                Scaling::None => f,
                Scaling::Linear { factor } => f / factor,
                Scaling::Factors => f / factors.get(i).copied().unwrap_or(1.0),
                Scaling::Llama3 { factor, low, high, original } => {
                    let wavelength = std::f32::consts::TAU / f;
                    if wavelength < original / high {
                        f
                    } else if wavelength > original / low {
                        f / factor
                    } else {
                        let s = (original / wavelength - low) / (high - low);
                        ((1.0 - s) * f) / factor + s * f
                    }
                }
            }
        };
        (0..head_dim / 2).map(frequency).collect()
    }
}

/// What a decoder computes. Made by [`super::config`] and [`super::gguf`], within [`bounds`].
#[derive(Clone, Debug, PartialEq)]
pub struct Architecture {
    /// The family.
    pub family: Family,
    /// Layers.
    pub layers: usize,
    /// Elements of a hidden state.
    pub hidden: usize,
    /// Elements between the two matrices of an MLP.
    pub intermediate: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; they divide the query heads.
    pub kv_heads: usize,
    /// Elements of a head, even.
    pub head_dim: usize,
    /// Tokens of the vocabulary.
    pub vocabulary: usize,
    /// Positions that the model is made for.
    pub context: usize,
    /// Added to mean squares.
    pub epsilon: f32,
    /// Rotary embedding.
    pub rope: Rope,
    /// Whether the embedding matrix is the head too.
    pub tied: bool,
    /// Whether q, k and v have biases.
    pub qkv_bias: bool,
    /// Whether the attention's output has a bias.
    pub output_bias: bool,
    /// Whether each head of q and k is normalised.
    pub qk_norm: bool,
    /// What matrices are computed with.
    pub arithmetic: Arithmetic,
}

/// A weight of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Part {
    AttentionNorm,
    Query,
    QueryBias,
    QueryNorm,
    Key,
    KeyBias,
    KeyNorm,
    Value,
    ValueBias,
    Output,
    OutputBias,
    MlpNorm,
    Gate,
    Up,
    Down,
}

impl Part {
    /// The name inside a layer, as Hugging Face has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::AttentionNorm => "input_layernorm.weight",
            Self::Query => "self_attn.q_proj.weight",
            Self::QueryBias => "self_attn.q_proj.bias",
            Self::QueryNorm => "self_attn.q_norm.weight",
            Self::Key => "self_attn.k_proj.weight",
            Self::KeyBias => "self_attn.k_proj.bias",
            Self::KeyNorm => "self_attn.k_norm.weight",
            Self::Value => "self_attn.v_proj.weight",
            Self::ValueBias => "self_attn.v_proj.bias",
            Self::Output => "self_attn.o_proj.weight",
            Self::OutputBias => "self_attn.o_proj.bias",
            Self::MlpNorm => "post_attention_layernorm.weight",
            Self::Gate => "mlp.gate_proj.weight",
            Self::Up => "mlp.up_proj.weight",
            Self::Down => "mlp.down_proj.weight",
        }
    }
}

/// A weight of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// One row a token: [vocabulary, hidden].
    Embedding,
    /// A layer's weight.
    Layer(usize, Part),
    /// Scale of the last RMSNorm: [hidden].
    Norm,
    /// From hidden states to logits: [vocabulary, hidden].
    Head,
    /// Divisors of the rotary frequencies: [head_dim / 2].
    RopeFactors,
}

impl fmt::Display for Role {
    /// The weight's name: Hugging Face's, whatever file it comes from.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedding => f.write_str("model.embed_tokens.weight"),
            Self::Layer(layer, part) => write!(f, "model.layers.{layer}.{}", part.name()),
            Self::Norm => f.write_str("model.norm.weight"),
            Self::Head => f.write_str("lm_head.weight"),
            Self::RopeFactors => f.write_str("rope_factors.weight"),
        }
    }
}

/// Checks the number of all weights' elements together.
pub(super) fn check_parameters<R>(weights: &[(R, Vec<usize>)]) -> Result<(), LlmError> {
    let count = |(_, shape): &(R, Vec<usize>)| hallmark_receipt::tensor::count(shape);
    let total = weights.iter().try_fold(0_usize, |sum, weight| sum.checked_add(count(weight)?));
    // What cannot be counted cannot be addressed either.
    let got = total.map_or(u64::MAX, |total| total as u64);
    if got <= bounds::PARAMETERS {
        Ok(())
    } else {
        Err(LlmError::Bound { what: "parameters", got, limit: bounds::PARAMETERS })
    }
}

impl Architecture {
    /// Checks every number against [`bounds`] and against the others.
    ///
    /// # Errors
    /// [`LlmError::Bound`] or [`LlmError::Inconsistent`], naming the number.
    pub fn check(&self) -> Result<(), LlmError> {
        let sizes = [
            ("layers", self.layers, bounds::LAYERS),
            ("hidden size", self.hidden, bounds::HIDDEN),
            ("intermediate size", self.intermediate, bounds::INTERMEDIATE),
            ("attention heads", self.heads, bounds::HEADS),
            ("key/value heads", self.kv_heads, self.heads),
            ("head size", self.head_dim, bounds::HEAD_DIM),
            ("vocabulary", self.vocabulary, bounds::VOCABULARY),
            ("context", self.context, bounds::CONTEXT),
        ];
        for (what, got, limit) in sizes {
            if got == 0 || got > limit {
                return Err(LlmError::Bound { what, got: got as u64, limit: limit as u64 });
            }
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(LlmError::Inconsistent { what: "key/value heads must divide the attention heads" });
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(LlmError::Inconsistent { what: "the head size must be even" });
        }
        let positive = |what, x: f32| {
            let fits = x.is_finite() && x > 0.0;
            if fits { Ok(()) } else { Err(LlmError::Number { what, got: x.to_string() }) }
        };
        positive("rms_norm_eps", self.epsilon)?;
        positive("rope_theta", self.rope.theta)?;
        match self.rope.scaling {
            Scaling::None | Scaling::Factors => {}
            Scaling::Linear { factor } => positive("rope factor", factor)?,
            Scaling::Llama3 { factor, low, high, original } => {
                positive("rope factor", factor)?;
                positive("low_freq_factor", low)?;
                positive("high_freq_factor", high)?;
                positive("original_max_position_embeddings", original)?;
                if low >= high {
                    return Err(LlmError::Inconsistent {
                        what: "low_freq_factor must be below high_freq_factor",
                    });
                }
            }
        }
        check_parameters(&self.weights())
    }

    /// Elements of all query heads of a token.
    pub fn query(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Elements of all key heads of a token.
    pub fn key(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Every weight with its shape, [out, in] for matrices, in the order of the weight tree (`model.md` §7.4).
    pub fn weights(&self) -> Vec<(Role, Vec<usize>)> {
        let (hidden, query, key, head) = (self.hidden, self.query(), self.key(), self.head_dim);
        let mut all = vec![(Role::Embedding, vec![self.vocabulary, hidden])];
        for layer in 0..self.layers {
            let mut part = |wanted: bool, part, shape: &[usize]| {
                if wanted {
                    all.push((Role::Layer(layer, part), shape.to_vec()));
                }
            };
            part(true, Part::AttentionNorm, &[hidden]);
            part(true, Part::Query, &[query, hidden]);
            part(self.qkv_bias, Part::QueryBias, &[query]);
            part(self.qk_norm, Part::QueryNorm, &[head]);
            part(true, Part::Key, &[key, hidden]);
            part(self.qkv_bias, Part::KeyBias, &[key]);
            part(self.qk_norm, Part::KeyNorm, &[head]);
            part(true, Part::Value, &[key, hidden]);
            part(self.qkv_bias, Part::ValueBias, &[key]);
            part(true, Part::Output, &[hidden, query]);
            part(self.output_bias, Part::OutputBias, &[hidden]);
            part(true, Part::MlpNorm, &[hidden]);
            part(true, Part::Gate, &[self.intermediate, hidden]);
            part(true, Part::Up, &[self.intermediate, hidden]);
            part(true, Part::Down, &[hidden, self.intermediate]);
        }
        all.push((Role::Norm, vec![hidden]));
        if !self.tied {
            all.push((Role::Head, vec![self.vocabulary, hidden]));
        }
        if self.rope.scaling == Scaling::Factors {
            all.push((Role::RopeFactors, vec![head / 2]));
        }
        all
    }
}
