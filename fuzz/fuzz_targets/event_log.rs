//! Event logs of any bytes, beside a good quote: no panic, and what is read is written out.
#![no_main]

mod evidence;

use std::sync::LazyLock;

use evidence::Seed;
use hallmark_attestation::dcap::EventLog;
use hallmark_attestation::simulated::Form;

static SEED: LazyLock<Seed> = LazyLock::new(|| Seed::of(Form::TdxV4));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    SEED.check(|evidence| evidence.event_log = Some(bytes.to_vec()));
    if let Ok(log) = EventLog::parse(bytes) {
        assert!(log.fields().contains_key("events"));
    }
});
