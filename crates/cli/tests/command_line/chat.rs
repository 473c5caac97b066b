//! Language models: answers with verdicts, models from folders, a gateway that serves them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;

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
    let mut gateway =
        place.command(&["up", "--listen", "127.0.0.1:0"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut banner = BufReader::new(gateway.stderr.take().unwrap()).lines().map(Result::unwrap);
    let line = banner.find(|line| line.starts_with("listening on ")).unwrap();
    let address = line.trim_start_matches("listening on http://").trim_end_matches("/v1").to_owned();
    let body =
        json!({"model": "tiny-chat", "max_tokens": 4, "messages": [{"role": "user", "content": "Hello"}]});
    let body = body.to_string();
    let mut stream = TcpStream::connect(&address).unwrap();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json";
    write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    gateway.kill().unwrap();
    gateway.wait().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("x-hallmark-receipt: ") && answer.contains("chat.completion"), "{answer}");
}
