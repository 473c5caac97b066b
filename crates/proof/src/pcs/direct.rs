//! The slow and obvious scheme: the root is a hash of the columns, the proof is the columns, and the verifier
//! evaluates every claim itself. Nothing is left to chance but the hash.

use hallmark_receipt::domain;

use super::{Claim, Pcs, PcsError, Root, absorb, check_claims, total_log};
use crate::codec::{Reader, Writer};
use crate::field::F;
use crate::mle;
use crate::transcript::Transcript;

/// Columns sent whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Direct;

/// SHA-256 over the sizes and the values.
fn root(columns: &[Vec<F>]) -> Root {
    let mut writer = Writer::new();
    writer.count(columns.len());
    for column in columns {
        writer.count(column.len());
        writer.bases(column);
    }
    Root(domain::COLUMNS.hash(&[&writer.finish()]).0)
}

impl Pcs for Direct {
    fn setting(&self) -> &'static str {
        "direct"
    }

    #[cfg(feature = "prove")]
    type Data = Vec<Vec<F>>;

    #[cfg(feature = "prove")]
    fn commit(&self, columns: Vec<Vec<F>>) -> Result<(Root, Self::Data), PcsError> {
        super::logs(&columns)?;
        Ok((root(&columns), columns))
    }

    #[cfg(feature = "prove")]
    fn column<'a>(&self, data: &'a Self::Data, index: usize) -> Option<&'a [F]> {
        data.get(index).map(Vec::as_slice)
    }

    #[cfg(feature = "prove")]
    fn open(&self, data: &Self::Data, claims: &[Claim], t: &mut Transcript) -> Result<Vec<u8>, PcsError> {
        let logs = super::logs(data)?;
        check_claims(&logs, claims)?;
        absorb("direct", &root(data), &logs, claims, t);
        check_values(data, claims)?;
        let mut writer = Writer::new();
        data.iter().for_each(|column| writer.bases(column));
        Ok(writer.finish())
    }

    fn verify(
        &self,
        root: &Root,
        logs: &[usize],
        claims: &[Claim],
        proof: &[u8],
        t: &mut Transcript,
    ) -> Result<(), PcsError> {
        total_log(logs)?;
        check_claims(logs, claims)?;
        absorb("direct", root, logs, claims, t);
        let mut reader = Reader::new(proof);
        let columns = logs.iter().map(|log| reader.bases(1 << log)).collect::<Result<Vec<_>, _>>()?;
        reader.finish()?;
        if self::root(&columns) != *root {
            return Err(PcsError::Root);
        }
        check_values(&columns, claims)
    }

    fn error_bits(&self, logs: &[usize], _claims: usize) -> f64 {
        if total_log(logs).is_ok() { f64::INFINITY } else { 0.0 }
    }

    fn candidate_bits(&self, _logs: &[usize]) -> f64 {
        0.0
    }
}

/// Evaluates every claim.
fn check_values(columns: &[Vec<F>], claims: &[Claim]) -> Result<(), PcsError> {
    let holds = |claim: &Claim| {
        columns
            .get(claim.column)
            .is_some_and(|column| mle::evaluate_base(column, &claim.point) == claim.value)
    };
    claims.iter().position(|claim| !holds(claim)).map_or(Ok(()), |index| Err(PcsError::False(index)))
}
