//! Normalisations (`quantised.md` §3.4): ONNX's own operators, and the operators that exporters write for them where the opset has none:
//!
//! ```text
//! d = x - mean(x)  or  d = x;   y = d / sqrt(k * mean(d^2) + epsilon), in whatever order and with roots, powers or reciprocals
//! ```

use super::array::Array;
use super::pattern::{Step, step};
use super::source::Source;
use crate::graph::{Dim, Node, ValueId};
use crate::ops::Domain;
use crate::ops::index::{axis, integers};

/// An epsilon that stands outside the root counts as its square inside; above this that is another function.
const OUTSIDE: f64 = 1e-2;

/// `scale * d / sqrt(mean(d^2) + epsilon) + offset` along one axis, with `d = x - mean(x)` if `center`, else `d = x`.
#[derive(Clone, Debug)]
pub(super) struct Normal {
    pub x: ValueId,
    /// The axis, or the parts that all axes behind the batch are cut into, each normalised by itself.
    pub rows: Rows,
    /// Elements of a row.
    pub n: usize,
    pub center: bool,
    pub epsilon: f64,
    pub scale: Array,
    pub offset: Array,
}

/// Where the rows lie.
#[derive(Clone, Debug)]
pub(super) enum Rows {
    /// Along this axis.
    Axis(usize),
    /// In so many parts; the shape behind the batch.
    Parts(usize, Vec<usize>),
}

/// The normalisation that `node` ends.
pub(super) fn normal(source: &Source, node: &Node) -> Option<Normal> {
    if node.op.domain != Domain::Onnx || node.outputs.iter().skip(1).any(Option::is_some) {
        return None;
    }
    match node.op.name {
        "LayerNormalization" | "RMSNormalization" => layer(source, node),
        "InstanceNormalization" | "GroupNormalization" => parts(source, node),
        "Div" => {
            let root = root(source, Source::input(node, 1)?)?;
            root.over(source, Source::input(node, 0)?)
        }
        "Mul" => [(0, 1), (1, 0)].into_iter().find_map(|(d, factor)| {
            let inverse = inverse(source, Source::input(node, factor)?)?;
            inverse.over(source, Source::input(node, d)?)
        }),
        "Add" => [(0, 1), (1, 0)].into_iter().find_map(|(product, rest)| {
            folded(source, Source::input(node, product)?, Source::input(node, rest)?)
        }),
        _ => None,
    }
}

fn known(dims: &[Dim], at: usize) -> Option<usize> {
    if let Dim::Known(n) = dims.get(at)? { Some(*n).filter(|n| *n > 0) } else { None }
}

fn layer(source: &Source, node: &Node) -> Option<Normal> {
    let x = source.variable(node, 0)?;
    let dims = source.dims(x)?;
    let last = dims.len().checked_sub(1)?;
    if axis(node.attrs.int("axis", -1), dims.len()).ok()? != last {
        return None;
    }
    let offset = match Source::input(node, 2) {
        Some(_) => source.array(node, 2)?,
        None => Array::scalar(0.0),
    };
    let (center, epsilon) =
        (node.op.name == "LayerNormalization", f64::from(node.attrs.float("epsilon", 1e-5)));
    let (rows, n, scale) = (Rows::Axis(last), known(dims, last)?, source.array(node, 1)?);
    Some(Normal { x, rows, n, center, epsilon, scale, offset })
}

fn parts(source: &Source, node: &Node) -> Option<Normal> {
    let x = source.variable(node, 0)?;
    let dims = source.dims(x)?;
    let channels = known(dims, 1)?;
    let all = (1..dims.len()).try_fold(1_usize, |n, at| n.checked_mul(known(dims, at)?))?;
    let parts = match node.op.name {
        "GroupNormalization" => usize::try_from(node.attrs.opt_int("num_groups")?).ok()?,
        _ => channels,
    };
    if parts == 0 || !channels.is_multiple_of(parts) {
        return None;
    }
    let along = |index| {
        let list = source.array(node, index)?.values;
        // Version 18 of GroupNormalization has one number a group.
        let each = channels.checked_div(list.len()).filter(|each| each * list.len() == channels)?;
        let values = list.iter().flat_map(|value| std::iter::repeat_n(*value, each)).collect();
        let shape = (1..dims.len()).map(|at| if at == 1 { channels } else { 1 }).collect();
        Some(Array { shape, values })
    };
    let (scale, offset) = (along(1)?, along(2)?);
    let epsilon = f64::from(node.attrs.float("epsilon", 1e-5));
    let shape = (1..dims.len()).map(|at| known(dims, at)).collect::<Option<Vec<_>>>()?;
    Some(Normal { x, rows: Rows::Parts(parts, shape), n: all / parts, center: true, epsilon, scale, offset })
}

/// `factor * sqrt(k * mean(d^2) + epsilon)`, or one over it, with the mean along one axis that is kept.
#[derive(Clone, Debug)]
struct Squares {
    d: ValueId,
    axis: usize,
    n: usize,
    k: f64,
    epsilon: f64,
    /// A constant that the inverse was multiplied by.
    factor: Array,
}

