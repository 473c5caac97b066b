//! Evidence of the development provider: accepted under its root, refused without, and refused with every flaw for the reason that the
//! flaw has. What hardware's evidence covers elsewhere is covered here without it.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use hallmark_attestation::simulated::{DEFAULT_SEED, Flaw, Form, Provider, roots};
use hallmark_attestation::{
    CheckId, Context, Dangers, Evidence, Kind, Measurements, Policy, ProduceError, Producer as _, Report,
    Request, anchors, show,
};
use hallmark_receipt::check::Cause as _;
use hallmark_receipt::wire::to_hex;

const AT: u64 = 1_770_000_000;

/// A request that every field of the form is filled by.
fn request(form: Form) -> Request {
    let (report_data, nonce) = match form.kind() {
        Kind::Nitro => (vec![0xd1; 48], vec![0x5e; 32]),
        Kind::Nvidia => (Vec::new(), vec![0x5e; 32]),
        _ => (vec![0xd1; 64], Vec::new()),
    };
    Request { report_data, nonce, at: AT }
}

/// A policy that asks for everything which the evidence can show.
fn policy(form: Form, measurements: &Measurements) -> Policy {
    let registers: String = measurements
        .iter()
        .map(|(register, value)| format!("'{register}' = '{}'\n", to_hex(value)))
        .collect();
    let name = form.kind().name();
    let age = if form.kind() == Kind::Nitro { "max_age_seconds = 300\n" } else { "" };
    let text = format!(
        "name = 'strict'\n[{name}]\nrequire = ['revocation', 'measurements']\n{age}\
         [[{name}.measurements]]\nname = 'the code'\n{registers}"
    );
    Policy::parse(&text).unwrap()
}

/// Judges what was made for `request` by everything that is known of it.
fn judge(form: Form, evidence: &Evidence, request: &Request, accept: bool) -> Report {
    let policy = policy(form, &release(form));
    let roots = roots(DEFAULT_SEED).unwrap();
    let context = Context {
        nonce: (!request.nonce.is_empty()).then_some(&request.nonce[..]),
        binding: (!request.report_data.is_empty()).then_some(&request.report_data[..]),
        dangers: Dangers { accept_simulated: if accept { &roots } else { &[] }, ..Dangers::default() },
        ..Context::new(request.at, &policy)
    };
    evidence.judge(form.kind(), &context)
}

/// What runs, as the provider's own evidence says.
fn release(form: Form) -> Measurements {
    let (policy, provider) = (Policy::genuine(), Provider::new(form));
    let roots = [provider.root().unwrap()];
    let mut context = Context::new(AT, &policy);
    context.dangers.accept_simulated = &roots;
    match provider.produce(&request(form)).unwrap().judge(form.kind(), &context).decision {
        hallmark_attestation::Decision::Accepted(attested) => {
            let mut measurements = attested.measurements().clone();
            measurements.retain(|_, value| value.iter().any(|byte| *byte != 0));
            measurements
        }
        decision => panic!("{form:?}: {decision:?}"),
    }
}

/// The rows that failed and their reasons.
fn failed(report: &Report) -> Vec<(CheckId, &'static str)> {
    report.reasons().map(|(id, reason)| (id, reason.code())).collect()
}

#[test]
fn each_form_is_accepted_by_who_asks_for_it_and_by_nobody_else() {
    for form in Form::ALL {
        let provider = Provider::new(form);
        let request = request(form);
        let evidence = provider.produce(&request).unwrap();
        assert_eq!(evidence, provider.produce(&request).unwrap(), "the same request, the same bytes");
        let report = judge(form, &evidence, &request, true);
        assert!(report.is_accepted() && report.simulated, "{form:?}: {report:#?}");
        let report = judge(form, &evidence, &request, false);
        assert_eq!(failed(&report), [(CheckId::Root, "simulated-root")], "{form:?}");
        let other = Provider::new(form).with_seed([7; 32]).produce(&request).unwrap();
        assert_eq!(
            failed(&judge(form, &other, &request, true)),
            [(CheckId::Root, "unknown-root")],
            "{form:?}"
        );
        assert!(show(form.kind(), &evidence.evidence).is_ok(), "{form:?}");
        assert!(
            anchors::is_development(provider.root().unwrap()),
            "{form:?}: pin {}",
            provider.root().unwrap()
        );
    }
}

#[test]
fn what_was_asked_for_is_what_the_evidence_says() {
    for form in Form::ALL {
        let (register, value) = release(form).into_iter().next().unwrap();
        let asked = Measurements::from([(register, vec![0xab; value.len()])]);
        let provider = Provider::new(form).with_measurements(asked.clone());
        let (request, roots) = (request(form), roots(DEFAULT_SEED).unwrap());
        let policy = policy(form, &asked);
        let mut context = Context::new(AT, &policy);
        context.dangers.accept_simulated = &roots;
        let report = provider.produce(&request).unwrap().judge(form.kind(), &context);
        assert!(report.is_accepted(), "{form:?}: {report:#?}");
        let asked = Measurements::from([(register, vec![0xab; value.len() + 1])]);
        let result = Provider::new(form).with_measurements(asked).produce(&request);
        assert!(matches!(result, Err(ProduceError::Register { .. })), "{form:?}: {result:?}");
        for at in [0, u64::MAX] {
            let result = Provider::new(form).produce(&Request { at, ..request.clone() });
            assert!(matches!(result, Err(ProduceError::Time { .. })), "{form:?}: {result:?}");
        }
        let long = Request { report_data: vec![0; 1025], nonce: vec![0; 1025], at: AT };
        assert!(Provider::new(form).produce(&long).is_err(), "{form:?}");
    }
}

