//! What every integer of a quantised graph can be (`quantised.md` §4): intervals, from the constants alone.

use std::collections::{BTreeMap, BTreeSet};

use hallmark_receipt::{DType, Tensor};

use super::scale::LIMIT;
use crate::graph::{Dim, Graph, Node, ValueId};
use crate::ops::Domain;
use crate::ops::index::{axis, integers};
use crate::ops::quantised::{MAX_MULTIPLIER, Normalize, Requantize, Table};

/// All integers from `low` to `high`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// The least.
    pub low: i64,
    /// The greatest.
    pub high: i64,
}

impl Interval {
    /// The greatest magnitude.
    pub fn most(&self) -> i64 {
        self.low.saturating_abs().max(self.high.saturating_abs())
    }

    fn of(values: impl IntoIterator<Item = i64>) -> Option<Self> {
        let (mut values, at) = (values.into_iter(), |low, high| Self { low, high });
        let first = values.next()?;
        let (low, high) = values.fold((first, first), |(low, high), x| (low.min(x), high.max(x)));
        Some(at(low, high))
    }

    fn hull(self, other: Self) -> Self {
        Self { low: self.low.min(other.low), high: self.high.max(other.high) }
    }

    fn is_within(self, other: Self) -> bool {
        other.low <= self.low && self.high <= other.high
    }

    fn with_zero(self) -> Self {
        self.hull(Self { low: 0, high: 0 })
    }

    fn add(self, other: Self) -> Self {
        Self { low: self.low.saturating_add(other.low), high: self.high.saturating_add(other.high) }
    }

    fn neg(self) -> Self {
        Self { low: self.high.saturating_neg(), high: self.low.saturating_neg() }
    }

    fn mul(self, other: Self) -> Self {
        let ends =
            [(self.low, other.low), (self.low, other.high), (self.high, other.low), (self.high, other.high)];
        let products = ends.map(|(a, b)| a.saturating_mul(b));
        Self::of(products).unwrap_or(self)
    }
}

/// The intervals of a graph's values.
#[derive(Clone, Debug, Default)]
pub struct Bounds(Vec<Option<Interval>>);

impl Bounds {
    /// The interval of `id`: of every value of int8, uint8, int16 and int32 but inputs of int32 and what only moves them.
    pub fn interval(&self, id: ValueId) -> Option<Interval> {
        self.0.get(id.0).copied().flatten()
    }
}

/// Why a graph is not within bounds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BoundError {
    /// A value of int32 that could be too great.
    #[error("node `{node}` ({op}) could make {got}, which is not below {limit} in magnitude")]
    Value {
        /// The node's name.
        node: String,
        /// Its operator.
        op: &'static str,
        /// The greatest magnitude.
        got: i64,
        /// What it must stay below.
        limit: i64,
    },
    /// A product inside Requantize that could be too great.
    #[error("node `{node}` (Requantize) could reach {got} before it shifts, which is not below {limit}")]
    Product {
        /// The node's name.
        node: String,
        /// The greatest magnitude of the product and the half unit.
        got: i64,
        /// What it must stay below.
        limit: i64,
    },
    /// A multiplier of Requantize outside 1..=32768.
    #[error("node `{node}` (Requantize) has a multiplier of {got}, outside 1..=32768")]
    Multiplier {
        /// The node's name.
        node: String,
        /// The multiplier.
        got: i64,
    },
    /// A promise that does not hold.
    #[error("node `{node}` (Requantize) promises {bits} bits before the clamp, but could make {got}")]
    Bits {
        /// The node's name.
        node: String,
        /// The promise.
        bits: u32,
        /// The value outside of it.
        got: i64,
    },
    /// An operator whose int32 results are not bounded.
    #[error("node `{node}` ({op}): nothing is known of the int32 values that it makes or reads")]
    Unknown {
        /// The node's name.
        node: String,
        /// Its operator.
        op: &'static str,
    },
    /// A value of which a bound was only promised, for other shapes than these.
    #[error(
        "node `{node}` ({op}) could make greater integers from this request than the weights were committed to with, which counts free axes as 1: give the model's inputs fixed sizes before it is committed to"
    )]
    Grown {
        /// The node's name.
        node: String,
        /// Its operator.
        op: &'static str,
    },
    /// A zero point, which the form has nowhere.
    #[error("node `{node}` ({op}) has a zero point")]
    ZeroPoint {
        /// The node's name.
        node: String,
        /// Its operator.
        op: &'static str,
    },
}

