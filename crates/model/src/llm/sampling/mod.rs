//! From logits to a token (`spec/sampling.md`): pinned formulas, no state but seed and index.
//!
//! ```
//! use hallmark_model::llm::sampling::{History, Parameters, Seed, sample};
//! let parameters = Parameters { temperature: 0.7, seed: Some(Seed::Client(42)), ..Parameters::greedy(16) };
//! let history = History::new(&[1, 2]);
//! let token = sample(&mut [0.0, 1.0, 0.5], &history, &parameters);
//! assert_eq!(token, sample(&mut [0.0, 1.0, 0.5], &history, &parameters));
//! ```

mod parameters;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use hallmark_receipt::domain::SAMPLING;

pub use parameters::{MAX_STOP, ParameterError, Parameters, Seed, VERSION};

use crate::numeric::elementary::{exp_in_place, log};
use crate::numeric::{canonical_f32, max_f32, maximum, sum};

/// The tokens so far, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Tokens that occurred, and how often they were generated.
    counts: BTreeMap<u32, u32>,
    /// Tokens generated.
    generated: u64,
}

impl History {
    /// After a prompt.
    pub fn new(prompt: &[u32]) -> Self {
        Self { counts: prompt.iter().map(|&token| (token, 0)).collect(), generated: 0 }
    }

    /// Counts a generated token.
    pub fn push(&mut self, token: u32) {
        let count = self.counts.entry(token).or_default();
        *count = count.saturating_add(1);
        self.generated = self.generated.saturating_add(1);
    }

    /// Tokens generated: the index of the next one.
    pub fn generated(&self) -> u64 {
        self.generated
    }
}

/// Draws the next token from `logits`, which are written over (`sampling.md` §2, §3). `None` if every logit is -inf or a NaN.
pub fn sample(logits: &mut [f32], history: &History, parameters: &Parameters) -> Option<u32> {
    for l in logits.iter_mut() {
        *l = if l.is_nan() { f32::NEG_INFINITY } else { *l };
    }
    penalise(logits, history, parameters);
    if parameters.temperature == 0.0 {
        return greatest(logits);
    }
    let mut candidates = order(logits, parameters);
    let mut p: Vec<f32> = candidates.iter().map(|&(z, _)| z).collect();
    softmax(&mut p);
    if parameters.top_p < 1.0 {
        let mut c = 0.0_f64;
        let reached = p.iter().position(|&p| {
            c += f64::from(p);
            c >= f64::from(parameters.top_p)
        });
        p.truncate(reached.map_or(p.len(), |last| last + 1));
    }
    if parameters.min_p > 0.0 {
        let least = parameters.min_p * p.first().copied().unwrap_or(0.0);
        p.truncate(p.partition_point(|&p| p >= least));
    }
    candidates.truncate(p.len());
    let total = p.iter().fold(0.0_f64, |c, &p| c + f64::from(p));
    let r = uniform(&parameters.seed_bytes(), history.generated) * total;
    let mut c = 0.0_f64;
    let drawn = candidates.iter().zip(&p).find(|(_, p)| {
        c += f64::from(**p);
        c > r
    });
    drawn.map(|(candidate, _)| candidate.1).or_else(|| candidates.last().map(|last| last.1))
}

/// `sampling.md` §2.
fn penalise(logits: &mut [f32], history: &History, parameters: &Parameters) {
    let &Parameters { repetition, frequency, presence, .. } = parameters;
    if repetition == 1.0 && frequency == 0.0 && presence == 0.0 {
        return;
    }
    for (&token, &count) in &history.counts {
        let Some(l) = usize::try_from(token).ok().and_then(|token| logits.get_mut(token)) else { continue };
        if repetition != 1.0 {
            *l = if *l < 0.0 { *l * repetition } else { *l / repetition };
        }
        if count > 0 && frequency != 0.0 {
            *l -= frequency * count as f32;
        }
        if count > 0 && presence != 0.0 {
            *l -= presence;
        }
    }
}

