//! The skeleton's bytes (`spec/model.md` §4): one form for each skeleton, read strictly.

use std::collections::BTreeMap;
use std::sync::Arc;

use hallmark_receipt::commit::{code, data_bytes, decode_data};
use hallmark_receipt::tensor::count;
use hallmark_receipt::{DType, Tensor};

use super::{
    Axis, Body, Constant, Input, Output, Skeleton, SkeletonAttr, SkeletonNode, Weight, has_integers,
    is_inline,
};
use crate::graph::{Attr, ValueId};
use crate::infer::MAX_RANK;
use crate::ops::Domain;
use crate::weights::Layout;

/// The most bytes of an encoded skeleton: what a bundle may carry.
pub const MAX_BYTES: usize = hallmark_receipt::bundle::MAX_GRAPH;
/// The deepest nesting of subgraphs.
pub const MAX_DEPTH: usize = 16;
/// The first byte: the version of the encoding.
const VERSION: u8 = 1;
/// The most memory that lists and tensors of a skeleton may take, in bytes: a node of a few bytes takes a hundred in memory.
const MAX_MEMORY: usize = 1 << 28;
/// Inputs, and captures, of one graph.
const MAX_PORTS: usize = 1 << 24;

/// Why bytes are not a skeleton, or a graph has none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum SkeletonError {
    #[error("{got} bytes are more than the {limit} allowed")]
    TooLong { limit: usize, got: usize },
    #[error("what it lists takes more than the {limit} bytes of memory allowed")]
    TooMuch { limit: usize },
    #[error("version {got} of the encoding is unknown")]
    Version { got: u8 },
    #[error("the bytes end before {what} at byte {offset}")]
    Truncated { what: &'static str, offset: usize },
    #[error("{got} bytes follow the skeleton")]
    Trailing { got: usize },
    #[error("{what} at byte {offset} is out of range")]
    Value { what: &'static str, offset: usize },
    #[error("subgraphs are nested deeper than {limit}")]
    TooDeep { limit: usize },
    #[error("not the one encoding of what it holds")]
    NotCanonical,
    #[error("value {got} is used where value {expected} is due")]
    Numbering { expected: usize, got: usize },
    #[error("an input has no element type")]
    InputType,
}

impl Skeleton {
    /// The skeleton's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer(vec![VERSION]);
        out.count(self.inputs.len());
        for input in &self.inputs {
            out.bytes(input.name.as_bytes());
            out.0.push(code(input.dtype));
            out.count(input.shape.as_ref().map_or(0, |shape| shape.len() + 1));
            for axis in input.shape.iter().flatten() {
                match axis {
                    Axis::Open => out.0.push(0),
                    Axis::Shared(number) => {
                        out.0.push(1);
                        out.count(*number);
                    }
                    Axis::Fixed(size) => {
                        out.0.push(2);
                        out.count(*size);
                    }
                }
            }
        }
        out.count(self.outputs.len());
        for output in &self.outputs {
            out.bytes(output.name.as_bytes());
            out.0.push(u8::from(output.keys.is_some()));
            if let Some(keys) = &output.keys {
                out.tensor(keys);
            }
        }
        out.body(&self.body);
        out.0
    }

    /// Reads a skeleton. Only bytes that [`Skeleton::encode`] gives are taken.
    pub fn decode(bytes: &[u8]) -> Result<Self, SkeletonError> {
        if bytes.len() > MAX_BYTES {
            return Err(SkeletonError::TooLong { limit: MAX_BYTES, got: bytes.len() });
        }
        let mut reader = Reader { all: bytes, at: 0, memory: MAX_MEMORY };
        match reader.byte("the version")? {
            VERSION => {}
            got => return Err(SkeletonError::Version { got }),
        }
        let inputs = reader.list("inputs", Reader::input)?;
        let outputs = reader.list("outputs", Reader::output)?;
        let body = reader.body(0)?;
        if reader.at != bytes.len() {
            return Err(SkeletonError::Trailing { got: bytes.len() - reader.at });
        }
        let skeleton = Self { inputs, outputs, body };
        skeleton.check()?;
        if skeleton.encode() != bytes {
            return Err(SkeletonError::NotCanonical);
        }
        Ok(skeleton)
    }

    /// Whether values are numbered as the canonical form says, and each constant is held as it must be.
    pub(super) fn check(&self) -> Result<(), SkeletonError> {
        if self.body.captures != 0
            || self.body.inputs != self.inputs.len()
            || self.body.outputs.len() != self.outputs.len()
        {
            return Err(SkeletonError::NotCanonical);
        }
        let mut shared = 0;
        for axis in self.inputs.iter().flat_map(|input| input.shape.iter().flatten()) {
            if let Axis::Shared(number) = axis {
                if *number > shared {
                    return Err(SkeletonError::NotCanonical);
                }
                shared = shared.max(number + 1);
            }
        }
        check_body(&self.body)
    }
}

