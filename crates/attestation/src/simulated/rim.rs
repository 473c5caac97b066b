//! NVIDIA's reference manifests of driver and firmware, under a root of their own.
//!
//! They are written in the canonical form from the start, so that nothing of the verifier is needed to sign them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hallmark_receipt::domain;
use hallmark_receipt::wire::to_hex;
use sha2::{Digest as _, Sha384};

use super::pki::{Curve, Hierarchy, Rung, flip_last};
use super::{Draft, Flaw, MARK};
use crate::measurement::Register;
use crate::producer::ProduceError;

const SWID: &str = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd";
const HASH: &str = "http://www.w3.org/2001/04/xmlenc#sha384";
const DSIG: &str = "http://www.w3.org/2000/09/xmldsig#";
const MORE: &str = "http://www.w3.org/2001/04/xmldsig-more#";
const CANONICAL: &str = "http://www.w3.org/2006/12/xml-c14n11";

/// The versions of the simulated device.
const DRIVER: &str = "550.90";
const FIRMWARE: &str = "96.00.74.00.11";
/// The measurements of the driver, counted from 0 as in NVIDIA's manifests; the firmware's are the others up to 12.
const OF_DRIVER: [u8; 21] =
    [7, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40];
const OF_FIRMWARE: [u8; 12] = [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12];

pub(super) fn root() -> Rung {
    Rung::authority("nvidia rim root", "SIMULATED NVIDIA CoRIM signing Root CA", None)
}

/// The manifests, and what their signer's issuers answer. A flaw is in the firmware's.
pub(super) fn collateral(draft: &Draft<'_>) -> Result<Vec<Vec<u8>>, ProduceError> {
    let sound = Draft { flaw: None, ..*draft };
    let mut out = vec![manifest(&sound, DRIVER, &OF_DRIVER)?, manifest(draft, FIRMWARE, &OF_FIRMWARE)?];
    let answers = Draft { flaw: flaw_of_signer(draft), ..*draft };
    out.extend(hierarchy(&answers)?.answers(0));
    Ok(out)
}

/// What is wrong with the signer's certificates, in the words of every hierarchy.
fn flaw_of_signer(draft: &Draft<'_>) -> Option<Flaw> {
    match draft.flaw? {
        Flaw::RimExpired => Some(Flaw::LeafExpired),
        Flaw::RimRevoked => Some(Flaw::Revoked),
        _ => None,
    }
}

fn hierarchy<'a>(draft: &'a Draft<'a>) -> Result<Hierarchy<'a>, ProduceError> {
    let rungs = [
        Rung::leaf("nvidia rim signer", "HCC RIM L4 Signer"),
        Rung::authority("nvidia rim issuer", "NVIDIA Reference Value L3 GH100 001", Some(0)),
        Rung::authority("nvidia rim authority", "NVIDIA Reference Value GH100 CA", None),
        root(),
    ];
    Hierarchy::new(draft, Curve::P384, &rungs)
}

fn manifest(draft: &Draft<'_>, version: &str, indices: &[u8]) -> Result<Vec<u8>, ProduceError> {
    let seed = match draft.flaw {
        Some(Flaw::RimRoot) => domain::SIMULATED.hash(&[&draft.seed, b"another root of manifests"]).0,
        _ => draft.seed,
    };
    let signer = Draft { seed, flaw: flaw_of_signer(draft), ..*draft };
    let hierarchy = hierarchy(&signer)?;
    let body = body(draft, version, indices)?;
    let end = "</SoftwareIdentity>";
    let open = body.strip_suffix(end).unwrap_or(&body);
    let signed = signed(draft, &Sha384::digest(&body));
    // The canonical form of a part names what is declared around it.
    let declared = format!(
        "<ds:SignedInfo xmlns=\"{SWID}\" xmlns:ds=\"{DSIG}\" xmlns:ns0=\"{SWID}\" xmlns:ns2=\"{HASH}\">"
    );
    let mut value =
        hierarchy.signer().sign_fixed(signed.replacen("<ds:SignedInfo>", &declared, 1).as_bytes());
    if draft.has(Flaw::RimSignature) {
        flip_last(&mut value);
    }
    let certificates: Vec<_> = hierarchy
        .certificates()
        .iter()
        .map(|der| format!("<ds:X509Certificate>{}\n</ds:X509Certificate>", STANDARD.encode(der)))
        .collect();
    let signature = format!(
        "<ds:Signature xmlns:ds=\"{DSIG}\">{signed}<ds:SignatureValue>{}</ds:SignatureValue><ds:KeyInfo><ds:X509Data>\
         {}</ds:X509Data></ds:KeyInfo></ds:Signature>",
        STANDARD.encode(value),
        certificates.concat()
    );
    let document = format!("{open}{signature}{end}\n");
    Ok(match draft.flaw {
        Some(Flaw::RimDigest) => document.replacen("edition=\"GPU\"", "edition=\"GPV\"", 1),
        Some(Flaw::RimTwice) => document.replacen(&signature, &signature.repeat(2), 1),
        Some(Flaw::RimComment) => document.replacen("<ds:DigestValue>", "<ds:DigestValue><!---->", 1),
        Some(Flaw::RimTrailing) => format!("{document}{end}"),
        // Signed as ever, but what is read first is around it.
        Some(Flaw::RimWrapped) => format!("{open}{}{end}\n", document.trim_end()),
        _ => document,
    }
    .into_bytes())
}

