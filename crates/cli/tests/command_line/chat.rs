//! Language models: answers with verdicts, models from folders, a gateway that serves them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStderr, Stdio};

use serde_json::{Value, json};

use super::Place;

#[test]
fn an_answer_is_accepted_here_and_elsewhere_and_not_for_another_model() {
    let here = Place::new();
    let once =
        ["chat", "tiny-chat", "--once", "What does quickly mean?", "--max-tokens", "12", "--seed", "3"];
    let run = here.run(&[&once[..], &["--receipt", "a.receipt.json"]].concat());
    assert_eq!(run.code, 0, "{}{}", run.out, run.err);
    assert!(run.out.contains("accepted by policy `default`"), "{}", run.out);
    let receipt = here.path("a.receipt.json").display().to_string();
    let elsewhere = Place::new();
    let run = elsewhere.run(&["verify", &receipt]);
    assert_eq!(run.code, 0, "{}{}", run.out, run.err);
    assert!(run.out.contains("ok  replay"), "{}", run.out);
    assert_eq!(elsewhere.run(&["verify", &receipt, "--model", "digits-cnn"]).code, 1);
    // The same seed, the same answer.
    let answer = |place: &Place| {
        let run = place.run(&[&once[..], &["--json"]].concat());
        serde_json::from_str::<Value>(&run.out).unwrap()["message"].clone()
    };
    assert_eq!(answer(&here), answer(&elsewhere));
}

#[test]
fn a_language_models_folder_is_the_model_it_was_and_takes_no_tensors() {
    let place = Place::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny-chat").display().to_string();
    assert_eq!(place.run(&["model", "add", &folder, "--name", "mine"]).code, 0);
    let id = |name: &str| {
        let run = place.run(&["model", "show", name, "--json"]);
        serde_json::from_str::<Value>(&run.out).unwrap()["id"].clone()
    };
    assert_eq!(id("mine"), id("tiny-chat"));
    let run = place.run(&["infer", "mine", "--input", &place.file("x.json", "[1]")]);
    assert_eq!(run.code, 2);
    assert!(run.err.contains("hallmark chat"), "{}", run.err);
    assert_eq!(place.run(&["chat", "digits-cnn", "--once", "x"]).code, 2);
    // A folder that lacks a tensor's file is refused, and nothing is written.
    std::fs::create_dir(place.path("broken")).unwrap();
    std::fs::copy(Path::new(&folder).join("config.json"), place.path("broken/config.json")).unwrap();
    let run = place.run(&["model", "add", "./broken"]);
    assert_eq!(run.code, 1, "{}", run.err);
    assert!(run.err.contains("model.safetensors"), "{}", run.err);
}

#[test]
fn a_model_in_int8_answers_and_is_checked_as_itself() {
    let place = Place::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny-chat").display().to_string();
    place.ok(&["model", "add", &folder, "--int8", "--name", "small"]);
    let show = |name: &str| place.json(&["model", "show", name]);
    assert_eq!(
        (&show("small")["arithmetic"], &show("tiny-chat")["arithmetic"]),
        (&json!("int8"), &json!("float32"))
    );
    assert_eq!(show("small")["manifest"]["weights"], show("tiny-chat")["manifest"]["weights"]);
    let answer = [
        "chat",
        "small",
        "--once",
        "Hello",
        "--seed",
        "7",
        "--max-tokens",
        "12",
        "--receipt",
        "a.receipt.json",
    ];
    place.ok(&answer);
    let receipt = place.path("a.receipt.json").display().to_string();
    assert!(place.run(&["verify", &receipt]).out.contains("ok  replay"));
    // Who lacks this model, though they have its weights, cannot run it again.
    let elsewhere = Place::new();
    assert_ne!(elsewhere.run(&["verify", &receipt]).code, 0);
    assert_ne!(place.run(&["verify", &receipt, "--model", "tiny-chat"]).code, 0);

    let digits = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../models/digits-cnn/model.onnx")
        .display()
        .to_string();
    place.refuse(&["model", "add", &digits, "--int8"], 2, &["ONNX", "without --int8"]);
}

/// A running `up` or `proxy`, stopped when this is dropped.
pub(super) struct Node {
    process: Child,
    pub(super) address: String,
    /// Stays open: the node goes on speaking.
    _banner: BufReader<ChildStderr>,
}

impl Drop for Node {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

impl Node {
    pub(super) fn start(place: &Place, arguments: &[&str]) -> Self {
        let mut process = place.command(arguments).stderr(Stdio::piped()).spawn().unwrap();
        let mut banner = BufReader::new(process.stderr.take().unwrap());
        let line = banner.by_ref().lines().map(Result::unwrap).find(|line| line.starts_with("listening on "));
        let line = line.unwrap();
        let address = line.trim_start_matches("listening on http://").trim_end_matches("/v1").to_owned();
        Self { process, address, _banner: banner }
    }

