//! Manifests: what a model *is* (`spec/model.md` §6). The SHA-256 of a manifest's canonical JSON is the model's id.
//!
//! ```text
//! {"files":[{"blake3":"...","name":"model.onnx","sha256":"...","size":536}],"format":"hallmark-model/1",
//!  "graph":"...","numeric":1,"weights":"..."}
//! ```

use std::sync::Arc;

use hallmark_receipt::json::{Object, Value, object};
use hallmark_receipt::wire::{Fields, FormatError, to_hex};
use hallmark_receipt::{Digest, model_id};

use crate::graph::Graph;
use crate::onnx::{self, ExternalData, ExternalDataError, ImportError, Limits, PathFault};
use crate::skeleton::{Skeleton, SkeletonError};
use crate::weights::Weights;

/// `format` of a manifest.
pub const FORMAT: &str = "hallmark-model/1";
/// The version of `spec/numeric.md` that this crate implements.
pub const NUMERIC_VERSION: u32 = 1;
/// The name of the ONNX file in a manifest, whatever it is called where it lies.
pub const MODEL_FILE: &str = "model.onnx";
/// The most bytes of a manifest.
pub const MAX_MANIFEST: usize = 1 << 20;
/// The most files of a model.
pub const MAX_FILES: usize = 1024;
/// Bytes of external data that are hashed at a time.
const CHUNK: u64 = 1 << 20;

/// What a model is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Its files, ascending by name.
    pub files: Vec<File>,
    /// The digest of its graph without the weights.
    pub graph: Digest,
    /// The root over its weights.
    pub weights: Digest,
    /// The version of the numeric specification that its outputs follow.
    pub numeric: u32,
    /// What a decoder has beyond its weights; `None` for anything else.
    pub decoder: Option<DecoderEntry>,
    /// What an encoder has beyond its weights; `None` for anything else.
    pub encoder: Option<EncoderEntry>,
    /// What proofs about it open; `None` where nothing can be proved, or nobody committed.
    pub proof: Option<ProofEntry>,
}

/// A commitment to a model's weights, which proofs open (`model.md` §6.1). It follows from the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProofEntry {
    /// The commitment.
    pub commitment: [u8; 32],
    /// The version of `spec/proof.md`.
    pub version: u32,
}

/// What belongs to a decoder beyond its weights (`model.md` §7.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecoderEntry {
    /// The version of `spec/sampling.md`.
    pub sampling: u32,
    /// SHA-256 of the tokenizer's file, or of what a GGUF carries in its place, if there is one.
    pub tokenizer: Option<Digest>,
    /// SHA-256 of the chat template's file, or of what a GGUF carries in its place, if there is one.
    pub template: Option<Digest>,
}

/// What belongs to an encoder beyond its weights (`model.md` §7.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncoderEntry {
    /// SHA-256 of the tokenizer's file.
    pub tokenizer: Digest,
}

/// A file of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// [`MODEL_FILE`], or the path of external data inside the model's folder.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of the bytes.
    pub sha256: Digest,
    /// BLAKE3 of the bytes.
    pub blake3: [u8; 32],
}

