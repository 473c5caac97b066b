//! If, Loop and Scan: their subgraphs run on the scalar reference. Tensors only; sequences and optionals are refused by the
//! importer.

use std::sync::Arc;

use hallmark_receipt::{DType, Data, Element, Tensor, with_data};

use super::window::strides_of;
use super::{Domain, EvalCx, InferCx, OpDef, OpError};
use crate::graph::{Attr, Dim, Graph, Node, TypeInfo};
use crate::reference::{self, RunError};

/// The bytes of the budget that one trip of a loop uses up, so that no loop runs for ever.
const TRIP_COST: usize = 1024;

/// The family's table.
pub const OPS: &[OpDef] = &[
    OpDef {
        domain: Domain::Onnx,
        name: "If",
        versions: &[1, 11, 13, 16, 19, 21, 23, 24, 25],
        attrs: &["else_branch", "then_branch"],
        infer: infer_if,
        eval: eval_if,
    },
    OpDef {
        domain: Domain::Onnx,
        name: "Loop",
        versions: &[1, 11, 13, 16, 19, 21, 23, 24, 25],
        attrs: &["body"],
        infer: infer_loop,
        eval: eval_loop,
    },
    OpDef {
        domain: Domain::Onnx,
        name: "Scan",
        versions: &[8, 9, 11, 16, 19, 21, 23, 24, 25],
        attrs: &[
            "body",
            "directions",
            "num_scan_inputs",
            "scan_input_axes",
            "scan_input_directions",
            "scan_output_axes",
            "scan_output_directions",
        ],
        infer: infer_scan,
        eval: eval_scan,
    },
];

fn graph<'a>(node: &'a Node, name: &'static str) -> Result<&'a Arc<Graph>, OpError> {
    node.attrs.graph(name).ok_or(OpError::Attribute { name, why: "is missing" })
}

/// The position of the first capture of subgraph `name` among the node's inputs.
fn first_capture(node: &Node, name: &str) -> usize {
    let before = node.attrs.0.iter().take_while(|(other, _)| other.as_str() != name);
    let count = before.map(|(_, attr)| if let Attr::Graph(g) = attr { g.captures.len() } else { 0 });
    node.declared_inputs + count.sum::<usize>()
}

/// What subgraph `name` captures.
fn captures<'a>(cx: &EvalCx<'a>, name: &'static str) -> Result<Vec<&'a Tensor>, OpError> {
    let first = first_capture(cx.node, name);
    (first..first + graph(cx.node, name)?.captures.len()).map(|i| cx.input(i)).collect()
}

fn call(body: &Graph, inputs: &[&Tensor], budget: usize) -> Result<Vec<Tensor>, OpError> {
    reference::run(body, inputs, budget).map_err(|error| match error {
        RunError::Node { node, op, source, .. } => OpError::Subgraph { node, op, source: Box::new(source) },
        RunError::InputCount { got, .. } => OpError::MissingInput { index: got },
    })
}

/// What a subgraph says of its outputs.
fn output_types(body: &Graph) -> Vec<TypeInfo> {
    body.outputs.iter().map(|id| body.values.get(id.0).map(|v| v.info.clone()).unwrap_or_default()).collect()
}

fn infer_if(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let (yes, no) =
        (output_types(graph(cx.node, "then_branch")?), output_types(graph(cx.node, "else_branch")?));
    let join = |(a, b): (TypeInfo, TypeInfo)| TypeInfo {
        dtype: a.dtype.filter(|_| a.dtype == b.dtype),
        shape: match (a.shape, b.shape) {
            (Some(a), Some(b)) if a.len() == b.len() => {
                Some(a.into_iter().zip(b).map(|(a, b)| if a == b { a } else { Dim::Unknown }).collect())
            }
            _ => None,
        },
    };
    Ok(yes.into_iter().zip(no).map(join).collect())
}

fn eval_if(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let &[condition] = cx.slice::<bool>(0)? else {
        return Err(OpError::Shape {
            what: "If: a condition of one element",
            got: cx.input(0)?.shape().to_vec(),
        });
    };
    let name = if condition { "then_branch" } else { "else_branch" };
    call(graph(cx.node, name)?, &captures(cx, name)?, cx.budget)
}

/// State after the loop may have another shape than before it: only types are certain.
fn infer_loop(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let types = output_types(graph(cx.node, "body")?);
    let states = cx.node.declared_inputs.saturating_sub(2);
    let each = |(i, info): (usize, TypeInfo)| {
        if i < states {
            return TypeInfo { dtype: info.dtype, shape: None };
        }
        stacked(info, Dim::Unknown, 0)
    };
    Ok(types.into_iter().skip(1).enumerate().map(each).collect())
}

