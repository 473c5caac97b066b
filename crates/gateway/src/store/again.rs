//! Openings that were handed out a moment ago: who got them may ask again, for a connection may break while they are on their way.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hallmark_receipt::Digest;

use super::{Capability, is_same};

/// The most bytes that are held for this; what is larger goes once.
const MAX_BYTES: usize = 64 << 20;
/// How often the same openings go out again.
const TIMES: u8 = 3;

/// Bundles with their openings, in memory alone, each for a moment after it went out.
#[derive(Debug, Default)]
pub(crate) struct Again {
    /// The oldest first.
    held: Mutex<VecDeque<Held>>,
}

#[derive(Debug)]
struct Held {
    id: Digest,
    capability: Digest,
    bundle: Bytes,
    until: Instant,
    left: u8,
}

impl Again {
    /// Holds what went out to the holder of `capability` for `window`.
    pub fn hold(&self, id: Digest, capability: &Capability, bundle: Bytes, window: Duration, now: Instant) {
        let Some(until) = now.checked_add(window).filter(|_| !window.is_zero()) else { return };
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|one| one.until > now);
        let capability = capability.digest();
        held.push_back(Held { id, capability, bundle, until, left: TIMES });
        let mut bytes: usize = held.iter().map(|one| one.bundle.len()).fold(0, usize::saturating_add);
        while bytes > MAX_BYTES
            && let Some(oldest) = held.pop_front()
        {
            bytes = bytes.saturating_sub(oldest.bundle.len());
        }
    }

    /// The bundle, for the same capability and in time.
    pub fn find(&self, id: &Digest, capability: &Capability, now: Instant) -> Option<Bytes> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|one| one.until > now && one.left > 0);
        let digest = capability.digest();
        let one = held.iter_mut().find(|one| one.id == *id && is_same(&one.capability, &digest))?;
        one.left = one.left.saturating_sub(1);
        Some(one.bundle.clone())
    }

    /// Forgets what is over.
    pub fn tidy(&self, now: Instant) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).retain(|one| one.until > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_holder_in_time_and_a_few_times() {
        let (again, now, window) = (Again::default(), Instant::now(), Duration::from_secs(30));
        let (id, mine) = (Digest([1; 32]), Capability([2; 32]));
        let bundle = || Bytes::from_static(b"openings");
        again.hold(id, &mine, bundle(), window, now);
        assert_eq!(again.find(&id, &Capability([3; 32]), now), None);
        assert_eq!(again.find(&Digest([4; 32]), &mine, now), None);
        for _ in 0..TIMES {
            assert_eq!(again.find(&id, &mine, now), Some(bundle()));
        }
        assert_eq!(again.find(&id, &mine, now), None);
        again.hold(id, &mine, bundle(), window, now);
        assert_eq!(again.find(&id, &mine, now + window), None);
        again.hold(id, &mine, bundle(), Duration::ZERO, now);
        assert_eq!(again.find(&id, &mine, now), None);
        // What is too much pushes the oldest out, itself too.
        again.hold(id, &mine, bundle(), window, now);
        again.hold(Digest([5; 32]), &mine, Bytes::from(vec![0; MAX_BYTES + 1]), window, now);
        assert_eq!(again.find(&id, &mine, now), None);
        again.hold(id, &mine, bundle(), window, now);
        again.tidy(now + window);
        assert!(again.held.lock().unwrap().is_empty());
    }
}
