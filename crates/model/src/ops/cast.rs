//! Cast and CastLike (`numeric.md` §8).

use half::{bf16, f16};
use hallmark_receipt::{DType, Data, Element, Tensor, with_data};

use super::dispatch::{dtype_attr, op};
use super::{InferCx, OpDef, OpError};
use crate::graph::TypeInfo;

/// The family's table.
pub const OPS: &[OpDef] = &[
    op("Cast", &[6, 9, 13, 19, 21, 23, 24, 25, 28], &["to", "saturate", "round_mode"], infer_cast, |cx| {
        Ok(vec![cast(cx.input(0)?, dtype_attr(cx.attrs(), "to", 0)?)?])
    }),
    op("CastLike", &[15, 19, 21, 23, 24, 25], &["saturate", "round_mode"], infer_cast_like, |cx| {
        Ok(vec![cast(cx.input(0)?, cx.input(1)?.dtype())?])
    }),
];

fn infer_cast(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    Ok(vec![TypeInfo { dtype: Some(dtype_attr(cx.attrs(), "to", 0)?), shape: cx.input(0)?.shape.clone() }])
}

fn infer_cast_like(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    Ok(vec![TypeInfo { dtype: cx.input(1)?.dtype, shape: cx.input(0)?.shape.clone() }])
}

/// `x` with its elements converted to `to`.
pub fn cast(x: &Tensor, to: DType) -> Result<Tensor, OpError> {
    if x.dtype() == to {
        return Ok(x.clone());
    }
    let data = with_data!(x.data(), v => match to {
        DType::F32 => convert(v, Scalar::to_f32)?,
        DType::F64 => convert(v, Scalar::to_f64)?,
        DType::F16 => convert(v, |x| x.to_f32_odd().map(f16::from_f32))?,
        DType::BF16 => convert(v, |x| x.to_f32_odd().map(bf16::from_f32))?,
        DType::I8 => convert(v, |x| x.to_wide().map(|w| w.fit(i8::MIN, i8::MAX, |w| w as i8)))?,
        DType::I16 => convert(v, |x| x.to_wide().map(|w| w.fit(i16::MIN, i16::MAX, |w| w as i16)))?,
        DType::I32 => convert(v, |x| x.to_wide().map(|w| w.fit(i32::MIN, i32::MAX, |w| w as i32)))?,
        DType::I64 => convert(v, |x| x.to_wide().map(|w| w.fit(i64::MIN, i64::MAX, |w| w as i64)))?,
        DType::U8 => convert(v, |x| x.to_wide().map(|w| w.fit(u8::MIN, u8::MAX, |w| w as u8)))?,
        DType::U16 => convert(v, |x| x.to_wide().map(|w| w.fit(u16::MIN, u16::MAX, |w| w as u16)))?,
        DType::U32 => convert(v, |x| x.to_wide().map(|w| w.fit(u32::MIN, u32::MAX, |w| w as u32)))?,
        DType::U64 => convert(v, |x| x.to_wide().map(|w| w.fit(u64::MIN, u64::MAX, |w| w as u64)))?,
        DType::Bool => convert(v, Scalar::to_bool)?,
        DType::Str => convert(v, |x| Some(x.to_text()))?,
    });
    Ok(Tensor::new(x.shape().to_vec(), data)?)
}

fn convert<T: Scalar, U: Element>(values: &[T], f: impl Fn(&T) -> Option<U>) -> Result<Data, OpError> {
    let out: Option<Vec<U>> = values.iter().map(f).collect();
    Ok(U::into_data(out.ok_or(OpError::Unsupported { what: "a text that is not a number" })?))
}

/// A value on its way to an integer type.
#[derive(Clone, Copy)]
enum Wide {
    /// From an integer: wraps.
    Integer(i128),
    /// From a float, truncated; saturates.
    Float(i128),
}

impl Wide {
    fn fit<T: Copy + Into<i128>>(self, least: T, greatest: T, wrap: impl Fn(i128) -> T) -> T {
        match self {
            Self::Integer(w) => wrap(w),
            Self::Float(w) if w <= least.into() => least,
            Self::Float(w) if w >= greatest.into() => greatest,
            Self::Float(w) => wrap(w),
        }
    }
}

/// The conversions of one element; `None` is a text that is not a number.
trait Scalar {
    fn to_f32(&self) -> Option<f32>;
    fn to_f64(&self) -> Option<f64>;
    /// Rounded to odd, so that rounding once more to a half type is rounding once.
    fn to_f32_odd(&self) -> Option<f32>;
    fn to_wide(&self) -> Option<Wide>;
    fn to_bool(&self) -> Option<bool>;
    fn to_text(&self) -> String;
}

macro_rules! integer {
    ($($t:ty)*) => {$(
        impl Scalar for $t {
            fn to_f32(&self) -> Option<f32> { Some(*self as f32) }
            fn to_f64(&self) -> Option<f64> { Some(*self as f64) }
            fn to_f32_odd(&self) -> Option<f32> {
                let x = i128::from(*self);
                let near = x as f32;
                Some(odd(near, near as i128 == x, (near as i128).abs() > x.abs()))
            }
            fn to_wide(&self) -> Option<Wide> { Some(Wide::Integer((*self).into())) }
            fn to_bool(&self) -> Option<bool> { Some(*self != 0) }
            fn to_text(&self) -> String { self.to_string() }
        }
    )*};
}
integer!(i8 i16 i32 i64 u8 u16 u32 u64);