/// The type of a scan output whose slices have the type `info`.
fn stacked(info: TypeInfo, length: Dim, axis: i64) -> TypeInfo {
    let shape = info.shape.and_then(|mut dims| {
        let rank = dims.len() as i64 + 1;
        let at = usize::try_from(if axis < 0 { axis.checked_add(rank)? } else { axis }).ok()?;
        if at > dims.len() {
            return None;
        }
        dims.insert(at, length);
        Some(dims)
    });
    TypeInfo { dtype: info.dtype, shape }
}

/// Slices of one scan output.
#[derive(Default)]
struct Stack {
    slices: Vec<Tensor>,
    bytes: usize,
}

impl Stack {
    fn push(&mut self, slice: Tensor, budget: usize) -> Result<(), OpError> {
        if self.slices.first().is_some_and(|f| f.shape() != slice.shape() || f.dtype() != slice.dtype()) {
            return Err(OpError::Shape {
                what: "scan outputs of one shape and type at every trip",
                got: slice.shape().to_vec(),
            });
        }
        let size = slice.dtype().size().unwrap_or(std::mem::size_of::<String>());
        self.bytes = self.bytes.saturating_add(slice.len().saturating_mul(size));
        if self.bytes > budget {
            return Err(OpError::Budget { shape: vec![self.slices.len() + 1, slice.len()], limit: budget });
        }
        self.slices.push(slice);
        Ok(())
    }

    /// The slices joined along a new axis.
    fn join(self, axis: i64, reversed: bool, like: &TypeInfo) -> Result<Tensor, OpError> {
        let mut slices = self.slices;
        if reversed {
            slices.reverse();
        }
        let Some(first) = slices.first() else { return no_slices(like, axis) };
        let axis = axis_of(axis, first.shape().len() + 1)?;
        let mut shape = first.shape().to_vec();
        let inner: usize = shape[axis..].iter().product();
        let outer: usize = shape[..axis].iter().product();
        shape.insert(axis, slices.len());
        let data = with_data!(first.data(), v => interleave(v, &slices, outer, inner)?);
        Ok(Tensor::new(shape, data)?)
    }
}

fn interleave<T: Element>(_: &[T], slices: &[Tensor], outer: usize, inner: usize) -> Result<Data, OpError> {
    let mut joined = Vec::with_capacity(slices.len() * outer * inner);
    for o in 0..outer {
        for (index, slice) in slices.iter().enumerate() {
            let v: &[T] = slice.as_slice().ok_or(OpError::InputType { index, got: slice.dtype() })?;
            joined.extend_from_slice(&v[o * inner..(o + 1) * inner]);
        }
    }
    Ok(T::into_data(joined))
}

/// A scan output of no trips; axes that nobody knows are 0.
fn no_slices(like: &TypeInfo, axis: i64) -> Result<Tensor, OpError> {
    let dims = like.shape.clone().unwrap_or_default();
    let mut shape: Vec<usize> = dims.iter().map(|d| if let Dim::Known(n) = d { *n } else { 0 }).collect();
    shape.insert(axis_of(axis, shape.len() + 1)?, 0);
    let data = match like.dtype {
        Some(DType::F32) | None => Data::F32(Vec::new()),
        Some(DType::F64) => Data::F64(Vec::new()),
        Some(DType::F16) => Data::F16(Vec::new()),
        Some(DType::BF16) => Data::BF16(Vec::new()),
        Some(DType::I8) => Data::I8(Vec::new()),
        Some(DType::I16) => Data::I16(Vec::new()),
        Some(DType::I32) => Data::I32(Vec::new()),
        Some(DType::I64) => Data::I64(Vec::new()),
        Some(DType::U8) => Data::U8(Vec::new()),
        Some(DType::U16) => Data::U16(Vec::new()),
        Some(DType::U32) => Data::U32(Vec::new()),
        Some(DType::U64) => Data::U64(Vec::new()),
        Some(DType::Bool) => Data::Bool(Vec::new()),
        Some(DType::Str) => Data::Str(Vec::new()),
    };
    Ok(Tensor::new(shape, data)?)
}

fn axis_of(axis: i64, rank: usize) -> Result<usize, OpError> {
    let at = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
    at.and_then(|a| usize::try_from(a).ok())
        .filter(|&a| a < rank)
        .ok_or(OpError::Value { what: "an axis inside the rank", got: axis })
}

