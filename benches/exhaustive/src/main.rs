//! Compares the elementary functions of `hallmark-model` with CORE-MATH.
//!
//! ```text
//! cargo run --release --manifest-path benches/exhaustive/Cargo.toml -- [--threads N] [--quick | --bench | --vectors] [FUNCTION...]
//! ```
//!
//! For each function, all 2^32 inputs go through CORE-MATH, our scalar function, and our loop over slices, where that has a vector
//! form compiled for the baseline, for AVX2 with FMA and for AVX-512 (as far as the processor has them). Any difference is printed; the exit code is 1 if there
//! is one. `pow` and `fma` (the emulated one) are compared on special values and on random inputs of several kinds. `--quick` takes the fastest loop only; `--bench` times instead; `--vectors` prints
//! `vectors/elementary.txt`.

use std::{io::Write, process::ExitCode, time::Instant};

use hallmark_model::numeric::elementary as ours;

mod bench;
mod pairs;
mod variants;
mod vectors;

use variants::Variant;

/// A function under test: its name, the oracle, ours, and our slice loops.
pub struct Row {
    name: &'static str,
    oracle: fn(f32) -> f32,
    scalar: fn(f32) -> f32,
    slices: Vec<(&'static str, Variant)>,
}

macro_rules! rows {
    ($($name:ident $oracle:ident;)+) => {
        vec![$(Row {
            name: stringify!($name),
            oracle: core_math::$oracle,
            scalar: ours::$name,
            slices: variants::$name(),
        }),+]
    };
}

fn rows() -> Vec<Row> {
    rows! {
        exp expf; exp2 exp2f; expm1 expm1f; log logf; log2 log2f; log10 log10f; log1p log1pf; sin sinf; cos cosf; tan tanf;
        asin asinf; acos acosf; atan atanf; sinh sinhf; cosh coshf; tanh tanhf; asinh asinhf; acosh acoshf; atanh atanhf;
        erf erff; erfc erfcf; rsqrt rsqrtf;
    }
}

/// The second way to compute `exp`.
fn exp_fused() -> Row {
    let slices = variants::exp_fused();
    Row { name: "exp_fused", oracle: core_math::expf, scalar: ours::lanes::exp::<true>, slices }
}

/// CORE-MATH's float64 function of that name.
fn f64_oracle(name: &str) -> fn(f64) -> f64 {
    match name {
        "exp" => core_math::exp,
        "exp2" => core_math::exp2,
        "expm1" => core_math::expm1,
        "log" => core_math::log,
        "log2" => core_math::log2,
        "log10" => core_math::log10,
        "log1p" => core_math::log1p,
        "sin" => core_math::sin,
        "cos" => core_math::cos,
        "tan" => core_math::tan,
        "asin" => core_math::asin,
        "acos" => core_math::acos,
        "atan" => core_math::atan,
        "sinh" => core_math::sinh,
        "cosh" => core_math::cosh,
        "tanh" => core_math::tanh,
        "asinh" => core_math::asinh,
        "acosh" => core_math::acosh,
        "atanh" => core_math::atanh,
        "erf" => core_math::erf,
        "erfc" => core_math::erfc,
        "rsqrt" => core_math::rsqrt,
        _ => panic!("no float64 oracle for {name}"),
    }
}

/// The bits of `x`, or of the canonical NaN.
fn canonical(x: f32) -> u32 {
    if x.is_nan() { 0x7fc0_0000 } else { x.to_bits() }
}

/// Inputs at a time.
const CHUNK: usize = 4096;

/// The differences found: how many for each variant, and the first of them.
#[derive(Clone, Default)]
struct Found {
    counts: Vec<(&'static str, u64)>,
    first: Vec<(&'static str, u32, u32, u32)>,
}

impl Found {
    fn compare(&mut self, variant: &'static str, start: u32, want: &[u32], got: &[f32]) {
        let differ = want.iter().zip(got).map(|(w, g)| u64::from(*w != g.to_bits())).sum::<u64>();
        match self.counts.iter_mut().find(|(name, _)| *name == variant) {
            Some((_, count)) => *count += differ,
            None => self.counts.push((variant, differ)),
        }
        if differ > 0 && self.first.len() < 512 {
            for (i, (w, g)) in want.iter().zip(got).enumerate() {
                if *w != g.to_bits() {
                    self.first.push((variant, start + i as u32, *w, g.to_bits()));
                }
            }
        }
    }

    fn merge(&mut self, other: Found) {
        for (variant, count) in other.counts {
            match self.counts.iter_mut().find(|(name, _)| *name == variant) {
                Some((_, sum)) => *sum += count,
                None => self.counts.push((variant, count)),
            }
        }
        self.first.extend(other.first);
    }
}

/// The oracle's code is VEX-encoded and ours, compiled for the baseline, is not: with upper halves of vector registers in use (a new
/// thread inherits them) every change between the two costs some Intel processors about seventy cycles.
fn clear_upper_halves() {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx") {
        // SAFETY: the processor has the instruction.
        unsafe { std::arch::x86_64::_mm256_zeroupper() };
    }
}

/// Compares chunks `thread`, `thread + threads`, ...
fn sweep(row: &Row, quick: bool, thread: u64, threads: u64) -> Found {
    let mut found = Found::default();
    let (mut x, mut want, mut got) = (vec![0.0; CHUNK], vec![0; CHUNK], vec![0.0; CHUNK]);
    let mut chunk = thread;
    while chunk < (1 << 32) / CHUNK as u64 {
        clear_upper_halves();
        let start = (chunk * CHUNK as u64) as u32;
        for (i, (x, want)) in x.iter_mut().zip(&mut want).enumerate() {
            *x = f32::from_bits(start + i as u32);
            *want = canonical((row.oracle)(*x));
        }
        if !quick {
            for (x, got) in x.iter().zip(&mut got) {
                *got = (row.scalar)(*x);
            }
            found.compare("scalar", start, &want, &got);
        }
        for (name, slice) in row.slices.iter().skip(if quick { row.slices.len() - 1 } else { 0 }) {
            got.fill(f32::from_bits(0x1234_5678));
            slice(&x, &mut got);
            found.compare(name, start, &want, &got);
        }
        chunk += threads;
    }
    found
}

fn main() -> ExitCode {
    let mut threads = 1;
    let mut names = Vec::new();
    let (mut quick, mut timing) = (false, false);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--threads" => threads = args.next().and_then(|n| n.parse().ok()).unwrap_or(1),
            "--quick" => quick = true,
            "--vectors" => {
                vectors::print();
                return ExitCode::SUCCESS;
            }
            "--bench" => timing = true,
            _ => names.push(arg),
        }
    }
    let chosen = rows()
        .into_iter()
        .chain([exp_fused()])
        .filter(|row| names.is_empty() || names.iter().any(|name| name == row.name));
    let wanted = |name: &str| names.is_empty() || names.iter().any(|n| n == name);
    if timing {
        chosen.for_each(|row| bench::run(&row));
        if wanted("pow") {
            bench::pow();
        }
        if wanted("fma") {
            bench::fma();
        }
        return ExitCode::SUCCESS;
    }
    let mut clean = true;
    // Random pairs of each kind.
    let count = if quick { 1_000_000 } else { 10_000_000 };
    if wanted("pow") {
        clean &= pairs::pow(count) == 0;
    }
    if wanted("fma") {
        clean &= pairs::fma(count) == 0;
    }
    for row in chosen {
        let begin = Instant::now();
        let mut found = Found::default();
        std::thread::scope(|scope| {
            let row = &row;
            let workers: Vec<_> =
                (0..threads).map(|t| scope.spawn(move || sweep(row, quick, t, threads))).collect();
            for worker in workers {
                found.merge(worker.join().expect("a worker does not panic"));
            }
        });
        let counts: Vec<_> = found.counts.iter().map(|(variant, n)| format!("{variant} {n}")).collect();
        println!(
            "{:9} 4294967296 inputs, differences: {}  ({:.0} s)",
            row.name,
            counts.join(", "),
            begin.elapsed().as_secs_f64()
        );
        for (variant, x, want, got) in &found.first {
            println!("    {variant}: {x:#010x} want {want:#010x} got {got:#010x}");
        }
        std::io::stdout().flush().ok();
        clean &= found.first.is_empty();
    }
    if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