/// Why a model cannot be loaded, or is not the one that a manifest describes.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum ModelError {
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error("the graph has no skeleton: {0}")]
    Skeleton(#[from] SkeletonError),
    #[error("the weights do not fit their layout")]
    Weights,
    #[error("the model has more than {limit} files")]
    TooManyFiles { limit: usize },
    #[error("external data is in a file called `{MODEL_FILE}`, the manifest's name for the model itself")]
    ReservedName,
    #[error("file `{name}`: {source}")]
    File { name: String, source: ExternalDataError },
    #[error("file `{name}` has {got} bytes, the manifest says {expected}")]
    FileSize { name: String, expected: u64, got: u64 },
    #[error("file `{name}` has {kind} {got}, the manifest says {expected}")]
    FileDigest { name: String, kind: &'static str, expected: String, got: String },
    #[error("the manifest lists `{name}`, which the model does not read")]
    UnusedFile { name: String },
    #[error("the model reads `{name}`, which the manifest does not list")]
    UnlistedFile { name: String },
    #[error("the model's graph has digest {got}, the manifest says {expected}")]
    GraphDigest { expected: Digest, got: Digest },
    #[error("the model's weights have root {got}, the manifest says {expected}")]
    WeightRoot { expected: Digest, got: Digest },
    #[error("the manifest is a language model's, not an ONNX model's")]
    Language,
    #[error("numeric specification {got} is not one that this build executes (it executes {supported})")]
    Numeric { supported: u32, got: u32 },
}

/// Why bytes are not a manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum ManifestError {
    #[error(transparent)]
    Format(#[from] FormatError),
    #[error("file `{name}` {fault}")]
    FileName { name: String, fault: PathFault },
    #[error("files are not ascending by name at `{name}`")]
    FileOrder { name: String },
    #[error("no file is called `{MODEL_FILE}`")]
    NoModelFile,
    #[error("it is a decoder's and an encoder's at once")]
    TwoKinds,
    #[error("only an ONNX model's weights are committed to for proofs")]
    ProofOfLanguage,
    #[error("`{path}` has {got}, above {limit}")]
    TooLarge { path: String, got: u64, limit: u64 },
}

impl Manifest {
    /// Reads a manifest: canonical JSON, byte for byte.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        Self::from_fields(Fields::signed(bytes, "manifest", MAX_MANIFEST)?)
    }

    /// Reads a manifest that is part of a larger document.
    pub fn from_object(manifest: &Object) -> Result<Self, ManifestError> {
        Self::from_fields(Fields::new(Value::Object(manifest.clone()), "manifest")?)
    }

    fn from_fields(mut fields: Fields) -> Result<Self, ManifestError> {
        fields.constant("format", FORMAT)?;
        let mut files: Vec<File> = Vec::new();
        for (path, item) in fields.array("files", MAX_FILES)? {
            let mut file = Fields::new(item, &path)?;
            let name = file.text("name", onnx::PATH_LIMIT)?;
            let (size, sha256) = (file.integer("size")?, file.digest("sha256")?);
            let blake3 = file.hex("blake3")?;
            file.finish()?;
            if let Err(fault) = onnx::check_path(&name) {
                return Err(ManifestError::FileName { name, fault });
            }
            if files.last().is_some_and(|last| last.name >= name) {
                return Err(ManifestError::FileOrder { name });
            }
            files.push(File { name, size, sha256, blake3 });
        }
        let decoder =
            if fields.has("decoder") { Some(DecoderEntry::take(fields.fields("decoder")?)?) } else { None };
        let encoder = if fields.has("encoder") {
            let mut entry = fields.fields("encoder")?;
            let tokenizer = entry.digest("tokenizer")?;
            entry.finish()?;
            Some(EncoderEntry { tokenizer })
        } else {
            None
        };
        if decoder.is_some() && encoder.is_some() {
            return Err(ManifestError::TwoKinds);
        }
        if decoder.is_none() && encoder.is_none() && !files.iter().any(|file| file.name == MODEL_FILE) {
            return Err(ManifestError::NoModelFile);
        }
        let proof = if fields.has("proof") {
            let mut entry = fields.fields("proof")?;
            let commitment = entry.hex("commitment")?;
            let version = version(&mut entry, "version")?;
            entry.finish()?;
            Some(ProofEntry { commitment, version })
        } else {
            None
        };
        if proof.is_some() && (decoder.is_some() || encoder.is_some()) {
            return Err(ManifestError::ProofOfLanguage);
        }
        let (graph, weights) = (fields.digest("graph")?, fields.digest("weights")?);
        let numeric = version(&mut fields, "numeric")?;
        fields.finish()?;
        Ok(Self { files, graph, weights, numeric, decoder, encoder, proof })
    }

    /// The manifest as JSON members.
    pub fn to_object(&self) -> Object {
        let file = |file: &File| {
            Value::Object(object([
                ("blake3", to_hex(&file.blake3).into()),
                ("name", file.name.as_str().into()),
                ("sha256", file.sha256.to_string().into()),
                // No file reaches 2^53 bytes.
                ("size", Value::int(file.size).unwrap_or(Value::Int(0))),
            ]))
        };
        let mut members = object([
            ("files", Value::Array(self.files.iter().map(file).collect())),
            ("format", FORMAT.into()),
            ("graph", self.graph.to_string().into()),
            ("numeric", Value::Int(self.numeric.into())),
            ("weights", self.weights.to_string().into()),
        ]);
        if let Some(decoder) = &self.decoder {
            members.insert("decoder".to_owned(), Value::Object(decoder.to_object()));
        }
        if let Some(encoder) = &self.encoder {
            let entry = object([("tokenizer", encoder.tokenizer.to_string().into())]);
            members.insert("encoder".to_owned(), Value::Object(entry));
        }
        if let Some(proof) = &self.proof {
            let entry = object([
                ("commitment", to_hex(&proof.commitment).into()),
                ("version", Value::Int(proof.version.into())),
            ]);
            members.insert("proof".to_owned(), Value::Object(entry));
        }
        members
    }

    /// The manifest as canonical JSON.
    pub fn to_json(&self) -> String {
        Value::Object(self.to_object()).canonical()
    }

    /// The model's id.
    pub fn id(&self) -> Digest {
        model_id(&self.to_object())
    }

    /// Checks `bytes` (the ONNX file) and the external files against sizes and digests, in the manifest's order.
    pub fn verify_files(&self, bytes: &[u8], external: &dyn ExternalData) -> Result<(), ModelError> {
        for expected in &self.files {
            let name = &expected.name;
            let got = if name == MODEL_FILE { hash_bytes(bytes) } else { hash_external(name, external)? };
            if got.size != expected.size {
                let (expected, got) = (expected.size, got.size);
                return Err(ModelError::FileSize { name: name.clone(), expected, got });
            }
            let digests =
                [("SHA-256", &expected.sha256.0, &got.sha256.0), ("BLAKE3", &expected.blake3, &got.blake3)];
            for (kind, expected, got) in digests {
                if expected != got {
                    let (expected, got) = (to_hex(expected), to_hex(got));
                    return Err(ModelError::FileDigest { name: name.clone(), kind, expected, got });
                }
            }
        }
        Ok(())
    }
}

