#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A tool.

mod kernels;
mod shape;
mod stream;
mod whole;

use std::sync::Arc;

use hallmark_engine::Isa;
use hallmark_engine::decoder::Weights;
use hallmark_engine::kernels::gemm::Ctx;
use hallmark_engine::threads::Pool;
use hallmark_model::llm::Checkpoint;
use kernels::{ARITHMETICS, Layers};
use shape::{Made, Shape};
use stream::{Memory, ways};

fn main() {
    let shape = Shape { hidden: 2048, layers: 16, heads: 32, kv_heads: 8, intermediate: 8192, vocabulary: 128_256 };
    let what = std::env::args().nth(1).unwrap_or_default();
    let isa = Isa::detect();

    let memory = Memory::new(if what.contains('k') { 2 << 30 } else { 0 });
    let med = |mut v: Vec<f64>| { v.sort_by(f64::total_cmp); v[v.len() / 2] };
    if what.contains('c') { cached(); return; }
    if what.contains('k') {
        let mut layers = Layers::new(&ARITHMETICS[0], isa, &shape, 2 << 30);
        for threads in [1, 2] {
            let pool = Pool::new(threads);
            let cx = Ctx::new(isa, &pool);
            let mut streams = vec![vec![]; 10];
            let mut rows = vec![vec![]; 8];
            for _ in 0..5 {
                for (i, w) in ways().iter().enumerate() {
                    let s = std::time::Instant::now();
                    memory.read(&pool, w);
                    streams[i].push(memory.bytes() as f64 / s.elapsed().as_secs_f64() / 1e9);
                }
                for m in 1..=8 {
                    let t = layers.run(&cx, m);
                    rows[m - 1].push(layers.bytes() as f64 / t / 1e9);
                }
            }
            let best = streams.iter().map(|s| med(s.clone())).fold(0.0, f64::max);
            for (w, s) in ways().iter().zip(streams) { println!("{} {threads}t {:.2}", w.name, med(s)); }
            for (m, s) in rows.into_iter().enumerate() { let s = med(s); println!("rows {} {threads}t {:.2} {:.2}", m + 1, s, s / best); }
            for m in [16, 32, 40, 64, 128, 256, 512] {
                let t = layers.run(&cx, m);
                println!("m {m} {:.1} GFLOP/s", layers.operations(m) as f64 / t / 1e9);
            }
        }
    }
    if what.contains('w') {
        let made = Made::new(&shape);
        let start = std::time::Instant::now();
        let files = shape::FILES.map(str::to_owned);
        let checkpoint = Checkpoint::open(&files, &made).unwrap();
        let weights = Arc::new(Weights::load(&checkpoint, isa).unwrap());
        println!("loaded {:.1} GB in {:.1} s", weights.bytes() as f64 / 1e9, start.elapsed().as_secs_f64());
        for threads in [1, 2] {
            let mut runner = whole::Runner::new(&weights, threads);
            for b in [1, 2, 4, 8] { let t = runner.batch(b, 8); println!("{threads}t batch {b} {t:.2} tok/s {:.2} GB/s", t / b as f64 * weights.bytes() as f64 / 1e9); }
            if threads == 2 {
                println!("prefill {:.1}", runner.prefill(512));
                println!("staggered {:.2}", runner.staggered(8));
            }
        }
    }
}
pub fn cached() {
    use hallmark_engine::kernels::gemm::{Epilogue, Matrix, PackedB, gemm};
    let isa = Isa::detect();
    let pool = Pool::new(1);
    let cx = Ctx::new(isa, &pool);
    for (k, n) in [(512, 512), (2048, 128), (2048,2048)] {
        let data: Vec<f32> = (0..k * n).map(|i| (i % 251) as f32 * 0.01 - 1.0).collect();
        let b = PackedB::new(isa, Matrix::row_major(&data, n), k, n);
        for m in 1..=16 {
            let x = vec![0.5; m * k];
            let mut out = vec![0.0; m * n];
            let mut best = 1e9_f64;
            for _ in 0..200 { let s = std::time::Instant::now(); gemm(&cx, m, n, k, Matrix::row_major(&x, k), &b, &mut out, &Epilogue::default()); best = best.min(s.elapsed().as_secs_f64()); }
            print!("{m}: {:.1} GF {:.1} GB/s  ", (2 * m * n * k) as f64 / best / 1e9, (4 * n * k) as f64 / best / 1e9);
        }
        println!();
    }
}
