//! The `hallmark` binary.

use std::process::ExitCode;

/// A node allocates on one thread and frees on another; the system's allocator made threads wait for one another there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    hallmark_cli::run(std::env::args_os())
}