/// The neighbour of `near` towards zero, with its last bit set, unless `near` is exact.
fn odd(near: f32, exact: bool, above: bool) -> f32 {
    if exact || near.is_nan() { near } else { f32::from_bits((near.to_bits() - u32::from(above)) | 1) }
}

fn f64_to_f32_odd(x: f64) -> f32 {
    let near = x as f32;
    odd(near, f64::from(near) == x, f64::from(near).abs() > x.abs())
}

macro_rules! float {
    ($($t:ty, $f32:expr, $f64:expr, $odd:expr;)*) => {$(
        impl Scalar for $t {
            fn to_f32(&self) -> Option<f32> { Some($f32(*self)) }
            fn to_f64(&self) -> Option<f64> { Some($f64(*self)) }
            fn to_f32_odd(&self) -> Option<f32> { Some($odd(*self)) }
            // `as` truncates, saturates and takes NaN to 0.
            fn to_wide(&self) -> Option<Wide> { Some(Wide::Float($f64(*self) as i128)) }
            fn to_bool(&self) -> Option<bool> { Some($f64(*self) != 0.0) }
            fn to_text(&self) -> String {
                let x = $f64(*self);
                if x.is_nan() {
                    "NaN".to_owned()
                } else if x.is_infinite() {
                    if x > 0.0 { "INF" } else { "-INF" }.to_owned()
                } else {
                    self.to_string()
                }
            }
        }
    )*};
}
float! {
    f32, std::convert::identity, f64::from, std::convert::identity;
    f64, |x: f64| x as f32, std::convert::identity, f64_to_f32_odd;
    f16, f16::to_f32, f16::to_f64, f16::to_f32;
    bf16, bf16::to_f32, bf16::to_f64, bf16::to_f32;
}

impl Scalar for bool {
    fn to_f32(&self) -> Option<f32> {
        Some(f32::from(u8::from(*self)))
    }
    fn to_f64(&self) -> Option<f64> {
        Some(f64::from(u8::from(*self)))
    }
    fn to_f32_odd(&self) -> Option<f32> {
        self.to_f32()
    }
    fn to_wide(&self) -> Option<Wide> {
        Some(Wide::Integer((*self).into()))
    }
    fn to_bool(&self) -> Option<bool> {
        Some(*self)
    }
    fn to_text(&self) -> String {
        u8::from(*self).to_string()
    }
}

/// Text is read as Rust reads a decimal (`1.5e3`, `NaN`, `inf`), in any letter case; an integer type takes integers first, then truncated floats.
impl Scalar for String {
    fn to_f32(&self) -> Option<f32> {
        self.trim().parse().ok()
    }
    fn to_f64(&self) -> Option<f64> {
        self.trim().parse().ok()
    }
    fn to_f32_odd(&self) -> Option<f32> {
        self.to_f64().map(f64_to_f32_odd)
    }
    fn to_wide(&self) -> Option<Wide> {
        let text = self.trim();
        text.parse().map(Wide::Float).ok().or_else(|| text.parse().ok().map(|x: f64| Wide::Float(x as i128)))
    }
    fn to_bool(&self) -> Option<bool> {
        self.to_f64().map(|x| x != 0.0)
    }
    fn to_text(&self) -> String {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: Element, U: Element + PartialEq + std::fmt::Debug>(from: Vec<T>, to: Vec<U>) {
        let got = cast(&Tensor::vector(from), U::DTYPE).unwrap();
        assert_eq!(got.as_slice::<U>(), Some(to.as_slice()));
    }

    #[test]
    fn floats_to_integers_saturate() {
        check(vec![1.9_f32, -1.9, 300.0, -300.0, f32::NAN, f32::INFINITY], vec![1_i8, -1, 127, -128, 0, 127]);
        check(vec![-1.0_f32, 2e19], vec![0_u64, u64::MAX]);
        check(vec![300_i32, -1], vec![44_u8, 255]);
        check(vec![0.0_f32, -0.0, f32::NAN, 0.1], vec![false, false, true, true]);
    }

    #[test]
    fn half_types_round_once() {
        // 1 + 2^-11 + 2^-40: float32 would round to the tie, and the tie to even.
        let x = 1.0 + 2.0_f64.powi(-11) + 2.0_f64.powi(-40);
        check(vec![x], vec![f16::from_bits(0x3c01)]);
        check(vec![1e300_f64, -1e300], vec![f16::INFINITY, f16::NEG_INFINITY]);
        check(vec![(1_i64 << 40) + (1 << 32) + 1], vec![bf16::from_f32(((1_u64 << 40) + (1 << 33)) as f32)]);
    }

    #[test]
    fn text() {
        check(vec!["3".to_owned(), "-2.5".to_owned()], vec![3_i32, -2]);
        check(vec![0.5_f32, f32::INFINITY], vec!["0.5".to_owned(), "INF".to_owned()]);
        assert!(cast(&Tensor::vector(vec!["x".to_owned()]), DType::F32).is_err());
    }
}
