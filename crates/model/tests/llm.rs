//! Decoders from files: beside `transformers` and the `gguf` package, and against hostile bytes.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests.

#[path = "llm/forms.rs"]
mod forms;
#[path = "llm/hostile.rs"]
mod hostile;
#[path = "llm/identity.rs"]
mod identity;

use std::collections::BTreeMap;
use std::path::PathBuf;

use hallmark_model::llm::element::Kind;
use hallmark_model::llm::reference::Reference;
use hallmark_model::llm::sampling::{History, Parameters, sample};
use hallmark_model::llm::{Checkpoint, Family};
use serde_json::Value;

type Files = BTreeMap<String, Vec<u8>>;

const MODELS: [&str; 5] = ["llama", "llama-linear", "mistral", "qwen2", "qwen3"];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../vectors/llm")
}

fn files(model: &str, names: &[&str]) -> Files {
    let read = |name: &&str| ((*name).to_owned(), std::fs::read(folder().join(model).join(name)).unwrap());
    names.iter().map(read).collect()
}

fn names(files: &Files) -> Vec<String> {
    files.keys().cloned().collect()
}

fn expected(model: &str) -> Value {
    serde_json::from_slice(&files(model, &["expected.json"])["expected.json"]).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

#[test]
fn logits_and_greedy_tokens_are_those_of_transformers() {
    for model in MODELS {
        let files = files(model, &["config.json", "model.safetensors"]);
        let reference = Reference::load(&Checkpoint::open(&names(&files), &files).unwrap()).unwrap();
        let expected = expected(model);
        let prompt = ids(&expected["prompt"]);
        let logits = reference.logits(&prompt).unwrap();
        for (position, row) in expected["logits"].as_object().unwrap() {
            let got = &logits[position.parse::<usize>().unwrap()];
            let row: Vec<f32> = row.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect();
            assert_eq!(got.len(), row.len());
            let worst = got.iter().zip(&row).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-3, "{model} {position}: {worst}");
        }
        let (mut tokens, mut history) = (prompt.clone(), History::new(&prompt));
        for _ in 0..24 {
            let mut last = reference.logits(&tokens).unwrap().pop().unwrap();
            let token = sample(&mut last, &history, &Parameters::greedy(24)).unwrap();
            tokens.push(token);
            history.push(token);
        }
        assert_eq!(tokens[prompt.len()..], ids(&expected["greedy"]), "{model}");
    }
}

#[test]
fn gguf_gives_the_bits_of_safetensors() {
    let (whole, gguf) =
        (files("mistral", &["config.json", "model.safetensors"]), files("mistral", &["model.gguf"]));
    let a = Checkpoint::open(&names(&whole), &whole).unwrap();
    let b = Checkpoint::open(&names(&gguf), &gguf).unwrap();
    assert_eq!((a.architecture().family, b.architecture().family), (Family::Mistral, Family::Llama));
    for (role, shape, _) in a.weights() {
        let (a, b) = (a.read(role).unwrap(), b.read(role).unwrap());
        assert_eq!(a.len(), shape.iter().product::<usize>());
        assert!(a.iter().zip(&b).all(|(a, b)| a.to_bits() == b.to_bits()), "{role}");
    }
    let tokens = [1, 2, 3, 4, 5];
    let logits = |checkpoint| Reference::load(checkpoint).unwrap().logits(&tokens).unwrap();
    assert_eq!(logits(&a), logits(&b));
}

#[test]
fn blocks_widen_to_the_bits_of_the_gguf_package() {
    let text = std::fs::read_to_string(folder().join("gguf-blocks.json")).unwrap();
    let vectors: Value = serde_json::from_str(&text).unwrap();
    for kind in Kind::ALL {
        let bytes = |what: &str| {
            hallmark_receipt::wire::from_hex(vectors[kind.name()][what].as_str().unwrap()).unwrap()
        };
        let mut got = Vec::new();
        kind.widen(&bytes("blocks"), &mut got);
        let got: Vec<u8> = got.iter().flat_map(|x| x.to_le_bytes()).collect();
        assert!(!got.is_empty() && got == bytes("values"), "{kind:?}");
        assert_eq!(kind.bytes(got.len() as u64 / 4), Some(bytes("blocks").len() as u64));
    }
}
