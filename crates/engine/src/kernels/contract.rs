//! MatMul and Gemm over the packed contraction, with what follows them.

use hallmark_model::graph::{Node, ValueId};
use hallmark_receipt::{Tensor, tensor};

use super::fuse::{Links, other};
use super::gemm::{self, Add, Clamp, Ctx, Epilogue, Matrix, PackedB};
use super::select::clamp_of;
use super::{Cx, Kernel};
use crate::error::Stop;
use crate::plan::{Constants, Group};
use crate::program::Exec;

/// Positions of the step's inputs.
const A: usize = 0;
const B: usize = 1;
const ADD: usize = 2;
const RESIDUAL: usize = 3;

/// A MatMul or Gemm: inputs are A, B, an addend, a residual; the last two may be left out.
#[derive(Debug)]
pub(crate) struct Contract {
    /// Gemm takes matrices only; MatMul takes batches.
    gemm: bool,
    trans_a: bool,
    trans_b: bool,
    alpha: f32,
    beta: f32,
    /// Constant weights.
    packed: Option<PackedB>,
    clamp: Clamp,
}

impl Contract {
    /// The kernel of `node`, a MatMul or Gemm.
    pub(crate) fn new(node: &Node, constants: &Constants, exec: &Exec) -> Option<Self> {
        let gemm = node.op.name == "Gemm";
        let flag = |name| gemm && node.attrs.int(name, 0) != 0;
        let factor = |name| if gemm { node.attrs.float(name, 1.0) } else { 1.0 };
        let trans_b = flag("transB");
        let weights = node.inputs.get(B).copied().flatten().and_then(|id| constants.get(&id));
        let packed = weights.and_then(|w| match (w.as_slice::<f32>(), w.shape()) {
            (Some(data), &[rows, columns]) if !data.is_empty() => {
                let view = Matrix::row_major(data, columns);
                Some(if trans_b {
                    PackedB::new(exec.isa, view.t(), columns, rows)
                } else {
                    PackedB::new(exec.isa, view, rows, columns)
                })
            }
            _ => None,
        });
        Some(Self {
            gemm,
            trans_a: flag("transA"),
            trans_b,
            alpha: factor("alpha"),
            beta: factor("beta"),
            packed,
            clamp: Clamp::None,
        })
    }

    /// Sizes of the product and the shape of the output: (batch shape, m, n, k).
    fn sizes(&self, a: &[usize], b: &[usize]) -> Option<(Vec<usize>, usize, usize, usize)> {
        let (a_batch, &[a_rows, a_columns]) = a.split_last_chunk::<2>()?;
        let (b_batch, &[b_rows, b_columns]) = b.split_last_chunk::<2>()?;
        if self.gemm && !(a_batch.is_empty() && b_batch.is_empty()) {
            return None;
        }
        let (m, k) = if self.trans_a { (a_columns, a_rows) } else { (a_rows, a_columns) };
        let (b_k, n) = if self.trans_b { (b_columns, b_rows) } else { (b_rows, b_columns) };
        if k != b_k || m == 0 || n == 0 || k == 0 {
            return None;
        }
        let batch = super::tape::broadcast(a_batch, b_batch)?;
        (!batch.contains(&0)).then_some((batch, m, n, k))
    }
}

/// How `shape` is added to outputs of `m` x `n`; `rows` where one matrix is all there is, so that rows are known.
fn addend<'a>(data: &'a [f32], shape: &[usize], m: usize, n: usize, alone: bool) -> Option<Add<'a>> {
    let (lead, tail) = shape.split_at(shape.len().saturating_sub(2));
    if lead.iter().any(|&d| d != 1) {
        return None;
    }
    Some(match *tail {
        [] | [1] | [1, 1] => Add::Scalar(*data.first()?),
        [c] | [1, c] if c == n => Add::Columns(data),
        [r, 1] if r == m && alone => Add::Rows(data),
        [r, c] if r == m && c == n && alone => Add::Full(data),
        _ => return None,
    })
}

