//! Traps of lookups: multiplicities, denominators, and which table it is.

use hallmark_model::graph::{Attr, Graph};
use hallmark_receipt::DType;

use super::Case;
use super::forge::{Tricks, forge};
use super::liar::{Rows, finish};
use crate::field::{BasedVectorSpace, E, F, Field, PrimeCharacteristicRing, from_i64, to_i64};
use crate::lookup::LookupError;
use crate::mle;
use crate::pcs::PcsError;
use crate::protocol::prove::to_field;
use crate::protocol::{Plan, ProofError};
use crate::tests::models::{In, Make, Random, dense, dequantise, ints, quantise};
use crate::witness::{Witness, evaluate};

/// Two functions by table, one after the other.
fn two_tables() -> Graph {
    let mut random = Random(1);
    let (mut make, x) = Make::input(DType::F32, &[1, 4]);
    let mut x = quantise(&mut make, x);
    let gelu = |v: i64| if v < 0 { v / 16 } else { v };
    let relu = |v: i64| v.max(0);
    for function in [gelu, relu] {
        let values: Vec<i64> = (-128..128).map(function).collect();
        x = make.node("Table", &[("table", ints(&values)), ("to", Attr::Int(3))], vec![In::Of(x)]);
    }
    let x = dense(&mut make, &mut random, x, [4, 2]);
    let y = dequantise(&mut make, x);
    make.done(&[y])
}

fn refused(case: &Case, witness: &Witness) -> ProofError {
    case.verify(&case.prove(witness)).expect_err("a false proof")
}

#[test]
fn multiplicities_are_those_of_what_is_looked_up() {
    let case = Case::new(two_tables(), 1);
    let honest = case.honest();
    let read = honest.multiplicities[0].iter().position(|m| *m > 0).unwrap();
    let changed = |change: &dyn Fn(&mut Witness)| {
        let mut witness = Witness {
            columns: honest.columns.clone(),
            rows: honest.rows.clone(),
            multiplicities: honest.multiplicities.clone(),
        };
        change(&mut witness);
        refused(&case, &witness)
    };
    let sum = || ProofError::Lookup(LookupError::Sum);
    assert_eq!(changed(&|w| w.multiplicities[0][read] += 1), sum());
    assert_eq!(changed(&|w| w.multiplicities[0][read] = 0), sum());
    assert_eq!(changed(&|w| w.multiplicities[0].swap(read, 0)), sum());
    // One more here and p - 1 more there do not add up to nothing.
    assert_eq!(
        changed(&|w| {
            w.multiplicities[0][0] += 1;
            w.multiplicities[0][1] = crate::field::CHARACTERISTIC - 1;
        }),
        sum()
    );
    // The same element, counted p times more, is the same proof.
    let mut witness = case.honest();
    witness.multiplicities[0][read] += crate::field::CHARACTERISTIC;
    assert_eq!(case.judge(&honest, &case.prove(&witness)), Ok(()));
}

#[test]
fn a_relu_is_no_gelu() {
    let case = Case::new(two_tables(), 1);
    // The prover's own circuit computes the second function twice.
    let mut other = Case::new(two_tables(), 1);
    let first = other.circuit.lookups.iter().position(|l| l.output.is_some()).unwrap();
    let second =
        (first + 1..other.circuit.lookups.len()).find(|i| other.circuit.lookups[*i].output.is_some());
    let table = other.circuit.lookups[second.unwrap()].table;
    other.circuit.lookups[first].table = table;
    for step in &mut other.circuit.steps {
        if let crate::circuit::Step::Apply { table: own, lookup, .. } = step
            && *lookup == first
        {
            *own = table;
        }
    }
    let witness = other.honest();
    assert_ne!(witness.columns, case.honest().columns);
    assert_eq!(other.judge(&witness, &other.prove(&witness)), Ok(()), "it holds of the other function");
    let inputs = ProofError::Fractions("inputs or outputs");
    assert_eq!(case.verify(&other.prove(&witness)).expect_err("another table"), inputs);
    let tricks = Tricks { circuit: Some(&other.circuit), ..Tricks::default() };
    assert_eq!(case.verify(&forge(&case, &witness, &tricks)).expect_err("another table"), inputs);
    // The right tables, with rows of the first that are not there.
    let witness = finish(&case.circuit, witness.columns, Rows::Output);
    assert_eq!(refused(&case, &witness), inputs);
    let error = case.verify(&forge(&case, &witness, &Tricks::default())).expect_err("another function");
    assert!(matches!(error, ProofError::Witness(PcsError::False(_))), "{error}");
}

#[test]
fn a_denominator_of_zero_hides_nothing() {
    let case = Case::new(two_tables(), 1);
    let proof = case.prove(&case.honest());
    for children in [[E::ZERO, E::ONE, E::ZERO, E::ONE], [E::ONE, E::ZERO, E::ONE, E::ZERO], [E::ZERO; 4]] {
        let mut proof = proof.clone();
        proof.fractions.layers[0].children = children;
        assert_eq!(case.verify(&proof).expect_err("0/0"), ProofError::Lookup(LookupError::Denominator));
    }
    // A lookup with a denominator of zero, and the others whatever the prover likes.
    let blocks = |blocks: &mut [crate::lookup::Block], _: E, _: E| blocks[0].denominators[0] = E::ZERO;
    let proof = forge(&case, &case.honest(), &Tricks { blocks: Some(&blocks), ..Tricks::default() });
    let error = case.verify(&proof).expect_err("a zero");
    assert!(matches!(error, ProofError::Lookup(LookupError::Denominator | LookupError::Sum)), "{error}");
}

