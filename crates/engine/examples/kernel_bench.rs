//! Speed of the contraction kernels: `cargo run --release -p hallmark-engine --example kernel_bench [isa] [threads]`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use hallmark_engine::Isa;
use hallmark_engine::kernels::conv::Conv;
use hallmark_engine::kernels::gemm::{Clamp, Ctx, Epilogue, Matrix, PackedB, gemm, matmul};
use hallmark_engine::kernels::pool;
use hallmark_engine::threads::Pool;
use hallmark_model::ops::conv::ConvShape;
use hallmark_model::ops::window::{Axis, Window};

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
    // A six-layer network on 128 x 128, then depthwise and 1 x 1 layers.
    for (channels, filters, groups, size, kernel, stride) in [
        (3, 16, 1, 128, 3, 1),
        (16, 32, 1, 128, 3, 2),
        (32, 64, 1, 64, 3, 1),
        (64, 64, 1, 32, 3, 1),
        (64, 128, 1, 32, 3, 2),
        (128, 128, 1, 16, 3, 1),
        (64, 128, 1, 32, 1, 1),
        (512, 512, 1, 7, 3, 1),
        (1, 64, 64, 64, 3, 1),
        (1, 64, 64, 64, 3, 2),
    ] {
        let pad = kernel / 2;
        let output = (size + 2 * pad - kernel) / stride + 1;
        let axis = Axis { input: size, output, kernel, stride, dilation: 1, pad_begin: pad, pad_end: pad };
        let shape = ConvShape { batch: 1, channels, filters, groups, window: Window { axes: vec![axis; 2] } };
        let weights = &data[..filters * channels * kernel * kernel];
        let conv =
            Conv::new(cx.isa(), weights, filters, channels, groups, &[kernel; 2]).ok_or("not taken")?;
        let mut out = vec![0.0; filters * output * output];
        let e = Epilogue { clamp: Clamp::Relu, ..Epilogue::rows(&data[..filters]) };
        let x = &data[..channels * groups * size * size];
        let seconds = least(|| {
            conv.run(&cx, &shape, x, black_box(&mut out), &e);
        });
        let name = format!(
            "conv {} -> {filters}, {size} x {size}, {kernel} x {kernel} / {stride}, {groups} groups",
            channels * groups
        );
        row(&name, seconds, out.len() * channels * kernel * kernel, 4 * (x.len() + out.len()));
    }
    for (window, kernel) in [(pool::Window::Max, 2), (pool::Window::Average, 2), (pool::Window::Max, 3)] {
        let (planes, size) = (64, 64);
        let output = (size - kernel) / 2 + 1;
        let axis = Axis { input: size, output, kernel, stride: 2, dilation: 1, pad_begin: 0, pad_end: 0 };
        let x = &data[..planes * size * size];
        let mut out = vec![0.0; planes * output * output];
        let seconds = least(|| {
            pool::pool(&cx, window, &[axis; 2], planes, x, black_box(&mut out));
        });
        row(&format!("{window:?} pool 64 x 64 x 64, {kernel} / 2"), seconds, 0, 4 * (x.len() + out.len()));
    }
    let mut out = vec![0.0; 512];
    let seconds = least(|| pool::global_average(&cx, 49, &data[..512 * 49], black_box(&mut out)));
    row("global average 512 x 7 x 7", seconds, 0, 4 * 512 * 49);
    Ok(())
}
