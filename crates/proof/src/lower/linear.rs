//! Sums, differences, products and scalings of integers (`spec/proof.md` §3.3). They cost no commitment: expressions grow.

use std::sync::Arc;

use hallmark_model::graph::Node;
use hallmark_model::ops::Domain;
use hallmark_model::ops::index::integers;
use hallmark_receipt::DType;

use super::{
    Builder, Contraction, Expr, Factor, Fixed, Label, LowerError, Map, Operand, Operator, Shape, Term, View,
    Weight, broadcast, row_major,
};
use crate::circuit::{Links, Source};

/// The most factors of a constant column: each that is taken in makes one more column.
const MAX_FACTORS: usize = 8;

/// The family's table.
pub const OPERATORS: &[Operator] = &[
    Operator { domain: Domain::Onnx, name: "Cast", lower: cast },
    Operator { domain: Domain::Onnx, name: "Add", lower: |builder, node| sum(builder, node, 1) },
    Operator { domain: Domain::Onnx, name: "Sub", lower: |builder, node| sum(builder, node, -1) },
    Operator { domain: Domain::Onnx, name: "Mul", lower: mul },
    Operator { domain: Domain::Onnx, name: "ReduceSum", lower: reduce_sum },
];

/// The range of a type, as far as it is narrower than the field.
fn range(dtype: Option<DType>) -> Option<(i64, i64)> {
    Some(match dtype? {
        DType::I8 => (-128, 127),
        DType::U8 => (0, 255),
        DType::I16 => (-32_768, 32_767),
        DType::I32 => (i64::from(i32::MIN), i64::from(i32::MAX)),
        _ => return None,
    })
}

/// A cast to a type that holds every value changes nothing.
fn cast(builder: &mut Builder<'_>, node: &Node) -> Result<(), LowerError> {
    let x = builder.wire(node, 0)?;
    let from = node.inputs.first().copied().flatten().and_then(|id| range(builder.info(id).dtype));
    let to = range(builder.info(Builder::output(node)?).dtype);
    match (from, to) {
        (Some(from), Some(to)) if to.0 <= from.0 && from.1 <= to.1 => builder.set(node, x),
        _ => Err(Builder::fail(node, "the cast narrows its values")),
    }
}

/// A wire, stretched to `shape`.
pub fn stretch(builder: &mut Builder<'_>, node: &Node, x: Expr, shape: &Shape) -> Result<Expr, LowerError> {
    if x.shape == *shape {
        return Ok(x);
    }
    let map = broadcast(&mut builder.budget, &x.shape.0, shape, true)?;
    builder.through(x, map.ok_or_else(|| Builder::fail(node, "shapes do not broadcast"))?)
}

/// A constant as an expression of shape `shape`.
fn spread(builder: &mut Builder<'_>, node: &Node, x: &Fixed, shape: &Shape) -> Result<Expr, LowerError> {
    let map = broadcast(&mut builder.budget, &x.shape, shape, false)?;
    let map = map.ok_or_else(|| Builder::fail(node, "shapes do not broadcast"))?;
    let column = builder.weight(x)?;
    Ok(Expr::view(View { column, map: Some(Arc::new(map)) }, shape.clone()))
}

/// Narrower integers wrap around, which sums in the field do not.
fn int32(builder: &Builder<'_>, node: &Node) -> Result<(), LowerError> {
    match builder.info(Builder::output(node)?).dtype {
        Some(DType::I32) => Ok(()),
        _ => Err(Builder::fail(node, "sums and products are proved of int32")),
    }
}

fn sum(builder: &mut Builder<'_>, node: &Node, sign: i64) -> Result<(), LowerError> {
    int32(builder, node)?;
    let shape = builder.shape_of(Builder::output(node)?)?;
    let mut total = Expr::zero(shape.clone());
    for (index, sign) in [(0, 1), (1, sign)] {
        let part = match builder.operand(node, index)? {
            Operand::Wire(x) => stretch(builder, node, x, &shape)?,
            Operand::Fixed(x) => spread(builder, node, &x, &shape)?,
        };
        total.add(sign, part);
    }
    builder.set(node, total)
}

