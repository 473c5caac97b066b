//! Operators that only move elements (`spec/proof.md` §3.6). Where they go is read off the scalar reference itself, run on
//! the elements' own numbers: one rule for all of them. What keeps the row-major order, or only the axes', is seen without that.

use std::sync::Arc;

use hallmark_model::graph::Node;
use hallmark_model::ops::index::axes;
use hallmark_model::ops::{Domain, EvalCx};
use hallmark_receipt::Tensor;

use super::embedding::embedding;
use super::{Builder, Expr, Factor, LowerError, Map, Operand, Operator, Shape, spread_index};
use crate::budget::{AT_ONCE, Budget, Exceeded};
use crate::circuit::View;

/// The family's table.
#[rustfmt::skip]
pub const OPERATORS: &[Operator] = &[
    row("Reshape"), row("Flatten"), row("Squeeze"), row("Unsqueeze"), row("Identity"), row("Transpose"), row("Concat"),
    row("Slice"), row("Split"), row("Expand"), row("Tile"), row("Pad"), row("Gather"), row("GatherND"), row("GatherElements"),
    row("DepthToSpace"), row("SpaceToDepth"), row("ReverseSequence"),
];

const fn row(name: &'static str) -> Operator {
    Operator { domain: Domain::Onnx, name, lower: movement }
}

/// Bytes that the reference may take here: those of as many numbers as one list may hold.
const BYTES: usize = 8 * AT_ONCE as usize;

fn movement(builder: &mut Builder<'_>, node: &Node) -> Result<(), LowerError> {
    let shape = builder.shape_of(Builder::output(node)?)?;
    match node.op.name {
        "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Identity" => {
            let x = builder.wire(node, 0)?;
            let map = regrouped(&mut builder.budget, &shape, &x.shape)?;
            let moved = builder.through(x, map)?;
            return builder.set(node, moved);
        }
        "Gather" => {
            if let (Operand::Fixed(weight), Operand::Wire(ids)) =
                (builder.operand(node, 0)?, builder.operand(node, 1)?)
            {
                return embedding(builder, node, &weight, ids);
            }
        }
        "Transpose" => {
            let x = builder.wire(node, 0)?;
            let rank = shape.0.len() - 1;
            let reversed: Vec<i64> = (0..rank as i64).rev().collect();
            let order = axes(node.attrs.ints("perm").unwrap_or(&reversed), rank);
            let order = order.map_err(|why| Builder::fail(node, why))?;
            let mut factors = vec![Factor::identity(0, 0)];
            factors.extend(order.iter().enumerate().map(|(to, from)| Factor::identity(to + 1, from + 1)));
            let map = Map { view: shape, column: x.shape.clone(), factors };
            let moved = builder.through(x, map)?;
            return builder.set(node, moved);
        }
        _ => {}
    }
    builder.budget.list(&[node.inputs.len(), 8])?;
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
            Operand::Wire(expr) if index == 0 || node.op.name == "Concat" => {
                (expr.shape.0[1..].to_vec(), expr)
            }
            Operand::Wire(_) => {
                return Err(Builder::fail(node, "where it moves elements depends on the request"));
            }
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
        builder.budget.list(&dims)?;
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
    for id in node.outputs.iter().flatten() {
        builder.budget.list(&builder.dims(*id)?)?;
    }
    let inputs: Vec<Option<&Tensor>> = numbered.iter().map(Option::as_deref).collect();
    let moved = (node.op.eval)(&EvalCx { node, inputs: &inputs, budget: BYTES })
        .map_err(|why| Builder::fail(node, why))?;
    for (id, tensor) in node.outputs.iter().zip(&moved) {
        let Some(id) = id else { continue };
        let numbers =
            tensor.as_slice::<i64>().ok_or_else(|| Builder::fail(node, "it does more than move elements"))?;
        let shape = builder.shape_of(*id)?;
        builder.budget.turns(&[numbers.len(), sources.len()])?;
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
            let map = whole(&mut builder.budget, &shape, &expr.shape, &links)?;
            let part = builder.through(expr.clone(), map)?;
            out.add(1, part);
        }
        let out = if out.terms.len() == 1 { out } else { merged(builder, out)? };
        builder.insert(*id, out)?;
    }
    Ok(())
}

