//! Any bytes as a message of attested TLS: no panic, and one encoding for whatever can be read.
#![no_main]

use hallmark_attestation::{Hello, Presentation};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(hello) = Hello::parse(data) {
        assert_eq!(hello.encode(), data);
    }
    if let Ok(read) = Presentation::parse(data) {
        let encoded = read.credentials.encode().expect("what was read can be written");
        assert_eq!([&encoded[..], &read.signature].concat(), data);
    }
});
