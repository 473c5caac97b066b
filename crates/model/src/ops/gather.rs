//! Operators that pick or place elements by index.

use hallmark_receipt::{DType, Data, Element, Tensor, tensor::count, with_data};

use super::dispatch::{one, op, with_numbers};
use super::index::{axis, data_blocks, element, rows, split, strides, wrap, wrap_data};
use super::infer::{info, known_dim};
use super::{EvalCx, InferCx, OpDef, OpError, half::in_f32};
use crate::graph::{Dim, TypeInfo};
use crate::numeric::Number;

/// The family's table.
pub const OPS: &[OpDef] = &[
    op("Gather", &[1, 11, 13], &["axis"], infer_gather, gather),
    op("GatherElements", &[11, 13], &["axis"], infer_gather_elements, gather_elements),
    op("GatherND", &[11, 12, 13], &["batch_dims"], infer_gather_nd, gather_nd),
    op("Scatter", &[9, 11], &["axis"], super::infer::same, scatter_elements),
    op("ScatterElements", &[11, 13, 16, 18], &["axis", "reduction"], super::infer::same, scatter_elements),
    op("ScatterND", &[11, 13, 16, 18], &["reduction"], super::infer::same, scatter_nd),
    op("OneHot", &[9, 11, 28], &["axis"], infer_one_hot, one_hot),
    op("Compress", &[9, 11, 28], &["axis"], infer_compress, compress),
    op("NonZero", &[9, 13], &[], infer_non_zero, non_zero),
];

fn infer_gather(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let x = cx.input(0)?;
    let shape = match (x.shape.as_deref(), cx.input(1)?.shape.as_deref()) {
        (Some(dims), Some(at)) => {
            let axis = axis(cx.attrs().int("axis", 0), dims.len())?;
            Some([&dims[..axis], at, &dims[axis + 1..]].concat())
        }
        _ => None,
    };
    Ok(vec![info(x.dtype, shape)])
}

fn gather(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let (x, at) = (cx.input(0)?, cx.input(1)?);
    let axis = axis(cx.attrs().int("axis", 0), x.shape().len())?;
    let shape = [&x.shape()[..axis], at.shape(), &x.shape()[axis + 1..]].concat();
    let n = cx.charge(&shape, x.dtype())?;
    let (outer, size, block) = split(x.shape(), axis, axis + 1);
    let picks = cx.integers(1)?.into_iter().map(|i| element(i, size)).collect::<Result<Vec<_>, _>>()?;
    // An empty result may have an outer count that is not; nothing is read then.
    let outer = if n == 0 { 0 } else { outer };
    let starts = (0..outer).flat_map(|o| picks.iter().map(move |&i| (o * size + i) * block));
    one(shape, data_blocks(x.data(), starts, block))
}

fn infer_gather_elements(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    Ok(vec![info(cx.input(0)?.dtype, cx.input(1)?.shape.clone())])
}

/// The offsets in `x` that each element of `at` names along `axis`, in `at`'s order.
fn element_offsets(x: &[usize], at: &Tensor, values: &[i64], axis: usize) -> Result<Vec<usize>, OpError> {
    let fits = at.shape().len() == x.len()
        && at.shape().iter().zip(x).enumerate().all(|(i, (a, b))| i == axis || a <= b);
    if !fits {
        return Err(OpError::Shape {
            what: "indices of the data's rank, within it",
            got: at.shape().to_vec(),
        });
    }
    let mut steps = strides(x);
    let (size, step) = (x[axis], steps[axis].cast_unsigned());
    steps[axis] = 0;
    let mut out = Vec::with_capacity(values.len());
    let mut bad = None;
    rows(at.shape(), [&steps, &strides(at.shape())], |[base, i], len, [s, t]| {
        for k in 0..len.cast_signed() {
            let value = values[(i + k * t).cast_unsigned()];
            let index = wrap(value, size);
            bad = bad.or(if index.is_none() { Some(value) } else { None });
            out.push((base + k * s).cast_unsigned() + index.unwrap_or(0) * step);
        }
    });
    match bad {
        Some(got) => Err(OpError::Value { what: "an index inside the axis", got }),
        None => Ok(out),
    }
}

