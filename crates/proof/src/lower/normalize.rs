//! Softmax and normalisation of integers (`spec/proof.md` §3.7): `quantised.md` §2's `IntegerSoftmax` and `IntegerNormalize`. Their
//! divisions and roots are hints of the prover, each pinned from both sides.

use hallmark_model::graph::Node;
use hallmark_model::ops::Domain;
use hallmark_model::ops::quantised::{Normalize, exponentials};

use super::linear::{elementwise, stretch};
use super::pool::max_axis;
use super::requantize::{apply, divide, range};
use super::{Builder, Expr, Factor, LowerError, Map, Operator, Shape, Step, Table, View};

/// The family's table.
pub const OPERATORS: &[Operator] = &[
    Operator { domain: Domain::Hallmark, name: "IntegerSoftmax", lower: softmax },
    Operator { domain: Domain::Hallmark, name: "IntegerNormalize", lower: normalize },
];

/// Bits that an identity's values stay below, so that none reaches half of the field.
const MAX_BITS: usize = 29;

/// Bits of `n`.
fn bits(n: u64) -> usize {
    n.checked_ilog2().map_or(0, |log| log as usize + 1)
}

/// The tensor's axis that the attribute `axis` names, counted with the axis of requests.
fn axis(node: &Node, x: &Expr) -> Result<usize, LowerError> {
    let rank = x.shape.0.len() - 1;
    let axis = hallmark_model::ops::index::axis(node.attrs.int("axis", -1), rank);
    Ok(axis.map_err(|why| Builder::fail(node, why))? + 1)
}

/// Sums along one axis, kept with size 1. Padding is left out.
fn sum_along(builder: &mut Builder<'_>, x: Expr, axis: usize) -> Result<Expr, LowerError> {
    let mut view = x.shape.0.clone();
    view[axis] = 1;
    let n = x.shape.0[axis];
    let mut factors: Vec<Factor> =
        (0..view.len()).filter(|at| *at != axis).map(|at| Factor::identity(at, at)).collect();
    let all = (0..n).map(|i| (0, i));
    factors.push(Factor::pairs(&mut builder.budget, vec![axis], vec![axis], &[n], all)?);
    let map = Map { view: Shape(view), column: x.shape.clone(), factors };
    builder.through(x, map)
}

/// A witness column as an expression.
fn hint(builder: &mut Builder<'_>, shape: &Shape) -> Result<(super::ColumnId, Expr), LowerError> {
    let column = builder.witness(shape, false)?;
    Ok((column, Expr::column(column, shape)))
}

/// `floor((2 a + b) / (2 b))` for a column `b` of positive numbers that broadcasts to `a`: a hint `q` with
/// `0 <= 2 a + b - 2 b q < 2 b`. `b < 2^divisor` and `|q| < 2^quotient`.
fn round_divide(
    builder: &mut Builder<'_>,
    node: &Node,
    a: Expr,
    b: &Expr,
    [divisor, quotient]: [usize; 2],
) -> Result<Expr, LowerError> {
    if divisor + quotient + 2 > MAX_BITS {
        return Err(Builder::fail(node, "its quotients times divisors may leave the field"));
    }
    let shape = a.shape.clone();
    let wide = stretch(builder, node, b.clone(), &shape)?;
    let wide = builder.cut(wide)?;
    let (column, q) = hint(builder, &shape)?;
    builder.step(Step::Quotient { dividend: a.clone(), divisor: wide.clone(), column });
    let mut shifted = q.clone();
    shifted.constant = 1 << quotient;
    range(builder, shifted, quotient + 1)?;
    let product = elementwise(builder, b.clone(), q.clone(), shape)?;
    let mut remainder = wide.clone();
    remainder.add(2, a);
    remainder.add(-2, product);
    // 2 b - 1 - remainder is not negative; in the padding, where b is zero, nothing is taken off.
    let mut slack = Expr::zero(wide.shape.clone());
    slack.inside = -1;
    slack.add(2, wide);
    slack.add(-1, remainder.clone());
    range(builder, remainder, divisor + 1)?;
    range(builder, slack, divisor + 1)?;
    Ok(q)
}

