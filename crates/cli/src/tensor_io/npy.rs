//! numpy's `.npy`: one array with a small header.
//!
//! ```text
//! \x93NUMPY  major minor  header length (LE)  "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }   \n"  data
//! ```
//! bfloat16, which numpy itself lacks, is written as the two-byte void type (`<V2`) that `ml_dtypes` uses.

use half::{bf16, f16};
use hallmark_receipt::{Data, Tensor, TensorError, tensor::count};

use super::MAX_RANK;

/// The first bytes of every `.npy` file.
pub const MAGIC: &[u8] = b"\x93NUMPY";
/// The longest header that is read, in bytes.
pub const MAX_HEADER: usize = 64 << 10;

/// Why bytes are not an array.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NpyError {
    /// The file does not start as `.npy` files do.
    #[error("the first bytes are not those of an .npy file")]
    Magic,
    /// A format version other than 1.0, 2.0 and 3.0.
    #[error("format version {major}.{minor} is unknown (expected 1.0, 2.0 or 3.0)")]
    Version {
        /// Major version.
        major: u8,
        /// Minor version.
        minor: u8,
    },
    /// The header is longer than any honest one.
    #[error("the header claims {got} bytes, the limit is {MAX_HEADER}")]
    HeaderTooLong {
        /// Claimed length.
        got: usize,
    },
    /// The file ends inside the header.
    #[error("the file ends inside its header")]
    HeaderTruncated,
    /// The header is not the dictionary that numpy writes.
    #[error("the header is malformed at byte {at}: {what}")]
    Header {
        /// Position in the header.
        at: usize,
        /// What was expected.
        what: &'static str,
    },
    /// Python objects, whose reading would run code.
    #[error("the array holds pickled Python objects, which are never read")]
    Pickled,
    /// An element type that is not one of ours.
    #[error("element type `{descr}` is not supported")]
    DType {
        /// numpy's name of it.
        descr: String,
    },
    /// Too many axes.
    #[error("{got} axes, the limit is {MAX_RANK}")]
    Rank {
        /// Number of axes.
        got: usize,
    },
    /// The data is not as long as the shape asks for.
    #[error("shape {shape:?} needs {expected} bytes of data, the file has {got}")]
    Length {
        /// The header's shape.
        shape: Vec<usize>,
        /// Bytes that it needs.
        expected: String,
        /// Bytes after the header.
        got: usize,
    },
    /// A byte that is neither 0 nor 1 in an array of truth values.
    #[error("element {index} of a bool array is neither 0 nor 1")]
    Bool {
        /// Flat position in the file.
        index: usize,
    },
    /// Text that is not Unicode.
    #[error("element {index} is not valid text")]
    Text {
        /// Flat position in the file.
        index: usize,
    },
    /// Text that ends with NUL, which numpy would cut off.
    #[error("element {index} ends with a NUL character, which .npy cannot hold")]
    TrailingNul {
        /// Flat position.
        index: usize,
    },
    /// Shape and data disagree.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// Reads the array in `bytes`.
pub fn read(bytes: &[u8]) -> Result<Tensor, NpyError> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(NpyError::Magic)?;
    let (&[major, minor], rest) = rest.split_first_chunk::<2>().ok_or(NpyError::HeaderTruncated)?;
    let (length, rest) = match (major, minor) {
        (1, 0) => {
            let (n, rest) = rest.split_first_chunk::<2>().ok_or(NpyError::HeaderTruncated)?;
            (u32::from(u16::from_le_bytes(*n)), rest)
        }
        (2 | 3, 0) => {
            let (n, rest) = rest.split_first_chunk::<4>().ok_or(NpyError::HeaderTruncated)?;
            (u32::from_le_bytes(*n), rest)
        }
        _ => return Err(NpyError::Version { major, minor }),
    };
    let length = length as usize;
    if length > MAX_HEADER {
        return Err(NpyError::HeaderTooLong { got: length });
    }
    let (header, data) = rest.split_at_checked(length).ok_or(NpyError::HeaderTruncated)?;
    let header = HeaderParser { text: header, at: 0 }.header()?;
    let kind = Kind::parse(&header.descr)?;
    let expected = count(&header.shape).and_then(|n| n.checked_mul(kind.size));
    // Zero-sized elements (`<U0`) would let a short file claim any number of them.
    let elements = count(&header.shape).unwrap_or(usize::MAX);
    if expected != Some(data.len()) || (kind.size == 0 && elements > 1 << 20) {
        return Err(NpyError::Length {
            shape: header.shape,
            expected: expected.map_or_else(|| "more than 2^64".to_owned(), |n| n.to_string()),
            got: data.len(),
        });
    }
    let values = decode(data, kind, elements)?;
    if header.fortran && header.shape.len() > 1 {
        let order = fortran_order(&header.shape);
        let values = hallmark_receipt::with_data!(values, v => permute(v, &order));
        return Ok(Tensor::new(header.shape, values)?);
    }
    Ok(Tensor::new(header.shape, values)?)
}

