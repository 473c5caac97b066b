//! From a client's request to a gateway that answers it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State as Shared;
use axum::response::Response;
use bytes::Bytes;
use hallmark_receipt::stream::Reader;
use hallmark_receipt::{Certificate, Nonce};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use serde_json::{Map, Value};

use super::check::{self, Expected};
use super::pool::{Failed, Pinned};
use super::relay::{self, Relay};
use super::{OwnCopy, State};
use crate::backend::BackendError;
use crate::dialect::Kind;
use crate::error::ApiError;
use crate::notary::NotaryError;
use crate::providers::http1::{message, retry_after};
use crate::routes::{CAPABILITY, NONCE, RECEIPT, SEAL, SIGN, STREAM, header, read_body, refusal, respond};

/// The most bytes of a whole answer.
const MAX_BODY: usize = 64 << 20;

/// A request as it goes out.
pub struct Call {
    /// `None` for embeddings.
    pub kind: Option<Kind>,
    pub path: String,
    pub body: Bytes,
    pub members: Map<String, Value>,
    /// What the claim's `request` must open to.
    pub canonical: String,
    /// The requester's copy of the model, where it has one.
    pub copy: Option<Arc<OwnCopy>>,
}

/// Answers a request with what one of the gateways says and can show.
pub async fn answer(
    state: &Arc<State>,
    kind: Option<Kind>,
    request: http::Request<Body>,
) -> Result<Response, ApiError> {
    let path = request.uri().path().to_owned();
    let (body, members) = read_body(&state.limits, request.into_body()).await?;
    let canonical = crate::json::canonical_object(&members);
    let copy = state.sampler.copy(&members);
    let call = Call { kind, path, body, members, canonical, copy };
    let mut refused = None;
    for gateway in state.pool.ready() {
        match attempt(state, gateway, &call).await {
            Ok(response) => {
                gateway.is_well();
                return Ok(response);
            }
            Err(Failed::Down { why, retry_after }) => gateway.is_down(&why, retry_after),
            // Another gateway may have the model.
            Err(Failed::Refused(error)) if error.status() == StatusCode::NOT_FOUND => refused = Some(error),
            Err(failed) => return Err(failed.settle(state, gateway)),
        }
    }
    Err(refused.unwrap_or_else(|| state.pool.none()))
}

impl Failed {
    /// Remembers what this says of the gateway; gives what the client is told.
    pub fn settle(self, state: &State, gateway: &Pinned) -> ApiError {
        match self {
            Self::Down { why, retry_after } => {
                gateway.is_down(&why, retry_after);
                ApiError::GatewayLost { why }
            }
            Self::False(why) => {
                state.counts.wrong.fetch_add(1, Relaxed);
                gateway.is_false(&why);
                tracing::warn!(url = gateway.url, "a gateway answered falsely");
                ApiError::False { why }
            }
            Self::Refused(error) | Self::Own(error) => error,
        }
    }
}

async fn attempt(state: &Arc<State>, gateway: &Arc<Pinned>, call: &Call) -> Result<Response, Failed> {
    // Fresh for each attempt: no gateway can pass on what another one answered.
    let nonce = Nonce(state.host.draw().map_err(|error| ApiError::from(NotaryError::from(error)))?);
    let text = HeaderValue::try_from(nonce.to_string()).map_err(|_| ApiError::Receipt)?;
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(format!("{}{}", gateway.url, call.path))
        .header(CONTENT_TYPE, "application/json")
        .header(NONCE, text)
        .header(SIGN, "whole");
    if let Some(auth) = &gateway.auth {
        request = request.header(AUTHORIZATION, auth);
    }
    let request = request.body(Full::new(call.body.clone())).map_err(|_| ApiError::NotFound)?;
    let response = send(state, request).await?;
    let reader = Reader::new(gateway.node, call.canonical.clone(), state.host.now());
    match call.kind {
        Some(kind) if call.members.get("stream") == Some(&Value::Bool(true)) => {
            let dialect = relay::dialect(kind, &call.members)?;
            Relay::new(state.clone(), gateway.clone(), (kind, dialect), call, nonce, reader, response)
                .start()
                .await
        }
        kind => whole(state, gateway, (kind, nonce), call, reader, response).await,
    }
}

