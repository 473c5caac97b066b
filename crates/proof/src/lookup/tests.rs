use proptest::prelude::*;

use super::*;
use crate::field::{F, Field};
use crate::mle;
use crate::testing::{Random, flips};

fn transcript() -> Transcript {
    Transcript::new("lookup test")
}

/// Blocks of these sizes whose fractions sum to zero: the first numerators of the last block are chosen so,
/// if they can.
fn balanced(logs: &[usize], random: &mut Random) -> Vec<Block> {
    let mut blocks: Vec<Block> = logs
        .iter()
        .map(|log| Block {
            log: *log,
            numerators: (random.below(3) > 0).then(|| random.bases(1 << log)),
            denominators: random.elements(1 << log),
        })
        .collect();
    // A numerator is a base element: the last fraction of all can only cancel the rest through its
    // denominator.
    let last = blocks.last_mut().unwrap();
    let place = last.denominators.len() - 1;
    let mut numerators = last.numerators.take().unwrap_or_else(|| vec![F::ONE; place + 1]);
    numerators[place] = F::TWO;
    last.numerators = Some(numerators);
    let rest = sum(&blocks) - E::TWO * blocks.last().unwrap().denominators[place].inverse();
    if rest == E::ZERO {
        // A single fraction: zero over anything.
        blocks.last_mut().unwrap().numerators = Some(vec![F::ZERO]);
    } else {
        blocks.last_mut().unwrap().denominators[place] = -E::TWO * rest.inverse();
    }
    blocks
}

fn sum(blocks: &[Block]) -> E {
    let fraction = |block: &Block, i: usize| {
        let numerator = block.numerators.as_ref().map_or(F::ONE, |numerators| numerators[i]);
        block.denominators[i].inverse() * numerator
    };
    blocks.iter().map(|block| (0..1 << block.log).map(|i| fraction(block, i)).sum::<E>()).sum()
}

fn proved(logs: &[usize]) -> GkrProof {
    prove(&balanced(logs, &mut Random(11)), &mut transcript()).unwrap().0
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn balanced_fractions_are_proved_and_reduce_to_true_values(
        logs in prop::collection::vec(0..8usize, 1..6),
        seed in any::<u64>(),
    ) {
        let mut logs = logs;
        logs.sort_by(|a, b| b.cmp(a));
        let blocks = balanced(&logs, &mut Random(seed));
        prop_assert_eq!(sum(&blocks), E::ZERO);
        let (mut t, mut u) = (transcript(), transcript());
        let (proof, reduced) = prove(&blocks, &mut t).unwrap();
        let mut writer = Writer::new();
        proof.write(&mut writer);
        let bytes = writer.finish();
        let mut reader = Reader::new(&bytes);
        let read = GkrProof::read(&mut reader, &logs).unwrap();
        prop_assert_eq!(reader.finish(), Ok(()));
        prop_assert_eq!(&read, &proof);
        prop_assert_eq!(verify(&logs, &read, &mut u), Ok(reduced.clone()));
        prop_assert_eq!(t.draw(), u.draw());

        let placement = placement(&logs, &reduced.point).unwrap();
        let (mut numerator, mut denominator) = (E::ZERO, placement.filler);
        for (block, (weight, start)) in blocks.iter().zip(&placement.blocks) {
            let own = &reduced.point[*start..];
            numerator += *weight * block.numerators.as_ref().map_or(E::ONE, |n| mle::evaluate_base(n, own));
            denominator += *weight * mle::evaluate(&block.denominators, own);
        }
        prop_assert_eq!((numerator, denominator), (reduced.numerator, reduced.denominator));
    }
}

#[test]
fn every_changed_byte_is_refused() {
    let logs = [3, 2, 1];
    let mut writer = Writer::new();
    proved(&logs).write(&mut writer);
    for (at, bytes) in flips(&writer.finish()) {
        let mut reader = Reader::new(&bytes);
        let refused = match GkrProof::read(&mut reader, &logs) {
            Err(error) => error == CodecError::NotCanonical,
            // The end of the last layer is bound by its rounds alone; what it claims is for the caller to
            // check.
            Ok(proof) => verify(&logs, &proof, &mut transcript()).is_err(),
        };
        assert!(refused, "byte {at}");
    }
}

#[test]
fn fractions_that_do_not_cancel_are_refused() {
    let logs = [4, 3, 3];
    for (block, place) in [(0, 0), (1, 5), (2, 7)] {
        let mut blocks = balanced(&logs, &mut Random(5));
        let numerators = blocks[block].numerators.get_or_insert_with(|| vec![F::ONE; 1 << logs[block]]);
        numerators[place] += F::ONE;
        let (proof, _) = prove(&blocks, &mut transcript()).unwrap();
        assert_eq!(verify(&logs, &proof, &mut transcript()), Err(LookupError::Sum));
    }
}

