//! Forms in which the same models are found: members left out or said twice, windows, stray weights, heads beside tied embeddings.

use hallmark_model::llm::element::Kind;
use hallmark_model::llm::gguf::{self, Meta};
use hallmark_model::llm::reference::Reference;
use hallmark_model::llm::{
    Architecture, Checkpoint, DecoderModel, Family, LlmError, Role, config, kept, safetensors,
};
use serde_json::{Value, json};

use super::{Files, files, names};

fn whole(model: &str) -> Files {
    files(model, &["config.json", "model.safetensors"])
}

/// The config of a model without the members `without`, with those of `with`.
fn config(model: &str, without: &[&str], with: Value) -> Result<Architecture, LlmError> {
    let mut config: Value = serde_json::from_slice(&whole(model)["config.json"]).unwrap();
    let members = config.as_object_mut().unwrap();
    for key in without {
        members.remove(*key);
    }
    members.extend(with.as_object().unwrap().clone());
    config::parse(config.to_string().as_bytes())
}

#[test]
fn members_left_out_are_those_of_transformers() {
    let left_out = ["max_position_embeddings", "rms_norm_eps"];
    for (model, context) in [("llama", 2048), ("mistral", 131_072), ("qwen2", 32_768), ("qwen3", 32_768)] {
        let got = config(model, &left_out, json!({})).unwrap();
        assert_eq!((got.context, got.epsilon), (context, 1e-6), "{model}");
        let null = config(model, &[], json!({"rms_norm_eps": null}));
        assert!(matches!(null, Err(LlmError::ConfigKind { key: "rms_norm_eps", .. })));
        let null = config(model, &[], json!({"max_position_embeddings": null}));
        assert!(matches!(null, Err(LlmError::ConfigMissing { .. })));
    }
    let head_dim = |model| config(model, &["head_dim"], json!({})).unwrap().head_dim;
    assert_eq!((head_dim("llama"), head_dim("mistral"), head_dim("qwen3")), (8, 8, 128));
    let swish = config("llama", &[], json!({"hidden_act": "swish"})).unwrap();
    assert_eq!(swish, config("llama", &[], json!({})).unwrap());
}

#[test]
fn a_window_is_where_the_context_ends() {
    let context = |model: &str, with: Value| {
        let with = with.as_object().unwrap().iter().map(|(key, value)| (key.clone(), value.clone()));
        let with: serde_json::Map<_, _> =
            [("max_position_embeddings".to_owned(), json!(8192))].into_iter().chain(with).collect();
        let without = ["sliding_window", "use_sliding_window", "max_window_layers", "layer_types"];
        config(model, &without, with.into()).unwrap().context
    };
    // Mistral's is 4096 unless a config says otherwise, and no flag turns it off.
    assert_eq!(context("mistral", json!({})), 4096);
    assert_eq!(context("mistral", json!({"sliding_window": null})), 8192);
    assert_eq!(context("mistral", json!({"sliding_window": 1000, "use_sliding_window": false})), 1000);
    assert_eq!(context("mistral", json!({"sliding_window": 9000})), 8192);
    assert_eq!(context("llama", json!({})), 8192);
    assert_eq!(context("llama", json!({"sliding_window": 64})), 8192);
    assert_eq!(context("llama", json!({"sliding_window": 64, "use_sliding_window": true})), 64);
    let full = ["full_attention", "full_attention"];
    let mixed = ["full_attention", "sliding_attention"];
    for model in ["qwen2", "qwen3"] {
        assert_eq!(context(model, json!({"sliding_window": 64})), 8192);
        // Layers from `max_window_layers` on have it: here none of two, by default none of 28.
        let used = |with: Value| {
            let mut members = json!({"sliding_window": 64, "use_sliding_window": true});
            members.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
            context(model, members)
        };
        assert_eq!(used(json!({})), 8192);
        assert_eq!(used(json!({"max_window_layers": 2})), 8192);
        assert_eq!(used(json!({"max_window_layers": 1})), 64);
        assert_eq!(used(json!({"max_window_layers": 0, "sliding_window": null})), 8192);
        assert_eq!(used(json!({"max_window_layers": 0, "layer_types": full})), 8192);
        assert_eq!(used(json!({"max_window_layers": 2, "layer_types": mixed})), 64);
        assert_eq!(context(model, json!({"use_sliding_window": true, "layer_types": mixed})), 4096);
        let unused = config(model, &["layer_types"], json!({"sliding_window": 64, "layer_types": mixed}));
        assert!(matches!(unused, Err(LlmError::ConfigUnsupported { key: "layer_types", .. })));
    }
}

