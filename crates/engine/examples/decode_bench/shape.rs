//! Language models of a given shape with pseudo-random weights, as files that are computed when they are read.

use hallmark_model::llm::config;
use hallmark_model::onnx::{ExternalData, ExternalDataError};

/// What a Llama is made of; embeddings are tied.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub hidden: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub intermediate: usize,
    pub vocabulary: usize,
}

pub const CONFIG: &str = "config.json";
pub const WEIGHTS: &str = "model.safetensors";
pub const COMPUTE: &str = "hallmark.json";
/// What the last of them says.
const INT8: &[u8] = br#"{"arithmetic":"int8"}"#;

/// A folder with a model of one shape, float32.
pub struct Made {
    pub config: String,
    header: Vec<u8>,
    size: u64,
}

impl Made {
    pub fn new(shape: &Shape) -> Self {
        let Shape { hidden, layers, heads, kv_heads, intermediate, vocabulary } = shape;
        let config = format!(
            r#"{{"model_type":"llama","hidden_size":{hidden},"intermediate_size":{intermediate},"num_hidden_layers":{layers},
            "num_attention_heads":{heads},"num_key_value_heads":{kv_heads},"head_dim":{},"vocab_size":{vocabulary},
            "max_position_embeddings":8192,"rms_norm_eps":1e-5,"rope_theta":500000.0,"tie_word_embeddings":true}}"#,
            hidden / heads
        );
        let (mut entries, mut at) = (Vec::new(), 0_u64);
        for (role, shape) in config::parse(config.as_bytes()).unwrap().weights() {
            let end = at + 4 * shape.iter().product::<usize>() as u64;
            entries
                .push(format!(r#""{role}":{{"dtype":"F32","shape":{shape:?},"data_offsets":[{at},{end}]}}"#));
            at = end;
        }
        let json = format!("{{{}}}", entries.join(","));
        let header = [&(json.len() as u64).to_le_bytes()[..], json.as_bytes()].concat();
        Self { config, size: header.len() as u64 + at, header }
    }
}

/// Weight `index`: 2^-7 to 2^-6 or the negative of that, all bits of the mantissa in use.
fn weight(index: u64) -> f32 {
    let mixed = index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93) >> 32;
    f32::from_bits(0x3c00_0000 | mixed as u32 & 0x807f_ffff)
}

impl ExternalData for Made {
    fn read(&self, path: &str, offset: u64, length: u64) -> Result<Vec<u8>, ExternalDataError> {
        let head = match path {
            CONFIG => self.config.as_bytes(),
            COMPUTE => INT8,
            _ => &self.header,
        };
        if let Some(bytes) = head.get(offset as usize..(offset + length) as usize) {
            return Ok(bytes.to_vec());
        }
        // Tensors are read from their first element on.
        let start = (offset - head.len() as u64) / 4;
        Ok((start..start + length / 4).flat_map(|index| weight(index).to_le_bytes()).collect())
    }

    fn size(&self, path: &str) -> Result<u64, ExternalDataError> {
        Ok(match path {
            CONFIG => self.config.len() as u64,
            COMPUTE => INT8.len() as u64,
            _ => self.size,
        })
    }
}
