//! What follows an accumulator: a bias for each channel, then Requantize (`quantised.md` §2.1).

use std::borrow::Cow;
use std::ops::Range;

use hallmark_model::ops::quantised::Requantize;

use crate::isa::Isa;
use crate::kernels::simd::per_isa;

/// Multipliers and the rest of Requantize's parameters.
#[derive(Clone, Debug)]
pub(super) struct Scale {
    pub(super) parameters: Requantize,
    /// One for all, or one a channel.
    pub(super) multipliers: Vec<i32>,
}

/// What becomes of accumulators: a bias is added, then they are results as they are, or requantised to bytes.
#[derive(Debug)]
pub(super) struct End<'a> {
    isa: Isa,
    /// One a channel.
    bias: Cow<'a, [i32]>,
    multipliers: Cow<'a, [i32]>,
    parameters: Option<&'a Requantize>,
}

impl<'a> End<'a> {
    /// The end of some channels: bias and multipliers are one for all or one a channel.
    pub(super) fn new(isa: Isa, channels: usize, bias: Option<&'a [i32]>, scale: Option<&'a Scale>) -> Self {
        let wide = |list: &'a [i32]| match list {
            &[one] => Cow::Owned(vec![one; channels]),
            list => Cow::Borrowed(list),
        };
        let multipliers = scale.map_or([1].as_slice(), |scale| &scale.multipliers);
        Self {
            isa,
            bias: wide(bias.unwrap_or(&[0])),
            multipliers: wide(multipliers),
            parameters: scale.map(|scale| &scale.parameters),
        }
    }

    /// Results of accumulators of one channel.
    pub(super) fn along<T: Element>(&self, channel: usize, sums: &[i32], out: &mut [T]) {
        self.some(channel..channel + 1, sums, out);
    }

    /// Results of accumulators of all channels side by side, row by row.
    pub(super) fn across<T: Element>(&self, sums: &[i32], out: &mut [T]) {
        let channels = self.bias.len().max(1);
        for (sums, out) in sums.chunks(channels).zip(out.chunks_mut(channels)) {
            self.some(0..channels, sums, out);
        }
    }

    fn some<T: Element>(&self, channels: Range<usize>, sums: &[i32], out: &mut [T]) {
        let (bias, multipliers) = (&self.bias[channels.clone()], &self.multipliers[channels]);
        let (shift, low, high) = self.parameters.map_or((1, 0, 0), |p| (p.shift, p.low, p.high));
        T::finish(self.isa, sums, &Run { bias, multipliers, shift, low, high }, out);
    }
}

/// A type of results: int32, or the bytes of int8 and uint8.
pub(super) trait Element: Copy + Default + Send {
    /// Results of one run.
    fn finish(isa: Isa, sums: &[i32], run: &Run<'_>, out: &mut [Self]);
}

impl Element for i32 {
    fn finish(isa: Isa, sums: &[i32], run: &Run<'_>, out: &mut [Self]) {
        add(isa, sums, run.bias, out);
    }
}

impl Element for u8 {
    fn finish(isa: Isa, sums: &[i32], run: &Run<'_>, out: &mut [Self]) {
        requantise(isa, sums, run, out);
    }
}

/// Parameters of a run of accumulators: of one channel, or of one each.
pub(super) struct Run<'a> {
    bias: &'a [i32],
    multipliers: &'a [i32],
    shift: u32,
    low: i32,
    high: i32,
}

#[inline(always)]
fn add_body(sums: &[i32], bias: &[i32], out: &mut [i32]) {
    if let &[bias] = bias {
        out.iter_mut().zip(sums).for_each(|(y, x)| *y = x.wrapping_add(bias));
    } else {
        out.iter_mut().zip(sums).zip(bias).for_each(|((y, x), bias)| *y = x.wrapping_add(*bias));
    }
}

per_isa! {
    /// `sums + bias`.
    fn add = add_body(sums: &[i32], bias: &[i32], out: &mut [i32])
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
