//! Vocabularies as GGUF files carry them (`tokenizer.ggml.*`), as the `tokenizer.json` that Hugging Face would have made of them.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::tokenizer::Tokenizer;

/// The metadata `tokenizer.ggml.*` of a GGUF file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GgufVocabulary {
    /// `model`: `gpt2` (byte-level BPE) or `llama` (SentencePiece BPE).
    pub model: String,
    /// `pre`: how `gpt2` splits text before merging. Empty is `default`.
    pub pre: String,
    /// `tokens`, by id.
    pub tokens: Vec<String>,
    /// `merges` of `gpt2`, the first first: two tokens with a space between.
    pub merges: Vec<String>,
    /// `scores` of `llama`, by id: of two possible merges the one with the higher score comes first.
    pub scores: Vec<f32>,
    /// `token_type`, by id: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte. May be empty: all normal.
    pub types: Vec<i32>,
    /// `bos_token_id`.
    pub bos: Option<u32>,
    /// `eos_token_id`.
    pub eos: Option<u32>,
    /// `unknown_token_id`.
    pub unknown: Option<u32>,
    /// `add_bos_token`: whether a text's frame begins with `bos`.
    pub add_bos: bool,
    /// `add_eos_token`: whether a text's frame ends with `eos`.
    pub add_eos: bool,
    /// `add_space_prefix` of `llama`: whether a space is put before a text. True where the file is silent.
    pub add_space_prefix: bool,
}

/// Why a vocabulary of a GGUF file is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The kind of tokenizer is not known.
    #[error("tokenizer model {0:?}; `gpt2` and `llama` are known")]
    Model(String),
    /// The way that text is split is not known: guessing would give other ids in silence.
    #[error("pre-tokenizer {0:?} is not known")]
    Pre(String),
    /// There are too many tokens.
    #[error("{got} tokens; at most {limit}")]
    TooManyTokens {
        /// How many there are.
        got: usize,
        /// [`Tokenizer::MAX_VOCABULARY`].
        limit: u32,
    },
    /// A token is too long.
    #[error("token {id} has {got} bytes; at most {limit}")]
    TokenTooLong {
        /// Its id.
        id: usize,
        /// Its length in bytes.
        got: usize,
        /// The limit.
        limit: usize,
    },
    /// A list has another length than the tokens.
    #[error("{got} {list} for {tokens} tokens")]
    Length {
        /// The list: `scores` or `token types`.
        list: &'static str,
        /// Its length.
        got: usize,
        /// How many tokens there are.
        tokens: usize,
    },
    /// An id that no token has.
    #[error("{name} is token {id}, of {tokens}")]
    NoSuchToken {
        /// What the id is for.
        name: &'static str,
        /// The id.
        id: u32,
        /// How many tokens there are.
        tokens: usize,
    },
    /// Two ids have the same token.
    #[error("tokens {first} and {second} are the same")]
    Twice {
        /// The lower id.
        first: usize,
        /// The higher id.
        second: usize,
    },
    /// A score is not a number.
    #[error("the score of token {0} is not a number")]
    Score(usize),
}

const MAX_TOKEN: usize = 1024;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;

/// What GPT-4 splits by, with digits in threes (Llama 3) or alone (Qwen 2).
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

impl Tokenizer {
    /// The tokenizer of a GGUF file.
    pub fn from_gguf(vocabulary: &GgufVocabulary) -> Result<Self, crate::TokenizerError> {
        let json = vocabulary.tokenizer_json()?;
        let file = serde_json::to_vec(&json)
            .map_err(|e| crate::TokenizerError::Malformed(crate::guard::short(e)))?;
        Self::from_json(&file)
    }
}

