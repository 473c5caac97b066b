//! Re-execution (`receipt.md` §13.15).

use hallmark_receipt::commit::data_bytes;
use hallmark_receipt::{Bundle, Data, Model, Opening, Receipt, Tensor, with_data};

use super::seed::is_drawn;
use crate::check::{Check, CheckId, Reason, Why};
use crate::{ReplayError, Replayer};

/// The output of a language model that holds its tokens (`chat.md` §1).
const TOKENS: &str = "tokens";

/// Step 15: the verifier's own copy of the model gives the opened outputs for the opened inputs, bit for bit.
pub fn replay(
    bundle: &Bundle,
    receipt: &Receipt,
    checks: &[Check],
    replayer: Option<&dyn Replayer>,
) -> Check {
    let id = CheckId::Replay;
    let Model::Id(model) = &receipt.claim.model else { return Check::not_checked(id, Why::OnlyNamed) };
    let (Some(inputs), Some(outputs)) = (&bundle.inputs, &bundle.outputs) else {
        return Check::not_checked(id, Why::Redacted);
    };
    // What is compared must be what was claimed.
    for needed in [CheckId::Manifest, CheckId::Inputs, CheckId::Outputs] {
        if !checks.iter().any(|check| check.id == needed && check.has_passed()) {
            return Check::not_checked(id, Why::After(needed));
        }
    }
    let Some(replayer) = replayer else { return Check::not_checked(id, Why::NoReplayer) };
    let result = match replayer.replay(model, inputs, outputs, &receipt.claim) {
        Ok(result) => result,
        Err(ReplayError::ModelAbsent(model)) => return Check::not_checked(id, Why::ModelAbsent(model)),
        Err(ReplayError::NumericVersion { claimed }) => {
            return Check::not_checked(id, Why::NumericVersion(claimed));
        }
        Err(ReplayError::Parameters) => return Check::not_checked(id, Why::Parameters),
        Err(ReplayError::Unavailable(why)) => return Check::not_checked(id, Why::Unavailable(why)),
        Err(ReplayError::Execution(why)) => return Check::failed(id, Reason::ReplayRefused(why)),
    };
    match first_difference(&result, outputs) {
        Some(reason) => Check::failed(id, reason),
        None => Check::passed(id, found(receipt, &result)),
    }
}

/// What a re-run that gave the same bits shows.
fn found(receipt: &Receipt, result: &[(String, Tensor)]) -> String {
    let tokens = result.iter().find(|(name, _)| name == TOKENS).map(|(_, tensor)| tensor.len());
    if let Some(tokens) = tokens.filter(|_| is_drawn(&receipt.claim)) {
        return format!("run again: every token and logprob drawn again, all {tokens} equal, bit for bit");
    }
    let values: usize = result.iter().map(|(_, tensor)| tensor.len()).fold(0, usize::saturating_add);
    format!("run again: all {values} output values equal, bit for bit")
}

fn first_difference(model: &[(String, Tensor)], receipt: &[Opening]) -> Option<Reason> {
    let expected: Vec<&str> = model.iter().map(|(name, _)| name.as_str()).collect();
    let got: Vec<&str> = receipt.iter().map(Opening::name).collect();
    if expected != got {
        let own = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
        return Some(Reason::OutputNames { expected: own(expected), got: own(got) });
    }
    model.iter().zip(receipt).find_map(|((name, expected), got)| compare(name, expected, got.tensor()))
}

fn compare(name: &str, expected: &Tensor, got: &Tensor) -> Option<Reason> {
    if expected.dtype() != got.dtype() || expected.shape() != got.shape() {
        let text = |tensor: &Tensor| format!("{} {:?}", tensor.dtype().name(), tensor.shape());
        return Some(Reason::OutputType { name: name.to_owned(), expected: text(expected), got: text(got) });
    }
    // An implementation may leave any NaN; the claim holds the one NaN of its type.
    let mut expected = expected.clone();
    expected.canonicalize_nan();
    if expected.same_bits(got) {
        return None;
    }
    let index = first_index(expected.data(), got.data())?;
    Some(Reason::OutputValue {
        name: name.to_owned(),
        index,
        expected: element(expected.data(), index),
        got: element(got.data(), index),
    })
}

/// The first element whose bytes differ.
fn first_index(expected: &Data, got: &Data) -> Option<usize> {
    match (expected, got) {
        (Data::Str(expected), Data::Str(got)) => expected.iter().zip(got).position(|(a, b)| a != b),
        _ => {
            let size = expected.dtype().size()?;
            let (expected, got) = (data_bytes(expected), data_bytes(got));
            expected.chunks(size).zip(got.chunks(size)).position(|(a, b)| a != b)
        }
    }
}

fn element(data: &Data, index: usize) -> String {
    with_data!(data, v => v.get(index).map(|x| format!("{x:?}").chars().take(80).collect()).unwrap_or_default())
}
