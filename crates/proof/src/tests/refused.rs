//! Models that are not proved: integers that could leave the field, and graphs that are not of the form.

use hallmark_model::graph::{Attr, Dim, Graph, ValueId};
use hallmark_model::quantise::BoundError;
use hallmark_model::skeleton::Skeleton;
use hallmark_receipt::{DType, Tensor};

use super::models::{In, Make, Random, dense, dequantise, ints, quantise, requantise, small};
use super::sound::{Case, Lie, Rows, tell};
use crate::circuit::{Circuit, Step};
use crate::lower::{LowerError, Unproved};
use crate::pcs::Direct;
use crate::program::{CheckError, Program};
use crate::protocol::ProofError;
use crate::protocol::prove::{Committed, ProveError};

/// What every value and every product stays below.
const LIMIT: i64 = (1 << 30) - (1 << 24);

fn one(w: i32) -> Tensor {
    Tensor::from_vec(vec![1], vec![w]).unwrap()
}

/// `127 x + bias` for one int8, and what `then` makes of it.
fn accumulated(bias: i64, then: impl FnOnce(&mut Make, ValueId) -> ValueId) -> Graph {
    let (mut make, x) = Make::input(DType::F32, &[1, 1]);
    let x = quantise(&mut make, x);
    let weight = Tensor::from_vec(vec![1, 1], vec![127_i8]).unwrap();
    let x = make.node("MatMulInteger", &[], vec![In::Of(x), In::Is(weight)]);
    let x = make.node("Add", &[], vec![In::Of(x), In::Is(one(i32::try_from(bias).unwrap()))]);
    let x = then(&mut make, x);
    let y = dequantise(&mut make, x);
    make.done(&[y])
}

fn circuit(graph: &Graph, requests: usize) -> Result<Circuit, CheckError> {
    let program = Program::new(&Skeleton::of(graph).unwrap())?;
    let shape = crate::lower::known_dims(&graph.values[graph.inputs[0].0].info).unwrap();
    program.place_for(&[Random(1).float(&shape)])?.circuit(requests)
}

/// Whether the integers are within bounds, as far as the skeleton shows, or else the weights.
fn bounded(graph: &Graph) -> Result<(), BoundError> {
    let circuit = match circuit(graph, 1) {
        Err(CheckError::Lower(LowerError::Bounds(error))) => return Err(error),
        circuit => circuit.unwrap(),
    };
    committed(&circuit, graph)
}

fn committed(circuit: &Circuit, graph: &Graph) -> Result<(), BoundError> {
    match Committed::new(&Direct, circuit, graph) {
        Err(ProveError::Bounds(error)) => Err(error),
        committed => {
            committed.unwrap();
            Ok(())
        }
    }
}

/// Proves the requests -2, 0 and 2, which saturate to -128, 0 and 127.
fn extremes(graph: Graph) -> Case {
    let request = |x: f32| vec![Tensor::from_vec(vec![1, 1], vec![x]).unwrap()];
    let case = Case::of(Direct, graph, [-2.0, 0.0, 2.0].map(request).to_vec());
    let honest = case.honest();
    assert_eq!(case.judge(&honest, &case.prove(&honest)), Ok(()));
    case
}

#[test]
fn accumulators_at_the_limit() {
    let least = 128 * 127;
    for sign in [-1, 1] {
        let most = if sign < 0 { least } else { 127 * 127 };
        let inside = accumulated(sign * (LIMIT - 1 - most), |_, x| x);
        assert_eq!(bounded(&inside), Ok(()));
        extremes(inside);
        let outside = bounded(&accumulated(sign * (LIMIT - most), |_, x| x));
        assert!(matches!(outside, Err(BoundError::Value { got: LIMIT, .. })), "{outside:?}");
    }
}

