//! Published clients against `up` with models of one's own: `HALLMARK_CLIENTS` is the folder of their environments that `./x test`
//! makes. Without it the test says so and passes.

use std::path::Path;
use std::process::Command;

use super::Place;
use super::chat::Node;
use super::gguf::{architecture, gguf, vocabulary};

const HERE: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn published_clients_use_a_gguf_and_an_embedding_model() {
    let Ok(clients) = std::env::var("HALLMARK_CLIENTS") else {
        println!("skipped: HALLMARK_CLIENTS is not set");
        return;
    };
    let place = Place::new();
    let mut metadata = architecture();
    vocabulary(&mut metadata);
    let file = place.file("tiny.gguf", gguf(&metadata));
    place.ok(&["model", "add", &file, "--name", "gguf"]);
    let embedding = Path::new(HERE).join("../../vectors/llm/bert");
    place.ok(&["model", "add", &embedding.display().to_string(), "--name", "embeds"]);
    let models = ["--model", "gguf", "--model", "embeds", "--model", "tiny-chat"];
    let node = Node::start(&place, &[&["up", "--listen", "127.0.0.1:0"][..], &models].concat());
    for client in ["openai", "anthropic"] {
        let output = Command::new(format!("{clients}/{client}/bin/python"))
            .arg(Path::new(HERE).join("tests/command_line/clients/own_models.py"))
            .arg(client)
            .env("HALLMARK_URL", format!("http://{}", node.address))
            .env("HALLMARK_EXPECTED", embedding.join("expected.json"))
            .env("NO_PROXY", "*")
            .output()
            .unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && out.trim_end().ends_with("ok"), "{client}\n{out}\n{err}");
    }
}
