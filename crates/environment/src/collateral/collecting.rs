//! Evidence together with its collateral.

use hallmark_attestation::{Evidence, Input, Kind, ProduceError, Producer, Request};

use super::{CollectError, Collected, Collector};
use crate::SharedProducer;

/// A producer whose evidence comes with what it takes to judge it: for receipts, which carry both. Where a maker does not answer, the
/// evidence comes without what it did not give.
pub struct Collecting {
    producer: SharedProducer,
    collector: Collector,
}

impl Collecting {
    /// Has `collector` add to what `producer` makes.
    pub fn new(producer: SharedProducer, collector: Collector) -> Self {
        Self { producer, collector }
    }

    /// What the makers have for `evidence`. Waits on a thread of its own: whoever asks may be inside a runtime.
    fn collect(&self, evidence: &Evidence, at: u64) -> Option<Collected> {
        let (kind, certificates) = (self.producer.kind(), slices(&evidence.certificates));
        let input = Input { evidence: &evidence.evidence, certificates: &certificates, ..Input::default() };
        let collected = std::thread::scope(|scope| {
            let work = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
                Some(runtime.block_on(self.collector.collect(kind, &input, at)))
            });
            work.join().ok().flatten()
        });
        match collected? {
            Ok(collected) => Some(collected),
            Err(error) => {
                tracing::warn!(%error, "evidence without all of its collateral");
                match error {
                    CollectError::Incomplete { collected, .. } => Some(*collected),
                    CollectError::Needs(_) => None,
                }
            }
        }
    }
}

impl Producer for Collecting {
    fn is_simulated(&self) -> bool {
        self.producer.is_simulated()
    }

    fn kind(&self) -> Kind {
        self.producer.kind()
    }

    fn produce(&self, request: &Request) -> Result<Evidence, ProduceError> {
        let mut evidence = self.producer.produce(request)?;
        if let Some(collected) = self.collect(&evidence, request.at) {
            let certificates = slices(&evidence.certificates);
            let input =
                Input { evidence: &evidence.evidence, certificates: &certificates, ..Input::default() };
            let selection = collected.snapshot.for_evidence(self.kind(), &input);
            let selection = selection.unwrap_or_default();
            let owned = |items: Vec<&[u8]>| items.into_iter().map(<[u8]>::to_vec).collect::<Vec<_>>();
            let (certificates, collateral) = (owned(selection.certificates), owned(selection.collateral));
            evidence.certificates.extend(certificates);
            evidence.collateral.extend(collateral);
        }
        Ok(evidence)
    }
}

fn slices(items: &[Vec<u8>]) -> Vec<&[u8]> {
    items.iter().map(Vec::as_slice).collect()
}
