//! The skeleton's decoder on any bytes: what it takes, it writes back byte for byte.
#![no_main]

use hallmark_model::skeleton::Skeleton;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(skeleton) = Skeleton::decode(bytes) {
        assert_eq!(skeleton.encode(), bytes);
        assert_eq!(
            skeleton.weights().len(),
            skeleton.weights().iter().filter(|w| w.layout.block > 0).count()
        );
    }
});
