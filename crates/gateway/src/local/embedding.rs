//! Embedding models that run in this process, and the re-run of their receipts (`chat.md` §5).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use hallmark_engine::decoder::Options;
use hallmark_engine::encoder::{Encoder, Weights};
use hallmark_model::llm::EncoderModel;
use hallmark_model::llm::model::TOKENIZER;
use hallmark_model::manifest::NUMERIC_VERSION;
use hallmark_receipt::json::{Object, object};
use hallmark_receipt::{Claim, Data, Digest, Opening, Tensor};
use hallmark_text::Tokenizer;
use hallmark_verdict::{ReplayError, Replayer};

use super::replay::members;
use super::{DIALECT, LanguageError, LocalError, PROMPT, card};
use crate::backend::{
    Answer, Backend, BackendError, EmbedInput, EmbedRequest, Embeddings, ModelCard, Origin, Replay,
};
use crate::chat::{ChatRequest, Usage};
use crate::dialect::openai;
use crate::notary::RESPONSE;

/// Tokens of each text.
pub const LENGTHS: &str = "lengths";
/// The vectors.
pub const EMBEDDINGS: &str = "embeddings";
/// Numbers of all vectors of an answer, at most.
const MAX_NUMBERS: usize = 1 << 20;
/// Texts that are embedded before others get their turn.
const TURN: usize = 16;

/// An embedding model ready to run.
#[derive(Clone, Debug)]
pub struct Embedder {
    model: Arc<EncoderModel>,
    tokenizer: Arc<Tokenizer>,
    /// Held for [`TURN`] texts at a time.
    encoder: Arc<Mutex<Encoder>>,
}

/// Ends the work when nobody waits for it any more.
struct Wanted(Arc<AtomicBool>);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.store(false, Relaxed);
    }
}

impl Embedder {
    /// Reads a model's files, which are those of `model`.
    ///
    /// # Errors
    /// Files that do not make a model that embeds.
    pub fn open(
        model: EncoderModel,
        files: &BTreeMap<String, Vec<u8>>,
        options: &Options,
    ) -> Result<Self, LocalError> {
        let tokenizer = tokenizer(&model, files)?;
        let weights = Arc::new(Weights::load(&model.checkpoint(files)?, options.isa)?);
        let encoder = Encoder::new(weights, options.threads)?;
        Ok(Self {
            model: Arc::new(model),
            tokenizer: Arc::new(tokenizer),
            encoder: Arc::new(Mutex::new(encoder)),
        })
    }

    /// Whether these files, which are those of `model`, make a model that embeds. Loads no weights.
    ///
    /// # Errors
    /// A tokenizer that is missing or does not fit.
    pub fn check(model: &EncoderModel, files: &BTreeMap<String, Vec<u8>>) -> Result<(), LocalError> {
        tokenizer(model, files).map(drop)
    }

    /// Answers as `name`.
    pub fn serve(self, name: &str) -> Serving {
        Serving { card: card(name, self.model.id()), embedder: self }
    }

    /// The tokens of each text of `request`.
    fn tokens(&self, request: &EmbedRequest) -> Result<Vec<Vec<u32>>, BackendError> {
        let hidden = self.model.skeleton().architecture().hidden;
        if request.dimensions.is_some_and(|wanted| wanted != hidden as u64) {
            return Err(refused(&format_args!(
                "this model's vectors have {hidden} dimensions, and no others"
            )));
        }
        let most = MAX_NUMBERS / hidden;
        if request.input.len() > most {
            return Err(refused(&format_args!("{} texts, at most {most} at a time", request.input.len())));
        }
        match &request.input {
            EmbedInput::Tokens(tokens) => Ok(tokens.clone()),
            EmbedInput::Texts(texts) => texts
                .iter()
                .map(|text| self.tokenizer.encode(text, true).map_err(|error| refused(&error)))
                .collect(),
        }
    }

    /// The vectors of `texts`, as long as `wanted`.
    fn vectors(&self, texts: &[Vec<u32>], wanted: &AtomicBool) -> Result<Vec<Vec<f32>>, BackendError> {
        let mut vectors = Vec::with_capacity(texts.len());
        for part in texts.chunks(TURN) {
            if !wanted.load(Relaxed) {
                return Err(BackendError::Cut);
            }
            let part: Vec<&[u32]> = part.iter().map(Vec::as_slice).collect();
            let mut encoder = self.encoder.lock().unwrap_or_else(PoisonError::into_inner);
            vectors.extend(encoder.embed(&part).map_err(|error| refused(&error))?);
        }
        Ok(vectors)
    }

    fn answer(&self, request: &EmbedRequest, wanted: &AtomicBool) -> Result<Embeddings, BackendError> {
        let tokens = self.tokens(request)?;
        let vectors = self.vectors(&tokens, wanted)?;
        let input = tokens.iter().map(|text| text.len() as u64).sum();
        let [prompt, lengths] = inputs(&tokens);
        let replay = Replay {
            inputs: vec![prompt, lengths],
            outputs: vec![output(&vectors)?],
            parameters: parameters(),
            manifest: Some(self.model.manifest().to_object()),
            graph: Some(self.model.skeleton().to_json().into_bytes()),
            numeric: Some(NUMERIC_VERSION),
            ..Replay::default()
        };
        let usage = Usage { input, ..Usage::default() };
        Ok(Embeddings { vectors, usage, replay: Some(replay) })
    }

