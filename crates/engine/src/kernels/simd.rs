//! One body, compiled once per instruction set.

/// `fn NAME(isa, ARGS)` runs the `#[inline(always)]` function `BODY(ARGS)` as compiled for `isa`. `BODY<FUSED>(ARGS)` is given whether
/// float64 multiply-adds are one instruction there.
///
/// Rust never contracts or reorders floating-point operations, so the bits of the copies are equal.
macro_rules! per_isa {
    ($(#[$meta:meta])* fn $name:ident = $body:ident <FUSED> ( $($arg:ident : $ty:ty),* $(,)? )) => {
        per_isa! { $(#[$meta])* fn $name = ($body::<true>, $body::<{ hallmark_model::numeric::FMA }>)( $($arg: $ty),* ) }
    };
    ($(#[$meta:meta])* fn $name:ident = $body:ident ( $($arg:ident : $ty:ty),* $(,)? )) => {
        per_isa! { $(#[$meta])* fn $name = ($body, $body)( $($arg: $ty),* ) }
    };
    ($(#[$meta:meta])* fn $name:ident = ($fused:expr, $baseline:expr)( $($arg:ident : $ty:ty),* )) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        #[allow(unsafe_code)]
        pub(crate) fn $name(isa: $crate::isa::Isa, $($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx512($($arg: $ty),*) {
                ($fused)($($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx2($($arg: $ty),*) {
                ($fused)($($arg),*)
            }
            match isa {
                // SAFETY: `Program::compile` admits an instruction set only where the processor has it.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Isa::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Isa::Avx2 => unsafe { avx2($($arg),*) },
                _ => ($baseline)($($arg),*),
            }
        }
    };
}
pub(crate) use per_isa;

/// `BODY` for each constant `I` below `COUNT`, at most 14, written out: the compiler does not unroll loops over so many rows, and
/// accumulators in memory would be the end.
macro_rules! unrolled {
    ($count:ident, $i:ident => $body:block) => {
        $crate::kernels::simd::unrolled!(@ $count $i $body 0 1 2 3 4 5 6 7 8 9 10 11 12 13)
    };
    (@ $count:ident $i:ident $body:block $($n:literal)*) => {$(
        if $n < $count {
            #[allow(non_upper_case_globals)]
            const $i: usize = $n;
            $body
        }
    )*};
}
pub(crate) use unrolled;
