//! A stream on its way to the client, event by event.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::unfold;
use hallmark_receipt::Nonce;
use hallmark_receipt::stream::{DEFAULT_NAME, Event, Reader, StreamError};
use http::HeaderValue;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::{Map, Value};

use super::ask::{Call, not_revoked};
use super::check::{self, Expected};
use super::pool::{Failed, Pinned};
use super::{OwnCopy, State};
use crate::chat::{Completed, Delta};
use crate::dialect::{Dialect, Head, Kind, write_event};
use crate::error::ApiError;
use crate::providers;
use crate::routes::CAPABILITY;
use crate::routes::streaming::{PING, PING_LINE, of_events};
use crate::server::Never;

/// A gateway says every 15 seconds that it lives; so many of these times may pass.
const SILENT: u32 = 4;
/// The most bytes that are held back.
const MAX_HELD: usize = 40 << 20;

/// The writer of the format's error event.
pub fn dialect(kind: Kind, body: &Map<String, Value>) -> Result<Box<dyn Dialect>, ApiError> {
    let head = Head { id: String::new(), created: 0, model: String::new() };
    kind.dialect(head, body)
}

pub struct Relay {
    state: Arc<State>,
    gateway: Arc<Pinned>,
    dialect: Box<dyn Dialect>,
    /// Reads from the events what the answer is.
    told: Box<dyn providers::Reader>,
    done: Completed,
    body: Incoming,
    reader: Reader,
    capability: Option<HeaderValue>,
    nonce: Nonce,
    request: String,
    copy: Option<Arc<OwnCopy>>,
    /// From the first event that tells the end on: handed out once the receipt is accepted.
    held: String,
    /// After the seal: the receipt on its way, which decides whether `held` is handed out.
    ending: Option<BoxFuture<'static, Result<(), Failed>>>,
    /// What ends the stream after what was good.
    failed: Option<Failed>,
    started: Instant,
    over: bool,
}

impl Relay {
    pub fn new(
        state: Arc<State>,
        gateway: Arc<Pinned>,
        (kind, dialect): (Kind, Box<dyn Dialect>),
        call: &Call,
        nonce: Nonce,
        reader: Reader,
        response: http::Response<Incoming>,
    ) -> Self {
        let capability = response.headers().get(CAPABILITY).cloned();
        Self {
            state,
            gateway,
            dialect,
            told: kind.reader(),
            done: Completed::default(),
            body: response.into_body(),
            reader,
            capability,
            nonce,
            request: call.canonical.clone(),
            copy: call.copy.clone(),
            held: String::new(),
            ending: None,
            failed: None,
            started: Instant::now(),
            over: false,
        }
    }

    /// Waits for the first verified event, so that until then another gateway can be asked.
    pub async fn start(mut self) -> Result<Response, Failed> {
        let first = loop {
            match self.next().await? {
                Some(text) => break text,
                // Nothing was handed out that could be kept alive.
                None => continue,
            }
        };
        let state = (Some(Bytes::from(first)), self);
        let body = unfold(state, |(first, mut relay)| async move {
            let bytes = match first {
                Some(first) => first,
                None => relay.bytes().await?,
            };
            Some((Ok::<_, Never>(bytes), (None, relay)))
        });
        Ok(of_events(Body::from_stream(body)))
    }

    async fn bytes(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        match self.next().await {
            Ok(Some(text)) => Some(text.into()),
            Ok(None) => Some(Bytes::from_static(PING_LINE)),
            Err(failed) => {
                self.over = true;
                let error = failed.settle(&self.state, &self.gateway);
                let mut out = String::new();
                self.dialect.failure(&error).write(&mut out);
                Some(out.into())
            }
        }
    }

    /// The next events; `None` to say that the stream lives.
    async fn next(&mut self) -> Result<Option<String>, Failed> {
        if let Some(failed) = self.failed.take() {
            return Err(failed);
        }
        let mut silent = 0;
        loop {
            if let Some(ending) = &mut self.ending {
                // A re-run may take as long as the answer did.
                let Ok(result) = tokio::time::timeout(PING, ending).await else { return Ok(None) };
                result?;
                self.over = true;
                return Ok(Some(std::mem::take(&mut self.held)));
            }
            if self.started.elapsed() > self.state.limits.answer_time || silent >= SILENT {
                return Err(Failed::down("no answer in time"));
            }
            let frame = match tokio::time::timeout(PING, self.body.frame()).await {
                Err(_) => {
                    silent += 1;
                    continue;
                }
                Ok(None) => return Err(Failed::down("the stream ended without a seal")),
                Ok(Some(Err(_))) => return Err(Failed::down("the stream was cut off")),
                Ok(Some(Ok(frame))) => frame,
            };
            let Ok(bytes) = frame.into_data() else { continue };
            let mut out = String::new();
            match self.take(&bytes, &mut out) {
                Err(failed) if out.is_empty() => return Err(failed),
                Err(failed) => self.failed = Some(failed),
                Ok(()) => self.ending = self.reader.sealed().map(|claim| self.end(claim)),
            }
            if !out.is_empty() {
                return Ok(Some(out));
            }
            if bytes.as_ref() == PING_LINE {
                return Ok(None);
            }
        }
    }

    /// Verifies what came; adds to `out` what may be handed out at once.
    fn take(&mut self, bytes: &[u8], out: &mut String) -> Result<(), Failed> {
        let before = self.reader.signer().is_some();
        let mut events = Vec::new();
        let result = self.reader.feed(bytes, &mut events);
        if let Some(signer) = self.reader.signer()
            && !before
        {
            not_revoked(&self.state, signer)?;
        }
        let count = events.len();
        for (index, event) in events.iter().enumerate() {
            let is_last = self.reader.sealed().is_some() && index + 1 == count;
            self.event(event, is_last, out)?;
        }
        result.map_err(|error| match error {
            StreamError::Cut { .. } => Failed::down(error.to_string()),
            error => Failed::False(error.to_string()),
        })
    }

    fn event(&mut self, event: &Event, is_last: bool, out: &mut String) -> Result<(), Failed> {
        // The gateway's own word that it failed, or what is not of the format.
        let deltas = self.told.event(&event.data).map_err(|error| Failed::down(error.to_string()))?;
        for delta in &deltas {
            self.done.push(delta).map_err(|error| Failed::False(error.to_string()))?;
        }
        let is_held =
            is_last || !self.held.is_empty() || deltas.iter().any(|d| matches!(d, Delta::Finish(_)));
        let to = if is_held { &mut self.held } else { out };
        write_event(to, (event.name != DEFAULT_NAME).then_some(&event.name), &event.data);
        if self.held.len() > MAX_HELD {
            return Err(Failed::False("an end that is too long".to_owned()));
        }
        Ok(())
    }

    /// The check of the receipt that the seal names.
    fn end(&mut self, claim: hallmark_receipt::Digest) -> BoxFuture<'static, Result<(), Failed>> {
        let expected = Expected {
            claim,
            nonce: self.nonce,
            request: std::mem::take(&mut self.request),
            response: self.done.message(),
            loose: false,
            copy: self.copy.take(),
        };
        let (state, gateway) = (self.state.clone(), self.gateway.clone());
        let capability = self.capability.take();
        Box::pin(async move { check::receipt(&state, &gateway, capability, expected).await })
    }
}
