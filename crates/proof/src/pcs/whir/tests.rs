//! Openings taken apart, for provers that lie about them.

use super::*;

/// An opening of columns that are not sent whole.
pub(crate) type Proof = p3_whir::WhirProof<F, E, Mmcs>;

/// `bytes`, an opening of columns of these sizes that are not sent whole, after `change`.
pub(crate) fn changed(whir: &Whir, logs: &[usize], bytes: &[u8], change: impl FnOnce(&mut Proof)) -> Vec<u8> {
    let (_, config) = whir.plan(logs).unwrap();
    let mut proof = wire::read(bytes, &config).unwrap();
    change(&mut proof);
    wire::write(&proof)
}

/// Bits of work before the queries of every round, the last one's at the end.
pub(crate) fn work(whir: &Whir, logs: &[usize]) -> Vec<usize> {
    let (_, config) = whir.plan(logs).unwrap();
    let rounds = config.round_parameters().iter().map(|round| round.pow_bits);
    rounds.chain([config.final_round_config().pow_bits]).collect()
}

/// A prover that commits to two columns in each other's place, and opens them as if it had not.
#[derive(Clone, Copy)]
pub(crate) struct Swapped {
    pub whir: Whir,
    pub columns: [usize; 2],
}

impl Pcs for Swapped {
    type Data = Data;

    fn setting(&self) -> &'static str {
        self.whir.setting()
    }

    fn commit(&self, mut columns: Vec<Vec<F>>) -> Result<(Root, Data), PcsError> {
        columns.swap(self.columns[0], self.columns[1]);
        self.whir.commit(columns)
    }

    fn column<'a>(&self, data: &'a Data, index: usize) -> Option<&'a [F]> {
        self.whir.column(data, index)
    }

    /// The transcript has the claimed values; the argument is about what was committed to.
    fn open(&self, data: &Data, claims: &[Claim], t: &mut Transcript) -> Result<Vec<u8>, PcsError> {
        let Kind::Stacked(stacked) = &data.kind else { return self.whir.open(data, claims, t) };
        absorb("whir", &data.root, &data.logs, claims, t);
        let Schedule { protocol, points, .. } = stacked.layout.schedule(claims);
        let proof =
            stacked.scheme.open_at(stacked.committed.clone(), &protocol, &points, t.challenger()).unwrap();
        Ok(wire::write(&proof.whir))
    }

    fn verify(
        &self,
        root: &Root,
        logs: &[usize],
        claims: &[Claim],
        proof: &[u8],
        t: &mut Transcript,
    ) -> Result<(), PcsError> {
        self.whir.verify(root, logs, claims, proof, t)
    }

    fn error_bits(&self, logs: &[usize], claims: usize) -> f64 {
        self.whir.error_bits(logs, claims)
    }

    fn candidate_bits(&self, logs: &[usize]) -> f64 {
        self.whir.candidate_bits(logs)
    }
}

#[test]
fn each_cause_has_its_own_error() {
    let of = |error| refusal(&error, 3);
    assert_eq!(
        of(VerifierError::InvalidPowWitness { round: 1, bits: 9 }),
        Failure::Work { round: 1, bits: 9 }.into()
    );
    let folding = SumcheckError::InvalidPowWitness { round: 2, difficulty: 5 };
    assert_eq!(of(folding.into()), Failure::FoldingWork { round: 2, bits: 5 }.into());
    assert_eq!(of(VerifierError::NonCanonicalPowWitness { round: 0 }), Failure::NoWork { round: 0 }.into());
    assert_eq!(of(VerifierError::MissingFinalPoly), Failure::Form.into());
}
