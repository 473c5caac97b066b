//! From a model's skeleton to its circuit (`spec/proof.md` §3).
//!
//! To add an operator, write its function in the file of its family and add one row to that file's `OPERATORS`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hallmark_model::graph::{Dim, Graph, Node, TypeInfo, ValueId};
use hallmark_model::infer::{InferError, Known};
use hallmark_model::ops::{Domain, OpError};
use hallmark_model::quantise::{BoundError, bounds};
use hallmark_receipt::{DType, Tensor};

use crate::budget::{Budget, Exceeded};
use crate::circuit::{
    Circuit, Column, ColumnId, Constant, Contraction, Expr, Factor, Label, Lookup, Map, Outputs, Shape,
    Source, Step, Table, TableId, Term, View, Weight,
};
use crate::pcs::MAX_CLAIMS;
use crate::witness_row::HALF;

mod contract;
mod embedding;
mod linear;
mod movement;
mod normalize;
mod pool;
mod requantize;
mod split;

pub use split::{Class, Split};

/// Bits of the largest padded column.
pub const MAX_LOG: usize = 26;
/// The most columns, tables, lookups and expressions of a circuit, each.
pub const MAX_PARTS: usize = 1 << 14;
/// The most elements of all lookups: below p.
pub const MAX_LOOKED_UP: u64 = 1 << 30;
/// The most terms of an expression; one of more becomes a column.
const MAX_TERMS: usize = 32;

/// An operator that can be proved.
pub struct Operator {
    /// Its domain.
    pub domain: Domain,
    /// Its name.
    pub name: &'static str,
    /// What it becomes.
    pub lower: fn(&mut Builder<'_>, &Node) -> Result<(), LowerError>,
}

const FAMILIES: &[&[Operator]] = &[
    contract::OPERATORS,
    linear::OPERATORS,
    movement::OPERATORS,
    normalize::OPERATORS,
    pool::OPERATORS,
    requantize::OPERATORS,
];

/// The row of a node's operator.
fn operator(node: &Node) -> Option<&'static Operator> {
    let is = |op: &&Operator| op.domain == node.op.domain && op.name == node.op.name;
    FAMILIES.iter().copied().flatten().find(is)
}

