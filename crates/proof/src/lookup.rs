//! Sums of fractions by GKR, the way that lookups are proved (`proof.md` §E; logUp-GKR, ePrint 2023/1284).
//!
//! Blocks of fractions are stacked into one cube whose rest is 0/1. A tree of fraction additions over it ends
//! in one fraction; the argument shows that it is 0/d with d other than 0, and reduces that to the values of
//! the stacked numerators and denominators at one point. The tree halves the cube by its most significant
//! variable. The last denominator is the product of all, so no denominator vanishes.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

#[cfg(feature = "prove")]
mod prove;
#[cfg(test)]
#[cfg(feature = "prove")]
mod tests;

use crate::codec::{CodecError, Reader, Writer};
use crate::field::{E, FIELD_BITS, PrimeCharacteristicRing};
use crate::transcript::Transcript;

#[cfg(feature = "prove")]
pub use prove::{Block, prove};

/// The most variables of the cube of all fractions.
pub const MAX_LOG: usize = 40;

/// The most blocks.
pub const MAX_BLOCKS: usize = 1 << 20;

/// One layer of the tree, as the prover sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Of each round, the coefficients of X and X^2 of the round polynomial without its equality factor; the
    /// constant follows from the claim.
    pub rounds: Vec<[E; 2]>,
    /// The four values at the end: numerators of the lower and the upper half, then denominators.
    pub children: [E; 4],
}

/// What the prover sends: layers from the root on. A single fraction has no layer; it is the `root`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GkrProof {
    /// Numerator and denominator, if there is but one fraction.
    pub root: Option<[E; 2]>,
    /// Layer k has k rounds.
    pub layers: Vec<Layer>,
}

/// Why a sum of fractions is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LookupError {
    /// A block is larger than the one before, or there are too many or too large ones, or tables are not of
    /// its size.
    #[error("block {0} is out of order or has an impossible size")]
    Block(usize),
    /// Too few or too many layers, or coordinates of a point.
    #[error("{got} layers where the cube has {expected} variables")]
    Layers {
        /// Variables of the cube.
        expected: usize,
        /// Layers in the proof.
        got: usize,
    },
    /// Too few or too many rounds in a layer.
    #[error("layer {layer} has {got} rounds")]
    Rounds {
        /// The layer, which has as many rounds.
        layer: usize,
        /// Rounds in the proof.
        got: usize,
    },
    /// No single fraction where there is but one, or one where there are several.
    #[error("the proof does not say the single fraction, or says one of several")]
    Root,
    /// The sum of the fractions is not zero.
    #[error("the fractions do not sum to zero")]
    Sum,
    /// A denominator vanishes.
    #[error("a denominator is zero")]
    Denominator,
    /// The values at the end of a layer contradict its rounds.
    #[error("the end of layer {0} contradicts its rounds")]
    Layer(usize),
    /// A challenge was zero where the prover divides by it, which happens once in 2^154.
    #[error("a challenge was zero")]
    Challenge,
}

/// Where a sum of fractions ends: claims on the stacked tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reduced {
    /// The point; as many coordinates as the cube has variables.
    pub point: Vec<E>,
    /// The stacked numerators there.
    pub numerator: E,
    /// The stacked denominators there.
    pub denominator: E,
}

/// What part each block has in a stacked table's value at a point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// In the blocks' order, the weight of a block's place, and how many coordinates of the point come before
    /// its own.
    pub blocks: Vec<(E, usize)>,
    /// The weight of the places that no block fills: numerator 0, denominator 1.
    pub filler: E,
}

impl GkrProof {
    /// Reads a proof for blocks of these sizes.
    pub fn read(reader: &mut Reader<'_>, logs: &[usize]) -> Result<Self, CodecError> {
        // Sizes out of bounds have no layer here, and are an error of `verify`.
        let log = cube(logs).unwrap_or(0);
        let root = if log == 0 { Some([reader.extension()?, reader.extension()?]) } else { None };
        let mut layers = Vec::new();
        for layer in 0..log {
            let rounds = reader.extensions(2 * layer)?.as_chunks().0.to_vec();
            let mut children = [E::ZERO; 4];
            for child in &mut children {
                *child = reader.extension()?;
            }
            layers.push(Layer { rounds, children });
        }
        Ok(GkrProof { root, layers })
    }

    /// Writes what [`GkrProof::read`] reads.
    pub fn write(&self, writer: &mut Writer) {
        if let Some(root) = &self.root {
            writer.extensions(root);
        }
        for layer in &self.layers {
            writer.extensions(layer.rounds.as_flattened());
            writer.extensions(&layer.children);
        }
    }
}

