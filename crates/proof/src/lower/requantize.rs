//! Requantisation and functions by table (`spec/proof.md` §3.4): `quantised.md` §2's `Requantize` and
//! `Table`.

use hallmark_model::graph::Node;
use hallmark_model::ops::Domain;
use hallmark_model::ops::quantised::{self, Requantize};
use hallmark_receipt::DType;

use super::{Builder, ColumnId, Expr, LowerError, Operator, Step, Table, linear};
use crate::circuit::Lookup;

/// The family's table.
pub const OPERATORS: &[Operator] = &[
    Operator { domain: Domain::Hallmark, name: "Requantize", lower: requantize },
    Operator { domain: Domain::Hallmark, name: "Table", lower: table },
];

/// Bits of the widest range table that remainders use; a table should not be longer than what it checks.
const MAX_LIMB: usize = 16;
const MIN_LIMB: usize = 8;
/// What is divided is below 2^30 - 2^24 in magnitude (`quantised.md` §4), so its quotient by 2^shift lies
/// in [-2^(30 - shift),
/// 2^(30 - shift)); quotients and remainders of these bits together are less than p away from it.
const DIVIDEND_BITS: usize = 30;

/// How `bits` bits are cut into limbs for a column of `2^log` elements: as few as a table of the column's
/// own length allows,
/// evenly. Both sides of a proof derive this.
pub fn limbs(bits: usize, log: usize) -> Vec<usize> {
    let widest = log.clamp(MIN_LIMB, MAX_LIMB);
    let count = bits.div_ceil(widest);
    (0..count).map(|i| bits / count + usize::from(i < bits % count)).collect()
}

fn requantize(builder: &mut Builder<'_>, node: &Node) -> Result<(), LowerError> {
    let x = builder.wire(node, 0)?;
    let mut by = builder.fixed(node, 1)?;
    let form = Requantize::of(&node.attrs).map_err(|why| Builder::fail(node, why))?;
    let (shift, bits) = (form.shift as usize, form.bits as usize);
    // The multiplier runs along one axis: give it the axes that broadcasting aligns.
    if by.shape.len() == 1 && by.shape != [1] {
        let rank = x.shape.0.len() - 1;
        let axis = if form.axis < 0 { form.axis + rank as i64 } else { form.axis };
        let axis = usize::try_from(axis).ok().filter(|a| *a < rank);
        let axis = axis.ok_or_else(|| Builder::fail(node, "`axis` is out of range"))?;
        let mut shape = vec![1; rank - axis];
        shape[0] = by.shape[0];
        if x.shape.0[axis + 1] != shape[0] {
            return Err(Builder::fail(node, "one multiplier for each slice of the axis"));
        }
        by.shape = shape;
    }
    let mut scaled = linear::scale(builder, node, x, &by)?;
    scaled.constant += 1 << (shift - 1);
    let out = divide(builder, scaled, shift, bits, (form.low.into(), form.high.into()))?;
    builder.set(node, out)
}

/// `clamp(expr >> shift)`, where the quotient lies in [-2^bits, 2^bits): the remainder's limbs and the
/// result are committed to, the
/// quotient is not.
pub fn divide(
    builder: &mut Builder<'_>,
    expr: Expr,
    shift: usize,
    bits: usize,
    (low, high): (i64, i64),
) -> Result<Expr, LowerError> {
    let shape = expr.shape.clone();
    // In a longer table a prover would find the quotient of what it divides plus p, too.
    let table = Table::clamp(bits.min(DIVIDEND_BITS.saturating_sub(shift)), low, high);
    // Padding divides 0 or the rounding constant alone: its quotient is 0, and so is a clamp of it.
    let constant = expr.constant;
    let bare = Expr { constant: 0, inside: 0, ..expr.clone() };
    let zero = (constant >> shift == 0) && table.output(0) == Some(0);
    let clean = !shape.has_padding() || builder.is_clean(&bare) && zero;
    let (input, columns, _) = remainder(builder, &expr, &limbs(shift, shape.log()))?;
    let column = builder.witness(&shape, clean)?;
    let table = builder.table(table)?;
    let output = Some(Expr::column(column, &shape));
    let lookup = builder.look_up(Lookup { table, input, shift, output })?;
    builder.step(Step::Divide { expr, shift, limbs: columns, table, column: Some(column), lookup });
    Ok(Expr::column(column, &shape))
}

/// Asks that `0 <= expr < 2^bits`: all limbs but the highest are committed to, and the highest is what is
/// left.
pub fn range(builder: &mut Builder<'_>, expr: Expr, bits: usize) -> Result<(), LowerError> {
    let shape = expr.shape.clone();
    let mut widths = limbs(bits, shape.log());
    let top = widths.pop().unwrap_or(0);
    let (input, columns, shift) = remainder(builder, &expr, &widths)?;
    let table = builder.table(Table::range(top))?;
    let lookup = builder.look_up(Lookup { table, input, shift, output: None })?;
    builder.step(Step::Divide { expr, shift, limbs: columns, table, column: None, lookup });
    Ok(())
}

/// What is left of an expression, its limbs' columns with their bits, and their bits together.
type Remainder = (Expr, Vec<(ColumnId, usize)>, usize);

/// Commits to the low limbs of `expr`.
fn remainder(builder: &mut Builder<'_>, expr: &Expr, widths: &[usize]) -> Result<Remainder, LowerError> {
    let shape = &expr.shape;
    let mut input = expr.clone();
    let (mut columns, mut at) = (Vec::new(), 0);
    for &width in widths {
        let column = builder.witness(shape, false)?;
        let table = builder.table(Table::range(width))?;
        builder.look_up(Lookup { table, input: Expr::column(column, shape), shift: 0, output: None })?;
        input.add(-(1 << at), Expr::column(column, shape));
        columns.push((column, width));
        at += width;
    }
    Ok((input, columns, at))
}

/// `table(expr)`, plus `offset` where there is one.
pub fn apply(
    builder: &mut Builder<'_>,
    expr: Expr,
    table: Table,
    offset: Option<Expr>,
) -> Result<Expr, LowerError> {
    let shape = expr.shape.clone();
    let clean = builder.is_clean(&expr)
        && table.output(0) == Some(0)
        && offset.as_ref().is_none_or(|offset| builder.is_clean(offset));
    let clean = clean || !shape.has_padding();
    let column = builder.witness(&shape, clean)?;
    let table = builder.table(table)?;
    let mut output = Expr::column(column, &shape);
    if let Some(offset) = &offset {
        output.add(-1, offset.clone());
    }
    let lookup = builder.look_up(Lookup { table, input: expr.clone(), shift: 0, output: Some(output) })?;
    builder.step(Step::Apply { expr, table, offset, column, lookup });
    Ok(Expr::column(column, &shape))
}

fn table(builder: &mut Builder<'_>, node: &Node) -> Result<(), LowerError> {
    let x = builder.wire(node, 0)?;
    let dtype = node.inputs.first().copied().flatten().and_then(|id| builder.info(id).dtype);
    let start = match dtype {
        Some(DType::I8) => -128,
        Some(DType::U8) => 0,
        _ => return Err(Builder::fail(node, "a table takes int8 or uint8")),
    };
    let form = quantised::Table::of(&node.attrs).map_err(|why| Builder::fail(node, why))?;
    let out = apply(builder, x, Table::values(start, form.entries.as_slice().into()), None)?;
    builder.set(node, out)
}
