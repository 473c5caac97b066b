//! The `hallmark` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    hallmark_cli::run(std::env::args_os())
}
