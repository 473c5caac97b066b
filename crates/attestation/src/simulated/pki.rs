//! Keys and certificates of development hierarchies. All keys come from the seed, by role.

use hallmark_receipt::domain;

use super::{Draft, Flaw, MARK, Seed};
use crate::producer::ProduceError;
use crate::x509::write::{self, Entity, Key, Span, Template, extension};

/// 2020-01-01 to 2049-12-31: a root must be the same whatever time is asked for.
pub(super) const ROOT_SPAN: Span = Span { from: 1_577_836_800, to: 2_524_607_999 };
const DAY: u64 = 86_400;

/// The curves that makers use.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Curve {
    P256,
    P384,
}

/// The first 48 bytes that `seed` gives for `role`.
pub(super) fn bytes(seed: &Seed, role: &str) -> [u8; 48] {
    let half = |number: u8| domain::SIMULATED.hash(&[seed, &[number], role.as_bytes()]).0;
    let mut out = [0; 48];
    let halves = half(0).into_iter().chain(half(1));
    out.iter_mut().zip(halves).for_each(|(to, from)| *to = from);
    out
}

/// The key that `seed` gives for `role`.
pub(super) fn key(seed: &Seed, role: &str, curve: Curve) -> Result<Key, ProduceError> {
    let scalar = bytes(seed, role);
    let key = match curve {
        Curve::P256 => Key::p256(scalar.get(..32).unwrap_or_default()),
        Curve::P384 => Key::p384(&scalar),
    };
    key.ok_or(ProduceError::Seed)
}

/// A certificate of a hierarchy.
#[derive(Clone)]
pub(super) struct Rung {
    /// What its key is made from: the same role has the same key.
    pub role: &'static str,
    /// Its common name.
    pub name: String,
    /// An authority, with the most authorities that may stand below it; of none, a leaf.
    pub authority: Option<Option<u8>>,
    /// What only this one has.
    pub extensions: Vec<Vec<u8>>,
    /// How long it is in force before and after the time asked for, in seconds; a root is always.
    pub around: (u64, u64),
}

impl Rung {
    /// A leaf, of an hour before to three hours after.
    pub fn leaf(role: &'static str, name: impl Into<String>) -> Self {
        Self { role, name: name.into(), authority: None, extensions: Vec::new(), around: (3600, 3 * 3600) }
    }

    /// An authority, of thirty days around.
    pub fn authority(role: &'static str, name: impl Into<String>, below: Option<u8>) -> Self {
        let around = (30 * DAY, 30 * DAY);
        Self { role, name: name.into(), authority: Some(below), extensions: Vec::new(), around }
    }
}

struct Link {
    entity: Entity,
    template: Template,
    authority: Option<Option<u8>>,
    usage: u8,
}

/// A chain of certificates, leaf first, and the keys behind it.
pub(super) struct Hierarchy<'a> {
    draft: &'a Draft<'a>,
    links: Vec<Link>,
    signer: Key,
}

impl<'a> Hierarchy<'a> {
    /// Makes the keys of `rungs`, leaf first, at least two, and what each certificate will say.
    pub fn new(draft: &'a Draft<'a>, curve: Curve, rungs: &[Rung]) -> Result<Self, ProduceError> {
        let (earliest, latest) =
            (ROOT_SPAN.from.saturating_add(40 * DAY), ROOT_SPAN.to.saturating_sub(40 * DAY));
        let at = draft.request.at;
        if !(earliest..=latest).contains(&at) {
            return Err(ProduceError::Time { from: earliest, to: latest, got: at });
        }
        let mut entities = Vec::new();
        for (place, rung) in rungs.iter().enumerate() {
            let curve = match (place, curve) {
                (1, Curve::P384) if draft.has(Flaw::OtherScheme) => Curve::P256,
                (1, Curve::P256) if draft.has(Flaw::OtherScheme) => Curve::P384,
                _ => curve,
            };
            entities.push(entity(&draft.seed, rung, curve)?);
        }
        let signer = key(&draft.seed, rungs.first().map_or("", |rung| rung.role), curve)?;
        let mut links = Vec::new();
        for (place, (rung, entity)) in rungs.iter().zip(&entities).enumerate() {
            let issuer = entities.get(place.saturating_add(1));
            let span = match issuer {
                Some(_) => {
                    Span { from: at.saturating_sub(rung.around.0), to: at.saturating_add(rung.around.1) }
                }
                None => ROOT_SPAN,
            };
            links.push(Link {
                template: entity.template(issuer.unwrap_or(entity), span, rung.extensions.clone()),
                entity: entity.clone(),
                authority: rung.authority,
                usage: if rung.authority.is_some() { 0x06 } else { 0x80 },
            });
        }
        let mut hierarchy = Self { draft, links, signer };
        hierarchy.spoil()?;
        Ok(hierarchy)
    }

