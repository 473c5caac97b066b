//! Contractions of matrices (`numeric.md` §3).

use hallmark_receipt::{DType, Data, Tensor, tensor::count};

use super::dispatch::{one, op, with_types};
use super::index::{View, broadcast, broadcast_strides, rows, strides, wrap_data};
use super::infer::{broadcast_dims, info};
use super::{EvalCx, InferCx, OpDef, OpError, half::in_f32};
use crate::graph::{Dim, TypeInfo};
use crate::numeric::{BLOCK, Number};

/// The family's table.
pub const OPS: &[OpDef] = &[
    op("MatMul", &[1, 9, 13], &[], infer_matmul, |cx| in_f32(cx, matmul)),
    op("Gemm", &[7, 9, 11, 13], &["alpha", "beta", "transA", "transB"], infer_gemm, |cx| in_f32(cx, gemm)),
    op("MatMulInteger", &[10], &[], infer_matmul_integer, matmul_integer),
    op("QLinearMatMul", &[10, 21], &[], infer_qlinear_matmul, qlinear_matmul),
];

/// The product of an `m` by `k` and a `k` by `n` matrix, both row-major, appended to `out`: §3 for each output, `n` of them
/// side by side.
pub fn multiply<T: Number>(a: &[T], b: &[T], [m, k, n]: [usize; 3], out: &mut Vec<T>) {
    let mut acc = vec![T::ZERO; n];
    for i in 0..m {
        let start = out.len();
        out.resize(start + n, T::ZERO);
        let row = &mut out[start..];
        for from in (0..k).step_by(BLOCK) {
            acc.fill(T::ZERO);
            for p in from..k.min(from + BLOCK) {
                let x = a[i * k + p];
                for (acc, &y) in acc.iter_mut().zip(&b[p * n..(p + 1) * n]) {
                    *acc = x.fma(y, *acc);
                }
            }
            for (total, &acc) in row.iter_mut().zip(&acc) {
                // The first block's sum is the total as it is; a NaN becomes the one NaN.
                *total = if from == 0 { Number::max(acc, acc) } else { total.add(acc) };
            }
        }
    }
}

/// Shapes of a matrix product in numpy's sense.
struct Product {
    /// The operands' batch shapes, broadcast.
    batch: Vec<usize>,
    /// Strides of the left and the right operand over `batch`, in matrices.
    steps: [Vec<isize>; 2],
    /// Rows, inner length, columns.
    sizes: [usize; 3],
    /// The result's shape.
    shape: Vec<usize>,
}

fn product(a: &[usize], b: &[usize]) -> Result<Product, OpError> {
    let fail = || OpError::Shape { what: "matrices whose inner sizes agree", got: [a, b].concat() };
    let (a_batch, m, k) = match a {
        [] => return Err(fail()),
        [k] => (&a[..0], None, *k),
        [batch @ .., m, k] => (batch, Some(*m), *k),
    };
    let (b_batch, k2, n) = match b {
        [] => return Err(fail()),
        [k] => (&b[..0], *k, None),
        [batch @ .., k, n] => (batch, *k, Some(*n)),
    };
    if k != k2 {
        return Err(fail());
    }
    let batch = broadcast(&[a_batch, b_batch])?;
    let steps = [broadcast_strides(a_batch, &batch)?, broadcast_strides(b_batch, &batch)?];
    let shape = batch.iter().copied().chain(m).chain(n).collect();
    Ok(Product { batch, steps, sizes: [m.unwrap_or(1), k, n.unwrap_or(1)], shape })
}

impl Product {
    fn run<T: Number>(&self, a: &[T], b: &[T], len: usize) -> Vec<T> {
        let mut out = Vec::with_capacity(len);
        if len == 0 {
            return out;
        }
        let [m, k, n] = self.sizes;
        rows(&self.batch, [&self.steps[0], &self.steps[1]], |[i, j], len, [s, t]| {
            for step in 0..len.cast_signed() {
                let (i, j) = ((i + step * s).cast_unsigned(), (j + step * t).cast_unsigned());
                multiply(
                    &a[i * m * k..(i + 1) * m * k],
                    &b[j * k * n..(j + 1) * k * n],
                    self.sizes,
                    &mut out,
                );
            }
        });
        out
    }
}

