//! Strict JSON without floats, and its canonical form (`receipt.md` §1).
//!
//! The parser takes what RFC 8259 allows, less everything that could be read in two ways: duplicate members, numbers with a
//! fraction, an exponent or beyond 2^53 - 1, lone surrogates and `null` are refused. White space, the order of members and the
//! escapes of strings carry no meaning and are forgotten; [`Value::canonical`] writes the one form of RFC 8785.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Members by name.
pub type Object = BTreeMap<String, Value>;

/// The greatest absolute value of an integer: 2^53 - 1.
pub const MAX_INTEGER: i64 = 9_007_199_254_740_991;
/// The deepest nesting.
pub const MAX_DEPTH: usize = 32;
/// The most values in one document.
pub const MAX_VALUES: usize = 1_000_000;

/// A JSON value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `true` or `false`.
    Bool(bool),
    /// An integer of at most 2^53 - 1 in absolute value.
    Int(i64),
    /// Text.
    Str(String),
    /// A list.
    Array(Vec<Value>),
    /// Members by name.
    Object(Object),
}

/// Why bytes are not a document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// More bytes than the caller allows.
    #[error("{got} bytes are more than the {limit} allowed")]
    TooLong {
        /// The limit.
        limit: usize,
        /// The length.
        got: usize,
    },
    /// Not UTF-8.
    #[error("byte {at} is not UTF-8")]
    NotUtf8 {
        /// Position.
        at: usize,
    },
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH} at byte {at}")]
    TooDeep {
        /// Position.
        at: usize,
    },
    /// More than [`MAX_VALUES`] values.
    #[error("more than {MAX_VALUES} values at byte {at}")]
    TooMany {
        /// Position.
        at: usize,
    },
    /// Something else than the grammar asks for.
    #[error("expected {expected} at byte {at}")]
    Unexpected {
        /// Position.
        at: usize,
        /// What was expected.
        expected: &'static str,
    },
    /// A number with a fraction, an exponent, a leading zero, or minus zero.
    #[error("the number at byte {at} is not a plain integer")]
    NotInteger {
        /// Position.
        at: usize,
    },
    /// An integer beyond 2^53 - 1.
    #[error("the integer at byte {at} is beyond 2^53 - 1")]
    IntegerRange {
        /// Position.
        at: usize,
    },
    /// A member name that occurs twice in one object.
    #[error("the member `{name}` before byte {at} occurs twice")]
    Duplicate {
        /// Position.
        at: usize,
        /// The name, cut at 64 characters.
        name: String,
    },
    /// `null`, which has no meaning in these formats.
    #[error("null at byte {at}: an absent value is left out")]
    Null {
        /// Position.
        at: usize,
    },
    /// An escape that is malformed or a lone surrogate, or an unescaped control character.
    #[error("malformed text at byte {at}")]
    Text {
        /// Position.
        at: usize,
    },
}

impl Value {
    /// Parses one document of at most `limit` bytes.
    pub fn parse(bytes: &[u8], limit: usize) -> Result<Self, JsonError> {
        Self::parse_within(bytes, limit, 0)
    }

    /// Parses a document as if it stood `depth` levels deep in another.
    pub(crate) fn parse_within(bytes: &[u8], limit: usize, depth: usize) -> Result<Self, JsonError> {
        if bytes.len() > limit {
            return Err(JsonError::TooLong { limit, got: bytes.len() });
        }
        let text =
            std::str::from_utf8(bytes).map_err(|error| JsonError::NotUtf8 { at: error.valid_up_to() })?;
        let mut parser = Parser { text, at: 0, values: 0 };
        let value = parser.value(depth)?;
        parser.space();
        if parser.at < text.len() {
            return Err(JsonError::Unexpected { at: parser.at, expected: "the end" });
        }
        Ok(value)
    }

    /// The canonical form (RFC 8785).
    pub fn canonical(&self) -> String {
        let mut out = String::new();
        write(&mut out, self, None);
        out
    }

    /// The same document, indented for people; ends with a line feed.
    pub fn pretty(&self) -> String {
        let mut out = String::new();
        write(&mut out, self, Some(0));
        out.push('\n');
        out
    }

