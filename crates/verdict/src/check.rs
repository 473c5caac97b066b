//! The judge's checks: their catalog, why one fails, and why one is not made.

use std::fmt;

use hallmark_attestation as attestation;
use hallmark_proof::program::CheckError;
use hallmark_proof::protocol::ProofError;
use hallmark_receipt::certificate::RevocationReason;
use hallmark_receipt::check::Cause;
use hallmark_receipt::{
    CertificateError, Digest, EvidenceKind, FormatError, KeyId, Model, Nonce, PublicationError, Purpose,
    RequestId, SignatureError, catalog, check,
};

/// One check that was made or not made.
pub type Check = check::Check<CheckId>;
/// How a check came out.
pub type Outcome = check::Outcome<CheckId>;

catalog! {
    Reason, Why;
    /// The manifest's SHA-256 is the model's id.
    Manifest = "manifest", Model, "receipt.md §13.7", "which bytes the model consists of";
    /// The graph in the bundle is the manifest's.
    Graph = "graph", Model, "receipt.md §13.8", "the model's structure";
    /// The model is the one that the verifier asked for.
    ExpectedModel = "expected-model", Model, "receipt.md §13.9", "that it is the model you want (none was named)";
    /// A publisher whose key the verifier knows signed for the model.
    Publisher = "publisher", Model, "receipt.md §13.10", "who published the model";
    /// The commitment that proofs open, worked out again from the verifier's own copy of the model.
    Commitment = "commitment", Model, "receipt.md §13.17", "that the proof is about the model's own weights (without a copy, the commitment is its publisher's word)";
    /// The signing key is certified for receipts by the node's identity, at the claimed time.
    Certificate = "certificate", Environment, "receipt.md §13.2", "which node's key signed";
    /// The key is not revoked.
    Revocation = "revocation", Environment, "receipt.md §13.3", "that the node's keys are unrevoked";
    /// The node's identity is one that the verifier trusts.
    Identity = "identity", Environment, "receipt.md §13.4", "who the node is";
    /// The time is not in the future and not too long ago.
    Time = "time", Environment, "receipt.md §13.5", "when it happened (the time is the node's word, and could be backdated)";
    /// The key that signed lives in the environment.
    AttestedKey = "attested-key", Environment, "receipt.md §13.16", "that the signing key lives in that hardware";
    /// Attested hardware holds the key, judged at the claimed time.
    Hardware = "hardware", Environment, "receipt.md §13.16", "which hardware and code ran it";
    /// The same, judged at the verifier's time.
    HardwareNow = "hardware-now", Environment, "receipt.md §13.16", "what is known about that hardware since";
    /// The file is a bundle.
    Bundle = "bundle", Output, "receipt.md §12", "anything";
    /// The signature of the envelope.
    Signature = "signature", Output, "receipt.md §13.6", "that anybody signed it";
    /// The statement is well formed and about the claimed outputs.
    Statement = "statement", Output, "receipt.md §13.1", "what was stated";
    /// The claim's id follows from its fields.
    Claim = "claim", Output, "receipt.md §13.11", "what was claimed";
    /// The claim answers the verifier's request.
    Request = "request", Output, "receipt.md §13.12", "that it answers a request of yours (none was named)";
    /// The claims whose outputs went into this one.
    Parents = "parents", Output, "receipt.md §13.11", "what the parent claims say";
    /// The opened inputs are those committed to.
    Inputs = "inputs", Output, "receipt.md §13.13", "what the input was";
    /// The opened outputs are those committed to.
    Outputs = "outputs", Output, "receipt.md §13.13", "what the output was";
    /// The evidence is what the receipt lists, and is about this claim.
    Evidence = "evidence", Output, "receipt.md §13.14", "which evidence belongs to it";
    /// The evidence `signature`: the node's key signed the bare claim.
    Word = "word", Output, "receipt.md §13.14", "that the node stands by the bare claim";
    /// The model, run again on the opened inputs, gives the opened outputs bit for bit.
    Replay = "replay", Output, "receipt.md §13.15", "that the model gives this output for this input";
    /// A proof shows that the committed network gives the opened output for the opened input.
    Proof = "proof", Output, "receipt.md §13.17", "what the proof proves";
    /// Nobody could pick among answers by choosing what the tokens are drawn from.
    Seed = "seed", Output, "receipt.md §13.15", "that the node did not pick among answers";
    /// It is settled.
    Settlement = "settlement", Settlement, "receipt.md §13.18", "that it was paid for or recorded";
}

