//! Runs the tests that `scripts/onnx-conformance.py` and `scripts/tabular-check.py` write through the scalar reference and through the engine.
//!
//! ```text
//! conformance FOLDER [--write PAGE | --check PAGE] [--test PART] [--quiet]
//! ```
//! A test passes when the reference's outputs have the expected types and shapes, lie within the test's own tolerance, and
//! the engine's bits equal the reference's. `--write` writes the page of operators (`docs/operators.md`), `--check` fails where
//! the page differs from what this run gives. Exit code 1: a wrong answer, or a page that is not current.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use hallmark_engine::{Options, Program};
use hallmark_model::onnx::{self, Limits, NoExternalData};
use hallmark_model::ops::{Domain, FAMILIES};
use hallmark_model::reference;
use hallmark_receipt::{DType, Data, Tensor};
use serde_json::Value;

/// Bytes that one result of a test may take.
const BUDGET: usize = 1 << 30;

/// Tests whose expected values are further from the exact ones than the tests' own tolerance, and the error that is granted
/// instead: numpy's float32 FFT leaves 1.9e-7 where the exact value, and ours, is 0.
const INEXACT: &[(&str, f64)] = &[("test_dft_inverse", 1e-6), ("test_dft_inverse_opset19", 1e-6)];

#[derive(Clone, Debug)]
enum Outcome {
    Passed,
    Failed(String),
    Unsupported(String),
}

#[derive(Default)]
struct Count {
    passed: usize,
    failed: usize,
    unsupported: usize,
}

struct Args {
    folder: PathBuf,
    write: Option<PathBuf>,
    check: Option<PathBuf>,
    part: String,
    quiet: bool,
}

fn main() -> ExitCode {
    let Some(args) = parse_args() else {
        eprintln!("usage: conformance FOLDER [--write PAGE | --check PAGE] [--test PART] [--quiet]");
        return ExitCode::from(2);
    };
    std::panic::set_hook(Box::new(|_| {}));
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(4)
        }
    }
}

fn parse_args() -> Option<Args> {
    let mut args =
        Args { folder: PathBuf::new(), write: None, check: None, part: String::new(), quiet: false };
    let mut given = std::env::args().skip(1);
    while let Some(arg) = given.next() {
        match arg.as_str() {
            "--write" => args.write = Some(given.next()?.into()),
            "--check" => args.check = Some(given.next()?.into()),
            "--test" => args.part = given.next()?,
            "--quiet" => args.quiet = true,
            _ if args.folder.as_os_str().is_empty() && !arg.starts_with('-') => args.folder = arg.into(),
            _ => return None,
        }
    }
    (!args.folder.as_os_str().is_empty()).then_some(args)
}

fn run(args: &Args) -> std::io::Result<bool> {
    let mut names: Vec<PathBuf> =
        std::fs::read_dir(&args.folder)?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
    names.retain(|p| p.join("case.json").is_file());
    names.retain(|p| p.file_name().is_some_and(|n| n.to_string_lossy().contains(&args.part)));
    names.sort();
    let mut counts: BTreeMap<String, Count> = BTreeMap::new();
    let mut total = Count::default();
    for path in &names {
        let (op, outcome) = isolated(path);
        let count = counts.entry(op.clone()).or_default();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        match outcome {
            Outcome::Passed => {
                count.passed += 1;
                total.passed += 1;
            }
            Outcome::Failed(why) => {
                count.failed += 1;
                total.failed += 1;
                println!("FAILED      {name} ({op}): {why}");
            }
            Outcome::Unsupported(why) => {
                count.unsupported += 1;
                total.unsupported += 1;
                if !args.quiet {
                    println!("unsupported {name} ({op}): {why}");
                }
            }
        }
    }
    for (op, c) in &counts {
        println!("{op}: {} passed, {} failed, {} unsupported", c.passed, c.failed, c.unsupported);
    }
    println!(
        "{} tests: {} passed, {} failed, {} unsupported",
        names.len(),
        total.passed,
        total.failed,
        total.unsupported
    );
    let mut good = total.failed == 0 && !names.is_empty();
    let page = page(&counts, &total);
    if let Some(path) = &args.write {
        std::fs::write(path, &page)?;
    }
    if let Some(path) = &args.check
        && std::fs::read_to_string(path)? != page
    {
        println!("{} is not current: run with --write", path.display());
        good = false;
    }
    Ok(good)
}

