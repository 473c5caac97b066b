//! Window functions.

use hallmark_receipt::{DType, Tensor};

use super::dispatch::{dtype_attr, op};
use super::infer::info;
use super::{EvalCx, InferCx, OpDef, OpError, cast::cast};
use crate::graph::{Dim, TypeInfo};
use crate::numeric::elementary::cos;

/// The family's table.
pub const OPS: &[OpDef] = &[
    op("HannWindow", &[17], ATTRS, infer_window, |cx| window(cx, |c1, _| 0.5 - 0.5 * c1)),
    op("HammingWindow", &[17], ATTRS, infer_window, |cx| window(cx, |c1, _| 0.543_478_3 - 0.456_521_75 * c1)),
    op("BlackmanWindow", &[17], ATTRS, infer_window, |cx| window(cx, |c1, c2| (0.42 - 0.5 * c1) + 0.08 * c2)),
];

const ATTRS: &[&str] = &["output_datatype", "periodic"];

fn infer_window(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let size = cx.constant_integers(0).and_then(|v| usize::try_from(*v.first()?).ok());
    let dtype = dtype_attr(cx.attrs(), "output_datatype", 1)?;
    Ok(vec![info(Some(dtype), Some(vec![size.map_or(Dim::Unknown, Dim::Known)]))])
}

/// `f(cos(i * (2 pi) / n), cos(i * (4 pi) / n))`, product before quotient, every step rounded to float32; n is one less if
/// the window is not periodic.
fn window(cx: &EvalCx<'_>, f: impl Fn(f32, f32) -> f32) -> Result<Vec<Tensor>, OpError> {
    let size = cx.integer(0)?;
    let size = usize::try_from(size)
        .map_err(|_| OpError::Value { what: "a size that is not negative", got: size })?;
    let to = dtype_attr(cx.attrs(), "output_datatype", 1)?;
    cx.charge(&[size], DType::F32)?;
    cx.charge(&[size], to)?;
    let n = if cx.attrs().int("periodic", 1) != 0 { size } else { size.saturating_sub(1) } as f32;
    let tau = std::f32::consts::TAU;
    let angle = |i: usize, tau: f32| cos((i as f32 * tau) / n);
    let y: Vec<f32> = (0..size).map(|i| f(angle(i, tau), angle(i, 2.0 * tau))).collect();
    Ok(vec![cast(&Tensor::vector(y), to)?])
}
