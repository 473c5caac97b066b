//! Policies: what a verifier asks for before it accepts.

use hallmark_attestation as attestation;
use hallmark_receipt::{Digest, KeyId};
use serde::Deserialize;

use crate::check::CheckId;

/// The most bytes of a policy file.
pub const MAX_POLICY: usize = 1 << 20;

/// What a verifier asks for.
///
/// Whatever a policy says, three rules stand: a check that failed rejects; [`Policy::ALWAYS`] must pass; and nothing is accepted
/// unless the output is anchored outside the bundle (a passed re-run, the word of an identity that the verifier trusts,
/// hardware that runs code which the policy pins, or a proof for a model that the verifier knows).
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Its name, for the closing sentence.
    pub name: String,
    /// The checks that must pass beyond [`Policy::ALWAYS`].
    pub require: Vec<CheckId>,
    /// If not empty, the only identities that may sign.
    pub identities: Vec<KeyId>,
    /// Publishers that count.
    pub publishers: Vec<KeyId>,
    /// If not empty, the only models that may answer.
    pub models: Vec<Digest>,
    /// The oldest claimed time, in seconds before now.
    pub max_age_seconds: Option<u64>,
    /// How far in the future a claimed time may lie, in seconds.
    pub clock_skew_seconds: u64,
    /// The fewest bits of security that a proof may have, all its errors together.
    pub proof_bits: u32,
    /// What is asked of hardware evidence (`attestation.md` §8). Only code that it pins can make a key that travels count.
    pub hardware: attestation::Policy,
}

/// Why a policy file is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Too long.
    #[error("{got} bytes are more than the {MAX_POLICY} of a policy")]
    TooLong {
        /// Its length.
        got: usize,
    },
    /// Not TOML, or a key that policies do not have.
    #[error("{message}")]
    Toml {
        /// What the TOML reader says, with the line.
        message: String,
    },
    /// A check that does not exist.
    #[error("`{name}` is no check; the checks are {}", names())]
    UnknownCheck {
        /// The name.
        name: String,
    },
    /// The table `hardware` is refused.
    #[error("`hardware`: {0}")]
    Hardware(#[from] attestation::PolicyError),
    /// An id that is not 64 lower-case hexadecimal digits.
    #[error("`{key}`: `{text}` is not 64 lower-case hexadecimal digits")]
    Id {
        /// The key of the list.
        key: &'static str,
        /// The text.
        text: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    #[serde(default)]
    require: Vec<String>,
    #[serde(default)]
    identities: Vec<String>,
    #[serde(default)]
    publishers: Vec<String>,
    #[serde(default)]
    models: Vec<String>,
    max_age_seconds: Option<u64>,
    clock_skew_seconds: Option<u64>,
    proof_bits: Option<u32>,
    #[serde(default)]
    hardware: toml::Table,
}

impl Policy {
    /// The checks that every policy requires: without them a bundle says nothing at all.
    pub const ALWAYS: [CheckId; 6] = [
        CheckId::Certificate,
        CheckId::Bundle,
        CheckId::Signature,
        CheckId::Statement,
        CheckId::Claim,
        CheckId::Evidence,
    ];

    /// How far in the future a claimed time may lie by default.
    pub const CLOCK_SKEW_SECONDS: u64 = 300;

    /// The fewest bits of a proof by default.
    pub const PROOF_BITS: u32 = 100;

    /// The policy `default`: whatever is anchored is accepted.
    pub fn default_policy() -> Self {
        Self {
            name: "default".to_owned(),
            require: Vec::new(),
            identities: Vec::new(),
            publishers: Vec::new(),
            models: Vec::new(),
            max_age_seconds: None,
            clock_skew_seconds: Self::CLOCK_SKEW_SECONDS,
            proof_bits: Self::PROOF_BITS,
            hardware: attestation::Policy::genuine(),
        }
    }

    /// The policy `replay`: only a passed re-run counts.
    pub fn replay() -> Self {
        Self { name: "replay".to_owned(), require: vec![CheckId::Replay], ..Self::default_policy() }
    }

    /// The built-in policy of this name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "default" => Some(Self::default_policy()),
            "replay" => Some(Self::replay()),
            _ => None,
        }
    }

    /// Reads a policy file (TOML):
    ///
    /// ```
    /// # use hallmark_verdict::Policy;
    /// let policy = Policy::parse(r#"
    ///     name = "acme"
    ///     require = ["replay", "publisher"]       # beyond what every policy requires
    ///     identities = ["0000000000000000000000000000000000000000000000000000000000000001"]
    ///     publishers = ["0000000000000000000000000000000000000000000000000000000000000002"]
    ///     models = ["0000000000000000000000000000000000000000000000000000000000000003"]
    ///     max_age_seconds = 86400
    ///     clock_skew_seconds = 60
    ///     proof_bits = 118
    ///
    ///     [hardware.tdx]                          # sections as `hallmark attest policy init` prints them
    ///     measurements = [{ name = "1.0", mrtd = "00" }]
    /// "#)?;
    /// assert_eq!(policy.max_age_seconds, Some(86400));
    /// # Ok::<(), hallmark_verdict::PolicyError>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        if text.len() > MAX_POLICY {
            return Err(PolicyError::TooLong { got: text.len() });
        }
        let file: File =
            toml::from_str(text).map_err(|error| PolicyError::Toml { message: error.to_string() })?;
        let require = file
            .require
            .into_iter()
            .map(|name| CheckId::from_name(&name).ok_or(PolicyError::UnknownCheck { name }))
            .collect::<Result<_, _>>()?;
        let name: String = file.name.chars().filter(|c| !c.is_control()).collect();
        Ok(Self {
            hardware: attestation::Policy::from_table(name.clone(), file.hardware)?,
            name,
            require,
            identities: ids("identities", file.identities)?.into_iter().map(KeyId).collect(),
            publishers: ids("publishers", file.publishers)?.into_iter().map(KeyId).collect(),
            models: ids("models", file.models)?,
            max_age_seconds: file.max_age_seconds,
            clock_skew_seconds: file.clock_skew_seconds.unwrap_or(Self::CLOCK_SKEW_SECONDS),
            proof_bits: file.proof_bits.unwrap_or(Self::PROOF_BITS),
        })
    }
}

fn ids(key: &'static str, texts: Vec<String>) -> Result<Vec<Digest>, PolicyError> {
    texts.into_iter().map(|text| text.parse().map_err(|_| PolicyError::Id { key, text })).collect()
}

fn names() -> String {
    CheckId::ALL.iter().map(|id| id.name()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_checks_and_ids_are_refused() {
        assert!(Policy::parse("name = \"a\"").is_ok());
        for text in ["", "name = 1", "name = \"a\"\nrequires = []", "name = \"a\"\nmax_age_seconds = -1"] {
            assert!(matches!(Policy::parse(text), Err(PolicyError::Toml { .. })), "{text}");
        }
        assert_eq!(
            Policy::parse("name = \"a\"\nrequire = [\"luck\"]"),
            Err(PolicyError::UnknownCheck { name: "luck".into() })
        );
        assert_eq!(
            Policy::parse("name = \"a\"\nmodels = [\"AB\"]"),
            Err(PolicyError::Id { key: "models", text: "AB".into() })
        );
    }

    #[test]
    fn names_are_unique() {
        for id in CheckId::ALL {
            assert_eq!(CheckId::from_name(id.name()), Some(*id));
        }
    }
}
