//! The proxy before real gateways, with a relay between them that lies.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;
#[path = "proxy/sample.rs"]
mod sample;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use common::{
    Got, Server, get, http_client, json_response, node, over, post, raw_server, send, sse_response, upstream,
};
use futures_util::StreamExt as _;
use hallmark_gateway::providers::Secret;
use hallmark_gateway::proxy::{Behind, Sample};
use hallmark_gateway::{Proxy, json};
use hallmark_receipt::{Bundle, Digest, KeyId};
use hallmark_verdict::Context;
use http::HeaderMap;
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use tokio::net::TcpListener;

const PATHS: [&str; 4] = ["chat/completions", "completions", "responses", "messages"];

fn request(stream: bool) -> Value {
    json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "prompt": "hi", "input": "hi",
           "max_tokens": 64, "temperature": 0.5, "stream": stream})
}

/// Only what the format at `path` takes.
fn request_at(path: &str, stream: bool) -> Value {
    let mut request = request(stream);
    let members = request.as_object_mut().unwrap();
    let own = match path {
        "completions" => "prompt",
        "responses" => "input",
        _ => "messages",
    };
    members.retain(|name, _| !["prompt", "input", "messages"].contains(&name.as_str()) || name == own);
    if path == "responses" {
        members.remove("max_tokens");
    }
    request
}

async fn gateway() -> Server {
    let chunk = |text: &str, finish: Value| {
        json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}).to_string()
    };
    let mut chunks: Vec<String> = ["a", "b", "c", "d", "e"].map(|text| chunk(text, Value::Null)).into();
    chunks.extend([chunk("", json!("stop")), "[DONE]".to_owned()]);
    let answer = json!({"choices": [{"index": 0, "message": {"role": "assistant", "content": "abcde"},
        "finish_reason": "stop"}], "usage": {"prompt_tokens": 3, "completion_tokens": 5}});
    let (url, _) = upstream(move |asked| match asked.path.as_str() {
        "/embeddings" => json_response(&json!({"data": [{"index": 0, "embedding": [0.5, -1.0]}],
            "usage": {"prompt_tokens": 1, "total_tokens": 1}})),
        _ if asked.body["stream"] == true => sse_response(&chunks),
        _ => json_response(&answer),
    })
    .await;
    over("openai", &url).await
}

type Kept = Arc<Mutex<Vec<(Digest, String)>>>;

async fn proxy(gateways: &[(String, KeyId)]) -> (String, Kept) {
    proxy_with(gateways, Sample::default()).await
}

async fn proxy_with(gateways: &[(String, KeyId)], sample: Sample) -> (String, Kept) {
    let kept = Kept::default();
    let copy = kept.clone();
    let keep = move |id: &Digest, bundle: &str| {
        copy.lock().unwrap().push((*id, bundle.to_owned()));
        Ok(())
    };
    let behind = |(number, (url, node)): (usize, &(String, KeyId))| Behind {
        url: url.clone(),
        node: *node,
        key: Some(Secret::new(format!("gateway-key-{number}"))),
    };
    let gateways: Vec<Behind> = gateways.iter().enumerate().map(behind).collect();
    let proxy = Proxy::new(&gateways, Context::default(), Box::new(keep), sample).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { proxy.serve(listener, std::future::pending()).await.unwrap() });
    (url, kept)
}

/// A relay to `to`, what it got from there last, and what headers the proxy sent. `ask` may change the request's body, `lie` the answer's headers and body; `path` is the request's.
async fn relay(
    to: &str,
    ask: impl Fn(String) -> String + Clone + Send + Sync + 'static,
    lie: impl Fn(&str, &mut HeaderMap, String) -> String + Clone + Send + Sync + 'static,
) -> (String, Arc<Mutex<String>>, Arc<Mutex<HeaderMap>>) {
    let (seen, asked) = (Arc::new(Mutex::new(String::new())), Arc::new(Mutex::new(HeaderMap::new())));
    let (log, log_asked, to) = (seen.clone(), asked.clone(), to.to_owned());
    let handler = move |request: Request| {
        let (ask, lie, log, log_asked, to) =
            (ask.clone(), lie.clone(), log.clone(), log_asked.clone(), to.clone());
        async move {
            let (parts, body) = request.into_parts();
            let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
            let path = parts.uri.path().to_owned();
            let is_post = parts.method == "POST";
            let mut out = http::Request::builder().method(parts.method).uri(format!("{to}{path}"));
            for (name, value) in
                parts.headers.iter().filter(|(name, _)| *name != "host" && *name != "content-length")
            {
                out = out.header(name, value);
            }
            let body = Full::new(Bytes::from(ask(body)));
            let (mut head, body) = http_client().request(out.body(body).unwrap()).await.unwrap().into_parts();
            let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
            head.headers.remove("content-length");
            head.headers.remove("transfer-encoding");
            if is_post {
                *log_asked.lock().unwrap() = parts.headers.clone();
                body.clone_into(&mut log.lock().unwrap());
            }
            let body = lie(&path, &mut head.headers, body);
            Response::from_parts(head, Body::from(body))
        }
    };
    (raw_server(Router::new().fallback(handler)).await, seen, asked)
}

