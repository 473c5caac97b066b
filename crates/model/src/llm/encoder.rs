//! Encoders of BERT's shape: a text's tokens to one vector (`numeric.md` §12, `model.md` §7.5).
//!
//! ```text
//! config.json             the network
//! modules.json            what follows it: 1_Pooling/config.json, and whether vectors are normalised
//! sentence_bert_config.json, tokenizer_config.json     how many tokens of a text are read
//! model.safetensors, tokenizer.json
//! ```

use std::fmt;

use hallmark_receipt::Digest;
use hallmark_receipt::json::{Object, Value as Signed, object};
use hallmark_receipt::wire::{Fields, FormatError};
use serde_json::Value;

use super::architecture::bounds;
use super::checkpoint::{CONFIG, CheckpointOf, kept, read_config, read_file, tensors};
use super::config::{Config, MAX_CONFIG, Pairs};
use super::error::{LlmError, cut};
use super::model::{TOKENIZER, number, size};
use super::network::Network;
use super::safetensors;
use crate::manifest::{EncoderEntry, Manifest};
use crate::numeric::{canonical_f32, sum};
use crate::onnx::ExternalData;

pub mod reference;

/// `model_type` of config.json.
const FAMILY: &str = "bert";
const MODULES: &str = "modules.json";
const POOLING: &str = "1_Pooling/config.json";
const SENTENCES: &str = "sentence_bert_config.json";
const PROMPTS: &str = "config_sentence_transformers.json";
const ABOUT: &str = "tokenizer_config.json";
/// Files that may lie beside the weights.
const BESIDE: [&str; 9] = [
    CONFIG,
    safetensors::INDEX,
    TOKENIZER,
    ABOUT,
    "special_tokens_map.json",
    MODULES,
    POOLING,
    SENTENCES,
    PROMPTS,
];
/// Kinds of tokens, at most.
const MAX_TYPES: usize = 1024;

/// How the tokens' states become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// The first one's.
    Cls,
}

impl Pooling {
    /// Every way.
    pub const ALL: [Self; 2] = [Self::Mean, Self::Cls];

    /// Its name in a skeleton.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Cls => "cls",
        }
    }
}

/// What an encoder computes.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoder {
    /// Layers.
    pub layers: usize,
    /// Elements of a state, and of a vector.
    pub hidden: usize,
    /// Elements between the two matrices of an MLP.
    pub intermediate: usize,
    /// Attention heads; they divide `hidden`.
    pub heads: usize,
    /// Tokens of the vocabulary.
    pub vocabulary: usize,
    /// Rows of the table of positions.
    pub positions: usize,
    /// Rows of the table of token types; every token has the first.
    pub types: usize,
    /// Added to variances.
    pub epsilon: f32,
    /// Tokens of a text that are read, the model's own frame included; the rest of a longer text is left out.
    pub tokens: usize,
    /// From states to a vector.
    pub pooling: Pooling,
    /// Whether a vector is divided by its length.
    pub normalize: bool,
}

/// A weight of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Part {
    Query,
    QueryBias,
    Key,
    KeyBias,
    Value,
    ValueBias,
    Output,
    OutputBias,
    AttentionNorm,
    AttentionNormBias,
    Up,
    UpBias,
    Down,
    DownBias,
    Norm,
    NormBias,
}

impl Part {
    /// Every part, in the order of the weight tree.
    const ALL: [Self; 16] = [
        Self::Query,
        Self::QueryBias,
        Self::Key,
        Self::KeyBias,
        Self::Value,
        Self::ValueBias,
        Self::Output,
        Self::OutputBias,
        Self::AttentionNorm,
        Self::AttentionNormBias,
        Self::Up,
        Self::UpBias,
        Self::Down,
        Self::DownBias,
        Self::Norm,
        Self::NormBias,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Query => "attention.self.query.weight",
            Self::QueryBias => "attention.self.query.bias",
            Self::Key => "attention.self.key.weight",
            Self::KeyBias => "attention.self.key.bias",
            Self::Value => "attention.self.value.weight",
            Self::ValueBias => "attention.self.value.bias",
            Self::Output => "attention.output.dense.weight",
            Self::OutputBias => "attention.output.dense.bias",
            Self::AttentionNorm => "attention.output.LayerNorm.weight",
            Self::AttentionNormBias => "attention.output.LayerNorm.bias",
            Self::Up => "intermediate.dense.weight",
            Self::UpBias => "intermediate.dense.bias",
            Self::Down => "output.dense.weight",
            Self::DownBias => "output.dense.bias",
            Self::Norm => "output.LayerNorm.weight",
            Self::NormBias => "output.LayerNorm.bias",
        }
    }
}

