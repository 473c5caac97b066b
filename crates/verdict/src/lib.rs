//! The judge: a policy and a bundle go in, a list of checks and a verdict come out.
//!
//! Pure: bytes, policy and `now` go in; re-execution comes in through [`Replayer`].
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

use hallmark_receipt::{Digest, Tensor};

/// Re-executes a model on opened inputs.
///
/// Implemented by `hallmark-engine`; the judge itself runs nothing.
pub trait Replayer {
    /// Runs the model whose manifest digest is `model` on `inputs` (by input name) and returns its outputs (by output
    /// name), in the model's order. The bytes of the model must be the *verifier's own copy*: the implementation
    /// checks that they hash to `model`.
    fn replay(
        &self,
        model: &Digest,
        inputs: &[(String, Tensor)],
    ) -> Result<Vec<(String, Tensor)>, ReplayError>;
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
    /// The model refused to run on these inputs.
    #[error("the model does not run on this input: {0}")]
    Execution(String),
}
