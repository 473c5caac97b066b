//! Checking an answer without generating it: all its tokens go through the layers at once, as a prompt would.

use hallmark_model::llm::Parameters;
use hallmark_model::llm::sampling::{History, sample};

use super::forward::{Row, forward};
use super::{Decoder, DecoderError, Finish, Mask, SequenceId};
use crate::threads::KeepSubnormals;

/// Where an answer is not what the model gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// Index among the answer's tokens; its length if the answer ends too early or for another reason.
    pub index: usize,
    /// The answer's token there.
    pub got: Option<u32>,
    /// The model's.
    pub expected: Option<u32>,
}

impl Decoder {
    /// Whether `answer` with its end is what [`Decoder::generate`] gives for `prompt` and `parameters`: `None` if it is, or else the first
    /// difference. The bits are the same as in generating, for a token's logits depend on the tokens before it alone; it is as fast as
    /// reading a prompt.
    ///
    /// # Errors
    /// As [`Decoder::start`]; the cache must have room for prompt and answer beside what other sequences hold.
    pub fn replay(
        &mut self,
        prompt: &[u32],
        parameters: &Parameters,
        answer: &[u32],
        finish: Finish,
    ) -> Result<Option<Divergence>, DecoderError> {
        self.replay_masked(prompt, parameters, answer, finish, &mut |_, _| ())
    }

    /// [`Decoder::replay`] under the mask that the answer was generated with; it is called once a token, in order.
    ///
    /// # Errors
    /// As [`Decoder::replay`].
    pub fn replay_masked(
        &mut self,
        prompt: &[u32],
        parameters: &Parameters,
        answer: &[u32],
        finish: Finish,
        mask: &mut Mask<'_>,
    ) -> Result<Option<Divergence>, DecoderError> {
        let _mode = KeepSubnormals::begin();
        parameters.check()?;
        let limit = usize::try_from(parameters.max_tokens).unwrap_or(usize::MAX);
        if answer.len() > limit {
            return Ok(Some(Divergence { index: limit, got: answer.get(limit).copied(), expected: None }));
        }
        let vocabulary = self.weights.architecture.vocabulary;
        // A token that the model does not have is a difference, not an error of the caller's.
        let known = answer.iter().take_while(|token| (**token as usize) < vocabulary).count();
        let tokens = [prompt, answer.get(..known).unwrap_or_default()].concat();
        let needed = self.check_tokens(prompt, known)?;
        let mut table = Vec::new();
        while table.len() < needed
            && let Some(page) = self.pages.take()
        {
            table.push(page);
        }
        let outcome = if table.len() < needed {
            Err(DecoderError::TooLong { needed, limit: table.len() })
        } else {
            Ok(self.compare(&tokens, prompt.len(), &table, parameters, answer, finish, mask))
        };
        for page in table {
            self.pages.release(page);
        }
        outcome
    }

    #[allow(clippy::too_many_arguments)]
    fn compare(
        &mut self,
        tokens: &[u32],
        prompt: usize,
        table: &[usize],
        parameters: &Parameters,
        answer: &[u32],
        finish: Finish,
        mask: &mut Mask<'_>,
    ) -> Option<Divergence> {
        let mut history = History::new(tokens.get(..prompt).unwrap_or_default());
        let vocabulary = self.weights.architecture.vocabulary;
        let id = SequenceId(u64::MAX);
        for (part, chunk) in tokens.chunks(self.options.step_tokens).enumerate() {
            let start = part * self.options.step_tokens;
            let rows: Vec<Row<'_>> = (start..)
                .zip(chunk)
                .map(|(position, &token)| Row { token, position, table, wanted: position + 1 >= prompt })
                .collect();
            forward(&self.exec, &self.weights, &mut self.pages, &rows, &mut self.work);
            for logits in self.work.logits.chunks_exact_mut(vocabulary) {
                let index = usize::try_from(history.generated()).unwrap_or(usize::MAX);
                let got = answer.get(index).copied();
                let ended =
                    index > 0 && (answer.get(index - 1)).is_some_and(|last| parameters.stop.contains(last));
                let full = history.generated() >= u64::from(parameters.max_tokens);
                if ended || full {
                    let wanted = if ended { Finish::Stop } else { Finish::Length };
                    let fits = got.is_none() && finish == wanted;
                    return (!fits).then_some(Divergence { index, got, expected: None });
                }
                mask(id, logits);
                let expected = sample(logits, &history, parameters);
                match (got, expected) {
                    (Some(got), Some(expected)) if got == expected => history.push(got),
                    (None, None) if finish == Finish::NoToken => return None,
                    _ => return Some(Divergence { index, got, expected }),
                }
            }
        }
        // Only a token outside the vocabulary leaves something of the answer over.
        let index = tokens.len() - prompt;
        answer.get(index).map(|&got| Divergence { index, got: Some(got), expected: None })
    }
}