/// The events of a body, with their comment lines.
fn blocks(body: &str) -> Vec<String> {
    body.split_terminator("\n\n").map(|block| format!("{block}\n\n")).collect()
}

/// What a client sees of a body: no comments.
fn plain(body: &str) -> String {
    body.split_inclusive('\n').filter(|line| !line.starts_with(':')).collect()
}

fn same(text: String) -> String {
    text
}

#[tokio::test]
async fn an_honest_answer_comes_through_as_it_is_and_its_receipt_is_kept() {
    let gateway = gateway().await;
    let (between, seen, asked) = relay(&gateway.url, same, |_, _, body| body).await;
    let (url, kept) = proxy(&[(between, node())]).await;
    for path in PATHS {
        for stream in [true, false] {
            let body = request_at(path, stream).to_string();
            let own =
                [("authorization", "Bearer client"), ("x-api-key", "client"), ("x-hallmark-nonce", "1")];
            let got = send("POST", format!("{url}/v1/{path}"), &own, body.clone()).await;
            assert_eq!(got.status, 200, "{path}: {}", got.text());
            let seen = seen.lock().unwrap().clone();
            assert_eq!(got.text(), plain(&seen), "{path}");
            let (id, bundle) = kept.lock().unwrap().pop().unwrap();
            assert!(got.text().contains(&id.to_string()), "{path}");
            assert!(stream || got.header("x-hallmark-receipt") == id.to_string());
            let bundle = Bundle::parse(bundle.as_bytes()).unwrap();
            let sent = bundle.inputs.unwrap()[0].tensor().as_slice::<String>().unwrap()[0].clone();
            assert_eq!(sent, json::canonical(&serde_json::from_str(&body).unwrap()));
            let asked = asked.lock().unwrap().clone();
            assert_eq!(asked["authorization"], "Bearer gateway-key-0");
            assert!(asked.get("x-api-key").is_none() && asked["x-hallmark-nonce"] != "1");
        }
    }
    let got = post(format!("{url}/v1/embeddings"), &json!({"model": "m", "input": "hi"})).await;
    assert_eq!((got.status, got.json()["data"][0]["embedding"].clone()), (200, json!([0.5, -1.0])));
    assert_eq!(kept.lock().unwrap().len(), 1);
    assert_eq!(get(format!("{url}/v1/models"), &[]).await.json()["data"][0]["id"], "m");
    let elsewhere = get(format!("{url}/v1/models"), &[("host", "evil.example")]).await;
    assert_eq!(elsewhere.status, 421);
}

fn assert_no_end(got: &Got) {
    for end in [
        "[DONE]",
        "message_stop",
        "response.completed",
        "\"finish_reason\":\"stop\"",
        "\"stop_reason\":\"end_turn\"",
    ] {
        assert!(!got.text().contains(end), "{end} in {}", got.text());
    }
}

type Lie = fn(Vec<String>, &[String]) -> Vec<String>;

