//! The classical operators on small cases worked by hand. `scripts/tabular-check.py` compares whole exported models.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use hallmark_model::graph::{Attr, Attrs, Node};
use hallmark_model::ops::{self, Domain, EvalCx, OpError};
use hallmark_receipt::Tensor;

fn run(op: &str, attrs: &[(&str, Attr)], inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
    let op = ops::find(Domain::OnnxMl, op).expect("the operator exists");
    for (name, _) in attrs {
        assert!(op.attrs.contains(name), "{name}");
    }
    let node = Node {
        name: "test".into(),
        op,
        version: *op.versions.last().unwrap(),
        attrs: Attrs(attrs.iter().map(|(k, v)| (k.to_string(), v.clone())).collect()),
        inputs: Vec::new(),
        declared_inputs: inputs.len(),
        outputs: Vec::new(),
    };
    let inputs: Vec<_> = inputs.iter().map(|t| Some(*t)).collect();
    (op.eval)(&EvalCx { node: &node, inputs: &inputs, budget: 1 << 20 })
}

fn ints(v: &[i64]) -> Attr {
    Attr::Ints(v.to_vec())
}

fn floats(v: &[f32]) -> Attr {
    Attr::Floats(v.to_vec())
}

fn strs(v: &[&str]) -> Attr {
    Attr::Strs(v.iter().map(|s| s.as_bytes().to_vec()).collect())
}

fn matrix(rows: usize, values: &[f32]) -> Tensor {
    Tensor::from_vec(vec![rows, values.len() / rows], values.to_vec()).unwrap()
}

/// Two stumps on column 0 at 0.5 and 1.5; `children` are the true and false children of both roots.
fn stumps<'a>(yes: &'a [i64], no: &'a [i64]) -> Vec<(&'a str, Attr)> {
    vec![
        ("nodes_treeids", ints(&[0, 0, 0, 1, 1, 1])),
        ("nodes_nodeids", ints(&[0, 1, 2, 0, 1, 2])),
        ("nodes_featureids", ints(&[0; 6])),
        ("nodes_modes", strs(&["BRANCH_LEQ", "LEAF", "LEAF", "BRANCH_LEQ", "LEAF", "LEAF"])),
        ("nodes_values", floats(&[0.5, 0.0, 0.0, 1.5, 0.0, 0.0])),
        ("nodes_truenodeids", ints(yes)),
        ("nodes_falsenodeids", ints(no)),
        ("nodes_missing_value_tracks_true", ints(&[1, 0, 0, 0, 0, 0])),
    ]
}

const YES: &[i64] = &[1, 0, 0, 1, 0, 0];
const NO: &[i64] = &[2, 0, 0, 2, 0, 0];

#[test]
fn tree_regressor() {
    let mut attrs = stumps(YES, NO);
    attrs.extend([
        ("target_treeids", ints(&[0, 0, 1, 1])),
        ("target_nodeids", ints(&[1, 2, 1, 2])),
        ("target_ids", ints(&[0; 4])),
        ("target_weights", floats(&[1.0, 2.0, 10.0, 20.0])),
        ("base_values", floats(&[0.5])),
    ]);
    let x = matrix(4, &[0.0, 1.0, 2.0, f32::NAN]);
    let y = run("TreeEnsembleRegressor", &attrs, &[&x]).unwrap();
    // NaN takes the true branch of the first tree (it tracks missing values) and the false one of the second.
    assert_eq!(y[0].as_slice::<f32>().unwrap(), [11.5, 12.5, 22.5, 21.5]);
    assert_eq!(y[0].shape(), [4, 1]);
}

#[test]
fn tree_classifier_of_one_score() {
    let mut attrs = stumps(YES, NO);
    attrs.extend([
        ("class_treeids", ints(&[0, 0, 1, 1])),
        ("class_nodeids", ints(&[1, 2, 1, 2])),
        ("class_ids", ints(&[0; 4])),
        ("class_weights", floats(&[-1.0, 2.0, -1.0, 2.0])),
        ("classlabels_strings", strs(&["no", "yes"])),
        ("post_transform", Attr::Str(b"LOGISTIC".to_vec())),
    ]);
    let y = run("TreeEnsembleClassifier", &attrs, &[&matrix(3, &[0.0, 1.0, 2.0])]).unwrap();
    assert_eq!(y[0].as_slice::<String>().unwrap(), ["no", "yes", "yes"]);
    let p = y[1].as_slice::<f32>().unwrap();
    assert!((p[1] - 0.11920292).abs() < 1e-6 && (p[0] + p[1] - 1.0).abs() < 1e-6, "{p:?}");
}

