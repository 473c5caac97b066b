//! Operators of quantised graphs that hold no weights: QuantizeLinear, DequantizeLinear, Requantize, Table, MaxPool of 8-bit integers.

use hallmark_model::graph::{Attrs, Node};
use hallmark_model::numeric::canonical_f32;
use hallmark_model::ops::Domain;
use hallmark_model::ops::index::axis;
use hallmark_model::ops::quantised::{self, MAX_MULTIPLIER, Requantize};
use hallmark_model::ops::window::{Axis, Geometry};
use hallmark_receipt::{DType, Data, Tensor, tensor};

use super::end::{End, Scale};
use super::{Cx, Kernel, X};
use crate::error::Stop;
use crate::kernels::par;
use crate::kernels::simd::per_isa;
use crate::memory::bytes;
use crate::plan::Constants;

/// The kernel of a node of this module's operators.
pub(super) fn select(node: &Node, constants: &Constants) -> Option<Box<dyn Kernel>> {
    let constant =
        |index: usize| constants.get(&node.inputs.get(index).copied().flatten()?).map(AsRef::as_ref);
    Some(match (node.op.domain, node.op.name) {
        (Domain::Onnx, "QuantizeLinear") => Box::new(Quantize::new(node, constant(1)?, constant(2)?)?),
        (Domain::Onnx, "DequantizeLinear") if node.inputs.len() == 2 => {
            Box::new(Dequantize::new(node, constant(1)?)?)
        }
        (Domain::Hallmark, "Requantize") => {
            let parameters = Requantize::of(&node.attrs).ok()?;
            let multipliers = constant(1).filter(|m| m.shape().len() <= 1)?.as_slice::<i32>()?.to_vec();
            let known =
                !multipliers.is_empty() && multipliers.iter().all(|m| (1..=MAX_MULTIPLIER).contains(m));
            let known = known && matches!(parameters.to, DType::I8 | DType::U8);
            known.then(|| Box::new(Rescale(Scale { parameters, multipliers })))?
        }
        (Domain::Hallmark, "Table") => Box::new(Table::new(&node.attrs)?),
        _ => return None,
    })
}

/// Charges for `data` and makes it the one result.
fn one(cx: &mut Cx<'_>, shape: Vec<usize>, data: Data) -> Result<Option<Vec<Tensor>>, Stop> {
    let out = Tensor::new(shape, data)?;
    cx.arena.charge(bytes(&out))?;
    Ok(Some(vec![out]))
}

/// QuantizeLinear with one scale and the zero point 0 of int8.
#[derive(Debug)]
struct Quantize {
    scale: f32,
}

impl Quantize {
    fn new(node: &Node, scale: &Tensor, zero: &Tensor) -> Option<Self> {
        let plain = zero.len() == 1 && zero.as_slice::<i8>() == Some(&[0]) && zero.shape().len() <= 1;
        let whole = node.attrs.int("block_size", 0) == 0 && scale.shape().len() <= 1;
        match scale.as_slice::<f32>()? {
            [scale] if plain && whole => Some(Self { scale: *scale }),
            _ => None,
        }
    }
}

/// Adding it leaves the nearest integer, ties to even, in the lowest bits of the sum.
const ROUND: f32 = 12_582_912.0;

/// `saturate(round(x / scale))`, ties to even; NaN gives 0. In a form without branches.
#[inline(always)]
fn quantize_body(x: &[f32], scale: f32, y: &mut [i8]) {
    for (y, x) in y.iter_mut().zip(x) {
        let x = x / scale;
        let x = if x.is_nan() { 0.0 } else { x };
        *y = (x.clamp(-128.0, 127.0) + ROUND).to_bits() as i8;
    }
}

per_isa! {
    /// QuantizeLinear of a slice.
    fn quantize = quantize_body(x: &[f32], scale: f32, y: &mut [i8])
}

impl Kernel for Quantize {
    fn run(&self, cx: &mut Cx<'_>) -> Result<Option<Vec<Tensor>>, Stop> {
        let Some(shape) = cx.f32_shape(X) else { return Ok(None) };
        let Some(x) = cx.input(X).and_then(|x| x.as_slice::<f32>()) else { return Ok(None) };
        let mut y = vec![0; x.len()];
        quantize(cx.exec.isa, x, self.scale, &mut y);
        one(cx, shape, Data::I8(y))
    }
}

/// DequantizeLinear without a zero point: one scale, or one for each slice of an axis.
#[derive(Debug)]
struct Dequantize {
    axis: i64,
    scales: Vec<f32>,
}

