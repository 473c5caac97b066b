//! The safetensors header reader on any bytes: no panic, and tensors that tile the data.
#![no_main]

use std::collections::BTreeMap;

use hallmark_model::llm::safetensors;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = safetensors::parse_index(bytes);
    let files = BTreeMap::from([("x".to_owned(), bytes.to_vec())]);
    match safetensors::read("x", &files) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(tensors) => {
            let data: u64 = tensors.values().map(|stored| stored.bytes).sum();
            assert!(data < bytes.len() as u64);
            assert!(tensors.values().all(|stored| stored.start + stored.bytes <= bytes.len() as u64));
        }
    }
});
