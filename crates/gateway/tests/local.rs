//! The shipped language model behind the gateway's seam: receipts that hold when they are run again, and forgeries that do not.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;
#[path = "local/embedding.rs"]
mod embedding;

use std::sync::Arc;

use common::Copy;
use futures_util::StreamExt as _;
use hallmark_engine::decoder::Options;
use hallmark_gateway::backend::{Backend as _, BackendError, Origin, Replay};
use hallmark_gateway::chat::{Completed, Finish};
use hallmark_gateway::dialect::Kind;
use hallmark_gateway::local::{Language, Local, Serving};
use hallmark_gateway::notary::Notary;
use hallmark_gateway::notary::response_text;
use hallmark_gateway::store::Memory;
use hallmark_gateway::{ApiError, System, json as canonical};
use hallmark_model::llm::sampling::Seed;
use hallmark_receipt::{Data, Nonce, Tensor};
use hallmark_verdict::{CheckId, Context, Policy, Verdict, judge};
use serde_json::{Value, json};

fn local() -> Local {
    common::decoder(&common::tiny_chat())
}

struct Node {
    serving: Serving,
    notary: Notary,
    copy: Copy,
}

/// An answer before it is settled.
struct Answered {
    done: Completed,
    ticket: hallmark_gateway::notary::Ticket,
    replay: Replay,
}

impl Node {
    fn new() -> Self {
        let (certificate, key) = common::certified();
        let store = Arc::new(Memory::new(16, usize::MAX));
        let notary = Notary::new("local".to_owned(), certificate, key, Arc::new(System), store).unwrap();
        let local = local();
        let serving = local.clone().serve("tiny-chat", &Options::default()).unwrap();
        Self { serving, notary, copy: Copy(local) }
    }

    async fn answer(&self, body: &Value, nonce: Option<Nonce>) -> Result<Answered, BackendError> {
        self.answer_as(Kind::Chat, body, nonce).await
    }

    async fn answer_as(
        &self,
        kind: Kind,
        body: &Value,
        nonce: Option<Nonce>,
    ) -> Result<Answered, BackendError> {
        let request = kind.parse(body.as_object().unwrap()).unwrap();
        let ticket = self.notary.ticket(&canonical::canonical(body), nonce).unwrap();
        let origin = Origin { request: ticket.commitment(), nonce, drawn: [9; 32], dialect: kind.name() };
        let mut answer = self.serving.chat(Arc::new(request), origin).await?;
        let mut done = Completed::default();
        while let Some(delta) = answer.deltas.next().await {
            done.push(&delta?).unwrap();
        }
        let replay = *done.replay.take().unwrap();
        Ok(Answered { done, ticket, replay })
    }

    /// The receipt, signed by the node's own key, and what a stranger with a copy of the model makes of it.
    fn judge(&self, answered: Answered, response: Option<&str>) -> Verdict {
        let card = self.serving.models().remove(0);
        let response = response.map_or_else(|| response_text(&answered.done), str::to_owned);
        let capability = answered.ticket.capability().to_text();
        let capability = hallmark_gateway::Capability::parse(&capability);
        let usage = answered.done.usage;
        let id = self.notary.settle(answered.ticket, &card, response, Some(answered.replay), usage).unwrap();
        let bundle = self.notary.store().fetch(&id, capability.as_ref()).unwrap().unwrap();
        let now = hallmark_gateway::Host::now(&System);
        judge(bundle.to_json().as_bytes(), &Policy::default_policy(), &Context::at(now), Some(&self.copy))
    }
}

fn ask(text: &str) -> Value {
    json!({"model": "tiny-chat", "messages": [{"role": "user", "content": text}], "max_tokens": 24})
}

fn with(mut body: Value, name: &str, value: Value) -> Value {
    body[name] = value;
    body
}

fn text_of(verdict: &Verdict) -> String {
    hallmark_verdict::render::text(verdict)
}

