//! Certificates, revocation lists and answers about certificates as an authority of our own makes them: DER, ECDSA.

use p256::ecdsa::signature::Signer as _;
use sha2::{Digest as _, Sha384};

pub use super::encode::*;

/// A key that signs.
#[derive(Clone)]
pub enum Key {
    /// P-256, with SHA-256.
    P256(p256::ecdsa::SigningKey),
    /// P-384, with SHA-384.
    P384(p384::ecdsa::SigningKey),
}

impl Key {
    /// The key of P-256 with these 32 bytes, big-endian; none outside 1 to the order.
    pub fn p256(scalar: &[u8]) -> Option<Self> {
        p256::ecdsa::SigningKey::from_slice(scalar).ok().map(Self::P256)
    }

    /// The key of P-384 with these 48 bytes, big-endian; none outside 1 to the order.
    pub fn p384(scalar: &[u8]) -> Option<Self> {
        p384::ecdsa::SigningKey::from_slice(scalar).ok().map(Self::P384)
    }

    /// The public key, SEC 1, uncompressed.
    pub fn point(&self) -> Vec<u8> {
        match self {
            Self::P256(key) => key.verifying_key().to_sec1_point(false).as_bytes().to_vec(),
            Self::P384(key) => key.verifying_key().to_sec1_point(false).as_bytes().to_vec(),
        }
    }

    /// `SubjectPublicKeyInfo`.
    pub fn spki(&self) -> Vec<u8> {
        let curve = match self {
            Self::P256(_) => oid("1.2.840.10045.3.1.7"),
            Self::P384(_) => oid("1.3.132.0.34"),
        };
        sequence(&[sequence(&[oid("1.2.840.10045.2.1"), curve]), bit_string(&self.point())])
    }

    /// `ecdsa-with-SHA256` or `ecdsa-with-SHA384`.
    pub fn algorithm(&self) -> Vec<u8> {
        sequence(&[match self {
            Self::P256(_) => oid("1.2.840.10045.4.3.2"),
            Self::P384(_) => oid("1.2.840.10045.4.3.3"),
        }])
    }

    /// A signature in DER, as certificates have it. The same for the same message (RFC 6979).
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::P256(key) => {
                let signature: p256::ecdsa::Signature = key.sign(message);
                signature.to_der().as_bytes().to_vec()
            }
            Self::P384(key) => {
                let signature: p384::ecdsa::Signature = key.sign(message);
                signature.to_der().as_bytes().to_vec()
            }
        }
    }

    /// A signature `r || s`, as reports have it.
    pub fn sign_fixed(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::P256(key) => {
                let signature: p256::ecdsa::Signature = key.sign(message);
                signature.to_bytes().to_vec()
            }
            Self::P384(key) => {
                let signature: p384::ecdsa::Signature = key.sign(message);
                signature.to_bytes().to_vec()
            }
        }
    }

    /// `tbs`, the algorithm and the signature; `more` behind them.
    fn signed(&self, tbs: Vec<u8>, more: &[Vec<u8>]) -> Vec<u8> {
        let signature = bit_string(&self.sign(&tbs));
        sequence(&[&[tbs, self.algorithm(), signature], more].concat())
    }
}

/// A key with a name.
#[derive(Clone)]
pub struct Entity {
    /// Its name, DER.
    pub name: Vec<u8>,
    /// Its certificate's serial number, big-endian.
    pub serial: Vec<u8>,
    /// Its key.
    pub key: Key,
}

/// The time span of what is made, in seconds since 1970; both ends belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first second.
    pub from: u64,
    /// The last second.
    pub to: u64,
}

/// A certificate before it is signed.
#[derive(Clone)]
pub struct Template {
    /// The serial number, big-endian.
    pub serial: Vec<u8>,
    /// The issuer's name, DER.
    pub issuer: Vec<u8>,
    /// The subject's name, DER.
    pub subject: Vec<u8>,
    /// When it is in force.
    pub span: Span,
    /// The certified key, DER.
    pub spki: Vec<u8>,
    /// The extensions, DER.
    pub extensions: Vec<Vec<u8>>,
}

