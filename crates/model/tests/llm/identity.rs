//! Manifests, skeletons and weight trees of decoders.

use hallmark_model::llm::checkpoint::compute;
use hallmark_model::llm::model::Skeleton;
use hallmark_model::llm::{Arithmetic, Checkpoint, DecoderModel, LlmError};
use hallmark_model::manifest::{Manifest, Model, ModelError};
use hallmark_model::onnx::{Limits, NoExternalData};
use hallmark_receipt::Digest;

use super::{Files, files, names};

fn model() -> (Files, DecoderModel) {
    let mut files = files("qwen2", &["config.json", "model.safetensors"]);
    files.insert("tokenizer.json".into(), b"{}".to_vec());
    files.insert("chat_template.jinja".into(), b"{{ messages }}".to_vec());
    let model = DecoderModel::load(&names(&files), &files).unwrap();
    (files, model)
}

#[test]
fn a_manifest_reads_back_and_opens_its_own_files_only() {
    let (files, model) = model();
    let json = model.manifest().to_json();
    let manifest = Manifest::parse(json.as_bytes()).unwrap();
    assert_eq!(&manifest, model.manifest());
    assert!(manifest.decoder.as_ref().is_some_and(|d| d.tokenizer.is_some() && d.template.is_some()));
    assert_eq!(DecoderModel::open(&manifest, &files).unwrap(), model);
    for name in names(&files) {
        let mut other = files.clone();
        let at = other[&name].len() - 1;
        other.get_mut(&name).unwrap()[at] ^= 1;
        assert!(matches!(DecoderModel::open(&manifest, &other), Err(LlmError::FileDigest { .. })), "{name}");
        other.remove(&name);
        assert!(matches!(DecoderModel::open(&manifest, &other), Err(LlmError::File { .. })), "{name}");
    }
    let mut lie = manifest.clone();
    lie.weights.0[0] ^= 1;
    assert!(matches!(DecoderModel::open(&lie, &files), Err(LlmError::Differs { what: "weight root", .. })));
    let mut lie = manifest.clone();
    lie.graph.0[0] ^= 1;
    assert!(matches!(
        DecoderModel::open(&lie, &files),
        Err(LlmError::Differs { what: "graph's digest", .. })
    ));
    let mut lie = manifest.clone();
    lie.decoder.as_mut().unwrap().tokenizer = None;
    assert!(matches!(DecoderModel::open(&lie, &files), Err(LlmError::Differs { what: "model's id", .. })));
    let mut lie = manifest.clone();
    lie.decoder.as_mut().unwrap().sampling = 2;
    assert!(matches!(DecoderModel::open(&lie, &files), Err(LlmError::Version { got: 2, .. })));
    let onnx = Model::open(&manifest, b"", &NoExternalData, &Limits::default());
    assert_eq!(onnx.err(), Some(ModelError::Language));
    let mut stray = files.clone();
    stray.insert("run.py".into(), Vec::new());
    let stray = DecoderModel::load(&names(&stray), &stray);
    assert!(matches!(stray, Err(LlmError::FileUnknown { name }) if name == "run.py"));
}

#[test]
fn one_weight_tree_whatever_the_file() {
    let (whole, gguf) =
        (files("mistral", &["config.json", "model.safetensors"]), files("mistral", &["model.gguf"]));
    let a = DecoderModel::load(&names(&whole), &whole).unwrap();
    let b = DecoderModel::load(&names(&gguf), &gguf).unwrap();
    assert_eq!(a.manifest().weights, b.manifest().weights);
    assert_ne!(a.id(), b.id());
}

