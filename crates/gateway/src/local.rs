//! Language models that run in this process: answers that anyone who holds the model can run again (`chat.md`).
//!
//! A decoder has a thread of its own. Requests join and leave it between steps; an answer that nobody reads any more is dropped.

mod calls;
mod carried;
pub mod embedding;
mod language;
mod replay;
mod run;
mod schema;

use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream;
use hallmark_engine::decoder::{Decoder, DecoderError, Event, Options, SequenceId, Weights};
use hallmark_engine::encoder::EncoderError;
use hallmark_model::llm::sampling::Seed;
use hallmark_model::llm::{DecoderModel, LlmError};
use hallmark_model::manifest::NUMERIC_VERSION;
use hallmark_receipt::json::{Object, Value, object};
use hallmark_receipt::{Claim, Digest, Model, Opening, Tensor};
use hallmark_verdict::{ReplayError, Replayer};
use tokio::sync::{mpsc as pieces, oneshot};

use crate::backend::{Answer, Backend, BackendError, ModelCard, Origin, Replay};
use crate::chat::{ChatRequest, Delta};
use run::Run;

pub use embedding::Embedder;
pub use language::{Language, LanguageError, Plan};
pub use replay::replay;

/// Names of the tensors of a claim beside `request` and `response`.
pub const PROMPT: &str = "prompt";
/// The generated tokens.
pub const TOKENS: &str = "tokens";
/// The logarithms of their probabilities.
pub const LOGPROBS: &str = "logprobs";
/// Members of a claim's parameters.
const DIALECT: &str = "dialect";
const GENERATION: &str = "generation";

/// Why a model does not run here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalError {
    /// Its weights.
    #[error(transparent)]
    Weights(#[from] LlmError),
    /// Its tokenizer or template.
    #[error(transparent)]
    Language(#[from] LanguageError),
    /// The options.
    #[error(transparent)]
    Decoder(#[from] DecoderError),
    /// The options of an encoder.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    /// No thread.
    #[error("the system gives no thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// A language model ready to run: its weights packed, its tokenizer and template read.
#[derive(Clone, Debug)]
pub struct Local {
    model: Arc<DecoderModel>,
    language: Arc<Language>,
    weights: Arc<Weights>,
}

impl Local {
    /// Reads a model's files, which are those of `model`.
    ///
    /// # Errors
    /// Files that do not make a model that chats.
    pub fn open(
        model: DecoderModel,
        files: &BTreeMap<String, Vec<u8>>,
        options: &Options,
    ) -> Result<Self, LocalError> {
        let language = Language::open(files, model.skeleton().architecture().context)?;
        let weights = Weights::load(&model.checkpoint(files)?, options.isa)?;
        Ok(Self { model: Arc::new(model), language: Arc::new(language), weights: Arc::new(weights) })
    }

    /// Whether these files, which are those of `model`, make a model that chats. Loads no weights, and tries the template.
    ///
    /// # Errors
    /// As [`Local::open`], and a template that gives no prompt.
    pub fn check(model: &DecoderModel, files: &BTreeMap<String, Vec<u8>>) -> Result<(), LocalError> {
        let a = model.skeleton().architecture();
        let language = Language::open(files, a.context)?;
        let (tokens, rows) = (language.tokenizer().vocabulary_size(), a.vocabulary);
        if tokens > rows {
            return Err(LanguageError::Vocabulary { tokens, rows }.into());
        }
        Ok(language.check()?)
    }

    /// Starts the decoder's thread and answers as `name`.
    ///
    /// # Errors
    /// Options outside their bounds, no thread.
    pub fn serve(self, name: &str, options: &Options) -> Result<Serving, LocalError> {
        let decoder = Decoder::new(Arc::clone(&self.weights), options)?;
        let (starts, queue) = mpsc::channel();
        let language = Arc::clone(&self.language);
        std::thread::Builder::new()
            .name("hallmark-decoder".to_owned())
            .spawn(move || work(&language, decoder, &queue))?;
        let card = card(name, self.model.id());
        Ok(Serving { local: self, card, starts, options: options.clone() })
    }

    fn receipt(&self, plan: &Plan, dialect: &str) -> Replay {
        Replay {
            parameters: parameters(plan, dialect),
            manifest: Some(self.model.manifest().to_object()),
            graph: Some(self.model.skeleton().to_json().into_bytes()),
            numeric: Some(NUMERIC_VERSION),
            ..Replay::default()
        }
    }
}

fn card(name: &str, id: Digest) -> ModelCard {
    ModelCard { name: name.to_owned(), owner: "hallmark".to_owned(), model: Model::Id(id), price: None }
}

/// A claim's parameters.
fn parameters(plan: &Plan, dialect: &str) -> Object {
    object([(DIALECT, dialect.into()), (GENERATION, Value::Object(plan.parameters.to_object()))])
}

/// The seed of `sampling.md` §5: the client's, or made of both sides' words, or the node's alone.
fn seed(request: &ChatRequest, origin: &Origin) -> Seed {
    match (request.sampling.seed, origin.nonce) {
        // The client's number, whatever its sign, as the 64 bits that it is.
        (Some(seed), _) => Seed::Client(seed.cast_unsigned()),
        (None, Some(nonce)) => Seed::Request { request: origin.request, nonce },
        (None, None) => Seed::Node(origin.drawn),
    }
}

/// A [`Local`] that answers.
#[derive(Debug)]
pub struct Serving {
    local: Local,
    card: ModelCard,
    starts: mpsc::Sender<Start>,
    /// For re-runs, which have a decoder of their own.
    options: Options,
}

/// What the decoder's thread is asked for.
struct Start {
    plan: Plan,
    receipt: Box<Replay>,
    begun: oneshot::Sender<Result<(), BackendError>>,
    pieces: pieces::UnboundedSender<Result<Delta, BackendError>>,
}

impl Replayer for Serving {
    fn replay(
        &self,
        model: &Digest,
        inputs: &[Opening],
        outputs: &[Opening],
        claim: &Claim,
    ) -> Result<Vec<(String, Tensor)>, ReplayError> {
        if *model != self.local.model.id() {
            return Err(ReplayError::ModelAbsent(*model));
        }
        replay(&self.local, inputs, outputs, claim, &self.options)
    }
}

impl Backend for Serving {
    fn models(&self) -> Vec<ModelCard> {
        vec![self.card.clone()]
    }

    fn replayer(&self) -> Option<&dyn Replayer> {
        Some(self)
    }

    fn chat(&self, request: Arc<ChatRequest>, origin: Origin) -> BoxFuture<'_, Result<Answer, BackendError>> {
        let gone = BackendError::Unavailable { why: "the decoder has ended" };
        Box::pin(async move {
            let language = Arc::clone(&self.local.language);
            // Long prompts take milliseconds to tokenize.
            let plan = tokio::task::spawn_blocking(move || language.plan(&request, seed(&request, &origin)));
            let plan = plan.await.map_err(|_| gone.clone())??;
            let receipt = Box::new(self.local.receipt(&plan, origin.dialect));
            let (begun, ready) = oneshot::channel();
            // No more than `max_tokens` pieces ever wait here.
            let (pieces, received) = pieces::unbounded_channel();
            self.starts.send(Start { plan, receipt, begun, pieces }).map_err(|_| gone.clone())?;
            ready.await.map_err(|_| gone)??;
            let deltas = stream::unfold(received, |mut received| async move {
                let delta = received.recv().await?;
                Some((delta, received))
            });
            Ok(Answer { deltas: deltas.boxed() })
        })
    }
}

/// An answer that is being generated.
struct Active<'a> {
    run: Run<'a>,
    receipt: Box<Replay>,
    pieces: pieces::UnboundedSender<Result<Delta, BackendError>>,
}

impl Active<'_> {
    /// Sends what a token brings; `false` once the answer is over.
    fn take(&mut self, event: &Event) -> bool {
        let deltas = match self.run.take(event) {
            Ok(deltas) => deltas,
            Err(_) => {
                let error = BackendError::Malformed { what: "a token that stands for nothing" };
                let _ = self.pieces.send(Err(error));
                return false;
            }
        };
        let mut reads = !self.pieces.is_closed();
        for delta in deltas {
            reads &= self.pieces.send(Ok(delta)).is_ok();
        }
        if self.run.is_finished() {
            let (prompt, tokens, logprobs) = self.run.tensors();
            self.receipt.inputs = vec![(PROMPT.to_owned(), prompt)];
            self.receipt.outputs = vec![(TOKENS.to_owned(), tokens), (LOGPROBS.to_owned(), logprobs)];
            let _ = self.pieces.send(Ok(Delta::Replay(std::mem::take(&mut self.receipt))));
            return false;
        }
        reads
    }
}

