//! Policies of any text: no panic; one that is read asks for no less than its text says, and accepts no bytes that are no evidence.
#![no_main]

use hallmark_attestation::{Context, Input, Kind, Policy, verify};

libfuzzer_sys::fuzz_target!(|text: &str| {
    match Policy::parse(text) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(policy) => {
            assert!(!policy.name.is_empty());
            for kind in Kind::ALL {
                assert!(!verify(kind, &Input::of(text.as_bytes()), &Context::new(0, &policy)).is_accepted());
            }
        }
    }
});
