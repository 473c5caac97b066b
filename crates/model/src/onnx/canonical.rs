//! The canonical form of a graph (`spec/model.md` §2): only what the outputs need, in an order that follows from the
//! outputs alone, without nodes that only rename.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use hallmark_receipt::Tensor;

use super::ImportError;
use super::loose::{Def, Id, Kind, LooseGraph, LooseNode, LooseValue};
use crate::graph::{Attr, Attrs, Graph, Node, TypeInfo, Value, ValueId};
use crate::ops::{self, Domain, OpDef};

/// The canonical form of a whole model's graph. `identity_version` is that of `Identity` in force.
pub(super) fn canonical(mut loose: LooseGraph, identity_version: u32) -> Result<Graph, ImportError> {
    let order = topological(&loose)?;
    let mut alias = aliases(&mut loose, &order, &HashMap::new());
    let keys = zip_maps(&loose)?;
    separate_outputs(&mut loose, &mut alias, identity_version)?;
    let (mut graph, _) = rebuild(loose, &alias)?;
    for (output, keys) in keys.into_iter().enumerate().filter_map(|(i, keys)| Some((i, keys?))) {
        if let Some(id) = graph.outputs.get(output) {
            graph.output_keys.insert(*id, keys);
        }
    }
    Ok(graph)
}

/// What a captured value is in the enclosing graph.
#[derive(Clone)]
enum Outer {
    Value(Id),
    Constant(Arc<Tensor>),
}

/// The canonical form of a subgraph, and the enclosing graph's values that it captures, in the order of its captures.
fn subgraph(mut loose: LooseGraph, outer: &HashMap<Id, Outer>) -> Result<(Graph, Vec<Id>), ImportError> {
    if let Some(value) = loose.values.iter().find(|value| value.keys.is_some()) {
        return Err(ImportError::ZipMap { node: value.name.clone(), what: "ZipMap inside a subgraph" });
    }
    let order = topological(&loose)?;
    let alias = aliases(&mut loose, &order, outer);
    rebuild(loose, &alias)
}

/// A node's inputs, then the values that its subgraphs capture.
fn reads(node: &LooseNode) -> impl Iterator<Item = Id> + '_ {
    let graphs = match &node.kind {
        Kind::Alias => None,
        Kind::Apply { graphs, .. } => Some(graphs.values()),
    };
    let captured = graphs.into_iter().flatten().flat_map(|graph| graph.captures.keys().copied());
    node.inputs.iter().copied().flatten().chain(captured)
}

/// Which node gives each value.
fn producers(loose: &LooseGraph) -> HashMap<Id, usize> {
    let each = |(index, node): (usize, &LooseNode)| {
        node.outputs.iter().flatten().map(move |id| (*id, index)).collect::<Vec<_>>()
    };
    loose.nodes.iter().enumerate().flat_map(each).collect()
}

/// Some topological order of all nodes, or the error that there is none.
fn topological(loose: &LooseGraph) -> Result<Vec<usize>, ImportError> {
    let producers = producers(loose);
    let mut waiting = vec![0_usize; loose.nodes.len()];
    let mut readers: HashMap<usize, Vec<usize>> = HashMap::new();
    for (index, node) in loose.nodes.iter().enumerate() {
        for producer in reads(node).filter_map(|id| producers.get(&id)) {
            waiting[index] += 1;
            readers.entry(*producer).or_default().push(index);
        }
    }
    let mut order: Vec<_> = (0..loose.nodes.len()).filter(|&index| waiting[index] == 0).collect();
    let mut next = 0;
    while let Some(&index) = order.get(next) {
        next += 1;
        for &reader in readers.get(&index).into_iter().flatten() {
            waiting[reader] -= 1;
            if waiting[reader] == 0 {
                order.push(reader);
            }
        }
    }
    match loose.nodes.iter().zip(&waiting).find(|(_, waiting)| **waiting > 0) {
        Some((node, _)) => Err(ImportError::Cycle { node: node.label.clone() }),
        None => Ok(order),
    }
}

