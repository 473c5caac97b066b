//! From JSON values to types: every member named, typed and bounded, none left over (`receipt.md` §1.2).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::Digest;
use crate::json::{JsonError, Object, Value};

/// Why a document is not of its format. `path` names the member at fault, as in `envelope.signatures[0].sig`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// Not JSON as `receipt.md` §1 has it.
    #[error("{path}: {source}")]
    Json {
        /// The document at fault.
        path: String,
        /// Why.
        source: JsonError,
    },
    /// A member that must be there is not.
    #[error("`{path}` is missing")]
    Missing {
        /// The member.
        path: String,
    },
    /// A member that the format does not have.
    #[error("`{path}` is not part of the format")]
    Unknown {
        /// The member.
        path: String,
    },
    /// A value of the wrong kind.
    #[error("`{path}`: expected {expected}, got {got}")]
    Kind {
        /// The member.
        path: String,
        /// The kind expected.
        expected: &'static str,
        /// The kind found.
        got: &'static str,
    },
    /// A value outside what the format allows. The value itself is not repeated: it may be private.
    #[error("`{path}`: expected {expected}")]
    Value {
        /// The member.
        path: String,
        /// What the format allows.
        expected: &'static str,
    },
    /// Too many items, characters or bytes.
    #[error("`{path}`: {got} is more than the {limit} allowed")]
    TooLong {
        /// The member.
        path: String,
        /// The most allowed.
        limit: usize,
        /// The number found.
        got: usize,
    },
    /// A signed document that is not in canonical form.
    #[error("`{path}` is not canonical JSON")]
    NotCanonical {
        /// The document.
        path: String,
    },
}

/// The members of an object, taken one by one.
#[derive(Debug)]
pub struct Fields {
    path: String,
    members: Object,
}

impl Fields {
    /// The members of `value`, which must be an object.
    pub fn new(value: Value, path: &str) -> Result<Self, FormatError> {
        Ok(Self { path: path.to_owned(), members: as_object(value, path)? })
    }

    /// The members of a signed document: canonical JSON, byte for byte.
    pub fn signed(bytes: &[u8], path: &str, limit: usize) -> Result<Self, FormatError> {
        let value = Value::parse(bytes, limit)
            .map_err(|source| FormatError::Json { path: path.to_owned(), source })?;
        if value.canonical().as_bytes() != bytes {
            return Err(FormatError::NotCanonical { path: path.to_owned() });
        }
        Self::new(value, path)
    }

    /// The full name of member `name`.
    pub fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Member `name` if it is there.
    pub fn optional(&mut self, name: &str) -> Option<Value> {
        self.members.remove(name)
    }

    /// Whether member `name` is there.
    pub fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    /// Member `name`.
    pub fn value(&mut self, name: &str) -> Result<Value, FormatError> {
        self.optional(name).ok_or_else(|| FormatError::Missing { path: self.path(name) })
    }

    /// Member `name`, an object.
    pub fn object(&mut self, name: &str) -> Result<Object, FormatError> {
        let value = self.value(name)?;
        as_object(value, &self.path(name))
    }

    /// Member `name`, an object with members of its own.
    pub fn fields(&mut self, name: &str) -> Result<Self, FormatError> {
        let value = self.value(name)?;
        Self::new(value, &self.path(name))
    }

    /// Member `name`, a list of at most `limit` items, each with its path.
    pub fn array(&mut self, name: &str, limit: usize) -> Result<Vec<(String, Value)>, FormatError> {
        let path = self.path(name);
        match self.value(name)? {
            Value::Array(items) if items.len() > limit => {
                Err(FormatError::TooLong { path, limit, got: items.len() })
            }
            Value::Array(items) => Ok(items
                .into_iter()
                .enumerate()
                .map(|(index, item)| (format!("{path}[{index}]"), item))
                .collect()),
            other => Err(FormatError::Kind { path, expected: "a list", got: other.kind() }),
        }
    }

    /// Member `name`, a text of 1 to `limit` bytes.
    pub fn text(&mut self, name: &str, limit: usize) -> Result<String, FormatError> {
        let value = self.value(name)?;
        as_text(value, &self.path(name), limit)
    }

    /// Member `name`, which must be exactly `text`.
    pub fn constant(&mut self, name: &str, text: &'static str) -> Result<(), FormatError> {
        let value = self.value(name)?;
        match value {
            Value::Str(got) if got == text => Ok(()),
            Value::Str(_) => Err(FormatError::Value { path: self.path(name), expected: text }),
            other => Err(FormatError::Kind { path: self.path(name), expected: "text", got: other.kind() }),
        }
    }

    /// Member `name`, a non-negative integer.
    pub fn integer(&mut self, name: &str) -> Result<u64, FormatError> {
        let value = self.value(name)?;
        as_integer(&value, &self.path(name))
    }

    /// Member `name`, a digest.
    pub fn digest(&mut self, name: &str) -> Result<Digest, FormatError> {
        self.hex::<32>(name).map(Digest)
    }

    /// Member `name`, `N` bytes in lower-case hexadecimal.
    pub fn hex<const N: usize>(&mut self, name: &str) -> Result<[u8; N], FormatError> {
        let value = self.value(name)?;
        as_hex(&value, &self.path(name))
    }

    /// Member `name`, at most `limit` bytes in standard, padded base64 without stray bits.
    pub fn base64(&mut self, name: &str, limit: usize) -> Result<Vec<u8>, FormatError> {
        let path = self.path(name);
        as_base64(self.value(name)?, &path, limit)
    }

    /// Refuses members that nobody took.
    pub fn finish(self) -> Result<(), FormatError> {
        match self.members.keys().next() {
            None => Ok(()),
            Some(name) => {
                Err(FormatError::Unknown { path: self.path(&name.chars().take(64).collect::<String>()) })
            }
        }
    }
}

