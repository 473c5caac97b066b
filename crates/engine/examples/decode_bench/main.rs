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

/// What each of `count` measurements gives, `turns` times, all taken in turns.
fn in_turns(turns: usize, count: usize, mut measure: impl FnMut(usize) -> f64) -> Vec<Vec<f64>> {
    let mut all = vec![Vec::new(); count];
    for _ in 0..turns {
        for (i, values) in all.iter_mut().enumerate() {
            values.push(measure(i));
        }
    }
    all
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The median of what each turn's `values` are of its `of`: a host that slows down for a while slows both.
fn median_ratio(values: &[f64], of: &[f64]) -> f64 {
    median(&values.iter().zip(of).map(|(value, of)| value / of).collect::<Vec<_>>())
}

impl Bench {
    /// Bytes a second of a loop.
    fn read(&self, pool: &Pool, way: &Way) -> f64 {
        let start = Instant::now();
        self.memory.read(pool, way);
        self.memory.bytes() as f64 / start.elapsed().as_secs_f64()
    }

    /// The loop of the best median. Its rate is measured anew beside what is compared with it: the greatest of several medians is lifted by
    /// noise.
    fn best(&self, pool: &Pool, turns: usize) -> (&Way, Vec<f64>) {
        let rates = in_turns(turns, self.ways.len(), |i| self.read(pool, &self.ways[i]));
        let rates: Vec<f64> = rates.iter().map(|rates| median(rates)).collect();
        let best = (0..rates.len()).max_by(|&a, &b| rates[a].total_cmp(&rates[b])).unwrap();
        (&self.ways[best], rates)
    }

    /// Loops and products alone.
    fn products(&mut self, threads: usize, arithmetic: &Arithmetic) {
        let (pool, name) = (Pool::new(threads), arithmetic.name);
        let cx = Ctx::new(self.isa, &pool);
        let mut layers = Layers::new(arithmetic, self.isa, &self.shape, FAR);
        let bytes = layers.bytes() as f64;
        let (way, loops) = self.best(&pool, self.turns);
        // Each measurement comes after one like it, which leaves a large cache as decoding leaves it: full of the same memory.
        let rates = in_turns(self.turns, 2 * ROWS.len(), |i| {
            if i % 2 == 0 {
                self.read(&pool, way);
                self.read(&pool, way)
            } else {
                layers.run(&cx, 1);
                bytes / layers.run(&cx, ROWS[i / 2])
            }
        });
        println!("\n{:44} {:>8} {:>8}", format!("products, {name}, {threads} threads"), "GB/s", "of best");
        for (other, rate) in self.ways.iter().zip(loops) {
            println!("  {:42} {:8.1}", other.name, rate / 1e9);
        }
        println!("  {:42} {:8.1} {:8.2}", "the best, again", median(&rates[0]) / 1e9, 1.0);
        let mut ratios = Vec::new();
        for (m, pair) in ROWS.iter().zip(rates.chunks_exact(2)) {
            ratios.push(median_ratio(&pair[1], &pair[0]));
            let (text, rate) = (format!("product, rows: {m}"), median(&pair[1]));
            println!("  {text:42} {:8.1} {:8.2}", rate / 1e9, ratios[ratios.len() - 1]);
        }
        self.bars.push((
            format!("{name}, {threads} threads: product of 1 row, of the best read"),
            ratios[0],
            0.9,
        ));
    }

    /// A whole model: batches, and with all threads also arrivals.
    fn model(&mut self, threads: usize, all: bool, weights: &Arc<Weights>, arithmetic: &Arithmetic) {
        let pool = Pool::new(threads);
        let mut runner = Runner::new(weights, threads);
        let turns = self.turns.min(3);
        let (way, _) = self.best(&pool, turns);
        // The read, batches, and arrivals.
        let rates = in_turns(turns, 1 + ROWS.len() + usize::from(all), |i| match i {
            0 => {
                self.read(&pool, way);
                self.read(&pool, way)
            }
            i if i <= ROWS.len() => runner.batch(ROWS[i - 1] as u32, STEPS),
            _ => runner.staggered(GAP),
        });
        let (read, batches) = (&rates[0], &rates[1..=ROWS.len()]);
        let (alone, eight) = (&batches[0], &batches[ROWS.len() - 1]);
        let bytes = weights.bytes_per_step() as f64;
        let title = format!("whole model, {}, {threads} threads", arithmetic.name);
        println!("\n{title:44} {:>8} {:>8} {:>8}", "tokens/s", "GB/s", "of best");
        println!("  {:42} {:8} {:8.1} {:8.2}", "best read", "", median(read) / 1e9, 1.0);
        for (batch, rates) in ROWS.iter().zip(batches) {
            let (text, rate, read_each) = (format!("batch of {batch}"), median(rates), bytes / *batch as f64);
            let of_best = median_ratio(rates, read) * read_each;
            println!("  {text:42} {rate:8.2} {:8.1} {of_best:8.2}", rate * read_each / 1e9);
        }
        let mut bars = vec![
            ("batch of 1, of the best read".into(), median_ratio(alone, read) * bytes, 0.8),
            ("batch of 8, of the batch of 1".into(), median_ratio(eight, alone), 4.0),
        ];
        if let Some(arrivals) = rates.get(1 + ROWS.len()) {
            let text = format!("8 at a time, one joins every {GAP} steps");
            println!("  {text:42} {:8.2}", median(arrivals));
            bars.push(("8 with arrivals, of the batch of 8".to_owned(), median_ratio(arrivals, eight), 0.8));
        }
        let named =
            |(text, got, least)| (format!("{}, {threads} threads: {text}", arithmetic.name), got, least);
        self.bars.extend(bars.into_iter().map(named));
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
        let rates = in_turns(self.turns, 2, |i| match i {
            0 => layer_operations / layer.run(&cx, PROMPT),
            _ => operations / runner.prompt(PROMPT as u32),
        });
        let (products, prompt) = (median(&rates[0]), median(&rates[1]));
        println!("\nprompt of {PROMPT}, {}, {threads} threads", arithmetic.name);
        println!("  {:42} {:8.0} G operations/s", "products of a layer", products / 1e9);
        let tokens = PROMPT as f64 * prompt / operations;
        println!("  {:42} {:8.0} G operations/s, {tokens:.1} tokens/s", "whole model", prompt / 1e9);
        let text = format!("{}, {threads} threads: prompt, of the products' rate", arithmetic.name);
        self.bars.push((text, median_ratio(&rates[1], &rates[0]), 0.8));
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
