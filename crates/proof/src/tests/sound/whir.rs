//! Lies about what is committed to and what is opened, under the scheme that proofs use.

use p3_whir::QueryOpenings;

use super::{Case, small_model};
use crate::field::{F, PrimeCharacteristicRing};
use crate::pcs::whir_tests::{Proof as Opening, Swapped, changed, work};
use crate::pcs::{Failure, PcsError, Security, Whir};
use crate::protocol::prove::{Committed, prove_witness};
use crate::protocol::{Proof, ProofError, part_logs};

fn case() -> Case<Whir> {
    Case::under(Whir::new(Security::Standard), small_model(1), 1)
}

/// Why `proof` is refused once its opening of the witness was changed.
fn refused(case: &Case<Whir>, proof: &Proof, change: impl FnOnce(&mut Opening)) -> Failure {
    let mut proof = proof.clone();
    let logs = part_logs(&case.circuit, false);
    let bytes = changed(&case.pcs, &logs, &proof.openings[0], change);
    assert_ne!(bytes, proof.openings[0]);
    proof.openings[0] = bytes;
    match case.verify(&proof) {
        Err(ProofError::Witness(PcsError::Argument(failure))) => failure,
        other => panic!("{other:?}"),
    }
}

#[test]
fn witnesses_of_work_have_all_their_bits() {
    let case = case();
    let proof = case.prove(&case.honest());
    let due = work(&case.pcs, &part_logs(&case.circuit, false));
    let last = due.len() - 1;
    assert!(due.iter().any(|bits| *bits > 0), "{due:?}");
    for (round, bits) in due.into_iter().enumerate() {
        // Some of these clear all bits but the last few; hardly one clears all, and with another witness come other queries.
        let mut lucky = 0;
        for by in 1..40_u32 {
            let failure = refused(&case, &proof, |opening| {
                let witness = if round == last {
                    &mut opening.final_pow_witness
                } else {
                    &mut opening.rounds[round].pow_witness
                };
                *witness += F::from_u32(by);
            });
            if bits == 0 {
                assert_eq!(failure, Failure::NoWork { round });
            } else if failure != (Failure::Work { round, bits }) {
                assert_eq!(failure, Failure::Row);
                lucky += 1;
            }
        }
        assert!(lucky <= (80 >> bits) + 1, "{lucky} of 39 clear {bits} bits");
    }
}

#[test]
fn answers_are_those_of_the_positions_that_were_queried() {
    let case = case();
    let proof = case.prove(&case.honest());
    let first = |opening: &mut Opening, change: &dyn Fn(&mut Vec<Vec<F>>)| {
        let openings = match opening.rounds.first_mut() {
            Some(round) => &mut round.openings,
            None => &mut opening.final_openings,
        };
        let QueryOpenings::Base(opened) = openings else { panic!("rows of the base field") };
        change(&mut opened.rows);
    };
    // Rows of other positions of the same code, and a row that is of none.
    assert_eq!(refused(&case, &proof, |opening| first(opening, &|rows| rows.swap(0, 1))), Failure::Row);
    assert_eq!(refused(&case, &proof, |opening| first(opening, &|rows| rows.rotate_left(1))), Failure::Row);
    assert_eq!(
        refused(&case, &proof, |opening| first(opening, &|rows| rows[0] = rows[1].clone())),
        Failure::Row
    );
    assert_eq!(refused(&case, &proof, |opening| first(opening, &|rows| rows[0][0] += F::ONE)), Failure::Row);
    // All rows with their paths, of the queries of another proof for the same columns.
    let mut other = self::case();
    other.statement.claims[0].0[0] ^= 1;
    let elsewhere = other.prove(&other.honest());
    assert_eq!(elsewhere.witness, proof.witness);
    let logs = part_logs(&case.circuit, false);
    let mut taken = None;
    changed(&case.pcs, &logs, &elsewhere.openings[0], |opening| {
        taken = Some((
            opening.rounds.first().map(|round| round.openings.clone()),
            opening.final_openings.clone(),
        ));
    });
    let (round, last) = taken.unwrap();
    let failure = refused(&case, &proof, |opening| match (opening.rounds.first_mut(), round) {
        (Some(own), Some(other)) => own.openings = other,
        _ => opening.final_openings = last,
    });
    assert_eq!(failure, Failure::Row);
}

#[test]
fn the_last_polynomial_is_that_of_rows_and_claims() {
    let case = case();
    let proof = case.prove(&case.honest());
    // The queries come from it, so that another polynomial has other rows.
    let failure = refused(&case, &proof, |opening| {
        let mut values = opening.final_poly.as_ref().unwrap().as_slice().to_vec();
        values[0] += crate::field::E::ONE;
        opening.final_poly = Some(p3_multilinear_util::poly::Poly::new(values));
    });
    assert!(matches!(failure, Failure::Work { .. } | Failure::Row | Failure::Answers), "{failure}");
}

#[test]
fn columns_do_not_change_places() {
    let case = case();
    let witness = case.honest();
    let logs = part_logs(&case.circuit, false);
    // Two columns of one size and of different values.
    let columns: Vec<_> = case.circuit.part(false).map(|id| &witness.columns[id.0]).collect();
    let pairs = (0..columns.len()).flat_map(|a| (0..a).map(move |b| [b, a]));
    let pair = pairs.into_iter().find(|[a, b]| logs[*a] == logs[*b] && columns[*a] != columns[*b]).unwrap();
    let liar = Swapped { whir: case.pcs, columns: pair };
    let data = Case::under(case.pcs, small_model(1), 1).model;
    let model: Committed<Swapped> =
        Committed { root: data.root, data: data.data, integers: data.integers, elements: data.elements };
    let proof = prove_witness(&liar, &case.circuit, &case.statement, &model, &witness, &mut |_| ()).unwrap();
    assert_ne!(proof.witness, case.prove(&witness).witness);
    let error = case.verify(&proof).expect_err("two columns in each other's place");
    assert!(matches!(error, ProofError::Witness(PcsError::Argument(_))), "{error}");
    let same = Swapped { columns: [pair[0]; 2], ..liar };
    let honest = prove_witness(&same, &case.circuit, &case.statement, &model, &witness, &mut |_| ()).unwrap();
    assert_eq!(case.judge(&witness, &honest), Ok(()), "and nothing else is wrong with it");
}
