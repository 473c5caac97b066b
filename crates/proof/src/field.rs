//! The field and its encodings (`proof.md` §A).
//!
//! Witnesses and weights are elements of KoalaBear, p = 2^31 - 2^24 + 1; challenges come from its quintic
//! extension by X^5 + X^2 - 1, whose 154.9 bits every error term is divided by.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub use p3_field::{BasedVectorSpace, Field, PrimeCharacteristicRing, PrimeField32};

use p3_field::extension::QuinticTrinomialExtensionField;
use p3_koala_bear::KoalaBear;

/// The base field: KoalaBear, p = 2^31 - 2^24 + 1.
pub type F = KoalaBear;

/// The field of challenges: the quintic extension of [`F`].
pub type E = QuinticTrinomialExtensionField<KoalaBear>;

/// The characteristic p.
pub const CHARACTERISTIC: u32 = 0x7f00_0001;

/// Limbs of an element of [`E`].
pub const DEGREE: usize = 5;

/// Bytes of an encoded element of [`F`].
pub const BASE_BYTES: usize = 4;

/// Bytes of an encoded element of [`E`].
pub const EXTENSION_BYTES: usize = DEGREE * BASE_BYTES;

/// log2 of the size of [`E`], rounded down.
pub const FIELD_BITS: f64 = 154.9;

/// The element that stands for a signed integer: `value mod p`. Two integers closer than p never share an
/// element.
pub fn from_i64(value: i64) -> F {
    // The remainder lies in 0..p, so it fits.
    F::from_u32(value.rem_euclid(i64::from(CHARACTERISTIC)) as u32)
}

/// The integer in `-(p-1)/2 ..= (p-1)/2` that an element stands for; inverse of [`from_i64`] there.
pub fn to_i64(element: F) -> i64 {
    let value = i64::from(element.as_canonical_u32());
    if value > i64::from(CHARACTERISTIC / 2) { value - i64::from(CHARACTERISTIC) } else { value }
}

/// 2^k in [`E`].
pub fn power_of_two(k: usize) -> E {
    E::TWO.exp_u64(k as u64)
}

/// 4 little-endian bytes.
pub fn encode_base(element: F) -> [u8; BASE_BYTES] {
    element.as_canonical_u32().to_le_bytes()
}

/// The element of 4 little-endian bytes; `None` at p or above, so that an element has one encoding.
pub fn decode_base(bytes: [u8; BASE_BYTES]) -> Option<F> {
    let value = u32::from_le_bytes(bytes);
    (value < CHARACTERISTIC).then(|| F::from_u32(value))
}

/// 5 limbs of 4 little-endian bytes, the constant coefficient first.
pub fn encode(element: E) -> [u8; EXTENSION_BYTES] {
    let mut bytes = [0; EXTENSION_BYTES];
    let limbs: &[F] = element.as_basis_coefficients_slice();
    for (to, limb) in bytes.chunks_exact_mut(BASE_BYTES).zip(limbs) {
        to.copy_from_slice(&encode_base(*limb));
    }
    bytes
}

/// The element of 5 limbs; `None` if one is p or above.
pub fn decode(bytes: &[u8; EXTENSION_BYTES]) -> Option<E> {
    let mut limbs = [F::ZERO; DEGREE];
    for (limb, from) in limbs.iter_mut().zip(bytes.as_chunks::<BASE_BYTES>().0) {
        *limb = decode_base(*from)?;
    }
    Some(E::from_basis_coefficients_fn(|i| limbs.get(i).copied().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_characteristic_is_the_fields() {
        assert_eq!(F::ORDER_U32, CHARACTERISTIC);
        assert!(FIELD_BITS < 5.0 * f64::from(CHARACTERISTIC).log2());
    }

    #[test]
    fn limbs_from_p_up_are_refused() {
        let p = CHARACTERISTIC;
        assert!(decode_base((p - 1).to_le_bytes()).is_some());
        for value in [p, p + 1, u32::MAX] {
            assert_eq!(decode_base(value.to_le_bytes()), None);
            for limb in 0..DEGREE {
                let mut bytes = encode(E::ONE);
                bytes[4 * limb..4 * limb + 4].copy_from_slice(&value.to_le_bytes());
                assert_eq!(decode(&bytes), None);
            }
        }
    }

    proptest! {
        #[test]
        fn integers_and_bytes_come_back(
            value in -1_065_353_216_i64..=1_065_353_216,
            limbs in any::<[u32; 5]>(),
        ) {
            prop_assert_eq!(to_i64(from_i64(value)), value);
            prop_assert_eq!(from_i64(value) + from_i64(-value), F::ZERO);
            let element = E::from_basis_coefficients_fn(|i| F::from_u32(limbs[i]));
            prop_assert_eq!(decode(&encode(element)), Some(element));
        }

        #[test]
        fn integers_add_and_multiply_as_elements(a in any::<i32>(), b in any::<i32>()) {
            let (a, b) = (i64::from(a), i64::from(b));
            prop_assert_eq!(from_i64(a) * from_i64(b), from_i64(a * b));
            prop_assert_eq!(from_i64(a) + from_i64(b), from_i64(a + b));
        }
    }
}
