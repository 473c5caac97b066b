//! Folders and GGUF files that make no model: each is refused with its reason before it is stored.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Place;
use super::gguf::{architecture, gguf, shipped, vocabulary};

type Files = BTreeMap<String, Vec<u8>>;

const WEIGHTS: &str = "model.safetensors";
const NORM: &str = "model.norm.weight";

fn tiny_chat() -> Files {
    let names = ["config.json", "generation_config.json", WEIGHTS, "tokenizer.json", "tokenizer_config.json"];
    names.into_iter().map(|name| (name.to_owned(), shipped(name))).collect()
}

/// Changes a JSON file.
fn json_of(files: &mut Files, name: &str, change: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&files[name]).unwrap();
    change(&mut value);
    files.insert(name.to_owned(), value.to_string().into_bytes());
}

/// Changes the header of the weights; `data` is what follows it.
fn header_of(files: &mut Files, change: impl FnOnce(&mut Value, &mut Vec<u8>)) {
    let file = &files[WEIGHTS];
    let (length, rest) = file.split_first_chunk::<8>().unwrap();
    let (header, data) = rest.split_at(usize::try_from(u64::from_le_bytes(*length)).unwrap());
    let (mut header, mut data) = (serde_json::from_slice(header).unwrap(), data.to_vec());
    change(&mut header, &mut data);
    let header = header.to_string();
    let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
    files.insert(WEIGHTS.to_owned(), file);
}

fn config(files: &mut Files, name: &str, value: Value) {
    json_of(files, "config.json", |config| config[name] = value);
}

fn template(files: &mut Files, source: &str) {
    json_of(files, "tokenizer_config.json", |about| about["chat_template"] = source.into());
}

fn cut(bytes: &mut Vec<u8>, by: usize) {
    bytes.truncate(bytes.len() - by);
}

/// Cuts the weights into parts by an index, of which `other` is one.
fn parts(files: &mut Files, other: &str) {
    let first = "model-00001-of-00002.safetensors";
    let weights = files.remove(WEIGHTS).unwrap();
    files.insert(first.to_owned(), weights);
    let index = json!({"weight_map": {NORM: other, "model.embed_tokens.weight": first}});
    files.insert("model.safetensors.index.json".to_owned(), index.to_string().into_bytes());
}

