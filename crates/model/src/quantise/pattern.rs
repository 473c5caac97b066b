//! Operators that one accumulator holds: a contraction, pooling, sum or product, the factors and addends after it (biases,
//! BatchNormalization, scalings), and the bounds that end it (Relu, Clip).

use super::array::Array;
use super::normal::{Normal, normal};
use super::source::Source;
use super::unary::Ancestors;
use crate::graph::{Dim, Node, ValueId};
use crate::ops::Domain;
use crate::ops::index::axes;

/// Numbers below minus this stand for minus infinity where they are added.
pub(super) const MASKED: f64 = 5e3;

/// `clamp(core * scale + offset, low, high)`.
#[derive(Clone, Debug)]
pub(super) struct Fused {
    pub core: Core,
    pub scale: Array,
    pub offset: Array,
    pub low: f64,
    pub high: f64,
}

/// What fills the accumulator.
#[derive(Clone, Debug)]
pub(super) enum Core {
    /// A Conv, Gemm or MatMul with constant weights, the node of that index; its result has one scale for each of `channels` slices of `axis`
    /// (of `rank` axes).
    Weights { node: usize, x: ValueId, axis: usize, rank: usize, channels: usize },
    /// A MatMul of two values (one of which may be constant).
    Matrices { a: ValueId, b: ValueId },
    /// A product of two values.
    Product { a: ValueId, b: ValueId },
    /// Values with a coefficient each.
    Sum { terms: Vec<(ValueId, Array)> },
    /// The AveragePool of that index, of `channels` channels, over windows of `count` elements.
    Pool { node: usize, x: ValueId, channels: usize, count: usize },
    /// A normalisation, without its own factors and addends.
    Normal(Box<Normal>),
    /// A mean or sum of `elements` numbers over some axes: `total / count`.
    Total { x: ValueId, axes: Vec<i64>, keep: bool, elements: usize, count: usize },
}

impl Fused {
    /// Whether the addend is a mask: it stands for minus infinity somewhere.
    pub fn masks(&self) -> bool {
        self.offset.values.iter().any(|x| *x < -MASKED)
    }

    /// The values that it reads.
    pub fn reads(&self) -> Vec<ValueId> {
        match &self.core {
            Core::Weights { x, .. } | Core::Pool { x, .. } | Core::Total { x, .. } => vec![*x],
            Core::Matrices { a, b } | Core::Product { a, b } => vec![*a, *b],
            Core::Normal(normal) => vec![normal.x],
            Core::Sum { terms } => terms.iter().map(|(x, _)| *x).collect(),
        }
    }
}

/// One operator after a core: bounds, or a factor and an addend.
pub(super) enum Step {
    Clamp(f64, f64),
    Affine(Array, Array),
}

/// The fused form of `id`, where a core that is worth an accumulator of its own lies beneath it.
pub(super) fn fused(source: &Source, ancestors: &Ancestors, id: ValueId) -> Option<Fused> {
    let (mut steps, mut at) = (Vec::new(), id);
    loop {
        if let Some((_, node)) = source.maker(at)
            && let Some(normal) = normal(source, node)
        {
            steps.push(Step::Affine(normal.scale.clone(), normal.offset.clone()));
            let fused = compose(Core::Normal(Box::new(normal)), steps)?;
            return fits(source, &fused, id).then_some(fused);
        }
        if let Some(core) = core(source, ancestors, at) {
            let fused = compose(core, steps)?;
            return fits(source, &fused, id).then_some(fused);
        }
        let (_, node) = source.maker(at)?;
        let (x, step) = step(source, node)?;
        if !source.read_once(x) {
            return None;
        }
        steps.push(step);
        at = x;
    }
}

/// The fused form of `id` as factors and addends of one value.
pub(super) fn affine(source: &Source, id: ValueId) -> Option<Fused> {
    let (mut steps, mut at) = (Vec::new(), id);
    while let Some((_, node)) = source.maker(at) {
        let Some((x, step)) = step(source, node) else { break };
        let ends =
            matches!(step, Step::Clamp(..)) && steps.iter().any(|step| matches!(step, Step::Affine(..)));
        if ends {
            break;
        }
        steps.push(step);
        at = x;
        if !source.read_once(x) {
            break;
        }
    }
    if steps.is_empty() {
        return None;
    }
    let fused = compose(Core::Sum { terms: vec![(at, Array::scalar(1.0))] }, steps)?;
    fits(source, &fused, id).then_some(fused)
}

