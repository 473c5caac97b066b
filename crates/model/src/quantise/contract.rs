//! Contractions with constant weights (`quantised.md` §3.3): int8 weights with one scale a channel, bent so that no approximation is left in the
//! multipliers of Requantize.

use hallmark_receipt::{DType, Tensor};

use super::QuantiseError;
use super::emit::{Emitter, Quant, Target, nearest};
use super::pattern::{Core, Fused};
use super::scale::{LIMIT, Toward, choose, product_fits};
use crate::graph::{Attr, Node, ValueId};
use crate::ops::Domain;

/// Attributes that ConvInteger shares with Conv.
const CONV: &[&str] = &["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"];

/// Weights and bias of the channels, what follows folded in.
struct Channels {
    /// The weights' own shape.
    shape: Vec<usize>,
    /// Whether channels lie along the last axis ([K, N]), else along the first ([M, ...]).
    last: bool,
    weights: Vec<f64>,
    bias: Vec<f64>,
}

/// Integers of all channels.
struct Integers {
    weights: Vec<i8>,
    bias: Vec<i32>,
    /// The greatest magnitude of each channel's accumulator.
    bounds: Vec<i64>,
}

impl Channels {
    /// The channel of the element at `index`.
    fn channel(&self, index: usize) -> usize {
        let n = self.bias.len().max(1);
        if self.last { index % n } else { index / (self.weights.len() / n).max(1) }
    }

    /// The greatest magnitude of each channel's weights.
    fn most(&self) -> Vec<f64> {
        let mut most = vec![0.0_f64; self.bias.len()];
        for (i, w) in self.weights.iter().enumerate() {
            if let Some(slot) = most.get_mut(self.channel(i)) {
                *slot = slot.max(w.abs());
            }
        }
        most
    }

    /// The integers at the weights' scales `scales`, for inputs like `x`; `None` where an accumulator could leave int32.
    fn integers(&self, x: &Quant, scales: &[f64]) -> Option<Integers> {
        let (mut sums, mut weights) =
            (vec![[0_i64; 2]; scales.len()], Vec::with_capacity(self.weights.len()));
        let (low, high) = (x.low.min(0), x.high.max(0));
        for (i, w) in self.weights.iter().enumerate() {
            let channel = self.channel(i);
            let q = nearest(w / scales.get(channel)?).clamp(-127.0, 127.0) as i8;
            weights.push(q);
            let (a, b) = (i64::from(q) * low, i64::from(q) * high);
            let [least, greatest] = sums.get_mut(channel)?;
            *least += a.min(b);
            *greatest += a.max(b);
        }
        let (mut bias, mut bounds) = (Vec::new(), Vec::new());
        for ((b, scale), [least, greatest]) in self.bias.iter().zip(scales).zip(sums) {
            let q = nearest(b / (x.scale * scale));
            if q.is_nan() || q.abs() >= LIMIT as f64 {
                return None;
            }
            bias.push(q as i32);
            // Sums without the bias are bounded, too.
            let ends = [least, greatest, least + q as i64, greatest + q as i64];
            bounds.push(ends.into_iter().map(i64::abs).max().unwrap_or(0));
        }
        bounds.iter().all(|bound| *bound < LIMIT).then_some(Integers { weights, bias, bounds })
    }
}