/// Nine weights are more than a skeleton holds: only whoever has them can add them up.
#[test]
fn weights_that_overflow_are_refused_by_whoever_commits() {
    let graph = |bias: i64| {
        model(&[1, 1], |make, _, x| {
            let weight = Tensor::from_vec(vec![1, 9], vec![127_i8; 9]).unwrap();
            let x = make.node("MatMulInteger", &[], vec![In::Of(x), In::Is(weight)]);
            let bias = Tensor::vector(vec![bias as i32; 9]);
            make.node("Add", &[], vec![In::Of(x), In::Is(bias)])
        })
    };
    let most = 127 * 127;
    let check = |graph: Graph| committed(&circuit(&graph, 1).unwrap(), &graph);
    assert_eq!(check(graph(LIMIT - 1 - most)), Ok(()));
    let outside = check(graph(LIMIT - most));
    assert!(matches!(outside, Err(BoundError::Value { got: LIMIT, .. })), "{outside:?}");
}

/// A requantisation by a vector of one multiplier.
fn scaled(bias: i64, multiplier: i32, bits: i64) -> Graph {
    accumulated(bias, |make, x| {
        let attrs = [
            ("shift", Attr::Int(16)),
            ("bits", Attr::Int(bits)),
            ("low", Attr::Int(-128)),
            ("high", Attr::Int(127)),
            ("to", Attr::Int(3)),
            ("axis", Attr::Int(1)),
        ];
        make.node("Requantize", &attrs, vec![In::Of(x), In::Is(one(multiplier))])
    })
}

#[test]
fn products_at_the_limit() {
    let (least, half) = (128 * 127, 1 << 15);
    for sign in [-1, 1] {
        let most = if sign < 0 { least } else { 127 * 127 };
        let inside = scaled(sign * (LIMIT - 1 - most - half), 1, 14);
        assert_eq!(bounded(&inside), Ok(()));
        extremes(inside);
        let outside = bounded(&scaled(sign * (LIMIT - most - half), 1, 14));
        assert!(matches!(outside, Err(BoundError::Product { got: LIMIT, .. })), "{outside:?}");
    }
}

/// What no weight has a part in is checked for the shapes of every proof, by whoever verifies it: here the
/// sums of products of two
/// activations, whose number a request decides.
#[test]
fn sums_that_grow_with_the_request_are_checked_without_weights() {
    let attention = |tokens: usize| {
        model(&[1, tokens, 9], |make, random, x| {
            let x = dense(make, random, x, [9, 9]);
            let x = small(make, x, Tensor::scalar(1_i32), 12);
            let turned = make.node("Transpose", &[("perm", ints(&[0, 2, 1]))], vec![In::Of(x)]);
            let y = make.node("MatMulInteger", &[], vec![In::Of(turned), In::Of(x)]);
            requantise(make, y, Tensor::scalar(1 << 10), 16, false, 1)
        })
    };
    // 64 * 128 * 128 * 2^10 = 2^30.
    assert!(circuit(&attention(62), 1).is_ok());
    let refused = circuit(&attention(63), 1).map(drop);
    let product = matches!(&refused, Err(CheckError::Lower(LowerError::Bounds(BoundError::Product { .. }))));
    assert!(product, "{refused:?}");
}

