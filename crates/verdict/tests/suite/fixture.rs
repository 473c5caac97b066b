//! A tiny model, a node, a publisher, a verifier, and bundles of several shapes. Everything is fixed: no randomness.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use hallmark_model::graph::{Attrs, Graph, Node, TypeInfo, Value as GraphValue, ValueId};
use hallmark_model::ops::{Domain, find};
use hallmark_model::reference;
use hallmark_receipt::json::{Object, Value, object};
use hallmark_receipt::{
    Alg, Bundle, Certificate, Claim, Digest, Envelope, KeyId, Model, Nonce, Opening, Price, Publication,
    Purpose, RequestId, Salt, SecretKey, Signer, Tensor, Wanted, Work, domain, issue, model_id,
};
use hallmark_verdict::{Context, Policy, ReplayError, Replayer, Trust, Verdict, judge};

/// 2026-11-21 08:12:44Z.
pub const TIME: u64 = 1_795_248_764_000;
/// A minute later.
pub const NOW: u64 = TIME + 60_000;

pub fn key(alg: Alg, seed: u8) -> SecretKey {
    SecretKey::from_seed(alg, &[seed; 32]).unwrap()
}

/// An identity with a receipt key that it certifies.
pub struct NodeKeys {
    pub identity: SecretKey,
    pub key: SecretKey,
    pub certificate: Envelope,
}

impl NodeKeys {
    pub fn new(alg: Alg, seed: u8) -> Self {
        let (identity, receipt) = (key(alg, seed), key(alg, seed + 1));
        let certificate = Certificate {
            identity: identity.public_key(),
            key: receipt.public_key(),
            purpose: Purpose::Receipt,
            not_before: TIME - 1000,
            not_after: TIME + 86_400_000,
        }
        .sign(&identity)
        .unwrap();
        Self { identity, key: receipt, certificate }
    }

    pub fn id(&self) -> KeyId {
        self.identity.public_key().id()
    }
}

/// `y = Relu(a)`, `z = Relu(b)`.
fn graph() -> Graph {
    let relu = find(Domain::Onnx, "Relu").unwrap();
    let node = |input: usize, output: usize| Node {
        name: String::new(),
        op: relu,
        version: 14,
        attrs: Attrs::default(),
        inputs: vec![Some(ValueId(input))],
        declared_inputs: 1,
        outputs: vec![Some(ValueId(output))],
    };
    let value = |name: &str| GraphValue { name: name.to_owned(), info: TypeInfo::default() };
    Graph {
        values: ["a", "b", "y", "z"].map(value).to_vec(),
        inputs: vec![ValueId(0), ValueId(1)],
        outputs: vec![ValueId(2), ValueId(3)],
        nodes: vec![node(0, 2), node(1, 3)],
        ..Graph::default()
    }
}

/// The graph's bytes, as far as the judge is concerned: it only hashes them.
pub const SKELETON: &[u8] = b"y = Relu(a); z = Relu(b)";

/// The manifest of a model that computes [`graph`]; another name makes another model.
pub fn manifest(name: &str) -> Object {
    object([
        ("format", "test-model".into()),
        ("graph", domain::GRAPH.hash(&[SKELETON]).to_string().into()),
        ("name", name.into()),
        ("numeric", Value::Int(1)),
    ])
}

/// The verifier's own copies of models, run with the scalar reference.
pub struct Copies {
    graphs: BTreeMap<Digest, Graph>,
    models: Vec<hallmark_model::manifest::Model>,
}

impl Copies {
    pub fn of(names: &[&str]) -> Self {
        let graphs = names.iter().map(|name| (model_id(&manifest(name)), graph())).collect();
        Self { graphs, models: Vec::new() }
    }

    /// Of ONNX models.
    pub fn holding(models: impl IntoIterator<Item = hallmark_model::manifest::Model>) -> Self {
        Self::of(&[]).and(models)
    }

    /// ONNX models too.
    pub fn and(mut self, models: impl IntoIterator<Item = hallmark_model::manifest::Model>) -> Self {
        for model in models {
            self.graphs.insert(model.id(), model.graph().as_ref().clone());
            self.models.push(model);
        }
        self
    }
}

impl Replayer for Copies {
    fn replay(
        &self,
        model: &Digest,
        inputs: &[Opening],
        _: &[Opening],
        claim: &Claim,
    ) -> Result<Vec<(String, Tensor)>, ReplayError> {
        if !claim.parameters.is_empty() {
            return Err(ReplayError::Parameters);
        }
        let graph = self.graphs.get(model).ok_or(ReplayError::ModelAbsent(*model))?;
        let name = |id: &ValueId| graph.values[id.0].name.clone();
        let ordered: Vec<&Tensor> = graph
            .inputs
            .iter()
            .map(|id| {
                inputs
                    .iter()
                    .find(|opening| opening.name() == name(id))
                    .map(Opening::tensor)
                    .ok_or_else(|| ReplayError::Execution(format!("input `{}` is missing", name(id))))
            })
            .collect::<Result<_, _>>()?;
        if inputs.len() != ordered.len() {
            return Err(ReplayError::Execution("more inputs than the model has".into()));
        }
        let outputs = reference::run(graph, &ordered, 1 << 20)
            .map_err(|error| ReplayError::Execution(error.to_string()))?;
        Ok(graph.outputs.iter().map(name).zip(outputs).collect())
    }