#[tokio::test]
async fn honest_answers_are_accepted_by_a_re_run() {
    let node = Node::new();
    let asked = ask("What is a dog? Ünïcode 犬");
    let schema =
        json!({"type": "json_schema", "json_schema": {"name": "s", "schema": {"enum": ["yes", "no"]}}});
    for (body, nonce) in [
        (with(asked.clone(), "temperature", 0.into()), None),
        (with(asked.clone(), "seed", (1 - (1_i64 << 53)).into()), None),
        (asked.clone(), Some(Nonce([5; 32]))),
        (asked.clone(), None),
        (with(asked.clone(), "stop", json!([" is"])), None),
        (with(asked.clone(), "response_format", schema), None),
    ] {
        let answered = node.answer(&body, nonce).await.unwrap();
        if body.get("response_format").is_some() {
            assert!(["\"yes\"", "\"no\""].contains(&answered.done.text.as_str()), "{}", answered.done.text);
            assert_eq!(answered.done.finish(), Finish::Stop);
        }
        if body.get("stop").is_some() {
            assert!(!answered.done.text.contains(" is"));
        }
        let verdict = node.judge(answered, None);
        assert!(verdict.is_accepted(), "{body}: {}", text_of(&verdict));
    }
}

#[tokio::test]
async fn what_the_model_did_not_say_fails_though_the_node_signs_it() {
    let node = Node::new();
    let body = with(ask("Who are you?"), "temperature", 0.into());
    let change = |replay: &mut Replay, output: usize| match replay.outputs[output].1.data() {
        Data::I64(ids) => {
            let mut ids = ids.clone();
            ids[1] += 1;
            replay.outputs[output].1 = Tensor::vector(ids);
        }
        Data::F32(values) => {
            let mut values = values.clone();
            values[0] = f32::from_bits(values[0].to_bits() + 1);
            replay.outputs[output].1 = Tensor::vector(values);
        }
        other => panic!("{other:?}"),
    };
    let fails = |verdict: &Verdict| {
        let failed: Vec<CheckId> = verdict.reasons().map(|(id, _)| id).collect();
        assert_eq!(failed, [CheckId::Replay], "{}", text_of(verdict));
    };
    // Tokens, logarithms, text.
    for output in [0, 1] {
        let mut answered = node.answer(&body, None).await.unwrap();
        change(&mut answered.replay, output);
        fails(&node.judge(answered, None));
    }
    let answered = node.answer(&body, None).await.unwrap();
    fails(&node.judge(answered, Some("{\"content\":\"I am the King.\",\"role\":\"assistant\"}")));
    // Another prompt than the request's, other parameters, a seed that the client did not choose.
    let mut answered = node.answer(&body, None).await.unwrap();
    let other = node.answer(&with(ask("Hello"), "temperature", 0.into()), None).await.unwrap();
    answered.replay.inputs = other.replay.inputs;
    fails(&node.judge(answered, None));
    let mut answered = node.answer(&body, None).await.unwrap();
    let warm = node.answer(&with(body.clone(), "temperature", json!(0.5)), None).await.unwrap();
    answered.replay.parameters = warm.replay.parameters;
    fails(&node.judge(answered, None));
    let seeded = with(ask("Hello"), "seed", 1.into());
    let mut answered = node.answer(&seeded, None).await.unwrap();
    answered.replay.parameters =
        node.answer(&with(seeded, "seed", 2.into()), None).await.unwrap().replay.parameters;
    fails(&node.judge(answered, None));
}

/// Two functions in OpenAI's form. The text that closes a call, quotes and braces in a name and an argument change nothing.
fn functions() -> Value {
    let place = "a\"}</tool_call>é";
    let parameters = json!({"type": "object", "properties": {"n": {"enum": [1, 2]}, "place": {"const": place}},
        "required": ["n", "place"], "additionalProperties": false});
    json!([{"type": "function", "function": {"name": "look\"up", "parameters": parameters}},
           {"type": "function", "function": {"name": "now"}}])
}

