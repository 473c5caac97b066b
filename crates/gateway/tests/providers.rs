//! Each provider's wire format against a local server that speaks it, honestly and otherwise.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use common::{Asked, json_response, over, post, provider, sse_response, status_response, upstream};
use futures_util::StreamExt as _;
use hallmark_gateway::backend::{BackendError, Origin};
use hallmark_gateway::chat::{Completed, Finish, Usage};
use hallmark_gateway::dialect::openai::parse;
use hallmark_gateway::providers::Patience;
use hallmark_gateway::{Backend, ChatRequest};
use serde_json::{Value, json};

/// Providers make nothing of it.
const ORIGIN: Origin = Origin {
    request: hallmark_receipt::Digest([0; 32]),
    nonce: None,
    drawn: [0; 32],
    dialect: "openai-chat",
};

fn patience() -> Patience {
    Patience {
        first_byte: Duration::from_millis(300),
        between: Duration::from_millis(300),
        pause: Duration::from_millis(1),
        ..Patience::default()
    }
}

fn request(body: Value) -> Arc<ChatRequest> {
    let Value::Object(body) = body else { panic!("an object") };
    Arc::new(parse(&body).unwrap())
}

/// A conversation that uses everything which the formats share.
fn full(stream: bool) -> Value {
    json!({
        "model": "m", "stream": stream, "temperature": 0.5, "top_p": 0.9, "max_tokens": 7, "stop": ["x"], "seed": 3,
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Bonn\"}"}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
        ],
        "tools": [{"type": "function", "function": {"name": "weather", "description": "d",
                   "parameters": {"type": "object"}}}],
        "tool_choice": "required",
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}},
    })
}

async fn collect(backend: &dyn Backend, body: Value) -> Result<Completed, BackendError> {
    let mut answer = backend.chat(request(body), ORIGIN).await?;
    let mut done = Completed::default();
    while let Some(delta) = answer.deltas.next().await {
        done.push(&delta?).unwrap();
    }
    Ok(done)
}

/// Asks `kind` for a whole answer and for a stream of the same; both must come to the same end.
async fn same_both_ways(kind: &str, single: Value, events: Vec<String>) -> (Completed, Asked) {
    let (url, log) = upstream(move |asked| {
        let streams = asked.body["stream"] == true || asked.path.contains("stream");
        if streams { sse_response(&events) } else { json_response(&single) }
    })
    .await;
    let backend = provider(kind, &url, patience());
    let whole = collect(&*backend, full(false)).await.unwrap();
    let streamed = collect(&*backend, full(true)).await.unwrap();
    assert_eq!(whole.message(), streamed.message());
    assert_eq!((whole.finish, whole.usage), (streamed.finish, streamed.usage));
    let asked = log.lock().unwrap().first().unwrap().clone();
    (whole, asked)
}

fn usage(input: u64, output: u64) -> Option<Usage> {
    Some(Usage { input, output, ..Usage::default() })
}

fn call() -> Value {
    json!([{"id": "t1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Köln\"}"}}])
}

#[tokio::test]
async fn openai() {
    let message = json!({"role": "assistant", "content": "hé", "tool_calls": call()});
    let counts = json!({"prompt_tokens": 5, "completion_tokens": 2});
    let single = json!({"choices": [{"message": message, "finish_reason": "tool_calls"}], "usage": counts});
    let chunk = |delta: Value| json!({"choices": [{"index": 0, "delta": delta}]}).to_string();
    let first =
        json!({"index": 0, "id": "t1", "type": "function", "function": {"name": "weather", "arguments": ""}});
    let events = vec![
        chunk(json!({"content": "h"})),
        chunk(json!({"content": "é"})),
        chunk(json!({"tool_calls": [first]})),
        chunk(json!({"tool_calls": [{"index": 0, "function": {"arguments": "{\"city\":"}}]})),
        chunk(json!({"tool_calls": [{"index": 0, "function": {"arguments": "\"Köln\"}"}}]})),
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}).to_string(),
        json!({"choices": [], "usage": counts}).to_string(),
        "[DONE]".to_owned(),
    ];
    for kind in ["openai", "xai"] {
        let (done, asked) = same_both_ways(kind, single.clone(), events.clone()).await;
        assert_eq!((done.text.as_str(), done.calls()), ("hé", call()));
        assert_eq!((done.finish, done.usage), (Some(Finish::ToolCalls), usage(5, 2)));
        assert_eq!(asked.path, "/chat/completions");
        assert_eq!(asked.headers["authorization"], "Bearer sk-upstream");
        let mut expected = full(false);
        expected["model"] = "m-1".into();
        expected["response_format"]["json_schema"]["strict"] = false.into();
        expected.as_object_mut().unwrap().remove("stream");
        assert_eq!(asked.body, expected, "the request goes through as it came");
    }
}

