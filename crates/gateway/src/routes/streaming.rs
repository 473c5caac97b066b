//! Answers in server-sent events, each signed (`stream.md`).

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::unfold;
use hallmark_receipt::stream::{DEFAULT_NAME, Signer};
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

use super::answer::Work;
use crate::backend::{Answer, BackendError};
use crate::dialect::Event;
use crate::error::ApiError;
use crate::notary::{NotaryError, SessionKey};
use crate::server::Never;

/// A silent stream says that it lives, so that nothing between gives it up.
pub const PING: Duration = Duration::from_secs(15);

/// What it says.
pub const PING_LINE: &[u8] = b": ping\n\n";

struct Streaming {
    work: Work,
    answer: Answer,
    /// Gone once the stream is over.
    signer: Option<Signer<SessionKey>>,
    /// Only before the first event.
    preamble: Option<String>,
}

/// Starts the stream.
pub fn respond(work: Work, answer: Answer) -> Result<Response, ApiError> {
    let ticket = work.ticket.as_ref().ok_or(ApiError::Receipt)?;
    let (signer, preamble) = work.state.notary.stream(ticket)?;
    let headers = work.headers();
    let preamble = Some(preamble.to_line());
    let streaming = Streaming { work, answer, signer: Some(signer), preamble };
    let body = unfold(streaming, |mut streaming| async move {
        let bytes = streaming.next().await?;
        Some((Ok::<_, Never>(bytes), streaming))
    });
    let mut response = of_events(Body::from_stream(body));
    response.headers_mut().extend(headers);
    Ok(response)
}

/// An answer whose body is a stream of events.
pub fn of_events(body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

impl Streaming {
    /// The next bytes to send; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        self.signer.as_ref()?;
        let mut out = String::new();
        if let Some(preamble) = self.preamble.take() {
            out = preamble;
            let events = self.work.dialect.open();
            return Some(self.write(out, events));
        }
        loop {
            let left = self.work.state.limits.answer_time.checked_sub(self.work.started.elapsed());
            let Some(left) = left else { return Some(self.fail(out, BackendError::TimedOut.into())) };
            let delta = match tokio::time::timeout(left.min(PING), self.answer.deltas.next()).await {
                Err(_) => return Some(Bytes::from_static(PING_LINE)),
                Ok(None) if self.work.done.finish.is_none() => {
                    return Some(self.fail(out, BackendError::Cut.into()));
                }
                Ok(None) => return Some(self.close().await),
                Ok(Some(Err(error))) => return Some(self.fail(out, error.into())),
                Ok(Some(Ok(delta))) => delta,
            };
            if self.work.done.push(&delta).is_err() {
                let error = BackendError::Malformed { what: "an answer too large" };
                return Some(self.fail(out, error.into()));
            }
            let events = self.work.dialect.delta(&delta);
            if !events.is_empty() {
                return Some(self.write(std::mem::take(&mut out), events));
            }
        }
    }

    fn write(&mut self, mut out: String, events: Vec<Event>) -> Bytes {
        for event in &events {
            if let Err(error) = self.sign(&mut out, event) {
                return self.fail(out, error);
            }
        }
        out.into()
    }

    fn sign(&mut self, out: &mut String, event: &Event) -> Result<(), ApiError> {
        let signer = self.signer.as_mut().ok_or(ApiError::Receipt)?;
        let name = event.name.unwrap_or(DEFAULT_NAME);
        out.push_str(&signer.event(name, &event.data).map_err(NotaryError::from)?);
        event.write(out);
        self.work.state.metrics.stream_events_total.fetch_add(1, Relaxed);
        Ok(())
    }

    /// Issues the receipt and sends the last events; the last of them carries the seal.
    async fn close(&mut self) -> Bytes {
        let (id, trailer) = match self.work.finish().await {
            Ok(finished) => finished,
            Err(error) => return self.fail(String::new(), error),
        };
        let mut events = self.work.dialect.close(&self.work.done, &trailer);
        let last = events.pop();
        let mut out = String::new();
        for event in &events {
            if let Err(error) = self.sign(&mut out, event) {
                return self.fail(out, error);
            }
        }
        if let (Some(signer), Some(last)) = (self.signer.take(), last) {
            match signer.seal(last.name.unwrap_or(DEFAULT_NAME), &last.data, &id) {
                Ok(line) => out.push_str(&line),
                Err(error) => tracing::error!(%error, "a stream was not sealed"),
            }
            last.write(&mut out);
        }
        out.into()
    }

    /// Says what went wrong, signed if that is still possible, and ends the stream without a seal.
    fn fail(&mut self, mut out: String, error: ApiError) -> Bytes {
        self.work.state.metrics.failed_total.fetch_add(1, Relaxed);
        let event = self.work.dialect.failure(&error);
        if let Some(mut signer) = self.signer.take()
            && let Ok(line) = signer.event(event.name.unwrap_or(DEFAULT_NAME), &event.data)
        {
            out.push_str(&line);
        }
        event.write(&mut out);
        out.into()
    }
}
