//! The roots that evidence must end in, pinned by the SHA-256 of their certificates (`attestation.md` §3.2).
//!
//! To follow another root, add a row. A certificate that travels with evidence is never one.

use hallmark_receipt::Digest;
use sha2::{Digest as _, Sha256};

use crate::Kind;

/// A pinned root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// What it signs for: the maker, and the product where each has its own.
    pub name: &'static str,
    /// Whether it is a development root, whose key everybody has.
    pub simulated: bool,
}

/// One row: the kinds that end there, the name, the SHA-256 of the certificate.
type Row = (&'static [Kind], &'static str, &'static str);

const ROOTS: &[Row] = &[
    (
        &[Kind::Nitro],
        "AWS Nitro Enclaves root G1",
        "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b",
    ),
    (
        &[Kind::Tdx, Kind::Sgx],
        "Intel SGX root CA",
        "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3",
    ),
    (&[Kind::SevSnp], "AMD ARK Milan", "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd"),
    (&[Kind::SevSnp], "AMD ARK Genoa", "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1"),
    (&[Kind::SevSnp], "AMD ARK Turin", "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a"),
    (
        &[Kind::Nvidia],
        "NVIDIA device identity CA",
        "102bf659d5419614c9d8e6aecebc80454eb26b1df6a769ac720b9a690b167b48",
    ),
];

/// The roots of reference manifests (§7.13). Nothing but a manifest may end there, and no manifest anywhere else.
const REFERENCE_ROOTS: &[(&str, &str)] =
    &[("NVIDIA CoRIM signing root CA", "12977b5115acb0381179279fffeb5a8c4d264971ebb32298023a465fa41df5d1")];

/// The development roots of the default seed (`attestation.md` §11). They are here to be named when they are refused: no verifier takes
/// one that was not told to.
const DEVELOPMENT: &[&str] = &[
    "76a2bc4cb907a8c25b2cdd5fb8225e57a3573e5588d04313b26dce74b0f2f6d9",
    "d316f6b496a03e9c31729ee82adbb102bedd66275ab38b1f698062ba89a8d922",
    "ef61dea7561f86425357bbaf2d3c9070303b214908380c31b81674db99df9b08",
    "dac36af7be0c9220a9f5acc25cdb6b79f3980953df68a45903a0c2b3e98f17f3",
    "29680c3b901bdec5068228afdce0ca97927e2514da3366545a991fd73b6563e1",
    "567c0b44035db23d962ee22072bdc54ae028ec5f935692aad61c10f14d70fd43",
    "3c20da1a2b67d019d0d958e076d34831aa53e703976fa6851d78a686085216ec",
];

/// The development roots of the default seed, for [`crate::Dangers::accept_simulated`].
pub fn development() -> Vec<Digest> {
    DEVELOPMENT.iter().filter_map(|text| text.parse().ok()).collect()
}

/// Whether it is the SHA-256 of a development root of the default seed, whose keys everybody has.
pub fn is_development(digest: Digest) -> bool {
    let text = digest.to_string();
    DEVELOPMENT.contains(&text.as_str())
}

/// The root of `kind` that `certificate` is, if it is one: a production root, or one of `simulated`, which are digests too.
pub fn find(kind: Kind, certificate: &[u8], simulated: &[Digest]) -> Option<Anchor> {
    let roots = ROOTS.iter().filter(|(kinds, ..)| kinds.contains(&kind));
    among(roots.map(|(_, name, pinned)| (*name, *pinned)), certificate, simulated)
}

/// The root of NVIDIA's reference manifests that `certificate` is, if it is one.
pub fn find_reference(certificate: &[u8], simulated: &[Digest]) -> Option<Anchor> {
    among(REFERENCE_ROOTS.iter().copied(), certificate, simulated)
}

fn among(
    mut roots: impl Iterator<Item = (&'static str, &'static str)>,
    certificate: &[u8],
    simulated: &[Digest],
) -> Option<Anchor> {
    let digest = Digest(Sha256::digest(certificate).into());
    if simulated.contains(&digest) {
        return Some(Anchor { name: "SIMULATED development root", simulated: true });
    }
    let text = digest.to_string();
    let (name, _) = roots.find(|(_, pinned)| *pinned == text)?;
    Some(Anchor { name, simulated: false })
}
