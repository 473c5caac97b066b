//! Convolutions of integers: patches of the input, channels side by side, times filters; nothing is made as a whole but the padded image.
#![allow(unsafe_code)] // Outputs are written by several threads, each its own part.

use hallmark_model::ops::conv::ConvShape;
use hallmark_model::ops::window::Axis;
use hallmark_receipt::Data;

use super::dot::{Place, Rows, products};
use crate::kernels::gemm::pack::Shared;
use crate::kernels::simd::per_isa;
use crate::program::Exec;

/// Elements of the patches that are made at a time: half a second-level cache's worth.
const PATCHES: usize = 1 << 15;
/// How much larger than the image its padding may make it.
const MOST_PADDING: usize = 4;

/// Filters as int16, in the order (kernel axes, channel).
#[derive(Clone, Debug)]
pub(super) enum Filters {
    /// One matrix a group.
    Dense(Vec<Rows>),
    /// One filter for each channel, and each group one channel: [kernel, channel].
    Depthwise(Vec<i16>),
}

impl Filters {
    /// Packs `weights` [filters, channels, kernel...] of `groups` groups, `volume` elements a kernel.
    pub(super) fn new(
        weights: &[i16],
        filters: usize,
        channels: usize,
        volume: usize,
        groups: usize,
    ) -> Self {
        let each = filters / groups;
        if channels == 1 && each == 1 && groups > 1 {
            let turned = (0..volume).flat_map(|k| (0..filters).map(move |f| weights[f * volume + k]));
            return Self::Depthwise(turned.collect());
        }
        let group = |group: usize| {
            let mut rows = Rows::zeroed(each, channels * volume);
            for f in 0..each {
                let filter = &weights[(group * each + f) * channels * volume..][..channels * volume];
                let row = rows.row_mut(f);
                for (c, k) in (0..channels).flat_map(|c| (0..volume).map(move |k| (c, k))) {
                    row[k * channels + c] = filter[c * volume + k];
                }
            }
            rows
        };
        Self::Dense((0..groups).map(group).collect())
    }
}

/// One image with its padding, channels side by side.
struct Image {
    data: Vec<i16>,
    width: usize,
    channels: usize,
}

/// The two spatial axes, a missing one of size 1 in front.
fn two(axes: &[Axis]) -> Option<[Axis; 2]> {
    let one = Axis { input: 1, output: 1, kernel: 1, stride: 1, dilation: 1, pad_begin: 0, pad_end: 0 };
    match *axes {
        [width] => Some([one, width]),
        [height, width] => Some([height, width]),
        _ => None,
    }
}

/// How far the windows of an axis reach.
fn reach(axis: &Axis) -> Option<usize> {
    let last = axis.output.checked_sub(1)?.checked_mul(axis.stride)?;
    let end = last.checked_add((axis.kernel - 1).checked_mul(axis.dilation)?)?.checked_add(1)?;
    Some(end.max(axis.pad_begin.checked_add(axis.input)?))
}

/// The accumulators [batch, filters, positions]; `None` for what is left to the reference: three axes, padding out of proportion, nothing.
pub(super) fn convolve(exec: &Exec, shape: &ConvShape, x: &Data, filters: &Filters) -> Option<Vec<i32>> {
    let axes = two(&shape.window.axes)?;
    let [height, width] = axes;
    let channels = shape.channels * shape.groups;
    let plane = height.input.checked_mul(width.input)?;
    let (rows, columns) = (reach(&height)?, reach(&width)?);
    let padded = rows.checked_mul(columns)?.checked_mul(channels)?;
    let image = plane.checked_mul(channels)?;
    let positions = height.output.checked_mul(width.output)?;
    let each = shape.filters.checked_mul(positions)?;
    if padded > image.checked_mul(MOST_PADDING)?.saturating_add(1 << 16)
        || positions == 0
        || shape.filters == 0
    {
        return None;
    }
    let mut out = vec![0; shape.batch.checked_mul(each)?];
    let mut laid = Image { data: vec![0; padded], width: columns, channels };
    for (n, out) in out.chunks_mut(each).enumerate() {
        match x {
            Data::I8(x) => lay(&x[n * image..(n + 1) * image], &axes, &mut laid, |x| x.into()),
            Data::U8(x) => lay(&x[n * image..(n + 1) * image], &axes, &mut laid, |x| x.into()),
            _ => return None,
        }
        match filters {
            Filters::Dense(groups) => dense(exec, &axes, shape, &laid, groups, out),
            Filters::Depthwise(weights) => depthwise(exec, &axes, &laid, weights, out),
        }
    }
    Some(out)
}

