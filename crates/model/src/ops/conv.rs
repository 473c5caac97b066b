//! Convolutions (`numeric.md` §4).

use hallmark_receipt::{DType, Tensor};

use super::half::in_f32;
use super::window::{Axis, Geometry, Window, each_index, sizes, strides_of};
use super::{Domain, EvalCx, InferCx, OpDef, OpError};
use crate::graph::{Attrs, Dim, TypeInfo};
use crate::numeric::{BLOCK, canonical_f32, contract_f32};

const ATTRS: &[&str] = &["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"];

/// The family's table.
pub const OPS: &[OpDef] = &[
    OpDef {
        domain: Domain::Onnx,
        name: "Conv",
        versions: &[1, 11, 22],
        attrs: ATTRS,
        infer: |cx| infer_conv(cx, 1, None),
        eval: |cx| in_f32(cx, conv),
    },
    OpDef {
        domain: Domain::Onnx,
        name: "ConvTranspose",
        versions: &[1, 11, 22],
        attrs: &[
            "auto_pad",
            "dilations",
            "group",
            "kernel_shape",
            "output_padding",
            "output_shape",
            "pads",
            "strides",
        ],
        infer: infer_transpose,
        eval: |cx| in_f32(cx, conv_transpose),
    },
    OpDef {
        domain: Domain::Onnx,
        name: "ConvInteger",
        versions: &[10],
        attrs: ATTRS,
        infer: |cx| infer_conv(cx, 1, Some(DType::I32)),
        eval: conv_integer,
    },
    OpDef {
        domain: Domain::Onnx,
        name: "QLinearConv",
        versions: &[10],
        attrs: ATTRS,
        infer: |cx| infer_conv(cx, 3, cx.input(7)?.dtype),
        eval: qlinear_conv,
    },
];

/// Shapes of a convolution, checked against each other.
#[derive(Clone, Debug)]
pub struct ConvShape {
    /// Batch size.
    pub batch: usize,
    /// Input channels of one group.
    pub channels: usize,
    /// Output channels of all groups.
    pub filters: usize,
    /// Groups.
    pub groups: usize,
    /// The window on the spatial axes.
    pub window: Window,
}

impl ConvShape {
    /// The shapes of `x` [N, C, D...] and `w` [M, C/group, K...] under the node's attributes.
    pub fn new(attrs: &Attrs, x: &[usize], w: &[usize]) -> Result<Self, OpError> {
        if x.len() < 3 || x.len() != w.len() {
            return Err(OpError::Shape {
                what: "Conv: input and filter of one rank, 3 or more",
                got: w.to_vec(),
            });
        }
        let groups = sizes_group(attrs)?;
        let (filters, channels) = (w[0], w[1]);
        if channels.checked_mul(groups) != Some(x[1]) || filters % groups != 0 {
            return Err(OpError::Shape {
                what: "Conv: channels and groups must match",
                got: vec![x[1], channels, filters, groups],
            });
        }
        let window = conv_geometry(attrs, &w[2..])?.place(&x[2..])?;
        Ok(Self { batch: x[0], channels, filters, groups, window })
    }

    /// The output's shape.
    pub fn output(&self) -> Vec<usize> {
        let mut shape = vec![self.batch, self.filters];
        shape.extend(self.window.output());
        shape
    }
}

fn sizes_group(attrs: &Attrs) -> Result<usize, OpError> {
    usize::try_from(attrs.int("group", 1))
        .ok()
        .filter(|&g| g > 0)
        .ok_or(OpError::Attribute { name: "group", why: "must be positive" })
}

/// The window of a kernel of the filter's size, which the attribute `kernel_shape` must repeat if it is there.
fn conv_geometry(attrs: &Attrs, kernel: &[usize]) -> Result<Geometry, OpError> {
    if attrs.ints("kernel_shape").is_some() && sizes(attrs, "kernel_shape", kernel.len(), 1)? != kernel {
        return Err(OpError::Attribute { name: "kernel_shape", why: "differs from the filter's shape" });
    }
    Geometry::parse(attrs, kernel.to_vec())
}

