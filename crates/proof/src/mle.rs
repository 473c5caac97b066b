//! Multilinear extensions over the boolean cube (`proof.md` §A).
//!
//! A table of 2^n values stands for the polynomial in n variables that takes them on the cube,
//! **big-endian**: the first coordinate of a point belongs to the most significant bit of the index, so a
//! row-major tensor's first axis comes first.

use p3_field::{ExtensionField, PackedValue};
use p3_multilinear_util::point::Point;
use p3_multilinear_util::poly::{Poly, PolyView};

use crate::field::{E, F, Field, PrimeCharacteristicRing};

/// `eq(point, x)` for every x of the cube: 2^n weights whose sum is 1.
pub fn eq_table(point: &[E]) -> Vec<E> {
    if 1 << point.len() < <F as Field>::Packing::WIDTH {
        return Poly::new_from_point(point, E::ONE).into_evals();
    }
    Poly::<<E as ExtensionField<F>>::ExtensionPacking>::new_packed_from_point::<F, E>(point, E::ONE)
        .unpack::<F, E>()
        .into_evals()
}

/// `eq(a, b)`: 1 where two corners are the same and 0 where they differ, extended to points of equal length.
pub fn eq(a: &[E], b: &[E]) -> E {
    debug_assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| E::ONE - *a - *b + (*a * *b).double()).product()
}

/// The value at `point` of a table over the base field; the table has `2^point.len()` values.
///
/// # Panics
/// If the lengths disagree: a caller's mistake, never a matter of outside data.
pub fn evaluate_base(table: &[F], point: &[E]) -> E {
    assert_eq!(table.len(), 1 << point.len(), "a table of 2^n values and a point of n coordinates");
    PolyView::new(table).eval_base(&Point::new(point.to_vec()))
}

/// The value at `point` of a table over the extension; the table has `2^point.len()` values.
///
/// # Panics
/// If the lengths disagree: a caller's mistake, never a matter of outside data.
pub fn evaluate(table: &[E], point: &[E]) -> E {
    assert_eq!(table.len(), 1 << point.len(), "a table of 2^n values and a point of n coordinates");
    PolyView::new(table).eval_ext::<F>(&Point::new(point.to_vec()))
}

/// A base table of n variables with its first variables fixed at `point`: a matrix of 2^`point.len()` rows,
/// summed with the weights `eq(point, row)`.
///
/// # Panics
/// If the table has no 2^n values or the point more than n coordinates: a caller's mistake.
pub fn fix_first(table: &[F], point: &[E]) -> Vec<E> {
    PolyView::new(table).compress_prefix(&Point::new(point.to_vec()), E::ONE).into_evals()
}

/// A base table of n variables with its last variables fixed at `point`: every row of 2^`point.len()` values
/// evaluated there.
///
/// # Panics
/// As [`fix_first`].
pub fn fix_last(table: &[F], point: &[E]) -> Vec<E> {
    PolyView::new(table).compress_suffix(&Point::new(point.to_vec()), E::ONE).into_evals()
}

/// Fixes the most significant variable at `r`: half the table is left.
pub fn fold<T, R>(table: &mut Vec<T>, r: R)
where
    T: PrimeCharacteristicRing + Copy + core::ops::Mul<R, Output = T>,
    R: Copy,
{
    let half = table.len() / 2;
    let (low, high) = table.split_at_mut(half);
    for (low, high) in low.iter_mut().zip(high) {
        *low += (*high - *low) * r;
    }
    table.truncate(half);
}

/// The extension table of a base table with its most significant variable fixed at `r`.
pub fn fold_base(table: &[F], r: E) -> Vec<E> {
    let (low, high) = table.split_at(table.len() / 2);
    low.iter().zip(high).map(|(low, high)| r * (*high - *low) + *low).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn element() -> impl Strategy<Value = E> {
        use crate::field::BasedVectorSpace;
        any::<[u32; 5]>().prop_map(|limbs| E::from_basis_coefficients_fn(|i| F::from_u32(limbs[i])))
    }

    proptest! {
        #[test]
        fn evaluation_is_the_sum_over_the_cube(
            n in 0..9usize,
            values in prop::collection::vec(any::<u32>(), 512),
            point in prop::collection::vec(element(), 9),
        ) {
            let table: Vec<F> = values[..1 << n].iter().map(|value| F::from_u32(*value)).collect();
            let lifted: Vec<E> = table.iter().map(|value| E::from(*value)).collect();
            let point = &point[..n];
            let corner = |index: usize| -> Vec<E> {
                (0..n).map(|i| E::from_bool(index >> (n - 1 - i) & 1 == 1)).collect()
            };
            let terms = lifted.iter().enumerate();
            let sum: E = terms.map(|(index, value)| eq(point, &corner(index)) * *value).sum();
            prop_assert_eq!(evaluate_base(&table, point), sum);
            prop_assert_eq!(evaluate(&lifted, point), sum);
            let weights = eq_table(point);
            prop_assert_eq!(weights.iter().zip(&table).map(|(w, t)| *w * *t).sum::<E>(), sum);
            for cut in 0..=n {
                prop_assert_eq!(evaluate(&fix_first(&table, &point[..cut]), &point[cut..]), sum);
                prop_assert_eq!(evaluate(&fix_last(&table, &point[cut..]), &point[..cut]), sum);
            }
            let mut folded = lifted.clone();
            for (i, r) in point.iter().enumerate() {
                if i == 0 {
                    let mut once = lifted.clone();
                    fold(&mut once, *r);
                    prop_assert_eq!(&fold_base(&table, *r), &once);
                }
                fold(&mut folded, *r);
            }
            prop_assert_eq!(folded, vec![sum]);
        }
    }
}
