//! What can be wrong with evidence, one flaw at a time: whoever verifies must refuse each with a reason of its own.

use crate::Kind;

const ALL: &[Kind] = &Kind::ALL;
const NITRO: &[Kind] = &[Kind::Nitro];

macro_rules! flaws {
    ($($(#[$doc:meta])* $flaw:ident = $name:literal, $kinds:ident;)*) => {
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

            /// The kinds of evidence that can have it.
            pub fn kinds(self) -> &'static [Kind] {
                match self { $(Self::$flaw => $kinds),* }
            }
        }
    };
}

flaws! {
    /// The root is another seed's.
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
    PathLength = "path-length", NITRO;
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
    ChainOrder = "chain-order", NITRO;
    /// The issuer's certificate is left out.
    IssuerMissing = "issuer-missing", ALL;
    /// More certificates than the hierarchy has.
    ChainTooLong = "chain-too-long", NITRO;
    /// A certificate is revoked.
    Revoked = "revoked", ALL;
    /// The revocation list's successor was due a second before.
    ListStale = "list-stale", ALL;
    /// The revocation list is of a second later.
    ListNotYet = "list-not-yet", ALL;
    /// The revocation list is signed by another key.
    ListSigner = "list-signer", ALL;
    /// The revocation list's issuer may not sign lists.
    ListKeyUsage = "list-key-usage", NITRO;
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
    Binding = "binding", ALL;
    /// It was made a second later.
    FromTheFuture = "from-the-future", NITRO;
    /// It was made a day before.
    Old = "old", NITRO;
    /// The code has other measurements.
    OtherCode = "other-code", ALL;
    /// A field is longer than it may be.
    Oversized = "oversized", NITRO;
    /// A field stands twice.
    DuplicateField = "duplicate-field", NITRO;
    /// A field that is not known.
    UnknownField = "unknown-field", NITRO;
    /// A field is missing.
    MissingField = "missing-field", NITRO;
    /// The message has the tag of another structure.
    Tag = "tag", NITRO;
    /// The message has five parts.
    Parts = "parts", NITRO;
    /// The header says that it is signed with ES256.
    HeaderAlgorithm = "header-algorithm", NITRO;
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
    TooLong = "too-long", NITRO;
    /// No evidence at all.
    Empty = "empty", ALL;
}

impl Flaw {
    /// The flaw of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|flaw| flaw.name() == name)
    }
}
