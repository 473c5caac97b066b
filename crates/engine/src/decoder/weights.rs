//! A decoder's weights, packed once: the same panels serve one token and a thousand.

use hallmark_model::llm::{Architecture, Arithmetic, Checkpoint, LlmError, Part, Role};

use crate::isa::Isa;
use crate::kernels::gemm::{Ctx, Epilogue, Matrix, PackedB, gemm};
use crate::kernels::int8::{self, PackedInt8};
use crate::program::Exec;

/// The weights of a decoder, ready for one instruction set. Several decoders may share them.
#[derive(Debug)]
pub struct Weights {
    pub(crate) isa: Isa,
    pub(crate) architecture: Architecture,
    pub(crate) layers: Vec<Layer>,
    pub(crate) norm: Vec<f32>,
    /// [vocabulary, hidden]; of a tied model the embedding too.
    pub(crate) head: Linear,
    /// Unless tied.
    embedding: Option<Linear>,
    /// Rotary frequencies.
    pub(crate) frequencies: Vec<f32>,
}

/// The weights of one layer. Matrices that read the same input stand side by side.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) attention_norm: Vec<f32>,
    pub(crate) qkv: Linear,
    pub(crate) qkv_bias: Option<Vec<f32>>,
    pub(crate) query_norm: Option<Vec<f32>>,
    pub(crate) key_norm: Option<Vec<f32>>,
    pub(crate) output: Linear,
    pub(crate) output_bias: Option<Vec<f32>>,
    pub(crate) mlp_norm: Vec<f32>,
    pub(crate) gate_up: Linear,
    pub(crate) down: Linear,
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
        let table =
            |role| Ok::<_, LlmError>(Linear::pack(isa, a.arithmetic, &checkpoint.read(role)?, a.hidden));
        let embedding = table(Role::Embedding)?;
        let (head, embedding) =
            if a.tied { (embedding, None) } else { (table(Role::Head)?, Some(embedding)) };
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

    /// The instruction set that they are packed for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// What the decoder computes.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.bytes_per_step() + self.embedding.as_ref().map_or(0, Linear::bytes)
    }

    /// Bytes of weights that one step reads.
    pub fn bytes_per_step(&self) -> usize {
        let layer = |l: &Layer| l.qkv.bytes() + l.output.bytes() + l.gate_up.bytes() + l.down.bytes();
        self.layers.iter().map(layer).sum::<usize>() + self.head.bytes()
    }

    /// The embedding of `token`, which is in the vocabulary.
    pub(crate) fn embed(&self, token: u32, out: &mut [f32]) {
        self.embedding.as_ref().unwrap_or(&self.head).column(token as usize, out);
    }
}

impl Layer {
    fn load(checkpoint: &Checkpoint<'_>, isa: Isa, layer: usize) -> Result<Self, LlmError> {
        let a = checkpoint.architecture();
        let read = |part| checkpoint.read(Role::Layer(layer, part));
        let pack = |weight: Vec<f32>, k| Linear::pack(isa, a.arithmetic, &weight, k);
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
            qkv: pack(joined(&[Part::Query, Part::Key, Part::Value])?, a.hidden),
            qkv_bias: optional(a.qkv_bias, &[Part::QueryBias, Part::KeyBias, Part::ValueBias])?,
            query_norm: optional(a.qk_norm, &[Part::QueryNorm])?,
            key_norm: optional(a.qk_norm, &[Part::KeyNorm])?,
            output: pack(read(Part::Output)?, a.query()),
            output_bias: optional(a.output_bias, &[Part::OutputBias])?,
            mlp_norm: read(Part::MlpNorm)?,
            gate_up: pack(joined(&[Part::Gate, Part::Up])?, a.hidden),
            down: pack(read(Part::Down)?, a.intermediate),
        })
    }
}

/// A weight [out, k], packed for what it is computed with.
#[derive(Debug)]
pub(crate) enum Linear {
    /// `numeric.md` §11.
    Float32(PackedB),
    /// `numeric.md` §11.1.
    Int8(PackedInt8),
}

impl Linear {
    /// Packs a row-major [out, `k`] matrix; of float32, as bfloat16 if that holds all of it.
    pub(crate) fn pack(isa: Isa, arithmetic: Arithmetic, weight: &[f32], k: usize) -> Self {
        if arithmetic == Arithmetic::Int8 {
            return Self::Int8(PackedInt8::new(isa, weight, k));
        }
        let n = weight.len() / k.max(1);
        Self::Float32(PackedB::new(isa, Matrix::transposed(weight, k), k, n).narrowed())
    }

    /// `x`, `m` rows, times the weight, with what follows.
    pub(crate) fn apply(&self, exec: &Exec, m: usize, x: &[f32], out: &mut Vec<f32>, end: &Epilogue<'_>) {
        let cx = Ctx::new(exec.isa, &exec.pool);
        let (k, n) = match self {
            Self::Float32(weight) => weight.size(),
            Self::Int8(weight) => weight.size(),
        };
        out.resize(m * n, 0.0);
        match self {
            Self::Float32(weight) => gemm(&cx, m, n, k, Matrix::row_major(x, k), weight, out, end),
            Self::Int8(weight) => int8::product(&cx, m, x, weight, out, end),
        }
    }

    /// Row `row` of the matrix as numbers.
    fn column(&self, row: usize, out: &mut [f32]) {
        match self {
            Self::Float32(weight) => weight.column(row, out),
            Self::Int8(weight) => weight.column(row, out),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Float32(weight) => weight.bytes(),
            Self::Int8(weight) => weight.bytes(),
        }
    }
}
