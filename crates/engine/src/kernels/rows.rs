//! Operators whose outputs depend on a whole row: softmax, normalisation, reductions (`numeric.md` §5, §7).
//!
//! The sixteen partial results of a reduction are sixteen lanes; rows, and columns where the reduced axis is not the innermost
//! one, are what threads and vectors span.

use hallmark_model::graph::Node;
use hallmark_model::numeric::{canonical_f32, elementary::lanes, max_f32, min_f32, of_order_f32, order_f32};
use hallmark_receipt::Tensor;

use super::simd::per_isa;
use super::{Cx, Kernel, par};
use crate::error::Stop;

/// Partial results of a reduction.
pub(crate) const LANES: usize = 16;

/// The reduction of §5 over `x`, each element passed through `each` first.
#[inline(always)]
fn reduce(x: &[f32], identity: f32, each: impl Fn(f32) -> f32, op: impl Fn(f32, f32) -> f32) -> f32 {
    let mut p = [identity; LANES];
    let (whole, rest) = x.as_chunks::<LANES>();
    for chunk in whole {
        for (p, &x) in p.iter_mut().zip(chunk) {
            *p = op(*p, each(x));
        }
    }
    for (p, &x) in p.iter_mut().zip(rest) {
        *p = op(*p, each(x));
    }
    tree(p, op)
}

/// The fixed tree of §5.
#[inline(always)]
fn tree(mut p: [f32; LANES], op: impl Fn(f32, f32) -> f32) -> f32 {
    for width in [8, 4, 2, 1] {
        for j in 0..width {
            p[j] = op(p[j], p[j + width]);
        }
    }
    canonical_f32(p[0])
}

#[inline(always)]
fn sum(x: &[f32]) -> f32 {
    reduce(x, 0.0, |x| x, |a, b| a + b)
}

/// The maximum: in integers, whose chain from element to element is a fraction of that of `max_f32`.
#[inline(always)]
fn greatest(x: &[f32]) -> f32 {
    let least = order_f32(f32::NEG_INFINITY);
    let mut p = [least; LANES];
    let (whole, rest) = x.as_chunks::<LANES>();
    for chunk in whole {
        for (p, &x) in p.iter_mut().zip(chunk) {
            *p = std::cmp::max(*p, order_f32(x));
        }
    }
    let rest = rest.iter().map(|x| order_f32(*x));
    of_order_f32(p.into_iter().chain(rest).fold(least, std::cmp::max))
}

#[inline(always)]
fn softmax_body<const FUSED: bool>(rows: &mut [f32], n: usize, log: bool) {
    for row in rows.chunks_exact_mut(n) {
        let m = greatest(row);
        if log {
            let s = reduce(row, 0.0, |x| lanes::exp::<FUSED>(canonical_f32(x - m)), |a, b| a + b);
            let l = lanes::log(s);
            for x in row {
                *x = canonical_f32((*x - m) - l);
            }
        } else {
            for x in row.iter_mut() {
                *x = lanes::exp::<FUSED>(*x - m);
            }
            let s = sum(row);
            for x in row {
                *x = canonical_f32(*x / s);
            }
        }
    }
}

per_isa! {
    /// Softmax, or its logarithm, of each row of `n`, in place.
    fn softmax = softmax_body<FUSED>(rows: &mut [f32], n: usize, log: bool)
}

/// How a row is normalised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Form {
    /// `(d * (1 / sqrt(v + eps))) * scale + bias`.
    Layer,
    /// As PyTorch writes it out before opset 17: `(d / sqrt(v + eps)) * scale + bias`.
    LayerWritten,
    /// `(x * (1 / sqrt(mean(x * x) + eps))) * scale`.
    Rms,
}

#[inline(always)]
fn norm_body(rows: &mut [f32], scale: &[f32], bias: Option<&[f32]>, epsilon: f32, form: Form) {
    let n = scale.len();
    for row in rows.chunks_exact_mut(n) {
        if form != Form::Rms {
            let mean = canonical_f32(sum(row) / n as f32);
            for x in row.iter_mut() {
                *x -= mean;
            }
        }
        let v = reduce(row, 0.0, |x| x * x, |a, b| a + b) / n as f32;
        let s = (v + epsilon).sqrt();
        match (form == Form::LayerWritten, bias) {
            (false, Some(bias)) => {
                let r = 1.0 / s;
                for ((x, scale), bias) in row.iter_mut().zip(scale).zip(bias) {
                    *x = canonical_f32((*x * r) * scale + bias);
                }
            }
            (false, None) => {
                let r = 1.0 / s;
                for (x, scale) in row.iter_mut().zip(scale) {
                    *x = canonical_f32((*x * r) * scale);
                }
            }
            (true, bias) => {
                for (i, (x, scale)) in row.iter_mut().zip(scale).enumerate() {
                    let y = (*x / s) * scale;
                    *x = canonical_f32(match bias {
                        Some(bias) => y + bias[i],
                        None => y,
                    });
                }
            }
        }
    }
}