impl Squares {
    /// `numerator / this`, if the numerator is d, or d times constants.
    fn over(self, source: &Source, numerator: ValueId) -> Option<Normal> {
        let (mut at, mut scale) = (numerator, self.factor.clone());
        while !same(source, at, self.d) {
            let (_, node) = source.maker(at)?;
            let (x, Step::Affine(factor, offset)) = step(source, node)? else { return None };
            if offset.uniform() != Some(0.0) {
                return None;
            }
            (at, scale) = (x, scale.zip(&factor, |a, b| a * b)?);
        }
        let x = centred(source, self.d, self.axis);
        let (from, center) = (x.unwrap_or(self.d), x.is_some());
        Some(self.of(from, center, scale, Array::scalar(0.0)))
    }

    fn of(self, x: ValueId, center: bool, scale: Array, offset: Array) -> Normal {
        let root = self.k.sqrt();
        let (rows, epsilon) = (Rows::Axis(self.axis), self.epsilon / self.k);
        Normal { x, rows, n: self.n, center, epsilon, scale: scale.map(|s| s / root), offset }
    }
}

/// Whether both are the same difference, perhaps written twice.
fn same(source: &Source, a: ValueId, b: ValueId) -> bool {
    if a == b {
        return true;
    }
    let inputs = |id| {
        let (_, node) = source.maker(id).filter(|(_, node)| node.op.name == "Sub")?;
        Some((Source::input(node, 0)?, mean(source, Source::input(node, 1)?)?))
    };
    inputs(a).is_some_and(|own| Some(own) == inputs(b))
}

/// What `id` is the mean of, along which axis.
fn mean(source: &Source, id: ValueId) -> Option<(ValueId, usize)> {
    let (_, node) = source.maker(id)?;
    match node.op.name {
        "ReduceMean" => reduced(source, node),
        "Clip" => clip(source, node).filter(|(_, low, _)| *low < 0.0).and_then(|(x, ..)| mean(source, x)),
        _ => None,
    }
}

/// What Clip reads, and its bounds. In a statistic they are where a quantised file's integers end (`quantised.md` §5), and no more is made of
/// them.
fn clip(source: &Source, node: &Node) -> Option<(ValueId, f64, f64)> {
    match step(source, node)? {
        (x, Step::Clamp(low, high)) => Some((x, low, high)),
        _ => None,
    }
}

/// What `node` reduces, if along one axis that it keeps.
fn reduced(source: &Source, node: &Node) -> Option<(ValueId, usize)> {
    let x = source.variable(node, 0)?;
    let rank = source.dims(x)?.len();
    let list = match (node.attrs.ints("axes"), source.constant_input(node, 1)) {
        (Some(list), _) => list.to_vec(),
        (None, Some(list)) => integers(list)?,
        (None, None) => return None,
    };
    let &[at] = list.as_slice() else { return None };
    (node.attrs.int("keepdims", 1) == 1).then_some((x, axis(at, rank).ok()?))
}

/// `x`, where `d` is x less its mean along the axis.
fn centred(source: &Source, d: ValueId, axis: usize) -> Option<ValueId> {
    let (_, node) = source.maker(d).filter(|(_, node)| node.op.name == "Sub")?;
    let x = Source::input(node, 0)?;
    (mean(source, Source::input(node, 1)?)? == (x, axis)).then_some(x)
}

/// The only number of a constant.
fn number(source: &Source, node: &Node, index: usize) -> Option<f64> {
    source.array(node, index)?.single()
}

/// A variable and a number, in whichever order.
fn with_number(source: &Source, node: &Node) -> Option<(ValueId, f64)> {
    match (source.variable(node, 0), source.variable(node, 1)) {
        (Some(x), None) => Some((x, number(source, node, 1)?)),
        (None, Some(x)) => Some((x, number(source, node, 0)?)),
        _ => None,
    }
}

/// `k * mean(d^2) + epsilon`.
fn squares(source: &Source, id: ValueId) -> Option<Squares> {
    let (_, node) = source.maker(id)?;
    let scaled = |by: f64, inner: Squares| {
        (by > 0.0).then_some(Squares { k: inner.k * by, epsilon: inner.epsilon * by, ..inner })
    };
    match node.op.name {
        "ReduceMean" | "ReduceSum" | "ReduceSumSquare" => {
            let (power, axis) = reduced(source, node)?;
            let d = if node.op.name == "ReduceSumSquare" { power } else { square(source, power)? };
            let n = known(source.dims(d)?, axis)?;
            let k = if node.op.name == "ReduceMean" { 1.0 } else { n as f64 };
            Some(Squares { d, axis, n, k, epsilon: 0.0, factor: Array::scalar(1.0) })
        }
        "Add" => {
            let (x, epsilon) = with_number(source, node)?;
            let inner = squares(source, x)?;
            (epsilon >= 0.0).then_some(Squares { epsilon: inner.epsilon + epsilon, ..inner })
        }
        "Mul" => {
            let (x, by) = with_number(source, node)?;
            scaled(by, squares(source, x)?)
        }
        "Div" => scaled(1.0 / number(source, node, 1)?, squares(source, source.variable(node, 0)?)?),
        "Cast" | "Identity" | "Relu" => squares(source, source.variable(node, 0)?),
        "Clip" => clip(source, node).filter(|(_, low, _)| *low <= 0.0).and_then(|(x, ..)| squares(source, x)),
        _ => None,
    }
}

