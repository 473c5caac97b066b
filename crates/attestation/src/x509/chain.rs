//! Chains: the steps of RFC 5280 §6.1 that a documented hierarchy needs.

use der::asn1::{BitStringRef, ObjectIdentifier};
use der::{Decode as _, Reader as _, SliceReader, Tag};
use hallmark_receipt::time::when;

use super::certificate::{Certificate, CertificateError};
use super::memo::Memo;
use crate::crypto::Scheme;

/// Certificates from leaf to root, at least two. Being a chain shows nothing yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Chain<'a> {
    certificates: Vec<Certificate<'a>>,
}

/// What a hierarchy's certificates look like.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The most certificates, root included.
    pub longest: usize,
    /// The signature schemes that it uses.
    pub schemes: &'static [Scheme],
    /// Critical extensions that its certificates carry beyond those of RFC 5280 checked here.
    pub known: &'static [ObjectIdentifier],
}

/// Why a chain is refused. Positions count from the leaf, which is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// A certificate that cannot be read.
    #[error("certificate {at}: {error}")]
    Certificate {
        /// Which.
        at: usize,
        /// Why.
        error: CertificateError,
    },
    /// Fewer than two certificates.
    #[error("a chain has at least a leaf and a root, got {got} certificates")]
    TooShort {
        /// How many.
        got: usize,
    },
    /// Too many certificates.
    #[error("a chain of {got} certificates, where the hierarchy has at most {most}")]
    TooLong {
        /// How many.
        got: usize,
        /// The most.
        most: usize,
    },
    /// The issuer's name is not the next certificate's subject.
    #[error("certificate {at} names another issuer than the next one's subject")]
    Issuer {
        /// Which.
        at: usize,
    },
    /// A signature algorithm that the hierarchy does not use.
    #[error("certificate {at} is signed with {got:?}, which this hierarchy does not use")]
    Scheme {
        /// Which.
        at: usize,
        /// The scheme.
        got: Scheme,
    },
    /// The issuer's key did not sign it.
    #[error("certificate {at} is not signed by the next one's key")]
    Signature {
        /// Which.
        at: usize,
    },
    /// A certificate in force later.
    #[error("certificate {at} is not in force before {}", when(*not_before))]
    NotYet {
        /// Which.
        at: usize,
        /// Since when it is.
        not_before: u64,
    },
    /// A certificate out of force.
    #[error("certificate {at} expired on {}", when(*not_after))]
    Expired {
        /// Which.
        at: usize,
        /// When.
        not_after: u64,
    },
    /// An issuer that is no authority.
    #[error("certificate {at} is not an authority's (basicConstraints)")]
    NotAnAuthority {
        /// Which.
        at: usize,
    },
    /// An authority's certificate as the leaf.
    #[error("the leaf is an authority's certificate")]
    LeafIsAuthority,
    /// More certificates below an authority than it may have.
    #[error("certificate {at} allows {allowed} authorities below it, there are {got}")]
    PathLength {
        /// Which.
        at: usize,
        /// How many it allows.
        allowed: u8,
        /// How many there are.
        got: usize,
    },
    /// A key used for what its certificate does not allow.
    #[error("certificate {at}: keyUsage lacks {lacks}")]
    KeyUsage {
        /// Which.
        at: usize,
        /// The use.
        lacks: &'static str,
    },
    /// A critical extension that is not understood.
    #[error("certificate {at} has the critical extension {id}, which is not understood here")]
    UnknownCritical {
        /// Which.
        at: usize,
        /// Its identifier.
        id: ObjectIdentifier,
    },
    /// An extension that cannot be read.
    #[error("certificate {at}: extension {id} cannot be read")]
    Extension {
        /// Which.
        at: usize,
        /// Its identifier.
        id: ObjectIdentifier,
    },
}

impl ChainError {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Certificate { .. } => "certificate",
            Self::TooShort { .. } => "chain-too-short",
            Self::TooLong { .. } => "chain-too-long",
            Self::Issuer { .. } => "chain-issuer",
            Self::Scheme { .. } => "chain-scheme",
            Self::Signature { .. } => "chain-signature",
            Self::NotYet { .. } => "not-yet-in-force",
            Self::Expired { .. } => "expired",
            Self::NotAnAuthority { .. } => "not-an-authority",
            Self::LeafIsAuthority => "leaf-is-authority",
            Self::PathLength { .. } => "path-length",
            Self::KeyUsage { .. } => "key-usage",
            Self::UnknownCritical { .. } => "unknown-critical-extension",
            Self::Extension { .. } => "extension",
        }
    }
}

const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");

impl<'a> Chain<'a> {
    /// Reads certificates that stand in order, leaf first.
    pub fn parse(
        certificates: impl IntoIterator<Item = &'a [u8]>,
        rules: &Rules,
    ) -> Result<Self, ChainError> {
        let mut parsed = Vec::new();
        for (at, der) in certificates.into_iter().enumerate() {
            if at >= rules.longest {
                return Err(ChainError::TooLong { got: at.saturating_add(1), most: rules.longest });
            }
            parsed.push(Certificate::parse(der).map_err(|error| ChainError::Certificate { at, error })?);
        }
        Self::of(parsed)
    }

    /// Certificates that stand in order, leaf first.
    pub(crate) fn of(certificates: Vec<Certificate<'a>>) -> Result<Self, ChainError> {
        match certificates.len() {
            got @ 0..2 => Err(ChainError::TooShort { got }),
            _ => Ok(Self { certificates }),
        }
    }

