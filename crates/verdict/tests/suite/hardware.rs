//! Evidence `tee`: keys that live in an attested environment, under the development roots.

use std::sync::Arc;

use hallmark_attestation::simulated::{Flaw, Form, Provider};
use hallmark_attestation::{Binding, Kind, Measurements, Producer as _, Register, anchors, environment};
use hallmark_receipt::{
    Bundle, Envelope, Environment, Evidence, EvidenceKind, PayloadType, PublicKey, Purpose, Receipt,
    Signer as _, Work,
};
use hallmark_verdict::{
    Basis, Cause as _, CheckId, Context, Decision, Hardware, Lacking, Outcome, Policy, Verdict, judge, render,
};

use crate::fixture::*;

const YEAR: u64 = 365 * 86_400_000;
const BINDING_FORMS: [Form; 8] =
    [Form::Nitro, Form::TdxV4, Form::TdxV5, Form::Sgx, Form::SnpV2, Form::SnpV3, Form::SnpV5, Form::SnpVlek];

/// What the development provider measures where it is told to.
fn measured(kind: Kind) -> (&'static str, usize) {
    match kind {
        Kind::Nitro => ("pcr0", 48),
        Kind::Tdx => ("mrtd", 48),
        Kind::Sgx => ("mrenclave", 32),
        _ => ("measurement", 48),
    }
}

fn provider(form: Form) -> Provider {
    let (register, length) = measured(form.kind());
    let measurements = Measurements::from([(Register::from_name(register).unwrap(), vec![0xab; length])]);
    Provider::new(form).with_measurements(measurements)
}

/// An environment that holds `key`, a minute old when the receipts are issued.
pub fn environment_of(provider: &Provider, key: &PublicKey) -> Arc<Environment> {
    let binding = Binding::default().with_key(Purpose::Receipt, key).unwrap();
    environment::produce(provider, &binding, TIME / 1000 - 60).unwrap()
}

/// A receipt of Alice's with this environment.
fn bundle(environment: Arc<Environment>) -> Bundle {
    let mut work = work("first", 1);
    work.evidence.environment = Some(environment);
    sign(work, &alice())
}

pub fn attested(form: Form) -> Bundle {
    bundle(environment_of(&provider(form), &alice().key.public_key()))
}

/// Asks for the code that [`provider`] measures.
fn pinning(kind: Kind, more: &str) -> Policy {
    let (register, length) = measured(kind);
    let name = kind.name();
    Policy::parse(&format!(
        "name = \"pinned\"\n[hardware.{name}]\n{more}\nmeasurements = [{{ name = \"one\", {register} = \"{}\" }}]",
        "ab".repeat(length)
    ))
    .unwrap()
}

/// A stranger who takes development evidence.
fn context(now: u64) -> Context {
    let hardware = Hardware { accept_simulated: anchors::development(), ..Hardware::default() };
    Context { hardware, ..Context::at(now) }
}

fn judged(bundle: &Bundle, policy: &Policy, context: &Context) -> Verdict {
    judge(bundle.to_json().as_bytes(), policy, context, None)
}

/// The one reason.
fn reason(verdict: &Verdict) -> (CheckId, &'static str) {
    let reasons: Vec<_> = verdict.reasons().map(|(id, reason)| (id, reason.code())).collect();
    let [reason] = reasons.as_slice() else { panic!("{reasons:?}") };
    assert_eq!(verdict.exit_code(), 1);
    *reason
}

fn has_passed(verdict: &Verdict, id: CheckId) -> bool {
    verdict.check(id).is_some_and(hallmark_verdict::Check::has_passed)
}

#[test]
fn pinned_code_is_an_anchor_whatever_the_hardware() {
    for form in BINDING_FORMS {
        let kind = form.kind();
        let verdict = judged(&attested(form), &pinning(kind, ""), &context(NOW));
        let Decision::Accepted(verified) = &verdict.decision else {
            panic!("{form:?}: {}", render::text(&verdict))
        };
        assert_eq!(verified.basis(), [Basis::Hardware { kind, simulated: true }]);
        assert!(has_passed(&verdict, CheckId::HardwareNow), "{form:?}");
        let text = render::text(&verdict);
        assert!(text.lines().all(|line| line.starts_with("SIMULATED ")), "{text}");
        let json = render::json(&verdict);
        assert!(json.contains("\"simulated\": true") && json.contains("\"measurements\""), "{json}");
    }
}

#[test]
fn genuine_hardware_alone_is_none() {
    let verdict = judged(&attested(Form::TdxV4), &Policy::default_policy(), &context(NOW));
    assert!(has_passed(&verdict, CheckId::Hardware) && has_passed(&verdict, CheckId::AttestedKey));
    let Decision::Undecided(lacking) = &verdict.decision else { panic!("{:?}", verdict.decision) };
    assert_eq!(lacking, &[Lacking::Anchor]);
}

