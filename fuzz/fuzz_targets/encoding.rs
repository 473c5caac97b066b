//! Wrappers of any bytes: no panic, nothing longer comes out than goes in, and what is wrapped comes out.
#![no_main]

use hallmark_attestation::encoding::{decode, der, pem};
use hallmark_receipt::wire::{to_base64, to_hex};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(decoded) = decode(bytes) {
        assert!(decoded.len() <= bytes.len());
    }
    if let Ok(items) = der(bytes) {
        assert!(items.iter().map(Vec::len).sum::<usize>() <= bytes.len());
    }
    if !bytes.is_empty() {
        assert_eq!(decode(to_hex(bytes).as_bytes()).as_deref(), Ok(bytes));
        let base64 = to_base64(bytes);
        // Text that is base64 and hexadecimal digits alike is read as digits.
        let digits = base64.strip_prefix("0x").unwrap_or(&base64);
        if digits.bytes().any(|digit| !digit.is_ascii_hexdigit()) {
            assert_eq!(decode(base64.as_bytes()).as_deref(), Ok(bytes));
        }
        let block = format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n");
        assert_eq!(pem(&block), Ok(vec![bytes.to_vec()]));
    }
});