/// Shapes and window of a deformable convolution.
pub(crate) fn deform_geometry(
    attrs: &Attrs,
    x: &[usize],
    w: &[usize],
) -> Result<(ConvShape, Geometry), OpError> {
    Ok((ConvShape::new(attrs, x, w)?, conv_geometry(attrs, &w[2..])?))
}

/// The sizes in `dims` if all are known.
fn known(dims: &[Dim]) -> Option<Vec<usize>> {
    dims.iter().map(|dim| if let Dim::Known(n) = dim { Some(*n) } else { None }).collect()
}

fn infer_conv(cx: &InferCx<'_>, filter: usize, dtype: Option<DType>) -> Result<Vec<TypeInfo>, OpError> {
    let x = cx.input(0)?;
    let w = cx.input(filter)?;
    let shape = match (&x.shape, &w.shape) {
        (Some(x), Some(w)) if x.len() >= 3 && x.len() == w.len() => {
            let mut shape = vec![x[0].clone(), w[0].clone()];
            match known(&w[2..]) {
                Some(kernel) => shape.extend(conv_geometry(cx.attrs(), &kernel)?.dims(&x[2..])?),
                None => shape.extend(vec![Dim::Unknown; x.len() - 2]),
            }
            Some(shape)
        }
        (Some(_), Some(w)) => {
            return Err(OpError::Shape {
                what: "Conv: input and filter of one rank, 3 or more",
                got: known(w).unwrap_or_default(),
            });
        }
        _ => None,
    };
    Ok(vec![TypeInfo { dtype: dtype.or(x.dtype), shape }])
}

/// Walks the outputs of a convolution in row-major order; `dot` makes one output from (flat index of its first filter
/// weight, offset of its group's first input channel, its spatial position, its filter).
fn each_output(
    shape: &ConvShape,
    x_image: usize,
    w_filter: usize,
    x_plane: usize,
    mut dot: impl FnMut(usize, usize, &[usize], usize),
) {
    let spatial = shape.window.output();
    let per_group = shape.filters / shape.groups;
    for n in 0..shape.batch {
        for m in 0..shape.filters {
            let first = n * x_image + (m / per_group) * shape.channels * x_plane;
            each_index(&spatial, |out| dot(m * w_filter, first, out, m));
        }
    }
}

/// For one output position, the offset within a channel's plane of every kernel position (`None`: padding).
fn taps(
    axes: &[Axis],
    strides: &[usize],
    kernel: &[Vec<usize>],
    out: &[usize],
    into: &mut Vec<Option<usize>>,
) {
    into.clear();
    for k in kernel {
        into.push(
            (0..axes.len())
                .try_fold(0, |offset, i| axes[i].position(out[i], k[i]).map(|p| offset + p * strides[i])),
        );
    }
}

fn kernel_positions(kernel: &[usize]) -> Vec<Vec<usize>> {
    let mut all = Vec::new();
    each_index(kernel, |k| all.push(k.to_vec()));
    all
}

/// Elements of one block: whole windows of `max(1, floor(512 / volume))` channels.
fn block_len(volume: usize) -> usize {
    (BLOCK / volume.max(1)).max(1) * volume.max(1)
}

fn conv(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let (xt, wt) = (cx.input(0)?, cx.input(1)?);
    let (x, w) = (cx.slice::<f32>(0)?, cx.slice::<f32>(1)?);
    let shape = ConvShape::new(cx.attrs(), xt.shape(), wt.shape())?;
    let bias = optional_bias(cx, 2, shape.filters)?;
    let n = cx.charge(&shape.output(), DType::F32)?;
    let mut y = Vec::with_capacity(n);
    let plane: usize = xt.shape()[2..].iter().product();
    let (image, filter) = (plane * xt.shape()[1], wt.shape()[1..].iter().product());
    let strides = strides_of(&xt.shape()[2..]);
    let kernel = kernel_positions(&wt.shape()[2..]);
    let volume = kernel.len();
    let mut offsets = Vec::new();
    each_output(&shape, image, filter, plane, |w0, x0, out, m| {
        taps(&shape.window.axes, &strides, &kernel, out, &mut offsets);
        let pairs = (0..shape.channels).flat_map(|c| {
            offsets.iter().enumerate().map(move |(k, offset)| {
                let a = offset.map_or(0.0, |o| x[x0 + c * plane + o]);
                (a, w[w0 + c * volume + k])
            })
        });
        let sum = contract_f32(pairs, block_len(volume));
        y.push(canonical_f32(bias.map_or(sum, |b| sum + b[m])));
    });
    Ok(vec![Tensor::from_vec(shape.output(), y)?])
}

