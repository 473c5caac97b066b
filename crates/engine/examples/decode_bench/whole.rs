//! A whole model: prompts and tokens a second.

use std::sync::Arc;
use std::time::Instant;

use hallmark_engine::decoder::{Decoder, Options, Weights};
use hallmark_model::llm::Parameters;

/// Tokens of each prompt of the batches.
const PROMPT: u32 = 32;

pub struct Runner {
    decoder: Decoder,
    vocabulary: u32,
    /// Prompts begin differently each time.
    started: u32,
}

impl Runner {
    pub fn new(weights: &Arc<Weights>, threads: usize) -> Self {
        let options = Options { threads, share_prefixes: false, ..Options::default() };
        let vocabulary = weights.architecture().vocabulary as u32;
        Self { decoder: Decoder::new(Arc::clone(weights), &options).unwrap(), vocabulary, started: 0 }
    }

    fn start(&mut self, prompt: u32, answer: u32) {
        self.started += 1;
        let prompt: Vec<u32> =
            (0..prompt).map(|i| (self.started * 7919 + i * 101) % self.vocabulary).collect();
        self.decoder.start(&prompt, Parameters::greedy(answer), None).unwrap();
    }

    fn finish(&mut self) -> usize {
        let mut tokens = 0;
        while !self.decoder.is_idle() {
            tokens += self.decoder.step().len();
        }
        tokens
    }

    /// Tokens a second of a prompt of `length`.
    pub fn prefill(&mut self, length: u32) -> f64 {
        self.start(length, 1);
        let start = Instant::now();
        self.finish();
        f64::from(length) / start.elapsed().as_secs_f64()
    }

    /// Tokens a second that `batch` sequences generate in `steps` steps, once their prompts are read.
    pub fn batch(&mut self, batch: u32, steps: u32) -> f64 {
        for _ in 0..batch {
            self.start(PROMPT / batch.min(8), steps + 1);
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
            self.start(PROMPT, gap * i + 1);
        }
        self.decoder.step();
        let (start, mut tokens) = (Instant::now(), 0);
        for _ in 0..8 {
            for _ in 0..gap {
                tokens += self.decoder.step().len();
            }
            self.start(PROMPT, 8 * gap);
        }
        let spent = start.elapsed().as_secs_f64();
        self.finish();
        f64::from(tokens as u32) / spent
    }
}
