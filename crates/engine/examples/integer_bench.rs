//! Speed of quantised products beside float ones: `cargo run --release -p hallmark-engine --example integer_bench [isa] [threads]`.
#![allow(clippy::print_stdout)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use hallmark_engine::{Isa, Options, Program};
use hallmark_model::graph::{Attr, Dim, TypeInfo};
use hallmark_model::onnx::{Limits, NoExternalData, Writer, import};
use hallmark_model::ops::Domain;
use hallmark_model::quantise::{ByReference, quantise};
use hallmark_receipt::{DType, Tensor};

/// One layer: the input's shape, the weights' shape, multiply-adds.
struct Layer {
    input: Vec<usize>,
    weights: Vec<usize>,
    work: usize,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let isa: Isa = args.next().map_or(Ok(Isa::detect()), |name| name.parse())?;
    let threads = args.next().map_or(Ok(1), |n| n.parse())?;
    println!("{isa}, {threads} threads; a layer with bias and Relu, floats in and out of it");
    let conv = |channels: usize, size: usize, filters: usize, kernel: usize| Layer {
        input: vec![1, channels, size, size],
        weights: vec![filters, channels, kernel, kernel],
        work: channels * size * size * filters * kernel * kernel,
    };
    let dense =
        |m: usize, k: usize, n: usize| Layer { input: vec![m, k], weights: vec![k, n], work: m * k * n };
    let layers = [
        dense(1, 1024, 1024),
        dense(64, 512, 512),
        dense(256, 1024, 1024),
        conv(16, 32, 32, 3),
        conv(64, 56, 64, 3),
        conv(64, 56, 256, 1),
        conv(256, 14, 256, 3),
    ];
    for Layer { input, weights, work } in layers {
        let float = graph(&input, &weights)?;
        let x = noise(&input, 1)?;
        let quantised = quantise(&float, &mut ByReference { samples: vec![vec![x.clone()]] })?.graph;
        let options = Options { threads, isa, ..Options::default() };
        let [float, quantised] =
            [float, quantised].map(|graph| Program::compile(Arc::new(graph), options.clone()));
        let (float, quantised) = (least(&float?, &x)?, least(&quantised?, &x)?);
        let rate = |seconds: f64| 1e-9 * work as f64 / seconds;
        println!(
            "{:<18} {:<18} float {:>9.1} us {:>6.1} GMAC/s   int8 {:>9.1} us {:>6.1} GMAC/s",
            format!("{input:?}"),
            format!("{weights:?}"),
            float * 1e6,
            rate(float),
            quantised * 1e6,
            rate(quantised)
        );
    }
    Ok(())
}

fn noise(shape: &[usize], seed: usize) -> Result<Tensor, Box<dyn std::error::Error>> {
    let n = shape.iter().product::<usize>();
    let number = |i: usize| ((i.wrapping_mul(2_654_435_761) ^ seed) % 2003) as f32 / 1001.0 - 1.0;
    Ok(Tensor::from_vec(shape.to_vec(), (0..n).map(number).collect())?)
}

/// The layer, then the sum of each row: what quantises is the layer alone.
fn graph(
    input: &[usize],
    weights: &[usize],
) -> Result<hallmark_model::graph::Graph, Box<dyn std::error::Error>> {
    let mut writer = Writer::default();
    let shape = Some(input.iter().copied().map(Dim::Known).collect());
    writer.input("x", &TypeInfo { dtype: Some(DType::F32), shape });
    writer.constant("w", &noise(weights, 7)?);
    let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    if let [filters, _, kernel, _] = weights {
        writer.constant("b", &noise(&[*filters], 9)?);
        let pads = ("pads".to_owned(), Attr::Ints(vec![i64::try_from(kernel / 2)?; 4]));
        writer.node(Domain::Onnx, "Conv", names(&["x", "w", "b"]), names(&["v"]), [pads]);
    } else {
        writer.constant("b", &noise(&weights[1..], 9)?);
        writer.node(Domain::Onnx, "Gemm", names(&["x", "w", "b"]), names(&["v"]), []);
    }
    writer.node(Domain::Onnx, "Relu", names(&["v"]), names(&["y"]), []);
    writer.output("y", &TypeInfo::default());
    Ok(import(&writer.finish(21), &NoExternalData, &Limits::default())?)
}

/// The least time of one run, over about half a second.
fn least(program: &Program, x: &Tensor) -> Result<f64, Box<dyn std::error::Error>> {
    let (start, mut least) = (Instant::now(), f64::INFINITY);
    while start.elapsed() < Duration::from_millis(500) {
        let begin = Instant::now();
        program.run(std::slice::from_ref(x))?;
        least = least.min(begin.elapsed().as_secs_f64());
    }
    Ok(least)
}
