//! Conversions between element types that lose nothing.

use half::{bf16, f16};
use hallmark_receipt::{DType, Data, Tensor, TensorError, with_data};

/// Why a value does not convert.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// The two types have nothing in common.
    #[error("the file has {} values, and {} does not become {}", from.name(), from.name(), to.name())]
    Kind {
        /// The type in the file.
        from: DType,
        /// The type wanted.
        to: DType,
    },
    /// An element would change its value.
    #[error("element {index} (a {}) has no exact value as {}", from.name(), to.name())]
    Lossy {
        /// Flat position of the element.
        index: usize,
        /// The type in the file.
        from: DType,
        /// The type wanted.
        to: DType,
    },
    /// Shape and data disagree.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// An element on its way: integers as integers, floats as the exact binary64 value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Num {
    /// Any integer type.
    Int(i128),
    /// Any float type.
    Float(f64),
}

/// Element types that are numbers.
pub trait Number: Copy {
    /// The exact value.
    fn widen(self) -> Num;
    /// The element with exactly this value.
    fn exact(num: Num) -> Option<Self>
    where
        Self: Sized;
}

macro_rules! integers {
    ($($t:ty),*) => {$(
        impl Number for $t {
            fn widen(self) -> Num { Num::Int(i128::from(self)) }
            fn exact(num: Num) -> Option<Self> {
                match num {
                    Num::Int(v) => v.try_into().ok(),
                    // 2^53: up to here every integer is a binary64 value of its own.
                    Num::Float(v) if v.fract() == 0.0 && v.abs() <= 9_007_199_254_740_992.0 => {
                        (v as i64).try_into().ok()
                    }
                    Num::Float(_) => None,
                }
            }
        }
    )*};
}
integers!(i8, i16, i32, i64, u8, u16, u32, u64);

macro_rules! floats {
    ($($t:ty: $narrow:expr, $widen:expr;)*) => {$(
        impl Number for $t {
            fn widen(self) -> Num { Num::Float($widen(self)) }
            fn exact(num: Num) -> Option<Self> {
                let wide = match num {
                    Num::Float(v) => v,
                    Num::Int(v) => {
                        let wide = v as f64;
                        if wide as i128 != v { return None; }
                        wide
                    }
                };
                let narrow: $t = $narrow(wide);
                (wide.is_nan() || $widen(narrow) == wide).then_some(narrow)
            }
        }
    )*};
}
floats! {
    f64: |v: f64| v, |v: f64| v;
    f32: |v: f64| v as f32, f64::from;
    f16: f16::from_f64, f16::to_f64;
    bf16: bf16::from_f64, bf16::to_f64;
}

/// The same values as `to`, or the first one that it does not hold.
pub fn lossless(tensor: Tensor, to: DType) -> Result<Tensor, ConvertError> {
    let from = tensor.dtype();
    if from == to {
        return Ok(tensor);
    }
    let (shape, data) = tensor.into_parts();
    let nums = match data {
        Data::Bool(_) | Data::Str(_) => return Err(ConvertError::Kind { from, to }),
        Data::F32(v) => widen(&v),
        Data::F64(v) => widen(&v),
        Data::F16(v) => widen(&v),
        Data::BF16(v) => widen(&v),
        Data::I8(v) => widen(&v),
        Data::I16(v) => widen(&v),
        Data::I32(v) => widen(&v),
        Data::I64(v) => widen(&v),
        Data::U8(v) => widen(&v),
        Data::U16(v) => widen(&v),
        Data::U32(v) => widen(&v),
        Data::U64(v) => widen(&v),
    };
    let mut out = empty(to);
    match &mut out {
        Data::Bool(_) | Data::Str(_) => return Err(ConvertError::Kind { from, to }),
        Data::F32(v) => narrow(&nums, v),
        Data::F64(v) => narrow(&nums, v),
        Data::F16(v) => narrow(&nums, v),
        Data::BF16(v) => narrow(&nums, v),
        Data::I8(v) => narrow(&nums, v),
        Data::I16(v) => narrow(&nums, v),
        Data::I32(v) => narrow(&nums, v),
        Data::I64(v) => narrow(&nums, v),
        Data::U8(v) => narrow(&nums, v),
        Data::U16(v) => narrow(&nums, v),
        Data::U32(v) => narrow(&nums, v),
        Data::U64(v) => narrow(&nums, v),
    }
    .map_err(|index| ConvertError::Lossy { index, from, to })?;
    Ok(Tensor::new(shape, out)?)
}

/// No elements of type `dtype`.
pub fn empty(dtype: DType) -> Data {
    match dtype {
        DType::F32 => Data::F32(Vec::new()),
        DType::F64 => Data::F64(Vec::new()),
        DType::F16 => Data::F16(Vec::new()),
        DType::BF16 => Data::BF16(Vec::new()),
        DType::I8 => Data::I8(Vec::new()),
        DType::I16 => Data::I16(Vec::new()),
        DType::I32 => Data::I32(Vec::new()),
        DType::I64 => Data::I64(Vec::new()),
        DType::U8 => Data::U8(Vec::new()),
        DType::U16 => Data::U16(Vec::new()),
        DType::U32 => Data::U32(Vec::new()),
        DType::U64 => Data::U64(Vec::new()),
        DType::Bool => Data::Bool(Vec::new()),
        DType::Str => Data::Str(Vec::new()),
    }
}

/// Elements `from..to` along the first axis.
pub fn rows(tensor: &Tensor, from: usize, to: usize) -> Result<Tensor, TensorError> {
    let mut shape = tensor.shape().to_vec();
    let stride = shape.get(1..).map_or(1, |rest| rest.iter().product::<usize>());
    let (from, to) = (from.min(to), to);
    if let Some(first) = shape.first_mut() {
        *first = to.saturating_sub(from);
    }
    let range = from.saturating_mul(stride)..to.saturating_mul(stride);
    with_data!(tensor.data(), v => Tensor::from_vec(shape, v.get(range).unwrap_or_default().to_vec()))
}

fn widen<T: Number>(values: &[T]) -> Vec<Num> {
    values.iter().map(|v| v.widen()).collect()
}

fn narrow<T: Number>(nums: &[Num], out: &mut Vec<T>) -> Result<(), usize> {
    out.reserve_exact(nums.len());
    for (index, num) in nums.iter().enumerate() {
        out.push(T::exact(*num).ok_or(index)?);
    }
    Ok(())
}
