//! Operators that read, set or make shapes.

use hallmark_receipt::{DType, Data, Tensor, tensor::count, with_data};

use super::dispatch::{dtype_attr, one, op};
use super::index::{axes, axis, wrap_data};
use super::infer::{info, known};
use super::{EvalCx, InferCx, OpDef, OpError};
use crate::graph::{Attr, Dim, Node, TypeInfo};
use crate::numeric::Number;

/// The family's table.
pub const OPS: &[OpDef] = &[
    op("Shape", &[1, 13, 15, 19, 21, 23, 24, 25], &["start", "end"], infer_shape, shape),
    op("Size", &[1, 13, 19, 21, 23, 24, 25], &[], infer_size, size),
    op("Reshape", &[5, 13, 14, 19, 21, 23, 24, 25], &["allowzero"], infer_reshape, reshape),
    op("Flatten", &[1, 9, 11, 13, 21, 23, 24, 25], &["axis"], infer_flatten, flatten),
    op("Squeeze", &[1, 11, 13, 21, 23, 24, 25], &["axes"], infer_squeeze, squeeze),
    op("Unsqueeze", &[1, 11, 13, 21, 23, 24, 25], &["axes"], infer_unsqueeze, unsqueeze),
    op("Constant", &[1, 9, 11, 12, 13, 19, 21, 23, 24, 25], CONSTANT_ATTRS, infer_constant, constant),
    op("ConstantOfShape", &[9, 20, 21, 23, 24, 25], &["value"], infer_constant_of_shape, constant_of_shape),
    op("Range", &[11], &[], infer_range, range),
    op("EyeLike", &[9, 22], &["dtype", "k"], infer_eye_like, eye_like),
];

const CONSTANT_ATTRS: &[&str] =
    &["value", "value_float", "value_floats", "value_int", "value_ints", "value_string", "value_strings"];

/// Axes `start..end` of Shape, clamped.
fn shape_range(node: &Node, rank: usize) -> (usize, usize) {
    let rank_i = i64::try_from(rank).unwrap_or(i64::MAX);
    let clamp = |v: i64| {
        let v = if v < 0 { v.saturating_add(rank_i) } else { v };
        usize::try_from(v.clamp(0, rank_i)).unwrap_or(0)
    };
    let start = clamp(node.attrs.int("start", 0));
    (start, clamp(node.attrs.int("end", rank_i)).max(start))
}

fn infer_shape(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let len = cx.input(0)?.shape.as_ref().map(|dims| {
        let (start, end) = shape_range(cx.node, dims.len());
        Dim::Known(end - start)
    });
    Ok(vec![info(Some(DType::I64), Some(vec![len.unwrap_or(Dim::Unknown)]))])
}

fn shape(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let shape = cx.input(0)?.shape();
    let (start, end) = shape_range(cx.node, shape.len());
    Ok(vec![Tensor::vector(shape[start..end].iter().map(|&d| d as i64).collect())])
}

fn infer_size(_: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    Ok(vec![info(Some(DType::I64), Some(vec![]))])
}

fn size(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    Ok(vec![Tensor::scalar(cx.input(0)?.len() as i64)])
}

/// Reshape's target: 0 copies an axis (unless `allowzero`), -1 takes what is left.
fn reshape_to(target: &[i64], from: &[usize], allow_zero: bool) -> Result<Vec<usize>, OpError> {
    let mut out = Vec::with_capacity(target.len());
    let mut free = None;
    for (i, &size) in target.iter().enumerate() {
        out.push(match size {
            0 if !allow_zero => {
                *from.get(i).ok_or(OpError::Shape { what: "an axis to copy for 0", got: from.to_vec() })?
            }
            -1 if free.is_none() => {
                free = Some(i);
                1
            }
            size => usize::try_from(size)
                .map_err(|_| OpError::Value { what: "a size, or -1 at most once", got: size })?,
        });
    }
    let fail = || OpError::Shape { what: "a shape that Reshape can reach", got: from.to_vec() };
    let total = count(from).ok_or_else(fail)?;
    if let Some(free) = free {
        let rest = count(&out).filter(|&n| n != 0).ok_or_else(fail)?;
        out[free] = total / rest;
    }
    if count(&out) == Some(total) { Ok(out) } else { Err(fail()) }
}