impl DecoderEntry {
    fn take(mut fields: Fields) -> Result<Self, ManifestError> {
        let sampling = version(&mut fields, "sampling")?;
        let mut digest = |name| if fields.has(name) { fields.digest(name).map(Some) } else { Ok(None) };
        let (tokenizer, template) = (digest("tokenizer")?, digest("template")?);
        fields.finish()?;
        Ok(Self { sampling, tokenizer, template })
    }

    fn to_object(&self) -> Object {
        let mut members = object([("sampling", Value::Int(self.sampling.into()))]);
        for (name, digest) in [("template", self.template), ("tokenizer", self.tokenizer)] {
            if let Some(digest) = digest {
                members.insert(name.to_owned(), digest.to_string().into());
            }
        }
        members
    }
}

/// A version: an integer below 2^32.
fn version(fields: &mut Fields, name: &str) -> Result<u32, ManifestError> {
    let (path, got) = (fields.path(name), fields.integer(name)?);
    u32::try_from(got).map_err(|_| ManifestError::TooLarge { path, got, limit: u32::MAX.into() })
}

/// A model, from its bytes: manifest, id and graph belong together.
#[derive(Clone, Debug)]
pub struct Model {
    manifest: Manifest,
    id: Digest,
    graph: Arc<Graph>,
    skeleton: Skeleton,
    weights: Arc<Weights>,
}

