//! Times the functions on inputs between -4 and 4 (0 and 8 for logarithms), 4,096 at a time.

use std::{hint::black_box, time::Instant};

use hallmark_model::numeric::{elementary, fma_f32_emulated};

use crate::Row;

/// Prints the nanoseconds an element of each variant.
pub fn run(row: &Row) {
    let positive = row.name.starts_with("log") || row.name == "rsqrt";
    let x: Vec<f32> = (0..4096).map(|i| (i as f32 / 512.0) - if positive { 0.0 } else { 4.0 }).collect();
    let mut y = vec![0.0; x.len()];
    let mut line = format!("{:9}", row.name);
    let mut time = |name: &str, body: &mut dyn FnMut(&[f32], &mut [f32])| {
        line += &format!(
            "  {name} {:.2} ns",
            best(|| body(black_box(&x), black_box(&mut y))) * 1e9 / x.len() as f64
        );
    };
    time("core-math", &mut |x, y| x.iter().zip(y).for_each(|(x, y)| *y = (row.oracle)(*x)));
    time("scalar", &mut |x, y| x.iter().zip(y).for_each(|(x, y)| *y = (row.scalar)(*x)));
    for (name, slice) in &row.slices {
        time(name, &mut |x, y| slice(x, y));
    }
    println!("{line}");
}

/// The best time of many short runs, in seconds: other work on the machine only ever adds.
fn best(mut body: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..400 {
        let begin = Instant::now();
        body();
        best = best.min(begin.elapsed().as_secs_f64());
    }
    best
}

/// Prints the nanoseconds that `pow` takes.
pub fn pow() {
    let pairs: Vec<(f32, f32)> =
        (0..1024).map(|i| (0.01 + i as f32 / 100.0, (i % 37) as f32 / 3.7 - 5.05)).collect();
    let ours = best(|| pairs.iter().for_each(|&(x, y)| _ = black_box(elementary::pow(black_box(x), y))));
    let oracle = best(|| pairs.iter().for_each(|&(x, y)| _ = black_box(core_math::powf(black_box(x), y))));
    println!("pow     core-math {:.1} ns  scalar {:.1} ns", oracle * 1e9 / 1024.0, ours * 1e9 / 1024.0);
}

/// `acc = a * b + acc` over slices.
#[inline(always)]
fn fma_loop(a: &[f32], b: &[f32], acc: &mut [f32]) {
    for ((a, b), acc) in a.iter().zip(b).zip(acc) {
        *acc = fma_f32_emulated(*a, *b, *acc);
    }
}

/// Prints the nanoseconds that the emulated fma takes.
pub fn fma() {
    let a: Vec<f32> = (0..1024).map(|i| i as f32 * 0.37 - 100.0).collect();
    let mut acc = vec![0.0; a.len()];
    let mut line = format!(
        "fma     baseline {:.2} ns",
        best(|| fma_loop(black_box(&a), &a, black_box(&mut acc))) * 1e9 / 1024.0
    );
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        #[target_feature(enable = "avx2")]
        fn avx2(a: &[f32], b: &[f32], acc: &mut [f32]) {
            fma_loop(a, b, acc);
        }
        // SAFETY: the processor has AVX2, by the line above.
        let seconds = best(|| unsafe { avx2(black_box(&a), &a, black_box(&mut acc)) });
        line += &format!("  avx2 {:.2} ns", seconds * 1e9 / 1024.0);
    }
    println!("{line}");
}
