//! The receipt of an answer, before its end is handed out.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use hallmark_receipt::{Bundle, Digest, Nonce, Opening, Receipt, stream};
use hallmark_verdict::check::CheckId;
use hallmark_verdict::{Context, Decision, Policy, Trust, judge};
use http::HeaderValue;
use serde_json::Value;

use super::State;
use super::ask::{fetch, whole_body};
use super::pool::{Failed, Pinned};
use crate::notary::RESPONSE;
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
}

/// Fetches the receipt with its openings, judges it, compares it with what was sent and what came, and keeps it.
pub async fn receipt(
    state: &Arc<State>,
    gateway: &Pinned,
    capability: Option<HeaderValue>,
    expected: Expected,
) -> Result<(), Failed> {
    let capability = capability.ok_or_else(|| Failed::False("no capability for the receipt".to_owned()))?;
    let url = format!("{}/v1/receipts/{}", gateway.url, expected.claim);
    let response = fetch(state, &url, [(CAPABILITY, capability)]).await?;
    let bytes = whole_body(state, response, state.limits.bundle).await?;
    let (state, node) = (state.clone(), gateway.node);
    let job = move || {
        let policy = Policy {
            name: "proxy".to_owned(),
            require: vec![CheckId::Identity, CheckId::Request, CheckId::Inputs, CheckId::Outputs],
            identities: vec![node],
            ..Policy::default_policy()
        };
        let context = Context {
            now: state.host.now(),
            trust: Trust { named: vec![node], known: Vec::new() },
            ..state.context.clone()
        };
        judged(&bytes, &policy, context, &expected).map_err(Failed::False)?;
        let text = String::from_utf8_lossy(&bytes);
        (state.keep)(&expected.claim, &text).map_err(|why| {
            tracing::error!(why, "a receipt was not kept");
            Failed::Own(crate::ApiError::Receipt)
        })?;
        state.counts.verified.fetch_add(1, Relaxed);
        Ok(())
    };
    tokio::task::spawn_blocking(job).await.map_err(|_| Failed::Own(crate::ApiError::Judge))?
}

fn judged(bytes: &[u8], policy: &Policy, mut context: Context, expected: &Expected) -> Result<(), String> {
    let bundle = Bundle::parse(bytes).map_err(|error| format!("the receipt: {error}"))?;
    let stated = Receipt::parse(&bundle.envelope.payload).map_err(|error| format!("the receipt: {error}"))?;
    context.expected_request = Some((stated.claim.request_id, expected.nonce));
    let verdict = judge(bytes, policy, &context, None);
    let Decision::Accepted(receipt) = &verdict.decision else {
        let failed = verdict.reasons().map(|(id, reason)| format!("{}: {reason}", id.name())).next();
        return Err(format!(
            "the receipt is not accepted: {}",
            failed.unwrap_or_else(|| "undecided".to_owned())
        ));
    };
    if receipt.value().claim_id != expected.claim {
        return Err("the receipt is that of another answer".to_owned());
    }
    if text(bundle.inputs.as_deref(), stream::REQUEST) != Some(&expected.request) {
        return Err("the receipt is for another request".to_owned());
    }
    let response = text(bundle.outputs.as_deref(), RESPONSE).ok_or("the receipt holds no response")?;
    let same = if expected.loose {
        let value = serde_json::from_str(response).map_err(|_| "the receipt's response is not JSON")?;
        parsed(value) == parsed(expected.response.clone())
    } else {
        *response == crate::json::canonical(&expected.response)
    };
    if same { Ok(()) } else { Err("the answer is not the one in its receipt".to_owned()) }
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