/// Writes `tensor` as format 1.0 (3.0 never arises: no field names).
pub fn write(tensor: &Tensor) -> Result<Vec<u8>, NpyError> {
    let (descr, data) = encode(tensor.data())?;
    let shape: Vec<String> = tensor.shape().iter().map(usize::to_string).collect();
    let comma = if shape.len() == 1 { "," } else { "" };
    let mut header =
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}{comma}), }}", shape.join(", "));
    // The data starts at a multiple of 64, as numpy has it.
    let unpadded = MAGIC.len() + 4 + header.len() + 1;
    header.push_str(&" ".repeat(unpadded.next_multiple_of(64) - unpadded));
    header.push('\n');
    let length = u16::try_from(header.len()).map_err(|_| NpyError::HeaderTooLong { got: header.len() })?;
    let mut out = Vec::with_capacity(MAGIC.len() + 4 + header.len() + data.len());
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&[1, 0]);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(&data);
    Ok(out)
}

#[derive(Debug)]
struct Header {
    descr: String,
    fortran: bool,
    shape: Vec<usize>,
}

/// Reads the one dictionary that numpy writes: three keys in any order, no nesting but the shape's tuple.
struct HeaderParser<'a> {
    text: &'a [u8],
    at: usize,
}

impl HeaderParser<'_> {
    fn header(mut self) -> Result<Header, NpyError> {
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        self.expect(b'{', "`{`")?;
        while !self.eat(b'}') {
            let key = self.quoted()?;
            self.expect(b':', "`:`")?;
            match key.as_str() {
                "descr" if descr.is_none() => descr = Some(self.descr()?),
                "fortran_order" if fortran.is_none() => fortran = Some(self.bool()?),
                "shape" if shape.is_none() => shape = Some(self.shape()?),
                _ => return Err(self.wrong("descr, fortran_order and shape, once each")),
            }
            if !self.eat(b',') {
                self.expect(b'}', "`,` or `}`")?;
                break;
            }
        }
        self.skip_space();
        if self.at != self.text.len() {
            return Err(self.wrong("nothing after the dictionary"));
        }
        match (descr, fortran, shape) {
            (Some(descr), Some(fortran), Some(shape)) => Ok(Header { descr, fortran, shape }),
            _ => Err(self.wrong("descr, fortran_order and shape, once each")),
        }
    }

    fn descr(&mut self) -> Result<String, NpyError> {
        if self.peek() == Some(b'[') {
            return Err(NpyError::DType { descr: "structured".to_owned() });
        }
        self.quoted()
    }

    fn bool(&mut self) -> Result<bool, NpyError> {
        self.skip_space();
        for (word, value) in [("True", true), ("False", false)] {
            if self.text[self.at..].starts_with(word.as_bytes()) {
                self.at += word.len();
                return Ok(value);
            }
        }
        Err(self.wrong("True or False"))
    }

    fn shape(&mut self) -> Result<Vec<usize>, NpyError> {
        self.expect(b'(', "`(`")?;
        let mut shape = Vec::new();
        while !self.eat(b')') {
            self.skip_space();
            let digits = self.text[self.at..].iter().take_while(|b| b.is_ascii_digit()).count();
            let text = std::str::from_utf8(&self.text[self.at..self.at + digits]).unwrap_or_default();
            let size = text.parse().map_err(|_| self.wrong("a size that fits the address space"))?;
            self.at += digits;
            shape.push(size);
            if shape.len() > MAX_RANK {
                return Err(NpyError::Rank { got: shape.len() });
            }
            // Python 2 wrote `3L`.
            if self.text.get(self.at) == Some(&b'L') {
                self.at += 1;
            }
            if !self.eat(b',') {
                self.expect(b')', "`,` or `)`")?;
                break;
            }
        }
        Ok(shape)
    }

    fn quoted(&mut self) -> Result<String, NpyError> {
        let quote = match self.peek() {
            Some(quote @ (b'\'' | b'"')) => quote,
            _ => return Err(self.wrong("a quoted word")),
        };
        let start = self.at + 1;
        let length = self.text[start..].iter().position(|&b| b == quote);
        let length = length.ok_or_else(|| self.wrong("a closing quote"))?;
        let word = &self.text[start..start + length];
        if !word.iter().all(u8::is_ascii_graphic) || word.contains(&b'\\') {
            return Err(self.wrong("a plain word"));
        }
        self.at = start + length + 1;
        Ok(String::from_utf8_lossy(word).into_owned())
    }

    fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), NpyError> {
        if self.eat(byte) { Ok(()) } else { Err(self.wrong(what)) }
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn peek(&mut self) -> Option<u8> {
        self.skip_space();
        self.text.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }

    fn wrong(&self, what: &'static str) -> NpyError {
        NpyError::Header { at: self.at, what }
    }
}

