//! Proofs (`receipt.md` §13.17). A proof travels with the claim and needs no copy of the model; what it is worth depends on who
//! says that the commitment is to the model's weights.

use hallmark_model::manifest::{Manifest, NUMERIC_VERSION, ProofEntry};
use hallmark_model::skeleton::Skeleton;
use hallmark_proof::pcs::Root;
use hallmark_proof::program::{CheckError, Opened, Program, VERSION, scheme};
use hallmark_receipt::{Bundle, Digest, Evidence, Model, Opening, Proof, Receipt, Tensor};

use crate::check::{Check, CheckId, Reason, Why};
use crate::policy::Policy;
use crate::{ReplayError, Replayer};

/// Step 17a: the manifest's commitment is that of the verifier's own copy. Only where there is a proof.
pub fn commitment(
    bundle: &Bundle,
    receipt: &Receipt,
    checks: &[Check],
    replayer: Option<&dyn Replayer>,
) -> Option<Check> {
    let id = CheckId::Commitment;
    evidence(bundle)?;
    let Model::Id(model) = &receipt.claim.model else { return Some(Check::not_checked(id, Why::OnlyNamed)) };
    let entry = match entry(bundle, checks) {
        Ok((_, entry)) => entry,
        Err(Lacking::Why(why)) => return Some(Check::not_checked(id, why)),
        Err(Lacking::Reason(reason)) => return Some(Check::failed(id, reason)),
    };
    let result = match replayer {
        Some(replayer) => replayer.commitment(model),
        None => Err(ReplayError::ModelAbsent(*model)),
    };
    let (expected, got) = match result {
        Ok(expected) => (expected, Digest(entry.commitment)),
        Err(ReplayError::ModelAbsent(model)) => {
            return Some(Check::not_checked(id, Why::ModelAbsent(model)));
        }
        Err(ReplayError::NumericVersion { claimed }) => {
            return Some(Check::not_checked(id, Why::NumericVersion(claimed)));
        }
        Err(error) => return Some(Check::not_checked(id, Why::Unavailable(error.to_string()))),
    };
    Some(if expected == got {
        Check::passed(id, format!("{got}, worked out again from your copy"))
    } else {
        Check::failed(id, Reason::WeightCommitment { expected, got })
    })
}

/// Step 17b: the proof holds for this claim, its opened inputs and its opened outputs. Only where there is one.
pub fn proof(bundle: &Bundle, receipt: &Receipt, checks: &[Check], policy: &Policy) -> Option<Check> {
    let id = CheckId::Proof;
    let proof = evidence(bundle)?;
    Some(match check(bundle, receipt, checks, policy, proof) {
        Ok(found) => Check::passed(id, found),
        Err(Lacking::Why(why)) => Check::not_checked(id, why),
        Err(Lacking::Reason(reason)) => Check::failed(id, reason),
    })
}

/// Why a check does not pass.
enum Lacking {
    /// It is not made.
    Why(Why),
    /// It fails.
    Reason(Reason),
}

impl From<Why> for Lacking {
    fn from(why: Why) -> Self {
        Self::Why(why)
    }
}

impl From<Reason> for Lacking {
    fn from(reason: Reason) -> Self {
        Self::Reason(reason)
    }
}

impl From<CheckError> for Lacking {
    fn from(error: CheckError) -> Self {
        Self::Reason(Reason::Proof(error))
    }
}

