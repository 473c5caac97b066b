//! The wire formats: how each reads a request, and writes an answer whole or in events.
//!
//! To add one, write a file with a parser into [`ChatRequest`] and a [`Dialect`], a variant of [`Kind`], and a route in `routes`.

use serde_json::{Map, Value};

use crate::backend::BackendError;
use crate::chat::{ChatRequest, Completed, Delta};
use crate::error::ApiError;
use crate::providers::{self, Reader};
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

    /// Reads the events that the format's [`Dialect`] writes.
    pub fn reader(self) -> Box<dyn Reader> {
        match self {
            Self::Chat => providers::openai::SPEC.wire.reader(),
            Self::Completions => Box::new(completions::Events),
            Self::Responses => Box::new(responses::Events::default()),
            Self::Messages => providers::anthropic::SPEC.wire.reader(),
        }
    }

    /// The message that a whole answer tells: what [`Dialect::single`] wrote it from.
    pub fn message(self, answer: &Value) -> Result<Value, BackendError> {
        let deltas = match self {
            Self::Chat => providers::openai::SPEC.wire.single(answer)?,
            Self::Completions => completions::Events.event(&answer.to_string())?,
            Self::Responses => return Ok(responses::told(answer).message()),
            Self::Messages => providers::anthropic::SPEC.wire.single(answer)?,
        };
        let mut told = Completed::default();
        for delta in &deltas {
            told.push(delta).map_err(|_| BackendError::Malformed { what: "an answer too large" })?;
        }
        Ok(told.message())
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

    /// Adds the event's lines.
    pub fn write(&self, out: &mut String) {
        write_event(out, self.name, &self.data);
    }

    /// An event with a name.
    pub fn named(name: &'static str, value: &Value) -> Self {
        Self { name: Some(name), data: one_line(value) }
    }
}

/// Adds the lines of an event.
pub fn write_event(out: &mut String, name: Option<&str>, data: &str) {
    if let Some(name) = name {
        out.push_str("event: ");
        out.push_str(name);
        out.push('\n');
    }
    out.push_str("data: ");
    out.push_str(data);
    out.push_str("\n\n");
}

/// JSON on one line even for readers to whom more characters than line feed and carriage return end a line (Python's
/// `splitlines`, with which published clients read events). The ASCII ones among them are escaped in JSON anyway.
fn one_line(value: &Value) -> String {
    const ENDS: [(char, &str); 3] = [('\u{85}', "\\u0085"), ('\u{2028}', "\\u2028"), ('\u{2029}', "\\u2029")];
    let mut text = crate::json::text(value);
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::chat::{Finish, Usage};

    /// What each format's writer streams, its reader reads: the message to which the receipt commits, and no end before the end.
    #[test]
    fn readers_read_what_writers_write() {
        let tool = |id: Option<&str>, name: Option<&str>, arguments: &str, index| Delta::Tool {
            index,
            id: id.map(str::to_owned),
            name: name.map(str::to_owned),
            arguments: arguments.to_owned(),
        };
        let text = |text: &str| Delta::Text { text: text.to_owned(), tokens: Vec::new() };
        let end = [Delta::Finish(Finish::Length), Delta::Usage(Usage::default())];
        let said = [&[text("Gr\u{fc}"), text(""), text("\u{df}e \u{2028}\n")][..], &end].concat();
        let calls = [text("so"), tool(Some("a"), Some("f"), "", 0), tool(None, None, "{\"x\":", 0)];
        let more = [tool(None, None, "1}", 0), tool(Some("b"), Some("g"), "{}", 1)];
        let called = [&calls[..], &more, &end].concat();
        for kind in Kind::ALL {
            read_back(kind, &said);
            if kind != Kind::Completions {
                read_back(kind, &called);
            }
        }
    }

    fn read_back(kind: Kind, deltas: &[Delta]) {
        let head = Head { id: "0".repeat(32), created: 1, model: "m".to_owned() };
        let mut writer = kind.dialect(head, &Map::new()).unwrap();
        let mut done = Completed::default();
        let mut events = writer.open();
        for delta in deltas {
            done.push(delta).unwrap();
            events.extend(writer.delta(delta));
        }
        let pieces = events.len();
        events.extend(writer.close(&done, &Map::new()));
        let (mut reader, mut told) = (kind.reader(), Completed::default());
        for (index, event) in events.iter().enumerate() {
            for delta in reader.event(&event.data).unwrap() {
                told.push(&delta).unwrap();
            }
            assert!(index >= pieces || told.finish.is_none(), "{kind:?}: an end before the end");
        }
        assert_eq!((told.message(), told.finish), (done.message(), done.finish), "{kind:?}");
        assert!(reader.event(&writer.failure(&ApiError::Receipt).data).is_err(), "{kind:?}");
    }

    #[test]
    fn messages_tell_which_text_ended_them() {
        let head = Head { id: "0".repeat(32), created: 1, model: "m".to_owned() };
        let mut writer = Kind::Messages.dialect(head, &Map::new()).unwrap();
        let mut done = Completed::default();
        for delta in [Delta::StopText("END".to_owned()), Delta::Finish(Finish::Stop)] {
            done.push(&delta).unwrap();
        }
        let whole = writer.single(&done, &Map::new());
        assert_eq!(
            (&whole["stop_reason"], &whole["stop_sequence"]),
            (&json!("stop_sequence"), &json!("END"))
        );
        let (mut reader, mut told) = (Kind::Messages.reader(), Completed::default());
        for event in writer.open().into_iter().chain(writer.close(&done, &Map::new())) {
            for delta in reader.event(&event.data).unwrap() {
                told.push(&delta).unwrap();
            }
        }
        assert_eq!((told.stop_text.as_deref(), told.finish), (Some("END"), Some(Finish::Stop)));
    }

    #[test]
    fn an_end_that_tells_another_answer_is_refused() {
        let mut reader = Kind::Responses.reader();
        let delta = json!({"type": "response.output_text.delta", "delta": "yes"});
        reader.event(&delta.to_string()).unwrap();
        let item = json!({"type": "message", "content": [{"type": "output_text", "text": "no"}]});
        let end = json!({"type": "response.completed", "response": {"output": [item]}});
        assert!(reader.event(&end.to_string()).is_err());
    }
}
