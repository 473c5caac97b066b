//! What can be wrong with evidence, one flaw at a time: whoever verifies must refuse each with a reason of its own.

use super::Form;

const ALL: &[Form] = &Form::ALL;
const NITRO: &[Form] = &[Form::Nitro];
const DCAP: &[Form] = &[Form::TdxV4, Form::TdxV5, Form::Sgx];
const TDX: &[Form] = &[Form::TdxV4, Form::TdxV5];
const TDX_V5: &[Form] = &[Form::TdxV5];
const SNP: &[Form] = &[Form::SnpV2, Form::SnpV3, Form::SnpV5, Form::SnpVlek];
/// With a key of the chip's own.
const VCEK: &[Form] = &[Form::SnpV2, Form::SnpV3, Form::SnpV5];
const VLEK: &[Form] = &[Form::SnpVlek];
const NVIDIA: &[Form] = &[Form::Nvidia];
/// Reports of a version of their own.
const REPORTS: &[Form] = &[
    Form::TdxV4,
    Form::TdxV5,
    Form::Sgx,
    Form::SnpV2,
    Form::SnpV3,
    Form::SnpV5,
    Form::SnpVlek,
    Form::Nvidia,
];
/// Certificates in an order that counts, and at least four of them.
const LONG: &[Form] = &[Form::Nitro, Form::Nvidia];
/// Whose leaf can be on a list.
const NITRO_DCAP: &[Form] = &[Form::Nitro, Form::TdxV4, Form::TdxV5, Form::Sgx];
const DCAP_SNP: &[Form] =
    &[Form::TdxV4, Form::TdxV5, Form::Sgx, Form::SnpV2, Form::SnpV3, Form::SnpV5, Form::SnpVlek];
const NITRO_DCAP_SNP: &[Form] =
    &[Form::Nitro, Form::TdxV4, Form::TdxV5, Form::Sgx, Form::SnpV2, Form::SnpV3, Form::SnpV5, Form::SnpVlek];
const NITRO_DCAP_NVIDIA: &[Form] = &[Form::Nitro, Form::TdxV4, Form::TdxV5, Form::Sgx, Form::Nvidia];

macro_rules! flaws {
    ($($(#[$doc:meta])* $flaw:ident = $name:literal, $forms:ident;)*) => {
        /// What is wrong. In `Issuer..` the issuer is the leaf's.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Flaw { $($(#[$doc])* $flaw),* }

        impl Flaw {
            /// Every flaw, in order.
            pub const ALL: &'static [Self] = &[$(Self::$flaw),*];

            /// Its name, on the command line.
            pub fn name(self) -> &'static str {
                match self { $(Self::$flaw => $name),* }
            }

            /// The forms of evidence that can have it.
            pub fn forms(self) -> &'static [Form] {
                match self { $(Self::$flaw => $forms),* }
            }
        }
    };
}

