//! An encoder's weights, packed once.

use hallmark_model::llm::encoder::{Part, Role};
use hallmark_model::llm::{Arithmetic, CheckpointOf, Encoder, LlmError};

use crate::decoder::weights::Linear as Matrix;
use crate::isa::Isa;

/// The weights of an encoder, ready for one instruction set. Several encoders may share them.
#[derive(Debug)]
pub struct Weights {
    pub(crate) isa: Isa,
    pub(crate) architecture: Encoder,
    /// Rows of the tables, as they are.
    pub(crate) words: Vec<f32>,
    pub(crate) positions: Vec<f32>,
    /// The row of the first token type.
    pub(crate) kind: Vec<f32>,
    pub(crate) norm: Norm,
    pub(crate) layers: Vec<Layer>,
}

/// Scale and bias of a LayerNorm.
#[derive(Debug)]
pub(crate) struct Norm {
    pub(crate) scale: Vec<f32>,
    pub(crate) bias: Vec<f32>,
}

/// A matrix and its bias.
#[derive(Debug)]
pub(crate) struct Linear {
    pub(crate) weight: Matrix,
    pub(crate) bias: Vec<f32>,
}

/// The weights of one layer. Matrices that read the same input stand side by side.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) qkv: Linear,
    pub(crate) output: Linear,
    pub(crate) attention_norm: Norm,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
    pub(crate) norm: Norm,
}

impl Weights {
    /// Reads and packs every weight of `checkpoint` for `isa` (the portable one where the processor lacks it).
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn load(checkpoint: &CheckpointOf<'_, Encoder>, isa: Isa) -> Result<Self, LlmError> {
        let (isa, a) = (isa.or_portable(), checkpoint.architecture().clone());
        let mut kind = checkpoint.values(Role::Type)?;
        kind.truncate(a.hidden);
        let layers =
            (0..a.layers).map(|layer| Layer::load(checkpoint, isa, layer)).collect::<Result<_, _>>()?;
        Ok(Self {
            isa,
            words: checkpoint.values(Role::Word)?,
            positions: checkpoint.values(Role::Position)?,
            kind,
            norm: Norm { scale: checkpoint.values(Role::Norm)?, bias: checkpoint.values(Role::NormBias)? },
            layers,
            architecture: a,
        })
    }

    /// What the encoder computes.
    pub fn architecture(&self) -> &Encoder {
        &self.architecture
    }
}

impl Layer {
    fn load(checkpoint: &CheckpointOf<'_, Encoder>, isa: Isa, layer: usize) -> Result<Self, LlmError> {
        let a = checkpoint.architecture();
        let read = |part| checkpoint.values(Role::Layer(layer, part));
        let norm = |scale, bias| Ok::<_, LlmError>(Norm { scale: read(scale)?, bias: read(bias)? });
        let linear = |parts: &[(Part, Part)], k| {
            let (mut weight, mut bias) = (Vec::new(), Vec::new());
            for &(matrix, vector) in parts {
                weight.append(&mut read(matrix)?);
                bias.append(&mut read(vector)?);
            }
            Ok::<_, LlmError>(Linear { weight: Matrix::pack(isa, Arithmetic::Float32, &weight, k), bias })
        };
        let qkv =
            [(Part::Query, Part::QueryBias), (Part::Key, Part::KeyBias), (Part::Value, Part::ValueBias)];
        Ok(Self {
            qkv: linear(&qkv, a.hidden)?,
            output: linear(&[(Part::Output, Part::OutputBias)], a.hidden)?,
            attention_norm: norm(Part::AttentionNorm, Part::AttentionNormBias)?,
            up: linear(&[(Part::Up, Part::UpBias)], a.hidden)?,
            down: linear(&[(Part::Down, Part::DownBias)], a.intermediate)?,
            norm: norm(Part::Norm, Part::NormBias)?,
        })
    }
}
