//! A decoder's identity: skeleton, weight root, manifest (`model.md` §7.4).

use hallmark_receipt::json::{Object, Value, object};
use hallmark_receipt::wire::{Fields, FormatError};
use hallmark_receipt::{Digest, domain, merkle};

use super::architecture::{Architecture, Family, Role, Rope, Scaling};
use super::checkpoint::{CONFIG, Checkpoint};
use super::element::Kind;
use super::error::{LlmError, cut};
use super::{safetensors, sampling};
use crate::manifest::{self, DecoderEntry, File, MAX_FILES, Manifest, ModelError, NUMERIC_VERSION};
use crate::numeric::BLOCK;
use crate::onnx::{ExternalData, check_path};
use crate::weights::Opening;

/// `format` of a skeleton.
pub const FORMAT: &str = "hallmark-decoder/1";
/// The most bytes of a skeleton.
pub const MAX_SKELETON: usize = 4 << 20;
/// The tokenizer's file.
pub const TOKENIZER: &str = "tokenizer.json";
/// Files of which the first that is there holds the chat template.
pub const TEMPLATES: [&str; 2] = ["chat_template.jinja", "tokenizer_config.json"];
/// Files that may lie beside the weights.
const BESIDE: [&str; 7] = [
    CONFIG,
    safetensors::INDEX,
    TOKENIZER,
    "chat_template.jinja",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
];

/// Whether a file of this name belongs to a decoder (`model.md` §7.1).
pub fn belongs(name: &str) -> bool {
    BESIDE.contains(&name) || name.ends_with(".safetensors") || name.ends_with(".gguf")
}

/// What a decoder computes and how its weights are stored, without their bytes: what travels in a bundle.
#[derive(Clone, Debug, PartialEq)]
pub struct Skeleton {
    architecture: Architecture,
    kinds: Vec<Kind>,
}

impl Skeleton {
    /// The skeleton of a checkpoint.
    pub fn of(checkpoint: &Checkpoint<'_>) -> Self {
        let kinds = checkpoint.weights().map(|(_, _, kind)| kind).collect();
        Self { architecture: checkpoint.architecture().clone(), kinds }
    }

    /// What the decoder computes.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// Graph digest.
    pub fn digest(&self) -> Digest {
        domain::GRAPH.hash(&[self.to_json().as_bytes()])
    }

    /// As canonical JSON.
    pub fn to_json(&self) -> String {
        let size = |n: usize| Value::Int(i64::try_from(n).unwrap_or(i64::MAX));
        let tensors =
            self.architecture.weights().into_iter().zip(&self.kinds).map(|((role, shape), kind)| {
                Value::Object(object([
                    ("dtype", kind.name().into()),
                    ("name", role.to_string().into()),
                    ("shape", Value::Array(shape.into_iter().map(size).collect())),
                ]))
            });
        Value::Object(object([
            ("architecture", Value::Object(architecture_object(&self.architecture))),
            ("format", FORMAT.into()),
            ("tensors", Value::Array(tensors.collect())),
        ]))
        .canonical()
    }

    /// Reads a skeleton: exactly the bytes that [`Skeleton::to_json`] writes.
    ///
    /// # Errors
    /// Bytes that are not such a skeleton, an architecture outside its bounds.
    pub fn parse(bytes: &[u8]) -> Result<Self, LlmError> {
        let mut fields = Fields::signed(bytes, "skeleton", MAX_SKELETON)?;
        fields.constant("format", FORMAT)?;
        let architecture = take_architecture(fields.fields("architecture")?)?;
        architecture.check()?;
        let weights = architecture.weights();
        let mut kinds = Vec::with_capacity(weights.len());
        for (path, item) in fields.array("tensors", weights.len())? {
            let mut tensor = Fields::new(item, &path)?;
            let name = tensor.text("dtype", 8)?;
            let expected = "a supported element type";
            kinds.push(Kind::named(&name).ok_or(FormatError::Value { path, expected })?);
        }
        fields.finish()?;
        let skeleton = Self { architecture, kinds };
        // Names, shapes and their number follow from the architecture: there is one form.
        if skeleton.to_json().as_bytes() == bytes {
            Ok(skeleton)
        } else {
            Err(FormatError::NotCanonical { path: "skeleton".to_owned() }.into())
        }
    }
}

