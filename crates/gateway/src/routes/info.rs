//! What a gateway says of itself.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State as Shared};
use axum::response::Response;
use hallmark_receipt::Model;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::{refusal, respond};
use crate::backend::ModelCard;
use crate::error::ApiError;
use crate::server::State;

/// The process lives.
pub async fn health() -> Response {
    respond(StatusCode::OK, json!({"status": "ok"}).to_string())
}

/// Answers can be given: there is a model, and the receipt key's certificate is in force.
pub async fn ready(Shared(state): Shared<Arc<State>>) -> Response {
    let why = if state.catalog.is_empty() && state.graphs.is_empty() {
        "no model"
    } else if !state.notary.is_ready() {
        "the receipt key's certificate is not in force"
    } else {
        let node = state.notary.node().to_string();
        return respond(StatusCode::OK, json!({"status": "ready", "node": node}).to_string());
    };
    respond(StatusCode::SERVICE_UNAVAILABLE, json!({"status": "not ready", "why": why}).to_string())
}

pub async fn models(Shared(state): Shared<Arc<State>>, headers: HeaderMap) -> Response {
    if let Err(error) = state.door.enter(&headers) {
        return refusal(&error, ApiError::openai);
    }
    let language = state.catalog.values().map(|(card, backend)| describe(card, backend.kind()));
    let data: Value = language.chain(state.graphs.values().map(|graph| graph.describe(false))).collect();
    respond(StatusCode::OK, json!({"object": "list", "data": data}).to_string())
}

pub async fn model(
    Shared(state): Shared<Arc<State>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    let found = state.door.enter(&headers).and_then(|_| match state.graphs.get(&name) {
        Some(graph) => Ok(graph.describe(true)),
        None => state.model(&name).map(|(card, backend)| describe(card, backend.kind())),
    });
    match found {
        Ok(entry) => respond(StatusCode::OK, entry.to_string()),
        Err(error) => refusal(&error, ApiError::openai),
    }
}

fn describe(card: &ModelCard, kind: &str) -> Value {
    let hallmark = match &card.model {
        Model::Id(id) => json!({"id": id.to_string()}),
        Model::Claimed { provider, name } => json!({"claimed": {"provider": provider, "name": name}}),
        _ => Value::Null,
    };
    let price = card.price.as_ref().map(|price| {
        json!({"asset": price.asset, "input": price.input, "output": price.output, "per_tokens": 1_000_000})
    });
    json!({"id": card.name, "object": "model", "created": 0, "owned_by": card.owner,
           "hallmark": {"kind": kind, "model": hallmark, "price": price}})
}

/// OpenGradient's signing key.
pub async fn signing_key(Shared(state): Shared<Arc<State>>) -> Response {
    match &state.tee {
        Some(key) => {
            let value = json!({"public_key": key.pem(), "tee_id": key.tee_id()});
            respond(StatusCode::OK, value.to_string())
        }
        None => refusal(&ApiError::NotFound, ApiError::openai),
    }
}

pub async fn metrics(Shared(state): Shared<Arc<State>>) -> Response {
    let mut response = Response::new(Body::from(state.metrics.render()));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
