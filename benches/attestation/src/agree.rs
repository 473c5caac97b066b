//! Our decision beside a peer's, on the shared vectors and on copies with one bit changed.

use std::collections::BTreeMap;

use hallmark_attestation::Kind;

use crate::Result;
use crate::cases::{Case, reason};
use crate::peers;

/// Why we refuse what a peer accepts: by the peer's kinds, our reason, and why ours is stricter. Any other such difference is a failure.
const EXPLAINED: &[(&[Kind], &str, &str)] = &[
    (
        INTEL,
        "unknown-root",
        "the root that came is the one that is pinned, by its digest; they put their own in its place and never read it",
    ),
    (INTEL, "encoding", "PEM is strict (RFC 7468), also of chains that they do not use"),
    (
        INTEL,
        "certificate",
        "every certificate that came is read, roots and unused chains too, and the algorithm beside a signature must be the signed one",
    ),
    (INTEL, "chain-issuer", "the chain that came with the revocation lists is verified; they do not use it"),
    (INTEL, "chain-signature", "the same"),
    (
        INTEL,
        "chain-differs",
        "the platform's chain beside a quote that has one must be the same; they read one of the two",
    ),
    (INTEL, "collateral-hex", "hexadecimal digits are of one case: one form for every byte"),
    (INTEL, "collateral-json", "the file's members are known ones; they pass over others"),
    (INTEL, "quote-trailing", "behind a quote there are only zeros"),
    (
        &[Kind::Tdx],
        "service-td",
        "an extended body (type 4) needs `allow_service_td`: zeros there show nothing (attestation.md §5.10)",
    ),
    (AMD, "report-reserved", "reserved bytes are zero, also those behind the signature, which nothing signs"),
    (
        AMD,
        "signature",
        "the signature is over the bytes as they came; they write the report anew before they verify it",
    ),
    (AMD, "certificate", "the algorithm beside a signature must be the signed one, parameters included"),
    (AMD, "debug", "they verify signatures alone"),
    (AMD, "vmpl", "they verify signatures alone"),
    (AMD, "expired", "they verify signatures alone"),
];

const INTEL: &[Kind] = &[Kind::Tdx, Kind::Sgx];
const AMD: &[Kind] = &[Kind::SevSnp];

/// The seed of the changes.
const SEED: u64 = 0x4841_4c4c_4d41_524b;

/// Which of a case's files is changed.
#[derive(Clone, Copy)]
enum Part {
    Evidence,
    Certificate,
    Collateral,
}

impl Part {
    fn of(self, case: &mut Case) -> Option<&mut Vec<u8>> {
        match self {
            Self::Evidence => Some(&mut case.evidence),
            Self::Certificate => case.certificates.first_mut(),
            Self::Collateral => case.collateral.first_mut(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Evidence => "evidence",
            Self::Certificate => "certificate",
            Self::Collateral => "collateral",
        }
    }
}

/// How a set of inputs was judged.
#[derive(Default)]
struct Tally {
    both_accept: usize,
    both_refuse: usize,
    /// We refuse what they accept, by our reason.
    stricter: BTreeMap<String, usize>,
    /// We accept what they refuse, by theirs.
    looser: Vec<String>,
}

impl Tally {
    fn add(&mut self, ours: (bool, String), theirs: std::result::Result<(), String>) {
        match (ours, theirs) {
            ((true, _), Ok(())) => self.both_accept += 1,
            ((false, _), Err(_)) => self.both_refuse += 1,
            ((false, reason), Ok(())) => *self.stricter.entry(reason).or_default() += 1,
            ((true, _), Err(reason)) => self.looser.push(reason),
        }
    }

    fn merge(&mut self, other: Self) {
        self.both_accept += other.both_accept;
        self.both_refuse += other.both_refuse;
        for (reason, count) in other.stricter {
            *self.stricter.entry(reason).or_default() += count;
        }
        self.looser.extend(other.looser);
    }

