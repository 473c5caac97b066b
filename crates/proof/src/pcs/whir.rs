//! WHIR (ePrint 2024/1586) over BLAKE3: short proofs that no trusted setup is behind.
//!
//! Columns of one size are the rows of one table, and all tables are stacked into one polynomial. The
//! security regime is the Johnson bound, which is proved; nothing rests on a conjecture about larger radii. A
//! handful of values is sent whole.

mod layout;
#[cfg(test)]
#[cfg(feature = "prove")]
pub(crate) mod tests;
mod wire;

use p3_blake3::Blake3;
#[cfg(feature = "prove")]
use p3_commit::MultilinearPcs;
use p3_dft::Radix2DFTSmallBatch;
#[cfg(feature = "prove")]
use p3_matrix::dense::RowMajorMatrix;
use p3_merkle_tree::{MerkleCap, MerkleTreeMmcs};
use p3_sumcheck::layout::PrefixProver;
#[cfg(feature = "prove")]
use p3_sumcheck::layout::{Layout as _, Table};
use p3_sumcheck::{OpeningBatch, PrescribedOpeningSecurity, PrescribedPointPcs, SumcheckError};
use p3_symmetric::{CompressionFunctionFromHasher, SerializingHasher};
use p3_whir::pcs::prover::WhirProver;
use p3_whir::{FoldingFactor, PcsProof, ProtocolParameters, SecurityAssumption, VerifierError, WhirConfig};

use self::layout::{Layout, Schedule};
use super::{Claim, Direct, Failure, Pcs, PcsError, Root, absorb, check_claims, total_log};
use crate::field::{E, F};
use crate::transcript::{Challenger, Transcript};

type Leaves = SerializingHasher<Blake3>;
type Nodes = CompressionFunctionFromHasher<Blake3, 2, 32>;
type Mmcs = MerkleTreeMmcs<F, u8, Leaves, Nodes, 2, 32>;
type Config = WhirConfig<E, F, Challenger>;
type Stack = PrefixProver<F, E>;
type Scheme = WhirProver<E, F, Radix2DFTSmallBatch<F>, Mmcs, Challenger, Stack>;
type Commitment = MerkleCap<F, [u8; 32]>;
#[cfg(feature = "prove")]
type Committed = <Scheme as MultilinearPcs<E, Challenger>>::ProverData;

/// Columns of no more values than 2^this, all together, are sent whole: up to there that is the shorter proof
/// too.
const WHOLE_LOG: usize = 12;

/// How unlikely a false opening is, whatever the prover computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// All terms of an opening together err with probability at most 2^-104.
    Standard,
    /// At most 2^-120.
    High,
}

/// How columns are proved.
struct Parameters {
    /// Bits that each term alone has, work included.
    level: usize,
    /// Bits of work, at most.
    work: usize,
    /// log2 of how many times longer the first code is than the data.
    rate: usize,
    /// The same of later codes, at most. They would thin out round by round, and a thin code's proximity gap
    /// is worse.
    last_rate: usize,
    /// Variables folded at first, and in each later round.
    folds: (usize, usize),
}

impl Security {
    fn parameters(self) -> Parameters {
        match self {
            Security::Standard => Parameters { level: 107, work: 14, rate: 2, last_rate: 5, folds: (6, 4) },
            Security::High => Parameters { level: 127, work: 16, rate: 2, last_rate: 5, folds: (6, 4) },
        }
    }
}

/// The scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whir {
    /// The level.
    pub security: Security,
}

/// Committed columns.
#[cfg(feature = "prove")]
pub struct Data {
    logs: Vec<usize>,
    root: Root,
    kind: Kind,
}

#[cfg(feature = "prove")]
enum Kind {
    Whole(Vec<Vec<F>>),
    Stacked(Box<Stacked>),
}

#[cfg(feature = "prove")]
struct Stacked {
    layout: Layout,
    scheme: Scheme,
    committed: Committed,
}

impl Whir {
    /// At a level.
    pub fn new(security: Security) -> Self {
        Whir { security }
    }

