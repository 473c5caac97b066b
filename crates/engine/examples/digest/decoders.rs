//! Answers of decoders: the shipped chat model and two of pseudo-random weights, two of them in int8 too, greedy and drawn.
#![allow(clippy::unwrap_used)] // A tool of the tests.

use std::collections::BTreeMap;

use hallmark_engine::Isa;
use hallmark_engine::decoder::Decoder;
use hallmark_model::llm::Parameters;
use hallmark_receipt::Digest;

use crate::fixture::{Answer, CONFIGS, Files, Random, alone, collect, decoder, drawn, files, in_int8};
use crate::suite::Failure;

/// Tokens of an answer, for every machine; [`LONG`] for those that have the time.
pub const SHORT: &[u32] = &[16, 64];
/// Tokens of an answer, and then each of them in company.
pub const LONG: &[u32] = &[16, 64, 1000];
/// Tokens of a prompt.
const PROMPT: usize = 20;

/// Name, vocabulary that prompts use, files.
fn models() -> [(&'static str, usize, Files); 5] {
    let shipped = Files::from([
        ("config.json".to_owned(), include_bytes!("../../../../models/tiny-chat/config.json").to_vec()),
        (
            "model.safetensors".to_owned(),
            include_bytes!("../../../../models/tiny-chat/model.safetensors").to_vec(),
        ),
    ]);
    let random = |index: usize| files(CONFIGS[index].1, index as u64);
    [
        ("tiny-chat", 2000, shipped.clone()),
        (CONFIGS[3].0, 250, random(3)),
        (CONFIGS[4].0, 50, random(4)),
        ("tiny-chat in int8", 2000, in_int8(shipped)),
        ("mistral in int8", 250, in_int8(random(3))),
    ]
}

/// The digest of answers of all `lengths`, each computed alone; those of [`LONG`] must come out the same in company too.
pub fn digest(isa: Isa, threads: usize, lengths: &[u32]) -> Result<Digest, Failure> {
    let mut bytes = Vec::new();
    for (name, vocabulary, files) in models() {
        let prompt = Random(11).tokens(PROMPT, vocabulary);
        let requests: Vec<Parameters> =
            lengths.iter().flat_map(|&length| [Parameters::greedy(length), drawn(5, length)]).collect();
        let mut single = decoder(&files, isa, threads, &|o| o.share_prefixes = false);
        let answers: Vec<Answer> =
            requests.iter().map(|parameters| alone(&mut single, &prompt, parameters)).collect();
        if lengths == LONG {
            for share in [false, true] {
                let mut several = decoder(&files, isa, threads, &|o| o.share_prefixes = share);
                if company(&mut several, &prompt, &requests) != answers {
                    return Err(format!("{name}: an answer in company differs from the one alone"));
                }
            }
        }
        for (token, bits) in answers.iter().flatten() {
            bytes.extend_from_slice(&token.to_be_bytes());
            bytes.extend_from_slice(&bits.to_be_bytes());
        }
    }
    Ok(Digest::of(&[&bytes]))
}

/// The same answers in one batch: they join seven steps after one another, and others join and leave between them.
fn company(decoder: &mut Decoder, prompt: &[u32], requests: &[Parameters]) -> Vec<Answer> {
    let (mut ids, mut answers) = (Vec::new(), BTreeMap::new());
    for parameters in requests {
        ids.push(decoder.start(prompt, parameters.clone(), Some(0)).unwrap());
        let other = decoder.start(&prompt[..PROMPT / 2], Parameters::greedy(30), Some(0)).unwrap();
        for _ in 0..7 {
            collect(&mut answers, decoder.step());
        }
        decoder.cancel(other);
    }
    while !decoder.is_idle() {
        collect(&mut answers, decoder.step());
    }
    ids.iter().map(|id| answers.remove(id).unwrap()).collect()
}