impl Kernel for Contract {
    fn run(&self, cx: &mut Cx<'_>) -> Result<Option<Vec<Tensor>>, Stop> {
        let (Some(a_shape), Some(b_shape)) = (cx.f32_shape(A), cx.f32_shape(B)) else { return Ok(None) };
        let Some((batch, m, n, k)) = self.sizes(&a_shape, &b_shape) else { return Ok(None) };
        let mut shape = batch.clone();
        shape.extend([m, n]);
        let Some(total) = tensor::count(&shape) else { return Ok(None) };
        let residual_fits =
            cx.input(RESIDUAL).is_none() || cx.f32_shape(RESIDUAL).is_some_and(|r| r == shape);
        let matrices = total / (m * n);
        // Weights that every matrix of the batch shares make one tall product.
        let tall = self.packed.is_some() || (b_shape.len() == 2 && !self.trans_b);
        let fits = match cx.input(ADD) {
            None => true,
            Some(c) => c.as_slice::<f32>().is_some_and(|data| {
                addend(data, c.shape(), m, n, matrices == 1).is_some() && c.shape().len() <= shape.len()
            }),
        };
        if !residual_fits || !fits {
            return Ok(None);
        }
        let mut out = cx.arena.take(total)?;
        let values = |index: usize| cx.input(index).and_then(|t| t.as_slice::<f32>());
        let (Some(a), Some(b)) = (values(A), values(B)) else { return Ok(None) };
        let add = match (values(ADD), cx.input(ADD)) {
            (Some(data), Some(c)) => addend(data, c.shape(), m, n, matrices == 1).unwrap_or_default(),
            _ => Add::None,
        };
        let epilogue = Epilogue {
            alpha: self.alpha,
            beta: self.beta,
            add,
            residual: values(RESIDUAL),
            clamp: self.clamp,
        };
        let ctx = Ctx::new(cx.exec.isa, &cx.exec.pool);
        let left = if self.trans_a { Matrix::transposed(a, m) } else { Matrix::row_major(a, k) };
        let right = if self.trans_b { Matrix::transposed(b, k) } else { Matrix::row_major(b, n) };
        match &self.packed {
            Some(packed) if packed.size() == (k, n) => {
                gemm::gemm(&ctx, total / n, n, k, left, packed, &mut out, &epilogue);
            }
            _ if tall => {
                gemm::matmul(&ctx, total / n, n, k, (left, &[0]), (right, &[0]), &mut out, &epilogue);
            }
            _ => {
                let a_at = offsets(&a_shape, &batch, m * k);
                let b_at = offsets(&b_shape, &batch, k * n);
                gemm::matmul(&ctx, m, n, k, (left, &a_at), (right, &b_at), &mut out, &epilogue);
            }
        }
        Ok(Some(vec![Tensor::from_vec(shape, out)?]))
    }
}

/// Where each matrix of the broadcast batch begins in an operand of `shape`, whose matrices have `size` elements.
fn offsets(shape: &[usize], batch: &[usize], size: usize) -> Vec<usize> {
    let own = &shape[..shape.len() - 2];
    let lead = batch.len() - own.len();
    let count: usize = batch.iter().product();
    let mut steps = vec![0; batch.len()];
    let mut step = size;
    for (i, &n) in own.iter().enumerate().rev() {
        if n != 1 {
            steps[lead + i] = step;
        }
        step *= n;
    }
    (0..count)
        .map(|mut flat| {
            let mut at = 0;
            for (&n, &step) in batch.iter().zip(&steps).rev() {
                at += flat % n * step;
                flat /= n;
            }
            at
        })
        .collect()
}

/// A contraction and what follows it: a constant bias (MatMul), a residual, a Relu or Clip.
pub(crate) fn contraction(links: &Links<'_>, start: usize) -> Option<Group> {
    let node = links.free(start).filter(|node| matches!(node.op.name, "MatMul" | "Gemm"))?;
    let gemm = node.op.name == "Gemm";
    let mut kernel = Contract::new(node, links.constants, links.exec)?;
    let mut inputs = vec![None; 4];
    for (slot, id) in inputs.iter_mut().zip(node.inputs.iter().take(if gemm { 3 } else { 2 })) {
        *slot = *id;
    }
    let info = |id: ValueId| links.graph.values.get(id.0).map(|value| &value.info);
    let mut nodes = vec![start];
    let mut made = node.outputs.first().copied().flatten()?;
    let result = info(made)?.clone();
    while let Some((index, next)) = links.only_reader(made) {
        let output = next.outputs.first().copied().flatten()?;
        if let Some(clamp) = clamp_of(next, links.constants) {
            kernel.clamp = clamp;
            nodes.push(index);
            made = output;
            break;
        }
        let Some(addend) = other(next, made).filter(|_| next.op.name == "Add") else { break };
        let is_bias = links.constants.get(&addend).is_some_and(|t| t.shape().len() == 1);
        if is_bias && inputs[ADD].is_none() && inputs[RESIDUAL].is_none() {
            inputs[ADD] = Some(addend);
        } else if inputs[RESIDUAL].is_none()
            && result.shape.is_some()
            && info(addend).is_some_and(|info| *info == result)
        {
            inputs[RESIDUAL] = Some(addend);
        } else {
            break;
        }
        nodes.push(index);
        made = output;
    }
    if nodes.len() < 2 {
        return None;
    }
    Some(Group { nodes, inputs, outputs: vec![Some(made)], kernel: Box::new(kernel) })
}
