//! A proof of a computation, as evidence carries it (`receipt.md` §9.2): bytes, which `hallmark-proof` checks.

use crate::Digest;
use crate::canonical::Members;
use crate::json::{Value, object};
use crate::wire::{Fields, FormatError, as_digest, push_hex, to_base64};

/// The most claims that one proof speaks of.
pub const MAX_CLAIMS: usize = 1 << 12;
/// The most integers that leave the proved part of a model.
pub const MAX_INTEGERS: usize = 1 << 20;
/// The most bytes of a proof.
pub const MAX_PROOF: usize = 4 << 20;

/// The parameters of a proof. What they are worth in bits follows from the model's size (`proof.md` §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// For about 100 bits, all errors together.
    Standard,
    /// For about 118 bits.
    High,
}

impl Security {
    const ALL: [Self; 2] = [Self::Standard, Self::High];

    /// Its name in documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::High => "high",
        }
    }

    /// The parameters of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|security| security.name() == name)
    }
}

/// A proof that the model made the output of a claim from its input. One proof speaks of several claims, and the evidence of
/// each holds the whole of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The ids of all claims that it speaks of, in its order; the claim that the evidence belongs to is among them once.
    pub claims: Vec<Digest>,
    /// What left the proved part of the model for this claim, row-major, one value after the other.
    pub integers: Vec<i32>,
    /// The proof itself.
    pub bytes: Vec<u8>,
    /// Its parameters.
    pub security: Security,
    /// The version of `spec/proof.md`.
    pub version: u32,
}

impl Proof {
    /// What the format would refuse.
    pub(crate) fn check(&self, claim_id: &Digest, path: &str) -> Result<(), FormatError> {
        let path = |member: &str| format!("{path}.{member}");
        for (member, got, limit) in [
            ("claims", self.claims.len(), MAX_CLAIMS),
            ("integers", self.integers.len(), MAX_INTEGERS),
            ("proof", self.bytes.len(), MAX_PROOF),
        ] {
            if got > limit {
                return Err(FormatError::TooLong { path: path(member), limit, got });
            }
            if got == 0 {
                return Err(FormatError::Value { path: path(member), expected: "at least one" });
            }
        }
        if self.claims.iter().filter(|claim| *claim == claim_id).count() != 1 {
            return Err(FormatError::Value { path: path("claims"), expected: "the own claim exactly once" });
        }
        Ok(())
    }

    /// The place of claim `id` among [`Proof::claims`].
    pub fn index_of(&self, id: &Digest) -> Option<usize> {
        self.claims.iter().position(|claim| claim == id)
    }

    /// The members of evidence `zk` in their canonical order.
    pub(crate) fn write(&self, claim_id: &Digest, kind: &str, members: &mut Members<'_>) {
        members.hex("claim_id", claim_id.as_bytes());
        members.list("claims", &self.claims, |out, claim| {
            out.push('"');
            push_hex(out, claim.as_bytes());
            out.push('"');
        });
        members.base64("integers", &self.integer_bytes());
        members.text("kind", kind);
        members.base64("proof", &self.bytes);
        members.text("security", self.security.name());
        members.plain("version", self.version);
    }

    /// The members beyond those that every kind of evidence has.
    pub(crate) fn members(&self) -> crate::json::Object {
        let claims = self.claims.iter().map(|claim| claim.to_string().into()).collect();
        object([
            ("claims", Value::Array(claims)),
            ("integers", to_base64(&self.integer_bytes()).into()),
            ("proof", to_base64(&self.bytes).into()),
            ("security", self.security.name().into()),
            ("version", Value::Int(self.version.into())),
        ])
    }

    /// Takes the members beyond those that every kind of evidence has.
    pub(crate) fn take(fields: &mut Fields, claim_id: &Digest, path: &str) -> Result<Self, FormatError> {
        let claims = fields.array("claims", MAX_CLAIMS)?;
        let claims = claims.iter().map(|(path, value)| as_digest(value, path)).collect::<Result<_, _>>()?;
        let bytes = fields.base64("integers", MAX_INTEGERS.saturating_mul(4))?;
        let (words, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() {
            let path = fields.path("integers");
            return Err(FormatError::Value { path, expected: "4 bytes for each integer" });
        }
        let integers = words.iter().map(|word| i32::from_le_bytes(*word)).collect();
        let bytes = fields.base64("proof", MAX_PROOF)?;
        let security = Security::from_name(&fields.text("security", 16)?)
            .ok_or(FormatError::Value { path: fields.path("security"), expected: "`standard` or `high`" })?;
        let version = fields.integer("version")?;
        let version = u32::try_from(version).map_err(|_| FormatError::Value {
            path: fields.path("version"),
            expected: "a version below 2^32",
        })?;
        let proof = Self { claims, integers, bytes, security, version };
        proof.check(claim_id, path)?;
        Ok(proof)
    }

    fn integer_bytes(&self) -> Vec<u8> {
        self.integers.iter().flat_map(|value| value.to_le_bytes()).collect()
    }
}

#[cfg(test)]
mod tests;
