//! A `.gguf` brings its tokenizer and chat template: it chats, and its answers are accepted by a re-run.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::Place;

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/tiny-chat");

pub(super) fn shipped(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(SHIPPED).join(name)).unwrap()
}

fn shipped_json(name: &str) -> Value {
    serde_json::from_slice(&shipped(name)).unwrap()
}

/// Metadata as a GGUF writes it: keys, types, values.
#[derive(Default)]
pub(super) struct Metadata {
    bytes: Vec<u8>,
    count: u64,
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

impl Metadata {
    fn put(&mut self, key: &str, kind: u32, value: &[u8]) {
        text(&mut self.bytes, key);
        self.bytes.extend(kind.to_le_bytes());
        self.bytes.extend(value);
        self.count += 1;
    }

    pub(super) fn number(&mut self, key: &str, value: &Value) {
        self.put(key, 4, &u32::try_from(value.as_u64().unwrap()).unwrap().to_le_bytes());
    }

    pub(super) fn text(&mut self, key: &str, value: &str) {
        let mut bytes = Vec::new();
        text(&mut bytes, value);
        self.put(key, 8, &bytes);
    }

    fn list(&mut self, key: &str, kind: u32, len: usize, items: &[u8]) {
        let head = [&kind.to_le_bytes()[..], &(len as u64).to_le_bytes()].concat();
        self.put(key, 9, &[&head, items].concat());
    }

    fn texts(&mut self, key: &str, texts: &[String]) {
        let mut items = Vec::new();
        texts.iter().for_each(|item| text(&mut items, item));
        self.list(key, 8, texts.len(), &items);
    }
}

/// The shipped model's architecture.
pub(super) fn architecture() -> Metadata {
    let (config, mut out) = (shipped_json("config.json"), Metadata::default());
    out.text("general.architecture", "llama");
    for (key, member) in [
        ("context_length", "max_position_embeddings"),
        ("embedding_length", "hidden_size"),
        ("block_count", "num_hidden_layers"),
        ("feed_forward_length", "intermediate_size"),
        ("attention.head_count", "num_attention_heads"),
        ("attention.head_count_kv", "num_key_value_heads"),
    ] {
        out.number(&format!("llama.{key}"), &config[member]);
    }
    for (key, member) in
        [("attention.layer_norm_rms_epsilon", "rms_norm_eps"), ("rope.freq_base", "rope_theta")]
    {
        let value = config[member].as_f64().unwrap() as f32;
        out.put(&format!("llama.{key}"), 6, &value.to_le_bytes());
    }
    out
}

/// Its tokenizer and template.
pub(super) fn vocabulary(out: &mut Metadata) {
    let json = shipped_json("tokenizer.json");
    let ids: BTreeMap<u64, &String> = json["model"]["vocab"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(token, id)| (id.as_u64().unwrap(), token))
        .collect();
    let tokens: Vec<String> = ids.into_values().cloned().collect();
    let merge = |pair: &Value| format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap());
    let merges: Vec<String> = json["model"]["merges"].as_array().unwrap().iter().map(merge).collect();
    let control = json["added_tokens"].as_array().unwrap().len();
    let types = (0..tokens.len()).flat_map(|id| (if id < control { 3_i32 } else { 1 }).to_le_bytes());
    out.text("tokenizer.ggml.model", "gpt2");
    out.text("tokenizer.ggml.pre", "gpt-2");
    out.texts("tokenizer.ggml.tokens", &tokens);
    out.texts("tokenizer.ggml.merges", &merges);
    out.list("tokenizer.ggml.token_type", 5, tokens.len(), &types.collect::<Vec<u8>>());
    let config = shipped_json("config.json");
    out.number("tokenizer.ggml.bos_token_id", &config["bos_token_id"]);
    out.number("tokenizer.ggml.eos_token_id", &config["eos_token_id"]);
    let about = shipped_json("tokenizer_config.json");
    out.text("tokenizer.chat_template", about["chat_template"].as_str().unwrap());
}

