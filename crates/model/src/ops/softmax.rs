//! Operators along one axis: Softmax and its kin, LpNormalization, TopK, and MeanVarianceNormalization.

use std::cmp::Ordering;

use hallmark_receipt::{DType, Data, Tensor};

use super::dispatch::{one, op, with_numbers};
use super::index::{View, axes, axis, split, strides, wrap_data};
use super::infer::{info, same};
use super::reduce::{Plan, arg_max_of, l2_of, mean_of};
use super::{EvalCx, InferCx, OpDef, OpError, half::in_f32};
use crate::graph::{Dim, TypeInfo};
use crate::numeric::elementary::{exp, log};
use crate::numeric::{Number, maximum, sum};

/// The family's table.
pub const OPS: &[OpDef] = &[
    op("Softmax", &[1, 11, 13], &["axis"], same, |cx| in_f32(cx, |cx| flattened(cx, softmax_of))),
    op("LogSoftmax", &[1, 11, 13], &["axis"], same, |cx| in_f32(cx, |cx| flattened(cx, log_softmax_of))),
    op("Hardmax", &[1, 11, 13], &["axis"], same, |cx| in_f32(cx, |cx| flattened(cx, hardmax_of))),
    op("LpNormalization", &[1, 22], &["axis", "p"], same, |cx| in_f32(cx, lp_normalization)),
    op("MeanVarianceNormalization", &[9, 13], &["axes"], same, |cx| in_f32(cx, mean_variance)),
    op("TopK", &[1, 10, 11, 24], &["axis", "k", "largest", "sorted"], infer_top_k, top_k),
];

/// Softmax of one sequence (§7).
pub fn softmax_of(x: &[f32], out: &mut Vec<f32>) {
    let m = maximum(x.iter().copied());
    let start = out.len();
    out.extend(x.iter().map(|&x| exp(x - m)));
    let s = sum(out[start..].iter().copied());
    out[start..].iter_mut().for_each(|e| *e = Number::div(*e, s).unwrap_or(*e));
}

/// LogSoftmax of one sequence (§7).
pub fn log_softmax_of(x: &[f32], out: &mut Vec<f32>) {
    let m = maximum(x.iter().copied());
    let s = log(sum(x.iter().map(|&x| exp(x - m))));
    out.extend(x.iter().map(|&x| (x - m).sub(s)));
}

fn hardmax_of(x: &[f32], out: &mut Vec<f32>) {
    let hot = arg_max_of(x, false);
    out.extend((0..x.len()).map(|i| f32::from(u8::from(Some(i) == hot))));
}

/// Before version 13 everything from the axis on is one sequence; since then the axis alone is.
fn flattened(cx: &EvalCx<'_>, f: fn(&[f32], &mut Vec<f32>)) -> Result<Vec<Tensor>, OpError> {
    let x = cx.input(0)?;
    let rank = x.shape().len();
    if cx.node.version >= 13 {
        return along(cx, axis(cx.attrs().int("axis", -1), rank)?, f);
    }
    let at = axis(cx.attrs().int("axis", 1), rank)?;
    let (_, _, n) = split(x.shape(), at, at);
    let values = cx.slice::<f32>(0)?;
    let mut out = Vec::with_capacity(values.len());
    if n > 0 {
        values.chunks_exact(n).for_each(|x| f(x, &mut out));
    }
    one(x.shape().to_vec(), Data::F32(out))
}

/// `f` of each sequence along `at`, put back in place.
fn along(cx: &EvalCx<'_>, at: usize, f: impl Fn(&[f32], &mut Vec<f32>)) -> Result<Vec<Tensor>, OpError> {
    let x = cx.input(0)?;
    let values = cx.slice::<f32>(0)?;
    let (outer, n, inner) = split(x.shape(), at, at + 1);
    let mut out = Vec::with_capacity(values.len());
    if values.is_empty() {
        return one(x.shape().to_vec(), Data::F32(out));
    }
    if inner == 1 {
        values.chunks_exact(n).for_each(|x| f(x, &mut out));
        return one(x.shape().to_vec(), Data::F32(out));
    }
    let swap = |a: usize, b: usize| View {
        offset: 0,
        shape: vec![outer, b, a],
        strides: [0, 2, 1].map(|i| strides(&[outer, a, b])[i]).to_vec(),
    };
    swap(n, inner).copy(values).chunks_exact(n).for_each(|x| f(x, &mut out));
    one(x.shape().to_vec(), Data::F32(swap(inner, n).copy(&out)))
}

/// `x / norm`, and 0 where the norm is 0.
fn lp_normalization(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let at = axis(cx.attrs().int("axis", -1), cx.input(0)?.shape().len())?;
    let norm: fn(&[f32]) -> Result<f32, OpError> = match cx.attrs().int("p", 2) {
        1 => |x| Ok(sum(x.iter().map(|x| x.abs()))),
        2 => l2_of,
        _ => return Err(OpError::Attribute { name: "p", why: "neither 1 nor 2" }),
    };
    along(cx, at, |x, out| {
        let norm = norm(x).unwrap_or(f32::NAN);
        out.extend(x.iter().map(|&x| if norm == 0.0 { 0.0 } else { x / norm }));
    })
}

