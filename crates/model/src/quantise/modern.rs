//! Operators that stay as they are, in the form that they have in the opset of the file that is written.

use hallmark_receipt::Tensor;

use super::QuantiseError;
use super::source::Source;
use crate::graph::{Attr, Dim, Node};
use crate::ops::index::wrap;

/// The opset of `ai.onnx` that quantised files are written in.
pub(super) const OPSET: u32 = 21;

/// A node's attributes and the constants that take the place of attributes: the input that each becomes.
pub(super) struct Modern {
    pub attrs: Vec<(String, Attr)>,
    pub inputs: Vec<(usize, Tensor)>,
}

/// The form of `node` in [`OPSET`], where it means the same.
pub(super) fn modern(source: &Source, node: &Node) -> Result<Modern, QuantiseError> {
    let mut attrs: Vec<_> = node.attrs.0.iter().map(|(name, attr)| (name.clone(), attr.clone())).collect();
    let mut inputs = Vec::new();
    // Lists of integers that later versions take as inputs.
    let moved: &[(&str, usize)] = match (node.op.name, node.version) {
        ("Squeeze" | "Unsqueeze", ..13) => &[("axes", 1)],
        ("ReduceL2" | "ReduceMax" | "ReduceMean" | "ReduceMin", ..18) => &[("axes", 1)],
        ("ReduceSum", ..13) => &[("axes", 1)],
        ("Split", ..13) => &[("split", 1)],
        ("Slice", ..10) => &[("starts", 1), ("ends", 2), ("axes", 3)],
        ("Pad", ..11) => &[("pads", 1)],
        _ => &[],
    };
    for (name, index) in moved {
        if let Some(list) = node.attrs.ints(name) {
            inputs.push((*index, Tensor::vector(list.to_vec())));
        }
        attrs.retain(|(other, _)| other != name);
    }
    match (node.op.name, node.version) {
        ("Pad", ..11) => attrs.retain(|(name, _)| name != "value"),
        // Before version 13 everything from the axis on was one row.
        ("Softmax" | "LogSoftmax" | "Hardmax", ..13) => {
            let axis = node.attrs.int("axis", 1);
            let rank = Source::input(node, 0).and_then(|id| source.dims(id)).map(<[Dim]>::len);
            if rank.is_none_or(|rank| wrap(axis, rank) != rank.checked_sub(1)) {
                let why = "before version 13 its meaning is the present one only over the last axis";
                return Err(QuantiseError::unsupported(node, why));
            }
            attrs.retain(|(name, _)| name != "axis");
            attrs.push(("axis".to_owned(), Attr::Int(-1)));
        }
        ("Split", 18..) if node.attrs.opt_int("num_outputs").is_none() && node.inputs.len() < 2 => {
            attrs.push(outputs(node));
        }
        // Without sizes the parts are equal, and their number must be said now.
        ("Split", ..18) if node.attrs.ints("split").is_none() && node.inputs.len() < 2 => {
            attrs.push(outputs(node));
        }
        _ => {}
    }
    Ok(Modern { attrs, inputs })
}

fn outputs(node: &Node) -> (String, Attr) {
    ("num_outputs".to_owned(), Attr::Int(i64::try_from(node.outputs.len()).unwrap_or(i64::MAX)))
}
