//! Reference manifests (RIM): what NVIDIA published a driver or a firmware to measure (`attestation.md` §7.13).
//!
//! A manifest is a signed SWID tag (ISO/IEC 19770-2:2015, TCG Reference Integrity ReferenceManifest Information Model):
//!
//! ```xml
//! <SoftwareIdentity ..><ns0:Entity ../><ns0:Meta colloquialVersion="96.00.74.00.11" product="GH100" ../>
//!     <ns0:Payload><ns0:Resource type="Measurement" index="0" active="True" alternatives="1" ns2:Hash0=".." size="48" ../> ..
//!     </ns0:Payload><ds:Signature>..</ds:Signature></SoftwareIdentity>
//! ```
//!
//! The signature is over the whole of it, by the first of the certificates in it, which end in a root of its own.

mod compare;
mod signature;
#[cfg(test)]
mod tests;
mod xml;

use std::collections::BTreeMap;
use std::fmt;

use hallmark_receipt::wire::from_hex;

pub(super) use compare::compare;
use signature::Signature;
use xml::Element;
pub use xml::XmlError;

const SWID: &str = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd";
const HASH: &str = "http://www.w3.org/2001/04/xmlenc#sha384";
/// The longest version or product.
const MAX_NAME: usize = 64;
/// The most values that one measurement may have.
const MAX_ALTERNATIVES: usize = 32;

/// What a manifest is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    /// The GPU's driver.
    Driver,
    /// The device's firmware (VBIOS).
    Firmware,
}

impl Component {
    /// The component of this version: a firmware's has five numbers of two hexadecimal digits.
    fn of(version: &str) -> Self {
        let is_number = |part: &str| part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit());
        let is_firmware = version.split('.').count() == 5 && version.split('.').all(is_number);
        if is_firmware { Self::Firmware } else { Self::Driver }
    }

    /// Whose chain it is, in reasons.
    fn whose(self) -> &'static str {
        match self {
            Self::Driver => "driver's RIM",
            Self::Firmware => "VBIOS's RIM",
        }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Driver => "driver",
            Self::Firmware => "VBIOS",
        })
    }
}

/// A manifest. The digest in its signature is its own; whose signature it is, is not looked at yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferenceManifest {
    /// What it is about.
    pub component: Component,
    /// The version of that, as written.
    pub version: String,
    /// The chip, as written.
    pub product: String,
    /// Whether it says of itself that no maker of hardware made it (`attestation.md` §11).
    pub is_marked: bool,
    /// The values that a device of this version may report, by the index of the report's block, from 1. Only active ones.
    pub references: BTreeMap<u8, Vec<Vec<u8>>>,
    /// What it asks for beyond measurements, if it does.
    pub unread: Option<String>,
    signature: Signature,
}

/// Why a manifest is refused, or a device by it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RimError {
    /// Not XML, or XML in another form than manifests have.
    #[error("a RIM cannot be read: {0}")]
    Xml(#[from] XmlError),
    /// An element that is missing, stands twice, or has something in it that does not belong there.
    #[error("a RIM is not in its form: {of}")]
    Element {
        /// Which.
        of: &'static str,
    },
    /// Another number of signatures than one.
    #[error("a RIM has {got} signatures")]
    Signatures {
        /// How many.
        got: usize,
    },
    /// Another algorithm than manifests are signed with.
    #[error("a RIM names `{got}` for {of}")]
    Algorithm {
        /// For what.
        of: &'static str,
        /// Its name.
        got: String,
    },
    /// The signature is about something else than the whole document.
    #[error("what a RIM's signature is over is not the RIM")]
    Reference,
    /// Text that is no base64.
    #[error("a RIM's signature has text that is no base64")]
    Base64,
    /// The document is not the signed one.
    #[error("a RIM has another digest than the signed one")]
    Digest,
    /// The key of the leaf did not sign it.
    #[error("the {0} is not signed by its signer's key")]
    Signature(&'static str),
    /// A measurement that is not in its form.
    #[error("a RIM's measurement {number} is not in its form: {of}")]
    Resource {
        /// Which, from 0, as it stands in the manifest.
        number: usize,
        /// What is wrong with it.
        of: &'static str,
    },
    /// A measurement that stands twice.
    #[error("a RIM has two references for block {0}")]
    Duplicate(u8),
    /// Nothing to compare with.
    #[error("the {0} has no active measurement")]
    Empty(&'static str),
    /// About another version than the device runs.
    #[error("no RIM is about {component} {expected}, one is about {got}")]
    Version {
        /// Driver or firmware.
        component: Component,
        /// What the device runs.
        expected: String,
        /// What the manifest is about.
        got: String,
    },
    /// Both manifests have a reference for one measurement.
    #[error("the RIMs of driver and VBIOS both have a reference for block {0}")]
    Collision(u8),
    /// The device does not report the measurement.
    #[error("the report has no block {index}, which the {manifest} has a reference for")]
    NoBlock {
        /// The block's index.
        index: u8,
        /// Which manifest.
        manifest: &'static str,
    },
    /// The device measured something else.
    #[error("block {index} is not what NVIDIA published ({manifest})")]
    Measurement {
        /// The block's index.
        index: u8,
        /// Which manifest.
        manifest: &'static str,
        /// The published values.
        expected: Vec<Vec<u8>>,
        /// The reported one.
        got: Vec<u8>,
    },
}

impl RimError {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Xml(_) => "rim-xml",
            Self::Element { .. } => "rim-form",
            Self::Signatures { .. } => "rim-signatures",
            Self::Algorithm { .. } => "rim-algorithm",
            Self::Reference => "rim-reference",
            Self::Base64 => "rim-base64",
            Self::Digest => "rim-digest",
            Self::Signature(_) => "rim-signature",
            Self::Resource { .. } => "rim-resource",
            Self::Duplicate(_) => "rim-duplicate",
            Self::Empty(_) => "rim-empty",
            Self::Version { .. } => "rim-version",
            Self::Collision(_) => "rim-collision",
            Self::NoBlock { .. } => "rim-no-block",
            Self::Measurement { .. } => "rim-measurement",
        }
    }
}

