//! A true proof offered for something else, and rows, requests and weights that stand in for others.

use hallmark_receipt::Digest;

use super::forge::{Tricks, forge};
use super::liar::{Lie, P, Rows, tell};
use super::{Case, small_model};
use crate::field::{E, from_i64};
use crate::lookup::LookupError;
use crate::mle;
use crate::pcs::{Direct, Pcs, PcsError};
use crate::program::{CheckError, Opened};
use crate::protocol::prove::{Committed, to_field};
use crate::protocol::verify::verify;
use crate::protocol::{Plan, ProofError};

fn case(requests: usize) -> Case {
    Case::new(small_model(1), requests)
}

#[test]
fn a_proof_serves_its_own_statement_alone() {
    let case = case(2);
    let bytes = case.prove(&case.honest()).encode();
    let refused = |statement| verify(&Direct, &case.circuit, &statement, &bytes).map(drop);
    assert_eq!(refused(case.statement.clone()), Ok(()));
    let mut others = vec![case.statement.clone(); 4];
    others[0].graph = Digest([1; 32]);
    others[1].model.0[31] ^= 1;
    others[2].claims[1].0[0] ^= 1;
    others[3].claims.swap(0, 1);
    for other in others {
        let error = refused(other).expect_err("another statement");
        assert!(matches!(error, ProofError::Lookup(LookupError::Layer(_))), "{error}");
    }
    let mut fewer = case.statement.clone();
    fewer.claims.pop();
    assert_eq!(refused(fewer), Err(ProofError::Claims { claims: 1, requests: 2 }));
}

#[test]
fn rows_are_their_own_requests() {
    let case = case(3);
    let honest = case.honest();
    let proven = case.verify(&case.prove(&honest)).unwrap();
    let row = |request, what, index| Err(ProofError::Row { request, what, index });
    for request in 0..3 {
        assert_eq!(proven.check_row(request, &case.rows(&honest, request)), Ok(()));
        let next = case.rows(&honest, (request + 1) % 3);
        assert_eq!(proven.check_row(request, &next), row(request, "input", 0));
        let mut mixed = case.rows(&honest, request);
        mixed[1] = next[1].clone();
        assert_eq!(proven.check_row(request, &mixed), row(request, "output", 0));
        let mut padded = case.rows(&honest, request);
        padded[0][3] += 1;
        assert_eq!(proven.check_row(request, &padded), row(request, "input", 0));
        let mut long = case.rows(&honest, request);
        long[0].extend(vec![0; 8]);
        assert_eq!(proven.check_row(request, &long), row(request, "input", 0));
    }
    let rows = case.rows(&honest, 0);
    assert_eq!(proven.check_row(3, &rows), Err(ProofError::Request(3)));
    assert_eq!(proven.check_row(0, &rows[..1]), Err(ProofError::Request(0)));
}

/// Two requests' inputs are said to be others than they are, so that at the point over requests that the
/// prover foresees they
/// make up for each other. The point comes after them.
#[test]
fn requests_cannot_make_up_for_each_other() {
    let case = case(2);
    let honest = case.honest();
    let plan = Plan::new(&case.circuit);
    // What the point would be, were the rows the true ones.
    let proof = case.prove(&honest);
    let mut t = case.statement.begin(&case.circuit, Direct.setting());
    t.absorb_bytes("witness", &proof.witness.0);
    t.draw_point(plan.row_log());
    proof.rows.iter().for_each(|row| t.absorb(row));
    let weights = mle::eq_table(&t.draw_point(plan.request_log()));
    for at in 0..proof.rows.len() {
        let change = |rows: &mut [Vec<E>], _: &[E]| {
            rows[at][0] += weights[1];
            rows[at][1] -= weights[0];
        };
        let forged = forge(&case, &honest, &Tricks { rows: Some(&change), ..Tricks::default() });
        let error = case.verify(&forged).expect_err("other rows");
        assert!(matches!(error, ProofError::Witness(PcsError::False(_))), "{error}");
    }
    // Columns that do so are other columns.
    let column = case.circuit.inputs[0];
    let each = honest.columns[column.0].len() / 2;
    let mut columns = honest.columns.clone();
    columns[column.0][0] += 1;
    columns[column.0][each] -= 1;
    let witness = super::liar::finish(&case.circuit, columns, Rows::Input);
    assert!(case.judge(&witness, &forge(&case, &witness, &Tricks::default())).is_err());
}

/// The prover says the row of the input that it would rather have, at the point that it knows by then.
#[test]
fn an_input_cannot_be_chosen_after_the_point() {
    let case = case(1);
    let honest = case.honest();
    let mut wanted = case.rows(&honest, 0)[0].clone();
    wanted[0] ^= 1;
    let change = |rows: &mut [Vec<E>], point: &[E]| {
        rows[0][0] = mle::evaluate_base(&to_field(&wanted), &point[point.len() - 3..]);
    };
    let forged = forge(&case, &honest, &Tricks { rows: Some(&change), ..Tricks::default() });
    let error = case.verify(&forged).expect_err("another input");
    assert!(matches!(error, ProofError::Witness(PcsError::False(_))), "{error}");
}