fn product_dims(a: &[Dim], b: &[Dim]) -> Result<Vec<Dim>, OpError> {
    let fail = |got| OpError::Shape { what: "matrices whose inner sizes agree", got };
    let (a_batch, m, k) = match a {
        [] => return Err(fail(vec![])),
        [k] => (&a[..0], None, k),
        [batch @ .., m, k] => (batch, Some(m), k),
    };
    let (b_batch, k2, n) = match b {
        [] => return Err(fail(vec![])),
        [k] => (&b[..0], k, None),
        [batch @ .., k, n] => (batch, k, Some(n)),
    };
    if let (Dim::Known(k), Dim::Known(k2)) = (k, k2)
        && k != k2
    {
        return Err(fail(vec![*k, *k2]));
    }
    let batch = broadcast_dims(a_batch, b_batch)?;
    Ok(batch.into_iter().chain(m.cloned()).chain(n.cloned()).collect())
}

fn infer_product(cx: &InferCx<'_>, b: usize, dtype: Option<DType>) -> Result<Vec<TypeInfo>, OpError> {
    let shape = match (cx.input(0)?.shape.as_deref(), cx.input(b)?.shape.as_deref()) {
        (Some(a), Some(b)) => Some(product_dims(a, b)?),
        _ => None,
    };
    Ok(vec![info(dtype, shape)])
}

fn infer_matmul(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    infer_product(cx, 1, super::infer::same_type(cx, 0..2)?)
}

fn matmul(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let product = product(cx.input(0)?.shape(), cx.input(1)?.shape())?;
    let n = cx.charge_like(&product.shape, 0)?;
    let data = with_types!(cx, 0, [F32 F64 I32 I64 U32 U64], a => wrap_data(product.run(a, cx.slice(1)?, n)));
    one(product.shape, data)
}

fn matrix(shape: &[usize], transposed: bool) -> Result<[usize; 2], OpError> {
    match *shape {
        [rows, columns] => Ok(if transposed { [columns, rows] } else { [rows, columns] }),
        _ => Err(OpError::Shape { what: "a matrix", got: shape.to_vec() }),
    }
}

fn infer_gemm(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let side = |index: usize, name: &str| -> Result<[Dim; 2], OpError> {
        Ok(match cx.input(index)?.shape.as_deref() {
            Some([r, c]) if cx.attrs().int(name, 0) != 0 => [c.clone(), r.clone()],
            Some([r, c]) => [r.clone(), c.clone()],
            Some(other) => return Err(OpError::Shape { what: "a matrix", got: vec![other.len()] }),
            None => [Dim::Unknown, Dim::Unknown],
        })
    };
    let ([m, k], [k2, n]) = (side(0, "transA")?, side(1, "transB")?);
    if let (Dim::Known(k), Dim::Known(k2)) = (&k, &k2)
        && k != k2
    {
        return Err(OpError::Shape { what: "matrices whose inner sizes agree", got: vec![*k, *k2] });
    }
    Ok(vec![info(super::infer::same_type(cx, 0..cx.types.len())?, Some(vec![m, n]))])
}

fn gemm(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let transposed = |name| cx.attrs().int(name, 0) != 0;
    let (ta, tb) = (transposed("transA"), transposed("transB"));
    let [m, k] = matrix(cx.input(0)?.shape(), ta)?;
    let [k2, n] = matrix(cx.input(1)?.shape(), tb)?;
    if k != k2 {
        return Err(OpError::Shape { what: "matrices whose inner sizes agree", got: vec![k, k2] });
    }
    let shape = vec![m, n];
    let len = cx.charge_like(&shape, 0)?;
    let (alpha, beta) = (cx.attrs().float("alpha", 1.0), cx.attrs().float("beta", 1.0));
    let steps = cx.opt(2).map(|c| broadcast_strides(c.shape(), &shape)).transpose()?;
    let data = with_types!(cx, 0, [F32 F64 I32 I64 U32 U64], a => {
        let b = cx.slice_like(a, 1)?;
        let a = oriented(a, [m, k], ta);
        let b = oriented(b, [k, n], tb);
        let mut y = Vec::with_capacity(len);
        if len > 0 {
            multiply(&a, &b, [m, k, n], &mut y);
        }
        scale(&mut y, alpha)?;
        if let Some(strides) = steps {
            let mut c = View { offset: 0, shape: shape.clone(), strides }.copy(cx.slice(2)?);
            scale(&mut c, beta)?;
            y.iter_mut().zip(c).for_each(|(y, c)| *y = y.add(c));
        }
        wrap_data(y)
    });
    one(shape, data)
}

