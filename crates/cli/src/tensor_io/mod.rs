//! Tensors in files: numpy's `.npy` and `.npz`, and JSON, bound to what a model declares.
//!
//! Everything here reads untrusted bytes: every length is bounded before it is believed ([`Limits`]).

pub use hallmark_gateway::tensors::{
    ConvertError, InputError, InputSpec, JsonError, MAX_RANK, convert, json, show_dims,
};
use hallmark_gateway::tensors::{bind, only_input};
use hallmark_receipt::Tensor;

pub mod npy;
pub mod npz;

pub use npy::NpyError;
pub use npz::NpzError;

/// What readers accept at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a file.
    pub file: u64,
    /// Bytes of a JSON file: its numbers take several times their text in memory.
    pub json: u64,
    /// Bytes of all arrays of an `.npz` together, decompressed.
    pub unpacked: u64,
    /// Arrays in an `.npz`.
    pub entries: usize,
    /// How many times its compressed size an array may grow beyond the first 16 MiB.
    pub ratio: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { file: 1 << 30, json: 64 << 20, unpacked: 1 << 30, entries: 1024, ratio: 200 }
    }
}

/// The formats of tensor files, told by their first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One array.
    Npy,
    /// Arrays by name in a zip archive.
    Npz,
    /// Text.
    Json,
}

impl Format {
    /// The format of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        if bytes.starts_with(npy::MAGIC) {
            Self::Npy
        } else if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06") {
            Self::Npz
        } else {
            Self::Json
        }
    }
}

/// Why a file does not give a model its inputs.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The `.npy` file is malformed.
    #[error("the .npy file is not readable")]
    Npy(#[source] NpyError),
    /// The `.npz` file is malformed.
    #[error("the .npz file is not readable")]
    Npz(#[source] NpzError),
    /// What it holds is not the model's inputs.
    #[error(transparent)]
    Input(#[from] InputError),
}

/// Reads the inputs that `specs` ask for from the bytes of a `.npy`, `.npz` or JSON file. They come in the order of
/// `specs`, with the declared element types, NaN made canonical.
pub fn read_inputs(
    bytes: &[u8],
    specs: &[InputSpec],
    limits: &Limits,
) -> Result<Vec<(String, Tensor)>, FileError> {
    let found = match Format::of(bytes) {
        Format::Npy => {
            let tensor = npy::read(bytes).map_err(FileError::Npy)?;
            vec![(only_input(specs)?.name.clone(), tensor)]
        }
        Format::Npz => npz::read(bytes, limits).map_err(FileError::Npz)?,
        Format::Json => json::read_inputs(bytes, specs, limits.json)?,
    };
    Ok(bind(found, specs)?)
}

#[cfg(test)]
mod tests;