impl Dequantize {
    fn new(node: &Node, scale: &Tensor) -> Option<Self> {
        let plain = node.attrs.int("block_size", 0) == 0 && node.attrs.int("output_dtype", 0) == 0;
        let scales = scale.as_slice::<f32>().filter(|scales| plain && !scales.is_empty())?;
        (scale.shape().len() <= 1).then(|| Self { axis: node.attrs.int("axis", 1), scales: scales.to_vec() })
    }
}

/// `x * scale`, for runs of `inner` elements of one scale.
#[inline(always)]
fn dequantize_body(x: &Data, scales: &[f32], inner: usize, y: &mut [f32]) {
    match x {
        Data::I8(x) => dequantize_all(x, scales, inner, y),
        Data::U8(x) => dequantize_all(x, scales, inner, y),
        Data::I32(x) => dequantize_all(x, scales, inner, y),
        _ => {}
    }
}

#[inline(always)]
fn dequantize_all<T: Copy + Into<i32>>(x: &[T], scales: &[f32], inner: usize, y: &mut [f32]) {
    let one = |x: T, scale: f32| canonical_f32(x.into() as f32 * scale);
    if let &[scale] = scales {
        y.iter_mut().zip(x).for_each(|(y, x)| *y = one(*x, scale));
    } else if inner == 1 {
        for (x, y) in x.chunks(scales.len()).zip(y.chunks_mut(scales.len())) {
            y.iter_mut().zip(x).zip(scales).for_each(|((y, x), scale)| *y = one(*x, *scale));
        }
    } else {
        for ((x, y), scale) in x.chunks(inner).zip(y.chunks_mut(inner)).zip(scales.iter().cycle()) {
            y.iter_mut().zip(x).for_each(|(y, x)| *y = one(*x, *scale));
        }
    }
}

per_isa! {
    /// DequantizeLinear of a tensor of int8, uint8 or int32.
    fn dequantize = dequantize_body(x: &Data, scales: &[f32], inner: usize, y: &mut [f32])
}

impl Kernel for Dequantize {
    fn run(&self, cx: &mut Cx<'_>) -> Result<Option<Vec<Tensor>>, Stop> {
        let Some(x) = cx.input(X) else { return Ok(None) };
        let shape = x.shape().to_vec();
        let inner = match axis(self.axis, shape.len()) {
            _ if self.scales.len() == 1 => 1,
            Ok(at) if shape.get(at) == Some(&self.scales.len()) => shape.iter().skip(at + 1).product(),
            _ => return Ok(None),
        };
        if x.is_empty() || !matches!(x.dtype(), DType::I8 | DType::U8 | DType::I32) {
            return Ok(None);
        }
        let mut y = cx.arena.take(x.len())?;
        if let Some(x) = cx.input(X) {
            dequantize(cx.exec.isa, x.data(), &self.scales, inner, &mut y);
        }
        Ok(Some(vec![Tensor::from_vec(shape, y)?]))
    }
}

/// Requantize by itself.
#[derive(Debug)]
struct Rescale(Scale);

impl Kernel for Rescale {
    fn run(&self, cx: &mut Cx<'_>) -> Result<Option<Vec<Tensor>>, Stop> {
        let Some(x) = cx.input(X) else { return Ok(None) };
        let (Some(sums), shape) = (x.as_slice::<i32>(), x.shape().to_vec()) else { return Ok(None) };
        let Scale { parameters, multipliers } = &self.0;
        let inner = match axis(parameters.axis, shape.len()) {
            Ok(at) if shape.get(at) == Some(&multipliers.len()) => shape.iter().skip(at + 1).product(),
            _ if multipliers.len() == 1 => 1,
            _ => return Ok(None),
        };
        let (channels, total) = (multipliers.len(), sums.len());
        if total == 0 {
            return Ok(None);
        }
        let end = End::new(cx.exec.isa, channels, None, Some(&self.0));
        let mut out = vec![0_u8; total];
        // Where channels lie side by side a run is a row of all of them.
        let side_by_side = inner == 1 && channels > 1;
        let run = match channels {
            1 => RUN,
            _ if side_by_side => channels,
            _ => inner.max(1),
        };
        par::chunks(cx.exec, &mut out, run, 2, |start, out| {
            let sums = &sums[start..start + out.len()];
            if side_by_side {
                end.across(sums, out);
            } else {
                for (i, (sums, out)) in sums.chunks(run).zip(out.chunks_mut(run)).enumerate() {
                    end.along((start / run + i) % channels, sums, out);
                }
            }
        });
        let data = match parameters.to {
            DType::U8 => Data::U8(out),
            _ => Data::I8(out.into_iter().map(u8::cast_signed).collect()),
        };
        one(cx, shape, data)
    }
}