fn infer_reshape(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let x = cx.input(0)?;
    let Some(target) = cx.constant_integers(1) else {
        let rank = match cx.input(1)?.shape.as_deref() {
            Some([Dim::Known(rank)]) => Some(vec![Dim::Unknown; *rank]),
            _ => None,
        };
        return Ok(vec![info(x.dtype, rank)]);
    };
    let allow_zero = cx.attrs().int("allowzero", 0) != 0;
    if let Some(from) = x.shape.as_deref().and_then(known) {
        let shape = reshape_to(&target, &from, allow_zero)?;
        return Ok(vec![info(x.dtype, Some(shape.into_iter().map(Dim::Known).collect()))]);
    }
    // What -1 stands for, if the axes that are not copied cancel but for one.
    let copied = |i: usize| target.get(i) == Some(&0) && !allow_zero;
    let mut left = x.shape.as_ref().map(|dims| {
        let rest = || dims.iter().enumerate().filter(|(i, _)| !copied(*i)).map(|(_, d)| d);
        let product =
            rest().try_fold(1_usize, |n, d| n.checked_mul(if let Dim::Known(d) = d { *d } else { 1 }));
        (product, rest().filter(|d| !matches!(d, Dim::Known(_))).cloned().collect::<Vec<_>>())
    });
    let fixed =
        target.iter().filter(|&&d| d > 0).try_fold(1_usize, |n, &d| n.checked_mul(usize::try_from(d).ok()?));
    let free = match (left.take(), fixed) {
        (Some((Some(have), symbols)), Some(fixed)) if fixed > 0 => match symbols.as_slice() {
            [] if have % fixed == 0 => Dim::Known(have / fixed),
            [one] if have == fixed => one.clone(),
            _ => Dim::Unknown,
        },
        _ => Dim::Unknown,
    };
    let shape = target.iter().enumerate().map(|(i, &size)| match size {
        0 if copied(i) => x.shape.as_ref().and_then(|dims| dims.get(i)).cloned().unwrap_or(Dim::Unknown),
        -1 => free.clone(),
        size => usize::try_from(size).map_or(Dim::Unknown, Dim::Known),
    });
    Ok(vec![info(x.dtype, Some(shape.collect()))])
}

fn reshape(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = cx.input(0)?;
    let shape = reshape_to(&cx.integers(1)?, x.shape(), cx.attrs().int("allowzero", 0) != 0)?;
    Ok(vec![x.clone().reshape(shape)?])
}

/// The axis at which Flatten cuts; the rank itself is allowed.
fn flatten_at(node: &Node, rank: usize) -> Result<usize, OpError> {
    let at = node.attrs.int("axis", 1);
    if usize::try_from(at).is_ok_and(|at| at == rank) { Ok(rank) } else { axis(at, rank) }
}

fn infer_flatten(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let x = cx.input(0)?;
    let shape = match x.shape.as_deref() {
        Some(dims) => {
            let (before, after) = dims.split_at(flatten_at(cx.node, dims.len())?);
            let side = |dims: &[Dim]| match dims {
                [one] => one.clone(),
                _ => known(dims).and_then(|d| count(&d)).map_or(Dim::Unknown, Dim::Known),
            };
            vec![side(before), side(after)]
        }
        None => vec![Dim::Unknown; 2],
    };
    Ok(vec![info(x.dtype, Some(shape))])
}

fn flatten(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = cx.input(0)?;
    let (before, after) = x.shape().split_at(flatten_at(cx.node, x.shape().len())?);
    let product = |s| count(s).unwrap_or(usize::MAX);
    let shape = vec![product(before), product(after)];
    Ok(vec![x.clone().reshape(shape)?])
}

/// The axes of Squeeze and Unsqueeze: an attribute before version 13, an input since.
fn axes_of(cx: &EvalCx<'_>) -> Result<Option<Vec<i64>>, OpError> {
    if cx.node.version < 13 { Ok(cx.attrs().ints("axes").map(<[i64]>::to_vec)) } else { cx.opt_integers(1) }
}

/// [`axes_of`] before the run; the outer `None` is "not known yet".
fn infer_axes(cx: &InferCx<'_>) -> Option<Option<Vec<i64>>> {
    if cx.node.version < 13 {
        Some(cx.attrs().ints("axes").map(<[i64]>::to_vec))
    } else if cx.has(1) {
        cx.constant_integers(1).map(Some)
    } else {
        Some(None)
    }
}

