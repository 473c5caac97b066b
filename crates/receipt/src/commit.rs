//! The canonical encoding of named tensors and salted commitments to them (`receipt.md` §4).

use std::fmt;

use half::{bf16, f16};

use crate::domain::{Domain, TENSOR};
use crate::json::{Value, object};
use crate::tensor::count;
use crate::wire::{Fields, FormatError, to_base64, to_hex};
use crate::{DType, Data, Digest, Tensor, merkle, with_data};

/// The most bytes of a tensor's name.
pub const MAX_NAME: usize = 1024;
/// The most axes.
pub const MAX_RANK: usize = 32;
/// The most inputs, and the most outputs, of one claim.
pub const MAX_TENSORS: usize = 256;
/// The most bytes of one tensor's elements in a bundle.
pub const MAX_DATA: usize = 48 << 20;

/// 32 secret random bytes that keep a commitment from being guessed. Drawn by the caller, one for each tensor.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Salt(pub [u8; 32]);

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt(..)")
    }
}

/// A named tensor with its salt: what opens a commitment. Its `Debug` form shows neither data nor salt.
#[derive(Clone, PartialEq)]
pub struct Opening {
    name: String,
    tensor: Tensor,
    salt: Salt,
    /// Follows from the others.
    commitment: Digest,
}

/// Why a tensor cannot be committed to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpeningError {
    /// A name that is empty or longer than [`MAX_NAME`].
    #[error("a tensor's name has {got} bytes, expected 1 to {MAX_NAME}")]
    Name {
        /// Its length in bytes.
        got: usize,
    },
    /// More axes than [`MAX_RANK`].
    #[error("{got} axes are more than {MAX_RANK}")]
    Rank {
        /// The number of axes.
        got: usize,
    },
    /// An axis beyond 2^53 - 1 (of an empty tensor).
    #[error("an axis of {got} elements is beyond 2^53 - 1")]
    Axis {
        /// Its size.
        got: usize,
    },
    /// More bytes than [`MAX_DATA`].
    #[error("{got} bytes of elements are more than {MAX_DATA}")]
    Data {
        /// The number of bytes.
        got: usize,
    },
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opening(..)")
    }
}

impl Opening {
    /// Pairs a tensor with its name and salt. Every NaN becomes the one NaN of its type (`numeric.md` §2).
    pub fn new(name: impl Into<String>, mut tensor: Tensor, salt: Salt) -> Result<Self, OpeningError> {
        let name = name.into();
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(OpeningError::Name { got: name.len() });
        }
        if tensor.shape().len() > MAX_RANK {
            return Err(OpeningError::Rank { got: tensor.shape().len() });
        }
        if let Some(got) = tensor.shape().iter().copied().find(|dim| as_value(*dim).is_none()) {
            return Err(OpeningError::Axis { got });
        }
        let got = data_len(tensor.data());
        if got > MAX_DATA {
            return Err(OpeningError::Data { got });
        }
        tensor.canonicalize_nan();
        Ok(Self::commit(name, tensor, salt))
    }

    fn commit(name: String, tensor: Tensor, salt: Salt) -> Self {
        let commitment = TENSOR.hash(&[&salt.0, &encode(&name, &tensor)]);
        Self { name, tensor, salt, commitment }
    }

    /// The tensor's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The tensor.
    pub fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    /// The commitment: `H(TENSOR, salt || encoding)`.
    pub fn commitment(&self) -> Digest {
        self.commitment
    }

    pub(crate) fn to_value(&self) -> Value {
        let shape = self.tensor.shape().iter().filter_map(|dim| as_value(*dim)).collect();
        Value::Object(object([
            ("data", to_base64(&data_bytes(self.tensor.data())).into()),
            ("dtype", self.tensor.dtype().name().into()),
            ("name", self.name.as_str().into()),
            ("salt", to_hex(&self.salt.0).into()),
            ("shape", Value::Array(shape)),
        ]))
    }

    pub(crate) fn from_value(value: Value, path: &str) -> Result<Self, FormatError> {
        let mut fields = Fields::new(value, path)?;
        let name = fields.text("name", MAX_NAME)?;
        let dtype = fields.text("dtype", 16)?;
        let dtype = DType::from_name(&dtype).ok_or(FormatError::Value {
            path: fields.path("dtype"),
            expected: "the name of an element type",
        })?;
        let mut shape = Vec::new();
        for (path, item) in fields.array("shape", MAX_RANK)? {
            let dim = crate::wire::as_integer(&item, &path)?;
            shape.push(
                usize::try_from(dim)
                    .map_err(|_| FormatError::Value { path, expected: "a size of this machine" })?,
            );
        }
        let bytes = fields.base64("data", MAX_DATA)?;
        let salt = Salt(fields.hex("salt")?);
        let wrong = |expected| FormatError::Value { path: fields.path("data"), expected };
        let count = count(&shape).ok_or_else(|| wrong("elements that fit this machine"))?;
        let data = decode_data(dtype, count, &bytes).map_err(wrong)?;
        let tensor = Tensor::new(shape, data).map_err(|_| wrong("as many elements as the shape has"))?;
        fields.finish()?;
        Ok(Self::commit(name, tensor, salt))
    }
}

/// The commitment to a whole list of inputs or outputs: the Merkle root over the tensors' commitments, in their order.
pub fn commitment(domain: Domain, openings: &[Opening]) -> Digest {
    let leaves: Vec<[u8; 32]> = openings.iter().map(|opening| opening.commitment().0).collect();
    merkle::root(domain, &leaves)
}

