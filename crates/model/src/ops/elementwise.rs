//! Elementwise operators of one input (`numeric.md` §6, §7).

use half::{bf16, f16};
use hallmark_receipt::{DType, Data, Tensor};

use super::dispatch::{like, map, op, with_floats, with_integers, with_numbers};
use super::{EvalCx, InferCx, OpDef, OpError, half::in_f32, infer};
use crate::graph::TypeInfo;
use crate::numeric::{Number, canonical_f32, elementary};

/// The family's table.
pub const OPS: &[OpDef] = &[
    op("Abs", &[6, 13], &[], infer::same, |cx| in_f32(cx, abs)),
    op("Neg", &[6, 13], &[], infer::same, |cx| in_f32(cx, neg)),
    op("Sign", &[9, 13], &[], infer::same, |cx| in_f32(cx, sign)),
    op("Ceil", &[6, 13], &[], infer::same, |cx| in_f32(cx, ceil)),
    op("Floor", &[6, 13], &[], infer::same, |cx| in_f32(cx, floor)),
    op("Round", &[11, 22], &[], infer::same, |cx| in_f32(cx, round)),
    op("Sqrt", &[6, 13], &[], infer::same, |cx| in_f32(cx, sqrt)),
    op("Reciprocal", &[6, 13], &[], infer::same, |cx| in_f32(cx, reciprocal)),
    unary("Exp", &[6, 13], |cx| map_f32(cx, elementary::exp)),
    unary("Log", &[6, 13], |cx| map_f32(cx, elementary::log)),
    unary("Sin", &[7, 22], |cx| map_f32(cx, elementary::sin)),
    unary("Cos", &[7, 22], |cx| map_f32(cx, elementary::cos)),
    unary("Tan", &[7, 22], |cx| map_f32(cx, elementary::tan)),
    unary("Asin", &[7, 22], |cx| map_f32(cx, elementary::asin)),
    unary("Acos", &[7, 22], |cx| map_f32(cx, elementary::acos)),
    unary("Atan", &[7, 22], |cx| map_f32(cx, elementary::atan)),
    unary("Sinh", &[9, 22], |cx| map_f32(cx, elementary::sinh)),
    unary("Cosh", &[9, 22], |cx| map_f32(cx, elementary::cosh)),
    unary("Tanh", &[6, 13], |cx| map_f32(cx, elementary::tanh)),
    unary("Asinh", &[9, 22], |cx| map_f32(cx, elementary::asinh)),
    unary("Acosh", &[9, 22], |cx| map_f32(cx, elementary::acosh)),
    unary("Atanh", &[9, 22], |cx| map_f32(cx, elementary::atanh)),
    unary("Erf", &[9, 13], |cx| map_f32(cx, elementary::erf)),
    op("IsNaN", &[9, 13, 20], &[], infer::boolean, is_nan),
    op("IsInf", &[10, 20], &["detect_negative", "detect_positive"], infer::boolean, is_inf),
    op("Not", &[1], &[], infer::same, not),
    op("BitwiseNot", &[18], &[], infer::same, bitwise_not),
    op("Clip", &[6, 11, 12, 13], &["min", "max"], infer::same, |cx| in_f32(cx, clip)),
    op("Identity", &[1, 13, 14, 16, 19, 21, 23, 24, 25], &[], infer::same, identity),
    op("Dropout", &[7, 10, 12, 13, 22], &["ratio", "seed"], infer_dropout, dropout),
];

/// A row without attributes whose output is like its input.
const fn unary(name: &'static str, versions: &'static [u32], eval: super::dispatch::Eval) -> OpDef {
    op(name, versions, &[], infer::same, eval)
}

/// Applies a float32 function to input 0, which is float32, float16 or bfloat16.
pub fn map_f32(cx: &EvalCx<'_>, f: impl Fn(f32) -> f32) -> Result<Vec<Tensor>, OpError> {
    let f = |x| canonical_f32(f(x));
    let data = match cx.input(0)?.data() {
        Data::F32(v) => map(v, f),
        Data::F16(v) => map(v, |x: f16| f16::from_f32(f(x.to_f32()))),
        Data::BF16(v) => map(v, |x: bf16| bf16::from_f32(f(x.to_f32()))),
        other => return Err(OpError::InputType { index: 0, got: other.dtype() }),
    };
    like(cx, data)
}

fn abs(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    like(cx, with_numbers!(cx, 0, v => map(v, Number::abs)))
}

fn neg(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    like(cx, with_numbers!(cx, 0, v => map(v, Number::neg)))
}

fn sign(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    like(cx, with_numbers!(cx, 0, v => map(v, Number::sign)))
}

fn ceil(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    like(cx, with_floats!(cx, 0, v => map(v, |x| x.ceil())))
}

fn floor(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    like(cx, with_floats!(cx, 0, v => map(v, |x| x.floor())))
}

