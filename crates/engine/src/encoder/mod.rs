//! Encoders of BERT's shape, with exactly the bits of `numeric.md` §12.
//!
//! Texts of any lengths go through the layers together, one after the other without padding; a text's vector is the one that it would have
//! alone, on any instruction set and number of threads.
//!
//! ```no_run
//! use hallmark_engine::encoder::{Encoder, Weights};
//! use hallmark_engine::Isa;
//! use hallmark_model::llm::{Encoder as Architecture, Network};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let source = std::collections::BTreeMap::<String, Vec<u8>>::new();
//! let checkpoint = Architecture::open(&["config.json".into(), "model.safetensors".into()], &source)?;
//! let weights = std::sync::Arc::new(Weights::load(&checkpoint, Isa::detect())?);
//! let vectors = Encoder::new(weights, 1)?.embed(&[&[101, 7592, 102], &[101, 102]])?;
//! assert_eq!(vectors.len(), 2);
//! # Ok(()) }
//! ```

mod forward;
mod weights;

use std::sync::Arc;

use crate::program::{Exec, MAX_THREADS};
use crate::threads::{KeepSubnormals, Pool};

pub use weights::Weights;

/// Tokens of one pass, but for a text that is longer: it bounds the memory.
const PASS: usize = 2048;

/// Why texts are not embedded.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum EncoderError {
    #[error("threads must be 1 to {most}, got {got}")]
    Threads { most: usize, got: usize },
    #[error("a text of no tokens")]
    Empty,
    #[error("a text of {got} tokens, the model reads {limit}")]
    TooLong { limit: usize, got: usize },
    #[error("token {token} at position {position} is outside the vocabulary of {vocabulary}")]
    Token { token: u32, position: usize, vocabulary: usize },
}

/// Embeds texts with one model.
#[derive(Debug)]
pub struct Encoder {
    weights: Arc<Weights>,
    exec: Exec,
}

impl Encoder {
    /// An encoder over `weights`.
    ///
    /// # Errors
    /// A number of threads out of range.
    pub fn new(weights: Arc<Weights>, threads: usize) -> Result<Self, EncoderError> {
        if threads == 0 || threads > MAX_THREADS {
            return Err(EncoderError::Threads { most: MAX_THREADS, got: threads });
        }
        Ok(Self { exec: Exec { isa: weights.isa, pool: Arc::new(Pool::new(threads)) }, weights })
    }

    /// The vector of each of `texts`, which are their tokens, the model's own frame included.
    ///
    /// # Errors
    /// A text without tokens, with more than the model reads, or with one outside the vocabulary.
    pub fn embed(&mut self, texts: &[&[u32]]) -> Result<Vec<Vec<f32>>, EncoderError> {
        let _mode = KeepSubnormals::begin();
        texts.iter().try_for_each(|text| self.check(text))?;
        let mut vectors = Vec::with_capacity(texts.len());
        let mut rest = texts;
        while !rest.is_empty() {
            let mut sum = 0;
            let fits = rest.iter().take_while(|text| {
                sum += text.len();
                sum <= PASS
            });
            let (pass, after) = rest.split_at(fits.count().max(1));
            vectors.extend(forward::forward(&self.exec, &self.weights, pass));
            rest = after;
        }
        Ok(vectors)
    }

    fn check(&self, text: &[u32]) -> Result<(), EncoderError> {
        let a = &self.weights.architecture;
        if text.is_empty() {
            return Err(EncoderError::Empty);
        }
        if text.len() > a.tokens {
            return Err(EncoderError::TooLong { limit: a.tokens, got: text.len() });
        }
        match text.iter().enumerate().find(|(_, token)| **token as usize >= a.vocabulary) {
            None => Ok(()),
            Some((position, &token)) => {
                Err(EncoderError::Token { token, position, vocabulary: a.vocabulary })
            }
        }
    }
}