    /// What kind of value this is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Bool(_) => "a truth value",
            Self::Int(_) => "an integer",
            Self::Str(_) => "text",
            Self::Array(_) => "a list",
            Self::Object(_) => "an object",
        }
    }

    /// An integer, if it is at most 2^53 - 1.
    pub fn int(value: u64) -> Option<Self> {
        i64::try_from(value).ok().filter(|value| *value <= MAX_INTEGER).map(Self::Int)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Str(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Str(text)
    }
}

/// The canonical form of an object of these members.
pub(crate) fn canonical_object(members: &Object) -> String {
    let mut out = String::new();
    write_object(&mut out, members, None);
    out
}

/// An object of these members.
pub fn object<const N: usize>(members: [(&str, Value); N]) -> Object {
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    values: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip(&mut self) {
        self.at = self.at.saturating_add(1);
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.skip();
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.skip();
        }
        found
    }

    fn expect(&mut self, byte: u8, expected: &'static str) -> Result<(), JsonError> {
        if self.take(byte) { Ok(()) } else { Err(JsonError::Unexpected { at: self.at, expected }) }
    }

    fn word(&mut self, word: &str) -> bool {
        let found = self.text.as_bytes().get(self.at..).is_some_and(|rest| rest.starts_with(word.as_bytes()));
        if found {
            self.at = self.at.saturating_add(word.len());
        }
        found
    }

    fn value(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.space();
        let at = self.at;
        if depth >= MAX_DEPTH {
            return Err(JsonError::TooDeep { at });
        }
        self.values = self.values.saturating_add(1);
        if self.values > MAX_VALUES {
            return Err(JsonError::TooMany { at });
        }
        match self.peek() {
            Some(b'{') => self.object(depth.saturating_add(1)),
            Some(b'[') => self.array(depth.saturating_add(1)),
            Some(b'"') => self.string().map(Value::Str),
            Some(b'-' | b'0'..=b'9') => self.integer(),
            _ if self.word("true") => Ok(Value::Bool(true)),
            _ if self.word("false") => Ok(Value::Bool(false)),
            _ if self.word("null") => Err(JsonError::Null { at }),
            _ => Err(JsonError::Unexpected { at, expected: "a value" }),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.skip();
        let mut members = Object::new();
        self.space();
        if self.take(b'}') {
            return Ok(Value::Object(members));
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return Err(JsonError::Unexpected { at: self.at, expected: "a member's name" });
            }
            let name = self.string()?;
            if members.contains_key(&name) {
                return Err(JsonError::Duplicate { at: self.at, name: name.chars().take(64).collect() });
            }
            self.space();
            self.expect(b':', "`:`")?;
            let value = self.value(depth)?;
            members.insert(name, value);
            self.space();
            if self.take(b'}') {
                return Ok(Value::Object(members));
            }
            self.expect(b',', "`,` or `}`")?;
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.skip();
        let mut items = Vec::new();
        self.space();
        if self.take(b']') {
            return Ok(Value::Array(items));
        }
        loop {
            items.push(self.value(depth)?);
            self.space();
            if self.take(b']') {
                return Ok(Value::Array(items));
            }
            self.expect(b',', "`,` or `]`")?;
        }
    }

    fn integer(&mut self) -> Result<Value, JsonError> {
        let start = self.at;
        self.take(b'-');
        let digits = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.skip();
        }
        let text = self.text.get(start..self.at).unwrap_or_default();
        let plain = match self.text.get(digits..self.at).unwrap_or_default() {
            "" => return Err(JsonError::Unexpected { at: self.at, expected: "a digit" }),
            "0" => digits == start,
            other => !other.starts_with('0'),
        };
        if !plain || matches!(self.peek(), Some(b'.' | b'e' | b'E')) {
            return Err(JsonError::NotInteger { at: start });
        }
        match text.parse::<i64>() {
            Ok(value) if (-MAX_INTEGER..=MAX_INTEGER).contains(&value) => Ok(Value::Int(value)),
            _ => Err(JsonError::IntegerRange { at: start }),
        }
    }

    fn string(&mut self) -> Result<String, JsonError> {
        self.skip();
        let mut out = String::new();
        loop {
            let start = self.at;
            while !matches!(self.peek(), None | Some(b'"' | b'\\' | 0..=0x1f)) {
                self.skip();
            }
            // Both ends stand beside ASCII bytes, so this is a boundary of characters.
            out.push_str(self.text.get(start..self.at).unwrap_or_default());
            match self.peek() {
                Some(b'"') => {
                    self.skip();
                    return Ok(out);
                }
                Some(b'\\') => {
                    self.skip();
                    out.push(self.escape()?);
                }
                Some(_) => return Err(JsonError::Text { at: self.at }),
                None => return Err(JsonError::Unexpected { at: self.at, expected: "`\"`" }),
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let at = self.at;
        let byte = self.peek();
        self.skip();
        let plain = match byte {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(at),
            _ => return Err(JsonError::Text { at }),
        };
        Ok(plain)
    }

    fn unicode_escape(&mut self, at: usize) -> Result<char, JsonError> {
        let high = self.hex4()?;
        let code = if (0xd800..0xdc00).contains(&high) {
            if !self.word("\\u") {
                return Err(JsonError::Text { at });
            }
            let low = self.hex4()?;
            if !(0xdc00..0xe000).contains(&low) {
                return Err(JsonError::Text { at });
            }
            0x1_0000_u32.saturating_add((high & 0x3ff) << 10 | (low & 0x3ff))
        } else {
            high
        };
        char::from_u32(code).ok_or(JsonError::Text { at })
    }

    fn hex4(&mut self) -> Result<u32, JsonError> {
        let at = self.at;
        let end = at.saturating_add(4);
        let digits = self.text.get(at..end).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        self.at = end;
        code.ok_or(JsonError::Text { at })
    }
}

fn write(out: &mut String, value: &Value, indent: Option<usize>) {
    let inner = indent.map(|n| n.saturating_add(1));
    match value {
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Int(value) => {
            // Writing to a String cannot fail.
            let _ = write!(out, "{value}");
        }
        Value::Str(text) => write_text(out, text),
        // A list of scalars (a shape) stays on one line.
        Value::Array(items) => {
            let flat = items.iter().all(|item| !matches!(item, Value::Array(_) | Value::Object(_)));
            let inner = if flat { None } else { inner };
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                separate(out, index, inner, indent.is_some());
                write(out, item, inner);
            }
            close(out, ']', items.is_empty(), if flat { None } else { indent });
        }
        Value::Object(members) => write_object(out, members, indent),
    }
}

