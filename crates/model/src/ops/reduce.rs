//! Reductions over axes (`numeric.md` §5), ArgMax and ArgMin (§2), CumSum.

use std::borrow::Cow;

use hallmark_receipt::{DType, Data, Element, Tensor, tensor::count};

use super::dispatch::{one, op, with_floats, with_numbers};
use super::index::{View, axes, axis, split, strides, wrap_data};
use super::infer::{info, same};
use super::{EvalCx, InferCx, OpDef, OpError, half::in_f32};
use crate::graph::{Dim, Node, TypeInfo};
use crate::numeric::elementary::{exp, log};
use crate::numeric::{Number, maximum, reduce, sum};

/// The family's table.
pub const OPS: &[OpDef] = &[
    row("ReduceSum", &[1, 11, 13], |cx| in_f32(cx, reduce_sum)),
    row("ReduceMean", OLD, |cx| in_f32(cx, reduce_mean)),
    row("ReduceMax", &[1, 11, 12, 13, 18, 20], |cx| in_f32(cx, reduce_max)),
    row("ReduceMin", &[1, 11, 12, 13, 18, 20], |cx| in_f32(cx, reduce_min)),
    row("ReduceProd", OLD, |cx| in_f32(cx, reduce_prod)),
    row("ReduceL1", OLD, |cx| in_f32(cx, reduce_l1)),
    row("ReduceL2", OLD, |cx| in_f32(cx, reduce_l2)),
    row("ReduceSumSquare", OLD, |cx| in_f32(cx, reduce_sum_square)),
    row("ReduceLogSum", LOGS, |cx| in_f32(cx, reduce_log_sum)),
    row("ReduceLogSumExp", LOGS, |cx| in_f32(cx, reduce_log_sum_exp)),
    op("ArgMax", ARGS, &["axis", "keepdims", "select_last_index"], infer_arg, |cx| in_f32(cx, arg_max)),
    op("ArgMin", ARGS, &["axis", "keepdims", "select_last_index"], infer_arg, |cx| in_f32(cx, arg_min)),
    op("CumSum", &[11, 14], &["exclusive", "reverse"], same, |cx| in_f32(cx, cum_sum)),
];

const OLD: &[u32] = &[1, 11, 13, 18];
const LOGS: &[u32] = &[1, 11, 13, 18, 28];
const ARGS: &[u32] = &[1, 11, 12, 13];

const fn row(name: &'static str, versions: &'static [u32], eval: super::dispatch::Eval) -> OpDef {
    op(name, versions, &["axes", "keepdims", "noop_with_empty_axes"], infer_reduce, eval)
}

/// Whether the axes are the second input rather than an attribute.
fn axes_are_input(node: &Node) -> bool {
    node.version >= if node.op.name == "ReduceSum" { 13 } else { 18 }
}

/// Which axes are reduced: all when none is named, unless `noop_with_empty_axes`.
fn reduced(node: &Node, list: Option<&[i64]>, rank: usize) -> Result<Vec<bool>, OpError> {
    let list = list.unwrap_or(&[]);
    if list.is_empty() {
        return Ok(vec![node.attrs.int("noop_with_empty_axes", 0) == 0; rank]);
    }
    let mut gone = vec![false; rank];
    axes(list, rank)?.into_iter().for_each(|i| gone[i] = true);
    Ok(gone)
}

fn infer_reduce(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let x = cx.input(0)?;
    let keep = cx.attrs().int("keepdims", 1) != 0;
    let Some(dims) = x.shape.as_deref() else { return Ok(vec![info(x.dtype, None)]) };
    let (list, pending) = if axes_are_input(cx.node) {
        let list = cx.constant_integers(1);
        let pending = cx.has(1) && list.is_none();
        (list, pending)
    } else {
        (cx.attrs().ints("axes").map(<[i64]>::to_vec), false)
    };
    if pending {
        return Ok(vec![info(x.dtype, keep.then(|| vec![Dim::Unknown; dims.len()]))]);
    }
    let gone = reduced(cx.node, list.as_deref(), dims.len())?;
    Ok(vec![info(x.dtype, Some(reduced_dims(dims, &gone, keep, Dim::Known(1))))])
}

fn reduced_dims<T: Clone>(dims: &[T], gone: &[bool], keep: bool, unit: T) -> Vec<T> {
    dims.iter()
        .zip(gone)
        .filter_map(|(d, &gone)| if !gone { Some(d.clone()) } else { keep.then(|| unit.clone()) })
        .collect()
}

