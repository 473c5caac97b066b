//! Scaling, imputing and joining of features.

use hallmark_receipt::{DType, Data, Tensor};

use super::{as_f32, rows_dim};
use crate::graph::{Dim, TypeInfo};
use crate::numeric::{canonical_f32, max_f32};
use crate::ops::norm::sum_of;
use crate::ops::{Domain, EvalCx, InferCx, OpDef, OpError, infer};

const fn row(
    name: &'static str,
    attrs: &'static [&'static str],
    infer: fn(&InferCx<'_>) -> Result<Vec<TypeInfo>, OpError>,
    eval: fn(&EvalCx<'_>) -> Result<Vec<Tensor>, OpError>,
) -> OpDef {
    OpDef { domain: Domain::OnnxMl, name, versions: &[1], attrs, infer, eval }
}

/// The family's table.
pub const OPS: &[OpDef] = &[
    row("Scaler", &["offset", "scale"], float_same, scaler),
    row("Normalizer", &["norm"], float_same, normalizer),
    row("Binarizer", &["threshold"], infer::same, binarizer),
    row(
        "Imputer",
        &["imputed_value_floats", "imputed_value_int64s", "replaced_value_float", "replaced_value_int64"],
        infer::same,
        imputer,
    ),
    row("FeatureVectorizer", &["inputdimensions"], infer_vectorizer, feature_vectorizer),
    row("ArrayFeatureExtractor", &[], infer_extractor, extractor),
];

fn float_same(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    Ok(vec![TypeInfo { dtype: Some(DType::F32), shape: cx.input(0)?.shape.clone() }])
}

/// The size of the last axis (1 for a scalar).
fn columns(x: &Tensor) -> usize {
    x.shape().last().copied().unwrap_or(1)
}

/// The entry of a per-feature list (or its only entry) for column `c`.
fn per_feature<T: Copy>(
    list: &[T],
    columns: usize,
    name: &'static str,
) -> Result<impl Fn(usize) -> T, OpError> {
    let single = list.len() == 1;
    if !single && list.len() != columns {
        return Err(OpError::Attribute { name, why: "must have one entry, or one a feature" });
    }
    Ok(move |c: usize| if single { list[0] } else { list[c] })
}

/// `(x - offset) * scale`.
fn scaler(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = cx.input(0)?;
    let columns = columns(x);
    let offset = per_feature(cx.attrs().floats("offset").unwrap_or(&[0.0]), columns, "offset")?;
    let scale = per_feature(cx.attrs().floats("scale").unwrap_or(&[1.0]), columns, "scale")?;
    let y = as_f32(x, 0)?
        .iter()
        .enumerate()
        .map(|(i, x)| (x - offset(i % columns)) * scale(i % columns))
        .collect();
    Ok(vec![Tensor::from_vec(x.shape().to_vec(), y)?])
}

/// Each row divided by its norm; a row whose norm is 0 stays.
fn normalizer(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = cx.input(0)?;
    let mut y = as_f32(x, 0)?;
    let norm: fn(&[f32]) -> f32 = match cx.attrs().str("norm", "MAX") {
        "MAX" => |row| row.iter().fold(0.0, |m, x| max_f32(m, x.abs())),
        "L1" => |row| sum_of(row.iter().map(|x| x.abs())),
        "L2" => |row| sum_of(row.iter().map(|x| x * x)).sqrt(),
        _ => return Err(OpError::Attribute { name: "norm", why: "unknown value" }),
    };
    for row in y.chunks_exact_mut(columns(x).max(1)) {
        let norm = norm(row);
        if norm != 0.0 {
            row.iter_mut().for_each(|x| *x = canonical_f32(*x / norm));
        }
    }
    Ok(vec![Tensor::from_vec(x.shape().to_vec(), y)?])
}

/// 1 where `x > threshold`, else 0.
fn binarizer(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = cx.input(0)?;
    let threshold = cx.attrs().float("threshold", 0.0);
    let above = |x: f32| x > threshold;
    let shape = x.shape().to_vec();
    Ok(vec![match x.data() {
        Data::F32(v) => Tensor::from_vec(shape, v.iter().map(|&x| f32::from(u8::from(above(x)))).collect())?,
        Data::I64(v) => Tensor::from_vec(shape, v.iter().map(|&x| i64::from(above(x as f32))).collect())?,
        Data::I32(v) => Tensor::from_vec(shape, v.iter().map(|&x| i32::from(above(x as f32))).collect())?,
        Data::F64(v) => {
            let above = |x: f64| x > f64::from(threshold);
            Tensor::from_vec(shape, v.iter().map(|&x| f64::from(u8::from(above(x)))).collect())?
        }
        _ => return Err(OpError::InputType { index: 0, got: x.dtype() }),
    }])
}

fn imputer(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = cx.input(0)?;
    let (shape, columns) = (x.shape().to_vec(), columns(x));
    let floats = cx.attrs().floats("imputed_value_floats");
    let missing = cx.attrs().float("replaced_value_float", 0.0);
    Ok(vec![match x.data() {
        Data::F32(v) => {
            let with = per_feature(floats.unwrap_or(&[]), columns, "imputed_value_floats")?;
            let is_missing = |x: f32| if missing.is_nan() { x.is_nan() } else { x == missing };
            let each = |(i, &x): (usize, &f32)| if is_missing(x) { with(i % columns) } else { x };
            Tensor::from_vec(shape, v.iter().enumerate().map(each).collect())?
        }
        Data::F64(v) => {
            let with = per_feature(floats.unwrap_or(&[]), columns, "imputed_value_floats")?;
            let is_missing = |x: f64| if missing.is_nan() { x.is_nan() } else { x == f64::from(missing) };
            let each = |(i, &x): (usize, &f64)| if is_missing(x) { f64::from(with(i % columns)) } else { x };
            Tensor::from_vec(shape, v.iter().enumerate().map(each).collect())?
        }
        Data::I64(v) => {
            let list = cx.attrs().ints("imputed_value_int64s").unwrap_or(&[]);
            let with = per_feature(list, columns, "imputed_value_int64s")?;
            let missing = cx.attrs().int("replaced_value_int64", 0);
            let each = |(i, &x): (usize, &i64)| if x == missing { with(i % columns) } else { x };
            Tensor::from_vec(shape, v.iter().enumerate().map(each).collect())?
        }
        _ => return Err(OpError::InputType { index: 0, got: x.dtype() }),
    }])
}

fn infer_vectorizer(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let width = cx.attrs().ints("inputdimensions").map_or(Dim::Unknown, |dims| {
        usize::try_from(dims.iter().fold(0_i64, |a, &b| a.saturating_add(b))).map_or(Dim::Unknown, Dim::Known)
    });
    let shape = rows_dim(cx.input(0)?).map(|n| vec![n, width]);
    Ok(vec![TypeInfo { dtype: Some(DType::F32), shape }])
}

/// Joins rows of several inputs, each cut or filled with zeros to its declared width.
fn feature_vectorizer(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let parts = (0..cx.inputs.len()).map(|i| super::Rows::read(cx, i)).collect::<Result<Vec<_>, _>>()?;
    let rows = parts.first().ok_or(OpError::MissingInput { index: 0 })?.rows;
    let widths: Vec<usize> = match cx.attrs().ints("inputdimensions") {
        Some(dims) => dims.iter().filter_map(|&d| usize::try_from(d).ok()).collect(),
        None => parts.iter().map(|p| p.columns).collect(),
    };
    if widths.len() != parts.len() || parts.iter().any(|p| p.rows != rows) {
        return Err(OpError::Attribute {
            name: "inputdimensions",
            why: "must be one an input, all of the same rows",
        });
    }
    let width = widths.iter().fold(0_usize, |a, &b| a.saturating_add(b));
    let shape = vec![rows, width];
    let mut y = Vec::with_capacity(cx.charge(&shape, DType::F32)?);
    for r in 0..rows {
        for (part, &width) in parts.iter().zip(&widths) {
            let row = &part.values[r * part.columns..(r + 1) * part.columns];
            y.extend((0..width).map(|c| row.get(c).copied().unwrap_or(0.0)));
        }
    }
    Ok(vec![Tensor::from_vec(shape, y)?])
}

fn infer_extractor(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let x = cx.input(0)?;
    let picked = match cx.input(1)?.shape.as_deref() {
        Some(dims) => dims.iter().try_fold(1_usize, |n, dim| match dim {
            Dim::Known(d) => n.checked_mul(*d),
            _ => None,
        }),
        None => None,
    };
    let shape = x.shape.as_ref().map(|dims| {
        let mut shape = if dims.len() < 2 { vec![Dim::Known(1)] } else { dims[..dims.len() - 1].to_vec() };
        shape.push(picked.map_or(Dim::Unknown, Dim::Known));
        shape
    });
    Ok(vec![TypeInfo { dtype: x.dtype, shape }])
}

/// Picks entries of the last axis by index.
fn extractor(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = cx.input(0)?;
    let columns = columns(x);
    let mut picked = Vec::new();
    for &index in cx.slice::<i64>(1)? {
        let at = usize::try_from(index).ok().filter(|&i| i < columns);
        picked.push(at.ok_or(OpError::Value { what: "an index inside the last axis", got: index })?);
    }
    let rank = x.shape().len();
    let mut shape = if rank < 2 { vec![1] } else { x.shape()[..rank - 1].to_vec() };
    shape.push(picked.len());
    cx.charge(&shape, x.dtype())?;
    let rows: usize = shape[..shape.len() - 1].iter().product();
    let data = hallmark_receipt::with_data!(x.data(), v => pick(v, rows, columns, &picked));
    Ok(vec![Tensor::new(shape, data)?])
}

fn pick<T: hallmark_receipt::Element>(values: &[T], rows: usize, columns: usize, picked: &[usize]) -> Data {
    T::into_data(
        (0..rows).flat_map(|r| picked.iter().map(move |c| values[r * columns + c].clone())).collect(),
    )
}
