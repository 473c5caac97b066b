//! Multipliers and shifts (`quantised.md` §3.3).

use crate::ops::quantised::MAX_MULTIPLIER;

/// What every product of Requantize stays below, half a unit included: half the field's characteristic, rounded down.
pub const LIMIT: i64 = (1 << 30) - (1 << 24);
/// The shift that is tried first.
const FIRST: u32 = 16;
/// The greatest shift.
const MOST: u32 = 30;
/// Below this a multiplier is coarse.
const FINE: i32 = 16;

/// Rounding of a multiplier to an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Toward {
    /// Upwards: what is multiplied may be made smaller.
    Up,
    /// Downwards: the result's scale may be made greater.
    Down,
    /// To the nearest.
    Nearest,
}

/// A shift, its multipliers, and what `fits` made of them.
pub(super) struct Choice<T> {
    pub shift: u32,
    pub multipliers: Vec<i32>,
    pub made: T,
}

/// The shift for the real factors `ideal`: the greatest up to 16 with which multipliers are at most 32768 and `fits` makes something; if most
/// multipliers are coarse there, greater ones as long as that holds.
pub(super) fn choose<T>(
    ideal: &[f64],
    toward: Toward,
    mut fits: impl FnMut(u32, &[i32]) -> Option<T>,
) -> Option<Choice<T>> {
    let mut attempt = |shift: u32| {
        let multipliers = multipliers(ideal, shift, toward)?;
        let made = fits(shift, &multipliers)?;
        Some(Choice { shift, multipliers, made })
    };
    let fine = |choice: &Choice<T>| {
        2 * choice.multipliers.iter().filter(|m| **m >= FINE).count() >= choice.multipliers.len()
    };
    let mut best = (1..=FIRST).rev().find_map(&mut attempt)?;
    while best.shift >= FIRST && best.shift < MOST && !fine(&best) {
        let Some(next) = attempt(best.shift + 1) else { break };
        best = next;
    }
    Some(best)
}

fn multipliers(ideal: &[f64], shift: u32, toward: Toward) -> Option<Vec<i32>> {
    let unit = f64::from(1_u32 << shift);
    let one = |x: &f64| {
        let exact = x * unit;
        let whole = match toward {
            Toward::Up => exact.ceil(),
            Toward::Down => exact.floor(),
            Toward::Nearest => exact.round(),
        };
        // Also refuses NaN.
        (whole <= f64::from(MAX_MULTIPLIER)).then_some(whole.max(1.0) as i32)
    };
    ideal.iter().map(one).collect()
}

/// The greatest promise of Requantize.
const MAX_BITS: u32 = 24;

/// Whether `bound` (a magnitude) times `multiplier`, and the half unit of `shift`, stay below [`LIMIT`], and what is left within the greatest
/// promise.
pub fn product_fits(bound: i64, multiplier: i32, shift: u32) -> bool {
    bound
        .checked_mul(multiplier.into())
        .and_then(|product| product.checked_add(1 << (shift - 1)))
        .is_some_and(|product| product < LIMIT && bits(bound, multiplier, shift) <= MAX_BITS)
}

/// The least b of Requantize's promise: results of magnitudes up to `bound`, times `multiplier`, lie in [-2^b, 2^b) before the clamp.
pub fn bits(bound: i64, multiplier: i32, shift: u32) -> u32 {
    let most = bound.saturating_mul(multiplier.into()).saturating_add(1 << (shift - 1)) >> shift;
    (64 - most.leading_zeros()).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sixteen_where_it_fits_less_where_not_more_where_coarse() {
        let fits = |limit: i64| {
            move |shift: u32, m: &[i32]| m.iter().all(|m| product_fits(limit, *m, shift)).then_some(())
        };
        let choose =
            |ideal: &[f64], limit| choose(ideal, Toward::Up, fits(limit)).map(|c| (c.shift, c.multipliers));
        assert_eq!(choose(&[0.001], 1000), Some((16, vec![66])));
        assert_eq!(choose(&[0.9], 1000), Some((15, vec![29_492])));
        assert_eq!(choose(&[0.001], 1 << 25), Some((14, vec![17])));
        assert_eq!(choose(&[1e-5], 1000), Some((21, vec![21])));
        assert_eq!(choose(&[1e-5, 1e-3], 1000), Some((16, vec![1, 66])));
        assert_eq!(choose(&[40_000.0], 1), None);
        assert_eq!(choose(&[f64::NAN], 1), None);
    }

    proptest! {
        #[test]
        fn bits_are_the_least_that_hold(bound in 0..1_i64 << 30, m in 1..=32_768_i32, shift in 1..=30_u32) {
            let b = bits(bound, m, shift);
            for x in [bound, -bound] {
                let y = (x * i64::from(m) + (1 << (shift - 1))) >> shift;
                prop_assert!((-(1_i64 << b)..1 << b).contains(&y));
            }
            let most = (bound * i64::from(m) + (1 << (shift - 1))) >> shift;
            prop_assert!(b == 1 || most >= 1 << (b - 1));
        }
    }
}
