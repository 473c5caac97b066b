//! The GGUF reader on any bytes: no panic, bounded memory; what opens as a checkpoint can be read.
#![no_main]

use std::collections::BTreeMap;

use hallmark_model::llm::Checkpoint;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let files = BTreeMap::from([("model.gguf".to_owned(), bytes.to_vec())]);
    match Checkpoint::open(&["model.gguf".to_owned()], &files) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(checkpoint) => {
            for (role, shape, _) in checkpoint.weights() {
                let read = checkpoint.read(role);
                assert_eq!(read.map(|values| values.len()), Ok(shape.iter().product()));
            }
        }
    }
});