#[test]
fn folders_are_refused_by_cause() {
    type Case = (&'static str, fn(&mut Files), &'static str);
    let cases: [Case; 29] = [
        ("no-config", |f| _ = f.remove("config.json"), "config.json"),
        ("config-text", |f| _ = f.insert("config.json".into(), b"{".into()), "JSON"),
        ("no-layers", |f| config(f, "num_hidden_layers", json!(0)), "layers: 0"),
        ("layers", |f| config(f, "num_hidden_layers", json!(1_000_000_000)), "1000000000"),
        ("negative", |f| config(f, "hidden_size", json!(-64)), "hidden_size"),
        ("heads", |f| config(f, "num_key_value_heads", json!(3)), "heads"),
        ("rows", |f| config(f, "vocab_size", json!(1_u64 << 40)), "1099511627776"),
        ("theta", |f| config(f, "rope_theta", json!(-1.0)), "theta"),
        ("family", |f| config(f, "model_type", json!("frobnicator")), "frobnicator"),
        ("no-weights", |f| _ = f.remove(WEIGHTS), "model.safetensors"),
        ("no-tensor", |f| header_of(f, |h, _| _ = h.as_object_mut().unwrap().remove(NORM)), "tensor"),
        (
            "renamed",
            |f| {
                header_of(f, |h, _| {
                    let norm = h.as_object_mut().unwrap().remove(NORM).unwrap();
                    h["model.other.weight"] = norm;
                });
            },
            "`model.norm.weight` is missing",
        ),
        (
            "extra",
            |f| {
                header_of(f, |h, data| {
                    let end = data.len();
                    h["extra"] = json!({"dtype": "F32", "shape": [1], "data_offsets": [end, end + 4]});
                    data.extend([0; 4]);
                });
            },
            "`extra` is not one",
        ),
        (
            "shape",
            |f| {
                header_of(f, |h, _| {
                    let size = h[NORM]["shape"][0].as_u64().unwrap();
                    h[NORM]["shape"] = json!([1, size]);
                });
            },
            "`model.norm.weight` has shape",
        ),
        (
            "kind",
            |f| {
                header_of(f, |h, _| {
                    let size = h[NORM]["shape"][0].as_u64().unwrap();
                    h[NORM]["dtype"] = json!("I16");
                    h[NORM]["shape"] = json!([size]);
                });
            },
            "I16",
        ),
        (
            "overlap",
            |f| {
                header_of(f, |h, _| {
                    let size = h[NORM]["data_offsets"][1].as_u64().unwrap()
                        - h[NORM]["data_offsets"][0].as_u64().unwrap();
                    h[NORM]["data_offsets"] = json!([0, size]);
                });
            },
            "gap or overlap",
        ),
        ("cut-data", |f| cut(f.get_mut(WEIGHTS).unwrap(), 7), "tensors end at byte"),
        ("cut-header", |f| f.get_mut(WEIGHTS).unwrap().truncate(100), "safetensors"),
        ("header", |f| f.get_mut(WEIGHTS).unwrap()[..8].copy_from_slice(&[0xff; 8]), "header"),
        ("empty", |f| f.get_mut(WEIGHTS).unwrap().clear(), "shorter than its header"),
        ("shard", |f| parts(f, "model-00002-of-00002.safetensors"), "00002"),
        ("index", |f| parts(f, "../model.safetensors"), ".."),
        ("no-tokenizer", |f| _ = f.remove("tokenizer.json"), "the model has no tokenizer.json"),
        ("tokenizer", |f| _ = f.insert("tokenizer.json".into(), b"{}".into()), "tokenizer"),
        (
            "tokens",
            |f| json_of(f, "tokenizer.json", |t| t["model"]["vocab"]["zzz"] = json!(900_000)),
            "the tokenizer has 900001 tokens",
        ),
        (
            "no-template",
            |f| {
                json_of(f, "tokenizer_config.json", |a| {
                    _ = a.as_object_mut().unwrap().remove("chat_template")
                })
            },
            "the model has no chat template",
        ),
        ("template", |f| template(f, "{% for %}"), "not a template"),
        (
            "endless",
            |f| template(f, "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"),
            "steps",
        ),
        (
            "doubling",
            |f| {
                template(
                    f,
                    "{% set n = namespace(a=[1]) %}{% for i in range(60) %}{% set n.a = n.a + n.a %}{% endfor %}",
                )
            },
            "steps",
        ),
    ];
    let place = Place::new();
    for (name, change, why) in cases {
        let mut files = tiny_chat();
        change(&mut files);
        for (file, bytes) in files {
            place.file(&format!("{name}/{file}"), bytes);
        }
        place.refuse(
            &["model", "add", &format!("./{name}")],
            1,
            &["the model was not added", "caused by", &format!("{name} is refused"), why, "hint: "],
        );
    }
}

#[test]
fn ggufs_are_refused_by_cause() {
    let mut metadata = architecture();
    vocabulary(&mut metadata);
    let good = gguf(&metadata);
    // Behind the name of a tensor of one axis: the number of axes, the size, the type, the offset.
    let name = b"output_norm.weight";
    let norm = good.windows(name.len()).position(|window| window == name).unwrap() + name.len();
    let with = |at: usize, bytes: &[u8]| {
        let mut file = good.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    let mut layers = architecture();
    layers.number("llama.vocab_size", &json!(7));
    let mut twice = architecture();
    twice.text("general.architecture", "llama");
    let cases: [(&str, Vec<u8>, &str); 13] = [
        ("empty", Vec::new(), "gguf"),
        ("magic", with(0, b"GGML"), "does not start with"),
        ("version", with(4, &[9]), "version 9"),
        ("tensors", with(8, &[0xff; 8]), "the limit is"),
        ("metadata", with(16, &[0xff; 8]), "the limit is"),
        ("cut-header", good[..200].to_vec(), "the header ends early"),
        ("cut-data", good[..good.len() - 64].to_vec(), "tensors need"),
        ("shape", with(norm + 4, &[1]), "output_norm"),
        ("kind", with(norm + 12, &[99]), "99"),
        ("overlap", with(norm + 16, &[0; 8]), "starts at byte 0"),
        ("bare", gguf(&architecture()), "carries no vocabulary"),
        ("twice", gguf(&twice), "general.architecture"),
        ("renamed", with(norm - 1, b"x"), "output_norm.weigh"),
    ];
    let place = Place::new();
    for (name, bytes, why) in cases {
        let file = place.file(&format!("{name}.gguf"), bytes);
        place.refuse(
            &["model", "add", &file],
            1,
            &["the model was not added", "caused by", &format!("{name}.gguf is refused"), why, "hint: "],
        );
    }
}
