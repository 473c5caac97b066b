//! Index arithmetic that the operators share: axes, strides, broadcasting, row-major walks and bulk copies.
//!
//! Strides are in elements and may be zero (a stretched axis) or negative (a reversed one). Nothing here allocates per
//! element; every copy is linear in the result.

use hallmark_receipt::{DType, Data, Element, Tensor, tensor::count, with_data};

use super::{EvalCx, InferCx, OpError};

/// The axis that `axis` names in a tensor of `rank` axes; negative values count from the end.
pub fn axis(axis: i64, rank: usize) -> Result<usize, OpError> {
    wrap(axis, rank).ok_or(OpError::Value { what: "an axis of the input", got: axis })
}

/// Several axes at once, in the given order; naming one twice is an error.
pub fn axes(list: &[i64], rank: usize) -> Result<Vec<usize>, OpError> {
    let mut seen = vec![false; rank];
    list.iter()
        .map(|&a| {
            let at = axis(a, rank)?;
            match seen.get_mut(at) {
                Some(seen) if !*seen => *seen = true,
                _ => return Err(OpError::Value { what: "axes that differ", got: a }),
            }
            Ok(at)
        })
        .collect()
}

/// `index` into an axis of `size` elements; negative values count from the end.
pub fn wrap(index: i64, size: usize) -> Option<usize> {
    let size_i = i64::try_from(size).ok()?;
    let index = if index < 0 { index.checked_add(size_i)? } else { index };
    usize::try_from(index).ok().filter(|&i| i < size)
}

/// Like [`wrap`], for an index that the data gave.
pub fn element(index: i64, size: usize) -> Result<usize, OpError> {
    wrap(index, size).ok_or(OpError::Value { what: "an index inside the axis", got: index })
}

/// Row-major strides of `shape`. (Those of an empty tensor are never used and may have wrapped.)
pub fn strides(shape: &[usize]) -> Vec<isize> {
    let mut stride = 1_isize;
    let mut out = vec![0; shape.len()];
    for (slot, &size) in out.iter_mut().zip(shape).rev() {
        *slot = stride;
        stride = stride.wrapping_mul(size.cast_signed());
    }
    out
}

/// The shape that `shapes` broadcast to (numpy's rule).
pub fn broadcast(shapes: &[&[usize]]) -> Result<Vec<usize>, OpError> {
    let mut out: Vec<usize> = Vec::new();
    for shape in shapes {
        if shape.len() > out.len() {
            let missing = shape.len() - out.len();
            out.splice(0..0, std::iter::repeat_n(1, missing));
        }
        let offset = out.len() - shape.len();
        for (i, &size) in shape.iter().enumerate() {
            match out[offset + i] {
                1 => out[offset + i] = size,
                same if same == size || size == 1 => {}
                _ => return Err(OpError::Broadcast { a: out, b: shape.to_vec() }),
            }
        }
    }
    Ok(out)
}

/// Strides that read a row-major tensor of shape `from` as if it had shape `to`, which it must broadcast to.
pub fn broadcast_strides(from: &[usize], to: &[usize]) -> Result<Vec<isize>, OpError> {
    let fail = || OpError::Broadcast { a: from.to_vec(), b: to.to_vec() };
    let missing = to.len().checked_sub(from.len()).ok_or_else(fail)?;
    let mut out = vec![0; to.len()];
    for (i, (&size, stride)) in from.iter().zip(strides(from)).enumerate() {
        match to[missing + i] {
            same if same == size => out[missing + i] = if size == 1 { 0 } else { stride },
            _ if size == 1 => {}
            _ => return Err(fail()),
        }
    }
    Ok(out)
}

/// Visits a row-major space of `shape`, one innermost row at a time: `visit(starts, len, steps)` gets, for each of the
/// `N` operands, the offset of the row's first element and the step between its elements. Axes are merged first, so
/// that rows are as long as the strides allow.
pub fn rows<const N: usize>(
    shape: &[usize],
    strides: [&[isize]; N],
    mut visit: impl FnMut([isize; N], usize, [isize; N]),
) {
    // One copy of the walk for all callers: it is called once a row, and hundreds of copies cost minutes of compilation.
    walk(shape, strides, &mut visit);
}

