//! `/openapi.json`: what the gateway takes, for tools and people.

use axum::response::Response;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::respond;

/// Method, path, what it does. A test asks the router for each.
pub const ADDRESSES: &[(&str, &str, &str)] = &[
    ("post", "/v1/chat/completions", "An answer in OpenAI's chat format, whole or streamed"),
    ("post", "/v1/completions", "An answer in OpenAI's completions format; the text also in `completion`"),
    (
        "post",
        "/v1/responses",
        "An answer in OpenAI's responses format; the whole conversation comes with the request",
    ),
    ("post", "/v1/messages", "An answer in Anthropic's messages format"),
    ("post", "/v1/embeddings", "Vectors for texts, in OpenAI's format"),
    (
        "post",
        "/v1/infer",
        "A run of an ONNX model: {\"model\": NAME, \"inputs\": {NAME: tensor}}, a tensor as {dtype, shape, data} or nested lists",
    ),
    (
        "post",
        "/v1/verdicts",
        "The node's verdict on a bundle (*.receipt.json), in the form of `hallmark verify --json`; its word, not yours",
    ),
    ("get", "/v1/models", "The models, what receipts say of them, and their prices"),
    ("get", "/v1/models/{name}", "One model"),
    (
        "get",
        "/v1/receipts/{id}",
        "A receipt; with the requester's capability its openings too, once (and again for half a minute)",
    ),
    ("get", "/signing-key", "The RSA key that signs `tee_*` fields, where the node has one"),
    ("get", "/health", "The process lives"),
    ("get", "/ready", "Answers can be given"),
    ("get", "/metrics", "Counts in Prometheus's text form"),
    ("get", "/openapi.json", "This document"),
    ("get", "/", "A page for people over these addresses"),
];

pub async fn document() -> Response {
    let mut paths = Map::new();
    for (method, path, summary) in ADDRESSES {
        let mut operation = json!({"summary": summary, "responses": {"200": {"description": "As the format has it"},
            "default": {"$ref": "#/components/responses/Refusal"}}});
        if let Value::Object(members) = &mut operation {
            if *method == "post" {
                let content = json!({"application/json": {"schema": body(path)}});
                members.insert("requestBody".to_owned(), json!({"required": true, "content": content}));
            }
            let parameters: Vec<Value> = parameters(path);
            if !parameters.is_empty() {
                members.insert("parameters".to_owned(), parameters.into());
            }
        }
        let mut operations = Map::new();
        operations.insert((*method).to_owned(), operation);
        paths.insert((*path).to_owned(), Value::Object(operations));
    }
    let error = json!({"type": "object", "required": ["message", "type"], "properties": {
        "message": {"type": "string"}, "type": {"type": "string"},
        "param": {"type": ["string", "null"]}, "code": {"type": ["string", "null"]}}});
    let refusal = json!({"description": "A refusal, in the format of the address",
        "content": {"application/json": {"schema": {"type": "object", "properties": {"error": error}}}}});
    let document = json!({
        "openapi": "3.1.0",
        "info": {"title": "Hallmark gateway", "version": env!("CARGO_PKG_VERSION"),
                 "description": "Every answer carries the id of its receipt (x-hallmark-receipt, `hallmark.receipt`) and, to the requester alone, a capability (x-hallmark-capability). Events of streams are signed: spec/stream.md."},
        "paths": paths,
        "security": [{}, {"bearer": []}, {"key": []}],
        "components": {
            "responses": {"Refusal": refusal},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"},
                                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"}},
        },
    });
    respond(StatusCode::OK, document.to_string())
}