/// Runs one test on a thread of its own, so that a panic or a deep recursion is that test's failure only.
fn isolated(path: &Path) -> (String, Outcome) {
    let case = match std::fs::read(path.join("case.json")).map(|t| serde_json::from_slice::<Value>(&t)) {
        Ok(Ok(case)) => case,
        other => return (String::from("?"), Outcome::Failed(format!("case.json: {other:?}"))),
    };
    let op = case["op"].as_str().unwrap_or("?").to_string();
    let model = path.join("model.onnx");
    let work = move || test(&model, &case);
    let outcome = match std::thread::Builder::new().stack_size(64 << 20).spawn(work).map(|t| t.join()) {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Outcome::Failed("panicked".into()),
        Err(error) => Outcome::Failed(error.to_string()),
    };
    (op, outcome)
}

fn refused(why: String) -> Outcome {
    let outside = ["not supported", "outside the supported", "is unknown at opset", "does not take there"];
    if outside.iter().any(|part| why.contains(part)) {
        Outcome::Unsupported(why)
    } else {
        Outcome::Failed(why)
    }
}

fn test(model: &Path, case: &Value) -> Outcome {
    let bytes = match std::fs::read(model) {
        Ok(bytes) => bytes,
        Err(error) => return Outcome::Failed(error.to_string()),
    };
    let graph = match onnx::import(&bytes, &NoExternalData, &Limits::default()) {
        Ok(graph) => Arc::new(graph),
        Err(error) => return refused(format!("import: {error}")),
    };
    let options = Options { time_limit: Some(Duration::from_secs(60)), ..Options::default() };
    let program = match Program::compile(Arc::clone(&graph), options) {
        Ok(program) => program,
        Err(error) => return refused(format!("compile: {error}")),
    };
    let (rtol, mut atol) = (case["rtol"].as_f64().unwrap_or(0.0), case["atol"].as_f64().unwrap_or(0.0));
    let inexact = INEXACT.iter().find(|(name, _)| case["name"].as_str() == Some(name));
    atol = inexact.map_or(atol, |(_, error)| *error);
    for set in case["sets"].as_array().into_iter().flatten() {
        let (Some(inputs), Some(expected)) = (tensors(&set["inputs"]), tensors(&set["outputs"])) else {
            return Outcome::Failed("case.json: a tensor that does not parse".into());
        };
        let slow = match reference::run(&graph, &inputs.iter().collect::<Vec<_>>(), BUDGET) {
            Ok(outputs) => outputs,
            Err(error) => return refused(format!("reference: {error}")),
        };
        let fast = match program.run(&inputs) {
            Ok(outputs) => outputs,
            Err(error) => return refused(format!("engine: {error}")),
        };
        if slow.len() != expected.len() {
            return Outcome::Failed(format!("{} outputs, expected {}", slow.len(), expected.len()));
        }
        for (i, ((slow, fast), expected)) in slow.iter().zip(&fast).zip(&expected).enumerate() {
            if let Err(why) = close(slow, expected, rtol, atol) {
                return Outcome::Failed(format!("output {i}: {why}"));
            }
            if !slow.same_bits(fast) {
                return Outcome::Failed(format!("output {i}: the engine's bits differ from the reference's"));
            }
        }
        if fast.len() != slow.len() {
            return Outcome::Failed(format!("the engine gave {} outputs", fast.len()));
        }
    }
    // Not counted as passed: by the test's own tolerance it is not.
    if inexact.is_some() {
        return Outcome::Unsupported("the expected values are less exact than the test's tolerance".into());
    }
    Outcome::Passed
}

fn tensors(list: &Value) -> Option<Vec<Tensor>> {
    list.as_array()?.iter().map(tensor).collect()
}

fn tensor(value: &Value) -> Option<Tensor> {
    let shape: Vec<usize> =
        value["shape"].as_array()?.iter().map(|d| d.as_u64().map(|d| d as usize)).collect::<Option<_>>()?;
    if let Some(texts) = value["data"].as_array() {
        let texts = texts.iter().map(|t| t.as_str().map(str::to_string)).collect::<Option<_>>()?;
        return Tensor::new(shape, Data::Str(texts)).ok();
    }
    let text = value["data"].as_str()?.as_bytes();
    let digit = |c: u8| char::from(c).to_digit(16).map(|d| d as u8);
    let bytes: Vec<u8> =
        text.chunks(2).map(|p| Some(digit(*p.first()?)? << 4 | digit(*p.get(1)?)?)).collect::<Option<_>>()?;
    macro_rules! read {
        ($t:ty) => {
            bytes
                .chunks_exact(std::mem::size_of::<$t>())
                .map(|c| c.try_into().map(<$t>::from_le_bytes))
                .collect::<Result<Vec<$t>, _>>()
                .ok()?
        };
    }
    let data = match DType::from_name(value["dtype"].as_str()?)? {
        DType::F32 => Data::F32(read!(f32)),
        DType::F64 => Data::F64(read!(f64)),
        DType::I32 => Data::I32(read!(i32)),
        DType::I64 => Data::I64(read!(i64)),
        DType::I8 => Data::I8(read!(i8)),
        DType::U8 => Data::U8(bytes),
        DType::Bool => Data::Bool(bytes.iter().map(|&b| b != 0).collect()),
        _ => return None,
    };
    Tensor::new(shape, data).ok()
}

