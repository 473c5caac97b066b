//! Reports of NVIDIA's devices of any bytes, and the lists around them: no panic, and none is accepted but for what the good one attests.
#![no_main]

mod evidence;

use std::sync::LazyLock;

use evidence::Seed;
use hallmark_attestation::simulated::Form;

static SEED: LazyLock<Seed> = LazyLock::new(|| Seed::of(Form::Nvidia));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| SEED.check(|evidence| evidence.evidence = bytes.to_vec()));
