//! The integer operators of quantised graphs (`quantised.md`): products with constant weights together with the bias and the Requantize that
//! follow them, and the elementwise and pooling operators around them. Integers are exact: any order gives the same bits.

mod depthwise;
mod dot;
mod end;
mod patches;
mod plain;
mod words;

pub(crate) use plain::max_pool;

use hallmark_model::graph::{Attrs, Node, ValueId};
use hallmark_model::ops::Domain;
use hallmark_model::ops::conv::ConvShape;
use hallmark_model::ops::index::axis;
use hallmark_model::ops::quantised::Requantize;
use hallmark_receipt::{DType, Data, Tensor, tensor};

use super::fuse::{Links, other};
use super::{Cx, Kernel};
use crate::error::Stop;
use crate::plan::{Constants, Group};
use crate::program::Exec;
use dot::{Kernels, Place};
use end::{Element, End, Scale};
use patches::{Filters, convolve};
use words::{Form, Panels, Rows, lay_row};

/// Position of the input that is no constant.
const X: usize = 0;

/// The kernel of a single node.
pub(crate) fn select(node: &Node, constants: &Constants, exec: &Exec) -> Option<Box<dyn Kernel>> {
    match (node.op.domain, node.op.name) {
        (Domain::Onnx, "MatMulInteger" | "ConvInteger") => {
            Some(Box::new(Product::new(node, constants, exec)?))
        }
        _ => plain::select(node, constants),
    }
}

/// MatMulInteger or ConvInteger with constant weights and without zero points; perhaps a bias and Requantize.
#[derive(Debug)]
struct Product {
    weights: Weights,
    /// What each channel's accumulators have too much for an input of int8, where its bytes are taken as 128 more than they are.
    excess: Option<Vec<i32>>,
    bias: Option<Vec<i32>>,
    scale: Option<Scale>,
}

#[derive(Debug)]
enum Weights {
    /// A [K, N] matrix.
    Matrix { k: usize, kernels: &'static Kernels, columns: Panels },
    /// Filters [M, C/groups, kernel...].
    Filters { shape: Vec<usize>, attrs: Attrs, filters: Filters },
}

/// A constant of int8 or uint8 as int16.
fn widened(tensor: &Tensor) -> Option<Vec<i16>> {
    match tensor.data() {
        Data::I8(v) => Some(v.iter().map(|&x| x.into()).collect()),
        Data::U8(v) => Some(v.iter().map(|&x| x.into()).collect()),
        _ => None,
    }
}

impl Product {
    fn new(node: &Node, constants: &Constants, exec: &Exec) -> Option<Self> {
        if node.inputs.iter().skip(2).any(Option::is_some) {
            return None;
        }
        let weights = constants.get(&node.inputs.get(1).copied().flatten()?)?;
        let (values, shape) = (widened(weights)?, weights.shape().to_vec());
        let signed = values.iter().all(|x| *x <= i8::MAX.into());
        let (weights, excess) = match (node.op.name, shape.as_slice()) {
            ("MatMulInteger", &[k, n]) if k > 0 && n > 0 => {
                let kernels = Kernels::of(exec.isa, dot::Weights::Panels, signed);
                let columns = Panels::of(kernels.form, n, k, |p, j| values[p * n + j]);
                let excess = (kernels.form == Form::Quads).then(|| columns.excess());
                (Weights::Matrix { k, kernels, columns }, excess)
            }
            ("ConvInteger", &[m, channels, ref kernel @ ..]) if !kernel.is_empty() && kernel.len() <= 2 => {
                let volume = tensor::count(kernel)?;
                let groups = usize::try_from(node.attrs.int("group", 1)).ok()?;
                if groups == 0 || m == 0 || channels == 0 || volume == 0 || !m.is_multiple_of(groups) {
                    return None;
                }
                let filters = Filters::new(exec, &values, signed, [m, channels, volume, groups]);
                let excess = filters.excess();
                (Weights::Filters { shape, attrs: node.attrs.clone(), filters }, excess)
            }
            _ => return None,
        };
        Some(Self { weights, excess, bias: None, scale: None })
    }

    /// The axis that channels lie along in a result of `rank` axes, and their number.
    fn channels(&self, rank: usize) -> Option<(usize, usize)> {
        match &self.weights {
            Weights::Matrix { columns, .. } => Some((rank.checked_sub(1)?, columns.columns)),
            Weights::Filters { shape, .. } => Some((1, *shape.first()?)),
        }
    }

