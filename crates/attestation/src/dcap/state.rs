//! The state that an environment runs in, as its report says, and what a policy asks of it (`attestation.md` §5.9, §5.10).

use serde::Deserialize;

use super::body::{
    EnclaveReport, FLAG_INIT, RESERVED_TD_ATTRIBUTES, TdAttribute, TdReport, XFAM_DEFINED, XFAM_REQUIRED,
};
use super::pck::Platform;
use super::tcb::TcbPolicy;
use crate::bytes::is_zero;

/// What a policy may ask of trust domains alone.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TdxPolicy {
    /// What the platform must be worth.
    pub tcb: TcbPolicy,
    /// Takes trust domains that others serve (migration), which can then change them.
    pub allow_service_td: bool,
    /// Attributes that it must have.
    pub require_attributes: Vec<TdAttribute>,
    /// Attributes that it must not have.
    pub refuse_attributes: Vec<TdAttribute>,
    /// The extended features that it may use.
    pub allowed_xfam: u64,
}

impl Default for TdxPolicy {
    fn default() -> Self {
        Self {
            tcb: TcbPolicy::default(),
            allow_service_td: false,
            require_attributes: vec![TdAttribute::SeptVeDisable],
            refuse_attributes: vec![TdAttribute::Migratable],
            allowed_xfam: XFAM_DEFINED,
        }
    }
}

/// What a policy may ask of enclaves alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SgxPolicy {
    /// What the platform must be worth.
    pub tcb: TcbPolicy,
    /// The least security version of the enclave.
    pub min_isvsvn: u16,
}

/// Why the state is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// Bits that must be zero.
    #[error("reserved bits of {field} are set: {bits:#x}")]
    Reserved {
        /// Where.
        field: &'static str,
        /// Which.
        bits: u64,
    },
    /// Features that are not there, and must be.
    #[error("{field} lacks {bits:#x}")]
    Lacks {
        /// Where.
        field: &'static str,
        /// Which.
        bits: u64,
    },
    /// Features that the policy does not allow.
    #[error("{field} has {bits:#x}, which the policy does not allow")]
    Has {
        /// Where.
        field: &'static str,
        /// Which.
        bits: u64,
    },
    /// An attribute that the policy asks for.
    #[error("it lacks the attribute {}", .0.name())]
    Required(TdAttribute),
    /// An attribute that the policy refuses.
    #[error("it has the attribute {}, which the policy refuses", .0.name())]
    Refused(TdAttribute),
    /// An enclave of an older version.
    #[error("security version {got}, where the policy asks for {least}")]
    IsvSvn {
        /// The least.
        least: u16,
        /// The enclave's.
        got: u16,
    },
    /// Others serve it.
    #[error("{0}, which the policy does not allow")]
    ServiceTd(&'static str),
    /// A platform of a form that the policy refuses.
    #[error("{0}, which the policy refuses")]
    Platform(&'static str),
}

impl StateError {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Reserved { .. } => "reserved-bits",
            Self::Lacks { .. } | Self::Required(_) => "attribute-missing",
            Self::Has { .. } | Self::Refused(_) => "attribute-refused",
            Self::IsvSvn { .. } => "isvsvn",
            Self::ServiceTd(_) => "service-td",
            Self::Platform(_) => "platform",
        }
    }
}