fn gather_elements(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let (x, at) = (cx.input(0)?, cx.input(1)?);
    let axis = axis(cx.attrs().int("axis", 0), x.shape().len())?;
    cx.charge(at.shape(), x.dtype())?;
    let offsets = element_offsets(x.shape(), at, &cx.integers(1)?, axis)?;
    one(at.shape().to_vec(), data_blocks(x.data(), offsets.into_iter(), 1))
}

fn infer_gather_nd(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let x = cx.input(0)?;
    let shape = match (x.shape.as_deref(), cx.input(1)?.shape.as_deref()) {
        (Some(dims), Some([lead @ .., depth])) => match known_dim(depth) {
            Some(depth) => {
                let batch = usize::try_from(cx.attrs().int("batch_dims", 0)).unwrap_or(usize::MAX);
                let tail = batch.checked_add(depth).and_then(|n| dims.get(n..));
                let tail =
                    tail.ok_or(OpError::Shape { what: "an index within the data's rank", got: vec![depth] })?;
                Some([lead, tail].concat())
            }
            None => None,
        },
        _ => None,
    };
    Ok(vec![info(x.dtype, shape)])
}

/// Where the index tuples of `at` point in `x`: offsets of the blocks, and the block's size.
fn tuple_offsets(
    cx: &EvalCx<'_>,
    x: &[usize],
    at: &Tensor,
    values: &[i64],
    batch: usize,
) -> Result<(Vec<usize>, usize), OpError> {
    let fail = || OpError::Shape { what: "index tuples within the data's rank", got: at.shape().to_vec() };
    let &[ref lead @ .., depth] = at.shape() else { return Err(fail()) };
    let last = batch.checked_add(depth).filter(|&n| n <= x.len()).ok_or_else(fail)?;
    if lead.len() < batch || lead[..batch] != x[..batch] {
        return Err(fail());
    }
    // Tuples of no index take no data, so their number may be anything.
    let tuples = cx.charge(lead, DType::I64)?;
    let per_batch = count(&lead[batch..]).unwrap_or(0).max(1);
    let (_, indexed, block) = split(x, batch, last);
    let steps = strides(&x[batch..last]);
    let mut out = Vec::with_capacity(tuples);
    for i in 0..tuples {
        let mut offset = 0;
        for k in 0..depth {
            offset += element(values[i * depth + k], x[batch + k])? * steps[k].cast_unsigned();
        }
        out.push((i / per_batch * indexed + offset) * block);
    }
    Ok((out, block))
}

fn gather_nd(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let (x, at) = (cx.input(0)?, cx.input(1)?);
    let batch = cx.attrs().int("batch_dims", 0);
    let batch =
        usize::try_from(batch).map_err(|_| OpError::Value { what: "batch_dims of 0 or more", got: batch })?;
    let values = cx.integers(1)?;
    // Indices of no elements name nothing; the block may still be unreachable.
    let (offsets, block) = tuple_offsets(cx, x.shape(), at, &values, batch)?;
    let lead = &at.shape()[..at.shape().len() - 1];
    let depth = at.shape()[lead.len()];
    let shape = [lead, &x.shape()[batch + depth..]].concat();
    let n = cx.charge(&shape, x.dtype())?;
    let starts = if n == 0 { Vec::new() } else { offsets };
    one(shape, data_blocks(x.data(), starts.into_iter(), block))
}

/// How Scatter combines what is there with an update. Updates apply one after the other, row-major.
#[derive(Clone, Copy)]
enum Reduction {
    None,
    Add,
    Mul,
    Max,
    Min,
}

impl Reduction {
    fn of(cx: &EvalCx<'_>) -> Result<Self, OpError> {
        Ok(match cx.attrs().str("reduction", "none") {
            "none" => Self::None,
            "add" => Self::Add,
            "mul" => Self::Mul,
            "max" => Self::Max,
            "min" => Self::Min,
            _ => {
                return Err(OpError::Attribute {
                    name: "reduction",
                    why: "not one of none, add, mul, max, min",
                });
            }
        })
    }

