//! Who may ask, and how much at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use hallmark_receipt::Digest;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::ApiError;

/// Bounds of a gateway.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The most bytes of a request's body.
    pub body: usize,
    /// The most bytes of a bundle that is to be judged.
    pub bundle: usize,
    /// How long a body may take to arrive.
    pub body_time: Duration,
    /// How long a request's head may take, and how long a connection may idle between requests.
    pub head_time: Duration,
    /// How long a client may take nothing of an answer that is ready for it.
    pub write_time: Duration,
    /// The most connections; more wait to be accepted.
    pub connections: usize,
    /// The most answers at once.
    pub answers: usize,
    /// The most runs of ONNX models and judgements at once: each takes the threads and the memory of a run.
    pub runs: usize,
    /// The most requests that wait for their turn; more are refused at once.
    pub queue: usize,
    /// How long a request waits for its turn.
    pub queue_time: Duration,
    /// How long an answer may take in all.
    pub answer_time: Duration,
    /// How long openings that went out may be fetched again by the same requester, whose connection may have broken; zero for not at all.
    pub again_time: Duration,
    /// How long answers may go on after the order to stop.
    pub drain_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 8 << 20,
            bundle: 32 << 20,
            body_time: Duration::from_secs(30),
            head_time: Duration::from_secs(75),
            write_time: Duration::from_secs(60),
            connections: 16_384,
            answers: 256,
            runs: 2,
            queue: 1024,
            queue_time: Duration::from_secs(10),
            answer_time: Duration::from_secs(600),
            again_time: Duration::from_secs(30),
            drain_time: Duration::from_secs(30),
        }
    }
}

/// What one key may use; `None` is without bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Requests in a minute.
    pub requests_per_minute: Option<u64>,
    /// Tokens in a minute, counted when they are known.
    pub tokens_per_minute: Option<u64>,
}

/// A key that opens the gateway. Only its digest is kept.
#[derive(Clone, Debug)]
pub struct ApiKey {
    /// A name for logs and metrics.
    pub name: String,
    /// What it may use.
    pub quota: Quota,
    digest: Digest,
}

impl ApiKey {
    /// The key with this secret: long and random, for it is hashed but not stretched.
    pub fn new(name: impl Into<String>, secret: &str, quota: Quota) -> Self {
        Self::from_digest(name, Self::digest(secret), quota)
    }

    /// The key whose secret has this [`ApiKey::digest`].
    pub fn from_digest(name: impl Into<String>, digest: Digest, quota: Quota) -> Self {
        Self { name: name.into(), quota, digest }
    }

    /// What is kept of a secret: SHA-256 of `hallmark api key` and the secret, with nothing between.
    pub fn digest(secret: &str) -> Digest {
        Digest::of(&[b"hallmark api key", secret.as_bytes()])
    }
}

/// A requester that was let in.
#[derive(Debug)]
pub struct Client {
    name: String,
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
}

impl Client {
    fn new(name: String, quota: Quota) -> Self {
        let bucket = |rate: Option<u64>| rate.map(Bucket::new);
        Self { name, requests: bucket(quota.requests_per_minute), tokens: bucket(quota.tokens_per_minute) }
    }

    /// Its name for logs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Counts one request at `now` (milliseconds), or says when there is room again.
    pub fn admit(&self, now: u64) -> Result<(), ApiError> {
        let refuse = |wait: u64| ApiError::Quota { retry_after: Duration::from_millis(wait) };
        if let Some(tokens) = &self.tokens {
            tokens.take(now, 0).map_err(refuse)?;
        }
        self.requests.as_ref().map_or(Ok(()), |requests| requests.take(now, 1).map_err(refuse))
    }

    /// Counts tokens after the fact.
    pub fn charge(&self, now: u64, tokens: u64) {
        if let Some(bucket) = &self.tokens {
            bucket.charge(now, tokens);
        }
    }
}

/// A minute's worth of room that fills evenly: the time until which what was taken is paid for (GCRA).
#[derive(Debug)]
struct Bucket {
    per_minute: u64,
    /// Microseconds since 1970.
    paid_until: Mutex<u64>,
}

const MINUTE: u64 = 60_000_000;

impl Bucket {
    fn new(per_minute: u64) -> Self {
        Self { per_minute: per_minute.max(1), paid_until: Mutex::new(0) }
    }

    fn cost(&self, units: u64) -> u64 {
        units.saturating_mul(MINUTE) / self.per_minute
    }