/// `value` as bytes in base64, of at most `limit` bytes.
pub fn as_base64(value: Value, path: &str, limit: usize) -> Result<Vec<u8>, FormatError> {
    let path = path.to_owned();
    match value {
        Value::Str(text) => {
            // Nothing is decoded that is too long.
            let padding = text.bytes().rev().take(2).filter(|byte| *byte == b'=').count();
            let got = (text.len() / 4).saturating_mul(3).saturating_sub(padding);
            if got > limit {
                return Err(FormatError::TooLong { path, limit, got });
            }
            STANDARD.decode(text).map_err(|_| FormatError::Value { path, expected: "standard padded base64" })
        }
        other => Err(FormatError::Kind { path, expected: "text", got: other.kind() }),
    }
}

/// `value` as an object.
pub fn as_object(value: Value, path: &str) -> Result<Object, FormatError> {
    match value {
        Value::Object(members) => Ok(members),
        other => Err(FormatError::Kind { path: path.to_owned(), expected: "an object", got: other.kind() }),
    }
}

/// `value` as a text of 1 to `limit` bytes.
pub fn as_text(value: Value, path: &str, limit: usize) -> Result<String, FormatError> {
    match value {
        Value::Str(text) => verify_length(&text, path, limit).map(|()| text),
        other => Err(FormatError::Kind { path: path.to_owned(), expected: "text", got: other.kind() }),
    }
}

/// Whether `text` has 1 to `limit` bytes.
pub(crate) fn verify_length(text: &str, path: &str, limit: usize) -> Result<(), FormatError> {
    if text.is_empty() {
        return Err(FormatError::Value { path: path.to_owned(), expected: "text that is not empty" });
    }
    if text.len() > limit {
        return Err(FormatError::TooLong { path: path.to_owned(), limit, got: text.len() });
    }
    Ok(())
}

/// `value` as a non-negative integer.
pub fn as_integer(value: &Value, path: &str) -> Result<u64, FormatError> {
    match value {
        Value::Int(value) => u64::try_from(*value)
            .map_err(|_| FormatError::Value { path: path.to_owned(), expected: "an integer of 0 or more" }),
        other => Err(FormatError::Kind { path: path.to_owned(), expected: "an integer", got: other.kind() }),
    }
}

/// `value` as `N` bytes in lower-case hexadecimal.
pub fn as_hex<const N: usize>(value: &Value, path: &str) -> Result<[u8; N], FormatError> {
    match value {
        Value::Str(text) => from_hex(text)
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(FormatError::Value { path: path.to_owned(), expected: hex_of(N) }),
        other => Err(FormatError::Kind { path: path.to_owned(), expected: "text", got: other.kind() }),
    }
}

/// `value` as a digest.
pub fn as_digest(value: &Value, path: &str) -> Result<Digest, FormatError> {
    as_hex::<32>(value, path).map(Digest)
}

/// Bytes of lower-case hexadecimal digits.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    // What is no digit is found at the end: a loop without a way out reads many digits at a time.
    let mut all = 0;
    let bytes = pairs.iter().map(|[high, low]| {
        let (high, low) = (nibble(*high), nibble(*low));
        all |= high | low;
        (high << 4) | low
    });
    let bytes = bytes.collect();
    (all <= 0x0f).then_some(bytes)
}

/// Lower-case hexadecimal digits of bytes.
pub fn to_hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().saturating_mul(2));
    push_hex(&mut out, bytes);
    out
}

/// Adds lower-case hexadecimal digits.
pub(crate) fn push_hex(out: &mut String, bytes: &[u8]) {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or('0');
    for byte in bytes {
        out.push(digit(byte >> 4));
        out.push(digit(byte & 15));
    }
}

/// Standard padded base64 of bytes.
pub fn to_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The value of a digit; of what is none, 0xff.
fn nibble(digit: u8) -> u8 {
    let (number, letter) = (digit.wrapping_sub(b'0'), digit.wrapping_sub(b'a'));
    match (number, letter) {
        (0..10, _) => number,
        (_, 0..6) => letter.wrapping_add(10),
        _ => 0xff,
    }
}

fn hex_of(bytes: usize) -> &'static str {
    match bytes {
        16 => "32 lower-case hexadecimal digits",
        32 => "64 lower-case hexadecimal digits",
        _ => "lower-case hexadecimal digits",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::object;

    #[test]
    fn base64_and_hex_have_one_form() {
        let decode =
            |text: &str| Fields::new(Value::Object(object([("d", text.into())])), "").unwrap().base64("d", 8);
        assert_eq!(decode("AQI="), Ok(vec![1, 2]));
        // no padding, stray bits, URL alphabet, white space, too much padding
        for text in ["AQI", "AQJ=", "-_8=", "AQI=\n", "AQI==", "A"] {
            assert!(matches!(decode(text), Err(FormatError::Value { .. })), "{text}");
        }
        assert!(matches!(decode(&to_base64(&[0; 9])), Err(FormatError::TooLong { limit: 8, got: 9, .. })));
        assert_eq!(from_hex("00ff"), Some(vec![0, 255]));
        assert_eq!((from_hex("00FF"), from_hex("0"), from_hex("g0")), (None, None, None));
    }

    #[test]
    fn unknown_members_are_named() {
        let mut fields =
            Fields::new(Value::Object(object([("a", Value::Int(1)), ("b", Value::Int(2))])), "x").unwrap();
        assert_eq!(fields.integer("a"), Ok(1));
        assert_eq!(fields.value("c"), Err(FormatError::Missing { path: "x.c".into() }));
        assert_eq!(fields.finish(), Err(FormatError::Unknown { path: "x.b".into() }));
    }
}
