//! Google's generateContent.

use std::collections::HashMap;

use http::HeaderName;
use serde_json::{Map, Value, json};

use super::{Outgoing, Reader, Spec, Wire, data_url, parse};
use crate::backend::BackendError;
use crate::chat::{ChatRequest, Delta, Finish, Format, Message, Part, Role, ToolChoice, Usage};

/// Google.
pub static SPEC: Spec = Spec {
    kind: "google",
    base_url: "https://generativelanguage.googleapis.com/v1beta",
    auth: (HeaderName::from_static("x-goog-api-key"), ""),
    wire: &Google,
};

#[derive(Debug)]
struct Google;

impl Wire for Google {
    fn request(&self, model: &str, request: &ChatRequest) -> Result<Outgoing, BackendError> {
        let method = if request.stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
        let path = format!("/models/{model}:{method}");
        Ok(Outgoing { path, headers: Vec::new(), body: Value::Object(body(request)?) })
    }

    fn single(&self, answer: &Value) -> Result<Vec<Delta>, BackendError> {
        Candidates::default().take(answer)
    }

    fn reader(&self) -> Box<dyn Reader> {
        Box::new(Candidates::default())
    }
}

fn body(request: &ChatRequest) -> Result<Map<String, Value>, BackendError> {
    let mut body = Map::new();
    let mut put = |name: &str, value: Value| _ = body.insert(name.to_owned(), value);
    let is_system = |message: &&Message| matches!(message.role, Role::System | Role::Developer);
    let system: Vec<String> = request.messages.iter().filter(is_system).map(Message::text).collect();
    if !system.is_empty() {
        put("systemInstruction", json!({"parts": [{"text": system.join("\n\n")}]}));
    }
    put("contents", contents(&request.messages)?);
    let mut tools = Vec::new();
    if !request.tools.is_empty() {
        let declare = |tool: &crate::chat::Tool| {
            let mut out = json!({"name": tool.name});
            if let Value::Object(members) = &mut out {
                if let Some(text) = &tool.description {
                    members.insert("description".to_owned(), text.as_str().into());
                }
                if let Some(schema) = &tool.parameters {
                    members.insert("parametersJsonSchema".to_owned(), schema.clone());
                }
            }
            out
        };
        tools.push(json!({"functionDeclarations": request.tools.iter().map(declare).collect::<Vec<_>>()}));
        let mode = match &request.tool_choice {
            ToolChoice::Auto => json!({"mode": "AUTO"}),
            ToolChoice::None => json!({"mode": "NONE"}),
            ToolChoice::Required => json!({"mode": "ANY"}),
            ToolChoice::Function(name) => json!({"mode": "ANY", "allowedFunctionNames": [name]}),
        };
        put("toolConfig", json!({"functionCallingConfig": mode}));
    }
    if request.extra.get("web_search").is_some_and(|wanted| *wanted == true) {
        tools.push(json!({"google_search": {}}));
    }
    if !tools.is_empty() {
        put("tools", tools.into());
    }
    put("generationConfig", Value::Object(generation(request)?));
    Ok(body)
}

fn generation(request: &ChatRequest) -> Result<Map<String, Value>, BackendError> {
    let sampling = &request.sampling;
    if sampling.logprobs.is_some() {
        return Err(BackendError::Unsupported { what: "logprobs" });
    }
    let mut out = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            out.insert(name.to_owned(), value);
        }
    };
    put("temperature", sampling.temperature.map(Value::from));
    put("topP", sampling.top_p.map(Value::from));
    put("presencePenalty", sampling.presence_penalty.map(Value::from));
    put("frequencyPenalty", sampling.frequency_penalty.map(Value::from));
    put("maxOutputTokens", sampling.max_tokens.map(Value::from));
    put("seed", sampling.seed.map(Value::from));
    put("stopSequences", (!sampling.stop.is_empty()).then(|| sampling.stop.clone().into()));
    match &request.format {
        Format::Text => {}
        Format::JsonObject => put("responseMimeType", Some("application/json".into())),
        Format::JsonSchema { schema, .. } => {
            put("responseMimeType", Some("application/json".into()));
            put("responseJsonSchema", Some(schema.clone()));
        }
    }
    Ok(out)
}

