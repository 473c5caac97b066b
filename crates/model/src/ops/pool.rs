//! Pooling (`numeric.md` §5).

use half::{bf16, f16};
use hallmark_receipt::{DType, Data, Element, Tensor};

use super::half::in_f32;
use super::norm::mean_of;
use super::window::{Geometry, Window, each_index, sizes, strides_of};
use super::{Domain, EvalCx, InferCx, OpDef, OpError};
use crate::graph::{Dim, TypeInfo};
use crate::numeric::{canonical_f32, elementary, max_f32};

/// The family's table.
pub const OPS: &[OpDef] = &[
    OpDef {
        domain: Domain::Onnx,
        name: "MaxPool",
        versions: &[1, 8, 10, 11, 12, 22],
        attrs: &["auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "storage_order", "strides"],
        infer: infer_max_pool,
        eval: max_pool,
    },
    OpDef {
        domain: Domain::Onnx,
        name: "AveragePool",
        versions: &[1, 7, 10, 11, 19, 22],
        attrs: &[
            "auto_pad",
            "ceil_mode",
            "count_include_pad",
            "dilations",
            "kernel_shape",
            "pads",
            "strides",
        ],
        infer: infer_pool,
        eval: |cx| in_f32(cx, average_pool),
    },
    OpDef {
        domain: Domain::Onnx,
        name: "LpPool",
        versions: &[2, 11, 18, 22],
        attrs: &["auto_pad", "ceil_mode", "dilations", "kernel_shape", "p", "pads", "strides"],
        infer: infer_pool,
        eval: |cx| in_f32(cx, lp_pool),
    },
    OpDef {
        domain: Domain::Onnx,
        name: "GlobalMaxPool",
        versions: &[1, 22],
        attrs: &[],
        infer: infer_global,
        eval: |cx| {
            in_f32(cx, |cx| global(cx, |v, _| v.iter().fold(f32::NEG_INFINITY, |a, &b| max_f32(a, b))))
        },
    },
    OpDef {
        domain: Domain::Onnx,
        name: "GlobalAveragePool",
        versions: &[1, 22],
        attrs: &[],
        infer: infer_global,
        eval: |cx| in_f32(cx, |cx| global(cx, |v, _| mean_of(v))),
    },
    OpDef {
        domain: Domain::Onnx,
        name: "GlobalLpPool",
        versions: &[2, 22],
        attrs: &["p"],
        infer: infer_global,
        eval: |cx| in_f32(cx, |cx| global(cx, |v, p| lp_norm(v.iter().copied(), p))),
    },
    OpDef {
        domain: Domain::Onnx,
        name: "MaxUnpool",
        versions: &[9, 11, 22],
        attrs: &["kernel_shape", "pads", "strides"],
        infer: |cx| Ok(vec![TypeInfo { dtype: cx.input(0)?.dtype, shape: unknown_like(cx.input(0)?) }]),
        eval: |cx| in_f32(cx, max_unpool),
    },
];

fn unknown_like(info: &TypeInfo) -> Option<Vec<Dim>> {
    let shape = info.shape.as_ref()?;
    Some(shape.iter().enumerate().map(|(i, dim)| if i < 2 { dim.clone() } else { Dim::Unknown }).collect())
}

fn infer_pool(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let x = cx.input(0)?;
    let shape = match &x.shape {
        Some(dims) if dims.len() >= 3 => {
            let mut shape = dims[..2].to_vec();
            shape.extend(Geometry::with_kernel_shape(cx.attrs(), dims.len() - 2)?.dims(&dims[2..])?);
            Some(shape)
        }
        Some(dims) => {
            return Err(OpError::Shape { what: "a pool takes [N, C, D...]", got: vec![dims.len()] });
        }
        None => None,
    };
    Ok(vec![TypeInfo { dtype: x.dtype, shape }])
}

fn infer_max_pool(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let mut types = infer_pool(cx)?;
    let shape = types.first().and_then(|t| t.shape.clone());
    types.push(TypeInfo { dtype: Some(DType::I64), shape });
    Ok(types)
}

fn infer_global(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let x = cx.input(0)?;
    let shape = x.shape.as_ref().map(|dims| {
        dims.iter().enumerate().map(|(i, dim)| if i < 2 { dim.clone() } else { Dim::Known(1) }).collect()
    });
    Ok(vec![TypeInfo { dtype: x.dtype, shape }])
}

/// The window of a pool on an input of `shape`, and the output's shape.
fn place(cx: &EvalCx<'_>, shape: &[usize]) -> Result<(Window, Vec<usize>), OpError> {
    if shape.len() < 3 {
        return Err(OpError::Shape { what: "a pool takes [N, C, D...]", got: shape.to_vec() });
    }
    let window = Geometry::with_kernel_shape(cx.attrs(), shape.len() - 2)?.place(&shape[2..])?;
    let mut output = shape[..2].to_vec();
    output.extend(window.output());
    Ok((window, output))
}

/// Calls `emit` for every output, row-major, with (offset of its plane, offsets of its window within the plane in row-major
/// order, its position).
fn each_window(planes: usize, window: &Window, mut emit: impl FnMut(usize, &[usize], &[usize])) {
    let input: Vec<usize> = window.axes.iter().map(|axis| axis.input).collect();
    let (strides, plane) = (strides_of(&input), input.iter().product::<usize>());
    let mut offsets = Vec::new();
    for p in 0..planes {
        each_index(&window.output(), |out| {
            let ranges: Vec<_> = window.axes.iter().zip(out).map(|(axis, &o)| axis.inside(o)).collect();
            let counts: Vec<usize> = ranges.iter().map(|r| r.len()).collect();
            offsets.clear();
            each_index(&counts, |k| {
                offsets.push(
                    (0..k.len())
                        .filter_map(|i| {
                            Some(window.axes[i].position(out[i], ranges[i].start + k[i])? * strides[i])
                        })
                        .sum(),
                );
            });
            emit(p * plane, &offsets, out);
        });
    }
}

fn max_pool(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let order = |index: usize| OpError::InputType {
        index,
        got: cx.inputs.first().copied().flatten().map_or(DType::Bool, Tensor::dtype),
    };
    match cx.input(0)?.data() {
        Data::F32(v) => max_of(cx, v, f32::NEG_INFINITY, |x| x.is_nan(), |a, b| a > b),
        Data::F64(v) => max_of(cx, v, f64::NEG_INFINITY, |x| x.is_nan(), |a, b| a > b),
        Data::F16(v) => max_of(cx, v, f16::NEG_INFINITY, |x| x.is_nan(), |a, b| a > b),
        Data::BF16(v) => max_of(cx, v, bf16::NEG_INFINITY, |x| x.is_nan(), |a, b| a > b),
        Data::I8(v) => max_of(cx, v, i8::MIN, |_| false, |a, b| a > b),
        Data::U8(v) => max_of(cx, v, u8::MIN, |_| false, |a, b| a > b),
        _ => Err(order(0)),
    }
}

/// MaxPool and its Indices. A window without elements gives `least` and index -1. The index is that of the first NaN, or
/// else of the first element that equals the maximum; the value prefers +0 to -0.
fn max_of<T: Element + Copy + PartialEq + SignBit>(
    cx: &EvalCx<'_>,
    x: &[T],
    least: T,
    is_nan: fn(T) -> bool,
    above: fn(T, T) -> bool,
) -> Result<Vec<Tensor>, OpError> {
    let shape = cx.input(0)?.shape();
    let (window, output) = place(cx, shape)?;
    let n = cx.charge(&output, DType::I64)?;
    let column_major = cx.attrs().int("storage_order", 0) == 1;
    let (mut y, mut indices) = (Vec::with_capacity(n), Vec::with_capacity(n));
    each_window(shape[0] * shape[1], &window, |plane, offsets, _| {
        let mut best: Option<(T, usize)> = None;
        let mut value = least;
        for &o in offsets {
            let v = x[plane + o];
            match best {
                Some((b, _)) if is_nan(b) => break,
                Some((b, _)) if !is_nan(v) && !above(v, b) => {
                    if v == value && value.negative() {
                        value = v;
                    }
                }
                _ => {
                    best = Some((v, o));
                    value = v;
                }
            }
        }
        y.push(value);
        let flat = best.map(|(_, o)| plane + if column_major { transpose(o, &shape[2..]) } else { o });
        indices.push(flat.map_or(-1, |i| i as i64));
    });
    Ok(vec![Tensor::from_vec(output.clone(), y)?, Tensor::from_vec(output, indices)?])
}

/// Whether a value carries a minus sign: tells -0 from +0.
trait SignBit: Copy {
    fn negative(self) -> bool;
}
macro_rules! sign_bit {
    ($($t:ty => $f:expr),*) => {$(impl SignBit for $t { fn negative(self) -> bool { $f(self) } })*};
}
sign_bit!(f32 => f32::is_sign_negative, f64 => f64::is_sign_negative, f16 => f16::is_sign_negative,
          bf16 => bf16::is_sign_negative, i8 => |_| false, u8 => |_| false);

/// The column-major flat index of the element at row-major flat index `offset`.
fn transpose(mut offset: usize, shape: &[usize]) -> usize {
    let strides = strides_of(shape);
    let mut scale = 1;
    let mut flat = 0;
    for (axis, &size) in shape.iter().enumerate() {
        flat += offset / strides[axis] * scale;
        offset %= strides[axis];
        scale *= size;
    }
    flat
}

fn average_pool(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let (x, shape) = (cx.slice::<f32>(0)?, cx.input(0)?.shape());
    let (window, output) = place(cx, shape)?;
    let mut y = Vec::with_capacity(cx.charge(&output, DType::F32)?);
    let with_pad = cx.attrs().int("count_include_pad", 0) != 0;
    each_window(shape[0] * shape[1], &window, |plane, offsets, out| {
        let sum = offsets.iter().fold(0.0, |sum: f32, o| sum + x[plane + o]);
        let count = if with_pad {
            let counts = window.axes.iter().zip(out).map(|(axis, &o)| axis.padded_count(o));
            counts.fold(1, |n: usize, count| n.saturating_mul(count))
        } else {
            offsets.len()
        };
        y.push(canonical_f32(sum / count as f32));
    });
    Ok(vec![Tensor::from_vec(output, y)?])
}

fn exponent(cx: &EvalCx<'_>) -> Result<i64, OpError> {
    let p = cx.attrs().int("p", 2);
    if (1..=1 << 20).contains(&p) {
        Ok(p)
    } else {
        Err(OpError::Attribute { name: "p", why: "must be positive" })
    }
}

/// `(sum |x|^p)^(1/p)`, the sum sequential; p = 1 and p = 2 take `|x|` and `sqrt(sum x*x)`.
fn lp_norm(values: impl Iterator<Item = f32>, p: i64) -> f32 {
    let sum = |f: &dyn Fn(f32) -> f32, values: &mut dyn Iterator<Item = f32>| {
        values.fold(0.0, |sum: f32, x| sum + f(x))
    };
    let mut values = values;
    canonical_f32(match p {
        1 => sum(&f32::abs, &mut values),
        2 => sum(&|x| x * x, &mut values).sqrt(),
        _ => {
            let p = p as f32;
            elementary::pow(sum(&|x| elementary::pow(x.abs(), p), &mut values), 1.0 / p)
        }
    })
}

fn lp_pool(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let (x, shape) = (cx.slice::<f32>(0)?, cx.input(0)?.shape());
    let p = exponent(cx)?;
    let (window, output) = place(cx, shape)?;
    let mut y = Vec::with_capacity(cx.charge(&output, DType::F32)?);
    each_window(shape[0] * shape[1], &window, |plane, offsets, _| {
        y.push(lp_norm(offsets.iter().map(|o| x[plane + o]), p));
    });
    Ok(vec![Tensor::from_vec(output, y)?])
}

fn global(cx: &EvalCx<'_>, reduce: fn(&[f32], i64) -> f32) -> Result<Vec<Tensor>, OpError> {
    let (x, shape) = (cx.slice::<f32>(0)?, cx.input(0)?.shape());
    if shape.len() < 2 {
        return Err(OpError::Shape { what: "a global pool takes [N, C, D...]", got: shape.to_vec() });
    }
    let mut output = shape.to_vec();
    output[2..].fill(1);
    let (n, p) = (cx.charge(&output, DType::F32)?, exponent(cx)?);
    let plane: usize = shape[2..].iter().product();
    let y = (0..n).map(|i| reduce(&x[i * plane..(i + 1) * plane], p)).collect();
    Ok(vec![Tensor::from_vec(output, y)?])
}

fn max_unpool(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let (x, shape) = (cx.slice::<f32>(0)?, cx.input(0)?.shape());
    let indices = cx.slice::<i64>(1)?;
    if shape.len() < 3 || cx.input(1)?.shape() != shape {
        return Err(OpError::Shape {
            what: "MaxUnpool: [N, C, D...] and indices of that shape",
            got: shape.to_vec(),
        });
    }
    let rank = shape.len() - 2;
    let attrs = cx.attrs();
    let (kernel, strides) = (sizes(attrs, "kernel_shape", rank, 1)?, sizes(attrs, "strides", rank, 1)?);
    let pads = sizes(attrs, "pads", 2 * rank, 0)?;
    let mut natural = shape[..2].to_vec();
    for i in 0..rank {
        let size = (shape[i + 2].saturating_sub(1).saturating_mul(strides[i]).saturating_add(kernel[i]))
            .checked_sub(pads[i] + pads[i + rank])
            .ok_or(OpError::Attribute { name: "pads", why: "exceed the output" })?;
        natural.push(size);
    }
    let output = match cx.opt(2) {
        Some(_) => {
            let sizes = cx.slice::<i64>(2)?;
            let sizes: Vec<usize> = sizes.iter().filter_map(|&n| usize::try_from(n).ok()).collect();
            if sizes.len() != shape.len() || sizes[..2] != shape[..2] {
                return Err(OpError::Shape { what: "MaxUnpool: output_shape [N, C, D...]", got: sizes });
            }
            sizes
        }
        None => natural.clone(),
    };
    let mut y = vec![0.0_f32; cx.charge(&output, DType::F32)?];
    // Indices count in the shape that kernel, strides and pads give; a larger output_shape pads it at the ends.
    let (from, to) = (strides_of(&natural), strides_of(&output));
    for (&value, &index) in x.iter().zip(indices) {
        let out_of_range = OpError::Value { what: "MaxUnpool: an index inside the output", got: index };
        let Some(mut rest) = usize::try_from(index).ok() else { return Err(out_of_range) };
        let mut at = 0;
        for axis in 0..output.len() {
            let i = rest.checked_div(from[axis]).unwrap_or(usize::MAX);
            if i >= output[axis] {
                return Err(out_of_range);
            }
            rest %= from[axis];
            at += i * to[axis];
        }
        y[at] = value;
    }
    Ok(vec![Tensor::from_vec(output, y)?])
}
