//! Decoding speed beside the speed at which this machine reads memory: `decode_bench [--layers N] [--threads N]
//! [--isa avx512|avx2|neon|portable] [--arithmetic f32|int8] [--part products|model|prompt] [--turns N]`.
//!
//! The shape is that of Llama 3.2 1B (5 GB of float32; fewer layers take less), with pseudo-random weights made as they are read. One token
//! reads every weight once, so what products and the whole model read a second, beside the best of several plain loops over as much memory
//! as no cache holds, says what is left. Everything is measured in turns, with one thread and with all; figures are medians. Exits 1 where a
//! bar of the table's end is missed.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A tool.

mod kernels;
mod shape;
mod stream;
mod whole;

use std::sync::Arc;
use std::time::Instant;

use hallmark_engine::Isa;
use hallmark_engine::decoder::Weights;
use hallmark_engine::kernels::gemm::Ctx;
use hallmark_engine::threads::Pool;
use hallmark_model::llm::Checkpoint;
use kernels::{ARITHMETICS, Arithmetic, Layers};
use shape::{Made, Shape};
use stream::{Memory, Way, ways};
use whole::Runner;

/// Of Llama 3.2 1B.
const LLAMA_1B: Shape =
    Shape { hidden: 2048, layers: 16, heads: 32, kv_heads: 8, intermediate: 8192, vocabulary: 128_256 };
/// Memory of the loops and of the products, more than any cache: 2 GiB each.
const FAR: usize = 2 << 30;
const ROWS: [usize; 4] = [1, 2, 4, 8];
/// Tokens of the prompt.
const PROMPT: usize = 512;
/// Generated tokens a sequence, in a batch.
const STEPS: u32 = 8;
/// Steps from one arrival to the next.
const GAP: u32 = 8;

/// What all measurements share.
struct Bench {
    isa: Isa,
    shape: Shape,
    /// Times that each measurement is made.
    turns: usize,
    memory: Memory,
    ways: Vec<Way>,
    /// What was measured, and the least that it must be.
    bars: Vec<(String, f64, f64)>,
}

/// The median of `turns` values for each of `count` measurements, all taken in turns.
fn medians(turns: usize, count: usize, mut measure: impl FnMut(usize) -> f64) -> Vec<f64> {
    let mut all = vec![Vec::new(); count];
    for _ in 0..turns {
        for (i, values) in all.iter_mut().enumerate() {
            values.push(measure(i));
        }
    }
    all.iter_mut().for_each(|values| values.sort_by(f64::total_cmp));
    all.into_iter().map(|values| values[turns / 2]).collect()
}

