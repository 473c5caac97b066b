//! Accepted quotes and their collateral, each with one bit changed: none is accepted.
//!
//! Changed are the bits of the quote, of the file of collateral as it came, and, inside both, of every certificate, list and signature.
//! A sample of them is tried; `HALLMARK_MUTANTS=all` tries each.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hallmark_attestation::{Context, Input, Kind, Policy, verify};

const VECTORS: &[(Kind, &str, u64, &str)] = &[
    (Kind::Tdx, "tdx/dcap-qvl/tdx_quote", 1_750_329_200, "name = 'genuine'"),
    (
        Kind::Tdx,
        "tdx/dcap-qvl/tdx_quote_td15ex",
        1_791_419_400,
        "name = 'served'\n[tdx]\nallow_service_td = true",
    ),
    (
        Kind::Sgx,
        "sgx/dcap-qvl/sgx_quote",
        1_750_330_600,
        "name = 'configured'\n[sgx.tcb]\nallow = ['ConfigurationAndSWHardeningNeeded']",
    ),
];

/// Every how many bits one is tried in a sample.
const SAMPLE: usize = 127;

/// The blocks of PEM in `file`, each with the places of its base64 digits. Line breaks may be escaped.
fn blocks(file: &[u8]) -> Vec<Vec<usize>> {
    // One character a byte.
    let text: String =
        file.iter().map(|byte| if byte.is_ascii() { char::from(*byte) } else { '?' }).collect();
    let mut blocks = Vec::new();
    let mut at = 0;
    while let Some(begin) = text[at..].find("-----BEGIN CERTIFICATE-----") {
        let begin = at + begin + 27;
        let end = begin + text[begin..].find("-----END").unwrap();
        let escaped = |place: usize| file[place] == b'\\' || file[place - 1] == b'\\';
        blocks.push((begin..end).filter(|&place| !escaped(place) && file[place] != b'\n').collect());
        at = end;
    }
    blocks
}

/// The runs of 100 hexadecimal digits or more in `file`: lists and signatures.
fn runs(file: &[u8]) -> Vec<Vec<usize>> {
    let digits = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
    let mut runs = vec![Vec::new()];
    for (place, byte) in file.iter().enumerate() {
        if digits(byte) {
            runs.last_mut().unwrap().push(place);
        } else if !runs.last().unwrap().is_empty() {
            runs.push(Vec::new());
        }
    }
    runs.retain(|run| run.len() >= 100);
    runs
}

/// How a file is changed: which bit of what.
#[derive(Debug)]
enum Part {
    /// The file itself.
    File,
    /// The bytes behind the digits at these places.
    Base64(Vec<usize>),
    Hex(Vec<usize>),
}

impl Part {
    fn of(file: &[u8]) -> Vec<Self> {
        let blocks = blocks(file).into_iter().map(Self::Base64);
        let runs = if file.first() == Some(&b'{') { runs(file) } else { Vec::new() };
        std::iter::once(Self::File).chain(blocks).chain(runs.into_iter().map(Self::Hex)).collect()
    }

    fn bits(&self, file: &[u8]) -> usize {
        8 * match self {
            Self::File => file.len(),
            Self::Base64(places) => Self::decoded(file, places).len(),
            Self::Hex(places) => places.len() / 2,
        }
    }

    fn decoded(file: &[u8], places: &[usize]) -> Vec<u8> {
        STANDARD.decode(places.iter().map(|place| file[*place]).collect::<Vec<_>>()).unwrap()
    }

    fn change(&self, file: &[u8], bit: usize) -> Vec<u8> {
        let mut changed = file.to_vec();
        match self {
            Self::File => changed[bit / 8] ^= 1 << (bit % 8),
            Self::Base64(places) => {
                let mut bytes = Self::decoded(file, places);
                bytes[bit / 8] ^= 1 << (bit % 8);
                let digits = STANDARD.encode(bytes);
                places.iter().zip(digits.bytes()).for_each(|(place, digit)| changed[*place] = digit);
            }
            Self::Hex(places) => {
                let place = places[bit / 4];
                let digit = char::from(file[place]).to_digit(16).unwrap() ^ (1 << (bit % 4));
                changed[place] = char::from_digit(digit, 16).unwrap().try_into().unwrap();
            }
        }
        changed
    }
}

#[test]
fn no_changed_bit_is_accepted() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/attestation-vectors");
    if !folder.is_dir() {
        println!("skipped: {} is not present", folder.display());
        return;
    }
    let step = if std::env::var("HALLMARK_MUTANTS").is_ok_and(|wish| wish == "all") { 1 } else { SAMPLE };
    for (kind, name, at, policy) in VECTORS {
        let policy = Policy::parse(policy).unwrap();
        let files = [name.to_string(), format!("{name}_collateral.json")]
            .map(|name| std::fs::read(folder.join(name)).unwrap());
        let accepted = |files: &[Vec<u8>; 2]| {
            let input = Input { evidence: &files[0], collateral: &[&files[1]], ..Input::default() };
            verify(*kind, &input, &Context::new(*at, &policy)).is_accepted()
        };
        assert!(accepted(&files), "{name}");
        for (which, what) in ["quote", "collateral"].into_iter().enumerate() {
            let file = &files[which];
            let parts = Part::of(file);
            let mutants: Vec<(&Part, usize)> = parts
                .iter()
                .flat_map(|part| (0..part.bits(file)).map(move |bit| (part, bit)))
                .step_by(step)
                .collect();
            let (next, survivors) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
            std::thread::scope(|scope| {
                for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
                    scope.spawn(|| {
                        while let Some((part, bit)) = mutants.get(next.fetch_add(1, Ordering::Relaxed)) {
                            let mut changed = files.clone();
                            changed[which] = part.change(file, *bit);
                            if accepted(&changed) {
                                survivors.lock().unwrap().push((part, bit));
                            }
                        }
                    });
                }
            });
            let survivors = survivors.into_inner().unwrap();
            let (tried, parts) = (mutants.len(), parts.len());
            println!("{name}: {tried} changes of the {what} in {parts} parts, {} accepted", survivors.len());
            assert!(
                survivors.is_empty(),
                "{name}: {what}: {:?}",
                survivors.iter().take(20).collect::<Vec<_>>()
            );
        }
    }
}
