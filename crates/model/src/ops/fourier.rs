//! Fourier transforms and mel filters (`numeric.md` §10): DFT, STFT, MelWeightMatrix.
//!
//! A transform is the sum itself, not a fast algorithm: output k is a contraction (§3) of the samples' real and imaginary parts,
//! interleaved, with `cos` and `sin` of `2 * pi * j / N`, `j = (k * n) mod N`. The angle is reduced in integers to its distance from the
//! nearest quarter turn, made in float64 and rounded once to float32.

use hallmark_receipt::{DType, Data, Tensor};

use super::half::in_f32;
use super::index::axis as axis_in;
use super::{Domain, EvalCx, InferCx, OpDef, OpError};
use crate::graph::{Dim, TypeInfo};
use crate::numeric::{BLOCK, canonical_f32, contract_f32, elementary};

const fn row(
    name: &'static str,
    versions: &'static [u32],
    attrs: &'static [&'static str],
    infer: fn(&InferCx<'_>) -> Result<Vec<TypeInfo>, OpError>,
    eval: fn(&EvalCx<'_>) -> Result<Vec<Tensor>, OpError>,
) -> OpDef {
    OpDef { domain: Domain::Onnx, name, versions, attrs, infer, eval }
}

/// The family's table.
pub const OPS: &[OpDef] = &[
    row("DFT", &[17, 20], &["axis", "inverse", "onesided"], infer_dft, |cx| in_f32(cx, dft)),
    row("STFT", &[17], &["onesided"], infer_stft, |cx| in_f32(cx, stft)),
    row("MelWeightMatrix", &[17], &["output_datatype"], infer_float, mel_weight_matrix),
];

fn shape_error<T>(what: &'static str, got: &[usize]) -> Result<T, OpError> {
    Err(OpError::Shape { what, got: got.to_vec() })
}

fn infer_float(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    // ONNX numbers float32 as 1.
    let dtype = (cx.attrs().int("output_datatype", 1) == 1).then_some(DType::F32);
    Ok(vec![TypeInfo { dtype, shape: None }])
}

fn infer_dft(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    Ok(vec![TypeInfo { dtype: cx.input(0)?.dtype, shape: None }])
}

fn infer_stft(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    Ok(vec![TypeInfo {
        dtype: cx.input(0)?.dtype,
        shape: Some(vec![Dim::Unknown, Dim::Unknown, Dim::Unknown, Dim::Known(2)]),
    }])
}

/// The one integer of input `index`, if it is given.
fn integer(cx: &EvalCx<'_>, index: usize) -> Result<Option<i64>, OpError> {
    let Some(t) = cx.opt(index) else { return Ok(None) };
    match t.data() {
        Data::I64(v) if v.len() == 1 => Ok(Some(v[0])),
        Data::I32(v) if v.len() == 1 => Ok(Some(v[0].into())),
        Data::I64(_) | Data::I32(_) => shape_error("one integer", t.shape()),
        _ => Err(OpError::InputType { index, got: t.dtype() }),
    }
}

fn length(value: i64, what: &'static str) -> Result<usize, OpError> {
    usize::try_from(value).ok().filter(|&n| n <= 1 << 31).ok_or(OpError::Value { what, got: value })
}

/// `cos` and `sin` of `2 * pi * i / n` for i below n. Whole quarter turns and mirrored halves of a quarter are taken out in
/// integers, so that zeros and signs are exact.
fn roots(n: usize) -> (Vec<f32>, Vec<f32>) {
    let angle = |r: u128| (std::f64::consts::FRAC_PI_2 * r as f64 / n as f64) as f32;
    let root = |i: usize| {
        let turns = 4 * i as u128;
        let (quarter, rest) = (turns / n as u128, turns % n as u128);
        let (cos, sin) = if 2 * rest <= n as u128 {
            (elementary::cos(angle(rest)), elementary::sin(angle(rest)))
        } else {
            let rest = n as u128 - rest;
            (elementary::sin(angle(rest)), elementary::cos(angle(rest)))
        };
        match quarter {
            0 => (cos, sin),
            1 => (-sin, cos),
            2 => (-cos, -sin),
            _ => (sin, -cos),
        }
    };
    (0..n).map(root).unzip()
}

/// Complex numbers as (real parts, imaginary parts).
type Complex = (Vec<f32>, Vec<f32>);

/// The first `outputs` values of the transform of `re + i im` (zeros after the end), without scaling.
fn transform(re: &[f32], im: &[f32], n: usize, outputs: usize, inverse: bool, table: &Complex) -> Complex {
    let (cos, sin) = table;
    let angles = |k: usize| (0..re.len()).map(move |i| (k as u128 * i as u128 % n as u128) as usize);
    let sign = if inverse { -1.0 } else { 1.0 };
    // e^(-i t) (re + i im) = (re cos + im sin) + i (im cos - re sin); each is one contraction, its terms interleaved.
    let real = |k: usize| {
        let terms = angles(k).enumerate().flat_map(|(i, a)| [(re[i], cos[a]), (im[i], sign * sin[a])]);
        contract_f32(terms, BLOCK)
    };
    let imaginary = |k: usize| {
        let terms = angles(k).enumerate().flat_map(|(i, a)| [(im[i], cos[a]), (re[i], -(sign * sin[a]))]);
        contract_f32(terms, BLOCK)
    };
    ((0..outputs).map(real).collect(), (0..outputs).map(imaginary).collect())
}

fn dft(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let (x, xs) = (cx.slice::<f32>(0)?, cx.input(0)?.shape());
    let rank = xs.len();
    let parts = xs.last().copied().unwrap_or(0);
    if rank < 2 || !(parts == 1 || parts == 2) {
        return shape_error("DFT: [..., 1] real or [..., 2] complex", xs);
    }
    let attribute = cx.attrs().int("axis", 1);
    let axis = if cx.node.version < 20 { attribute } else { integer(cx, 2)?.unwrap_or(-2) };
    let axis = axis_in(axis, rank)?;
    if axis == rank - 1 {
        return Err(OpError::Value { what: "DFT: an axis before the last", got: axis as i64 });
    }
    let inverse = cx.attrs().int("inverse", 0) != 0;
    let onesided = cx.attrs().int("onesided", 0) != 0;
    let natural = if inverse && onesided { 2 * xs[axis].saturating_sub(1) } else { xs[axis] };
    let n = match integer(cx, 1)? {
        Some(n) => length(n, "DFT: a moderate length")?,
        None => natural,
    };
    if n == 0 {
        return shape_error("DFT: a length above 0", xs);
    }
    let real_result = inverse && onesided;
    let outputs = if onesided && !inverse { n / 2 + 1 } else { n };
    let mut shape = xs.to_vec();
    shape[axis] = outputs;
    shape[rank - 1] = if real_result { 1 } else { 2 };
    let mut y = vec![0.0_f32; cx.charge(&shape, DType::F32)?];
    cx.charge(&[n, 4], DType::F32)?;
    let table = roots(n);
    let inner: usize = xs[axis + 1..rank - 1].iter().product();
    let outer: usize = xs[..axis].iter().product();
    let taken = xs[axis].min(if real_result { n / 2 + 1 } else { n });
    for o in 0..outer {
        for j in 0..inner {
            let at = |i: usize| ((o * xs[axis] + i) * inner + j) * parts;
            let mut re: Vec<f32> = (0..taken).map(|i| x[at(i)]).collect();
            let mut im: Vec<f32> = (0..taken).map(|i| if parts == 2 { x[at(i) + 1] } else { 0.0 }).collect();
            if real_result {
                // The missing half is the conjugate of the given one.
                re.resize(n / 2 + 1, 0.0);
                im.resize(n / 2 + 1, 0.0);
                for i in n / 2 + 1..n {
                    re.push(re[n - i]);
                    im.push(-im[n - i]);
                }
            }
            let (a, b) = transform(&re, &im, n, outputs, inverse, &table);
            for k in 0..outputs {
                let to = (o * outputs + k) * inner + j;
                let scale = |v: f32| canonical_f32(if inverse { v / n as f32 } else { v });
                if real_result {
                    y[to] = scale(a[k]);
                } else {
                    (y[2 * to], y[2 * to + 1]) = (scale(a[k]), scale(b[k]));
                }
            }
        }
    }
    Ok(vec![Tensor::from_vec(shape, y)?])
}

fn stft(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let (x, xs) = (cx.slice::<f32>(0)?, cx.input(0)?.shape());
    let (batch, samples, parts) = match *xs {
        [batch, samples] => (batch, samples, 1),
        [batch, samples, parts @ (1 | 2)] => (batch, samples, parts),
        _ => return shape_error("STFT: [N, samples] or [N, samples, 1 or 2]", xs),
    };
    let step = integer(cx, 1)?.ok_or(OpError::MissingInput { index: 1 })?;
    let step = length(step, "STFT: a positive step")?.max(1);
    let window = if cx.opt(2).is_some() { Some(cx.slice::<f32>(2)?) } else { None };
    let n = match (integer(cx, 3)?, window) {
        (Some(n), _) => length(n, "STFT: a moderate frame length")?,
        (None, Some(w)) => w.len(),
        (None, None) => samples,
    };
    if n == 0 || n > samples || window.is_some_and(|w| w.len() != n) {
        return shape_error("STFT: a frame (and a window of its length) inside the signal", xs);
    }
    let onesided = cx.attrs().int("onesided", 1) != 0;
    let outputs = if onesided { n / 2 + 1 } else { n };
    let shape = vec![batch, (samples - n) / step + 1, outputs, 2];
    let mut y = Vec::with_capacity(cx.charge(&shape, DType::F32)?);
    let table = roots(n);
    for b in 0..batch {
        for frame in 0..shape[1] {
            let at = |i: usize| (b * samples + frame * step + i) * parts;
            let weight = |i: usize, v: f32| window.map_or(v, |w| v * w[i]);
            let re: Vec<f32> = (0..n).map(|i| weight(i, x[at(i)])).collect();
            let im: Vec<f32> =
                (0..n).map(|i| if parts == 2 { weight(i, x[at(i) + 1]) } else { 0.0 }).collect();
            let (re, im) = transform(&re, &im, n, outputs, false, &table);
            y.extend(re.into_iter().zip(im).flat_map(|(a, b)| [a, b]));
        }
    }
    Ok(vec![Tensor::from_vec(shape, y)?])
}

/// Only float32 results are made.
fn float_result(cx: &EvalCx<'_>) -> Result<(), OpError> {
    if cx.attrs().int("output_datatype", 1) == 1 {
        Ok(())
    } else {
        Err(OpError::Unsupported { what: "an output_datatype other than float32" })
    }
}

/// Triangular filters whose corners are equally spaced on the mel scale `2595 * log10(1 + f / 700)`.
fn mel_weight_matrix(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    float_result(cx)?;
    let need = |i: usize| integer(cx, i)?.ok_or(OpError::MissingInput { index: i });
    let bins = length(need(0)?, "a moderate number of mel bins")?;
    let dft = length(need(1)?, "a moderate DFT length")?;
    let rate = length(need(2)?, "a positive sample rate")?.max(1);
    let edge = |i: usize| match cx.slice::<f32>(i)? {
        [edge] => Ok(*edge),
        other => shape_error("one edge frequency", &[other.len()]),
    };
    let mel = |f: f32| 2595.0 * elementary::log10(1.0 + f / 700.0);
    let (low, high) = (mel(edge(3)?), mel(edge(4)?));
    let rows = dft / 2 + 1;
    let mut y = vec![0.0_f32; cx.charge(&[rows, bins], DType::F32)?];
    let step = (high - low) / (bins + 2) as f32;
    let ln10 = std::f32::consts::LN_10;
    let corner = |i: usize| {
        let f = 700.0 * elementary::expm1((i as f32 * step + low) / 2595.0 * ln10);
        ((dft + 1) as f32 * f / rate as f32).floor().max(0.0) as usize
    };
    for i in 0..bins {
        let (left, centre, right) = (corner(i), corner(i + 1), corner(i + 2));
        if right > rows || centre >= rows {
            return Err(OpError::Value {
                what: "MelWeightMatrix: edges below half the sample rate",
                got: right as i64,
            });
        }
        if left >= centre {
            y[centre * bins + i] = 1.0;
        } else {
            for j in left..=centre {
                y[j * bins + i] = (j - left) as f32 / (centre - left) as f32;
            }
        }
        for j in centre..right {
            y[j * bins + i] = (right - j) as f32 / (right - centre) as f32;
        }
    }
    Ok(vec![Tensor::from_vec(vec![rows, bins], y)?])
}
