//! Text to token ids and back, as Hugging Face's `tokenizers`.

use std::sync::OnceLock;

use serde_json::Value;
use tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::metaspace::PrependScheme;
use tokenizers::pre_tokenizers::sequence::Sequence;

use crate::decoder::{Decoder, Scheme, token_bytes};
use crate::guard::{short, unpanicked};
use crate::prompt::Prompt;

/// A tokenizer: a vocabulary, and the rules by which text becomes ids of it.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// Made when first needed: it is a second copy of the vocabulary.
    blind: OnceLock<Option<Blind>>,
    scheme: Option<Scheme>,
    /// What each id stands for; `None` for an id that the vocabulary skips.
    vocabulary: Vec<Option<Token>>,
    /// Control tokens, the longest first, so that the first match at a place is the longest.
    control: Vec<Control>,
}

/// A tokenizer that is blind to control tokens.
struct Blind {
    /// For whole texts.
    whole: tokenizers::Tokenizer,
    /// For what follows a control token, where it differs.
    rest: Option<tokenizers::Tokenizer>,
}

/// A control token.
#[derive(Debug)]
struct Control {
    text: String,
    id: u32,
    /// Whether it takes in the white space before it, and behind it.
    eats: (bool, bool),
}

/// A token of the vocabulary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// Its bytes when decoded on its own, before anything is stripped.
    pub(crate) bytes: Vec<u8>,
    /// Whether it stands for a raw byte (`<0x0A>` of SentencePiece).
    pub(crate) raw: bool,
    /// Whether it is a control token.
    pub(crate) special: bool,
}

/// Why text could not be tokenized, or a tokenizer not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The file is too large.
    #[error("a tokenizer file of {got} bytes; at most {limit} are read")]
    FileTooLarge {
        /// Its size in bytes.
        got: usize,
        /// [`Tokenizer::MAX_FILE`].
        limit: usize,
    },
    /// The file is not a tokenizer.
    #[error("not a tokenizer.json: {0}")]
    Malformed(String),
    /// The vocabulary has an id beyond the limit.
    #[error("token id {got}; ids are below {limit}")]
    IdTooLarge {
        /// The id.
        got: u32,
        /// [`Tokenizer::MAX_VOCABULARY`].
        limit: u32,
    },
    /// The text is too long.
    #[error("a text of {got} bytes; at most {limit} are tokenized")]
    TextTooLong {
        /// Its length in bytes.
        got: usize,
        /// [`Tokenizer::MAX_TEXT`].
        limit: usize,
    },
    /// The tokenizer cannot take the text.
    #[error("the tokenizer refuses the text: {0}")]
    Refused(String),
    /// A text's frame alone is as long as a text may be.
    #[error("{limit} tokens of a text are read, and its frame has {frame}")]
    NoRoom {
        /// Tokens that are read.
        limit: usize,
        /// Tokens of the frame.
        frame: usize,
    },
    /// Tokens cannot be turned to text.
    #[error("the tokenizer's decoder is neither byte-level nor SentencePiece's nor Metaspace")]
    UnsupportedDecoder,
    /// A GGUF vocabulary that is not understood.
    #[error("GGUF vocabulary: {0}")]
    Gguf(#[from] crate::gguf::GgufError),
    /// The library failed where it must not.
    #[error("a panic inside the tokenizer library while {doing}")]
    Panicked {
        /// What was under way.
        doing: &'static str,
    },
}

impl Tokenizer {
    /// The largest file that is read, in bytes.
    pub const MAX_FILE: usize = 64 << 20;
    /// The longest text that is tokenized, in bytes.
    pub const MAX_TEXT: usize = 4 << 20;
    /// Ids are below this.
    pub const MAX_VOCABULARY: u32 = 1 << 20;

    /// Reads a `tokenizer.json`. Truncation and padding, which some files carry from training, are dropped.
    pub fn from_json(file: &[u8]) -> Result<Self, TokenizerError> {
        if file.len() > Self::MAX_FILE {
            return Err(TokenizerError::FileTooLarge { got: file.len(), limit: Self::MAX_FILE });
        }
        let json: Value = serde_json::from_slice(file).map_err(|e| TokenizerError::Malformed(short(e)))?;
        bound_ids(&json)?;
        let mut inner = unpanicked(|| tokenizers::Tokenizer::from_bytes(file))
            .ok_or(TokenizerError::Panicked { doing: "reading a file" })?
            .map_err(|e| TokenizerError::Malformed(short(e)))?;
        inner.with_truncation(None).map_err(|e| TokenizerError::Malformed(short(e)))?;
        inner.with_padding(None);
        Self::build(inner, &json)
    }

