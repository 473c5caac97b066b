//! `/v1/embeddings`: the receipt's `response` is the list of vectors as the answer has it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use axum::body::Body;
use axum::extract::State as Shared;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Request};
use serde_json::{Value, json};

use super::signed::Wanted;
use super::{CAPABILITY, nonce, read_body, refusal};
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
    let encoded = body.get("encoding_format").and_then(Value::as_str) == Some("base64");
    let wanted = openai::parse_embed(&body)?;
    let (card, backend) = state.model(&wanted.model)?;
    let (model, count) = (wanted.model.clone(), wanted.input.len());
    let ticket = state.notary.ticket(&crate::json::canonical(&Value::Object(body)), nonce)?;
    let seal = wants.start(&state.notary, Some(&ticket))?;
    let _turn = state.turns.take().await?;
    let answer = tokio::time::timeout(state.limits.answer_time, backend.embed(Arc::new(wanted))).await;
    let answer = answer.map_err(|_| BackendError::TimedOut)??;
    if answer.vectors.len() != count {
        return Err(BackendError::Malformed { what: "another number of vectors than of texts" }.into());
    }
    let data: Value = answer
        .vectors
        .iter()
        .enumerate()
        .map(|(index, vector)| {
            let value = if encoded {
                let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
                STANDARD.encode(bytes).into()
            } else {
                json!(vector)
            };
            json!({"object": "embedding", "index": index, "embedding": value})
        })
        .collect();
    let capability = ticket.capability().to_text();
    let (notary, card, text) = (state.notary.clone(), card.clone(), crate::json::canonical(&data));
    let usage = answer.usage;
    let settle = move || notary.settle(ticket, &card, text, None, Some(usage));
    let id = tokio::task::spawn_blocking(settle).await.map_err(|_| ApiError::Receipt)??;
    client.charge(state.host.now(), usage.total());
    state.metrics.receipts_total.fetch_add(1, Relaxed);
    state.metrics.answered(started.elapsed());
    let value = json!({"object": "list", "data": data, "model": model,
        "usage": {"prompt_tokens": usage.input, "total_tokens": usage.total()},
        "hallmark": {"receipt": id.to_string()}});
    let mut response = seal.respond(&value, &id)?;
    if let Ok(value) = HeaderValue::try_from(capability) {
        response.headers_mut().insert(CAPABILITY, value);
    }
    Ok(response)
}
