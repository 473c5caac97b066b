//! The models that travel inside the binary, so that everything runs on an empty home.

use serde::Deserialize;

/// A shipped model's files.
#[derive(Clone, Copy, Debug)]
pub struct Shipped {
    /// Its name.
    pub name: &'static str,
    /// The ONNX file.
    pub onnx: &'static [u8],
    /// Held-out samples: inputs by name in an .npz.
    pub samples: &'static [u8],
    /// What the samples should give, and words for people.
    pub meta: &'static str,
    /// The model card.
    pub card: &'static str,
}

macro_rules! shipped {
    ($($name:literal),* $(,)?) => {&[$(Shipped {
        name: $name,
        onnx: include_bytes!(concat!("../../../models/", $name, "/model.onnx")),
        samples: include_bytes!(concat!("../../../models/", $name, "/samples.npz")),
        meta: include_str!(concat!("../../../models/", $name, "/meta.json")),
        card: include_str!(concat!("../../../models/", $name, "/card.md")),
    }),*]};
}

/// All shipped models.
pub const SHIPPED: &[Shipped] = shipped!["digits-cnn", "phrase-language", "tumour-mlp", "tumour-trees"];

/// A shipped language model's files.
#[derive(Clone, Copy, Debug)]
pub struct ShippedLanguage {
    /// Its name.
    pub name: &'static str,
    /// One line.
    pub title: &'static str,
    /// Its files by name (`model.md` §7.1).
    pub files: &'static [(&'static str, &'static [u8])],
    /// The model card.
    pub card: &'static str,
}

/// All shipped language models.
pub const LANGUAGES: &[ShippedLanguage] = &[ShippedLanguage {
    name: "tiny-chat",
    title: "A tiny chat model",
    files: &[
        ("config.json", include_bytes!("../../../models/tiny-chat/config.json")),
        ("generation_config.json", include_bytes!("../../../models/tiny-chat/generation_config.json")),
        ("model.safetensors", include_bytes!("../../../models/tiny-chat/model.safetensors")),
        ("tokenizer.json", include_bytes!("../../../models/tiny-chat/tokenizer.json")),
        ("tokenizer_config.json", include_bytes!("../../../models/tiny-chat/tokenizer_config.json")),
    ],
    card: include_str!("../../../models/tiny-chat/card.md"),
}];

impl ShippedLanguage {
    /// The shipped language model of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        LANGUAGES.iter().find(|model| model.name == name)
    }
}

/// Words about a shipped model.
#[derive(Clone, Debug, Deserialize)]
pub struct Meta {
    /// One line.
    pub title: String,
    /// What it decides.
    pub task: String,
    /// How an input is best shown and given: `image`, `letters` or `table`.
    pub view: String,
    /// What the numbers of an input are, where it is a table.
    #[serde(default)]
    pub columns: Vec<String>,
    /// The output that holds the answer: scores by class.
    pub answer: String,
    /// The classes, in the output's order.
    pub classes: Vec<String>,
    /// Samples as text, where they can be shown so.
    #[serde(default)]
    pub texts: Vec<String>,
    /// The held-out score beside a baseline's.
    pub score: String,
    /// The true class of each sample.
    pub expected: Vec<usize>,
}

impl Shipped {
    /// The shipped model of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        SHIPPED.iter().find(|model| model.name == name)
    }

    /// What its folder says about it.
    pub fn meta(&self) -> Result<Meta, serde_json::Error> {
        serde_json::from_str(self.meta)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor_io::{Limits, npz};

    #[test]
    fn every_shipped_model_has_samples_and_their_classes() {
        for model in SHIPPED {
            let meta = model.meta().unwrap();
            let samples = npz::read(model.samples, &Limits::default()).unwrap();
            for (name, tensor) in &samples {
                assert_eq!(tensor.shape()[0], meta.expected.len(), "{} {name}", model.name);
            }
            assert!(meta.expected.iter().all(|class| *class < meta.classes.len()));
            assert!(["image", "letters", "table"].contains(&meta.view.as_str()));
            assert_eq!(meta.view == "table", !meta.columns.is_empty(), "{}", model.name);
            assert!(meta.texts.is_empty() || meta.texts.len() == meta.expected.len());
        }
    }
}
