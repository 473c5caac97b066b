//! Quotes of any bytes, as TDX's and as SGX's: no panic, and none is accepted but for what the good one attests.
#![no_main]

mod evidence;

use std::sync::LazyLock;

use evidence::Seeds;
use hallmark_attestation::Kind;

static SEEDS: LazyLock<Seeds> = LazyLock::new(|| Seeds::of(&[Kind::Tdx, Kind::Sgx]));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| SEEDS.check(|evidence| evidence.evidence = bytes.to_vec()));