/// An element type of the file.
#[derive(Clone, Copy, Debug)]
struct Kind {
    letter: u8,
    /// Bytes of one element.
    size: usize,
    big_endian: bool,
}

impl Kind {
    fn parse(descr: &str) -> Result<Self, NpyError> {
        let unsupported = || NpyError::DType { descr: descr.to_owned() };
        let (order, rest) = match descr.as_bytes() {
            [order @ (b'<' | b'>' | b'|' | b'='), rest @ ..] => (*order, rest),
            rest => (b'|', rest),
        };
        let (&letter, digits) = rest.split_first().ok_or_else(unsupported)?;
        if letter == b'O' {
            return Err(NpyError::Pickled);
        }
        let n: usize =
            std::str::from_utf8(digits).ok().and_then(|d| d.parse().ok()).ok_or_else(unsupported)?;
        let size = match (letter, n) {
            (b'b' | b'i' | b'u', 1) | (b'i' | b'u' | b'f' | b'V', 2) => n,
            (b'i' | b'u' | b'f', 4 | 8) => n,
            (b'S', _) => n,
            (b'U', _) => n.checked_mul(4).ok_or_else(unsupported)?,
            _ => return Err(unsupported()),
        };
        Ok(Self { letter, size, big_endian: order == b'>' })
    }
}

fn decode(data: &[u8], kind: Kind, elements: usize) -> Result<Data, NpyError> {
    macro_rules! numbers {
        ($t:ty, $n:literal, $v:ident, $make:expr) => {{
            let (chunks, _) = data.as_chunks::<$n>();
            Data::$v(
                chunks
                    .iter()
                    .map(|b| if kind.big_endian { <$t>::from_be_bytes(*b) } else { <$t>::from_le_bytes(*b) })
                    .map($make)
                    .collect(),
            )
        }};
    }
    Ok(match (kind.letter, kind.size) {
        (b'b', _) => {
            if let Some(index) = data.iter().position(|&b| b > 1) {
                return Err(NpyError::Bool { index });
            }
            Data::Bool(data.iter().map(|&b| b == 1).collect())
        }
        (b'i', 1) => Data::I8(data.iter().map(|&b| b.cast_signed()).collect()),
        (b'u', 1) => Data::U8(data.to_vec()),
        (b'i', 2) => numbers!(i16, 2, I16, |v| v),
        (b'u', 2) => numbers!(u16, 2, U16, |v| v),
        (b'f', 2) => numbers!(u16, 2, F16, f16::from_bits),
        (b'V', _) => numbers!(u16, 2, BF16, bf16::from_bits),
        (b'i', 4) => numbers!(i32, 4, I32, |v| v),
        (b'u', 4) => numbers!(u32, 4, U32, |v| v),
        (b'f', 4) => numbers!(u32, 4, F32, f32::from_bits),
        (b'i', _) => numbers!(i64, 8, I64, |v| v),
        (b'u', _) => numbers!(u64, 8, U64, |v| v),
        (b'f', _) => numbers!(u64, 8, F64, f64::from_bits),
        (_, 0) => Data::Str(vec![String::new(); elements]),
        (b'S', size) => Data::Str(
            data.chunks_exact(size)
                .enumerate()
                .map(|(index, bytes)| {
                    let end = bytes.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
                    String::from_utf8(bytes[..end].to_vec()).map_err(|_| NpyError::Text { index })
                })
                .collect::<Result<_, _>>()?,
        ),
        (_, size) => Data::Str(
            data.chunks_exact(size)
                .enumerate()
                .map(|(index, bytes)| utf32(bytes, kind.big_endian).ok_or(NpyError::Text { index }))
                .collect::<Result<_, _>>()?,
        ),
    })
}

