//! Tokenizer and chat template out of a GGUF file's own metadata (`model.md` §7.4).

use hallmark_model::llm::carried::{Carried, Entry};
use hallmark_text::Tokenizer;
use hallmark_text::gguf::GgufVocabulary;

use super::LanguageError;

/// Tokens at which an answer ends.
const END: [&str; 3] = ["eos_token_id", "eot_token_id", "eom_token_id"];

/// A tokenizer with what stands beside it.
pub struct Own {
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The chat template.
    pub template: Option<String>,
    /// Tokens at which an answer ends.
    pub stop: Vec<u32>,
    carried: Carried,
    tokens: Vec<String>,
}

impl Own {
    /// Makes the tokenizer.
    pub fn new(mut carried: Carried) -> Result<Self, LanguageError> {
        let vocabulary = vocabulary(&mut carried)?;
        let tokenizer = Tokenizer::from_gguf(&vocabulary)?;
        let stop = END.into_iter().filter_map(|name| id(&carried, name).transpose());
        let stop = stop.collect::<Result<Vec<u32>, _>>()?;
        let template = carried.template.take();
        Ok(Self { tokenizer, template, stop, carried, tokens: vocabulary.tokens })
    }

    /// The text of the token whose id stands under `name`.
    pub fn token(&self, name: &str) -> Option<String> {
        let id = usize::try_from(id(&self.carried, name).ok()??).ok()?;
        self.tokens.get(id).cloned()
    }
}

fn vocabulary(carried: &mut Carried) -> Result<GgufVocabulary, LanguageError> {
    let tokens = match carried.entries.remove("tokens") {
        None => return Err(LanguageError::NoVocabulary),
        Some(Entry::Texts(tokens)) => tokens,
        Some(_) => return Err(kind("tokens", "a list of texts in UTF-8")),
    };
    let merges = match carried.entries.remove("merges") {
        None => Vec::new(),
        Some(Entry::Texts(merges)) => merges,
        Some(_) => return Err(kind("merges", "a list of texts in UTF-8")),
    };
    let scores = match carried.entries.remove("scores") {
        None => Vec::new(),
        Some(Entry::Floats(scores)) => scores,
        Some(_) => return Err(kind("scores", "a list of float32")),
    };
    let types = match carried.entries.remove("token_type") {
        None => Vec::new(),
        Some(Entry::Integers(types)) => {
            let types: Result<Vec<i32>, _> = types.into_iter().map(i32::try_from).collect();
            types.map_err(|_| kind("token_type", "a list of int32"))?
        }
        Some(_) => return Err(kind("token_type", "a list of int32")),
    };
    let model = text(carried, "model")?.ok_or_else(|| kind("model", "there"))?;
    // SentencePiece's files put `bos` before a text where they do not say otherwise; chats are framed by their template alone.
    let sentencepiece = model == "llama";
    Ok(GgufVocabulary {
        pre: text(carried, "pre")?.unwrap_or_default(),
        tokens,
        merges,
        scores,
        types,
        bos: id(carried, "bos_token_id")?,
        eos: id(carried, "eos_token_id")?,
        unknown: id(carried, "unknown_token_id")?,
        add_bos: flag(carried, "add_bos_token", sentencepiece)?,
        add_eos: flag(carried, "add_eos_token", false)?,
        add_space_prefix: flag(carried, "add_space_prefix", true)?,
        model,
    })
}

fn kind(name: &'static str, expected: &'static str) -> LanguageError {
    LanguageError::Metadata { name, expected }
}

fn text(carried: &Carried, name: &'static str) -> Result<Option<String>, LanguageError> {
    match carried.entries.get(name) {
        None => Ok(None),
        Some(Entry::Text(text)) => Ok(Some(text.clone())),
        Some(_) => Err(kind(name, "a text")),
    }
}

fn flag(carried: &Carried, name: &'static str, otherwise: bool) -> Result<bool, LanguageError> {
    match carried.entries.get(name) {
        None => Ok(otherwise),
        Some(Entry::Bool(flag)) => Ok(*flag),
        Some(_) => Err(kind(name, "a truth value")),
    }
}

fn id(carried: &Carried, name: &str) -> Result<Option<u32>, LanguageError> {
    let expected = "a token's id";
    match carried.entries.get(name) {
        None => Ok(None),
        Some(Entry::Integer(id)) => u32::try_from(*id).map(Some).map_err(|_| kind("*_token_id", expected)),
        Some(_) => Err(kind("*_token_id", expected)),
    }
}