/// The life of a decoder's thread: until nobody can ask any more.
fn work(language: &Language, mut decoder: Decoder, queue: &mpsc::Receiver<Start>) {
    let mut active: BTreeMap<SequenceId, Active<'_>> = BTreeMap::new();
    loop {
        let first = if decoder.is_idle() {
            let Ok(first) = queue.recv() else { return };
            Some(first)
        } else {
            None
        };
        for start in first.into_iter().chain(queue.try_iter()) {
            match begin(language, &mut decoder, start) {
                Some((id, run)) => {
                    active.insert(id, run);
                }
                // Its client has been told.
                None => continue,
            }
        }
        let events = decoder.step_masked(&mut |id, logits| {
            if let Some(one) = active.get_mut(&id) {
                one.run.mask(logits);
            }
        });
        for event in events {
            let id = event.sequence;
            let goes_on = active.get_mut(&id).is_some_and(|one| one.take(&event));
            if !goes_on || event.finish.is_some() {
                active.remove(&id);
                decoder.cancel(id);
            }
        }
    }
}

fn begin<'a>(
    language: &'a Language,
    decoder: &mut Decoder,
    start: Start,
) -> Option<(SequenceId, Active<'a>)> {
    let Start { plan, receipt, begun, pieces } = start;
    let id = decoder.start(&plan.prompt, plan.parameters.clone(), Some(plan.top.unwrap_or(0)));
    let run = id.map_err(|error| refusal(&error)).and_then(|id| {
        let run = Run::new(language, plan);
        run.map(|run| (id, run)).map_err(|_| BackendError::Unavailable { why: "the tokenizer cannot decode" })
    });
    match run {
        Ok((id, run)) => {
            let _ = begun.send(Ok(()));
            Some((id, Active { run, receipt, pieces }))
        }
        Err(error) => {
            let _ = begun.send(Err(error));
            None
        }
    }
}

fn refusal(error: &DecoderError) -> BackendError {
    match error {
        DecoderError::Busy { .. } => BackendError::Busy { retry_after: None },
        other => BackendError::Unfit { message: other.to_string() },
    }
}
