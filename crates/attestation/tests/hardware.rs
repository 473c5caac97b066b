//! Evidence from real hardware: each piece gets its verdict, at its time, under its policy.
#![allow(clippy::unwrap_used, clippy::panic)]

mod vectors;

use std::path::{Path, PathBuf};

use hallmark_attestation::crypto::Scheme;
use hallmark_attestation::dcap::{EventLog, Quote};
use hallmark_attestation::x509::{Chain, Rules};
use hallmark_attestation::{
    CheckId, Context, Decision, Input, Kind, Policy, Report, anchors, encoding, verify,
};
use hallmark_receipt::check::Cause as _;
use vectors::{Files, Vector};

/// Genuine evidence under `genuine`, alone.
const NITRO: Vector = Vector {
    kind: Kind::Nitro,
    evidence: "nitro/og-evm-attestation_doc.bin",
    certificates: &[],
    collateral: &[],
    at: 1_770_918_962,
    policy: "",
};
const SNP: Vector = Vector {
    kind: Kind::SevSnp,
    evidence: "sev-snp/trustee/test-report.bin",
    certificates: &["sev-snp/trustee/test-vcek.der"],
    at: 1_735_689_600,
    ..NITRO
};
const VLEK: Vector = Vector {
    evidence: "sev-snp/trustee/test-vlek-report.bin",
    certificates: &["sev-snp/trustee/test-vlek.der"],
    policy: "[sev-snp]\nvmpl = [0, 1]",
    ..SNP
};

