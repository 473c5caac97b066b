//! Where each thing is to be had, and how an answer becomes an item.

use bytes::Bytes;
use hallmark_attestation::collateral::{Item, Need};
use hallmark_attestation::snp::{Product, SigningKey, Tcb};
use hallmark_attestation::x509::{crl, ocsp};
use hallmark_attestation::{Kind, encoding};
use hallmark_receipt::wire::to_hex;
use http::Uri;
use http::uri::Scheme;

use super::client::{Answer, Call, FetchCause};

/// The makers' services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Intel's.
    pub intel: Intel,
    /// AMD's.
    pub amd: Amd,
    /// NVIDIA's.
    pub nvidia: Nvidia,
    /// Revocation lists at the places that certificates name (AWS).
    pub lists: Lists,
}

/// Intel's provisioning certification service (PCS), or a cache of it (PCCS).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intel {
    /// Before `/sgx/certification/v4` and `/tdx/certification/v4`.
    pub base: String,
    /// The root's list.
    pub root_crl: String,
}

impl Default for Intel {
    fn default() -> Self {
        Self {
            base: "https://api.trustedservices.intel.com".to_owned(),
            root_crl: "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der".to_owned(),
        }
    }
}

impl Intel {
    /// A PCCS, which has the root's list too. Over `https:` its certificate must be one that the system trusts.
    pub fn pccs(base: impl Into<String>) -> Self {
        let base = base.into();
        Self { root_crl: format!("{}/sgx/certification/v4/rootcacrl", bare(&base)), base }
    }
}

/// AMD's key distribution service (KDS).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Amd {
    /// Before `/vcek/v1` and `/vlek/v1`.
    pub base: String,
}

impl Default for Amd {
    fn default() -> Self {
        Self { base: "https://kdsintf.amd.com".to_owned() }
    }
}

/// NVIDIA's device identity services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nvidia {
    /// The OCSP responder.
    pub ocsp: String,
}

impl Default for Nvidia {
    fn default() -> Self {
        Self { ocsp: "https://ocsp.ndis.nvidia.com".to_owned() }
    }
}

/// Lists at URLs that certificates name. Whoever made the evidence chose the URLs: only hosts that are named here are asked, on their
/// usual ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lists {
    /// The hosts. `{region}` stands for one of AWS's regions, the same wherever it stands.
    pub hosts: Vec<String>,
    /// Asked in place of the hosts, by this URL followed by `/`, host and path: for those who may not reach the hosts themselves.
    pub mirror: Option<String>,
}

impl Default for Lists {
    fn default() -> Self {
        let hosts = [
            "aws-nitro-enclaves-crl.s3.amazonaws.com",
            "crl-{region}-aws-nitro-enclaves.s3.{region}.amazonaws.com",
        ];
        Self { hosts: hosts.map(str::to_owned).to_vec(), mirror: None }
    }
}

/// The most bytes of a text of Intel's, and of some certificates.
const MAX_TEXT: usize = 1 << 20;
const MAX_CERTIFICATES: usize = 64 << 10;
/// The longest region: `ap-southeast-1` and its like.
const MAX_REGION: usize = 24;

impl Sources {
    /// The request for `need`; if there is none, why, and the URL as it is known.
    pub(super) fn call(&self, need: &Need) -> Result<Call, (FetchCause, String)> {
        let intel = |of: &str, path: &str, query: &str| {
            format!("{}/{of}/certification/v4/{path}?{query}", bare(&self.intel.base))
        };
        let family = |kind: Kind| if kind == Kind::Tdx { "tdx" } else { "sgx" };
        let amd = |key: SigningKey, product: Product, path: &str| {
            let key = if key == SigningKey::Vlek { "vlek" } else { "vcek" };
            format!("{}/{key}/v1/{product}/{path}", bare(&self.amd.base))
        };
        let get = |url: String, most| Ok((url, None, most));
        let (url, body, most) = match need {
            Need::PckCrl(authority) => {
                let query = format!("ca={}&encoding=der", authority.name());
                get(intel("sgx", "pckcrl", &query), crl::MAX_CRL)
            }
            Need::SgxRootCrl => get(self.intel.root_crl.clone(), crl::MAX_CRL),
            Need::TcbInfo { kind, fmspc, update } => {
                let fmspc = to_hex(fmspc).to_ascii_uppercase();
                let query = format!("fmspc={fmspc}&update={}", update.name());
                get(intel(family(*kind), "tcb", &query), MAX_TEXT)
            }
            Need::QeIdentity { kind, update } => {
                let query = format!("update={}", update.name());
                get(intel(family(*kind), "qe/identity", &query), MAX_TEXT)
            }
            Need::Vcek { product, chip_id, tcb } => {
                let id = to_hex(product.hardware_id(chip_id));
                let path = format!("{id}?{}", security_versions(*product, *tcb));
                get(amd(SigningKey::Vcek, *product, &path), MAX_CERTIFICATES)
            }
            Need::AmdChain { product, key } => get(amd(*key, *product, "cert_chain"), MAX_CERTIFICATES),
            Need::AmdCrl { product, key } => get(amd(*key, *product, "crl"), crl::MAX_CRL),
            Need::Ocsp(id) => {
                let body = (Bytes::from(id.request()), "application/ocsp-request");
                Ok((self.nvidia.ocsp.clone(), Some(body), ocsp::MAX_RESPONSE))
            }
            Need::Crl { url, .. } => self
                .lists
                .place(url)
                .map(|url| (url, None, crl::MAX_CRL))
                .map_err(|cause| (cause, url.clone())),
            // Nothing brings reference manifests yet, and what may come is not known here.
            _ => Err((FetchCause::Url, String::new())),
        }?;
        match web(&url) {
            Some(uri) => Ok(Call { url: uri, body, most }),
            None => Err((FetchCause::Url, url)),
        }
    }
}

