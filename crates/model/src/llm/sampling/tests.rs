use hallmark_receipt::json::Value;
use hallmark_receipt::{Digest, FormatError, Nonce};

use super::*;

fn drawn(seed: u64) -> Parameters {
    Parameters { temperature: 1.0, seed: Some(Seed::Client(seed)), ..Parameters::greedy(8) }
}

#[test]
fn greedy_takes_the_lowest_id_and_skips_nan() {
    let history = History::new(&[]);
    let greedy = Parameters::greedy(1);
    assert_eq!(sample(&mut [1.0, 3.0, 3.0, f32::NAN], &history, &greedy), Some(1));
    assert_eq!(sample(&mut [-0.0, 0.0], &history, &greedy), Some(0));
    assert_eq!(sample(&mut [f32::NAN, f32::NEG_INFINITY], &history, &greedy), None);
    assert_eq!(sample(&mut [f32::NEG_INFINITY; 2], &history, &drawn(1)), None);
    assert_eq!(sample(&mut [], &history, &drawn(1)), None);
}

#[test]
fn draws_follow_the_probabilities_and_depend_on_seed_and_index_alone() {
    let logits = [0.0_f32, 2.0_f32.ln(), f32::NEG_INFINITY];
    let mut counts = [0_u32; 3];
    let mut history = History::new(&[]);
    for _ in 0..6_000 {
        let token = sample(&mut logits.clone(), &history, &drawn(7)).unwrap();
        counts[token as usize] += 1;
        history.push(token);
    }
    assert_eq!(counts[2], 0);
    assert!((1_850..2_150).contains(&counts[0]), "{counts:?}");
    assert_ne!(uniform(&[1; 32], 0), uniform(&[1; 32], 1));
    assert!((0..1000).all(|i| (0.0..1.0).contains(&uniform(&[2; 32], i))));
}

#[test]
fn filters_cut_where_they_say() {
    // Probabilities 0.4, 0.3, 0.2, 0.1, in falling order of ids 3, 2, 1, 0.
    let logits: Vec<f32> = [0.1_f32, 0.2, 0.3, 0.4].iter().map(|p| p.ln()).collect();
    let reached = |change: &dyn Fn(&mut Parameters)| {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..300 {
            let mut parameters = drawn(seed);
            change(&mut parameters);
            seen.insert(sample(&mut logits.clone(), &History::new(&[]), &parameters).unwrap());
        }
        seen.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(reached(&|_| ()), [0, 1, 2, 3]);
    assert_eq!(reached(&|p| p.top_k = 2), [2, 3]);
    assert_eq!(reached(&|p| p.top_p = 0.65), [2, 3]);
    assert_eq!(reached(&|p| p.top_p = 0.3), [3]);
    assert_eq!(reached(&|p| p.min_p = 0.4), [1, 2, 3]);
    assert_eq!(reached(&|p| p.temperature = 1e-30), [3]);
    assert_eq!(reached(&|p| (p.top_k, p.top_p) = (3, 0.8)), [1, 2, 3]);
}

#[test]
fn penalties() {
    let mut history = History::new(&[0]);
    history.push(1);
    history.push(1);
    let mut parameters = Parameters::greedy(1);
    (parameters.repetition, parameters.frequency, parameters.presence) = (2.0, 0.5, 0.25);
    let mut logits = [4.0, -3.0, 1.0];
    sample(&mut logits, &history, &parameters);
    assert_eq!(logits, [2.0, -6.0 - 1.0 - 0.25, 1.0]);
}

#[test]
fn equal_logits_keep_the_order_of_ids() {
    let parameters = Parameters { top_k: 2, ..drawn(3) };
    let order: Vec<u32> = order(&[0.0, -0.0, 1.0, 1.0, -1.0], &parameters).iter().map(|c| c.1).collect();
    assert_eq!(order, [2, 3]);
    let order: Vec<(f32, u32)> = super::order(&[-2.0, -0.0, 0.0, f32::INFINITY], &drawn(3));
    assert_eq!(order, [(f32::MAX, 3), (0.0, 1), (0.0, 2), (-2.0, 0)]);
}

#[test]
fn log_probabilities() {
    let logits = [1.0, 3.0, 2.0, 3.0];
    let all = LogProbabilities::new(&logits);
    let top: Vec<u32> = all.top(3).iter().map(|one| one.token).collect();
    assert_eq!(top, [1, 3, 2]);
    let total: f32 = (0..4).map(|token| all.of(token).unwrap().value.exp()).sum();
    assert!((total - 1.0).abs() < 1e-6);
    assert_eq!(all.of(4), None);
    assert_eq!(all.top(9).len(), 4);
}

#[test]
fn parameters_have_one_form() {
    let seeds = [
        Seed::Client(u64::MAX),
        Seed::Request { request: Digest([1; 32]), nonce: Nonce([2; 32]) },
        Seed::Node([3; 32]),
    ];
    for seed in seeds {
        let parameters = Parameters {
            temperature: 0.7,
            top_k: 40,
            top_p: 0.95,
            min_p: f32::from_bits(1),
            repetition: 1.1,
            presence: -0.5,
            frequency: 0.1,
            stop: vec![2, 128_001],
            max_tokens: 100,
            seed: Some(seed),
        };
        assert_eq!(parameters.check(), Ok(()));
        assert_eq!(Parameters::from_object(&parameters.to_object()), Ok(parameters));
    }
    let greedy = Parameters::greedy(5);
    assert_eq!(Parameters::from_object(&greedy.to_object()), Ok(greedy.clone()));
    for (name, value) in [
        ("temperature", Value::from("0.70")),
        ("temperature", "1e0".into()),
        ("temperature", "-0".into()),
        ("temperature", "NaN".into()),
        ("temperature", "0.7".into()),
        ("top_p", "0".into()),
        ("top_p", "1.5".into()),
        ("stop", Value::Array(vec![Value::Int(3), Value::Int(3)])),
        ("max_tokens", Value::Int(0)),
        ("sampling", Value::Int(2)),
        ("extra", Value::Int(2)),
        ("seed_from", "client".into()),
    ] {
        let mut members = greedy.to_object();
        members.insert(name.to_owned(), value);
        let got: Result<Parameters, FormatError> = Parameters::from_object(&members);
        assert!(got.is_err(), "{name} {members:?}");
    }
}