fn walk<const N: usize>(
    shape: &[usize],
    strides: [&[isize]; N],
    visit: &mut dyn FnMut([isize; N], usize, [isize; N]),
) {
    if shape.contains(&0) {
        return;
    }
    // Outermost first: (size, the operands' strides).
    let mut merged: Vec<(usize, [isize; N])> = Vec::with_capacity(shape.len());
    for (i, &size) in shape.iter().enumerate() {
        if size == 1 {
            continue;
        }
        let steps: [isize; N] = std::array::from_fn(|n| strides[n][i]);
        match merged.last_mut() {
            Some((outer, outer_steps))
                if (0..N).all(|n| outer_steps[n] == steps[n].wrapping_mul(size.cast_signed())) =>
            {
                *outer *= size;
                *outer_steps = steps;
            }
            _ => merged.push((size, steps)),
        }
    }
    let (len, steps) = merged.pop().unwrap_or((1, [0; N]));
    let mut at = [0_isize; N];
    let mut counter = vec![0_usize; merged.len()];
    loop {
        visit(at, len, steps);
        let mut axis = merged.len();
        loop {
            if axis == 0 {
                return;
            }
            axis -= 1;
            let (size, outer) = merged[axis];
            counter[axis] += 1;
            for n in 0..N {
                at[n] += outer[n];
            }
            if counter[axis] < size {
                break;
            }
            for n in 0..N {
                at[n] -= outer[n] * size.cast_signed();
            }
            counter[axis] = 0;
        }
    }
}

/// A strided window on a row-major buffer. *Invariant* kept by whoever builds it: every offset lies inside the buffer.
#[derive(Clone, Debug)]
pub struct View {
    /// Offset of the first element.
    pub offset: usize,
    /// Sizes of the axes.
    pub shape: Vec<usize>,
    /// Step of each axis, in elements.
    pub strides: Vec<isize>,
}

impl View {
    /// The whole of a tensor of `shape`.
    pub fn of(shape: &[usize]) -> Self {
        Self { offset: 0, shape: shape.to_vec(), strides: strides(shape) }
    }

    /// Copies the elements out, row-major.
    pub fn copy<T: Clone>(&self, from: &[T]) -> Vec<T> {
        let mut out = Vec::with_capacity(count(&self.shape).unwrap_or(0));
        rows(&self.shape, [&self.strides], |[start], len, [step]| {
            let start = start.wrapping_add(self.offset.cast_signed());
            let at = start.cast_unsigned();
            match step {
                1 => out.extend_from_slice(&from[at..at + len]),
                0 => out.extend(std::iter::repeat_n(&from[at], len).cloned()),
                _ => out
                    .extend((0..len.cast_signed()).map(|i| from[(start + i * step).cast_unsigned()].clone())),
            }
        });
        out
    }

    /// [`View::copy`] for any element type, as a tensor of the view's shape.
    pub fn tensor(&self, from: &Data) -> Result<Tensor, OpError> {
        let data = with_data!(from, v => wrap_data(self.copy(v)));
        Ok(Tensor::new(self.shape.clone(), data)?)
    }
}

/// Copies the runs of `block` elements that begin at `starts`, one after the other.
fn blocks<T: Clone>(from: &[T], starts: &mut dyn Iterator<Item = usize>, block: usize) -> Vec<T> {
    let mut out = Vec::with_capacity(starts.size_hint().0.saturating_mul(block));
    if block == 1 {
        out.extend(starts.map(|i| from[i].clone()));
    } else {
        starts.for_each(|i| out.extend_from_slice(&from[i..i + block]));
    }
    out
}

/// [`blocks`] for any element type.
pub fn data_blocks(from: &Data, mut starts: impl Iterator<Item = usize>, block: usize) -> Data {
    let starts: &mut dyn Iterator<Item = usize> = &mut starts;
    with_data!(from, v => wrap_data(blocks(v, starts, block)))
}

/// Wraps a typed vector; lets `with_data!` bodies go back to [`Data`].
pub fn wrap_data<T: Element>(values: Vec<T>) -> Data {
    T::into_data(values)
}

/// (elements before, elements along, elements after) the axes `from..to` of a shape.
pub fn split(shape: &[usize], from: usize, to: usize) -> (usize, usize, usize) {
    let product = |s: &[usize]| count(s).unwrap_or(usize::MAX);
    (product(&shape[..from]), product(&shape[from..to]), product(&shape[to..]))
}

/// The values of a tensor of any integer type.
pub fn integers(tensor: &Tensor) -> Option<Vec<i64>> {
    Some(match tensor.data() {
        Data::I64(v) => v.clone(),
        Data::I32(v) => v.iter().map(|&x| x.into()).collect(),
        Data::I16(v) => v.iter().map(|&x| x.into()).collect(),
        Data::I8(v) => v.iter().map(|&x| x.into()).collect(),
        Data::U8(v) => v.iter().map(|&x| x.into()).collect(),
        Data::U16(v) => v.iter().map(|&x| x.into()).collect(),
        Data::U32(v) => v.iter().map(|&x| x.into()).collect(),
        // Above i64::MAX no value is an index, an axis or a size: saturating keeps it refused.
        Data::U64(v) => v.iter().map(|&x| i64::try_from(x).unwrap_or(i64::MAX)).collect(),
        _ => return None,
    })
}

