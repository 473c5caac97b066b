//! What follows an accumulator: a bias for each channel, then Requantize (`quantised.md` §2.1).

use hallmark_model::ops::quantised::Requantize;
use hallmark_receipt::{DType, Data};

use crate::kernels::par;
use crate::kernels::simd::per_isa;
use crate::program::Exec;

/// Multipliers and the rest of Requantize's parameters.
#[derive(Clone, Debug)]
pub(super) struct Scale {
    pub(super) parameters: Requantize,
    /// One for all, or one a channel.
    pub(super) multipliers: Vec<i32>,
}

/// Elements of a run where all have one bias and multiplier.
const RUN: usize = 1 << 14;

/// One run of accumulators of one channel, or (where channels lie side by side) of all channels.
pub(super) struct Run<'a> {
    bias: &'a [i32],
    multipliers: &'a [i32],
    shift: u32,
    low: i32,
    high: i32,
}

/// `sums + bias`, as it is or requantised to int8 or uint8. Channels are runs of `inner` elements; bias and multipliers are empty, of one
/// element, or of one a channel. `None` for another result type.
pub(super) fn finish(
    exec: &Exec,
    mut sums: Vec<i32>,
    inner: usize,
    bias: Option<&[i32]>,
    scale: Option<&Scale>,
) -> Option<Data> {
    let Some(Scale { parameters, multipliers }) = scale else {
        if let Some(bias) = bias {
            for (channel, run) in sums.chunks_mut(inner.max(1)).enumerate() {
                let b = bias[channel % bias.len()];
                run.iter_mut().for_each(|x| *x = x.wrapping_add(b));
            }
        }
        return Some(Data::I32(sums));
    };
    if !matches!(parameters.to, DType::I8 | DType::U8) {
        return None;
    }
    let &Requantize { shift, low, high, .. } = parameters;
    let channels = bias.map_or(1, <[i32]>::len).max(multipliers.len());
    let wide = |list: &[i32]| {
        if list.len() == channels { list.to_vec() } else { vec![*list.first().unwrap_or(&0); channels] }
    };
    let (bias, multipliers) = (wide(bias.unwrap_or(&[0])), wide(multipliers));
    let mut out = vec![0_u8; sums.len()];
    // Where channels lie side by side a run is a row of all of them.
    let side_by_side = inner == 1 && channels > 1;
    let run_len = match (side_by_side, channels) {
        (true, _) => channels,
        (_, 1) => RUN,
        _ => inner.max(1),
    };
    par::chunks(exec, &mut out, run_len, 2, |start, out| {
        for (i, out) in out.chunks_mut(run_len).enumerate() {
            let at = start + i * run_len;
            let first = at / run_len % channels;
            let channel = if side_by_side { 0..channels } else { first..first + 1 };
            let run =
                Run { bias: &bias[channel.clone()], multipliers: &multipliers[channel], shift, low, high };
            requantise(exec.isa, &sums[at..at + out.len()], &run, out);
        }
    });
    Some(match parameters.to {
        DType::U8 => Data::U8(out),
        _ => Data::I8(out.into_iter().map(u8::cast_signed).collect()),
    })
}

/// The rule in 32 bits where its products fit, else in 64.
#[inline(always)]
fn requantise_body(sums: &[i32], run: &Run<'_>, out: &mut [u8]) {
    let &Run { bias, multipliers, shift, low, high } = run;
    let half = 1_i64 << (shift - 1);
    let greatest = multipliers.iter().fold(1, |most: i32, m| most.max(*m));
    let one = |x: i32, m: i32| ((x.wrapping_mul(m) + half as i32) >> shift).clamp(low, high) as u8;
    let exact =
        |x: i32, m: i32| ((i64::from(x) * i64::from(m) + half) >> shift).clamp(low.into(), high.into()) as u8;
    match (bias, multipliers) {
        (&[b], &[m]) => {
            let most = sums.iter().fold(0, |most: u32, x| most.max(x.wrapping_add(b).unsigned_abs()));
            if i64::from(most) * i64::from(m) + half <= i64::from(i32::MAX) {
                out.iter_mut().zip(sums).for_each(|(y, x)| *y = one(x.wrapping_add(b), m));
            } else {
                out.iter_mut().zip(sums).for_each(|(y, x)| *y = exact(x.wrapping_add(b), m));
            }
        }
        _ => {
            let pairs = || sums.iter().zip(bias).zip(multipliers);
            let most = pairs().fold(0, |most: u32, ((x, b), _)| most.max(x.wrapping_add(*b).unsigned_abs()));
            if i64::from(most) * i64::from(greatest) + half <= i64::from(i32::MAX) {
                out.iter_mut().zip(pairs()).for_each(|(y, ((x, b), m))| *y = one(x.wrapping_add(*b), *m));
            } else {
                out.iter_mut().zip(pairs()).for_each(|(y, ((x, b), m))| *y = exact(x.wrapping_add(*b), *m));
            }
        }
    }
}

per_isa! {
    /// Requantizes one run.
    fn requantise = requantise_body(sums: &[i32], run: &Run<'_>, out: &mut [u8])
}
