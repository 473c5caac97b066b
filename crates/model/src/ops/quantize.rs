//! QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear.

use hallmark_receipt::{DType, Data, Tensor, tensor::count};

use super::dispatch::{dtype_attr, one, op};
use super::index::{View, axis, broadcast_strides, integers, strides};
use super::infer::info;
use super::{EvalCx, InferCx, OpDef, OpError, cast::cast};
use crate::graph::TypeInfo;
use crate::numeric::{max_f32, maximum, min_f32, reduce};

/// The family's table.
pub const OPS: &[OpDef] = &[
    op(
        "QuantizeLinear",
        VERSIONS,
        &["axis", "block_size", "output_dtype", "saturate", "precision"],
        infer_quantize,
        quantize,
    ),
    op("DequantizeLinear", VERSIONS, &["axis", "block_size", "output_dtype"], infer_dequantize, dequantize),
    op("DynamicQuantizeLinear", &[11], &[], infer_dynamic, dynamic),
];

const VERSIONS: &[u32] = &[10, 13, 19, 21, 23, 24, 25, 28];

/// The number of elements of a tensor that exists.
fn elements(shape: &[usize]) -> usize {
    count(shape).unwrap_or(0)
}

/// A parameter of shape `from` at every element of `to`: one for all, one for each slice of the axis, or (with a block
/// size) one for each block of the axis.
fn spread<T: Copy>(cx: &EvalCx<'_>, values: &[T], from: &[usize], to: &[usize]) -> Result<Vec<T>, OpError> {
    let fail = || OpError::Shape {
        what: "one scale, one for each slice of the axis, or one for each block",
        got: from.to_vec(),
    };
    if from.is_empty() || from == [1] {
        return Ok(vec![*values.first().ok_or_else(fail)?; elements(to)]);
    }
    let at = axis(cx.attrs().int("axis", 1), to.len())?;
    let block = cx.attrs().int("block_size", 0);
    if block == 0 {
        if from != [to[at]] {
            return Err(fail());
        }
        let mut shape = vec![1; to.len()];
        shape[at] = to[at];
        let strides = broadcast_strides(&shape, to)?;
        return Ok(View { offset: 0, shape: to.to_vec(), strides }.copy(values));
    }
    let block =
        usize::try_from(block).map_err(|_| OpError::Attribute { name: "block_size", why: "negative" })?;
    // A block beyond the axis is the whole of it.
    let block = block.min(to[at].max(1));
    let fits = from.len() == to.len()
        && from
            .iter()
            .zip(to)
            .enumerate()
            .all(|(i, (&f, &t))| if i == at { f == t.div_ceil(block) } else { f == t });
    if !fits {
        return Err(fail());
    }
    // Stretch every scale over its block; a last block that is cut short is read only as far as the axis goes.
    let steps = strides(from);
    let (mut shape, mut twice) = (from.to_vec(), steps.clone());
    shape.insert(at + 1, block);
    twice.insert(at + 1, 0);
    let full = View { offset: 0, shape, strides: twice }.copy(values);
    let mut wide = from.to_vec();
    wide[at] *= block;
    Ok(View { offset: 0, shape: to.to_vec(), strides: strides(&wide) }.copy(&full))
}

fn quantized_type(cx: &InferCx<'_>) -> Result<Option<DType>, OpError> {
    if cx.has(2) {
        return Ok(cx.input(2)?.dtype);
    }
    match cx.attrs().int("output_dtype", 0) {
        0 => Ok(Some(DType::U8)),
        _ => Ok(Some(dtype_attr(cx.attrs(), "output_dtype", 0)?)),
    }
}

fn infer_quantize(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    Ok(vec![info(quantized_type(cx)?, cx.input(0)?.shape.clone())])
}

/// Least and greatest value of a quantised type.
fn range(dtype: DType, index: usize) -> Result<(i64, i64), OpError> {
    Ok(match dtype {
        DType::U8 => (0, 255),
        DType::I8 => (-128, 127),
        DType::U16 => (0, 65_535),
        DType::I16 => (-32_768, 32_767),
        DType::I32 => (i64::from(i32::MIN), i64::from(i32::MAX)),
        got => return Err(OpError::InputType { index, got }),
    })
}