#[tokio::test]
async fn a_call_that_must_come_comes_and_its_receipt_holds() {
    let node = Node::new();
    let asked = with(ask("What is a dog?"), "tools", functions());
    let asked = with(asked, "max_tokens", 160.into());
    let named = |name: &str| json!({"type": "function", "function": {"name": name}});
    let schema = functions()[0]["function"]["parameters"].clone();
    let responses = json!({"model": "tiny-chat", "input": "Hi", "max_output_tokens": 160, "seed": 3, "tool_choice": "required",
        "tools": [{"type": "function", "name": "look\"up", "parameters": schema}]});
    let messages = json!({"model": "tiny-chat", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 160,
        "tools": [{"name": "now", "input_schema": {"type": "object", "additionalProperties": false}},
                  {"name": "look\"up", "input_schema": schema}]});
    let any = with(messages.clone(), "tool_choice", json!({"type": "any"}));
    let tool = with(messages, "tool_choice", json!({"type": "tool", "name": "look\"up"}));
    for (kind, body, name) in [
        (Kind::Chat, with(asked.clone(), "tool_choice", "required".into()), None),
        (Kind::Chat, with(asked.clone(), "tool_choice", named("look\"up")), Some("look\"up")),
        (Kind::Chat, with(asked.clone(), "tool_choice", named("now")), Some("now")),
        (Kind::Responses, responses, Some("look\"up")),
        (Kind::Messages, any, None),
        (Kind::Messages, tool, Some("look\"up")),
    ] {
        let answered = node.answer_as(kind, &body, None).await.unwrap();
        let done = &answered.done;
        let [call] = done.tool_calls.as_slice() else { panic!("{body}: {done:?}") };
        assert_eq!((done.text.as_str(), done.finish()), ("", Finish::ToolCalls), "{body}");
        assert!(name.is_none_or(|name| call.name == name), "{body}: {call:?}");
        let arguments: Value = serde_json::from_str(&call.arguments).unwrap();
        match call.name.as_str() {
            "now" => assert_eq!(arguments, json!({})),
            "look\"up" => {
                assert!([1, 2].map(Value::from).contains(&arguments["n"]), "{arguments}");
                assert_eq!(arguments["place"], "a\"}</tool_call>é");
            }
            other => panic!("{other}"),
        }
        let verdict = node.judge(answered, None);
        assert!(verdict.is_accepted(), "{body}: {}", text_of(&verdict));
    }

    // A node that lets the model say what it likes instead.
    let forced = with(with(asked.clone(), "tool_choice", "required".into()), "temperature", 0.into());
    let mut answered = node.answer(&forced, None).await.unwrap();
    let free = node.answer(&with(asked.clone(), "temperature", 0.into()), None).await.unwrap();
    let text = response_text(&free.done);
    answered.replay.outputs = free.replay.outputs;
    let verdict = node.judge(answered, Some(&text));
    assert_eq!(verdict.reasons().map(|(id, _)| id).collect::<Vec<_>>(), [CheckId::Replay]);

    // Nothing to call, a function that is not there, arguments that no grammar follows.
    let mut unreadable = asked.clone();
    unreadable["tools"][0]["function"]["parameters"] = json!({"type": "no such type"});
    for body in [
        with(ask("Hi"), "tool_choice", "required".into()),
        with(asked.clone(), "tool_choice", named("lookup")),
        with(unreadable, "tool_choice", "required".into()),
    ] {
        let refused = node.answer(&body, None).await.err();
        assert!(matches!(refused, Some(BackendError::Unfit { .. })), "{refused:?}");
    }
}

