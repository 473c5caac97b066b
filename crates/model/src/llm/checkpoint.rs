//! A model's weights by role, whatever files they lie in.

use std::collections::{BTreeMap, BTreeSet};

use super::architecture::{Architecture, Arithmetic, Family, Part, Role};
use super::config::Pairs;
use super::element::Kind;
use super::error::{LlmError, SafetensorsFault, cut};
use super::network::Network;
use super::{config, gguf, safetensors};
use crate::onnx::{ExternalData, check_path};

/// The name of the config.
pub const CONFIG: &str = "config.json";
/// The name of the file that says how the weights are computed with (`model.md` §7.6).
pub const COMPUTE: &str = "hallmark.json";
/// The one file of a checkpoint that is not cut up.
pub const SINGLE: &str = "model.safetensors";
/// How names of safetensors end.
pub(super) const SAFETENSORS: &str = ".safetensors";
/// How names of GGUF files end.
pub(super) const GGUF: &str = ".gguf";
/// Bytes that are read at a time: a whole number of blocks of every kind.
const CHUNK: u64 = 18 * 34 * 35 * 11 * 96;

/// Where a tensor lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The file.
    pub file: String,
    /// Element type.
    pub kind: Kind,
    /// Row-major shape.
    pub shape: Vec<u64>,
    /// First byte in the file.
    pub start: u64,
    /// Bytes.
    pub bytes: u64,
}

/// A model's weights: every one that its architecture needs is there, with its shape, and no other.
pub struct CheckpointOf<'a, N: Network> {
    architecture: N,
    weights: Vec<(N::Role, Vec<usize>, Stored)>,
    source: &'a dyn ExternalData,
    /// Rows of q and k stand as llama.cpp has them for `llama`.
    interleaved: bool,
}

/// A decoder's weights.
pub type Checkpoint<'a> = CheckpointOf<'a, Architecture>;

impl<'a> Checkpoint<'a> {
    /// Opens the model whose files are called `files`: `config.json` with `model.safetensors` or an index and its parts, or one
    /// `*.gguf`; beside them perhaps `hallmark.json`. Other names are ignored here, so are weights that are left out ([`kept`]).
    /// Only headers are read, and the head of a tied model that has one.
    ///
    /// # Errors
    /// A file that is missing or malformed, an architecture outside `numeric.md` §11, a tensor that is missing, of another
    /// shape, or one too many.
    pub fn open(files: &[String], source: &'a dyn ExternalData) -> Result<Self, LlmError> {
        let files = &kept(files, source)?;
        let mut ggufs = files.iter().filter(|name| name.ends_with(GGUF));
        let mut checkpoint = match (ggufs.next(), ggufs.next()) {
            (Some(file), None) => Self::gguf(file, source),
            (Some(_), Some(_)) => Err(LlmError::Inconsistent { what: "a decoder has one .gguf file" }),
            (None, _) => Self::safetensors(files, source),
        }?;
        if files.iter().any(|file| file == COMPUTE) {
            checkpoint.architecture.arithmetic = arithmetic(&read_file(source, COMPUTE, 4096)?)?;
        }
        Ok(checkpoint)
    }

    fn gguf(file: &str, source: &'a dyn ExternalData) -> Result<Self, LlmError> {
        let read = gguf::read(file, source)?;
        let architecture = read.architecture()?;
        let interleaved = architecture.family == Family::Llama;
        Self::with(architecture, read.tensors, source, interleaved, &gguf::name)
    }

    fn safetensors(files: &[String], source: &'a dyn ExternalData) -> Result<Self, LlmError> {
        let architecture = config::parse(&read_config(files, source)?)?;
        let tensors = tensors(files, source)?;
        Self::with(architecture, tensors, source, false, &|role| role.to_string())
    }

    fn with(
        mut architecture: Architecture,
        mut tensors: BTreeMap<String, Stored>,
        source: &'a dyn ExternalData,
        interleaved: bool,
        name: &dyn Fn(Role) -> String,
    ) -> Result<Self, LlmError> {
        // A config says tied, and the file has a head all the same: what it holds counts, as for `transformers`.
        if architecture.tied
            && let Some(head) = tensors.remove(&name(Role::Head))
        {
            let embedding = name(Role::Embedding);
            match tensors.get(&embedding) {
                None => drop(tensors.insert(embedding, head)),
                Some(other) if equal(other, &head, source)? => {}
                Some(_) => {
                    architecture.tied = false;
                    tensors.insert(name(Role::Head), head);
                }
            }
        }
        // Older files keep frequencies that follow from theta.
        tensors.retain(|name, _| !name.ends_with(".self_attn.rotary_emb.inv_freq"));
        let checkpoint = Self::of(architecture, tensors, source, name)?;
        Ok(Self { interleaved, ..checkpoint })
    }