/// What a request makes longer than the commitment speaks for. The weights are more than a skeleton holds.
#[test]
fn promises_are_for_the_shapes_of_the_commitment() {
    let open = |dims: &[usize], op: &dyn Fn(&mut Make, &mut Random, ValueId) -> ValueId| {
        let mut graph = model(dims, op);
        let at = dims.iter().position(|n| *n == 1).unwrap();
        let input = graph.inputs[0].0;
        graph.values[input].info.shape.as_mut().unwrap()[at] = Dim::Symbol("n".to_owned());
        graph
    };
    let placed = |graph: &Graph, dims: &[usize]| {
        let program = Program::new(&Skeleton::of(graph).unwrap()).unwrap();
        program.place_for(&[Random(1).float(dims)])?.circuit(1).map(drop)
    };
    let grown = |graph: &Graph, dims: &[usize]| match placed(graph, dims) {
        Err(CheckError::Lower(LowerError::Bounds(BoundError::Grown { op, .. }))) => op,
        other => panic!("{other:?}"),
    };
    // A sum over the open axis of what weights made.
    let summed = open(&[3, 1, 9], &|make, random, x| {
        let x = dense(make, random, x, [9, 9]);
        make.node("ReduceSum", &[], vec![In::Of(x), In::Is(Tensor::vector(vec![1_i64]))])
    });
    assert_eq!(placed(&summed, &[3, 1, 9]), Ok(()));
    assert_eq!(grown(&summed, &[3, 2, 9]), "ReduceSum");
    // Over another axis, it adds up as many.
    let beside = open(&[3, 1, 9], &|make, random, x| {
        let x = dense(make, random, x, [9, 9]);
        make.node("ReduceSum", &[], vec![In::Of(x), In::Is(Tensor::vector(vec![0_i64]))])
    });
    assert_eq!(placed(&beside, &[3, 7, 9]), Ok(()));
    // A sum of two activations' products grows with the axis: multipliers that nobody sees are for the shortest.
    let attention = |multipliers: &Tensor| {
        open(&[3, 1, 9], &|make, _, x| {
            let turned = make.node("Transpose", &[("perm", ints(&[0, 2, 1]))], vec![In::Of(x)]);
            let y = make.node("MatMulInteger", &[], vec![In::Of(turned), In::Of(x)]);
            requantise(make, y, multipliers.clone(), 16, false, 2)
        })
    };
    let (seen, unseen) = (Tensor::scalar(1 << 10), Tensor::vector(vec![1 << 10; 9]));
    assert_eq!(placed(&attention(&seen), &[3, 60, 9]), Ok(()));
    assert_eq!(placed(&attention(&unseen), &[3, 1, 9]), Ok(()));
    assert_eq!(grown(&attention(&unseen), &[3, 2, 9]), "Requantize");
    // Weights that multiply it, too.
    let scaled = open(&[3, 1, 9], &|make, random, x| {
        let turned = make.node("Transpose", &[("perm", ints(&[0, 2, 1]))], vec![In::Of(x)]);
        let y = make.node("MatMulInteger", &[], vec![In::Of(turned), In::Of(x)]);
        make.node("Mul", &[], vec![In::Of(y), In::Is(random.int32(&[9], 100))])
    });
    assert_eq!(grown(&scaled, &[3, 2, 9]), "Mul");
    // Rows that do not meet stay what they were.
    let rows = open(&[1, 9], &|make, random, x| {
        let x = dense(make, random, x, [9, 9]);
        let x = requantise(make, x, random.multipliers(9), 14, true, 1);
        dense(make, random, x, [9, 9])
    });
    assert_eq!(placed(&rows, &[50, 9]), Ok(()));
}

#[test]
fn promises_and_multipliers_are_checked() {
    assert_eq!(bounded(&scaled(1 << 23, 8, 12)), Ok(()));
    let broken = bounded(&scaled(1 << 23, 8, 9));
    assert!(matches!(broken, Err(BoundError::Bits { bits: 9, .. })), "{broken:?}");
    // Nine are more than a skeleton holds, so whoever has only that cannot see them.
    for multiplier in [0, -1, 32_769] {
        let graph = model(&[1, 2], |make, random, x| {
            let x = make.node("MatMulInteger", &[], vec![In::Of(x), In::Is(random.int8(&[2, 9]))]);
            let mut by = vec![1; 9];
            by[4] = multiplier;
            small(make, x, Tensor::vector(by), 12)
        });
        let refused = committed(&circuit(&graph, 1).unwrap(), &graph);
        let expected = i64::from(multiplier);
        assert!(
            matches!(&refused, Err(BoundError::Multiplier { got, .. }) if *got == expected),
            "{refused:?}"
        );
    }
}

