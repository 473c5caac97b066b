//! A gateway's proxy on the requester's own machine: plain clients in front, gateways whose identities are pinned behind. It hands
//! out only what it has verified, and keeps the receipts (`spec/stream.md` §8).
//!
//! ```text
//! client -> proxy -> gateway    x-hallmark-nonce: the proxy's own, x-hallmark-sign: whole
//!        <-       <-            each event once its signature held; the end once the receipt is accepted
//! ```

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State as Shared};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use hallmark_receipt::{Digest, KeyId};
use hallmark_verdict::Context;
use http::{HeaderValue, StatusCode};

use crate::dialect::Kind;
use crate::error::ApiError;
use crate::host::{Host, System};
use crate::limits::Limits;
use crate::providers::http1::{Connections, NoRoots, connections};
use crate::providers::{ProviderError, Secret, base_of};
use crate::routes::{refusal, respond};
use crate::server;
use crate::site::Site;

mod ask;
mod check;
mod pool;
mod relay;
mod sample;

use pool::{Pinned, Pool};
use sample::Sampler;
pub use sample::{OwnCopy, Sample, Share};

const CONNECT: Duration = Duration::from_secs(5);

/// Keeps a bundle with its openings under its claim's id; says why where it cannot. Without that the answer is not handed out.
pub type Keeper = Box<dyn Fn(&Digest, &str) -> Result<(), String> + Send + Sync>;

/// Why there is no proxy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// A gateway's URL, or the key.
    #[error(transparent)]
    Gateway(#[from] ProviderError),
    /// No root certificates.
    #[error(transparent)]
    NoRoots(#[from] NoRoots),
}

/// What the routes work on.
struct State {
    pool: Pool,
    http: Connections,
    context: Context,
    keep: Keeper,
    sampler: Sampler,
    limits: Limits,
    host: Arc<dyn Host>,
    site: Site,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    verified: AtomicU64,
    run_again: AtomicU64,
    wrong: AtomicU64,
}

/// A gateway to ask.
pub struct Behind {
    /// Its base URL, without `/v1`.
    pub url: String,
    /// The identity that must sign what it says.
    pub node: KeyId,
    /// The API key that it gets, and no other gateway.
    pub key: Option<Secret>,
}

/// A proxy, ready to serve.
pub struct Proxy {
    state: Arc<State>,
}

impl Proxy {
    /// A proxy for these gateways, asked in this order. `context` holds revocations and publishers; whom to trust is the gateway's pinned identity alone. `sample` holds copies of models whose answers may be run again.
    pub fn new(
        gateways: &[Behind],
        context: Context,
        keep: Keeper,
        sample: Sample,
    ) -> Result<Self, ProxyError> {
        let pinned = gateways.iter().map(|gateway| {
            let auth = gateway.key.as_ref().map(|key| key.header("Bearer ")).transpose()?;
            Ok(Arc::new(Pinned::new(base_of(&gateway.url)?, gateway.node, auth)))
        });
        let state = State {
            pool: Pool(pinned.collect::<Result<_, ProviderError>>()?),
            http: connections(CONNECT)?,
            context,
            keep,
            sampler: Sampler::new(sample),
            limits: Limits::default(),
            host: Arc::new(System),
            site: Site::default(),
            counts: Counts::default(),
        };
        Ok(Self { state: Arc::new(state) })
    }

    /// Serves connections from `listener` until `shutdown` is ready. Answers to the loopback names alone: whoever can ask spends
    /// the gateways' key.
    pub async fn serve(
        &self,
        listener: tokio::net::TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> std::io::Result<()> {
        server::serve(router(self.state.clone()), listener, &self.state.limits, |_| (), shutdown).await
    }
}

fn router(state: Arc<State>) -> Router {
    let answers = |kind: Kind| post(move |state, request| answer(state, Some(kind), request));
    Router::new()
        .route("/v1/chat/completions", answers(Kind::Chat))
        .route("/v1/completions", answers(Kind::Completions))
        .route("/v1/responses", answers(Kind::Responses))
        .route("/v1/messages", answers(Kind::Messages))
        .route("/v1/embeddings", post(|state, request| answer(state, None, request)))
        .route("/v1/models", get(ask::models))
        .route("/v1/models/{*name}", get(ask::models))
        .route("/metrics", get(metrics))
        .fallback(|| async { refusal(&ApiError::NotFound, ApiError::openai) })
        .method_not_allowed_fallback(|| async { refusal(&ApiError::Method, ApiError::openai) })
        .layer(middleware::from_fn_with_state(state.clone(), guard))
        .with_state(state)
}

async fn guard(Shared(state): Shared<Arc<State>>, request: Request, next: Next) -> Response {
    match state.site.check(request.method(), request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => refusal(&error, ApiError::openai),
    }
}

/// `kind` is `None` for embeddings.
async fn answer(
    Shared(state): Shared<Arc<State>>,
    kind: Option<Kind>,
    request: http::Request<Body>,
) -> Response {
    state.counts.requests.fetch_add(1, Relaxed);
    let write = kind.map_or(ApiError::openai as fn(&ApiError) -> _, Kind::error);
    ask::answer(&state, kind, request).await.unwrap_or_else(|error| refusal(&error, write))
}

async fn metrics(Shared(state): Shared<Arc<State>>) -> Response {
    let mut text = String::new();
    let counts = &state.counts;
    for (name, count) in [
        ("requests", &counts.requests),
        ("verified", &counts.verified),
        ("run_again", &counts.run_again),
        ("false_answers", &counts.wrong),
    ] {
        text.push_str(&format!(
            "# TYPE hallmark_proxy_{name}_total counter\nhallmark_proxy_{name}_total {}\n",
            count.load(Relaxed)
        ));
    }
    let mut response = respond(StatusCode::OK, text);
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4"));
    response
}
