//! The functions that networks rarely call: computed by the pure-Rust float64 functions of `libm`, whose error is about one float64
//! ulp, and rounded once. The few inputs at which that second rounding goes wrong are listed.

macro_rules! functions {
    ($($name:ident = $f64:expr, [$($x:literal => $y:literal),* $(,)?];)+) => {
        $(
            pub(super) fn $name(x: f32) -> f32 {
                match x.to_bits() {
                    $($x => f32::from_bits($y),)*
                    _ => crate::numeric::canonical_f32($f64(f64::from(x)) as f32),
                }
            }
        )+
    };
}

/// `1 / sqrt(x)`, with two float64 roundings.
fn rsqrt_f64(x: f64) -> f64 {
    if x == 0.0 || x.is_infinite() { 1.0 / x.sqrt() } else { x.sqrt() * (1.0 / x) }
}

/// Inverse hyperbolic cosine; `libm`'s own is infinite at some inputs below -1.
fn acosh_f64(x: f64) -> f64 {
    if x < 1.0 { f64::NAN } else { libm::acosh(x) }
}

functions! {
    log2 = libm::log2, [];
    log10 = libm::log10, [0x0efe_ee7a => 0xc1e9_9d23];
    tan = libm::tan, [];
    asin = libm::asin, [];
    acos = libm::acos, [0x3288_85a3 => 0x3fc9_0fdb, 0x3982_6222 => 0x3fc9_07b5];
    atan = libm::atan, [0x3d8d_6b23 => 0x3d8d_31c3, 0xbd8d_6b23 => 0xbd8d_31c3];
    sinh = libm::sinh, [0x3a12_85ff => 0x3a12_85ff, 0xba12_85ff => 0xba12_85ff];
    cosh = libm::cosh, [];
    asinh = libm::asinh, [
        0x4bdd_65a5 => 0x418f_034b,
        0x5e68_984e => 0x422e_4a21,
        0x6558_90d3 => 0x4254_d1f9,
        0xcbdd_65a5 => 0xc18f_034b,
        0xde68_984e => 0xc22e_4a21,
        0xe558_90d3 => 0xc254_d1f9,
    ];
    acosh = acosh_f64, [0x5e68_984e => 0x422e_4a21, 0x6558_90d3 => 0x4254_d1f9];
    atanh = libm::atanh, [];
    erfc = libm::erfc, [0xb76c_9f62 => 0x3f80_0085];
    rsqrt = rsqrt_f64, [];
}
