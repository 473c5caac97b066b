//! Sampling at computed places: GridSample, AffineGrid, DeformConv.

use hallmark_receipt::{DType, Tensor};

use super::conv::deform_geometry;
use super::half::in_f32;
use super::window::{each_index, strides_of};
use super::{Domain, EvalCx, InferCx, OpDef, OpError};
use crate::graph::{Dim, TypeInfo};
use crate::numeric::{BLOCK, canonical_f32, contract_f32};

/// The family's table.
pub const OPS: &[OpDef] = &[
    OpDef {
        domain: Domain::Onnx,
        name: "GridSample",
        versions: &[16, 20, 22],
        attrs: &["align_corners", "mode", "padding_mode"],
        infer: infer_grid_sample,
        eval: |cx| in_f32(cx, grid_sample),
    },
    OpDef {
        domain: Domain::Onnx,
        name: "AffineGrid",
        versions: &[20],
        attrs: &["align_corners"],
        infer: |cx| Ok(vec![TypeInfo { dtype: cx.input(0)?.dtype, shape: None }]),
        eval: |cx| in_f32(cx, affine_grid),
    },
    OpDef {
        domain: Domain::Onnx,
        name: "DeformConv",
        versions: &[19, 22],
        attrs: &["dilations", "group", "kernel_shape", "offset_group", "pads", "strides"],
        infer: infer_deform,
        eval: |cx| in_f32(cx, deform_conv),
    },
];

fn shape_error<T>(what: &'static str, got: &[usize]) -> Result<T, OpError> {
    Err(OpError::Shape { what, got: got.to_vec() })
}

fn infer_grid_sample(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let x = cx.input(0)?;
    let shape = match (&x.shape, &cx.input(1)?.shape) {
        (Some(x), Some(grid)) if x.len() >= 3 && x.len() == grid.len() => {
            let mut shape = x[..2].to_vec();
            shape.extend_from_slice(&grid[1..grid.len() - 1]);
            Some(shape)
        }
        _ => None,
    };
    Ok(vec![TypeInfo { dtype: x.dtype, shape }])
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Padding {
    Zeros,
    Border,
    Reflection,
}

/// `v` reflected at the borders until it lies between them.
fn reflect(v: f32, low: f32, high: f32) -> f32 {
    let range = high - low;
    if range <= 0.0 {
        return low;
    }
    let (distance, below) = if v < low {
        (low - v, true)
    } else if v > high {
        (v - high, false)
    } else {
        return v;
    };
    let turns = (distance / range).trunc();
    let rest = distance - turns * range;
    let even = turns % 2.0 == 0.0;
    if below == even { low + rest } else { high - rest }
}

/// Where a tap of one axis reads; `None` is a zero.
fn tap(i: f32, size: usize, padding: Padding, low: f32, high: f32) -> Option<usize> {
    let last = (size - 1) as f32;
    match padding {
        Padding::Zeros => (i >= 0.0 && i <= last).then_some(i as usize),
        Padding::Border => Some(i.clamp(0.0, last) as usize),
        Padding::Reflection => Some(reflect(i, low, high).clamp(0.0, last) as usize),
    }
}

fn cubic(t: f32) -> [f32; 4] {
    const A: f32 = -0.75;
    let far = |x: f32| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
    let near = |x: f32| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)]
}

/// The taps of one axis at coordinate `v`: positions and coefficients, ascending.
fn axis_taps(mode: &str, v: f32, size: usize, padding: Padding, align: bool) -> Vec<(Option<usize>, f32)> {
    let (low, high) = if align { (0.0, (size - 1) as f32) } else { (-0.5, size as f32 - 0.5) };
    let mut v = if mode == "nearest" { v.round_ties_even() } else { v };
    if v < low || v > high {
        match padding {
            Padding::Border => v = v.clamp(0.0, (size - 1) as f32),
            Padding::Reflection => v = reflect(v, low, high),
            Padding::Zeros => {}
        }
    }
    if v.is_nan() {
        return vec![(Some(0), f32::NAN)];
    }
    let base = v.floor();
    let at = |i: f32| tap(i, size, padding, low, high);
    match mode {
        // Reflection may leave a half behind, which truncation takes to the pixel.
        "nearest" => vec![(at(v.trunc()), 1.0)],
        "linear" => {
            let t = v - base;
            vec![(at(base), 1.0 - t), (at(base + 1.0), t)]
        }
        _ => {
            let c = cubic(v - base);
            (0..4).map(|k| (at(base + k as f32 - 1.0), c[k])).collect()
        }
    }
}

