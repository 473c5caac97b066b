//! Gateways that answer with other weights than they say, before a proxy that has a copy of the model.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use hallmark_engine::decoder::Options;
use hallmark_gateway::backend::{Answer, Backend, BackendError, ModelCard, Origin};
use hallmark_gateway::chat::{ChatRequest, Delta};
use hallmark_gateway::local::Serving;
use hallmark_gateway::proxy::{OwnCopy, Sample, Share};
use hallmark_model::llm::DecoderModel;
use hallmark_receipt::Model;
use serde_json::{Value, json};

use crate::common::{Copy, builder, decoder, get, node, post, serve, tiny_chat};
use crate::{PATHS, assert_no_end, proxy_with, request_at};

/// What a gateway does that answers for a model.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Honest,
    /// Other weights, under the model's id, manifest and graph.
    OtherWeights,
    /// Other weights, under their own id.
    OtherModel,
    /// The model, with a seed of the gateway's own choice.
    OwnSeed,
}

struct Gateway {
    serving: Serving,
    honest: DecoderModel,
    way: Way,
}

impl Backend for Gateway {
    fn models(&self) -> Vec<ModelCard> {
        let mut cards = self.serving.models();
        if self.way == Way::OtherWeights {
            cards[0].model = Model::Id(self.honest.id());
        }
        cards
    }

    fn chat(
        &self,
        request: Arc<ChatRequest>,
        mut origin: Origin,
    ) -> BoxFuture<'_, Result<Answer, BackendError>> {
        if self.way == Way::OwnSeed {
            origin.nonce = None;
        }
        Box::pin(async move {
            let answer = self.serving.chat(request, origin).await?;
            if self.way != Way::OtherWeights {
                return Ok(answer);
            }
            let honest = self.honest.clone();
            let deltas = answer.deltas.map(move |delta| {
                delta.map(|delta| match delta {
                    Delta::Replay(mut replay) => {
                        replay.manifest = Some(honest.manifest().to_object());
                        replay.graph = Some(honest.skeleton().to_json().into_bytes());
                        Delta::Replay(replay)
                    }
                    other => other,
                })
            });
            Ok(Answer { deltas: deltas.boxed() })
        })
    }
}

fn load(files: &BTreeMap<String, Vec<u8>>) -> DecoderModel {
    DecoderModel::load(&files.keys().cloned().collect::<Vec<_>>(), files).unwrap()
}

/// The metrics' count of `name`.
async fn count(url: &str, name: &str) -> usize {
    let text = get(format!("{url}/metrics"), &[]).await.text().to_owned();
    let name = format!("hallmark_proxy_{name}_total ");
    text.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse().unwrap()
}

async fn proxied(way: Way, share: f64) -> String {
    let files = tiny_chat();
    let mut served = files.clone();
    if matches!(way, Way::OtherWeights | Way::OtherModel) {
        // The sign of the last weight.
        let weights = served.get_mut("model.safetensors").unwrap();
        let last = weights.len() - 1;
        weights[last] ^= 0x80;
    }
    let serving = decoder(&served).serve("m", &Options::default()).unwrap();
    let honest = load(&files);
    let copy = OwnCopy { id: honest.id(), replayer: Box::new(Copy(decoder(&files))) };
    let gateway = serve(builder().backend(Arc::new(Gateway { serving, honest, way })).build().unwrap()).await;
    let sample =
        Sample { copies: BTreeMap::from([("m".to_owned(), copy)]), share: Share::new(share).unwrap() };
    let (url, _) = proxy_with(&[(gateway.url.clone(), node())], sample).await;
    std::mem::forget(gateway);
    url
}

#[tokio::test]
async fn an_honest_gateways_answers_are_run_again_and_come_through() {
    let url = proxied(Way::Honest, 1.0).await;
    let mut asked = 0;
    for path in PATHS {
        for stream in [true, false] {
            let got = post(format!("{url}/v1/{path}"), &request_at(path, stream)).await;
            assert_eq!(got.status, 200, "{path}: {}", got.text());
            asked += 1;
            assert!(!got.text().contains("\"error\":{"), "{path}: {}", got.text());
        }
    }
    assert_eq!((count(&url, "verified").await, count(&url, "run_again").await), (asked, asked));
    // Greedy answers have no seed to check.
    let mut greedy = request_at("chat/completions", false);
    greedy["temperature"] = 0.into();
    assert_eq!(post(format!("{url}/v1/chat/completions"), &greedy).await.status, 200);
    let url = proxied(Way::Honest, 0.0).await;
    assert_eq!(post(format!("{url}/v1/chat/completions"), &greedy).await.status, 200);
    assert_eq!((count(&url, "verified").await, count(&url, "run_again").await), (1, 0));
}

#[tokio::test]
async fn a_gateway_that_answers_with_other_weights_or_its_own_seed_is_caught() {
    for (way, share, why) in [
        (Way::OtherWeights, 1.0, "replay"),
        (Way::OwnSeed, 1.0, "seed"),
        // The id shows: no re-run is needed.
        (Way::OtherModel, 0.0, "model"),
    ] {
        let url = proxied(way, share).await;
        let got = post(format!("{url}/v1/chat/completions"), &request_at("chat/completions", true)).await;
        assert_no_end(&got);
        assert!(got.text().contains("answer_not_verified"), "{way:?}: {}", got.text());
        assert!(got.text().contains(why), "{way:?}: {}", got.text());
        assert_eq!((count(&url, "verified").await, count(&url, "false_answers").await), (0, 1));
        let got = post(format!("{url}/v1/chat/completions"), &request_at("chat/completions", false)).await;
        assert_eq!(got.status, 503, "{way:?}: {}", got.text());

        let url = proxied(way, share).await;
        let got = post(format!("{url}/v1/chat/completions"), &request_at("chat/completions", false)).await;
        assert_eq!(
            (got.status, &got.json()["error"]["code"]),
            (502, &json!("answer_not_verified")),
            "{way:?}"
        );
        assert_eq!(got.json()["choices"], Value::Null);
    }
    // By the pinned identity's word alone this passes: the re-run is what finds it.
    let url = proxied(Way::OtherWeights, 0.0).await;
    let got = post(format!("{url}/v1/chat/completions"), &request_at("chat/completions", false)).await;
    assert_eq!(got.status, 200, "{}", got.text());
}
