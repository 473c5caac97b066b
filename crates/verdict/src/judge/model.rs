//! Which model (`receipt.md` §13.7 - §13.10).

use hallmark_receipt::json::{Object, Value};
use hallmark_receipt::{Bundle, Digest, Model, Publication, Receipt, domain, model_id};

use super::{Context, is_named};
use crate::check::{Check, CheckId, Reason, Why, model_text};
use crate::policy::Policy;

/// Step 7: the manifest's SHA-256 is the model's id.
pub fn manifest(bundle: &Bundle, receipt: &Receipt) -> Check {
    let id = CheckId::Manifest;
    let expected = match (&receipt.claim.model, &bundle.manifest) {
        (Model::Id(expected), Some(_)) => *expected,
        (Model::Id(_), None) => return Check::failed(id, Reason::ManifestMissing),
        (_, Some(_)) => return Check::failed(id, Reason::ManifestUnexpected),
        (_, None) => return Check::not_checked(id, Why::OnlyNamed),
    };
    let got = bundle.manifest.as_ref().map(model_id);
    match got {
        Some(got) if got == expected => Check::passed(id, format!("sha256 {got}")),
        Some(got) => Check::failed(id, Reason::Manifest { expected, got }),
        None => Check::failed(id, Reason::ManifestMissing),
    }
}

/// Step 8: the graph is there exactly if the receipt lists it, and is the manifest's.
pub fn graph(bundle: &Bundle, receipt: &Receipt) -> Check {
    let id = CheckId::Graph;
    let bytes = match (&bundle.graph, receipt.graph) {
        (Some(bytes), true) => bytes,
        (None, true) => return Check::failed(id, Reason::GraphMissing),
        (Some(_), false) => return Check::failed(id, Reason::GraphUnexpected),
        (None, false) if is_named(&receipt.claim.model) => return Check::not_checked(id, Why::OnlyNamed),
        (None, false) => return Check::not_checked(id, Why::NotAttached),
    };
    let expected = bundle.manifest.as_ref().and_then(graph_digest);
    let Some(expected) = expected else {
        return Check::failed(id, Reason::ManifestForm { member: "graph" });
    };
    let got = domain::GRAPH.hash(&[bytes]);
    if got == expected {
        Check::passed(id, format!("{} bytes, as the manifest says", bytes.len()))
    } else {
        Check::failed(id, Reason::Graph { expected, got })
    }
}

/// Step 9: the model is the one that the verifier, or its policy, asked for.
pub fn expected(receipt: &Receipt, policy: &Policy, context: &Context) -> Check {
    let id = CheckId::ExpectedModel;
    let named: Vec<Digest> = context.expected_model.into_iter().collect();
    let mut asked = false;
    for list in [&named, &policy.models] {
        if list.is_empty() {
            continue;
        }
        asked = true;
        if !matches!(&receipt.claim.model, Model::Id(model) if list.contains(model)) {
            let got = receipt.claim.model.clone();
            return Check::failed(id, Reason::OtherModel { expected: list.clone(), got });
        }
    }
    if asked {
        Check::passed(id, model_text(&receipt.claim.model))
    } else {
        Check::not_checked(id, Why::NoModelNamed)
    }
}

/// Step 10: every publication holds and is about this model; one is by a publisher whom the verifier knows.
pub fn publisher(bundle: &Bundle, receipt: &Receipt, policy: &Policy, context: &Context) -> Check {
    let id = CheckId::Publisher;
    let expected = match &receipt.claim.model {
        Model::Id(model) => *model,
        _ if bundle.publications.is_empty() => return Check::not_checked(id, Why::OnlyNamed),
        // No publication can be about a model without an id.
        _ => Digest([0; 32]),
    };
    let mut known = None;
    let mut unknown = None;
    let mut last = None;
    for envelope in &bundle.publications {
        let publication = match Publication::verify(envelope) {
            Ok(publication) => publication,
            Err(error) => return Check::failed(id, Reason::Publication(error)),
        };
        if publication.model != expected || is_named(&receipt.claim.model) {
            let got = publication.model;
            return Check::failed(id, Reason::PublicationOfOther { expected, got });
        }
        let key = publication.key.id();
        if last.is_some_and(|last| last >= key) {
            return Check::failed(id, Reason::PublicationOrder);
        }
        last = Some(key);
        if context.publishers.contains(&key) || policy.publishers.contains(&key) {
            known = known.or(Some((publication.publisher, key)));
        } else {
            unknown = unknown.or(Some(key));
        }
    }
    match (known, unknown) {
        (Some((name, key)), _) => Check::passed(id, format!("signed by {name} (key {key})")),
        (None, Some(key)) => Check::not_checked(id, Why::UnknownPublisher(key)),
        (None, None) => Check::not_checked(id, Why::NoPublisher),
    }
}

fn graph_digest(manifest: &Object) -> Option<Digest> {
    match manifest.get("graph")? {
        Value::Str(text) => text.parse().ok(),
        _ => None,
    }
}

/// The numeric specification's version that a manifest names.
pub fn numeric(manifest: &Object) -> Option<u64> {
    match manifest.get("numeric")? {
        Value::Int(version) => u64::try_from(*version).ok(),
        _ => None,
    }
}
