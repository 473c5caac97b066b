//! No single bit of accepted evidence, or of what belongs to it, can be changed: every mutant is refused, but for bytes that the
//! format leaves free, which `attestation.md` §9 lists.
//!
//! By default a sample of the bits is tried; all of them with `HALLMARK_MUTANTS=all`, as `./x mutants` does.
#![allow(clippy::unwrap_used, clippy::panic)]

mod dcap;
mod nitro;
mod nvidia;
mod snp;
#[path = "../vectors/mod.rs"]
mod vectors;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hallmark_attestation::encoding;
use vectors::{Files, Vector};

/// Accepted evidence, and which of its bits are changed.
struct Subject {
    vector: Vector,
    files: Files,
    parts: Vec<Part>,
    /// Bytes that may change, and where §9 says so.
    free: &'static [(File, Range<usize>, &'static str)],
}

/// One of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum File {
    Evidence,
    Certificate(usize),
    Collateral(usize),
}

/// Bytes of a file that are changed bit by bit.
#[derive(Clone, Debug)]
struct Part {
    file: File,
    form: Form,
}

/// How the bytes stand in the file.
#[derive(Clone, Debug)]
enum Form {
    /// As they are: the file itself.
    Raw,
    /// As base64, at these places.
    Base64(Vec<usize>),
    /// As hexadecimal digits, at these places.
    Hex(Vec<usize>),
}

impl File {
    fn of(self, files: &Files) -> &Vec<u8> {
        match self {
            Self::Evidence => &files.evidence,
            Self::Certificate(at) => &files.certificates[at],
            Self::Collateral(at) => &files.collateral[at],
        }
    }

    fn of_mut(self, files: &mut Files) -> &mut Vec<u8> {
        match self {
            Self::Evidence => &mut files.evidence,
            Self::Certificate(at) => &mut files.certificates[at],
            Self::Collateral(at) => &mut files.collateral[at],
        }
    }

    fn all(files: &Files) -> Vec<Self> {
        std::iter::once(Self::Evidence)
            .chain((0..files.certificates.len()).map(Self::Certificate))
            .chain((0..files.collateral.len()).map(Self::Collateral))
            .collect()
    }
}

impl Part {
    fn bits(&self, files: &Files) -> usize {
        let file = self.file.of(files);
        8 * match &self.form {
            Form::Raw => file.len(),
            Form::Base64(places) => decoded(file, places).len(),
            Form::Hex(places) => places.len() / 2,
        }
    }

    /// The files with one bit changed.
    fn changed(&self, files: &Files, bit: usize) -> Files {
        let mut changed = files.clone();
        let (file, out) = (self.file.of(files), self.file.of_mut(&mut changed));
        match &self.form {
            Form::Raw => out[bit / 8] ^= 1 << (bit % 8),
            Form::Base64(places) => {
                let mut bytes = decoded(file, places);
                bytes[bit / 8] ^= 1 << (bit % 8);
                let digits = STANDARD.encode(bytes);
                places.iter().zip(digits.bytes()).for_each(|(place, digit)| out[*place] = digit);
            }
            Form::Hex(places) => {
                let place = places[bit / 4];
                let digit = char::from(file[place]).to_digit(16).unwrap() ^ (1 << (bit % 4));
                out[place] = char::from_digit(digit, 16).unwrap().try_into().unwrap();
            }
        }
        changed
    }
}

fn decoded(file: &[u8], places: &[usize]) -> Vec<u8> {
    STANDARD.decode(places.iter().map(|place| file[*place]).collect::<Vec<_>>()).unwrap()
}

impl Subject {
    /// A vector without its wrappers, which nothing protects; every file as it then is.
    fn unwrapped(vector: &Vector) -> Option<Self> {
        let files = vector.read()?;
        let items = |files: &[Vec<u8>]| {
            let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
            encoding::items(&files).unwrap()
        };
        let files = Files {
            evidence: encoding::decode(&files.evidence).unwrap(),
            certificates: items(&files.certificates),
            collateral: items(&files.collateral),
        };
        Some(Self::raw(vector, files))
    }

    /// Every file as it is.
    fn raw(vector: &Vector, files: Files) -> Self {
        let parts = File::all(&files).into_iter().map(|file| Part { file, form: Form::Raw }).collect();
        Self { vector: *vector, files, parts, free: &[] }
    }

    /// Changes every bit, or every `sample`th, and says what became of it. `sample` is a prime, so that each bit of a byte has its turn.
    fn check(&self, sample: usize) {
        let step = if std::env::var("HALLMARK_MUTANTS").is_ok_and(|wish| wish == "all") { 1 } else { sample };
        let (policy, start) = (self.vector.policy(), Instant::now());
        let is_accepted = |files: &Files| self.vector.judge(files, &policy).is_accepted();
        assert!(is_accepted(&self.files), "{:?}", self.vector);
        println!("{} {}", self.vector.kind.name(), self.vector.evidence);
        let (mut tried, mut wrong) = (0, Vec::new());
        for file in File::all(&self.files) {
            let parts = self.parts.iter().filter(|part| part.file == file);
            let mutants: Vec<(&Part, usize)> = parts
                .clone()
                .flat_map(|part| (0..part.bits(&self.files)).map(move |bit| (part, bit)))
                .step_by(step)
                .collect();
            let (next, survivors) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
            thread::scope(|scope| {
                for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
                    scope.spawn(|| {
                        while let Some((part, bit)) = mutants.get(next.fetch_add(1, Ordering::Relaxed)) {
                            if is_accepted(&part.changed(&self.files, *bit)) {
                                survivors.lock().unwrap().push((*part, *bit));
                            }
                        }
                    });
                }
            });
            let survivors = survivors.into_inner().unwrap();
            let section = |(part, bit): &(&Part, usize)| {
                let free = self.free.iter().find(|(file, bytes, _)| {
                    matches!(part.form, Form::Raw) && *file == part.file && bytes.contains(&(bit / 8))
                });
                free.map(|(.., section)| *section)
            };
            let (free, others): (Vec<_>, Vec<_>) =
                survivors.iter().partition(|survivor| section(survivor).is_some());
            println!(
                "  {file:?} in {} parts: {} mutants, {} refused, {} accepted, {} excluded {:?}",
                parts.count(),
                mutants.len(),
                mutants.len() - survivors.len(),
                others.len(),
                free.len(),
                free.iter().copied().filter_map(section).collect::<BTreeSet<_>>()
            );
            tried += mutants.len();
            wrong.extend(
                others
                    .into_iter()
                    .map(|(part, bit)| format!("{:?}, bit {bit} of {}", part.file, part.bits(&self.files))),
            );
        }
        println!(
            "  {:.0} mutants a second",
            f64::from(u32::try_from(tried).unwrap()) / start.elapsed().as_secs_f64()
        );
        assert!(
            wrong.is_empty(),
            "{:?}: {} can be changed: {:?}",
            self.vector,
            wrong.len(),
            &wrong[..wrong.len().min(20)]
        );
    }
}