impl GgufVocabulary {
    /// The vocabulary as a `tokenizer.json`.
    pub fn tokenizer_json(&self) -> Result<Value, GgufError> {
        let ids = self.check()?;
        let (model, normalizer, pre_tokenizer, decoder) = match self.model.as_str() {
            "gpt2" => self.byte_level(&ids)?,
            "llama" => self.sentencepiece(&ids)?,
            other => return Err(GgufError::Model(other.chars().take(64).collect())),
        };
        let kind = |id: usize| self.types.get(id).copied().unwrap_or(1);
        let added: Vec<Value> = self
            .tokens
            .iter()
            .enumerate()
            .filter(|(id, token)| matches!(kind(*id), CONTROL | USER_DEFINED) && !token.is_empty())
            .map(|(id, token)| {
                json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                       "normalized": false, "special": kind(id) == CONTROL})
            })
            .collect();
        Ok(json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer, "post_processor": self.frame(), "decoder": decoder, "model": model,
        }))
    }

    /// Checks lengths and ids; gives the id of each token.
    fn check(&self) -> Result<HashMap<&str, usize>, GgufError> {
        let tokens = self.tokens.len();
        let limit = Self::limit();
        if tokens > limit {
            return Err(GgufError::TooManyTokens { got: tokens, limit: Tokenizer::MAX_VOCABULARY });
        }
        let lists = [("scores", self.scores.len()), ("token types", self.types.len())];
        for (list, got) in lists {
            if got != 0 && got != tokens {
                return Err(GgufError::Length { list, got, tokens });
            }
        }
        for (name, id) in [("bos", self.bos), ("eos", self.eos), ("unknown", self.unknown)] {
            if let Some(id) = id.filter(|&id| id as usize >= tokens) {
                return Err(GgufError::NoSuchToken { name, id, tokens });
            }
        }
        let mut ids = HashMap::with_capacity(tokens);
        for (id, token) in self.tokens.iter().enumerate() {
            if token.len() > MAX_TOKEN {
                return Err(GgufError::TokenTooLong { id, got: token.len(), limit: MAX_TOKEN });
            }
            if let Some(first) = ids.insert(token.as_str(), id) {
                return Err(GgufError::Twice { first, second: id });
            }
        }
        Ok(ids)
    }

    fn limit() -> usize {
        Tokenizer::MAX_VOCABULARY as usize
    }

    /// Model, normalizer, pre-tokenizer and decoder of `gpt2`.
    fn byte_level(&self, ids: &HashMap<&str, usize>) -> Result<(Value, Value, Value, Value), GgufError> {
        let level = |regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": regex});
        let split = |pattern: &str| {
            let split = json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
            json!({"type": "Sequence", "pretokenizers": [split, level(false)]})
        };
        let (pre_tokenizer, normalizer) = match self.pre.as_str() {
            "" | "default" | "gpt-2" => (level(true), Value::Null),
            "llama-bpe" | "llama3" | "llama-v3" => (split(LLAMA3), Value::Null),
            "qwen2" | "deepseek-r1-qwen" => (split(QWEN2), json!({"type": "NFC"})),
            "smollm" => {
                let digits = json!({"type": "Digits", "individual_digits": true});
                (json!({"type": "Sequence", "pretokenizers": [digits, level(true)]}), Value::Null)
            }
            other => return Err(GgufError::Pre(other.chars().take(64).collect())),
        };
        // Llama 3 takes a word that is a token as it is, whatever the merges say.
        let whole_words = self.pre.starts_with("llama");
        let model = json!({"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                           "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                           "ignore_merges": whole_words, "vocab": ids, "merges": self.merges});
        Ok((model, normalizer, pre_tokenizer, level(true)))
    }

    /// Model, normalizer, pre-tokenizer and decoder of `llama`.
    fn sentencepiece(&self, ids: &HashMap<&str, usize>) -> Result<(Value, Value, Value, Value), GgufError> {
        let score = |id: usize| self.scores.get(id).copied().unwrap_or(0.0);
        if let Some(id) = (0..self.tokens.len()).find(|&id| score(id).is_nan()) {
            return Err(GgufError::Score(id));
        }
        // SentencePiece merges whichever two neighbours make the token of the highest score: every way to split a token is a merge.
        let mut merges: Vec<(usize, usize, usize)> = Vec::new();
        for (id, token) in self.tokens.iter().enumerate() {
            let splits = token.char_indices().skip(1).filter_map(|(at, _)| token.split_at_checked(at));
            merges.extend(splits.filter_map(|(left, right)| Some((id, *ids.get(left)?, *ids.get(right)?))));
        }
        merges.sort_by(|a, b| score(b.0).total_cmp(&score(a.0)).then_with(|| a.cmp(b)));
        let text = |id: usize| self.tokens.get(id).map_or("", String::as_str);
        let merges: Vec<[&str; 2]> =
            merges.into_iter().map(|(_, left, right)| [text(left), text(right)]).collect();
        let unknown = self.unknown.map(|id| text(id as usize));
        let model = json!({"type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null,
                           "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
                           "vocab": ids, "merges": merges});
        let replace =
            |from: &str, to: &str| json!({"type": "Replace", "pattern": {"String": from}, "content": to});
        let mut normalizers = vec![replace(" ", "▁")];
        let mut decoders = vec![replace("▁", " "), json!({"type": "ByteFallback"}), json!({"type": "Fuse"})];
        if self.add_space_prefix {
            normalizers.insert(0, json!({"type": "Prepend", "prepend": "▁"}));
            decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
        }
        let normalizer = json!({"type": "Sequence", "normalizers": normalizers});
        Ok((model, normalizer, Value::Null, json!({"type": "Sequence", "decoders": decoders})))
    }

    /// The post-processor that puts `bos` and `eos` around a text.
    fn frame(&self) -> Value {
        let named = |id: Option<u32>, wanted: bool| {
            let id = id.filter(|_| wanted)?;
            Some((id, self.tokens.get(id as usize)?))
        };
        let (bos, eos) = (named(self.bos, self.add_bos), named(self.eos, self.add_eos));
        let special = |token: &str, kind: u32| json!({"SpecialToken": {"id": token, "type_id": kind}});
        let sequence = |name: &str, kind: u32| {
            let text = json!({"Sequence": {"id": name, "type_id": kind}});
            let before = bos.map(|(_, token)| special(token, kind));
            let after = eos.map(|(_, token)| special(token, kind));
            before.into_iter().chain([text]).chain(after).collect::<Vec<Value>>()
        };
        if bos.is_none() && eos.is_none() {
            return Value::Null;
        }
        let tokens: serde_json::Map<String, Value> = [bos, eos]
            .into_iter()
            .flatten()
            .map(|(id, token)| (token.clone(), json!({"id": token, "ids": [id], "tokens": [token]})))
            .collect();
        let pair = [sequence("A", 0), sequence("B", 1)].concat();
        json!({"type": "TemplateProcessing", "single": sequence("A", 0), "pair": pair, "special_tokens": tokens})
    }
}
