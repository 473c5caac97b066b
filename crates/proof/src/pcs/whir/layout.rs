//! Which place a column has in the stacked polynomial, and in which order claims are opened.

use std::collections::BTreeMap;

use p3_multilinear_util::point::Point;
use p3_sumcheck::{OpeningBatch, OpeningProtocol, TableShape, TableSpec};

use crate::field::{E, PrimeCharacteristicRing};
use crate::pcs::{Claim, PcsError, total_log};

/// Columns by size: those of one size are one table, largest first. A column below the first folding is
/// padded with zeros to its size.
pub(super) struct Layout {
    /// Variables and columns of each table.
    pub(super) tables: Vec<(usize, Vec<usize>)>,
    /// Table and row of each column.
    pub(super) places: Vec<(usize, usize)>,
    /// Variables of the stacked polynomial.
    pub(super) log: usize,
}

/// Claims in the order in which they are opened: those of a table together, and those at one point at once.
pub(super) struct Schedule {
    /// For the scheme.
    pub(super) protocol: OpeningProtocol,
    /// One point a batch.
    pub(super) points: Vec<Point<E>>,
    /// Which claims a batch holds.
    pub(super) batches: Vec<Vec<usize>>,
}

impl Layout {
    pub(super) fn new(logs: &[usize], least: usize) -> Result<Self, PcsError> {
        let padded: Vec<usize> = logs.iter().map(|log| (*log).max(least)).collect();
        let log = total_log(&padded)?;
        let mut sizes: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (column, log) in padded.iter().enumerate() {
            sizes.entry(*log).or_default().push(column);
        }
        let tables: Vec<(usize, Vec<usize>)> = sizes.into_iter().rev().collect();
        let mut places = vec![(0, 0); logs.len()];
        for (table, (_, columns)) in tables.iter().enumerate() {
            for (row, column) in columns.iter().enumerate() {
                if let Some(place) = places.get_mut(*column) {
                    *place = (table, row);
                }
            }
        }
        Ok(Layout { tables, places, log })
    }

    /// The claims fit the columns: `check_claims` has passed.
    pub(super) fn schedule(&self, claims: &[Claim]) -> Schedule {
        let mut by_table: Vec<Vec<(Vec<usize>, Vec<usize>)>> = vec![Vec::new(); self.tables.len()];
        for (index, claim) in claims.iter().enumerate() {
            let Some((table, row)) = self.places.get(claim.column).copied() else { continue };
            let Some(batches) = by_table.get_mut(table) else { continue };
            // A batch opens a column once; only neighbours are compared, so that this stays linear.
            match batches.last_mut() {
                Some((rows, members))
                    if members.first().and_then(|first| claims.get(*first)).map(|first| &first.point)
                        == Some(&claim.point)
                        && !rows.contains(&row) =>
                {
                    rows.push(row);
                    members.push(index);
                }
                _ => batches.push((vec![row], vec![index])),
            }
        }
        let (mut specs, mut points, mut order) = (Vec::new(), Vec::new(), Vec::new());
        for ((log, columns), batches) in self.tables.iter().zip(by_table) {
            let mut requests = Vec::with_capacity(batches.len());
            for (rows, members) in batches {
                let point =
                    members.first().and_then(|first| claims.get(*first)).map(|first| first.point.as_slice());
                let point = point.unwrap_or_default();
                // A padded column has its values where the leading coordinates are zero.
                let mut padded = vec![E::ZERO; log.saturating_sub(point.len())];
                padded.extend_from_slice(point);
                points.push(Point::new(padded));
                requests.push(OpeningBatch::new(rows, Vec::new()));
                order.push(members);
            }
            specs.push(TableSpec::new(TableShape::new(*log, columns.len()), requests));
        }
        Schedule { protocol: OpeningProtocol::new(specs), points, batches: order }
    }
}
