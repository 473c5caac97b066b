//! OpenAI's chat completions.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::fields::{Fields, MAX_ITEMS};
use super::{Dialect, Event, Head, with};
use crate::backend::{EmbedInput, EmbedRequest};
use crate::chat::{
    ChatRequest, Completed, Delta, Finish, Format, Message, Part, Role, Sampling, Tool, ToolCall, ToolChoice,
};
use crate::error::ApiError;

/// Members that [`ChatRequest`] names; `n`, `logprobs` and the like are folded into others.
const KNOWN: &[&str] = &[
    "model",
    "messages",
    "temperature",
    "top_p",
    "max_tokens",
    "max_completion_tokens",
    "stop",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "logprobs",
    "top_logprobs",
    "n",
    "tools",
    "tool_choice",
    "response_format",
    "stream",
    "stream_options",
];

/// Reads a request.
pub fn parse(body: &Map<String, Value>) -> Result<ChatRequest, ApiError> {
    let fields = Fields::root(body);
    let messages = fields.objects("messages")?.iter().map(message).collect::<Result<Vec<_>, _>>()?;
    if messages.is_empty() {
        return Err(fields.wrong("messages", "at least one message"));
    }
    if fields.count("n")?.is_some_and(|n| n != 1) {
        return Err(fields.wrong("n", "1: every answer has a receipt of its own"));
    }
    Ok(ChatRequest {
        model: fields.needed("model")?.to_owned(),
        messages,
        sampling: sampling(&fields)?,
        tools: fields.objects("tools")?.iter().map(tool).collect::<Result<_, _>>()?,
        tool_choice: tool_choice(&fields, |choice| {
            Ok(choice.needed_object("function")?.needed("name")?.to_owned())
        })?,
        format: format(fields.object("response_format")?)?,
        stream: fields.flag("stream")?.unwrap_or(false),
        raw: false,
        extra: fields.others(KNOWN),
    })
}

/// Whether a stream should end with an event for the counts alone.
pub fn wants_usage(body: &Map<String, Value>) -> Result<bool, ApiError> {
    let options = Fields::root(body).object("stream_options")?;
    Ok(options.map(|options| options.flag("include_usage")).transpose()?.flatten().unwrap_or(false))
}

/// The members about sampling.
pub fn sampling(fields: &Fields<'_>) -> Result<Sampling, ApiError> {
    let top = fields.count("top_logprobs")?.unwrap_or(0);
    let top = u32::try_from(top).ok().filter(|top| *top <= 20);
    let top = top.ok_or_else(|| fields.wrong("top_logprobs", "0 to 20"))?;
    let seed = match fields.get("seed") {
        None => None,
        // What the receipt commits to has ECMAScript's numbers: a longer seed would be another one there.
        Some(seed) => {
            let exact = seed.as_i64().filter(|seed| seed.unsigned_abs() < 1 << 53);
            Some(exact.ok_or_else(|| fields.wrong("seed", "an integer below 2^53 in absolute value"))?)
        }
    };
    let limit = match fields.count("max_completion_tokens")? {
        None => fields.count("max_tokens")?,
        limit => limit,
    };
    Ok(Sampling {
        temperature: fields.number("temperature", 0.0, 2.0)?,
        top_p: fields.number("top_p", 0.0, 1.0)?,
        max_tokens: limit,
        stop: fields.texts("stop", 16)?,
        seed,
        presence_penalty: fields.number("presence_penalty", -2.0, 2.0)?,
        frequency_penalty: fields.number("frequency_penalty", -2.0, 2.0)?,
        logprobs: fields.flag("logprobs")?.unwrap_or(false).then_some(top),
    })
}

fn message(fields: &Fields<'_>) -> Result<Message, ApiError> {
    let role = match fields.needed("role")? {
        "system" => Role::System,
        "developer" => Role::Developer,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        "function" => Role::Function,
        _ => return Err(fields.wrong("role", "system, developer, user, assistant, tool or function")),
    };
    let parts = match fields.get("content") {
        None if role == Role::Assistant => Vec::new(),
        Some(Value::String(text)) => vec![Part::Text(text.clone())],
        Some(Value::Array(_)) => fields.objects("content")?.iter().map(part).collect::<Result<_, _>>()?,
        _ => return Err(fields.wrong("content", "text or a list of parts")),
    };
    let call = |fields: &Fields<'_>| {
        let function = fields.needed_object("function")?;
        Ok(ToolCall {
            id: fields.text("id")?.unwrap_or_default().to_owned(),
            name: function.needed("name")?.to_owned(),
            arguments: function.text("arguments")?.unwrap_or_default().to_owned(),
        })
    };
    Ok(Message {
        role,
        parts,
        tool_calls: fields.objects("tool_calls")?.iter().map(call).collect::<Result<_, ApiError>>()?,
        tool_call_id: fields.text("tool_call_id")?.map(str::to_owned),
        name: fields.text("name")?.map(str::to_owned),
    })
}