    fn build(inner: tokenizers::Tokenizer, json: &Value) -> Result<Self, TokenizerError> {
        let scheme = Scheme::of(json.get("decoder").unwrap_or(&Value::Null));
        let added = inner.get_added_tokens_decoder();
        let mut entries: Vec<(String, u32)> = inner.get_vocab(true).into_iter().collect();
        entries.sort_by_key(|entry| entry.1);
        let mut vocabulary = Vec::new();
        for (text, id) in entries {
            if id >= Self::MAX_VOCABULARY {
                return Err(TokenizerError::IdTooLarge { got: id, limit: Self::MAX_VOCABULARY });
            }
            let at = id as usize;
            if vocabulary.len() <= at {
                vocabulary.resize(at.saturating_add(1), None);
            }
            // An added token may be known by its normalized form, which is what decodes.
            let text = inner.get_added_vocabulary().simple_id_to_token(id).unwrap_or(text);
            let special = added.get(&id).is_some_and(|token| token.special);
            let (bytes, raw) = token_bytes(scheme.as_ref(), &text);
            if let Some(slot) = vocabulary.get_mut(at) {
                *slot = Some(Token { bytes, raw, special });
            }
        }
        let mut control: Vec<Control> = added
            .iter()
            .filter(|(_, token)| token.special && !token.content.is_empty())
            .map(|(&id, token)| Control {
                text: token.content.clone(),
                id,
                eats: (token.lstrip, token.rstrip),
            })
            .collect();
        control.sort_by(|a, b| b.text.len().cmp(&a.text.len()).then_with(|| a.text.cmp(&b.text)));
        Ok(Self { inner, blind: OnceLock::new(), scheme, vocabulary, control })
    }

    /// The same tokenizer, which reads `limit` tokens of a text, its own frame included, and leaves out the rest. As Hugging Face's
    /// truncation.
    pub fn truncated(mut self, limit: usize) -> Result<Self, TokenizerError> {
        let frame = self.encode("", true)?.len();
        if limit <= frame {
            return Err(TokenizerError::NoRoom { limit, frame });
        }
        let truncation = tokenizers::TruncationParams { max_length: limit, ..Default::default() };
        self.inner.with_truncation(Some(truncation)).map_err(|e| TokenizerError::Refused(short(e)))?;
        self.blind = OnceLock::new();
        Ok(self)
    }

    /// How many ids there are: one more than the largest. A model may have more rows than that.
    pub fn vocabulary_size(&self) -> usize {
        self.vocabulary.len()
    }

    /// The id of a token, by its text in the vocabulary.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The text of every control token.
    pub fn control_tokens(&self) -> Vec<String> {
        self.control.iter().map(|control| control.text.clone()).collect()
    }

    /// Whether `id` is a control token.
    pub fn is_control(&self, id: u32) -> bool {
        self.token(id).is_some_and(|token| token.special)
    }

    pub(crate) fn token(&self, id: u32) -> Option<&Token> {
        self.vocabulary.get(id as usize)?.as_ref()
    }

    pub(crate) fn scheme(&self) -> Option<&Scheme> {
        self.scheme.as_ref()
    }

    /// The ids of `text`, in which control tokens mean what they say: for text of one's own. With `add_special_tokens` the model's
    /// own frame is added, such as `<s>` before. As Hugging Face's `encode`.
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, TokenizerError> {
        encode(&self.inner, text, add_special_tokens)
    }

    /// The ids of `text`, in which control tokens are letters: for text of others.
    pub fn encode_plain(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        encode(&self.blind()?.whole, text, false)
    }

    /// The ids of a rendered chat. What looks like a control token and came in through a message is letters; then each stretch between
    /// the template's own control tokens is tokenized on its own.
    pub fn encode_prompt(&self, prompt: &Prompt) -> Result<Vec<u32>, TokenizerError> {
        if !prompt.is_marked() {
            return self.encode(&prompt.text(), false);
        }
        let (mut ids, mut rest) = (Vec::new(), prompt.marked());
        let mut stretch = String::new();
        while !rest.is_empty() {
            let token = self.control.iter().find_map(|control| {
                let after = rest.strip_prefix(control.text.as_str())?;
                // A control token of one character is marked behind it.
                (!prompt.starts_with_mark(after)).then_some((after, control))
            });
            if let Some((after, control)) = token {
                let (before, behind) = control.eats;
                if before {
                    stretch.truncate(stretch.trim_end().len());
                }
                self.encode_stretch(prompt, &stretch, &mut ids)?;
                ids.push(control.id);
                stretch.clear();
                rest = if behind { after.trim_start() } else { after };
            } else {
                let mut characters = rest.chars();
                stretch.extend(characters.next());
                rest = characters.as_str();
            }
        }
        self.encode_stretch(prompt, &stretch, &mut ids)?;
        Ok(ids)
    }