fn mul(builder: &mut Builder<'_>, node: &Node) -> Result<(), LowerError> {
    int32(builder, node)?;
    let shape = builder.shape_of(Builder::output(node)?)?;
    let product = match (builder.operand(node, 0)?, builder.operand(node, 1)?) {
        (Operand::Wire(x), Operand::Fixed(by)) | (Operand::Fixed(by), Operand::Wire(x)) => {
            let x = stretch(builder, node, x, &shape)?;
            scale(builder, node, x, &by)?
        }
        (Operand::Wire(a), Operand::Wire(b)) => elementwise(builder, a, b, shape)?,
        _ => return Err(Builder::fail(node, "both operands are constants")),
    };
    builder.set(node, product)
}

/// The labels of an operand of an elementwise product: stretched axes get one of their own, which takes no variable.
fn labels(own: &Shape, sizes: &mut Vec<usize>, requests: bool, rank: usize) -> Vec<Label> {
    let missing = rank - own.0.len();
    own.0
        .iter()
        .enumerate()
        .map(|(at, &n)| {
            let label = if requests && at == 0 { 0 } else { missing + at };
            if n == sizes[label] {
                return label;
            }
            sizes.push(n);
            sizes.len() - 1
        })
        .collect()
}

/// The elementwise product of two wires, with numpy's broadcasting.
pub fn elementwise(builder: &mut Builder<'_>, a: Expr, b: Expr, shape: Shape) -> Result<Expr, LowerError> {
    let mut sizes = shape.0.clone();
    let rank = sizes.len();
    let sides = [&a.shape, &b.shape].map(|own| labels(own, &mut sizes, true, rank));
    let [left, right] = sides;
    let (a, b) = (builder.view(a)?, builder.view(b)?);
    let contraction = builder.contraction((a, left), (b, right), (0..rank).collect(), sizes)?;
    Ok(Expr::contraction(contraction, shape))
}

/// `x` times a constant that broadcasts to it. Weights take the factor into their own column of the model's commitment, so that a
/// convolution with its scales costs what the convolution costs.
pub fn scale(builder: &mut Builder<'_>, node: &Node, x: Expr, by: &Fixed) -> Result<Expr, LowerError> {
    if let Some(by) = by.scalar() {
        let mut out = Expr::zero(x.shape.clone());
        out.add(by, x);
        return Ok(out);
    }
    let rank = x.shape.0.len();
    let offset = rank.checked_sub(by.shape.len()).filter(|offset| *offset > 0);
    let offset = offset.ok_or_else(|| Builder::fail(node, "a constant has more axes than what it scales"))?;
    let by_strides = row_major(&by.shape);
    // Stride of the factor along each axis of the result; 0 where it is stretched.
    let strides: Vec<usize> = (0..rank)
        .map(|axis| {
            axis.checked_sub(offset).map_or(0, |at| if by.shape[at] == 1 { 0 } else { by_strides[at] })
        })
        .collect();
    let mut x = x;
    if !x.is_linear() {
        let shape = x.shape.clone();
        x = Expr::view(builder.view(x)?, shape);
    }
    let mut out = Expr::zero(x.shape.clone());
    for (coefficient, term) in x.terms {
        let scaled = match absorb(builder, &term, &strides, by)? {
            Some(term) => term,
            None => {
                let own = Expr { terms: vec![(1, term)], ..Expr::zero(x.shape.clone()) };
                let view = builder.view(own)?;
                let column = builder.weight(by)?;
                let mut sizes = x.shape.0.clone();
                let right = labels(&Shape(by.shape.clone()), &mut sizes, false, rank);
                let all: Vec<Label> = (0..rank).collect();
                let right_view = View { column, map: None };
                let operands = ((view, all.clone()), (right_view, right));
                Term::Contraction(builder.contraction(operands.0, operands.1, all, sizes)?)
            }
        };
        out.terms.push((coefficient, scaled));
    }
    Ok(out)
}

