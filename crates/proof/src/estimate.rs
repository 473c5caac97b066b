//! What proving takes, foreseen from the circuit: so that a machine that cannot do it says so before it begins.
//!
//! The numbers of bytes are measured: `tests/memory.rs` counts every byte that is allocated while networks are committed to and proved
//! (a perceptron, LeNet, four layers of a million weights, alone and with 64 requests, a convolutional network, an encoder), and holds
//! the estimate between what was taken and 1.6 times that.

use crate::circuit::{Circuit, Term};

/// Bytes for each value of a commitment's stack: the value, its code of four times the length, and the hashes of rows.
const STACK: u64 = 26;
/// Bytes that even the smallest commitment takes: it is padded to what is folded at first.
const LEAST: u64 = 1 << 16;
/// Bytes for each value of a column: as integer, as field element, and in the commitment.
const COLUMN: u64 = 12;
/// Bytes for each value of a stack that is opened: a copy of it and its code, and the weights of its claims.
const OPENING: u64 = 40;
/// Bytes for each fraction of the lookups: its denominator, the row that it reads, and the layers above it.
const FRACTION: u64 = 156;
/// Bytes for each element of an operand of a contraction.
const OPERAND: u64 = 16;
/// Bytes for each element of a column that is read through maps: weights and folded values.
const VIEWED: u64 = 48;

/// Seconds for each value of a commitment's stack: committing and opening.
const STACK_TIME: f64 = 1.7e-7;
/// Seconds for each fraction of the lookups.
const FRACTION_TIME: f64 = 5e-7;
/// Seconds for each element of an operand of a contraction, or of a column that is read through maps.
const ELEMENT_TIME: f64 = 3e-8;
/// Seconds of work that even the smallest proof takes.
const LEAST_TIME: f64 = 0.05;

/// What a prover takes, as an estimate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Bytes at a time, to commit to the model's weights.
    pub commit: u64,
    /// Bytes at a time, to prove, the committed weights included.
    pub prove: u64,
    /// Seconds on one core of a current machine, to commit and to prove.
    pub seconds: f64,
}

impl Cost {
    /// For `circuit`.
    pub fn of(circuit: &Circuit) -> Self {
        let values = |constant: bool| -> u64 {
            circuit.part(constant).map(|id| circuit.column(id).shape.padded() as u64).sum()
        };
        let tables: u64 = circuit.tables.iter().map(|table| 1_u64 << table.log).sum();
        let commitment = |values: u64| {
            let stack = STACK.saturating_mul(values.next_power_of_two());
            COLUMN.saturating_mul(values).saturating_add(stack).saturating_add(LEAST)
        };
        let commit = commitment(values(true));
        let lookups: u64 = circuit.lookups.iter().map(|lookup| lookup.input.shape.padded() as u64).sum();
        let (mut operands, mut viewed) = (0_u64, std::collections::BTreeSet::new());
        for term in circuit.terms() {
            if let Term::Contraction(c) = term {
                operands += [&c.left_labels, &c.right_labels].map(|l| 1_u64 << c.log(l)).iter().sum::<u64>();
            }
            viewed.extend(term.views().filter(|view| view.map.is_some()).map(|view| view.column));
        }
        let viewed: u64 = viewed.iter().map(|id| circuit.column(*id).shape.padded() as u64).sum();
        let stacks = [values(true), values(false).saturating_add(tables)].map(u64::next_power_of_two);
        // The lookups are done with before anything is opened, and one stack is opened after the other.
        let fractions = FRACTION.saturating_mul(lookups.saturating_add(tables));
        let opening = OPENING.saturating_mul(stacks[0].max(stacks[1]));
        let parts = [
            commit,
            commitment(values(false).saturating_add(tables)),
            fractions.max(opening),
            OPERAND.saturating_mul(operands),
            VIEWED.saturating_mul(viewed),
        ];
        let times = [
            LEAST_TIME,
            STACK_TIME * stacks.map(|values| values as f64).iter().sum::<f64>(),
            FRACTION_TIME * lookups.saturating_add(tables) as f64,
            ELEMENT_TIME * operands.saturating_add(viewed) as f64,
        ];
        Self { commit, prove: parts.into_iter().fold(0, u64::saturating_add), seconds: times.iter().sum() }
    }
}
