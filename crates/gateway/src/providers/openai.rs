//! Any server that speaks OpenAI's chat completions: OpenAI, vLLM, llama.cpp, Ollama, Together, Groq and many more.

use http::header::AUTHORIZATION;
use serde_json::{Map, Value, json};

use super::{Outgoing, Reader, Spec, Wire, parse};
use crate::backend::{BackendError, EmbedInput, EmbedRequest, Embeddings};
use crate::chat::{
    ChatRequest, Delta, Finish, Format, Message, Part, Role, Token, Tool, ToolCall, ToolChoice, Usage,
};

/// OpenAI and whoever is compatible.
pub static SPEC: Spec = Spec {
    kind: "openai",
    base_url: "https://api.openai.com/v1",
    auth: (AUTHORIZATION, "Bearer "),
    wire: &OpenAi,
};

/// OpenAI's wire format.
#[derive(Debug)]
pub struct OpenAi;

impl Wire for OpenAi {
    fn request(&self, model: &str, request: &ChatRequest) -> Result<Outgoing, BackendError> {
        let mut body = body(model, request);
        // OpenGradient's switch; OpenAI has models of their own for it and refuses the unknown member.
        body.remove("web_search");
        Ok(outgoing("/chat/completions", Value::Object(body)))
    }

    fn single(&self, answer: &Value) -> Result<Vec<Delta>, BackendError> {
        let malformed = BackendError::Malformed { what: "an answer without choices" };
        let choice = answer.pointer("/choices/0").ok_or(malformed)?;
        let message = choice.get("message").unwrap_or(&Value::Null);
        let mut deltas = pieces(message, choice);
        deltas.push(Delta::Finish(finish(choice).unwrap_or(Finish::Stop)));
        deltas.extend(usage(answer).map(Delta::Usage));
        Ok(deltas)
    }

    fn reader(&self) -> Box<dyn Reader> {
        Box::new(Chunks)
    }

    fn embed(&self, model: &str, request: &EmbedRequest) -> Result<Outgoing, BackendError> {
        let input = match &request.input {
            EmbedInput::Texts(texts) => json!(texts),
            EmbedInput::Tokens(texts) => json!(texts),
        };
        let mut body = json!({"model": model, "input": input, "encoding_format": "float"});
        if let (Some(dimensions), Value::Object(members)) = (request.dimensions, &mut body) {
            members.insert("dimensions".to_owned(), dimensions.into());
        }
        Ok(outgoing("/embeddings", body))
    }

    fn embeddings(&self, answer: &Value) -> Result<Embeddings, BackendError> {
        let malformed = || BackendError::Malformed { what: "embeddings that are not lists of numbers" };
        let data = answer.get("data").and_then(Value::as_array).ok_or_else(malformed)?;
        let vector = |item: &Value| {
            let numbers = item.get("embedding").and_then(Value::as_array).ok_or_else(malformed)?;
            // Providers compute in single precision or less; the narrower type is what travels.
            numbers.iter().map(|x| x.as_f64().map(|x| x as f32).ok_or_else(malformed)).collect()
        };
        let vectors = data.iter().map(vector).collect::<Result<_, _>>()?;
        Ok(Embeddings { vectors, usage: usage(answer).unwrap_or_default(), replay: None })
    }
}

fn outgoing(path: &str, body: Value) -> Outgoing {
    Outgoing { path: path.to_owned(), headers: Vec::new(), body }
}

/// A request's body, with everything that the format can say.
pub fn body(model: &str, request: &ChatRequest) -> Map<String, Value> {
    let mut body = request.extra.clone();
    let mut put = |name: &str, value: Value| _ = body.insert(name.to_owned(), value);
    put("model", model.into());
    put("messages", request.messages.iter().map(message).collect());
    let sampling = &request.sampling;
    let numbers = [
        ("temperature", sampling.temperature),
        ("top_p", sampling.top_p),
        ("presence_penalty", sampling.presence_penalty),
        ("frequency_penalty", sampling.frequency_penalty),
    ];
    for (name, value) in numbers.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        put(name, value.into());
    }
    if let Some(limit) = sampling.max_tokens {
        // OpenAI's newer models take only the newer name, and compatible servers only the older.
        let newer = ["gpt-5", "o1", "o3", "o4"].iter().any(|prefix| model.starts_with(prefix));
        put(if newer { "max_completion_tokens" } else { "max_tokens" }, limit.into());
    }
    if !sampling.stop.is_empty() {
        put("stop", sampling.stop.clone().into());
    }
    if let Some(seed) = sampling.seed {
        put("seed", seed.into());
    }
    if let Some(top) = sampling.logprobs {
        put("logprobs", true.into());
        put("top_logprobs", top.into());
    }
    if !request.tools.is_empty() {
        put("tools", request.tools.iter().map(tool).collect());
    }
    match &request.tool_choice {
        ToolChoice::Auto => {}
        ToolChoice::None => put("tool_choice", "none".into()),
        ToolChoice::Required => put("tool_choice", "required".into()),
        ToolChoice::Function(name) => {
            put("tool_choice", json!({"type": "function", "function": {"name": name}}));
        }
    }
    match &request.format {
        Format::Text => {}
        Format::JsonObject => put("response_format", json!({"type": "json_object"})),
        Format::JsonSchema { name, schema, strict } => {
            let schema = json!({"name": name, "schema": schema, "strict": strict.unwrap_or(false)});
            put("response_format", json!({"type": "json_schema", "json_schema": schema}));
        }
    }
    if request.stream {
        put("stream", true.into());
        put("stream_options", json!({"include_usage": true}));
    }
    body
}

