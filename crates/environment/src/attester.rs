//! Evidence for a node: made once, and anew on a schedule.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use hallmark_attestation::{Binding, ProduceError, environment};
use hallmark_receipt::Environment;

use crate::SharedProducer;

/// A producer with the keys that its evidence binds. Receipts carry what it has; making evidence takes hardware a while.
pub struct Attester {
    producer: SharedProducer,
    binding: Binding,
    refresh_seconds: u64,
    current: RwLock<Made>,
    /// Held by whoever makes the next.
    making: Mutex<()>,
}

#[derive(Clone)]
struct Made {
    at: u64,
    environment: Arc<Environment>,
}

impl Attester {
    /// Makes the first evidence. `now` is in seconds since 1970, as everywhere here.
    pub fn new(
        producer: SharedProducer,
        binding: Binding,
        refresh_seconds: u64,
        now: u64,
    ) -> Result<Self, ProduceError> {
        let environment = environment::produce(&*producer, &binding, now)?;
        let current = RwLock::new(Made { at: now, environment });
        Ok(Self { producer, binding, refresh_seconds, current, making: Mutex::new(()) })
    }

    /// What the evidence binds.
    pub fn binding(&self) -> &Binding {
        &self.binding
    }

    /// The newest evidence; made anew if it is due. Blocks whoever makes it, and nobody else. Where making fails the old one
    /// stands, and its age tells: verifiers have a limit.
    pub fn environment(&self, now: u64) -> Arc<Environment> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        if now < current.at.saturating_add(self.refresh_seconds) {
            return current.environment;
        }
        let Ok(_making) = self.making.try_lock() else { return current.environment };
        match environment::produce(&*self.producer, &self.binding, now) {
            Ok(environment) => {
                let made = Made { at: now, environment: Arc::clone(&environment) };
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = made;
                environment
            }
            Err(error) => {
                tracing::warn!(%error, "no new evidence");
                current.environment
            }
        }
    }
}

impl std::fmt::Debug for Attester {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attester").field("kind", &self.producer.kind()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::atomic::{AtomicUsize, Ordering};

    use hallmark_attestation::{Evidence, Kind, Producer, Request};

    use super::*;

    /// Says when it was asked; fails after so many times.
    struct Counting {
        asked: Arc<AtomicUsize>,
        most: usize,
    }

    impl Producer for Counting {
        fn kind(&self) -> Kind {
            Kind::Nitro
        }

        fn produce(&self, request: &Request) -> Result<Evidence, ProduceError> {
            if self.asked.fetch_add(1, Ordering::SeqCst) >= self.most {
                return Err(ProduceError::OneField);
            }
            Ok(Evidence { evidence: request.at.to_be_bytes().to_vec(), ..Evidence::default() })
        }
    }

    #[test]
    fn evidence_is_made_when_due_and_an_old_one_outlives_a_failure() {
        let asked = Arc::new(AtomicUsize::new(0));
        let producer = Counting { asked: Arc::clone(&asked), most: 2 };
        let attester = Attester::new(Box::new(producer), Binding::default(), 60, 100).unwrap();
        let made = |now| u64::from_be_bytes(attester.environment(now).evidence.clone().try_into().unwrap());
        assert_eq!((made(100), made(159), made(160), made(219)), (100, 100, 160, 160));
        assert_eq!((made(220), made(221)), (160, 160));
        assert_eq!(asked.load(Ordering::SeqCst), 4);
    }
}