#[tokio::test]
async fn anthropic() {
    let content = json!([{"type": "text", "text": "hé"},
        {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Köln"}}]);
    let single = json!({"type": "message", "content": content, "stop_reason": "tool_use",
        "usage": {"input_tokens": 5, "output_tokens": 2}});
    let block =
        |start: Value| json!({"type": "content_block_start", "index": 0, "content_block": start}).to_string();
    let delta = |delta: Value| json!({"type": "content_block_delta", "index": 0, "delta": delta}).to_string();
    let stop = || json!({"type": "content_block_stop", "index": 0}).to_string();
    let events = vec![
        json!({"type": "message_start", "message": {"usage": {"input_tokens": 5, "output_tokens": 1}}})
            .to_string(),
        json!({"type": "ping"}).to_string(),
        block(json!({"type": "thinking", "thinking": ""})),
        delta(json!({"type": "thinking_delta", "thinking": "hm"})),
        stop(),
        block(json!({"type": "text", "text": ""})),
        delta(json!({"type": "text_delta", "text": "hé"})),
        stop(),
        block(json!({"type": "tool_use", "id": "t1", "name": "weather", "input": {}})),
        delta(json!({"type": "input_json_delta", "partial_json": "{\"city\":"})),
        delta(json!({"type": "input_json_delta", "partial_json": "\"Köln\"}"})),
        stop(),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 2}})
            .to_string(),
        json!({"type": "message_stop"}).to_string(),
    ];
    let (done, asked) = same_both_ways("anthropic", single, events).await;
    assert_eq!((done.text.as_str(), done.calls()), ("hé", call()));
    assert_eq!((done.finish, done.usage), (Some(Finish::ToolCalls), usage(5, 2)));
    assert_eq!(
        (asked.path.as_str(), &asked.headers["x-api-key"]),
        ("/v1/messages", &"sk-upstream".parse().unwrap())
    );
    let image =
        json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}});
    assert_eq!(
        asked.body,
        json!({
            "model": "m-1", "max_tokens": 7, "temperature": 0.5, "top_p": 0.9, "stop_sequences": ["x"], "system": "be brief",
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "look"}, image]},
                {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Bonn"}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "sunny"}]},
            ],
            "tools": [{"name": "weather", "description": "d", "input_schema": {"type": "object"}}],
            "tool_choice": {"type": "any"},
            "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
        })
    );
}

