//! Tables of extension elements as vectors of lanes, for provers. The width is what the build's instruction
//! set has; one lane is the portable case and runs the same code.

use p3_field::{ExtensionField, PackedFieldExtension, PackedValue};
use p3_multilinear_util::poly::Poly;

use crate::field::{E, F, Field, PrimeCharacteristicRing};
use crate::mle;

/// Lanes of base elements.
pub(crate) type Bases = <F as Field>::Packing;

/// Lanes of extension elements.
pub(crate) type Lanes = <E as ExtensionField<F>>::ExtensionPacking;

/// How many lanes.
pub(crate) const WIDTH: usize = <Bases as PackedValue>::WIDTH;

/// A table over the extension, in lanes while it is long enough to be halved as such.
#[derive(Debug, Clone)]
pub(crate) enum Table {
    /// Entry `i` of lane `j` is the value of index `i * WIDTH + j`.
    Lanes(Vec<Lanes>),
    /// One by one.
    Scalar(Vec<E>),
}

impl Table {
    /// From values one by one.
    pub(crate) fn new(values: Vec<E>) -> Self {
        if values.len() < 2 * WIDTH {
            return Table::Scalar(values);
        }
        Table::Lanes(values.chunks_exact(WIDTH).map(Lanes::from_ext_slice).collect())
    }

    /// From lanes; one by one if they are too few to be halved.
    pub(crate) fn from_lanes(lanes: Vec<Lanes>) -> Self {
        if lanes.len() >= 2 {
            return Table::Lanes(lanes);
        }
        let mut values = vec![E::ZERO; lanes.len() * WIDTH];
        for (lane, to) in lanes.iter().zip(values.chunks_exact_mut(WIDTH)) {
            lane.to_ext_slice(to);
        }
        Table::Scalar(values)
    }

    /// From base values with the most significant variable fixed at `r`.
    pub(crate) fn fold_base(values: &[F], r: E) -> Self {
        if values.len() < 2 * WIDTH {
            return Table::Scalar(mle::fold_base(values, r));
        }
        let (low, high) = Bases::pack_slice(values).split_at(values.len() / WIDTH / 2);
        let r = Lanes::from(r);
        Table::from_lanes(low.iter().zip(high).map(|(low, high)| r * (*high - *low) + *low).collect())
    }

    /// `eq(point, x)` for every x, alike with tables of twice the length.
    pub(crate) fn weights(point: &[E]) -> Self {
        if 1 << point.len() < WIDTH {
            return Table::Scalar(mle::eq_table(point));
        }
        Table::Lanes(Poly::<Lanes>::new_packed_from_point::<F, E>(point, E::ONE).into_evals())
    }

    /// The sum of the halves: the same weights with one variable less.
    pub(crate) fn sum_halves(&mut self) {
        if let Table::Lanes(lanes) = self {
            if lanes.len() >= 2 {
                return add_halves(lanes);
            }
            *self = Table::from_lanes(core::mem::take(lanes));
        }
        if let Table::Scalar(values) = self {
            add_halves(values);
        }
    }

    /// The lower and the upper half of at least two values.
    pub(crate) fn split(self) -> [Self; 2] {
        match self {
            Table::Scalar(mut low) => {
                let high = low.split_off(low.len() / 2);
                [Table::Scalar(low), Table::Scalar(high)]
            }
            Table::Lanes(mut low) => {
                let high = low.split_off(low.len() / 2);
                [Table::from_lanes(low), Table::from_lanes(high)]
            }
        }
    }

    /// Adds `scale` times another table of the same length.
    pub(crate) fn add_scaled(&mut self, other: &Self, scale: E) {
        match (self, other) {
            (Table::Lanes(own), Table::Lanes(other)) => {
                let scale = Lanes::from(scale);
                own.iter_mut().zip(other).for_each(|(own, other)| *own += *other * scale);
            }
            (Table::Scalar(own), Table::Scalar(other)) => {
                own.iter_mut().zip(other).for_each(|(own, other)| *own += *other * scale);
            }
            // Tables of one length are alike.
            _ => (),
        }
    }

    /// `scale` times itself plus base values, as many.
    pub(crate) fn scaled_plus(&self, scale: E, bases: &[F]) -> Self {
        match self {
            Table::Lanes(own) => {
                let scale = Lanes::from(scale);
                Table::Lanes(
                    own.iter()
                        .zip(Bases::pack_slice(bases))
                        .map(|(own, base)| scale * *own + *base)
                        .collect(),
                )
            }
            Table::Scalar(own) => {
                Table::Scalar(own.iter().zip(bases).map(|(own, base)| scale * *own + *base).collect())
            }
        }
    }

    /// Fixes the most significant variable at `r`.
    pub(crate) fn fold(&mut self, r: E) {
        match self {
            Table::Scalar(values) => mle::fold(values, r),
            Table::Lanes(lanes) => {
                mle::fold(lanes, Lanes::from(r));
                if lanes.len() < 2 {
                    *self = Table::from_lanes(core::mem::take(lanes));
                }
            }
        }
    }

    /// The lanes, if it is in lanes.
    pub(crate) fn lanes(&self) -> Option<&[Lanes]> {
        match self {
            Table::Lanes(lanes) => Some(lanes),
            Table::Scalar(_) => None,
        }
    }

    /// The values, if they are one by one.
    pub(crate) fn scalars(&self) -> Option<&[E]> {
        match self {
            Table::Lanes(_) => None,
            Table::Scalar(values) => Some(values),
        }
    }

    /// The only value of a table of no variables.
    pub(crate) fn value(&self) -> E {
        match self {
            Table::Scalar(values) => values.first().copied().unwrap_or_default(),
            Table::Lanes(_) => E::ZERO,
        }
    }
}

/// Replaces a table by the sum of its halves.
fn add_halves<T: PrimeCharacteristicRing + Copy>(values: &mut Vec<T>) {
    let half = values.len() / 2;
    let (low, high) = values.split_at_mut(half);
    low.iter_mut().zip(high).for_each(|(low, high)| *low += *high);
    values.truncate(half);
}

/// The sum over the lanes.
pub(crate) fn sum(lanes: Lanes) -> E {
    (0..WIDTH).map(|lane| lanes.extract(lane)).sum()
}
