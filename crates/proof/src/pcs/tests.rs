use proptest::prelude::*;

use super::*;
use crate::field::PrimeCharacteristicRing;
use crate::mle;
use crate::testing::{Random, flips};

const STANDARD: Whir = Whir { security: Security::Standard };

fn columns(logs: &[usize], random: &mut Random) -> Vec<Vec<F>> {
    logs.iter().map(|log| random.bases(1 << log)).collect()
}

/// Claims on these columns at random points; `of` names columns.
fn claims(columns: &[Vec<F>], of: &[usize], random: &mut Random) -> Vec<Claim> {
    let claim = |column: &usize| {
        let table = &columns[*column];
        let point = random.elements(table.len().ilog2() as usize);
        Claim { column: *column, value: mle::evaluate_base(table, &point), point }
    };
    of.iter().map(claim).collect()
}

fn transcript() -> Transcript {
    Transcript::new("pcs test")
}

/// Commits, opens and verifies; the transcripts must agree afterwards.
fn round_trip<P: Pcs>(pcs: &P, table: &[Vec<F>], claims: &[Claim]) -> (Root, Vec<u8>) {
    let logs = logs(table).unwrap();
    let (root, data) = pcs.commit(table.to_vec()).unwrap();
    for (index, column) in table.iter().enumerate() {
        assert_eq!(pcs.column(&data, index), Some(column.as_slice()));
    }
    assert_eq!(pcs.column(&data, table.len()), None);
    let (mut t, mut u) = (transcript(), transcript());
    let proof = pcs.open(&data, claims, &mut t).unwrap();
    assert_eq!(pcs.open(&data, claims, &mut transcript()).unwrap(), proof, "data can be opened again");
    pcs.verify(&root, &logs, claims, &proof, &mut u).unwrap();
    assert_eq!(t.draw(), u.draw());
    (root, proof)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn both_schemes_agree_on_random_claims(
        logs in prop::collection::vec(0..10usize, 1..7),
        large in any::<bool>(),
        of in prop::collection::vec(any::<u32>(), 1..6),
        seed in any::<u64>(),
        wrong in any::<u32>(),
    ) {
        let mut random = Random(seed);
        let mut logs = logs;
        if large {
            logs.push(12); // beyond what is sent whole
        }
        let table = columns(&logs, &mut random);
        let of: Vec<usize> = of.iter().map(|column| *column as usize % logs.len()).collect();
        let claims = claims(&table, &of, &mut random);
        let (direct, direct_proof) = round_trip(&Direct, &table, &claims);
        let (whir, whir_proof) = round_trip(&STANDARD, &table, &claims);
        let wrong = wrong as usize % claims.len();
        let mut false_claims = claims;
        false_claims[wrong].value += E::ONE;
        let (_, data) = STANDARD.commit(table.clone()).unwrap();
        prop_assert_eq!(STANDARD.open(&data, &false_claims, &mut transcript()), Err(PcsError::False(wrong)));
        prop_assert_eq!(Direct.open(&table, &false_claims, &mut transcript()), Err(PcsError::False(wrong)));
        prop_assert!(Direct.verify(&direct, &logs, &false_claims, &direct_proof, &mut transcript()).is_err());
        prop_assert!(STANDARD.verify(&whir, &logs, &false_claims, &whir_proof, &mut transcript()).is_err());
    }
}

#[test]
fn one_column_may_have_many_claims_and_others_none() {
    let mut random = Random(4);
    let table = columns(&[11, 2, 11, 0, 12], &mut random);
    let mut claims = claims(&table, &[2, 2, 4, 2, 1, 0, 0], &mut random);
    // Two columns of a size at one point, and one claim twice.
    claims[5] = Claim {
        column: 0,
        point: claims[0].point.clone(),
        value: mle::evaluate_base(&table[0], &claims[0].point),
    };
    claims[6] = claims[5].clone();
    round_trip(&STANDARD, &table, &claims);
    round_trip(&Whir::new(Security::High), &table, &claims);
}

/// Changes every `step`th byte, and cuts and lengthens.
fn tamper(logs: &[usize], step: usize) {
    let mut random = Random(9);
    let table = columns(logs, &mut random);
    let claims = claims(&table, &[0, 1], &mut random);
    let (root, proof) = round_trip(&STANDARD, &table, &claims);
    let verify = |bytes: &[u8]| STANDARD.verify(&root, logs, &claims, bytes, &mut transcript());
    for (at, bytes) in flips(&proof).step_by(step) {
        assert!(verify(&bytes).is_err(), "byte {at}");
    }
    for at in (0..proof.len()).step_by(97) {
        assert!(matches!(verify(&proof[..at]), Err(PcsError::Codec(_))), "cut at {at}");
    }
    let longer = [proof.as_slice(), &[0]].concat();
    assert_eq!(verify(&longer), Err(PcsError::Codec(CodecError::Trailing(1))));
}

