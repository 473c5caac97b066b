//! Sequences that join and leave, shared prefixes, guesses, refusals.

use std::collections::BTreeMap;

use hallmark_engine::Isa;
use hallmark_engine::decoder::{Decoder, DecoderError, Finish, Options, PAGE, SequenceId};
use hallmark_model::llm::Parameters;

use crate::fixture::{Answer, CONFIGS, Random, alone, collect, decoder, drawn, files};

#[test]
fn company_changes_no_bit() {
    for (i, (name, config)) in CONFIGS.iter().enumerate() {
        let files = files(config, i as u64);
        let mut random = Random(17 + i as u64);
        // Prompts of many lengths; every third begins like the first, by more than two pages.
        let common = random.tokens(2 * PAGE + 5, 50);
        let requests: Vec<(Vec<u32>, Parameters)> = (0..9)
            .map(|n| {
                let length = 1 + random.next() as usize % 50;
                let mut prompt = random.tokens(length, 50);
                if n % 3 == 0 {
                    prompt = [&common[..], &prompt[..]].concat();
                }
                let max = 3 + random.next() % 20;
                (prompt, if n % 2 == 0 { Parameters::greedy(max) } else { drawn(n, max) })
            })
            .collect();
        let mut single = decoder(&files, Isa::Portable, 1, &|o| o.share_prefixes = false);
        let want: Vec<Answer> =
            requests.iter().map(|(prompt, parameters)| alone(&mut single, prompt, parameters)).collect();
        for (isa, threads) in Isa::available().zip([2, 1, 2]) {
            for share in [false, true] {
                let change =
                    |o: &mut Options| (o.share_prefixes, o.max_sequences, o.step_tokens) = (share, 5, 23);
                let mut decoder = decoder(&files, isa, threads, &change);
                let (mut ids, mut answers) = (Vec::new(), BTreeMap::new());
                for (n, (prompt, parameters)) in requests.iter().enumerate() {
                    ids.push(decoder.start(prompt, parameters.clone(), Some(0)).unwrap());
                    // One that leaves in the middle.
                    let other = decoder.start(prompt, Parameters::greedy(50), Some(0)).unwrap();
                    for _ in 0..n % 4 {
                        collect(&mut answers, decoder.step());
                    }
                    assert!(decoder.cancel(other) && !decoder.cancel(other));
                }
                while !decoder.is_idle() {
                    collect(&mut answers, decoder.step());
                }
                for ((id, want), n) in ids.iter().zip(&want).zip(0..) {
                    assert_eq!(answers.get(id), Some(want), "{name} {isa} {threads} {share} {n}");
                }
            }
        }
    }
}

#[test]
fn a_small_cache_makes_sequences_wait_and_forgets_old_prefixes() {
    let files = files(CONFIGS[0].1, 5);
    let weights = decoder(&files, Isa::detect(), 1, &|_| ()).weights().clone();
    let refused = Decoder::new(weights, &Options { cache_limit: 1, ..Options::default() });
    let Err(DecoderError::Cache { needed: page, got: 1 }) = refused else { panic!("{refused:?}") };
    let mut roomy = decoder(&files, Isa::detect(), 1, &|_| ());
    let mut tight = decoder(&files, Isa::detect(), 1, &|o| o.cache_limit = 4 * page + 1);
    let mut random = Random(1);
    let mut wanted = BTreeMap::new();
    for n in 0..12 {
        let length = 20 + (n as usize * 13) % 60;
        let prompt = random.tokens(length, 90);
        let want = alone(&mut roomy, &prompt, &drawn(n, 20));
        wanted.insert(tight.start(&prompt, drawn(n, 20), Some(0)).unwrap(), want);
    }
    let mut answers = BTreeMap::new();
    while !tight.is_idle() {
        assert!(tight.load().1 <= 4);
        collect(&mut answers, tight.step());
    }
    assert_eq!(answers, wanted);
    let refused = tight.start(&random.tokens(100, 90), Parameters::greedy(100), None);
    assert!(matches!(refused, Err(DecoderError::TooLong { needed: 7, limit: 4 })), "{refused:?}");
}