fn greatest(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

impl Bench {
    /// Bytes a second of a loop.
    fn read(&self, pool: &Pool, way: &Way) -> f64 {
        let start = Instant::now();
        self.memory.read(pool, way);
        self.memory.bytes() as f64 / start.elapsed().as_secs_f64()
    }

    /// Loops and products alone.
    fn products(&mut self, threads: usize, arithmetic: &Arithmetic) {
        let (pool, name) = (Pool::new(threads), arithmetic.name);
        let cx = Ctx::new(self.isa, &pool);
        let mut layers = Layers::new(arithmetic, self.isa, &self.shape, FAR);
        let bytes = layers.bytes() as f64;
        // Each measurement comes after one like it, which leaves a large cache as decoding leaves it: full of the same memory.
        let rates = medians(self.turns, self.ways.len() + ROWS.len(), |i| match self.ways.get(i) {
            Some(way) => {
                self.read(&pool, way);
                self.read(&pool, way)
            }
            None => {
                layers.run(&cx, 1);
                bytes / layers.run(&cx, ROWS[i - self.ways.len()])
            }
        });
        let (loops, rows) = rates.split_at(self.ways.len());
        let best = greatest(loops);
        println!("\n{:44} {:>8} {:>8}", format!("products, {name}, {threads} threads"), "GB/s", "of best");
        for (way, rate) in self.ways.iter().zip(loops) {
            println!("  {:42} {:8.1} {:8.2}", way.name, rate / 1e9, rate / best);
        }
        for (m, rate) in ROWS.iter().zip(rows) {
            println!("  {:42} {:8.1} {:8.2}", format!("product, rows: {m}"), rate / 1e9, rate / best);
        }
        self.bars.push((
            format!("{name}, {threads} threads: product of 1 row, of the best read"),
            rows[0] / best,
            0.9,
        ));
    }

    /// A whole model: batches, and with all threads also arrivals.
    fn model(&mut self, threads: usize, all: bool, weights: &Arc<Weights>, arithmetic: &Arithmetic) {
        let pool = Pool::new(threads);
        let mut runner = Runner::new(weights, threads);
        // What each of the measurements is, in order.
        let batches = self.ways.len()..self.ways.len() + ROWS.len();
        let rates = medians(self.turns.min(3), batches.end + usize::from(all), |i| match i {
            i if i < batches.start => self.read(&pool, &self.ways[i]),
            i if i < batches.end => runner.batch(ROWS[i - batches.start] as u32, STEPS),
            _ => runner.staggered(GAP),
        });
        let best = greatest(&rates[..batches.start]);
        let (batches, rest) = rates[batches.start..].split_at(ROWS.len());
        let bytes = weights.bytes_per_step() as f64;
        let title = format!("whole model, {}, {threads} threads", arithmetic.name);
        println!("\n{title:44} {:>8} {:>8} {:>8}", "tokens/s", "GB/s", "of best");
        println!("  {:42} {:8} {:8.1} {:8.2}", "best read", "", best / 1e9, 1.0);
        for (batch, rate) in ROWS.iter().zip(batches) {
            let speed = rate / *batch as f64 * bytes;
            println!(
                "  {:42} {rate:8.2} {:8.1} {:8.2}",
                format!("batch of {batch}"),
                speed / 1e9,
                speed / best
            );
        }
        let mut bar = |text: &str, got, least| {
            self.bars.push((format!("{}, {threads} threads: {text}", arithmetic.name), got, least));
        };
        bar("batch of 1, of the best read", batches[0] * bytes / best, 0.8);
        bar("batch of 8, of the batch of 1", batches[3] / batches[0], 4.0);
        if let &[staggered] = rest {
            println!("  {:42} {staggered:8.2}", format!("8 at a time, one joins every {GAP} steps"));
            bar("8 with arrivals, of the batch of 8", staggered / batches[3], 0.8);
        }
    }

    /// A long prompt beside the products of its layers.
    fn prompt(&mut self, threads: usize, weights: &Arc<Weights>, arithmetic: &Arithmetic) {
        let pool = Pool::new(threads);
        let cx = Ctx::new(self.isa, &pool);
        let mut runner = Runner::new(weights, threads);
        let mut layer = Layers::new(arithmetic, self.isa, &self.shape, 0);
        let layer_operations = layer.operations(PROMPT) as f64;
        let Shape { layers, hidden, vocabulary, .. } = self.shape;
        let operations = layer_operations * layers as f64 + (2 * hidden * vocabulary) as f64;
        let rates = medians(self.turns, 2, |i| match i {
            0 => layer_operations / layer.run(&cx, PROMPT),
            _ => operations / runner.prompt(PROMPT as u32),
        });
        let (products, prompt) = (rates[0], rates[1]);
        println!("\nprompt of {PROMPT}, {}, {threads} threads", arithmetic.name);
        println!("  {:42} {:8.0} G operations/s", "products of a layer", products / 1e9);
        let tokens = PROMPT as f64 * prompt / operations;
        println!("  {:42} {:8.0} G operations/s, {tokens:.1} tokens/s", "whole model", prompt / 1e9);
        let text = format!("{}, {threads} threads: prompt, of the products' rate", arithmetic.name);
        self.bars.push((text, prompt / products, 0.8));
    }
}

/// What to measure.
struct Choice {
    shape: Shape,
    /// Beside one.
    threads: usize,
    turns: usize,
    isa: Isa,
    arithmetic: Option<String>,
    part: Option<String>,
}

impl Choice {
    fn from_arguments() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let mut choice =
            Self { shape: LLAMA_1B, threads, turns: 5, isa: Isa::detect(), arithmetic: None, part: None };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let value = arguments.next().unwrap_or_default();
            let number = || value.parse().expect("a number");
            match name.as_str() {
                "--layers" => choice.shape.layers = number(),
                "--threads" => choice.threads = number(),
                "--turns" => choice.turns = number(),
                "--isa" => choice.isa = value.parse().expect("an instruction set"),
                "--arithmetic" => choice.arithmetic = Some(value),
                "--part" => choice.part = Some(value),
                _ => panic!("cannot take {name}"),
            }
        }
        choice
    }

    fn takes(&self, part: &str, arithmetic: &Arithmetic) -> bool {
        let chosen = |choice: &Option<String>, name| choice.as_deref().is_none_or(|chosen| chosen == name);
        chosen(&self.part, part) && chosen(&self.arithmetic, arithmetic.name)
    }
}

fn main() {
    let choice = Choice::from_arguments();
    let Choice { shape, threads, turns, isa, .. } = choice;
    let counts = if threads == 1 { vec![1] } else { vec![1, threads] };
    let mut bench = Bench { isa, shape, turns, memory: Memory::new(FAR), ways: ways(), bars: Vec::new() };
    println!("{isa}, the shape of Llama 3.2 1B with {} layers", shape.layers);
    for arithmetic in ARITHMETICS.iter().filter(|arithmetic| choice.takes("products", arithmetic)) {
        for &threads in &counts {
            bench.products(threads, arithmetic);
        }
    }
    let made = Made::new(&shape);
    for arithmetic in &ARITHMETICS {
        let [model, prompt] = ["model", "prompt"].map(|part| choice.takes(part, arithmetic));
        if !model && !prompt {
            continue;
        }
        let files: Vec<String> = arithmetic.files.iter().map(|&file| file.to_owned()).collect();
        let checkpoint = Checkpoint::open(&files, &made).unwrap();
        let weights = Arc::new(Weights::load(&checkpoint, isa).unwrap());
        for &count in counts.iter().filter(|_| model) {
            bench.model(count, count == threads, &weights, arithmetic);
        }
        if prompt {
            bench.prompt(threads, &weights, arithmetic);
        }
    }
    println!();
    for (what, got, least) in &bench.bars {
        println!("{got:6.2} {} {least:3.1}  {what}", if got >= least { ">=" } else { "MISSES" });
    }
    std::process::exit(i32::from(bench.bars.iter().any(|(_, got, least)| got < least)));
}
