//! `pow` in double-double arithmetic (`numeric.md` §6.1).

use super::{NAN, pow_tables as tables};

/// `x` to the power `y`: the float32 nearest to it, ties to even, with the special values of IEEE 754 `pow` and the canonical NaN.
///
/// The algorithm is pinned, in float64 additions, multiplications and bit operations only, so it gives the same bits on every
/// machine. Its error before the one rounding is below 2^-80 of the result, far less than separates all but a handful of the 2^64
/// pairs from a tie, and exact ties are recognised: correctly rounded in practice.
pub fn pow(x: f32, y: f32) -> f32 {
    if y == 0.0 || x == 1.0 {
        return 1.0;
    }
    if x.is_nan() || y.is_nan() {
        return NAN;
    }
    if y.is_infinite() {
        let magnitude = x.abs();
        return if magnitude == 1.0 {
            1.0
        } else if (magnitude > 1.0) == (y > 0.0) {
            f32::INFINITY
        } else {
            0.0
        };
    }
    let odd = is_odd(y);
    let sign = if odd && x.is_sign_negative() { -1.0 } else { 1.0 };
    if x == 0.0 || x.is_infinite() {
        return sign * if (x == 0.0) == (y < 0.0) { f32::INFINITY } else { 0.0 };
    }
    if x < 0.0 && y.trunc() != y {
        return NAN;
    }
    // One IEEE operation is the correctly rounded value where there is one.
    match y {
        1.0 => return x,
        2.0 => return x * x,
        -1.0 => return 1.0 / x,
        0.5 => return x.sqrt(),
        _ => {}
    }
    let magnitude = match quick(x.abs(), y) {
        Some(magnitude) => magnitude,
        None => exp2(scaled_log2(x.abs(), y, 9)),
    };
    sign * magnitude
}

/// Whether `y`, finite, is an odd integer.
fn is_odd(y: f32) -> bool {
    // From 2^24 on every float32 is even.
    y.abs() < 16_777_216.0 && y.trunc() == y && (y as i32) & 1 == 1
}

/// A number as the unevaluated sum of two float64, the second at most half an ulp of the first.
#[derive(Clone, Copy)]
pub(super) struct Pair(pub(super) f64, pub(super) f64);

/// The exact `a + b`, for |a| >= |b| or a = 0.
#[inline(always)]
fn sum_ordered(a: f64, b: f64) -> Pair {
    let sum = a + b;
    Pair(sum, b - (sum - a))
}

/// The exact `a + b` (Knuth).
#[inline(always)]
fn sum(a: f64, b: f64) -> Pair {
    let sum = a + b;
    let b_part = sum - a;
    Pair(sum, (a - (sum - b_part)) + (b - b_part))
}

/// The upper 26 bits of `a`, and the rest (Veltkamp).
#[inline(always)]
fn split(a: f64) -> (f64, f64) {
    let scaled = a * 134_217_729.0;
    let high = scaled - (scaled - a);
    (high, a - high)
}

/// The exact `a * b` (Dekker).
#[inline(always)]
fn product(a: f64, b: f64) -> Pair {
    let ((a1, a2), (b1, b2)) = (split(a), split(b));
    let product = a * b;
    Pair(product, ((a1 * b1 - product) + a1 * b2 + a2 * b1) + a2 * b2)
}

impl Pair {
    /// The sum, to about 2^-104 of the operands.
    #[inline(always)]
    fn plus(self, other: Pair) -> Pair {
        let high = sum(self.0, other.0);
        let low = sum(self.1, other.1);
        let high = sum_ordered(high.0, high.1 + low.0);
        sum_ordered(high.0, high.1 + low.1)
    }

    /// The product, to about 2^-102.
    #[inline(always)]
    pub(super) fn times(self, other: Pair) -> Pair {
        let high = product(self.0, other.0);
        sum_ordered(high.0, high.1 + (self.0 * other.1 + self.1 * other.0))
    }
}

/// `c[0] + c[1] x + ...`, the terms from `wide` on in float64 alone.
#[inline(always)]
fn series<const N: usize>(c: &[(f64, f64); N], wide: usize, x: Pair) -> Pair {
    let mut tail = 0.0;
    for &(high, _) in c[wide..].iter().rev() {
        tail = tail * x.0 + high;
    }
    let mut total = Pair(tail, 0.0);
    for &(high, low) in c[..wide].iter().rev() {
        total = total.times(x).plus(Pair(high, low));
    }
    total
}

