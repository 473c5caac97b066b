//! OpenAI's responses, in the form that needs no memory on the node: the whole conversation comes with the request.

use serde_json::{Map, Value, json};

use super::fields::Fields;
use super::{Dialect, Event, Head, openai, with};
use crate::backend::BackendError;
use crate::chat::{
    ChatRequest, Completed, Delta, Finish, Format, Message, Part, Role, Sampling, Tool, ToolCall, Usage,
};
use crate::error::ApiError;
use crate::providers::{self, Reader};

/// Reads a request.
pub fn parse(body: &Map<String, Value>) -> Result<ChatRequest, ApiError> {
    let fields = Fields::root(body);
    for name in ["previous_response_id", "conversation", "prompt", "background"] {
        if fields.get(name).is_some_and(|value| *value != false) {
            return Err(fields.wrong(name, "no such member: nothing is remembered between requests"));
        }
    }
    let mut messages = Vec::new();
    if let Some(text) = fields.text("instructions")? {
        messages.push(plain(Role::System, vec![Part::Text(text.to_owned())]));
    }
    match fields.get("input") {
        Some(Value::String(text)) => messages.push(plain(Role::User, vec![Part::Text(text.clone())])),
        Some(Value::Array(_)) => {
            for item in fields.objects("input")? {
                self::item(&item, &mut messages)?;
            }
        }
        _ => return Err(fields.wrong("input", "text or a list of items")),
    }
    if messages.is_empty() {
        return Err(fields.wrong("input", "at least one item"));
    }
    let sampling = Sampling {
        temperature: fields.number("temperature", 0.0, 2.0)?,
        top_p: fields.number("top_p", 0.0, 1.0)?,
        max_tokens: fields.count("max_output_tokens")?,
        ..Sampling::default()
    };
    Ok(ChatRequest {
        model: fields.needed("model")?.to_owned(),
        messages,
        sampling,
        tools: fields.objects("tools")?.iter().map(tool).collect::<Result<_, _>>()?,
        tool_choice: openai::tool_choice(&fields, |choice| Ok(choice.needed("name")?.to_owned()))?,
        format: format(&fields)?,
        stream: fields.flag("stream")?.unwrap_or(false),
        raw: false,
        extra: effort(&fields)?,
    })
}

/// How hard to think, in the words of chat completions.
fn effort(fields: &Fields<'_>) -> Result<Map<String, Value>, ApiError> {
    let reasoning = fields.object("reasoning")?;
    let effort = reasoning.map(|reasoning| reasoning.text("effort")).transpose()?.flatten();
    Ok(effort.map(|effort| ("reasoning_effort".to_owned(), effort.into())).into_iter().collect())
}

fn plain(role: Role, parts: Vec<Part>) -> Message {
    Message { role, parts, tool_calls: Vec::new(), tool_call_id: None, name: None }
}

fn item(fields: &Fields<'_>, out: &mut Vec<Message>) -> Result<(), ApiError> {
    match fields.text("type")?.unwrap_or("message") {
        "message" => {
            let role = match fields.needed("role")? {
                "user" => Role::User,
                "assistant" => Role::Assistant,
                "system" => Role::System,
                "developer" => Role::Developer,
                _ => return Err(fields.wrong("role", "user, assistant, system or developer")),
            };
            let parts = match fields.get("content") {
                Some(Value::String(text)) => vec![Part::Text(text.clone())],
                _ => fields.objects("content")?.iter().map(part).collect::<Result<_, _>>()?,
            };
            out.push(plain(role, parts));
        }
        "function_call" => {
            let call = ToolCall {
                id: fields.needed("call_id")?.to_owned(),
                name: fields.needed("name")?.to_owned(),
                arguments: fields.needed("arguments")?.to_owned(),
            };
            // Calls of one turn stand in one message.
            match out.last_mut().filter(|last| last.role == Role::Assistant) {
                Some(last) => last.tool_calls.push(call),
                None => {
                    let mut message = plain(Role::Assistant, Vec::new());
                    message.tool_calls.push(call);
                    out.push(message);
                }
            }
        }
        "function_call_output" => {
            let parts = match fields.get("output") {
                Some(Value::Array(_)) => {
                    fields.objects("output")?.iter().map(part).collect::<Result<_, _>>()?
                }
                _ => vec![Part::Text(fields.needed("output")?.to_owned())],
            };
            let mut message = plain(Role::Tool, parts);
            message.tool_call_id = Some(fields.needed("call_id")?.to_owned());
            out.push(message);
        }
        // Thoughts of an earlier answer mean nothing to other models.
        "reasoning" => {}
        "item_reference" => {
            let expected = "the item itself: nothing is remembered between requests (clients have `store: false` for that)";
            return Err(fields.wrong("type", expected));
        }
        _ => return Err(fields.wrong("type", "message, function_call or function_call_output")),
    }
    Ok(())
}

