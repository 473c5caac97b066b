//! What the node makes of a bundle that is shown to it (`POST /v1/verdicts`): the checks of `receipt.md` §13, with re-runs on the
//! models that it serves. Its word, for those who trust it with that; `hallmark verify` needs nobody's.

use hallmark_receipt::{Claim, Digest, Model, Nonce, Opening, RequestId, Tensor};
use hallmark_verdict::{Context, Policy, ReplayError, Replayer, Verdict, judge};

use crate::server::State;

/// What the node judges by. The default policy, and nobody trusted: the node's own word counts no more than another's.
#[derive(Clone, Debug)]
pub struct Judge {
    /// What must have passed.
    pub policy: Policy,
    /// Whom the node trusts, and what it knows revoked; time and request are set for each judgement.
    pub context: Context,
}

impl Default for Judge {
    fn default() -> Self {
        Self { policy: Policy::default_policy(), context: Context::default() }
    }
}

/// Judges `bundle`; `request` is the asker's own, where it names one. Blocks.
pub(crate) fn judge_bundle(state: &State, bundle: &[u8], request: Option<(RequestId, Nonce)>) -> Verdict {
    let context = Context { now: state.host.now(), expected_request: request, ..state.judge.context.clone() };
    judge(bundle, &state.judge.policy, &context, Some(&Served(state)))
}

/// The models that the node serves.
struct Served<'a>(&'a State);

impl Replayer for Served<'_> {
    fn replay(
        &self,
        model: &Digest,
        inputs: &[Opening],
        outputs: &[Opening],
        claim: &Claim,
    ) -> Result<Vec<(String, Tensor)>, ReplayError> {
        if let Some(graph) = self.0.graphs.values().find(|graph| graph.id() == *model) {
            return graph.replay(model, inputs, outputs, claim);
        }
        let named = self.0.catalog.values().filter(|(card, _)| card.model == Model::Id(*model));
        let replayer = named.filter_map(|(_, backend)| backend.replayer()).next();
        replayer.ok_or(ReplayError::ModelAbsent(*model))?.replay(model, inputs, outputs, claim)
    }
}
