//! Deterministic randomness for tests.

use crate::field::{BasedVectorSpace, E, F, PrimeCharacteristicRing};

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.word() % bound as u64) as usize
    }

    pub(crate) fn base(&mut self) -> F {
        F::from_u64(self.word() >> 2)
    }

    pub(crate) fn bases(&mut self, count: usize) -> Vec<F> {
        (0..count).map(|_| self.base()).collect()
    }

    pub(crate) fn element(&mut self) -> E {
        E::from_basis_coefficients_fn(|_| self.base())
    }

    pub(crate) fn elements(&mut self, count: usize) -> Vec<E> {
        (0..count).map(|_| self.element()).collect()
    }
}

/// Every byte of `bytes` changed, one at a time, by a bit that depends on its place: what each change gives.
pub(crate) fn flips(bytes: &[u8]) -> impl Iterator<Item = (usize, Vec<u8>)> {
    (0..bytes.len()).map(|at| {
        let mut changed = bytes.to_vec();
        changed[at] ^= 1 << (at % 8);
        (at, changed)
    })
}