/// llama.cpp's name for a tensor.
fn renamed(name: &str) -> String {
    [
        ("model.layers.", "blk."),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("post_attention_layernorm", "ffn_norm"),
        ("input_layernorm", "attn_norm"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
    ]
    .into_iter()
    .fold(name.to_owned(), |name, (from, to)| name.replace(from, to))
}

/// Rows of each head as neighbours, which is how llama.cpp rotates them.
fn neighbours(bytes: &[u8], head_dim: usize, row: usize) -> Vec<u8> {
    let heads = bytes.chunks(head_dim * row);
    heads
        .flat_map(|head| {
            (0..head_dim).flat_map(move |at| head.chunks(row).nth(at % 2 * head_dim / 2 + at / 2).unwrap())
        })
        .copied()
        .collect()
}

/// A GGUF of the shipped model's weights.
pub(super) fn gguf(metadata: &Metadata) -> Vec<u8> {
    let file = shipped("model.safetensors");
    let (length, rest) = file.split_first_chunk::<8>().unwrap();
    let (header, data) = rest.split_at(usize::try_from(u64::from_le_bytes(*length)).unwrap());
    let header: BTreeMap<String, Value> = serde_json::from_slice(header).unwrap();
    let (mut infos, mut all, mut count) = (Vec::new(), Vec::<u8>::new(), 0_u64);
    for (name, tensor) in header.iter().filter(|(name, _)| *name != "__metadata__") {
        assert_eq!(tensor["dtype"], "BF16");
        let shape: Vec<u64> =
            tensor["shape"].as_array().unwrap().iter().map(|dim| dim.as_u64().unwrap()).collect();
        let at = |end: usize| usize::try_from(tensor["data_offsets"][end].as_u64().unwrap()).unwrap();
        let bytes = data.get(at(0)..at(1)).unwrap();
        let row = 2 * usize::try_from(*shape.last().unwrap()).unwrap();
        let turned = name.contains("q_proj") || name.contains("k_proj");
        let bytes = if turned { neighbours(bytes, 32, row) } else { bytes.to_vec() };
        text(&mut infos, &renamed(name));
        infos.extend(u32::try_from(shape.len()).unwrap().to_le_bytes());
        shape.iter().rev().for_each(|dim| infos.extend(dim.to_le_bytes()));
        infos.extend(30_u32.to_le_bytes());
        infos.extend((all.len() as u64).to_le_bytes());
        all.extend(bytes);
        all.resize(all.len().next_multiple_of(32), 0);
        count += 1;
    }
    let mut out = b"GGUF".to_vec();
    out.extend(3_u32.to_le_bytes());
    out.extend(count.to_le_bytes());
    out.extend(metadata.count.to_le_bytes());
    out.extend(&metadata.bytes);
    out.extend(infos);
    out.resize(out.len().next_multiple_of(32), 0);
    out.extend(all);
    out
}

#[test]
fn a_gguf_chats_with_its_own_vocabulary_and_is_accepted_elsewhere() {
    let mut metadata = architecture();
    vocabulary(&mut metadata);
    let (here, elsewhere) = (Place::new(), Place::new());
    let path = here.file("tiny.gguf", gguf(&metadata));
    here.ok(&["model", "add", &path, "--name", "mine"]);
    let ask = |model: &'static str| {
        let once = ["chat", model, "--once", "What is a dog? Ünïcode 犬"];
        [&once[..], &["--max-tokens", "16", "--temperature", "0"]].concat()
    };
    // The same weights, tokens and template: the shipped model's answer.
    let answer = here.json(&ask("mine"))["message"].clone();
    assert_eq!(answer, here.json(&ask("tiny-chat"))["message"]);
    here.ok(&[&ask("mine")[..], &["--receipt", "a.receipt.json"]].concat());
    let receipt = here.path("a.receipt.json").display().to_string();
    let verdict = elsewhere.run(&["verify", &receipt]);
    assert_ne!(verdict.code, 0, "nobody has the model there: {}", verdict.out);
    let verdict = elsewhere.ok(&["verify", &receipt, "--model", &path]);
    assert!(verdict.contains("ok  replay"), "{verdict}");
    // Another entry is another model.
    metadata.text("tokenizer.ggml.other", "x");
    let other = elsewhere.file("other.gguf", gguf(&metadata));
    let verdict = elsewhere.run(&["verify", &receipt, "--model", &other]);
    assert_eq!(verdict.code, 1, "{}{}", verdict.out, verdict.err);
}

#[test]
fn a_gguf_without_a_vocabulary_is_refused() {
    let place = Place::new();
    let path = place.file("bare.gguf", gguf(&architecture()));
    let words = ["does not chat", "caused by: its .gguf carries no vocabulary", "hint: put the publisher's"];
    place.refuse(&["chat", &path, "--once", "x"], 1, &words);
    // Tokens, but nothing that says how text is split.
    let mut metadata = architecture();
    metadata.texts("tokenizer.ggml.tokens", &["a".to_owned()]);
    let path = place.file("half.gguf", gguf(&metadata));
    let words = ["does not chat", "`tokenizer.ggml.model` is not there", "hint: put the publisher's"];
    place.refuse(&["chat", &path, "--once", "x"], 1, &words);
}
