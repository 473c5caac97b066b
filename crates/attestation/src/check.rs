//! What is checked (`attestation.md` §3 to §7), why a check fails, and why one is not made.

use hallmark_receipt::check::Cause;
use hallmark_receipt::{Digest, SignatureError, catalog, check, wire::to_hex};

use crate::measurement::Register;
use crate::x509::{ChainError, CrlError, OcspError};
use crate::{dcap, encoding, nitro, nvidia, rego, snp};

/// One check that was made or not made.
pub type Check = check::Check<CheckId>;
/// How a check came out.
pub type Outcome = check::Outcome<CheckId>;

catalog! {
    Reason, Why;
    /// The evidence is wholly in its form.
    Format = "format", Environment, "attestation.md §3.1", "anything";
    /// The chain ends in a pinned root.
    Root = "root", Environment, "attestation.md §3.2", "that a maker of hardware vouches for it";
    /// Each certificate is signed by the next, and may be used as it is.
    Chain = "chain", Environment, "attestation.md §3.3", "whose key signed it";
    /// Every certificate is in force.
    Validity = "validity", Environment, "attestation.md §3.4", "that its certificates were in force";
    /// No certificate is revoked.
    Revocation = "revocation", Environment, "attestation.md §3.5", "that its certificates are unrevoked";
    /// The hardware's key signed the evidence.
    Signature = "signature", Environment, "attestation.md §3.6", "that the hardware signed it";
    /// It does not run in debug mode.
    Debug = "debug", Environment, "attestation.md §3.7", "that nobody outside can read its memory";
    /// What runs is among what the policy allows.
    Measurements = "measurements", Environment, "attestation.md §3.8", "which code runs there";
    /// What runs is in a transparency log.
    Log = "log", Environment, "attestation.md §3.9", "that the code is published";
    /// It answers the verifier's nonce.
    Nonce = "nonce", Environment, "attestation.md §3.10", "that it was made for you (no nonce was given)";
    /// It binds the keys that the verifier knows.
    Binding = "binding", Environment, "attestation.md §3.11", "that the keys you talk to live there";
    /// It is not too old.
    Age = "age", Environment, "attestation.md §3.12", "when it was made";
    /// Nitro: signed with ES384.
    Algorithm = "algorithm", Environment, "attestation.md §4.2", "how it is signed";
    /// TDX, SGX: what Intel publishes about the platform was given.
    Collateral = "collateral", Environment, "attestation.md §5.2", "what the platform is worth";
    /// TDX, SGX: the platform's key signed the quoting enclave's report, which vouches for the attestation key.
    QeReport = "qe-report", Environment, "attestation.md §5.5", "whose attestation key signed it";
    /// TDX, SGX: the quoting enclave is the one that Intel publishes.
    QeIdentity = "qe-identity", Environment, "attestation.md §5.6", "that Intel's quoting enclave made it";
    /// TDX, SGX: the TCB info is Intel's, in date, and about this platform.
    TcbInfo = "tcb-info", Environment, "attestation.md §5.7", "what Intel says of the platform";
    /// TDX, SGX, SEV-SNP: the platform's security versions are good enough.
    Tcb = "tcb", Environment, "attestation.md §5.8, §6.7", "that known weaknesses of the platform are mended";
    /// TDX, SGX: by an evaluation that is new enough.
    Evaluation = "evaluation", Environment, "attestation.md §5.8", "that Intel's newest findings were applied";
    /// TDX, SGX: attributes and features.
    Attributes = "attributes", Environment, "attestation.md §5.9", "which features it runs with";
    /// TDX: no service trust domain can change it.
    ServiceTd = "service-td", Environment, "attestation.md §5.10", "that nothing else can change it";
    /// TDX, SGX, SEV-SNP: the platform's form and settings.
    Platform = "platform", Environment, "attestation.md §5.11, §6.11", "on what kind of platform it runs";
    /// TDX: the event log replays to the run-time registers.
    EventLog = "event-log", Environment, "attestation.md §5.12", "what the run-time registers were made of";
    /// SEV-SNP: certificates and processor are of one product.
    Product = "product", Environment, "attestation.md §6.3", "which processors it is of";
    /// SEV-SNP: the kind of key that signed is the certificate's, and allowed.
    Key = "key", Environment, "attestation.md §6.4", "whether the key is one chip's or a cloud's";
    /// SEV-SNP: the certificate is of the reported security versions.
    CertifiedTcb = "certified-tcb", Environment, "attestation.md §6.6", "that the platform runs what it reports";
    /// SEV-SNP: the certificate's chip is the report's.
    ChipId = "chip-id", Environment, "attestation.md §6.8", "which chip it is";
    /// SEV-SNP: the privilege level that asked.
    Vmpl = "vmpl", Environment, "attestation.md §6.9", "which part of the guest asked for it";
    /// SEV-SNP: what the guest's owner allowed the host.
    GuestPolicy = "guest-policy", Environment, "attestation.md §6.10", "what the host may do to the guest";
    /// NVIDIA: the device reports the firmware that its certificate names.
    FirmwareId = "firmware-id", Environment, "attestation.md §7.5", "that the certified firmware reports";
    /// NVIDIA: no two certificates of a chain have the same serial number.
    Serials = "serials", Environment, "attestation.md §7.6", "that the certificates are distinct";
    /// NVIDIA: as many distinct devices report as the policy wants.
    Devices = "devices", Environment, "attestation.md §7.7", "that all devices report";
    /// NVIDIA: driver and firmware are of versions that the policy allows.
    Versions = "versions", Environment, "attestation.md §7.8", "that driver and firmware are of allowed versions";
    /// NVIDIA: the measurements are the reference ones.
    Rim = "rim", Environment, "attestation.md §7.9", "that the firmware is as NVIDIA published it";
    /// NVIDIA: the CPU's evidence binds the nonce that the device answers.
    Pairing = "pairing", Environment, "attestation.md §7.10", "that the device is attached to this CPU";
    /// NVIDIA: a service vouches for the device.
    Token = "token", Environment, "attestation.md §7.11", "that NVIDIA's service vouches for it";
    /// TLS: the bound key is the other side's in this session.
    TlsKey = "tls-key", Environment, "attestation.md §10.6", "that the keys of this connection live there";
    /// TLS: the bound key signed this session.
    Session = "session", Environment, "attestation.md §10.6", "that nobody relays another's evidence";
    /// TLS: the evidence was made for this session.
    Freshness = "freshness", Environment, "attestation.md §10.6", "that it was made for this connection";
    /// A policy in Rego takes it.
    Rego = "rego", Environment, "attestation.md §13", "that a policy in Rego takes it";
}