/// What is known of one value: one interval for all, or one for each slice of an axis.
#[derive(Clone, Debug)]
struct Span {
    all: Interval,
    along: Option<(usize, Vec<Interval>)>,
}

impl Span {
    fn flat(all: Interval) -> Self {
        Self { all, along: None }
    }

    /// Whether every slice lies within `other`'s; where the slices are others, the whole within each of them.
    fn is_within(&self, other: &Self) -> bool {
        match (&self.along, &other.along) {
            (Some((axis, each)), Some((other_axis, others)))
                if axis == other_axis && each.len() == others.len() =>
            {
                each.iter().zip(others).all(|(a, b)| a.is_within(*b))
            }
            (_, Some((_, others))) => others.iter().all(|b| self.all.is_within(*b)),
            (_, None) => self.all.is_within(other.all),
        }
    }

    fn along(axis: usize, each: Vec<Interval>) -> Option<Self> {
        let all = each.iter().copied().reduce(Interval::hull)?;
        Some(Self { all, along: Some((axis, each)) })
    }
}

/// The interval of every value of `graph`. Captures are weights that are not at hand: int32 values that depend on them are taken to
/// be within bounds, which whoever has the weights checks.
///
/// # Errors
/// A value of int32, or a product inside Requantize, that could reach 2^30 - 2^24 (a little less than half the characteristic of the proofs'
/// field); a promise of Requantize that does not hold; an operator that makes int32 and is not of §1's form.
pub fn bounds(graph: &Graph) -> Result<Bounds, BoundError> {
    let walk = Walk::of(graph)?;
    let of = |id| walk.spans.get(&ValueId(id)).map(|span| span.all);
    Ok(Bounds((0..graph.values.len()).map(of).collect()))
}

/// Whether what [`bounds`] takes as promised of `graph` is what was promised of `committed`, the same graph for other sizes of its
/// inputs' free axes. Bounds grow with what goes in and with how many are added; so whatever works on promised integers, or on weights
/// that are not at hand, must take nothing greater here than there, and add as many.
///
/// # Errors
/// [`BoundError::Grown`] names the first node that does not; and as [`bounds`].
pub fn hold_beyond(graph: &Graph, committed: &Graph) -> Result<(), BoundError> {
    let (here, there) = (Walk::of(graph)?, Walk::of(committed)?);
    for node in &graph.nodes {
        let mut read = node.inputs.iter().flatten();
        if !read.clone().any(|id| here.promised.contains(id)) {
            continue;
        }
        let adds = node.op.name != "ReduceSum"
            || here.added(node).is_some_and(|count| there.added(node) == Some(count));
        if !adds || !read.all(|id| here.no_greater(&there, *id)) {
            return Err(BoundError::Grown { node: node.name.clone(), op: node.op.name });
        }
    }
    Ok(())
}

impl<'a> Walk<'a> {
    /// Over all nodes of `graph`.
    fn of(graph: &'a Graph) -> Result<Self, BoundError> {
        let promised = graph.captures.iter().copied().collect();
        let mut walk = Walk { graph, spans: BTreeMap::new(), promised };
        for (id, tensor) in &graph.constants {
            if let Some(all) = constant(tensor) {
                walk.spans.insert(*id, Span::flat(all));
            }
        }
        for id in &graph.inputs {
            // An int32 input can be anything.
            let dtype =
                graph.values.get(id.0).and_then(|value| value.info.dtype).filter(|t| *t != DType::I32);
            if let Some(all) = dtype.and_then(range) {
                walk.spans.insert(*id, Span::flat(all));
            }
        }
        for node in &graph.nodes {
            walk.node(node)?;
        }
        Ok(walk)
    }

