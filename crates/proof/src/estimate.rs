//! What proving takes, foreseen from the circuit: so that a machine that cannot do it says so before it begins.

use crate::circuit::{Circuit, Term, View};

/// Bytes for each value of a commitment's stack: the values, their code of four times the length, the transform's scratch, and the
/// hashes of rows of 16.
const STACK: u64 = 52;
/// Bytes for each value of a column: as integer, as field element, and in the commitment.
const COLUMN: u64 = 12;
/// Bytes for each fraction of the lookups: its denominator, the row that it reads, and the layers above it.
const FRACTION: u64 = 104;
/// Bytes for each element of an operand of a contraction.
const OPERAND: u64 = 16;
/// Bytes for each element of a column that is read through maps: weights and folded values.
const VIEWED: u64 = 48;

/// Bytes that a prover takes at most at a time, as an estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// To commit to the model's weights.
    pub commit: u64,
    /// To prove, the committed weights included.
    pub prove: u64,
}

impl Memory {
    /// For `circuit`.
    pub fn of(circuit: &Circuit) -> Self {
        let values = |constant: bool| -> u64 {
            circuit.part(constant).map(|id| circuit.column(id).shape.padded() as u64).sum()
        };
        let tables: u64 = circuit.tables.iter().map(|table| 1_u64 << table.log).sum();
        let commitment = |values: u64| {
            COLUMN.saturating_mul(values).saturating_add(STACK.saturating_mul(values.next_power_of_two()))
        };
        let commit = commitment(values(true));
        let lookups: u64 = circuit.lookups.iter().map(|lookup| lookup.input.shape.padded() as u64).sum();
        let (mut operands, mut viewed) = (0_u64, std::collections::BTreeSet::new());
        let lists = circuit.lookups.iter().flat_map(|lookup| [Some(&lookup.input), lookup.output.as_ref()]);
        for (_, term) in lists.flatten().chain(&circuit.zeros).flat_map(|expr| &expr.terms) {
            let views: &[&View] = match term {
                Term::View(view) => &[view],
                Term::Contraction(c) => {
                    operands +=
                        [&c.left_labels, &c.right_labels].map(|l| 1_u64 << c.log(l)).iter().sum::<u64>();
                    &[&c.left, &c.right]
                }
            };
            viewed.extend(views.iter().filter(|view| view.map.is_some()).map(|view| view.column));
        }
        let viewed: u64 = viewed.iter().map(|id| circuit.column(*id).shape.padded() as u64).sum();
        let parts = [
            commit,
            commitment(values(false).saturating_add(tables)),
            FRACTION.saturating_mul(lookups.saturating_add(tables)),
            OPERAND.saturating_mul(operands),
            VIEWED.saturating_mul(viewed),
        ];
        Self { commit, prove: parts.into_iter().fold(0, u64::saturating_add) }
    }
}
