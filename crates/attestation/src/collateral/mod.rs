//! What has to be at hand before evidence can be judged, and the file that keeps it (`attestation.md` §12).
//!
//! Verifying fetches nothing. [`needs`] says what a piece of evidence needs, whoever has a network brings it, an [`Item`] is what was
//! brought for one [`Need`], and a [`Snapshot`] of items is what a verifier is given, now or in ten years.
//!
//! Nothing here is verified but its form, and that it is about what was asked for: signatures are the verifier's.

mod item;
mod needs;
mod snapshot;
#[cfg(test)]
mod tests;

use std::fmt;

use hallmark_receipt::wire::{from_hex, to_hex};

pub use item::{ContentError, Item, ItemError};
pub use needs::{MAX_NEEDS, NeedError, needs};
pub(crate) use snapshot::unfolded;
pub use snapshot::{FORMAT, MAX_SNAPSHOT, Selection, Snapshot, SnapshotError};

use crate::Kind;
use crate::snp::{Product, SigningKey, Tcb};
use crate::x509::CertificateId;

/// One thing that a maker publishes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Need {
    /// Intel: the list of an authority of platforms.
    PckCrl(PckAuthority),
    /// Intel: the root's list.
    SgxRootCrl,
    /// Intel: what platforms of one kind are worth.
    TcbInfo {
        /// TDX or SGX.
        kind: Kind,
        /// The kind of platform.
        fmspc: [u8; 6],
        /// Which edition.
        update: Update,
    },
    /// Intel: the quoting enclave.
    QeIdentity {
        /// TDX or SGX.
        kind: Kind,
        /// Which edition.
        update: Update,
    },
    /// AMD: the certificate of a chip's key for these security versions.
    Vcek {
        /// The product.
        product: Product,
        /// The chip; of Turin 8 bytes and zeros.
        chip_id: [u8; 64],
        /// The security versions.
        tcb: Tcb,
    },
    /// AMD: the authorities of this kind of key, intermediate and root.
    AmdChain {
        /// The product.
        product: Product,
        /// Whose authorities.
        key: SigningKey,
    },
    /// AMD: the root's list.
    AmdCrl {
        /// The product.
        product: Product,
        /// Of which kind of key's authorities.
        key: SigningKey,
    },
    /// NVIDIA: the answer about a certificate (OCSP).
    Ocsp(CertificateId),
    /// The list of an authority at the place that a certificate names (AWS). The certificate's maker chose the URL: it is not to be
    /// fetched unless its host is known.
    Crl {
        /// Where.
        url: String,
        /// The authority's certificate, DER.
        issuer: Vec<u8>,
    },
    /// NVIDIA: a reference manifest. They are given by hand; nobody fetches them yet.
    Rim(String),
}

/// Intel's authorities of platforms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PckAuthority {
    /// Of platforms with one processor.
    Processor,
    /// Of the others.
    Platform,
}

impl PckAuthority {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Processor, Self::Platform];

    /// Its name, as Intel's service writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Processor => "processor",
            Self::Platform => "platform",
        }
    }

    /// The common name of its certificate.
    fn common_name(self) -> &'static str {
        match self {
            Self::Processor => "Intel SGX PCK Processor CA",
            Self::Platform => "Intel SGX PCK Platform CA",
        }
    }
}

/// Intel's editions of TCB info and identities: what follows a recovery of security at once, and what leaves owners time to update.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Update {
    /// Some months after.
    #[default]
    Standard,
    /// At once.
    Early,
}

impl Update {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Standard, Self::Early];

    /// Its name, as Intel's service writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Early => "early",
        }
    }
}

/// What the evidence leaves open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The edition of what Intel publishes.
    pub update: Update,
    /// The product of SEV-SNP reports that do not name it: those of version 2 that came without their key's certificate.
    pub product: Option<Product>,
}

