//! What a platform is worth: its security versions and those of what runs on it, found in what Intel publishes (`attestation.md`
//! §5.6 to §5.8). The rules are those of Intel's quote verification library.

use super::body::{EnclaveReport, TdReport};
use super::collateral::Signed;
use super::pck::Platform;
use super::published::{Date, EnclaveIdentity, Level, ModuleIdentity, PlatformTcb, TcbInfo, TcbStatus};
use crate::Kind;
use crate::crypto::{self, Form, Scheme};
use crate::x509::Certificate;
use hallmark_receipt::time::when;

/// Why what Intel publishes does not hold, or does not fit the quote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TcbError {
    /// Not of its form.
    #[error("not of its form: {message}")]
    Json {
        /// What the reader says.
        message: String,
    },
    /// The signing key did not sign it.
    #[error("the certified key did not sign it")]
    Signature,
    /// It is of a later time.
    #[error("issued {}, which is later than the time it is judged at", when(*issued))]
    NotYet {
        /// When, in seconds since 1970.
        issued: u64,
    },
    /// The next one was due.
    #[error("the next one was due on {}", when(*due))]
    Stale {
        /// When, in seconds since 1970.
        due: u64,
    },
    /// Another version.
    #[error("version {got} of {id}, which is not known")]
    Version {
        /// What it is about.
        id: String,
        /// The version.
        got: u32,
    },
    /// About something else.
    #[error("about {got}, not {expected}")]
    Id {
        /// What was needed.
        expected: &'static str,
        /// What it is about.
        got: String,
    },
    /// Another kind of platform's.
    #[error("of another kind of platform ({field})")]
    Platform {
        /// What differs.
        field: &'static str,
        /// The platform's.
        expected: Vec<u8>,
        /// The text's.
        got: Vec<u8>,
    },
    /// A quoting enclave that is not the published one.
    #[error("{field} is not the published one")]
    Enclave {
        /// What differs.
        field: &'static str,
    },
    /// A TDX module that is not a published one.
    #[error("the TDX module's {field} is not the published one")]
    Module {
        /// What differs.
        field: &'static str,
    },
    /// A TDX module of a major version that is not published.
    #[error("no TDX module of major version {0} is published")]
    NoModule(u8),
    /// Below every level.
    #[error("the {of} is below every published level")]
    NoLevel {
        /// Whose.
        of: &'static str,
    },
    /// A level with a status that its list does not have.
    #[error("a {of} cannot be {status}")]
    Status {
        /// Whose.
        of: &'static str,
        /// The status.
        status: TcbStatus,
    },
    /// A status that the policy does not allow.
    #[error("{status}, which the policy does not allow")]
    NotAllowed {
        /// The status.
        status: TcbStatus,
        /// Advisories that apply.
        advisories: Vec<String>,
    },
    /// Keys that Intel no longer trusts.
    #[error("revoked by Intel")]
    Revoked,
    /// Out of date for too long.
    #[error("the {of} is out of date, and at the level of {} for longer than the policy's grace", when(*since))]
    Grace {
        /// Whose.
        of: &'static str,
        /// The level's date, in seconds since 1970.
        since: u64,
    },
    /// An advisory that the policy denies.
    #[error("{0} applies, which the policy denies")]
    Advisory(String),
    /// An older evaluation than the policy asks for.
    #[error("evaluation {got}, where the policy asks for {least}")]
    Evaluation {
        /// The least.
        least: u64,
        /// The number.
        got: u64,
    },
}

impl TcbError {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Json { .. } => "published-form",
            Self::Signature => "published-signature",
            Self::NotYet { .. } => "published-later",
            Self::Stale { .. } => "published-stale",
            Self::Version { .. } => "published-version",
            Self::Id { .. } => "published-id",
            Self::Platform { .. } => "other-platform",
            Self::Enclave { .. } => "other-enclave",
            Self::Module { .. } | Self::NoModule(_) => "other-module",
            Self::NoLevel { .. } => "no-tcb-level",
            Self::Status { .. } => "tcb-status-unknown",
            Self::NotAllowed { .. } => "tcb-status",
            Self::Revoked => "tcb-revoked",
            Self::Grace { .. } => "tcb-grace",
            Self::Advisory(_) => "advisory",
            Self::Evaluation { .. } => "evaluation",
        }
    }
}

