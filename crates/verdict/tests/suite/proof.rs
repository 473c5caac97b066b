//! Proofs as evidence: a tiny quantised model, bundles with proofs, and who may rely on them.

use std::sync::{Arc, OnceLock};

use hallmark_model::manifest::{Model, ProofEntry};
use hallmark_model::onnx::{Limits, NoExternalData};
use hallmark_model::reference;
use hallmark_proof::program::{Program, VERSION, scheme};
use hallmark_proof::protocol::prove::{Committed, prove};
use hallmark_receipt::proof::Security;
use hallmark_receipt::{
    Bundle, Digest, Evidence, EvidenceKind, Opening, Proof, Receipt, Salt, Signer as _, Tensor, Wanted, Work,
    domain,
};
use hallmark_verdict::{
    Basis, Catalog as _, Cause as _, CheckId, Context, Decision, Outcome, Policy, Replayer, Verdict, judge,
};

use crate::fixture::*;

/// The commitment that proofs about `model` open.
pub fn commitment(model: &Model) -> [u8; 32] {
    let program = Program::new(model.skeleton()).unwrap();
    let circuit = program.smallest().unwrap().circuit(1).unwrap();
    Committed::new(&scheme(Security::Standard), &circuit, model.graph()).unwrap().root.0
}

/// The models of `vectors/proof`, committed to: `tiny`, and `other`, which has other weights.
pub fn models() -> &'static [Model; 2] {
    static MODELS: OnceLock<[Model; 2]> = OnceLock::new();
    MODELS.get_or_init(|| {
        [
            include_bytes!("../../../../vectors/proof/tiny.onnx"),
            include_bytes!("../../../../vectors/proof/other.onnx"),
        ]
        .map(|bytes| {
            let model = Model::load(bytes, &NoExternalData, &Limits::default()).unwrap();
            let entry = ProofEntry { commitment: commitment(&model), version: VERSION };
            model.with_proof(Some(entry))
        })
    })
}

fn input(seed: u8) -> Tensor {
    let values: Vec<f32> = (0..8_u8).map(|i| f32::from(i * seed % 7) / 4.0 - 0.75).collect();
    Tensor::from_vec(vec![1, 8], values).unwrap()
}

/// What Alice did for request `seed` with `model`.
fn answer(model: &Model, seed: u8) -> Work {
    let x = input(seed);
    let y = reference::run(model.graph(), &[&x], 1 << 20).unwrap().remove(0);
    Work {
        model: hallmark_receipt::Model::Id(model.id()),
        inputs: vec![Opening::new("x", x, Salt([seed ^ 1; 32])).unwrap()],
        outputs: vec![Opening::new("y", y, Salt([seed ^ 2; 32])).unwrap()],
        evidence: Wanted { signature: true, replay: None, environment: None },
        manifest: Some(model.manifest().to_object()),
        graph: Some(model.skeleton().encode()),
        ..work("proved", seed)
    }
}

/// Answers of `model`, with one proof for all of them.
pub fn proved(model: &Model, seeds: &[u8], security: Security) -> Vec<Bundle> {
    let node = alice();
    let mut bundles: Vec<Bundle> = seeds.iter().map(|seed| sign(answer(model, *seed), &node)).collect();
    let claims: Vec<Digest> = bundles.iter().map(|bundle| bundle.evidence[0].claim_id()).collect();
    let program = Program::new(model.skeleton()).unwrap();
    let placed = program.place_for(&[input(seeds[0])]).unwrap();
    let circuit = placed.circuit(seeds.len()).unwrap();
    let scheme = scheme(security);
    let weights = Committed::new(&scheme, &circuit, model.graph()).unwrap();
    let statement = placed.statement(weights.root, claims.clone());
    let core: Vec<Vec<Tensor>> = seeds.iter().map(|seed| placed.before(&[input(*seed)]).unwrap()).collect();
    let (bytes, witness) = prove(&scheme, &circuit, &statement, &weights, &core, &mut |_| ()).unwrap();
    for (index, bundle) in bundles.iter_mut().enumerate() {
        let integers = witness.outputs(&circuit, index);
        let (id, claims, bytes) = (claims[index], claims.clone(), bytes.clone());
        let proof = Arc::new(Proof { claims, integers, bytes, security, version: VERSION });
        bundle.evidence.push(Evidence::prove(id, proof).unwrap());
    }
    bundles
}

/// The bundle with its proof changed.
pub fn with_proof(bundle: &Bundle, change: impl FnOnce(&mut Proof)) -> Bundle {
    let mut bundle = bundle.clone();
    let Some(Evidence::Zk { proof, .. }) = bundle.evidence.iter_mut().find(|e| e.kind() == EvidenceKind::Zk)
    else {
        panic!("no proof")
    };
    change(Arc::make_mut(proof));
    bundle
}

