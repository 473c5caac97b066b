//! Times models for `scripts/bench.py`, which writes a request a line and reads an answer a line, so that both runtimes take turns
//! within one run: `MODEL INPUTS THREADS` loads (answer: `ready`, or `error WHY`), `run N` runs the loaded model N times (answer: the
//! nanoseconds of each), `out` gives the first output's values.
//!
//! INPUTS is a file of one input: rank, sizes (u64), float32 values, little-endian.
#![allow(clippy::print_stdout)]

use std::io::{BufRead as _, Write as _};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use hallmark_engine::{Options, Program};
use hallmark_model::onnx::{self, Limits, NoExternalData};
use hallmark_receipt::Tensor;

fn load(model: &str, inputs: &str, threads: &str) -> anyhow::Result<(Program, Vec<Tensor>)> {
    let graph = onnx::import(&std::fs::read(model)?, &NoExternalData, &Limits::default())?;
    let options = Options { threads: threads.parse()?, ..Options::default() };
    let program = Program::compile(Arc::new(graph), options)?;
    let bytes = std::fs::read(inputs)?;
    let words = bytes.as_chunks::<8>().0;
    let word = |i: usize| words.get(i).map(|b| u64::from_le_bytes(*b)).context("inputs too short");
    let rank = usize::try_from(word(0)?)?;
    let shape = (1..=rank).map(|i| Ok(usize::try_from(word(i)?)?)).collect::<anyhow::Result<Vec<usize>>>()?;
    let values = bytes.get(8 * (rank + 1)..).context("inputs too short")?;
    let values = values.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    Ok((program, vec![Tensor::from_vec(shape, values)?]))
}

fn main() -> anyhow::Result<()> {
    let mut loaded: Option<(Program, Vec<Tensor>)> = None;
    let mut stdout = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        match (words.as_slice(), &loaded) {
            (["run", n], Some((program, inputs))) => {
                let mut times = Vec::new();
                for _ in 0..n.parse::<usize>()? {
                    let start = Instant::now();
                    let outputs = Program::run(program, inputs)?;
                    times.push(start.elapsed().as_nanos().to_string());
                    drop(outputs);
                }
                writeln!(stdout, "{}", times.join(" "))?;
            }
            (["out"], Some((program, inputs))) => {
                let outputs = Program::run(program, inputs)?;
                let values = outputs.first().and_then(|t| t.as_slice::<f32>()).unwrap_or_default();
                let text: Vec<String> = values.iter().map(f32::to_string).collect();
                writeln!(stdout, "{}", text.join(" "))?;
            }
            ([model, inputs, threads], _) => match load(model, inputs, threads) {
                Ok(pair) => {
                    loaded = Some(pair);
                    writeln!(stdout, "ready")?;
                }
                Err(error) => writeln!(stdout, "error {error:#}")?,
            },
            _ => writeln!(stdout, "error no model, or no such request: {line}")?,
        }
        stdout.flush()?;
    }
    Ok(())
}