/// A weight of an encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// One row a token: [vocabulary, hidden].
    Word,
    /// One row a position: [positions, hidden].
    Position,
    /// One row a type: [types, hidden].
    Type,
    /// Scale of the first LayerNorm: [hidden].
    Norm,
    /// Its bias.
    NormBias,
    /// A layer's weight.
    Layer(usize, Part),
}

impl fmt::Display for Role {
    /// The weight's name, as Hugging Face has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word => f.write_str("embeddings.word_embeddings.weight"),
            Self::Position => f.write_str("embeddings.position_embeddings.weight"),
            Self::Type => f.write_str("embeddings.token_type_embeddings.weight"),
            Self::Norm => f.write_str("embeddings.LayerNorm.weight"),
            Self::NormBias => f.write_str("embeddings.LayerNorm.bias"),
            Self::Layer(layer, part) => write!(f, "encoder.layer.{layer}.{}", part.name()),
        }
    }
}

/// Whether the folder with the files called `files` is an encoder's, by `model_type` of its `config.json`.
pub fn is_encoder(files: &[String], source: &dyn ExternalData) -> bool {
    let config = read_config(files, source).ok();
    let config = config.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    config.is_some_and(|config| config.get("model_type").and_then(Value::as_str) == Some(FAMILY))
}

impl Encoder {
    /// Reads the configurations among `files`.
    ///
    /// # Errors
    /// A file that is no JSON, lacks a number, or asks for what `numeric.md` §12 does not define: each named.
    pub fn configured(files: &[String], source: &dyn ExternalData) -> Result<Self, LlmError> {
        let config = Config(Pairs::<Value>::read(&read_config(files, source)?, CONFIG)?);
        let refuse =
            |key, got: &str, supported| Err(LlmError::ConfigUnsupported { key, got: cut(got), supported });
        let texts = [("model_type", FAMILY), ("hidden_act", "gelu"), ("position_embedding_type", "absolute")];
        for (key, supported) in texts {
            if let Some(got) = config.text(key)?.filter(|got| *got != supported) {
                return refuse(key, got, supported);
            }
        }
        for key in ["is_decoder", "add_cross_attention"] {
            if config.flag(key)? == Some(true) {
                return refuse(key, "true", "false");
            }
        }
        if let Some(value) = config.value("quantization_config") {
            return refuse("quantization_config", &value.to_string(), "null");
        }
        let other = |name: &'static str| -> Result<Option<Config>, LlmError> {
            if !files.iter().any(|file| file == name) {
                return Ok(None);
            }
            let bytes = read_file(source, name, MAX_CONFIG as u64)?;
            Pairs::<Value>::read(&bytes, name).map(|members| Some(Config(members)))
        };
        let (pooling, normalize) = modules(files, source, other(POOLING)?)?;
        let sentences = other(SENTENCES)?;
        if let Some(sentences) = &sentences
            && sentences.flag("do_lower_case")? == Some(true)
        {
            return refuse("do_lower_case", "true", "false: the tokenizer's own normalizer does it");
        }
        if let Some(prompts) = other(PROMPTS)?
            && let Some(name) = prompts.text("default_prompt_name")?
        {
            return refuse("default_prompt_name", name, "null");
        }
        let positions = config.size("max_position_embeddings")?;
        let said = match sentences.map(|config| config.optional_size("max_seq_length")).transpose()?.flatten()
        {
            Some(said) => Some(said),
            // Some write a number beyond any integer where there is no limit.
            None => other(ABOUT)?.and_then(|about| about.optional_size("model_max_length").ok().flatten()),
        };
        let encoder = Self {
            layers: config.size("num_hidden_layers")?,
            hidden: config.size("hidden_size")?,
            intermediate: config.size("intermediate_size")?,
            heads: config.size("num_attention_heads")?,
            vocabulary: config.size("vocab_size")?,
            positions,
            types: config.size("type_vocab_size")?,
            epsilon: config.number("layer_norm_eps")?,
            tokens: said.unwrap_or(positions).min(positions),
            pooling,
            normalize,
        };
        encoder.check()?;
        Ok(encoder)
    }

    /// Elements of a head.
    pub fn head_dim(&self) -> usize {
        self.hidden / self.heads.max(1)
    }

    /// The vector of a text whose tokens' last states are `states`, `hidden` elements each (`numeric.md` §12).
    pub fn pool(&self, states: &[f32]) -> Vec<f32> {
        let rows = states.chunks_exact(self.hidden.max(1));
        let count = rows.len() as f32;
        let mean = |i: usize| {
            let column = rows.clone().map(|row| row.get(i).copied().unwrap_or_default());
            canonical_f32(sum(column) / count)
        };
        let mut vector: Vec<f32> = match self.pooling {
            Pooling::Mean => (0..self.hidden).map(mean).collect(),
            Pooling::Cls => states.get(..self.hidden).unwrap_or_default().to_vec(),
        };
        if self.normalize {
            let length = sum(vector.iter().map(|x| x * x)).sqrt();
            for x in &mut vector {
                *x = if length == 0.0 { 0.0 } else { canonical_f32(*x / length) };
            }
        }
        vector
    }
}

