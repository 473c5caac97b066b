//! Einsum (`numeric.md` §3).

use std::collections::BTreeMap;

use hallmark_receipt::{Tensor, tensor::count};

use super::dispatch::{one, op, with_types};
use super::index::{View, strides, wrap_data};
use super::infer::info;
use super::{EvalCx, InferCx, OpDef, OpError, half::in_f32};
use crate::graph::{Dim, Node, TypeInfo};
use crate::numeric::{BLOCK, Number, contract, sum};

/// The family's table.
pub const OPS: &[OpDef] = &[op("Einsum", &[12, 28], &["equation"], infer_einsum, |cx| in_f32(cx, einsum))];

/// A letter, or (above every `char`) an axis of the ellipsis counted from its right end.
pub(crate) type Label = u32;

const ELLIPSIS: Label = 0x0011_0000;

/// A parsed equation: a label for each axis.
pub(crate) struct Equation {
    pub inputs: Vec<Vec<Label>>,
    pub output: Vec<Label>,
}

fn fail(why: &'static str) -> OpError {
    OpError::Attribute { name: "equation", why }
}

/// One term; `ellipsis` is how many axes "..." stands for.
fn term(text: &str, ellipsis: usize) -> Result<Vec<Label>, OpError> {
    let mut labels = Vec::new();
    let mut rest = text;
    let mut seen = false;
    while let Some(letter) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("...") {
            if seen {
                return Err(fail("two ellipses in one term"));
            }
            seen = true;
            labels.extend((0..ellipsis as u32).rev().map(|i| ELLIPSIS + i));
            rest = after;
        } else if letter.is_ascii_alphabetic() {
            labels.push(letter.into());
            rest = &rest[1..];
        } else {
            return Err(fail("a term that is not of letters and an ellipsis"));
        }
    }
    Ok(labels)
}

/// The equation of `node`, for inputs of these ranks.
pub(crate) fn parse(node: &Node, ranks: &[usize]) -> Result<Equation, OpError> {
    let text: String = node.attrs.str("equation", "").chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = match text.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (text.as_str(), None),
    };
    let terms: Vec<&str> = left.split(',').collect();
    if terms.len() != ranks.len() {
        return Err(fail("not one term for each input"));
    }
    let mut inputs = Vec::new();
    let mut widest = 0;
    for (text, &rank) in terms.iter().zip(ranks) {
        let letters = text.chars().filter(|&c| c != '.').count();
        let wide =
            if text.contains("...") { rank.checked_sub(letters) } else { (rank == letters).then_some(0) };
        let wide = wide.ok_or(fail("a term whose length is not its input's rank"))?;
        widest = std::cmp::max(widest, wide);
        inputs.push(term(text, wide)?);
    }
    let output = match right {
        Some(text) => term(text, widest)?,
        None => {
            let mut times = BTreeMap::new();
            inputs.iter().flatten().for_each(|&label| *times.entry(label).or_insert(0) += 1);
            let ellipsis = (0..widest as u32).rev().map(|i| ELLIPSIS + i);
            let letters = times.iter().filter(|&(&l, &n)| l < ELLIPSIS && n == 1).map(|(&l, _)| l);
            ellipsis.chain(letters).collect()
        }
    };
    for (i, label) in output.iter().enumerate() {
        if output[..i].contains(label) || !inputs.iter().flatten().any(|l| l == label) {
            return Err(fail("an output label that is repeated or in no input"));
        }
    }
    Ok(Equation { inputs, output })
}

fn infer_einsum(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let dtype = super::infer::same_type(cx, 0..cx.types.len())?;
    let mut dims = Vec::new();
    for i in 0..cx.types.len() {
        match cx.input(i)?.shape.as_deref() {
            Some(shape) => dims.push(shape),
            None => return Ok(vec![info(dtype, None)]),
        }
    }
    let equation = parse(cx.node, &dims.iter().map(|d| d.len()).collect::<Vec<_>>())?;
    let mut sizes: BTreeMap<Label, Dim> = BTreeMap::new();
    for (label, dim) in equation.inputs.iter().flatten().zip(dims.into_iter().flatten()) {
        let slot = sizes.entry(*label).or_insert_with(|| dim.clone());
        match (&*slot, dim) {
            (Dim::Known(a), Dim::Known(b)) if a != b && *a != 1 && *b != 1 => {
                return Err(OpError::Shape { what: "one size for each label", got: vec![*a, *b] });
            }
            (Dim::Known(1) | Dim::Unknown, _) => *slot = dim.clone(),
            (Dim::Symbol(_), Dim::Known(n)) if *n != 1 => *slot = dim.clone(),
            _ => {}
        }
    }
    let shape = equation.output.iter().map(|l| sizes.get(l).cloned().unwrap_or(Dim::Unknown)).collect();
    Ok(vec![info(dtype, Some(shape))])
}