fn part(fields: &Fields<'_>) -> Result<Part, ApiError> {
    match fields.needed("type")? {
        "input_text" | "output_text" | "text" => Ok(Part::Text(fields.needed("text")?.to_owned())),
        "input_image" => {
            let detail = fields.text("detail")?.map(str::to_owned);
            Ok(Part::Image { url: fields.needed("image_url")?.to_owned(), detail })
        }
        _ => Err(fields.wrong("type", "input_text, output_text or input_image")),
    }
}

fn tool(fields: &Fields<'_>) -> Result<Tool, ApiError> {
    if fields.needed("type")? != "function" {
        return Err(fields.wrong("type", "function: tools that the provider runs are not supported here"));
    }
    openai::function(fields)
}

fn format(fields: &Fields<'_>) -> Result<Format, ApiError> {
    let text = fields.object("text")?;
    let Some(format) = text.map(|text| text.object("format")).transpose()?.flatten() else {
        return Ok(Format::Text);
    };
    match format.needed("type")? {
        "text" => Ok(Format::Text),
        "json_object" => Ok(Format::JsonObject),
        "json_schema" => Ok(Format::JsonSchema {
            name: format.needed("name")?.to_owned(),
            schema: format.needed_object("schema")?.value(),
            strict: format.flag("strict")?,
        }),
        _ => Err(format.wrong("type", "text, json_object or json_schema")),
    }
}

/// Reads the events of a stream.
#[derive(Debug, Default)]
pub struct Events {
    told: Completed,
}

impl Reader for Events {
    fn event(&mut self, data: &str) -> Result<Vec<Delta>, BackendError> {
        let event = providers::parse(data)?;
        let text = |path: &str| event.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let deltas = match text("/type") {
            "response.output_text.delta" => {
                vec![Delta::Text { text: text("/delta").to_owned(), tokens: Vec::new() }]
            }
            "response.output_item.added" if text("/item/type") == "function_call" => {
                let (id, name) = (text("/item/call_id").to_owned(), text("/item/name").to_owned());
                let index = self.told.tool_calls.len();
                vec![Delta::Tool { index, id: Some(id), name: Some(name), arguments: String::new() }]
            }
            "response.function_call_arguments.delta" => {
                let index = self.told.tool_calls.len().saturating_sub(1);
                vec![Delta::Tool { index, id: None, name: None, arguments: text("/delta").to_owned() }]
            }
            "response.completed" | "response.incomplete" => vec![Delta::Finish(self.end(&event)?)],
            "error" | "response.failed" => {
                return Err(BackendError::Unavailable { why: "it failed in the middle of the answer" });
            }
            _ => Vec::new(),
        };
        for delta in &deltas {
            let malformed = |_| BackendError::Malformed { what: "an answer too large" };
            self.told.push(delta).map_err(malformed)?;
        }
        Ok(deltas)
    }
}

impl Events {
    /// The last event holds the whole answer, which must be what the pieces told.
    fn end(&self, event: &Value) -> Result<Finish, BackendError> {
        let whole = told(event.get("response").unwrap_or(&Value::Null));
        if (&whole.text, &whole.tool_calls) != (&self.told.text, &self.told.tool_calls) {
            return Err(BackendError::Malformed { what: "an end that is not what the pieces told" });
        }
        Ok(match event.pointer("/response/incomplete_details/reason").and_then(Value::as_str) {
            Some("max_output_tokens") => Finish::Length,
            Some(_) => Finish::ContentFilter,
            None if whole.tool_calls.is_empty() => Finish::Stop,
            None => Finish::ToolCalls,
        })
    }
}