    /// The values of a weight, row-major, as `numeric.md` §11 computes with them.
    ///
    /// # Errors
    /// A role that the architecture lacks, a file that cannot be read.
    pub fn read(&self, role: Role) -> Result<Vec<f32>, LlmError> {
        let values = self.values(role)?;
        let rows = matches!(role, Role::Layer(_, Part::Query | Part::QueryBias | Part::Key | Part::KeyBias));
        if !self.interleaved || !rows {
            return Ok(values);
        }
        let row = self.find(role).map_or(1, |(shape, _)| shape.get(1).copied().unwrap_or(1));
        Ok(halves(&values, self.architecture.head_dim, row))
    }
}

impl<'a, N: Network> CheckpointOf<'a, N> {
    /// `tensors` as the weights of `architecture`, by the names that `name` gives to their roles.
    pub(super) fn of(
        architecture: N,
        mut tensors: BTreeMap<String, Stored>,
        source: &'a dyn ExternalData,
        name: &dyn Fn(N::Role) -> String,
    ) -> Result<Self, LlmError> {
        let mut weights = Vec::new();
        for (role, shape) in architecture.weights() {
            let name = name(role);
            let stored =
                tensors.remove(&name).ok_or_else(|| LlmError::TensorMissing { name: name.clone() })?;
            if !stored.shape.iter().copied().eq(shape.iter().map(|&dim| dim as u64)) {
                return Err(LlmError::TensorShape { name, expected: shape, got: stored.shape });
            }
            weights.push((role, shape, stored));
        }
        match tensors.into_keys().next() {
            None => Ok(Self { architecture, weights, source, interleaved: false }),
            Some(name) => Err(LlmError::TensorExtra { name: cut(&name) }),
        }
    }

    /// What the model computes.
    pub fn architecture(&self) -> &N {
        &self.architecture
    }

    /// Every weight's role, shape and element type, in the order of the weight tree.
    pub fn weights(&self) -> impl Iterator<Item = (N::Role, &[usize], Kind)> {
        self.weights.iter().map(|(role, shape, stored)| (*role, shape.as_slice(), stored.kind))
    }

    /// Names of the files that hold weights, ascending.
    pub fn files(&self) -> Vec<&str> {
        let mut files: Vec<&str> = self.weights.iter().map(|(_, _, stored)| stored.file.as_str()).collect();
        files.sort_unstable();
        files.dedup();
        files
    }

    /// Where the files come from.
    pub(super) fn source(&self) -> &'a dyn ExternalData {
        self.source
    }

    fn find(&self, role: N::Role) -> Option<(&[usize], &Stored)> {
        let found = self.weights.iter().find(|(other, _, _)| *other == role);
        found.map(|(_, shape, stored)| (shape.as_slice(), stored))
    }

    /// The values of a weight as they lie in the file, row-major.
    ///
    /// # Errors
    /// A role that the architecture lacks, a file that cannot be read.
    pub fn values(&self, role: N::Role) -> Result<Vec<f32>, LlmError> {
        let Some((shape, stored)) = self.find(role) else {
            return Err(LlmError::TensorMissing { name: role.to_string() });
        };
        let mut values = Vec::with_capacity(shape.iter().product());
        let mut done = 0;
        while done < stored.bytes {
            stored.kind.widen(&chunk(stored, done, self.source)?, &mut values);
            done += CHUNK;
        }
        if values.len() != shape.iter().product::<usize>() {
            return Err(LlmError::TensorShape {
                name: role.to_string(),
                expected: shape.to_vec(),
                got: vec![values.len() as u64],
            });
        }
        Ok(values)
    }
}

/// At most [`CHUNK`] bytes of a tensor, of which `done` are read.
fn chunk(stored: &Stored, done: u64, source: &dyn ExternalData) -> Result<Vec<u8>, LlmError> {
    let len = CHUNK.min(stored.bytes - done);
    let read = source.read(&stored.file, stored.start + done, len);
    read.map_err(|source| LlmError::File { name: stored.file.clone(), source })
}

/// Whether two tensors are stored alike, byte for byte.
fn equal(a: &Stored, b: &Stored, source: &dyn ExternalData) -> Result<bool, LlmError> {
    if (a.kind, &a.shape, a.bytes) != (b.kind, &b.shape, b.bytes) {
        return Ok(false);
    }
    let mut done = 0;
    while done < a.bytes {
        if chunk(a, done, source)? != chunk(b, done, source)? {
            return Ok(false);
        }
        done += CHUNK;
    }
    Ok(true)
}

/// The rows of each head, from pairs (2i, 2i + 1) to halves (i, i + h): llama.cpp rotates neighbours, `numeric.md` §11 halves. Whole rows move, so
/// no bit changes.
fn halves(values: &[f32], head_dim: usize, row: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for head in values.chunks_exact((head_dim * row).max(1)) {
        for parity in 0..2 {
            for pair in head.chunks_exact(2 * row) {
                out.extend_from_slice(pair.get(parity * row..(parity + 1) * row).unwrap_or_default());
            }
        }
    }
    out
}

