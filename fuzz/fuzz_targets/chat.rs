//! Requests of every wire format on any bytes: what is read is the same when it is read from its canonical form, as a re-run does, and
//! comes down to a prompt or a refusal.
#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use hallmark_gateway::chat::{Format, ToolChoice};
use hallmark_gateway::dialect::{Head, Kind, openai};
use hallmark_gateway::json::canonical_object;
use hallmark_gateway::local::Language;
use hallmark_model::llm::sampling::Seed;
use serde_json::{Map, Value};

/// Tokenizer and template of the shipped model.
static LANGUAGE: LazyLock<Language> = LazyLock::new(|| {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/tiny-chat/");
    let names = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"];
    let read = |name: &str| (name.to_owned(), std::fs::read(format!("{folder}{name}")).unwrap());
    let files: BTreeMap<String, Vec<u8>> = names.into_iter().map(read).collect();
    Language::open(&files, 2048).unwrap()
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(body) = serde_json::from_slice::<Map<String, Value>>(bytes) else { return };
    let canonical: Map<String, Value> = serde_json::from_str(&canonical_object(&body)).unwrap();
    assert_eq!(canonical_object(&canonical), canonical_object(&body));
    let _ = openai::parse_embed(&body);
    for kind in [Kind::Chat, Kind::Completions, Kind::Responses, Kind::Messages] {
        let (request, again) = (kind.parse(&body), kind.parse(&canonical));
        let Ok(request) = request else {
            assert!(again.is_err());
            continue;
        };
        assert!(!request.messages.is_empty());
        let head = Head { id: String::new(), created: 0, model: request.model.clone() };
        let _ = kind.dialect(head, &body);
        // Grammars are left out: panics of their library are caught, and this harness counts them.
        if request.format == Format::Text
            && matches!(request.tool_choice, ToolChoice::Auto | ToolChoice::None)
        {
            let plan =
                |request| LANGUAGE.plan(request, Seed::Client(0)).map(|plan| (plan.prompt, plan.parameters));
            assert_eq!(plan(&request).ok(), plan(&again.unwrap()).ok());
        }
    }
});
