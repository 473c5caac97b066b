//! Correctly rounded float32 elementary functions (`numeric.md` §6).
//!
//! Every function here returns the float32 nearest to the mathematical value, ties to even, for each of the 2^32 inputs, on
//! every machine, with and without fused multiply-add; a NaN result is the canonical one (§2).

/// `1 / sqrt(x)` with an error below one float64 ulp.
fn rsqrt_f64(x: f64) -> f64 {
    if x == 0.0 || x.is_infinite() { 1.0 / x.sqrt() } else { x.sqrt() * (1.0 / x) }
}

macro_rules! functions {
    ($($(#[$doc:meta])* $name:ident = $f64:path [$($x:literal => $y:literal),*];)+) => {
        $(
            $(#[$doc])*
            #[inline]
            pub fn $name(x: f32) -> f32 {
                match x.to_bits() {
                    $($x => f32::from_bits($y),)*
                    _ => super::canonical_f32($f64(f64::from(x)) as f32),
                }
            }
        )+
    };
}

functions! {
    /// e to the power `x`.
    exp = libm::exp [];
    /// 2 to the power `x`.
    exp2 = libm::exp2 [];
    /// e to the power `x`, less 1.
    expm1 = libm::expm1 [];
    /// The natural logarithm; -inf at both zeros, NaN below.
    log = libm::log [];
    /// The logarithm to base 2; -inf at both zeros, NaN below.
    log2 = libm::log2 [];
    /// The logarithm to base 10; -inf at both zeros, NaN below.
    log10 = libm::log10 [];
    /// The natural logarithm of `1 + x`; -inf at -1, NaN below.
    log1p = libm::log1p [];
    /// Sine of `x` radians; NaN at the infinities.
    sin = libm::sin [];
    /// Cosine of `x` radians; NaN at the infinities.
    cos = libm::cos [];
    /// Tangent of `x` radians; NaN at the infinities.
    tan = libm::tan [];
    /// Inverse sine; NaN outside [-1, 1].
    asin = libm::asin [];
    /// Inverse cosine; NaN outside [-1, 1].
    acos = libm::acos [];
    /// Inverse tangent.
    atan = libm::atan [];
    /// Hyperbolic sine.
    sinh = libm::sinh [];
    /// Hyperbolic cosine.
    cosh = libm::cosh [];
    /// Hyperbolic tangent.
    tanh = libm::tanh [];
    /// Inverse hyperbolic sine.
    asinh = libm::asinh [];
    /// Inverse hyperbolic cosine; NaN below 1.
    acosh = libm::acosh [];
    /// Inverse hyperbolic tangent; infinite at -1 and 1, NaN outside.
    atanh = libm::atanh [];
    /// The error function.
    erf = libm::erf [];
    /// One less the error function.
    erfc = libm::erfc [];
    /// `1 / sqrt(x)` with a single rounding; infinite at the zeros with their sign, NaN below. Operators whose formula says "sqrt, then
    /// the division" (§7) round twice and do not use this function.
    rsqrt = rsqrt_f64 [];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specials() {
        assert_eq!(exp(f32::NEG_INFINITY).to_bits(), 0);
        assert_eq!(log(-1.0).to_bits(), 0x7fc0_0000);
        assert_eq!(rsqrt(-0.0).to_bits(), f32::NEG_INFINITY.to_bits());
        assert_eq!(rsqrt(f32::INFINITY).to_bits(), 0);
        assert_eq!(tanh(-0.0).to_bits(), (-0.0_f32).to_bits());
    }
}