fn round(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    like(cx, with_floats!(cx, 0, v => map(v, |x| x.round_ties_even())))
}

fn sqrt(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    like(cx, with_floats!(cx, 0, v => map(v, |x| x.sqrt())))
}

fn reciprocal(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    like(cx, with_floats!(cx, 0, v => map(v, |x| 1.0 / x)))
}

fn is_nan(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let data = match cx.input(0)?.data() {
        Data::F32(v) => map(v, f32::is_nan),
        Data::F64(v) => map(v, f64::is_nan),
        Data::F16(v) => map(v, f16::is_nan),
        Data::BF16(v) => map(v, bf16::is_nan),
        other => return Err(OpError::InputType { index: 0, got: other.dtype() }),
    };
    like(cx, data)
}

fn is_inf(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let negative = cx.attrs().int("detect_negative", 1) != 0;
    let positive = cx.attrs().int("detect_positive", 1) != 0;
    let is = |x: f64| x.is_infinite() && if x > 0.0 { positive } else { negative };
    let data = match cx.input(0)?.data() {
        Data::F32(v) => map(v, |x| is(x.into())),
        Data::F64(v) => map(v, is),
        Data::F16(v) => map(v, |x| is(x.to_f32().into())),
        Data::BF16(v) => map(v, |x| is(x.to_f32().into())),
        other => return Err(OpError::InputType { index: 0, got: other.dtype() }),
    };
    like(cx, data)
}

fn not(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    like(cx, map(cx.slice::<bool>(0)?, |x| !x))
}

fn bitwise_not(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    like(cx, with_integers!(cx, 0, v => map(v, |x| !x)))
}

/// An absent bound binds nothing; version 6 has the bounds as attributes.
fn clip(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    if cx.node.version < 11 {
        let lo = cx.attrs().float("min", f32::NEG_INFINITY);
        let hi = cx.attrs().float("max", f32::INFINITY);
        let data = match cx.input(0)?.data() {
            Data::F32(v) => map(v, |x| Number::min(Number::max(x, lo), hi)),
            Data::F64(v) => map(v, |x| Number::min(Number::max(x, lo.into()), hi.into())),
            other => return Err(OpError::InputType { index: 0, got: other.dtype() }),
        };
        return like(cx, data);
    }
    let data = with_numbers!(cx, 0, v => {
        let lo = bound(cx, v, 1)?;
        let hi = bound(cx, v, 2)?;
        map(v, |x| {
            let x = lo.map_or(x, |lo| Number::max(x, lo));
            hi.map_or(x, |hi| Number::min(x, hi))
        })
    });
    like(cx, data)
}

/// The scalar bound at `index`, of the element type of `_like`.
fn bound<T: Number>(cx: &EvalCx<'_>, _like: &[T], index: usize) -> Result<Option<T>, OpError> {
    if cx.opt(index).is_none() {
        return Ok(None);
    }
    match cx.slice::<T>(index)? {
        [one] => Ok(Some(*one)),
        _ => Err(OpError::Shape { what: "a scalar bound", got: cx.input(index)?.shape().to_vec() }),
    }
}

fn identity(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    Ok(vec![cx.input(0)?.clone()])
}

fn infer_dropout(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let x = cx.input(0)?.clone();
    let mask = if cx.node.version < 10 { x.dtype } else { Some(DType::Bool) };
    Ok(vec![x.clone(), TypeInfo { dtype: mask, shape: x.shape }])
}

/// Inference only: the output is the input, the mask keeps everything. Training with a ratio above 0 is refused, since
/// its random draws are outside the specification.
fn dropout(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = cx.input(0)?;
    let training = match cx.opt(2) {
        Some(t) => t.as_slice::<bool>().is_none_or(|v| v.contains(&true)),
        None => false,
    };
    let keeps_all = match cx.opt(1).map(Tensor::data) {
        Some(Data::F32(v)) => v.iter().all(|&r| r == 0.0),
        Some(Data::F64(v)) => v.iter().all(|&r| r == 0.0),
        Some(Data::F16(v)) => v.iter().all(|r| r.to_f32() == 0.0),
        Some(Data::BF16(v)) => v.iter().all(|r| r.to_f32() == 0.0),
        _ => false,
    };
    if training && !keeps_all {
        return Err(OpError::Unsupported { what: "Dropout in training mode" });
    }
    let n = x.len();
    let mask = match x.data() {
        _ if cx.node.version >= 10 => Data::Bool(vec![true; n]),
        Data::F32(_) => Data::F32(vec![1.0; n]),
        Data::F64(_) => Data::F64(vec![1.0; n]),
        Data::F16(_) => Data::F16(vec![f16::ONE; n]),
        other => return Err(OpError::InputType { index: 0, got: other.dtype() }),
    };
    Ok(vec![x.clone(), Tensor::new(x.shape().to_vec(), mask)?])
}