impl Signed {
    /// `signer`'s key signed the text, as it came.
    pub(super) fn verify(&self, signer: &Certificate<'_>) -> Result<(), TcbError> {
        let (text, signature) = (self.text.as_bytes(), &self.signature);
        crypto::verify(signer.key, Scheme::EcdsaP256, Form::Fixed, text, signature)
            .map_err(|_| TcbError::Signature)
    }

    /// What the text says.
    pub(crate) fn read<T: serde::de::DeserializeOwned>(&self) -> Result<T, TcbError> {
        serde_json::from_str(&self.text).map_err(|error| TcbError::Json { message: error.to_string() })
    }
}

/// Issued, and not yet replaced.
fn in_date(issued: Date, due: Date, now: u64) -> Result<(), TcbError> {
    if now < issued.0 {
        return Err(TcbError::NotYet { issued: issued.0 });
    }
    if now > due.0 {
        return Err(TcbError::Stale { due: due.0 });
    }
    Ok(())
}

impl TcbInfo {
    /// In date, and about this kind of platform.
    pub(super) fn verify(&self, kind: Kind, platform: &Platform<'_>, now: u64) -> Result<(), TcbError> {
        let (id, versions) = if kind == Kind::Tdx { ("TDX", 3..=3) } else { ("SGX", 2..=3) };
        if self.id != id {
            return Err(TcbError::Id { expected: id, got: self.id.clone() });
        }
        // Type 0 is the only one that says how components are compared.
        if !versions.contains(&self.version) || self.tcb_type != 0 {
            return Err(TcbError::Version { id: self.id.clone(), got: self.version });
        }
        let fields: [(&str, &[u8], &[u8]); 2] =
            [("FMSPC", platform.fmspc, &self.fmspc.0), ("PCEID", platform.pce_id, &self.pce_id.0)];
        for (field, expected, got) in fields {
            if expected != got {
                return Err(TcbError::Platform { field, expected: expected.to_vec(), got: got.to_vec() });
            }
        }
        in_date(self.issue_date, self.next_update, now)
    }

    /// The levels from the highest: by components, then the provisioning certification enclave's version, then TDX components. The order
    /// of the text does not count, as in Intel's library.
    fn descending(&self) -> Vec<&Level<PlatformTcb>> {
        let mut levels: Vec<_> = self.tcb_levels.iter().collect();
        levels.sort_by_key(|level| std::cmp::Reverse((level.tcb.sgx, level.tcb.pce_svn, level.tcb.tdx)));
        levels
    }

    /// The first level that the platform reaches with these versions of the TDX module, if there is one.
    fn level(&self, platform: &Platform<'_>, tee: Option<&[u8; 16]>) -> Result<Reached, TcbError> {
        let reaches = |have: &[u8; 16], needed: &[u16; 16], skip: usize| {
            have.iter().zip(needed).skip(skip).all(|(have, needed)| u16::from(*have) >= *needed)
        };
        let reached = self.descending().into_iter().find(|level| {
            let tdx = match (tee, &level.tcb.tdx) {
                // The module's own versions are judged by its identity, if its major version is not 0.
                (Some(tee), Some(needed)) => reaches(tee, needed, if major(tee) > 0 { 2 } else { 0 }),
                (Some(_), None) => false,
                (None, _) => true,
            };
            tdx && platform.pce_svn >= level.tcb.pce_svn && reaches(&platform.components, &level.tcb.sgx, 0)
        });
        let level = reached.ok_or(TcbError::NoLevel { of: "platform" })?;
        Reached::of("platform", level, |status| {
            !matches!(status, TcbStatus::TDRelaunchAdvised | TcbStatus::TDRelaunchAdvisedConfigurationNeeded)
        })
    }

    /// The TDX module of this major version; of 0, the default.
    fn module(&self, tee: &[u8; 16]) -> Result<&ModuleIdentity, TcbError> {
        let major = major(tee);
        if major == 0 {
            return self.tdx_module.as_ref().ok_or(TcbError::NoModule(0));
        }
        let id = format!("TDX_{major:02X}");
        let found = self.tdx_module_identities.iter().find(|module| module.id == id);
        found.ok_or(TcbError::NoModule(major))
    }