fn infer_squeeze(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let x = cx.input(0)?;
    let shape = match (x.shape.as_deref(), infer_axes(cx)) {
        (Some(dims), Some(Some(list))) => {
            let gone = axes(&list, dims.len())?;
            if let Some(Dim::Known(size)) =
                gone.iter().map(|&i| &dims[i]).find(|d| matches!(d, Dim::Known(n) if *n != 1))
            {
                return Err(OpError::Shape { what: "axes of size 1 to squeeze", got: vec![*size] });
            }
            Some(dims.iter().enumerate().filter(|(i, _)| !gone.contains(i)).map(|(_, d)| d.clone()).collect())
        }
        (Some(dims), Some(None)) => {
            known(dims).map(|dims| dims.into_iter().filter(|&d| d != 1).map(Dim::Known).collect())
        }
        _ => None,
    };
    Ok(vec![info(x.dtype, shape)])
}

fn squeeze(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = cx.input(0)?;
    let rank = x.shape().len();
    let gone = match axes_of(cx)? {
        Some(list) => axes(&list, rank)?,
        None => (0..rank).filter(|&i| x.shape()[i] == 1).collect(),
    };
    if gone.iter().any(|&i| x.shape()[i] != 1) {
        return Err(OpError::Shape { what: "axes of size 1 to squeeze", got: x.shape().to_vec() });
    }
    let shape = (0..rank).filter(|i| !gone.contains(i)).map(|i| x.shape()[i]).collect();
    Ok(vec![x.clone().reshape(shape)?])
}

/// `dims` with axes of size `unit` put in where `list` says, counted in the result.
fn insert<T: Clone>(dims: &[T], list: &[i64], unit: T) -> Result<Vec<T>, OpError> {
    let rank =
        dims.len().checked_add(list.len()).ok_or(OpError::Unsupported { what: "a rank that large" })?;
    let new = axes(list, rank)?;
    let mut old = dims.iter();
    let mut is_new = vec![false; rank];
    new.into_iter().for_each(|i| is_new[i] = true);
    Ok(is_new
        .into_iter()
        .filter_map(|new| if new { Some(unit.clone()) } else { old.next().cloned() })
        .collect())
}

fn infer_unsqueeze(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let x = cx.input(0)?;
    let shape = match (x.shape.as_deref(), infer_axes(cx)) {
        (Some(dims), Some(Some(list))) => Some(insert(dims, &list, Dim::Known(1))?),
        _ => None,
    };
    Ok(vec![info(x.dtype, shape)])
}

fn unsqueeze(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = cx.input(0)?;
    let list = axes_of(cx)?.ok_or(OpError::Attribute { name: "axes", why: "missing" })?;
    Ok(vec![x.clone().reshape(insert(x.shape(), &list, 1)?)?])
}

/// The value of a Constant node.
pub fn constant_value(node: &Node) -> Result<Tensor, OpError> {
    let text = |v: &[u8]| {
        String::from_utf8(v.to_vec())
            .map_err(|_| OpError::Attribute { name: "value_string", why: "not UTF-8" })
    };
    let mut found = CONSTANT_ATTRS.iter().filter_map(|name| node.attrs.0.get(*name));
    match (found.next(), found.next()) {
        (Some(value), None) => Ok(match value {
            Attr::Tensor(t) => t.as_ref().clone(),
            Attr::Float(v) => Tensor::scalar(*v),
            Attr::Floats(v) => Tensor::vector(v.clone()),
            Attr::Int(v) => Tensor::scalar(*v),
            Attr::Ints(v) => Tensor::vector(v.clone()),
            Attr::Str(v) => Tensor::scalar(text(v)?),
            Attr::Strs(v) => Tensor::vector(v.iter().map(|s| text(s)).collect::<Result<Vec<_>, _>>()?),
            Attr::Graph(_) => return Err(OpError::Attribute { name: "value", why: "not a tensor" }),
        }),
        _ => Err(OpError::Attribute { name: "value", why: "exactly one value attribute is needed" }),
    }
}

fn infer_constant(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let value = constant_value(cx.node)?;
    Ok(vec![info(Some(value.dtype()), Some(value.shape().iter().map(|&d| Dim::Known(d)).collect()))])
}

fn constant(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    Ok(vec![constant_value(cx.node)?])
}

/// Sizes of axes that the data gave.
pub fn sizes(list: &[i64]) -> Result<Vec<usize>, OpError> {
    list.iter()
        .map(|&d| {
            usize::try_from(d).map_err(|_| OpError::Value { what: "a size that is not negative", got: d })
        })
        .collect()
}

