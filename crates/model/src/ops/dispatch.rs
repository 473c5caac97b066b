//! From a tensor's element type to typed code, and rows of the operator table.

use hallmark_receipt::{DType, Data, Element, Tensor};

use super::{Domain, EvalCx, InferCx, OpDef, OpError};
use crate::graph::TypeInfo;

/// Runs `$body` with `$v` bound to the elements of input `$index`, which must have one of the listed types.
macro_rules! with_types {
    ($cx:expr, $index:expr, [$($variant:ident)*], $v:ident => $body:expr) => {
        match $cx.input($index)?.data() {
            $(hallmark_receipt::Data::$variant($v) => $body,)*
            other => {
                return Err($crate::ops::OpError::InputType { index: $index, got: other.dtype() });
            }
        }
    };
}

/// [`with_types`] over every [`Number`](crate::numeric::Number).
macro_rules! with_numbers {
    ($cx:expr, $index:expr, $v:ident => $body:expr) => {
        $crate::ops::dispatch::with_types!($cx, $index, [F32 F64 I8 I16 I32 I64 U8 U16 U32 U64], $v => $body)
    };
}

/// [`with_types`] over float32 and float64.
macro_rules! with_floats {
    ($cx:expr, $index:expr, $v:ident => $body:expr) => {
        $crate::ops::dispatch::with_types!($cx, $index, [F32 F64], $v => $body)
    };
}

/// [`with_types`] over the integers.
macro_rules! with_integers {
    ($cx:expr, $index:expr, $v:ident => $body:expr) => {
        $crate::ops::dispatch::with_types!($cx, $index, [I8 I16 I32 I64 U8 U16 U32 U64], $v => $body)
    };
}

pub(crate) use {with_floats, with_integers, with_numbers, with_types};

/// Inference of a row.
pub type Infer = fn(&InferCx<'_>) -> Result<Vec<TypeInfo>, OpError>;
/// Evaluation of a row.
pub type Eval = fn(&EvalCx<'_>) -> Result<Vec<Tensor>, OpError>;

/// A row of the default domain.
pub const fn op(
    name: &'static str,
    versions: &'static [u32],
    attrs: &'static [&'static str],
    infer: Infer,
    eval: Eval,
) -> OpDef {
    OpDef { domain: Domain::Onnx, name, versions, attrs, infer, eval }
}

/// One result of the shape of input 0.
pub fn like(cx: &EvalCx<'_>, data: Data) -> Result<Vec<Tensor>, OpError> {
    one(cx.input(0)?.shape().to_vec(), data)
}

/// One result.
pub fn one(shape: Vec<usize>, data: Data) -> Result<Vec<Tensor>, OpError> {
    Ok(vec![Tensor::new(shape, data)?])
}

/// Applies `f` to each element of a slice.
pub fn map<T: Copy, U: Element>(values: &[T], f: impl Fn(T) -> U) -> Data {
    U::into_data(values.iter().map(|&x| f(x)).collect())
}

/// The element type of an ONNX `TensorProto.DataType` number.
pub fn dtype_of(number: i64) -> Option<DType> {
    Some(match number {
        1 => DType::F32,
        2 => DType::U8,
        3 => DType::I8,
        4 => DType::U16,
        5 => DType::I16,
        6 => DType::I32,
        7 => DType::I64,
        8 => DType::Str,
        9 => DType::Bool,
        10 => DType::F16,
        11 => DType::F64,
        12 => DType::U32,
        13 => DType::U64,
        16 => DType::BF16,
        _ => return None,
    })
}

/// The ONNX `TensorProto.DataType` number of an element type.
pub fn number_of(dtype: DType) -> i32 {
    (1..=16).find(|number| dtype_of((*number).into()) == Some(dtype)).unwrap_or(0)
}

/// The element type that the integer attribute `name` names.
pub fn dtype_attr(attrs: &crate::graph::Attrs, name: &'static str, default: i64) -> Result<DType, OpError> {
    dtype_of(attrs.int(name, default))
        .ok_or(OpError::Attribute { name, why: "an element type outside this version" })
}
