//! What is absorbed, in which order, and in which number: traps of transcripts, rounds and encodings.

use super::forge::{Tricks, forge};
use super::{Case, small_model};
use crate::codec::CodecError;
use crate::field::{CHARACTERISTIC, E, PrimeCharacteristicRing};
use crate::lookup::LookupError;
use crate::pcs::{Direct, Pcs, PcsError, Root, Security, Whir};
use crate::protocol::verify::verify;
use crate::protocol::{Plan, Proof, ProofError, VERSION};
use crate::sumcheck::SumcheckError;
use crate::transcript::Transcript;

fn case() -> Case {
    Case::new(small_model(1), 2)
}

/// The statement's transcript, item by item, without the item `left_out`.
fn begun_without(case: &Case, left_out: Option<usize>) -> Transcript {
    let statement = &case.statement;
    let mut items: Vec<(&str, Vec<u8>)> = vec![
        ("model", statement.model.0.to_vec()),
        ("graph", statement.graph.as_bytes().to_vec()),
        ("setting", Direct.setting().as_bytes().to_vec()),
        ("circuit", case.circuit.encode()),
        ("claims", (statement.claims.len() as u64).to_le_bytes().to_vec()),
    ];
    items.extend(statement.claims.iter().map(|claim| ("claim", claim.as_bytes().to_vec())));
    let mut t = Transcript::new(VERSION);
    for (index, (label, bytes)) in items.iter().enumerate() {
        if Some(index) != left_out {
            t.absorb_bytes(label, bytes);
        }
    }
    t
}

#[test]
fn everything_in_the_statement_is_absorbed_before_the_first_challenge() {
    let case = case();
    let witness = case.honest();
    let whole = Tricks { start: Some(begun_without(&case, None)), ..Tricks::default() };
    let honest = forge(&case, &witness, &whole);
    assert_eq!(case.judge(&witness, &honest), Ok(()), "and nothing else is");
    assert_eq!(honest, case.prove(&witness), "a prover without a lie is the crate's own");
    for item in 0..7 {
        let start = Some(begun_without(&case, Some(item)));
        let proof = forge(&case, &witness, &Tricks { start, ..Tricks::default() });
        let error = case.verify(&proof).expect_err("another transcript");
        assert!(matches!(error, ProofError::Lookup(LookupError::Layer(_))), "{item}: {error}");
    }
}

#[test]
fn the_circuits_encoding_tells_shapes_and_requests_apart() {
    let case = case();
    let encoded = case.circuit.encode();
    let mut others =
        vec![Case::new(small_model(1), 1).circuit.encode(), Case::new(small_model(1), 3).circuit.encode()];
    let mut changed = |change: &dyn Fn(&mut crate::circuit::Circuit)| {
        let mut other = case.circuit.clone();
        change(&mut other);
        others.push(other.encode());
    };
    changed(&|c| c.columns[0].shape.0.swap(1, 2));
    changed(&|c| c.columns[0].shape.0.push(1));
    changed(&|c| c.inputs[0].0 += 1);
    changed(&|c| c.outputs[0].0 -= 1);
    changed(&|c| c.outputs.clear());
    changed(&|c| c.tables[0].log += 1);
    changed(&|c| c.tables[0].start -= 1);
    changed(&|c| drop(c.lookups.pop()));
    changed(&|c| drop(c.zeros.pop()));
    changed(&|c| c.requests += 1);
    for (index, other) in others.iter().enumerate() {
        assert_ne!(*other, encoded, "{index}");
    }
}

/// `proof` with one change.
fn with(proof: &Proof, change: impl FnOnce(&mut Proof)) -> Proof {
    let mut proof = proof.clone();
    change(&mut proof);
    proof
}

