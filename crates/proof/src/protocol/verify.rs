//! The verifier (`spec/proof.md` §5).

use super::{
    Ledger, Part, Place, Plan, Proof, ProofError, Statement, Weight, combine, operand_points, part_logs,
    pick, product_shape,
};
use crate::circuit::{Circuit, Outputs, Shape, Term, View};
use crate::field::{E, F, PrimeCharacteristicRing, from_i64};
use crate::pcs::Pcs;
use crate::transcript::Transcript;
use crate::{lookup, mle, sumcheck};

/// A statement whose proof held: what is left is to compare a request's own inputs and outputs with it.
#[derive(Debug)]
pub struct Proven {
    /// The point at which rows are compared.
    point: Vec<E>,
    /// For each of the core's inputs, then outputs: what it is, its index, its shape without requests, the rows' values.
    rows: Vec<(&'static str, usize, Shape, Vec<E>)>,
    requests: usize,
}

impl Proven {
    /// Checks that request `request` has these core inputs and outputs: padded integers, inputs first.
    ///
    /// # Errors
    /// [`ProofError::Row`] names the first that is not what was proved.
    pub fn check_row(&self, request: usize, rows: &[Vec<i32>]) -> Result<(), ProofError> {
        if request >= self.requests || rows.len() != self.rows.len() {
            return Err(ProofError::Request(request));
        }
        for ((what, index, shape, values), row) in self.rows.iter().zip(rows) {
            let log = shape.log();
            let fits = row.len() == 1 << log;
            let own: Vec<F> = row.iter().map(|v| from_i64((*v).into())).collect();
            let point = &self.point[self.point.len() - log..];
            if !fits || values.get(request) != Some(&mle::evaluate_base(&own, point)) {
                return Err(ProofError::Row { request, what, index: *index });
            }
        }
        Ok(())
    }
}

/// Checks `proof` for `statement`, whose model has the circuit `circuit`.
///
/// # Errors
/// Any reason to refuse; see [`ProofError`]. Nothing of the proof decides how it is checked.
pub fn verify<P: Pcs>(
    pcs: &P,
    circuit: &Circuit,
    statement: &Statement,
    proof: &[u8],
) -> Result<Proven, ProofError> {
    if statement.claims.len() != circuit.requests {
        return Err(ProofError::Claims { claims: statement.claims.len(), requests: circuit.requests });
    }
    let plan = Plan::new(circuit);
    let proof = Proof::decode(proof, &plan)?;
    let mut t = statement.begin(circuit, pcs.setting());
    t.absorb_bytes("witness", &proof.witness.0);
    let mut ledger = Ledger::default();

    // 1. Rows: each request's inputs and outputs at one point, tied to the columns at a second one.
    let row_point = t.draw_point(plan.row_log());
    for row in &proof.rows {
        t.absorb(row);
    }
    let request_point = t.draw_point(plan.request_log());
    ledger.push_rows(&plan, &proof.rows, &row_point, &request_point);

    // 2. Lookups: one sum of fractions over all of them.
    let (alpha, beta) = (t.draw(), t.draw());
    let reduced = lookup::verify(&plan.logs, &proof.fractions, &mut t)?;
    let zero_point = t.draw_point(plan.zero_log());
    t.absorb(&proof.multiplicities);
    t.absorb(&proof.terms);
    fractions(&plan, &proof, &reduced, alpha, beta)?;
    zeros(&plan, &proof, &zero_point)?;

    // 3. Terms: views are claims on columns, contractions are sums of products.
    let mut points = Vec::with_capacity(plan.terms.len());
    for ((term, place), value) in plan.terms.iter().zip(&proof.terms) {
        let log = term_log(circuit, term);
        let point = plan.point((log, *place), &reduced.point, &zero_point);
        if let Term::View(view) = term {
            ledger.push(view, point.clone(), *value);
        }
        points.push(point);
    }
    products(&plan, &proof, &points, &mut ledger, &mut t)?;
    views(&plan, &proof, &mut ledger, &mut t)?;

    // 4. Openings.
    let at = |log: usize| reduced.point[reduced.point.len() - log..].to_vec();
    let tables =
        circuit.tables.iter().zip(&proof.multiplicities).map(|(table, m)| (at(table.log), *m)).collect();
    let [witness, model] = ledger.openings(circuit, tables);
    let [witness_proof, model_proof] = &proof.openings;
    pcs.verify(&proof.witness, &part_logs(circuit, false), &witness, witness_proof, &mut t)
        .map_err(ProofError::Witness)?;
    pcs.verify(&statement.model, &part_logs(circuit, true), &model, model_proof, &mut t)
        .map_err(ProofError::Model)?;

    let rows = plan
        .interface()
        .zip(proof.rows)
        .map(|((id, what, index), row)| (what, index, Shape(circuit.column(id).shape.0[1..].to_vec()), row));
    Ok(Proven { point: row_point, rows: rows.collect(), requests: circuit.requests })
}

/// Bits of an index into a term.
pub(crate) fn term_log(circuit: &Circuit, term: &Term) -> usize {
    match term {
        Term::View(View { map: Some(map), .. }) => map.view.log(),
        Term::View(view) => circuit.column(view.column).shape.log(),
        Term::Contraction(c) => c.log(&c.out),
    }
}

/// That the reduced sum of fractions is that of the lookups' and the tables' values.
fn fractions(
    plan: &Plan<'_>,
    proof: &Proof,
    reduced: &lookup::Reduced,
    alpha: E,
    beta: E,
) -> Result<(), ProofError> {
    let placement = lookup::placement(&plan.logs, &reduced.point)?;
    let (mut numerator, mut denominator) = (E::ZERO, placement.filler);
    let fingerprint = |input: E, output: E, table: usize| {
        alpha - input - beta * (output + beta * E::from(F::from_usize(table)))
    };
    // Terms lie by lookup.
    let mut values = &proof.terms[..];
    let mut of_lookup = Vec::with_capacity(plan.circuit.lookups.len());
    for lookup in &plan.circuit.lookups {
        let (input, rest) = values.split_at(lookup.input.terms.len());
        let (output, rest) = rest.split_at(lookup.output.as_ref().map_or(0, |e| e.terms.len()));
        values = rest;
        let point = &reduced.point[reduced.point.len() - lookup.input.shape.log()..];
        let output = lookup.output.as_ref().map_or(E::ZERO, |e| combine(e, output, 0, point));
        of_lookup.push(fingerprint(
            combine(&lookup.input, input, lookup.shift, point),
            output,
            lookup.table.0,
        ));
    }
    // Columns that are tables have the last terms, in the tables' order.
    let mut columns = proof.terms[plan.first_table..].iter();
    let mut of_table = Vec::with_capacity(plan.circuit.tables.len());
    for (index, (table, block)) in plan.circuit.tables.iter().zip(&plan.tables).enumerate() {
        let (_, before) = placement.blocks[*block];
        let (input, mut output) = table.evaluate(&reduced.point[before..]);
        if let Outputs::Column { .. } = table.outputs {
            output = columns.next().copied().unwrap_or(E::ZERO);
        }
        of_table.push(fingerprint(input, output, index));
    }
    for (part, (weight, _)) in plan.parts.iter().zip(&placement.blocks) {
        let (own, fingerprint) = match part {
            Part::Lookup(index) => (E::ONE, of_lookup[*index]),
            Part::Table(index) => (-proof.multiplicities[*index], of_table[*index]),
        };
        numerator += *weight * own;
        denominator += *weight * fingerprint;
    }
    if numerator != reduced.numerator {
        return Err(ProofError::Fractions("multiplicities"));
    }
    if denominator != reduced.denominator {
        return Err(ProofError::Fractions("inputs or outputs"));
    }
    Ok(())
}

/// That every identity is zero at its point.
fn zeros(plan: &Plan<'_>, proof: &Proof, point: &[E]) -> Result<(), ProofError> {
    let first = plan.terms.iter().position(|(_, place)| *place == Place::Zero).unwrap_or(plan.terms.len());
    let mut values = &proof.terms[first..];
    for (index, expr) in plan.circuit.zeros.iter().enumerate() {
        let (own, rest) = values.split_at(expr.terms.len());
        values = rest;
        if combine(expr, own, 0, &point[point.len() - expr.shape.log()..]) != E::ZERO {
            return Err(ProofError::Identity(index));
        }
    }
    Ok(())
}

/// Contractions become claims on their operands.
fn products(
    plan: &Plan<'_>,
    proof: &Proof,
    points: &[Vec<E>],
    ledger: &mut Ledger,
    t: &mut Transcript,
) -> Result<(), ProofError> {
    let Some(products) = &proof.products else { return Ok(()) };
    let claims: Vec<E> = plan.contractions().map(|(index, _)| proof.terms[index]).collect();
    let shapes = plan.product_shapes();
    let (shared, factors) = sumcheck::verify(&shapes, &claims, products, t).map_err(ProofError::Products)?;
    for (at, ((index, c), values)) in plan.contractions().zip(factors).enumerate() {
        let bound = &shared[shared.len() - product_shape(c).log..];
        let (paired, _) = c.bound();
        if let Some(weight) = values.get(2) {
            let own = pick(c, &points[index], &c.out, &paired);
            if *weight != mle::eq(&own, &bound[..own.len()]) {
                return Err(ProofError::Weight(at));
            }
        }
        let [left, right] = operand_points(c, &points[index], bound);
        ledger.push(&c.left, left, values[0]);
        ledger.push(&c.right, right, values[1]);
    }
    Ok(())
}

/// Claims on columns that are read through maps become one claim a column.
fn views(plan: &Plan<'_>, proof: &Proof, ledger: &mut Ledger, t: &mut Transcript) -> Result<(), ProofError> {
    let Some(views) = &proof.views else { return Ok(()) };
    let viewed = ledger.take_viewed();
    let gamma = t.draw();
    let batch = |list: &[(Weight, E)], value: &dyn Fn(&(Weight, E)) -> E| {
        list.iter().zip(gamma.powers()).map(|(claim, c)| value(claim) * c).sum::<E>()
    };
    let claims: Vec<E> = viewed.iter().map(|(_, list)| batch(list, &|(_, value)| *value)).collect();
    let (shared, factors) =
        sumcheck::verify(&plan.view_shapes(), &claims, views, t).map_err(ProofError::Views)?;
    for (at, ((id, list), values)) in viewed.iter().zip(factors).enumerate() {
        let point = shared[shared.len() - plan.circuit.column(*id).shape.log()..].to_vec();
        if values[0] != batch(list, &|(weight, _)| weight.evaluate(&point)) {
            return Err(ProofError::Map(at));
        }
        ledger.push(&View { column: *id, map: None }, point, values[1]);
    }
    Ok(())
}
