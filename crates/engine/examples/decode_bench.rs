//! Decoding speed beside the speed at which this machine reads memory: `decode_bench [--layers N] [--threads N] [--kind F32|BF16|F16]`.
//!
//! The shape is that of a Llama of 1B parameters with fewer layers (16 has the whole) and a vocabulary of 32,000; weights are pseudo-random and made as
//! they are read. One token reads every weight once, so bytes a step over seconds a step, beside the streaming read, says what is left.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A tool.

use std::sync::Arc;
use std::time::Instant;

use hallmark_engine::Isa;
use hallmark_engine::decoder::{Decoder, Options, Weights};
use hallmark_model::llm::{Checkpoint, Parameters, config};
use hallmark_model::onnx::{ExternalData, ExternalDataError};

/// Files that are computed when they are read.
struct Made {
    config: String,
    header: Vec<u8>,
    size: u64,
    width: u64,
}

impl ExternalData for Made {
    fn read(&self, path: &str, offset: u64, length: u64) -> Result<Vec<u8>, ExternalDataError> {
        let head = if path == "config.json" { self.config.as_bytes() } else { &self.header };
        let byte = |at: u64| match head.get(at as usize) {
            Some(byte) => *byte,
            // Small numbers: 0x3c or 0xbc is the high byte of each, the next one any.
            None => {
                let (element, part) =
                    ((at - head.len() as u64) / self.width, (at - head.len() as u64) % self.width);
                let random = element.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
                match self.width - part {
                    1 => 0x3c | (random as u8 & 0x80),
                    2 => (random >> 8) as u8 & 0x7f,
                    _ => 0,
                }
            }
        };
        Ok((offset..offset + length).map(byte).collect())
    }

    fn size(&self, path: &str) -> Result<u64, ExternalDataError> {
        Ok(if path == "config.json" { self.config.len() as u64 } else { self.size })
    }
}