#[test]
fn each_message_that_is_changed_has_its_error() {
    let case = case();
    let proof = case.prove(&case.honest());
    let refused = |change: &dyn Fn(&mut Proof)| case.verify(&with(&proof, change)).expect_err("a change");
    let layer = ProofError::Lookup(LookupError::Layer(1));
    assert_eq!(refused(&|p| p.witness = Root([7; 32])), layer);
    for row in 0..proof.rows.len() {
        assert_eq!(refused(&|p| p.rows[row][0] += E::ONE), layer);
        // Rows that change places, and rows that make up for each other.
        assert_eq!(refused(&|p| p.rows[row].swap(0, 1)), layer);
    }
    assert_eq!(
        refused(&|p| p.fractions.layers[0].children[0] += E::ONE),
        ProofError::Lookup(LookupError::Sum)
    );
    let last = proof.fractions.layers.len() - 1;
    for k in [1, last] {
        let at = ProofError::Lookup(LookupError::Layer(k));
        assert_eq!(refused(&|p| p.fractions.layers[k].rounds[0][1] += E::ONE), at);
        assert_eq!(refused(&|p| p.fractions.layers[k].children[3] += E::ONE), at);
    }
    assert_eq!(refused(&|p| p.multiplicities[0] += E::ONE), ProofError::Fractions("multiplicities"));
    let plan = Plan::new(&case.circuit);
    for (at, (_, place)) in plan.terms.iter().enumerate() {
        let error = match place {
            crate::protocol::Place::Block(_) => ProofError::Fractions("inputs or outputs"),
            crate::protocol::Place::Zero => ProofError::Identity(0),
        };
        assert_eq!(refused(&|p| p.terms[at] += E::ONE), error, "term {at}");
    }
    let products = || ProofError::Products(SumcheckError::Sum);
    let views = || ProofError::Views(SumcheckError::Sum);
    assert_eq!(refused(&|p| p.products.as_mut().unwrap().rounds[0][0] += E::ONE), products());
    assert_eq!(refused(&|p| p.products.as_mut().unwrap().factors[0][1] += E::ONE), products());
    assert_eq!(refused(&|p| p.views.as_mut().unwrap().rounds[0][1] += E::ONE), views());
    assert_eq!(refused(&|p| p.views.as_mut().unwrap().factors[0][1] += E::ONE), views());
    // Factors whose product is right, but not the one that the verifier knows.
    let paired = proof.products.as_ref().unwrap().factors.iter().position(|f| f.len() == 3).unwrap();
    let error = refused(&|p| {
        let factors = &mut p.products.as_mut().unwrap().factors[paired];
        factors[2] = factors[2].double();
        factors[0] = factors[0].halve();
    });
    assert_eq!(error, ProofError::Weight(paired));
    let error = refused(&|p| {
        let factors = &mut p.views.as_mut().unwrap().factors[0];
        factors[0] = factors[0].double();
        factors[1] = factors[1].halve();
    });
    assert_eq!(error, ProofError::Map(0));
    assert_eq!(refused(&|p| p.openings[0][0] ^= 1), ProofError::Witness(PcsError::Root));
    assert_eq!(refused(&|p| p.openings[1][0] ^= 1), ProofError::Model(PcsError::Root));
}

#[test]
fn rounds_layers_and_factors_have_the_number_that_the_circuit_implies() {
    let case = case();
    let proof = case.prove(&case.honest());
    let changes: [&dyn Fn(&mut Proof); 14] = [
        &|p| drop(p.fractions.layers.pop()),
        &|p| drop(p.fractions.layers.remove(1)),
        &|p| p.fractions.layers.push(p.fractions.layers[1].clone()),
        &|p| p.fractions.layers[2].rounds.truncate(1),
        &|p| p.fractions.layers[2].rounds.push([E::ONE; 2]),
        &|p| p.fractions.root = Some([E::ZERO, E::ONE]),
        &|p| drop(p.products.as_mut().unwrap().rounds.pop()),
        &|p| p.products.as_mut().unwrap().rounds[0].push(E::ZERO),
        &|p| drop(p.products.as_mut().unwrap().factors.pop()),
        &|p| p.products = None,
        &|p| drop(p.views.as_mut().unwrap().rounds.pop()),
        &|p| p.views = None,
        &|p| p.terms.truncate(1),
        &|p| drop(p.rows.pop()),
    ];
    for (index, change) in changes.iter().enumerate() {
        let error = case.verify(&with(&proof, change)).expect_err("another number");
        assert!(matches!(error, ProofError::Format(_)), "{index}: {error}");
    }
}

