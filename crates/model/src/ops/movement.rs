//! Operators that move elements without looking at them.

use hallmark_receipt::{Data, Element, Tensor, tensor::count, with_data};

use super::dispatch::{one, op};
use super::index::{View, axes, axis, broadcast, broadcast_strides, data_blocks, split, strides, wrap_data};
use super::infer::{broadcast_dims, info, known, known_dim};
use super::shape::sizes;
use super::{EvalCx, InferCx, OpDef, OpError};
use crate::graph::{Dim, Node, TypeInfo};

/// The family's table.
pub const OPS: &[OpDef] = &[
    op("Transpose", &[1, 13, 21, 23, 24, 25], &["perm"], infer_transpose, transpose),
    op("Expand", &[8, 13], &[], infer_expand, expand),
    op("Tile", &[6, 13], &[], infer_tile, tile),
    op("Concat", &[4, 11, 13], &["axis"], infer_concat, concat),
    op("Split", &[2, 11, 13, 18], &["axis", "split", "num_outputs"], infer_split, split_op),
    op("Slice", &[1, 10, 11, 13], &["starts", "ends", "axes"], infer_slice, slice),
    op("DepthToSpace", &[1, 11, 13, 28], &["blocksize", "mode"], infer_depth_to_space, depth_to_space),
    op("SpaceToDepth", &[1, 13, 28], &["blocksize", "mode"], infer_space_to_depth, space_to_depth),
    op("Trilu", &[14], &["upper"], super::infer::same, trilu),
    op("ReverseSequence", &[10, 28], &["time_axis", "batch_axis"], super::infer::same, reverse_sequence),
];

/// The permutation of Transpose: reversed unless `perm` says otherwise.
fn permutation(node: &Node, rank: usize) -> Result<Vec<usize>, OpError> {
    match node.attrs.ints("perm") {
        None => Ok((0..rank).rev().collect()),
        Some(perm) if perm.len() == rank => axes(perm, rank),
        Some(_) => Err(OpError::Attribute { name: "perm", why: "not a permutation of the input's axes" }),
    }
}

fn infer_transpose(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let x = cx.input(0)?;
    let shape = match x.shape.as_deref() {
        Some(dims) => Some(permutation(cx.node, dims.len())?.into_iter().map(|i| dims[i].clone()).collect()),
        None => None,
    };
    Ok(vec![info(x.dtype, shape)])
}

fn transpose(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = cx.input(0)?;
    let perm = permutation(cx.node, x.shape().len())?;
    Ok(vec![permute(x, x.shape(), &perm)?])
}

/// `x`, read under `shape` (of as many elements), with its axes in the order `perm`.
fn permute(x: &Tensor, shape: &[usize], perm: &[usize]) -> Result<Tensor, OpError> {
    let steps = strides(shape);
    let view = View {
        offset: 0,
        shape: perm.iter().map(|&i| shape[i]).collect(),
        strides: perm.iter().map(|&i| steps[i]).collect(),
    };
    view.tensor(x.data())
}

fn infer_expand(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let x = cx.input(0)?;
    let shape = match (x.shape.as_deref(), cx.constant_integers(1)) {
        (Some(dims), Some(to)) => {
            let to: Vec<Dim> = sizes(&to)?.into_iter().map(Dim::Known).collect();
            Some(broadcast_dims(dims, &to)?)
        }
        (Some(dims), None) => match cx.input(1)?.shape.as_deref() {
            Some([Dim::Known(rank)]) => Some(vec![Dim::Unknown; (*rank).max(dims.len())]),
            _ => None,
        },
        _ => None,
    };
    Ok(vec![info(x.dtype, shape)])
}

fn expand(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = cx.input(0)?;
    let shape = broadcast(&[x.shape(), &sizes(&cx.integers(1)?)?])?;
    cx.charge(&shape, x.dtype())?;
    let strides = broadcast_strides(x.shape(), &shape)?;
    Ok(vec![View { offset: 0, shape, strides }.tensor(x.data())?])
}

fn infer_tile(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let x = cx.input(0)?;
    let shape = match (x.shape.as_deref(), cx.constant_integers(1)) {
        (Some(dims), Some(repeats)) if repeats.len() == dims.len() => Some(
            dims.iter()
                .zip(sizes(&repeats)?)
                .map(|(d, n)| match (d, n) {
                    (d, 1) => d.clone(),
                    (Dim::Known(d), n) => d.checked_mul(n).map_or(Dim::Unknown, Dim::Known),
                    _ => Dim::Unknown,
                })
                .collect(),
        ),
        (Some(dims), None) => Some(vec![Dim::Unknown; dims.len()]),
        _ => None,
    };
    Ok(vec![info(x.dtype, shape)])
}

