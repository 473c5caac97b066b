//! What a quantised ONNX file means in floats (`quantised.md` §5): its weights are the numbers that its integers stand for, and its saturations are
//! bounds. From there it is quantised like any other model.

use std::collections::BTreeMap;
use std::sync::Arc;

use hallmark_receipt::{DType, Tensor};

use super::QuantiseError;
use super::array::Array;
use super::source::Source;
use crate::graph::{Attr, Attrs, Graph, Node, Value, ValueId};
use crate::infer::{infer, type_of};
use crate::ops::{self, Domain};

/// Rewrites quantised operators of `ai.onnx` as the float operators that they stand for; any other graph stays as it is.
pub(super) fn unquantise(graph: &Graph) -> Result<Graph, QuantiseError> {
    let quantised = |node: &Node| {
        let named =
            matches!(node.op.name, "QuantizeLinear" | "DequantizeLinear" | "QLinearConv" | "QLinearMatMul");
        node.op.domain == Domain::Onnx && named
    };
    if !graph.nodes.iter().any(quantised) {
        return Ok(graph.clone());
    }
    let source = Source::new(graph.clone())?;
    let mut work = Rewrite { source: &source, graph: graph.clone(), alias: BTreeMap::new() };
    work.graph.nodes.clear();
    for node in &graph.nodes {
        let known = node.outputs.iter().flatten().all(|id| source.constant(*id).is_some());
        match node.op.name {
            _ if node.op.domain != Domain::Onnx => work.keep(node),
            // What was computed ahead.
            _ if known => {
                for id in node.outputs.iter().flatten() {
                    if let Some(tensor) = source.constant(*id) {
                        work.graph.constants.insert(*id, Arc::clone(tensor));
                    }
                }
            }
            "QuantizeLinear" => work.quantize(node)?,
            "DequantizeLinear" => work.dequantize(node)?,
            "QLinearConv" => work.linear(node, "Conv", [0, 3, 6])?,
            "QLinearMatMul" => work.linear(node, "MatMul", [0, 3, 6])?,
            _ => work.keep(node),
        }
    }
    let mut graph = work.graph;
    // What was int8 between quantised operators is float32 now.
    infer(&mut graph, usize::MAX)?;
    Ok(graph)
}

struct Rewrite<'a> {
    source: &'a Source,
    graph: Graph,
    /// Values that are another's: what DequantizeLinear gives.
    alias: BTreeMap<ValueId, ValueId>,
}