fn one_bool(t: &Tensor) -> Result<bool, OpError> {
    match t.as_slice::<bool>() {
        Some(&[b]) => Ok(b),
        _ => Err(OpError::Shape { what: "Loop: a condition of one bool", got: t.shape().to_vec() }),
    }
}

fn eval_loop(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let body = graph(cx.node, "body")?;
    let captured = captures(cx, "body")?;
    let trips = match cx.opt(0) {
        None => i64::MAX,
        Some(t) => match t.as_slice::<i64>() {
            Some(&[n]) => n,
            _ => {
                return Err(OpError::Shape {
                    what: "Loop: a trip count of one int64",
                    got: t.shape().to_vec(),
                });
            }
        },
    };
    let mut condition = cx.opt(1).map_or(Ok(true), one_bool)?;
    let states = cx.node.declared_inputs.saturating_sub(2);
    if body.inputs.len() != states + 2 || body.outputs.len() < states + 1 {
        return Err(OpError::Attribute { name: "body", why: "has other inputs or outputs than the loop" });
    }
    let mut state: Vec<Tensor> = (0..states).map(|i| cx.input(i + 2).cloned()).collect::<Result<_, _>>()?;
    let types = output_types(body);
    let mut stacks: Vec<Stack> = types.iter().skip(states + 1).map(|_| Stack::default()).collect();
    let mut trip = 0_i64;
    while condition && trip < trips {
        if trip >= (cx.budget / TRIP_COST) as i64 {
            return Err(OpError::Budget { shape: vec![trip as usize], limit: cx.budget });
        }
        let (counter, flag) = (Tensor::scalar(trip), Tensor::scalar(condition));
        let mut inputs = vec![&counter, &flag];
        inputs.extend(&state);
        inputs.extend(&captured);
        let mut outputs = call(body, &inputs, cx.budget)?.into_iter();
        condition = outputs.next().as_ref().map_or(Ok(false), one_bool)?;
        state = outputs.by_ref().take(states).collect();
        for (stack, slice) in stacks.iter_mut().zip(outputs) {
            stack.push(slice, cx.budget)?;
        }
        trip += 1;
    }
    for (stack, like) in stacks.into_iter().zip(&types[states + 1..]) {
        state.push(stack.join(0, false, like)?);
    }
    Ok(state)
}

/// The list attribute `name`, filled with zeros to `len`.
fn list(node: &Node, name: &'static str, len: usize) -> Result<Vec<i64>, OpError> {
    let mut values = node.attrs.ints(name).unwrap_or(&[]).to_vec();
    if values.len() > len {
        return Err(OpError::Attribute { name, why: "has too many entries" });
    }
    values.resize(len, 0);
    Ok(values)
}

/// The numbers of state variables and of scan inputs.
fn scan_counts(node: &Node) -> Result<(usize, usize), OpError> {
    let bad = OpError::Attribute { name: "num_scan_inputs", why: "must be from 1 to the number of inputs" };
    let declared = node.declared_inputs - usize::from(node.version == 8).min(node.declared_inputs);
    let scans = usize::try_from(node.attrs.int("num_scan_inputs", 0)).map_err(|_| bad.clone())?;
    match declared.checked_sub(scans) {
        Some(states) if scans > 0 => Ok((states, scans)),
        _ => Err(bad),
    }
}

fn infer_scan(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let types = output_types(graph(cx.node, "body")?);
    let (states, scans) = scan_counts(cx.node)?;
    let axes = list(cx.node, "scan_output_axes", types.len().saturating_sub(states))?;
    let in_axes = list(cx.node, "scan_input_axes", scans)?;
    let length = cx.types.get(states).and_then(Option::as_ref).and_then(|info| {
        let dims = info.shape.as_ref()?;
        dims.get(axis_of(in_axes[0], dims.len()).ok()?).cloned()
    });
    let each = |(i, info): (usize, TypeInfo)| match i.checked_sub(states) {
        _ if cx.node.version == 8 => TypeInfo { dtype: info.dtype, shape: None },
        None => TypeInfo { dtype: info.dtype, shape: None },
        Some(scan) => stacked(info, length.clone().unwrap_or(Dim::Unknown), axes[scan]),
    };
    Ok(types.into_iter().enumerate().map(each).collect())
}