fn tile(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = cx.input(0)?;
    let repeats = sizes(&cx.integers(1)?)?;
    if repeats.len() != x.shape().len() {
        return Err(OpError::Shape { what: "one repeat for each axis", got: vec![repeats.len()] });
    }
    let sized = x.shape().iter().zip(&repeats).map(|(&d, &n)| d.checked_mul(n)).collect::<Option<Vec<_>>>();
    let shape = sized.ok_or(OpError::Budget { shape: repeats.clone(), limit: cx.budget })?;
    cx.charge(&shape, x.dtype())?;
    let view = View {
        offset: 0,
        shape: repeats.iter().zip(x.shape()).flat_map(|(&n, &d)| [n, d]).collect(),
        strides: strides(x.shape()).into_iter().flat_map(|s| [0, s]).collect(),
    };
    Ok(vec![view.tensor(x.data())?.reshape(shape)?])
}

fn concat_axis(node: &Node, rank: usize) -> Result<usize, OpError> {
    axis(node.attrs.opt_int("axis").ok_or(OpError::Attribute { name: "axis", why: "missing" })?, rank)
}

fn infer_concat(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let dtype = super::infer::same_type(cx, 0..cx.types.len())?;
    let mut shapes = Vec::new();
    for i in 0..cx.types.len().max(1) {
        match cx.input(i)?.shape.as_deref() {
            Some(dims) => shapes.push(dims),
            None => return Ok(vec![info(dtype, None)]),
        }
    }
    let mut out = shapes[0].to_vec();
    let at = concat_axis(cx.node, out.len())?;
    for dims in &shapes[1..] {
        if dims.len() != out.len() {
            return Err(OpError::Shape { what: "inputs of one rank", got: vec![out.len(), dims.len()] });
        }
        for (i, (a, b)) in out.iter_mut().zip(*dims).enumerate() {
            *a = match (&*a, b) {
                (Dim::Known(a), Dim::Known(b)) if i == at => {
                    a.checked_add(*b).map_or(Dim::Unknown, Dim::Known)
                }
                _ if i == at => Dim::Unknown,
                (Dim::Known(a), Dim::Known(b)) if a != b => {
                    return Err(OpError::Shape { what: "inputs that agree off the axis", got: vec![*a, *b] });
                }
                (_, Dim::Known(_)) => b.clone(),
                (same, _) => same.clone(),
            };
        }
    }
    Ok(vec![info(dtype, Some(out))])
}

fn concat(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let first = cx.input(0)?;
    let inputs = (0..cx.inputs.len()).map(|i| cx.input(i)).collect::<Result<Vec<_>, _>>()?;
    let at = concat_axis(cx.node, first.shape().len())?;
    let mut shape = first.shape().to_vec();
    shape[at] = 0;
    for t in &inputs {
        let fits = t.shape().len() == shape.len()
            && t.shape().iter().zip(first.shape()).enumerate().all(|(i, (a, b))| i == at || a == b);
        if !fits {
            return Err(OpError::Shape { what: "inputs that agree off the axis", got: t.shape().to_vec() });
        }
        shape[at] = shape[at]
            .checked_add(t.shape()[at])
            .ok_or(OpError::Budget { shape: t.shape().to_vec(), limit: cx.budget })?;
    }
    let n = cx.charge(&shape, first.dtype())?;
    let data = with_data!(first.data(), v => wrap_data(join(cx, v, &inputs, at, n)?));
    one(shape, data)
}

fn join<T: Element>(
    cx: &EvalCx<'_>,
    like: &[T],
    inputs: &[&Tensor],
    at: usize,
    n: usize,
) -> Result<Vec<T>, OpError> {
    let mut parts = Vec::with_capacity(inputs.len());
    for (i, t) in inputs.iter().enumerate() {
        let (_, along, after) = split(t.shape(), at, at + 1);
        parts.push((cx.slice_like(like, i)?, along.saturating_mul(after)));
    }
    let mut out = Vec::with_capacity(n);
    if n > 0 {
        let outer = split(inputs[0].shape(), at, at + 1).0;
        for i in 0..outer {
            for (values, run) in &parts {
                out.extend_from_slice(&values[i * run..(i + 1) * run]);
            }
        }
    }
    Ok(out)
}

