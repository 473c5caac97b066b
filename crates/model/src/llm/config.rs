//! Hugging Face's `config.json`.
//!
//! ```
//! use hallmark_model::llm::config;
//! let text = br#"{"model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
//!     "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 256, "max_position_embeddings": 128,
//!     "rms_norm_eps": 1e-05, "rope_theta": 10000.0}"#;
//! let architecture = config::parse(text)?;
//! assert_eq!((architecture.head_dim, architecture.kv_heads), (16, 2));
//! # Ok::<(), hallmark_model::llm::LlmError>(())
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::architecture::{Architecture, Arithmetic, Family, Rope, Scaling};
use super::error::{LlmError, cut};

/// Bytes of a config.
pub const MAX_CONFIG: usize = 1 << 20;

/// Members of an object in their order, names repeated or not: a reader that keeps the last of two hides the first.
pub(super) struct Pairs<T>(pub(super) Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Pairs<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Pairs<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<T>, A::Error> {
                let mut all = Vec::new();
                while let Some(member) = map.next_entry()? {
                    all.push(member);
                }
                Ok(Pairs(all))
            }
        }
        deserializer.deserialize_map(Members(PhantomData))
    }
}

impl<T> Pairs<T> {
    /// Reads `bytes` as an object of distinct members.
    pub(super) fn read<'de>(bytes: &'de [u8], what: &'static str) -> Result<BTreeMap<String, T>, LlmError>
    where
        T: Deserialize<'de>,
    {
        let pairs: Self = serde_json::from_slice(bytes)
            .map_err(|error| LlmError::Json { what, why: cut(&error.to_string()) })?;
        let mut all = BTreeMap::new();
        for (key, value) in pairs.0 {
            if all.contains_key(&key) {
                return Err(LlmError::Duplicate { what, key: cut(&key) });
            }
            all.insert(key, value);
        }
        Ok(all)
    }
}

/// Reads a config.
///
/// # Errors
/// A config that is no JSON, lacks a number, or asks for what `numeric.md` §11 does not define: each named.
pub fn parse(bytes: &[u8]) -> Result<Architecture, LlmError> {
    if bytes.len() > MAX_CONFIG {
        let (got, limit) = (bytes.len() as u64, MAX_CONFIG as u64);
        return Err(LlmError::FileTooLarge { name: "config.json".to_owned(), got, limit });
    }
    let config = Config(Pairs::<Value>::read(bytes, "config.json")?);
    let family = config.family()?;
    let supported = "silu";
    match config.text("hidden_act")? {
        None | Some("silu") => {}
        Some(got) => {
            return Err(LlmError::ConfigUnsupported { key: "hidden_act", got: cut(got), supported });
        }
    }
    config.refuse_foreign()?;
    let context = config.size("max_position_embeddings")?;
    config.full_attention(family, context)?;
    let (hidden, heads) = (config.size("hidden_size")?, config.size("num_attention_heads")?);
    let head_dim = match config.optional_size("head_dim")? {
        Some(head_dim) => head_dim,
        None if heads > 0 && hidden.is_multiple_of(heads) => hidden / heads,
        None => return Err(LlmError::Inconsistent { what: "attention heads must divide the hidden size" }),
    };
    let attention_bias = config.flag("attention_bias")?.unwrap_or(false);
    let architecture = Architecture {
        family,
        layers: config.size("num_hidden_layers")?,
        hidden,
        intermediate: config.size("intermediate_size")?,
        heads,
        kv_heads: config.optional_size("num_key_value_heads")?.unwrap_or(heads),
        head_dim,
        vocabulary: config.size("vocab_size")?,
        context,
        epsilon: config.number(&config.0, "rms_norm_eps")?,
        rope: config.rope()?,
        tied: config.flag("tie_word_embeddings")?.unwrap_or(false),
        qkv_bias: family == Family::Qwen2 || (family != Family::Mistral && attention_bias),
        output_bias: matches!(family, Family::Llama | Family::Qwen3) && attention_bias,
        qk_norm: family == Family::Qwen3,
        arithmetic: Arithmetic::Float32,
    };
    architecture.check()?;
    Ok(architecture)
}

pub(super) type Members = BTreeMap<String, Value>;

/// A file's members.
pub(super) struct Config(pub(super) Members);

