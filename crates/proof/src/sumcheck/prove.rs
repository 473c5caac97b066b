//! The prover's side of the sumcheck.
#![allow(clippy::indexing_slicing)] // tables of one's own making, checked to be of one size

use core::array;

use p3_field::{Algebra, PackedValue};

use super::{
    FactorValues, MAX_DEGREE, Shape, SumcheckError, SumcheckProof, begin, interpolate, largest, with_one,
};
use crate::field::{E, F, PrimeCharacteristicRing, power_of_two};
use crate::packed::{self, Bases, Lanes, WIDTH};
use crate::transcript::Transcript;

/// The values of one factor over the cube.
#[derive(Debug, Clone)]
pub enum Table {
    /// Over the base field.
    Base(Vec<F>),
    /// Over the extension.
    Ext(Vec<E>),
}

impl Table {
    /// How many values.
    pub fn len(&self) -> usize {
        match self {
            Table::Base(values) => values.len(),
            Table::Ext(values) => values.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A product to be summed: 1 to 3 factors of one length 2^n.
#[derive(Debug, Clone)]
pub struct Instance {
    /// The factors.
    pub factors: Vec<Table>,
}

impl Instance {
    /// What a verifier knows of it; `None` if lengths differ or are no power of two.
    pub fn shape(&self) -> Option<Shape> {
        let length = self.factors.first()?.len();
        let same = self.factors.iter().all(|factor| factor.len() == length);
        (same && length.is_power_of_two())
            .then(|| Shape { log: length.ilog2() as usize, degree: self.factors.len() })
    }
}

/// An instance under way.
struct State {
    shape: Shape,
    /// The sum over what is left of the cube.
    sum: E,
    /// Factors over the base field, as long as no variable is fixed.
    bases: Vec<(usize, Vec<F>)>,
    /// The other factors, with their places.
    tables: Vec<(usize, packed::Table)>,
}

/// Sums of products over half a cube with its first variable at 0, 2, 3, ...: `B` base factors and `X`
/// others.
fn products<P, T, const B: usize, const X: usize>(bases: &[&[P]], tables: &[&[T]]) -> [T; MAX_DEGREE]
where
    P: PrimeCharacteristicRing + Copy,
    T: Algebra<P> + Copy,
{
    let bases: [&[P]; B] = array::from_fn(|i| bases[i]);
    let tables: [&[T]; X] = array::from_fn(|i| tables[i]);
    let length = if X > 0 { tables[0].len() } else { bases[0].len() } / 2;
    let bases = bases.map(|base| base.split_at(length));
    let tables = tables.map(|table| table.split_at(length));
    let mut sums = [T::ZERO; MAX_DEGREE];
    let mut base_sums = [P::ZERO; MAX_DEGREE];
    for row in 0..length {
        let mut base: [P; B] = array::from_fn(|i| bases[i].0[row]);
        let mut table: [T; X] = array::from_fn(|i| tables[i].0[row]);
        let base_step: [P; B] = array::from_fn(|i| bases[i].1[row] - base[i]);
        let table_step: [T; X] = array::from_fn(|i| tables[i].1[row] - table[i]);
        for at in 0..B + X {
            if at > 0 {
                // From 0 to 2, then on by one: 1 is what the claim implies.
                for i in 0..B {
                    base[i] += if at == 1 { base_step[i].double() } else { base_step[i] };
                }
                for i in 0..X {
                    table[i] += if at == 1 { table_step[i].double() } else { table_step[i] };
                }
            }
            let product = base.iter().skip(1).fold(if B > 0 { base[0] } else { P::ONE }, |a, b| a * *b);
            if X == 0 {
                base_sums[at] += product;
            } else {
                let others = table.iter().skip(1).fold(table[0], |a, b| a * *b);
                sums[at] += if B > 0 { others * product } else { others };
            }
        }
    }
    array::from_fn(|at| if X == 0 { T::from(base_sums[at]) } else { sums[at] })
}

/// [`products`] of whatever is there.
fn dispatch<P, T>(bases: &[&[P]], tables: &[&[T]]) -> [T; MAX_DEGREE]
where
    P: PrimeCharacteristicRing + Copy,
    T: Algebra<P> + Copy,
{
    match (bases.len(), tables.len()) {
        (1, 0) => products::<P, T, 1, 0>(bases, tables),
        (2, 0) => products::<P, T, 2, 0>(bases, tables),
        (3, 0) => products::<P, T, 3, 0>(bases, tables),
        (0, 1) => products::<P, T, 0, 1>(bases, tables),
        (1, 1) => products::<P, T, 1, 1>(bases, tables),
        (2, 1) => products::<P, T, 2, 1>(bases, tables),
        (0, 2) => products::<P, T, 0, 2>(bases, tables),
        (1, 2) => products::<P, T, 1, 2>(bases, tables),
        (0, 3) => products::<P, T, 0, 3>(bases, tables),
        _ => [T::ZERO; MAX_DEGREE],
    }
}

impl State {
    fn new(instance: Instance, shape: Shape, sum: E) -> Self {
        let mut state = State { shape, sum, bases: Vec::new(), tables: Vec::new() };
        for (place, factor) in instance.factors.into_iter().enumerate() {
            match factor {
                Table::Base(values) => state.bases.push((place, values)),
                Table::Ext(values) => state.tables.push((place, packed::Table::new(values))),
            }
        }
        state
    }

    /// The round polynomial at 0, 1, 2, ... of its own degree.
    fn round(&self) -> Vec<E> {
        let lanes: Vec<&[Lanes]> = self.tables.iter().filter_map(|(_, table)| table.lanes()).collect();
        let long = self.bases.first().is_none_or(|(_, base)| base.len() >= 2 * WIDTH);
        let message = if lanes.len() == self.tables.len() && long {
            let bases: Vec<&[Bases]> = self.bases.iter().map(|(_, base)| Bases::pack_slice(base)).collect();
            dispatch(&bases, &lanes).map(packed::sum)
        } else {
            let bases: Vec<&[F]> = self.bases.iter().map(|(_, base)| base.as_slice()).collect();
            let tables: Vec<&[E]> = self.tables.iter().filter_map(|(_, table)| table.scalars()).collect();
            dispatch(&bases, &tables)
        };
        with_one(&message[..self.shape.degree], self.sum)
    }

    fn fold(&mut self, r: E) {
        for (_, table) in &mut self.tables {
            table.fold(r);
        }
        for (place, base) in core::mem::take(&mut self.bases) {
            self.tables.push((place, packed::Table::fold_base(&base, r)));
        }
    }

    fn values(&self) -> Vec<E> {
        let mut values = vec![E::ZERO; self.shape.degree];
        for (place, table) in &self.tables {
            values[*place] = table.value();
        }
        for (place, base) in &self.bases {
            values[*place] = E::from(base[0]);
        }
        values
    }
}

/// Proves that each instance's product sums to its claim. Returns the proof, the shared point and the
/// factors' values there, as [`super::verify`] will.
///
/// # Errors
/// [`SumcheckError`] for shapes and counts alone: a false claim yields a proof that fails.
pub fn prove(
    instances: Vec<Instance>,
    claims: &[E],
    t: &mut Transcript,
) -> Result<(SumcheckProof, Vec<E>, FactorValues), SumcheckError> {
    let shapes = instances.iter().enumerate();
    let shapes: Vec<Shape> = shapes
        .map(|(index, instance)| instance.shape().ok_or(SumcheckError::Shape(index)))
        .collect::<Result<_, _>>()?;
    let coefficients = begin(&shapes, claims, t)?;
    let (log, degree) = largest(&shapes);
    let states = instances.into_iter().zip(&shapes).zip(claims);
    let mut states: Vec<State> =
        states.map(|((instance, shape), claim)| State::new(instance, *shape, *claim)).collect();
    let mut rounds = Vec::with_capacity(log);
    let mut point = Vec::with_capacity(log);
    for left in (0..log).rev() {
        let mut batched = vec![E::ZERO; degree + 1];
        let mut own = Vec::with_capacity(states.len());
        for (state, coefficient) in states.iter().zip(&coefficients) {
            let values = if state.shape.log > left {
                state.round()
            } else {
                vec![state.sum * power_of_two(left - state.shape.log)]
            };
            for (at, batched) in batched.iter_mut().enumerate() {
                let value = match values.get(at) {
                    Some(value) => *value,
                    None => interpolate(&values, E::from_usize(at)),
                };
                *batched += *coefficient * value;
            }
            own.push(values);
        }
        // h(1) follows from the claim.
        let _ = batched.remove(1);
        t.absorb(&batched);
        let r = t.draw();
        for (state, values) in states.iter_mut().zip(own) {
            if state.shape.log > left {
                state.sum = interpolate(&values, r);
                state.fold(r);
            }
        }
        rounds.push(batched);
        point.push(r);
    }
    let factors: Vec<Vec<E>> = states.iter().map(State::values).collect();
    for values in &factors {
        t.absorb(values);
    }
    Ok((SumcheckProof { rounds, factors: factors.clone() }, point, factors))
}
