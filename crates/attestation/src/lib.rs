//! Evidence from hardware, judged offline: AWS Nitro, Intel TDX and SGX, AMD SEV-SNP, NVIDIA (`spec/attestation.md`).
//!
//! Bytes, collateral, a policy and a time go in; a [`Report`] comes out, with one row for everything that was checked or was not.
//! Nothing is fetched, and no certificate that travels with the evidence is a trust anchor: roots are pinned in [`anchors`].
//!
//! ```
//! use hallmark_attestation::{CheckId, Context, Input, Kind, Policy, verify};
//!
//! let policy = Policy::genuine();
//! let report = verify(Kind::Nitro, &Input::of(b"no evidence"), &Context::new(1_770_918_962, &policy));
//! assert!(!report.is_accepted());
//! assert!(report.check(CheckId::Format).is_some_and(|check| check.has_failed()));
//! ```
//!
//! To add a kind: a module with `verify`, a variant and a row of [`Kind`], a section of [`Policy`], its rows in [`check`]. Whoever makes
//! evidence is a [`Producer`]; the feature `simulated` has one that needs no hardware.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

pub mod anchors;
pub mod binding;
mod bytes;
pub mod cbor;
pub mod check;
pub mod collateral;
pub mod crypto;
pub mod dcap;
pub mod encoding;
pub mod environment;
pub mod measurement;
pub mod nitro;
pub mod nvidia;
pub mod policy;
pub mod presentation;
pub mod producer;
pub mod rego;
pub mod report;
#[cfg(feature = "simulated")]
pub mod simulated;
pub mod snp;
pub mod x509;

pub use binding::{Binding, Role, Session};
pub use check::{Check, CheckId, Outcome, Reason, Why};
pub use measurement::{Measurements, Register};
pub use policy::{Policy, PolicyError};
pub use presentation::{Credentials, Expected, Hello, Peer, Presentation, Refusal};
pub use producer::{DeviceError, Evidence, ProduceError, Producer, Request};
pub use report::{Attested, Context, Dangers, Decision, Report};
pub use x509::Memo;

/// The kinds of evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// AWS Nitro Enclaves.
    Nitro,
    /// Intel TDX.
    Tdx,
    /// Intel SGX.
    Sgx,
    /// AMD SEV-SNP.
    SevSnp,
    /// NVIDIA GPUs and NVSwitches.
    Nvidia,
}

impl Kind {
    /// Every kind, in order.
    pub const ALL: [Self; 5] = [Self::Nitro, Self::Tdx, Self::Sgx, Self::SevSnp, Self::Nvidia];

    /// Its name: on the command line, in policies, in documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nitro => "nitro",
            Self::Tdx => "tdx",
            Self::Sgx => "sgx",
            Self::SevSnp => "sev-snp",
            Self::Nvidia => "nvidia",
        }
    }

    /// The kind of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// The files that a verifier was given, as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Input<'a> {
    /// The evidence.
    pub evidence: &'a [u8],
    /// Certificates that did not come inside it.
    pub certificates: &'a [&'a [u8]],
    /// Collateral: what the maker publishes about its platforms, and revocation lists.
    pub collateral: &'a [&'a [u8]],
    /// The log of events behind runtime measurements.
    pub event_log: Option<&'a [u8]>,
}

impl<'a> Input<'a> {
    /// Evidence alone.
    pub fn of(evidence: &'a [u8]) -> Self {
        Self { evidence, ..Self::default() }
    }
}

/// Judges evidence of `kind`. Collateral may be a snapshot ([`collateral::Snapshot`]): what it has for the evidence counts.
pub fn verify(kind: Kind, input: &Input<'_>, context: &Context<'_>) -> Report {
    collateral::unfolded(kind, input, |input| match kind {
        Kind::Nitro => nitro::verify(input, context),
        Kind::SevSnp => snp::verify(input, context),
        Kind::Tdx | Kind::Sgx => dcap::verify(kind, input, context),
        Kind::Nvidia => nvidia::verify(input, context),
    })
}

/// Every field of evidence of `kind`, decoded and not judged.
pub fn show(kind: Kind, evidence: &[u8]) -> Result<hallmark_receipt::json::Object, Reason> {
    match kind {
        Kind::Nitro => nitro::show(evidence),
        Kind::Nvidia => nvidia::show(evidence),
        Kind::SevSnp => snp::show(evidence),
        Kind::Tdx | Kind::Sgx => dcap::show(kind, evidence),
    }
}