/// Sizes of Split's parts of an axis of `size`.
fn parts(node: &Node, given: Option<Vec<i64>>, size: usize) -> Result<Vec<usize>, OpError> {
    let n = node.outputs.len();
    if let Some(list) = given {
        let parts = sizes(&list)?;
        let total = parts.iter().try_fold(0_usize, |n, &d| n.checked_add(d));
        return if parts.len() == n && total == Some(size) {
            Ok(parts)
        } else {
            Err(OpError::Shape { what: "parts that add up to the axis, one for each output", got: parts })
        };
    }
    let n = match node.attrs.opt_int("num_outputs") {
        Some(wanted) if usize::try_from(wanted) != Ok(n) => {
            return Err(OpError::Attribute { name: "num_outputs", why: "not the number of outputs" });
        }
        _ => n,
    };
    if n == 0 || (node.version < 18 && !size.is_multiple_of(n)) {
        return Err(OpError::Shape { what: "an axis that splits evenly", got: vec![size] });
    }
    let part = size.div_ceil(n);
    Ok((0..n).map(|i| size.saturating_sub(part.saturating_mul(i)).min(part)).collect())
}

fn infer_split(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let x = cx.input(0)?;
    let n = cx.node.outputs.len();
    let Some(dims) = x.shape.as_deref() else { return Ok(vec![info(x.dtype, None); n]) };
    let at = axis(cx.attrs().int("axis", 0), dims.len())?;
    let given = if cx.node.version < 13 {
        cx.attrs().ints("split").map(<[i64]>::to_vec)
    } else {
        cx.constant_integers(1)
    };
    let unknown = given.is_none() && cx.node.version >= 13 && cx.has(1);
    let parts = match known_dim(&dims[at]) {
        Some(size) if !unknown => parts(cx.node, given, size)?.into_iter().map(Dim::Known).collect(),
        _ => match given {
            Some(list) => sizes(&list)?.into_iter().map(Dim::Known).collect(),
            None => vec![Dim::Unknown; n],
        },
    };
    Ok(parts
        .into_iter()
        .map(|part| {
            let mut dims = dims.to_vec();
            dims[at] = part;
            info(x.dtype, Some(dims))
        })
        .collect())
}

fn split_op(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = cx.input(0)?;
    let at = axis(cx.attrs().int("axis", 0), x.shape().len())?;
    let given = if cx.node.version < 13 {
        cx.attrs().ints("split").map(<[i64]>::to_vec)
    } else {
        cx.opt_integers(1)?
    };
    let steps = strides(x.shape());
    let mut start = 0;
    parts(cx.node, given, x.shape()[at])?
        .into_iter()
        .map(|part| {
            let mut view = View { offset: 0, shape: x.shape().to_vec(), strides: steps.clone() };
            view.shape[at] = part;
            view.offset = if part == 0 { 0 } else { start * steps[at].cast_unsigned() };
            start += part;
            view.tensor(x.data())
        })
        .collect()
}

/// First index, number of elements and step of one sliced axis.
fn slice_axis(size: usize, start: i64, end: i64, step: i64) -> Result<(usize, usize, isize), OpError> {
    let size = i64::try_from(size).map_err(|_| OpError::Unsupported { what: "an axis that long" })?;
    let fail = || OpError::Value { what: "a step that is not 0", got: step };
    let from_end = |v: i64| if v < 0 { v.saturating_add(size) } else { v };
    if step == 0 {
        return Err(fail());
    }
    if size == 0 {
        return Ok((0, 0, 1));
    }
    let (start, span) = if step > 0 {
        let start = from_end(start).clamp(0, size);
        (start, from_end(end).clamp(0, size) - start)
    } else {
        let start = from_end(start).clamp(0, size - 1);
        (start, start - from_end(end).clamp(-1, size - 1))
    };
    let n = u64::try_from(span).map_or(0, |span| span.div_ceil(step.unsigned_abs()));
    // A step beyond the axis takes one element, whatever its size.
    let step = isize::try_from(step.clamp(-size, size)).map_err(|_| fail())?;
    Ok((usize::try_from(start).unwrap_or(0), usize::try_from(n).unwrap_or(0), step))
}

/// (axis, start, end, step) of each sliced axis.
type Cuts = Vec<(usize, i64, i64, i64)>;

fn cuts(
    starts: &[i64],
    ends: &[i64],
    list: Option<Vec<i64>>,
    steps: Option<Vec<i64>>,
    rank: usize,
) -> Result<Cuts, OpError> {
    let n = starts.len();
    let fail =
        || OpError::Shape { what: "starts, ends, axes and steps of one length", got: vec![n, ends.len()] };
    let list = match list {
        Some(list) => axes(&list, rank)?,
        None if n <= rank => (0..n).collect(),
        None => return Err(fail()),
    };
    let steps = steps.unwrap_or_else(|| vec![1; n]);
    if ends.len() != n || list.len() != n || steps.len() != n {
        return Err(fail());
    }
    Ok((0..n).map(|i| (list[i], starts[i], ends[i], steps[i])).collect())
}

