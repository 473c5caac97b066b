//! Files, templates and texts that mean harm end with an error, soon.

use hallmark_text::{
    ChatTemplate, Message, Request, SpecialTokens, TemplateError, Tokenizer, TokenizerError,
};
use serde_json::{Value, json};

use crate::{SENTENCEPIECE, TINY_CHAT, file, tokenizer};

fn render(source: &str) -> Result<String, TemplateError> {
    let messages = [Message::user("x".repeat(10_000))];
    let template = ChatTemplate::new(source, SpecialTokens::default())?;
    template.render(&Request { messages: &messages, ..Request::default() }).map(|prompt| prompt.text())
}

#[test]
fn hostile_templates_end_with_an_error() {
    let spent = TemplateError::OutOfFuel { limit: ChatTemplate::FUEL };
    for source in [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(99999) %}{{ messages[0].content }}{% endfor %}",
        "{% set n = namespace(a='x') %}{% for i in range(60) %}{% set n.a = n.a ~ n.a %}{% endfor %}{{ n.a }}",
        "{% set n = namespace(a=[1]) %}{% for i in range(60) %}{% set n.a = [n.a, n.a] %}{% endfor %}{{ n.a | tojson }}",
    ] {
        assert_eq!(render(source), Err(spent.clone()), "{source}");
    }
    for source in [
        "{{ 'x' * 999999999999 }}",
        "{{ 'x' * 99999999 }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{{ messages[0].content.replace('', messages[0].content) }}",
        "{{ messages | tojson(indent=99999999) }}",
        "{{ range(10**12) | list }}",
        "{{ 9**9**9 }}",
        "{{ 1 / 0 }}{{ 1 // 0 }}{{ 1 % 0 }}",
        "{% include 'other' %}",
        "{% import 'other' as other %}",
        "{% set n = namespace(a=[1]) %}{% for i in range(80) %}{% set n.a = [n.a] %}{% endfor %}{{ n.a | tojson }}",
        "{{ no_such_function() }}",
        "{{ 'a' | no_such_filter }}",
        "{{ messages[0].no.such }}",
    ] {
        let outcome = render(source);
        assert!(outcome.is_err(), "{source}: {outcome:?}");
    }
    for source in [
        "{% for %}",
        "{{",
        "{% if %}",
        "{% raw %}",
        "{{ 'a }}",
        "{%",
        &"{% if a %}".repeat(5000),
        &format!("{{{{ {}1{} }}}}", "(".repeat(5000), ")".repeat(5000)),
    ] {
        assert!(ChatTemplate::new(source, SpecialTokens::default()).is_err(), "{:.60}", source);
    }
    let long = " ".repeat(ChatTemplate::MAX_SOURCE + 1);
    assert!(matches!(
        ChatTemplate::new(&long, SpecialTokens::default()),
        Err(TemplateError::SourceTooLong { .. })
    ));
}

/// `n.a` and `n.b` double, sixty times over, by `step`, with `A` for what doubles; then `end` is tried.
fn doubled(start: &str, step: &str, end: &str) -> String {
    let set = |name: &str| format!("{{% set {name} = {} %}}", step.replace('A', name));
    format!(
        "{{% set n = namespace(a={start}, b={start}) %}}{{% for i in range(60) %}}{}{}{{% endfor %}}{{{{ {end} }}}}",
        set("n.a"),
        set("n.b"),
    )
}