fn check(
    bundle: &Bundle,
    receipt: &Receipt,
    checks: &[Check],
    policy: &Policy,
    proof: &Proof,
) -> Result<String, Lacking> {
    if !matches!(receipt.claim.model, Model::Id(_)) {
        return Err(Why::OnlyNamed.into());
    }
    let inputs = bundle.inputs.as_deref().ok_or(Why::ProofUnopened("input"))?;
    let outputs = bundle.outputs.as_deref().ok_or(Why::ProofUnopened("output"))?;
    let graph = bundle.graph.as_deref().ok_or(Why::ProofGraph)?;
    // What is proved must be what was claimed.
    for needed in [CheckId::Claim, CheckId::Evidence, CheckId::Graph, CheckId::Inputs, CheckId::Outputs] {
        require(checks, needed)?;
    }
    let (manifest, entry) = entry(bundle, checks)?;
    if manifest.numeric != NUMERIC_VERSION {
        return Err(Why::NumericVersion(manifest.numeric).into());
    }
    if let Some(version) = [entry.version, proof.version].into_iter().find(|version| *version != VERSION) {
        return Err(Why::ProofVersion(version).into());
    }
    if !receipt.claim.parameters.is_empty() {
        return Err(Why::Parameters.into());
    }
    let skeleton = Skeleton::decode(graph).map_err(CheckError::from)?;
    let program = Program::new(&skeleton)?;
    let inputs = ordered(&program, inputs)?;
    let outputs = named(&program, outputs)?;
    let index = proof.index_of(&receipt.claim_id).ok_or(Why::After(CheckId::Evidence))?;
    let placed = program.place_for(&inputs)?;
    let statement = placed.statement(Root(entry.commitment), proof.claims.clone());
    let opened = Opened { index, inputs: &inputs, outputs: &outputs, integers: &proof.integers };
    let scheme = scheme(proof.security);
    let bits = placed.check(&scheme, &statement, opened, &proof.bytes, policy.proof_bits)?.composed();
    let shared = match proof.claims.len() {
        1 => String::new(),
        many => format!(", one of {many} claims"),
    };
    // Rounded down: no bit is shown that is not there.
    let bits = (bits * 10.0).floor() / 10.0;
    Ok(format!("{bits:.1} bits composed{shared}; the statement binds model, input and output"))
}

fn evidence(bundle: &Bundle) -> Option<&Proof> {
    bundle.evidence.iter().find_map(|item| match item {
        Evidence::Zk { proof, .. } => Some(proof.as_ref()),
        _ => None,
    })
}

fn require(checks: &[Check], needed: CheckId) -> Result<(), Why> {
    let passed = checks.iter().any(|check| check.id == needed && check.has_passed());
    if passed { Ok(()) } else { Err(Why::After(needed)) }
}

/// The manifest and its commitment.
fn entry(bundle: &Bundle, checks: &[Check]) -> Result<(Manifest, ProofEntry), Lacking> {
    require(checks, CheckId::Manifest)?;
    let form = Lacking::Reason(Reason::ManifestForm { member: "proof" });
    let manifest = bundle.manifest.as_ref().ok_or(Why::After(CheckId::Manifest))?;
    if !manifest.contains_key("proof") {
        return Err(Why::NoCommitment.into());
    }
    let manifest = Manifest::from_object(manifest).map_err(|_| form)?;
    let entry = manifest.proof.ok_or(Why::NoCommitment)?;
    Ok((manifest, entry))
}

/// The opened inputs in the model's order.
fn ordered(program: &Program, openings: &[Opening]) -> Result<Vec<Tensor>, Lacking> {
    let graph = program.graph();
    let expected: Vec<&str> = graph.inputs.iter().map(|id| graph.name(*id)).collect();
    let find = |name: &&str| openings.iter().find(|opening| opening.name() == *name);
    let found: Option<Vec<Tensor>> = expected.iter().map(|name| Some(find(name)?.tensor().clone())).collect();
    found.filter(|_| expected.len() == openings.len()).ok_or_else(|| {
        let got = openings.iter().map(|opening| opening.name().to_owned()).collect();
        Reason::InputNames { expected: expected.into_iter().map(str::to_owned).collect(), got }.into()
    })
}

/// The opened outputs, which stand in the model's order.
fn named(program: &Program, openings: &[Opening]) -> Result<Vec<Tensor>, Lacking> {
    let graph = program.graph();
    let expected: Vec<&str> = graph.outputs.iter().map(|id| graph.name(*id)).collect();
    let got: Vec<&str> = openings.iter().map(Opening::name).collect();
    if expected != got {
        let own = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
        return Err(Reason::OutputNames { expected: own(expected), got: own(got) }.into());
    }
    Ok(openings.iter().map(|opening| opening.tensor().clone()).collect())
}
