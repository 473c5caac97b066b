//! Files that are wrong, each in its own way, and cut or changed anywhere.

use hallmark_model::llm::error::{GgufFault, SafetensorsFault};
use hallmark_model::llm::{Checkpoint, LlmError, config, gguf, safetensors};

use super::{Files, files, names};

fn open(files: &Files) -> Result<(), LlmError> {
    let checkpoint = Checkpoint::open(&names(files), files)?;
    for (role, _, _) in checkpoint.weights() {
        checkpoint.read(role)?;
    }
    Ok(())
}

fn llama() -> Files {
    files("llama", &["config.json", "model.safetensors"])
}

fn with_config(from: &str, to: &str) -> Result<(), LlmError> {
    let text = String::from_utf8(llama()["config.json"].clone()).unwrap();
    let changed = text.replacen(from, to, 1);
    assert_ne!(text, changed, "{from}");
    config::parse(changed.as_bytes()).map(|_| ())
}

#[test]
fn configs_are_refused_by_name() {
    let unsupported = |from: &str, to: &str, want: &str| match with_config(from, to) {
        Err(LlmError::ConfigUnsupported { key, .. }) => assert_eq!(key, want),
        other => panic!("{from} {to}: {other:?}"),
    };
    unsupported("\"llama\"", "\"gpt2\"", "model_type");
    unsupported("\"silu\"", "\"gelu\"", "hidden_act");
    unsupported("\"llama3\"", "\"yarn\"", "rope_type");
    unsupported("\"llama3\"", "\"dynamic\"", "rope_type");
    unsupported("\"mlp_bias\": false", "\"mlp_bias\": true", "mlp_bias");
    unsupported("\"use_cache\": true", "\"quantization_config\": {}", "quantization_config");
    unsupported("\"use_cache\": true", "\"partial_rotary_factor\": 0.5", "partial_rotary_factor");
    unsupported(
        "\"use_cache\": true",
        "\"sliding_window\": 0, \"use_sliding_window\": true",
        "sliding_window",
    );
    unsupported("\"use_cache\": true", "\"layer_types\": [\"sliding_attention\"]", "layer_types");
    unsupported("\"use_cache\": true", "\"layer_types\": [\"chunked_attention\"]", "layer_types");
    unsupported("\"use_cache\": true", "\"rope_scaling\": {\"full_attention\": {}}", "rope_parameters");
    let bound = |from: &str, to: &str, want: &str| match with_config(from, to) {
        Err(LlmError::Bound { what, .. }) => assert_eq!(what, want),
        other => panic!("{from} {to}: {other:?}"),
    };
    bound("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 2000000000", "layers");
    bound("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 0", "layers");
    bound("\"vocab_size\": 64", "\"vocab_size\": 18446744073709551615", "vocabulary");
    bound("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 8", "key/value heads");
    bound("\"max_position_embeddings\": 128", "\"max_position_embeddings\": 100000000", "context");
    for (from, to) in [
        ("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3"),
        ("\"head_dim\": 8", "\"head_dim\": 9"),
        ("\"low_freq_factor\": 1.0", "\"low_freq_factor\": 4.0"),
        ("\"use_cache\": true", "\"rope_theta\": 5.0"),
        ("\"use_cache\": true", "\"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 8.0}"),
        ("\"use_cache\": true", "\"rope_scaling\": {\"rope_theta\": 5.0}"),
    ] {
        assert!(matches!(with_config(from, to), Err(LlmError::Inconsistent { .. })), "{to}");
    }
    let number = with_config("\"rms_norm_eps\": 1e-06", "\"rms_norm_eps\": -1");
    assert!(matches!(number, Err(LlmError::Number { what: "rms_norm_eps", .. })));
    let number = with_config("\"factor\": 8.0", "\"factor\": 1e300");
    assert!(matches!(number, Err(LlmError::Number { .. })));
    let kind = with_config("\"hidden_size\": 32", "\"hidden_size\": 32.5");
    assert!(matches!(kind, Err(LlmError::ConfigKind { key: "hidden_size", .. })));
    let twice = with_config("\"hidden_size\": 32", "\"hidden_size\": 32, \"hidden_size\": 33");
    assert!(matches!(twice, Err(LlmError::Duplicate { .. })));
    assert!(matches!(config::parse(b"[]"), Err(LlmError::Json { .. })));
    assert!(matches!(config::parse(&vec![b' '; 2 << 20]), Err(LlmError::FileTooLarge { .. })));
}