    fn inputs(&self) -> usize {
        self.both_accept + self.both_refuse + self.stricter.values().sum::<usize>() + self.looser.len()
    }
}

/// Compares everything; whether nothing differs but what is explained.
pub fn run(cases: &[Case], flips: usize) -> Result<bool> {
    // A peer's panic is an answer, not news.
    std::panic::set_hook(Box::new(|_| {}));
    println!(
        "| evidence | changed | inputs | both accept | both refuse | we alone refuse | they alone refuse |"
    );
    println!("|---|---|---|---|---|---|---|");
    let mut random = SEED;
    let mut differences: BTreeMap<(Kind, String), usize> = BTreeMap::new();
    let (mut looser, mut wrong) = (Vec::new(), 0);
    let mut totals: BTreeMap<(Kind, &str), Tally> = BTreeMap::new();
    for case in cases {
        let case = unwrapped(case)?;
        if let Err(why) = peers::judge(&case) {
            if why != "no peer" {
                println!("| `{}` | - | 0: {why} | | | | |", case.name);
            }
            continue;
        }
        let unchanged = tally(&case, [case.clone()])?;
        if (unchanged.both_accept + unchanged.looser.len() == 1) != case.accepted {
            println!("| `{}` | WRONG: not the verdict of cases.tsv | | | | | |", case.name);
            wrong += 1;
        }
        let mut rows = vec![("nothing", unchanged)];
        for part in [Part::Evidence, Part::Certificate, Part::Collateral] {
            let mut copies = Vec::new();
            let bits = part.of(&mut case.clone()).map_or(0, |bytes| bytes.len() * 8);
            for _ in 0..if bits == 0 { 0 } else { flips } {
                let bit = next(&mut random) as usize % bits;
                let mut copy = case.clone();
                if let Some(bytes) = part.of(&mut copy) {
                    bytes[bit / 8] ^= 1 << (bit % 8);
                }
                copies.push(copy);
            }
            if !copies.is_empty() {
                rows.push((part.name(), tally(&case, copies)?));
            }
        }
        for (part, tally) in rows {
            let stricter: Vec<String> =
                tally.stricter.iter().map(|(reason, count)| format!("{count} `{reason}`")).collect();
            let (accept, refuse) = (tally.both_accept, tally.both_refuse);
            println!(
                "| `{}` at {} | {part} | {} | {accept} | {refuse} | {} | {} |",
                case.name,
                case.at,
                tally.inputs(),
                stricter.join(", "),
                tally.looser.len()
            );
            for (reason, count) in &tally.stricter {
                *differences.entry((case.kind, reason.clone())).or_default() += count;
            }
            looser.extend(tally.looser.iter().map(|reason| format!("{} ({part}): {reason}", case.name)));
            totals.entry((case.kind, part)).or_default().merge(tally);
        }
    }
    let mut holds = looser.is_empty() && wrong == 0;
    println!("\nTogether:\n");
    println!(
        "| kind | changed | inputs | both accept | both refuse | we alone refuse | they alone refuse |\n|---|---|---|---|---|---|---|"
    );
    for ((kind, part), tally) in &totals {
        let (accept, refuse) = (tally.both_accept, tally.both_refuse);
        let (stricter, looser) = (tally.stricter.values().sum::<usize>(), tally.looser.len());
        println!(
            "| `{}` | {part} | {} | {accept} | {refuse} | {stricter} | {looser} |",
            kind.name(),
            tally.inputs()
        );
    }
    println!("\nWe refuse what they accept:\n");
    println!("| kind | our reason | inputs | why |\n|---|---|---|---|");
    for ((kind, reason), count) in differences {
        let known = EXPLAINED.iter().find(|(kinds, code, _)| kinds.contains(&kind) && *code == reason);
        holds &= known.is_some();
        let why = known.map_or("NOT EXPLAINED", |(.., why)| why);
        println!("| `{}` | `{reason}` | {count} | {why} |", kind.name());
    }
    println!("\nWe accept what they refuse: {}", looser.len());
    looser.iter().for_each(|line| println!("* {line}"));
    Ok(holds)
}

/// The case without the wrappers of its evidence and certificates, which nothing signs.
fn unwrapped(case: &Case) -> Result<Case> {
    use hallmark_attestation::encoding;
    let certificates: Vec<&[u8]> = case.certificates.iter().map(Vec::as_slice).collect();
    let (evidence, certificates) = (encoding::decode(&case.evidence)?, encoding::items(&certificates)?);
    Ok(Case { evidence, certificates, ..case.clone() })
}

/// Judges every input here and there.
fn tally(case: &Case, inputs: impl IntoIterator<Item = Case>) -> Result<Tally> {
    let policy = case.allowed.policy()?;
    let mut tally = Tally::default();
    for input in inputs {
        let report = input.judge(&policy, None);
        let theirs = peers::judge(&input).unwrap_or_else(|why| Err(why.to_owned()));
        tally.add((report.is_accepted(), reason(&report)), theirs);
    }
    Ok(tally)
}

/// xorshift64*.
fn next(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
}
