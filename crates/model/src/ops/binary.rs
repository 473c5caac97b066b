//! Operators of two or more inputs that broadcast (`numeric.md` §7, §8).

use hallmark_receipt::{DType, Data, Element, Tensor, with_data};

use super::dispatch::{one, op, with_integers, with_numbers, with_types};
use super::index::{broadcast, broadcast_strides, rows, wrap_data};
use super::{EvalCx, OpDef, OpError, half::in_f32, infer};
use crate::numeric::{Number, elementary};

/// The family's table.
pub const OPS: &[OpDef] = &[
    op("Add", &[7, 13, 14], &[], infer::broadcast_same, |cx| in_f32(cx, add)),
    op("Sub", &[7, 13, 14], &[], infer::broadcast_same, |cx| in_f32(cx, sub)),
    op("Mul", &[7, 13, 14], &[], infer::broadcast_same, |cx| in_f32(cx, mul)),
    op("Div", &[7, 13, 14], &[], infer::broadcast_same, |cx| in_f32(cx, div)),
    op("Mod", &[10, 13, 28], &["fmod"], infer::broadcast_same, |cx| in_f32(cx, modulo)),
    op("Pow", &[7, 12, 13, 15], &[], infer::broadcast, pow),
    op("Min", &[6, 8, 12, 13], &[], infer::broadcast_same, |cx| in_f32(cx, min)),
    op("Max", &[6, 8, 12, 13], &[], infer::broadcast_same, |cx| in_f32(cx, max)),
    op("Sum", &[6, 8, 13], &[], infer::broadcast_same, |cx| in_f32(cx, sum)),
    op("Mean", &[6, 8, 13], &[], infer::broadcast_same, |cx| in_f32(cx, mean)),
    op("And", &[7], &[], infer::broadcast_bool, |cx| truth(cx, |a, b| a & b)),
    op("Or", &[7], &[], infer::broadcast_bool, |cx| truth(cx, |a, b| a | b)),
    op("Xor", &[7], &[], infer::broadcast_bool, |cx| truth(cx, |a, b| a ^ b)),
    op("Equal", &[7, 11, 13, 19], &[], infer::broadcast_bool, equal),
    op("Less", &[7, 9, 13], &[], infer::broadcast_bool, |cx| in_f32(cx, less)),
    op("LessOrEqual", &[12, 16], &[], infer::broadcast_bool, |cx| in_f32(cx, less_or_equal)),
    op("Greater", &[7, 9, 13], &[], infer::broadcast_bool, |cx| in_f32(cx, greater)),
    op("GreaterOrEqual", &[12, 16], &[], infer::broadcast_bool, |cx| in_f32(cx, greater_or_equal)),
    op("BitwiseAnd", &[18], &[], infer::broadcast_same, bitwise_and),
    op("BitwiseOr", &[18], &[], infer::broadcast_same, bitwise_or),
    op("BitwiseXor", &[18], &[], infer::broadcast_same, bitwise_xor),
    op("BitShift", &[11, 28], &["direction"], infer::broadcast_same, bit_shift),
    op("Where", &[9, 16], &[], infer::select, select),
];

/// `f` over the elements of `a` and `b` as `steps` stretch them to `shape`.
pub fn zip<A: Copy, B: Copy, C: Element>(
    shape: &[usize],
    steps: &[Vec<isize>; 2],
    a: &[A],
    b: &[B],
    f: impl Fn(A, B) -> C,
) -> Data {
    let n = if shape.contains(&0) { 0 } else { shape.iter().product() };
    let mut out: Vec<C> = Vec::with_capacity(n);
    rows(shape, [&steps[0], &steps[1]], |at, len, steps| {
        let ([i, j], [s, t]) = (at.map(isize::cast_unsigned), steps.map(isize::cast_unsigned));
        out.extend((0..len).map(|k| f(a[i + k * s], b[j + k * t])));
    });
    C::into_data(out)
}

