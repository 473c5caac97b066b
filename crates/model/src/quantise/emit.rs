//! From plans to the nodes of the quantised file.

use std::collections::BTreeMap;

use hallmark_receipt::{DType, Element, Tensor};

use super::QuantiseError;
use super::array::Array;
use super::calibrate::Range;
use super::modern::{OPSET, modern};
use super::pattern::MASKED;
use super::plan::{Plan, Plans};
use super::scale::bits;
use super::source::Source;
use super::unary;
use crate::graph::{Attr, Node, ValueId};
use crate::numeric::elementary::exp;
use crate::onnx::Writer;
use crate::ops::Domain;
use crate::ops::dispatch::number_of;
use crate::ops::quantised::MAX_EXPONENTIAL;

/// A value as integers: `scale * q`, q in `low..=high`.
#[derive(Clone, Debug)]
pub(super) struct Quant {
    pub name: String,
    pub dtype: DType,
    pub scale: f64,
    pub low: i64,
    pub high: i64,
}

impl Quant {
    /// The greatest magnitude.
    pub fn most(&self) -> i64 {
        self.low.abs().max(self.high.abs())
    }
}

/// The form that a result is brought to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub dtype: DType,
    pub scale: f64,
    /// Bounds of the real value besides the type's.
    pub bounds: (f64, f64),
}

impl Target {
    /// uint8 where nothing is below 0, else int8 in -127..=127. A range of nothing but 0 gets some scale.
    pub fn of(range: Range, bounds: (f64, f64)) -> Self {
        let (low, high) = (range.low.max(bounds.0), range.high.min(bounds.1));
        let (dtype, levels) = if low < 0.0 { (DType::I8, 127.0) } else { (DType::U8, 255.0) };
        let most = high.max(-low);
        let scale = if most > 1e-20 { most / levels } else { 1.0 / levels };
        Self { dtype, scale, bounds }
    }

    /// The least and greatest integer.
    pub fn ends(&self) -> (i64, i64) {
        let (low, high) = if self.dtype == DType::U8 { (0.0, 255.0) } else { (-127.0, 127.0_f64) };
        let bound = |x: f64| (x / self.scale).round();
        (bound(self.bounds.0).clamp(low, 0.0) as i64, bound(self.bounds.1).clamp(0.0, high) as i64)
    }
}

/// The nearest integer to `x`, halves upwards, as the operators round.
pub(super) fn nearest(x: f64) -> f64 {
    (x + 0.5).floor()
}

/// The file in the making.
pub(super) struct Emitter<'a> {
    pub source: &'a Source,
    pub plans: &'a Plans,
    ranges: &'a BTreeMap<ValueId, Range>,
    writer: Writer,
    /// What no name of the model begins with.
    prefix: String,
    made: usize,
    quants: BTreeMap<ValueId, Quant>,
    /// Values that are no quantised floats, and float forms of those that are.
    names: BTreeMap<ValueId, String>,
}

/// The quantised file.
pub(super) fn emit(
    source: &Source,
    plans: &Plans,
    ranges: &BTreeMap<ValueId, Range>,
) -> Result<Vec<u8>, QuantiseError> {
    let graph = &source.graph;
    let mut prefix = "q".to_owned();
    while graph.inputs.iter().chain(&graph.outputs).any(|id| graph.name(*id).starts_with(&prefix)) {
        prefix.push('_');
    }
    let (quants, names) = (BTreeMap::new(), BTreeMap::new());
    let mut emitter =
        Emitter { source, plans, ranges, writer: Writer::default(), prefix, made: 0, quants, names };
    for id in &graph.inputs {
        if let Some(value) = graph.values.get(id.0) {
            emitter.writer.input(&value.name, &value.info);
            emitter.names.insert(*id, value.name.clone());
        }
        if matches!(plans.plans.get(id), Some(Plan::Input)) && plans.integers.get(id.0) == Some(&true) {
            emitter.input(*id);
        }
    }
    for (index, node) in graph.nodes.iter().enumerate() {
        emitter.node_of(index, node)?;
    }
    for id in &graph.outputs {
        let Some(value) = graph.values.get(id.0) else { continue };
        let name = if source.is_float(*id) { emitter.float(*id)? } else { emitter.name(*id)? };
        emitter.write(Domain::Onnx, "Identity", vec![name], vec![value.name.clone()], &[]);
        emitter.writer.output(&value.name, &value.info);
    }
    if emitter.quants.is_empty() {
        return Err(QuantiseError::NoFloats);
    }
    Ok(emitter.writer.finish(OPSET))
}

