//! Normalisation (`numeric.md` §7).

use hallmark_receipt::{DType, Tensor};

use super::half::in_f32;
use super::{Domain, EvalCx, InferCx, OpDef, OpError};
use crate::graph::{Dim, TypeInfo};
use crate::numeric::{canonical_f32, elementary};

/// The family's table.
pub const OPS: &[OpDef] = &[
    OpDef {
        domain: Domain::Onnx,
        name: "BatchNormalization",
        versions: &[7, 9, 14, 15],
        attrs: &["epsilon", "momentum", "spatial", "training_mode"],
        infer: infer_batch,
        eval: |cx| in_f32(cx, batch_normalization),
    },
    OpDef {
        domain: Domain::Onnx,
        name: "InstanceNormalization",
        versions: &[6, 22],
        attrs: &["epsilon"],
        infer: super::infer::same,
        eval: |cx| in_f32(cx, instance_normalization),
    },
    OpDef {
        domain: Domain::Onnx,
        name: "GroupNormalization",
        versions: &[18, 21],
        attrs: &["epsilon", "num_groups", "stash_type"],
        infer: super::infer::same,
        eval: |cx| in_f32(cx, group_normalization),
    },
    OpDef {
        domain: Domain::Onnx,
        name: "LayerNormalization",
        versions: &[17],
        attrs: &["axis", "epsilon", "stash_type"],
        infer: infer_layer,
        eval: |cx| in_f32(cx, layer_normalization),
    },
    OpDef {
        domain: Domain::Onnx,
        name: "RMSNormalization",
        versions: &[23],
        attrs: &["axis", "epsilon", "stash_type"],
        infer: super::infer::same,
        eval: |cx| in_f32(cx, rms_normalization),
    },
    OpDef {
        domain: Domain::Onnx,
        name: "LRN",
        versions: &[1, 13],
        attrs: &["alpha", "beta", "bias", "size"],
        infer: super::infer::same,
        eval: |cx| in_f32(cx, lrn),
    },
];

/// The sum of §5: sixteen partial sums, then the fixed tree.
pub(crate) fn sum_of(values: impl IntoIterator<Item = f32>) -> f32 {
    let mut lanes = [0.0_f32; 16];
    for (i, x) in values.into_iter().enumerate() {
        lanes[i % 16] += x;
    }
    for width in [8, 4, 2, 1] {
        for j in 0..width {
            lanes[j] += lanes[j + width];
        }
    }
    canonical_f32(lanes[0])
}

/// The mean of §5.
pub(crate) fn mean_of(values: &[f32]) -> f32 {
    canonical_f32(sum_of(values.iter().copied()) / values.len() as f32)
}

/// The variance of §7 about `mean`, over a sequence.
fn variance_of(values: &[f32], mean: f32) -> f32 {
    let squares = values.iter().map(|x| {
        let d = x - mean;
        d * d
    });
    sum_of(squares) / values.len() as f32
}

fn shape_error<T>(what: &'static str, got: &[usize]) -> Result<T, OpError> {
    Err(OpError::Shape { what, got: got.to_vec() })
}

/// Input `index` as one number a channel.
fn channel<'a>(cx: &EvalCx<'a>, index: usize, channels: usize) -> Result<&'a [f32], OpError> {
    let v = cx.slice::<f32>(index)?;
    if v.len() == channels {
        Ok(v)
    } else {
        shape_error("a normalisation parameter: one entry a channel", cx.input(index)?.shape())
    }
}

fn infer_batch(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let x = cx.input(0)?.clone();
    let per_channel = x.shape.as_ref().and_then(|dims| dims.get(1)).map(|c| vec![c.clone()]);
    let statistic = TypeInfo { dtype: x.dtype, shape: per_channel };
    Ok(vec![x, statistic.clone(), statistic])
}

