//! Unique and Det: what fits no other family.

use std::cmp::Ordering;

use hallmark_receipt::{DType, Tensor, tensor::count, with_data};

use super::dispatch::{one, op, with_floats};
use super::index::{axis, data_blocks, split, wrap_data};
use super::infer::{info, known_dim};
use super::{EvalCx, InferCx, OpDef, OpError, half::in_f32};
use crate::graph::{Dim, TypeInfo};
use crate::numeric::Number;

/// The family's table.
pub const OPS: &[OpDef] = &[
    op("Unique", &[11, 28], &["axis", "sorted"], infer_unique, unique),
    op("Det", &[11, 22], &[], infer_det, |cx| in_f32(cx, det)),
];

fn infer_unique(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let x = cx.input(0)?;
    let shape = match (cx.attrs().opt_int("axis"), x.shape.as_deref()) {
        (None, _) => Some(vec![Dim::Unknown]),
        (Some(at), Some(dims)) => {
            let mut dims = dims.to_vec();
            let at = axis(at, dims.len())?;
            dims[at] = Dim::Unknown;
            Some(dims)
        }
        _ => None,
    };
    let list = info(Some(DType::I64), Some(vec![Dim::Unknown]));
    Ok(vec![info(x.dtype, shape), list.clone(), list.clone(), list])
}

/// A total order that goes with the values' own: NaN above all, zeros equal.
trait Ranked {
    fn rank(&self, other: &Self) -> Ordering;
}

macro_rules! ranked {
    ($($t:ty)*) => {$(
        impl Ranked for $t {
            fn rank(&self, other: &Self) -> Ordering {
                // Only NaN differs from itself.
                #[allow(clippy::eq_op)]
                self.partial_cmp(other).unwrap_or_else(|| (self != self).cmp(&(other != other)))
            }
        }
    )*};
}
ranked!(f32 f64 half::f16 half::bf16 i8 i16 i32 i64 u8 u16 u32 u64 bool String);

/// Slices along the axis (or all elements) that differ, sorted or in order of their first appearance; then the first
/// position of each, the rank of every slice, and how often each appears.
fn unique(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = cx.input(0)?;
    let whole = [x.len()];
    let (from, at) = match cx.attrs().opt_int("axis") {
        Some(at) => (x.shape(), axis(at, x.shape().len())?),
        None => (whole.as_slice(), 0),
    };
    let sizes = if x.is_empty() { (0, from[at], 0) } else { split(from, at, at + 1) };
    if sizes.1 > x.len() && sizes.1 > 1 {
        return Err(OpError::Shape { what: "slices that are not empty", got: from.to_vec() });
    }
    let sorted = cx.attrs().int("sorted", 1) != 0;
    let groups = with_data!(x.data(), v => groups(v, sizes, sorted));
    let mut shape = from.to_vec();
    shape[at] = groups.first.len();
    let (outer, size, block) = sizes;
    let outer = if count(&shape) == Some(0) { 0 } else { outer };
    let starts = (0..outer).flat_map(|o| groups.first.iter().map(move |&i| (o * size + i) * block));
    let y = one(shape, data_blocks(x.data(), starts, block))?;
    let list = |v: &[usize]| Tensor::vector(v.iter().map(|&i| i as i64).collect());
    Ok(y.into_iter().chain([list(&groups.first), list(&groups.inverse), list(&groups.counts)]).collect())
}

struct Groups {
    first: Vec<usize>,
    inverse: Vec<usize>,
    counts: Vec<usize>,
}

fn groups<T: Ranked>(x: &[T], (outer, size, block): (usize, usize, usize), sorted: bool) -> Groups {
    let slice =
        |i: usize| (0..outer).flat_map(move |o| &x[(o * size + i) * block..(o * size + i + 1) * block]);
    let rank = |a: usize, b: usize| {
        slice(a).zip(slice(b)).map(|(a, b)| a.rank(b)).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
    };
    let mut order: Vec<usize> = (0..size).collect();
    order.sort_by(|&a, &b| rank(a, b).then(a.cmp(&b)));
    // Runs of equal slices; the first of each run is its first appearance.
    let mut runs: Vec<Vec<usize>> = Vec::new();
    for i in order {
        match runs.last_mut() {
            Some(run) if rank(run[0], i).is_eq() => run.push(i),
            _ => runs.push(vec![i]),
        }
    }
    if !sorted {
        runs.sort_by_key(|run| run[0]);
    }
    let mut inverse = vec![0; size];
    for (group, run) in runs.iter().enumerate() {
        run.iter().for_each(|&i| inverse[i] = group);
    }
    Groups {
        first: runs.iter().map(|run| run[0]).collect(),
        inverse,
        counts: runs.iter().map(Vec::len).collect(),
    }
}

