//! Commitments to polynomials (`proof.md` §C): tables over the base field, called columns, behind one root;
//! later their values at points that the transcript drew.
//!
//! [`Whir`] is what proofs use. [`Direct`] sends the columns themselves: slow, obvious, and what tests
//! compare with.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod direct;
#[cfg(test)]
#[cfg(feature = "prove")]
mod tests;
mod whir;
#[cfg(test)]
#[cfg(feature = "prove")]
pub(crate) use whir::tests as whir_tests;

use crate::codec::CodecError;
use crate::field::E;
#[cfg(feature = "prove")]
use crate::field::F;
use crate::transcript::Transcript;

pub use direct::Direct;
pub use whir::{Security, Whir};

/// The most variables that the columns of one commitment may take together.
pub const MAX_LOG: usize = 28;

/// The most columns of one commitment.
pub const MAX_COLUMNS: usize = 1 << 16;

/// The most claims of one opening.
pub const MAX_CLAIMS: usize = 1 << 16;

/// What the verifier holds of committed columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Root(pub [u8; 32]);

/// A column's value at a point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Which column.
    pub column: usize,
    /// As many coordinates as the column has variables.
    pub point: Vec<E>,
    /// The value.
    pub value: E,
}

/// Why columns cannot be committed, or an opening is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PcsError {
    /// There is no column.
    #[error("a commitment to no column")]
    Empty,
    /// A column's length is no power of two.
    #[error("column {0} has a length that is no power of two")]
    Length(usize),
    /// The columns together are above [`MAX_LOG`] or [`MAX_COLUMNS`].
    #[error("the columns are too many or too large for one commitment")]
    TooLarge,
    /// There is no claim.
    #[error("an opening without a claim")]
    NoClaim,
    /// There are more than [`MAX_CLAIMS`], or more than the security level allows.
    #[error("{0} claims are too many for one opening")]
    TooManyClaims(usize),
    /// A claim on a column that is not there, or at a point of another size.
    #[error("claim {0} does not fit the columns")]
    Claim(usize),
    /// The prover's column does not have the claimed value.
    #[error("claim {0} is false")]
    False(usize),
    /// The bytes are no proof for these columns and claims.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The columns sent are not those behind the root.
    #[error("the columns do not hash to the root")]
    Root,
    /// The argument fails.
    #[error("the opening fails: {0}")]
    Argument(#[from] Failure),
}

/// What of a [`Whir`] opening does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// A queried row is not the one behind its round's root.
    #[error("a row that was queried is not under its root")]
    Row,
    /// Too little work before a round's queries; the last round counts, too.
    #[error("less than {bits} bits of work were done before the queries of round {round}")]
    Work {
        /// The round.
        round: usize,
        /// The bits of work that are due.
        bits: usize,
    },
    /// Too little work in a round of a sumcheck.
    #[error("less than {bits} bits of work were done in round {round} of a sumcheck")]
    FoldingWork {
        /// The sumcheck's round.
        round: usize,
        /// The bits of work that are due.
        bits: usize,
    },
    /// A witness of work where none is due.
    #[error("the witness of no work, in round {round}, is not 0")]
    NoWork {
        /// The round.
        round: usize,
    },
    /// The rows contradict the last polynomial.
    #[error("the rows that were queried contradict the last polynomial")]
    Answers,
    /// The claims contradict the last polynomial.
    #[error("the claimed values contradict the last polynomial")]
    Claims,
    /// A part has another number of items than the parameters say.
    #[error("a part has another number of items than the parameters say")]
    Form,
}

/// A commitment scheme for multilinear polynomials.
///
/// Whoever calls has absorbed the root and everything that the points depend on before it drew the points: a
/// scheme protects no point that the prover chose.
pub trait Pcs {
    /// What the prover keeps of committed columns.
    #[cfg(feature = "prove")]
    type Data;

    /// The scheme and its parameters by name, for transcripts.
    fn setting(&self) -> &'static str;

