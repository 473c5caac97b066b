//! Honest proofs hold, and say what the scalar reference computes.

use hallmark_model::graph::Graph;
use hallmark_model::reference;
use hallmark_model::skeleton::Skeleton;
use hallmark_receipt::{DType, Digest, Tensor};

use super::models::{In, Make, Random, cnn, dense, dequantise, encoder, lenet, mlp};
use crate::pcs::{Direct, Pcs, Security, Whir};
use crate::program::{Opened, Program};
use crate::protocol::prove::{Committed, prove};

/// Proves `requests` random requests of `graph` and checks each row; gives the proof's bytes.
fn round<P: Pcs>(pcs: &P, graph: &Graph, requests: usize, seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let shape: Vec<usize> = crate::lower::known_dims(&graph.values[graph.inputs[0].0].info).expect("a shape");
    let inputs: Vec<Vec<Tensor>> = (0..requests).map(|_| vec![random.float(&shape)]).collect();
    round_of(pcs, graph, &inputs)
}

/// Proves these requests of `graph` and checks each row.
fn round_of<P: Pcs>(pcs: &P, graph: &Graph, inputs: &[Vec<Tensor>]) -> Vec<u8> {
    let requests = inputs.len();
    let skeleton = Skeleton::of(graph).expect("a skeleton");
    let program = Program::new(&skeleton).expect("a program");
    let placed = program.place_for(&inputs[0]).expect("a provable model");
    let circuit = placed.circuit(requests).expect("a circuit");
    let model = Committed::new(pcs, &circuit, graph).expect("a commitment");
    let claims = (0..requests).map(|i| Digest([i as u8; 32])).collect();
    let statement = placed.statement(model.root, claims);
    let core: Vec<Vec<Tensor>> = inputs.iter().map(|x| placed.before(x).expect("integers")).collect();
    let (proof, witness) = prove(pcs, &circuit, &statement, &model, &core, &mut |_| ()).expect("a proof");
    for (index, inputs) in inputs.iter().enumerate() {
        let outputs = reference::run(graph, &inputs.iter().collect::<Vec<_>>(), 1 << 28).expect("a run");
        let integers = witness.outputs(&circuit, index);
        let opened = Opened { index, inputs, outputs: &outputs, integers: &integers };
        placed.check(pcs, &statement, opened, &proof, 0).expect("a proof that holds");
    }
    proof
}

#[test]
fn a_perceptron_is_proved_under_both_schemes() {
    let graph = mlp(1, &[9, 12, 7, 3]);
    round(&Direct, &graph, 1, 2);
    round(&Direct, &graph, 3, 2);
    round(&Whir::new(Security::Standard), &graph, 2, 3);
}

#[test]
fn a_convolutional_network_is_proved() {
    round(&Direct, &lenet(1, 16), 1, 2);
    round(&Whir::new(Security::Standard), &lenet(1, 16), 2, 2);
}

#[test]
fn an_encoder_is_proved() {
    round(&Direct, &encoder(1, [5, 12, 3], 1), 1, 2);
    round(&Direct, &encoder(1, [8, 16, 2], 1), 3, 2);
}

#[test]
fn an_embedding_is_proved() {
    let mut random = Random(5);
    let (mut make, ids) = Make::input(DType::I64, &[1, 5]);
    let x = make.node("Gather", &[], vec![In::Is(random.int8(&[11, 6])), In::Of(ids)]);
    let y = dense(&mut make, &mut random, x, [6, 3]);
    let y = dequantise(&mut make, y);
    let graph = make.done(&[y]);
    let ids = |v: [i64; 5]| vec![Tensor::from_vec(vec![1, 5], v.to_vec()).expect("ids")];
    round_of(&Direct, &graph, &[ids([0, 10, 3, 3, 7]), ids([1, 2, 0, 9, 10])]);
    round_of(&Whir::new(Security::Standard), &graph, &[ids([10, 0, 4, 5, 6])]);
}

#[test]
#[ignore = "seconds in a build without optimisation"]
fn the_networks_of_the_benchmark_are_proved() {
    let whir = Whir::new(Security::High);
    for graph in [mlp(1, &[64, 64, 32, 10]), lenet(1, 28), cnn(1), encoder(1, [32, 128, 4], 1)] {
        round(&whir, &graph, 1, 2);
    }
}
