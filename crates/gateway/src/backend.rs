//! The seam to what answers: a provider over the network, or a decoder in this process.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use hallmark_receipt::json::Object;
use hallmark_receipt::{Digest, Envelope, Model, Nonce, Tensor};
use hallmark_verdict::Replayer;

use crate::chat::{ChatRequest, Delta, Usage};

/// Something that answers chats. Dropping a future or an answer ends the work behind it.
pub trait Backend: Send + Sync + 'static {
    /// The models that it answers for.
    fn models(&self) -> Vec<ModelCard>;

    /// Starts an answer. The future ends when the first piece is about to come; a refusal comes as its error.
    fn chat(&self, request: Arc<ChatRequest>, origin: Origin) -> BoxFuture<'_, Result<Answer, BackendError>>;

    /// What runs claims about these models again, where they are one's own (`chat.md` §4).
    fn replayer(&self) -> Option<&dyn Replayer> {
        None
    }

    /// What its models are called in lists: `language`, or `embedding` where they do not chat.
    fn kind(&self) -> &'static str {
        "language"
    }

    /// Embeds texts.
    fn embed(&self, request: Arc<EmbedRequest>) -> BoxFuture<'_, Result<Embeddings, BackendError>> {
        drop(request);
        Box::pin(std::future::ready(Err(BackendError::Unsupported { what: "embeddings" })))
    }
}

/// Where a request comes from: what a model of one's own puts into its claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The salted commitment to the request's body.
    pub request: Digest,
    /// The requester's nonce, where it sent one.
    pub nonce: Option<Nonce>,
    /// Random bytes of the node's, for a seed that nobody else chose.
    pub drawn: [u8; 32],
    /// The wire format's name ([`Kind::name`](crate::dialect::Kind::name)).
    pub dialect: &'static str,
}

/// A model that a gateway lists.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelCard {
    /// The name that requests use: at most 128 bytes.
    pub name: String,
    /// Who answers, as `owned_by` shows.
    pub owner: String,
    /// What a receipt says about it.
    pub model: Model,
    /// What it costs.
    pub price: Option<Price>,
}

/// Price of a model in an asset's smallest unit.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// The asset's name, for example `USDC`.
    pub asset: String,
    /// For a million tokens of the request.
    pub input: u64,
    /// For a million tokens of the answer.
    pub output: u64,
}

impl Price {
    /// What these tokens cost, rounded up.
    pub fn of(&self, usage: Usage) -> hallmark_receipt::Price {
        let cost = |tokens: u64, price: u64| u128::from(tokens).saturating_mul(u128::from(price));
        let sum = cost(usage.input, self.input).saturating_add(cost(usage.output, self.output));
        hallmark_receipt::Price { amount: sum.div_ceil(1_000_000).to_string(), asset: self.asset.clone() }
    }
}

/// A started answer.
pub struct Answer {
    /// Its pieces. Ends after `Finish` (and `Usage`, `Replay`); an end without `Finish` is a broken answer.
    pub deltas: BoxStream<'static, Result<Delta, BackendError>>,
}

/// For a model of one's own: what lets anyone run it again. The tensors go into the claim after `request` and `response`, so
/// their names must differ from these.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Replay {
    /// The model's inputs, in its order.
    pub inputs: Vec<(String, Tensor)>,
    /// The model's outputs, in its order.
    pub outputs: Vec<(String, Tensor)>,
    /// Sampling, seed and who chose it.
    pub parameters: Object,
    /// The model's manifest.
    pub manifest: Option<Object>,
    /// The graph without weights.
    pub graph: Option<Vec<u8>>,
    /// What publishers say.
    pub publications: Vec<Envelope>,
    /// The version of `spec/numeric.md` under which the outputs follow, if they do.
    pub numeric: Option<u32>,
}

/// What to embed.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbedRequest {
    /// The model's name.
    pub model: String,
    /// The texts; never empty.
    pub input: EmbedInput,
    /// The wanted length of vectors, where the model can vary it.
    pub dimensions: Option<u64>,
    /// Whether vectors are written as base64 of little-endian float32, not as numbers.
    pub base64: bool,
}

/// Texts, as letters or as the model's own tokens.
#[derive(Clone, Debug, PartialEq)]
pub enum EmbedInput {
    /// Texts.
    Texts(Vec<String>),
    /// The tokens of each text, the model's frame included.
    Tokens(Vec<Vec<u32>>),
}

impl EmbedInput {
    /// How many texts.
    pub fn len(&self) -> usize {
        match self {
            Self::Texts(texts) => texts.len(),
            Self::Tokens(texts) => texts.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Embedded texts.
#[derive(Clone, Debug, PartialEq)]
pub struct Embeddings {
    /// One vector a text, in order.
    pub vectors: Vec<Vec<f32>>,
    /// The counts.
    pub usage: Usage,
    /// For a model of one's own: what lets anyone run it again.
    pub replay: Option<Replay>,
}

/// Why there is no answer, or no more of one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// A provider does not answer the request as it is.
    #[error("the model's provider refused the request ({status}): {message}")]
    Refused {
        /// The provider's HTTP status, 4xx.
        status: u16,
        /// Its word, cut at 1 KiB.
        message: String,
    },
    /// A model of one's own does not take the request as it is.
    #[error("the model does not take this request: {message}")]
    Unfit {
        /// Why, cut at 1 KiB.
        message: String,
    },
    /// A prompt that leaves no room for an answer, in a model of one's own.
    #[error(
        "this model's maximum context length is {limit} tokens, and the prompt alone has {got}: shorten it"
    )]
    TooLong {
        /// Tokens of the prompt.
        got: usize,
        /// Tokens of prompt and answer together, at most.
        limit: usize,
    },
    /// Too many requests for now.
    #[error("the model's provider has no capacity now")]
    Busy {
        /// When to try again.
        retry_after: Option<Duration>,
    },
    /// Nobody there, or a failure there.
    #[error("the model's provider is not available: {why}")]
    Unavailable {
        /// What happened.
        why: &'static str,
    },
    /// No answer in time.
    #[error("the model's provider did not answer in time")]
    TimedOut,
    /// An answer that is not of its format.
    #[error("the model's provider sent what is not of its format: {what}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
    },
    /// The answer ended before it was finished.
    #[error("the answer was cut off")]
    Cut,
    /// This backend cannot do that.
    #[error("this model does not support {what}")]
    Unsupported {
        /// What was asked for.
        what: &'static str,
    },
}
