//! Times whole proofs, one thread: from quantised input to proof bytes, witness and work included.
//!
//! `cargo run --release --features prove --example prove_bench -- [NETWORK ..] [--requests N] [--rounds N] [--high] [--stages]`
//!
//! A network is the name of one below, of random weights and inputs (all, where none is given), or a folder with `quantised.onnx` and
//! `rows.bin`: rows of its one input, little-endian. One JSON object a network and line: medians in milliseconds, bytes, bits, and the
//! most memory that the process held.

use std::path::Path;
use std::time::{Duration, Instant};

use hallmark_model::graph::{Dim, Graph};
use hallmark_model::onnx::{Limits, NoExternalData, import};
use hallmark_model::skeleton::Skeleton;
use hallmark_proof::pcs::{Security, Whir};
use hallmark_proof::program::{Opened, Program};
use hallmark_proof::protocol::prove::{Committed, Stage, prove};
use hallmark_receipt::commit::decode_data;
use hallmark_receipt::{Digest, Tensor, tensor};

#[path = "../src/tests/models.rs"]
#[allow(dead_code, clippy::expect_used)] // Graphs of the crate's own making.
mod models;

use models::{Random, cnn, encoder, lenet, mlp};

/// A network at hand and the requests to it.
struct Case {
    name: String,
    graph: Graph,
    requests: Vec<Vec<Tensor>>,
}

/// Networks of random weights by name, each with the requests of one proof.
type Row = (&'static str, fn() -> Graph, usize);
const ROWS: &[Row] = &[
    ("mlp", || mlp(1, &[64, 64, 32, 10]), 1),
    ("lenet", || lenet(1, 28), 1),
    ("dense", || mlp(1, &[1024, 1024, 1024, 1024, 1024]), 1),
    ("cnn", || cnn(1), 1),
    ("encoder", || encoder(1, [32, 128, 4], 4), 1),
    ("batch", || mlp(1, &[1024, 1024, 1024, 1024, 1024]), 64),
];

impl Case {
    fn named((name, graph, requests): &Row) -> Result<Self, Failure> {
        let graph = graph();
        let (_, shape) = input(&graph)?;
        let mut random = Random(7);
        let requests = (0..*requests).map(|_| vec![random.float(&shape)]).collect();
        Ok(Self { name: (*name).to_owned(), graph, requests })
    }

    fn folder(folder: &Path, requests: usize) -> Result<Self, Failure> {
        let graph =
            import(&std::fs::read(folder.join("quantised.onnx"))?, &NoExternalData, &Limits::default())?;
        let (dtype, shape) = input(&graph)?;
        let elements = tensor::count(&shape).ok_or("the input is too large")?;
        let size = elements * dtype.size().ok_or("the input is text")?;
        let rows = std::fs::read(folder.join("rows.bin"))?;
        let row = |bytes| Ok(vec![Tensor::new(shape.clone(), decode_data(dtype, elements, bytes)?)?]);
        let requests =
            rows.chunks_exact(size).take(requests).map(row).collect::<Result<Vec<_>, Failure>>()?;
        let name = folder.file_name().and_then(|name| name.to_str()).ok_or("a folder without a name")?;
        Ok(Self { name: name.to_owned(), graph, requests })
    }
}

/// Type and shape of a graph's one input; free axes are 1.
fn input(graph: &Graph) -> Result<(hallmark_receipt::DType, Vec<usize>), Failure> {
    let [input] = *graph.inputs else { return Err("not one input".into()) };
    let info = &graph.values.get(input.0).ok_or("no input")?.info;
    let size = |dim: &Dim| if let Dim::Known(n) = dim { *n } else { 1 };
    let shape = info.shape.iter().flatten().map(size).collect();
    Ok((info.dtype.ok_or("an input without a type")?, shape))
}

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let (mut wanted, mut rounds, mut requests) = (Vec::new(), 5, 1);
    let (mut security, mut stages) = (Security::Standard, false);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = || args.next().and_then(|n| n.parse().ok()).ok_or(format!("{arg} needs a number"));
        match arg.as_str() {
            "--rounds" => rounds = number()?,
            "--requests" => requests = number()?,
            "--high" => security = Security::High,
            "--stages" => stages = true,
            _ => wanted.push(arg),
        }
    }
    if wanted.is_empty() {
        wanted.extend(ROWS.iter().map(|row| row.0.to_owned()));
    }
    for name in &wanted {
        let case = match ROWS.iter().find(|row| row.0 == name.as_str()) {
            Some(row) => Case::named(row)?,
            None => Case::folder(Path::new(name), requests)?,
        };
        bench(&case, rounds, &Whir::new(security), stages)?;
    }
    Ok(())
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e3
}

fn bench(case: &Case, rounds: usize, whir: &Whir, stages: bool) -> Result<(), Failure> {
    let Case { name, graph, requests: inputs } = case;
    let parameters: usize = graph.constants.values().map(|tensor| tensor.len()).sum();
    let program = Program::new(&Skeleton::of(graph)?)?;
    let placed = program.place_for(&inputs[0])?;
    let circuit = placed.circuit(inputs.len())?;
    let start = Instant::now();
    let model = Committed::new(whir, &circuit, graph)?;
    let commit = start.elapsed().as_secs_f64() * 1e3;
    let claims: Vec<Digest> = (0..inputs.len()).map(|i| Digest([i as u8; 32])).collect();
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
        "{{\"model\":\"{name}\",\"parameters\":{parameters},\"requests\":{},\"commit_ms\":{commit:.1},\"prove_ms\":{:.1},\"verify_ms\":{:.2},\"proof_kib\":{:.1},\"bits\":{bits:.1},\"peak_mb\":{}}}",
        inputs.len(),
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
