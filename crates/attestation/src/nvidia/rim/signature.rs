//! The signature in a reference manifest: XML Signature 1.1, enveloped, in the one form that NVIDIA's have.
//!
//! What is signed is the whole document without the signature. Whatever else the standard allows (other references, transforms,
//! algorithms, keys, objects) is refused, so nothing can be signed that is not what is read.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha384};

use super::RimError;
use super::xml::{Element, Namespaces};

const DSIG: &str = "http://www.w3.org/2000/09/xmldsig#";
const CANONICAL: &str = "http://www.w3.org/2006/12/xml-c14n11";
const ENVELOPED: &str = "http://www.w3.org/2000/09/xmldsig#enveloped-signature";
const ECDSA_SHA384: &str = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384";
const SHA384: &str = "http://www.w3.org/2001/04/xmldsig-more#sha384";
/// The most certificates of a signer; NVIDIA's have four.
const MAX_CERTIFICATES: usize = 8;

/// A signature over a digest that is the document's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// `SignedInfo` in its canonical form: what the signature is over.
    pub signed: String,
    /// `r || s`.
    pub value: Vec<u8>,
    /// The signer's certificates, DER, leaf first.
    pub certificates: Vec<Vec<u8>>,
}

impl Signature {
    /// The only signature in the document whose root is `root`. It is of the one form, and the digest in it is the document's.
    pub fn of(root: &Element<'_>) -> Result<Self, RimError> {
        match root.count(DSIG, "Signature") {
            1 => {}
            got => return Err(RimError::Signatures { got }),
        }
        let signature = root.elements().find(|element| element.is(DSIG, "Signature"));
        let signature = signature.ok_or(RimError::Element { of: "Signature" })?;
        let [signed, value, key_info] = parts(signature, ["SignedInfo", "SignatureValue", "KeyInfo"])?;
        let [canonicalization, method, reference] =
            parts(signed, ["CanonicalizationMethod", "SignatureMethod", "Reference"])?;
        algorithm(canonicalization, "the canonical form", CANONICAL)?;
        algorithm(method, "the signature", ECDSA_SHA384)?;
        let digest = self::reference(reference)?;
        if Sha384::digest(root.canonical(&Namespaces::new(), Some(signature))).as_slice() != digest {
            return Err(RimError::Digest);
        }
        let [data] = parts(key_info, ["X509Data"])?;
        let certificates: Vec<_> = data.elements().collect();
        if certificates.len() > MAX_CERTIFICATES {
            return Err(RimError::Element { of: "X509Data" });
        }
        plain(data, 0)?;
        let certificates = certificates.into_iter().map(|certificate| {
            if certificate.is(DSIG, "X509Certificate") {
                base64(certificate)
            } else {
                Err(RimError::Element { of: "X509Data" })
            }
        });
        Ok(Self {
            signed: signed.canonical(&signature.scope(&root.scope(&Namespaces::new())), None),
            value: base64(value)?,
            certificates: certificates.collect::<Result<_, _>>()?,
        })
    }
}

/// The digest of the whole document, as `Reference` says it.
fn reference(reference: &Element<'_>) -> Result<Vec<u8>, RimError> {
    match reference.attribute("", "URI") {
        Some("") if reference.attribute_count() == 1 => {}
        _ => return Err(RimError::Reference),
    }
    let [transforms, method, digest] = children(reference, ["Transforms", "DigestMethod", "DigestValue"])?;
    let [enveloped, canonical] = parts(transforms, ["Transform", "Transform"])?;
    algorithm(enveloped, "the first transform", ENVELOPED)?;
    algorithm(canonical, "the second transform", CANONICAL)?;
    algorithm(method, "the digest", SHA384)?;
    base64(digest)
}

/// These elements and nothing else are in `element`, which has no attributes.
fn parts<'e, 'a, const N: usize>(
    element: &'e Element<'a>,
    names: [&'static str; N],
) -> Result<[&'e Element<'a>; N], RimError> {
    plain(element, 0)?;
    children(element, names)
}

/// These elements and nothing else are in `element`.
fn children<'e, 'a, const N: usize>(
    element: &'e Element<'a>,
    names: [&'static str; N],
) -> Result<[&'e Element<'a>; N], RimError> {
    let refused = RimError::Element { of: names.first().copied().unwrap_or_default() };
    let found: Vec<_> = element.elements().collect();
    let fits = element.is_bare() && found.iter().zip(names).all(|(found, name)| found.is(DSIG, name));
    found.try_into().ok().filter(|_| fits).ok_or(refused)
}

/// There are `attributes` attributes, and nothing but elements.
fn plain(element: &Element<'_>, attributes: usize) -> Result<(), RimError> {
    let fits = element.attribute_count() == attributes && element.is_bare();
    if fits { Ok(()) } else { Err(RimError::Element { of: "the signature" }) }
}

/// The element, which is empty, names this algorithm.
fn algorithm(element: &Element<'_>, of: &'static str, expected: &str) -> Result<(), RimError> {
    plain(element, 1)?;
    let got = element.attribute("", "Algorithm").ok_or(RimError::Element { of: "the signature" })?;
    if got != expected || element.elements().next().is_some() {
        let got = got.chars().take(128).collect();
        return Err(RimError::Algorithm { of, got });
    }
    Ok(())
}

/// The bytes that the element's text is base64 of; lines may be broken.
fn base64(element: &Element<'_>) -> Result<Vec<u8>, RimError> {
    let text = element.text().filter(|_| element.attribute_count() == 0).ok_or(RimError::Base64)?;
    let text: String = text.chars().filter(|c| *c != '\n').collect();
    STANDARD.decode(text).map_err(|_| RimError::Base64)
}