fn make(layers: usize, kind: &str) -> Made {
    let config = format!(
        r#"{{"model_type":"llama","hidden_size":2048,"intermediate_size":8192,"num_hidden_layers":{layers},
        "num_attention_heads":32,"num_key_value_heads":8,"head_dim":64,"vocab_size":32000,"max_position_embeddings":8192,
        "rms_norm_eps":1e-5,"rope_theta":500000.0,"tie_word_embeddings":true}}"#
    );
    let width = if kind == "F32" { 4 } else { 2 };
    let (mut entries, mut at) = (Vec::new(), 0_u64);
    for (role, shape) in config::parse(config.as_bytes()).unwrap().weights() {
        let end = at + width * shape.iter().product::<usize>() as u64;
        entries
            .push(format!(r#""{role}":{{"dtype":"{kind}","shape":{shape:?},"data_offsets":[{at},{end}]}}"#));
        at = end;
    }
    let json = format!("{{{}}}", entries.join(","));
    let header = [&(json.len() as u64).to_le_bytes()[..], json.as_bytes()].concat();
    Made { config, size: header.len() as u64 + at, header, width }
}

/// Bytes a second at which `threads` threads read memory that no cache holds: the best of five.
fn streaming(threads: usize) -> f64 {
    let data = vec![1.0_f32; 64 << 20];
    let mut best = 0.0_f64;
    for _ in 0..5 {
        let start = Instant::now();
        let total: f32 = std::thread::scope(|scope| {
            let sums: Vec<_> = data
                .chunks(data.len().div_ceil(threads))
                .map(|part| {
                    scope.spawn(move || {
                        let mut lanes = [0.0_f32; 32];
                        for chunk in part.as_chunks::<32>().0 {
                            for (lane, x) in lanes.iter_mut().zip(chunk) {
                                *lane += x;
                            }
                        }
                        lanes.iter().sum::<f32>()
                    })
                })
                .collect();
            sums.into_iter().map(|sum| sum.join().unwrap()).sum()
        });
        assert!(total > 0.0);
        best = best.max(size_of_val(data.as_slice()) as f64 / start.elapsed().as_secs_f64());
    }
    best
}

/// Bytes a second at which products of `m` rows read weights of a Llama's down projections, more of them than caches hold: the best of five.
fn kernel(threads: usize, m: usize) -> f64 {
    use hallmark_engine::kernels::gemm::{Ctx, Epilogue, Matrix, PackedB, gemm};
    let pool = hallmark_engine::threads::Pool::new(threads);
    let cx = Ctx::new(Isa::detect(), &pool);
    let (k, n) = (8192, 2048);
    let data: Vec<f32> = (0..k * n).map(|i| (i % 251) as f32 * 0.01 - 1.0).collect();
    let packed: Vec<_> = (0..6).map(|_| PackedB::new(cx.isa(), Matrix::row_major(&data, n), k, n)).collect();
    let mut out = vec![0.0; m * n];
    let mut best = 0.0_f64;
    for _ in 0..5 {
        let start = Instant::now();
        for b in &packed {
            gemm(&cx, m, n, k, Matrix::row_major(&data, k), b, &mut out, &Epilogue::default());
        }
        best = best.max((6 * k * n * 4) as f64 / start.elapsed().as_secs_f64());
    }
    best
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (mut layers, mut threads, mut kind) = (4, 1, "BF16".to_owned());
    while let Some(name) = arguments.next() {
        let value = arguments.next().unwrap_or_default();
        match name.as_str() {
            "--layers" => layers = value.parse().unwrap(),
            "--threads" => threads = value.parse().unwrap(),
            "--kind" => kind = value,
            _ => panic!("cannot take {name}"),
        }
    }
    let made = make(layers, &kind);
    let files = ["config.json".to_owned(), "model.safetensors".to_owned()];
    let checkpoint = Checkpoint::open(&files, &made).unwrap();
    let options = Options { threads, share_prefixes: false, ..Options::default() };
    let weights = Arc::new(Weights::load(&checkpoint, Isa::detect()).unwrap());
    let bytes = weights.bytes_per_step() as f64;
    let read = streaming(threads);
    println!("{} {threads} threads, {layers} layers of {kind}: {:.2} GB a step", options.isa, bytes / 1e9);
    println!("streaming read {:6.2} GB/s", read / 1e9);
    for m in [1, 2, 4, 8] {
        let kernel = kernel(threads, m);
        println!("kernel, {m} rows {:6.2} GB/s, {:3.0} %", kernel / 1e9, 100.0 * kernel / read);
    }

    let mut decoder = Decoder::new(Arc::clone(&weights), &options).unwrap();
    let prompt: Vec<u32> = (0..256).map(|i| i * 101 % 32_000).collect();
    let start = Instant::now();
    decoder.generate(&prompt, Parameters::greedy(1)).unwrap();
    let spent = start.elapsed().as_secs_f64();
    // bfloat16 is kept as such, any other kind as float32.
    let flops = 2.0 * 256.0 * bytes / if kind == "BF16" { 2.0 } else { 4.0 };
    println!("prompt of 256  {:6.1} tokens/s, {:.0} GFLOP/s or so", 256.0 / spent, flops / spent / 1e9);
    for batch in [1_u32, 2, 4, 8] {
        for i in 0..batch {
            decoder.start(&[i + 1, 2, 3, 4], Parameters::greedy(20), None).unwrap();
        }
        decoder.step(); // prompts
        let (start, mut tokens, mut steps) = (Instant::now(), 0, 0);
        while !decoder.is_idle() {
            tokens += decoder.step().len();
            steps += 1;
        }
        let spent = start.elapsed().as_secs_f64();
        let speed = bytes * f64::from(steps) / spent;
        println!(
            "batch of {batch}     {:6.1} tokens/s, {:6.2} GB/s of weights, {:3.0} % of streaming",
            f64::from(tokens as u32) / spent,
            speed / 1e9,
            100.0 * speed / read
        );
    }
}