/// The term with the factor moved into the weight that it reads, where that weight has every axis that the factor has.
fn absorb(
    builder: &mut Builder<'_>,
    term: &Term,
    strides: &[usize],
    by: &Fixed,
) -> Result<Option<Term>, LowerError> {
    let live: Vec<usize> = (0..strides.len()).filter(|&axis| strides[axis] != 0).collect();
    match term {
        Term::Contraction(contraction) => {
            for right in [true, false] {
                let (view, labels) = match right {
                    true => (&contraction.right, &contraction.right_labels),
                    false => (&contraction.left, &contraction.left_labels),
                };
                let at = |axis: &usize| labels.iter().position(|label| *label == contraction.out[*axis]);
                let Some(axes) = live.iter().map(at).collect::<Option<Vec<_>>>() else { continue };
                let Some(view) = absorb_view(builder, view, &live, &axes, strides, by)? else { continue };
                let mut contraction: Contraction = contraction.clone();
                *(if right { &mut contraction.right } else { &mut contraction.left }) = view;
                return Ok(Some(Term::Contraction(contraction)));
            }
            Ok(None)
        }
        Term::View(view) => {
            // Through a map, an axis of the view is an axis of the weight if they are identical.
            let Some(map) = &view.map else { return Ok(None) };
            let same = |axis: &usize| {
                let own = map.factors.iter().find(|f| f.view == [*axis] && f.links == Links::Identity)?;
                own.column.first().copied()
            };
            let Some(axes) = live.iter().map(same).collect::<Option<Vec<_>>>() else { return Ok(None) };
            let inner = View { column: view.column, map: None };
            let Some(inner) = absorb_view(builder, &inner, &live, &axes, strides, by)? else {
                return Ok(None);
            };
            Ok(Some(Term::View(View { column: inner.column, map: view.map.clone() })))
        }
    }
}

/// `axes[i]` of the weight is axis `live[i]` of the result.
fn absorb_view(
    builder: &mut Builder<'_>,
    view: &View,
    live: &[usize],
    axes: &[usize],
    strides: &[usize],
    by: &Fixed,
) -> Result<Option<View>, LowerError> {
    let column = builder.circuit.column(view.column).clone();
    let Source::Constant(constant) = column.source else { return Ok(None) };
    if view.map.is_some() || constant.factors.len() >= MAX_FACTORS {
        return Ok(None);
    }
    let mut own = vec![0; column.shape.0.len()];
    for (&axis, &from) in axes.iter().zip(live) {
        own[axis] = strides[from];
    }
    let mut factors = constant.factors;
    factors.push(Weight { value: by.id, strides: own });
    Ok(Some(View { column: builder.constant(factors, column.shape)?, map: None }))
}

fn reduce_sum(builder: &mut Builder<'_>, node: &Node) -> Result<(), LowerError> {
    int32(builder, node)?;
    let x = builder.wire(node, 0)?;
    let rank = x.shape.0.len() - 1;
    let axes = match node.inputs.get(1).copied().flatten() {
        Some(_) => {
            let fixed = builder.fixed(node, 1)?;
            fixed
                .tensor
                .as_deref()
                .and_then(integers)
                .ok_or_else(|| Builder::fail(node, "its axes are not constant"))?
        }
        None => node.attrs.ints("axes").unwrap_or(&[]).to_vec(),
    };
    if axes.is_empty() && node.attrs.int("noop_with_empty_axes", 0) != 0 {
        return builder.set(node, x);
    }
    let rank_i = rank as i64;
    let at =
        |axis: i64| usize::try_from(if axis < 0 { axis + rank_i } else { axis }).ok().filter(|a| *a < rank);
    let gone: Option<Vec<usize>> =
        if axes.is_empty() { Some((0..rank).collect()) } else { axes.into_iter().map(at).collect() };
    let gone = gone.ok_or_else(|| Builder::fail(node, "an axis is out of range"))?;
    let keep = node.attrs.int("keepdims", 1) != 0;
    let (mut view, mut factors) = (Vec::new(), Vec::new());
    for (axis, &n) in x.shape.0.iter().enumerate() {
        let summed = axis > 0 && gone.contains(&(axis - 1));
        if !summed {
            factors.push(Factor::identity(view.len(), axis));
            view.push(n);
        } else {
            let own = if keep { vec![view.len()] } else { Vec::new() };
            view.extend(keep.then_some(1));
            let all = (0..n).map(|i| (0, i));
            factors.push(Factor::pairs(&mut builder.budget, own, vec![axis], &[n], all)?);
        }
    }
    let map = Map { view: Shape(view), column: x.shape.clone(), factors };
    let sum = builder.through(x, map)?;
    builder.set(node, sum)
}