/// How debug mode shows in a trust domain, if it does: profiling shows what it does, too.
pub(super) fn td_debug(report: &TdReport<'_>) -> Option<&'static str> {
    match report {
        _ if report.has(TdAttribute::Debug) => Some("the trust domain's DEBUG attribute is set"),
        _ if report.has(TdAttribute::Profiling) => Some("the trust domain is profiled"),
        _ => None,
    }
}

/// Attributes and features of a trust domain.
pub(super) fn td_attributes(report: &TdReport<'_>, policy: &TdxPolicy) -> Result<String, StateError> {
    let bits = report.td_attributes & RESERVED_TD_ATTRIBUTES;
    if bits != 0 {
        return Err(StateError::Reserved { field: "the attributes", bits });
    }
    if let Some(missing) = policy.require_attributes.iter().find(|attribute| !report.has(**attribute)) {
        return Err(StateError::Required(*missing));
    }
    if let Some(refused) = policy.refuse_attributes.iter().find(|attribute| report.has(**attribute)) {
        return Err(StateError::Refused(*refused));
    }
    let undefined = report.xfam & !XFAM_DEFINED;
    if undefined != 0 {
        return Err(StateError::Reserved { field: "XFAM", bits: undefined });
    }
    let missing = XFAM_REQUIRED & !report.xfam;
    if missing != 0 {
        return Err(StateError::Lacks { field: "XFAM", bits: missing });
    }
    let refused = report.xfam & !policy.allowed_xfam;
    if refused != 0 {
        return Err(StateError::Has { field: "XFAM", bits: refused });
    }
    Ok(format!("attributes {:#x}, XFAM {:#x}", report.td_attributes, report.xfam))
}

/// Attributes and version of an enclave.
pub(super) fn enclave_attributes(
    report: &EnclaveReport<'_>,
    policy: &SgxPolicy,
) -> Result<String, StateError> {
    if report.flags() & FLAG_INIT == 0 {
        return Err(StateError::Lacks { field: "the attributes", bits: FLAG_INIT });
    }
    if report.isv_svn < policy.min_isvsvn {
        return Err(StateError::IsvSvn { least: policy.min_isvsvn, got: report.isv_svn });
    }
    Ok(format!(
        "flags {:#x}, product {}, security version {}",
        report.flags(),
        report.isv_prod_id,
        report.isv_svn
    ))
}

/// Whether others serve the trust domain. The extended body is there for those that may be served: its own fields say who was bound at
/// creation and who is now, but Intel's module fills them only where an attribute asks for it, so that zeros in it show nothing.
pub(super) fn service_td(report: &TdReport<'_>, policy: &TdxPolicy) -> Result<&'static str, StateError> {
    let extended = report.v15.and_then(|v15| v15.extended);
    let bound = |hash: &[u8]| !is_zero(hash);
    let found = match report.v15 {
        _ if report.has(TdAttribute::ServiceTdExtension) => Some("its service trust domains are extended"),
        Some(v15) if bound(v15.mr_service_td) => Some("a service trust domain is bound"),
        _ if extended.is_some_and(|all| bound(all.init_service_td_hash) || bound(all.service_td_hash)) => {
            Some("a service trust domain is bound")
        }
        _ if extended.is_some() => Some("an extended body, of trust domains that others may serve"),
        _ => None,
    };
    match found {
        None => Ok("none is bound"),
        Some(what) if policy.allow_service_td => Ok(what),
        Some(what) => Err(StateError::ServiceTd(what)),
    }
}

/// What the platform's certificate says of its form.
pub(super) fn platform(platform: &Platform<'_>, policy: &TcbPolicy) -> Result<String, StateError> {
    let forms = [
        ("a platform that processors may be added to", platform.dynamic, policy.refuse_dynamic_platform),
        ("a platform whose root keys Intel keeps", platform.cached_keys, policy.refuse_cached_keys),
        ("a platform whose threads share cores", platform.smt, policy.refuse_smt),
    ];
    let refused = forms.iter().find(|(_, has, refuse)| *has == Some(true) && *refuse);
    if let Some((what, ..)) = refused {
        return Err(StateError::Platform(what));
    }
    let word = |flag: Option<bool>| match flag {
        Some(true) => "yes",
        Some(false) => "no",
        None => "not said",
    };
    let fmspc = hallmark_receipt::wire::to_hex(platform.fmspc);
    let [dynamic, cached, smt] = [platform.dynamic, platform.cached_keys, platform.smt].map(word);
    Ok(format!("FMSPC {fmspc}; dynamic: {dynamic}; cached keys: {cached}; SMT: {smt}"))
}
