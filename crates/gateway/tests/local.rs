//! The shipped language model behind the gateway's seam: receipts that hold when they are run again, and forgeries that do not.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;
#[path = "local/embedding.rs"]
mod embedding;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use futures_util::StreamExt as _;
use hallmark_engine::decoder::Options;
use hallmark_gateway::backend::{Backend as _, BackendError, Origin, Replay};
use hallmark_gateway::chat::{Completed, Finish};
use hallmark_gateway::dialect::Kind;
use hallmark_gateway::local::{Local, Serving, replay};
use hallmark_gateway::notary::Notary;
use hallmark_gateway::notary::response_text;
use hallmark_gateway::store::Memory;
use hallmark_gateway::{System, json as canonical};
use hallmark_model::llm::DecoderModel;
use hallmark_receipt::{Claim, Data, Digest, Nonce, Opening, Tensor};
use hallmark_verdict::{CheckId, Context, Policy, ReplayError, Replayer, Verdict, judge};
use serde_json::{Value, json};

fn local() -> Local {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny-chat");
    let names = [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    let read = |name: &str| (name.to_owned(), std::fs::read(folder.join(name)).unwrap());
    let files: BTreeMap<String, Vec<u8>> = names.into_iter().map(read).collect();
    let names: Vec<String> = files.keys().cloned().collect();
    let model = DecoderModel::load(&names, &files).unwrap();
    Local::open(model, &files, &Options::default()).unwrap()
}

struct Copy(Local);

impl Replayer for Copy {
    fn replay(
        &self,
        _: &Digest,
        inputs: &[Opening],
        claim: &Claim,
    ) -> Result<Vec<(String, Tensor)>, ReplayError> {
        replay(&self.0, inputs, claim, &Options { threads: 2, ..Options::default() })
    }
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
        let request = Kind::Chat.parse(body.as_object().unwrap()).unwrap();
        let ticket = self.notary.ticket(&canonical::canonical(body), nonce).unwrap();
        let origin =
            Origin { request: ticket.commitment(), nonce, drawn: [9; 32], dialect: Kind::Chat.name() };
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
        with(ask("x"), "max_tokens", 4_000.into()),
        with(ask("x"), "messages", image),
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
            matches!(refused, Some(BackendError::Unfit { .. } | BackendError::Unsupported { .. })),
            "{refused:?}"
        );
    }
}