    /// The platform's level with that of the TDX module.
    fn with_module(&self, platform: &Platform<'_>, tee: &[u8; 16]) -> Result<Reached, TcbError> {
        let reached = self.level(platform, Some(tee))?;
        if major(tee) == 0 {
            return Ok(reached);
        }
        let isv_svn = u16::from(tee.first().copied().unwrap_or(0));
        let module = of_enclave("TDX module", &self.module(tee)?.tcb_levels, isv_svn, |status| {
            matches!(status, TcbStatus::UpToDate | TcbStatus::OutOfDate | TcbStatus::Revoked)
        })?;
        Ok(reached.with(module))
    }

    /// What the platform is worth. Of TDX 1.5 the versions at launch and those of now both count.
    pub(super) fn appraise(
        &self,
        platform: &Platform<'_>,
        td: Option<&TdReport<'_>>,
    ) -> Result<Appraisal, TcbError> {
        let Some(td) = td else { return Ok(Appraisal { launch: self.level(platform, None)?, now: None }) };
        let launch = self.with_module(platform, td.tee_tcb_svn)?;
        let module = self.module(td.tee_tcb_svn)?;
        if *td.mr_signer_seam != module.mrsigner.0 {
            return Err(TcbError::Module { field: "MRSIGNERSEAM" });
        }
        // Attributes outside the mask must be zero.
        let masks = module.attributes.0.iter().zip(&module.attributes_mask.0);
        if !td.seam_attributes.iter().zip(masks).all(|(got, (expected, mask))| *got == expected & mask) {
            return Err(TcbError::Module { field: "SEAMATTRIBUTES" });
        }
        let now = td.v15.map(|v15| self.with_module(platform, v15.tee_tcb_svn2)).transpose()?;
        Ok(Appraisal { launch, now })
    }
}

/// The TDX module's major version.
fn major(tee: &[u8; 16]) -> u8 {
    let [_, major, ..] = *tee;
    major
}

impl EnclaveIdentity {
    /// In date, and about the quoting enclave of this kind, whose report this is.
    pub(super) fn verify(
        &self,
        kind: Kind,
        report: &EnclaveReport<'_>,
        now: u64,
    ) -> Result<Reached, TcbError> {
        let (id, versions) = if kind == Kind::Tdx { ("TD_QE", 2..=3) } else { ("QE", 2..=2) };
        if self.id != id {
            return Err(TcbError::Id { expected: id, got: self.id.clone() });
        }
        if !versions.contains(&self.version) {
            return Err(TcbError::Version { id: self.id.clone(), got: self.version });
        }
        in_date(self.issue_date, self.next_update, now)?;
        let equal = |got: &[u8], expected: &[u8], mask: &[u8]| {
            got.iter().zip(expected).zip(mask).all(|((got, expected), mask)| got & mask == expected & mask)
        };
        // The text has the bytes in the report's order.
        let misc_select = report.misc_select.to_le_bytes();
        let fields = [
            ("MRSIGNER", *report.mr_signer == self.mrsigner.0),
            ("ISVPRODID", report.isv_prod_id == self.isvprodid),
            ("MISCSELECT", equal(&misc_select, &self.miscselect.0, &self.miscselect_mask.0)),
            ("ATTRIBUTES", equal(report.attributes, &self.attributes.0, &self.attributes_mask.0)),
            ("DEBUG", !report.is_debug()),
        ];
        if let Some((field, _)) = fields.into_iter().find(|(_, holds)| !holds) {
            return Err(TcbError::Enclave { field });
        }
        of_enclave("quoting enclave", &self.tcb_levels, report.isv_svn, |status| {
            !matches!(
                status,
                TcbStatus::SWHardeningNeeded
                    | TcbStatus::ConfigurationAndSWHardeningNeeded
                    | TcbStatus::TDRelaunchAdvised
                    | TcbStatus::TDRelaunchAdvisedConfigurationNeeded
            )
        })
    }
}

/// The highest level that a security version reaches.
fn of_enclave(
    of: &'static str,
    levels: &[Level<super::published::IsvSvn>],
    isv_svn: u16,
    may_be: impl Fn(TcbStatus) -> bool,
) -> Result<Reached, TcbError> {
    let reached =
        levels.iter().filter(|level| isv_svn >= level.tcb.isvsvn).max_by_key(|level| level.tcb.isvsvn);
    Reached::of(of, reached.ok_or(TcbError::NoLevel { of })?, may_be)
}

/// A level that was reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// What it is worth.
    pub status: TcbStatus,
    /// Its date, in seconds since 1970.
    pub date: u64,
    /// Advisories that apply.
    pub advisories: Vec<String>,
}

