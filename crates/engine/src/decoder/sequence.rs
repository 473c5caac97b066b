//! One sequence: its tokens, its pages, how it is drawn from.

use std::collections::VecDeque;

use hallmark_model::llm::Parameters;
use hallmark_model::llm::sampling::{History, LogProbabilities, sample};
use hallmark_receipt::Digest;

use super::forward::Row;
use super::pages::{PageId, Pages, Prefix, extend};
use super::{Event, Finish, Mask, PAGE, SequenceId};

/// The most guesses of a sequence in one pass: each has a row of logits.
const GUESSES: usize = 63;

#[derive(Debug)]
pub(super) struct Sequence {
    pub(super) id: SequenceId,
    /// Prompt and generated tokens.
    tokens: Vec<u32>,
    /// Guesses at the tokens to follow.
    draft: VecDeque<u32>,
    /// Tokens whose keys and values are in the pages.
    done: usize,
    table: Vec<PageId>,
    /// The name of the full pages so far.
    prefix: Prefix,
    history: History,
    parameters: Parameters,
    logprobs: Option<usize>,
    /// Tokens that may be generated.
    most: usize,
    /// Pages that it may need in all.
    pub(super) needed: usize,
}

impl Sequence {
    pub(super) fn new(
        id: SequenceId,
        prompt: &[u32],
        parameters: Parameters,
        logprobs: Option<usize>,
        (most, needed): (usize, usize),
    ) -> Self {
        Self {
            id,
            tokens: prompt.to_vec(),
            draft: VecDeque::new(),
            done: 0,
            table: Vec::new(),
            prefix: Digest([0; 32]),
            history: History::new(prompt),
            parameters,
            logprobs,
            most,
            needed,
        }
    }

    /// Tokens that have not been through the layers.
    pub(super) fn pending(&self) -> usize {
        self.tokens.len() - self.done
    }

    /// Guesses at the tokens to follow (see [`super::Decoder::start_drafted`]).
    pub(super) fn guess(&mut self, draft: impl Iterator<Item = u32>) {
        self.draft.extend(draft);
    }

    /// Tokens that a pass may take: the pending ones and some guesses.
    pub(super) fn ready(&self) -> usize {
        self.pending() + self.draft.len().min(GUESSES)
    }

    /// Takes over full pages that another sequence has computed for the same tokens. The last token is always computed: its logits are
    /// wanted.
    pub(super) fn join_prefix(&mut self, pages: &mut Pages) {
        let shareable = self.tokens.len().saturating_sub(1) / PAGE * PAGE;
        while self.done < shareable {
            let longer = extend(&self.prefix, &self.tokens[self.done..self.done + PAGE]);
            let Some(page) = pages.share(&longer) else { return };
            self.table.push(page);
            self.prefix = longer;
            self.done += PAGE;
        }
    }

    /// Takes pages for the next `count` tokens. They were promised when the sequence joined.
    pub(super) fn reserve(&mut self, count: usize, pages: &mut Pages) {
        while self.table.len() * PAGE < self.done + count
            && let Some(page) = pages.take()
        {
            self.table.push(page);
        }
    }

    /// Adds the next `count` tokens to a pass.
    pub(super) fn rows<'a>(&'a self, count: usize, rows: &mut Vec<Row<'a>>) {
        let tokens = self.tokens.iter().chain(&self.draft).enumerate().skip(self.done).take(count);
        rows.extend(tokens.map(|(position, &token)| {
            let wanted = position + 1 >= self.tokens.len();
            Row { token, position, table: &self.table, wanted }
        }));
    }

    /// `count` more tokens are in the pages.
    fn computed(&mut self, count: usize, pages: &mut Pages, share: bool) {
        let before = self.done / PAGE;
        self.done += count;
        if share {
            for full in before..self.done / PAGE {
                self.prefix = extend(&self.prefix, &self.tokens[full * PAGE..(full + 1) * PAGE]);
                pages.publish(self.table[full], self.prefix);
            }
        }
    }

    /// After a pass that took `count` tokens: draws from the logits of the last pending one and then, as long as it is the guess that is
    /// drawn, from those of the guess.
    pub(super) fn advance<'a>(
        &mut self,
        count: usize,
        logits: &mut impl Iterator<Item = &'a mut [f32]>,
        mask: &mut Mask<'_>,
        (pages, share): (&mut Pages, bool),
        events: &mut Vec<Event>,
    ) {
        let guesses = count.saturating_sub(self.pending());
        self.computed(count - guesses, pages, share);
        if count == 0 || self.pending() > 0 {
            return;
        }
        let mut right = true;
        for (i, logits) in logits.take(guesses + 1).enumerate() {
            if !right {
                continue; // Logits after a wrong guess.
            }
            let event = self.draw(logits, mask);
            let hit = self.draft.pop_front().is_some_and(|guess| Some(guess) == event.token);
            if !hit {
                self.draft.clear();
            }
            right = hit && i < guesses && event.finish.is_none();
            if right {
                self.computed(1, pages, share);
            }
            events.push(event);
        }
    }

    /// Draws the next token.
    fn draw(&mut self, logits: &mut [f32], mask: &mut Mask<'_>) -> Event {
        let raw = self.logprobs.map(|_| logits.to_vec());
        mask(self.id, logits);
        let index = self.history.generated();
        let token = sample(logits, &self.history, &self.parameters);
        let finish = match token {
            None => Some(Finish::NoToken),
            Some(token) => {
                self.history.push(token);
                self.tokens.push(token);
                if self.parameters.stop.binary_search(&token).is_ok() {
                    Some(Finish::Stop)
                } else {
                    let full = self.history.generated() >= self.most as u64;
                    full.then_some(Finish::Length)
                }
            }
        };
        let (mut logprob, mut top) = (None, Vec::new());
        if let (Some(raw), Some(count)) = (&raw, self.logprobs) {
            let all = LogProbabilities::new(raw);
            logprob = token.and_then(|token| all.of(token));
            top = all.top(count);
        }
        Event { sequence: self.id, index, token, logprob, top, finish }
    }

    /// Gives the pages back.
    pub(super) fn leave(self, pages: &mut Pages) {
        for page in self.table {
            pages.release(page);
        }
    }
}