/// `sum fma(x, c)` over the taps, the last axis innermost; a tap in the padding is +0.
fn sample(plane: &[f32], strides: &[usize], taps: &[Vec<(Option<usize>, f32)>]) -> f32 {
    fn along(plane: &[f32], at: Option<usize>, strides: &[usize], taps: &[Vec<(Option<usize>, f32)>]) -> f32 {
        let (Some((first, rest)), Some(stride)) = (taps.split_first(), strides.first()) else {
            return at.map_or(0.0, |at| plane[at]);
        };
        if let [(i, 1.0)] = first[..] {
            let next = at.and_then(|at| i.map(|i| at + i * stride));
            return along(plane, next, &strides[1..], rest);
        }
        first.iter().fold(0.0_f32, |acc, (i, c)| {
            let next = at.and_then(|at| i.map(|i| at + i * stride));
            along(plane, next, &strides[1..], rest).mul_add(*c, acc)
        })
    }
    canonical_f32(along(plane, Some(0), strides, taps))
}

fn grid_sample(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let (x, grid) = (cx.slice::<f32>(0)?, cx.slice::<f32>(1)?);
    let (xs, gs) = (cx.input(0)?.shape(), cx.input(1)?.shape());
    let rank = xs.len().saturating_sub(2);
    if rank == 0 || gs.len() != xs.len() || gs[0] != xs[0] || gs[rank + 1] != rank || rank > 8 {
        return shape_error("GridSample: [N, C, D...] and a grid [N, D'..., rank]", gs);
    }
    let spatial = &xs[2..];
    let mode = match cx.attrs().str("mode", "linear") {
        "linear" | "bilinear" => "linear",
        "cubic" | "bicubic" => "cubic",
        "nearest" => "nearest",
        _ => return Err(OpError::Attribute { name: "mode", why: "unknown value" }),
    };
    let padding = match cx.attrs().str("padding_mode", "zeros") {
        "zeros" => Padding::Zeros,
        "border" => Padding::Border,
        "reflection" => Padding::Reflection,
        _ => return Err(OpError::Attribute { name: "padding_mode", why: "unknown value" }),
    };
    let align = cx.attrs().int("align_corners", 0) != 0;
    let mut shape = xs[..2].to_vec();
    shape.extend_from_slice(&gs[1..=rank]);
    let n = cx.charge(&shape, DType::F32)?;
    if n > 0 && spatial.contains(&0) {
        return shape_error("GridSample: an input that is not empty", xs);
    }
    let mut y = vec![0.0_f32; n];
    let plane: usize = spatial.iter().product();
    let strides = strides_of(spatial);
    let places: usize = gs[1..=rank].iter().product();
    for b in 0..xs[0] {
        for p in 0..places {
            let point = &grid[(b * places + p) * rank..][..rank];
            // The grid lists the last axis first.
            let taps: Vec<_> = (0..rank)
                .map(|i| {
                    let (g, size) = (point[rank - 1 - i], spatial[i]);
                    let v = if align {
                        (g + 1.0) / 2.0 * (size as f32 - 1.0)
                    } else {
                        ((g + 1.0) * size as f32 - 1.0) / 2.0
                    };
                    axis_taps(mode, v, size, padding, align)
                })
                .collect();
            for c in 0..xs[1] {
                let at = b * xs[1] + c;
                y[at * places + p] = sample(&x[at * plane..][..plane], &strides, &taps);
            }
        }
    }
    Ok(vec![Tensor::from_vec(shape, y)?])
}

/// `theta . (x, y, [z,] 1)` at the centres (or corners) of the output's pixels, whose coordinates run from -1 to 1.
fn affine_grid(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let (theta, ts) = (cx.slice::<f32>(0)?, cx.input(0)?.shape());
    let wanted = cx.slice::<i64>(1)?;
    let rank = wanted.len().saturating_sub(2);
    let spatial: Vec<usize> = wanted.iter().skip(2).filter_map(|&n| usize::try_from(n).ok()).collect();
    if !(2..=3).contains(&rank) || spatial.len() != rank || ts.len() != 3 || ts[1..] != [rank, rank + 1] {
        return shape_error("AffineGrid: theta [N, 2, 3] or [N, 3, 4] and a size of that rank", ts);
    }
    let align = cx.attrs().int("align_corners", 0) != 0;
    let mut shape = vec![ts[0]];
    shape.extend(&spatial);
    shape.push(rank);
    let mut y = Vec::with_capacity(cx.charge(&shape, DType::F32)?);
    let coordinate = |i: usize, size: usize| {
        let (i, n) = (i as f32, size as f32);
        if align {
            if size == 1 { -1.0 } else { 2.0 * i / (n - 1.0) - 1.0 }
        } else {
            (2.0 * i + 1.0) / n - 1.0
        }
    };
    for matrix in theta.chunks_exact(rank * (rank + 1)) {
        each_index(&spatial, |at| {
            let mut point: Vec<f32> = (0..rank).rev().map(|i| coordinate(at[i], spatial[i])).collect();
            point.push(1.0);
            for row in matrix.chunks_exact(rank + 1) {
                y.push(contract_f32(row.iter().copied().zip(point.iter().copied()), BLOCK));
            }
        });
    }
    Ok(vec![Tensor::from_vec(shape, y)?])
}