/// Why a check was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Why {
    /// It stands on a check that did not pass.
    #[error("`{0}` did not pass")]
    After(CheckId),
    /// The bundle lacks what it needs.
    #[error("redacted: the bundle does not open it")]
    Redacted,
    /// The model is only named.
    #[error("the model is only named by its provider, so nobody can check its bytes")]
    OnlyNamed,
    /// The receipt came without the graph.
    #[error("the receipt came without it")]
    NotAttached,
    /// The bundle holds no evidence of this kind.
    #[error("the receipt holds no such evidence")]
    NoEvidence,
    /// The verifier named no model.
    #[error("no model was named")]
    NoModelNamed,
    /// The verifier named no request.
    #[error("no request was named")]
    NoRequestNamed,
    /// Nobody signed for the model.
    #[error("no publisher signed for it in the bundle")]
    NoPublisher,
    /// The signature holds, but its key came with the bundle.
    #[error("signed by key {0}, which you do not know")]
    UnknownPublisher(KeyId),
    /// The certificate holds, but the identity came with the bundle.
    #[error("identity {0} is not one that you trust")]
    UnknownIdentity(KeyId),
    /// The verifier has no list of revocations.
    #[error("no list of revocations was given")]
    NoRevocations,
    /// Nothing outside the node says when.
    #[error("{time}, by the node's word alone")]
    NodesWord {
        /// The claimed time.
        time: String,
    },
    /// The parents are other receipts.
    #[error("{0} parent claims, each a receipt of its own")]
    ParentsElsewhere(usize),
    /// The verifier cannot re-run.
    #[error("nothing to re-run it with")]
    NoReplayer,
    /// The verifier holds no copy of the model.
    #[error("you have no copy of model {0}")]
    ModelAbsent(Digest),
    /// The model's numeric specification is another version.
    #[error("this build does not execute numeric specification {0}")]
    NumericVersion(u32),
    /// The run has parameters that a plain re-run does not cover.
    #[error("the run has parameters that a re-run does not cover yet")]
    Parameters,
    /// No re-run shows that the seed follows from the request.
    #[error("by the node's word, {from} chose it")]
    SeedByWord {
        /// Who.
        from: &'static str,
    },
    /// Half of the seed is a nonce of which the verifier does not know whose it is.
    #[error(
        "made of the request and its nonce; whether the nonce is the client's, only the client can tell (no request was named)"
    )]
    SeedOfNonce,
    /// The node drew the seed.
    #[error("the node chose it, so it could have picked among answers")]
    SeedOfNode,
    /// The verifier could not run the model.
    #[error("the re-run could not be made: {0}")]
    Unavailable(String),
    /// No hardware evidence in the bundle.
    #[error("no hardware evidence in the bundle")]
    NoHardware,
    /// Hardware evidence that says nothing about a key.
    #[error("{0}")]
    HardwareKind(attestation::environment::EnvironmentError),
    /// Required checks of the hardware evidence were not made.
    #[error("required of the hardware's evidence and not checked: {}", names(lacking))]
    HardwareUndecided {
        /// Which.
        lacking: Vec<attestation::CheckId>,
    },
    /// Something held at the claimed time and has run out since.
    #[error("it has run out since ({row}: {reason}); today's collateral would show what was revoked")]
    RanOut {
        /// The row of the hardware's evidence.
        row: attestation::CheckId,
        /// What it says.
        reason: String,
    },
    /// Nothing outside the node says when; hardware says what it is not before.
    #[error("{time}, by the node's word; not before {made}, when {kind} vouched for its key", kind = kind.name())]
    NotBefore {
        /// The claimed time.
        time: String,
        /// When the hardware made the evidence.
        made: String,
        /// Who says so.
        kind: attestation::Kind,
    },
    /// Nothing to check a proof with.
    #[error("checking a proof takes the openings of input and output, and the bundle lacks the {0}")]
    ProofUnopened(&'static str),
    /// The receipt came without the graph.
    #[error("checking a proof takes the model's graph, and the receipt came without it")]
    ProofGraph,
    /// The manifest has no commitment.
    #[error("the model's manifest has no commitment to its weights")]
    NoCommitment,
    /// Another version of the specification of proofs.
    #[error("this build does not check version {0} of proofs")]
    ProofVersion(u32),
    /// Not settled.
    #[error("not settled")]
    NotSettled,
}

