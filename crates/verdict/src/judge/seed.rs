//! Who chose what the tokens of a language model's answer were drawn from (`receipt.md` §13.15a, `chat.md` §2.6).

use hallmark_model::llm::sampling::{Parameters, Seed};
use hallmark_receipt::json::Value;
use hallmark_receipt::{Claim, Model, Receipt};

use crate::check::{Check, CheckId, Why};

/// The member of a claim's parameters that says how tokens were drawn (`chat.md` §1).
const GENERATION: &str = "generation";

/// Whether a claim says how tokens were drawn.
pub fn is_drawn(claim: &Claim) -> bool {
    claim.parameters.contains_key(GENERATION)
}

/// Whether it is certain that nothing was drawn: an ONNX model of one's own.
pub fn is_plain(claim: &Claim) -> bool {
    claim.parameters.is_empty() && matches!(claim.model, Model::Id(_))
}

/// Step 15, for claims that say how tokens were drawn. A re-run shows that the seed is what the request leads to.
pub fn seed(receipt: &Receipt, checks: &[Check]) -> Option<Check> {
    let id = CheckId::Seed;
    let passed = |id: CheckId| checks.iter().any(|check| check.id == id && check.has_passed());
    let generation = receipt.claim.parameters.get(GENERATION)?;
    let parameters = match generation {
        Value::Object(members) => Parameters::from_object(members).ok(),
        _ => None,
    };
    let Some(parameters) = parameters else { return Some(Check::not_checked(id, Why::Parameters)) };
    if !passed(CheckId::Replay) {
        let from = parameters.seed.as_ref().map_or("nobody, for nothing is drawn", |seed| match seed {
            Seed::Client(_) => "the client",
            Seed::Request { .. } => "request and nonce together",
            _ => "the node itself",
        });
        return Some(Check::not_checked(id, Why::SeedByWord { from }));
    }
    Some(match &parameters.seed {
        None => Check::passed(id, "nothing was drawn: the likeliest token each time (temperature 0)"),
        Some(Seed::Client(number)) => Check::passed(id, format!("the request chose it: {number}")),
        Some(Seed::Request { .. }) if passed(CheckId::Request) => {
            Check::passed(id, "made of your request and your nonce: neither side could choose it")
        }
        Some(Seed::Request { .. }) => Check::not_checked(id, Why::SeedOfNonce),
        Some(_) => Check::not_checked(id, Why::SeedOfNode),
    })
}