fn architecture_object(a: &Architecture) -> Object {
    let size = |n: usize| Value::Int(i64::try_from(n).unwrap_or(i64::MAX));
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
    object([
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
        ("rope", Value::Object(object([("scaling", Value::Object(scaling)), ("theta", text(a.rope.theta))]))),
        ("tied", Value::Bool(a.tied)),
        ("vocabulary", size(a.vocabulary)),
    ])
}

fn take_architecture(mut fields: Fields) -> Result<Architecture, FormatError> {
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
        other => {
            Err(FormatError::Kind { path: fields.path(name), expected: "a truth value", got: other.kind() })
        }
    };
    let (tied, qkv_bias) = (flag("tied")?, flag("qkv_bias")?);
    let (output_bias, qk_norm) = (flag("output_bias")?, flag("qk_norm")?);
    fields.finish()?;
    let rope = Rope { theta, scaling: scaled };
    Ok(Architecture {
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
    })
}

/// A float32 as decimal text. That it is in its one form shows when the whole is written again.
fn number(fields: &mut Fields, name: &str) -> Result<f32, FormatError> {
    let number = fields.text(name, 160)?.parse().ok();
    number.ok_or_else(|| FormatError::Value { path: fields.path(name), expected: "a decimal number" })
}

/// A decoder from its files: manifest, id and skeleton belong together.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderModel {
    manifest: Manifest,
    id: Digest,
    skeleton: Skeleton,
    roots: Vec<Digest>,
}

impl DecoderModel {
    /// Hashes the files called `files` and all weights, and works out manifest and id.
    ///
    /// # Errors
    /// Whatever [`Checkpoint::open`] refuses, and names that are no decoder's.
    pub fn load(files: &[String], source: &dyn ExternalData) -> Result<Self, LlmError> {
        let mut names = files.to_vec();
        names.sort_unstable();
        names.dedup();
        if names.len() > MAX_FILES {
            return Err(LlmError::Bound { what: "files", got: names.len() as u64, limit: MAX_FILES as u64 });
        }
        for name in &names {
            check_name(name)?;
        }
        let checkpoint = Checkpoint::open(&names, source)?;
        // A file of weights that nobody reads is not part of the model.
        let read = checkpoint.files();
        let stray = |name: &&String| name.ends_with(".safetensors") && !read.contains(&name.as_str());
        if let Some(name) = names.iter().find(stray) {
            return Err(LlmError::FileUnknown { name: cut(name) });
        }
        let files = names.iter().map(|name| hash(name, source)).collect::<Result<Vec<_>, _>>()?;
        let skeleton = Skeleton::of(&checkpoint);
        let roots = roots(&checkpoint)?;
        let digest = |name: &str| files.iter().find(|file| file.name == name).map(|file| file.sha256);
        let decoder = DecoderEntry {
            sampling: sampling::VERSION,
            tokenizer: digest(TOKENIZER),
            template: TEMPLATES.into_iter().find_map(digest),
        };
        let (graph, weights) = (skeleton.digest(), merkle::root(domain::WEIGHTS, &bytes_of(&roots)));
        let manifest = Manifest { files, graph, weights, numeric: NUMERIC_VERSION, decoder: Some(decoder) };
        let id = manifest.id();
        Ok(Self { manifest, id, skeleton, roots })
    }

