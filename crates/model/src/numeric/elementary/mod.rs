//! Correctly rounded float32 elementary functions (`numeric.md` §6).
//!
//! Every function of one argument returns the float32 nearest to the mathematical value, ties to even, for each of the 2^32
//! inputs, on every machine, with and without fused multiply-add; a NaN result is the canonical one (§2). `docs/elementary.md`
//! gives the command that compares all inputs with CORE-MATH, and its result.
//!
//! Each function `f` comes with `f_slice` and `f_in_place`. Where [`lanes`] holds `f`, their loops are branch-free, and a caller
//! that compiles them inside a function with `#[target_feature]` gets vector code; the bits stay the same.
//!
//! ```
//! use hallmark_model::numeric::elementary::{exp, exp_slice};
//! let x = [0.0_f32, 1.0, f32::NEG_INFINITY];
//! let mut y = [0.0; 3];
//! exp_slice(&x, &mut y);
//! assert_eq!(y, [exp(0.0), exp(1.0), 0.0]);
//! ```

mod coefficients;
pub mod lanes;
mod large;
mod pow;
mod pow_tables;
mod scalar;

pub use pow::pow;

/// The canonical NaN of §2.
const NAN: f32 = f32::from_bits(0x7fc0_0000);

/// A loop over slices whose body holds for every input.
macro_rules! everywhere {
    ($lane:path, $rest:path, $x:ident, $y:ident) => {
        for (x, y) in $x.iter().zip($y) {
            *y = $lane(*x);
        }
    };
}

/// A loop over slices whose body holds up to [`lanes::TRIG_LIMIT`]; chunks that reach beyond are gone over again.
macro_rules! up_to_limit {
    ($lane:path, $rest:path, $x:ident, $y:ident) => {
        for (x, y) in $x.chunks(64).zip($y.chunks_mut(64)) {
            let mut beyond = 0;
            for (x, y) in x.iter().zip(y.iter_mut()) {
                *y = $lane(*x);
                beyond |= u32::from(!within(*x));
            }
            if beyond != 0 {
                for (x, y) in x.iter().zip(y) {
                    *y = $rest(*x);
                }
            }
        }
    };
}

/// Whether the trigonometric lanes hold for `x`.
#[inline(always)]
fn within(x: f32) -> bool {
    x.abs() <= lanes::TRIG_LIMIT
}

/// Sine, for every `x`.
#[inline(always)]
fn sin_any(x: f32) -> f32 {
    if within(x) { lanes::sin(x) } else { large::sin(x) }
}

/// Cosine, for every `x`.
#[inline(always)]
fn cos_any(x: f32) -> f32 {
    if within(x) { lanes::cos(x) } else { large::cos(x) }
}

/// Tangent, for every `x`.
fn tan_any(x: f32) -> f32 {
    if within(x) { scalar::tan(x) } else { large::tan(x) }
}

/// The functions, each with its loops over slices.
macro_rules! functions {
    ($($(#[$doc:meta])* $name:ident, $slice:ident, $in_place:ident = $shape:ident($lane:path, $any:path);)+) => {
        $(
            $(#[$doc])*
            #[inline]
            pub fn $name(x: f32) -> f32 {
                $any(x)
            }

            #[doc = concat!("[`", stringify!($name), "`] of each of `x` into `y`, as far as both reach.")]
            #[inline(always)]
            pub fn $slice(x: &[f32], y: &mut [f32]) {
                $shape!($lane, $any, x, y);
            }

            #[doc = concat!("[`", stringify!($name), "`] of each of `y`, in place.")]
            #[inline(always)]
            pub fn $in_place(y: &mut [f32]) {
                let mut x = [0.0; 256];
                for y in y.chunks_mut(x.len()) {
                    let x = &mut x[..y.len()];
                    x.copy_from_slice(y);
                    $slice(x, y);
                }
            }
        )+

        /// Every function by name, with its loop over slices, for tests and sweeps.
        pub const FUNCTIONS: &[(&str, fn(f32) -> f32, fn(&[f32], &mut [f32]))] = &[$((stringify!($name), $name, $slice)),+];
    };
}

functions! {
    /// e to the power `x`.
    exp, exp_slice, exp_in_place = everywhere(lanes::exp::<false>, lanes::exp::<false>);
    /// 2 to the power `x`.
    exp2, exp2_slice, exp2_in_place = everywhere(lanes::exp2, lanes::exp2);
    /// e to the power `x`, less 1.
    expm1, expm1_slice, expm1_in_place = everywhere(lanes::expm1, lanes::expm1);
    /// The natural logarithm; -inf at both zeros, NaN below.
    log, log_slice, log_in_place = everywhere(lanes::log, lanes::log);
    /// The logarithm to base 2; -inf at both zeros, NaN below.
    log2, log2_slice, log2_in_place = everywhere(scalar::log2, scalar::log2);
    /// The logarithm to base 10; -inf at both zeros, NaN below.
    log10, log10_slice, log10_in_place = everywhere(scalar::log10, scalar::log10);
    /// The natural logarithm of `1 + x`; -inf at -1, NaN below.
    log1p, log1p_slice, log1p_in_place = everywhere(lanes::log1p, lanes::log1p);
    /// Sine of `x` radians; NaN at the infinities.
    sin, sin_slice, sin_in_place = up_to_limit(lanes::sin, sin_any);
    /// Cosine of `x` radians; NaN at the infinities.
    cos, cos_slice, cos_in_place = up_to_limit(lanes::cos, cos_any);
    /// Tangent of `x` radians; NaN at the infinities.
    tan, tan_slice, tan_in_place = everywhere(tan_any, tan_any);
    /// Inverse sine; NaN outside [-1, 1].
    asin, asin_slice, asin_in_place = everywhere(scalar::asin, scalar::asin);
    /// Inverse cosine; NaN outside [-1, 1].
    acos, acos_slice, acos_in_place = everywhere(scalar::acos, scalar::acos);
    /// Inverse tangent.
    atan, atan_slice, atan_in_place = everywhere(scalar::atan, scalar::atan);
    /// Hyperbolic sine.
    sinh, sinh_slice, sinh_in_place = everywhere(scalar::sinh, scalar::sinh);
    /// Hyperbolic cosine.
    cosh, cosh_slice, cosh_in_place = everywhere(scalar::cosh, scalar::cosh);
    /// Hyperbolic tangent.
    tanh, tanh_slice, tanh_in_place = everywhere(lanes::tanh, lanes::tanh);
    /// Inverse hyperbolic sine.
    asinh, asinh_slice, asinh_in_place = everywhere(scalar::asinh, scalar::asinh);
    /// Inverse hyperbolic cosine; NaN below 1.
    acosh, acosh_slice, acosh_in_place = everywhere(scalar::acosh, scalar::acosh);
    /// Inverse hyperbolic tangent; infinite at -1 and 1, NaN outside.
    atanh, atanh_slice, atanh_in_place = everywhere(scalar::atanh, scalar::atanh);
    /// The error function.
    erf, erf_slice, erf_in_place = everywhere(lanes::erf, lanes::erf);
    /// One less the error function.
    erfc, erfc_slice, erfc_in_place = everywhere(scalar::erfc, scalar::erfc);
    /// `1 / sqrt(x)` with a single rounding; infinite at the zeros with their sign, NaN below. Operators whose formula says "sqrt,
    /// then the division" (§7) round twice and do not use this function.
    rsqrt, rsqrt_slice, rsqrt_in_place = everywhere(scalar::rsqrt, scalar::rsqrt);
}

#[cfg(test)]
mod tests;
