//! The bytes of an opening (`proof.md` §C). Every count follows from the configuration but that of a Merkle
//! proof's digests, which depends on the queries; the values opened are the claims' own and are not sent.

use p3_merkle_tree::PrunedMerklePaths;
use p3_multilinear_util::poly::Poly;
use p3_whir::pcs::proof::SumcheckData;
use p3_whir::{QueryOpenings, RoundConfig, SharedProofOpening, WhirProof, WhirRoundProof};

use super::{Commitment, Config, Mmcs};
#[cfg(feature = "prove")]
use crate::codec::Writer;
use crate::codec::{CodecError, Reader};
use crate::field::{E, F};

pub(super) type Proof = WhirProof<F, E, Mmcs>;
type Openings = QueryOpenings<F, E, PrunedMerklePaths<u8, 32>>;

/// Writes a proof.
#[cfg(feature = "prove")]
pub(super) fn write(proof: &Proof) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.extensions(&proof.initial_ood_answers);
    write_sumcheck(&mut writer, &proof.initial_sumcheck);
    for round in &proof.rounds {
        for root in round.commitment.iter().flat_map(Commitment::roots) {
            writer.raw(root);
        }
        writer.extensions(&round.ood_answers);
        writer.base(round.pow_witness);
        write_openings(&mut writer, &round.openings);
        write_sumcheck(&mut writer, &round.sumcheck);
    }
    if let Some(poly) = &proof.final_poly {
        writer.extensions(poly.as_slice());
    }
    writer.base(proof.final_pow_witness);
    write_openings(&mut writer, &proof.final_openings);
    if let Some(sumcheck) = &proof.final_sumcheck {
        write_sumcheck(&mut writer, sumcheck);
    }
    writer.finish()
}

/// Reads a proof of exactly this configuration.
pub(super) fn read(bytes: &[u8], config: &Config) -> Result<Proof, CodecError> {
    let mut reader = Reader::new(bytes);
    let initial_ood_answers = reader.extensions(config.commitment_ood_samples())?;
    let folds = config.folding_schedule();
    let fold = |round: usize| folds.get(round).copied().unwrap_or(0);
    let initial_sumcheck = read_sumcheck(&mut reader, fold(0), config.starting_folding_pow_bits())?;
    let mut rounds = Vec::with_capacity(config.n_rounds());
    for (index, round) in config.round_parameters().iter().enumerate() {
        rounds.push(WhirRoundProof {
            commitment: Some(Commitment::new(vec![reader.array()?])),
            ood_answers: reader.extensions(round.ood_samples)?,
            pow_witness: reader.base()?,
            openings: read_openings(&mut reader, index, round)?,
            sumcheck: read_sumcheck(&mut reader, fold(index + 1), round.folding_pow_bits)?,
        });
    }
    let last = config.final_sumcheck_rounds();
    let final_poly = Some(Poly::new(reader.extensions(1 << last)?));
    let final_pow_witness = reader.base()?;
    let final_openings = read_openings(&mut reader, config.n_rounds(), &config.final_round_config())?;
    let final_sumcheck = match last {
        0 => None,
        _ => Some(read_sumcheck(&mut reader, last, config.final_folding_pow_bits())?),
    };
    reader.finish()?;
    Ok(Proof {
        initial_ood_answers,
        initial_sumcheck,
        rounds,
        final_poly,
        final_pow_witness,
        final_openings,
        final_sumcheck,
    })
}

#[cfg(feature = "prove")]
fn write_sumcheck(writer: &mut Writer, sumcheck: &SumcheckData<F, E>) {
    writer.extensions(sumcheck.polynomial_evaluations.as_flattened());
    writer.bases(&sumcheck.pow_witnesses);
}

fn read_sumcheck(
    reader: &mut Reader<'_>,
    rounds: usize,
    work: usize,
) -> Result<SumcheckData<F, E>, CodecError> {
    let polynomial_evaluations = reader.extensions(2 * rounds)?.as_chunks().0.to_vec();
    let pow_witnesses = reader.bases(if work > 0 { rounds } else { 0 })?;
    Ok(SumcheckData { polynomial_evaluations, pow_witnesses })
}

#[cfg(feature = "prove")]
fn write_openings(writer: &mut Writer, openings: &Openings) {
    let proof = match openings {
        QueryOpenings::Base(opening) => {
            opening.rows.iter().for_each(|row| writer.bases(row));
            &opening.proof
        }
        QueryOpenings::Extension(opening) => {
            opening.rows.iter().for_each(|row| writer.extensions(row));
            &opening.proof
        }
    };
    writer.count(proof.sibling_hashes.len());
    writer.raw(proof.sibling_hashes.as_flattened());
}

/// The rows that were queried, in the base field in the first round, and the digests beside their paths.
fn read_openings(
    reader: &mut Reader<'_>,
    round: usize,
    config: &RoundConfig,
) -> Result<Openings, CodecError> {
    let depth = config.log_folded_domain_size;
    // Where there are as many queries as rows, all rows are opened.
    let queries = config.num_queries.min(1 << depth);
    let width = 1 << config.folding_factor;
    if round == 0 {
        let rows = (0..queries).map(|_| reader.bases(width)).collect::<Result<_, _>>()?;
        let proof = read_paths(reader, queries, depth)?;
        Ok(QueryOpenings::Base(SharedProofOpening { rows, proof }))
    } else {
        let rows = (0..queries).map(|_| reader.extensions(width)).collect::<Result<_, _>>()?;
        let proof = read_paths(reader, queries, depth)?;
        Ok(QueryOpenings::Extension(SharedProofOpening { rows, proof }))
    }
}

fn read_paths(
    reader: &mut Reader<'_>,
    queries: usize,
    depth: usize,
) -> Result<PrunedMerklePaths<u8, 32>, CodecError> {
    let count = reader.count(queries * depth)?;
    let sibling_hashes = reader.take(32 * count)?.as_chunks().0.to_vec();
    Ok(PrunedMerklePaths { sibling_hashes })
}