    /// The shape of the result for an input of shape `x`.
    fn shape(&self, x: &[usize]) -> Option<Vec<usize>> {
        match &self.weights {
            Weights::Matrix { k, columns, .. } => {
                let (last, rows) = x.split_last()?;
                let fits = !rows.is_empty() && last == k;
                fits.then(|| rows.iter().copied().chain([columns.columns]).collect())
            }
            Weights::Filters { shape, attrs, .. } => Some(ConvShape::new(attrs, x, shape).ok()?.output()),
        }
    }

    /// The results; their size is known to fit memory.
    fn results<T: Element>(&self, cx: &Cx<'_>, total: usize, end: &End<'_>) -> Option<Vec<T>> {
        let x = cx.input(X)?;
        let (bytes, flip) = bytes(x)?;
        let mut out = vec![T::default(); total];
        match &self.weights {
            Weights::Filters { shape, attrs, filters } => {
                let shape = ConvShape::new(attrs, x.shape(), shape).ok()?;
                convolve(cx.exec, &shape, (bytes, flip), filters, end, &mut out)?;
            }
            Weights::Matrix { k, kernels, columns } => {
                let n = columns.columns;
                let at_once = (ROWS / columns.words.max(n)).max(LEAST_ROWS);
                super::par::chunks(cx.exec, &mut out, n * at_once, 1 + k / 64, |start, out| {
                    let most = at_once.min(out.len() / n);
                    let (mut rows, mut sums) = (Rows::zeroed(kernels.form, most, *k), vec![0; most * n]);
                    for (part, out) in out.chunks_mut(n * at_once).enumerate() {
                        let first = start / n + part * at_once;
                        let values = bytes[first * k..].chunks(*k);
                        let count = out.len() / n;
                        for (to, x) in rows.data.chunks_mut(columns.words).zip(values).take(count) {
                            lay_row(cx.exec.isa, kernels.form, x, flip, to);
                        }
                        multiply(kernels, &rows, count, columns, &mut sums[..count * n]);
                        end.across(&sums, out);
                    }
                });
            }
        }
        Some(out)
    }

    /// All of a run but the counting of its memory.
    fn data(&self, cx: &Cx<'_>, from: DType, channels: usize, total: usize) -> Option<Data> {
        let bias = self.addend(from);
        let end = End::new(cx.exec.isa, channels, bias.as_deref(), self.scale.as_ref());
        Some(match self.scale.as_ref().map(|scale| scale.parameters.to) {
            None => Data::I32(self.results(cx, total, &end)?),
            Some(DType::U8) => Data::U8(self.results(cx, total, &end)?),
            Some(DType::I8) => {
                Data::I8(self.results::<u8>(cx, total, &end)?.into_iter().map(u8::cast_signed).collect())
            }
            Some(_) => return None,
        })
    }

