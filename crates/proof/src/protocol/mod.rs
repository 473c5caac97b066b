//! The argument: how a proof is made and checked (`spec/proof.md` §5). Prover and verifier walk the same circuit in the same
//! order; what both need is here.

use std::collections::BTreeMap;
use std::sync::Arc;

use hallmark_receipt::Digest;

use crate::circuit::{Circuit, ColumnId, Contraction, Map, Outputs, Term, View};
use crate::codec::{CodecError, Reader, Writer};
use crate::field::E;
use crate::lookup::{GkrProof, LookupError};
use crate::mle;
use crate::pcs::{Claim, PcsError, Root};
use crate::sumcheck::{self, SumcheckError, SumcheckProof};
use crate::transcript::Transcript;

#[cfg(feature = "prove")]
pub mod prove;
mod security;
pub mod verify;

pub use security::Bits;

/// The version of the protocol; the first thing that is absorbed.
pub const VERSION: &str = "hallmark.proof.v1";

/// What a proof says: that for each claim, in order, the model behind `model` and `graph` turns the claim's inputs into its
/// outputs. Everything here is absorbed before the first challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The digest of the model's graph, which fixes operators, shapes of weights and quantisation.
    pub graph: Digest,
    /// The commitment to the model's weights.
    pub model: Root,
    /// The claims' ids, which bind network, node, request, salted inputs and outputs: one a request, in order.
    pub claims: Vec<Digest>,
}

impl Statement {
    /// The transcript that the statement, the circuit's shape and the security setting begin.
    pub(crate) fn begin(&self, circuit: &Circuit, setting: &str) -> Transcript {
        let mut t = Transcript::new(VERSION);
        t.absorb_bytes("model", &self.model.0);
        t.absorb_bytes("graph", self.graph.as_bytes());
        t.absorb_bytes("setting", setting.as_bytes());
        t.absorb_bytes("circuit", &circuit.encode());
        t.absorb_bytes("claims", &(self.claims.len() as u64).to_le_bytes());
        for claim in &self.claims {
            t.absorb_bytes("claim", claim.as_bytes());
        }
        t
    }
}

/// Why a proof is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum ProofError {
    #[error("the proof is not well formed: {0}")]
    Format(#[from] CodecError),
    #[error("the statement names {claims} claims for a circuit of {requests} requests")]
    Claims { claims: usize, requests: usize },
    #[error("the sum of lookups: {0}")]
    Lookup(#[from] LookupError),
    #[error("the values that were looked up are not those of the circuit: {0}")]
    Fractions(&'static str),
    #[error("identity {0} does not hold")]
    Identity(usize),
    #[error("products: {0}")]
    Products(SumcheckError),
    #[error("product {0} has a factor that the verifier computes otherwise")]
    Weight(usize),
    #[error("views: {0}")]
    Views(SumcheckError),
    #[error("view {0} has a weight that the verifier computes otherwise")]
    Map(usize),
    #[error("the witness does not open: {0}")]
    Witness(PcsError),
    #[error("the model's commitment does not open: {0}")]
    Model(PcsError),
    #[error("request {request}: {what} {index} is not what was proved")]
    Row { request: usize, what: &'static str, index: usize },
    #[error("request {0} is not one of the proof")]
    Request(usize),
    #[error("the argument has {got:.1} bits of security, {wanted} are asked for")]
    Security { got: f64, wanted: u32 },
}

/// A proof, in the order in which its parts are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The commitment to the witness.
    pub witness: Root,
    /// For each of the core's inputs, then outputs: each request's row at the point of the rows.
    pub rows: Vec<Vec<E>>,
    /// The sum of fractions.
    pub fractions: GkrProof,
    /// The tables' multiplicities at the point of the fractions.
    pub multiplicities: Vec<E>,
    /// Every term of every expression at its point.
    pub terms: Vec<E>,
    /// The contractions.
    pub products: Option<SumcheckProof>,
    /// The views through maps.
    pub views: Option<SumcheckProof>,
    /// The openings of the witness and of the model's commitment.
    pub openings: [Vec<u8>; 2],
}

/// The largest opening that is read.
const MAX_OPENING: usize = 1 << 24;

impl Proof {
    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.raw(&self.witness.0);
        for row in &self.rows {
            w.extensions(row);
        }
        self.fractions.write(&mut w);
        w.extensions(&self.multiplicities);
        w.extensions(&self.terms);
        for part in [&self.products, &self.views].into_iter().flatten() {
            part.write(&mut w);
        }
        for opening in &self.openings {
            w.count(opening.len());
            w.raw(opening);
        }
        w.finish()
    }

    /// Reads what the plan implies, and nothing else.
    pub(crate) fn decode(bytes: &[u8], plan: &Plan<'_>) -> Result<Self, CodecError> {
        let mut r = Reader::new(bytes);
        let witness = Root(r.array::<32>()?);
        let interface = plan.circuit.inputs.len() + plan.circuit.outputs.len();
        let rows = (0..interface).map(|_| r.extensions(plan.circuit.requests)).collect::<Result<_, _>>()?;
        let fractions = GkrProof::read(&mut r, &plan.logs)?;
        let multiplicities = r.extensions(plan.circuit.tables.len())?;
        let terms = r.extensions(plan.terms.len())?;
        let read = |r: &mut Reader<'_>, shapes: &[sumcheck::Shape]| {
            (!shapes.is_empty()).then(|| SumcheckProof::read(r, shapes)).transpose()
        };
        let products = read(&mut r, &plan.product_shapes())?;
        let views = read(&mut r, &plan.view_shapes())?;
        let openings = [r.bytes(MAX_OPENING)?.to_vec(), r.bytes(MAX_OPENING)?.to_vec()];
        r.finish()?;
        Ok(Self { witness, rows, fractions, multiplicities, terms, products, views, openings })
    }
}

