//! The integer operators of quantised graphs (`quantised.md`): products with constant weights together with the bias and the Requantize that
//! follow them, and the elementwise and pooling operators around them. Integers are exact: any order gives the same bits.

mod dot;
mod end;
mod patches;
mod plain;

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
use dot::{Place, Rows, products};
use end::{Scale, finish};
use patches::{Filters, convolve};

/// Position of the input that is no constant.
const X: usize = 0;

/// The kernel of a single node.
pub(crate) fn select(node: &Node, constants: &Constants) -> Option<Box<dyn Kernel>> {
    match (node.op.domain, node.op.name) {
        (Domain::Onnx, "MatMulInteger" | "ConvInteger") => Some(Box::new(Product::new(node, constants)?)),
        _ => plain::select(node, constants),
    }
}

/// MatMulInteger or ConvInteger with constant weights and without zero points; perhaps a bias and Requantize.
#[derive(Debug)]
struct Product {
    weights: Weights,
    bias: Option<Vec<i32>>,
    scale: Option<Scale>,
}

#[derive(Debug)]
enum Weights {
    /// Columns of a [K, N] matrix, as rows.
    Matrix { k: usize, columns: Rows },
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
    fn new(node: &Node, constants: &Constants) -> Option<Self> {
        if node.inputs.iter().skip(2).any(Option::is_some) {
            return None;
        }
        let weights = constants.get(&node.inputs.get(1).copied().flatten()?)?;
        let (values, shape) = (widened(weights)?, weights.shape().to_vec());
        let weights = match (node.op.name, shape.as_slice()) {
            ("MatMulInteger", &[k, n]) if k > 0 && n > 0 => {
                let mut columns = Rows::zeroed(n, k);
                for j in 0..n {
                    let column = columns.row_mut(j);
                    (0..k).for_each(|p| column[p] = values[p * n + j]);
                }
                Weights::Matrix { k, columns }
            }
            ("ConvInteger", &[m, channels, ref kernel @ ..]) if !kernel.is_empty() && kernel.len() <= 2 => {
                let volume = tensor::count(kernel)?;
                let groups = usize::try_from(node.attrs.int("group", 1)).ok()?;
                if groups == 0 || m == 0 || channels == 0 || volume == 0 || !m.is_multiple_of(groups) {
                    return None;
                }
                let filters = Filters::new(&values, m, channels, volume, groups);
                Weights::Filters { shape, attrs: node.attrs.clone(), filters }
            }
            _ => return None,
        };
        Some(Self { weights, bias: None, scale: None })
    }

    /// The axis that channels lie along in a result of `rank` axes, and their number.
    fn channels(&self, rank: usize) -> Option<(usize, usize)> {
        match &self.weights {
            Weights::Matrix { columns, .. } => Some((rank.checked_sub(1)?, columns.count())),
            Weights::Filters { shape, .. } => Some((1, *shape.first()?)),
        }
    }

    /// The shape of the result for an input of shape `x`.
    fn shape(&self, x: &[usize]) -> Option<Vec<usize>> {
        match &self.weights {
            Weights::Matrix { k, columns } => {
                let (last, rows) = x.split_last()?;
                let fits = !rows.is_empty() && last == k;
                fits.then(|| rows.iter().copied().chain([columns.count()]).collect())
            }
            Weights::Filters { shape, attrs, .. } => Some(ConvShape::new(attrs, x, shape).ok()?.output()),
        }
    }

    /// The accumulators; the result's size is known to fit memory.
    fn sums(&self, cx: &Cx<'_>, total: usize) -> Option<Vec<i32>> {
        let x = cx.input(X)?;
        match &self.weights {
            Weights::Filters { shape, attrs, filters } => {
                let shape = ConvShape::new(attrs, x.shape(), shape).ok()?;
                convolve(cx.exec, &shape, x.data(), filters)
            }
            Weights::Matrix { k, columns } => {
                let (n, mut out) = (columns.count(), vec![0; total]);
                let row = |i: usize, to: &mut [i16]| match x.data() {
                    Data::I8(x) => {
                        to.iter_mut().zip(&x[i * k..(i + 1) * k]).for_each(|(to, x)| *to = (*x).into())
                    }
                    Data::U8(x) => {
                        to.iter_mut().zip(&x[i * k..(i + 1) * k]).for_each(|(to, x)| *to = (*x).into())
                    }
                    _ => {}
                };
                let at_once = (ROWS / columns.stride).max(3);
                super::par::chunks(cx.exec, &mut out, n * at_once, 1 + k / 64, |start, out| {
                    for (part, out) in out.chunks_mut(n * at_once).enumerate() {
                        let first = start / n + part * at_once;
                        let mut rows = Rows::zeroed(out.len() / n, *k);
                        (0..out.len() / n).for_each(|i| row(first + i, rows.row_mut(i)));
                        multiply(cx, &rows, columns, out);
                    }
                });
                Some(out)
            }
        }
    }
}

/// Elements of the rows that are widened at a time: half a second-level cache's worth.
const ROWS: usize = 1 << 15;

#[allow(unsafe_code)]
fn multiply(cx: &Cx<'_>, rows: &Rows, columns: &Rows, out: &mut [i32]) {
    let n = columns.count();
    assert_eq!(out.len(), rows.count() * n, "the output's size");
    // SAFETY: the output has room for every product and is this call's alone; `Program::compile` admits only instruction sets that the
    // processor has.
    unsafe { products(cx.exec.isa, rows, columns, Place { out: out.as_mut_ptr(), row: n, column: 1 }) };
}

impl Kernel for Product {
    fn run(&self, cx: &mut Cx<'_>) -> Result<Option<Vec<Tensor>>, Stop> {
        let Some(x) = cx.input(X).filter(|x| matches!(x.dtype(), DType::I8 | DType::U8)) else {
            return Ok(None);
        };
        let Some(shape) = self.shape(x.shape()) else { return Ok(None) };
        let Some(total) = tensor::count(&shape).filter(|n| *n > 0) else { return Ok(None) };
        let Some((axis, _)) = self.channels(shape.len()) else { return Ok(None) };
        let inner: usize = shape.iter().skip(axis + 1).product();
        let bytes = total.saturating_mul(size_of::<i32>());
        cx.arena.charge(bytes)?;
        let Some(sums) = self.sums(cx, total) else {
            cx.arena.discharge(bytes);
            return Ok(None);
        };
        let out = finish(cx.exec, sums, inner, self.bias.as_deref(), self.scale.as_ref());
        let out = out.map(|data| Tensor::new(shape, data)).transpose()?;
        // The result is counted as what it is.
        cx.arena.discharge(bytes);
        if let Some(out) = &out {
            cx.arena.charge(crate::memory::bytes(out))?;
        }
        Ok(out.map(|out| vec![out]))
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
    let mut kernel = Product::new(node, links.constants)?;
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
