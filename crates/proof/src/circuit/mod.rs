//! The circuit: what a proof is about, derived from a model's skeleton alone (`spec/proof.md` §2).
//!
//! A circuit has *columns* (tensors of integers that are committed to) and two kinds of constraints over *expressions*
//! (sums of views of columns and of contractions of two views): every element of an expression is in a [`Table`], or is
//! zero. An axis of `n` elements is padded to the next power of two; a tensor is the multilinear polynomial that takes its
//! values at the corners of the cube, row-major, the first axis in the most significant bits.

use std::sync::Arc;

use hallmark_model::graph::{Graph, ValueId};

use crate::field::{E, PrimeCharacteristicRing};

mod map;
mod table;

pub use map::{Factor, Links, Map};
pub use table::{Outputs, Table};

/// The sizes of a tensor's axes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape(pub Vec<usize>);

/// Bits of an index into `n` elements.
pub fn log2(n: usize) -> usize {
    n.max(1).next_power_of_two().trailing_zeros() as usize
}

impl Shape {
    /// Bits of each axis.
    pub fn logs(&self) -> impl DoubleEndedIterator<Item = usize> + ExactSizeIterator + '_ {
        self.0.iter().map(|&n| log2(n))
    }

    /// Bits of an index into the padded tensor.
    pub fn log(&self) -> usize {
        self.logs().sum()
    }

    /// Elements of the padded tensor.
    pub fn padded(&self) -> usize {
        1 << self.log()
    }

    /// Whether an axis has padding.
    pub fn has_padding(&self) -> bool {
        self.0.iter().any(|n| !n.is_power_of_two())
    }

    /// The multilinear extension of "not in the padding" at `point`.
    pub fn inside(&self, point: &[E]) -> E {
        let mut rest = point;
        let mut product = E::ONE;
        for (&n, log) in self.0.iter().zip(self.logs()) {
            let (own, after) = rest.split_at(log);
            rest = after;
            product *= table::prefix(own, n).0;
        }
        product
    }

    /// The multilinear extension of the index along `axis` at `point`.
    pub fn index(&self, axis: usize, point: &[E]) -> E {
        let start: usize = self.logs().take(axis).sum();
        table::index(&point[start..start + log2(self.0[axis])])
    }

    /// Strides of the padded tensor.
    pub fn strides(&self) -> Vec<usize> {
        let mut stride = 1;
        let mut out = vec![0; self.0.len()];
        for (slot, log) in out.iter_mut().zip(self.logs()).rev() {
            *slot = stride;
            stride <<= log;
        }
        out
    }
}

/// Index of a column in [`Circuit::columns`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ColumnId(pub usize);

/// Where a column's values come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Part of the model's commitment.
    Constant(Constant),
    /// Part of the commitment that each proof makes.
    Witness,
}

/// A tensor of integers that is committed to.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Its shape. That of a witness column begins with the axis of requests.
    pub shape: Shape,
    /// Where its values come from.
    pub source: Source,
    /// Whether its padding is zero whatever the prover does.
    pub clean: bool,
    /// Whether a term reads it.
    pub read: bool,
}

/// A column of the model's commitment: the elementwise product of weights, each read through strides of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Constant {
    /// The factors; at least one.
    pub factors: Vec<Weight>,
}

/// A weight of the model as a factor of a [`Constant`].
#[derive(Clone, Debug, PartialEq)]
pub struct Weight {
    /// The constant of the graph.
    pub value: ValueId,
    /// Distance in its elements of neighbours along each axis of the column; 0 repeats it.
    pub strides: Vec<usize>,
}

/// A column, seen through a map.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// The column.
    pub column: ColumnId,
    /// `None`: as it is.
    pub map: Option<Arc<Map>>,
}

/// An axis of a [`Contraction`], by number.
pub type Label = usize;

/// A sum of products of two views, as in `einsum`: labels that are not in `out` are summed over. A label in both operands
/// and in `out` pairs their elements; every label is in `out` or in both operands.
#[derive(Clone, Debug, PartialEq)]
pub struct Contraction {
    /// Left operand.
    pub left: View,
    /// Right operand.
    pub right: View,
    /// The labels of the left operand's axes.
    pub left_labels: Vec<Label>,
    /// The labels of the right operand's axes.
    pub right_labels: Vec<Label>,
    /// The labels of the result's axes.
    pub out: Vec<Label>,
    /// The size of each label.
    pub sizes: Vec<usize>,
}

