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