impl Emitter<'_> {
    /// QuantizeLinear of a value that is known as a float: an input, or what the start makes of one.
    fn input(&mut self, id: ValueId) {
        let range = self.range(id);
        // What stands for minus infinity only has to be far below the numbers that it is added to, also where no sample has it.
        let most = if range.low < -MASKED { 0.0 } else { range.high.max(-range.low) };
        let scale = if most > 0.0 { ((most / 127.0) as f32).max(f32::MIN_POSITIVE) } else { 1.0 };
        let inputs = [
            self.names.get(&id).cloned().unwrap_or_default(),
            self.constant(&Tensor::scalar(scale)),
            self.constant(&Tensor::scalar(0_i8)),
        ];
        let name = self.node(Domain::Onnx, "QuantizeLinear", inputs.to_vec(), &[]);
        self.quants.insert(id, Quant { name, dtype: DType::I8, scale: scale.into(), low: -128, high: 127 });
    }

    /// Writes what `node` is planned to be.
    fn node_of(&mut self, index: usize, node: &Node) -> Result<(), QuantiseError> {
        if self.plans.end.get(index) == Some(&true) {
            return self.floats(node);
        }
        for id in node.outputs.iter().flatten() {
            // A node of several outputs is written with the first.
            if self.quants.contains_key(id) || self.names.contains_key(id) {
                continue;
            }
            let Some(plan) = self.plans.plans.get(id) else { continue };
            match plan {
                Plan::Input => {}
                Plan::Start { .. } => {
                    self.floats(node)?;
                    if self.plans.integers.get(id.0) == Some(&true) && self.source.is_float(*id) {
                        self.input(*id);
                    }
                }
                Plan::Integer => self.integer(node)?,
                Plan::Same { x } => self.same(node, *x)?,
                Plan::Concat { parts } => self.concat(*id, node, parts)?,
                Plan::Scaled { x, by } => {
                    let x = self.quant(*x)?;
                    self.quants.insert(*id, Quant { scale: x.scale * by, ..x });
                }
                Plan::Fused(fused) => self.fused(*id, node, fused)?,
                Plan::Table { base } => self.table(*id, *base)?,
                Plan::Softmax { x, axis } => self.softmax(*id, node, *x, *axis)?,
                Plan::Embedding { ids } => self.embedding(*id, node, *ids)?,
            }
        }
        Ok(())
    }

    /// A float operator of the start or the end.
    fn floats(&mut self, node: &Node) -> Result<(), QuantiseError> {
        let mut inputs = Vec::new();
        for id in &node.inputs {
            inputs.push(match id {
                Some(id) if self.source.is_float(*id) => self.float(*id)?,
                Some(id) => self.name(*id)?,
                None => String::new(),
            });
        }
        self.rewritten(node, inputs)
    }

    fn integer(&mut self, node: &Node) -> Result<(), QuantiseError> {
        let mut inputs = Vec::new();
        for id in &node.inputs {
            inputs.push(id.map_or_else(|| Ok(String::new()), |id| self.name(id))?);
        }
        self.rewritten(node, inputs)
    }

    /// The node in the present opset, on the inputs of these names; its outputs get names.
    fn rewritten(&mut self, node: &Node, mut inputs: Vec<String>) -> Result<(), QuantiseError> {
        let modern = modern(self.source, node)?;
        for (index, tensor) in modern.inputs {
            let name = self.constant(&tensor);
            inputs.resize(inputs.len().max(index + 1), String::new());
            if let Some(slot) = inputs.get_mut(index) {
                *slot = name;
            }
        }
        let mut outputs = Vec::new();
        for id in &node.outputs {
            let name = id.map_or_else(String::new, |_| self.fresh());
            if let Some(id) = id {
                self.names.insert(*id, name.clone());
            }
            outputs.push(name);
        }
        self.writer.node(node.op.domain, node.op.name, inputs, outputs, modern.attrs);
        Ok(())
    }

    fn same(&mut self, node: &Node, x: ValueId) -> Result<(), QuantiseError> {
        let quant = self.quant(x)?;
        let mut inputs = vec![quant.name.clone()];
        for (index, id) in node.inputs.iter().enumerate().skip(1) {
            inputs.push(match id {
                // The value that pads: 0 of the integers' type, which is the default.
                Some(_) if node.op.name == "Pad" && index == 2 => String::new(),
                Some(id) => self.name(*id)?,
                None => String::new(),
            });
        }
        while inputs.last().is_some_and(String::is_empty) {
            inputs.pop();
        }
        self.rewritten(node, inputs)?;
        let (low, high) = if node.op.name == "Pad" {
            (quant.low.min(0), quant.high.max(0))
        } else {
            (quant.low, quant.high)
        };
        for id in node.outputs.iter().flatten().filter(|id| self.source.is_float(**id)) {
            if let Some(name) = self.names.remove(id) {
                self.quants.insert(*id, Quant { name, low, high, ..quant });
            }
        }
        Ok(())
    }

    /// Brings all parts to the greatest scale among them.
    fn concat(&mut self, id: ValueId, node: &Node, parts: &[ValueId]) -> Result<(), QuantiseError> {
        if parts.iter().any(|part| self.source.spread(*part).is_some()) {
            return self.beside_constants(id, node, parts);
        }
        let mut quants = Vec::new();
        for part in parts {
            quants.push(self.quant(*part)?);
        }
        let signed = quants.iter().any(|quant| quant.low < 0);
        let high = quants.iter().map(|quant| quant.scale * quant.high as f64).fold(0.0, f64::max);
        let low = if signed {
            quants.iter().map(|quant| quant.scale * quant.low as f64).fold(0.0, f64::min)
        } else {
            0.0
        };
        // -128 is as good as -127 here.
        let target = Target::of(Range { low: low * 127.0 / 128.0, high }, (f64::NEG_INFINITY, f64::INFINITY));
        let (least, greatest) = target.ends();
        let mut names = Vec::new();
        for quant in quants {
            let same = quant.scale.to_bits() == target.scale.to_bits() && quant.dtype == target.dtype;
            names.push(if same {
                quant.name
            } else {
                self.linear(node, vec![(quant, Array::scalar(1.0))], &Array::scalar(0.0), target)?.name
            });
        }
        let name = self.node(Domain::Onnx, "Concat", names, &[("axis", node.attrs.int("axis", 0))]);
        let low = if signed { least.min(-128) } else { least };
        self.quants.insert(id, Quant { name, dtype: target.dtype, scale: target.scale, low, high: greatest });
        Ok(())
    }

    /// A table of the function at every integer that the base may be.
    fn table(&mut self, id: ValueId, base: ValueId) -> Result<(), QuantiseError> {
        let x = self.quant(base)?;
        let first = if x.dtype == DType::U8 { 0_i16 } else { -128 };
        let points: Vec<f32> = (first..first + 256).map(|q| (f64::from(q) * x.scale) as f32).collect();
        let values = unary::evaluate(self.source, base, id, points)?;
        let target = Target::of(self.range(id), (f64::NEG_INFINITY, f64::INFINITY));
        let (low, high) = target.ends();
        let of = |value: &f32| {
            let q = nearest(f64::from(*value) / target.scale);
            // NaN becomes 0.
            (q as i64).clamp(low, high)
        };
        let entries: Vec<i64> = values.iter().map(of).collect();
        let low = entries.iter().copied().min().unwrap_or(low).min(0);
        let high = entries.iter().copied().max().unwrap_or(high).max(0);
        let to = if target.dtype == DType::U8 { 2 } else { 3 };
        let attrs = vec![("table".to_owned(), Attr::Ints(entries)), ("to".to_owned(), Attr::Int(to))];
        let name = self.node_with(Domain::Hallmark, "Table", vec![x.name], attrs);
        self.quants.insert(id, Quant { name, dtype: target.dtype, scale: target.scale, low, high });
        Ok(())
    }

    fn softmax(&mut self, id: ValueId, node: &Node, x: ValueId, axis: i64) -> Result<(), QuantiseError> {
        let x = self.signed(node, x)?;
        let entry = |d: i32| {
            nearest(f64::from(MAX_EXPONENTIAL) * f64::from(exp((-x.scale * f64::from(d)) as f32))) as i64
        };
        let table = Attr::Ints((0..256).map(entry).collect());
        let attrs = vec![("axis".to_owned(), Attr::Int(axis)), ("table".to_owned(), table)];
        let name = self.node_with(Domain::Hallmark, "IntegerSoftmax", vec![x.name], attrs);
        self.quants.insert(id, Quant { name, dtype: DType::U8, scale: 1.0 / 255.0, low: 0, high: 255 });
        Ok(())
    }

    fn embedding(&mut self, id: ValueId, node: &Node, ids: ValueId) -> Result<(), QuantiseError> {
        let Some(table) = Source::input(node, 0) else { return Ok(()) };
        let (table, ids) = (self.quant(table)?, self.name(ids)?);
        let name = self.node(Domain::Onnx, "Gather", vec![table.name.clone(), ids], &[("axis", 0)]);
        self.quants.insert(id, Quant { name, ..table });
        Ok(())
    }

    /// The integers of `id`; a constant is quantised here, with one scale.
    pub(super) fn quant(&mut self, id: ValueId) -> Result<Quant, QuantiseError> {
        if let Some(quant) = self.quants.get(&id) {
            return Ok(quant.clone());
        }
        let Some(array) = self.source.constant(id).and_then(|tensor| Array::of(tensor)) else {
            return Err(QuantiseError::NoForm { value: self.source.graph.name(id).to_owned() });
        };
        let most = array.most();
        let scale = if most > 0.0 { most / 127.0 } else { 1.0 };
        let q: Vec<i8> = array.values.iter().map(|x| nearest(x / scale).clamp(-127.0, 127.0) as i8).collect();
        let name = self.constant(&Tensor::from_vec(array.shape, q)?);
        let quant = Quant { name, dtype: DType::I8, scale, low: -127, high: 127 };
        self.quants.insert(id, quant.clone());
        Ok(quant)
    }

    /// [`Emitter::quant`] as int8.
    pub(super) fn signed(&mut self, node: &Node, id: ValueId) -> Result<Quant, QuantiseError> {
        let quant = self.quant(id)?;
        if quant.dtype == DType::I8 {
            return Ok(quant);
        }
        let high = quant.scale * quant.high as f64;
        let target = Target {
            dtype: DType::I8,
            scale: high.max(1e-20) / 127.0,
            bounds: (f64::NEG_INFINITY, f64::INFINITY),
        };
        self.linear(node, vec![(quant, Array::scalar(1.0))], &Array::scalar(0.0), target)
    }

    /// The float form of `id`.
    fn float(&mut self, id: ValueId) -> Result<String, QuantiseError> {
        if let Some(name) = self.names.get(&id) {
            return Ok(name.clone());
        }
        if self.source.constant(id).is_some() {
            return self.name(id);
        }
        let quant = self.quant(id)?;
        let scale = self.constant(&Tensor::scalar(quant.scale as f32));
        let name = self.node(Domain::Onnx, "DequantizeLinear", vec![quant.name, scale], &[]);
        self.names.insert(id, name.clone());
        Ok(name)
    }

    /// Makes `id` known as the float form of an accumulator: one scale for all, or one for each slice of `axis`.
    pub(super) fn dequantise(&mut self, id: ValueId, accumulator: String, scales: &[f64], axis: usize) {
        let scales: Vec<f32> = scales.iter().map(|&scale| scale as f32).collect();
        let name = match scales.as_slice() {
            [scale] => {
                let scale = self.constant(&Tensor::scalar(*scale));
                self.node(Domain::Onnx, "DequantizeLinear", vec![accumulator, scale], &[])
            }
            _ => {
                let scales = self.constant(&Tensor::vector(scales));
                self.node(
                    Domain::Onnx,
                    "DequantizeLinear",
                    vec![accumulator, scales],
                    &[("axis", axis as i64)],
                )
            }
        };
        self.names.insert(id, name);
    }

    /// The name of a value that is no quantised float: an input, what integer operators make, or a constant.
    fn name(&mut self, id: ValueId) -> Result<String, QuantiseError> {
        if let Some(name) = self.names.get(&id) {
            return Ok(name.clone());
        }
        let Some(tensor) = self.source.constant(id).cloned() else {
            // Shape and ArgMax read the integers.
            return self.quant(id).map(|quant| quant.name);
        };
        let name = self.constant(&tensor);
        self.names.insert(id, name.clone());
        Ok(name)
    }

    /// Makes `quant` known as the form of `id`.
    pub(super) fn is(&mut self, id: ValueId, quant: Quant) {
        self.quants.insert(id, quant);
    }

    /// The calibrated range of `id`.
    pub(super) fn range(&self, id: ValueId) -> Range {
        self.ranges.get(&id).copied().unwrap_or(Range { low: -1.0, high: 1.0 })
    }

    /// A node of one output; gives its name.
    pub(super) fn node(
        &mut self,
        domain: Domain,
        op: &str,
        inputs: Vec<String>,
        attrs: &[(&str, i64)],
    ) -> String {
        let output = self.fresh();
        self.write(domain, op, inputs, vec![output.clone()], attrs);
        output
    }

    /// A node of one output with any attributes; gives its name.
    pub(super) fn node_with(
        &mut self,
        domain: Domain,
        op: &str,
        inputs: Vec<String>,
        attrs: Vec<(String, Attr)>,
    ) -> String {
        let output = self.fresh();
        self.writer.node(domain, op, inputs, vec![output.clone()], attrs);
        output
    }

    fn write(
        &mut self,
        domain: Domain,
        op: &str,
        inputs: Vec<String>,
        outputs: Vec<String>,
        attrs: &[(&str, i64)],
    ) {
        let attrs = attrs.iter().map(|(name, value)| ((*name).to_owned(), Attr::Int(*value)));
        self.writer.node(domain, op, inputs, outputs, attrs);
    }

    /// A constant; gives its name.
    pub(super) fn constant(&mut self, tensor: &Tensor) -> String {
        let name = self.fresh();
        self.writer.constant(&name, tensor);
        name
    }

    /// A vector or scalar of numbers as a constant of `shape`.
    pub(super) fn numbers<T: Element>(
        &mut self,
        shape: Vec<usize>,
        values: Vec<T>,
    ) -> Result<String, QuantiseError> {
        Ok(self.constant(&Tensor::from_vec(shape, values)?))
    }

    /// `x` as int32.
    pub(super) fn wide(&mut self, x: String) -> String {
        self.node(Domain::Onnx, "Cast", vec![x], &[("to", number_of(DType::I32).into())])
    }

    /// Requantize; `bounds` are the accumulator's greatest magnitudes, by multiplier.
    pub(super) fn requantise(
        &mut self,
        accumulator: String,
        (shift, multipliers): (u32, Vec<i32>),
        bounds: &[i64],
        axis: usize,
        target: Target,
    ) -> Result<Quant, QuantiseError> {
        let bits =
            multipliers.iter().zip(bounds).map(|(m, bound)| bits(*bound, *m, shift)).max().unwrap_or(1);
        let (low, high) = target.ends();
        let shape = if multipliers.len() == 1 { vec![] } else { vec![multipliers.len()] };
        let multiplier = self.numbers(shape, multipliers)?;
        let attrs = [
            ("axis", axis as i64),
            ("bits", bits.into()),
            ("high", high),
            ("low", low),
            ("shift", shift.into()),
            ("to", number_of(target.dtype).into()),
        ];
        let name = self.node(Domain::Hallmark, "Requantize", vec![accumulator, multiplier], &attrs);
        Ok(Quant { name, dtype: target.dtype, scale: target.scale, low, high })
    }

    fn fresh(&mut self) -> String {
        self.made += 1;
        format!("{}{}", self.prefix, self.made)
    }
}
