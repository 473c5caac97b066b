//! The certificates of a report: the chain from its signing key's certificate to AMD's root, and what AMD's extensions certify
//! (57230, "Versioned Chip Endorsement Key (VCEK) Certificate and KDS Interface Specification", §3.1; 58369 for VLEK).

use std::sync::LazyLock;

use der::asn1::{AnyRef, ObjectIdentifier};
use der::{Decode as _, Tag, Tagged as _};

use super::report::SigningKey;
use super::tcb::{Product, Tcb};
use crate::crypto::PublicKey;
use crate::x509::{Certificate, CertificateError, Chain, ChainError};
use crate::{Kind, anchors};

/// AMD's authorities, which need not come with a report: roots and intermediates.
static AUTHORITIES: LazyLock<Vec<Certificate<'static>>> =
    LazyLock::new(|| BUILT_IN.into_iter().filter_map(|der| Certificate::parse(der).ok()).collect());

const BUILT_IN: [&[u8]; 7] = [
    include_bytes!("../roots/milan-ask.der"),
    include_bytes!("../roots/milan-asvk.der"),
    include_bytes!("../roots/milan-ark.der"),
    include_bytes!("../roots/genoa-ask.der"),
    include_bytes!("../roots/genoa-ark.der"),
    include_bytes!("../roots/turin-ask.der"),
    include_bytes!("../roots/turin-ark.der"),
];

const PRODUCT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.2");
const SPL: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3");
const HWID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.4");
const CSP_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.5");

/// The most certificates that may come with a report; a chain has three.
const MAX_GIVEN: usize = 16;

/// Why certificates that came with a report make no chain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndorsementError {
    /// More certificates than any report comes with.
    #[error("{got} certificates were given, at most {MAX_GIVEN} can be of use")]
    TooMany {
        /// How many.
        got: usize,
    },
    /// A certificate that cannot be read.
    #[error("certificate {number} of those given: {error}")]
    Certificate {
        /// Which, from 1.
        number: usize,
        /// Why.
        error: CertificateError,
    },
    /// A certificate beside the chain that AMD did not make.
    #[error("`{subject}` has no place in the chain, and no authority of AMD's signed it")]
    Stranger {
        /// Its subject.
        subject: String,
    },
    /// An issuer that was not given and is not known here.
    #[error("the certificate of the issuer of `{subject}` was not given, and is not one known here")]
    NoIssuer {
        /// The subject whose issuer is missing.
        subject: String,
    },
    /// A chain of another shape.
    #[error(transparent)]
    Chain(#[from] ChainError),
}

impl EndorsementError {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooMany { .. } => "too-many-certificates",
            Self::Certificate { .. } => "certificate",
            Self::Stranger { .. } => "certificate-stranger",
            Self::NoIssuer { .. } => "no-issuer",
            Self::Chain(error) => error.code(),
        }
    }
}

/// Finds the chain of the key that signs: the leaf of kind `key` (else of the other) among those given, its issuers among those
/// given (else among AMD's own). None without a leaf. What was given and has no place in it must be AMD's too.
///
/// The chain is verified by who asked for it; certificates beside it are here.
pub fn chain<'a>(given: &'a [Vec<u8>], key: SigningKey) -> Result<Option<Chain<'a>>, EndorsementError> {
    if given.len() > MAX_GIVEN {
        return Err(EndorsementError::TooMany { got: given.len() });
    }
    let mut certificates: Vec<Certificate<'a>> = Vec::new();
    for (at, der) in given.iter().enumerate() {
        let number = at.saturating_add(1);
        let certificate =
            Certificate::parse(der).map_err(|error| EndorsementError::Certificate { number, error })?;
        if !certificates.contains(&certificate) {
            certificates.push(certificate);
        }
    }
    let leaves = || certificates.iter().filter(|certificate| is_leaf(certificate));
    let Some(leaf) = leaves().find(|leaf| kind(leaf) == Some(key)).or_else(|| leaves().next()) else {
        return Ok(None);
    };
    let missing =
        |certificate: &Certificate<'_>| EndorsementError::NoIssuer { subject: certificate.subject_text() };
    let signer = issuer(leaf, &certificates).ok_or_else(|| missing(leaf))?;
    let root = issuer(&signer, &certificates).ok_or_else(|| missing(&signer))?;
    let ders = [leaf.der, signer.der, root.der];
    let outside = certificates.iter().filter(|certificate| !ders.contains(&certificate.der));
    let mut strangers: Vec<_> = outside
        .filter(|certificate| anchors::find(Kind::SevSnp, certificate.der, &[]).is_none())
        .cloned()
        .collect();
    let chain = Chain::of(vec![leaf.clone(), signer, root])?;
    // An authority of the chain, or one that is built in, must stand behind each, at first or second hand.
    let mut known = Vec::new();
    if !strangers.is_empty() {
        known.extend(AUTHORITIES.iter().chain(chain.certificates()).cloned());
    }
    while !strangers.is_empty() {
        let (vouched, others): (Vec<_>, Vec<_>) = strangers.into_iter().partition(|certificate| {
            known.iter().any(|issuer| {
                issuer.subject == certificate.issuer
                    && !is_leaf(issuer)
                    && certificate.verify_signature(issuer).is_ok()
            })
        });
        if let (true, Some(stranger)) = (vouched.is_empty(), others.first()) {
            return Err(EndorsementError::Stranger { subject: stranger.subject_text() });
        }
        known.extend(vouched);
        strangers = others;
    }
    Ok(Some(chain))
}