impl Rewrite<'_> {
    fn named(&self, id: ValueId) -> ValueId {
        self.alias.get(&id).copied().unwrap_or(id)
    }

    /// The node as it is; what it makes of floats is floats.
    fn keep(&mut self, node: &Node) {
        let mut node = node.clone();
        for id in node.inputs.iter_mut().flatten() {
            *id = self.alias.get(id).copied().unwrap_or(*id);
        }
        let float = node.inputs.first().copied().flatten().is_some_and(|id| self.is_float(id));
        for id in node.outputs.iter().flatten() {
            if float
                && matches!(self.source.dtype(*id), Some(DType::I8 | DType::U8 | DType::I16 | DType::U16))
            {
                self.float(*id);
            }
        }
        self.graph.nodes.push(node);
    }

    fn is_float(&self, id: ValueId) -> bool {
        self.graph.values.get(id.0).is_some_and(|value| value.info.dtype == Some(DType::F32))
    }

    fn float(&mut self, id: ValueId) {
        if let Some(value) = self.graph.values.get_mut(id.0) {
            value.info.dtype = Some(DType::F32);
        }
    }

    fn constant(&mut self, tensor: Tensor) -> ValueId {
        let id = ValueId(self.graph.values.len());
        self.graph.values.push(Value { name: format!("unquantised {}", id.0), info: type_of(&tensor) });
        self.graph.constants.insert(id, Arc::new(tensor));
        id
    }

    fn value(&mut self, like: ValueId) -> ValueId {
        let id = ValueId(self.graph.values.len());
        let info = self.graph.values.get(like.0).map(|value| value.info.clone()).unwrap_or_default();
        self.graph.values.push(Value { name: format!("unquantised {}", id.0), info });
        id
    }

    fn push(
        &mut self,
        like: &Node,
        op: &str,
        attrs: Attrs,
        inputs: Vec<ValueId>,
        output: ValueId,
    ) -> Result<(), QuantiseError> {
        let refuse = || QuantiseError::unsupported(like, "its float form is not known");
        let op = ops::find(Domain::Onnx, op).ok_or_else(refuse)?;
        let version = *op.versions.last().ok_or_else(refuse)?;
        let declared_inputs = inputs.len();
        let inputs = inputs.into_iter().map(Some).collect();
        let (name, outputs) = (like.name.clone(), vec![Some(output)]);
        self.graph.nodes.push(Node { name, op, version, attrs, inputs, declared_inputs, outputs });
        Ok(())
    }

    /// The real numbers that the ends of the integers' type stand for, where the scale and the zero point are one number each.
    fn ends(&self, node: &Node, scale: usize, zero: usize, dtype: DType) -> Option<(f32, f32)> {
        let scale = self.source.array(node, scale)?.single()?;
        let zero = match Source::input(node, zero) {
            Some(_) => {
                crate::ops::index::integers(self.source.constant_input(node, zero)?)?.first().copied()?
            }
            None => 0,
        };
        let (low, high) = match dtype {
            DType::I8 => (-128, 127),
            DType::U8 => (0, 255),
            DType::I16 => (-32_768, 32_767),
            DType::U16 => (0, 65_535),
            _ => return None,
        };
        let real = |q: i64| ((q - zero) as f64 * scale) as f32;
        Some((real(low), real(high)))
    }

    /// Bounds, in place of rounding.
    fn clip(
        &mut self,
        node: &Node,
        x: ValueId,
        (low, high): (f32, f32),
        output: ValueId,
    ) -> Result<(), QuantiseError> {
        let (low, high) = (self.constant(Tensor::scalar(low)), self.constant(Tensor::scalar(high)));
        self.float(output);
        self.push(node, "Clip", Attrs::default(), vec![x, low, high], output)
    }

    fn quantize(&mut self, node: &Node) -> Result<(), QuantiseError> {
        let refuse = |why| QuantiseError::unsupported(node, why);
        let (Some(x), Some(output)) = (Source::input(node, 0), node.outputs.first().copied().flatten())
        else {
            return Err(refuse("it has no input"));
        };
        let dtype = self.source.dtype(output).ok_or_else(|| refuse("its type is not known"))?;
        let ends = self.ends(node, 1, 2, dtype);
        let ends =
            ends.ok_or_else(|| refuse("only one constant scale and zero point of 8 or 16 bits are known"))?;
        let x = self.named(x);
        self.clip(node, x, ends, output)
    }

    /// What follows a QuantizeLinear or a QLinear operator is a float already; anything else is refused.
    fn dequantize(&mut self, node: &Node) -> Result<(), QuantiseError> {
        let (Some(x), Some(output)) = (Source::input(node, 0), node.outputs.first().copied().flatten())
        else {
            return Err(QuantiseError::unsupported(node, "it has no input"));
        };
        let x = self.named(x);
        if !self.is_float(x) {
            return Err(QuantiseError::unsupported(
                node,
                "what it reads was not quantised by the model itself",
            ));
        }
        if self.source.graph.outputs.contains(&output) {
            return self.push(node, "Identity", Attrs::default(), vec![x], output);
        }
        self.alias.insert(output, x);
        Ok(())
    }

    /// QLinearConv (x, scale, zero, w, scale, zero, y scale, y zero, bias) and QLinearMatMul (a, .., b, .., y ..).
    fn linear(&mut self, node: &Node, op: &str, [x, w, y]: [usize; 3]) -> Result<(), QuantiseError> {
        let refuse = |why| QuantiseError::unsupported(node, why);
        let (Some(x_id), Some(output)) = (Source::input(node, x), node.outputs.first().copied().flatten())
        else {
            return Err(refuse("it has no input"));
        };
        let x_id = self.named(x_id);
        if !self.is_float(x_id) {
            return Err(refuse("what it reads was not quantised by the model itself"));
        }
        let dtype = self.source.dtype(output).ok_or_else(|| refuse("its type is not known"))?;
        let ends =
            self.ends(node, y, y + 1, dtype).ok_or_else(|| refuse("its result has no single scale"))?;
        let (weights, scale) =
            self.weights(node, w, op == "Conv").ok_or_else(|| refuse("its weights are no constant"))?;
        let x_scale = self.source.array(node, x + 1).and_then(|scale| scale.single());
        let mut inputs = vec![x_id, self.constant(weights)];
        if op == "Conv" && Source::input(node, 8).is_some() {
            let bias = self.source.constant_input(node, 8).and_then(|bias| crate::ops::index::integers(bias));
            let (Some(bias), Some(x_scale)) = (bias, x_scale) else {
                return Err(refuse("its bias is no constant"));
            };
            let each = |(i, b): (usize, &i64)| {
                let scale = scale.values.get(i).or(scale.values.first()).copied().unwrap_or(1.0);
                (*b as f64 * x_scale * scale) as f32
            };
            let bias = bias.iter().enumerate().map(each).collect::<Vec<f32>>();
            inputs.push(self.constant(Tensor::vector(bias)));
        }
        let made = self.value(output);
        self.float(made);
        let attrs: BTreeMap<String, Attr> = if op == "Conv" { node.attrs.0.clone() } else { BTreeMap::new() };
        self.push(node, op, Attrs(attrs), inputs, made)?;
        self.clip(node, made, ends, output)
    }

    /// `(q - zero) * scale`, and the scale: one, or one for each filter (first axis) or column (last axis).
    fn weights(&self, node: &Node, at: usize, first: bool) -> Option<(Tensor, Array)> {
        let tensor = self.source.constant_input(node, at)?;
        let (shape, values) = (tensor.shape().to_vec(), crate::ops::index::integers(tensor)?);
        let scale = self.source.array(node, at + 1)?;
        let zeros = crate::ops::index::integers(self.source.constant_input(node, at + 2)?)?;
        let n = if first { *shape.first()? } else { *shape.last()? };
        let run = values.len() / n.max(1);
        let channel = |i: usize| if first { i / run.max(1) } else { i % n.max(1) };
        let real = |(i, q): (usize, &i64)| {
            let pick = |list: usize| if list == 1 { 0 } else { channel(i) };
            let (scale, zero) = (scale.values.get(pick(scale.values.len()))?, zeros.get(pick(zeros.len()))?);
            Some(((q - zero) as f64 * scale) as f32)
        };
        let values = values.iter().enumerate().map(real).collect::<Option<Vec<f32>>>()?;
        Some((Tensor::from_vec(shape, values).ok()?, scale))
    }
}
