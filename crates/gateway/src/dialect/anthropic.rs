//! Anthropic's messages.

use serde_json::{Map, Value, json};

use super::fields::Fields;
use super::{Dialect, Event, Head, with};
use crate::chat::{
    ChatRequest, Completed, Delta, Finish, Format, Message, Part, Role, Sampling, Tool, ToolCall, ToolChoice,
    Usage,
};
use crate::error::ApiError;

/// Reads a request. Members that say how an answer is made, and that this gateway does not know, are refused rather than dropped.
pub fn parse(body: &Map<String, Value>) -> Result<ChatRequest, ApiError> {
    let fields = Fields::root(body);
    for name in ["thinking", "mcp_servers", "container"] {
        let idle = |value: &Value| value["type"] == "disabled" || *value == json!([]);
        if fields.get(name).is_some_and(|value| !idle(value)) {
            return Err(fields.wrong(name, "no such member: it is not supported here"));
        }
    }
    let mut messages = system(&fields)?;
    let turns = fields.objects("messages")?;
    if turns.is_empty() {
        return Err(fields.wrong("messages", "at least one message"));
    }
    for turn in &turns {
        self::turn(turn, &mut messages)?;
    }
    let max_tokens = fields.count("max_tokens")?.ok_or_else(|| fields.wrong("max_tokens", "an integer"))?;
    let sampling = Sampling {
        temperature: fields.number("temperature", 0.0, 1.0)?,
        top_p: fields.number("top_p", 0.0, 1.0)?,
        max_tokens: Some(max_tokens),
        stop: fields.texts("stop_sequences", 16)?,
        ..Sampling::default()
    };
    Ok(ChatRequest {
        model: fields.needed("model")?.to_owned(),
        messages,
        sampling,
        tools: fields.objects("tools")?.iter().map(tool).collect::<Result<_, _>>()?,
        tool_choice: tool_choice(&fields)?,
        format: format(&fields)?,
        stream: fields.flag("stream")?.unwrap_or(false),
        raw: false,
        extra: fields.count("top_k")?.map(|k| ("top_k".to_owned(), k.into())).into_iter().collect(),
    })
}

fn plain(role: Role, parts: Vec<Part>) -> Message {
    Message { role, parts, tool_calls: Vec::new(), tool_call_id: None, name: None }
}

fn system(fields: &Fields<'_>) -> Result<Vec<Message>, ApiError> {
    let parts = match fields.get("system") {
        None => return Ok(Vec::new()),
        Some(Value::String(text)) => vec![Part::Text(text.clone())],
        Some(_) => {
            let text = |block: &Fields<'_>| Ok(Part::Text(block.needed("text")?.to_owned()));
            fields.objects("system")?.iter().map(text).collect::<Result<_, ApiError>>()?
        }
    };
    Ok(vec![plain(Role::System, parts)])
}

/// One turn of theirs can be several of ours: a tool's result has one of its own.
fn turn(fields: &Fields<'_>, out: &mut Vec<Message>) -> Result<(), ApiError> {
    let role = match fields.needed("role")? {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        _ => return Err(fields.wrong("role", "user or assistant")),
    };
    let mut message = plain(role, Vec::new());
    if let Some(Value::String(text)) = fields.get("content") {
        message.parts.push(Part::Text(text.clone()));
        out.push(message);
        return Ok(());
    }
    if fields.get("content").is_none() {
        return Err(fields.wrong("content", "text or a list of blocks"));
    }
    for block in fields.objects("content")? {
        match block.needed("type")? {
            "text" => message.parts.push(Part::Text(block.needed("text")?.to_owned())),
            "image" => message.parts.push(image(&block.needed_object("source")?)?),
            "tool_use" => message.tool_calls.push(ToolCall {
                id: block.needed("id")?.to_owned(),
                name: block.needed("name")?.to_owned(),
                arguments: block.needed_object("input")?.value().to_string(),
            }),
            "tool_result" => {
                let mut result = plain(Role::Tool, tool_result(&block)?);
                result.tool_call_id = Some(block.needed("tool_use_id")?.to_owned());
                out.push(result);
            }
            _ => return Err(block.wrong("type", "text, image, tool_use or tool_result")),
        }
    }
    if !message.parts.is_empty() || !message.tool_calls.is_empty() {
        out.push(message);
    }
    Ok(())
}

fn tool_result(block: &Fields<'_>) -> Result<Vec<Part>, ApiError> {
    match block.get("content") {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![Part::Text(text.clone())]),
        Some(_) => {
            let text = |part: &Fields<'_>| Ok(Part::Text(part.needed("text")?.to_owned()));
            block.objects("content")?.iter().map(text).collect()
        }
    }
}

fn image(source: &Fields<'_>) -> Result<Part, ApiError> {
    let url = match source.needed("type")? {
        "base64" => format!("data:{};base64,{}", source.needed("media_type")?, source.needed("data")?),
        "url" => source.needed("url")?.to_owned(),
        _ => return Err(source.wrong("type", "base64 or url")),
    };
    Ok(Part::Image { url, detail: None })
}

fn tool(fields: &Fields<'_>) -> Result<Tool, ApiError> {
    if fields.text("type")?.is_some_and(|kind| kind != "custom") {
        return Err(fields.wrong("type", "custom: tools that the provider runs are not supported here"));
    }
    Ok(Tool {
        name: fields.needed("name")?.to_owned(),
        description: fields.text("description")?.map(str::to_owned),
        parameters: Some(fields.needed_object("input_schema")?.value()),
        strict: fields.flag("strict")?,
    })
}