#[test]
fn a_window_caps_the_context_of_a_gguf() {
    let mut read = gguf::read("model.gguf", &files("mistral", &["model.gguf"])).unwrap();
    for (window, context) in [(0, 128), (16, 16), (1000, 128)] {
        read.metadata.insert("llama.attention.sliding_window".to_owned(), Meta::Unsigned(window));
        assert_eq!(read.architecture().unwrap().context, context);
    }
}

#[test]
fn block_formats_have_the_codes_of_the_gguf_package() {
    let codes = [
        (0_u32, Kind::F32),
        (1, Kind::F16),
        (2, Kind::Q4_0),
        (3, Kind::Q4_1),
        (6, Kind::Q5_0),
        (7, Kind::Q5_1),
        (8, Kind::Q8_0),
        (12, Kind::Q4_K),
        (13, Kind::Q5_K),
        (14, Kind::Q6_K),
        (30, Kind::BF16),
    ];
    let read = |code: u32| {
        // One tensor of 512 elements, called x.
        let mut file =
            b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0x\x01\0\0\0".to_vec();
        file.extend_from_slice(&512_u64.to_le_bytes());
        file.extend_from_slice(&code.to_le_bytes());
        file.extend_from_slice(&0_u64.to_le_bytes());
        file.resize(4096, 0);
        gguf::read("x", &Files::from([("x".to_owned(), file)]))
    };
    for code in 0..100 {
        match codes.iter().find(|(known, _)| *known == code) {
            Some((_, kind)) => {
                let stored = read(code).unwrap().tensors.remove("x").unwrap();
                assert_eq!((stored.kind, stored.bytes), (*kind, kind.bytes(512).unwrap()));
            }
            None => assert!(matches!(read(code), Err(LlmError::TensorType { .. })), "{code}"),
        }
    }
    assert_eq!(codes.len(), Kind::ALL.len());
}

#[test]
fn rope_may_be_said_twice() {
    let once = config("llama", &[], json!({})).unwrap();
    let scaling = json!({"type": "llama3", "factor": 8, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16});
    for with in [
        json!({"rope_theta": 10000, "rope_scaling": scaling}),
        json!({"rope_theta": null, "rope_scaling": scaling}),
        json!({"rope_theta": 1e4, "rope_scaling": {}}),
    ] {
        assert_eq!(config("llama", &[], with.clone()).unwrap(), once, "{with}");
    }
    let old = config("llama", &["rope_parameters"], json!({"rope_theta": 1e4, "rope_scaling": scaling}));
    assert_eq!(old.unwrap(), once);
}

