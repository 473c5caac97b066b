//! What an environment shows of itself in TLS: its key there, and the evidence that binds it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hallmark_attestation::presentation::Item;
use hallmark_attestation::{Binding, Credentials, ProduceError, Session};
use hallmark_receipt::{PublicKey, Purpose, Signer as _};
use tokio::sync::OwnedMutexGuard;

use super::{TlsError, now};
use crate::{SharedProducer, SharedSigner};

/// The message of evidence that binds no nonce, and when it was begun.
type Kept = Arc<Mutex<Option<(Instant, Arc<[u8]>)>>>;

/// A key, what it is bound with, and who makes the evidence.
pub struct Presenter {
    signer: SharedSigner,
    key: PublicKey,
    binding: Binding,
    producers: Arc<Vec<SharedProducer>>,
    refresh_every: Duration,
    kept: Kept,
    /// Held while evidence is made, on the thread that makes it: devices are asked by one session at a time.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Presenter {
    /// `binding` has all keys of the environment but the one for TLS, which is `signer`'s, and its policy. The first of `producers`
    /// is the CPU's, others are of devices. Evidence that binds no nonce is made again after `refresh_every`.
    pub fn new(
        signer: SharedSigner,
        binding: Binding,
        producers: Vec<SharedProducer>,
        refresh_every: Duration,
    ) -> Result<Self, TlsError> {
        let key = signer.public_key();
        let binding = binding.with_key(Purpose::Tls, &key)?.with_nonce(Vec::new())?;
        let (kept, turn) = (Kept::default(), Arc::default());
        Ok(Self { signer, key, binding, producers: Arc::new(producers), refresh_every, kept, turn })
    }

    /// Its key of TLS.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    pub(super) fn signer(&self) -> SharedSigner {
        Arc::clone(&self.signer)
    }

    /// The presentation of a session; of evidence that binds the session's nonce, if it must be `fresh`.
    pub(super) async fn present(&self, session: &Session<'_>, fresh: bool) -> Result<Vec<u8>, TlsError> {
        let credentials = if fresh {
            let binding = self.binding.clone().with_nonce(session.nonce.to_vec())?;
            self.make(self.turn().await, binding).await?
        } else {
            self.credentials().await?
        };
        let signature = self.signer.sign(&session.to_be_signed())?;
        Ok([&credentials[..], &signature].concat())
    }

    /// Those that bind no nonce: kept ones, while they are new enough.
    async fn credentials(&self) -> Result<Arc<[u8]>, TlsError> {
        if let Some(message) = self.kept() {
            return Ok(message);
        }
        let turn = self.turn().await;
        // Another session may have made them in the meantime.
        if let Some(message) = self.kept() {
            return Ok(message);
        }
        let made = self.make(turn, self.binding.clone()).await;
        let old = self.kept_within(Duration::MAX);
        match (made, old) {
            // Its age tells: verifiers have a limit.
            (Err(error), Some(message)) => {
                tracing::warn!(%error, "no new evidence");
                Ok(message)
            }
            (made, _) => made,
        }
    }

    fn kept(&self) -> Option<Arc<[u8]>> {
        self.kept_within(self.refresh_every)
    }

    fn kept_within(&self, age: Duration) -> Option<Arc<[u8]>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref().filter(|(begun, _)| begun.elapsed() < age).map(|(_, message)| Arc::clone(message))
    }

    async fn turn(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.turn).lock_owned().await
    }

    /// Asks the devices, on a thread that may block. What it makes is kept even if nobody waits for it any more: else devices that
    /// take longer than an exchange may would never be done.
    async fn make(&self, turn: OwnedMutexGuard<()>, binding: Binding) -> Result<Arc<[u8]>, TlsError> {
        let (producers, kept) = (Arc::clone(&self.producers), Arc::clone(&self.kept));
        let work = tokio::task::spawn_blocking(move || {
            let (_turn, begun) = (turn, Instant::now());
            let items = producers.iter().map(|producer| {
                let kind = producer.kind();
                Ok(Item { kind, evidence: producer.produce(&binding.request(kind, now()))? })
            });
            let items = items.collect::<Result<_, ProduceError>>()?;
            let credentials = Credentials { binding, items };
            let message: Arc<[u8]> = credentials.encode()?.into();
            if credentials.binding.nonce().is_empty() {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                *kept = Some((begun, Arc::clone(&message)));
            }
            Ok(message)
        });
        work.await.map_err(|_| TlsError::Aborted)?
    }
}