    fn apply<T: Number>(self, old: T, new: T) -> T {
        match self {
            Self::None => new,
            Self::Add => old.add(new),
            Self::Mul => old.mul(new),
            Self::Max => Number::max(old, new),
            Self::Min => Number::min(old, new),
        }
    }
}

/// Writes (or folds) the runs of `block` updates of input 2 at `starts` of a copy of input 0.
fn scatter(cx: &EvalCx<'_>, starts: &[usize], block: usize) -> Result<Vec<Tensor>, OpError> {
    let reduction = Reduction::of(cx)?;
    let updates = cx.input(2)?;
    if updates.len() != starts.len().saturating_mul(block) {
        return Err(OpError::Shape { what: "one update for each index", got: updates.shape().to_vec() });
    }
    let x = cx.input(0)?;
    let data = match reduction {
        Reduction::None => {
            with_data!(x.data(), v => wrap_data(place(v, cx.slice(2)?, starts, block, replace)))
        }
        _ => with_numbers!(cx, 0, v => {
            wrap_data(place(v, cx.slice(2)?, starts, block, |old, new| reduction.apply(*old, *new)))
        }),
    };
    one(x.shape().to_vec(), data)
}

fn replace<T: Clone>(_: &T, new: &T) -> T {
    new.clone()
}

fn place<T: Element>(
    from: &[T],
    updates: &[T],
    starts: &[usize],
    block: usize,
    f: impl Fn(&T, &T) -> T,
) -> Vec<T> {
    let mut out = from.to_vec();
    if block > 0 {
        for (&start, run) in starts.iter().zip(updates.chunks(block)) {
            for (slot, new) in out[start..start + block].iter_mut().zip(run) {
                *slot = f(slot, new);
            }
        }
    }
    out
}