fn optional_bias<'a>(cx: &EvalCx<'a>, index: usize, filters: usize) -> Result<Option<&'a [f32]>, OpError> {
    let Some(b) = cx.opt(index) else { return Ok(None) };
    if b.shape() != [filters] {
        return Err(OpError::Shape { what: "bias: one entry an output channel", got: b.shape().to_vec() });
    }
    Ok(Some(cx.slice::<f32>(index)?))
}

/// One spatial axis of a transposed convolution.
#[derive(Clone, Copy, Debug)]
struct TransposeAxis {
    input: usize,
    output: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    pad_begin: usize,
}

impl TransposeAxis {
    /// The input position that meets (unreversed) kernel position `k` at output position `out`; `None`: a zero.
    fn position(&self, out: usize, k: usize) -> Option<usize> {
        let at = (out + self.pad_begin).checked_sub(k * self.dilation)?;
        (at % self.stride == 0).then_some(at / self.stride).filter(|&i| i < self.input)
    }
}

fn transpose_axes(
    attrs: &Attrs,
    kernel: &[usize],
    input: &[Dim],
) -> Result<Vec<Option<TransposeAxis>>, OpError> {
    let rank = kernel.len();
    let geometry = conv_geometry(attrs, kernel)?;
    let extra = sizes(attrs, "output_padding", rank, 0)?;
    let wanted = attrs.ints("output_shape").map(|v| if v.len() > rank { &v[v.len() - rank..] } else { v });
    if wanted.is_some_and(|v| v.len() != rank) {
        return Err(OpError::Attribute { name: "output_shape", why: "has the wrong number of entries" });
    }
    use super::window::AutoPad;
    (0..rank)
        .map(|i| {
            let Dim::Known(size) = input[i] else { return Ok(None) };
            let (stride, dilation) = (geometry.strides[i] as i64, geometry.dilations[i] as i64);
            let bad = || OpError::Shape {
                what: "ConvTranspose: output size out of range (input, kernel)",
                got: vec![size, kernel[i]],
            };
            let span = (kernel[i] as i64 - 1).checked_mul(dilation).ok_or_else(bad)?;
            let full = i64::try_from(size)
                .ok()
                .filter(|&n| n < 1 << 31)
                .and_then(|n| ((n - 1) * stride).checked_add(span)?.checked_add(1 + extra[i] as i64))
                .ok_or_else(bad)?;
            let target = match (wanted, geometry.auto_pad) {
                (Some(wanted), _) => Some(wanted[i]),
                (None, AutoPad::SameUpper | AutoPad::SameLower) => Some(size as i64 * stride),
                _ => None,
            };
            let (output, pad_begin) = match target {
                Some(target) => {
                    let total = full.saturating_sub(target).max(0);
                    let half = total / 2;
                    (target, if geometry.auto_pad == AutoPad::SameUpper { half } else { total - half })
                }
                None if geometry.auto_pad == AutoPad::Valid => (full, 0),
                None => {
                    let (begin, end) = geometry.pads[i];
                    (full - begin as i64 - end as i64, begin as i64)
                }
            };
            if !(0..=1 << 40).contains(&output) {
                return Err(bad());
            }
            Ok(Some(TransposeAxis {
                input: size,
                output: output as usize,
                kernel: kernel[i],
                stride: stride as usize,
                dilation: dilation as usize,
                pad_begin: pad_begin as usize,
            }))
        })
        .collect()
}

