//! Addresses.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State as Shared};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use hallmark_receipt::{Digest, Nonce, RequestId};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Map, Value};

use crate::dialect::Kind;
use crate::error::ApiError;
use crate::limits::Limits;
use crate::server::State;
use crate::site::Site;
use crate::store::Capability;

mod answer;
mod embeddings;
mod infer;
mod info;
mod openapi;
mod page;
mod receipts;
mod signed;
pub(crate) mod streaming;
mod verdicts;

/// A receipt's id.
pub const RECEIPT: HeaderName = HeaderName::from_static("x-hallmark-receipt");
/// What fetches a receipt's openings.
pub const CAPABILITY: HeaderName = HeaderName::from_static("x-hallmark-capability");
/// The requester's own nonce: 64 hexadecimal digits.
pub const NONCE: HeaderName = HeaderName::from_static("x-hallmark-nonce");
/// `whole` asks that an answer which is not streamed be signed to its last byte (`stream.md` §6).
pub const SIGN: HeaderName = HeaderName::from_static("x-hallmark-sign");
/// The preamble of an answer signed so.
pub const STREAM: HeaderName = HeaderName::from_static("x-hallmark-stream");
/// The seal of an answer signed so.
pub const SEAL: HeaderName = HeaderName::from_static("x-hallmark-seal");
/// The request's id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The routes of a node that answers to the names of `site`.
pub fn router(state: Arc<State>, site: Site) -> Router {
    let site = Arc::new(site);
    let answers = |kind: Kind| post(move |state, request| answer::answer(state, kind, request));
    Router::new()
        .route("/", get(page::html))
        .route("/page.js", get(page::script))
        .route("/page.css", get(page::style))
        .route("/v1/chat/completions", answers(Kind::Chat))
        .route("/v1/completions", answers(Kind::Completions))
        .route("/v1/responses", answers(Kind::Responses))
        .route("/v1/messages", answers(Kind::Messages))
        .route("/v1/embeddings", post(embeddings::embed))
        .route("/v1/infer", post(infer::infer))
        .route("/v1/verdicts", post(verdicts::judge))
        .route("/v1/models", get(info::models))
        .route("/v1/models/{*name}", get(info::model))
        .route("/v1/receipts/{id}", get(receipts::fetch))
        .route("/signing-key", get(info::signing_key))
        .route("/health", get(info::health))
        .route("/ready", get(info::ready))
        .route("/metrics", get(info::metrics))
        .route("/openapi.json", get(openapi::document))
        .fallback(|| async { refusal(&ApiError::NotFound, ApiError::openai) })
        .method_not_allowed_fallback(|| async { refusal(&ApiError::Method, ApiError::openai) })
        .layer(middleware::from_fn_with_state(site, guard))
        .with_state(state)
}

/// Before anything else: is the node meant, and may this page ask?
async fn guard(Shared(site): Shared<Arc<Site>>, request: Request, next: Next) -> Response {
    match site.check(request.method(), request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => refusal(&error, ApiError::openai),
    }
}

/// A JSON answer.
pub(crate) fn respond(status: StatusCode, json: String) -> Response {
    let mut response = Response::new(Body::from(json));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The headers that name an answer's request and receipt (where it is issued already), and open it.
fn receipt_headers(capability: &Capability, request_id: RequestId, receipt: Option<&Digest>) -> HeaderMap {
    let texts = [
        (CAPABILITY, Some(capability.to_text())),
        (REQUEST_ID, Some(request_id.to_string())),
        (RECEIPT, receipt.map(Digest::to_string)),
    ];
    let header = |(name, text): (HeaderName, Option<String>)| {
        let mut value = HeaderValue::try_from(text?).ok()?;
        value.set_sensitive(name == CAPABILITY);
        Some((name, value))
    };
    texts.into_iter().filter_map(header).collect()
}

/// A refusal, in the form that `write` gives it.
pub(crate) fn refusal(error: &ApiError, write: fn(&ApiError) -> Value) -> Response {
    let mut response = respond(error.status(), write(error).to_string());
    if let Some(seconds) = error.retry_after() {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

/// A request's body: at most `limit` bytes, in time.
pub(crate) async fn read_bytes(limits: &Limits, body: Body, limit: usize) -> Result<Bytes, ApiError> {
    let read = axum::body::to_bytes(body, limit);
    match tokio::time::timeout(limits.body_time, read).await {
        Err(_) => Err(ApiError::BodyTimeOut),
        Ok(Ok(bytes)) => Ok(bytes),
        // Too long, or the client went away, to whom it does not matter.
        Ok(Err(_)) => Err(ApiError::BodyTooLarge { limit }),
    }
}

/// A request's body that is a JSON object, and as it came.
pub(crate) async fn read_body(limits: &Limits, body: Body) -> Result<(Bytes, Map<String, Value>), ApiError> {
    let bytes = read_bytes(limits, body, limits.body).await?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(members)) => Ok((bytes, members)),
        Ok(_) => Err(ApiError::Invalid { param: None, message: "the body must be a JSON object".to_owned() }),
        Err(error) => Err(syntax(&error)),
    }
}

/// Where a body stops being JSON.
fn syntax(error: &serde_json::Error) -> ApiError {
    let (line, column) = (error.line(), error.column());
    ApiError::Invalid { param: None, message: format!("the body is not JSON (line {line}, column {column})") }
}

/// The requester's nonce, where it sent one.
fn nonce(headers: &HeaderMap) -> Result<Option<Nonce>, ApiError> {
    let Some(text) = header(headers, &NONCE) else { return Ok(None) };
    let wrong =
        |_| ApiError::invalid(NONCE.as_str(), "the header x-hallmark-nonce takes 64 hexadecimal digits");
    text.parse().map(Some).map_err(wrong)
}

/// A header's text, if it has one.
pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
