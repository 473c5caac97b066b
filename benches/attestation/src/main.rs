//! Evidence from hardware, judged here and by other verifiers, side by side.
//!
//!     cargo run --release --manifest-path benches/attestation/Cargo.toml -- agree
//!     cargo run --release --manifest-path benches/attestation/Cargo.toml -- speed
//!
//! The evidence lies beside the repository (`crates/attestation/tests/vectors`); without it nothing is measured, and the exit code is 3.

mod agree;
mod cases;
mod peers;
mod speed;

use std::process::ExitCode;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let Some(cases) = cases::read()? else {
        eprintln!("the evidence is not beside the repository");
        return Ok(3.into());
    };
    let holds = match arguments[..] {
        ["agree"] => agree::run(&cases, 400)?,
        ["agree", flips] => agree::run(&cases, flips.parse()?)?,
        ["speed"] => speed::run(&cases, 300)?,
        ["speed", rounds] => speed::run(&cases, rounds.parse()?)?,
        _ => {
            eprintln!("agree [FLIPS] or speed [ROUNDS]");
            return Ok(2.into());
        }
    };
    Ok(u8::from(!holds).into())
}
