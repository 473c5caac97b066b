//! Sumcheck of products, many at once (`proof.md` §D).
//!
//! Each instance claims that a product of one to three multilinear tables, summed over the cube, is a value.
//! Rounds fix variables from the most significant on; an instance of fewer variables joins in the last
//! rounds, so that its point is the **last** coordinates of the shared one.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

#[cfg(feature = "prove")]
mod prove;
#[cfg(test)]
#[cfg(feature = "prove")]
mod tests;

use crate::codec::{CodecError, Reader, Writer};
use crate::field::{E, F, FIELD_BITS, Field, PrimeCharacteristicRing, power_of_two};
use crate::transcript::Transcript;

#[cfg(feature = "prove")]
pub use prove::{Instance, Table, prove};

/// The most factors of a product.
pub const MAX_DEGREE: usize = 3;

/// The most variables of an instance.
pub const MAX_LOG: usize = 40;

/// What a verifier knows of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Variables: each factor has 2^log values.
    pub log: usize,
    /// Factors, 1 to [`MAX_DEGREE`].
    pub degree: usize,
}

/// What the prover sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SumcheckProof {
    /// Of each round, the batched round polynomial h at 0, 2, 3, ... up to the largest degree; h(1) follows
    /// from the claim.
    pub rounds: Vec<Vec<E>>,
    /// Of each instance, the values of its factors at its point.
    pub factors: Vec<Vec<E>>,
}

/// Of each instance, the claimed values of its factors at the last coordinates of the shared point.
pub type FactorValues = Vec<Vec<E>>;

/// Where a batch of sums ends: the shared point, and the factors there.
pub type Reduced = (Vec<E>, FactorValues);

/// Why a sumcheck fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SumcheckError {
    /// There is no instance.
    #[error("a sumcheck of no instance")]
    Empty,
    /// A shape is out of bounds, or tables are not what the shape says.
    #[error("instance {0} has an impossible shape")]
    Shape(usize),
    /// Not one claim an instance.
    #[error("{got} claims for {expected} instances")]
    Claims {
        /// Instances.
        expected: usize,
        /// Claims.
        got: usize,
    },
    /// Too few or too many rounds.
    #[error("{got} rounds where the variables are {expected}")]
    Rounds {
        /// Variables of the largest instance.
        expected: usize,
        /// Rounds in the proof.
        got: usize,
    },
    /// A round polynomial of another degree.
    #[error("round {round} has {got} values where the degree is {expected}")]
    Degree {
        /// The round.
        round: usize,
        /// The largest degree.
        expected: usize,
        /// Values in the proof.
        got: usize,
    },
    /// Factor values of another number.
    #[error("the final values are not one a factor")]
    Factors,
    /// The final values do not multiply to the last claim.
    #[error("the products of the final values are not the last claim")]
    Sum,
}

impl SumcheckProof {
    /// Reads a proof of exactly these shapes.
    pub fn read(reader: &mut Reader<'_>, shapes: &[Shape]) -> Result<Self, CodecError> {
        let (log, degree) = largest(shapes);
        let rounds = (0..log).map(|_| reader.extensions(degree)).collect::<Result<_, _>>()?;
        let factors = shapes.iter().map(|shape| reader.extensions(shape.degree)).collect::<Result<_, _>>()?;
        Ok(SumcheckProof { rounds, factors })
    }

    /// Writes what [`SumcheckProof::read`] reads.
    pub fn write(&self, writer: &mut Writer) {
        for elements in self.rounds.iter().chain(&self.factors) {
            writer.extensions(elements);
        }
    }
}

/// Variables and degree of a batch: the largest of each.
fn largest(shapes: &[Shape]) -> (usize, usize) {
    let log = shapes.iter().map(|shape| shape.log).max().unwrap_or(0);
    (log, shapes.iter().map(|shape| shape.degree).max().unwrap_or(0))
}

