//! The prover's side of the sum of fractions.
#![allow(clippy::indexing_slicing)] // tables of one's own making, checked to be of one size

use p3_field::{Algebra, PackedValue};

use super::{GkrProof, Layer, LookupError, Reduced, begin, next_claim};
use crate::field::{E, F, Field, PrimeCharacteristicRing};
use crate::packed::{self, Bases, Table};
use crate::transcript::Transcript;

/// Fractions: 2^log numerators over as many denominators.
#[derive(Debug, Clone)]
pub struct Block {
    /// Variables.
    pub log: usize,
    /// The numerators; all 1 if there are none.
    pub numerators: Option<Vec<F>>,
    /// The denominators.
    pub denominators: Vec<E>,
}

/// Numerators: of the leaves over the base field, which makes half of all the work cheaper.
enum Numerators {
    Base(Vec<F>),
    Ext(Table),
}

/// One layer of the tree.
struct Fractions {
    numerators: Numerators,
    denominators: Table,
}

/// Stacks the blocks; the rest of the cube is 0/1.
fn stack(blocks: &[Block], log: usize) -> Result<Fractions, LookupError> {
    // Before anything of the claimed size is allocated.
    let fits = |log: usize, length: usize| length as u64 == 1 << log;
    let whole = |block: &Block| {
        fits(block.log, block.denominators.len())
            && block.numerators.as_ref().is_none_or(|own| fits(block.log, own.len()))
    };
    if let Some(index) = blocks.iter().position(|block| !whole(block)) {
        return Err(LookupError::Block(index));
    }
    let mut numerators = Vec::with_capacity(1 << log);
    let mut denominators = Vec::with_capacity(1 << log);
    for block in blocks {
        denominators.extend_from_slice(&block.denominators);
        match &block.numerators {
            Some(own) => numerators.extend_from_slice(own),
            None => numerators.resize(denominators.len(), F::ONE),
        }
    }
    numerators.resize(1 << log, F::ZERO);
    denominators.resize(1 << log, E::ONE);
    Ok(Fractions { numerators: Numerators::Base(numerators), denominators: Table::new(denominators) })
}

/// The fractions of the lower half plus those of the upper.
fn add<P, T>(numerators: &[P], denominators: &[T]) -> (Vec<T>, Vec<T>)
where
    P: PrimeCharacteristicRing + Copy,
    T: Algebra<P> + Copy,
{
    let (p0, p1) = numerators.split_at(numerators.len() / 2);
    let (q0, q1) = denominators.split_at(denominators.len() / 2);
    let sums = (0..q0.len()).map(|i| q1[i] * p0[i] + q0[i] * p1[i]).collect();
    (sums, q0.iter().zip(q1).map(|(a, b)| *a * *b).collect())
}

impl Fractions {
    /// The layer above.
    fn half(&self) -> Fractions {
        let lanes = |(p, q)| (Table::from_lanes(p), Table::from_lanes(q));
        let scalar = |(p, q)| (Table::Scalar(p), Table::Scalar(q));
        let (numerators, denominators) = match (&self.numerators, &self.denominators) {
            (Numerators::Base(p), Table::Lanes(q)) => lanes(add(Bases::pack_slice(p), q)),
            (Numerators::Base(p), Table::Scalar(q)) => scalar(add(p, q)),
            (Numerators::Ext(Table::Lanes(p)), Table::Lanes(q)) => lanes(add(p, q)),
            (Numerators::Ext(p), q) => {
                scalar(add(p.scalars().unwrap_or_default(), q.scalars().unwrap_or_default()))
            }
        };
        Fractions { numerators: Numerators::Ext(numerators), denominators }
    }
}

/// The sums of a round over half a cube, weighted: s(0) and the coefficient of X^2 of p0 q1 + q0 u.
fn sums<P, T>(p0: &[P], [u, q0, q1]: [&[T]; 3], weights: &[T]) -> [T; 2]
where
    P: PrimeCharacteristicRing + Copy,
    T: Algebra<P> + Copy,
{
    let half = weights.len();
    let (p0, dp0) = p0.split_at(half);
    let ((u, du), (q0, dq0), (q1, dq1)) = (u.split_at(half), q0.split_at(half), q1.split_at(half));
    let (mut constant, mut square) = (T::ZERO, T::ZERO);
    for i in 0..half {
        constant += weights[i] * (q1[i] * p0[i] + q0[i] * u[i]);
        square += weights[i] * ((dq1[i] - q1[i]) * (dp0[i] - p0[i]) + (dq0[i] - q0[i]) * (du[i] - u[i]));
    }
    [constant, square]
}

/// The tables of one layer's sumcheck, of one length, with u = p1 + batch * q1.
struct Tables {
    p0: Numerators,
    /// u, q0, q1.
    others: [Table; 3],
}