    /// A short chat's answer: head and body.
    fn chat(&self) -> (String, String) {
        let message = json!({"role": "user", "content": "Hello"});
        let body = json!({"model": "tiny-chat", "max_tokens": 4, "messages": [message]});
        self.ask("POST /v1/chat/completions", "", &body.to_string())
    }

    /// A request's answer: head and body.
    fn ask(&self, line: &str, headers: &str, body: &str) -> (String, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let len = body.len();
        write!(
            stream,
            "{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}content-length: {len}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }
}

fn header<'a>(head: &'a str, name: &str) -> &'a str {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap()
}

#[test]
fn a_gateway_serves_the_shipped_models_with_a_page_and_stays_on_this_machine() {
    let place = Place::new();
    assert_eq!(place.run(&["up", "--listen", "0.0.0.0:0"]).code, 2);
    let node = Node::start(&place, &["up", "--listen", "127.0.0.1:0"]);
    let (head, body) = node.chat();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains("x-hallmark-receipt: ") && body.contains("chat.completion"), "{body}");
    let (head, page) = node.ask("GET /", "", "");
    assert!(head.starts_with("HTTP/1.1 200") && page.contains("/page.js"), "{head}");
}

#[test]
fn a_run_over_http_with_a_key_is_verified_elsewhere_and_refused_when_altered() {
    let place = Place::new();
    let file = place.path("keys.toml").display().to_string();
    let secret = place.ok(&["up", "--keys", &file, "--new-key", "alice"]);
    let key = format!("authorization: Bearer {}\r\n", secret.trim());
    let node = Node::start(&place, &["up", "--listen", "127.0.0.1:0", "--keys", &file]);
    let (head, _) = node.ask("GET /v1/models", "", "");
    assert!(head.starts_with("HTTP/1.1 401"), "{head}");
    let (head, model) = node.ask("GET /v1/models/digits-cnn", &key, "");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let model: Value = serde_json::from_str(&model).unwrap();
    assert_eq!(model["hallmark"]["view"], "image");
    let body = json!({"model": "digits-cnn", "inputs": model["hallmark"]["examples"][0]["inputs"]});
    let (head, _) = node.ask("POST /v1/infer", &key, &body.to_string());
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let (id, capability) = (header(&head, "x-hallmark-receipt"), header(&head, "x-hallmark-capability"));
    let opened = format!("{key}x-hallmark-capability: {capability}\r\n");
    let (_, bundle) = node.ask(&format!("GET /v1/receipts/{id}"), &opened, "");

    let elsewhere = Place::new();
    let run = elsewhere.run(&["verify", &elsewhere.file("a.receipt.json", &bundle)]);
    assert_eq!(run.code, 0, "{}{}", run.out, run.err);
    assert!(run.out.contains("ok  replay"), "{}", run.out);
    let mut altered: Value = serde_json::from_str(&bundle).unwrap();
    altered["openings"]["outputs"][0]["data"] = altered["openings"]["inputs"][0]["data"].clone();
    altered["openings"]["outputs"][0]["shape"] = json!([1, 64]);
    let run = elsewhere.run(&["verify", &elsewhere.file("b.receipt.json", altered.to_string())]);
    assert_eq!(run.code, 1, "{}{}", run.out, run.err);
}

#[test]
fn a_proxy_hands_out_what_the_pinned_gateway_signed_and_keeps_the_receipt() {
    let (there, here) = (Place::new(), Place::new());
    let gateway = Node::start(&there, &["up", "--listen", "127.0.0.1:0"]);
    let identity = serde_json::from_str::<Value>(&there.run(&["keys", "show", "--json"]).out).unwrap();
    let pinned = format!("http://{}={}", gateway.address, identity["identity"].as_str().unwrap());
    assert_eq!(here.run(&["proxy", "--listen", "0.0.0.0:0", "--gateway", &pinned]).code, 2);
    assert_eq!(here.run(&["proxy", "--gateway", "http://127.0.0.1:1"]).code, 2);
    let command = ["proxy", "--listen", "127.0.0.1:0", "--gateway"];
    let proxy = Node::start(&here, &[&command[..], &[&pinned]].concat());
    let other = format!("http://{}={}", gateway.address, "7".repeat(64));
    let strict = Node::start(&here, &[&command[..], &[&other]].concat());
    let (answer, refusal) = (proxy.chat(), strict.chat());
    assert!(answer.0.starts_with("HTTP/1.1 200") && answer.1.contains("chat.completion"), "{answer:?}");
    assert!(refusal.0.starts_with("HTTP/1.1 502") && refusal.1.contains("is from node"), "{refusal:?}");
    let list = serde_json::from_str::<Value>(&here.run(&["receipts", "list", "--json"]).out).unwrap();
    assert_eq!(list["receipts"].as_array().unwrap().len(), 1, "{list}");
}