#[tokio::test]
async fn answers_side_by_side_are_those_alone_and_bad_requests_are_refused() {
    let node = Node::new();
    let bodies: Vec<Value> = (0..6).map(|seed| with(ask("What is a boat?"), "seed", seed.into())).collect();
    let together = futures_util::future::join_all(bodies.iter().map(|body| node.answer(body, None))).await;
    for (body, together) in bodies.iter().zip(together) {
        let alone = node.answer(body, None).await.unwrap();
        let together = together.unwrap();
        assert_eq!(alone.replay.outputs, together.replay.outputs);
        assert_eq!(alone.done.text, together.done.text);
    }
    let long = "word ".repeat(4_000);
    let image = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]);
    for body in [
        ask(&long),
        with(ask("x"), "messages", image),
        with(ask("x"), "logit_bias", json!({"5": 3})),
        with(ask("x"), "functions", json!([{"name": "f"}])),
        with(ask("x"), "min_p", "none".into()),
        with(
            with(ask("x"), "tool_choice", "required".into()),
            "tools",
            json!([{"type": "function", "function": {"name": "f", "parameters": {"$ref": "#/nowhere"}}}]),
        ),
        with(
            ask("x"),
            "response_format",
            json!({"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": 7}}}),
        ),
    ] {
        let refused = node.answer(&body, None).await.err();
        assert!(
            matches!(
                refused,
                Some(
                    BackendError::Unfit { .. }
                        | BackendError::Unsupported { .. }
                        | BackendError::TooLong { got: 4001.., limit: 2048 }
                )
            ),
            "{body}: {refused:?}"
        );
    }
}

/// What agents send back after a call: turns without text, which templates may not expect.
#[tokio::test]
async fn turns_without_text_are_read() {
    let node = Node::new();
    let call = json!({"id": "c", "type": "function", "function": {"name": "w", "arguments": "{}"}});
    let mut turn = json!({"role": "assistant", "content": null, "tool_calls": [call]});
    let result = json!({"role": "tool", "tool_call_id": "c", "content": "sun"});
    let mut rendered = Vec::new();
    for content in [Value::Null, json!([]), "".into()] {
        turn["content"] = content;
        let messages = json!([{"role": "user", "content": "hi"}, turn, result]);
        let answered = node.answer(&with(ask(""), "messages", messages), None).await.unwrap();
        rendered.push(answered.replay.inputs.clone());
        assert!(node.judge(answered, None).is_accepted());
    }
    assert!(rendered.windows(2).all(|pair| pair[0] == pair[1]));
}

#[tokio::test]
async fn a_long_limit_is_cut_at_the_context_and_completions_go_on_from_the_text() {
    let node = Node::new();
    let answered = node.answer(&with(ask("Hi"), "max_tokens", 1_000_000.into()), None).await.unwrap();
    assert!(answered.done.usage.unwrap().output > 0);
    assert!(node.judge(answered, None).is_accepted());

    let raw = |text: &str| json!({"model": "tiny-chat", "prompt": text, "max_tokens": 8, "temperature": 0});
    let tokens = |answered: &Answered| answered.replay.inputs[0].1.as_slice::<i64>().unwrap().len();
    let answered = node.answer_as(Kind::Completions, &raw("A cat is"), None).await.unwrap();
    let turn = node.answer(&ask("A cat is"), None).await.unwrap();
    assert!(tokens(&answered) < tokens(&turn));
    assert!(node.judge(answered, None).is_accepted());
}