/// An operand on its way: values of distinct labels, row-major in the labels' order.
struct Operand<T> {
    labels: Vec<Label>,
    shape: Vec<usize>,
    values: Vec<T>,
}

impl<T: Number> Operand<T> {
    /// The stride of `label`; 0 where it is absent or stretched.
    fn stride(&self, label: Label) -> isize {
        match self.labels.iter().position(|&l| l == label) {
            Some(i) if self.shape[i] != 1 => strides(&self.shape)[i],
            _ => 0,
        }
    }

    /// Offsets of the elements of the space that `labels` span, row-major.
    fn offsets(&self, labels: &[Label], sizes: &BTreeMap<Label, usize>) -> Vec<usize> {
        // An empty space first: its other axes may be of any size.
        if labels.iter().any(|label| sizes.get(label) == Some(&0)) {
            return Vec::new();
        }
        let mut out = vec![0_usize];
        for &label in labels {
            let (size, step) = (sizes.get(&label).copied().unwrap_or(1), self.stride(label).cast_unsigned());
            out = out.iter().flat_map(|&base| (0..size).map(move |i| base + i * step)).collect();
        }
        out
    }

    /// Sums `gone` out (§5); `order` is the order of the equation.
    fn sum_out(self, cx: &EvalCx<'_>, gone: &[Label]) -> Result<Self, OpError> {
        if gone.is_empty() {
            return Ok(self);
        }
        let own: BTreeMap<Label, usize> =
            self.labels.iter().copied().zip(self.shape.iter().copied()).collect();
        let labels: Vec<Label> = self.labels.iter().copied().filter(|l| !gone.contains(l)).collect();
        let shape: Vec<usize> = labels.iter().map(|l| own[l]).collect();
        cx.charge(&shape, T::DTYPE)?;
        let inner = self.offsets(gone, &own);
        let outer = self.offsets(&labels, &own);
        let values = outer.iter().map(|o| sum(inner.iter().map(|i| self.values[o + i]))).collect();
        Ok(Self { labels, shape, values })
    }
}

/// The operand of `values`, with the diagonal taken where a label repeats.
fn operand<T: Number>(values: &[T], shape: &[usize], labels: &[Label]) -> Result<Operand<T>, OpError> {
    let mut view = View { offset: 0, shape: vec![], strides: vec![] };
    let mut distinct: Vec<Label> = Vec::new();
    for ((&label, &size), step) in labels.iter().zip(shape).zip(strides(shape)) {
        match distinct.iter().position(|&l| l == label) {
            Some(i) if view.shape[i] != size => {
                return Err(OpError::Shape { what: "a square diagonal", got: shape.to_vec() });
            }
            Some(i) => view.strides[i] = view.strides[i].wrapping_add(step),
            None => {
                distinct.push(label);
                view.shape.push(size);
                view.strides.push(step);
            }
        }
    }
    let values = view.copy(values);
    Ok(Operand { labels: distinct, shape: view.shape, values })
}

fn einsum(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let shapes =
        (0..cx.inputs.len()).map(|i| Ok(cx.input(i)?.shape())).collect::<Result<Vec<_>, OpError>>()?;
    let equation = parse(cx.node, &shapes.iter().map(|s| s.len()).collect::<Vec<_>>())?;
    let mut sizes = BTreeMap::new();
    for (&label, &size) in equation.inputs.iter().flatten().zip(shapes.iter().copied().flatten()) {
        let slot = sizes.entry(label).or_insert(size);
        match *slot {
            1 => *slot = size,
            same if same == size || size == 1 => {}
            other => return Err(OpError::Shape { what: "one size for each label", got: vec![other, size] }),
        }
    }
    let shape: Vec<usize> = equation.output.iter().map(|l| sizes[l]).collect();
    cx.charge_like(&shape, 0)?;
    let data = with_types!(cx, 0, [F32 F64 I8 I16 I32 I64 U8 U16 U32 U64], first => {
        let mut operands = Vec::new();
        for (i, labels) in equation.inputs.iter().enumerate() {
            operands.push(operand(cx.slice_like(first, i)?, shapes[i], labels)?);
        }
        wrap_data(fold(cx, &equation, operands, &sizes)?)
    });
    one(shape, data)
}