/// A file of this header and `data` bytes.
fn safetensors_of(header: &str, data: usize) -> Files {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.resize(file.len() + data, 0);
    Files::from([("x".to_owned(), file)])
}

#[test]
fn safetensors_headers() {
    let read = |header: &str, data| safetensors::read("x", &safetensors_of(header, data));
    let entry = |name: &str, first: u64, end: u64, n: u64| {
        format!(r#""{name}":{{"dtype":"F32","shape":[{n}],"data_offsets":[{first},{end}]}}"#)
    };
    let two = |a: String, b: String| format!("{{{a},{b}}}");
    assert_eq!(read(&two(entry("a", 0, 8, 2), entry("b", 8, 12, 1)), 12).unwrap().len(), 2);
    assert!(read(r#"{"__metadata__":{"format":"pt"}}"#, 0).unwrap().is_empty());
    let fault = |header: &str, data| match read(header, data) {
        Err(LlmError::Safetensors { fault, .. }) => fault,
        other => panic!("{header}: {other:?}"),
    };
    use SafetensorsFault as Fault;
    let overlap = two(entry("a", 0, 8, 2), entry("b", 4, 8, 1));
    assert!(matches!(fault(&overlap, 8), Fault::Offset { expected: 8, got: 4, .. }));
    let gap = two(entry("a", 0, 8, 2), entry("b", 12, 16, 1));
    assert!(matches!(fault(&gap, 16), Fault::Offset { expected: 8, got: 12, .. }));
    assert!(matches!(fault(&two(entry("a", 0, 8, 2), entry("b", 8, 16, 1)), 16), Fault::Size { .. }));
    assert!(matches!(fault(&format!("{{{}}}", entry("a", 8, 0, 2)), 8), Fault::Offset { .. }));
    assert!(matches!(fault(&format!("{{{}}}", entry("a", 0, 8, u64::MAX)), 8), Fault::Size { .. }));
    assert!(matches!(fault(&format!("{{{}}}", entry("a", 0, 8, 2)), 9), Fault::End { expected: 8, got: 9 }));
    assert!(matches!(fault(&format!("{{{}}}", entry("a", 0, 8, 2)), 7), Fault::End { expected: 8, got: 7 }));
    let twice = two(entry("a", 0, 8, 2), entry("a", 0, 8, 2));
    assert!(matches!(read(&twice, 8), Err(LlmError::Duplicate { .. })));
    let int = r#"{"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}"#;
    assert!(matches!(read(int, 8), Err(LlmError::TensorType { .. })));
    let gguf_only = r#"{"a":{"dtype":"Q8_0","shape":[32],"data_offsets":[0,34]}}"#;
    assert!(matches!(read(gguf_only, 34), Err(LlmError::TensorType { .. })));
    for header in ["", "[]", "{", r#"{"a":1}"#, r#"{"a":{"dtype":"F32"}}"#, "{\"a\":\"\u{0}\"}"] {
        assert!(matches!(read(header, 0), Err(LlmError::Json { .. })), "{header}");
    }
    for length in [u64::MAX, 1 << 40, 100] {
        let file = Files::from([("x".to_owned(), length.to_le_bytes().to_vec())]);
        assert!(matches!(safetensors::read("x", &file), Err(LlmError::Safetensors { .. })));
    }
}

#[test]
fn tensors_must_be_those_of_the_architecture() {
    let changed = |from: &str, to: &str| {
        let mut files = llama();
        let file = files.get_mut("model.safetensors").unwrap();
        let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        let header = String::from_utf8(file[8..8 + length].to_vec()).unwrap();
        assert!(header.contains(from), "{header}");
        let header = header.replacen(from, to, 1);
        let mut new = (header.len() as u64).to_le_bytes().to_vec();
        new.extend_from_slice(header.as_bytes());
        new.extend_from_slice(&file[8 + length..]);
        *file = new;
        open(&files)
    };
    assert_eq!(changed("__metadata__", "__metadata__"), Ok(()));
    assert!(
        matches!(changed("model.norm.weight", "model.norm.weighs"), Err(LlmError::TensorMissing { name }) if name == "model.norm.weight")
    );
    assert!(matches!(changed("\"shape\":[64,32]", "\"shape\":[32,64]"), Err(LlmError::TensorShape { .. })));
    let mut files = llama();
    let text = String::from_utf8(files["config.json"].clone()).unwrap();
    files.insert(
        "config.json".into(),
        text.replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1").into_bytes(),
    );
    assert!(matches!(open(&files), Err(LlmError::TensorExtra { .. })));
    files.remove("config.json");
    assert!(matches!(open(&files), Err(LlmError::FileMissing { .. })));
}

#[test]
fn an_index_and_its_parts() {
    // The file's own tensors, all said to be in one part.
    let mut files = llama();
    let whole = files.remove("model.safetensors").unwrap();
    let tensors = safetensors::read("x", &Files::from([("x".to_owned(), whole.clone())])).unwrap();
    let index = |part: &str| {
        let map: Vec<String> = tensors.keys().map(|name| format!("\"{name}\":\"{part}\"")).collect();
        format!("{{\"metadata\":{{}},\"weight_map\":{{{}}}}}", map.join(",")).into_bytes()
    };
    let part = "model-00001-of-00001.safetensors";
    files.insert(part.to_owned(), whole);
    files.insert(safetensors::INDEX.to_owned(), index(part));
    assert_eq!(open(&files), Ok(()));
    files.insert(safetensors::INDEX.to_owned(), index("../up.safetensors"));
    assert!(matches!(open(&files), Err(LlmError::Path { .. })));
    files.insert(safetensors::INDEX.to_owned(), index("other.safetensors"));
    assert!(matches!(open(&files), Err(LlmError::FileMissing { .. })));
    let mut short = String::from_utf8(index(part)).unwrap();
    short = short.replacen("model.norm.weight", "model.norm.other", 1);
    files.insert(safetensors::INDEX.to_owned(), short.into_bytes());
    let fault = SafetensorsFault::Index {
        name: "model.norm.weight".to_owned(),
        expected: "no file".to_owned(),
        got: part.to_owned(),
    };
    let file = safetensors::INDEX.to_owned();
    assert_eq!(open(&files), Err(LlmError::Safetensors { file, fault }));
}

#[test]
fn gguf_faults() {
    let whole = files("mistral", &["model.gguf"]);
    let changed = |at: usize, bytes: &[u8]| {
        let mut file = whole["model.gguf"].clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        gguf::read("x", &Files::from([("x".to_owned(), file)]))
    };
    assert!(changed(0, b"G").is_ok());
    assert!(matches!(changed(0, b"g"), Err(LlmError::Gguf(GgufFault::Magic))));
    assert!(matches!(changed(4, &[1]), Err(LlmError::Gguf(GgufFault::Version { got: 1 }))));
    for at in [8, 16] {
        let many = changed(at, &u64::MAX.to_le_bytes());
        assert!(matches!(many, Err(LlmError::Gguf(GgufFault::TooMany { .. }))), "{many:?}");
    }
    // The first key's length.
    let long = changed(24, &u64::MAX.to_le_bytes());
    assert!(matches!(long, Err(LlmError::Gguf(GgufFault::TooMany { what: "bytes of a name", .. }))));
    // More metadata than there is runs into the tensors, and ends there.
    assert!(changed(16, &60_000_u64.to_le_bytes()).is_err());
    // The offset of some tensor.
    let file = &whole["model.gguf"];
    let name = b"output_norm.weight";
    let at = file.windows(name.len()).position(|window| window == name).unwrap() + name.len() + 4 + 8 + 4;
    let offset = changed(at, &[1]);
    assert!(matches!(offset, Err(LlmError::Gguf(GgufFault::Offset { .. }))), "{offset:?}");
}

#[test]
fn any_cut_and_many_changes_end_in_words() {
    for (name, kept) in
        [("model.gguf", &["model.gguf"][..]), ("model.safetensors", &["config.json", "model.safetensors"])]
    {
        let whole = files("mistral", kept);
        let length = whole[name].len();
        for cut in (0..4000).chain([length - 1]) {
            let mut files = whole.clone();
            files.get_mut(name).unwrap().truncate(cut);
            assert!(open(&files).is_err(), "{name} {cut}");
        }
        let mut state = 1_u64;
        for _ in 0..6000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let mut files = whole.clone();
            let file = files.get_mut(name).unwrap();
            file[(state >> 33) as usize % 3500] ^= 1 << (state >> 20 & 7);
            if let Err(error) = open(&files) {
                assert!(!error.to_string().is_empty());
            }
        }
    }
}
