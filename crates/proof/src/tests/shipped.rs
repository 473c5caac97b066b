//! The shipped models, quantised, are proved: the whole way from a trained float model.

use hallmark_model::onnx::{Limits, NoExternalData, import};
use hallmark_model::quantise::{ByReference, quantise};
use hallmark_receipt::Tensor;

use super::complete::round_of;
use super::models::Random;
use crate::pcs::{Direct, Security, Whir};

/// Quantises a shipped model on made-up samples and proves two of them.
fn shipped(onnx: &[u8], sample: impl Fn(&mut Random) -> Tensor) {
    let graph = import(onnx, &NoExternalData, &Limits::default()).expect("a shipped model");
    let mut random = Random(1);
    let samples: Vec<Vec<Tensor>> = (0..4).map(|_| vec![sample(&mut random)]).collect();
    let quantised = quantise(&graph, &mut ByReference { samples: samples.clone() }).expect("integers");
    round_of(&Direct, &quantised.graph, &samples[..2]);
    round_of(&Whir::new(Security::Standard), &quantised.graph, &samples[..1]);
}

fn floats(random: &mut Random, shape: &[usize], of: impl Fn(usize, f32) -> f32) -> Tensor {
    let values = (0..shape.iter().product()).map(|i| of(i, random.below(1000) as f32 / 1000.0)).collect();
    Tensor::from_vec(shape.to_vec(), values).expect("a tensor")
}

#[test]
fn digits() {
    let onnx = include_bytes!("../../../../models/digits-cnn/model.onnx");
    shipped(onnx, |random| floats(random, &[1, 1, 8, 8], |_, x| (x * 17.0).floor()));
}

#[test]
fn tumours() {
    let onnx = include_bytes!("../../../../models/tumour-mlp/model.onnx");
    shipped(onnx, |random| floats(random, &[1, 30], |i, x| x * if i % 10 == 3 { 1000.0 } else { 1.0 }));
}

#[test]
fn languages() {
    let onnx = include_bytes!("../../../../models/phrase-language/model.onnx");
    shipped(onnx, |random| {
        let words = 5 + random.below(27);
        let token = |i: usize, random: &mut Random| if i < words { 1 + random.below(26) as i64 } else { 0 };
        Tensor::from_vec(vec![1, 32], (0..32).map(|i| token(i, random)).collect::<Vec<i64>>())
            .expect("tokens")
    });
}
