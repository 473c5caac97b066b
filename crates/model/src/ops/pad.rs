//! Pad and CenterCropPad.

use hallmark_receipt::{DType, Element, Tensor, tensor::count, with_data};

use super::dispatch::{one, op};
use super::index::{axes, strides, wrap_data};
use super::infer::info;
use super::shape::sizes;
use super::{EvalCx, InferCx, OpDef, OpError};
use crate::graph::{Dim, Node, TypeInfo};

/// The family's table.
pub const OPS: &[OpDef] = &[
    op("Pad", &[2, 11, 13, 18, 19, 21, 23, 24, 25], &["mode", "pads", "value"], infer_pad, pad),
    op("CenterCropPad", &[18], &["axes"], infer_center, center),
];

/// How Pad fills.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Constant,
    Reflect,
    Edge,
    Wrap,
}

impl Mode {
    fn of(node: &Node) -> Result<Self, OpError> {
        Ok(match node.attrs.str("mode", "constant") {
            "constant" => Self::Constant,
            "reflect" => Self::Reflect,
            "edge" => Self::Edge,
            "wrap" => Self::Wrap,
            _ => {
                return Err(OpError::Attribute {
                    name: "mode",
                    why: "not one of constant, reflect, edge, wrap",
                });
            }
        })
    }

    /// Which element of an axis of `size` stands at `i`, counted from the axis's first; `None` is the constant.
    fn source(self, i: i64, size: i64) -> Option<i64> {
        if (0..size).contains(&i) {
            return Some(i);
        }
        match self {
            Self::Constant => None,
            Self::Edge => Some(i.clamp(0, size - 1)),
            Self::Wrap => Some(i.rem_euclid(size)),
            Self::Reflect if size == 1 => Some(0),
            Self::Reflect => {
                let period = 2 * (size - 1);
                let at = i.rem_euclid(period);
                Some(if at < size { at } else { period - at })
            }
        }
    }
}

/// For each position of an axis of `size` elements after padding, the element that `node` puts there; `None` is the constant. At most
/// `limit` of them.
pub(crate) fn origins(
    node: &Node,
    size: usize,
    width: (i64, i64),
    limit: usize,
) -> Result<Vec<Option<i64>>, OpError> {
    let (mode, to) = (Mode::of(node)?, padded(size, width)?);
    let size = i64::try_from(size).unwrap_or(i64::MAX);
    if to > limit || size == 0 && mode != Mode::Constant {
        return Err(OpError::Value { what: "an axis to pad from, and to a size within limits", got: size });
    }
    Ok((0..to as i64).map(|at| mode.source(at.saturating_sub(width.0), size)).collect())
}

/// (begin, end) of every axis from the flat list of the chosen ones.
pub(crate) fn widths(flat: &[i64], list: Option<Vec<i64>>, rank: usize) -> Result<Vec<(i64, i64)>, OpError> {
    let list = match list {
        Some(list) => axes(&list, rank)?,
        None => (0..rank).collect(),
    };
    let (begins, ends) = flat.split_at(flat.len() / 2);
    if begins.len() != list.len() || ends.len() != list.len() {
        return Err(OpError::Shape { what: "two pads for each axis", got: vec![flat.len()] });
    }
    let mut out = vec![(0, 0); rank];
    list.into_iter().zip(begins.iter().zip(ends)).for_each(|(i, (&begin, &end))| out[i] = (begin, end));
    Ok(out)
}

/// The padded size of an axis.
fn padded(size: usize, (begin, end): (i64, i64)) -> Result<usize, OpError> {
    let total = i128::from(begin) + i128::from(end) + size as i128;
    usize::try_from(total)
        .map_err(|_| OpError::Value { what: "pads that leave a size", got: begin.saturating_add(end) })
}

