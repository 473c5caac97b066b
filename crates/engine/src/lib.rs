//! Runs models fast with exactly the bits of `spec/numeric.md`.
//!
//! ```text
//! Graph -> Program::compile -> Program::run -> outputs
//!          fold, fuse, plan    kernels where there are any, the scalar reference everywhere else
//! ```
//!
//! The outputs equal those of [`hallmark_model::reference::run`] bit for bit, on every instruction set, for any number of
//! threads, alone or in a batch.
//!
//! ```
//! use std::sync::Arc;
//! use hallmark_engine::{Options, Program};
//! use hallmark_model::graph::Graph;
//!
//! let program = Program::compile(Arc::new(Graph::default()), Options::default())?;
//! assert!(program.run(&[])?.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Compute only: no network, no files, no environment. The clock is read only where a time limit is set.

pub mod decoder;
pub mod encoder;
mod error;
pub mod isa;
pub mod kernels;
mod memory;
mod plan;
mod program;
pub mod replay;
pub mod threads;

pub use error::{CompileError, RunError};
pub use isa::Isa;
pub use program::{MAX_THREADS, Options, Program};
pub use replay::{EngineReplayer, LocalModel};
