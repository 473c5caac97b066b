//! `POST /v1/verdicts`: a bundle goes in, the node's verdict comes out, in the form of `hallmark verify --json`.
//!
//! Whoever names their own request (`x-request-id` and `x-hallmark-nonce`) learns whether the bundle answers it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State as Shared;
use axum::response::Response;
use hallmark_receipt::json::{Value, object};
use hallmark_receipt::{Nonce, RequestId};
use hallmark_verdict::render;
use http::{HeaderMap, Request, StatusCode};

use super::{NONCE, REQUEST_ID, header, nonce, read_bytes, refusal, respond};
use crate::error::ApiError;
use crate::judge::judge_bundle;
use crate::server::State;

pub async fn judge(Shared(state): Shared<Arc<State>>, request: Request<Body>) -> Response {
    verdict(&state, request).await.unwrap_or_else(|error| refusal(&error, ApiError::openai))
}

async fn verdict(state: &Arc<State>, request: Request<Body>) -> Result<Response, ApiError> {
    let client = state.door.enter(request.headers())?;
    client.admit(state.host.now())?;
    let named = named(request.headers())?;
    let bundle = read_bytes(&state.limits, request.into_body(), state.limits.bundle).await?;
    // A re-run is as much work as the answer was.
    let turn = state.runs.take().await?;
    let worker = Arc::clone(state);
    let work = move || {
        let _turn = turn;
        judge_bundle(&worker, &bundle, named)
    };
    let verdict = tokio::task::spawn_blocking(work).await.map_err(|_| ApiError::Judge)?;
    let mut members = render::to_object(&verdict);
    members.insert(
        "judge".to_owned(),
        Value::Object(object([("node", state.notary.node().to_string().into())])),
    );
    Ok(respond(StatusCode::OK, Value::Object(members).canonical()))
}

/// The request that the asker made, where it names one: both headers, or neither.
fn named(headers: &HeaderMap) -> Result<Option<(RequestId, Nonce)>, ApiError> {
    let both = "a request is named by both headers, x-request-id and x-hallmark-nonce";
    match (header(headers, &REQUEST_ID), nonce(headers)?) {
        (None, None) => Ok(None),
        (Some(text), Some(nonce)) => {
            let id = text.parse::<RequestId>().map_err(|_| {
                ApiError::invalid(REQUEST_ID.as_str(), "the header x-request-id takes 32 hexadecimal digits")
            })?;
            Ok(Some((id, nonce)))
        }
        (None, Some(_)) => Err(ApiError::invalid(REQUEST_ID.as_str(), both)),
        (Some(_), None) => Err(ApiError::invalid(NONCE.as_str(), both)),
    }
}