#[test]
fn development_evidence_is_refused_unless_asked_for() {
    for form in BINDING_FORMS {
        let verdict = judged(&attested(form), &pinning(form.kind(), ""), &Context::at(NOW));
        assert_eq!(reason(&verdict), (CheckId::Hardware, "simulated-root"), "{form:?}");
        // Nor does a trusted name make up for it.
        let mut trusting = Context::at(NOW);
        trusting.trust.named = vec![alice().id()];
        assert_eq!(judged(&attested(form), &Policy::default_policy(), &trusting).exit_code(), 1);
    }
}

#[test]
fn other_code_is_refused() {
    let plain = bundle(environment_of(&Provider::new(Form::TdxV4), &alice().key.public_key()));
    let verdict = judged(&plain, &pinning(Kind::Tdx, ""), &context(NOW));
    assert_eq!(reason(&verdict), (CheckId::Hardware, "measurement"));
}

#[test]
fn an_environment_with_another_key_says_nothing_for_this_one() {
    let others = environment_of(&provider(Form::TdxV4), &mallory().key.public_key());
    let verdict = judged(&bundle(others.clone()), &pinning(Kind::Tdx, ""), &context(NOW));
    assert_eq!(reason(&verdict), (CheckId::AttestedKey, "key-elsewhere"));
    // Saying that it is this key's does not help: the report binds the other.
    let mut relabelled = (*others).clone();
    let mine = environment_of(&provider(Form::TdxV4), &alice().key.public_key());
    relabelled.keys.clone_from(&mine.keys);
    let verdict = judged(&bundle(Arc::new(relabelled)), &pinning(Kind::Tdx, ""), &context(NOW));
    assert_eq!(reason(&verdict), (CheckId::Hardware, "binding"));
    // A key of another purpose is another key.
    let binding = Binding::default().with_key(Purpose::Tls, &alice().key.public_key()).unwrap();
    let tls = environment::produce(&provider(Form::TdxV4), &binding, TIME / 1000).unwrap();
    let verdict = judged(&bundle(tls), &pinning(Kind::Tdx, ""), &context(NOW));
    assert_eq!(reason(&verdict), (CheckId::AttestedKey, "key-elsewhere"));
}

#[test]
fn policy_and_nonce_are_bound_along() {
    let binding = || Binding::default().with_key(Purpose::Receipt, &alice().key.public_key()).unwrap();
    let binding = binding().with_policy(hallmark_receipt::Digest([5; 32])).with_nonce(vec![6; 32]).unwrap();
    for form in [Form::Nitro, Form::SnpV3] {
        let made = environment::produce(&provider(form), &binding, TIME / 1000).unwrap();
        let policy = pinning(form.kind(), "");
        assert!(judged(&bundle(made.clone()), &policy, &context(NOW)).is_accepted());
        let mut other = (*made).clone();
        other.policy = Some(hallmark_receipt::Digest([4; 32]));
        assert_eq!(
            reason(&judged(&bundle(Arc::new(other)), &policy, &context(NOW))),
            (CheckId::Hardware, "binding")
        );
        let mut other = (*made).clone();
        other.nonce = vec![7; 32];
        assert_eq!(
            reason(&judged(&bundle(Arc::new(other)), &policy, &context(NOW))),
            (CheckId::Hardware, "binding")
        );
    }
}

#[test]
fn evidence_is_judged_at_the_claimed_time_and_years_later() {
    for form in BINDING_FORMS {
        let policy = pinning(form.kind(), "");
        let verdict = judged(&attested(form), &policy, &context(TIME + 5 * YEAR));
        assert!(verdict.is_accepted(), "{form:?}: {}", render::text(&verdict));
        // What was good then is not known to be good now.
        let now = verdict.check(CheckId::HardwareNow).unwrap();
        assert!(matches!(now.outcome, Outcome::NotChecked(_)), "{form:?}: {now:?}");
        let mut strict = policy;
        strict.require.push(CheckId::HardwareNow);
        assert_eq!(judged(&attested(form), &strict, &context(TIME + 5 * YEAR)).exit_code(), 3);
    }
}

#[test]
fn hardware_says_what_the_claim_is_not_before() {
    let policy = pinning(Kind::Nitro, "max_age_seconds = 120");
    let verdict = judged(&attested(Form::Nitro), &policy, &context(NOW));
    assert!(verdict.is_accepted());
    let time = render::row(verdict.check(CheckId::Time).unwrap());
    assert!(time.contains("by the node's word; not before 2026-11-21 08:11:44Z"), "{time}");
    // Older than the policy's age at the claimed time, and made after it.
    let key = alice().key.public_key();
    let made = |at| {
        let binding = Binding::default().with_key(Purpose::Receipt, &key).unwrap();
        bundle(environment::produce(&provider(Form::Nitro), &binding, at).unwrap())
    };
    let verdict = judged(&made(TIME / 1000 - 121), &policy, &context(NOW));
    assert_eq!(reason(&verdict), (CheckId::Hardware, "too-old"));
    let verdict = judged(&made(TIME / 1000 + 1), &policy, &context(NOW));
    assert_eq!(reason(&verdict), (CheckId::Hardware, "from-the-future"));
}

