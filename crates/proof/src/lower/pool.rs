//! Maxima (`spec/proof.md` §3.5): tournaments of `max(a, b) = b + relu(a - b)`, each step a lookup, so that a maximum is at least
//! every input and attained by construction.

use hallmark_model::graph::Node;
use hallmark_model::ops::Domain;
use hallmark_model::ops::window::Geometry;
use hallmark_receipt::DType;

use super::{Builder, Expr, Factor, LowerError, Map, Operator, Shape, Table};
use super::{linear::reduced, movement::regrouped, requantize::apply};

/// The family's table.
pub const OPERATORS: &[Operator] = &[
    Operator { domain: Domain::Onnx, name: "MaxPool", lower: max_pool },
    Operator { domain: Domain::Onnx, name: "ReduceMax", lower: reduce_max },
];

/// `max(a, b)` of values of at most 8 bits.
pub fn max(builder: &mut Builder<'_>, a: Expr, b: Expr) -> Result<Expr, LowerError> {
    let mut difference = a;
    difference.add(-1, b.clone());
    apply(builder, difference, Table::clamp(8, 0, 255), Some(b))
}

fn narrow(builder: &Builder<'_>, node: &Node) -> Result<(), LowerError> {
    let dtype = node.inputs.first().copied().flatten().and_then(|id| builder.info(id).dtype);
    match dtype {
        Some(DType::I8 | DType::U8) => Ok(()),
        _ => Err(Builder::fail(node, "a maximum is proved of int8 or uint8")),
    }
}

fn max_pool(builder: &mut Builder<'_>, node: &Node) -> Result<(), LowerError> {
    narrow(builder, node)?;
    if node.outputs.iter().skip(1).any(Option::is_some) {
        return Err(Builder::fail(node, "the indices of maxima are not proved"));
    }
    let x = builder.wire(node, 0)?;
    let spatial = x.shape.0.get(3..).unwrap_or(&[]).to_vec();
    let place = Geometry::with_kernel_shape(&node.attrs, spatial.len()).and_then(|g| g.place(&spatial));
    let window = place.map_err(|why| Builder::fail(node, why))?;
    let mut view = x.shape.0[..3].to_vec();
    view.extend(window.output());
    // For each kernel position the input under it; a position in the padding reads one that is inside, which changes no maximum.
    let kernels: Vec<usize> = window.axes.iter().map(|axis| axis.kernel).collect();
    builder.budget.turns(&kernels)?;
    let count: usize = kernels.iter().product();
    let mut best: Option<Expr> = None;
    for index in 0..count {
        let mut factors: Vec<Factor> = (0..3).map(|axis| Factor::identity(axis, axis)).collect();
        let mut rest = index;
        let mut position = vec![0; kernels.len()];
        for (slot, &n) in position.iter_mut().zip(&kernels).rev() {
            *slot = rest % n;
            rest /= n;
        }
        for (at, (axis, &k)) in window.axes.iter().zip(&position).enumerate() {
            builder.budget.list(&[axis.output])?;
            let mut links = Vec::with_capacity(axis.output);
            for o in 0..axis.output {
                let inside = axis.inside(o);
                let first = inside
                    .clone()
                    .next()
                    .ok_or_else(|| Builder::fail(node, "a window lies in the padding"))?;
                let k = if inside.contains(&k) { k } else { first };
                links.push((o, axis.position(o, k).unwrap_or(0)));
            }
            let (own, count) = (vec![3 + at], links.len());
            factors.push(Factor::pairs(&mut builder.budget, own.clone(), own, &[count], links)?);
        }
        let map = Map { view: Shape(view.clone()), column: x.shape.clone(), factors };
        let part = builder.through(x.clone(), map)?;
        best = Some(match best {
            None => part,
            Some(best) => max(builder, best, part)?,
        });
    }
    let best = best.ok_or_else(|| Builder::fail(node, "a window without elements"))?;
    builder.set(node, best)
}

fn reduce_max(builder: &mut Builder<'_>, node: &Node) -> Result<(), LowerError> {
    narrow(builder, node)?;
    let x = builder.wire(node, 0)?;
    let shape = builder.shape_of(Builder::output(node)?)?;
    let mut best = builder.cut(x)?;
    for axis in reduced(builder, node, best.shape.0.len() - 1)? {
        best = max_axis(builder, best, axis + 1)?;
    }
    let map = regrouped(&mut builder.budget, &shape, &best.shape)?;
    let best = builder.through(best, map)?;
    builder.set(node, best)
}

/// The maximum along one axis, kept with size 1: halves against halves.
pub fn max_axis(builder: &mut Builder<'_>, mut x: Expr, axis: usize) -> Result<Expr, LowerError> {
    while x.shape.0[axis] > 1 {
        let n = x.shape.0[axis];
        let half = n.div_ceil(2);
        let mut view = x.shape.0.clone();
        view[axis] = half;
        // The second half begins at the end, so that of an odd number the middle one meets itself.
        let mut part = |start: usize| -> Result<Expr, LowerError> {
            let mut factors: Vec<Factor> = (0..view.len())
                .filter(|other| *other != axis)
                .map(|other| Factor::identity(other, other))
                .collect();
            let links = (0..half).map(|i| (i, start + i));
            factors.push(Factor::pairs(&mut builder.budget, vec![axis], vec![axis], &[half], links)?);
            let map = Map { view: Shape(view.clone()), column: x.shape.clone(), factors };
            builder.through(x.clone(), map)
        };
        let (low, high) = (part(0)?, part(n - half)?);
        x = max(builder, low, high)?;
    }
    Ok(x)
}