fn check_body(body: &Body) -> Result<(), SkeletonError> {
    let mut next = body.inputs.saturating_add(body.captures);
    let mut layouts: BTreeMap<ValueId, Layout> = BTreeMap::new();
    for node in &body.nodes {
        if node.declared_inputs > node.inputs.len() {
            return Err(SkeletonError::NotCanonical);
        }
        let int = |name: &str| match node.attrs.get(name) {
            Some(SkeletonAttr::Plain(Attr::Int(value))) => *value,
            _ => 0,
        };
        for (index, id) in node.inputs.iter().enumerate() {
            let Some(id) = id else { continue };
            next = used(body, *id, next)?;
            if let Some(Constant::Weight(weight)) = body.constants.get(id) {
                layouts
                    .entry(*id)
                    .or_insert_with(|| Layout::of(node.domain, &node.op, index, &weight.shape, &int));
            }
        }
        for id in node.outputs.iter().flatten() {
            if id.0 != next || body.constants.contains_key(id) {
                return Err(SkeletonError::Numbering { expected: next, got: id.0 });
            }
            next += 1;
        }
        for attr in node.attrs.values() {
            if let SkeletonAttr::Graph(body) = attr {
                check_body(body)?;
            }
        }
    }
    for id in &body.outputs {
        next = used(body, *id, next)?;
    }
    let integers = has_integers(body.nodes.iter().map(|node| node.domain));
    for (id, constant) in &body.constants {
        if id.0 >= next || id.0 < body.inputs.saturating_add(body.captures) {
            return Err(SkeletonError::Numbering { expected: next, got: id.0 });
        }
        let held = match constant {
            Constant::Inline(tensor) => is_inline(tensor.dtype(), tensor.len(), integers),
            Constant::Weight(weight) => {
                let n = count(&weight.shape).ok_or(SkeletonError::NotCanonical)?;
                let layout = layouts.get(id).copied().unwrap_or_else(|| Layout::flat(n));
                !is_inline(weight.dtype, n, integers) && weight.layout == layout
            }
        };
        if !held {
            return Err(SkeletonError::NotCanonical);
        }
    }
    Ok(())
}

/// A read of `id`: defined before, or a constant whose turn it is.
fn used(body: &Body, id: ValueId, next: usize) -> Result<usize, SkeletonError> {
    if id.0 < next {
        Ok(next)
    } else if id.0 == next && body.constants.contains_key(&id) {
        Ok(next + 1)
    } else {
        Err(SkeletonError::Numbering { expected: next, got: id.0 })
    }
}

struct Writer(Vec<u8>);

