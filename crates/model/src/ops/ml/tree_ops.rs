//! The tree operators (`numeric.md` §9).

use hallmark_receipt::{DType, Tensor};

use super::trees::{Ensemble, LeafNames, floats};
use super::{Labels, PostTransform, Rows, infer_classifier, logistic, rows_dim};
use crate::graph::{Dim, TypeInfo};
use crate::numeric::{canonical_f32, max_f32, min_f32};
use crate::ops::{Domain, EvalCx, InferCx, OpDef, OpError};

/// The family's table.
pub const OPS: &[OpDef] = &[
    OpDef {
        domain: Domain::OnnxMl,
        name: "TreeEnsembleClassifier",
        versions: &[1, 3],
        attrs: &[
            "base_values",
            "base_values_as_tensor",
            "class_ids",
            "class_nodeids",
            "class_treeids",
            "class_weights",
            "class_weights_as_tensor",
            "classlabels_int64s",
            "classlabels_strings",
            "nodes_falsenodeids",
            "nodes_featureids",
            "nodes_hitrates",
            "nodes_hitrates_as_tensor",
            "nodes_missing_value_tracks_true",
            "nodes_modes",
            "nodes_nodeids",
            "nodes_treeids",
            "nodes_truenodeids",
            "nodes_values",
            "nodes_values_as_tensor",
            "post_transform",
        ],
        infer: |cx| {
            let labels = Labels::read(cx.attrs(), "classlabels_int64s", "classlabels_strings")?;
            infer_classifier(cx, "classlabels_strings", (labels.len() > 1).then_some(labels.len()))
        },
        eval: classifier,
    },
    OpDef {
        domain: Domain::OnnxMl,
        name: "TreeEnsembleRegressor",
        versions: &[1, 3],
        attrs: &[
            "aggregate_function",
            "base_values",
            "base_values_as_tensor",
            "n_targets",
            "nodes_falsenodeids",
            "nodes_featureids",
            "nodes_hitrates",
            "nodes_hitrates_as_tensor",
            "nodes_missing_value_tracks_true",
            "nodes_modes",
            "nodes_nodeids",
            "nodes_treeids",
            "nodes_truenodeids",
            "nodes_values",
            "nodes_values_as_tensor",
            "post_transform",
            "target_ids",
            "target_nodeids",
            "target_treeids",
            "target_weights",
            "target_weights_as_tensor",
        ],
        infer: infer_regressor,
        eval: |cx| {
            let targets = target_count(cx.attrs().int("n_targets", 1))?;
            let names = LeafNames {
                ids: "target_ids",
                trees: "target_treeids",
                nodes: "target_nodeids",
                weights: "target_weights",
                weights_tensor: "target_weights_as_tensor",
            };
            let ensemble = Ensemble::classic(cx.attrs(), names, targets)?;
            let aggregate = match cx.attrs().str("aggregate_function", "SUM") {
                "SUM" => Aggregate::Sum,
                "AVERAGE" => Aggregate::Average,
                "MIN" => Aggregate::Min,
                "MAX" => Aggregate::Max,
                _ => return Err(OpError::Attribute { name: "aggregate_function", why: "unknown value" }),
            };
            regress(cx, &ensemble, targets, aggregate, PostTransform::named(cx.attrs())?)
        },
    },
    OpDef {
        domain: Domain::OnnxMl,
        name: "TreeEnsemble",
        versions: &[5],
        attrs: &[
            "aggregate_function",
            "leaf_targetids",
            "leaf_weights",
            "membership_values",
            "n_targets",
            "nodes_falseleafs",
            "nodes_falsenodeids",
            "nodes_featureids",
            "nodes_hitrates",
            "nodes_missing_value_tracks_true",
            "nodes_modes",
            "nodes_splits",
            "nodes_trueleafs",
            "nodes_truenodeids",
            "post_transform",
            "tree_roots",
        ],
        infer: infer_regressor,
        eval: |cx| {
            let targets = target_count(cx.attrs().int("n_targets", 1))?;
            let ensemble = Ensemble::modern(cx.attrs(), targets)?;
            let aggregate = match cx.attrs().int("aggregate_function", 1) {
                0 => Aggregate::Average,
                1 => Aggregate::Sum,
                2 => Aggregate::Min,
                3 => Aggregate::Max,
                _ => return Err(OpError::Attribute { name: "aggregate_function", why: "unknown value" }),
            };
            regress(cx, &ensemble, targets, aggregate, PostTransform::numbered(cx.attrs())?)
        },
    },
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Aggregate {
    Sum,
    Average,
    Min,
    Max,
}

fn target_count(n: i64) -> Result<usize, OpError> {
    usize::try_from(n)
        .ok()
        .filter(|&n| (1..=1 << 24).contains(&n))
        .ok_or(OpError::Attribute { name: "n_targets", why: "must be positive" })
}

fn infer_regressor(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let targets = target_count(cx.attrs().int("n_targets", 1))?;
    let shape = rows_dim(cx.input(0)?).map(|n| vec![n, Dim::Known(targets)]);
    Ok(vec![TypeInfo { dtype: Some(DType::F32), shape }])
}

/// Adds up one row's leaves: `None` where no leaf names the target.
fn scores(ensemble: &Ensemble, row: &[f32], aggregate: Aggregate, into: &mut [Option<f32>]) {
    into.fill(None);
    for root in &ensemble.roots {
        for &(target, weight) in ensemble.leaf(*root, row) {
            into[target] = Some(match (aggregate, into[target]) {
                (Aggregate::Sum | Aggregate::Average, old) => old.unwrap_or(0.0) + weight,
                (Aggregate::Min, Some(old)) => min_f32(old, weight),
                (Aggregate::Max, Some(old)) => max_f32(old, weight),
                (_, None) => weight,
            });
        }
    }
}

fn regress(
    cx: &EvalCx<'_>,
    ensemble: &Ensemble,
    targets: usize,
    aggregate: Aggregate,
    post: PostTransform,
) -> Result<Vec<Tensor>, OpError> {
    let x = Rows::read(cx, 0)?;
    ensemble.check_columns(x.columns)?;
    let base = floats(cx.attrs(), "base_values", "base_values_as_tensor")?;
    if !base.is_empty() && base.len() != targets {
        return Err(OpError::Attribute { name: "base_values", why: "has the wrong length" });
    }
    let shape = vec![x.rows, targets];
    let mut y = Vec::with_capacity(cx.charge(&shape, DType::F32)?);
    let mut row_scores = vec![None; targets];
    for row in x.iter() {
        scores(ensemble, row, aggregate, &mut row_scores);
        let start = y.len();
        for (t, score) in row_scores.iter().enumerate() {
            let mut score = score.unwrap_or(0.0);
            if aggregate == Aggregate::Average {
                score /= ensemble.roots.len() as f32;
            }
            y.push(canonical_f32(base.get(t).map_or(score, |base| score + base)));
        }
        post.apply(&mut y[start..]);
    }
    Ok(vec![Tensor::from_vec(shape, y)?])
}

fn classifier(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let attrs = cx.attrs();
    let labels = Labels::read(attrs, "classlabels_int64s", "classlabels_strings")?;
    let classes = labels.len();
    let names = LeafNames {
        ids: "class_ids",
        trees: "class_treeids",
        nodes: "class_nodeids",
        weights: "class_weights",
        weights_tensor: "class_weights_as_tensor",
    };
    let ensemble = Ensemble::classic(attrs, names, classes)?;
    let x = Rows::read(cx, 0)?;
    ensemble.check_columns(x.columns)?;
    let post = PostTransform::named(attrs)?;
    let base = floats(attrs, "base_values", "base_values_as_tensor")?;
    let ids = attrs.ints("class_ids").unwrap_or(&[]);
    // Two classes of which the leaves name one only: its score decides for both.
    let single = classes == 2 && ids.first().is_some_and(|first| ids.iter().all(|id| id == first));
    if !(base.is_empty() || base.len() == classes || (single && base.len() == 1)) {
        return Err(OpError::Attribute { name: "base_values", why: "has the wrong length" });
    }
    let weights = floats(attrs, "class_weights", "class_weights_as_tensor")?;
    let probabilities = weights.iter().all(|&w| w >= 0.0);
    let shape = vec![x.rows, classes];
    let mut y = Vec::with_capacity(cx.charge(&shape, DType::F32)?);
    let mut chosen = Vec::with_capacity(x.rows);
    let mut row_scores = vec![None; classes];
    let named = ids.first().and_then(|&id| usize::try_from(id).ok()).unwrap_or(0);
    for row in x.iter() {
        scores(&ensemble, row, Aggregate::Sum, &mut row_scores);
        if single {
            let score = row_scores[named].unwrap_or(0.0);
            // With a base value for each class the positive one's counts.
            let score = canonical_f32(base.last().map_or(score, |base| score + base));
            let [no, yes] = decide_single(score, probabilities, post);
            chosen.push(usize::from(score > if probabilities { 0.5 } else { 0.0 }));
            y.extend([no, yes]);
            continue;
        }
        let start = y.len();
        let mut best: Option<(usize, f32)> = None;
        for (class, score) in row_scores.iter().enumerate() {
            let score = match (score, base.get(class)) {
                (Some(score), Some(base)) => Some(score + base),
                (Some(score), None) => Some(*score),
                (None, base) => base.copied(),
            };
            if let Some(score) = score
                && best.is_none_or(|(_, most)| score > most)
            {
                best = Some((class, score));
            }
            y.push(canonical_f32(score.unwrap_or(0.0)));
        }
        chosen.push(best.map_or(0, |(class, _)| class));
        post.apply(&mut y[start..]);
    }
    Ok(vec![labels.pick(&chosen), Tensor::from_vec(shape, y)?])
}

/// The scores of both classes from the one that the leaves name.
fn decide_single(score: f32, probabilities: bool, post: PostTransform) -> [f32; 2] {
    match (probabilities, post) {
        (_, PostTransform::Probit) => {
            let mut row = [1.0 - score, score];
            post.apply(&mut row);
            row
        }
        (true, _) => [canonical_f32(1.0 - score), score],
        (false, PostTransform::Logistic) => [logistic(-score), logistic(score)],
        (false, _) => [canonical_f32(-score), score],
    }
}
