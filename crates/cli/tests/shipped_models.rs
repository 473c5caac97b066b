//! The shipped models beside onnxruntime: its answers were written when the models were trained.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::PathBuf;
use std::sync::Arc;

use hallmark_cli::shipped::SHIPPED;
use hallmark_cli::tensor_io::{Limits, npz};
use hallmark_engine::{Options, Program};
use hallmark_model::graph::Graph;
use hallmark_model::onnx::{self, NoExternalData};
use hallmark_receipt::{Data, Tensor};

fn arrays(bytes: &[u8], graph: &Graph, ids: &[hallmark_model::graph::ValueId]) -> Vec<Tensor> {
    let named = npz::read(bytes, &Limits::default()).unwrap();
    let find = |name: &str| named.iter().find(|(n, _)| n == name).map(|(_, tensor)| tensor.clone()).unwrap();
    ids.iter().map(|id| find(&graph.values[id.0].name)).collect()
}

fn values(tensor: &Tensor) -> Vec<f64> {
    match tensor.data() {
        Data::F32(v) => v.iter().map(|x| f64::from(*x)).collect(),
        Data::I64(v) => v.iter().map(|x| *x as f64).collect(),
        other => panic!("no shipped model gives {}", other.dtype().name()),
    }
}

/// Row `row` of a batch.
fn row(tensor: &Tensor, row: usize) -> Tensor {
    let size = tensor.len() / tensor.shape()[0];
    let mut shape = tensor.shape().to_vec();
    shape[0] = 1;
    let range = row * size..(row + 1) * size;
    match tensor.data() {
        Data::F32(v) => Tensor::from_vec(shape, v[range].to_vec()),
        Data::I64(v) => Tensor::from_vec(shape, v[range].to_vec()),
        other => panic!("no shipped model takes {}", other.dtype().name()),
    }
    .unwrap()
}

#[test]
fn shipped_models_agree_with_onnxruntime_and_with_themselves() {
    for model in SHIPPED {
        let graph = Arc::new(onnx::import(model.onnx, &NoExternalData, &onnx::Limits::default()).unwrap());
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models").join(model.name);
        let peer = std::fs::read(folder.join("onnxruntime.npz")).unwrap();
        let inputs = arrays(model.samples, &graph, &graph.inputs);
        let expected = arrays(&peer, &graph, &graph.outputs);
        let program = Program::compile(Arc::clone(&graph), Options::default()).unwrap();
        let batch = program.run(&inputs).unwrap();
        for (ours, theirs) in batch.iter().zip(&expected) {
            assert_eq!((ours.shape(), ours.dtype()), (theirs.shape(), theirs.dtype()), "{}", model.name);
            let (ours, theirs) = (values(ours), values(theirs));
            let scale = theirs.iter().fold(1.0_f64, |most, x| most.max(x.abs()));
            let worst = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(worst <= 1e-5 * scale, "{}: {worst} from onnxruntime", model.name);
        }
        for index in 0..inputs[0].shape()[0] {
            let alone: Vec<Tensor> = inputs.iter().map(|tensor| row(tensor, index)).collect();
            for (one, all) in program.run(&alone).unwrap().iter().zip(&batch) {
                assert!(one.same_bits(&row(all, index)), "{}: row {index} depends on its batch", model.name);
            }
        }
    }
}
