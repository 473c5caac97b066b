use super::*;
use crate::graph::{Dim, ValueId};
use hallmark_receipt::{DType, Tensor};

mod random;

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

/// Node, in a model of it alone.
fn one(node: proto::Node) -> ImportError {
    read(&model(vec![node])).unwrap_err()
}

fn attribute(name: &str, r#type: i32) -> proto::Attribute {
    proto::Attribute { name: name.into(), r#type, ..Default::default() }
}

fn with_attribute(mut node: proto::Node, attribute: proto::Attribute) -> proto::Node {
    node.attribute.push(attribute);
    node
}

/// The error of a model with `tensor` added to its initializers.
fn with_tensor(tensor: proto::Tensor) -> ImportError {
    edit(|model| model.graph.as_mut().unwrap().initializer.push(tensor)).unwrap_err()
}

fn external(entries: &[(&str, &str)]) -> proto::Tensor {
    let entry =
        |(key, value): &(&str, &str)| proto::StringStringEntry { key: (*key).into(), value: (*value).into() };
    proto::Tensor {
        float_data: Vec::new(),
        data_location: 1,
        external_data: entries.iter().map(entry).collect(),
        ..floats("w", &[1.0])
    }
}

#[test]
fn bytes_that_are_no_model() {
    let limits = Limits::default();
    let of = |bytes: &[u8]| import(bytes, &NoExternalData, &limits).unwrap_err();
    assert_eq!(of(b""), ImportError::NoGraph);
    assert_eq!(of(&[0x3a, 0x80]), ImportError::Truncated { offset: 1 });
    assert_eq!(of(&[0x3a, 5, 0]), ImportError::Truncated { offset: 2 });
    assert_eq!(of(&[0x00]), ImportError::Wire { offset: 1, what: "field number 0" });
    assert_eq!(of(&[0x3b]), ImportError::Wire { offset: 1, what: "wire type" });
    assert_eq!(of(&[0xff; 11]), ImportError::Wire { offset: 0, what: "variable-length integer" });
    // Field 7 (the graph) as a number instead of a message.
    assert!(matches!(of(&[0x38, 1]), ImportError::Malformed { .. }));

    let bytes = model(vec![node("Relu", &["x"], &["y"])]).encode_to_vec();
    let small = Limits { bytes: bytes.len() - 1, ..Limits::default() };
    let error = import(&bytes, &NoExternalData, &small).unwrap_err();
    assert_eq!(error, ImportError::FileTooLarge { got: bytes.len(), limit: bytes.len() - 1 });
    for cut in 1..bytes.len() {
        assert!(import(&bytes[..cut], &NoExternalData, &limits).is_err(), "{cut}");
    }
}

#[test]
fn two_bytes_of_wire_cannot_ask_for_more_than_the_limit() {
    let graph = [0x0a, 0].repeat(3000);
    let mut bytes = vec![0x3a];
    prost::encoding::encode_varint(graph.len() as u64, &mut bytes);
    bytes.extend(graph);
    let small = Limits { messages: 1000, ..Limits::default() };
    let error = import(&bytes, &NoExternalData, &small).unwrap_err();
    assert_eq!(error, ImportError::TooManyMessages { limit: 1000 });

    // Node, attribute, graph, node, ...: each level takes a few bytes.
    let mut inner = Vec::new();
    for level in 0..120 {
        let key = [0x0a, 0x2a, 0x32][(119 - level) % 3];
        let mut outer = vec![key];
        prost::encoding::encode_varint(inner.len() as u64, &mut outer);
        outer.extend(inner);
        inner = outer;
    }
    let mut bytes = vec![0x3a];
    prost::encoding::encode_varint(inner.len() as u64, &mut bytes);
    bytes.extend(inner);
    let error = import(&bytes, &NoExternalData, &Limits::default()).unwrap_err();
    assert!(matches!(error, ImportError::MessagesTooDeep { .. }), "{error}");
}

#[test]
fn opsets_and_operators() {
    let range = |domain: &str, got| ImportError::OpsetRange {
        domain: domain.into(),
        got,
        oldest: 7,
        newest: schema::newest(Domain::Onnx),
    };
    for version in [6, 29, 0, -1, i64::MAX] {
        let error = edit(|model| model.opset_import = vec![opset("", version)]).unwrap_err();
        assert_eq!(error, range("ai.onnx", version));
    }
    let error = edit(|model| model.opset_import.push(opset("ai.onnx", 16))).unwrap_err();
    assert_eq!(error, ImportError::DuplicateOpset { domain: "".into() });
    assert!(edit(|model| model.opset_import.push(opset("ai.onnx", 17))).is_ok());
    let error = edit(|model| model.opset_import.clear()).unwrap_err();
    assert!(matches!(error, ImportError::OpsetMissing { ref node, .. } if node == "the Relu"));

    let error = one(node("Reluu", &["x"], &["y"]));
    assert_eq!(
        error.to_string(),
        "node `the Reluu`: operator `Reluu` of domain `ai.onnx` is unknown at opset 17"
    );
    let gelu = one(node("Gelu", &["x"], &["y"]));
    assert!(matches!(gelu, ImportError::UnknownOperator { opset: 17, .. }), "Gelu came with opset 20");
    let foreign = proto::Node { domain: "com.example".into(), ..node("Relu", &["x"], &["y"]) };
    assert!(matches!(one(foreign), ImportError::OpsetMissing { domain, .. } if domain == "com.example"));
    let gone = edit(|model| {
        model.opset_import = vec![opset("", 10)];
        model.graph.as_mut().unwrap().node = vec![node("Upsample", &["x", "x"], &["y"])];
    });
    assert!(matches!(gone, Err(ImportError::RemovedOperator { version: 10, opset: 10, .. })));
    assert!(matches!(one(node("Adagrad", &["x"], &["y"])), ImportError::UnknownOperator { .. }));
}

#[test]
fn rows_name_only_versions_and_attributes_that_onnx_has() {
    for op in crate::ops::FAMILIES.iter().copied().flatten() {
        for version in op.versions {
            let known = schema::versions(op.domain, op.name).iter().any(|schema| schema.since == *version);
            assert!(known, "{} {version}", op.name);
        }
        let attr_known = |attr: &&str| {
            let of = |schema: &schema::Schema| schema.attrs.iter().any(|(name, ..)| name == attr);
            schema::versions(op.domain, op.name).iter().any(of)
        };
        assert!(op.attrs.iter().all(attr_known), "{} {:?}", op.name, op.attrs);
    }
}

#[test]
fn attributes_and_counts() {
    let relu = || node("Relu", &["x"], &["y"]);
    let error = one(with_attribute(relu(), attribute("alpha", 1)));
    assert_eq!(error.to_string(), "node `the Relu`: operator `Relu` version 14 has no attribute `alpha`");
    let softmax = || node("Softmax", &["x"], &["y"]);
    let error = one(with_attribute(softmax(), attribute("axis", 1)));
    assert!(matches!(error, ImportError::AttributeType { got: 1, .. }));
    let smuggled = proto::Attribute { ints: vec![1], ..attribute("axis", 2) };
    assert!(matches!(one(with_attribute(softmax(), smuggled)), ImportError::AttributeType { .. }));
    let twice = with_attribute(with_attribute(softmax(), attribute("axis", 2)), attribute("axis", 2));
    assert!(matches!(one(twice), ImportError::DuplicateAttribute { .. }));
    let outside = proto::Attribute { ref_attr_name: "a".into(), ..attribute("axis", 2) };
    assert!(matches!(one(with_attribute(softmax(), outside)), ImportError::AttributeReference { .. }));
    assert!(matches!(
        one(node("Cast", &["x"], &["y"])),
        ImportError::MissingAttribute { attribute, .. } if attribute == "to"
    ));
    assert!(matches!(
        one(node("Relu", &["x", "x"], &["y"])),
        ImportError::InputCount { min: 1, max: 1, got: 2, .. }
    ));
    assert!(matches!(
        one(node("Relu", &["x"], &["y", "z"])),
        ImportError::OutputCount { min: 1, max: 1, got: 2, .. }
    ));
}

#[test]
fn names() {
    let undefined = one(node("Relu", &["nothing"], &["y"]));
    assert_eq!(undefined, ImportError::UndefinedInput { node: "the Relu".into(), name: "nothing".into() });
    let twice = read(&model(vec![node("Relu", &["x"], &["y"]), node("Abs", &["x"], &["y"])]));
    assert_eq!(twice.unwrap_err(), ImportError::DuplicateName { name: "y".into() });
    let input = one(node("Relu", &["x"], &["x"]));
    assert_eq!(input, ImportError::DuplicateName { name: "x".into() });
    let output = one(node("Relu", &["x"], &["z"]));
    assert_eq!(output, ImportError::UndefinedOutput { name: "y".into() });
    let cycle = read(&model(vec![node("Relu", &["b"], &["y"]), node("Abs", &["y"], &["b"])]));
    assert!(matches!(cycle.unwrap_err(), ImportError::Cycle { .. }));
    let renames = read(&model(vec![node("Identity", &["b"], &["y"]), node("Identity", &["y"], &["b"])]));
    assert!(matches!(renames.unwrap_err(), ImportError::Cycle { .. }));
    let none = edit(|model| model.graph.as_mut().unwrap().output.clear());
    assert_eq!(none.unwrap_err(), ImportError::NoOutput);
    let unnamed = edit(|model| model.graph.as_mut().unwrap().input.push(float("", &["1"])));
    assert_eq!(unnamed.unwrap_err(), ImportError::Unnamed { role: "input", index: 1 });
    let again = edit(|model| {
        model.graph.as_mut().unwrap().output.push(proto::ValueInfo { name: "y".into(), r#type: None })
    });
    assert_eq!(again.unwrap_err(), ImportError::DuplicateName { name: "y".into() });
}

#[test]
fn tensors() {
    let w = || floats("w", &[1.0, 2.0]);
    let fault = |tensor| match with_tensor(tensor) {
        ImportError::Tensor { what, .. } => what,
        other => panic!("{other}"),
    };
    assert!(matches!(
        with_tensor(proto::Tensor { dims: vec![3], ..w() }),
        ImportError::TensorLength { expected: 3, got: 2, .. }
    ));
    assert_eq!(
        with_tensor(proto::Tensor { dims: vec![-2], ..w() }),
        ImportError::TensorDimension { name: "w".into(), got: -2 }
    );
    for dims in [vec![1 << 40], vec![i64::MAX, i64::MAX], vec![1 << 20, 1 << 20]] {
        let error = with_tensor(proto::Tensor { dims, ..w() });
        assert!(matches!(error, ImportError::TensorTooLarge { .. }), "{error}");
    }
    for code in [0, 14, 17, 22, 99, -1] {
        let error = with_tensor(proto::Tensor { data_type: code, ..w() });
        assert_eq!(error, ImportError::TensorType { name: "w".into(), got: code });
    }
    assert_eq!(fault(proto::Tensor { raw_data: Some(vec![0; 8]), ..w() }), "has more than one data field");
    assert!(fault(proto::Tensor { segment: Some(proto::Segment {}), ..w() }).contains("segments"));
    assert!(fault(proto::Tensor { data_location: 7, ..w() }).contains("location"));
    let small = |data_type, int32_data| proto::Tensor {
        dims: vec![1],
        data_type,
        int32_data,
        float_data: Vec::new(),
        ..w()
    };
    for tensor in [small(3, vec![128]), small(2, vec![-1]), small(9, vec![2]), small(10, vec![65536])] {
        assert_eq!(fault(tensor), "has an element outside its data type");
    }
    let sparse = edit(|m| m.graph.as_mut().unwrap().sparse_initializer.push(proto::SparseTensor {}));
    assert!(matches!(sparse.unwrap_err(), ImportError::Sparse { .. }));
    let limits = Limits { constant_bytes: 7, ..Limits::default() };
    let mut model = model(vec![node("Relu", &["x"], &["y"])]);
    model.graph.as_mut().unwrap().initializer.push(w());
    let error = import(&model.encode_to_vec(), &NoExternalData, &limits).unwrap_err();
    assert_eq!(error, ImportError::ConstantsTooLarge { limit: 7 });
}

#[test]
fn external_paths_never_leave_the_folder() {
    for (path, fault) in [
        ("/etc/passwd", PathFault::Absolute),
        ("../w", PathFault::Parent),
        ("C:w", PathFault::Colon),
        ("a\\b", PathFault::Backslash),
    ] {
        let error = with_tensor(external(&[("location", path)]));
        assert_eq!(error, ImportError::ExternalPath { name: "w".into(), path: path.into(), fault });
    }
    let entry = |entries| match with_tensor(external(entries)) {
        ImportError::ExternalEntry { key, what, .. } => format!("{key} {what}"),
        other => panic!("{other}"),
    };
    assert_eq!(entry(&[]), "location is missing");
    assert_eq!(entry(&[("location", "w"), ("location", "v")]), "location is given twice");
    assert_eq!(entry(&[("location", "w"), ("offset", "-1")]), "offset is not a number");
    assert_eq!(entry(&[("location", "w"), ("length", "5")]), "length is not what type and dimensions need");
    assert_eq!(entry(&[("location", "w"), ("else", "5")]), "else is unknown");
    let missing = with_tensor(external(&[("location", "w"), ("offset", "0"), ("length", "4")]));
    assert!(matches!(missing, ImportError::External { source: ExternalDataError::Missing, .. }));
}

#[test]
fn onnxruntimes_operators_are_functions() {
    let build = |call: proto::Node| {
        let call = proto::Node { domain: "com.microsoft".into(), ..call };
        edit(|model| {
            model.opset_import.push(opset("com.microsoft", 1));
            let graph = model.graph.as_mut().unwrap();
            let zero = proto::Tensor { dims: vec![], data_type: 2, int32_data: vec![3], ..floats("z", &[]) };
            graph.initializer = vec![proto::Tensor { dims: vec![], ..floats("s", &[0.5]) }, zero];
            let from = node("QuantizeLinear", &["x", "s", "z"], &["q"]);
            graph.node = vec![from, call, node("DequantizeLinear", &["r", "s", "z"], &["y"])];
        })
    };
    let names = |call| -> Vec<&str> { build(call).unwrap().nodes.iter().map(|node| node.op.name).collect() };
    let add = node("QLinearAdd", &["q", "s", "z", "q", "s", "z", "s", "z"], &["r"]);
    let (on, off) = ("QuantizeLinear", "DequantizeLinear");
    assert_eq!(names(add), [on, off, off, "Add", on, off]);
    let named = |name: &str| proto::Attribute { name: name.into(), ..Default::default() };
    let axis = |i| proto::Attribute { i: Some(i), r#type: 2, ..named("axis") };
    let three = ["s", "z", "q", "s", "z", "q", "s", "z", "q", "s", "z"];
    let concat = proto::Node { attribute: vec![axis(1)], ..node("QLinearConcat", &three, &["r"]) };
    assert_eq!(names(concat), [on, off, off, off, "Concat", on, off]);
    let last = proto::Attribute { name: "channels_last".into(), ..axis(1) };
    let pool = node("QLinearGlobalAveragePool", &["q", "s", "z", "s", "z"], &["r"]);
    let error = build(proto::Node { attribute: vec![last], ..pool }).unwrap_err();
    assert!(matches!(error, ImportError::UnsupportedAttribute { .. }), "{error}");
    let error = build(node("NhwcMaxPool", &["q"], &["r"])).unwrap_err();
    assert!(matches!(error, ImportError::UnknownOperator { .. }), "{error}");
}

#[test]
fn fused_operators_are_functions() {
    let named = |name: &str| proto::Attribute { name: name.into(), ..Default::default() };
    let float = |name: &str, value| proto::Attribute { f: Some(value), r#type: 1, ..named(name) };
    let flag = |name: &str| proto::Attribute { i: Some(1), r#type: 2, ..named(name) };
    let word = |name: &str, value: &str| proto::Attribute { s: Some(value.into()), r#type: 3, ..named(name) };
    let build = |op, attribute| {
        let call = node(op, &["w", "w"], &["r"]);
        let call = proto::Node { domain: "com.microsoft".into(), attribute, ..call };
        edit(|model| {
            model.opset_import.push(opset("com.microsoft", 1));
            let graph = model.graph.as_mut().unwrap();
            let rank = if op == "FusedConv" { 3 } else { 2 };
            graph.initializer = vec![proto::Tensor { dims: vec![1; rank], ..floats("w", &[0.5]) }];
            graph.node = vec![call, node("Add", &["x", "r"], &["y"])];
        })
    };
    let names =
        |op, list| -> Vec<&str> { build(op, list).unwrap().nodes.iter().map(|node| node.op.name).collect() };
    assert_eq!(names("FusedGemm", vec![word("activation", "Relu")]), ["Gemm", "Relu", "Add"]);
    let leaky = vec![word("activation", "LeakyRelu"), float("activation_alpha", 0.5)];
    let leaky = build("FusedGemm", leaky).unwrap();
    assert_eq!(leaky.nodes[1].attrs.float("alpha", 0.01), 0.5);
    let params = proto::Attribute { floats: vec![0.0, 6.0], r#type: 7, ..named("activation_params") };
    let clipped = build("FusedConv", vec![word("activation", "Clip"), params]).unwrap();
    assert_eq!(clipped.nodes[1].inputs.len(), 3);
    assert!(build("FusedGemm", vec![word("activation", "Sqrt")]).is_err());
    assert_eq!(names("FusedMatMul", vec![float("alpha", 0.5)]), ["MatMul", "Mul", "Add"]);
    assert_eq!(names("FusedMatMul", vec![flag("transB")]), ["Einsum", "Mul", "Add"]);
}

#[test]
fn onnxruntimes_normalisations_stand_in_any_opset() {
    let build = |op, version| {
        let graph = edit(|model| {
            model.opset_import = vec![opset("", version)];
            let graph = model.graph.as_mut().unwrap();
            graph.initializer = vec![floats("gamma", &[1.0, 2.0, 3.0])];
            graph.node = vec![node(op, &["x", "gamma"], &["y"])];
        });
        graph.map(|graph| graph.nodes.iter().map(|node| node.op.name).collect::<Vec<_>>())
    };
    for version in [11, 16, 17] {
        assert_eq!(build("LayerNormalization", version).unwrap(), ["LayerNormalization"]);
        assert_eq!(build("SimplifiedLayerNormalization", version).unwrap(), ["RMSNormalization"]);
    }
    // What ONNX itself has later is in no earlier file.
    assert!(matches!(build("Gelu", 19).unwrap_err(), ImportError::UnknownOperator { .. }));
}

#[test]
fn functions_end() {
    let call = |name: &str| proto::Node { domain: "f".into(), ..node(name, &["x"], &["y"]) };
    let function = |name: &str, body: Vec<proto::Node>| proto::Function {
        name: name.into(),
        domain: "f".into(),
        input: vec!["x".into()],
        output: vec!["y".into()],
        node: body,
        opset_import: vec![opset("", 17), opset("f", 1)],
        ..Default::default()
    };
    let build = |functions: Vec<proto::Function>, limits: Limits| {
        let mut model = model(vec![call("a")]);
        model.opset_import.push(opset("f", 1));
        model.functions = functions;
        import(&model.encode_to_vec(), &NoExternalData, &limits)
    };
    let recursive =
        build(vec![function("a", vec![call("b")]), function("b", vec![call("a")])], Limits::default());
    assert_eq!(recursive.unwrap_err(), ImportError::RecursiveFunction { name: "a".into() });
    let twice = function("a", vec![node("Relu", &["x"], &["y"])]);
    let twice = build(vec![twice.clone(), twice], Limits::default());
    assert!(matches!(twice.unwrap_err(), ImportError::DuplicateFunction { .. }));

    // Each function calls the next one ten times: 10^9 nodes from a few hundred bytes.
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
    let mut functions = Vec::new();
    for (i, name) in names.iter().enumerate() {
        let inner = |k: usize| {
            let input = if k == 0 { "x".to_owned() } else { format!("t{k}") };
            let output = if k == 9 { "y".to_owned() } else { format!("t{}", k + 1) };
            match names.get(i + 1) {
                Some(next) => proto::Node { domain: "f".into(), ..node(next, &[&input], &[&output]) },
                None => node("Relu", &[&input], &[&output]),
            }
        };
        functions.push(function(name, (0..10).map(inner).collect()));
    }
    let limits = Limits { nodes: 5000, ..Limits::default() };
    assert_eq!(build(functions.clone(), limits).unwrap_err(), ImportError::TooManyNodes { limit: 5000 });
    let limits = Limits { depth: 4, ..Limits::default() };
    assert_eq!(build(functions, limits).unwrap_err(), ImportError::NestedTooDeep { limit: 4 });
}

#[test]
fn types_must_agree() {
    // A declared output shape is a hint, and inference knows better.
    assert!(edit(|m| m.graph.as_mut().unwrap().output[0] = float("y", &["N", "5"])).is_ok());
    let mut double = float("y", &["N", "4"]);
    if let Some(proto::TypeKind::Tensor(tensor)) = &mut double.r#type.as_mut().unwrap().kind {
        tensor.elem_type = 11;
    }
    let output = edit(|m| m.graph.as_mut().unwrap().output[0] = double.clone()).unwrap_err();
    assert!(matches!(output, ImportError::OutputType { expected: DType::F64, got: DType::F32, .. }));
    let input = edit(|m| {
        double.name = "z".into();
        let graph = m.graph.as_mut().unwrap();
        graph.input.push(double);
        graph.node = vec![node("Add", &["x", "z"], &["y"])];
    });
    assert!(matches!(
        input.unwrap_err(),
        ImportError::Infer(crate::infer::InferError::Node {
            source: crate::ops::OpError::InputType { index: 1, got: DType::F64 },
            ..
        })
    ));
    let negative = edit(|m| m.graph.as_mut().unwrap().input[0] = float("x", &["-1", "4"])).unwrap_err();
    assert_eq!(negative, ImportError::Dimension { name: "x".into(), got: -1 });
    let untyped = edit(|m| m.graph.as_mut().unwrap().input[0].r#type = None).unwrap_err();
    assert!(matches!(untyped, ImportError::ValueType { what: "no element type", .. }));
}

#[test]
fn results_above_the_limit_are_refused_before_they_exist() {
    // [2^20, 1] + [1, 2^20]
    let limits = Limits { value_elements: 1 << 30, ..Limits::default() };
    let mut model = model(vec![node("Add", &["x", "z"], &["y"])]);
    let graph = model.graph.as_mut().unwrap();
    graph.input = vec![float("x", &["1048576", "1"]), float("z", &["1", "1048576"])];
    let error = import(&model.encode_to_vec(), &NoExternalData, &limits).unwrap_err();
    assert!(matches!(error, ImportError::Infer(crate::infer::InferError::TooLarge { .. })), "{error}");
}

#[test]
fn every_nan_in_a_constant_is_the_one_nan() {
    let mut model = model(vec![node("Add", &["x", "w"], &["y"])]);
    let odd = f32::from_bits(0xffc1_2345);
    model.graph.as_mut().unwrap().initializer.push(floats("w", &[odd, 1.0, 2.0, 3.0]));
    let graph = read(&model).unwrap();
    let constant = graph.constants.values().next().unwrap().as_slice::<f32>().unwrap();
    assert_eq!(constant[0].to_bits(), 0x7fc0_0000);
}

#[test]
fn inputs_are_bound_by_name_and_checked() {
    use crate::graph::InputError;
    let mut model = model(vec![node("Add", &["x", "z"], &["y"])]);
    model.graph.as_mut().unwrap().input.push(float("z", &["N", "4"]));
    let graph = read(&model).unwrap();
    let of = |rows: usize, columns: usize| {
        Tensor::from_vec(vec![rows, columns], vec![rows as f32; rows * columns]).unwrap()
    };
    let bind = |inputs: &[(&str, Tensor)]| {
        let owned: Vec<_> = inputs.iter().map(|(name, t)| ((*name).to_owned(), t.clone())).collect();
        graph.bind_inputs(&owned).map(|bound| bound.into_iter().cloned().collect::<Vec<_>>())
    };
    assert_eq!(bind(&[("z", of(2, 4)), ("x", of(2, 4))]).unwrap().len(), 2);
    let name = || "z".to_owned();
    let x = || ("x", of(2, 4));
    assert_eq!(bind(&[x()]), Err(InputError::Missing { name: name() }));
    assert_eq!(bind(&[x(), ("z", of(2, 4)), ("w", of(2, 4))]), Err(InputError::Unknown { name: "w".into() }));
    assert_eq!(bind(&[x(), ("z", of(2, 4)), ("z", of(2, 4))]), Err(InputError::Twice { name: name() }));
    assert_eq!(
        bind(&[x(), ("z", of(2, 5))]),
        Err(InputError::Shape { name: name(), expected: "[N, 4]".into(), got: vec![2, 5] })
    );
    assert_eq!(
        bind(&[x(), ("z", of(3, 4))]),
        Err(InputError::Symbol { name: name(), symbol: "N".into(), first: 2, got: 3 })
    );
    let int = Tensor::from_vec(vec![2, 4], vec![0_i64; 8]).unwrap();
    let expected = InputError::Type { name: name(), expected: DType::F32, got: DType::I64 };
    assert_eq!(bind(&[x(), ("z", int)]), Err(expected));
}

#[test]
fn a_reshape_to_2_to_the_40_is_refused_before_anything_is_allocated() {
    let mut model = model(vec![node("Reshape", &["x", "s"], &["y"])]);
    let graph = model.graph.as_mut().unwrap();
    graph.input = vec![float("x", &["N", "M"])];
    graph.initializer.push(proto::Tensor {
        dims: vec![2],
        data_type: 7,
        float_data: Vec::new(),
        int64_data: vec![1 << 20, 1 << 20],
        ..floats("s", &[])
    });
    let error = read(&model).unwrap_err();
    let crate::infer::InferError::TooLarge { ref node, ref shape, .. } = (match error {
        ImportError::Infer(error) => error,
        other => panic!("{other}"),
    }) else {
        panic!("another error")
    };
    assert_eq!((node.as_str(), shape.as_slice()), ("the Reshape", &[1 << 20, 1 << 20][..]));
}

#[test]
fn shapes_computed_from_known_shapes_are_known() {
    // y = Reshape(x, Concat(Shape(x)[1:], [2]))
    let mut model = model(vec![
        with_attribute(
            node("Shape", &["x"], &["d"]),
            proto::Attribute { i: Some(1), ..attribute("start", 2) },
        ),
        with_attribute(node("Concat", &["d", "k"], &["s"]), attribute("axis", 2)),
        node("Reshape", &["x", "s"], &["y"]),
    ]);
    let graph = model.graph.as_mut().unwrap();
    graph.input = vec![float("x", &["N", "4"])];
    let two =
        proto::Tensor { data_type: 7, float_data: Vec::new(), int64_data: vec![2], ..floats("k", &[1.0]) };
    graph.initializer.push(two);
    let graph = read(&model).unwrap();
    let y = &graph.values[graph.outputs[0].0];
    assert_eq!(y.info.shape, Some(vec![Dim::Known(4), Dim::Known(2)]));
    assert_eq!(graph.nodes.len(), 3, "the nodes stay");
}

#[test]
fn long_names_are_cut_in_messages() {
    let long = proto::Node { name: "ü".repeat(5000), ..node("Relu", &["nothing"], &["y"]) };
    let ImportError::UndefinedInput { node, .. } = one(long) else { panic!("another error") };
    assert_eq!(node, "ü".repeat(120));
}