/// `x * by` with one positive number, from a single node: the same integers.
pub(super) fn scaled(source: &Source, node: &Node) -> Option<(ValueId, f64)> {
    match step(source, node)? {
        (x, Step::Affine(scale, offset)) if offset.uniform() == Some(0.0) => {
            let by = scale.single().filter(|by| *by > 0.0 && by.is_finite())?;
            // A scale of more axes than x has would add some.
            let keeps = scale.shape.len() <= source.dims(x)?.len();
            keeps.then_some((x, by))
        }
        _ => None,
    }
}

/// The value that `node` gives a factor and an addend, and whether these differ from element to element.
pub(super) fn factors(source: &Source, node: &Node) -> Option<(ValueId, bool)> {
    match step(source, node)? {
        (x, Step::Affine(scale, offset)) => {
            Some((x, scale.uniform().is_none() || offset.uniform().is_none()))
        }
        _ => None,
    }
}

/// Composes the steps, outermost first, over `core`. Bounds must come after every factor and addend.
fn compose(core: Core, steps: Vec<Step>) -> Option<Fused> {
    let (low, high) = (f64::NEG_INFINITY, f64::INFINITY);
    let mut fused = Fused { core, scale: Array::scalar(1.0), offset: Array::scalar(0.0), low, high };
    let mut clamped = false;
    for step in steps.into_iter().rev() {
        match step {
            Step::Affine(scale, offset) if !clamped => {
                fused.scale = fused.scale.zip(&scale, |a, b| a * b)?;
                fused.offset = fused.offset.zip(&scale, |a, b| a * b)?.zip(&offset, |a, b| a + b)?;
            }
            Step::Affine(..) => return None,
            Step::Clamp(low, high) => {
                clamped = true;
                fused.low = fused.low.max(low).min(high);
                fused.high = fused.high.min(high).max(low);
            }
        }
    }
    Some(fused)
}

/// Whether the factors and addends are of the form that the core can take, and do not stretch the result.
fn fits(source: &Source, fused: &Fused, id: ValueId) -> bool {
    let Some(dims) = source.dims(id) else { return false };
    let inside = |array: &Array| {
        let known = |(&size, dim): (&usize, &Dim)| size == 1 || *dim == Dim::Known(size);
        array.shape.len() <= dims.len() && array.shape.iter().rev().zip(dims.iter().rev()).all(known)
    };
    // Addends may be infinite: masks are.
    let finite =
        fused.scale.values.iter().all(|x| x.is_finite()) && !fused.offset.values.iter().any(|x| x.is_nan());
    if !finite || fused.low.is_nan() || fused.high.is_nan() || fused.low > 0.0 || fused.high < 0.0 {
        return false;
    }
    match &fused.core {
        Core::Weights { axis, rank, channels, .. } => {
            let along = |array: &Array| array.along(*axis, *rank, *channels).is_some();
            *rank == dims.len()
                && along(&fused.scale)
                && along(&fused.offset)
                && fused.offset.values.iter().all(|x| x.is_finite())
        }
        Core::Matrices { .. }
        | Core::Normal(_)
        | Core::Product { .. }
        | Core::Pool { .. }
        | Core::Total { .. } => inside(&fused.scale) && inside(&fused.offset),
        Core::Sum { terms } => {
            inside(&fused.scale) && inside(&fused.offset) && terms.iter().all(|(_, scale)| inside(scale))
        }
    }
}

