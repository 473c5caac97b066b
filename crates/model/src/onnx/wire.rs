//! A first walk over the protobuf bytes, before `prost` allocates anything: it tells a truncated file from a malformed
//! one, and bounds the number and the depth of messages, because two bytes of wire can ask for hundreds in memory.

use super::{ImportError, Limits};

/// Depth of messages within messages that is accepted; `prost` itself stops at 100.
const DEPTH: usize = 90;

/// A message type, as far as its fields are messages or repeated byte strings.
#[derive(Clone, Copy)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    ValueInfo,
    Type,
    TensorType,
    Shape,
    ElementType,
    MapType,
    Function,
    /// A message without messages inside, or a byte string.
    Leaf,
}

/// What a length-delimited field holds; `None` where nothing is allocated but its own bytes.
fn field(kind: Kind, tag: u64) -> Option<Kind> {
    Some(match (kind, tag) {
        (Kind::Model, 7) => Kind::Graph,
        (Kind::Model, 25) => Kind::Function,
        (Kind::Graph, 1) => Kind::Node,
        (Kind::Graph, 5) | (Kind::Attribute, 5) => Kind::Tensor,
        (Kind::Graph, 11 | 12) => Kind::ValueInfo,
        (Kind::Node, 5) | (Kind::Function, 11) => Kind::Attribute,
        (Kind::Attribute, 6) => Kind::Graph,
        (Kind::ValueInfo, 2) | (Kind::ElementType, 1) | (Kind::MapType, 2) => Kind::Type,
        (Kind::Type, 1) => Kind::TensorType,
        (Kind::Type, 4 | 9) => Kind::ElementType,
        (Kind::Type, 5) => Kind::MapType,
        (Kind::TensorType, 2) => Kind::Shape,
        (Kind::Function, 7) => Kind::Node,
        (Kind::Model, 8)
        | (Kind::Graph, 15)
        | (Kind::Node, 1 | 2)
        | (Kind::Attribute, 9)
        | (Kind::Tensor, 3 | 6 | 13)
        | (Kind::Type, 8)
        | (Kind::Shape, 1)
        | (Kind::Function, 4 | 5 | 6 | 9) => Kind::Leaf,
        _ => return None,
    })
}

/// Walks a whole model file.
pub(super) fn scan(bytes: &[u8], limits: &Limits) -> Result<(), ImportError> {
    let mut walk = Walk { messages: 0, limit: limits.messages };
    walk.message(bytes, 0, Kind::Model, 0)
}

struct Walk {
    messages: usize,
    limit: usize,
}

impl Walk {
    /// `base` is the offset of `bytes` in the file, for messages.
    fn message(&mut self, bytes: &[u8], base: usize, kind: Kind, depth: usize) -> Result<(), ImportError> {
        self.messages = self.messages.saturating_add(1);
        if self.messages > self.limit {
            return Err(ImportError::TooManyMessages { limit: self.limit });
        }
        if depth > DEPTH {
            return Err(ImportError::MessagesTooDeep { limit: DEPTH });
        }
        if matches!(kind, Kind::Leaf) {
            return Ok(());
        }
        let mut reader = Reader { rest: bytes, base, len: bytes.len() };
        while !reader.rest.is_empty() {
            let key = reader.varint()?;
            let tag = key >> 3;
            if tag == 0 {
                return Err(ImportError::Wire { offset: reader.offset(), what: "field number 0" });
            }
            match key & 7 {
                0 => drop(reader.varint()?),
                1 => drop(reader.take(8)?),
                5 => drop(reader.take(4)?),
                2 => {
                    let len = reader.varint()?;
                    let (inner, at) = reader.take(len)?;
                    if let Some(kind) = field(kind, tag) {
                        self.message(inner, at, kind, depth.saturating_add(1))?;
                    }
                }
                _ => return Err(ImportError::Wire { offset: reader.offset(), what: "wire type" }),
            }
        }
        Ok(())
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    base: usize,
    len: usize,
}

impl<'a> Reader<'a> {
    fn offset(&self) -> usize {
        self.base.saturating_add(self.len).saturating_sub(self.rest.len())
    }

    fn varint(&mut self) -> Result<u64, ImportError> {
        let start = self.offset();
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.rest.split_first().ok_or(ImportError::Truncated { offset: start })?;
            self.rest = rest;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(ImportError::Wire { offset: start, what: "variable-length integer" })
    }

    fn take(&mut self, len: u64) -> Result<(&'a [u8], usize), ImportError> {
        let at = self.offset();
        let (head, rest) = usize::try_from(len)
            .ok()
            .and_then(|len| self.rest.split_at_checked(len))
            .ok_or(ImportError::Truncated { offset: at })?;
        self.rest = rest;
        Ok((head, at))
    }
}
