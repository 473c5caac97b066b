//! HTTP to providers: pooled connections, time-outs, bounded answers, and a budget for second attempts.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde_json::Value;

use super::Outgoing;
use crate::backend::BackendError;
use crate::sse::{self, Parser};

/// The most bytes of a whole answer.
const MAX_BODY: usize = 32 << 20;
/// The most bytes of a refusal that are read, and of its message that are passed on.
const MAX_REFUSAL: usize = 64 << 10;
const MAX_MESSAGE: usize = 1024;

/// How long a provider may take, and how often it is asked again.
#[derive(Clone, Debug)]
pub struct Patience {
    /// To connect.
    pub connect: Duration,
    /// Until the first byte of the answer.
    pub first_byte: Duration,
    /// Between bytes of the answer.
    pub between: Duration,
    /// The most attempts for one request; only what failed before the first byte of an answer is tried again.
    pub attempts: u32,
    /// The pause before the second attempt; doubles with each.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(120),
            between: Duration::from_secs(120),
            attempts: 3,
            pause: Duration::from_millis(100),
        }
    }
}

/// Pooled connections, over TLS where the URL says so. Each thread has a pool of its own, as it has the requests that wait for answers.
pub struct Connections {
    /// Tells this from others of the process.
    id: usize,
    https: HttpsConnector<HttpConnector>,
}

type Pool = legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

thread_local! {
    static POOLS: RefCell<HashMap<usize, Pool>> = RefCell::default();
}

/// Connections that trust the system's root certificates for `https:` URLs, and give up on connecting after `connect`.
pub fn connections(connect: Duration) -> Result<Connections, NoRoots> {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(connect));
    let https = HttpsConnectorBuilder::new()
        .with_native_roots()
        .map_err(|_| NoRoots)?
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    Ok(Connections { id: MADE.fetch_add(1, Relaxed), https })
}

impl Connections {
    /// Sends a request.
    pub fn request(&self, request: Request<Full<Bytes>>) -> legacy::ResponseFuture {
        let make = || {
            legacy::Client::builder(TokioExecutor::new())
                .pool_idle_timeout(Duration::from_secs(30))
                .pool_timer(TokioTimer::new())
                .build(self.https.clone())
        };
        POOLS.with_borrow_mut(|pools| pools.entry(self.id).or_insert_with(make).request(request))
    }
}

/// Connections to providers.
pub struct Client {
    http: Connections,
    patience: Patience,
    budget: Budget,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({:?})", self.patience)
    }
}

/// The system has no root certificates to check providers by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system's root certificates cannot be read")]
pub struct NoRoots;

impl Client {
    /// A client that trusts the system's root certificates for `https:` URLs.
    pub fn new(patience: Patience) -> Result<Self, NoRoots> {
        Ok(Self { http: connections(patience.connect)?, patience, budget: Budget::default() })
    }

    /// Posts; gives the answer once its head says that it is one.
    pub async fn post(&self, base_url: &str, outgoing: Outgoing) -> Result<Response, BackendError> {
        let bytes = Bytes::from(crate::json::text(&outgoing.body));
        let url = format!("{base_url}{}", outgoing.path);
        self.budget.earn();
        let mut pause = self.patience.pause;
        let mut attempt = 1;
        loop {
            let mut request = Request::builder()
                .method(Method::POST)
                .uri(&url)
                .header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            for (name, value) in &outgoing.headers {
                request = request.header(name, value);
            }
            let request = request
                .body(Full::new(bytes.clone()))
                .map_err(|_| BackendError::Unsupported { what: "a model of this name" })?;
            let failure = match self.once(request).await {
                Ok(response) => return Ok(response),
                Err(failure) => failure,
            };
            let again = failure.again && attempt < self.patience.attempts && self.budget.spend();
            if !again {
                return Err(failure.error);
            }
            let wait = match failure.error {
                // A provider that wants a long pause is left alone: the requester is told instead.
                BackendError::Busy { retry_after: Some(wait) } if wait > Duration::from_secs(2) => {
                    return Err(failure.error);
                }
                BackendError::Busy { retry_after: Some(wait) } => wait,
                _ => pause,
            };
            tokio::time::sleep(wait).await;
            pause = pause.saturating_mul(2);
            attempt += 1;
        }
    }

    async fn once(&self, request: Request<Full<Bytes>>) -> Result<Response, Failure> {
        let sent = tokio::time::timeout(self.patience.first_byte, self.http.request(request)).await;
        let response = match sent {
            Err(_) => return Err(Failure { error: BackendError::TimedOut, again: false }),
            Ok(Err(error)) => {
                // Once the request was sent, somebody may be answering it: only a failed connection is tried again.
                let again = error.is_connect();
                let why = if again { "no connection" } else { "the connection broke" };
                return Err(Failure { error: BackendError::Unavailable { why }, again });
            }
            Ok(Ok(response)) => response,
        };
        let status = response.status();
        if status.is_success() {
            return Ok(Response { body: response.into_body(), between: self.patience.between });
        }
        let retry_after = retry_after(response.headers());
        match status.as_u16() {
            429 | 503 | 529 => Err(Failure { error: BackendError::Busy { retry_after }, again: true }),
            502 | 504 => Err(Failure {
                error: BackendError::Unavailable { why: "its own server is down" },
                again: true,
            }),
            _ if status.is_client_error() => {
                let message = message(response.into_body(), self.patience.between).await;
                let error = BackendError::Refused { status: status.as_u16(), message };
                Err(Failure { error, again: false })
            }
            _ => Err(Failure { error: failed(status), again: false }),
        }
    }
}

