//! The parts of a model that a proof tells apart (`spec/proof.md` §3.1): what comes before the integers, the integers, which are proved, and
//! what comes after. Verifiers run the first and the last part themselves, on the opened inputs and outputs, so those hold no weights.

use std::collections::BTreeSet;
use std::sync::Arc;

use hallmark_model::graph::{Dim, Graph, Node, TypeInfo, Value, ValueId};
use hallmark_model::infer::{Known, infer_with};
use hallmark_receipt::{DType, Tensor};

use super::{LowerError, MAX_LOG, Unproved, operator};

/// Which part a value belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Part of the model.
    Constant,
    /// Computed from the request before the integers begin.
    Before,
    /// Proved.
    Core,
    /// Computed from what was proved.
    After,
}

/// A model's parts for inputs of given types.
#[derive(Debug)]
pub struct Split<'a> {
    /// The whole graph; its captures are its weights.
    pub graph: &'a Graph,
    /// Types and small constants.
    pub known: Known,
    /// The part of each value.
    pub class: Vec<Class>,
    /// The part of each node.
    pub nodes: Vec<Class>,
    /// Values through which the request enters the core, ascending.
    pub inputs: Vec<ValueId>,
    /// Values that leave the core, ascending.
    pub outputs: Vec<ValueId>,
}

fn is_integer(dtype: Option<DType>) -> bool {
    matches!(dtype, Some(DType::I8 | DType::U8 | DType::I16 | DType::I32))
}

impl<'a> Split<'a> {
    /// Splits `graph` (whose captures are its weights) for inputs of the types `inputs`.
    ///
    /// # Errors
    /// Weights outside the core, values that enter the core after they left it, open shapes.
    pub fn new(graph: &'a Graph, inputs: &[TypeInfo]) -> Result<Self, LowerError> {
        for (id, info) in graph.inputs.iter().zip(inputs) {
            let fixed =
                info.shape.as_ref().is_some_and(|dims| dims.iter().all(|d| matches!(d, Dim::Known(_))));
            if !fixed {
                return Err(LowerError::OpenShape(graph.name(*id).to_owned()));
            }
        }
        let weights = graph
            .captures
            .iter()
            .map(|id| graph.values.get(id.0).map(|v| v.info.clone()).unwrap_or_default());
        let types: Vec<TypeInfo> = inputs.iter().cloned().chain(weights).collect();
        let known = infer_with(graph, &types, &vec![None; types.len()], 1 << MAX_LOG)?;
        let mut split = Self {
            graph,
            class: vec![Class::Constant; graph.values.len()],
            nodes: Vec::with_capacity(graph.nodes.len()),
            known,
            inputs: Vec::new(),
            outputs: Vec::new(),
        };
        for id in &graph.inputs {
            split.class[id.0] = Class::Before;
        }
        let weights: BTreeSet<ValueId> = graph.captures.iter().copied().collect();
        for node in &graph.nodes {
            let class = split.classify(node, &weights)?;
            split.nodes.push(class);
            for id in node.outputs.iter().flatten() {
                split.class[id.0] = class;
            }
        }
        split.borders();
        if split.outputs.is_empty() {
            return Err(LowerError::NotQuantised);
        }
        Ok(split)
    }

    fn dtype(&self, id: ValueId) -> Option<DType> {
        self.known.types.get(id.0)?.dtype
    }

