//! A decoder's weights, packed once: the same panels serve one token and a thousand.

use hallmark_model::llm::{Architecture, Checkpoint, LlmError, Part, Role};

use crate::isa::Isa;
use crate::kernels::gemm::{Matrix, PackedB};

/// The weights of a decoder, ready for one instruction set. Several decoders may share them.
#[derive(Debug)]
pub struct Weights {
    pub(crate) isa: Isa,
    pub(crate) architecture: Architecture,
    pub(crate) layers: Vec<Layer>,
    pub(crate) norm: Vec<f32>,
    /// [hidden, vocabulary]; of a tied model the embedding too.
    pub(crate) head: PackedB,
    /// One row a token, unless tied.
    embedding: Option<Vec<f32>>,
    /// Rotary frequencies.
    pub(crate) frequencies: Vec<f32>,
}

/// The weights of one layer. Matrices that read the same input stand side by side.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) attention_norm: Vec<f32>,
    pub(crate) qkv: PackedB,
    pub(crate) qkv_bias: Option<Vec<f32>>,
    pub(crate) query_norm: Option<Vec<f32>>,
    pub(crate) key_norm: Option<Vec<f32>>,
    pub(crate) output: PackedB,
    pub(crate) output_bias: Option<Vec<f32>>,
    pub(crate) mlp_norm: Vec<f32>,
    pub(crate) gate_up: PackedB,
    pub(crate) down: PackedB,
}

impl Weights {
    /// Reads and packs every weight of `checkpoint` for `isa` (the portable one where the processor lacks it).
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn load(checkpoint: &Checkpoint<'_>, isa: Isa) -> Result<Self, LlmError> {
        let (isa, a) = (isa.or_portable(), checkpoint.architecture().clone());
        let layers =
            (0..a.layers).map(|layer| Layer::load(checkpoint, isa, layer)).collect::<Result<_, _>>()?;
        let embedding = checkpoint.read(Role::Embedding)?;
        let (head, embedding) = if a.tied {
            (pack(isa, &embedding, a.hidden), None)
        } else {
            (pack(isa, &checkpoint.read(Role::Head)?, a.hidden), Some(embedding))
        };
        let factors = match a.rope.scaling {
            hallmark_model::llm::Scaling::Factors => checkpoint.read(Role::RopeFactors)?,
            _ => Vec::new(),
        };
        let frequencies = a.rope.frequencies(a.head_dim, &factors);
        Ok(Self {
            isa,
            norm: checkpoint.read(Role::Norm)?,
            architecture: a,
            layers,
            head,
            embedding,
            frequencies,
        })
    }

    /// What the decoder computes.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        let layer = |l: &Layer| l.qkv.bytes() + l.output.bytes() + l.gate_up.bytes() + l.down.bytes();
        let embedding = self.embedding.as_ref().map_or(0, |table| size_of_val(table.as_slice()));
        self.layers.iter().map(layer).sum::<usize>() + self.head.bytes() + embedding
    }

    /// Bytes of weights that one step reads.
    pub fn bytes_per_step(&self) -> usize {
        self.bytes() - self.embedding.as_ref().map_or(0, |table| size_of_val(table.as_slice()))
    }

    /// The embedding of `token`, which is in the vocabulary.
    pub(crate) fn embed(&self, token: u32, out: &mut [f32]) {
        let (token, hidden) = (token as usize, self.architecture.hidden);
        match &self.embedding {
            None => self.head.column(token, out),
            Some(table) => out.copy_from_slice(&table[token * hidden..(token + 1) * hidden]),
        }
    }
}

impl Layer {
    fn load(checkpoint: &Checkpoint<'_>, isa: Isa, layer: usize) -> Result<Self, LlmError> {
        let a = checkpoint.architecture();
        let read = |part| checkpoint.read(Role::Layer(layer, part));
        let joined = |parts: &[Part]| {
            let mut all = Vec::new();
            for &part in parts {
                all.append(&mut read(part)?);
            }
            Ok::<_, LlmError>(all)
        };
        let optional = |wanted: bool, parts: &[Part]| if wanted { joined(parts).map(Some) } else { Ok(None) };
        Ok(Self {
            attention_norm: read(Part::AttentionNorm)?,
            qkv: pack(isa, &joined(&[Part::Query, Part::Key, Part::Value])?, a.hidden),
            qkv_bias: optional(a.qkv_bias, &[Part::QueryBias, Part::KeyBias, Part::ValueBias])?,
            query_norm: optional(a.qk_norm, &[Part::QueryNorm])?,
            key_norm: optional(a.qk_norm, &[Part::KeyNorm])?,
            output: pack(isa, &read(Part::Output)?, a.query()),
            output_bias: optional(a.output_bias, &[Part::OutputBias])?,
            mlp_norm: read(Part::MlpNorm)?,
            gate_up: pack(isa, &joined(&[Part::Gate, Part::Up])?, a.hidden),
            down: pack(isa, &read(Part::Down)?, a.intermediate),
        })
    }
}

/// Packs a row-major [out, `k`] matrix, as bfloat16 if that holds all of it.
pub(crate) fn pack(isa: Isa, weight: &[f32], k: usize) -> PackedB {
    PackedB::new(isa, Matrix::transposed(weight, k), k, weight.len() / k.max(1)).narrowed()
}