fn infer_transpose(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let x = cx.input(0)?;
    let shape = match (&x.shape, &cx.input(1)?.shape) {
        (Some(x), Some(w)) if x.len() >= 3 && x.len() == w.len() => {
            let filters = match w[1] {
                Dim::Known(m) => Dim::Known(m.saturating_mul(sizes_group(cx.attrs())?)),
                _ => Dim::Unknown,
            };
            let mut shape = vec![x[0].clone(), filters];
            match known(&w[2..]) {
                Some(kernel) => shape.extend(
                    transpose_axes(cx.attrs(), &kernel, &x[2..])?
                        .iter()
                        .map(|axis| axis.map_or(Dim::Unknown, |axis| Dim::Known(axis.output))),
                ),
                None => shape.extend(vec![Dim::Unknown; x.len() - 2]),
            }
            Some(shape)
        }
        _ => None,
    };
    Ok(vec![TypeInfo { dtype: x.dtype, shape }])
}

fn conv_transpose(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let (xt, wt) = (cx.input(0)?, cx.input(1)?);
    let (xs, ws) = (xt.shape(), wt.shape());
    let (x, w) = (cx.slice::<f32>(0)?, cx.slice::<f32>(1)?);
    let groups = sizes_group(cx.attrs())?;
    if xs.len() < 3 || xs.len() != ws.len() || xs[1] != ws[0] || xs[1] % groups != 0 {
        return Err(OpError::Shape { what: "ConvTranspose: filter [C, M/group, K...]", got: ws.to_vec() });
    }
    let dims: Vec<Dim> = xs[2..].iter().map(|&n| Dim::Known(n)).collect();
    let axes: Vec<TransposeAxis> =
        transpose_axes(cx.attrs(), &ws[2..], &dims)?.into_iter().flatten().collect();
    let (channels, per_group) = (xs[1] / groups, ws[1]);
    let filters = per_group.saturating_mul(groups);
    let bias = optional_bias(cx, 2, filters)?;
    let spatial: Vec<usize> = axes.iter().map(|axis| axis.output).collect();
    let mut shape = vec![xs[0], filters];
    shape.extend(&spatial);
    let mut y = Vec::with_capacity(cx.charge(&shape, DType::F32)?);
    let plane: usize = xs[2..].iter().product();
    let strides = strides_of(&xs[2..]);
    // Ascending positions of the zero-stuffed input meet the kernel from its end.
    let volume: usize = axes.iter().map(|axis| axis.kernel).product();
    let kernel: Vec<Vec<usize>> = kernel_positions(&ws[2..]).into_iter().rev().collect();
    for n in 0..xs[0] {
        for m in 0..filters {
            let group = m / per_group.max(1);
            each_index(&spatial, |out| {
                let pairs = (0..channels).flat_map(|c| {
                    let (axes, strides) = (&axes, &strides);
                    let c = group * channels + c;
                    kernel.iter().enumerate().map(move |(k, position)| {
                        let at = (0..axes.len()).try_fold(0, |offset, i| {
                            axes[i].position(out[i], position[i]).map(|p| offset + p * strides[i])
                        });
                        let a = at.map_or(0.0, |at| x[(n * xs[1] + c) * plane + at]);
                        (a, w[(c * per_group + m % per_group) * volume + volume - 1 - k])
                    })
                });
                let sum = contract_f32(pairs, block_len(volume));
                y.push(canonical_f32(bias.map_or(sum, |b| sum + b[m])));
            });
        }
    }
    Ok(vec![Tensor::from_vec(shape, y)?])
}

/// An 8-bit input as integers.
fn bytes(cx: &EvalCx<'_>, index: usize) -> Result<Vec<i32>, OpError> {
    let tensor = cx.input(index)?;
    match (tensor.as_slice::<u8>(), tensor.as_slice::<i8>()) {
        (Some(v), _) => Ok(v.iter().map(|&v| v.into()).collect()),
        (_, Some(v)) => Ok(v.iter().map(|&v| v.into()).collect()),
        _ => Err(OpError::InputType { index, got: tensor.dtype() }),
    }
}

/// A per-tensor or per-channel parameter, spread to `len` entries.
fn spread<T: Copy>(values: &[T], len: usize) -> Result<Vec<T>, OpError> {
    match values {
        [one] => Ok(vec![*one; len]),
        many if many.len() == len => Ok(many.to_vec()),
        many => Err(OpError::Shape { what: "one value, or one an output channel", got: vec![many.len()] }),
    }
}

