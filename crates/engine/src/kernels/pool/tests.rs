use hallmark_model::numeric::max_f32;

use super::*;
use crate::isa::Isa;
use crate::kernels::gemm::tests::{assert_same, numbers};
use crate::threads::Pool;

fn literal(window: Window, [h, w]: [Axis; 2], planes: usize, x: &[f32]) -> Vec<f32> {
    let mut out = Vec::new();
    for p in 0..planes {
        for row in 0..h.output {
            for column in 0..w.output {
                let inside = (0..h.kernel * w.kernel).filter_map(|k| {
                    let (i, j) = (h.position(row, k / w.kernel)?, w.position(column, k % w.kernel)?);
                    Some(x[(p * h.input + i) * w.input + j])
                });
                out.push(match window {
                    Window::Max => canonical_f32(inside.fold(f32::NEG_INFINITY, max_f32)),
                    Window::Average => {
                        let count = inside.clone().count();
                        canonical_f32(inside.fold(0.0, |a, b| a + b) / count as f32)
                    }
                    Window::AveragePadded => {
                        let count = h.padded_count(row) * w.padded_count(column);
                        canonical_f32(inside.fold(0.0, |a, b| a + b) / count as f32)
                    }
                });
            }
        }
    }
    out
}

#[test]
fn windows() {
    let axis = |input, kernel, stride, dilation, pad_begin, pad_end, more| {
        let output = (input + pad_begin + pad_end - (kernel - 1) * dilation - 1) / stride + 1 + more;
        Axis { input, output, kernel, stride, dilation, pad_begin, pad_end }
    };
    let shapes = [
        [axis(8, 2, 2, 1, 0, 0, 0), axis(70, 2, 2, 1, 0, 0, 0)],
        [axis(7, 3, 2, 1, 1, 1, 0), axis(7, 3, 2, 1, 1, 1, 0)],
        [axis(9, 3, 1, 1, 1, 1, 0), axis(40, 3, 1, 2, 2, 2, 0)],
        [axis(7, 2, 2, 1, 0, 0, 1), axis(10, 4, 3, 1, 1, 0, 1)],
        [axis(2, 2, 1, 1, 3, 3, 0), axis(2, 2, 1, 1, 3, 3, 0)],
    ];
    for axes in shapes {
        for (special, planes) in [(false, 5), (true, 3)] {
            let x = numbers(31, planes * axes[0].input * axes[1].input, special);
            for window in [Window::Max, Window::Average, Window::AveragePadded] {
                let want = literal(window, axes, planes, &x);
                for threads in [1, 2] {
                    let threads = Pool::new(threads);
                    for isa in Isa::available() {
                        let mut out = vec![7.0; want.len()];
                        assert!(pool(&Ctx::new(isa, &threads), window, &axes, planes, &x, &mut out));
                        assert_same(&out, &want, &format!("{window:?}, {isa}, {axes:?}"));
                    }
                }
            }
        }
    }
}

#[test]
fn global_averages() {
    let threads = Pool::new(2);
    for plane in [1, 15, 16, 17, 49, 1000] {
        let x = numbers(32, 40 * plane, plane == 49);
        let want: Vec<f32> = x
            .chunks(plane)
            .map(|x| {
                let mut p = [0.0_f32; 16];
                x.iter().enumerate().for_each(|(i, x)| p[i % 16] += x);
                for half in [8, 4, 2, 1] {
                    (0..half).for_each(|j| p[j] += p[j + half]);
                }
                canonical_f32(p[0] / plane as f32)
            })
            .collect();
        for isa in Isa::available() {
            let mut out = vec![7.0; 40];
            global_average(&Ctx::new(isa, &threads), plane, &x, &mut out);
            assert_same(&out, &want, &format!("{isa}, {plane}"));
        }
    }
}