/// How a tensor is cut into the sequences that are reduced.
pub struct Plan {
    /// Kept axes, then reduced ones, each in order.
    view: View,
    /// The result's shape.
    pub shape: Vec<usize>,
    /// Number of sequences.
    outer: usize,
    /// Length of each.
    n: usize,
    /// Whether the tensor lies that way already.
    in_place: bool,
}

impl Plan {
    /// The plan that reduces the axes marked in `gone`; the result is charged as `dtype`.
    pub fn new(
        cx: &EvalCx<'_>,
        from: &[usize],
        gone: &[bool],
        keep: bool,
        dtype: DType,
    ) -> Result<Self, OpError> {
        let rank = from.len();
        let order: Vec<usize> =
            (0..rank).filter(|&i| !gone[i]).chain((0..rank).filter(|&i| gone[i])).collect();
        let kept = gone.iter().filter(|&&gone| !gone).count();
        let steps = strides(from);
        let view = View {
            offset: 0,
            shape: order.iter().map(|&i| from[i]).collect(),
            strides: order.iter().map(|&i| steps[i]).collect(),
        };
        let shape = reduced_dims(from, gone, keep, 1);
        let outer = cx.charge(&shape, dtype)?;
        let n = count(&view.shape[kept..])
            .ok_or(OpError::Shape { what: "a smaller shape", got: from.to_vec() })?;
        let in_place = order.iter().enumerate().all(|(i, &j)| i == j);
        Ok(Self { view, shape, outer, n, in_place })
    }

    /// `f` of each sequence.
    pub fn each<T: Element, U>(
        &self,
        values: &[T],
        f: impl Fn(&[T]) -> Result<U, OpError>,
    ) -> Result<Vec<U>, OpError> {
        if self.n == 0 {
            return (0..self.outer).map(|_| f(&[])).collect();
        }
        let values = if self.in_place { Cow::Borrowed(values) } else { Cow::Owned(self.view.copy(values)) };
        values.chunks_exact(self.n).map(f).collect()
    }
}

fn plan(cx: &EvalCx<'_>) -> Result<Plan, OpError> {
    let x = cx.input(0)?;
    let list = if axes_are_input(cx.node) {
        cx.opt_integers(1)?
    } else {
        cx.attrs().ints("axes").map(<[i64]>::to_vec)
    };
    let gone = reduced(cx.node, list.as_deref(), x.shape().len())?;
    Plan::new(cx, x.shape(), &gone, cx.attrs().int("keepdims", 1) != 0, x.dtype())
}

macro_rules! reductions {
    ($($name:ident over $with:ident => $f:path;)*) => {$(
        fn $name(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
            let plan = plan(cx)?;
            let data = $with!(cx, 0, v => wrap_data(plan.each(v, $f)?));
            one(plan.shape, data)
        }
    )*};
}
reductions! {
    reduce_sum over with_numbers => sum_of;
    reduce_mean over with_numbers => mean_of;
    reduce_prod over with_numbers => product_of;
    reduce_l1 over with_numbers => l1_of;
    reduce_l2 over with_floats => l2_of;
    reduce_sum_square over with_numbers => sum_square_of;
}

fn sum_of<T: Number>(x: &[T]) -> Result<T, OpError> {
    Ok(sum(x.iter().copied()))
}

/// The mean of a sequence: the sum divided by the count (rounded to the type).
pub fn mean_of<T: Number>(x: &[T]) -> Result<T, OpError> {
    sum(x.iter().copied()).div(T::from_count(x.len())).ok_or(OpError::Division)
}

fn product_of<T: Number>(x: &[T]) -> Result<T, OpError> {
    Ok(reduce(x.iter().copied(), T::ONE, T::mul))
}

fn l1_of<T: Number>(x: &[T]) -> Result<T, OpError> {
    Ok(sum(x.iter().map(|x| Number::abs(*x))))
}

fn sum_square_of<T: Number>(x: &[T]) -> Result<T, OpError> {
    Ok(sum(x.iter().map(|&x| x.mul(x))))
}

/// The Euclidean norm: the square root of the sum of squares.
pub fn l2_of<T: Number>(x: &[T]) -> Result<T, OpError> {
    sum_square_of(x)?.sqrt().ok_or(OpError::Unsupported { what: "a square root of integers" })
}

/// Truth values reduce as 0 and 1.
fn extreme<T: Number>(x: &[T], greatest: bool) -> Result<T, OpError> {
    Ok(if greatest {
        maximum(x.iter().copied())
    } else {
        reduce(x.iter().copied(), T::GREATEST, Number::min)
    })
}

