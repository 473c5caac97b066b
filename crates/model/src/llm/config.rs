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
use serde_json::{Map, Value};

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
    match config.text("hidden_act")? {
        // Two names of one function.
        None | Some("silu" | "swish") => {}
        Some(got) => {
            let supported = "silu, swish";
            return Err(LlmError::ConfigUnsupported { key: "hidden_act", got: cut(got), supported });
        }
    }
    config.refuse_foreign()?;
    let layers = config.size("num_hidden_layers")?;
    let (hidden, heads) = (config.size("hidden_size")?, config.size("num_attention_heads")?);
    let fixed = Defaults::of(family).head_dim.filter(|_| !config.0.contains_key("head_dim"));
    let head_dim = match config.optional_size("head_dim")?.or(fixed) {
        Some(head_dim) => head_dim,
        None if heads > 0 && hidden.is_multiple_of(heads) => hidden / heads,
        None => return Err(LlmError::Inconsistent { what: "attention heads must divide the hidden size" }),
    };
    let attention_bias = config.flag("attention_bias")?.unwrap_or(false);
    let architecture = Architecture {
        family,
        layers,
        hidden,
        intermediate: config.size("intermediate_size")?,
        heads,
        kv_heads: config.optional_size("num_key_value_heads")?.unwrap_or(heads),
        head_dim,
        vocabulary: config.size("vocab_size")?,
        context: config.context(family, layers)?,
        epsilon: config.optional_number("rms_norm_eps")?.unwrap_or(1e-6),
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

/// What `transformers` takes for members that a config leaves out; a null is none of them.
struct Defaults {
    positions: usize,
    window: Option<usize>,
    /// `None`: the hidden size over the heads.
    head_dim: Option<usize>,
}

impl Defaults {
    fn of(family: Family) -> Self {
        let (positions, window, head_dim) = match family {
            Family::Llama => (2048, None, None),
            Family::Mistral => (131_072, Some(4096), None),
            Family::Qwen2 => (32_768, Some(4096), None),
            Family::Qwen3 => (32_768, Some(4096), Some(128)),
        };
        Self { positions, window, head_dim }
    }
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

    fn optional_number(&self, key: &'static str) -> Result<Option<f32>, LlmError> {
        self.0.get(key).map(|value| number(value, key)).transpose()
    }

    pub(super) fn number(&self, key: &'static str) -> Result<f32, LlmError> {
        self.optional_number(key)?.ok_or(LlmError::ConfigMissing { key })
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

    /// Positions of which each sees all before it: the model's, or no more than its attention's window. Inside the window nothing
    /// is hidden: a position sees itself and `window - 1` before it.
    fn context(&self, family: Family, layers: usize) -> Result<usize, LlmError> {
        let key = "max_position_embeddings";
        let context = if self.0.contains_key(key) { self.size(key)? } else { Defaults::of(family).positions };
        Ok(self.window(family, layers)?.map_or(context, |window| context.min(window)))
    }

    /// The window of any layer's attention, by `transformers`' rules for the family.
    fn window(&self, family: Family, layers: usize) -> Result<Option<usize>, LlmError> {
        let key = "sliding_window";
        let said =
            if self.0.contains_key(key) { self.optional_size(key)? } else { Defaults::of(family).window };
        let used = self.flag("use_sliding_window")?.unwrap_or(false);
        let window = said.filter(|_| used || family == Family::Mistral);
        let listed = self.sliding_layers()?;
        let sliding = match family {
            Family::Mistral => true,
            // It has no windows; one that is asked for by name is taken at its word.
            Family::Llama => listed.unwrap_or(true),
            Family::Qwen2 | Family::Qwen3 => match listed {
                Some(listed) => listed,
                None => self.optional_size("max_window_layers")?.unwrap_or(28) < layers,
            },
        };
        match window.filter(|_| sliding) {
            Some(0) => {
                let supported = "null, or a positive number";
                Err(LlmError::ConfigUnsupported { key, got: "0".to_owned(), supported })
            }
            None if listed == Some(true) => {
                let (key, got) = ("layer_types", "sliding_attention without a window in use".to_owned());
                Err(LlmError::ConfigUnsupported { key, got, supported: "full_attention for every layer" })
            }
            window => Ok(window),
        }
    }

    /// Whether `layer_types` has a layer with a window; `None` if there is no such list.
    fn sliding_layers(&self) -> Result<Option<bool>, LlmError> {
        let (key, supported) = ("layer_types", "full_attention, sliding_attention");
        let mut sliding = false;
        match self.value(key) {
            None => return Ok(None),
            Some(Value::Array(items)) => {
                for item in items {
                    match item.as_str() {
                        Some("full_attention") => {}
                        Some("sliding_attention") => sliding = true,
                        _ => {
                            let got = cut(&item.to_string());
                            return Err(LlmError::ConfigUnsupported { key, got, supported });
                        }
                    }
                }
            }
            Some(_) => return Err(LlmError::ConfigKind { key, expected: "a list" }),
        }
        Ok(Some(sliding))
    }

    /// `rope_theta` and `rope_scaling`, or `rope_parameters`, which newer configs have for both. What is said twice must be the same.
    fn rope(&self) -> Result<Rope, LlmError> {
        let mut objects: Vec<&Map<String, Value>> = Vec::new();
        for key in ["rope_parameters", "rope_scaling"] {
            match self.value(key) {
                None => {}
                Some(Value::Object(members)) => objects.extend((!members.is_empty()).then_some(members)),
                Some(_) => return Err(LlmError::ConfigKind { key, expected: "an object" }),
            }
        }
        let (key, mut theta): (_, Option<f32>) = ("rope_theta", None);
        for value in objects.iter().filter_map(|members| members.get(key)).chain(self.value(key)) {
            let value = number(value, key)?;
            if theta.is_some_and(|theta| theta != value) {
                return Err(LlmError::Inconsistent { what: "config: two values of rope_theta" });
            }
            theta = Some(value);
        }
        let mut scaling: Option<Scaling> = None;
        for members in objects {
            let read = read_scaling(members)?;
            if scaling.is_some_and(|scaling| scaling != read) {
                return Err(LlmError::Inconsistent {
                    what: "config: rope_parameters and rope_scaling differ",
                });
            }
            scaling = Some(read);
        }
        Ok(Rope { theta: theta.unwrap_or(10_000.0), scaling: scaling.unwrap_or(Scaling::None) })
    }
}

fn number(value: &Value, key: &'static str) -> Result<f32, LlmError> {
    value.as_f64().map(|x| x as f32).ok_or(LlmError::ConfigKind { key, expected: "a number" })
}

/// What `rope_parameters` or `rope_scaling` does to the frequencies.
fn read_scaling(members: &Map<String, Value>) -> Result<Scaling, LlmError> {
    if let Some((kind, _)) = members.iter().find(|(_, value)| value.is_object()) {
        let supported = "one for all layers";
        return Err(LlmError::ConfigUnsupported { key: "rope_parameters", got: cut(kind), supported });
    }
    if let Some(value) = members.get("partial_rotary_factor").filter(|value| value.as_f64() != Some(1.0)) {
        let (key, got) = ("partial_rotary_factor", cut(&value.to_string()));
        return Err(LlmError::ConfigUnsupported { key, got, supported: "1" });
    }
    let kind = match members.get("rope_type").or_else(|| members.get("type")) {
        None | Some(Value::Null) => "default",
        Some(Value::String(kind)) => kind,
        Some(_) => return Err(LlmError::ConfigKind { key: "rope_type", expected: "text" }),
    };
    let number = |key| number(members.get(key).ok_or(LlmError::ConfigMissing { key })?, key);
    Ok(match kind {
        "default" => Scaling::None,
        "linear" => Scaling::Linear { factor: number("factor")? },
        "llama3" => Scaling::Llama3 {
            factor: number("factor")?,
            low: number("low_freq_factor")?,
            high: number("high_freq_factor")?,
            original: number("original_max_position_embeddings")?,
        },
        got => {
            let supported = "default, linear, llama3";
            return Err(LlmError::ConfigUnsupported { key: "rope_type", got: cut(got), supported });
        }
    })
}
