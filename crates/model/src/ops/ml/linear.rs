//! Linear models: contractions (`numeric.md` §3) of a row with each target's coefficients, then the intercept.

use hallmark_receipt::{DType, Tensor};

use super::{Labels, PostTransform, Rows, arg_max, infer_classifier, logistic, rows_dim};
use crate::graph::{Dim, TypeInfo};
use crate::numeric::{BLOCK, canonical_f32, contract_f32};
use crate::ops::{Domain, EvalCx, InferCx, OpDef, OpError};

/// The family's table.
pub const OPS: &[OpDef] = &[
    OpDef {
        domain: Domain::OnnxMl,
        name: "LinearClassifier",
        versions: &[1],
        attrs: &[
            "classlabels_ints",
            "classlabels_strings",
            "coefficients",
            "intercepts",
            "multi_class",
            "post_transform",
        ],
        infer: |cx| {
            let labels = Labels::read(cx.attrs(), "classlabels_ints", "classlabels_strings")?;
            infer_classifier(cx, "classlabels_strings", Some(labels.len()))
        },
        eval: classifier,
    },
    OpDef {
        domain: Domain::OnnxMl,
        name: "LinearRegressor",
        versions: &[1],
        attrs: &["coefficients", "intercepts", "post_transform", "targets"],
        infer: infer_regressor,
        eval: regressor,
    },
];

/// `x . coefficients_t + intercept_t` for every target of one row.
fn scores(row: &[f32], coefficients: &[f32], intercepts: &[f32], targets: usize, into: &mut Vec<f32>) {
    for t in 0..targets {
        let weights = &coefficients[t * row.len()..(t + 1) * row.len()];
        let dot = contract_f32(row.iter().copied().zip(weights.iter().copied()), BLOCK);
        into.push(canonical_f32(intercepts.get(t).map_or(dot, |b| dot + b)));
    }
}

/// The coefficients and intercepts for `targets` rows of `columns`.
fn parameters<'a>(
    cx: &EvalCx<'a>,
    targets: usize,
    columns: usize,
) -> Result<(&'a [f32], &'a [f32]), OpError> {
    let coefficients = cx.attrs().floats("coefficients").unwrap_or(&[]);
    let intercepts = cx.attrs().floats("intercepts").unwrap_or(&[]);
    if targets.checked_mul(columns) != Some(coefficients.len()) {
        return Err(OpError::Attribute { name: "coefficients", why: "must be targets x features" });
    }
    if !intercepts.is_empty() && intercepts.len() != targets {
        return Err(OpError::Attribute { name: "intercepts", why: "must be one a target" });
    }
    Ok((coefficients, intercepts))
}

fn classifier(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let labels = Labels::read(cx.attrs(), "classlabels_ints", "classlabels_strings")?;
    let post = PostTransform::named(cx.attrs())?;
    let x = Rows::read(cx, 0)?;
    let classes = labels.len();
    // Two classes may share one row of coefficients: its score is the second class's.
    let single = classes == 2 && cx.attrs().floats("coefficients").is_some_and(|c| c.len() == x.columns);
    let targets = if single { 1 } else { classes };
    let (coefficients, intercepts) = parameters(cx, targets, x.columns)?;
    let shape = vec![x.rows, classes];
    let mut y = Vec::with_capacity(cx.charge(&shape, DType::F32)?);
    let mut chosen = Vec::with_capacity(x.rows);
    for row in x.iter() {
        let start = y.len();
        scores(row, coefficients, intercepts, targets, &mut y);
        if single {
            let score = y[start];
            let above = if post == PostTransform::Logistic { logistic(score) > 0.5 } else { score > 0.0 };
            chosen.push(usize::from(above));
            y.truncate(start);
            y.extend(match post {
                PostTransform::Logistic => [logistic(-score), logistic(score)],
                _ => [canonical_f32(-score), score],
            });
            if !matches!(post, PostTransform::Logistic) {
                post.apply(&mut y[start..]);
            }
        } else {
            chosen.push(arg_max(&y[start..]));
            post.apply(&mut y[start..]);
        }
    }
    Ok(vec![labels.pick(&chosen), Tensor::from_vec(shape, y)?])
}

fn target_count(n: i64) -> Result<usize, OpError> {
    usize::try_from(n)
        .ok()
        .filter(|&n| n > 0)
        .ok_or(OpError::Attribute { name: "targets", why: "must be positive" })
}

fn infer_regressor(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let targets = target_count(cx.attrs().int("targets", 1))?;
    let shape = rows_dim(cx.input(0)?).map(|n| vec![n, Dim::Known(targets)]);
    Ok(vec![TypeInfo { dtype: Some(DType::F32), shape }])
}

fn regressor(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let targets = target_count(cx.attrs().int("targets", 1))?;
    let post = PostTransform::named(cx.attrs())?;
    let x = Rows::read(cx, 0)?;
    let (coefficients, intercepts) = parameters(cx, targets, x.columns)?;
    let shape = vec![x.rows, targets];
    let mut y = Vec::with_capacity(cx.charge(&shape, DType::F32)?);
    for row in x.iter() {
        let start = y.len();
        scores(row, coefficients, intercepts, targets, &mut y);
        post.apply(&mut y[start..]);
    }
    Ok(vec![Tensor::from_vec(shape, y)?])
}