impl Contraction {
    /// The labels that the reduction of a claim runs over: first those that pair elements, then those that are summed.
    pub fn bound(&self) -> (Vec<Label>, Vec<Label>) {
        let both = self.left_labels.iter().copied().filter(|label| self.right_labels.contains(label));
        both.partition(|label| self.out.contains(label))
    }

    /// Bits of an index over `labels`.
    pub fn log(&self, labels: &[Label]) -> usize {
        labels.iter().map(|&label| log2(self.sizes[label])).sum()
    }
}

/// A summand of an expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Term {
    /// A view.
    View(View),
    /// A contraction.
    Contraction(Contraction),
}

impl Term {
    /// The views that it reads.
    pub fn views(&self) -> impl Iterator<Item = &View> {
        let (one, two) = match self {
            Self::View(view) => (view, None),
            Self::Contraction(c) => (&c.left, Some(&c.right)),
        };
        std::iter::once(one).chain(two)
    }
}

/// A sum of terms: `constant + sum of coefficient * term`.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    /// Its shape, which is that of every term.
    pub shape: Shape,
    /// The terms with their coefficients.
    pub terms: Vec<(i64, Term)>,
    /// What is added everywhere, padding included.
    pub constant: i64,
    /// What is added outside the padding.
    pub inside: i64,
    /// An axis whose index is added everywhere.
    pub ramp: Option<usize>,
}

impl Expr {
    /// A column as it is.
    pub fn column(column: ColumnId, shape: &Shape) -> Self {
        Self::view(View { column, map: None }, shape.clone())
    }

    /// A view.
    pub fn view(view: View, shape: Shape) -> Self {
        Self { terms: vec![(1, Term::View(view))], ..Self::zero(shape) }
    }

    /// Nothing but zeros.
    pub fn zero(shape: Shape) -> Self {
        Self { shape, terms: Vec::new(), constant: 0, inside: 0, ramp: None }
    }

    /// One contraction.
    pub fn contraction(contraction: Contraction, shape: Shape) -> Self {
        Self { terms: vec![(1, Term::Contraction(contraction))], ..Self::zero(shape) }
    }

    /// Whether it is its terms alone.
    pub fn is_linear(&self) -> bool {
        self.constant == 0 && self.inside == 0 && self.ramp.is_none()
    }

    /// Adds `coefficient * other`, which has the same shape and no ramp. Numbers saturate: what is anywhere near there is refused.
    pub fn add(&mut self, coefficient: i64, other: Self) {
        let times = |n: i64| coefficient.saturating_mul(n);
        self.constant = self.constant.saturating_add(times(other.constant));
        self.inside = self.inside.saturating_add(times(other.inside));
        self.terms.extend(other.terms.into_iter().map(|(c, term)| (times(c), term)));
    }

    /// What it takes to keep it, in numbers of a few bytes.
    pub fn size(&self) -> usize {
        let of = |(_, term): &(i64, Term)| match term {
            Term::View(_) => 8,
            Term::Contraction(c) => {
                8 + c.left_labels.len() + c.right_labels.len() + c.out.len() + c.sizes.len()
            }
        };
        self.shape.0.len() + self.terms.iter().map(of).sum::<usize>()
    }
}

/// Index of a table in [`Circuit::tables`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableId(pub usize);

/// Every element of `input / 2^shift` is in a table, with the element of `output` beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Lookup {
    /// The table.
    pub table: TableId,
    /// What is looked up.
    pub input: Expr,
    /// What `input` is divided by, in bits. The division is exact in every honest witness.
    pub shift: usize,
    /// What stands beside it; `None` for tables of one column.
    pub output: Option<Expr>,
}

