//! A language model's identity: skeleton, weight root, manifest (`model.md` §7.4).

use std::collections::BTreeMap;

use hallmark_receipt::json::{Value, object};
use hallmark_receipt::wire::{Fields, FormatError};
use hallmark_receipt::{Digest, domain, merkle};

use super::architecture::Architecture;
use super::checkpoint::{CheckpointOf, GGUF, SAFETENSORS, kept};
use super::element::Kind;
use super::encoder::Encoder;
use super::error::{LlmError, cut};
use super::network::Network;
use crate::manifest::{self, File, MAX_FILES, Manifest, ModelError, NUMERIC_VERSION};
use crate::numeric::BLOCK;
use crate::onnx::{ExternalData, check_path};
use crate::weights::Opening;

/// The most bytes of a skeleton.
pub const MAX_SKELETON: usize = 4 << 20;
/// The tokenizer's file.
pub const TOKENIZER: &str = "tokenizer.json";
/// Files of which the first that is there holds the chat template.
pub const TEMPLATES: [&str; 2] = ["chat_template.jinja", "tokenizer_config.json"];
/// Whether a file of this name may belong to a language model (`model.md` §7.1, §7.5).
pub fn belongs(name: &str) -> bool {
    Architecture::belongs(name) || Encoder::belongs(name)
}

/// What a model computes and how its weights are stored, without their bytes: what travels in a bundle.
#[derive(Clone, Debug, PartialEq)]
pub struct SkeletonOf<N> {
    architecture: N,
    kinds: Vec<Kind>,
}

/// A decoder's skeleton.
pub type Skeleton = SkeletonOf<Architecture>;

impl<N: Network> SkeletonOf<N> {
    /// The skeleton of a checkpoint.
    pub fn of(checkpoint: &CheckpointOf<'_, N>) -> Self {
        let kinds = checkpoint.weights().map(|(_, _, kind)| kind).collect();
        Self { architecture: checkpoint.architecture().clone(), kinds }
    }

    /// What the model computes.
    pub fn architecture(&self) -> &N {
        &self.architecture
    }

    /// Graph digest.
    pub fn digest(&self) -> Digest {
        domain::GRAPH.hash(&[self.to_json().as_bytes()])
    }

    /// As canonical JSON.
    pub fn to_json(&self) -> String {
        let tensors =
            self.architecture.weights().into_iter().zip(&self.kinds).map(|((role, shape), kind)| {
                Value::Object(object([
                    ("dtype", kind.name().into()),
                    ("name", role.to_string().into()),
                    ("shape", Value::Array(shape.into_iter().map(size).collect())),
                ]))
            });
        Value::Object(object([
            ("architecture", Value::Object(self.architecture.to_object())),
            ("format", N::FORMAT.into()),
            ("tensors", Value::Array(tensors.collect())),
        ]))
        .canonical()
    }

    /// Reads a skeleton: exactly the bytes that [`SkeletonOf::to_json`] writes.
    ///
    /// # Errors
    /// Bytes that are not such a skeleton, an architecture outside its bounds.
    pub fn parse(bytes: &[u8]) -> Result<Self, LlmError> {
        let mut fields = Fields::signed(bytes, "skeleton", MAX_SKELETON)?;
        fields.constant("format", N::FORMAT)?;
        let architecture = N::take(fields.fields("architecture")?)?;
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

/// A size as JSON.
pub(super) fn size(n: usize) -> Value {
    Value::Int(i64::try_from(n).unwrap_or(i64::MAX))
}

/// A float32 as decimal text. That it is in its one form shows when the whole is written again.
pub(super) fn number(fields: &mut Fields, name: &str) -> Result<f32, FormatError> {
    let number = fields.text(name, 160)?.parse().ok();
    number.ok_or_else(|| FormatError::Value { path: fields.path(name), expected: "a decimal number" })
}

/// A model from its files: manifest, id and skeleton belong together.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelOf<N> {
    manifest: Manifest,
    id: Digest,
    skeleton: SkeletonOf<N>,
    roots: Vec<Digest>,
}

/// A decoder from its files.
pub type DecoderModel = ModelOf<Architecture>;
/// An encoder from its files.
pub type EncoderModel = ModelOf<Encoder>;

impl<N: Network> ModelOf<N> {
    /// Hashes the files called `files`, but for weights that are left out ([`kept`]), and all weights, and works out manifest and id.
    ///
    /// # Errors
    /// Whatever [`Network::open`] refuses, and names that are no such model's.
    pub fn load(files: &[String], source: &dyn ExternalData) -> Result<Self, LlmError> {
        let mut names = files.to_vec();
        names.sort_unstable();
        names.dedup();
        let names = kept(&names, source)?;
        let checkpoint = Self::checked(&names, source)?;
        let files = names.iter().map(|name| hash(name, source)).collect::<Result<Vec<_>, _>>()?;
        Self::of(&checkpoint, files)
    }

