//! Policies in Rego beside the typed ones (`attestation.md` §12), for those who bring theirs from Confidential Containers: the claims
//! that its verifiers give, by the names that its policies use, and what such a policy may answer.
//!
//! The typed checks establish that evidence is authentic; a policy in Rego comes on top, as the row `rego`. It sees only evidence that
//! all else accepts, and whatever is not a clear *yes* fails. The interpreter is there with the feature `rego`.

#[cfg(not(feature = "rego"))]
mod absent;
#[cfg(feature = "rego")]
mod bounds;
#[cfg(feature = "rego")]
mod engine;

use hallmark_receipt::check::Outcome;
use hallmark_receipt::wire::to_hex;
use serde_json::{Map, Value, json};

#[cfg(not(feature = "rego"))]
pub use absent::Policy;
#[cfg(feature = "rego")]
pub use engine::Policy;

use crate::Kind;
use crate::check::Check;
use crate::measurement::Measurements;

/// The most bytes of a policy.
pub const MAX_POLICY: usize = 256 << 10;
/// The most bytes of reference values.
pub const MAX_REFERENCE: usize = 1 << 20;

/// Claims: the members of a policy's `input`, by name.
pub type Claims = Map<String, Value>;

/// The trust claims of AR4SI (draft-ietf-rats-ar4si §2.3), as rules of a policy spell them; members of `trust_claims` have `-` for `_`.
pub const TRUST_CLAIMS: [&str; 8] = [
    "executables",
    "hardware",
    "configuration",
    "file_system",
    "instance_identity",
    "runtime_opaque",
    "storage_opaque",
    "sourced_data",
];
/// Those that a policy must make a claim of.
pub const REQUIRED_CLAIMS: [&str; 2] = ["executables", "hardware"];

/// Why a file is no policy or holds no reference values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Too long.
    #[error("{got} bytes are more than the {most} of {what}")]
    TooLong {
        /// What it is.
        what: &'static str,
        /// The most bytes.
        most: usize,
        /// Its length.
        got: usize,
    },
    /// Not Rego.
    #[error("{message}")]
    Syntax {
        /// What the parser says, and where.
        message: String,
    },
    /// Another package.
    #[error("`package {got}`, where a policy of evidence is `package policy`")]
    Package {
        /// The package.
        got: String,
    },
    /// It decides nothing.
    #[error(
        "it has neither `trust_claims` nor rules of trust claims (`executables`, `hardware`) nor `allow`"
    )]
    NoRule,
    /// Only what is in the file is evaluated.
    #[error("it imports `{0}`: a policy is one file, and has nothing but `data.reference` to import")]
    Import(String),
    /// Brackets inside brackets.
    #[error("line {line}: brackets are nested more than {most} deep")]
    Nesting {
        /// Where, from 1.
        line: usize,
        /// The most.
        most: usize,
    },
    /// Rules that call each other in a circle, or too deep.
    #[error("`{rule}` stands on other rules in a circle, or more than {most} deep")]
    Depth {
        /// The rule where that showed.
        rule: String,
        /// The most rules that stand on each other.
        most: usize,
    },
    /// Not an object of JSON.
    #[error("the reference values are no JSON object: {message}")]
    Reference {
        /// What the reader says.
        message: String,
    },
}

/// Why a policy in Rego does not take evidence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A trust claim that is not affirming.
    #[error("`{claim}` is {value}: {}", tier(*value))]
    Claim {
        /// Which.
        claim: &'static str,
        /// Its value.
        value: i64,
    },
    /// A trust claim that AR4SI does not have.
    #[error("`{0}` is no trust claim")]
    UnknownClaim(String),
    /// `allow` says no.
    #[error("`allow` is false")]
    Denied,
    /// A rule without a value.
    #[error("`{0}` is undefined")]
    Undefined(&'static str),
    /// A rule with a value of another form.
    #[error("`{rule}` is not {expected}")]
    Form {
        /// The rule.
        rule: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// It took too long.
    #[error("it was not evaluated within {seconds} s")]
    Time {
        /// The limit.
        seconds: u64,
    },
    /// An error on the way.
    #[error("{message}")]
    Evaluation {
        /// What the interpreter says, and where.
        message: String,
    },
}

impl Fault {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Claim { .. } | Self::UnknownClaim(_) => "rego-claim",
            Self::Denied => "rego-denied",
            Self::Undefined(_) => "rego-undefined",
            Self::Form { .. } => "rego-form",
            Self::Time { .. } => "rego-time",
            Self::Evaluation { .. } => "rego-evaluation",
        }
    }

    pub(crate) fn expected_and_got(&self) -> (Option<String>, Option<String>) {
        match self {
            Self::Claim { value, .. } => (Some("2 to 31".to_owned()), Some(value.to_string())),
            _ => (None, None),
        }
    }
}

/// What a value of a trust claim means (AR4SI §2.3.2).
fn tier(value: i64) -> &'static str {
    match value {
        0 => "no assertion",
        2..=31 => "affirming",
        32..=95 => "warning",
        96..=127 => "contraindicated",
        _ => "no value of a trust claim",
    }
}

/// `input.hallmark`: the same for every kind.
pub(crate) fn common(
    kind: Kind,
    at: u64,
    simulated: bool,
    checks: &[Check],
    measurements: &Measurements,
) -> Value {
    let outcome = |check: &Check| match check.outcome {
        Outcome::Passed => "passed",
        Outcome::Failed(_) => "failed",
        Outcome::NotChecked(_) => "not checked",
    };
    let rows: Claims =
        checks.iter().map(|check| (check.id.name().to_owned(), json!(outcome(check)))).collect();
    let measurements: Claims = measurements
        .iter()
        .map(|(register, value)| (register.to_string(), Value::String(to_hex(value))))
        .collect();
    json!({ "kind": kind.name(), "simulated": simulated, "at": at, "rows": rows, "measurements": measurements })
}
