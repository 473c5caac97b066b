//! What honest bundles get, and what each piece of knowledge of the verifier changes.

use hallmark_receipt::{
    Digest, Model, Nonce, RequestId, Revocation, RevocationReason, Signer as _, Wanted, Work, model_id,
};
use hallmark_verdict::{
    Basis, Context, Decision, Lacking, Outcome, Policy, Reason, Trust, Verdict, Why, judge, render,
};

use crate::fixture::*;
use hallmark_verdict::CheckId::{self, ExpectedModel, Identity, Publisher, Replay, Time};

fn outcome(verdict: &Verdict, id: CheckId) -> Outcome {
    verdict.check(id).unwrap().outcome.clone()
}

fn basis(verdict: &Verdict) -> Option<Vec<Basis>> {
    match &verdict.decision {
        Decision::Accepted(verified) => Some(verified.basis().to_vec()),
        _ => None,
    }
}

#[test]
fn acceptance_needs_an_anchor_outside_the_bundle() {
    use Basis::{Replay as Rerun, TrustedIdentity as Pin};
    // per bundle: what Bare, Model, Pin, Both accept on
    let expected: [[Option<Vec<Basis>>; 4]; 4] = [
        [None, Some(vec![Rerun]), Some(vec![Pin]), Some(vec![Rerun, Pin])],
        [None, Some(vec![Rerun]), Some(vec![Pin]), Some(vec![Rerun, Pin])],
        // no evidence `signature`: a trusted identity alone is not enough
        [None, Some(vec![Rerun]), None, Some(vec![Rerun])],
        // redacted: nothing to re-run
        [None, None, Some(vec![Pin]), Some(vec![Pin])],
    ];
    for (bundle, expected) in bundles().iter().zip(expected) {
        for (verifier, expected) in VERIFIERS.into_iter().zip(expected) {
            let verdict = verifier.judge(bundle.to_json().as_bytes());
            assert_eq!(verdict.reasons().collect::<Vec<_>>(), vec![], "{verifier:?}");
            assert_eq!(verdict.exit_code(), if expected.is_some() { 0 } else { 3 });
            assert_eq!(basis(&verdict), expected, "{verifier:?}\n{}", render::text(&verdict));
            if let Decision::Undecided(lacking) = &verdict.decision {
                assert_eq!(*lacking, vec![Lacking::Anchor]);
            }
        }
    }
}

#[test]
fn a_check_that_the_policy_requires_and_that_was_not_made_leaves_it_undecided() {
    let bundle = bundles()[0].to_json();
    let trusted = Verifier::Pin.context();
    let verdict = judge(bundle.as_bytes(), &Policy::replay(), &trusted, None);
    assert!(matches!(&verdict.decision, Decision::Undecided(l) if *l == vec![Lacking::Required(Replay)]));
    for id in CheckId::ALL {
        let policy = Policy { require: vec![*id], ..Policy::default_policy() };
        let verdict = judge(bundle.as_bytes(), &policy, &trusted, None);
        // A claim without parents, or without anything drawn, has no such row and needs none.
        let passed = match verdict.check(*id) {
            Some(check) => check.has_passed(),
            None => matches!(id, CheckId::Parents | CheckId::Seed),
        };
        assert_eq!(verdict.is_accepted(), passed, "{id}");
    }
}

#[test]
fn trust_comes_from_the_verifier_and_named_trust_is_exclusive() {
    let bundle = bundles()[0].to_json();
    let look = |named: &[NodeKeys], known: &[NodeKeys]| {
        let ids = |nodes: &[NodeKeys]| nodes.iter().map(NodeKeys::id).collect();
        let trust = Trust { named: ids(named), known: ids(known) };
        let context = Context { trust, ..Context::at(NOW) };
        judge(bundle.as_bytes(), &Policy::default_policy(), &context, None)
    };
    assert!(look(&[alice()], &[]).is_accepted());
    assert!(look(&[], &[bob(), alice()]).is_accepted());
    assert_eq!(
        outcome(&look(&[], &[bob()]), Identity),
        Outcome::NotChecked(Why::UnknownIdentity(alice().id()))
    );
    let other = look(&[bob()], &[alice()]);
    let reason = Reason::NotTrusted { expected: vec![bob().id()], got: alice().id() };
    assert_eq!(outcome(&other, Identity), Outcome::Failed(reason));
    assert_eq!(other.exit_code(), 1);
    let policy = Policy { identities: vec![bob().id()], ..Policy::default_policy() };
    let context = Context::at(NOW);
    assert_eq!(judge(bundle.as_bytes(), &policy, &context, None).exit_code(), 1);
    let policy = Policy { identities: vec![alice().id()], ..Policy::default_policy() };
    assert!(judge(bundle.as_bytes(), &policy, &context, None).is_accepted());
}