    /// The leaf's key, which signs the evidence.
    pub fn signer(&self) -> &Key {
        &self.signer
    }

    /// What certificates say wrongly.
    fn spoil(&mut self) -> Result<(), ProduceError> {
        let (draft, at) = (self.draft, self.draft.request.at);
        let [leaf, issuer, others @ ..] = self.links.as_mut_slice() else { return Ok(()) };
        match draft.flaw {
            Some(Flaw::LeafExpired) => leaf.template.span.to = at.saturating_sub(1),
            Some(Flaw::IssuerExpired) => issuer.template.span.to = at.saturating_sub(1),
            Some(Flaw::LeafNotYet) => leaf.template.span.from = at.saturating_add(1),
            Some(Flaw::IssuerNotYet) => issuer.template.span.from = at.saturating_add(1),
            Some(Flaw::LeafIsAuthority) => leaf.authority = Some(None),
            Some(Flaw::IssuerNoAuthority) => issuer.authority = None,
            Some(Flaw::LeafKeyUsage) => leaf.usage = 0x08,
            Some(Flaw::IssuerKeyUsage) => issuer.usage = 0x02,
            Some(Flaw::ListKeyUsage) => issuer.usage = 0x04,
            Some(Flaw::PathLength) => {
                others.iter_mut().take(1).for_each(|authority| authority.authority = Some(Some(0)));
            }
            Some(Flaw::IssuerName) => leaf.template.issuer = write::name_of(MARK, "somebody else"),
            Some(Flaw::DuplicateExtension) => {
                let twice = extension(UNKNOWN, false, &[]);
                leaf.template.extensions.extend([twice.clone(), twice]);
            }
            Some(Flaw::UnknownCritical) => leaf.template.extensions.push(extension(UNKNOWN, true, &[])),
            Some(Flaw::UnreadableExtension) => {
                issuer.authority = None;
                issuer.template.extensions.push(extension(BASIC_CONSTRAINTS, true, &[0x30]));
            }
            Some(Flaw::SameSerial) => leaf.template.serial.clone_from(&issuer.template.serial),
            Some(Flaw::MakersRoot) => leaf.template.issuer = makers_authority(),
            Some(Flaw::SwappedLeaf) => {
                let curve = if matches!(leaf.entity.key, Key::P256(_)) { Curve::P256 } else { Curve::P384 };
                leaf.template.spki = key(&draft.seed, "swapped", curve)?.spki();
            }
            _ => {}
        }
        Ok(())
    }