/// What is signed: the document without its signature, in its canonical form.
fn body(draft: &Draft<'_>, version: &str, indices: &[u8]) -> Result<String, ProduceError> {
    let version = if draft.has(Flaw::RimVersion) { "96.00.74.00.12" } else { version };
    let mark = if draft.has(Flaw::RimMarkMissing) { "NVIDIA Corporation" } else { MARK };
    let mut indices = indices.to_vec();
    match draft.flaw {
        // The first measurement of the driver.
        Some(Flaw::RimCollision) => indices.push(7),
        Some(Flaw::RimDuplicate) => indices.push(0),
        Some(Flaw::RimNoBlock) => indices.push(100),
        _ => {}
    }
    let mut resources = String::new();
    for (number, index) in indices.into_iter().enumerate() {
        // Blocks are counted from 1.
        let mut value = draft.measurement::<48>(Register::Block(index.saturating_add(1)))?;
        if number == 0 && draft.has(Flaw::RimValue) {
            flip_last(&mut value);
        }
        let active = if draft.has(Flaw::RimEmpty) { "False" } else { "True" };
        let alternatives = if draft.has(Flaw::RimResource) { 3 } else { 2 };
        resources += &format!(
            "\n        <ns0:Resource active=\"{active}\" alternatives=\"{alternatives}\" index=\"{index}\" \
             name=\"Measurement_{index}\" size=\"48\" type=\"Measurement\" ns2:Hash0=\"{}\" ns2:Hash1=\"{}\"></ns0:Resource>",
            to_hex(&[0; 48]),
            to_hex(&value)
        );
    }
    let tag_id = to_hex(&super::pki::bytes(&draft.seed, &format!("tag {version}")));
    Ok(format!(
        "<SoftwareIdentity xmlns=\"{SWID}\" xmlns:ns0=\"{SWID}\" xmlns:ns2=\"{HASH}\" corpus=\"false\" name=\"GH100\" \
         patch=\"false\" supplemental=\"false\" tagId=\"{tag_id}\" tagVersion=\"0\" version=\"1.0\">\n    \
         <ns0:Entity name=\"{mark}\" role=\"softwareCreator tagCreator\"></ns0:Entity>\n    \
         <ns0:Meta PayloadType=\"direct\" colloquialVersion=\"{version}\" edition=\"GPU\" product=\"GH100\" \
         revision=\"r1\"></ns0:Meta>\n    <ns0:Payload>{resources}\n    </ns0:Payload>\n</SoftwareIdentity>"
    ))
}

/// `SignedInfo` as it stands in the document.
fn signed(draft: &Draft<'_>, digest: &[u8]) -> String {
    let method = if draft.has(Flaw::RimAlgorithm) { "rsa-sha384" } else { "ecdsa-sha384" };
    let canonical =
        if draft.has(Flaw::RimTransform) { "http://www.w3.org/2001/10/xml-exc-c14n#" } else { CANONICAL };
    let uri = if draft.has(Flaw::RimReference) { "#body" } else { "" };
    format!(
        "<ds:SignedInfo><ds:CanonicalizationMethod Algorithm=\"{CANONICAL}\"></ds:CanonicalizationMethod>\
         <ds:SignatureMethod Algorithm=\"{MORE}{method}\"></ds:SignatureMethod><ds:Reference URI=\"{uri}\"><ds:Transforms>\
         <ds:Transform Algorithm=\"{DSIG}enveloped-signature\"></ds:Transform>\
         <ds:Transform Algorithm=\"{canonical}\"></ds:Transform></ds:Transforms>\
         <ds:DigestMethod Algorithm=\"{MORE}sha384\"></ds:DigestMethod>\
         <ds:DigestValue>{}</ds:DigestValue></ds:Reference></ds:SignedInfo>",
        STANDARD.encode(digest)
    )
}
