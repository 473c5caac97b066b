//! The ONNX importer on any bytes: no panic, bounded memory, and what is imported has a skeleton that reads back.
#![no_main]

use hallmark_model::manifest::Model;
use hallmark_model::onnx::{self, Limits, NoExternalData};
use hallmark_model::skeleton::Skeleton;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let limits = Limits {
        messages: 20_000,
        nodes: 2_000,
        values: 10_000,
        elements: 1 << 20,
        constant_bytes: 1 << 24,
        value_elements: 1 << 24,
        ..Limits::default()
    };
    match onnx::import(bytes, &NoExternalData, &limits) {
        // Every refusal can be shown.
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(_) => {
            let Ok(model) = Model::load(bytes, &NoExternalData, &limits) else { return };
            // Bytes are compared, for a constant that is NaN is not equal to itself.
            let bytes = model.skeleton().encode();
            assert_eq!(Skeleton::decode(&bytes).map(|again| again.encode()), Ok(bytes));
        }
    }
});
