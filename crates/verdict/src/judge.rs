//! The judgement: the numbered steps of `receipt.md` §13, and the rule that makes a verdict of them (§14).

use hallmark_attestation::{Kind, Report};
use hallmark_receipt::{
    Bundle, Certificate, Digest, KeyId, Model, Nonce, Opening, Receipt, RequestId, Revocation,
};

use self::hardware::Hardware;
use crate::check::{Check, CheckId, Outcome, Reason, Why};
use crate::policy::Policy;
use crate::{Replayer, time};

mod evidence;
pub mod hardware;
mod model;
mod node;
mod proof;
mod replay;
mod seed;

/// What the verifier knows.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// The time, in milliseconds since 1970.
    pub now: u64,
    /// The identities that the verifier trusts.
    pub trust: Trust,
    /// Revocations that the verifier holds, each checked by [`Revocation::verify`]; `None` if it has no list.
    pub revocations: Option<Vec<Revocation>>,
    /// Publishers that the verifier knows.
    pub publishers: Vec<KeyId>,
    /// The model that the verifier asks for.
    pub expected_model: Option<Digest>,
    /// The request that the verifier made.
    pub expected_request: Option<(RequestId, Nonce)>,
    /// What the verifier knows about hardware.
    pub hardware: Hardware,
}

/// Identities that a verifier trusts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Named for this very judgement: another signer fails.
    pub named: Vec<KeyId>,
    /// On the verifier's list: another signer is only unknown.
    pub known: Vec<KeyId>,
}

impl Context {
    /// A verifier that knows nothing but the time.
    pub fn at(now: u64) -> Self {
        Self { now, ..Self::default() }
    }
}

/// What the judge found.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The policy's name.
    pub policy: String,
    /// What the bundle says of itself, as far as it could be read; believe it only if [`Verdict::decision`] accepts.
    pub stated: Option<Receipt>,
    /// Every check, in the order of [`CheckId`].
    pub checks: Vec<Check>,
    /// What the hardware's evidence shows at the claimed time, if the bundle has some of a known kind.
    pub hardware: Option<Box<Report>>,
    /// The decision.
    pub decision: Decision,
}

/// What follows from the checks.
#[derive(Clone, Debug)]
pub enum Decision {
    /// Nothing failed, everything required passed, and the output is anchored outside the bundle.
    Accepted(Box<Verified<Receipt>>),
    /// A check failed.
    Rejected,
    /// Nothing failed, but something is lacking.
    Undecided(Vec<Lacking>),
}

/// What an undecided verdict lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lacking {
    /// A check that the policy requires was not made.
    Required(CheckId),
    /// Neither a re-run, nor the word of a trusted identity, nor hardware that runs pinned code, nor a proof for a known model.
    Anchor,
}

/// What an acceptance stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Basis {
    /// The verifier re-ran its own copy of the model.
    Replay,
    /// An identity that the verifier trusts gave its word.
    TrustedIdentity,
    /// A proof, for a model that the verifier named, holds, or whose publisher it trusts.
    Proof,
    /// Hardware of this kind, running code that the policy pins, holds the key that signed.
    Hardware {
        /// The kind.
        kind: Kind,
        /// Whether no hardware stands behind it, and the verifier was told to take that.
        simulated: bool,
    },
}

/// A value that the judge accepted. Nobody else can make one.
#[derive(Clone, Debug, PartialEq)]
pub struct Verified<T> {
    value: T,
    basis: Vec<Basis>,
}

impl<T> Verified<T> {
    /// The value.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// What the acceptance stands on; never empty.
    pub fn basis(&self) -> &[Basis] {
        &self.basis
    }

    /// The value alone.
    pub fn into_value(self) -> T {
        self.value
    }
}

impl Verdict {
    /// The check `id`, if the bundle could be read that far.
    pub fn check(&self, id: CheckId) -> Option<&Check> {
        self.checks.iter().find(|check| check.id == id)
    }

    /// Whether evidence without hardware behind it is part of what was judged.
    pub fn is_simulated(&self) -> bool {
        self.hardware.as_ref().is_some_and(|report| report.simulated)
    }

    /// Whether the receipt is accepted.
    pub fn is_accepted(&self) -> bool {
        matches!(self.decision, Decision::Accepted(_))
    }

    /// The process exit code: 0 accepted, 1 rejected, 3 undecided.
    pub fn exit_code(&self) -> u8 {
        match self.decision {
            Decision::Accepted(_) => 0,
            Decision::Rejected => 1,
            Decision::Undecided(_) => 3,
        }
    }

