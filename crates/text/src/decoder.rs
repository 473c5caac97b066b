//! Ids to text, one at a time.
//!
//! Three schemes cover the language models in use. *Byte-level* (GPT-2, Llama 3, Qwen): a token is bytes, and the text is their
//! concatenation read as UTF-8. *SentencePiece* (Llama 2, Mistral, Gemma): a token is text with `▁` for a space, or one raw byte; a run
//! of raw bytes that is not UTF-8 as a whole is one U+FFFD a byte. *Metaspace*: text with `▁` for a space, without raw bytes. All are what
//! `tokenizers` does when it decodes all at once.

use serde_json::Value;

use crate::tokenizer::{Tokenizer, TokenizerError};

/// How tokens become text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    ByteLevel,
    SentencePiece {
        /// Replaced in each token's text, in order.
        replace: Vec<(String, String)>,
        /// Stripped from the start of the whole text, at most so many times.
        strip: Option<(char, usize)>,
    },
    Metaspace {
        /// Stands for a space.
        replacement: char,
        /// Whether texts were given a space before them, which goes again.
        prefixed: bool,
    },
}

impl Scheme {
    /// The scheme of a `decoder` of tokenizer.json, if it is one of them.
    pub(crate) fn of(decoder: &Value) -> Option<Self> {
        let kind = |value: &Value| value.get("type").and_then(Value::as_str).map(str::to_owned);
        match kind(decoder)?.as_str() {
            "ByteLevel" => return Some(Self::ByteLevel),
            "Metaspace" => {
                let replacement = decoder.get("replacement")?.as_str()?.chars().next()?;
                // Older files say it by a truth value.
                let prefixed = match decoder.get("prepend_scheme").and_then(Value::as_str) {
                    Some(scheme) => scheme != "never",
                    None => decoder.get("add_prefix_space").and_then(Value::as_bool).unwrap_or(true),
                };
                return Some(Self::Metaspace { replacement, prefixed });
            }
            "Sequence" => {}
            _ => return None,
        }
        let steps = decoder.get("decoders")?.as_array()?;
        if let [only] = steps.as_slice() {
            return Self::of(only);
        }
        let (mut replace, mut strip, mut fallback, mut fused) = (Vec::new(), None, false, false);
        for step in steps {
            match kind(step)?.as_str() {
                "Replace" if !fallback => {
                    let from = step.get("pattern")?.get("String")?.as_str()?;
                    replace.push((from.to_owned(), step.get("content")?.as_str()?.to_owned()));
                }
                "ByteFallback" if !fallback => fallback = true,
                "Fuse" if fallback && !fused => fused = true,
                "Strip" if fused && strip.is_none() && step.get("stop")?.as_u64()? == 0 => {
                    let content = step.get("content")?.as_str()?.chars().next()?;
                    strip = Some((content, usize::try_from(step.get("start")?.as_u64()?).ok()?));
                }
                _ => return None,
            }
        }
        fused.then_some(Self::SentencePiece { replace, strip })
    }
}

/// The bytes of a token of the vocabulary, and whether it is a raw byte of SentencePiece.
pub(crate) fn token_bytes(scheme: Option<&Scheme>, text: &str) -> (Vec<u8>, bool) {
    match scheme {
        None => (text.as_bytes().to_vec(), false),
        // A token with a character that stands for no byte, such as an added one, is text.
        Some(Scheme::ByteLevel) => {
            let bytes: Option<Vec<u8>> = text.chars().map(byte_of).collect();
            (bytes.unwrap_or_else(|| text.as_bytes().to_vec()), false)
        }
        Some(Scheme::Metaspace { replacement, .. }) => (text.replace(*replacement, " ").into_bytes(), false),
        Some(Scheme::SentencePiece { replace, .. }) => {
            let text = replace.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
            let digits = text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
            match digits.filter(|d| d.len() == 2).and_then(|d| u8::from_str_radix(d, 16).ok()) {
                Some(byte) => (vec![byte], true),
                None => (text.into_bytes(), false),
            }
        }
    }
}