fn infer_constant_of_shape(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let dtype = cx.attrs().tensor("value").map_or(DType::F32, |t| t.dtype());
    let shape = match cx.constant_integers(0) {
        Some(list) => Some(sizes(&list)?.into_iter().map(Dim::Known).collect()),
        None => match cx.input(0)?.shape.as_deref() {
            Some([Dim::Known(rank)]) => Some(vec![Dim::Unknown; *rank]),
            _ => None,
        },
    };
    Ok(vec![info(Some(dtype), shape)])
}

fn constant_of_shape(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let shape = sizes(&cx.integers(0)?)?;
    let zero = Tensor::scalar(0.0_f32);
    let value = cx.attrs().tensor("value").map_or(&zero, |t| t.as_ref());
    let n = cx.charge(&shape, value.dtype())?;
    if value.len() != 1 {
        return Err(OpError::Attribute { name: "value", why: "not one element" });
    }
    one(shape, fill(value.data(), n))
}

/// `n` times the first element of `value`.
pub fn fill(value: &Data, n: usize) -> Data {
    with_data!(value, v => wrap_data(repeated(v, n)))
}

fn repeated<T: Clone>(values: &[T], n: usize) -> Vec<T> {
    values.first().map_or_else(Vec::new, |x| vec![x.clone(); n])
}

fn infer_range(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    Ok(vec![info(cx.input(0)?.dtype, Some(vec![Dim::Unknown]))])
}

/// `ceil((limit - start) / delta)` elements, none if that is negative; element i is `start + i * delta`, each step rounded.
fn range(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let scalar = |index: usize| {
        let t = cx.input(index)?;
        if t.len() == 1 {
            Ok(t)
        } else {
            Err(OpError::Shape { what: "one element", got: t.shape().to_vec() })
        }
    };
    let (start, limit, delta) = (scalar(0)?, scalar(1)?, scalar(2)?);
    macro_rules! integers {
        ($($variant:ident)*) => {
            match (start.data(), limit.data(), delta.data()) {
                (Data::F32(a), Data::F32(b), Data::F32(d)) => {
                    let n = float_count(f64::from(((b[0] - a[0]) / d[0]).ceil()));
                    progression(cx, a[0], d[0], n)
                }
                (Data::F64(a), Data::F64(b), Data::F64(d)) => {
                    progression(cx, a[0], d[0], float_count(((b[0] - a[0]) / d[0]).ceil()))
                }
                $((Data::$variant(a), Data::$variant(b), Data::$variant(d)) => {
                    let (span, step) = (i128::from(b[0]) - i128::from(a[0]), i128::from(d[0]));
                    if step == 0 {
                        return Err(OpError::Division);
                    }
                    let n = if (span > 0) == (step > 0) { span.unsigned_abs().div_ceil(step.unsigned_abs()) } else { 0 };
                    progression(cx, a[0], d[0], usize::try_from(n).unwrap_or(usize::MAX))
                })*
                (_, _, other) => Err(OpError::InputType { index: 2, got: other.dtype() }),
            }
        };
    }
    integers!(I16 I32 I64)
}

fn float_count(n: f64) -> usize {
    n as usize
}

fn progression<T: Number>(cx: &EvalCx<'_>, start: T, delta: T, n: usize) -> Result<Vec<Tensor>, OpError> {
    let n = cx.charge(&[n], T::DTYPE)?;
    Ok(vec![Tensor::vector((0..n).map(|i| start.add(T::from_count(i).mul(delta))).collect())])
}

fn infer_eye_like(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let x = cx.input(0)?;
    let dtype = match cx.attrs().opt_int("dtype") {
        Some(_) => Some(dtype_attr(cx.attrs(), "dtype", 0)?),
        None => x.dtype,
    };
    Ok(vec![info(dtype, x.shape.clone())])
}

fn eye_like(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = cx.input(0)?;
    let dtype = match cx.attrs().opt_int("dtype") {
        Some(_) => dtype_attr(cx.attrs(), "dtype", 0)?,
        None => x.dtype(),
    };
    let &[rows, columns] = x.shape() else {
        return Err(OpError::Shape { what: "a matrix", got: x.shape().to_vec() });
    };
    cx.charge(x.shape(), dtype)?;
    let k = cx.attrs().int("k", 0);
    let rows_i = if columns == 0 { 0 } else { rows as i64 };
    let eye = (0..rows_i)
        .flat_map(|i| (0..columns as i64).map(move |j| i.checked_add(k) == Some(j)))
        .collect::<Vec<_>>();
    Ok(vec![super::cast::cast(&Tensor::from_vec(vec![rows, columns], eye)?, dtype)?])
}