impl Config {
    /// A member that is there and not null.
    pub(super) fn value(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn optional_size(&self, key: &'static str) -> Result<Option<usize>, LlmError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let size = value.as_u64().and_then(|value| usize::try_from(value).ok());
        size.map(Some).ok_or(LlmError::ConfigKind { key, expected: "a non-negative integer" })
    }

    pub(super) fn size(&self, key: &'static str) -> Result<usize, LlmError> {
        self.optional_size(key)?.ok_or(LlmError::ConfigMissing { key })
    }

    pub(super) fn flag(&self, key: &'static str) -> Result<Option<bool>, LlmError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        value.as_bool().map(Some).ok_or(LlmError::ConfigKind { key, expected: "true or false" })
    }

    pub(super) fn text(&self, key: &'static str) -> Result<Option<&str>, LlmError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        value.as_str().map(Some).ok_or(LlmError::ConfigKind { key, expected: "text" })
    }

    pub(super) fn number(&self, members: &Members, key: &'static str) -> Result<f32, LlmError> {
        let value = members.get(key).ok_or(LlmError::ConfigMissing { key })?;
        value.as_f64().map(|x| x as f32).ok_or(LlmError::ConfigKind { key, expected: "a number" })
    }

    fn family(&self) -> Result<Family, LlmError> {
        let got = self.text("model_type")?.ok_or(LlmError::ConfigMissing { key: "model_type" })?;
        Family::ALL.into_iter().find(|family| family.name() == got).ok_or_else(|| {
            let supported = "llama, mistral, qwen2, qwen3";
            LlmError::ConfigUnsupported { key: "model_type", got: cut(got), supported }
        })
    }

    /// Members that change what is computed in ways that are not implemented; a neutral value passes.
    fn refuse_foreign(&self) -> Result<(), LlmError> {
        let refuse = |key, value: &Value, supported| {
            Err(LlmError::ConfigUnsupported { key, got: cut(&value.to_string()), supported })
        };
        for key in
            ["quantization_config", "attn_logit_softcapping", "final_logit_softcapping", "no_rope_layers"]
        {
            if let Some(value) = self.value(key) {
                return refuse(key, value, "null");
            }
        }
        for key in [
            "partial_rotary_factor",
            "attention_multiplier",
            "residual_multiplier",
            "embedding_multiplier",
            "logits_scaling",
        ] {
            if let Some(value) = self.value(key).filter(|value| value.as_f64() != Some(1.0)) {
                return refuse(key, value, "1");
            }
        }
        if let Some(value) = self.value("mlp_bias").filter(|value| value.as_bool() != Some(false)) {
            return refuse("mlp_bias", value, "false");
        }
        Ok(())
    }

    /// Every position must see all positions before it.
    fn full_attention(&self, family: Family, context: usize) -> Result<(), LlmError> {
        let window = self.optional_size("sliding_window")?;
        let used = self.flag("use_sliding_window")?.unwrap_or(family == Family::Mistral);
        if let Some(window) = window.filter(|&window| used && window < context) {
            let supported = "null, or no shorter than max_position_embeddings";
            return Err(LlmError::ConfigUnsupported {
                key: "sliding_window",
                got: window.to_string(),
                supported,
            });
        }
        let (key, supported) = ("layer_types", "full_attention for every layer");
        match self.value(key) {
            None => Ok(()),
            Some(Value::Array(items)) => {
                match items.iter().find(|item| item.as_str() != Some("full_attention")) {
                    None => Ok(()),
                    Some(item) => {
                        Err(LlmError::ConfigUnsupported { key, got: cut(&item.to_string()), supported })
                    }
                }
            }
            Some(_) => Err(LlmError::ConfigKind { key, expected: "a list" }),
        }
    }

    /// `rope_theta` and `rope_scaling`, or `rope_parameters`, which newer configs have for both.
    fn rope(&self) -> Result<Rope, LlmError> {
        let members = |key| match self.value(key) {
            None => Ok(None),
            Some(Value::Object(members)) => {
                Ok(Some(members.iter().map(|(k, v)| (k.clone(), v.clone())).collect::<Members>()))
            }
            Some(_) => Err(LlmError::ConfigKind { key, expected: "an object" }),
        };
        let (new, old) = (members("rope_parameters")?, members("rope_scaling")?);
        if let (Some(new), Some(old)) = (&new, &old)
            && new != old
        {
            return Err(LlmError::Inconsistent { what: "config: rope_parameters and rope_scaling differ" });
        }
        let scaling = new.or(old).unwrap_or_default();
        let key = "rope_theta";
        let theta = match (self.value(key), scaling.get(key)) {
            (Some(outer), Some(inner)) if outer.as_f64() != inner.as_f64() => {
                return Err(LlmError::Inconsistent { what: "config: two values of rope_theta" });
            }
            (Some(_), _) => self.number(&self.0, key)?,
            (None, Some(_)) => self.number(&scaling, key)?,
            (None, None) => 10_000.0,
        };
        if let Some(value) = scaling.get("partial_rotary_factor").filter(|value| value.as_f64() != Some(1.0))
        {
            let (key, got) = ("partial_rotary_factor", cut(&value.to_string()));
            return Err(LlmError::ConfigUnsupported { key, got, supported: "1" });
        }
        let kind = match scaling.get("rope_type").or_else(|| scaling.get("type")) {
            None | Some(Value::Null) => "default",
            Some(Value::String(kind)) => kind,
            Some(_) => return Err(LlmError::ConfigKind { key: "rope_type", expected: "text" }),
        };
        let scaling = match kind {
            "default" => Scaling::None,
            "linear" => Scaling::Linear { factor: self.number(&scaling, "factor")? },
            "llama3" => Scaling::Llama3 {
                factor: self.number(&scaling, "factor")?,
                low: self.number(&scaling, "low_freq_factor")?,
                high: self.number(&scaling, "high_freq_factor")?,
                original: self.number(&scaling, "original_max_position_embeddings")?,
            },
            got => {
                let supported = "default, linear, llama3";
                return Err(LlmError::ConfigUnsupported { key: "rope_type", got: cut(got), supported });
            }
        };
        Ok(Rope { theta, scaling })
    }
}