fn message(message: &Message) -> Value {
    let role = match message.role {
        Role::System => "system",
        Role::Developer => "developer",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
        Role::Function => "function",
    };
    let content = match message.parts.as_slice() {
        [] if message.role == Role::Assistant => Value::Null,
        [Part::Text(text)] => text.as_str().into(),
        parts => parts.iter().map(part).collect(),
    };
    let mut out = json!({"role": role, "content": content});
    if let Value::Object(members) = &mut out {
        if !message.tool_calls.is_empty() {
            let calls = message.tool_calls.iter().map(ToolCall::to_value).collect();
            members.insert("tool_calls".to_owned(), calls);
        }
        for (name, value) in [("tool_call_id", &message.tool_call_id), ("name", &message.name)] {
            if let Some(value) = value {
                members.insert(name.to_owned(), value.as_str().into());
            }
        }
    }
    out
}

fn part(part: &Part) -> Value {
    match part {
        Part::Text(text) => json!({"type": "text", "text": text}),
        Part::Image { url, detail } => {
            let mut image = json!({"url": url});
            if let (Some(detail), Value::Object(members)) = (detail, &mut image) {
                members.insert("detail".to_owned(), detail.as_str().into());
            }
            json!({"type": "image_url", "image_url": image})
        }
        Part::Other(value) => value.clone(),
    }
}

fn tool(tool: &Tool) -> Value {
    let mut function = json!({"name": tool.name});
    if let Value::Object(members) = &mut function {
        if let Some(text) = &tool.description {
            members.insert("description".to_owned(), text.as_str().into());
        }
        if let Some(schema) = &tool.parameters {
            members.insert("parameters".to_owned(), schema.clone());
        }
        if let Some(strict) = tool.strict {
            members.insert("strict".to_owned(), strict.into());
        }
    }
    json!({"type": "function", "function": function})
}

/// Reads chunks. Stateless: OpenAI numbers the calls itself.
struct Chunks;

impl Reader for Chunks {
    fn event(&mut self, data: &str) -> Result<Vec<Delta>, BackendError> {
        if data == "[DONE]" {
            return Ok(Vec::new());
        }
        let chunk = parse(data)?;
        if chunk.get("error").is_some_and(|error| !error.is_null()) {
            return Err(BackendError::Unavailable { why: "it failed in the middle of the answer" });
        }
        let mut deltas = Vec::new();
        if let Some(choice) = chunk.pointer("/choices/0") {
            deltas = pieces(choice.get("delta").unwrap_or(&Value::Null), choice);
            deltas.extend(finish(choice).map(Delta::Finish));
        }
        deltas.extend(usage(&chunk).map(Delta::Usage));
        Ok(deltas)
    }
}

/// Text, tokens and calls of a message or of a piece of one.
fn pieces(message: &Value, choice: &Value) -> Vec<Delta> {
    let mut deltas = Vec::new();
    let text = message.get("content").and_then(Value::as_str).unwrap_or_default();
    let tokens = choice.pointer("/logprobs/content").and_then(Value::as_array);
    let tokens: Vec<Token> = tokens.into_iter().flatten().filter_map(token).collect();
    if !text.is_empty() || !tokens.is_empty() {
        deltas.push(Delta::Text { text: text.to_owned(), tokens });
    }
    let calls = message.get("tool_calls").and_then(Value::as_array);
    for (position, call) in calls.into_iter().flatten().enumerate() {
        let text = |path: &str| call.pointer(path).and_then(Value::as_str).map(str::to_owned);
        let given = |path: &str| text(path).filter(|text| !text.is_empty());
        let index = call.get("index").and_then(Value::as_u64).and_then(|index| usize::try_from(index).ok());
        deltas.push(Delta::Tool {
            index: index.unwrap_or(position),
            id: given("/id"),
            name: given("/function/name"),
            arguments: text("/function/arguments").unwrap_or_default(),
        });
    }
    deltas
}

fn token(value: &Value) -> Option<Token> {
    let item = |value: &Value| {
        let text = value.get("token").and_then(Value::as_str)?.to_owned();
        Some((text, value.get("logprob").and_then(Value::as_f64)?))
    };
    let (text, logprob) = item(value)?;
    let top = value.get("top_logprobs").and_then(Value::as_array);
    Some(Token { id: None, text, logprob, top: top.into_iter().flatten().filter_map(item).collect() })
}

fn finish(choice: &Value) -> Option<Finish> {
    choice.get("finish_reason").and_then(Value::as_str).map(Finish::named)
}

fn usage(answer: &Value) -> Option<Usage> {
    let usage = answer.get("usage").filter(|usage| usage.is_object())?;
    let count = |path: &str| usage.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    Some(Usage {
        input: count("/prompt_tokens"),
        output: count("/completion_tokens"),
        cached: count("/prompt_tokens_details/cached_tokens"),
        reasoning: count("/completion_tokens_details/reasoning_tokens"),
    })
}
