//! `TensorProto` to [`Tensor`]: one data field of exactly the right length, or one external range.

use std::collections::BTreeSet;
use std::mem::take;

use half::{bf16, f16};
use hallmark_receipt::{DType, Data, Tensor};

use super::external::check_path;
use super::{ExternalData, ImportError, Limits, proto};
use crate::ops::dispatch::dtype_of;

/// Reads tensors, keeping count of what they take together.
pub(super) struct Tensors<'a> {
    external: &'a dyn ExternalData,
    limits: &'a Limits,
    bytes: usize,
    /// External files that were read.
    pub files: BTreeSet<String>,
}

impl<'a> Tensors<'a> {
    pub fn new(external: &'a dyn ExternalData, limits: &'a Limits) -> Self {
        Self { external, limits, bytes: 0, files: BTreeSet::new() }
    }

    /// The tensor `proto`, named `name` in messages. NaNs become the one NaN.
    pub fn read(&mut self, mut proto: proto::Tensor, name: &str) -> Result<Tensor, ImportError> {
        let fault = |what| ImportError::Tensor { name: name.to_owned(), what };
        let dtype = dtype_of(proto.data_type.into())
            .ok_or_else(|| ImportError::TensorType { name: name.to_owned(), got: proto.data_type })?;
        if proto.segment.is_some() {
            return Err(fault("is in segments, which is not supported"));
        }
        let (shape, n) = self.shape(&proto.dims, dtype, name)?;
        let mut source = Source { proto: &mut proto, name, shape: &shape, n };
        let data = match source.proto.data_location {
            0 if source.proto.external_data.is_empty() => source.inline(dtype)?,
            0 => return Err(fault("has external data entries, but is not marked as external")),
            1 => {
                if source.filled() != 0 {
                    return Err(fault("is external, but has data of its own"));
                }
                let raw = self.external(&source, dtype)?;
                source.raw(dtype, &raw)?
            }
            _ => return Err(fault("has an unknown data location")),
        };
        let mut tensor = Tensor::new(shape, data).map_err(|_| fault("does not match its dimensions"))?;
        tensor.canonicalize_nan();
        Ok(tensor)
    }

    /// The shape, checked against the limits before anything is read or allocated.
    fn shape(&mut self, dims: &[i64], dtype: DType, name: &str) -> Result<(Vec<usize>, usize), ImportError> {
        let limit = self.limits.elements;
        let large = || ImportError::TensorTooLarge { name: name.to_owned(), dims: dims.to_vec(), limit };
        if dims.len() > self.limits.rank {
            return Err(ImportError::Tensor { name: name.to_owned(), what: "has too many dimensions" });
        }
        let mut shape = Vec::with_capacity(dims.len());
        for &dim in dims {
            if dim < 0 {
                return Err(ImportError::TensorDimension { name: name.to_owned(), got: dim });
            }
            shape.push(usize::try_from(dim).map_err(|_| large())?);
        }
        let n = hallmark_receipt::tensor::count(&shape).filter(|&n| n <= limit).ok_or_else(large)?;
        let size = dtype.size().unwrap_or(std::mem::size_of::<String>());
        self.bytes = n
            .checked_mul(size)
            .and_then(|bytes| self.bytes.checked_add(bytes))
            .filter(|&total| total <= self.limits.constant_bytes)
            .ok_or(ImportError::ConstantsTooLarge { limit: self.limits.constant_bytes })?;
        Ok((shape, n))
    }

    fn external(&mut self, source: &Source<'_>, dtype: DType) -> Result<Vec<u8>, ImportError> {
        let name = source.name;
        let entry_fault =
            |key: &str, what| ImportError::ExternalEntry { name: name.to_owned(), key: key.to_owned(), what };
        let expected = source.bytes(dtype)?;
        let (mut path, mut offset, mut length) = (None, None, None);
        for entry in &source.proto.external_data {
            let number =
                || entry.value.parse::<u64>().map_err(|_| entry_fault(&entry.key, "is not a number"));
            let again = match entry.key.as_str() {
                "location" => path.replace(entry.value.as_str()).is_some(),
                "offset" => offset.replace(number()?).is_some(),
                "length" => length.replace(number()?).is_some(),
                "checksum" => false,
                _ => return Err(entry_fault(&entry.key, "is unknown")),
            };
            if again {
                return Err(entry_fault(&entry.key, "is given twice"));
            }
        }
        let path = path.ok_or_else(|| entry_fault("location", "is missing"))?;
        check_path(path).map_err(|fault| ImportError::ExternalPath {
            name: name.to_owned(),
            path: path.to_owned(),
            fault,
        })?;
        if length.is_some_and(|length| length != expected as u64) {
            return Err(entry_fault("length", "is not what type and dimensions need"));
        }
        let raw = self.external.read(path, offset.unwrap_or(0), expected as u64).map_err(|source| {
            ImportError::External { name: name.to_owned(), path: path.to_owned(), source }
        })?;
        self.files.insert(path.to_owned());
        Ok(raw)
    }
}

struct Source<'a> {
    proto: &'a mut proto::Tensor,
    name: &'a str,
    shape: &'a [usize],
    n: usize,
}

