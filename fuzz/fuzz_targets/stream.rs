//! Any bytes as a signed stream: no panic, and no event without a signature.
#![no_main]

use hallmark_receipt::stream::Reader;
use hallmark_receipt::{Digest, KeyId};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut reader = Reader::new(KeyId(Digest([0; 32])), "{}", 1000);
    // Nobody has this node's key.
    assert!(reader.feed(data).is_ok_and(|events| events.is_empty()) || reader.feed(b"").is_err());
    assert!(reader.finish().is_err());
});
