//! Einsum of one or two operands as ReduceSum, Transpose, Reshape and MatMul (`quantised.md` §3.1).

use hallmark_receipt::Tensor;

use super::QuantiseError;
use super::rewrite::Rewrite;
use crate::graph::{Attr, Attrs, Dim, Node, ValueId};
use crate::ops::einsum::{Label, parse};

/// An operand as it is now: a label and a size for each axis.
struct Operand {
    id: ValueId,
    labels: Vec<Label>,
    dims: Vec<Dim>,
}

impl Operand {
    fn dim(&self, label: Label) -> Option<&Dim> {
        self.dims.get(self.labels.iter().position(|own| *own == label)?)
    }

    /// Its own labels of that kind, in its order.
    fn labels(&self, kind: impl Fn(&Label) -> bool) -> Vec<Label> {
        self.labels.iter().copied().filter(kind).collect()
    }

    /// The sizes of `labels`, where all are known.
    fn sizes(&self, labels: &[Label]) -> Option<Vec<i64>> {
        let size = |label: &Label| match self.dim(*label)? {
            Dim::Known(n) => i64::try_from(*n).ok(),
            _ => None,
        };
        labels.iter().map(size).collect()
    }
}

/// The rule of `simplify.rs`.
pub(super) fn einsum(
    work: &mut Rewrite<'_>,
    node: &Node,
    output: ValueId,
) -> Result<Option<()>, QuantiseError> {
    let Some((operands, wanted)) = read(work, node) else { return Ok(None) };
    let made = match operands.as_slice() {
        [x] => Some(sum(work, node, x, &wanted)?),
        [a, b] => product(work, node, a, b, &wanted)?,
        _ => None,
    };
    let Some(made) = made else { return Ok(None) };
    let Some(id) = transposed(work, node, &made, &wanted)? else { return Ok(None) };
    work.push(node, "Identity", Attrs::default(), vec![id], output)?;
    Ok(Some(()))
}

/// The operands, and the labels of the output. A diagonal has no other form.
fn read(work: &Rewrite<'_>, node: &Node) -> Option<(Vec<Operand>, Vec<Label>)> {
    let ids: Vec<ValueId> = node.inputs.iter().copied().collect::<Option<_>>()?;
    let dims: Vec<Vec<Dim>> =
        ids.iter().map(|id| Some(work.source.dims(*id)?.to_vec())).collect::<Option<_>>()?;
    let ranks: Vec<usize> = dims.iter().map(Vec::len).collect();
    let equation = parse(node, &ranks).ok()?;
    let distinct = |labels: &Vec<Label>| {
        (0..labels.len()).all(|at| !labels.get(..at).unwrap_or_default().contains(&labels[at]))
    };
    if !equation.inputs.iter().all(distinct) {
        return None;
    }
    let operand = |((id, labels), dims): ((&ValueId, Vec<Label>), Vec<Dim>)| Operand {
        id: work.named(*id),
        labels,
        dims,
    };
    Some((ids.iter().zip(equation.inputs).zip(dims).map(operand).collect(), equation.output))
}

/// `x` summed over what is not wanted.
fn sum(work: &mut Rewrite<'_>, node: &Node, x: &Operand, wanted: &[Label]) -> Result<Operand, QuantiseError> {
    let gone = (0_i64..).zip(&x.labels).filter(|(_, label)| !wanted.contains(label));
    let axes: Vec<i64> = gone.map(|(at, _)| at).collect();
    let mut id = x.id;
    if !axes.is_empty() {
        let axes = work.constant(Tensor::vector(axes));
        id = work.then(node, "ReduceSum", &[("keepdims", Attr::Int(0))], vec![id, axes], id)?;
    }
    let labels = x.labels(|label| wanted.contains(label));
    let dims = labels.iter().filter_map(|label| x.dim(*label).cloned()).collect();
    Ok(Operand { id, labels, dims })
}

