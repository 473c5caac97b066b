//! Losses: NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss.

use hallmark_receipt::{DType, Data, Tensor};

use super::dispatch::{one, op};
use super::index::{element, split};
use super::infer::{info, same_type};
use super::softmax::log_softmax_of;
use super::{EvalCx, InferCx, OpDef, OpError, half::in_f32};
use crate::graph::{Dim, TypeInfo};
use crate::numeric::{Number, sum};

/// The family's table.
pub const OPS: &[OpDef] = &[
    op("NegativeLogLikelihoodLoss", &[12, 13, 22], ATTRS, infer_nll, |cx| {
        in_f32(cx, negative_log_likelihood)
    }),
    op("SoftmaxCrossEntropyLoss", &[12, 13], ATTRS, infer_cross_entropy, |cx| in_f32(cx, cross_entropy)),
];

const ATTRS: &[&str] = &["ignore_index", "reduction"];

fn infer_nll(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let shape = match cx.attrs().str("reduction", "mean") {
        "none" => cx.input(1)?.shape.clone(),
        _ => Some(Vec::<Dim>::new()),
    };
    let dtype = same_type(cx, 0..1)?;
    Ok(vec![info(dtype, shape)])
}

fn infer_cross_entropy(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let mut out = infer_nll(cx)?;
    out.push(cx.input(0)?.clone());
    Ok(out)
}

fn negative_log_likelihood(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    loss(cx, cx.slice::<f32>(0)?)
}

/// LogSoftmax over the classes (§7), then the negative log likelihood of it.
fn cross_entropy(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = cx.input(0)?;
    let values = cx.slice::<f32>(0)?;
    if x.shape().len() < 2 {
        return Err(OpError::Shape { what: "a batch and a class axis", got: x.shape().to_vec() });
    }
    let (n, classes, inner) = if x.is_empty() { (0, 0, 0) } else { split(x.shape(), 1, 2) };
    let mut log_prob = vec![0.0; values.len()];
    let mut row = Vec::with_capacity(classes);
    for i in 0..n {
        for d in 0..inner {
            let at = |c: usize| (i * classes + c) * inner + d;
            let column: Vec<f32> = (0..classes).map(|c| values[at(c)]).collect();
            row.clear();
            log_softmax_of(&column, &mut row);
            row.iter().enumerate().for_each(|(c, &y)| log_prob[at(c)] = y);
        }
    }
    let mut out = loss(cx, &log_prob)?;
    out.push(Tensor::from_vec(x.shape().to_vec(), log_prob)?);
    Ok(out)
}

/// `-x[n, target, ..] * weight[target]` for each target; an ignored one counts nothing. The mean divides the sum of these by
/// the sum of the weights taken; without weights a weight is 1.
fn loss(cx: &EvalCx<'_>, x: &[f32]) -> Result<Vec<Tensor>, OpError> {
    let (shape, target) = (cx.input(0)?.shape(), cx.input(1)?);
    let fail = || OpError::Shape {
        what: "targets of the input's shape without its classes",
        got: target.shape().to_vec(),
    };
    let &[n, classes, ..] = shape else { return Err(fail()) };
    if target.shape() != [&[n], &shape[2..]].concat() {
        return Err(fail());
    }
    let weights = if cx.opt(2).is_some() { Some(cx.slice::<f32>(2)?) } else { None };
    if weights.is_some_and(|w| w.len() != classes) {
        return Err(OpError::Shape { what: "one weight for each class", got: cx.input(2)?.shape().to_vec() });
    }
    let ignored = cx.attrs().opt_int("ignore_index");
    let inner = if target.is_empty() { 1 } else { split(shape, 2, 2).2 };
    let mut losses = Vec::with_capacity(target.len());
    let mut taken = Vec::with_capacity(target.len());
    for (position, &class) in cx.integers(1)?.iter().enumerate() {
        if Some(class) == ignored {
            losses.push(0.0);
            taken.push(0.0);
            continue;
        }
        let class = element(class, classes)?;
        let weight = weights.map_or(1.0, |w| w[class]);
        let (i, d) = (position / inner, position % inner);
        losses.push(Number::mul(-x[(i * classes + class) * inner + d], weight));
        taken.push(weight);
    }
    let total = || sum(losses.iter().copied());
    let scalar = |y: f32| one(vec![], Data::F32(vec![y]));
    match cx.attrs().str("reduction", "mean") {
        "none" => {
            cx.charge(target.shape(), DType::F32)?;
            one(target.shape().to_vec(), Data::F32(losses))
        }
        "sum" => scalar(total()),
        "mean" => scalar(total() / sum(taken.iter().copied())),
        _ => Err(OpError::Attribute { name: "reduction", why: "not one of none, sum, mean" }),
    }
}