/// Elements of a run where all have one multiplier.
const RUN: usize = 1 << 14;

/// Table.
#[derive(Debug)]
enum Table {
    I8(Box<[i8; 256]>),
    U8(Box<[u8; 256]>),
    I32(Box<[i32; 256]>),
}

impl Table {
    fn new(attrs: &Attrs) -> Option<Self> {
        let table = quantised::Table::of(attrs).ok()?;
        // Entries are within the type.
        Some(match table.to {
            DType::I8 => Self::I8(Box::new(table.entries.map(|v| v as i8))),
            DType::U8 => Self::U8(Box::new(table.entries.map(|v| v as u8))),
            DType::I32 => Self::I32(Box::new(table.entries.map(|v| v as i32))),
            _ => return None,
        })
    }
}

impl Kernel for Table {
    fn run(&self, cx: &mut Cx<'_>) -> Result<Option<Vec<Tensor>>, Stop> {
        let Some(x) = cx.input(X) else { return Ok(None) };
        // int8 stands at its value plus 128.
        let (at, flip): (Vec<u8>, u8) = match x.data() {
            Data::I8(x) => (x.iter().map(|x| x.cast_unsigned()).collect(), 0x80),
            Data::U8(x) => (x.clone(), 0),
            _ => return Ok(None),
        };
        let shape = x.shape().to_vec();
        fn look<T: Copy>(table: &[T; 256], at: &[u8], flip: u8) -> Vec<T> {
            at.iter().map(|x| table[usize::from(x ^ flip)]).collect()
        }
        let data = match self {
            Self::I8(table) => Data::I8(look(table, &at, flip)),
            Self::U8(table) => Data::U8(look(table, &at, flip)),
            Self::I32(table) => Data::I32(look(table, &at, flip)),
        };
        one(cx, shape, data)
    }
}

/// MaxPool of int8 or uint8 over one or two axes; `None` for what is left to the reference.
pub(crate) fn max_pool(cx: &mut Cx<'_>, attrs: &Attrs) -> Result<Option<Vec<Tensor>>, Stop> {
    let Some(x) = cx.input(X).filter(|x| matches!(x.dtype(), DType::I8 | DType::U8)) else { return Ok(None) };
    let Some((&[batch, channels], spatial)) = x.shape().split_first_chunk::<2>() else { return Ok(None) };
    let window =
        Geometry::with_kernel_shape(attrs, spatial.len()).and_then(|geometry| geometry.place(spatial));
    let Ok(window) = window else { return Ok(None) };
    let one_axis = Axis { input: 1, output: 1, kernel: 1, stride: 1, dilation: 1, pad_begin: 0, pad_end: 0 };
    let axes = match *window.axes.as_slice() {
        [width] => [one_axis, width],
        [height, width] => [height, width],
        _ => return Ok(None),
    };
    let mut shape = vec![batch, channels];
    shape.extend(window.output());
    let (Some(total), Some(planes)) = (tensor::count(&shape), batch.checked_mul(channels)) else {
        return Ok(None);
    };
    if total > cx.arena.left() {
        return Ok(None);
    }
    let data = match x.data() {
        Data::I8(x) => Data::I8(greatest(x, planes, &axes, total, i8::MIN)),
        Data::U8(x) => Data::U8(greatest(x, planes, &axes, total, u8::MIN)),
        _ => return Ok(None),
    };
    one(cx, shape, data)
}

/// The greatest element of each window; `least` where it holds none.
fn greatest<T: Copy + Ord>(
    x: &[T],
    planes: usize,
    [height, width]: &[Axis; 2],
    total: usize,
    least: T,
) -> Vec<T> {
    let mut out = vec![least; total];
    let (plane, made) = (height.input * width.input, height.output * width.output);
    if planes == 0 || made == 0 || plane == 0 {
        return out;
    }
    let inside: Vec<_> = (0..width.output).map(|column| width.inside(column)).collect();
    for (x, out) in x.chunks(plane).zip(out.chunks_mut(made)) {
        for (row, out) in out.chunks_mut(width.output).enumerate() {
            for kh in height.inside(row) {
                let Some(line) = height.position(row, kh) else { continue };
                let line = &x[line * width.input..(line + 1) * width.input];
                for (column, (out, range)) in out.iter_mut().zip(&inside).enumerate() {
                    for kw in range.clone() {
                        let at = column * width.stride + kw * width.dilation - width.pad_begin;
                        *out = (*out).max(line[at]);
                    }
                }
            }
        }
    }
    out
}
