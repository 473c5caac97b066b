//! Operators of onnxruntime's domain `com.microsoft`, and those that it writes into `ai.onnx` before ONNX has them, as functions of ONNX's own
//! operators (`model.md` §2): what its quantiser and its optimiser write. A call is expanded like that of a function in the file, so nothing behind the importer knows them.
//!
//! To add one, add a row.

use std::collections::BTreeSet;

use super::{ImportError, proto};

/// The domain.
pub(super) const DOMAIN: &str = "com.microsoft";
/// Operators that onnxruntime puts into `ai.onnx`, whatever opset the file says.
pub(super) const EARLY: &[&str] = &["LayerNormalization", "SimplifiedLayerNormalization"];
/// The opset of `ai.onnx` that bodies are written in.
const OPSET: i64 = 23;

/// One operator.
struct Row {
    name: &'static str,
    /// Formal inputs; the last one repeats where its name ends in `*`.
    inputs: &'static str,
    outputs: &'static str,
    /// Attributes that the body refers to, with defaults: `name` or `name=default`.
    attrs: &'static str,
    /// Attributes that must be this where they are given; of several rows of one name the first counts for which they are.
    fixed: &'static [(&'static str, f32)],
    /// Nodes: `outputs = Operator inputs attributes`. `@name` is an attribute of the call, `1-@name` the opposite of one that is 0 or 1, `matrices` FusedMatMul's equation. A node whose first
    /// input the call leaves out is left out itself; `Op?` passes its first input on where the second is left out.
    body: &'static [&'static str],
}

/// `y = f(x)` between DequantizeLinear and QuantizeLinear.
const ONE: &str = "x x_scale x_zero y_scale y_zero";
const FROM: &str = "a = DequantizeLinear x x_scale x_zero";
const TO: &str = "y = QuantizeLinear z y_scale y_zero";
const TWO: &str = "a a_scale a_zero b b_scale b_zero y_scale y_zero";
const LEFT: &str = "c = DequantizeLinear a a_scale a_zero";
const RIGHT: &str = "d = DequantizeLinear b b_scale b_zero";
const LAST: &[(&str, f32)] = &[("channels_last", 0.0)];

