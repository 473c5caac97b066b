//! `POST /v1/infer`: `{"model": NAME, "inputs": {NAME: tensor}}`. The receipt is the one that `hallmark infer` gives.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::State as Shared;
use axum::response::Response;
use http::{Request, StatusCode};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::{nonce, read_bytes, receipt_headers, refusal, respond, syntax};
use crate::backend::BackendError;
use crate::error::ApiError;
use crate::graph::{GraphModel, Named};
use crate::notary::Settled;
use crate::server::State;
use crate::tensors::{self, json as tensor_json};

/// A request's members. Numbers are read from their text straight into the element type, so the text stays as it came.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked<'a> {
    model: String,
    #[serde(borrow)]
    inputs: &'a RawValue,
}

pub async fn infer(Shared(state): Shared<Arc<State>>, request: Request<Body>) -> Response {
    state.metrics.requests_total.fetch_add(1, Relaxed);
    answer(&state, request).await.unwrap_or_else(|error| {
        state.metrics.refused(error.status());
        refusal(&error, ApiError::openai)
    })
}

async fn answer(state: &Arc<State>, request: Request<Body>) -> Result<Response, ApiError> {
    let client = state.door.enter(request.headers())?;
    client.admit(state.host.now())?;
    let nonce = nonce(request.headers())?;
    let body = read_bytes(&state.limits, request.into_body(), state.limits.body).await?;
    let asked: Asked<'_> = serde_json::from_slice(&body).map_err(|error| {
        if error.is_data() {
            let message = "the body must be {\"model\": NAME, \"inputs\": {NAME: tensor}} and nothing else";
            return ApiError::Invalid { param: None, message: message.to_owned() };
        }
        syntax(&error)
    })?;
    let graph = Arc::clone(state.graph(&asked.model)?);
    let inputs = asked.inputs.get().to_owned();
    let turn = state.runs.take().await?;
    let started = Instant::now();
    let worker = Arc::clone(state);
    // The thread keeps its turn to the end, even when nobody waits for it any more: what is running is what is counted.
    let work = move || {
        let _turn = turn;
        let (outputs, time, replay) = compute(&graph, &inputs)?;
        let settled = worker.notary.settle_run(graph.id(), nonce, replay)?;
        Ok::<_, ApiError>((graph, outputs, time, settled))
    };
    let done = tokio::time::timeout(state.limits.answer_time, tokio::task::spawn_blocking(work)).await;
    let done = done.map_err(|_| BackendError::TimedOut)?;
    let (graph, outputs, time, settled) = done.map_err(|_| ApiError::Receipt)??;
    state.metrics.receipts_total.fetch_add(1, Relaxed);
    state.metrics.answered(started.elapsed());
    Ok(written(&graph, &outputs, time, &settled, state.host.now()))
}

/// Reads the inputs, runs the model, and gives outputs, time and what the claim needs.
fn compute(graph: &GraphModel, inputs: &str) -> Result<(Named, Duration, crate::backend::Replay), ApiError> {
    let read = tensors::read(inputs.as_bytes(), graph.inputs(), u64::MAX);
    let inputs = read.map_err(|error| ApiError::inputs(&error, graph.name()))?;
    let started = Instant::now();
    let outputs = graph.run(&inputs).map_err(|error| ApiError::Run {
        local: error.is_local(),
        why: error.to_string().chars().take(1024).collect(),
    })?;
    let time = started.elapsed();
    let replay = graph.claimed(inputs, outputs.clone());
    Ok((outputs, time, replay))
}

fn written(graph: &GraphModel, outputs: &Named, time: Duration, settled: &Settled, now: u64) -> Response {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let value = json!({"id": settled.request_id.to_string(), "object": "inference", "created": now / 1000,
        "model": graph.name(), "outputs": tensor_json::write_all(outputs),
        "usage": {"run_microseconds": micros}, "hallmark": {"receipt": settled.id.to_string()}});
    let mut response = respond(StatusCode::OK, value.to_string());
    let headers = receipt_headers(&settled.capability, settled.request_id, Some(&settled.id));
    response.headers_mut().extend(headers);
    response
}
