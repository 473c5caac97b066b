//! Operators that only move elements (`spec/proof.md` §3.6). Where they go is read off the scalar reference itself, run on
//! the elements' own numbers: one rule for all of them.

use std::sync::Arc;

use hallmark_model::graph::Node;
use hallmark_model::ops::{Domain, EvalCx};
use hallmark_receipt::Tensor;

use super::{Builder, Expr, Factor, LowerError, Map, Operand, Operator, Shape, spread_index};
use crate::circuit::View;

/// The family's table.
#[rustfmt::skip]
pub const OPERATORS: &[Operator] = &[
    row("Reshape"), row("Flatten"), row("Transpose"), row("Squeeze"), row("Unsqueeze"), row("Concat"),
    row("Slice"), row("Split"), row("Expand"), row("Tile"), row("Pad"), row("Gather"), row("GatherND"), row("GatherElements"),
    row("DepthToSpace"), row("SpaceToDepth"), row("ReverseSequence"), row("Identity"),
];

const fn row(name: &'static str) -> Operator {
    Operator { domain: Domain::Onnx, name, lower: movement }
}

/// Bytes that the reference may take here.
const BUDGET: usize = 1 << 30;

fn movement(builder: &mut Builder<'_>, node: &Node) -> Result<(), LowerError> {
    // Every element that moves gets a number of its own; 0 is padding.
    let mut next = 1_i64;
    let mut sources: Vec<(i64, Expr)> = Vec::new();
    let mut numbered: Vec<Option<Arc<Tensor>>> = Vec::new();
    for index in 0..node.inputs.len() {
        if node.inputs[index].is_none() {
            numbered.push(None);
            continue;
        }
        let (dims, expr) = match builder.operand(node, index)? {
            Operand::Wire(expr) => (expr.shape.0[1..].to_vec(), expr),
            Operand::Fixed(fixed) => match fixed.tensor {
                // Shapes, axes, indices.
                Some(tensor) => {
                    numbered.push(Some(tensor));
                    continue;
                }
                None => {
                    return Err(Builder::fail(
                        node,
                        "a weight moves together with what depends on the request",
                    ));
                }
            },
        };
        let count = dims.iter().product::<usize>() as i64;
        let tensor = Tensor::from_vec(dims, (next..next + count).collect());
        numbered.push(Some(Arc::new(
            tensor.map_err(|why| Builder::fail(node, hallmark_model::ops::OpError::from(why)))?,
        )));
        sources.push((next, expr));
        next += count;
    }
    if node.op.name == "Pad" && pads_with_a_value(builder, node)? {
        return Err(Builder::fail(node, "it pads with a value other than 0"));
    }
    let inputs: Vec<Option<&Tensor>> = numbered.iter().map(Option::as_deref).collect();
    let moved = (node.op.eval)(&EvalCx { node, inputs: &inputs, budget: BUDGET })
        .map_err(|why| Builder::fail(node, why))?;
    for (id, tensor) in node.outputs.iter().zip(&moved) {
        let Some(id) = id else { continue };
        let numbers =
            tensor.as_slice::<i64>().ok_or_else(|| Builder::fail(node, "it does more than move elements"))?;
        let shape = builder.shape_of(*id)?;
        let mut out = Expr::zero(shape.clone());
        for (first, expr) in &sources {
            let count = expr.shape.0[1..].iter().product::<usize>() as i64;
            let own = |(y, &number): (usize, &i64)| {
                (*first..*first + count).contains(&number).then(|| (y, (number - first) as usize))
            };
            let links: Vec<(usize, usize)> = numbers.iter().enumerate().filter_map(own).collect();
            if links.is_empty() {
                continue;
            }
            let map = whole(&shape, &expr.shape, &links);
            let part = builder.through(expr.clone(), map)?;
            out.add(1, part);
        }
        let out = if out.terms.len() == 1 { out } else { merged(builder, out)? };
        builder.wires.insert(*id, out);
    }
    Ok(())
}

/// What several sources flow together into is committed to once, so that its readers see one column.
fn merged(builder: &mut Builder<'_>, expr: Expr) -> Result<Expr, LowerError> {
    let shape = expr.shape.clone();
    let column = builder.column(expr)?;
    Ok(Expr::view(View { column, map: None }, shape))
}

/// Requests stay as they are; everything else is one group.
fn whole(view: &Shape, column: &Shape, links: &[(usize, usize)]) -> Map {
    let own = |shape: &Shape| Shape(shape.0[1..].to_vec());
    let (from, to) = (own(view), own(column));
    let at = |&(y, x): &(usize, usize)| (spread_index(y, &from), spread_index(x, &to));
    let pairs =
        Factor::pairs((1..view.0.len()).collect(), (1..column.0.len()).collect(), links.iter().map(at));
    Map { view: view.clone(), column: column.clone(), factors: vec![Factor::identity(0, 0), pairs] }
}

fn pads_with_a_value(builder: &Builder<'_>, node: &Node) -> Result<bool, LowerError> {
    let other_mode = node.attrs.str("mode", "constant") != "constant";
    let value = match node.inputs.get(2).copied().flatten() {
        Some(_) => builder.fixed(node, 2)?.scalar().unwrap_or(1),
        None => i64::from(node.attrs.float("value", 0.0) != 0.0),
    };
    // Other modes move elements, and never read the value.
    Ok(!other_mode && value != 0)
}