    /// The reasons of the checks that failed.
    pub fn reasons(&self) -> impl Iterator<Item = (CheckId, &Reason)> {
        self.checks.iter().filter_map(|check| match &check.outcome {
            Outcome::Failed(reason) => Some((check.id, reason)),
            _ => None,
        })
    }
}

/// Judges a bundle.
pub fn judge(bundle: &[u8], policy: &Policy, context: &Context, replayer: Option<&dyn Replayer>) -> Verdict {
    let bundle = match Bundle::parse(bundle) {
        Ok(bundle) => bundle,
        Err(error) => {
            let checks = vec![Check::failed(CheckId::Bundle, Reason::Format(error))];
            return Verdict {
                policy: policy.name.clone(),
                stated: None,
                checks,
                hardware: None,
                decision: Decision::Rejected,
            };
        }
    };
    judge_parsed(&bundle, policy, context, replayer)
}

/// Judges a bundle that was read before.
pub fn judge_parsed(
    bundle: &Bundle,
    policy: &Policy,
    context: &Context,
    replayer: Option<&dyn Replayer>,
) -> Verdict {
    let mut checks = vec![Check::passed(CheckId::Bundle, "well formed")];
    // 1. The statement: everything else speaks of what it says.
    let receipt = match Receipt::parse(&bundle.envelope.payload) {
        Ok(receipt) => receipt,
        Err(error) => {
            checks.push(Check::failed(CheckId::Statement, Reason::Statement(error)));
            return finish(None, checks, None, policy);
        }
    };
    // 2. - 4., 6. Who signed.
    let certificate = node::certificate(bundle, &receipt, &mut checks);
    checks.push(node::revocation(certificate.as_ref(), &receipt, context));
    checks.push(node::identity(certificate.as_ref(), policy, context));
    checks.push(node::signature(bundle, certificate.as_ref()));
    checks.push(statement(&receipt, certificate.as_ref()));
    // 7. - 10. The model.
    checks.push(model::manifest(bundle, &receipt));
    checks.push(model::graph(bundle, &receipt));
    checks.push(model::expected(&receipt, policy, context));
    checks.push(model::publisher(bundle, &receipt, policy, context));
    // 11. - 13. The claim.
    checks.push(claim(&receipt));
    checks.push(request(&receipt, context));
    if !receipt.claim.parents.is_empty() {
        let why = Why::ParentsElsewhere(receipt.claim.parents.len());
        checks.push(Check::not_checked(CheckId::Parents, why));
    }
    checks.push(openings(CheckId::Inputs, bundle.inputs.as_deref(), &receipt));
    checks.push(openings(CheckId::Outputs, bundle.outputs.as_deref(), &receipt));
    // 14. - 18. The evidence.
    checks.push(evidence::list(bundle, &receipt));
    checks.push(evidence::word(bundle, &receipt, certificate.as_ref()));
    let replay = replay::replay(bundle, &receipt, &checks, replayer);
    checks.push(replay);
    checks.extend(seed::seed(&receipt, &checks));
    checks.extend(proof::commitment(bundle, &receipt, &checks, replayer));
    checks.extend(proof::proof(bundle, &receipt, &checks, policy));
    let hardware = hardware::judge(bundle, &receipt, certificate.as_ref(), policy, context);
    // 5. again: the time, and who vouches for it.
    checks.push(node::time(&receipt, policy, context, hardware.report.as_ref()));
    checks.extend(hardware.checks);
    checks.push(Check::not_checked(CheckId::Settlement, Why::NotSettled));
    finish(Some(receipt), checks, hardware.report, policy)
}

/// §14: from checks to a decision.
fn finish(
    receipt: Option<Receipt>,
    mut checks: Vec<Check>,
    hardware: Option<Report>,
    policy: &Policy,
) -> Verdict {
    checks.sort_by_key(|check| check.id);
    let decision = decide(receipt.as_ref(), &checks, hardware.as_ref(), policy);
    let hardware = hardware.map(Box::new);
    Verdict { policy: policy.name.clone(), stated: receipt, checks, hardware, decision }
}

