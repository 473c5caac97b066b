//! The bundle parser and the judge on any bytes: what parses is written back as it was understood, and nothing is accepted by a
//! verifier that trusts nobody and holds no model.
#![no_main]

use hallmark_receipt::Bundle;
use hallmark_verdict::{Context, Policy, judge};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(bundle) = Bundle::parse(bytes) {
        assert_eq!(Bundle::parse(bundle.to_json().as_bytes()).as_ref(), Ok(&bundle));
    }
    let verdict = judge(bytes, &Policy::default_policy(), &Context::at(1_800_000_000_000), None);
    assert!(!verdict.is_accepted());
});
