//! The judge: a policy and a bundle go in, a list of checks and a verdict come out.
//!
//! Every check has three outcomes: passed, failed, not checked. Any failed check rejects. A check that the policy requires and
//! that was not made leaves the verdict undecided. And **a key that travels in a bundle is never a trust anchor**: a receipt is
//! accepted only where the output was re-run bit for bit on the verifier's own copy of the model, where the node's
//! identity is one that the verifier trusts and its word is among the evidence, where hardware that runs code which the policy
//! pins holds the node's key, or where a proof shows the output to be that of a model which the verifier names, holds, or whose
//! publisher it trusts. Only [`judge`] makes a [`Verified`].
//!
//! Pure: bytes, policy and `now` go in; re-execution comes in through [`Replayer`]. The steps are those of `spec/receipt.md` §13.
//!
//! ```
//! use hallmark_verdict::{Context, Decision, Policy, judge, render};
//!
//! let context = Context::at(1_795_000_000_000); // milliseconds since 1970
//! let verdict = judge(b"{\"format\": \"something else\"}", &Policy::default_policy(), &context, None);
//! assert!(matches!(verdict.decision, Decision::Rejected));
//! assert_eq!(verdict.exit_code(), 1);
//! print!("{}", render::text(&verdict));
//! ```
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

use hallmark_receipt::{Claim, Digest, Opening, Tensor};

pub mod check;
pub mod judge;
pub mod policy;
pub mod render;

pub use check::{Check, CheckId, Outcome, Reason, Why};
pub use hallmark_receipt::check::{Catalog, Cause, Question};
pub use hallmark_receipt::time;
pub use judge::hardware::Hardware;
pub use judge::{Basis, Context, Decision, Lacking, Trust, Verdict, Verified, judge};
pub use policy::{Policy, PolicyError};

/// Re-executes a model on opened inputs.
///
/// Implemented by `hallmark-engine`; the judge itself runs nothing.
pub trait Replayer {
    /// Runs the model `model`, which is the claim's, on `inputs` with the claim's parameters, and returns its outputs (by output
    /// name), in the model's order. The bytes of the model must be the *verifier's own copy*: the implementation checks that
    /// they hash to `model`. It refuses parameters that it does not know in full.
    /// `outputs` are what the receipt says came out: a guess that may make the run faster and must not change what it gives.
    fn replay(
        &self,
        model: &Digest,
        inputs: &[Opening],
        outputs: &[Opening],
        claim: &Claim,
    ) -> Result<Vec<(String, Tensor)>, ReplayError>;

    /// The commitment to the weights (`model.md` §6.1), worked out from the verifier's own copy of the model `model`.
    ///
    /// # Errors
    /// As [`Replayer::replay`]; by default that it cannot be done here.
    fn commitment(&self, model: &Digest) -> Result<Digest, ReplayError> {
        let _ = model;
        Err(ReplayError::Unavailable("this verifier works out no commitments".to_owned()))
    }
}

/// Why a re-run gave nothing to compare.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The verifier holds no model with this id.
    #[error("the verifier has no copy of model {0}")]
    ModelAbsent(Digest),
    /// The copy runs under another numeric specification.
    #[error("numeric specification {claimed} is not one that this build executes")]
    NumericVersion {
        /// The version that the manifest names.
        claimed: u32,
    },
    /// The run had parameters that this verifier does not know how to run with.
    #[error("the run has parameters that a re-run does not cover yet")]
    Parameters,
    /// The verifier could not make the run, for a reason of its own: a budget, an unreadable or damaged copy. The check is then
    /// not made.
    #[error("the run could not be made here: {0}")]
    Unavailable(String),
    /// The model refused to run on these inputs, and would anywhere. The check then fails.
    #[error("the model does not run on this input: {0}")]
    Execution(String),
}
