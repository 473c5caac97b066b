//! How sure a proof is (`spec/proof.md` §6): every error term of the argument, added up.

use super::{Plan, part_logs};
use crate::circuit::{Circuit, Term};
use crate::field::FIELD_BITS;
use crate::pcs::Pcs;
use crate::{lookup, sumcheck};

/// Bits of security of an argument, by part and composed: `-log2` of the sum of the parts' errors.
#[derive(Clone, Debug, PartialEq)]
pub struct Bits {
    /// The parts by name.
    pub parts: Vec<(&'static str, f64)>,
}

impl Bits {
    /// Of a proof for `circuit` under `pcs`, from the statement's shape and the parameters alone.
    pub fn of<P: Pcs>(circuit: &Circuit, pcs: &P) -> Self {
        let plan = Plan::new(circuit);
        let (own, model) = (part_logs(circuit, false), part_logs(circuit, true));
        // Every column that a root may still stand for is a chance of its own.
        let candidates = pcs.candidate_bits(&own) + pcs.candidate_bits(&model);
        let field = |events: f64| FIELD_BITS - candidates - events.max(1.0).log2();
        let interface = plan.interface().count() as f64;
        // A wrong row survives its point, or the combination of rows, by the degree of a multilinear polynomial.
        let rows = interface * (plan.row_log() + plan.request_log()) as f64;
        // Distinct (input, output, table) collide under a polynomial of degree 2 in beta; the fractions' sum is a rational
        // function of alpha of a degree below the number of fractions.
        let fractions: f64 = plan.logs.iter().map(|log| 2_f64.powi(*log as i32)).sum();
        let fingerprints = 3.0 * fractions;
        // Each identity and each lookup's expression is compared at a random point.
        let identities = circuit.zeros.len() as f64 * plan.zero_log().max(1) as f64;
        let mut claims = vec![0.0_f64; circuit.columns.len()];
        for view in circuit.terms().flat_map(Term::views) {
            claims[view.column.0] += 1.0;
        }
        let batched: f64 = plan.viewed().iter().map(|id| claims[id.0] + 1.0).sum();
        let mut parts = vec![
            ("rows", field(rows)),
            ("fingerprints", field(fingerprints)),
            ("fractions", lookup::error_bits(&plan.logs) - candidates),
            ("identities", field(identities)),
        ];
        let (products, views) = (plan.product_shapes(), plan.view_shapes());
        if !products.is_empty() {
            parts.push(("products", sumcheck::error_bits(&products) - candidates));
        }
        if !views.is_empty() {
            parts.push(("batching", field(batched)));
            parts.push(("views", sumcheck::error_bits(&views) - candidates));
        }
        let count = |constant: bool| {
            let own = circuit.part(constant).map(|id| claims[id.0] as usize + 2).sum::<usize>();
            own + if constant { 0 } else { circuit.tables.len() }
        };
        parts.push(("witness opening", pcs.error_bits(&own, count(false))));
        parts.push(("model opening", pcs.error_bits(&model, count(true))));
        Self { parts }
    }

    /// All together.
    pub fn composed(&self) -> f64 {
        -self.parts.iter().map(|(_, bits)| 2_f64.powf(-bits)).sum::<f64>().log2()
    }
}
