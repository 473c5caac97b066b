//! What a piece of evidence needs: read from the evidence, which nobody has verified yet.

use super::{Need, PckAuthority, Wanted};
use crate::check::Reason;
use crate::dcap::{self, Platform, PlatformError};
use crate::nitro::Document;
use crate::nvidia::{self, DeviceReport};
use crate::snp::{self, SigningKey};
use crate::x509::{Certificate, CertificateError, CertificateId, CrlError, crl};
use crate::{Input, Kind, encoding};

/// The most needs of one piece of evidence: 128 devices with a chain of their own each.
pub const MAX_NEEDS: usize = 512;

/// Why it cannot be said what evidence needs.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NeedError {
    /// The evidence, or what came with it, cannot be read.
    #[error("the evidence cannot be read: {0}")]
    Evidence(Box<Reason>),
    /// A certificate cannot be read.
    #[error("a certificate of the evidence cannot be read: {0}")]
    Certificate(#[from] CertificateError),
    /// The places of a certificate's lists cannot be read.
    #[error("a certificate's distribution points cannot be read: {0}")]
    DistributionPoints(#[from] CrlError),
    /// A quote without its platform's certificate, which Intel's service gives to the platform's owner alone.
    #[error("the quote does not bring its platform's certificate: give its chain")]
    NoPlatform,
    /// A platform's certificate without what names the platform.
    #[error("{0}")]
    Platform(#[from] PlatformError),
    /// A platform's certificate by another authority than Intel's two.
    #[error("`{got}` is neither of Intel's authorities of platforms")]
    Authority {
        /// Its issuer.
        got: String,
    },
    /// A report that does not say which product it is of.
    #[error(
        "a report of version 2 does not say which product it is of: name it (Milan or Genoa), or give the certificate of its key"
    )]
    NoProduct,
    /// A report whose chip is masked: AMD has its certificate under a name that is not there.
    #[error("the host masks the chip's id: give the certificate of its key")]
    MaskedChip,
    /// A report by a VLEK, or an unsigned one: AMD gives no certificate of it to strangers.
    #[error("the report is signed by a {of}, of which AMD's service gives out no certificate: give it")]
    NoLeaf {
        /// The kind of key.
        of: &'static str,
    },
    /// More than any evidence needs.
    #[error("more than {MAX_NEEDS} things are needed")]
    TooMany,
}

fn unreadable(reason: impl Into<Reason>) -> NeedError {
    NeedError::Evidence(Box::new(reason.into()))
}

/// What evidence of `kind` needs, sorted, none twice. Of the input, what is there already counts: certificates that did not come
/// inside the evidence. Whoever made the evidence decides what is named here, so it is bounded, and what has been rejected already
/// should not be asked about.
pub fn needs(kind: Kind, input: &Input<'_>, wanted: &Wanted) -> Result<Vec<Need>, NeedError> {
    let mut needs = match kind {
        Kind::Tdx | Kind::Sgx => intel(kind, input, wanted)?,
        Kind::SevSnp => amd(input, wanted)?,
        Kind::Nvidia => nvidia(input)?,
        Kind::Nitro => nitro(input)?,
    };
    needs.sort();
    needs.dedup();
    if needs.len() > MAX_NEEDS { Err(NeedError::TooMany) } else { Ok(needs) }
}

fn intel(kind: Kind, input: &Input<'_>, wanted: &Wanted) -> Result<Vec<Need>, NeedError> {
    let chain = dcap::platform_certificates(kind, input).map_err(unreadable)?;
    let leaf = chain.as_ref().and_then(|chain| chain.first()).ok_or(NeedError::NoPlatform)?;
    let leaf = Certificate::parse(leaf)?;
    let platform = Platform::of(&leaf)?;
    let issuer = leaf.issuer_text();
    let authority = PckAuthority::ALL.into_iter().find(|authority| authority.common_name() == issuer);
    let authority = authority.ok_or(NeedError::Authority { got: issuer })?;
    let update = wanted.update;
    Ok(vec![
        Need::PckCrl(authority),
        Need::SgxRootCrl,
        Need::TcbInfo { kind, fmspc: *platform.fmspc, update },
        Need::QeIdentity { kind, update },
    ])
}

fn amd(input: &Input<'_>, wanted: &Wanted) -> Result<Vec<Need>, NeedError> {
    let asked = snp::asked(input).map_err(unreadable)?;
    let key = asked.signing_key;
    if !asked.has_leaf && key != SigningKey::Vcek {
        return Err(NeedError::NoLeaf { of: key.name() });
    }
    let product = asked.product.or(wanted.product).ok_or(NeedError::NoProduct)?;
    let mut needs = vec![Need::AmdChain { product, key }, Need::AmdCrl { product, key }];
    if !asked.has_leaf {
        let chip_id = asked.chip_id.ok_or(NeedError::MaskedChip)?;
        needs.push(Need::Vcek { product, chip_id, tcb: asked.reported_tcb });
    }
    Ok(needs)
}

fn nvidia(input: &Input<'_>) -> Result<Vec<Need>, NeedError> {
    let mut needs = Vec::new();
    for device in nvidia::devices(input).map_err(unreadable)? {
        let chain: Result<Vec<_>, _> =
            device.certificates.iter().map(|der| Certificate::parse(der)).collect();
        let chain = chain?;
        // Nobody answers for the leaf, which the device made, nor for the root.
        let pairs = chain.iter().zip(chain.iter().skip(1)).skip(nvidia::FIRST_REVOCABLE);
        needs.extend(pairs.map(|(certificate, issuer)| Need::Ocsp(CertificateId::of(certificate, issuer))));
        let report = DeviceReport::parse(&device.report).map_err(unreadable)?;
        let chip = chain.first().map(nvidia::chip).unwrap_or_default();
        needs.extend(report.opaque.manifests(&chip).into_iter().filter(|id| is_plain(id)).map(Need::Rim));
    }
    Ok(needs)
}

fn nitro(input: &Input<'_>) -> Result<Vec<Need>, NeedError> {
    let bytes = encoding::decode(input.evidence).map_err(unreadable)?;
    let document = Document::parse(&bytes).map_err(unreadable)?;
    let leaf_first = std::iter::once(document.certificate).chain(document.cabundle.iter().rev().copied());
    let chain: Result<Vec<_>, _> = leaf_first.map(Certificate::parse).collect();
    let chain = chain?;
    let mut needs = Vec::new();
    for (certificate, issuer) in chain.iter().zip(chain.iter().skip(1)) {
        let urls = crl::distribution_points(certificate)?.into_iter();
        let need = |url: &str| Need::Crl { url: url.to_owned(), issuer: issuer.der.to_vec() };
        needs.extend(urls.filter(|url| !url.is_empty()).map(need));
    }
    Ok(needs)
}

/// Whether it may stand in a URL as it is.
fn is_plain(id: &str) -> bool {
    id.len() <= 128 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}