#[test]
fn encodings_are_canonical_and_bounded() {
    let case = case();
    let proof = case.prove(&case.honest());
    let bytes = proof.encode();
    let plan = Plan::new(&case.circuit);
    assert_eq!(Proof::decode(&bytes, &plan).unwrap().encode(), bytes);
    let refused = |bytes: &[u8]| match verify(&Direct, &case.circuit, &case.statement, bytes) {
        Err(ProofError::Format(error)) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&[&bytes[..], &[0]].concat()), CodecError::Trailing(1));
    assert!(matches!(refused(&bytes[..bytes.len() - 1]), CodecError::Short { .. }));
    assert!(matches!(refused(&[]), CodecError::Short { .. }));
    let put = |at: usize, value: u32| {
        let mut bytes = bytes.clone();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        bytes
    };
    // The first row's first limb, as itself plus p, and as p.
    let limb = u32::from_le_bytes(bytes[32..36].try_into().unwrap());
    assert_eq!(refused(&put(32, CHARACTERISTIC)), CodecError::NotCanonical);
    if let Some(again) = limb.checked_add(CHARACTERISTIC) {
        assert_eq!(refused(&put(32, again)), CodecError::NotCanonical);
    }
    let counts = [bytes.len() - proof.openings[1].len() - 4, bytes.len() - proof.openings.concat().len() - 8];
    for at in counts {
        assert!(matches!(refused(&put(at, u32::MAX)), CodecError::TooMany { .. }));
    }
}

#[test]
fn levels_of_security_are_not_the_provers_to_choose() {
    let [standard, high] = [Security::Standard, Security::High].map(|security| Whir { security });
    for (made, asked) in [(standard, high), (high, standard)] {
        let made = Case::under(made, small_model(1), 1);
        let bytes = made.prove(&made.honest()).encode();
        assert!(verify(&made.pcs, &made.circuit, &made.statement, &bytes).is_ok());
        let error = verify(&asked, &made.circuit, &made.statement, &bytes).expect_err("another level");
        assert!(matches!(error, ProofError::Lookup(LookupError::Layer(_))), "{error}");
        // Columns that are sent whole are another setting, too.
        let error = verify(&Direct, &made.circuit, &made.statement, &bytes).expect_err("another scheme");
        assert!(matches!(error, ProofError::Lookup(LookupError::Layer(_))), "{error}");
    }
}

#[test]
fn openings_are_made_for_the_claims_and_with_all_queries() {
    let case = Case::under(Whir { security: Security::Standard }, small_model(1), 1);
    let proof = case.prove(&case.honest());
    // An opening of the same columns for the claims of another statement.
    let mut other = Case::under(case.pcs, small_model(1), 1);
    other.statement.claims[0].0[0] ^= 1;
    let elsewhere = other.prove(&other.honest());
    assert_eq!(elsewhere.witness, proof.witness);
    let error = case.verify(&with(&proof, |p| p.openings = elsewhere.openings)).expect_err("other claims");
    assert!(matches!(error, ProofError::Witness(PcsError::Argument(_))), "{error}");
    // Bytes that are missing at the end, or everywhere.
    for keep in [0, proof.openings[0].len() / 2, proof.openings[0].len() - 1] {
        let error =
            case.verify(&with(&proof, |p| p.openings[0].truncate(keep))).expect_err("missing queries");
        assert!(matches!(error, ProofError::Witness(PcsError::Codec(CodecError::Short { .. }))), "{error}");
    }
    let error = case.verify(&with(&proof, |p| p.openings[0].push(0))).expect_err("a byte more");
    assert_eq!(error, ProofError::Witness(PcsError::Codec(CodecError::Trailing(1))));
}
