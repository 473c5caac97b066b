//! Text to tokens and back: what stands between a chat and a language model.
//!
//! ```text
//! messages --ChatTemplate::render--> Prompt --Tokenizer::encode_prompt--> ids -> model -> ids --Decoder--> text
//!                                                                                  ^ mask of Grammar
//! ```
//!
//! * [`Tokenizer`] reads `tokenizer.json` of Hugging Face (or the vocabulary of a GGUF file, [`gguf`]), gives the same ids as Hugging
//!   Face and decodes them; [`Decoder`] decodes as they come, and what it has said in the end is what decoding all at once says.
//! * [`ChatTemplate`] renders a model's Jinja chat template as `transformers` does, under limits of steps and of size.
//! * [`Grammar`] says which tokens may come next where an answer must fit a JSON Schema, a regular expression or a Lark grammar.
//!
//! # Control tokens in what a user writes
//!
//! `<|im_end|>` in a user's message is text, not the end of the message. Hugging Face renders a chat to one string and tokenizes that
//! string, so that the user's letters become the control token, and a user can close a turn and open one of the system's. Here every
//! string of a chat is untrusted: [`ChatTemplate::render`] keeps apart the control tokens that the template wrote and those that came
//! in through a message, and [`Tokenizer::encode_prompt`] reads the latter as letters. A chat without such text gives exactly Hugging
//! Face's ids. Tokens that a tokenizer adds without calling them special (`<think>`, `<tool_call>` of Qwen) are text by its own word
//! and stay so.
//!
//! No disk, network or clock; templates run on a thread of their own, for its stack. `tokenizers`, `minijinja` and
//! `llguidance` do the work; a panic inside any of them is an error here.
//!
//! ```
//! use hallmark_text::{ChatTemplate, Message, Request, SpecialTokens};
//!
//! let source = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}";
//! let special = SpecialTokens { control: vec!["<|im_start|>".into(), "<|im_end|>".into()], ..SpecialTokens::default() };
//! let template = ChatTemplate::new(source, special)?;
//! let messages = [Message::user("Hello")];
//! let prompt = template.render(&Request { messages: &messages, ..Request::default() })?;
//! assert_eq!(prompt.text(), "<|im_start|>user\nHello<|im_end|>\n");
//! # Ok::<(), hallmark_text::TemplateError>(())
//! ```
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]
#![forbid(unsafe_code)]

mod decoder;
pub mod gguf;
mod grammar;
mod guard;
mod message;
mod prompt;
mod template;
mod tokenizer;

pub use decoder::Decoder;
pub use grammar::{Grammar, GrammarCompiler, GrammarError, GrammarKind, TokenMask};
pub use message::{FunctionCall, Message, Request, SpecialTokens, ToolCall};
pub use prompt::Prompt;
pub use template::{ChatTemplate, TemplateError};
pub use tokenizer::{Tokenizer, TokenizerError};
