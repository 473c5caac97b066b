//! The command line of Hallmark: `hallmark`.
//!
//! ```text
//! args -> config -> cmd::{demo, model, infer, verify, receipts, keys, ..} -> console
//!                    model, keys, tensor_io, store -> disk
//! ```
//! The other crates are pure or compute only; everything that touches the disk, the clock, randomness, the environment and
//! the terminal is here. Results go to standard output, everything else to standard error; `fault` has the exit codes.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use serde_json::json;

pub mod args;
pub mod cmd;
pub mod config;
pub mod console;
pub mod disk;
pub mod environment;
pub mod fault;
pub mod keys;
pub mod language;
pub mod model;
pub mod proof;
pub mod shipped;
pub mod store;
pub mod tensor_io;
pub mod time;

/// Runs the program on its arguments, the first of which is its own name.
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.collect();
    let cli = match args::Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            if error.use_stderr() && arguments.iter().any(|argument| argument == "--json") {
                let message = error.kind().to_string();
                console::json(
                    &json!({ "error": { "message": message, "causes": [], "hint": "--help" }, "exit": 2 }),
                );
            }
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let json = cli.global.json;
    let exit = cmd::run(cli).unwrap_or_else(|error| fault::report(&error, json));
    ExitCode::from(exit as u8)
}
