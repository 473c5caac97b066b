//! Sums of products: matrix products and convolutions of integers (`spec/proof.md` §3.2).

use hallmark_model::graph::Node;
use hallmark_model::ops::Domain;
use hallmark_model::ops::conv::ConvShape;

use super::{
    Builder, Expr, Factor, Label, LowerError, Map, Operand, Operator, Shape, Term, View, Weight, row_major,
};

/// The family's table.
pub const OPERATORS: &[Operator] = &[
    Operator { domain: Domain::Onnx, name: "MatMulInteger", lower: matmul },
    Operator { domain: Domain::Onnx, name: "ConvInteger", lower: conv },
];

fn no_zero_points(node: &Node) -> Result<(), LowerError> {
    if node.inputs.iter().skip(2).any(Option::is_some) {
        return Err(Builder::fail(node, "zero points are not proved; quantise around zero"));
    }
    Ok(())
}

/// One operand of a product: its view and its dimensions, without and with the axis of requests.
struct Side {
    view: View,
    dims: Vec<usize>,
    requests: bool,
}

fn side(builder: &mut Builder<'_>, node: &Node, index: usize) -> Result<Side, LowerError> {
    Ok(match builder.operand(node, index)? {
        Operand::Wire(expr) => {
            let dims = expr.shape.0[1..].to_vec();
            Side { view: builder.view(expr)?, dims, requests: true }
        }
        Operand::Fixed(fixed) => {
            let column = builder.weight(&fixed)?;
            Side { view: View { column, map: None }, dims: fixed.shape, requests: false }
        }
    })
}

/// `MatMulInteger` in numpy's sense. Labels: 0 requests, 1 rows, 2 inner, 3 columns, then the other axes.
fn matmul(builder: &mut Builder<'_>, node: &Node) -> Result<(), LowerError> {
    no_zero_points(node)?;
    let (a, b) = (side(builder, node, 0)?, side(builder, node, 1)?);
    let out = builder.shape_of(Builder::output(node)?)?;
    let mut sizes = vec![out.0[0], 1, a.dims.last().copied().unwrap_or(1), 1];
    let (rows, columns) = (a.dims.len() > 1, b.dims.len() > 1);
    if rows {
        sizes[1] = a.dims[a.dims.len() - 2];
    }
    if columns {
        sizes[3] = b.dims[b.dims.len() - 1];
    }
    let outer = out.0.len() - 1 - usize::from(rows) - usize::from(columns);
    let mut out_labels: Vec<Label> = vec![0];
    for &n in &out.0[1..=outer] {
        out_labels.push(sizes.len());
        sizes.push(n);
    }
    let batch = out_labels[1..].to_vec();
    if rows {
        out_labels.push(1);
    }
    if columns {
        out_labels.push(3);
    }
    let mut labels = |side: &Side, tail: &[Label]| {
        let own = side.dims.len() - tail.len();
        let mut labels: Vec<Label> = if side.requests { vec![0] } else { Vec::new() };
        for (at, &n) in side.dims[..own].iter().enumerate() {
            let label = batch[outer - own + at];
            if n == sizes[label] {
                labels.push(label);
            } else {
                // A stretched axis has one element: a label of its own, which takes no variable.
                labels.push(sizes.len());
                sizes.push(1);
            }
        }
        labels.extend(tail);
        labels
    };
    let left = labels(&a, if rows { &[1, 2] } else { &[2] });
    let right = labels(&b, if columns { &[2, 3] } else { &[2] });
    let contraction = builder.contraction((a.view, left), (b.view, right), out_labels, sizes)?;
    builder.set(node, Expr::contraction(contraction, out))
}