/// Writes the image inside its padding, which stays 0.
fn lay<T: Copy>(x: &[T], [height, width]: &[Axis; 2], image: &mut Image, wide: impl Fn(T) -> i16) {
    let (channels, line) = (image.channels, image.width);
    for (c, plane) in x.chunks(height.input * width.input).enumerate() {
        for (h, row) in plane.chunks(width.input).enumerate() {
            let first = ((h + height.pad_begin) * line + width.pad_begin) * channels + c;
            for (w, &value) in row.iter().enumerate() {
                image.data[first + w * channels] = wide(value);
            }
        }
    }
}

fn dense(exec: &Exec, axes: &[Axis; 2], shape: &ConvShape, image: &Image, groups: &[Rows], out: &mut [i32]) {
    let [height, width] = axes;
    let positions = height.output * width.output;
    let (each, stride) = (shape.filters / shape.groups, groups[0].stride);
    let at_once = (PATCHES / stride.max(1)).clamp(3, positions.max(3)).div_ceil(exec.pool.threads());
    let chunks = positions.div_ceil(at_once);
    let to = Shared(out.as_mut_ptr());
    exec.pool.run_ranges(groups.len() * chunks, 1, |range| {
        for unit in range {
            let (group, chunk) = (unit / chunks, unit % chunks);
            let first = chunk * at_once;
            let count = at_once.min(positions - first);
            let mut patches = Rows::zeroed(count, shape.channels * height.kernel * width.kernel);
            for i in 0..count {
                let (row, column) = ((first + i) / width.output, (first + i) % width.output);
                patch(
                    axes,
                    image,
                    (row, column),
                    (group * shape.channels, shape.channels),
                    patches.row_mut(i),
                );
            }
            // SAFETY: this unit alone writes these filters and positions; the processor has the instruction set.
            unsafe {
                let out = to.get().add(group * each * positions + first);
                products(exec.isa, &patches, &groups[group], Place { out, row: 1, column: positions });
            }
        }
    });
}

/// The input under one output position, for some channels.
fn patch(
    [height, width]: &[Axis; 2],
    image: &Image,
    (row, column): (usize, usize),
    (channel, channels): (usize, usize),
    to: &mut [i16],
) {
    let whole = channels == image.channels && width.dilation == 1;
    let run = if whole { width.kernel * channels } else { channels };
    let steps = if whole { 1 } else { width.kernel };
    let mut at = 0;
    for kh in 0..height.kernel {
        let line = (row * height.stride + kh * height.dilation) * image.width + column * width.stride;
        for kw in 0..steps {
            let from = (line + kw * width.dilation) * image.channels + channel;
            to[at..at + run].copy_from_slice(&image.data[from..from + run]);
            at += run;
        }
    }
}

fn depthwise(exec: &Exec, axes: &[Axis; 2], image: &Image, weights: &[i16], out: &mut [i32]) {
    let [height, width] = axes;
    let (positions, channels) = (height.output * width.output, image.channels);
    let to = Shared(out.as_mut_ptr());
    exec.pool.run_ranges(height.output, 1, |rows| {
        let mut sums = vec![0_i32; channels];
        for (row, column) in rows.flat_map(|row| (0..width.output).map(move |column| (row, column))) {
            sums.fill(0);
            for (k, taps) in weights.chunks(channels).enumerate() {
                let (kh, kw) = (k / width.kernel, k % width.kernel);
                let line = (row * height.stride + kh * height.dilation) * image.width;
                let from = (line + column * width.stride + kw * width.dilation) * channels;
                tap(exec.isa, &image.data[from..from + channels], taps, &mut sums);
            }
            for (c, sum) in sums.iter().enumerate() {
                // SAFETY: these rows of the output are this range's alone.
                unsafe { *to.get().add(c * positions + row * width.output + column) = *sum };
            }
        }
    });
}

#[inline(always)]
fn tap_body(x: &[i16], w: &[i16], sums: &mut [i32]) {
    for ((sum, x), w) in sums.iter_mut().zip(x).zip(w) {
        *sum = sum.wrapping_add(i32::from(*x) * i32::from(*w));
    }
}

per_isa! {
    /// `sums += x * w`.
    fn tap = tap_body(x: &[i16], w: &[i16], sums: &mut [i32])
}
