//! Bundles: everything that a stranger needs in one file, `*.receipt.json` (`receipt.md` §12).

use crate::Digest;
use crate::commit::{MAX_TENSORS, Opening};
use crate::dsse::{Envelope, PayloadType};
use crate::evidence::{Evidence, EvidenceKind};
use crate::json::{Object, Value, canonical_object, object};
use crate::wire::{Fields, FormatError, to_base64};

/// `format` of a bundle.
pub const FORMAT: &str = "hallmark-receipt/1";
/// The most bytes of a bundle.
pub const MAX_BUNDLE: usize = 128 << 20;
/// The most certificates, and the most publications.
pub const MAX_ENVELOPES: usize = 8;
/// The most bytes of a graph without its weights.
pub const MAX_GRAPH: usize = 32 << 20;

/// A bundle. Parsed means well formed, not true: that is for the judge to say.
#[derive(Clone, Debug, PartialEq)]
pub struct Bundle {
    /// The receipt: an in-toto statement in its envelope.
    pub envelope: Envelope,
    /// The certificate of the receipt's key.
    pub certificates: Vec<Envelope>,
    /// What opens the commitment to the inputs; absent when redacted.
    pub inputs: Option<Vec<Opening>>,
    /// What opens the commitment to the outputs; absent when redacted.
    pub outputs: Option<Vec<Opening>>,
    /// The evidence that the receipt lists, then what proves itself, in the order of the kinds.
    pub evidence: Vec<Evidence>,
    /// The model's manifest, whose SHA-256 in canonical form is the model's id; absent for a model that is only named.
    pub manifest: Option<Object>,
    /// The model's graph without its weights.
    pub graph: Option<Vec<u8>>,
    /// What publishers say about the model's id.
    pub publications: Vec<Envelope>,
}

impl Bundle {
    /// Reads a bundle: strictly, and within the limits of `receipt.md` §12.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let value = Value::parse(bytes, MAX_BUNDLE)
            .map_err(|source| FormatError::Json { path: "bundle".to_owned(), source })?;
        let mut fields = Fields::new(value, "")?;
        fields.constant("format", FORMAT)?;
        let envelope = Envelope::from_value(fields.value("envelope")?, "envelope", PayloadType::Statement)?;
        let certificates = envelopes(&mut fields, "certificates", PayloadType::Certificate)?;
        let (mut inputs, mut outputs) = (None, None);
        if fields.has("openings") {
            let mut openings = fields.fields("openings")?;
            inputs = self::openings(&mut openings, "inputs")?;
            outputs = self::openings(&mut openings, "outputs")?;
            if inputs.is_none() && outputs.is_none() {
                return Err(FormatError::Value {
                    path: "openings".to_owned(),
                    expected: "inputs or outputs",
                });
            }
            openings.finish()?;
        }
        let mut evidence: Vec<Evidence> = Vec::new();
        for (path, item) in fields.array("evidence", EvidenceKind::ALL.len())? {
            let item = Evidence::from_value(item, &path)?;
            if evidence.last().is_some_and(|last| last.kind() >= item.kind()) {
                return Err(FormatError::Value {
                    path,
                    expected: "each kind once, in the order of the kinds",
                });
            }
            evidence.push(item);
        }
        let manifest = if fields.has("manifest") { Some(fields.object("manifest")?) } else { None };
        let graph = if fields.has("graph") { Some(fields.base64("graph", MAX_GRAPH)?) } else { None };
        let publications = if fields.has("publications") {
            let list = envelopes(&mut fields, "publications", PayloadType::Statement)?;
            if list.is_empty() {
                return Err(FormatError::Value {
                    path: "publications".to_owned(),
                    expected: "at least one, or no such member",
                });
            }
            list
        } else {
            Vec::new()
        };
        fields.finish()?;
        Ok(Self { envelope, certificates, inputs, outputs, evidence, manifest, graph, publications })
    }

    /// The bundle as a file: indented JSON.
    pub fn to_json(&self) -> String {
        let list = |envelopes: &[Envelope]| Value::Array(envelopes.iter().map(Envelope::to_value).collect());
        let mut members = object([
            ("certificates", list(&self.certificates)),
            ("envelope", self.envelope.to_value()),
            ("evidence", Value::Array(self.evidence.iter().map(Evidence::to_value).collect())),
            ("format", FORMAT.into()),
        ]);
        let mut openings = Object::new();
        for (name, side) in [("inputs", &self.inputs), ("outputs", &self.outputs)] {
            if let Some(side) = side {
                let side = Value::Array(side.iter().map(Opening::to_value).collect());
                openings.insert(name.to_owned(), side);
            }
        }
        if !openings.is_empty() {
            members.insert("openings".to_owned(), Value::Object(openings));
        }
        if let Some(manifest) = &self.manifest {
            members.insert("manifest".to_owned(), Value::Object(manifest.clone()));
        }
        if let Some(graph) = &self.graph {
            members.insert("graph".to_owned(), to_base64(graph).into());
        }
        if !self.publications.is_empty() {
            members.insert("publications".to_owned(), list(&self.publications));
        }
        Value::Object(members).pretty()
    }

    /// The same bundle without its openings: nothing left tells which inputs or outputs they were.
    #[must_use]
    pub fn redact(mut self) -> Self {
        self.inputs = None;
        self.outputs = None;
        // A proof tells something of what it is about.
        self.evidence.retain(|item| !item.kind().proves_itself());
        self
    }
}

/// A model's id: the SHA-256 of its manifest's canonical form.
pub fn model_id(manifest: &Object) -> Digest {
    Digest::of(&[canonical_object(manifest).as_bytes()])
}

fn envelopes(
    fields: &mut Fields,
    name: &str,
    payload_type: PayloadType,
) -> Result<Vec<Envelope>, FormatError> {
    fields
        .array(name, MAX_ENVELOPES)?
        .into_iter()
        .map(|(path, value)| Envelope::from_value(value, &path, payload_type))
        .collect()
}

fn openings(fields: &mut Fields, name: &str) -> Result<Option<Vec<Opening>>, FormatError> {
    if !fields.has(name) {
        return Ok(None);
    }
    let mut openings: Vec<Opening> = Vec::new();
    for (path, value) in fields.array(name, MAX_TENSORS)? {
        let opening = Opening::from_value(value, &path)?;
        if openings.iter().any(|other| other.name() == opening.name()) {
            return Err(FormatError::Value { path, expected: "each name once" });
        }
        openings.push(opening);
    }
    Ok(Some(openings))
}