/// Variables of the cube that holds blocks of these sizes.
///
/// # Errors
/// [`LookupError::Block`]: too many, too large, or not in descending order.
pub fn cube(logs: &[usize]) -> Result<usize, LookupError> {
    let mut before = MAX_LOG;
    let mut total = 0_u64;
    for (index, log) in logs.iter().enumerate() {
        // Descending sizes are what aligns every block to its own size.
        if *log > before || index >= MAX_BLOCKS {
            return Err(LookupError::Block(index));
        }
        before = *log;
        // Cannot overflow: at most 2^20 blocks of at most 2^40.
        total += 1 << log;
    }
    let log = total.next_power_of_two().ilog2() as usize;
    if log > MAX_LOG { Err(LookupError::Block(logs.len() - 1)) } else { Ok(log) }
}

/// Weights of the blocks' places at a point of the cube.
///
/// # Errors
/// As [`cube`]; [`LookupError::Layers`] if the point is not one of the cube's.
pub fn placement(logs: &[usize], point: &[E]) -> Result<Placement, LookupError> {
    let log = cube(logs)?;
    if point.len() != log {
        return Err(LookupError::Layers { expected: log, got: point.len() });
    }
    let mut start = 0_u64;
    let mut blocks = Vec::with_capacity(logs.len());
    for own in logs {
        let before = log - own;
        let place = start >> own;
        let bits = (0..before).rev().map(|bit| place >> bit & 1 == 1);
        let weight = point.iter().zip(bits).map(|(z, bit)| if bit { *z } else { E::ONE - *z }).product();
        blocks.push((weight, before));
        start += 1 << own;
    }
    let filler = E::ONE - blocks.iter().map(|(weight, _)| *weight).sum::<E>();
    Ok(Placement { blocks, filler })
}

/// Absorbs what is proved; the variables of the cube.
fn begin(logs: &[usize], t: &mut Transcript) -> Result<usize, LookupError> {
    let log = cube(logs)?;
    let sizes: Vec<u8> = logs.iter().map(|log| *log as u8).collect();
    t.absorb_bytes("fractions", &sizes);
    Ok(log)
}

/// Reduces "these fractions sum to zero, and no denominator vanishes" to claims on the stacked tables at one
/// point.
///
/// The caller has absorbed the commitments behind numerators and denominators; it must check both values that
/// come back, by [`placement`].
pub fn verify(logs: &[usize], proof: &GkrProof, t: &mut Transcript) -> Result<Reduced, LookupError> {
    let log = begin(logs, t)?;
    if proof.layers.len() != log {
        return Err(LookupError::Layers { expected: log, got: proof.layers.len() });
    }
    if proof.root.is_some() != (log == 0) {
        return Err(LookupError::Root);
    }
    let mut reduced = Reduced { point: Vec::new(), numerator: E::ZERO, denominator: E::ONE };
    if let Some([numerator, denominator]) = proof.root {
        t.absorb(&[numerator, denominator]);
        check_root(numerator, denominator)?;
        (reduced.numerator, reduced.denominator) = (numerator, denominator);
    }
    for (index, layer) in proof.layers.iter().enumerate() {
        let [p0, p1, q0, q1] = layer.children;
        if layer.rounds.len() != index {
            return Err(LookupError::Rounds { layer: index, got: layer.rounds.len() });
        }
        let mut point = Vec::with_capacity(log);
        if index == 0 {
            // The root's own fraction is what its children add up to.
            t.absorb(&layer.children);
            check_root(p0 * q1 + p1 * q0, q0 * q1)?;
        } else {
            let batch = t.draw();
            let mut claim = reduced.numerator + batch * reduced.denominator;
            for ([linear, square], z) in layer.rounds.iter().zip(&reduced.point) {
                t.absorb(&[*linear, *square]);
                let r = t.draw();
                claim = next_claim(claim, *z, *linear, *square, r);
                point.push(r);
            }
            t.absorb(&layer.children);
            if claim != p0 * q1 + q0 * (p1 + batch * q1) {
                return Err(LookupError::Layer(index));
            }
        }
        let half = t.draw();
        reduced.numerator = p0 + half * (p1 - p0);
        reduced.denominator = q0 + half * (q1 - q0);
        point.insert(0, half);
        reduced.point = point;
    }
    Ok(reduced)
}

/// The sum of all fractions must be zero, over a denominator that is not.
fn check_root(numerator: E, denominator: E) -> Result<(), LookupError> {
    if denominator == E::ZERO {
        return Err(LookupError::Denominator);
    }
    if numerator == E::ZERO { Ok(()) } else { Err(LookupError::Sum) }
}

/// The claim after a round. With s(X) = s(0) + linear X + square X^2, the claim is (1 - z) s(0) + z s(1),
/// which gives s(0) without a division; the next claim is s(r).
fn next_claim(claim: E, z: E, linear: E, square: E, r: E) -> E {
    claim - z * (linear + square) + r * (linear + r * square)
}

/// Bits of security against a false sum: in layer k the batching errs with probability 1/|E|, each of k
/// rounds with 2/|E|, the choice of a half with 1/|E|.
pub fn error_bits(logs: &[usize]) -> f64 {
    let log = cube(logs).unwrap_or(MAX_LOG);
    let events: usize = (0..log).map(|layer| 2 + 2 * layer).sum();
    FIELD_BITS - (events.max(1) as f64).log2()
}
