//! Tensors: the values that models take and give.

use half::{bf16, f16};

/// Element types. The text form is numpy's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DType {
    /// IEEE binary32.
    F32,
    /// IEEE binary64.
    F64,
    /// IEEE binary16.
    F16,
    /// bfloat16.
    BF16,
    /// Signed 8 bits.
    I8,
    /// Signed 16 bits.
    I16,
    /// Signed 32 bits.
    I32,
    /// Signed 64 bits.
    I64,
    /// Unsigned 8 bits.
    U8,
    /// Unsigned 16 bits.
    U16,
    /// Unsigned 32 bits.
    U32,
    /// Unsigned 64 bits.
    U64,
    /// Truth values.
    Bool,
    /// UTF-8 text.
    Str,
}

impl DType {
    /// Every element type.
    pub const ALL: [Self; 14] = [
        Self::F32,
        Self::F64,
        Self::F16,
        Self::BF16,
        Self::I8,
        Self::I16,
        Self::I32,
        Self::I64,
        Self::U8,
        Self::U16,
        Self::U32,
        Self::U64,
        Self::Bool,
        Self::Str,
    ];

    /// numpy's name: `float32`, `int64`, `bool`, ...; text is `string`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F64 => "float64",
            Self::F16 => "float16",
            Self::BF16 => "bfloat16",
            Self::I8 => "int8",
            Self::I16 => "int16",
            Self::I32 => "int32",
            Self::I64 => "int64",
            Self::U8 => "uint8",
            Self::U16 => "uint16",
            Self::U32 => "uint32",
            Self::U64 => "uint64",
            Self::Bool => "bool",
            Self::Str => "string",
        }
    }

    /// The type with this numpy name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.name() == name)
    }

    /// Bytes of one element in the canonical encoding; `None` for text, whose elements vary.
    pub fn size(self) -> Option<usize> {
        match self {
            Self::I8 | Self::U8 | Self::Bool => Some(1),
            Self::F16 | Self::BF16 | Self::I16 | Self::U16 => Some(2),
            Self::F32 | Self::I32 | Self::U32 => Some(4),
            Self::F64 | Self::I64 | Self::U64 => Some(8),
            Self::Str => None,
        }
    }
}

/// The elements of a tensor, row-major.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Data {
    F32(Vec<f32>),
    F64(Vec<f64>),
    F16(Vec<f16>),
    BF16(Vec<bf16>),
    I8(Vec<i8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    U8(Vec<u8>),
    U16(Vec<u16>),
    U32(Vec<u32>),
    U64(Vec<u64>),
    Bool(Vec<bool>),
    Str(Vec<String>),
}

/// Runs `$body` with `$v` bound to the typed vector inside a [`Data`].
#[macro_export]
macro_rules! with_data {
    ($data:expr, $v:ident => $body:expr) => {
        match $data {
            $crate::Data::F32($v) => $body,
            $crate::Data::F64($v) => $body,
            $crate::Data::F16($v) => $body,
            $crate::Data::BF16($v) => $body,
            $crate::Data::I8($v) => $body,
            $crate::Data::I16($v) => $body,
            $crate::Data::I32($v) => $body,
            $crate::Data::I64($v) => $body,
            $crate::Data::U8($v) => $body,
            $crate::Data::U16($v) => $body,
            $crate::Data::U32($v) => $body,
            $crate::Data::U64($v) => $body,
            $crate::Data::Bool($v) => $body,
            $crate::Data::Str($v) => $body,
        }
    };
}

impl Data {
    /// The element type.
    pub fn dtype(&self) -> DType {
        match self {
            Self::F32(_) => DType::F32,
            Self::F64(_) => DType::F64,
            Self::F16(_) => DType::F16,
            Self::BF16(_) => DType::BF16,
            Self::I8(_) => DType::I8,
            Self::I16(_) => DType::I16,
            Self::I32(_) => DType::I32,
            Self::I64(_) => DType::I64,
            Self::U8(_) => DType::U8,
            Self::U16(_) => DType::U16,
            Self::U32(_) => DType::U32,
            Self::U64(_) => DType::U64,
            Self::Bool(_) => DType::Bool,
            Self::Str(_) => DType::Str,
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        with_data!(self, v => v.len())
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Why a tensor cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TensorError {
    /// The shape does not multiply to the number of elements.
    #[error("shape {shape:?} does not hold {len} elements")]
    ShapeMismatch {
        /// The shape given.
        shape: Vec<usize>,
        /// The number of elements given.
        len: usize,
    },
    /// The shape's product does not fit the address space.
    #[error("shape {shape:?} has too many elements")]
    TooLarge {
        /// The shape given.
        shape: Vec<usize>,
    },
}

/// A dense row-major tensor whose shape always matches its number of elements.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: Data,
}

/// Types that tensors hold.
pub trait Element: Clone + Sized + 'static {
    /// The type's tag.
    const DTYPE: DType;
    /// Wraps a vector.
    fn into_data(values: Vec<Self>) -> Data;
    /// The vector inside, if the type is this one.
    fn slice(data: &Data) -> Option<&[Self]>;
    /// The vector inside, if the type is this one.
    fn vec(data: Data) -> Option<Vec<Self>>;
}

macro_rules! element {
    ($($t:ty => $v:ident),* $(,)?) => {$(
        impl Element for $t {
            const DTYPE: DType = DType::$v;
            fn into_data(values: Vec<Self>) -> Data { Data::$v(values) }
            fn slice(data: &Data) -> Option<&[Self]> { if let Data::$v(v) = data { Some(v) } else { None } }
            fn vec(data: Data) -> Option<Vec<Self>> { if let Data::$v(v) = data { Some(v) } else { None } }
        }
    )*};
}
element!(f32 => F32, f64 => F64, f16 => F16, bf16 => BF16, i8 => I8, i16 => I16, i32 => I32, i64 => I64,
         u8 => U8, u16 => U16, u32 => U32, u64 => U64, bool => Bool, String => Str);

impl Tensor {
    /// A tensor of `data` with `shape` (row-major, in elements).
    pub fn new(shape: Vec<usize>, data: Data) -> Result<Self, TensorError> {
        match count(&shape) {
            None => Err(TensorError::TooLarge { shape }),
            Some(n) if n != data.len() => Err(TensorError::ShapeMismatch { shape, len: data.len() }),
            Some(_) => Ok(Self { shape, data }),
        }
    }

