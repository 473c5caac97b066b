//! The arithmetic of each element type: one trait, so that an operator is written once.

use hallmark_receipt::Element;

use super::{canonical_f32, canonical_f64, max_f32, max_f64, min_f32, min_f64};

/// Types that are computed with directly: float32, float64 and the integers. float16 and bfloat16 are widened to
/// float32 first (`numeric.md` §1).
///
/// Integers wrap (§8); floats are IEEE, and every NaN is the canonical one (§2).
pub trait Number: Element + Copy + PartialOrd + Default + std::fmt::Debug {
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// Identity of `max`: -inf, or the least integer.
    const LEAST: Self;
    /// Identity of `min`: +inf, or the greatest integer.
    const GREATEST: Self;
    /// Whether the type is a float.
    const FLOAT: bool;

    /// Sum.
    fn add(self, other: Self) -> Self;
    /// Difference.
    fn sub(self, other: Self) -> Self;
    /// Product.
    fn mul(self, other: Self) -> Self;
    /// Quotient; integers truncate, and `None` is a division by zero or MIN / -1.
    fn div(self, other: Self) -> Option<Self>;
    /// Remainder with the divisor's sign; `None` is an integer division by zero.
    fn modulo(self, other: Self) -> Option<Self>;
    /// Remainder with the dividend's sign; `None` is an integer division by zero.
    fn remainder(self, other: Self) -> Option<Self>;
    /// Maximum of §2.
    fn max(self, other: Self) -> Self;
    /// Minimum of §2.
    fn min(self, other: Self) -> Self;
    /// Magnitude; the least integer is its own.
    fn abs(self) -> Self;
    /// Negation.
    fn neg(self) -> Self;
    /// -1, 0 or 1; zeros and NaN are themselves.
    fn sign(self) -> Self;
    /// `self * b + acc` of a contraction: one IEEE fma, or wrapping (§3).
    fn fma(self, b: Self, acc: Self) -> Self;
    /// The nearest value to a count.
    fn from_count(n: usize) -> Self;
    /// Whether this is NaN.
    fn is_nan(self) -> bool;
    /// Square root; `None` for integers, which have none here.
    fn sqrt(self) -> Option<Self>;
}

macro_rules! float {
    ($t:ty, $canonical:ident, $max:ident, $min:ident) => {
        impl Number for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const LEAST: Self = Self::NEG_INFINITY;
            const GREATEST: Self = Self::INFINITY;
            const FLOAT: bool = true;

            #[inline(always)]
            fn add(self, other: Self) -> Self {
                $canonical(self + other)
            }
            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                $canonical(self - other)
            }
            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                $canonical(self * other)
            }
            #[inline(always)]
            fn div(self, other: Self) -> Option<Self> {
                Some($canonical(self / other))
            }
            fn modulo(self, other: Self) -> Option<Self> {
                let r = self % other;
                let r = if r == 0.0 {
                    (0.0 as $t).copysign(other)
                } else if r.is_sign_negative() != other.is_sign_negative() {
                    r + other
                } else {
                    r
                };
                Some($canonical(r))
            }
            fn remainder(self, other: Self) -> Option<Self> {
                Some($canonical(self % other))
            }
            #[inline(always)]
            fn max(self, other: Self) -> Self {
                $max(self, other)
            }
            #[inline(always)]
            fn min(self, other: Self) -> Self {
                $min(self, other)
            }
            #[inline(always)]
            fn abs(self) -> Self {
                $canonical(self.abs())
            }
            #[inline(always)]
            fn neg(self) -> Self {
                $canonical(-self)
            }
            fn sign(self) -> Self {
                if self > 0.0 {
                    1.0
                } else if self < 0.0 {
                    -1.0
                } else {
                    $canonical(self)
                }
            }
            #[inline(always)]
            fn fma(self, b: Self, acc: Self) -> Self {
                self.mul_add(b, acc)
            }
            fn from_count(n: usize) -> Self {
                n as $t
            }
            #[inline(always)]
            fn is_nan(self) -> bool {
                self.is_nan()
            }
            #[inline(always)]
            fn sqrt(self) -> Option<Self> {
                Some($canonical(self.sqrt()))
            }
        }
    };
}
float!(f32, canonical_f32, max_f32, min_f32);
float!(f64, canonical_f64, max_f64, min_f64);

