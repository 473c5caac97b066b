//! No bit of accepted NVIDIA evidence may change: each bit of the report and of every certificate is flipped, and the result refused.
//! A sample of the bits by default; all of them with `HALLMARK_MUTANTS=all`.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::thread;

use hallmark_attestation::{Context, Input, Kind, Policy, nvidia, verify};

const AT: u64 = 1_767_225_600;

/// Evidence, and the certificates where they are a file of their own.
const VECTORS: &[(&str, Option<&str>)] = &[
    ("attestation-sdk/hopper_evidence.json", None),
    ("attestation-sdk/hopper_evidence_cert_hold.json", None),
    ("attestation-sdk/switch_evidence_ls10.json", None),
    ("trustee/hopperAttestationReport.txt", Some("trustee/hopper_cert_chain_case1.txt")),
];

/// The report, then the certificates: what is judged once every wrapper is off.
fn parts(folder: &std::path::Path, evidence: &str, certificates: Option<&str>) -> Vec<Vec<u8>> {
    let evidence = std::fs::read(folder.join(evidence)).unwrap();
    let certificates = certificates.map(|file| std::fs::read(folder.join(file)).unwrap());
    let certificates: Vec<&[u8]> = certificates.iter().map(Vec::as_slice).collect();
    let input = Input { certificates: &certificates, ..Input::of(&evidence) };
    let device = nvidia::devices(&input).unwrap().remove(0);
    std::iter::once(device.report).chain(device.certificates).collect()
}

fn is_accepted(parts: &[Vec<u8>]) -> bool {
    let policy = Policy::genuine();
    let certificates: Vec<&[u8]> = parts[1..].iter().map(Vec::as_slice).collect();
    let input = Input { certificates: &certificates, ..Input::of(&parts[0]) };
    verify(Kind::Nvidia, &input, &Context::new(AT, &policy)).is_accepted()
}

/// The flips that were accepted among every `step`th bit from `first`, and how many were tried.
fn flip(mut parts: Vec<Vec<u8>>, first: usize, step: usize) -> (Vec<(usize, usize)>, usize) {
    let (mut accepted, mut tried) = (Vec::new(), 0);
    for part in 0..parts.len() {
        for bit in (first..parts[part].len() * 8).step_by(step) {
            parts[part][bit / 8] ^= 1 << (bit % 8);
            if is_accepted(&parts) {
                accepted.push((part, bit));
            }
            parts[part][bit / 8] ^= 1 << (bit % 8);
            tried += 1;
        }
    }
    (accepted, tried)
}

#[test]
fn no_bit_may_change() {
    let folder =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/attestation-vectors/nvidia-gpu");
    if !folder.is_dir() {
        println!("skipped: {} is not present", folder.display());
        return;
    }
    let step = if std::env::var("HALLMARK_MUTANTS").is_ok_and(|which| which == "all") { 1 } else { 61 };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    for (evidence, certificates) in VECTORS {
        let parts = parts(&folder, evidence, *certificates);
        assert!(is_accepted(&parts), "{evidence}");
        let found: Vec<_> = thread::scope(|scope| {
            let run = |first| {
                let parts = parts.clone();
                scope.spawn(move || flip(parts, first * step, threads * step))
            };
            let running: Vec<_> = (0..threads).map(run).collect();
            running.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let tried: usize = found.iter().map(|(_, tried)| tried).sum();
        let accepted: Vec<_> = found.into_iter().flat_map(|(accepted, _)| accepted).collect();
        println!("{evidence}: {tried} mutants, {} accepted", accepted.len());
        assert_eq!(accepted, [], "{evidence}: (part, bit)");
    }
}
