//! The elementwise float32 operations (`numeric.md` §7), each over slices.

use hallmark_model::graph::Node;
use hallmark_model::numeric::{canonical_f32, elementary::lanes, max_f32, min_f32};

use super::simd::per_isa;

/// One elementwise operation of one or two operands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Map {
    Add,
    Sub,
    Mul,
    Div,
    Max,
    Min,
    PRelu,
    Relu,
    /// Between two bounds.
    Clip(f32, f32),
    Neg,
    Abs,
    Sqrt,
    Reciprocal,
    Floor,
    Ceil,
    Round,
    Exp,
    Log,
    Tanh,
    Erf,
    /// `Pow` with the constant exponent 2.
    Square,
    Sigmoid,
    /// `x * sigmoid(alpha * x)`.
    Silu(f32),
    Softplus,
    Mish,
    Softsign,
    Gelu,
    GeluTanh,
    HardSigmoid(f32, f32),
    HardSwish,
    LeakyRelu(f32),
    Elu(f32),
}

impl Map {
    /// Operands.
    pub(crate) fn arity(self) -> usize {
        match self {
            Self::Add | Self::Sub | Self::Mul | Self::Div | Self::Max | Self::Min | Self::PRelu => 2,
            _ => 1,
        }
    }

    /// Rough cost of one element in nanoseconds over eight, for the decision to use threads.
    pub(crate) fn cost(self) -> usize {
        match self {
            Self::Exp | Self::Log | Self::Tanh | Self::Erf | Self::Sigmoid | Self::Silu(_) => 16,
            Self::Softplus | Self::Mish | Self::Gelu | Self::GeluTanh | Self::Elu(_) => 24,
            _ => 1,
        }
    }

    /// The operation that `node` is, whatever its operands' type; `None` for any other.
    pub(crate) fn of(node: &Node) -> Option<Self> {
        if node.op.domain != hallmark_model::ops::Domain::Onnx {
            return None;
        }
        let attrs = &node.attrs;
        Some(match node.op.name {
            "Add" => Self::Add,
            "Sub" => Self::Sub,
            "Mul" => Self::Mul,
            "Div" => Self::Div,
            "Max" if node.declared_inputs == 2 => Self::Max,
            "Min" if node.declared_inputs == 2 => Self::Min,
            "PRelu" => Self::PRelu,
            "Relu" => Self::Relu,
            "Neg" => Self::Neg,
            "Abs" => Self::Abs,
            "Sqrt" => Self::Sqrt,
            "Reciprocal" => Self::Reciprocal,
            "Floor" => Self::Floor,
            "Ceil" => Self::Ceil,
            "Round" => Self::Round,
            "Exp" => Self::Exp,
            "Log" => Self::Log,
            "Tanh" => Self::Tanh,
            "Erf" => Self::Erf,
            "Sigmoid" => Self::Sigmoid,
            "Swish" => Self::Silu(attrs.float("alpha", 1.0)),
            "Softplus" => Self::Softplus,
            "Mish" => Self::Mish,
            "Softsign" => Self::Softsign,
            "Gelu" => match attrs.str("approximate", "none") {
                "none" => Self::Gelu,
                "tanh" => Self::GeluTanh,
                _ => return None,
            },
            "HardSigmoid" => Self::HardSigmoid(attrs.float("alpha", 0.2), attrs.float("beta", 0.5)),
            "HardSwish" => Self::HardSwish,
            "LeakyRelu" => Self::LeakyRelu(attrs.float("alpha", 0.01)),
            "Elu" => Self::Elu(attrs.float("alpha", 1.0)),
            _ => return None,
        })
    }
}

/// `1 / (1 + exp(-x))`.
#[inline(always)]
fn sigmoid<const FUSED: bool>(x: f32) -> f32 {
    1.0 / (1.0 + lanes::exp::<FUSED>(-x))
}

