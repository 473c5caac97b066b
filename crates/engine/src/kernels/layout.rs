//! Operators that move elements and compute nothing: new shapes over old buffers, transposes, joins.

use hallmark_model::graph::Node;
use hallmark_receipt::{Data, Tensor, tensor};

use super::rows::axis_of;
use super::{Cx, Kernel, par};
use crate::error::Stop;

/// Reshape, Flatten, Squeeze, Unsqueeze and Identity: the input's buffer under the shape that the reference gives.
#[derive(Debug)]
pub(crate) enum View {
    /// To the sizes in input 1; `true` where a 0 means an empty axis.
    Reshape { zero_is_empty: bool },
    /// To two axes, split before this one.
    Flatten(i64),
    /// Without these axes; all of size 1 where empty.
    Squeeze(Vec<i64>),
    /// With axes of size 1 put in.
    Unsqueeze(Vec<i64>),
    /// As it is.
    Identity,
}

impl View {
    /// The new shape; `None` leaves the case, and its errors, to the reference.
    fn shape(&self, cx: &Cx<'_>) -> Option<Vec<usize>> {
        let shape = cx.input(0)?.shape();
        let made = match self {
            Self::Identity => shape.to_vec(),
            Self::Flatten(axis) => {
                let rank = i64::try_from(shape.len()).ok()?;
                let at = usize::try_from(if *axis < 0 { axis.checked_add(rank)? } else { *axis }).ok()?;
                let (left, right) = (shape.get(..at)?, shape.get(at..)?);
                vec![tensor::count(left)?, tensor::count(right)?]
            }
            Self::Reshape { zero_is_empty } => {
                let wanted = cx.input(1)?.as_slice::<i64>()?;
                let mut made = Vec::with_capacity(wanted.len());
                let mut open = None;
                for (i, &size) in wanted.iter().enumerate() {
                    made.push(match size {
                        -1 if open.is_none() => {
                            open = Some(i);
                            1
                        }
                        0 if !zero_is_empty => *shape.get(i)?,
                        size => usize::try_from(size).ok()?,
                    });
                }
                if let Some(open) = open {
                    let rest = tensor::count(&made).filter(|&n| n > 0)?;
                    made[open] = tensor::count(shape)? / rest;
                }
                made
            }
            Self::Squeeze(axes) => {
                let gone: Vec<usize> =
                    axes.iter().map(|&a| axis_of(a, shape.len())).collect::<Option<_>>()?;
                if gone.iter().any(|&a| shape[a] != 1) {
                    return None;
                }
                let goes = |i: usize| if axes.is_empty() { shape[i] == 1 } else { gone.contains(&i) };
                (0..shape.len()).filter(|&i| !goes(i)).map(|i| shape[i]).collect()
            }
            Self::Unsqueeze(axes) => {
                let rank = shape.len() + axes.len();
                let new: Vec<usize> = axes.iter().map(|&a| axis_of(a, rank)).collect::<Option<_>>()?;
                let mut old = shape.iter();
                let made: Vec<usize> = (0..rank)
                    .map(|i| if new.contains(&i) { Some(1) } else { old.next().copied() })
                    .collect::<Option<_>>()?;
                if old.next().is_some() {
                    return None;
                }
                made
            }
        };
        (tensor::count(&made) == tensor::count(shape)).then_some(made)
    }
}

impl Kernel for View {
    fn run(&self, cx: &mut Cx<'_>) -> Result<Option<Vec<Tensor>>, Stop> {
        let Some(shape) = self.shape(cx) else { return Ok(None) };
        if let Some(tensor) = cx.take(0) {
            return Ok(Some(vec![tensor.reshape(shape)?]));
        }
        if cx.f32_shape(0).is_none() {
            return Ok(None);
        }
        let copy = cx.own_f32(0)?;
        Ok(Some(vec![Tensor::from_vec(shape, copy)?]))
    }
}

/// Transpose of float32.
#[derive(Debug)]
pub(crate) struct Transpose {
    perm: Option<Vec<usize>>,
}

impl Transpose {
    /// The kernel of `node`, a Transpose.
    pub(crate) fn new(node: &Node) -> Option<Self> {
        let perm = match node.attrs.ints("perm") {
            Some(perm) => {
                Some(perm.iter().map(|&p| usize::try_from(p).ok()).collect::<Option<Vec<usize>>>()?)
            }
            None => None,
        };
        Some(Self { perm })
    }
}

/// Side of the square that is transposed at a time.
const SIDE: usize = 16;

