//! Collateral: what Intel publishes about platforms and quoting enclaves, each file known by its content.
//!
//! Either one JSON file with everything, as `dcap-qvl` and Intel's quote verification library hold it, or the answers of Intel's
//! provisioning certification service as they came: TCB info and QE identity with their signatures, certificates, revocation lists.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::encoding::{self, EncodingError, MAX_FILE};
use crate::x509::{Certificate, Crl};
use crate::{Input, dcap::pck};

/// The most certificates and lists beside a quote.
const MAX_ITEMS: usize = 64;

/// What was given, decoded and unchecked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collateral {
    /// TCB infos.
    pub tcb_infos: Vec<Signed>,
    /// Identities of enclaves.
    pub identities: Vec<Signed>,
    /// Revocation lists, DER.
    pub lists: Vec<Vec<u8>>,
    /// The chain above the platform's certificate that came with its revocation list, DER, in order.
    pub list_issuers: Option<Vec<Vec<u8>>>,
    /// The platform's chain, DER, in order.
    pub platform: Option<Vec<Vec<u8>>>,
    /// Certificates that came one by one, DER.
    pub certificates: Vec<Vec<u8>>,
}

/// A text that Intel signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The text, as it came.
    pub text: String,
    /// `r || s`.
    pub signature: Vec<u8>,
    /// The chain of the signing key, DER, in order; none where certificates came one by one.
    pub chain: Option<Vec<Vec<u8>>>,
}

/// Why a file of collateral is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CollateralError {
    /// Its encoding.
    #[error("{0}")]
    Encoding(#[from] EncodingError),
    /// JSON of another form.
    #[error("not of its form: {message}")]
    Json {
        /// What the reader says.
        message: String,
    },
    /// JSON that is none of those known.
    #[error("JSON that is neither TCB info nor an enclave's identity nor a file with everything")]
    UnknownJson,
    /// A member that is not hexadecimal.
    #[error("`{0}` is not hexadecimal digits")]
    Hex(&'static str),
    /// Too many certificates and lists.
    #[error("more than {MAX_ITEMS} certificates and lists")]
    TooMany,
}

impl CollateralError {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Encoding(_) => "encoding",
            Self::Json { .. } => "collateral-json",
            Self::UnknownJson => "collateral-unknown",
            Self::Hex(_) => "collateral-hex",
            Self::TooMany => "collateral-too-many",
        }
    }
}

impl From<serde_json::Error> for CollateralError {
    fn from(error: serde_json::Error) -> Self {
        Self::Json { message: error.to_string() }
    }
}

/// Everything in one file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bundle {
    pck_crl_issuer_chain: String,
    root_ca_crl: String,
    pck_crl: String,
    tcb_info_issuer_chain: String,
    tcb_info: String,
    tcb_info_signature: String,
    qe_identity_issuer_chain: String,
    qe_identity: String,
    qe_identity_signature: String,
    #[serde(default)]
    pck_certificate_chain: Option<String>,
}

/// The service's answer about a platform.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct TcbAnswer<'a> {
    #[serde(borrow)]
    tcb_info: &'a RawValue,
    signature: String,
}

/// The service's answer about an enclave.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct IdentityAnswer<'a> {
    #[serde(borrow)]
    enclave_identity: &'a RawValue,
    signature: String,
}

impl Collateral {
    /// Reads collateral and certificates.
    pub fn read(input: &Input<'_>) -> Result<Self, CollateralError> {
        let mut collateral = Self::default();
        for file in input.collateral.iter().chain(input.certificates) {
            collateral.add(file)?;
        }
        Ok(collateral)
    }

    fn add(&mut self, file: &[u8]) -> Result<(), CollateralError> {
        if file.len() > MAX_FILE {
            return Err(EncodingError::TooLong { got: file.len() }.into());
        }
        match std::str::from_utf8(file) {
            Ok(text) if text.trim_start().starts_with('{') => self.add_json(text),
            _ => self.add_items(encoding::der(file)?),
        }
    }

    fn add_json(&mut self, text: &str) -> Result<(), CollateralError> {
        // As a rule everything comes in one file, which is then read once.
        let error = match serde_json::from_str(text) {
            Ok(bundle) => return self.add_bundle(bundle),
            Err(error) => error,
        };
        let members: BTreeMap<String, &RawValue> = serde_json::from_str(text)?;
        let has = |name: &str| members.contains_key(name);
        if has("tcbInfo") {
            let answer: TcbAnswer<'_> = serde_json::from_str(text)?;
            self.tcb_infos.push(answered(answer.tcb_info, &answer.signature)?);
        } else if has("enclaveIdentity") {
            let answer: IdentityAnswer<'_> = serde_json::from_str(text)?;
            self.identities.push(answered(answer.enclave_identity, &answer.signature)?);
        } else if has("tcb_info") {
            return Err(error.into());
        } else {
            return Err(CollateralError::UnknownJson);
        }
        Ok(())
    }

