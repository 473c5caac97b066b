//! Chats are rendered as `transformers` renders them (`scripts/text-vectors.py`).

use hallmark_text::{ChatTemplate, FunctionCall, Message, Request, SpecialTokens, TemplateError, ToolCall};
use serde::Deserialize;
use serde_json::Value;

use crate::file;

#[derive(Deserialize)]
struct Case {
    template: String,
    special: Special,
    messages: Vec<Said>,
    tools: Vec<Value>,
    extra: Value,
    dates: Vec<(String, String)>,
    add_generation_prompt: bool,
    text: Option<String>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Special {
    bos: Option<String>,
    eos: Option<String>,
    pad: Option<String>,
    unk: Option<String>,
    control: Vec<String>,
}

#[derive(Deserialize)]
struct Said {
    role: String,
    content: Option<String>,
    #[serde(default)]
    tool_calls: Vec<Call>,
    name: Option<String>,
}

#[derive(Deserialize)]
struct Call {
    function: Function,
}

#[derive(Deserialize)]
struct Function {
    name: String,
    arguments: Value,
}

fn message(said: Said) -> Message {
    let call = |call: Call| {
        let function = FunctionCall { name: call.function.name, arguments: call.function.arguments };
        ToolCall { id: None, kind: "function", function }
    };
    Message {
        role: said.role,
        content: said.content,
        tool_calls: said.tool_calls.into_iter().map(call).collect(),
        tool_call_id: None,
        name: said.name,
    }
}

#[test]
fn chats_are_rendered_as_transformers_renders_them() {
    let cases: Vec<Case> = serde_json::from_slice(&file("vectors/text/chats.json")).unwrap();
    assert!(cases.len() > 40);
    for (index, case) in cases.into_iter().enumerate() {
        let source =
            String::from_utf8(file(&format!("vectors/text/templates/{}.jinja", case.template))).unwrap();
        let Special { bos, eos, pad, unk, control } = case.special;
        let template = ChatTemplate::new(&source, SpecialTokens { bos, eos, pad, unk, control }).unwrap();
        let messages: Vec<Message> = case.messages.into_iter().map(message).collect();
        let dates: Vec<(&str, &str)> = case.dates.iter().map(|(f, d)| (f.as_str(), d.as_str())).collect();
        let request = Request {
            messages: &messages,
            tools: &case.tools,
            add_generation_prompt: case.add_generation_prompt,
            extra: Some(&case.extra),
            dates: &dates,
        };
        let rendered = template.render(&request).map(|prompt| prompt.text());
        match (case.text, case.error) {
            (Some(text), None) => {
                assert_eq!(rendered.as_deref(), Ok(text.as_str()), "case {index}, {}", case.template)
            }
            (None, Some(error)) => {
                assert_eq!(rendered, Err(TemplateError::Raised(error)), "case {index}, {}", case.template)
            }
            _ => panic!("case {index} has neither a text nor an error"),
        }
    }
}

#[test]
fn tests_and_line_ends_are_those_of_jinja() {
    let source = "{{ tools is iterable }} {{ [] is iterable }} {{ 'a' is sequence }} {{ 1 is sequence }}\r\n{{ {} is sequence }}";
    let template = ChatTemplate::new(source, SpecialTokens::default()).unwrap();
    assert_eq!(template.render(&Request::default()).unwrap().text(), "False True True False\nTrue");
}

#[test]
fn a_date_that_was_not_given_is_an_error() {
    let template = ChatTemplate::new("{{ strftime_now('%Y') }}", SpecialTokens::default()).unwrap();
    assert!(matches!(template.render(&Request::default()), Err(TemplateError::Failed(_))));
    let others = Request { dates: &[("%d", "1")], ..Request::default() };
    assert_eq!(template.render(&others), Err(TemplateError::NoDate("%Y".into())));
    // As Llama's templates ask.
    let source = "{% if strftime_now is defined %}{{ strftime_now('%Y') }}{% else %}2024{% endif %}";
    let guarded = ChatTemplate::new(source, SpecialTokens::default()).unwrap();
    assert_eq!(guarded.render(&Request::default()).unwrap().text(), "2024");
    let dates = [("%Y", "2026")];
    let request = Request { dates: &dates, ..Request::default() };
    assert_eq!(template.render(&request).unwrap().text(), "2026");
}
