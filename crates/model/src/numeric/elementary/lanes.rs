//! The functions that networks spend their time in, without branches: one float64 computation and one rounding each, so that a
//! loop over a slice becomes vector code on every instruction set.
//!
//! Only IEEE float64 `+ - * /`, comparisons and bit operations are used, and Rust never contracts, so the bits do not depend on
//! the machine. The float64 results are good to about 2^-52, which leaves at most a handful of inputs, listed beside each function,
//! whose float32 neighbour would be wrong; a comparison puts them right. [`exp`], most of what softmax and SiLU cost, has a second way
//! with fused multiply-adds, as correctly rounded as the first.

use super::coefficients as c;

/// Added and taken away again, it rounds a float64 below 2^51 to the nearest integer, which then stands in the low bits of the sum.
const MAGIC: f64 = 6755399441055744.0;
/// The upper 42 bits of ln(2): times an integer below 2^11 it is exact.
const LN2_HI: f64 = 0.6931471805598903;
/// ln(2) - LN2_HI.
const LN2_LO: f64 = 5.497923018708371e-14;

/// `a * b + c`, rounded once or twice.
#[inline(always)]
fn multiply_add<const FUSED: bool>(a: f64, b: f64, c: f64) -> f64 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// The polynomial with coefficients `c`, lowest degree first: even and odd powers apart, which halves the chain of
/// dependent operations.
#[inline(always)]
fn polynomial<const FUSED: bool, const N: usize>(c: &[f64; N], x: f64) -> f64 {
    let z = x * x;
    let (mut even, mut odd) = (c[(N - 1) & !1], c[(N - 2) | 1]);
    let mut i = (N - 1) & !1;
    while i > 0 {
        i -= 2;
        even = multiply_add::<FUSED>(even, z, c[i]);
    }
    let mut i = (N - 2) | 1;
    while i > 1 {
        i -= 2;
        odd = multiply_add::<FUSED>(odd, z, c[i]);
    }
    multiply_add::<FUSED>(x, odd, even)
}

/// `x` within `lo..=hi`; NaN stays.
#[inline(always)]
fn clamp(x: f64, lo: f64, hi: f64) -> f64 {
    let x = if x > hi { hi } else { x };
    if x < lo { lo } else { x }
}

/// The float32 nearest to `y`, with the canonical NaN.
#[inline(always)]
fn narrow(y: f64) -> f32 {
    let y = y as f32;
    crate::numeric::canonical_f32(y)
}

/// `y`, moved one place away from zero where `x` is in `up`, and one place towards zero where it is in `down` (by bit patterns).
#[inline(always)]
fn corrected<const U: usize, const D: usize>(x: f32, y: f32, up: &[u32; U], down: &[u32; D]) -> f32 {
    let (x, mut bits) = (x.to_bits(), y.to_bits());
    let mut i = 0;
    while i < U {
        bits = bits.wrapping_add(u32::from(x == up[i]));
        i += 1;
    }
    i = 0;
    while i < D {
        bits = bits.wrapping_sub(u32::from(x == down[i]));
        i += 1;
    }
    f32::from_bits(bits)
}

/// `(2^k, e^r - 1)` with `x = k ln(2) + r`, for |x| < 700.
#[inline(always)]
fn exp_parts<const FUSED: bool>(x: f64) -> (f64, f64) {
    let shifted = multiply_add::<FUSED>(x, std::f64::consts::LOG2_E, MAGIC);
    let k = shifted - MAGIC;
    let r = multiply_add::<FUSED>(-k, LN2_LO, multiply_add::<FUSED>(-k, LN2_HI, x));
    (power_of_two(shifted), multiply_add::<FUSED>(r * r, polynomial::<FUSED, _>(&c::EXP, r), r))
}

/// 2^k, where `shifted` is `MAGIC + k` and 2^k is a normal float64.
#[inline(always)]
fn power_of_two(shifted: f64) -> f64 {
    f64::from_bits((shifted.to_bits() << 52).wrapping_add(1023 << 52))
}

/// e to the power `x`: the same bits either way. `FUSED` takes a third fewer operations where the caller is compiled for a processor that
/// has them, and many more elsewhere.
#[inline(always)]
pub fn exp<const FUSED: bool>(x: f32) -> f32 {
    let (scale, p) = exp_parts::<FUSED>(clamp(f64::from(x), -105.0, 90.0));
    narrow(if FUSED { p.mul_add(scale, scale) } else { (1.0 + p) * scale })
}

/// 2 to the power `x`.
#[inline(always)]
pub fn exp2(x: f32) -> f32 {
    let wide = clamp(f64::from(x), -151.0, 129.0);
    let shifted = wide + MAGIC;
    let r = (wide - (shifted - MAGIC)) * std::f64::consts::LN_2;
    let p = r + r * r * polynomial::<false, _>(&c::EXP, r);
    let y = narrow((1.0 + p) * power_of_two(shifted));
    corrected(x, y, &[0x3b42_9d37, 0xbcf3_a937], &[])
}

/// e to the power `x`, less 1.
#[inline(always)]
pub fn expm1(x: f32) -> f32 {
    let (scale, p) = exp_parts::<false>(clamp(f64::from(x), -40.0, 90.0));
    let y = narrow((scale - 1.0) + p * scale);
    if x == 0.0 { x } else { y }
}

/// Hyperbolic tangent: 1 from |x| = 9.02 on.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let x = clamp(f64::from(x), -9.05, 9.05);
    let z = x * x;
    narrow(x * (polynomial::<false, _>(&c::TANH_P, z) / polynomial::<false, _>(&c::TANH_Q, z)))
}

