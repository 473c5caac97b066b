//! The verifier of proofs on any bytes: as a proof, and as changes to a good one. None but the good one holds, and nothing panics.
#![no_main]

mod changed;

use std::sync::OnceLock;

use hallmark_model::skeleton::Skeleton;
use hallmark_proof::pcs::Root;
use hallmark_proof::program::{Opened, Program, scheme};
use hallmark_receipt::{Bundle, Evidence, Proof, Tensor};

use changed::changed;

/// A good bundle: the model, what is opened, the commitment, and the proof.
struct Good {
    program: Program,
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
    commitment: Root,
    proof: Proof,
}

fn good() -> &'static Good {
    static GOOD: OnceLock<Good> = OnceLock::new();
    GOOD.get_or_init(|| {
        let bundle =
            Bundle::parse(include_bytes!("../../vectors/receipt/valid-proved.receipt.json")).unwrap();
        let program = Program::new(&Skeleton::decode(bundle.graph.as_deref().unwrap()).unwrap()).unwrap();
        let manifest = hallmark_model::manifest::Manifest::from_object(bundle.manifest.as_ref().unwrap());
        let commitment = Root(manifest.unwrap().proof.unwrap().commitment);
        let tensors = |side: Option<Vec<hallmark_receipt::Opening>>| {
            side.unwrap().iter().map(|opening| opening.tensor().clone()).collect()
        };
        let Some(Evidence::Zk { proof, .. }) = bundle.evidence.last() else { panic!("a proof") };
        let proof = proof.as_ref().clone();
        Good { program, inputs: tensors(bundle.inputs), outputs: tensors(bundle.outputs), commitment, proof }
    })
}

fn holds(good: &Good, bytes: &[u8]) -> bool {
    let placed = good.program.place_for(&good.inputs).unwrap();
    let statement = placed.statement(good.commitment, good.proof.claims.clone());
    let opened =
        Opened { index: 0, inputs: &good.inputs, outputs: &good.outputs, integers: &good.proof.integers };
    placed.check(&scheme(good.proof.security), &statement, opened, bytes, 100).is_ok()
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let good = good();
    assert!(!holds(good, bytes) || bytes == good.proof.bytes);
    let changed = changed(&good.proof.bytes, bytes);
    assert!(!holds(good, &changed) || changed == good.proof.bytes);
});
