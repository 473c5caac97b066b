//! The decoder beside the scalar reference: equal bits alone and in company, on every instruction set, for any number of threads.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests.

mod encoder;
mod fixture;
mod serving;

use hallmark_engine::Isa;
use hallmark_engine::decoder::{Decoder, Finish, Options};
use hallmark_model::llm::Parameters;
use hallmark_model::llm::reference::Reference;
use hallmark_model::llm::sampling::{History, sample};

use fixture::{CONFIGS, Files, Random, decoder, drawn, files, in_int8, open};

/// The last logits of `prompt`, through the mask that a decoder offers.
fn last_logits(decoder: &mut Decoder, prompt: &[u32]) -> Vec<u32> {
    let mut seen = Vec::new();
    let mut mask = |_, logits: &mut [f32]| seen = logits.iter().map(|l| l.to_bits()).collect();
    decoder.generate_masked(prompt, Parameters::greedy(1), None, &mut mask).unwrap();
    seen
}

#[test]
fn logits_equal_the_references() {
    for (i, (name, config)) in CONFIGS.iter().enumerate() {
        let files = files(config, i as u64);
        equal_the_references(name, &files);
        equal_the_references(name, &in_int8(files));
    }
}

fn equal_the_references(name: &str, files: &Files) {
    let reference = Reference::load(&open(files)).unwrap();
    let (arithmetic, vocabulary) = (reference.architecture().arithmetic, reference.architecture().vocabulary);
    let tokens = Random(9).tokens(if name == "biased" { 560 } else { 70 }, vocabulary);
    let all = reference.logits(&tokens).unwrap();
    for isa in Isa::available() {
        // In parts that begin from what others left, and each prompt at once.
        for (threads, step, share) in [(1, 37, true), (2, 600, false)] {
            let options = |o: &mut Options| (o.step_tokens, o.share_prefixes) = (step, share);
            let mut decoder = decoder(files, isa, threads, &options);
            for count in [1, 2, 31, 32, 33, 70, 512, 513, 560] {
                let Some(want) = all.get(count - 1) else { continue };
                let want: Vec<u32> = want.iter().map(|l| l.to_bits()).collect();
                assert!(
                    last_logits(&mut decoder, &tokens[..count]) == want,
                    "{name} {arithmetic:?} {isa} {threads} {count}"
                );
            }
        }
    }
}

/// Tokens as the reference generates them: everything again for every token.
fn by_reference(reference: &Reference, prompt: &[u32], parameters: &Parameters) -> Vec<u32> {
    let (mut tokens, mut history) = (prompt.to_vec(), History::new(prompt));
    for _ in 0..parameters.max_tokens {
        let mut logits = reference.logits(&tokens).unwrap().pop().unwrap();
        let token = sample(&mut logits, &history, parameters).unwrap();
        tokens.push(token);
        history.push(token);
        if parameters.stop.contains(&token) {
            break;
        }
    }
    tokens.split_off(prompt.len())
}

#[test]
fn answers_equal_the_references() {
    for (i, (name, config)) in CONFIGS.iter().enumerate().filter(|(_, (name, _))| *name != "mistral") {
        let files = files(config, i as u64);
        let reference = Reference::load(&open(&files)).unwrap();
        let prompt = Random(3).tokens(5, 50);
        for parameters in [Parameters::greedy(12), drawn(i as u64, 12)] {
            let want = by_reference(&reference, &prompt, &parameters);
            let mut decoder = decoder(&files, Isa::detect(), 2, &|_| ());
            let got = decoder.generate(&prompt, parameters.clone()).unwrap();
            assert_eq!((&got.tokens, got.finish), (&want, Finish::Length), "{name}");
            // The same with a stop token in the middle, which ends it there.
            let stopped = Parameters { stop: vec![want[6]], ..parameters };
            let first = want.iter().position(|token| *token == want[6]).unwrap();
            let got = decoder.generate(&prompt, stopped).unwrap();
            assert_eq!((got.tokens.as_slice(), got.finish), (&want[..=first], Finish::Stop), "{name}");
        }
    }
}

/// What int8 costs: how far a trained model's log probabilities move along an answer of its own in float32.
#[test]
fn int8_says_nearly_what_float32_says() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny-chat");
    let read = |name: &str| (name.to_owned(), std::fs::read(folder.join(name)).unwrap());
    let shipped = Files::from(["config.json", "model.safetensors"].map(read));
    let mut float32 = decoder(&shipped, Isa::detect(), 2, &|_| ());
    let mut int8 = decoder(&in_int8(shipped), Isa::detect(), 2, &|_| ());
    let mut tokens = Random(4).tokens(3, 2000);
    tokens.extend(float32.generate(&tokens, Parameters::greedy(100)).unwrap().tokens);
    let of_next = |decoder: &mut Decoder, count: usize| {
        let logits: Vec<f64> = last_logits(decoder, &tokens[..count])
            .iter()
            .map(|bits| f64::from(f32::from_bits(*bits)))
            .collect();
        logits[tokens[count] as usize] - logits.iter().map(|l| l.exp()).sum::<f64>().ln()
    };
    let counts = 3..tokens.len();
    let moved: f64 =
        counts.clone().map(|count| (of_next(&mut int8, count) - of_next(&mut float32, count)).abs()).sum();
    let mean = moved / counts.len() as f64;
    assert!(mean > 0.0 && mean < 0.05, "{mean} nats a token");
}
