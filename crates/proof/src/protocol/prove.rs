//! The prover (`spec/proof.md` §5). It says the same things in the same order as the verifier reads them.

use std::sync::Arc;

use hallmark_model::quantise::{BoundError, bounds};
use hallmark_receipt::Tensor;

use super::verify::term_log;
use super::{Ledger, Part, Plan, Proof, Statement, Weight, operand_points, pick, product_shape};
use crate::circuit::{Circuit, Contraction, Outputs, Term, View};
use crate::field::{E, F, PrimeCharacteristicRing, from_i64};
use crate::lookup::{self, Block, LookupError};
use crate::pcs::{Pcs, PcsError, Root};
use crate::sumcheck::{self, Instance, SumcheckError, Table};
use crate::witness::{Roles, Witness, WitnessError, axes, gather};
use crate::{mle, witness};

/// Why there is no proof.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum ProveError {
    #[error(transparent)]
    Witness(#[from] WitnessError),
    #[error("the model cannot be committed to: {0}")]
    Bounds(#[from] BoundError),
    #[error(transparent)]
    Pcs(#[from] PcsError),
    #[error(transparent)]
    Lookup(#[from] LookupError),
    #[error(transparent)]
    Sumcheck(#[from] SumcheckError),
    #[error("{claims} claims and {requests} requests")]
    Requests { claims: usize, requests: usize },
}

/// A model's weights, committed to: what a prover keeps of a model.
#[derive(Debug)]
pub struct Committed<P: Pcs> {
    /// The commitment.
    pub root: Root,
    /// What opens it.
    pub data: P::Data,
    /// The integers of its columns, by column of the circuit.
    pub integers: Vec<Vec<i32>>,
    /// The same as field elements.
    pub elements: Vec<Vec<F>>,
}

impl<P: Pcs> Committed<P> {
    /// Commits to the weights of `graph`, whose circuit (for any requests) is `circuit`.
    ///
    /// # Errors
    /// Weights that are not the circuit's, or too many; integers that could leave the field (`quantised.md` §4).
    pub fn new(pcs: &P, circuit: &Circuit, graph: &hallmark_model::graph::Graph) -> Result<Self, ProveError> {
        let integers = witness::constants(circuit, graph)?;
        let mut core = circuit.core.clone();
        core.captures.clear();
        core.constants.extend(graph.constants.iter().map(|(id, tensor)| (*id, Arc::clone(tensor))));
        bounds(&core)?;
        let elements: Vec<Vec<F>> = integers.iter().map(|column| to_field(column)).collect();
        let columns = circuit.part(true).map(|id| elements[id.0].clone()).collect();
        let (root, data) = pcs.commit(columns)?;
        Ok(Self { root, data, integers, elements })
    }
}

pub(crate) fn to_field(column: &[i32]) -> Vec<F> {
    column.iter().map(|&v| from_i64(v.into())).collect()
}

/// A stage of proving, for progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Stage {
    Witness,
    Commit,
    Lookups,
    Products,
    Views,
    OpenWitness,
    OpenModel,
}

/// Proves `statement` for the requests' core inputs. Returns the proof's bytes and the witness.
///
/// # Errors
/// See [`ProveError`]. `stage` is told when a stage begins.
pub fn prove<P: Pcs>(
    pcs: &P,
    circuit: &Circuit,
    statement: &Statement,
    model: &Committed<P>,
    requests: &[Vec<Tensor>],
    stage: &mut dyn FnMut(Stage),
) -> Result<(Vec<u8>, Witness), ProveError> {
    stage(Stage::Witness);
    let witness = Witness::new(circuit, &model.integers, requests)?;
    let proof = prove_witness(pcs, circuit, statement, model, &witness, stage)?;
    Ok((proof.encode(), witness))
}

/// [`prove`] for a witness that was made before.
///
/// # Errors
/// See [`ProveError`]. A witness that does not satisfy the circuit gives a proof that fails.
pub fn prove_witness<P: Pcs>(
    pcs: &P,
    circuit: &Circuit,
    statement: &Statement,
    model: &Committed<P>,
    witness: &Witness,
    stage: &mut dyn FnMut(Stage),
) -> Result<Proof, ProveError> {
    if statement.claims.len() != circuit.requests {
        return Err(ProveError::Requests { claims: statement.claims.len(), requests: circuit.requests });
    }
    stage(Stage::Commit);
    let plan = Plan::new(circuit);
    let multiplicities: Vec<Vec<F>> =
        witness.multiplicities.iter().map(|m| m.iter().map(|&n| F::from_u32(n)).collect()).collect();
    let mut columns = model.elements.clone();
    for id in circuit.part(false) {
        columns[id.0] = to_field(&witness.columns[id.0]);
    }
    let committed = circuit.part(false).map(|id| columns[id.0].clone()).chain(multiplicities.iter().cloned());
    let (root, data) = pcs.commit(committed.collect())?;
    let mut t = statement.begin(circuit, pcs.setting());
    t.absorb_bytes("witness", &root.0);
    let mut ledger = Ledger::default();

    let row_point = t.draw_point(plan.row_log());
    let mut rows = Vec::new();
    for (id, _, _) in plan.interface() {
        let log = circuit.column(id).shape.log() - plan.request_log();
        let point = &row_point[row_point.len() - log..];
        let each = columns[id.0].chunks_exact(1 << log).take(circuit.requests);
        let row: Vec<E> = each.map(|row| mle::evaluate_base(row, point)).collect();
        t.absorb(&row);
        rows.push(row);
    }
    let request_point = t.draw_point(plan.request_log());
    ledger.push_rows(&plan, &rows, &row_point, &request_point);

    stage(Stage::Lookups);
    let (alpha, beta) = (t.draw(), t.draw());
    let blocks = blocks(&plan, witness, &multiplicities, alpha, beta);
    let (fractions, reduced) = lookup::prove(&blocks, &mut t)?;
    drop(blocks);
    let zero_point = t.draw_point(plan.zero_log());
    let at = |log: usize| &reduced.point[reduced.point.len() - log..];
    let tables: Vec<(Vec<E>, E)> = circuit
        .tables
        .iter()
        .zip(&multiplicities)
        .map(|(table, m)| (at(table.log).to_vec(), mle::evaluate_base(m, at(table.log))))
        .collect();

    stage(Stage::Products);
    let mut values = Vec::with_capacity(plan.terms.len());
    let mut points = Vec::with_capacity(plan.terms.len());
    let mut instances = Vec::new();
    for (term, place) in &plan.terms {
        let point = plan.point((term_log(circuit, term), *place), &reduced.point, &zero_point);
        values.push(match term {
            Term::View(view) => view_value(&columns, view, &point),
            Term::Contraction(c) => {
                let (instance, value) = product(&columns, c, &point);
                instances.push(instance);
                value
            }
        });
        if let (Term::View(view), Some(value)) = (term, values.last()) {
            ledger.push(view, point.clone(), *value);
        }
        points.push(point);
    }
    let evaluations: Vec<E> = tables.iter().map(|(_, value)| *value).collect();
    t.absorb(&evaluations);
    t.absorb(&values);
    let mut products = None;
    if !instances.is_empty() {
        let claims: Vec<E> = plan.contractions().map(|(index, _)| values[index]).collect();
        let (proof, shared, factors) = sumcheck::prove(instances, &claims, &mut t)?;
        for ((index, c), values) in plan.contractions().zip(factors) {
            let bound = &shared[shared.len() - product_shape(c).log..];
            let [left, right] = operand_points(c, &points[index], bound);
            ledger.push(&c.left, left, values[0]);
            ledger.push(&c.right, right, values[1]);
        }
        products = Some(proof);
    }

    stage(Stage::Views);
    let mut views = None;
    let viewed = ledger.take_viewed();
    if !viewed.is_empty() {
        let gamma = t.draw();
        let mut instances = Vec::with_capacity(viewed.len());
        let mut claims = Vec::with_capacity(viewed.len());
        for (id, list) in &viewed {
            claims.push(list.iter().zip(gamma.powers()).map(|((_, value), c)| *value * c).sum());
            let weights = batch_weights(list, gamma);
            instances
                .push(Instance { factors: vec![Table::Ext(weights), Table::Base(columns[id.0].clone())] });
        }
        let (proof, shared, factors) = sumcheck::prove(instances, &claims, &mut t)?;
        for ((id, _), values) in viewed.iter().zip(factors) {
            let point = shared[shared.len() - circuit.column(*id).shape.log()..].to_vec();
            ledger.push(&View { column: *id, map: None }, point, values[1]);
        }
        views = Some(proof);
    }

    let [witness_claims, model_claims] = ledger.openings(circuit, tables);
    stage(Stage::OpenWitness);
    let witness_opening = pcs.open(&data, &witness_claims, &mut t)?;
    stage(Stage::OpenModel);
    let model_opening = pcs.open(&model.data, &model_claims, &mut t)?;
    Ok(Proof {
        witness: root,
        rows,
        fractions,
        multiplicities: evaluations,
        terms: values,
        products,
        views,
        openings: [witness_opening, model_opening],
    })
}

/// The fractions of all lookups and tables. A lookup's denominators are those of the rows that it reads.
pub(crate) fn blocks(
    plan: &Plan<'_>,
    witness: &Witness,
    multiplicities: &[Vec<F>],
    alpha: E,
    beta: E,
) -> Vec<Block> {
    let tables: Vec<Vec<E>> = plan
        .circuit
        .tables
        .iter()
        .enumerate()
        .map(|(index, table)| {
            let tag = alpha - beta * beta * E::from(F::from_usize(index));
            (0..table.rows() as i64)
                .map(|row| {
                    let input = table.start + row;
                    let output = match table.outputs {
                        Outputs::None => 0,
                        Outputs::Column { column, .. } => witness.columns[column.0][row as usize].into(),
                        _ => table.output(input).unwrap_or(0),
                    };
                    tag - E::from(from_i64(input)) - beta * from_i64(output)
                })
                .collect()
        })
        .collect();
    let block = |part: &Part| match part {
        Part::Lookup(index) => {
            let table = &tables[plan.circuit.lookups[*index].table.0];
            let denominators: Vec<E> = witness.rows[*index].iter().map(|&row| table[row as usize]).collect();
            Block { log: denominators.len().ilog2() as usize, numerators: None, denominators }
        }
        Part::Table(index) => Block {
            log: plan.circuit.tables[*index].log,
            numerators: Some(multiplicities[*index].iter().map(|&m| -m).collect()),
            denominators: tables[*index].clone(),
        },
    };
    plan.parts.iter().map(block).collect()
}

pub(crate) fn view_value(columns: &[Vec<F>], view: &View, point: &[E]) -> E {
    match &view.map {
        None => mle::evaluate_base(&columns[view.column.0], point),
        Some(map) => mle::evaluate_base(&map.apply(&columns[view.column.0]), point),
    }
}

/// The sum that a claim on a contraction reduces to: both operands with their own labels fixed at the claim's point.
pub(crate) fn product(columns: &[Vec<F>], c: &Contraction, point: &[E]) -> (Instance, E) {
    let roles = Roles::of(c);
    let inner = [&roles.paired[..], &roles.summed].concat();
    let side = |view: &View, own: &[usize], alone: &[usize]| {
        let fixed = pick(c, point, &c.out, alone);
        let column = &columns[view.column.0];
        let seen = view.map.as_ref().map(|map| map.apply(column));
        let data = seen.as_ref().unwrap_or(column);
        if !fixed.is_empty() && own.starts_with(alone) && own[alone.len()..] == inner[..] {
            return Table::Ext(mle::fix_first(data, &fixed));
        }
        let order = [&inner[..], alone].concat();
        let moved = (own != order).then(|| gather(data, &axes(c, own, &order, false)));
        let data = moved.as_ref().unwrap_or(data);
        if fixed.is_empty() { Table::Base(data.clone()) } else { Table::Ext(mle::fix_last(data, &fixed)) }
    };
    let left = side(&c.left, &c.left_labels, &roles.left);
    let right = side(&c.right, &c.right_labels, &roles.right);
    let mut factors = vec![left, right];
    if product_shape(c).degree == 3 {
        let eq = mle::eq_table(&pick(c, point, &c.out, &roles.paired));
        let repeat = 1 << c.log(&roles.summed);
        factors.push(Table::Ext(eq.iter().flat_map(|w| std::iter::repeat_n(*w, repeat)).collect()));
    }
    let value = sum(&factors);
    (Instance { factors }, value)
}

fn sum(factors: &[Table]) -> E {
    let third = |i: usize| match factors.get(2) {
        Some(Table::Ext(eq)) => eq[i],
        _ => E::ONE,
    };
    match &factors[..2] {
        [Table::Base(a), Table::Base(b)] => {
            a.iter().zip(b).enumerate().map(|(i, (a, b))| third(i) * (*a * *b)).sum()
        }
        [Table::Base(a), Table::Ext(b)] | [Table::Ext(b), Table::Base(a)] => {
            a.iter().zip(b).enumerate().map(|(i, (a, b))| third(i) * (*b * *a)).sum()
        }
        [Table::Ext(a), Table::Ext(b)] => {
            a.iter().zip(b).enumerate().map(|(i, (a, b))| third(i) * (*a * *b)).sum()
        }
        _ => E::ZERO,
    }
}

/// The weights of several claims on one column, batched by powers of `gamma`.
pub(crate) fn batch_weights(list: &[(Weight, E)], gamma: E) -> Vec<E> {
    let mut total: Vec<E> = Vec::new();
    for ((weight, _), c) in list.iter().zip(gamma.powers()) {
        let table = weight.table();
        if total.is_empty() {
            total = table;
        } else {
            for (total, w) in total.iter_mut().zip(table) {
                *total += w * c;
            }
        }
    }
    total
}
