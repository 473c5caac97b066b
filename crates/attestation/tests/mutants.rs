//! No single bit of accepted evidence, or of what belongs to it, can be changed: every mutant is refused, but for bytes that the
//! format leaves free, which `attestation.md` §9 lists.
//!
//! By default a sample of the bits is tried; all of them with `HALLMARK_MUTANTS=all`, as `./x mutants` does.
#![allow(clippy::unwrap_used, clippy::panic)]

mod vectors;

use std::num::NonZero;
use std::ops::Range;
use std::thread;

use hallmark_attestation::{Kind, encoding};
use vectors::{Files, Vector};

/// Accepted evidence.
struct Row {
    vector: Vector,
    /// Bytes that may be changed, by the part they are in, and where §9 says so.
    free: &'static [(Part, Range<usize>, &'static str)],
}

/// One of the files, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Evidence,
    Certificate(usize),
    Collateral(usize),
}

const NITRO: Vector = Vector {
    kind: Kind::Nitro,
    evidence: "nitro/og-evm-attestation_doc.bin",
    certificates: &[],
    collateral: &[],
    at: 1_770_918_962,
    policy: "",
};
const SNP: Vector = Vector { kind: Kind::SevSnp, at: 1_735_689_600, ..NITRO };

const ROWS: &[Row] = &[
    Row {
        vector: Vector {
            evidence: "sev-snp/virtee-sev/report_milan.hex",
            certificates: &["sev-snp/virtee-sev/vcek_milan.der", "sev-snp/virtee-sev/cert_chain_milan"],
            ..SNP
        },
        free: &[],
    },
    Row {
        vector: Vector {
            evidence: "sev-snp/trustee/test-report.bin",
            certificates: &["sev-snp/trustee/test-vcek.der"],
            ..SNP
        },
        free: &[],
    },
    Row {
        vector: Vector {
            evidence: "sev-snp/trustee/test-vlek-report.bin",
            certificates: &["sev-snp/trustee/test-vlek.der", "sev-snp/go-sev-guest/milanvlek.testcer"],
            policy: "[sev-snp]\nvmpl = [1]",
            ..SNP
        },
        free: &[],
    },
    Row { vector: NITRO, free: &[] },
    Row {
        vector: Vector {
            evidence: "nitro/evervault/beta/valid-attestation-doc-bytes",
            at: 1_665_651_482,
            ..NITRO
        },
        free: &[],
    },
];

/// The step of the sample: a prime, so that every bit of a byte comes to its turn.
const SAMPLE: usize = 61;

impl Part {
    fn of(self, files: &mut Files) -> &mut Vec<u8> {
        match self {
            Self::Evidence => &mut files.evidence,
            Self::Certificate(at) => &mut files.certificates[at],
            Self::Collateral(at) => &mut files.collateral[at],
        }
    }
}

/// The files without their wrappers, which nothing protects.
fn decoded(files: &Files) -> Files {
    let items = |files: &[Vec<u8>]| {
        let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
        encoding::items(&files).unwrap()
    };
    Files {
        evidence: encoding::decode(&files.evidence).unwrap(),
        certificates: items(&files.certificates),
        collateral: items(&files.collateral),
    }
}

/// The bits of `part` that can be changed and are accepted, of every `step`th.
fn accepted(vector: &Vector, files: &Files, part: Part, step: usize) -> Vec<usize> {
    let bits = 8 * part.of(&mut files.clone()).len();
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let policy = vector.policy();
    let survivors = |first: usize| {
        let mut files = files.clone();
        let mut found = Vec::new();
        for bit in (first * step..bits).step_by(step * threads) {
            part.of(&mut files)[bit / 8] ^= 1 << (bit % 8);
            if vector.judge(&files, &policy).is_accepted() {
                found.push(bit);
            }
            part.of(&mut files)[bit / 8] ^= 1 << (bit % 8);
        }
        found
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|first| scope.spawn(move || survivors(first))).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    })
}

#[test]
fn no_mutant_is_accepted() {
    let step = if std::env::var("HALLMARK_MUTANTS").is_ok_and(|all| all == "all") { 1 } else { SAMPLE };
    for Row { vector, free } in ROWS {
        let Some(files) = vector.read() else { return };
        let files = decoded(&files);
        assert!(vector.judge(&files, &vector.policy()).is_accepted(), "{vector:?}");
        let parts = std::iter::once(Part::Evidence)
            .chain((0..files.certificates.len()).map(Part::Certificate))
            .chain((0..files.collateral.len()).map(Part::Collateral));
        println!("{} {}", vector.kind.name(), vector.evidence);
        for part in parts {
            let tried = (8 * part.of(&mut files.clone()).len()).div_ceil(step);
            let found = accepted(vector, &files, part, step);
            let is_free =
                |bit: &&usize| free.iter().any(|(of, bytes, _)| *of == part && bytes.contains(&(**bit / 8)));
            let (known, unknown): (Vec<usize>, Vec<usize>) = found.iter().partition(is_free);
            println!(
                "  {part:?}: {tried} mutants, {} accepted, of which {} are in bytes that §9 lists",
                found.len(),
                known.len()
            );
            assert!(unknown.is_empty(), "{part:?} of {vector:?}: bits {unknown:?} can be changed");
        }
    }
}
