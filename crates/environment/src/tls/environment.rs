//! An environment of one's own: the key that ends TLS, and the evidence that binds it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hallmark_attestation::presentation::Item;
use hallmark_attestation::{Binding, Credentials, ProduceError, Session};
use hallmark_receipt::{PublicKey, Purpose, Signer as _};
use tokio::sync::Mutex;

use super::{TlsError, now};
use crate::{SharedProducer, SharedSigner};

/// A key, what it is bound with, and who makes the evidence.
pub struct Environment {
    signer: SharedSigner,
    key: PublicKey,
    binding: Binding,
    producers: Arc<Vec<SharedProducer>>,
    refresh_every: Duration,
    /// The message of evidence that binds no nonce, and when it was made.
    kept: Mutex<Option<(Instant, Arc<[u8]>)>>,
    /// Held while evidence is made, on the thread that makes it: devices are asked by one session at a time.
    turn: Arc<Mutex<()>>,
}

impl Environment {
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
        let (kept, turn) = (Mutex::default(), Arc::default());
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
            self.make(self.binding.clone().with_nonce(session.nonce.to_vec())?).await?
        } else {
            self.credentials().await?
        };
        let signature = self.signer.sign(&session.to_be_signed())?;
        Ok([&credentials[..], &signature].concat())
    }

    async fn credentials(&self) -> Result<Arc<[u8]>, TlsError> {
        let mut kept = self.kept.lock().await;
        if let Some((made, message)) = &*kept
            && made.elapsed() < self.refresh_every
        {
            return Ok(Arc::clone(message));
        }
        let made = Instant::now();
        let message = self.make(self.binding.clone()).await?;
        *kept = Some((made, Arc::clone(&message)));
        Ok(message)
    }

    /// Asks the devices, on a thread that may block.
    async fn make(&self, binding: Binding) -> Result<Arc<[u8]>, TlsError> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let producers = Arc::clone(&self.producers);
        let work = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let items = producers.iter().map(|producer| {
                let kind = producer.kind();
                Ok(Item { kind, evidence: producer.produce(&binding.request(kind, now()))? })
            });
            let items = items.collect::<Result<_, ProduceError>>()?;
            Ok(Credentials { binding, items }.encode()?.into())
        });
        work.await.map_err(|_| TlsError::Aborted)?
    }
}
