//! float16 and bfloat16: widened to float32, computed there, rounded once per output (`numeric.md` §1).

use half::{bf16, f16};
use hallmark_receipt::{DType, Data, Tensor};

use super::{EvalCx, OpError};

/// Runs the float32 operator `eval` on inputs of any of float32, float16 and bfloat16.
pub fn in_f32(
    cx: &EvalCx<'_>,
    eval: fn(&EvalCx<'_>) -> Result<Vec<Tensor>, OpError>,
) -> Result<Vec<Tensor>, OpError> {
    let narrow =
        cx.inputs.iter().flatten().map(|t| t.dtype()).find(|d| matches!(d, DType::F16 | DType::BF16));
    let Some(narrow) = narrow else { return eval(cx) };
    let wide: Vec<Option<Tensor>> =
        cx.inputs.iter().map(|t| t.map(widen).transpose()).collect::<Result<_, _>>()?;
    let inputs: Vec<Option<&Tensor>> = wide.iter().map(Option::as_ref).collect();
    eval(&EvalCx { node: cx.node, inputs: &inputs, budget: cx.budget })?
        .into_iter()
        .map(|t| round(t, narrow))
        .collect()
}

fn widen(t: &Tensor) -> Result<Tensor, OpError> {
    let values: Vec<f32> = match t.data() {
        Data::F16(v) => v.iter().map(|x| x.to_f32()).collect(),
        Data::BF16(v) => v.iter().map(|x| x.to_f32()).collect(),
        _ => return Ok(t.clone()),
    };
    Ok(Tensor::from_vec(t.shape().to_vec(), values)?)
}

fn round(t: Tensor, to: DType) -> Result<Tensor, OpError> {
    let shape = t.shape().to_vec();
    let Some(values) = t.as_slice::<f32>() else { return Ok(t) };
    Ok(match to {
        DType::F16 => Tensor::from_vec(shape, values.iter().map(|&x| f16::from_f32(x)).collect::<Vec<_>>())?,
        _ => Tensor::from_vec(shape, values.iter().map(|&x| bf16::from_f32(x)).collect::<Vec<_>>())?,
    })
}