    /// The checkpoint in the files called `names`, each of which is part of it.
    fn checked<'a>(names: &[String], source: &'a dyn ExternalData) -> Result<CheckpointOf<'a, N>, LlmError> {
        if names.len() > MAX_FILES {
            return Err(LlmError::Bound { what: "files", got: names.len() as u64, limit: MAX_FILES as u64 });
        }
        for name in names {
            check_name::<N>(name)?;
        }
        let checkpoint = N::open(names, source)?;
        // A file of weights that nobody reads is not part of the model.
        let read = checkpoint.files();
        let weights = |name: &str| name.ends_with(SAFETENSORS) || name.ends_with(GGUF);
        let stray = |name: &&String| weights(name) && !read.contains(&name.as_str());
        if let Some(name) = names.iter().find(stray) {
            return Err(LlmError::FileUnknown { name: cut(name) });
        }
        Ok(checkpoint)
    }

    /// The model of `checkpoint`, whose files have these digests.
    fn of(checkpoint: &CheckpointOf<'_, N>, files: Vec<File>) -> Result<Self, LlmError> {
        let skeleton = SkeletonOf::of(checkpoint);
        let roots = roots(checkpoint)?;
        let digests: BTreeMap<String, Digest> =
            files.iter().map(|file| (file.name.clone(), file.sha256)).collect();
        let (graph, weights) = (skeleton.digest(), merkle::root(domain::WEIGHTS, &bytes_of(&roots)));
        let mut manifest = Manifest {
            files,
            graph,
            weights,
            numeric: NUMERIC_VERSION,
            decoder: None,
            encoder: None,
            proof: None,
        };
        N::describe(checkpoint, &mut manifest, &|name| digests.get(name).copied())?;
        let id = manifest.id();
        Ok(Self { manifest, id, skeleton, roots })
    }

    /// Loads a model and checks that it is the one that `manifest` describes: files first, then graph and weights.
    ///
    /// # Errors
    /// What differs, each with its own error.
    pub fn open(manifest: &Manifest, source: &dyn ExternalData) -> Result<Self, LlmError> {
        N::supported(manifest)?;
        let (what, expected, got) = ("numeric specification", NUMERIC_VERSION, manifest.numeric);
        if expected != got {
            return Err(LlmError::Version { what, expected, got });
        }
        for expected in &manifest.files {
            check_name::<N>(&expected.name)?;
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
        // The files are those of the manifest: they need not be hashed again.
        let model = Self::of(&Self::checked(&names, source)?, manifest.files.clone())?;
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
    pub fn skeleton(&self) -> &SkeletonOf<N> {
        &self.skeleton
    }

    /// The weights, to be read again.
    ///
    /// # Errors
    /// As [`Network::open`]: the files may have changed since.
    pub fn checkpoint<'a>(&self, source: &'a dyn ExternalData) -> Result<CheckpointOf<'a, N>, LlmError> {
        let names: Vec<String> = self.manifest.files.iter().map(|file| file.name.clone()).collect();
        N::open(&names, source)
    }

    /// Opens leaf `leaf` of weight `weight` (in the order of [`Network::weights`]) of `checkpoint`; `None` if there is no such leaf.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn open_leaf(
        &self,
        checkpoint: &CheckpointOf<'_, N>,
        weight: usize,
        leaf: usize,
    ) -> Result<Option<Opening>, LlmError> {
        let Some((role, shape, _)) = checkpoint.weights().nth(weight) else { return Ok(None) };
        let values = N::read(checkpoint, role)?;
        let bytes = blocks(&values, shape).nth(leaf).map(bytes_of_block);
        let proof = merkle::prove(&bytes_of(&leaves(&values, shape)), leaf);
        let above = merkle::prove(&bytes_of(&self.roots), weight);
        Ok(bytes.zip(proof).zip(above).map(|((bytes, leaf), weight)| Opening { bytes, leaf, weight }))
    }
}

fn check_name<N: Network>(name: &str) -> Result<(), LlmError> {
    if let Err(fault) = check_path(name) {
        return Err(LlmError::Path { name: cut(name), fault });
    }
    if N::belongs(name) { Ok(()) } else { Err(LlmError::FileUnknown { name: cut(name) }) }
}

fn hash(name: &str, source: &dyn ExternalData) -> Result<File, LlmError> {
    manifest::hash_external(name, source).map_err(|error| match error {
        ModelError::File { name, source } => LlmError::File { name, source },
        // Hashing a file only fails on reading it.
        other => LlmError::Json { what: "a file", why: other.to_string() },
    })
}

/// The root of each weight, in order.
fn roots<N: Network>(checkpoint: &CheckpointOf<'_, N>) -> Result<Vec<Digest>, LlmError> {
    let root = |(role, shape, _): (N::Role, &[usize], Kind)| {
        let values = N::read(checkpoint, role)?;
        Ok(merkle::root(domain::WEIGHT, &bytes_of(&leaves(&values, shape))))
    };
    checkpoint.weights().map(root).collect()
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