fn softmax(builder: &mut Builder<'_>, node: &Node) -> Result<(), LowerError> {
    let x = builder.wire(node, 0)?;
    let axis = axis(node, &x)?;
    let x = builder.cut(x)?;
    let values = exponentials(&node.attrs).map_err(|why| Builder::fail(node, why))?;
    let n = x.shape.0[axis];
    let greatest = max_axis(builder, x.clone(), axis)?;
    let mut below = stretch(builder, node, greatest, &x.shape)?;
    below = builder.cut(below)?;
    below.add(-1, x);
    let exponentials = apply(builder, below, Table::values(0, values.as_slice().into()), None)?;
    let exponentials = builder.cut(exponentials)?;
    let total = sum_along(builder, exponentials.clone(), axis)?;
    let shape = total.shape.clone();
    let total = Expr::column(builder.column(total)?, &shape);
    let mut dividend = Expr::zero(exponentials.shape.clone());
    dividend.add(255, exponentials);
    let y = round_divide(builder, node, dividend, &total, [bits(4095 * n as u64), 8])?;
    builder.set(node, y)
}

fn normalize(builder: &mut Builder<'_>, node: &Node) -> Result<(), LowerError> {
    let x = builder.wire(node, 0)?;
    let axis = axis(node, &x)?;
    let x = builder.cut(x)?;
    let form = Normalize::of(&node.attrs).map_err(|why| Builder::fail(node, why))?;
    let (shift, center, epsilon, gain) = (form.shift as usize, form.center, form.epsilon, form.gain);
    let n = x.shape.0[axis];
    let shape = x.shape.clone();
    // c = n x - sum x
    let mut centred = Expr::zero(shape.clone());
    centred.add(n as i64, x.clone());
    if center {
        let sum = sum_along(builder, x, axis)?;
        // Committed to, since a sum that is spread again links every element with every other.
        let row = sum.shape.clone();
        let sum = Expr::column(builder.column(sum)?, &row);
        let wide = stretch(builder, node, sum, &shape)?;
        let wide = builder.cut(wide)?;
        centred.add(-1, wide);
    }
    // |c| is at most 255 n; d its rounded quotient.
    let Some(greatest) = form.most(n) else {
        return Err(Builder::fail(node, "the squares of its row may leave the field"));
    };
    let width = bits(greatest.unsigned_abs());
    let d = if shift == 0 {
        let column = builder.column(centred)?;
        Expr::column(column, &shape)
    } else {
        centred.constant = 1 << (shift - 1);
        divide(builder, centred, shift, width, (-(1 << width), (1 << width) - 1))?
    };
    let d = builder.cut(d)?;
    // v = sum d^2 + epsilon, s = isqrt v: v - s^2 and 2 s - (v - s^2) are not negative.
    let view: View = builder.view(d.clone())?;
    let labels: Vec<usize> = (0..shape.0.len()).collect();
    let mut sizes = shape.0.clone();
    let mut out = labels.clone();
    out[axis] = sizes.len();
    sizes.push(1);
    let squares = builder.contraction((view.clone(), labels.clone()), (view, labels), out, sizes)?;
    let mut row = shape.clone();
    row.0[axis] = 1;
    let mut v = Expr::contraction(squares, row.clone());
    v.inside = epsilon;
    let v = Expr::column(builder.column(v)?, &row);
    let (column, s) = hint(builder, &row)?;
    builder.step(Step::Root { expr: v.clone(), column });
    range(builder, s.clone(), 15)?;
    let mut rest = v;
    rest.add(-1, elementwise(builder, s.clone(), s.clone(), row)?);
    let mut slack = Expr::zero(s.shape.clone());
    slack.add(2, s.clone());
    slack.add(-1, rest.clone());
    range(builder, rest, 16)?;
    range(builder, slack, 16)?;
    let mut dividend = Expr::zero(shape);
    dividend.add(gain, d);
    let u = round_divide(builder, node, dividend, &s, [15, bits(gain.unsigned_abs())])?;
    builder.set(node, u)
}