fn write_object(out: &mut String, members: &Object, indent: Option<usize>) {
    let inner = indent.map(|n| n.saturating_add(1));
    let mut sorted: Vec<(&String, &Value)> = members.iter().collect();
    // RFC 8785 orders names by UTF-16 code units, which is not the order of UTF-8 beyond U+FFFF.
    sorted.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
    out.push('{');
    for (index, (name, value)) in sorted.into_iter().enumerate() {
        separate(out, index, inner, indent.is_some());
        write_text(out, name);
        out.push_str(if indent.is_some() { ": " } else { ":" });
        write(out, value, inner);
    }
    close(out, '}', members.is_empty(), indent);
}

fn separate(out: &mut String, index: usize, inner: Option<usize>, spaced: bool) {
    if index > 0 {
        out.push(',');
    }
    match inner {
        Some(depth) => line(out, depth),
        None if spaced && index > 0 => out.push(' '),
        None => {}
    }
}

fn close(out: &mut String, bracket: char, empty: bool, indent: Option<usize>) {
    if let (Some(depth), false) = (indent, empty) {
        line(out, depth);
    }
    out.push(bracket);
}

fn line(out: &mut String, depth: usize) {
    out.push('\n');
    for _ in 0..depth {
        out.push_str("  ");
    }
}