    fn commitment(&self, model: &Digest) -> Result<Digest, ReplayError> {
        let copy = self.models.iter().find(|copy| copy.id() == *model);
        copy.map(|copy| Digest(crate::proof::commitment(copy))).ok_or(ReplayError::ModelAbsent(*model))
    }
}

pub fn opening(name: &str, values: &[f32], salt: u8) -> Opening {
    Opening::new(name, Tensor::vector(values.to_vec()), Salt([salt; 32])).unwrap()
}

/// What the node `node` did for request `seed` with the model `name`.
pub fn work(name: &str, seed: u8) -> Work {
    let manifest = manifest(name);
    let x = f32::from(seed);
    Work {
        network: "local".into(),
        request_id: RequestId([seed; 16]),
        nonce: Nonce([seed ^ 0x55; 32]),
        model: Model::Id(model_id(&manifest)),
        inputs: vec![opening("a", &[x, -1.5, 0.25], seed ^ 1), opening("b", &[-x, 7.0], seed ^ 2)],
        outputs: vec![opening("y", &[x, 0.0, 0.25], seed ^ 3), opening("z", &[0.0, 7.0], seed ^ 4)],
        parameters: Object::new(),
        parents: Vec::new(),
        time: TIME,
        price: None,
        evidence: Wanted { signature: true, replay: Some(1), environment: None },
        manifest: Some(manifest),
        graph: Some(SKELETON.to_vec()),
        publications: Vec::new(),
    }
}

pub fn publisher(seed: u8) -> SecretKey {
    key(Alg::P256, seed)
}

pub fn publication(name: &str, seed: u8) -> Envelope {
    Publication::sign(model_id(&manifest(name)), "acme-models", &publisher(seed)).unwrap()
}

/// The honest nodes.
pub fn alice() -> NodeKeys {
    NodeKeys::new(Alg::Ed25519, 10)
}

pub fn bob() -> NodeKeys {
    NodeKeys::new(Alg::P256, 20)
}

/// The forger.
pub fn mallory() -> NodeKeys {
    NodeKeys::new(Alg::Ed25519, 66)
}

pub fn sign(work: Work, node: &NodeKeys) -> Bundle {
    issue(work, &node.certificate, &node.key).unwrap()
}

/// Honest bundles of several shapes: everything; P-256 with a price and a parent; no graph and no signature evidence; redacted.
pub fn bundles() -> Vec<Bundle> {
    let full = Work { publications: vec![publication("first", 30)], ..work("first", 1) };
    let priced = Work {
        price: Some(Price { amount: "1200".into(), asset: "OPG".into() }),
        parents: vec![Digest([7; 32])],
        publications: vec![publication("second", 31)],
        ..work("second", 2)
    };
    let plain = Work {
        graph: None,
        evidence: Wanted { signature: false, replay: Some(1), environment: None },
        ..work("first", 3)
    };
    let redacted = sign(work("first", 4), &alice()).redact();
    vec![sign(full, &alice()), sign(priced, &bob()), sign(plain, &alice()), redacted]
}

/// How a verifier looks at a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verifier {
    /// Knows nothing.
    Bare,
    /// Holds the models.
    Model,
    /// Has pinned the honest nodes.
    Pin,
    /// Both.
    Both,
}

pub const VERIFIERS: [Verifier; 4] = [Verifier::Bare, Verifier::Model, Verifier::Pin, Verifier::Both];

impl Verifier {
    pub fn context(self) -> Context {
        let named = match self {
            Self::Pin | Self::Both => {
                static IDS: OnceLock<Vec<KeyId>> = OnceLock::new();
                IDS.get_or_init(|| vec![alice().id(), bob().id()]).clone()
            }
            _ => Vec::new(),
        };
        Context { trust: Trust { named, known: Vec::new() }, ..Context::at(NOW) }
    }

    pub fn judge(self, bundle: &[u8]) -> Verdict {
        static COPIES: OnceLock<Copies> = OnceLock::new();
        let copies = COPIES
            .get_or_init(|| Copies::of(&["first", "second"]).and(crate::proof::models().iter().cloned()));
        let replayer = matches!(self, Self::Model | Self::Both).then_some(copies as &dyn Replayer);
        judge(bundle, &Policy::default_policy(), &self.context(), replayer)
    }
}
