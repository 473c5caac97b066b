//! The evidence, and the word of the node (`receipt.md` §13.14).

use hallmark_receipt::{Bundle, Certificate, Evidence, EvidenceKind, Receipt};

use super::model::numeric;
use crate::check::{Check, CheckId, Reason, Why};

/// Step 14: the evidence is what the receipt lists, but for proofs, and each piece speaks for this claim.
pub fn list(bundle: &Bundle, receipt: &Receipt) -> Check {
    let id = CheckId::Evidence;
    match find_fault(bundle, receipt) {
        Some(reason) => Check::failed(id, reason),
        None => {
            let names = |alone: bool| -> Vec<&str> {
                let kinds = bundle.evidence.iter().map(Evidence::kind);
                kinds.filter(|kind| kind.proves_itself() == alone).map(EvidenceKind::name).collect()
            };
            let mut found = Vec::new();
            for (names, how) in [(names(false), "as listed"), (names(true), "by itself")] {
                if !names.is_empty() {
                    found.push(format!("{}: {how}", names.join(", ")));
                }
            }
            if found.is_empty() {
                return Check::not_checked(id, Why::NoEvidence);
            }
            Check::passed(id, format!("{}, for this claim", found.join("; ")))
        }
    }
}

fn find_fault(bundle: &Bundle, receipt: &Receipt) -> Option<Reason> {
    for item in &bundle.evidence {
        let kind = item.kind();
        if item.claim_id() != receipt.claim_id {
            let (expected, got) = (receipt.claim_id, item.claim_id());
            return Some(Reason::EvidenceOfOther { kind, expected, got });
        }
        match receipt.evidence.iter().find(|(listed, _)| *listed == kind) {
            // Never listed: it stands or falls by itself.
            None if kind.proves_itself() => {}
            None => return Some(Reason::EvidenceUnlisted(kind)),
            Some((_, expected)) if *expected != item.digest() => {
                return Some(Reason::EvidenceChanged { kind, expected: *expected, got: item.digest() });
            }
            Some(_) => {}
        }
        if let Evidence::Replay { numeric: got, .. } = item {
            let Some(expected) = bundle.manifest.as_ref().and_then(numeric) else {
                return Some(Reason::ManifestForm { member: "numeric" });
            };
            if expected != u64::from(*got) {
                return Some(Reason::Numeric { expected, got: u64::from(*got) });
            }
        }
    }
    let held = |kind: EvidenceKind| bundle.evidence.iter().any(|item| item.kind() == kind);
    receipt.evidence.iter().map(|(kind, _)| *kind).find(|kind| !held(*kind)).map(Reason::EvidenceMissing)
}

/// Step 14b: the node's key signed the bare claim.
pub fn word(bundle: &Bundle, receipt: &Receipt, certificate: Option<&Certificate>) -> Check {
    let id = CheckId::Word;
    let Some(item) = bundle.evidence.iter().find(|item| item.kind() == EvidenceKind::Signature) else {
        return Check::not_checked(id, Why::NoEvidence);
    };
    let Some(certificate) = certificate else {
        return Check::not_checked(id, Why::After(CheckId::Certificate));
    };
    if item.claim_id() != receipt.claim_id {
        return Check::not_checked(id, Why::After(CheckId::Evidence));
    }
    match item.verify_signature(&certificate.key) {
        Some(Ok(())) => Check::passed(id, format!("key {} signed the claim", certificate.key.id())),
        Some(Err(error)) => Check::failed(id, Reason::Word(error)),
        None => Check::not_checked(id, Why::NoEvidence),
    }
}
