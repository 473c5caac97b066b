//! Type inference that several operators share.

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