pub(crate) fn write_text(out: &mut String, text: &str) {
    out.push('"');
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1f);
    let mut rest = text;
    // What needs an escape is ASCII, so both cuts are boundaries of characters.
    while let Some(at) = rest.bytes().position(|byte| is_special(&byte)) {
        let (plain, tail) = rest.split_at(at);
        out.push_str(plain);
        let mut tail = tail.chars();
        match tail.next() {
            Some('"') => out.push_str("\\\""),
            Some('\\') => out.push_str("\\\\"),
            Some('\u{8}') => out.push_str("\\b"),
            Some('\u{c}') => out.push_str("\\f"),
            Some('\n') => out.push_str("\\n"),
            Some('\r') => out.push_str("\\r"),
            Some('\t') => out.push_str("\\t"),
            // Writing to a String cannot fail.
            other => _ = write!(out, "\\u{:04x}", other.map_or(0, u32::from)),
        }
        rest = tail.as_str();
    }
    out.push_str(rest);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Value, JsonError> {
        Value::parse(text.as_bytes(), 1 << 20)
    }

    #[test]
    fn canonical_form_is_rfc_8785() {
        let value = parse(
            "{ \"\\u20ac\": \"\\u000F\\n\\/A\\\"\", \"\\r\":1, \"1\":[true ,false,-7,{}], \"\\ud83d\\ude00\":\"😀\", \"\\ufb33\":[] }",
        );
        assert_eq!(
            value.unwrap().canonical(),
            "{\"\\r\":1,\"1\":[true,false,-7,{}],\"€\":\"\\u000f\\n/A\\\"\",\"😀\":\"😀\",\"\u{fb33}\":[]}"
        );
    }

    #[test]
    fn every_ambiguity_is_refused_with_its_own_error() {
        let nested = format!("{}{}", "[".repeat(40), "]".repeat(40));
        for (text, expected) in [
            ("", JsonError::Unexpected { at: 0, expected: "a value" }),
            ("1.5", JsonError::NotInteger { at: 0 }),
            ("1e3", JsonError::NotInteger { at: 0 }),
            ("-0", JsonError::NotInteger { at: 0 }),
            ("01", JsonError::NotInteger { at: 0 }),
            ("9007199254740992", JsonError::IntegerRange { at: 0 }),
            ("-99999999999999999999", JsonError::IntegerRange { at: 0 }),
            ("-", JsonError::Unexpected { at: 1, expected: "a digit" }),
            ("null", JsonError::Null { at: 0 }),
            ("{\"a\":1,\"\\u0061\":2}", JsonError::Duplicate { at: 15, name: "a".into() }),
            ("\"\\ud800\"", JsonError::Text { at: 2 }),
            ("\"\\ud800\\u0041\"", JsonError::Text { at: 2 }),
            ("\"\\udc00\"", JsonError::Text { at: 2 }),
            ("\"\u{1}\"", JsonError::Text { at: 1 }),
            ("\"\\x\"", JsonError::Text { at: 2 }),
            ("\"a", JsonError::Unexpected { at: 2, expected: "`\"`" }),
            ("[1,]", JsonError::Unexpected { at: 3, expected: "a value" }),
            ("{\"a\":1,}", JsonError::Unexpected { at: 7, expected: "a member's name" }),
            ("{} x", JsonError::Unexpected { at: 3, expected: "the end" }),
            ("\u{feff}{}", JsonError::Unexpected { at: 0, expected: "a value" }),
            (&nested, JsonError::TooDeep { at: 32 }),
        ] {
            assert_eq!(parse(text), Err(expected), "{text}");
        }
        assert_eq!(Value::parse(b"{\"\xff\":1}", 99), Err(JsonError::NotUtf8 { at: 2 }));
        assert_eq!(Value::parse(b"  1", 2), Err(JsonError::TooLong { limit: 2, got: 3 }));
        let many = format!("[{}1]", "1,".repeat(MAX_VALUES));
        assert!(matches!(Value::parse(many.as_bytes(), usize::MAX), Err(JsonError::TooMany { .. })));
    }

    #[test]
    fn pretty_reads_back() {
        let value = parse("{\"b\":[1,2,[]],\"a\":{\"c\":[{\"d\":\"\\u0000\"}],\"e\":[]}}").unwrap();
        assert_eq!(parse(&value.pretty()), Ok(value.clone()));
        assert_eq!(parse(&value.canonical()), Ok(value));
    }
}
