//! One request's tensors as integers in their padded places, and back (`spec/proof.md` §2.1).

use hallmark_model::ops::index::integers;
use hallmark_receipt::{DType, Tensor};

use crate::circuit::Shape;
use crate::field::CHARACTERISTIC;

/// The greatest integer that the field tells from a negative one.
pub const HALF: i64 = (CHARACTERISTIC / 2) as i64;

/// The padded integers of a tensor; `None` for values that the field does not tell apart.
pub fn padded(tensor: &Tensor) -> Option<Vec<i32>> {
    let shape = Shape(tensor.shape().to_vec());
    let values = integers(tensor)?;
    values.iter().all(|v| v.abs() <= HALF).then(|| pad(&values, &shape))
}

/// A tensor in its padded place. Its values are below 2^31 in magnitude.
pub fn pad(values: &[i64], shape: &Shape) -> Vec<i32> {
    let mut out = vec![0; shape.padded()];
    let axes: Vec<(usize, usize)> = shape.0.iter().copied().zip(shape.strides()).collect();
    let mut values = values.iter();
    walk(&axes, 0, &mut |start, count, stride| {
        for (i, &value) in (0..count).zip(values.by_ref()) {
            out[start + i * stride] = value as i32;
        }
    });
    out
}

/// Visits a strided space of (count, stride) axes row by row: start, count and stride of the innermost axis.
pub fn walk(axes: &[(usize, usize)], start: usize, visit: &mut impl FnMut(usize, usize, usize)) {
    match axes {
        [] => visit(start, 1, 0),
        [(count, stride)] => visit(start, *count, *stride),
        [(count, stride), rest @ ..] => {
            for i in 0..*count {
                walk(rest, start + i * stride, visit);
            }
        }
    }
}

/// Integers as a tensor of an integer type; `None` if one is outside the type.
pub fn typed(values: &[i32], dims: Vec<usize>, dtype: Option<DType>) -> Option<Tensor> {
    fn narrow<T: TryFrom<i32> + hallmark_receipt::Element>(
        values: &[i32],
        dims: Vec<usize>,
    ) -> Option<Tensor> {
        let values = values.iter().map(|v| T::try_from(*v).ok()).collect::<Option<Vec<T>>>()?;
        Tensor::from_vec(dims, values).ok()
    }
    match dtype? {
        DType::I8 => narrow::<i8>(values, dims),
        DType::U8 => narrow::<u8>(values, dims),
        DType::I16 => narrow::<i16>(values, dims),
        DType::I32 => narrow::<i32>(values, dims),
        _ => None,
    }
}