#[rustfmt::skip]
const ROWS: &[Row] = &[
    Row { name: "QLinearAdd", inputs: TWO, outputs: "y", attrs: "", fixed: &[], body: &[LEFT, RIGHT, "z = Add c d", TO] },
    Row { name: "QLinearMul", inputs: TWO, outputs: "y", attrs: "", fixed: &[], body: &[LEFT, RIGHT, "z = Mul c d", TO] },
    Row { name: "QLinearWhere", inputs: "condition a a_scale a_zero b b_scale b_zero y_scale y_zero", outputs: "y", attrs: "", fixed: &[], body: &[
        LEFT, RIGHT, "z = Where condition c d", TO] },
    Row { name: "QLinearSigmoid", inputs: ONE, outputs: "y", attrs: "", fixed: &[], body: &[FROM, "z = Sigmoid a", TO] },
    Row { name: "QLinearLeakyRelu", inputs: ONE, outputs: "y", attrs: "alpha=0.01", fixed: &[], body: &[FROM, "z = LeakyRelu a alpha=@alpha", TO] },
    Row { name: "QLinearSoftmax", inputs: ONE, outputs: "y", attrs: "axis=-1 opset=13", fixed: &[], body: &[FROM, "z = Softmax a axis=@axis", TO] },
    Row { name: "QLinearReduceMean", inputs: ONE, outputs: "y", attrs: "axes keepdims", fixed: &[], body: &[FROM, "z = ReduceMean a axes=@axes keepdims=@keepdims", TO] },
    Row { name: "QLinearGlobalAveragePool", inputs: ONE, outputs: "y", attrs: "", fixed: LAST, body: &[FROM, "z = GlobalAveragePool a", TO] },
    Row { name: "QLinearAveragePool", inputs: ONE, outputs: "y", attrs: "auto_pad ceil_mode count_include_pad kernel_shape pads strides", fixed: LAST, body: &[
        FROM, "z = AveragePool a auto_pad=@auto_pad ceil_mode=@ceil_mode count_include_pad=@count_include_pad kernel_shape=@kernel_shape pads=@pads strides=@strides", TO] },
    Row { name: "QLinearConcat", inputs: "y_scale y_zero part*", outputs: "y", attrs: "axis", fixed: &[], body: &["z = Concat part* axis=@axis", TO] },
    // The bias stands on the product of both scales.
    Row { name: "QGemm", inputs: "a a_scale a_zero b b_scale b_zero bias y_scale y_zero", outputs: "y", attrs: "transA transB", fixed: &[("alpha", 1.0)], body: &[
        LEFT, "d = DequantizeLinear b b_scale b_zero axis=1-@transB", "e = Cast bias to=1", "f = Mul a_scale b_scale", "g = Mul e f", "z = Gemm c d g transA=@transA transB=@transB",
        "y = QuantizeLinear? z y_scale y_zero"] },
    Row { name: "DynamicQuantizeMatMul", inputs: "a b b_scale b_zero bias", outputs: "y", attrs: "", fixed: &[], body: &[
        "q,s,n = DynamicQuantizeLinear a", "c = MatMulInteger q b n b_zero", "d = Cast c to=1", "e = Mul s b_scale", "f = Mul d e", "y = Add? f bias"] },
    Row { name: "MatMulIntegerToFloat", inputs: "a b a_scale b_scale a_zero b_zero bias", outputs: "y", attrs: "", fixed: &[], body: &[
        "c = MatMulInteger a b a_zero b_zero", "d = Cast c to=1", "e = Mul a_scale b_scale", "f = Mul d e", "y = Add? f bias"] },
    Row { name: "Gelu", inputs: "x", outputs: "y", attrs: "", fixed: &[], body: &["y = Gelu x"] },
    Row { name: "BiasGelu", inputs: "x bias", outputs: "y", attrs: "", fixed: &[], body: &["z = Add x bias", "y = Gelu z"] },
    Row { name: "FastGelu", inputs: "x bias", outputs: "y", attrs: "", fixed: &[], body: &["z = Add? x bias", "y = Gelu z approximate=tanh"] },
    Row { name: "SkipLayerNormalization", inputs: "x skip gamma beta bias", outputs: "y mean deviation sum", attrs: "epsilon=1e-12", fixed: &[], body: &[
        "a = Add x skip", "sum = Add? a bias", "y = LayerNormalization sum gamma beta axis=-1 epsilon=@epsilon"] },
    Row { name: "LayerNormalization", inputs: "x gamma beta", outputs: "y mean deviation", attrs: "axis=-1 epsilon=1e-5 stash_type", fixed: &[], body: &[
        "y = LayerNormalization x gamma beta axis=@axis epsilon=@epsilon stash_type=@stash_type"] },
    Row { name: "SimplifiedLayerNormalization", inputs: "x gamma", outputs: "y deviation", attrs: "axis=-1 epsilon=1e-5 stash_type", fixed: &[], body: &[
        "y = RMSNormalization x gamma axis=@axis epsilon=@epsilon stash_type=@stash_type"] },
    Row { name: "SkipSimplifiedLayerNormalization", inputs: "x skip gamma bias", outputs: "y mean deviation sum", attrs: "epsilon=1e-12", fixed: &[], body: &[
        "a = Add x skip", "sum = Add? a bias", "y = RMSNormalization sum gamma axis=-1 epsilon=@epsilon"] },
    Row { name: "FusedMatMul", inputs: "a b", outputs: "y", attrs: "alpha=1.0", fixed: &[("transA", 0.0), ("transB", 0.0), ("transBatchA", 0.0), ("transBatchB", 0.0)], body: &[
        "c = MatMul a b", "s = Constant value_float=@alpha", "y = Mul c s"] },
    Row { name: "FusedMatMul", inputs: "a b", outputs: "y", attrs: "alpha=1.0 transA transB transBatchA transBatchB", fixed: &[], body: &[
        "c = Einsum a b equation=matrices", "s = Constant value_float=@alpha", "y = Mul c s"] },
    Row { name: "FusedConv", inputs: "x w bias", outputs: "y", attrs: "activation activation_params auto_pad dilations group kernel_shape pads strides", fixed: &[], body: &[
        "z = Conv x w bias auto_pad=@auto_pad dilations=@dilations group=@group kernel_shape=@kernel_shape pads=@pads strides=@strides", "y = @activation z"] },
    Row { name: "FusedGemm", inputs: "a b c", outputs: "y", attrs: "activation activation_alpha activation_beta alpha beta transA transB", fixed: &[], body: &[
        "z = Gemm a b c alpha=@alpha beta=@beta transA=@transA transB=@transB", "y = @activation z"] },
];

