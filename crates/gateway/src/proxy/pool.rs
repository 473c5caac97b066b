//! The gateways, and which of them is left alone for now.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hallmark_receipt::KeyId;
use http::HeaderValue;

use crate::error::ApiError;

const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(30);
const FALSE_REST: Duration = Duration::from_secs(600);

/// Why an attempt gave nothing.
#[derive(Debug)]
pub enum Failed {
    /// Nobody there, or no answer: the next gateway may have one.
    Down {
        /// What happened.
        why: String,
        /// When the gateway wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// The gateway's refusal of the request.
    Refused(ApiError),
    /// What came is not what the pinned gateway answered to this request.
    False(String),
    /// Not the gateway's fault.
    Own(ApiError),
}

impl Failed {
    pub fn down(why: impl Into<String>) -> Self {
        Self::Down { why: why.into(), retry_after: None }
    }
}

impl From<ApiError> for Failed {
    fn from(error: ApiError) -> Self {
        Self::Own(error)
    }
}

/// A gateway and the identity that must sign what it says.
pub struct Pinned {
    pub url: String,
    pub node: KeyId,
    /// The `Authorization` header that this gateway gets.
    pub auth: Option<HeaderValue>,
    rest: Mutex<Rest>,
}

#[derive(Default)]
struct Rest {
    until: Option<Instant>,
    /// The next rest, if it fails again; zero after success.
    next: Duration,
    why: String,
}

impl Pinned {
    pub fn new(url: String, node: KeyId, auth: Option<HeaderValue>) -> Self {
        Self { url, node, auth, rest: Mutex::default() }
    }

    fn rest(&self) -> std::sync::MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It answered.
    pub fn is_well(&self) {
        *self.rest() = Rest::default();
    }

    /// Leaves it alone: for a second and doubling, at most half a minute, or for as long as it asks.
    pub fn is_down(&self, why: &str, retry_after: Option<Duration>) {
        let mut rest = self.rest();
        let pause = rest.next.max(FIRST_REST);
        rest.next = pause.saturating_mul(2).min(LONGEST_REST);
        why.clone_into(&mut rest.why);
        let until = Instant::now() + retry_after.map_or(pause, |wait| wait.min(LONGEST_REST));
        rest.until = rest.until.max(Some(until));
    }

    /// Leaves it alone for ten minutes.
    pub fn is_false(&self, why: &str) {
        let mut rest = self.rest();
        rest.why = format!("answered falsely: {why}");
        rest.until = Some(Instant::now() + FALSE_REST);
    }
}

/// All of them, in the order of asking.
pub struct Pool(pub Vec<Arc<Pinned>>);

impl Pool {
    /// Those that may be asked now.
    pub fn ready(&self) -> impl Iterator<Item = &Arc<Pinned>> {
        let now = Instant::now();
        self.0.iter().filter(move |gateway| gateway.rest().until.is_none_or(|until| until <= now))
    }

    /// Why none answers.
    pub fn none(&self) -> ApiError {
        let now = Instant::now();
        let mut wait = LONGEST_REST;
        let mut reasons = Vec::new();
        for gateway in &self.0 {
            let rest = gateway.rest();
            wait = wait.min(rest.until.map_or(FIRST_REST, |until| until.saturating_duration_since(now)));
            reasons.push(format!("{}: {}", gateway.url, rest.why));
        }
        ApiError::NoGateway { reasons: reasons.join("; "), retry_after: wait }
    }
}
