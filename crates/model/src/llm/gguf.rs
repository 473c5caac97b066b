//! GGUF files, versions 2 and 3 (`model.md` §7.3): header, metadata, tensors, and what llama.cpp's names mean.

use std::collections::BTreeMap;

use super::architecture::{Architecture, Arithmetic, Family, Part, Role, Rope, Scaling};
use super::checkpoint::Stored;
use super::element::Kind;
use super::error::{GgufFault as Fault, LlmError, cut};
use crate::onnx::ExternalData;

/// Bytes of everything before the tensors' data: vocabularies lie here.
pub const MAX_HEADER: u64 = 256 << 20;
/// Metadata entries.
pub const MAX_METADATA: u64 = 1 << 16;
/// Tensors.
pub const MAX_TENSORS: u64 = 1 << 17;
/// Bytes of a name, and of a text that is kept.
pub const MAX_NAME: u64 = 1 << 10;
/// Levels of arrays.
const MAX_DEPTH: usize = 4;
/// Bytes between tensors' starts, at most.
const MAX_ALIGNMENT: u64 = 1 << 16;
/// Bytes that are read at a time.
const CHUNK: u64 = 1 << 16;

/// A metadata value. Arrays and long texts are walked over, not kept.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Meta {
    Unsigned(u64),
    Signed(i64),
    Float(f32),
    Bool(bool),
    Text(String),
    Other,
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Gguf {
    /// Metadata by key.
    pub metadata: BTreeMap<String, Meta>,
    /// Tensors by name; shapes are row-major, the outermost axis first.
    pub tensors: BTreeMap<String, Stored>,
    /// Where the entries `tokenizer.*` lie: first byte and end of key, type and value.
    pub tokenizer: BTreeMap<String, (u64, u64)>,
}

/// Reads the header of `file`.
///
/// # Errors
/// Any fault of the format, each named; lengths are checked before memory is taken.
pub fn read(file: &str, source: &dyn ExternalData) -> Result<Gguf, LlmError> {
    let size = source.size(file).map_err(|source| LlmError::File { name: file.to_owned(), source })?;
    let mut cursor = Cursor::new(file, source, 0, size.min(MAX_HEADER));
    if &cursor.array::<4>()? != b"GGUF" {
        return Err(Fault::Magic.into());
    }
    let version = cursor.u32()?;
    if !matches!(version, 2 | 3) {
        return Err(Fault::Version { got: version }.into());
    }
    let bounded = |what, got, limit| {
        if got > limit { Err(Fault::TooMany { what, got, limit }) } else { Ok(got) }
    };
    let tensors = bounded("tensors", cursor.u64()?, MAX_TENSORS)?;
    let entries = bounded("metadata entries", cursor.u64()?, MAX_METADATA)?;
    let (mut metadata, mut tokenizer) = (BTreeMap::new(), BTreeMap::new());
    for _ in 0..entries {
        let start = cursor.at;
        let key = cursor.name()?;
        let kind = cursor.u32()?;
        let value = cursor.value(kind, 0)?;
        if metadata.contains_key(&key) {
            return Err(LlmError::Duplicate { what: "gguf metadata", key: cut(&key) });
        }
        if key.starts_with("tokenizer.") {
            tokenizer.insert(key.clone(), (start, cursor.at));
        }
        metadata.insert(key, value);
    }
    let alignment = match metadata.get("general.alignment") {
        None => 32,
        Some(Meta::Unsigned(n)) if n.is_power_of_two() && *n <= MAX_ALIGNMENT => *n,
        Some(Meta::Unsigned(n)) => return Err(Fault::Alignment { got: *n, limit: MAX_ALIGNMENT }.into()),
        Some(_) => return Err(kind_fault("general.alignment", "an unsigned integer")),
    };
    let mut infos = Vec::new();
    for _ in 0..tensors {
        infos.push(cursor.info(file)?);
    }
    let data = cursor.at.next_multiple_of(alignment);
    let mut at = 0_u64;
    let mut all = BTreeMap::new();
    for (name, mut stored) in infos {
        if stored.start != at {
            return Err(Fault::Offset { name: cut(&name), expected: at, got: stored.start }.into());
        }
        let end = at
            .checked_add(stored.bytes)
            .and_then(|end| Some((end, end.checked_next_multiple_of(alignment)?)));
        let whole = end.and_then(|(end, next)| Some((end.checked_add(data)?, next)));
        match whole {
            Some((end, next)) if end <= size => {
                stored.start = data + at;
                at = next;
            }
            other => {
                let expected = other.map_or(u64::MAX, |(end, _)| end);
                return Err(Fault::End { expected, got: size }.into());
            }
        }
        if all.contains_key(&name) {
            return Err(LlmError::TensorTwice { name: cut(&name) });
        }
        all.insert(name, stored);
    }
    Ok(Gguf { metadata, tensors: all, tokenizer })
}

