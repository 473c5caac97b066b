//! Lookup tables (`spec/proof.md` §2.3).

use std::sync::Arc;

use super::{ColumnId, Shape, Term, View, log2};
use crate::field::{E, F, PrimeCharacteristicRing, from_i64};

/// The second column of a table.
#[derive(Clone, Debug, PartialEq)]
pub enum Outputs {
    /// None: the table says only which values there are.
    None,
    /// The input, limited to these bounds.
    Clamp(i64, i64),
    /// Listed values.
    Values(Arc<[i64]>),
    /// The elements of a column of the model's commitment, padding included; the input is an element's index.
    Column {
        /// The column.
        column: ColumnId,
        /// The same as a term, for claims on it.
        term: Box<Term>,
    },
}

/// A function on a range of integers: `2^log` inputs from `start` on.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// The least input, at most 0: padding looks up 0.
    pub start: i64,
    /// Bits of the number of inputs.
    pub log: usize,
    /// What stands beside each input.
    pub outputs: Outputs,
}

impl Table {
    /// The integers from 0 to below `2^bits`.
    pub fn range(bits: usize) -> Self {
        Self { start: 0, log: bits, outputs: Outputs::None }
    }

    /// Limits the integers of `-2^bits .. 2^bits`.
    pub fn clamp(bits: usize, low: i64, high: i64) -> Self {
        Self { start: -(1 << bits), log: bits + 1, outputs: Outputs::Clamp(low, high) }
    }

    /// Listed values of `start` and the integers after it; their number is a power of two.
    pub fn values(start: i64, values: Arc<[i64]>) -> Self {
        Self { start, log: log2(values.len()), outputs: Outputs::Values(values) }
    }

    /// The padded elements of a column of the model's commitment, by index.
    pub fn column(column: ColumnId, shape: &Shape) -> Self {
        let term = Box::new(Term::View(View { column, map: None }));
        Self { start: 0, log: shape.log(), outputs: Outputs::Column { column, term } }
    }

    /// Inputs.
    pub fn rows(&self) -> usize {
        1 << self.log
    }

    /// The row of `input`.
    pub fn row(&self, input: i64) -> Option<usize> {
        usize::try_from(input.checked_sub(self.start)?).ok().filter(|row| *row < self.rows())
    }

    /// What stands beside `input`, which must be in range; `input` itself where the table has one column. `None` also for what only the
    /// weights tell.
    pub fn output(&self, input: i64) -> Option<i64> {
        let row = self.row(input)?;
        Some(match &self.outputs {
            Outputs::Column { .. } => return None,
            Outputs::None => input,
            Outputs::Clamp(low, high) => input.clamp(*low, *high),
            Outputs::Values(values) => *values.get(row)?,
        })
    }

    /// The multilinear extensions of both columns at `point`, which has `log` coordinates. The second is 0 where there is none, or where
    /// only the model's commitment tells it.
    pub fn evaluate(&self, point: &[E]) -> (E, E) {
        let start = E::from(from_i64(self.start));
        let input = start + index(point);
        let output = match &self.outputs {
            Outputs::None | Outputs::Column { .. } => E::ZERO,
            Outputs::Clamp(low, high) => {
                // low below it, high above it, and the input between: sums over the rows below two thresholds.
                let rows = self.rows();
                let threshold =
                    |value: i64| usize::try_from(value.saturating_sub(self.start)).unwrap_or(0).min(rows);
                let (below, sum_below) = prefix(point, threshold(*low));
                let (inside, sum_inside) = prefix(point, threshold(high.saturating_add(1)));
                let [low, high] = [*low, *high].map(|v| E::from(from_i64(v)));
                low * below + (start * (inside - below) + sum_inside - sum_below) + high * (E::ONE - inside)
            }
            Outputs::Values(values) => {
                let values: Vec<F> = values.iter().map(|&v| from_i64(v)).collect();
                crate::mle::evaluate_base(&values, point)
            }
        };
        (input, output)
    }
}

/// The multilinear extension of an index.
pub(super) fn index(point: &[E]) -> E {
    point.iter().fold(E::ZERO, |sum, &bit| sum + sum + bit)
}

/// Sums over the rows `i < threshold` of `eq(point, i)` and of `eq(point, i) * i`: one term for each 1 bit of the
/// threshold, which stands for the rows that agree with it above that bit and have 0 there.
pub(super) fn prefix(point: &[E], threshold: usize) -> (E, E) {
    let bits = point.len();
    if threshold >> bits != 0 {
        return (E::ONE, index(point));
    }
    let (mut agree, mut base) = (E::ONE, 0_u64);
    let (mut count, mut sum) = (E::ZERO, E::ZERO);
    for (i, &x) in point.iter().enumerate() {
        let below = bits - 1 - i;
        if threshold >> below & 1 == 1 {
            let weight = agree * (E::ONE - x);
            count += weight;
            sum += weight * (E::from(F::from_u64(base)) + index(&point[i + 1..]));
            agree *= x;
            base += 1 << below;
        } else {
            agree *= E::ONE - x;
        }
    }
    (count, sum)
}
