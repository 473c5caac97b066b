//! numpy's `.npz`: a zip archive of `.npy` files, one for each name.

use std::io::{Cursor, Read, Write};

use hallmark_receipt::Tensor;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::{Limits, NpyError, npy};

/// Below this size an array may be compressed as well as it likes.
const RATIO_FREE: u64 = 16 << 20;

/// Why an archive is not a set of arrays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NpzError {
    /// Not a zip archive, or a broken one.
    #[error("the zip archive is malformed: {why}")]
    Zip {
        /// The zip reader's word.
        why: String,
    },
    /// Too many entries.
    #[error("{got} arrays, the limit is {limit}")]
    Entries {
        /// Number of entries.
        got: usize,
        /// The limit.
        limit: usize,
    },
    /// Two entries with one name.
    #[error("the archive has two entries with one name")]
    Duplicate,
    /// Entries that share bytes of the archive.
    #[error("the archive has overlapping entries, as a zip bomb has")]
    Overlap,
    /// Decompressed, the archive would be larger than the limit.
    #[error("zip bomb: `{name}` brings the archive to {size} bytes decompressed, the limit is {limit}")]
    TooLarge {
        /// The entry.
        name: String,
        /// Bytes decompressed up to and with this entry.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// An entry grows out of proportion.
    #[error("zip bomb: `{name}` grows from {compressed} to {size} bytes, the limit is {limit} times")]
    Ratio {
        /// The entry.
        name: String,
        /// Bytes in the archive.
        compressed: u64,
        /// Bytes decompressed.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// An entry that does not decompress to what it declares.
    #[error("`{name}` does not decompress to the {expected} bytes that it declares")]
    Damaged {
        /// The entry.
        name: String,
        /// Its declared size.
        expected: u64,
    },
    /// An entry that is no array.
    #[error("`{name}` is not an .npy file")]
    Name {
        /// The entry.
        name: String,
    },
    /// An entry that is a malformed array.
    #[error("array `{name}`")]
    Array {
        /// The entry.
        name: String,
        /// Why.
        source: NpyError,
    },
}

/// Reads all arrays of the archive, in its order, by name (without `.npy`).
pub fn read(bytes: &[u8], limits: &Limits) -> Result<Vec<(String, Tensor)>, NpzError> {
    let broken = |error: zip::result::ZipError| NpzError::Zip { why: error.to_string() };
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(broken)?;
    if archive.len() > limits.entries {
        return Err(NpzError::Entries { got: archive.len(), limit: limits.entries });
    }
    if archive.has_duplicate_names() {
        return Err(NpzError::Duplicate);
    }
    if archive.has_overlapping_entries().map_err(broken)? {
        return Err(NpzError::Overlap);
    }
    let mut arrays: Vec<(String, Tensor)> = Vec::new();
    let mut total = 0_u64;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(broken)?;
        let full_name = entry.name().map_err(broken)?.into_owned();
        let name = match full_name.strip_suffix(".npy") {
            Some(name) if !name.is_empty() && entry.is_file() => name.to_owned(),
            _ => return Err(NpzError::Name { name: full_name }),
        };
        let (size, compressed) = (entry.size(), entry.compressed_size());
        total = total.saturating_add(size);
        if total > limits.unpacked {
            return Err(NpzError::TooLarge { name, size: total, limit: limits.unpacked });
        }
        if size > RATIO_FREE && size / compressed.max(1) > limits.ratio {
            return Err(NpzError::Ratio { name, compressed, size, limit: limits.ratio });
        }
        // The declared size bounds the reading; an entry that goes on beyond it is damaged.
        let mut data = Vec::new();
        let read = entry.by_ref().take(size.saturating_add(1)).read_to_end(&mut data);
        if !read.is_ok_and(|n| n as u64 == size) {
            return Err(NpzError::Damaged { name, expected: size });
        }
        let tensor = npy::read(&data).map_err(|source| NpzError::Array { name: name.clone(), source })?;
        arrays.push((name, tensor));
    }
    Ok(arrays)
}

/// Writes `arrays` as numpy's `savez` does: stored, not compressed, and with no time in it.
pub fn write(arrays: &[(String, Tensor)]) -> Result<Vec<u8>, NpzError> {
    let broken = |error: zip::result::ZipError| NpzError::Zip { why: error.to_string() };
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, tensor) in arrays {
        let data = npy::write(tensor).map_err(|source| NpzError::Array { name: name.clone(), source })?;
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .large_file(data.len() > u32::MAX as usize);
        zip.start_file(format!("{name}.npy"), options).map_err(broken)?;
        zip.write_all(&data).map_err(|error| NpzError::Zip { why: error.to_string() })?;
    }
    Ok(zip.finish().map_err(broken)?.into_inner())
}