fn kind_fault(key: &str, expected: &'static str) -> LlmError {
    Fault::Kind { key: cut(key), expected }.into()
}

/// Reads on in a file, a chunk at a time.
pub(super) struct Cursor<'a> {
    file: &'a str,
    source: &'a dyn ExternalData,
    /// Where the header must have ended.
    end: u64,
    at: u64,
    chunk: Vec<u8>,
    chunk_at: u64,
}

impl<'a> Cursor<'a> {
    /// At byte `at` of `file`; nothing behind byte `end` is read.
    pub(super) fn new(file: &'a str, source: &'a dyn ExternalData, at: u64, end: u64) -> Self {
        Self { file, source, end, at, chunk: Vec::new(), chunk_at: 0 }
    }

    /// The next `N` bytes.
    fn array<const N: usize>(&mut self) -> Result<[u8; N], LlmError> {
        let bytes = self.bytes(N as u64)?;
        bytes.try_into().map_err(|_| Fault::Short { limit: self.end }.into())
    }

    /// The next `len` bytes, which the caller has bounded.
    pub(super) fn bytes(&mut self, len: u64) -> Result<Vec<u8>, LlmError> {
        let short = || LlmError::from(Fault::Short { limit: self.end });
        let end = self.at.checked_add(len).filter(|&end| end <= self.end).ok_or_else(short)?;
        if self.at < self.chunk_at || end > self.chunk_at + self.chunk.len() as u64 {
            let want = len.max(CHUNK).min(self.end - self.at);
            let read = self.source.read(self.file, self.at, want);
            self.chunk = read.map_err(|source| LlmError::File { name: self.file.to_owned(), source })?;
            self.chunk_at = self.at;
        }
        let start = usize::try_from(self.at - self.chunk_at).map_err(|_| short())?;
        let count = usize::try_from(len).map_err(|_| short())?;
        let bytes =
            start.checked_add(count).and_then(|end| self.chunk.get(start..end)).ok_or_else(short)?.to_vec();
        self.at = end;
        Ok(bytes)
    }

    fn skip(&mut self, len: u64) -> Result<(), LlmError> {
        let end = self.at.checked_add(len).filter(|&end| end <= self.end);
        self.at = end.ok_or(Fault::Short { limit: self.end })?;
        Ok(())
    }

    pub(super) fn u32(&mut self) -> Result<u32, LlmError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, LlmError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn name(&mut self) -> Result<String, LlmError> {
        let len = self.u64()?;
        if len > MAX_NAME {
            return Err(Fault::TooMany { what: "bytes of a name", got: len, limit: MAX_NAME }.into());
        }
        let bytes = self.bytes(len)?;
        String::from_utf8(bytes).map_err(|_| Fault::Utf8.into())
    }

    pub(super) fn value(&mut self, kind: u32, depth: usize) -> Result<Meta, LlmError> {
        Ok(match kind {
            0 => Meta::Unsigned(self.array::<1>().map(u8::from_le_bytes)?.into()),
            1 => Meta::Signed(self.array::<1>().map(i8::from_le_bytes)?.into()),
            2 => Meta::Unsigned(self.array::<2>().map(u16::from_le_bytes)?.into()),
            3 => Meta::Signed(self.array::<2>().map(i16::from_le_bytes)?.into()),
            4 => Meta::Unsigned(self.u32()?.into()),
            5 => Meta::Signed(self.array::<4>().map(i32::from_le_bytes)?.into()),
            6 => Meta::Float(self.array().map(f32::from_le_bytes)?),
            7 => Meta::Bool(self.array::<1>()? != [0]),
            8 => {
                let len = self.u64()?;
                if len > MAX_NAME {
                    self.skip(len)?;
                    Meta::Other
                } else {
                    let bytes = self.bytes(len)?;
                    String::from_utf8(bytes).map_or(Meta::Other, Meta::Text)
                }
            }
            9 => {
                if depth == MAX_DEPTH {
                    return Err(Fault::Depth { limit: MAX_DEPTH }.into());
                }
                let (kind, len) = (self.u32()?, self.u64()?);
                match fixed_size(kind) {
                    Some(size) => self.skip(len.saturating_mul(size))?,
                    // Every item takes at least eight bytes of the header, which bounds the loop.
                    None if kind == 8 => {
                        for _ in 0..len {
                            let len = self.u64()?;
                            self.skip(len)?;
                        }
                    }
                    None => {
                        for _ in 0..len {
                            self.value(kind, depth + 1)?;
                        }
                    }
                }
                Meta::Other
            }
            10 => Meta::Unsigned(self.u64()?),
            11 => Meta::Signed(self.array().map(i64::from_le_bytes)?),
            12 => Meta::Float(self.array().map(f64::from_le_bytes)? as f32),
            got => return Err(Fault::ValueType { got }.into()),
        })
    }