fn infer_slice(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let x = cx.input(0)?;
    let Some(dims) = x.shape.as_deref() else { return Ok(vec![info(x.dtype, None)]) };
    let attr = |name| cx.attrs().ints(name).map(<[i64]>::to_vec);
    let old = cx.node.version < 10;
    let (starts, ends, list, steps) = if old {
        (attr("starts"), attr("ends"), attr("axes"), None)
    } else {
        let c = |i| cx.constant_integers(i);
        (c(1), c(2), c(3), c(4))
    };
    let pending = !old && ((cx.has(3) && list.is_none()) || (cx.has(4) && steps.is_none()));
    let (Some(starts), Some(ends), false) = (starts, ends, pending) else {
        // Which axes are cut may still be known.
        return Ok(vec![info(x.dtype, Some(vec![Dim::Unknown; dims.len()]))]);
    };
    let mut out = dims.to_vec();
    for (at, start, end, step) in cuts(&starts, &ends, list, steps, dims.len())? {
        out[at] = match &dims[at] {
            Dim::Known(size) => Dim::Known(slice_axis(*size, start, end, step)?.1),
            same if start == 0 && step == 1 && end >= i64::from(i32::MAX) => same.clone(),
            _ => Dim::Unknown,
        };
    }
    Ok(vec![info(x.dtype, Some(out))])
}

fn slice(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = cx.input(0)?;
    let rank = x.shape().len();
    let cuts = if cx.node.version < 10 {
        let attr = |name| cx.attrs().ints(name).ok_or(OpError::Attribute { name, why: "missing" });
        cuts(attr("starts")?, attr("ends")?, cx.attrs().ints("axes").map(<[i64]>::to_vec), None, rank)?
    } else {
        cuts(&cx.integers(1)?, &cx.integers(2)?, cx.opt_integers(3)?, cx.opt_integers(4)?, rank)?
    };
    let mut view = View::of(x.shape());
    let mut offset = 0_isize;
    for (at, start, end, step) in cuts {
        let (first, n, step) = slice_axis(x.shape()[at], start, end, step)?;
        offset = offset.wrapping_add(first.cast_signed().wrapping_mul(view.strides[at]));
        view.shape[at] = n;
        view.strides[at] = view.strides[at].wrapping_mul(step);
    }
    view.offset = offset.cast_unsigned();
    Ok(vec![view.tensor(x.data())?])
}

fn block_size(node: &Node) -> Result<usize, OpError> {
    let fail = OpError::Attribute { name: "blocksize", why: "not a positive number" };
    usize::try_from(node.attrs.int("blocksize", 0)).ok().filter(|&b| b > 0).ok_or(fail)
}

/// Whether `mode` is column-row-depth.
fn column_row_depth(node: &Node) -> Result<bool, OpError> {
    match node.attrs.str("mode", "DCR") {
        "DCR" => Ok(false),
        "CRD" => Ok(true),
        _ => Err(OpError::Attribute { name: "mode", why: "neither `DCR` nor `CRD`" }),
    }
}

fn four(shape: &[usize]) -> Result<[usize; 4], OpError> {
    shape.try_into().map_err(|_| OpError::Shape { what: "four axes", got: shape.to_vec() })
}

fn infer_four(
    cx: &InferCx<'_>,
    f: impl Fn([usize; 4], usize) -> Result<[usize; 4], OpError>,
) -> Result<Vec<TypeInfo>, OpError> {
    let x = cx.input(0)?;
    let b = block_size(cx.node)?;
    let shape = match x.shape.as_deref() {
        Some(dims) => match known(dims) {
            Some(dims) => f(four(&dims)?, b)?.map(Dim::Known).to_vec(),
            None => vec![Dim::Unknown; 4],
        },
        None => vec![Dim::Unknown; 4],
    };
    Ok(vec![info(x.dtype, Some(shape))])
}

fn deep_shape([n, c, h, w]: [usize; 4], b: usize) -> Result<[usize; 4], OpError> {
    let fail = || OpError::Shape { what: "channels that the squared block divides", got: vec![n, c, h, w] };
    let area = b.checked_mul(b).filter(|area| c % area == 0).ok_or_else(fail)?;
    Ok([n, c / area, h.checked_mul(b).ok_or_else(fail)?, w.checked_mul(b).ok_or_else(fail)?])
}