#[tokio::test]
async fn a_stream_that_was_changed_ends_at_the_change_with_an_error() {
    let gateway = gateway().await;
    // The second member is the number of events before the first wrong one; the lies speak of the fourth.
    let lies: [(&str, usize, Lie); 9] = [
        ("drop", 3, |mut blocks, _| {
            blocks.remove(3);
            blocks
        }),
        ("swap", 3, |mut blocks, _| {
            blocks.swap(3, 4);
            blocks
        }),
        ("edit", 3, |mut blocks, _| {
            let data = blocks[3].find("data:").unwrap();
            let edited = blocks[3][data..].replacen('c', "C", 1);
            blocks[3].replace_range(data.., &edited);
            blocks
        }),
        ("repeat", 4, |mut blocks, _| {
            blocks.insert(4, blocks[3].clone());
            blocks
        }),
        ("splice", 3, |mut blocks, other| {
            blocks[3] = other[3].clone();
            blocks
        }),
        ("insert", 3, |mut blocks, _| {
            let data = blocks[3].find("data:").unwrap();
            blocks.insert(3, blocks[3][data..].to_owned());
            blocks
        }),
        ("rename", 3, |mut blocks, _| {
            let data = blocks[3].find("data:").unwrap();
            blocks[3].insert_str(data, "event: error\n");
            blocks
        }),
        ("cut", 5, |mut blocks, _| {
            blocks.truncate(5);
            blocks
        }),
        ("end unsigned", 3, |mut blocks, _| {
            blocks.truncate(3);
            blocks.push("data: [DONE]\n\n".to_owned());
            blocks
        }),
    ];
    for path in PATHS {
        let body = request_at(path, true);
        let other = post(format!("{}/v1/{path}", gateway.url), &body).await;
        for (name, good, lie) in lies {
            let other = blocks(other.text());
            let (between, seen, _) = relay(&gateway.url, same, move |route, _, body| {
                if route.starts_with("/v1/receipts") { body } else { lie(blocks(&body), &other).concat() }
            })
            .await;
            let (url, kept) = proxy(&[(between, node())]).await;
            let got = post(format!("{url}/v1/{path}"), &body).await;
            let honest = blocks(&seen.lock().unwrap());
            let prefix = plain(&honest[..good].concat());
            let rest = got.text().strip_prefix(prefix.as_str());
            let rest = rest.unwrap_or_else(|| panic!("{path}, {name}: {}", got.text()));
            assert!(blocks(rest).len() == 1 && rest.contains("error"), "{path}, {name}: {rest}");
            assert_no_end(&got);
            assert!(kept.lock().unwrap().is_empty());
        }
    }
}

#[tokio::test]
async fn without_the_right_receipt_a_stream_has_no_end() {
    let gateway = gateway().await;
    let old =
        post(format!("{}/v1/chat/completions", gateway.url), &request_at("chat/completions", false)).await;
    let capability = [("x-hallmark-capability", old.header("x-hallmark-capability"))];
    let old =
        get(format!("{}/v1/receipts/{}", gateway.url, old.header("x-hallmark-receipt")), &capability).await;
    let old = old.text().to_owned();
    for path in PATHS {
        for case in ["another", "redacted", "not one", "no capability", "cut before the seal"] {
            let old = old.clone();
            let (between, seen, _) = relay(&gateway.url, same, move |route, headers, body| {
                let is_receipt = route.starts_with("/v1/receipts");
                match case {
                    "another" if is_receipt => old.clone(),
                    "not one" if is_receipt => "{}".to_owned(),
                    "redacted" if is_receipt => Bundle::parse(body.as_bytes()).unwrap().redact().to_json(),
                    "no capability" => {
                        headers.remove("x-hallmark-capability");
                        body
                    }
                    "cut before the seal" if !is_receipt => {
                        let mut blocks = blocks(&body);
                        blocks.pop();
                        blocks.concat()
                    }
                    _ => body,
                }
            })
            .await;
            let (url, kept) = proxy(&[(between, node())]).await;
            let got = post(format!("{url}/v1/{path}"), &request_at(path, true)).await;
            assert_no_end(&got);
            let events = blocks(got.text());
            let (error, events) = events.split_last().unwrap();
            assert!(error.contains("error"), "{path}, {case}: {error}");
            assert!(plain(&seen.lock().unwrap()).starts_with(&events.concat()), "{path}, {case}");
            assert!(got.text().contains("\"e\"") && kept.lock().unwrap().is_empty(), "{path}, {case}");
        }
    }
}

#[tokio::test]
async fn a_receipt_that_breaks_off_on_its_way_is_asked_for_again() {
    let gateway = gateway().await;
    let broken = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (between, _, _) = relay(&gateway.url, same, move |route, headers, body| {
        if route.starts_with("/v1/receipts") && !broken.swap(true, std::sync::atomic::Ordering::Relaxed) {
            headers.insert("content-length", (body.len() + 10).into());
        }
        body
    })
    .await;
    let (url, kept) = proxy(&[(between, node())]).await;
    let got = post(format!("{url}/v1/chat/completions"), &request_at("chat/completions", true)).await;
    assert!(got.text().contains("[DONE]"), "{}", got.text());
    assert!(Bundle::parse(kept.lock().unwrap()[0].1.as_bytes()).unwrap().inputs.is_some());
}

