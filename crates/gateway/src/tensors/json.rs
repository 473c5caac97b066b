//! Tensors as JSON.
//!
//! A tensor is `{"dtype": "float32", "shape": [2, 2], "data": [1, 2.5, "NaN", "-Infinity"]}` with flat, row-major data, or
//! nested lists, whose element type is the one that the model declares. Inputs are an object of tensors by input name, or
//! one tensor where the model has one input. Numbers are read from their text straight into the element type, so that
//! every value that [`write()`] prints comes back with its bits; an integer that the type does not hold is refused.
//! Messages name positions, never values: inputs are private.

use std::fmt;

use half::{bf16, f16};
use hallmark_receipt::{DType, Data, Tensor, TensorError, tensor::count};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::convert::{Num, Number, empty};
use super::{InputError, InputSpec, MAX_RANK};

/// Why a text is not a tensor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// The text is too long.
    #[error("{got} bytes of JSON, the limit is {limit}")]
    TooLarge {
        /// Its length.
        got: u64,
        /// The limit.
        limit: u64,
    },
    /// The bytes are not UTF-8.
    #[error("the text is not UTF-8")]
    NotUtf8,
    /// A bare `NaN`, `Infinity` or `-Infinity`, which JSON forbids.
    #[error("bare `{word}` at line {line}, column {column}: JSON has no such number")]
    BareNonFinite {
        /// The word.
        word: &'static str,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// Not JSON.
    #[error("not JSON at line {line}, column {column}")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// A key twice in one object.
    #[error("key `{key}` occurs twice")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// A tensor object without one of its three keys, or with another one.
    #[error("a tensor object has exactly the keys dtype, shape and data; `{key}` is {wrong}")]
    Keys {
        /// The key at fault.
        key: String,
        /// "missing" or "unknown".
        wrong: &'static str,
    },
    /// A dtype that does not exist.
    #[error("`{name}` is not an element type")]
    DType {
        /// The name given.
        name: String,
    },
    /// A shape that is not a list of sizes.
    #[error("the shape is not a list of at most {MAX_RANK} sizes")]
    Shape,
    /// Lists of different lengths on one level.
    #[error("the nested lists are ragged: at depth {depth} one has {expected} elements and another {got}")]
    Ragged {
        /// Depth, from 0.
        depth: usize,
        /// Length of the first.
        expected: usize,
        /// Length of another.
        got: usize,
    },
    /// Lists and elements on one level.
    #[error("at depth {depth} there are both lists and elements")]
    Mixed {
        /// Depth, from 0.
        depth: usize,
    },
    /// Lists nested too deeply.
    #[error("more than {MAX_RANK} nested lists")]
    Deep,
    /// An element of the wrong kind.
    #[error("element {index} is {got}, expected {}", expected.name())]
    Element {
        /// Flat position.
        index: usize,
        /// What it is.
        got: &'static str,
        /// The element type.
        expected: DType,
    },
    /// A number that the element type does not hold.
    #[error("element {index} is a number that {} does not hold", expected.name())]
    OutOfRange {
        /// Flat position.
        index: usize,
        /// The element type.
        expected: DType,
    },
    /// The data is not as long as the shape says.
    #[error("shape {shape:?} does not hold {got} elements")]
    Length {
        /// The shape.
        shape: Vec<usize>,
        /// Elements given.
        got: usize,
    },
    /// Shape and data disagree.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// Reads the inputs that `specs` ask for from at most `limit` bytes.
pub fn read_inputs(
    bytes: &[u8],
    specs: &[InputSpec],
    limit: u64,
) -> Result<Vec<(String, Tensor)>, InputError> {
    let got = bytes.len() as u64;
    if got > limit {
        return Err(InputError::Json(JsonError::TooLarge { got, limit }));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| InputError::Json(JsonError::NotUtf8))?;
    let raw: &RawValue =
        serde_json::from_str(text).map_err(|error| InputError::Json(syntax(text, &error)))?;
    let value = |spec: &InputSpec, read: Result<Tensor, JsonError>| match read {
        Ok(tensor) => Ok((spec.name.clone(), tensor)),
        Err(source) => Err(InputError::Value { name: spec.name.clone(), spec: spec.to_string(), source }),
    };
    let Some(fields) = object(raw).map_err(InputError::Json)? else {
        let spec = super::only_input(specs)?;
        return Ok(vec![value(spec, nested(raw, spec.dtype))?]);
    };
    let is_tensor = fields.iter().any(|(key, _)| key == "data");
    if let ([spec], true) = (specs, is_tensor)
        && spec.name != "data"
    {
        return Ok(vec![value(spec, tensor_object(&fields))?]);
    }
    let mut found = Vec::with_capacity(fields.len());
    for (name, raw) in fields {
        let Some(spec) = specs.iter().find(|spec| spec.name == name) else {
            return Err(InputError::Unknown { name, expected: super::names(specs) });
        };
        let read = object(raw).and_then(|fields| match fields {
            Some(fields) => tensor_object(&fields),
            None => nested(raw, spec.dtype),
        });
        found.push(value(spec, read)?);
    }
    Ok(found)
}

/// The tensor as `{"dtype", "shape", "data"}`.
pub fn write(tensor: &Tensor) -> Value {
    let mut object = Map::new();
    object.insert("dtype".to_owned(), tensor.dtype().name().into());
    object.insert("shape".to_owned(), tensor.shape().into());
    object.insert("data".to_owned(), Value::Array(elements(tensor.data())));
    Value::Object(object)
}

/// The tensors as an object by name.
pub fn write_all(tensors: &[(String, Tensor)]) -> Value {
    Value::Object(tensors.iter().map(|(name, tensor)| (name.clone(), write(tensor))).collect())
}

fn elements(data: &Data) -> Vec<Value> {
    fn float<T: Copy + Into<f64>>(v: T, finite: impl FnOnce(T) -> Value) -> Value {
        let wide: f64 = v.into();
        if wide.is_nan() {
            "NaN".into()
        } else if wide.is_infinite() {
            if wide > 0.0 { "Infinity".into() } else { "-Infinity".into() }
        } else {
            finite(v)
        }
    }
    match data {
        Data::F32(v) => v.iter().map(|x| float(*x, shortest)).collect(),
        Data::F64(v) => v.iter().map(|x| float(*x, Value::from)).collect(),
        Data::F16(v) => v.iter().map(|x| float(x.to_f32(), shortest)).collect(),
        Data::BF16(v) => v.iter().map(|x| float(x.to_f32(), shortest)).collect(),
        Data::I8(v) => v.iter().map(|x| (*x).into()).collect(),
        Data::I16(v) => v.iter().map(|x| (*x).into()).collect(),
        Data::I32(v) => v.iter().map(|x| (*x).into()).collect(),
        Data::I64(v) => v.iter().map(|x| (*x).into()).collect(),
        Data::U8(v) => v.iter().map(|x| (*x).into()).collect(),
        Data::U16(v) => v.iter().map(|x| (*x).into()).collect(),
        Data::U32(v) => v.iter().map(|x| (*x).into()).collect(),
        Data::U64(v) => v.iter().map(|x| (*x).into()).collect(),
        Data::Bool(v) => v.iter().map(|x| (*x).into()).collect(),
        Data::Str(v) => v.iter().map(|x| x.as_str().into()).collect(),
    }
}

/// The shortest decimal that reads back as this binary32 value. A JSON number is a binary64 in memory, so it goes through
/// the decimal's nearest binary64, whose own shortest decimal is the same text.
fn shortest(v: f32) -> Value {
    let decimal = format!("{v:e}").parse::<f64>().unwrap_or_else(|_| f64::from(v));
    Value::from(decimal)
}

fn syntax(text: &str, error: &serde_json::Error) -> JsonError {
    let (line, column) = (error.line(), error.column());
    // serde_json points at or just behind the offending byte.
    let before: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let at = (before + column).min(text.len());
    let around = text.as_bytes().get(at.saturating_sub(3)..(at + 10).min(text.len())).unwrap_or_default();
    for word in ["-Infinity", "Infinity", "NaN"] {
        if around.windows(word.len()).any(|w| w == word.as_bytes()) {
            return JsonError::BareNonFinite { word, line, column };
        }
    }
    JsonError::Syntax { line, column }
}

/// The fields of an object in order, or `None` for any other value.
fn object(raw: &RawValue) -> Result<Option<Vec<(String, &RawValue)>>, JsonError> {
    struct Fields;
    impl<'de> Visitor<'de> for Fields {
        type Value = Vec<(String, &'de RawValue)>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut fields = Vec::new();
            while let Some(field) = map.next_entry()? {
                fields.push(field);
            }
            Ok(fields)
        }
    }
    if !raw.get().starts_with('{') {
        return Ok(None);
    }
    let mut json = serde_json::Deserializer::from_str(raw.get());
    let fields = json.deserialize_map(Fields).map_err(|error| syntax(raw.get(), &error))?;
    for (index, (key, _)) in fields.iter().enumerate() {
        if fields.iter().skip(index + 1).any(|(other, _)| other == key) {
            return Err(JsonError::DuplicateKey { key: key.clone() });
        }
    }
    Ok(Some(fields))
}

fn tensor_object(fields: &[(String, &RawValue)]) -> Result<Tensor, JsonError> {
    if let Some((key, _)) = fields.iter().find(|(key, _)| !matches!(key.as_str(), "dtype" | "shape" | "data"))
    {
        return Err(JsonError::Keys { key: key.clone(), wrong: "unknown" });
    }
    let field = |name: &str| {
        let found = fields.iter().find(|(key, _)| key == name).map(|(_, raw)| *raw);
        found.ok_or_else(|| JsonError::Keys { key: name.to_owned(), wrong: "missing" })
    };
    let name =
        String::deserialize(field("dtype")?).map_err(|_| JsonError::DType { name: "not text".to_owned() })?;
    let dtype = DType::from_name(&name).ok_or(JsonError::DType { name })?;
    let shape = Vec::<usize>::deserialize(field("shape")?).map_err(|_| JsonError::Shape)?;
    if shape.len() > MAX_RANK {
        return Err(JsonError::Shape);
    }
    let flat = nested(field("data")?, Some(dtype))?;
    if flat.shape().len() != 1 || count(&shape) != Some(flat.len()) {
        return Err(JsonError::Length { shape, got: flat.len() });
    }
    Ok(flat.reshape(shape)?)
}

/// Nested lists; without a declared type, the first element tells it.
fn nested(raw: &RawValue, dtype: Option<DType>) -> Result<Tensor, JsonError> {
    let dtype = dtype.unwrap_or_else(|| guess(raw.get()));
    let mut walk = Walk { dtype, data: empty(dtype), shape: Vec::new(), rank: None, error: None };
    walk.value(raw, 0)?;
    Ok(Tensor::new(walk.shape, walk.data)?)
}

/// The type of nested lists that nothing declares.
fn guess(text: &str) -> DType {
    match text.trim_start_matches(|c: char| c == '[' || c.is_ascii_whitespace()).as_bytes().first() {
        Some(b't' | b'f') => DType::Bool,
        Some(b'"') => DType::Str,
        _ => DType::F32,
    }
}

/// Flattens nested lists without holding more than the elements.
struct Walk {
    dtype: DType,
    data: Data,
    shape: Vec<usize>,
    /// Known once the first element was met.
    rank: Option<usize>,
    error: Option<JsonError>,
}

impl Walk {
    fn value(&mut self, raw: &RawValue, depth: usize) -> Result<(), JsonError> {
        if !raw.get().starts_with('[') {
            if self.rank.is_some_and(|rank| rank != depth) || depth != self.shape.len() {
                return Err(JsonError::Mixed { depth });
            }
            self.rank = Some(depth);
            return push(&mut self.data, self.dtype, raw.get());
        }
        if depth >= MAX_RANK {
            return Err(JsonError::Deep);
        }
        if self.rank.is_some_and(|rank| depth >= rank) {
            return Err(JsonError::Mixed { depth });
        }
        let fresh = self.shape.len() == depth;
        if fresh {
            // Its length is known at its end; the levels below come first.
            self.shape.push(usize::MAX);
        }
        let mut json = serde_json::Deserializer::from_str(raw.get());
        let result = List { walk: self, depth }.deserialize(&mut json);
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let got = result.map_err(|error| syntax(raw.get(), &error))?;
        match self.shape.get_mut(depth) {
            Some(size) if *size == usize::MAX => *size = got,
            Some(size) if *size != got => return Err(JsonError::Ragged { depth, expected: *size, got }),
            _ => {}
        }
        if fresh && got == 0 {
            // An empty list ends the shape: nothing may lie deeper.
            self.rank.get_or_insert(depth + 1);
        }
        Ok(())
    }
}

struct List<'w> {
    walk: &'w mut Walk,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = usize;
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<usize, D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = usize;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<usize, A::Error> {
        let mut got = 0;
        while let Some(raw) = list.next_element::<&RawValue>()? {
            if let Err(error) = self.walk.value(raw, self.depth + 1) {
                self.walk.error = Some(error);
                return Err(serde::de::Error::custom(""));
            }
            got += 1;
        }
        Ok(got)
    }
}

