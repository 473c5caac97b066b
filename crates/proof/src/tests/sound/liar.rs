//! Witnesses with one lie in them, from which everything later is computed as a prover would compute it.

use super::Case;
use crate::circuit::{Circuit, ColumnId, Outputs, Step, Table};
use crate::field::{CHARACTERISTIC, Field, from_i64, to_i64};
use crate::pcs::Pcs;
use crate::witness::{Witness, evaluate};

/// p.
pub const P: i64 = CHARACTERISTIC as i64;

/// What is false. Elements are indices into the padded column.
#[derive(Clone, Copy, Debug)]
pub enum Lie {
    /// An element of a column has so much added.
    Element(ColumnId, usize, i64),
    /// What step `.0` divides has so much added before it is divided: limbs and result follow.
    Dividend(usize, usize, i64),
    /// The result of the division of step `.0` has so much added, and the highest limb takes off what that
    /// is worth.
    Quotient(usize, usize, i64),
}

/// The row of its table that a lookup claims where its element is in none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// The row of the nearest input.
    Input,
    /// A row with the output that is claimed, as far as there is one.
    Output,
}

/// The columns that a step fills.
pub fn filled(step: &Step) -> Vec<ColumnId> {
    match step {
        Step::Input { column, .. }
        | Step::Copy { column, .. }
        | Step::Quotient { column, .. }
        | Step::Root { column, .. }
        | Step::Apply { column, .. } => vec![*column],
        Step::Divide { limbs, column, .. } => limbs.iter().map(|(limb, _)| *limb).chain(*column).collect(),
    }
}

/// The field's own integer for a value.
fn narrow(value: i64) -> i32 {
    to_i64(from_i64(value)) as i32
}

/// What stands beside a row of a table.
fn output(columns: &[Vec<i32>], table: &Table, row: i64) -> i64 {
    match &table.outputs {
        Outputs::Column { column, .. } => columns[column.0][row as usize].into(),
        _ => table.output(table.start + row).expect("a row"),
    }
}

/// What a table gives for the nearest of its inputs.
fn nearest(columns: &[Vec<i32>], table: &Table, input: i64) -> (u32, i64) {
    let row = (input - table.start).clamp(0, table.rows() as i64 - 1);
    (row as u32, output(columns, table, row))
}

/// The witness of all requests with `lie` in it.
pub fn tell<P: Pcs>(case: &Case<P>, lie: Lie, rows: Rows) -> Witness {
    let circuit = &case.circuit;
    let mut columns = case.honest().columns;
    for (index, step) in circuit.steps.iter().enumerate() {
        fill(circuit, &mut columns, index, step, lie);
        if let Lie::Element(column, at, by) = lie
            && filled(step).contains(&column)
        {
            columns[column.0][at] = narrow(i64::from(columns[column.0][at]) + by);
        }
    }
    finish(circuit, columns, rows)
}

fn fill(circuit: &Circuit, columns: &mut [Vec<i32>], index: usize, step: &Step, lie: Lie) {
    match step {
        Step::Input { .. } => (),
        Step::Copy { expr, column } => {
            let values = evaluate(circuit, columns, expr);
            columns[column.0] = values.into_iter().map(narrow).collect();
        }
        Step::Divide { expr, shift, limbs, table, column, .. } => {
            let mut values = evaluate(circuit, columns, expr);
            if let Lie::Dividend(own, at, by) = lie
                && own == index
            {
                values[at] += by;
            }
            let mut below = 0;
            for (limb, bits) in limbs {
                let part = |v: &i64| narrow(v >> below & ((1 << bits) - 1));
                columns[limb.0] = values.iter().map(part).collect();
                below += bits;
            }
            if let Some(column) = column {
                let table = &circuit.tables[table.0];
                let made = values.iter().map(|v| narrow(nearest(columns, table, v >> shift).1)).collect();
                columns[column.0] = made;
            }
            if let (Lie::Quotient(own, at, by), Some(column), Some((limb, bits))) =
                (lie, column, limbs.last())
                && own == index
            {
                columns[column.0][at] = narrow(i64::from(columns[column.0][at]) + by);
                columns[limb.0][at] = narrow(i64::from(columns[limb.0][at]) - (by << bits));
            }
        }
        Step::Quotient { dividend, divisor, column } => {
            let (a, b) = (evaluate(circuit, columns, dividend), evaluate(circuit, columns, divisor));
            let one = |(a, b): (&i64, &i64)| if *b == 0 { 0 } else { narrow((2 * a + b).div_euclid(2 * b)) };
            columns[column.0] = a.iter().zip(&b).map(one).collect();
        }
        Step::Root { expr, column } => {
            let values = evaluate(circuit, columns, expr);
            columns[column.0] = values.iter().map(|v| narrow(v.unsigned_abs().isqrt() as i64)).collect();
        }
        Step::Apply { expr, table, offset, column, .. } => {
            let table = &circuit.tables[table.0];
            let values = evaluate(circuit, columns, expr);
            let offset = offset.as_ref().map(|offset| evaluate(circuit, columns, offset));
            let one = |(at, v): (usize, &i64)| {
                let found = nearest(columns, table, narrow(*v).into()).1;
                narrow(found + offset.as_ref().map_or(0, |offset| offset[at]))
            };
            columns[column.0] = values.iter().enumerate().map(one).collect::<Vec<_>>();
        }
    }
}

/// Columns with rows and multiplicities that agree with each other, whether or not they agree with the
/// columns.
pub fn finish(circuit: &Circuit, columns: Vec<Vec<i32>>, rows: Rows) -> Witness {
    let mut multiplicities: Vec<Vec<u32>> =
        circuit.tables.iter().map(|table| vec![0; table.rows()]).collect();
    let mut all = Vec::with_capacity(circuit.lookups.len());
    for lookup in &circuit.lookups {
        let table = &circuit.tables[lookup.table.0];
        let inputs = evaluate(circuit, &columns, &lookup.input);
        let outputs = lookup.output.as_ref().map(|output| evaluate(circuit, &columns, output));
        let unit = from_i64(1 << lookup.shift).inverse();
        let row = |(at, input): (usize, &i64)| {
            // The field's quotient, if the table has it: that is what the verifier asks for.
            let quotient = to_i64(from_i64(*input) * unit);
            let floor = to_i64(from_i64(*input)) >> lookup.shift;
            let (near, value) = nearest(&columns, table, table.row(quotient).map_or(floor, |_| quotient));
            match outputs.as_ref().map(|outputs| outputs[at]) {
                Some(claimed) if rows == Rows::Output && claimed != value => {
                    let other = |row: &i64| output(&columns, table, *row) == claimed;
                    (0..table.rows() as i64).find(other).map_or(near, |row| row as u32)
                }
                _ => near,
            }
        };
        let own: Vec<u32> = inputs.iter().enumerate().map(row).collect();
        for &row in &own {
            multiplicities[lookup.table.0][row as usize] += 1;
        }
        all.push(own);
    }
    Witness { columns, rows: all, multiplicities }
}
