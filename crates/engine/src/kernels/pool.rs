//! Pools of float32 over one or two spatial axes, with exactly the bits of `numeric.md` §5.
#![allow(unsafe_code)] // Outputs are written by several threads, each its own planes.

#[cfg(test)]
mod tests;

use hallmark_model::numeric::canonical_f32;
use hallmark_model::ops::window::Axis;

use super::conv::plane::Plane;
use super::gemm::Ctx;
use super::gemm::pack::{Scratch, Shared};

/// What a pool makes of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// The greatest element; -infinity where the window holds none.
    Max,
    /// The mean of the elements inside the input.
    Average,
    /// The sum of these, divided by the number of positions inside the padded input.
    AveragePadded,
}

/// Pools each of `planes` planes of `x` into `out`. `false`, before anything is written, for what is left to the reference:
/// three axes, or padding out of proportion.
///
/// # Panics
/// If `x` or `out` has another size.
pub fn pool(cx: &Ctx<'_>, window: Window, axes: &[Axis], planes: usize, x: &[f32], out: &mut [f32]) -> bool {
    let one = Axis { input: 1, output: 1, kernel: 1, stride: 1, dilation: 1, pad_begin: 0, pad_end: 0 };
    let axes = match *axes {
        [width] => [one, one, width],
        [height, width] => [one, height, width],
        _ => return false,
    };
    let [_, height, width] = axes;
    let plane = height.input.saturating_mul(width.input);
    let outputs = height.output.saturating_mul(width.output);
    assert_eq!(Some(x.len()), planes.checked_mul(plane), "the input's size");
    assert_eq!(Some(out.len()), planes.checked_mul(outputs), "the output's size");
    if out.is_empty() {
        return true;
    }
    let table = cx.table();
    let Some(layout) = Plane::new(table, &axes, plane) else { return false };
    let count = |axis: &Axis, out: usize| match window {
        Window::AveragePadded => axis.padded_count(out),
        _ => axis.inside(out).len(),
    };
    let counts: Vec<usize> = (0..width.output).map(|o| count(&width, o)).collect();
    let to = Shared(out.as_mut_ptr());
    cx.pool().run_ranges(planes, 1, |range| {
        let mut scratch = Scratch::take();
        let buffer = scratch.right_buffer(layout.len());
        let results = scratch.tile.at_least(layout.row_len());
        let (mut divisors, mut counted) = (Vec::new(), usize::MAX);
        for p in range {
            // SAFETY: the buffers are as large as the layout says; the sizes of input and output were checked, and this
            // range alone writes plane p.
            unsafe {
                let x = &x[p * plane..(p + 1) * plane];
                // The maximum is the negated minimum of negated elements; so a NaN stays one on every instruction set.
                let (pad, factor) = if window == Window::Max { (f32::INFINITY, -1.0) } else { (0.0, 1.0) };
                (table.lay)(&layout, x, pad, factor, buffer);
                for row in 0..height.output {
                    let line = layout.line(row, buffer, results);
                    let at = to.get().add(p * outputs + row * width.output);
                    let out = std::slice::from_raw_parts_mut(at, width.output);
                    if window == Window::Max {
                        (table.least)(&line);
                        let results = std::slice::from_raw_parts(results, width.output);
                        out.iter_mut().zip(results).for_each(|(out, x)| *out = canonical_f32(-x));
                    } else {
                        (table.sum)(&line);
                        let results = std::slice::from_raw_parts(results, width.output);
                        let lines = count(&height, row);
                        if lines != counted {
                            let of = |columns: &usize| lines.saturating_mul(*columns) as f32;
                            (divisors, counted) = (counts.iter().map(of).collect(), lines);
                        }
                        for ((out, sum), divisor) in out.iter_mut().zip(results).zip(&divisors) {
                            *out = canonical_f32(sum / divisor);
                        }
                    }
                }
            }
        }
    });
    true
}

/// The mean of each of `out.len()` planes of `x` (§5: sixteen partial sums).
///
/// # Panics
/// If `x` has another size.
pub fn global_average(cx: &Ctx<'_>, plane: usize, x: &[f32], out: &mut [f32]) {
    assert_eq!(Some(x.len()), out.len().checked_mul(plane), "the input's size");
    let (table, to, planes) = (cx.table(), Shared(out.as_mut_ptr()), out.len());
    cx.pool().run_ranges(planes, 16, |range| {
        for p in range {
            // SAFETY: this range alone writes output p; the table is of an instruction set that the processor has.
            unsafe {
                let sum = (table.sum16)(&x[p * plane..(p + 1) * plane]);
                *to.get().add(p) = canonical_f32(sum / plane as f32);
            }
        }
    });
}