    /// Leaf first.
    pub fn certificates(&self) -> &[Certificate<'a>] {
        &self.certificates
    }

    /// The leaf.
    // There are at least two certificates.
    #[allow(clippy::indexing_slicing)]
    pub fn leaf(&self) -> &Certificate<'a> {
        &self.certificates[0]
    }

    /// The root.
    #[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
    pub fn root(&self) -> &Certificate<'a> {
        &self.certificates[self.certificates.len() - 1]
    }

    /// Names and signatures, then what the certificates may be used for. The root's own signature is not looked at: its digest is
    /// pinned. Signatures that `memo` knows are not checked again. To be followed by [`Chain::verify_validity`].
    pub fn verify(&self, rules: &Rules, memo: Option<&Memo>) -> Result<(), ChainError> {
        for (at, (certificate, issuer)) in
            self.certificates.iter().zip(self.certificates.iter().skip(1)).enumerate()
        {
            if certificate.issuer != issuer.subject {
                return Err(ChainError::Issuer { at });
            }
            if !rules.schemes.contains(&certificate.scheme) {
                return Err(ChainError::Scheme { at, got: certificate.scheme });
            }
            let signed = match memo {
                Some(memo) => memo.verify_signature(certificate, issuer),
                None => certificate.verify_signature(issuer),
            };
            signed.map_err(|_| ChainError::Signature { at })?;
        }
        self.certificates.iter().enumerate().try_for_each(|(at, certificate)| usage(at, certificate, rules))
    }

    /// Every certificate is in force at `at` (seconds since 1970).
    pub fn verify_validity(&self, now: u64) -> Result<(), ChainError> {
        for (at, certificate) in self.certificates.iter().enumerate() {
            let (not_before, not_after) = (certificate.not_before, certificate.not_after);
            if now < not_before {
                return Err(ChainError::NotYet { at, not_before });
            }
            if now > not_after {
                return Err(ChainError::Expired { at, not_after });
            }
        }
        Ok(())
    }

    /// The time span in which every certificate is in force.
    pub fn validity(&self) -> (u64, u64) {
        let start = self.certificates.iter().map(|certificate| certificate.not_before).max();
        let end = self.certificates.iter().map(|certificate| certificate.not_after).min();
        (start.unwrap_or(u64::MAX), end.unwrap_or(0))
    }
}

/// RFC 5280 §4.2: what the certificate at this place may be used for, and no critical extension that is not understood.
pub(super) fn usage(at: usize, certificate: &Certificate<'_>, rules: &Rules) -> Result<(), ChainError> {
    let (mut authority, mut allowed) = (false, None);
    let mut key_usage = None;
    for extension in &certificate.extensions {
        let id = extension.id;
        let unreadable = |_| ChainError::Extension { at, id };
        match id {
            BASIC_CONSTRAINTS => {
                (authority, allowed) = basic_constraints(extension.value).map_err(unreadable)?;
            }
            KEY_USAGE => key_usage = Some(bits(extension.value).map_err(unreadable)?),
            _ if extension.critical && !rules.known.contains(&id) => {
                return Err(ChainError::UnknownCritical { at, id });
            }
            _ => {}
        }
    }
    if at == 0 {
        if authority {
            return Err(ChainError::LeafIsAuthority);
        }
        // Where a leaf says nothing of its use, every use is allowed.
        return match key_usage {
            Some(usage) if usage & 0x80 == 0 => Err(ChainError::KeyUsage { at, lacks: "digitalSignature" }),
            _ => Ok(()),
        };
    }
    if !authority {
        return Err(ChainError::NotAnAuthority { at });
    }
    if key_usage.is_none_or(|usage| usage & 0x04 == 0) {
        return Err(ChainError::KeyUsage { at, lacks: "keyCertSign" });
    }
    // The authorities between this one and the leaf.
    let got = at.saturating_sub(1);
    match allowed {
        Some(allowed) if got > usize::from(allowed) => Err(ChainError::PathLength { at, allowed, got }),
        _ => Ok(()),
    }
}

/// Whether it is an authority's, and how many authorities may stand below it.
fn basic_constraints(value: &[u8]) -> der::Result<(bool, Option<u8>)> {
    let mut reader = SliceReader::new(value)?;
    let found = reader.sequence(|reader| -> der::Result<_> {
        let tag = |reader: &SliceReader<'_>| (!reader.is_finished()).then(|| Tag::peek(reader)).transpose();
        let authority = if tag(reader)? == Some(Tag::Boolean) { bool::decode(reader)? } else { false };
        let allowed = if tag(reader)? == Some(Tag::Integer) { Some(u8::decode(reader)?) } else { None };
        Ok((authority, allowed))
    })?;
    reader.finish()?;
    Ok(found)
}

/// The first byte of a key usage: digitalSignature is its highest bit, keyCertSign 0x04, cRLSign 0x02.
fn bits(value: &[u8]) -> der::Result<u8> {
    let bits = BitStringRef::from_der(value)?;
    Ok(bits.raw_bytes().first().copied().unwrap_or(0))
}

/// Whether a certificate may sign revocation lists.
pub(super) fn may_sign_lists(certificate: &Certificate<'_>) -> bool {
    certificate.extension(KEY_USAGE).is_some_and(|value| bits(value).is_ok_and(|usage| usage & 0x02 != 0))
}
