//! Classical machine learning, the domain `ai.onnx.ml` (`numeric.md` §9).

use hallmark_receipt::{Data, Tensor};

use super::{EvalCx, OpError};
use crate::graph::{Attrs, Dim, TypeInfo};
use crate::numeric::{canonical_f32, elementary, max_f32};

pub mod encode;
pub mod linear;
pub mod scale;
pub mod tree_ops;
pub mod trees;

/// Input 0 as rows of float32 features: [N, F], or one row [F]. Other numbers are rounded to float32.
pub(crate) struct Rows {
    /// Features, row-major.
    pub values: Vec<f32>,
    /// Rows.
    pub rows: usize,
    /// Features a row.
    pub columns: usize,
}

impl Rows {
    /// Reads input `index`.
    pub fn read(cx: &EvalCx<'_>, index: usize) -> Result<Self, OpError> {
        let tensor = cx.input(index)?;
        let (rows, columns) = match tensor.shape() {
            [columns] => (1, *columns),
            [rows, columns] => (*rows, *columns),
            got => return Err(OpError::Shape { what: "features as [N, F] or [F]", got: got.to_vec() }),
        };
        Ok(Self { values: as_f32(tensor, index)?, rows, columns })
    }

    /// The rows.
    pub fn iter(&self) -> impl Iterator<Item = &[f32]> {
        (0..self.rows).map(|r| &self.values[r * self.columns..(r + 1) * self.columns])
    }
}

/// Numbers rounded to float32.
pub(crate) fn as_f32(tensor: &Tensor, index: usize) -> Result<Vec<f32>, OpError> {
    Ok(match tensor.data() {
        Data::F32(v) => v.clone(),
        Data::F64(v) => v.iter().map(|&x| x as f32).collect(),
        Data::F16(v) => v.iter().map(|x| x.to_f32()).collect(),
        Data::BF16(v) => v.iter().map(|x| x.to_f32()).collect(),
        Data::I64(v) => v.iter().map(|&x| x as f32).collect(),
        Data::I32(v) => v.iter().map(|&x| x as f32).collect(),
        Data::Bool(v) => v.iter().map(|&x| f32::from(u8::from(x))).collect(),
        _ => return Err(OpError::InputType { index, got: tensor.dtype() }),
    })
}

/// What is done to scores at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PostTransform {
    None,
    Softmax,
    Logistic,
    SoftmaxZero,
    Probit,
}

impl PostTransform {
    /// The attribute `post_transform` by name.
    pub fn named(attrs: &Attrs) -> Result<Self, OpError> {
        match attrs.str("post_transform", "NONE") {
            "NONE" => Ok(Self::None),
            "SOFTMAX" => Ok(Self::Softmax),
            "LOGISTIC" => Ok(Self::Logistic),
            "SOFTMAX_ZERO" => Ok(Self::SoftmaxZero),
            "PROBIT" => Ok(Self::Probit),
            _ => Err(OpError::Attribute { name: "post_transform", why: "unknown value" }),
        }
    }

    /// The attribute `post_transform` by number.
    pub fn numbered(attrs: &Attrs) -> Result<Self, OpError> {
        match attrs.int("post_transform", 0) {
            0 => Ok(Self::None),
            1 => Ok(Self::Softmax),
            2 => Ok(Self::Logistic),
            3 => Ok(Self::SoftmaxZero),
            4 => Ok(Self::Probit),
            _ => Err(OpError::Attribute { name: "post_transform", why: "unknown value" }),
        }
    }

    /// Transforms one row of scores.
    pub fn apply(self, row: &mut [f32]) {
        match self {
            Self::None => {}
            Self::Logistic => row.iter_mut().for_each(|x| *x = logistic(*x)),
            Self::Probit => row.iter_mut().for_each(|x| *x = probit(*x)),
            Self::Softmax => {
                let m = row.iter().fold(f32::NEG_INFINITY, |a, &b| max_f32(a, b));
                row.iter_mut().for_each(|x| *x = elementary::exp(*x - m));
                let sum = super::norm::sum_of(row.iter().copied());
                row.iter_mut().for_each(|x| *x /= sum);
            }
            Self::SoftmaxZero => {
                let m = row.iter().fold(f32::NEG_INFINITY, |a, &b| max_f32(a, b));
                let scale = elementary::exp(-m);
                let far = |x: f32| !(-1e-7..=1e-7).contains(&x);
                let old = row.to_vec();
                row.iter_mut().for_each(|x| *x = if far(*x) { elementary::exp(*x - m) } else { *x * scale });
                let far_ones = row.iter().zip(&old).filter(|(_, old)| far(**old)).map(|(x, _)| *x);
                let sum = super::norm::sum_of(far_ones);
                row.iter_mut().for_each(|x| *x /= sum);
            }
        }
        row.iter_mut().for_each(|x| *x = canonical_f32(*x));
    }
}