/// For each value, the value that it is another name of (itself, mostly). Captures of one outer value become one, and
/// captures of constants become constants.
fn aliases(loose: &mut LooseGraph, order: &[usize], outer: &HashMap<Id, Outer>) -> Vec<Id> {
    let mut alias: Vec<Id> = (0..loose.values.len()).collect();
    let mut first: HashMap<Id, Id> = HashMap::new();
    for (id, value) in loose.values.iter_mut().enumerate() {
        let Def::Capture(theirs) = value.def else { continue };
        match outer.get(&theirs) {
            Some(Outer::Constant(tensor)) => value.def = Def::Constant(Arc::clone(tensor)),
            Some(Outer::Value(theirs)) => {
                value.def = Def::Capture(*theirs);
                alias[id] = *first.entry(*theirs).or_insert(id);
            }
            None => {}
        }
    }
    for node in order.iter().map(|&index| &loose.nodes[index]) {
        if let (Kind::Alias, Some(Some(input)), Some(Some(output))) =
            (&node.kind, node.inputs.first(), node.outputs.first())
        {
            alias[*output] = alias[*input];
        }
    }
    alias
}

/// The keys of each output that ZipMap gives. Nothing else may read what ZipMap gives.
fn zip_maps(loose: &LooseGraph) -> Result<Vec<Option<Arc<Tensor>>>, ImportError> {
    for node in &loose.nodes {
        if reads(node).any(|id| loose.values[id].keys.is_some()) {
            let what = "reads a sequence of maps, which is supported as a graph output only";
            return Err(ImportError::ZipMap { node: node.label.clone(), what });
        }
    }
    Ok(loose.outputs.iter().map(|(_, id)| loose.values[*id].keys.clone()).collect())
}

/// Gives every output a value of its own, computed by a node and named as the output is.
fn separate_outputs(
    loose: &mut LooseGraph,
    alias: &mut Vec<Id>,
    identity_version: u32,
) -> Result<(), ImportError> {
    let (mut taken, mut names) = (HashSet::new(), HashSet::new());
    for index in 0..loose.outputs.len() {
        let (name, id) = loose.outputs[index].clone();
        if !names.insert(name.clone()) {
            return Err(ImportError::DuplicateName { name });
        }
        let source = alias[id];
        let computed = matches!(loose.values[source].def, Def::Node);
        if computed && taken.insert(source) {
            loose.outputs[index].1 = source;
            loose.values[source].name = name;
            continue;
        }
        let fresh = loose.values.len();
        let info = TypeInfo::default();
        loose.values.push(LooseValue { name: name.clone(), def: Def::Node, info, keys: None });
        alias.push(fresh);
        loose.nodes.push(LooseNode {
            label: format!("Identity({name})"),
            kind: identity(&name, identity_version)?,
            inputs: vec![Some(source)],
            outputs: vec![Some(fresh)],
        });
        loose.outputs[index].1 = fresh;
    }
    Ok(())
}

fn identity(name: &str, version: u32) -> Result<Kind, ImportError> {
    let op: &'static OpDef =
        ops::find(Domain::Onnx, "Identity").ok_or_else(|| ImportError::UnsupportedOperator {
            node: name.to_owned(),
            op: "Identity".to_owned(),
            domain: "ai.onnx".to_owned(),
            version,
            opset: version,
        })?;
    Ok(Kind::Apply { op, version, attrs: Default::default(), graphs: Default::default() })
}

/// A node in its final place, before values are numbered.
struct Placed {
    node: LooseNode,
    subgraphs: Vec<(String, Graph)>,
    declared: usize,
}

