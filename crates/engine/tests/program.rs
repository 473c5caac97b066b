//! What a program promises beside its bits: limits, typed refusals, many runs at a time.
#![allow(clippy::unwrap_used)] // Helpers of tests, outside of `#[test]` functions.
use std::sync::Arc;
use std::time::Duration;

use hallmark_engine::{CompileError, EngineReplayer, Isa, LocalModel, Options, Program, RunError};
use hallmark_model::graph::{Attrs, Dim, Graph, Node, TypeInfo, Value, ValueId};
use hallmark_model::ops::{self, Domain};
use hallmark_receipt::json::{Object, object};
use hallmark_receipt::{Claim, DType, Digest, KeyId, Model, Nonce, Opening, RequestId, Salt, Tensor};
use hallmark_verdict::{ReplayError, Replayer};

/// `depth` Relu nodes in a row over a float32 input `x` of shape [n, 3], output `y`.
fn relus(depth: usize) -> Graph {
    let shape = Some(vec![Dim::Symbol("n".to_owned()), Dim::Known(3)]);
    let value =
        |name: String| Value { name, info: TypeInfo { dtype: Some(DType::F32), shape: shape.clone() } };
    let mut graph = Graph { inputs: vec![ValueId(0)], outputs: vec![ValueId(depth)], ..Graph::default() };
    graph.values.push(value("x".to_owned()));
    for i in 0..depth {
        graph.values.push(value(if i + 1 == depth { "y".to_owned() } else { format!("v{i}") }));
        graph.nodes.push(Node {
            name: format!("relu{i}"),
            op: ops::find(Domain::Onnx, "Relu").unwrap(),
            version: 14,
            attrs: Attrs::default(),
            inputs: vec![Some(ValueId(i))],
            declared_inputs: 1,
            outputs: vec![Some(ValueId(i + 1))],
        });
    }
    graph
}

fn compile(graph: Graph, options: Options) -> Program {
    Program::compile(Arc::new(graph), options).unwrap()
}

fn rows(n: usize) -> Tensor {
    let values = (0..n * 3).map(|i| i as f32 - 4.5).collect();
    Tensor::from_vec(vec![n, 3], values).unwrap()
}

#[test]
fn inputs_are_checked_by_name_type_and_shape() {
    let program = compile(relus(2), Options::default());
    assert_eq!(program.run(&[]), Err(RunError::InputCount { expected: 1, got: 0 }));
    let text = Tensor::from_vec(vec![1, 3], vec![1_i64; 3]).unwrap();
    assert_eq!(
        program.run(&[text]),
        Err(RunError::InputType { name: "x".to_owned(), expected: DType::F32, got: DType::I64 })
    );
    let error = program.run(&[Tensor::vector(vec![0_f32; 3])]).unwrap_err();
    assert_eq!(error.to_string(), "input `x` takes shape [n, 3], got [3]");
    assert!(matches!(
        program.run(&[Tensor::from_vec(vec![1, 2], vec![0_f32; 2]).unwrap()]),
        Err(RunError::InputShape { .. })
    ));
}

#[test]
fn one_symbol_is_one_size() {
    let mut graph = relus(1);
    graph.inputs.push(ValueId(2));
    graph.values.push(Value { name: "z".to_owned(), info: graph.values[0].info.clone() });
    let program = compile(graph, Options::default());
    assert!(program.run(&[rows(2), rows(2)]).is_ok());
    assert_eq!(
        program.run(&[rows(2), rows(5)]),
        Err(RunError::InputSymbol { name: "z".to_owned(), symbol: "n".to_owned(), first: 2, got: 5 })
    );
}

#[test]
fn nan_of_an_input_becomes_the_one_nan() {
    let program = compile(relus(0), Options::default());
    let odd = Tensor::from_vec(vec![1, 3], vec![f32::from_bits(0xffc0_1234), -0.0, 1.0]).unwrap();
    let out = program.run(&[odd]).unwrap();
    let bits: Vec<u32> = out[0].as_slice::<f32>().unwrap().iter().map(|x| x.to_bits()).collect();
    assert_eq!(bits, [0x7fc0_0000, 0x8000_0000, 0x3f80_0000]);
}

