//! Collateral of quotes of any bytes, TCB info and identities inside: no panic, and nothing else is accepted with it.
#![no_main]

mod evidence;

use std::sync::LazyLock;

use evidence::Seeds;
use hallmark_attestation::Kind;

static SEEDS: LazyLock<Seeds> = LazyLock::new(|| Seeds::of(&[Kind::Tdx, Kind::Sgx]));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    SEEDS.check(|evidence| evidence.collateral = vec![bytes.to_vec()]);
    // Beside the good one.
    SEEDS.check(|evidence| evidence.collateral.insert(0, bytes.to_vec()));
});
