//! The bundle parser and the judge on any bytes: what parses is written back as it was understood, and nothing is accepted by a
//! verifier that trusts nobody and holds no model.
#![no_main]

use hallmark_receipt::Bundle;
use hallmark_verdict::{Context, Policy, judge};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(bundle) = Bundle::parse(bytes) {
        // Texts are compared, for an opened NaN is not equal to itself.
        let text = bundle.to_json();
        assert_eq!(Bundle::parse(text.as_bytes()).map(|again| again.to_json()), Ok(text));
    }
    let verdict = judge(bytes, &Policy::default_policy(), &Context::at(1_800_000_000_000), None);
    assert!(!verdict.is_accepted());
});