/// Depth-first from the outputs, inputs before their node: the canonical order.
fn rebuild(loose: LooseGraph, alias: &[Id]) -> Result<(Graph, Vec<Id>), ImportError> {
    let producers = producers(&loose);
    let LooseGraph { mut values, nodes, inputs, outputs, .. } = loose;
    let outer: HashMap<Id, Outer> = values
        .iter()
        .enumerate()
        .map(|(id, _)| {
            let source = alias[id];
            match &values[source].def {
                Def::Constant(tensor) => (id, Outer::Constant(Arc::clone(tensor))),
                _ => (id, Outer::Value(source)),
            }
        })
        .collect();
    let mut waiting: Vec<Option<LooseNode>> = nodes.into_iter().map(Some).collect();
    let mut open: HashMap<usize, Placed> = HashMap::new();
    let mut placed = Vec::new();
    for (_, output) in &outputs {
        let mut stack = Vec::new();
        visit(alias[*output], &producers, &mut stack);
        while let Some((index, next)) = stack.pop() {
            if next == 0 {
                let Some(node) = waiting[index].take() else { continue };
                open.insert(index, place(node, alias, &outer)?);
            }
            let Some(current) = open.get(&index) else { continue };
            match current.node.inputs.get(next) {
                Some(input) => {
                    stack.push((index, next + 1));
                    if let Some(id) = input {
                        visit(*id, &producers, &mut stack);
                    }
                }
                None => placed.extend(open.remove(&index)),
            }
        }
    }
    let mut numbering = Numbering { values: &mut values, graph: Graph::default(), ids: HashMap::new() };
    numbering.graph.inputs = inputs.iter().map(|id| numbering.number(*id)).collect();
    let mut captured = Vec::new();
    for node in &placed {
        for id in node.node.inputs.iter().copied().flatten() {
            numbering.capture(id, &mut captured);
        }
    }
    for (_, output) in &outputs {
        numbering.capture(alias[*output], &mut captured);
    }
    for node in placed {
        numbering.node(node);
    }
    numbering.graph.outputs = outputs.iter().map(|(_, id)| numbering.number(alias[*id])).collect();
    Ok((numbering.graph, captured))
}

fn visit(id: Id, producers: &HashMap<Id, usize>, stack: &mut Vec<(usize, usize)>) {
    if let Some(producer) = producers.get(&id) {
        stack.push((*producer, 0));
    }
}

/// Resolves a node's inputs, makes its subgraphs canonical, and appends what they capture to the inputs.
fn place(mut node: LooseNode, alias: &[Id], outer: &HashMap<Id, Outer>) -> Result<Placed, ImportError> {
    node.inputs.iter_mut().flatten().for_each(|id| *id = alias[*id]);
    while node.inputs.last() == Some(&None) {
        node.inputs.pop();
    }
    while node.outputs.last() == Some(&None) {
        node.outputs.pop();
    }
    let declared = node.inputs.len();
    let mut subgraphs = Vec::new();
    if let Kind::Apply { graphs, .. } = &mut node.kind {
        for (name, loose) in std::mem::take(graphs) {
            let (graph, captured) = subgraph(loose, outer)?;
            subgraphs.push((name, graph));
            node.inputs.extend(captured.into_iter().map(Some));
        }
    }
    Ok(Placed { node, subgraphs, declared })
}

/// Gives out final ids: inputs, captures, then for each node its constants at first use and its outputs.
struct Numbering<'a> {
    values: &'a mut [LooseValue],
    graph: Graph,
    ids: HashMap<Id, ValueId>,
}

impl Numbering<'_> {
    fn number(&mut self, id: Id) -> ValueId {
        if let Some(known) = self.ids.get(&id) {
            return *known;
        }
        let fresh = ValueId(self.graph.values.len());
        let value = &mut self.values[id];
        self.graph
            .values
            .push(Value { name: std::mem::take(&mut value.name), info: std::mem::take(&mut value.info) });
        if let Def::Constant(tensor) = &value.def {
            self.graph.constants.insert(fresh, Arc::clone(tensor));
        }
        self.ids.insert(id, fresh);
        fresh
    }

    fn capture(&mut self, id: Id, captured: &mut Vec<Id>) {
        if let Def::Capture(outer) = self.values[id].def
            && !self.ids.contains_key(&id)
        {
            let own = self.number(id);
            self.graph.captures.push(own);
            captured.push(outer);
        }
    }

    fn node(&mut self, placed: Placed) {
        let Placed { node, subgraphs, declared } = placed;
        let Kind::Apply { op, version, attrs, .. } = node.kind else { return };
        let mut attrs = Attrs(attrs);
        attrs.0.extend(subgraphs.into_iter().map(|(name, graph)| (name, Attr::Graph(Arc::new(graph)))));
        let inputs = node.inputs.iter().map(|id| id.map(|id| self.number(id))).collect();
        let outputs = node.outputs.iter().map(|id| id.map(|id| self.number(id))).collect();
        self.graph.nodes.push(Node {
            name: node.label,
            op,
            version,
            attrs,
            inputs,
            declared_inputs: declared,
            outputs,
        });
    }
}