/// The Sigmoid of §7.
pub(crate) fn logistic(x: f32) -> f32 {
    canonical_f32(1.0 / (1.0 + elementary::exp(-x)))
}

/// `sqrt(2) * erfinv(2x - 1)` with the approximation that the reference implementations use.
fn probit(x: f32) -> f32 {
    let y = 2.0 * x - 1.0;
    let log = elementary::log((1.0 - y) * (1.0 + y));
    let v = 2.0 / (std::f32::consts::PI * 0.147) + 0.5 * log;
    let v2 = (1.0 / 0.147) * log;
    let root = (-v + (v * v - v2).sqrt()).sqrt();
    canonical_f32(std::f32::consts::SQRT_2 * if y < 0.0 { -root } else { root })
}

/// Class labels: integers or text.
pub(crate) enum Labels<'a> {
    /// Integers.
    Ints(&'a [i64]),
    /// Text.
    Strs(Vec<String>),
}

impl<'a> Labels<'a> {
    /// Reads the attributes `ints` and `strs`, exactly one of which must be there.
    pub fn read(attrs: &'a Attrs, ints: &'static str, strs: &'static str) -> Result<Self, OpError> {
        match (attrs.ints(ints).filter(|v| !v.is_empty()), attrs.strs(strs).filter(|v| !v.is_empty())) {
            (Some(v), None) => Ok(Self::Ints(v)),
            (None, Some(v)) => Ok(Self::Strs(texts(v, strs)?)),
            _ => Err(OpError::Attribute { name: strs, why: "integer or text labels are needed, not both" }),
        }
    }

    /// Their number.
    pub fn len(&self) -> usize {
        match self {
            Self::Ints(v) => v.len(),
            Self::Strs(v) => v.len(),
        }
    }

    /// A vector of the labels at `indices`, each below `len`.
    pub fn pick(&self, indices: &[usize]) -> Tensor {
        match self {
            Self::Ints(v) => Tensor::vector(indices.iter().map(|&i| v[i]).collect::<Vec<i64>>()),
            Self::Strs(v) => Tensor::vector(indices.iter().map(|&i| v[i].clone()).collect::<Vec<String>>()),
        }
    }
}

/// Attribute texts, which must be UTF-8.
pub(crate) fn texts(values: &[Vec<u8>], name: &'static str) -> Result<Vec<String>, OpError> {
    values
        .iter()
        .map(|v| String::from_utf8(v.clone()))
        .collect::<Result<_, _>>()
        .map_err(|_| OpError::Attribute { name, why: "is not UTF-8" })
}

/// The position of the greatest score, lowest first; NaN is never greater.
pub(crate) fn arg_max(row: &[f32]) -> usize {
    let mut best = 0;
    for (i, x) in row.iter().enumerate() {
        if *x > row[best] {
            best = i;
        }
    }
    best
}

/// The types of a classifier's outputs: labels [N], scores [N, E].
pub(crate) fn infer_classifier(
    cx: &super::InferCx<'_>,
    strs: &str,
    scores: Option<usize>,
) -> Result<Vec<TypeInfo>, OpError> {
    use hallmark_receipt::DType;
    let text = cx.attrs().strs(strs).is_some_and(|v| !v.is_empty());
    let rows = rows_dim(cx.input(0)?);
    let labels = TypeInfo {
        dtype: Some(if text { DType::Str } else { DType::I64 }),
        shape: rows.clone().map(|n| vec![n]),
    };
    let scores = TypeInfo {
        dtype: Some(DType::F32),
        shape: rows.map(|n| vec![n, scores.map_or(Dim::Unknown, Dim::Known)]),
    };
    Ok(vec![labels, scores])
}

/// The number of rows of an input that is [N, F] or [F].
pub(crate) fn rows_dim(x: &TypeInfo) -> Option<Dim> {
    match x.shape.as_deref() {
        Some([n, _]) => Some(n.clone()),
        Some([_]) => Some(Dim::Known(1)),
        _ => None,
    }
}