    /// Loads a decoder and checks that it is the one that `manifest` describes: files first, then graph and weights.
    ///
    /// # Errors
    /// What differs, each with its own error.
    pub fn open(manifest: &Manifest, source: &dyn ExternalData) -> Result<Self, LlmError> {
        let decoder = manifest.decoder.as_ref().ok_or(LlmError::NotDecoder)?;
        let versions = [
            ("numeric specification", NUMERIC_VERSION, manifest.numeric),
            ("sampling specification", sampling::VERSION, decoder.sampling),
        ];
        for (what, expected, got) in versions {
            if expected != got {
                return Err(LlmError::Version { what, expected, got });
            }
        }
        for expected in &manifest.files {
            check_name(&expected.name)?;
            let got = hash(&expected.name, source)?;
            let name = || expected.name.clone();
            if got.size != expected.size {
                return Err(LlmError::FileSize { name: name(), expected: expected.size, got: got.size });
            }
            if got != *expected {
                let (kind, expected, got) =
                    ("SHA-256 or BLAKE3", expected.sha256.to_string(), got.sha256.to_string());
                return Err(LlmError::FileDigest { name: name(), kind, expected, got });
            }
        }
        let names: Vec<String> = manifest.files.iter().map(|file| file.name.clone()).collect();
        let model = Self::load(&names, source)?;
        let digests = [
            ("graph's digest", manifest.graph, model.manifest.graph),
            ("weight root", manifest.weights, model.manifest.weights),
        ];
        for (what, expected, got) in digests {
            if expected != got {
                return Err(LlmError::Differs { what, expected: expected.to_string(), got: got.to_string() });
            }
        }
        if model.manifest == *manifest {
            Ok(model)
        } else {
            let (expected, got) = (manifest.id().to_string(), model.id.to_string());
            Err(LlmError::Differs { what: "model's id", expected, got })
        }
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The model's id.
    pub fn id(&self) -> Digest {
        self.id
    }

    /// What travels in a bundle.
    pub fn skeleton(&self) -> &Skeleton {
        &self.skeleton
    }

    /// The weights, to be read again.
    ///
    /// # Errors
    /// As [`Checkpoint::open`]: the files may have changed since.
    pub fn checkpoint<'a>(&self, source: &'a dyn ExternalData) -> Result<Checkpoint<'a>, LlmError> {
        let names: Vec<String> = self.manifest.files.iter().map(|file| file.name.clone()).collect();
        Checkpoint::open(&names, source)
    }

    /// Opens leaf `leaf` of weight `weight` (in the order of [`Architecture::weights`]) of `checkpoint`; `None` if there is no such leaf.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn open_leaf(
        &self,
        checkpoint: &Checkpoint<'_>,
        weight: usize,
        leaf: usize,
    ) -> Result<Option<Opening>, LlmError> {
        let Some((role, shape, _)) = checkpoint.weights().nth(weight) else { return Ok(None) };
        let values = checkpoint.read(role)?;
        let bytes = blocks(&values, shape).nth(leaf).map(bytes_of_block);
        let proof = merkle::prove(&bytes_of(&leaves(&values, shape)), leaf);
        let above = merkle::prove(&bytes_of(&self.roots), weight);
        Ok(bytes.zip(proof).zip(above).map(|((bytes, leaf), weight)| Opening { bytes, leaf, weight }))
    }
}

fn check_name(name: &str) -> Result<(), LlmError> {
    if let Err(fault) = check_path(name) {
        return Err(LlmError::Path { name: cut(name), fault });
    }
    if belongs(name) { Ok(()) } else { Err(LlmError::FileUnknown { name: cut(name) }) }
}

fn hash(name: &str, source: &dyn ExternalData) -> Result<File, LlmError> {
    manifest::hash_external(name, source).map_err(|error| match error {
        ModelError::File { name, source } => LlmError::File { name, source },
        // Hashing a file only fails on reading it.
        other => LlmError::Json { what: "a file", why: other.to_string() },
    })
}

/// The root of each weight, in order.
fn roots(checkpoint: &Checkpoint<'_>) -> Result<Vec<Digest>, LlmError> {
    let weights: Vec<(Role, Vec<usize>)> =
        checkpoint.weights().map(|(role, shape, _)| (role, shape.to_vec())).collect();
    let root = |(role, shape): &(Role, Vec<usize>)| {
        let values = checkpoint.read(*role)?;
        Ok(merkle::root(domain::WEIGHT, &bytes_of(&leaves(&values, shape))))
    };
    weights.iter().map(root).collect()
}

/// What each leaf holds: up to 512 elements of one output.
fn blocks<'a>(values: &'a [f32], shape: &[usize]) -> impl Iterator<Item = &'a [f32]> {
    let row = shape.last().copied().unwrap_or(1).max(1);
    values.chunks(row).flat_map(|row| row.chunks(BLOCK))
}

fn bytes_of_block(block: &[f32]) -> Vec<u8> {
    block.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn leaves(values: &[f32], shape: &[usize]) -> Vec<Digest> {
    blocks(values, shape).map(|block| domain::WEIGHT_LEAF.hash(&[&bytes_of_block(block)])).collect()
}

fn bytes_of(digests: &[Digest]) -> Vec<[u8; 32]> {
    digests.iter().map(|digest| digest.0).collect()
}