    /// A tensor's name and place; its start is still relative to the data.
    fn info(&mut self, file: &str) -> Result<(String, Stored), LlmError> {
        let name = self.name()?;
        let rank = u64::from(self.u32()?);
        if rank > 4 {
            return Err(Fault::TooMany { what: "axes of a tensor", got: rank, limit: 4 }.into());
        }
        let mut shape = Vec::new();
        for _ in 0..rank {
            shape.push(self.u64()?);
        }
        let code = self.u32()?;
        let kind = match code {
            0 => Kind::F32,
            1 => Kind::F16,
            2 => Kind::Q4_0,
            3 => Kind::Q4_1,
            6 => Kind::Q5_0,
            7 => Kind::Q5_1,
            8 => Kind::Q8_0,
            12 => Kind::Q4_K,
            13 => Kind::Q5_K,
            14 => Kind::Q6_K,
            30 => Kind::BF16,
            _ => {
                let supported = "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K";
                return Err(LlmError::TensorType {
                    name: cut(&name),
                    got: format!("ggml {code}"),
                    supported,
                });
            }
        };
        let (block, row) = (kind.block().0 as u64, shape.first().copied().unwrap_or(1));
        if !row.is_multiple_of(block) {
            return Err(Fault::Block { name: cut(&name), got: row, block }.into());
        }
        let count = shape.iter().try_fold(1_u64, |n, &dim| n.checked_mul(dim));
        let bytes = count.and_then(|count| kind.bytes(count)).unwrap_or(u64::MAX);
        shape.reverse();
        let start = self.u64()?;
        Ok((name, Stored { file: file.to_owned(), kind, shape, start, bytes }))
    }
}

/// Bytes of a value of a fixed size.
fn fixed_size(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

impl Gguf {
    /// The architecture that metadata and tensors describe.
    ///
    /// # Errors
    /// Metadata that is missing, of another type, or asks for what `numeric.md` §11 does not define.
    pub fn architecture(&self) -> Result<Architecture, LlmError> {
        let family = match self.text("general.architecture")? {
            Some("llama") => Family::Llama,
            Some("qwen2") => Family::Qwen2,
            Some("qwen3") => Family::Qwen3,
            got => {
                let (key, got) = ("general.architecture".to_owned(), cut(got.unwrap_or("missing")));
                return Err(Fault::Unsupported { key, got, supported: "llama, qwen2, qwen3" }.into());
            }
        };
        let keys = Keys { file: self, prefix: family.name() };
        let (hidden, heads) = (keys.size("embedding_length")?, keys.size("attention.head_count")?);
        // Inside a window attention hides nothing, as in `config`.
        let window = keys.optional_size("attention.sliding_window")?.filter(|&window| window != 0);
        let context = keys.size("context_length")?.min(window.unwrap_or(usize::MAX));
        let head_dim = match keys.optional_size("attention.key_length")? {
            Some(head_dim) => head_dim,
            None if heads > 0 && hidden.is_multiple_of(heads) => hidden / heads,
            None => {
                return Err(LlmError::Inconsistent { what: "attention heads must divide the hidden size" });
            }
        };
        keys.only("attention.value_length", head_dim, "attention.key_length")?;
        keys.only("rope.dimension_count", head_dim, "the head size")?;
        keys.only("expert_count", 0, "0")?;
        let embedding = self.tensors.get("token_embd.weight").map(|stored| stored.shape.as_slice());
        let Some(&[vocabulary, _]) = embedding else {
            return Err(LlmError::TensorMissing { name: "token_embd.weight".to_owned() });
        };
        let vocabulary = usize::try_from(vocabulary).unwrap_or(usize::MAX);
        keys.only("vocab_size", vocabulary, "the rows of token_embd.weight")?;
        let has = |name: &str| self.tensors.contains_key(name);
        let architecture = Architecture {
            family,
            layers: keys.size("block_count")?,
            hidden,
            intermediate: keys.size("feed_forward_length")?,
            heads,
            kv_heads: keys.optional_size("attention.head_count_kv")?.unwrap_or(heads),
            head_dim,
            vocabulary,
            context,
            epsilon: keys
                .float("attention.layer_norm_rms_epsilon")?
                .ok_or_else(|| keys.missing("attention.layer_norm_rms_epsilon"))?,
            rope: keys.rope(has("rope_freqs.weight"))?,
            tied: !has("output.weight"),
            qkv_bias: has("blk.0.attn_q.bias"),
            output_bias: has("blk.0.attn_output.bias"),
            qk_norm: family == Family::Qwen3,
            arithmetic: Arithmetic::Float32,
        };
        architecture.check()?;
        Ok(architecture)
    }

    fn text(&self, key: &str) -> Result<Option<&str>, LlmError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Meta::Text(text)) => Ok(Some(text)),
            Some(_) => Err(kind_fault(key, "a short text")),
        }
    }
}