fn reduce_extreme(cx: &EvalCx<'_>, greatest: bool) -> Result<Vec<Tensor>, OpError> {
    let plan = plan(cx)?;
    let data = match cx.input(0)?.data() {
        Data::Bool(v) => {
            Data::Bool(plan.each(v, |x| Ok(if greatest { x.contains(&true) } else { !x.contains(&false) }))?)
        }
        _ => with_numbers!(cx, 0, v => wrap_data(plan.each(v, |x| extreme(x, greatest))?)),
    };
    one(plan.shape, data)
}

fn reduce_max(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    reduce_extreme(cx, true)
}

fn reduce_min(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    reduce_extreme(cx, false)
}

fn reduce_log_sum(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let plan = plan(cx)?;
    let y = plan.each(cx.slice::<f32>(0)?, |x| Ok(log(sum(x.iter().copied()))))?;
    one(plan.shape, Data::F32(y))
}

fn reduce_log_sum_exp(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let plan = plan(cx)?;
    let y = plan.each(cx.slice::<f32>(0)?, |x| {
        let m = maximum(x.iter().copied());
        let m = if m.is_finite() { m } else { 0.0 };
        Ok(log(sum(x.iter().map(|&x| exp(x - m)))).add(m))
    })?;
    one(plan.shape, Data::F32(y))
}

fn infer_arg(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let keep = cx.attrs().int("keepdims", 1) != 0;
    let shape = match cx.input(0)?.shape.as_deref() {
        Some(dims) => {
            let mut gone = vec![false; dims.len()];
            gone[axis(cx.attrs().int("axis", 0), dims.len())?] = true;
            Some(reduced_dims(dims, &gone, keep, Dim::Known(1)))
        }
        None => None,
    };
    Ok(vec![info(Some(DType::I64), shape)])
}

/// The position of the greatest value (§2); `None` of nothing. The first NaN wins.
pub fn arg_max_of<T: Number>(x: &[T], last: bool) -> Option<usize> {
    let mut best = 0;
    for (i, v) in x.iter().enumerate() {
        if v.is_nan() {
            return Some(i);
        }
        if *v > x[best] || (last && *v == x[best]) {
            best = i;
        }
    }
    if x.is_empty() { None } else { Some(best) }
}

/// The position of the least value (§2); `None` of nothing. The first NaN wins.
pub fn arg_min_of<T: Number>(x: &[T], last: bool) -> Option<usize> {
    let mut best = 0;
    for (i, v) in x.iter().enumerate() {
        if v.is_nan() {
            return Some(i);
        }
        if *v < x[best] || (last && *v == x[best]) {
            best = i;
        }
    }
    if x.is_empty() { None } else { Some(best) }
}

fn arg(cx: &EvalCx<'_>, greatest: bool) -> Result<Vec<Tensor>, OpError> {
    let x = cx.input(0)?;
    let mut gone = vec![false; x.shape().len()];
    gone[axis(cx.attrs().int("axis", 0), x.shape().len())?] = true;
    let last = cx.attrs().int("select_last_index", 0) != 0;
    let plan = Plan::new(cx, x.shape(), &gone, cx.attrs().int("keepdims", 1) != 0, DType::I64)?;
    let positions = with_numbers!(cx, 0, v => plan.each(v, |x| {
        let at = if greatest { arg_max_of(x, last) } else { arg_min_of(x, last) };
        at.map(|i| i as i64).ok_or(OpError::Shape { what: "an axis that is not empty", got: vec![0] })
    })?);
    one(plan.shape, Data::I64(positions))
}

fn arg_max(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    arg(cx, true)
}

fn arg_min(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    arg(cx, false)
}

fn cum_sum(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = cx.input(0)?;
    let at = axis(cx.integer(1)?, x.shape().len())?;
    let (exclusive, reverse) = (cx.attrs().int("exclusive", 0) != 0, cx.attrs().int("reverse", 0) != 0);
    let data = with_numbers!(cx, 0, v => wrap_data(running_sum(v, x.shape(), at, exclusive, reverse)));
    one(x.shape().to_vec(), data)
}

fn running_sum<T: Number>(x: &[T], shape: &[usize], at: usize, exclusive: bool, reverse: bool) -> Vec<T> {
    let mut out = x.to_vec();
    if out.is_empty() {
        return out;
    }
    let (outer, size, inner) = split(shape, at, at + 1);
    for o in 0..outer {
        for i in 0..inner {
            let mut acc = T::ZERO;
            for step in 0..size {
                let k = if reverse { size - 1 - step } else { step };
                let offset = (o * size + k) * inner + i;
                let next = acc.add(x[offset]);
                out[offset] = if exclusive { acc } else { next };
                acc = next;
            }
        }
    }
    out
}
