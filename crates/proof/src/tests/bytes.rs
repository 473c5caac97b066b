//! Proofs as bytes from outside: changed, cut short, and made up.

use hallmark_model::graph::{Attr, Graph};
use hallmark_receipt::DType;

use super::models::{In, Make, Random, dense, dequantise, ints, quantise};
use super::sound::{Case, small_model};
use crate::pcs::{Pcs, Security, Whir};
use crate::protocol::verify::verify;

/// A model whose proofs are short.
fn tiny() -> Graph {
    let (mut make, x) = Make::input(DType::F32, &[1, 2]);
    let x = quantise(&mut make, x);
    let values: Vec<i64> = (-128..128).map(|v: i64| v.max(0)).collect();
    let x = make.node("Table", &[("table", ints(&values)), ("to", Attr::Int(3))], vec![In::Of(x)]);
    let x = dense(&mut make, &mut Random(1), x, [2, 1]);
    let y = dequantise(&mut make, x);
    make.done(&[y])
}

fn accepts<P: Pcs>(case: &Case<P>, bytes: &[u8]) -> bool {
    verify(&case.pcs, &case.circuit, &case.statement, bytes).is_ok()
}

/// Changes every `step`th byte, and cuts before it.
fn tamper<P: Pcs>(case: &Case<P>, step: usize) {
    let bytes = case.prove(&case.honest()).encode();
    assert!(accepts(case, &bytes));
    let mut random = Random(bytes.len() as u64);
    for at in (0..bytes.len()).step_by(step) {
        let mut changed = bytes.clone();
        changed[at] ^= (1 + random.below(255)) as u8;
        assert!(!accepts(case, &changed), "byte {at} of {}", bytes.len());
        if at % 5 == 0 {
            assert!(!accepts(case, &bytes[..at]), "the first {at} of {}", bytes.len());
        }
    }
}

#[test]
fn every_changed_byte_is_refused() {
    tamper(&Case::new(tiny(), 1), 1);
    tamper(&Case::new(tiny(), 2), 13);
}

#[test]
fn changed_bytes_are_refused_under_whir() {
    tamper(&Case::under(Whir { security: Security::Standard }, small_model(1), 1), 509);
}

#[test]
#[ignore = "minutes: every byte of a longer proof"]
fn every_changed_byte_is_refused_under_whir() {
    tamper(&Case::under(Whir { security: Security::Standard }, small_model(1), 1), 1);
    tamper(&Case::new(small_model(1), 2), 1);
}

#[test]
fn bytes_that_nobody_proved_are_refused() {
    let case = Case::new(tiny(), 1);
    let honest = case.prove(&case.honest()).encode();
    let mut random = Random(3);
    for _ in 0..200 {
        // Limbs of small elements, so that not everything ends at the first one that is not canonical.
        let mut bytes: Vec<u8> = (0..random.below(2 * honest.len())).map(|_| random.below(4) as u8).collect();
        assert!(!accepts(&case, &bytes));
        bytes.resize(honest.len(), 0);
        let keep = random.below(honest.len());
        bytes[keep..].copy_from_slice(&honest[keep..]);
        assert!(bytes == honest || !accepts(&case, &bytes));
    }
}
