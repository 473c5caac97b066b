//! Grammars that an answer must fit, as masks over the vocabulary.
//!
//! llguidance follows the grammar and bounds its own work. It times itself for statistics; nothing that it answers depends on that.

use std::sync::Arc;

use llguidance::api::{StopReason, TopLevelGrammar};
use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};

use crate::guard::{short, unpanicked};
use crate::tokenizer::Tokenizer;

/// How a grammar is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GrammarKind {
    /// A JSON Schema: the answer is JSON that it allows. `{}` is any JSON.
    JsonSchema,
    /// A regular expression that the whole answer matches.
    Regex,
    /// A grammar in Lark's notation, as llguidance reads it.
    Lark,
}

/// A vocabulary made ready for grammars: compile many with one.
pub struct GrammarCompiler {
    factory: ParserFactory,
    vocabulary: usize,
}

/// A grammar and how far an answer has come in it.
pub struct Grammar {
    matcher: Matcher,
    vocabulary: usize,
}

/// Why a grammar cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GrammarError {
    /// The grammar's text is too long.
    #[error("a grammar of {got} bytes; at most {limit} are read")]
    TooLong {
        /// Its length in bytes.
        got: usize,
        /// [`Grammar::MAX_TEXT`].
        limit: usize,
    },
    /// The grammar is malformed, asks for what is not supported, or is too large.
    #[error("not a grammar: {0}")]
    Malformed(String),
    /// The tokenizer does not say what its tokens stand for, or has no token to end with.
    #[error("the tokenizer cannot be used with a grammar: {0}")]
    Tokenizer(&'static str),
    /// The token is not one that the mask allows.
    #[error("token {0} does not fit the grammar")]
    NotAllowed(u32),
    /// The grammar is too ambiguous or costly to follow.
    #[error("the grammar fails: {0}")]
    Failed(String),
    /// The library failed where it must not.
    #[error("a panic inside the grammar library")]
    Panicked,
}

/// Which tokens may come next: one bit an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenMask {
    words: Vec<u32>,
    size: usize,
}

impl TokenMask {
    /// The bits, the least significant first: id `i` is bit `i % 32` of word `i / 32`.
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    /// How many ids there are.
    pub fn len(&self) -> usize {
        self.size
    }

    /// Whether there are no ids at all.
    pub fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// Whether `id` may come next.
    pub fn allows(&self, id: u32) -> bool {
        let (word, bit) = (id / 32, id % 32);
        (id as usize) < self.size && self.words.get(word as usize).is_some_and(|word| (word >> bit) & 1 == 1)
    }

    /// The ids that may come next, in order.
    pub fn ids(&self) -> impl Iterator<Item = u32> + '_ {
        (0..u32::try_from(self.size).unwrap_or(u32::MAX)).filter(|&id| self.allows(id))
    }
}

impl GrammarCompiler {
    /// Prepares the vocabulary: some tenths of a second for a large one. `end` is the token that ends an answer.
    pub fn new(tokenizer: &Tokenizer, end: u32) -> Result<Self, GrammarError> {
        if tokenizer.scheme().is_none() {
            return Err(GrammarError::Tokenizer("its decoder is neither byte-level nor SentencePiece's"));
        }
        if tokenizer.token(end).is_none() {
            return Err(GrammarError::Tokenizer("the token that ends an answer is not in the vocabulary"));
        }
        let vocabulary = tokenizer.vocabulary_size();
        let size = u32::try_from(vocabulary).map_err(|_| GrammarError::Tokenizer("too many tokens"))?;
        let bytes = |id: u32| match tokenizer.token(id) {
            // No text leads to a control token: the mark is a byte that UTF-8 never has.
            Some(token) if token.special => {
                [&[TokTrie::SPECIAL_TOKEN_MARKER], token.bytes.as_slice()].concat()
            }
            Some(token) => token.bytes.clone(),
            None => Vec::new(),
        };
        let words: Vec<Vec<u8>> = (0..size).map(bytes).collect();
        let factory = unpanicked(|| {
            let trie = TokTrie::from(&TokRxInfo::new(size, end), &words);
            let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
            let mut factory = ParserFactory::new_simple(&environment)?;
            factory.quiet();
            // Errors that quote the whole grammar are of no use to whoever sent it.
            factory.limits_mut().verbose_errors = false;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(factory)
        });
        let factory = factory.ok_or(GrammarError::Panicked)?;
        let factory = factory.map_err(|e| GrammarError::Malformed(short(e)))?;
        Ok(Self { factory, vocabulary })
    }

    /// Reads a grammar.
    pub fn compile(&self, kind: GrammarKind, text: &str) -> Result<Grammar, GrammarError> {
        if text.len() > Grammar::MAX_TEXT {
            return Err(GrammarError::TooLong { got: text.len(), limit: Grammar::MAX_TEXT });
        }
        let grammar = match kind {
            GrammarKind::JsonSchema => {
                let schema = serde_json::from_str(text).map_err(|e| GrammarError::Malformed(short(e)))?;
                TopLevelGrammar::from_json_schema(schema)
            }
            GrammarKind::Regex => TopLevelGrammar::from_regex(text),
            GrammarKind::Lark => TopLevelGrammar::from_lark(text.to_owned()),
        };
        let matcher =
            unpanicked(|| Matcher::new(self.factory.create_parser(grammar))).ok_or(GrammarError::Panicked)?;
        match matcher.get_error() {
            Some(error) => Err(GrammarError::Malformed(short(error))),
            None => Ok(Grammar { matcher, vocabulary: self.vocabulary }),
        }
    }
}

impl Grammar {
    /// The longest grammar, in bytes.
    pub const MAX_TEXT: usize = 1 << 20;

    /// Reads a grammar for one answer; [`GrammarCompiler`] is for many. `end` is the token that ends an answer: the mask allows it
    /// where the answer is complete.
    pub fn new(tokenizer: &Tokenizer, end: u32, kind: GrammarKind, text: &str) -> Result<Self, GrammarError> {
        GrammarCompiler::new(tokenizer, end)?.compile(kind, text)
    }

    /// The tokens that may come next; in the end only the token that ends an answer.
    pub fn mask(&mut self) -> Result<TokenMask, GrammarError> {
        let mask = unpanicked(|| self.matcher.compute_mask_or_eos());
        let mask = mask.ok_or(GrammarError::Panicked)?.map_err(|e| GrammarError::Failed(short(e)))?;
        Ok(TokenMask { words: mask.as_slice().to_vec(), size: self.vocabulary })
    }

    /// Takes the token that came. After [`GrammarError::NotAllowed`] the grammar is where it was.
    pub fn commit(&mut self, token: u32) -> Result<(), GrammarError> {
        let taken = unpanicked(|| self.matcher.try_consume_tokens(&[token]));
        match taken.ok_or(GrammarError::Panicked)?.map_err(|e| GrammarError::Failed(short(e)))? {
            1 => Ok(()),
            _ => Err(GrammarError::NotAllowed(token)),
        }
    }

    /// Whether the answer may end here.
    pub fn is_complete(&mut self) -> bool {
        self.is_stopped() || unpanicked(|| self.matcher.is_accepting().unwrap_or(false)).unwrap_or(false)
    }

    /// Whether nothing but the end may come.
    pub fn is_stopped(&self) -> bool {
        matches!(
            self.matcher.stop_reason(),
            StopReason::NoExtension | StopReason::NoExtensionBias | StopReason::EndOfSentence
        )
    }
}