    /// Places and configuration of columns that are not sent whole.
    fn plan(&self, logs: &[usize]) -> Result<(Layout, Config), PcsError> {
        total_log(logs)?;
        let Parameters { level, work, rate, last_rate, folds } = self.security.parameters();
        let layout = Layout::new(logs, folds.0)?;
        let folding_factor = FoldingFactor::ConstantFromSecondRound(folds.0, folds.1);
        let schedule = folding_factor.compute_folding_schedule(layout.log).map_err(|_| PcsError::TooLarge)?;
        // Each round halves the domain and folds the data by more, so the code thins out; the last fold makes
        // none.
        let codes = schedule.iter().rev().skip(1).rev();
        let round_log_inv_rates = codes.scan(rate, |rate, fold| {
            *rate = (*rate + fold - 1).min(last_rate);
            Some(*rate)
        });
        let parameters = ProtocolParameters {
            starting_log_inv_rate: rate,
            round_log_inv_rates: round_log_inv_rates.collect(),
            folding_factor,
            soundness_type: SecurityAssumption::JohnsonBound,
            security_level: level,
            pow_bits: work,
        };
        let config = Config::new(layout.log, parameters).map_err(|_| PcsError::TooLarge)?;
        Ok((layout, config))
    }

    /// `longest`: log2 of the longest transform.
    fn scheme(config: Config, longest: usize) -> Scheme {
        let mmcs = Mmcs::new(Leaves::new(Blake3), Nodes::new(Blake3), 0);
        Scheme::new(config, Radix2DFTSmallBatch::new(1 << longest), mmcs)
    }

    /// What the scheme's own analysis says of an opening of so many claims.
    fn analysis(&self, logs: &[usize], claims: usize) -> Option<PrescribedOpeningSecurity> {
        let (layout, config) = self.plan(logs).ok()?;
        config.validate_initial_claims(claims.saturating_add(config.commitment_ood_samples())).ok()?;
        // Its bound depends on how many claims there are, not on which: all on the first column.
        let claim = Claim { column: 0, point: vec![E::default(); *logs.first()?], value: E::default() };
        let Schedule { protocol, .. } = layout.schedule(&vec![claim; claims]);
        Whir::scheme(config, 0).prescribed_security(&protocol)
    }
}

