//! From the tokens of one answer to its pieces: text, calls, and the end (`chat.md` §3).

use hallmark_engine::decoder::{Event, Finish as Ended};
use hallmark_model::llm::sampling::LogProbability;
use hallmark_receipt::{Digest, Tensor};
use hallmark_text::{Decoder, TokenizerError};

use super::calls;
use super::language::{Language, Plan};
use crate::chat::{Delta, Finish, Token, Usage};

/// Characters of a call's id: as many as the strictest templates take, Mistral's.
const ID: usize = 9;

/// One answer on its way.
pub struct Run<'a> {
    language: &'a Language,
    plan: Plan,
    /// Gone once the answer is whole.
    decoder: Option<Decoder<'a>>,
    /// Text that may yet turn out to begin a stop text or a call.
    held: String,
    calls: usize,
    tokens: Vec<i64>,
    logprobs: Vec<f32>,
    finish: Option<Finish>,
}

impl<'a> Run<'a> {
    /// Before the first token.
    pub fn new(language: &'a Language, plan: Plan) -> Result<Self, TokenizerError> {
        Ok(Self {
            language,
            plan,
            decoder: Some(language.tokenizer().decoder(true)?),
            held: String::new(),
            calls: 0,
            tokens: Vec::new(),
            logprobs: Vec::new(),
            finish: None,
        })
    }

    /// Whether the answer is whole, perhaps before the model's own end.
    pub fn is_finished(&self) -> bool {
        self.finish.is_some()
    }

    /// Sets the logits of tokens that do not fit the grammar to -inf; of all, if the grammar fails.
    pub fn mask(&mut self, logits: &mut [f32]) {
        let Some(grammar) = &mut self.plan.grammar else { return };
        let mask = grammar.mask();
        for (id, logit) in (0_u32..).zip(logits) {
            if !mask.as_ref().is_ok_and(|mask| mask.allows(id)) {
                *logit = f32::NEG_INFINITY;
            }
        }
    }

    /// Takes a token, or the end, and gives the pieces that have become certain.
    pub fn take(&mut self, event: &Event) -> Result<Vec<Delta>, TokenizerError> {
        let mut text = String::new();
        let mut listed = Vec::new();
        if let (Some(id), Some(logprob)) = (event.token, event.logprob) {
            self.tokens.push(id.into());
            self.logprobs.push(logprob.value);
            let ends = self.plan.parameters.stop.contains(&id);
            if let Some(decoder) = self.decoder.as_mut().filter(|_| !ends) {
                text = decoder.push(id);
            }
            if let Some(grammar) = self.plan.grammar.as_mut().filter(|_| !ends) {
                // A token that was drawn under the mask fits; a grammar that fails masks everything from here on.
                let _ = grammar.commit(id);
            }
            if self.plan.top.is_some() && !ends {
                listed.push(self.token(id, logprob, &event.top)?);
            }
        }
        self.held.push_str(&text);
        if event.finish.is_some()
            && let Some(decoder) = self.decoder.take()
        {
            self.held.push_str(&decoder.finish());
        }
        let mut deltas = self.cut(event.finish);
        if !listed.is_empty() {
            match deltas.first_mut() {
                Some(Delta::Text { tokens, .. }) => *tokens = listed,
                _ => deltas.insert(0, Delta::Text { text: String::new(), tokens: listed }),
            }
        }
        if self.finish.is_none()
            && let Some(ended) = event.finish
        {
            self.finish = Some(match ended {
                _ if self.calls > 0 => Finish::ToolCalls,
                Ended::Length => Finish::Length,
                Ended::Stop | Ended::NoToken => Finish::Stop,
            });
        }
        if let Some(finish) = self.finish {
            deltas.push(Delta::Finish(finish));
            deltas.push(Delta::Usage(self.usage()));
        }
        Ok(deltas)
    }

