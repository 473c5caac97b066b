//! Scalar rules of `spec/numeric.md`, each in the most obvious form.

pub mod elementary;
pub mod fma;
pub mod int8;
pub mod number;

pub use fma::{FMA, fma_f32_emulated};
pub use number::{Number, contract, maximum, reduce, sum};

/// The number of k that one block of a contraction holds (§3).
pub const BLOCK: usize = 512;

/// `x`, or the one NaN (§2).
#[inline(always)]
pub fn canonical_f32(x: f32) -> f32 {
    // On the bits: the compiler takes any NaN for as good as another, and drops `if x.is_nan() { NAN } else { x }` where it knows how
    // a NaN came to be (after a square root, which gives 0xffc00000 on x86).
    let bits = x.to_bits();
    f32::from_bits(if bits & 0x7fff_ffff > 0x7f80_0000 { 0x7fc0_0000 } else { bits })
}

/// Maximum of §2: NaN wins, +0 is above -0. Without branches, so that loops of it become vectors.
#[inline(always)]
pub fn max_f32(a: f32, b: f32) -> f32 {
    of_order_f32(std::cmp::max(order_f32(a), order_f32(b)))
}

/// The integer that stands where `x` stands in the order of §2: the greatest for NaN.
#[inline(always)]
pub fn order_f32(x: f32) -> i32 {
    let bits = canonical_f32(x).to_bits().cast_signed();
    // Below zero a greater magnitude is a smaller number.
    bits ^ ((bits >> 31) & i32::MAX)
}

/// The number of an [`order_f32`].
#[inline(always)]
pub fn of_order_f32(order: i32) -> f32 {
    f32::from_bits((order ^ ((order >> 31) & i32::MAX)).cast_unsigned())
}

/// Minimum of §2: NaN wins, -0 is below +0.
#[inline(always)]
pub fn min_f32(a: f32, b: f32) -> f32 {
    canonical_f32(-max_f32(-a, -b))
}

/// [`canonical_f32`] for float64.
#[inline(always)]
pub fn canonical_f64(x: f64) -> f64 {
    if x.is_nan() { f64::from_bits(0x7ff8_0000_0000_0000) } else { x }
}

/// [`max_f32`] for float64.
#[inline(always)]
pub fn max_f64(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        canonical_f64(f64::NAN)
    } else if a > b || (a == b && b.is_sign_negative()) {
        a
    } else {
        b
    }
}

/// [`min_f32`] for float64.
#[inline(always)]
pub fn min_f64(a: f64, b: f64) -> f64 {
    canonical_f64(-max_f64(-a, -b))
}

/// One output of a contraction (§3, §4): pairs in k order, `block` of them a block.
pub fn contract_f32(pairs: impl IntoIterator<Item = (f32, f32)>, block: usize) -> f32 {
    let mut total = None;
    let mut acc = 0.0_f32;
    let mut filled = 0;
    for (a, b) in pairs {
        if filled == block {
            total = Some(total.map_or(acc, |total: f32| total + acc));
            (acc, filled) = (0.0, 0);
        }
        acc = a.mul_add(b, acc);
        filled += 1;
    }
    canonical_f32(total.map_or(acc, |total| total + acc))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nan_of_any_origin_becomes_the_one() {
        let minus_one = std::hint::black_box(-1.0_f32);
        let infinity = std::hint::black_box(f32::INFINITY);
        for nan in [
            canonical_f32(minus_one.sqrt()),
            canonical_f32(f64::from(minus_one).sqrt() as f32),
            canonical_f32(infinity - infinity),
            canonical_f32(infinity * 0.0),
            canonical_f32(-f32::NAN.abs()),
        ] {
            assert_eq!(nan.to_bits(), 0x7fc0_0000);
        }
    }

    #[test]
    fn zeros_and_nan() {
        assert_eq!(max_f32(-0.0, 0.0).to_bits(), 0.0_f32.to_bits());
        assert_eq!(max_f32(0.0, -0.0).to_bits(), 0.0_f32.to_bits());
        assert_eq!(min_f32(0.0, -0.0).to_bits(), (-0.0_f32).to_bits());
        assert_eq!(max_f32(1.0, f32::NAN).to_bits(), 0x7fc0_0000);
    }
}