#[test]
fn a_guess_changes_no_event() {
    let files = files(CONFIGS[2].1, 8);
    let prompt = Random(2).tokens(37, 60);
    for share in [false, true] {
        let mut decoder =
            decoder(&files, Isa::detect(), 2, &|o| (o.step_tokens, o.share_prefixes) = (11, share));
        for parameters in [Parameters::greedy(90), drawn(4, 90)] {
            let want = alone(&mut decoder, &prompt, &parameters);
            let answer: Vec<u32> = want.iter().map(|(token, _)| *token).collect();
            let stop = Parameters { stop: vec![answer[9]], ..parameters.clone() };
            let stopped = alone(&mut decoder, &prompt, &stop);
            let mut wrong = answer.clone();
            wrong[20] = (wrong[20] + 1) % 60;
            let mut unknown = answer.clone();
            unknown[20] = 1_000_000;
            let longer = [&answer[..], &answer[..]].concat();
            for draft in [&answer, &wrong, &unknown, &longer, &answer[..50].to_vec(), &Vec::new()] {
                for (parameters, want) in [(&parameters, &want), (&stop, &stopped)] {
                    // Another sequence computes meanwhile, which must not be disturbed either.
                    let other = decoder.start(&prompt[..20], Parameters::greedy(30), Some(0)).unwrap();
                    let id = decoder.start_drafted(&prompt, parameters.clone(), Some(0), draft).unwrap();
                    let (mut answers, mut steps) = (BTreeMap::new(), 0);
                    while !decoder.is_idle() {
                        collect(&mut answers, decoder.step());
                        steps += usize::from(answers.get(&id).is_none_or(|answer| answer.len() < want.len()));
                    }
                    assert_eq!(answers.get(&id), Some(want));
                    assert_eq!(answers.get(&other).map(Vec::len), Some(30));
                    // A right guess goes through in a few steps of eleven tokens, less the other sequence's.
                    assert!(draft.len() < want.len() || draft[20] != answer[20] || steps < 20, "{steps}");
                }
            }
        }
    }
}

#[test]
fn masks_reach_the_draw_alone() {
    let files = files(CONFIGS[1].1, 3);
    let mut decoder = decoder(&files, Isa::detect(), 1, &|_| ());
    let mut odd = |_: SequenceId, logits: &mut [f32]| {
        logits.iter_mut().step_by(2).for_each(|l| *l = f32::NEG_INFINITY);
    };
    let answer = decoder.generate_masked(&[1, 2], drawn(1, 20), Some(2), &mut odd).unwrap();
    assert!(answer.tokens.iter().all(|token| token % 2 == 1));
    assert!(answer.logprobs.iter().all(|one| one.value.is_finite()));
    let mut nothing = |_: SequenceId, logits: &mut [f32]| logits.fill(f32::NEG_INFINITY);
    let answer = decoder.generate_masked(&[1], Parameters::greedy(3), None, &mut nothing).unwrap();
    assert_eq!((answer.tokens, answer.finish), (Vec::new(), Finish::NoToken));
}

#[test]
fn answers_end_where_the_context_does() {
    let files = files(CONFIGS[0].1, 5);
    let mut decoder = decoder(&files, Isa::detect(), 1, &|_| ());
    let prompt: Vec<u32> = (0..509).map(|i| i % 90).collect();
    let answer = |most: u32, decoder: &mut Decoder| decoder.generate(&prompt, drawn(1, most)).unwrap();
    let (three, many) = (answer(3, &mut decoder), answer(u32::MAX >> 1, &mut decoder));
    assert_eq!((many.tokens.len(), many.finish), (3, Finish::Length));
    assert_eq!(many, three);
}

#[test]
fn refusals() {
    let files = files(CONFIGS[0].1, 5);
    let mut decoder = decoder(&files, Isa::detect(), 1, &|o| o.max_waiting = 1);
    let greedy = Parameters::greedy(4);
    let mut start = |prompt: &[u32], parameters: &Parameters| decoder.start(prompt, parameters.clone(), None);
    assert_eq!(start(&[], &greedy), Err(DecoderError::EmptyPrompt));
    assert!(matches!(start(&[1, 97], &greedy), Err(DecoderError::Token { token: 97, position: 1, .. })));
    assert!(matches!(start(&[1; 512], &greedy), Err(DecoderError::Context { limit: 512, got: 512 })));
    let hot = Parameters { temperature: 1.0, ..greedy.clone() };
    assert!(matches!(start(&[1], &hot), Err(DecoderError::Parameters(_))));
    assert!(start(&[1], &greedy).is_ok());
    assert_eq!(start(&[1], &greedy), Err(DecoderError::Busy { limit: 1 }));
    let weights = decoder.weights().clone();
    let zero = Options { threads: 0, ..Options::default() };
    assert!(matches!(Decoder::new(weights, &zero), Err(DecoderError::Option { what: "threads", .. })));
}