/// The operator `node` as a step on its one variable input.
pub(super) fn step(source: &Source, node: &Node) -> Option<(ValueId, Step)> {
    if node.op.domain != Domain::Onnx {
        return None;
    }
    let one = || Array::scalar(1.0);
    let zero = || Array::scalar(0.0);
    let (left, right) = (source.variable(node, 0), source.variable(node, 1));
    let step = match node.op.name {
        "Relu" => Step::Clamp(0.0, f64::INFINITY),
        "Clip" => {
            let bound = |index: usize, name: &str, default: f64| -> Option<f64> {
                match Source::input(node, index) {
                    Some(_) => source.array(node, index)?.single(),
                    None => Some(node.attrs.opt_float(name).map_or(default, f64::from)),
                }
            };
            let low = bound(1, "min", f64::NEG_INFINITY)?;
            Step::Clamp(low, bound(2, "max", f64::INFINITY)?)
        }
        "Max" | "Min" if node.inputs.len() == 2 => {
            let (x, bound) = match (left, right) {
                (Some(x), None) => (x, source.array(node, 1)?.single()?),
                (None, Some(x)) => (x, source.array(node, 0)?.single()?),
                _ => return None,
            };
            let max = node.op.name == "Max";
            let (low, high) = if max { (bound, f64::INFINITY) } else { (f64::NEG_INFINITY, bound) };
            return Some((x, Step::Clamp(low, high)));
        }
        "BatchNormalization" if node.outputs.len() == 1 => return batch_norm(source, node),
        "Add" | "Sub" | "Mul" | "Div" => {
            let (x, constant) = match (left, right) {
                (Some(x), None) => (x, source.array(node, 1)?),
                (None, Some(x)) => (x, source.array(node, 0)?),
                _ => return None,
            };
            let step = match (node.op.name, left.is_some()) {
                ("Add", _) => Step::Affine(one(), constant),
                ("Sub", true) => Step::Affine(one(), constant.map(|c| -c)),
                ("Sub", false) => Step::Affine(Array::scalar(-1.0), constant),
                ("Mul", _) => Step::Affine(constant, zero()),
                ("Div", true) => Step::Affine(constant.map(|c| 1.0 / c), zero()),
                _ => return None,
            };
            return Some((x, step));
        }
        "Neg" => Step::Affine(Array::scalar(-1.0), zero()),
        "Identity" => Step::Affine(one(), zero()),
        "Cast" if source.dtype(left?) == source.dtype(node.outputs.first().copied().flatten()?) => {
            Step::Affine(one(), zero())
        }
        _ => return None,
    };
    Some((left?, step))
}

/// `(x - mean) * (scale / sqrt(variance + epsilon)) + bias` along axis 1.
fn batch_norm(source: &Source, node: &Node) -> Option<(ValueId, Step)> {
    let x = source.variable(node, 0)?;
    let rank = source.dims(x)?.len();
    if rank < 2 || node.attrs.int("training_mode", 0) != 0 || node.attrs.int("spatial", 1) != 1 {
        return None;
    }
    let [scale, bias, mean, variance] = [1, 2, 3, 4].map(|index| source.array(node, index));
    let epsilon = f64::from(node.attrs.float("epsilon", 1e-5));
    let factor = scale?.zip(&variance?, |s, v| s / (v + epsilon).sqrt())?;
    let offset = bias?.zip(&factor.zip(&mean?, |f, m| f * m)?, |b, fm| b - fm)?;
    let along = |array: Array| {
        let shape = std::iter::once(array.values.len()).chain(std::iter::repeat_n(1, rank - 2)).collect();
        Array { shape, values: array.values }
    };
    Some((x, Step::Affine(along(factor), along(offset))))
}