/// What a body must and may have. Members of the published formats that are not named here are taken too, and go on to the backend.
fn body(path: &str) -> Value {
    let text =
        |what: &str, example: &str| json!({"type": "string", "description": what, "examples": [example]});
    let model = text("A name from /v1/models", "m");
    let stream = json!({"type": "boolean", "description": "Events as they come, each signed"});
    let number = |what: &str| json!({"type": "number", "description": what});
    let tools = json!({"type": "array", "items": {"type": "object"}, "description": "Functions, with a JSON Schema of their arguments"});
    let choice = json!({"description": "Whether one must be called; a model of the node's own is then forced by a grammar"});
    let messages = json!({"type": "array", "minItems": 1, "items": {"type": "object"},
        "description": "The conversation, oldest first", "examples": [[{"role": "user", "content": "Hello"}]]});
    let (required, mut members) = match path {
        "/v1/infer" => {
            let tensor = json!({"description": "{dtype, shape, data} with data row-major, or nested lists in the input's own type"});
            let inputs = json!({"type": "object", "additionalProperties": tensor, "examples": [{}],
                "description": "By the names that /v1/models/NAME lists"});
            return closed(&["model", "inputs"], json!({"model": model, "inputs": inputs}));
        }
        "/v1/verdicts" => {
            let envelope =
                json!({"type": "object", "description": "The signed receipt (DSSE)", "examples": [{}]});
            let list = |what: &str| json!({"type": "array", "items": {"type": "object"}, "description": what, "examples": [[]]});
            let object = |what: &str| json!({"type": "object", "description": what});
            let members = json!({"format": text("The format", "hallmark-receipt/1"), "envelope": envelope,
                "certificates": list("Of the receipt's key"), "evidence": list("What supports the claim"),
                "openings": object("Inputs and outputs with their salts"), "manifest": object("The model's manifest"),
                "graph": {"type": "string", "description": "The graph without weights, base64"},
                "publications": list("Publishers' statements")});
            return closed(&["certificates", "envelope", "evidence", "format"], members);
        }
        "/v1/embeddings" => (
            vec!["model", "input"],
            json!({"input": {"description": "A text, texts, one text's token ids, or several texts' ids", "examples": ["Hello"]},
                "encoding_format": {"enum": ["float", "base64"]}, "dimensions": {"type": "integer"}}),
        ),
        "/v1/completions" => (
            vec!["model", "prompt"],
            json!({"prompt": text("The text to go on from", "Hello"), "stream": stream}),
        ),
        "/v1/responses" => (
            vec!["model", "input"],
            json!({"input": {"description": "A text, or the conversation's items", "examples": ["Hello"]}, "stream": stream,
                "tools": tools, "tool_choice": choice, "max_output_tokens": number("The most tokens of the answer")}),
        ),
        "/v1/messages" => (
            vec!["model", "messages", "max_tokens"],
            json!({"messages": messages, "system": {}, "stream": stream, "tools": tools, "tool_choice": choice,
                "max_tokens": {"type": "integer", "description": "The most tokens of the answer", "examples": [16]}}),
        ),
        _ => (
            vec!["model", "messages"],
            json!({"messages": messages, "stream": stream, "tools": tools, "tool_choice": choice,
                "response_format": {"type": "object", "description": "text, json_object or json_schema"},
                "max_tokens": number("The most tokens of the answer"), "temperature": number("0 to 2"),
                "top_p": number("0 to 1"), "seed": {"type": "integer"}, "logprobs": {"type": "boolean"}}),
        ),
    };
    members["model"] = model;
    json!({"type": "object", "required": required, "properties": members})
}

/// An object with these members and no others.
fn closed(required: &[&str], members: Value) -> Value {
    json!({"type": "object", "required": required, "properties": members, "additionalProperties": false})
}

fn parameters(path: &str) -> Vec<Value> {
    let text = json!({"type": "string"});
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let mut out: Vec<Value> =
        names.map(|name| json!({"name": name, "in": "path", "required": true, "schema": text})).collect();
    let header = |name: &str, what: &str| json!({"name": name, "in": "header", "required": false, "description": what, "schema": text});
    let nonce = |what: &str| header("x-hallmark-nonce", &format!("{what}: 64 hexadecimal digits"));
    match path {
        "/v1/receipts/{id}" => out.push(header("x-hallmark-capability", "From the answer's header")),
        "/v1/chat/completions" | "/v1/completions" | "/v1/responses" | "/v1/messages" | "/v1/embeddings" => {
            out.push(nonce("The requester's own nonce for the claim"));
            out.push(header("x-hallmark-sign", "`whole`: sign an answer that is not streamed, every byte"));
        }
        "/v1/infer" => out.push(nonce("The requester's own nonce for the claim")),
        "/v1/verdicts" => {
            out.push(header(
                "x-request-id",
                "The asker's own request, from the answer's header; with its nonce",
            ));
            out.push(nonce("The nonce that the asker sent with it"));
        }
        _ => {}
    }
    out
}