    fn add_bundle(&mut self, bundle: Bundle) -> Result<(), CollateralError> {
        let info_chain = pem(&bundle.tcb_info_issuer_chain)?;
        // As a rule both are signed by one key.
        let identity_chain = if bundle.qe_identity_issuer_chain == bundle.tcb_info_issuer_chain {
            info_chain.clone()
        } else {
            pem(&bundle.qe_identity_issuer_chain)?
        };
        self.tcb_infos.push(Signed {
            text: bundle.tcb_info,
            signature: hex("tcb_info_signature", &bundle.tcb_info_signature)?,
            chain: Some(info_chain),
        });
        self.identities.push(Signed {
            text: bundle.qe_identity,
            signature: hex("qe_identity_signature", &bundle.qe_identity_signature)?,
            chain: Some(identity_chain),
        });
        self.lists.push(hex("root_ca_crl", &bundle.root_ca_crl)?);
        self.lists.push(hex("pck_crl", &bundle.pck_crl)?);
        self.list_issuers = Some(pem(&bundle.pck_crl_issuer_chain)?);
        if let Some(chain) = bundle.pck_certificate_chain {
            self.platform = Some(pem(&chain)?);
        }
        self.bounded()
    }

    fn add_items(&mut self, items: Vec<Vec<u8>>) -> Result<(), CollateralError> {
        for item in items {
            let is_list = Crl::parse(&item).is_ok() || Certificate::parse(&item).is_err();
            let items = if is_list { &mut self.lists } else { &mut self.certificates };
            if !items.contains(&item) {
                items.push(item);
            }
            self.bounded()?;
        }
        Ok(())
    }

    fn bounded(&self) -> Result<(), CollateralError> {
        let got =
            self.certificates.len().saturating_add(self.lists.len()).saturating_add(self.tcb_infos.len());
        if got > MAX_ITEMS { Err(CollateralError::TooMany) } else { Ok(()) }
    }

    /// The platform's chain: the given one, or the one that leads from the only platform's certificate among those that came one by
    /// one.
    pub fn platform(&self) -> Option<Vec<&[u8]>> {
        match &self.platform {
            Some(chain) => Some(chain.iter().map(Vec::as_slice).collect()),
            None => self.lead(pck::is_platform),
        }
    }

    /// The chain of a signed text's key: its own, or the one that leads from the signing certificate among those that came one by one.
    pub fn signer<'a>(&'a self, signed: &'a Signed) -> Option<Vec<&'a [u8]>> {
        match &signed.chain {
            Some(chain) => Some(chain.iter().map(Vec::as_slice).collect()),
            None => self.lead(|certificate| certificate.subject_text() == SIGNER),
        }
    }

    /// From the first certificate that `is_leaf` up, as far as issuers are there.
    fn lead(&self, is_leaf: impl Fn(&Certificate<'_>) -> bool) -> Option<Vec<&[u8]>> {
        let pool: Vec<Certificate<'_>> =
            self.certificates.iter().filter_map(|der| Certificate::parse(der).ok()).collect();
        let mut at = pool.iter().find(|certificate| is_leaf(certificate))?;
        let mut chain = vec![at.der];
        // Leaf, authority, root.
        while at.issuer != at.subject && chain.len() < 3 {
            let issuer =
                pool.iter().find(|issuer| issuer.subject == at.issuer && at.verify_signature(issuer).is_ok());
            let Some(issuer) = issuer else { break };
            chain.push(issuer.der);
            at = issuer;
        }
        Some(chain)
    }
}

/// The name of the key that signs TCB infos and identities.
const SIGNER: &str = "Intel SGX TCB Signing";

fn answered(text: &RawValue, signature: &str) -> Result<Signed, CollateralError> {
    Ok(Signed { text: text.get().to_owned(), signature: hex("signature", signature)?, chain: None })
}

/// A PEM, which may end in zeros, as text of C does.
pub(super) fn pem(text: &str) -> Result<Vec<Vec<u8>>, EncodingError> {
    encoding::pem(text.trim_end_matches('\0'))
}

/// Hexadecimal digits of one case.
pub(super) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let upper = !text.bytes().any(|digit| digit.is_ascii_lowercase());
    let text = if upper { &text.to_ascii_lowercase() } else { text };
    hallmark_receipt::wire::from_hex(text)
}

fn hex(name: &'static str, text: &str) -> Result<Vec<u8>, CollateralError> {
    from_hex(text).ok_or(CollateralError::Hex(name))
}