impl Writer {
    /// LEB128.
    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn count(&mut self, value: usize) {
        self.number(value as u64);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    /// `None` is 0, value n is n + 1.
    fn values(&mut self, ids: &[Option<ValueId>]) {
        self.count(ids.len());
        for id in ids {
            self.count(id.map_or(0, |id| id.0 + 1));
        }
    }

    fn shape(&mut self, shape: &[usize]) {
        self.count(shape.len());
        shape.iter().for_each(|dim| self.count(*dim));
    }

    fn tensor(&mut self, tensor: &Tensor) {
        self.0.push(code(tensor.dtype()));
        self.shape(tensor.shape());
        self.bytes(&data_bytes(tensor.data()));
    }

    fn body(&mut self, body: &Body) {
        self.count(body.inputs);
        self.count(body.captures);
        self.count(body.constants.len());
        for (id, constant) in &body.constants {
            self.count(id.0);
            match constant {
                Constant::Inline(tensor) => {
                    self.0.push(0);
                    self.tensor(tensor);
                }
                Constant::Weight(weight) => {
                    self.0.push(1);
                    self.0.push(code(weight.dtype));
                    self.shape(&weight.shape);
                    let Layout { outer, k, inner, block } = weight.layout;
                    [outer, k, inner, block].into_iter().for_each(|n| self.count(n));
                }
            }
        }
        self.count(body.nodes.len());
        body.nodes.iter().for_each(|node| self.node(node));
        self.count(body.outputs.len());
        body.outputs.iter().for_each(|id| self.count(id.0));
    }

    fn node(&mut self, node: &SkeletonNode) {
        self.0.push(match node.domain {
            Domain::Onnx => 0,
            Domain::OnnxMl => 1,
            Domain::Hallmark => 2,
        });
        self.bytes(node.op.as_bytes());
        self.number(node.version.into());
        self.count(node.attrs.len());
        for (name, attr) in &node.attrs {
            self.bytes(name.as_bytes());
            self.attr(attr);
        }
        self.count(node.declared_inputs);
        self.values(&node.inputs);
        self.values(&node.outputs);
    }

    /// The tag is ONNX's `AttributeType`.
    fn attr(&mut self, attr: &SkeletonAttr) {
        match attr {
            SkeletonAttr::Graph(body) => {
                self.0.push(5);
                self.body(body);
            }
            SkeletonAttr::Plain(Attr::Float(x)) => {
                self.0.push(1);
                self.0.extend_from_slice(&x.to_le_bytes());
            }
            SkeletonAttr::Plain(Attr::Int(x)) => {
                self.0.push(2);
                self.0.extend_from_slice(&x.to_le_bytes());
            }
            SkeletonAttr::Plain(Attr::Str(x)) => {
                self.0.push(3);
                self.bytes(x);
            }
            SkeletonAttr::Plain(Attr::Tensor(x)) => {
                self.0.push(4);
                self.tensor(x);
            }
            SkeletonAttr::Plain(Attr::Floats(x)) => {
                self.0.push(6);
                self.count(x.len());
                self.0.extend(x.iter().flat_map(|x| x.to_le_bytes()));
            }
            SkeletonAttr::Plain(Attr::Ints(x)) => {
                self.0.push(7);
                self.count(x.len());
                self.0.extend(x.iter().flat_map(|x| x.to_le_bytes()));
            }
            SkeletonAttr::Plain(Attr::Strs(x)) => {
                self.0.push(8);
                self.count(x.len());
                x.iter().for_each(|x| self.bytes(x));
            }
            // A subgraph is `SkeletonAttr::Graph`; `Skeleton::of` makes nothing else.
            SkeletonAttr::Plain(Attr::Graph(_)) => self.0.push(5),
        }
    }
}

struct Reader<'a> {
    all: &'a [u8],
    at: usize,
    /// Bytes of memory that are left.
    memory: usize,
}