/// `d`, where `id` is its square.
fn square(source: &Source, id: ValueId) -> Option<ValueId> {
    let (_, node) = source.maker(id)?;
    let (a, b) = (Source::input(node, 0)?, Source::input(node, 1));
    match node.op.name {
        "Pow" if number(source, node, 1)? == 2.0 => Some(a),
        "Mul" => b.filter(|b| same(source, a, *b)).map(|_| a),
        "Clip" => clip(source, node).filter(|(_, low, _)| *low <= 0.0).and_then(|(x, ..)| square(source, x)),
        _ => None,
    }
}

/// The root of [`squares`].
fn root(source: &Source, id: ValueId) -> Option<Squares> {
    let (_, node) = source.maker(id)?;
    match node.op.name {
        "Sqrt" => squares(source, source.variable(node, 0)?),
        "Pow" if number(source, node, 1)? == 0.5 => squares(source, source.variable(node, 0)?),
        "ReduceL2" => {
            let (d, axis) = reduced(source, node)?;
            let n = known(source.dims(d)?, axis)?;
            Some(Squares { d, axis, n, k: n as f64, epsilon: 0.0, factor: Array::scalar(1.0) })
        }
        // A small number beside the root, or under it, keeps from dividing by zero.
        "Add" | "Max" => {
            let (x, beside) = with_number(source, node)?;
            let inner = root(source, x)?;
            (0.0..=OUTSIDE)
                .contains(&beside)
                .then_some(Squares { epsilon: inner.epsilon + beside * beside, ..inner })
        }
        "Clip" => {
            let (x, low, high) = clip(source, node)?;
            let inner = root(source, x)?;
            let floor = low.max(0.0);
            (floor == 0.0 || floor <= OUTSIDE && high > 1e30)
                .then_some(Squares { epsilon: inner.epsilon + floor * floor, ..inner })
        }
        "Cast" | "Expand" | "Identity" => root(source, source.variable(node, 0)?),
        _ => None,
    }
}

/// One over a [`root`], perhaps times a constant.
fn inverse(source: &Source, id: ValueId) -> Option<Squares> {
    let (_, node) = source.maker(id)?;
    match node.op.name {
        "Reciprocal" => root(source, source.variable(node, 0)?),
        "Pow" if number(source, node, 1)? == -0.5 => squares(source, source.variable(node, 0)?),
        "Div" if number(source, node, 0) == Some(1.0) => root(source, source.variable(node, 1)?),
        "Mul" => {
            let (x, factor) = match (source.variable(node, 0), source.variable(node, 1)) {
                (Some(x), None) => (x, source.array(node, 1)?),
                (None, Some(x)) => (x, source.array(node, 0)?),
                _ => return None,
            };
            let inner = inverse(source, x)?;
            Some(Squares { factor: inner.factor.zip(&factor, |a, b| a * b)?, ..inner })
        }
        "Cast" | "Identity" => inverse(source, source.variable(node, 0)?),
        "Clip" => clip(source, node).filter(|(_, low, _)| *low <= 0.0).and_then(|(x, ..)| inverse(source, x)),
        _ => None,
    }
}

/// `x * i + (offset - mean * i)` with i an [`inverse`], as Keras writes it.
fn folded(source: &Source, product: ValueId, rest: ValueId) -> Option<Normal> {
    let mul = |id| source.maker(id).map(|(_, node)| node).filter(|node| node.op.name == "Mul");
    let (_, sub) = source.maker(rest).filter(|(_, node)| node.op.name == "Sub")?;
    let offset = source.array(sub, 0)?;
    let (product, taken) = (mul(product)?, mul(source.variable(sub, 1)?)?);
    [(0, 1), (1, 0)].into_iter().find_map(|(x, i)| {
        let (x, i) = (Source::input(product, x)?, Source::input(product, i)?);
        let squares = inverse(source, i)?;
        let means = |id: ValueId| mean(source, id) == Some((x, squares.axis));
        let taken = [(0, 1), (1, 0)]
            .into_iter()
            .any(|(a, b)| Source::input(taken, b) == Some(i) && Source::input(taken, a).is_some_and(means));
        if !taken || centred(source, squares.d, squares.axis) != Some(x) {
            return None;
        }
        let factor = squares.factor.clone();
        Some(squares.of(x, true, factor, offset.clone()))
    })
}