#[test]
fn hostile_trees_are_errors() {
    let leaves = [
        ("target_treeids", ints(&[0])),
        ("target_nodeids", ints(&[1])),
        ("target_ids", ints(&[0])),
        ("target_weights", floats(&[1.0])),
    ];
    let x = matrix(1, &[0.0]);
    let cyclic = stumps(&[0, 0, 0, 1, 0, 0], NO);
    let dangling = stumps(&[7, 0, 0, 1, 0, 0], NO);
    for mut attrs in [cyclic, dangling] {
        attrs.extend(leaves.clone());
        assert!(matches!(run("TreeEnsembleRegressor", &attrs, &[&x]), Err(OpError::Attribute { .. })));
    }
    let mut wide = stumps(YES, NO);
    wide.extend(leaves);
    wide[2].1 = ints(&[3, 0, 0, 0, 0, 0]);
    assert!(matches!(run("TreeEnsembleRegressor", &wide, &[&x]), Err(OpError::Value { got: 3, .. })));
}

#[test]
fn linear_and_scaling() {
    let x = matrix(2, &[1.0, 2.0, 3.0, 4.0]);
    let attrs = [("coefficients", floats(&[1.0, -1.0])), ("intercepts", floats(&[0.25]))];
    let y = run("LinearRegressor", &attrs, &[&x]).unwrap();
    assert_eq!(y[0].as_slice::<f32>().unwrap(), [-0.75, -0.75]);
    let attrs = [("offset", floats(&[1.0, 0.0])), ("scale", floats(&[2.0]))];
    let y = run("Scaler", &attrs, &[&x]).unwrap();
    assert_eq!(y[0].as_slice::<f32>().unwrap(), [0.0, 4.0, 4.0, 8.0]);
    let y = run("Normalizer", &[("norm", Attr::Str(b"L1".to_vec()))], &[&matrix(2, &[1.0, -3.0, 0.0, 0.0])]);
    assert_eq!(y.unwrap()[0].as_slice::<f32>().unwrap(), [0.25, -0.75, 0.0, 0.0]);
    let attrs = [
        ("coefficients", floats(&[-1.0, 0.0, 1.0, 0.0])),
        ("intercepts", floats(&[0.0, -2.0])),
        ("classlabels_ints", ints(&[7, 9])),
    ];
    let y = run("LinearClassifier", &attrs, &[&x]).unwrap();
    assert_eq!(y[0].as_slice::<i64>().unwrap(), [7, 9]);
    assert!(run("LinearRegressor", &[("coefficients", floats(&[1.0]))], &[&x]).is_err());
}

#[test]
fn labels() {
    let x = Tensor::vector(vec![1_i64, 5, 2]);
    let attrs = [("keys_int64s", ints(&[1, 2])), ("values_strings", strs(&["a", "b"]))];
    let y = run("LabelEncoder", &attrs, &[&x]).unwrap();
    assert_eq!(y[0].as_slice::<String>().unwrap(), ["a", "_Unused", "b"]);
    let attrs = [("keys_floats", floats(&[f32::NAN, 0.0])), ("values_int64s", ints(&[3, 4]))];
    let y = run("LabelEncoder", &attrs, &[&Tensor::vector(vec![f32::NAN, -0.0, 1.0])]).unwrap();
    assert_eq!(y[0].as_slice::<i64>().unwrap(), [3, 4, -1]);
    let y = run("OneHotEncoder", &[("cats_int64s", ints(&[2, 1]))], &[&x]).unwrap();
    assert_eq!(y[0].as_slice::<f32>().unwrap(), [0.0, 1.0, 0.0, 0.0, 1.0, 0.0]);
    assert!(run("OneHotEncoder", &[("cats_int64s", ints(&[2])), ("zeros", Attr::Int(0))], &[&x]).is_err());
    let y = run("ArrayFeatureExtractor", &[], &[&matrix(2, &[1., 2., 3., 4.]), &Tensor::vector(vec![1_i64])]);
    assert_eq!(y.unwrap()[0].as_slice::<f32>().unwrap(), [2.0, 4.0]);
}
