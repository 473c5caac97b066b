//! No length that a file claims is allocated for before the bytes are there: whatever stands in the length fields, judging takes a
//! small constant and a few times the input.
//!
//! A binary of its own, with one test, so that nobody else allocates meanwhile.
#![allow(clippy::unwrap_used, unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use hallmark_attestation::simulated::{Form, Provider};
use hallmark_attestation::{Context, Evidence, Kind, Policy, Producer as _, Request, show};

/// The system's allocator, counting.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes in use at once while `work` runs, beyond those before it.
fn peak(work: impl FnOnce()) -> usize {
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    work();
    PEAK.load(Ordering::Relaxed) - before
}

const CONSTANT: usize = 64 << 10;
/// Copies of the input: the file, what its wrapper holds, the parts, and what a report says of them.
const TIMES: usize = 8;

/// Lengths as the formats write them, as large as they come: little- and big-endian numbers, heads of CBOR, lengths of DER.
const CLAIMS: &[&[u8]] = &[
    &[0xff; 2],
    &[0xff; 4],
    &[0xff, 0xff, 0xff, 0x7f],
    &[0x7f, 0xff, 0xff, 0xff],
    &[0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0x7a, 0xff, 0xff, 0xff, 0xff],
    &[0x9b, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0xba, 0xff, 0xff, 0xff, 0xff],
    &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
    &[0x30, 0x84, 0x0f, 0xff, 0xff, 0xff],
];

/// Every how many places a claim is put; a prime, and another start for each claim.
const STEP: usize = 97;

fn files(evidence: &mut Evidence) -> Vec<&mut Vec<u8>> {
    let Evidence { evidence, certificates, collateral, event_log } = evidence;
    std::iter::once(evidence).chain(certificates).chain(collateral).chain(event_log).collect()
}

#[test]
fn claimed_lengths_are_not_allocated() {
    let policy = Policy::genuine();
    let (mut tried, mut most) = (0, (0, Form::Nitro));
    for form in Form::ALL {
        let nonce = if form.kind() == Kind::Nvidia { vec![7; 32] } else { Vec::new() };
        let request = Request { nonce, at: 1_770_000_000, ..Request::default() };
        let good = Provider::new(form).produce(&request).unwrap();
        let size: usize = files(&mut good.clone()).iter().map(|file| file.len()).sum();
        let limit = CONSTANT + TIMES * size;
        let context = Context::new(request.at, &policy);
        // What is read once and kept is not part of it.
        good.judge(form.kind(), &context);
        for file in 0..files(&mut good.clone()).len() {
            for (number, claim) in CLAIMS.iter().enumerate() {
                let length = files(&mut good.clone())[file].len();
                for at in (number..length.saturating_sub(claim.len())).step_by(STEP) {
                    let mut changed = good.clone();
                    files(&mut changed)[file][at..at + claim.len()].copy_from_slice(claim);
                    let used = peak(|| {
                        changed.judge(form.kind(), &context);
                        let _ = show(form.kind(), &changed.evidence);
                    });
                    assert!(used <= limit, "{form:?}, file {file}, byte {at}: {used} bytes for {size}");
                    most = most.max((used, form));
                    tried += 1;
                }
            }
        }
    }
    println!("{tried} claims; at most {} bytes in use, of {:?}", most.0, most.1);
    // And a file that is longer than any is not copied to find out.
    let long = vec![b'['; (4 << 20) + 1];
    for kind in Kind::ALL {
        let evidence = Evidence { evidence: long.clone(), ..Evidence::default() };
        let used = peak(|| drop(evidence.judge(kind, &Context::new(0, &policy))));
        assert!(used <= CONSTANT, "{kind:?}: {used} bytes");
    }
}