    /// Whether `id` is here within what it is in `other`, slice by slice.
    fn no_greater(&self, other: &Self, id: ValueId) -> bool {
        let constants = [self, other].map(|walk| walk.graph.constants.get(&id));
        match (constants, self.spans.get(&id), other.spans.get(&id)) {
            ([Some(a), Some(b)], Some(_), Some(_)) => a.same_bits(b),
            ([None, None], Some(a), Some(b)) => a.is_within(b),
            // Weights, promised values, and what is no integer of 32 bits.
            (_, None, None) => true,
            _ => false,
        }
    }
}

/// The interval of a constant of an integer type of at most 32 bits.
fn constant(tensor: &Tensor) -> Option<Interval> {
    range(tensor.dtype())?;
    Interval::of(integers(tensor)?)
}

/// All integers of a type of at most 32 bits.
fn range(dtype: DType) -> Option<Interval> {
    let (low, high) = match dtype {
        DType::I8 => (-128, 127),
        DType::U8 => (0, 255),
        DType::I16 => (-32_768, 32_767),
        DType::I32 => (i32::MIN.into(), i32::MAX.into()),
        _ => return None,
    };
    Some(Interval { low, high })
}

struct Walk<'a> {
    graph: &'a Graph,
    spans: BTreeMap<ValueId, Span>,
    /// Weights that are missing, and int32 values that depend on them.
    promised: BTreeSet<ValueId>,
}