impl Tables {
    fn new(fractions: Fractions, batch: E) -> Self {
        let [q0, q1] = fractions.denominators.split();
        let (p0, u) = match fractions.numerators {
            Numerators::Base(mut p0) => {
                let p1 = p0.split_off(p0.len() / 2);
                (Numerators::Base(p0), q1.scaled_plus(batch, &p1))
            }
            Numerators::Ext(numerators) => {
                let [p0, mut u] = numerators.split();
                u.add_scaled(&q1, batch);
                (Numerators::Ext(p0), u)
            }
        };
        Tables { p0, others: [u, q0, q1] }
    }

    fn round(&self, weights: &Table) -> [E; 2] {
        let [u, q0, q1] = &self.others;
        if let (Table::Lanes(u), Table::Lanes(q0), Table::Lanes(q1), Table::Lanes(weights)) =
            (u, q0, q1, weights)
        {
            return match &self.p0 {
                Numerators::Base(p0) => sums(Bases::pack_slice(p0), [u, q0, q1], weights),
                Numerators::Ext(p0) => sums(p0.lanes().unwrap_or_default(), [u, q0, q1], weights),
            }
            .map(packed::sum);
        }
        let others = [u, q0, q1].map(|table| table.scalars().unwrap_or_default());
        let weights = weights.scalars().unwrap_or_default();
        match &self.p0 {
            Numerators::Base(p0) => sums(p0, others, weights),
            Numerators::Ext(p0) => sums(p0.scalars().unwrap_or_default(), others, weights),
        }
    }

    fn fold(&mut self, r: E) {
        match &mut self.p0 {
            Numerators::Base(p0) => self.p0 = Numerators::Ext(Table::fold_base(p0, r)),
            Numerators::Ext(p0) => p0.fold(r),
        }
        self.others.iter_mut().for_each(|table| table.fold(r));
    }

    /// p0, u, q0, q1 when no variable is left.
    fn values(&self) -> [E; 4] {
        let p0 = match &self.p0 {
            Numerators::Base(p0) => E::from(p0[0]),
            Numerators::Ext(p0) => p0.value(),
        };
        let [u, q0, q1] = &self.others;
        [p0, u.value(), q0.value(), q1.value()]
    }
}

/// The sumcheck of the layer above `fractions`, whose claims are at `above`.
fn layer(fractions: Fractions, above: &Reduced, t: &mut Transcript) -> Result<(Layer, Vec<E>), LookupError> {
    let batch = if above.point.is_empty() { E::ZERO } else { t.draw() };
    let mut tables = Tables::new(fractions, batch);
    let mut claim = above.numerator + batch * above.denominator;
    let mut weights = Table::weights(above.point.get(1..).unwrap_or_default());
    let mut rounds = Vec::with_capacity(above.point.len());
    let mut point = Vec::with_capacity(above.point.len() + 1);
    for z in &above.point {
        let [constant, square] = tables.round(&weights);
        // From claim = (1 - z) s(0) + z s(1).
        let linear = (claim - constant) * z.try_inverse().ok_or(LookupError::Challenge)? - square;
        t.absorb(&[linear, square]);
        let r = t.draw();
        claim = next_claim(claim, *z, linear, square, r);
        tables.fold(r);
        weights.sum_halves();
        rounds.push([linear, square]);
        point.push(r);
    }
    let [p0, u, q0, q1] = tables.values();
    let children = [p0, u - batch * q1, q0, q1];
    t.absorb(&children);
    Ok((Layer { rounds, children }, point))
}

/// Proves that all fractions sum to zero. Returns the proof and where it ends, as [`super::verify`] will.
///
/// # Errors
/// [`LookupError`] for sizes alone: a sum other than zero yields a proof that fails.
pub fn prove(blocks: &[Block], t: &mut Transcript) -> Result<(GkrProof, Reduced), LookupError> {
    let logs: Vec<usize> = blocks.iter().map(|block| block.log).collect();
    let log = begin(&logs, t)?;
    let mut tree = vec![stack(blocks, log)?];
    while tree.len() < log {
        let next = tree[tree.len() - 1].half();
        tree.push(next);
    }
    let mut proof = GkrProof { root: None, layers: Vec::with_capacity(log) };
    let mut reduced = Reduced { point: Vec::new(), numerator: E::ZERO, denominator: E::ONE };
    if log == 0 {
        let Some(Fractions { numerators: Numerators::Base(numerators), denominators }) = tree.first() else {
            return Err(LookupError::Root);
        };
        let root = [E::from(numerators[0]), denominators.value()];
        t.absorb(&root);
        proof.root = Some(root);
        [reduced.numerator, reduced.denominator] = root;
        return Ok((proof, reduced));
    }
    while let Some(fractions) = tree.pop() {
        let (layer, mut point) = layer(fractions, &reduced, t)?;
        let [p0, p1, q0, q1] = layer.children;
        let half = t.draw();
        point.insert(0, half);
        reduced = Reduced { point, numerator: p0 + half * (p1 - p0), denominator: q0 + half * (q1 - q0) };
        proof.layers.push(layer);
    }
    Ok((proof, reduced))
}