async fn whole(
    state: &Arc<State>,
    gateway: &Pinned,
    (kind, nonce): (Option<Kind>, Nonce),
    call: &Call,
    reader: Reader,
    response: http::Response<Incoming>,
) -> Result<Response, Failed> {
    let wrong = |why: String| Failed::False(why);
    let headers = response.headers().clone();
    let body = whole_body(state, response, MAX_BODY).await?;
    let (Some(preamble), Some(seal)) = (header(&headers, &STREAM), header(&headers, &SEAL)) else {
        return Err(wrong("the answer is not signed".to_owned()));
    };
    let (signer, claim) = reader.whole(preamble, seal, &body).map_err(|error| wrong(error.to_string()))?;
    not_revoked(state, &signer)?;
    let value: Value =
        serde_json::from_slice(&body).map_err(|_| wrong("the answer is not JSON".to_owned()))?;
    let response = match kind {
        Some(kind) => kind.message(&value).map_err(|error| wrong(error.to_string()))?,
        None => value.get("data").cloned().unwrap_or_default(),
    };
    let (request, loose) = (call.canonical.clone(), kind == Some(Kind::Messages));
    let expected = Expected { claim, nonce, request, response, loose, copy: call.copy.clone() };
    check::receipt(state, gateway, headers.get(CAPABILITY).cloned(), expected).await?;
    let mut answer = Response::new(Body::from(body));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(id) = HeaderValue::try_from(claim.to_string()) {
        answer.headers_mut().insert(RECEIPT, id);
    }
    Ok(answer)
}

/// The judge says so at the end; here it is said before the first event.
pub fn not_revoked(state: &State, signer: &Certificate) -> Result<(), Failed> {
    let now = state.host.now();
    let mut revocations = state.context.revocations.iter().flatten();
    match revocations.find(|revocation| revocation.applies(signer, now)) {
        None => Ok(()),
        Some(revocation) => Err(Failed::False(format!("the key {} is revoked", revocation.key))),
    }
}

/// Sends; gives the answer once its head says that it is one.
async fn send(state: &State, request: Request<Full<Bytes>>) -> Result<http::Response<Incoming>, Failed> {
    let sent = tokio::time::timeout(state.limits.answer_time, state.http.request(request)).await;
    let response = match sent {
        Err(_) => return Err(Failed::down("no answer in time")),
        Ok(Err(error)) if error.is_connect() => return Err(Failed::down("no connection")),
        Ok(Err(_)) => return Err(Failed::down("the connection broke")),
        Ok(Ok(response)) => response,
    };
    let status = response.status();
    if status == StatusCode::OK {
        return Ok(response);
    }
    let wait = retry_after(response.headers());
    if status == StatusCode::TOO_MANY_REQUESTS || !status.is_client_error() {
        return Err(Failed::Down {
            why: format!("answered with status {}", status.as_u16()),
            retry_after: wait,
        });
    }
    let text = message(response.into_body(), Duration::from_secs(10)).await;
    Err(Failed::Refused(if status == StatusCode::NOT_FOUND {
        ApiError::GatewayLacks { message: text }
    } else {
        ApiError::Backend(BackendError::Refused { status: status.as_u16(), message: text })
    }))
}

/// Gets what lies at `path` of a gateway.
pub async fn fetch(
    state: &State,
    gateway: &Pinned,
    path: &str,
    headers: impl IntoIterator<Item = (HeaderName, HeaderValue)>,
) -> Result<http::Response<Incoming>, Failed> {
    let mut request = Request::builder().method(Method::GET).uri(format!("{}{path}", gateway.url));
    let auth = gateway.auth.clone().map(|auth| (AUTHORIZATION, auth));
    for (name, value) in headers.into_iter().chain(auth) {
        request = request.header(name, value);
    }
    send(state, request.body(Full::default()).map_err(|_| ApiError::NotFound)?).await
}

/// A body of at most `limit` bytes.
pub async fn whole_body(
    state: &State,
    response: http::Response<Incoming>,
    limit: usize,
) -> Result<Bytes, Failed> {
    let read = Limited::new(response.into_body(), limit).collect();
    match tokio::time::timeout(state.limits.answer_time, read).await {
        Err(_) => Err(Failed::down("no answer in time")),
        Ok(Err(_)) => Err(Failed::down("the answer was cut off, or is too large")),
        Ok(Ok(body)) => Ok(body.to_bytes()),
    }
}

/// `GET /v1/models`: the word of the first gateway that answers, which nothing signs.
pub async fn models(Shared(state): Shared<Arc<State>>, request: Request<Body>) -> Response {
    let path = request.uri().path().to_owned();
    for gateway in state.pool.ready() {
        let got = async {
            let response = fetch(&state, gateway, &path, []).await?;
            whole_body(&state, response, MAX_BODY).await
        };
        match got.await {
            Ok(body) => {
                let value = serde_json::from_slice::<Value>(&body).unwrap_or_default();
                return respond(StatusCode::OK, value.to_string());
            }
            Err(Failed::Down { why, retry_after }) => gateway.is_down(&why, retry_after),
            Err(failed) => return refusal(&failed.settle(&state, gateway), ApiError::openai),
        }
    }
    refusal(&state.pool.none(), ApiError::openai)
}
