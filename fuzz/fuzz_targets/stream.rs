//! Any bytes as a signed stream: no panic, and no event without a signature.
#![no_main]

use hallmark_receipt::stream::Reader;
use hallmark_receipt::{Digest, KeyId};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let reader = || Reader::new(KeyId(Digest([0; 32])), "{}", 1000);
    let (mut stream, mut events) = (reader(), Vec::new());
    let fed = stream.feed(data, &mut events);
    // Nobody has this node's key.
    assert!(events.is_empty());
    assert_eq!(fed.is_err(), stream.feed(b"", &mut events).is_err());
    assert!(stream.finish().is_err());
    let mut parts = data.splitn(3, |byte| *byte == b'\n').map(String::from_utf8_lossy);
    let (preamble, seal, body) = (parts.next(), parts.next(), parts.next());
    let [preamble, seal, body] = [preamble, seal, body].map(Option::unwrap_or_default);
    assert!(reader().whole(&preamble, &seal, body.as_bytes()).is_err());
});