    /// The outputs that this model gives for a claim's opened inputs: `response`, `embeddings`.
    ///
    /// # Errors
    /// A claim that is not of this form, or whose tokens do not follow from its request.
    pub fn replay(&self, opened: &[Opening], claim: &Claim) -> Result<Vec<(String, Tensor)>, ReplayError> {
        let refuse = |why: &dyn std::fmt::Display| ReplayError::Execution(why.to_string());
        if claim.parameters != parameters() {
            return Err(ReplayError::Parameters);
        }
        let [request, rest @ ..] = opened else { return Err(refuse(&"it has no inputs")) };
        let body = members(request).ok_or_else(|| refuse(&"its first input is not a request"))?;
        let asked =
            openai::parse_embed(&body).map_err(|_| refuse(&"its request is not one for embeddings"))?;
        let tokens = self.tokens(&asked).map_err(|error| refuse(&error))?;
        let fits = |got: &[Opening], wanted: &[(String, Tensor)]| {
            got.len() == wanted.len()
                && got
                    .iter()
                    .zip(wanted)
                    .all(|(got, (name, tensor))| got.name() == name && got.tensor() == tensor)
        };
        if !fits(rest, &inputs(&tokens)) {
            return Err(refuse(&"its tokens are not what the model's tokenizer makes of its request"));
        }
        let vectors = self.vectors(&tokens, &AtomicBool::new(true)).map_err(|error| refuse(&error))?;
        let text = crate::json::canonical(&openai::embeddings_data(&vectors, asked.base64));
        let embeddings = output(&vectors).map_err(|error| refuse(&error))?;
        Ok(vec![(RESPONSE.to_owned(), Tensor::vector(vec![text])), embeddings])
    }
}

/// A claim's parameters.
fn parameters() -> Object {
    object([(DIALECT, openai::EMBEDDINGS.into())])
}

/// A claim's inputs after the request: all tokens, one text after the other, and how many each has.
fn inputs(texts: &[Vec<u32>]) -> [(String, Tensor); 2] {
    let tokens: Vec<i64> = texts.iter().flatten().map(|&id| id.into()).collect();
    let lengths: Vec<i64> = texts.iter().map(|text| i64::try_from(text.len()).unwrap_or(i64::MAX)).collect();
    [(PROMPT.to_owned(), Tensor::vector(tokens)), (LENGTHS.to_owned(), Tensor::vector(lengths))]
}

/// A claim's output after the response.
fn output(vectors: &[Vec<f32>]) -> Result<(String, Tensor), BackendError> {
    let shape = vec![vectors.len(), vectors.first().map_or(0, Vec::len)];
    let tensor = Tensor::new(shape, Data::F32(vectors.concat()));
    let malformed = BackendError::Malformed { what: "vectors of different lengths" };
    Ok((EMBEDDINGS.to_owned(), tensor.map_err(|_| malformed)?))
}

/// The tokenizer, which cuts texts to the model's length.
fn tokenizer(model: &EncoderModel, files: &BTreeMap<String, Vec<u8>>) -> Result<Tokenizer, LocalError> {
    let a = model.skeleton().architecture();
    let tokenizer = files.get(TOKENIZER).ok_or(LanguageError::Missing(TOKENIZER))?;
    let tokenizer = Tokenizer::from_json(tokenizer).map_err(LanguageError::from)?;
    let (tokens, rows) = (tokenizer.vocabulary_size(), a.vocabulary);
    if tokens > rows {
        return Err(LanguageError::Vocabulary { tokens, rows }.into());
    }
    Ok(tokenizer.truncated(a.tokens).map_err(LanguageError::from)?)
}

/// The request is at fault.
fn refused(why: &dyn std::fmt::Display) -> BackendError {
    BackendError::Unfit { message: why.to_string() }
}

/// An [`Embedder`] that answers.
#[derive(Debug)]
pub struct Serving {
    embedder: Embedder,
    card: ModelCard,
}

impl Replayer for Serving {
    fn replay(
        &self,
        model: &Digest,
        inputs: &[Opening],
        _: &[Opening],
        claim: &Claim,
    ) -> Result<Vec<(String, Tensor)>, ReplayError> {
        if *model != self.embedder.model.id() {
            return Err(ReplayError::ModelAbsent(*model));
        }
        self.embedder.replay(inputs, claim)
    }
}

impl Backend for Serving {
    fn kind(&self) -> &'static str {
        "embedding"
    }

    fn replayer(&self) -> Option<&dyn Replayer> {
        Some(self)
    }

    fn models(&self) -> Vec<ModelCard> {
        vec![self.card.clone()]
    }

    fn chat(&self, request: Arc<ChatRequest>, _: Origin) -> BoxFuture<'_, Result<Answer, BackendError>> {
        drop(request);
        Box::pin(std::future::ready(Err(BackendError::Unsupported { what: "chats: it embeds texts" })))
    }

    fn embed(&self, request: Arc<EmbedRequest>) -> BoxFuture<'_, Result<Embeddings, BackendError>> {
        let embedder = self.embedder.clone();
        Box::pin(async move {
            let flag = Arc::new(AtomicBool::new(true));
            let _wanted = Wanted(Arc::clone(&flag));
            let work = tokio::task::spawn_blocking(move || embedder.answer(&request, &flag));
            work.await.map_err(|_| BackendError::Unavailable { why: "the encoder has ended" })?
        })
    }
}