/// Tampered bundles for the vectors.
pub fn tampered() -> Vec<(&'static str, Bundle)> {
    let [tiny, other] = models();
    let bundle = proved(tiny, &[1, 2], Security::Standard).remove(0);
    let second = proved(tiny, &[2, 1], Security::Standard).remove(0);
    let foreign = proved(other, &[1, 2], Security::Standard).remove(0);
    let proof = |bundle: &Bundle| match bundle.evidence.last() {
        Some(Evidence::Zk { proof, .. }) => proof.as_ref().clone(),
        _ => panic!("no proof"),
    };
    let moved =
        Bundle { evidence: vec![bundle.evidence[0].clone(), second.evidence[1].clone()], ..bundle.clone() };
    vec![
        ("proof-of-another-claim", moved),
        ("proof-without-the-claim", with_proof(&bundle, |p| p.claims.truncate(0))),
        ("proof-integers", with_proof(&bundle, |p| p.integers[0] ^= 1)),
        ("proof-byte", with_proof(&bundle, |p| p.bytes[100] ^= 1)),
        ("proof-of-another-model", with_proof(&bundle, |p| p.bytes = proof(&foreign).bytes)),
        ("proof-of-another-row", with_proof(&bundle, |p| p.claims.swap(0, 1))),
    ]
}

fn judged(bundle: &Bundle, context: &Context, policy: &Policy) -> Verdict {
    judge(bundle.to_json().as_bytes(), policy, context, None)
}

fn bases(verdict: &Verdict) -> Vec<Basis> {
    match &verdict.decision {
        Decision::Accepted(verified) => verified.basis().to_vec(),
        _ => Vec::new(),
    }
}

#[test]
fn a_proof_counts_for_a_model_that_the_verifier_knows() {
    let [tiny, other] = models();
    let bundle = proved(tiny, &[1], Security::Standard).remove(0);
    let policy = Policy::default_policy();
    let nobody = judged(&bundle, &Context::at(NOW), &policy);
    assert!(nobody.check(CheckId::Proof).unwrap().has_passed(), "{:?}", nobody.checks);
    assert_eq!((nobody.exit_code(), bases(&nobody)), (3, Vec::new()));
    // Named.
    let context = Context { expected_model: Some(tiny.id()), ..Context::at(NOW) };
    let named = judged(&bundle, &context, &policy);
    assert_eq!(bases(&named), [Basis::Proof]);
    let open = hallmark_verdict::render::not_shown(&named);
    assert!(!open.contains(&CheckId::Replay.not_shown()) && open.contains(&CheckId::Commitment.not_shown()));
    assert!(open.iter().any(|text| text.contains("hides nothing")));
    let context = Context { expected_model: Some(other.id()), ..Context::at(NOW) };
    assert_eq!(judged(&bundle, &context, &policy).exit_code(), 1);
    // By a trusted publisher.
    let publication = hallmark_receipt::Publication::sign(tiny.id(), "acme-models", &publisher(30)).unwrap();
    let published = Bundle { publications: vec![publication], ..bundle.clone() };
    let context = Context { publishers: vec![publisher(30).public_key().id()], ..Context::at(NOW) };
    assert_eq!(bases(&judged(&published, &context, &policy)), [Basis::Proof]);
    assert_eq!(bases(&judged(&published, &Context::at(NOW), &policy)), []);
    // Held: then the commitment is worked out again.
    let verdict = Verifier::Model.judge(bundle.to_json().as_bytes());
    assert!(verdict.check(CheckId::Commitment).unwrap().has_passed());
    assert_eq!(bases(&verdict), [Basis::Replay, Basis::Proof]);
}

#[test]
fn what_is_lacking_is_said() {
    let [tiny, _] = models();
    let policy = Policy::default_policy();
    let bundle = proved(tiny, &[1], Security::Standard).remove(0);
    let outcome = |bundle: &Bundle, policy: &Policy| {
        let verdict = judged(bundle, &Context::at(NOW), policy);
        match &verdict.check(CheckId::Proof).unwrap().outcome {
            Outcome::NotChecked(why) => why.to_string(),
            Outcome::Failed(reason) => reason.code().to_owned(),
            Outcome::Passed => "passed".to_owned(),
        }
    };
    assert_eq!(outcome(&bundle, &policy), "passed");
    assert_eq!(outcome(&bundle, &Policy { proof_bits: 150, ..policy.clone() }), "proof-bits");
    let high = proved(tiny, &[1], Security::High).remove(0);
    assert_eq!(outcome(&high, &Policy { proof_bits: 118, ..policy.clone() }), "passed");
    for (side, hidden) in [
        ("input", Bundle { inputs: None, ..bundle.clone() }),
        ("output", Bundle { outputs: None, ..bundle.clone() }),
    ] {
        let text = outcome(&hidden, &policy);
        assert!(text.contains("openings of input and output") && text.ends_with(side), "{text}");
    }
    let uncommitted = tiny.clone().with_proof(None);
    let node = alice();
    let plain = sign(answer(&uncommitted, 1), &node);
    let id = plain.evidence[0].claim_id();
    let attached = with_claim(&bundle, &plain, id);
    assert!(outcome(&attached, &policy).contains("no commitment"), "{}", outcome(&attached, &policy));
    let bare = sign(Work { graph: None, ..answer(tiny, 1) }, &node);
    let id = bare.evidence[0].claim_id();
    assert!(outcome(&with_claim(&bundle, &bare, id), &policy).contains("the model's graph"));
    let later = with_proof(&bundle, |p| p.version = 2);
    assert!(outcome(&later, &policy).contains("version 2"));
    let mut work = answer(tiny, 1);
    work.parameters.insert("seed".to_owned(), hallmark_receipt::json::Value::Int(1));
    let odd = sign(work, &node);
    let id = odd.evidence[0].claim_id();
    assert!(outcome(&with_claim(&bundle, &odd, id), &policy).contains("parameters"));
}