impl Emitter<'_> {
    /// A contraction with constant weights.
    pub(super) fn weights(&mut self, id: ValueId, node: &Node, fused: &Fused) -> Result<(), QuantiseError> {
        let Core::Weights { x, axis, rank, channels, .. } = fused.core else { return Ok(()) };
        let x = self.quant(x)?;
        let refuse =
            || QuantiseError::unsupported(node, "its weights, bias or factors are not one for each channel");
        let parts = self.channels(node, fused, axis, rank, channels).ok_or_else(refuse)?;
        let scales: Vec<f64> = parts.most().iter().map(|most| most / 127.0).collect();
        let unbounded = fused.low == f64::NEG_INFINITY && fused.high == f64::INFINITY;
        if self.plans.only_float(id) && unbounded {
            // A channel of nothing but 0 gets a scale that its bias fits.
            let scale =
                |(w, b): (&f64, &f64)| if *w > 0.0 { *w } else { b.abs().max(1e-20) / x.scale / 127.0 };
            let scales: Vec<f64> = scales.iter().zip(&parts.bias).map(scale).collect();
            let integers = parts.integers(&x, &scales).ok_or_else(|| overflow(node))?;
            let accumulator =
                self.accumulator(node, &x, &parts, integers.weights, integers.bias, (axis, rank))?;
            let scales: Vec<f64> = scales.iter().map(|scale| scale * x.scale).collect();
            self.dequantise(id, accumulator, &scales, axis);
            return Ok(());
        }
        let target = Target::of(self.range(id), (fused.low, fused.high));
        let ideal: Vec<f64> = scales.iter().map(|scale| x.scale * scale / target.scale).collect();
        let choice = choose(&ideal, Toward::Up, |shift, multipliers| {
            let unit = target.scale / x.scale / f64::from(1_u32 << shift);
            let bent: Vec<f64> = multipliers.iter().map(|m| f64::from(*m) * unit).collect();
            let integers = parts.integers(&x, &bent)?;
            let mut pairs = integers.bounds.iter().zip(multipliers);
            pairs.all(|(bound, m)| product_fits(*bound, *m, shift)).then_some(integers)
        });
        let choice = choice.ok_or_else(|| overflow(node))?;
        let Integers { weights, bias, bounds } = choice.made;
        let accumulator = self.accumulator(node, &x, &parts, weights, bias, (axis, rank))?;
        let quant =
            self.requantise(accumulator, (choice.shift, choice.multipliers), &bounds, axis, target)?;
        self.is(id, quant);
        Ok(())
    }

    /// The weights and bias of `node`, with the factors and addends that follow it.
    fn channels(
        &self,
        node: &Node,
        fused: &Fused,
        axis: usize,
        rank: usize,
        channels: usize,
    ) -> Option<Channels> {
        let weights = self.source.array(node, 1)?;
        let gemm = node.op.name == "Gemm";
        let last = match node.op.name {
            "Conv" => false,
            "Gemm" => node.attrs.int("transB", 0) == 0,
            _ => true,
        };
        let factor = |name| if gemm { f64::from(node.attrs.float(name, 1.0)) } else { 1.0 };
        let (alpha, beta) = (factor("alpha"), factor("beta"));
        let own = match node.inputs.get(2).copied().flatten() {
            // Conv's bias is a vector of its own; Gemm's is broadcast.
            Some(_) if gemm => self.source.array(node, 2)?.along(1, 2, channels)?,
            Some(_) => self.source.array(node, 2)?.values,
            None => vec![0.0; channels],
        };
        let (scale, offset) =
            (fused.scale.along(axis, rank, channels)?, fused.offset.along(axis, rank, channels)?);
        let bias = own
            .iter()
            .zip(&scale)
            .zip(&offset)
            .map(|((b, scale), offset)| beta * b * scale + offset)
            .collect();
        let mut parts = Channels { shape: weights.shape, last, weights: weights.values, bias };
        if own.len() != channels || parts.weights.iter().chain(&parts.bias).any(|x| !x.is_finite()) {
            return None;
        }
        for i in 0..parts.weights.len() {
            let factor = alpha * scale.get(parts.channel(i))?;
            *parts.weights.get_mut(i)? *= factor;
        }
        Some(parts)
    }

    fn accumulator(
        &mut self,
        node: &Node,
        x: &Quant,
        parts: &Channels,
        weights: Vec<i8>,
        bias: Vec<i32>,
        (axis, rank): (usize, usize),
    ) -> Result<String, QuantiseError> {
        let conv = node.op.name == "Conv";
        let channels = bias.len();
        let (shape, weights) = match *parts.shape.as_slice() {
            // MatMulInteger takes [K, N].
            [n, k] if !conv && !parts.last => {
                let turned = (0..k).flat_map(|k_at| (0..n).map(move |n_at| n_at * k + k_at));
                (vec![k, n], turned.filter_map(|i| weights.get(i).copied()).collect())
            }
            _ => (parts.shape.clone(), weights),
        };
        let weights = self.constant(&Tensor::from_vec(shape, weights)?);
        let inputs = vec![x.name.clone(), weights];
        let sums = if conv {
            let kept = |name: &str| Some((name.to_owned(), node.attrs.0.get(name)?.clone()));
            self.node_with(
                Domain::Onnx,
                "ConvInteger",
                inputs,
                CONV.iter().copied().filter_map(kept).collect(),
            )
        } else {
            self.node(Domain::Onnx, "MatMulInteger", inputs, &[])
        };
        if bias.iter().all(|b| *b == 0) {
            return Ok(sums);
        }
        let shape = if conv {
            (0..rank).map(|i| if i == axis { channels } else { 1 }).collect()
        } else {
            vec![channels]
        };
        let bias = self.numbers(shape, bias)?;
        Ok(self.node(Domain::Onnx, "Add", vec![sums, bias], &[]))
    }

    /// AveragePool as a ConvInteger with weights of 1; gives the sums.
    pub(super) fn pool(&mut self, node: &Node, x: &Quant, channels: usize) -> Result<String, QuantiseError> {
        let kernel = node.attrs.ints("kernel_shape").unwrap_or(&[]);
        let kernel: Option<Vec<usize>> = kernel.iter().map(|&k| usize::try_from(k).ok()).collect();
        let shape: Vec<usize> = [channels, 1].into_iter().chain(kernel.unwrap_or_default()).collect();
        let count = hallmark_receipt::tensor::count(&shape)
            .filter(|count| *count < 1 << 28)
            .ok_or_else(|| overflow(node))?;
        let ones = self.numbers(shape, vec![1_i8; count])?;
        let group = ("group".to_owned(), Attr::Int(i64::try_from(channels).unwrap_or(i64::MAX)));
        let kept = |name: &str| Some((name.to_owned(), node.attrs.0.get(name)?.clone()));
        let attrs = CONV.iter().copied().filter_map(kept).chain([group]).collect();
        Ok(self.node_with(Domain::Onnx, "ConvInteger", vec![x.name.clone(), ones], attrs))
    }
}

/// No shift keeps the accumulators of `node` in bounds.
pub(super) fn overflow(node: &Node) -> QuantiseError {
    QuantiseError::unsupported(node, "its sums could reach half the characteristic of the proof's field")
}

/// Whether integers of `dtype` can be an operand of a contraction.
pub(super) fn is_byte(dtype: DType) -> bool {
    matches!(dtype, DType::I8 | DType::U8)
}