    /// A tensor of typed `values` with `shape`.
    pub fn from_vec<T: Element>(shape: Vec<usize>, values: Vec<T>) -> Result<Self, TensorError> {
        Self::new(shape, T::into_data(values))
    }

    /// A tensor of rank 0.
    pub fn scalar<T: Element>(value: T) -> Self {
        Self { shape: Vec::new(), data: T::into_data(vec![value]) }
    }

    /// A tensor of rank 1.
    pub fn vector<T: Element>(values: Vec<T>) -> Self {
        Self { shape: vec![values.len()], data: T::into_data(values) }
    }

    /// Sizes of the axes, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.data.dtype()
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The elements as `T`, if that is their type.
    pub fn as_slice<T: Element>(&self) -> Option<&[T]> {
        T::slice(&self.data)
    }

    /// The same elements under another shape.
    pub fn reshape(self, shape: Vec<usize>) -> Result<Self, TensorError> {
        Self::new(shape, self.data)
    }

    /// Shape and elements.
    pub fn into_parts(self) -> (Vec<usize>, Data) {
        (self.shape, self.data)
    }

    /// Replaces every NaN by the one NaN of its type (`spec/numeric.md` §2).
    pub fn canonicalize_nan(&mut self) {
        match &mut self.data {
            Data::F32(v) => {
                v.iter_mut().filter(|x| x.is_nan()).for_each(|x| *x = f32::from_bits(0x7fc0_0000))
            }
            Data::F64(v) => {
                v.iter_mut().filter(|x| x.is_nan()).for_each(|x| *x = f64::from_bits(0x7ff8_0000_0000_0000));
            }
            Data::F16(v) => v.iter_mut().filter(|x| x.is_nan()).for_each(|x| *x = f16::from_bits(0x7e00)),
            Data::BF16(v) => v.iter_mut().filter(|x| x.is_nan()).for_each(|x| *x = bf16::from_bits(0x7fc0)),
            _ => {}
        }
    }

    /// Whether both have the same type, shape and bits (unlike `==`, NaN equals itself and -0 differs from +0).
    pub fn same_bits(&self, other: &Self) -> bool {
        self.shape == other.shape
            && match (&self.data, &other.data) {
                (Data::F32(a), Data::F32(b)) => a.iter().zip(b).all(|(x, y)| x.to_bits() == y.to_bits()),
                (Data::F64(a), Data::F64(b)) => a.iter().zip(b).all(|(x, y)| x.to_bits() == y.to_bits()),
                (Data::F16(a), Data::F16(b)) => a.iter().zip(b).all(|(x, y)| x.to_bits() == y.to_bits()),
                (Data::BF16(a), Data::BF16(b)) => a.iter().zip(b).all(|(x, y)| x.to_bits() == y.to_bits()),
                (a, b) => a == b,
            }
    }
}

/// The product of `shape`, or `None` on overflow.
pub fn count(shape: &[usize]) -> Option<usize> {
    // A zero anywhere makes the tensor empty, whatever the other axes say.
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().try_fold(1_usize, |n, &d| n.checked_mul(d))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shape_must_match() {
        assert!(Tensor::from_vec(vec![2, 3], vec![0_f32; 6]).is_ok());
        assert_eq!(
            Tensor::from_vec(vec![2, 3], vec![0_f32; 5]),
            Err(TensorError::ShapeMismatch { shape: vec![2, 3], len: 5 })
        );
        let shape = vec![usize::MAX, 2];
        assert_eq!(Tensor::from_vec(shape.clone(), vec![0_f32]), Err(TensorError::TooLarge { shape }));
    }

    #[test]
    fn same_bits_tells_zeros_apart_and_nans_alike() {
        let t = |x: f32| Tensor::scalar(x);
        assert!(!t(0.0).same_bits(&t(-0.0)));
        assert!(t(f32::NAN).same_bits(&t(f32::NAN)));
    }

    #[test]
    fn names_round_trip() {
        for dtype in DType::ALL {
            assert_eq!(DType::from_name(dtype.name()), Some(dtype));
        }
    }
}
