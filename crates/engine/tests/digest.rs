//! The digest suite gives the recorded digest on every instruction set of this processor. `scripts/cross.sh` asks the same of other
//! architectures. To record a wanted change: the example `digest` prints the new one for `vectors/engine-digest.txt`.

mod common;
#[path = "../examples/digest/decoders.rs"]
mod decoders;
#[path = "decoder/fixture.rs"]
#[allow(dead_code)] // The decoder's own tests use more of it.
mod fixture;
#[path = "../examples/digest/suite.rs"]
mod suite;

use hallmark_engine::Isa;

#[test]
fn the_recorded_digest_on_every_instruction_set() {
    let recorded = include_str!("../../../vectors/engine-digest.txt").trim();
    for (isa, threads) in Isa::available().zip([2, 4, 1]) {
        let digest = suite::digest(isa, threads).unwrap();
        assert_eq!(digest.to_string(), recorded, "{isa}, {threads} threads");
    }
}