impl Source<'_> {
    /// How many data fields hold something.
    fn filled(&self) -> usize {
        let proto = &self.proto;
        [
            proto.raw_data.is_some(),
            !proto.float_data.is_empty(),
            !proto.int32_data.is_empty(),
            !proto.string_data.is_empty(),
            !proto.int64_data.is_empty(),
            !proto.double_data.is_empty(),
            !proto.uint64_data.is_empty(),
        ]
        .into_iter()
        .filter(|&filled| filled)
        .count()
    }

    fn fault(&self, what: &'static str) -> ImportError {
        ImportError::Tensor { name: self.name.to_owned(), what }
    }

    fn expect(&self, unit: &'static str, expected: usize, got: usize) -> Result<(), ImportError> {
        if expected == got {
            return Ok(());
        }
        Err(ImportError::TensorLength {
            name: self.name.to_owned(),
            shape: self.shape.to_vec(),
            unit,
            expected,
            got,
        })
    }

    fn bytes(&self, dtype: DType) -> Result<usize, ImportError> {
        let size = dtype.size().ok_or_else(|| self.fault("holds text, which cannot be raw or external"))?;
        self.n.checked_mul(size).ok_or_else(|| self.fault("has too many bytes"))
    }

    fn inline(&mut self, dtype: DType) -> Result<Data, ImportError> {
        if self.filled() > 1 {
            return Err(self.fault("has more than one data field"));
        }
        if self.n == 0 && self.filled() == 1 && self.proto.raw_data.is_none() {
            return Err(self.fault("is empty, but has data"));
        }
        if let Some(raw) = take(&mut self.proto.raw_data) {
            return self.raw(dtype, &raw);
        }
        let proto = &mut *self.proto;
        let (got, data) = match dtype {
            DType::F32 => (proto.float_data.len(), Some(Data::F32(take(&mut proto.float_data)))),
            DType::F64 => (proto.double_data.len(), Some(Data::F64(take(&mut proto.double_data)))),
            DType::I64 => (proto.int64_data.len(), Some(Data::I64(take(&mut proto.int64_data)))),
            DType::U64 => (proto.uint64_data.len(), Some(Data::U64(take(&mut proto.uint64_data)))),
            DType::U32 => (proto.uint64_data.len(), narrow(&proto.uint64_data).map(Data::U32)),
            DType::I32 => (proto.int32_data.len(), Some(Data::I32(take(&mut proto.int32_data)))),
            DType::I16 => (proto.int32_data.len(), narrow(&proto.int32_data).map(Data::I16)),
            DType::I8 => (proto.int32_data.len(), narrow(&proto.int32_data).map(Data::I8)),
            DType::U16 => (proto.int32_data.len(), narrow(&proto.int32_data).map(Data::U16)),
            DType::U8 => (proto.int32_data.len(), narrow(&proto.int32_data).map(Data::U8)),
            DType::F16 => (
                proto.int32_data.len(),
                narrow(&proto.int32_data)
                    .map(|bits| Data::F16(bits.into_iter().map(f16::from_bits).collect())),
            ),
            DType::BF16 => (
                proto.int32_data.len(),
                narrow(&proto.int32_data)
                    .map(|bits| Data::BF16(bits.into_iter().map(bf16::from_bits).collect())),
            ),
            DType::Bool => (proto.int32_data.len(), bools(proto.int32_data.iter().copied()).map(Data::Bool)),
            DType::Str => {
                let text = take(&mut proto.string_data);
                let len = text.len();
                let text = text.into_iter().map(String::from_utf8).collect::<Result<_, _>>();
                (len, text.ok().map(Data::Str))
            }
        };
        self.expect("elements", self.n, got)?;
        data.ok_or_else(|| self.fault("has an element outside its data type"))
    }

    fn raw(&self, dtype: DType, raw: &[u8]) -> Result<Data, ImportError> {
        self.expect("bytes", self.bytes(dtype)?, raw.len())?;
        macro_rules! little_endian {
            ($variant:ident, $t:ty) => {
                Data::$variant(raw.as_chunks().0.iter().map(|b| <$t>::from_le_bytes(*b)).collect())
            };
        }
        Ok(match dtype {
            DType::F32 => little_endian!(F32, f32),
            DType::F64 => little_endian!(F64, f64),
            DType::F16 => little_endian!(F16, f16),
            DType::BF16 => little_endian!(BF16, bf16),
            DType::I8 => little_endian!(I8, i8),
            DType::I16 => little_endian!(I16, i16),
            DType::I32 => little_endian!(I32, i32),
            DType::I64 => little_endian!(I64, i64),
            DType::U8 => Data::U8(raw.to_vec()),
            DType::U16 => little_endian!(U16, u16),
            DType::U32 => little_endian!(U32, u32),
            DType::U64 => little_endian!(U64, u64),
            DType::Bool => Data::Bool(
                bools(raw.iter().copied().map(i32::from))
                    .ok_or_else(|| self.fault("has an element outside its data type"))?,
            ),
            DType::Str => return Err(self.fault("holds text, which cannot be raw or external")),
        })
    }
}

fn narrow<A: Copy, B: TryFrom<A>>(values: &[A]) -> Option<Vec<B>> {
    values.iter().map(|&value| B::try_from(value).ok()).collect()
}

fn bools(values: impl Iterator<Item = i32>) -> Option<Vec<bool>> {
    values.map(|value| if value == 0 || value == 1 { Some(value == 1) } else { None }).collect()
}
