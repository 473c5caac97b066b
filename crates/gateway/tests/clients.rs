//! Published clients, unmodified, against a node over a local provider: `HALLMARK_CLIENTS` is the folder of their environments that
//! `./x test` makes, one a client. Without it the tests say so and pass.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::process::Stdio;
use std::time::Duration;

use common::{Asked, Server, builder, json_response, provider, serve, sse_response, upstream};
use hallmark_gateway::TeeKey;
use hallmark_gateway::providers::Patience;
use serde_json::{Value, json};

/// Answers with the last message's text; where there are tools, calls the first one with that text.
fn echo(asked: &Asked) -> axum::response::Response {
    if asked.path.ends_with("/embeddings") {
        let vectors = asked.body["input"].as_array().unwrap().iter();
        let data: Value =
            vectors.map(|text| json!({"embedding": [0.5, text.as_str().unwrap().len()]})).collect();
        return json_response(&json!({"data": data, "usage": {"prompt_tokens": 4, "total_tokens": 4}}));
    }
    let last = asked.body["messages"].as_array().unwrap().last().unwrap();
    let text = match &last["content"] {
        Value::String(text) => text.clone(),
        parts => parts.as_array().unwrap().iter().filter_map(|part| part["text"].as_str()).collect(),
    };
    let text = format!("Echo: {text} é😀\n\"\\");
    let usage = json!({"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10});
    let tools = asked.body["tools"].as_array().filter(|_| last["role"] != "tool");
    let arguments = json!({"city": text, "n": 1.5}).to_string();
    let call = tools.map(|tools| {
        json!({"id": "call_1", "type": "function",
               "function": {"name": tools[0]["function"]["name"], "arguments": arguments}})
    });
    if asked.body["stream"] != true {
        let (message, finish) = match call {
            Some(call) => (json!({"role": "assistant", "content": null, "tool_calls": [call]}), "tool_calls"),
            None => (json!({"role": "assistant", "content": text}), "stop"),
        };
        return json_response(
            &json!({"choices": [{"message": message, "finish_reason": finish}], "usage": usage}),
        );
    }
    let chunk = |delta: Value, finish: Value| {
        json!({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}).to_string()
    };
    let mut events = vec![chunk(json!({"role": "assistant"}), Value::Null)];
    let pieces = |text: &str| text.chars().map(String::from).collect::<Vec<_>>();
    let finish = match call {
        Some(mut call) => {
            call["index"] = 0.into();
            call["function"]["arguments"] = "".into();
            events.push(chunk(json!({"tool_calls": [call]}), Value::Null));
            for piece in pieces(&arguments) {
                let call = json!({"index": 0, "function": {"arguments": piece}});
                events.push(chunk(json!({"tool_calls": [call]}), Value::Null));
            }
            "tool_calls"
        }
        None => {
            events
                .extend(pieces(&text).into_iter().map(|piece| chunk(json!({"content": piece}), Value::Null)));
            "stop"
        }
    };
    events.push(chunk(json!({}), json!(finish)));
    events.push(json!({"choices": [], "usage": usage}).to_string());
    events.push("[DONE]".to_owned());
    sse_response(&events)
}

async fn node(tee: bool) -> Server {
    let (url, _) = upstream(echo).await;
    let mut builder = builder().backend(provider("openai", &url, Patience::default()));
    if tee {
        builder = builder.opengradient(TeeKey::generate().unwrap());
    }
    serve(builder.build().unwrap()).await
}

/// Runs a script of `tests/clients` in the environment called `client` against the node.
async fn run(client: &str, script: &str, tee: bool) {
    let Ok(folder) = std::env::var("HALLMARK_CLIENTS") else {
        println!("skipped: {script}: HALLMARK_CLIENTS is not set");
        return;
    };
    let folder = format!("{folder}/{client}");
    let program = if script.ends_with(".py") { format!("{folder}/bin/python") } else { "node".to_owned() };
    let server = node(tee).await;
    let path = format!("{}/tests/clients/{script}", env!("CARGO_MANIFEST_DIR"));
    let url = server.url.clone();
    let child = tokio::task::spawn_blocking(move || {
        std::process::Command::new(program)
            .arg(path)
            .env("HALLMARK_URL", url)
            .env("HALLMARK_NODE", common::node().to_string())
            .env("NO_PROXY", "*")
            .env("HALLMARK_MODULES", format!("{folder}/node_modules"))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    });
    let output = tokio::time::timeout(Duration::from_secs(120), child).await.unwrap().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script}\n{out}\n{err}");
    assert!(out.trim_end().ends_with("ok"), "{script}\n{out}\n{err}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn opengradient_verifies_answers() {
    run("opengradient", "opengradient_client.py", true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn openai_from_pypi() {
    run("openai", "openai_client.py", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn anthropic_from_pypi() {
    run("anthropic", "anthropic_client.py", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn langchain_from_pypi() {
    run("langchain", "langchain_client.py", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn openai_from_npm() {
    run("npm", "openai_client.mjs", false).await;
}
