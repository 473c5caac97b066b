//! The best streaming read: several loops over memory that no cache holds; the fastest counts.
#![allow(unsafe_code)] // Prefetches, instruction sets, and advice on pages.

use hallmark_engine::threads::Pool;

/// Elements that a loop takes from one stream at a time.
const STEP: usize = 64;
const LINE: usize = 16;

/// Memory to read.
pub struct Memory(Vec<f32>);

impl Memory {
    /// About `bytes` of it, in huge pages where the system has them.
    pub fn new(bytes: usize) -> Self {
        // Whole steps for up to 64 threads of 16 streams.
        let len = (bytes / size_of::<f32>()).next_multiple_of(64 * 16 * STEP);
        let mut data: Vec<f32> = Vec::with_capacity(len);
        #[cfg(target_os = "linux")]
        {
            unsafe extern "C" {
                fn madvise(start: *mut f32, bytes: usize, advice: i32) -> i32;
            }
            let start = data.as_mut_ptr().map_addr(|at| at.next_multiple_of(4096));
            // SAFETY: whole pages of one allocation, and MADV_HUGEPAGE (14) changes no byte of them.
            unsafe { madvise(start, (len * 4 - 4096) & !4095, 14) };
        }
        data.resize(len, 1.0);
        Self(data)
    }

    pub fn bytes(&self) -> usize {
        size_of_val(self.0.as_slice())
    }

    /// Reads all of it, each thread its own contiguous part.
    pub fn read(&self, pool: &Pool, way: &Way) {
        let part = (self.0.len() / pool.threads()) & !(16 * STEP - 1);
        pool.run(pool.threads(), |thread| {
            // SAFETY: `WAYS` lists a loop only behind its instruction set.
            let sum = unsafe { (way.read)(&self.0[thread * part..(thread + 1) * part]) };
            assert!(sum > 0.0);
        });
    }
}

/// One loop.
pub struct Way {
    pub name: &'static str,
    read: unsafe fn(&[f32]) -> f32,
}

/// The loops for this processor.
pub fn ways() -> Vec<Way> {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx512f") {
        return avx512::WAYS.into();
    }
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        return avx2::WAYS.into();
    }
    vec![
        Way { name: "1 stream", read: plain::<1> },
        Way { name: "2 streams", read: plain::<2> },
        Way { name: "4 streams", read: plain::<4> },
        Way { name: "8 streams", read: plain::<8> },
    ]
}

/// What the compiler makes of `S` streams.
fn plain<const S: usize>(data: &[f32]) -> f32 {
    let part = data.len() / S;
    let mut sums = [0.0_f32; STEP];
    for at in (0..part).step_by(STEP) {
        for stream in 0..S {
            let from = &data[stream * part + at..][..STEP];
            for (sum, x) in sums.iter_mut().zip(from) {
                *sum += x;
            }
        }
    }
    sums.iter().sum()
}

/// The loops of one instruction set in one module.
#[cfg(target_arch = "x86_64")]
macro_rules! loops {
    ($name:ident, $feature:literal, $vector:ident, $zero:ident, $load:ident, $add:ident) => {
        mod $name {
            use std::arch::x86_64::*;

            use super::{LINE, STEP, Way};

            const LANES: usize = size_of::<$vector>() / size_of::<f32>();

            /// `S` streams, asking for what lies `D` lines ahead (0: nothing) with hint `H`.
            #[target_feature(enable = $feature)]
            unsafe fn streams<const S: usize, const D: usize, const H: i32>(data: &[f32]) -> f32 {
                let part = data.len() / S;
                let mut sums = [$zero(); 8];
                for at in (0..part).step_by(STEP) {
                    for stream in 0..S {
                        for v in 0..STEP / LANES {
                            // SAFETY: inside `data`, but for prefetches, which may ask for any address.
                            unsafe {
                                let from = data.as_ptr().add(stream * part + at + v * LANES);
                                if D > 0 && v * LANES % LINE == 0 {
                                    _mm_prefetch::<H>(from.wrapping_add(D * LINE).cast());
                                }
                                let sum = &mut sums[(stream * (STEP / LANES) + v) % 8];
                                *sum = $add(*sum, $load(from));
                            }
                        }
                    }
                }
                // SAFETY: a vector is so many float32.
                let lanes = sums.map(|sum| unsafe { std::mem::transmute::<$vector, [f32; LANES]>(sum) });
                lanes.as_flattened().iter().sum()
            }

            pub(super) const WAYS: [Way; 10] = [
                Way { name: "1 stream", read: streams::<1, 0, 0> },
                Way { name: "2 streams", read: streams::<2, 0, 0> },
                Way { name: "4 streams", read: streams::<4, 0, 0> },
                Way { name: "8 streams", read: streams::<8, 0, 0> },
                Way { name: "1 stream, asking 64 lines ahead", read: streams::<1, 64, _MM_HINT_T0> },
                Way { name: "1 stream, asking level 2 for 128 ahead", read: streams::<1, 128, _MM_HINT_T1> },
                Way { name: "1 stream, asking 32 ahead, non-temporal", read: streams::<1, 32, _MM_HINT_NTA> },
                Way { name: "4 streams, asking 16 ahead", read: streams::<4, 16, _MM_HINT_T0> },
                Way { name: "8 streams, asking 16 ahead", read: streams::<8, 16, _MM_HINT_T0> },
                Way { name: "16 streams, asking 16 ahead", read: streams::<16, 16, _MM_HINT_T0> },
            ];
        }
    };
}

#[cfg(target_arch = "x86_64")]
loops!(avx512, "avx512f", __m512, _mm512_setzero_ps, _mm512_loadu_ps, _mm512_add_ps);
#[cfg(target_arch = "x86_64")]
loops!(avx2, "avx2", __m256, _mm256_setzero_ps, _mm256_loadu_ps, _mm256_add_ps);
