//! Activation functions (`numeric.md` §7).

use hallmark_receipt::{Data, Tensor};

use super::dispatch::{like, map, one, op, with_numbers};
use super::elementwise::map_f32;
use super::index::{broadcast_strides, strides};
use super::{EvalCx, OpDef, OpError, binary::zip, half::in_f32, infer};
use crate::graph::Attrs;
use crate::numeric::elementary::{erf, exp, log1p, tanh};
use crate::numeric::{Number, max_f32, min_f32};

/// The family's table.
pub const OPS: &[OpDef] = &[
    op("Relu", &[6, 13, 14], &[], infer::same, |cx| in_f32(cx, relu)),
    op("LeakyRelu", &[6, 16], &["alpha"], infer::same, |cx| in_f32(cx, leaky_relu)),
    op("PRelu", &[7, 9, 16], &[], infer::same, |cx| in_f32(cx, prelu)),
    op("Sigmoid", &[6, 13], &[], infer::same, |cx| map_f32(cx, sigmoid)),
    op("HardSigmoid", &[6, 22], &["alpha", "beta"], infer::same, |cx| {
        let [alpha, beta] = parameters(cx.attrs(), [("alpha", 0.2), ("beta", 0.5)]);
        map_f32(cx, |x| hard_sigmoid(x, alpha, beta))
    }),
    op("HardSwish", &[14, 22], &[], infer::same, |cx| map_f32(cx, |x| x * hard_sigmoid(x, 1.0 / 6.0, 0.5))),
    op("Softplus", &[1, 22], &[], infer::same, |cx| map_f32(cx, softplus)),
    op("Softsign", &[1, 22], &[], infer::same, |cx| map_f32(cx, |x| x / (1.0 + x.abs()))),
    op("Mish", &[18, 22], &[], infer::same, |cx| map_f32(cx, |x| x * tanh(softplus(x)))),
    op("Swish", &[24], &["alpha"], infer::same, |cx| {
        let alpha = cx.attrs().float("alpha", 1.0);
        map_f32(cx, |x| x * sigmoid(alpha * x))
    }),
    op("Elu", &[6, 22], &["alpha"], infer::same, |cx| {
        let alpha = cx.attrs().float("alpha", 1.0);
        map_f32(cx, |x| if x < 0.0 { alpha * (exp(x) - 1.0) } else { x })
    }),
    op("Celu", &[12, 28], &["alpha"], infer::same, |cx| {
        let alpha = cx.attrs().float("alpha", 1.0);
        map_f32(cx, |x| max_f32(0.0, x) + min_f32(0.0, alpha * (exp(x / alpha) - 1.0)))
    }),
    op("Selu", &[6, 22], &["alpha", "gamma"], infer::same, |cx| {
        let [alpha, gamma] = parameters(cx.attrs(), [("alpha", 1.673_263_2), ("gamma", 1.050_701)]);
        map_f32(cx, |x| if x > 0.0 { gamma * x } else { gamma * (alpha * exp(x) - alpha) })
    }),
    op("Gelu", &[20], &["approximate"], infer::same, gelu),
    op("ThresholdedRelu", &[10, 22], &["alpha"], infer::same, |cx| {
        let alpha = cx.attrs().float("alpha", 1.0);
        map_f32(cx, |x| if x > alpha { x } else { 0.0 })
    }),
    op("Shrink", &[9], &["lambd", "bias"], infer::same, shrink),
];

/// `1 / (1 + exp(-x))`.
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `max(0, min(1, alpha * x + beta))`.
pub fn hard_sigmoid(x: f32, alpha: f32, beta: f32) -> f32 {
    max_f32(0.0, min_f32(1.0, alpha * x + beta))
}

/// `max(x, 0) + log1p(exp(-|x|))`.
pub fn softplus(x: f32) -> f32 {
    max_f32(x, 0.0) + log1p(exp(-x.abs()))
}

/// `(0.5 * x) * (1 + erf(x / sqrt 2))`.
pub fn gelu_erf(x: f32) -> f32 {
    (0.5 * x) * (1.0 + erf(x / std::f32::consts::SQRT_2))
}

/// The tanh form of Gelu.
pub fn gelu_tanh(x: f32) -> f32 {
    (0.5 * x) * (1.0 + tanh(0.797_884_6 * (x + 0.044_715 * ((x * x) * x))))
}

fn parameters<const N: usize>(attrs: &Attrs, defaults: [(&str, f32); N]) -> [f32; N] {
    defaults.map(|(name, default)| attrs.float(name, default))
}

fn relu(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    like(cx, with_numbers!(cx, 0, v => map(v, relu_of)))
}

fn relu_of<T: Number>(x: T) -> T {
    Number::max(x, T::ZERO)
}

fn leaky_relu(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let alpha = cx.attrs().float("alpha", 0.01);
    let data = match cx.input(0)?.data() {
        Data::F32(v) => map(v, |x| if x < 0.0 { alpha * x } else { x }),
        Data::F64(v) => map(v, |x| if x < 0.0 { f64::from(alpha) * x } else { x }),
        other => return Err(OpError::InputType { index: 0, got: other.dtype() }),
    };
    like(cx, data)
}

/// The slope stretches to the input's shape, never the other way round.
fn prelu(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let shape = cx.input(0)?.shape();
    let slope = broadcast_strides(cx.input(1)?.shape(), shape)?;
    let steps = [strides(shape), slope];
    let data = with_numbers!(cx, 0, x => zip(shape, &steps, x, cx.slice(1)?, prelu_of));
    one(shape.to_vec(), data)
}

fn prelu_of<T: Number>(x: T, slope: T) -> T {
    if x < T::ZERO { slope.mul(x) } else { x }
}

fn gelu(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    match cx.attrs().str("approximate", "none") {
        "none" => map_f32(cx, gelu_erf),
        "tanh" => map_f32(cx, gelu_tanh),
        _ => Err(OpError::Attribute { name: "approximate", why: "neither `none` nor `tanh`" }),
    }
}

fn shrink(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let [lambd, bias] = parameters(cx.attrs(), [("lambd", 0.5), ("bias", 0.0)]);
    map_f32(cx, |x| {
        if x < -lambd {
            x + bias
        } else if x > lambd {
            x - bias
        } else {
            0.0
        }
    })
}
