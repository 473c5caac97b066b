//! What goes right and what goes wrong leaves no prompt, answer, key or capability in the logs.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex};

use common::{builder, json_response, provider, send, serve, sse_response, status_response, upstream};
use hallmark_gateway::providers::Patience;
use hallmark_gateway::{ApiKey, Quota};
use serde_json::{Value, json};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Keeps every event and span, of every level and every crate, as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        writeln!(self.0, "{}={value:?}", field.name()).unwrap();
    }
}

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        span.record(&mut Fields(&mut self.0.lock().unwrap()));
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut Fields(&mut self.0.lock().unwrap()));
    }

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Fields(&mut self.0.lock().unwrap()));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

const PROMPT: &str = "umbrella-plum";
const ANSWER: &str = "orbit-kettle";

fn answer(body: &Value) -> axum::response::Response {
    // A provider may repeat the request in its refusal.
    if body["temperature"] == 2.0 {
        return status_response(400, &json!({"error": {"message": format!("bad: {PROMPT} {ANSWER}")}}));
    }
    let choice = |member: &str| json!({"choices": [{"index": 0, member: {"content": ANSWER}, "finish_reason": "stop"}]});
    match (body["stream"] == true, body["temperature"] == 1.0) {
        (true, true) => sse_response(&[format!("{{\"broken\": \"{ANSWER}")]),
        (true, false) => sse_response(&[choice("delta").to_string()]),
        (false, true) => status_response(500, &choice("message")),
        (false, false) => json_response(&choice("message")),
    }
}

#[tokio::test]
async fn prompts_answers_and_keys_are_never_logged() {
    let log = Log::default();
    tracing::subscriber::set_global_default(log.clone()).unwrap();
    let (url, _) = upstream(|asked| answer(&asked.body)).await;
    let keys = vec![ApiKey::new("a", "sk-client", Quota::default())];
    let gateway = builder().backend(provider("openai", &url, Patience::default())).keys(keys);
    let server = serve(gateway.build().unwrap()).await;
    let url = format!("{}/v1/chat/completions", server.url);
    let mut capabilities = Vec::new();
    for (stream, temperature, key, status) in [
        (false, 0.0, "sk-client", 200),
        (true, 0.0, "sk-client", 200),
        (false, 1.0, "sk-client", 502),
        (true, 1.0, "sk-client", 200),
        (false, 2.0, "sk-client", 400),
        (false, 0.0, "sk-wrong", 401),
        (false, 3.0, "sk-client", 400),
    ] {
        let body = json!({"model": "m", "messages": [{"role": "user", "content": PROMPT}], "stream": stream, "temperature": temperature});
        let bearer = format!("Bearer {key}");
        let got = send("POST", url.clone(), &[("authorization", &bearer)], body.to_string()).await;
        assert_eq!(got.status, status, "{}", got.text());
        capabilities.push(got.header("x-hallmark-capability").to_owned());
    }
    send("POST", url, &[("authorization", "Bearer sk-client")], format!("{{{PROMPT}")).await;
    server.stop().await;
    let text = log.0.lock().unwrap().clone();
    assert!(text.contains("refused"), "the log is heard: {text}");
    let secrets = ["sk-client", "sk-wrong", "sk-upstream", PROMPT, ANSWER].map(str::to_owned);
    for secret in secrets.iter().chain(capabilities.iter().filter(|text| !text.is_empty())) {
        assert!(!text.contains(secret.as_str()), "{secret} is in the log: {text}");
    }
}
