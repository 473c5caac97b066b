//! The two things that a gateway takes from outside without being asked: the time and random bytes.

use std::time::{SystemTime, UNIX_EPOCH};

/// Where time and randomness come from. Tests give their own.
pub trait Host: Send + Sync + 'static {
    /// Milliseconds since 1970.
    fn now(&self) -> u64;
    /// Fills `bytes` with secret random ones.
    fn random(&self, bytes: &mut [u8]) -> Result<(), NoRandomness>;
}

/// The system gave no random bytes; nothing can be salted or signed for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random bytes")]
pub struct NoRandomness;

impl dyn Host {
    /// `N` secret random bytes.
    pub fn draw<const N: usize>(&self) -> Result<[u8; N], NoRandomness> {
        let mut bytes = [0; N];
        self.random(&mut bytes)?;
        Ok(bytes)
    }

    /// `N` times 32 secret random bytes in one call of the system.
    pub fn draws<const N: usize>(&self) -> Result<[[u8; 32]; N], NoRandomness> {
        let mut draws = [[0; 32]; N];
        self.random(draws.as_flattened_mut())?;
        Ok(draws)
    }
}

/// The system's clock and randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Host for System {
    fn now(&self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|time| u64::try_from(time.as_millis()).ok())
            .unwrap_or(0)
    }

    fn random(&self, bytes: &mut [u8]) -> Result<(), NoRandomness> {
        getrandom::fill(bytes).map_err(|_| NoRandomness)
    }
}
