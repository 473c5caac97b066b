//! HTTP to the makers' services: every wait and every length is bounded, and failures that may pass are tried again, not for long.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hallmark_attestation::collateral::ContentError;
use hallmark_receipt::time::when;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, Method, Request, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// What services are told about who asks: no more.
const AGENT: &str = concat!("hallmark/", env!("CARGO_PKG_VERSION"));
/// The most bytes of an answer's head.
const MAX_HEAD: usize = 64 << 10;

/// How long a service may take, and how often it is asked again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patience {
    /// To connect, without TLS.
    pub connect: Duration,
    /// Until the head of the answer is there, connecting included.
    pub head: Duration,
    /// Between bytes of the body.
    pub between: Duration,
    /// For all of the body.
    pub body: Duration,
    /// The most attempts for one thing.
    pub attempts: u32,
    /// The pause before the second attempt; it doubles with each, and up to half of it is left to chance.
    pub pause: Duration,
    /// The longest pause, also where a service asks for one (`Retry-After`): one that asks for more is not tried again.
    pub longest_pause: Duration,
    /// For everything that one piece of evidence needs.
    pub whole: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            head: Duration::from_secs(15),
            between: Duration::from_secs(10),
            body: Duration::from_secs(30),
            attempts: 4,
            pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(20),
            whole: Duration::from_secs(120),
        }
    }
}

/// What a service did not give, and why.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{what}: no use of {host}{path} after {attempts} attempts: {cause}")]
pub struct FetchError {
    /// What was asked for.
    pub what: String,
    /// The host, with its port where it has one.
    pub host: String,
    /// The path, without the query.
    pub path: String,
    /// How often it was asked.
    pub attempts: u32,
    /// Why, the last time.
    #[source]
    pub cause: FetchCause,
}

/// Why one attempt failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FetchCause {
    /// A URL that is none, or whose scheme is neither http nor https.
    #[error("not a URL that can be asked")]
    Url,
    /// A host that a certificate names and the configuration does not.
    #[error("a certificate names this host, which is not among those allowed")]
    HostNotAllowed,
    /// No connection.
    #[error("no connection: {why}")]
    Connect {
        /// What the system says.
        why: String,
    },
    /// The head of the answer did not come in time.
    #[error("no answer within {} ms", .after.as_millis())]
    NoAnswer {
        /// How long it was waited for.
        after: Duration,
    },
    /// The body stopped, or took too long.
    #[error("the answer stalled: it is not there within {} ms", .after.as_millis())]
    Stalled {
        /// How long it was waited for.
        after: Duration,
    },
    /// The connection broke.
    #[error("the connection broke: {why}")]
    Cut {
        /// What the system says.
        why: String,
    },
    /// More bytes than such a thing has.
    #[error("the answer is longer than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// It sends elsewhere; that is not followed.
    #[error("it redirects (status {status})")]
    Redirect {
        /// The status.
        status: u16,
    },
    /// It wants to be left alone for a while.
    #[error("it is busy (status {status}{})", .retry_after.map_or_else(String::new, |wait| format!(", for {} s", wait.as_secs())))]
    Busy {
        /// The status.
        status: u16,
        /// For how long.
        retry_after: Option<Duration>,
    },
    /// Another status than 200.
    #[error("status {status}")]
    Status {
        /// The status.
        status: u16,
    },
    /// The certificates of a signer in a header that cannot be read.
    #[error("the header `{name}` does not hold certificates")]
    Header {
        /// The header.
        name: &'static str,
    },
    /// What came is not what was asked for.
    #[error("the answer is of no use: {0}")]
    Content(#[from] ContentError),
    /// Something older than what is kept, which may be there to hide what came since.
    #[error("it gives what was issued at {}, older than what is kept, of {}", when(*got), when(*kept))]
    Older {
        /// When what is kept was issued, in seconds since 1970.
        kept: u64,
        /// When what came was.
        got: u64,
    },
    /// The time for everything is over.
    #[error("the time for everything is over")]
    Deadline,
}

impl FetchCause {
    /// Whether it may be otherwise the next time.
    fn may_pass(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::NoAnswer { .. }
            | Self::Stalled { .. }
            | Self::Cut { .. }
            | Self::Busy { .. } => true,
            Self::Status { status } => *status >= 500,
            _ => false,
        }
    }
}

impl FetchError {
    /// What can be done about it.
    pub fn hint(&self) -> &'static str {
        match &self.cause {
            FetchCause::Url => "correct the source's URL",
            FetchCause::HostNotAllowed => {
                "do not ask for this evidence; if the host is its maker's, add it to the allowed ones"
            }
            FetchCause::Connect { .. } | FetchCause::NoAnswer { .. } | FetchCause::Stalled { .. } => {
                "check the network, or name a nearer source; a snapshot made elsewhere works too"
            }
            FetchCause::Cut { .. } | FetchCause::Busy { .. } | FetchCause::Deadline => "try again later",
            FetchCause::Redirect { .. } => "name the URL that it redirects to, if you trust it",
            FetchCause::Status { status: 404 } => {
                "the maker does not know this platform, or the source's URL is wrong"
            }
            FetchCause::Status { status } if *status >= 500 => "try again later",
            FetchCause::Older { .. } => "wait, or name another source: this one is behind",
            FetchCause::Content(ContentError::Expired { .. } | ContentError::NotYet { .. }) => {
                "check the clock; if it is right, the source serves old things: name another"
            }
            FetchCause::Status { .. }
            | FetchCause::TooLarge { .. }
            | FetchCause::Header { .. }
            | FetchCause::Content(_) => "check that the source's URL is that of such a service",
        }
    }
}

