//! Receipts: in-toto statements about a claim (`receipt.md` §10).

use crate::Digest;
use crate::canonical::{self, Members};
use crate::claim::{Claim, MAX_NAME, verify_name};
use crate::evidence::{EvidenceKind, kind_field};
use crate::json::Value;
use crate::keys::KeyId;
use crate::wire::{Fields, FormatError, verify_length};

/// `_type` of every in-toto statement.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// `predicateType` of a receipt.
pub const RECEIPT_TYPE: &str = "https://hallmark.network/receipt/v1";
/// The name of the subject's digest: a salted commitment, not the hash of a file.
pub const SUBJECT_DIGEST: &str = "hallmarkOutputs";

/// The most digits of an amount: 2^256 has 78.
const MAX_DIGITS: usize = 78;

/// What an answer costs: an amount in the smallest unit of an asset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    /// Decimal digits, without leading zeros.
    pub amount: String,
    /// The asset's name.
    pub asset: String,
}

impl Price {
    fn check(&self, path: impl Fn(&str) -> String) -> Result<(), FormatError> {
        let Self { amount, asset } = self;
        verify_length(amount, &path("amount"), MAX_DIGITS)?;
        if !amount.bytes().all(|b| b.is_ascii_digit()) || (amount.len() > 1 && amount.starts_with('0')) {
            return Err(FormatError::Value { path: path("amount"), expected: "decimal digits" });
        }
        verify_name(asset, &path("asset"))
    }
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
        let mut out = String::with_capacity(1536);
        canonical::object(&mut out, |statement| {
            statement.text("_type", STATEMENT_TYPE);
            statement.object("predicate", |predicate| self.write(predicate));
            statement.text("predicateType", RECEIPT_TYPE);
            statement.list("subject", &[self.subject], |out, commitment| {
                canonical::object(out, |subject| {
                    subject.object("digest", |digest| digest.hex(SUBJECT_DIGEST, commitment.as_bytes()));
                    subject.text("name", "outputs");
                });
            });
        });
        out.into_bytes()
    }

    fn write(&self, predicate: &mut Members<'_>) {
        predicate.object("claim", |claim| self.claim.write(claim));
        predicate.hex("claim_id", self.claim_id.as_bytes());
        predicate.list("evidence", &self.evidence, |out, (kind, digest)| {
            canonical::object(out, |item| {
                item.hex("digest", digest.as_bytes());
                item.text("kind", kind.name());
            });
        });
        predicate.plain("graph", self.graph);
        if let Some(Price { amount, asset }) = &self.price {
            predicate.object("price", |price| {
                price.text("amount", amount);
                price.text("asset", asset);
            });
        }
        predicate.hex("signer", self.signer.0.as_bytes());
        predicate.plain("time", self.time);
    }

    /// Whether everything that a node puts into a receipt is within the format's bounds: what `parse` would refuse is not signed.
    pub fn check(&self) -> Result<(), FormatError> {
        self.claim.check()?;
        if Value::int(self.time).is_none() {
            return Err(FormatError::Value { path: "time".to_owned(), expected: "milliseconds below 2^53" });
        }
        self.price.as_ref().map_or(Ok(()), |price| price.check(|member| format!("price.{member}")))
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
        if kind.proves_itself() {
            return Err(FormatError::Value { path, expected: "a kind that receipts list" });
        }
        if list.last().is_some_and(|(last, _)| *last >= kind) {
            return Err(FormatError::Value { path, expected: "each kind once, in the order of the kinds" });
        }
        list.push((kind, digest));
    }
    Ok(list)
}

fn price(mut fields: Fields) -> Result<Price, FormatError> {
    let price = Price { amount: fields.text("amount", MAX_DIGITS)?, asset: fields.text("asset", MAX_NAME)? };
    price.check(|member| fields.path(member))?;
    fields.finish()?;
    Ok(price)
}
