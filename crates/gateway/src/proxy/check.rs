//! The receipt of an answer, before its end is handed out.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use hallmark_receipt::{Bundle, Digest, Nonce, Opening, Receipt, stream};
use hallmark_verdict::judge::judge_parsed;
use hallmark_verdict::{CheckId, Context, Decision, Lacking, Outcome, Policy, Replayer, Trust, Verdict, Why};
use http::HeaderValue;
use serde_json::Value;

use super::ask::{fetch, whole_body};
use super::pool::{Failed, Pinned};
use super::{OwnCopy, State};
use crate::error::ApiError;
use crate::notary::{NotaryError, RESPONSE};
use crate::routes::CAPABILITY;

/// What the receipt must say.
pub struct Expected {
    /// As the seal names it.
    pub claim: Digest,
    pub nonce: Nonce,
    /// The request's canonical JSON.
    pub request: String,
    /// The message, or the embeddings.
    pub response: Value,
    /// Whether arguments of calls are compared as JSON: Anthropic's whole answers hold them as objects, so that their text is lost.
    pub loose: bool,
    /// The requester's copy of the model: no other may have answered.
    pub copy: Option<Arc<OwnCopy>>,
}

/// Fetches the receipt with its openings, judges it, compares it with what was sent and what came, runs the answer again if it is
/// picked for that, and keeps the receipt.
pub async fn receipt(
    state: &Arc<State>,
    gateway: &Pinned,
    capability: Option<HeaderValue>,
    expected: Expected,
) -> Result<(), Failed> {
    let capability = capability.ok_or_else(|| Failed::False("no capability for the receipt".to_owned()))?;
    let path = format!("/v1/receipts/{}", expected.claim);
    let get = async || {
        let response = fetch(state, gateway, &path, [(CAPABILITY, capability.clone())]).await?;
        whole_body(state, response, state.limits.bundle).await
    };
    // A gateway gives openings again for a moment: what broke on the way is asked for once more.
    let bytes = match get().await {
        Err(Failed::Down { .. }) => get().await?,
        other => other?,
    };
    let (state, node) = (state.clone(), gateway.node);
    // Drawn now that the gateway has no more to say.
    let drawn = state.host.draw().map_err(|error| ApiError::from(NotaryError::from(error)))?;
    let turn = match expected.copy.is_some() && state.sampler.picks(drawn) {
        true => Some(state.sampler.turn.clone().acquire_owned().await.map_err(|_| ApiError::Judge)?),
        false => None,
    };
    let job = move || {
        let mut policy = Policy {
            name: "proxy".to_owned(),
            require: vec![CheckId::Identity, CheckId::Request, CheckId::Inputs, CheckId::Outputs],
            identities: vec![node],
            models: expected.copy.iter().map(|copy| copy.id).collect(),
            ..Policy::default_policy()
        };
        let context = Context {
            now: state.host.now(),
            trust: Trust { named: vec![node], known: Vec::new() },
            ..state.context.clone()
        };
        judged(&bytes, &policy, &context, &expected, None)?;
        // Held to the end of the re-run, though the client may leave.
        if let (Some(_turn), Some(copy)) = (turn, &expected.copy) {
            policy.require.extend([CheckId::Replay, CheckId::Seed]);
            state.counts.run_again.fetch_add(1, Relaxed);
            judged(&bytes, &policy, &context, &expected, Some(&*copy.replayer))?;
        }
        let text = String::from_utf8_lossy(&bytes);
        (state.keep)(&expected.claim, &text).map_err(|why| {
            tracing::error!(why, "a receipt was not kept");
            Failed::Own(ApiError::Receipt)
        })?;
        state.counts.verified.fetch_add(1, Relaxed);
        Ok(())
    };
    tokio::task::spawn_blocking(job).await.map_err(|_| Failed::Own(ApiError::Judge))?
}

fn judged(
    bytes: &[u8],
    policy: &Policy,
    context: &Context,
    expected: &Expected,
    replayer: Option<&dyn Replayer>,
) -> Result<(), Failed> {
    let wrong = |why: &str| Failed::False(why.to_owned());
    let malformed = |error: &dyn std::fmt::Display| Failed::False(format!("the receipt: {error}"));
    let bundle = Bundle::parse(bytes).map_err(|error| malformed(&error))?;
    let stated = Receipt::parse(&bundle.envelope.payload).map_err(|error| malformed(&error))?;
    let expected_request = Some((stated.claim.request_id, expected.nonce));
    let verdict = judge_parsed(&bundle, policy, &Context { expected_request, ..context.clone() }, replayer);
    let Decision::Accepted(receipt) = &verdict.decision else { return Err(refused(&verdict)) };
    if receipt.value().claim_id != expected.claim {
        return Err(wrong("the receipt is that of another answer"));
    }
    if text(bundle.inputs.as_deref(), stream::REQUEST) != Some(&expected.request) {
        return Err(wrong("the receipt is for another request"));
    }
    let response = text(bundle.outputs.as_deref(), RESPONSE);
    let response = response.ok_or_else(|| wrong("the receipt holds no response"))?;
    let same = if expected.loose {
        let value =
            serde_json::from_str(response).map_err(|_| wrong("the receipt's response is not JSON"))?;
        parsed(value) == parsed(expected.response.clone())
    } else {
        *response == crate::json::canonical(&expected.response)
    };
    if same { Ok(()) } else { Err(wrong("the answer is not the one in its receipt")) }
}

/// Whose fault it is that a receipt is not accepted: a re-run for which this machine lacks the means is not the gateway's.
fn refused(verdict: &Verdict) -> Failed {
    let refused = |id: CheckId, why: &dyn std::fmt::Display| {
        Failed::False(format!("the receipt is not accepted: {}: {why}", id.name()))
    };
    if let Some((id, reason)) = verdict.reasons().next() {
        return refused(id, reason);
    }
    let lacks = |id: CheckId| matches!(&verdict.decision, Decision::Undecided(l) if l.contains(&Lacking::Required(id)));
    let lacking = verdict.checks.iter().find_map(|check| match &check.outcome {
        Outcome::NotChecked(why) if lacks(check.id) => Some((check.id, why)),
        _ => None,
    });
    match lacking {
        Some((CheckId::Replay, why @ (Why::Unavailable(_) | Why::NumericVersion(_)))) => {
            Failed::Own(ApiError::NotRunAgain { why: why.to_string() })
        }
        Some((id, why)) => refused(id, why),
        None => Failed::False("the receipt is not accepted: undecided".to_owned()),
    }
}

/// The one string of the opened tensor `name`.
fn text<'a>(openings: Option<&'a [Opening]>, name: &str) -> Option<&'a String> {
    let opening = openings?.iter().find(|opening| opening.name() == name)?;
    match opening.tensor().as_slice::<String>() {
        Some([text]) => Some(text),
        _ => None,
    }
}

/// The message with the arguments of its calls as JSON, where they are.
fn parsed(mut message: Value) -> Value {
    let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut);
    for arguments in calls.into_iter().flatten().filter_map(|call| call.pointer_mut("/function/arguments")) {
        let value = arguments.as_str().and_then(|text| serde_json::from_str(text).ok());
        if let Some(value) = value {
            *arguments = value;
        }
    }
    message
}