/// What follows the network: pooling, and whether vectors are normalised. Without `modules.json` the mean, as it is.
fn modules(
    files: &[String],
    source: &dyn ExternalData,
    pooling: Option<Config>,
) -> Result<(Pooling, bool), LlmError> {
    if !files.iter().any(|file| file == MODULES) {
        return Ok((Pooling::Mean, false));
    }
    let bytes = read_file(source, MODULES, MAX_CONFIG as u64)?;
    let modules: Vec<Value> = serde_json::from_slice(&bytes)
        .map_err(|error| LlmError::Json { what: MODULES, why: cut(&error.to_string()) })?;
    let part =
        |module: &Value, key: &str| module.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    // The last part of a class's path: what stands before it changes with the package's version.
    let kinds: Vec<String> = modules
        .iter()
        .map(|module| part(module, "type").rsplit('.').next().unwrap_or_default().to_owned())
        .collect();
    let normalize = match kinds.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["Transformer", "Pooling"] => false,
        ["Transformer", "Pooling", "Normalize"] => true,
        _ => {
            let supported = "Transformer, Pooling, and perhaps Normalize";
            return Err(LlmError::ConfigUnsupported {
                key: "modules",
                got: cut(&kinds.join(", ")),
                supported,
            });
        }
    };
    let paths: Vec<String> = modules.iter().map(|module| part(module, "path")).take(2).collect();
    if paths != ["", "1_Pooling"] {
        let (key, got) = ("path", cut(&paths.join(", ")));
        return Err(LlmError::ConfigUnsupported { key, got, supported: "the folder itself, and 1_Pooling" });
    }
    let pooling = pooling.ok_or(LlmError::FileMissing { what: POOLING })?;
    pooling_of(&pooling).map(|pooling| (pooling, normalize))
}

/// `1_Pooling/config.json`: one way is switched on, or named.
fn pooling_of(config: &Config) -> Result<Pooling, LlmError> {
    let supported = "mean or cls, one of them";
    let refuse =
        |got: &str| Err(LlmError::ConfigUnsupported { key: "pooling_mode", got: cut(got), supported });
    if let Some(name) = config.text("pooling_mode")? {
        let known = Pooling::ALL.into_iter().find(|pooling| pooling.name() == name);
        return known.map_or_else(|| refuse(name), Ok);
    }
    let on = |(key, value): (&String, &Value)| {
        (key.starts_with("pooling_mode_") && *value == Value::Bool(true)).then(|| key.clone())
    };
    let on: Vec<String> = config.0.iter().filter_map(on).collect();
    match on.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["pooling_mode_mean_tokens"] => Ok(Pooling::Mean),
        ["pooling_mode_cls_token"] => Ok(Pooling::Cls),
        _ => refuse(&on.join(", ")),
    }
}

impl Network for Encoder {
    type Role = Role;
    const FORMAT: &'static str = "hallmark-encoder/1";

    fn check(&self) -> Result<(), LlmError> {
        let sizes = [
            ("layers", self.layers, bounds::LAYERS),
            ("hidden size", self.hidden, bounds::HIDDEN),
            ("intermediate size", self.intermediate, bounds::INTERMEDIATE),
            ("attention heads", self.heads, bounds::HEADS),
            ("head size", self.head_dim(), bounds::HEAD_DIM),
            ("vocabulary", self.vocabulary, bounds::VOCABULARY),
            ("positions", self.positions, bounds::CONTEXT),
            ("token types", self.types, MAX_TYPES),
            ("tokens of a text", self.tokens, self.positions),
        ];
        for (what, got, limit) in sizes {
            if got == 0 || got > limit {
                return Err(LlmError::Bound { what, got: got as u64, limit: limit as u64 });
            }
        }
        if !self.hidden.is_multiple_of(self.heads) {
            return Err(LlmError::Inconsistent { what: "attention heads must divide the hidden size" });
        }
        if !(self.epsilon.is_finite() && self.epsilon > 0.0) {
            return Err(LlmError::Number { what: "layer_norm_eps", got: self.epsilon.to_string() });
        }
        super::architecture::check_parameters(&self.weights())
    }

