//! What a quantised ONNX file means in floats (`quantised.md` §5): its weights are the numbers that its integers stand for, and its saturations are
//! bounds. From there it is quantised like any other model.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hallmark_receipt::{DType, Tensor};

use super::QuantiseError;
use super::array::Array;
use super::rewrite::{Rewrite, rewrite};
use super::source::Source;
use crate::graph::{Attr, Attrs, Graph, Node, ValueId};
use crate::ops::Domain;

/// Operators that have a float form.
const QUANTISED: &[&str] = &[
    "ConvInteger",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "MatMulInteger",
    "QLinearConv",
    "QLinearMatMul",
    "QuantizeLinear",
];

/// Operators that keep numbers within 0 and 1: after them QuantizeLinear only rounds.
const WITHIN: &[&str] = &["Sigmoid", "Softmax"];

/// Operators that pick among numbers: after them QuantizeLinear only rounds what lay within its ends before.
const PICK: &[&str] = &[
    "Concat",
    "Flatten",
    "Gather",
    "MaxPool",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
];

/// Operators that move the numbers of their first input.
const MOVED: &[&str] =
    &["Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"];

/// Rewrites quantised operators of `ai.onnx` as the float operators that they stand for; any other graph stays as it is.
pub(super) fn unquantise(graph: &Graph) -> Result<Graph, QuantiseError> {
    let quantised = |node: &Node| node.op.domain == Domain::Onnx && QUANTISED.contains(&node.op.name);
    if !graph.nodes.iter().any(quantised) {
        return Ok(graph.clone());
    }
    rewrite(graph, |work, node| match node.op.name {
        _ if node.op.domain != Domain::Onnx => {
            work.keep(node);
            Ok(())
        }
        "QuantizeLinear" => work.quantize(node),
        "DequantizeLinear" => work.dequantize(node),
        "DynamicQuantizeLinear" => work.dynamic(node),
        "ConvInteger" => work.products(node, "Conv"),
        "MatMulInteger" => work.products(node, "MatMul"),
        "QLinearConv" => work.linear(node, "Conv", [0, 3, 6]),
        "QLinearMatMul" => work.linear(node, "MatMul", [0, 3, 6]),
        _ => {
            work.keep(node);
            Ok(())
        }
    })
}