/// The shape that inputs 0 and 1 broadcast to, charged as `dtype`, and the steps to read them by.
fn pair(cx: &EvalCx<'_>, dtype: DType) -> Result<(Vec<usize>, [Vec<isize>; 2]), OpError> {
    let (a, b) = (cx.input(0)?.shape(), cx.input(1)?.shape());
    let shape = broadcast(&[a, b])?;
    cx.charge(&shape, dtype)?;
    let steps = [broadcast_strides(a, &shape)?, broadcast_strides(b, &shape)?];
    Ok((shape, steps))
}

/// [`zip`] with a function that may fail.
fn try_zip<A: Copy, B: Copy, C: Number>(
    shape: &[usize],
    steps: &[Vec<isize>; 2],
    a: &[A],
    b: &[B],
    f: impl Fn(A, B) -> Option<C>,
) -> Result<Data, OpError> {
    let failed = std::cell::Cell::new(false);
    let data = zip(shape, steps, a, b, |x, y| {
        f(x, y).unwrap_or_else(|| {
            failed.set(true);
            C::ZERO
        })
    });
    if failed.get() { Err(OpError::Division) } else { Ok(data) }
}

macro_rules! arithmetic {
    ($($name:ident => $f:path;)*) => {$(
        fn $name(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
            let (shape, steps) = pair(cx, cx.input(0)?.dtype())?;
            let data = with_numbers!(cx, 0, a => zip(&shape, &steps, a, cx.slice(1)?, $f));
            one(shape, data)
        }
    )*};
}
arithmetic! { add => Number::add; sub => Number::sub; mul => Number::mul; }

fn div(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let (shape, steps) = pair(cx, cx.input(0)?.dtype())?;
    let data = with_numbers!(cx, 0, a => try_zip(&shape, &steps, a, cx.slice(1)?, Number::div)?);
    one(shape, data)
}

fn modulo(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let (shape, steps) = pair(cx, cx.input(0)?.dtype())?;
    let fmod = cx.attrs().int("fmod", 0) != 0;
    let float = matches!(cx.input(0)?.dtype(), DType::F32 | DType::F64);
    if float && !fmod && cx.node.version < 28 {
        return Err(OpError::Attribute { name: "fmod", why: "must be 1 for floats before version 28" });
    }
    let data = with_numbers!(cx, 0, a => {
        let b = cx.slice(1)?;
        if fmod {
            try_zip(&shape, &steps, a, b, Number::remainder)?
        } else {
            try_zip(&shape, &steps, a, b, Number::modulo)?
        }
    });
    one(shape, data)
}

/// The base's type is the result's. An integer base takes an exact, wrapping power; a float exponent of an integer base
/// must be a whole number.
fn pow(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    match (cx.input(0)?.dtype(), cx.input(1)?.dtype()) {
        (DType::F32 | DType::F16 | DType::BF16, _) => {
            let exponent = super::cast::cast(cx.input(1)?, DType::F32)?;
            let inputs = [Some(cx.input(0)?), Some(&exponent)];
            in_f32(&EvalCx { node: cx.node, inputs: &inputs, budget: cx.budget }, pow_f32)
        }
        (DType::F64, _) => Err(OpError::InputType { index: 0, got: DType::F64 }),
        _ => {
            let (shape, steps) = pair(cx, cx.input(0)?.dtype())?;
            let exponent = whole_numbers(cx.input(1)?)?;
            let data = with_integers!(cx, 0, a => try_zip(&shape, &steps, a, &exponent, power)?);
            one(shape, data)
        }
    }
}

fn pow_f32(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let (shape, steps) = pair(cx, DType::F32)?;
    let data = zip(&shape, &steps, cx.slice::<f32>(0)?, cx.slice::<f32>(1)?, |x, y| {
        crate::numeric::canonical_f32(elementary::pow(x, y))
    });
    one(shape, data)
}

