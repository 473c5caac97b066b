//! The wire formats: how each reads a request, and writes an answer whole or in events.
//!
//! To add one, write a file with a parser into [`ChatRequest`] and a [`Dialect`], a variant of [`Kind`], and a route in `routes`.

use serde_json::{Map, Value};

use crate::chat::{ChatRequest, Completed, Delta};
use crate::error::ApiError;
use crate::tee;

pub mod anthropic;
pub mod completions;
pub mod fields;
pub mod openai;
pub mod responses;

/// The wire formats that ask for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// OpenAI's chat completions.
    Chat,
    /// OpenAI's completions.
    Completions,
    /// OpenAI's responses.
    Responses,
    /// Anthropic's messages.
    Messages,
}

impl Kind {
    /// Every format.
    pub const ALL: [Self; 4] = [Self::Chat, Self::Completions, Self::Responses, Self::Messages];

    /// Its name in claims.
    pub fn name(self) -> &'static str {
        match self {
            Self::Chat => "openai-chat",
            Self::Completions => "openai-completions",
            Self::Responses => "openai-responses",
            Self::Messages => "anthropic-messages",
        }
    }

    /// The format of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Reads a request.
    pub fn parse(self, body: &Map<String, Value>) -> Result<ChatRequest, ApiError> {
        match self {
            Self::Chat => openai::parse(body),
            Self::Completions => completions::parse(body),
            Self::Responses => responses::parse(body),
            Self::Messages => anthropic::parse(body),
        }
    }

    /// Writes answers to a request.
    pub fn dialect(self, head: Head, body: &Map<String, Value>) -> Result<Box<dyn Dialect>, ApiError> {
        Ok(match self {
            Self::Chat => Box::new(openai::Chat::new(head, openai::wants_usage(body)?)),
            Self::Completions => Box::new(completions::Completions::new(head)),
            Self::Responses => Box::new(responses::Responses::new(head)),
            Self::Messages => Box::new(anthropic::Messages::new(head)),
        })
    }

    /// What OpenGradient's clients hash of the request; they speak only some of the formats.
    pub fn tee_text(self, body: &Map<String, Value>) -> Option<String> {
        match self {
            Self::Chat => Some(tee::chat_text(body)),
            Self::Completions => Some(tee::completion_text(body)),
            Self::Responses | Self::Messages => None,
        }
    }

    /// How errors are written.
    pub fn error(self) -> fn(&ApiError) -> Value {
        match self {
            Self::Chat | Self::Completions | Self::Responses => ApiError::openai,
            Self::Messages => ApiError::anthropic,
        }
    }
}

/// A server-sent event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its name, where the format names events.
    pub name: Option<&'static str>,
    /// One line.
    pub data: String,
}

impl Event {
    /// An event without a name.
    pub fn data(value: &Value) -> Self {
        Self { name: None, data: one_line(value) }
    }

    /// An event with a name.
    pub fn named(name: &'static str, value: &Value) -> Self {
        Self { name: Some(name), data: one_line(value) }
    }
}

/// JSON on one line even for readers to whom more characters than line feed and carriage return end a line (Python's
/// `splitlines`, with which published clients read events). The ASCII ones among them are escaped in JSON anyway.
fn one_line(value: &Value) -> String {
    const ENDS: [(char, &str); 3] = [('\u{85}', "\\u0085"), ('\u{2028}', "\\u2028"), ('\u{2029}', "\\u2029")];
    let mut text = value.to_string();
    for (end, escape) in ENDS {
        if text.contains(end) {
            text = text.replace(end, escape);
        }
    }
    text
}

/// What every answer says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// 32 hexadecimal digits.
    pub id: String,
    /// Seconds since 1970.
    pub created: u64,
    /// The model's name.
    pub model: String,
}

/// Writes one answer.
pub trait Dialect: Send {
    /// Events before the first piece.
    fn open(&mut self) -> Vec<Event>;
    /// Events for a piece.
    fn delta(&mut self, delta: &Delta) -> Vec<Event>;
    /// The last events, of which there is at least one. `trailer` holds members about receipt and signatures.
    fn close(&mut self, done: &Completed, trailer: &Map<String, Value>) -> Vec<Event>;
    /// An event for what went wrong.
    fn failure(&self, error: &ApiError) -> Event;
    /// The whole answer at once.
    fn single(&self, done: &Completed, trailer: &Map<String, Value>) -> Value;
}

/// `value` with `more` members.
pub fn with(mut value: Value, more: &Map<String, Value>) -> Value {
    if let Value::Object(members) = &mut value {
        members.extend(more.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
    value
}