impl Pcs for Whir {
    fn setting(&self) -> &'static str {
        match self.security {
            Security::Standard => "whir standard",
            Security::High => "whir high",
        }
    }

    #[cfg(feature = "prove")]
    type Data = Data;

    #[cfg(feature = "prove")]
    fn commit(&self, columns: Vec<Vec<F>>) -> Result<(Root, Data), PcsError> {
        let logs = super::logs(&columns)?;
        if total_log(&logs)? <= WHOLE_LOG {
            let (root, columns) = Direct.commit(columns)?;
            return Ok((root, Data { logs, root, kind: Kind::Whole(columns) }));
        }
        let (layout, config) = self.plan(&logs)?;
        let table = |(log, members): &(usize, Vec<usize>)| {
            let mut values = Vec::with_capacity(members.len() << log);
            for (row, column) in members.iter().enumerate() {
                values.extend_from_slice(columns.get(*column).map(Vec::as_slice).unwrap_or_default());
                values.resize((row + 1) << log, F::default());
            }
            Table::new(RowMajorMatrix::new(values, 1 << log))
        };
        let tables = layout.tables.iter().map(table).collect();
        drop(columns);
        let witness = Stack::new_witness(tables, config.round_folding_factor(0));
        let longest = config.max_fft_size();
        let scheme = Whir::scheme(config, longest);
        // The root is the caller's to absorb; this transcript is thrown away.
        let mut nowhere = Transcript::new("commit");
        let (commitment, committed) =
            MultilinearPcs::<E, Challenger>::commit(&scheme, witness, nowhere.challenger())
                .map_err(|_| PcsError::TooLarge)?;
        let root = commitment.roots().first().map(|root| Root(*root)).ok_or(PcsError::Empty)?;
        let kind = Kind::Stacked(Box::new(Stacked { layout, scheme, committed }));
        Ok((root, Data { logs, root, kind }))
    }

    #[cfg(feature = "prove")]
    fn column<'a>(&self, data: &'a Data, index: usize) -> Option<&'a [F]> {
        match &data.kind {
            Kind::Whole(columns) => columns.get(index).map(Vec::as_slice),
            Kind::Stacked(stacked) => {
                let (table, row) = stacked.layout.places.get(index)?;
                let values = stacked.committed.table(*table).poly(*row).into_slice();
                values.get(..1 << data.logs.get(index)?)
            }
        }
    }

    #[cfg(feature = "prove")]
    fn open(&self, data: &Data, claims: &[Claim], t: &mut Transcript) -> Result<Vec<u8>, PcsError> {
        check_claims(&data.logs, claims)?;
        let stacked = match &data.kind {
            Kind::Whole(columns) => return Direct.open(columns, claims, t),
            Kind::Stacked(stacked) => stacked,
        };
        absorb("whir", &data.root, &data.logs, claims, t);
        let Schedule { protocol, points, batches } = stacked.layout.schedule(claims);
        let committed = stacked.committed.clone();
        let proof = stacked
            .scheme
            .open_at(committed, &protocol, &points, t.challenger())
            .map_err(|_| PcsError::TooManyClaims(claims.len()))?;
        for (batch, values) in batches.iter().zip(&proof.evals) {
            for (index, value) in batch.iter().zip(values.current()) {
                if claims.get(*index).is_none_or(|claim| claim.value != *value) {
                    return Err(PcsError::False(*index));
                }
            }
        }
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
        if total_log(logs)? <= WHOLE_LOG {
            return Direct.verify(root, logs, claims, proof, t);
        }
        check_claims(logs, claims)?;
        let (layout, config) = self.plan(logs)?;
        let whir = wire::read(proof, &config)?;
        absorb("whir", root, logs, claims, t);
        let Schedule { protocol, points, batches } = layout.schedule(claims);
        let value = |index: &usize| claims.get(*index).map(|claim| claim.value).unwrap_or_default();
        let evals = batches
            .iter()
            .map(|batch| OpeningBatch::new(batch.iter().map(value).collect(), Vec::new()))
            .collect();
        Whir::scheme(config, 0)
            .verify_at(
                &Commitment::new(vec![root.0]),
                &PcsProof { whir, evals },
                &protocol,
                &points,
                t.challenger(),
            )
            .map(|_| ())
            .map_err(|error| refusal(&error, claims.len()))
    }

    fn error_bits(&self, logs: &[usize], claims: usize) -> f64 {
        match total_log(logs) {
            Ok(log) if log <= WHOLE_LOG => Direct.error_bits(logs, claims),
            _ => self.analysis(logs, claims).map_or(0.0, |analysis| analysis.error().bits()),
        }
    }

    fn candidate_bits(&self, logs: &[usize]) -> f64 {
        match total_log(logs) {
            Ok(log) if log <= WHOLE_LOG => 0.0,
            _ => self.analysis(logs, 1).map_or(f64::INFINITY, |analysis| analysis.log2_max_candidates),
        }
    }
}

/// What the scheme's own error says.
fn refusal(error: &VerifierError, claims: usize) -> PcsError {
    PcsError::Argument(match *error {
        VerifierError::Config(_) => return PcsError::TooManyClaims(claims),
        VerifierError::MerkleProofInvalid { .. } => Failure::Row,
        VerifierError::InvalidPowWitness { round, bits } => Failure::Work { round, bits },
        VerifierError::Sumcheck(SumcheckError::InvalidPowWitness { round, difficulty }) => {
            Failure::FoldingWork { round, bits: difficulty }
        }
        VerifierError::NonCanonicalPowWitness { round } => Failure::NoWork { round },
        VerifierError::StirChallengeFailed { .. } => Failure::Answers,
        VerifierError::SumcheckFailed { .. } => Failure::Claims,
        // The reader has taken every number of items from the parameters.
        _ => Failure::Form,
    })
}