/// What a fused node may end in, and the attributes (of Clip the inputs) that its parameters are.
const ACTIVATIONS: &[(&str, &[&str])] = &[
    ("Clip", &["min", "max"]),
    ("HardSigmoid", &["alpha", "beta"]),
    ("HardSwish", &[]),
    ("LeakyRelu", &["alpha"]),
    ("Relu", &[]),
    ("Sigmoid", &[]),
    ("Tanh", &[]),
];

/// Operator `op` as a function for a call with these inputs and attributes, if it is one of the table's.
pub(super) fn function(
    op: &str,
    inputs: &[String],
    attrs: &[proto::Attribute],
    label: &str,
) -> Result<Option<proto::Function>, ImportError> {
    let mut rows = ROWS.iter().filter(|row| row.name == op).peekable();
    if rows.peek().is_none() {
        return Ok(None);
    }
    let call = inputs;
    let given = |name: &str| attrs.iter().find(|attribute| attribute.name == name);
    let refuse = |attribute: &str| ImportError::UnsupportedAttribute {
        node: label.to_owned(),
        op: op.to_owned(),
        version: 1,
        attribute: attribute.to_owned(),
    };
    let is = |given: &proto::Attribute, value: f32| {
        given.f.or(given.i.map(|i| i as f32)).is_some_and(|given| given == value)
    };
    let wrong = |row: &Row| {
        let other = |(name, value): &&(&str, f32)| given(name).is_some_and(|given| !is(given, *value));
        row.fixed.iter().find(other).map_or("", |(name, _)| *name)
    };
    // The first that the attributes allow.
    let mut named = "";
    let row = rows.find(|row| {
        named = wrong(row);
        named.is_empty()
    });
    let Some(row) = row else { return Err(refuse(named)) };
    let formal = || row.attrs.split_whitespace().map(|text| text.split_once('=').unwrap_or((text, "")));
    // Until version 13 Softmax took everything from its axis on as one row.
    let old = given("opset").is_some_and(|opset| opset.i.is_some_and(|opset| opset < 13));
    let mut function = proto::Function {
        name: row.name.to_owned(),
        output: row.outputs.split_whitespace().map(str::to_owned).collect(),
        attribute: formal()
            .map(|(name, _)| name)
            .chain(row.fixed.iter().map(|(name, _)| *name))
            .map(str::to_owned)
            .collect(),
        attribute_proto: formal()
            .filter(|(_, text)| !text.is_empty())
            .map(|(name, text)| literal(name, text))
            .collect(),
        opset_import: vec![proto::OperatorSetId {
            domain: None,
            version: Some(if old { 11 } else { OPSET }),
        }],
        domain: DOMAIN.to_owned(),
        ..Default::default()
    };
    let mut parts = Vec::new();
    for name in row.inputs.split_whitespace() {
        if !name.ends_with('*') {
            function.input.push(name.to_owned());
            continue;
        }
        // Integers, scale and zero point, again and again.
        for at in 0..call.len().saturating_sub(function.input.len()).div_ceil(3) {
            let inputs = ["x", "scale", "zero"].map(|role| format!("{role}{at}")).to_vec();
            parts.push(format!("part{at}"));
            function.input.extend(inputs.iter().cloned());
            let output = vec![format!("part{at}")];
            function.node.push(apply("DequantizeLinear", inputs, output, Vec::new()));
        }
    }
    let left_out =
        |(index, name): (usize, &String)| call.get(index).is_none_or(String::is_empty).then(|| name.clone());
    let mut gone: BTreeSet<String> = function.input.iter().enumerate().filter_map(left_out).collect();
    for line in row.body {
        let Some((outputs, right)) = line.split_once(" = ") else { continue };
        let outputs: Vec<String> = outputs.split(',').map(str::to_owned).collect();
        let mut words = right.split_whitespace();
        let op = words.next().unwrap_or_default();
        let (mut inputs, mut attributes) = (Vec::new(), Vec::new());
        for word in words {
            match word.split_once('=') {
                None if word.ends_with('*') => inputs.extend(parts.iter().cloned()),
                None => inputs.push(word.to_owned()),
                Some((name, "matrices")) => {
                    let set = |flag: &str| given(flag).is_some_and(|given| is(given, 1.0));
                    attributes.push(literal(name, &matrices(set)));
                }
                Some((name, text)) => attributes.push(match text.split_once('@') {
                    Some(("", of)) => refer(name, of),
                    Some((_, of)) => {
                        literal(name, if given(of).is_some_and(|of| of.i == Some(1)) { "0" } else { "1" })
                    }
                    None => literal(name, text),
                }),
            }
        }
        if inputs.first().is_some_and(|first| gone.contains(first)) {
            gone.extend(outputs);
            continue;
        }
        let op = match (op.strip_suffix('?'), op.strip_prefix('@')) {
            (Some(_), _) if inputs.get(1).is_some_and(|second| gone.contains(second)) => {
                inputs.truncate(1);
                "Identity"
            }
            (Some(op), _) => op,
            (_, Some(name)) => {
                let named = given(name).and_then(|given| given.s.as_deref()).unwrap_or_default();
                let found = ACTIVATIONS.iter().find(|(op, _)| op.as_bytes() == named);
                let (op, parameters) = found.ok_or_else(|| refuse(name))?;
                // A list, or an attribute for each.
                let list = given("activation_params").map_or(&[][..], |given| &given.floats);
                for (index, parameter) in parameters.iter().enumerate() {
                    let one = || given(&format!("activation_{parameter}"))?.f;
                    let Some(value) = list.get(index).copied().or_else(one) else { continue };
                    if *op == "Clip" {
                        let constant = vec![float("value_float", value)];
                        function.node.push(apply(
                            "Constant",
                            vec![],
                            vec![(*parameter).to_owned()],
                            constant,
                        ));
                        inputs.push((*parameter).to_owned());
                    } else {
                        attributes.push(float(parameter, value));
                    }
                }
                op
            }
            _ => op,
        };
        inputs.iter_mut().filter(|input| gone.contains(*input)).for_each(String::clear);
        function.node.push(apply(op, inputs, outputs, attributes));
    }
    Ok(Some(function))
}

