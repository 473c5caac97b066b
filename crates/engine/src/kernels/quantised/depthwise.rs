//! Convolutions of integers in which every channel has one filter of its own: lanes run along channels.
#![allow(unsafe_code)] // Outputs are written by several threads, each its own part.

use hallmark_model::ops::window::Axis;

use crate::kernels::gemm::pack::Shared;
use crate::kernels::simd::per_isa;
use crate::program::Exec;

/// The accumulators [channels, positions] of one image of bytes, each less by `flip` after it was combined with it (0x80 for int8, 0 for
/// uint8). `lines` and `line` are the sizes of the image with its padding, `weights` are [kernel, channel].
pub(super) fn depthwise(
    exec: &Exec,
    axes: &[Axis; 2],
    (x, flip): (&[u8], u8),
    (lines, line): (usize, usize),
    weights: &[i16],
) -> Vec<i32> {
    let [height, width] = axes;
    let (positions, channels) = (height.output * width.output, x.len() / (height.input * width.input));
    let mut out = vec![0; positions * channels];
    let mut image = vec![0_i16; lines * line * channels];
    for (c, plane) in x.chunks(height.input * width.input).enumerate() {
        for (h, row) in plane.chunks(width.input).enumerate() {
            let first = ((h + height.pad_begin) * line + width.pad_begin) * channels + c;
            for (to, &x) in image[first..].iter_mut().step_by(channels).zip(row) {
                *to = i16::from(x ^ flip) - i16::from(flip);
            }
        }
    }
    let to = Shared(out.as_mut_ptr());
    exec.pool.run_ranges(height.output, 1, |rows| {
        let mut sums = vec![0_i32; channels];
        for (row, column) in rows.flat_map(|row| (0..width.output).map(move |column| (row, column))) {
            sums.fill(0);
            for (k, taps) in weights.chunks(channels).enumerate() {
                let (kh, kw) = (k / width.kernel, k % width.kernel);
                let above = (row * height.stride + kh * height.dilation) * line;
                let from = (above + column * width.stride + kw * width.dilation) * channels;
                tap(exec.isa, &image[from..from + channels], taps, &mut sums);
            }
            for (c, sum) in sums.iter().enumerate() {
                // SAFETY: these rows of the output are this range's alone.
                unsafe { *to.get().add(c * positions + row * width.output + column) = *sum };
            }
        }
    });
    out
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