/// Where a flaw shows, and the reason's code.
type Expected = (CheckId, &'static str);

/// What every kind answers to the flaws that all of them can have.
fn common(form: Form, flaw: Flaw) -> Option<Expected> {
    let kind = form.kind();
    Some(match flaw {
        Flaw::OtherRoot => (CheckId::Root, "unknown-root"),
        Flaw::MarkMissing => (CheckId::Root, "unmarked"),
        Flaw::LeafExpired | Flaw::IssuerExpired => (CheckId::Validity, "expired"),
        Flaw::LeafNotYet | Flaw::IssuerNotYet => (CheckId::Validity, "not-yet-in-force"),
        Flaw::LeafIsAuthority => (CheckId::Chain, "leaf-is-authority"),
        Flaw::IssuerNoAuthority => (CheckId::Chain, "not-an-authority"),
        Flaw::LeafKeyUsage | Flaw::IssuerKeyUsage => (CheckId::Chain, "key-usage"),
        Flaw::PathLength => (CheckId::Chain, "path-length"),
        Flaw::IssuerName | Flaw::ChainOrder | Flaw::IssuerMissing => (CheckId::Chain, "chain-issuer"),
        Flaw::CertificateSignature => (CheckId::Chain, "chain-signature"),
        Flaw::CertificateTrailing | Flaw::AlgorithmDiffers | Flaw::DuplicateExtension => {
            (CheckId::Chain, "certificate")
        }
        Flaw::OtherScheme => (CheckId::Chain, "chain-scheme"),
        Flaw::UnknownCritical => (CheckId::Chain, "unknown-critical-extension"),
        Flaw::UnreadableExtension => (CheckId::Chain, "extension"),
        Flaw::ChainTooLong => (CheckId::Chain, "chain-too-long"),
        Flaw::Revoked => (CheckId::Revocation, "revoked"),
        Flaw::ListStale | Flaw::ListNotYet | Flaw::ListSigner | Flaw::ListKeyUsage | Flaw::ListTrailing => {
            (CheckId::Revocation, "revocation-list")
        }
        Flaw::SwappedLeaf | Flaw::Signature => (CheckId::Signature, "signature"),
        Flaw::Debug => (CheckId::Debug, "debug"),
        Flaw::Nonce => (CheckId::Nonce, "nonce"),
        Flaw::Binding => (CheckId::Binding, "binding"),
        Flaw::OtherCode => (CheckId::Measurements, "measurement"),
        Flaw::Empty => (CheckId::Format, "encoding"),
        Flaw::FromTheFuture => (CheckId::Age, "from-the-future"),
        Flaw::Old => (CheckId::Age, "too-old"),
        _ if kind == Kind::Nitro => (CheckId::Format, nitro(flaw)?),
        _ => return None,
    })
}

fn nitro(flaw: Flaw) -> Option<&'static str> {
    Some(match flaw {
        Flaw::Truncated => "document-truncated",
        Flaw::Trailing => "document-trailing",
        Flaw::Oversized => "document-field-length",
        Flaw::DuplicateField => "document-duplicate-field",
        Flaw::UnknownField => "document-unknown-field",
        Flaw::MissingField => "document-missing-field",
        Flaw::Tag => "document-tag",
        Flaw::Parts => "document-parts",
        Flaw::HeaderAlgorithm => "document-algorithm",
        Flaw::Unprotected => "document-unprotected",
        Flaw::SignatureLength => "document-signature-length",
        Flaw::DigestFunction => "document-digest",
        Flaw::RegisterNumber => "document-register",
        Flaw::LongForm => "document-cbor",
        Flaw::TooLong => "document-too-long",
        _ => return None,
    })
}

#[test]
fn each_flaw_is_refused_for_its_reason() {
    for form in Form::ALL {
        let mut pairs = BTreeSet::new();
        for &flaw in Flaw::ALL {
            let provider = Provider::new(form).with_flaw(flaw);
            if !flaw.kinds().contains(&form.kind()) {
                assert!(matches!(provider.produce(&request(form)), Err(ProduceError::Flaw { .. })));
                continue;
            }
            let request = request(form);
            let report = judge(form, &provider.produce(&request).unwrap(), &request, true);
            let expected = common(form, flaw);
            assert_eq!(failed(&report), expected.into_iter().collect::<Vec<_>>(), "{form:?} {flaw:?}");
            assert!(!report.is_accepted(), "{form:?} {flaw:?}");
            pairs.extend(expected);
        }
        println!("{form:?}: {} distinct reasons", pairs.len());
        assert!(pairs.len() >= 30, "{form:?}: {}", pairs.len());
    }
}