impl Need {
    /// What kind of thing it is, as snapshots write it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::PckCrl(_) => "pck-crl",
            Self::SgxRootCrl => "sgx-root-crl",
            Self::TcbInfo { .. } => "tcb-info",
            Self::QeIdentity { .. } => "qe-identity",
            Self::Vcek { .. } => "vcek",
            Self::AmdChain { .. } => "amd-chain",
            Self::AmdCrl { .. } => "amd-crl",
            Self::Ocsp(_) => "ocsp",
            Self::Crl { .. } => "crl",
            Self::Rim(_) => "rim",
        }
    }

    /// Which one of its kind it is, as snapshots write it.
    pub fn name(&self) -> String {
        match self {
            Self::PckCrl(authority) => authority.name().to_owned(),
            Self::SgxRootCrl => "root".to_owned(),
            Self::TcbInfo { kind, fmspc, update } => {
                format!("{}/{}/{}", kind.name(), to_hex(fmspc), update.name())
            }
            Self::QeIdentity { kind, update } => format!("{}/{}", kind.name(), update.name()),
            Self::Vcek { product, chip_id, tcb } => {
                format!("{product}/{}/{}", to_hex(product.hardware_id(chip_id)), to_hex(&tcb.0))
            }
            Self::AmdChain { product, key } | Self::AmdCrl { product, key } => {
                format!("{}/{product}", key.name())
            }
            Self::Ocsp(id) => {
                let [name, key] = [&id.issuer_name_hash, &id.issuer_key_hash].map(|hash| to_hex(hash));
                format!("{name}/{key}/{}", to_hex(&id.serial))
            }
            Self::Crl { url, .. } => url.clone(),
            Self::Rim(id) => id.clone(),
        }
    }

    /// The need of this kind and name; `issuers` are the certificates that came with its content. None where there is no such need, or
    /// the name is not written as [`Need::name`] does.
    pub fn from_name(kind: &str, name: &str, issuers: &[Vec<u8>]) -> Option<Self> {
        let parts: Vec<&str> = name.split('/').collect();
        let intel = |name: &str| [Kind::Tdx, Kind::Sgx].into_iter().find(|kind| kind.name() == name);
        let update = |name: &str| Update::ALL.into_iter().find(|update| update.name() == name);
        let key =
            |name: &str| [SigningKey::Vcek, SigningKey::Vlek].into_iter().find(|key| key.name() == name);
        let need = match (kind, parts.as_slice()) {
            ("pck-crl", [name]) => {
                Self::PckCrl(PckAuthority::ALL.into_iter().find(|authority| authority.name() == *name)?)
            }
            ("sgx-root-crl", ["root"]) => Self::SgxRootCrl,
            ("tcb-info", [kind, fmspc, edition]) => Self::TcbInfo {
                kind: intel(kind)?,
                fmspc: from_hex(fmspc)?.try_into().ok()?,
                update: update(edition)?,
            },
            ("qe-identity", [kind, edition]) => {
                Self::QeIdentity { kind: intel(kind)?, update: update(edition)? }
            }
            ("vcek", [product, chip_id, tcb]) => {
                let mut padded = from_hex(chip_id)?;
                padded.resize(64, 0);
                Self::Vcek {
                    product: Product::from_name(product)?,
                    chip_id: padded.try_into().ok()?,
                    tcb: Tcb(from_hex(tcb)?.try_into().ok()?),
                }
            }
            ("amd-chain", [kind, product]) => {
                Self::AmdChain { product: Product::from_name(product)?, key: key(kind)? }
            }
            ("amd-crl", [kind, product]) => {
                Self::AmdCrl { product: Product::from_name(product)?, key: key(kind)? }
            }
            ("ocsp", [issuer_name, issuer_key, serial]) => Self::Ocsp(CertificateId {
                issuer_name_hash: from_hex(issuer_name)?.try_into().ok()?,
                issuer_key_hash: from_hex(issuer_key)?.try_into().ok()?,
                serial: from_hex(serial)?,
            }),
            ("crl", _) => Self::Crl { url: name.to_owned(), issuer: issuers.first()?.clone() },
            ("rim", [id]) => Self::Rim((*id).to_owned()),
            _ => return None,
        };
        (need.name() == name).then_some(need)
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.name())
    }
}