/// A promise may be wider than the field, since a graph's own executors need none. The quotient of the
/// dividend plus p is
/// still none.
#[test]
fn dividends_do_not_wrap() {
    for (shift, bias) in
        [(16, 0), (15, -(LIMIT - 1 - 128 * 127 - (1 << 14))), (15, LIMIT - 1 - 127 * 127 - (1 << 14))]
    {
        let graph = accumulated(bias, |make, x| requantise(make, x, one(1), shift, false, 1));
        let case = extremes(graph);
        let is = |step: &Step| matches!(step, Step::Divide { column: Some(_), .. });
        let step = case.circuit.steps.iter().position(is).unwrap();
        for by in [super::sound::P, -super::sound::P] {
            for request in 0..3 {
                let witness = tell(&case, Lie::Dividend(step, request, by), Rows::Input);
                let error =
                    case.judge(&witness, &case.prove(&witness)).expect_err("a quotient of another integer");
                assert_eq!(error, ProofError::Fractions("inputs or outputs"), "{shift} {bias} {by}");
            }
        }
    }
}

/// The node that is refused, and why.
fn unproved(graph: &Graph, requests: usize) -> (&'static str, Unproved) {
    match circuit(graph, requests) {
        Err(CheckError::Lower(LowerError::Node { op, why, .. })) => (op, why),
        other => panic!("{:?}", other.map(drop)),
    }
}

fn model(dims: &[usize], op: impl FnOnce(&mut Make, &mut Random, ValueId) -> ValueId) -> Graph {
    let (mut make, x) = Make::input(DType::F32, dims);
    let x = quantise(&mut make, x);
    let x = op(&mut make, &mut Random(1), x);
    let y = dequantise(&mut make, x);
    make.done(&[y])
}

#[test]
fn what_cannot_be_proved_is_named() {
    let wide = |make: &mut Make, x| make.node("Cast", &[("to", Attr::Int(6))], vec![In::Of(x)]);
    let float = |make: &mut Make, random: &mut Random, x| {
        make.node("MatMul", &[], vec![In::Of(x), In::Is(random.float(&[40, 40]))])
    };
    // Weights of floats, before the integers and after them; weights of integers that come back.
    let (mut make, x) = Make::input(DType::F32, &[1, 40]);
    let x = float(&mut make, &mut Random(1), x);
    let x = quantise(&mut make, x);
    let x = dense(&mut make, &mut Random(1), x, [40, 2]);
    let y = dequantise(&mut make, x);
    assert_eq!(unproved(&make.done(&[y]), 1), ("MatMul", Unproved::FloatWeights(DType::F32)));
    let (mut make, x) = Make::input(DType::F32, &[1, 40]);
    let x = quantise(&mut make, x);
    let x = dense(&mut make, &mut Random(1), x, [40, 40]);
    let x = dequantise(&mut make, x);
    let x = float(&mut make, &mut Random(1), x);
    assert_eq!(unproved(&make.done(&[x]), 1), ("MatMul", Unproved::FloatWeights(DType::F32)));
    let island = model(&[1, 40], |make, random, x| {
        let x = dense(make, random, x, [40, 40]);
        let x = dequantise(make, x);
        let x = quantise(make, x);
        dense(make, random, x, [40, 40])
    });
    assert_eq!(unproved(&island, 1), ("MatMulInteger", Unproved::Island));

    let form = |dims: &[usize], op: &dyn Fn(&mut Make, &mut Random, ValueId) -> ValueId| match unproved(
        &model(dims, op),
        1,
    ) {
        (op, Unproved::Form(why)) => (op, why),
        other => panic!("{other:?}"),
    };
    let sums = "sums and products are proved of int32";
    for name in ["Add", "Sub", "Mul"] {
        let narrow = form(&[2, 3], &|make, _, x| make.node(name, &[], vec![In::Of(x), In::Of(x)]));
        assert_eq!(narrow, (name, sums));
    }
    let zero = form(&[2, 3], &|make, random, x| {
        let zero = Tensor::scalar(1_i8);
        make.node("MatMulInteger", &[], vec![In::Of(x), In::Is(random.int8(&[3, 2])), In::Is(zero)])
    });
    assert_eq!(zero.0, "MatMulInteger");
    let narrowed = form(&[2, 3], &|make, _, x| {
        let x = wide(make, x);
        make.node("Cast", &[("to", Attr::Int(3))], vec![In::Of(x)])
    });
    assert_eq!(narrowed, ("Cast", "the cast narrows its values"));
    let padded = form(&[2, 3], &|make, _, x| {
        let pads = Tensor::vector(vec![0_i64, 1, 0, 0]);
        make.node("Pad", &[], vec![In::Of(x), In::Is(pads), In::Is(Tensor::scalar(1_i8))])
    });
    assert_eq!(padded.0, "Pad");
    let moved = form(&[2, 3], &|make, _, x| {
        let x = wide(make, x);
        make.node("GatherElements", &[], vec![In::Of(x), In::Of(x)])
    });
    assert_eq!(moved, ("GatherElements", "where it moves elements depends on the request"));
    let long = form(&[1, 1 << 12], &|make, _, x| {
        let attrs = [("table", ints(&[4095; 256]))];
        let x = make.node("IntegerSoftmax", &attrs, vec![In::Of(x)]);
        wide(make, x)
    });
    assert_eq!(long.0, "IntegerSoftmax");
}