/// The core that makes `id`.
fn core(source: &Source, ancestors: &Ancestors, id: ValueId) -> Option<Core> {
    let (index, node) = source.maker(id)?;
    if node.op.domain != Domain::Onnx {
        return None;
    }
    let (left, right) = (source.variable(node, 0), source.variable(node, 1));
    match node.op.name {
        "Conv" => {
            let x = left.filter(|_| right.is_none())?;
            let weights = source.array(node, 1)?;
            let (&channels, rank) = (weights.shape.first()?, weights.shape.len());
            if Source::input(node, 2).is_some() {
                source.array(node, 2)?;
            }
            Some(Core::Weights { node: index, x, axis: 1, rank, channels })
        }
        "Gemm" => {
            let x = left.filter(|_| right.is_none() && node.attrs.int("transA", 0) == 0)?;
            let weights = source.array(node, 1)?;
            let &[k, n] = weights.shape.as_slice() else { return None };
            let channels = if node.attrs.int("transB", 0) == 0 { n } else { k };
            if Source::input(node, 2).is_some() {
                source.array(node, 2)?.along(1, 2, channels)?;
            }
            Some(Core::Weights { node: index, x, axis: 1, rank: 2, channels })
        }
        "MatMul" => {
            let rank = source.dims(id)?.len();
            if let (Some(x), None) = (left, right)
                && let Some(&[_, channels]) = source.array(node, 1).as_ref().map(|w| w.shape.as_slice())
                && source.dims(x)?.len() >= 2
            {
                return Some(Core::Weights { node: index, x, axis: rank.checked_sub(1)?, rank, channels });
            }
            Some(Core::Matrices { a: Source::input(node, 0)?, b: Source::input(node, 1)? })
        }
        "AveragePool" => {
            let x = left?;
            let channels = known(source.dims(x)?.get(1)?)?;
            let kernel = node.attrs.ints("kernel_shape")?;
            let count = kernel.iter().try_fold(1_usize, |n, &k| n.checked_mul(usize::try_from(k).ok()?))?;
            // Windows of different numbers of elements were written otherwise before.
            let padded = node.attrs.ints("pads").is_some_and(|pads| pads.iter().any(|&p| p != 0))
                || !matches!(node.attrs.str("auto_pad", "NOTSET"), "NOTSET" | "VALID");
            let whole = node.attrs.int("ceil_mode", 0) == 0
                && (!padded || node.attrs.int("count_include_pad", 0) == 1);
            whole.then_some(Core::Pool { node: index, x, channels, count })
        }
        "GlobalAveragePool" => {
            let x = left?;
            let dims = source.dims(x)?;
            let count = product(dims.get(2..)?)?;
            let axes = (2..i64::try_from(dims.len()).ok()?).collect();
            Some(Core::Total { x, axes, keep: true, elements: count, count })
        }
        "ReduceMean" | "ReduceSum" => {
            let x = left?;
            let dims = source.dims(x)?;
            let list: Vec<i64> = match (node.attrs.ints("axes"), source.constant_input(node, 1)) {
                (Some(list), _) => list.to_vec(),
                (None, Some(list)) => crate::ops::index::integers(list)?,
                (None, None) => Vec::new(),
            };
            if list.is_empty() && node.attrs.int("noop_with_empty_axes", 0) != 0 {
                return None;
            }
            let all = (0..i64::try_from(dims.len()).ok()?).collect();
            let list = if list.is_empty() { all } else { list };
            let at = axes(&list, dims.len()).ok()?;
            let picked: Vec<Dim> = at.iter().filter_map(|&i| dims.get(i).cloned()).collect();
            let elements = product(&picked)?;
            let count = if node.op.name == "ReduceMean" { elements } else { 1 };
            Some(Core::Total { x, axes: list, keep: node.attrs.int("keepdims", 1) == 1, elements, count })
        }
        "Add" | "Sub" | "Mul" if ancestors.base(id).is_none() => {
            let (a, b) = (left?, right?);
            let minus = Array::scalar(if node.op.name == "Sub" { -1.0 } else { 1.0 });
            Some(match node.op.name {
                "Mul" => Core::Product { a, b },
                _ => Core::Sum { terms: vec![term(source, a, Array::scalar(1.0))?, term(source, b, minus)?] },
            })
        }
        _ => None,
    }
}

/// The greatest factor that is taken into a sum: masks have greater ones.
const FACTOR: f64 = 256.0;

/// A term of a sum: constant factors of it go into its coefficient.
fn term(source: &Source, mut x: ValueId, mut coefficient: Array) -> Option<(ValueId, Array)> {
    while source.read_once(x) {
        let Some((inner, Step::Affine(factor, offset))) =
            source.maker(x).and_then(|(_, node)| step(source, node))
        else {
            break;
        };
        let same = source.dims(inner).map(<[Dim]>::len) == source.dims(x).map(<[Dim]>::len);
        if !same || offset.uniform() != Some(0.0) || !factor.values.iter().all(|x| x.abs() <= FACTOR) {
            break;
        }
        coefficient = coefficient.zip(&factor, |a, b| a * b)?;
        x = inner;
    }
    Some((x, coefficient))
}

/// A size that is known.
fn known(dim: &Dim) -> Option<usize> {
    if let Dim::Known(n) = dim { Some(*n) } else { None }
}

/// The product of sizes that are all known and not 0.
fn product(dims: &[Dim]) -> Option<usize> {
    dims.iter().try_fold(1_usize, |n, dim| n.checked_mul(known(dim)?)).filter(|n| *n > 0)
}
