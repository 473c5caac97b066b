//! A backend in this process whose model has an id: what it adds to the claim, and tokens with their probabilities.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::sync::Arc;

use common::{builder, get, node, post, serve};
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use hallmark_attestation::simulated::{Form, Provider};
use hallmark_attestation::{Binding, anchors};
use hallmark_environment::Attester;
use hallmark_gateway::backend::{Answer, Backend, BackendError, ModelCard, Origin, Replay};
use hallmark_gateway::chat::{ChatRequest, Delta, Finish, Token, Usage};
use hallmark_receipt::json::{Object, object};
use hallmark_receipt::{Bundle, Model, Purpose, Receipt, Signer as _, Tensor, model_id};
use hallmark_verdict::CheckId;
use serde_json::{Value, json};

/// Spells the last message, a letter a token.
struct Speller;

fn manifest() -> Object {
    object([("name", "speller".into()), ("numeric", hallmark_receipt::json::Value::Int(1))])
}

impl Backend for Speller {
    fn models(&self) -> Vec<ModelCard> {
        let model = Model::Id(model_id(&manifest()));
        vec![ModelCard { name: "speller".into(), owner: "us".into(), model, price: None }]
    }

    fn chat(&self, request: Arc<ChatRequest>, _: Origin) -> BoxFuture<'_, Result<Answer, BackendError>> {
        Box::pin(async move {
            let text = request.messages.last().map(|message| message.text()).unwrap_or_default();
            let ids: Vec<i64> = text.chars().map(|c| i64::from(u32::from(c))).collect();
            let count = ids.len() as u64;
            let token = |c: char| Token {
                id: Some(u32::from(c)),
                text: c.to_string(),
                logprob: -0.5,
                top: vec![(c.to_string(), -0.5)],
            };
            let mut deltas: Vec<Delta> =
                text.chars().map(|c| Delta::Text { text: c.into(), tokens: vec![token(c)] }).collect();
            let replay = Replay {
                inputs: vec![("input_ids".into(), Tensor::vector(ids.clone()))],
                outputs: vec![("output_ids".into(), Tensor::vector(ids))],
                parameters: object([("seed", hallmark_receipt::json::Value::Int(7))]),
                manifest: Some(manifest()),
                numeric: Some(1),
                ..Replay::default()
            };
            deltas.push(Delta::Finish(Finish::Stop));
            deltas.push(Delta::Usage(Usage { input: count, output: count, ..Usage::default() }));
            deltas.push(Delta::Replay(Box::new(replay)));
            Ok(Answer { deltas: futures_util::stream::iter(deltas.into_iter().map(Ok)).boxed() })
        })
    }
}

#[tokio::test]
async fn a_models_own_tensors_join_the_claim() {
    let server = serve(builder().backend(Arc::new(Speller)).build().unwrap()).await;
    let nonce = "ab".repeat(32);
    let body = json!({"model": "speller", "messages": [{"role": "user", "content": "hé"}], "logprobs": true, "top_logprobs": 1});
    let url = format!("{}/v1/chat/completions", server.url);
    let got = common::send("POST", url.clone(), &[("x-hallmark-nonce", &nonce)], body.to_string()).await;
    let answer = got.json();
    assert_eq!(answer["choices"][0]["logprobs"]["content"][1]["token"], "é");
    assert_eq!(answer["choices"][0]["logprobs"]["content"][1]["top_logprobs"][0]["logprob"], -0.5);
    let receipt = format!("{}/v1/receipts/{}", server.url, got.header("x-hallmark-receipt"));
    let whole = get(receipt, &[("x-hallmark-capability", got.header("x-hallmark-capability"))]).await;
    let bundle = Bundle::parse(&whole.body).unwrap();
    let names = |side: &Option<Vec<hallmark_receipt::Opening>>| -> Vec<String> {
        side.iter().flatten().map(|opening| opening.name().to_owned()).collect()
    };
    assert_eq!(names(&bundle.inputs), ["request", "input_ids"]);
    assert_eq!(names(&bundle.outputs), ["response", "output_ids"]);
    let claim = Receipt::parse(&bundle.envelope.payload).unwrap().claim;
    assert_eq!((claim.model, claim.nonce.to_string()), (Model::Id(model_id(&manifest())), nonce));
    assert_eq!(claim.parameters.len(), 1);
    let now = hallmark_gateway::Host::now(&hallmark_gateway::System);
    let mut context = hallmark_verdict::Context::at(now);
    context.trust.named.push(node());
    let policy = hallmark_verdict::Policy::default_policy();
    let verdict = hallmark_verdict::judge(&whole.body, &policy, &context, None);
    assert!(verdict.is_accepted(), "{}", hallmark_verdict::render::text(&verdict));
    // A nonce that is none is refused, not replaced.
    let got = common::send("POST", url, &[("x-hallmark-nonce", "ab")], body.to_string()).await;
    assert_eq!((got.status, &got.json()["error"]["param"]), (400, &Value::from("x-hallmark-nonce")));
    let got = post(format!("{}/v1/embeddings", server.url), &json!({"model": "speller", "input": "a"})).await;
    assert_eq!(got.status, 400);
    server.stop().await;
}

/// A node whose receipt key lives in an environment puts that into every receipt.
#[tokio::test]
async fn receipts_carry_the_environment() {
    let (_, key) = common::certified();
    let now = hallmark_gateway::Host::now(&hallmark_gateway::System);
    let binding = Binding::default().with_key(Purpose::Receipt, &key.public_key()).unwrap();
    let attester = Attester::new(Box::new(Provider::new(Form::SnpV3)), binding, 3600, now / 1000).unwrap();
    let builder = builder().environment(Arc::new(attester)).backend(Arc::new(Speller));
    let server = serve(builder.build().unwrap()).await;
    let body = json!({"model": "speller", "messages": [{"role": "user", "content": "a"}]});
    let got = post(format!("{}/v1/chat/completions", server.url), &body).await;
    let bundle = get(format!("{}/v1/receipts/{}", server.url, got.header("x-hallmark-receipt")), &[]).await;
    let mut context = hallmark_verdict::Context::at(hallmark_gateway::Host::now(&hallmark_gateway::System));
    context.trust.named.push(node());
    let policy = hallmark_verdict::Policy::default_policy();
    // Whoever did not ask for development evidence gets none, whatever else holds.
    assert_eq!(hallmark_verdict::judge(&bundle.body, &policy, &context, None).exit_code(), 1);
    context.hardware.accept_simulated = anchors::development();
    let verdict = hallmark_verdict::judge(&bundle.body, &policy, &context, None);
    assert!(verdict.is_accepted() && verdict.is_simulated());
    for row in [CheckId::Hardware, CheckId::AttestedKey, CheckId::HardwareNow] {
        assert!(verdict.check(row).unwrap().has_passed(), "{row}");
    }
    server.stop().await;
}
