use super::*;
use crate::graph::{Dim, ValueId};
use hallmark_receipt::{DType, Tensor};

/// A graph over float32 `x` of shape [N, 4] with output `y`, opset 17.
fn model(nodes: Vec<proto::Node>) -> proto::Model {
    proto::Model {
        ir_version: Some(8),
        graph: Some(proto::Graph {
            node: nodes,
            input: vec![float("x", &["N", "4"])],
            output: vec![proto::ValueInfo { name: "y".into(), r#type: None }],
            ..Default::default()
        }),
        opset_import: vec![opset("", 17)],
        functions: Vec::new(),
    }
}

fn opset(domain: &str, version: i64) -> proto::OperatorSetId {
    proto::OperatorSetId { domain: Some(domain.into()), version: Some(version) }
}

fn float(name: &str, dims: &[&str]) -> proto::ValueInfo {
    let dim = |text: &&str| {
        let value = match text.parse() {
            Ok(n) => proto::DimensionValue::Value(n),
            Err(_) => proto::DimensionValue::Param((*text).into()),
        };
        proto::Dimension { value: Some(value) }
    };
    let shape = Some(proto::Shape { dim: dims.iter().map(dim).collect() });
    let kind = Some(proto::TypeKind::Tensor(proto::TensorType { elem_type: 1, shape }));
    proto::ValueInfo { name: name.into(), r#type: Some(proto::Type { kind }) }
}

fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> proto::Node {
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    proto::Node {
        op_type: op.into(),
        name: format!("the {op}"),
        input: names(inputs),
        output: names(outputs),
        ..Default::default()
    }
}

fn floats(name: &str, values: &[f32]) -> proto::Tensor {
    proto::Tensor {
        name: name.into(),
        dims: vec![values.len() as i64],
        data_type: 1,
        float_data: values.to_vec(),
        ..Default::default()
    }
}

fn read(model: &proto::Model) -> Result<Graph, ImportError> {
    import(&model.encode_to_vec(), &NoExternalData, &Limits::default())
}

fn edit(change: impl FnOnce(&mut proto::Model)) -> Result<Graph, ImportError> {
    let mut model = model(vec![node("Relu", &["x"], &["y"])]);
    change(&mut model);
    read(&model)
}

#[test]
fn one_node() {
    let graph = edit(|_| {}).unwrap();
    assert_eq!(graph.nodes.len(), 1);
    let (node, output) = (&graph.nodes[0], &graph.values[graph.outputs[0].0]);
    assert_eq!((node.op.name, node.version), ("Relu", 14));
    assert_eq!(output.name, "y");
    assert_eq!(output.info.dtype, Some(DType::F32));
    assert_eq!(output.info.shape, Some(vec![Dim::Symbol("N".into()), Dim::Known(4)]));
    let x = Tensor::from_vec(vec![1, 4], vec![-1_f32, 0.0, 2.0, f32::NAN]).unwrap();
    let y = crate::reference::run(&graph, &[&x], 1 << 20).unwrap();
    assert!(y[0].same_bits(&Tensor::from_vec(vec![1, 4], vec![0_f32, 0.0, 2.0, f32::NAN]).unwrap()));
}

#[test]
fn order_names_dead_nodes_and_renaming_nodes_leave_no_trace() {
    let plain = read(&model(vec![node("Relu", &["x"], &["h"]), node("Relu", &["h"], &["y"])])).unwrap();
    let mut other = model(vec![
        node("Identity", &["b"], &["y"]),
        node("Relu", &["a"], &["dead"]),
        node("Relu", &["a2"], &["b"]),
        node("Dropout", &["a"], &["a2"]),
        node("Relu", &["x"], &["a"]),
    ]);
    other.graph.as_mut().unwrap().initializer.push(floats("unused", &[1.0]));
    let other = read(&other).unwrap();
    let shape = |graph: &Graph| -> Vec<_> {
        graph.nodes.iter().map(|n| (n.op.name, n.inputs.clone(), n.outputs.clone())).collect()
    };
    assert_eq!(shape(&plain), shape(&other));
    assert_eq!(other.values.len(), 3);
    assert_eq!(other.outputs, [ValueId(2)]);
}