fn infer_depth_to_space(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    infer_four(cx, deep_shape)
}

fn depth_to_space(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = cx.input(0)?;
    let b = block_size(cx.node)?;
    let [n, _, h, w] = four(x.shape())?;
    let out = deep_shape(four(x.shape())?, b)?;
    let c = out[1];
    let moved = if column_row_depth(cx.node)? {
        permute(x, &[n, c, b, b, h, w], &[0, 1, 4, 2, 5, 3])?
    } else {
        permute(x, &[n, b, b, c, h, w], &[0, 3, 4, 1, 5, 2])?
    };
    Ok(vec![moved.reshape(out.to_vec())?])
}

fn wide_shape([n, c, h, w]: [usize; 4], b: usize) -> Result<[usize; 4], OpError> {
    let fail = || OpError::Shape { what: "a height and width that the block divides", got: vec![n, c, h, w] };
    if h % b != 0 || w % b != 0 {
        return Err(fail());
    }
    Ok([n, b.checked_mul(b).and_then(|a| a.checked_mul(c)).ok_or_else(fail)?, h / b, w / b])
}

fn infer_space_to_depth(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    infer_four(cx, wide_shape)
}

fn space_to_depth(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = cx.input(0)?;
    let b = block_size(cx.node)?;
    let [n, c, _, _] = four(x.shape())?;
    let out = wide_shape(four(x.shape())?, b)?;
    let perm = if column_row_depth(cx.node)? { [0, 1, 3, 5, 2, 4] } else { [0, 3, 5, 1, 2, 4] };
    let moved = permute(x, &[n, c, out[2], b, out[3], b], &perm)?;
    Ok(vec![moved.reshape(out.to_vec())?])
}

fn trilu(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = cx.input(0)?;
    let upper = cx.attrs().int("upper", 1) != 0;
    let k = if cx.opt(1).is_some() { cx.integer(1)? } else { 0 };
    let &[.., rows, columns] = x.shape() else {
        return Err(OpError::Shape { what: "a matrix", got: x.shape().to_vec() });
    };
    let (shape, mut data) = x.clone().into_parts();
    with_data!(&mut data, v => keep_triangle(v, rows, columns, k, upper));
    one(shape, data)
}

fn keep_triangle<T: Default>(values: &mut [T], rows: usize, columns: usize, k: i64, upper: bool) {
    if columns == 0 {
        return;
    }
    for (row, line) in values.chunks_mut(columns).enumerate() {
        let diagonal = ((row % rows) as i64).saturating_add(k);
        // Upper keeps j >= diagonal, lower keeps j <= diagonal.
        let cut = if upper { diagonal } else { diagonal.saturating_add(1) };
        let cut = usize::try_from(cut.max(0)).unwrap_or(usize::MAX).min(columns);
        let gone = if upper { &mut line[..cut] } else { &mut line[cut..] };
        gone.fill_with(T::default);
    }
}

fn reverse_sequence(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = cx.input(0)?;
    let lengths = cx.integers(1)?;
    let (time, batch) = (cx.attrs().int("time_axis", 0), cx.attrs().int("batch_axis", 1));
    let time_first = match (time, batch) {
        (0, 1) => true,
        (1, 0) => false,
        _ => {
            return Err(OpError::Attribute { name: "time_axis", why: "time and batch are not axes 0 and 1" });
        }
    };
    let &[a, b, ..] = x.shape() else {
        return Err(OpError::Shape { what: "two axes or more", got: x.shape().to_vec() });
    };
    let (time, batch) = if time_first { (a, b) } else { (b, a) };
    if lengths.len() != batch {
        return Err(OpError::Shape { what: "one length for each batch row", got: vec![lengths.len()] });
    }
    let lengths = sizes(&lengths)?;
    if let Some(long) = lengths.iter().find(|&&n| n > time) {
        return Err(OpError::Value { what: "a length within the time axis", got: *long as i64 });
    }
    if x.is_empty() {
        return Ok(vec![x.clone()]);
    }
    let block = count(&x.shape()[2..]).unwrap_or(0);
    let starts = (0..a).flat_map(|i| (0..b).map(move |j| (i, j))).map(|(i, j)| {
        let (t, n) = if time_first { (i, lengths[j]) } else { (j, lengths[i]) };
        let t = if t < n { n - 1 - t } else { t };
        (if time_first { t * b + j } else { i * b + t }) * block
    });
    let data: Data = data_blocks(x.data(), starts, block);
    one(x.shape().to_vec(), data)
}

#[cfg(test)]
mod tests;
