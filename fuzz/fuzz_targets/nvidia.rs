//! Reports of NVIDIA's devices of any bytes, and the lists around them: no panic, and none is accepted but for what the good one attests.
#![no_main]

mod evidence;

use std::sync::LazyLock;

use evidence::Seeds;
use hallmark_attestation::Kind;

static SEEDS: LazyLock<Seeds> = LazyLock::new(|| Seeds::of(&[Kind::Nvidia]));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| SEEDS.check(|evidence| evidence.evidence = bytes.to_vec()));