/// `(x - mean) / (sqrt(mean(x * x) - mean * mean) + 1e-9)`, as the operator's definition has it.
fn mean_variance(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = cx.input(0)?;
    let values = cx.slice::<f32>(0)?;
    let mut gone = vec![false; x.shape().len()];
    axes(cx.attrs().ints("axes").unwrap_or(&[0, 2, 3]), x.shape().len())?
        .into_iter()
        .for_each(|i| gone[i] = true);
    let plan = Plan::new(cx, x.shape(), &gone, true, DType::F32)?;
    let means = plan.each(values, mean_of)?;
    let spreads = plan.each(values, |x| {
        let mean = mean_of(x)?;
        let squares: Vec<f32> = x.iter().map(|x| x * x).collect();
        Ok((mean_of(&squares)? - mean * mean).sqrt() + 1e-9)
    })?;
    let steps = super::index::broadcast_strides(&plan.shape, x.shape())?;
    let both = |v: &[f32]| View { offset: 0, shape: x.shape().to_vec(), strides: steps.clone() }.copy(v);
    let (means, spreads) = (both(&means), both(&spreads));
    let y = values.iter().zip(means).zip(spreads).map(|((&x, mean), spread)| (x - mean) / spread).collect();
    one(x.shape().to_vec(), Data::F32(y))
}

fn infer_top_k(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let x = cx.input(0)?;
    let k = if cx.node.version < 10 {
        cx.attrs().opt_int("k")
    } else {
        cx.constant_integers(1).and_then(|v| v.first().copied())
    };
    let k = k.and_then(|k| usize::try_from(k).ok()).map_or(Dim::Unknown, Dim::Known);
    let shape = match x.shape.as_deref() {
        Some(dims) => {
            let mut dims = dims.to_vec();
            let at = axis(cx.attrs().int("axis", -1), dims.len())?;
            dims[at] = k;
            Some(dims)
        }
        None => None,
    };
    Ok(vec![info(x.dtype, shape.clone()), info(Some(DType::I64), shape)])
}

/// Always sorted; NaN counts as the greatest, equal values keep the order of their indices.
fn top_k(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = cx.input(0)?;
    let at = axis(cx.attrs().int("axis", -1), x.shape().len())?;
    let k = if cx.node.version < 10 {
        cx.attrs().opt_int("k").ok_or(OpError::Attribute { name: "k", why: "missing" })?
    } else {
        cx.integer(1)?
    };
    let largest = cx.node.version < 11 || cx.attrs().int("largest", 1) != 0;
    let (outer, n, inner) = split(x.shape(), at, at + 1);
    let k = usize::try_from(k)
        .ok()
        .filter(|&k| k <= n)
        .ok_or(OpError::Value { what: "k within the axis", got: k })?;
    let mut shape = x.shape().to_vec();
    shape[at] = k;
    if hallmark_receipt::tensor::count(&shape) == Some(0) {
        let none = super::index::data_blocks(x.data(), std::iter::empty(), 1);
        return Ok(vec![Tensor::new(shape.clone(), none)?, Tensor::from_vec::<i64>(shape, vec![])?]);
    }
    let wide; // The half types are ordered by their exact float32 values; the values themselves are moved.
    let keys = match x.dtype() {
        DType::F16 | DType::BF16 => {
            wide = super::cast::cast(x, DType::F32)?;
            &wide
        }
        _ => x,
    };
    let inputs = [Some(keys)];
    let keys = EvalCx { node: cx.node, inputs: &inputs, budget: cx.budget };
    let picks = with_numbers!(keys, 0, v => ranks(v, (outer, n, inner), k, largest));
    let starts = (0..outer).flat_map(|o| (0..k * inner).map(move |j| (o, j)));
    let starts = starts.map(|(o, j)| (o * n + picks[o * k * inner + j]) * inner + j % inner);
    let values = super::index::data_blocks(x.data(), starts, 1);
    let indices = picks.iter().map(|&i| i as i64).collect();
    Ok(vec![Tensor::new(shape.clone(), values)?, Tensor::new(shape, wrap_data::<i64>(indices))?])
}

/// For each (outer, rank, inner): the position along the axis of the value of that rank.
fn ranks<T: Number>(
    x: &[T],
    (outer, n, inner): (usize, usize, usize),
    k: usize,
    largest: bool,
) -> Vec<usize> {
    let mut out = vec![0; outer * k * inner];
    let mut order: Vec<usize> = Vec::with_capacity(n);
    for o in 0..outer {
        for i in 0..inner {
            let value = |j: usize| x[(o * n + j) * inner + i];
            order.clear();
            order.extend(0..n);
            order.sort_by(|&a, &b| {
                let order = compare(value(a), value(b));
                if largest { order.reverse() } else { order }
            });
            for (rank, &j) in order.iter().take(k).enumerate() {
                out[(o * k + rank) * inner + i] = j;
            }
        }
    }
    out
}

/// The order of numbers, NaN above all.
pub fn compare<T: Number>(a: T, b: T) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}
