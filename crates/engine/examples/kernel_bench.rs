//! Speed of the contraction kernels: `cargo run --release -p hallmark-engine --example kernel_bench [isa] [threads]`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use hallmark_engine::Isa;
use hallmark_engine::kernels::gemm::{Ctx, Epilogue, Matrix, PackedB, gemm, matmul};
use hallmark_engine::threads::Pool;

/// The least time of one call, over about a third of a second.
fn least(mut f: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut least = f64::INFINITY;
    f();
    while start.elapsed() < Duration::from_millis(300) {
        let begin = Instant::now();
        let mut calls = 0;
        while begin.elapsed() < Duration::from_micros(200) || calls == 0 {
            f();
            calls += 1;
        }
        least = least.min(begin.elapsed().as_secs_f64() / f64::from(calls));
    }
    least
}

fn row(name: &str, seconds: f64, multiply_adds: usize, bytes: usize) {
    let (gflops, gbytes) = (2e-9 * multiply_adds as f64 / seconds, 1e-9 * bytes as f64 / seconds);
    println!("{name:<44} {:>10.2} us {gflops:>8.1} GFLOP/s {gbytes:>8.1} GB/s", seconds * 1e6);
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let isa = args.next().map_or(Ok(Isa::detect()), |name| name.parse())?;
    let threads = args.next().map_or(Ok(1), |n| n.parse())?;
    let pool = Pool::new(threads);
    let cx = Ctx::new(isa, &pool);
    println!("{}, {} threads", cx.isa(), pool.threads());
    let data: Vec<f32> = (0..1 << 22).map(|i| (i % 251) as f32 * 0.01 - 1.0).collect();

    for (m, n, k) in [
        (512, 512, 512),
        (1024, 1024, 1024),
        (1, 512, 784),
        (1, 512, 512),
        (1, 10, 512),
        (64, 512, 784),
        (64, 512, 512),
        (64, 10, 512),
        (64, 256, 256),
        (64, 1024, 256),
        (64, 256, 1024),
        (4, 1024, 1024),
    ] {
        let weights = PackedB::new(cx.isa(), Matrix::row_major(&data, n), k, n);
        let mut out = vec![0.0; m * n];
        let bias = Epilogue::columns(&data[..n]);
        let seconds =
            least(|| gemm(&cx, m, n, k, Matrix::row_major(&data, k), &weights, black_box(&mut out), &bias));
        row(&format!("gemm {m} x {n} x {k}"), seconds, m * n * k, weights.bytes());
    }
    for (m, n, k, transposed) in [
        (64, 64, 32, true),
        (64, 64, 32, false),
        (64, 32, 64, false),
        (512, 512, 512, true),
        (512, 512, 512, false),
    ] {
        let heads = if m == 64 { 8 } else { 1 };
        let b = if transposed { Matrix::transposed(&data, k) } else { Matrix::row_major(&data, n) };
        let a_at: Vec<usize> = (0..heads).map(|i| i * m * k).collect();
        let b_at: Vec<usize> = (0..heads).map(|i| i * n * k).collect();
        let mut out = vec![0.0; heads * m * n];
        let e = Epilogue::default();
        let seconds = least(|| {
            let left = (Matrix::row_major(&data, k), &a_at[..]);
            matmul(&cx, m, n, k, left, (b, &b_at[..]), black_box(&mut out), &e);
        });
        let name = format!("{heads} x {m} x {n} x {k}{}", if transposed { ", B transposed" } else { "" });
        row(&name, seconds, heads * m * n * k, 0);
    }
    Ok(())
}