/// A product of matrices as Einsum's equation. `transBatch` puts an operand's first axis behind its batch.
fn matrices(set: impl Fn(&str) -> bool) -> String {
    let term = |side: char, [mut first, mut last]: [char; 2]| {
        if set(&format!("trans{side}")) {
            (first, last) = (last, first);
        }
        if set(&format!("transBatch{side}")) {
            format!("{first}...{last}")
        } else {
            format!("...{first}{last}")
        }
    };
    format!("{},{}->...ij", term('A', ['i', 'k']), term('B', ['k', 'j']))
}

fn apply(op: &str, input: Vec<String>, output: Vec<String>, attribute: Vec<proto::Attribute>) -> proto::Node {
    proto::Node { op_type: op.to_owned(), input, output, attribute, ..Default::default() }
}

/// The call's attribute `of` as attribute `name`.
fn refer(name: &str, of: &str) -> proto::Attribute {
    proto::Attribute { name: name.to_owned(), ref_attr_name: of.to_owned(), ..Default::default() }
}

fn float(name: &str, value: f32) -> proto::Attribute {
    proto::Attribute { name: name.to_owned(), f: Some(value), r#type: 1, ..Default::default() }
}

/// An integer, a float or a word.
fn literal(name: &str, text: &str) -> proto::Attribute {
    let attribute = proto::Attribute { name: name.to_owned(), ..Default::default() };
    match (text.parse(), text.parse()) {
        (Ok(i), _) => proto::Attribute { i: Some(i), r#type: 2, ..attribute },
        (_, Ok(f)) => float(name, f),
        _ => proto::Attribute { s: Some(text.as_bytes().to_vec()), r#type: 3, ..attribute },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::schema;
    use crate::ops::Domain;

    /// Every name that a body reads is defined before, and every operator is one of ONNX.
    #[test]
    fn bodies_are_whole() {
        for row in ROWS {
            let activation = literal("activation", "Relu");
            let names: Vec<String> = row.inputs.split_whitespace().map(str::to_owned).collect();
            let function = function(row.name, &names, &[activation], "node").unwrap().unwrap();
            let mut known: BTreeSet<&str> = function.input.iter().map(String::as_str).collect();
            for node in &function.node {
                assert!(
                    node.input.iter().all(|name| known.contains(name.as_str())),
                    "{}: {node:?}",
                    row.name
                );
                assert!(
                    schema::in_force(Domain::Onnx, &node.op_type, OPSET as u32).is_some(),
                    "{}",
                    node.op_type
                );
                known.extend(node.output.iter().map(String::as_str));
            }
            assert!(known.contains("y"), "{}", row.name);
        }
    }
}