/// GPT-2's alphabet: printable bytes of Latin-1 stand for themselves, the others, in order, for U+0100 and on.
fn byte_of(character: char) -> Option<u8> {
    let code = u32::from(character);
    let printable = |code: u32| matches!(code, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    if printable(code) {
        return u8::try_from(code).ok();
    }
    let at = usize::try_from(code.checked_sub(0x100)?).ok()?;
    let byte = (0..=0xFF_u32).filter(|&byte| !printable(byte)).nth(at)?;
    u8::try_from(byte).ok()
}

/// Decodes ids as they come, and never splits a character: [`push`](Self::push) gives the text that has become certain, which may be
/// none, and [`finish`](Self::finish) the rest. All of it together is [`Tokenizer::decode`] of all ids.
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    tokenizer: &'a Tokenizer,
    scheme: &'a Scheme,
    skip_special_tokens: bool,
    /// Bytes that are not yet text: of a character (byte-level), or of a run of raw bytes (SentencePiece).
    pending: Vec<u8>,
    /// How many characters may still be stripped from the start.
    strip: usize,
    /// Whether no token has come yet.
    first: bool,
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(tokenizer: &'a Tokenizer, skip_special_tokens: bool) -> Result<Self, TokenizerError> {
        let scheme = tokenizer.scheme().ok_or(TokenizerError::UnsupportedDecoder)?;
        let strip = match scheme {
            Scheme::SentencePiece { strip: Some((_, count)), .. } => *count,
            _ => 0,
        };
        Ok(Self { tokenizer, scheme, skip_special_tokens, pending: Vec::new(), strip, first: true })
    }

    /// Takes the next id; gives the text that it makes certain.
    pub fn push(&mut self, id: u32) -> String {
        let Some(token) = self.tokenizer.token(id) else { return String::new() };
        if token.special && self.skip_special_tokens {
            return String::new();
        }
        let mut text = String::new();
        match self.scheme {
            Scheme::ByteLevel => {
                self.pending.extend_from_slice(&token.bytes);
                self.drain_utf8(&mut text);
            }
            Scheme::SentencePiece { .. } if token.raw => self.pending.extend_from_slice(&token.bytes),
            Scheme::SentencePiece { .. } => {
                self.end_run(&mut text);
                text.push_str(&String::from_utf8_lossy(&token.bytes));
            }
            Scheme::Metaspace { prefixed, .. } => {
                let spaced = String::from_utf8_lossy(&token.bytes);
                match std::mem::take(&mut self.first) && *prefixed {
                    true => text.extend(spaced.chars().filter(|character| *character != ' ')),
                    false => text.push_str(&spaced),
                }
            }
        }
        self.stripped(text)
    }

    /// The text that was still uncertain.
    pub fn finish(mut self) -> String {
        let mut text = String::new();
        match self.scheme {
            Scheme::ByteLevel => text.push_str(&String::from_utf8_lossy(&std::mem::take(&mut self.pending))),
            Scheme::SentencePiece { .. } | Scheme::Metaspace { .. } => self.end_run(&mut text),
        }
        self.stripped(text)
    }

    /// Moves what is certain of `pending` to `text`: all but the beginning of a character at its end.
    fn drain_utf8(&mut self, text: &mut String) {
        let bytes = std::mem::take(&mut self.pending);
        let mut chunks = bytes.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text.push_str(chunk.valid());
            let invalid = chunk.invalid();
            let unfinished = || std::str::from_utf8(invalid).is_err_and(|e| e.error_len().is_none());
            if chunks.peek().is_none() && unfinished() {
                self.pending = invalid.to_vec();
            } else if !invalid.is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
    }

    /// Ends a run of raw bytes.
    fn end_run(&mut self, text: &mut String) {
        let run = std::mem::take(&mut self.pending);
        match std::str::from_utf8(&run) {
            Ok(run) => text.push_str(run),
            Err(_) => text.extend(run.iter().map(|_| char::REPLACEMENT_CHARACTER)),
        }
    }

    /// `text` without what is stripped from the start of the whole.
    fn stripped(&mut self, text: String) -> String {
        let Scheme::SentencePiece { strip: Some((content, _)), .. } = self.scheme else { return text };
        let mut rest = text.as_str();
        while self.strip > 0 && !rest.is_empty() {
            match rest.strip_prefix(*content) {
                Some(after) => {
                    rest = after;
                    self.strip = self.strip.saturating_sub(1);
                }
                None => self.strip = 0,
            }
        }
        rest.to_owned()
    }
}