/// A reduction computes, so half types go through float32; plain placement only moves.
fn arithmetic_in_f32(
    cx: &EvalCx<'_>,
    eval: fn(&EvalCx<'_>) -> Result<Vec<Tensor>, OpError>,
) -> Result<Vec<Tensor>, OpError> {
    if matches!(Reduction::of(cx)?, Reduction::None) { eval(cx) } else { in_f32(cx, eval) }
}

fn scatter_elements(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    arithmetic_in_f32(cx, |cx| {
        let (x, at) = (cx.input(0)?, cx.input(1)?);
        let axis = axis(cx.attrs().int("axis", 0), x.shape().len())?;
        if cx.input(2)?.shape() != at.shape() {
            return Err(OpError::Shape {
                what: "updates of the indices' shape",
                got: cx.input(2)?.shape().to_vec(),
            });
        }
        let starts = element_offsets(x.shape(), at, &cx.integers(1)?, axis)?;
        scatter(cx, &starts, 1)
    })
}

fn scatter_nd(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    arithmetic_in_f32(cx, |cx| {
        let (x, at) = (cx.input(0)?, cx.input(1)?);
        let (starts, block) = tuple_offsets(cx, x.shape(), at, &cx.integers(1)?, 0)?;
        scatter(cx, &starts, block)
    })
}

/// The result's rank is one more; the new axis may be its last.
fn one_hot_axis(at: i64, rank: usize) -> Result<usize, OpError> {
    axis(at, rank.saturating_add(1))
}

fn infer_one_hot(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let shape = match cx.input(0)?.shape.as_deref() {
        Some(dims) => {
            let at = one_hot_axis(cx.attrs().int("axis", -1), dims.len())?;
            let depth = match cx.constant(1) {
                Some(t) => Dim::Known(depth_of(t)?),
                None => Dim::Unknown,
            };
            Some([&dims[..at], &[depth], &dims[at..]].concat())
        }
        None => None,
    };
    Ok(vec![info(cx.input(2)?.dtype, shape)])
}

fn depth_of(t: &Tensor) -> Result<usize, OpError> {
    let wide = super::cast::cast(t, DType::I64)?;
    match wide.as_slice::<i64>() {
        Some(&[depth]) => usize::try_from(depth)
            .map_err(|_| OpError::Value { what: "a depth that is not negative", got: depth }),
        _ => Err(OpError::Shape { what: "one element", got: t.shape().to_vec() }),
    }
}

/// An index outside `[-depth, depth)` selects nothing.
fn one_hot(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let (x, values) = (cx.input(0)?, cx.input(2)?);
    let depth = depth_of(cx.input(1)?)?;
    let at = one_hot_axis(cx.attrs().int("axis", -1), x.shape().len())?;
    let shape = [&x.shape()[..at], &[depth], &x.shape()[at..]].concat();
    cx.charge(&shape, values.dtype())?;
    if values.shape() != [2] {
        return Err(OpError::Shape { what: "the two values off and on", got: values.shape().to_vec() });
    }
    let wide = super::cast::cast(x, DType::I64)?;
    let hot = wide.as_slice::<i64>().ok_or(OpError::InputType { index: 0, got: x.dtype() })?;
    let hot: Vec<Option<usize>> = hot.iter().map(|&i| wrap(i, depth)).collect();
    let inner = split(x.shape(), at, at).2;
    let outer = hot.len().checked_div(inner).unwrap_or(0);
    let hot = &hot;
    let picks = (0..outer).flat_map(|o| {
        (0..depth).flat_map(move |d| (0..inner).map(move |i| usize::from(hot[o * inner + i] == Some(d))))
    });
    one(shape, data_blocks(values.data(), picks, 1))
}

fn infer_compress(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let x = cx.input(0)?;
    let shape = match (cx.attrs().opt_int("axis"), x.shape.as_deref()) {
        (None, _) => Some(vec![Dim::Unknown]),
        (Some(at), Some(dims)) => {
            let mut dims = dims.to_vec();
            let at = axis(at, dims.len())?;
            dims[at] = Dim::Unknown;
            Some(dims)
        }
        _ => None,
    };
    Ok(vec![info(x.dtype, shape)])
}

fn compress(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = cx.input(0)?;
    let condition = cx.slice::<bool>(1)?;
    let whole = [x.len()];
    let (from, at) = match cx.attrs().opt_int("axis") {
        Some(at) => (x.shape(), axis(at, x.shape().len())?),
        None => (whole.as_slice(), 0),
    };
    let (outer, size, block) = split(from, at, at + 1);
    if condition.len() > size {
        return Err(OpError::Shape { what: "a condition within the axis", got: vec![condition.len()] });
    }
    let picks: Vec<usize> = (0..condition.len()).filter(|&i| condition[i]).collect();
    let mut shape = from.to_vec();
    shape[at] = picks.len();
    let outer = if count(&shape) == Some(0) { 0 } else { outer };
    let starts = (0..outer).flat_map(|o| picks.iter().map(move |&i| (o * size + i) * block));
    one(shape, data_blocks(x.data(), starts, block))
}

fn infer_non_zero(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let rank = cx.input(0)?.shape.as_ref().map_or(Dim::Unknown, |dims| Dim::Known(dims.len()));
    Ok(vec![info(Some(DType::I64), Some(vec![rank, Dim::Unknown]))])
}

fn non_zero(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = cx.input(0)?;
    let hits: Vec<usize> = match x.data() {
        Data::Str(v) => (0..v.len()).filter(|&i| !v[i].is_empty()).collect(),
        _ => {
            let truth = super::cast::cast(x, DType::Bool)?;
            let truth = truth.as_slice::<bool>().unwrap_or(&[]);
            (0..truth.len()).filter(|&i| truth[i]).collect()
        }
    };
    let steps = strides(x.shape());
    let shape = vec![x.shape().len(), hits.len()];
    cx.charge(&shape, DType::I64)?;
    let coordinates = steps
        .iter()
        .zip(x.shape())
        .flat_map(|(&step, &size)| hits.iter().map(move |&i| (i / step.cast_unsigned() % size) as i64));
    Ok(vec![Tensor::from_vec(shape, coordinates.collect::<Vec<_>>())?])
}
