//! Signatures in chains that held, kept by whoever judges much evidence under the same authorities.

use std::collections::BTreeSet;
use std::sync::Mutex;

use hallmark_receipt::Digest;

use super::certificate::Certificate;
use crate::crypto::Mismatch;

/// Links whose signatures held: a certificate with its issuer's key. A link that is known is not checked again; names, uses, validity
/// and revocation always are. A wrong signature is never kept, nor a link of a chain whose root is not pinned.
///
/// It holds at most 4,096 links, those used last among them.
#[derive(Debug, Default)]
pub struct Memo {
    /// Locked for one look-up at a time.
    links: Mutex<Links>,
}

/// Digests of links in two generations: when the younger one is full, the older one is forgotten.
#[derive(Debug, Default)]
struct Links {
    young: BTreeSet<Digest>,
    old: BTreeSet<Digest>,
}

/// The most links of one generation.
const GENERATION: usize = 2048;

impl Memo {
    /// Whether `issuer`'s key signed `certificate`.
    pub(super) fn verify_signature(
        &self,
        certificate: &Certificate<'_>,
        issuer: &Certificate<'_>,
    ) -> Result<(), Mismatch> {
        // Both parts are DER and end where they say: no two links have the same bytes.
        let link = Digest::of(&[issuer.spki, certificate.der]);
        if self.with(|links| links.contains(link)) {
            return Ok(());
        }
        certificate.verify_signature(issuer)?;
        self.with(|links| links.insert(link));
        Ok(())
    }

    /// Nothing is known where a thread died with the lock.
    fn with<T: Default>(&self, act: impl FnOnce(&mut Links) -> T) -> T {
        self.links.lock().map(|mut links| act(&mut links)).unwrap_or_default()
    }
}

impl Links {
    fn contains(&mut self, link: Digest) -> bool {
        if self.young.contains(&link) {
            return true;
        }
        let known = self.old.remove(&link);
        if known {
            self.insert(link);
        }
        known
    }

    fn insert(&mut self, link: Digest) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(link);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_keeps_what_is_in_use() {
        let link = |number: u32| Digest::of(&[&number.to_be_bytes()]);
        let mut links = Links::default();
        links.insert(link(0));
        for number in 1..10_000 {
            assert!(links.contains(link(0)), "{number}");
            links.insert(link(number));
            assert!(links.young.len() + links.old.len() <= 2 * GENERATION);
        }
        assert!(links.contains(link(9_999)));
        assert!(!links.contains(link(1)));
    }
}