/// A block of the sum of fractions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// A lookup, by index: numerators 1.
    Lookup(usize),
    /// A table, by index: numerators minus its multiplicities.
    Table(usize),
}

/// Where a term's claim is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// At the point of the fractions, in the block of this index.
    Block(usize),
    /// At the point of the identities.
    Zero,
}

/// What follows from a circuit alone: the order of everything.
pub(crate) struct Plan<'a> {
    pub(crate) circuit: &'a Circuit,
    /// Blocks of the sum of fractions, by descending size.
    pub(crate) parts: Vec<Part>,
    /// Their sizes.
    pub(crate) logs: Vec<usize>,
    /// The block of each table.
    pub(crate) tables: Vec<usize>,
    /// All terms: lookups' inputs and outputs in order, then identities', then columns that are tables.
    pub(crate) terms: Vec<(&'a Term, Place)>,
    /// The first of the last.
    pub(crate) first_table: usize,
}

impl<'a> Plan<'a> {
    pub(crate) fn new(circuit: &'a Circuit) -> Self {
        let mut parts: Vec<(usize, Part)> = Vec::new();
        parts.extend(circuit.lookups.iter().enumerate().map(|(i, l)| (l.input.shape.log(), Part::Lookup(i))));
        parts.extend(circuit.tables.iter().enumerate().map(|(i, table)| (table.log, Part::Table(i))));
        parts.sort_by_key(|(log, _)| std::cmp::Reverse(*log));
        let (logs, parts): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        let (mut lookups, mut tables) = (vec![0; circuit.lookups.len()], vec![0; circuit.tables.len()]);
        for (block, part) in parts.iter().enumerate() {
            match part {
                Part::Lookup(index) => lookups[*index] = block,
                Part::Table(index) => tables[*index] = block,
            }
        }
        let mut terms = Vec::new();
        for (lookup, block) in circuit.lookups.iter().zip(&lookups) {
            let exprs = std::iter::once(&lookup.input).chain(&lookup.output);
            terms.extend(exprs.flat_map(|e| &e.terms).map(|(_, term)| (term, Place::Block(*block))));
        }
        terms.extend(circuit.zeros.iter().flat_map(|e| &e.terms).map(|(_, term)| (term, Place::Zero)));
        let first_table = terms.len();
        for (table, block) in circuit.tables.iter().zip(&tables) {
            let Outputs::Column { term, .. } = &table.outputs else { continue };
            terms.push((&**term, Place::Block(*block)));
        }
        Self { circuit, parts, logs, tables, terms, first_table }
    }

