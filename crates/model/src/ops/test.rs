//! Runs one operator in tests.

use std::collections::BTreeMap;

use hallmark_receipt::Tensor;

use super::{Domain, EvalCx, OpError, find};
use crate::graph::{Attr, Attrs, Node, ValueId};

/// Evaluates `name` at its greatest version that is at most `version`.
pub fn eval(
    name: &str,
    version: u32,
    attrs: &[(&str, Attr)],
    inputs: &[Option<&Tensor>],
) -> Result<Vec<Tensor>, OpError> {
    eval_in(Domain::Onnx, name, version, attrs, inputs)
}

fn eval_in(
    domain: Domain,
    name: &str,
    version: u32,
    attrs: &[(&str, Attr)],
    inputs: &[Option<&Tensor>],
) -> Result<Vec<Tensor>, OpError> {
    let op = find(domain, name).expect("the operator has a row");
    let version = *op.versions.iter().rfind(|&&v| v <= version).expect("a version that old");
    for (name, _) in attrs {
        assert!(op.attrs.contains(name), "{name} is not listed");
    }
    let node = Node {
        name: String::new(),
        op,
        version,
        attrs: Attrs(attrs.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect::<BTreeMap<_, _>>()),
        inputs: inputs.iter().enumerate().map(|(i, t)| t.map(|_| ValueId(i))).collect(),
        declared_inputs: inputs.len(),
        outputs: vec![],
    };
    (op.eval)(&EvalCx { node: &node, inputs, budget: 1 << 30 })
}

/// [`eval`] of an operator of one output, at its latest version.
pub fn one(name: &str, attrs: &[(&str, Attr)], inputs: &[&Tensor]) -> Tensor {
    let inputs: Vec<Option<&Tensor>> = inputs.iter().copied().map(Some).collect();
    eval(name, u32::MAX, attrs, &inputs).expect("the operator runs").swap_remove(0)
}

/// [`eval`] in the domain `ai.hallmark`.
pub fn hallmark(name: &str, attrs: &[(&str, Attr)], inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
    let inputs: Vec<Option<&Tensor>> = inputs.iter().copied().map(Some).collect();
    eval_in(Domain::Hallmark, name, 1, attrs, &inputs)
}

/// [`hallmark`] of an operator that runs.
pub fn hallmark_one(name: &str, attrs: &[(&str, Attr)], inputs: &[&Tensor]) -> Tensor {
    hallmark(name, attrs, inputs).expect("the operator runs").swap_remove(0)
}
