//! Honest proofs hold, and say what the scalar reference computes.

use hallmark_model::graph::{Attr, Graph, ValueId};
use hallmark_model::reference;
use hallmark_model::skeleton::Skeleton;
use hallmark_receipt::{DType, Digest, Tensor};
use proptest::prelude::*;

use super::models::{
    In, Make, Random, cnn, dense, dequantise, encoder, ints, lenet, mlp, quantise, requantise, small,
};
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
pub fn round_of<P: Pcs>(pcs: &P, graph: &Graph, inputs: &[Vec<Tensor>]) -> Vec<u8> {
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
fn a_shape_that_a_graph_asks_for_is_known_without_the_values() {
    let mut random = Random(6);
    let (mut make, x) = Make::input(DType::F32, &[2, 6]);
    let x = quantise(&mut make, x);
    let y = dense(&mut make, &mut random, x, [6, 4]);
    let y = requantise(&mut make, y, random.multipliers(4), 12, false, 1);
    let shape = make.node("Shape", &[], vec![In::Of(y)]);
    let y = make.node("Reshape", &[], vec![In::Of(y), In::Of(shape)]);
    let y = dense(&mut make, &mut random, y, [4, 3]);
    let y = dequantise(&mut make, y);
    round(&Direct, &make.done(&[y]), 1, 2);
}

#[test]
#[ignore = "seconds in a build without optimisation"]
fn the_networks_of_the_benchmark_are_proved() {
    let whir = Whir::new(Security::High);
    for graph in [mlp(1, &[64, 64, 32, 10]), lenet(1, 28), cnn(1), encoder(1, [32, 128, 4], 1)] {
        round(&whir, &graph, 1, 2);
    }
}

type Maker = fn(&mut Make, &mut Random, ValueId, &[usize]) -> ValueId;

/// A model that `maker` makes over an input of this shape. It must give int32.
fn generated(seed: u64, maker: Maker, dims: &[usize]) -> Graph {
    let mut random = Random(seed);
    let (mut make, x) = Make::input(DType::F32, dims);
    let x = quantise(&mut make, x);
    let y = maker(&mut make, &mut random, x, dims);
    // Every model has a weight: commitments are to at least one column.
    let y = make.node("Add", &[], vec![In::Of(y), In::Is(random.int32(&[1], 9))]);
    let y = dequantise(&mut make, y);
    make.done(&[y])
}

fn wide(make: &mut Make, x: ValueId) -> ValueId {
    make.node("Cast", &[("to", Attr::Int(6))], vec![In::Of(x)])
}

/// Convolution with any strides, pads, dilations and groups, scales of its own for each channel, and a pool.
fn convolution(make: &mut Make, random: &mut Random, x: ValueId, dims: &[usize]) -> ValueId {
    let groups =
        (1..=dims[1]).rev().find(|g| dims[1].is_multiple_of(*g) && random.below(2) == 0).unwrap_or(1);
    let filters = groups * (1 + random.below(3));
    let spatial = dims.len() - 2;
    let mut list = |least: usize, n: usize| -> Vec<i64> {
        (0..spatial).map(|_| (least + random.below(n)) as i64).collect()
    };
    let (kernel, strides, dilations) = (list(1, 3), list(1, 2), list(1, 2));
    let pads = [list(0, 3), list(0, 3)].concat();
    let mut weight = vec![filters, dims[1] / groups];
    weight.extend(kernel.iter().map(|k| *k as usize));
    let attrs = [
        ("group", Attr::Int(groups as i64)),
        ("strides", ints(&strides)),
        ("dilations", ints(&dilations)),
        ("pads", ints(&pads)),
    ];
    let x = make.node("ConvInteger", &attrs, vec![In::Of(x), In::Is(random.int8(&weight))]);
    let mut bias = vec![1; spatial];
    bias.insert(0, filters);
    let x = make.node("Add", &[], vec![In::Of(x), In::Is(random.int32(&bias, 1000))]);
    let x = small(make, x, random.multipliers(filters), 15);
    // Pads below the kernel; one of the kernels has them at one side alone.
    let kernel = 2 + random.below(2) as i64;
    let pads = [vec![1; spatial], vec![random.below(2) as i64; spatial]].concat();
    let attrs = [
        ("kernel_shape", ints(&vec![kernel; spatial])),
        ("strides", ints(&vec![1 + random.below(3) as i64; spatial])),
        ("pads", ints(&pads)),
        ("ceil_mode", Attr::Int(random.below(2) as i64)),
    ];
    let x = make.node("MaxPool", &attrs, vec![In::Of(x)]);
    wide(make, x)
}

/// Sums and products of activations and constants whose shapes broadcast.
fn arithmetic(make: &mut Make, random: &mut Random, x: ValueId, dims: &[usize]) -> ValueId {
    let x = wide(make, x);
    let mut at = x;
    for _ in 0..3 {
        let other = if random.below(2) == 0 {
            let axis = random.below(dims.len()) as i64;
            let sum = make.node("ReduceSum", &[], vec![In::Of(x), In::Is(Tensor::vector(vec![axis]))]);
            In::Of(sum)
        } else {
            let skip = random.below(dims.len());
            let own: Vec<usize> =
                dims[skip..].iter().map(|n| if random.below(2) == 0 { 1 } else { *n }).collect();
            In::Is(random.int32(&own, 40))
        };
        let inputs = if random.below(2) == 0 { vec![In::Of(at), other] } else { vec![other, In::Of(at)] };
        at = make.node(["Add", "Sub", "Mul"][random.below(3)], &[], inputs);
        at = small(make, at, Tensor::scalar(1 + random.below(20) as i32), 11);
        at = wide(make, at);
    }
    at
}

/// Elements that move, several times.
fn moved(make: &mut Make, random: &mut Random, mut x: ValueId, dims: &[usize]) -> ValueId {
    let mut dims = dims.to_vec();
    let list = |v: &[usize]| In::Is(Tensor::vector(v.iter().map(|n| *n as i64).collect::<Vec<i64>>()));
    for _ in 0..4 {
        let axis = random.below(dims.len());
        match random.below(6) {
            0 => {
                dims.reverse();
                x = make.node("Transpose", &[], vec![In::Of(x)]);
            }
            1 => {
                let [a, b] = [dims[0], dims[1..].iter().product()];
                dims = vec![b, a];
                x = make.node("Reshape", &[], vec![In::Of(x), list(&dims)]);
            }
            2 => {
                dims[axis] += 3;
                let mut pads = vec![0; 2 * dims.len()];
                (pads[axis], pads[axis + dims.len()]) = (1, 2);
                x = make.node("Pad", &[], vec![In::Of(x), list(&pads)]);
            }
            3 => {
                let to = dims[axis];
                dims[axis] = to.div_ceil(2);
                let one = |n: i64| In::Is(Tensor::vector(vec![n]));
                let inputs = vec![In::Of(x), one(-1), one(-100), one(axis as i64), one(-2)];
                x = make.node("Slice", &[], inputs);
            }
            4 => {
                dims[axis] *= 2;
                x = make.node("Concat", &[("axis", Attr::Int(axis as i64))], vec![In::Of(x), In::Of(x)]);
            }
            _ => {
                let indices: Vec<usize> = (0..3).map(|_| random.below(dims[axis])).collect();
                dims[axis] = 3;
                x = make.node("Gather", &[("axis", Attr::Int(axis as i64))], vec![In::Of(x), list(&indices)]);
            }
        }
    }
    let values: Vec<i64> = (-128..128).map(|v| 127 - (v + 128) / 2).collect();
    let x = make.node("Table", &[("table", ints(&values)), ("to", Attr::Int(3))], vec![In::Of(x)]);
    dense(make, random, x, [dims[dims.len() - 1], 2])
}

/// Attention without projections, whose lengths are no powers of two.
fn attention(make: &mut Make, random: &mut Random, x: ValueId, dims: &[usize]) -> ValueId {
    let axis = random.below(dims.len());
    let exponentials: Vec<i64> = (0..256).map(|i| 4095 >> (i / 9)).collect();
    let attrs = [("axis", Attr::Int(axis as i64 - dims.len() as i64)), ("table", ints(&exponentials))];
    let y = make.node("IntegerSoftmax", &attrs, vec![In::Of(x)]);
    let turned: Vec<i64> =
        (0..dims.len() as i64 - 2).chain([dims.len() as i64 - 1, dims.len() as i64 - 2]).collect();
    let turned = make.node("Transpose", &[("perm", ints(&turned))], vec![In::Of(x)]);
    let y = make.node("MatMulInteger", &[], vec![In::Of(y), In::Of(turned)]);
    let y = requantise(make, y, Tensor::scalar(7_i32), 12, true, 0);
    wide(make, y)
}

fn norm(make: &mut Make, random: &mut Random, x: ValueId, dims: &[usize]) -> ValueId {
    let attrs = [
        ("axis", Attr::Int(random.below(dims.len()) as i64)),
        ("center", Attr::Int(random.below(2) as i64)),
        ("shift", Attr::Int(random.below(4) as i64)),
        ("epsilon", Attr::Int(1 + random.below(1000) as i64)),
        ("gain", Attr::Int(1 + random.below(3000) as i64)),
    ];
    let u = make.node("IntegerNormalize", &attrs, vec![In::Of(x)]);
    wide(make, u)
}

/// `PROPTEST_CASES`, or so many.
fn cases(few: u32) -> ProptestConfig {
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    if asked { ProptestConfig::default() } else { ProptestConfig::with_cases(few) }
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn generated_models_are_proved(
        seed in any::<u64>(),
        kind in 0..5usize,
        sizes in prop::collection::vec(1..6usize, 4),
        requests in 1..9usize,
    ) {
        let (maker, dims): (Maker, Vec<usize>) = match kind {
            0 => (convolution, vec![sizes[0].min(2), sizes[1], sizes[2] + 6, sizes[3] + 6]),
            1 => (arithmetic, sizes[..3].to_vec()),
            2 => (moved, sizes[..3].to_vec()),
            3 => (attention, sizes[..3].to_vec()),
            _ => (norm, sizes[..3].to_vec()),
        };
        let graph = generated(seed, maker, &dims);
        round(&Direct, &graph, requests, seed);
    }
}

#[test]
fn outputs_have_no_padding_whatever_their_operator_leaves_there() {
    // A function that is not 0 at 0, as an output of three requests.
    let mut random = Random(1);
    let (mut make, x) = Make::input(DType::F32, &[1, 3]);
    let x = quantise(&mut make, x);
    let x = dense(&mut make, &mut random, x, [3, 3]);
    let x = small(&mut make, x, Tensor::scalar(3_i32), 10);
    let values: Vec<i64> = (-128..128).map(|v| 100 - v / 8).collect();
    let x = make.node("Table", &[("table", ints(&values)), ("to", Attr::Int(6))], vec![In::Of(x)]);
    let y = dequantise(&mut make, x);
    round(&Direct, &make.done(&[y]), 3, 1);
}

#[test]
fn a_model_without_a_lookup_is_proved() {
    round(&Direct, &generated(1, |make, random, x, _| dense(make, random, x, [3, 2]), &[2, 3]), 3, 1);
}