/// Appends the element written as `text`.
fn push(data: &mut Data, dtype: DType, text: &str) -> Result<(), JsonError> {
    let index = data.len();
    let wrong = |got| JsonError::Element { index, got, expected: dtype };
    let range = || JsonError::OutOfRange { index, expected: dtype };
    let is_number = text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    let kind = match text.as_bytes().first() {
        Some(b'"') => "text",
        Some(b't' | b'f') => "a truth value",
        Some(b'n') => "null",
        Some(b'{') => "an object",
        _ => "a number",
    };
    fn integer<T: Number + std::str::FromStr>(text: &str) -> Option<T> {
        // `3.0` and `3e0` are the integer 3; the type decides whether they fit.
        text.parse().ok().or_else(|| T::exact(Num::Float(text.parse().ok()?)))
    }
    macro_rules! integers {
        ($v:expr) => {
            if is_number { $v.push(integer(text).ok_or_else(range)?) } else { return Err(wrong(kind)) }
        };
    }
    macro_rules! floats {
        ($v:expr, $t:ty, $parse:expr) => {
            $v.push(match text {
                "\"NaN\"" => <$t>::NAN,
                "\"Infinity\"" => <$t>::INFINITY,
                "\"-Infinity\"" => <$t>::NEG_INFINITY,
                _ if !is_number => return Err(wrong(kind)),
                // An integer that a binary64 reader would have kept means exactly itself; all else its nearest value.
                _ => match text.parse::<i128>() {
                    Ok(0) if text.starts_with('-') => $parse("-0.0").ok_or_else(range)?,
                    Ok(v) if v.unsigned_abs() <= 1 << 53 => <$t>::exact(Num::Int(v)).ok_or_else(range)?,
                    _ => $parse(text).filter(|v: &$t| v.is_finite()).ok_or_else(range)?,
                },
            })
        };
    }
    match data {
        Data::F32(v) => floats!(v, f32, |t: &str| t.parse().ok()),
        Data::F64(v) => floats!(v, f64, |t: &str| t.parse().ok()),
        Data::F16(v) => floats!(v, f16, |t: &str| t.parse().ok().map(f16::from_f64)),
        Data::BF16(v) => floats!(v, bf16, |t: &str| t.parse().ok().map(bf16::from_f64)),
        Data::I8(v) => integers!(v),
        Data::I16(v) => integers!(v),
        Data::I32(v) => integers!(v),
        Data::I64(v) => integers!(v),
        Data::U8(v) => integers!(v),
        Data::U16(v) => integers!(v),
        Data::U32(v) => integers!(v),
        Data::U64(v) => integers!(v),
        Data::Bool(v) => v.push(match text {
            "true" => true,
            "false" => false,
            _ => return Err(wrong(kind)),
        }),
        Data::Str(v) => v.push(serde_json::from_str(text).map_err(|_| wrong(kind))?),
    }
    Ok(())
}
