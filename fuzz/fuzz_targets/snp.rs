//! Reports of SEV-SNP of any bytes, with the certificate table behind them or beside them: no panic, and none is accepted but for what
//! the good one attests.
#![no_main]

mod evidence;

use std::sync::LazyLock;

use evidence::Seed;
use hallmark_attestation::Kind;

static SEEDS: LazyLock<Vec<Seed>> = LazyLock::new(|| Seed::all(&[Kind::SevSnp]));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for seed in SEEDS.iter() {
        seed.check(|evidence| evidence.evidence = bytes.to_vec());
        seed.check(|evidence| evidence.evidence.extend(bytes));
        seed.check(|evidence| evidence.certificates = vec![bytes.to_vec()]);
    }
});
