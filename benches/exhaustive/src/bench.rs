//! Times the functions on inputs between -4 and 4 (0 and 8 for logarithms), 4,096 at a time.

use std::{hint::black_box, time::Instant};

use crate::Row;

/// Prints the nanoseconds an element of each variant.
pub fn run(row: &Row) {
    let positive = row.name.starts_with("log") || row.name == "rsqrt";
    let x: Vec<f32> = (0..4096).map(|i| (i as f32 / 512.0) - if positive { 0.0 } else { 4.0 }).collect();
    let mut y = vec![0.0; x.len()];
    let mut line = format!("{:6}", row.name);
    let mut time = |name: &str, body: &mut dyn FnMut(&[f32], &mut [f32])| {
        // The best of many short runs: other work on the machine only ever adds.
        let best = (0..400)
            .map(|_| {
                let begin = Instant::now();
                body(black_box(&x), black_box(&mut y));
                begin.elapsed().as_secs_f64()
            })
            .fold(f64::INFINITY, f64::min);
        line += &format!("  {name} {:.2} ns", best * 1e9 / x.len() as f64);
    };
    time("core-math", &mut |x, y| x.iter().zip(y).for_each(|(x, y)| *y = (row.oracle)(*x)));
    time("scalar", &mut |x, y| x.iter().zip(y).for_each(|(x, y)| *y = (row.scalar)(*x)));
    for (name, slice) in &row.slices {
        time(name, &mut |x, y| slice(x, y));
    }
    println!("{line}");
}