#[test]
fn int8_is_another_model_of_the_same_weights() {
    let (mut files, float) = model();
    for text in [r#"{"arithmetic":"int8"}"#, "{\n  \"arithmetic\": \"int8\"\n}\n"] {
        files.insert("hallmark.json".into(), text.into());
        let int8 = DecoderModel::load(&names(&files), &files).unwrap();
        assert_eq!(int8.skeleton().architecture().arithmetic, Arithmetic::Int8);
        assert_eq!(int8.manifest().weights, float.manifest().weights);
        assert_ne!(int8.manifest().graph, float.manifest().graph);
        assert_eq!(Skeleton::parse(int8.skeleton().to_json().as_bytes()).unwrap(), *int8.skeleton());
        assert_eq!(DecoderModel::open(int8.manifest(), &files).unwrap(), int8);
    }
    for arithmetic in Arithmetic::ALL {
        files.insert("hallmark.json".into(), compute(arithmetic));
        let said = DecoderModel::load(&names(&files), &files).unwrap();
        assert_eq!(said.skeleton().architecture().arithmetic, arithmetic);
        assert_eq!(said.skeleton() == float.skeleton(), arithmetic == Arithmetic::Float32);
    }
    let wrong = [
        "",
        "{}",
        "[]",
        r#"{"arithmetic":"int4"}"#,
        r#"{"arithmetic":8}"#,
        r#"{"arithmetic":"int8","more":"x"}"#,
    ];
    for text in wrong.into_iter().chain([r#"{"arithmetic":"int8","arithmetic":"int8"}"#]) {
        files.insert("hallmark.json".into(), text.into());
        let got = DecoderModel::load(&names(&files), &files);
        assert!(matches!(got, Err(LlmError::Json { .. } | LlmError::Duplicate { .. })), "{text}: {got:?}");
    }
    // There is one form of float32 too: the member is left out.
    let said = float.skeleton().to_json().replacen(
        "{\"architecture\":{",
        "{\"architecture\":{\"arithmetic\":\"float32\",",
        1,
    );
    assert!(Skeleton::parse(said.as_bytes()).is_err());
}

#[test]
fn skeletons_have_one_form() {
    for name in ["llama", "llama-linear", "mistral", "qwen2", "qwen3"] {
        let files = files(name, &["config.json", "model.safetensors"]);
        let checkpoint = Checkpoint::open(&names(&files), &files).unwrap();
        let skeleton = Skeleton::of(&checkpoint);
        let json = skeleton.to_json();
        assert_eq!(Skeleton::parse(json.as_bytes()).unwrap(), skeleton);
        for (from, to) in [
            ("\"BF16\"", "\"I8\""),
            ("model.norm.weight", "model.norm.weighs"),
            ("\"heads\":4", "\"heads\":5"),
            ("\"layers\":2", "\"layers\":1000000"),
            ("\"epsilon\":\"0.000001\"", "\"epsilon\":\"1e-6\""),
            ("\"theta\":\"10000\"", "\"theta\":\"-1\""),
        ] {
            let changed = json.replacen(from, to, 1);
            assert!(changed == json || Skeleton::parse(changed.as_bytes()).is_err(), "{name} {from}");
        }
    }
}

#[test]
fn leaves_open_to_the_root() {
    let (files, model) = model();
    let checkpoint = model.checkpoint(&files).unwrap();
    for (weight, leaf) in [(0, 0), (0, 63), (2, 31), (25, 0)] {
        let opening = model.open_leaf(&checkpoint, weight, leaf).unwrap().unwrap();
        assert_eq!(opening.root(), Some(model.manifest().weights));
        let mut changed = opening.clone();
        changed.bytes[0] ^= 1;
        assert_ne!(changed.root(), Some(model.manifest().weights));
    }
    assert_eq!(model.open_leaf(&checkpoint, 0, 64).unwrap(), None);
    assert_eq!(model.open_leaf(&checkpoint, 1000, 0).unwrap(), None);
}

#[test]
fn a_gguf_without_a_tokenizers_file_gives_the_digest_of_its_entries() {
    let mut files = files("mistral", &["model.gguf"]);
    let file = files["model.gguf"].clone();
    let key = b"tokenizer.ggml.tokens";
    let start = file.windows(key.len()).position(|window| window == key).unwrap() - 8;
    let number =
        |at: usize| usize::try_from(u64::from_le_bytes(file[at..at + 8].try_into().unwrap())).unwrap();
    // The key and its length, two types, a count; then texts with their lengths.
    let count = start + 8 + key.len() + 8;
    let end = (0..number(count)).fold(count + 8, |at, _| at + 8 + number(at));
    let expected = Digest::of(&[&file[start..end]]);
    let id = |files: &Files| {
        let model = DecoderModel::load(&names(files), files).unwrap();
        (model.manifest().decoder.clone().unwrap(), model.id())
    };
    let (decoder, own) = id(&files);
    assert_eq!((decoder.tokenizer, decoder.template), (Some(expected), None));
    // A file beside it comes first.
    files.insert("tokenizer.json".into(), b"{}".to_vec());
    let (decoder, beside) = id(&files);
    assert_eq!(decoder.tokenizer, Some(Digest::of(&[b"{}"])));
    assert_ne!(own, beside);
    // A list that says it is endless is refused by name.
    files.remove("tokenizer.json");
    files.get_mut("model.gguf").unwrap()[count..count + 8].fill(0xff);
    assert!(matches!(DecoderModel::load(&names(&files), &files), Err(LlmError::Gguf(_))));
}