#[tokio::test]
async fn a_false_whole_answer_is_refused_and_its_gateway_left_alone() {
    let gateway = gateway().await;
    let path = "chat/completions";
    for case in ["body", "seal", "unsigned", "request", "node", "replay"] {
        let first = Arc::new(Mutex::new(None::<(HeaderMap, String)>));
        let ask = move |body: String| if case == "request" { body.replace("hi", "ho") } else { body };
        let (between, _, _) = relay(&gateway.url, ask, move |route, headers, body| match case {
            _ if route.starts_with("/v1/receipts") => body,
            "body" => body.replacen("abcde", "abcdE", 1),
            "seal" => {
                let seal = headers["x-hallmark-seal"].to_str().unwrap().replacen("0 ", "1 ", 1);
                headers.insert("x-hallmark-seal", seal.parse().unwrap());
                body
            }
            "unsigned" => {
                headers.remove("x-hallmark-seal");
                body
            }
            // The answer to the same question, asked before.
            "replay" => {
                let mut first = first.lock().unwrap();
                let (old, text) = first.get_or_insert_with(|| (headers.clone(), body));
                *headers = old.clone();
                text.clone()
            }
            _ => body,
        })
        .await;
        if case == "replay" {
            let nonce = "0".repeat(64);
            let headers = [("x-hallmark-sign", "whole"), ("x-hallmark-nonce", nonce.as_str())];
            let body = request_at(path, false).to_string();
            send("POST", format!("{between}/v1/{path}"), &headers, body).await;
        }
        let pinned = if case == "node" { KeyId(Digest([7; 32])) } else { node() };
        let (url, kept) = proxy(&[(between, pinned)]).await;
        let got = post(format!("{url}/v1/{path}"), &request_at(path, false)).await;
        assert_eq!(
            (got.status, &got.json()["error"]["code"]),
            (502, &json!("answer_not_verified")),
            "{case}"
        );
        assert!(!got.text().contains("abcd") && kept.lock().unwrap().is_empty());
        let got = post(format!("{url}/v1/{path}"), &request_at(path, false)).await;
        assert_eq!(got.status, 503, "{case}");
        assert!(got.text().contains("falsely"), "{}", got.text());
        assert!(get(format!("{url}/metrics"), &[]).await.text().contains("false_answers_total 1\n"));
    }
}

#[tokio::test]
async fn a_stream_by_another_node_or_for_another_request_never_begins() {
    let gateway = gateway().await;
    let ask = |body: String| body.replace("hi", "ho");
    let (between, _, _) = relay(&gateway.url, ask, |_, _, body| body).await;
    for pinned in [(between, node()), (gateway.url.clone(), KeyId(Digest([7; 32])))] {
        let (url, _) = proxy(&[pinned]).await;
        for path in PATHS {
            let got = post(format!("{url}/v1/{path}"), &request_at(path, true)).await;
            assert!([502, 503].contains(&got.status), "{}", got.text());
            assert!(got.json().get("error").is_some());
        }
    }
}

#[tokio::test]
async fn a_dead_gateway_is_passed_over_and_without_any_there_is_a_reason() {
    let gateway = gateway().await;
    let dead = "http://127.0.0.1:1".to_owned();
    let broken =
        raw_server(Router::new().fallback(|| async { http::StatusCode::INTERNAL_SERVER_ERROR })).await;
    // A stream that is cut before its first event.
    let (cut, _, _) = relay(&gateway.url, same, |_, _, _| String::new()).await;
    let all =
        [(dead.clone(), node()), (broken.clone(), node()), (cut, node()), (gateway.url.clone(), node())];
    let (url, _) = proxy(&all).await;
    for stream in [true, false] {
        let got = post(format!("{url}/v1/messages"), &request_at("messages", stream)).await;
        assert_eq!(got.status, 200, "{}", got.text());
    }
    let (url, _) = proxy(&all[..2]).await;
    let got = post(format!("{url}/v1/chat/completions"), &request(true)).await;
    assert_eq!((got.status, got.header("retry-after")), (503, "1"));
    let text = got.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(text.contains("no connection") && text.contains("status 500"), "{text}");
}

#[tokio::test]
async fn each_gateway_gets_its_own_key_alone() {
    let gateway = gateway().await;
    let (broken, _, first) = relay(&gateway.url, same, |_, _, _| String::new()).await;
    let (good, _, second) = relay(&gateway.url, same, |_, _, body| body).await;
    let (url, _) = proxy(&[(broken, node()), (good, node())]).await;
    let got = post(format!("{url}/v1/chat/completions"), &request_at("chat/completions", true)).await;
    assert!(got.text().contains("[DONE]"), "{}", got.text());
    assert_eq!(first.lock().unwrap()["authorization"], "Bearer gateway-key-0");
    assert_eq!(second.lock().unwrap()["authorization"], "Bearer gateway-key-1");
}