    /// The tensors `prompt`, `tokens` and `logprobs` of a claim.
    pub fn tensors(&self) -> (Tensor, Tensor, Tensor) {
        let prompt: Vec<i64> = self.plan.prompt.iter().map(|&id| id.into()).collect();
        (Tensor::vector(prompt), Tensor::vector(self.tokens.clone()), Tensor::vector(self.logprobs.clone()))
    }

    fn usage(&self) -> Usage {
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        Usage { input: count(self.plan.prompt.len()), output: count(self.tokens.len()), ..Usage::default() }
    }

    fn token(
        &self,
        id: u32,
        logprob: LogProbability,
        top: &[LogProbability],
    ) -> Result<Token, TokenizerError> {
        let text = |id: u32| self.language.tokenizer().decode(&[id], false);
        let listed = |one: &LogProbability| Ok((text(one.token)?, f64::from(one.value)));
        let top = top.iter().map(listed).collect::<Result<Vec<_>, TokenizerError>>()?;
        Ok(Token { id: Some(id), text: text(id)?, logprob: logprob.value.into(), top })
    }

    /// Takes out of `held` what is certain. With `ended` nothing more will come.
    fn cut(&mut self, ended: Option<Ended>) -> Vec<Delta> {
        let mut deltas = Vec::new();
        let stops = self.plan.stop.iter().filter(|stop| !stop.is_empty());
        let found = stops.filter_map(|stop| Some((self.held.find(stop.as_str())?, stop)));
        let stopped = found.min_by_key(|(at, _)| *at);
        let stop_text = stopped.map(|(_, stop)| stop.clone());
        if let Some((at, _)) = stopped {
            self.held.truncate(at);
            self.finish = Some(Finish::Stop);
        }
        let last = ended.is_some() || self.finish.is_some();
        while self.plan.tools
            && let Some(found) = calls::find(&self.held)
        {
            push(&mut deltas, found.before);
            let index = self.calls;
            deltas.push(Delta::Tool {
                index,
                id: Some(self.call_id(index)),
                name: Some(found.name),
                arguments: found.arguments,
            });
            self.calls += 1;
            self.held = found.after;
        }
        if self.plan.tools && ended == Some(Ended::Length) {
            // Half a call is no text.
            let whole = if self.plan.forced { "" } else { calls::whole(&self.held) };
            self.held.truncate(whole.len());
        }
        let keep = if last { 0 } else { self.uncertain() };
        let certain = self.held.len() - keep;
        let rest = self.held.split_off(certain);
        push(&mut deltas, std::mem::replace(&mut self.held, rest));
        deltas.extend(stop_text.map(Delta::StopText));
        deltas
    }

    /// The id of call number `index`: another one in every turn, and the same in a re-run.
    fn call_id(&self, index: usize) -> String {
        let bytes: Vec<u8> = self.plan.prompt.iter().flat_map(|id| id.to_le_bytes()).collect();
        let mut id = Digest::of(&[&bytes]).to_string();
        id.truncate(ID - 2);
        format!("{id}{index:02x}")
    }

    /// Bytes at the end of `held` that may begin a stop text, or belong to a call.
    fn uncertain(&self) -> usize {
        let held = &self.held;
        if self.plan.tools
            && let Some(at) = held.find(calls::OPEN)
        {
            return held.len() - at;
        }
        let tools = self.plan.tools.then_some(calls::OPEN);
        let starts = self.plan.stop.iter().map(String::as_str).chain(tools);
        let overlap = |text: &str| {
            let ends = held.char_indices().map(|(at, _)| at).filter(|at| held.len() - at < text.len());
            ends.map(|at| held.get(at..).unwrap_or_default())
                .find(|tail| text.starts_with(tail))
                .map_or(0, str::len)
        };
        starts.map(overlap).max().unwrap_or(0)
    }
}

fn push(deltas: &mut Vec<Delta>, text: String) {
    if !text.is_empty() {
        deltas.push(Delta::Text { text, tokens: Vec::new() });
    }
}
