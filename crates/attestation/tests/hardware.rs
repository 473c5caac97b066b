//! Evidence from real hardware, one row of `cases.tsv` a case: each gets its verdict, at its time, under its policy.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::PathBuf;

use hallmark_attestation::{CheckId, Context, Decision, Input, Kind, Policy, Report, verify};
use hallmark_receipt::check::Cause as _;

/// Where evidence from hardware lies, beside the repository; none is part of it.
fn vectors() -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/attestation-vectors");
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: {} is not present", folder.display());
    None
}

fn shown(report: &Report) -> String {
    report
        .checks
        .iter()
        .map(|check| format!("{:<16}{:?} {:?}\n", check.title, check.outcome, check.got))
        .collect()
}

#[test]
fn nitro() {
    let Some(folder) = vectors() else { return };
    let policy = Policy::genuine();
    for (file, at, failed) in [
        ("nitro/og-evm-attestation_doc.bin", 1_770_918_962, None),
        ("nitro/og-evm-attestation_doc.bin", 1_770_929_800, Some((CheckId::Validity, "expired"))),
        ("nitro/evervault/beta/valid-attestation-doc-bytes", 1_665_651_482, None),
        (
            "nitro/evervault/beta/debug-mode-attestation-doc-bytes",
            1_665_582_606,
            Some((CheckId::Debug, "debug")),
        ),
        ("nitro/evervault/valid-attestation-doc-base64", 1_695_049_410, Some((CheckId::Debug, "debug"))),
        (
            "nitro/forged/attacker-root-in-cabundle.cose",
            1_770_918_962,
            Some((CheckId::Chain, "chain-issuer")),
        ),
    ] {
        let evidence = std::fs::read(folder.join(file)).unwrap();
        let report = verify(Kind::Nitro, &Input::of(&evidence), &Context::new(at, &policy));
        let found: Vec<_> = report.reasons().map(|(id, reason)| (id, reason.code())).collect();
        println!("{file}\n{}", shown(&report));
        assert_eq!(found, failed.into_iter().collect::<Vec<_>>(), "{file}");
        assert_eq!(matches!(report.decision, Decision::Accepted(_)), failed.is_none(), "{file}");
    }
}

/// One NVIDIA case: evidence, certificates, rows that the policy requires, rows that fail with their reasons.
type NvidiaCase<'a> = (&'a str, Option<&'a str>, &'a str, &'a [(CheckId, &'a str)]);

#[test]
fn nvidia() {
    let Some(folder) = vectors() else { return };
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