/// Why a model has no circuit.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum LowerError {
    #[error("node `{node}` ({op}) cannot be proved: {why}")]
    Node { node: String, op: &'static str, why: Unproved },
    #[error("no integer operator stands between the model's inputs and outputs: quantise the model first")]
    NotQuantised,
    #[error("input `{0}` has no fixed shape")]
    OpenShape(String),
    #[error("value `{0}` has a shape that only a run tells")]
    UnknownShape(String),
    #[error(transparent)]
    Infer(#[from] InferError),
    #[error(transparent)]
    Bounds(#[from] BoundError),
    #[error("a tensor of {got} padded elements is above 2^{MAX_LOG}")]
    TooLarge { got: usize },
    #[error(
        "the circuit has more than {MAX_PARTS} columns, tables or lookups, or reads more than {MAX_CLAIMS} views"
    )]
    TooMany,
    #[error("the model has {got} {what}, and {limit} can be proved: prove a smaller model")]
    Graph { what: &'static str, got: usize, limit: usize },
    #[error("the model cannot be proved: {0}")]
    Budget(#[from] Exceeded),
    #[error("the circuit looks {got} elements up, more than {MAX_LOOKED_UP}")]
    LookedUp { got: u64 },
    #[error("a proof is of 1 to {limit} requests, got {got}")]
    Requests { got: usize, limit: usize },
}

/// Why a node cannot be proved.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum Unproved {
    #[error("the operator is not among those that can be")]
    Operator,
    #[error("it is computed in {}, and holds weights", .0.name())]
    FloatWeights(DType),
    #[error("it takes values back that left the integers before")]
    Island,
    #[error("{0}")]
    Form(&'static str),
    #[error(transparent)]
    Op(#[from] OpError),
    #[error(transparent)]
    Budget(#[from] Exceeded),
}

impl From<&'static str> for Unproved {
    fn from(why: &'static str) -> Self {
        Self::Form(why)
    }
}

/// A constant operand.
#[derive(Clone, Debug)]
pub struct Fixed {
    /// The value.
    pub id: ValueId,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its elements, where the skeleton holds them.
    pub tensor: Option<Arc<Tensor>>,
}

impl Fixed {
    /// The only element, if there is one and the skeleton holds it.
    pub fn scalar(&self) -> Option<i64> {
        let tensor = self.tensor.as_ref().filter(|tensor| tensor.len() == 1)?;
        hallmark_model::ops::index::integers(tensor)?.first().copied()
    }
}

/// An operand of a node.
#[derive(Clone, Debug)]
pub enum Operand {
    /// Depends on the request.
    Wire(Expr),
    /// Part of the model.
    Fixed(Fixed),
}

/// A circuit in the making.
pub struct Builder<'a> {
    graph: &'a Graph,
    known: &'a Known,
    circuit: Circuit,
    wires: BTreeMap<ValueId, Expr>,
    constants: Vec<(Constant, Shape, ColumnId)>,
    budget: Budget,
}

/// Lowers the integer core of `graph`, whose captures are its weights ([`hallmark_model::skeleton::Skeleton::graph`]), for
/// `requests` requests with inputs of the types `inputs`.
///
/// # Errors
/// See [`LowerError`]; nothing is computed before the whole graph was found to be provable.
pub fn lower(split: &Split<'_>, requests: usize) -> Result<Circuit, LowerError> {
    let limit = 1 << 12;
    if requests == 0 || requests > limit {
        return Err(LowerError::Requests { got: requests, limit });
    }
    let mut builder = Builder {
        graph: split.graph,
        known: &split.known,
        circuit: Circuit {
            requests,
            columns: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            tables: Vec::new(),
            lookups: Vec::new(),
            zeros: Vec::new(),
            steps: Vec::new(),
            core: split.core_graph(),
        },
        wires: BTreeMap::new(),
        constants: Vec::new(),
        budget: Budget::default(),
    };
    for (index, &id) in split.inputs.iter().enumerate() {
        let shape = builder.shape_of(id)?;
        let column = builder.witness(&shape, true)?;
        builder.circuit.inputs.push(column);
        builder.circuit.steps.push(Step::Input { index, column });
        builder.wires.insert(id, Expr::column(column, &shape));
    }
    for node in split.core() {
        let fail = |why| LowerError::Node { node: node.name.clone(), op: node.op.name, why };
        let row = operator(node).ok_or_else(|| fail(Unproved::Operator))?;
        (row.lower)(&mut builder, node).map_err(|error| match error {
            LowerError::Budget(why) => fail(why.into()),
            other => other,
        })?;
    }
    for &id in &split.outputs {
        let expr = builder.wires.get(&id).cloned().ok_or(LowerError::NotQuantised)?;
        // Rows are compared with tensors whose padding is zero, and padded requests have none.
        let expr = builder.cut(expr)?;
        let view = builder.column(expr)?;
        builder.circuit.outputs.push(view);
    }
    builder.finish()
}

impl Builder<'_> {
    /// The error of `node`.
    pub fn fail(node: &Node, why: impl Into<Unproved>) -> LowerError {
        LowerError::Node { node: node.name.clone(), op: node.op.name, why: why.into() }
    }

    fn finish(mut self) -> Result<Circuit, LowerError> {
        // The argument has at least one lookup: where no operator needs one, an input is found in its type's range.
        if let (true, Some(&column)) = (self.circuit.lookups.is_empty(), self.circuit.inputs.first()) {
            let shape = self.circuit.column(column).shape.clone();
            let mut input = Expr::column(column, &shape);
            input.constant = 1 << 7;
            requantize::range(&mut self, input, 9)?;
        }
        let Self { mut circuit, mut budget, .. } = self;
        // A weight that was multiplied into another is read no more.
        let read: BTreeSet<usize> = circuit.terms().flat_map(Term::views).map(|view| view.column.0).collect();
        for (index, column) in circuit.columns.iter_mut().enumerate() {
            column.read = read.contains(&index);
        }
        // Whoever commits to the weights checks the same with them, but not for every shape of the inputs.
        bounds(&circuit.core)?;
        let parts = [circuit.columns.len(), circuit.tables.len(), circuit.lookups.len(), circuit.zeros.len()];
        let interface = [&circuit.inputs, &circuit.outputs];
        if parts.iter().chain(&interface.map(Vec::len)).any(|&n| n > MAX_PARTS) {
            return Err(LowerError::TooMany);
        }
        // A verifier evaluates every view once, and every request's rows of what enters and leaves.
        if circuit.terms().flat_map(Term::views).count() > MAX_CLAIMS {
            return Err(LowerError::TooMany);
        }
        for map in circuit.terms().flat_map(Term::views).filter_map(|view| view.map.as_ref()) {
            map.pay(&mut budget)?;
        }
        for id in interface.into_iter().flatten() {
            let shape = &circuit.column(*id).shape;
            budget.list(&[shape.padded() >> crate::circuit::log2(circuit.requests)])?;
        }
        // A row that is not in its table must not be able to occur p times, which would count as never.
        let looked_up: u64 = circuit.lookups.iter().map(|lookup| 1 << lookup.input.shape.log()).sum();
        if looked_up > MAX_LOOKED_UP {
            return Err(LowerError::LookedUp { got: looked_up });
        }
        Ok(circuit)
    }

    /// What is known of a value of the graph.
    pub fn info(&self, id: ValueId) -> TypeInfo {
        self.known.types.get(id.0).cloned().unwrap_or_default()
    }

    /// The shape of a value of one request.
    pub fn dims(&self, id: ValueId) -> Result<Vec<usize>, LowerError> {
        known_dims(&self.info(id))
            .filter(|dims| !dims.contains(&0))
            .ok_or_else(|| LowerError::UnknownShape(self.graph.name(id).to_owned()))
    }

    /// The shape of a value of all requests.
    pub fn shape_of(&self, id: ValueId) -> Result<Shape, LowerError> {
        let mut dims = vec![self.circuit.requests];
        dims.extend(self.dims(id)?);
        Ok(Shape(dims))
    }

    /// The node's operand `index`.
    pub fn operand(&self, node: &Node, index: usize) -> Result<Operand, LowerError> {
        let missing = || Self::fail(node, OpError::MissingInput { index });
        let id = node.inputs.get(index).copied().flatten().ok_or_else(missing)?;
        if let Some(expr) = self.wires.get(&id) {
            return Ok(Operand::Wire(expr.clone()));
        }
        let tensor = self.known.constants.get(id.0).cloned().flatten();
        Ok(Operand::Fixed(Fixed { id, shape: self.dims(id)?, tensor }))
    }

    /// The operand `index`, which must depend on the request.
    pub fn wire(&self, node: &Node, index: usize) -> Result<Expr, LowerError> {
        match self.operand(node, index)? {
            Operand::Wire(expr) => Ok(expr),
            Operand::Fixed(_) => {
                Err(Self::fail(node, "an operand that depends on the request is a constant"))
            }
        }
    }

    /// The operand `index`, which must be part of the model.
    pub fn fixed(&self, node: &Node, index: usize) -> Result<Fixed, LowerError> {
        match self.operand(node, index)? {
            Operand::Fixed(fixed) => Ok(fixed),
            Operand::Wire(_) => {
                Err(Self::fail(node, "an operand that must be a constant depends on the request"))
            }
        }
    }

    /// The node's first output.
    pub fn output(node: &Node) -> Result<ValueId, LowerError> {
        node.outputs
            .first()
            .copied()
            .flatten()
            .ok_or_else(|| Self::fail(node, "its first output is not named"))
    }

    /// Makes `expr` the node's first output.
    pub fn set(&mut self, node: &Node, mut expr: Expr) -> Result<(), LowerError> {
        // Both grow from node to node, and a graph may have many.
        let numbers = [expr.constant, expr.inside].into_iter().chain(expr.terms.iter().map(|(c, _)| *c));
        if numbers.into_iter().any(|n| n.unsigned_abs() > HALF.unsigned_abs()) {
            return Err(Self::fail(node, "it multiplies by more than the field holds"));
        }
        if expr.terms.len() > MAX_TERMS {
            let shape = expr.shape.clone();
            expr = Expr::view(self.view(expr)?, shape);
        }
        self.insert(Self::output(node)?, expr)
    }

    /// Makes `expr` the value `id`.
    fn insert(&mut self, id: ValueId, expr: Expr) -> Result<(), LowerError> {
        self.budget.keep(&[expr.size()])?;
        self.wires.insert(id, expr);
        Ok(())
    }

    /// A new witness column. `clean`: whether its padding is zero in every accepted proof.
    pub fn witness(&mut self, shape: &Shape, clean: bool) -> Result<ColumnId, LowerError> {
        self.push(Column { shape: shape.clone(), source: Source::Witness, clean, read: false })
    }

    fn push(&mut self, column: Column) -> Result<ColumnId, LowerError> {
        let got = column
            .shape
            .0
            .iter()
            .try_fold(1_usize, |n, &axis| n.checked_mul(axis.checked_next_power_of_two()?));
        if got.is_none_or(|got| got > 1 << MAX_LOG) {
            return Err(LowerError::TooLarge { got: got.unwrap_or(usize::MAX) });
        }
        if self.circuit.columns.len() >= MAX_PARTS {
            return Err(LowerError::TooMany);
        }
        self.circuit.columns.push(column);
        Ok(ColumnId(self.circuit.columns.len() - 1))
    }

    /// The column of a product of weights; the same product is one column.
    pub fn constant(&mut self, factors: Vec<Weight>, shape: Shape) -> Result<ColumnId, LowerError> {
        self.budget.turns(&[self.constants.len(), factors.len()])?;
        self.budget.keep(&[factors.len(), shape.0.len()])?;
        let constant = Constant { factors };
        let same = |(other, at, _): &&(Constant, Shape, ColumnId)| *other == constant && *at == shape;
        if let Some((_, _, id)) = self.constants.iter().find(same) {
            return Ok(*id);
        }
        let source = Source::Constant(constant.clone());
        let id = self.push(Column { shape: shape.clone(), source, clean: true, read: false })?;
        self.constants.push((constant, shape, id));
        Ok(id)
    }

    /// The column of one weight as it lies, with axes of size 1 kept.
    pub fn weight(&mut self, fixed: &Fixed) -> Result<ColumnId, LowerError> {
        let strides = row_major(&fixed.shape);
        self.constant(vec![Weight { value: fixed.id, strides }], Shape(fixed.shape.clone()))
    }

    /// The index of `table`; equal tables are one.
    pub fn table(&mut self, table: Table) -> Result<TableId, LowerError> {
        let listed = if let Outputs::Values(values) = &table.outputs { values.len() } else { 1 };
        self.budget.turns(&[self.circuit.tables.len(), listed])?;
        if let Some(at) = self.circuit.tables.iter().position(|other| *other == table) {
            return Ok(TableId(at));
        }
        self.circuit.tables.push(table);
        Ok(TableId(self.circuit.tables.len() - 1))
    }

    /// Asks that `lookup` holds; its index.
    pub fn look_up(&mut self, lookup: Lookup) -> Result<usize, LowerError> {
        if self.circuit.lookups.len() >= MAX_PARTS {
            return Err(LowerError::TooMany);
        }
        // The prover's step holds the same expressions again.
        let output = lookup.output.as_ref().map_or(0, Expr::size);
        self.budget.keep(&[2, lookup.input.size().saturating_add(output)])?;
        self.circuit.lookups.push(lookup);
        Ok(self.circuit.lookups.len() - 1)
    }

    /// Fills a column.
    pub fn step(&mut self, step: Step) {
        self.circuit.steps.push(step);
    }

    /// The expression as one view, committed to as a column of its own if it is not one.
    pub fn view(&mut self, expr: Expr) -> Result<View, LowerError> {
        if expr.is_linear()
            && let [(1, Term::View(view))] = &expr.terms[..]
        {
            return Ok(view.clone());
        }
        let clean = self.is_clean(&expr);
        Ok(View { column: self.copy(expr, clean)?, map: None })
    }

    /// The expression as a column.
    pub fn column(&mut self, expr: Expr) -> Result<ColumnId, LowerError> {
        let shape = expr.shape.clone();
        let view = self.view(expr)?;
        if view.map.is_none() {
            return Ok(view.column);
        }
        let clean = self.is_clean_view(&view);
        self.copy(Expr::view(view, shape), clean)
    }

    /// Commits to an expression, as a column of its own.
    fn copy(&mut self, expr: Expr, clean: bool) -> Result<ColumnId, LowerError> {
        let column = self.witness(&expr.shape, clean)?;
        self.budget.keep(&[2, expr.size()])?;
        let mut zero = Expr::column(column, &expr.shape);
        zero.add(-1, expr.clone());
        self.circuit.zeros.push(zero);
        self.step(Step::Copy { expr, column });
        Ok(column)
    }

    /// The expression as one whose padding is zero.
    pub fn cut(&mut self, expr: Expr) -> Result<Expr, LowerError> {
        if self.is_clean(&expr) {
            return Ok(expr);
        }
        let shape = expr.shape.clone();
        let view = self.view(expr)?;
        Ok(Expr::view(self.mask(view, shape.clone())?, shape))
    }

    /// The view with its padding cut off.
    fn mask(&mut self, view: View, shape: Shape) -> Result<View, LowerError> {
        let mut factors = Vec::with_capacity(shape.0.len());
        for (axis, &n) in shape.0.iter().enumerate() {
            let own = (0..n).map(|i| (i, i));
            factors.push(Factor::pairs(&mut self.budget, vec![axis], vec![axis], &[n], own)?);
        }
        let map = Map { view: shape.clone(), column: shape, factors };
        let map = match &view.map {
            Some(inner) => inner.then(&map, &mut self.budget)?,
            None => map,
        };
        Ok(View { column: view.column, map: Some(Arc::new(map)) })
    }

    /// The expression seen through `map`.
    pub fn through(&mut self, expr: Expr, map: Map) -> Result<Expr, LowerError> {
        let plain = expr.is_linear() && expr.terms.iter().all(|(_, term)| matches!(term, Term::View(_)));
        let expr = if plain {
            expr
        } else {
            let shape = expr.shape.clone();
            Expr::view(self.view(expr)?, shape)
        };
        let mut out = Expr::zero(map.view.clone());
        let map = Arc::new(map);
        for (coefficient, term) in expr.terms {
            let Term::View(view) = term else { continue };
            let map = match &view.map {
                Some(inner) => Arc::new(inner.then(&map, &mut self.budget)?),
                None => Arc::clone(&map),
            };
            out.terms.push((coefficient, Term::View(View { column: view.column, map: Some(map) })));
        }
        Ok(out)
    }

    /// Whether a view's padding is zero whatever the prover does.
    pub fn is_clean_view(&self, view: &View) -> bool {
        self.circuit.column(view.column).clean || view.map.as_ref().is_some_and(|map| map.masks_padding())
    }

    /// Whether an expression's padding is zero whatever the prover does.
    pub fn is_clean(&self, expr: &Expr) -> bool {
        !expr.shape.has_padding()
            || expr.constant == 0
                && expr.ramp.is_none()
                && expr.terms.iter().all(|(_, term)| match term {
                    Term::View(view) => self.is_clean_view(view),
                    Term::Contraction(c) => self.is_clean_view(&c.left) && self.is_clean_view(&c.right),
                })
    }

    /// A contraction of two views; a summed axis whose padding neither operand keeps at zero is masked.
    pub fn contraction(
        &mut self,
        (left, left_labels): (View, Vec<Label>),
        (right, right_labels): (View, Vec<Label>),
        out: Vec<Label>,
        sizes: Vec<usize>,
    ) -> Result<Contraction, LowerError> {
        let mut contraction = Contraction { left, right, left_labels, right_labels, out, sizes };
        let (_, summed) = contraction.bound();
        let padded = summed.iter().any(|&label| !contraction.sizes[label].is_power_of_two());
        if padded && !self.is_clean_view(&contraction.left) && !self.is_clean_view(&contraction.right) {
            let dims = contraction.left_labels.iter().map(|&label| contraction.sizes[label]).collect();
            contraction.left = self.mask(contraction.left, Shape(dims))?;
        }
        Ok(contraction)
    }
}

/// Row-major strides of a tensor as it lies in the model.
pub fn row_major(shape: &[usize]) -> Vec<usize> {
    let mut stride = 1;
    let mut out = vec![0; shape.len()];
    for (slot, &n) in out.iter_mut().zip(shape).rev() {
        *slot = stride;
        stride *= n;
    }
    out
}

/// The map that broadcasts a tensor of shape `from` to `to` by numpy's rule. `requests`: whether `from` begins with the axis of
/// requests, as `to` does. `None`: the shapes do not broadcast.
pub fn broadcast(
    budget: &mut Budget,
    from: &[usize],
    to: &Shape,
    requests: bool,
) -> Result<Option<Map>, Exceeded> {
    let Some(offset) = to.0.len().checked_sub(from.len()) else { return Ok(None) };
    let axis_of = |axis: usize| match axis {
        0 if requests => Some(0),
        _ => (axis.checked_sub(offset)).filter(|&at| !requests || at > 0),
    };
    let mut factors = Vec::new();
    let mut used = vec![false; from.len()];
    for (axis, &n) in to.0.iter().enumerate() {
        let at = axis_of(axis);
        if let Some(used) = at.and_then(|at| used.get_mut(at)) {
            *used = true;
        }
        factors.push(match at.map(|at| (at, from[at])) {
            Some((at, m)) if m == n && n > 1 => Factor::identity(axis, at),
            None | Some((_, 1)) => {
                let column = Vec::from_iter(at);
                Factor::pairs(budget, vec![axis], column, &[n], (0..n).map(|i| (i, 0)))?
            }
            Some(_) => return Ok(None),
        });
    }
    let map = Map { view: to.clone(), column: Shape(from.to_vec()), factors };
    Ok(used.iter().all(|used| *used).then_some(map))
}

/// The index into the padded tensor of the element that lies at `index` of the tensor as it is.
pub fn spread_index(mut index: usize, shape: &Shape) -> usize {
    let mut flat = 0;
    for (&n, stride) in shape.0.iter().zip(shape.strides()).rev() {
        flat += index % n * stride;
        index /= n;
    }
    flat
}

/// The sizes, where all are known.
pub fn known_dims(info: &TypeInfo) -> Option<Vec<usize>> {
    let known = |dim: &Dim| if let Dim::Known(n) = dim { Some(*n) } else { None };
    info.shape.as_ref()?.iter().map(known).collect()
}
