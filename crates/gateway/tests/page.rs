//! The page, and what it stands on: ONNX models, openings once, the node's verdict, names and origins.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::path::Path;

use common::{Got, Server, builder, get, send, serve};
use hallmark_engine::Options;
use hallmark_gateway::GraphModel;
use hallmark_model::manifest::Model;
use hallmark_model::onnx::{Limits, NoExternalData};
use serde_json::{Value, json};

/// A node that serves the shipped digits-cnn.
async fn digits() -> Server {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/digits-cnn/model.onnx");
    let model = Model::load(&std::fs::read(path).unwrap(), &NoExternalData, &Limits::default()).unwrap();
    let graph = GraphModel::new("digits-cnn", model, Options::default()).unwrap();
    serve(builder().graph(graph).build().unwrap()).await
}

async fn infer(server: &Server, headers: &[(&str, &str)]) -> Got {
    let image: Vec<Vec<usize>> =
        (0..8).map(|row| (0..8).map(|column| 2 * row.min(column)).collect()).collect();
    let body = json!({"model": "digits-cnn", "inputs": {"image": [[image]]}});
    send("POST", format!("{}/v1/infer", server.url), headers, body.to_string()).await
}

/// What stands between double quotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('"').skip(1).step_by(2))
}

#[tokio::test]
async fn the_page_is_made_of_the_nodes_own_files_and_addresses() {
    let server = digits().await;
    let mut texts = Vec::new();
    for (path, kind) in [("/", "text/html"), ("/page.js", "text/javascript"), ("/page.css", "text/css")] {
        let got = get(format!("{}{path}", server.url), &[]).await;
        assert_eq!(got.status, 200, "{path}");
        assert!(got.header("content-type").starts_with(kind), "{path}");
        let policy = got.header("content-security-policy");
        for rule in
            ["default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"]
        {
            assert!(policy.split("; ").any(|own| own == rule), "{path}: no {rule} in {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(got.header("x-content-type-options"), "nosniff");
        assert_eq!(got.header("referrer-policy"), "no-referrer");
        for word in
            ["http:", "https:", "innerHTML", "outerHTML", "insertAdjacent", "eval(", "onclick", "style="]
        {
            assert!(!got.text().contains(word), "{path} has {word}");
        }
        texts.push(got.text().to_owned());
    }
    assert!(texts[0].matches("<script").count() == 1 && !texts[0].contains("<style"), "nothing is inline");
    // Each address that the page names is one of the node's.
    let document = get(format!("{}/openapi.json", server.url), &[]).await.json();
    let known: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
    let named: Vec<&str> = quoted(&texts[1]).filter(|text| text.starts_with('/')).collect();
    assert!(named.len() >= 6, "{named:?}");
    for name in named {
        let is_known = |path: &&String| {
            path.strip_prefix(name)
                .is_some_and(|rest| rest.is_empty() || (name.ends_with('/') && rest.starts_with('{')))
        };
        assert!(known.iter().any(is_known), "{name}");
    }
    server.stop().await;
}

async fn verdict(server: &Server, bundle: &Value, request: &[(&str, &str)]) -> Value {
    let got = send("POST", format!("{}/v1/verdicts", server.url), request, bundle.to_string()).await;
    assert_eq!(got.status, 200, "{}", got.text());
    got.json()
}

fn outcome<'a>(verdict: &'a Value, id: &str) -> &'a str {
    let mut checks = verdict["checks"].as_array().unwrap().iter();
    checks.find(|check| check["id"] == id).and_then(|check| check["outcome"].as_str()).unwrap_or("none")
}

#[tokio::test]
async fn a_run_is_judged_by_a_re_run_and_an_altered_one_is_refused() {
    let server = digits().await;
    let nonce = "5a".repeat(32);
    let got = infer(&server, &[("x-hallmark-nonce", &nonce)]).await;
    assert_eq!(got.status, 200, "{}", got.text());
    let url = format!("{}/v1/receipts/{}", server.url, got.header("x-hallmark-receipt"));
    let capability = [("x-hallmark-capability", got.header("x-hallmark-capability"))];
    let whole = get(url, &capability).await;
    assert_eq!(whole.header("x-hallmark-openings"), "included");

    let mut bundle = whole.json();
    let mine = [("x-request-id", got.header("x-request-id")), ("x-hallmark-nonce", nonce.as_str())];
    let accepted = verdict(&server, &bundle, &mine).await;
    assert_eq!(accepted["decision"], "accepted", "{accepted}");
    assert_eq!((outcome(&accepted, "replay"), outcome(&accepted, "request")), ("passed", "passed"));
    // The same receipt for another request, and with another answer.
    let other = [mine[0], ("x-hallmark-nonce", &"5b".repeat(32))];
    let rejected = verdict(&server, &bundle, &other).await;
    assert_eq!((&rejected["decision"], outcome(&rejected, "request")), (&json!("rejected"), "failed"));
    let data = &mut bundle["openings"]["outputs"][0]["data"];
    let text = data.as_str().unwrap();
    let first = if text.starts_with('A') { "B" } else { "A" };
    *data = format!("{first}{}", &text[1..]).into();
    let rejected = verdict(&server, &bundle, &[]).await;
    assert_eq!((&rejected["decision"], outcome(&rejected, "outputs")), (&json!("rejected"), "failed"));
    server.stop().await;
}

#[tokio::test]
async fn other_names_and_other_sites_are_refused() {
    let server = digits().await;
    let got = infer(&server, &[("host", "evil.example")]).await;
    assert_eq!((got.status, got.header("x-hallmark-receipt")), (421, ""));
    assert_eq!(get(server.url.clone() + "/", &[("host", "evil.example")]).await.status, 421);
    for origin in ["https://evil.example", "null"] {
        let got = infer(&server, &[("origin", origin)]).await;
        assert_eq!(
            (got.status, &got.json()["error"]["code"]),
            (403, &json!("origin_not_allowed")),
            "{origin}"
        );
    }
    let got = infer(&server, &[("origin", &server.url)]).await;
    assert_eq!((got.status, got.header("access-control-allow-origin")), (200, ""));
    server.stop().await;
}
