//! The forger's workshop: five ways to forge a bundle.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hallmark_receipt::json::Value;
use hallmark_receipt::{Bundle, Tensor};

use super::{Answer, App};
use crate::cmd::infer;
use crate::model::Copy;
use crate::store::Home;

/// What the forger has at hand: an honest bundle, another one, and keys of the forger's own.
pub struct Material<'a> {
    victim: &'a Answer,
    other: &'a Answer,
    forger: App,
}

/// A way to forge.
pub struct Attack {
    /// Its name.
    pub name: &'static str,
    /// What the forger does.
    pub story: &'static str,
    /// The check that catches it.
    pub caught_by: &'static str,
    /// Does it.
    pub forge: fn(&Material<'_>) -> Result<Vec<u8>>,
}

/// All of them.
pub const ATTACKS: &[Attack] = &[
    Attack {
        name: "output",
        story: "swap two scores in the answer, so that it says another digit.",
        caught_by: "outputs",
        forge: other_output,
    },
    Attack {
        name: "model",
        story: "put another model's manifest in, as if that one had answered.",
        caught_by: "manifest",
        forge: other_model,
    },
    Attack {
        name: "signature",
        story: "change one bit of the node's signature.",
        caught_by: "signature",
        forge: other_signature,
    },
    Attack {
        name: "resigned",
        story: "change the answer and sign everything anew, with fresh keys and a fresh certificate: every hash and \
                signature in the file holds.",
        caught_by: "replay",
        forge: signed_anew,
    },
    Attack {
        name: "evidence",
        story: "put in the evidence of another request.",
        caught_by: "evidence",
        forge: other_evidence,
    },
];

impl<'a> Material<'a> {
    /// Sets the workshop up in `dir`.
    pub fn new(node: &App, victim: &'a Answer, other: &'a Answer, dir: &Path) -> Result<Self> {
        let home = Home::new(dir.join("forger"), Duration::from_secs(10));
        Ok(Self { victim, other, forger: App { home, ..node.clone() } })
    }
}

fn other_output(material: &Material<'_>) -> Result<Vec<u8>> {
    edit(&material.victim.bundle, |bundle| {
        let data = at(bundle, &["openings", "outputs", "0", "data"])?;
        let Value::Str(text) = data else { return Err(malformed()) };
        let bytes = STANDARD.decode(text.as_bytes()).map_err(|_| malformed())?;
        let scores = bytes.chunks_exact(4).map(<[u8]>::to_vec).collect();
        *text = STANDARD.encode(swapped(scores, |a, b| float(a).total_cmp(&float(b))).concat());
        Ok(())
    })
}

fn other_model(material: &Material<'_>) -> Result<Vec<u8>> {
    edit(&material.victim.bundle, |bundle| {
        let manifest = material.other.bundle.manifest.clone().ok_or_else(malformed)?;
        *at(bundle, &["manifest"])? = Value::Object(manifest);
        Ok(())
    })
}

fn other_signature(material: &Material<'_>) -> Result<Vec<u8>> {
    edit(&material.victim.bundle, |bundle| {
        let Value::Str(text) = at(bundle, &["envelope", "signatures", "0", "sig"])? else {
            return Err(malformed());
        };
        let mut bytes = STANDARD.decode(text.as_bytes()).map_err(|_| malformed())?;
        if let Some(byte) = bytes.first_mut() {
            *byte ^= 1;
        }
        *text = STANDARD.encode(bytes);
        Ok(())
    })
}

fn signed_anew(material: &Material<'_>) -> Result<Vec<u8>> {
    let Answer { copy, inputs, outputs, .. } = material.victim;
    let change = |(name, tensor): &(String, Tensor)| {
        let scores = tensor.as_slice::<f32>().ok_or_else(malformed)?.to_vec();
        let scores = swapped(scores, f32::total_cmp);
        Ok((name.clone(), Tensor::from_vec(tensor.shape().to_vec(), scores)?))
    };
    let outputs = outputs.iter().map(change).collect::<Result<infer::Named>>()?;
    let copy: &Copy = copy;
    let (bundle, _) =
        infer::receipt(&material.forger, copy, inputs.clone(), outputs, &infer::Asked::default())?;
    Ok(bundle.to_json().into_bytes())
}

fn other_evidence(material: &Material<'_>) -> Result<Vec<u8>> {
    let mut forged = material.victim.bundle.clone();
    forged.evidence.clone_from(&material.other.bundle.evidence);
    Ok(forged.to_json().into_bytes())
}

/// Exchanges the greatest and the least element.
fn swapped<T>(mut values: Vec<T>, order: impl Fn(&T, &T) -> std::cmp::Ordering) -> Vec<T> {
    let indices = || 0..values.len();
    let greatest = indices().max_by(|a, b| order(&values[*a], &values[*b]));
    let least = indices().min_by(|a, b| order(&values[*a], &values[*b]));
    if let (Some(greatest), Some(least)) = (greatest, least) {
        values.swap(greatest, least);
    }
    values
}

fn float(bytes: &[u8]) -> f32 {
    bytes.first_chunk().map_or(0.0, |bytes| f32::from_le_bytes(*bytes))
}

/// Edits a bundle as a document, past the types that would not allow it.
fn edit(bundle: &Bundle, change: impl FnOnce(&mut Value) -> Result<()>) -> Result<Vec<u8>> {
    let text = bundle.to_json();
    let mut value = Value::parse(text.as_bytes(), text.len())?;
    change(&mut value)?;
    Ok(value.pretty().into_bytes())
}

fn at<'v>(value: &'v mut Value, path: &[&str]) -> Result<&'v mut Value> {
    path.iter().try_fold(value, |value, step| {
        match value {
            Value::Object(members) => members.get_mut(*step),
            Value::Array(items) => step.parse::<usize>().ok().and_then(|index| items.get_mut(index)),
            _ => None,
        }
        .ok_or_else(malformed)
    })
}

fn malformed() -> anyhow::Error {
    anyhow!("the demo's own bundle is not as expected")
}