/// How an honest prover fills witness columns, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// The next request's tensor of the core's input `index`.
    Input {
        /// Position among the core's inputs.
        index: usize,
        /// Where it goes.
        column: ColumnId,
    },
    /// The expression as it is.
    Copy {
        /// What is written.
        expr: Expr,
        /// Where it goes.
        column: ColumnId,
    },
    /// `quotient = expr >> shift`, written through a table's outputs; what is shifted out goes to limbs, lowest first.
    Divide {
        /// The dividend.
        expr: Expr,
        /// Bits shifted out.
        shift: usize,
        /// Limbs: their columns and their bits.
        limbs: Vec<(ColumnId, usize)>,
        /// The table that gives the result.
        table: TableId,
        /// Where the table's outputs go, if anywhere.
        column: Option<ColumnId>,
        /// The lookup that this fills.
        lookup: usize,
    },
    /// Elementwise `floor((2 a + b) / (2 b))`, and 0 where `b` is.
    Quotient {
        /// The dividend `a`.
        dividend: Expr,
        /// The divisor `b`, not negative.
        divisor: Expr,
        /// Where it goes.
        column: ColumnId,
    },
    /// The floor of the square root.
    Root {
        /// What it is of.
        expr: Expr,
        /// Where it goes.
        column: ColumnId,
    },
    /// `offset + table(expr)`.
    Apply {
        /// What is looked up.
        expr: Expr,
        /// The table.
        table: TableId,
        /// What is added to the table's output.
        offset: Option<Expr>,
        /// Where it goes.
        column: ColumnId,
        /// The lookup that this fills.
        lookup: usize,
    },
}

/// A circuit over a number of requests.
#[derive(Clone, Debug)]
pub struct Circuit {
    /// Requests that one proof speaks of.
    pub requests: usize,
    /// All columns: those of the model's commitment and of the proof's, each in order.
    pub columns: Vec<Column>,
    /// The columns that hold the core's inputs, in order; each begins with the axis of requests.
    pub inputs: Vec<ColumnId>,
    /// The columns that hold the core's outputs.
    pub outputs: Vec<ColumnId>,
    /// Lookup tables.
    pub tables: Vec<Table>,
    /// Lookups.
    pub lookups: Vec<Lookup>,
    /// Expressions of which every element is zero.
    pub zeros: Vec<Expr>,
    /// How the witness is made.
    pub steps: Vec<Step>,
    /// The integer graph that the circuit was made from, with all types; its captures are its weights. Bounds follow from it.
    pub core: Graph,
}

impl Circuit {
    /// The columns of the model's commitment (`true`: weights that a term reads) or of the proof's, in order.
    pub fn part(&self, constant: bool) -> impl Iterator<Item = ColumnId> + '_ {
        let of = move |(_, column): &(usize, &Column)| match column.source {
            Source::Constant(_) => constant && column.read,
            _ => !constant,
        };
        self.columns.iter().enumerate().filter(of).map(|(index, _)| ColumnId(index))
    }

    /// All terms: lookups' inputs and outputs in order, then identities', then columns that are tables.
    pub fn terms(&self) -> impl Iterator<Item = &Term> {
        let lookups =
            self.lookups.iter().flat_map(|lookup| std::iter::once(&lookup.input).chain(&lookup.output));
        let exprs = lookups.chain(&self.zeros).flat_map(|expr| &expr.terms).map(|(_, term)| term);
        exprs.chain(self.tables.iter().filter_map(|table| match &table.outputs {
            Outputs::Column { term, .. } => Some(&**term),
            _ => None,
        }))
    }

    /// The column `id`.
    pub fn column(&self, id: ColumnId) -> &Column {
        &self.columns[id.0]
    }

    /// What a transcript absorbs of a circuit: everything that depends on the requests' number and shapes, each with its length. Operators
    /// and parameters are in the digest of the graph.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut number = |n: i64| out.extend(n.to_le_bytes());
        let size = |n: usize| n as i64;
        number(size(self.requests));
        number(size(self.columns.len()));
        for column in &self.columns {
            number(i64::from(matches!(column.source, Source::Constant(_))));
            number(size(column.shape.0.len()));
            column.shape.0.iter().for_each(|&n| number(size(n)));
        }
        for list in [&self.inputs, &self.outputs] {
            number(size(list.len()));
            list.iter().for_each(|id| number(size(id.0)));
        }
        number(size(self.tables.len()));
        for table in &self.tables {
            number(size(table.log));
            number(table.start);
        }
        number(size(self.lookups.len()));
        number(size(self.zeros.len()));
        out
    }
}