fn infer_pad(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let x = cx.input(0)?;
    let Some(dims) = x.shape.as_deref() else { return Ok(vec![info(x.dtype, None)]) };
    let (flat, list) = if cx.node.version < 11 {
        (cx.attrs().ints("pads").map(<[i64]>::to_vec), None)
    } else {
        (cx.constant_integers(1), cx.constant_integers(3))
    };
    let pending = cx.node.version >= 18 && cx.has(3) && list.is_none();
    let shape = match flat {
        Some(flat) if !pending => dims
            .iter()
            .zip(widths(&flat, list, dims.len())?)
            .map(|(d, width)| {
                Ok(match d {
                    d if width == (0, 0) => d.clone(),
                    Dim::Known(size) => Dim::Known(padded(*size, width)?),
                    _ => Dim::Unknown,
                })
            })
            .collect::<Result<_, OpError>>()?,
        _ => vec![Dim::Unknown; dims.len()],
    };
    Ok(vec![info(x.dtype, Some(shape))])
}

fn pad(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = cx.input(0)?;
    let mode = Mode::of(cx.node)?;
    let rank = x.shape().len();
    let old = Tensor::scalar(cx.attrs().float("value", 0.0));
    let (widths, fill) = if cx.node.version < 11 {
        let flat = cx.attrs().ints("pads").ok_or(OpError::Attribute { name: "pads", why: "missing" })?;
        (widths(flat, None, rank)?, Some(super::cast::cast(&old, x.dtype())?))
    } else {
        (widths(&cx.integers(1)?, cx.opt_integers(3)?, rank)?, cx.opt(2).cloned())
    };
    let shape = x.shape().iter().zip(&widths).map(|(&d, &w)| padded(d, w)).collect::<Result<Vec<_>, _>>()?;
    cx.charge(&shape, x.dtype())?;
    // The map of source offsets (`place`) takes two words for each position of an axis.
    shape.iter().try_for_each(|&to| cx.charge(&[to, 2], DType::I64).map(|_| ()))?;
    let begins: Vec<i64> = widths.iter().map(|w| w.0).collect();
    if let Some(fill) = &fill
        && fill.dtype() != x.dtype()
    {
        return Err(OpError::InputType { index: 2, got: fill.dtype() });
    }
    place(x, shape, &begins, mode, fill.as_ref())
}

/// A tensor of `shape` whose element at position p is `x` at p - begins, or what `mode` puts there.
fn place(
    x: &Tensor,
    shape: Vec<usize>,
    begins: &[i64],
    mode: Mode,
    fill: Option<&Tensor>,
) -> Result<Vec<Tensor>, OpError> {
    if count(&shape) == Some(0) {
        let data = with_data!(x.data(), v => wrap_data(v.get(..0).unwrap_or(v).to_vec()));
        return one(shape, data);
    }
    // For each axis, the offset that each of its positions reads from.
    let mut maps = Vec::with_capacity(shape.len());
    for (i, (&to, &begin)) in shape.iter().zip(begins).enumerate() {
        let (size, step) = (x.shape()[i], strides(x.shape())[i].cast_unsigned());
        let size_i = i64::try_from(size).unwrap_or(i64::MAX);
        if size == 0 && mode != Mode::Constant {
            return Err(OpError::Shape { what: "an axis to pad from", got: x.shape().to_vec() });
        }
        let map = (0..to as i64).map(|p| mode.source(p.saturating_sub(begin), size_i));
        maps.push(map.map(|at| at.map(|at| at as usize * step)).collect::<Vec<Option<usize>>>());
    }
    let data = with_data!(x.data(), v => {
        let fill = match fill {
            Some(fill) => first(fill)?,
            None => Default::default(),
        };
        let mut out = Vec::with_capacity(count(&shape).unwrap_or(0));
        walk(&maps, Some(0), v, &fill, &mut out);
        wrap_data(out)
    });
    one(shape, data)
}

fn first<T: Element>(t: &Tensor) -> Result<T, OpError> {
    match t.as_slice::<T>() {
        Some([one]) => Ok(one.clone()),
        Some(other) => Err(OpError::Shape { what: "one constant value", got: vec![other.len()] }),
        None => Err(OpError::InputType { index: 2, got: t.dtype() }),
    }
}