type Read<T> = Result<T, SkeletonError>;

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize, what: &'static str) -> Read<&'a [u8]> {
        let truncated = SkeletonError::Truncated { what, offset: self.at };
        let end = self.at.checked_add(len).ok_or(truncated.clone())?;
        let bytes = self.all.get(self.at..end).ok_or(truncated)?;
        self.at = end;
        Ok(bytes)
    }

    fn byte(&mut self, what: &'static str) -> Read<u8> {
        Ok(self.take(1, what)?.first().copied().unwrap_or(0))
    }

    fn number(&mut self, what: &'static str) -> Read<u64> {
        let offset = self.at;
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte(what)?;
            if (shift == 63 && byte > 1) || (shift > 0 && byte == 0) {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(SkeletonError::Value { what, offset })
    }

    fn size(&mut self, what: &'static str) -> Read<usize> {
        let offset = self.at;
        usize::try_from(self.number(what)?).map_err(|_| SkeletonError::Value { what, offset })
    }

    /// A number of things of at least `each` bytes, which must fit what is left.
    fn count(&mut self, each: usize, what: &'static str) -> Read<usize> {
        let offset = self.at;
        let n = self.size(what)?;
        match n.checked_mul(each) {
            Some(bytes) if bytes <= self.all.len() - self.at => Ok(n),
            _ => Err(SkeletonError::Truncated { what, offset }),
        }
    }

    /// Pays for `n` things of `each` bytes in memory.
    fn charge(&mut self, n: usize, each: usize) -> Read<()> {
        let left = n.checked_mul(each).and_then(|bytes| self.memory.checked_sub(bytes));
        self.memory = left.ok_or(SkeletonError::TooMuch { limit: MAX_MEMORY })?;
        Ok(())
    }

    fn list<T>(&mut self, what: &'static str, read: impl Fn(&mut Self) -> Read<T>) -> Read<Vec<T>> {
        let n = self.count(1, what)?;
        self.charge(n, size_of::<T>())?;
        (0..n).map(|_| read(self)).collect()
    }

    fn bytes(&mut self, what: &'static str) -> Read<&'a [u8]> {
        let n = self.count(1, what)?;
        self.take(n, what)
    }

    fn text(&mut self, what: &'static str) -> Read<String> {
        let offset = self.at;
        let bytes = self.bytes(what)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| SkeletonError::Value { what, offset })
    }

    fn dtype(&mut self) -> Read<DType> {
        let what = "an element type";
        let offset = self.at;
        let got = self.byte(what)?;
        let found = DType::ALL.into_iter().find(|dtype| code(*dtype) == got);
        found.ok_or(SkeletonError::Value { what, offset })
    }

    fn rank(&mut self) -> Read<usize> {
        let (what, offset) = ("a rank", self.at);
        let rank = self.count(1, what)?;
        if rank > MAX_RANK { Err(SkeletonError::Value { what, offset }) } else { Ok(rank) }
    }

    fn shape(&mut self) -> Read<Vec<usize>> {
        let rank = self.rank()?;
        (0..rank).map(|_| self.size("an axis")).collect()
    }

    fn tensor(&mut self) -> Read<Arc<Tensor>> {
        let (what, offset) = ("a tensor", self.at);
        let fault = || SkeletonError::Value { what, offset };
        let dtype = self.dtype()?;
        let shape = self.shape()?;
        let n = count(&shape).ok_or_else(fault)?;
        self.charge(n, dtype.size().unwrap_or(size_of::<String>()))?;
        let data = decode_data(dtype, n, self.bytes(what)?).map_err(|_| fault())?;
        Tensor::new(shape, data).map(Arc::new).map_err(|_| fault())
    }

    fn input(&mut self) -> Read<Input> {
        let name = self.text("an input's name")?;
        let dtype = self.dtype()?;
        let shape = match self.rank()?.checked_sub(1) {
            None => None,
            Some(rank) => Some((0..rank).map(|_| self.axis()).collect::<Read<_>>()?),
        };
        Ok(Input { name, dtype, shape })
    }

    fn axis(&mut self) -> Read<Axis> {
        let (what, offset) = ("an axis", self.at);
        match self.byte(what)? {
            0 => Ok(Axis::Open),
            1 => Ok(Axis::Shared(self.size(what)?)),
            2 => Ok(Axis::Fixed(self.size(what)?)),
            _ => Err(SkeletonError::Value { what, offset }),
        }
    }

    fn output(&mut self) -> Read<Output> {
        let name = self.text("an output's name")?;
        let (what, offset) = ("an output's keys", self.at);
        let keys = match self.byte(what)? {
            0 => None,
            1 => Some(self.tensor()?),
            _ => return Err(SkeletonError::Value { what, offset }),
        };
        Ok(Output { name, keys })
    }

    fn value(&mut self) -> Read<ValueId> {
        self.size("a value").map(ValueId)
    }

    fn values(&mut self) -> Read<Vec<Option<ValueId>>> {
        self.list("values", |reader| Ok(reader.size("a value")?.checked_sub(1).map(ValueId)))
    }

    /// A number of inputs or captures: they take no bytes of their own, so their number is bounded here.
    fn ports(&mut self, what: &'static str) -> Read<usize> {
        let offset = self.at;
        let n = self.size(what)?;
        if n > MAX_PORTS { Err(SkeletonError::Value { what, offset }) } else { Ok(n) }
    }

    fn body(&mut self, depth: usize) -> Read<Body> {
        if depth > MAX_DEPTH {
            return Err(SkeletonError::TooDeep { limit: MAX_DEPTH });
        }
        let inputs = self.ports("inputs")?;
        let captures = self.ports("captures")?;
        let constants = self.list("constants", |reader| Ok((reader.value()?, reader.constant()?)))?;
        let nodes = self.list("nodes", |reader| reader.node(depth))?;
        let outputs = self.list("outputs", Self::value)?;
        Ok(Body { inputs, captures, constants: constants.into_iter().collect(), nodes, outputs })
    }

    fn constant(&mut self) -> Read<Constant> {
        let (what, offset) = ("a constant", self.at);
        match self.byte(what)? {
            0 => Ok(Constant::Inline(self.tensor()?)),
            1 => {
                let dtype = self.dtype()?;
                let shape = self.shape()?;
                let mut size = || self.size("a leaf layout");
                let layout = Layout { outer: size()?, k: size()?, inner: size()?, block: size()? };
                Ok(Constant::Weight(Weight { dtype, shape, layout }))
            }
            _ => Err(SkeletonError::Value { what, offset }),
        }
    }

    fn node(&mut self, depth: usize) -> Read<SkeletonNode> {
        let offset = self.at;
        let domain = match self.byte("a domain")? {
            0 => Domain::Onnx,
            1 => Domain::OnnxMl,
            2 => Domain::Hallmark,
            _ => return Err(SkeletonError::Value { what: "a domain", offset }),
        };
        let op = self.text("an operator")?;
        let offset = self.at;
        let version = u32::try_from(self.number("an operator's version")?)
            .map_err(|_| SkeletonError::Value { what: "an operator's version", offset })?;
        let attrs =
            self.list("attributes", |reader| Ok((reader.text("an attribute's name")?, reader.attr(depth)?)))?;
        Ok(SkeletonNode {
            domain,
            op,
            version,
            attrs: attrs.into_iter().collect(),
            declared_inputs: self.size("declared inputs")?,
            inputs: self.values()?,
            outputs: self.values()?,
        })
    }

    fn attr(&mut self, depth: usize) -> Read<SkeletonAttr> {
        let (what, offset) = ("an attribute", self.at);
        let four = |bytes: &[u8; 4]| f32::from_le_bytes(*bytes);
        let eight = |bytes: &[u8; 8]| i64::from_le_bytes(*bytes);
        Ok(SkeletonAttr::Plain(match self.byte(what)? {
            1 => Attr::Float(self.take(4, what)?.as_chunks().0.first().map_or(0.0, four)),
            2 => Attr::Int(self.take(8, what)?.as_chunks().0.first().map_or(0, eight)),
            3 => Attr::Str(self.bytes(what)?.to_vec()),
            4 => Attr::Tensor(self.tensor()?),
            5 => return Ok(SkeletonAttr::Graph(self.body(depth + 1)?)),
            6 => {
                let n = self.count(4, what)?;
                Attr::Floats(self.take(n * 4, what)?.as_chunks().0.iter().map(four).collect())
            }
            7 => {
                let n = self.count(8, what)?;
                Attr::Ints(self.take(n * 8, what)?.as_chunks().0.iter().map(eight).collect())
            }
            8 => Attr::Strs(self.list(what, |reader| Ok(reader.bytes(what)?.to_vec()))?),
            _ => return Err(SkeletonError::Value { what, offset }),
        }))
    }
}
