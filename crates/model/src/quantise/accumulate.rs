//! Accumulators without weights (`quantised.md` §3.4): products and sums of values, pooling, normalisation.

use hallmark_receipt::{DType, Tensor};

use super::QuantiseError;
use super::array::Array;
use super::calibrate::Range;
use super::contract::{is_byte, overflow};
use super::emit::{Emitter, Quant, Target, nearest};
use super::normal::{Normal, Rows};
use super::pattern::{Core, Fused};
use super::scale::{LIMIT, Toward, choose, product_fits};
use crate::graph::{Dim, Node, ValueId};
use crate::ops::Domain;
use crate::ops::index::wrap;
use crate::ops::quantised::{MAX_GAIN, Normalize};

/// The greatest coefficient of a sum.
const MAX_COEFFICIENT: f64 = (1 << 22) as f64;
/// Steps of the result's type beyond which an addend cannot matter: it saturates whatever it is added to.
const BEYOND: f64 = 512.0;

/// What factors of sums are whole parts of: many small numbers divide it.
const PARTS: f64 = 720.0;

/// How far below all other scores masked ones are kept: their share of the greatest is below 1/2000.
const GAP: f64 = 8.0;

impl Emitter<'_> {
    /// Whatever fills an accumulator.
    pub(super) fn fused(&mut self, id: ValueId, node: &Node, fused: &Fused) -> Result<(), QuantiseError> {
        let most = fused.scale.most();
        let by = match fused.scale.single() {
            Some(by) if by > 0.0 => by,
            // Each element's factor is a whole part of the greatest one.
            _ if most > 0.0 => most / PARTS,
            _ => 1.0,
        };
        let factors = fused.scale.map(|factor| nearest(factor / by));
        let (mut sums, unit, mut bound) = match &fused.core {
            Core::Weights { node: index, .. } => {
                let source = self.source;
                let core = source.graph.nodes.get(*index).unwrap_or(node);
                return self.weights(id, core, fused);
            }
            Core::Sum { terms } => {
                let mut list = Vec::new();
                for (x, coefficient) in terms {
                    let scale = coefficient.zip(&fused.scale, |a, b| a * b).ok_or_else(|| overflow(node))?;
                    list.push((self.quant(*x)?, scale));
                }
                let (target, shift) = self.target(id, fused);
                let offset = fused.offset.map(|b| b + shift);
                let quant = self.linear(node, list, &offset, target)?;
                self.is(id, quant);
                return Ok(());
            }
            Core::Normal(normal) => {
                let quant = self.normalize(node, normal)?;
                let target = Target::of(self.range(id), (fused.low, fused.high));
                let quant = self.linear(node, vec![(quant, fused.scale.clone())], &fused.offset, target)?;
                self.is(id, quant);
                return Ok(());
            }
            Core::Matrices { a, b } => {
                let k = [*a, *b].iter().find_map(|id| self.inner(*id, id == b));
                let k = k.ok_or_else(|| QuantiseError::unsupported(node, "its inner length is not known"))?;
                let (a, b) = (self.quant(*a)?, self.quant(*b)?);
                if !is_byte(a.dtype) || !is_byte(b.dtype) {
                    return Err(QuantiseError::unsupported(node, "an operand is no integer of 8 bits"));
                }
                let bound = i64::try_from(k).unwrap_or(i64::MAX).saturating_mul(a.most() * b.most());
                let sums = self.node(Domain::Onnx, "MatMulInteger", vec![a.name, b.name], &[]);
                (sums, a.scale * b.scale * by, bound)
            }
            Core::Product { a, b } => {
                let (a, b) = (self.quant(*a)?, self.quant(*b)?);
                let inputs = vec![self.wide(a.name.clone()), self.wide(b.name.clone())];
                let products = self.node(Domain::Onnx, "Mul", inputs, &[]);
                (products, a.scale * b.scale * by, a.most() * b.most())
            }
            Core::Pool { node: index, x, channels, count } => {
                let x = self.quant(*x)?;
                let source = self.source;
                let sums = self.pool(source.graph.nodes.get(*index).unwrap_or(node), &x, *channels)?;
                let bound = i64::try_from(*count).unwrap_or(i64::MAX).saturating_mul(x.most());
                (sums, x.scale / *count as f64 * by, bound)
            }
            Core::Total { x, axes, keep, elements, count } => {
                let x = self.quant(*x)?;
                let axes = self.numbers(vec![axes.len()], axes.clone())?;
                let inputs = vec![self.wide(x.name.clone()), axes];
                let sums = self.node(Domain::Onnx, "ReduceSum", inputs, &[("keepdims", (*keep).into())]);
                let bound = i64::try_from(*elements).unwrap_or(i64::MAX).saturating_mul(x.most());
                (sums, x.scale / *count as f64 * by, bound)
            }
        };
        if factors.uniform() != Some(1.0) {
            bound = bound.saturating_mul(factors.most() as i64);
            if bound >= LIMIT {
                return Err(overflow(node));
            }
            let integers = factors.values.iter().map(|x| *x as i32).collect();
            let factors = self.numbers(factors.shape, integers)?;
            sums = self.node(Domain::Onnx, "Mul", vec![sums, factors], &[]);
        }
        self.scaled(id, node, fused, sums, unit, bound)
    }

    /// The form of `id`, and what is added to it besides. Scores that a mask is added to, and that only Softmax reads, are moved as a whole, which
    /// Softmax does not see: the greatest to the type's end, so that what is masked lies [`GAP`] below the least of the others.
    fn target(&self, id: ValueId, fused: &Fused) -> (Target, f64) {
        let (range, bounds) = (self.range(id), (fused.low, fused.high));
        let softmax = |reader: &usize| {
            self.source.graph.nodes.get(*reader).is_some_and(|node| node.op.name == "Softmax")
        };
        if !self.plans.masks(fused) || !self.source.readers(id).iter().all(softmax) {
            return (Target::of(range, bounds), 0.0);
        }
        let scale = (range.high - range.low + GAP) / 254.0;
        (Target { dtype: DType::I8, scale, bounds }, 127.0 * scale - range.high)
    }

    /// The inner length of a product, as the operand `id` (the right one, if `right`) tells it.
    fn inner(&self, id: ValueId, right: bool) -> Option<usize> {
        let dims = self.source.dims(id)?;
        let at = if right && dims.len() > 1 { dims.len() - 2 } else { dims.len().checked_sub(1)? };
        if let Dim::Known(k) = dims.get(at)? { Some(*k) } else { None }
    }

    /// Brings sums that stand for `unit` each, and the addend of `fused`, to the form of `id`.
    fn scaled(
        &mut self,
        id: ValueId,
        node: &Node,
        fused: &Fused,
        mut sums: String,
        unit: f64,
        bound: i64,
    ) -> Result<(), QuantiseError> {
        let (target, shift) = self.target(id, fused);
        let mut total = bound;
        let offset = fused.offset.map(|b| b + shift);
        if offset.uniform() != Some(0.0) {
            let beyond = bound as f64 + BEYOND * target.scale / unit;
            let offset = offset.map(|b| nearest((b / unit).clamp(-beyond, beyond)));
            total = bound.saturating_add(offset.most() as i64);
            if total >= LIMIT {
                return Err(overflow(node));
            }
            let addend = self.numbers(offset.shape, offset.values.iter().map(|b| *b as i32).collect())?;
            sums = self.node(Domain::Onnx, "Add", vec![sums, addend], &[]);
        }
        if total >= LIMIT {
            return Err(overflow(node));
        }
        let unbounded = fused.low == f64::NEG_INFINITY && fused.high == f64::INFINITY;
        if self.plans.only_float(id) && unbounded {
            self.dequantise(id, sums, &[unit], 0);
            return Ok(());
        }
        let fits = |shift: u32, m: &[i32]| m.iter().all(|m| product_fits(total, *m, shift)).then_some(());
        let choice = choose(&[unit / target.scale], Toward::Down, fits).ok_or_else(|| overflow(node))?;
        let m = choice.multipliers.first().copied().unwrap_or(1);
        // The scale that the multiplier means: nothing is left to approximate.
        let target = Target { scale: unit * f64::from(1_u32 << choice.shift) / f64::from(m), ..target };
        let quant = self.requantise(sums, (choice.shift, choice.multipliers), &[total], 0, target)?;
        self.is(id, quant);
        Ok(())
    }

    /// `sum coefficient * term + offset` in the form `target`. Coefficients are rounded at 2^-shift of the result's scale.
    pub(super) fn linear(
        &mut self,
        node: &Node,
        terms: Vec<(Quant, Array)>,
        offset: &Array,
        target: Target,
    ) -> Result<Quant, QuantiseError> {
        let made = choose(&[], Toward::Nearest, |shift, _| {
            let unit = target.scale / f64::from(1_u32 << shift);
            let (mut bound, mut coefficients) = (0_i64, Vec::new());
            for (x, coefficient) in &terms {
                let rounded = coefficient.map(|c| nearest(c * x.scale / unit));
                if rounded.values.iter().any(|k| k.is_nan() || k.abs() > MAX_COEFFICIENT) {
                    return None;
                }
                bound = bound.checked_add((rounded.most() as i64).checked_mul(x.most())?)?;
                coefficients.push(rounded);
            }
            let beyond = bound as f64 + BEYOND * target.scale / unit;
            let offset = offset.map(|b| nearest((b / unit).clamp(-beyond, beyond)));
            let total = bound.checked_add(offset.most() as i64)?;
            product_fits(total, 1, shift).then_some((coefficients, offset, total))
        });
        let choice = made.ok_or_else(|| overflow(node))?;
        let (coefficients, offset, total) = choice.made;
        let integers = |array: &Array| array.values.iter().map(|x| *x as i32).collect::<Vec<i32>>();
        let mut sum: Option<String> = None;
        for ((x, _), coefficient) in terms.into_iter().zip(coefficients) {
            let wide = self.wide(x.name);
            let shape = if coefficient.values.len() == 1 { Vec::new() } else { coefficient.shape.clone() };
            let factor = self.numbers(shape, integers(&coefficient))?;
            let term = self.node(Domain::Onnx, "Mul", vec![wide, factor], &[]);
            sum = Some(match sum {
                None => term,
                Some(sum) => self.node(Domain::Onnx, "Add", vec![sum, term], &[]),
            });
        }
        let mut sum = sum.ok_or_else(|| overflow(node))?;
        if offset.uniform() != Some(0.0) {
            let addend = self.numbers(offset.shape.clone(), integers(&offset))?;
            sum = self.node(Domain::Onnx, "Add", vec![sum, addend], &[]);
        }
        self.requantise(sum, (choice.shift, vec![1]), &[total], 0, target)
    }

    /// Concat with constants among its parts: each other part between zeros, and the constants as an addend, which is what a proof can follow.
    pub(super) fn beside_constants(
        &mut self,
        id: ValueId,
        node: &Node,
        parts: &[ValueId],
    ) -> Result<(), QuantiseError> {
        let refuse = || QuantiseError::unsupported(node, "the sizes of its parts are not known");
        let rank = self.source.dims(id).ok_or_else(refuse)?.len();
        let axis = wrap(node.attrs.int("axis", 0), rank).ok_or_else(refuse)?;
        let size = |part: &ValueId| match self.source.dims(*part).and_then(|dims| dims.get(axis)) {
            Some(Dim::Known(n)) => Ok(*n),
            _ => Err(refuse()),
        };
        let sizes = parts.iter().map(size).collect::<Result<Vec<_>, _>>()?;
        let total: usize = sizes.iter().sum();
        let (mut terms, mut offset, mut first) = (Vec::new(), Array::scalar(0.0), 0);
        let (mut low, mut high) = (0.0_f64, 0.0_f64);
        for (part, &n) in parts.iter().zip(&sizes) {
            let last = total - first - n;
            match self.source.spread(*part) {
                Some(array) => {
                    let padded = array.between_zeros(axis, rank, first, last).ok_or_else(refuse)?;
                    (low, high) = array.values.iter().fold((low, high), |(l, h), x| (l.min(*x), h.max(*x)));
                    offset = offset.zip(&padded, |a, b| a + b).ok_or_else(refuse)?;
                }
                None => {
                    let quant = self.quant(*part)?;
                    low = low.min(quant.scale * quant.low as f64);
                    high = high.max(quant.scale * quant.high as f64);
                    let mut pads = vec![0_i64; 2 * rank];
                    for (at, zeros) in [(axis, first), (axis + rank, last)] {
                        if let Some(slot) = pads.get_mut(at) {
                            *slot = i64::try_from(zeros).unwrap_or(i64::MAX);
                        }
                    }
                    let pads = self.constant(&Tensor::vector(pads));
                    let name = self.node(Domain::Onnx, "Pad", vec![quant.name.clone(), pads], &[]);
                    let (least, greatest) = (quant.low.min(0), quant.high.max(0));
                    terms.push((Quant { name, low: least, high: greatest, ..quant }, Array::scalar(1.0)));
                }
            }
            first += n;
        }
        let target = Target::of(Range { low, high }, (f64::NEG_INFINITY, f64::INFINITY));
        let quant = self.linear(node, terms, &offset, target)?;
        self.is(id, quant);
        Ok(())
    }

    /// The normalised values, as integers.
    fn normalize(&mut self, node: &Node, normal: &Normal) -> Result<Quant, QuantiseError> {
        let &Normal { ref rows, n, center, epsilon, .. } = normal;
        let x = self.signed(node, normal.x)?;
        let cube = (n as f64).powi(3);
        let axis = if let Rows::Axis(axis) = rows { i64::try_from(*axis).unwrap_or(-1) } else { -1 };
        let parameters = (0..=24_u32).find_map(|shift| {
            let units = x.scale * f64::from(1_u32 << shift);
            let epsilon = nearest(epsilon * cube / (units * units)).clamp(1.0, 1e18) as i64;
            let parameters = Normalize { axis, center, shift, epsilon, gain: MAX_GAIN };
            parameters.most(n).map(|_| parameters)
        });
        let refuse = || QuantiseError::unsupported(node, "its rows are too long, or hardly differ from 0");
        let Normalize { center, shift, epsilon, gain, .. } = parameters.ok_or_else(refuse)?;
        let attrs = [
            ("axis", axis),
            ("center", center.into()),
            ("epsilon", epsilon),
            ("gain", gain),
            ("shift", shift.into()),
        ];
        // An axis of 0 is the batch's, as it is.
        let number = |n: &usize| i64::try_from(*n).unwrap_or(i64::MAX);
        let mut from = x.name;
        if let Rows::Parts(parts, _) = rows {
            let shape = self.constant(&Tensor::vector(vec![0, number(parts), -1]));
            from = self.node(Domain::Onnx, "Reshape", vec![from, shape], &[]);
        }
        let mut name = self.node(Domain::Hallmark, "IntegerNormalize", vec![from], &attrs);
        if let Rows::Parts(_, shape) = rows {
            let shape: Vec<i64> = std::iter::once(0).chain(shape.iter().map(number)).collect();
            let shape = self.constant(&Tensor::vector(shape));
            name = self.node(Domain::Onnx, "Reshape", vec![name, shape], &[]);
        }
        let unit = (n as f64).sqrt() / gain as f64;
        Ok(Quant { name, dtype: DType::I16, scale: unit, low: -gain, high: gain })
    }
}