/// Appends the block below `base`; `None` is a block of the constant.
fn walk<T: Clone>(maps: &[Vec<Option<usize>>], base: Option<usize>, from: &[T], fill: &T, out: &mut Vec<T>) {
    let offset = |step: &Option<usize>| base.zip(*step).map(|(base, step)| base + step);
    match maps {
        [] => out.push(base.map_or(fill, |at| &from[at]).clone()),
        [last] => out.extend(last.iter().map(|step| offset(step).map_or(fill, |at| &from[at]).clone())),
        [next, rest @ ..] => next.iter().for_each(|step| walk(rest, offset(step), from, fill, out)),
    }
}

/// The result's shape: the sizes of input 1 at the chosen axes.
fn center_shape<T: Clone>(node: &Node, dims: &[T], to: Vec<T>) -> Result<Vec<T>, OpError> {
    let chosen = match node.attrs.ints("axes") {
        Some(list) => axes(list, dims.len())?,
        None => (0..dims.len()).collect(),
    };
    if chosen.len() != to.len() {
        return Err(OpError::Shape { what: "one size for each axis", got: vec![to.len()] });
    }
    let mut out = dims.to_vec();
    chosen.into_iter().zip(to).for_each(|(i, size)| out[i] = size);
    Ok(out)
}

fn infer_center(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let x = cx.input(0)?;
    let shape = match (x.shape.as_deref(), cx.constant_integers(1)) {
        (Some(dims), Some(to)) => {
            let to = sizes(&to)?.into_iter().map(Dim::Known).collect();
            Some(center_shape(cx.node, dims, to)?)
        }
        (Some(dims), None) => Some(vec![Dim::Unknown; dims.len()]),
        _ => None,
    };
    Ok(vec![info(x.dtype, shape)])
}

/// What is cut or added splits in two; the smaller half comes first.
fn center(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = cx.input(0)?;
    let shape = center_shape(cx.node, x.shape(), sizes(&cx.integers(1)?)?)?;
    cx.charge(&shape, x.dtype())?;
    shape.iter().try_for_each(|&to| cx.charge(&[to, 2], DType::I64).map(|_| ()))?;
    let half = |d: usize| i64::try_from(d / 2).unwrap_or(i64::MAX);
    let begins: Vec<i64> = shape
        .iter()
        .zip(x.shape())
        .map(|(&to, &from)| if to >= from { half(to - from) } else { -half(from - to) })
        .collect();
    place(x, shape, &begins, Mode::Constant, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Attr;
    use crate::ops::test::{eval, one};

    fn padded_by(mode: &str, pads: [i64; 2]) -> Vec<i32> {
        let x = Tensor::vector(vec![1_i32, 2, 3]);
        let mode = [("mode", Attr::Str(mode.into()))];
        let y = one("Pad", &mode, &[&x, &Tensor::vector(pads.to_vec())]);
        y.as_slice::<i32>().unwrap().to_vec()
    }

    #[test]
    fn modes() {
        assert_eq!(padded_by("constant", [1, 2]), [0, 1, 2, 3, 0, 0]);
        assert_eq!(padded_by("reflect", [3, 3]), [2, 3, 2, 1, 2, 3, 2, 1, 2]);
        assert_eq!(padded_by("edge", [1, 2]), [1, 1, 2, 3, 3, 3]);
        assert_eq!(padded_by("wrap", [4, 1]), [3, 1, 2, 3, 1, 2, 3, 1]);
        assert_eq!(padded_by("constant", [-1, 1]), [2, 3, 0]);
        assert_eq!(padded_by("constant", [-2, -1]), [] as [i32; 0]);
    }

    #[test]
    fn refusals() {
        let x = Tensor::vector(vec![1_i32]);
        let run = |pads: Vec<i64>| eval("Pad", 18, &[], &[Some(&x), Some(&Tensor::vector(pads))]);
        assert!(matches!(run(vec![1 << 40, 0]), Err(OpError::Budget { .. })));
        assert!(run(vec![-2, 0]).is_err());
        assert!(run(vec![i64::MAX, i64::MAX]).is_err());
        assert!(run(vec![1]).is_err());
    }
}
