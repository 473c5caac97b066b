//! An embedding model: the vectors of numpy, receipts that hold when they are run again, and forgeries that do not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hallmark_engine::decoder::Options;
use hallmark_gateway::backend::{Backend as _, BackendError, Replay};
use hallmark_gateway::dialect::openai;
use hallmark_gateway::local::Embedder;
use hallmark_gateway::local::embedding::Serving;
use hallmark_gateway::notary::Notary;
use hallmark_gateway::store::Memory;
use hallmark_gateway::{System, json as canonical};
use hallmark_model::llm::{EncoderModel, LlmError, belongs};
use hallmark_receipt::{Claim, Data, Digest, Opening, Tensor};
use hallmark_verdict::{CheckId, Context, Policy, ReplayError, Replayer, Verdict, judge};
use serde_json::{Value, json};

use super::{common, text_of, with};

type Files = BTreeMap<String, Vec<u8>>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn files(folder: &Path) -> Files {
    let names =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names: Vec<String> =
        names.chain(["1_Pooling/config.json".to_owned()]).filter(|name| belongs(name)).collect();
    names.into_iter().map(|name| (name.clone(), std::fs::read(folder.join(&name)).unwrap())).collect()
}

fn load(files: &Files) -> Result<EncoderModel, LlmError> {
    EncoderModel::load(&files.keys().cloned().collect::<Vec<_>>(), files)
}

fn embedder(files: &Files) -> Embedder {
    Embedder::open(load(files).unwrap(), files, &Options::default()).unwrap()
}

fn tiny() -> Files {
    files(&root().join("vectors/llm/bert"))
}

async fn embed(
    serving: &Serving,
    body: &Value,
) -> Result<hallmark_gateway::backend::Embeddings, BackendError> {
    serving.embed(Arc::new(openai::parse_embed(body.as_object().unwrap()).unwrap())).await
}

