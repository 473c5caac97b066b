//! The witness: every column's integers for given requests (`spec/proof.md` §4). Computed from the circuit alone, so that it is a
//! second implementation of the quantised graph, which tests compare with the executors bit for bit.

use hallmark_model::graph::Graph;
use hallmark_model::ops::index::integers;
use hallmark_receipt::Tensor;

use crate::circuit::{
    Circuit, Column, ColumnId, Contraction, Expr, Label, Outputs, Source, Step, Term, View, log2,
};
use crate::witness_row::{HALF, pad, padded, walk};

/// Why there is no witness.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum WitnessError {
    #[error("a weight is missing, or has another shape or type than the skeleton says")]
    Weight,
    #[error("a weight times its multipliers is {0}, beyond half of the field")]
    Constant(i64),
    #[error("input {0} of the integer core has another shape or type than the circuit")]
    Input(usize),
    #[error("an intermediate value of {0} is outside the bounds that the model promises")]
    Bound(i64),
}

/// The integers of every column of the model's commitment, by column; others, also of weights that no term reads, are empty.
///
/// # Errors
/// Weights that are not the skeleton's, or products beyond the field.
pub fn constants(circuit: &Circuit, graph: &Graph) -> Result<Vec<Vec<i32>>, WitnessError> {
    circuit.columns.iter().map(|column| constant(column, graph)).collect()
}

fn constant(column: &Column, graph: &Graph) -> Result<Vec<i32>, WitnessError> {
    let Source::Constant(constant) = &column.source else { return Ok(Vec::new()) };
    if !column.read {
        return Ok(Vec::new());
    }
    let shape = &column.shape;
    let mut products = vec![1_i64; shape.0.iter().product()];
    for factor in &constant.factors {
        let tensor = graph.constants.get(&factor.value).ok_or(WitnessError::Weight)?;
        let values = integers(tensor).ok_or(WitnessError::Weight)?;
        let axes: Vec<(usize, usize)> = shape.0.iter().copied().zip(factor.strides.iter().copied()).collect();
        let last: usize = axes.iter().map(|(n, stride)| (n - 1) * stride).sum();
        if last >= values.len() {
            return Err(WitnessError::Weight);
        }
        for (product, value) in products.iter_mut().zip(gather(&values, &axes)) {
            *product = product
                .checked_mul(value)
                .filter(|v| v.abs() <= HALF)
                .ok_or(WitnessError::Constant(i64::MAX))?;
        }
    }
    Ok(pad(&products, shape))
}

/// Elements in the order of `axes` (count, stride), outermost first.
pub fn gather<T: Copy>(data: &[T], axes: &[(usize, usize)]) -> Vec<T> {
    let mut out = Vec::with_capacity(axes.iter().map(|(count, _)| count).product());
    walk(axes, 0, &mut |start, count, stride| {
        if stride == 1 {
            out.extend_from_slice(&data[start..start + count]);
        } else {
            out.extend((0..count).map(|i| data[start + i * stride]));
        }
    });
    out
}

/// Columns and what their lookups read.
#[derive(Debug)]
pub struct Witness {
    /// The padded integers of each column.
    pub columns: Vec<Vec<i32>>,
    /// For each lookup the rows of its table that it reads.
    pub rows: Vec<Vec<u32>>,
    /// For each table how often each row is read.
    pub multiplicities: Vec<Vec<u32>>,
}

impl Witness {
    /// Computes the witness for `requests`, each the tensors of the core's inputs.
    ///
    /// # Errors
    /// Inputs that do not fit, or a model whose values leave its promised bounds.
    pub fn new(
        circuit: &Circuit,
        constants: &[Vec<i32>],
        requests: &[Vec<Tensor>],
    ) -> Result<Self, WitnessError> {
        let mut witness = Self {
            columns: constants.to_vec(),
            rows: vec![Vec::new(); circuit.lookups.len()],
            multiplicities: circuit.tables.iter().map(|table| vec![0; table.rows()]).collect(),
        };
        for step in &circuit.steps {
            witness.step(circuit, step, requests)?;
        }
        for (lookup, rows) in circuit.lookups.iter().zip(&mut witness.rows) {
            let table = &circuit.tables[lookup.table.0];
            if rows.is_empty() {
                // Limbs: the input is a column, and its rows are its values.
                let values = evaluate(circuit, &witness.columns, &lookup.input);
                *rows = values.iter().map(|&v| row(table, v)).collect::<Result<_, _>>()?;
            }
            let counts = &mut witness.multiplicities[lookup.table.0];
            for &row in rows.iter() {
                counts[row as usize] += 1;
            }
        }
        Ok(witness)
    }