    /// The certificates as they were issued, leaf first.
    pub fn issued(&self) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        for (place, link) in self.links.iter().enumerate() {
            let issuer = self.links.get(place.saturating_add(1)).unwrap_or(link);
            let mut template = link.template.clone();
            template.extensions.extend(link.authority.map(write::authority));
            template.extensions.push(write::key_usage(link.usage));
            out.push(template.sign(&issuer.entity.key));
        }
        out
    }

    /// The certificates as they are handed on, leaf first.
    pub fn certificates(&self) -> Vec<Vec<u8>> {
        let mut out = self.issued();
        let Some(leaf) = out.first_mut() else { return out };
        match self.draft.flaw {
            Some(Flaw::CertificateSignature) => flip_last(leaf),
            Some(Flaw::CertificateTrailing) => leaf.push(0),
            Some(Flaw::AlgorithmDiffers) => swap_algorithm(leaf),
            Some(Flaw::ChainOrder) if out.len() > 2 => out.swap(1, 2),
            Some(Flaw::IssuerMissing) => {
                out.remove(1);
            }
            Some(Flaw::ChainTooLong) => {
                let root = out.last().cloned().unwrap_or_default();
                out.resize(17, root);
            }
            _ => {}
        }
        out
    }

    /// The revocation lists of the issuers of the certificates from `first` up.
    pub fn lists(&self, first: usize) -> Vec<Vec<u8>> {
        self.words(first, |word| {
            let revoked: &[&[u8]] = &[&word.of.serial];
            word.authority.revocation_list(if word.revokes { revoked } else { &[] }, word.span)
        })
    }

    /// What their issuers answer (OCSP) about the certificates from `first` up.
    pub fn answers(&self, first: usize) -> Vec<Vec<u8>> {
        self.words(first, |word| {
            // A hold (reason 6) is a revocation that may end.
            let status = if word.revokes { write::revoked(word.span.from, 6) } else { write::good() };
            let answer = word.of.answer(word.issuer, status, word.span);
            word.authority.respond(&[answer], word.span.from, &[])
        })
    }

    /// One word for each certificate from `first` up; a flaw is in the first.
    fn words(&self, first: usize, say: impl Fn(&Word<'_>) -> Vec<u8>) -> Vec<Vec<u8>> {
        let at = self.draft.request.at;
        let mut out = Vec::new();
        for (certificate, issuer) in self.links.iter().zip(self.links.iter().skip(1)).skip(first) {
            let is_first = out.is_empty();
            let has = |flaw| is_first && self.draft.has(flaw);
            let mut span = Span { from: at.saturating_sub(DAY), to: at.saturating_add(7 * DAY) };
            let mut authority = issuer.entity.clone();
            if has(Flaw::ListStale) {
                span.to = at.saturating_sub(1);
            }
            if has(Flaw::ListNotYet) {
                span.from = at.saturating_add(1);
            }
            if has(Flaw::ListSigner) {
                authority.key = certificate.entity.key.clone();
            }
            let revokes = has(Flaw::Revoked);
            let (of, issuer) = (&certificate.entity, &issuer.entity);
            let mut word = say(&Word { of, issuer, authority: &authority, revokes, span });
            if has(Flaw::ListTrailing) {
                word.push(0);
            }
            out.push(word);
        }
        out
    }
}

/// What an authority says of a certificate.
struct Word<'a> {
    of: &'a Entity,
    issuer: &'a Entity,
    /// Who signs: the issuer, if nothing is wrong.
    authority: &'a Entity,
    revokes: bool,
    span: Span,
}

/// The name of AMD's own authority of Milan, DER.
fn makers_authority() -> Vec<u8> {
    let authority = crate::x509::Certificate::parse(include_bytes!("../roots/milan-ask.der"));
    authority.map_or_else(|_| Vec::new(), |authority| authority.subject.to_vec())
}

/// Of the arc for examples (RFC 5612).
const UNKNOWN: &str = "1.3.6.1.4.1.32473.1";
const BASIC_CONSTRAINTS: &str = "2.5.29.19";

fn entity(seed: &Seed, rung: &Rung, curve: Curve) -> Result<Entity, ProduceError> {
    let mut serial = bytes(seed, &format!("serial of {}", rung.role)).get(..16).unwrap_or_default().to_vec();
    // Positive, and without a zero in front.
    serial.iter_mut().take(1).for_each(|first| *first = *first & 0x3f | 0x40);
    Ok(Entity { name: write::name_of(MARK, &rung.name), serial, key: key(seed, rung.role, curve)? })
}

/// The root's certificate alone.
pub(super) fn root(seed: &Seed, curve: Curve, rung: &Rung) -> Result<Vec<u8>, ProduceError> {
    let root = entity(seed, rung, curve)?;
    let mut template = root.template(&root, ROOT_SPAN, rung.extensions.clone());
    template.extensions.extend(rung.authority.map(write::authority));
    template.extensions.push(write::key_usage(0x06));
    Ok(template.sign(&root.key))
}

/// Changes a bit of the last byte.
pub(super) fn flip_last(bytes: &mut [u8]) {
    bytes.iter_mut().next_back().into_iter().for_each(|last| *last ^= 1);
}

/// Writes the other ECDSA algorithm beside the signature.
fn swap_algorithm(certificate: &mut [u8]) {
    let (sha256, sha384) = (write::oid("1.2.840.10045.4.3.2"), write::oid("1.2.840.10045.4.3.3"));
    let at = certificate.windows(sha256.len()).rposition(|found| found == sha256 || found == sha384);
    let end = at.and_then(|at| at.checked_add(sha256.len())?.checked_sub(1));
    if let Some(arc) = end.and_then(|end| certificate.get_mut(end)) {
        *arc ^= 1;
    }
}