impl Lists {
    /// Where the list at `url` is asked for.
    fn place(&self, url: &str) -> Result<String, FetchCause> {
        let uri = web(url).ok_or(FetchCause::Url)?;
        let host = uri.host().unwrap_or_default();
        // A name of a user or a port is no part of what AWS issues.
        if uri.authority().is_none_or(|authority| authority.as_str() != host)
            || !self.hosts.iter().any(|pattern| fits(pattern, host))
        {
            return Err(FetchCause::HostNotAllowed);
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(match &self.mirror {
            Some(mirror) => format!("{}/{host}{path}", bare(mirror)),
            None => url.to_owned(),
        })
    }
}

/// A base URL, to be followed by a slash.
fn bare(base: &str) -> &str {
    base.trim_end_matches('/')
}

/// Whether `host` is the pattern for some region.
fn fits(pattern: &str, host: &str) -> bool {
    const REGION: &str = "{region}";
    let Some((before, after)) = pattern.split_once(REGION) else { return pattern == host };
    let Some(rest) = host.strip_prefix(before) else { return false };
    let ends = (1..=rest.len().min(MAX_REGION)).filter_map(|end| rest.get(..end));
    ends.take_while(|region| is_region(region))
        .any(|region| rest.strip_prefix(region).is_some_and(|rest| rest == after.replace(REGION, region)))
}

fn is_region(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// A URL with a host, of HTTP or HTTPS.
fn web(url: &str) -> Option<Uri> {
    let uri: Uri = url.parse().ok()?;
    let is_web = uri.scheme() == Some(&Scheme::HTTP) || uri.scheme() == Some(&Scheme::HTTPS);
    (is_web && uri.host().is_some_and(|host| !host.is_empty())).then_some(uri)
}

/// The security versions that a VCEK is asked for by (AMD 57230 §4.1).
fn security_versions(product: Product, tcb: Tcb) -> String {
    const NAMES: [(&str, &str); 5] = [
        ("fmc", "fmcSPL"),
        ("bootloader", "blSPL"),
        ("tee", "teeSPL"),
        ("snp", "snpSPL"),
        ("microcode", "ucodeSPL"),
    ];
    let parts: Vec<_> = tcb.parts(product).collect();
    let given = NAMES.iter().filter_map(|(part, parameter)| {
        let part = parts.iter().find(|found| found.name() == Some(part))?;
        Some(format!("{parameter}={:02}", part.version))
    });
    given.collect::<Vec<_>>().join("&")
}

/// What came for `need`, with the certificates of its signer where Intel's service sends them along.
pub(super) fn item(need: &Need, answer: Answer, at: u64) -> Result<Item, FetchCause> {
    let names: &[&'static str] = match need {
        Need::PckCrl(_) => &["sgx-pck-crl-issuer-chain"],
        Need::TcbInfo { .. } => &["tcb-info-issuer-chain", "sgx-tcb-info-issuer-chain"],
        Need::QeIdentity { .. } => &["sgx-enclave-identity-issuer-chain"],
        _ => &[],
    };
    let header = names.iter().find_map(|name| Some((*name, answer.headers.get(*name)?)));
    let mut issuers = match header {
        None => Vec::new(),
        Some((name, value)) => certificates(value.as_bytes()).ok_or(FetchCause::Header { name })?,
    };
    if let Need::Crl { issuer, .. } = need {
        issuers.push(issuer.clone());
    }
    let item = Item::new(need.clone(), answer.body.to_vec(), issuers, at)?;
    item.current(at)?;
    Ok(item)
}

/// The certificates of a header: PEM, percent-encoded.
fn certificates(header: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut text = Vec::new();
    let mut rest = header;
    while let Some((first, others)) = rest.split_first() {
        rest = others;
        if *first != b'%' {
            text.push(*first);
            continue;
        }
        let (digits, others) = rest.split_at_checked(2)?;
        text.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = others;
    }
    let certificates = encoding::pem(std::str::from_utf8(&text).ok()?).ok()?;
    (!certificates.is_empty()).then_some(certificates)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hallmark_attestation::collateral::{PckAuthority, Update};

    use super::*;

    fn url(need: Need) -> String {
        Sources::default().call(&need).unwrap().url.to_string()
    }

    #[test]
    fn things_are_asked_for_as_the_makers_document_it() {
        let fmspc = [0, 0x80, 0x6f, 5, 0, 0];
        let tcb = Tcb([4, 0, 0, 0, 0, 0, 24, 217]);
        let chip_id = [0xab; 64];
        for (need, expected) in [
            (
                Need::PckCrl(PckAuthority::Platform),
                "https://api.trustedservices.intel.com/sgx/certification/v4/pckcrl?ca=platform&encoding=der",
            ),
            (
                Need::TcbInfo { kind: Kind::Tdx, fmspc, update: Update::Early },
                "https://api.trustedservices.intel.com/tdx/certification/v4/tcb?fmspc=00806F050000&update=early",
            ),
            (
                Need::QeIdentity { kind: Kind::Sgx, update: Update::Standard },
                "https://api.trustedservices.intel.com/sgx/certification/v4/qe/identity?update=standard",
            ),
            (Need::SgxRootCrl, "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"),
            (
                Need::Vcek { product: Product::Milan, chip_id, tcb },
                &format!(
                    "https://kdsintf.amd.com/vcek/v1/Milan/{}?blSPL=04&teeSPL=00&snpSPL=24&ucodeSPL=217",
                    "ab".repeat(64)
                ),
            ),
            (
                Need::Vcek { product: Product::Turin, chip_id, tcb: Tcb([1, 2, 3, 4, 0, 0, 0, 71]) },
                "https://kdsintf.amd.com/vcek/v1/Turin/abababababababab?fmcSPL=01&blSPL=02&teeSPL=03&snpSPL=04&ucodeSPL=71",
            ),
            (
                Need::AmdCrl { product: Product::Genoa, key: SigningKey::Vlek },
                "https://kdsintf.amd.com/vlek/v1/Genoa/crl",
            ),
        ] {
            assert_eq!(url(need), expected);
        }
        let pccs = Sources { intel: Intel::pccs("https://pccs.example:8081"), ..Sources::default() };
        let root = pccs.call(&Need::SgxRootCrl).unwrap().url.to_string();
        assert_eq!(root, "https://pccs.example:8081/sgx/certification/v4/rootcacrl");
    }

    #[test]
    fn certificates_send_nobody_to_hosts_of_their_own() {
        let lists = Lists::default();
        for good in [
            "http://aws-nitro-enclaves-crl.s3.amazonaws.com/crl/ab4960cc.crl",
            "http://crl-us-east-1-aws-nitro-enclaves.s3.us-east-1.amazonaws.com/crl/a.crl",
            "https://crl-ap-southeast-3-aws-nitro-enclaves.s3.ap-southeast-3.amazonaws.com/crl/a.crl",
        ] {
            assert_eq!(lists.place(good).unwrap(), good);
        }
        for bad in [
            "http://169.254.169.254/latest/meta-data/",
            "http://localhost/crl/a.crl",
            "http://crl-us-east-1-aws-nitro-enclaves.s3.us-east-2.amazonaws.com/crl/a.crl",
            "http://crl-us.east-1-aws-nitro-enclaves.s3.us.east-1.amazonaws.com/crl/a.crl",
            "http://crl--aws-nitro-enclaves.s3..amazonaws.com/crl/a.crl",
            "http://aws-nitro-enclaves-crl.s3.amazonaws.com.example/crl/a.crl",
            "http://aws-nitro-enclaves-crl.s3.amazonaws.com:8080/crl/a.crl",
            "http://aws-nitro-enclaves-crl.s3.amazonaws.com@example.com/a.crl",
            "http://example.com@aws-nitro-enclaves-crl.s3.amazonaws.com/a.crl",
            "http://example.com/aws-nitro-enclaves-crl.s3.amazonaws.com",
        ] {
            assert_eq!(lists.place(bad), Err(FetchCause::HostNotAllowed), "{bad}");
        }
        for bad in
            ["ldap://aws-nitro-enclaves-crl.s3.amazonaws.com/a", "file:///etc/passwd", "/crl/a.crl", ""]
        {
            assert_eq!(lists.place(bad), Err(FetchCause::Url), "{bad}");
        }
        let mirrored = Lists { mirror: Some("http://mirror.example/crl".to_owned()), ..lists };
        assert_eq!(
            mirrored.place("http://aws-nitro-enclaves-crl.s3.amazonaws.com/crl/a.crl").unwrap(),
            "http://mirror.example/crl/aws-nitro-enclaves-crl.s3.amazonaws.com/crl/a.crl"
        );
    }

    #[test]
    fn headers_that_hold_no_certificates_are_refused() {
        let good = "-----BEGIN%20CERTIFICATE-----%0AAQID%0A-----END%20CERTIFICATE-----%0A";
        assert_eq!(certificates(good.as_bytes()).unwrap(), [[1, 2, 3]]);
        for bad in ["", "%", "%4", "%zz", "%ff", "AQID", &good.replace("%20", "+")] {
            assert!(certificates(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