/// The canonical encoding of a named tensor.
pub fn encode(name: &str, tensor: &Tensor) -> Vec<u8> {
    // Name and data, and room for what says how long they are.
    let mut out = Vec::with_capacity(name.len().saturating_add(data_len(tensor.data())).saturating_add(64));
    out.extend_from_slice(&len32(name.len()));
    out.extend_from_slice(name.as_bytes());
    out.push(code(tensor.dtype()));
    out.extend_from_slice(&len32(tensor.shape().len()));
    for dim in tensor.shape() {
        out.extend_from_slice(&u64::try_from(*dim).unwrap_or(u64::MAX).to_le_bytes());
    }
    out.extend_from_slice(&data_bytes(tensor.data()));
    out
}

/// The code of an element type: ONNX's `TensorProto.DataType`.
pub fn code(dtype: DType) -> u8 {
    match dtype {
        DType::F32 => 1,
        DType::U8 => 2,
        DType::I8 => 3,
        DType::U16 => 4,
        DType::I16 => 5,
        DType::I32 => 6,
        DType::I64 => 7,
        DType::Str => 8,
        DType::Bool => 9,
        DType::F16 => 10,
        DType::F64 => 11,
        DType::U32 => 12,
        DType::U64 => 13,
        DType::BF16 => 16,
    }
}

/// The elements in row-major order, little-endian; truth values one byte; text as a 32-bit length and UTF-8.
pub fn data_bytes(data: &Data) -> Vec<u8> {
    macro_rules! le {
        ($v:expr) => {
            $v.iter().flat_map(|x| x.to_le_bytes()).collect()
        };
    }
    match data {
        Data::F32(v) => le!(v),
        Data::F64(v) => le!(v),
        Data::F16(v) => le!(v),
        Data::BF16(v) => le!(v),
        Data::I8(v) => le!(v),
        Data::I16(v) => le!(v),
        Data::I32(v) => le!(v),
        Data::I64(v) => le!(v),
        Data::U8(v) => v.clone(),
        Data::U16(v) => le!(v),
        Data::U32(v) => le!(v),
        Data::U64(v) => le!(v),
        Data::Bool(v) => v.iter().map(|x| u8::from(*x)).collect(),
        Data::Str(v) => v.iter().flat_map(|x| [&len32(x.len()), x.as_bytes()].concat()).collect(),
    }
}

/// Reads `count` elements; the inverse of [`data_bytes`]. The error says what was expected.
pub fn decode_data(dtype: DType, count: usize, bytes: &[u8]) -> Result<Data, &'static str> {
    const LENGTH: &str = "as many bytes as shape and element type ask for";
    if let Some(size) = dtype.size()
        && count.checked_mul(size) != Some(bytes.len())
    {
        return Err(LENGTH);
    }
    macro_rules! le {
        ($t:ty) => {
            bytes.as_chunks().0.iter().map(|chunk| <$t>::from_le_bytes(*chunk)).collect()
        };
    }
    let data = match dtype {
        DType::F32 => Data::F32(le!(f32)),
        DType::F64 => Data::F64(le!(f64)),
        DType::F16 => Data::F16(le!(f16)),
        DType::BF16 => Data::BF16(le!(bf16)),
        DType::I8 => Data::I8(le!(i8)),
        DType::I16 => Data::I16(le!(i16)),
        DType::I32 => Data::I32(le!(i32)),
        DType::I64 => Data::I64(le!(i64)),
        DType::U8 => Data::U8(bytes.to_vec()),
        DType::U16 => Data::U16(le!(u16)),
        DType::U32 => Data::U32(le!(u32)),
        DType::U64 => Data::U64(le!(u64)),
        DType::Bool if bytes.iter().any(|byte| *byte > 1) => return Err("truth values of 0 or 1"),
        DType::Bool => Data::Bool(bytes.iter().map(|byte| *byte == 1).collect()),
        DType::Str => Data::Str(decode_texts(count, bytes).ok_or(LENGTH)?),
    };
    if has_other_nan(&data) { Err("the one NaN of the element type") } else { Ok(data) }
}

fn decode_texts(count: usize, mut bytes: &[u8]) -> Option<Vec<String>> {
    // Every element takes four bytes or more, so that a false count costs nothing.
    if count > bytes.len().checked_div(4)? {
        return None;
    }
    let mut texts = Vec::with_capacity(count);
    for _ in 0..count {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (text, rest) = rest.split_at_checked(length)?;
        texts.push(std::str::from_utf8(text).ok()?.to_owned());
        bytes = rest;
    }
    bytes.is_empty().then_some(texts)
}

fn has_other_nan(data: &Data) -> bool {
    match data {
        Data::F32(v) => v.iter().any(|x| x.is_nan() && x.to_bits() != 0x7fc0_0000),
        Data::F64(v) => v.iter().any(|x| x.is_nan() && x.to_bits() != 0x7ff8_0000_0000_0000),
        Data::F16(v) => v.iter().any(|x| x.is_nan() && x.to_bits() != 0x7e00),
        Data::BF16(v) => v.iter().any(|x| x.is_nan() && x.to_bits() != 0x7fc0),
        _ => false,
    }
}

fn data_len(data: &Data) -> usize {
    match data {
        Data::Str(v) => v.iter().map(|x| x.len().saturating_add(4)).fold(0, usize::saturating_add),
        other => with_data!(other, v => std::mem::size_of_val(v.as_slice())),
    }
}

fn len32(length: usize) -> [u8; 4] {
    // Names and data are bounded far below 4 GiB before they come here.
    u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes()
}

fn as_value(dim: usize) -> Option<Value> {
    Value::int(u64::try_from(dim).ok()?)
}

#[cfg(test)]
mod tests;
