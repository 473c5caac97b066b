//! What the primitives cost on one thread: `cargo run --release --features prove --example primitives
//! [LOG...]`. The field's arithmetic is as wide as the build's instruction set: `RUSTFLAGS="-C
//! target-cpu=native"` is several times faster.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::time::Duration;

use hallmark_proof::field::{BasedVectorSpace, E, F, PrimeCharacteristicRing};
use hallmark_proof::lookup::{self, Block};
use hallmark_proof::mle;
use hallmark_proof::pcs::{Claim, Pcs, Security, Whir};
use hallmark_proof::sumcheck::{self, Instance, Table};
use hallmark_proof::transcript::Transcript;

fn words(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    }
}

fn bases(count: usize) -> Vec<F> {
    let mut word = words(1);
    (0..count).map(|_| F::from_u64(word())).collect()
}

fn elements(count: usize) -> Vec<E> {
    let mut word = words(2);
    (0..count).map(|_| E::from_basis_coefficients_fn(|_| F::from_u64(word()))).collect()
}

/// Time of this thread on a processor: other work on the machine does not blur it.
fn now() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The best of a few runs.
fn best<T>(mut run: impl FnMut() -> T) -> (T, Duration) {
    let mut least: Option<(T, Duration)> = None;
    for _ in 0..5 {
        let start = now();
        let value = run();
        let took = now() - start;
        if least.as_ref().is_none_or(|(_, best)| took < *best) {
            least = Some((value, took));
        }
        if took > Duration::from_secs(2) {
            break;
        }
    }
    least.unwrap()
}

fn rate(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64() / 1e6
}

fn commitments(logs: &[usize]) {
    println!("whir       log  bits   commit ms    open ms  verify ms   KiB");
    for security in [Security::Standard, Security::High] {
        for log in logs {
            let pcs = Whir::new(security);
            let columns = vec![bases(1 << (log - 1)), bases(1 << (log - 2)), bases(1 << (log - 2))];
            let sizes = [log - 1, log - 2, log - 2];
            let claim = |column: usize| {
                let point = elements(sizes[column]);
                Claim { column, value: mle::evaluate_base(&columns[column], &point), point }
            };
            let claims: Vec<Claim> = [0, 1, 2, 0].map(claim).to_vec();
            let ((root, data), commit) = best(|| pcs.commit(columns.clone()).unwrap());
            let (proof, open) = best(|| pcs.open(&data, &claims, &mut Transcript::new("bench")).unwrap());
            let check = || pcs.verify(&root, &sizes, &claims, &proof, &mut Transcript::new("bench")).unwrap();
            let ((), verify) = best(check);
            println!(
                "{:<10} {log:>3} {:>5.1} {:>11.2} {:>10.2} {:>10.2} {:>5.1}",
                format!("{security:?}"),
                pcs.error_bits(&sizes, claims.len()),
                commit.as_secs_f64() * 1e3,
                open.as_secs_f64() * 1e3,
                verify.as_secs_f64() * 1e3,
                proof.len() as f64 / 1024.0
            );
        }
    }
}

fn sums() {
    let log = 20;
    let tables = |kinds: &[bool]| -> Vec<Table> {
        let table =
            |ext: &bool| if *ext { Table::Ext(elements(1 << log)) } else { Table::Base(bases(1 << log)) };
        kinds.iter().map(table).collect()
    };
    for (name, kinds) in [
        ("base x base", &[false, false][..]),
        ("base x ext", &[false, true]),
        ("ext x ext", &[true, true]),
        ("base x base x ext", &[false, false, true]),
        ("ext x ext x ext", &[true, true, true]),
    ] {
        let instance = Instance { factors: tables(kinds) };
        let mut took = Duration::MAX;
        for _ in 0..5 {
            let instances = vec![instance.clone()];
            let start = now();
            sumcheck::prove(instances, &[E::ONE], &mut Transcript::new("bench")).unwrap();
            took = took.min(now() - start);
        }
        println!("sumcheck 2^{log} {name}: {:.1} M rows/s", rate(1 << log, took));
    }
}

fn fractions() {
    for log in [16, 20] {
        let block = |numerators| Block { log, numerators, denominators: elements(1 << log) };
        for (name, blocks) in [("ones", [block(None)]), ("multiplicities", [block(Some(bases(1 << log)))])] {
            let (_, took) = best(|| lookup::prove(&blocks, &mut Transcript::new("bench")).unwrap());
            println!("fractions 2^{log} {name}: {:.2} M leaves/s", rate(1 << log, took));
        }
    }
}

fn extensions() {
    let log = 22;
    let (table, point) = (bases(1 << log), elements(log));
    let (_, took) = best(|| mle::evaluate_base(&table, &point));
    println!("evaluate_base 2^{log}: {:.0} M values/s", rate(1 << log, took));
    let wide = elements(1 << 20);
    let (_, took) = best(|| mle::evaluate(&wide, &point[..20]));
    println!("evaluate 2^20: {:.0} M values/s", rate(1 << 20, took));
    let (_, took) = best(|| mle::eq_table(&point[..20]));
    println!("eq_table 2^20: {:.0} M values/s", rate(1 << 20, took));
}

fn main() {
    let logs: Vec<usize> = std::env::args().skip(1).filter_map(|log| log.parse().ok()).collect();
    extensions();
    sums();
    fractions();
    commitments(if logs.is_empty() { &[10, 12, 16, 20] } else { &logs });
}
