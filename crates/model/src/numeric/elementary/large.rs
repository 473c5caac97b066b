//! Sine, cosine and tangent beyond the reach of the lanes: the argument modulo pi/2 in integers (Payne and Hanek).

use super::{NAN, lanes, pow::Pair};

/// 64 zeros, then the bits of 2/pi from 2^-1 on.
const TWO_OVER_PI: [u64; 5] =
    [0, 0xa2f9_836e_4e44_1529, 0xfc27_57d1_f534_ddc0, 0xdb62_9599_3c43_9041, 0xfe51_63ab_debb_c561];

/// pi/2 to 106 bits.
const HALF_PI: Pair = Pair(std::f64::consts::FRAC_PI_2, 6.123233995736766e-17);

/// `(k mod 4, r)` with `|x| = k pi/2 + r` and |r| <= pi/4, for finite |x| of at least 2^20.
fn reduce(x: f32) -> (u64, Pair) {
    let bits = x.to_bits() & 0x7fff_ffff;
    // |x| = significand * 2^exponent. Bits of 2/pi above 2^(1 - exponent) contribute multiples of 4 and are left out.
    let significand = u128::from(bits & 0x007f_ffff | 0x0080_0000);
    let start = ((bits >> 23) as usize).clamp(147, 254) - 88;
    let (word, shift) = (start / 64, start % 64);
    let [a, b, c] = [word, word + 1, word + 2].map(|i| u128::from(TWO_OVER_PI[i]));
    let window = (((a << 64) | b) << shift) | ((c << shift) >> 64);
    // |x| * 2/pi modulo 4, in units of 2^-126.
    let turns = significand.wrapping_mul(window);
    let quadrant = (turns.wrapping_add(1 << 125) >> 126) as u64;
    let fraction = (turns << 2) as i128;
    let high = (fraction >> 64) as i64 as f64;
    let low = fraction.wrapping_sub((high as i128) << 64) as f64;
    (quadrant, Pair(high * exp2(-64), low * exp2(-128)).times(HALF_PI))
}

/// 2^k, for a normal result.
const fn exp2(k: i64) -> f64 {
    f64::from_bits(((1023 + k) as u64) << 52)
}

/// Sine.
pub(super) fn sin(x: f32) -> f32 {
    if !x.is_finite() {
        return NAN;
    }
    let (quadrant, r) = reduce(x);
    let y = lanes::sin_of_pair(r.0, r.1, quadrant) as f32;
    if x < 0.0 { -y } else { y }
}

/// Cosine.
pub(super) fn cos(x: f32) -> f32 {
    if !x.is_finite() {
        return NAN;
    }
    if x.abs().to_bits() == 0x5f18_b878 {
        // So close to a tie that float64 does not see the difference.
        return f32::from_bits(0x3f7f_14bb);
    }
    let (quadrant, r) = reduce(x);
    lanes::sin_of_pair(r.0, r.1, quadrant + 1) as f32
}

/// Tangent.
pub(super) fn tan(x: f32) -> f32 {
    if !x.is_finite() {
        return NAN;
    }
    let (quadrant, r) = reduce(x);
    let near = libm::tan(r.0);
    let near = near + r.1 * (1.0 + near * near);
    let y = (if quadrant & 1 == 0 { near } else { -1.0 / near }) as f32;
    if x < 0.0 { -y } else { y }
}