#[test]
fn a_zero_denominator_is_refused() {
    let logs = [4, 3, 3];
    for numerator in [F::ZERO, F::ONE] {
        let mut blocks = balanced(&logs, &mut Random(5));
        blocks[1].numerators.get_or_insert_with(|| vec![F::ONE; 8])[2] = numerator;
        blocks[1].denominators[2] = E::ZERO;
        let (proof, _) = prove(&blocks, &mut transcript()).unwrap();
        assert_eq!(verify(&logs, &proof, &mut transcript()), Err(LookupError::Denominator));
    }
    let single = Block { log: 0, numerators: Some(vec![F::ZERO]), denominators: vec![E::ZERO] };
    let (proof, _) = prove(&[single], &mut transcript()).unwrap();
    assert_eq!(verify(&[0], &proof, &mut transcript()), Err(LookupError::Denominator));
}

#[test]
fn no_fraction_sums_to_nothing() {
    let (mut proof, reduced) = prove(&[], &mut transcript()).unwrap();
    assert_eq!(proof.root, Some([E::ZERO, E::ONE]));
    assert_eq!(verify(&[], &proof, &mut transcript()), Ok(reduced));
    proof.root = Some([E::ONE, E::ONE]);
    assert_eq!(verify(&[], &proof, &mut transcript()), Err(LookupError::Sum));
}

#[test]
fn each_wrong_shape_has_its_error() {
    let logs = [2, 1];
    let proof = proved(&logs);
    let check = |logs: &[usize], proof: &GkrProof| verify(logs, proof, &mut transcript());
    assert!(check(&logs, &proof).is_ok());
    assert_eq!(check(&[], &proof), Err(LookupError::Layers { expected: 0, got: 3 }));
    assert_eq!(check(&[1, 2], &proof), Err(LookupError::Block(1)));
    assert_eq!(check(&[MAX_LOG + 1], &proof), Err(LookupError::Block(0)));
    assert_eq!(check(&[MAX_LOG, 0], &proof), Err(LookupError::Block(1)));
    assert_eq!(check(&[3, 3], &proof), Err(LookupError::Layers { expected: 4, got: 3 }));
    assert_eq!(check(&[1, 1], &proof), Err(LookupError::Layers { expected: 2, got: 3 }));
    // Other blocks of one cube: what is absorbed differs.
    assert!(matches!(check(&[2, 2], &proof), Err(LookupError::Layer(_))));

    let mut rooted = proof.clone();
    rooted.root = Some([E::ZERO, E::ONE]);
    assert_eq!(check(&logs, &rooted), Err(LookupError::Root));
    let mut bare = proved(&[0]);
    bare.root = None;
    assert_eq!(check(&[0], &bare), Err(LookupError::Root));
    for layer in 0..3 {
        let mut rounds = proof.clone();
        rounds.layers[layer].rounds.push([E::ZERO; 2]);
        assert_eq!(check(&logs, &rounds), Err(LookupError::Rounds { layer, got: layer + 1 }));
    }

    let denominators = vec![E::ONE; 2];
    let long = Block { log: 1, numerators: Some(vec![F::ONE; 4]), denominators: denominators.clone() };
    let short = Block { log: 2, numerators: None, denominators };
    let huge = Block { log: MAX_LOG, ..short.clone() };
    for block in [long, short, huge] {
        assert_eq!(prove(&[block], &mut transcript()).err(), Some(LookupError::Block(0)));
    }
}

#[test]
fn weights_of_places_are_those_of_the_stack() {
    let logs = [3, 1, 0];
    let point = Random(2).elements(4);
    let placement = placement(&logs, &point).unwrap();
    let table = mle::eq_table(&point);
    let sums = |range: core::ops::Range<usize>| table[range].iter().copied().sum::<E>();
    let weights: Vec<E> = placement.blocks.iter().map(|(weight, _)| *weight).collect();
    assert_eq!(weights, [sums(0..8), sums(8..10), sums(10..11)]);
    assert_eq!(placement.filler, sums(11..16));
    assert_eq!(placement.blocks.iter().map(|(_, start)| *start).collect::<Vec<_>>(), [1, 3, 4]);
    let short = super::placement(&logs, &point[..3]);
    assert_eq!(short, Err(LookupError::Layers { expected: 4, got: 3 }));
}