/// `ConvInteger`: the windows of the input as a view, contracted with the filters.
fn conv(builder: &mut Builder<'_>, node: &Node) -> Result<(), LowerError> {
    no_zero_points(node)?;
    let (x, w) = (builder.wire(node, 0)?, builder.fixed(node, 1)?);
    let dims = x.shape.0[1..].to_vec();
    let conv = ConvShape::new(&node.attrs, &dims, &w.shape).map_err(|why| Builder::fail(node, why))?;
    let (groups, channels) = (conv.groups, conv.channels);
    let filters = conv.filters / groups;
    let spatial = conv.window.axes.len();
    // Labels: requests, batch, group, filter, channel, then kernel and output positions of each axis.
    let (batch, group, filter, channel) = (1, 2, 3, 4);
    let kernel = |axis: usize| 5 + 2 * axis;
    let position = |axis: usize| 6 + 2 * axis;
    let mut sizes = vec![x.shape.0[0], conv.batch, groups, filters, channels];
    for axis in &conv.window.axes {
        sizes.extend([axis.kernel, axis.output]);
    }
    // The windows: [requests, batch, group, channel, kernel .., position ..].
    let mut left = vec![0, batch, group, channel];
    left.extend((0..spatial).map(kernel));
    left.extend((0..spatial).map(position));
    let view = Shape(left.iter().map(|&label| sizes[label]).collect());
    let mut factors = vec![Factor::identity(0, 0), Factor::identity(1, 1)];
    let stride = 1_usize << crate::circuit::log2(channels);
    let pairs = (0..groups).flat_map(|g| (0..channels).map(move |c| (g * stride + c, g * channels + c)));
    let all = [groups, channels];
    factors.push(Factor::pairs(&mut builder.budget, vec![2, 3], vec![2], &all, pairs)?);
    for (at, axis) in conv.window.axes.iter().enumerate() {
        let stride = 1_usize << crate::circuit::log2(axis.output);
        let links = (0..axis.kernel)
            .flat_map(|k| (0..axis.output).filter_map(move |o| Some((k * stride + o, axis.position(o, k)?))));
        let (own, all) = (vec![4 + at, 4 + spatial + at], [axis.kernel, axis.output]);
        factors.push(Factor::pairs(&mut builder.budget, own, vec![3 + at], &all, links)?);
    }
    let windows = Map { view, column: x.shape.clone(), factors };
    let windows = builder.through(x, windows)?;
    let left_view = builder.view(windows)?;
    // The filters: [group, filter, channel, kernel ..], as they lie.
    let mut right = vec![group, filter, channel];
    right.extend((0..spatial).map(kernel));
    let shape = Shape(right.iter().map(|&label| sizes[label]).collect());
    let strides = row_major(&shape.0);
    let column = builder.constant(vec![Weight { value: w.id, strides }], shape)?;
    let mut out: Vec<Label> = vec![0, batch, group, filter];
    out.extend((0..spatial).map(position));
    let out_sizes: Vec<usize> = out.iter().map(|&label| sizes[label]).collect();
    let contraction =
        builder.contraction((left_view, left), (View { column, map: None }, right), out, sizes)?;
    let split = Expr::contraction(contraction, Shape(out_sizes));
    let expr = join_channels(builder, split, &conv)?;
    builder.set(node, expr)
}

/// Groups and filters of a group are one axis in the graph. Where one of them is 1 it only disappears; otherwise the
/// result is seen through a map.
fn join_channels(builder: &mut Builder<'_>, mut expr: Expr, conv: &ConvShape) -> Result<Expr, LowerError> {
    let (groups, filters) = (conv.groups, conv.filters / conv.groups);
    if groups == 1 || filters == 1 {
        let gone = if groups == 1 { 2 } else { 3 };
        expr.shape.0.remove(gone);
        if let Some((_, Term::Contraction(contraction))) = expr.terms.first_mut() {
            contraction.out.remove(gone);
        }
        return Ok(expr);
    }
    let stride = 1_usize << crate::circuit::log2(filters);
    let mut view = expr.shape.0.clone();
    view.splice(2..4, [conv.filters]);
    let mut factors = vec![Factor::identity(0, 0), Factor::identity(1, 1)];
    let pairs = (0..groups).flat_map(|g| (0..filters).map(move |f| (g * filters + f, g * stride + f)));
    factors.push(Factor::pairs(&mut builder.budget, vec![2], vec![2, 3], &[groups, filters], pairs)?);
    factors.extend((3..view.len()).map(|axis| Factor::identity(axis, axis + 1)));
    let map = Map { view: Shape(view), column: expr.shape.clone(), factors };
    builder.through(expr, map)
}
