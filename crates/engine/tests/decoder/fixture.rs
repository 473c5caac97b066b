//! Small decoders with pseudo-random weights, as files in memory.
#![allow(clippy::unwrap_used)] // Helpers of tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use hallmark_engine::Isa;
use hallmark_engine::decoder::{Decoder, Event, Options, SequenceId, Weights};
use hallmark_model::llm::{Checkpoint, Network, Parameters, Seed, config};

pub type Files = BTreeMap<String, Vec<u8>>;

/// The families' shapes: grouped heads, biases, QK-norm, tied embeddings, head sizes that are no multiple of a vector.
pub const CONFIGS: [(&str, &str); 5] = [
    (
        "llama",
        r#"{"model_type":"llama","hidden_size":48,"intermediate_size":80,"num_hidden_layers":2,"num_attention_heads":6,
        "num_key_value_heads":2,"vocab_size":97,"max_position_embeddings":512,"rms_norm_eps":1e-5,"rope_theta":10000.0,
        "rope_scaling":{"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,
        "original_max_position_embeddings":64}}"#,
    ),
    (
        "qwen2",
        r#"{"model_type":"qwen2","hidden_size":64,"intermediate_size":100,"num_hidden_layers":2,"num_attention_heads":4,
        "num_key_value_heads":1,"vocab_size":130,"max_position_embeddings":512,"rms_norm_eps":1e-6,"rope_theta":1000000.0,
        "tie_word_embeddings":true,"use_sliding_window":false,"sliding_window":64}"#,
    ),
    (
        "qwen3",
        r#"{"model_type":"qwen3","hidden_size":40,"intermediate_size":64,"num_hidden_layers":3,"num_attention_heads":5,
        "num_key_value_heads":5,"head_dim":20,"vocab_size":64,"max_position_embeddings":512,"rms_norm_eps":1e-6,
        "rope_theta":1000000.0,"tie_word_embeddings":true}"#,
    ),
    (
        "mistral",
        r#"{"model_type":"mistral","hidden_size":576,"intermediate_size":600,"num_hidden_layers":1,"num_attention_heads":9,
        "num_key_value_heads":3,"vocab_size":257,"max_position_embeddings":1024,"rms_norm_eps":1e-5,
        "rope_theta":10000.0,"sliding_window":null}"#,
    ),
    (
        "biased",
        r#"{"model_type":"llama","hidden_size":32,"intermediate_size":48,"num_hidden_layers":2,"num_attention_heads":2,
        "vocab_size":50,"max_position_embeddings":2048,"rms_norm_eps":1e-5,"attention_bias":true,
        "rope_scaling":{"type":"linear","factor":2.0}}"#,
    ),
];

/// Numbers that are the same everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32
    }

    pub fn tokens(&mut self, count: usize, vocabulary: usize) -> Vec<u32> {
        (0..count).map(|_| self.next() % vocabulary as u32).collect()
    }
}

/// `config.json` and `model.safetensors` of pseudo-random weights.
pub fn files(config: &str, seed: u64) -> Files {
    files_of(config, &config::parse(config.as_bytes()).unwrap(), seed)
}

/// The same of any network.
pub fn files_of<N: Network>(config: &str, architecture: &N, seed: u64) -> Files {
    let mut random = Random(seed);
    let (mut header, mut data) = (Vec::new(), Vec::new());
    for (role, shape) in architecture.weights() {
        let start = data.len();
        let norm = role.to_string().to_lowercase().contains("norm");
        for _ in 0..shape.iter().product::<usize>() {
            let unit = random.next() as f32 / (1_u64 << 31) as f32 - 0.5;
            let value = if norm { 1.0 + unit } else { unit * 0.6 };
            // Half of the configurations have weights that are packed as bfloat16.
            let value = if seed % 2 == 1 { f32::from_bits(value.to_bits() & 0xffff_0000) } else { value };
            data.extend_from_slice(&value.to_le_bytes());
        }
        header.push(format!(
            r#""{role}":{{"dtype":"F32","shape":{shape:?},"data_offsets":[{start},{}]}}"#,
            data.len()
        ));
    }
    let header = format!("{{{}}}", header.join(","));
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend_from_slice(&data);
    Files::from([
        ("config.json".to_owned(), config.as_bytes().to_vec()),
        ("model.safetensors".to_owned(), file),
    ])
}

/// The same model, computed in int8 (`model.md` §7.6).
pub fn in_int8(mut files: Files) -> Files {
    files.insert("hallmark.json".to_owned(), br#"{"arithmetic":"int8"}"#.to_vec());
    files
}

pub fn names(files: &Files) -> Vec<String> {
    files.keys().cloned().collect()
}

pub fn open(files: &Files) -> Checkpoint<'_> {
    Checkpoint::open(&names(files), files).unwrap()
}

pub fn decoder(files: &Files, isa: Isa, threads: usize, change: &dyn Fn(&mut Options)) -> Decoder {
    let mut options = Options { threads, isa, ..Options::default() };
    change(&mut options);
    let weights = Arc::new(Weights::load(&open(files), isa).unwrap());
    Decoder::new(weights, &options).unwrap()
}

/// Parameters that draw, with every rule in use.
pub fn drawn(seed: u64, max_tokens: u32) -> Parameters {
    Parameters {
        temperature: 0.9,
        top_k: 40,
        top_p: 0.95,
        min_p: 0.01,
        repetition: 1.1,
        presence: 0.1,
        frequency: 0.05,
        seed: Some(Seed::Client(seed)),
        ..Parameters::greedy(max_tokens)
    }
}

/// Everything that a sequence gave: tokens and the bits of their log probabilities.
pub type Answer = Vec<(u32, u32)>;

pub fn collect(answers: &mut BTreeMap<SequenceId, Answer>, events: Vec<Event>) {
    for event in events {
        let bits = event.logprob.unwrap().value.to_bits();
        answers.entry(event.sequence).or_default().push((event.token.unwrap(), bits));
    }
}

/// The answer that a decoder gives when it has nothing else to do.
pub fn alone(decoder: &mut Decoder, prompt: &[u32], parameters: &Parameters) -> Answer {
    let id = decoder.start(prompt, parameters.clone(), Some(0)).unwrap();
    let mut answers = BTreeMap::new();
    while !decoder.is_idle() {
        collect(&mut answers, decoder.step());
    }
    answers.remove(&id).unwrap()
}