fn part(fields: &Fields<'_>) -> Result<Part, ApiError> {
    match fields.needed("type")? {
        "text" => Ok(Part::Text(fields.needed("text")?.to_owned())),
        "image_url" => {
            let image = fields.needed_object("image_url")?;
            let detail = image.text("detail")?.map(str::to_owned);
            Ok(Part::Image { url: image.needed("url")?.to_owned(), detail })
        }
        _ => Ok(Part::Other(fields.value())),
    }
}

fn tool(fields: &Fields<'_>) -> Result<Tool, ApiError> {
    if fields.text("type")?.is_some_and(|kind| kind != "function") {
        return Err(fields.wrong("type", "function"));
    }
    function(&fields.needed_object("function")?)
}

/// The members that describe a function.
pub fn function(fields: &Fields<'_>) -> Result<Tool, ApiError> {
    Ok(Tool {
        name: fields.needed("name")?.to_owned(),
        description: fields.text("description")?.map(str::to_owned),
        parameters: fields.object("parameters")?.map(|schema| schema.value()),
        strict: fields.flag("strict")?,
    })
}

/// Whether a function must be called. `name` finds the name of the one that must in the member's object.
pub fn tool_choice(
    fields: &Fields<'_>,
    name: impl Fn(&Fields<'_>) -> Result<String, ApiError>,
) -> Result<ToolChoice, ApiError> {
    match fields.get("tool_choice") {
        None => Ok(ToolChoice::Auto),
        Some(Value::String(word)) => match word.as_str() {
            "auto" => Ok(ToolChoice::Auto),
            "none" => Ok(ToolChoice::None),
            "required" => Ok(ToolChoice::Required),
            _ => Err(fields.wrong("tool_choice", "auto, none, required or a function")),
        },
        Some(_) => Ok(ToolChoice::Function(name(&fields.needed_object("tool_choice")?)?)),
    }
}

fn format(fields: Option<Fields<'_>>) -> Result<Format, ApiError> {
    let Some(fields) = fields else { return Ok(Format::Text) };
    match fields.needed("type")? {
        "text" => Ok(Format::Text),
        "json_object" => Ok(Format::JsonObject),
        "json_schema" => {
            let schema = fields.needed_object("json_schema")?;
            Ok(Format::JsonSchema {
                name: schema.needed("name")?.to_owned(),
                schema: schema.needed_object("schema")?.value(),
                strict: schema.flag("strict")?,
            })
        }
        _ => Err(fields.wrong("type", "text, json_object or json_schema")),
    }
}

/// The name of embeddings' wire format in claims.
pub const EMBEDDINGS: &str = "openai-embeddings";

/// An embedding request: a text, texts, one text's tokens, or several texts' tokens.
pub fn parse_embed(body: &Map<String, Value>) -> Result<EmbedRequest, ApiError> {
    let fields = Fields::root(body);
    let wrong = || fields.wrong("input", "a text, a list of texts, or lists of token ids; not empty");
    let input = match fields.get("input") {
        Some(Value::Array(items)) if matches!(items.first(), Some(Value::Number(_) | Value::Array(_))) => {
            EmbedInput::Tokens(tokens(items).ok_or_else(wrong)?)
        }
        _ => EmbedInput::Texts(fields.texts("input", MAX_ITEMS)?),
    };
    if input.is_empty() {
        return Err(wrong());
    }
    let base64 = match fields.text("encoding_format")? {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => return Err(fields.wrong("encoding_format", "float or base64")),
    };
    let (model, dimensions) = (fields.needed("model")?.to_owned(), fields.count("dimensions")?);
    Ok(EmbedRequest { model, input, dimensions, base64 })
}

/// Token ids of one text, or of each of several.
fn tokens(items: &[Value]) -> Option<Vec<Vec<u32>>> {
    let ids = |items: &[Value]| -> Option<Vec<u32>> {
        items.iter().map(|item| item.as_u64().and_then(|id| u32::try_from(id).ok())).collect()
    };
    if matches!(items.first(), Some(Value::Number(_))) {
        return Some(vec![ids(items)?]);
    }
    if items.len() > MAX_ITEMS {
        return None;
    }
    items.iter().map(|item| ids(item.as_array()?)).collect()
}

/// `data` of an answer: each vector as numbers, or as base64.
pub fn embeddings_data(vectors: &[Vec<f32>], base64: bool) -> Value {
    let embedding = |vector: &Vec<f32>| {
        if base64 {
            let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
            STANDARD.encode(bytes).into()
        } else {
            json!(vector)
        }
    };
    vectors
        .iter()
        .enumerate()
        .map(|(index, vector)| json!({"object": "embedding", "index": index, "embedding": embedding(vector)}))
        .collect()
}

/// Writes chat completions.
#[derive(Debug)]
pub struct Chat {
    head: Head,
    /// The stream's last event before the end is one for the counts alone.
    usage_event: bool,
}

impl Chat {
    /// For an answer with this head.
    pub fn new(head: Head, usage_event: bool) -> Self {
        Self { head, usage_event }
    }

    fn chunk(&self, delta: &Value, logprobs: Value, finish: Option<Finish>) -> Value {
        let mut choice = json!({"index": 0, "delta": delta, "finish_reason": finish.map(Finish::name)});
        if let (Value::Object(members), false) = (&mut choice, logprobs.is_null()) {
            members.insert("logprobs".to_owned(), logprobs);
        }
        self.event(json!([choice]))
    }

    fn event(&self, choices: Value) -> Value {
        json!({"id": format!("chatcmpl-{}", self.head.id), "object": "chat.completion.chunk",
               "created": self.head.created, "model": self.head.model, "choices": choices})
    }
}

impl Dialect for Chat {
    fn open(&mut self) -> Vec<Event> {
        let first = json!({"role": "assistant", "content": ""});
        vec![Event::data(&self.chunk(&first, Value::Null, None))]
    }

    fn delta(&mut self, delta: &Delta) -> Vec<Event> {
        let (delta, logprobs) = match delta {
            Delta::Text { text, tokens } => (json!({"content": text}), Completed::logprobs(tokens)),
            Delta::Tool { index, id, name, arguments } => {
                let mut function = json!({"arguments": arguments});
                let mut call = json!({"index": index});
                if let (Some(name), Value::Object(members)) = (name, &mut function) {
                    members.insert("name".to_owned(), name.as_str().into());
                }
                if let Value::Object(members) = &mut call {
                    if let Some(id) = id {
                        members.insert("id".to_owned(), id.as_str().into());
                        members.insert("type".to_owned(), "function".into());
                    }
                    members.insert("function".to_owned(), function);
                }
                (json!({"tool_calls": [call]}), Value::Null)
            }
            Delta::StopText(_) | Delta::Finish(_) | Delta::Usage(_) | Delta::Replay(_) => return Vec::new(),
        };
        vec![Event::data(&self.chunk(&delta, logprobs, None))]
    }

    fn close(&mut self, done: &Completed, trailer: &Map<String, Value>) -> Vec<Event> {
        let mut last = with(self.chunk(&json!({}), Value::Null, Some(done.finish())), trailer);
        let usage = done.usage.unwrap_or_default().to_value();
        let mut events = Vec::new();
        if self.usage_event {
            events.push(Event::data(&last));
            last = self.event(json!([]));
        }
        if let Value::Object(members) = &mut last {
            members.insert("usage".to_owned(), usage);
        }
        events.push(Event::data(&last));
        events.push(Event { name: None, data: "[DONE]".to_owned() });
        events
    }

    fn failure(&self, error: &ApiError) -> Event {
        Event::data(&error.openai())
    }

    fn single(&self, done: &Completed, trailer: &Map<String, Value>) -> Value {
        let choice = json!({"index": 0, "message": done.message(), "finish_reason": done.finish().name(),
                            "logprobs": Completed::logprobs(&done.tokens)});
        let answer = json!({"id": format!("chatcmpl-{}", self.head.id), "object": "chat.completion",
            "created": self.head.created, "model": self.head.model, "choices": [choice],
            "usage": done.usage.unwrap_or_default().to_value()});
        with(answer, trailer)
    }
}
