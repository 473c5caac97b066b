//! Ids and texts are Hugging Face's (`scripts/text-vectors.py`).

use serde::Deserialize;

use crate::{file, tokenizer};

#[derive(Deserialize)]
struct Suite {
    tokenizer: String,
    encode: Vec<Encode>,
    decode: Vec<Decode>,
}

#[derive(Deserialize)]
struct Encode {
    text: String,
    ids: Vec<u32>,
    framed: Vec<u32>,
}

#[derive(Deserialize)]
struct Decode {
    ids: Vec<u32>,
    text: String,
    skipped: String,
}

#[test]
fn ids_and_texts_are_hugging_faces() {
    let suites: Vec<Suite> = serde_json::from_slice(&file("vectors/text/tokens.json")).unwrap();
    assert_eq!(suites.len(), 2);
    for suite in suites {
        let tokenizer = tokenizer(&suite.tokenizer);
        for case in suite.encode {
            assert_eq!(
                tokenizer.encode(&case.text, false).unwrap(),
                case.ids,
                "{}: {:?}",
                suite.tokenizer,
                case.text
            );
            assert_eq!(
                tokenizer.encode(&case.text, true).unwrap(),
                case.framed,
                "{}: {:?}",
                suite.tokenizer,
                case.text
            );
        }
        for case in suite.decode {
            assert_eq!(
                tokenizer.decode(&case.ids, false).unwrap(),
                case.text,
                "{}: {:?}",
                suite.tokenizer,
                case.ids
            );
            assert_eq!(
                tokenizer.decode(&case.ids, true).unwrap(),
                case.skipped,
                "{}: {:?}",
                suite.tokenizer,
                case.ids
            );
        }
    }
}