/// Why a check was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Why {
    /// It stands on a check that did not pass.
    #[error("`{0}` did not pass")]
    After(CheckId),
    /// The policy names no measurements.
    #[error("the policy pins none")]
    NoMeasurements,
    /// No log was given.
    #[error("no log of published code was given")]
    NoLog,
    /// The verifier gave no nonce.
    #[error("no nonce was given")]
    NoNonce,
    /// The verifier expects no keys.
    #[error("no expected keys were given")]
    NoBinding,
    /// The policy has no limit.
    #[error("the policy sets no limit; made {made}")]
    NoAgeLimit {
        /// When it was made.
        made: String,
    },
    /// The verifier took evidence that was made for nobody in particular.
    #[error("evidence made for this session was not asked for")]
    NotAskedFor,
    /// The evidence does not say when it was made.
    #[error("the evidence does not say when it was made")]
    Timeless,
    /// Nothing in the evidence says whether it runs in debug mode.
    #[error("nothing in the evidence says whether it does")]
    NoDebugFlag,
    /// The report names no firmware.
    #[error("the report names no firmware")]
    NoFirmwareId,
    /// The policy wants no number of devices.
    #[error("the policy wants no number; distinct devices: {got}")]
    NoDevices {
        /// How many report.
        got: usize,
    },
    /// The policy allows any version.
    #[error("the policy names none; {got}")]
    NoVersions {
        /// What runs.
        got: String,
    },
    /// No reference manifest was given.
    #[error("no RIM was given")]
    NoRim,
    /// Reference manifests were given, but not of all that runs.
    #[error("no RIM of {component} {version} was given")]
    NoRimOf {
        /// Driver or firmware.
        component: nvidia::Component,
        /// Its version.
        version: String,
    },
    /// A reference manifest asks for something else than measurements.
    #[error(
        "the measurements are as published, but a RIM also asks for something that is not read here: {got}"
    )]
    RimUnread {
        /// What.
        got: String,
    },
    /// The policy requires revocation to be known, and nothing is said of who signed the reference manifests.
    #[error("the measurements are as published, but nobody says whether the RIMs' signers are revoked")]
    NoRimRevocation,
    /// Nothing of the CPU's evidence was given.
    #[error("no nonce of the CPU's evidence was given")]
    NoPairing,
    /// No service's key is pinned.
    #[error("no service's key is pinned here")]
    NoTokenKey,
    /// Such evidence binds nothing but a nonce.
    #[error("such evidence binds a nonce, no keys")]
    BindsNonceOnly,
    /// No revocation list of a certificate's issuer was given.
    #[error("no revocation list of the issuer of certificate {at} was given, nor its answer about it")]
    NoRevocationList {
        /// Which, from the leaf, which is 0.
        at: usize,
    },
    /// The certificate of the key that signs was not given.
    #[error("no certificate of the signing key ({of}) was given")]
    NoCertificate {
        /// The kind of key.
        of: &'static str,
    },
    /// The host masks the chip's id.
    #[error("the host masks the chip's id")]
    MaskedChip,
    /// A VLEK is no chip's own.
    #[error("the signing key is a VLEK, which is no chip's own")]
    SharedKey,
    /// The policy asks for nothing here.
    #[error("the policy asks for nothing; got {got}")]
    NothingAsked {
        /// What is there.
        got: String,
    },
    /// Neither the evidence nor the verifier has them.
    #[error("the evidence has no certificates, and none were given")]
    NoCertificates,
    /// Something that the maker publishes was not given.
    #[error("no {missing} was given")]
    NoCollateral {
        /// What.
        missing: &'static str,
    },
    /// The policy asks for no minimum.
    #[error("the policy sets no minimum; evaluation {got}")]
    NoMinimum {
        /// What it is.
        got: u64,
    },
    /// The evidence does not say when it was made, its collateral does.
    #[error("a quote does not say when it was made; its TCB info was issued {issued}")]
    CollateralOnly {
        /// When.
        issued: String,
    },
    /// No policy in Rego was given.
    #[error("no policy in Rego was given")]
    NoRego,
    /// What is not shown to be authentic is not put before a policy in Rego.
    #[error("a policy in Rego sees only evidence that all else accepts")]
    NotBelieved,
    /// No event log was given.
    #[error("no event log was given")]
    NoEventLog,
    /// Something was measured that the log does not tell of.
    #[error("the event log tells nothing of {register}")]
    NoEvents {
        /// Where.
        register: Register,
    },
}