    fn encode_stretch(
        &self,
        prompt: &Prompt,
        marked: &str,
        ids: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        if !marked.is_empty() {
            let blind = self.blind()?;
            let rest = blind.rest.as_ref().filter(|_| !ids.is_empty());
            ids.extend(encode(rest.unwrap_or(&blind.whole), &prompt.plain(marked), false)?);
        }
        Ok(())
    }

    fn blind(&self) -> Result<&Blind, TokenizerError> {
        let make = || {
            unpanicked(|| {
                let mut whole = self.inner.clone();
                whole.set_encode_special_tokens(true);
                let step = whole.get_pre_tokenizer();
                let other = step.map(|step| inside(step.clone())).filter(|other| Some(other) != step);
                let rest = other.map(|other| {
                    let mut rest = whole.clone();
                    rest.with_pre_tokenizer(Some(other));
                    rest
                });
                Blind { whole, rest }
            })
        };
        self.blind.get_or_init(make).as_ref().ok_or(TokenizerError::Panicked { doing: "copying a tokenizer" })
    }

    /// The text of `ids`. Bytes that are not UTF-8 become U+FFFD, as in Hugging Face, and an id that stands for nothing becomes nothing:
    /// models have more rows than their vocabularies have tokens. With `skip_special_tokens` control tokens are left out.
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String, TokenizerError> {
        let mut decoder = self.decoder(skip_special_tokens)?;
        let mut text = String::new();
        for &id in ids {
            text.push_str(&decoder.push(id));
        }
        text.push_str(&decoder.finish());
        Ok(text)
    }

    /// Decodes ids as they come.
    pub fn decoder(&self, skip_special_tokens: bool) -> Result<Decoder<'_>, TokenizerError> {
        Decoder::new(self, skip_special_tokens)
    }
}

/// The step as it is for text that does not begin the whole: a prefix for the first piece alone is not put there.
fn inside(step: PreTokenizerWrapper) -> PreTokenizerWrapper {
    match step {
        PreTokenizerWrapper::Metaspace(mut step) => {
            if step.get_prepend_scheme() == PrependScheme::First {
                step.set_prepend_scheme(PrependScheme::Never);
            }
            PreTokenizerWrapper::Metaspace(step)
        }
        PreTokenizerWrapper::Sequence(steps) => {
            PreTokenizerWrapper::Sequence(Sequence::new(steps.into_iter().map(inside).collect()))
        }
        other => other,
    }
}

fn encode(
    tokenizer: &tokenizers::Tokenizer,
    text: &str,
    add_special_tokens: bool,
) -> Result<Vec<u32>, TokenizerError> {
    if text.len() > Tokenizer::MAX_TEXT {
        return Err(TokenizerError::TextTooLong { got: text.len(), limit: Tokenizer::MAX_TEXT });
    }
    let encoding = unpanicked(|| tokenizer.encode_fast(text, add_special_tokens))
        .ok_or(TokenizerError::Panicked { doing: "tokenizing a text" })?
        .map_err(|e| TokenizerError::Refused(short(e)))?;
    Ok(encoding.get_ids().to_vec())
}

/// Refuses ids that would make a table too large, before the library makes one.
fn bound_ids(json: &Value) -> Result<(), TokenizerError> {
    let limit = Tokenizer::MAX_VOCABULARY;
    let vocab = json.get("model").and_then(|model| model.get("vocab"));
    let listed = vocab.and_then(Value::as_object).into_iter().flat_map(|map| map.values());
    let added = json.get("added_tokens").and_then(Value::as_array).into_iter().flatten();
    for id in listed.chain(added.filter_map(|token| token.get("id"))).filter_map(Value::as_u64) {
        if id >= u64::from(limit) {
            return Err(TokenizerError::IdTooLarge { got: u32::try_from(id).unwrap_or(u32::MAX), limit });
        }
    }
    Ok(())
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocabulary_size", &self.vocabulary.len())
            .field("scheme", &self.scheme)
            .field("control", &self.control)
            .finish_non_exhaustive()
    }
}