/// The part of `x` at `index` of `axis`, without that axis.
fn slice_at(x: &Tensor, axis: usize, index: usize) -> Result<Tensor, OpError> {
    let mut shape = x.shape().to_vec();
    let (stride, size) = (strides_of(&shape)[axis], shape.remove(axis));
    let data = with_data!(x.data(), v => pick(v, stride, size, index));
    Ok(Tensor::new(shape, data)?)
}

fn pick<T: Element>(v: &[T], stride: usize, size: usize, index: usize) -> Data {
    let rows = v.chunks_exact((stride * size).max(1));
    T::into_data(rows.flat_map(|row| row[index * stride..(index + 1) * stride].iter().cloned()).collect())
}

fn eval_scan(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let (states, scans) = scan_counts(cx.node)?;
    if cx.node.version > 8 {
        let inputs = (0..states + scans).map(|i| cx.input(i).cloned()).collect::<Result<Vec<_>, _>>()?;
        let directions = list(cx.node, "scan_input_directions", scans)?;
        return scan(cx, &inputs, states, &directions);
    }
    // Version 8 has a leading batch axis everywhere and an optional first input of sequence lengths.
    if cx.opt(0).is_some() {
        return Err(OpError::Unsupported { what: "Scan version 8 with sequence_lens" });
    }
    let directions = list(cx.node, "directions", scans)?;
    let batch = cx.input(1)?.shape().first().copied().unwrap_or(0);
    let mut stacks: Vec<Stack> = Vec::new();
    for n in 0..batch {
        let row = |i: usize| match cx.input(i + 1)? {
            t if t.shape().first() == Some(&batch) => slice_at(t, 0, n),
            t => Err(OpError::Shape { what: "Scan version 8: one batch size", got: t.shape().to_vec() }),
        };
        let inputs = (0..states + scans).map(row).collect::<Result<Vec<_>, _>>()?;
        let outputs = scan(cx, &inputs, states, &directions)?;
        stacks.resize_with(outputs.len(), Stack::default);
        for (stack, output) in stacks.iter_mut().zip(outputs) {
            stack.push(output, cx.budget)?;
        }
    }
    stacks.into_iter().map(|stack| stack.join(0, false, &TypeInfo::default())).collect()
}

fn scan(
    cx: &EvalCx<'_>,
    inputs: &[Tensor],
    states: usize,
    directions: &[i64],
) -> Result<Vec<Tensor>, OpError> {
    let body = graph(cx.node, "body")?;
    let captured = captures(cx, "body")?;
    let (initial, scanned) = inputs.split_at(states);
    let outputs = body.outputs.len().checked_sub(states);
    let (true, Some(outputs)) = (body.inputs.len() == inputs.len(), outputs) else {
        return Err(OpError::Attribute { name: "body", why: "has other inputs or outputs than the scan" });
    };
    let axes = list(cx.node, "scan_input_axes", scanned.len())?;
    let mut length = None;
    let mut places = Vec::new();
    for (x, axis) in scanned.iter().zip(axes) {
        let axis = axis_of(axis, x.shape().len())?;
        if length.is_some_and(|n| n != x.shape()[axis]) {
            return Err(OpError::Shape { what: "Scan: inputs of one length", got: x.shape().to_vec() });
        }
        length = Some(x.shape()[axis]);
        places.push(axis);
    }
    let length = length.unwrap_or(0);
    if length > cx.budget / TRIP_COST {
        return Err(OpError::Budget { shape: vec![length], limit: cx.budget });
    }
    let mut state = initial.to_vec();
    let mut stacks: Vec<Stack> = (0..outputs).map(|_| Stack::default()).collect();
    for trip in 0..length {
        let at = |i: usize| if directions[i] == 1 { length - 1 - trip } else { trip };
        let slices = (0..scanned.len())
            .map(|i| slice_at(&scanned[i], places[i], at(i)))
            .collect::<Result<Vec<_>, _>>()?;
        let inputs: Vec<&Tensor> = state.iter().chain(&slices).chain(captured.iter().copied()).collect();
        let mut made = call(body, &inputs, cx.budget)?.into_iter();
        state = made.by_ref().take(states).collect();
        for (stack, slice) in stacks.iter_mut().zip(made) {
            stack.push(slice, cx.budget)?;
        }
    }
    let types = output_types(body);
    let (axes, reversed) =
        (list(cx.node, "scan_output_axes", outputs)?, list(cx.node, "scan_output_directions", outputs)?);
    for (i, stack) in stacks.into_iter().enumerate() {
        state.push(stack.join(axes[i], reversed[i] == 1, &types[states + i])?);
    }
    Ok(state)
}
