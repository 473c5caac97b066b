//! A prover that stops at nothing: whatever the verifier recomputes from what it is sent, it sends so that
//! the result is right.
//! Only the commitments are out of its hands, so that is where its lies end.

use super::Case;
use crate::circuit::{Circuit, Expr, Outputs, Term};
use crate::codec::Writer;
use crate::field::{E, F, Field, PrimeCharacteristicRing, from_i64, power_of_two};
use crate::lookup::{self, Block, Reduced};
use crate::pcs::{Direct, Pcs};
use crate::protocol::prove::{batch_weights, blocks, product, to_field, view_value};
use crate::protocol::verify::term_log;
use crate::protocol::{Ledger, Part, Plan, Proof, combine, operand_points, product_shape};
use crate::sumcheck::{self, Instance, SumcheckProof, Table};
use crate::transcript::Transcript;
use crate::witness::Witness;
use crate::{circuit, mle};

/// Changes rows of inputs and outputs, given the point at which they are taken.
pub type OtherRows<'a> = dyn Fn(&mut [Vec<E>], &[E]) + 'a;
/// Changes the blocks of the sum of fractions, given alpha and beta.
pub type OtherBlocks<'a> = dyn Fn(&mut [Block], E, E) + 'a;

/// What the prover does otherwise than the protocol says.
#[derive(Default)]
pub struct Tricks<'a> {
    /// The transcript that its statement begins; the right one where there is none.
    pub start: Option<Transcript>,
    /// The circuit that it proves; the right one where there is none.
    pub circuit: Option<&'a Circuit>,
    /// Says other rows.
    pub rows: Option<&'a OtherRows<'a>>,
    /// Sums other fractions.
    pub blocks: Option<&'a OtherBlocks<'a>>,
    /// The lookup, by index, whose first term hides what is wrong with the fractions.
    pub victim: usize,
}

