//! Convolutions of integers: filters times patches of the input, in the lanes of which lie output positions. Nothing is made as a whole but
//! the padded image.
#![allow(unsafe_code)] // Outputs are written by several threads, each its own part.

use hallmark_model::ops::conv::ConvShape;
use hallmark_model::ops::window::Axis;

use super::depthwise::depthwise;
use super::dot::{Kernels, Place, Weights};
use super::end::{Element, End};
use super::words::{Form, LANES, Line, Panels, Rows, interleave};
use crate::kernels::gemm::pack::Shared;
use crate::kernels::simd::per_isa;
use crate::program::Exec;

/// Positions whose patches are made at a time: whole wide tiles.
const POSITIONS: usize = 4 * LANES;
/// Filters whose accumulators are made at a time: whole tiles, and with those positions a part of a first-level cache.
const FILTERS: usize = 48;
/// How much larger than the image its padding may make it.
const MOST_PADDING: usize = 4;

/// Filters in the order (channels of a word, kernel axes).
#[derive(Clone, Debug)]
pub(super) enum Filters {
    /// One matrix a group, and its kernels.
    Dense(&'static Kernels, Vec<Rows>),
    /// One filter for each channel, and each group one channel: [kernel, channel].
    Depthwise(Vec<i16>),
}

impl Filters {
    /// Packs `weights` [filters, channels, kernel...] of `groups` groups, `volume` elements a kernel; `signed` unless some are above 127.
    pub(super) fn new(
        exec: &Exec,
        weights: &[i16],
        signed: bool,
        [filters, channels, volume, groups]: [usize; 4],
    ) -> Self {
        let each = filters / groups;
        if channels == 1 && each == 1 && groups > 1 {
            let turned = (0..volume).flat_map(|k| (0..filters).map(move |f| weights[f * volume + k]));
            return Self::Depthwise(turned.collect());
        }
        let kernels = Kernels::of(exec.isa, Weights::Rows, signed);
        let size = kernels.form.elements();
        let group = |group: usize| {
            let of_group = &weights[group * each * channels * volume..];
            // Element p is channel p % size of the word p / size, which lies at one place of the kernel.
            Rows::of(kernels.form, each, kernels.form.words(channels) * size * volume, |f, p| {
                let (word, at) = (p / size / volume, p / size % volume);
                let channel = word * size + p % size;
                if channel < channels { of_group[(f * channels + channel) * volume + at] } else { 0 }
            })
        };
        Self::Dense(kernels, (0..groups).map(group).collect())
    }

