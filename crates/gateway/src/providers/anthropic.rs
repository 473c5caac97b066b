//! Anthropic's messages API.

use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

use super::{Outgoing, Reader, Spec, Wire, data_url, parse};
use crate::backend::BackendError;
use crate::chat::{ChatRequest, Delta, Finish, Format, Message, Part, Role, ToolChoice, Usage};

/// Anthropic.
pub static SPEC: Spec = Spec {
    kind: "anthropic",
    base_url: "https://api.anthropic.com",
    auth: (HeaderName::from_static("x-api-key"), ""),
    wire: &Anthropic,
};

/// The format has no default for the length of answers.
const MAX_TOKENS: u64 = 4096;

#[derive(Debug)]
struct Anthropic;

impl Wire for Anthropic {
    fn request(&self, model: &str, request: &ChatRequest) -> Result<Outgoing, BackendError> {
        let version = (HeaderName::from_static("anthropic-version"), HeaderValue::from_static("2023-06-01"));
        let path = "/v1/messages".to_owned();
        Ok(Outgoing { path, headers: vec![version], body: Value::Object(body(model, request)?) })
    }

    fn single(&self, answer: &Value) -> Result<Vec<Delta>, BackendError> {
        let malformed = BackendError::Malformed { what: "an answer without content" };
        let content = answer.get("content").and_then(Value::as_array).ok_or(malformed)?;
        let mut deltas = Vec::new();
        let mut calls = 0;
        for block in content {
            match text_of(block, "/type") {
                "text" => {
                    deltas.push(Delta::Text { text: text_of(block, "/text").to_owned(), tokens: Vec::new() });
                }
                "tool_use" => {
                    let input = block.get("input").filter(|input| input.is_object());
                    deltas.push(Delta::Tool {
                        index: calls,
                        id: Some(text_of(block, "/id").to_owned()),
                        name: Some(text_of(block, "/name").to_owned()),
                        arguments: input.map_or_else(|| "{}".to_owned(), Value::to_string),
                    });
                    calls += 1;
                }
                // Thoughts and searches are not part of the message.
                _ => {}
            }
        }
        deltas.extend(end(answer));
        let mut usage = Usage::default();
        count(&mut usage, answer.get("usage"));
        deltas.push(Delta::Usage(usage));
        Ok(deltas)
    }

    fn reader(&self) -> Box<dyn Reader> {
        Box::new(Blocks::default())
    }
}

fn text_of<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

fn body(model: &str, request: &ChatRequest) -> Result<Map<String, Value>, BackendError> {
    let sampling = &request.sampling;
    let mut body = Map::new();
    let mut put = |name: &str, value: Value| _ = body.insert(name.to_owned(), value);
    put("model", model.into());
    put("max_tokens", sampling.max_tokens.unwrap_or(MAX_TOKENS).into());
    let is_system = |message: &&Message| matches!(message.role, Role::System | Role::Developer);
    let system: Vec<String> = request.messages.iter().filter(is_system).map(Message::text).collect();
    if !system.is_empty() {
        put("system", system.join("\n\n").into());
    }
    put("messages", messages(request.messages.iter().filter(|message| !is_system(message)))?);
    // The format's temperatures end at 1.
    if let Some(temperature) = sampling.temperature {
        put("temperature", temperature.min(1.0).into());
    }
    if let Some(top_p) = sampling.top_p {
        put("top_p", top_p.into());
    }
    if let Some(top_k) = request.extra.get("top_k") {
        put("top_k", top_k.clone());
    }
    if !sampling.stop.is_empty() {
        put("stop_sequences", sampling.stop.clone().into());
    }
    if sampling.logprobs.is_some() {
        return Err(BackendError::Unsupported { what: "logprobs" });
    }
    let mut tools: Vec<Value> = request.tools.iter().map(tool).collect();
    if request.extra.get("web_search").is_some_and(|wanted| *wanted == true) {
        tools.push(json!({"type": "web_search_20250305", "name": "web_search"}));
    }
    if !tools.is_empty() {
        put("tools", tools.into());
        match &request.tool_choice {
            ToolChoice::Auto => {}
            ToolChoice::None => put("tool_choice", json!({"type": "none"})),
            ToolChoice::Required => put("tool_choice", json!({"type": "any"})),
            ToolChoice::Function(name) => put("tool_choice", json!({"type": "tool", "name": name})),
        }
    }
    match &request.format {
        Format::Text => {}
        Format::JsonObject => return Err(BackendError::Unsupported { what: "json_object without a schema" }),
        Format::JsonSchema { schema, .. } => {
            put("output_config", json!({"format": {"type": "json_schema", "schema": schema}}));
        }
    }
    if request.stream {
        put("stream", true.into());
    }
    Ok(body)
}

fn tool(tool: &crate::chat::Tool) -> Value {
    let empty = || json!({"type": "object", "properties": {}});
    let mut out = json!({"name": tool.name, "input_schema": tool.parameters.clone().unwrap_or_else(empty)});
    if let (Some(text), Value::Object(members)) = (&tool.description, &mut out) {
        members.insert("description".to_owned(), text.as_str().into());
    }
    out
}