#[test]
fn weights_that_nobody_names_are_left_out() {
    let plain = whole("llama");
    let id = |files: &Files| DecoderModel::load(&names(files), files).map(|model| model.id());
    let mut stray = plain.clone();
    for name in ["consolidated.safetensors", "adapter_model.safetensors", "x-f16.gguf", "y.gguf"] {
        stray.insert(name.to_owned(), b"no weights".to_vec());
    }
    assert_eq!(id(&stray), id(&plain));
    assert_eq!(kept(&names(&stray), &stray).unwrap(), names(&plain));
    // A manifest that names them is not one that this build writes.
    let mut manifest = DecoderModel::load(&names(&plain), &plain).unwrap().manifest().clone();
    let adapter =
        hallmark_model::manifest::File { name: "x-f16.gguf".to_owned(), ..manifest.files[1].clone() };
    stray.insert("x-f16.gguf".to_owned(), plain["model.safetensors"].clone());
    manifest.files.push(adapter);
    let open = DecoderModel::open(&manifest, &stray);
    assert!(matches!(open, Err(LlmError::FileUnknown { name }) if name == "x-f16.gguf"));

    // An index says which files count; a whole file beside the index of others does without it.
    let part = "model-00001-of-00001.safetensors";
    let tensors = safetensors::read("model.safetensors", &plain).unwrap();
    let index = |file: &str| {
        let map: serde_json::Map<_, _> =
            tensors.keys().map(|name| (name.clone(), Value::from(file))).collect();
        json!({"weight_map": map}).to_string().into_bytes()
    };
    let mut parts = plain.clone();
    let weights = parts.remove("model.safetensors").unwrap();
    parts.insert(part.to_owned(), weights);
    parts.insert(safetensors::INDEX.to_owned(), index(part));
    let indexed = id(&parts).unwrap();
    let mut both = parts.clone();
    both.insert("consolidated.safetensors".to_owned(), Vec::new());
    both.insert("model.gguf".to_owned(), Vec::new());
    assert_eq!(id(&both), Ok(indexed));
    both.insert("model.safetensors".to_owned(), plain["model.safetensors"].clone());
    assert_eq!(id(&both), id(&plain));
    both.insert(safetensors::INDEX.to_owned(), index("model.safetensors"));
    let mut named = plain.clone();
    named.insert(safetensors::INDEX.to_owned(), index("model.safetensors"));
    assert_eq!(id(&both), id(&named));
    assert_ne!(id(&named), id(&plain));

    // Without either a .gguf is the model, whatever else lies there.
    let gguf = files("mistral", &["model.gguf"]);
    let mut beside = gguf.clone();
    beside.insert("adapter_model.safetensors".to_owned(), Vec::new());
    assert_eq!(id(&beside), id(&gguf));
    // An index whose files are elsewhere stays, as it ever did.
    let mut beside = gguf.clone();
    beside.insert(safetensors::INDEX.to_owned(), index(part));
    assert_eq!(kept(&names(&beside), &beside).unwrap(), names(&beside));
    beside.insert("adapter_model.safetensors".to_owned(), Vec::new());
    assert_eq!(kept(&names(&beside), &beside).unwrap().len(), 2);
    // Nothing to read is said so.
    let mut none = plain;
    none.remove("model.safetensors");
    none.insert("pytorch.safetensors".to_owned(), Vec::new());
    assert!(matches!(id(&none), Err(LlmError::FileMissing { .. })));
}

/// The files of a tied model with another header, and with `more` bytes behind the data.
fn tied(change: impl FnOnce(&mut serde_json::Map<String, Value>, u64), more: &[u8]) -> Files {
    let mut files = whole("qwen2");
    let file = files.get_mut("model.safetensors").unwrap();
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&file[8..8 + length]).unwrap();
    let data = file[8 + length..].to_vec();
    change(header.as_object_mut().unwrap(), data.len() as u64);
    let header = header.to_string();
    *file = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data, more].concat();
    files
}

#[test]
fn a_head_beside_tied_embeddings_counts_where_it_differs() {
    let plain = whole("qwen2");
    let checkpoint = Checkpoint::open(&names(&plain), &plain).unwrap();
    assert_eq!((checkpoint.architecture().family, checkpoint.architecture().tied), (Family::Qwen2, true));
    let (embedding, head) = (Role::Embedding.to_string(), Role::Head.to_string());
    let stored = safetensors::read("model.safetensors", &plain).unwrap().remove(&embedding).unwrap();
    let (start, bytes) = (stored.start as usize, stored.bytes);
    let mut rows = plain["model.safetensors"][start..start + bytes as usize].to_vec();
    let with_head = |rows: &[u8]| {
        let entry =
            |end: u64| json!({"dtype": "BF16", "shape": [64, 32], "data_offsets": [end, end + bytes]});
        tied(|header, end| drop(header.insert(head.clone(), entry(end))), rows)
    };
    let logits = |files: &Files| {
        let checkpoint = Checkpoint::open(&names(files), files).unwrap();
        let logits = Reference::load(&checkpoint).unwrap().logits(&[1, 17, 5]).unwrap();
        (checkpoint.architecture().tied, logits)
    };
    let own = logits(&plain);
    assert_eq!(logits(&with_head(&rows)), own);
    // One bit of another token's row: only that logit moves, and the embedding stays.
    rows[2 * 32 * 40] ^= 64;
    let (still_tied, other) = logits(&with_head(&rows));
    assert!(!still_tied);
    for (a, b) in own.1.iter().zip(&other) {
        let moved: Vec<usize> = (0..64).filter(|&i| a[i] != b[i]).collect();
        assert_eq!(moved, [40]);
    }
    // A head alone is both.
    let rename = |header: &mut serde_json::Map<String, Value>, _| {
        let entry = header.remove(&embedding).unwrap();
        header.insert(head.clone(), entry);
    };
    assert_eq!(logits(&tied(rename, &[])), own);
}