fn infer_deform(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let (x, w, offset) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let shape = match (&x.shape, &w.shape, &offset.shape) {
        (Some(x), Some(w), Some(o)) if x.len() == 4 && w.len() == 4 && o.len() == 4 => {
            Some(vec![x[0].clone(), w[0].clone(), o[2].clone(), o[3].clone()])
        }
        _ => Some(vec![Dim::Unknown; 4]),
    };
    Ok(vec![TypeInfo { dtype: x.dtype, shape }])
}

/// A convolution (§4) whose inputs are sampled bilinearly (zeros outside) at shifted places, times the mask.
fn deform_conv(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let (x, w, offset) = (cx.slice::<f32>(0)?, cx.slice::<f32>(1)?, cx.slice::<f32>(2)?);
    let (xs, ws, os) = (cx.input(0)?.shape(), cx.input(1)?.shape(), cx.input(2)?.shape());
    if xs.len() != 4 || ws.len() != 4 || xs[2] == 0 || xs[3] == 0 {
        return Err(OpError::Unsupported { what: "DeformConv of anything but images [N, C, H, W]" });
    }
    let (shape, geometry) = deform_geometry(cx.attrs(), xs, ws)?;
    let groups = usize::try_from(cx.attrs().int("offset_group", 1)).unwrap_or(0);
    let output = shape.output();
    let volume = ws[2] * ws[3];
    if groups == 0 || xs[1] % groups != 0 || os != [xs[0], groups * volume * 2, output[2], output[3]] {
        return shape_error("DeformConv: offset [N, groups x kernel x 2, H', W']", os);
    }
    let mask = match cx.opt(4) {
        Some(t) if t.shape() == [xs[0], groups * volume, output[2], output[3]] => Some(cx.slice::<f32>(4)?),
        Some(t) => return shape_error("DeformConv: mask [N, groups x kernel, H', W']", t.shape()),
        None => None,
    };
    let bias = match cx.opt(3) {
        Some(t) if t.shape() == [shape.filters] => Some(cx.slice::<f32>(3)?),
        Some(t) => return shape_error("bias: one entry an output channel", t.shape()),
        None => None,
    };
    let mut y = Vec::with_capacity(cx.charge(&output, DType::F32)?);
    let (plane, places) = (xs[2] * xs[3], output[2] * output[3]);
    let per_offset_group = xs[1] / groups;
    let per_group = (shape.filters / shape.groups).max(1);
    let block = (BLOCK / volume).max(1) * volume;
    for n in 0..xs[0] {
        for m in 0..shape.filters {
            each_index(&output[2..], |out| {
                let place = out[0] * output[3] + out[1];
                let pairs = (0..shape.channels * volume).map(|at| {
                    let (c, k) = (at / volume, at % volume);
                    let channel = m / per_group * shape.channels + c;
                    let group = channel / per_offset_group;
                    let taps: Vec<_> = (0..2)
                        .map(|i| {
                            let kernel = if i == 0 { k / ws[3] } else { k % ws[3] };
                            let base = (out[i] * geometry.strides[i] + kernel * geometry.dilations[i]) as f32
                                - geometry.pads[i].0 as f32;
                            let shift = ((n * groups + group) * volume * 2 + k * 2 + i) * places + place;
                            axis_taps("linear", base + offset[shift], xs[2 + i], Padding::Zeros, true)
                        })
                        .collect();
                    let image = &x[(n * xs[1] + channel) * plane..][..plane];
                    let value = sample(image, &[xs[3], 1], &taps);
                    let scale = mask.map_or(1.0, |m| m[((n * groups + group) * volume + k) * places + place]);
                    (value * scale, w[(m * shape.channels + c) * volume + k])
                });
                let sum = contract_f32(pairs, block);
                y.push(canonical_f32(bias.map_or(sum, |b| sum + b[m])));
            });
        }
    }
    Ok(vec![Tensor::from_vec(output, y)?])
}