/// Turns alternate in this format, and a tool's results belong to the user's turn.
fn messages<'a>(list: impl Iterator<Item = &'a Message>) -> Result<Value, BackendError> {
    let mut turns: Vec<(&str, Vec<Value>)> = Vec::new();
    for message in list {
        let role = if message.role == Role::Assistant { "assistant" } else { "user" };
        let mut blocks = Vec::new();
        if matches!(message.role, Role::Tool | Role::Function) {
            let id = message.tool_call_id.as_deref().unwrap_or_default();
            blocks.push(json!({"type": "tool_result", "tool_use_id": id, "content": message.text()}));
        } else {
            for part in &message.parts {
                blocks.extend(block(part)?);
            }
        }
        for call in &message.tool_calls {
            let input: Option<Value> = serde_json::from_str(&call.arguments).ok().filter(Value::is_object);
            let input = input.unwrap_or_else(|| json!({}));
            blocks.push(json!({"type": "tool_use", "id": call.id, "name": call.name, "input": input}));
        }
        match turns.last_mut() {
            Some((last, before)) if *last == role => before.extend(blocks),
            _ => turns.push((role, blocks)),
        }
    }
    Ok(turns.into_iter().map(|(role, blocks)| json!({"role": role, "content": blocks})).collect())
}

/// Empty text is refused by the provider and says nothing.
fn block(part: &Part) -> Result<Option<Value>, BackendError> {
    match part {
        Part::Text(text) if text.is_empty() => Ok(None),
        Part::Text(text) => Ok(Some(json!({"type": "text", "text": text}))),
        Part::Image { url, .. } => Ok(Some(match data_url(url) {
            Some((kind, data)) => {
                json!({"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}})
            }
            None => json!({"type": "image", "source": {"type": "url", "url": url}}),
        })),
        Part::Other(_) => Err(BackendError::Unsupported { what: "attachments of this kind" }),
    }
}

/// Reads the stream's events; numbers calls among the blocks.
#[derive(Default)]
struct Blocks {
    calls: usize,
    /// The open call has no arguments yet.
    bare: bool,
    usage: Usage,
}

impl Reader for Blocks {
    fn event(&mut self, data: &str) -> Result<Vec<Delta>, BackendError> {
        let event = parse(data)?;
        let current = self.calls.saturating_sub(1);
        let arguments = |arguments: &str| Delta::Tool {
            index: current,
            id: None,
            name: None,
            arguments: arguments.to_owned(),
        };
        Ok(match text_of(&event, "/type") {
            "message_start" => {
                count(&mut self.usage, event.pointer("/message/usage"));
                Vec::new()
            }
            "content_block_start" if text_of(&event, "/content_block/type") == "tool_use" => {
                self.calls += 1;
                self.bare = true;
                vec![Delta::Tool {
                    index: self.calls - 1,
                    id: Some(text_of(&event, "/content_block/id").to_owned()),
                    name: Some(text_of(&event, "/content_block/name").to_owned()),
                    arguments: String::new(),
                }]
            }
            "content_block_delta" => match text_of(&event, "/delta/type") {
                "text_delta" => {
                    let text = text_of(&event, "/delta/text").to_owned();
                    vec![Delta::Text { text, tokens: Vec::new() }]
                }
                "input_json_delta" if self.calls > 0 => {
                    let piece = text_of(&event, "/delta/partial_json");
                    self.bare = self.bare && piece.is_empty();
                    vec![arguments(piece)]
                }
                _ => Vec::new(),
            },
            // A call without arguments has no piece of them; its text must still be an object.
            "content_block_stop" if std::mem::take(&mut self.bare) => vec![arguments("{}")],
            "message_delta" => {
                count(&mut self.usage, event.get("usage"));
                let mut deltas = end(event.get("delta").unwrap_or(&Value::Null));
                deltas.push(Delta::Usage(self.usage));
                deltas
            }
            "error" => match text_of(&event, "/error/type") {
                "overloaded_error" => return Err(BackendError::Busy { retry_after: None }),
                _ => {
                    return Err(BackendError::Unavailable { why: "it failed in the middle of the answer" });
                }
            },
            _ => Vec::new(),
        })
    }
}

/// Why an answer ended, by its `stop_reason` and `stop_sequence`.
fn end(answer: &Value) -> Vec<Delta> {
    let finish = match text_of(answer, "/stop_reason") {
        "max_tokens" | "model_context_window_exceeded" => Finish::Length,
        "tool_use" => Finish::ToolCalls,
        "refusal" => Finish::ContentFilter,
        _ => Finish::Stop,
    };
    let text = answer.get("stop_sequence").and_then(Value::as_str);
    text.map(|text| Delta::StopText(text.to_owned())).into_iter().chain([Delta::Finish(finish)]).collect()
}

/// Takes in what `usage` gives; counts come in pieces.
fn count(total: &mut Usage, usage: Option<&Value>) {
    let get = |name: &str| usage.and_then(|usage| usage.get(name)).and_then(Value::as_u64);
    if let Some(fresh) = get("input_tokens") {
        total.cached = get("cache_read_input_tokens").unwrap_or(0);
        let written = get("cache_creation_input_tokens").unwrap_or(0);
        total.input = fresh.saturating_add(total.cached).saturating_add(written);
    }
    if let Some(output) = get("output_tokens") {
        total.output = output;
    }
}