impl Kernel for Transpose {
    fn run(&self, cx: &mut Cx<'_>) -> Result<Option<Vec<Tensor>>, Stop> {
        let Some(shape) = cx.f32_shape(0) else { return Ok(None) };
        let rank = shape.len();
        let perm = self.perm.clone().unwrap_or_else(|| (0..rank).rev().collect());
        let mut sorted = perm.clone();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..rank) {
            return Ok(None);
        }
        let n: usize = shape.iter().product();
        let out_shape: Vec<usize> = perm.iter().map(|&p| shape[p]).collect();
        // Axes that stay neighbours are one axis; axes of size 1 are none.
        let mut strides = vec![1; rank];
        for i in (1..rank).rev() {
            strides[i - 1] = strides[i] * shape[i];
        }
        let mut axes: Vec<(usize, usize)> = Vec::new();
        for &p in perm.iter().filter(|&&p| shape[p] != 1) {
            match axes.last_mut() {
                Some((size, stride)) if *stride == shape[p] * strides[p] => {
                    (*size, *stride) = (*size * shape[p], strides[p]);
                }
                _ => axes.push((shape[p], strides[p])),
            }
        }
        if axes.len() <= 1 || n == 0 {
            // Nothing moves.
            let same = match cx.take(0) {
                Some(tensor) => tensor.reshape(out_shape)?,
                None => Tensor::from_vec(out_shape, cx.own_f32(0)?)?,
            };
            return Ok(Some(vec![same]));
        }
        let mut out = cx.arena.take(n)?;
        let exec = cx.exec;
        let Some(x) = cx.input(0).and_then(|t| t.as_slice::<f32>()) else { return Ok(None) };
        let block: usize = axes[1..].iter().map(|a| a.0).product();
        par::chunks(exec, &mut out, block, 4, |start, y| {
            let (_, step) = axes[0];
            for (i, y) in y.chunks_exact_mut(block).enumerate() {
                let at = (start / block + i) * step;
                gather(&x[at..], &axes[1..], y);
            }
        });
        Ok(Some(vec![Tensor::from_vec(out_shape, out)?]))
    }
}

/// Fills `y`, whose axes have these sizes and source strides, outermost first.
fn gather(x: &[f32], axes: &[(usize, usize)], y: &mut [f32]) {
    match axes {
        [] => y.copy_from_slice(&x[..y.len()]),
        [(size, 1)] => y.copy_from_slice(&x[..*size]),
        [(_, step)] => {
            for (y, x) in y.iter_mut().zip(x.iter().step_by(*step)) {
                *y = *x;
            }
        }
        [(rows, 1), (columns, step)] => {
            for top in (0..*rows).step_by(SIDE) {
                let bottom = (top + SIDE).min(*rows);
                for left in (0..*columns).step_by(SIDE) {
                    let right = (left + SIDE).min(*columns);
                    for r in top..bottom {
                        for c in left..right {
                            y[r * columns + c] = x[c * step + r];
                        }
                    }
                }
            }
        }
        [(_, step), inner @ ..] => {
            let block: usize = inner.iter().map(|a| a.0).product();
            for (i, y) in y.chunks_exact_mut(block).enumerate() {
                gather(&x[i * step..], inner, y);
            }
        }
    }
}

/// Concat of float32.
#[derive(Debug)]
pub(crate) struct Concat {
    /// The axis along which inputs are joined.
    pub(crate) axis: i64,
}

impl Kernel for Concat {
    fn run(&self, cx: &mut Cx<'_>) -> Result<Option<Vec<Tensor>>, Stop> {
        let Some(mut shape) = cx.f32_shape(0) else { return Ok(None) };
        let Some(axis) = axis_of(self.axis, shape.len()) else { return Ok(None) };
        let mut along = 0_usize;
        for i in 0..cx.args.len() {
            let Some(other) = cx.f32_shape(i) else { return Ok(None) };
            let fits = other.len() == shape.len()
                && other.iter().zip(&shape).enumerate().all(|(i, (a, b))| i == axis || a == b);
            if !fits {
                return Ok(None);
            }
            along = along.saturating_add(other[axis]);
        }
        shape[axis] = along;
        let Some(n) = tensor::count(&shape) else { return Ok(None) };
        let mut out = cx.arena.take(n)?;
        let inner: usize = shape[axis + 1..].iter().product();
        let row = along * inner;
        if row > 0 {
            let mut at = 0;
            for i in 0..cx.args.len() {
                let Some(tensor) = cx.input(i) else { return Ok(None) };
                let (Data::F32(x), width) = (tensor.data(), tensor.shape()[axis] * inner) else {
                    return Ok(None);
                };
                if width > 0 {
                    for (y, x) in out.chunks_exact_mut(row).zip(x.chunks_exact(width)) {
                        y[at..at + width].copy_from_slice(x);
                    }
                }
                at += width;
            }
        }
        Ok(Some(vec![Tensor::from_vec(shape, out)?]))
    }
}