    /// Takes `units` if a minute's worth holds them; otherwise gives the milliseconds to wait.
    fn take(&self, now: u64, units: u64) -> Result<(), u64> {
        let now = now.saturating_mul(1000);
        let mut paid = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
        let next = (*paid).max(now).saturating_add(self.cost(units));
        let room = now.saturating_add(MINUTE);
        if next > room {
            return Err((next - room).div_ceil(1000).max(1));
        }
        *paid = next;
        Ok(())
    }

    fn charge(&self, now: u64, units: u64) {
        let mut paid = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
        *paid = (*paid).max(now.saturating_mul(1000)).saturating_add(self.cost(units));
    }
}

/// The door: keys and their counts.
#[derive(Debug)]
pub enum Door {
    /// Everyone may ask, under one shared quota.
    Open(Arc<Client>),
    /// Only these keys, by the digest of their secret.
    Keys(HashMap<Digest, Arc<Client>>),
}

impl Door {
    /// A door for these keys; open to everyone where there are none.
    pub fn new(keys: Vec<ApiKey>) -> Self {
        if keys.is_empty() {
            return Self::Open(Arc::new(Client::new("anyone".to_owned(), Quota::default())));
        }
        let client = |key: ApiKey| (key.digest, Arc::new(Client::new(key.name, key.quota)));
        Self::Keys(keys.into_iter().map(client).collect())
    }

    /// The client whose key the request carries: `Authorization: Bearer KEY` or `x-api-key: KEY`.
    pub fn enter(&self, headers: &HeaderMap) -> Result<Arc<Client>, ApiError> {
        let keys = match self {
            Self::Open(client) => return Ok(client.clone()),
            Self::Keys(keys) => keys,
        };
        let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer = bearer.and_then(|value| value.strip_prefix("Bearer "));
        let plain = headers.get("x-api-key").and_then(|value| value.to_str().ok());
        let given = ApiKey::digest(bearer.or(plain).ok_or(ApiError::Unauthorized)?);
        // The map is searched by a digest that nobody can steer, and the match is confirmed in constant time.
        let (stored, client) = keys.get_key_value(&given).ok_or(ApiError::Unauthorized)?;
        match verify_slices_are_equal(stored.as_bytes(), given.as_bytes()) {
            Ok(()) => Ok(client.clone()),
            Err(_) => Err(ApiError::Unauthorized),
        }
    }
}

/// Turns for answers.
#[derive(Debug)]
pub struct Turns {
    running: Arc<Semaphore>,
    waiting: Semaphore,
    patience: Duration,
}

impl Turns {
    /// `running` at once; waiting as `limits` has it.
    pub fn new(running: usize, limits: &Limits) -> Self {
        Self {
            running: Arc::new(Semaphore::new(running)),
            waiting: Semaphore::new(limits.queue),
            patience: limits.queue_time,
        }
    }

    /// Waits for a turn, which lasts as long as the permit lives.
    pub async fn take(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        if let Ok(permit) = self.running.clone().try_acquire_owned() {
            return Ok(permit);
        }
        let busy = || ApiError::Overloaded { retry_after: Duration::from_secs(1) };
        let _place = self.waiting.try_acquire().map_err(|_| busy())?;
        match tokio::time::timeout(self.patience, self.running.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(busy()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_fill_evenly() {
        let quota = Quota { requests_per_minute: Some(2), tokens_per_minute: Some(600) };
        let client = Client::new("a".to_owned(), quota);
        assert_eq!((client.admit(1000), client.admit(1000)), (Ok(()), Ok(())));
        let wait = |ms| Err(ApiError::Quota { retry_after: Duration::from_millis(ms) });
        assert_eq!(client.admit(1000), wait(30_000));
        assert_eq!(client.admit(31_000), Ok(()));
        client.charge(31_000, 1200);
        assert_eq!(client.admit(61_000), wait(30_000), "two minutes' tokens are used");
    }

    #[test]
    fn only_known_keys_enter() {
        let door = Door::new(vec![ApiKey::new("a", "secret", Quota::default())]);
        let with = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            door.enter(&headers).map(|client| client.name().to_owned())
        };
        assert_eq!(with("authorization", "Bearer secret"), Ok("a".to_owned()));
        assert_eq!(with("x-api-key", "secret"), Ok("a".to_owned()));
        for (name, value) in [("authorization", "secret"), ("x-api-key", "secrets"), ("x-other", "secret")] {
            assert_eq!(with(name, value), Err(ApiError::Unauthorized));
        }
    }
}