/// What a whole answer tells.
pub fn told(response: &Value) -> Completed {
    let mut whole = Completed::default();
    let items = response.get("output").and_then(Value::as_array);
    for item in items.into_iter().flatten() {
        let text = |path: &str| item.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        match text("/type").as_str() {
            "message" => whole.text.push_str(&text("/content/0/text")),
            "function_call" => whole.tool_calls.push(ToolCall {
                id: text("/call_id"),
                name: text("/name"),
                arguments: text("/arguments"),
            }),
            _ => {}
        }
    }
    whole
}

/// Writes responses.
#[derive(Debug)]
pub struct Responses {
    head: Head,
    sequence: u64,
    /// What was streamed so far, in order; the last one is open.
    items: Vec<Item>,
}

#[derive(Clone, Debug)]
enum Item {
    Text(String),
    Call { number: usize, call: ToolCall },
}

impl Responses {
    /// For an answer with this head.
    pub fn new(head: Head) -> Self {
        Self { head, sequence: 0, items: Vec::new() }
    }

    fn event(&mut self, name: &'static str, value: Value) -> Event {
        let mut more = Map::new();
        more.insert("type".to_owned(), name.into());
        more.insert("sequence_number".to_owned(), self.sequence.into());
        self.sequence += 1;
        Event::named(name, &with(value, &more))
    }

    fn item(&self, index: usize, item: &Item, status: &str) -> Value {
        let id = self.item_id(index, item);
        match item {
            Item::Text(text) => {
                json!({"type": "message", "id": id, "status": status, "role": "assistant", "content": [content(text)]})
            }
            Item::Call { call, .. } => json!({"type": "function_call", "id": id, "status": status,
                "call_id": call.id, "name": call.name, "arguments": call.arguments}),
        }
    }

    fn item_id(&self, index: usize, item: &Item) -> String {
        let prefix = if matches!(item, Item::Text(_)) { "msg" } else { "fc" };
        format!("{prefix}_{}_{index}", self.head.id)
    }

    fn response(&self, status: &str, items: &[Item], done: Option<&Completed>) -> Value {
        let items: Value =
            items.iter().enumerate().map(|(index, item)| self.item(index, item, "completed")).collect();
        let reason = match done.map(Completed::finish) {
            Some(Finish::Length) => json!({"reason": "max_output_tokens"}),
            Some(Finish::ContentFilter) => json!({"reason": "content_filter"}),
            _ => Value::Null,
        };
        let status = if reason.is_null() { status } else { "incomplete" };
        let usage = done.map(|done| usage(done.usage.unwrap_or_default()));
        json!({"id": format!("resp_{}", self.head.id), "object": "response", "created_at": self.head.created,
            "status": status, "error": null, "incomplete_details": reason, "instructions": null,
            "metadata": {}, "model": self.head.model, "output": items, "parallel_tool_calls": true,
            "previous_response_id": null, "store": false, "temperature": null, "tool_choice": "auto",
            "tools": [], "top_p": null, "usage": usage})
    }

    fn start(&mut self, item: Item, events: &mut Vec<Event>) {
        self.end(events);
        let index = self.items.len();
        let is_text = matches!(item, Item::Text(_));
        let mut value = self.item(index, &item, "in_progress");
        if let (true, Value::Object(members)) = (is_text, &mut value) {
            members.insert("content".to_owned(), json!([]));
        }
        events.push(self.event("response.output_item.added", json!({"output_index": index, "item": value})));
        if is_text {
            let id = self.item_id(index, &item);
            let value =
                json!({"item_id": id, "output_index": index, "content_index": 0, "part": content("")});
            events.push(self.event("response.content_part.added", value));
        }
        self.items.push(item);
    }