fn whole_numbers(t: &Tensor) -> Result<Vec<i64>, OpError> {
    if let Some(v) = super::index::integers(t) {
        return Ok(v);
    }
    let wide = super::cast::cast(t, DType::F64)?;
    let exponents = wide.as_slice::<f64>().ok_or(OpError::InputType { index: 1, got: t.dtype() })?;
    exponents
        .iter()
        .map(|&x| {
            let whole = x as i64;
            if whole as f64 == x {
                Ok(whole)
            } else {
                Err(OpError::Unsupported { what: "a fractional power of an integer" })
            }
        })
        .collect()
}

/// `x` to the `n`, wrapping; a negative power truncates the real one, and of zero is a division by zero.
fn power<T: Number>(x: T, n: i64) -> Option<T> {
    if n < 0 {
        // Only the units have an inverse that does not truncate to 0.
        return match T::ONE.div(x)? {
            unit if unit.mul(x) == T::ONE => power(unit, i64::from(n % 2 != 0)),
            _ => Some(T::ZERO),
        };
    }
    let (mut result, mut square, mut n) = (T::ONE, x, n);
    while n > 0 {
        if n % 2 == 1 {
            result = result.mul(square);
        }
        square = square.mul(square);
        n /= 2;
    }
    Some(result)
}

/// Folds all inputs from the left.
macro_rules! variadic {
    ($($name:ident => $f:path;)*) => {$(
        fn $name(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
            let shapes = shapes(cx)?;
            let shape = broadcast(&shapes)?;
            cx.charge_like(&shape, 0)?;
            let data = with_numbers!(cx, 0, first => {
                let mut acc = stretch(first, cx.input(0)?.shape(), &shape)?;
                for index in 1..shapes.len() {
                    let next = broadcast_strides(shapes[index], &shape)?;
                    let values = cx.slice_like(first, index)?;
                    fold(&mut acc, &shape, &next, values, $f);
                }
                wrap_data(acc)
            });
            one(shape, data)
        }
    )*};
}
variadic! { min => Number::min; max => Number::max; sum => Number::add; }

fn mean(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let n = cx.inputs.len();
    let total = sum(cx)?;
    total
        .into_iter()
        .map(|t| {
            let (shape, data) = t.into_parts();
            let data = match data {
                Data::F32(v) => Data::F32(v.into_iter().map(|x| x / n as f32).collect()),
                Data::F64(v) => Data::F64(v.into_iter().map(|x| x / n as f64).collect()),
                other => return Err(OpError::InputType { index: 0, got: other.dtype() }),
            };
            Ok(Tensor::new(shape, data)?)
        })
        .collect()
}

fn shapes<'a>(cx: &EvalCx<'a>) -> Result<Vec<&'a [usize]>, OpError> {
    (0..cx.inputs.len().max(1)).map(|i| Ok(cx.input(i)?.shape())).collect()
}

fn stretch<T: Copy>(from: &[T], shape: &[usize], to: &[usize]) -> Result<Vec<T>, OpError> {
    let strides = broadcast_strides(shape, to)?;
    Ok(super::index::View { offset: 0, shape: to.to_vec(), strides }.copy(from))
}

fn fold<T: Copy>(acc: &mut [T], shape: &[usize], strides: &[isize], values: &[T], f: impl Fn(T, T) -> T) {
    let mut out = acc.iter_mut();
    rows(shape, [strides], |[at], len, [step]| {
        let mut at = at;
        for slot in out.by_ref().take(len) {
            *slot = f(*slot, values[at.cast_unsigned()]);
            at += step;
        }
    });
}

fn truth(cx: &EvalCx<'_>, f: fn(bool, bool) -> bool) -> Result<Vec<Tensor>, OpError> {
    let (shape, steps) = pair(cx, DType::Bool)?;
    let data = zip(&shape, &steps, cx.slice(0)?, cx.slice(1)?, f);
    one(shape, data)
}