/// `max(x, 0) + log1p(exp(-|x|))`.
#[inline(always)]
fn softplus<const FUSED: bool>(x: f32) -> f32 {
    max_f32(x, 0.0) + lanes::log1p(lanes::exp::<FUSED>(-x.abs()))
}

/// `max(0, min(1, alpha * x + beta))`.
#[inline(always)]
fn hard_sigmoid(x: f32, alpha: f32, beta: f32) -> f32 {
    max_f32(0.0, min_f32(1.0, alpha * x + beta))
}

#[inline(always)]
fn one(x: &[f32], y: &mut [f32], f: impl Fn(f32) -> f32) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = canonical_f32(f(x));
    }
}

#[inline(always)]
fn two(a: &[f32], b: &[f32], y: &mut [f32], f: impl Fn(f32, f32) -> f32) {
    for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
        *y = canonical_f32(f(a, b));
    }
}

#[inline(always)]
fn apply_body<const FUSED: bool>(op: Map, a: &[f32], b: &[f32], y: &mut [f32]) {
    match op {
        Map::Add => two(a, b, y, |a, b| a + b),
        Map::Sub => two(a, b, y, |a, b| a - b),
        Map::Mul => two(a, b, y, |a, b| a * b),
        Map::Div => two(a, b, y, |a, b| a / b),
        Map::Max => two(a, b, y, max_f32),
        Map::Min => two(a, b, y, min_f32),
        Map::PRelu => two(a, b, y, |x, slope| if x < 0.0 { slope * x } else { x }),
        Map::Relu => one(a, y, |x| max_f32(x, 0.0)),
        Map::Clip(lo, hi) => one(a, y, |x| min_f32(max_f32(x, lo), hi)),
        Map::Neg => one(a, y, |x| -x),
        Map::Abs => one(a, y, f32::abs),
        Map::Sqrt => one(a, y, f32::sqrt),
        Map::Reciprocal => one(a, y, |x| 1.0 / x),
        Map::Floor => one(a, y, f32::floor),
        Map::Ceil => one(a, y, f32::ceil),
        Map::Round => one(a, y, f32::round_ties_even),
        Map::Exp => one(a, y, lanes::exp::<FUSED>),
        Map::Log => one(a, y, lanes::log),
        Map::Tanh => one(a, y, lanes::tanh),
        Map::Square => one(a, y, |x| x * x),
        Map::Erf => one(a, y, lanes::erf),
        Map::Sigmoid => one(a, y, sigmoid::<FUSED>),
        Map::Silu(alpha) => one(a, y, |x| x * sigmoid::<FUSED>(alpha * x)),
        Map::Softplus => one(a, y, softplus::<FUSED>),
        Map::Mish => one(a, y, |x| x * lanes::tanh(softplus::<FUSED>(x))),
        Map::Softsign => one(a, y, |x| x / (1.0 + x.abs())),
        Map::Gelu => one(a, y, |x| (0.5 * x) * (1.0 + lanes::erf(x / std::f32::consts::SQRT_2))),
        Map::GeluTanh => {
            one(a, y, |x| (0.5 * x) * (1.0 + lanes::tanh(0.797_884_6 * (x + 0.044_715 * ((x * x) * x)))))
        }
        Map::HardSigmoid(alpha, beta) => one(a, y, |x| hard_sigmoid(x, alpha, beta)),
        Map::HardSwish => one(a, y, |x| x * hard_sigmoid(x, 1.0 / 6.0, 0.5)),
        Map::LeakyRelu(alpha) => one(a, y, |x| if x < 0.0 { alpha * x } else { x }),
        Map::Elu(alpha) => one(a, y, |x| if x < 0.0 { alpha * (lanes::exp::<FUSED>(x) - 1.0) } else { x }),
    }
}

per_isa! {
    /// `y[i] = op(a[i], b[i])`; an operation of one operand does not read `b`.
    fn apply = apply_body<FUSED>(op: Map, a: &[f32], b: &[f32], y: &mut [f32])
}