/// When a refusal says to come again.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    text.and_then(|text| text.parse().ok()).map(Duration::from_secs)
}

/// The `error.message` of a refusal, cut at 1 KiB.
pub async fn message(body: Incoming, patience: Duration) -> String {
    let read = Limited::new(body, MAX_REFUSAL).collect();
    let bytes = match tokio::time::timeout(patience, read).await {
        Ok(Ok(body)) => body.to_bytes(),
        _ => return "no reason given".to_owned(),
    };
    let value: Option<Value> = serde_json::from_slice(&bytes).ok();
    let message = value
        .as_ref()
        .and_then(|value| value.get("error"))
        .and_then(|error| error.get("message").and_then(Value::as_str).or_else(|| error.as_str()));
    let text = message.unwrap_or("no reason given");
    let end = (0..=text.len().min(MAX_MESSAGE)).rev().find(|at| text.is_char_boundary(*at));
    text.split_at(end.unwrap_or(0)).0.to_owned()
}

fn failed(status: StatusCode) -> BackendError {
    let why = if status.is_server_error() { "it failed" } else { "it answered with another status than 200" };
    BackendError::Unavailable { why }
}

struct Failure {
    error: BackendError,
    again: bool,
}

/// A started answer.
pub struct Response {
    body: Incoming,
    between: Duration,
}

impl Response {
    /// The whole answer as JSON.
    pub async fn json(self) -> Result<Value, BackendError> {
        let read = Limited::new(self.body, MAX_BODY).collect();
        let bytes = match tokio::time::timeout(self.between, read).await {
            Err(_) => return Err(BackendError::TimedOut),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
                return Err(BackendError::Malformed { what: "an answer too large" });
            }
            Ok(Err(_)) => return Err(BackendError::Cut),
            Ok(Ok(body)) => body.to_bytes(),
        };
        serde_json::from_slice(&bytes)
            .map_err(|_| BackendError::Malformed { what: "an answer that is not JSON" })
    }

    /// The answer as events.
    pub fn events(self) -> Events {
        Events { response: Some(self), parser: Parser::default(), ready: Vec::new().into_iter() }
    }
}

/// The data of events as they come.
pub struct Events {
    /// Gone once it has ended.
    response: Option<Response>,
    parser: Parser,
    ready: std::vec::IntoIter<sse::Event>,
}

impl Events {
    /// The next event's data; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<String>, BackendError> {
        let malformed = |_| BackendError::Malformed { what: "a stream that is not of events" };
        loop {
            if let Some((_, data)) = self.ready.next() {
                return Ok(Some(data));
            }
            let Some(response) = &mut self.response else { return Ok(None) };
            let frame = match tokio::time::timeout(response.between, response.body.frame()).await {
                Err(_) => return Err(BackendError::TimedOut),
                Ok(Some(Err(_))) => return Err(BackendError::Cut),
                Ok(Some(Ok(frame))) => frame,
                Ok(None) => {
                    self.response = None;
                    let rest = std::mem::take(&mut self.parser).finish().map_err(malformed)?;
                    return Ok(rest.map(|(_, data)| data));
                }
            };
            if let Ok(bytes) = frame.into_data() {
                self.ready = self.parser.feed(&bytes).map_err(malformed)?.into_iter();
            }
        }
    }
}

/// Second attempts in proportion to requests: when a provider is down, they do not double its load. In tenths of an attempt.
#[derive(Debug)]
pub struct Budget(AtomicU64);

const ATTEMPT: u64 = 10;
const EARNED: u64 = 2;
const MOST: u64 = 100 * ATTEMPT;

impl Default for Budget {
    fn default() -> Self {
        Self(AtomicU64::new(10 * ATTEMPT))
    }
}

impl Budget {
    /// Counts a request.
    pub fn earn(&self) {
        let _ = self.0.fetch_update(Relaxed, Relaxed, |left| Some((left + EARNED).min(MOST)));
    }

    /// Takes a second attempt, if there is one.
    pub fn spend(&self) -> bool {
        self.0.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(ATTEMPT)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_attempts_are_bounded() {
        let budget = Budget::default();
        assert_eq!((0..20).filter(|_| budget.spend()).count(), 10);
        (0..10).for_each(|_| budget.earn());
        assert_eq!((0..20).filter(|_| budget.spend()).count(), 2);
    }
}