per_isa! {
    /// Normalises each row, in place; `scale` and `bias` are as long as a row.
    fn norm = norm_body(rows: &mut [f32], scale: &[f32], bias: Option<&[f32]>, epsilon: f32, form: Form)
}

/// Reductions with a fast form.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fold {
    Sum,
    Mean,
    Max,
    Min,
    SumSquare,
    L2,
}

impl Fold {
    #[inline(always)]
    fn identity(self) -> f32 {
        match self {
            Self::Max => f32::NEG_INFINITY,
            Self::Min => f32::INFINITY,
            _ => 0.0,
        }
    }

    #[inline(always)]
    fn finish(self, x: f32, n: usize) -> f32 {
        canonical_f32(match self {
            Self::Mean => x / n as f32,
            Self::L2 => x.sqrt(),
            _ => x,
        })
    }
}

/// `f`, with the reduction's step as a constant of the inner loop.
macro_rules! with_step {
    ($fold:expr, $step:ident => $body:expr) => {
        match $fold {
            Fold::Sum | Fold::Mean => {
                let $step = |p: f32, x: f32| p + x;
                $body
            }
            Fold::Max => {
                let $step = |p: f32, x: f32| max_f32(p, x);
                $body
            }
            Fold::Min => {
                let $step = |p: f32, x: f32| min_f32(p, x);
                $body
            }
            Fold::SumSquare | Fold::L2 => {
                let $step = |p: f32, x: f32| p + x * x;
                $body
            }
        }
    };
}

/// How two partial results join: squares are taken once, on the way in.
#[inline(always)]
fn join(fold: Fold, a: f32, b: f32) -> f32 {
    match fold {
        Fold::Max => max_f32(a, b),
        Fold::Min => min_f32(a, b),
        _ => a + b,
    }
}

#[inline(always)]
fn fold_rows_body(x: &[f32], n: usize, fold: Fold, y: &mut [f32]) {
    with_step!(fold, step => {
        for (y, row) in y.iter_mut().zip(x.chunks_exact(n)) {
            let mut p = [fold.identity(); LANES];
            let (whole, rest) = row.as_chunks::<LANES>();
            for chunk in whole {
                for (p, &x) in p.iter_mut().zip(chunk) {
                    *p = step(*p, x);
                }
            }
            for (p, &x) in p.iter_mut().zip(rest) {
                *p = step(*p, x);
            }
            *y = fold.finish(tree(p, |a, b| join(fold, a, b)), n);
        }
    });
}

per_isa! {
    /// Reduces each row of `n` of `x` to one element of `y`.
    fn fold_rows = fold_rows_body(x: &[f32], n: usize, fold: Fold, y: &mut [f32])
}

/// Columns that are reduced side by side.
const COLUMNS: usize = 64;

#[inline(always)]
fn fold_columns_body(x: &[f32], width: usize, n: usize, fold: Fold, y: &mut [f32]) {
    with_step!(fold, step => {
        for (block, y) in y.chunks_mut(COLUMNS).enumerate() {
            let mut p = [[fold.identity(); COLUMNS]; LANES];
            let at = block * COLUMNS;
            for i in 0..n {
                let row = &x[i * width + at..i * width + at + y.len()];
                for (p, &x) in p[i % LANES].iter_mut().zip(row) {
                    *p = step(*p, x);
                }
            }
            for (c, y) in y.iter_mut().enumerate() {
                *y = fold.finish(tree(p.map(|lane| lane[c]), |a, b| join(fold, a, b)), n);
            }
        }
    });
}

per_isa! {
    /// Reduces `x`, `n` rows of `width`, over its rows, into `y` of at most `width` elements.
    fn fold_columns = fold_columns_body(x: &[f32], width: usize, n: usize, fold: Fold, y: &mut [f32])
}

/// Softmax and LogSoftmax over the innermost axes.
#[derive(Debug)]
pub(crate) struct Softmax {
    axis: i64,
    log: bool,
    /// Before version 13 all axes from `axis` on are one row.
    flat: bool,
}

impl Softmax {
    /// The kernel of `node`, a Softmax or LogSoftmax.
    pub(crate) fn new(node: &Node) -> Self {
        let flat = node.version < 13;
        let axis = node.attrs.int("axis", if flat { 1 } else { -1 });
        Self { axis, log: node.op.name == "LogSoftmax", flat }
    }
}

/// `axis` within `rank`, counted from the end where it is negative.
pub(crate) fn axis_of(axis: i64, rank: usize) -> Option<usize> {
    let axis = if axis < 0 { axis.checked_add(i64::try_from(rank).ok()?)? } else { axis };
    usize::try_from(axis).ok().filter(|&axis| axis < rank)
}

