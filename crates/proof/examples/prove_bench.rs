//! Times whole proofs, one thread: from quantised input to proof bytes, witness and work included.
//!
//! `cargo run --release --features prove --example prove_bench -- [MODEL ..] [--rounds N] [--high] [--stages]`
//!
//! Prints one JSON object a model and line: medians in milliseconds, bytes, bits, and the most memory that the process held.

use std::time::{Duration, Instant};

use hallmark_model::graph::Graph;
use hallmark_model::skeleton::Skeleton;
use hallmark_proof::pcs::{Security, Whir};
use hallmark_proof::program::{Opened, Program};
use hallmark_proof::protocol::prove::{Committed, Stage, prove};
use hallmark_receipt::{Digest, Tensor};

#[path = "../src/tests/models.rs"]
#[allow(dead_code, clippy::expect_used)] // Graphs of the crate's own making.
mod models;

use models::{Random, cnn, encoder, lenet, mlp};

/// A row of the table.
struct Row {
    name: &'static str,
    graph: fn() -> Graph,
    requests: usize,
}

const ROWS: &[Row] = &[
    Row { name: "mlp", graph: || mlp(1, &[64, 64, 32, 10]), requests: 1 },
    Row { name: "lenet", graph: || lenet(1, 28), requests: 1 },
    Row { name: "dense", graph: || mlp(1, &[1024, 1024, 1024, 1024, 1024]), requests: 1 },
    Row { name: "cnn", graph: || cnn(1), requests: 1 },
    Row { name: "encoder", graph: || encoder(1, [32, 128, 4], 4), requests: 1 },
    Row { name: "batch", graph: || mlp(1, &[1024, 1024, 1024, 1024, 1024]), requests: 64 },
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let flag = |name: &str| args.iter().any(|arg| arg == name);
    let rounds = args.iter().position(|arg| arg == "--rounds").and_then(|at| args.get(at + 1)?.parse().ok());
    let security = if flag("--high") { Security::High } else { Security::Standard };
    let wanted: Vec<&String> =
        args.iter().filter(|arg| ROWS.iter().any(|row| row.name == arg.as_str())).collect();
    for row in ROWS.iter().filter(|row| wanted.is_empty() || wanted.iter().any(|name| *name == row.name)) {
        bench(row, rounds.unwrap_or(5), &Whir::new(security), flag("--stages"))?;
    }
    Ok(())
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e3
}

fn bench(row: &Row, rounds: usize, whir: &Whir, stages: bool) -> Result<(), Box<dyn std::error::Error>> {
    let graph = (row.graph)();
    let parameters: usize = graph.constants.values().map(|tensor| tensor.len()).sum();
    let program = Program::new(&Skeleton::of(&graph)?)?;
    let shape = graph.values.first().and_then(|value| value.info.shape.as_ref()).ok_or("no input")?;
    let shape: Vec<usize> =
        shape.iter().map(|dim| if let hallmark_model::graph::Dim::Known(n) = dim { *n } else { 1 }).collect();
    let mut random = Random(7);
    let inputs: Vec<Vec<Tensor>> = (0..row.requests).map(|_| vec![random.float(&shape)]).collect();
    let placed = program.place_for(&inputs[0])?;
    let circuit = placed.circuit(row.requests)?;
    let start = Instant::now();
    let model = Committed::new(whir, &circuit, &graph)?;
    let commit = start.elapsed().as_secs_f64() * 1e3;
    let claims: Vec<Digest> = (0..row.requests).map(|i| Digest([i as u8; 32])).collect();
    let statement = placed.statement(model.root, claims);
    let core = inputs.iter().map(|x| placed.before(x)).collect::<Result<Vec<_>, _>>()?;
    let (mut proving, mut verifying) = (Vec::new(), Vec::new());
    let mut spent: Vec<(Stage, Duration)> = Vec::new();
    let (mut bytes, mut bits) = (0, 0.0);
    for _ in 0..rounds.max(1) {
        let mut began: Option<(Stage, Instant)> = None;
        let mut end = |next: Option<Stage>| {
            if let Some((stage, at)) = began.take() {
                match spent.iter_mut().find(|(other, _)| *other == stage) {
                    Some((_, total)) => *total += at.elapsed(),
                    None => spent.push((stage, at.elapsed())),
                }
            }
            began = next.map(|stage| (stage, Instant::now()));
        };
        let start = Instant::now();
        let (proof, witness) =
            prove(whir, &circuit, &statement, &model, &core, &mut |stage| end(Some(stage)))?;
        end(None);
        proving.push(start.elapsed());
        bytes = proof.len();
        let integers = witness.outputs(&circuit, 0);
        let outputs = placed.after(&inputs[0], &placed.integers(&integers)?)?;
        let opened = Opened { index: 0, inputs: &inputs[0], outputs: &outputs, integers: &integers };
        let start = Instant::now();
        // The verifier starts from the skeleton, as it does with a bundle.
        let fresh = program.place_for(&inputs[0])?;
        bits = fresh.check(whir, &statement, opened, &proof, 100)?.composed();
        verifying.push(start.elapsed());
    }
    println!(
        "{{\"model\":\"{}\",\"parameters\":{parameters},\"requests\":{},\"commit_ms\":{commit:.1},\"prove_ms\":{:.1},\"verify_ms\":{:.2},\"proof_kib\":{:.1},\"bits\":{bits:.1},\"peak_mb\":{}}}",
        row.name,
        row.requests,
        median(&mut proving),
        median(&mut verifying),
        bytes as f64 / 1024.0,
        peak().unwrap_or(0) / 1024,
    );
    if stages {
        for (stage, total) in spent {
            println!("    {stage:?} {:.1} ms", total.as_secs_f64() * 1e3 / rounds.max(1) as f64);
        }
    }
    Ok(())
}

/// The most memory that this process has held, in KiB.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.trim().parse().ok())
}