/// The error function: 1 from |x| = 3.92 on.
#[inline(always)]
pub fn erf(x: f32) -> f32 {
    let wide = clamp(f64::from(x), -3.93, 3.93);
    let z = wide * wide;
    let y = narrow(wide * (polynomial::<false, _>(&c::ERF_P, z) / polynomial::<false, _>(&c::ERF_Q, z)));
    corrected(x, y, &[0x3940_ead6, 0xb940_ead6], &[])
}

/// `(k, f)` with `x = 2^k (1 + f)` and `1 + f` in [1/sqrt(2), sqrt(2)), for a positive normal `x`.
#[inline(always)]
fn log_parts(x: f64) -> (f64, f64) {
    /// Bits of sqrt(1/2), rounded up.
    const SQRT_HALF: u64 = 0x3fe6_a09e_667f_3bcd;
    /// Bits of 1.
    const ONE: u64 = 1023 << 52;
    let bits = x.to_bits();
    let biased = bits.wrapping_add(ONE - SQRT_HALF) >> 52;
    let m = f64::from_bits(bits.wrapping_sub(biased << 52).wrapping_add(ONE));
    // The exponent, of at most 11 bits, becomes a float64 as the last bits of 2^52 + biased.
    let k = f64::from_bits((1075 << 52) | biased) - (4503599627370496.0 + 1023.0);
    (k, m - 1.0)
}

/// `(f^2/2, f - f^2/2 - log(1 + f))`, with 1 + f in [1/sqrt(2), sqrt(2)).
#[inline(always)]
fn log_tail(f: f64) -> (f64, f64) {
    let half = 0.5 * f * f;
    let s = f / (2.0 + f);
    let z = s * s;
    (half, s * (half + z * polynomial::<false, _>(&c::LOG, z)))
}

/// `y`, with the special values of a logarithm whose argument is `x`.
#[inline(always)]
fn log_special(x: f32, y: f32) -> f32 {
    let y = if x == f32::INFINITY { x } else { y };
    let y = if x >= 0.0 { y } else { super::NAN };
    if x == 0.0 { f32::NEG_INFINITY } else { y }
}

/// The natural logarithm.
#[inline(always)]
pub fn log(x: f32) -> f32 {
    let (k, f) = log_parts(f64::from(x));
    let (half, tail) = log_tail(f);
    let y = (k * LN2_HI - ((half - (tail + k * LN2_LO)) - f)) as f32;
    let y = corrected(x, y, &[0x4c5d_65a5, 0x65d8_90d3, 0x6f31_a8ec], &[0x3c41_3d3a, 0x4117_8feb]);
    log_special(x, y)
}

/// The natural logarithm of `1 + x`.
#[inline(always)]
pub fn log1p(x: f32) -> f32 {
    let wide = f64::from(x);
    let one = 1.0 + wide;
    let (k, f) = log_parts(one);
    // Where the exponent is 0, x itself is the exact fraction.
    let f = if k == 0.0 { wide } else { f };
    let (half, tail) = log_tail(f);
    let y = (k * LN2_HI - ((half - (tail + k * LN2_LO)) - f)) as f32;
    let up = [0x3540_0003, 0x3710_001b, 0x65d8_90d3, 0x6f31_a8ec, 0xbb0e_c8c4];
    let down = [0x3efd_81ad, 0x4107_8feb, 0xb53f_fffd, 0xb70f_ffe5];
    let y = log_special(one as f32, corrected(x, y, &up, &down));
    if x == 0.0 { x } else { y }
}

/// Up to here (and not for NaN) [`sin`] and [`cos`] hold.
pub const TRIG_LIMIT: f32 = 1_048_576.0;
/// The upper 33 bits of pi/2: times an integer below 2^20 it is exact.
const HALF_PI_1: f64 = 1.5707963267341256;
/// The next 33 bits.
const HALF_PI_2: f64 = 6.077100506303966e-11;
/// pi/2 - HALF_PI_1 - HALF_PI_2.
const HALF_PI_3: f64 = 2.0222662487959506e-21;

/// sin(x + quarter pi/2), for |x| up to [`TRIG_LIMIT`].
#[inline(always)]
fn sin_shifted(x: f64, quarter: u64) -> f32 {
    let shifted = x * std::f64::consts::FRAC_2_PI + MAGIC;
    let k = shifted - MAGIC;
    let r = ((x - k * HALF_PI_1) - k * HALF_PI_2) - k * HALF_PI_3;
    sin_of_pair(r, 0.0, shifted.to_bits().wrapping_add(quarter)) as f32
}

/// sin(high + low + quadrant pi/2), for |high| up to pi/4 and a `low` below its last place.
#[inline(always)]
pub(super) fn sin_of_pair(high: f64, low: f64, quadrant: u64) -> f64 {
    let z = high * high;
    let sin_tail = high * (z * polynomial::<false, _>(&c::SIN, z));
    let cos_tail = z * z * polynomial::<false, _>(&c::COS, z);
    let s = high + (sin_tail + low);
    let c = (1.0 - 0.5 * z) + (cos_tail - high * low);
    let y = if quadrant & 1 == 0 { s } else { c };
    f64::from_bits(y.to_bits() ^ ((quadrant & 2) << 62))
}

/// Sine of `x` radians, for |x| up to [`TRIG_LIMIT`].
#[inline(always)]
pub fn sin(x: f32) -> f32 {
    let y = sin_shifted(f64::from(x), 0);
    let y = corrected(x, y, &[], &[0x4619_9998, 0xc619_9998]);
    if x == 0.0 { x } else { y }
}

/// Cosine of `x` radians, for |x| up to [`TRIG_LIMIT`].
#[inline(always)]
pub fn cos(x: f32) -> f32 {
    sin_shifted(f64::from(x), 1)
}