/// The integer convolution of inputs `xi` and `wi` with zero points: padding holds the input's zero point.
fn integer_sums(
    cx: &EvalCx<'_>,
    (xi, wi): (usize, usize),
    x_zero: i32,
    w_zero: &[i32],
    mut emit: impl FnMut(i32, usize),
) -> Result<ConvShape, OpError> {
    let (xt, wt) = (cx.input(xi)?, cx.input(wi)?);
    let (x, w) = (bytes(cx, xi)?, bytes(cx, wi)?);
    let shape = ConvShape::new(cx.attrs(), xt.shape(), wt.shape())?;
    cx.charge(&shape.output(), DType::I32)?;
    let w_zero = spread(w_zero, shape.filters)?;
    let plane: usize = xt.shape()[2..].iter().product();
    let (image, filter) = (plane * xt.shape()[1], wt.shape()[1..].iter().product());
    let strides = strides_of(&xt.shape()[2..]);
    let kernel = kernel_positions(&wt.shape()[2..]);
    let mut offsets = Vec::new();
    each_output(&shape, image, filter, plane, |w0, x0, out, m| {
        taps(&shape.window.axes, &strides, &kernel, out, &mut offsets);
        let mut sum = 0_i32;
        for c in 0..shape.channels {
            for (k, offset) in offsets.iter().enumerate() {
                let a = offset.map_or(0, |o| x[x0 + c * plane + o] - x_zero);
                sum = sum.wrapping_add(a * (w[w0 + c * kernel.len() + k] - w_zero[m]));
            }
        }
        emit(sum, m);
    });
    Ok(shape)
}

fn one<T: Copy>(values: &[T], what: &'static str) -> Result<T, OpError> {
    match values {
        [one] => Ok(*one),
        many => Err(OpError::Shape { what, got: vec![many.len()] }),
    }
}

fn conv_integer(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let x_zero = if cx.opt(2).is_some() { one(&bytes(cx, 2)?, "x_zero_point: one value")? } else { 0 };
    let w_zero = if cx.opt(3).is_some() { bytes(cx, 3)? } else { vec![0] };
    let mut y = Vec::new();
    let shape = integer_sums(cx, (0, 1), x_zero, &w_zero, |sum, _| y.push(sum))?;
    Ok(vec![Tensor::from_vec(shape.output(), y)?])
}

fn qlinear_conv(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let x_scale = one(cx.slice::<f32>(1)?, "x_scale: one value")?;
    let x_zero = one(&bytes(cx, 2)?, "x_zero_point: one value")?;
    let w_zero = bytes(cx, 5)?;
    let y_scale = one(cx.slice::<f32>(6)?, "y_scale: one value")?;
    let y_zero = one(&bytes(cx, 7)?, "y_zero_point: one value")?;
    let filters = cx.input(3)?.shape().first().copied().unwrap_or(0);
    let factors: Vec<f32> =
        spread(cx.slice::<f32>(4)?, filters)?.iter().map(|w_scale| (x_scale * w_scale) / y_scale).collect();
    let bias = if cx.opt(8).is_some() { spread(cx.slice::<i32>(8)?, filters)? } else { vec![0; filters] };
    let signed = cx.input(7)?.dtype() == DType::I8;
    let (low, high) = if signed { (-128.0, 127.0) } else { (0.0, 255.0) };
    let mut y = Vec::new();
    let shape = integer_sums(cx, (0, 3), x_zero, &w_zero, |sum, m| {
        let scaled = (sum.wrapping_add(bias[m]) as f32 * factors[m]).round_ties_even() + y_zero as f32;
        // NaN becomes zero, as in a cast.
        y.push(if scaled.is_nan() { 0 } else { scaled.clamp(low, high) as i16 });
    })?;
    let shape = shape.output();
    Ok(vec![if signed {
        Tensor::from_vec(shape, y.into_iter().map(|v| v as i8).collect::<Vec<i8>>())?
    } else {
        Tensor::from_vec(shape, y.into_iter().map(|v| v as u8).collect::<Vec<u8>>())?
    }])
}
