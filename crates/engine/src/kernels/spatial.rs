//! Conv, MaxPool and AveragePool over the kernels of [`super::conv`] and [`super::pool`], with what follows a convolution.

use hallmark_model::graph::{Attrs, Node, ValueId};
use hallmark_model::ops::conv::ConvShape;
use hallmark_model::ops::window::Geometry;
use hallmark_receipt::{Tensor, tensor};

use super::conv::Conv;
use super::fuse::{Links, other};
use super::gemm::{Add, Clamp, Ctx, Epilogue};
use super::pool::{Window, pool};
use super::select::clamp_of;
use super::{Cx, Kernel};
use crate::error::Stop;
use crate::plan::{Constants, Group};
use crate::program::Exec;

/// Positions of the step's inputs.
const X: usize = 0;
const W: usize = 1;
const BIAS: usize = 2;
const RESIDUAL: usize = 3;

/// A Conv with constant weights: inputs are x, weights, bias, a residual; the last two may be left out.
#[derive(Debug)]
pub(crate) struct Convolution {
    attrs: Attrs,
    conv: Conv,
    clamp: Clamp,
}

impl Convolution {
    /// The kernel of `node`, a Conv; `None` where its weights are no constant.
    pub(crate) fn new(node: &Node, constants: &Constants, exec: &Exec) -> Option<Self> {
        let weights = constants.get(&node.inputs.get(W).copied().flatten()?)?;
        let (&[filters, channels], kernel) = weights.shape().split_first_chunk::<2>()?;
        let groups = usize::try_from(node.attrs.int("group", 1)).ok()?;
        let conv = Conv::new(exec.isa, weights.as_slice::<f32>()?, filters, channels, groups, kernel)?;
        Some(Self { attrs: node.attrs.clone(), conv, clamp: Clamp::None })
    }
}

impl Kernel for Convolution {
    fn run(&self, cx: &mut Cx<'_>) -> Result<Option<Vec<Tensor>>, Stop> {
        let (Some(x_shape), Some(w_shape)) = (cx.f32_shape(X), cx.f32_shape(W)) else { return Ok(None) };
        let Ok(shape) = ConvShape::new(&self.attrs, &x_shape, &w_shape) else { return Ok(None) };
        let out_shape = shape.output();
        let bias_fits = cx.input(BIAS).is_none() || cx.f32_shape(BIAS).is_some_and(|b| b == [shape.filters]);
        let residual_fits =
            cx.input(RESIDUAL).is_none() || cx.f32_shape(RESIDUAL).is_some_and(|r| r == out_shape);
        let Some(total) = tensor::count(&out_shape) else { return Ok(None) };
        if !bias_fits || !residual_fits {
            return Ok(None);
        }
        let mut out = cx.arena.take(total)?;
        let values = |index: usize| cx.input(index).and_then(|t| t.as_slice::<f32>());
        let epilogue = Epilogue {
            add: values(BIAS).map_or(Add::None, Add::Rows),
            residual: values(RESIDUAL),
            clamp: self.clamp,
            ..Epilogue::default()
        };
        let ctx = Ctx::new(cx.exec.isa, &cx.exec.pool);
        let done = values(X).is_some_and(|x| self.conv.run(&ctx, &shape, x, &mut out, &epilogue));
        let out = Tensor::from_vec(out_shape, out)?;
        if !done {
            cx.arena.recycle(out);
            return Ok(None);
        }
        Ok(Some(vec![out]))
    }
}

/// A Conv and what follows it: a residual, a Relu or Clip.
pub(crate) fn convolution(links: &Links<'_>, start: usize) -> Option<Group> {
    let node = links.free(start).filter(|node| node.op.name == "Conv")?;
    let mut made = node.outputs.first().copied().flatten()?;
    // Only what a fused kernel can take is worth packing weights for here.
    let (_, first) = links.only_reader(made)?;
    if clamp_of(first, links.constants).is_none() && first.op.name != "Add" {
        return None;
    }
    let mut kernel = Convolution::new(node, links.constants, links.exec)?;
    let mut inputs = vec![None; 4];
    for (slot, id) in inputs.iter_mut().zip(node.inputs.iter().take(3)) {
        *slot = *id;
    }
    let info = |id: ValueId| links.graph.values.get(id.0).map(|value| &value.info);
    let result = info(made)?.clone();
    let mut nodes = vec![start];
    while let Some((index, next)) = links.only_reader(made) {
        let output = next.outputs.first().copied().flatten()?;
        if let Some(clamp) = clamp_of(next, links.constants) {
            kernel.clamp = clamp;
            nodes.push(index);
            made = output;
            break;
        }
        let Some(addend) = other(next, made).filter(|_| next.op.name == "Add") else { break };
        let joins = inputs[RESIDUAL].is_none()
            && result.shape.is_some()
            && info(addend).is_some_and(|i| *i == result);
        if !joins {
            break;
        }
        inputs[RESIDUAL] = Some(addend);
        nodes.push(index);
        made = output;
    }
    if nodes.len() < 2 {
        return None;
    }
    Some(Group { nodes, inputs, outputs: vec![Some(made)], kernel: Box::new(kernel) })
}

/// MaxPool without Indices, or AveragePool.
#[derive(Debug)]
pub(crate) struct Pool {
    attrs: Attrs,
    window: Window,
}

impl Pool {
    /// The kernel of `node`.
    pub(crate) fn new(node: &Node) -> Self {
        let window = match (node.op.name, node.attrs.int("count_include_pad", 0)) {
            ("MaxPool", _) => Window::Max,
            (_, 0) => Window::Average,
            _ => Window::AveragePadded,
        };
        Self { attrs: node.attrs.clone(), window }
    }
}

impl Kernel for Pool {
    fn run(&self, cx: &mut Cx<'_>) -> Result<Option<Vec<Tensor>>, Stop> {
        let Some(shape) = cx.f32_shape(X) else {
            let max = self.window == Window::Max;
            return if max { super::quantised::max_pool(cx, &self.attrs) } else { Ok(None) };
        };
        let Some((&[batch, channels], spatial)) = shape.split_first_chunk::<2>() else { return Ok(None) };
        let Ok(window) =
            Geometry::with_kernel_shape(&self.attrs, spatial.len()).and_then(|g| g.place(spatial))
        else {
            return Ok(None);
        };
        let mut out_shape = vec![batch, channels];
        out_shape.extend(window.output());
        let Some(total) = tensor::count(&out_shape) else { return Ok(None) };
        let mut out = cx.arena.take(total)?;
        let ctx = Ctx::new(cx.exec.isa, &cx.exec.pool);
        let x = cx.input(X).and_then(|t| t.as_slice::<f32>());
        let done = x.is_some_and(|x| pool(&ctx, self.window, &window.axes, batch * channels, x, &mut out));
        let out = Tensor::from_vec(out_shape, out)?;
        if !done {
            cx.arena.recycle(out);
            return Ok(None);
        }
        Ok(Some(vec![out]))
    }
}
