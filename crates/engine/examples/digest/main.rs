//! Prints one SHA-256 over the fixed suite: `digest [--isa avx512|avx2|neon|portable] [--threads N] [--suite all|decoders]`. Every
//! machine, instruction set and number of threads prints the same. `decoders`: answers of up to 1,000 tokens, alone and in company.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A tool of the tests.

#[path = "../../tests/common/mod.rs"]
mod common;
mod decoders;
#[path = "../../tests/decoder/fixture.rs"]
#[allow(dead_code)] // The decoder's own tests use more of it.
mod fixture;
mod suite;

use hallmark_engine::Isa;

fn main() -> std::process::ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (mut isa, mut threads, mut long) = (Isa::detect(), 1, false);
    while let Some(name) = arguments.next() {
        let value = arguments.next().unwrap_or_default();
        let known = match name.as_str() {
            "--isa" => value.parse().map(|x| isa = x).is_ok(),
            "--threads" => value.parse().map(|x| threads = x).is_ok(),
            "--suite" => {
                long = value == "decoders";
                long || value == "all"
            }
            _ => false,
        };
        if !known {
            eprintln!("digest: cannot take {name} {value}");
            return 2.into();
        }
    }
    let digest =
        if long { decoders::digest(isa, threads, decoders::LONG) } else { suite::digest(isa, threads) };
    match digest {
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