    /// The integers that leave the core for one request: its outputs one after the other, row-major, without padding.
    pub fn outputs(&self, circuit: &Circuit, request: usize) -> Vec<i32> {
        let mut out = Vec::new();
        for id in &circuit.outputs {
            let shape = &circuit.column(*id).shape;
            let each = shape.padded() >> log2(shape.0[0]);
            let row = &self.columns[id.0][request * each..(request + 1) * each];
            let axes: Vec<(usize, usize)> = shape.0.iter().copied().zip(shape.strides()).skip(1).collect();
            out.extend(gather(row, &axes));
        }
        out
    }

    fn step(&mut self, circuit: &Circuit, step: &Step, requests: &[Vec<Tensor>]) -> Result<(), WitnessError> {
        match step {
            Step::Input { index, column } => {
                let shape = &circuit.column(*column).shape;
                let each = shape.padded() >> log2(shape.0[0]);
                let mut out = vec![0; shape.padded()];
                for (at, request) in requests.iter().enumerate().take(shape.0[0]) {
                    let tensor = request.get(*index).filter(|tensor| tensor.shape() == &shape.0[1..]);
                    let tensor = tensor.ok_or(WitnessError::Input(*index))?;
                    let row = padded(tensor).ok_or(WitnessError::Input(*index))?;
                    out[at * each..(at + 1) * each].copy_from_slice(&row);
                }
                if requests.len() != shape.0[0] {
                    return Err(WitnessError::Input(*index));
                }
                self.columns[column.0] = out;
            }
            Step::Copy { expr, column } => {
                let values = evaluate(circuit, &self.columns, expr);
                self.columns[column.0] = values.into_iter().map(narrow).collect::<Result<_, _>>()?;
            }
            Step::Divide { expr, shift, limbs, table, column, lookup } => {
                let values = evaluate(circuit, &self.columns, expr);
                let mut at = 0;
                for (limb, bits) in limbs {
                    let mask = (1 << bits) - 1;
                    self.columns[limb.0] = values.iter().map(|v| (v >> at & mask) as i32).collect();
                    at += bits;
                }
                self.read(circuit, *lookup, table.0, *column, values.iter().map(|v| v >> shift), None)?;
            }
            Step::Quotient { dividend, divisor, column } => {
                let a = evaluate(circuit, &self.columns, dividend);
                let b = evaluate(circuit, &self.columns, divisor);
                let quotient =
                    |(&a, &b): (&i64, &i64)| if b == 0 { 0 } else { (2 * a + b).div_euclid(2 * b) };
                self.columns[column.0] =
                    a.iter().zip(&b).map(quotient).map(narrow).collect::<Result<_, _>>()?;
            }
            Step::Root { expr, column } => {
                let values = evaluate(circuit, &self.columns, expr);
                let root = |v: i64| {
                    u64::try_from(v).map(u64::isqrt).map_or(Err(WitnessError::Bound(v)), |r| narrow(r as i64))
                };
                self.columns[column.0] = values.into_iter().map(root).collect::<Result<_, _>>()?;
            }
            Step::Apply { expr, table, offset, column, lookup } => {
                let values = evaluate(circuit, &self.columns, expr);
                let offset = offset.as_ref().map(|offset| evaluate(circuit, &self.columns, offset));
                self.read(circuit, *lookup, table.0, Some(*column), values.into_iter(), offset)?;
            }
        }
        Ok(())
    }

    /// Writes what a table gives for `inputs`, plus `offset`.
    fn read(
        &mut self,
        circuit: &Circuit,
        lookup: usize,
        table: usize,
        column: Option<ColumnId>,
        inputs: impl Iterator<Item = i64>,
        offset: Option<Vec<i64>>,
    ) -> Result<(), WitnessError> {
        let table = &circuit.tables[table];
        let (mut rows, mut out) = (Vec::new(), Vec::new());
        for (at, input) in inputs.enumerate() {
            rows.push(row(table, input)?);
            if column.is_none() {
                continue;
            }
            let value = match table.outputs {
                Outputs::Column { column: from, .. } => {
                    rows.last().map(|&row| self.columns[from.0][row as usize].into())
                }
                _ => table.output(input),
            };
            let value = value.ok_or(WitnessError::Bound(input))?;
            out.push(narrow(value + offset.as_ref().map_or(0, |offset| offset[at]))?);
        }
        self.rows[lookup] = rows;
        if let Some(column) = column {
            self.columns[column.0] = out;
        }
        Ok(())
    }
}

fn row(table: &crate::circuit::Table, input: i64) -> Result<u32, WitnessError> {
    table.row(input).map(|row| row as u32).ok_or(WitnessError::Bound(input))
}

fn narrow(value: i64) -> Result<i32, WitnessError> {
    i32::try_from(value).ok().filter(|_| value.abs() <= HALF).ok_or(WitnessError::Bound(value))
}