    fn weights(&self) -> Vec<(Role, Vec<usize>)> {
        let (hidden, wide) = (self.hidden, self.intermediate);
        let mut all = vec![
            (Role::Word, vec![self.vocabulary, hidden]),
            (Role::Position, vec![self.positions, hidden]),
            (Role::Type, vec![self.types, hidden]),
            (Role::Norm, vec![hidden]),
            (Role::NormBias, vec![hidden]),
        ];
        for layer in 0..self.layers {
            all.extend(Part::ALL.map(|part| {
                let shape = match part {
                    Part::Query | Part::Key | Part::Value | Part::Output => vec![hidden, hidden],
                    Part::Up => vec![wide, hidden],
                    Part::Down => vec![hidden, wide],
                    Part::UpBias => vec![wide],
                    _ => vec![hidden],
                };
                (Role::Layer(layer, part), shape)
            }));
        }
        all
    }

    fn to_object(&self) -> Object {
        object([
            ("epsilon", Signed::Str(self.epsilon.to_string())),
            ("family", FAMILY.into()),
            ("heads", size(self.heads)),
            ("hidden", size(self.hidden)),
            ("intermediate", size(self.intermediate)),
            ("layers", size(self.layers)),
            ("normalize", Signed::Bool(self.normalize)),
            ("pooling", self.pooling.name().into()),
            ("positions", size(self.positions)),
            ("tokens", size(self.tokens)),
            ("types", size(self.types)),
            ("vocabulary", size(self.vocabulary)),
        ])
    }

    fn take(mut fields: Fields) -> Result<Self, FormatError> {
        fields.constant("family", FAMILY)?;
        let name = fields.text("pooling", 16)?;
        let pooling = Pooling::ALL.into_iter().find(|pooling| pooling.name() == name);
        let expected = "mean or cls";
        let pooling = pooling.ok_or_else(|| FormatError::Value { path: fields.path("pooling"), expected })?;
        let epsilon = number(&mut fields, "epsilon")?;
        let normalize = match fields.value("normalize")? {
            Signed::Bool(flag) => flag,
            other => {
                let (path, got) = (fields.path("normalize"), other.kind());
                return Err(FormatError::Kind { path, expected: "a truth value", got });
            }
        };
        let mut size = |name| {
            let size = usize::try_from(fields.integer(name)?);
            size.map_err(|_| FormatError::Value { path: fields.path(name), expected: "a size" })
        };
        let encoder = Self {
            layers: size("layers")?,
            hidden: size("hidden")?,
            intermediate: size("intermediate")?,
            heads: size("heads")?,
            vocabulary: size("vocabulary")?,
            positions: size("positions")?,
            types: size("types")?,
            tokens: size("tokens")?,
            epsilon,
            pooling,
            normalize,
        };
        fields.finish()?;
        Ok(encoder)
    }

    fn belongs(name: &str) -> bool {
        BESIDE.contains(&name) || name.ends_with(".safetensors")
    }

    fn open<'a>(files: &[String], source: &'a dyn ExternalData) -> Result<CheckpointOf<'a, Self>, LlmError> {
        let encoder = Self::configured(files, source)?;
        let mut tensors = tensors(&kept(files, source)?, source)?;
        // BERT's own pooler, of which sentence embeddings make no use.
        tensors.retain(|name, _| !name.starts_with("pooler."));
        CheckpointOf::of(encoder, tensors, source, &|role| role.to_string())
    }

    fn describe(
        _: &CheckpointOf<'_, Self>,
        manifest: &mut Manifest,
        digest: &dyn Fn(&str) -> Option<Digest>,
    ) -> Result<(), LlmError> {
        let tokenizer = digest(TOKENIZER).ok_or(LlmError::FileMissing { what: TOKENIZER })?;
        manifest.encoder = Some(EncoderEntry { tokenizer });
        Ok(())
    }

    fn supported(manifest: &Manifest) -> Result<(), LlmError> {
        manifest.encoder.as_ref().map(|_| ()).ok_or(LlmError::NotEncoder)
    }
}
