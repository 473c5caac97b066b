//! The reader of config.json, of decoders' skeletons and of sampling parameters on any bytes: what is read is within its bounds and has one form.
#![no_main]

use hallmark_model::llm::{Parameters, Skeleton, config};
use hallmark_receipt::json::Value;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    match config::parse(bytes) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(architecture) => {
            assert_eq!(architecture.check(), Ok(()));
            assert!(!architecture.weights().is_empty());
        }
    }
    if let Ok(skeleton) = Skeleton::parse(bytes) {
        assert_eq!(skeleton.to_json().as_bytes(), bytes);
    }
    if let Ok(Value::Object(members)) = Value::parse(bytes, 1 << 16)
        && let Ok(parameters) = Parameters::from_object(&members)
    {
        assert_eq!(parameters.to_object(), members);
    }
});