    /// What each filter's accumulators have too much where bytes of int8 are taken as 128 more than they are; `None` where they are not.
    pub(super) fn excess(&self) -> Option<Vec<i32>> {
        match self {
            Self::Dense(kernels, groups) if kernels.form == Form::Quads => {
                Some(groups.iter().flat_map(Rows::excess).collect())
            }
            _ => None,
        }
    }
}

/// One image with its padding, as words of channels: [channels, height, width].
struct Image {
    data: Vec<i32>,
    lines: usize,
    line: usize,
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

/// The results [batch, filters, positions] of bytes that are combined with `flip` (0x80 for int8, 0 for uint8); `None` for what is left
/// to the reference: three axes, padding out of proportion, nothing.
pub(super) fn convolve<T: Element>(
    exec: &Exec,
    shape: &ConvShape,
    (x, flip): (&[u8], u8),
    filters: &Filters,
    end: &End<'_>,
    out: &mut [T],
) -> Option<()> {
    let axes = two(&shape.window.axes)?;
    let [height, width] = axes;
    let channels = shape.channels.checked_mul(shape.groups)?;
    let plane = height.input.checked_mul(width.input)?;
    let (lines, line) = (reach(&height)?, reach(&width)?);
    let padded = lines.checked_mul(line)?.checked_mul(channels)?;
    let image = plane.checked_mul(channels)?;
    let positions = height.output.checked_mul(width.output)?;
    let each = shape.filters.checked_mul(positions)?;
    if padded > image.checked_mul(MOST_PADDING)?.saturating_add(1 << 16)
        || positions == 0
        || image == 0
        || shape.filters == 0
    {
        return None;
    }
    let images = x.chunks(image).zip(out.chunks_mut(each));
    match filters {
        Filters::Dense(kernels, groups) => {
            let words = shape.groups * kernels.form.words(shape.channels) * lines * line;
            let mut laid = Image { data: vec![kernels.form.zero(flip); words], lines, line };
            for (x, out) in images {
                lay(exec, kernels.form, shape, &axes, (x, flip), &mut laid);
                dense(exec, kernels, &axes, &laid, groups, end, out);
            }
        }
        Filters::Depthwise(weights) => {
            for (x, out) in images {
                let sums = depthwise(exec, &axes, (x, flip), (lines, line), weights);
                for (c, (sums, out)) in sums.chunks(positions).zip(out.chunks_mut(positions)).enumerate() {
                    end.along(c, sums, out);
                }
            }
        }
    }
    Some(())
}

/// Writes the image inside its padding, which stays 0.
fn lay(
    exec: &Exec,
    form: Form,
    shape: &ConvShape,
    [height, width]: &[Axis; 2],
    (x, flip): (&[u8], u8),
    image: &mut Image,
) {
    let (plane, size, words) = (height.input * width.input, form.elements(), form.words(shape.channels));
    for (word, laid) in image.data.chunks_mut(image.lines * image.line).enumerate() {
        let (first, end) = (word / words * shape.channels, (word / words + 1) * shape.channels);
        let first = first + word % words * size;
        // Beyond the last channel any other does.
        let planes: [&[u8]; 4] = std::array::from_fn(|i| &x[(first + i).min(end - 1) * plane..][..plane]);
        for h in 0..height.input {
            let rows = planes.map(|plane| &plane[h * width.input..(h + 1) * width.input]);
            let at = (h + height.pad_begin) * image.line + width.pad_begin;
            interleave(exec.isa, form, &rows, flip, &mut laid[at..at + width.input]);
        }
    }
}

fn dense<T: Element>(
    exec: &Exec,
    kernels: &Kernels,
    axes: &[Axis; 2],
    image: &Image,
    groups: &[Rows],
    end: &End<'_>,
    out: &mut [T],
) {
    let [height, width] = axes;
    let positions = height.output * width.output;
    let (each, words) = (groups[0].count(), groups[0].words);
    let plane = image.lines * image.line;
    let volume = height.kernel * width.kernel;
    // Where in the image the words of a patch are, from its first one.
    let places: Vec<usize> = (0..words)
        .map(|word| {
            let (kh, kw) = (word % volume / width.kernel, word % volume % width.kernel);
            word / volume * plane + kh * height.dilation * image.line + kw * width.dilation
        })
        .collect();
    let at_once = positions.div_ceil(exec.pool.threads()).next_multiple_of(LANES).min(POSITIONS);
    let chunks = positions.div_ceil(at_once);
    let to = Shared(out.as_mut_ptr());
    exec.pool.run_ranges(groups.len() * chunks, 1, |range| {
        let (mut patches, mut sums) = (Panels::zeroed(at_once, words), vec![0; FILTERS.min(each) * at_once]);
        for unit in range {
            let (group, first) = (unit / chunks, unit % chunks * at_once);
            let (line, image) = (image.line, &image.data[group * (words / volume) * plane..]);
            patches.columns = at_once.min(positions - first);
            let count = patches.columns.div_ceil(LANES) * words;
            patches.lines.truncate(count);
            patches.lines.resize(count, Line([0; LANES]));
            for (i, panel) in patches.lines.chunks_mut(words).enumerate() {
                // Beyond the last position the last one again.
                let firsts: [usize; LANES] = std::array::from_fn(|lane| {
                    let position = (first + i * LANES + lane).min(positions - 1);
                    let (row, column) = (position / width.output, position % width.output);
                    row * height.stride * line + column * width.stride
                });
                gather(exec.isa, image, &firsts, &places, panel);
            }
            let count = patches.columns;
            for filter in (0..each).step_by(FILTERS) {
                let some = filter..each.min(filter + FILTERS);
                // SAFETY: the accumulators have room for so many filters and positions.
                unsafe {
                    let place = Place { out: sums.as_mut_ptr(), row: count };
                    kernels.products(&groups[group], some.clone(), &patches, place);
                }
                for (filter, sums) in some.zip(sums.chunks(count)) {
                    let filter = group * each + filter;
                    // SAFETY: this unit alone writes these positions of this filter, which are within the output.
                    let out = unsafe {
                        std::slice::from_raw_parts_mut(to.get().add(filter * positions + first), count)
                    };
                    end.along(filter, sums, out);
                }
            }
        }
    });
}

/// `lines[i][lane] = image[firsts[lane] + places[i]]`.
#[inline(always)]
fn gather_body(image: &[i32], firsts: &[usize; LANES], places: &[usize], lines: &mut [Line]) {
    let side_by_side = firsts.iter().enumerate().all(|(lane, first)| *first == firsts[0] + lane);
    for (line, place) in lines.iter_mut().zip(places) {
        if side_by_side {
            line.0.copy_from_slice(&image[firsts[0] + place..][..LANES]);
        } else {
            let image = &image[*place..];
            line.0 = firsts.map(|first| image[first]);
        }
    }
}

per_isa! {
    /// Words of patches, one patch a lane.
    fn gather = gather_body(image: &[i32], firsts: &[usize; LANES], places: &[usize], lines: &mut [Line])
}