/// A row-major matrix of the given shape from one that may be stored transposed.
fn oriented<T: Clone>(
    values: &[T],
    [rows, columns]: [usize; 2],
    transposed: bool,
) -> std::borrow::Cow<'_, [T]> {
    if !transposed {
        return values.into();
    }
    let stored = strides(&[columns, rows]);
    View { offset: 0, shape: vec![rows, columns], strides: vec![stored[1], stored[0]] }.copy(values).into()
}

/// Multiplies by a float factor, unless it is 1; whole factors only for integers.
fn scale<T: Number>(values: &mut [T], by: f32) -> Result<(), OpError> {
    if by == 1.0 {
        return Ok(());
    }
    let factor = super::cast::cast(&Tensor::scalar(by), T::DTYPE)?;
    match factor.as_slice::<T>() {
        Some(&[factor]) if T::FLOAT || by.fract() == 0.0 => {
            values.iter_mut().for_each(|x| *x = x.mul(factor));
            Ok(())
        }
        _ => Err(OpError::Unsupported { what: "a fractional factor of integers" }),
    }
}

fn infer_matmul_integer(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    infer_product(cx, 1, Some(DType::I32))
}

/// The 8-bit input `index` as int32, its zero point (input `zero`, a scalar, one for each row of the left operand or for
/// each column of the right one) taken off.
fn centred(cx: &EvalCx<'_>, index: usize, zero: usize, left: bool) -> Result<Vec<i32>, OpError> {
    let x = cx.input(index)?;
    let wide = |t: &Tensor, index| match t.data() {
        Data::U8(v) => Ok(v.iter().map(|&x| i32::from(x)).collect::<Vec<_>>()),
        Data::I8(v) => Ok(v.iter().map(|&x| i32::from(x)).collect()),
        other => Err(OpError::InputType { index, got: other.dtype() }),
    };
    let mut values = wide(x, index)?;
    if let Some(t) = cx.opt(zero) {
        if t.dtype() != x.dtype() {
            return Err(OpError::InputType { index: zero, got: t.dtype() });
        }
        let zeros = spread(&wide(t, zero)?, t.shape(), x.shape(), left)?;
        values.iter_mut().zip(zeros).for_each(|(x, zero)| *x -= zero);
    }
    Ok(values)
}

/// A quantisation parameter of shape `from` at each element of a matrix (or batch of them) of shape `to`: one for all, or one
/// for each row (`left`) or column.
fn spread<T: Copy>(values: &[T], from: &[usize], to: &[usize], left: bool) -> Result<Vec<T>, OpError> {
    let from: Vec<usize> = match from {
        [n] if left && *n != 1 => vec![*n, 1],
        [1] => vec![],
        other => other.to_vec(),
    };
    let strides = broadcast_strides(&from, to)?;
    Ok(View { offset: 0, shape: to.to_vec(), strides }.copy(values))
}

fn matmul_integer(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let product = product(cx.input(0)?.shape(), cx.input(1)?.shape())?;
    let n = cx.charge(&product.shape, DType::I32)?;
    let y = product.run(&centred(cx, 0, 2, true)?, &centred(cx, 1, 3, false)?, n);
    one(product.shape, Data::I32(y))
}

fn infer_qlinear_matmul(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    infer_product(cx, 3, cx.input(7)?.dtype)
}