/// Asks for all texts of `expected`, as text and as tokens; gives the greatest difference.
async fn compare(serving: &Serving, expected: &Value) -> f64 {
    let all = expected.as_array().unwrap();
    let column = |name: &str| -> Value { all.iter().map(|one| one[name].clone()).collect() };
    let texts = embed(serving, &json!({"model": "m", "input": column("text")})).await.unwrap();
    let tokens = embed(serving, &json!({"model": "m", "input": column("tokens")})).await.unwrap();
    assert_eq!(texts.replay.as_ref().map(|r| &r.inputs), tokens.replay.as_ref().map(|r| &r.inputs));
    assert_eq!(texts.vectors, tokens.vectors);
    assert_eq!(texts.vectors.len(), all.len());
    let mut worst = 0.0_f64;
    for (one, got) in all.iter().zip(&texts.vectors) {
        let want: Vec<f64> = one["vector"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
        assert_eq!(got.len(), want.len());
        worst = got.iter().zip(want).map(|(a, b)| (f64::from(*a) - b).abs()).fold(worst, f64::max);
    }
    worst
}

#[tokio::test]
async fn vectors_are_those_of_the_formulas() {
    let serving = embedder(&tiny()).serve("m");
    let text = std::fs::read(root().join("vectors/llm/bert/expected.json")).unwrap();
    let worst = compare(&serving, &serde_json::from_slice(&text).unwrap()).await;
    assert!(worst < 1e-5, "{worst}");
}

/// `./x embeddings` sets the first two variables; with `HALLMARK_EMBEDDINGS_OWN` the vectors are the package's own function's.
#[tokio::test]
async fn a_published_models_vectors_too() {
    let (Ok(folder), Ok(python)) = (std::env::var("HALLMARK_EMBEDDINGS"), std::env::var("HALLMARK_PYTHON"))
    else {
        return;
    };
    let script = root().join("scripts/bert-vectors.py");
    let own = std::env::var_os("HALLMARK_EMBEDDINGS_OWN").map(|_| "own");
    let run = std::process::Command::new(python).arg(script).arg(&folder).args(own).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let serving = embedder(&files(Path::new(&folder))).serve("m");
    let worst = compare(&serving, &serde_json::from_slice(&run.stdout).unwrap()).await;
    println!("greatest difference: {worst:e}");
    assert!(worst < 1e-4, "{worst}");
}

struct Copy(Embedder);

impl Replayer for Copy {
    fn replay(
        &self,
        _: &Digest,
        inputs: &[Opening],
        _: &[Opening],
        claim: &Claim,
    ) -> Result<Vec<(String, Tensor)>, ReplayError> {
        self.0.replay(inputs, claim)
    }
}

/// What a stranger with a copy makes of a receipt for `body` whose tensors and text `change` has touched.
async fn judged(body: &Value, change: impl FnOnce(&mut Replay, &mut String)) -> Verdict {
    let (certificate, key) = common::certified();
    let store = Arc::new(Memory::new(16, usize::MAX));
    let notary = Notary::new("local".to_owned(), certificate, key, Arc::new(System), store).unwrap();
    let copy = embedder(&tiny());
    let serving = copy.clone().serve("m");
    let ticket = notary.ticket(&canonical::canonical(body), None).unwrap();
    let capability = hallmark_gateway::Capability::parse(&ticket.capability().to_text());
    let answer = embed(&serving, body).await.unwrap();
    let base64 = body.get("encoding_format").is_some();
    let mut text = canonical::canonical(&openai::embeddings_data(&answer.vectors, base64));
    let mut replay = answer.replay.unwrap();
    change(&mut replay, &mut text);
    let id = notary.settle(ticket, &serving.models()[0], text, Some(replay), Some(answer.usage)).unwrap();
    let bundle = notary.store().fetch(&id, capability.as_ref()).unwrap().unwrap();
    let context = Context::at(hallmark_gateway::Host::now(&System));
    judge(bundle.to_json().as_bytes(), &Policy::default_policy(), &context, Some(&Copy(copy)))
}

#[tokio::test]
async fn receipts_hold_when_they_are_run_again_and_forgeries_do_not() {
    let texts = json!({"model": "m", "input": ["the fox", "日本"]});
    for body in [
        texts.clone(),
        with(texts.clone(), "encoding_format", "base64".into()),
        json!({"model": "m", "input": [2, 4, 3]}),
    ] {
        let verdict = judged(&body, |_, _| ()).await;
        assert!(verdict.is_accepted(), "{body}: {}", text_of(&verdict));
    }
    let fails = |verdict: &Verdict| {
        let failed: Vec<CheckId> = verdict.reasons().map(|(id, _)| id).collect();
        assert_eq!(failed, [CheckId::Replay], "{}", text_of(verdict));
    };
    let bit = |replay: &mut Replay, _: &mut String| {
        let Data::F32(values) = replay.outputs[0].1.data() else { panic!("no vectors") };
        let mut values = values.clone();
        values[0] = f32::from_bits(values[0].to_bits() ^ 1);
        replay.outputs[0].1 = Tensor::new(vec![2, values.len() / 2], Data::F32(values)).unwrap();
    };
    fails(&judged(&texts, bit).await);
    fails(&judged(&texts, |_, text| *text = text.replacen("0.", "0.0", 1)).await);
    fails(
        &judged(&texts, |replay, _| replay.inputs[0].1 = Tensor::vector(vec![2_i64, 4, 3, 2, 13, 3])).await,
    );
    fails(&judged(&texts, |replay, _| replay.inputs[1].1 = Tensor::vector(vec![3_i64, 5])).await);
}

#[tokio::test]
async fn what_the_model_does_not_read_is_refused() {
    let serving = embedder(&tiny()).serve("m");
    for (input, words) in [
        (json!(vec![1; 21]), "21 tokens, the model reads 20"),
        (json!([[]]), "no tokens"),
        (json!([[2, 99_999]]), "outside the vocabulary"),
    ] {
        let refused = embed(&serving, &json!({"model": "m", "input": input})).await.err();
        let Some(BackendError::Unfit { message }) = &refused else { panic!("{refused:?}") };
        assert!(message.contains(words), "{message}");
    }
    let other = embed(&serving, &json!({"model": "m", "input": "a", "dimensions": 3})).await;
    assert!(matches!(other, Err(BackendError::Unfit { .. })));
    for input in [json!([]), json!(7), json!([1, "a"]), json!([[1], 2]), json!([-1]), json!([1.5])] {
        let body = json!({"model": "m", "input": input});
        assert!(openai::parse_embed(body.as_object().unwrap()).is_err(), "{body}");
    }
}

#[test]
fn folders_are_refused_by_name() {
    let changed = |file: &str, from: &str, to: &str| {
        let mut files = tiny();
        let text = String::from_utf8(files[file].clone()).unwrap();
        assert!(text.contains(from), "{text}");
        files.insert(file.to_owned(), text.replacen(from, to, 1).into_bytes());
        load(&files).map(|_| ()).unwrap_err().to_string()
    };
    for (file, from, to, words) in [
        ("config.json", "\"gelu\"", "\"relu\"", "hidden_act"),
        ("config.json", "\"absolute\"", "\"relative_key\"", "position_embedding_type"),
        ("config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1000000000", "layers"),
        (
            "config.json",
            "\"num_hidden_layers\": 2",
            "\"num_hidden_layers\": 3",
            "encoder.layer.2.attention.self.query.weight",
        ),
        ("config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1", "encoder.layer.1."),
        ("config.json", "\"num_attention_heads\": 3", "\"num_attention_heads\": 0", "attention heads"),
        ("config.json", "\"num_attention_heads\": 3", "\"num_attention_heads\": 5", "divide"),
        ("config.json", "\"intermediate_size\": 40", "\"intermediate_size\": 41", "shape"),
        ("config.json", "1e-12", "-1", "layer_norm_eps"),
        ("modules.json", "models.Normalize", "models.Dense", "Dense"),
        ("1_Pooling/config.json", "tokens\": true", "tokens\": false", "pooling_mode"),
        ("sentence_bert_config.json", "20", "0", "tokens of a text"),
        ("sentence_bert_config.json", "false", "true", "do_lower_case"),
    ] {
        let error = changed(file, from, to);
        assert!(error.contains(words), "{to}: {error}");
    }
    for missing in ["tokenizer.json", "model.safetensors", "1_Pooling/config.json"] {
        let mut files = tiny();
        files.remove(missing);
        let error = load(&files).unwrap_err().to_string();
        assert!(error.contains(missing), "{missing}: {error}");
    }
    let mut files = tiny();
    files.insert("sentence_bert_config.json".into(), b"{\"max_seq_length\": 2}".to_vec());
    let none = Embedder::open(load(&files).unwrap(), &files, &Options::default());
    assert!(none.is_err_and(|error| error.to_string().contains("frame")));
}