/// Values that share their parts are endless to walk, though small. Without a bound each of these takes all memory or all time.
#[test]
fn what_doubles_is_paid_for() {
    let spent = TemplateError::OutOfFuel { limit: ChatTemplate::FUEL };
    for (start, step) in [
        ("[1]", "A + A"),
        ("(1, 2)", "A + A"),
        ("'x'", "A + A"),
        ("'x'", "A ~ A"),
        ("[1]", "A * 2"),
        ("[1]", "[A, A]"),
        ("[1]", "(A, A)"),
        ("{'k': 1}", "{'x': A, 'y': A}"),
        ("1", "dict(x=A, y=A)"),
        ("[1]", "[A, A] | list"),
        ("[1]", "[A, A][0:]"),
        ("[1]", "[[A, A]] | first"),
    ] {
        let source = doubled(start, step, "n.a == n.b");
        assert_eq!(render(&source), Err(spent.clone()), "{source}");
    }
    let macros =
        "{% macro f(a, n) %}{% if n %}{{ f(a + a, n - 1) }}{% endif %}{% endmacro %}{{ f([1], 38) }}";
    assert!(render(macros).is_err());
    let lazy =
        "{% set n = namespace(a=[1, 2]) %}{% for i in range(99999) %}{% set n.a = n.a[0:] %}{% endfor %}";
    assert_eq!(render(lazy), Err(spent.clone()));
    // Half of the steps make a value; the other half must not walk it again and again.
    let compared = "{% set a = [[1] * 200000] %}{% set b = [[1] * 200000] %}{% for i in range(9999) %}{% if a == b %}{% endif %}{% endfor %}";
    assert_eq!(render(compared), Err(spent));
    for source in [
        "{% set n = namespace() %}{% set n.a = n %}{{ n }}",
        "{% set n = namespace() %}{% set n.a = [n] %}{{ n ~ '' }}",
        "{% set n = namespace() %}{% set m = namespace(a=n) %}",
        "{{ [1] | chain([1]) }}",
        "{{ [1] | zip([1]) }}",
        "{{ debug() }}",
        "{{ '{:999999999}'.format(1) }}",
        "{{ '{:{}}'.format(1, 999999999) }}",
        "{{ '%999999999d' | format(1) }}",
    ] {
        let outcome = render(source);
        assert!(outcome.is_err(), "{source}: {outcome:?}");
    }
    // What real templates do costs little.
    let plain = "{% set n = namespace(all=[], t='') %}{% for i in range(1000) %}{% set n.t = n.t + 'x' %}{% set m = messages + [messages[0]] %}{% endfor %}{% for x in messages %}{% set n.x = loop %}{% endfor %}{{ n.t | length }}{{ '{:>3}|{}'.format(1, 2) }}";
    assert_eq!(render(plain).unwrap(), "1000  1|2");
}

/// Values nested deep are dropped as they were made: without the stack.
#[test]
fn deep_values_do_not_overflow_the_stack() {
    let deep = "{% set n = namespace(a=[1]) %}{% for i in range(99999) %}{% set n.a = [n.a] %}{% endfor %}";
    for end in ["", "{{ n.a | tojson }}", "{{ n.a }}", "{{ n.a == n.a }}", "{{ n.a | string }}"] {
        let _ = render(&format!("{deep}{end}"));
    }
}

#[test]
fn hostile_files_are_refused() {
    for bytes in [
        &b""[..],
        b"{",
        b"null",
        b"[]",
        b"{}",
        b"\xff",
        b"{\"model\":{}}",
        b"{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[[\"a\",\"b\"]]}}",
    ] {
        let outcome = Tokenizer::from_json(bytes);
        assert!(matches!(outcome, Err(TokenizerError::Malformed(_))), "{bytes:?}: {outcome:?}");
    }
    let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    assert!(matches!(Tokenizer::from_json(&deep), Err(TokenizerError::Malformed(_))));
}

#[test]
fn large_ids_are_refused() {
    let mut json: Value = serde_json::from_slice(&file(TINY_CHAT)).unwrap();
    json["model"]["vocab"]["zzz"] = json!(u32::MAX);
    let outcome = Tokenizer::from_json(&serde_json::to_vec(&json).unwrap());
    assert!(matches!(outcome, Err(TokenizerError::IdTooLarge { got: u32::MAX, .. })), "{outcome:?}");
}

/// Each of a file's parts replaced by something else is a tokenizer or an error, and what is a tokenizer encodes or refuses.
#[test]
fn mutated_files_do_not_panic() {
    for path in [TINY_CHAT, SENTENCEPIECE] {
        let json: Value = serde_json::from_slice(&file(path)).unwrap();
        let values = [
            json!(null),
            json!([]),
            json!({}),
            json!(-1),
            json!(1e300),
            json!("a"),
            json!({"type": "Strip", "content": " ", "start": 9, "stop": 9}),
            json!({"type": "Split", "pattern": {"Regex": "(a|a)*$"}, "behavior": "Isolated", "invert": false}),
            json!({"type": "Split", "pattern": {"Regex": ""}, "behavior": "Removed", "invert": true}),
        ];
        for part in [
            "model",
            "normalizer",
            "pre_tokenizer",
            "post_processor",
            "decoder",
            "added_tokens",
            "truncation",
            "padding",
        ] {
            for value in &values {
                let mut mutated = json.clone();
                mutated[part] = value.clone();
                let Ok(tokenizer) = Tokenizer::from_json(&serde_json::to_vec(&mutated).unwrap()) else {
                    continue;
                };
                let _ = tokenizer.encode("aaaa aaaa <s> é 🙂", true);
                let _ = tokenizer.encode_plain("");
                let _ = tokenizer.decode(&[0, 1, 2, 300], true);
            }
        }
    }
}

#[test]
fn long_texts_are_refused() {
    let text = "a".repeat(Tokenizer::MAX_TEXT + 1);
    let expected = TokenizerError::TextTooLong { got: text.len(), limit: Tokenizer::MAX_TEXT };
    assert_eq!(tokenizer(TINY_CHAT).encode(&text, false), Err(expected));
}