fn equal(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let (shape, steps) = pair(cx, DType::Bool)?;
    let data = match cx.input(0)?.data() {
        Data::Str(a) => {
            let a: Vec<&String> = a.iter().collect();
            let b: Vec<&String> = cx.slice::<String>(1)?.iter().collect();
            zip(&shape, &steps, &a, &b, |x, y| x == y)
        }
        // `==` of the half types is IEEE's, as that of their widened values.
        _ => with_types!(cx, 0, [F32 F64 F16 BF16 I8 I16 I32 I64 U8 U16 U32 U64 Bool], a => {
            zip(&shape, &steps, a, cx.slice_like(a, 1)?, |x, y| x == y)
        }),
    };
    one(shape, data)
}

macro_rules! comparison {
    ($($name:ident => $f:tt;)*) => {$(
        fn $name(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
            let (shape, steps) = pair(cx, DType::Bool)?;
            let data = with_numbers!(cx, 0, a => zip(&shape, &steps, a, cx.slice_like(a, 1)?, |x, y| x $f y));
            one(shape, data)
        }
    )*};
}
comparison! { less => <; less_or_equal => <=; greater => >; greater_or_equal => >=; }

macro_rules! bitwise {
    ($($name:ident => $f:tt;)*) => {$(
        fn $name(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
            let (shape, steps) = pair(cx, cx.input(0)?.dtype())?;
            let data = with_integers!(cx, 0, a => zip(&shape, &steps, a, cx.slice_like(a, 1)?, |x, y| x $f y));
            one(shape, data)
        }
    )*};
}
bitwise! { bitwise_and => &; bitwise_or => |; bitwise_xor => ^; }

/// A shift by the width or more (or by a negative count) leaves 0, or -1 for a right shift of a negative value.
fn bit_shift(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let (shape, steps) = pair(cx, cx.input(0)?.dtype())?;
    let left = match cx.attrs().str("direction", "") {
        "LEFT" => true,
        "RIGHT" => false,
        _ => return Err(OpError::Attribute { name: "direction", why: "neither `LEFT` nor `RIGHT`" }),
    };
    let data = with_integers!(cx, 0, a => {
        let b = cx.slice_like(a, 1)?;
        zip(&shape, &steps, a, b, |x, y| {
            let by = shift_of(y.into());
            if left {
                x.checked_shl(by).unwrap_or_default()
            } else {
                // In two steps, so that the width itself shifts everything out and keeps the sign's fill.
                x.checked_shr(by).unwrap_or((x >> 1) >> (std::mem::size_of_val(&x) * 8 - 1))
            }
        })
    });
    one(shape, data)
}

/// A shift count, out of every type's range where it is negative or too large.
fn shift_of(by: i128) -> u32 {
    u32::try_from(by).unwrap_or(u32::MAX)
}

fn select(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let (c, a, b) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let shape = broadcast(&[c.shape(), a.shape(), b.shape()])?;
    let n = cx.charge_like(&shape, 1)?;
    let steps = [
        broadcast_strides(c.shape(), &shape)?,
        broadcast_strides(a.shape(), &shape)?,
        broadcast_strides(b.shape(), &shape)?,
    ];
    let condition = cx.slice::<bool>(0)?;
    let data = with_data!(a.data(), x => wrap_data(choose(&shape, &steps, condition, x, cx.slice(2)?, n)));
    one(shape, data)
}

fn choose<T: Clone>(
    shape: &[usize],
    steps: &[Vec<isize>; 3],
    c: &[bool],
    a: &[T],
    b: &[T],
    n: usize,
) -> Vec<T> {
    let mut out = Vec::with_capacity(n);
    rows(shape, [&steps[0], &steps[1], &steps[2]], |mut at, len, by| {
        for _ in 0..len {
            let [i, j, k] = at.map(isize::cast_unsigned);
            out.push(if c[i] { &a[j] } else { &b[k] }.clone());
            at = std::array::from_fn(|n| at[n] + by[n]);
        }
    });
    out
}

#[cfg(test)]
mod tests;