/// The padded values of an expression.
pub fn evaluate(circuit: &Circuit, columns: &[Vec<i32>], expr: &Expr) -> Vec<i64> {
    let mut out = vec![expr.constant; expr.shape.padded()];
    if expr.inside != 0 {
        let axes: Vec<(usize, usize)> = expr.shape.0.iter().copied().zip(expr.shape.strides()).collect();
        walk(&axes, 0, &mut |start, count, stride| {
            (0..count).for_each(|i| out[start + i * stride] += expr.inside);
        });
    }
    if let Some(axis) = expr.ramp {
        let (stride, size) = (expr.shape.strides()[axis], 1 << log2(expr.shape.0[axis]));
        out.iter_mut().enumerate().for_each(|(i, out)| *out += (i / stride % size) as i64);
    }
    for (coefficient, term) in &expr.terms {
        let mut add = |values: &[i32]| {
            for (out, &v) in out.iter_mut().zip(values) {
                *out += coefficient * i64::from(v);
            }
        };
        match term {
            Term::View(View { column, map: None }) => add(&columns[column.0]),
            Term::View(view) => add(&seen(columns, view)),
            Term::Contraction(contraction) => add(&contract(circuit, columns, contraction)),
        }
    }
    out
}

fn seen(columns: &[Vec<i32>], view: &View) -> Vec<i32> {
    let column = &columns[view.column.0];
    view.map.as_ref().map_or_else(|| column.clone(), |map| map.apply(column))
}

/// The roles that a contraction's labels play: in both operands and the result, in both and summed, left alone, right alone.
pub struct Roles {
    /// Paired.
    pub paired: Vec<Label>,
    /// Summed.
    pub summed: Vec<Label>,
    /// Of the left operand alone.
    pub left: Vec<Label>,
    /// Of the right operand alone.
    pub right: Vec<Label>,
}

impl Roles {
    /// Of `contraction`.
    pub fn of(contraction: &Contraction) -> Self {
        let (paired, summed) = contraction.bound();
        let only =
            |own: &[Label], other: &[Label]| own.iter().copied().filter(|l| !other.contains(l)).collect();
        let (l, r) = (&contraction.left_labels, &contraction.right_labels);
        Self { paired, summed, left: only(l, r), right: only(r, l) }
    }
}

/// Axes (padded count, stride) of an operand in the order of `labels`; a summed label has its real size where `real`.
pub fn axes(c: &Contraction, own: &[Label], labels: &[Label], real: bool) -> Vec<(usize, usize)> {
    let mut strides = vec![0; own.len()];
    let mut stride = 1;
    for (slot, &label) in strides.iter_mut().zip(own).rev() {
        *slot = stride;
        stride <<= log2(c.sizes[label]);
    }
    let one = |&label: &Label| {
        let at = own.iter().position(|other| *other == label)?;
        let count = if real { c.sizes[label] } else { 1 << log2(c.sizes[label]) };
        Some((count, strides[at]))
    };
    labels.iter().filter_map(one).collect()
}

/// The padded integers of a contraction. Sums wrap at 32 bits, which the model's bounds exclude.
fn contract(_circuit: &Circuit, columns: &[Vec<i32>], c: &Contraction) -> Vec<i32> {
    let roles = Roles::of(c);
    let order = |own: &[Label], alone: &[Label], data: &[i32]| {
        let mut all = axes(c, own, &roles.paired, false);
        all.extend(axes(c, own, alone, false));
        // Padding of a summed axis is zero on one side at least.
        all.extend(axes(c, own, &roles.summed, true));
        gather(data, &all)
    };
    let left = order(&c.left_labels, &roles.left, &seen(columns, &c.left));
    let right = order(&c.right_labels, &roles.right, &seen(columns, &c.right));
    let size = |labels: &[Label]| 1_usize << c.log(labels);
    let inner: usize = roles.summed.iter().map(|&label| c.sizes[label]).product();
    let (pairs, rows, cols) = (size(&roles.paired), size(&roles.left), size(&roles.right));
    let mut out = Vec::with_capacity(pairs * rows * cols);
    for pair in 0..pairs {
        let right = &right[pair * cols * inner..(pair + 1) * cols * inner];
        for row in 0..rows {
            let left = &left[(pair * rows + row) * inner..][..inner];
            if left.iter().all(|v| *v == 0) {
                out.resize(out.len() + cols, 0);
            } else {
                out.extend(right.chunks_exact(inner).map(|right| dot(left, right)));
            }
        }
    }
    // From (paired, left, right) to the result's own order.
    let from: Vec<Label> = [&roles.paired[..], &roles.left, &roles.right].concat();
    let own: Vec<Label> = from.into_iter().filter(|label| c.out.contains(label)).collect();
    gather(&out, &axes(c, &own, &c.out, false))
}

fn dot(a: &[i32], b: &[i32]) -> i32 {
    a.iter().zip(b).fold(0_i32, |sum, (&a, &b)| sum.wrapping_add(a.wrapping_mul(b)))
}