#[tokio::test]
async fn google() {
    let part = |part: Value, finish: Value| {
        json!({"candidates": [{"content": {"role": "model", "parts": [part]}, "finishReason": finish}],
               "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 2}})
    };
    let function = json!({"functionCall": {"id": "t1", "name": "weather", "args": {"city": "Köln"}}});
    let mut single = part(json!({"text": "hé"}), json!("STOP"));
    single["candidates"][0]["content"]["parts"].as_array_mut().unwrap().push(function.clone());
    let events = vec![
        part(json!({"text": "hm", "thought": true}), Value::Null).to_string(),
        part(json!({"text": "h"}), Value::Null).to_string(),
        part(json!({"text": "é"}), Value::Null).to_string(),
        part(function, json!("STOP")).to_string(),
    ];
    let (done, asked) = same_both_ways("google", single, events).await;
    assert_eq!((done.text.as_str(), done.calls()), ("hé", call()));
    assert_eq!((done.finish, done.usage), (Some(Finish::ToolCalls), usage(5, 2)));
    assert_eq!(asked.path, "/models/m-1:generateContent");
    assert_eq!(asked.headers["x-goog-api-key"], "sk-upstream");
    let image = json!({"inlineData": {"mimeType": "image/png", "data": "AAAA"}});
    assert_eq!(
        asked.body,
        json!({
            "systemInstruction": {"parts": [{"text": "be brief"}]},
            "contents": [
                {"role": "user", "parts": [{"text": "look"}, image]},
                {"role": "model", "parts": [{"functionCall": {"name": "weather", "args": {"city": "Bonn"}}}]},
                {"role": "user", "parts": [{"functionResponse": {"name": "weather", "response": {"result": "sunny"}}}]},
            ],
            "tools": [{"functionDeclarations": [{"name": "weather", "description": "d", "parametersJsonSchema": {"type": "object"}}]}],
            "toolConfig": {"functionCallingConfig": {"mode": "ANY"}},
            "generationConfig": {"temperature": 0.5, "topP": 0.9, "maxOutputTokens": 7, "stopSequences": ["x"], "seed": 3,
                "responseMimeType": "application/json", "responseJsonSchema": {"type": "object"}},
        })
    );
}

fn plain(stream: bool) -> Value {
    json!({"model": "m", "stream": stream, "messages": [{"role": "user", "content": "hi"}]})
}

/// The head and the first piece go out before the connection breaks.
fn broken_body(piece: &'static str) -> Response {
    let broken = futures_util::stream::once(async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Err::<&str, _>(std::io::Error::from(std::io::ErrorKind::Other))
    });
    Response::new(Body::from_stream(futures_util::stream::iter([Ok(piece)]).chain(broken)))
}

/// What the provider says, whether a stream was asked for, and what comes of it.
type Case = (fn() -> Response, bool, BackendError);

#[tokio::test]
async fn failures_are_told_apart() {
    let malformed = |what| BackendError::Malformed { what };
    let cases: Vec<Case> = vec![
        (|| Response::new(Body::from("<html>")), false, malformed("an answer that is not JSON")),
        (|| json_response(&json!({})), false, malformed("an answer without choices")),
        (|| json_response(&json!([])), false, malformed("an answer without choices")),
        (|| sse_response(&["{".to_owned()]), true, malformed("an event that is not JSON")),
        (|| Response::new(Body::from(vec![0xff, b'\n'])), true, malformed("a stream that is not of events")),
        (|| broken_body("{\"choi"), false, BackendError::Cut),
        (|| broken_body("data: {}\n\n"), true, BackendError::Cut),
        (
            || {
                Response::new(Body::from_stream(
                    futures_util::stream::pending::<Result<&str, std::io::Error>>(),
                ))
            },
            true,
            BackendError::TimedOut,
        ),
        (
            || sse_response(&[json!({"error": {"message": "x"}}).to_string()]),
            true,
            BackendError::Unavailable { why: "it failed in the middle of the answer" },
        ),
        (
            || status_response(400, &json!({"error": {"message": "too long"}})),
            false,
            BackendError::Refused { status: 400, message: "too long".to_owned() },
        ),
        (|| status_response(500, &json!({})), false, BackendError::Unavailable { why: "it failed" }),
        (
            || status_response(302, &json!({})),
            false,
            BackendError::Unavailable { why: "it answered with another status than 200" },
        ),
    ];
    for (answer, stream, expected) in cases {
        let (url, log) = upstream(move |_| answer()).await;
        let got = collect(&*provider("openai", &url, patience()), plain(stream)).await;
        assert_eq!(got, Err(expected.clone()));
        assert_eq!(log.lock().unwrap().len(), 1, "{expected}: asked once");
    }
}

#[tokio::test]
async fn a_busy_provider_is_asked_again_and_a_dead_one_is_named() {
    let count = Arc::new(AtomicUsize::new(0));
    let (url, log) = upstream(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => status_response(503, &json!({})),
        1 => status_response(429, &json!({})),
        _ => json_response(&json!({"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]})),
    })
    .await;
    let done = collect(&*provider("openai", &url, patience()), plain(false)).await.unwrap();
    assert_eq!((done.text.as_str(), log.lock().unwrap().len()), ("hi", 3));
    let slow = |_: &Asked| {
        let mut response = status_response(429, &json!({}));
        response.headers_mut().insert("retry-after", 60.into());
        response
    };
    let (url, log) = upstream(slow).await;
    let got = collect(&*provider("openai", &url, patience()), plain(false)).await;
    assert_eq!(got, Err(BackendError::Busy { retry_after: Some(Duration::from_secs(60)) }));
    assert_eq!(log.lock().unwrap().len(), 1, "a long pause is the requester's to make");
    // Nobody listens on this port any more.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let got = collect(&*provider("openai", &url, patience()), plain(false)).await;
    assert_eq!(got, Err(BackendError::Unavailable { why: "no connection" }));
}

#[tokio::test]
async fn providers_refusals_reach_the_requester_but_not_the_nodes_own() {
    for (status, shown, message) in
        [(400, 400, "(400): word"), (401, 502, "refused the node"), (402, 502, "refused the node")]
    {
        let (url, _) =
            upstream(move |_| status_response(status, &json!({"error": {"message": "word"}}))).await;
        let server = over("openai", &url).await;
        let got = post(format!("{}/v1/chat/completions", server.url), &plain(false)).await;
        let text = got.json()["error"]["message"].as_str().unwrap().to_owned();
        assert_eq!(got.status, shown);
        assert!(text.contains(message), "{text}");
        server.stop().await;
    }
}
