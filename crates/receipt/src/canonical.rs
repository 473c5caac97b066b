//! Writes documents of known members straight into RFC 8785's form, without a value between: a node does it for every answer.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::json::{Object, canonical_object, write_text};
use crate::wire::push_hex;

/// An object that is being written. Members come in the order of their names, which are plain ASCII.
pub(crate) struct Members<'a> {
    out: &'a mut String,
    last: &'static str,
}

/// Adds an object to `out`.
pub(crate) fn object(out: &mut String, write: impl FnOnce(&mut Members<'_>)) {
    out.push('{');
    write(&mut Members { out, last: "" });
    out.push('}');
}

/// Adds bytes in base64 to `out`.
pub(crate) fn base64(out: &mut String, bytes: &[u8]) {
    out.push('"');
    STANDARD.encode_string(bytes, out);
    out.push('"');
}

impl Members<'_> {
    fn name(&mut self, name: &'static str) -> &mut String {
        debug_assert!(self.last < name, "{name} after {}", self.last);
        self.out.push_str(if self.last.is_empty() { "\"" } else { ",\"" });
        self.out.push_str(name);
        self.out.push_str("\":");
        self.last = name;
        self.out
    }

    /// A text.
    pub fn text(&mut self, name: &'static str, text: &str) {
        write_text(self.name(name), text);
    }

    /// Bytes in hexadecimal.
    pub fn hex(&mut self, name: &'static str, bytes: &[u8]) {
        let out = self.name(name);
        out.push('"');
        push_hex(out, bytes);
        out.push('"');
    }

    /// Bytes in base64.
    pub fn base64(&mut self, name: &'static str, bytes: &[u8]) {
        base64(self.name(name), bytes);
    }

    /// A truth value or a number that the format allows.
    pub fn plain(&mut self, name: &'static str, value: impl std::fmt::Display) {
        // Writing to a String cannot fail.
        let _ = write!(self.name(name), "{value}");
    }

    /// An object that is a value already.
    pub fn members(&mut self, name: &'static str, members: &Object) {
        let text = canonical_object(members);
        self.name(name).push_str(&text);
    }

    /// An object.
    pub fn object(&mut self, name: &'static str, write: impl FnOnce(&mut Members<'_>)) {
        object(self.name(name), write);
    }

    /// A list.
    pub fn list<T>(&mut self, name: &'static str, items: &[T], mut write: impl FnMut(&mut String, &T)) {
        let out = self.name(name);
        out.push('[');
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            write(out, item);
        }
        out.push(']');
    }
}