flaws! {
    /// All is another seed's, the root too.
    OtherRoot = "other-root", ALL;
    /// Nothing in the signed part says SIMULATED.
    MarkMissing = "mark-missing", ALL;
    /// The leaf expired a second before.
    LeafExpired = "leaf-expired", ALL;
    /// The issuer expired a second before.
    IssuerExpired = "issuer-expired", ALL;
    /// The leaf is in force a second later.
    LeafNotYet = "leaf-not-yet", ALL;
    /// The issuer is in force a second later.
    IssuerNotYet = "issuer-not-yet", ALL;
    /// The leaf says that it is an authority.
    LeafIsAuthority = "leaf-is-authority", ALL;
    /// The issuer does not say that it is an authority.
    IssuerNoAuthority = "issuer-no-authority", ALL;
    /// The leaf may not sign.
    LeafKeyUsage = "leaf-key-usage", ALL;
    /// The issuer may not sign certificates.
    IssuerKeyUsage = "issuer-key-usage", ALL;
    /// The issuer's issuer allows no authority below it.
    PathLength = "path-length", LONG;
    /// The leaf names another issuer.
    IssuerName = "issuer-name", ALL;
    /// A bit of the leaf's signature is changed.
    CertificateSignature = "certificate-signature", ALL;
    /// A byte follows the leaf.
    CertificateTrailing = "certificate-trailing", ALL;
    /// The algorithm beside the leaf's signature is not the signed one.
    AlgorithmDiffers = "algorithm-differs", ALL;
    /// The leaf is signed with a scheme that the hierarchy does not use.
    OtherScheme = "other-scheme", ALL;
    /// The leaf has an extension twice.
    DuplicateExtension = "duplicate-extension", ALL;
    /// The leaf has a critical extension that nobody knows.
    UnknownCritical = "unknown-critical", ALL;
    /// The issuer's `basicConstraints` cannot be read.
    UnreadableExtension = "unreadable-extension", ALL;
    /// The leaf certifies another key.
    SwappedLeaf = "swapped-leaf", ALL;
    /// The two certificates above the leaf stand in the wrong order.
    ChainOrder = "chain-order", NITRO_DCAP_NVIDIA;
    /// The issuer's certificate is left out.
    IssuerMissing = "issuer-missing", ALL;
    /// Seventeen certificates.
    ChainTooLong = "chain-too-long", ALL;
    /// A certificate is revoked.
    Revoked = "revoked", ALL;
    /// The revocation list's successor was due a second before.
    ListStale = "list-stale", ALL;
    /// The revocation list is of a second later.
    ListNotYet = "list-not-yet", ALL;
    /// The revocation list is signed by another key.
    ListSigner = "list-signer", ALL;
    /// The revocation list's issuer may not sign lists.
    ListKeyUsage = "list-key-usage", NITRO_DCAP;
    /// A byte follows the revocation list.
    ListTrailing = "list-trailing", ALL;
    /// A bit of the evidence's signature is changed.
    Signature = "signature", ALL;
    /// The last byte is missing.
    Truncated = "truncated", ALL;
    /// A byte follows the end.
    Trailing = "trailing", ALL;
    /// It runs in debug mode.
    Debug = "debug", ALL;
    /// It answers another nonce.
    Nonce = "nonce", ALL;
    /// It binds other data.
    Binding = "binding", NITRO_DCAP_SNP;
    /// It was made a second later.
    FromTheFuture = "from-the-future", NITRO;
    /// It was made a day before.
    Old = "old", NITRO;
    /// The code has other measurements.
    OtherCode = "other-code", ALL;
    /// A field is longer than it may be.
    Oversized = "oversized", NITRO;
    /// A field stands twice.
    DuplicateField = "duplicate-field", LONG;
    /// A field that is not known.
    UnknownField = "unknown-field", NITRO_DCAP;
    /// A field is missing.
    MissingField = "missing-field", NITRO_DCAP;
    /// The message has the tag of another structure.
    Tag = "tag", NITRO;
    /// The message has five parts.
    Parts = "parts", NITRO;
    /// The header says that it is signed with ES256.
    HeaderAlgorithm = "header-algorithm", NITRO_DCAP_SNP;
    /// The header that nothing signs is not empty.
    Unprotected = "unprotected", NITRO;
    /// The signature has a byte too few.
    SignatureLength = "signature-length", NITRO;
    /// It says that its digests are of SHA-256.
    DigestFunction = "digest-function", NITRO;
    /// A register above the last one.
    RegisterNumber = "register-number", NITRO;
    /// A length that is not in its shortest form.
    LongForm = "long-form", NITRO;
    /// More bytes than any such evidence has.
    TooLong = "too-long", NITRO_DCAP_NVIDIA;
    /// The report's version is not known.
    ReportVersion = "report-version", REPORTS;
    /// A bit that is reserved is set in the report.
    Reserved = "reserved", SNP;
    /// The bit of the guest's policy that is always set is not.
    PolicyBit = "policy-bit", SNP;
    /// The report is signed with a kind of key that is not known.
    SigningKey = "signing-key", SNP;
    /// The report says that it is not signed.
    Unsigned = "unsigned", SNP;
    /// The report says that another kind of key signed it.
    KeyKind = "key-kind", SNP;
    /// The processor is of another product.
    Processor = "processor", SNP;
    /// The leaf names another product.
    ProductName = "product-name", SNP;
    /// The issuer is the one of the other kind of key.
    Hierarchy = "hierarchy", SNP;
    /// The leaf does not say for which platform, or which of its security versions, it stands.
    ExtensionMissing = "extension-missing", DCAP_SNP;
    /// The leaf names no cloud.
    CloudMissing = "cloud-missing", VLEK;
    /// The leaf stands for other security versions.
    OtherTcb = "other-tcb", SNP;
    /// The platform reports a newer security version than it runs.
    TcbNewer = "tcb-newer", SNP;
    /// The report is of another chip.
    ChipId = "chip-id", VCEK;
    /// A lower privilege level asked.
    Vmpl = "vmpl", SNP;
    /// An entry of the certificate table points into the entries.
    TableBounds = "table-bounds", SNP;
    /// The certificate table has bytes that no entry points to.
    TableLeftover = "table-leftover", SNP;
    /// A certificate that has no place in the chain.
    Stranger = "stranger", SNP;
    /// Marked SIMULATED, the leaf names one of AMD's own authorities as its issuer.
    MakersRoot = "makers-root", SNP;
    /// The quote is of an environment that is not known.
    Environment = "environment", DCAP;
    /// The quote is of the other one of TDX and SGX.
    OtherKind = "other-kind", DCAP;
    /// The quote is of another maker's quoting enclave.
    Vendor = "vendor", DCAP;
    /// The quote's body is of a type that is not known.
    BodyType = "body-type", TDX_V5;
    /// The quote's certification data is of another type.
    Certification = "certification", DCAP;
    /// The collateral lacks a member.
    CollateralForm = "collateral-form", DCAP;
    /// The collateral has text where digits must be.
    CollateralHex = "collateral-hex", DCAP;
    /// A bit of the TCB info's signature is changed.
    TcbInfoSignature = "tcb-info-signature", DCAP;
    /// The TCB info's successor was due a second before.
    TcbInfoStale = "tcb-info-stale", DCAP;
    /// The TCB info is of a second later.
    TcbInfoNotYet = "tcb-info-not-yet", DCAP;
    /// The TCB info's version is not known.
    TcbInfoVersion = "tcb-info-version", DCAP;
    /// The TCB info is of the other one of TDX and SGX.
    TcbInfoId = "tcb-info-id", DCAP;
    /// The TCB info is of another kind of platform (FMSPC).
    OtherPlatform = "other-platform", DCAP;
    /// A bit of the QE identity's signature is changed.
    QeIdentitySignature = "qe-identity-signature", DCAP;
    /// The QE identity's successor was due a second before.
    QeIdentityStale = "qe-identity-stale", DCAP;
    /// The QE identity is of a second later.
    QeIdentityNotYet = "qe-identity-not-yet", DCAP;
    /// The QE identity's version is not known.
    QeIdentityVersion = "qe-identity-version", DCAP;
    /// The quoting enclave has another signer than the published one.
    OtherEnclave = "other-enclave", DCAP;
    /// The quoting enclave vouches for another attestation key.
    QeBinding = "qe-binding", DCAP;
    /// The platform is out of date.
    OldTcb = "old-tcb", DCAP;
    /// The platform is at a level that is revoked.
    TcbRevoked = "tcb-revoked", DCAP;
    /// The platform is below every level.
    NoTcbLevel = "no-tcb-level", DCAP;
    /// The TDX module has another signer than the published one.
    OtherModule = "other-module", TDX;
    /// An attribute that is reserved is set.
    ReservedBits = "reserved-bits", TDX;
    /// An attribute that must be set is not.
    AttributeMissing = "attribute-missing", DCAP;
    /// An attribute that must not be set is.
    AttributeRefused = "attribute-refused", TDX;
    /// A service trust domain is bound.
    ServiceTd = "service-td", TDX_V5;
    /// The answer is another message.
    MessageCode = "message-code", NVIDIA;
    /// The request is not for all measurements.
    Parameter = "parameter", NVIDIA;
    /// No measurement is there.
    NoBlocks = "no-blocks", NVIDIA;
    /// A measurement stands twice.
    DuplicateBlock = "duplicate-block", NVIDIA;
    /// A measurement is of another specification.
    Specification = "specification", NVIDIA;
    /// A measurement's lengths do not agree.
    BlockSize = "block-size", NVIDIA;
    /// A digest of a length that no hash function has.
    DigestLength = "digest-length", NVIDIA;
    /// The leaf certifies other firmware than the reported one.
    FirmwareId = "firmware-id", NVIDIA;
    /// What the leaf says of the firmware cannot be read.
    FirmwareExtension = "firmware-extension", NVIDIA;
    /// Leaf and issuer have the same serial number.
    SameSerial = "same-serial", NVIDIA;
    /// The firmware's reference manifest ends in a root of another seed.
    RimRoot = "rim-root", NVIDIA;
    /// Nothing in the manifest says SIMULATED.
    RimMarkMissing = "rim-mark-missing", NVIDIA;
    /// The certificate of the manifest's signer expired a second before.
    RimExpired = "rim-expired", NVIDIA;
    /// The certificate of the manifest's signer is revoked.
    RimRevoked = "rim-revoked", NVIDIA;
    /// A bit of the manifest's signature is changed.
    RimSignature = "rim-signature", NVIDIA;
    /// The manifest was changed after it was signed.
    RimDigest = "rim-digest", NVIDIA;
    /// The manifest says that it is signed with RSA.
    RimAlgorithm = "rim-algorithm", NVIDIA;
    /// The manifest has another canonical form.
    RimTransform = "rim-transform", NVIDIA;
    /// The manifest's signature is about a part of it.
    RimReference = "rim-reference", NVIDIA;
    /// Another manifest stands around the signed one.
    RimWrapped = "rim-wrapped", NVIDIA;
    /// The manifest has two signatures.
    RimTwice = "rim-twice", NVIDIA;
    /// The manifest has a comment.
    RimComment = "rim-comment", NVIDIA;
    /// Bytes follow the manifest.
    RimTrailing = "rim-trailing", NVIDIA;
    /// The manifest is of another version than the device runs.
    RimVersion = "rim-version", NVIDIA;
    /// A measurement in the manifest is not in its form.
    RimResource = "rim-resource", NVIDIA;
    /// The manifest has another value for a measurement.
    RimValue = "rim-value", NVIDIA;
    /// The manifest has a reference for a measurement that the device does not report.
    RimNoBlock = "rim-no-block", NVIDIA;
    /// The manifest has two references for a measurement.
    RimDuplicate = "rim-duplicate", NVIDIA;
    /// Both manifests have a reference for a measurement.
    RimCollision = "rim-collision", NVIDIA;
    /// No measurement in the manifest is active.
    RimEmpty = "rim-empty", NVIDIA;
    /// No evidence at all.
    Empty = "empty", ALL;
}

impl Flaw {
    /// Whether it is one of a reference manifest.
    pub(super) fn is_of_manifests(self) -> bool {
        self.name().starts_with("rim-")
    }

    /// The flaw of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|flaw| flaw.name() == name)
    }
}