    /// Commits to columns of 2^n values each, in any sizes and any order.
    ///
    /// # Errors
    /// [`PcsError::Empty`], [`PcsError::Length`], [`PcsError::TooLarge`].
    #[cfg(feature = "prove")]
    fn commit(&self, columns: Vec<Vec<F>>) -> Result<(Root, Self::Data), PcsError>;

    /// The value of column `index` at every corner; `None` if there is no such column.
    #[cfg(feature = "prove")]
    fn column<'a>(&self, data: &'a Self::Data, index: usize) -> Option<&'a [F]>;

    /// Proves claims: any number on one column, none on others. The same data may be opened again.
    ///
    /// # Errors
    /// [`PcsError`] for claims that do not fit or are false.
    #[cfg(feature = "prove")]
    fn open(&self, data: &Self::Data, claims: &[Claim], t: &mut Transcript) -> Result<Vec<u8>, PcsError>;

    /// Checks that the columns behind `root`, of 2^`logs[i]` values each, have the claimed values.
    fn verify(
        &self,
        root: &Root,
        logs: &[usize],
        claims: &[Claim],
        proof: &[u8],
        t: &mut Transcript,
    ) -> Result<(), PcsError>;

    /// Bits of security of an opening of `claims` claims, all its terms together; 0 where it refuses.
    fn error_bits(&self, logs: &[usize], claims: usize) -> f64;

    /// log2 of how many sets of columns a prover may still choose from once the root is fixed. Errors of
    /// challenges drawn between the root and the opening count as many times.
    fn candidate_bits(&self, logs: &[usize]) -> f64;
}

/// Checks sizes; variables of the smallest cube that holds all columns.
fn total_log(logs: &[usize]) -> Result<usize, PcsError> {
    if logs.is_empty() {
        return Err(PcsError::Empty);
    }
    if logs.len() > MAX_COLUMNS || logs.iter().any(|log| *log > MAX_LOG) {
        return Err(PcsError::TooLarge);
    }
    // Cannot overflow: at most 2^16 columns of at most 2^28 values.
    let total: u64 = logs.iter().map(|log| 1_u64 << log).sum();
    let log = total.next_power_of_two().ilog2() as usize;
    if log > MAX_LOG { Err(PcsError::TooLarge) } else { Ok(log) }
}

/// Checks that claims fit the columns.
fn check_claims(logs: &[usize], claims: &[Claim]) -> Result<(), PcsError> {
    if claims.is_empty() {
        return Err(PcsError::NoClaim);
    }
    if claims.len() > MAX_CLAIMS {
        return Err(PcsError::TooManyClaims(claims.len()));
    }
    let fits = |claim: &Claim| logs.get(claim.column).is_some_and(|log| *log == claim.point.len());
    claims.iter().position(|claim| !fits(claim)).map_or(Ok(()), |index| Err(PcsError::Claim(index)))
}

/// Absorbs sizes, root and claims once more: cheap, and no order of the caller's can then go wrong inside.
fn absorb(scheme: &str, root: &Root, logs: &[usize], claims: &[Claim], t: &mut Transcript) {
    let sizes: Vec<u8> = logs.iter().map(|log| *log as u8).collect();
    t.absorb_bytes(scheme, &root.0);
    t.absorb_bytes("columns", &sizes);
    for claim in claims {
        t.absorb_bytes("claim", &(claim.column as u64).to_le_bytes());
        t.absorb(&claim.point);
        t.absorb(&[claim.value]);
    }
}

/// Sizes of columns.
///
/// # Errors
/// [`PcsError::Length`], and as [`total_log`].
#[cfg(feature = "prove")]
fn logs(columns: &[Vec<F>]) -> Result<Vec<usize>, PcsError> {
    let log = |(index, column): (usize, &Vec<F>)| match column.len() {
        length if length.is_power_of_two() => Ok(length.ilog2() as usize),
        _ => Err(PcsError::Length(index)),
    };
    let logs = columns.iter().enumerate().map(log).collect::<Result<Vec<_>, _>>()?;
    total_log(&logs)?;
    Ok(logs)
}