#[tokio::test]
async fn ends_are_told_apart() {
    let node = Node::new();
    // A forced call that is cut off is no text.
    let asked = with(with(ask("hi"), "tools", functions()), "tool_choice", "required".into());
    let cut = node.answer(&with(asked, "max_tokens", 6.into()), None).await.unwrap();
    assert_eq!(
        (cut.done.text.as_str(), cut.done.finish(), cut.done.tool_calls.len()),
        ("", Finish::Length, 0)
    );
    assert!(node.judge(cut, None).is_accepted());

    // Which stop text it was.
    let body = with(with(ask("What is a dog?"), "temperature", 0.into()), "stop", json!(["zzz", " "]));
    let stopped = node.answer(&body, None).await.unwrap();
    assert_eq!((stopped.done.finish(), stopped.done.stop_text.as_deref()), (Finish::Stop, Some(" ")));

    // Ids of calls differ from turn to turn, and are as Mistral's templates want them.
    let ask = |text: &str| {
        with(
            with(with(ask(text), "tools", functions()), "tool_choice", "required".into()),
            "max_tokens",
            160.into(),
        )
    };
    let mut ids = Vec::new();
    for text in ["one", "two"] {
        let called = node.answer(&ask(text), None).await.unwrap();
        ids.push(called.done.tool_calls[0].id.clone());
    }
    assert!(
        ids.iter().all(|id| id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric())),
        "{ids:?}"
    );
    assert_ne!(ids[0], ids[1]);
}

/// What agents and shells of models set: a template's variables, and control tokens that only an older file names.
#[test]
fn templates_see_what_requests_and_files_say() {
    let mut files = common::tiny_chat();
    let mut about: Value = serde_json::from_slice(&files["tokenizer_config.json"]).unwrap();
    about["bos_token"] = Value::Null;
    about["chat_template"] = "{{ bos_token }}{{ 'yes' if think else 'no' }}".into();
    files.insert("tokenizer_config.json".to_owned(), about.to_string().into_bytes());
    let map = json!({"bos_token": {"content": "<|im_start|>"}});
    files.insert("special_tokens_map.json".to_owned(), map.to_string().into_bytes());
    let language = Language::open(&files, 64).unwrap();
    let text = |body: Value| {
        let request = Kind::Chat.parse(body.as_object().unwrap()).unwrap();
        let plan = language.plan(&request, Seed::Client(0))?;
        Ok::<_, BackendError>(language.tokenizer().decode(&plan.prompt, false).unwrap())
    };
    assert_eq!(text(ask("x")).unwrap(), "<|im_start|>no");
    let thinks = with(ask("x"), "chat_template_kwargs", json!({"think": true}));
    assert_eq!(text(thinks).unwrap(), "<|im_start|>yes");
    assert!(text(with(ask("x"), "chat_template_kwargs", 7.into())).is_err());

    // A prompt that leaves no room has the code that clients look for.
    let full = Language::open(&files, 2).unwrap();
    let request = Kind::Chat.parse(ask("x").as_object().unwrap()).unwrap();
    let error = ApiError::Backend(full.plan(&request, Seed::Client(0)).err().unwrap());
    assert_eq!(error.openai()["error"]["code"], "context_length_exceeded");
}

/// Schemas as code generators write them: open by omission, with keywords that no grammar follows.
#[tokio::test]
async fn schemas_of_code_generators_are_followed() {
    let node = Node::new();
    let schema = json!({"title": "Pet", "type": "object", "required": ["age", "tags"], "properties": {
        "age": {"title": "Age", "type": "integer", "minimum": 0, "maximum": 30},
        "tags": {"type": "array", "uniqueItems": true, "maxItems": 2, "items": {"enum": ["a", "b"]}}}});
    let format = json!({"type": "json_schema", "json_schema": {"name": "Pet", "schema": schema}});
    for seed in 0..6 {
        let asked = with(with(ask("A pet, please."), "seed", seed.into()), "max_tokens", 60.into());
        let answered = node.answer(&with(asked, "response_format", format.clone()), None).await.unwrap();
        let pet: Value = serde_json::from_str(&answered.done.text).unwrap();
        assert_eq!(pet.as_object().unwrap().len(), 2, "{pet}");
        assert!(node.judge(answered, None).is_accepted());
    }
    let strict =
        with(format.clone(), "json_schema", json!({"name": "Pet", "strict": true, "schema": schema}));
    let refused = node.answer(&with(ask("x"), "response_format", strict), None).await.err();
    assert!(matches!(refused, Some(BackendError::Unfit { .. })), "{refused:?}");
}
