//! Snapshots of collateral: whatever is taken has this one form, and no input panics.
#![no_main]

use hallmark_attestation::collateral::Snapshot;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(snapshot) = Snapshot::parse(bytes) {
        assert_eq!(snapshot.to_json().as_bytes(), bytes);
    }
});
