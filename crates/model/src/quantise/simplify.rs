//! Operators written as others (`quantised.md` §3.1), so that the planner has fewer to know. A value's shape stays what it is.

use hallmark_receipt::Tensor;

use super::QuantiseError;
use super::array::Array;
use super::einsum::einsum;
use super::pattern::MASKED;
use super::rewrite::{Rewrite, rewrite};
use super::source::Source;
use super::unary::Ancestors;
use crate::graph::{Attr, Attrs, Dim, Graph, Node, ValueId};
use crate::ops::index::integers;
use crate::ops::pad::{origins, widths};
use crate::ops::window::{AutoPad, Geometry, Window};

/// What writes a node as others; `None` where it stays.
type Rule = fn(&mut Rewrite<'_>, &Node, ValueId) -> Result<Option<()>, QuantiseError>;

/// An operator each; its first output is given.
#[rustfmt::skip]
const RULES: &[(&str, Rule)] = &[
    ("AveragePool", average), ("ConvTranspose", transposed), ("Einsum", einsum), ("GlobalMaxPool", global_max), ("LinearClassifier", classifier), ("LinearRegressor", regressor), ("Max", extremum), ("Mean", sum),
    ("Min", extremum), ("Pad", padding), ("PRelu", prelu), ("Resize", nearest), ("Scaler", scaler), ("Sum", sum), ("Upsample", nearest), ("Where", choice),
];

/// `graph` with the operators of the table written as others.
pub(super) fn simplify(graph: &Graph) -> Result<Graph, QuantiseError> {
    let rule = |node: &Node| RULES.iter().find(|(name, _)| *name == node.op.name).map(|(_, rule)| *rule);
    if !graph.nodes.iter().any(|node| rule(node).is_some()) {
        return Ok(graph.clone());
    }
    let source = Source::new(graph.clone())?;
    let ancestors = Ancestors::of(&source);
    rewrite(graph, |work, node| {
        let output = node.outputs.first().copied().flatten();
        // A function of one value stays whole: it becomes a table.
        let output = output.filter(|id| ancestors.base(*id).is_none());
        if let (Some(rule), Some(output)) = (rule(node), output)
            && rule(work, node, output)?.is_some()
        {
            return Ok(());
        }
        work.keep(node);
        Ok(())
    })
}

/// The most places of an AveragePool that have a factor of their own.
const PLACES: usize = 1 << 20;

fn tensor(array: &Array) -> Option<Tensor> {
    Tensor::from_vec(array.shape.clone(), array.values.iter().map(|x| *x as f32).collect()).ok()
}

/// `x + relu(y - x)`, or `x - relu(x - y)`, of any number of values.
fn extremum(work: &mut Rewrite<'_>, node: &Node, output: ValueId) -> Result<Option<()>, QuantiseError> {
    let ids: Vec<ValueId> = node.inputs.iter().flatten().map(|id| work.named(*id)).collect();
    if !work.is_float(output) {
        return Ok(None);
    }
    let &[mut best, ref rest @ ..] = ids.as_slice() else { return Ok(None) };
    for (at, y) in rest.iter().enumerate() {
        let order = if node.op.name == "Max" { vec![*y, best] } else { vec![best, *y] };
        let difference = work.then(node, "Sub", &[], order, output)?;
        let over = work.then(node, "Relu", &[], vec![difference], output)?;
        let op = if node.op.name == "Max" { "Add" } else { "Sub" };
        if at + 1 == rest.len() {
            work.push(node, op, Attrs::default(), vec![best, over], output)?;
        } else {
            best = work.then(node, op, &[], vec![best, over], output)?;
        }
    }
    Ok((!rest.is_empty()).then_some(()))
}

/// Additions, and for a mean a factor.
fn sum(work: &mut Rewrite<'_>, node: &Node, output: ValueId) -> Result<Option<()>, QuantiseError> {
    let ids: Vec<ValueId> = node.inputs.iter().flatten().map(|id| work.named(*id)).collect();
    if !work.is_float(output) {
        return Ok(None);
    }
    let &[mut total, ref rest @ ..] = ids.as_slice() else { return Ok(None) };
    for y in rest {
        total = work.then(node, "Add", &[], vec![total, *y], output)?;
    }
    let share = if node.op.name == "Mean" { 1.0 / ids.len() as f32 } else { 1.0 };
    let share = work.constant(Tensor::scalar(share));
    work.push(node, "Mul", Attrs::default(), vec![total, share], output)?;
    Ok(Some(()))
}

/// `(1 + s) / 2 * x + (1 - s) / 2 * |x|` for slopes s that differ.
fn prelu(work: &mut Rewrite<'_>, node: &Node, output: ValueId) -> Result<Option<()>, QuantiseError> {
    let (Some(x), Some(slope)) = (Source::input(node, 0), work.source.array(node, 1)) else {
        return Ok(None);
    };
    let x = work.named(x);
    let (Some(plus), Some(minus)) =
        (tensor(&slope.map(|s| (1.0 + s) / 2.0)), tensor(&slope.map(|s| (1.0 - s) / 2.0)))
    else {
        return Ok(None);
    };
    let (plus, minus) = (work.constant(plus), work.constant(minus));
    let magnitude = work.then(node, "Abs", &[], vec![x], output)?;
    let left = work.then(node, "Mul", &[], vec![x, plus], output)?;
    let right = work.then(node, "Mul", &[], vec![magnitude, minus], output)?;
    work.push(node, "Add", Attrs::default(), vec![left, right], output)?;
    Ok(Some(()))
}

/// Where with a constant condition: a factor of 0 or 1 and an addend; where what is put in stands for minus infinity, the addend alone.
fn choice(work: &mut Rewrite<'_>, node: &Node, output: ValueId) -> Result<Option<()>, QuantiseError> {
    if !work.is_float(output) {
        return Ok(None);
    }
    let condition = work.source.constant_input(node, 0).and_then(|tensor| {
        let bits = tensor.as_slice::<bool>()?;
        let values = bits.iter().map(|bit| f64::from(u8::from(*bit))).collect();
        Some(Array { shape: tensor.shape().to_vec(), values })
    });
    let Some(condition) = condition else { return chosen(work, node, output) };
    // `keep` is 1 where x stays.
    let (x, put, keep) = match [1, 2].map(|index| work.source.variable(node, index)) {
        [Some(x), None] => (x, work.source.array(node, 2), condition),
        [None, Some(x)] => (x, work.source.array(node, 1), condition.map(|bit| 1.0 - bit)),
        _ => return Ok(None),
    };
    // The result must be of x's shape, as what follows knows it.
    let Some(put) = put.and_then(|put| keep.zip(&put, |keep, put| if keep == 1.0 { 0.0 } else { put }))
    else {
        return Ok(None);
    };
    let mut x = work.named(x);
    let masks = put.values.iter().all(|x| *x == 0.0 || *x < -MASKED);
    let (Some(keep), Some(put)) = (tensor(&keep), tensor(&put)) else { return Ok(None) };
    let put = work.constant(put);
    if !masks {
        let keep = work.constant(keep);
        x = work.then(node, "Mul", &[], vec![x, keep], output)?;
    }
    work.push(node, "Add", Attrs::default(), vec![x, put], output)?;
    Ok(Some(()))
}

/// Where with a condition that depends on the request: what is put in place of NaN never is, and what stands for minus infinity is added.
fn chosen(work: &mut Rewrite<'_>, node: &Node, output: ValueId) -> Result<Option<()>, QuantiseError> {
    let source = work.source;
    let variable = [1, 2].map(|index| source.variable(node, index));
    let Some(condition) = Source::input(node, 0) else { return Ok(None) };
    let nan = source.maker(condition).filter(|(_, maker)| maker.op.name == "IsNaN");
    if let ([None, Some(x)], Some((_, maker))) = (variable, nan)
        && Source::input(maker, 0) == Some(x)
        && !source.graph.outputs.contains(&output)
    {
        let x = work.named(x);
        work.alias.insert(output, x);
        return Ok(Some(()));
    }
    let (x, put) = match variable {
        [Some(x), None] => (x, source.array(node, 2)),
        [None, Some(x)] => (x, source.array(node, 1)),
        _ => return Ok(None),
    };
    let Some(put) = put.and_then(|put| put.single()).filter(|put| *put < -MASKED) else { return Ok(None) };
    let [zero, put] = [0.0, put].map(|value| work.constant(Tensor::scalar(value as f32)));
    let (condition, x) = (work.named(condition), work.named(x));
    let order = if variable[0].is_some() { [zero, put] } else { [put, zero] };
    let mask = work.then(node, "Where", &[], vec![condition, order[0], order[1]], output)?;
    work.push(node, "Add", Attrs::default(), vec![x, mask], output)?;
    Ok(Some(()))
}

/// `(x - offset) * scale`.
fn scaler(work: &mut Rewrite<'_>, node: &Node, output: ValueId) -> Result<Option<()>, QuantiseError> {
    let Some(mut x) = Source::input(node, 0).map(|x| work.named(x)) else { return Ok(None) };
    if !work.is_float(x) {
        return Ok(None);
    }
    let mut number = |name| node.attrs.floats(name).map(|list| work.constant(Tensor::vector(list.to_vec())));
    let (offset, scale) = (number("offset"), number("scale"));
    if let Some(offset) = offset {
        x = work.then(node, "Sub", &[], vec![x, offset], output)?;
    }
    let scale = scale.unwrap_or_else(|| work.constant(Tensor::scalar(1.0_f32)));
    work.push(node, "Mul", Attrs::default(), vec![x, scale], output)?;
    Ok(Some(()))
}

/// A Gemm with the coefficients of a linear model; `None` where it has no plain form.
fn scores(
    work: &mut Rewrite<'_>,
    node: &Node,
    kind: ValueId,
    rows: usize,
) -> Result<Option<ValueId>, QuantiseError> {
    let (Some(x), Some(coefficients)) =
        (Source::input(node, 0).map(|x| work.named(x)), node.attrs.floats("coefficients"))
    else {
        return Ok(None);
    };
    let columns = coefficients.len().checked_div(rows).filter(|columns| columns * rows == coefficients.len());
    let (Some(columns), true) = (columns, work.is_float(x)) else { return Ok(None) };
    let weights = work.constant(Tensor::from_vec(vec![rows, columns], coefficients.to_vec())?);
    let mut inputs = vec![x, weights];
    if let Some(list) = node.attrs.floats("intercepts").filter(|list| list.len() == rows) {
        inputs.push(work.constant(Tensor::vector(list.to_vec())));
    }
    Ok(Some(work.then(node, "Gemm", &[("transB", Attr::Int(1))], inputs, kind)?))
}

fn regressor(work: &mut Rewrite<'_>, node: &Node, output: ValueId) -> Result<Option<()>, QuantiseError> {
    let rows = usize::try_from(node.attrs.int("targets", 1)).unwrap_or(0);
    if node.attrs.str("post_transform", "NONE") != "NONE" {
        return Ok(None);
    }
    let Some(scores) = scores(work, node, output, rows)? else { return Ok(None) };
    work.push(node, "Identity", Attrs::default(), vec![scores], output)?;
    Ok(Some(()))
}

/// Of three classes or more, with numbers for labels.
fn classifier(work: &mut Rewrite<'_>, node: &Node, _: ValueId) -> Result<Option<()>, QuantiseError> {
    let (Some(labels), [Some(label), Some(probabilities)]) =
        (node.attrs.ints("classlabels_ints"), node.outputs.as_slice())
    else {
        return Ok(None);
    };
    let after = match node.attrs.str("post_transform", "NONE") {
        "NONE" => "Identity",
        "SOFTMAX" => "Softmax",
        "LOGISTIC" => "Sigmoid",
        _ => return Ok(None),
    };
    if labels.len() < 3 {
        return Ok(None);
    }
    let Some(scores) = scores(work, node, *probabilities, labels.len())? else { return Ok(None) };
    work.push(node, after, Attrs::default(), vec![scores], *probabilities)?;
    let attrs = [("axis", Attr::Int(1)), ("keepdims", Attr::Int(0))];
    let best = work.then(node, "ArgMax", &attrs, vec![scores], *label)?;
    let labels = work.constant(Tensor::vector(labels.to_vec()));
    work.push(node, "Gather", Attrs::default(), vec![labels, best], *label)?;
    Ok(Some(()))
}

/// The greatest over all spatial axes.
fn global_max(work: &mut Rewrite<'_>, node: &Node, output: ValueId) -> Result<Option<()>, QuantiseError> {
    let Some(x) = Source::input(node, 0) else { return Ok(None) };
    let Some(rank) = work.source.dims(x).map(<[Dim]>::len) else { return Ok(None) };
    let axes = work.constant(Tensor::vector((2..rank as i64).collect::<Vec<_>>()));
    let x = work.named(x);
    work.push(node, "ReduceMax", Attrs::default(), vec![x, axes], output)?;
    Ok(Some(()))
}

/// Windows of different numbers of elements: the mean over whole windows, padding counted, and a factor for each place.
fn average(work: &mut Rewrite<'_>, node: &Node, output: ValueId) -> Result<Option<()>, QuantiseError> {
    let Some(x) = Source::input(node, 0) else { return Ok(None) };
    let Some(dims) = work.source.dims(x) else { return Ok(None) };
    let Some(spatial) = dims.get(2..).map(|dims| dims.iter().map(known).collect::<Option<Vec<_>>>()) else {
        return Ok(None);
    };
    // Whole windows need no sizes.
    let plain = node.attrs.int("ceil_mode", 0) == 0
        && node.attrs.ints("pads").is_none_or(|pads| pads.iter().all(|pad| *pad == 0))
        && matches!(node.attrs.str("auto_pad", "NOTSET"), "NOTSET" | "VALID");
    if plain {
        return Ok(None);
    }
    let Some(spatial) = spatial else {
        return Err(QuantiseError::unsupported(
            node,
            "it pads or rounds up, and the sizes of what it reads are not known",
        ));
    };
    let Ok((geometry, window)) =
        Geometry::with_kernel_shape(&node.attrs, spatial.len()).and_then(|geometry| {
            let window = geometry.place(&spatial)?;
            Ok((geometry, window))
        })
    else {
        return Ok(None);
    };
    let places = window.axes.iter().try_fold(1_usize, |n, axis| n.checked_mul(axis.output));
    if places.is_none_or(|n| n > PLACES) {
        return Err(QuantiseError::unsupported(node, "its windows differ, and there are too many of them"));
    }
    let counted = node.attrs.int("count_include_pad", 0) == 1;
    let whole: usize = geometry.kernel.iter().product();
    let mut factors = Array::scalar(whole as f64);
    for (at, axis) in window.axes.iter().enumerate() {
        let count = |out| if counted { axis.padded_count(out) } else { axis.inside(out).len() };
        let mut shape = vec![1; window.axes.len()];
        if let Some(slot) = shape.get_mut(at) {
            *slot = axis.output;
        }
        let values = (0..axis.output).map(|out| count(out).max(1) as f64).collect();
        let Some(product) = factors.zip(&Array { shape, values }, |a, count| a / count) else {
            return Ok(None);
        };
        factors = product;
    }
    let x = work.named(x);
    let attrs = [
        ("kernel_shape", ints(&geometry.kernel)),
        ("strides", ints(&geometry.strides)),
        ("dilations", ints(&geometry.dilations)),
        ("pads", Attr::Ints(pads(&window))),
        ("count_include_pad", Attr::Int(1)),
    ];
    if factors.uniform() == Some(1.0) {
        let attrs = attrs.map(|(name, attr)| (name.to_owned(), attr)).into_iter().collect();
        work.push(node, "AveragePool", Attrs(attrs), vec![x], output)?;
        return Ok(Some(()));
    }
    let Some(factors) = tensor(&factors) else { return Ok(None) };
    let factors = work.constant(factors);
    let means = work.then(node, "AveragePool", &attrs, vec![x], output)?;
    work.push(node, "Mul", Attrs::default(), vec![means, factors], output)?;
    Ok(Some(()))
}

/// Padding with elements: a Gather for each axis. With a number: with 0, then an addend.
fn padding(work: &mut Rewrite<'_>, node: &Node, output: ValueId) -> Result<Option<()>, QuantiseError> {
    let source = work.source;
    let Some(x) = source.variable(node, 0).filter(|x| work.is_float(*x)) else { return Ok(None) };
    let integers = |index| source.constant_input(node, index).and_then(|list| integers(list));
    let flat = node.attrs.ints("pads").map(<[i64]>::to_vec).or_else(|| integers(1));
    let (Some(dims), Some(flat)) = (source.dims(x), flat) else { return Ok(None) };
    let Ok(widths) = widths(&flat, integers(3), dims.len()) else { return Ok(None) };
    let value = match Source::input(node, 2) {
        Some(_) => source.array(node, 2).and_then(|value| value.single()),
        None => Some(node.attrs.float("value", 0.0).into()),
    };
    let constant = node.attrs.str("mode", "constant") == "constant";
    let padded = widths.iter().enumerate().filter(|(_, width)| **width != (0, 0));
    let Some(value) = value.filter(|value| !constant || value.is_finite() && *value != 0.0) else {
        return Ok(None);
    };
    let (mut id, mut inside) = (work.named(x), Array::scalar(1.0));
    for (axis, width) in padded {
        let Some(size) = dims.get(axis).and_then(known) else { return Ok(None) };
        let Ok(origins) = origins(node, size, *width, PLACES) else { return Ok(None) };
        if constant {
            let mut shape = vec![1; dims.len() - axis];
            shape.iter_mut().take(1).for_each(|slot| *slot = origins.len());
            let values = origins.iter().map(|at| f64::from(u8::from(at.is_some()))).collect();
            let more = Array { shape, values };
            let elements = more.values.len().checked_mul(inside.values.len());
            let joined = elements.filter(|n| *n <= PLACES).and_then(|_| inside.zip(&more, |a, b| a * b));
            let Some(joined) = joined else { return Ok(None) };
            inside = joined;
        } else {
            let indices = work.constant(Tensor::vector(origins.into_iter().flatten().collect::<Vec<_>>()));
            let axis = Attr::Int(i64::try_from(axis).unwrap_or(i64::MAX));
            id = work.then(node, "Gather", &[("axis", axis)], vec![id, indices], id)?;
        }
    }
    if constant {
        let (begins, ends): (Vec<i64>, Vec<i64>) = widths.into_iter().unzip();
        let pads = work.constant(Tensor::vector([begins, ends].concat()));
        let zeros = work.then(node, "Pad", &[], vec![id, pads], id)?;
        let Some(addend) = tensor(&inside.map(|inside| (1.0 - inside) * value)) else { return Ok(None) };
        let addend = work.constant(addend);
        work.push(node, "Add", Attrs::default(), vec![zeros, addend], output)?;
    } else {
        work.push(node, "Identity", Attrs::default(), vec![id], output)?;
    }
    Ok(Some(()))
}

/// The sizes of the spatial axes, where all are known.
fn spatial(work: &Rewrite<'_>, id: ValueId) -> Option<Vec<usize>> {
    work.source.dims(id)?.get(2..)?.iter().map(known).collect()
}

/// `x` with each spatial axis of `sizes` elements split in two, the second of 1, so that `stretch` can make more of it, and joined again.
fn stretched(
    work: &mut Rewrite<'_>,
    node: &Node,
    x: ValueId,
    (sizes, by): (&[usize], &[usize]),
    stretch: impl FnOnce(&mut Rewrite<'_>, ValueId) -> Result<ValueId, QuantiseError>,
) -> Result<ValueId, QuantiseError> {
    let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let mut shape = |sizes: Vec<i64>| work.constant(Tensor::vector([vec![0, 0], sizes].concat()));
    let split = shape(sizes.iter().flat_map(|n| [number(*n), 1]).collect());
    let joined = shape(sizes.iter().zip(by).map(|(n, by)| number(n.saturating_mul(*by))).collect());
    let wide = work.then(node, "Reshape", &[], vec![x, split], x)?;
    let wide = stretch(work, wide)?;
    work.then(node, "Reshape", &[], vec![wide, joined], x)
}

/// A convolution over the input with zeros between its elements, by the weights turned around.
fn transposed(work: &mut Rewrite<'_>, node: &Node, output: ValueId) -> Result<Option<()>, QuantiseError> {
    let (Some(x), Some(weights)) = (work.source.variable(node, 0), work.source.array(node, 1)) else {
        return Ok(None);
    };
    let (Some(sizes), [channels, filters, kernel @ ..]) = (spatial(work, x), weights.shape.as_slice()) else {
        return Ok(None);
    };
    let Ok(geometry) = Geometry::parse(&node.attrs, kernel.to_vec()) else { return Ok(None) };
    let extra = node.attrs.ints("output_padding").map_or_else(|| vec![0; kernel.len()], <[i64]>::to_vec);
    let groups = usize::try_from(node.attrs.int("group", 1)).unwrap_or(0);
    let plain = geometry.auto_pad == AutoPad::Explicit && node.attrs.ints("output_shape").is_none();
    if !plain
        || groups == 0
        || !channels.is_multiple_of(groups)
        || [sizes.len(), extra.len()] != [kernel.len(); 2]
    {
        return Ok(None);
    }
    // Windows reach over the whole kernel on both sides, less what the pads take away; behind the last element are zeros already.
    let (mut begin, mut end) = (Vec::new(), Vec::new());
    for (axis, extra) in extra.iter().enumerate() {
        let at = |list: &[usize]| list.get(axis).and_then(|n| i64::try_from(*n).ok()).unwrap_or(1);
        let reach = at(&geometry.dilations).saturating_mul(at(kernel) - 1);
        let (first, last) = geometry.pads.get(axis).copied().unwrap_or_default();
        let less = |pad: usize| reach.saturating_sub(i64::try_from(pad).unwrap_or(i64::MAX));
        begin.push(less(first));
        end.push(less(last).saturating_add(*extra).saturating_sub(at(&geometry.strides) - 1));
    }
    let pads = [begin, end].concat();
    if pads.iter().any(|pad| *pad < 0) {
        return Ok(None);
    }
    let (own, inner) = (channels / groups, kernel.iter().product::<usize>());
    let mut turned = Vec::with_capacity(weights.values.len());
    for (group, filter, channel) in
        (0..groups).flat_map(|g| (0..*filters).flat_map(move |f| (0..own).map(move |c| (g, f, c))))
    {
        let first = ((group * own + channel) * filters + filter) * inner;
        let Some(taps) = weights.values.get(first..first + inner) else { return Ok(None) };
        turned.extend(taps.iter().rev());
    }
    let shape = [&[groups * filters, own][..], kernel].concat();
    let Some(turned) = tensor(&Array { shape, values: turned }) else { return Ok(None) };
    let mut from = work.named(x);
    if geometry.strides.iter().any(|stride| *stride > 1) {
        let zeros =
            geometry.strides.iter().flat_map(|stride| [0, i64::try_from(stride - 1).unwrap_or(i64::MAX)]);
        let zeros = [vec![0; 4 + 2 * kernel.len()], zeros.collect()].concat();
        from = stretched(work, node, from, (sizes.as_slice(), geometry.strides.as_slice()), |work, x| {
            let zeros = work.constant(Tensor::vector(zeros));
            work.then(node, "Pad", &[], vec![x, zeros], x)
        })?;
    }
    let mut inputs = vec![from, work.constant(turned)];
    inputs.extend(Source::input(node, 2).map(|bias| work.named(bias)));
    let attrs = [
        ("dilations", ints(&geometry.dilations)),
        ("group", Attr::Int(node.attrs.int("group", 1))),
        ("kernel_shape", ints(kernel)),
        ("pads", Attr::Ints(pads)),
    ];
    let attrs = attrs.map(|(name, attr)| (name.to_owned(), attr)).into_iter().collect();
    work.push(node, "Conv", Attrs(attrs), inputs, output)?;
    Ok(Some(()))
}

/// Each element several times: Resize to whole multiples by the nearest.
fn nearest(work: &mut Rewrite<'_>, node: &Node, output: ValueId) -> Result<Option<()>, QuantiseError> {
    let Some(x) = work.source.variable(node, 0) else { return Ok(None) };
    let (Some(from), Some(to)) = (spatial(work, x), spatial(work, output)) else { return Ok(None) };
    let by: Option<Vec<usize>> =
        from.iter().zip(&to).map(|(from, to)| to.checked_div(*from).filter(|by| by * from == *to)).collect();
    let repeats = match node.attrs.str("coordinate_transformation_mode", "half_pixel") {
        "asymmetric" => node.attrs.str("nearest_mode", "round_prefer_floor") == "floor",
        "half_pixel" | "pytorch_half_pixel" => true,
        _ => false,
    };
    let repeats = repeats || node.op.name == "Upsample";
    let (Some(by), true, "nearest") = (by, repeats, node.attrs.str("mode", "nearest")) else {
        return Ok(None);
    };
    let x = work.named(x);
    let copies =
        [1, 1].into_iter().chain(by.iter().flat_map(|by| [1, i64::try_from(*by).unwrap_or(i64::MAX)]));
    let copies = Tensor::vector(copies.collect::<Vec<i64>>());
    let wide = stretched(work, node, x, (from.as_slice(), by.as_slice()), |work, x| {
        let copies = work.constant(copies);
        work.then(node, "Tile", &[], vec![x, copies], x)
    })?;
    work.push(node, "Identity", Attrs::default(), vec![wide], output)?;
    Ok(Some(()))
}

fn known(dim: &Dim) -> Option<usize> {
    if let Dim::Known(n) = dim { Some(*n) } else { None }
}

fn ints(list: &[usize]) -> Attr {
    Attr::Ints(list.iter().map(|n| i64::try_from(*n).unwrap_or(i64::MAX)).collect())
}

/// Explicit pads with which every window is whole: at the end as many as the last one needs.
fn pads(window: &Window) -> Vec<i64> {
    let begin = window.axes.iter().map(|axis| axis.pad_begin);
    let end = window.axes.iter().map(|axis| {
        let needed = axis.output.saturating_sub(1) * axis.stride + (axis.kernel - 1) * axis.dilation + 1;
        needed.saturating_sub(axis.input + axis.pad_begin)
    });
    begin.chain(end).map(|n| i64::try_from(n).unwrap_or(i64::MAX)).collect()
}
