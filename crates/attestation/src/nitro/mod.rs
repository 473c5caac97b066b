//! AWS Nitro Enclaves: attestation documents (`attestation.md` §4), as AWS describes them in
//! [attestation_process.md](https://github.com/aws/aws-nitro-enclaves-nsm-api/blob/main/docs/attestation_process.md).

mod claims;
mod document;
mod nitriding;

use hallmark_receipt::json::Object;
use serde::Deserialize;

pub use document::{Document, DocumentError};
pub use nitriding::BoundKeys;

use crate::check::{CheckId, Reason, Why};
use crate::crypto::{self, Form, Scheme};
use crate::measurement::{Measurements, Register};
use crate::report::{Context, Judgement, Report};
use crate::x509::{Chain, Rules};
use crate::{Input, Kind, encoding};

/// What a policy may ask of Nitro documents alone: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {}

/// Four certificates between root and leaf is what AWS issues.
const RULES: Rules = Rules { longest: 8, schemes: &[Scheme::EcdsaP384], known: &[] };

const ALWAYS: &[CheckId] = &[
    CheckId::Format,
    CheckId::Root,
    CheckId::Chain,
    CheckId::Validity,
    CheckId::Signature,
    CheckId::Debug,
    CheckId::Algorithm,
];

/// Judges a document.
pub fn verify(input: &Input<'_>, context: &Context<'_>) -> Report {
    let mut judgement = Judgement::new(Kind::Nitro, context, (&context.policy.nitro).into());
    // 1. The form: every byte of the document has its place.
    let bytes = match encoding::decode(input.evidence) {
        Ok(bytes) => bytes,
        Err(error) => {
            judgement.record(CheckId::Format, Err::<&str, _>(error));
            return judgement.finish(ALWAYS, None);
        }
    };
    let document = match Document::parse(&bytes) {
        Ok(document) => document,
        Err(error) => {
            judgement.record(CheckId::Format, Err::<&str, _>(error));
            return judgement.finish(ALWAYS, None);
        }
    };
    judgement.record(CheckId::Format, Ok::<_, Reason>(format!("document of {}", document.module_id)));
    judgement.record(CheckId::Algorithm, Ok::<_, Reason>("ES384, digests of SHA-384"));
    judgement.marked = document.is_marked();
    // 2. - 5. The certificates; the bundle starts with the root.
    let chain = chain(&mut judgement, &document);
    if let Some(chain) = &chain {
        match encoding::items(input.collateral) {
            Ok(lists) => judgement.revocation(0, &[chain], &lists),
            Err(error) => judgement.record(CheckId::Revocation, Err::<&str, _>(error)),
        }
    }
    // 6. The signature.
    signature(&mut judgement, &document, chain.as_ref());
    // 7. Debug mode measures nothing: PCR0 to PCR2 are zero.
    let measured =
        (0..3).all(|number| document.pcrs.get(&number).is_some_and(|pcr| pcr.iter().any(|byte| *byte != 0)));
    judgement.debug((!measured).then_some("PCR0 to PCR2 are not all measured"), "PCR0 to PCR2 are measured");
    // 8. - 12. What runs, for whom, and when.
    let measurements: Measurements =
        document.pcrs.iter().map(|(number, pcr)| (Register::Pcr(*number), pcr.to_vec())).collect();
    judgement.measurements(&measurements);
    judgement.claim(|| claims::of(&document));
    judgement.skip(CheckId::Log, Why::NoLog);
    judgement.nonce(document.nonce.unwrap_or_default());
    let user_data = document.user_data.unwrap_or_default();
    judgement.binding("user_data", user_data);
    judgement.age(Some(document.timestamp_ms / 1000));
    judgement.finish(ALWAYS, Some((measurements, user_data.to_vec())))
}

/// Every field of a document, for people.
pub fn show(file: &[u8]) -> Result<Object, Reason> {
    Ok(Document::parse(&encoding::decode(file)?)?.fields())
}

/// Steps 2 to 4: root, chain, validity.
fn chain<'a>(judgement: &mut Judgement<'_>, document: &Document<'a>) -> Option<Chain<'a>> {
    let leaf_first = std::iter::once(document.certificate).chain(document.cabundle.iter().rev().copied());
    match Chain::parse(leaf_first, &RULES) {
        Err(error) => {
            judgement.record(CheckId::Chain, Err::<&str, _>(error));
            None
        }
        Ok(chain) => {
            judgement.chain(&chain, &RULES);
            Some(chain)
        }
    }
}

/// Step 6: the leaf's key signed `Sig_structure` (RFC 9052 §4.4).
fn signature(judgement: &mut Judgement<'_>, document: &Document<'_>, chain: Option<&Chain<'_>>) {
    let Some(chain) = chain else { return judgement.skip(CheckId::Signature, Why::After(CheckId::Chain)) };
    let signed = document.signed_bytes();
    let result =
        crypto::verify(chain.leaf().key, Scheme::EcdsaP384, Form::Fixed, &signed, document.signature);
    let result = result.map(|()| "by the leaf's key").map_err(|_| Reason::Signature);
    judgement.record(CheckId::Signature, result);
}
