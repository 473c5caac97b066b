//! Encoders: the scalar reference's bits on every instruction set, alone and among others.

use std::collections::BTreeMap;
use std::sync::Arc;

use hallmark_engine::Isa;
use hallmark_engine::encoder::{Encoder, EncoderError, Weights};
use hallmark_model::llm::encoder::reference::Reference;
use hallmark_model::llm::{Encoder as Architecture, Network};

use crate::fixture::{Files, Random, files_of, names};

/// Heads of 12 (no multiple of a vector) and of 32; a hidden size beyond one block of a contraction.
const CONFIGS: [&str; 2] = [
    r#"{"model_type":"bert","hidden_size":48,"intermediate_size":100,"num_hidden_layers":2,"num_attention_heads":4,
    "vocab_size":70,"max_position_embeddings":128,"type_vocab_size":2,"layer_norm_eps":1e-12}"#,
    r#"{"model_type":"bert","hidden_size":544,"intermediate_size":600,"num_hidden_layers":1,"num_attention_heads":17,
    "vocab_size":50,"max_position_embeddings":64,"type_vocab_size":1,"layer_norm_eps":1e-5}"#,
];

fn files(i: usize) -> Files {
    let config: Files = BTreeMap::from([("config.json".to_owned(), CONFIGS[i].as_bytes().to_vec())]);
    let mut files =
        files_of(CONFIGS[i], &Architecture::configured(&names(&config), &config).unwrap(), i as u64);
    if i == 0 {
        let module =
            |kind, path| format!(r#"{{"type":"sentence_transformers.models.{kind}","path":"{path}"}}"#);
        let modules =
            [module("Transformer", ""), module("Pooling", "1_Pooling"), module("Normalize", "2_Normalize")];
        files.insert("modules.json".into(), format!("[{}]", modules.join(",")).into_bytes());
        let cls = br#"{"pooling_mode_cls_token":true,"pooling_mode_mean_tokens":false}"#;
        files.insert("1_Pooling/config.json".into(), cls.to_vec());
    }
    files
}

fn bits(vectors: &[Vec<f32>]) -> Vec<Vec<u32>> {
    vectors.iter().map(|vector| vector.iter().map(|x| x.to_bits()).collect()).collect()
}

#[test]
fn vectors_are_the_references_alone_and_among_others() {
    for i in 0..CONFIGS.len() {
        let files = files(i);
        let checkpoint = Architecture::open(&names(&files), &files).unwrap();
        let reference = Reference::load(&checkpoint).unwrap();
        // One token, a page, a page and one, two pages and some.
        let texts: Vec<Vec<u32>> =
            [1, 32, 33, 5, 64, 47].iter().map(|&n| Random(n).tokens(n as usize, 50)).collect();
        let want: Vec<Vec<f32>> = texts.iter().map(|text| reference.embed(text).unwrap()).collect();
        assert!(want.windows(2).all(|two| two[0] != two[1]));
        for (isa, threads) in Isa::available().zip([2, 1, 3]) {
            let weights = Arc::new(Weights::load(&checkpoint, isa).unwrap());
            let mut encoder = Encoder::new(weights, threads).unwrap();
            let all: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
            assert_eq!(bits(&encoder.embed(&all).unwrap()), bits(&want), "{i} {isa} {threads}");
            for (text, want) in texts.iter().zip(&want) {
                let alone = encoder.embed(&[text]).unwrap();
                assert_eq!(bits(&alone), bits(std::slice::from_ref(want)), "{i} {isa} {}", text.len());
            }
        }
    }
}

#[test]
fn a_long_list_is_taken_in_parts() {
    let files = files(0);
    let checkpoint = Architecture::open(&names(&files), &files).unwrap();
    let mut encoder = Encoder::new(Arc::new(Weights::load(&checkpoint, Isa::detect()).unwrap()), 2).unwrap();
    let text = Random(1).tokens(100, 70);
    let many = vec![text.as_slice(); 45];
    let vectors = encoder.embed(&many).unwrap();
    assert_eq!(vectors.len(), many.len());
    assert!(vectors.iter().all(|vector| *vector == vectors[0]));
    let long = vec![1; 129];
    assert_eq!(encoder.embed(&[&[1], &[]]), Err(EncoderError::Empty));
    assert_eq!(encoder.embed(&[&long]), Err(EncoderError::TooLong { limit: 128, got: 129 }));
    let token = EncoderError::Token { token: 70, position: 1, vocabulary: 70 };
    assert_eq!(encoder.embed(&[&[1, 70]]), Err(token));
}