/// The `hallmark.json` that asks for `arithmetic` (`model.md` §7.6).
pub fn compute(arithmetic: Arithmetic) -> Vec<u8> {
    format!("{{\"arithmetic\":\"{}\"}}\n", arithmetic.name()).into_bytes()
}

/// What `hallmark.json` says.
fn arithmetic(bytes: &[u8]) -> Result<Arithmetic, LlmError> {
    let members = Pairs::<String>::read(bytes, COMPUTE)?;
    let named = members.get("arithmetic").filter(|_| members.len() == 1);
    named.and_then(|name| Arithmetic::named(name)).ok_or_else(|| LlmError::Json {
        what: COMPUTE,
        why: "its one member is `arithmetic`, `float32` or `int8`".to_owned(),
    })
}

/// `config.json`.
pub(super) fn read_config(files: &[String], source: &dyn ExternalData) -> Result<Vec<u8>, LlmError> {
    if files.iter().any(|file| file == CONFIG) {
        read_file(source, CONFIG, config::MAX_CONFIG as u64)
    } else {
        Err(LlmError::FileMissing { what: CONFIG })
    }
}

/// `names` without the weights that a model leaves out (`model.md` §7.1): folders hold the same weights in several forms. Of the
/// files, only the index is read.
///
/// # Errors
/// An index that cannot be read.
pub fn kept(names: &[String], source: &dyn ExternalData) -> Result<Vec<String>, LlmError> {
    let has = |name: &str| names.iter().any(|other| other == name);
    let named: BTreeSet<String> =
        match has(safetensors::INDEX) && names.iter().any(|n| n.ends_with(SAFETENSORS)) {
            true => read_index(source)?.into_values().collect(),
            false => BTreeSet::new(),
        };
    // `model.safetensors` beside the index of other files is the whole again.
    let single = has(SINGLE) && !named.contains(SINGLE);
    let safe = single || names.iter().any(|name| named.contains(name));
    let keep = |name: &&String| match name.as_str() {
        safetensors::INDEX => !single,
        name if name.ends_with(SAFETENSORS) => {
            if single {
                name == SINGLE
            } else {
                named.contains(name)
            }
        }
        name => !safe || !name.ends_with(GGUF),
    };
    Ok(names.iter().filter(keep).cloned().collect())
}

fn read_index(source: &dyn ExternalData) -> Result<BTreeMap<String, String>, LlmError> {
    safetensors::parse_index(&read_file(source, safetensors::INDEX, safetensors::MAX_INDEX as u64)?)
}

/// The tensors of `model.safetensors`, or of the parts that its index names.
pub(super) fn tensors(
    files: &[String],
    source: &dyn ExternalData,
) -> Result<BTreeMap<String, Stored>, LlmError> {
    let has = |name: &str| files.iter().any(|file| file == name);
    if has(safetensors::INDEX) {
        parts(&read_index(source)?, files, source)
    } else if has(SINGLE) {
        safetensors::read(SINGLE, source)
    } else {
        Err(LlmError::FileMissing { what: "model.safetensors, its index, or one .gguf" })
    }
}

/// The tensors of an index's files.
fn parts(
    index: &BTreeMap<String, String>,
    files: &[String],
    source: &dyn ExternalData,
) -> Result<BTreeMap<String, Stored>, LlmError> {
    let mut all: BTreeMap<String, Stored> = BTreeMap::new();
    let mut names: Vec<&String> = index.values().collect();
    names.sort_unstable();
    names.dedup();
    for file in names {
        if let Err(fault) = check_path(file) {
            return Err(LlmError::Path { name: cut(file), fault });
        }
        if !files.contains(file) {
            return Err(LlmError::FileMissing { what: "every file that its index names" });
        }
        for (name, stored) in safetensors::read(file, source)? {
            if index.get(&name) != Some(file) {
                let expected = index.get(&name).map_or("no file", String::as_str);
                let (name, expected, got) = (cut(&name), cut(expected), file.clone());
                let fault = SafetensorsFault::Index { name, expected, got };
                return Err(LlmError::Safetensors { file: safetensors::INDEX.to_owned(), fault });
            }
            all.insert(name, stored);
        }
    }
    match index.keys().find(|name| !all.contains_key(*name)) {
        None => Ok(all),
        Some(name) => Err(LlmError::TensorMissing { name: cut(name) }),
    }
}

/// A whole file of at most `limit` bytes.
pub(super) fn read_file(source: &dyn ExternalData, name: &str, limit: u64) -> Result<Vec<u8>, LlmError> {
    let fail = |source| LlmError::File { name: name.to_owned(), source };
    let got = source.size(name).map_err(fail)?;
    if got > limit {
        return Err(LlmError::FileTooLarge { name: name.to_owned(), got, limit });
    }
    source.read(name, 0, got).map_err(fail)
}
