//! Certificates, revocation lists and OCSP responses as an authority of our own makes them: DER, ECDSA P-384.

use p384::ecdsa::SigningKey;
use p384::ecdsa::signature::Signer as _;
use sha2::{Digest as _, Sha384};

/// One item of DER: tag, length, content.
pub fn item(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX).to_be_bytes();
    match content.len() {
        0..=0x7f => out.push(length[3]),
        0x80..=0xff => out.extend_from_slice(&[0x81, length[3]]),
        0x100..=0xffff => out.extend_from_slice(&[0x82, length[2], length[3]]),
        _ => out.extend_from_slice(&[0x84, length[0], length[1], length[2], length[3]]),
    }
    out.extend_from_slice(content);
    out
}

pub fn sequence(items: &[Vec<u8>]) -> Vec<u8> {
    item(0x30, &items.concat())
}

/// A number that is not negative, from its big-endian bytes.
pub fn integer(bytes: &[u8]) -> Vec<u8> {
    let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    let digits = bytes.get(first..).unwrap_or_default();
    let sign: &[u8] = if digits.first().is_none_or(|byte| byte & 0x80 != 0) { &[0] } else { &[] };
    item(0x02, &[sign, digits].concat())
}

/// An object identifier from its dotted text.
pub fn oid(text: &str) -> Vec<u8> {
    item(0x06, der::asn1::ObjectIdentifier::new_unwrap(text).as_bytes())
}

pub fn bit_string(bytes: &[u8]) -> Vec<u8> {
    item(0x03, &[&[0], bytes].concat())
}

pub fn octet_string(bytes: &[u8]) -> Vec<u8> {
    item(0x04, bytes)
}

pub fn boolean(value: bool) -> Vec<u8> {
    item(0x01, &[if value { 0xff } else { 0 }])
}

/// A `GeneralizedTime` from seconds since 1970.
pub fn generalized_time(seconds: u64) -> Vec<u8> {
    let text = hallmark_receipt::time::text(seconds * 1000);
    let digits: String = text.chars().filter(char::is_ascii_digit).take(14).collect();
    item(0x18, format!("{digits}Z").as_bytes())
}

/// The explicit context tag `number` around `content`.
pub fn explicit(number: u8, content: &[u8]) -> Vec<u8> {
    item(0xa0 | number, content)
}

/// A name of one common name.
pub fn name(common_name: &str) -> Vec<u8> {
    let attribute = sequence(&[oid("2.5.4.3"), item(0x0c, common_name.as_bytes())]);
    sequence(&[item(0x31, &attribute)])
}

pub fn extension(id: &str, critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { boolean(true) } else { Vec::new() };
    sequence(&[oid(id), critical, octet_string(value)])
}

/// `ecdsa-with-SHA384`.
pub fn algorithm() -> Vec<u8> {
    sequence(&[oid("1.2.840.10045.4.3.3")])
}

/// The extensions of an authority's certificate: it may sign certificates and lists.
pub fn authority_extensions() -> Vec<Vec<u8>> {
    vec![
        extension("2.5.29.19", true, &sequence(&[boolean(true)])),
        extension("2.5.29.15", true, &item(0x03, &[1, 0x06])),
    ]
}

/// The extensions of a leaf's certificate: it may sign.
pub fn leaf_extensions() -> Vec<Vec<u8>> {
    vec![extension("2.5.29.15", true, &item(0x03, &[7, 0x80]))]
}

/// A key with a name.
pub struct Entity {
    pub name: Vec<u8>,
    pub serial: Vec<u8>,
    key: SigningKey,
}

/// The time span of what is made.
#[derive(Clone, Copy)]
pub struct Span {
    pub from: u64,
    pub to: u64,
}

impl Entity {
    /// The key is made from `seed`; so is the serial number.
    pub fn new(common_name: &str, seed: u8) -> Self {
        let key = SigningKey::from_slice(&[seed; 48]).expect("a seed below the order");
        Self { name: name(common_name), serial: vec![0x10, seed], key }
    }

    /// The public key, SEC 1.
    pub fn point(&self) -> Vec<u8> {
        self.key.verifying_key().to_sec1_point(false).as_bytes().to_vec()
    }

    pub fn spki(&self) -> Vec<u8> {
        let id = sequence(&[oid("1.2.840.10045.2.1"), oid("1.3.132.0.34")]);
        sequence(&[id, bit_string(&self.point())])
    }

    /// A signature in DER, as certificates have it.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature: p384::ecdsa::Signature = self.key.sign(message);
        signature.to_der().as_bytes().to_vec()
    }

    /// A signature `r || s`, as reports have it.
    pub fn sign_fixed(&self, message: &[u8]) -> Vec<u8> {
        let signature: p384::ecdsa::Signature = self.key.sign(message);
        signature.to_bytes().to_vec()
    }

    /// `tbs`, the algorithm and the signature.
    fn signed(&self, tbs: Vec<u8>, more: &[Vec<u8>]) -> Vec<u8> {
        let signature = bit_string(&self.sign(&tbs));
        sequence(&[&[tbs, algorithm(), signature], more].concat())
    }

    /// A certificate of `subject`.
    pub fn certify(&self, subject: &Entity, span: Span, extensions: &[Vec<u8>]) -> Vec<u8> {
        let validity = sequence(&[generalized_time(span.from), generalized_time(span.to)]);
        let tbs = sequence(&[
            explicit(0, &integer(&[2])),
            integer(&subject.serial),
            algorithm(),
            self.name.clone(),
            validity,
            subject.name.clone(),
            subject.spki(),
            explicit(3, &sequence(extensions)),
        ]);
        self.signed(tbs, &[])
    }

    /// A list that revokes these serial numbers since the start of `span`.
    pub fn revocation_list(&self, revoked: &[&[u8]], span: Span) -> Vec<u8> {
        let entry = |serial: &&[u8]| sequence(&[integer(serial), generalized_time(span.from)]);
        let entries: Vec<_> = revoked.iter().map(entry).collect();
        let entries = if entries.is_empty() { Vec::new() } else { sequence(&entries) };
        let number = sequence(&[extension("2.5.29.20", false, &integer(&[1]))]);
        let tbs = sequence(&[
            integer(&[1]),
            algorithm(),
            self.name.clone(),
            generalized_time(span.from),
            generalized_time(span.to),
            entries,
            explicit(0, &number),
        ]);
        self.signed(tbs, &[])
    }

    /// A response with `answers`, signed by this key; `certificates` travel in it.
    pub fn respond(&self, answers: &[Vec<u8>], produced_at: u64, certificates: &[Vec<u8>]) -> Vec<u8> {
        let tbs = sequence(&[explicit(1, &self.name), generalized_time(produced_at), sequence(answers)]);
        let more = match certificates {
            [] => Vec::new(),
            _ => vec![explicit(0, &sequence(certificates))],
        };
        let basic = self.signed(tbs, &more);
        let bytes = sequence(&[oid("1.3.6.1.5.5.7.48.1.1"), octet_string(&basic)]);
        sequence(&[item(0x0a, &[0]), explicit(0, &bytes)])
    }

    /// An answer about this entity's certificate by `issuer`. `status` is a `CertStatus`.
    pub fn answer(&self, issuer: &Entity, status: Vec<u8>, span: Span) -> Vec<u8> {
        let hash = sequence(&[oid("2.16.840.1.101.3.4.2.2")]);
        let id = sequence(&[
            hash,
            octet_string(&Sha384::digest(&issuer.name)),
            octet_string(&Sha384::digest(issuer.point())),
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