/// Why a check failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum Reason {
    #[error("not a bundle: {0}")]
    Format(FormatError),
    #[error("not a receipt: {0}")]
    Statement(FormatError),
    #[error("a receipt's key has exactly one certificate, the bundle holds {got}")]
    CertificateCount { got: usize },
    #[error("the certificate does not hold: {0}")]
    Certificate(CertificateError),
    #[error("the key is certified for `{}`, not for receipts", got.name())]
    Purpose { got: Purpose },
    #[error("the certificate is in force from {not_before} to {not_after}, not at the claimed time {time}")]
    NotInForce { not_before: String, not_after: String, time: String },
    #[error("the claim names another node than the one that certified the key")]
    OtherNode { expected: KeyId, got: KeyId },
    #[error("key {key} is revoked ({}) since {since}", reason.name())]
    Revoked { key: KeyId, reason: RevocationReason, since: String },
    #[error("signed under an identity that is not among those you named")]
    NotTrusted { expected: Vec<KeyId>, got: KeyId },
    #[error("the claimed time {time} is in the future, it is {now}")]
    FromTheFuture { time: String, now: String },
    #[error("the claimed time {time} is more than {limit_seconds} s ago, it is {now}")]
    TooOld { time: String, now: String, limit_seconds: u64 },
    #[error("the envelope's signature does not hold: {0}")]
    Signature(SignatureError),
    #[error("the statement names another signer than the certified key")]
    Signer { expected: KeyId, got: KeyId },
    #[error("the statement's subject is not the claim's output commitment")]
    Subject { expected: Digest, got: Digest },
    #[error("the claim's id does not follow from its fields")]
    ClaimId { expected: Digest, got: Digest },
    #[error("the bundle lacks the model's manifest")]
    ManifestMissing,
    #[error("the model is only named, yet the bundle holds a manifest")]
    ManifestUnexpected,
    #[error("the manifest's SHA-256 is not the model's id")]
    Manifest { expected: Digest, got: Digest },
    #[error("the manifest has no `{member}`, or not in the right form")]
    ManifestForm { member: &'static str },
    #[error("the receipt lists the model's graph, but the bundle lacks it")]
    GraphMissing,
    #[error("the bundle holds a graph that the receipt does not list")]
    GraphUnexpected,
    #[error("the graph is not the manifest's")]
    Graph { expected: Digest, got: Digest },
    #[error("another model than the one you named")]
    OtherModel { expected: Vec<Digest>, got: Model },
    #[error("a publication does not hold: {0}")]
    Publication(PublicationError),
    #[error("a publication is about another model")]
    PublicationOfOther { expected: Digest, got: Digest },
    #[error("publications stand in ascending order of their keys' ids, each key once")]
    PublicationOrder,
    #[error("the opened tensors are not those committed to")]
    Commitment { expected: Digest, got: Digest },
    #[error("the claim answers another request")]
    OtherRequest { expected: (RequestId, Nonce), got: (RequestId, Nonce) },
    #[error("the receipt lists evidence `{}`, but the bundle lacks it", .0.name())]
    EvidenceMissing(EvidenceKind),
    #[error("the bundle holds evidence `{}` that the receipt does not list", .0.name())]
    EvidenceUnlisted(EvidenceKind),
    #[error("evidence `{}` speaks for another claim", kind.name())]
    EvidenceOfOther { kind: EvidenceKind, expected: Digest, got: Digest },
    #[error("evidence `{}` is not the one that the receipt lists", kind.name())]
    EvidenceChanged { kind: EvidenceKind, expected: Digest, got: Digest },
    #[error("the evidence is for another numeric specification than the manifest's")]
    Numeric { expected: u64, got: u64 },
    #[error("the signature over the claim does not hold: {0}")]
    Word(SignatureError),
    #[error("the model has other outputs than the receipt")]
    OutputNames { expected: Vec<String>, got: Vec<String> },
    #[error("output `{name}` has another type or shape")]
    OutputType { name: String, expected: String, got: String },
    #[error("output `{name}` differs at element {index}: the model gives {expected}, the receipt says {got}")]
    OutputValue { name: String, index: usize, expected: String, got: String },
    #[error("the model does not run on this input: {0}")]
    ReplayRefused(String),
    #[error("the commitment to the weights is not that of your copy of the model")]
    WeightCommitment { expected: Digest, got: Digest },
    #[error("the model has other inputs than the receipt")]
    InputNames { expected: Vec<String>, got: Vec<String> },
    #[error("{0}")]
    Proof(CheckError),
    #[error("the hardware's report is of an environment without this key")]
    KeyElsewhere { expected: KeyId },
    #[error("{0}")]
    Hardware(HardwareFault),
    #[error("the evidence is {}, and the receipt says otherwise", if *simulated { "SIMULATED" } else { "a maker's" })]
    HardwareMark { simulated: bool },
}