fn batch_normalization(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let (x, shape) = (cx.slice::<f32>(0)?, cx.input(0)?.shape());
    if shape.is_empty() {
        return shape_error("BatchNormalization: [N, C, ...]", shape);
    }
    if cx.attrs().int("spatial", 1) != 1 {
        return Err(OpError::Unsupported { what: "BatchNormalization with spatial = 0" });
    }
    let epsilon = cx.attrs().float("epsilon", 1e-5);
    let channels = shape.get(1).copied().unwrap_or(1);
    let plane: usize = shape.iter().skip(2).product();
    let (scale, bias) = (channel(cx, 1, channels)?, channel(cx, 2, channels)?);
    let (mean, var) = (channel(cx, 3, channels)?, channel(cx, 4, channels)?);
    let image = channels * plane;
    let normalise = |mean: &[f32], var: &[f32]| {
        let factor: Vec<f32> = (0..channels).map(|c| scale[c] / (var[c] + epsilon).sqrt()).collect();
        let each = |(i, x): (usize, &f32)| {
            let c = i % image / plane;
            (x - mean[c]) * factor[c] + bias[c]
        };
        Tensor::from_vec(shape.to_vec(), x.iter().enumerate().map(each).collect())
    };
    if cx.attrs().int("training_mode", 0) == 0 {
        return Ok(vec![normalise(mean, var)?]);
    }
    let (mut means, mut vars) = (Vec::new(), Vec::new());
    for c in 0..channels {
        let values: Vec<f32> = x
            .chunks_exact(image.max(1))
            .flat_map(|image| image[c * plane..(c + 1) * plane].iter().copied())
            .collect();
        let m = mean_of(&values);
        means.push(m);
        vars.push(variance_of(&values, m));
    }
    let momentum = cx.attrs().float("momentum", 0.9);
    let running = |old: &[f32], new: &[f32]| {
        let each = |(old, new): (&f32, &f32)| old * momentum + new * (1.0 - momentum);
        Tensor::vector(old.iter().zip(new).map(each).collect())
    };
    Ok(vec![normalise(&means, &vars)?, running(mean, &means), running(var, &vars)])
}

/// Normalises each of the consecutive `groups` of `x` by its own mean and variance: `(d_i * r) * scale + bias`, with scale
/// and bias by flat index.
fn by_group(
    x: &[f32],
    group: usize,
    epsilon: f32,
    scale: impl Fn(usize) -> f32,
    bias: impl Fn(usize) -> f32,
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let (mut y, mut means, mut inverses) = (Vec::with_capacity(x.len()), Vec::new(), Vec::new());
    for values in x.chunks_exact(group.max(1)) {
        let mean = mean_of(values);
        let r = 1.0 / (variance_of(values, mean) + epsilon).sqrt();
        for v in values {
            let i = y.len();
            y.push(((v - mean) * r) * scale(i) + bias(i));
        }
        means.push(mean);
        inverses.push(canonical_f32(r));
    }
    (y, means, inverses)
}

fn instance_normalization(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let (x, shape) = (cx.slice::<f32>(0)?, cx.input(0)?.shape());
    if shape.len() < 3 {
        return shape_error("InstanceNormalization: [N, C, D...]", shape);
    }
    let (scale, bias) = (channel(cx, 1, shape[1])?, channel(cx, 2, shape[1])?);
    let plane: usize = shape[2..].iter().product();
    let c = |i: usize| i / plane % shape[1];
    let (y, ..) = by_group(x, plane, cx.attrs().float("epsilon", 1e-5), |i| scale[c(i)], |i| bias[c(i)]);
    Ok(vec![Tensor::from_vec(shape.to_vec(), y)?])
}

fn group_normalization(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let (x, shape) = (cx.slice::<f32>(0)?, cx.input(0)?.shape());
    let groups = usize::try_from(cx.attrs().int("num_groups", 0)).unwrap_or(0);
    if shape.len() < 2 || groups == 0 || shape[1] % groups != 0 {
        return shape_error("GroupNormalization: [N, C, ...] with C divisible by num_groups", shape);
    }
    let plane: usize = shape[2..].iter().product();
    // Until version 21 scale and bias are by group.
    let parameters = if cx.node.version < 21 { groups } else { shape[1] };
    let (scale, bias) = (channel(cx, 1, parameters)?, channel(cx, 2, parameters)?);
    let span = plane * (shape[1] / parameters.max(1));
    let c = |i: usize| i / span % parameters;
    let group = plane * (shape[1] / groups);
    let (y, ..) = by_group(x, group, cx.attrs().float("epsilon", 1e-5), |i| scale[c(i)], |i| bias[c(i)]);
    Ok(vec![Tensor::from_vec(shape.to_vec(), y)?])
}

/// The attribute `axis` within `rank`.
fn axis_of(cx: &EvalCx<'_>, rank: usize) -> Result<usize, OpError> {
    let axis = cx.attrs().int("axis", -1);
    let from_start = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
    usize::try_from(from_start)
        .ok()
        .filter(|&axis| axis < rank)
        .ok_or(OpError::Value { what: "axis inside the rank", got: axis })
}

/// For every flat index of a tensor of shape `to`, the flat index in a tensor of shape `from` that broadcasts to it.
fn broadcast_index(from: &[usize], to: &[usize]) -> Result<impl Fn(usize) -> usize + use<>, OpError> {
    let pad = match to.len().checked_sub(from.len()) {
        Some(pad) if from.iter().zip(&to[pad..]).all(|(a, b)| a == b || *a == 1) => pad,
        _ => return Err(OpError::Broadcast { a: from.to_vec(), b: to.to_vec() }),
    };
    let strides = super::window::strides_of(from);
    let axes: Vec<(usize, usize)> = (0..to.len())
        .map(|i| (to[i], if i >= pad && from[i - pad] != 1 { strides[i - pad] } else { 0 }))
        .collect();
    Ok(move |mut flat: usize| {
        let mut at = 0;
        for (size, stride) in axes.iter().rev() {
            at += flat % size * stride;
            flat /= size;
        }
        at
    })
}