fn infer_det(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let x = cx.input(0)?;
    let shape = match x.shape.as_deref() {
        Some([batch @ .., m, n]) => match (known_dim(m), known_dim(n)) {
            (Some(m), Some(n)) if m != n => {
                return Err(OpError::Shape { what: "square matrices", got: vec![m, n] });
            }
            _ => Some(batch.to_vec()),
        },
        Some(other) => return Err(OpError::Shape { what: "square matrices", got: vec![other.len()] }),
        None => None,
    };
    Ok(vec![info(x.dtype, shape)])
}

/// Gaussian elimination with partial pivoting: the pivot is the first entry of greatest magnitude in the column; a row
/// below becomes `a - (a_pivot / pivot) * p`, every step rounded; the result is the product of the pivots from the top, its sign
/// turned once for each exchange.
fn det(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = cx.input(0)?;
    let &[ref batch @ .., m, n] = x.shape() else {
        return Err(OpError::Shape { what: "square matrices", got: x.shape().to_vec() });
    };
    if m != n {
        return Err(OpError::Shape { what: "square matrices", got: x.shape().to_vec() });
    }
    let matrices = cx.charge(batch, x.dtype())?;
    let data = with_floats!(cx, 0, v => wrap_data(
        (0..matrices).map(|i| det_of(v[i * n * n..(i + 1) * n * n].to_vec(), n)).collect::<Vec<_>>()
    ));
    one(batch.to_vec(), data)
}

fn det_of<T: Number>(mut a: Vec<T>, n: usize) -> T {
    let mut result = T::ONE;
    for k in 0..n {
        let mut pivot = k;
        for i in k + 1..n {
            if Number::abs(a[i * n + k]) > Number::abs(a[pivot * n + k]) {
                pivot = i;
            }
        }
        if pivot != k {
            (0..n).for_each(|j| a.swap(k * n + j, pivot * n + j));
            result = result.neg();
        }
        let top = a[k * n + k];
        result = result.mul(top);
        if top == T::ZERO {
            return result;
        }
        for i in k + 1..n {
            let Some(factor) = a[i * n + k].div(top) else { continue };
            for j in k..n {
                a[i * n + j] = a[i * n + j].sub(factor.mul(a[k * n + j]));
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Attr;
    use crate::ops::test::{eval, one};

    #[test]
    fn groups_of_values_and_of_rows() {
        let x = Tensor::vector(vec![2.0_f32, 1.0, 1.0, 3.0, 4.0, 3.0]);
        let got = eval("Unique", 11, &[("sorted", Attr::Int(0))], &[Some(&x)]).unwrap();
        assert_eq!(got[0], Tensor::vector(vec![2.0_f32, 1.0, 3.0, 4.0]));
        assert_eq!(got[1], Tensor::vector(vec![0_i64, 1, 3, 4]));
        assert_eq!(got[2], Tensor::vector(vec![0_i64, 1, 1, 2, 3, 2]));
        assert_eq!(got[3], Tensor::vector(vec![1_i64, 2, 2, 1]));
        let rows = Tensor::from_vec(vec![3, 2], vec![1, 0, 1, 0, 0, 9]).unwrap();
        let got = eval("Unique", 11, &[("axis", Attr::Int(0))], &[Some(&rows)]).unwrap();
        assert_eq!(got[0], Tensor::from_vec(vec![2, 2], vec![0, 9, 1, 0]).unwrap());
    }

    #[test]
    fn determinants() {
        let x = Tensor::from_vec(vec![2, 2, 2], vec![0.0_f32, 2.0, 3.0, 4.0, 1.0, 2.0, 2.0, 4.0]).unwrap();
        assert_eq!(one("Det", &[], &[&x]), Tensor::vector(vec![-6.0_f32, 0.0]));
        let none = Tensor::from_vec::<f32>(vec![2, 0, 0], vec![]).unwrap();
        assert_eq!(one("Det", &[], &[&none]), Tensor::vector(vec![1.0_f32; 2]));
    }
}