/// The map between two shapes of the same row-major elements: axes whose sizes multiply to the same are a group.
pub fn regrouped(budget: &mut Budget, view: &Shape, column: &Shape) -> Result<Map, Exceeded> {
    let mut factors = Vec::new();
    let (mut y, mut x) = (0, 0);
    while y < view.0.len() || x < column.0.len() {
        let (from, to) = (y, x);
        let (mut left, mut right) = (1, 1);
        // At least one axis of a side; then whichever side is behind, and axes of one element along with their group.
        loop {
            let next = |shape: &Shape, at: usize| shape.0.get(at).copied();
            match (next(view, y), next(column, x)) {
                (Some(n), _) if y == from || left < right => (left, y) = (left * n, y + 1),
                (_, Some(n)) if x == to || right < left => (right, x) = (right * n, x + 1),
                (Some(1), _) if y + 1 == view.0.len() || x == column.0.len() => y += 1,
                (_, Some(1)) if y == view.0.len() => x += 1,
                _ => break,
            }
        }
        if y - from == 1 && x - to == 1 && left == right {
            factors.push(Factor::identity(from, to));
            continue;
        }
        let own = |shape: &Shape, range: std::ops::Range<usize>| Shape(shape.0[range].to_vec());
        let (a, b) = (own(view, from..y), own(column, to..x));
        let pairs = (0..left).map(|i| (spread_index(i, &a), spread_index(i, &b)));
        factors.push(Factor::pairs(budget, (from..y).collect(), (to..x).collect(), &[left], pairs)?);
    }
    Ok(Map { view: view.clone(), column: column.clone(), factors })
}

/// What several sources flow together into is committed to once, so that its readers see one column.
fn merged(builder: &mut Builder<'_>, expr: Expr) -> Result<Expr, LowerError> {
    let shape = expr.shape.clone();
    let column = builder.column(expr)?;
    Ok(Expr::view(View { column, map: None }, shape))
}

/// The map of the links, each an element of the view and one of the column as they lie. Axes that move independently of each other
/// are groups of their own, so that what a verifier computes is linear in the axes and not in the tensor.
fn whole(
    budget: &mut Budget,
    view: &Shape,
    column: &Shape,
    links: &[(usize, usize)],
) -> Result<Map, Exceeded> {
    let own = |shape: &Shape| Shape(shape.0[1..].to_vec());
    let (from, to) = (own(view), own(column));
    let mut factors = vec![Factor::identity(0, 0)];
    let shift = |axes: &[usize]| axes.iter().map(|axis| axis + 1).collect::<Vec<_>>();
    match independent(budget, &from, &to, links)? {
        Some(groups) => {
            for (y, x, pairs) in groups {
                let same = matches!((&y[..], &x[..]), ([a], [b])
                    if from.0[*a] == to.0[*b] && pairs.len() == from.0[*a] && pairs.iter().all(|(i, j)| i == j));
                factors.push(if same {
                    Factor::identity(y[0] + 1, x[0] + 1)
                } else {
                    let count = pairs.len();
                    Factor::pairs(budget, shift(&y), shift(&x), &[count], pairs)?
                });
            }
        }
        None => {
            let at = |&(y, x): &(usize, usize)| (spread_index(y, &from), spread_index(x, &to));
            let all = |shape: &Shape| (1..=shape.0.len()).collect();
            let pairs = links.iter().map(at);
            factors.push(Factor::pairs(budget, all(&from), all(&to), &[links.len()], pairs)?);
        }
    }
    Ok(Map { view: view.clone(), column: column.clone(), factors })
}

/// A group of axes: of the view, of the column, and the links between their padded elements.
type Group = (Vec<usize>, Vec<usize>, Vec<(usize, usize)>);

/// An axis of a tensor as it lies: its size and its stride.
type Axis = (usize, usize);