#[test]
fn what_the_verifier_asks_for_is_compared() {
    let bundle = bundles()[0].to_json();
    let look = |context: Context, policy: Policy| judge(bundle.as_bytes(), &policy, &context, None);
    let base = || Verifier::Pin.context();
    let own = model_id(&manifest("first"));
    let other = model_id(&manifest("second"));
    let default = Policy::default_policy;

    assert!(look(Context { expected_model: Some(own), ..base() }, default()).is_accepted());
    let verdict = look(Context { expected_model: Some(other), ..base() }, default());
    let reason = Reason::OtherModel { expected: vec![other], got: Model::Id(own) };
    assert_eq!(verdict.reasons().collect::<Vec<_>>(), vec![(ExpectedModel, &reason)]);
    assert!(look(base(), Policy { models: vec![own], ..default() }).is_accepted());
    assert_eq!(look(base(), Policy { models: vec![other], ..default() }).exit_code(), 1);

    let request = (RequestId([1; 16]), Nonce([1 ^ 0x55; 32]));
    assert!(look(Context { expected_request: Some(request), ..base() }, default()).is_accepted());
    let request = (RequestId([1; 16]), Nonce([0; 32]));
    assert_eq!(look(Context { expected_request: Some(request), ..base() }, default()).exit_code(), 1);

    let publishers = vec![publisher(30).public_key().id()];
    let verdict = look(Context { publishers: publishers.clone(), ..base() }, default());
    assert_eq!(outcome(&verdict, Publisher), Outcome::Passed);
    let verdict = look(base(), Policy { publishers, require: vec![Publisher], ..default() });
    assert!(verdict.is_accepted());
    let verdict = look(base(), Policy { require: vec![Publisher], ..default() });
    assert_eq!(
        outcome(&verdict, Publisher),
        Outcome::NotChecked(Why::UnknownPublisher(publisher(30).public_key().id()))
    );
    assert_eq!(verdict.exit_code(), 3);

    let late = Context { now: TIME + 11_000, ..base() };
    let young = Policy { max_age_seconds: Some(10), ..default() };
    assert!(matches!(outcome(&look(late, young.clone()), Time), Outcome::Failed(Reason::TooOld { .. })));
    let early = Context { now: TIME - 400_000, ..base() };
    assert!(matches!(outcome(&look(early, default()), Time), Outcome::Failed(Reason::FromTheFuture { .. })));
    let skewed = Context { now: TIME - 200_000, ..base() };
    assert!(look(skewed, young).is_accepted());
}

#[test]
fn revoked_keys_reject() {
    let node = alice();
    let bundle = bundles()[0].to_json();
    let key = node.key.public_key().id();
    let look = |revocations: Option<Vec<Revocation>>| {
        let context = Context { revocations, ..Verifier::Pin.context() };
        judge(bundle.as_bytes(), &Policy::default_policy(), &context, None)
    };
    let revocation =
        |key, reason, time| Revocation { identity: node.identity.public_key(), key, reason, time };
    use RevocationReason::{Compromised, Retired};
    assert_eq!(outcome(&look(None), CheckId::Revocation), Outcome::NotChecked(Why::NoRevocations));
    assert_eq!(outcome(&look(Some(vec![])), CheckId::Revocation), Outcome::Passed);
    for (revocation, code) in [
        (revocation(key, Retired, TIME + 1), 0),
        (revocation(key, Retired, TIME), 1),
        (revocation(key, Compromised, TIME + 1), 1),
        (revocation(node.id(), Compromised, TIME + 1), 1),
        (revocation(bob().id(), Compromised, TIME), 0),
    ] {
        assert_eq!(look(Some(vec![revocation.clone()])).exit_code(), code, "{revocation:?}");
    }
}

#[test]
fn runs_that_a_re_run_does_not_cover_are_not_re_run() {
    let parameters = hallmark_receipt::json::object([("temperature", "0.7".into())]);
    let sampled = sign(Work { parameters, ..work("first", 1) }, &alice());
    let verdict = Verifier::Model.judge(sampled.to_json().as_bytes());
    assert_eq!(outcome(&verdict, Replay), Outcome::NotChecked(Why::Parameters));
    assert_eq!(verdict.exit_code(), 3);

    let model = Model::Claimed { provider: "acme".into(), name: "big".into() };
    let evidence = Wanted { signature: true, replay: None, environment: None };
    let named = Work { model, evidence, manifest: None, graph: None, ..work("first", 1) };
    let named = sign(named, &alice()).to_json();
    assert_eq!(Verifier::Model.judge(named.as_bytes()).exit_code(), 3);
    let verdict = Verifier::Both.judge(named.as_bytes());
    assert_eq!(outcome(&verdict, Replay), Outcome::NotChecked(Why::OnlyNamed));
    assert_eq!(basis(&verdict), Some(vec![Basis::TrustedIdentity]));
    let context = Context { expected_model: Some(Digest([0; 32])), ..Verifier::Both.context() };
    assert_eq!(judge(named.as_bytes(), &Policy::default_policy(), &context, None).exit_code(), 1);
}

#[test]
fn nan_outputs_replay() {
    let mut nan = work("first", 1);
    nan.inputs = vec![opening("a", &[f32::NAN], 1), opening("b", &[], 2)];
    nan.outputs = vec![opening("y", &[f32::NAN], 3), opening("z", &[], 4)];
    assert!(Verifier::Model.judge(sign(nan, &alice()).to_json().as_bytes()).is_accepted());
}

#[test]
fn the_text_says_what_was_and_what_was_not_shown() {
    let bundle = bundles()[0].to_json();
    let text = render::text(&Verifier::Both.judge(bundle.as_bytes()));
    let expected = include_str!("accepted.txt");
    assert_eq!(text, expected, "{text}");
    let json = render::json(&Verifier::Both.judge(bundle.as_bytes()));
    let value = hallmark_receipt::json::Value::parse(json.as_bytes(), 1 << 20).unwrap();
    let hallmark_receipt::json::Value::Object(members) = value else { unreachable!() };
    assert_eq!(members["decision"], "accepted".into());
    // Openings never appear.
    assert!(!json.contains("salt") && !text.contains("0.25") && !json.contains("0.25"));
}