#[test]
fn requests_that_nobody_made_are_zero() {
    let case = case(3);
    for id in case.circuit.inputs.iter().chain(&case.circuit.outputs) {
        let each = case.circuit.column(*id).shape.padded() / 4;
        let witness = tell(&case, Lie::Element(*id, 3 * each, 1), Rows::Input);
        let error = case.verify(&forge(&case, &witness, &Tricks::default())).expect_err("a fourth request");
        assert!(matches!(error, ProofError::Witness(PcsError::False(_))), "{error}");
    }
}

#[test]
fn weights_are_those_of_the_commitment() {
    let case = case(1);
    let other = Case::new(small_model(2), 1);
    // The other model's weights and witness, under this model's statement.
    let mut mixed = Case::new(small_model(2), 1);
    mixed.statement = case.statement.clone();
    let witness = other.honest();
    assert_eq!(
        case.verify(&mixed.prove(&witness)).expect_err("other weights"),
        ProofError::Model(PcsError::Root)
    );
    assert_eq!(
        case.verify(&forge(&mixed, &witness, &Tricks::default())).expect_err("other weights"),
        ProofError::Model(PcsError::Root)
    );
    // The other model's witness, opened against this model's weights.
    let error = case.verify(&forge(&case, &witness, &Tricks::default())).expect_err("other weights");
    assert!(matches!(error, ProofError::Witness(_) | ProofError::Model(_)), "{error}");
    // One weight that is another integer of the same class is the same weight; the next one is not.
    let committed = |change: i64| {
        let mut columns: Vec<_> =
            case.circuit.part(true).map(|id| case.model.elements[id.0].clone()).collect();
        columns[0][0] += from_i64(change);
        Direct.commit(columns).unwrap().0
    };
    assert_eq!(committed(P), case.model.root);
    assert_ne!(committed(1), case.model.root);
    let again: Committed<Direct> = Committed::new(&Direct, &case.circuit, &case.graph).unwrap();
    assert_eq!(again.root, case.model.root);
}

#[test]
fn integers_are_compared_as_integers() {
    let case = case(1);
    let honest = case.honest();
    let proof = case.prove(&honest).encode();
    let placed = case.program.place_for(&case.requests[0]).unwrap();
    let integers = honest.outputs(&case.circuit, 0);
    let outputs = placed.after(&case.requests[0], &placed.integers(&integers).unwrap()).unwrap();
    let check = |inputs: &[_], outputs: &[_], integers: &[i32], wanted| {
        let opened = Opened { index: 0, inputs, outputs, integers };
        placed.check(&case.pcs, &case.statement, opened, &proof, wanted).map(drop)
    };
    assert_eq!(check(&case.requests[0], &outputs, &integers, 100), Ok(()));
    // The same element by another integer; one integer too few, too many; another output; another input.
    let wrapped: Vec<i32> = integers
        .iter()
        .map(|&v| i32::try_from(i64::from(v) + P).or_else(|_| i32::try_from(i64::from(v) - P)).unwrap_or(v))
        .collect();
    assert_ne!(wrapped, integers);
    let also = placed.after(&case.requests[0], &placed.integers(&wrapped).unwrap()).unwrap();
    assert_eq!(check(&case.requests[0], &also, &wrapped, 0), Err(CheckError::Integers));
    assert_eq!(check(&case.requests[0], &outputs, &integers[1..], 0), Err(CheckError::Integers));
    assert_eq!(
        check(&case.requests[0], &outputs, &[&integers[..], &[0]].concat(), 0),
        Err(CheckError::Integers)
    );
    let mut other = integers.clone();
    other[0] += 1;
    assert_eq!(check(&case.requests[0], &outputs, &other, 0), Err(CheckError::Output(0)));
    let also = placed.after(&case.requests[0], &placed.integers(&other).unwrap()).unwrap();
    let row = |what| Err(CheckError::Proof(ProofError::Row { request: 0, what, index: 0 }));
    assert_eq!(check(&case.requests[0], &also, &other, 0), row("output"));
    let elsewhere = Case::new(small_model(1), 2);
    let another = &elsewhere.requests[1];
    assert_eq!(check(another, &outputs, &integers, 0), row("input"));
    assert_eq!(check(&case.requests[0], &[], &integers, 0), Err(CheckError::Output(0)));
    let error = check(&case.requests[0], &outputs, &integers, 200);
    assert!(matches!(error, Err(CheckError::Proof(ProofError::Security { wanted: 200, .. }))), "{error:?}");
}
