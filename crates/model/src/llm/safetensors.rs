//! Headers of safetensors files (`model.md` §7.2).
//!
//! Eight bytes of length (little-endian), a JSON object of tensors, their data. Tensors must follow each other without a gap or an
//! overlap from the first byte of the data to the file's end, so that no byte of a file means nothing or two things.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::checkpoint::Stored;
use super::config::Pairs;
use super::element::Kind;
use super::error::{LlmError, SafetensorsFault as Fault, cut};
use crate::onnx::ExternalData;

/// Bytes of a header.
pub const MAX_HEADER: u64 = 32 << 20;
/// Tensors of a file.
pub const MAX_TENSORS: usize = 1 << 17;
/// Axes of a tensor.
pub const MAX_RANK: usize = 8;
/// Bytes of an index.
pub const MAX_INDEX: usize = 32 << 20;

/// What some files of BERT keep beside the weights.
const POSITIONS: &str = "embeddings.position_ids";

/// The index of a checkpoint of several files.
pub const INDEX: &str = "model.safetensors.index.json";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// A member of the header: a tensor, or `__metadata__`, which is not read.
#[derive(Deserialize)]
#[serde(untagged)]
enum Member {
    Tensor(Entry),
    Other(IgnoredAny),
}

/// Reads the header of `file`: its tensors by name.
///
/// # Errors
/// A header beyond its bounds, tensors that do not tile the data, an element type other than F32, F16 and BF16.
pub fn read(file: &str, source: &dyn ExternalData) -> Result<BTreeMap<String, Stored>, LlmError> {
    let fail = |source| LlmError::File { name: file.to_owned(), source };
    let fault = |fault| LlmError::Safetensors { file: file.to_owned(), fault };
    let size = source.size(file).map_err(fail)?;
    let Some(room) = size.checked_sub(8) else { return Err(fault(Fault::Short)) };
    let length = source.read(file, 0, 8).map_err(fail)?;
    let length = u64::from_le_bytes(length.try_into().map_err(|_| fault(Fault::Short))?);
    if length > MAX_HEADER {
        return Err(fault(Fault::HeaderTooLarge { got: length, limit: MAX_HEADER }));
    }
    let Some(data) = room.checked_sub(length) else { return Err(fault(Fault::Short)) };
    let header = source.read(file, 8, length).map_err(fail)?;
    parse(file, &header, 8 + length, data)
}

/// Reads `header`, whose data of `size` bytes starts at byte `start` of `file`.
fn parse(file: &str, header: &[u8], start: u64, size: u64) -> Result<BTreeMap<String, Stored>, LlmError> {
    let fault = |fault| LlmError::Safetensors { file: file.to_owned(), fault };
    let mut members = Pairs::<Member>::read(header, "a safetensors header")?;
    members.remove("__metadata__");
    if members.len() > MAX_TENSORS {
        return Err(fault(Fault::TooMany { limit: MAX_TENSORS }));
    }
    let mut entries = Vec::with_capacity(members.len());
    for (name, member) in members {
        let Member::Tensor(entry) = member else {
            let why = format!("`{}` is no tensor", cut(&name));
            return Err(LlmError::Json { what: "a safetensors header", why });
        };
        entries.push((entry.data_offsets, name, entry));
    }
    entries.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    let mut at = 0_u64;
    let mut tensors = BTreeMap::new();
    for ((first, end), name, entry) in entries {
        if name.ends_with(POSITIONS) && entry.dtype == "I64" && first == at {
            // Numbers from 0 on, which follow from the config: their bytes count, and are not read.
            at = end.max(at);
            continue;
        }
        let kind = Kind::named(&entry.dtype).filter(|kind| kind.block().0 == 1);
        let Some(kind) = kind else {
            let (name, got) = (cut(&name), cut(&entry.dtype));
            return Err(LlmError::TensorType { name, got, supported: "F32, F16, BF16" });
        };
        if entry.shape.len() > MAX_RANK {
            return Err(fault(Fault::Rank { name: cut(&name), limit: MAX_RANK }));
        }
        if first != at {
            return Err(fault(Fault::Offset { name: cut(&name), expected: at, got: first }));
        }
        let expected = entry.shape.iter().try_fold(1_u64, |n, &dim| n.checked_mul(dim));
        let expected = expected.and_then(|n| kind.bytes(n)).unwrap_or(u64::MAX);
        let got = end.saturating_sub(first);
        if got != expected || end < first {
            return Err(fault(Fault::Size { name: cut(&name), expected, got }));
        }
        at = end;
        if at > size {
            break;
        }
        let stored =
            Stored { file: file.to_owned(), kind, shape: entry.shape, start: start + first, bytes: got };
        tensors.insert(name, stored);
    }
    if at == size { Ok(tensors) } else { Err(fault(Fault::End { expected: at, got: size })) }
}

#[derive(Deserialize)]
struct Index {
    weight_map: Pairs<String>,
}

/// Reads an index: the file of each tensor.
///
/// # Errors
/// An index that is not JSON, too long, or names a tensor twice.
pub fn parse_index(bytes: &[u8]) -> Result<BTreeMap<String, String>, LlmError> {
    let what = "the index";
    if bytes.len() > MAX_INDEX {
        let (got, limit) = (bytes.len() as u64, MAX_INDEX as u64);
        return Err(LlmError::FileTooLarge { name: INDEX.to_owned(), got, limit });
    }
    let index: Index = serde_json::from_slice(bytes)
        .map_err(|error| LlmError::Json { what, why: cut(&error.to_string()) })?;
    let mut map = BTreeMap::new();
    for (name, file) in index.weight_map.0 {
        if map.contains_key(&name) {
            return Err(LlmError::Duplicate { what, key: cut(&name) });
        }
        map.insert(name, file);
    }
    Ok(map)
}
