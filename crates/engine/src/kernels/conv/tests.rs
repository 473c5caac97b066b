use hallmark_model::numeric::contract_f32;
use hallmark_model::ops::window::Window;

use super::*;
use crate::kernels::gemm::tests::{assert_same, finished, numbers};
use crate::kernels::gemm::{Add, Clamp};
use crate::threads::Pool;

fn axis(input: usize, kernel: usize, stride: usize, dilation: usize, (begin, end): (usize, usize)) -> Axis {
    let output = (input + begin + end - ((kernel - 1) * dilation + 1)) / stride + 1;
    Axis { input, output, kernel, stride, dilation, pad_begin: begin, pad_end: end }
}

/// One fused chain after the other, straight from the rules.
fn literal(s: &ConvShape, x: &[f32], w: &[f32], e: &Epilogue<'_>) -> Vec<f32> {
    let axes = three(&s.window.axes);
    let [d, h, l] = axes;
    let (plane, volume) = (d.input * h.input * l.input, d.kernel * h.kernel * l.kernel);
    let each = s.filters / s.groups;
    let positions = d.output * h.output * l.output;
    let mut out = Vec::new();
    for image in 0..s.batch {
        for filter in 0..s.filters {
            for position in 0..positions {
                let at =
                    [position / l.output / h.output, position / l.output % h.output, position % l.output];
                let first = (image * s.groups + filter / each) * s.channels;
                let pairs = (0..s.channels * volume).map(|k| {
                    let (c, v) = (k / volume, k % volume);
                    let inside = d
                        .position(at[0], v / l.kernel / h.kernel)
                        .zip(h.position(at[1], v / l.kernel % h.kernel))
                        .zip(l.position(at[2], v % l.kernel));
                    let element = inside.map_or(0.0, |((pd, ph), pl)| {
                        x[(first + c) * plane + (pd * h.input + ph) * l.input + pl]
                    });
                    (element, w[filter * s.channels * volume + k])
                });
                let sum = contract_f32(pairs, (512 / volume).max(1) * volume);
                out.push(finished(sum, filter, position, positions, out.len(), e));
            }
        }
    }
    out
}

fn check(batch: usize, channels: usize, filters: usize, groups: usize, axes: Vec<Axis>, special: bool) {
    let s = ConvShape { batch, channels, filters, groups, window: Window { axes } };
    let kernel: Vec<usize> = s.window.axes.iter().map(|axis| axis.kernel).collect();
    let plane: usize = s.window.axes.iter().map(|axis| axis.input).product();
    let x = numbers(21, batch * groups * channels * plane, special);
    let w = numbers(22, filters * channels * kernel.iter().product::<usize>(), false);
    let bias = numbers(23, filters, false);
    let total: usize = s.output().iter().product();
    let residual = numbers(24, total, special);
    let epilogues = [
        Epilogue::default(),
        Epilogue {
            add: Add::Rows(&bias),
            residual: Some(&residual),
            clamp: Clamp::Relu,
            ..Epilogue::default()
        },
    ];
    for e in &epilogues {
        let want = literal(&s, &x, &w, e);
        for threads in [1, 2, 4] {
            let pool = Pool::new(threads);
            for isa in Isa::available() {
                let conv = Conv::new(isa, &w, filters, channels, groups, &kernel).expect("taken");
                let mut out = vec![7.0; total];
                assert!(conv.run(&Ctx::new(isa, &pool), &s, &x, &mut out, e));
                assert_same(&out, &want, &format!("{isa}, {threads} threads, {s:?}"));
            }
        }
    }
}

#[test]
fn kernels_strides_pads_and_dilations() {
    check(1, 3, 16, 1, vec![axis(12, 3, 1, 1, (1, 1)), axis(37, 3, 1, 1, (1, 1))], true);
    check(2, 5, 9, 1, vec![axis(11, 3, 2, 1, (1, 0)), axis(9, 3, 2, 1, (1, 1))], false);
    check(1, 4, 31, 1, vec![axis(10, 3, 1, 2, (2, 2)), axis(8, 2, 3, 3, (0, 4))], false);
    check(3, 7, 20, 1, vec![axis(6, 1, 1, 1, (0, 0)), axis(6, 1, 1, 1, (0, 0))], true);
    check(1, 2, 3, 1, vec![axis(5, 1, 2, 1, (0, 0)), axis(70, 1, 2, 1, (0, 0))], false);
    // All of some windows in the padding.
    check(1, 2, 3, 1, vec![axis(3, 2, 1, 1, (4, 3)), axis(3, 2, 2, 1, (5, 4))], true);
}

#[test]
fn blocks_of_whole_channels() {
    // 56 channels of nine positions are a block; kernels above 512 positions are one channel a block.
    check(1, 57, 15, 1, vec![axis(5, 3, 1, 1, (1, 1)), axis(5, 3, 1, 1, (1, 1))], false);
    check(1, 113, 4, 1, vec![axis(3, 3, 1, 1, (0, 0)), axis(6, 3, 1, 1, (0, 0))], false);
    check(1, 2, 2, 1, vec![axis(24, 23, 1, 1, (1, 0)), axis(24, 23, 1, 1, (0, 0))], false);
    check(1, 600, 3, 1, vec![axis(1, 1, 1, 1, (0, 0)), axis(5, 1, 1, 1, (0, 0))], false);
}

#[test]
fn groups_and_depthwise() {
    check(2, 3, 8, 4, vec![axis(7, 3, 1, 1, (1, 1)), axis(7, 3, 1, 1, (1, 1))], false);
    check(2, 1, 6, 6, vec![axis(9, 3, 1, 1, (1, 1)), axis(21, 3, 1, 1, (1, 1))], true);
    check(1, 1, 10, 5, vec![axis(9, 3, 2, 1, (1, 1)), axis(40, 5, 2, 1, (2, 2))], false);
    check(1, 1, 4, 4, vec![axis(9, 2, 3, 2, (1, 2)), axis(35, 3, 3, 2, (4, 2))], false);
    check(1, 1, 3, 3, vec![axis(50, 4, 1, 1, (3, 0))], false);
}

#[test]
fn one_and_three_axes() {
    check(2, 3, 5, 1, vec![axis(40, 5, 2, 1, (2, 2))], false);
    check(
        1,
        2,
        4,
        1,
        vec![axis(4, 2, 1, 1, (1, 0)), axis(5, 3, 2, 1, (1, 1)), axis(6, 3, 1, 1, (1, 1))],
        false,
    );
    check(1, 1, 4, 2, vec![axis(2, 1, 1, 1, (0, 0)), axis(3, 1, 1, 1, (0, 0))], false);
}