/// Evidence, and what fails: nothing where it is accepted.
const CASES: &[(Vector, &[(CheckId, &str)])] = &[
    (NITRO, &[]),
    (Vector { at: 1_770_929_800, ..NITRO }, &[(CheckId::Validity, "expired")]),
    (
        Vector { evidence: "nitro/evervault/beta/valid-attestation-doc-bytes", at: 1_665_651_482, ..NITRO },
        &[],
    ),
    (
        Vector {
            evidence: "nitro/evervault/beta/debug-mode-attestation-doc-bytes",
            at: 1_665_582_606,
            ..NITRO
        },
        &[(CheckId::Debug, "debug")],
    ),
    (
        Vector { evidence: "nitro/evervault/valid-attestation-doc-base64", at: 1_695_049_410, ..NITRO },
        &[(CheckId::Debug, "debug")],
    ),
    (
        Vector { evidence: "nitro/forged/attacker-root-in-cabundle.cose", ..NITRO },
        &[(CheckId::Chain, "chain-issuer")],
    ),
    (
        Vector {
            evidence: "sev-snp/virtee-sev/report_milan.hex",
            certificates: &["sev-snp/virtee-sev/vcek_milan.der"],
            at: 1_704_067_200,
            ..SNP
        },
        &[],
    ),
    // Authorities may come along.
    (
        Vector {
            evidence: "sev-snp/virtee-sev/report_milan.hex",
            certificates: &["sev-snp/virtee-sev/cert_chain_milan", "sev-snp/virtee-sev/vcek_milan.der"],
            at: 1_704_067_200,
            ..SNP
        },
        &[],
    ),
    (SNP, &[]),
    (
        Vector { certificates: &["sev-snp/trustee/test-vcek-invalid-new.der"], ..SNP },
        &[(CheckId::Chain, "chain-signature")],
    ),
    (
        Vector { certificates: &["sev-snp/trustee/test-vcek-invalid-legacy.der"], ..SNP },
        &[(CheckId::Chain, "chain-signature")],
    ),
    // Another chip's certificate.
    (
        Vector { certificates: &["sev-snp/virtee-sev/vcek_milan.der"], ..SNP },
        &[(CheckId::Signature, "signature"), (CheckId::ChipId, "chip-id")],
    ),
    // Another kind of key's.
    (
        Vector { certificates: VLEK.certificates, ..SNP },
        &[
            (CheckId::Signature, "signature"),
            (CheckId::Key, "key-kind"),
            (CheckId::CertifiedTcb, "certified-tcb"),
            (CheckId::ChipId, "extensions"),
        ],
    ),
    (VLEK, &[]),
    (Vector { policy: "", ..VLEK }, &[(CheckId::Vmpl, "vmpl")]),
    (Vector { at: 1_767_225_600, ..VLEK }, &[(CheckId::Validity, "expired")]),
    (
        Vector {
            certificates: &["sev-snp/trustee/test-vlek.der", "sev-snp/go-sev-guest/milanvlek.testcer"],
            ..VLEK
        },
        &[],
    ),
    (
        Vector { policy: "[sev-snp]\nvmpl = [1]\nkeys = [\"vcek\"]", ..VLEK },
        &[(CheckId::Key, "key-forbidden")],
    ),
    (
        Vector { policy: "[sev-snp]\nvmpl = [1]\nvlek_providers = [\"CN=example.com\"]", ..VLEK },
        &[(CheckId::Key, "provider")],
    ),
    (
        Vector {
            policy: "[sev-snp]\nvmpl = [1]\nvlek_providers = [\"CN=cc-us-east-2.amazonaws.com\"]\n\
                     require_platform = [\"alias-check\", \"ecc\", \"tsme\"]\nminimum_firmware = [1, 55, 29]\n\
                     minimum_tcb.milan = { bootloader = 4, snp = 24, microcode = 217 }",
            ..VLEK
        },
        &[],
    ),
    (
        Vector {
            policy: "[sev-snp]\nvmpl = [1]\nproducts = [\"genoa\"]\nminimum_tcb.genoa = { snp = 1 }\n\
                     require_guest_policy = [\"single-socket\"]\nforbid_platform = [\"smt\"]",
            ..VLEK
        },
        &[
            (CheckId::Tcb, "tcb-no-minimum"),
            (CheckId::Platform, "platform-forbidden"),
            (CheckId::Product, "product-forbidden"),
            (CheckId::GuestPolicy, "guest-policy-lacks"),
        ],
    ),
    (
        Vector {
            policy: "[sev-snp]\nvmpl = [1]\nminimum_tcb.milan = { microcode = 218 }\n\
                     forbid_guest_policy = [\"smt\"]\nrequire_platform = [\"tio\"]\nrequire_author_key = true",
            ..VLEK
        },
        &[
            (CheckId::Tcb, "tcb-below"),
            (CheckId::Platform, "platform-lacks"),
            (CheckId::Key, "no-author-key"),
            (CheckId::GuestPolicy, "guest-policy-forbidden"),
        ],
    ),
    (
        Vector {
            evidence: "sev-snp/go-sev-guest/attestation.bin",
            certificates: &["sev-snp/go-sev-guest/vcek.testcer"],
            at: 1_704_067_200,
            ..SNP
        },
        &[(CheckId::Debug, "debug")],
    ),
];

fn shown(report: &Report) -> String {
    report
        .checks
        .iter()
        .map(|check| format!("{:<16}{:?} {:?}\n", check.title, check.outcome, check.got))
        .collect()
}

#[test]
fn every_piece_gets_its_verdict() {
    for (vector, failed) in CASES {
        let Some(files) = vector.read() else { return };
        let report = vector.judge(&files, &vector.policy());
        let found: Vec<_> = report.reasons().map(|(id, reason)| (id, reason.code())).collect();
        println!("{vector:?}\n{}", shown(&report));
        assert_eq!(found, *failed, "{vector:?}");
        assert_eq!(report.is_accepted(), failed.is_empty(), "{vector:?}");
    }
}