/// The first check of hardware evidence that failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{}, {row}: {reason}", kind.name())]
pub struct HardwareFault {
    /// The kind of evidence.
    pub kind: attestation::Kind,
    /// The check.
    pub row: attestation::CheckId,
    /// Why it failed.
    pub reason: Box<attestation::Reason>,
}

impl HardwareFault {
    /// Of a report, if a check of it failed.
    pub fn first(report: &attestation::Report) -> Option<Self> {
        let (row, reason) = report.reasons().next()?;
        Some(Self { kind: report.kind, row, reason: Box::new(reason.clone()) })
    }
}

fn names(checks: &[attestation::CheckId]) -> String {
    checks.iter().map(|id| id.name()).collect::<Vec<_>>().join(", ")
}

impl Cause for Reason {
    fn code(&self) -> &'static str {
        match self {
            Self::Format(_) => "format",
            Self::Statement(_) => "statement",
            Self::CertificateCount { .. } => "certificate-count",
            Self::Certificate(_) => "certificate",
            Self::Purpose { .. } => "purpose",
            Self::NotInForce { .. } => "not-in-force",
            Self::OtherNode { .. } => "other-node",
            Self::Revoked { .. } => "revoked",
            Self::NotTrusted { .. } => "not-trusted",
            Self::FromTheFuture { .. } => "from-the-future",
            Self::TooOld { .. } => "too-old",
            Self::Signature(_) => "signature",
            Self::Signer { .. } => "signer",
            Self::Subject { .. } => "subject",
            Self::ClaimId { .. } => "claim-id",
            Self::ManifestMissing => "manifest-missing",
            Self::ManifestUnexpected => "manifest-unexpected",
            Self::Manifest { .. } => "manifest",
            Self::ManifestForm { .. } => "manifest-form",
            Self::GraphMissing => "graph-missing",
            Self::GraphUnexpected => "graph-unexpected",
            Self::Graph { .. } => "graph",
            Self::OtherModel { .. } => "other-model",
            Self::Publication(_) => "publication",
            Self::PublicationOfOther { .. } => "publication-of-other",
            Self::PublicationOrder => "publication-order",
            Self::Commitment { .. } => "commitment",
            Self::OtherRequest { .. } => "other-request",
            Self::EvidenceMissing(_) => "evidence-missing",
            Self::EvidenceUnlisted(_) => "evidence-unlisted",
            Self::EvidenceOfOther { .. } => "evidence-of-other",
            Self::EvidenceChanged { .. } => "evidence-changed",
            Self::Numeric { .. } => "numeric",
            Self::Word(_) => "word",
            Self::OutputNames { .. } => "output-names",
            Self::OutputType { .. } => "output-type",
            Self::OutputValue { .. } => "output-value",
            Self::ReplayRefused(_) => "replay-refused",
            Self::WeightCommitment { .. } => "weight-commitment",
            Self::InputNames { .. } => "input-names",
            Self::Proof(error) => proof_code(error),
            Self::KeyElsewhere { .. } => "key-elsewhere",
            Self::Hardware(fault) => fault.reason.code(),
            Self::HardwareMark { .. } => "hardware-mark",
        }
    }

    fn expected_and_got(&self) -> (Option<String>, Option<String>) {
        fn pair(expected: impl fmt::Display, got: impl fmt::Display) -> (Option<String>, Option<String>) {
            (Some(expected.to_string()), Some(got.to_string()))
        }
        match self {
            Self::CertificateCount { got } => pair(1, got),
            Self::Purpose { got } => pair(Purpose::Receipt.name(), got.name()),
            Self::OtherNode { expected, got } | Self::Signer { expected, got } => pair(expected, got),
            Self::NotTrusted { expected, got } => pair(join(expected), got),
            Self::Subject { expected, got }
            | Self::ClaimId { expected, got }
            | Self::Manifest { expected, got }
            | Self::Graph { expected, got }
            | Self::PublicationOfOther { expected, got }
            | Self::Commitment { expected, got }
            | Self::WeightCommitment { expected, got }
            | Self::EvidenceOfOther { expected, got, .. }
            | Self::EvidenceChanged { expected, got, .. } => pair(expected, got),
            Self::OtherModel { expected, got } => pair(join(expected), model_text(got)),
            Self::OtherRequest { expected, got } => {
                pair(format!("{}/{}", expected.0, expected.1), format!("{}/{}", got.0, got.1))
            }
            Self::Numeric { expected, got } => pair(expected, got),
            Self::OutputNames { expected, got } | Self::InputNames { expected, got } => {
                pair(expected.join(", "), got.join(", "))
            }
            Self::OutputType { expected, got, .. } | Self::OutputValue { expected, got, .. } => {
                pair(expected, got)
            }
            Self::Hardware(fault) => fault.reason.expected_and_got(),
            _ => (None, None),
        }
    }
}

/// The code of a proof that does not hold.
fn proof_code(error: &CheckError) -> &'static str {
    match error {
        CheckError::Skeleton(_) | CheckError::Lower(_) => "proof-model",
        CheckError::Inputs(_) | CheckError::Run(_) => "proof-input",
        CheckError::Integers => "proof-integers",
        CheckError::Output(_) => "proof-output",
        CheckError::Proof(ProofError::Format(_)) => "proof-format",
        CheckError::Proof(ProofError::Row { .. } | ProofError::Request(_)) => "proof-row",
        CheckError::Proof(ProofError::Security { .. }) => "proof-bits",
        _ => "proof",
    }
}

/// A model in words: its id, or provider and name.
pub fn model_text(model: &Model) -> String {
    match model {
        Model::Id(id) => id.to_string(),
        Model::Claimed { provider, name } => format!("{provider}/{name} (only named)"),
        _ => "unknown".to_owned(),
    }
}

fn join<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}
