//! What the incremental decoder has said in the end is what decoding all at once says.

use hallmark_text::{ChatTemplate, Message, Request, SpecialTokens, Tokenizer};
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
        text.push_str(&decoder.push(id));
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
    let pieces: Vec<String> = ids.iter().map(|&id| decoder.push(id)).collect();
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
fn an_id_outside_of_the_vocabulary_is_nothing() {
    let tokenizer = tokenizer(TINY_CHAT);
    let id = u32::try_from(tokenizer.vocabulary_size()).unwrap();
    assert_eq!(tokenizer.decode(&[5, id, u32::MAX, 6], true), tokenizer.decode(&[5, 6], true));
}

/// Metaspace, as trainers of SentencePiece's BPE write it.
fn metaspace() -> Tokenizer {
    let added = |id: u32, text: &str, strips: bool| {
        serde_json::json!({"id": id, "content": text, "special": true, "single_word": false, "lstrip": false, "rstrip": strips,
            "normalized": false})
    };
    let step = serde_json::json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "first", "split": false});
    let vocab =
        serde_json::json!({"\u{2581}": 0, "a": 1, "b": 2, "<": 3, "s": 4, ">": 5, "</s>": 6, "<s>": 7});
    let json = serde_json::json!({"version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
        "added_tokens": [added(6, "</s>", true), added(7, "<s>", false)], "pre_tokenizer": step, "decoder": step,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": vocab, "merges": []}});
    Tokenizer::from_json(json.to_string().as_bytes()).unwrap()
}

#[test]
fn metaspace_drops_the_space_before_the_text() {
    let tokenizer = metaspace();
    assert_eq!(tokenizer.encode("a b", false).unwrap(), [0, 1, 0, 2]);
    assert_eq!(tokenizer.decode(&[0, 1, 0, 2, 7], true).unwrap(), "a b");
    assert_eq!(tokenizer.decode(&[7, 0, 1], true).unwrap(), "a");
}

/// A message that holds what looks like a control token changes nothing of the frame around it.
#[test]
fn stretches_are_tokenized_as_inside_the_whole() {
    let tokenizer = metaspace();
    let control = SpecialTokens { control: tokenizer.control_tokens(), ..SpecialTokens::default() };
    let template = ChatTemplate::new("<s>{{ messages[0].content }}</s>\n b", control).unwrap();
    let ids = |content: &str| {
        let messages = [Message::user(content)];
        let prompt = template.render(&Request { messages: &messages, ..Request::default() }).unwrap();
        tokenizer.encode_prompt(&prompt).unwrap()
    };
    assert_eq!(ids("a b"), [7, 1, 0, 2, 6, 2]);
    assert_eq!(ids("a <s>"), [7, 1, 0, 3, 4, 5, 6, 2]);
}
