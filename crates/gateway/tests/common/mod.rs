//! A node with keys of its own, an upstream server that says what a test tells it, and a plain client.
#![allow(dead_code, clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use hallmark_engine::decoder::Options;
use hallmark_gateway::local::{Local, replay};
use hallmark_gateway::providers::{Client, Offer, PROVIDERS, Patience, Provider, Secret};
use hallmark_gateway::{Backend, Builder, Gateway, NativeKey};
use hallmark_model::llm::DecoderModel;
use hallmark_receipt::{
    Alg, Certificate, Claim, Digest, Envelope, KeyId, Opening, Purpose, SecretKey, Signer as _, Tensor,
};
use hallmark_verdict::{ReplayError, Replayer};
use http::HeaderMap;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

pub const NEVER: u64 = 9_000_000_000_000_000;

pub fn identity() -> SecretKey {
    SecretKey::from_seed(Alg::Ed25519, &[1; 32]).unwrap()
}

pub fn node() -> KeyId {
    identity().public_key().id()
}

/// A receipt key that is certified for ever, and its certificate.
pub fn certified() -> (Envelope, hallmark_gateway::Key) {
    let key = NativeKey::from_seed(&[2; 32]).unwrap();
    let certificate = Certificate {
        identity: identity().public_key(),
        key: key.public_key(),
        purpose: Purpose::Receipt,
        not_before: 0,
        not_after: NEVER,
    };
    (certificate.sign(&identity()).unwrap(), Arc::new(key))
}

pub fn builder() -> Builder {
    let (certificate, key) = certified();
    Gateway::builder("test", certificate, key)
}

/// A server that stops when this is dropped.
pub struct Server {
    pub url: String,
    stop: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    pub async fn stop(mut self) {
        drop(self.stop.take());
        self.task.await.unwrap();
    }
}

pub async fn serve(gateway: Gateway) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(async move {
        gateway.serve(listener, async { _ = stopped.await }).await.unwrap();
    });
    Server { url, stop: Some(stop), task }
}

/// What an upstream server was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Value,
}

type Log = Arc<Mutex<Vec<Asked>>>;

/// An upstream server that answers with `answer`, and keeps what it was asked.
pub async fn upstream<F>(answer: F) -> (String, Log)
where
    F: Fn(&Asked) -> Response + Clone + Send + Sync + 'static,
{
    let log = Log::default();
    let kept = log.clone();
    let handler = move |request: Request| {
        let (answer, kept) = (answer.clone(), kept.clone());
        async move {
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(body, 1 << 24).await.unwrap();
            let path = parts.uri.path_and_query().unwrap().to_string();
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            let asked = Asked { path, headers: parts.headers, body };
            kept.lock().unwrap().push(asked.clone());
            answer(&asked)
        }
    };
    (raw_server(Router::new().fallback(handler)).await, log)
}

pub async fn raw_server(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let service = hyper_util::service::TowerToHyperService::new(router);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(hyper_util::rt::TokioIo::new(stream), service.clone());
            tokio::spawn(async move { _ = connection.await });
        }
    });
    url
}

/// A provider of this kind at `url`, which offers `m` (there called `m-1`).
pub fn provider(kind: &str, url: &str, patience: Patience) -> Arc<dyn Backend> {
    let spec = PROVIDERS.iter().find(|spec| spec.kind == kind).unwrap();
    let price = Some(hallmark_gateway::Price { asset: "USDC".into(), input: 1_000_000, output: 2_000_000 });
    let offers = vec![Offer { name: "m".into(), upstream: "m-1".into(), price }];
    let client = Arc::new(Client::new(patience).unwrap());
    let key = Secret::new("sk-upstream");
    Arc::new(Provider::new("acme", spec, Some(url), Some(&key), offers, client).unwrap())
}

/// A gateway over one provider.
pub async fn over(kind: &str, url: &str) -> Server {
    serve(builder().backend(provider(kind, url, Patience::default())).build().unwrap()).await
}

/// The shipped language model's files.
pub fn tiny_chat() -> BTreeMap<String, Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny-chat");
    let names = [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    names.into_iter().map(|name| (name.to_owned(), std::fs::read(folder.join(name)).unwrap())).collect()
}

/// A decoder of these files.
pub fn decoder(files: &BTreeMap<String, Vec<u8>>) -> Local {
    let names: Vec<String> = files.keys().cloned().collect();
    let model = DecoderModel::load(&names, files).unwrap();
    Local::open(model, files, &Options::default()).unwrap()
}

/// A verifier's copy of a decoder.
pub struct Copy(pub Local);

impl Replayer for Copy {
    fn replay(
        &self,
        _: &Digest,
        inputs: &[Opening],
        outputs: &[Opening],
        claim: &Claim,
    ) -> Result<Vec<(String, Tensor)>, ReplayError> {
        replay(&self.0, inputs, outputs, claim, &Options { threads: 2, ..Options::default() })
    }
}

pub fn json_response(value: &Value) -> Response {
    Response::builder()
        .header("content-type", "application/json")
        .body(Body::from(value.to_string()))
        .unwrap()
}

pub fn status_response(status: u16, value: &Value) -> Response {
    Response::builder().status(status).body(Body::from(value.to_string())).unwrap()
}

/// Events, one `data:` line each.
pub fn sse_response(events: &[String]) -> Response {
    let text: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    Response::builder().header("content-type", "text/event-stream").body(Body::from(text)).unwrap()
}

/// An answer, read whole.
pub struct Got {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Got {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {:?}", self.body))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

pub type HttpClient = legacy::Client<HttpConnector, Full<Bytes>>;

pub fn http_client() -> HttpClient {
    legacy::Client::builder(TokioExecutor::new()).build_http()
}

pub async fn send(method: &str, url: String, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Got {
    let mut request = http::Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = http_client().request(request.body(Full::new(body.into())).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Got { status: parts.status.as_u16(), headers: parts.headers, body }
}

pub async fn post(url: String, body: &Value) -> Got {
    send("POST", url, &[], body.to_string()).await
}

pub async fn get(url: String, headers: &[(&str, &str)]) -> Got {
    send("GET", url, headers, "").await
}