impl ReferenceManifest {
    /// Whether a file of collateral is meant to be one: certificates, lists and answers are no XML.
    pub fn is_one(file: &[u8]) -> bool {
        file.trim_ascii_start().first() == Some(&b'<')
    }

    /// Reads a manifest, to its last byte.
    pub fn parse(file: &[u8]) -> Result<Self, RimError> {
        let root = Element::parse(file)?;
        if !root.is(SWID, "SoftwareIdentity") {
            return Err(RimError::Element { of: "SoftwareIdentity" });
        }
        let signature = Signature::of(&root)?;
        let meta = only(&root, "Meta")?;
        let name = |attribute| {
            let value = meta.attribute("", attribute).filter(|value| (1..=MAX_NAME).contains(&value.len()));
            value.map(str::to_owned).ok_or(RimError::Element { of: attribute })
        };
        let (version, product) = (name("colloquialVersion")?, name("product")?);
        let mut manifest = Self {
            component: Component::of(&version),
            version,
            product,
            is_marked: root
                .elements()
                .any(|entity| entity.is(SWID, "Entity") && entity.attribute("", "name") == Some("SIMULATED")),
            references: BTreeMap::new(),
            unread: None,
            signature,
        };
        for (number, resource) in only(&root, "Payload")?.elements().enumerate() {
            manifest.add(number, resource)?;
        }
        Ok(manifest)
    }

    /// A `Resource`: the references of one measurement.
    fn add(&mut self, number: usize, resource: &Element<'_>) -> Result<(), RimError> {
        let refuse = |of| RimError::Resource { number, of };
        match resource.attribute("", "type").filter(|_| resource.is(SWID, "Resource")) {
            Some("Measurement") => {}
            other => {
                self.unread = Some(other.unwrap_or("another element").chars().take(MAX_NAME).collect());
                return Ok(());
            }
        }
        if !resource.is_bare() || resource.elements().next().is_some() {
            return Err(refuse("it is not empty"));
        }
        let text = |name| resource.attribute("", name).ok_or(refuse(name));
        let count = |name| decimal(text(name)?).ok_or(refuse(name));
        // A manifest counts from 0, a report from 1.
        let index: Option<u8> = count("index")?.checked_add(1).and_then(|index| index.try_into().ok());
        let index = index.ok_or(refuse("index"))?;
        let (size, alternatives) = (count("size")?, count("alternatives")?);
        text("name")?;
        // type, index, active, alternatives, name, size.
        let attributes = alternatives.checked_add(6);
        if !(1..=MAX_ALTERNATIVES).contains(&alternatives) || attributes != Some(resource.attribute_count()) {
            return Err(refuse("alternatives"));
        }
        let values = (0..alternatives).map(|alternative| {
            let value = resource.attribute(HASH, &format!("Hash{alternative}")).ok_or(refuse("a value"))?;
            let value = from_hex(&value.to_ascii_lowercase()).ok_or(refuse("a value"))?;
            let fits = value.len() == size && matches!(size, 32 | 48 | 64);
            if fits { Ok(value) } else { Err(refuse("size")) }
        });
        let values: Vec<_> = values.collect::<Result<_, _>>()?;
        match text("active")? {
            "True" => match self.references.insert(index, values) {
                Some(_) => Err(RimError::Duplicate(index)),
                None => Ok(()),
            },
            "False" => Ok(()),
            _ => Err(refuse("active")),
        }
    }
}

/// The only element of this name in the document's root.
fn only<'e, 'a>(root: &'e Element<'a>, name: &'static str) -> Result<&'e Element<'a>, RimError> {
    let mut found = root.elements().filter(|element| element.is(SWID, name));
    match (found.next(), found.next()) {
        (Some(element), None) => Ok(element),
        _ => Err(RimError::Element { of: name }),
    }
}

/// A number of at most four digits, without zeros in front.
fn decimal(text: &str) -> Option<usize> {
    let is_plain = text.len() <= 4 && text.bytes().all(|digit| digit.is_ascii_digit());
    let is_short = text == "0" || !text.starts_with('0');
    if is_plain && is_short { text.parse().ok() } else { None }
}
