//! Why a check of a report fails that only this kind has.

use hallmark_receipt::wire::to_hex;

use super::report::{Cpuid, SigningKey};
use super::tcb::Product;

/// Why a check fails.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum Fault {
    #[error("the certificates are not those of one product, or not of the leaf's kind")]
    Hierarchy,
    #[error("the certificate names another product than its authorities")]
    ProductName { expected: Product, got: String },
    #[error("the report is of a processor of another product, family {:#x}, model {:#x}", got.family, got.model)]
    Processor { expected: Product, got: Cpuid },
    #[error("the policy does not allow {got}")]
    ProductForbidden { got: Product },
    #[error("the report is not signed")]
    Unsigned,
    #[error("the report says it is signed with a {}, and the certificate is of {}", expected.name(), got.name())]
    KeyKind { expected: SigningKey, got: SigningKey },
    #[error("the policy does not allow a {} to sign", got.name())]
    KeyForbidden { got: SigningKey },
    #[error("the certificate of a VLEK names no cloud, or one that the policy does not allow")]
    Provider { got: String },
    #[error("the policy asks for an author key, and there is none")]
    NoAuthorKey,
    #[error("the certificate is of another chip")]
    Chip { expected: Vec<u8>, got: Vec<u8> },
    #[error("the certificate does not name every security version, or the chip")]
    Extensions,
    #[error("the certificate is of other security versions than the report")]
    CertifiedTcb { expected: String, got: String },
    #[error("{this} is newer than what the platform runs")]
    Newer { this: &'static str, expected: String, got: String },
    #[error("{tcb}: {part} is below the policy's minimum")]
    Below { tcb: &'static str, part: &'static str, expected: u8, got: u8 },
    #[error("the policy names minimal security versions, and none of {got}")]
    NoMinimum { got: Product },
    #[error("{this} is older than the policy's minimum")]
    Firmware { this: &'static str, expected: String, got: String },
    #[error("privilege level {got:#x} asked for it, which the policy does not allow")]
    Vmpl { got: u32 },
    #[error("the guest policy allows {flag}, which the policy forbids")]
    GuestForbidden { flag: &'static str },
    #[error("the guest policy lacks {flag}, which the policy asks for")]
    GuestLacks { flag: &'static str },
    #[error("the guest's security version is below the policy's minimum")]
    GuestSvn { expected: u32, got: u32 },
    #[error("the platform has {flag}, which the policy forbids")]
    PlatformForbidden { flag: &'static str },
    #[error("the platform lacks {flag}, which the policy asks for")]
    PlatformLacks { flag: &'static str },
}

impl Fault {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Hierarchy => "hierarchy",
            Self::ProductName { .. } => "product-name",
            Self::Processor { .. } => "processor",
            Self::ProductForbidden { .. } => "product-forbidden",
            Self::Unsigned => "unsigned",
            Self::KeyKind { .. } => "key-kind",
            Self::KeyForbidden { .. } => "key-forbidden",
            Self::Provider { .. } => "provider",
            Self::NoAuthorKey => "no-author-key",
            Self::Chip { .. } => "chip-id",
            Self::Extensions => "extensions",
            Self::CertifiedTcb { .. } => "certified-tcb",
            Self::Newer { .. } => "tcb-newer",
            Self::Below { .. } => "tcb-below",
            Self::NoMinimum { .. } => "tcb-no-minimum",
            Self::Firmware { .. } => "firmware-below",
            Self::Vmpl { .. } => "vmpl",
            Self::GuestForbidden { .. } => "guest-policy-forbidden",
            Self::GuestLacks { .. } => "guest-policy-lacks",
            Self::GuestSvn { .. } => "guest-svn",
            Self::PlatformForbidden { .. } => "platform-forbidden",
            Self::PlatformLacks { .. } => "platform-lacks",
        }
    }

    /// What was expected, and what was there.
    pub fn expected_and_got(&self) -> (Option<String>, Option<String>) {
        match self {
            Self::ProductName { expected, got } => (Some(expected.to_string()), Some(got.clone())),
            Self::Chip { expected, got } => (Some(to_hex(expected)), Some(to_hex(got))),
            Self::CertifiedTcb { expected, got }
            | Self::Newer { expected, got, .. }
            | Self::Firmware { expected, got, .. } => (Some(expected.clone()), Some(got.clone())),
            Self::Below { expected, got, .. } => (Some(expected.to_string()), Some(got.to_string())),
            Self::GuestSvn { expected, got } => (Some(expected.to_string()), Some(got.to_string())),
            Self::Provider { got } => (None, Some(got.clone())),
            _ => (None, None),
        }
    }
}
