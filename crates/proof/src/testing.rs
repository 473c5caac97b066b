//! Deterministic randomness for tests.

use crate::field::{BasedVectorSpace, E, F, PrimeCharacteristicRing};

pub(crate) use crate::tests::models::Random;

impl Random {
    pub(crate) fn base(&mut self) -> F {
        F::from_u64(self.next() >> 2)
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
