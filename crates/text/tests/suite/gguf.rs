//! A vocabulary of a GGUF file gives the ids of the `tokenizer.json` that it came from.

use hallmark_text::gguf::{GgufError, GgufVocabulary};
use hallmark_text::{Tokenizer, TokenizerError};
use serde_json::Value;

use crate::{SENTENCEPIECE, TINY_CHAT, file, tokenizer};

/// What a converter would write of a `tokenizer.json`.
fn vocabulary(path: &str, model: &str) -> GgufVocabulary {
    let json: Value = serde_json::from_slice(&file(path)).unwrap();
    let mut tokens: Vec<(u64, String)> = json["model"]["vocab"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(t, id)| (id.as_u64().unwrap(), t.clone()))
        .collect();
    tokens.sort();
    let mut types = vec![1; tokens.len()];
    for token in json["added_tokens"].as_array().unwrap() {
        types[usize::try_from(token["id"].as_u64().unwrap()).unwrap()] = 3;
    }
    let merge = |pair: &Value| format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap());
    GgufVocabulary {
        model: model.into(),
        scores: (0..tokens.len()).map(|id| -(id as f32)).collect(),
        tokens: tokens.into_iter().map(|(_, token)| token).collect(),
        merges: json["model"]["merges"].as_array().unwrap().iter().map(merge).collect(),
        types,
        unknown: (model == "llama").then_some(0),
        bos: (model == "llama").then_some(1),
        add_bos: model == "llama",
        add_space_prefix: true,
        ..GgufVocabulary::default()
    }
}

#[test]
fn ids_are_those_of_the_tokenizer_it_came_from() {
    let suites: Vec<Value> = serde_json::from_slice(&file("vectors/text/tokens.json")).unwrap();
    for (path, model) in [(TINY_CHAT, "gpt2"), (SENTENCEPIECE, "llama")] {
        let other = Tokenizer::from_gguf(&vocabulary(path, model)).unwrap();
        let suite = suites.iter().find(|suite| suite["tokenizer"] == path).unwrap();
        for case in suite["encode"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            let expected = tokenizer(path).encode(text, true).unwrap();
            assert_eq!(other.encode(text, true).unwrap(), expected, "{path}: {text:?}");
            assert_eq!(
                other.decode(&expected, false).unwrap(),
                tokenizer(path).decode(&expected, false).unwrap()
            );
        }
    }
}

#[test]
fn what_is_not_understood_is_refused() {
    let good = vocabulary(TINY_CHAT, "gpt2");
    let tokens = good.tokens.len();
    let refusal = |change: &dyn Fn(&mut GgufVocabulary)| {
        let mut changed = good.clone();
        change(&mut changed);
        match Tokenizer::from_gguf(&changed) {
            Err(TokenizerError::Gguf(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refusal(&|v| v.model = "bert".into()), GgufError::Model("bert".into()));
    assert_eq!(refusal(&|v| v.pre = "odd".into()), GgufError::Pre("odd".into()));
    assert_eq!(refusal(&|v| v.bos = Some(9999)), GgufError::NoSuchToken { name: "bos", id: 9999, tokens });
    assert_eq!(refusal(&|v| v.types.truncate(3)), GgufError::Length { list: "token types", got: 3, tokens });
    assert_eq!(refusal(&|v| v.tokens[7] = v.tokens[9].clone()), GgufError::Twice { first: 7, second: 9 });
    assert!(matches!(refusal(&|v| v.tokens[7] = "x".repeat(2000)), GgufError::TokenTooLong { id: 7, .. }));
    let mut scores = vocabulary(SENTENCEPIECE, "llama");
    scores.scores[5] = f32::NAN;
    assert_eq!(scores.tokenizer_json(), Err(GgufError::Score(5)));
}