/// Solves `a x = b` over the field by elimination.
fn solve(mut rows: Vec<[F; 6]>) -> [F; 5] {
    for i in 0..5 {
        let pivot = (i..5).find(|&k| rows[k][i] != F::ZERO).expect("independent columns");
        rows.swap(i, pivot);
        let inverse = rows[i][i].inverse();
        rows[i].iter_mut().for_each(|v| *v *= inverse);
        for k in (0..5).filter(|&k| k != i) {
            let factor = rows[k][i];
            let pivot = rows[i];
            rows[k].iter_mut().zip(pivot).for_each(|(v, p)| *v -= factor * p);
        }
    }
    std::array::from_fn(|i| rows[i][5])
}

/// Whoever knows alpha and beta can choose multiplicities, which are of the base field, so that the
/// fractions of a false element
/// cancel: five unknowns for five coordinates. So they are committed to before.
#[test]
fn multiplicities_cannot_be_solved_for() {
    let case = Case::new(two_tables(), 1);
    let lookup = case.circuit.lookups.iter().position(|l| l.output.is_some()).unwrap();
    let table = case.circuit.lookups[lookup].table.0;
    let mut columns = case.honest().columns;
    let crate::circuit::Term::View(view) = &case.circuit.lookups[lookup].output.as_ref().unwrap().terms[0].1
    else {
        panic!("a column")
    };
    columns[view.column.0][0] += 1;
    let mut witness = finish(&case.circuit, columns, Rows::Input);
    // The true denominators of the first lookup of a function, in whichever block it is.
    let plan = Plan::new(&case.circuit);
    let block = plan.parts.iter().position(|p| *p == crate::protocol::Part::Lookup(lookup)).unwrap();
    let values = |expr| evaluate(&case.circuit, &witness.columns, expr);
    let inputs = values(&case.circuit.lookups[lookup].input);
    let outputs = values(case.circuit.lookups[lookup].output.as_ref().unwrap());
    let tag = |alpha: E, beta: E, input: i64, output: i64| {
        let tail = beta * (E::from(from_i64(output)) + beta * E::from(F::from_usize(table)));
        alpha - E::from(from_i64(input)) - tail
    };
    let solved = std::cell::RefCell::new(None);
    let tell_the_truth = |blocks: &mut [crate::lookup::Block], alpha: E, beta: E| {
        let own = inputs.iter().zip(&outputs).map(|(i, o)| tag(alpha, beta, *i, *o));
        let before: E = blocks[block].denominators.iter().map(|d| d.inverse()).sum();
        blocks[block].denominators = own.collect();
        let after: E = blocks[block].denominators.iter().map(|d| d.inverse()).sum();
        let place = plan.parts.iter().position(|p| *p == crate::protocol::Part::Table(table)).unwrap();
        let fractions: Vec<E> = (0..5).map(|row| blocks[place].denominators[row].inverse()).collect();
        let limbs = |e: E| -> Vec<F> { e.as_basis_coefficients_slice().to_vec() };
        let missing = limbs(after - before);
        let rows = (0..5).map(|limb| {
            std::array::from_fn(|k| if k == 5 { missing[limb] } else { limbs(fractions[k])[limb] })
        });
        let more = solve(rows.collect());
        // With these it would have been a sum of zero.
        let numerators = blocks[place].numerators.as_mut().unwrap();
        numerators.iter_mut().zip(more).for_each(|(n, m)| *n -= m);
        solved.replace(Some(more));
    };
    let tricks = Tricks { blocks: Some(&tell_the_truth), ..Tricks::default() };
    let proof = forge(&case, &witness, &tricks);
    assert_eq!(
        case.verify(&proof).expect_err("not what was committed to"),
        ProofError::Fractions("multiplicities")
    );
    let more = solved.borrow().unwrap();
    for (m, more) in witness.multiplicities[table].iter_mut().zip(more) {
        *m = to_i64(F::from_u32(*m) + more).rem_euclid(i64::from(crate::field::CHARACTERISTIC)) as u32;
    }
    let tell_the_truth = |blocks: &mut [crate::lookup::Block], alpha: E, beta: E| {
        let own = inputs.iter().zip(&outputs).map(|(i, o)| tag(alpha, beta, *i, *o));
        blocks[block].denominators = own.collect();
    };
    let tricks = Tricks { blocks: Some(&tell_the_truth), ..Tricks::default() };
    let error = case.verify(&forge(&case, &witness, &tricks)).expect_err("other challenges");
    assert_eq!(error, ProofError::Lookup(LookupError::Sum));
    // The column itself, for the record, is not what the table says.
    let point = vec![E::TWO; 2];
    let of = |w: &Witness| mle::evaluate_base(&to_field(&w.columns[view.column.0]), &point);
    assert_ne!(of(&witness), of(&case.honest()));
}