#[test]
fn changed_bytes_are_refused() {
    tamper(&[4, 3, 0], 1);
    tamper(&[12, 4], 61);
}

#[test]
#[ignore = "exhaustive: a minute"]
fn every_changed_byte_is_refused() {
    tamper(&[12, 4], 1);
}

#[test]
fn what_is_opened_is_bound() {
    let mut random = Random(6);
    let logs = [12, 12, 3];
    let table = columns(&logs, &mut random);
    let made = claims(&table, &[0, 1, 2], &mut random);
    let (root, proof) = round_trip(&STANDARD, &table, &made);
    let refused = |root: &Root, logs: &[usize], claims: &[Claim]| {
        STANDARD.verify(root, logs, claims, &proof, &mut transcript()).is_err()
    };
    assert!(!refused(&root, &logs, &made));
    let mut other = root;
    other.0[31] ^= 1;
    assert!(refused(&other, &logs, &made));
    let mut swapped = made.clone();
    (swapped[0].column, swapped[1].column) = (1, 0);
    assert!(refused(&root, &logs, &swapped));
    let mut moved = made.clone();
    moved[2].point[0] += E::ONE;
    assert!(refused(&root, &logs, &moved));
    assert!(refused(&root, &logs, &made[..2]));
    assert!(refused(&root, &[12, 12, 3, 0], &made));
    let elsewhere = STANDARD.verify(&root, &logs, &made, &proof, &mut Transcript::new("elsewhere"));
    assert!(elsewhere.is_err());
    let high = Whir::new(Security::High).verify(&root, &logs, &made, &proof, &mut transcript());
    assert!(high.is_err());
}

#[test]
fn each_wrong_shape_has_its_error() {
    let mut random = Random(8);
    let logs = [12, 2];
    let table = columns(&logs, &mut random);
    let made = claims(&table, &[0, 1], &mut random);
    let (root, data) = STANDARD.commit(table).unwrap();
    let verify =
        |logs: &[usize], claims: &[Claim]| STANDARD.verify(&root, logs, claims, &[], &mut transcript());
    assert_eq!(verify(&[], &made), Err(PcsError::Empty));
    assert_eq!(verify(&[MAX_LOG + 1], &made), Err(PcsError::TooLarge));
    assert_eq!(verify(&[MAX_LOG, 0], &made), Err(PcsError::TooLarge));
    assert_eq!(verify(&vec![0; MAX_COLUMNS + 1], &made), Err(PcsError::TooLarge));
    assert_eq!(verify(&logs, &[]), Err(PcsError::NoClaim));
    assert_eq!(verify(&[12, 3], &made), Err(PcsError::Claim(1)));
    assert_eq!(verify(&[12], &made), Err(PcsError::Claim(1)));
    let many = vec![made[0].clone(); MAX_CLAIMS + 1];
    assert_eq!(verify(&logs, &many), Err(PcsError::TooManyClaims(MAX_CLAIMS + 1)));
    assert_eq!(STANDARD.open(&data, &[], &mut transcript()), Err(PcsError::NoClaim));
    assert_eq!(STANDARD.commit(vec![vec![F::ONE; 3]]).err(), Some(PcsError::Length(0)));
    assert_eq!(STANDARD.commit(vec![vec![F::ONE], Vec::new()]).err(), Some(PcsError::Length(1)));
    assert_eq!(STANDARD.commit(Vec::new()).err(), Some(PcsError::Empty));
}

#[test]
fn every_size_reaches_its_level() {
    for log in 0..=MAX_LOG {
        for (security, wanted) in [(Security::Standard, 104.0), (Security::High, 120.0)] {
            for claims in [1, 200, 4096] {
                let bits = Whir::new(security).error_bits(&[log], claims);
                assert!(bits >= wanted, "{security:?} 2^{log} with {claims} claims: {bits}");
            }
        }
    }
}

#[test]
fn candidates_are_those_of_the_johnson_bound() {
    assert!(STANDARD.candidate_bits(&[12]).abs() < 1e-9);
    let (rate, bits) = (4.0_f64, STANDARD.candidate_bits(&[20]));
    assert!((bits - (10.0 * rate).log2()).abs() < 1e-9, "{bits}");
}
