//! The environment that a receipt's key lives in, as its hardware reports it (`receipt.md` §9.1): bytes, which
//! `hallmark-attestation` judges.

use std::collections::BTreeMap;

use crate::Digest;
use crate::canonical::{self, Members};
use crate::certificate::Purpose;
use crate::domain::ENVIRONMENT;
use crate::json::{Value, object};
use crate::wire::{Fields, FormatError, as_base64, to_base64};

/// The most bytes of the evidence, of an event log and of one item of collateral.
pub const MAX_ITEM: usize = 1 << 20;
/// The most certificates, and the most items of collateral.
pub const MAX_ITEMS: usize = 32;
/// The most bytes of a bound key, or of a nonce.
pub const MAX_BOUND: usize = 1024;
/// What stands before the type where no hardware stands behind it.
const SIMULATED: &str = "SIMULATED ";

/// Evidence from hardware with all that belongs to it, and the keys that it binds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// The kind of hardware, as `attestation.md` names it.
    pub kind: String,
    /// Whether no hardware stands behind it.
    pub simulated: bool,
    /// The keys that live in it, in the form that each purpose has (`attestation.md` §10.1).
    pub keys: BTreeMap<Purpose, Vec<u8>>,
    /// The SHA-256 of the policy that it judges others by.
    pub policy: Option<Digest>,
    /// The nonce that is bound along; may be empty.
    pub nonce: Vec<u8>,
    /// The evidence.
    pub evidence: Vec<u8>,
    /// Certificates that do not come inside it.
    pub certificates: Vec<Vec<u8>>,
    /// Collateral, as it was.
    pub collateral: Vec<Vec<u8>>,
    /// The log of events behind runtime measurements.
    pub event_log: Option<Vec<u8>>,
}

impl Environment {
    /// `H("environment", canonical JSON)`.
    pub fn digest(&self) -> Digest {
        let mut out = String::with_capacity(self.evidence.len().saturating_mul(2));
        canonical::object(&mut out, |members| self.write(members));
        ENVIRONMENT.hash(&[out.as_bytes()])
    }

    /// What the format would refuse.
    pub(crate) fn check(&self, path: &str) -> Result<(), FormatError> {
        Self::from_value(self.to_value(), path).map(|_| ())
    }

    fn type_text(&self) -> String {
        if self.simulated { format!("{SIMULATED}{}", self.kind) } else { self.kind.clone() }
    }

    /// The members in their canonical order.
    pub(crate) fn write(&self, members: &mut Members<'_>) {
        let base64 = |out: &mut String, item: &Vec<u8>| canonical::base64(out, item);
        members.list("certificates", &self.certificates, base64);
        members.list("collateral", &self.collateral, base64);
        if let Some(log) = &self.event_log {
            members.base64("event_log", log);
        }
        members.base64("evidence", &self.evidence);
        let keys: Vec<_> = self.keys.iter().collect();
        members.list("keys", &keys, |out, (purpose, key)| {
            canonical::object(out, |members| {
                members.base64("key", key);
                members.text("purpose", purpose.name());
            });
        });
        if !self.nonce.is_empty() {
            members.base64("nonce", &self.nonce);
        }
        if let Some(policy) = self.policy {
            members.hex("policy", policy.as_bytes());
        }
        members.text("type", &self.type_text());
    }

    pub(crate) fn to_value(&self) -> Value {
        let list =
            |items: &[Vec<u8>]| Value::Array(items.iter().map(|item| to_base64(item).into()).collect());
        let keys = self.keys.iter().map(|(purpose, key)| {
            Value::Object(object([("key", to_base64(key).into()), ("purpose", purpose.name().into())]))
        });
        let mut members = object([
            ("certificates", list(&self.certificates)),
            ("collateral", list(&self.collateral)),
            ("evidence", to_base64(&self.evidence).into()),
            ("keys", Value::Array(keys.collect())),
            ("type", self.type_text().into()),
        ]);
        if let Some(log) = &self.event_log {
            members.insert("event_log".to_owned(), to_base64(log).into());
        }
        if !self.nonce.is_empty() {
            members.insert("nonce".to_owned(), to_base64(&self.nonce).into());
        }
        if let Some(policy) = self.policy {
            members.insert("policy".to_owned(), policy.to_string().into());
        }
        Value::Object(members)
    }

    pub(crate) fn from_value(value: Value, path: &str) -> Result<Self, FormatError> {
        let mut fields = Fields::new(value, path)?;
        let text = fields.text("type", 32)?;
        let (simulated, kind) = match text.strip_prefix(SIMULATED) {
            Some(kind) => (true, kind.to_owned()),
            None => (false, text),
        };
        let mut keys: BTreeMap<Purpose, Vec<u8>> = BTreeMap::new();
        for (path, value) in fields.array("keys", Purpose::ALL.len())? {
            let mut key = Fields::new(value, &path)?;
            let purpose = Purpose::from_name(&key.text("purpose", 32)?);
            let ascends = purpose.filter(|next| keys.last_key_value().is_none_or(|(last, _)| last < next));
            let expected = "each purpose once, in the order of the purposes";
            let purpose = ascends.ok_or(FormatError::Value { path: key.path("purpose"), expected })?;
            keys.insert(purpose, filled(key.base64("key", MAX_BOUND)?, || key.path("key"))?);
            key.finish()?;
        }
        let environment = Self {
            kind,
            simulated,
            keys,
            policy: if fields.has("policy") { Some(fields.digest("policy")?) } else { None },
            nonce: optional(&mut fields, "nonce", MAX_BOUND)?.unwrap_or_default(),
            evidence: filled(fields.base64("evidence", MAX_ITEM)?, || fields.path("evidence"))?,
            certificates: items(&mut fields, "certificates")?,
            collateral: items(&mut fields, "collateral")?,
            event_log: optional(&mut fields, "event_log", MAX_ITEM)?,
        };
        fields.finish()?;
        Ok(environment)
    }
}

fn items(fields: &mut Fields, name: &str) -> Result<Vec<Vec<u8>>, FormatError> {
    let items = fields.array(name, MAX_ITEMS)?.into_iter();
    items.map(|(path, value)| filled(as_base64(value, &path, MAX_ITEM)?, || path)).collect()
}

/// Bytes that are there only if there are any.
fn optional(fields: &mut Fields, name: &str, limit: usize) -> Result<Option<Vec<u8>>, FormatError> {
    if !fields.has(name) {
        return Ok(None);
    }
    let bytes = fields.base64(name, limit)?;
    filled(bytes, || fields.path(name)).map(Some)
}

fn filled(bytes: Vec<u8>, path: impl FnOnce() -> String) -> Result<Vec<u8>, FormatError> {
    if bytes.is_empty() {
        Err(FormatError::Value { path: path(), expected: "at least one byte" })
    } else {
        Ok(bytes)
    }
}