fn fold<T: Number>(
    cx: &EvalCx<'_>,
    equation: &Equation,
    operands: Vec<Operand<T>>,
    sizes: &BTreeMap<Label, usize>,
) -> Result<Vec<T>, OpError> {
    // Labels in order of first appearance.
    let mut order: Vec<Label> = Vec::new();
    for &label in equation.inputs.iter().flatten() {
        if !order.contains(&label) {
            order.push(label);
        }
    }
    let used = |label: Label, from: usize| {
        equation.output.contains(&label)
            || equation.inputs.iter().skip(from).any(|labels| labels.contains(&label))
    };
    let mut acc: Option<Operand<T>> = None;
    for (i, next) in operands.into_iter().enumerate() {
        let Some(left) = acc.take() else {
            let gone: Vec<Label> =
                order.iter().copied().filter(|&l| next.labels.contains(&l) && !used(l, i + 1)).collect();
            acc = Some(next.sum_out(cx, &gone)?);
            continue;
        };
        let gone: Vec<Label> = order
            .iter()
            .copied()
            .filter(|&l| next.labels.contains(&l) && !left.labels.contains(&l) && !used(l, i + 1))
            .collect();
        let right = next.sum_out(cx, &gone)?;
        let here = |l: &Label| left.labels.contains(l) || right.labels.contains(l);
        let (kept, contracted): (Vec<Label>, Vec<Label>) =
            order.iter().copied().filter(here).partition(|&l| used(l, i + 1));
        let shape: Vec<usize> = kept.iter().map(|l| sizes[l]).collect();
        cx.charge(&shape, T::DTYPE)?;
        let (a, b) = (left.offsets(&kept, sizes), right.offsets(&kept, sizes));
        let (ak, bk) = (left.offsets(&contracted, sizes), right.offsets(&contracted, sizes));
        let values = a.iter().zip(&b).map(|(a, b)| {
            contract(ak.iter().zip(&bk).map(|(i, j)| (left.values[a + i], right.values[b + j])), BLOCK)
        });
        let values = values.collect();
        acc = Some(Operand { labels: kept, shape, values });
    }
    let last = acc.ok_or(OpError::MissingInput { index: 0 })?;
    let n = count(&last.shape).unwrap_or(0);
    if n == 0 && last.values.is_empty() {
        return Ok(Vec::new());
    }
    Ok(last.offsets(&equation.output, sizes).into_iter().map(|i| last.values[i]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Attr;
    use crate::ops::test::eval;

    fn run(equation: &str, inputs: &[&Tensor]) -> Result<Tensor, OpError> {
        let inputs: Vec<Option<&Tensor>> = inputs.iter().copied().map(Some).collect();
        Ok(eval("Einsum", 12, &[("equation", Attr::Str(equation.into()))], &inputs)?.swap_remove(0))
    }

    #[test]
    fn by_hand() {
        let m = Tensor::from_vec(vec![2, 2], vec![1.0_f32, 2.0, 3.0, 4.0]).unwrap();
        let v = Tensor::vector(vec![1.0_f32, 10.0]);
        assert_eq!(run("ij->ji", &[&m]).unwrap().as_slice(), Some(&[1.0_f32, 3.0, 2.0, 4.0][..]));
        assert_eq!(run("ii->i", &[&m]).unwrap(), Tensor::vector(vec![1.0_f32, 4.0]));
        assert_eq!(run("ii", &[&m]).unwrap(), Tensor::scalar(5.0_f32));
        assert_eq!(run("ij,j", &[&m, &v]).unwrap(), Tensor::vector(vec![21.0_f32, 43.0]));
        assert_eq!(run("ij->i", &[&m]).unwrap(), Tensor::vector(vec![3.0_f32, 7.0]));
        assert_eq!(run("...j,j->...", &[&m, &v]).unwrap(), Tensor::vector(vec![21.0_f32, 43.0]));
        assert_eq!(run("ij,kj,k->i", &[&m, &m, &v]).unwrap(), Tensor::vector(vec![115.0_f32, 261.0]));
    }

    #[test]
    fn bad_equations() {
        let v = Tensor::vector(vec![1.0_f32, 10.0]);
        for equation in ["", "i->j", "ij->i", "i,i->i", "i->ii", "i..->i", "é->é", "......->"] {
            assert!(run(equation, &[&v]).is_err(), "{equation}");
        }
    }
}
