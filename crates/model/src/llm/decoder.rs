//! A decoder as a network: its skeleton's members, its files, its entry in the manifest.

use hallmark_receipt::Digest;
use hallmark_receipt::json::{Object, Value, object};
use hallmark_receipt::wire::{Fields, FormatError};

use super::architecture::{Architecture, Arithmetic, Family, Role, Rope, Scaling};
use super::carried::Carried;
use super::checkpoint::{COMPUTE, CONFIG, Checkpoint};
use super::error::LlmError;
use super::model::{TEMPLATES, TOKENIZER, number, size};
use super::network::Network;
use super::{safetensors, sampling};
use crate::manifest::{DecoderEntry, Manifest};
use crate::onnx::ExternalData;

/// Files that may lie beside the weights.
const BESIDE: [&str; 8] = [
    CONFIG,
    COMPUTE,
    safetensors::INDEX,
    TOKENIZER,
    "chat_template.jinja",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
];

impl Network for Architecture {
    type Role = Role;
    const FORMAT: &'static str = "hallmark-decoder/1";

    fn check(&self) -> Result<(), LlmError> {
        Architecture::check(self)
    }

    fn weights(&self) -> Vec<(Role, Vec<usize>)> {
        Architecture::weights(self)
    }

    fn to_object(&self) -> Object {
        let a = self;
        let text = |x: f32| Value::Str(x.to_string());
        let scaling = match a.rope.scaling {
            Scaling::None => object([("type", "none".into())]),
            Scaling::Factors => object([("type", "factors".into())]),
            Scaling::Linear { factor } => object([("factor", text(factor)), ("type", "linear".into())]),
            Scaling::Llama3 { factor, low, high, original } => object([
                ("factor", text(factor)),
                ("high", text(high)),
                ("low", text(low)),
                ("original", text(original)),
                ("type", "llama3".into()),
            ]),
        };
        let mut members = object([
            ("context", size(a.context)),
            ("epsilon", text(a.epsilon)),
            ("family", a.family.name().into()),
            ("head_dim", size(a.head_dim)),
            ("heads", size(a.heads)),
            ("hidden", size(a.hidden)),
            ("intermediate", size(a.intermediate)),
            ("kv_heads", size(a.kv_heads)),
            ("layers", size(a.layers)),
            ("output_bias", Value::Bool(a.output_bias)),
            ("qk_norm", Value::Bool(a.qk_norm)),
            ("qkv_bias", Value::Bool(a.qkv_bias)),
            (
                "rope",
                Value::Object(object([("scaling", Value::Object(scaling)), ("theta", text(a.rope.theta))])),
            ),
            ("tied", Value::Bool(a.tied)),
            ("vocabulary", size(a.vocabulary)),
        ]);
        if a.arithmetic != Arithmetic::Float32 {
            members.insert("arithmetic".to_owned(), a.arithmetic.name().into());
        }
        members
    }

    fn take(mut fields: Fields) -> Result<Self, FormatError> {
        let family = fields.text("family", 16)?;
        let expected = "llama, mistral, qwen2 or qwen3";
        let family = Family::ALL.into_iter().find(|known| known.name() == family);
        let family = family.ok_or_else(|| FormatError::Value { path: fields.path("family"), expected })?;
        let mut rope = fields.fields("rope")?;
        let mut scaling = rope.fields("scaling")?;
        let kind = scaling.text("type", 16)?;
        let scaled = match kind.as_str() {
            "none" => Scaling::None,
            "factors" => Scaling::Factors,
            "linear" => Scaling::Linear { factor: number(&mut scaling, "factor")? },
            "llama3" => Scaling::Llama3 {
                factor: number(&mut scaling, "factor")?,
                low: number(&mut scaling, "low")?,
                high: number(&mut scaling, "high")?,
                original: number(&mut scaling, "original")?,
            },
            _ => {
                let expected = "none, factors, linear or llama3";
                return Err(FormatError::Value { path: scaling.path("type"), expected });
            }
        };
        scaling.finish()?;
        let theta = number(&mut rope, "theta")?;
        rope.finish()?;
        let mut size = |name| {
            let size = usize::try_from(fields.integer(name)?);
            size.map_err(|_| FormatError::Value { path: fields.path(name), expected: "a size" })
        };
        let (layers, hidden, intermediate) = (size("layers")?, size("hidden")?, size("intermediate")?);
        let (heads, kv_heads, head_dim) = (size("heads")?, size("kv_heads")?, size("head_dim")?);
        let (vocabulary, context) = (size("vocabulary")?, size("context")?);
        let epsilon = number(&mut fields, "epsilon")?;
        let mut flag = |name| match fields.value(name)? {
            Value::Bool(flag) => Ok(flag),
            other => Err(FormatError::Kind {
                path: fields.path(name),
                expected: "a truth value",
                got: other.kind(),
            }),
        };
        let (tied, qkv_bias) = (flag("tied")?, flag("qkv_bias")?);
        let (output_bias, qk_norm) = (flag("output_bias")?, flag("qk_norm")?);
        let arithmetic = match fields.has("arithmetic") {
            true => {
                let name = fields.text("arithmetic", 16)?;
                let (path, expected) = (fields.path("arithmetic"), "int8, or nothing for float32");
                Arithmetic::named(&name).ok_or(FormatError::Value { path, expected })?
            }
            false => Arithmetic::Float32,
        };
        fields.finish()?;
        let rope = Rope { theta, scaling: scaled };
        Ok(Self {
            family,
            layers,
            hidden,
            intermediate,
            heads,
            kv_heads,
            head_dim,
            vocabulary,
            context,
            epsilon,
            rope,
            tied,
            qkv_bias,
            output_bias,
            qk_norm,
            arithmetic,
        })
    }

    fn belongs(name: &str) -> bool {
        BESIDE.contains(&name) || name.ends_with(".safetensors") || name.ends_with(".gguf")
    }

    fn open<'a>(files: &[String], source: &'a dyn ExternalData) -> Result<Checkpoint<'a>, LlmError> {
        Checkpoint::open(files, source)
    }

    fn read(checkpoint: &Checkpoint<'_>, role: Role) -> Result<Vec<f32>, LlmError> {
        checkpoint.read(role)
    }

    fn describe(
        checkpoint: &Checkpoint<'_>,
        manifest: &mut Manifest,
        digest: &dyn Fn(&str) -> Option<Digest>,
    ) -> Result<(), LlmError> {
        let mut entry = DecoderEntry {
            sampling: sampling::VERSION,
            tokenizer: digest(TOKENIZER),
            template: TEMPLATES.into_iter().find_map(digest),
        };
        let gguf = checkpoint.files().into_iter().find(|name| name.ends_with(".gguf"));
        if let Some(file) = gguf.filter(|_| entry.tokenizer.is_none()) {
            let carried = Carried::read(file, checkpoint.source())?;
            entry.template = entry.template.or_else(|| carried.template_digest());
            entry.tokenizer = carried.tokenizer;
        }
        manifest.decoder = Some(entry);
        Ok(())
    }

    fn supported(manifest: &Manifest) -> Result<(), LlmError> {
        let decoder = manifest.decoder.as_ref().ok_or(LlmError::NotDecoder)?;
        let (what, expected, got) = ("sampling specification", sampling::VERSION, decoder.sampling);
        if expected == got { Ok(()) } else { Err(LlmError::Version { what, expected, got }) }
    }
}