/// The result of the pinned algorithm at a tenth of its cost, where an error of 2^-48 cannot change it; that is nearly everywhere
/// but at ties.
fn quick(x: f32, y: f32) -> Option<f32> {
    // |t| is below 2^8 and the logarithm's error below 2^-58 of it; the float64 steps after it add less than 2^-51.
    let t = scaled_log2(x, y, 1);
    if !(-151.0..129.0).contains(&t.0) {
        return None;
    }
    let (r, index) = fraction(t.0);
    let mut sum = 0.0;
    for &(high, _) in tables::EXP[..9].iter().rev() {
        sum = sum * (r + t.1) + high;
    }
    let value = sum * tables::EXP2[(index & 31) as usize].0;
    let below = (value * (1.0 - EPSILON) * power_of_two(index)) as f32;
    let above = (value * (1.0 + EPSILON) * power_of_two(index)) as f32;
    (below == above).then_some(below)
}

/// 2^-48, far above the error of [`quick`].
const EPSILON: f64 = f64::from_bits((1023 - 48) << 52);

/// `t` less the nearest multiple of 1/32, and that multiple in units of 1/32 (in the low bits).
#[inline(always)]
fn fraction(t: f64) -> (f64, u64) {
    /// Added and taken away again, it rounds to a multiple of 1/32.
    const MAGIC: f64 = 211_106_232_532_992.0;
    let shifted = t + MAGIC;
    (t - (shifted - MAGIC), shifted.to_bits())
}

/// 2^floor(k), with k in units of 1/32 in the low bits of `index`.
#[inline(always)]
fn power_of_two(index: u64) -> f64 {
    f64::from_bits(((index >> 5) << 52).wrapping_add(1023 << 52))
}

/// `y log2(x)`, for positive, finite `x`, with `wide` terms of the logarithm's series in pairs.
#[inline(always)]
fn scaled_log2(x: f32, y: f32, wide: usize) -> Pair {
    /// Bits of 1 and of sqrt(1/2), rounded up.
    const ONE: u64 = 1023 << 52;
    const SQRT_HALF: u64 = 0x3fe6_a09e_667f_3bcd;
    let bits = f64::from(x).to_bits();
    let biased = bits.wrapping_add(ONE - SQRT_HALF) >> 52;
    let m = f64::from_bits(bits.wrapping_sub(biased << 52).wrapping_add(ONE));
    let k = biased as f64 - 1023.0;
    let i = ((m * 64.0 + 0.5) as usize).clamp(45, 91) - 45;
    let (c_high, c_low) = tables::LOG2_INVERSE[i];
    // Exact: m has 24 bits, c has 9, and they nearly cancel.
    let r = Pair(m * tables::INVERSE[i] - 1.0, 0.0);
    let log = sum(k, c_high);
    let log = Pair(log.0, log.1 + c_low).plus(r.times(series(&tables::LOG, wide, r)));
    let y = f64::from(y);
    let high = product(log.0, y);
    sum_ordered(high.0, high.1 + log.1 * y)
}

/// The float32 nearest to 2^t.
fn exp2(t: Pair) -> f32 {
    // Beyond, the result is infinite, or zero, all the same.
    if t.0 > 130.0 {
        return f32::INFINITY;
    }
    if t.0 < -152.0 {
        return 0.0;
    }
    let (r, index) = fraction(t.0);
    let r = sum(r, t.1);
    let (high, low) = tables::EXP2[(index & 31) as usize];
    let value = Pair(high, low).times(series(&tables::EXP, 7, r));
    (to_odd(value) * power_of_two(index)) as f32
}

/// A float64 that stands on the same side of every float32 tie as `value`: inexact values get an odd last bit. A value within 2^-80
/// of a number with at most 25 bits is that number, for only exact powers come so close.
fn to_odd(value: Pair) -> f64 {
    let bits = value.0.to_bits();
    let exact = bits & 0x0fff_ffff == 0 && value.1.abs() < value.0 * f64::from_bits((1023 - 80) << 52);
    if exact || value.1 == 0.0 {
        return value.0;
    }
    // `value.0` is positive here: a negative rest means that it was rounded up.
    f64::from_bits((bits - u64::from(value.1 < 0.0)) | 1)
}
