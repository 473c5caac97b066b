//! Decoder-only language models, with exactly the bits of `numeric.md` §11 and `sampling.md`.
//!
//! Sequences join and leave between steps; a step takes one token of each sequence that generates, and parts of the prompts of those
//! that have just joined. Keys and values lie in pages from one bounded pool, and prompts that begin alike share full pages. None of
//! that shows in a bit: a sequence's tokens are those that it would have alone, on any instruction set and number of threads.
//!
//! ```no_run
//! use hallmark_engine::decoder::{Decoder, Options, Weights};
//! use hallmark_model::llm::{Checkpoint, Parameters};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let source = std::collections::BTreeMap::<String, Vec<u8>>::new();
//! let checkpoint = Checkpoint::open(&["config.json".into(), "model.safetensors".into()], &source)?;
//! let options = Options::default();
//! let weights = std::sync::Arc::new(Weights::load(&checkpoint, options.isa)?);
//! let mut decoder = Decoder::new(weights, &options)?;
//! let id = decoder.start(&[1, 2, 3], Parameters::greedy(16), None)?;
//! while !decoder.is_idle() {
//!     for event in decoder.step() {
//!         assert_eq!(event.sequence, id);
//!         println!("{:?} {:?}", event.token, event.finish);
//!     }
//! }
//! # Ok(()) }
//! ```

pub(crate) mod forward;
pub(crate) mod pages;
mod sequence;
pub(crate) mod weights;

use std::sync::Arc;

use hallmark_model::llm::sampling::{LogProbability, ParameterError, Parameters};

use crate::isa::Isa;
use crate::program::{Exec, MAX_THREADS};
use crate::threads::{KeepSubnormals, Pool};
use forward::{Workspace, forward};
use pages::{Layout, Pages};
use sequence::Sequence;

pub use weights::Weights;

/// Positions of a page: prefixes are shared in units of so many tokens.
pub const PAGE: usize = crate::kernels::attention::PAGE;
/// The most log probabilities that an event lists.
pub const MAX_TOP: usize = 32;

/// How a decoder runs. None of it changes a bit of an answer.
#[derive(Clone, Debug)]
pub struct Options {
    /// Threads, the caller's included: 1 to [`MAX_THREADS`].
    pub threads: usize,
    /// The most bytes of keys and values.
    pub cache_limit: usize,
    /// Sequences that compute at a time; others wait.
    pub max_sequences: usize,
    /// Sequences that wait at a time.
    pub max_waiting: usize,
    /// Tokens of one step, at most: long prompts are taken in parts, so that they do not hold up the others.
    pub step_tokens: usize,
    /// Whether prompts that begin alike share pages. Whoever may start sequences can then tell from the time that a first answer takes
    /// whether somebody else's prompt began likewise.
    pub share_prefixes: bool,
    /// The instruction set that the weights are packed for.
    pub isa: Isa,
}

impl Default for Options {
    /// One thread, 1 GiB of keys and values, 64 sequences, steps of 256 tokens, shared prefixes, the best instruction set.
    fn default() -> Self {
        Self {
            threads: 1,
            cache_limit: 1 << 30,
            max_sequences: 64,
            max_waiting: 4096,
            step_tokens: 256,
            share_prefixes: true,
            isa: Isa::detect(),
        }
    }
}

/// Why a decoder is not made, or a sequence does not start.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum DecoderError {
    #[error("{what} must be 1 to {most}, got {got}")]
    Option { what: &'static str, most: usize, got: usize },
    #[error("keys and values of {got} bytes are too few for one page, which has {needed}")]
    Cache { needed: usize, got: usize },
    #[error("the weights are packed for {expected}, the options ask for {got}")]
    Isa { expected: Isa, got: Isa },
    #[error("an empty prompt")]
    EmptyPrompt,
    #[error("token {token} at position {position} of the prompt is outside the vocabulary of {vocabulary}")]
    Token { token: u32, position: usize, vocabulary: usize },
    #[error("the prompt has {got} tokens and leaves no room for an answer in the model's context of {limit}")]
    Context { limit: usize, got: usize },
    #[error("prompt and answer need {needed} pages, the cache has {limit}")]
    TooLong { needed: usize, limit: usize },
    #[error("{limit} sequences wait already")]
    Busy { limit: usize },
    #[error(transparent)]
    Parameters(#[from] ParameterError),
}

/// Names a sequence of one decoder; never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId(pub u64);

/// Why a sequence ended (`sampling.md` §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// A stop token.
    Stop,
    /// `max_tokens`, or the end of the context.
    Length,
    /// No token was possible: a mask left none, or every logit is a NaN or -inf.
    NoToken,
}

/// A token of a sequence, or its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The sequence.
    pub sequence: SequenceId,
    /// Index among the generated tokens, from 0.
    pub index: u64,
    /// The token; `None` with [`Finish::NoToken`] only. A stop token is an event too.
    pub token: Option<u32>,
    /// The token's log probability, where asked for.
    pub logprob: Option<LogProbability>,
    /// The likeliest tokens, where asked for.
    pub top: Vec<LogProbability>,
    /// Set on the last event of a sequence, after which its id means nothing.
    pub finish: Option<Finish>,
}