fn floats(t: &Tensor, index: usize) -> Result<Tensor, OpError> {
    match t.dtype() {
        DType::F32 | DType::F16 | DType::BF16 => cast(t, DType::F32),
        // Version 10 takes int32 here, and its products are exact enough in float32 to be rounded once.
        DType::I32 => cast(t, DType::F32),
        got => Err(OpError::InputType { index, got }),
    }
}

/// `saturate(round(x / scale) + zero)`, ties to even; NaN gives the zero point.
fn quantize(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = cx.input(0)?;
    let values = floats(x, 0)?;
    let scales = floats(cx.input(1)?, 1)?;
    let to = match cx.opt(2) {
        Some(zero) => zero.dtype(),
        None if cx.attrs().int("output_dtype", 0) == 0 => DType::U8,
        None => dtype_attr(cx.attrs(), "output_dtype", 0)?,
    };
    let (least, greatest) = range(to, 2)?;
    let scale = spread(cx, scales.as_slice::<f32>().unwrap_or(&[]), scales.shape(), x.shape())?;
    let zero = zeros(cx, x.shape())?;
    let q = values
        .as_slice::<f32>()
        .unwrap_or(&[])
        .iter()
        .zip(scale)
        .zip(zero)
        .map(|((&x, scale), zero)| {
            ((x / scale).round_ties_even() as i64).saturating_add(zero).clamp(least, greatest)
        })
        .collect::<Vec<_>>();
    let shape = x.shape().to_vec();
    Ok(vec![cast(&Tensor::from_vec(shape, q)?, to)?])
}

/// The zero points at every element.
fn zeros(cx: &EvalCx<'_>, to: &[usize]) -> Result<Vec<i64>, OpError> {
    match cx.opt(2) {
        Some(zero) => {
            let values = integers(zero).ok_or(OpError::InputType { index: 2, got: zero.dtype() })?;
            spread(cx, &values, zero.shape(), to)
        }
        None => Ok(vec![0; elements(to)]),
    }
}

fn infer_dequantize(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let dtype = match cx.attrs().int("output_dtype", 0) {
        0 => cx.input(1)?.dtype,
        _ => Some(dtype_attr(cx.attrs(), "output_dtype", 0)?),
    };
    Ok(vec![info(dtype, cx.input(0)?.shape.clone())])
}

/// `float(x - zero) * scale`.
fn dequantize(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = cx.input(0)?;
    range(x.dtype(), 0)?;
    let values = integers(x).ok_or(OpError::InputType { index: 0, got: x.dtype() })?;
    let scales = cx.input(1)?;
    let to = match cx.attrs().int("output_dtype", 0) {
        0 => scales.dtype(),
        _ => dtype_attr(cx.attrs(), "output_dtype", 0)?,
    };
    cx.charge(x.shape(), to)?;
    let scales = floats(scales, 1)?;
    let scale = spread(cx, scales.as_slice::<f32>().unwrap_or(&[]), scales.shape(), x.shape())?;
    let zero = zeros(cx, x.shape())?;
    let y = values
        .iter()
        .zip(scale)
        .zip(zero)
        .map(|((x, scale), zero)| (x - zero) as f32 * scale)
        .collect::<Vec<_>>();
    Ok(vec![cast(&Tensor::from_vec(x.shape().to_vec(), y)?, to)?])
}

fn infer_dynamic(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    Ok(vec![
        info(Some(DType::U8), cx.input(0)?.shape.clone()),
        info(Some(DType::F32), Some(vec![])),
        info(Some(DType::U8), Some(vec![])),
    ])
}

/// `scale = (max(0, max x) - min(0, min x)) / 255` (1 where that is 0), `zero = saturate(round(-min / scale))`, then as QuantizeLinear.
fn dynamic(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = cx.slice::<f32>(0)?;
    let high = max_f32(maximum(x.iter().copied()), 0.0);
    let low = min_f32(reduce(x.iter().copied(), f32::INFINITY, min_f32), 0.0);
    let scale = (high - low) / 255.0;
    let scale = if scale == 0.0 { 1.0 } else { scale };
    let zero = (-low / scale).round_ties_even().clamp(0.0, 255.0) as u8;
    let q = x
        .iter()
        .map(|&x| ((x / scale).round_ties_even() as i64).saturating_add(zero.into()).clamp(0, 255) as u8);
    let y = one(cx.input(0)?.shape().to_vec(), Data::U8(q.collect()))?;
    Ok(y.into_iter().chain([Tensor::scalar(scale), Tensor::scalar(zero)]).collect())
}
