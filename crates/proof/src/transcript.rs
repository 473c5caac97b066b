//! The transcript that makes the argument non-interactive (`proof.md` §B): everything that the verifier knows
//! or is sent is absorbed before the first challenge that depends on it.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use p3_blake3::Blake3;
use p3_challenger::{
    CanObserve, FieldChallenger, GrindingChallenger, HashChallenger, SerializingChallenger32,
};
use p3_symmetric::Hash;

use crate::field::{E, F, PrimeCharacteristicRing};

/// The challenger that the polynomial commitment needs: BLAKE3 over bytes, elements by their canonical
/// encoding.
pub(crate) type Challenger = SerializingChallenger32<F, HashChallenger<u8, Blake3, 32>>;

/// A chain of BLAKE3 over everything absorbed, from which challenges are drawn.
#[derive(Debug, Clone)]
pub struct Transcript {
    challenger: Challenger,
}

/// The most bits of work: a witness is one element of 31 bits.
pub const MAX_WORK: usize = 24;

/// What kind of item follows, so that no two sequences of calls absorb the same bytes.
#[repr(u8)]
enum Kind {
    Domain,
    Bytes,
    Base,
    Extension,
    Draw,
    Work,
}

impl Transcript {
    /// Empty, for one purpose.
    pub fn new(domain: &str) -> Self {
        let mut transcript = Transcript { challenger: Challenger::from_hasher(Vec::new(), Blake3) };
        transcript.head(Kind::Domain, domain.len());
        transcript.text(domain.as_bytes());
        transcript
    }

    /// A kind, and how many items follow.
    fn head(&mut self, kind: Kind, count: usize) {
        self.text(&[kind as u8]);
        self.text(&(count as u64).to_le_bytes());
    }

    /// Bytes as they are.
    fn text(&mut self, text: &[u8]) {
        for byte in text {
            self.challenger.observe(Hash::<F, u8, 1>::from([*byte]));
        }
    }

    /// Absorbs named bytes. Name and bytes are prefixed with their lengths.
    pub fn absorb_bytes(&mut self, label: &str, bytes: &[u8]) {
        self.head(Kind::Bytes, label.len());
        self.text(label.as_bytes());
        self.head(Kind::Bytes, bytes.len());
        self.text(bytes);
    }

    /// Absorbs elements of the base field, and how many they are.
    pub fn absorb_base(&mut self, elements: &[F]) {
        self.head(Kind::Base, elements.len());
        self.challenger.observe_slice(elements);
    }

    /// Absorbs elements of the extension, and how many they are.
    pub fn absorb(&mut self, elements: &[E]) {
        self.head(Kind::Extension, elements.len());
        self.challenger.observe_algebra_slice(elements);
    }

    /// A challenge: uniform in the extension, a function of everything absorbed and drawn before.
    pub fn draw(&mut self) -> E {
        self.head(Kind::Draw, 1);
        self.challenger.sample_algebra_element()
    }

    /// `n` challenges.
    pub fn draw_point(&mut self, n: usize) -> Vec<E> {
        (0..n).map(|_| self.draw()).collect()
    }

    /// Finds a witness that passes [`Transcript::check_work`] with the same `bits` at this place, and absorbs
    /// it: about 2^bits hashes. Above [`MAX_WORK`] there is none, and 0 comes back.
    #[cfg(feature = "prove")]
    pub fn grind(&mut self, bits: usize) -> F {
        self.head(Kind::Work, bits);
        if bits > MAX_WORK { F::ZERO } else { self.challenger.grind(bits) }
    }

    /// Whether `witness` shows about 2^bits hashes of work that began after everything absorbed so far;
    /// absorbs it. Zero bits take the witness 0 alone, and more than [`MAX_WORK`] are never shown.
    #[must_use]
    pub fn check_work(&mut self, bits: usize, witness: F) -> bool {
        self.head(Kind::Work, bits);
        match bits {
            0 => witness == F::ZERO,
            1..=MAX_WORK => self.challenger.check_witness(bits, witness),
            _ => false,
        }
    }

    /// For the commitment's own argument.
    pub(crate) fn challenger(&mut self) -> &mut Challenger {
        &mut self.challenger
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::PrimeCharacteristicRing;

    fn after(steps: impl Fn(&mut Transcript)) -> E {
        let mut transcript = Transcript::new("test");
        steps(&mut transcript);
        transcript.draw()
    }

    #[test]
    fn every_difference_in_what_was_absorbed_changes_the_challenge() {
        let drawn = [
            after(|_| ()),
            after(|t| t.absorb_bytes("", b"")),
            after(|t| t.absorb_bytes("a", b"b")),
            after(|t| t.absorb_bytes("ab", b"")),
            after(|t| t.absorb_bytes("", b"ab")),
            after(|t| t.absorb_bytes("a", b"b\0")),
            after(|t| t.absorb_base(&[])),
            after(|t| t.absorb_base(&[F::ZERO])),
            after(|t| t.absorb_base(&[F::ZERO; 5])),
            after(|t| t.absorb(&[E::ZERO])),
            after(|t| {
                t.absorb(&[E::ZERO]);
                t.absorb(&[]);
            }),
            after(|t| {
                let _ = t.draw();
            }),
            Transcript::new("test2").draw(),
        ];
        for (i, a) in drawn.iter().enumerate() {
            assert!(drawn[..i].iter().all(|b| a != b), "{i}");
        }
        assert_eq!(after(|t| t.absorb(&[E::TWO])), after(|t| t.absorb(&[E::TWO])));
    }

    #[cfg(feature = "prove")]
    #[test]
    fn work_is_checked_where_it_was_done() {
        let mut prover = Transcript::new("test");
        let mut verifier = prover.clone();
        let mut elsewhere = Transcript::new("test3");
        let witness = prover.grind(12);
        assert!(verifier.clone().check_work(12, witness));
        assert!(!verifier.clone().check_work(12, witness + F::ONE));
        assert!(!elsewhere.check_work(12, witness));
        assert!(!verifier.clone().check_work(MAX_WORK + 1, witness));
        assert!(!verifier.clone().check_work(0, F::ONE));
        assert!(verifier.check_work(12, witness));
        assert_eq!(prover.draw(), verifier.draw());
    }
}