/// A proof of `witness` in which everything but the openings holds.
pub fn forge(case: &Case, witness: &Witness, tricks: &Tricks<'_>) -> Proof {
    let circuit = tricks.circuit.unwrap_or(&case.circuit);
    let plan = Plan::new(circuit);
    let multiplicities: Vec<Vec<F>> =
        witness.multiplicities.iter().map(|m| m.iter().map(|&n| F::from_u32(n)).collect()).collect();
    let mut columns = case.model.elements.clone();
    for id in circuit.part(false) {
        columns[id.0] = to_field(&witness.columns[id.0]);
    }
    let committed: Vec<Vec<F>> =
        circuit.part(false).map(|id| columns[id.0].clone()).chain(multiplicities.iter().cloned()).collect();
    let (root, _) = Direct.commit(committed.clone()).expect("columns");
    let begun = || case.statement.begin(&case.circuit, Direct.setting());
    let mut t = tricks.start.clone().unwrap_or_else(begun);
    t.absorb_bytes("witness", &root.0);
    let mut ledger = Ledger::default();

    let row_point = t.draw_point(plan.row_log());
    let mut rows: Vec<Vec<E>> = plan
        .interface()
        .map(|(id, _, _)| {
            let log = circuit.column(id).shape.log() - plan.request_log();
            let each = columns[id.0].chunks_exact(1 << log).take(circuit.requests);
            each.map(|row| mle::evaluate_base(row, &row_point[row_point.len() - log..])).collect()
        })
        .collect();
    if let Some(change) = tricks.rows {
        change(&mut rows, &row_point);
    }
    rows.iter().for_each(|row| t.absorb(row));
    let request_point = t.draw_point(plan.request_log());
    ledger.push_rows(&plan, &rows, &row_point, &request_point);

    let (alpha, beta) = (t.draw(), t.draw());
    let mut summed = blocks(&plan, witness, &multiplicities, alpha, beta);
    if let Some(change) = tricks.blocks {
        change(&mut summed, alpha, beta);
    }
    let (fractions, reduced) = lookup::prove(&summed, &mut t).expect("fractions");
    let zero_point = t.draw_point(plan.zero_log());
    let at = |log: usize| reduced.point[reduced.point.len() - log..].to_vec();
    let evaluations: Vec<E> = circuit
        .tables
        .iter()
        .zip(&multiplicities)
        .map(|(table, m)| mle::evaluate_base(m, &at(table.log)))
        .collect();

    let points: Vec<Vec<E>> = plan
        .terms
        .iter()
        .map(|(term, place)| plan.point((term_log(circuit, term), *place), &reduced.point, &zero_point))
        .collect();
    let mut instances = Vec::new();
    let mut values: Vec<E> = Vec::new();
    for ((term, _), point) in plan.terms.iter().zip(&points) {
        values.push(match term {
            Term::View(view) => view_value(&columns, view, point),
            Term::Contraction(c) => {
                let (instance, value) = product(&columns, c, point);
                instances.push(instance);
                value
            }
        });
    }
    bend_fractions(&plan, &mut values, &evaluations, &reduced, [alpha, beta], tricks.victim);
    bend_identities(&plan, &mut values, &zero_point);
    for (((term, _), point), value) in plan.terms.iter().zip(&points).zip(&values) {
        if let Term::View(view) = term {
            ledger.push(view, point.clone(), *value);
        }
    }
    t.absorb(&evaluations);
    t.absorb(&values);
    let mut products = None;
    if !instances.is_empty() {
        let claims: Vec<E> = plan.contractions().map(|(index, _)| values[index]).collect();
        let (proof, shared) = bent(instances, &claims, &mut t);
        for ((index, c), factors) in plan.contractions().zip(&proof.factors) {
            let bound = &shared[shared.len() - product_shape(c).log..];
            let [left, right] = operand_points(c, &points[index], bound);
            ledger.push(&c.left, left, factors[0]);
            ledger.push(&c.right, right, factors[1]);
        }
        products = Some(proof);
    }
    let viewed = ledger.take_viewed();
    let views = (!viewed.is_empty()).then(|| {
        let gamma = t.draw();
        let claim = |list: &[(_, E)]| list.iter().zip(gamma.powers()).map(|((_, value), c)| *value * c).sum();
        let claims: Vec<E> = viewed.iter().map(|(_, list)| claim(list)).collect();
        let instance = |(id, list): &(circuit::ColumnId, Vec<_>)| Instance {
            factors: vec![Table::Ext(batch_weights(list, gamma)), Table::Base(columns[id.0].clone())],
        };
        bent(viewed.iter().map(instance).collect(), &claims, &mut t).0
    });
    let openings = [whole(&committed), whole(&model_columns(case))];
    Proof {
        witness: root,
        rows,
        fractions,
        multiplicities: evaluations,
        terms: values,
        products,
        views,
        openings,
    }
}

/// An opening of the obvious scheme, whatever was claimed.
fn whole(columns: &[Vec<F>]) -> Vec<u8> {
    let mut writer = Writer::new();
    columns.iter().for_each(|column| writer.bases(column));
    writer.finish()
}

fn model_columns(case: &Case) -> Vec<Vec<F>> {
    case.circuit.part(true).map(|id| case.model.elements[id.0].clone()).collect()
}

fn dot(a: &[E], b: &[E]) -> E {
    a.iter().zip(b).map(|(a, b)| *a * *b).sum()
}

