//! Language models on the command line: opened for an answer or a re-run.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hallmark_engine::{EngineReplayer, LocalModel, decoder};
use hallmark_gateway::local::{self, Embedder, Local};
use hallmark_receipt::{Claim, Digest, Opening, Tensor};
use hallmark_verdict::{ReplayError, Replayer};

use crate::cmd::App;
use crate::cmd::infer;
use crate::fault::Note;
use crate::model::{self, Copy, Kind};
use crate::proof;

/// How this machine runs language models. None of it changes a bit.
pub fn options(app: &App) -> decoder::Options {
    let memory = app.config.memory_mib.value.saturating_mul(1 << 20);
    decoder::Options {
        threads: app.config.threads.value,
        cache_limit: memory / 4,
        ..decoder::Options::default()
    }
}

/// A language model ready to chat.
pub fn open(app: &App, copy: &Copy) -> Result<Local> {
    match text_model(app, copy)? {
        Text::Chat(local) => Ok(local),
        Text::Embedding(_) => Err(Note::usage("this model embeds texts, it does not chat")
            .hint("serve it: hallmark up --model MODEL, then POST /v1/embeddings")
            .error()),
    }
}

/// A model that takes text.
#[derive(Clone, Debug)]
pub enum Text {
    /// It answers.
    Chat(Local),
    /// It embeds.
    Embedding(Embedder),
}

/// A model that takes text, ready to run.
pub fn text_model(app: &App, copy: &Copy) -> Result<Text> {
    match &copy.kind {
        Kind::Graph(_) => Err(Note::usage("this model takes tensors, not text")
            .hint("run it: hallmark infer MODEL")
            .error()),
        Kind::Decoder(model) => Local::open(model.clone(), &copy.files, &options(app))
            .map(Text::Chat)
            .context("the model does not chat"),
        Kind::Encoder(model) => Embedder::open(model.clone(), &copy.files, &options(app))
            .map(Text::Embedding)
            .context("the model does not embed"),
    }
}

/// One model that takes text, kept ready for re-runs on any thread.
pub struct Ready {
    id: Digest,
    text: Text,
    options: decoder::Options,
}

impl Ready {
    /// Opens `copy`.
    pub fn new(app: &App, copy: &Copy) -> Result<Self> {
        Ok(Self { id: copy.id(), text: text_model(app, copy)?, options: options(app) })
    }
}

impl Replayer for Ready {
    fn replay(
        &self,
        id: &Digest,
        inputs: &[Opening],
        outputs: &[Opening],
        claim: &Claim,
    ) -> Result<Vec<(String, Tensor)>, ReplayError> {
        if *id != self.id {
            return Err(ReplayError::ModelAbsent(*id));
        }
        match &self.text {
            Text::Chat(local) => local::replay(local, inputs, outputs, claim, &self.options),
            Text::Embedding(embedder) => embedder.replay(inputs, claim),
        }
    }
}

/// Re-runs receipts on this machine's own copies of models.
pub struct Copies<'a> {
    app: &'a App,
    /// The copy that the command line names; then no other counts.
    named: Option<&'a Copy>,
    /// The language model of the last re-run: packing weights takes longer than a short answer.
    last: RefCell<Option<Ready>>,
    /// The time that was spent on this machine's own copies.
    spent: Cell<Duration>,
}

/// Adds the time that it lives.
struct Spent<'a> {
    begun: Instant,
    to: &'a Cell<Duration>,
}

impl<'a> Spent<'a> {
    fn new(to: &'a Cell<Duration>) -> Self {
        Self { begun: Instant::now(), to }
    }
}

impl Drop for Spent<'_> {
    fn drop(&mut self) {
        self.to.set(self.to.get().saturating_add(self.begun.elapsed()));
    }
}

impl<'a> Copies<'a> {
    /// `named` is the verifier's copy where the command line names one.
    pub fn new(app: &'a App, named: Option<&'a Copy>) -> Self {
        Self { app, named, last: RefCell::new(None), spent: Cell::default() }
    }

    /// With the named copy opened already.
    #[must_use]
    pub fn opened(self, id: Digest, local: Local) -> Self {
        let ready = Ready { id, text: Text::Chat(local), options: options(self.app) };
        Self { last: RefCell::new(Some(ready)), ..self }
    }

    /// The time that was spent on this machine's own copies since the last call.
    pub fn take_spent(&self) -> Duration {
        self.spent.take()
    }

    fn find(&self, id: &Digest) -> Result<Option<Cow<'a, Copy>>, ReplayError> {
        match self.named {
            Some(copy) => Ok((copy.id() == *id).then_some(Cow::Borrowed(copy))),
            None => Ok(model::by_id(&self.app.home, id).map_err(unavailable)?.map(Cow::Owned)),
        }
    }
}

fn unavailable(error: anyhow::Error) -> ReplayError {
    ReplayError::Unavailable(format!("{error:#}"))
}

impl Replayer for Copies<'_> {
    fn replay(
        &self,
        id: &Digest,
        inputs: &[Opening],
        outputs: &[Opening],
        claim: &Claim,
    ) -> Result<Vec<(String, Tensor)>, ReplayError> {
        let _spent = Spent::new(&self.spent);
        if let Some(ready) = self.last.borrow().as_ref().filter(|ready| ready.id == *id) {
            return ready.replay(id, inputs, outputs, claim);
        }
        let copy = self.find(id)?.ok_or(ReplayError::ModelAbsent(*id))?;
        match &copy.kind {
            Kind::Graph(model) => {
                let lookup = |_: &Digest| Ok(Some(LocalModel::from(model)));
                EngineReplayer::new(lookup, infer::options(self.app)).replay(id, inputs, outputs, claim)
            }
            Kind::Decoder(_) | Kind::Encoder(_) => {
                let ready = Ready::new(self.app, &copy).map_err(unavailable)?;
                self.last.borrow_mut().insert(ready).replay(id, inputs, outputs, claim)
            }
        }
    }

    fn commitment(&self, id: &Digest) -> Result<Digest, ReplayError> {
        let _spent = Spent::new(&self.spent);
        let copy = self.find(id)?.ok_or(ReplayError::ModelAbsent(*id))?;
        let model = proof::onnx(&copy).map_err(unavailable)?;
        let entry = proof::commitment(self.app, model).map_err(unavailable)?;
        Ok(Digest(entry.commitment))
    }
}