impl Rewrite<'_> {
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
        let rounds = self.source.graph.inputs.contains(&x) || self.is_within(x, ends);
        let x = self.named(x);
        if rounds && !self.source.graph.outputs.contains(&output) {
            self.alias.insert(output, x);
            return Ok(());
        }
        self.clip(node, x, ends, output)
    }

    /// Whether `x` lies between `ends` by what makes it.
    fn is_within(&self, x: ValueId, ends: (f32, f32)) -> bool {
        // The ends of one type at one scale, as near as files write it.
        let slack = (ends.1 - ends.0) * 1e-3;
        let (mut seen, mut left) = (BTreeSet::new(), vec![x]);
        while let Some(id) = left.pop() {
            let Some((_, maker)) = self.source.maker(id) else { return false };
            match maker.op.name {
                "DequantizeLinear" => {
                    let dtype = Source::input(maker, 0).and_then(|id| self.source.dtype(id));
                    let own = dtype.and_then(|dtype| self.ends(maker, 1, 2, dtype));
                    if own.is_none_or(|own| own.0 < ends.0 - slack || own.1 > ends.1 + slack) {
                        return false;
                    }
                }
                op if PICK.contains(&op) => {
                    let count = if op == "Concat" { maker.inputs.len() } else { 1 };
                    left.extend(maker.inputs.iter().take(count).flatten().filter(|id| seen.insert(**id)));
                }
                op if WITHIN.contains(&op) => {}
                _ => return false,
            }
        }
        true
    }

    /// The integers of DynamicQuantizeLinear stand for what they were made of, with a scale of 1.
    fn dynamic(&mut self, node: &Node) -> Result<(), QuantiseError> {
        let Some(x) = Source::input(node, 0) else {
            return Err(QuantiseError::unsupported(node, "it has no input"));
        };
        let x = self.named(x);
        for (index, id) in node.outputs.iter().enumerate() {
            let Some(id) = *id else { continue };
            let stands = match index {
                0 => x,
                1 => self.constant(Tensor::scalar(1.0_f32)),
                _ => self.constant(Tensor::scalar(0_u8)),
            };
            self.alias.insert(id, stands);
        }
        Ok(())
    }

    /// MatMulInteger or ConvInteger of what DynamicQuantizeLinear made: the zero points are taken off constant integers.
    fn products(&mut self, node: &Node, op: &str) -> Result<(), QuantiseError> {
        let refuse = |why| QuantiseError::unsupported(node, why);
        let output = node.outputs.first().copied().flatten().ok_or_else(|| refuse("it has no output"))?;
        let mut inputs = Vec::new();
        for index in 0..2 {
            let id = Source::input(node, index).ok_or_else(|| refuse("an input is missing"))?;
            inputs.push(match self.source.constant(id) {
                Some(tensor) => {
                    let zero = self.source.constant_input(node, index + 2).map(Arc::as_ref);
                    let real = real(tensor, &Array::scalar(1.0), zero, op == "Conv");
                    self.constant(real.ok_or_else(|| refuse("its zero points do not fit"))?)
                }
                None => self.named(id),
            });
        }
        if !inputs.iter().all(|id| self.is_float(*id)) {
            return Err(refuse("what it reads was not quantised by the model itself"));
        }
        self.float(output);
        let attrs = if op == "Conv" { node.attrs.clone() } else { Attrs::default() };
        self.push(node, op, attrs, inputs, output)
    }

    /// The float form of constant integers that were moved before anything reads them as numbers, as the rows of an embedding are; `None` for any other.
    fn moved(&mut self, node: &Node, id: ValueId) -> Option<ValueId> {
        if let Some(tensor) = self.source.constant(id) {
            let scale = Array::scalar(self.source.array(node, 1)?.single()?);
            let zero = self.source.constant_input(node, 2).map(Arc::as_ref);
            let real = real(tensor, &scale, zero, true)?;
            return Some(self.constant(real));
        }
        let (_, maker) = self.source.maker(id).filter(|(_, maker)| MOVED.contains(&maker.op.name))?;
        let mut maker = maker.clone();
        let x = self.moved(node, Source::input(&maker, 0)?)?;
        let made = self.value(id);
        self.float(made);
        *maker.inputs.first_mut()? = Some(x);
        maker.outputs = vec![Some(made)];
        self.keep(&maker);
        Some(made)
    }

    /// What follows a QuantizeLinear or a QLinear operator is a float already, and so are constants; anything else is refused.
    fn dequantize(&mut self, node: &Node) -> Result<(), QuantiseError> {
        let (Some(x), Some(output)) = (Source::input(node, 0), node.outputs.first().copied().flatten())
        else {
            return Err(QuantiseError::unsupported(node, "it has no input"));
        };
        let named = self.named(x);
        let x = if self.is_float(named) { Some(named) } else { self.moved(node, x) };
        let x = x.ok_or_else(|| {
            QuantiseError::unsupported(node, "what it reads was not quantised by the model itself")
        })?;
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
        let variable = self.source.variable(node, w).map(|id| self.named(id)).filter(|id| self.is_float(*id));
        let scale = self.source.array(node, w + 1).ok_or_else(|| refuse("its scales are no constants"))?;
        let weights = match variable {
            Some(id) if op == "MatMul" => id,
            _ => {
                let zero = self.source.constant_input(node, w + 2).map(Arc::as_ref);
                let weights = self.source.constant_input(node, w);
                let real = weights.and_then(|weights| real(weights, &scale, zero, op == "Conv"));
                self.constant(real.ok_or_else(|| refuse("its weights are no constants"))?)
            }
        };
        let x_scale = self.source.array(node, x + 1).and_then(|scale| scale.single());
        let mut inputs = vec![x_id, weights];
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
}

/// `(q - zero) * scale`: one of each, or one for each filter (first axis) or column (last axis).
fn real(tensor: &Tensor, scale: &Array, zero: Option<&Tensor>, first: bool) -> Option<Tensor> {
    let (shape, values) = (tensor.shape().to_vec(), crate::ops::index::integers(tensor)?);
    let zeros = zero.map_or_else(|| Some(vec![0]), crate::ops::index::integers)?;
    let n = if first { shape.first() } else { shape.last() }.copied().unwrap_or(1);
    let run = values.len() / n.max(1);
    let channel = |i: usize| if first { i / run.max(1) } else { i % n.max(1) };
    let real = |(i, q): (usize, &i64)| {
        let pick = |list: usize| if list == 1 { 0 } else { channel(i) };
        let (scale, zero) = (scale.values.get(pick(scale.values.len()))?, zeros.get(pick(zeros.len()))?);
        Some(((q - zero) as f64 * scale) as f32)
    };
    let values = values.iter().enumerate().map(real).collect::<Option<Vec<f32>>>()?;
    Tensor::from_vec(shape, values).ok()
}
