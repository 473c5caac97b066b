//! Evidence of the development provider: accepted under its root, refused without, and refused with every flaw for the reason that the
//! flaw has. What hardware's evidence covers elsewhere is covered here without it.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;

use hallmark_attestation::measurement::SnpRegister;
use hallmark_attestation::simulated::{DEFAULT_SEED, Flaw, Form, Provider, roots};
use hallmark_attestation::{
    CheckId, Context, Dangers, Evidence, Kind, Measurements, Memo, Outcome, Policy, ProduceError,
    Producer as _, Register, Report, Request, anchors, show,
};
use hallmark_receipt::Digest;
use hallmark_receipt::check::Cause as _;
use hallmark_receipt::wire::to_hex;

const AT: u64 = 1_770_000_000;

/// A request that every field of the form is filled by; where there is one for both, by report data or by a nonce.
fn request(form: Form, for_nonce: bool) -> Request {
    let (report_data, nonce) = match form.kind() {
        Kind::Nitro => (vec![0xd1; 48], vec![0x5e; 32]),
        Kind::Nvidia => (Vec::new(), vec![0x5e; 32]),
        _ if for_nonce => (Vec::new(), vec![0x5e; 64]),
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
fn judge(form: Form, evidence: &Evidence, request: &Request, policy: &Policy, roots: &[Digest]) -> Report {
    let context = Context {
        nonce: (!request.nonce.is_empty()).then_some(&request.nonce[..]),
        binding: (!request.report_data.is_empty()).then_some(&request.report_data[..]),
        dangers: Dangers { accept_simulated: roots, ..Dangers::default() },
        ..Context::new(request.at, policy)
    };
    evidence.judge(form.kind(), &context)
}

/// Which code runs, as the provider's own evidence says.
fn release(form: Form) -> Measurements {
    let code = match form.kind() {
        Kind::Nitro => Register::Pcr(0),
        Kind::Tdx => Register::MrTd,
        Kind::Sgx => Register::MrEnclave,
        Kind::SevSnp => Register::Snp(SnpRegister::Measurement),
        _ => Register::Block(1),
    };
    let (policy, provider) = (Policy::genuine(), Provider::new(form));
    let roots = [provider.root().unwrap()];
    let mut context = Context::new(AT, &policy);
    context.dangers.accept_simulated = &roots;
    match provider.produce(&request(form, false)).unwrap().judge(form.kind(), &context).decision {
        hallmark_attestation::Decision::Accepted(attested) => {
            let mut measurements = attested.measurements().clone();
            measurements.retain(|register, _| *register == code);
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
    let accepted = roots(DEFAULT_SEED).unwrap();
    for form in Form::ALL {
        let (provider, policy) = (Provider::new(form), policy(form, &release(form)));
        let request = request(form, false);
        let evidence = provider.produce(&request).unwrap();
        assert_eq!(evidence, provider.produce(&request).unwrap(), "the same request, the same bytes");
        let report = judge(form, &evidence, &request, &policy, &accepted);
        assert!(report.is_accepted() && report.simulated, "{form:?}: {report:#?}");
        let report = judge(form, &evidence, &request, &policy, &[]);
        assert_eq!(failed(&report), [(CheckId::Root, "simulated-root")], "{form:?}");
        let other = Provider::new(form).with_seed([7; 32]).produce(&request).unwrap();
        let report = judge(form, &other, &request, &policy, &accepted);
        assert_eq!(failed(&report)[0], (CheckId::Root, "unknown-root"), "{form:?}");
        assert!(show(form.kind(), &evidence.evidence).is_ok(), "{form:?}");
    }
}

#[test]
fn the_named_roots_are_the_default_seeds() {
    assert_eq!(anchors::development(), roots(DEFAULT_SEED).unwrap());
}

#[test]
fn what_was_asked_for_is_what_the_evidence_says() {
    for form in Form::ALL {
        let (register, value) = release(form).into_iter().next().unwrap();
        let asked = Measurements::from([(register, vec![0xab; value.len()])]);
        let provider = Provider::new(form).with_measurements(asked.clone());
        let (request, roots) = (request(form, false), roots(DEFAULT_SEED).unwrap());
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

/// Where each flaw shows.
fn expected(form: Form, flaw: Flaw) -> Vec<Expected> {
    let chain = |code| (CheckId::Chain, code);
    let format = |code| (CheckId::Format, code);
    let list = if form.kind() == Kind::Nvidia { "revocation-response" } else { "revocation-list" };
    let is_snp = form.kind() == Kind::SevSnp;
    let is_dcap = matches!(form.kind(), Kind::Tdx | Kind::Sgx);
    let measurement = (CheckId::Measurements, "measurement");
    vec![match flaw {
        // All is another seed's.
        Flaw::OtherRoot => return vec![(CheckId::Root, "unknown-root"), measurement],
        Flaw::MarkMissing => (CheckId::Root, "unmarked"),
        Flaw::MakersRoot => return vec![(CheckId::Root, "marked"), chain("chain-signature")],
        Flaw::LeafExpired | Flaw::IssuerExpired => (CheckId::Validity, "expired"),
        Flaw::LeafNotYet | Flaw::IssuerNotYet => (CheckId::Validity, "not-yet-in-force"),
        Flaw::LeafIsAuthority => chain("leaf-is-authority"),
        Flaw::IssuerNoAuthority => chain("not-an-authority"),
        Flaw::LeafKeyUsage | Flaw::IssuerKeyUsage => chain("key-usage"),
        Flaw::PathLength => chain("path-length"),
        Flaw::IssuerName | Flaw::IssuerMissing if is_snp => chain("no-issuer"),
        // The last of three is then another certificate.
        Flaw::ChainOrder if is_dcap => return vec![(CheckId::Root, "unknown-root"), chain("chain-issuer")],
        Flaw::IssuerName | Flaw::ChainOrder | Flaw::IssuerMissing => chain("chain-issuer"),
        Flaw::CertificateSignature => chain("chain-signature"),
        Flaw::CertificateTrailing | Flaw::AlgorithmDiffers | Flaw::DuplicateExtension => chain("certificate"),
        Flaw::OtherScheme => chain("chain-scheme"),
        Flaw::UnknownCritical => chain("unknown-critical-extension"),
        Flaw::UnreadableExtension => chain("extension"),
        Flaw::ChainTooLong if is_snp => chain("too-many-certificates"),
        Flaw::ChainTooLong => chain("chain-too-long"),
        Flaw::Stranger => chain("certificate-stranger"),
        Flaw::Revoked => (CheckId::Revocation, "revoked"),
        Flaw::ListStale | Flaw::ListNotYet | Flaw::ListSigner | Flaw::ListKeyUsage | Flaw::ListTrailing => {
            (CheckId::Revocation, list)
        }
        Flaw::SwappedLeaf if is_dcap => (CheckId::QeReport, "signature"),
        Flaw::SwappedLeaf | Flaw::Signature => (CheckId::Signature, "signature"),
        // Debug mode is measured as zeros.
        Flaw::Debug if form == Form::Nitro => return vec![(CheckId::Debug, "debug"), measurement],
        Flaw::Debug => (CheckId::Debug, "debug"),
        Flaw::Nonce => (CheckId::Nonce, "nonce"),
        Flaw::Binding => (CheckId::Binding, "binding"),
        Flaw::OtherCode => measurement,
        // A VLEK's certificate names no chip.
        Flaw::Unsigned | Flaw::KeyKind if form == Form::SnpVlek => {
            return vec![snp(flaw), (CheckId::ChipId, "extensions")];
        }
        Flaw::Empty => format("encoding"),
        Flaw::FromTheFuture => (CheckId::Age, "from-the-future"),
        Flaw::Old => (CheckId::Age, "too-old"),
        _ => match form.kind() {
            Kind::Nitro => format(nitro(flaw)),
            Kind::SevSnp => snp(flaw),
            Kind::Nvidia => nvidia(flaw),
            _ => dcap(flaw),
        },
    }]
}

fn nitro(flaw: Flaw) -> &'static str {
    match flaw {
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
        _ => "",
    }
}

fn snp(flaw: Flaw) -> Expected {
    match flaw {
        Flaw::Truncated => (CheckId::Format, "report-length"),
        Flaw::Trailing => (CheckId::Format, "table-unterminated"),
        Flaw::TableBounds => (CheckId::Format, "table-bounds"),
        Flaw::TableLeftover => (CheckId::Format, "table-leftover"),
        Flaw::ReportVersion => (CheckId::Format, "report-version"),
        Flaw::HeaderAlgorithm => (CheckId::Format, "report-algorithm"),
        Flaw::SigningKey => (CheckId::Format, "report-signing-key"),
        Flaw::Reserved => (CheckId::Format, "report-reserved"),
        Flaw::PolicyBit => (CheckId::Format, "report-policy-bit-17"),
        Flaw::Unsigned => (CheckId::Key, "unsigned"),
        Flaw::KeyKind => (CheckId::Key, "key-kind"),
        Flaw::CloudMissing => (CheckId::Key, "extensions"),
        Flaw::Processor => (CheckId::Product, "processor"),
        Flaw::ProductName => (CheckId::Product, "product-name"),
        Flaw::Hierarchy => (CheckId::Product, "hierarchy"),
        Flaw::ExtensionMissing => (CheckId::CertifiedTcb, "extensions"),
        Flaw::OtherTcb => (CheckId::CertifiedTcb, "certified-tcb"),
        Flaw::TcbNewer => (CheckId::Tcb, "tcb-newer"),
        Flaw::ChipId => (CheckId::ChipId, "chip-id"),
        Flaw::Vmpl => (CheckId::Vmpl, "vmpl"),
        _ => (CheckId::GuestPolicy, "guest-policy-forbidden"),
    }
}

fn dcap(flaw: Flaw) -> Expected {
    match flaw {
        Flaw::Truncated => (CheckId::Format, "quote-truncated"),
        Flaw::Trailing => (CheckId::Format, "quote-trailing"),
        Flaw::TooLong => (CheckId::Format, "quote-too-long"),
        Flaw::ReportVersion => (CheckId::Format, "quote-version"),
        Flaw::HeaderAlgorithm => (CheckId::Format, "quote-key-type"),
        Flaw::Environment => (CheckId::Format, "quote-environment"),
        Flaw::OtherKind => (CheckId::Format, "quote-kind"),
        Flaw::Vendor => (CheckId::Format, "quote-vendor"),
        Flaw::BodyType => (CheckId::Format, "quote-body"),
        Flaw::Certification => (CheckId::Format, "quote-certification"),
        Flaw::UnknownField => (CheckId::Collateral, "collateral-json"),
        Flaw::CollateralForm => (CheckId::Collateral, "collateral-unknown"),
        Flaw::CollateralHex => (CheckId::Collateral, "collateral-hex"),
        Flaw::MissingField => (CheckId::TcbInfo, "published-form"),
        Flaw::TcbInfoSignature => (CheckId::TcbInfo, "published-signature"),
        Flaw::TcbInfoStale => (CheckId::TcbInfo, "published-stale"),
        Flaw::TcbInfoNotYet => (CheckId::TcbInfo, "published-later"),
        Flaw::TcbInfoVersion => (CheckId::TcbInfo, "published-version"),
        Flaw::TcbInfoId => (CheckId::TcbInfo, "published-id"),
        Flaw::OtherPlatform => (CheckId::TcbInfo, "other-platform"),
        Flaw::QeIdentitySignature => (CheckId::QeIdentity, "published-signature"),
        Flaw::QeIdentityStale => (CheckId::QeIdentity, "published-stale"),
        Flaw::QeIdentityNotYet => (CheckId::QeIdentity, "published-later"),
        Flaw::QeIdentityVersion => (CheckId::QeIdentity, "published-version"),
        Flaw::OtherEnclave => (CheckId::QeIdentity, "other-enclave"),
        Flaw::QeBinding => (CheckId::QeReport, "binding"),
        Flaw::OldTcb => (CheckId::Tcb, "tcb-status"),
        Flaw::TcbRevoked => (CheckId::Tcb, "tcb-revoked"),
        Flaw::NoTcbLevel => (CheckId::Tcb, "no-tcb-level"),
        Flaw::OtherModule => (CheckId::Tcb, "other-module"),
        Flaw::ReservedBits => (CheckId::Attributes, "reserved-bits"),
        Flaw::AttributeMissing => (CheckId::Attributes, "attribute-missing"),
        Flaw::AttributeRefused => (CheckId::Attributes, "attribute-refused"),
        Flaw::ServiceTd => (CheckId::ServiceTd, "service-td"),
        _ => (CheckId::Platform, "platform-extension"),
    }
}

fn nvidia(flaw: Flaw) -> Expected {
    match flaw {
        Flaw::Truncated => (CheckId::Format, "report-truncated"),
        Flaw::Trailing => (CheckId::Format, "report-trailing"),
        Flaw::TooLong => (CheckId::Format, "report-too-long"),
        Flaw::ReportVersion => (CheckId::Format, "report-version"),
        Flaw::MessageCode => (CheckId::Format, "report-code"),
        Flaw::Parameter => (CheckId::Format, "report-parameter"),
        Flaw::NoBlocks => (CheckId::Format, "report-no-blocks"),
        Flaw::DuplicateBlock => (CheckId::Format, "report-order"),
        Flaw::Specification => (CheckId::Format, "report-specification"),
        Flaw::BlockSize => (CheckId::Format, "report-size"),
        Flaw::DigestLength => (CheckId::Format, "report-digest"),
        Flaw::DuplicateField => (CheckId::Format, "report-opaque"),
        Flaw::FirmwareId => (CheckId::FirmwareId, "firmware-id"),
        Flaw::FirmwareExtension => (CheckId::FirmwareId, "firmware-extension"),
        Flaw::RimRoot => (CheckId::Rim, "unknown-root"),
        Flaw::RimMarkMissing => (CheckId::Rim, "unmarked"),
        Flaw::RimExpired => (CheckId::Rim, "expired"),
        Flaw::RimRevoked => (CheckId::Rim, "revoked"),
        Flaw::RimSignature => (CheckId::Rim, "rim-signature"),
        Flaw::RimDigest => (CheckId::Rim, "rim-digest"),
        Flaw::RimAlgorithm | Flaw::RimTransform => (CheckId::Rim, "rim-algorithm"),
        Flaw::RimReference => (CheckId::Rim, "rim-reference"),
        Flaw::RimWrapped => (CheckId::Rim, "rim-form"),
        Flaw::RimTwice => (CheckId::Rim, "rim-signatures"),
        Flaw::RimComment | Flaw::RimTrailing => (CheckId::Rim, "rim-xml"),
        Flaw::RimVersion => (CheckId::Rim, "rim-version"),
        Flaw::RimResource => (CheckId::Rim, "rim-resource"),
        Flaw::RimValue => (CheckId::Rim, "rim-measurement"),
        Flaw::RimNoBlock => (CheckId::Rim, "rim-no-block"),
        Flaw::RimDuplicate => (CheckId::Rim, "rim-duplicate"),
        Flaw::RimCollision => (CheckId::Rim, "rim-collision"),
        Flaw::RimEmpty => (CheckId::Rim, "rim-empty"),
        _ => (CheckId::Serials, "same-serial"),
    }
}

#[test]
fn each_flaw_is_refused_for_its_reason() {
    let (mut wrong, roots) = (Vec::new(), roots(DEFAULT_SEED).unwrap());
    for form in Form::ALL {
        let policy = policy(form, &release(form));
        let (mut pairs, mut flaws) = (BTreeSet::new(), 0);
        for &flaw in Flaw::ALL {
            let provider = Provider::new(form).with_flaw(flaw);
            let request = request(form, flaw == Flaw::Nonce);
            if !flaw.forms().contains(&form) {
                assert!(matches!(provider.produce(&request), Err(ProduceError::Flaw { .. })));
                continue;
            }
            let report = judge(form, &provider.produce(&request).unwrap(), &request, &policy, &roots);
            let expected = expected(form, flaw);
            let found = failed(&report);
            if found != expected || report.is_accepted() {
                wrong.push(format!("{form:?} {flaw:?}: {found:?}, expected {expected:?}"));
            }
            pairs.extend(expected);
            flaws += 1;
        }
        println!("{form:?}: {flaws} flaws, {} distinct reasons", pairs.len());
        assert!(pairs.len() >= 30, "{form:?}: {}", pairs.len());
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What a device's evidence with reference manifests comes to under a policy that requires these rows; of its collateral, what `keep` says.
fn with_manifests(require: &str, roots: &[Digest], keep: impl Fn(&[u8]) -> bool) -> Report {
    let request = request(Form::Nvidia, false);
    let provider = Provider::new(Form::Nvidia).with_reference_manifests();
    let mut evidence = provider.produce(&request).unwrap();
    evidence.collateral.retain(|file| keep(file));
    let policy = Policy::parse(&format!("name = 'rim'\n[nvidia]\nrequire = [{require}]")).unwrap();
    judge(Form::Nvidia, &evidence, &request, &policy, roots)
}

#[test]
fn measurements_are_compared_with_reference_manifests() {
    let roots = roots(DEFAULT_SEED).unwrap();
    let is_about = |file: &[u8], version: &str| {
        let text = String::from_utf8_lossy(file);
        text.contains(&format!("colloquialVersion=\"{version}\""))
    };
    let is_manifest = |file: &[u8]| file.starts_with(b"<");
    let why = |report: &Report| match &report.check(CheckId::Rim).unwrap().outcome {
        Outcome::NotChecked(why) => why.to_string(),
        outcome => panic!("{outcome:?}"),
    };
    let report = with_manifests("'rim', 'revocation'", &roots, |_| true);
    assert!(report.is_accepted() && report.simulated, "{report:#?}");
    let passed = format!("{:?}", report.check(CheckId::Rim).unwrap());
    assert!(
        passed.contains("33 measurements as published for driver 550.90 and VBIOS 96.00.74.00.11"),
        "{passed}"
    );
    // Not all of them, or none: whoever requires the row does not accept.
    for (missing, version) in [("driver 550.90", "550.90"), ("VBIOS 96.00.74.00.11", "96.00.74.00.11")] {
        let report = with_manifests("'rim'", &roots, |file| !is_about(file, version));
        assert_eq!(why(&report), format!("no RIM of {missing} was given"));
        assert_eq!(report.exit_code(), 3);
        assert!(with_manifests("", &roots, |file| !is_about(file, version)).is_accepted());
    }
    assert_eq!(why(&with_manifests("", &roots, |file| !is_manifest(file))), "no RIM was given");
    // Nobody says whether their signers are revoked: it counts for who asks about revocation.
    let device = Provider::new(Form::Nvidia).produce(&request(Form::Nvidia, false)).unwrap();
    let known = |file: &[u8]| is_manifest(file) || device.collateral.iter().any(|known| known == file);
    assert!(with_manifests("'rim'", &roots, known).is_accepted());
    let report = with_manifests("'rim', 'revocation'", &roots, known);
    assert_eq!(report.exit_code(), 3);
    assert!(why(&report).contains("signers are revoked"));
    // A root for devices is none for manifests.
    let own = [Provider::new(Form::Nvidia).root().unwrap()];
    assert_eq!(failed(&with_manifests("", &own, |_| true)), [(CheckId::Rim, "simulated-root")]);
}

#[test]
fn a_memo_changes_no_report() {
    let (policy, roots, memo) = (Policy::genuine(), roots(DEFAULT_SEED).unwrap(), Memo::default());
    let mut context = Context::new(AT, &policy);
    context.dangers.accept_simulated = &roots;
    let known = Context { memo: Some(&memo), ..context };
    for form in Form::ALL {
        let request = request(form, false);
        let flaws = Flaw::ALL.iter().filter(|flaw| flaw.forms().contains(&form));
        let broken = flaws.map(|flaw| Provider::new(form).with_flaw(*flaw));
        // The good one first, so that all of its signatures are known when the others come.
        for provider in std::iter::once(Provider::new(form)).chain(broken) {
            let evidence = provider.produce(&request).unwrap();
            let report = evidence.judge(form.kind(), &context);
            for _ in 0..2 {
                assert_eq!(evidence.judge(form.kind(), &known), report, "{provider:?}");
            }
            // Who pins no development root does not take one for being known.
            let other = Context { dangers: Dangers::default(), ..known };
            assert!(!evidence.judge(form.kind(), &other).is_accepted());
        }
    }
}