fn decide(
    receipt: Option<&Receipt>,
    checks: &[Check],
    hardware: Option<&Report>,
    policy: &Policy,
) -> Decision {
    let passed = |id: CheckId| checks.iter().any(|check| check.id == id && check.has_passed());
    let Some(receipt) = receipt else { return Decision::Rejected };
    if checks.iter().any(Check::has_failed) {
        return Decision::Rejected;
    }
    let mut required: Vec<CheckId> =
        Policy::ALWAYS.into_iter().chain(policy.require.iter().copied()).collect();
    required.sort();
    required.dedup();
    // A claim without parents has nothing to check about them.
    required.retain(|id| *id != CheckId::Parents || checks.iter().any(|check| check.id == CheckId::Parents));
    // Nor has one where nothing is drawn anything to check about a seed.
    required.retain(|id| *id != CheckId::Seed || !seed::is_plain(&receipt.claim));
    let mut lacking: Vec<Lacking> =
        required.into_iter().filter(|id| !passed(*id)).map(Lacking::Required).collect();
    let mut basis = Vec::new();
    if passed(CheckId::Replay) && passed(CheckId::Manifest) {
        basis.push(Basis::Replay);
    }
    if passed(CheckId::Identity) && passed(CheckId::Word) && passed(CheckId::Signature) {
        basis.push(Basis::TrustedIdentity);
    }
    let runs_pinned_code =
        hardware.filter(|report| hardware::has_passed(report, hallmark_attestation::CheckId::Measurements));
    if let Some(report) = runs_pinned_code
        && passed(CheckId::Hardware)
        && passed(CheckId::AttestedKey)
        && passed(CheckId::Signature)
    {
        basis.push(Basis::Hardware { kind: report.kind, simulated: report.simulated });
    }
    let knows_model =
        [CheckId::ExpectedModel, CheckId::Commitment, CheckId::Publisher].into_iter().any(passed);
    if passed(CheckId::Proof) && passed(CheckId::Manifest) && knows_model {
        basis.push(Basis::Proof);
    }
    if basis.is_empty() {
        lacking.push(Lacking::Anchor);
    }
    if lacking.is_empty() {
        Decision::Accepted(Box::new(Verified { value: receipt.clone(), basis }))
    } else {
        Decision::Undecided(lacking)
    }
}

/// Step 6b: the statement is about the claimed outputs, and names the key that signs it.
fn statement(receipt: &Receipt, certificate: Option<&Certificate>) -> Check {
    let id = CheckId::Statement;
    if receipt.subject != receipt.claim.outputs {
        let (expected, got) = (receipt.claim.outputs, receipt.subject);
        return Check::failed(id, Reason::Subject { expected, got });
    }
    let Some(certificate) = certificate else {
        return Check::not_checked(id, Why::After(CheckId::Certificate));
    };
    let (expected, got) = (certificate.key.id(), receipt.signer);
    if expected != got {
        return Check::failed(id, Reason::Signer { expected, got });
    }
    Check::passed(id, "in-toto statement, subject is the output commitment")
}

/// Step 11: the id follows from the fields.
fn claim(receipt: &Receipt) -> Check {
    let (expected, got) = (receipt.claim.id(), receipt.claim_id);
    if expected == got {
        Check::passed(CheckId::Claim, got.to_string())
    } else {
        Check::failed(CheckId::Claim, Reason::ClaimId { expected, got })
    }
}

/// Step 12: the request is the verifier's.
fn request(receipt: &Receipt, context: &Context) -> Check {
    let got = (receipt.claim.request_id, receipt.claim.nonce);
    match context.expected_request {
        None => Check::not_checked(CheckId::Request, Why::NoRequestNamed),
        Some(expected) if expected == got => Check::passed(CheckId::Request, got.0.to_string()),
        Some(expected) => Check::failed(CheckId::Request, Reason::OtherRequest { expected, got }),
    }
}

/// Step 13: the opened tensors are those committed to.
fn openings(id: CheckId, openings: Option<&[Opening]>, receipt: &Receipt) -> Check {
    let Some(openings) = openings else { return Check::not_checked(id, Why::Redacted) };
    let (domain, expected) = if id == CheckId::Inputs {
        (hallmark_receipt::domain::INPUTS, receipt.claim.inputs)
    } else {
        (hallmark_receipt::domain::OUTPUTS, receipt.claim.outputs)
    };
    let got = hallmark_receipt::commit::commitment(domain, openings);
    if got != expected {
        return Check::failed(id, Reason::Commitment { expected, got });
    }
    let tensors = if openings.len() == 1 { "tensor" } else { "tensors" };
    Check::passed(id, format!("{} {tensors}, as committed to", openings.len()))
}

fn is_named(model: &Model) -> bool {
    !matches!(model, Model::Id(_))
}

fn when(milliseconds: u64) -> String {
    time::text(milliseconds)
}