impl Template {
    /// The certificate, signed by `key`.
    pub fn sign(&self, key: &Key) -> Vec<u8> {
        let tbs = sequence(&[
            explicit(0, &integer(&[2])),
            integer(&self.serial),
            key.algorithm(),
            self.issuer.clone(),
            sequence(&[time(self.span.from), time(self.span.to)]),
            self.subject.clone(),
            self.spki.clone(),
            explicit(3, &sequence(&self.extensions)),
        ]);
        key.signed(tbs, &[])
    }
}

impl Entity {
    /// What `issuer` certifies of it.
    pub fn template(&self, issuer: &Self, span: Span, extensions: Vec<Vec<u8>>) -> Template {
        Template {
            serial: self.serial.clone(),
            issuer: issuer.name.clone(),
            subject: self.name.clone(),
            span,
            spki: self.key.spki(),
            extensions,
        }
    }

    /// A list that revokes these serial numbers since the start of `span`.
    pub fn revocation_list(&self, revoked: &[&[u8]], span: Span) -> Vec<u8> {
        let entry = |serial: &&[u8]| sequence(&[integer(serial), time(span.from)]);
        let entries: Vec<_> = revoked.iter().map(entry).collect();
        let entries = if entries.is_empty() { Vec::new() } else { sequence(&entries) };
        let number = sequence(&[extension("2.5.29.20", false, &integer(&[1]))]);
        let tbs = sequence(&[
            integer(&[1]),
            self.key.algorithm(),
            self.name.clone(),
            time(span.from),
            time(span.to),
            entries,
            explicit(0, &number),
        ]);
        self.key.signed(tbs, &[])
    }

    /// A response with `answers`, signed by this key; `certificates` travel in it.
    pub fn respond(&self, answers: &[Vec<u8>], produced_at: u64, certificates: &[Vec<u8>]) -> Vec<u8> {
        let tbs = sequence(&[explicit(1, &self.name), generalized_time(produced_at), sequence(answers)]);
        let more = match certificates {
            [] => Vec::new(),
            _ => vec![explicit(0, &sequence(certificates))],
        };
        let basic = self.key.signed(tbs, &more);
        let bytes = sequence(&[oid("1.3.6.1.5.5.7.48.1.1"), octet_string(&basic)]);
        sequence(&[item(0x0a, &[0]), explicit(0, &bytes)])
    }

    /// An answer about this entity's certificate by `issuer`. `status` is a `CertStatus`.
    pub fn answer(&self, issuer: &Self, status: Vec<u8>, span: Span) -> Vec<u8> {
        let hash = sequence(&[oid("2.16.840.1.101.3.4.2.2")]);
        let id = sequence(&[
            hash,
            octet_string(&Sha384::digest(&issuer.name)),
            octet_string(&Sha384::digest(issuer.key.point())),
            integer(&self.serial),
        ]);
        let until = explicit(0, &generalized_time(span.to));
        sequence(&[id, status, generalized_time(span.from), until])
    }
}

/// `CertStatus` good.
pub fn good() -> Vec<u8> {
    item(0x80, &[])
}

/// `CertStatus` revoked, with its reason's code.
pub fn revoked(since: u64, reason: u8) -> Vec<u8> {
    item(0xa1, &[generalized_time(since), explicit(0, &item(0x0a, &[reason]))].concat())
}

/// `CertStatus` unknown.
pub fn unknown() -> Vec<u8> {
    item(0x82, &[])
}

#[cfg(test)]
impl Entity {
    /// The key is made from `seed`; so is the serial number.
    pub fn new(common_name: &str, seed: u8) -> Self {
        let key = Key::p384(&[seed; 48]).expect("a seed below the order");
        Self { name: name(common_name), serial: vec![0x10, seed], key }
    }

    /// A certificate of `subject`.
    pub fn certify(&self, subject: &Self, span: Span, extensions: &[Vec<u8>]) -> Vec<u8> {
        subject.template(self, span, extensions.to_vec()).sign(&self.key)
    }
}
