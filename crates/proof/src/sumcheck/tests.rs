use proptest::prelude::*;

use super::*;
use crate::mle;
use crate::testing::{Random, flips};

type Made = (Vec<Instance>, Vec<Shape>, Vec<E>);

fn lifted(table: &Table) -> Vec<E> {
    match table {
        Table::Base(values) => values.iter().map(|value| E::from(*value)).collect(),
        Table::Ext(values) => values.clone(),
    }
}

/// Instances of these shapes with random factors, base or not by the bits of `kinds`, and their true sums.
fn make(shapes: &[(usize, usize)], kinds: u64, random: &mut Random) -> Made {
    let shapes: Vec<Shape> =
        shapes.iter().map(|(log, degree)| Shape { log: *log, degree: *degree }).collect();
    let mut instances = Vec::new();
    let mut sums = Vec::new();
    for (index, shape) in shapes.iter().enumerate() {
        let factors: Vec<Table> = (0..shape.degree)
            .map(|factor| match kinds >> (3 * index + factor) & 1 {
                0 => Table::Base(random.bases(1 << shape.log)),
                _ => Table::Ext(random.elements(1 << shape.log)),
            })
            .collect();
        let tables: Vec<Vec<E>> = factors.iter().map(lifted).collect();
        sums.push((0..1 << shape.log).map(|row| tables.iter().map(|table| table[row]).product::<E>()).sum());
        instances.push(Instance { factors });
    }
    (instances, shapes, sums)
}

fn transcript() -> Transcript {
    Transcript::new("sumcheck test")
}

fn proved(shapes: &[(usize, usize)]) -> (Vec<Shape>, Vec<E>, SumcheckProof) {
    let (instances, shapes, sums) = make(shapes, 0b101_001_110, &mut Random(7));
    let (proof, ..) = prove(instances, &sums, &mut transcript()).unwrap();
    (shapes, sums, proof)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn true_sums_are_proved_and_reduce_to_true_values(
        shapes in prop::collection::vec((0..9usize, 1..=3usize), 1..5),
        kinds in any::<u64>(),
        seed in any::<u64>(),
    ) {
        let (instances, shapes, sums) = make(&shapes, kinds, &mut Random(seed));
        let (mut t, mut u) = (transcript(), transcript());
        let (proof, point, factors) = prove(instances.clone(), &sums, &mut t).unwrap();
        let mut writer = Writer::new();
        proof.write(&mut writer);
        let bytes = writer.finish();
        let mut reader = Reader::new(&bytes);
        let read = SumcheckProof::read(&mut reader, &shapes).unwrap();
        prop_assert_eq!(reader.finish(), Ok(()));
        prop_assert_eq!(&read, &proof);
        prop_assert_eq!(verify(&shapes, &sums, &read, &mut u), Ok((point.clone(), factors.clone())));
        prop_assert_eq!(t.draw(), u.draw());
        for ((instance, shape), values) in instances.iter().zip(&shapes).zip(&factors) {
            let own = &point[point.len() - shape.log..];
            for (factor, value) in instance.factors.iter().zip(values) {
                prop_assert_eq!(mle::evaluate(&lifted(factor), own), *value);
            }
        }
    }

    #[test]
    fn a_false_sum_is_refused(log in 0..6usize, degree in 1..=3usize, which in 0..3usize) {
        let (instances, shapes, mut sums) = make(&[(log, degree), (3, 2), (1, 1)], 5, &mut Random(3));
        sums[which] += E::ONE;
        let (proof, ..) = prove(instances, &sums, &mut transcript()).unwrap();
        prop_assert_eq!(verify(&shapes, &sums, &proof, &mut transcript()), Err(SumcheckError::Sum));
    }
}

#[test]
fn every_changed_byte_is_refused() {
    let (shapes, sums, proof) = proved(&[(3, 3), (2, 2), (0, 1)]);
    let mut writer = Writer::new();
    proof.write(&mut writer);
    for (at, bytes) in flips(&writer.finish()) {
        let mut reader = Reader::new(&bytes);
        let refused = match SumcheckProof::read(&mut reader, &shapes) {
            Err(error) => error == CodecError::NotCanonical,
            Ok(proof) => verify(&shapes, &sums, &proof, &mut transcript()) == Err(SumcheckError::Sum),
        };
        assert!(refused, "byte {at}");
    }
}

#[test]
fn claims_and_shapes_are_bound() {
    let (shapes, sums, proof) = proved(&[(3, 2), (3, 2)]);
    // Sums that compensate each other under equal coefficients.
    let shifted = [sums[0] + E::ONE, sums[1] - E::ONE];
    assert_eq!(verify(&shapes, &shifted, &proof, &mut transcript()), Err(SumcheckError::Sum));
    let swapped = [sums[1], sums[0]];
    assert_eq!(verify(&shapes, &swapped, &proof, &mut transcript()), Err(SumcheckError::Sum));
    assert_eq!(verify(&shapes, &sums, &proof, &mut Transcript::new("other")), Err(SumcheckError::Sum));
}

#[test]
fn each_wrong_shape_has_its_error() {
    let (shapes, sums, proof) = proved(&[(3, 2), (1, 1)]);
    let check =
        |shapes: &[Shape], sums: &[E], proof: &SumcheckProof| verify(shapes, sums, proof, &mut transcript());
    assert!(check(&shapes, &sums, &proof).is_ok());
    assert_eq!(check(&[], &[], &proof), Err(SumcheckError::Empty));
    for bad in
        [Shape { log: MAX_LOG + 1, degree: 1 }, Shape { log: 1, degree: 0 }, Shape { log: 1, degree: 4 }]
    {
        assert_eq!(check(&[shapes[0], bad], &sums, &proof), Err(SumcheckError::Shape(1)));
    }
    assert_eq!(check(&shapes, &sums[..1], &proof), Err(SumcheckError::Claims { expected: 2, got: 1 }));

    let mut extra = proof.clone();
    extra.rounds.push(vec![E::ZERO; 2]);
    assert_eq!(check(&shapes, &sums, &extra), Err(SumcheckError::Rounds { expected: 3, got: 4 }));
    let mut less = proof.clone();
    less.rounds.pop();
    assert_eq!(check(&shapes, &sums, &less), Err(SumcheckError::Rounds { expected: 3, got: 2 }));
    let mut degree = proof.clone();
    degree.rounds[1].push(E::ZERO);
    assert_eq!(check(&shapes, &sums, &degree), Err(SumcheckError::Degree { round: 1, expected: 2, got: 3 }));
    let mut factors = proof.clone();
    factors.factors[1].push(E::ONE);
    assert_eq!(check(&shapes, &sums, &factors), Err(SumcheckError::Factors));
    factors.factors.pop();
    assert_eq!(check(&shapes, &sums, &factors), Err(SumcheckError::Factors));

    let ragged = Instance { factors: vec![Table::Base(vec![F::ONE; 4]), Table::Ext(vec![E::ONE; 2])] };
    let three = Instance { factors: vec![Table::Base(vec![F::ONE; 3])] };
    for instance in [ragged, three, Instance { factors: Vec::new() }] {
        assert_eq!(prove(vec![instance], &[E::ONE], &mut transcript()).err(), Some(SumcheckError::Shape(0)));
    }
}

#[test]
fn the_error_grows_with_rounds_and_degree() {
    let bits = |log, degree| error_bits(&[Shape { log, degree }]);
    assert!((bits(1, 1) - FIELD_BITS).abs() < 1e-9);
    assert!((bits(16, 2) - (FIELD_BITS - 5.0)).abs() < 1e-9);
    assert!(bits(30, 3) < bits(30, 2));
}