    /// The contractions among the terms.
    pub(crate) fn contractions(&self) -> impl Iterator<Item = (usize, &'a Contraction)> + '_ {
        self.terms.iter().enumerate().filter_map(|(index, (term, _))| match term {
            Term::Contraction(c) => Some((index, c)),
            Term::View(_) => None,
        })
    }

    pub(crate) fn product_shapes(&self) -> Vec<sumcheck::Shape> {
        self.contractions().map(|(_, c)| product_shape(c)).collect()
    }

    /// The columns that are read through maps, ascending, and the shapes of their sums.
    pub(crate) fn viewed(&self) -> Vec<ColumnId> {
        let mut columns = std::collections::BTreeSet::new();
        let views = self.terms.iter().flat_map(|(term, _)| term.views());
        columns.extend(views.filter(|view| view.map.is_some()).map(|view| view.column));
        columns.into_iter().collect()
    }

    pub(crate) fn view_shapes(&self) -> Vec<sumcheck::Shape> {
        let shape = |id: ColumnId| sumcheck::Shape { log: self.circuit.column(id).shape.log(), degree: 2 };
        self.viewed().into_iter().map(shape).collect()
    }

    /// The point of a term's claim.
    pub(crate) fn point(&self, (term_log, place): (usize, Place), fractions: &[E], zero: &[E]) -> Vec<E> {
        let from = if matches!(place, Place::Zero) { zero } else { fractions };
        from[from.len() - term_log..].to_vec()
    }

    /// Bits of the largest identity.
    pub(crate) fn zero_log(&self) -> usize {
        self.circuit.zeros.iter().map(|e| e.shape.log()).max().unwrap_or(0)
    }

    /// Bits of the largest row of the core's inputs and outputs.
    pub(crate) fn row_log(&self) -> usize {
        self.interface().map(|(id, _, _)| self.circuit.column(id).shape.log()).max().unwrap_or(0)
            - self.request_log()
    }

    pub(crate) fn request_log(&self) -> usize {
        crate::circuit::log2(self.circuit.requests)
    }

    /// The columns of the core's inputs and outputs: column, what it is, its index.
    pub(crate) fn interface(&self) -> impl Iterator<Item = (ColumnId, &'static str, usize)> + '_ {
        let inputs = self.circuit.inputs.iter().enumerate().map(|(i, id)| (*id, "input", i));
        inputs.chain(self.circuit.outputs.iter().enumerate().map(|(i, id)| (*id, "output", i)))
    }
}

/// Shape of the sum that reduces a contraction: a third factor where labels pair elements.
pub(crate) fn product_shape(c: &Contraction) -> sumcheck::Shape {
    let (paired, summed) = c.bound();
    let pairs = c.log(&paired);
    sumcheck::Shape { log: pairs + c.log(&summed), degree: if pairs > 0 { 3 } else { 2 } }
}

/// The part of a point over a contraction's result that belongs to `labels`.
pub(crate) fn pick(c: &Contraction, point: &[E], own: &[usize], labels: &[usize]) -> Vec<E> {
    let mut out = Vec::new();
    for label in labels {
        let mut at = 0;
        for other in own {
            let log = crate::circuit::log2(c.sizes[*other]);
            if other == label {
                out.extend_from_slice(&point[at..at + log]);
            }
            at += log;
        }
    }
    out
}

/// The points of both operands, given the result's and that of the labels that were summed over (paired first).
pub(crate) fn operand_points(c: &Contraction, result: &[E], bound: &[E]) -> [Vec<E>; 2] {
    let (paired, summed) = c.bound();
    let inner: Vec<usize> = [paired, summed].concat();
    let side = |own: &[usize]| {
        own.iter()
            .flat_map(|label| {
                let (point, labels) = if inner.contains(label) { (bound, &inner) } else { (result, &c.out) };
                pick(c, point, labels, &[*label])
            })
            .collect()
    };
    [side(&c.left_labels), side(&c.right_labels)]
}

/// Claims on columns, as they come up.
#[derive(Default)]
pub(crate) struct Ledger {
    direct: BTreeMap<ColumnId, Vec<(Vec<E>, E)>>,
    mapped: BTreeMap<ColumnId, Vec<(Weight, E)>>,
}

impl Ledger {
    /// `view` has `value` at `point`.
    pub(crate) fn push(&mut self, view: &View, point: Vec<E>, value: E) {
        match &view.map {
            None => self.direct.entry(view.column).or_default().push((point, value)),
            Some(map) => {
                let weight = Weight::Map(Arc::clone(map), point);
                self.mapped.entry(view.column).or_default().push((weight, value));
            }
        }
    }

    /// The requests' rows of the core's inputs and outputs at `row_point` become one claim a column, at `request_point` over the requests.
    pub(crate) fn push_rows(
        &mut self,
        plan: &Plan<'_>,
        rows: &[Vec<E>],
        row_point: &[E],
        request_point: &[E],
    ) {
        let weights = mle::eq_table(request_point);
        for ((column, _, _), row) in plan.interface().zip(rows) {
            let log = plan.circuit.column(column).shape.log() - plan.request_log();
            let point = [request_point, &row_point[row_point.len() - log..]].concat();
            let value = row.iter().zip(&weights).map(|(e, w)| *e * *w).sum();
            self.push(&View { column, map: None }, point, value);
        }
    }

    /// For each column that is read through maps: all claims on it, each a weight and a value. They leave the ledger.
    pub(crate) fn take_viewed(&mut self) -> Vec<(ColumnId, Vec<(Weight, E)>)> {
        let mapped = std::mem::take(&mut self.mapped);
        let all = mapped.into_iter().map(|(column, mut list)| {
            let direct = self.direct.remove(&column).unwrap_or_default();
            list.extend(direct.into_iter().map(|(point, value)| (Weight::Point(point), value)));
            (column, list)
        });
        all.collect()
    }

    /// The claims that the two commitments are opened with: the witness's (multiplicities follow its columns), the model's.
    pub(crate) fn openings(self, circuit: &Circuit, multiplicities: Vec<(Vec<E>, E)>) -> [Vec<Claim>; 2] {
        let mut out = [Vec::new(), Vec::new()];
        let mut slot = vec![(0, 0); circuit.columns.len()];
        for (part, constant) in [(0, false), (1, true)] {
            for (index, id) in circuit.part(constant).enumerate() {
                slot[id.0] = (part, index);
            }
        }
        for (id, claims) in self.direct {
            let (part, column) = slot[id.0];
            out[part].extend(claims.into_iter().map(|(point, value)| Claim { column, point, value }));
        }
        let first = circuit.part(false).count();
        let tables = multiplicities.into_iter().enumerate();
        out[0].extend(tables.map(|(at, (point, value))| Claim { column: first + at, point, value }));
        out
    }
}

/// What a claim on a column weighs its elements with.
pub(crate) enum Weight {
    /// A map and a point of its view.
    Map(Arc<Map>, Vec<E>),
    /// A point of the column.
    Point(Vec<E>),
}

impl Weight {
    /// Its multilinear extension at `at`.
    pub(crate) fn evaluate(&self, at: &[E]) -> E {
        match self {
            Self::Map(map, point) => map.evaluate(point, at),
            Self::Point(point) => mle::eq(point, at),
        }
    }

    /// The weights of all elements.
    #[cfg(feature = "prove")]
    pub(crate) fn table(&self) -> Vec<E> {
        match self {
            Self::Map(map, point) => map.weights(point),
            Self::Point(point) => mle::eq_table(point),
        }
    }
}

/// The value at `point` of an expression divided by `2^shift`, from its terms' values there.
pub(crate) fn combine(expr: &crate::circuit::Expr, values: &[E], shift: usize, point: &[E]) -> E {
    use crate::field::{Field, from_i64};
    let terms = expr.terms.iter().zip(values).map(|((c, _), value)| *value * from_i64(*c)).sum::<E>();
    let mut sum = terms + E::from(from_i64(expr.constant));
    if expr.inside != 0 {
        sum += expr.shape.inside(point) * from_i64(expr.inside);
    }
    if let Some(axis) = expr.ramp {
        sum += expr.shape.index(axis, point);
    }
    if shift == 0 { sum } else { sum * crate::field::power_of_two(shift).inverse() }
}

/// The logs of the columns of one part, in order.
pub(crate) fn part_logs(circuit: &Circuit, constant: bool) -> Vec<usize> {
    let mut logs: Vec<usize> = circuit.part(constant).map(|id| circuit.column(id).shape.log()).collect();
    if !constant {
        logs.extend(circuit.tables.iter().map(|table| table.log));
    }
    logs
}
