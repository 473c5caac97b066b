//! What the incremental decoder has said in the end is what decoding all at once says.

use hallmark_text::TokenizerError;
use proptest::prelude::*;

use crate::{SENTENCEPIECE, TINY_CHAT, tokenizer};

/// Pushes `ids` one by one: no piece may hold half a character, and all of them are the whole.
fn check(path: &str, ids: &[u32], skip: bool) -> Result<(), TestCaseError> {
    let tokenizer = tokenizer(path);
    // The library's own decoding, of all ids at once, is the oracle.
    let oracle = tokenizers::Tokenizer::from_bytes(crate::file(path)).unwrap();
    let mut decoder = tokenizer.decoder(skip).unwrap();
    let mut text = String::new();
    for &id in ids {
        text.push_str(&decoder.push(id).unwrap());
        prop_assert!(oracle.decode(ids, skip).unwrap().starts_with(&text));
    }
    text.push_str(&decoder.finish());
    prop_assert_eq!(&text, &oracle.decode(ids, skip).unwrap());
    prop_assert_eq!(&text, &tokenizer.decode(ids, skip).unwrap());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn pieces_are_the_whole(
        byte_level in prop::collection::vec(0..2048_u32, 0..24),
        raw in prop::collection::vec(0..300_u32, 0..24),
        skip: bool,
    ) {
        check(TINY_CHAT, &byte_level, skip)?;
        check(SENTENCEPIECE, &raw, skip)?;
    }

    #[test]
    fn text_comes_back(text in "\\PC{0,40}|[a-z ]{0,40}|[\u{80}-\u{10ffff}]{0,20}") {
        let tokenizer = tokenizer(TINY_CHAT);
        let ids = tokenizer.encode_plain(&text).unwrap();
        prop_assert!(ids.iter().all(|&id| !tokenizer.is_control(id)));
        prop_assert_eq!(tokenizer.decode(&ids, true).unwrap(), text);
    }
}

#[test]
fn a_character_is_never_split() {
    let tokenizer = tokenizer(TINY_CHAT);
    let ids = tokenizer.encode_plain("a🙂b").unwrap();
    let mut decoder = tokenizer.decoder(true).unwrap();
    let pieces: Vec<String> = ids.iter().map(|&id| decoder.push(id).unwrap()).collect();
    assert!(pieces.len() >= 6, "a token a byte");
    assert_eq!(pieces.iter().filter(|piece| !piece.is_empty()).collect::<Vec<_>>(), ["a", "🙂", "b"]);
    assert_eq!(decoder.finish(), "");
}

#[test]
fn what_is_cut_off_is_one_replacement() {
    let tokenizer = tokenizer(TINY_CHAT);
    let ids = tokenizer.encode_plain("🙂").unwrap();
    assert_eq!(tokenizer.decode(&ids[..ids.len() - 1], true).unwrap(), "\u{fffd}");
}

#[test]
fn an_id_outside_of_the_vocabulary_is_refused() {
    let tokenizer = tokenizer(TINY_CHAT);
    let size = tokenizer.vocabulary_size();
    let id = u32::try_from(size).unwrap();
    assert_eq!(tokenizer.decode(&[5, id], true), Err(TokenizerError::UnknownId { id, size }));
}