/// What [`Decoder::generate`] gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    /// The tokens, a stop token included.
    pub tokens: Vec<u32>,
    /// Log probabilities of the tokens, where asked for.
    pub logprobs: Vec<LogProbability>,
    /// Why it ended.
    pub finish: Finish,
}

/// Sets logits to -inf, for decoding under a grammar: called for every sequence before a token is drawn.
pub type Mask<'a> = dyn FnMut(SequenceId, &mut [f32]) + 'a;

/// Runs sequences of one model.
#[derive(Debug)]
pub struct Decoder {
    weights: Arc<Weights>,
    exec: Exec,
    options: Options,
    pages: Pages,
    work: Workspace,
    /// Sequences that wait, in order of arrival, then those that compute, in order of joining.
    waiting: std::collections::VecDeque<Sequence>,
    active: Vec<Sequence>,
    next: u64,
}

impl Decoder {
    /// A decoder over `weights`.
    ///
    /// # Errors
    /// Options out of range, weights packed for another instruction set, a cache below one page.
    pub fn new(weights: Arc<Weights>, options: &Options) -> Result<Self, DecoderError> {
        let ranges = [
            ("threads", MAX_THREADS, options.threads),
            ("max_sequences", 1 << 16, options.max_sequences),
            ("step_tokens", 1 << 16, options.step_tokens),
        ];
        for (what, most, got) in ranges {
            if got == 0 || got > most {
                return Err(DecoderError::Option { what, most, got });
            }
        }
        let (expected, got) = (weights.isa, options.isa.or_portable());
        if expected != got {
            return Err(DecoderError::Isa { expected, got });
        }
        let layout = Layout::of(&weights.architecture);
        let limit = options.cache_limit / layout.bytes();
        if limit == 0 {
            return Err(DecoderError::Cache { needed: layout.bytes(), got: options.cache_limit });
        }
        Ok(Self {
            exec: Exec { isa: got, pool: Arc::new(Pool::new(options.threads)) },
            options: options.clone(),
            pages: Pages::new(layout, limit),
            work: Workspace::default(),
            waiting: std::collections::VecDeque::new(),
            active: Vec::new(),
            next: 0,
            weights,
        })
    }

    /// The weights, to make another decoder over.
    pub fn weights(&self) -> &Arc<Weights> {
        &self.weights
    }

    /// Starts a sequence; it joins the others at a following step, and ends with its `max_tokens` or where the context does. `logprobs`: how
    /// many of the likeliest tokens its events list (0: the drawn token's log probability alone), at most [`MAX_TOP`].
    ///
    /// # Errors
    /// A prompt that is empty, has a token outside the vocabulary, or leaves no room for an answer in the context; one that with the answer
    /// is longer than the cache; parameters out of bounds; a full queue.
    pub fn start(
        &mut self,
        prompt: &[u32],
        parameters: Parameters,
        logprobs: Option<usize>,
    ) -> Result<SequenceId, DecoderError> {
        self.start_drafted(prompt, parameters, logprobs, &[])
    }

    /// [`Decoder::start`] with a guess at the answer. It changes no event: what the guess saves is time, because its tokens go through the
    /// layers together, like those of a prompt, as long as they turn out to be the ones that are drawn. Whoever checks an answer guesses it. A
    /// step then gives several events of the sequence, and the mask is called for each of them before any is seen.
    ///
    /// # Errors
    /// As [`Decoder::start`]; a guess is cut where it cannot be right.
    pub fn start_drafted(
        &mut self,
        prompt: &[u32],
        parameters: Parameters,
        logprobs: Option<usize>,
        draft: &[u32],
    ) -> Result<SequenceId, DecoderError> {
        parameters.check()?;
        if let Some(got) = logprobs.filter(|&count| count > MAX_TOP) {
            return Err(DecoderError::Option { what: "logprobs", most: MAX_TOP, got });
        }
        let most = usize::try_from(parameters.max_tokens).unwrap_or(usize::MAX);
        let (most, needed) = self.check_tokens(prompt, most)?;
        if self.waiting.len() >= self.options.max_waiting {
            return Err(DecoderError::Busy { limit: self.options.max_waiting });
        }
        let id = SequenceId(self.next);
        self.next += 1;
        let vocabulary = self.weights.architecture.vocabulary;
        let possible = draft.iter().copied().take(most).take_while(|token| (*token as usize) < vocabulary);
        let mut sequence = Sequence::new(id, prompt, parameters, logprobs, (most, needed));
        sequence.guess(possible);
        self.waiting.push_back(sequence);
        Ok(id)
    }