/// The system has no root certificates to check services by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system's root certificates cannot be read")]
pub struct NoRoots;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub url: Uri,
    /// What is posted, and its type; without, it is got.
    pub body: Option<(Bytes, &'static str)>,
    /// The most bytes of the answer.
    pub most: usize,
}

/// A whole answer.
pub(super) struct Answer {
    pub headers: HeaderMap,
    pub body: Bytes,
}

type Connections = legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Connections to services.
pub(super) struct Client {
    http: Connections,
    patience: Patience,
}

impl Client {
    /// A client that trusts the system's root certificates for `https:` URLs.
    pub fn new(patience: Patience) -> Result<Self, NoRoots> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(patience.connect));
        let https = HttpsConnectorBuilder::new()
            .with_native_roots()
            .map_err(|_| NoRoots)?
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_timer(TokioTimer::new())
            .http1_max_buf_size(MAX_HEAD)
            .build(https);
        Ok(Self { http, patience })
    }

    /// When all that is asked for from now on must be there.
    pub fn deadline(&self) -> Instant {
        let now = Instant::now();
        now.checked_add(self.patience.whole).unwrap_or(now)
    }

    /// Asks, and asks again. Gives how often it did, too.
    pub async fn fetch(&self, call: &Call, deadline: Instant) -> (Result<Answer, FetchCause>, u32) {
        let mut pause = self.patience.pause;
        let mut attempt = 1;
        loop {
            let cause = match timeout_at(deadline, self.once(call)).await {
                Ok(Ok(answer)) => return (Ok(answer), attempt),
                Ok(Err(cause)) => cause,
                Err(_) => FetchCause::Deadline,
            };
            let wait = match cause {
                FetchCause::Busy { retry_after: Some(wait), .. } => wait,
                _ => jittered(pause.min(self.patience.longest_pause)),
            };
            let in_time = Instant::now().checked_add(wait).is_some_and(|then| then < deadline);
            let again = cause.may_pass() && attempt < self.patience.attempts;
            if !again || !in_time || wait > self.patience.longest_pause {
                return (Err(cause), attempt);
            }
            sleep(wait).await;
            pause = pause.saturating_mul(2);
            attempt = attempt.saturating_add(1);
        }
    }

    async fn once(&self, call: &Call) -> Result<Answer, FetchCause> {
        let after = self.patience.head;
        let sent = timeout(after, self.http.request(request(call)?)).await;
        let response = match sent {
            Err(_) => return Err(FetchCause::NoAnswer { after }),
            Ok(Err(error)) if error.is_connect() => {
                return Err(FetchCause::Connect { why: innermost(&error) });
            }
            Ok(Err(error)) => return Err(FetchCause::Cut { why: innermost(&error) }),
            Ok(Ok(response)) => response,
        };
        let (head, body) = response.into_parts();
        match head.status.as_u16() {
            200 => {}
            status @ (429 | 503) => {
                let retry_after = retry_after(&head.headers);
                return Err(FetchCause::Busy { status, retry_after });
            }
            status @ 300..=399 => return Err(FetchCause::Redirect { status }),
            status => return Err(FetchCause::Status { status }),
        }
        let after = self.patience.body;
        let whole = timeout(after, whole(body, call.most, self.patience.between)).await;
        let body = whole.unwrap_or(Err(FetchCause::Stalled { after }))?;
        Ok(Answer { headers: head.headers, body })
    }
}

fn request(call: &Call) -> Result<Request<Full<Bytes>>, FetchCause> {
    let (method, body, content_type) = match &call.body {
        Some((body, content_type)) => (Method::POST, body.clone(), Some(*content_type)),
        None => (Method::GET, Bytes::new(), None),
    };
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = call.url.clone();
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static("*/*"));
    request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(AGENT));
    if let Some(content_type) = content_type {
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    Ok(request)
}

/// The whole of a body of at most `most` bytes.
async fn whole(mut body: Incoming, most: usize, between: Duration) -> Result<Bytes, FetchCause> {
    let too_large = FetchCause::TooLarge { limit: most };
    if body.size_hint().lower() > most as u64 {
        return Err(too_large);
    }
    let mut bytes = BytesMut::new();
    loop {
        let frame = match timeout(between, body.frame()).await {
            Err(_) => return Err(FetchCause::Stalled { after: between }),
            Ok(None) => return Ok(bytes.freeze()),
            Ok(Some(Err(error))) => return Err(FetchCause::Cut { why: innermost(&error) }),
            Ok(Some(Ok(frame))) => frame,
        };
        if let Ok(data) = frame.into_data() {
            if bytes.len().saturating_add(data.len()) > most {
                return Err(too_large);
            }
            bytes.extend_from_slice(&data);
        }
    }
}

/// Seconds; the date that HTTP allows in their place is not read, and counts as nothing said.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

/// Half of the pause and up to another half: those who failed together do not come back together.
fn jittered(pause: Duration) -> Duration {
    let mut random = [0; 1];
    let [share] = match getrandom::fill(&mut random) {
        Ok(()) => random,
        // Without randomness the pause is the longer one.
        Err(_) => [u8::MAX],
    };
    let half = pause.checked_div(2).unwrap_or_default();
    let more = half.saturating_mul(share.into()).checked_div(u8::MAX.into()).unwrap_or_default();
    half.saturating_add(more)
}

/// What the system says, without what wraps it.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
