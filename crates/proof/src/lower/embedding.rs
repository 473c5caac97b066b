//! Rows of a weight that the request names (`spec/proof.md` §3.8): lookups in the model's commitment itself, whose columns are tables.

use hallmark_model::graph::Node;

use super::requantize::{apply, range};
use super::{Builder, Expr, Fixed, LowerError, Shape, Table, broadcast};
use crate::circuit::log2;

/// `Gather` along axis 0 of a matrix: element (.., d) is the weight's at `id * 2^log D + d`, and `0 <= id < V`.
pub fn embedding(
    builder: &mut Builder<'_>,
    node: &Node,
    weight: &Fixed,
    ids: Expr,
) -> Result<(), LowerError> {
    let &[rows, width] = &weight.shape[..] else {
        return Err(Builder::fail(node, "an embedding's weight is a matrix"));
    };
    if node.attrs.int("axis", 0) != 0 {
        return Err(Builder::fail(node, "an embedding gathers rows"));
    }
    let column = builder.weight(weight)?;
    let shape = builder.shape_of(Builder::output(node)?)?;
    let bits = log2(rows);
    range(builder, ids.clone(), bits)?;
    let mut room = Expr::zero(ids.shape.clone());
    room.constant = rows as i64 - 1;
    room.add(-1, ids.clone());
    range(builder, room, bits)?;
    let mut from = ids.shape.0.clone();
    from.push(1);
    let wide = super::movement::regrouped(&mut builder.budget, &Shape(from.clone()), &ids.shape)?;
    let ids = builder.through(ids, wide)?;
    let stretched = broadcast(&mut builder.budget, &from, &shape, true)?;
    let stretched = stretched.ok_or_else(|| Builder::fail(node, "its result has another shape"))?;
    let ids = builder.through(ids, stretched)?;
    let mut at = Expr::zero(shape);
    at.add(1 << log2(width), ids);
    at.ramp = Some(from.len() - 1);
    let table = Table::column(column, &Shape(vec![rows, width]));
    let y = apply(builder, at, table, None)?;
    builder.set(node, y)
}