/// The certificate of an authority with the name of `certificate`'s issuer.
fn issuer<'a>(certificate: &Certificate<'_>, given: &[Certificate<'a>]) -> Option<Certificate<'a>> {
    let names = |authority: &Certificate<'_>| authority.subject == certificate.issuer && !is_leaf(authority);
    if let Some(authority) = given.iter().find(|authority| names(authority)) {
        return Some(authority.clone());
    }
    AUTHORITIES.iter().find(|authority| names(authority)).cloned()
}

/// AMD's leaves have keys of P-384, its authorities have RSA; those of development roots (§11) are known by their names alone.
fn is_leaf(certificate: &Certificate<'_>) -> bool {
    let name = certificate.subject_text();
    let is_authority = name.starts_with("ARK-")
        || name
            .strip_prefix("SEV-VLEK-")
            .or(name.strip_prefix("SEV-"))
            .is_some_and(|product| Product::from_name(product).is_some());
    matches!(certificate.key, PublicKey::P384(_)) && !is_authority
}

/// The kind of key that a leaf says it is of.
pub fn kind(leaf: &Certificate<'_>) -> Option<SigningKey> {
    match leaf.subject_text().as_str() {
        "SEV-VCEK" => Some(SigningKey::Vcek),
        "SEV-VLEK" => Some(SigningKey::Vlek),
        _ => None,
    }
}

/// The product that a chain is of: its root's, if the intermediate is of the same one and of the leaf's kind.
pub fn product(chain: &Chain<'_>) -> Option<Product> {
    let product = Product::from_name(chain.root().subject_text().strip_prefix("ARK-")?)?;
    let signer = match kind(chain.leaf())? {
        SigningKey::Vlek => format!("SEV-VLEK-{product}"),
        _ => format!("SEV-{product}"),
    };
    let names: Vec<_> = chain.certificates().iter().map(Certificate::subject_text).collect();
    (names.get(1) == Some(&signer)).then_some(product)
}

/// The product that a leaf names, stepping included: `Milan-B0`.
pub fn product_name(leaf: &Certificate<'_>) -> Option<String> {
    text(leaf.extension(PRODUCT_NAME)?)
}

/// The security version that a leaf certifies for the part with this last arc.
pub fn security_version(leaf: &Certificate<'_>, arc: u8) -> Option<u8> {
    let id = SPL.push_arc(arc.into()).ok()?;
    u8::from_der(leaf.extension(id)?).ok()
}

/// The security versions that a leaf certifies; reserved parts that it does not name are zero.
pub fn certified_tcb(leaf: &Certificate<'_>, product: Product) -> Option<Tcb> {
    let mut tcb = Tcb([0; 8]);
    let parts: Vec<_> = tcb.parts(product).collect();
    for (version, part) in tcb.0.iter_mut().zip(parts) {
        *version = match security_version(leaf, part.arc) {
            None if part.name().is_none() => 0,
            version => version?,
        };
    }
    Some(tcb)
}

/// The chip that a VCEK's certificate names: 64 bytes, of Turin 8. The bytes themselves, or as an OCTET STRING.
pub fn hardware_id<'a>(leaf: &Certificate<'a>) -> Option<&'a [u8]> {
    let value = leaf.extension(HWID)?;
    match AnyRef::from_der(value) {
        Ok(inner) if inner.tag() == Tag::OctetString && matches!(inner.value().len(), 8 | 64) => {
            Some(inner.value())
        }
        _ => Some(value),
    }
}

/// The cloud that a VLEK's certificate names.
pub fn provider(leaf: &Certificate<'_>) -> Option<String> {
    text(leaf.extension(CSP_ID)?)
}

fn text(value: &[u8]) -> Option<String> {
    let value = AnyRef::from_der(value).ok()?;
    let is_text = matches!(value.tag(), Tag::Ia5String | Tag::Utf8String | Tag::PrintableString);
    std::str::from_utf8(value.value()).ok().filter(|_| is_text).map(str::to_owned)
}
