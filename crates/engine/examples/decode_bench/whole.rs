//! A whole model: prompts and tokens a second.

use std::sync::Arc;
use std::time::Instant;

use hallmark_engine::decoder::{Decoder, Options, SequenceId, Weights};
use hallmark_model::llm::Parameters;

/// Tokens of each prompt of a batch: all of eight are read in one step.
const PROMPT: u32 = 4;
/// Tokens of each prompt that joins others.
const JOINING: u32 = 32;

/// A decoder, and what it is given to do.
pub struct Runner {
    decoder: Decoder,
    vocabulary: u32,
    /// Prompts begin differently each time.
    started: u32,
}

impl Runner {
    pub fn new(weights: &Arc<Weights>, threads: usize) -> Self {
        let options = Options { threads, isa: weights.isa(), share_prefixes: false, ..Options::default() };
        let vocabulary = weights.architecture().vocabulary as u32;
        Self { decoder: Decoder::new(Arc::clone(weights), &options).unwrap(), vocabulary, started: 0 }
    }

    fn start(&mut self, prompt: u32, answer: u32) -> SequenceId {
        self.started += 1;
        let prompt: Vec<u32> =
            (0..prompt).map(|i| (self.started * 7919 + i * 101) % self.vocabulary).collect();
        self.decoder.start(&prompt, Parameters::greedy(answer), None).unwrap()
    }

    fn finish(&mut self) -> usize {
        let mut tokens = 0;
        while !self.decoder.is_idle() {
            tokens += self.decoder.step().len();
        }
        tokens
    }

    /// Seconds that a prompt of `length` and its first token take.
    pub fn prompt(&mut self, length: u32) -> f64 {
        self.start(length, 1);
        let start = Instant::now();
        self.finish();
        start.elapsed().as_secs_f64()
    }

    /// Tokens a second that `batch` sequences generate in `steps` steps, once their prompts are read.
    pub fn batch(&mut self, batch: u32, steps: u32) -> f64 {
        for _ in 0..batch {
            self.start(PROMPT, steps + 1);
        }
        self.decoder.step();
        let start = Instant::now();
        let tokens = self.finish();
        assert_eq!(tokens, (batch * steps) as usize);
        tokens as f64 / start.elapsed().as_secs_f64()
    }

    /// Tokens a second where eight sequences generate and every `gap` steps one of them ends and another arrives, its prompt to be read
    /// meanwhile: over eight arrivals.
    pub fn staggered(&mut self, gap: u32) -> f64 {
        for i in 1..=8 {
            self.start(JOINING, gap * i + 1);
        }
        self.decoder.step();
        let (start, mut tokens, mut arrived) = (Instant::now(), 0, Vec::new());
        for _ in 0..8 {
            for _ in 0..gap {
                tokens += self.decoder.step().len();
            }
            arrived.push(self.start(JOINING, 8 * gap));
        }
        let spent = start.elapsed().as_secs_f64();
        for sequence in arrived {
            self.decoder.cancel(sequence);
        }
        f64::from(tokens as u32) / spent
    }
}