/// A gateway whose upstream calls a function, in pieces.
async fn calling() -> Server {
    let call = |call: Value, finish: Value| {
        json!({"choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": finish}]})
            .to_string()
    };
    let chunks = [
        call(
            json!({"index": 0, "id": "call_9", "type": "function", "function": {"name": "f", "arguments": ""}}),
            Value::Null,
        ),
        call(json!({"index": 0, "function": {"arguments": "{\"city\": \"Zür"}}), Value::Null),
        call(json!({"index": 0, "function": {"arguments": "ich\", \"n\": 1.50}"}}), Value::Null),
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}).to_string(),
        "[DONE]".to_owned(),
    ];
    let function = json!({"name": "f", "arguments": "{\"city\": \"Zürich\", \"n\": 1.50}"});
    let message = json!({"role": "assistant", "content": null, "tool_calls": [{"id": "call_9", "type": "function", "function": function}]});
    let answer = json!({"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]});
    let (url, _) = upstream(move |asked| match asked.body["stream"] == true {
        true => sse_response(&chunks),
        false => json_response(&answer),
    })
    .await;
    over("openai", &url).await
}

/// The request with one function, as the format at `path` has it.
fn calling_at(path: &str, stream: bool) -> Value {
    let mut request = request_at(path, stream);
    let schema = json!({"type": "object", "properties": {}});
    request["tools"] = match path {
        "messages" => json!([{"name": "f", "input_schema": schema}]),
        "responses" => json!([{"type": "function", "name": "f", "parameters": schema, "strict": false}]),
        _ => json!([{"type": "function", "function": {"name": "f", "parameters": schema}}]),
    };
    request
}

#[tokio::test]
async fn calls_of_functions_come_through_and_a_changed_argument_does_not() {
    let gateway = calling().await;
    for path in ["chat/completions", "responses", "messages"] {
        for stream in [true, false] {
            let (between, seen, _) = relay(&gateway.url, same, |_, _, body| body).await;
            let (url, kept) = proxy(&[(between, node())]).await;
            let got = post(format!("{url}/v1/{path}"), &calling_at(path, stream)).await;
            assert_eq!((got.status, got.text()), (200, plain(&seen.lock().unwrap()).as_str()), "{path}");
            let bundle = Bundle::parse(kept.lock().unwrap()[0].1.as_bytes()).unwrap();
            let response = bundle.outputs.unwrap()[0].tensor().as_slice::<String>().unwrap()[0].clone();
            let response: Value = serde_json::from_str(&response).unwrap();
            assert_eq!(response["tool_calls"][0]["function"]["name"], "f");

            let change =
                |route: &str, _: &mut HeaderMap, body: String| match route.starts_with("/v1/receipts") {
                    true => body,
                    false => body.replace("ich", "ICH"),
                };
            let (between, _, _) = relay(&gateway.url, same, change).await;
            let (url, kept) = proxy(&[(between, node())]).await;
            let got = post(format!("{url}/v1/{path}"), &calling_at(path, stream)).await;
            assert!(
                got.text().contains("not verified") && !got.text().contains("ICH"),
                "{path}: {}",
                got.text()
            );
            assert!(kept.lock().unwrap().is_empty());
        }
    }
}

#[tokio::test]
async fn events_are_handed_out_as_they_come() {
    let gateway = gateway().await;
    // Sends three events, and then nothing more.
    let to = gateway.url.clone();
    let handler = move |request: Request| {
        let to = to.clone();
        async move {
            let (parts, body) = request.into_parts();
            let mut out = http::Request::builder().method("POST").uri(format!("{to}{}", parts.uri.path()));
            *out.headers_mut().unwrap() = parts.headers;
            let body = Full::new(body.collect().await.unwrap().to_bytes());
            let got = http_client().request(out.body(body).unwrap()).await.unwrap();
            let body = got.into_body().collect().await.unwrap().to_bytes();
            let text = std::str::from_utf8(&body).unwrap();
            let first = blocks(text)[..3].concat();
            let events = futures_util::stream::iter([Ok::<_, std::convert::Infallible>(first)]);
            Response::new(Body::from_stream(events.chain(futures_util::stream::pending())))
        }
    };
    let (url, _) = proxy(&[(raw_server(Router::new().fallback(handler)).await, node())]).await;
    let body = Full::new(Bytes::from(request_at("completions", true).to_string()));
    let ask = http::Request::builder().method("POST").uri(format!("{url}/v1/completions"));
    let mut got = http_client().request(ask.body(body).unwrap()).await.unwrap();
    let frame = tokio::time::timeout(Duration::from_secs(10), got.body_mut().frame()).await.unwrap();
    assert_eq!(blocks(std::str::from_utf8(&frame.unwrap().unwrap().into_data().unwrap()).unwrap()).len(), 3);
}
