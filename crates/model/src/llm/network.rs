//! What decoders and encoders have in common: an architecture from which names and shapes of all weights follow.

use std::fmt::{Debug, Display};

use hallmark_receipt::Digest;
use hallmark_receipt::json::Object;
use hallmark_receipt::wire::{Fields, FormatError};

use super::LlmError;
use super::checkpoint::CheckpointOf;
use crate::manifest::Manifest;
use crate::onnx::ExternalData;

/// A kind of network. Its one value describes one network, within bounds.
pub trait Network: Clone + Debug + PartialEq {
    /// Names a weight; shown as Hugging Face has it.
    type Role: Copy + Ord + Debug + Display;
    /// `format` of a skeleton.
    const FORMAT: &'static str;

    /// Checks every number against its bounds and against the others.
    ///
    /// # Errors
    /// The number at fault.
    fn check(&self) -> Result<(), LlmError>;

    /// Every weight with its shape, [out, in] for matrices, in the order of the weight tree (`model.md` §7.4).
    fn weights(&self) -> Vec<(Self::Role, Vec<usize>)>;

    /// `architecture` of a skeleton.
    fn to_object(&self) -> Object;

    /// Reads what [`Network::to_object`] writes. Bounds are [`Network::check`]'s business.
    ///
    /// # Errors
    /// A member that is missing or of another type.
    fn take(fields: Fields) -> Result<Self, FormatError>;

    /// Whether a file of this name belongs to such a model (`model.md` §7.1, §7.5).
    fn belongs(name: &str) -> bool;

    /// Opens the files called `files`.
    ///
    /// # Errors
    /// Whatever is missing, malformed or not supported.
    fn open<'a>(files: &[String], source: &'a dyn ExternalData) -> Result<CheckpointOf<'a, Self>, LlmError>;

    /// The values of a weight, row-major, as the numeric specification computes with them.
    ///
    /// # Errors
    /// A file that cannot be read.
    fn read(checkpoint: &CheckpointOf<'_, Self>, role: Self::Role) -> Result<Vec<f32>, LlmError> {
        checkpoint.values(role)
    }

    /// Writes into `manifest` what such a model has beyond its weights; `digest` gives the SHA-256 of a file that there is.
    ///
    /// # Errors
    /// A file that must be there.
    fn describe(
        checkpoint: &CheckpointOf<'_, Self>,
        manifest: &mut Manifest,
        digest: &dyn Fn(&str) -> Option<Digest>,
    ) -> Result<(), LlmError>;

    /// Checks that `manifest` is of such a model, and under versions that this build executes.
    ///
    /// # Errors
    /// Another kind of model, another version.
    fn supported(manifest: &Manifest) -> Result<(), LlmError>;
}
