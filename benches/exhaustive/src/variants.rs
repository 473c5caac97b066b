//! Our slice loops, compiled for several instruction sets.

use hallmark_model::numeric::elementary as ours;

/// A loop over slices.
pub type Variant = fn(&[f32], &mut [f32]);

macro_rules! variants {
    ($($name:ident $slice:path;)+) => {
        $(
            /// The loops of one function that this processor can run.
            pub fn $name() -> Vec<(&'static str, Variant)> {
                let mut all: Vec<(&'static str, Variant)> = vec![("baseline", $slice)];
                #[cfg(target_arch = "x86_64")]
                {
                    #[target_feature(enable = "avx2,fma")]
                    fn avx2(x: &[f32], y: &mut [f32]) {
                        $slice(x, y);
                    }
                    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,avx2,fma")]
                    fn avx512(x: &[f32], y: &mut [f32]) {
                        $slice(x, y);
                    }
                    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                        // SAFETY: the processor has the features, by the line above.
                        all.push(("avx2", |x, y| unsafe { avx2(x, y) }));
                    }
                    if ["avx512f", "avx512dq", "avx512vl", "avx512bw"].iter().all(|f| has(f)) {
                        // SAFETY: the processor has the features, by the line above.
                        all.push(("avx512", |x, y| unsafe { avx512(x, y) }));
                    }
                }
                all
            }
        )+
    };
}

/// `exp` with fused multiply-adds: calls of the C library's in the baseline.
#[inline(always)]
fn exp_fused_slice(x: &[f32], y: &mut [f32]) {
    for (x, y) in x.iter().zip(y) {
        *y = ours::lanes::exp::<true>(*x);
    }
}

/// Whether the processor has one of the AVX-512 features.
#[cfg(target_arch = "x86_64")]
fn has(feature: &str) -> bool {
    match feature {
        "avx512f" => is_x86_feature_detected!("avx512f"),
        "avx512dq" => is_x86_feature_detected!("avx512dq"),
        "avx512vl" => is_x86_feature_detected!("avx512vl"),
        "avx512bw" => is_x86_feature_detected!("avx512bw"),
        _ => false,
    }
}

/// A loop that calls a scalar function has one form only.
macro_rules! plain {
    ($($name:ident $slice:ident;)+) => {
        $(
            /// The loop of one function.
            pub fn $name() -> Vec<(&'static str, Variant)> {
                vec![("loop", ours::$slice)]
            }
        )+
    };
}

variants! {
    exp ours::exp_slice; exp_fused exp_fused_slice; exp2 ours::exp2_slice; expm1 ours::expm1_slice; log ours::log_slice;
    log1p ours::log1p_slice; sin ours::sin_slice; cos ours::cos_slice; tanh ours::tanh_slice; erf ours::erf_slice;
}

plain! {
    log2 log2_slice; log10 log10_slice; tan tan_slice; asin asin_slice; acos acos_slice; atan atan_slice; sinh sinh_slice;
    cosh cosh_slice; asinh asinh_slice; acosh acosh_slice; atanh atanh_slice; erfc erfc_slice; rsqrt rsqrt_slice;
}
