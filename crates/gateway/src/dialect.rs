//! The wire formats: how each reads a request, and writes an answer whole or in events.
//!
//! To add one, write a file with a parser into [`ChatRequest`](crate::chat::ChatRequest) and a [`Dialect`], and a route in `routes`.

use serde_json::{Map, Value};

use crate::chat::{Completed, Delta};
use crate::error::ApiError;

pub mod anthropic;
pub mod completions;
pub mod fields;
pub mod openai;
pub mod responses;

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
