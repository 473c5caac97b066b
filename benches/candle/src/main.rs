//! One model with pseudo-random weights (the shape of SmolLM-135M, float32) in our engine and in candle, in turns.
//!
//!     RAYON_NUM_THREADS=2 cargo run --release --manifest-path benches/candle/Cargo.toml
//!
//! Both read the same safetensors, take the same prompt and decode greedily at batch 1, with as many threads as `RAYON_NUM_THREADS` says.
//! Prints medians and exits 1 where we are slower, 2 where the answers begin differently.

#[allow(dead_code)] // It serves another tool too.
#[path = "../../../crates/engine/examples/decode_bench/shape.rs"]
mod shape;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::{D, DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::llama::{Cache, Config, Llama, LlamaConfig};
use hallmark_engine::Isa;
use hallmark_engine::decoder::{Decoder, Options, Weights};
use hallmark_model::llm::{Checkpoint, Parameters};
use hallmark_model::onnx::ExternalData;
use shape::{Made, Shape};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const SMOL_135M: Shape =
    Shape { hidden: 576, layers: 30, heads: 9, kv_heads: 3, intermediate: 1536, vocabulary: 49_152 };
const FILES: [&str; 2] = ["config.json", "model.safetensors"];
const PROMPT: usize = 256;
const ANSWER: usize = 65;
const ROUNDS: usize = 5;

/// An answer, with the seconds that the prompt and its first token took, and all other tokens.
struct Run {
    tokens: Vec<u32>,
    prompt: f64,
    rest: f64,
}

struct Candle {
    model: Llama,
    config: Config,
}

impl Candle {
    fn open(made: &Made, folder: &Path) -> Result<Self> {
        let config = serde_json::from_str::<LlamaConfig>(&made.config)?.into_config(false);
        let path = folder.join(FILES[1]);
        write(made, &path)?;
        // SAFETY: nobody else changes the file while it is mapped.
        let weights = unsafe { VarBuilder::from_mmaped_safetensors(&[path], DType::F32, &Device::Cpu)? };
        Ok(Self { model: Llama::load(weights, &config)?, config })
    }

    fn run(&self, prompt: &[u32]) -> Result<Run> {
        let mut cache = Cache::new(true, DType::F32, &self.config, &Device::Cpu)?;
        let (mut tokens, mut times) = (Vec::new(), vec![Instant::now()]);
        let mut input = prompt.to_vec();
        let mut position = 0;
        while tokens.len() < ANSWER {
            let rows = Tensor::new(input.as_slice(), &Device::Cpu)?.unsqueeze(0)?;
            let logits = self.model.forward(&rows, position, &mut cache)?;
            position += input.len();
            let token = logits.squeeze(0)?.argmax(D::Minus1)?.to_scalar::<u32>()?;
            tokens.push(token);
            times.push(Instant::now());
            input = vec![token];
        }
        Ok(run(tokens, &times))
    }
}

fn ours(decoder: &mut Decoder, prompt: &[u32]) -> Result<Run> {
    decoder.start(prompt, Parameters::greedy(ANSWER as u32), None)?;
    let (mut tokens, mut times) = (Vec::new(), vec![Instant::now()]);
    while !decoder.is_idle() {
        for event in decoder.step() {
            tokens.extend(event.token);
            times.push(Instant::now());
        }
    }
    Ok(run(tokens, &times))
}

fn run(tokens: Vec<u32>, times: &[Instant]) -> Run {
    let spent = |from: usize, to: usize| times[to].duration_since(times[from]).as_secs_f64();
    Run { tokens, prompt: spent(0, 1), rest: spent(1, times.len() - 1) }
}

fn write(made: &Made, path: &Path) -> Result<()> {
    let (mut file, size) = (File::create(path)?, made.size(FILES[1])?);
    // Tensors come after a header, which begins with its length.
    let first = made.read(FILES[1], 0, 8)?.first_chunk().map_or(0, |bytes| 8 + u64::from_le_bytes(*bytes));
    let (mut at, mut length) = (0, first);
    while at < size {
        file.write_all(&made.read(FILES[1], at, length)?)?;
        at += length;
        length = (size - at).min(1 << 24);
    }
    Ok(())
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn main() -> Result<ExitCode> {
    let threads = candle_core::utils::get_num_threads();
    let made = Made::new(&SMOL_135M);
    let folder = tempfile::tempdir()?;
    let candle = Candle::open(&made, folder.path())?;
    let files = FILES.map(str::to_owned);
    let weights = Arc::new(Weights::load(&Checkpoint::open(&files, &made)?, Isa::detect())?);
    let options = Options { threads, share_prefixes: false, ..Options::default() };
    let mut decoder = Decoder::new(weights, &options)?;

    let prompt: Vec<u32> = (0..PROMPT).map(|i| (i * 101 % SMOL_135M.vocabulary) as u32).collect();
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        for turn in [round, round + 1] {
            // Time for the other side's threads to stop looking for work.
            std::thread::sleep(Duration::from_millis(50));
            if turn % 2 == 0 { a.push(ours(&mut decoder, &prompt)?) } else { b.push(candle.run(&prompt)?) }
        }
    }
    let agree = a[0].tokens.iter().zip(&b[0].tokens).take_while(|(a, b)| a == b).count();
    println!(
        "SmolLM-135M's shape, f32, {threads} threads; {agree} of {ANSWER} tokens agree before the first that does not"
    );
    println!("{:32} {:>10} {:>10} {:>7}", "tokens/s", "hallmark", "candle", "ratio");
    let mut slower = false;
    let rows: [(String, f64, fn(&Run) -> f64); 2] = [
        (format!("prompt of {PROMPT}"), PROMPT as f64, |run| run.prompt),
        ("decoding, batch 1".into(), (ANSWER - 1) as f64, |run| run.rest),
    ];
    for (name, tokens, time) in rows {
        let [ours, theirs] = [&a, &b].map(|runs| tokens / median(runs.iter().map(time).collect()));
        println!("{name:32} {ours:10.1} {theirs:10.1} {:7.2}", ours / theirs);
        slower |= ours < theirs;
    }
    Ok(if agree == 0 { 2.into() } else { u8::from(slower).into() })
}