/// AMD's Turin certificates, of which no report is at hand.
#[test]
fn a_turin_certificate_ends_in_its_root() {
    let Some(folder) = vectors::folder() else { return };
    let read = |name: &str| std::fs::read(folder.join("sev-snp/virtee-sev").join(name)).unwrap();
    let files = [read("vcek_turin.der"), read("cert_chain_turin")];
    let ders = encoding::items(&[&files[0], &files[1]]).unwrap();
    let rules = Rules { longest: 3, schemes: &[Scheme::RsaPss384], known: &[] };
    let chain = Chain::parse(ders.iter().map(Vec::as_slice), &rules).unwrap();
    chain.verify(&rules, None).unwrap();
    chain.verify_validity(1_735_689_600).unwrap();
    let root = anchors::find(Kind::SevSnp, chain.root().der, &[]).unwrap();
    assert_eq!(root.name, "AMD ARK Turin");
}

/// A certificate table (AMD 56421 §4.1.8.1) of these GUIDs and items.
fn table(items: &[(u128, &[u8])]) -> Vec<u8> {
    let mut offset = (items.len() + 1) * 24;
    let mut table = Vec::new();
    for (guid, item) in items {
        table.extend(guid.to_be_bytes());
        table.extend(u32::try_from(offset).unwrap().to_le_bytes());
        table.extend(u32::try_from(item.len()).unwrap().to_le_bytes());
        offset += item.len();
    }
    table.extend([0; 24]);
    items.iter().for_each(|(_, item)| table.extend(*item));
    table
}

#[test]
fn an_extended_report_brings_its_certificates() {
    const VCEK: u128 = 0x63da758d_e664_4564_adc5_f4b93be8accd;
    const ARK: u128 = 0xc0b406a4_a803_4952_9743_3fb6014cd0ae;
    let Some(files) = SNP.read() else { return };
    let table = table(&[
        (VCEK, &files.certificates[0]),
        (ARK, include_bytes!("../src/roots/milan-ark.der")),
        (1, b"a host's own"),
    ]);
    let behind =
        Files { evidence: [&files.evidence[..], &table].concat(), certificates: Vec::new(), ..files.clone() };
    let beside = Files { certificates: vec![table], ..files.clone() };
    let none = Files { certificates: Vec::new(), ..files.clone() };
    let stranger =
        Files { certificates: [&files.certificates[..], &[b"0\x03\x02\x01\x01".to_vec()]].concat(), ..files };
    for (files, decision) in [(behind, 0), (beside, 0), (none, 3), (stranger, 1)] {
        let report = SNP.judge(&files, &SNP.policy());
        assert_eq!(report.exit_code(), decision, "{}", shown(&report));
    }
}

#[test]
fn report_data_holds_the_nonce_or_the_binding() {
    let Some(files) = VLEK.read() else { return };
    let data = &files.evidence[0x50..0x90];
    let policy = VLEK.policy();
    let certificates = [files.certificates[0].as_slice()];
    let input = Input { certificates: &certificates, ..Input::of(&files.evidence) };
    for (nonce, binding, failed) in [
        (Some(data), Some(data), None),
        (Some(&data[..63]), None, Some(CheckId::Nonce)),
        (Some(&[][..]), None, Some(CheckId::Nonce)),
        (None, Some(&data[..63]), Some(CheckId::Binding)),
    ] {
        let context = Context { nonce, binding, ..Context::new(VLEK.at, &policy) };
        let report = verify(Kind::SevSnp, &input, &context);
        assert_eq!(report.reasons().map(|(id, _)| id).next(), failed, "{}", shown(&report));
    }
}