#[test]
fn todays_collateral_shows_what_was_revoked_since() {
    for form in BINDING_FORMS {
        let with = |flaw: Option<Flaw>| {
            let provider = flaw.map_or(provider(form), |flaw| provider(form).with_flaw(flaw));
            let request = hallmark_attestation::Request { at: NOW / 1000, ..Default::default() };
            let collateral = provider.produce(&request).unwrap().collateral;
            let mut context = context(NOW);
            context.hardware.collateral = Some(collateral);
            context
        };
        let policy = pinning(form.kind(), "");
        assert!(judged(&attested(form), &policy, &with(None)).is_accepted(), "{form:?}");
        let verdict = judged(&attested(form), &policy, &with(Some(Flaw::Revoked)));
        assert_eq!(reason(&verdict), (CheckId::HardwareNow, "revoked"), "{form:?}");
    }
}

#[test]
fn the_mark_must_be_true() {
    let mut unmarked = (*environment_of(&provider(Form::TdxV4), &alice().key.public_key())).clone();
    unmarked.simulated = false;
    let verdict = judged(&bundle(Arc::new(unmarked)), &pinning(Kind::Tdx, ""), &context(NOW));
    assert_eq!(reason(&verdict), (CheckId::Hardware, "hardware-mark"));
}

#[test]
fn kinds_that_bind_no_keys_or_are_unknown_are_not_checked() {
    let mut other = (*environment_of(&provider(Form::TdxV4), &alice().key.public_key())).clone();
    for kind in ["nvidia", "abacus"] {
        other.kind = kind.to_owned();
        let verdict = judged(&bundle(Arc::new(other.clone())), &pinning(Kind::Tdx, ""), &context(NOW));
        assert_eq!(verdict.exit_code(), 3, "{kind}");
        assert!(matches!(verdict.check(CheckId::Hardware).unwrap().outcome, Outcome::NotChecked(_)));
    }
}

/// The receipt is signed anew with evidence that lists what is put in.
fn relisted(change: impl FnOnce(&mut Vec<Evidence>)) -> Bundle {
    let node = alice();
    let mut bundle = attested(Form::SnpV2);
    change(&mut bundle.evidence);
    let mut receipt = Receipt::parse(&bundle.envelope.payload).unwrap();
    receipt.evidence = bundle.evidence.iter().map(|item| (item.kind(), item.digest())).collect();
    bundle.envelope = Envelope::sign(PayloadType::Statement, receipt.to_payload(), &node.key).unwrap();
    bundle
}

#[test]
fn the_attested_key_must_have_signed_this_claim_and_this_environment() {
    let tee = |evidence: &mut Vec<Evidence>| {
        evidence.iter().position(|item| item.kind() == EvidenceKind::Tee).unwrap()
    };
    let policy = pinning(Kind::SevSnp, "");
    assert!(judged(&relisted(|_| {}), &policy, &context(NOW)).is_accepted());
    let flipped = relisted(|evidence| {
        let at = tee(evidence);
        if let Evidence::Tee { signature, .. } = &mut evidence[at] {
            signature[40] ^= 1;
        }
    });
    assert_eq!(reason(&judged(&flipped, &policy, &context(NOW))), (CheckId::AttestedKey, "word"));
    // The signature of another claim, put under this one's id.
    let other = {
        let mut work = Work { ..work("first", 2) };
        work.evidence.environment = Some(environment_of(&provider(Form::SnpV2), &alice().key.public_key()));
        sign(work, &alice())
    };
    let spliced = relisted(|evidence| {
        let at = tee(evidence);
        let id = evidence[at].claim_id();
        evidence[at] = other.evidence.iter().find(|item| item.kind() == EvidenceKind::Tee).unwrap().clone();
        if let Evidence::Tee { claim_id, .. } = &mut evidence[at] {
            *claim_id = id;
        }
    });
    assert_eq!(reason(&judged(&spliced, &policy, &context(NOW))), (CheckId::AttestedKey, "word"));
    // Collateral that was added later is not what the key signed.
    let richer = relisted(|evidence| {
        let at = tee(evidence);
        if let Evidence::Tee { environment, .. } = &mut evidence[at] {
            Arc::make_mut(environment).certificates.push(vec![1]);
        }
    });
    let codes: Vec<_> = judged(&richer, &policy, &context(NOW)).reasons().map(|(id, _)| id).collect();
    assert!(codes.contains(&CheckId::AttestedKey), "{codes:?}");
}

#[test]
fn every_flipped_bit_of_an_attested_receipt_is_refused() {
    let bytes = attested(Form::Nitro).to_json().into_bytes();
    let policy = pinning(Kind::Nitro, "");
    for bit in (0..bytes.len() * 8).step_by(211) {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(judge(&flipped, &policy, &context(NOW), None).exit_code(), 1, "bit {bit}");
    }
}