impl Reached {
    fn of<T>(
        of: &'static str,
        level: &Level<T>,
        may_be: impl Fn(TcbStatus) -> bool,
    ) -> Result<Self, TcbError> {
        let status = level.tcb_status;
        if !may_be(status) {
            return Err(TcbError::Status { of, status });
        }
        Ok(Self { status, date: level.tcb_date.0, advisories: level.advisories.clone() })
    }

    /// With a part that it runs: the worse status, the older date, all advisories.
    fn with(mut self, part: Self) -> Self {
        self.status = self.status.with_part(part.status);
        self.date = self.date.min(part.date);
        self.advisories.extend(part.advisories);
        self
    }
}

/// What a platform is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appraisal {
    /// When the trust domain was launched; of SGX, the only one.
    pub launch: Reached,
    /// TDX 1.5: now.
    pub now: Option<Reached>,
}

/// What a policy asks of a platform's worth.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TcbPolicy {
    /// The statuses that are taken.
    pub allow: Vec<TcbStatus>,
    /// How long after its level's date a platform may be out of date, where `allow` has that, in seconds.
    pub grace_seconds: u64,
    /// The same of the quoting enclave.
    pub qe_grace_seconds: u64,
    /// Advisories that must not apply.
    pub deny_advisories: Vec<String>,
    /// The least evaluation of Intel's that must have been applied.
    pub min_evaluation: Option<u64>,
    /// Refuses platforms that processors may be added to.
    pub refuse_dynamic_platform: bool,
    /// Refuses platforms whose root keys Intel keeps.
    pub refuse_cached_keys: bool,
    /// Refuses platforms whose threads share cores.
    pub refuse_smt: bool,
}

impl Default for TcbPolicy {
    fn default() -> Self {
        Self {
            allow: vec![TcbStatus::UpToDate, TcbStatus::SWHardeningNeeded],
            grace_seconds: 0,
            qe_grace_seconds: 0,
            deny_advisories: Vec::new(),
            min_evaluation: None,
            refuse_dynamic_platform: false,
            refuse_cached_keys: false,
            refuse_smt: false,
        }
    }
}

impl Appraisal {
    /// Platform, module and quoting enclave together; the date is the platform's at launch.
    pub(super) fn together(&self, qe: &Reached) -> Reached {
        let launch = self.launch.status.with_part(qe.status);
        let now = self.now.as_ref().map(|now| now.status.with_part(qe.status));
        let status = now.map_or(launch, |now| launch.relaunched(now));
        let mut advisories: Vec<String> = [Some(&self.launch), self.now.as_ref(), Some(qe)]
            .into_iter()
            .flatten()
            .flat_map(|reached| reached.advisories.iter().cloned())
            .collect();
        advisories.sort();
        advisories.dedup();
        Reached { status, date: self.launch.date, advisories }
    }

    /// The status of all together is one that the policy takes; the row's words if so.
    pub(super) fn judge(&self, qe: &Reached, policy: &TcbPolicy, at: u64) -> Result<String, TcbError> {
        let launch = self.launch.status.with_part(qe.status);
        let Reached { status, advisories, .. } = self.together(qe);
        if launch == TcbStatus::Revoked || status == TcbStatus::Revoked {
            return Err(TcbError::Revoked);
        }
        if !policy.allow.contains(&status) {
            return Err(TcbError::NotAllowed { status, advisories });
        }
        // Where only a relaunch is advised, the platform is not out of date now.
        let relaunch = status != launch;
        let parts = [
            ("platform", &self.launch, policy.grace_seconds, relaunch),
            ("quoting enclave", qe, policy.qe_grace_seconds, false),
        ];
        for (of, reached, grace, exempt) in parts {
            if reached.status.is_out_of_date() && !exempt && at > reached.date.saturating_add(grace) {
                return Err(TcbError::Grace { of, since: reached.date });
            }
        }
        let denied =
            |advisory: &&String| policy.deny_advisories.iter().any(|id| id.eq_ignore_ascii_case(advisory));
        if let Some(advisory) = advisories.iter().find(denied) {
            return Err(TcbError::Advisory(advisory.clone()));
        }
        let date = when(self.launch.date);
        Ok(match advisories.len() {
            0 => format!("{status}, level of {date}"),
            _ => format!("{status}, level of {date}; {}", advisories.join(", ")),
        })
    }
}
