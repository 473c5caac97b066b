//! `GET /v1/receipts/ID`: without a capability the redacted bundle; with the requester's, the openings too, once: for a
//! moment the same requester may fetch them again, for a connection may break while they are on their way.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Path, State as Shared};
use axum::response::Response;
use bytes::Bytes;
use hallmark_receipt::Digest;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{CAPABILITY, header, refusal};
use crate::error::ApiError;
use crate::server::State;
use crate::store::Capability;

const OPENINGS: HeaderName = HeaderName::from_static("x-hallmark-openings");

pub async fn fetch(
    Shared(state): Shared<Arc<State>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    bundle(&state, &id, &headers).await.unwrap_or_else(|error| refusal(&error, ApiError::openai))
}

async fn bundle(state: &Arc<State>, id: &str, headers: &HeaderMap) -> Result<Response, ApiError> {
    let id: Digest = id.parse().map_err(|_| ApiError::NotFound)?;
    let capability = header(headers, &CAPABILITY).map(|text| {
        Capability::parse(text).ok_or_else(|| {
            ApiError::invalid(CAPABILITY.as_str(), "the header is not what an answer's header gave")
        })
    });
    let capability = capability.transpose()?;
    if let Some(capability) = &capability
        && let Some(bundle) = state.again.find(&id, capability, Instant::now())
    {
        return Ok(written(bundle, true));
    }
    let (store, given) = (state.notary.store().clone(), capability.clone());
    let fetch = move || store.fetch(&id, given.as_ref());
    let found = if state.notary.store().blocks() {
        tokio::task::spawn_blocking(fetch).await.map_err(|_| ApiError::Receipt)?
    } else {
        fetch()
    };
    let bundle = found.map_err(|error| {
        tracing::error!(%error, "a receipt could not be read");
        ApiError::Receipt
    })?;
    let bundle = bundle.ok_or(ApiError::NotFound)?;
    let text = Bytes::from(bundle.to_json());
    let whole = bundle.inputs.is_some();
    if let Some(capability) = capability.filter(|_| whole) {
        hold(state, id, &capability, text.clone());
    }
    Ok(written(text, whole))
}

/// Holds openings that go out, for the case that they do not arrive.
fn hold(state: &Arc<State>, id: Digest, capability: &Capability, bundle: Bytes) {
    let window = state.limits.again_time;
    state.again.hold(id, capability, bundle, window, Instant::now());
    let state = Arc::downgrade(state);
    tokio::spawn(async move {
        tokio::time::sleep(window).await;
        if let Some(state) = state.upgrade() {
            state.again.tidy(Instant::now());
        }
    });
}

fn written(bundle: Bytes, whole: bool) -> Response {
    let openings = if whole { "included" } else { "withheld" };
    let mut response = Response::new(Body::from(bundle));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(OPENINGS, HeaderValue::from_static(openings));
    response
}
