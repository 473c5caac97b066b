//! Masks over the vocabulary of tiny-chat.

use hallmark_text::{Grammar, GrammarCompiler, GrammarError, GrammarKind, Tokenizer};

use crate::{SENTENCEPIECE, TINY_CHAT, tokenizer};

fn end(tokenizer: &Tokenizer) -> u32 {
    tokenizer.token_id("<|im_end|>").or_else(|| tokenizer.token_id("</s>")).unwrap()
}

/// Whether a grammar takes `text`, token by token, and is complete after it.
fn takes(tokenizer: &Tokenizer, kind: GrammarKind, grammar: &str, text: &str) -> bool {
    let mut grammar = Grammar::new(tokenizer, end(tokenizer), kind, grammar).unwrap();
    for id in tokenizer.encode_plain(text).unwrap() {
        let allowed = grammar.mask().unwrap().allows(id);
        match grammar.commit(id) {
            Ok(()) => assert!(allowed, "a token that the mask forbids was taken"),
            Err(error) => {
                assert_eq!(error, GrammarError::NotAllowed(id));
                assert!(!allowed, "a token that the mask allows was refused");
                return false;
            }
        }
    }
    let complete = grammar.is_complete();
    assert_eq!(grammar.mask().unwrap().allows(end(tokenizer)), complete);
    complete
}

#[test]
fn answers_fit_their_grammar() {
    let schema = r#"{"type": "object", "properties": {"n": {"type": "integer"}, "s": {"enum": ["yes", "né"]}}, "required": ["n"], "additionalProperties": false}"#;
    let lark = "start: greeting \" \" NAME\ngreeting: \"hello\" | \"bye\"\nNAME: /[A-Z][a-z]+/";
    let tokenizer = tokenizer(TINY_CHAT);
    for (kind, grammar, good, bad) in [
        (GrammarKind::Regex, "[a-c]+!", &["a!", "abcabc!"][..], &["", "a", "d!", "a!!", "<|im_end|>"][..]),
        (
            GrammarKind::JsonSchema,
            schema,
            &[r#"{"n": 12}"#, r#"{"n": -1, "s": "né"}"#],
            &["{}", r#"{"n": "1"}"#, r#"{"n": 1, "x": 2}"#, "[1]"],
        ),
        (GrammarKind::Lark, lark, &["hello World", "bye Bob"], &["hello", "hello world", "good World"]),
    ] {
        for text in good {
            assert!(takes(&tokenizer, kind, grammar, text), "{grammar}: {text}");
        }
        for text in bad {
            assert!(!takes(&tokenizer, kind, grammar, text), "{grammar}: {text}");
        }
    }
}

#[test]
fn masks_lead_to_an_answer() {
    // The first token allowed, again and again, ends with one that fits.
    for path in [TINY_CHAT, SENTENCEPIECE] {
        let tokenizer = tokenizer(path);
        let compiler = GrammarCompiler::new(&tokenizer, end(&tokenizer)).unwrap();
        let mut grammar = compiler.compile(GrammarKind::Regex, "(true|false) [0-9]{3}").unwrap();
        let mut ids = Vec::new();
        loop {
            let mask = grammar.mask().unwrap();
            assert_eq!(mask.len(), tokenizer.vocabulary_size());
            let id = mask.ids().next().expect("some token may come");
            if id == end(&tokenizer) {
                break;
            }
            grammar.commit(id).unwrap();
            ids.push(id);
            assert!(ids.len() < 12);
        }
        assert!(grammar.is_complete());
        let text = tokenizer.decode(&ids, false).unwrap();
        assert!(text.ends_with(|c: char| c.is_ascii_digit()) && text.contains('e'), "{text}");
    }
}

#[test]
fn hostile_grammars_end_with_an_error() {
    let tokenizer = tokenizer(TINY_CHAT);
    let compiler = GrammarCompiler::new(&tokenizer, end(&tokenizer)).unwrap();
    let deep = format!("{}{}", "(".repeat(20_000), ")".repeat(20_000));
    let lark = format!("start: {}\"a\"{}", "(".repeat(100_000), ")".repeat(100_000));
    for (kind, text) in [
        (GrammarKind::Regex, "("),
        (GrammarKind::Regex, deep.as_str()),
        (GrammarKind::JsonSchema, "{"),
        (GrammarKind::JsonSchema, "{\"type\": \"no\"}"),
        (GrammarKind::JsonSchema, "{\"$ref\": \"https://example.org/schema\"}"),
        (GrammarKind::Lark, "start: missing"),
        (GrammarKind::Lark, "%%%"),
        (GrammarKind::Lark, lark.as_str()),
    ] {
        let outcome = compiler.compile(kind, text).map(|_| ());
        assert!(matches!(outcome, Err(GrammarError::Malformed(_))), "{text:.40}: {outcome:?}");
    }
    let long = " ".repeat(Grammar::MAX_TEXT + 1);
    assert!(matches!(compiler.compile(GrammarKind::Lark, &long), Err(GrammarError::TooLong { .. })));
    assert!(Grammar::new(&tokenizer, u32::MAX, GrammarKind::Regex, "a").is_err());
}
