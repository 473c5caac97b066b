//! Elementwise operators (`numeric.md` §7).

use hallmark_receipt::Tensor;

use super::{Domain, EvalCx, OpDef, OpError, infer};
use crate::numeric;

/// The family's table.
pub const OPS: &[OpDef] = &[OpDef {
    domain: Domain::Onnx,
    name: "Relu",
    versions: &[6, 13, 14],
    attrs: &[],
    infer: infer::same,
    eval: relu,
}];

fn relu(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = cx.input(0)?;
    let y = cx.slice::<f32>(0)?.iter().map(|&x| numeric::max_f32(x, 0.0)).collect();
    Ok(vec![Tensor::from_vec(x.shape().to_vec(), y)?])
}
