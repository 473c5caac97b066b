//! Tokenizer and chat template that a GGUF file carries (`model.md` §7.4): their digests and their values, as plain types.

use std::collections::BTreeMap;

use hallmark_receipt::Digest;
use hallmark_receipt::digest::Hasher;

use super::error::{GgufFault as Fault, LlmError};
use super::gguf::{self, Cursor, Meta};
use crate::onnx::ExternalData;

/// What the tokenizer's keys begin with.
const TOKENIZER: &str = "tokenizer.ggml.";
/// The chat template's key.
const TEMPLATE: &str = "tokenizer.chat_template";
/// Bytes of all these entries.
const MAX_BYTES: u64 = 64 << 20;
/// Items of a list.
const MAX_ITEMS: u64 = 1 << 21;

/// What a GGUF file carries beside architecture and weights.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Carried {
    /// The digest of the entries `tokenizer.ggml.*`; `None` if there are none.
    pub tokenizer: Option<Digest>,
    /// Those entries, by what follows `tokenizer.ggml.` in their key.
    pub entries: BTreeMap<String, Entry>,
    /// `tokenizer.chat_template`, where it is a text.
    pub template: Option<String>,
}

/// A value of an entry.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Entry {
    Integer(i64),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    Integers(Vec<i64>),
    Floats(Vec<f32>),
    /// Anything else, and texts that are not UTF-8.
    Other,
}

impl Carried {
    /// Reads the GGUF called `file`.
    ///
    /// # Errors
    /// Those of [`gguf::read`], and entries that are too long.
    pub fn read(file: &str, source: &dyn ExternalData) -> Result<Self, LlmError> {
        let spans = gguf::read(file, source)?.tokenizer;
        let got = spans.values().map(|(start, end)| end - start).sum();
        if got > MAX_BYTES {
            let what = "bytes of the tokenizer's metadata";
            return Err(Fault::TooMany { what, got, limit: MAX_BYTES }.into());
        }
        let (mut carried, mut hasher) = (Self::default(), Hasher::default());
        for (key, (start, end)) in spans {
            let cursor = || Cursor::new(file, source, start, end);
            let mut value = cursor();
            value.name()?;
            if let Some(name) = key.strip_prefix(TOKENIZER) {
                hasher.update(&cursor().bytes(end - start)?);
                carried.entries.insert(name.to_owned(), entry(&mut value)?);
            } else if key == TEMPLATE
                && let Entry::Text(template) = entry(&mut value)?
            {
                carried.template = Some(template);
            }
        }
        carried.tokenizer = (!carried.entries.is_empty()).then(|| hasher.finish());
        Ok(carried)
    }

    /// SHA-256 of the chat template.
    pub fn template_digest(&self) -> Option<Digest> {
        self.template.as_ref().map(|template| Digest::of(&[template.as_bytes()]))
    }
}

/// A type and its value.
fn entry(cursor: &mut Cursor<'_>) -> Result<Entry, LlmError> {
    let kind = cursor.u32()?;
    if kind == 8 {
        return Ok(text(cursor)?.map_or(Entry::Other, Entry::Text));
    }
    if kind != 9 {
        return Ok(match cursor.value(kind, 0)? {
            Meta::Unsigned(n) => i64::try_from(n).map_or(Entry::Other, Entry::Integer),
            Meta::Signed(n) => Entry::Integer(n),
            Meta::Bool(flag) => Entry::Bool(flag),
            _ => Entry::Other,
        });
    }
    let (kind, len) = (cursor.u32()?, cursor.u64()?);
    if len > MAX_ITEMS {
        return Err(Fault::TooMany { what: "items of a list", got: len, limit: MAX_ITEMS }.into());
    }
    Ok(match kind {
        4 => Entry::Integers(words(cursor, len)?.map(|word| u32::from_le_bytes(word).into()).collect()),
        5 => Entry::Integers(words(cursor, len)?.map(|word| i32::from_le_bytes(word).into()).collect()),
        6 => Entry::Floats(words(cursor, len)?.map(f32::from_le_bytes).collect()),
        8 => {
            let texts = (0..len).map(|_| text(cursor)).collect::<Result<Option<Vec<String>>, _>>()?;
            texts.map_or(Entry::Other, Entry::Texts)
        }
        _ => Entry::Other,
    })
}

/// A text of any length; `None` if it is not UTF-8.
fn text(cursor: &mut Cursor<'_>) -> Result<Option<String>, LlmError> {
    let len = cursor.u64()?;
    Ok(String::from_utf8(cursor.bytes(len)?).ok())
}

/// `len` values of four bytes.
fn words(cursor: &mut Cursor<'_>, len: u64) -> Result<impl Iterator<Item = [u8; 4]> + use<>, LlmError> {
    let bytes = cursor.bytes(len.saturating_mul(4))?;
    let words: Vec<[u8; 4]> = bytes.as_chunks().0.to_vec();
    Ok(words.into_iter())
}