/// `to` with the proof of `from`, said to be about `claim`.
fn with_claim(from: &Bundle, to: &Bundle, claim: Digest) -> Bundle {
    let Some(Evidence::Zk { proof, .. }) = from.evidence.last() else { panic!("no proof") };
    let proof = Arc::new(Proof { claims: vec![claim], ..proof.as_ref().clone() });
    let mut bundle = to.clone();
    bundle.evidence.push(Evidence::prove(claim, proof).unwrap());
    bundle
}

#[test]
fn replay_to_another_claim_model_or_row_is_refused() {
    let [tiny, other] = models();
    let [first, second]: [Bundle; 2] =
        proved(tiny, &[1, 2], Security::Standard).try_into().unwrap_or_else(|_| panic!("two"));
    let code = |bundle: &Bundle| {
        let verdict = judged(bundle, &Context::at(NOW), &Policy::default_policy());
        match &verdict.check(CheckId::Proof).unwrap().outcome {
            Outcome::Failed(reason) => reason.code(),
            outcome => panic!("{outcome:?}"),
        }
    };
    // Another claim about the very same input and output.
    let again = sign(Work { nonce: hallmark_receipt::Nonce([9; 32]), ..answer(tiny, 1) }, &alice());
    let id = again.evidence[0].claim_id();
    assert!(code(&with_claim(&first, &again, id)).starts_with("proof"));
    // Another version of the model.
    let elsewhere = sign(answer(other, 1), &alice());
    let id = elsewhere.evidence[0].claim_id();
    assert_eq!(code(&with_claim(&first, &elsewhere, id)), "proof-output");
    // Another row: its own outputs do not follow from the other's integers.
    let integers = match second.evidence.last() {
        Some(Evidence::Zk { proof, .. }) => proof.integers.clone(),
        _ => panic!("no proof"),
    };
    assert_eq!(code(&with_proof(&first, |p| p.integers = integers)), "proof-output");
    for (name, bundle) in tampered() {
        let verdict = judged(&bundle, &Context::at(NOW), &Policy::default_policy());
        assert_eq!(verdict.exit_code(), 1, "{name}");
    }
    // No receipt lists a proof: its digest would depend on the data without a salt.
    let mut receipt = Receipt::parse(&first.envelope.payload).unwrap();
    receipt.evidence.push((EvidenceKind::Zk, first.evidence[1].digest()));
    assert!(Receipt::parse(&receipt.to_payload()).is_err());
    let redacted = first.clone().redact();
    assert_eq!(redacted.evidence, first.evidence[..1]);
    assert_eq!(judged(&redacted, &Context::at(NOW), &Policy::default_policy()).exit_code(), 3);
}

#[test]
fn a_wrong_commitment_fails_where_the_model_is_at_hand() {
    let [tiny, _] = models();
    let lie = ProofEntry { commitment: [7; 32], version: VERSION };
    let model = tiny.clone().with_proof(Some(lie));
    let plain = sign(answer(&model, 1), &alice());
    let honest = proved(tiny, &[1], Security::Standard).remove(0);
    let bundle = with_claim(&honest, &plain, plain.evidence[0].claim_id());
    let copies = Copies::holding([model.clone()]);
    let text = bundle.to_json();
    let verdict =
        judge(text.as_bytes(), &Policy::default_policy(), &Context::at(NOW), Some(&copies as &dyn Replayer));
    let reasons: Vec<&str> = verdict.reasons().map(|(_, reason)| reason.code()).collect();
    assert_eq!(reasons[0], "weight-commitment");
    assert_ne!(model.id(), tiny.id());
    assert_eq!(domain::GRAPH.hash(&[&plain.graph.unwrap()]), tiny.skeleton().digest());
}

#[test]
fn the_commitment_depends_on_nothing_but_the_graph() {
    let [tiny, other] = models();
    let program = Program::new(tiny.skeleton()).unwrap();
    let rows = |n: usize| Tensor::from_vec(vec![n, 8], vec![0.5_f32; n * 8]).unwrap();
    for (level, n, requests) in [
        (Security::Standard, 3, 1),
        (Security::Standard, 1, 5),
        (Security::High, 1, 1),
        (Security::High, 4, 2),
    ] {
        let circuit = program.place_for(&[rows(n)]).unwrap().circuit(requests).unwrap();
        let root = Committed::new(&scheme(level), &circuit, tiny.graph()).unwrap().root;
        assert_eq!(root.0, commitment(tiny), "{level:?} {n} {requests}");
    }
    assert_ne!(commitment(tiny), commitment(other));
}
