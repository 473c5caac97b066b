//! OpenAI's (older) completions: one text in, one text out. OpenGradient's clients read the text in `completion`.

use serde_json::{Map, Value, json};

use super::fields::Fields;
use super::{Dialect, Event, Head, openai, with};
use crate::backend::BackendError;
use crate::chat::{ChatRequest, Completed, Delta, Finish, Format, Message, Part, Role, ToolChoice};
use crate::error::ApiError;
use crate::providers::{self, Reader};

const KNOWN: &[&str] = &[
    "model",
    "prompt",
    "temperature",
    "top_p",
    "max_tokens",
    "stop",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "logprobs",
    "n",
    "best_of",
    "echo",
    "suffix",
    "stream",
    "stream_options",
];

/// Reads a request. The text becomes the only message; what knows chats alone takes it for a user's turn.
pub fn parse(body: &Map<String, Value>) -> Result<ChatRequest, ApiError> {
    let fields = Fields::root(body);
    let mut prompt = fields.texts("prompt", 1)?;
    let prompt = prompt.pop().ok_or_else(|| fields.wrong("prompt", "one text"))?;
    for name in ["n", "best_of"] {
        if fields.count(name)?.is_some_and(|n| n != 1) {
            return Err(fields.wrong(name, "1: every answer has a receipt of its own"));
        }
    }
    for name in ["suffix", "logprobs"] {
        if fields.get(name).is_some() {
            return Err(fields.wrong(name, "no such member: it is not supported here"));
        }
    }
    if fields.flag("echo")?.unwrap_or(false) {
        return Err(fields.wrong("echo", "false"));
    }
    let message = Message {
        role: Role::User,
        parts: vec![Part::Text(prompt)],
        tool_calls: Vec::new(),
        tool_call_id: None,
        name: None,
    };
    Ok(ChatRequest {
        model: fields.needed("model")?.to_owned(),
        messages: vec![message],
        sampling: openai::sampling(&fields)?,
        tools: Vec::new(),
        tool_choice: ToolChoice::Auto,
        format: Format::Text,
        stream: fields.flag("stream")?.unwrap_or(false),
        raw: true,
        extra: fields.others(KNOWN),
    })
}

/// Reads the events of a stream.
#[derive(Debug)]
pub struct Events;

impl Reader for Events {
    fn event(&mut self, data: &str) -> Result<Vec<Delta>, BackendError> {
        if data == "[DONE]" {
            return Ok(Vec::new());
        }
        let event = providers::parse(data)?;
        if event.get("error").is_some() {
            return Err(BackendError::Unavailable { why: "it failed in the middle of the answer" });
        }
        let text = event.pointer("/choices/0/text").and_then(Value::as_str).unwrap_or_default();
        let mut deltas = vec![Delta::Text { text: text.to_owned(), tokens: Vec::new() }];
        let finish = event.pointer("/choices/0/finish_reason").and_then(Value::as_str);
        deltas.extend(finish.map(|word| Delta::Finish(Finish::named(word))));
        Ok(deltas)
    }
}

/// Writes completions.
#[derive(Debug)]
pub struct Completions {
    head: Head,
}

impl Completions {
    /// For an answer with this head.
    pub fn new(head: Head) -> Self {
        Self { head }
    }

    fn value(&self, text: &str, finish: Option<Finish>) -> Value {
        let choice =
            json!({"index": 0, "text": text, "finish_reason": finish.map(Finish::name), "logprobs": null});
        json!({"id": format!("cmpl-{}", self.head.id), "object": "text_completion",
               "created": self.head.created, "model": self.head.model, "choices": [choice]})
    }
}

impl Dialect for Completions {
    fn open(&mut self) -> Vec<Event> {
        Vec::new()
    }

    fn delta(&mut self, delta: &Delta) -> Vec<Event> {
        match delta {
            Delta::Text { text, .. } => vec![Event::data(&self.value(text, None))],
            _ => Vec::new(),
        }
    }

    fn close(&mut self, done: &Completed, trailer: &Map<String, Value>) -> Vec<Event> {
        let usage = json!({"usage": done.usage.unwrap_or_default().to_value()});
        let mut last = with(self.value("", Some(done.finish())), trailer);
        if let Value::Object(usage) = &usage {
            last = with(last, usage);
        }
        vec![Event::data(&last), Event { name: None, data: "[DONE]".to_owned() }]
    }

    fn failure(&self, error: &ApiError) -> Event {
        Event::data(&error.openai())
    }

    fn single(&self, done: &Completed, trailer: &Map<String, Value>) -> Value {
        let mut answer = with(self.value(&done.text, Some(done.finish())), trailer);
        if let Value::Object(members) = &mut answer {
            members.insert("completion".to_owned(), done.text.as_str().into());
            members.insert("usage".to_owned(), done.usage.unwrap_or_default().to_value());
        }
        answer
    }
}