#[test]
fn numbers_of_requests_and_elements_are_bounded() {
    let graph = model(&[1, 1 << 20], |make, _, x| {
        make.node("Table", &[("table", ints(&[0; 256])), ("to", Attr::Int(3))], vec![In::Of(x)])
    });
    for got in [0, 4097] {
        assert_eq!(
            circuit(&graph, got).map(drop),
            Err(CheckError::Lower(LowerError::Requests { got, limit: 4096 }))
        );
    }
    assert!(circuit(&graph, 64).is_ok());
    assert_eq!(circuit(&graph, 128).map(drop), Err(CheckError::Lower(LowerError::TooLarge { got: 1 << 27 })));
    // Many lookups of elements that are within bounds each.
    let many = model(&[1, 1 << 20], |make, _, mut x| {
        for _ in 0..17 {
            x = make.node("Table", &[("table", ints(&[0; 256])), ("to", Attr::Int(3))], vec![In::Of(x)]);
        }
        x
    });
    assert_eq!(circuit(&many, 64).map(drop), Err(CheckError::Lower(LowerError::LookedUp { got: 17 << 26 })));
    let (mut make, x) = Make::input(DType::F32, &[1, 4]);
    let y = make.node("Relu", &[], vec![In::Of(x)]);
    assert_eq!(circuit(&make.done(&[y]), 1).map(drop), Err(CheckError::Lower(LowerError::NotQuantised)));
}

#[test]
fn expressions_do_not_grow_with_the_graph() {
    // A sum that doubles forty times: 2^40 terms, if they were kept.
    let doubled = model(&[2, 3], |make, random, x| {
        let mut x = dense(make, random, x, [3, 3]);
        for _ in 0..40 {
            x = make.node("Add", &[], vec![In::Of(x), In::Of(x)]);
        }
        x
    });
    assert!(circuit(&doubled, 1).is_ok());
    assert!(matches!(bounded(&doubled), Err(BoundError::Value { .. })));
    let multiplied = model(&[2, 3], |make, random, x| {
        let mut x = dense(make, random, x, [3, 3]);
        for _ in 0..9 {
            x = make.node("Mul", &[], vec![In::Of(x), In::Is(Tensor::scalar(1 << 30))]);
        }
        x
    });
    let (op, why) = unproved(&multiplied, 1);
    assert_eq!((op, why), ("Mul", Unproved::Form("it multiplies by more than the field holds")));
    let kept = model(&[2, 3], |make, random, x| {
        let mut x = dense(make, random, x, [3, 3]);
        for _ in 0..7 {
            x = make.node("Add", &[], vec![In::Of(x), In::Of(x)]);
        }
        small(make, x, Tensor::scalar(3_i32), 16)
    });
    let case = Case::new(kept, 3);
    let honest = case.honest();
    assert_eq!(case.judge(&honest, &case.prove(&honest)), Ok(()));
}