    /// Ends the open item.
    fn end(&mut self, events: &mut Vec<Event>) {
        let Some(item) = self.items.last().cloned() else { return };
        let index = self.items.len() - 1;
        let id = self.item_id(index, &item);
        match &item {
            Item::Text(text) => {
                let at = json!({"item_id": id, "output_index": index, "content_index": 0});
                let more = |name: &str, value: Value| {
                    let mut more = Map::new();
                    more.insert(name.to_owned(), value);
                    more
                };
                let mut done = more("text", text.as_str().into());
                done.insert("logprobs".to_owned(), json!([]));
                events.push(self.event("response.output_text.done", with(at.clone(), &done)));
                let part = more("part", content(text));
                events.push(self.event("response.content_part.done", with(at, &part)));
            }
            Item::Call { call, .. } => {
                let value = json!({"item_id": id, "output_index": index, "name": call.name, "arguments": call.arguments});
                events.push(self.event("response.function_call_arguments.done", value));
            }
        }
        let value = json!({"output_index": index, "item": self.item(index, &item, "completed")});
        events.push(self.event("response.output_item.done", value));
    }
}

fn content(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

fn usage(usage: Usage) -> Value {
    json!({"input_tokens": usage.input, "input_tokens_details": {"cached_tokens": usage.cached},
           "output_tokens": usage.output, "output_tokens_details": {"reasoning_tokens": usage.reasoning},
           "total_tokens": usage.total()})
}

impl Dialect for Responses {
    fn open(&mut self) -> Vec<Event> {
        let response = json!({"response": self.response("in_progress", &[], None)});
        vec![self.event("response.created", response.clone()), self.event("response.in_progress", response)]
    }

    fn delta(&mut self, delta: &Delta) -> Vec<Event> {
        let mut events = Vec::new();
        match delta {
            Delta::Text { text, .. } => {
                if !matches!(self.items.last(), Some(Item::Text(_))) {
                    self.start(Item::Text(String::new()), &mut events);
                }
                let index = self.items.len().saturating_sub(1);
                if let Some(Item::Text(all)) = self.items.last_mut() {
                    all.push_str(text);
                }
                let id = format!("msg_{}_{index}", self.head.id);
                let value = json!({"item_id": id, "output_index": index, "content_index": 0, "delta": text, "logprobs": []});
                events.push(self.event("response.output_text.delta", value));
            }
            Delta::Tool { index: number, id, name, arguments } => {
                let is_open =
                    matches!(self.items.last(), Some(Item::Call { number: open, .. }) if open == number);
                if !is_open {
                    let (id, name) = (id.clone().unwrap_or_default(), name.clone().unwrap_or_default());
                    let call = ToolCall { id, name, arguments: String::new() };
                    self.start(Item::Call { number: *number, call }, &mut events);
                }
                let index = self.items.len().saturating_sub(1);
                if let Some(Item::Call { call, .. }) = self.items.last_mut() {
                    call.arguments.push_str(arguments);
                }
                if !arguments.is_empty() {
                    let id = format!("fc_{}_{index}", self.head.id);
                    let value = json!({"item_id": id, "output_index": index, "delta": arguments});
                    events.push(self.event("response.function_call_arguments.delta", value));
                }
            }
            Delta::StopText(_) | Delta::Finish(_) | Delta::Usage(_) | Delta::Replay(_) => {}
        }
        events
    }

    fn close(&mut self, done: &Completed, trailer: &Map<String, Value>) -> Vec<Event> {
        let mut events = Vec::new();
        self.end(&mut events);
        let response = with(self.response("completed", &self.items, Some(done)), trailer);
        let incomplete = matches!(done.finish(), Finish::Length | Finish::ContentFilter);
        let name = if incomplete { "response.incomplete" } else { "response.completed" };
        events.push(self.event(name, json!({"response": response})));
        events
    }

    fn failure(&self, error: &ApiError) -> Event {
        let inner = error.openai();
        let part = |name: &str| inner.pointer(&format!("/error/{name}")).cloned().unwrap_or(Value::Null);
        let value = json!({"type": "error", "sequence_number": self.sequence, "code": part("code"),
                           "message": part("message"), "param": part("param")});
        Event::named("error", &value)
    }

    fn single(&self, done: &Completed, trailer: &Map<String, Value>) -> Value {
        let mut items = Vec::new();
        if !done.text.is_empty() || done.tool_calls.is_empty() {
            items.push(Item::Text(done.text.clone()));
        }
        let calls = done.tool_calls.iter().enumerate();
        items.extend(calls.map(|(number, call)| Item::Call { number, call: call.clone() }));
        with(self.response("completed", &items, Some(done)), trailer)
    }
}