/// Splits links into groups of axes whose product they are; `None` if they are no product. Each element of the view has at most one link.
fn independent(
    budget: &mut Budget,
    view: &Shape,
    column: &Shape,
    links: &[(usize, usize)],
) -> Result<Option<Vec<Group>>, Exceeded> {
    let axes =
        |shape: &Shape| -> Vec<Axis> { shape.0.iter().copied().zip(super::row_major(&shape.0)).collect() };
    let (y_axes, x_axes) = (axes(view), axes(column));
    let at = |index: usize, (n, stride): Axis| index / stride % n;
    let Some(&origin) = links.first() else { return Ok(None) };
    budget.turns(&[links.len(), y_axes.len() + x_axes.len()])?;
    // Axis a of the view moves axis b of the column if some link that differs from the first along a alone differs along b.
    let ranks = y_axes.len();
    let mut group: Vec<usize> = (0..ranks + x_axes.len()).collect();
    for &(y, x) in links {
        let mut moved = (0..ranks).filter(|&a| at(y, y_axes[a]) != at(origin.0, y_axes[a]));
        let (Some(a), None) = (moved.next(), moved.next()) else { continue };
        for b in (0..x_axes.len()).filter(|&b| at(x, x_axes[b]) != at(origin.1, x_axes[b])) {
            let (old, new) = (group[ranks + b], group[a]);
            group.iter_mut().filter(|g| **g == old).for_each(|g| *g = new);
        }
    }
    let mut names = group.clone();
    names.sort_unstable();
    names.dedup();
    let mut groups: Vec<Group> = Vec::with_capacity(names.len());
    let mut count = 1_usize;
    for name in names {
        let y: Vec<usize> = (0..ranks).filter(|&a| group[a] == name).collect();
        let x: Vec<usize> = (0..x_axes.len()).filter(|&b| group[ranks + b] == name).collect();
        budget.turns(&[2 * links.len(), ranks + x.len()])?;
        budget.list(&y.iter().map(|&axis| view.0[axis].next_power_of_two()).collect::<Vec<_>>())?;
        let place = |&(i, j): &(usize, usize)| {
            (packed(|a| at(i, y_axes[a]), &y, view), packed(|b| at(j, x_axes[b]), &x, column))
        };
        // The group's own links are those that are the first one's everywhere else.
        let others: Vec<Axis> = (0..ranks).filter(|&a| group[a] != name).map(|a| y_axes[a]).collect();
        let own = |link: &&(usize, usize)| others.iter().all(|&axis| at(link.0, axis) == at(origin.0, axis));
        let pairs: Vec<(usize, usize)> = links.iter().filter(own).map(place).collect();
        let mut table = vec![None; y.iter().map(|&axis| view.0[axis].next_power_of_two()).product()];
        for &(from, to) in &pairs {
            table[from] = Some(to);
        }
        if links.iter().map(place).any(|(from, to)| table[from] != Some(to)) {
            return Ok(None);
        }
        let Some(product) = count.checked_mul(pairs.len()) else { return Ok(None) };
        count = product;
        groups.push((y, x, pairs));
    }
    // Every link is in the product; if there are as many, they are the product.
    Ok((count == links.len()).then_some(groups))
}

/// The index of an element into a padded group of axes.
fn packed(index: impl Fn(usize) -> usize, axes: &[usize], shape: &Shape) -> usize {
    axes.iter().fold(0, |at, &axis| (at << crate::circuit::log2(shape.0[axis])) | index(axis))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_of_the_same_size_are_grouped_and_every_element_keeps_its_number() {
        let cases: &[(&[usize], &[usize])] = &[
            (&[2, 5, 12], &[2, 5, 3, 4]),
            (&[1, 400], &[1, 16, 5, 5]),
            (&[3, 1, 7, 1], &[3, 7]),
            (&[3, 7], &[3, 1, 7, 1]),
            (&[4, 6, 1], &[4, 1, 2, 3]),
            (&[1, 1], &[1]),
            (&[1], &[1, 1, 1]),
            (&[2, 6, 5], &[2, 10, 3]),
        ];
        for (view, column) in cases {
            let (view, column) = (Shape(view.to_vec()), Shape(column.to_vec()));
            let map = regrouped(&mut Budget::default(), &view, &column).unwrap();
            let mut from = vec![0; column.padded()];
            let count: usize = column.0.iter().product();
            (0..count).for_each(|i| from[spread_index(i, &column)] = i as i32 + 1);
            let mut want = vec![0; view.padded()];
            (0..count).for_each(|i| want[spread_index(i, &view)] = i as i32 + 1);
            assert_eq!(map.apply(&from), want, "{view:?} {column:?}");
            let mut axes: Vec<usize> = map.factors.iter().flat_map(|f| f.view.clone()).collect();
            axes.sort_unstable();
            assert_eq!(axes, (0..view.0.len()).collect::<Vec<_>>());
        }
    }
}
