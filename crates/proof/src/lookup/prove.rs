//! The prover's side of the sum of fractions.
#![allow(clippy::indexing_slicing)] // tables of one's own making, checked to be of one size

use super::{GkrProof, Layer, LookupError, Reduced, begin, next_claim};
use crate::field::{E, F, Field, PrimeCharacteristicRing};
use crate::mle;
use crate::packed::{self, Table};
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

/// Numerators and denominators of one layer of the tree.
struct Fractions {
    numerators: Table,
    denominators: Table,
}

/// Stacks the blocks; the rest of the cube is 0/1.
fn stack(blocks: &[Block], log: usize) -> Result<Fractions, LookupError> {
    let mut numerators = Vec::with_capacity(1 << log);
    let mut denominators = Vec::with_capacity(1 << log);
    for (index, block) in blocks.iter().enumerate() {
        let length = 1 << block.log;
        match &block.numerators {
            Some(own) if own.len() != length => return Err(LookupError::Block(index)),
            Some(own) => numerators.extend(own.iter().map(|value| E::from(*value))),
            None => numerators.resize(numerators.len() + length, E::ONE),
        }
        if block.denominators.len() != length {
            return Err(LookupError::Block(index));
        }
        denominators.extend_from_slice(&block.denominators);
    }
    numerators.resize(1 << log, E::ZERO);
    denominators.resize(1 << log, E::ONE);
    Ok(Fractions { numerators: Table::new(numerators), denominators: Table::new(denominators) })
}

/// The fractions of the lower half plus those of the upper.
fn add<T: PrimeCharacteristicRing + Copy>(numerators: &[T], denominators: &[T]) -> (Vec<T>, Vec<T>) {
    let half = numerators.len() / 2;
    let (p0, p1) = numerators.split_at(half);
    let (q0, q1) = denominators.split_at(half);
    let sums = (0..half).map(|i| p0[i] * q1[i] + p1[i] * q0[i]).collect();
    (sums, q0.iter().zip(q1).map(|(a, b)| *a * *b).collect())
}

impl Fractions {
    fn half(&self) -> Fractions {
        let (numerators, denominators) = match (&self.numerators, &self.denominators) {
            (Table::Lanes(p), Table::Lanes(q)) => {
                let (p, q) = add(p, q);
                (Table::from_lanes(p), Table::from_lanes(q))
            }
            (p, q) => {
                let (p, q) = add(p.scalars().unwrap_or_default(), q.scalars().unwrap_or_default());
                (Table::Scalar(p), Table::Scalar(q))
            }
        };
        Fractions { numerators, denominators }
    }
}

/// The sums of a round: s(0) and the coefficient of X^2, weighted by `weights` over half a cube.
fn round<T: PrimeCharacteristicRing + Copy>([p0, p1, q0, q1]: [&[T]; 4], weights: &[T]) -> [T; 2] {
    let half = weights.len();
    let (mut constant, mut square) = (T::ZERO, T::ZERO);
    for i in 0..half {
        let j = i + half;
        constant += weights[i] * (p0[i] * q1[i] + q0[i] * p1[i]);
        square += weights[i] * ((p0[j] - p0[i]) * (q1[j] - q1[i]) + (q0[j] - q0[i]) * (p1[j] - p1[i]));
    }
    [constant, square]
}

/// The tables of one layer's sumcheck, of one length: p0, p1 + batch * q1, q0, q1.
struct Tables([Table; 4]);

impl Tables {
    fn round(&self, weights: &Table) -> [E; 2] {
        let [p0, p1, q0, q1] = &self.0;
        match (p0, p1, q0, q1, weights) {
            (
                Table::Lanes(p0),
                Table::Lanes(p1),
                Table::Lanes(q0),
                Table::Lanes(q1),
                Table::Lanes(weights),
            ) => round([p0, p1, q0, q1], weights).map(packed::sum),
            _ => round(
                [p0, p1, q0, q1].map(|table| table.scalars().unwrap_or_default()),
                weights.scalars().unwrap_or_default(),
            ),
        }
    }
}

/// The sumcheck of layer `index`, which shows the fractions at `above` from those of the layer below.
fn layer(fractions: Fractions, above: &Reduced, t: &mut Transcript) -> Result<(Layer, Vec<E>), LookupError> {
    let [p0, mut p1] = fractions.numerators.split();
    let [q0, q1] = fractions.denominators.split();
    let batch = if above.point.is_empty() { E::ZERO } else { t.draw() };
    p1.add_scaled(&q1, batch);
    let mut tables = Tables([p0, p1, q0, q1]);
    let mut claim = above.numerator + batch * above.denominator;
    let mut weights = above.point.split_first().map(|(_, rest)| Table::weights(mle::eq_table(rest)));
    let mut rounds = Vec::with_capacity(above.point.len());
    let mut point = Vec::with_capacity(above.point.len() + 1);
    for z in &above.point {
        let Some(weights) = &mut weights else { break };
        let [constant, square] = tables.round(weights);
        let linear = (claim - constant) * z.try_inverse().ok_or(LookupError::Challenge)? - square;
        t.absorb(&[linear, square]);
        let r = t.draw();
        claim = next_claim(claim, *z, linear, square, r);
        for table in &mut tables.0 {
            table.fold(r);
        }
        weights.sum_halves();
        rounds.push([linear, square]);
        point.push(r);
    }
    let [p0, p1, q0, q1] = tables.0.map(|table| table.value());
    let children = [p0, p1 - batch * q1, q0, q1];
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
        let root = [tree[0].numerators.value(), tree[0].denominators.value()];
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