/// A case: evidence, the file or folder of collateral, time, policy (without one, `genuine`), and the checks that fail, with their codes.
type Case = (Kind, &'static str, &'static str, u64, &'static str, &'static [(CheckId, &'static str)]);

const SERVED: &str = "name = 'served'\n[tdx]\nallow_service_td = true";
const CONFIGURED: &str = "name = 'configured'\n[sgx.tcb]\nallow = ['ConfigurationAndSWHardeningNeeded']";

const QUOTES: &[Case] = &[
    (Kind::Tdx, "tdx/dcap-qvl/tdx_quote", "tdx/dcap-qvl/tdx_quote_collateral.json", 1_750_329_200, "", &[]),
    (
        Kind::Tdx,
        "tdx/dcap-qvl/tdx_quote",
        "tdx/dcap-qvl/tdx_quote_collateral.json",
        1_755_600_000,
        "",
        &[
            (CheckId::Revocation, "revocation-list"),
            (CheckId::QeIdentity, "published-stale"),
            (CheckId::TcbInfo, "published-stale"),
        ],
    ),
    (
        Kind::Tdx,
        "tdx/dcap-qvl/tdx_quote_td15ex",
        "tdx/dcap-qvl/tdx_quote_td15ex_collateral.json",
        1_791_419_400,
        "",
        &[(CheckId::ServiceTd, "service-td")],
    ),
    (
        Kind::Tdx,
        "tdx/dcap-qvl/tdx_quote_td15ex",
        "tdx/dcap-qvl/tdx_quote_td15ex_collateral.json",
        1_791_419_400,
        SERVED,
        &[],
    ),
    (
        Kind::Tdx,
        "tdx/dcap-qvl/tdx_quote_outdated",
        "tdx/dcap-qvl/tdx_quote_outdated_collateral.json",
        1_771_498_731,
        "",
        &[(CheckId::Tcb, "no-tcb-level")],
    ),
    (
        Kind::Tdx,
        "tdx/trustee/tdx_quote_4.dat",
        "tdx/composed/trustee-tdx_quote_4-DEBUG.collateral.json",
        1_773_786_090,
        "",
        &[(CheckId::Debug, "debug"), (CheckId::Tcb, "tcb-status")],
    ),
    // The answers of Intel's service one by one, of two kinds of platform.
    (
        Kind::Tdx,
        "tdx/trustee/tdx_quote_4.dat",
        "tdx/attestation-rs/collateral",
        1_773_786_090,
        "",
        &[(CheckId::Debug, "debug"), (CheckId::Tcb, "tcb-status")],
    ),
    (
        Kind::Tdx,
        "tdx/trustee/tdx_quote_5.dat",
        "tdx/composed/trustee-tdx_quote_5.collateral.json",
        1_773_785_169,
        "",
        &[(CheckId::Tcb, "no-tcb-level"), (CheckId::ServiceTd, "service-td")],
    ),
    // A chain of samples: DER where quotes have PEM, under a root that is not Intel's.
    (
        Kind::Tdx,
        "tdx/intel-qvl-sample/quote.dat",
        "tdx/intel-qvl-sample",
        1_700_000_000,
        "",
        &[
            (CheckId::Root, "unknown-root"),
            (CheckId::Chain, "encoding"),
            (CheckId::QeIdentity, "other-enclave"),
            (CheckId::Attributes, "attribute-missing"),
        ],
    ),
    (
        Kind::Sgx,
        "sgx/dcap-qvl/sgx_quote",
        "sgx/dcap-qvl/sgx_quote_collateral.json",
        1_750_330_600,
        CONFIGURED,
        &[],
    ),
    (
        Kind::Sgx,
        "sgx/dcap-qvl/sgx_quote",
        "sgx/dcap-qvl/sgx_quote_collateral.json",
        1_750_330_600,
        "",
        &[(CheckId::Tcb, "tcb-status")],
    ),
    (Kind::Sgx, "sgx/trustee/occlum_quote.dat", "", 1_700_000_000, "", &[(CheckId::Debug, "debug")]),
    (
        Kind::Sgx,
        "sgx/intel-qvl-sample/quote.dat",
        "sgx/intel-qvl-sample",
        1_700_000_000,
        "",
        &[(CheckId::Format, "quote-certification")],
    ),
    // A quote of the other kind.
    (Kind::Sgx, "tdx/dcap-qvl/tdx_quote", "", 1_750_329_200, "", &[(CheckId::Format, "quote-kind")]),
];

/// The file at `path`, or those of a folder; nothing at the folder of all.
fn files(folder: &Path, path: &str) -> Vec<Vec<u8>> {
    let at = folder.join(path);
    let paths = match at.is_dir() {
        _ if path.is_empty() => Vec::new(),
        true => std::fs::read_dir(at).unwrap().map(|entry| entry.unwrap().path()).collect(),
        false => vec![at],
    };
    let is_quote = |path: &PathBuf| path.file_name().is_some_and(|name| name == "quote.dat");
    paths.iter().filter(|path| !is_quote(path)).map(|path| std::fs::read(path).unwrap()).collect()
}

#[test]
fn quotes() {
    let Some(folder) = vectors::folder() else { return };
    for (kind, file, with, at, policy, failed) in QUOTES {
        let policy = if policy.is_empty() { Policy::genuine() } else { Policy::parse(policy).unwrap() };
        let evidence = std::fs::read(folder.join(file)).unwrap();
        let collateral = files(&folder, with);
        let collateral: Vec<&[u8]> = collateral.iter().map(Vec::as_slice).collect();
        let input = Input { evidence: &evidence, collateral: &collateral, ..Input::default() };
        let report = verify(*kind, &input, &Context::new(*at, &policy));
        let found: Vec<_> = report.reasons().map(|(id, reason)| (id, reason.code())).collect();
        println!("{file}\n{}", shown(&report));
        assert_eq!(found, *failed, "{file}");
        assert_eq!(report.is_accepted(), failed.is_empty(), "{file}");
    }
}

#[test]
fn quotes_without_collateral_are_undecided() {
    let Some(folder) = vectors::folder() else { return };
    let policy = Policy::genuine();
    for file in [
        "tdx/dcap-qvl/quote-from-tappd.hex",
        "tdx/dcap-qvl/tdx-quote.hex",
        "tdx/dcap-qvl/tdx_quote",
        "tdx/trustee/tdx_quote_6.dat",
        "tdx/go-tdx-guest/ccel/cos-113-tdx-quote.dat",
    ] {
        let evidence = std::fs::read(folder.join(file)).unwrap();
        let report = verify(Kind::Tdx, &Input::of(&evidence), &Context::new(1_750_329_200, &policy));
        println!("{file}\n{}", shown(&report));
        let missing = vec![CheckId::Collateral, CheckId::QeIdentity, CheckId::TcbInfo, CheckId::Tcb];
        assert_eq!(report.decision, Decision::Undecided(missing), "{file}");
    }
}

#[test]
fn event_logs() {
    let Some(folder) = vectors::folder() else { return };
    let read = |file: &str| std::fs::read(folder.join(file)).unwrap();
    let evidence = read("tdx/go-tdx-guest/ccel/cos-113-tdx-quote.dat");
    let (policy, nonce) = (Policy::genuine(), read("tdx/go-tdx-guest/ccel/nonce.dat"));
    let context = Context { nonce: Some(&nonce), ..Context::new(1_750_329_200, &policy) };
    for (file, code) in [
        ("tdx/go-tdx-guest/ccel/ccel_data.dat", None),
        ("tdx/trustee/CCEL_data", Some("event-log-replay")),
        ("tdx/trustee/CCEL_data_ovmf", Some("event-log-replay")),
        ("tdx/go-tdx-guest/ccel/ccel_table.dat", Some("event-log-truncated")),
    ] {
        let log = read(file);
        let input = Input { event_log: Some(&log), ..Input::of(&evidence) };
        let report = verify(Kind::Tdx, &input, &context);
        println!("{file}\n{}", shown(&report));
        let found: Vec<_> = report.reasons().map(|(id, reason)| (id, reason.code())).collect();
        assert_eq!(
            found,
            code.map(|code| (CheckId::EventLog, code)).into_iter().collect::<Vec<_>>(),
            "{file}"
        );
        assert_eq!(report.check(CheckId::EventLog).unwrap().has_passed(), code.is_none(), "{file}");
        assert!(report.check(CheckId::Nonce).unwrap().has_passed());
    }
    // An event less, and it is another history; a digest changed, too.
    let log = read("tdx/go-tdx-guest/ccel/ccel_data.dat");
    let log = EventLog::parse(&log).unwrap();
    let quote = Quote::parse(&evidence).unwrap();
    let rtmr0 = quote.fields()["body"].clone();
    let mut less = log.clone();
    less.events.remove(0);
    assert_ne!(less.replay(), log.replay());
    assert_eq!(log.fields()["rtmr0"], hallmark_receipt::wire::as_object(rtmr0, "body").unwrap()["rtmr0"]);
}
/// One NVIDIA case: evidence, certificates, rows that the policy requires, rows that fail with their reasons.
type NvidiaCase<'a> = (&'a str, Option<&'a str>, &'a str, &'a [(CheckId, &'a str)]);