    /// Checks a prompt with at most `more` tokens to follow; how many there is room for, and the number of pages that all need.
    fn check_tokens(&self, prompt: &[u32], more: usize) -> Result<(usize, usize), DecoderError> {
        if prompt.is_empty() {
            return Err(DecoderError::EmptyPrompt);
        }
        let vocabulary = self.weights.architecture.vocabulary;
        if let Some((position, &token)) =
            prompt.iter().enumerate().find(|(_, token)| **token as usize >= vocabulary)
        {
            return Err(DecoderError::Token { token, position, vocabulary });
        }
        let (got, limit) = (prompt.len(), self.weights.architecture.context);
        if got >= limit {
            return Err(DecoderError::Context { limit, got });
        }
        let most = more.min(limit - got);
        let (needed, limit) = ((got + most).div_ceil(PAGE), self.pages.limit());
        if needed > limit { Err(DecoderError::TooLong { needed, limit }) } else { Ok((most, needed)) }
    }

    /// Ends a sequence without further events; whether there was one of this id.
    pub fn cancel(&mut self, id: SequenceId) -> bool {
        if let Some(at) = self.waiting.iter().position(|sequence| sequence.id == id) {
            self.waiting.remove(at);
            return true;
        }
        let Some(at) = self.active.iter().position(|sequence| sequence.id == id) else { return false };
        self.active.remove(at).leave(&mut self.pages);
        true
    }

    /// Whether no sequence waits or computes.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.active.is_empty()
    }

    /// Sequences that wait, and that compute.
    pub fn load(&self) -> (usize, usize) {
        (self.waiting.len(), self.active.len())
    }

    /// One step: every sequence whose prompt is done gets a token.
    pub fn step(&mut self) -> Vec<Event> {
        self.step_masked(&mut |_, _| ())
    }

    /// [`Decoder::step`] with a mask on the logits before each draw. Log probabilities are the model's, before the mask.
    pub fn step_masked(&mut self, mask: &mut Mask<'_>) -> Vec<Event> {
        let _mode = KeepSubnormals::begin();
        self.admit();
        // Those that generate first, then prompts in order of joining, as far as the step reaches.
        let mut budget = self.options.step_tokens;
        let mut taken = vec![0; self.active.len()];
        for prompts in [false, true] {
            for (taken, sequence) in taken.iter_mut().zip(&self.active) {
                if (sequence.ready() > 1) == prompts {
                    *taken = sequence.ready().min(budget);
                    budget -= *taken;
                }
            }
        }
        let mut rows = Vec::new();
        for (sequence, &taken) in self.active.iter_mut().zip(&taken) {
            sequence.reserve(taken, &mut self.pages);
        }
        for (sequence, &taken) in self.active.iter().zip(&taken) {
            sequence.rows(taken, &mut rows);
        }
        if rows.is_empty() {
            return Vec::new();
        }
        forward(&self.exec, &self.weights, &mut self.pages, &rows, &mut self.work);

        let vocabulary = self.weights.architecture.vocabulary;
        let mut logits = self.work.logits.chunks_exact_mut(vocabulary);
        let mut events = Vec::new();
        for (sequence, &taken) in self.active.iter_mut().zip(&taken) {
            let pages = (&mut self.pages, self.options.share_prefixes);
            sequence.advance(taken, &mut logits, mask, pages, &mut events);
        }
        let ended = |sequence: &Sequence| {
            events.iter().any(|event| event.sequence == sequence.id && event.finish.is_some())
        };
        for sequence in self.active.extract_if(.., |sequence| ended(sequence)) {
            sequence.leave(&mut self.pages);
        }
        events
    }

    /// Lets waiting sequences join, in order, as long as pages for all that computing ones may ever need are there.
    fn admit(&mut self) {
        let mut promised: usize = self.active.iter().map(|sequence| sequence.needed).sum();
        while self.active.len() < self.options.max_sequences
            && let Some(first) = self.waiting.front()
            && promised + first.needed <= self.pages.limit()
            && let Some(mut sequence) = self.waiting.pop_front()
        {
            promised += sequence.needed;
            if self.options.share_prefixes {
                sequence.join_prefix(&mut self.pages);
            }
            self.active.push(sequence);
        }
    }

    /// Generates one answer. Other sequences of this decoder go on meanwhile and their events are lost, so use one of its own.
    ///
    /// # Errors
    /// As [`Decoder::start`].
    pub fn generate(&mut self, prompt: &[u32], parameters: Parameters) -> Result<Generated, DecoderError> {
        self.generate_masked(prompt, parameters, None, &mut |_, _| ())
    }

    /// [`Decoder::generate`] with log probabilities and a mask.
    ///
    /// # Errors
    /// As [`Decoder::start`].
    pub fn generate_masked(
        &mut self,
        prompt: &[u32],
        parameters: Parameters,
        logprobs: Option<usize>,
        mask: &mut Mask<'_>,
    ) -> Result<Generated, DecoderError> {
        let id = self.start(prompt, parameters, logprobs)?;
        let mut answer = Generated { tokens: Vec::new(), logprobs: Vec::new(), finish: Finish::NoToken };
        loop {
            for event in self.step_masked(mask).into_iter().filter(|event| event.sequence == id) {
                answer.tokens.extend(event.token);
                answer.logprobs.extend(event.logprob);
                if let Some(finish) = event.finish {
                    answer.finish = finish;
                    return Ok(answer);
                }
            }
        }
    }
}