impl Model {
    /// Imports the ONNX file `bytes` and works out its manifest and id.
    pub fn load(bytes: &[u8], external: &dyn ExternalData, limits: &Limits) -> Result<Self, ModelError> {
        let imported = onnx::import_model(bytes, external, limits)?;
        if imported.external_files.len() >= MAX_FILES {
            return Err(ModelError::TooManyFiles { limit: MAX_FILES });
        }
        let mut files = vec![hash_bytes(bytes)];
        for name in &imported.external_files {
            if name == MODEL_FILE {
                return Err(ModelError::ReservedName);
            }
            files.push(hash_external(name, external)?);
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        let skeleton = Skeleton::of(&imported.graph)?;
        let weights = Weights::of(&imported.graph).ok_or(ModelError::Weights)?;
        let (graph, root) = (skeleton.digest(), weights.root());
        let numeric = NUMERIC_VERSION;
        let manifest =
            Manifest { files, graph, weights: root, numeric, decoder: None, encoder: None, proof: None };
        let id = manifest.id();
        let graph = Arc::new(imported.graph);
        Ok(Self { manifest, id, graph, skeleton, weights: Arc::new(weights) })
    }

    /// Loads a model and checks that it is the one that `manifest` describes: each file, the graph and the weights. The
    /// commitment for proofs is taken from the manifest: recomputing it takes a prover.
    pub fn open(
        manifest: &Manifest,
        bytes: &[u8],
        external: &dyn ExternalData,
        limits: &Limits,
    ) -> Result<Self, ModelError> {
        if manifest.decoder.is_some() || manifest.encoder.is_some() {
            return Err(ModelError::Language);
        }
        if manifest.numeric != NUMERIC_VERSION {
            return Err(ModelError::Numeric { supported: NUMERIC_VERSION, got: manifest.numeric });
        }
        manifest.verify_files(bytes, external)?;
        let model = Self::load(bytes, external, limits)?.with_proof(manifest.proof);
        let (expected, got) = (manifest.graph, model.manifest.graph);
        if expected != got {
            return Err(ModelError::GraphDigest { expected, got });
        }
        let (expected, got) = (manifest.weights, model.manifest.weights);
        if expected != got {
            return Err(ModelError::WeightRoot { expected, got });
        }
        let name = |file: &File| file.name.clone();
        if let Some(file) = manifest.files.iter().find(|file| !model.manifest.files.contains(file)) {
            return Err(ModelError::UnusedFile { name: name(file) });
        }
        if let Some(file) = model.manifest.files.iter().find(|file| !manifest.files.contains(file)) {
            return Err(ModelError::UnlistedFile { name: name(file) });
        }
        Ok(model)
    }

    /// The same model under the commitment `proof`, or under none: another manifest, so another id. Nothing here recomputes it.
    #[must_use]
    pub fn with_proof(mut self, proof: Option<ProofEntry>) -> Self {
        self.manifest.proof = proof;
        self.id = self.manifest.id();
        self
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The model's id.
    pub fn id(&self) -> Digest {
        self.id
    }

    /// The graph to run.
    pub fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    /// The graph without its weights.
    pub fn skeleton(&self) -> &Skeleton {
        &self.skeleton
    }

    /// The trees of the weights.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }
}

fn hash_bytes(bytes: &[u8]) -> File {
    File {
        name: MODEL_FILE.to_owned(),
        size: bytes.len() as u64,
        sha256: Digest::of(&[bytes]),
        blake3: *blake3::hash(bytes).as_bytes(),
    }
}

pub(crate) fn hash_external(name: &str, external: &dyn ExternalData) -> Result<File, ModelError> {
    let fail = |source| ModelError::File { name: name.to_owned(), source };
    let size = external.size(name).map_err(fail)?;
    let (mut sha256, mut blake3) = (hallmark_receipt::digest::Hasher::default(), blake3::Hasher::new());
    let mut offset = 0;
    while offset < size {
        let length = CHUNK.min(size - offset);
        let chunk = external.read(name, offset, length).map_err(fail)?;
        if chunk.len() as u64 != length {
            return Err(fail(ExternalDataError::TooShort { offset, length, size }));
        }
        sha256.update(&chunk);
        blake3.update(&chunk);
        offset += length;
    }
    Ok(File { name: name.to_owned(), size, sha256: sha256.finish(), blake3: *blake3.finalize().as_bytes() })
}