    fn classify(&self, node: &Node, weights: &BTreeSet<ValueId>) -> Result<Class, LowerError> {
        let read: Vec<ValueId> = node.inputs.iter().flatten().copied().collect();
        let folded = |id: &Option<ValueId>| {
            id.is_none_or(|id| self.known.constants.get(id.0).is_some_and(Option::is_some))
        };
        if node.outputs.iter().all(folded) {
            return Ok(Class::Constant);
        }
        let latest = read.iter().map(|id| self.class[id.0]).max().unwrap_or(Class::Constant);
        let varying = |id: &&ValueId| self.class[id.0] != Class::Constant;
        // Positions in a weight may be of 64 bits: they are looked up, not computed with.
        let position = |id: &ValueId| {
            node.op.name == "Gather"
                && node.inputs.get(1) == Some(&Some(*id))
                && self.class[id.0] == Class::Before
        };
        let integers = node.outputs.iter().flatten().all(|id| is_integer(self.dtype(*id)))
            && read.iter().filter(varying).all(|id| is_integer(self.dtype(*id)) || position(id));
        let fail = |why| LowerError::Node { node: node.name.clone(), op: node.op.name, why };
        let weight = read.iter().find(|id| weights.contains(id));
        if latest < Class::After && latest > Class::Constant && integers && operator(node).is_some() {
            return Ok(Class::Core);
        }
        if let Some(weight) = weight {
            return Err(fail(match (latest, self.dtype(*weight)) {
                (Class::After, dtype) if is_integer(dtype) => Unproved::Island,
                (_, Some(dtype)) if !is_integer(Some(dtype)) => Unproved::FloatWeights(dtype),
                _ => Unproved::Operator,
            }));
        }
        Ok(match latest {
            Class::Constant | Class::Before => Class::Before,
            Class::Core | Class::After => Class::After,
        })
    }

    fn borders(&mut self) {
        let (mut inputs, mut outputs) = (BTreeSet::new(), BTreeSet::new());
        for (node, class) in self.graph.nodes.iter().zip(&self.nodes) {
            for id in node.inputs.iter().flatten() {
                match (self.class[id.0], class) {
                    (Class::Before, Class::Core) => inputs.insert(*id),
                    (Class::Core, Class::After) => outputs.insert(*id),
                    _ => false,
                };
            }
        }
        outputs.extend(self.graph.outputs.iter().filter(|id| self.class[id.0] == Class::Core));
        self.inputs = inputs.into_iter().collect();
        self.outputs = outputs.into_iter().collect();
    }

    /// The nodes that are proved.
    pub fn core(&self) -> impl Iterator<Item = &'a Node> + '_ {
        self.graph
            .nodes
            .iter()
            .zip(&self.nodes)
            .filter(|(_, class)| **class == Class::Core)
            .map(|(node, _)| node)
    }

    /// The core as a graph of its own, with the types of all values. Its captures are its weights.
    pub fn core_graph(&self) -> Graph {
        let types = self.known.types.iter().map(|info| Value { name: String::new(), info: info.clone() });
        Graph {
            values: types.collect(),
            inputs: self.inputs.clone(),
            captures: self.graph.captures.clone(),
            outputs: self.outputs.clone(),
            constants: self.folded().collect(),
            nodes: self.core().cloned().collect(),
            output_keys: Default::default(),
        }
    }

    /// Values that are known from shapes and constants alone.
    fn folded(&self) -> impl Iterator<Item = (ValueId, Arc<Tensor>)> + '_ {
        let all = self.known.constants.iter().enumerate();
        all.filter_map(|(id, tensor)| Some((ValueId(id), tensor.clone()?)))
    }

    /// What comes before the core: from the model's inputs to the core's.
    pub fn before(&self) -> Graph {
        self.part(Class::Before, self.graph.inputs.clone(), self.inputs.clone())
    }

    /// What comes after it: from the model's inputs and the core's outputs to the model's outputs.
    pub fn after(&self) -> Graph {
        let inputs = self.graph.inputs.iter().chain(&self.outputs).copied().collect();
        let mut part = self.part(Class::After, inputs, self.graph.outputs.clone());
        part.output_keys.clone_from(&self.graph.output_keys);
        part
    }

    fn part(&self, class: Class, inputs: Vec<ValueId>, outputs: Vec<ValueId>) -> Graph {
        // What both sides compute from the request alone is run again where it is needed; what is known of its shapes alone is not.
        let wanted = |at: Class| at == class || at == Class::Before;
        let mut constants = self.graph.constants.clone();
        constants.extend(self.folded());
        let nodes = self.graph.nodes.iter().zip(&self.nodes).filter(|(_, at)| wanted(**at));
        Graph {
            values: self.graph.values.clone(),
            inputs,
            captures: Vec::new(),
            outputs,
            constants,
            nodes: nodes.map(|(node, _)| node.clone()).collect(),
            output_keys: Default::default(),
        }
    }
}
