//! Type inference that several operators share.

use hallmark_receipt::DType;

use super::{InferCx, OpError};
use crate::graph::{Dim, TypeInfo};

/// One output of the first input's type and shape.
pub fn same(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    Ok(vec![cx.input(0)?.clone()])
}

/// One output of the first input's type, of the shape that all inputs broadcast to.
pub fn broadcast(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let mut shape = cx.input(0)?.shape.clone();
    for info in cx.types.iter().skip(1).flatten() {
        shape = match (shape, &info.shape) {
            (Some(a), Some(b)) => Some(broadcast_dims(&a, b)?),
            _ => None,
        };
    }
    Ok(vec![TypeInfo { dtype: cx.input(0)?.dtype, shape }])
}

/// The axes that `a` and `b` broadcast to.
pub fn broadcast_dims(a: &[Dim], b: &[Dim]) -> Result<Vec<Dim>, OpError> {
    let rank = a.len().max(b.len());
    let axis = |dims: &[Dim], i: usize| (i + dims.len()).checked_sub(rank).and_then(|i| dims.get(i)).cloned();
    (0..rank)
        .map(|i| match (axis(a, i).unwrap_or(Dim::Known(1)), axis(b, i).unwrap_or(Dim::Known(1))) {
            (x, y) if x == y => Ok(x),
            (Dim::Known(1), y) => Ok(y),
            (x, Dim::Known(1)) => Ok(x),
            (Dim::Known(x), Dim::Known(y)) => Err(OpError::Broadcast { a: vec![x], b: vec![y] }),
            (Dim::Known(x), _) | (_, Dim::Known(x)) => Ok(Dim::Known(x)),
            _ => Ok(Dim::Unknown),
        })
        .collect()
}

/// Like [`broadcast`], for operators whose inputs must share one element type.
pub fn broadcast_same(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let mut out = broadcast(cx)?;
    if let Some(info) = out.first_mut() {
        info.dtype = same_type(cx, 0..cx.types.len())?;
    }
    Ok(out)
}

/// Like [`broadcast_same`], with truth values as the result.
pub fn broadcast_bool(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let mut out = broadcast_same(cx)?;
    if let Some(info) = out.first_mut() {
        info.dtype = Some(DType::Bool);
    }
    Ok(out)
}

/// Where: the type of the second and third input, the shape that all three broadcast to.
pub fn select(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let mut out = broadcast(cx)?;
    if let Some(info) = out.first_mut() {
        info.dtype = same_type(cx, 1..cx.types.len())?;
    }
    Ok(out)
}

/// Truth values of the first input's shape.
pub fn boolean(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    Ok(vec![TypeInfo { dtype: Some(DType::Bool), shape: cx.input(0)?.shape.clone() }])
}

/// The element type that the inputs of `range` share, as far as it is known.
pub fn same_type(cx: &InferCx<'_>, range: std::ops::Range<usize>) -> Result<Option<DType>, OpError> {
    let mut dtype = None;
    for index in range {
        match (dtype, cx.types.get(index).and_then(Option::as_ref).and_then(|info| info.dtype)) {
            (Some(a), Some(got)) if a != got => return Err(OpError::InputType { index, got }),
            (None, known) => dtype = known,
            _ => {}
        }
    }
    Ok(dtype)
}

/// A type from its parts.
pub fn info(dtype: Option<DType>, shape: Option<Vec<Dim>>) -> TypeInfo {
    TypeInfo { dtype, shape }
}

/// The sizes, if all are known.
pub fn known(dims: &[Dim]) -> Option<Vec<usize>> {
    dims.iter().map(|d| if let Dim::Known(d) = d { Some(*d) } else { None }).collect()
}

/// The size, if it is known.
pub fn known_dim(dim: &Dim) -> Option<usize> {
    if let Dim::Known(d) = dim { Some(*d) } else { None }
}
