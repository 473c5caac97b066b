//! A receipt's answer, run again on one's own copy of the model (`chat.md` §4).

use std::sync::Arc;

use hallmark_engine::decoder::{Decoder, DecoderError, Options};
use hallmark_model::llm::sampling::{Parameters, Seed};
use hallmark_receipt::json::{Object, Value};
use hallmark_receipt::{Claim, Opening, Tensor};
use hallmark_verdict::ReplayError;

use super::run::Run;
use super::{DIALECT, GENERATION, LOGPROBS, Local, PROMPT, TOKENS, parameters};
use crate::chat::{ChatRequest, Completed};
use crate::dialect::Kind;
use crate::notary::{RESPONSE, response_text};

/// The outputs that `local` gives for a claim's opened inputs: `response`, `tokens`, `logprobs`.
///
/// # Errors
/// A claim that is not of this form, or whose prompt or parameters do not follow from its request, is refused as
/// [`ReplayError::Execution`]; limits of this machine as [`ReplayError::Unavailable`].
pub fn replay(
    local: &Local,
    inputs: &[Opening],
    outputs: &[Opening],
    claim: &Claim,
    options: &Options,
) -> Result<Vec<(String, Tensor)>, ReplayError> {
    let refuse = |why: &dyn std::fmt::Display| ReplayError::Execution(why.to_string());
    let (kind, claimed) = read(&claim.parameters).ok_or(ReplayError::Parameters)?;
    let [request, prompt] = inputs else { return Err(refuse(&"its inputs are not a request and a prompt")) };
    let body = members(request).ok_or_else(|| refuse(&"its first input is not a request"))?;
    let asked = kind.parse(&body).map_err(|_| refuse(&"its request is not of its dialect"))?;
    let seed = claimed.seed.clone().unwrap_or(Seed::Client(0));
    check_seed(&seed, &claimed, &asked, request, claim).map_err(|why| refuse(&why))?;
    let plan = local.language.plan(&asked, seed).map_err(|error| refuse(&error))?;
    if parameters(&plan, kind.name()) != claim.parameters {
        return Err(refuse(&"its parameters do not follow from its request"));
    }
    let expected: Vec<i64> = plan.prompt.iter().map(|&id| id.into()).collect();
    if prompt.name() != PROMPT || prompt.tensor().as_slice::<i64>() != Some(&expected) {
        return Err(refuse(&"its prompt is not what the model's template and tokenizer make of its request"));
    }
    generate(local, plan, &draft(outputs), options).map_err(|error| match error {
        // The budget is this machine's.
        DecoderError::TooLong { .. } | DecoderError::Cache { .. } | DecoderError::Option { .. } => {
            ReplayError::Unavailable(error.to_string())
        }
        other => refuse(&other),
    })
}

fn read(members: &Object) -> Option<(Kind, Parameters)> {
    let (Value::Str(dialect), Value::Object(generation)) = (members.get(DIALECT)?, members.get(GENERATION)?)
    else {
        return None;
    };
    if members.len() != 2 {
        return None;
    }
    Some((Kind::named(dialect)?, Parameters::from_object(generation).ok()?))
}

/// The members of a claim's request, which is in canonical form or was not what its dialect reads.
pub(super) fn members(request: &Opening) -> Option<serde_json::Map<String, serde_json::Value>> {
    match request.tensor().as_slice::<String>() {
        Some([body]) if request.name() == hallmark_receipt::stream::REQUEST => {
            serde_json::from_str(body).ok()
        }
        _ => None,
    }
}

/// A seed that is said to come from the client must do so.
fn check_seed(
    seed: &Seed,
    claimed: &Parameters,
    asked: &ChatRequest,
    request: &Opening,
    claim: &Claim,
) -> Result<(), &'static str> {
    if claimed.seed.is_none() {
        return Ok(());
    }
    let fits = match (seed, asked.sampling.seed) {
        (Seed::Client(number), asked) => asked.map(i64::cast_unsigned) == Some(*number),
        (_, Some(_)) => false,
        (Seed::Request { request: commitment, nonce }, None) => {
            *commitment == request.commitment() && *nonce == claim.nonce
        }
        (Seed::Node(_), None) => true,
        _ => false,
    };
    if fits { Ok(()) } else { Err("its seed is not the one that its request asks for") }
}

/// The tokens that the receipt says were drawn: what the run will give if it is true.
fn draft(outputs: &[Opening]) -> Vec<u32> {
    let tokens = outputs.iter().find(|opening| opening.name() == TOKENS);
    let ids = tokens.and_then(|opening| opening.tensor().as_slice::<i64>()).unwrap_or_default();
    ids.iter().map_while(|&id| u32::try_from(id).ok()).collect()
}

fn generate(
    local: &Local,
    plan: super::Plan,
    draft: &[u32],
    options: &Options,
) -> Result<Vec<(String, Tensor)>, DecoderError> {
    let mut decoder = Decoder::new(Arc::clone(&local.weights), options)?;
    // Under a grammar the mask of a token needs the one before it, which a guess would give too late.
    let draft = if plan.grammar.is_some() { &[] } else { draft };
    let id = decoder.start_drafted(&plan.prompt, plan.parameters.clone(), Some(0), draft)?;
    let mut done = Completed::default();
    let Ok(mut run) = Run::new(&local.language, plan) else { return Ok(Vec::new()) };
    while !run.is_finished() {
        for event in decoder.step_masked(&mut |_, logits| run.mask(logits)) {
            debug_assert_eq!(event.sequence, id);
            if run.is_finished() {
                break; // By a stop text, before the model's own end.
            }
            // A token that stands for nothing ends the answer here as it did there.
            let Ok(deltas) = run.take(&event) else { return Ok(Vec::new()) };
            for delta in &deltas {
                if done.push(delta).is_err() {
                    return Ok(Vec::new());
                }
            }
        }
    }
    let (_, tokens, logprobs) = run.tensors();
    let response = Tensor::vector(vec![response_text(&done)]);
    Ok([(RESPONSE, response), (TOKENS, tokens), (LOGPROBS, logprobs)]
        .map(|(name, tensor)| (name.to_owned(), tensor))
        .into())
}
