//! Reference manifests of any bytes: no panic; beside good evidence nothing else is accepted with them.
#![no_main]

mod evidence;

use std::sync::LazyLock;

use evidence::Seeds;
use hallmark_attestation::Kind;
use hallmark_attestation::nvidia::ReferenceManifest;

static SEEDS: LazyLock<Seeds> = LazyLock::new(|| Seeds::of(&[Kind::Nvidia]));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if ReferenceManifest::parse(bytes).is_ok() {
        assert!(ReferenceManifest::is_one(bytes));
        SEEDS.check(|evidence| evidence.collateral.push(bytes.to_vec()));
    }
});
