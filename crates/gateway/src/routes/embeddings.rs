//! `/v1/embeddings`: the receipt's `response` is the list of vectors as the answer has it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use axum::body::Body;
use axum::extract::State as Shared;
use axum::response::Response;
use http::Request;
use serde_json::{Value, json};

use super::signed::Wanted;
use super::{nonce, read_body, receipt_headers, refusal};
use crate::backend::BackendError;
use crate::dialect::openai;
use crate::error::ApiError;
use crate::server::State;

pub async fn embed(Shared(state): Shared<Arc<State>>, request: Request<Body>) -> Response {
    state.metrics.requests_total.fetch_add(1, Relaxed);
    answer(&state, request).await.unwrap_or_else(|error| {
        state.metrics.refused_total.fetch_add(1, Relaxed);
        refusal(&error, ApiError::openai)
    })
}

async fn answer(state: &Arc<State>, request: Request<Body>) -> Result<Response, ApiError> {
    let client = state.door.enter(request.headers())?;
    client.admit(state.host.now())?;
    let started = Instant::now();
    let (nonce, wants) = (nonce(request.headers())?, Wanted::read(request.headers()));
    let (_, body) = read_body(&state.limits, request.into_body()).await?;
    let wanted = openai::parse_embed(&body)?;
    let (card, backend) = state.model(&wanted.model)?;
    let (model, count, base64) = (wanted.model.clone(), wanted.input.len(), wanted.base64);
    let ticket = state.notary.ticket(&crate::json::canonical(&Value::Object(body)), nonce)?;
    let seal = wants.start(&state.notary, Some(&ticket))?;
    let _turn = state.turns.take().await?;
    let answer = tokio::time::timeout(state.limits.answer_time, backend.embed(Arc::new(wanted))).await;
    let answer = answer.map_err(|_| BackendError::TimedOut)??;
    if answer.vectors.len() != count {
        return Err(BackendError::Malformed { what: "another number of vectors than of texts" }.into());
    }
    let data = openai::embeddings_data(&answer.vectors, base64);
    let headers = receipt_headers(ticket.capability(), ticket.request_id(), None);
    let (notary, card, text) = (state.notary.clone(), card.clone(), crate::json::canonical(&data));
    let (usage, replay) = (answer.usage, answer.replay);
    let settle = move || notary.settle(ticket, &card, text, replay, Some(usage));
    let id = tokio::task::spawn_blocking(settle).await.map_err(|_| ApiError::Receipt)??;
    client.charge(state.host.now(), usage.total());
    state.metrics.receipts_total.fetch_add(1, Relaxed);
    state.metrics.answered(started.elapsed());
    let value = json!({"object": "list", "data": data, "model": model,
        "usage": {"prompt_tokens": usage.input, "total_tokens": usage.total()},
        "hallmark": {"receipt": id.to_string()}});
    let mut response = seal.respond(&value, &id)?;
    response.headers_mut().extend(headers);
    Ok(response)
}
