//! A node over a local provider, from the request to the judged receipt.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{builder, get, json_response, node, over, post, provider, send, serve, sse_response, upstream};
use hallmark_gateway::providers::Patience;
use hallmark_gateway::{ApiKey, Folder, Keep, Limits, Quota, json};
use hallmark_receipt::stream::{Reader, StreamError};
use hallmark_receipt::{Bundle, Digest, Receipt, Tensor};
use serde_json::{Value, json};

fn answer() -> Value {
    json!({"choices": [{"index": 0, "message": {"role": "assistant", "content": "Grüße"}, "finish_reason": "stop"}],
           "usage": {"prompt_tokens": 3, "completion_tokens": 2}})
}

fn chunks() -> Vec<String> {
    let chunk = |delta: Value, finish: Value| {
        json!({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}).to_string()
    };
    vec![
        chunk(json!({"role": "assistant", "content": "Grü"}), Value::Null),
        chunk(json!({"content": "ße"}), Value::Null),
        chunk(json!({}), json!("stop")),
        json!({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}).to_string(),
        "[DONE]".to_owned(),
    ]
}

fn request(stream: bool) -> Value {
    json!({"model": "m", "messages": [{"role": "user", "content": "hi 😀"}], "temperature": 0.1, "stream": stream})
}

async fn both() -> String {
    upstream(
        |asked| {
            if asked.body["stream"] == true { sse_response(&chunks()) } else { json_response(&answer()) }
        },
    )
    .await
    .0
}

fn text_of(tensor: &Tensor) -> &str {
    &tensor.as_slice::<String>().unwrap()[0]
}

