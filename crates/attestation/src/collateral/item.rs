//! What was brought for one need: of its form, about what was asked for, and good until a time that it says itself.

use hallmark_receipt::json::{Object, Value, object};
use hallmark_receipt::time::when;
use hallmark_receipt::wire::{Fields, FormatError, to_base64};

use super::Need;
use crate::dcap::{Collateral, CollateralError, EnclaveIdentity, TcbError, TcbInfo};
use crate::encoding::{self, EncodingError, MAX_FILE};
use crate::snp::{self, SigningKey};
use crate::x509::certificate::MAX_CERTIFICATE;
use crate::x509::{Certificate, CertificateError, Crl, CrlError, OcspError, ocsp};
use crate::{Input, Kind};

/// The most certificates that come with an item.
const MAX_ISSUERS: usize = 4;
/// The longest kind and name of an item.
const MAX_KIND: usize = 32;
const MAX_NAME: usize = 512;

/// Collateral for one need. Being one shows nothing but that it may be what was asked for: a verifier checks its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    need: Need,
    content: Vec<u8>,
    issuers: Vec<Vec<u8>>,
    fetched: u64,
    issued: u64,
    expires: u64,
}

/// Why something is not what was asked for.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ContentError {
    /// Its encoding.
    #[error("{0}")]
    Encoding(#[from] EncodingError),
    /// Not what Intel publishes.
    #[error("{0}")]
    Collateral(#[from] CollateralError),
    /// A text of Intel's that is not of its form.
    #[error("{0}")]
    Text(#[from] TcbError),
    /// Not a revocation list, or not one that its issuer signed.
    #[error("{0}")]
    Crl(#[from] CrlError),
    /// Not an OCSP response.
    #[error("{0}")]
    Ocsp(#[from] OcspError),
    /// A certificate that cannot be read.
    #[error("{0}")]
    Certificate(#[from] CertificateError),
    /// Another number of things than was asked for.
    #[error("{got} {what}, where {expected} was asked for")]
    Count {
        /// What.
        what: &'static str,
        /// How many were asked for.
        expected: usize,
        /// How many there are.
        got: usize,
    },
    /// About something else than was asked for.
    #[error("it is about something else: {what} is {got}, {expected} was asked for")]
    Other {
        /// What differs.
        what: &'static str,
        /// What was asked for.
        expected: String,
        /// What is there.
        got: String,
    },
    /// The certificates of the signing key did not come along.
    #[error("the certificates of its signer did not come along")]
    NoIssuers,
    /// Such things are given by hand.
    #[error("reference manifests are not kept in snapshots yet: give them beside one")]
    NotRead,
    /// It was made later.
    #[error("it holds from {} on", when(*issued))]
    NotYet {
        /// When.
        issued: u64,
    },
    /// It holds no longer.
    #[error("it held until {}", when(*expires))]
    Expired {
        /// When.
        expires: u64,
    },
}

impl Item {
    /// What was brought for `need` at `fetched` (seconds since 1970), as it came; `issuers` are the certificates of its signer that came
    /// with it, leaf first.
    pub fn new(
        need: Need,
        content: Vec<u8>,
        issuers: Vec<Vec<u8>>,
        fetched: u64,
    ) -> Result<Self, ContentError> {
        if content.len() > MAX_FILE {
            return Err(EncodingError::TooLong { got: content.len() }.into());
        }
        if issuers.len() > MAX_ISSUERS {
            let (expected, got) = (MAX_ISSUERS, issuers.len());
            return Err(ContentError::Count { what: "certificates of its signer", expected, got });
        }
        let (mut issued, mut expires) = period(&need, &content)?;
        if issuers.is_empty() && matches!(need, Need::TcbInfo { .. } | Need::QeIdentity { .. }) {
            return Err(ContentError::NoIssuers);
        }
        for issuer in &issuers {
            let issuer = Certificate::parse(issuer)?;
            (issued, expires) = (issued.max(issuer.not_before), expires.min(issuer.not_after));
        }
        Ok(Self { need, content, issuers, fetched, issued, expires })
    }

    /// What it was brought for.
    pub fn need(&self) -> &Need {
        &self.need
    }

    /// As it came.
    pub fn content(&self) -> &[u8] {
        &self.content
    }

    /// The certificates of its signer, DER, leaf first.
    pub fn issuers(&self) -> &[Vec<u8>] {
        &self.issuers
    }

    /// When it was brought, in seconds since 1970.
    pub fn fetched(&self) -> u64 {
        self.fetched
    }

    /// The first second that it says it holds in, since 1970.
    pub fn issued(&self) -> u64 {
        self.issued
    }

    /// The last second that it says it holds in, since 1970.
    pub fn expires(&self) -> u64 {
        self.expires
    }

    /// Whether it holds at `at`.
    pub fn current(&self, at: u64) -> Result<(), ContentError> {
        if at < self.issued {
            return Err(ContentError::NotYet { issued: self.issued });
        }
        if at > self.expires {
            return Err(ContentError::Expired { expires: self.expires });
        }
        Ok(())
    }

    /// Its members in a snapshot.
    pub(super) fn object(&self) -> Object {
        let seconds = |time: u64| Value::int(time).unwrap_or(Value::Int(hallmark_receipt::json::MAX_INTEGER));
        let mut members = object([
            ("kind", self.need.kind().into()),
            ("name", self.need.name().into()),
            ("fetched", seconds(self.fetched)),
            ("expires", seconds(self.expires)),
            ("content", to_base64(&self.content).into()),
        ]);
        if !self.issuers.is_empty() {
            let chain = self.issuers.iter().map(|der| to_base64(der).into()).collect();
            members.insert("issuer_chain".to_owned(), Value::Array(chain));
        }
        members
    }

    /// Reads its members. `expires` must be what the content says.
    pub(super) fn read(mut fields: Fields) -> Result<Self, ItemError> {
        let (kind, name) = (fields.text("kind", MAX_KIND)?, fields.text("name", MAX_NAME)?);
        let mut issuers = Vec::new();
        if fields.has("issuer_chain") {
            for (path, item) in fields.array("issuer_chain", MAX_ISSUERS)? {
                // A list of texts has no members: each is read as the only one of an object.
                let mut issuer = Fields::new(Value::Object(object([("", item)])), &path)?;
                issuers.push(issuer.base64("", MAX_CERTIFICATE)?);
            }
            if issuers.is_empty() {
                let path = fields.path("issuer_chain");
                return Err(FormatError::Value { path, expected: "a list that is not empty" }.into());
            }
        }
        let (fetched, expires) = (fields.integer("fetched")?, fields.integer("expires")?);
        let content = fields.base64("content", MAX_FILE)?;
        fields.finish()?;
        let Some(need) = Need::from_name(&kind, &name, &issuers) else {
            return Err(ItemError::Name { kind, name });
        };
        let item = Self::new(need, content, issuers, fetched)?;
        if item.expires == expires {
            Ok(item)
        } else {
            Err(ItemError::Expires { expected: item.expires, got: expires })
        }
    }
}

/// Why the members of an object are no item.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ItemError {
    /// Its members.
    #[error("{0}")]
    Format(#[from] FormatError),
    /// A kind or name that nothing has.
    #[error("there is no `{kind}` named `{name}`")]
    Name {
        /// The kind.
        kind: String,
        /// The name.
        name: String,
    },
    /// Its content is not what its name says.
    #[error("the content is not what was asked for: {0}")]
    Content(#[from] ContentError),
    /// Another time than the content says.
    #[error("`expires` is {got}, the content says {expected}")]
    Expires {
        /// What the content says.
        expected: u64,
        /// What is there.
        got: u64,
    },
}

/// From when to when `content` holds, if it is about what `need` asks for.
fn period(need: &Need, content: &[u8]) -> Result<(u64, u64), ContentError> {
    match need {
        Need::PckCrl(authority) => list(content, authority.common_name()),
        Need::SgxRootCrl => list(content, "Intel SGX Root CA"),
        Need::AmdCrl { product, .. } => list(content, &format!("ARK-{product}")),
        Need::TcbInfo { kind, fmspc, .. } => {
            let info: TcbInfo = text(content, |collateral| &collateral.tcb_infos)?;
            same("`id`", id(*kind), &info.id)?;
            let hex = hallmark_receipt::wire::to_hex;
            same("FMSPC", &hex(fmspc), &hex(&info.fmspc.0))?;
            Ok((info.issue_date.0, info.next_update.0))
        }
        Need::QeIdentity { kind, .. } => {
            let identity: EnclaveIdentity = text(content, |collateral| &collateral.identities)?;
            same("`id`", if *kind == Kind::Tdx { "TD_QE" } else { "QE" }, &identity.id)?;
            Ok((identity.issue_date.0, identity.next_update.0))
        }
        Need::Vcek { product, chip_id, tcb } => {
            let [der] = exactly(content)?;
            let leaf = Certificate::parse(&der)?;
            if !snp::is_vcek(&leaf, *product, chip_id, *tcb) {
                let got = format!("{} {}", leaf.subject_text(), hallmark_receipt::wire::to_hex(leaf.serial));
                return Err(ContentError::Other { what: "the certificate", expected: need.to_string(), got });
            }
            Ok((leaf.not_before, leaf.not_after))
        }
        Need::AmdChain { product, key } => {
            let [intermediate, root] = exactly(content)?;
            let (intermediate, root) = (Certificate::parse(&intermediate)?, Certificate::parse(&root)?);
            let name = match key {
                SigningKey::Vlek => format!("SEV-VLEK-{product}"),
                _ => format!("SEV-{product}"),
            };
            same("the intermediate", &name, &intermediate.subject_text())?;
            same("the root", &format!("ARK-{product}"), &root.subject_text())?;
            let from = intermediate.not_before.max(root.not_before);
            Ok((from, intermediate.not_after.min(root.not_after)))
        }
        Need::Ocsp(id) => {
            let response = ocsp::Response::parse(content)?;
            response.validity(id)?.ok_or_else(|| ContentError::Other {
                what: "the certificate",
                expected: hallmark_receipt::wire::to_hex(&id.serial),
                got: "another".to_owned(),
            })
        }
        // Such lists come over plain HTTP, so that anybody on the way could leave one here that looks like it.
        Need::Crl { issuer, .. } => {
            let [der] = exactly(content)?;
            let (list, issuer) = (Crl::parse(&der)?, Certificate::parse(issuer)?);
            list.verify(&issuer, list.this_update)?;
            Ok((list.this_update, list.next_update))
        }
        Need::Rim(_) => Err(ContentError::NotRead),
    }
}

/// A list of the authority of this common name. Those of development roots have SIMULATED in front of it.
fn list(content: &[u8], authority: &str) -> Result<(u64, u64), ContentError> {
    let [der] = exactly(content)?;
    let list = Crl::parse(&der)?;
    let got = list.issuer_text();
    if !got.ends_with(authority) {
        return Err(ContentError::Other { what: "the issuer", expected: authority.to_owned(), got });
    }
    Ok((list.this_update, list.next_update))
}

/// The only text in one of Intel's answers.
fn text<T: serde::de::DeserializeOwned>(
    content: &[u8],
    of: impl Fn(&Collateral) -> &Vec<crate::dcap::Signed>,
) -> Result<T, ContentError> {
    let collateral = Collateral::read(&Input { collateral: &[content], ..Input::default() })?;
    match of(&collateral).as_slice() {
        [signed] => Ok(signed.read()?),
        texts => Err(ContentError::Count { what: "signed texts", expected: 1, got: texts.len() }),
    }
}

/// Exactly so many items of DER.
fn exactly<const N: usize>(content: &[u8]) -> Result<[Vec<u8>; N], ContentError> {
    encoding::der(content)?.try_into().map_err(|items: Vec<_>| ContentError::Count {
        what: "certificates or lists",
        expected: N,
        got: items.len(),
    })
}

fn same(what: &'static str, expected: &str, got: &str) -> Result<(), ContentError> {
    if expected == got {
        return Ok(());
    }
    let got = got.chars().take(128).collect();
    Err(ContentError::Other { what, expected: expected.to_owned(), got })
}

/// The `id` of TCB infos.
fn id(kind: Kind) -> &'static str {
    if kind == Kind::Tdx { "TDX" } else { "SGX" }
}