fn contents(list: &[Message]) -> Result<Value, BackendError> {
    // A result names the function in this format, and only the call's id in ours.
    let calls = list.iter().flat_map(|message| &message.tool_calls);
    let names: HashMap<&str, &str> = calls.map(|call| (call.id.as_str(), call.name.as_str())).collect();
    let mut turns: Vec<(&str, Vec<Value>)> = Vec::new();
    for message in list {
        let role = match message.role {
            Role::System | Role::Developer => continue,
            Role::Assistant => "model",
            _ => "user",
        };
        let mut parts = Vec::new();
        if matches!(message.role, Role::Tool | Role::Function) {
            let id = message.tool_call_id.as_deref().unwrap_or_default();
            let name = message.name.as_deref().or_else(|| names.get(id).copied()).unwrap_or(id);
            let text = message.text();
            let result: Option<Value> = serde_json::from_str(&text).ok().filter(Value::is_object);
            let result = result.unwrap_or_else(|| json!({"result": text}));
            parts.push(json!({"functionResponse": {"name": name, "response": result}}));
        } else {
            for part in &message.parts {
                parts.extend(self::part(part)?);
            }
        }
        for call in &message.tool_calls {
            let args: Option<Value> = serde_json::from_str(&call.arguments).ok().filter(Value::is_object);
            let args = args.unwrap_or_else(|| json!({}));
            parts.push(json!({"functionCall": {"name": call.name, "args": args}}));
        }
        match turns.last_mut() {
            Some((last, before)) if *last == role => before.extend(parts),
            _ => turns.push((role, parts)),
        }
    }
    Ok(turns.into_iter().map(|(role, parts)| json!({"role": role, "parts": parts})).collect())
}

fn part(part: &Part) -> Result<Option<Value>, BackendError> {
    match part {
        Part::Text(text) if text.is_empty() => Ok(None),
        Part::Text(text) => Ok(Some(json!({"text": text}))),
        Part::Image { url, .. } => Ok(Some(match data_url(url) {
            Some((kind, data)) => json!({"inlineData": {"mimeType": kind, "data": data}}),
            None => json!({"fileData": {"fileUri": url}}),
        })),
        Part::Other(_) => Err(BackendError::Unsupported { what: "attachments of this kind" }),
    }
}

/// Reads answers, whole or in pieces: both have one form.
#[derive(Default)]
struct Candidates {
    calls: usize,
}

impl Reader for Candidates {
    fn event(&mut self, data: &str) -> Result<Vec<Delta>, BackendError> {
        self.take(&parse(data)?)
    }
}

impl Candidates {
    fn take(&mut self, answer: &Value) -> Result<Vec<Delta>, BackendError> {
        if answer.get("error").is_some() {
            return Err(BackendError::Unavailable { why: "it failed in the middle of the answer" });
        }
        let mut deltas = Vec::new();
        let candidate = answer.pointer("/candidates/0");
        let parts = candidate.and_then(|candidate| candidate.pointer("/content/parts"));
        for part in parts.and_then(Value::as_array).into_iter().flatten() {
            if part.get("thought").is_some_and(|thought| *thought == true) {
                continue;
            }
            if let Some(text) = part.get("text").and_then(Value::as_str).filter(|text| !text.is_empty()) {
                deltas.push(Delta::Text { text: text.to_owned(), tokens: Vec::new() });
            }
            if let Some(call) = part.get("functionCall") {
                let text = |name: &str| call.get(name).and_then(Value::as_str).map(str::to_owned);
                // Older models give calls no id; one that is unique in the answer will do.
                let id = text("id").unwrap_or_else(|| format!("call_{}", self.calls));
                deltas.push(Delta::Tool {
                    index: self.calls,
                    id: Some(id),
                    name: Some(text("name").unwrap_or_default()),
                    arguments: call.get("args").map_or_else(|| "{}".to_owned(), Value::to_string),
                });
                self.calls += 1;
            }
        }
        let reason = candidate.and_then(|candidate| candidate.get("finishReason")).and_then(Value::as_str);
        let blocked = answer.pointer("/promptFeedback/blockReason").is_some();
        match reason {
            Some(reason) => deltas.push(Delta::Finish(self.finish(reason))),
            None if blocked => deltas.push(Delta::Finish(Finish::ContentFilter)),
            None => {}
        }
        deltas.extend(answer.get("usageMetadata").map(usage));
        Ok(deltas)
    }

    fn finish(&self, reason: &str) -> Finish {
        match reason {
            "MAX_TOKENS" => Finish::Length,
            "STOP" if self.calls > 0 => Finish::ToolCalls,
            "STOP" => Finish::Stop,
            "SAFETY" | "RECITATION" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" => Finish::ContentFilter,
            _ => Finish::Stop,
        }
    }
}

fn usage(usage: &Value) -> Delta {
    let count = |name: &str| usage.get(name).and_then(Value::as_u64).unwrap_or(0);
    let reasoning = count("thoughtsTokenCount");
    Delta::Usage(Usage {
        input: count("promptTokenCount"),
        output: count("candidatesTokenCount").saturating_add(reasoning),
        cached: count("cachedContentTokenCount"),
        reasoning,
    })
}