/// `saturate(round(float(sum) * ((a_scale * b_scale) / y_scale)) + y_zero)`, the sum in int32.
fn qlinear_matmul(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let (a, b) = (cx.input(0)?.shape(), cx.input(3)?.shape());
    let product = product(a, b)?;
    let n = cx.charge(&product.shape, DType::I32)?;
    let sums = product.run(&centred(cx, 0, 2, true)?, &centred(cx, 3, 5, false)?, n);
    let scales = |index: usize, left: bool| -> Result<Vec<f32>, OpError> {
        let t = super::cast::cast(cx.input(index)?, DType::F32)?;
        let values = t.as_slice::<f32>().ok_or(OpError::InputType { index, got: t.dtype() })?;
        spread(values, t.shape(), &product.shape, left)
    };
    let (a_scale, b_scale, y_scale) = (scales(1, true)?, scales(4, false)?, scales(6, true)?);
    let zero = cx.input(7)?;
    let zeros = super::index::integers(zero).ok_or(OpError::InputType { index: 7, got: zero.dtype() })?;
    let zeros = spread(&zeros, zero.shape(), &product.shape, true)?;
    let values = (0..count(&product.shape).unwrap_or(0)).map(|i| {
        let factor = (a_scale[i] * b_scale[i]) / y_scale[i];
        // `as` saturates; the sum with a zero point of 16 bits or fewer cannot overflow.
        (sums[i] as f32 * factor).round_ties_even() as i64
    });
    let values = values.zip(zeros).map(|(x, zero)| x.saturating_add(zero));
    let data = match zero.dtype() {
        DType::U8 => Data::U8(values.map(|x| x.clamp(0, 255) as u8).collect()),
        DType::I8 => Data::I8(values.map(|x| x.clamp(-128, 127) as i8).collect()),
        got => return Err(OpError::InputType { index: 7, got }),
    };
    one(product.shape, data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Attr;
    use crate::numeric::contract;
    use crate::ops::test::{eval, one};

    fn noise(n: usize, seed: u32) -> Vec<f32> {
        (0..n as u32).map(|i| ((i.wrapping_mul(2_654_435_761) ^ seed) % 2003) as f32 / 701.0 - 1.4).collect()
    }

    #[test]
    fn each_output_is_the_written_contraction() {
        let (m, k, n) = (3, 1100, 4);
        let (a, b) = (noise(m * k, 1), noise(k * n, 2));
        let y = one(
            "MatMul",
            &[],
            &[
                &Tensor::from_vec(vec![m, k], a.clone()).unwrap(),
                &Tensor::from_vec(vec![k, n], b.clone()).unwrap(),
            ],
        );
        for i in 0..m {
            for j in 0..n {
                let want = contract((0..k).map(|p| (a[i * k + p], b[p * n + j])), BLOCK);
                assert_eq!(y.as_slice::<f32>().unwrap()[i * n + j].to_bits(), want.to_bits());
            }
        }
    }

    #[test]
    fn batches_broadcast() {
        let a = Tensor::from_vec(vec![2, 1, 1, 2], vec![1_i32, 2, 3, 4]).unwrap();
        let b = Tensor::from_vec(vec![3, 2, 1], vec![1_i32, 0, 0, 1, 1, 1]).unwrap();
        let y = one("MatMul", &[], &[&a, &b]);
        assert_eq!(y, Tensor::from_vec(vec![2, 3, 1, 1], vec![1, 2, 3, 3, 4, 7]).unwrap());
        let v = Tensor::vector(vec![1_i32, 1]);
        assert_eq!(one("MatMul", &[], &[&v, &v]), Tensor::scalar(2_i32));
        let bad = Tensor::vector(vec![1_i32; 3]);
        assert!(eval("MatMul", 13, &[], &[Some(&v), Some(&bad)]).is_err());
    }

    #[test]
    fn gemm_transposes_scales_and_adds() {
        let a = Tensor::from_vec(vec![2, 1], vec![1.0_f32, 2.0]).unwrap();
        let b = Tensor::from_vec(vec![2, 2], vec![1.0_f32, 2.0, 3.0, 4.0]).unwrap();
        let c = Tensor::scalar(10.0_f32);
        let attrs = [
            ("transA", Attr::Int(1)),
            ("transB", Attr::Int(1)),
            ("alpha", Attr::Float(2.0)),
            ("beta", Attr::Float(0.5)),
        ];
        assert_eq!(
            one("Gemm", &attrs, &[&a, &b, &c]),
            Tensor::from_vec(vec![1, 2], vec![15.0_f32, 27.0]).unwrap()
        );
    }

    #[test]
    fn integer_products_take_zero_points_off() {
        let a = Tensor::from_vec(vec![2, 1], vec![200_u8, 3]).unwrap();
        let b = Tensor::from_vec(vec![1, 2], vec![-128_i8, 127]).unwrap();
        let za = Tensor::vector(vec![0_u8, 3]);
        let zb = Tensor::vector(vec![0_i8, -1]);
        let y = one("MatMulInteger", &[], &[&a, &b, &za, &zb]);
        assert_eq!(y, Tensor::from_vec(vec![2, 2], vec![-25600_i32, 25600, 0, 0]).unwrap());
    }
}