impl EvalCx<'_> {
    /// The integers of input `index`, `None` where it is left out.
    pub fn opt_integers(&self, index: usize) -> Result<Option<Vec<i64>>, OpError> {
        self.opt(index).map(|t| integers(t).ok_or(OpError::InputType { index, got: t.dtype() })).transpose()
    }

    /// The integers of input `index`.
    pub fn integers(&self, index: usize) -> Result<Vec<i64>, OpError> {
        self.opt_integers(index)?.ok_or(OpError::MissingInput { index })
    }

    /// The single integer of input `index`.
    pub fn integer(&self, index: usize) -> Result<i64, OpError> {
        match self.integers(index)?.as_slice() {
            [one] => Ok(*one),
            many => Err(OpError::Shape { what: "one element", got: vec![many.len()] }),
        }
    }

    /// Checks a result of `shape`, then gives its number of elements, for a result of as many bytes as input `index`'s type has.
    pub fn charge_like(&self, shape: &[usize], index: usize) -> Result<usize, OpError> {
        self.charge(shape, self.input(index)?.dtype())
    }

    /// Input `index` as elements of the type of `like`.
    pub fn slice_like<T: Element>(&self, _like: &[T], index: usize) -> Result<&[T], OpError> {
        self.slice(index)
    }

    /// Refuses an input whose element type is not `expected`.
    pub fn expect(&self, index: usize, expected: DType) -> Result<(), OpError> {
        match self.input(index)?.dtype() {
            got if got == expected => Ok(()),
            got => Err(OpError::InputType { index, got }),
        }
    }
}

impl InferCx<'_> {
    /// The integers of input `index` if it is a constant.
    pub fn constant_integers(&self, index: usize) -> Option<Vec<i64>> {
        self.constant(index).and_then(integers)
    }

    /// Whether input `index` is given.
    pub fn has(&self, index: usize) -> bool {
        self.node.inputs.get(index).is_some_and(Option::is_some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcast_shapes() {
        assert_eq!(broadcast(&[&[2, 1], &[3], &[]]), Ok(vec![2, 3]));
        assert_eq!(broadcast(&[&[1], &[0]]), Ok(vec![0]));
        assert!(broadcast(&[&[2], &[3]]).is_err());
        assert_eq!(broadcast_strides(&[3, 1], &[2, 3, 4]), Ok(vec![0, 1, 0]));
        assert!(broadcast_strides(&[2, 3], &[3]).is_err());
    }

    #[test]
    fn axes_wrap_and_differ() {
        assert_eq!(axes(&[-1, 0], 3), Ok(vec![2, 0]));
        assert!(axes(&[0, -3], 3).is_err());
        assert!(axis(i64::MIN, 3).is_err());
        assert!(axis(0, 0).is_err());
    }

    #[test]
    fn view_copies_any_strides() {
        let from: Vec<i32> = (0..24).collect();
        // Axes (2, 3, 4): take [:, ::-1, 1:3] and move the last axis first.
        let view = View { offset: 9, shape: vec![2, 2, 3], strides: vec![1, 12, -4] };
        let mut want = Vec::new();
        for k in 1..3 {
            for i in 0..2 {
                for j in (0..3).rev() {
                    want.push(i * 12 + j * 4 + k);
                }
            }
        }
        assert_eq!(view.copy(&from), want);
        assert_eq!(View::of(&[2, 3, 4]).copy(&from), from);
        assert_eq!(View { offset: 5, shape: vec![2, 2], strides: vec![0, 0] }.copy(&from), vec![5; 4]);
        assert_eq!(View::of(&[]).copy(&from), vec![0]);
        assert!(View::of(&[0, usize::MAX, usize::MAX]).copy(&from).is_empty());
    }

    #[test]
    fn rows_merge_axes() {
        let mut seen = Vec::new();
        rows(&[2, 1, 3], [&[3, 3, 1], &[0, 0, 1]], |at, len, steps| seen.push((at, len, steps)));
        assert_eq!(seen, vec![([0, 0], 3, [1, 1]), ([3, 0], 3, [1, 1])]);
        seen.clear();
        rows(&[2, 3], [&[3, 1], &[3, 1]], |at, len, steps| seen.push((at, len, steps)));
        assert_eq!(seen, vec![([0, 0], 6, [1, 1])]);
    }
}