fn utf32(bytes: &[u8], big_endian: bool) -> Option<String> {
    let (chunks, _) = bytes.as_chunks::<4>();
    let units =
        chunks.iter().map(|b| if big_endian { u32::from_be_bytes(*b) } else { u32::from_le_bytes(*b) });
    let text: String = units.map(char::from_u32).collect::<Option<_>>()?;
    Some(text.trim_end_matches('\0').to_owned())
}

fn encode(data: &Data) -> Result<(String, Vec<u8>), NpyError> {
    macro_rules! numbers {
        ($descr:literal, $v:expr) => {
            ($descr.to_owned(), $v.iter().flat_map(|x| x.to_le_bytes()).collect())
        };
    }
    Ok(match data {
        Data::F32(v) => numbers!("<f4", v),
        Data::F64(v) => numbers!("<f8", v),
        Data::F16(v) => numbers!("<f2", v),
        Data::BF16(v) => numbers!("<V2", v),
        Data::I8(v) => numbers!("|i1", v),
        Data::I16(v) => numbers!("<i2", v),
        Data::I32(v) => numbers!("<i4", v),
        Data::I64(v) => numbers!("<i8", v),
        Data::U8(v) => numbers!("|u1", v),
        Data::U16(v) => numbers!("<u2", v),
        Data::U32(v) => numbers!("<u4", v),
        Data::U64(v) => numbers!("<u8", v),
        Data::Bool(v) => ("|b1".to_owned(), v.iter().map(|&b| u8::from(b)).collect()),
        Data::Str(v) => {
            if let Some(index) = v.iter().position(|text| text.ends_with('\0')) {
                return Err(NpyError::TrailingNul { index });
            }
            let width = v.iter().map(|text| text.chars().count()).max().unwrap_or(0).max(1);
            let mut out = Vec::new();
            for text in v {
                let units = text.chars().map(u32::from).chain(std::iter::repeat(0)).take(width);
                out.extend(units.flat_map(u32::to_le_bytes));
            }
            (format!("<U{width}"), out)
        }
    })
}

/// For each row-major position, where a column-major file has that element.
fn fortran_order(shape: &[usize]) -> Vec<usize> {
    let mut strides = Vec::with_capacity(shape.len());
    let mut stride = 1_usize;
    for &size in shape {
        strides.push(stride);
        stride = stride.saturating_mul(size);
    }
    let mut index = vec![0_usize; shape.len()];
    let mut at = 0_usize;
    let total = count(shape).unwrap_or(0);
    let mut order = Vec::with_capacity(total);
    for _ in 0..total {
        order.push(at);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            at += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            at -= strides[axis] * index[axis];
            index[axis] = 0;
        }
    }
    order
}

fn permute<T: hallmark_receipt::Element>(values: Vec<T>, order: &[usize]) -> Data {
    T::into_data(order.iter().filter_map(|&at| values.get(at).cloned()).collect())
}