impl Walk<'_> {
    fn id(node: &Node, index: usize) -> Option<ValueId> {
        node.inputs.get(index).copied().flatten()
    }

    fn span(&self, node: &Node, index: usize) -> Option<Span> {
        self.spans.get(&Self::id(node, index)?).cloned()
    }

    fn tensor(&self, node: &Node, index: usize) -> Option<&Tensor> {
        self.graph.constants.get(&Self::id(node, index)?).map(AsRef::as_ref)
    }

    fn dims(&self, id: ValueId) -> Option<&[Dim]> {
        self.graph.values.get(id.0)?.info.shape.as_deref()
    }

    fn node(&mut self, node: &Node) -> Result<(), BoundError> {
        let promised = node.inputs.iter().flatten().any(|id| self.promised.contains(id));
        for id in node.outputs.iter().flatten() {
            let Some(dtype) = self.graph.values.get(id.0).and_then(|value| value.info.dtype) else {
                continue;
            };
            let Some(whole) = range(dtype) else { continue };
            if promised {
                if dtype == DType::I32 {
                    self.promised.insert(*id);
                } else {
                    self.spans.insert(*id, Span::flat(whole));
                }
                continue;
            }
            let span = self.made(node, *id)?;
            let unknown = || BoundError::Unknown { node: node.name.clone(), op: node.op.name };
            let span = match span {
                Some(span) => span,
                None if dtype == DType::I32 => return Err(unknown()),
                None => Span::flat(whole),
            };
            if dtype == DType::I32 && span.all.most() >= LIMIT {
                let (got, limit) = (span.all.most(), LIMIT);
                return Err(BoundError::Value { node: node.name.clone(), op: node.op.name, got, limit });
            }
            self.spans.insert(*id, span);
        }
        Ok(())
    }

    /// The span of `id`, which `node` makes; `None` where nothing is known.
    fn made(&self, node: &Node, id: ValueId) -> Result<Option<Span>, BoundError> {
        let x = self.span(node, 0);
        Ok(match (node.op.domain, node.op.name) {
            (Domain::Hallmark, "Requantize") => return self.requantize(node).map(Some),
            (Domain::Hallmark, "Table") => self.table(node).map(Span::flat),
            (Domain::Hallmark, "IntegerNormalize") => {
                let gain = Normalize::of(&node.attrs).ok().map(|parameters| parameters.gain);
                gain.map(|gain| Span::flat(Interval { low: -gain, high: gain }))
            }
            (Domain::Onnx, "MatMulInteger" | "ConvInteger") => {
                if node.inputs.len() > 2 {
                    return Err(BoundError::ZeroPoint { node: node.name.clone(), op: node.op.name });
                }
                self.contraction(node, id)
            }
            (Domain::Onnx, "Add" | "Sub" | "Mul") => self.arithmetic(node, id),
            (Domain::Onnx, "ReduceSum") => self.total(node),
            (Domain::Onnx, "Pad") => x.map(|x| Span::flat(x.all.with_zero())),
            (Domain::Onnx, "Cast") => x,
            (Domain::Onnx, "Concat") => {
                let all = (0..node.inputs.len()).map(|index| Some(self.span(node, index)?.all));
                all.collect::<Option<Vec<_>>>()
                    .and_then(|all| all.into_iter().reduce(Interval::hull))
                    .map(Span::flat)
            }
            (
                Domain::Onnx,
                "DepthToSpace" | "Expand" | "Flatten" | "Gather" | "GatherElements" | "GatherND" | "Identity"
                | "MaxPool" | "Reshape" | "ReverseSequence" | "Slice" | "SpaceToDepth" | "Split" | "Squeeze"
                | "Tile" | "Transpose" | "Unsqueeze",
            ) => x.map(|x| Span::flat(x.all)),
            _ => None,
        })
    }

    /// The number of slices of `axis` of `id`, if known.
    fn slices(&self, id: ValueId, axis: usize) -> Option<usize> {
        if let Dim::Known(n) = self.dims(id)?.get(axis)? { Some(*n) } else { None }
    }

    fn contraction(&self, node: &Node, id: ValueId) -> Option<Span> {
        let (a, b) = (self.span(node, 0)?.all, self.span(node, 1)?.all);
        let conv = node.op.name == "ConvInteger";
        // Padding takes part as 0.
        let a = if conv { a.with_zero() } else { a };
        if let Some(weights) = self.tensor(node, 1) {
            let values = integers(weights)?;
            let shape = weights.shape();
            let sums = |of: &mut dyn FnMut(usize) -> usize, n: usize| {
                let mut sums = vec![Interval { low: 0, high: 0 }; n];
                for (i, &w) in values.iter().enumerate() {
                    let slot = sums.get_mut(of(i))?;
                    *slot = slot.add(a.mul(Interval { low: w, high: w }));
                }
                Some(sums)
            };
            if conv {
                let m = *shape.first()?;
                let each = (values.len() / m.max(1)).max(1);
                return Span::along(1, sums(&mut |i| i / each, m)?);
            }
            if let &[_, n] = shape {
                let rank = self.dims(id)?.len();
                return Span::along(rank.checked_sub(1)?, sums(&mut |i| i % n.max(1), n)?);
            }
        }
        if conv {
            return None;
        }
        let k = [(0, false), (1, true)].into_iter().find_map(|(index, right)| {
            let id = Self::id(node, index)?;
            let rank = self.dims(id)?.len();
            let at = if right && rank > 1 { rank - 2 } else { rank.checked_sub(1)? };
            self.slices(id, at)
        })?;
        let k = i64::try_from(k).ok()?;
        Some(Span::flat(a.mul(b).mul(Interval { low: k, high: k }).hull(Interval { low: 0, high: 0 })))
    }

    fn arithmetic(&self, node: &Node, id: ValueId) -> Option<Span> {
        let (a, b) = (self.span(node, 0)?, self.span(node, 1)?);
        let f = |a: Interval, b: Interval| match node.op.name {
            "Add" => a.add(b),
            "Sub" => a.add(b.neg()),
            _ => a.mul(b),
        };
        let along = a.along.as_ref().or(b.along.as_ref()).and_then(|(axis, each)| {
            let n = each.len();
            let (a, b) = (self.each(node, 0, id, &a, *axis, n)?, self.each(node, 1, id, &b, *axis, n)?);
            Span::along(*axis, a.into_iter().zip(b).map(|(a, b)| f(a, b)).collect())
        });
        Some(along.unwrap_or_else(|| Span::flat(f(a.all, b.all))))
    }

    /// What input `index` is in each of the `n` slices of `axis` of the result `id`.
    fn each(
        &self,
        node: &Node,
        index: usize,
        id: ValueId,
        span: &Span,
        axis: usize,
        n: usize,
    ) -> Option<Vec<Interval>> {
        let rank = self.dims(id)?.len();
        if let Some((own, each)) = &span.along {
            let own_rank = self.dims(Self::id(node, index)?)?.len();
            return (*own + rank == axis + own_rank && each.len() == n).then(|| each.clone());
        }
        let alone = vec![span.all; n];
        let Some(tensor) = self.tensor(node, index) else { return Some(alone) };
        let values = integers(tensor)?;
        let missing = rank.checked_sub(tensor.shape().len())?;
        let runs = |(i, &size): (usize, &usize)| size == if i + missing == axis { n } else { 1 };
        if tensor.shape().iter().enumerate().all(runs) && values.len() == n {
            return Some(values.into_iter().map(|x| Interval { low: x, high: x }).collect());
        }
        Some(alone)
    }

    fn total(&self, node: &Node) -> Option<Span> {
        let (x, n) = (self.span(node, 0)?.all, self.added(node)?);
        Some(Span::flat(x.mul(Interval { low: n, high: n })))
    }

    /// How many elements a ReduceSum adds up.
    fn added(&self, node: &Node) -> Option<i64> {
        let dims = self.dims(Self::id(node, 0)?)?;
        let list = integers(self.tensor(node, 1)?)?;
        let n = list.iter().try_fold(1_i64, |n, &at| {
            let at = axis(at, dims.len()).ok()?;
            let Dim::Known(size) = dims.get(at)? else { return None };
            n.checked_mul(i64::try_from(*size).ok()?)
        })?;
        (!list.is_empty()).then_some(n)
    }

    /// The entries that the integers of `x` can pick.
    fn table(&self, node: &Node) -> Option<Interval> {
        let x = self.span(node, 0)?.all;
        let dtype = self.graph.values.get(Self::id(node, 0)?.0)?.info.dtype?;
        let entries = Table::of(&node.attrs).ok()?.entries;
        let first = range(dtype)?.low;
        let at = |x: i64| usize::try_from(x - first).ok();
        Interval::of(entries.get(at(x.low)?..=at(x.high)?)?.iter().copied())
    }

    fn requantize(&self, node: &Node) -> Result<Span, BoundError> {
        let name = || node.name.clone();
        let unknown = || BoundError::Unknown { node: name(), op: node.op.name };
        let parameters = Requantize::of(&node.attrs).map_err(|_| unknown())?;
        let x = self.span(node, 0).ok_or_else(unknown)?;
        let multipliers = self.tensor(node, 1).and_then(integers).ok_or_else(unknown)?;
        if let Some(&got) = multipliers.iter().find(|m| !(1..=MAX_MULTIPLIER.into()).contains(*m)) {
            return Err(BoundError::Multiplier { node: name(), got });
        }
        let rank = Self::id(node, 0).and_then(|id| self.dims(id)).map(<[Dim]>::len);
        let at = rank.and_then(|rank| axis(parameters.axis, rank).ok());
        let pairs: Vec<(Interval, i64)> = match (&x.along, multipliers.as_slice()) {
            (Some((_, each)), [m]) => each.iter().map(|x| (*x, *m)).collect(),
            (Some((axis, each)), list) if at == Some(*axis) && each.len() == list.len() => {
                each.iter().copied().zip(list.iter().copied()).collect()
            }
            (_, list) => list.iter().map(|m| (x.all, *m)).collect(),
        };
        let half = 1_i64 << (parameters.shift - 1);
        let mut all: Option<Interval> = None;
        for (x, m) in pairs {
            let product = x.mul(Interval { low: m, high: m });
            let got = product.most().saturating_add(half);
            if got >= LIMIT {
                return Err(BoundError::Product { node: name(), got, limit: LIMIT });
            }
            let shifted = |x: i64| (x + half) >> parameters.shift;
            let (low, high) = (shifted(product.low), shifted(product.high));
            let promise = 1_i64 << parameters.bits;
            if let Some(got) = [low, high].into_iter().find(|x| !(-promise..promise).contains(x)) {
                return Err(BoundError::Bits { node: name(), bits: parameters.bits, got });
            }
            let clamp = |x: i64| x.clamp(parameters.low.into(), parameters.high.into());
            let one = Interval { low: clamp(low), high: clamp(high) };
            all = Some(all.map_or(one, |all| all.hull(one)));
        }
        all.map(Span::flat).ok_or_else(unknown)
    }
}