/// The lowest id among the greatest; `None` if all are -inf.
fn greatest(logits: &[f32]) -> Option<u32> {
    let mut best: Option<(f32, usize)> = None;
    for (id, &l) in logits.iter().enumerate() {
        if l > best.map_or(f32::NEG_INFINITY, |best| best.0) {
            best = Some((l, id));
        }
    }
    best.and_then(|(_, id)| u32::try_from(id).ok())
}

/// Falling z with its token, lower id first among equals, the first top_k of them (`sampling.md` §3, 2 to 4).
fn order(logits: &[f32], parameters: &Parameters) -> Vec<(f32, u32)> {
    // One integer a token: an order of floats that is an order of integers, upside down, then the id.
    let mut keys: Vec<u64> = Vec::with_capacity(logits.len());
    for (id, &l) in logits.iter().enumerate() {
        // +0 for -0.
        let z = (l / parameters.temperature).min(f32::MAX) + 0.0;
        if z > f32::NEG_INFINITY {
            let bits = z.to_bits();
            let rising = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
            keys.push(u64::from(!rising) << 32 | id as u64);
        }
    }
    let most = usize::try_from(parameters.top_k).unwrap_or(usize::MAX);
    if most > 0 && most < keys.len() {
        keys.select_nth_unstable(most - 1);
        keys.truncate(most);
    }
    keys.sort_unstable();
    let token = |key: u64| {
        let rising = !((key >> 32) as u32);
        let bits = if rising >> 31 == 1 { rising & !(1 << 31) } else { !rising };
        (f32::from_bits(bits), key as u32)
    };
    keys.into_iter().map(token).collect()
}

/// `exp(z - m) / s`, in place; the first is the greatest.
fn softmax(z: &mut [f32]) {
    let m = z.first().copied().unwrap_or(0.0);
    for z in z.iter_mut() {
        *z -= m;
    }
    exp_in_place(z);
    let s = sum(z.iter().copied());
    for z in z {
        *z /= s;
    }
}

/// A number of [0, 1) that depends on `seed` and `index` alone (`sampling.md` §3).
pub fn uniform(seed: &[u8; 32], index: u64) -> f64 {
    let digest = SAMPLING.hash(&[seed, &index.to_be_bytes()]);
    let first = digest.as_bytes().first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    (first >> 11) as f64 * 2.0_f64.powi(-53)
}

/// A token and its log probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogProbability {
    /// The token.
    pub token: u32,
    /// Natural logarithm of its probability under the model alone.
    pub value: f32,
}

/// The logarithms of the probabilities that the model itself gives (`sampling.md` §4).
#[derive(Clone, Copy, Debug)]
pub struct LogProbabilities<'a> {
    logits: &'a [f32],
    m: f32,
    log_s: f32,
}

impl<'a> LogProbabilities<'a> {
    /// Of the logits as the model gave them.
    pub fn new(logits: &'a [f32]) -> Self {
        let m = maximum(logits.iter().copied());
        let mut e: Vec<f32> = logits.iter().map(|l| canonical_f32(l - m)).collect();
        exp_in_place(&mut e);
        Self { logits, m, log_s: log(sum(e)) }
    }

    /// Of one token; `None` outside the vocabulary.
    pub fn of(&self, token: u32) -> Option<LogProbability> {
        let l = *self.logits.get(usize::try_from(token).ok()?)?;
        Some(LogProbability { token, value: canonical_f32((l - self.m) - self.log_s) })
    }

    /// The `count` greatest, falling, lower id first among equals.
    pub fn top(&self, count: usize) -> Vec<LogProbability> {
        let mut best: Vec<LogProbability> =
            Vec::with_capacity(count.saturating_add(1).min(self.logits.len() + 1));
        for (id, _) in self.logits.iter().enumerate().take(u32::MAX as usize) {
            let Some(one) = self.of(id as u32) else { continue };
            let at = best.partition_point(|other| max_f32(other.value, one.value) == other.value);
            if at < count {
                best.insert(at, one);
                best.truncate(count);
            }
        }
        best
    }
}
