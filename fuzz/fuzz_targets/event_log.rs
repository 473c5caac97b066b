//! Event logs of any bytes, beside a good quote: no panic, and what is read is written out.
#![no_main]

mod evidence;

use std::sync::LazyLock;

use evidence::Seeds;
use hallmark_attestation::Kind;
use hallmark_attestation::dcap::EventLog;

static SEEDS: LazyLock<Seeds> = LazyLock::new(|| Seeds::of(&[Kind::Tdx]));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    SEEDS.check(|evidence| evidence.event_log = Some(bytes.to_vec()));
    if let Ok(log) = EventLog::parse(bytes) {
        assert!(log.fields().contains_key("events"));
    }
});
