//! Language models: decoders, which write, and encoders, which embed. What they are, their files, the scalar reference and sampling.
//!
//! ```text
//! config.json + *.safetensors -> checkpoint -> reference       (slow, obvious)
//! *.gguf                      ->            -> hallmark-engine (fast, the same bits)
//! ```
//! Numbers follow `spec/numeric.md` §11, §12 and `spec/sampling.md`; files and identity `spec/model.md` §7. Nothing of a file is trusted: sizes
//! are bounded before memory is taken, and every refusal is an [`LlmError`] that names what is wrong.

pub mod architecture;
pub mod carried;
pub mod checkpoint;
pub mod config;
mod decoder;
pub mod element;
pub mod encoder;
pub mod error;
pub mod gguf;
pub mod model;
pub mod network;
pub mod reference;
pub mod safetensors;
pub mod sampling;

pub use architecture::{Architecture, Arithmetic, Family, Part, Role, Rope, Scaling};
pub use carried::Carried;
pub use checkpoint::{Checkpoint, CheckpointOf, kept};
pub use encoder::Encoder;
pub use error::LlmError;
pub use model::{DecoderModel, EncoderModel, ModelOf, Skeleton, SkeletonOf, belongs};
pub use network::Network;
pub use sampling::{Parameters, Seed};