#[tokio::test]
async fn every_answer_has_a_receipt_whose_openings_go_out_once() {
    let server = over("openai", &both().await).await;
    let got = post(format!("{}/v1/chat/completions", server.url), &request(false)).await;
    assert_eq!(got.status, 200, "{}", got.text());
    let (id, capability) = (got.header("x-hallmark-receipt"), got.header("x-hallmark-capability"));
    let value = got.json();
    assert_eq!(value["hallmark"]["receipt"], id);
    assert_eq!(value["choices"][0]["message"]["content"], "Grüße");
    assert_eq!(value["usage"]["total_tokens"], 5);

    let url = format!("{}/v1/receipts/{id}", server.url);
    let redacted = get(url.clone(), &[]).await;
    assert_eq!(redacted.header("x-hallmark-openings"), "withheld");
    assert!(Bundle::parse(&redacted.body).unwrap().inputs.is_none());
    // Another capability opens nothing and uses nothing up.
    let other = "A".repeat(43);
    let wrong = get(url.clone(), &[("x-hallmark-capability", other.as_str())]).await;
    assert_eq!(wrong.header("x-hallmark-openings"), "withheld");
    let whole = get(url.clone(), &[("x-hallmark-capability", capability)]).await;
    assert_eq!(whole.header("x-hallmark-openings"), "included");
    // What may have been lost on the way goes out again, a few times and for a moment.
    for openings in ["included", "included", "included", "withheld"] {
        let again = get(url.clone(), &[("x-hallmark-capability", capability)]).await;
        assert_eq!(again.header("x-hallmark-openings"), openings);
        assert!(openings == "withheld" || again.body == whole.body);
    }

    let bundle = Bundle::parse(&whole.body).unwrap();
    let inputs = bundle.inputs.as_ref().unwrap();
    assert_eq!(text_of(inputs[0].tensor()), json::canonical(&request(false)));
    let outputs = bundle.outputs.as_ref().unwrap();
    assert_eq!(text_of(outputs[0].tensor()), r#"{"content":"Grüße","role":"assistant"}"#);
    let receipt = Receipt::parse(&bundle.envelope.payload).unwrap();
    assert_eq!(receipt.claim_id.to_string(), id);
    assert_eq!(receipt.price.unwrap().amount, "7", "3 tokens in, 2 out at twice the price");
    accepted(&bundle);
    server.stop().await;
}

/// The judge accepts the bundle for a verifier who trusts the node.
fn accepted(bundle: &Bundle) {
    let now = hallmark_gateway::Host::now(&hallmark_gateway::System);
    let mut context = hallmark_verdict::Context::at(now);
    context.trust.named.push(node());
    let policy = hallmark_verdict::Policy::default_policy();
    let verdict = hallmark_verdict::judge(bundle.to_json().as_bytes(), &policy, &context, None);
    assert!(verdict.is_accepted(), "{}", hallmark_verdict::render::text(&verdict));
}

fn read(text: &str, request: &Value) -> (Vec<String>, Result<Digest, StreamError>) {
    let now = hallmark_gateway::Host::now(&hallmark_gateway::System);
    let mut reader = Reader::new(node(), json::canonical(request), now);
    let mut events = Vec::new();
    reader.feed(text.as_bytes(), &mut events).unwrap();
    (events.into_iter().map(|event| event.data).collect(), reader.finish())
}

#[tokio::test]
async fn streams_are_signed_event_by_event() {
    let server = over("openai", &both().await).await;
    let got = post(format!("{}/v1/chat/completions", server.url), &request(true)).await;
    let (events, end) = read(got.text(), &request(true));
    let id = end.unwrap();
    assert_eq!(events.last().unwrap(), "[DONE]");
    let values: Vec<Value> =
        events[..events.len() - 1].iter().map(|e| serde_json::from_str(e).unwrap()).collect();
    let text: String = values.iter().filter_map(|v| v["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, "Grüße");
    let last = values.last().unwrap();
    assert_eq!(last["hallmark"]["receipt"], id.to_string());
    assert_eq!(
        (&last["choices"][0]["finish_reason"], &last["usage"]["prompt_tokens"]),
        (&json!("stop"), &json!(3))
    );
    let url = format!("{}/v1/receipts/{id}", server.url);
    let whole = get(url, &[("x-hallmark-capability", got.header("x-hallmark-capability"))]).await;
    accepted(&Bundle::parse(&whole.body).unwrap());
    // The same words as an answer to another request are refused at the first event.
    let now = hallmark_gateway::Host::now(&hallmark_gateway::System);
    let mut reader = Reader::new(node(), "{}", now);
    assert!(matches!(
        reader.feed(got.body.as_ref(), &mut Vec::new()),
        Err(StreamError::Signature { index: 0, .. })
    ));
    // With the usage option, an event without choices carries the counts.
    let mut asked = request(true);
    asked["stream_options"] = json!({"include_usage": true});
    let got = post(format!("{}/v1/chat/completions", server.url), &asked).await;
    let (events, end) = read(got.text(), &asked);
    end.unwrap();
    let last: Value = serde_json::from_str(&events[events.len() - 2]).unwrap();
    assert_eq!((&last["choices"], &last["usage"]["total_tokens"]), (&json!([]), &json!(5)));
    server.stop().await;
}

#[tokio::test]
async fn an_answer_that_comes_at_once_is_signed_where_that_is_asked_for() {
    let server = over("openai", &both().await).await;
    let url = format!("{}/v1/chat/completions", server.url);
    let got = send("POST", url.clone(), &[("x-hallmark-sign", "whole")], request(false).to_string()).await;
    let (preamble, seal) = (got.header("x-hallmark-stream"), got.header("x-hallmark-seal"));
    let now = hallmark_gateway::Host::now(&hallmark_gateway::System);
    let read = |request: &Value, body: &[u8]| {
        Reader::new(node(), json::canonical(request), now).whole(preamble, seal, body).map(|(_, claim)| claim)
    };
    assert_eq!(read(&request(false), &got.body).unwrap().to_string(), got.header("x-hallmark-receipt"));
    let edited = got.text().replace("stop", "length");
    assert!(matches!(read(&request(false), edited.as_bytes()), Err(StreamError::Signature { index: 0, .. })));
    assert!(read(&request(true), &got.body).is_err(), "the answer to another request");
    let plain = post(url, &request(false)).await;
    assert_eq!((plain.status, plain.header("x-hallmark-seal")), (200, ""));
    server.stop().await;
}

#[tokio::test]
async fn a_stream_that_breaks_has_no_seal() {
    let call = json!({"choices": [{"delta": {"tool_calls": [{"index": 1_000_000_000, "function": {}}]}}]});
    for (next, told) in [
        (None, "cut off"),
        (Some("{\"choices\": [".to_owned()), "not JSON"),
        (Some(call.to_string()), "too large"),
    ] {
        let (url, _) = upstream(move |_| {
            let said = chunks().into_iter().take(2).chain(next.clone());
            sse_response(&said.collect::<Vec<_>>())
        })
        .await;
        let server = over("openai", &url).await;
        let got = post(format!("{}/v1/chat/completions", server.url), &request(true)).await;
        let (events, end) = read(got.text(), &request(true));
        assert!(events.last().unwrap().contains(told), "{events:?}");
        assert_eq!(end, Err(StreamError::Cut { events: 4 }));
        server.stop().await;
    }
}

#[tokio::test]
async fn refusals_are_in_openais_form() {
    let server = over("openai", &both().await).await;
    let url = format!("{}/v1/chat/completions", server.url);
    let cases = [
        (json!({"model": "m"}), 400, "messages"),
        (json!({"model": "m", "messages": []}), 400, "messages"),
        (json!({"model": "m", "messages": [{"role": "x", "content": "a"}]}), 400, "messages[0].role"),
        (json!({"model": "m", "messages": [{"role": "user"}]}), 400, "messages[0].content"),
        (json!({"model": "m", "messages": [{"role": "user", "content": "a"}], "n": 2}), 400, "n"),
        (
            json!({"model": "m", "messages": [{"role": "user", "content": "a"}], "seed": 1_u64 << 53}),
            400,
            "seed",
        ),
        (
            json!({"model": "m", "messages": [{"role": "user", "content": "a"}], "temperature": 3}),
            400,
            "temperature",
        ),
        (
            json!({"model": "m", "messages": [{"role": "user", "content": "a"}], "tools": [1]}),
            400,
            "tools[0]",
        ),
    ];
    for (body, status, param) in cases {
        let got = post(url.clone(), &body).await;
        let error = &got.json()["error"];
        assert_eq!((got.status, &error["param"]), (status, &json!(param)), "{error}");
        assert_eq!(error["type"], "invalid_request_error");
    }
    let mut unknown = request(false);
    unknown["model"] = "other".into();
    let got = post(url.clone(), &unknown).await;
    assert_eq!((got.status, &got.json()["error"]["code"]), (404, &json!("model_not_found")));
    let got = send("POST", url.clone(), &[], "{").await;
    assert_eq!(got.status, 400);
    let got = send("POST", url.clone(), &[], vec![b' '; (8 << 20) + 1]).await;
    assert_eq!((got.status, &got.json()["error"]["code"]), (413, &json!("request_too_large")));
    assert_eq!(get(url, &[]).await.status, 405);
    assert_eq!(get(format!("{}/nothing", server.url), &[]).await.status, 404);
    for path in ["/v1/receipts/00", "/v1/receipts/../../etc/passwd", "/signing-key"] {
        assert_eq!(get(format!("{}{path}", server.url), &[]).await.status, 404, "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn keys_and_quotas_are_kept() {
    let quota = Quota { requests_per_minute: Some(2), tokens_per_minute: None };
    let gateway = builder()
        .backend(provider("openai", &both().await, Patience::default()))
        .keys(vec![ApiKey::new("a", "sk-a", quota), ApiKey::new("b", "sk-b", Quota::default())])
        .build()
        .unwrap();
    let server = serve(gateway).await;
    let ask = |key: &'static str| {
        let url = format!("{}/v1/chat/completions", server.url);
        async move { send("POST", url, &[("authorization", key)], request(false).to_string()).await }
    };
    assert_eq!(ask("Bearer sk-x").await.status, 401);
    assert_eq!(ask("Bearer sk-a").await.status, 200);
    assert_eq!(ask("Bearer sk-a").await.status, 200);
    let got = ask("Bearer sk-a").await;
    assert_eq!((got.status, got.header("retry-after")), (429, "30"));
    assert_eq!(got.json()["error"]["type"], "rate_limit_error");
    assert_eq!(ask("Bearer sk-b").await.status, 200);
    assert_eq!(get(format!("{}/v1/models", server.url), &[]).await.status, 401);
    let got = get(format!("{}/v1/models", server.url), &[("x-api-key", "sk-b")]).await;
    assert_eq!(got.json()["data"][0]["hallmark"]["model"]["claimed"]["name"], "m-1");
    assert_eq!(get(format!("{}/health", server.url), &[]).await.status, 200);
    assert_eq!(get(format!("{}/ready", server.url), &[]).await.status, 200);
    let page = get(format!("{}/metrics", server.url), &[]).await;
    assert!(page.text().contains("hallmark_gateway_answers_total 3\n"), "{}", page.text());
    server.stop().await;
}

/// Never ends: one piece, then silence.
fn endless(_: &common::Asked) -> axum::response::Response {
    use futures_util::StreamExt as _;
    let first = format!("data: {}\n\n", chunks()[0]);
    let body =
        futures_util::stream::iter([Ok::<_, std::io::Error>(first)]).chain(futures_util::stream::pending());
    axum::response::Response::new(axum::body::Body::from_stream(body))
}

/// Whether the node's counts say so within three seconds.
async fn says(server: &common::Server, text: &str) -> bool {
    for _ in 0..300 {
        if get(format!("{}/metrics", server.url), &[]).await.text().contains(text) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

#[tokio::test]
async fn turns_are_bounded_and_given_back_when_the_client_leaves() {
    let (url, _) = upstream(endless).await;
    let limits = Limits { answers: 1, queue: 1, queue_time: Duration::from_millis(50), ..Limits::default() };
    let backend = provider("openai", &url, Patience::default());
    let server = serve(builder().backend(backend).limits(limits).build().unwrap()).await;
    let address = format!("{}/v1/chat/completions", server.url);
    let client = common::http_client();
    let ask = |stream: bool| {
        let body = http_body_util::Full::new(request(stream).to_string().into());
        client.request(http::Request::post(&address).body(body).unwrap())
    };
    let first = ask(true).await.unwrap();
    assert_eq!(first.status(), 200);
    let refused = post(address.clone(), &request(true)).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "1"));
    assert_eq!(refused.json()["error"]["code"], "overloaded");
    // The client leaves; the provider's stream is dropped with it, and the turn is free.
    drop(first);
    assert!(says(&server, "answers_running 0\n").await && says(&server, "broken_total 1\n").await);
    // The same while the whole answer is waited for.
    let waiting = tokio::time::timeout(Duration::from_millis(100), ask(false)).await;
    assert!(waiting.is_err());
    assert!(says(&server, "answers_running 0\n").await && says(&server, "broken_total 2\n").await);
    server.stop().await;
}

#[tokio::test]
async fn answers_in_progress_outlive_the_order_to_stop() {
    let (url, _) = upstream(|_| {
        std::thread::sleep(Duration::from_millis(100));
        json_response(&answer())
    })
    .await;
    let server = over("openai", &url).await;
    let asked = tokio::spawn(post(
        format!("{}/v1/chat/completions", server.url),
        Box::leak(Box::new(request(false))),
    ));
    tokio::time::sleep(Duration::from_millis(30)).await;
    server.stop().await;
    assert_eq!(asked.await.unwrap().status, 200);
}

#[tokio::test]
async fn a_folder_keeps_receipts() {
    let folder = tempfile::tempdir().unwrap();
    let start = || async {
        let store = Arc::new(Folder::open(folder.path().join("r"), Keep::default()).unwrap());
        let backend = provider("openai", &both().await, Patience::default());
        serve(builder().backend(backend).store(store).build().unwrap()).await
    };
    let server = start().await;
    let got = post(format!("{}/v1/chat/completions", server.url), &request(false)).await;
    let (id, capability) = (got.header("x-hallmark-receipt"), got.header("x-hallmark-capability"));
    server.stop().await;
    // After a restart it is all there.
    let server = start().await;
    let url = format!("{}/v1/receipts/{id}", server.url);
    assert_eq!(get(url.clone(), &[]).await.header("x-hallmark-openings"), "withheld");
    let whole = get(url.clone(), &[("x-hallmark-capability", capability)]).await;
    assert_eq!(whole.header("x-hallmark-openings"), "included");
    accepted(&Bundle::parse(&whole.body).unwrap());
    server.stop().await;
    let server = start().await;
    let url = format!("{}/v1/receipts/{id}", server.url);
    let again = get(url, &[("x-hallmark-capability", capability)]).await;
    assert_eq!(again.header("x-hallmark-openings"), "withheld");
    let names: Vec<_> = std::fs::read_dir(folder.path().join("r")).unwrap().collect();
    assert_eq!(names.len(), 1, "the openings are gone from the disk");
    server.stop().await;
}

#[tokio::test]
async fn slow_and_silent_clients_are_let_go() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (head_time, body_time) = (Duration::from_millis(100), Duration::from_millis(100));
    let limits = Limits { head_time, body_time, body: 1 << 20, ..Limits::default() };
    let backend = provider("openai", &both().await, Patience::default());
    let server = serve(builder().backend(backend).limits(limits).build().unwrap()).await;
    let address = server.url.trim_start_matches("http://").to_owned();
    for text in [
        "",
        "POST /v1/chat/comp",
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n{",
    ] {
        let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut got = Vec::new();
        let read = stream.read_to_end(&mut got);
        tokio::time::timeout(Duration::from_secs(5), read).await.unwrap().unwrap();
        let got = String::from_utf8(got).unwrap();
        assert!(got.is_empty() || got.starts_with("HTTP/1.1 408"), "{text}: {got}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_loses_its_turn() {
    use tokio::io::AsyncWriteExt as _;
    let piece = format!("data: {}\n\n", chunks()[0]).repeat(1000);
    let (url, _) = upstream(move |_| {
        let pieces = futures_util::stream::repeat(Ok::<_, std::convert::Infallible>(piece.clone()));
        axum::response::Response::new(axum::body::Body::from_stream(pieces))
    })
    .await;
    let limits = Limits { write_time: Duration::from_millis(100), ..Limits::default() };
    let backend = provider("openai", &url, Patience::default());
    let server = serve(builder().backend(backend).limits(limits).build().unwrap()).await;
    let body = request(true).to_string();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length:";
    let mut stream = tokio::net::TcpStream::connect(server.url.trim_start_matches("http://")).await.unwrap();
    stream.write_all(format!("{head} {}\r\n\r\n{body}", body.len()).as_bytes()).await.unwrap();
    assert!(says(&server, "broken_total 1\n").await);
    server.stop().await;
}

#[tokio::test]
async fn the_document_lists_what_there_is() {
    let server = over("openai", &both().await).await;
    let document = get(format!("{}/openapi.json", server.url), &[]).await.json();
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() > 10);
    for (path, operations) in paths {
        for method in operations.as_object().unwrap().keys() {
            let url =
                format!("{}{}", server.url, path.replace("{name}", "m").replace("{id}", &"0".repeat(64)));
            let got = send(&method.to_uppercase(), url, &[], "").await;
            assert_ne!(got.status, 405, "{path}");
            let known = got.status != 404 || ["/signing-key", "/v1/receipts/{id}"].contains(&path.as_str());
            assert!(known, "{path}");
        }
        // What a body must have is what the address asks for.
        let Some(body) = operations.pointer("/post/requestBody/content/application~1json/schema") else {
            continue;
        };
        let members = body["properties"].as_object().unwrap_or_else(|| panic!("{path} has no body"));
        for name in body["required"].as_array().unwrap() {
            let name = name.as_str().unwrap();
            assert!(members.contains_key(name), "{path}: {name}");
            let mut without = serde_json::Map::new();
            for other in body["required"].as_array().unwrap().iter().filter(|other| *other != name) {
                without.insert(
                    other.as_str().unwrap().to_owned(),
                    members[other.as_str().unwrap()]["examples"][0].clone(),
                );
            }
            let got = post(format!("{}{path}", server.url), &Value::Object(without)).await;
            let refused = got.status == 400 || path == "/v1/verdicts" && got.json()["decision"] == "rejected";
            assert!(refused, "{path} without {name}: {}", got.text());
        }
    }
    server.stop().await;
}