macro_rules! integer {
    ($($t:ty, $abs:expr, $sign:expr;)*) => {$(
        impl Number for $t {
            const ZERO: Self = 0;
            const ONE: Self = 1;
            const LEAST: Self = Self::MIN;
            const GREATEST: Self = Self::MAX;
            const FLOAT: bool = false;

            #[inline(always)]
            fn add(self, other: Self) -> Self { self.wrapping_add(other) }
            #[inline(always)]
            fn sub(self, other: Self) -> Self { self.wrapping_sub(other) }
            #[inline(always)]
            fn mul(self, other: Self) -> Self { self.wrapping_mul(other) }
            fn div(self, other: Self) -> Option<Self> { self.checked_div(other) }
            fn modulo(self, other: Self) -> Option<Self> {
                if other == 0 { return None; }
                let r = self.wrapping_rem(other);
                #[allow(unused_comparisons)]
                let flip = r != 0 && (r < 0) != (other < 0);
                Some(if flip { r.wrapping_add(other) } else { r })
            }
            fn remainder(self, other: Self) -> Option<Self> {
                if other == 0 { None } else { Some(self.wrapping_rem(other)) }
            }
            #[inline(always)]
            fn max(self, other: Self) -> Self { Ord::max(self, other) }
            #[inline(always)]
            fn min(self, other: Self) -> Self { Ord::min(self, other) }
            fn abs(self) -> Self { $abs(self) }
            fn neg(self) -> Self { self.wrapping_neg() }
            fn sign(self) -> Self { $sign(self) }
            #[inline(always)]
            fn fma(self, b: Self, acc: Self) -> Self { acc.wrapping_add(self.wrapping_mul(b)) }
            fn from_count(n: usize) -> Self { n as Self }
            #[inline(always)]
            fn is_nan(self) -> bool { false }
            fn sqrt(self) -> Option<Self> { None }
        }
    )*};
}
integer! {
    i8, i8::wrapping_abs, i8::signum;
    i16, i16::wrapping_abs, i16::signum;
    i32, i32::wrapping_abs, i32::signum;
    i64, i64::wrapping_abs, i64::signum;
    u8, std::convert::identity, |x: u8| u8::from(x > 0);
    u16, std::convert::identity, |x: u16| u16::from(x > 0);
    u32, std::convert::identity, |x: u32| u32::from(x > 0);
    u64, std::convert::identity, |x: u64| u64::from(x > 0);
}

/// One output of a contraction (§3, §4): pairs in k order, `block` of them a block.
pub fn contract<T: Number>(pairs: impl IntoIterator<Item = (T, T)>, block: usize) -> T {
    let mut total = None;
    let mut acc = T::ZERO;
    let mut filled = 0;
    for (a, b) in pairs {
        if filled == block {
            total = Some(total.map_or(acc, |total: T| total.add(acc)));
            (acc, filled) = (T::ZERO, 0);
        }
        acc = a.fma(b, acc);
        filled += 1;
    }
    // `max` of a value with itself is the value, and the canonical NaN for a NaN.
    let sum = total.map_or(acc, |total: T| total.add(acc));
    sum.max(sum)
}

/// A reduction (§5): sixteen lanes, then the fixed tree.
pub fn reduce<T: Copy>(values: impl IntoIterator<Item = T>, identity: T, op: impl Fn(T, T) -> T) -> T {
    let mut lanes = [identity; 16];
    for (i, x) in values.into_iter().enumerate() {
        let lane = &mut lanes[i % 16];
        *lane = op(*lane, x);
    }
    for width in [8, 4, 2, 1] {
        for j in 0..width {
            lanes[j] = op(lanes[j], lanes[j + width]);
        }
    }
    lanes[0]
}

/// The sum of a sequence (§5).
pub fn sum<T: Number>(values: impl IntoIterator<Item = T>) -> T {
    reduce(values, T::ZERO, T::add)
}

/// The maximum of a sequence (§5); of none, the type's least value.
pub fn maximum<T: Number>(values: impl IntoIterator<Item = T>) -> T {
    reduce(values, T::LEAST, T::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reduction_order_is_the_rule() {
        let x: Vec<f32> = (0..1000_u32).map(|i| ((i * 7919 % 1013) as f32).exp2().recip() + 0.1).collect();
        let mut p = [0.0_f32; 16];
        for (i, v) in x.iter().enumerate() {
            p[i % 16] += v;
        }
        let q: Vec<f32> = (0..8).map(|j| p[j] + p[j + 8]).collect();
        let r: Vec<f32> = (0..4).map(|j| q[j] + q[j + 4]).collect();
        let want = (r[0] + r[2]) + (r[1] + r[3]);
        assert_eq!(sum(x.iter().copied()).to_bits(), want.to_bits());
        assert_ne!(
            x.iter().sum::<f32>().to_bits(),
            want.to_bits(),
            "the sample must be able to tell orders apart"
        );
    }

    #[test]
    fn contraction_blocks() {
        let pairs: Vec<(f32, f32)> = (0..700_u16).map(|i| (1.0 / f32::from(i + 1), 0.3)).collect();
        let block = |r: std::ops::Range<usize>| pairs[r].iter().fold(0.0, |acc, (a, b)| a.mul_add(*b, acc));
        assert_eq!(contract(pairs.iter().copied(), 512), block(0..512) + block(512..700));
        assert_eq!(contract::<f32>([], 512), 0.0);
        assert_eq!(contract([(200_u8, 2_u8)], 512), 144);
    }

    #[test]
    fn integer_rules() {
        assert_eq!(Number::div(-7_i32, 2), Some(-3));
        assert_eq!(Number::div(i32::MIN, -1), None);
        assert_eq!(Number::modulo(-7_i32, 3), Some(2));
        assert_eq!(Number::modulo(7_i32, -3), Some(-2));
        assert_eq!(Number::remainder(-7_i32, 3), Some(-1));
        assert_eq!(Number::modulo(i32::MIN, -1), Some(0));
        assert_eq!(Number::modulo(7_u8, 0), None);
        assert_eq!(Number::abs(i8::MIN), i8::MIN);
    }

    #[test]
    fn float_remainders() {
        assert_eq!(Number::modulo(-1.0_f32, f32::INFINITY), Some(f32::INFINITY));
        assert_eq!(Number::modulo(-0.0_f32, 2.0).map(f32::to_bits), Some(0));
        assert_eq!(Number::remainder(-5.5_f32, 2.0), Some(-1.5));
        assert_eq!(Number::modulo(-5.5_f32, 2.0), Some(0.5));
    }
}