impl Kernel for Softmax {
    fn run(&self, cx: &mut Cx<'_>) -> Result<Option<Vec<Tensor>>, Stop> {
        let Some(shape) = cx.f32_shape(0) else { return Ok(None) };
        let Some(axis) = axis_of(self.axis, shape.len()) else { return Ok(None) };
        let n: usize = shape[axis..].iter().product();
        if n == 0 || (!self.flat && axis + 1 != shape.len()) {
            return Ok(None);
        }
        let mut rows = cx.own_f32(0)?;
        let (isa, log) = (cx.exec.isa, self.log);
        par::chunks(cx.exec, &mut rows, n, 16, |_, rows| softmax(isa, rows, n, log));
        Ok(Some(vec![Tensor::from_vec(shape, rows)?]))
    }
}

/// LayerNormalization and RMSNormalization: x, scale, bias.
#[derive(Debug)]
pub(crate) struct Norm {
    /// The first axis of a row.
    pub(crate) axis: i64,
    /// Added to the variance.
    pub(crate) epsilon: f32,
    /// The formula.
    pub(crate) form: Form,
}

impl Kernel for Norm {
    fn run(&self, cx: &mut Cx<'_>) -> Result<Option<Vec<Tensor>>, Stop> {
        let (Some(shape), Some(scale_shape)) = (cx.f32_shape(0), cx.f32_shape(1)) else { return Ok(None) };
        let Some(axis) = axis_of(self.axis, shape.len()) else { return Ok(None) };
        let row = &shape[axis..];
        let bias_fits = cx.input(2).is_none() || cx.f32_shape(2).is_some_and(|bias| bias == row);
        if scale_shape != row || !bias_fits || row.contains(&0) {
            return Ok(None);
        }
        let mut rows = cx.own_f32(0)?;
        let (exec, isa) = (cx.exec, cx.exec.isa);
        let Some(scale) = cx.input(1).and_then(|t| t.as_slice::<f32>()) else { return Ok(None) };
        let bias = cx.input(2).and_then(|t| t.as_slice::<f32>());
        par::chunks(exec, &mut rows, scale.len(), 4, |_, rows| {
            norm(isa, rows, scale, bias, self.epsilon, self.form);
        });
        Ok(Some(vec![Tensor::from_vec(shape, rows)?]))
    }
}

/// A reduction over neighbouring axes.
#[derive(Debug)]
pub(crate) struct Reduce {
    fold: Fold,
    axes: Vec<i64>,
    keep: bool,
}

impl Reduce {
    /// The kernel of a Reduce node with constant `axes`; `None` where it has no fast form.
    pub(crate) fn new(node: &Node, axes: Vec<i64>) -> Option<Self> {
        let fold = match node.op.name {
            "ReduceSum" => Fold::Sum,
            "ReduceMean" => Fold::Mean,
            "ReduceMax" => Fold::Max,
            "ReduceMin" => Fold::Min,
            "ReduceSumSquare" => Fold::SumSquare,
            "ReduceL2" => Fold::L2,
            _ => return None,
        };
        (!axes.is_empty()).then_some(Self { fold, axes, keep: node.attrs.int("keepdims", 1) != 0 })
    }

    /// The mean over all axes but the first two, which stay as 1.
    pub(crate) fn global_average(rank: usize) -> Self {
        let axes = (2..i64::try_from(rank).unwrap_or(2)).collect();
        Self { fold: Fold::Mean, axes, keep: true }
    }
}

impl Kernel for Reduce {
    fn run(&self, cx: &mut Cx<'_>) -> Result<Option<Vec<Tensor>>, Stop> {
        let Some(shape) = cx.f32_shape(0) else { return Ok(None) };
        let Some(mut axes) =
            self.axes.iter().map(|&a| axis_of(a, shape.len())).collect::<Option<Vec<usize>>>()
        else {
            return Ok(None);
        };
        axes.sort_unstable();
        let neighbours = axes.windows(2).all(|pair| pair[0] + 1 == pair[1]);
        let (Some(&first), Some(&last)) = (axes.first(), axes.last()) else { return Ok(None) };
        if !neighbours || shape.contains(&0) {
            return Ok(None);
        }
        let outer: usize = shape[..first].iter().product();
        let n: usize = shape[first..=last].iter().product();
        let inner: usize = shape[last + 1..].iter().product();
        let mut out_shape = shape.clone();
        if self.keep {
            out_shape[first..=last].fill(1);
        } else {
            out_shape.drain(first..=last);
        }
        let mut out = cx.arena.take(outer * inner)?;
        let (exec, isa, fold) = (cx.exec, cx.exec.isa, self.fold);
        let Some(x) = cx.input(0).and_then(|t| t.as_slice::<f32>()) else { return Ok(None) };
        if inner == 1 {
            par::chunks(exec, &mut out, 1, n, |start, y| {
                fold_rows(isa, &x[start * n..(start + y.len()) * n], n, fold, y);
            });
        } else {
            par::chunks(exec, &mut out, inner, n, |start, y| {
                for (i, y) in y.chunks_mut(inner).enumerate() {
                    let at = (start / inner + i) * n * inner;
                    fold_columns(isa, &x[at..at + n * inner], inner, n, fold, y);
                }
            });
        }
        Ok(Some(vec![Tensor::from_vec(out_shape, out)?]))
    }
}
