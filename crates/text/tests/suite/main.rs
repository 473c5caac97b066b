//! Tokenizers, templates and grammars beside Hugging Face's, and under hostile input.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use hallmark_text::Tokenizer;

mod decoder;
mod gguf;
mod grammar;
mod hostile;
mod prompt;
mod templates;
mod tokens;

const TINY_CHAT: &str = "models/tiny-chat/tokenizer.json";
const SENTENCEPIECE: &str = "vectors/text/sentencepiece.json";

fn file(path: &str) -> Vec<u8> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::fs::read(root.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn tokenizer(path: &str) -> Tokenizer {
    Tokenizer::from_json(&file(path)).unwrap()
}