/// Checks shapes and claims, absorbs them, and draws the instances' coefficients: powers of one challenge.
pub(crate) fn begin(shapes: &[Shape], claims: &[E], t: &mut Transcript) -> Result<Vec<E>, SumcheckError> {
    if shapes.is_empty() {
        return Err(SumcheckError::Empty);
    }
    let bad = |shape: &Shape| shape.log > MAX_LOG || !(1..=MAX_DEGREE).contains(&shape.degree);
    if let Some(instance) = shapes.iter().position(bad) {
        return Err(SumcheckError::Shape(instance));
    }
    if claims.len() != shapes.len() {
        return Err(SumcheckError::Claims { expected: shapes.len(), got: claims.len() });
    }
    let sizes: Vec<u8> = shapes.iter().flat_map(|shape| [shape.log as u8, shape.degree as u8]).collect();
    t.absorb_bytes("sumcheck", &sizes);
    t.absorb(claims);
    Ok(t.draw().powers().take(shapes.len()).collect())
}

/// The polynomial with these values at 0, 1, 2, ... at `r`, by Newton's forward differences.
pub(crate) fn interpolate(values: &[E], r: E) -> E {
    let mut differences = values.to_vec();
    let mut binomial = E::ONE;
    let mut sum = E::ZERO;
    let mut order = F::ZERO;
    while let Some(first) = differences.first().copied() {
        sum += binomial * first;
        binomial *= (r - order) * (order + F::ONE).inverse();
        order += F::ONE;
        differences = differences.iter().zip(differences.iter().skip(1)).map(|(a, b)| *b - *a).collect();
    }
    sum
}

/// The values at 0, 1, 2, ... from a round's message and the claim, which is h(0) + h(1).
pub(crate) fn with_one(message: &[E], claim: E) -> Vec<E> {
    let mut values = message.to_vec();
    if let Some(zero) = message.first() {
        values.insert(1, claim - *zero);
    }
    values
}

/// Reduces claimed sums of products to claimed values of the factors at one point.
///
/// The caller has absorbed the commitments behind the factors; it must check every factor value that comes
/// back.
pub fn verify(
    shapes: &[Shape],
    claims: &[E],
    proof: &SumcheckProof,
    t: &mut Transcript,
) -> Result<Reduced, SumcheckError> {
    let coefficients = begin(shapes, claims, t)?;
    let (log, degree) = largest(shapes);
    if proof.rounds.len() != log {
        return Err(SumcheckError::Rounds { expected: log, got: proof.rounds.len() });
    }
    let counts = proof.factors.iter().map(Vec::len);
    if !counts.eq(shapes.iter().map(|shape| shape.degree)) {
        return Err(SumcheckError::Factors);
    }
    // An instance of fewer variables is constant in the others, so its sum counts 2^(log - own) times.
    let terms = shapes.iter().zip(claims).zip(&coefficients);
    let mut claim: E = terms.map(|((s, claim), c)| *c * *claim * power_of_two(log - s.log)).sum();
    let mut point = Vec::with_capacity(log);
    for (round, message) in proof.rounds.iter().enumerate() {
        if message.len() != degree {
            return Err(SumcheckError::Degree { round, expected: degree, got: message.len() });
        }
        t.absorb(message);
        let r = t.draw();
        claim = interpolate(&with_one(message, claim), r);
        point.push(r);
    }
    for values in &proof.factors {
        t.absorb(values);
    }
    let products = proof.factors.iter().map(|values| values.iter().copied().product::<E>());
    if products.zip(coefficients).map(|(product, c)| product * c).sum::<E>() != claim {
        return Err(SumcheckError::Sum);
    }
    Ok((point, proof.factors.clone()))
}

/// Bits of security against a false batch: every round errs with probability degree / |E|, the coefficients
/// with (instances - 1) / |E|.
pub fn error_bits(shapes: &[Shape]) -> f64 {
    let (log, degree) = largest(shapes);
    let events = log * degree + shapes.len().saturating_sub(1);
    FIELD_BITS - (events.max(1) as f64).log2()
}