    /// What is added to each channel's accumulators for an input of `from`.
    fn addend(&self, from: DType) -> Option<Vec<i32>> {
        match (&self.excess, &self.bias) {
            (Some(excess), Some(bias)) if from == DType::I8 => {
                Some(bias.iter().zip(excess).map(|(b, e)| b.wrapping_sub(*e)).collect())
            }
            (Some(excess), None) if from == DType::I8 => {
                Some(excess.iter().map(|e| e.wrapping_neg()).collect())
            }
            (_, bias) => bias.clone(),
        }
    }
}

/// Words of the rows that are laid out at a time, and of their accumulators: half a second-level cache's worth.
const ROWS: usize = 1 << 15;
/// Rows that are laid out at a time at least: those of some tiles.
const LEAST_ROWS: usize = 12;

/// The bytes of a tensor of int8 or uint8, and what makes them unsigned.
#[allow(unsafe_code)]
fn bytes(x: &Tensor) -> Option<(&[u8], u8)> {
    match x.data() {
        Data::U8(x) => Some((x, 0)),
        // SAFETY: any int8 is a byte of the same size and alignment.
        Data::I8(x) => Some((unsafe { std::slice::from_raw_parts(x.as_ptr().cast(), x.len()) }, 0x80)),
        _ => None,
    }
}

#[allow(unsafe_code)]
fn multiply(kernels: &Kernels, rows: &Rows, count: usize, columns: &Panels, out: &mut [i32]) {
    let n = columns.columns;
    assert_eq!(out.len(), count * n, "the output's size");
    // SAFETY: the output has room for every product and is this call's alone.
    unsafe { kernels.products(rows, 0..count, columns, Place { out: out.as_mut_ptr(), row: n }) };
}

impl Kernel for Product {
    fn run(&self, cx: &mut Cx<'_>) -> Result<Option<Vec<Tensor>>, Stop> {
        let Some(x) = cx.input(X).filter(|x| matches!(x.dtype(), DType::I8 | DType::U8)) else {
            return Ok(None);
        };
        let (Some(shape), from) = (self.shape(x.shape()), x.dtype()) else { return Ok(None) };
        let Some(total) = tensor::count(&shape).filter(|n| *n > 0) else { return Ok(None) };
        let Some((_, channels)) = self.channels(shape.len()) else { return Ok(None) };
        // Counted as if accumulators were made as a whole: so they are, image by image, where every channel has a filter of its own.
        let bytes = total.saturating_mul(size_of::<i32>());
        cx.arena.charge(bytes)?;
        let data = self.data(cx, from, channels, total);
        cx.arena.discharge(bytes);
        let Some(data) = data else { return Ok(None) };
        let out = Tensor::new(shape, data)?;
        // The result is counted as what it is.
        cx.arena.charge(crate::memory::bytes(&out))?;
        Ok(Some(vec![out]))
    }
}

/// A product, a constant bias for each channel, and Requantize, as far as they follow each other.
pub(crate) fn fused(links: &Links<'_>, start: usize) -> Option<Group> {
    let node = links.free(start).filter(|node| matches!(node.op.name, "MatMulInteger" | "ConvInteger"))?;
    let info = |id: ValueId| links.graph.values.get(id.0).map(|value| &value.info);
    let mut made = node.outputs.first().copied().flatten()?;
    let rank = info(made)?.shape.as_ref()?.len();
    // Weights are packed only where something follows; a single node gets its own kernel.
    links.only_reader_of_any(made)?;
    let mut kernel = Product::new(node, links.constants, links.exec)?;
    let (axis, channels) = kernel.channels(rank)?;
    let mut nodes = vec![start];
    while let Some((index, next)) = links.only_reader_of_any(made) {
        let done = match (next.op.domain, next.op.name) {
            (Domain::Onnx, "Add") if kernel.bias.is_none() => {
                let addend = other(next, made).and_then(|id| links.constants.get(&id));
                let Some(bias) = addend.and_then(|addend| bias(addend, axis, rank, channels)) else { break };
                kernel.bias = Some(bias);
                false
            }
            (Domain::Hallmark, "Requantize") => {
                let Some(scale) = scale(next, links.constants, axis, rank, channels) else { break };
                kernel.scale = Some(scale);
                true
            }
            _ => break,
        };
        nodes.push(index);
        made = next.outputs.first().copied().flatten()?;
        if done {
            break;
        }
    }
    if nodes.len() < 2 {
        return None;
    }
    let inputs = vec![node.inputs.first().copied().flatten()];
    Some(Group { nodes, inputs, outputs: vec![Some(made)], kernel: Box::new(kernel) })
}

/// An addend with one number for each channel.
fn bias(addend: &Tensor, axis: usize, rank: usize, channels: usize) -> Option<Vec<i32>> {
    let missing = rank.checked_sub(addend.shape().len())?;
    let size = |i: usize| if i + missing == axis { channels } else { 1 };
    let fits = addend.shape().iter().enumerate().all(|(i, &n)| n == size(i)) && addend.len() == channels;
    fits.then(|| addend.as_slice::<i32>().map(<[i32]>::to_vec)).flatten()
}

/// Requantize to int8 or uint8 with constant multipliers along the channels.
fn scale(node: &Node, constants: &Constants, at: usize, rank: usize, channels: usize) -> Option<Scale> {
    let parameters = Requantize::of(&node.attrs).ok()?;
    let multipliers = constants.get(&node.inputs.get(1).copied().flatten()?)?;
    let list = multipliers.as_slice::<i32>().filter(|_| multipliers.shape().len() <= 1)?;
    let along = list.len() == 1 || (list.len() == channels && axis(parameters.axis, rank).ok() == Some(at));
    let known = list.iter().all(|m| (1..=hallmark_model::ops::quantised::MAX_MULTIPLIER).contains(m));
    let bytes = matches!(parameters.to, DType::I8 | DType::U8);
    (along && known && bytes).then(|| Scale { parameters, multipliers: list.to_vec() })
}