fn tool_choice(fields: &Fields<'_>) -> Result<ToolChoice, ApiError> {
    let Some(choice) = fields.object("tool_choice")? else { return Ok(ToolChoice::Auto) };
    match choice.needed("type")? {
        "auto" => Ok(ToolChoice::Auto),
        "any" => Ok(ToolChoice::Required),
        "none" => Ok(ToolChoice::None),
        "tool" => Ok(ToolChoice::Function(choice.needed("name")?.to_owned())),
        _ => Err(choice.wrong("type", "auto, any, tool or none")),
    }
}

fn format(fields: &Fields<'_>) -> Result<Format, ApiError> {
    let config = fields.object("output_config")?;
    let format = config.map(|config| config.object("format")).transpose()?.flatten();
    // What the member was called while it was new.
    let Some(format) = format.map_or_else(|| fields.object("output_format"), |format| Ok(Some(format)))?
    else {
        return Ok(Format::Text);
    };
    match format.needed("type")? {
        "json_schema" => {
            let schema = format.needed_object("schema")?.value();
            Ok(Format::JsonSchema { name: "output".to_owned(), schema, strict: Some(true) })
        }
        _ => Err(format.wrong("type", "json_schema")),
    }
}

/// Writes messages.
#[derive(Debug)]
pub struct Messages {
    head: Head,
    /// Blocks that were started.
    blocks: usize,
    open: Option<Block>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    Text,
    Call(usize),
}

impl Messages {
    /// For an answer with this head.
    pub fn new(head: Head) -> Self {
        Self { head, blocks: 0, open: None }
    }

    fn message(&self, content: Value, (reason, text): (Value, Value), usage: Usage) -> Value {
        json!({"id": format!("msg_{}", self.head.id), "type": "message", "role": "assistant",
            "model": self.head.model, "content": content, "stop_reason": reason, "stop_sequence": text,
            "usage": self::usage(usage)})
    }

    /// Ends the open block if it is not `block`, and starts `block` if it is not open.
    fn switch(&mut self, block: Option<Block>, start: Value, events: &mut Vec<Event>) {
        if self.open == block {
            return;
        }
        if self.open.is_some() {
            let stop = json!({"type": "content_block_stop", "index": self.blocks - 1});
            events.push(Event::named("content_block_stop", &stop));
        }
        self.open = block;
        if block.is_some() {
            let value = json!({"type": "content_block_start", "index": self.blocks, "content_block": start});
            events.push(Event::named("content_block_start", &value));
            self.blocks += 1;
        }
    }

    fn piece(&self, delta: Value) -> Event {
        let index = self.blocks.saturating_sub(1);
        let value = json!({"type": "content_block_delta", "index": index, "delta": delta});
        Event::named("content_block_delta", &value)
    }
}

fn usage(usage: Usage) -> Value {
    json!({"input_tokens": usage.input.saturating_sub(usage.cached), "cache_read_input_tokens": usage.cached,
           "cache_creation_input_tokens": 0, "output_tokens": usage.output})
}

/// `stop_reason`, and `stop_sequence`.
fn stop(done: &Completed) -> (Value, Value) {
    let reason = match (done.finish(), &done.stop_text) {
        (Finish::Stop, Some(text)) => return ("stop_sequence".into(), text.as_str().into()),
        (Finish::Stop, None) => "end_turn",
        (Finish::Length, _) => "max_tokens",
        (Finish::ToolCalls, _) => "tool_use",
        (Finish::ContentFilter, _) => "refusal",
    };
    (reason.into(), Value::Null)
}

impl Dialect for Messages {
    fn open(&mut self) -> Vec<Event> {
        let message = self.message(json!([]), (Value::Null, Value::Null), Usage::default());
        vec![Event::named("message_start", &json!({"type": "message_start", "message": message}))]
    }

    fn delta(&mut self, delta: &Delta) -> Vec<Event> {
        let mut events = Vec::new();
        match delta {
            Delta::Text { text, .. } => {
                let start = json!({"type": "text", "text": ""});
                self.switch(Some(Block::Text), start, &mut events);
                events.push(self.piece(json!({"type": "text_delta", "text": text})));
            }
            Delta::Tool { index, id, name, arguments } => {
                let start = json!({"type": "tool_use", "id": id, "name": name, "input": {}});
                self.switch(Some(Block::Call(*index)), start, &mut events);
                if !arguments.is_empty() {
                    events.push(self.piece(json!({"type": "input_json_delta", "partial_json": arguments})));
                }
            }
            Delta::StopText(_) | Delta::Finish(_) | Delta::Usage(_) | Delta::Replay(_) => {}
        }
        events
    }

    fn close(&mut self, done: &Completed, trailer: &Map<String, Value>) -> Vec<Event> {
        let mut events = Vec::new();
        self.switch(None, Value::Null, &mut events);
        let (reason, text) = stop(done);
        let last = json!({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": text},
                          "usage": usage(done.usage.unwrap_or_default())});
        events.push(Event::named("message_delta", &with(last, trailer)));
        events.push(Event::named("message_stop", &json!({"type": "message_stop"})));
        events
    }

    fn failure(&self, error: &ApiError) -> Event {
        Event::named("error", &error.anthropic())
    }

    fn single(&self, done: &Completed, trailer: &Map<String, Value>) -> Value {
        let mut content = Vec::new();
        if !done.text.is_empty() {
            content.push(json!({"type": "text", "text": done.text}));
        }
        for call in &done.tool_calls {
            // The model's text stays in the receipt as it is; this format wants it parsed.
            let input: Option<Value> = serde_json::from_str(&call.arguments).ok().filter(Value::is_object);
            let input = input.unwrap_or_else(|| json!({}));
            content.push(json!({"type": "tool_use", "id": call.id, "name": call.name, "input": input}));
        }
        with(self.message(content.into(), stop(done), done.usage.unwrap_or_default()), trailer)
    }
}