/// A product of matrices: what both have and the output wants is its batch, what both have and nobody wants is summed over.
fn product(
    work: &mut Rewrite<'_>,
    node: &Node,
    a: &Operand,
    b: &Operand,
    wanted: &[Label],
) -> Result<Option<Operand>, QuantiseError> {
    let known = |x: &Operand| work.graph.constants.contains_key(&x.id);
    // Weights come second.
    let (a, b) = if known(a) { (b, a) } else { (a, b) };
    let batch = a.labels(|label| b.labels.contains(label) && wanted.contains(label));
    let inner = a.labels(|label| b.labels.contains(label) && !wanted.contains(label));
    let mut rows = a.labels(|label| !b.labels.contains(label));
    let columns = b.labels(|label| !a.labels.contains(label));
    let agree = batch.iter().chain(&inner).all(|label| a.dim(*label) == b.dim(*label));
    if !agree || !rows.iter().chain(&columns).all(|label| wanted.contains(label)) {
        return Ok(None);
    }
    // Without a batch, all rows of weights' products but the last axis stay what they are.
    let mut outer = batch.clone();
    if batch.is_empty() && rows.len() > 1 {
        let last = rows.split_off(rows.len() - 1);
        outer = std::mem::replace(&mut rows, last);
    }
    let Some(x) = matrix(work, node, a, [&outer, &rows, &inner])? else { return Ok(None) };
    let Some(y) = matrix(work, node, b, [&batch, &inner, &columns])? else { return Ok(None) };
    let mut id = work.then(node, "MatMul", &[], vec![x, y], x)?;
    if [&rows, &columns].iter().any(|labels| labels.len() != 1) {
        // One axis of rows stays, of whatever size.
        let apart = if rows.len() == 1 { &[][..] } else { &rows };
        let (Some(sizes), Some(columns)) = (a.sizes(apart), b.sizes(&columns)) else { return Ok(None) };
        id = reshaped(work, node, id, outer.len() + rows.len() - apart.len(), [sizes, columns].concat())?;
    }
    let labels = [outer, rows, columns].concat();
    let dim = |label: &Label| a.dim(*label).or_else(|| b.dim(*label)).cloned();
    let dims = labels.iter().filter_map(dim).collect();
    Ok(Some(Operand { id, labels, dims }))
}

/// `x` with the axes of `outer`, then one axis each for `rows` and `columns`.
fn matrix(
    work: &mut Rewrite<'_>,
    node: &Node,
    x: &Operand,
    [outer, rows, columns]: [&[Label]; 3],
) -> Result<Option<ValueId>, QuantiseError> {
    let Some(id) = transposed(work, node, x, &[outer, rows, columns].concat())? else { return Ok(None) };
    if rows.len() == 1 && columns.len() == 1 {
        return Ok(Some(id));
    }
    let joined = |labels| x.sizes(labels)?.into_iter().try_fold(1_i64, i64::checked_mul);
    let (Some(rows), Some(columns)) = (joined(rows), joined(columns)) else { return Ok(None) };
    reshaped(work, node, id, outer.len(), vec![rows, columns]).map(Some)
}

/// `x` with its axes in the order of `labels`, which are all its own.
fn transposed(
    work: &mut Rewrite<'_>,
    node: &Node,
    x: &Operand,
    labels: &[Label],
) -> Result<Option<ValueId>, QuantiseError> {
    if x.labels == labels {
        return Ok(Some(x.id));
    }
    let from = |label: &Label| x.labels.iter().position(|own| own == label);
    let perm = labels.iter().map(|label| i64::try_from(from(label)?).ok()).collect::<Option<Vec<_>>>();
    let Some(perm) = perm.filter(|perm| perm.len() == x.labels.len()) else { return Ok(None) };
    work.then(node, "Transpose", &[("perm", Attr::Ints(perm))], vec![x.id], x.id).map(Some)
}

/// `id` with its first `kept` axes, then axes of `sizes`.
fn reshaped(
    work: &mut Rewrite<'_>,
    node: &Node,
    id: ValueId,
    kept: usize,
    sizes: Vec<i64>,
) -> Result<ValueId, QuantiseError> {
    let shape = work.constant(Tensor::vector([vec![0; kept], sizes].concat()));
    work.then(node, "Reshape", &[], vec![id, shape], id)
}
