//! Traps of maxima: a bound that no input attains, and an input that is not the greatest.

use hallmark_model::graph::{Attr, Graph};
use hallmark_receipt::DType;

use super::Case;
use super::forge::{Tricks, forge};
use super::liar::{Lie, Rows, filled, tell};
use crate::circuit::Step;
use crate::pcs::PcsError;
use crate::protocol::ProofError;
use crate::tests::models::{In, Make, Random, dense, dequantise, ints, quantise};

fn pooled() -> Graph {
    let (mut make, x) = Make::input(DType::F32, &[1, 1, 2, 2]);
    let x = quantise(&mut make, x);
    let x = make.node("MaxPool", &[("kernel_shape", ints(&[2, 2]))], vec![In::Of(x)]);
    let x = make.node("Flatten", &[("axis", Attr::Int(1))], vec![In::Of(x)]);
    let x = dense(&mut make, &mut Random(1), x, [1, 2]);
    let y = dequantise(&mut make, x);
    make.done(&[y])
}

#[test]
fn a_maximum_is_attained_and_the_greatest() {
    let case = Case::new(pooled(), 1);
    let honest = case.honest();
    let mut inputs = honest.columns[case.circuit.inputs[0].0].clone();
    inputs.sort_unstable();
    let greatest = inputs[3];
    let steps = case.circuit.steps.iter().rev();
    let last = steps.filter(|step| matches!(step, Step::Apply { .. })).map(filled).next().unwrap()[0];
    assert_eq!(honest.columns[last.0][0], greatest);
    // Above all of them; one of them that another exceeds; none of them, and exceeded.
    for claimed in [greatest + 1, 127.max(greatest + 1), inputs[2], inputs[0], inputs[0] - 1] {
        let lie = Lie::Element(last, 0, i64::from(claimed - greatest));
        for rows in [Rows::Input, Rows::Output] {
            let witness = tell(&case, lie, rows);
            let error = case.verify(&case.prove(&witness)).expect_err("no maximum");
            assert_eq!(error, ProofError::Fractions("inputs or outputs"), "{claimed} of {inputs:?}");
            let error = case.verify(&forge(&case, &witness, &Tricks::default())).expect_err("no maximum");
            assert!(matches!(error, ProofError::Witness(PcsError::False(_))), "{error}");
        }
    }
}