/// numpy's `assert_allclose`: `|got - expected| <= atol + rtol * |expected|`, NaN equal to NaN.
fn close(got: &Tensor, expected: &Tensor, rtol: f64, atol: f64) -> Result<(), String> {
    if (got.dtype(), got.shape()) != (expected.dtype(), expected.shape()) {
        return Err(format!(
            "{} {:?}, expected {} {:?}",
            got.dtype().name(),
            got.shape(),
            expected.dtype().name(),
            expected.shape()
        ));
    }
    if let (Data::Str(got), Data::Str(expected)) = (got.data(), expected.data()) {
        return if got == expected { Ok(()) } else { Err(format!("{got:?}, expected {expected:?}")) };
    }
    let (got, expected) = (numbers(got), numbers(expected));
    for (i, (g, e)) in got.iter().zip(&expected).enumerate() {
        let same = g == e || (g.is_nan() && e.is_nan()) || (g - e).abs() <= atol + rtol * e.abs();
        if !same {
            return Err(format!("element {i} is {g}, expected {e}"));
        }
    }
    Ok(())
}

fn numbers(t: &Tensor) -> Vec<f64> {
    match t.data() {
        Data::F32(v) => v.iter().map(|&x| x.into()).collect(),
        Data::F64(v) => v.clone(),
        Data::I32(v) => v.iter().map(|&x| x.into()).collect(),
        Data::I64(v) => v.iter().map(|&x| x as f64).collect(),
        Data::I8(v) => v.iter().map(|&x| x.into()).collect(),
        Data::U8(v) => v.iter().map(|&x| x.into()).collect(),
        Data::Bool(v) => v.iter().map(|&x| u8::from(x).into()).collect(),
        _ => Vec::new(),
    }
}

/// The page of operators. `tests/operators_page.rs` checks its names and versions against the table on every run.
fn page(counts: &BTreeMap<String, Count>, total: &Count) -> String {
    let mut text = format!(
        "# Operators\n\n\
         Written by `conformance --write` (an example of `hallmark-engine`); edits are lost. Versions are those of the ONNX operator sets\n\
         (\"since version\"); a model whose opset selects another one is refused by name. The counts are the operator tests of the\n\
         `onnx` package (`scripts/onnx-conformance.py` says which ones), each by its own tolerance, with equal bits from the scalar\n\
         reference and from the engine: **{} passed, {} failed, {} unsupported of {}**. Two of the unsupported ones, `test_dft_inverse` and\n\
         `test_dft_inverse_opset19`, expect 1.9e-7 where the exact value, and ours, is 0.\n\n",
        total.passed,
        total.failed,
        total.unsupported,
        total.passed + total.failed + total.unsupported
    );
    let mut left: Vec<&String> = counts.keys().collect();
    for (domain, title) in Domain::ALL.into_iter().zip(["ai.onnx", "ai.onnx.ml", "ai.hallmark"]) {
        text += &format!(
            "## {title}\n\n| operator | versions | passed | failed | unsupported |\n|---|---|---|---|---|\n"
        );
        let mut ops: Vec<_> = FAMILIES.iter().copied().flatten().filter(|op| op.domain == domain).collect();
        ops.sort_by_key(|op| op.name);
        for op in ops {
            let versions: Vec<String> = op.versions.iter().map(u32::to_string).collect();
            let row = counts.get(op.name).filter(|_| domain == Domain::Onnx);
            if row.is_some() {
                left.retain(|name| *name != op.name);
            }
            text += &format!("| {} | {} | {} |\n", op.name, versions.join(", "), cells(row));
        }
        text += "\n";
    }
    text += "## Not supported as such\n\nOperators under test that have no row of their own; ONNX defines some of them as functions of others, which the importer\nexpands.\n\n| operator | passed | failed | unsupported |\n|---|---|---|---|\n";
    for name in left {
        text += &format!("| {name} | {} |\n", cells(counts.get(name)));
    }
    text
}

fn cells(count: Option<&Count>) -> String {
    count.map_or("| |".into(), |c| format!("{} | {} | {}", c.passed, c.failed, c.unsupported))
}