fn infer_layer(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let x = cx.input(0)?.clone();
    let shape = x.shape.as_ref().and_then(|dims| {
        let axis = cx.attrs().int("axis", -1);
        let axis = usize::try_from(if axis < 0 { axis + dims.len() as i64 } else { axis }).ok()?;
        Some(
            dims.iter()
                .enumerate()
                .map(|(i, d)| if i < axis { d.clone() } else { Dim::Known(1) })
                .collect::<Vec<_>>(),
        )
    });
    let statistic = TypeInfo { dtype: Some(DType::F32), shape };
    Ok(vec![x, statistic.clone(), statistic])
}

fn layer_normalization(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let (x, shape) = (cx.slice::<f32>(0)?, cx.input(0)?.shape());
    let axis = axis_of(cx, shape.len())?;
    let group: usize = shape[axis..].iter().product();
    let scale = cx.slice::<f32>(1)?;
    let scale_at = broadcast_index(cx.input(1)?.shape(), shape)?;
    let mut statistic = shape.to_vec();
    statistic[axis..].fill(1);
    let epsilon = cx.attrs().float("epsilon", 1e-5);
    let (y, means, inverses) = match cx.opt(2) {
        Some(b) => {
            let bias = cx.slice::<f32>(2)?;
            let bias_at = broadcast_index(b.shape(), shape)?;
            by_group(x, group, epsilon, |i| scale[scale_at(i)], |i| bias[bias_at(i)])
        }
        None => {
            // Without a bias nothing is added: `x + 0` would turn -0 into +0.
            by_group(x, group, epsilon, |i| scale[scale_at(i)], |_| -0.0)
        }
    };
    let rows: usize = statistic.iter().product();
    if means.len() != rows {
        return shape_error("LayerNormalization: normalised axes that are not empty", shape);
    }
    Ok(vec![
        Tensor::from_vec(shape.to_vec(), y)?,
        Tensor::from_vec(statistic.clone(), means)?,
        Tensor::from_vec(statistic, inverses)?,
    ])
}

fn rms_normalization(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let (x, shape) = (cx.slice::<f32>(0)?, cx.input(0)?.shape());
    let axis = axis_of(cx, shape.len())?;
    let group: usize = shape[axis..].iter().product();
    let scale = cx.slice::<f32>(1)?;
    let scale_at = broadcast_index(cx.input(1)?.shape(), shape)?;
    let epsilon = cx.attrs().float("epsilon", 1e-5);
    let mut y = Vec::with_capacity(x.len());
    for values in x.chunks_exact(group.max(1)) {
        let squares = sum_of(values.iter().map(|v| v * v)) / values.len() as f32;
        let r = 1.0 / (squares + epsilon).sqrt();
        for v in values {
            y.push((v * r) * scale[scale_at(y.len())]);
        }
    }
    Ok(vec![Tensor::from_vec(shape.to_vec(), y)?])
}

/// `x / pow(bias + (alpha / size) * sum, beta)`; the sum of squares runs over ascending channels from +0.
fn lrn(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let (x, shape) = (cx.slice::<f32>(0)?, cx.input(0)?.shape());
    if shape.len() < 2 {
        return shape_error("LRN: [N, C, ...]", shape);
    }
    let size = usize::try_from(cx.attrs().int("size", 0))
        .ok()
        .filter(|&n| n > 0)
        .ok_or(OpError::Attribute { name: "size", why: "must be positive" })?;
    let (alpha, beta) = (cx.attrs().float("alpha", 1e-4), cx.attrs().float("beta", 0.75));
    let bias = cx.attrs().float("bias", 1.0);
    let (channels, plane) = (shape[1], shape[2..].iter().product::<usize>());
    let factor = alpha / size as f32;
    let each = |i: usize| {
        let (c, at) = (i / plane % channels, i / plane / channels * channels * plane + i % plane);
        let first = c.saturating_sub((size - 1) / 2);
        let last = c.saturating_add(size / 2).min(channels - 1);
        let sum = (first..=last).fold(0.0, |sum: f32, c| {
            let v = x[at + c * plane];
            sum + v * v
        });
        x[i] / elementary::pow(bias + factor * sum, beta)
    };
    Ok(vec![Tensor::from_vec(shape.to_vec(), (0..x.len()).map(each).collect())?])
}