#[test]
fn nvidia() {
    let Some(folder) = vectors::folder() else { return };
    let folder = folder.join("nvidia-gpu");
    let cases: &[NvidiaCase<'_>] = &[
        ("attestation-sdk/hopper_evidence.json", None, "", &[]),
        ("attestation-sdk/switch_evidence_ls10.json", None, "", &[]),
        ("attestation-sdk/hopper_evidence_cert_hold.json", None, "revocation", &[]),
        ("attestation-sdk/hopper_evidence_cert_hold.json", None, "", &[]),
        ("trustee/hopperAttestationReport.txt", Some("trustee/hopper_cert_chain_case1.txt"), "", &[]),
        (
            "trustee/hopperAttestationReport.txt",
            Some("trustee/hopper_cert_chain_case2.txt"),
            "",
            &[(CheckId::Chain, "chain-too-short")],
        ),
        (
            "trustee/hopperAttestationReport.txt",
            Some("trustee/hopper_cert_chain_case3.txt"),
            "",
            &[(CheckId::Chain, "chain-issuer")],
        ),
        (
            "trustee/hopperAttestationReport.txt",
            Some("trustee/hopper_cert_chain_case4.txt"),
            "",
            &[(CheckId::Chain, "leaf-is-authority")],
        ),
        (
            "trustee/hopper_coco_report1.txt",
            Some("trustee/hopper_coco_certs1.txt"),
            "",
            &[(CheckId::Format, "report-trailing")],
        ),
    ];
    for (file, certificates, require, failed) in cases {
        let evidence = std::fs::read(folder.join(file)).unwrap();
        let certificates = certificates.map(|file| std::fs::read(folder.join(file)).unwrap());
        let certificates: Vec<&[u8]> = certificates.iter().map(Vec::as_slice).collect();
        let input = Input { certificates: &certificates, ..Input::of(&evidence) };
        let mut policy = Policy::genuine();
        policy.nvidia.require = CheckId::from_name(require).into_iter().collect();
        let report = verify(Kind::Nvidia, &input, &Context::new(1_767_225_600, &policy));
        let found: Vec<_> = report.reasons().map(|(id, reason)| (id, reason.code())).collect();
        println!("{file}\n{}", shown(&report));
        assert_eq!(&found, failed, "{file}");
        match &report.decision {
            Decision::Accepted(_) => assert!(failed.is_empty() && require.is_empty(), "{file}"),
            Decision::Rejected => assert!(!failed.is_empty(), "{file}"),
            Decision::Undecided(missing) => assert_eq!(missing, &policy.nvidia.require, "{file}"),
        }
        let revocation = report.check(CheckId::Revocation).map(|check| check.has_passed());
        assert!(revocation != Some(true), "{file}: no list was given");
    }
}
