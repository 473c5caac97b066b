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
fn a_gateway_serves_the_shipped_model_and_stays_on_this_machine() {
    let place = Place::new();
    assert_eq!(place.run(&["up", "--listen", "0.0.0.0:0"]).code, 2);
    let gateway = started(&place, &["up", "--listen", "127.0.0.1:0"]);
    let answer = ask(&gateway.address);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("x-hallmark-receipt: ") && answer.contains("chat.completion"), "{answer}");
}

#[test]
fn a_proxy_hands_out_what_the_pinned_gateway_signed_and_keeps_the_receipt() {
    let (there, here) = (Place::new(), Place::new());
    let gateway = started(&there, &["up", "--listen", "127.0.0.1:0"]);
    let identity = serde_json::from_str::<Value>(&there.run(&["keys", "show", "--json"]).out).unwrap();
    let pinned = format!("http://{}={}", gateway.address, identity["identity"].as_str().unwrap());
    assert_eq!(here.run(&["proxy", "--listen", "0.0.0.0:0", "--gateway", &pinned]).code, 2);
    assert_eq!(here.run(&["proxy", "--gateway", "http://127.0.0.1:1"]).code, 2);
    let command = ["proxy", "--listen", "127.0.0.1:0", "--gateway"];
    let proxy = started(&here, &[&command[..], &[&pinned]].concat());
    let other = format!("http://{}={}", gateway.address, "7".repeat(64));
    let strict = started(&here, &[&command[..], &[&other]].concat());
    let (answer, refusal) = (ask(&proxy.address), ask(&strict.address));
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("chat.completion"), "{answer}");
    assert!(refusal.starts_with("HTTP/1.1 502") && refusal.contains("is from node"), "{refusal}");
    let list = serde_json::from_str::<Value>(&here.run(&["receipts", "list", "--json"]).out).unwrap();
    assert_eq!(list["receipts"].as_array().unwrap().len(), 1, "{list}");
}

/// A server that said where it listens; stopped when dropped.
struct Server {
    process: Child,
    address: String,
    /// Stays open: the server goes on speaking.
    _banner: BufReader<ChildStderr>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn started(place: &Place, args: &[&str]) -> Server {
    let mut process = place.command(args).stderr(Stdio::piped()).spawn().unwrap();
    let mut banner = BufReader::new(process.stderr.take().unwrap());
    let line = banner.by_ref().lines().map(Result::unwrap).find(|line| line.starts_with("listening on "));
    let line = line.unwrap();
    let address = line.trim_start_matches("listening on http://").trim_end_matches("/v1").to_owned();
    Server { process, address, _banner: banner }
}

fn ask(address: &str) -> String {
    let body =
        json!({"model": "tiny-chat", "max_tokens": 4, "messages": [{"role": "user", "content": "Hello"}]});
    let body = body.to_string();
    let mut stream = TcpStream::connect(address).unwrap();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json";
    write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