/// Why a check failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum Reason {
    #[error("the file cannot be decoded: {0}")]
    Encoding(#[from] encoding::EncodingError),
    #[error("not an attestation document: {0}")]
    Nitro(#[from] nitro::DocumentError),
    #[error("not an attestation report: {0}")]
    SevSnpReport(#[from] snp::ReportError),
    #[error("not a certificate table: {0}")]
    SevSnpTable(#[from] snp::TableError),
    #[error("the certificates make no chain: {0}")]
    SevSnpChain(#[from] snp::EndorsementError),
    #[error(transparent)]
    SevSnp(#[from] snp::Fault),
    #[error("not a quote: {0}")]
    Quote(#[from] dcap::QuoteError),
    #[error("the collateral cannot be used: {0}")]
    Collateral(#[from] dcap::CollateralError),
    #[error("{0}")]
    Platform(#[from] dcap::PlatformError),
    #[error("{0}")]
    Tcb(#[from] dcap::TcbError),
    #[error("{0}")]
    State(#[from] dcap::StateError),
    #[error("not an event log: {0}")]
    EventLog(#[from] dcap::EventLogError),
    #[error("the events replay to another {register}")]
    Replay { register: Register, expected: Vec<u8>, got: Vec<u8> },
    #[error("the chain of the {whose} does not hold: {error}")]
    ChainOf { whose: &'static str, error: ChainError },
    #[error("the given chain is not the evidence's own")]
    ChainDiffers,
    #[error("not a report of a device: {0}")]
    Nvidia(#[from] nvidia::ReportError),
    #[error("{0}")]
    Wrapper(#[from] nvidia::WrapperError),
    #[error(transparent)]
    Rim(#[from] nvidia::RimError),
    #[error("the certificate's firmware identity cannot be read")]
    Firmware,
    #[error("the device runs other firmware than its certificate names")]
    FirmwareId { expected: Vec<u8>, got: Vec<u8> },
    #[error("certificates {first} and {second} have the same serial number")]
    Serials { first: usize, second: usize },
    #[error("{got} distinct devices report, where the policy wants {expected}")]
    Devices { expected: usize, got: usize },
    #[error("{component} {got} is not among the versions that the policy allows")]
    Versions { component: &'static str, got: String },
    #[error("it answers another nonce than the one that the CPU's evidence binds")]
    Pairing { expected: Vec<u8>, got: Vec<u8> },
    #[error("device {device}: {reason}")]
    Device { device: usize, reason: Box<Reason> },
    #[error(transparent)]
    Rego(#[from] rego::Fault),
    #[error("the chain ends in a root that is not pinned")]
    UnknownRoot { got: Digest },
    #[error("a development root, which anybody can sign with (SIMULATED)")]
    SimulatedRoot { got: Digest },
    #[error("marked SIMULATED, under a maker's root")]
    Marked,
    #[error("a development root, and nothing that is signed says SIMULATED")]
    Unmarked,
    #[error("the chain does not hold: {0}")]
    Chain(#[from] ChainError),
    #[error("the revocation list does not hold: {0}")]
    Crl(#[from] CrlError),
    #[error("the OCSP response does not hold: {0}")]
    Ocsp(#[from] OcspError),
    #[error("certificate {at} was revoked on {since}")]
    Revoked { at: usize, since: String },
    #[error("the certified key did not sign it")]
    Signature,
    #[error("it runs in debug mode: {what}")]
    Debug { what: &'static str },
    #[error("what runs is not among what the policy allows")]
    Measurements { register: Register, expected: Vec<u8>, got: Vec<u8> },
    #[error("the evidence has no {register}, which the policy pins")]
    NoRegister { register: Register },
    #[error("it answers another nonce")]
    Nonce { expected: Vec<u8>, got: Vec<u8> },
    #[error("it binds other keys than the expected ones ({field})")]
    Binding { field: &'static str, expected: Vec<u8>, got: Vec<u8> },
    #[error("the key that the evidence binds for TLS is not the one that the other side showed")]
    TlsKey { expected: Vec<u8>, got: Vec<u8> },
    #[error("the bound key did not sign this session: {0}")]
    Session(SignatureError),
    #[error("made {made}, more than {limit_seconds} s before")]
    TooOld { made: String, limit_seconds: u64 },
    #[error("made {made}, which is later than the time it is judged at")]
    FromTheFuture { made: String },
}

impl Cause for Reason {
    fn code(&self) -> &'static str {
        match self {
            Self::Encoding(_) => "encoding",
            Self::Nitro(error) => error.code(),
            Self::SevSnpReport(error) => error.code(),
            Self::SevSnpTable(error) => error.code(),
            Self::SevSnpChain(error) => error.code(),
            Self::SevSnp(fault) => fault.code(),
            Self::Quote(error) => error.code(),
            Self::Collateral(error) => error.code(),
            Self::Platform(_) => "platform-extension",
            Self::Tcb(error) => error.code(),
            Self::State(error) => error.code(),
            Self::EventLog(error) => error.code(),
            Self::Replay { .. } => "event-log-replay",
            Self::ChainOf { error, .. } => error.code(),
            Self::ChainDiffers => "chain-differs",
            Self::Nvidia(error) => error.code(),
            Self::Wrapper(error) => error.code(),
            Self::Rim(error) => error.code(),
            Self::Firmware => "firmware-extension",
            Self::FirmwareId { .. } => "firmware-id",
            Self::Serials { .. } => "same-serial",
            Self::Devices { .. } => "too-few-devices",
            Self::Versions { .. } => "version",
            Self::Pairing { .. } => "pairing",
            Self::Device { reason, .. } => reason.code(),
            Self::Rego(fault) => fault.code(),
            Self::Ocsp(_) => "revocation-response",
            Self::UnknownRoot { .. } => "unknown-root",
            Self::SimulatedRoot { .. } => "simulated-root",
            Self::Marked => "marked",
            Self::Unmarked => "unmarked",
            Self::Chain(error) => error.code(),
            Self::Crl(_) => "revocation-list",
            Self::Revoked { .. } => "revoked",
            Self::Signature => "signature",
            Self::Debug { .. } => "debug",
            Self::Measurements { .. } => "measurement",
            Self::NoRegister { .. } => "no-register",
            Self::Nonce { .. } => "nonce",
            Self::Binding { .. } => "binding",
            Self::TlsKey { .. } => "tls-key",
            Self::Session(_) => "session",
            Self::TooOld { .. } => "too-old",
            Self::FromTheFuture { .. } => "from-the-future",
        }
    }

    fn expected_and_got(&self) -> (Option<String>, Option<String>) {
        match self {
            Self::Measurements { expected, got, .. }
            | Self::Nonce { expected, got }
            | Self::Replay { expected, got, .. }
            | Self::Tcb(dcap::TcbError::Platform { expected, got, .. })
            | Self::FirmwareId { expected, got }
            | Self::Pairing { expected, got }
            | Self::TlsKey { expected, got }
            | Self::Binding { expected, got, .. } => (Some(to_hex(expected)), Some(to_hex(got))),
            Self::SevSnp(fault) => fault.expected_and_got(),
            Self::Rim(nvidia::RimError::Version { expected, got, .. }) => {
                (Some(expected.clone()), Some(got.clone()))
            }
            Self::Rim(nvidia::RimError::Measurement { expected, got, .. }) => {
                let expected: Vec<_> = expected.iter().map(|value| to_hex(value)).collect();
                (Some(expected.join(" or ")), Some(to_hex(got)))
            }
            Self::Device { reason, .. } => reason.expected_and_got(),
            Self::Rego(fault) => fault.expected_and_got(),
            Self::Wrapper(nvidia::WrapperError::Differs { expected, got, .. }) => {
                (Some(expected.clone()), Some(got.clone()))
            }
            Self::UnknownRoot { got } | Self::SimulatedRoot { got } => (None, Some(got.to_string())),
            _ => (None, None),
        }
    }
}
