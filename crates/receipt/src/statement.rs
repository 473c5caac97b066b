//! Receipts: in-toto statements about a claim (`receipt.md` §10).

use crate::Digest;
use crate::claim::Claim;
use crate::evidence::{EvidenceKind, kind_field};
use crate::json::{Value, object};
use crate::keys::KeyId;
use crate::wire::{Fields, FormatError};

/// `_type` of every in-toto statement.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// `predicateType` of a receipt.
pub const RECEIPT_TYPE: &str = "https://hallmark.network/receipt/v1";
/// The name of the subject's digest: a salted commitment, not the hash of a file.
pub const SUBJECT_DIGEST: &str = "hallmarkOutputs";

/// What an answer costs: an amount in the smallest unit of an asset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    /// Decimal digits, without leading zeros.
    pub amount: String,
    /// The asset's name.
    pub asset: String,
}

/// What a node signs about one answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The statement's subject: the commitment to the outputs.
    pub subject: Digest,
    /// The claim.
    pub claim: Claim,
    /// The claim's id as the statement has it.
    pub claim_id: Digest,
    /// When, by the node's word: milliseconds since 1970.
    pub time: u64,
    /// The receipt key that signs.
    pub signer: KeyId,
    /// Digests of the evidence that the bundle must hold, in the order of the kinds.
    pub evidence: Vec<(EvidenceKind, Digest)>,
    /// Whether the bundle must hold the graph without its weights.
    pub graph: bool,
    /// What the answer costs, if it costs anything.
    pub price: Option<Price>,
}

impl Receipt {
    /// The statement in canonical JSON: the payload of the envelope.
    pub fn to_payload(&self) -> Vec<u8> {
        let evidence = self
            .evidence
            .iter()
            .map(|(kind, digest)| {
                Value::Object(object([("digest", digest.to_string().into()), ("kind", kind.name().into())]))
            })
            .collect();
        // `issue` takes no time outside a certificate's validity, which is within 2^53.
        let time = Value::int(self.time).unwrap_or(Value::Int(crate::json::MAX_INTEGER));
        let mut predicate = object([
            ("claim", self.claim.to_value()),
            ("claim_id", self.claim_id.to_string().into()),
            ("evidence", Value::Array(evidence)),
            ("graph", Value::Bool(self.graph)),
            ("signer", self.signer.to_string().into()),
            ("time", time),
        ]);
        if let Some(price) = &self.price {
            let price =
                object([("amount", price.amount.as_str().into()), ("asset", price.asset.as_str().into())]);
            predicate.insert("price".to_owned(), Value::Object(price));
        }
        let digest = object([(SUBJECT_DIGEST, self.subject.to_string().into())]);
        let subject = object([("digest", Value::Object(digest)), ("name", "outputs".into())]);
        let statement = object([
            ("_type", STATEMENT_TYPE.into()),
            ("predicate", Value::Object(predicate)),
            ("predicateType", RECEIPT_TYPE.into()),
            ("subject", Value::Array(vec![Value::Object(subject)])),
        ]);
        Value::Object(statement).canonical().into_bytes()
    }

    /// Reads a statement. Only its form is checked: that its parts agree is the judge's to say.
    pub fn parse(payload: &[u8]) -> Result<Self, FormatError> {
        let mut fields = Fields::signed(payload, "statement", crate::dsse::MAX_PAYLOAD)?;
        fields.constant("_type", STATEMENT_TYPE)?;
        fields.constant("predicateType", RECEIPT_TYPE)?;
        let subject_path = fields.path("subject");
        let mut subjects = fields.array("subject", 1)?;
        let (path, subject) = subjects
            .pop()
            .ok_or(FormatError::Value { path: subject_path, expected: "exactly one subject" })?;
        let mut subject = Fields::new(subject, &path)?;
        subject.constant("name", "outputs")?;
        let mut digest = subject.fields("digest")?;
        let commitment = digest.digest(SUBJECT_DIGEST)?;
        digest.finish()?;
        subject.finish()?;
        let mut predicate = fields.fields("predicate")?;
        fields.finish()?;
        let claim = Claim::from_fields(predicate.fields("claim")?)?;
        let claim_id = predicate.digest("claim_id")?;
        let time = predicate.integer("time")?;
        let signer = KeyId(predicate.digest("signer")?);
        let evidence = evidence_list(&mut predicate)?;
        let graph = match predicate.value("graph")? {
            Value::Bool(graph) => graph,
            other => {
                let path = predicate.path("graph");
                return Err(FormatError::Kind { path, expected: "a truth value", got: other.kind() });
            }
        };
        let price = if predicate.has("price") { Some(price(predicate.fields("price")?)?) } else { None };
        predicate.finish()?;
        Ok(Self { subject: commitment, claim, claim_id, time, signer, evidence, graph, price })
    }
}

fn evidence_list(predicate: &mut Fields) -> Result<Vec<(EvidenceKind, Digest)>, FormatError> {
    let mut list: Vec<(EvidenceKind, Digest)> = Vec::new();
    for (path, item) in predicate.array("evidence", EvidenceKind::ALL.len())? {
        let mut fields = Fields::new(item, &path)?;
        let kind = kind_field(&mut fields)?;
        let digest = fields.digest("digest")?;
        fields.finish()?;
        if list.last().is_some_and(|(last, _)| *last >= kind) {
            return Err(FormatError::Value { path, expected: "each kind once, in the order of the kinds" });
        }
        list.push((kind, digest));
    }
    Ok(list)
}

fn price(mut fields: Fields) -> Result<Price, FormatError> {
    let amount = fields.text("amount", 78)?;
    if !amount.bytes().all(|b| b.is_ascii_digit()) || (amount.len() > 1 && amount.starts_with('0')) {
        return Err(FormatError::Value { path: fields.path("amount"), expected: "decimal digits" });
    }
    let asset = crate::claim::name(&mut fields, "asset")?;
    fields.finish()?;
    Ok(Price { amount, asset })
}
