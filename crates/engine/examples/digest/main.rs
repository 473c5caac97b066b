//! Prints one SHA-256 over the fixed suite: `digest [--isa avx512|avx2|neon|portable] [--threads N]`. Every machine, instruction set
//! and number of threads prints the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A tool of the tests.

#[path = "../../tests/common/mod.rs"]
mod common;
mod suite;

use hallmark_engine::Isa;

fn main() -> std::process::ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (mut isa, mut threads) = (Isa::detect(), 1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().unwrap_or_default();
        let known = match name.as_str() {
            "--isa" => value.parse().map(|x| isa = x).is_ok(),
            "--threads" => value.parse().map(|x| threads = x).is_ok(),
            _ => false,
        };
        if !known {
            eprintln!("digest: cannot take {name} {value}");
            return 2.into();
        }
    }
    match suite::digest(isa, threads) {
        Ok(digest) => {
            println!("{digest}  {} {isa} {threads}", std::env::consts::ARCH);
            0.into()
        }
        Err(why) => {
            eprintln!("digest: {why}");
            1.into()
        }
    }
}