/// Makes the fractions' denominators right by the first term of the lookup `victim`.
fn bend_fractions(
    plan: &Plan<'_>,
    values: &mut [E],
    multiplicities: &[E],
    reduced: &Reduced,
    [alpha, beta]: [E; 2],
    victim: usize,
) {
    let placement = lookup::placement(&plan.logs, &reduced.point).expect("a point");
    let tagged = |input: E, output: E, table: usize| {
        alpha - input - beta * (output + beta * E::from(F::from_usize(table)))
    };
    let weight = |part: Part| {
        let at = plan.parts.iter().position(|other| *other == part).expect("a block");
        placement.blocks[at]
    };
    let mut missing = reduced.denominator - placement.filler;
    let mut columns = values[plan.first_table..].iter();
    for (index, table) in plan.circuit.tables.iter().enumerate() {
        let (weight, before) = weight(Part::Table(index));
        let (input, mut output) = table.evaluate(&reduced.point[before..]);
        if let Outputs::Column { .. } = table.outputs {
            output = *columns.next().expect("a term");
        }
        missing -= weight * tagged(input, output, index);
    }
    assert_eq!(multiplicities.len(), plan.circuit.tables.len());
    let mut first = 0;
    let mut lever = None;
    for (index, lookup) in plan.circuit.lookups.iter().enumerate() {
        let (weight, before) = weight(Part::Lookup(index));
        let point = &reduced.point[before..];
        let mut part = |expr: &Expr, shift: usize| {
            let own = &values[first..first + expr.terms.len()];
            first += expr.terms.len();
            combine(expr, own, shift, point)
        };
        let start = first_term(index, plan);
        let input = part(&lookup.input, lookup.shift);
        let output = lookup.output.as_ref().map_or(E::ZERO, |output| part(output, 0));
        missing -= weight * tagged(input, output, lookup.table.0);
        if let (true, Some((c, _))) = (lever.is_none() || index == victim, lookup.input.terms.first()) {
            lever = Some((start, -weight * from_i64(*c) * power_of_two(lookup.shift).inverse()));
        }
    }
    if let Some((term, effect)) = lever {
        values[term] += missing * effect.inverse();
    }
}

/// The first term of a lookup among all terms.
fn first_term(lookup: usize, plan: &Plan<'_>) -> usize {
    let count = |l: &circuit::Lookup| l.input.terms.len() + l.output.as_ref().map_or(0, |o| o.terms.len());
    plan.circuit.lookups[..lookup].iter().map(count).sum()
}

/// Makes every identity hold by its first term.
fn bend_identities(plan: &Plan<'_>, values: &mut [E], point: &[E]) {
    let mut first = first_term(plan.circuit.lookups.len(), plan);
    for expr in &plan.circuit.zeros {
        let own = &mut values[first..first + expr.terms.len()];
        first += expr.terms.len();
        let sum = combine(expr, own, 0, &point[point.len() - expr.shape.log()..]);
        own[0] -= sum * E::from(from_i64(expr.terms[0].0)).inverse();
    }
}

/// A sumcheck of claims that may be false: the second factor of the first instance takes what is missing in
/// the end. Gives the
/// shared point too.
fn bent(instances: Vec<Instance>, claims: &[E], t: &mut Transcript) -> (SumcheckProof, Vec<E>) {
    let shapes: Vec<sumcheck::Shape> = instances.iter().map(|i| i.shape().expect("a shape")).collect();
    let log = shapes.iter().map(|shape| shape.log).max().expect("an instance");
    let (mut proof, _, _) = sumcheck::prove(instances, claims, &mut t.clone()).expect("a sumcheck");
    let coefficients = sumcheck::begin(&shapes, claims, t).expect("claims");
    let mut claim: E =
        (0..claims.len()).map(|i| coefficients[i] * claims[i] * power_of_two(log - shapes[i].log)).sum();
    let mut point = Vec::new();
    for message in &proof.rounds {
        t.absorb(message);
        let r = t.draw();
        claim = sumcheck::interpolate(&sumcheck::with_one(message, claim), r);
        point.push(r);
    }
    let product = |values: &Vec<E>| values.iter().copied().product::<E>();
    let missing = claim - dot(&proof.factors.iter().map(product).collect::<Vec<_>>(), &coefficients);
    let others = |values: &[E]| values[0] * values.get(2).copied().unwrap_or(E::ONE);
    let lever = (0..claims.len()).find(|&i| others(&proof.factors[i]) != E::ZERO);
    if let Some(i) = lever {
        let effect = others(&proof.factors[i]) * coefficients[i];
        proof.factors[i][1] += missing * effect.inverse();
    }
    proof.factors.iter().for_each(|values| t.absorb(values));
    (proof, point)
}
