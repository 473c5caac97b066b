//! From a request to an answer with its receipt, in whichever wire format.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use axum::body::Body;
use axum::extract::State as Shared;
use axum::response::Response;
use futures_util::StreamExt as _;
use hallmark_receipt::Digest;
use http::{HeaderMap, Request};
use serde_json::{Map, Value, json};
use tokio::sync::OwnedSemaphorePermit;

use super::signed::Wanted;
use super::{nonce, read_body, receipt_headers, refusal, streaming};
use crate::backend::{Answer, BackendError, ModelCard, Origin};
use crate::chat::Completed;
use crate::dialect::{Dialect, Head, Kind};
use crate::error::ApiError;
use crate::limits::Client;
use crate::notary::{Ticket, response_text};
use crate::server::State;
use crate::tee;

/// Answers a request.
pub async fn answer(Shared(state): Shared<Arc<State>>, kind: Kind, request: Request<Body>) -> Response {
    state.metrics.requests_total.fetch_add(1, Relaxed);
    let (parts, body) = request.into_parts();
    let result = match start(&state, kind, &parts.headers, body).await {
        Ok((work, answer, true)) => streaming::respond(work, answer),
        Ok((work, answer, false)) => single(work, answer, Wanted::read(&parts.headers)).await,
        Err(error) => Err(error),
    };
    result.unwrap_or_else(|error| {
        state.metrics.refused(error.status());
        // The error's text may hold a provider's words about the request; its status does not.
        tracing::debug!(status = error.status().as_u16(), "refused");
        refusal(&error, kind.error())
    })
}

/// A request that is being answered. Dropped with the response, wherever that ends.
pub struct Work {
    pub state: Arc<State>,
    pub client: Arc<Client>,
    pub card: Arc<ModelCard>,
    pub dialect: Box<dyn Dialect>,
    pub ticket: Option<Ticket>,
    pub tee_text: Option<String>,
    pub started: Instant,
    /// Where the pieces are collected.
    pub done: Completed,
    finished: bool,
    _turn: OwnedSemaphorePermit,
}

impl Drop for Work {
    fn drop(&mut self) {
        self.state.metrics.answers_running.fetch_sub(1, Relaxed);
        if !self.finished {
            self.state.metrics.broken_total.fetch_add(1, Relaxed);
        }
    }
}

async fn start(
    state: &Arc<State>,
    kind: Kind,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Work, Answer, bool), ApiError> {
    let client = state.door.enter(headers)?;
    client.admit(state.host.now())?;
    let nonce = nonce(headers)?;
    let (_, body) = read_body(&state.limits, body).await?;
    let request = kind.parse(&body)?;
    let (card, backend) = state.model(&request.model)?;
    let stream = request.stream;
    let tee_text = if state.tee.is_some() { kind.tee_text(&body) } else { None };
    let canonical = crate::json::canonical_object(&body);
    let ticket = state.notary.ticket(&canonical, nonce)?;
    let origin = Origin { request: ticket.commitment(), nonce, drawn: ticket.drawn(), dialect: kind.name() };
    let head = Head {
        id: ticket.request_id().to_string(),
        created: state.host.now() / 1000,
        model: request.model.clone(),
    };
    let dialect = kind.dialect(head, &body)?;
    let turn = state.turns.take().await?;
    state.metrics.answers_running.fetch_add(1, Relaxed);
    let work = Work {
        state: state.clone(),
        client,
        card: card.clone(),
        dialect,
        ticket: Some(ticket),
        tee_text,
        started: Instant::now(),
        done: Completed::default(),
        finished: false,
        _turn: turn,
    };
    let answer =
        tokio::time::timeout(state.limits.answer_time, backend.chat(Arc::new(request), origin)).await;
    Ok((work, answer.map_err(|_| BackendError::TimedOut)??, stream))
}

async fn single(mut work: Work, mut answer: Answer, wanted: Wanted) -> Result<Response, ApiError> {
    let headers = work.headers();
    let seal = wanted.start(&work.state.notary, work.ticket.as_ref())?;
    let collect = async {
        while let Some(delta) = answer.deltas.next().await {
            work.done.push(&delta?).map_err(|_| BackendError::Malformed { what: "an answer too large" })?;
        }
        if work.done.finish.is_none() { Err(BackendError::Cut) } else { Ok(()) }
    };
    let limit = work.state.limits.answer_time;
    tokio::time::timeout(limit, collect).await.map_err(|_| BackendError::TimedOut)??;
    let (id, trailer) = work.finish().await?;
    let mut response = seal.respond(&work.dialect.single(&work.done, &trailer), &id)?;
    response.headers_mut().extend(headers);
    Ok(response)
}

impl Work {
    /// The headers that do not wait for the answer.
    pub fn headers(&self) -> HeaderMap {
        let headers = |ticket: &Ticket| receipt_headers(ticket.capability(), ticket.request_id(), None);
        self.ticket.as_ref().map(headers).unwrap_or_default()
    }

    /// Issues and files the receipt of the collected answer; gives the claim's id and the members that tell of it.
    pub async fn finish(&mut self) -> Result<(Digest, Map<String, Value>), ApiError> {
        let ticket = self.ticket.take().ok_or(ApiError::Receipt)?;
        let (notary, card) = (self.state.notary.clone(), self.card.clone());
        let (response, usage) = (response_text(&self.done), self.done.usage);
        let replay = self.done.replay.take().map(|replay| *replay);
        let settle = move || notary.settle(ticket, &card, response, replay, usage);
        // Signing takes microseconds; a disk may take as long as it likes.
        let id = if self.state.notary.store().blocks() {
            tokio::task::spawn_blocking(settle).await.map_err(|_| ApiError::Receipt)??
        } else {
            settle()?
        };
        let mut trailer = Map::new();
        trailer.insert("hallmark".to_owned(), json!({"receipt": id.to_string()}));
        if let (Some(key), Some(request)) = (self.state.tee.clone(), self.tee_text.take()) {
            let (output, seconds) = (tee::output_text(&self.done), self.state.host.now() / 1000);
            // A third of a millisecond of work with RSA-2048, done here: more threads than cores would only delay each other.
            trailer.extend(key.fields(&request, &output, seconds).map_err(|_| ApiError::Receipt)?);
        }
        let metrics = &self.state.metrics;
        metrics.receipts_total.fetch_add(1, Relaxed);
        if let Some(usage) = usage {
            metrics.input_tokens_total.fetch_add(usage.input, Relaxed);
            metrics.output_tokens_total.fetch_add(usage.output, Relaxed);
            self.client.charge(self.state.host.now(), usage.total());
        }
        metrics.answered(self.started.elapsed());
        self.finished = true;
        Ok((id, trailer))
    }
}
