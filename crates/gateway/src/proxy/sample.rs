//! Models of which the requester has a copy: answers must come by their ids, and a share of them is run again before its end is
//! handed out (`stream.md` §8).

use std::collections::BTreeMap;
use std::sync::Arc;

use hallmark_receipt::Digest;
use hallmark_verdict::Replayer;
use tokio::sync::Semaphore;

/// A copy of a model.
pub struct OwnCopy {
    /// The model's id.
    pub id: Digest,
    /// What runs its answers again.
    pub replayer: Box<dyn Replayer + Send + Sync>,
}

/// A share of all answers: a number from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Share(f64);

impl Share {
    /// `None` unless it is from 0 to 1.
    pub fn new(share: f64) -> Option<Self> {
        (0.0..=1.0).contains(&share).then_some(Self(share))
    }

    /// Whether these random bytes pick an answer.
    fn picks(self, drawn: [u8; 32]) -> bool {
        let [a, b, c, d, e, f, ..] = drawn;
        // 48 bits: exact in a double, and below 1.
        let drawn = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]) as f64 / (1_u64 << 48) as f64;
        drawn < self.0
    }
}

/// The copies, by the name that requests use, and how many of their answers are run again.
#[derive(Default)]
pub struct Sample {
    /// By the name that requests use.
    pub copies: BTreeMap<String, OwnCopy>,
    /// How many.
    pub share: Share,
}

/// [`Sample`] at work.
pub(super) struct Sampler {
    copies: BTreeMap<String, Arc<OwnCopy>>,
    share: Share,
    /// One re-run at a time: each takes the machine.
    pub turn: Arc<Semaphore>,
}

impl Sampler {
    pub fn new(sample: Sample) -> Self {
        let copies = sample.copies.into_iter().map(|(name, copy)| (name, Arc::new(copy))).collect();
        Self { copies, share: sample.share, turn: Arc::new(Semaphore::new(1)) }
    }

    /// The copy of the model that a request names.
    pub fn copy(&self, body: &serde_json::Map<String, serde_json::Value>) -> Option<Arc<OwnCopy>> {
        self.copies.get(body.get("model")?.as_str()?).cloned()
    }

    /// Whether the answer that is there now is one to run again. `drawn` is fresh: while the gateway worked, nobody could know.
    pub fn picks(&self, drawn: [u8; 32]) -> bool {
        self.share.picks(drawn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_all_draws() {
        for wrong in [-0.1, 1.1, f64::NAN] {
            assert_eq!(Share::new(wrong), None);
        }
        let share = |share| Share::new(share).unwrap();
        for (part, low, middle, high) in [
            (0.0, false, false, false),
            (0.5, true, false, false),
            (0.6, true, true, false),
            (1.0, true, true, true),
        ] {
            let half = std::array::from_fn(|index| if index == 5 { 0x80 } else { 0 });
            let picks = [[0; 32], half, [0xff; 32]].map(|drawn| share(part).picks(drawn));
            assert_eq!(picks, [low, middle, high], "{part}");
        }
    }
}