#[test]
fn limits_stop_a_run_and_name_the_node() {
    let program = compile(relus(3), Options { memory_limit: 3000, ..Options::default() });
    assert!(program.run(&[rows(200)]).is_ok(), "in place, three nodes need one buffer");
    let error = program.run(&[rows(300)]).unwrap_err();
    // The three nodes are one chain, which goes by its last node.
    let expected = (0, 3600, 3000);
    assert!(
        matches!(&error, RunError::Memory { node, live, needed, limit, .. }
            if node == "relu2" && (*live, *needed, *limit) == expected),
        "{error}"
    );
    let options = Options { time_limit: Some(Duration::ZERO), ..Options::default() };
    assert!(matches!(compile(relus(1), options).run(&[rows(1)]), Err(RunError::Time { .. })));
}

#[test]
fn compile_refuses() {
    let refuse = |graph: Graph, options: Options| Program::compile(Arc::new(graph), options).unwrap_err();
    let options = Options { threads: 0, ..Options::default() };
    assert_eq!(refuse(relus(1), options), CompileError::Threads { most: 256, got: 0 });
    if let Some(isa) = Isa::ALL.into_iter().find(|isa| !isa.is_available()) {
        let options = Options { isa, ..Options::default() };
        assert_eq!(refuse(relus(1), options), CompileError::IsaAbsent { isa: isa.name() });
    }
    let break_it: [fn(&mut Graph); 4] = [
        |g| g.nodes.swap(0, 1),
        |g| g.nodes[1].outputs = vec![Some(ValueId(1))],
        |g| g.nodes[1].outputs = vec![Some(ValueId(99))],
        |g| g.outputs = vec![ValueId(99)],
    ];
    for change in break_it {
        let mut graph = relus(2);
        change(&mut graph);
        assert!(matches!(refuse(graph, Options::default()), CompileError::Malformed { .. }));
    }
}

#[test]
fn runs_at_the_same_time_agree() {
    let program = compile(relus(4), Options { threads: 2, ..Options::default() });
    let expected = program.run(&[rows(1000)]).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert!(program.run(&[rows(1000)]).unwrap()[0].same_bits(&expected[0]));
                }
            });
        }
    });
}

#[test]
fn replay_takes_inputs_by_name_and_refuses_the_rest() {
    let id = Digest::of(&[b"model"]);
    let graph = Arc::new(relus(1));
    let lookup = |version: u32| {
        let graph = Arc::clone(&graph);
        move |asked: &Digest| {
            Ok((*asked == id).then(|| LocalModel { numeric_version: version, graph: Arc::clone(&graph) }))
        }
    };
    let replayer = EngineReplayer::new(lookup(1), Options::default());
    let open = |name: &str, n| Opening::new(name.to_owned(), rows(n), Salt([0; 32])).unwrap();
    let x = open("x", 2);
    let outputs = replayer.replay(&id, std::slice::from_ref(&x), &[], &claim(Object::new())).unwrap();
    assert_eq!(outputs[0].0, "y");
    let other = Digest::of(&[b"other"]);
    let plain = claim(Object::new());
    assert_eq!(replayer.replay(&other, &[], &[], &plain), Err(ReplayError::ModelAbsent(other)));
    for inputs in [vec![], vec![x.clone(), x.clone()], vec![open("z", 1)]] {
        assert!(matches!(replayer.replay(&id, &inputs, &[], &plain), Err(ReplayError::Execution(_))));
    }
    let sampled = claim(object([("temperature", "0.7".into())]));
    assert_eq!(replayer.replay(&id, std::slice::from_ref(&x), &[], &sampled), Err(ReplayError::Parameters));
    // A budget of the verifier's own says nothing about the model.
    let small = EngineReplayer::new(lookup(1), Options { memory_limit: 8, ..Options::default() });
    let small = small.replay(&id, std::slice::from_ref(&x), &[], &plain);
    assert!(matches!(small, Err(ReplayError::Unavailable(_))));
    let later = EngineReplayer::new(lookup(2), Options::default());
    assert_eq!(later.replay(&id, &[x], &[], &plain), Err(ReplayError::NumericVersion { claimed: 2 }));
}

/// A claim of which only the parameters count here.
fn claim(parameters: Object) -> Claim {
    Claim {
        network: "local".to_owned(),
        node: KeyId(Digest([0; 32])),
        request_id: RequestId([0; 16]),
        nonce: Nonce([0; 32]),
        model: Model::Id(Digest([0; 32])),
        inputs: Digest([0; 32]),
        outputs: Digest([0; 32]),
        parameters,
        parents: Vec::new(),
    }
}