/// Metadata of one architecture.
struct Keys<'a> {
    file: &'a Gguf,
    prefix: &'static str,
}

impl Keys<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    fn missing(&self, name: &str) -> LlmError {
        Fault::Missing { key: self.key(name) }.into()
    }

    fn unsupported(&self, name: &str, got: &str, supported: &'static str) -> LlmError {
        Fault::Unsupported { key: self.key(name), got: cut(got), supported }.into()
    }

    fn optional_size(&self, name: &str) -> Result<Option<usize>, LlmError> {
        let key = self.key(name);
        let value = match self.file.metadata.get(&key) {
            None => return Ok(None),
            Some(Meta::Unsigned(n)) => usize::try_from(*n).ok(),
            Some(Meta::Signed(n)) => usize::try_from(*n).ok(),
            Some(_) => None,
        };
        value.map(Some).ok_or_else(|| kind_fault(&key, "one non-negative integer"))
    }

    fn size(&self, name: &str) -> Result<usize, LlmError> {
        self.optional_size(name)?.ok_or_else(|| self.missing(name))
    }

    /// If `name` is there, it must be `wanted`.
    fn only(&self, name: &str, wanted: usize, supported: &'static str) -> Result<(), LlmError> {
        match self.optional_size(name)?.filter(|&got| got != wanted) {
            None => Ok(()),
            Some(got) => Err(self.unsupported(name, &got.to_string(), supported)),
        }
    }

    fn float(&self, name: &str) -> Result<Option<f32>, LlmError> {
        let key = self.key(name);
        match self.file.metadata.get(&key) {
            None => Ok(None),
            Some(Meta::Float(x)) => Ok(Some(*x)),
            Some(_) => Err(kind_fault(&key, "a number")),
        }
    }

    fn rope(&self, factors: bool) -> Result<Rope, LlmError> {
        let theta = self.float("rope.freq_base")?.unwrap_or(10_000.0);
        if let Some(scale) = self.float("rope.scale_linear")?.filter(|&scale| scale != 1.0) {
            return Err(self.unsupported("rope.scale_linear", &scale.to_string(), "1"));
        }
        let kind = self.file.text(&self.key("rope.scaling.type"))?;
        let scaling = match (kind, factors) {
            (None | Some("none"), false) => Scaling::None,
            (None | Some("none"), true) => Scaling::Factors,
            (Some("linear"), false) => {
                let factor = self.float("rope.scaling.factor")?;
                Scaling::Linear { factor: factor.ok_or_else(|| self.missing("rope.scaling.factor"))? }
            }
            (Some(got), _) => {
                let supported = "none, or linear without rope_freqs";
                return Err(self.unsupported("rope.scaling.type", got, supported));
            }
        };
        Ok(Rope { theta, scaling })
    }
}

/// llama.cpp's name of a weight.
pub fn name(role: Role) -> String {
    let Role::Layer(layer, part) = role else {
        return match role {
            Role::Embedding => "token_embd.weight",
            Role::Norm => "output_norm.weight",
            Role::Head => "output.weight",
            Role::RopeFactors | Role::Layer(..) => "rope_freqs.weight",
        }
        .to_owned();
    };
    let part = match part {
        Part::AttentionNorm => "attn_norm.weight",
        Part::Query => "attn_q.weight",
        Part::QueryBias => "attn_q.bias",
        Part::QueryNorm => "attn_q_norm.weight",
        Part::Key => "attn_k.weight",
        Part::KeyBias => "attn_k.bias",
        Part::KeyNorm => "attn_k_norm.weight",
        Part::Value => "attn_v.weight",
        Part::ValueBias => "attn_v.bias",
        Part::Output => "attn_output.weight",
        Part::OutputBias => "attn_output.bias",
        Part::MlpNorm => "ffn_norm.weight",
        Part::Gate => "ffn_gate.weight",
        Part::Up => "ffn_up.weight",
        Part::Down => "ffn_down.weight",
    };
    format!("blk.{layer}.{part}")
}
