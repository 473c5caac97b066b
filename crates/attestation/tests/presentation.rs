//! How presentations are judged (`attestation.md` §10.6), with development evidence. Between real sides over TLS, and with attackers
//! between them: `hallmark-environment`.
#![allow(clippy::unwrap_used)]

use hallmark_attestation::presentation::{Code, Credentials, Expected, Item, Peer, Presentation, Refusal};
use hallmark_attestation::simulated::{DEFAULT_SEED, Form, Provider, roots};
use hallmark_attestation::{Binding, CheckId, Dangers, Kind, Policy, Producer as _, Role, Session};
use hallmark_receipt::{Alg, Digest, PublicKey, Purpose, SecretKey, Signer as _};

const AT: u64 = 1_770_000_000;
const NONCE: [u8; 32] = [7; 32];

fn secret() -> SecretKey {
    SecretKey::from_seed(Alg::P256, &[1; 32]).unwrap()
}

fn key() -> PublicKey {
    secret().public_key()
}

fn session() -> Session<'static> {
    let server_leaf = Digest::of(&[&key().to_spki()]);
    Session { role: Role::Server, exporter: &[8; 32], server_leaf, client_leaf: None, nonce: &NONCE }
}

fn binding() -> Binding {
    Binding::default().with_key(Purpose::Tls, &key()).unwrap().with_nonce(NONCE.to_vec()).unwrap()
}

fn item(form: Form, binding: &Binding) -> Item {
    let evidence = Provider::new(form).produce(&binding.request(form.kind(), AT)).unwrap();
    Item { kind: form.kind(), evidence }
}

/// The message of a genuine environment with evidence of these forms.
fn message(forms: &[Form]) -> Vec<u8> {
    let binding = binding();
    let items = forms.iter().map(|form| item(*form, &binding)).collect();
    let signature = secret().sign(&session().to_be_signed()).unwrap();
    [Credentials { binding, items }.encode().unwrap(), signature].concat()
}

fn judge(message: &[u8], policy: &Policy, code: Code) -> Option<Result<Peer, Refusal>> {
    let roots = roots(DEFAULT_SEED).unwrap();
    let dangers = Dangers { accept_simulated: &roots, ..Dangers::default() };
    let expected = Expected { at: AT, policy, dangers, code, fresh: true };
    Some(Presentation::parse(message).ok()?.verify(&session(), &key(), &expected))
}

fn accept(message: &[u8]) -> Option<Result<Peer, Refusal>> {
    judge(message, &Policy::genuine(), Code::Any)
}

#[test]
fn every_form_of_a_cpu_may_stand_first_and_devices_behind_it() {
    for form in Form::ALL.into_iter().filter(|form| form.kind() != Kind::Nvidia) {
        let peer = accept(&message(&[form, Form::Nvidia])).unwrap().unwrap();
        assert_eq!((peer.reports().len(), peer.attested().kind()), (2, form.kind()));
        assert_eq!((peer.binding(), *peer.key()), (&binding(), key()));
    }
    let misplaced = |forms: &[Form]| accept(&message(forms)).unwrap().unwrap_err();
    assert_eq!(misplaced(&[Form::Nvidia]), Refusal::Kind { at: 0, got: Kind::Nvidia });
    assert_eq!(misplaced(&[Form::Nitro, Form::SnpV5]), Refusal::Kind { at: 1, got: Kind::SevSnp });
    let credentials = Credentials { binding: binding(), items: vec![] };
    let none = Presentation { credentials, signature: [0; 64] };
    let policy = Policy::genuine();
    let expected =
        Expected { at: AT, policy: &policy, dangers: Dangers::default(), code: Code::Any, fresh: true };
    assert_eq!(none.verify(&session(), &key(), &expected), Err(Refusal::NoEvidence));
}

#[test]
fn the_sessions_rows_count_like_the_evidences_own() {
    // A policy may ask for them by name, and what it asks for there is found there.
    let policy = "name = 'p'\n[nitro]\nrequire = ['tls-key', 'session', 'freshness', 'nonce', 'binding']";
    let policy = Policy::parse(policy).unwrap();
    assert!(judge(&message(&[Form::Nitro]), &policy, Code::Any).unwrap().is_ok());
    let strict = Policy::parse("name = 'p'\n[nitro]\nrequire = ['log']").unwrap();
    let refusal = judge(&message(&[Form::Nitro]), &strict, Code::Any).unwrap().unwrap_err();
    assert_eq!(refusal.to_string(), "evidence of kind `nitro` is not accepted: not checked: `log`");
    let refusal = judge(&message(&[Form::Nitro]), &policy, Code::Pinned).unwrap().unwrap_err();
    assert!(matches!(&refusal, Refusal::NotPinned(report) if report.is_accepted()), "{refusal}");
}

#[test]
fn the_leaf_that_is_judged_is_the_sessions() {
    let roots = roots(DEFAULT_SEED).unwrap();
    let dangers = Dangers { accept_simulated: &roots, ..Dangers::default() };
    let policy = Policy::genuine();
    let expected = Expected { at: AT, policy: &policy, dangers, code: Code::Any, fresh: false };
    let presentation = Presentation::parse(&message(&[Form::Nitro])).unwrap();
    // The key at hand is bound, and signed; but this session has another leaf in its place, or none.
    for wrong in [
        Session { server_leaf: Digest([1; 32]), ..session() },
        Session { role: Role::Client, ..session() },
        Session { role: Role::Client, client_leaf: Some(Digest([1; 32])), ..session() },
    ] {
        let refusal = presentation.verify(&wrong, &key(), &expected).unwrap_err();
        let failed: Vec<_> = refusal.report().unwrap().reasons().map(|(id, _)| id).collect();
        assert_eq!(failed, [CheckId::TlsKey, CheckId::Session], "{wrong:?}");
    }
}

#[test]
fn no_changed_bit_of_a_presentation_is_accepted() {
    let whole = message(&[Form::Nitro]);
    assert!(accept(&whole).unwrap().is_ok());
    let changed = |at: usize, bit: u8| {
        let mut changed = whole.clone();
        changed[at] ^= 1 << bit;
        accept(&changed).is_some_and(|judged| judged.is_ok())
    };
    // All of what stands before the evidence and behind it, and of the evidence, whose own bits `mutants.rs` tries, some.
    let (head, tail) = (160, 64 + 8);
    let places =
        (0..head).chain((head..whole.len() - tail).step_by(97)).chain(whole.len() - tail..whole.len());
    let accepted: Vec<_> = places.filter(|at| (0..8).any(|bit| changed(*at, bit))).collect();
    assert!(accepted.is_empty(), "{accepted:?}");
}
